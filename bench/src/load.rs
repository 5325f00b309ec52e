//! What runs beside the lab? A busy program where a figure asks for one, and programs that this one waits for.

use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Programs that run, for whoever must end in a hurry.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn running() -> std::sync::MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program that ends with this value.
#[derive(Debug)]
pub struct Beside {
    child: Child,
}

impl Beside {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Beside> {
        let child = command.spawn().with_context(|| format!("could not start {:?}", command.get_program()))?;
        running().push(Pid::from_child(&child));
        Ok(Beside { child })
    }

    /// Waits for its end; returns whether it succeeded, and what it printed.
    pub fn output(mut self) -> Result<(bool, String)> {
        let mut text = String::new();
        if let Some(mut out) = self.child.stdout.take() {
            std::io::Read::read_to_string(&mut out, &mut text)?;
        }
        Ok((self.child.wait()?.success(), text))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        // TERM, so that it ends its own children and labs; one that has ended is fine.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(pid, Signal::TERM);
            let _ = self.child.wait();
        }
        running().retain(|other| *other != pid);
    }
}

/// Ends every program that runs beside; returns when they are gone.
pub fn end_everything() {
    let pids = std::mem::take(&mut *running());
    for pid in &pids {
        let _ = kill_process(*pid, Signal::TERM);
    }
    for pid in pids {
        // Another thread may reap it, or nobody: both are its end.
        for _ in 0..1000 {
            let is_gone = test_kill_process(pid).is_err();
            let is_dead = is_gone || e2e::processes::read(pid.as_raw_nonzero().get()).is_none();
            if is_dead {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// One processor kept busy.
pub fn busy_processor() -> Result<Beside> {
    let mut command = Command::new("stress-ng");
    command.args(["--cpu", "1", "--quiet"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match Beside::start(&mut command) {
        Ok(load) => Ok(load),
        Err(error) => bail!("`stress-ng` does not run ({error:#}): apt-get install stress-ng"),
    }
}
