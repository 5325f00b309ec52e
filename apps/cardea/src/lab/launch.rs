//! How does a lab begin, and how does it end without a trace? The process that the user started makes the folder and
//! the namespaces, starts the hub in them, and removes the folder when the hub is dead.
//!
//! It must have a single thread until the hub runs: a user namespace is refused to more.
//! Not here: what the hub does (`hub.rs`).

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use host::namespace::NamespaceError;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::disk::{self, Disk};
use super::folder::{self, Folder, FolderError};
use super::hub::{Orders, Progress};
use super::layout::Layout;
use super::protocol::{self, Question};
use crate::demo;

/// Makes and locks the folder of a lab; sweeps what killed labs left beside it.
pub fn make_folder(path: &Path, volatile: bool) -> anyhow::Result<Folder> {
    folder::sweep_beside(path);
    let folder = Folder::create(path)?;
    let file_system = disk::file_system(folder.path())?;
    if disk::is_volatile(&file_system) && !volatile {
        folder.remove()?;
        return Err(FolderError::Volatile(path.to_owned(), file_system).into());
    }
    Ok(folder)
}

/// Starts a lab that goes on after this process; `tell` hears of every step.
pub fn up(
    folder: Folder,
    layout: Layout,
    daemon: Option<Vec<String>>,
    bring_up: bool,
    tell: &mut dyn FnMut(&str),
) -> anyhow::Result<Disk> {
    let signals = Signals::take()?;
    let dir = folder.path().to_owned();
    let orders = Orders { dir, layout, daemon, bring_up, demo: None, dies_with_parent: false };
    let mut hub = match start(&orders, &folder, Stdio::piped()) {
        Ok(hub) => hub,
        Err(error) => return Err(clean_up(folder, error)),
    };
    let stdout = hub.stdout.take().expect("stdout is a pipe");
    let pipe = File::from(std::os::fd::OwnedFd::from(stdout));
    let mut lines = BufReader::new(&pipe);
    let failure = loop {
        if lines.buffer().is_empty()
            && let Some(signal) = signals.wait_for_any_or(&pipe)?
        {
            break format!("stopped by {signal}");
        }
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            break "the hub of the lab ended".to_owned();
        }
        match serde_json::from_str(&line) {
            Ok(Progress::Done(step)) => tell(&step),
            Ok(Progress::Ready(disk)) => return Ok(disk),
            Ok(Progress::Failed(reason)) => break reason,
            Err(_) => tell(line.trim_end()),
        }
    };
    let _ = hub.kill();
    hub.wait()?;
    Err(clean_up(folder, anyhow::anyhow!(failure)))
}

/// Runs the demo in a lab of its own; returns its exit status. Nothing is left behind unless it is to be kept.
pub fn demo(folder: Folder, layout: Layout, options: demo::Options) -> anyhow::Result<i32> {
    let signals = Signals::take()?;
    let keep = options.keep;
    let dir = folder.path().to_owned();
    let orders =
        Orders { dir: dir.clone(), layout, daemon: None, bring_up: true, demo: Some(options), dies_with_parent: !keep };
    let mut hub = match start(&orders, &folder, Stdio::inherit()) {
        Ok(hub) => hub,
        Err(error) => return Err(clean_up(folder, error)),
    };
    let pidfd = rustix::process::pidfd_open(Pid::from_child(&hub), PidfdFlags::empty())?;
    let asked = if keep { Some(ask_outcome(&dir, &mut hub)?) } else { None };
    let exit_status = loop {
        let watched = asked.as_ref().map_or(PollFd::new(&pidfd, PollFlags::IN), |s| PollFd::new(s, PollFlags::IN));
        let mut fds = [PollFd::new(&signals.pipe, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN), watched];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if !fds[0].revents().is_empty() {
            let _ = hub.kill();
            hub.wait()?;
            break 130;
        }
        if !fds[1].revents().is_empty() {
            break hub.wait()?.code().unwrap_or(1);
        }
        if let Some(stream) = &asked
            && !fds[2].revents().is_empty()
        {
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            let answer: protocol::Answer = serde_json::from_str(&line)?;
            return Ok(answer.exit_status.unwrap_or(1));
        }
    };
    folder.remove()?;
    Ok(exit_status)
}

/// Asks the hub for the demo's outcome as soon as it listens; the answer comes at the end.
fn ask_outcome(dir: &Path, hub: &mut Child) -> anyhow::Result<UnixStream> {
    loop {
        if let Ok(stream) = UnixStream::connect(dir.join(protocol::SOCKET)) {
            let line = serde_json::to_string(&Question::Outcome)? + "\n";
            io::Write::write_all(&mut &stream, line.as_bytes())?;
            return Ok(stream);
        }
        if hub.try_wait()?.is_some() {
            bail!("the hub of the lab ended");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn start(orders: &Orders, folder: &Folder, stdout: Stdio) -> anyhow::Result<Child> {
    host::namespace::enter_new().map_err(explain)?;
    let mut command = Command::new("/proc/self/exe");
    let path = folder.path().join("orders.json");
    std::fs::write(&path, serde_json::to_string(orders)?).context("could not write into the lab's folder")?;
    command.arg("lab-hub").arg(path);
    // The hub holds on to the lock through its standard input, for as long as it lives.
    command.stdin(folder.lock()?).stdout(stdout).current_dir("/");
    command.spawn().context("could not start the hub of the lab")
}

fn explain(error: NamespaceError) -> anyhow::Error {
    let again = std::env::args().collect::<Vec<String>>().join(" ");
    match error {
        NamespaceError::Forbidden { setting, cause } => anyhow::anyhow!(
            "this machine forbids user namespaces to ordinary users ({setting}: {cause}); either run it as root:\n  \
             sudo {again}\nor allow them:\n  sudo sysctl -w {}",
            allowing(&setting)
        ),
        other @ NamespaceError::Failed { .. } => anyhow::Error::new(other)
            .context(format!("the lab needs namespaces, which this machine refuses; try as root:\n  sudo {again}\n")),
    }
}

fn allowing(setting: &str) -> String {
    match setting.split_once(" = ") {
        Some((name @ "kernel.unprivileged_userns_clone", _)) => format!("{name}=1"),
        Some((name @ "user.max_user_namespaces", _)) => format!("{name}=10000"),
        Some((name, _)) => format!("{name}=0"),
        None => setting.to_owned(),
    }
}

fn clean_up(folder: Folder, error: anyhow::Error) -> anyhow::Error {
    match folder.remove() {
        Ok(()) => error,
        Err(left) => error.context(left),
    }
}

/// The signals that end a lab, as a pipe that becomes readable.
struct Signals {
    pipe: UnixStream,
}

impl Signals {
    fn take() -> io::Result<Signals> {
        let (pipe, sender) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(Signals { pipe })
    }

    /// Waits until the other descriptor is readable (none) or a signal came (its word).
    fn wait_for_any_or(&self, other: &File) -> io::Result<Option<&'static str>> {
        loop {
            let mut fds = [PollFd::new(&self.pipe, PollFlags::IN), PollFd::new(other, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if !fds[0].revents().is_empty() {
                return Ok(Some("a signal"));
            }
            if !fds[1].revents().is_empty() {
                return Ok(None);
            }
        }
    }
}
