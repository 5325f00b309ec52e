//! `cardea explain`: why here, and why not there?

use std::io::Write;
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
    std::io::stdout().lock().write_all(draw(&explanation).as_bytes())?;
    Ok(())
}

/// The decision, each node with what speaks for or against it, and what happened lately.
fn draw(explanation: &Explanation) -> String {
    let mut out = format!("{}\n", explanation.decision);
    for node in &explanation.nodes {
        out += &format!("  {} {}: {}\n", if node.can_run { "+" } else { "-" }, node.node, node.reason);
    }
    if !explanation.history.is_empty() {
        out += "lately:\n";
    }
    for item in &explanation.history {
        out += &format!("  {}  {} {}: {}\n", item.at, item.subject, item.event, item.reason);
    }
    out
}

/// What may stand in a query as it is stays, the rest is escaped.
pub fn percent(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use api::{HistoryItem, NodeExplanation};

    use super::*;

    #[test]
    fn an_explanation_shows_what_speaks_for_and_against_each_node() {
        let node = |node: &str, can_run, reason: &str| NodeExplanation {
            node: node.to_owned(),
            can_run,
            reason: reason.to_owned(),
            score: None,
        };
        let explanation = Explanation {
            decision: "site stays on a".to_owned(),
            nodes: vec![
                node("a", true, "is preferred (100); runs site already (100 for staying)"),
                node("b", false, "is in standby (root@a: disks)"),
            ],
            history: vec![HistoryItem {
                at: "2026-11-22T20:00:00Z".to_owned(),
                event: "granted".to_owned(),
                subject: "site".to_owned(),
                reason: "site goes to a, which it prefers".to_owned(),
                ..HistoryItem::default()
            }],
            ..Explanation::default()
        };
        let expected = "\
site stays on a
  + a: is preferred (100); runs site already (100 for staying)
  - b: is in standby (root@a: disks)
lately:
  2026-11-22T20:00:00Z  site granted: site goes to a, which it prefers
";
        assert_eq!(draw(&explanation), expected);
    }

    #[test]
    fn any_name_can_be_asked_for() {
        let escaped: String = "web 1/ü&x=".bytes().map(percent).collect();
        assert_eq!(escaped, "web%201%2F%C3%BC%26x%3D");
    }
}
