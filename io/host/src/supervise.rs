//! What keeps the worker running, and what remembers how orphans ended?
//!
//! `cardea daemon` is this: single-threaded, no network, no state. It starts the worker and starts it again at once
//! when it dies; only a worker that dies again and again is held back a little. As child subreaper it inherits what
//! the worker and its agents leave behind, and notes each end in `RUNTIME_DIR/exits/PID.STARTTIME`, where the next
//! worker looks it up: a service or an agent outlives the worker that started it, and its exit status does too.
//!
//! In: SIGTERM and SIGINT (passed on; the worker's end is then ours), SIGHUP and SIGUSR1 (the worker is replaced),
//! SIGCHLD. Out: the worker's last exit status.
//! Not here: what the worker does, `exec` of a newer binary.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};

use crate::process::{Exit, Process, StartTime, reset_signals};

/// A worker that exits with this status wants to be started again at once (it handed over). One that does so again and
/// again unasked is held back as any other.
pub const EXIT_RESTART: u8 = 75;
/// A worker that exits with this status would fail in the same way again (configuration, state): it is not restarted.
pub const EXIT_FINAL: u8 = 78;

/// A worker that lived less than this died quickly.
const QUICK: Duration = Duration::from_secs(1);
/// So many quick deaths in a row are forgiven before the worker is held back.
const QUICK_DEATHS_MAX: u32 = 10;
/// The first wait before a restart, doubled each time.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait before a restart.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// How long a worker may take to hand over before it is killed, which is safe at any time.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
/// Mode of files that nobody else may read or lock.
const PRIVATE_FILE: u32 = 0o600;
/// Mode of folders that nobody else may enter.
const PRIVATE_FOLDER: u32 = 0o700;
/// How long a lock is waited for whose holder is dead and which anybody could hold.
const STRANGER_MAX: Duration = Duration::from_millis(50);
/// How many exits are remembered.
const EXITS_MAX: usize = 256;

