//! `cardea history`: what happened, and why?

use std::path::Path;

use api::{HistoryItem, VersionItem};
use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::client::Client;
use super::status::table;
use super::{explain, print_json};

/// As many entries as the cluster keeps.
const KEPT_MAX: usize = 1000;

/// Shows what happened and why, or the versions of the configuration.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// Only what happened to this node, group or resource.
    #[arg(conflicts_with_all = ["versions", "show"])]
    name: Option<String>,
    /// The newest so many entries; 50, or with --since all.
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    /// Only what happened since: a time (2026-11-30T18:00:00Z), or how long ago (30m, 2h, 1d).
    #[arg(long, value_name = "TIME", value_parser = since, conflicts_with_all = ["versions", "show"])]
    since: Option<Timestamp>,
    /// The versions of the configuration instead.
    #[arg(long)]
    versions: bool,
    /// The text of this version of the configuration.
    #[arg(long, conflicts_with = "versions", value_name = "VERSION")]
    show: Option<u64>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(root: &Path, args: &HistoryArgs) -> anyhow::Result<()> {
    let client = Client::new(root)?;
    if let Some(version) = args.show {
        let versions: Vec<VersionItem> = client.get("/v1/versions")?;
        let item = versions.into_iter().find(|item| item.config_version == version).ok_or_else(|| {
            anyhow::anyhow!("version {version} is not kept\n  `cardea history --versions` lists those that are")
        })?;
        if args.json {
            return print_json(&item);
        }
        print!("{}", item.text);
        return Ok(());
    }
    if args.versions {
        let versions: Vec<VersionItem> = client.get("/v1/versions")?;
        if args.json {
            return print_json(&versions);
        }
        let mut lines = table(&["version", "when", "who", "why"]);
        for item in &versions {
            lines.add_row([&item.config_version.to_string(), &item.at, &item.actor, &item.reason]);
        }
        println!("{lines}");
        return Ok(());
    }
    let items = entries(&client, args)?;
    if args.json {
        return print_json(&items);
    }
    let mut lines = table(&["index", "when", "what", "about", "who", "why"]);
    for item in &items {
        lines.add_row([&item.index.to_string(), &item.at, &item.event, &item.subject, &item.actor, &item.reason]);
    }
    println!("{lines}");
    Ok(())
}

/// The entries that are asked for, oldest first.
fn entries(client: &Client, args: &HistoryArgs) -> anyhow::Result<Vec<HistoryItem>> {
    let limit = args.limit.unwrap_or(if args.since.is_some() { KEPT_MAX } else { 50 });
    let escape = |name: &String| format!("&subject={}", name.bytes().map(explain::percent).collect::<String>());
    let about = args.name.as_ref().map_or_else(String::new, escape);
    // Those before `--since` are left out here, so that the limit counts what is shown.
    let asked = if args.since.is_some() { KEPT_MAX } else { limit };
    let mut items: Vec<HistoryItem> = client.get(&format!("/v1/history?limit={asked}{about}"))?;
    if let Some(since) = args.since {
        items.retain(|item| item.at.parse::<Timestamp>().is_ok_and(|at| at >= since));
    }
    Ok(items.split_off(items.len().saturating_sub(limit)))
}

/// A time, or a span that is counted back from now.
fn since(text: &str) -> Result<Timestamp, String> {
    let ago = || text.parse::<SignedDuration>().ok().or_else(|| days(text));
    let back = || ago().and_then(|ago| Timestamp::now().checked_sub(ago.abs()).ok());
    text.parse::<Timestamp>()
        .ok()
        .or_else(back)
        .ok_or_else(|| "neither a time in UTC (2026-11-30T18:00:00Z) nor how long ago (30m, 2h, 1d)".to_owned())
}

fn days(text: &str) -> Option<SignedDuration> {
    text.strip_suffix('d')?.parse::<u32>().ok().map(|days| SignedDuration::from_hours(24 * i64::from(days)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_a_span() {
        assert_eq!(since("1970-01-02T00:00:00Z").map(|at| at.as_second()), Ok(86_400));
        for (text, seconds) in [("30m", 1800), ("2h", 7200), ("1d", 86_400), ("1h 30m", 5400)] {
            let ago = Timestamp::now().as_second() - since(text).expect(text).as_second();
            assert!((seconds..seconds + 5).contains(&ago), "{text}: {ago}");
        }
        for text in ["", "yesterday", "d", "-1d", "18:00"] {
            assert!(since(text).is_err(), "{text}");
        }
    }
}
