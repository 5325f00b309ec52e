//! Which processes are ours, and how do they end?
//!
//! A number in a message may belong to another process by the time it is read. So a process is held by its pidfd, and
//! written down as pid and start time. What an agent started is found again by the marks in its environment, by the
//! session of a marked session leader, and by its cgroup where there is one: an agent may fork, change its session or
//! forget its environment, and is still ours.
//!
//! Here: spawn, find, signal, wait. Not here: what a mark means (`io/agents`), who restarts what (`supervise.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
pub use rustix::process::Signal;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};

use crate::cgroup::Cgroup;
use crate::limits::{ChildLimits, Room, is_exhaustion, with_reserve};

/// A process, held so that no other can be mistaken for it.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    started: StartTime,
    descriptor: OwnedFd,
}

/// When a process was started, in clock ticks since boot: with the pid it names a process once and for all (of a boot).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StartTime(pub u64);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "exited with status {status}"),
            Exit::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {signal}"),
            },
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

impl Process {
    /// Holds the process that has this pid, ended or not; an error if there is none, or if it was reaped long ago.
    pub fn open(pid: u32) -> io::Result<Process> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let descriptor = pidfd_open(number, PidfdFlags::empty())?;
        let stat = Stat::read(pid)?;
        let process = Process { pid, started: stat.started, descriptor };
        // If the one behind the descriptor was reaped in between, the start time may be that of a successor.
        if !process.is_alive() && !stat.has_ended() && !Stat::read(pid)?.has_ended() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(process)
    }

    /// Holds the process of this pid and start time; `None` if it was reaped. An error says that nobody knows.
    pub fn open_exact(pid: u32, started: StartTime) -> io::Result<Option<Process>> {
        match with_reserve(|| Process::open(pid)) {
            Ok(process) => Ok(Some(process).filter(|process| process.started == started)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it was started.
    pub fn started(&self) -> StartTime {
        self.started
    }

    /// Has it not ended yet? What has ended and is not reaped is not alive.
    pub fn is_alive(&self) -> bool {
        !self.wait(Duration::ZERO)
    }

    /// Waits for its end, at most this long; has it ended?
    pub fn wait(&self, limit: Duration) -> bool {
        wait_for_any(&[self], limit)
    }

    /// Sends it a signal; one that has ended gets none.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.descriptor, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How it ended, if it has ended and is a child of ours that was not reaped before; reaps it.
    pub fn reap(&self) -> Option<Exit> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::PidFd(self.descriptor.as_fd()), options).ok()??;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(status), _) => Some(Exit::Status(status)),
            (None, Some(signal)) => Some(Exit::Signal(signal)),
            (None, None) => None,
        }
    }
}

/// Does this error say that there is no such process? Every other one says that nobody knows.
///
/// A number that belongs to a thread, or to nothing, is no process either (EINVAL).
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput)
        || error.raw_os_error() == Some(libc::ESRCH)
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Waits until one of the processes has ended, at most this long; has one ended?
fn wait_for_any(processes: &[&Process], limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let mut polled: Vec<PollFd<'_>> =
        processes.iter().map(|process| PollFd::new(&process.descriptor, PollFlags::IN)).collect();
    loop {
        match poll(&mut polled, Some(&timespec(deadline.saturating_duration_since(Instant::now())))) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            // Not pollable: nothing is known, so nothing has ended.
            Err(_) => return false,
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// What is run, and where its input and output go. Its environment holds nothing but what is said here.
pub struct Launch<'a> {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub program: &'a OsStr,
    /// What it is told it is called, if not its path.
    pub called: Option<&'a str>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its working directory; `/` if none.
    pub directory: Option<&'a Path>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Its standard input; `/dev/null` if none.
    pub input: Option<OwnedFd>,
    /// Its standard output.
    pub output: Option<File>,
    /// Its standard error.
    pub errors: Option<File>,
    /// The cgroup that it begins in.
    pub cgroup: Option<&'a Cgroup>,
}

impl Launch<'_> {
    /// Runs it as the leader of a session of its own, and does not wait for it.
    ///
    /// No parent-death signal: what runs goes on when we are replaced.
    pub fn spawn(self) -> io::Result<Process> {
        let mut command = Command::new(self.program);
        command.args(&self.arguments).env_clear().envs(&self.environment);
        command.current_dir(self.directory.unwrap_or(Path::new("/")));
        if let Some(name) = self.called {
            command.arg0(name);
        }
        command.stdin(self.input.map_or_else(Stdio::null, Stdio::from));
        command.stdout(self.output.map_or_else(Stdio::null, Stdio::from));
        command.stderr(self.errors.map_or_else(Stdio::null, Stdio::from));
        let _room = Room::make();
        let entrance = self.cgroup.and_then(Cgroup::entrance);
        let limits = ChildLimits::new();
        // SAFETY: between fork and exec only system calls are made (signals, limits, setsid, open, write): no
        // allocation, no lock.
        unsafe {
            command.pre_exec(move || {
                reset_signals();
                limits.apply();
                rustix::process::setsid()?;
                if let Some(entrance) = &entrance {
                    // Outside its cgroup the process is still found by mark and session.
                    let _ = rustix::io::write(entrance, b"0");
                }
                Ok(())
            });
        }
        let mut child = command.spawn()?;
        // A child keeps its pid until it is reaped, and nobody but us reaps it.
        with_reserve(|| Process::open(child.id())).inspect_err(|_| {
            // What cannot be held is not left running.
            let _ = child.kill();
            let _ = child.wait();
        })
    }
}

