//! How does a file that was written from a CIB read?
//!
//! `files/NAME.xml` in, `files/NAME.toml` out; `UPDATE_GOLDENS=1` writes them anew. The difference is read like code.

#![expect(clippy::disallowed_methods, reason = "goldens are files")]

use std::path::{Path, PathBuf};
use std::{env, fs};

fn cibs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let entries = fs::read_dir(folder).expect("the folder of this test");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "xml"));
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

#[test]
fn a_file_reads_as_it_is_kept() {
    for path in cibs() {
        let cib = fs::read_to_string(&path).expect("a CIB");
        let file = import::cluster_file(&cib, import::Time::At(0), scheduler::situation_of).expect("a file");
        let golden = path.with_extension("toml");
        if env::var_os("UPDATE_GOLDENS").is_some() {
            fs::write(&golden, &file.text).expect("written");
        }
        let kept = fs::read_to_string(&golden).unwrap_or_default();
        assert!(kept == file.text, "{} differs; UPDATE_GOLDENS=1 writes it anew:\n{}", golden.display(), file.text);
    }
}

/// Nothing but what only running a file needs is missing.
#[test]
fn a_file_can_be_planned_and_names_what_is_missing() {
    for path in cibs() {
        let cib = fs::read_to_string(&path).expect("a CIB");
        let file = import::cluster_file(&cib, import::Time::At(0), scheduler::situation_of).expect("a file");
        config::parse_for_planning(&file.text).expect("a file that can be planned");
        let missing = config::parse(&file.text).expect_err("the addresses are not in a CIB");
        assert!(missing.iter().any(|diagnostic| diagnostic.code == "config::missing_links"), "{missing:#?}");
    }
}

/// A password would be on every node, in the history and in every report.
#[test]
fn no_secret_is_in_a_file() {
    for path in cibs() {
        let cib = fs::read_to_string(&path).expect("a CIB");
        let file = import::cluster_file(&cib, import::Time::At(0), scheduler::situation_of).expect("a file");
        assert!(!file.text.contains("hunter2"), "{}", path.display());
    }
}
