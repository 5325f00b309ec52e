//! A cgroup per operation, where the system gives us a subtree.
//!
//! A process leaves its session and its environment when it likes; it does not leave its cgroup. One is used only
//! below a subtree that was delegated to us (systemd's `Delegate=yes`), so that nothing of ours is left in a tree
//! that belongs to somebody else. Without one, environment marks and sessions must do (`process.rs`).
//!
//! The tree is found in `/proc/self/mountinfo`; its place is not the same everywhere.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::limits::with_reserve;

/// The cgroup v2 folder of this process, if it was delegated to it and is writable.
pub fn delegated() -> Option<PathBuf> {
    let own = own()?;
    let is_delegated = ["user.delegate", "trusted.delegate"].into_iter().any(|name| {
        let mut value = [0_u8; 8];
        rustix::fs::getxattr(&own, name, &mut value[..]).is_ok_and(|length| value[..length.min(8)].starts_with(b"1"))
    });
    let is_writable = || rustix::fs::access(&own, rustix::fs::Access::WRITE_OK).is_ok();
    (is_delegated && is_writable()).then_some(own)
}

/// The cgroup v2 folder of this process, delegated or not.
pub fn own() -> Option<PathBuf> {
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (root, point) = mounts.split(|b| *b == b'\n').find_map(parse_mount)?;
    let below = Path::new(path).strip_prefix(&root).ok()?;
    Some(point.join(below))
}

/// Root within the file system and mount point of a line of mountinfo, if it mounts cgroup v2.
fn parse_mount(line: &[u8]) -> Option<(PathBuf, PathBuf)> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    (fields.get(separator + 1) == Some(&b"cgroup2".as_slice()))
        .then(|| Some((unescape(fields.get(3)?), unescape(fields.get(4)?))))?
}

/// Mountinfo writes blanks, tabs, newlines and backslashes as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let escaped = digits.filter(|_| *first == b'\\').and_then(|d| u8::from_str_radix(d, 8).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// A cgroup of ours.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes an empty cgroup below `parent`; `None` if that cannot be, or if one of this name has processes in it.
    pub fn create(parent: &Path, name: &str) -> Option<Cgroup> {
        let cgroup = Cgroup { path: parent.join(name) };
        let is_new = fs::create_dir(&cgroup.path).is_ok();
        let is_empty = || cgroup.path.is_dir() && cgroup.members().is_ok_and(|members| members.is_empty());
        (is_new || is_empty()).then_some(cgroup)
    }

    /// The cgroup of this name below `parent`, if there is one.
    pub fn find(parent: &Path, name: &str) -> io::Result<Option<Cgroup>> {
        let path = parent.join(name);
        match fs::metadata(&path) {
            Ok(about) => Ok(about.is_dir().then_some(Cgroup { path })),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The cgroups below `parent` with a name that this accepts.
    pub fn find_all(parent: &Path, mut is_wanted: impl FnMut(&str) -> bool) -> io::Result<Vec<Cgroup>> {
        let mut found = Vec::new();
        for name in children(parent)? {
            if name.to_str().is_some_and(&mut is_wanted) {
                found.push(Cgroup { path: parent.join(name) });
            }
        }
        Ok(found)
    }

    /// The file that takes in the process that writes `0` to it.
    pub fn entrance(&self) -> Option<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs")).ok()
    }

    /// The processes in it, and in the cgroups that they have made below it. One that is gone has none.
    pub fn members(&self) -> io::Result<Vec<u32>> {
        let mut members = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            match with_reserve(|| fs::read(folder.join("cgroup.procs"))) {
                Ok(text) => {
                    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                        let pid = std::str::from_utf8(line).ok().and_then(|line| line.parse().ok());
                        members.push(pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?);
                    }
                }
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(error),
            }
            folders.extend(children(&folder)?.into_iter().map(|name| folder.join(name)));
        }
        Ok(members)
    }

    /// Kills everything in it, what is being forked included.
    pub fn kill(&self) {
        // A kernel without cgroup.kill leaves it to the marks.
        let _ = fs::write(self.path.join("cgroup.kill"), b"1");
    }

    /// Removes it once it is empty; `false` while something is in it.
    pub fn remove(&self) -> bool {
        remove(&self.path).is_ok()
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    for name in children(folder)? {
        remove(&folder.join(name))?;
    }
    match fs::remove_dir(folder) {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(()),
    }
}

/// The names of the folders in a folder; one that is gone has none.
fn children(folder: &Path) -> io::Result<Vec<OsString>> {
    let entries = match with_reserve(|| fs::read_dir(folder)) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}

/// Says the error that the cgroup is not there (any more)?
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_found_wherever_it_is_mounted() {
        let line = b"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(parse_mount(line), Some((PathBuf::from("/"), PathBuf::from("/sys/fs/cgroup/unified"))));
        let line = b"41 31 0:38 /a\\040b /mnt/c\\134d rw shared:3 - cgroup2 cgroup2 rw";
        assert_eq!(parse_mount(line), Some((PathBuf::from("/a b"), PathBuf::from("/mnt/c\\d"))));
        assert_eq!(parse_mount(b"32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"), None);
        assert_eq!(parse_mount(b""), None);
        assert_eq!(parse_mount(b"1 2 - cgroup2"), None);
    }

    #[test]
    fn a_subtree_that_was_not_given_to_us_is_not_used() {
        if let Some(path) = delegated() {
            assert!(path.is_dir());
        }
        assert!(Cgroup::create(Path::new("/proc/nowhere"), "op").is_none());
    }

    #[test]
    fn a_cgroup_that_cannot_be_read_is_not_empty() {
        let folder = tempfile::tempdir().unwrap();
        let cgroup = Cgroup::create(folder.path(), "op").unwrap();
        assert!(Cgroup::find(folder.path(), "op").unwrap().is_some());
        assert!(Cgroup::find(folder.path(), "other").unwrap().is_none());
        fs::create_dir(folder.path().join("op/inner")).unwrap();
        fs::write(folder.path().join("op/cgroup.procs"), "7\n").unwrap();
        fs::write(folder.path().join("op/inner/cgroup.procs"), "8\n9\n").unwrap();
        assert_eq!(cgroup.members().unwrap(), [7, 8, 9], "what it made below itself is its own");
        fs::remove_file(folder.path().join("op/inner/cgroup.procs")).unwrap();
        fs::create_dir(folder.path().join("op/inner/cgroup.procs")).unwrap();
        assert!(cgroup.members().is_err());
        assert!(Cgroup::create(folder.path(), "op").is_none());
    }
}
