//! How does a machine begin anew at once?
//!
//! For a node whose life is over while it still runs something that must not run twice: no service is asked, no file
//! system is unmounted, nothing can refuse. Whoever starts the daemon says whether it may do that, and by what; it is
//! never guessed.

use std::convert::Infallible;
use std::os::unix::fs::MetadataExt;
use std::{fs, io};

/// Inode of the PID namespace that the kernel itself begins with.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Boots the whole machine anew; returns only if the system refuses.
pub fn restart_machine() -> io::Result<Infallible> {
    // The kernel's own way: it needs no process and no disk.
    let asked = fs::write("/proc/sysrq-trigger", b"b");
    let refused = call_reboot();
    Err(asked.err().unwrap_or(refused))
}

/// Ends the PID namespace that this process lives in, as a machine that boots anew; returns only if the system refuses.
///
/// In the first namespace, that of the machine itself, it does nothing and is an error.
pub fn restart_namespace() -> io::Result<Infallible> {
    if fs::metadata("/proc/self/ns/pid")?.ino() == FIRST_PID_NAMESPACE {
        return Err(io::Error::other("this is the machine's own PID namespace"));
    }
    Err(call_reboot())
}

fn call_reboot() -> io::Error {
    // SAFETY: no pointers are passed; the call either does not return or answers with an error.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
    io::Error::last_os_error()
}