/// Blocks and ignores no signal: what the caller blocks or ignores is no business of the program that comes next.
///
/// Makes system calls only, so that it may run between fork and exec.
pub(crate) fn reset_signals() {
    // SAFETY: zeroed memory is a valid sigaction (SIG_DFL, no flags, empty mask) and a valid, empty signal set; both
    // live across the calls that read them. Signals that cannot be changed answer with an error that is of no concern.
    unsafe {
        let default = MaybeUninit::<libc::sigaction>::zeroed();
        for signal in 1..=64 {
            libc::sigaction(signal, default.as_ptr(), std::ptr::null_mut());
        }
        let none = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// The line of a process in `/proc/PID/stat`, as far as it concerns us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    session: u32,
    flags: u64,
    started: StartTime,
    /// Is the address of its environment known yet? Not while a program is being loaded.
    has_environment: bool,
}

impl Stat {
    fn read(pid: u32) -> io::Result<Stat> {
        Stat::parse(&fs::read(format!("/proc/{pid}/stat"))?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is not readable")))
    }

    /// The name of a process may hold blanks and brackets; the fields begin after the last bracket.
    fn parse(line: &[u8]) -> Option<Stat> {
        let end = line.iter().rposition(|b| *b == b')')?;
        let fields: Vec<&str> = std::str::from_utf8(line.get(end + 1..)?).ok()?.split_ascii_whitespace().collect();
        Some(Stat {
            state: *fields.first()?.as_bytes().first()?,
            // A process that is being reaped belongs to no session any more: the kernel writes -1.
            session: u32::try_from(fields.get(3)?.parse::<i64>().ok()?).unwrap_or(0),
            flags: fields.get(6)?.parse().ok()?,
            started: StartTime(fields.get(19)?.parse().ok()?),
            has_environment: fields.get(48).is_none_or(|end| *end != "0"),
        })
    }

    fn has_ended(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// A thread of the kernel: it runs no program, and belongs to no session of ours, whoever its parent is.
    fn is_kernel_thread(self) -> bool {
        const PF_KTHREAD: u64 = 0x0020_0000;
        self.flags & PF_KTHREAD != 0
    }

    fn is_ending(self) -> bool {
        const PF_EXITING: u64 = 0x4;
        self.flags & PF_EXITING != 0
    }
}

/// The environment that a process was started with: its entries, `NAME=value`.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    bytes: Vec<u8>,
}

impl Environment {
    /// Has it this entry?
    pub fn has(&self, entry: &str) -> bool {
        self.entries().any(|present| present == entry.as_bytes())
    }

    /// The value of the first entry of this name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.entries().find_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix(name)?.strip_prefix('='))
    }

    fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split(|byte| *byte == 0)
    }
}

/// What makes a process ours: any one of these is enough.
#[derive(Clone, Default)]
pub struct Marks<'a> {
    /// It has all of these entries (`NAME=value`) in the environment that it was started with. None: no process has.
    pub environment: Vec<String>,
    /// … and this says of its environment that it is no forgery.
    pub is_genuine: Option<&'a dyn Fn(&Environment) -> bool>,
    /// It belongs to the session of this process, which may have ended meanwhile.
    pub session: Option<(u32, StartTime)>,
    /// It is one of these: the members of a cgroup.
    pub members: Vec<u32>,
    /// What began before this, and may not be looked at, is none of ours.
    pub oldest: Option<StartTime>,
}

