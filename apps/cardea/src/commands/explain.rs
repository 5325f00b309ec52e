//! `cardea explain`: why here, and why not there?

use std::path::Path;

use api::Explanation;
use clap::Args;

use super::client::Client;
use super::print_json;

/// Says why a group or resource runs where it runs, or what keeps a node empty.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// A group, resource or node.
    name: String,
    /// JSON instead of lines.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(root: &Path, args: &ExplainArgs) -> anyhow::Result<()> {
    let name: String = args.name.bytes().map(percent).collect();
    let explanation: Explanation = Client::new(root)?.get(&format!("/v1/explain?name={name}"))?;
    if args.json {
        return print_json(&explanation);
    }
    println!("{}", explanation.decision);
    for node in &explanation.nodes {
        println!("  {} {}: {}", if node.can_run { "+" } else { "-" }, node.node, node.reason);
    }
    if !explanation.history.is_empty() {
        println!("lately:");
    }
    for item in &explanation.history {
        println!("  {}  {} {}: {}", item.at, item.subject, item.event, item.reason);
    }
    Ok(())
}

/// What may stand in a query as it is stays, the rest is escaped.
fn percent(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}
