//! `cardea demo`: a service survives the death of its node, here and now.

use clap::Args;

use crate::demo::{self, Fault, Options};
use crate::lab::folder::{FolderError, default_path};
use crate::lab::launch;

/// Show a service surviving every common failure, on this machine, in minutes.
///
/// Three nodes in namespaces run the real daemon; a client fetches a page every 5 ms while the service is killed, its
/// node loses power, is cut off or frozen, and the service is moved by hand. Needs neither root nor any package.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How often to do everything.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Leave the cluster up at the end; `cardea lab` commands work on it.
    #[arg(long)]
    keep: bool,
    /// Fail if a median misses its figure.
    #[arg(long)]
    check: bool,
    /// Only this fault; repeat for several. Default: all but deaf and mute.
    #[arg(long, value_enum, value_name = "FAULT")]
    only: Vec<Fault>,
    /// Where the nodes' disks lie. Default: cardea-demo below $TMPDIR or /var/tmp.
    #[arg(long, value_name = "DIR")]
    dir: Option<std::path::PathBuf>,
    /// Allow a folder in memory.
    #[arg(long)]
    volatile: bool,
}

/// Runs it; returns the exit status.
pub fn run(args: DemoArgs) -> anyhow::Result<i32> {
    let faults = if args.only.is_empty() { Fault::USUAL.to_vec() } else { args.only };
    let options = Options { runs: args.runs, json: args.json, keep: args.keep, check: args.check, faults };
    let layout = demo::layout()?;
    let folder = match args.dir {
        Some(dir) => launch::make_folder(&dir, args.volatile)?,
        None => free_folder(args.volatile)?,
    };
    launch::demo(folder, layout, options)
}

/// Two demos may run beside each other.
fn free_folder(volatile: bool) -> anyhow::Result<crate::lab::folder::Folder> {
    let first = default_path("cardea-demo");
    let mut result = launch::make_folder(&first, volatile);
    for number in 2..=9 {
        if !matches!(&result, Err(error) if matches!(error.downcast_ref(), Some(FolderError::Busy(_)))) {
            break;
        }
        let mut name = first.clone().into_os_string();
        name.push(format!("-{number}"));
        result = launch::make_folder(name.as_ref(), volatile);
    }
    result
}
