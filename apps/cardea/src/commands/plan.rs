//! `cardea plan`: what would this cluster file change?

use std::path::{Path, PathBuf};

use api::PlanStatus;
use clap::Args;
use serde_json::json;

use super::client::Client;
use super::{check, print_json};

/// Shows what applying a cluster file would change, and why; changes nothing.
#[derive(Args, Debug)]
pub struct PlanArgs {
    /// The cluster file.
    file: PathBuf,
    /// JSON instead of lines.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(root: &Path, args: &PlanArgs) -> anyhow::Result<()> {
    let text = check::read(&args.file)?;
    let plan = ask(&Client::new(root)?, &text)?;
    if args.json { print_json(&plan) } else { print(&plan) }
}

/// Asks the daemon for the plan of a file.
pub fn ask(client: &Client, text: &str) -> anyhow::Result<PlanStatus> {
    client.post("/v1/plan", &json!({ "text": text }))
}

/// The plan for people.
pub fn print(plan: &PlanStatus) -> anyhow::Result<()> {
    for warning in &plan.warnings {
        println!("warning: {warning}");
    }
    for decision in &plan.decisions {
        println!("{decision}");
    }
    if plan.steps.is_empty() {
        println!("nothing would change");
    }
    for step in &plan.steps {
        let after: Vec<String> = step.after.iter().map(ToString::to_string).collect();
        let after = if after.is_empty() { String::new() } else { format!("  (after {})", after.join(", ")) };
        println!("{:>3}. {}: {}{after}", step.number, step.what, step.reason);
    }
    Ok(())
}
