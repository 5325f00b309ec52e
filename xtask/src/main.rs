//! The chores of the repository: `cargo xtask ci`, `cargo xtask layers`, `cargo xtask conformance`,
//! `cargo xtask random-cibs`.

mod ci;
mod conformance;
mod layers;
mod packages;
mod random_cibs;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of the repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything that must hold before a change is kept, in order; stops at the first failure.
    Ci {
        /// A skipped test counts as a failed one.
        #[arg(long)]
        no_skips: bool,
        /// Only this stage; may be given more than once.
        #[arg(long, value_name = "STAGE")]
        only: Vec<ci::Stage>,
    },
    /// Do dependencies go downhill, and is the product free of planted bugs?
    Layers,
    /// Does the scheduler decide as Pacemaker does, wherever it did before?
    Conformance {
        /// The folder of the cases: `cases/`, `compare.py`.
        #[arg(long, value_name = "DIR")]
        cases: Option<std::path::PathBuf>,
        /// Adds to the list what passes by now.
        #[arg(long)]
        update: bool,
    },
    /// Random small Pacemaker clusters: is each plan sound, and the one of `crm_simulate` where that is installed?
    RandomCibs {
        /// How many.
        #[arg(long, value_name = "NUMBER", default_value_t = 500)]
        seeds: u64,
        /// The first seed.
        #[arg(long, value_name = "SEED", default_value_t = 0)]
        first: u64,
        /// Where the CIBs and the plans are written; else to `target/random-cibs`.
        #[arg(long, value_name = "DIR")]
        out: Option<std::path::PathBuf>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().chore {
        Chore::Ci { no_skips, only } => ci::run(no_skips, &only),
        Chore::Layers => layers::check(),
        Chore::RandomCibs { seeds, first, out } => random_cibs::run(seeds, first, out),
        Chore::Conformance { cases, update } => conformance::run(cases, update),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