/// Why the supervisor cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// Another supervisor serves the same runtime directory.
    #[error("another daemon (pid {pid}) already runs on {}", .runtime_dir.display())]
    AlreadyRunning {
        /// Its pid; 0 if it does not say.
        pid: u32,
        /// The runtime directory that both would use.
        runtime_dir: PathBuf,
    },
    /// The runtime directory cannot be used.
    #[error("cannot use {}", .path.display())]
    Runtime {
        /// What could not be made or opened.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The system refuses something that a supervisor needs.
    #[error("cannot {attempt}")]
    System {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
}

/// Runs workers until one ends for good, or until SIGTERM or SIGINT have ended the last; returns its exit status.
///
/// A worker ends for good with status 0 or [`EXIT_FINAL`], and the first one also if it gives up at its start; it is
/// restarted after any other end. A worker that a signal killed counts as 128 + signal. Call it before any other thread starts: it blocks signals and waits for them.
pub fn supervise(mut worker: impl FnMut() -> Command, runtime_dir: &Path) -> Result<u8, SuperviseError> {
    let in_runtime = |path: &Path| {
        let path = path.to_owned();
        move |cause| SuperviseError::Runtime { path, cause }
    };
    open_folder(runtime_dir).map_err(in_runtime(runtime_dir))?;
    let lock_path = runtime_dir.join("daemon.lock");
    let lock = match Lock::take(&lock_path).map_err(in_runtime(&lock_path))? {
        Taken::Ours(lock) => lock,
        Taken::Theirs { pid, .. } => {
            return Err(SuperviseError::AlreadyRunning { pid, runtime_dir: runtime_dir.to_owned() });
        }
    };
    let exits_dir = runtime_dir.join("exits");
    let exits = Exits::open(exits_dir.clone()).map_err(in_runtime(&exits_dir))?;
    set_child_subreaper(Some(getpid()))
        .map_err(|cause| SuperviseError::System { attempt: "become the reaper of orphans", cause: cause.into() })?;
    let signals = Signals::block().map_err(|cause| SuperviseError::System { attempt: "wait for signals", cause })?;
    let mut supervisor =
        Supervisor { exits, running: None, is_ending: false, quick_deaths: 0, has_stood: false, start_at: None };
    let status = supervisor.run(&mut worker, &signals);
    drop(lock);
    Ok(status)
}

struct Supervisor {
    exits: Exits,
    running: Option<Worker>,
    /// SIGTERM or SIGINT came: no worker follows.
    is_ending: bool,
    quick_deaths: u32,
    /// A worker got further than its start.
    has_stood: bool,
    /// When the next worker is started, while it is held back.
    start_at: Option<Instant>,
}

struct Worker {
    pid: Pid,
    since: Instant,
    kill_at: Option<Instant>,
}

impl Supervisor {
    fn run(&mut self, worker: &mut impl FnMut() -> Command, signals: &Signals) -> u8 {
        loop {
            let now = Instant::now();
            if self.running.is_none() && self.start_at.is_none_or(|at| at <= now) {
                self.start(worker(), now);
            }
            if let Some(running) = &mut self.running
                && running.kill_at.is_some_and(|at| at <= now)
            {
                running.kill_at = None;
                tracing::warn!("the worker did not hand over within {HAND_OVER_MAX:?}; it is replaced by force");
                tell(running.pid, Signal::KILL);
            }
            let deadline = match &self.running {
                Some(running) => running.kill_at,
                None => self.start_at,
            };
            if let Some(status) = self.on_signal(signals.wait(deadline)) {
                return status;
            }
        }
    }

    fn start(&mut self, mut command: Command, now: Instant) {
        self.start_at = None;
        // SAFETY: between fork and exec only system calls are made: no allocation, no lock.
        unsafe {
            command.pre_exec(|| {
                reset_signals();
                Ok(())
            });
        }
        match command.spawn() {
            Ok(child) => {
                let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                let pid = pid.expect("the kernel gives positive pids");
                self.running = Some(Worker { pid, since: now, kill_at: None });
            }
            Err(error) => {
                tracing::error!("the worker cannot be started: {error}");
                self.start_at = Some(now + BACK_OFF_MAX);
            }
        }
    }

    /// Acts on a signal; returns the exit status if this was the end.
    fn on_signal(&mut self, signal: Option<i32>) -> Option<u8> {
        match signal {
            Some(libc::SIGTERM | libc::SIGINT) => {
                self.is_ending = true;
                match &self.running {
                    Some(worker) => tell(worker.pid, Signal::TERM),
                    None => return Some(0),
                }
            }
            Some(libc::SIGHUP | libc::SIGUSR1) => match &mut self.running {
                Some(worker) if !self.is_ending => {
                    worker.kill_at = Some(Instant::now() + HAND_OVER_MAX);
                    tell(worker.pid, Signal::HUP);
                }
                Some(_) => {}
                None => self.start_at = None,
            },
            // SIGCHLD, or time has passed. Several children may stand behind one signal.
            Some(_) | None => {}
        }
        while let Some(pid) = next_ended() {
            if let Some(status) = self.on_child(pid) {
                return Some(status);
            }
        }
        None
    }

    fn on_child(&mut self, pid: Pid) -> Option<u8> {
        let process = Process::open(pid.as_raw_pid().unsigned_abs()).ok();
        let is_worker = self.running.as_ref().is_some_and(|worker| worker.pid == pid);
        if !is_worker && let Some(process) = &process {
            // Noted before it is reaped: from then on its pid may belong to another.
            if let Some(exit) = peek_exit(pid) {
                self.exits.note(process.pid(), process.started(), exit);
            }
        }
        let exit = reap(pid)?;
        let worker = self.running.take_if(|worker| worker.pid == pid)?;
        let status = match exit {
            Exit::Status(status) => u8::try_from(status).unwrap_or(u8::MAX),
            Exit::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        };
        let lived = worker.since.elapsed();
        if self.is_ending || matches!(status, 0 | EXIT_FINAL) {
            return Some(status);
        }
        // A first worker that gives up by itself has told its operator why; whoever started us may try again.
        let gave_up = matches!(exit, Exit::Status(_)) && status != EXIT_RESTART && lived < QUICK;
        if gave_up && !self.has_stood {
            return Some(status);
        }
        self.has_stood = true;
        let handed_over = status == EXIT_RESTART;
        if !handed_over {
            tracing::warn!("the worker {exit} after {lived:.1?}; it is started again");
        }
        // Whoever was told to hand over has done so: nothing is wrong with the next one.
        let was_told = handed_over && worker.kill_at.is_some();
        self.quick_deaths = if is_quick(exit, lived) && !was_told { self.quick_deaths + 1 } else { 0 };
        if self.quick_deaths == QUICK_DEATHS_MAX {
            tracing::error!(
                "the worker ended {QUICK_DEATHS_MAX} times soon after its start; the next ones are held back"
            );
        }
        self.start_at = back_off(self.quick_deaths).map(|wait| Instant::now() + wait);
        None
    }
}

/// Did it die of itself, soon after its start? SIGKILL comes from outside and says nothing about the next one, which is
/// needed at once: a node that is silent for long is fenced.
fn is_quick(exit: Exit, lived: Duration) -> bool {
    lived < QUICK && exit != Exit::Signal(libc::SIGKILL)
}

/// How long the next worker is held back after so many quick deaths in a row.
fn back_off(quick_deaths: u32) -> Option<Duration> {
    let doublings = quick_deaths.checked_sub(QUICK_DEATHS_MAX)?;
    Some(BACK_OFF_MIN.saturating_mul(1 << doublings.min(8)).min(BACK_OFF_MAX))
}

/// A child that is gone already needs no signal.
fn tell(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, signal);
}

