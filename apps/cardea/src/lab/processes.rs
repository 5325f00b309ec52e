//! What runs in a node right now? A look through the hub's /proc.
//!
//! In: the identity of a PID namespace. Out: its processes and whether they can run.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Pid, Signal};

/// Identity of a PID namespace: the inode behind `/proc/PID/ns/pid_for_children` or `ns/pid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidNamespace(pub u64);

/// Identity of the PID namespace that a process lives in; none if there is no such process.
pub fn namespace_of(pid: Pid) -> Option<PidNamespace> {
    read_namespace(&Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("ns/pid"))
}

fn read_namespace(path: &Path) -> Option<PidNamespace> {
    let target = fs::read_link(path).ok()?;
    let number = target.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()?;
    Some(PidNamespace(number))
}

/// Every process of a PID namespace, as the hub numbers them.
pub fn members(namespace: PidNamespace) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        if namespace_of(pid) == Some(namespace) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Is every process of the namespace stopped, or gone?
///
/// A thread in an uninterruptible wait counts as stopped once the stop is sent: it meets the stop before its next step.
pub fn are_stopped(namespace: PidNamespace) -> io::Result<bool> {
    let can_run = |pid: Pid| {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())) else { return false };
        threads.flatten().any(|thread| {
            fs::read_to_string(thread.path().join("stat")).ok().and_then(|stat| thread_state(&stat)).is_some_and(
                |state| match state {
                    'T' | 't' | 'Z' | 'X' | 'D' => false,
                    _runnable_or_asleep => true,
                },
            )
        })
    };
    Ok(!members(namespace)?.into_iter().any(can_run))
}

/// The state letter of a line of /proc/PID/stat: the word after the last parenthesis.
fn thread_state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Sends a signal to every process of the namespace; one that is gone meanwhile is no error.
pub fn signal(namespace: PidNamespace, signal: Signal) -> io::Result<()> {
    for pid in members(namespace)? {
        match rustix::process::kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_a_member_of_its_own_namespace() {
        let own = rustix::process::getpid();
        let namespace = namespace_of(own).expect("a namespace");
        assert!(members(namespace).expect("a scan").contains(&own));
        assert!(!are_stopped(namespace).expect("a scan"), "this test runs");
    }

    #[test]
    fn a_parenthesis_in_a_name_does_not_hide_the_state() {
        assert_eq!(thread_state("12 (evil) R 1) S 1 2 3"), Some('S'));
        assert_eq!(thread_state("12"), None);
    }
}
