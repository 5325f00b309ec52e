//! How surely does this thread run in time?
//!
//! Beats must leave on time on a loaded machine. What the system does not grant is no error: the caller learns what
//! it got and says so once.

use std::ffi::CString;
use std::fmt;

use rustix::mm::{MlockAllFlags, mlockall};

/// Real-time priority that is asked for: above ordinary work, below the kernel's own threads.
const REAL_TIME_PRIORITY: libc::c_int = 10;

/// What the calling thread was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Real-time round robin; children of the thread are ordinary again.
    RealTime,
    /// Ordinary scheduling with the greatest weight (nice −20).
    Favoured,
    /// Nothing: it competes like any other thread.
    Ordinary,
}

impl fmt::Display for Urgency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Urgency::RealTime => "real-time",
            Urgency::Favoured => "nice -20",
            Urgency::Ordinary => "ordinary",
        })
    }
}

/// Asks for real-time scheduling of the calling thread, else for nice −20.
pub fn ask_for_urgency() -> Urgency {
    let parameters = libc::sched_param { sched_priority: REAL_TIME_PRIORITY };
    // SAFETY: pid 0 is the calling thread, `parameters` is a live, initialised value that the call only reads.
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &parameters) };
    if answer == 0 {
        return Urgency::RealTime;
    }
    match rustix::process::setpriority_process(None, -20) {
        Ok(()) => Urgency::Favoured,
        Err(_) => Urgency::Ordinary,
    }
}

/// Keeps every page of this process in memory from its first use on; `false` if the system does not grant it.
///
/// Pages are locked when they are touched, not when they are mapped: thread stacks would otherwise cost their full size.
pub fn lock_memory() -> bool {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok()
}

/// Is some thread of this process in a wait inside the kernel that no signal ends (state D)?
///
/// # Errors
/// If the kernel does not say.
pub fn is_any_thread_in_kernel_wait() -> Result<bool, std::io::ErrorKind> {
    for thread in std::fs::read_dir("/proc/self/task").map_err(|cause| cause.kind())? {
        let path = thread.map_err(|cause| cause.kind())?.path().join("stat");
        match std::fs::read_to_string(path) {
            Ok(stat) if state_in(&stat) == Some('D') => return Ok(true),
            Ok(_) => {}
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause.kind()),
        }
    }
    Ok(false)
}

/// The state in a line of `/proc/PID/stat`; the name before it, in parentheses, may hold anything.
fn state_in(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Names the calling thread as `ps` and `top` show it; the kernel keeps 15 bytes.
pub fn set_thread_name(name: &str) {
    let bytes: Vec<u8> = name.bytes().filter(|b| *b != 0).take(15).collect();
    if let Ok(name) = CString::new(bytes) {
        // A thread without its name works as well.
        let _ = rustix::thread::set_name(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_behind_a_name_that_may_hold_anything() {
        assert_eq!(state_in("42 (pulse) S 1 2"), Some('S'));
        assert_eq!(state_in("42 (a) D (b) R 1 2"), Some('R'));
        assert_eq!(state_in("42"), None);
        assert!(is_any_thread_in_kernel_wait().is_ok());
    }

    #[test]
    fn what_is_not_granted_is_no_failure() {
        std::thread::spawn(|| {
            let granted = ask_for_urgency();
            assert!(!granted.to_string().is_empty());
            set_thread_name("a name that is longer than the kernel keeps\0");
        })
        .join()
        .unwrap();
    }
}
