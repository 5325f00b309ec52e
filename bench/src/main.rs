//! Are the figures reached? Every promise about time and size, measured on the built binary in a lab of namespaces.
//!
//! ```text
//!   cargo run --release -p bench -- line                 everything, about thirty-five minutes
//!   cargo run --release -p bench -- line --only worker   one row
//!   cargo run --release -p bench -- line --quick         shorter runs: a look, no proof
//!   cargo run --release -p bench -- attacks              a local user's worst, twenty seconds each
//! ```
//!
//! What cannot be measured here is said and counts as missed: no figure is ever assumed. Everything ends with the
//! program, on Ctrl-C too.

mod client;
mod figure;
mod load;
mod rows;

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

use figure::{Figure, Report};
use rows::Row;

/// Measures Cardea against its own promises.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure every row and print requirement, measured, spread and pass; exit 1 on a miss.
    Line(Line),
    /// Let a local user without rights do his worst on the serving node, twenty seconds each; exit 1 on any harm.
    Attacks {
        /// Print one JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a page every 5 ms from inside a lab's networks.
    #[command(hide = true)]
    Client(client::Orders),
}

/// How the line is measured.
#[derive(Clone, Debug, clap::Args)]
struct Line {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Measure only this row; repeat for several.
    #[arg(long, value_enum)]
    only: Vec<Row>,
    /// Short runs: a look, no proof.
    #[arg(long)]
    quick: bool,
    /// How often the demo inflicts each of its faults.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Leave out the runs with another program busy beside.
    #[arg(long)]
    no_load: bool,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        // Before any thread starts: it enters namespaces.
        Task::Client(orders) => client::run(&orders).map(|()| true),
        Task::Line(line) => measure(&line),
        Task::Attacks { json } => {
            measure(&Line { json, only: vec![Row::Attacks], quick: false, runs: 1, no_load: true })
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures; false on a miss.
fn measure(line: &Line) -> Result<bool> {
    end_on_signals()?;
    build()?;
    let rows: Vec<Row> = if line.only.is_empty() { Row::all() } else { line.only.clone() };
    let mut figures = Vec::new();
    for row in rows {
        eprintln!("measuring: {}", row.what());
        match row.measure(line) {
            Ok(found) => figures.extend(found),
            Err(error) => figures.push(Figure::not_measured(row, &format!("{error:#}"))),
        }
        for figure in figures.iter().filter(|figure| figure.row == row) {
            eprintln!("  {}", figure.line());
        }
    }
    let report = Report::new(figures, line.quick);
    if line.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", report.table());
    }
    Ok(report.ok)
}

/// Builds the program that is measured, unless it is named.
fn build() -> Result<()> {
    if std::env::var_os("CARDEA_BIN").is_some() {
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status =
        Command::new(cargo).args(["build", "--release", "--package", "cardea"]).status().context("running cargo")?;
    if !status.success() {
        bail!("the program that is to be measured does not build");
    }
    Ok(())
}

/// Ctrl-C and its like take every lab and every load with them.
fn end_on_signals() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            load::end_everything();
            e2e::end_everything();
            std::process::exit(130);
        }
    })?;
    Ok(())
}
