//! What is PID 1 of a node? It furnishes the node, starts the daemon, reaps, and starts the daemon again if it fails.
//!
//! In: `daemon MILLISECONDS` on standard input starts the daemon after that time, which is what the rest of the boot
//! takes; its end means that the hub is gone. Out: `ready` or
//! `error REASON` on standard output, once; the daemon's words go to the node's log.
//! Not here: cables and addresses, which the hub lays before this process exists.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::WaitOptions;
use serde::{Deserialize, Serialize};

/// What the hub tells a node about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inside {
    /// The node's name.
    pub name: String,
    /// Its disk: what is given to the daemon as `--root`.
    pub root: PathBuf,
    /// The fresh boot id.
    pub boot_id: String,
    /// The machine id, the same at every boot.
    pub machine_id: String,
    /// The command line of the daemon.
    pub daemon: Vec<String>,
    /// Where the node's words go.
    pub log: PathBuf,
    /// Where the power switch listens, for fence agents that stand in for others.
    pub power_switch: String,
    /// Files below /run/cardea-lab, by name.
    pub files: BTreeMap<String, String>,
}

/// How long the daemon stays down after it failed, as systemd's RestartSec would say.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// Runs as PID 1 of a node until the hub ends it.
pub fn run(inside: &Inside) -> anyhow::Result<()> {
    let furnished = furnish(inside);
    let mut out = io::stdout();
    match &furnished {
        Ok(()) => writeln!(out, "ready")?,
        Err(error) => writeln!(out, "error {error:#}")?,
    }
    out.flush()?;
    furnished?;
    let log = File::options().create(true).append(true).open(&inside.log).context("could not open the node's log")?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    keep_running(inside)
}

fn furnish(inside: &Inside) -> anyhow::Result<()> {
    host::namespace::mount_proc()?;
    host::namespace::set_hostname(&inside.name)?;
    let run = Path::new("/run");
    if !inside.root.starts_with(run) {
        host::namespace::mount_memory(run)?;
    }
    let own = run.join("cardea-lab");
    fs::create_dir_all(&own)?;
    fs::create_dir_all(run.join("resource-agents"))?;
    fs::create_dir_all(run.join("lock"))?;
    fs::write(own.join("power-switch"), &inside.power_switch)?;
    for (name, text) in &inside.files {
        fs::write(own.join(name), text)?;
    }

    let boot_id = own.join("boot_id");
    fs::write(&boot_id, format!("{}\n", inside.boot_id))?;
    host::namespace::bind(&boot_id, Path::new("/proc/sys/kernel/random/boot_id"))?;
    let machine_id = own.join("machine-id");
    fs::write(&machine_id, format!("{}\n", inside.machine_id))?;
    let target = Path::new("/etc/machine-id");
    if !target.exists() {
        let (upper, work) = (own.join("etc"), own.join("etc-work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        host::namespace::overlay(Path::new("/etc"), &upper, &work)?;
        fs::write(target, "")?;
    }
    host::namespace::bind(&machine_id, target)?;
    hide_cgroups();
    guard_reboot(&own)
}

/// A node that reboots itself must not reboot the machine that the lab runs on: `reboot(2)` ends the PID namespace, but
/// the magic key would reach the kernel.
fn guard_reboot(own: &Path) -> anyhow::Result<()> {
    let trigger = Path::new("/proc/sysrq-trigger");
    if trigger.exists() {
        let blind = own.join("sysrq-trigger");
        fs::write(&blind, "")?;
        host::namespace::bind(&blind, trigger)?;
    }
    Ok(())
}

/// The control groups of the machine are not those of the node: a node that could write them would find there what its
/// neighbours made.
fn hide_cgroups() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        if let (Some(_), Some(path), Some("cgroup" | "cgroup2")) = (words.next(), words.next(), words.next()) {
            // In a user namespace the folder is not writable to begin with, and the kernel may refuse.
            let _ = host::namespace::make_read_only(Path::new(path));
        }
    }
}

