//! `cardea events`: what happens on this node, line by line.

use std::io::Write;
use std::path::Path;

use api::Event;
use clap::Args;
use model::WallTime;

use super::client::Client;
use super::status::indented;
use crate::daemon::status::show_time;

/// Shows what happened on this node lately; goes on when its worker is replaced.
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
                Ok(event) if !args.json => draw(&event, super::status::width()),
                Ok(_) | Err(_) => data.to_owned(),
            };
            // A reader that went away ends it.
            writeln!(std::io::stdout().lock(), "{shown}").is_ok()
        });
    }
    let events: Vec<Event> = client.get(&format!("/v1/events?since={}", args.since))?;
    if let Some(first) = events.first().filter(|_| !args.json) {
        eprintln!("{}", beginning(first, args.since));
    }
    let mut out = std::io::stdout().lock();
    for event in &events {
        let line = if args.json { serde_json::to_string(event)? } else { draw(event, super::status::width()) };
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// From where on the events are known.
fn beginning(first: &Event, since: u64) -> String {
    let at = show_time(WallTime(first.wall_ms));
    if first.number > since + 1 {
        format!("the events of {} begin with number {} at {at}; older ones are not kept", first.node, first.number)
    } else {
        format!("the events of {} from number {} at {at} on; times are UTC", first.node, first.number)
    }
}

/// One event, its reason in lines below each other.
fn draw(event: &Event, width: usize) -> String {
    let kind = serde_json::to_value(event.event).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    let at = show_time(WallTime(event.wall_ms));
    let mark = format!("{at}  {kind:<13} {:<12} ", event.subject);
    // Where little room is left beside the mark, the reason stands below it.
    if mark.chars().count() + 30 > width {
        return format!("{}\n{}", mark.trim_end(), indented("    ", &event.reason, width).trim_end());
    }
    indented(&mark, &event.reason, width).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64, reason: &str) -> Event {
        Event {
            number,
            at_us: 1,
            wall_ms: 1_795_377_600_000,
            node: "a".to_owned(),
            event: api::EventKind::LinkDown,
            subject: "b".to_owned(),
            reason: reason.to_owned(),
            problem: None,
        }
    }

    #[test]
    fn an_event_fits_the_terminal_and_its_columns_have_one_width() {
        let long = "the reason is longer than what is left of the line beside the mark, by far";
        let text = draw(&event(1, long), 100);
        assert!(text.starts_with("2026-11-22T20:00:00.000Z  link-down     b            the reason"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100) && text.lines().count() == 2, "{text}");
        let narrow = draw(&event(1, long), 60);
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
        let words: Vec<&str> = narrow.split_whitespace().collect();
        assert!(long.split(' ').all(|word| words.contains(&word)), "{narrow}");
    }

    #[test]
    fn it_is_said_where_the_events_begin() {
        assert!(beginning(&event(1, ""), 0).starts_with("the events of a from number 1 at"));
        assert!(beginning(&event(8, ""), 7).starts_with("the events of a from number 8 at"));
        assert!(beginning(&event(12, ""), 0).ends_with("older ones are not kept"));
    }
}
