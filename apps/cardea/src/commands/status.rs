//! `cardea status`: how does the cluster look from here?

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use api::{Fault, NodeStatus, ResourceStatus, Status};
use clap::Args;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use model::Severity;

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
    /// One line and an exit status for monitoring: 0 all is well, 1 a warning, 2 critical or no daemon.
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    check: bool,
}

/// Runs the command; the exit status.
pub fn run(root: &Path, args: &StatusArgs) -> anyhow::Result<i32> {
    let client = Client::new(root)?;
    if args.check {
        let (exit_status, line) = match client.get::<Status>("/v1/status") {
            Ok(status) => check(&status),
            Err(cause) => (2, format!("CRITICAL: {}", format!("{cause:#}").replace('\n', " "))),
        };
        // A reader that went away has the exit status all the same.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
        return Ok(exit_status);
    }
    loop {
        let status: Status = client.get("/v1/status")?;
        let shown = if args.json { to_json(&status)? } else { draw(&status, width()) };
        let clear = if args.watch && !args.json { CLEAR_SCREEN } else { "" };
        // A reader that went away ends it.
        if write!(std::io::stdout().lock(), "{clear}{shown}").is_err() || !args.watch {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The exit status and the line for monitoring: the worst problem, and how many more there are.
fn check(status: &Status) -> (i32, String) {
    let Status { cluster, nodes, resources, .. } = status;
    let worst = status.faults.iter().max_by_key(|fault| fault.severity);
    let Some(Fault { severity, .. }) = worst else {
        let running = resources.iter().filter(|resource| resource.state == "running").count();
        let (nodes, all) = (nodes.len(), resources.len());
        return (0, format!("OK: cluster {cluster}, {nodes} nodes, {running} of {all} resources run, no problem"));
    };
    let of_worst: Vec<&Fault> = status.faults.iter().filter(|fault| fault.severity == *severity).collect();
    let text = of_worst.first().map(|fault| fault.text.as_str()).unwrap_or_default();
    let more = match status.faults.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    match severity {
        Severity::Warning => (1, format!("WARNING: {text}{more}")),
        Severity::Critical => (2, format!("CRITICAL: {text}{more}")),
    }
}

const CLEAR_SCREEN: &str = "\x1b[2J\x1b[H";

fn to_json(status: &Status) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(status)? + "\n")
}

/// The status as tables, in lines of at most `width` columns that break between words; a word that is longer stays whole.
pub fn draw(status: &Status, width: usize) -> String {
    let mut out = String::new();
    let leader = status.leader.as_deref().unwrap_or("nobody");
    out += &format!(
        "cluster {}  configuration {}  leader {leader} (term {})  seen from {}\n",
        status.cluster, status.config_version, status.term, status.node
    );
    if !status.quorate {
        let age = show_age(status.age_ms);
        let text = format!("NOT QUORATE: this is the last known state, {age} old; nothing can be changed from here");
        out += &indented("", &text, width);
    }
    if !status.problems.is_empty() {
        out += "\nproblems:\n";
        for problem in &status.problems {
            out += &indented("  ! ", problem, width);
        }
    }
    let rows: Vec<(Vec<String>, &str)> = status
        .nodes
        .iter()
        .map(|node| {
            let cells = [&node.name, &node.state, &node.role, &node.vote, &links(node)].map(Clone::clone);
            (cells.to_vec(), node.reason.as_str())
        })
        .collect();
    out += &format!("\n{}\n", with_reasons(&["node", "state", "role", "vote", "links"], "", &rows, width));
    if status.resources.is_empty() {
        out += "no resources; `cardea apply FILE` gives the cluster something to do\n";
    } else {
        let rows: Vec<(Vec<String>, &str)> = status
            .resources
            .iter()
            .map(|resource| {
                let node = resource.node.clone().unwrap_or_else(|| "-".to_owned());
                let cells = vec![name(resource), resource.state.clone(), node, show_since(&resource.since)];
                (cells, resource.reason.as_str())
            })
            .collect();
        let header = ["resource", "state", "node", "since (UTC)"];
        out += &with_reasons(&header, "why", &rows, width);
    }
    if !status.actions.is_empty() {
        out += "\nasked for by operators:\n";
        for action in &status.actions {
            let text = format!("{} by {}: {}", action.action, action.actor, action.reason);
            out += &indented("  ", &text, width);
        }
    }
    out
}

/// A reason that is this much too long for its column is better read below the table.
const REASON_LINES_MAX: usize = 2;

/// A column of reasons that is narrower is none.
const REASON_WIDTH_MIN: usize = 20;

/// A table whose reasons stand in the last column if they fit there, and below it otherwise. One that stands there in
/// several rows, as that of a group does, is said once.
fn with_reasons(header: &[&str], why: &str, rows: &[(Vec<String>, &str)], width: usize) -> String {
    let bare = {
        let mut table = table_of(header, None);
        for (cells, _) in rows {
            table.add_row(cells);
        }
        table.lines().map(|line| line.chars().count()).max().unwrap_or(0)
    };
    let room = width.saturating_sub(bare + 2);
    let fits =
        |reason: &str| reason.is_empty() || room >= REASON_WIDTH_MIN && fold(reason, room).len() <= REASON_LINES_MAX;
    let mut below: Vec<(String, &str)> = Vec::new();
    let mut table = table_of(&[header, &[why]].concat(), None);
    for (cells, reason) in rows {
        let mut cells = cells.clone();
        let name = cells.first().cloned().unwrap_or_default();
        if fits(reason) {
            cells.push(fold(reason, room).join("\n"));
        } else {
            match below.iter_mut().find(|(_, said)| said == reason) {
                Some((names, _)) => *names += &format!(", {name}"),
                None => below.push((name, reason)),
            }
            cells.push("(below)".to_owned());
        }
        table.add_row(cells);
    }
    let mut out: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    for (names, reason) in below {
        out += &indented("  ", &format!("{names}: {reason}"), width);
    }
    out
}

/// Text behind a mark, its later lines below its first word.
pub fn indented(mark: &str, text: &str, width: usize) -> String {
    let margin = mark.chars().count();
    let lines = fold(text, width.saturating_sub(margin));
    let shown = lines.iter().enumerate().map(|(n, line)| match n {
        0 => format!("{mark}{line}\n"),
        _ => format!("{}{line}\n", " ".repeat(margin)),
    });
    shown.collect()
}

/// Lines of at most `width` columns, broken between words.
fn fold(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if used == 0 || used + 1 + length <= width => {
                if used > 0 {
                    line.push(' ');
                }
                line.push_str(word);
                used = line.chars().count();
            }
            Some(_) | None => {
                lines.push(word.to_owned());
                used = length;
            }
        }
    }
    lines
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
    table_of(header, u16::try_from(width()).ok())
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

