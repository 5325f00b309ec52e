//! Does the scheduler still decide as Pacemaker does, wherever it did?
//!
//! The cases are not part of the repository (their licence is another one): a folder with `cases/NAME.xml`,
//! `cases/NAME.json` and `compare.py` is named by `--cases` or `CARDEA_CASES`, or lies beside the repository. What has
//! passed once is listed in `core/scheduler/tests/conformance.txt` and must go on passing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

/// What has passed, a case a line: its name, then the levels.
const PASSED: &str = "core/scheduler/tests/conformance.txt";

/// Runs all cases, prints the table, and holds them against the list; `update` adds to the list what passes by now.
pub(crate) fn run(cases: Option<PathBuf>, update: bool) -> Result<()> {
    let root = cargo_metadata::MetadataCommand::new().no_deps().exec().context("asking cargo for the workspace")?;
    let target: PathBuf = root.target_directory.into();
    let root: PathBuf = root.workspace_root.into();
    std::env::set_current_dir(&root).with_context(|| format!("entering {}", root.display()))?;
    let Some(folder) = folder(cases, &root) else {
        println!(
            "CONFORMANCE NOT CHECKED: there are no scheduler cases here; name their folder with --cases or CARDEA_CASES"
        );
        return Ok(());
    };
    succeed(Command::new(env!("CARGO")).args(["build", "--release"]))?;
    let out = target.join("conformance");
    let judged = out.join("judged");
    if judged.exists() {
        fs::remove_dir_all(&judged).with_context(|| format!("emptying {}", judged.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let times = out.join("args.json");
    fs::write(&times, Value::from(arguments(&folder.join("cases"))?).to_string())
        .with_context(|| format!("writing {}", times.display()))?;
    let mut judge = Command::new(target.join("release/cardea"));
    judge.args(["plan", "--timing", "--cib-dir"]).arg(folder.join("cases"));
    succeed(judge.arg("--args").arg(&times).arg("--out").arg(&judged))?;
    let compare = |more: &[&str]| {
        let mut command = Command::new("python3");
        command.arg(folder.join("compare.py")).arg(&judged).args(more);
        let output = command.output().context("running compare.py; it needs `python3`")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // 1: not all cases pass, which is for the list to judge.
        ensure!(
            matches!(output.status.code(), Some(0 | 1)),
            "compare.py failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    };
    println!("{}", compare(&[])?);
    let results = parse(&compare(&["--json"])?)?;
    let listed = read_list(Path::new(PASSED))?;
    let lost = lost(&listed, &results);
    if !lost.is_empty() {
        bail!("{} cases decide otherwise than they did:\n  {}", lost.len(), lost.join("\n  "));
    }
    println!("conformance: {} listed cases decide as they did", listed.len());
    if update {
        fs::write(PASSED, draw_list(&results)).with_context(|| format!("writing {PASSED}"))?;
        println!("{PASSED} lists {} cases", results.values().filter(|levels| !levels.is_empty()).count());
    }
    Ok(())
}

fn folder(named: Option<PathBuf>, root: &Path) -> Option<PathBuf> {
    let beside = || root.parent().map(|parent| parent.join("shared/scheduler-conformance"));
    let folder = named.or_else(|| std::env::var_os("CARDEA_CASES").map(PathBuf::from)).or_else(beside)?;
    folder.join("compare.py").is_file().then_some(folder)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {:?}", command.get_program()))?;
    ensure!(status.success(), "{:?} {status}", command.get_program());
    Ok(())
}

/// The time to assume in each case.
fn arguments(cases: &Path) -> Result<Map<String, Value>> {
    let mut all = Map::new();
    for entry in fs::read_dir(cases).with_context(|| format!("reading {}", cases.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let case: Value = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            all.insert(name, case["args"].clone());
        }
    }
    Ok(all)
}

/// Levels that a case passes, by case.
type Passes = BTreeMap<String, BTreeSet<String>>;

fn parse(json: &str) -> Result<Passes> {
    let results: BTreeMap<String, Map<String, Value>> =
        serde_json::from_str(json).context("reading what compare.py says")?;
    let passed = |levels: Map<String, Value>| {
        levels.into_iter().filter(|(_, passes)| *passes == Value::Bool(true)).map(|(level, _)| level).collect()
    };
    Ok(results.into_iter().map(|(name, levels)| (name, passed(levels))).collect())
}

fn read_list(path: &Path) -> Result<Passes> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    Ok(parse_list(&text))
}

fn parse_list(text: &str) -> Passes {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Some((words.next()?, words.collect()))
        })
        .collect()
}

fn draw_list(results: &Passes) -> String {
    let mut text = "# Cases that decide as Pacemaker does, with the levels that agree. Only ever grows:\n\
                    # `cargo xtask conformance --update` adds what passes by now.\n"
        .to_owned();
    for (name, levels) in results.iter().filter(|(_, levels)| !levels.is_empty()) {
        let levels: Vec<&str> = levels.iter().map(String::as_str).collect();
        text += &format!("{name} {}\n", levels.join(" "));
    }
    text
}

/// What is listed and does not pass any more, a line each.
fn lost(listed: &Passes, results: &Passes) -> Vec<String> {
    let none = BTreeSet::new();
    listed
        .iter()
        .filter_map(|(name, levels)| {
            let missing: Vec<&str> =
                levels.difference(results.get(name).unwrap_or(&none)).map(String::as_str).collect();
            (!missing.is_empty()).then(|| format!("{name}: {}", missing.join(" ")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_once_must_go_on_passing() {
        let before = parse(r#"{"a": {"core": true, "actions": true}, "b": {"core": false}}"#).unwrap();
        let list = parse_list(&draw_list(&before));
        assert_eq!(list["a"].len(), 2);
        assert!(!list.contains_key("b"));
        let better = parse(r#"{"a": {"core": true, "actions": true}, "b": {"core": true}}"#).unwrap();
        assert_eq!(lost(&list, &better), Vec::<String>::new());
        let worse = parse(r#"{"a": {"core": true, "actions": false}}"#).unwrap();
        assert_eq!(lost(&list, &worse), ["a: actions"]);
        assert_eq!(lost(&list, &Passes::new()), ["a: actions core"]);
    }
}
