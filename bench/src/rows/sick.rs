//! How long does a node that is sick, and not dead, harm a service? One that hears nothing, or that nobody hears, as the
//! demo inflicts it; one whose worker or whose disk hangs while its heartbeats go on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::processes::Process;
use e2e::{Lab, until};
use serde_json::Value;

use super::{Row, failover};
use crate::Line;
use crate::figure::{Figure, Must};

/// Fault, figure in ms, words for a leader and for a follower.
const ONE_WAY: [(&str, f64, [&str; 2]); 2] = [
    ("deaf", 600.0, ["serving leader hears nothing", "serving follower hears nothing"]),
    ("mute", 500.0, ["nobody hears the serving leader", "nobody hears the serving follower"]),
];

/// Command of the lab, words for a leader and for a follower.
const HANGS: [(&str, [&str; 2]); 2] = [
    ("hang-worker", ["worker of the serving leader hangs", "worker of the serving follower hangs"]),
    ("hang-disk", ["disk of the serving leader hangs", "disk of the serving follower hangs"]),
];

/// The longest that a node may hang, in seconds.
const HANG_S: f64 = 20.0;

/// When a hang is given up; its value is this.
const PATIENCE: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn measure(line: &Line) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (fault, limit_ms, words) in ONE_WAY {
        let report = failover::demo(if line.quick { 1 } else { line.runs }, &[fault]);
        for (leader, words) in [true, false].into_iter().zip(words) {
            figures.push(match &report {
                Ok(report) => one_way(report, leader, limit_ms, words),
                Err(error) => Figure::new(Row::Sick, words, "ms", Must::MedianAtMost(limit_ms), Vec::new())
                    .noted(&format!("{error:#}")),
            });
        }
    }
    for (fault, words) in HANGS {
        for (leader, words) in [true, false].into_iter().zip(words) {
            let must = Must::WorstAtMost(HANG_S);
            let runs = if line.quick { 1 } else { 2 };
            figures.push(match hang(fault, leader, runs) {
                Ok((values, ends)) => Figure::new(Row::Sick, words, "s", must, values).noted(&ends.join(", ")),
                Err(error) => Figure::new(Row::Sick, words, "s", must, Vec::new()).noted(&format!("{error:#}")),
            });
        }
    }
    Ok(figures)
}

/// The figure of a demo that may have broken off.
fn one_way(report: &Value, leader: bool, limit_ms: f64, words: &str) -> Figure {
    let steps: Vec<&Value> =
        report["steps"].as_array().into_iter().flatten().filter(|step| step["leader"] == leader).collect();
    let values = steps.iter().filter_map(|step| step["outage_ms"].as_f64()).collect();
    let figure =
        Figure::new(Row::Sick, words, "ms", Must::MedianAtMost(limit_ms), values).noted(&failover::stages(&steps));
    match report["ok"].as_bool() {
        Some(true) => figure,
        Some(false) | None => figure.failed(&format!("the demo failed: {}", report["problems"])),
    }
}

/// Seconds from each hang to its end, and how it ended.
fn hang(fault: &str, leader: bool, runs: usize) -> Result<(Vec<f64>, Vec<String>)> {
    let (mut values, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        // Whatever a hang leaves behind is no matter of the next one.
        let lab = Lab::up(&[])?;
        lab.wait_until_whole()?;
        let place = lab.place_of("web")?;
        lead(&lab, &place, leader)?;
        let worker = lab.worker(&place)?;
        let begun = Instant::now();
        lab.must(&[fault, &place])?;
        let end = loop {
            if let Some(end) = ended(&lab, fault, &place, &worker) {
                break end;
            }
            if begun.elapsed() > PATIENCE {
                break "it goes on".to_owned();
            }
            std::thread::sleep(PAUSE);
        };
        values.push((begun.elapsed().as_secs_f64() * 100.0).round() / 100.0);
        ends.push(end);
    }
    Ok((values, ends))
}

/// How the hang ended, if it has: the service runs elsewhere, or a worker that works has taken over.
fn ended(lab: &Lab, fault: &str, hung: &str, worker: &Process) -> Option<String> {
    let seen = seen_by_others(lab, hung)?;
    let find = |list: &str, name: &str| seen[list].as_array()?.iter().find(|item| item["name"] == name).cloned();
    let web = find("resources", "web")?;
    let node = web["node"].as_str().unwrap_or_default();
    if web["state"] == "running" && node != hung && !node.is_empty() {
        let state = find("nodes", hung)?["state"].as_str().unwrap_or_default().to_owned();
        return Some(format!("the service runs elsewhere, the node is {state}"));
    }
    let is_another = fault == "hang-worker" && lab.worker(hung).is_ok_and(|now| now != *worker);
    let follows = |status: Value| status["quorate"] == true && status["leader"] == seen["leader"];
    let works = is_another && lab.node(hung).status().is_ok_and(follows);
    (works && web["state"] == "running").then(|| "the worker was replaced".to_owned())
}

/// The cluster as the other nodes see it, by the one that knows most. A node that hangs tells what it knew.
fn seen_by_others(lab: &Lab, hung: &str) -> Option<Value> {
    let others = lab.nodes().ok()?.into_iter().filter(|node| node.name != hung);
    let told = others
        .filter_map(|node| node.status().ok())
        .filter(|status| status["quorate"] == true && status["leader"].is_string());
    told.max_by_key(|status| status["applied"].as_u64())
}

/// Lets the node lead, or another.
fn lead(lab: &Lab, place: &str, leads: bool) -> Result<()> {
    let now = lab.leader()?;
    if (now.name == place) == leads {
        return Ok(());
    }
    let target = if leads {
        place.to_owned()
    } else {
        lab.names()?.into_iter().find(|name| name != place).context("another node")?
    };
    now.must(&["lead", &target])?;
    until("leadership is where it was sent", || {
        let leader = lab.status()?["leader"].as_str().map(str::to_owned);
        if leader.as_deref() == Some(target.as_str()) { Ok(()) } else { Err(format!("{leader:?}")) }
    })?;
    lab.wait_until_whole()?;
    Ok(())
}