impl Marks<'_> {
    fn mark(&self, environment: &Environment) -> bool {
        !self.environment.is_empty()
            && self.environment.iter().all(|entry| environment.has(entry))
            && self.is_genuine.is_none_or(|is_genuine| is_genuine(environment))
    }
}

/// Every process that bears one of the marks and has not ended, in the order of their pids.
///
/// A process that a marked session leader has in its session is found as well, whatever its own environment says.
/// An error says that there may be more: a process that cannot be looked at may be one of ours, one that vanishes
/// meanwhile is none.
pub fn find_marked(marks: &Marks<'_>) -> io::Result<Vec<Process>> {
    with_reserve(|| look_for_marked(marks))
}

fn look_for_marked(marks: &Marks<'_>) -> io::Result<Vec<Process>> {
    let own = std::process::id();
    let mut seen: BTreeMap<u32, (Stat, bool)> = BTreeMap::new();
    for pid in all_pids()? {
        let stat = match Stat::read(pid) {
            Ok(stat) => stat,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        if pid == own || stat.is_kernel_thread() {
            continue;
        }
        let is_marked = !marks.environment.is_empty()
            && !stat.has_ended()
            && environment(pid, stat, marks.oldest)?.is_some_and(|environment| marks.mark(&environment));
        seen.insert(pid, (stat, is_marked));
    }
    let mut sessions: BTreeSet<u32> =
        seen.iter().filter(|(pid, (stat, marked))| *marked && stat.session == **pid).map(|(pid, _)| *pid).collect();
    if let Some((leader, started)) = marks.session {
        // A pid is not given anew while a session of that number lives: another start time means another session.
        if seen.get(&leader).is_none_or(|(stat, _)| stat.started == started) {
            sessions.insert(leader);
        }
    }
    let mut found = Vec::new();
    for (pid, (stat, is_marked)) in &seen {
        let is_ours = *is_marked || sessions.contains(&stat.session) || marks.members.contains(pid);
        if is_ours && !stat.has_ended() {
            found.extend(Process::open_exact(*pid, stat.started)?);
        }
    }
    Ok(found)
}

fn all_pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(pids)
}

/// The environment of a process; `None` if it has ended, or cannot have been started by us.
fn environment(pid: u32, stat: Stat, oldest: Option<StartTime>) -> io::Result<Option<Environment>> {
    const LOADING_MAX: Duration = Duration::from_millis(20);
    let until = Instant::now() + LOADING_MAX;
    let mut stat = stat;
    loop {
        match fs::read(format!("/proc/{pid}/environ")) {
            // A program that is being loaded shows none for a moment, and may show our mark in the next.
            Ok(bytes) if bytes.is_empty() && !stat.has_environment && !stat.is_ending() && Instant::now() < until => {
                std::thread::yield_now();
                stat = match Stat::read(pid) {
                    Ok(now) if now.started == stat.started && !now.has_ended() => now,
                    Ok(_) => return Ok(None),
                    Err(error) if is_gone(&error) => return Ok(None),
                    Err(error) => return Err(error),
                };
            }
            Ok(bytes) => return Ok(Some(Environment { bytes })),
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let is_too_old = oldest.is_some_and(|oldest| stat.started < oldest);
                if is_too_old || !can_be_ours(pid)? {
                    return Ok(None);
                }
                return Err(io::Error::new(error.kind(), Unreadable { pid, cause: error }));
            }
            Err(error) if is_exhaustion(&error) => return Err(error),
            Err(error) => return Err(io::Error::new(error.kind(), Unreadable { pid, cause: error })),
        }
    }
}

