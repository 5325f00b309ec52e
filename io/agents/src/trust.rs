//! May this file be run with the daemon's rights?
//!
//! Whoever may write an agent is root on this node. So an agent must belong to root, or to the user that the daemon runs
//! as, and nobody else may write it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// An error says why it may not be run, and what to do.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let about = fs::metadata(path).map_err(|error| format!("cannot look at {}: {error}", path.display()))?;
    let own = rustix::process::geteuid().as_raw();
    if !is_trusted(about.uid(), own) {
        return Err(format!(
            "{} belongs to user {}, who could replace it: `chown root {0}`, or remove it",
            path.display(),
            about.uid()
        ));
    }
    if about.mode() & 0o022 != 0 {
        return Err(format!("{} may be written by others than its owner: `chmod go-w {0}`", path.display()));
    }
    Ok(())
}

fn is_trusted(owner: u32, own: u32) -> bool {
    owner == 0 || owner == own || is_from_outside(owner)
}

/// In a user namespace the files of the machine belong to nobody that has a number in it.
fn is_from_outside(owner: u32) -> bool {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u32>().ok();
    let is_nobody = number("/proc/sys/kernel/overflowuid") == Some(owner);
    is_nobody && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !maps_all(&map))
}

fn maps_all(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_others_may_write_is_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let agent = folder.path().join("agent");
        fs::write(&agent, "#!/bin/sh\n").unwrap();
        for (mode, is_fine) in [(0o755, true), (0o700, true), (0o775, false), (0o757, false)] {
            fs::set_permissions(&agent, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check(&agent).is_ok(), is_fine, "{mode:o}");
        }
        assert!(check(&folder.path().join("absent")).is_err());
    }

    #[test]
    fn the_files_of_another_user_are_not_run() {
        assert!(is_trusted(0, 0) && is_trusted(0, 1000) && is_trusted(1000, 1000));
        assert!(!is_trusted(1000, 0) && !is_trusted(1001, 1000));
        assert!(maps_all("         0          0 4294967295\n"));
        assert!(!maps_all("         0       1000          1\n"));
    }
}
