//! What if one thread of a daemon hangs? It is held still from outside, as a debugger would; the daemon knows nothing of
//! it and has no switch for it.
//!
//! A hung worker is the main thread of the worker, while the heartbeat thread goes on. A hung disk is the thread that
//! writes the database, in every worker that the node starts until the disk is repaired.
//!
//! In: a node's processes. Out: a thread that stands, until the hang is dropped.
//! Not here: how a thread is held (`host::hold`).

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::processes::{self, PidNamespace};

/// How often a node is searched for the worker that follows one that ended.
const SEARCH_EVERY: Duration = Duration::from_millis(10);

/// What hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The worker's main thread, which decides.
    Worker,
    /// The thread that writes to the disk.
    Disk,
}

/// A thread that stands still until this is dropped.
pub struct Hang {
    held: Arc<Mutex<Held>>,
    follower: Option<JoinHandle<()>>,
}

struct Held {
    is_over: bool,
    /// The process that holds the thread; its end lets the thread go on.
    holder: Option<Child>,
}

fn locked(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hang {
    /// Lets a part of the node's daemon hang; returns when it does.
    pub fn start(node: PidNamespace, part: Part) -> anyhow::Result<Hang> {
        let thread = thread_of(node, part).context("no daemon runs there")?;
        let held = Arc::new(Mutex::new(Held { is_over: false, holder: Some(hold(thread)?) }));
        let follower = match part {
            // A worker that is replaced is another one, with a main thread that works.
            Part::Worker => None,
            Part::Disk => {
                let held = Arc::clone(&held);
                Some(thread::Builder::new().name("hang".to_owned()).spawn(move || follow(node, part, &held))?)
            }
        };
        Ok(Hang { held, follower })
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        let mut held = locked(&self.held);
        held.is_over = true;
        if let Some(mut holder) = held.holder.take() {
            let _ = holder.kill();
            let _ = holder.wait();
        }
        drop(held);
        if let Some(follower) = self.follower.take() {
            let _ = follower.join();
        }
    }
}

/// Holds the same part again in whatever worker comes next, until the hang is over.
fn follow(node: PidNamespace, part: Part, held: &Mutex<Held>) {
    loop {
        {
            let mut held = locked(held);
            if held.is_over {
                return;
            }
            let holds = held.holder.as_mut().is_some_and(|holder| matches!(holder.try_wait(), Ok(None)));
            if !holds {
                held.holder = thread_of(node, part).and_then(|thread| hold(thread).ok());
            }
        }
        thread::sleep(SEARCH_EVERY);
    }
}

/// Starts a process that holds the thread; returns when the thread stands.
fn hold(thread: Pid) -> anyhow::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("lab-hold").arg(thread.as_raw_pid().to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("could not start the process that holds a thread")?;
    let mut answer = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut answer)?;
    }
    if answer.trim() != "held" {
        let _ = child.kill();
        let _ = child.wait();
        bail!("the thread cannot be held: {}", answer.trim());
    }
    Ok(child)
}

/// Runs as the process that holds a thread, until the thread or this process ends.
pub fn run(thread: i32) -> anyhow::Result<()> {
    let thread = Pid::from_raw(thread).context("a thread has a positive number")?;
    let held = host::hold::hold(thread, || println!("held"));
    if let Err(error) = &held {
        println!("{error}");
    }
    Ok(held?)
}

/// The thread of the node's worker that this part is.
fn thread_of(node: PidNamespace, part: Part) -> Option<Pid> {
    let worker = processes::members(node).ok()?.into_iter().find(|pid| is_worker(*pid))?;
    match part {
        Part::Worker => Some(worker),
        Part::Disk => {
            let threads = fs::read_dir(format!("/proc/{}/task", worker.as_raw_pid())).ok()?;
            let is_disk = |thread: &fs::DirEntry| {
                fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.trim() == "disk")
            };
            let found = threads.flatten().find(is_disk)?;
            Pid::from_raw(found.file_name().to_str()?.parse().ok()?)
        }
    }
}

fn is_worker(pid: Pid) -> bool {
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_pid())).unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    words.contains(&b"daemon".as_slice()) && words.last() == Some(&b"--worker".as_slice())
}
