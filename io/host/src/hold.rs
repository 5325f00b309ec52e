//! How does one thread of another process stand still while the others go on?
//!
//! A signal stops whole processes, so this is done as a debugger does it: the thread is seized and interrupted, and is
//! never told to go on. It goes on when the process that holds it ends. A thread that is killed meanwhile ends as usual.
//!
//! In: a thread. Out: it stands. Not here: which thread, and why (`apps/cardea` lab).

use std::io;
use std::ptr::null_mut;

use rustix::process::Pid;

/// Holds the thread until it ends; `on_held` runs once, when the thread stands.
///
/// Whoever waits for the end of this thread's process waits for this call as well, so the caller should do nothing
/// else. The caller needs the rights of a debugger: the same user, or root of the user namespace.
pub fn hold(thread: Pid, on_held: impl FnOnce()) -> io::Result<()> {
    let thread = thread.as_raw_pid();
    trace(libc::PTRACE_SEIZE, thread)?;
    trace(libc::PTRACE_INTERRUPT, thread)?;
    let mut on_held = Some(on_held);
    loop {
        let mut status = 0;
        // SAFETY: `status` is valid for writes. __WALL, because the thread is no child of ours.
        match unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) } {
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
            _ if libc::WIFSTOPPED(status) => {
                if let Some(on_held) = on_held.take() {
                    on_held();
                }
            }
            _ => return Ok(()),
        }
    }
}

fn trace(request: libc::c_uint, thread: i32) -> io::Result<()> {
    // SAFETY: both requests take no address and no data.
    match unsafe { libc::ptrace(request, thread, null_mut::<libc::c_void>(), null_mut::<libc::c_void>()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_held_process_stands_until_it_is_killed() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("a process");
        let pid = Pid::from_child(&child);
        let (held, is_held) = mpsc::channel();
        let holder = std::thread::spawn(move || hold(pid, || held.send(()).expect("somebody waits")));
        is_held.recv().expect("it is held");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it lives");
        assert!(stat.contains(" t "), "{stat}");
        child.kill().expect("it can be killed");
        holder.join().expect("no panic").expect("its end is no error");
        let _ = child.wait();
    }

    #[test]
    fn who_is_gone_cannot_be_held() {
        let nobody = Pid::from_raw(i32::MAX).expect("a number");
        assert_eq!(hold(nobody, || ()).expect_err("nobody is there").raw_os_error(), Some(libc::ESRCH));
    }
}
