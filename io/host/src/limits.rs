//! What may this process use, and what do its children get of that?
//!
//! The daemon opens as many descriptors as the system lets it, keeps some in reserve for the moment when there are no
//! more, and dumps no core: its memory holds keys. A child is an ordinary program: it gets the limits that the daemon
//! was started with, and none of its urgency.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept open for nothing, until they are needed.
const RESERVE: usize = 32;
/// Memory that an ordinary program may lock.
const CHILD_MEMLOCK_BYTES: u64 = 8 * 1024 * 1024;

static RESERVED: Mutex<Vec<File>> = Mutex::new(Vec::new());
static INHERITED: OnceLock<Inherited> = OnceLock::new();

/// Limits as they were before [`claim`].
#[derive(Clone, Copy, Debug)]
struct Inherited {
    descriptors: Rlimit,
}

/// Raises the limit of open descriptors as far as the system allows, keeps a reserve of them, and forbids core dumps.
///
/// What is refused is said in the log: the daemon works without it. Call it once, before anything is started.
pub fn claim() {
    INHERITED.get_or_init(|| Inherited { descriptors: getrlimit(Resource::Nofile) });
    let now = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum }) {
        tracing::warn!("the limit of open files stays at {:?}: {error}", now.current);
    }
    // The hard limit stays: services inherit it.
    let core = Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum };
    if let Err(error) = setrlimit(Resource::Core, core) {
        tracing::warn!("core dumps cannot be forbidden: {error}");
    }
    refill();
}

fn refill() {
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    while reserved.len() < RESERVE {
        match File::open("/dev/null") {
            Ok(file) => reserved.push(file),
            Err(_) => return,
        }
    }
}

/// Is it the system, or this process, that has no room left, so that the same may work a little later?
pub fn is_exhaustion(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::AGAIN))
}

fn is_without_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Does something; if there are no descriptors left for it, the reserve is given up, it is done again, and the reserve
/// is filled up as far as that can be.
pub fn with_reserve<T>(mut run: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match run() {
        Err(error) if is_without_descriptors(&error) => {
            let freed = std::mem::take(&mut *RESERVED.lock().unwrap_or_else(PoisonError::into_inner));
            drop(freed);
            let answer = run();
            refill();
            answer
        }
        other => other,
    }
}

/// Room for a few descriptors: of the reserve where there is none else. Filled up again when it is dropped.
pub(crate) struct Room {
    has_freed: bool,
}

impl Room {
    pub(crate) fn make() -> Room {
        const NEEDED: usize = 8;
        let tried: io::Result<Vec<File>> = (0..NEEDED).map(|_| File::open("/dev/null")).collect();
        let has_freed = tried.as_ref().is_err_and(is_without_descriptors);
        if has_freed {
            drop(std::mem::take(&mut *RESERVED.lock().unwrap_or_else(PoisonError::into_inner)));
        }
        Room { has_freed }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.has_freed {
            refill();
        }
    }
}

/// What a child gets in place of the daemon's own settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChildLimits {
    descriptors: Option<Rlimit>,
    memory: Rlimit,
}

impl ChildLimits {
    pub(crate) fn new() -> ChildLimits {
        let maximum = getrlimit(Resource::Memlock).maximum;
        let current = Some(maximum.map_or(CHILD_MEMLOCK_BYTES, |most| most.min(CHILD_MEMLOCK_BYTES)));
        ChildLimits {
            descriptors: INHERITED.get().map(|inherited| inherited.descriptors),
            memory: Rlimit { current, maximum },
        }
    }

    /// Makes the calling process an ordinary one. Makes system calls only, so that it may run between fork and exec.
    ///
    /// What the system refuses stays as it is: no service is kept from running by it.
    pub(crate) fn apply(self) {
        if let Some(descriptors) = self.descriptors {
            let _ = setrlimit(Resource::Nofile, descriptors);
        }
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        let _ = setrlimit(Resource::Rtprio, none);
        let _ = setrlimit(Resource::Nice, none);
        let _ = setrlimit(Resource::Memlock, self.memory);
        let _ = rustix::process::umask(Mode::from_raw_mode(0o022));
        // The kernel takes the daemon last when memory is short; what the daemon runs is worth less than the machine.
        if let Ok(score) = own_oom_score() {
            let _ = rustix::io::write(&score, b"0");
        }
    }
}

fn own_oom_score() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_exhaustion() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN] {
            assert!(is_exhaustion(&io::Error::from_raw_os_error(errno)), "{errno}");
        }
        for errno in [libc::EACCES, libc::ENOENT, libc::EIO] {
            assert!(!is_exhaustion(&io::Error::from_raw_os_error(errno)), "{errno}");
        }
    }
}