/// Could this daemon have started a process that it may not look at? Asked only then.
///
/// Process 1 is nobody's child. Without the rights of root a process starts none of another user. None gives on a
/// capability that is outside of its own bounding set. And whoever may trace looks at everything in its own user
/// namespace and in those below; what its children make is there.
fn can_be_ours(pid: u32) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    if pid == 1 {
        return Ok(false);
    }
    let look = || -> io::Result<bool> {
        let own = rustix::process::geteuid();
        let owner = fs::metadata(format!("/proc/{pid}"))?.uid();
        if !own.is_root() {
            return Ok(owner == own.as_raw());
        }
        let theirs = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let ours = fs::read_to_string("/proc/self/status")?;
        const CAP_SYS_PTRACE: u64 = 1 << 19;
        let may_trace = capabilities(&ours, "CapEff:").is_some_and(|set| set & CAP_SYS_PTRACE != 0);
        let users = |of: &str| fs::read_to_string(format!("/proc/{of}/uid_map"));
        if may_trace && users(&pid.to_string())? != users("self")? {
            return Ok(false);
        }
        Ok(match (capabilities(&theirs, "CapPrm:"), capabilities(&ours, "CapBnd:")) {
            (Some(theirs), Some(ours)) => theirs & !ours == 0,
            (None, _) | (_, None) => true,
        })
    };
    match look() {
        Err(error) if is_gone(&error) => Ok(false),
        answer => answer,
    }
}

fn capabilities(status: &str, name: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// Why a process could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("process {pid} cannot be looked at: {cause}")]
struct Unreadable {
    pid: u32,
    cause: io::Error,
}

/// Could a process not be looked at that may be one of ours? It may end, or show itself, a little later.
pub fn is_unreadable(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<Unreadable>())
}

