//! How does one machine become many? Namespaces: made, entered, furnished.
//!
//! A lab is a process tree in a user, PID, mount, network, UTS and IPC namespace of its own; each of its nodes is one
//! more set below it. When PID 1 of such a set dies, the kernel kills everything in it.
//!
//! In: the calling thread and paths. Out: the thread in other namespaces, mounts that only they see.
//! Not here: cables and addresses (`network.rs`), what runs in a node (`apps/cardea` lab).

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

/// Why this process could not get namespaces of its own.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// User namespaces are switched off on this machine.
    #[error("this machine forbids user namespaces to ordinary users ({setting})")]
    Forbidden {
        /// The setting that forbids it, as `name = value`.
        setting: String,
        /// The kernel's word.
        #[source]
        cause: io::Error,
    },
    /// Anything else.
    #[error("could not {attempt}")]
    Failed {
        /// What was tried.
        attempt: &'static str,
        /// The kernel's word.
        #[source]
        cause: io::Error,
    },
}

fn failed(attempt: &'static str) -> impl Fn(rustix::io::Errno) -> NamespaceError {
    move |errno| NamespaceError::Failed { attempt, cause: errno.into() }
}

/// Is this process root in the first user namespace or any other that lets it do everything?
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Gives the calling process new mount, network, UTS and IPC namespaces, and its next children a new PID namespace.
///
/// Who is not root first gets a user namespace in which they are. The process must have a single thread.
pub fn enter_new() -> Result<(), NamespaceError> {
    let mut flags = node_flags();
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let needs_user = !is_root() || !has_all_capabilities();
    if needs_user {
        flags |= UnshareFlags::NEWUSER;
    }
    unshare(flags).map_err(|errno| {
        let cause = io::Error::from(errno);
        match forbidding_setting() {
            Some(setting) if needs_user => NamespaceError::Forbidden { setting, cause },
            _ => NamespaceError::Failed { attempt: "make new namespaces", cause },
        }
    })?;
    if needs_user {
        let write = |path: &str, text: String| {
            fs::write(path, text).map_err(|cause| match forbidding_setting() {
                Some(setting) => NamespaceError::Forbidden { setting, cause },
                None => NamespaceError::Failed { attempt: "map this user to root of the new namespace", cause },
            })
        };
        write("/proc/self/setgroups", "deny".to_owned())?;
        write("/proc/self/uid_map", format!("0 {} 1", uid.as_raw()))?;
        write("/proc/self/gid_map", format!("0 {} 1", gid.as_raw()))?;
    }
    make_mounts_private()
}

/// Gives the calling thread new mount, network, UTS and IPC namespaces, and its next children a new PID namespace.
///
/// Other threads of the process stay where they are. The thread should end after it has spawned its child.
pub fn enter_new_node() -> Result<(), NamespaceError> {
    unshare(node_flags()).map_err(failed("make the namespaces of a node"))?;
    make_mounts_private()
}

/// Moves the calling thread into every namespace of the process behind `pidfd`; its next children are in its PID
/// namespace too.
pub fn join_node(pidfd: BorrowedFd<'_>) -> Result<(), NamespaceError> {
    unshare(UnshareFlags::FS).map_err(failed("give this thread a working directory of its own"))?;
    let spaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION;
    rustix::thread::move_into_thread_name_spaces(pidfd, spaces).map_err(failed("enter the namespaces of a node"))
}

/// The network namespace of the calling thread.
pub fn own_network() -> io::Result<OwnedFd> {
    Ok(fs::File::open("/proc/thread-self/ns/net")?.into())
}

/// Names the machine, as seen from this UTS namespace.
pub fn set_hostname(name: &str) -> Result<(), NamespaceError> {
    rustix::system::sethostname(name.as_bytes()).map_err(failed("set the host name"))
}

/// Mounts a /proc that shows the PID namespace of the caller.
pub fn mount_proc() -> Result<(), NamespaceError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None).map_err(failed("mount /proc"))
}

/// Mounts an empty file system in memory.
pub fn mount_memory(target: &Path) -> Result<(), NamespaceError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", target, "tmpfs", flags, Some(c"mode=755"))
        .map_err(failed("mount a file system in memory"))
}

/// Shows `source` in the place of `target`.
pub fn bind(source: &Path, target: &Path) -> Result<(), NamespaceError> {
    rustix::mount::mount_bind(source, target).map_err(failed("bind one path over another"))
}

/// Shows the tree `lower` with changes that go to `upper`; `work` is an empty folder beside `upper`.
pub fn overlay(lower: &Path, upper: &Path, work: &Path) -> Result<(), NamespaceError> {
    let data =
        format!("lowerdir={},upperdir={},workdir={},userxattr", lower.display(), upper.display(), work.display());
    let data = CString::new(data).map_err(|_| NamespaceError::Failed {
        attempt: "lay an overlay",
        cause: io::Error::from(io::ErrorKind::InvalidInput),
    })?;
    rustix::mount::mount("overlay", lower, "overlay", MountFlags::empty(), Some(data.as_c_str()))
        .map_err(failed("lay an overlay"))
}

/// Makes a mount read-only for this mount namespace.
pub fn make_read_only(target: &Path) -> Result<(), NamespaceError> {
    rustix::mount::mount_bind(target, target).map_err(failed("bind a path over itself"))?;
    rustix::mount::mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, "")
        .map_err(failed("make a mount read-only"))
}

fn node_flags() -> UnshareFlags {
    UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWNET | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC
}

fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES), "file descriptors stay shared between threads");
    // SAFETY: without `FILES` no thread loses sight of a descriptor that another one opened.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn make_mounts_private() -> Result<(), NamespaceError> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(failed("keep mounts to ourselves"))
}

/// Root in a container may lack what namespaces need.
fn has_all_capabilities() -> bool {
    use rustix::thread::CapabilitySet;
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN))
}

/// The setting that keeps ordinary users from user namespaces, as `name = value`, if one does.
fn forbidding_setting() -> Option<String> {
    [
        ("kernel.unprivileged_userns_clone", "/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("user.max_user_namespaces", "/proc/sys/user/max_user_namespaces", "0"),
        ("kernel.apparmor_restrict_unprivileged_userns", "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    ]
    .into_iter()
    .find(|(_, path, bad)| fs::read_to_string(path).is_ok_and(|value| value.trim() == *bad))
    .map(|(name, _, bad)| format!("{name} = {bad}"))
}
