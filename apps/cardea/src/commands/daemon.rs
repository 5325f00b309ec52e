//! `cardea daemon`: what systemd starts.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, anyhow};
use clap::Args;

use crate::daemon::log;
use crate::daemon::node_file::NodeFile;
use crate::daemon::paths::Paths;
use crate::daemon::worker::{self, Reboot};

/// Runs this node: a supervisor that starts the worker and replaces it at once when it dies.
#[derive(Args, Debug)]
pub struct DaemonArgs {
    /// The worker itself, as the supervisor starts it.
    #[arg(long, hide = true)]
    worker: bool,
    /// What may reboot this node when the cluster has declared its life over while it ran something exclusive.
    #[arg(long, value_enum, value_name = "BY", default_value_t = Reboot::Never)]
    reboot: Reboot,
    /// Tells the running daemon to replace its worker; services stay.
    #[arg(long, conflicts_with = "worker")]
    restart: bool,
}

/// Runs the command.
pub fn run(root: &Path, args: &DaemonArgs) -> anyhow::Result<i32> {
    let paths = Paths::new(root);
    if args.restart {
        return restart(&paths);
    }
    log::start();
    NodeFile::load(&paths)?;
    if args.worker {
        abort_on_panic();
        host::limits::claim();
        // Nothing at the end waits for standard error: a process that stands still would go on beating.
        let status = worker::run(&paths, args.reboot).unwrap_or_else(|cause| {
            log::line(format!("cardea: {cause:#}\n"));
            // For the next worker, which may be able to tell; it is in the log as well.
            let _ = std::fs::write(paths.last_end(), format!("{cause:#}"));
            1
        });
        log::finish();
        std::process::exit(i32::from(status));
    }
    let program = std::env::current_exe().context("cannot find this program")?;
    let worker = || {
        let mut command = Command::new(&program);
        command.arg("--root").arg(paths.root()).args(["daemon", "--reboot", args.reboot.word(), "--worker"]);
        command
    };
    Ok(i32::from(host::supervise::supervise(worker, &paths.run())?))
}

fn restart(paths: &Paths) -> anyhow::Result<i32> {
    let lock = paths.run().join("daemon.lock");
    let text = std::fs::read_to_string(&lock).unwrap_or_default();
    let daemon = text
        .trim()
        .split_once(' ')
        .and_then(|(pid, started)| Some((pid.parse().ok()?, started.parse().ok()?)))
        .map(|(pid, started)| host::process::Process::open_exact(pid, host::process::StartTime(started)))
        .transpose()
        .context("cannot look for the daemon")?
        .flatten()
        .ok_or_else(|| {
            anyhow!(
                "no daemon runs on {}\n  start it with `systemctl start cardea` or `cardea daemon`",
                paths.run().display()
            )
        })?;
    daemon.signal(rustix::process::Signal::HUP).context("cannot signal the daemon")?;
    println!("the worker is being replaced; services stay as they are");
    Ok(0)
}

/// A worker that broke one of its own rules must not go on in any of its threads.
fn abort_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        tracing::error!("a bug: {info}; the worker ends and is replaced");
        std::process::abort();
    }));
}
