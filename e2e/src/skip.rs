//! What was not tested, and why?

use std::io::Write as _;

/// Notes that a test, or a part of one, cannot be run here. `cargo xtask ci` lists these lines at its end.
pub fn skip(what: &str, why: &str) {
    let line = format!("SKIPPED: {what}: {why}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("CARDEA_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let written = log.and_then(|mut log| log.write_all(line.as_bytes()));
        assert!(written.is_ok(), "the list of skipped tests cannot be written: {written:?}");
    }
}

/// Notes that a test, or a part of one, needs root. Nothing is noted where the same tests have just run as root, as in
/// `cargo xtask ci`, which runs them as another user afterwards.
pub fn skip_without_root(what: &str) {
    if std::env::var_os("CARDEA_RAN_AS_ROOT").is_none() {
        skip(what, "only root can act as another user");
    }
}
