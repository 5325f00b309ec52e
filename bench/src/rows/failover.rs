//! How long is the client without its page? The demo, as it is; idle, and beside a busy processor.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use e2e::{Lab, cardea};
use serde_json::Value;

use super::Row;
use crate::Line;
use crate::figure::{Figure, Must, spread};
use crate::load::{self, Beside};

/// How much longer it may take beside a busy program.
const LOAD_FACTOR: f64 = 1.3;

/// Fault, whether the serving node led (none: it does not matter), the figure in ms, in words.
const FAULTS: [(&str, Option<bool>, f64, &str); 8] = [
    ("poweroff", Some(true), 500.0, "serving leader loses power"),
    ("poweroff", Some(false), 500.0, "serving follower loses power"),
    ("cut", Some(true), 500.0, "network of the serving leader is cut"),
    ("cut", Some(false), 500.0, "network of the serving follower is cut"),
    ("freeze", Some(true), 500.0, "serving leader is frozen"),
    ("freeze", Some(false), 500.0, "serving follower is frozen"),
    ("kill", None, 60.0, "service process dies, beyond its own start"),
    ("move", None, 100.0, "move by hand"),
];

/// The stages between a fault and its end, as the demo names them.
const STAGES: [&str; 8] = ["detected", "elected", "condemned", "fenced", "granted", "address", "ready", "client"];

pub(super) fn measure(line: &Line) -> Result<Vec<Figure>> {
    let runs = if line.quick { 1 } else { line.runs };
    let mut figures = judge(&whole_demo(runs)?, 1.0);
    if !line.no_load {
        match load::busy_processor().and_then(|load| Ok((whole_demo(runs)?, load))) {
            Ok((report, _load)) => figures.extend(judge(&report, LOAD_FACTOR).into_iter().map(Figure::beside_load)),
            Err(error) => figures.push(Figure::not_measured(Row::Failover, &format!("{error:#}")).beside_load()),
        }
    }
    Ok(figures)
}

/// The report of a demo that survived everything.
fn whole_demo(runs: u32) -> Result<Value> {
    let report = demo(runs, &[])?;
    if report["ok"] != true {
        bail!("the demo failed: {}", report["problems"]);
    }
    Ok(report)
}

/// The report of a demo with these faults, or the usual ones. It may have broken off.
pub(super) fn demo(runs: u32, only: &[&str]) -> Result<Value> {
    let lab = Lab::reserve()?;
    let mut command = Command::new(cardea());
    command.args(["demo", "--json", "--runs", &runs.to_string(), "--dir"]).arg(lab.dir());
    command.args(only.iter().flat_map(|fault| ["--only", fault]));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let (_, text) = Beside::start(&mut command)?.output()?;
    serde_json::from_str(&text).context("the demo printed no report")
}

/// The figures of a report; every limit times `factor`.
fn judge(report: &Value, factor: f64) -> Vec<Figure> {
    let steps: Vec<&Value> = report["steps"].as_array().into_iter().flatten().collect();
    let mut figures: Vec<Figure> = FAULTS
        .iter()
        .map(|(fault, leader, limit_ms, words)| {
            let of_fault = steps.iter().filter(|step| step["fault"] == *fault);
            let hit: Vec<&Value> =
                of_fault.filter(|step| leader.is_none_or(|leader| step["leader"] == leader)).copied().collect();
            let own_start = |step: &Value| if *fault == "kill" { step["start_ms"].as_f64() } else { Some(0.0) };
            let values = hit.iter().filter_map(|step| Some((step["outage_ms"].as_f64()? - own_start(step)?).max(0.0)));
            let values: Vec<f64> = values.map(|ms| (ms * 10.0).round() / 10.0).collect();
            let must = Must::MedianAtMost(limit_ms * factor);
            Figure::new(Row::Failover, words, "ms", must, values).noted(&stages(&hit))
        })
        .collect();
    let doubles = report["double_answers"].as_f64().into_iter().collect();
    figures.push(Figure::new(Row::Failover, "answers from two nodes at once", "", Must::WorstAtMost(0.0), doubles));
    figures
}

/// When the stages were reached, medians in ms after the fault: `detected 241, elected 260, …`.
pub(super) fn stages(steps: &[&Value]) -> String {
    let median = |stage: &&str| {
        let values: Vec<f64> = steps.iter().filter_map(|step| step[format!("{stage}_ms")].as_f64()).collect();
        spread(&values).map(|(_, median, _)| format!("{stage} {median:.1}"))
    };
    STAGES.iter().filter_map(median).collect::<Vec<String>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn leaders_and_followers_have_figures_of_their_own() {
        let step = |fault: &str, leader: bool, outage_ms: f64| json!({"fault": fault, "leader": leader, "outage_ms": outage_ms, "start_ms": 20.0, "detected_ms": 241.0});
        let steps = [step("cut", true, 510.0), step("cut", false, 400.0), step("kill", false, 70.0)];
        let figures = judge(&json!({"steps": steps, "double_answers": 0}), 1.0);
        let of = |words: &str| figures.iter().find(|figure| figure.what == words).expect("a figure");
        assert!(!of("network of the serving leader is cut").pass);
        assert!(of("network of the serving follower is cut").pass);
        assert_eq!(of("service process dies, beyond its own start").values, [50.0]);
        assert_eq!(of("network of the serving leader is cut").note, "detected 241.0");
        assert!(!of("move by hand").pass, "what was not measured is missed");
        assert!(of("answers from two nodes at once").pass);
    }
}
