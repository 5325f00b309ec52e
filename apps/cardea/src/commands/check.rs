//! `cardea check`: is this cluster file right? Needs no daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use config::{Diagnostic, Severity};
use serde::Serialize;

use super::{is_colored, print_json};
use crate::{diagnostics, misfits};

/// How long the agents of this machine are asked.
const ASK_AGENTS: Duration = Duration::from_secs(60);

/// Checks a cluster file and points at what is wrong; needs no daemon.
///
/// Agents that are installed on this machine are asked what parameters they take. An agent that is not here is a
/// warning: this machine need not be a node. `cardea plan` asks the agents of every node.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The cluster file.
    file: PathBuf,
    /// JSON instead of a drawing.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    ok: bool,
    diagnostics: Vec<Found<'a>>,
}

#[derive(Serialize)]
struct Found<'a> {
    severity: &'static str,
    code: &'a str,
    message: &'a str,
    line: Option<usize>,
    column: Option<usize>,
    label: &'a str,
    help: Option<&'a str>,
}

/// Reads a file, or says why not.
pub fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Runs the command: 0 if the file can be applied, 1 if not.
pub fn run(root: &Path, args: &CheckArgs) -> anyhow::Result<i32> {
    let text = read(&args.file)?;
    let (ok, found) = match config::parse(&text) {
        Ok(parsed) => {
            let resources = parsed.config.resources.keys().cloned().collect();
            let misfits = agents::misfits(root, &parsed.config, &resources, ASK_AGENTS);
            let found = [misfits::of_this_machine(&text, &misfits), parsed.warnings].concat();
            (found.iter().all(|diagnostic| diagnostic.severity == Severity::Warning), found)
        }
        Err(diagnostics) => (false, diagnostics),
    };
    let name = args.file.display().to_string();
    if args.json {
        let diagnostics = found.iter().map(|diagnostic| show(&text, diagnostic)).collect();
        print_json(&Report { version: api::VERSION, ok, diagnostics })?;
    } else {
        if !found.is_empty() {
            eprintln!("{}", diagnostics::draw(&text, &name, &found, is_colored()));
        }
        if ok {
            println!("{name}: fine{}", if found.is_empty() { "" } else { ", with the warnings above" });
        }
    }
    Ok(i32::from(!ok))
}

fn show<'a>(text: &str, diagnostic: &'a Diagnostic) -> Found<'a> {
    let place = diagnostic.span.as_ref().map(|span| config::line_column(text, span.start));
    Found {
        severity: match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        code: diagnostic.code,
        message: &diagnostic.message,
        line: place.map(|(line, _)| line),
        column: place.map(|(_, column)| column),
        label: &diagnostic.label,
        help: diagnostic.help.as_deref(),
    }
}