/// A child that has ended and is not reaped yet.
fn next_ended() -> Option<Pid> {
    let mut about = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `about` is valid for writes; zeroed memory is a valid siginfo_t, also if nothing is written to it.
    let about = unsafe {
        if libc::waitid(libc::P_ALL, 0, about.as_mut_ptr(), libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) != 0 {
            return None;
        }
        about.assume_init()
    };
    // SAFETY: after waitid the union holds the fields of a child (or zeros).
    Pid::from_raw(unsafe { about.si_pid() })
}

/// How the ended child ended, without reaping it.
fn peek_exit(pid: Pid) -> Option<Exit> {
    wait_for(pid, libc::WNOWAIT)
}

fn reap(pid: Pid) -> Option<Exit> {
    wait_for(pid, 0)
}

fn wait_for(pid: Pid, option: libc::c_int) -> Option<Exit> {
    let mut about = MaybeUninit::<libc::siginfo_t>::zeroed();
    let id = libc::id_t::try_from(pid.as_raw_pid()).ok()?;
    // SAFETY: as in `next_ended`.
    let about = unsafe {
        if libc::waitid(libc::P_PID, id, about.as_mut_ptr(), libc::WEXITED | libc::WNOHANG | option) != 0 {
            return None;
        }
        about.assume_init()
    };
    // SAFETY: after waitid the union holds the fields of a child (or zeros).
    let (pid, status) = unsafe { (about.si_pid(), about.si_status()) };
    match about.si_code {
        _ if pid == 0 => None,
        libc::CLD_EXITED => Some(Exit::Status(status)),
        _ => Some(Exit::Signal(status)),
    }
}

/// The signals that the supervisor lives by, blocked so that none is lost.
struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    fn block() -> io::Result<Signals> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set that the other calls add to; the old mask is not asked for.
        let (set, answer) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGCHLD] {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            let set = set.assume_init();
            (set, libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))
        };
        if answer == 0 { Ok(Signals { set }) } else { Err(io::Error::from_raw_os_error(answer)) }
    }

    /// The next signal; `None` when the deadline passes before one.
    fn wait(&self, deadline: Option<Instant>) -> Option<i32> {
        // An hour without a signal is an extra turn of the loop, which is harmless.
        let left = deadline.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(left.subsec_nanos().cast_signed()),
        };
        // SAFETY: set and timeout are live and initialised; details about the signal are not asked for.
        let signal = unsafe { libc::sigtimedwait(&self.set, std::ptr::null_mut(), &timeout) };
        (signal > 0).then_some(signal)
    }
}

/// The notes on how processes ended.
struct Exits {
    folder: PathBuf,
    /// The names of the notes, oldest first.
    names: VecDeque<String>,
}

impl Exits {
    fn open(folder: PathBuf) -> io::Result<Exits> {
        private_folder(&folder)?;
        let mut found: Vec<(std::time::SystemTime, String)> = fs::read_dir(&folder)?
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.file_name().into_string().ok()?)))
            .collect();
        found.sort();
        Ok(Exits { folder, names: found.into_iter().map(|(_, name)| name).collect() })
    }

    fn note(&mut self, pid: u32, started: StartTime, exit: Exit) {
        let name = format!("{pid}.{}", started.0);
        let text = match exit {
            Exit::Status(status) => format!("exit {status}\n"),
            Exit::Signal(signal) => format!("signal {signal}\n"),
        };
        if let Err(error) = replace_private_file(&self.folder.join(&name), text.as_bytes()) {
            // Whoever looks for it finds the process gone, and the reason missing.
            tracing::warn!("cannot note how process {pid} ended: {error}");
            return;
        }
        self.names.push_back(name);
        while self.names.len() > EXITS_MAX {
            if let Some(oldest) = self.names.pop_front() {
                let _ = fs::remove_file(self.folder.join(oldest));
            }
        }
    }
}

