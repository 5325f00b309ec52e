//! `cardea status`: how does the cluster look from here?

use std::path::Path;
use std::time::Duration;

use api::{NodeStatus, ResourceStatus, Status};
use clap::Args;
use comfy_table::{Table, presets};

use super::client::Client;
use super::print_json;

/// Shows nodes, links, resources and problems.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Shows it again every second, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

/// Runs the command.
pub fn run(root: &Path, args: &StatusArgs) -> anyhow::Result<()> {
    let client = Client::new(root)?;
    loop {
        let status: Status = client.get("/v1/status")?;
        if args.watch && !args.json {
            print!("\x1b[2J\x1b[H");
        }
        if args.json {
            print_json(&status)?;
        } else {
            print!("{}", draw(&status));
        }
        if !args.watch {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The status as tables.
pub fn draw(status: &Status) -> String {
    let mut out = String::new();
    let leader = status.leader.as_deref().unwrap_or("nobody");
    out += &format!(
        "cluster {}  configuration {}  leader {leader} (term {})  seen from {}\n",
        status.cluster, status.config_version, status.term, status.node
    );
    if !status.quorate {
        let seconds = status.age_ms as f64 / 1000.0;
        out += &format!("NOT QUORATE: this is the last known state, {seconds:.1} s old; nothing can be changed from here\n");
    }
    out += "\n";
    let mut nodes = table(&["node", "state", "role", "vote", "links", ""]);
    for node in &status.nodes {
        let vote = if node.vote == "leader" { "leader" } else { &node.vote };
        nodes.add_row([&node.name, &node.state, &node.role, vote, &links(node), &node.reason]);
    }
    out += &format!("{nodes}\n\n");
    if status.resources.is_empty() {
        out += "no resources; `cardea apply FILE` gives the cluster something to do\n";
    } else {
        let mut resources = table(&["resource", "state", "node", "since", "why"]);
        for resource in &status.resources {
            resources.add_row([
                &name(resource),
                &resource.state,
                resource.node.as_deref().unwrap_or("-"),
                resource.since.split('.').next().unwrap_or_default(),
                &resource.reason,
            ]);
        }
        out += &format!("{resources}\n");
    }
    if !status.actions.is_empty() {
        out += "\nasked for by operators:\n";
        for action in &status.actions {
            out += &format!("  {} by {}: {}\n", action.action, action.actor, action.reason);
        }
    }
    if !status.problems.is_empty() {
        out += "\nproblems:\n";
        for problem in &status.problems {
            out += &format!("  ! {problem}\n");
        }
    }
    out
}

fn name(resource: &ResourceStatus) -> String {
    if resource.unit == resource.name { resource.name.clone() } else { format!("{}/{}", resource.unit, resource.name) }
}

fn links(node: &NodeStatus) -> String {
    node.links
        .iter()
        .map(|link| match (link.state.as_str(), link.rtt_ms) {
            ("own", _) => link.address.clone(),
            (state, Some(rtt)) if link.loss > 0.0 => {
                format!("{} {state} {rtt:.2} ms, {:.0} % lost", link.address, link.loss * 100.0)
            }
            (state, Some(rtt)) => format!("{} {state} {rtt:.2} ms", link.address),
            (state, None) => format!("{} {state}", link.address),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// A table without frames.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table
}