fn keep_running(inside: &Inside) -> anyhow::Result<()> {
    let (mut child_ended, ended_sender) = UnixStream::pair()?;
    child_ended.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, ended_sender)?;
    let mut orders = Orders::default();
    let mut daemon: Option<Child> = None;
    let mut start_at: Option<Instant> = None;
    loop {
        let stdin = io::stdin();
        let mut fds = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&child_ended, PollFlags::IN)];
        let left = start_at.map(|at| at.saturating_duration_since(Instant::now()));
        match poll(&mut fds, left.map(Timespec::try_from).transpose()?.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let (has_orders, has_ended) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if has_ended {
            let _ = io::copy(&mut child_ended, &mut io::sink());
            while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                let is_daemon =
                    daemon.as_ref().is_some_and(|child| child.id() == pid.as_raw_nonzero().get().cast_unsigned());
                let is_final = || status.exit_status().is_some_and(stays_down);
                if is_daemon && is_final() {
                    eprintln!("the daemon of {} ended ({status:?}) and stays down", inside.name);
                    daemon = None;
                } else if is_daemon {
                    eprintln!("the daemon of {} ended ({status:?}); it is started again", inside.name);
                    std::thread::sleep(RESTART_PAUSE);
                    daemon = start(inside);
                }
            }
        }
        if has_orders {
            match orders.read(&stdin)? {
                None => return Ok(()),
                Some(Order::StartDaemon { after }) if daemon.is_none() && start_at.is_none() => {
                    start_at = Some(Instant::now() + after);
                }
                Some(Order::StartDaemon { .. } | Order::Nothing) => {}
            }
        }
        if start_at.take_if(|at| *at <= Instant::now()).is_some() {
            daemon = start(inside);
        }
    }
}

/// Does a daemon that ended with this status stay down? As the unit file says (`RestartPreventExitStatus`).
fn stays_down(exit_status: i32) -> bool {
    exit_status == 0 || exit_status == i32::from(host::supervise::EXIT_FINAL)
}

enum Order {
    StartDaemon { after: Duration },
    Nothing,
}

/// Standard input, line by line, without a reader that would swallow more than it returns.
#[derive(Default)]
struct Orders {
    line: Vec<u8>,
}

impl Orders {
    fn read(&mut self, stdin: impl AsFd) -> io::Result<Option<Order>> {
        let mut byte = [0];
        match rustix::io::read(stdin, &mut byte) {
            Ok(0) => Ok(None),
            Ok(_) if byte[0] == b'\n' => {
                let line = std::mem::take(&mut self.line);
                Ok(Some(order(&line)))
            }
            Ok(_) => {
                self.line.push(byte[0]);
                Ok(Some(Order::Nothing))
            }
            Err(Errno::INTR) => Ok(Some(Order::Nothing)),
            Err(error) => Err(error.into()),
        }
    }
}

fn order(line: &[u8]) -> Order {
    let after = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix("daemon ")?.parse().ok());
    after.map_or(Order::Nothing, |ms| Order::StartDaemon { after: Duration::from_millis(ms) })
}

fn start(inside: &Inside) -> Option<Child> {
    let (program, arguments) = inside.daemon.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).current_dir(&inside.root);
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) => {
            eprintln!("the daemon of {} could not be started: {program}: {error}", inside.name);
            // The next order tries again; a short pause keeps a wrong command line from spinning.
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 }));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit_file::UnitFile;

    #[test]
    fn the_daemon_is_restarted_as_the_unit_file_says() {
        let unit = UnitFile::packaged();
        for status in [1, 75, 134] {
            assert!(!stays_down(status) && !unit.stays_down(status), "{status}");
        }
        for status in [0, 78] {
            assert!(stays_down(status) && unit.stays_down(status), "{status}");
        }
        assert_eq!(unit.one("Service", "RestartSec"), format!("{}ms", RESTART_PAUSE.as_millis()));
    }
}
