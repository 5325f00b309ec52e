//! Where does a lab live on disk, and is anybody in it?
//!
//! ```text
//!   DIR/.cardea-lab   marks the folder as ours: nothing without it is ever removed
//!   DIR/lab.lock      locked by the hub as long as it lives
//!   DIR/lab.sock      where the hub listens        DIR/lab.log   what it and the nodes say
//!   DIR/bin/cardea    this binary                  DIR/nodes/NAME/…   the disk of a node
//! ```
//!
//! A folder with our mark and no lock was left by a lab that was killed; the next one sweeps it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

const MARK: &str = ".cardea-lab";
const LOCK: &str = "lab.lock";

/// For its owner alone.
const FOLDER_MODE: u32 = 0o700;

/// Longest path of a Unix socket on Linux, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why a folder cannot hold a lab.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A lab lives there.
    #[error("a lab is running in {0}: end it with `cardea lab down --dir {0}`, or name another folder with --dir")]
    Busy(PathBuf),
    /// Something that is not ours is there.
    #[error("{0} exists and is not the folder of a lab: name another one with --dir")]
    Foreign(PathBuf),
    /// Somebody else could change what is in it.
    #[error("{0} belongs to another user, or is a link that does: name another folder with --dir")]
    NotOwned(PathBuf),
    /// Paths in it would be too long.
    #[error("{0} is too long a path: the sockets of the nodes must fit into 107 bytes; name a shorter one with --dir")]
    TooLong(PathBuf),
    /// No lab lives there.
    #[error("no lab is running in {0}: start one with `cardea lab up`, or name its folder with --dir")]
    NoLab(PathBuf),
    /// It lies in memory.
    #[error("{0} is on {1}, where nothing survives a power cut: name another folder with --dir, or add --volatile")]
    Volatile(PathBuf, String),
    /// The world failed.
    #[error("could not {attempt} {path}")]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |cause| FolderError::Io { attempt, path, cause }
}

/// The folder of a lab, locked.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Makes the folder, empty and locked; sweeps what a killed lab left there.
    pub fn create(path: &Path) -> Result<Folder, FolderError> {
        if path.join("nodes/a-node-with-a-name/run/cardea/api.sock").as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(FolderError::TooLong(path.to_owned()));
        }
        if fs::symlink_metadata(path).is_ok() {
            check_owner(path)?;
            // Closed first: whatever is found in it now, nobody else put there later.
            fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE)).map_err(failed("close", path))?;
            if !is_marked(path) {
                let is_empty = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
                if !is_empty {
                    return Err(FolderError::Foreign(path.to_owned()));
                }
            } else if !sweep(path)? {
                return Err(FolderError::Busy(path.to_owned()));
            }
        }
        if let Some(above) = path.parent() {
            fs::create_dir_all(above).map_err(failed("make", above))?;
        }
        match DirBuilder::new().mode(FOLDER_MODE).create(path) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => check_owner(path)?,
            made => made.map_err(failed("make", path))?,
        }
        // An absolute path without symbolic links, for everything that is told it later.
        let path = &fs::canonicalize(path).map_err(failed("find", path))?;
        let lock = File::create(path.join(LOCK)).map_err(failed("make a lock in", path))?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(FolderError::Busy(path.to_owned()));
        }
        fs::write(path.join(MARK), "").map_err(failed("mark", path))?;
        for name in ["bin", "nodes"] {
            fs::create_dir_all(path.join(name)).map_err(failed("make a folder in", path))?;
        }
        Ok(Folder { path: path.to_owned(), lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lock, to be held on by the hub.
    pub fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Removes everything.
    pub fn remove(self) -> Result<(), FolderError> {
        remove(&self.path)
    }
}

/// Refuses a folder that somebody else could change: what lies in a lab's folder is run with our rights.
pub fn check_owner(path: &Path) -> Result<(), FolderError> {
    let own = rustix::process::geteuid().as_raw();
    let is_owned = |data: io::Result<fs::Metadata>| match data {
        Ok(data) => Ok(data.uid() == own),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(cause) => Err(failed("look at", path)(cause)),
    };
    if is_owned(fs::symlink_metadata(path))? && is_owned(fs::metadata(path))? {
        Ok(())
    } else {
        Err(FolderError::NotOwned(path.to_owned()))
    }
}

/// Is a lab alive in this folder?
pub fn is_alive(path: &Path) -> bool {
    File::open(path.join(LOCK))
        .is_ok_and(|lock| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
}

/// Waits until no lab lives in this folder, then removes it.
pub fn remove_when_dead(path: &Path) -> Result<(), FolderError> {
    if let Ok(lock) = File::open(path.join(LOCK)) {
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed("lock", path)(e.into()))?;
    }
    remove(path)
}

/// Removes what killed labs left in the folder that `path` lies in: folders of the same user with our mark and no lock.
pub fn sweep_beside(path: &Path) {
    let own = rustix::process::geteuid().as_raw();
    let Some(entries) = path.parent().and_then(|parent| fs::read_dir(parent).ok()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_ours =
            name.to_str().is_some_and(|name| name.starts_with("cardea-lab") || name.starts_with("cardea-demo"));
        if is_ours && entry.metadata().is_ok_and(|data| data.is_dir() && data.uid() == own) && is_marked(&entry.path())
        {
            // Whatever cannot be removed stays for the next one; it stands in nobody's way.
            let _ = sweep(&entry.path());
        }
    }
}

/// Removes a dead lab's folder; false if it is alive.
fn sweep(path: &Path) -> Result<bool, FolderError> {
    if is_alive(path) {
        return Ok(false);
    }
    remove(path).map(|()| true)
}

fn is_marked(path: &Path) -> bool {
    fs::symlink_metadata(path.join(MARK)).is_ok_and(|data| data.is_file())
}

fn remove(path: &Path) -> Result<(), FolderError> {
    assert!(is_marked(path) || !path.exists(), "only folders with our mark are removed");
    match fs::remove_dir_all(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed("remove", path)),
    }
}

