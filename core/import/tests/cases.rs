//! Can we read what other clusters wrote?
//!
//! A folder of CIBs from elsewhere, which is no part of this repository: `CARDEA_CASES`, or `shared` beside it.

#![expect(clippy::disallowed_methods, reason = "the cases are files")]

use std::path::PathBuf;
use std::{env, fs};

/// A strange line in a CIB is a remark; only what is no CIB at all is an error.
#[test]
fn every_case_from_elsewhere_is_read() {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/scheduler-conformance");
    let folder = env::var_os("CARDEA_CASES").map_or_else(beside, PathBuf::from).join("cases");
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
