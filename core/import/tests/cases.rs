//! Can we read what other clusters wrote?
//!
//! A folder of CIBs from elsewhere, which is no part of this repository: `CARDEA_CASES`, or `shared` beside it.

#![expect(clippy::disallowed_methods, reason = "the cases are files")]

use std::path::PathBuf;
use std::{env, fs};

fn cases_folder() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/scheduler-conformance");
    env::var_os("CARDEA_CASES").map_or_else(beside, PathBuf::from).join("cases")
}

/// A strange line in a CIB is a remark; only what is no CIB at all is an error.
#[test]
fn every_case_from_elsewhere_is_read() {
    let folder = cases_folder();
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("NOT TESTED: there are no cases in {}; set CARDEA_CASES", folder.display());
        return;
    };
    let (mut read, mut remarked) = (0, 0);
    for entry in entries {
        let path = entry.expect("a folder that can be listed").path();
        if path.extension().is_none_or(|extension| extension != "xml") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a file that can be read");
        let imported = import::cib(&text, import::Time::Recorded { otherwise: 0 })
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!imported.situation.nodes.is_empty(), "{}: no nodes", path.display());
        read += 1;
        remarked += usize::from(!imported.not_understood.is_empty());
    }
    println!("{read} cases read, {remarked} of them with remarks");
    assert!(read > 0, "{} holds no cases", folder.display());
}

/// A file written from a CIB decides in that cluster as the CIB did.
#[test]
fn a_cluster_file_decides_as_the_cib_did() {
    let folder = cases_folder();
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("NOT TESTED: there are no cases in {}; set CARDEA_CASES", folder.display());
        return;
    };
    round_trips(&folder, entries);
}

/// The same for the inputs of the scheduler's own tests.
#[test]
fn a_cluster_file_decides_as_the_cib_of_an_input_did() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scheduler/tests/inputs");
    round_trips(&folder, fs::read_dir(&folder).expect("the folder of inputs"));
}

fn round_trips(folder: &std::path::Path, entries: fs::ReadDir) {
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder that can be listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "xml"));
    paths.sort();
    let mut wrong = Vec::new();
    for path in &paths {
        let text = fs::read_to_string(path).expect("a file that can be read");
        if let Err(why) = round_trip(&text, path) {
            wrong.push(format!("{}: {why}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), paths.len(), wrong.join("\n"));
    assert!(!paths.is_empty(), "{} holds no cases", folder.display());
}

fn round_trip(text: &str, path: &std::path::Path) -> Result<(), String> {
    let time = import::Time::Recorded { otherwise: 1_795_000_000 };
    let cib = import::cib(text, time).map_err(|error| error.to_string())?.situation;
    let file = import::cluster_file(text, time, scheduler::situation_of).map_err(|error| error.to_string())?;
    if let Some(folder) = env::var_os("CARDEA_WRITE_FILES") {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        fs::write(PathBuf::from(folder).join(format!("{name}.toml")), &file.text).expect("written");
    }
    let parsed = config::parse_for_planning(&file.text).map_err(|found| {
        let found = found.first().expect("why");
        let (line, column) = found.span.as_ref().map_or((0, 0), |span| config::line_column(&file.text, span.start));
        format!("does not parse, {line}:{column}: {}", found.message)
    })?;
    let expert = parsed.expert.unwrap_or_default();
    let wanted = expert.situation(&parsed.config, scheduler::situation_of);
    let there = import::with_status(wanted, &cib);
    let (mut ours, mut theirs) = (scheduler::judge(&there), scheduler::judge(&cib));
    // Secrets are not in the file.
    for params in ours.params.values_mut().chain(theirs.params.values_mut()) {
        params.retain(|name, _| !name.contains("passw"));
    }
    ours.params.retain(|_, params| !params.is_empty());
    theirs.params.retain(|_, params| !params.is_empty());
    if format!("{ours:?}") == format!("{theirs:?}") {
        return Ok(());
    }
    let lines =
        |judgement: &scheduler::Judgement| format!("{judgement:#?}").lines().map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (lines(&ours), lines(&theirs));
    let at = ours.iter().zip(&theirs).position(|(a, b)| a != b).unwrap_or(0);
    let from = at.saturating_sub(12);
    let part = |lines: &[String]| lines[from..(at + 5).min(lines.len())].join("\n");
    Err(format!("decides otherwise\n--- file\n{}\n--- CIB\n{}", part(&ours), part(&theirs)))
}
