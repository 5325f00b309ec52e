//! How long until a change of the configuration is seen on the other nodes?

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::{Lab, cluster_file, now_us};
use serde_json::{Value, json};

use super::Row;
use crate::Line;
use crate::figure::{Figure, Must};

/// Longest wait for a change to be seen.
const LIMIT: Duration = Duration::from_secs(10);

pub(super) fn measure(line: &Line) -> Result<Vec<Figure>> {
    let lab = Lab::with_file(&file(0))?;
    lab.wait_until_whole()?;
    let nodes = lab.nodes()?;
    let (sender, receiver) = mpsc::channel();
    for node in nodes.clone() {
        let sender = sender.clone();
        // It ends with the lab.
        thread::spawn(move || {
            let _ = node.api().follow(|event| sender.send((node.name.clone(), event)).is_ok());
        });
    }
    let leader = lab.leader()?.name;
    let runs = if line.quick { 5 } else { 25 };
    let mut values = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let asked = nodes.iter().filter(|node| node.name != leader).nth(run % 2).context("two nodes that follow")?;
        let begun_us = now_us();
        let request =
            json!({"apply": {"text": file(run), "expected_version": null, "reason": format!("change {run}")}});
        let reply = asked.api().request(&request)?;
        let version = format!("version {}", reply["index"]);
        let mut seen: Vec<(String, u64)> = Vec::new();
        while seen.len() < nodes.len() {
            let (name, event): (String, Value) = receiver.recv_timeout(LIMIT).context("the change is not seen")?;
            if event["event"] == "config" && event["subject"] == version.as_str() {
                seen.push((name, event["at_us"].as_u64().context("an event has a time")?));
            }
        }
        let first = seen.iter().map(|(_, at_us)| *at_us).min().context("a first")?;
        let last =
            seen.iter().filter(|(name, _)| *name != asked.name).map(|(_, at_us)| *at_us).max().context("a last")?;
        values.0.push(ms(last.saturating_sub(begun_us)));
        values.1.push(ms(last.saturating_sub(first)));
    }
    let must = Must::MedianAtMost(50.0);
    Ok(vec![
        Figure::new(Row::Change, "change sent until visible on the other nodes", "ms", must, values.0)
            .noted("from the request to a node that follows, until the last other node tells of the new version"),
        Figure::new(Row::Change, "change applied on the first node until on the last", "ms", must, values.1),
    ])
}

/// A file with another time between checks each time: another version that moves nothing.
fn file(run: usize) -> String {
    let every = 10 + run;
    cluster_file(
        &["a", "b", "c"],
        &format!(
            "[resources.sleeper]\nagent = \"cardea:process\"\ncommand = [\"sleep\", \"1000000\"]\nmonitor = {{ every = \"{every}s\" }}\n"
        ),
    )
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a few seconds")]
fn ms(us: u64) -> f64 {
    (us / 10) as f64 / 100.0
}
