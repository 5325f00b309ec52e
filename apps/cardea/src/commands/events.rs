//! `cardea events`: what happens on this node, line by line.

use std::io::Write;
use std::path::Path;

use api::Event;
use clap::Args;

use super::client::Client;

/// Shows what happened on this node since its worker started.
#[derive(Args, Debug)]
pub struct EventsArgs {
    /// Goes on until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// Only events after this number.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    since: u64,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(root: &Path, args: &EventsArgs) -> anyhow::Result<()> {
    let client = Client::new(root)?;
    if args.follow {
        let path = format!("/v1/events?since={}&follow=true", args.since);
        return client.follow(&path, |data| {
            let shown = match serde_json::from_str::<Event>(data) {
                Ok(event) if !args.json => draw(&event),
                Ok(_) | Err(_) => data.to_owned(),
            };
            // A reader that went away ends it.
            writeln!(std::io::stdout().lock(), "{shown}").is_ok()
        });
    }
    let events: Vec<Event> = client.get(&format!("/v1/events?since={}", args.since))?;
    let mut out = std::io::stdout().lock();
    for event in &events {
        let line = if args.json { serde_json::to_string(event)? } else { draw(event) };
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn draw(event: &Event) -> String {
    let kind = serde_json::to_value(event.event).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    let at = crate::daemon::status::show_time(model::WallTime(event.wall_ms));
    format!("{at}  {kind:<13} {:<12} {}", event.subject, event.reason)
}