/// How a process ended that was not our child, if the supervisor noted it.
pub fn noted_exit(runtime_dir: &Path, pid: u32, started: StartTime) -> Option<Exit> {
    let text = fs::read_to_string(runtime_dir.join("exits").join(format!("{pid}.{}", started.0))).ok()?;
    let (kind, number) = text.trim().split_once(' ')?;
    let number = number.parse().ok()?;
    match kind {
        "exit" => Some(Exit::Status(number)),
        "signal" => Some(Exit::Signal(number)),
        _ => None,
    }
}

/// Replaces a file as a whole: a reader sees the old content or the new one.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    fs::write(&temporary, content)?;
    fs::rename(&temporary, path)
}

/// Replaces a file as a whole by one that its owner alone may read.
pub fn replace_private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE_FILE).open(&temporary)?;
    // One that was left there keeps its mode when it is opened.
    file.set_permissions(fs::Permissions::from_mode(PRIVATE_FILE))?;
    file.write_all(content)?;
    fs::rename(&temporary, path)
}

/// Makes a folder that everybody may enter, whatever the mask says; one that is there stays as it is.
pub fn open_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Makes a folder that its owner alone may enter, whatever it allowed before.
pub fn private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(PRIVATE_FOLDER))
}

/// Held by the one worker of a runtime directory for as long as it lives.
#[derive(Debug)]
pub struct WorkerLock {
    _lock: Lock,
}