/// The command line of a process; empty if it has none or has ended.
pub fn command_line(pid: u32) -> io::Result<Vec<String>> {
    let line = match with_reserve(|| fs::read(format!("/proc/{pid}/cmdline"))) {
        Ok(line) => line,
        Err(error) if is_gone(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    let words = line.split(|b| *b == 0).filter(|word| !word.is_empty());
    Ok(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// The session that a process belongs to; `None` if it has ended.
pub fn session_of(pid: u32) -> io::Result<Option<u32>> {
    match with_reserve(|| Stat::read(pid)) {
        Ok(stat) => Ok(Some(stat.session)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The environment that a process was started with; `None` if it has ended.
pub fn environment_of(pid: u32) -> io::Result<Option<Environment>> {
    with_reserve(|| match Stat::read(pid) {
        Ok(stat) => environment(pid, stat, None),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    })
}

/// How long the rungs of [`end_all`] are.
#[derive(Clone, Copy, Debug)]
pub struct Ladder {
    /// How long SIGTERM may take; zero: it is not even tried.
    pub polite: Duration,
    /// How long what was sent SIGKILL may take to vanish.
    pub forced: Duration,
}

/// Ends everything that `find` finds: SIGTERM, then SIGKILL, again and again until nothing is found.
///
/// `find` is asked anew after every round, because what is ended may fork meanwhile; what was found once is waited for
/// until it has ended, though a process that is on its way out shows no mark any more. Returns what cannot be ended. An
/// error says that nobody knows what is left.
pub fn end_all(
    ladder: Ladder,
    cgroup: Option<&Cgroup>,
    mut find: impl FnMut() -> io::Result<Vec<Process>>,
) -> io::Result<Vec<Process>> {
    let mut asked: BTreeSet<(u32, StartTime)> = BTreeSet::new();
    let mut left: Vec<Process> = Vec::new();
    let mut look = |left: &mut Vec<Process>| -> io::Result<()> {
        let found = find().map(|found| {
            for process in found {
                if !left.iter().any(|known| (known.pid, known.started) == (process.pid, process.started)) {
                    left.push(process);
                }
            }
        });
        left.retain(|process| {
            let is_alive = process.is_alive();
            if !is_alive {
                process.reap();
            }
            is_alive
        });
        found
    };
    let polite_until = Instant::now() + ladder.polite;
    let mut looked = look(&mut left);
    while (looked.is_err() || !left.is_empty()) && Instant::now() < polite_until {
        for process in &left {
            if asked.insert((process.pid, process.started)) {
                // A stopped process acts on SIGTERM only when it is continued.
                let _ = process.signal(Signal::TERM).and_then(|()| process.signal(Signal::CONT));
            }
        }
        pause_until_ended(&left, polite_until, looked.is_err());
        looked = look(&mut left);
    }
    let forced_until = Instant::now() + ladder.forced;
    while looked.is_err() || !left.is_empty() {
        if let Some(cgroup) = cgroup {
            cgroup.kill();
        }
        for process in &left {
            // What we may not kill shows as left.
            let _ = process.signal(Signal::KILL);
        }
        pause_until_ended(&left, forced_until.min(Instant::now() + Duration::from_millis(100)), looked.is_err());
        looked = look(&mut left);
        if Instant::now() >= forced_until {
            break;
        }
    }
    looked.map(|()| left)
}

/// Waits for the end of these; for a moment only if there may be others that nobody could see.
fn pause_until_ended(processes: &[Process], deadline: Instant, is_incomplete: bool) {
    let soon = Instant::now() + Duration::from_millis(20);
    wait_for_all(processes, if is_incomplete { deadline.min(soon) } else { deadline });
    if is_incomplete {
        std::thread::sleep(deadline.min(soon).saturating_duration_since(Instant::now()));
    }
}

/// Waits until all have ended or the deadline passes; reaps those that are children of ours.
fn wait_for_all(processes: &[Process], deadline: Instant) {
    let mut left: Vec<&Process> = processes.iter().collect();
    while !left.is_empty() {
        if !wait_for_any(&left, deadline.saturating_duration_since(Instant::now())) {
            return;
        }
        left.retain(|process| {
            let is_alive = process.is_alive();
            if !is_alive {
                process.reap();
            }
            is_alive
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, mark: &str) -> Process {
        Launch {
            program: OsStr::new("/bin/sh"),
            called: None,
            arguments: vec!["-c".into(), script.into()],
            directory: None,
            environment: BTreeMap::from([
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("CARDEA_OP".into(), mark.to_owned()),
            ]),
            input: None,
            output: None,
            errors: None,
            cgroup: None,
        }
        .spawn()
        .unwrap()
    }

    fn marked(mark: &str) -> Marks<'static> {
        Marks { environment: vec![format!("CARDEA_OP={mark}")], ..Marks::default() }
    }

    #[test]
    fn a_process_that_may_not_be_looked_at_is_told_from_what_else_fails() {
        let cause = io::Error::from(io::ErrorKind::PermissionDenied);
        let unreadable = io::Error::new(cause.kind(), Unreadable { pid: 7, cause });
        assert!(is_unreadable(&unreadable));
        assert_eq!(unreadable.to_string(), "process 7 cannot be looked at: permission denied");
        assert!(!is_unreadable(&io::Error::from(io::ErrorKind::PermissionDenied)));
        assert!(!is_unreadable(&io::Error::from_raw_os_error(24)));
    }

    /// A mark that no other test and no other run uses.
    fn mark(name: &str) -> String {
        format!("{name}.{}", std::process::id())
    }

    const LADDER: Ladder = Ladder { polite: Duration::from_secs(20), forced: Duration::from_secs(20) };

    fn wait_until(mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < deadline, "it never came true");
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_name_of_a_process_cannot_confuse_its_fields() {
        let line = b"42 (a) S 1 (b) R 7 42 41 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat, Stat { state: b'R', session: 41, flags: 0, started: StartTime(12345), has_environment: true });
        let reaped = Stat::parse(b"42 (sh) X 0 -1 -1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345").unwrap();
        assert_eq!((reaped.state, reaped.session), (b'X', 0));
        assert_eq!(Stat::parse(b"42 (a"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn how_a_process_ended_is_told_once() {
        let process = shell("exit 3", &mark("ended"));
        assert!(process.wait(Duration::from_secs(20)));
        assert_eq!(process.reap(), Some(Exit::Status(3)));
        assert_eq!(process.reap(), None);
        assert!(Process::open_exact(process.pid(), process.started()).unwrap().is_none());
    }

    #[test]
    fn a_recycled_pid_is_not_taken_for_the_process() {
        let process = shell("exec sleep 600", &mark("recycled"));
        let another = StartTime(process.started().0 + 1);
        assert!(Process::open_exact(process.pid(), another).unwrap().is_none());
        process.signal(Signal::KILL).unwrap();
        assert!(process.wait(Duration::from_secs(20)));
        assert_eq!(process.reap(), Some(Exit::Signal(libc::SIGKILL)));
    }

    #[test]
    fn a_process_that_left_its_session_is_found_by_its_mark() {
        let mark = mark("setsid");
        let process = shell("setsid sleep 600 & sleep 600 & exit 0", &mark);
        assert!(process.wait(Duration::from_secs(20)));
        process.reap();
        wait_until(|| find_marked(&marked(&mark)).unwrap().len() == 2);
        assert!(end_all(LADDER, None, || find_marked(&marked(&mark))).unwrap().is_empty());
    }

    #[test]
    fn a_process_that_forgot_its_mark_is_found_by_its_session() {
        let mark = mark("session");
        let process = shell("env -i sleep 600 & exit 0", &mark);
        assert!(process.wait(Duration::from_secs(20)));
        process.reap();
        let marks = Marks { session: Some((process.pid(), process.started())), ..marked(&mark) };
        wait_until(|| find_marked(&marks).unwrap().len() == 1);
        assert!(end_all(LADDER, None, || find_marked(&marks)).unwrap().is_empty());
    }

    #[test]
    fn what_ignores_the_polite_request_is_killed() {
        let mark = mark("stubborn");
        let process = shell("trap '' TERM; while :; do sleep 600; done", &mark);
        wait_until(|| find_marked(&marked(&mark)).unwrap().len() == 2);
        let ladder = Ladder { polite: Duration::from_millis(30), ..LADDER };
        assert!(end_all(ladder, None, || find_marked(&marked(&mark))).unwrap().is_empty());
        assert!(!process.is_alive());
    }

    #[test]
    fn nothing_is_marked_without_a_mark() {
        assert!(find_marked(&Marks::default()).unwrap().is_empty());
    }

    #[test]
    fn only_threads_of_the_kernel_are_taken_for_such() {
        let line = |flags: u64| format!("42 (x) S 2 42 42 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0");
        let of = |flags| Stat::parse(line(flags).as_bytes()).unwrap();
        assert!(of(0x0020_8040).is_kernel_thread());
        assert!(!of(0x0040_0100).is_kernel_thread(), "a child of process 2 in a namespace of its own is a program");
    }

    #[test]
    fn a_mark_that_is_no_genuine_one_is_none() {
        let mark = mark("forged");
        let process = shell("exec sleep 600", &mark);
        let refused = |environment: &Environment| {
            assert_eq!(environment.value("CARDEA_OP"), Some(mark.as_str()));
            false
        };
        let marks = Marks { is_genuine: Some(&refused), ..marked(&mark) };
        assert!(find_marked(&marks).unwrap().is_empty());
        let accepted = |_: &Environment| true;
        let marks = Marks { is_genuine: Some(&accepted), ..marked(&mark) };
        assert!(end_all(LADDER, None, || find_marked(&marks)).unwrap().is_empty());
        assert!(!process.is_alive());
    }

    #[test]
    fn what_cannot_be_listed_is_never_taken_for_ended() {
        let ladder = Ladder { polite: Duration::ZERO, forced: Duration::from_millis(50) };
        let blind = || Err(io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(end_all(ladder, None, blind).unwrap_err().raw_os_error(), Some(libc::EMFILE));
        let mut tries = 0;
        let at_last = || {
            tries += 1;
            if tries < 3 { Err(io::Error::from_raw_os_error(libc::EMFILE)) } else { Ok(Vec::new()) }
        };
        assert!(end_all(LADDER, None, at_last).unwrap().is_empty());
    }

    #[test]
    fn a_process_that_vanished_is_absence_and_any_other_error_is_not() {
        for gone in [libc::ESRCH, libc::ENOENT] {
            assert!(is_gone(&io::Error::from_raw_os_error(gone)));
        }
        for unknown in [libc::EMFILE, libc::ENFILE, libc::EACCES, libc::EPERM, libc::ENOMEM, libc::EIO] {
            assert!(!is_gone(&io::Error::from_raw_os_error(unknown)), "{unknown}");
        }
    }

    #[test]
    fn a_child_gets_none_of_the_daemons_urgency() {
        let folder = tempfile::tempdir().unwrap();
        let shown = folder.path().join("shown");
        let script = format!(
            "{{ umask; cat /proc/self/oom_score_adj; grep -E 'realtime priority|nice priority' /proc/self/limits; }} > {}.new; mv {0}.new {0}",
            shown.display()
        );
        let process = shell(&script, &mark("ordinary"));
        assert!(process.wait(Duration::from_secs(20)));
        process.reap();
        let text = fs::read_to_string(shown).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines[1]), ("0022", "0"), "{text}");
        for limit in &lines[2..] {
            let words: Vec<&str> = limit.split_ascii_whitespace().collect();
            assert!(words.contains(&"0"), "{text}");
        }
    }

    #[test]
    fn a_missing_program_is_an_error_at_once() {
        let launch = Launch {
            program: OsStr::new("/nowhere/at/all"),
            called: None,
            arguments: Vec::new(),
            directory: None,
            environment: BTreeMap::new(),
            input: None,
            output: None,
            errors: None,
            cgroup: None,
        };
        assert_eq!(launch.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
