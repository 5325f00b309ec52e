//! The simulator's command line: run many seeds, replay one, prove that planted bugs are caught.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use model::Bugs;
use sim::{Campaign, EditReport, Flavour, MILLIS, Mutant, SECONDS, Scenario};

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
        /// What the seeds attack, by the names of `Flavour`: `lasting,wild`. Without it: everything.
        #[arg(long, value_delimiter = ',', value_parser = flavour)]
        flavours: Vec<Flavour>,
        /// The result as JSON on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Run one seed and tell everything that happens, one line per event.
    Replay {
        /// The seed.
        seed: u64,
        /// The flavours of the campaign that the seed is from.
        #[arg(long, value_delimiter = ',', value_parser = flavour)]
        flavours: Vec<Flavour>,
    },
    /// Make every small mistake in a cluster file (a letter or a line dropped, doubled, swapped, replaced), and apply each to
    /// a running cluster; exits with 1 if one does harm.
    Edits {
        /// The files; their nodes are `a`, `b`, … and perhaps the witness `w`.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Only every so-manieth mistake.
        #[arg(long, default_value_t = 1)]
        every: usize,
        /// The result as JSON on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Plant bugs and see each caught by a promise; exits with 1 if one is not.
    Mutants {
        /// Only these bugs.
        names: Vec<String>,
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
        Task::Run { seeds, from, flavours, json } => run(seeds, from, flavours, json),
        Task::Replay { seed, flavours } => replay(seed, flavours),
        Task::Edits { files, every, json } => files.iter().all(|file| edits(file, every, json)),
        Task::Mutants { names, seeds, json } => mutants(&names, seeds, json),
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn flavour(name: &str) -> Result<Flavour, String> {
    Flavour::named(name).ok_or_else(|| format!("there is no flavour `{name}`"))
}

/// The flavours that were named, or all.
fn chosen(flavours: Vec<Flavour>) -> Vec<Flavour> {
    if flavours.is_empty() { Flavour::all() } else { flavours }
}

fn run(seeds: u64, from: u64, flavours: Vec<Flavour>, json: bool) -> bool {
    let named: Vec<String> = flavours.iter().map(|flavour| format!("{flavour:?}").to_lowercase()).collect();
    let arguments = if named.is_empty() { String::new() } else { format!(" --flavours {}", named.join(",")) };
    let flavours = chosen(flavours);
    let campaign = Campaign { flavours, from, seeds, bugs: Bugs::NONE, reference_bugs: Bugs::NONE, ends_at: None };
    let report = sim::run(&campaign, |run| tell_broken(run, &arguments));
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

fn tell_broken(run: &sim::Run, arguments: &str) {
    let Some(violation) = &run.violation else { return };
    eprintln!(
        "seed {}: {} is broken at {}.{:03} s: {}\n    cargo run --release -p sim -- replay {}{arguments}",
        run.seed,
        violation.invariant,
        violation.at / SECONDS,
        violation.at % SECONDS / MILLIS,
        violation.sentence,
        run.seed
    );
}

fn replay(seed: u64, flavours: Vec<Flavour>) -> bool {
    let scenario = Scenario::among(&chosen(flavours), seed);
    println!("seed {seed}: {:?}, {} faults planned", scenario.flavour, scenario.faults.len());
    let run = scenario.run(Bugs::NONE, Bugs::NONE, true);
    println!("{} steps, hash {:016x}", run.steps, run.hash);
    tell_broken(&run, "");
    run.violation.is_none()
}

fn edits(file: &Path, every: usize, json: bool) -> bool {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{} cannot be read: {error}", file.display());
            return false;
        }
    };
    if let Err(findings) = config::parse(&text) {
        let why = findings.first().map_or("", |finding| finding.message.as_str());
        eprintln!("{} is no cluster file: {why}", file.display());
        return false;
    }
    let report = sim::every_edit(&text, every, |_| {});
    for (what, sentence) in &report.broken {
        eprintln!("{}:{what}\n    {sentence}", file.display());
    }
    if json {
        println!("{}", serde_json::to_string(&report).expect("a report is plain data"));
    } else {
        let EditReport { tried, refused, same, applied, broken } = &report;
        let (file, broken) = (file.display(), broken.len());
        println!(
            "{file}: {tried} mistakes, {refused} refused, {same} say the same, {applied} applied, {broken} do harm"
        );
    }
    report.broken.is_empty()
}

fn mutants(names: &[String], seeds: u64, json: bool) -> bool {
    let report = sim::mutants(names, seeds, |mutant| {
        if !json {
            let Mutant { name, by, seeds, .. } = mutant;
            if mutant.caught {
                println!("{name}: caught by {by} after {seeds} seeds");
            } else {
                println!("{name}: NOT CAUGHT by {by} in {seeds} seeds");
            }
        }
    });
    if json {
        println!("{}", serde_json::to_string(&report).expect("a report is plain data"));
    }
    report.mutants.iter().all(|mutant| mutant.caught)
}
