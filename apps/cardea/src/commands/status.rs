//! `cardea status`: how does the cluster look from here?

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use api::{NodeStatus, ResourceStatus, Status};
use clap::Args;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

use super::client::Client;

/// Shows problems, nodes, links, resources and what operators asked for.
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
        let shown = if args.json { to_json(&status)? } else { draw(&status, terminal_width()) };
        let clear = if args.watch && !args.json { CLEAR_SCREEN } else { "" };
        // A reader that went away ends it.
        if write!(std::io::stdout().lock(), "{clear}{shown}").is_err() || !args.watch {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

const CLEAR_SCREEN: &str = "\x1b[2J\x1b[H";

fn to_json(status: &Status) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(status)? + "\n")
}

/// The status as tables, `width` columns wide, or as wide as it takes.
pub fn draw(status: &Status, width: Option<u16>) -> String {
    let mut out = String::new();
    let leader = status.leader.as_deref().unwrap_or("nobody");
    out += &format!(
        "cluster {}  configuration {}  leader {leader} (term {})  seen from {}\n",
        status.cluster, status.config_version, status.term, status.node
    );
    if !status.quorate {
        let age = show_age(status.age_ms);
        out += &format!("NOT QUORATE: this is the last known state, {age} old; nothing can be changed from here\n");
    }
    if !status.problems.is_empty() {
        out += "\nproblems:\n";
        for problem in &status.problems {
            out += &format!("  ! {problem}\n");
        }
    }
    let mut nodes = table_of(&["node", "state", "role", "vote", "links", ""], width);
    for node in &status.nodes {
        nodes.add_row([&node.name, &node.state, &node.role, &node.vote, &links(node), &node.reason]);
    }
    out += &format!("\n{nodes}\n\n");
    if status.resources.is_empty() {
        out += "no resources; `cardea apply FILE` gives the cluster something to do\n";
    } else {
        let mut resources = table_of(&["resource", "state", "node", "since (UTC)", "why"], width);
        for resource in &status.resources {
            resources.add_row([
                &name(resource),
                &resource.state,
                resource.node.as_deref().unwrap_or("-"),
                &show_since(&resource.since),
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
    out
}

fn show_age(age_ms: u64) -> String {
    match age_ms / 1000 {
        0..=119 => format!("{:.1} s", age_ms as f64 / 1000.0),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// `2026-11-22T20:00:00.123Z` without what nobody reads.
fn show_since(since: &str) -> String {
    since.split(['.', 'Z']).next().unwrap_or_default().replace('T', " ")
}

fn name(resource: &ResourceStatus) -> String {
    if resource.unit == resource.name { resource.name.clone() } else { format!("{}/{}", resource.unit, resource.name) }
}

fn links(node: &NodeStatus) -> String {
    node.links
        .iter()
        .map(|link| {
            let state = if link.state == "down" { "DOWN" } else { &link.state };
            match (state, link.rtt_ms) {
                ("own", _) => link.address.clone(),
                ("DOWN", _) | (_, None) => format!("{} {state}", link.address),
                (_, Some(rtt)) if link.loss > 0.0 => {
                    format!("{} {state} {rtt:.2} ms, {:.0} % lost", link.address, link.loss * 100.0)
                }
                (_, Some(rtt)) => format!("{} {state} {rtt:.2} ms", link.address),
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// A table without frames, as wide as the terminal.
pub fn table(header: &[&str]) -> Table {
    table_of(header, terminal_width())
}

/// Where there is a width, the last column is wrapped to it and the others stay whole.
fn table_of(header: &[&str], width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        let last = header.len().saturating_sub(1);
        for column in table.column_iter_mut().take(last) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table
}

/// Columns of the terminal, if standard output is one.
fn terminal_width() -> Option<u16> {
    let out = std::io::stdout();
    rustix::termios::tcgetwinsize(&out).ok().map(|size| size.ws_col).filter(|columns| *columns > 0)
}

#[cfg(test)]
mod tests {
    use api::{ActionStatus, LinkStatus};

    use super::*;

    fn link(address: &str, state: &str, rtt_ms: Option<f64>, loss: f64) -> LinkStatus {
        LinkStatus { address: address.to_owned(), state: state.to_owned(), rtt_ms, loss }
    }

    fn node(name: &str, vote: &str, links: Vec<LinkStatus>) -> NodeStatus {
        NodeStatus {
            name: name.to_owned(),
            state: "online".to_owned(),
            role: "member".to_owned(),
            vote: vote.to_owned(),
            links,
            ..NodeStatus::default()
        }
    }

    fn status() -> Status {
        Status {
            cluster: "shop".to_owned(),
            node: "a".to_owned(),
            config_version: 12,
            quorate: true,
            leader: Some("a".to_owned()),
            term: 3,
            nodes: vec![
                node("a", "leader", vec![link("10.0.0.1", "own", None, 0.0)]),
                node(
                    "b",
                    "voter",
                    vec![link("10.0.0.2", "up", Some(0.25), 0.125), link("10.0.1.2", "down", Some(0.3), 1.0)],
                ),
            ],
            resources: vec![ResourceStatus {
                name: "web".to_owned(),
                unit: "site".to_owned(),
                state: "running".to_owned(),
                node: Some("a".to_owned()),
                since: "2026-11-22T20:00:00.123Z".to_owned(),
                reason: "site goes to a, which it prefers".to_owned(),
                ..ResourceStatus::default()
            }],
            actions: vec![ActionStatus {
                action: "standby of b".to_owned(),
                actor: "root@a".to_owned(),
                reason: "new disks".to_owned(),
                at: String::new(),
            }],
            ..Status::default()
        }
    }

    /// Without the blanks at the ends of lines, which tables have.
    fn lines(text: &str) -> Vec<&str> {
        text.lines().map(str::trim_end).collect()
    }

    #[test]
    fn a_healthy_cluster_fits_on_one_screen() {
        let text = draw(&status(), None);
        let expected = [
            "cluster shop  configuration 12  leader a (term 3)  seen from a",
            "",
            " node  state   role    vote    links",
            " a     online  member  leader  10.0.0.1",
            " b     online  member  voter   10.0.0.2 up 0.25 ms, 12 % lost",
            "                               10.0.1.2 DOWN",
            "",
            " resource  state    node  since (UTC)          why",
            " site/web  running  a     2026-11-22 20:00:00  site goes to a, which it prefers",
            "",
            "asked for by operators:",
            "  standby of b by root@a: new disks",
        ];
        assert_eq!(lines(&text), expected);
    }

    #[test]
    fn problems_come_before_everything_that_is_well() {
        let mut status = status();
        status.problems = vec!["b is not heard".to_owned()];
        let text = draw(&status, None);
        assert_eq!(lines(&text)[1..4], ["", "problems:", "  ! b is not heard"]);
    }

    #[test]
    fn without_a_majority_the_age_of_the_picture_is_told() {
        let mut status = status();
        (status.quorate, status.leader, status.age_ms) = (false, None, 4200);
        let text = draw(&status, None);
        assert!(text.contains("leader nobody"), "{text}");
        assert!(text.contains("NOT QUORATE: this is the last known state, 4.2 s old"), "{text}");
        assert_eq!((show_age(600_000), show_age(7_200_000)), ("10 min".to_owned(), "2 h".to_owned()));
    }

    #[test]
    fn an_empty_cluster_says_what_to_do() {
        let mut status = status();
        status.resources.clear();
        assert!(draw(&status, None).contains("cardea apply FILE"));
    }

    #[test]
    fn a_narrow_terminal_wraps_the_reason_and_nothing_else() {
        let text = draw(&status(), Some(64));
        assert!(lines(&text).iter().skip(1).all(|line| line.chars().count() <= 64), "{text}");
        assert!(text.contains("10.0.0.2 up 0.25 ms, 12 % lost") && text.contains("2026-11-22 20:00:00"), "{text}");
    }

    #[test]
    fn the_json_is_one_object() {
        let json = to_json(&status()).expect("plain data");
        assert_eq!(serde_json::from_str::<Status>(&json).expect("the same"), status());
    }
}
