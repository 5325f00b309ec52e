//! Can the simulator fail? Each planted bug must be caught by a promise, not by accident, and seeds that catch it must
//! pass without it.

use model::{Bug, Bugs};
use serde::Serialize;

use crate::campaign::{Campaign, run};
use crate::scenario::{Flavour, Scenario};

/// The planted bugs by name, each with the flavours that are tried; none: the usual ones.
const ALL: [(&str, Bug, &[Flavour]); 20] = [
    ("no-wait-for-fence-done", Bug::NoWaitForFenceDone, &[]),
    ("grant-without-release", Bug::GrantWithoutRelease, &[]),
    ("epoch-ignored", Bug::EpochIgnored, &[]),
    ("stop-assumed", Bug::StopAssumed, &[]),
    ("journal-after-spawn", Bug::JournalAfterSpawn, &[]),
    ("pre-vote-off", Bug::PreVoteOff, &[]),
    ("digest-skipped", Bug::DigestSkipped, &[]),
    ("read-back-skipped", Bug::ReadBackSkipped, &[]),
    ("evidence-skipped", Bug::EvidenceSkipped, &[]),
    ("vote-before-persist", Bug::VoteBeforePersist, &[]),
    ("older-op-taken", Bug::OlderOpTaken, &[Flavour::BadWeather]),
    ("holders-outlive-boot", Bug::HoldersOutliveBoot, &[]),
    ("status-misread", Bug::StatusMisread, &[]),
    ("fenced-stays-out", Bug::FencedStaysOut, &[]),
    ("journal-lost", Bug::JournalLost, &[]),
    ("durable-too-early", Bug::DurableTooEarly, &[]),
    ("wrong-plug", Bug::WrongPlug, &[]),
    ("adoption-forgets", Bug::AdoptionForgets, &[]),
    ("same-life", Bug::SameLife, &[]),
    ("result-lost", Bug::ResultLost, &[]),
];

/// What became of one planted bug.
#[derive(Clone, Debug, Serialize)]
pub struct Mutant {
    /// Its name.
    pub name: &'static str,
    /// Was it caught by a promise, on a seed that passes without it?
    pub caught: bool,
    /// Which promise caught it.
    pub by: Option<&'static str>,
    /// How many seeds that took, or were tried.
    pub seeds: u64,
}

/// What became of all of them.
#[derive(Clone, Debug, Serialize)]
pub struct MutantReport {
    /// One by one.
    pub mutants: Vec<Mutant>,
}

/// Plants each bug in turn, or those that are named, and looks for it with at most `seeds` seeds.
pub fn mutants(names: &[String], seeds: u64, mut each: impl FnMut(&Mutant)) -> MutantReport {
    let mutants = ALL
        .into_iter()
        .filter(|(name, _, _)| names.is_empty() || names.iter().any(|wanted| wanted == name))
        .map(|(name, bug, flavours)| {
            let flavours = if flavours.is_empty() { Flavour::usual() } else { flavours.to_vec() };
            let mutant = hunt(name, bug, &flavours, seeds);
            each(&mutant);
            mutant
        })
        .collect();
    MutantReport { mutants }
}

fn hunt(name: &'static str, bug: Bug, flavours: &[Flavour], seeds: u64) -> Mutant {
    let bugs = Bugs::NONE.with(bug);
    // The state of reference applies every entry as the majority does.
    let reference_bugs = if bug == Bug::DigestSkipped { Bugs::NONE } else { bugs };
    let mut from = 0;
    while from < seeds {
        let campaign = Campaign {
            flavours: flavours.to_vec(),
            from,
            seeds: seeds - from,
            bugs,
            reference_bugs,
            ends_at_first: true,
        };
        let report = run(&campaign, |_| {});
        let Some(broken) = report.broken.first() else { break };
        let by = broken.violation.as_ref().map(|violation| violation.invariant);
        let is_clean = Scenario::among(flavours, broken.seed).run(Bugs::NONE, Bugs::NONE, false).violation.is_none();
        if is_clean && by.is_some_and(|by| by != "assertion") {
            return Mutant { name, caught: true, by, seeds: broken.seed + 1 };
        }
        from = broken.seed + 1;
    }
    Mutant { name, caught: false, by: None, seeds }
}
