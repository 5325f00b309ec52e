//! Which machine, which boot, and what time is it here?
//!
//! The boot id names one life of the kernel, the machine id the installation. Decisions about liveness use the
//! monotonic clock alone; wall time is for people.
//!
//! Not here: the identity of the node's storage (`io/storage`), how an incarnation is made from these (`core/node`).

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use model::{Instant, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// The id that the kernel drew at boot, as it stands in `/proc`: new after each boot.
pub fn boot_id() -> io::Result<String> {
    read_id(Path::new("/proc/sys/kernel/random/boot_id"))
}

/// The id of this installation, from `ROOT/etc/machine-id`, or `/etc/machine-id` where that is missing.
pub fn machine_id(root: &Path) -> io::Result<String> {
    read_id(&root.join("etc/machine-id")).or_else(|_| read_id(Path::new("/etc/machine-id")))
}

fn read_id(path: &Path) -> io::Result<String> {
    let id = fs::read_to_string(path)?.trim().to_owned();
    if id.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is empty", path.display())));
    }
    Ok(id)
}

/// The monotonic clock: it never jumps, and stands still while the machine is suspended.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Monotonic);
    Instant::from_nanos(nanos(time))
}

/// Time since boot, the time in suspend included.
pub fn boottime() -> Duration {
    Duration::from_nanos(nanos(clock_gettime(ClockId::Boottime)))
}

/// Wall-clock time, for display only.
pub fn wall() -> WallTime {
    WallTime(nanos(clock_gettime(ClockId::Realtime)) / 1_000_000)
}

/// A clock before its own zero (a wall clock before 1970) reads as zero.
fn nanos(time: rustix::time::Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let first = now();
        assert!(now() >= first);
        assert!(boottime() > Duration::ZERO);
        assert!(wall() > WallTime(1_600_000_000_000));
    }

    #[test]
    fn a_node_folder_may_have_a_machine_id_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/machine-id"), "0123456789abcdef\n").unwrap();
        assert_eq!(machine_id(root.path()).unwrap(), "0123456789abcdef");
    }

    #[test]
    fn an_empty_id_is_an_error_and_no_identity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        fs::write(&path, "\n").unwrap();
        assert!(read_id(&path).is_err());
    }
}
