//! `cardea plan`: what would this cluster file change, or what would follow from this CIB?

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;
use api::PlanStatus;
use clap::Args;
use serde_json::json;

use super::client::Client;
use super::plan_cib::{self, CibArgs};
use super::{check, print_json};

/// Shows what applying a cluster file would change, and why; changes nothing. Exit status 1 if `apply` would refuse it. With --what-if and nothing else: what would be
/// done in the running cluster if that happened now.
#[derive(Args, Debug)]
pub struct PlanArgs {
    /// The cluster file.
    #[arg(required_unless_present_any = ["cib", "cib_dir", "what_if"], conflicts_with_all = ["cib", "cib_dir"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    cib: CibArgs,
    /// JSON instead of lines.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(root: &Path, args: &PlanArgs) -> anyhow::Result<()> {
    let Some(file) = &args.file else {
        return if args.cib.is_named() {
            plan_cib::run(&args.cib, args.json)
        } else {
            plan_cib::run_now(&Client::new(root)?, &args.cib, args.json)
        };
    };
    let text = check::read(file)?;
    // What cannot be applied can be planned all the same: with nothing running.
    let is_for_planning = config::parse(&text).is_err() && config::parse_for_planning(&text).is_ok();
    if args.cib.is_hypothetical() || is_for_planning {
        return plan_cib::run_file(&text, &args.cib, args.json);
    }
    let plan = ask(&Client::new(root)?, &text)?;
    if args.json {
        print_json(&plan)?
    } else {
        print(&plan)?
    }
    match plan.refused {
        Some(refused) => bail!("`cardea apply` would refuse this file: {refused}"),
        None => Ok(()),
    }
}

/// Asks the daemon for the plan of a file.
pub fn ask(client: &Client, text: &str) -> anyhow::Result<PlanStatus> {
    client.post("/v1/plan", &json!({ "text": text }))
}

/// Prints the plan for people.
pub fn print(plan: &PlanStatus) -> anyhow::Result<()> {
    std::io::stdout().lock().write_all(draw(plan).as_bytes())?;
    Ok(())
}

/// The plan as lines: warnings, what changes in the cluster itself, where everything goes, the steps.
fn draw(plan: &PlanStatus) -> String {
    let mut out = String::new();
    for warning in &plan.warnings {
        out += &format!("warning: {warning}\n");
    }
    for sentence in plan.changes.iter().chain(&plan.decisions) {
        out += &format!("{sentence}\n");
    }
    if plan.steps.is_empty() {
        out += "nothing would be started, stopped or moved\n";
    }
    for step in &plan.steps {
        let after: Vec<String> = step.after.iter().map(ToString::to_string).collect();
        let after = if after.is_empty() { String::new() } else { format!("  (after {})", after.join(", ")) };
        // Every decision stands above with its reason; a step tells its own only where it is another one.
        let reason = if plan.decisions.contains(&step.reason) { String::new() } else { format!(": {}", step.reason) };
        out += &format!("{:>3}. {}{reason}{after}\n", step.number, step.what);
    }
    out
}

#[cfg(test)]
mod tests {
    use api::StepStatus;

    use super::*;

    fn step(number: usize, what: &str, reason: &str, after: &[usize]) -> StepStatus {
        StepStatus { number, what: what.to_owned(), reason: reason.to_owned(), after: after.to_vec() }
    }

    #[test]
    fn a_plan_tells_every_reason_once() {
        let decision = "web goes to b, the best of the nodes that can run it";
        let plan = PlanStatus {
            decisions: vec![decision.to_owned()],
            steps: vec![
                step(1, "probe db on c", "nobody knows whether db runs on c", &[]),
                step(2, "grant web to b", decision, &[]),
                step(3, "start web on b", decision, &[2]),
            ],
            warnings: vec!["node `a` has a single link".to_owned()],
            changes: vec!["the profile becomes wan".to_owned()],
            ..PlanStatus::default()
        };
        let expected = "\
warning: node `a` has a single link
the profile becomes wan
web goes to b, the best of the nodes that can run it
  1. probe db on c: nobody knows whether db runs on c
  2. grant web to b
  3. start web on b  (after 2)
";
        assert_eq!(draw(&plan), expected);
    }

    #[test]
    fn a_plan_without_steps_says_so() {
        assert_eq!(draw(&PlanStatus::default()), "nothing would be started, stopped or moved\n");
    }
}
