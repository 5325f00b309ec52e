//! `cardea apply`: make a cluster file current.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use api::Request;
use clap::Args;

use super::client::Client;
use super::{check, plan, print_reply};

/// Makes a cluster file current on all nodes, after showing what it changes.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// The cluster file.
    file: PathBuf,
    /// Does not ask before it changes anything.
    #[arg(long, short)]
    yes: bool,
    /// Why; recorded in the history.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
    /// Refuses unless this version is the current one.
    #[arg(long, value_name = "VERSION")]
    expect_version: Option<u64>,
    /// Also if the agents of the nodes cannot work with it; what they said is noted in the history.
    #[arg(long)]
    force: bool,
    /// JSON instead of sentences; implies --yes.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(root: &Path, args: ApplyArgs) -> anyhow::Result<()> {
    let text = check::read(&args.file)?;
    let client = Client::new(root)?;
    let is_asked = !args.yes && !args.json && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if !args.json {
        plan::print(&plan::ask(&client, &text)?)?;
    }
    if is_asked && !confirm("apply?")? {
        bail!("nothing was changed");
    }
    let request =
        Request::Apply { text, expected_version: args.expect_version, reason: args.reason, force: args.force };
    print_reply(&client.request(&request)?, args.json)
}

fn confirm(question: &str) -> anyhow::Result<bool> {
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