/// Columns of output that is no terminal, where `COLUMNS` says nothing else.
const PIPE_WIDTH: usize = 120;

/// Fewer columns than this are not believed.
const WIDTH_MIN: usize = 40;

/// How wide the output may be: as the terminal; where it is none, as `COLUMNS` says.
pub fn width() -> usize {
    let out = std::io::stdout();
    let terminal = rustix::termios::tcgetwinsize(&out).ok().map(|size| usize::from(size.ws_col));
    let said = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    terminal.filter(|columns| *columns > 0).or_else(said).unwrap_or(PIPE_WIDTH).max(WIDTH_MIN)
}

#[cfg(test)]
mod tests {
    use api::{ActionStatus, LinkStatus};
    use model::ProblemKind;

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
        let text = draw(&status(), 100);
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
        let text = draw(&status, 100);
        assert_eq!(lines(&text)[1..4], ["", "problems:", "  ! b is not heard"]);
    }

    #[test]
    fn without_a_majority_the_age_of_the_picture_is_told() {
        let mut status = status();
        (status.quorate, status.leader, status.age_ms) = (false, None, 4200);
        let text = draw(&status, 100);
        assert!(text.contains("leader nobody"), "{text}");
        assert!(text.contains("NOT QUORATE: this is the last known state, 4.2 s old"), "{text}");
        assert_eq!((show_age(600_000), show_age(7_200_000)), ("10 min".to_owned(), "2 h".to_owned()));
    }

    #[test]
    fn an_empty_cluster_says_what_to_do() {
        let mut status = status();
        status.resources.clear();
        assert!(draw(&status, 100).contains("cardea apply FILE"));
    }

    fn fault(kind: ProblemKind, text: &str) -> Fault {
        Fault {
            kind,
            severity: kind.severity(),
            subject: "b".to_owned(),
            since: String::new(),
            text: text.to_owned(),
            seen_by: vec!["a".to_owned()],
        }
    }

    /// What an operator sees on the smallest terminal that is still in use.
    #[test]
    fn on_80_columns_no_word_is_broken_and_a_failed_group_takes_few_lines() {
        let mut status = status();
        let why = "site runs nowhere: it failed 3 times on a (`/usr/sbin/nginx -c /etc/nginx/nginx.conf` ended with \
                   status 1: unknown directive \"listn\"); b is in standby (root@a: new disks)";
        status.problems = vec![format!("{why}; once mended: `cardea clear site` (since 2026-11-22 20:00:00 UTC)")];
        let failed =
            ResourceStatus { state: "failed".to_owned(), reason: why.to_owned(), ..status.resources[0].clone() };
        status.resources =
            ["web", "address", "files"].map(|name| ResourceStatus { name: name.to_owned(), ..failed.clone() }).into();
        let text = draw(&status, 80);
        let lines = lines(&text);
        assert!(lines.len() <= 24, "{} lines:\n{text}", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let shown = words(&text);
        for word in words(why) {
            assert!(shown.contains(&word), "`{word}` is broken in:\n{text}");
        }
        assert_eq!(text.matches("site/web, site/address, site/files: site runs nowhere").count(), 1, "{text}");
    }

    #[test]
    fn a_reason_that_fits_stands_in_its_row_and_wide_output_is_not_filled() {
        let text = draw(&status(), 79);
        assert!(text.contains("2026-11-22 20:00:00  site goes to a, which it\n"), "{text}");
        let mut status = status();
        status.resources[0].reason = "word ".repeat(200).trim().to_owned();
        assert!(draw(&status, 120).lines().all(|line| line.chars().count() <= 120));
        status.resources[0].reason.clear();
        assert!(!draw(&status, 60).contains("(below)"), "no reason needs no room");
    }

    #[test]
    fn lines_break_between_words_and_a_long_word_stays_whole() {
        assert_eq!(fold("one two three", 7), ["one two", "three"]);
        assert_eq!(fold("a `very-long-command` b", 5), ["a", "`very-long-command`", "b"]);
        assert_eq!(fold("", 5), [""]);
        assert_eq!(indented("  ! ", "one two", 8), "  ! one\n    two\n");
    }

    #[test]
    fn monitoring_gets_one_line_and_the_severity_of_the_worst_problem() {
        let mut status = status();
        assert_eq!(check(&status), (0, "OK: cluster shop, 2 nodes, 1 of 1 resources run, no problem".to_owned()));
        status.faults = vec![fault(ProblemKind::LinkDown, "network 2 is down")];
        assert_eq!(check(&status), (1, "WARNING: network 2 is down".to_owned()));
        status.faults.push(fault(ProblemKind::Silent, "b is not heard"));
        assert_eq!(check(&status), (2, "CRITICAL: b is not heard (and 1 more)".to_owned()));
    }

    #[test]
    fn the_json_is_one_object() {
        let json = to_json(&status()).expect("plain data");
        assert_eq!(serde_json::from_str::<Status>(&json).expect("the same"), status());
    }
}
