//! Which machine, which boot, and what time is it here?
//!
//! The boot id names one life of the kernel. Decisions about liveness use the
//! monotonic clock alone; wall time is for people.
//!
//! Not here: the identity of the node's storage (`io/storage`), how an incarnation is made from these (`core/node`).

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use model::{Instant, WallTime};
use rustix::time::{ClockId, clock_gettime};

use crate::supervise::replace_private_file;

/// The id that the kernel drew at boot, as it stands in `/proc`: new after each boot.
pub fn boot_id() -> io::Result<String> {
    read_id(Path::new("/proc/sys/kernel/random/boot_id"))
}

/// Which machine this is: the same in each of its boots, and another one for a copy of its disk.
///
/// `etc/machine-id` is copied with the disk, so it names the installation and not the machine. Where the firmware has a
/// number of its own, the two are bound together in `RECORD` at the first start: on the hardware of the record the
/// machine is the recorded one, whatever became of its machine id; on any other it is another one. A node with a
/// machine id below a root of its own (a node of the lab) is what that says.
pub fn machine(root: &Path, record: &Path) -> io::Result<String> {
    let has_own_root = root != Path::new("/") && root.join("etc/machine-id").exists();
    let hardware = if has_own_root { None } else { hardware_id(Path::new("/sys/class/dmi/id/product_uuid"))? };
    bound(hardware.as_deref(), record, || machine_id(root))
}

fn bound(
    hardware: Option<&str>,
    record: &Path,
    installation: impl FnOnce() -> io::Result<String>,
) -> io::Result<String> {
    let Some(hardware) = hardware else { return installation() };
    let text = match fs::read_to_string(record) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = installation().unwrap_or_else(|_| named_by(hardware));
            replace_private_file(record, format!("{hardware} {id}\n").as_bytes())?;
            return Ok(id);
        }
        Err(error) => return Err(error),
    };
    match text.trim().split_once(' ') {
        Some((recorded, id)) if recorded == hardware => Ok(id.to_owned()),
        Some(_) => Ok(named_by(hardware)),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", record.display()))),
    }
}

fn named_by(hardware: &str) -> String {
    format!("dmi-{hardware}")
}

/// The number that the firmware gives this machine; `None` if it gives none, or one that many machines have.
fn hardware_id(path: &Path) -> io::Result<Option<String>> {
    /// Firmware whose maker forgot to put a number in.
    const NOBODYS: [&str; 2] = ["03000200-0400-0500-0006-000700080009", "12345678-1234-5678-90ab-cddeefaabbcc"];
    let text = match fs::read_to_string(path) {
        Ok(text) => text.trim().to_ascii_lowercase(),
        // Not this kind of machine, or not for us to read.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let digits: Vec<char> = text.chars().filter(|c| *c != '-').collect();
    let is_number = digits.len() == 32 && digits.iter().all(char::is_ascii_hexdigit);
    let is_somebodys = digits.windows(2).any(|pair| pair[0] != pair[1]) && !NOBODYS.contains(&text.as_str());
    Ok(Some(text).filter(|_| is_number && is_somebodys))
}

/// The id of this installation, from `ROOT/etc/machine-id`, or `/etc/machine-id` where that is missing.
fn machine_id(root: &Path) -> io::Result<String> {
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
    fn a_copy_of_the_disk_on_other_hardware_is_another_machine() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("machine");
        let first = bound(Some("aa"), &record, || Ok("installation".to_owned())).unwrap();
        assert_eq!(first, "installation", "what the cluster knows already stays true");
        let reinstalled = bound(Some("aa"), &record, || Ok("another".to_owned())).unwrap();
        assert_eq!(reinstalled, first, "the machine id is a hint only");
        let copy = bound(Some("bb"), &record, || Ok("installation".to_owned())).unwrap();
        assert_eq!(copy, "dmi-bb");
        assert_eq!(bound(None, &record, || Ok("installation".to_owned())).unwrap(), "installation");
        fs::write(&record, "garbage").unwrap();
        assert!(bound(Some("aa"), &record, || Ok("installation".to_owned())).is_err());
    }

    #[test]
    fn a_number_that_many_machines_have_names_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("product_uuid");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            hardware_id(&path).unwrap()
        };
        let real = "4C4C4544-0035-3110-8052-B4C04F4E4231\n";
        assert_eq!(read(real).as_deref(), Some("4c4c4544-0035-3110-8052-b4c04f4e4231"));
        for wrong in [
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "03000200-0400-0500-0006-000700080009",
            "Not Settable",
            "",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(hardware_id(&folder.path().join("absent")).unwrap(), None);
    }

    #[test]
    fn an_empty_id_is_an_error_and_no_identity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        fs::write(&path, "\n").unwrap();
        assert!(read_id(&path).is_err());
    }
}