/// Makes this process the only worker on `runtime_dir`.
///
/// A worker that is still there (its supervisor was killed and started anew) is asked to hand over by SIGHUP, and
/// killed if it does not within `patience`; what it ran goes on.
pub fn lock_worker(runtime_dir: &Path, patience: Duration) -> Result<WorkerLock, SuperviseError> {
    let path = runtime_dir.join("worker.lock");
    let broken = |cause| SuperviseError::Runtime { path: path.clone(), cause };
    fs::create_dir_all(runtime_dir).map_err(broken)?;
    let mut asked = None;
    let forced_at = Instant::now() + patience;
    loop {
        let (pid, started) = match Lock::take(&path).map_err(broken)? {
            Taken::Ours(lock) => return Ok(WorkerLock { _lock: lock }),
            Taken::Theirs { pid, started } => (pid, started),
        };
        let Some(other) = Process::open_exact(pid, started).map_err(broken)? else {
            // It has taken the lock and not yet said who it is, or has just ended: ask again.
            if Instant::now() >= forced_at + HAND_OVER_MAX {
                return Err(SuperviseError::AlreadyRunning { pid, runtime_dir: runtime_dir.to_owned() });
            }
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        let is_late = Instant::now() >= forced_at;
        if asked != Some((pid, is_late)) {
            asked = Some((pid, is_late));
            let attempt = "end the worker that was here before";
            let signal = if is_late { Signal::KILL } else { Signal::HUP };
            other.signal(signal).map_err(|cause| SuperviseError::System { attempt, cause })?;
        }
        let limit = if is_late { HAND_OVER_MAX } else { forced_at.saturating_duration_since(Instant::now()) };
        if !other.wait(limit) && is_late {
            return Err(SuperviseError::AlreadyRunning { pid, runtime_dir: runtime_dir.to_owned() });
        }
    }
}

/// A lock that ends with the process that holds it, on a file that says who that is.
#[derive(Debug)]
struct Lock {
    _file: File,
}

enum Taken {
    Ours(Lock),
    Theirs { pid: u32, started: StartTime },
}

impl Lock {
    /// Takes the lock, or says who has it.
    ///
    /// A file that others may open, as older versions made it, can be locked by any user of the machine. Such a lock
    /// counts only while the process that the file names lives; else the file is replaced.
    fn take(path: &Path) -> io::Result<Taken> {
        let since = Instant::now();
        loop {
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(PRIVATE_FILE).open(path)?;
            let about = file.metadata()?;
            let is_open_to_others = about.mode() & 0o077 != 0;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if !leads_to(path, &about)? => {}
                Ok(()) if is_open_to_others => fs::remove_file(path)?,
                Ok(()) => {
                    let started = Process::open(std::process::id())?.started();
                    file.set_len(0)?;
                    file.rewind()?;
                    file.write_all(format!("{} {}\n", std::process::id(), started.0).as_bytes())?;
                    return Ok(Taken::Ours(Lock { _file: file }));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let mut text = String::new();
                    file.read_to_string(&mut text)?;
                    let numbers = text.trim().split_once(' ');
                    let (pid, started) =
                        numbers.and_then(|(pid, at)| Some((pid.parse().ok()?, at.parse().ok()?))).unwrap_or((0, 0));
                    let started = StartTime(started);
                    let is_strangers =
                        is_open_to_others && Process::open_exact(pid, started)?.is_none_or(|holder| !holder.is_alive());
                    if !is_strangers {
                        return Ok(Taken::Theirs { pid, started });
                    }
                    if since.elapsed() < STRANGER_MAX {
                        std::thread::sleep(Duration::from_millis(1));
                    } else if leads_to(path, &about)? {
                        tracing::warn!("{} was locked by a stranger; it is replaced", path.display());
                        fs::remove_file(path)?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Does the path still lead to this file?
fn leads_to(path: &Path, about: &fs::Metadata) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(now) => Ok((now.dev(), now.ino()) == (about.dev(), about.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_held_back_only_after_many_quick_deaths() {
        assert_eq!(back_off(0), None);
        assert_eq!(back_off(9), None);
        assert_eq!(back_off(10), Some(Duration::from_millis(100)));
        assert_eq!(back_off(12), Some(Duration::from_millis(400)));
        assert_eq!(back_off(u32::MAX), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_worker_that_is_killed_from_outside_is_never_held_back() {
        let soon = Duration::from_millis(500);
        assert!(!is_quick(Exit::Signal(libc::SIGKILL), soon));
        assert!(is_quick(Exit::Signal(libc::SIGABRT), soon) && is_quick(Exit::Status(1), soon));
        assert!(!is_quick(Exit::Signal(libc::SIGABRT), Duration::from_secs(2)));
    }

    #[test]
    fn the_next_worker_learns_how_an_orphan_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut exits = Exits::open(folder.path().join("exits")).unwrap();
        exits.note(7, StartTime(9), Exit::Status(3));
        exits.note(8, StartTime(9), Exit::Signal(9));
        assert_eq!(noted_exit(folder.path(), 7, StartTime(9)), Some(Exit::Status(3)));
        assert_eq!(noted_exit(folder.path(), 8, StartTime(9)), Some(Exit::Signal(9)));
        assert_eq!(noted_exit(folder.path(), 7, StartTime(10)), None, "another process of this number");
    }

    #[test]
    fn old_exits_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut exits = Exits::open(folder.path().join("exits")).unwrap();
        for pid in 0..300 {
            exits.note(pid, StartTime(1), Exit::Status(0));
        }
        assert_eq!(fs::read_dir(folder.path().join("exits")).unwrap().count(), EXITS_MAX);
        assert_eq!(Exits::open(folder.path().join("exits")).unwrap().names.len(), EXITS_MAX);
        assert_eq!(noted_exit(folder.path(), 0, StartTime(1)), None);
    }

    #[test]
    fn a_second_holder_learns_who_is_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let Taken::Ours(lock) = Lock::take(&path).unwrap() else { panic!("nobody else has it") };
        let Taken::Theirs { pid, .. } = Lock::take(&path).unwrap() else { panic!("it is taken") };
        assert_eq!(pid, std::process::id());
        drop(lock);
        assert!(matches!(Lock::take(&path).unwrap(), Taken::Ours(_)));
    }

    #[test]
    fn nobody_else_may_open_what_a_daemon_keeps_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let _lock = Lock::take(&path).unwrap();
        let mut exits = Exits::open(folder.path().join("exits")).unwrap();
        exits.note(7, StartTime(9), Exit::Status(3));
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&folder.path().join("exits")), 0o700);
        assert_eq!(mode(&folder.path().join("exits/7.9")), 0o600);
    }

    #[test]
    fn a_lock_that_a_stranger_holds_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        // As an older version left it behind: anybody may open it, and its last holder is dead.
        fs::write(&path, "1 1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let stranger = File::open(&path).unwrap();
        flock(&stranger, FlockOperation::NonBlockingLockExclusive).unwrap();
        let Taken::Ours(lock) = Lock::take(&path).unwrap() else { panic!("a stranger's lock counts") };
        assert!(matches!(Lock::take(&path).unwrap(), Taken::Theirs { .. }), "the new lock is a lock");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        drop(lock);
        // One that lives is asked as ever.
        let own = Process::open(std::process::id()).unwrap();
        fs::write(&path, format!("{} {}\n", own.pid(), own.started().0)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let holder = File::open(&path).unwrap();
        flock(&holder, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(matches!(Lock::take(&path).unwrap(), Taken::Theirs { .. }));
    }
}
