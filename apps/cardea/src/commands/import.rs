//! `cardea import`: what others wrote becomes a cluster file.
//!
//! Needs no daemon and changes nothing but the file that it writes.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{cib_file, plan_cib, print_json};

/// Writes a cluster file from what another cluster manager is configured with.
#[derive(Args, Debug)]
pub struct ImportArgs {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    Pacemaker(PacemakerArgs),
}

/// Writes a cluster file that decides as a Pacemaker CIB does, and lists what was not understood.
#[derive(Args, Debug)]
struct PacemakerArgs {
    /// The CIB, as `cibadmin --query` prints it.
    cib: PathBuf,
    /// Where the cluster file goes; else it is printed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replaces the file that is there.
    #[arg(long, requires = "out")]
    force: bool,
    /// The time at which rules with dates are settled (ISO 8601, or seconds since 1970); else the one that the CIB says, or that of this machine.
    #[arg(long, value_name = "TIME")]
    now: Option<String>,
    /// JSON: the file as text, and what was not understood.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Imported<'a> {
    version: u32,
    file: &'a str,
    not_understood: Vec<NotUnderstood<'a>>,
}

#[derive(Serialize)]
struct NotUnderstood<'a> {
    place: &'a str,
    what: &'a str,
}

/// Runs the command.
pub fn run(args: &ImportArgs) -> anyhow::Result<()> {
    let From::Pacemaker(args) = &args.from;
    let text = cib_file::read(&args.cib)?;
    let time = match &args.now {
        Some(now) => import::Time::At(plan_cib::time(now)?),
        None => plan_cib::recorded_or_now(),
    };
    let mut imported = import::cluster_file(&text, time, scheduler::situation_of)
        .with_context(|| format!("{} cannot be imported", args.cib.display()))?;
    imported.not_understood.extend(import::against_schema(&text));
    if let Some(out) = &args.out {
        write(out, &imported.text, args.force)?;
    }
    if args.json {
        let remarks = imported.not_understood.iter();
        return print_json(&Imported {
            version: 1,
            file: &imported.text,
            not_understood: remarks.map(|r| NotUnderstood { place: &r.place, what: &r.what }).collect(),
        });
    }
    for remark in &imported.not_understood {
        eprintln!("not understood: {}: {}", remark.place, remark.what);
    }
    match &args.out {
        Some(out) => {
            println!("{} is written; `cardea check {}` says what is to be filled in", out.display(), out.display())
        }
        None => std::io::stdout().lock().write_all(imported.text.as_bytes())?,
    }
    Ok(())
}

fn write(out: &Path, text: &str, replaces: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if replaces {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = match options.open(out) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is there already; write to another file, or replace it with --force", out.display())
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", out.display())),
    };
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", out.display()))
}
