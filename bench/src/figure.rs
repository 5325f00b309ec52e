//! What was promised, what was measured, and is it enough?

use std::fmt::Write as _;

use serde::Serialize;

use crate::rows::Row;

/// A promise about a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Must {
    /// The median is at most this.
    MedianAtMost(f64),
    /// The median is at least this.
    MedianAtLeast(f64),
    /// The largest is at most this.
    WorstAtMost(f64),
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The row of the requirements.
    pub row: Row,
    /// What is measured.
    pub what: String,
    /// Unit of the numbers: `ms`, `s`, `MiB`, …
    pub unit: &'static str,
    /// What was promised.
    pub must: Must,
    /// Was another program busy beside?
    pub load: bool,
    /// Every value, in the order of measuring.
    pub values: Vec<f64>,
    /// Is the promise kept? Not if nothing was measured.
    pub pass: bool,
    /// How it was measured, or why it was not.
    pub note: String,
}

/// Smallest, middle and largest value; none if there are none.
pub fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
    Some((min, median, max))
}

impl Figure {
    /// A figure from its values; no values, no pass.
    pub fn new(row: Row, what: &str, unit: &'static str, must: Must, values: Vec<f64>) -> Figure {
        let pass = spread(&values).is_some_and(|(_, median, max)| match must {
            Must::MedianAtMost(limit) => median <= limit,
            Must::MedianAtLeast(limit) => median >= limit,
            Must::WorstAtMost(limit) => max <= limit,
        });
        Figure { row, what: what.to_owned(), unit, must, load: false, values, pass, note: String::new() }
    }

    /// The same with a word about how it was measured.
    pub fn noted(mut self, note: &str) -> Figure {
        note.clone_into(&mut self.note);
        self
    }

    /// The same with what went wrong: no pass, whatever was measured.
    pub fn failed(mut self, why: &str) -> Figure {
        self.pass = false;
        let note = std::mem::take(&mut self.note);
        self.note = if note.is_empty() { why.to_owned() } else { format!("{why}; {note}") };
        self
    }

    /// The same, measured beside a busy program.
    pub fn beside_load(mut self) -> Figure {
        self.load = true;
        self
    }

    /// A row that could not be measured.
    pub fn not_measured(row: Row, why: &str) -> Figure {
        Figure::new(row, row.what(), "", Must::WorstAtMost(0.0), Vec::new()).noted(&format!("not measured: {why}"))
    }

    fn must(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        match self.must {
            Must::MedianAtMost(limit) | Must::WorstAtMost(limit) => format!("≤ {}{unit}", shown(limit)),
            Must::MedianAtLeast(limit) => format!("≥ {}{unit}", shown(limit)),
        }
    }

    fn measured(&self) -> String {
        let Some((min, median, max)) = spread(&self.values) else { return "–".to_owned() };
        let (min, median, max) = (shown(min), shown(median), shown(max));
        if self.values.len() == 1 { median } else { format!("{median} ({min} – {max})") }
    }

    fn verdict(&self) -> &'static str {
        if self.pass { "pass" } else { "MISS" }
    }

    /// The figure in one line.
    pub fn line(&self) -> String {
        let beside = if self.load { ", beside a busy program" } else { "" };
        let note = if self.note.is_empty() { String::new() } else { format!("  [{}]", self.note) };
        format!(
            "{} {}{beside}: {} {}, must be {}{note}",
            self.verdict(),
            self.what,
            self.measured(),
            self.unit,
            self.must()
        )
    }
}

/// A number with as many digits as tell something.
fn shown(value: f64) -> String {
    if value == value.round() {
        format!("{value:.0}")
    } else if value.abs() < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.1}")
    }
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// Processors of the machine.
    pub processors: usize,
    /// Short runs, no proof.
    pub quick: bool,
    /// The figures.
    pub figures: Vec<Figure>,
    /// Are all promises kept?
    pub ok: bool,
}

impl Report {
    /// A report of these figures.
    pub fn new(figures: Vec<Figure>, quick: bool) -> Report {
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        let ok = !figures.is_empty() && figures.iter().all(|figure| figure.pass);
        Report { version: 1, processors, quick, figures, ok }
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let header = ["what", "must", "measured: median (min – max)", "runs", ""].map(str::to_owned);
        let rows = self.figures.iter().map(|figure| {
            let beside = if figure.load { ", beside a busy program" } else { "" };
            let runs = figure.values.len().to_string();
            [format!("{}{beside}", figure.what), figure.must(), figure.measured(), runs, figure.verdict().to_owned()]
        });
        let rows: Vec<[String; 5]> = std::iter::once(header).chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..5).map(width).collect();
        let mut text = String::new();
        for row in &rows {
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(text, "{cell}{}  ", " ".repeat(width - cell.chars().count()));
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        for figure in self.figures.iter().filter(|figure| !figure.note.is_empty()) {
            let _ = write!(text, "\n{}: {}", figure.what, figure.note);
        }
        let _ = write!(
            text,
            "\n{} processors{}",
            self.processors,
            if self.quick { "; short runs: a look, no proof" } else { "" }
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(must: Must, values: &[f64]) -> Figure {
        Figure::new(Row::Failover, "x", "ms", must, values.to_vec())
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        assert!(!figure(Must::MedianAtMost(5.0), &[]).pass);
        assert!(!Figure::not_measured(Row::Loss, "nft is missing").pass);
        assert!(!figure(Must::MedianAtMost(5.0), &[1.0]).failed("it broke off").pass);
        assert!(!Report::new(Vec::new(), false).ok);
    }

    #[test]
    fn a_median_forgives_one_bad_run_and_a_worst_does_not() {
        assert!(figure(Must::MedianAtMost(5.0), &[1.0, 2.0, 100.0]).pass);
        assert!(!figure(Must::WorstAtMost(5.0), &[1.0, 2.0, 100.0]).pass);
        assert!(figure(Must::MedianAtLeast(300.0), &[299.0, 301.0]).pass);
        assert!(!figure(Must::MedianAtLeast(300.0), &[200.0, 301.0]).pass);
    }

    #[test]
    fn the_table_shows_requirement_median_and_spread() {
        let report = Report::new(vec![figure(Must::MedianAtMost(500.0), &[330.04, 410.0, 395.5])], false);
        let table = report.table();
        assert!(table.contains("≤ 500 ms"), "{table}");
        assert!(table.contains("395.5 (330.0 – 410)"), "{table}");
        assert!(table.contains("pass"), "{table}");
    }
}
