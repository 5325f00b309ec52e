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

/// A process, held so that no other can be mistaken for it.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    started: StartTime,
    descriptor: OwnedFd,
}

/// When a process was started, in clock ticks since boot: with the pid it names a process once and for all (of a boot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

    /// Holds the process of this pid and start time, if it is not reaped yet.
    pub fn open_exact(pid: u32, started: StartTime) -> Option<Process> {
        Process::open(pid).ok().filter(|process| process.started == started)
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
        let entrance = self.cgroup.and_then(Cgroup::entrance);
        // SAFETY: between fork and exec only system calls are made (signals, setsid, write on an open descriptor): no
        // allocation, no lock.
        unsafe {
            command.pre_exec(move || {
                reset_signals();
                rustix::process::setsid()?;
                if let Some(entrance) = &entrance {
                    // Outside its cgroup the process is still found by mark and session.
                    let _ = rustix::io::write(entrance, b"0");
                }
                Ok(())
            });
        }
        let child = command.spawn()?;
        // A child keeps its pid until it is reaped, and nobody but us reaps it.
        Process::open(child.id())
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
    parent: u32,
    session: u32,
    started: StartTime,
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
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: StartTime(fields.get(19)?.parse().ok()?),
        })
    }

    fn has_ended(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// What makes a process ours: any one of these is enough.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// It has all of these entries (`NAME=value`) in the environment that it was started with. None: no process has.
    pub environment: Vec<String>,
    /// It belongs to the session of this process, which may have ended meanwhile.
    pub session: Option<(u32, StartTime)>,
    /// It is one of these: the members of a cgroup.
    pub members: Vec<u32>,
}

/// Every process that bears one of the marks and has not ended, in the order of their pids.
///
/// A process that a marked session leader has in its session is found as well, whatever its own environment says.
pub fn find_marked(marks: &Marks) -> Vec<Process> {
    let own = std::process::id();
    let mut seen: BTreeMap<u32, (Stat, bool)> = BTreeMap::new();
    for pid in all_pids() {
        let Ok(stat) = Stat::read(pid) else { continue };
        // Kernel threads (children of 2) have neither environment nor session of ours.
        if pid != own && stat.parent != 2 {
            let is_marked = !stat.has_ended() && has_environment(pid, &marks.environment);
            seen.insert(pid, (stat, is_marked));
        }
    }
    let mut sessions: BTreeSet<u32> =
        seen.iter().filter(|(pid, (stat, marked))| *marked && stat.session == **pid).map(|(pid, _)| *pid).collect();
    if let Some((leader, started)) = marks.session {
        // A pid is not given anew while a session of that number lives: another start time means another session.
        if seen.get(&leader).is_none_or(|(stat, _)| stat.started == started) {
            sessions.insert(leader);
        }
    }
    seen.iter()
        .filter(|(pid, (stat, marked))| {
            !stat.has_ended() && (*marked || sessions.contains(&stat.session) || marks.members.contains(pid))
        })
        .filter_map(|(pid, (stat, _))| Process::open_exact(*pid, stat.started))
        .collect()
}

fn all_pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn has_environment(pid: u32, entries: &[String]) -> bool {
    if entries.is_empty() {
        return false;
    }
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let present: BTreeSet<&[u8]> = environment.split(|b| *b == 0).collect();
    entries.iter().all(|entry| present.contains(entry.as_bytes()))
}

/// The command line of a process; empty if it has none or has ended.
pub fn command_line(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|b| *b == 0).filter(|word| !word.is_empty()).map(|w| String::from_utf8_lossy(w).into_owned()).collect()
}

/// The session that a process belongs to.
pub fn session_of(pid: u32) -> Option<u32> {
    Stat::read(pid).ok().map(|stat| stat.session)
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
/// `find` is asked anew after every round, because what is ended may fork meanwhile. Returns what cannot be ended.
pub fn end_all(ladder: Ladder, cgroup: Option<&Cgroup>, mut find: impl FnMut() -> Vec<Process>) -> Vec<Process> {
    let mut asked: BTreeSet<(u32, StartTime)> = BTreeSet::new();
    let polite_until = Instant::now() + ladder.polite;
    let mut left = find();
    while !left.is_empty() && Instant::now() < polite_until {
        for process in &left {
            if asked.insert((process.pid, process.started)) {
                // A stopped process acts on SIGTERM only when it is continued.
                let _ = process.signal(Signal::TERM).and_then(|()| process.signal(Signal::CONT));
            }
        }
        wait_for_all(&left, polite_until);
        left = find();
    }
    let forced_until = Instant::now() + ladder.forced;
    while !left.is_empty() {
        if let Some(cgroup) = cgroup {
            cgroup.kill();
        }
        for process in &left {
            // What we may not kill shows as left.
            let _ = process.signal(Signal::KILL);
        }
        wait_for_all(&left, forced_until.min(Instant::now() + Duration::from_millis(100)));
        left = find();
        if Instant::now() >= forced_until {
            break;
        }
    }
    left
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

    fn marked(mark: &str) -> Marks {
        Marks { environment: vec![format!("CARDEA_OP={mark}")], ..Marks::default() }
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
        assert_eq!(stat, Stat { state: b'R', parent: 7, session: 41, started: StartTime(12345) });
        assert_eq!(Stat::parse(b"42 (a"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn how_a_process_ended_is_told_once() {
        let process = shell("exit 3", &mark("ended"));
        assert!(process.wait(Duration::from_secs(20)));
        assert_eq!(process.reap(), Some(Exit::Status(3)));
        assert_eq!(process.reap(), None);
        assert!(Process::open_exact(process.pid(), process.started()).is_none());
    }

    #[test]
    fn a_recycled_pid_is_not_taken_for_the_process() {
        let process = shell("exec sleep 600", &mark("recycled"));
        let another = StartTime(process.started().0 + 1);
        assert!(Process::open_exact(process.pid(), another).is_none());
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
        wait_until(|| find_marked(&marked(&mark)).len() == 2);
        assert!(end_all(LADDER, None, || find_marked(&marked(&mark))).is_empty());
    }

    #[test]
    fn a_process_that_forgot_its_mark_is_found_by_its_session() {
        let mark = mark("session");
        let process = shell("env -i sleep 600 & exit 0", &mark);
        assert!(process.wait(Duration::from_secs(20)));
        process.reap();
        let marks = Marks { session: Some((process.pid(), process.started())), ..marked(&mark) };
        wait_until(|| find_marked(&marks).len() == 1);
        assert!(end_all(LADDER, None, || find_marked(&marks)).is_empty());
    }

    #[test]
    fn what_ignores_the_polite_request_is_killed() {
        let mark = mark("stubborn");
        let process = shell("trap '' TERM; while :; do sleep 600; done", &mark);
        wait_until(|| find_marked(&marked(&mark)).len() == 2);
        let ladder = Ladder { polite: Duration::from_millis(30), ..LADDER };
        assert!(end_all(ladder, None, || find_marked(&marked(&mark))).is_empty());
        assert!(!process.is_alive());
    }

    #[test]
    fn nothing_is_marked_without_a_mark() {
        assert!(find_marked(&Marks::default()).is_empty());
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