/// Where labs live unless told otherwise: below $TMPDIR or /var/tmp; one folder per user.
pub fn default_path(word: &str) -> PathBuf {
    let below = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).map_or("/var/tmp".into(), PathBuf::from);
    let user = rustix::process::getuid();
    below.join(if user.is_root() { word.to_owned() } else { format!("{word}-{}", user.as_raw()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_folder_is_never_touched() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("thesis.txt"), "years of work").expect("a file");
        assert!(matches!(Folder::create(dir.path()), Err(FolderError::Foreign(_))));
        assert!(dir.path().join("thesis.txt").exists());
    }

    #[test]
    fn a_folder_of_somebody_else_is_refused_and_our_own_is_closed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lab");
        fs::create_dir(&path).expect("a folder");
        fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("our own");
        let folder = Folder::create(&path).expect("an empty folder of ours will do");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, FOLDER_MODE);
        folder.remove().expect("removed");
        if rustix::process::geteuid().is_root() {
            fs::create_dir(&path).expect("a folder");
            std::os::unix::fs::chown(&path, Some(65534), Some(65534)).expect("root may");
            assert!(matches!(Folder::create(&path), Err(FolderError::NotOwned(_))));
            assert!(matches!(check_owner(&path), Err(FolderError::NotOwned(_))));
            let link = dir.path().join("link");
            std::os::unix::fs::symlink(&path, &link).expect("a link");
            assert!(matches!(Folder::create(&link), Err(FolderError::NotOwned(_))), "a link is no way around");
        }
    }

    #[test]
    fn a_living_lab_keeps_its_folder_and_a_killed_one_is_swept() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lab");
        let folder = Folder::create(&path).expect("a lab");
        assert!(is_alive(&path));
        assert!(matches!(Folder::create(&path), Err(FolderError::Busy(_))));
        fs::write(path.join("nodes/left"), "over").expect("a file");
        drop(folder);
        assert!(!is_alive(&path));
        let folder = Folder::create(&path).expect("the next lab");
        assert!(!path.join("nodes/left").exists());
        folder.remove().expect("removed");
        assert!(!path.exists());
    }
}
