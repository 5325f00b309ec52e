//! `cardea shutdown`: end this node, or the whole site, in order.

use std::path::Path;
use std::time::{Duration, Instant};

use api::{Request, Status};
use clap::Args;

use super::client::Client;
use super::{ask, print_reply};
use crate::daemon::paths::Paths;

/// How often the daemon is asked what still runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// After this long without an end somebody has to look.
const PATIENCE: Duration = Duration::from_secs(900);

/// Ends the daemon of this node in order, or with --all the whole site.
///
/// Of one node: what runs there goes elsewhere first, or is stopped in order where nobody is left to take it. With --all:
/// everything is stopped in order, then all daemons end. The cluster comes up by itself when daemons are started again.
#[derive(Args, Debug)]
pub struct ShutdownArgs {
    /// All nodes.
    #[arg(long)]
    all: bool,
    /// Why; recorded in the history (of the cluster with --all, of this node's log without).
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
    /// Does not ask; needed where there is no terminal, and with --json.
    #[arg(long, short)]
    yes: bool,
    /// Does not wait until the daemon of this node has ended.
    #[arg(long)]
    no_wait: bool,
    /// JSON instead of sentences.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(root: &Path, args: ShutdownArgs) -> anyhow::Result<()> {
    let client = Client::new(root)?;
    let request = Request::ShutDown { all: args.all, reason: args.reason };
    let reply = ask::carry_out(&client, &request, args.yes, args.json)?;
    print_reply(&reply, args.json)?;
    if !args.no_wait {
        wait(root, &client, args.json)?;
    }
    Ok(())
}

/// Waits for the end of this node's daemon, and says what it waits for.
fn wait(root: &Path, client: &Client, json: bool) -> anyhow::Result<()> {
    let socket = Paths::new(root).socket();
    let begun = Instant::now();
    let mut said = String::new();
    while begun.elapsed() < PATIENCE {
        // A worker that ends leaves its socket behind, and nobody listens there.
        if std::os::unix::net::UnixStream::connect(&socket).is_err() {
            if !json {
                println!("the daemon of this node has ended");
            }
            return Ok(());
        }
        if let Ok(status) = client.get::<Status>("/v1/status") {
            let running = still_running(&status);
            if !json && !running.is_empty() && running != said {
                println!("still running here: {running}");
                said = running;
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    anyhow::bail!(
        "the daemon of this node has not ended within {} s\n  `cardea status` and `journalctl -u cardea` say what it waits for",
        PATIENCE.as_secs()
    )
}

fn still_running(status: &Status) -> String {
    let is_here = |node: &Option<String>| node.as_ref() == Some(&status.node);
    let open = status.resources.iter().filter(|resource| is_here(&resource.node) && resource.state != "stopped");
    open.map(|resource| resource.name.as_str()).collect::<Vec<_>>().join(", ")
}
