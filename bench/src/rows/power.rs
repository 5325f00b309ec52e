//! How long from the return of a site's power to its services, when one machine boots late, or never?

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::{Lab, now_us, until};
use serde_json::Value;

use super::Row;
use crate::Line;
use crate::figure::{Figure, Must};

/// What happens to a node that is taken for lost.
const ENDS: [&str; 3] = ["condemned", "fence-called", "fenced"];

pub(super) fn measure(line: &Line) -> Result<Vec<Figure>> {
    let late_s: u64 = if line.quick { 20 } else { 180 };
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;

    // What the late machine held would have to wait for it: nobody knows what it does.
    let (others, late) = all_but(&lab, |name, place| name != place)?;
    lab.must(&["crash", "--all"])?;
    let since = now_us();
    lab.must(&["start", &late, "--boot-takes", &format!("{late_s}s")])?;
    let boot = boot_of(&lab, &late)?;
    let with_late = power_up(&lab, &others)?;
    thread::sleep(Duration::from_secs(late_s));
    lab.wait_until_whole()?;
    let ends = lab.events_of(&ENDS, since)?;
    let fences = if boot_of(&lab, &late)? == boot { ends.len() } else { ends.len().max(1) };
    let note = ends.first().map(|event| format!("first: {event}")).unwrap_or_default();

    let (others, _dark) = all_but(&lab, |name, place| name == place)?;
    lab.must(&["crash", "--all"])?;
    let without = power_up(&lab, &others)?;
    let (up, none) = (Must::WorstAtMost(5.0), Must::WorstAtMost(0.0));
    let fences = f64::from(u32::try_from(fences).unwrap_or(u32::MAX));
    Ok(vec![
        Figure::new(
            Row::PowerUp,
            "site powered up, one machine late: until the services run",
            "s",
            up,
            vec![with_late],
        )
        .noted(&format!("the third daemon starts {late_s} s after its power")),
        Figure::new(
            Row::PowerUp,
            "site powered up, one machine late: ends of a node that boots",
            "",
            none,
            vec![fences],
        )
        .noted(&note),
        Figure::new(
            Row::PowerUp,
            "site powered up, one machine without power: until the services run",
            "s",
            up,
            vec![without],
        ),
    ])
}

/// The nodes but one, and that one: the last that is chosen by its name and the place of the service.
fn all_but(lab: &Lab, choose: impl Fn(&str, &str) -> bool) -> Result<(Vec<String>, String)> {
    let place = lab.place_of("web")?;
    let mut names = lab.names()?;
    let chosen = names.iter().rposition(|name| choose(name, &place)).context("a node to choose")?;
    let one = names.remove(chosen);
    Ok((names, one))
}

fn boot_of(lab: &Lab, node: &str) -> Result<Value> {
    let status = lab.lab_status()?;
    let found = status["nodes"].as_array().and_then(|nodes| nodes.iter().find(|found| found["name"] == node));
    Ok(found.context("a node of the lab")?["boot_id"].clone())
}

/// Gives power to these nodes; seconds until the service runs on one of them.
fn power_up(lab: &Lab, nodes: &[String]) -> Result<f64> {
    let words: Vec<&str> = std::iter::once("start").chain(nodes.iter().map(String::as_str)).collect();
    lab.must(&words)?;
    let begun = Instant::now();
    until("the service runs", || {
        let place = lab.place_now("web")?;
        if nodes.contains(&place) { Ok(()) } else { Err(format!("it was on {place}")) }
    })?;
    Ok((begun.elapsed().as_secs_f64() * 100.0).round() / 100.0)
}
