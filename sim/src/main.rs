//! The simulator's command line: run many seeds, replay one, prove that planted bugs are caught.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use model::Bugs;
use sim::{Campaign, MILLIS, SECONDS, Scenario};

/// Whole Cardea clusters in virtual time: faults by chance, promises checked after every step.
#[derive(Parser)]
#[command(name = "sim")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run seeds on all cores; exits with 1 if one breaks a promise.
    Run {
        /// How many seeds.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// The result as JSON on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Run one seed and tell everything that happens, one line per event.
    Replay {
        /// The seed.
        seed: u64,
    },
    /// Plant bugs and see each caught by a promise; exits with 1 if one is not.
    Mutants {
        /// How many seeds may be tried for each.
        #[arg(long, default_value_t = 500)]
        seeds: u64,
        /// The result as JSON on standard output.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let is_good = match Arguments::parse().command {
        Task::Run { seeds, from, json } => run(seeds, from, json),
        Task::Replay { seed } => replay(seed),
        Task::Mutants { seeds, json } => mutants(seeds, json),
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(seeds: u64, from: u64, json: bool) -> bool {
    let campaign = Campaign { from, seeds, bugs: Bugs::NONE, reference_bugs: Bugs::NONE, ends_at_first: false };
    let report = sim::run(&campaign, tell_broken);
    if json {
        println!("{}", serde_json::to_string(&report).expect("a report is plain data"));
    } else {
        println!(
            "{} seeds, {} steps, {} violations, {} schedules per minute and core",
            report.seeds, report.steps, report.violations, report.schedules_per_minute_per_core
        );
    }
    report.violations == 0
}

fn tell_broken(run: &sim::Run) {
    let Some(violation) = &run.violation else { return };
    eprintln!(
        "seed {}: {} is broken at {}.{:03} s: {}\n    cargo run --release -p sim -- replay {}",
        run.seed,
        violation.invariant,
        violation.at / SECONDS,
        violation.at % SECONDS / MILLIS,
        violation.sentence,
        run.seed
    );
}

fn replay(seed: u64) -> bool {
    let scenario = Scenario::of(seed);
    println!("seed {seed}: {:?}, {} faults planned", scenario.flavour, scenario.faults.len());
    let run = scenario.run(Bugs::NONE, Bugs::NONE, true);
    println!("{} steps, hash {:016x}", run.steps, run.hash);
    tell_broken(&run);
    run.violation.is_none()
}

fn mutants(seeds: u64, json: bool) -> bool {
    let report = sim::mutants(seeds, |mutant| {
        if !json {
            match mutant.by {
                Some(by) => println!("{}: caught by {by} after {} seeds", mutant.name, mutant.seeds),
                None => println!("{}: NOT CAUGHT in {} seeds", mutant.name, mutant.seeds),
            }
        }
    });
    if json {
        println!("{}", serde_json::to_string(&report).expect("a report is plain data"));
    }
    report.mutants.iter().all(|mutant| mutant.caught)
}
