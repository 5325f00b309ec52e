//! `cardea apply`: make a cluster file current. `cardea rollback`: make an earlier one current again.

use std::path::{Path, PathBuf};

use api::{PlanStatus, Refused, RefusedCode, Request, VersionItem};
use clap::Args;

use super::client::Client;
use super::{ask, check, is_colored, plan, print_reply};
use crate::diagnostics;

/// Makes a cluster file current on all nodes, after showing what it changes.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// The cluster file.
    file: PathBuf,
    #[command(flatten)]
    how: How,
    /// Refuses unless this version is the current one; without it, the one that the plan was made from.
    #[arg(long, value_name = "VERSION")]
    expect_version: Option<u64>,
    /// Also if the agents of the nodes cannot work with it; what they said is noted in the history.
    #[arg(long)]
    force: bool,
}

/// Makes an earlier version of the configuration current again, after showing what it changes.
#[derive(Args, Debug)]
pub struct RollbackArgs {
    /// The version; `cardea history --versions` lists them.
    version: u64,
    #[command(flatten)]
    how: How,
}

#[derive(Args, Debug)]
struct How {
    /// Does not ask before it changes anything; needed where there is no terminal, and with --json.
    #[arg(long, short)]
    yes: bool,
    /// Why; recorded in the history.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
    /// JSON instead of sentences.
    #[arg(long)]
    json: bool,
}

/// `cardea apply`.
pub fn run(root: &Path, args: ApplyArgs) -> anyhow::Result<()> {
    let text = check::read(&args.file)?;
    refuse_mistakes(&text, &args.file)?;
    let client = Client::new(root)?;
    let plan = plan::ask(&client, &text)?;
    show(&plan, "apply?", &args.how)?;
    // What is applied is what was shown: whoever came first meanwhile is not overwritten.
    let expected_version = Some(args.expect_version.unwrap_or(plan.config_version));
    let request = Request::Apply { text, expected_version, reason: args.how.reason, force: args.force };
    print_reply(&ask::carry_out(&client, &request, args.how.yes, args.how.json)?, args.how.json)
}

/// `cardea rollback`.
pub fn rollback(root: &Path, args: RollbackArgs) -> anyhow::Result<()> {
    let client = Client::new(root)?;
    let versions: Vec<VersionItem> = client.get("/v1/versions")?;
    let mut expected_version = None;
    // The daemon says which versions are kept.
    if let Some(version) = versions.into_iter().find(|version| version.config_version == args.version) {
        let plan = plan::ask(&client, &version.text)?;
        show(&plan, &format!("go back to version {}?", args.version), &args.how)?;
        expected_version = Some(plan.config_version);
    }
    let request = Request::Rollback { to: args.version, expected_version, reason: args.how.reason };
    print_reply(&ask::carry_out(&client, &request, args.how.yes, args.how.json)?, args.how.json)
}

fn show(plan: &PlanStatus, question: &str, how: &How) -> anyhow::Result<()> {
    if !how.json {
        plan::print(plan)?;
    }
    if how.yes { Ok(()) } else { ask::confirm(question, how.json) }
}

/// Mistakes are shown under the name that the operator gave the file.
fn refuse_mistakes(text: &str, file: &Path) -> anyhow::Result<()> {
    let Err(found) = config::parse(text) else { return Ok(()) };
    let name = file.display().to_string();
    let drawn = diagnostics::draw(text, &name, &found, is_colored());
    let next = format!("mend the places shown and try again; `cardea check {name}` checks without applying");
    Err(Refused::new(RefusedCode::Invalid, drawn, next).into())
}
