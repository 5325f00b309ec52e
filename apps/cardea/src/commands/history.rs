//! `cardea history`: what happened, and why?

use std::path::Path;

use api::{HistoryItem, VersionItem};
use clap::Args;

use super::client::Client;
use super::print_json;
use super::status::table;

/// Shows what happened and why, or the versions of the configuration.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// The newest so many entries.
    #[arg(long, default_value_t = 50, value_name = "NUMBER")]
    limit: usize,
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
    let items: Vec<HistoryItem> = client.get(&format!("/v1/history?limit={}", args.limit))?;
    if args.json {
        return print_json(&items);
    }
    let mut lines = table(&["index", "when", "what", "to", "who", "why"]);
    for item in &items {
        lines.add_row([&item.index.to_string(), &item.at, &item.event, &item.subject, &item.actor, &item.reason]);
    }
    println!("{lines}");
    Ok(())
}
