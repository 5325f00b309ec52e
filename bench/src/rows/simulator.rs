//! How many schedules does the simulator play through in a minute of one core?

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Row;
use crate::Line;
use crate::figure::{Figure, Must};
use crate::load::Beside;

pub(super) fn measure(line: &Line) -> Result<Vec<Figure>> {
    let seeds = if line.quick { "40" } else { "200" };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--release", "--package", "sim", "--", "run", "--seeds", seeds, "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let (_, text) = Beside::start(&mut command)?.output()?;
    let report: Value = serde_json::from_str(text.trim()).with_context(|| format!("the simulator printed: {text}"))?;
    let rate = report["schedules_per_minute_per_core"].as_f64().context("the simulator told no rate")?;
    let violations = report["violations"].as_f64().context("the simulator told no violations")?;
    let note = format!("{seeds} seeds, {} steps", report["steps"]);
    Ok(vec![
        Figure::new(
            Row::Simulator,
            "simulator: schedules per minute and core",
            "",
            Must::MedianAtLeast(300.0),
            vec![rate.round()],
        )
        .noted(&note),
        Figure::new(Row::Simulator, "simulator: violations", "", Must::WorstAtMost(0.0), vec![violations]),
    ])
}
