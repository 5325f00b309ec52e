//! Can the simulator fail? Each planted bug must be caught by the promise that speaks of it, not by accident, and a seed
//! that catches it must pass without it.

use model::{Bug, Bugs};
use serde::Serialize;

use crate::campaign::{Campaign, run};
use crate::scenario::{Flavour, Run, Scenario};

/// The planted bugs: by name, the promise that has to catch each, and the flavours that are tried; none: all.
const ALL: [(&str, Bug, &str, &[Flavour]); 35] = [
    ("no-wait-for-fence-done", Bug::NoWaitForFenceDone, "i4-holder-ends-by-proof", &[]),
    ("grant-without-release", Bug::GrantWithoutRelease, "i1-one-holder", &[]),
    ("holders-outlive-boot", Bug::HoldersOutliveBoot, "i1-one-holder", &[]),
    ("journal-after-spawn", Bug::JournalAfterSpawn, "i2-start-needs-grant", &[]),
    ("durable-too-early", Bug::DurableTooEarly, "i2-start-needs-grant", &[]),
    ("file-unchecked", Bug::FileUnchecked, "i3-fence-cover", &[Flavour::Configurations]),
    ("read-back-skipped", Bug::ReadBackSkipped, "i5-dead-stays-dead", &[]),
    ("status-misread", Bug::StatusMisread, "i5-dead-stays-dead", &[]),
    ("wrong-plug", Bug::WrongPlug, "i5-dead-stays-dead", &[]),
    ("epoch-ignored", Bug::EpochIgnored, "i6-no-older-operation", &[]),
    ("older-op-taken", Bug::OlderOpTaken, "i6-no-older-operation", &[Flavour::BadWeather]),
    ("elsewhere-unasked", Bug::ElsewhereUnasked, "i8-fence-before-grant", &[]),
    ("stop-assumed", Bug::StopAssumed, "one-active", &[]),
    ("adoption-forgets", Bug::AdoptionForgets, "at-most-once", &[]),
    ("vote-before-persist", Bug::VoteBeforePersist, "one-leader", &[Flavour::Elections]),
    ("conflict-kept", Bug::ConflictKept, "logs-agree", &[Flavour::Elections]),
    ("ack-before-persist", Bug::AckBeforePersist, "committed-survives", &[Flavour::Elections]),
    ("digest-skipped", Bug::DigestSkipped, "states-agree", &[]),
    ("pre-vote-off", Bug::PreVoteOff, "term-steady", &[]),
    ("evidence-skipped", Bug::EvidenceSkipped, "heard-is-not-condemned", &[Flavour::Partitions, Flavour::OneWay]),
    ("hold-down-skipped", Bug::HoldDownSkipped, "short-silence", &[]),
    ("off-unagreed", Bug::OffUnagreed, "off-is-agreed", &[]),
    ("spare-skipped", Bug::SpareSkipped, "off-is-agreed", &[Flavour::PausedLeaders]),
    ("late-answer-taken", Bug::LateAnswerTaken, "i5-dead-stays-dead", &[Flavour::Devices]),
    ("raise-unasked", Bug::RaiseUnasked, "all-can-read", &[Flavour::Upgrades]),
    ("patience-skipped", Bug::PatienceSkipped, "boots-in-peace", &[Flavour::SlowBoots]),
    ("stop-cost-forgotten", Bug::StopCostForgotten, "fences-are-bounded", &[Flavour::SickAgents]),
    ("not-begun-blocks", Bug::NotBegunBlocks, "edits-are-harmless", &[Flavour::Edits]),
    ("not-begun-believed", Bug::NotBegunBelieved, "one-active", &[Flavour::SickAgents]),
    ("one-way-contact", Bug::OneWayContact, "stays-available", &[Flavour::OneWay]),
    ("sick-tolerated", Bug::SickTolerated, "stays-available", &[Flavour::Lasting]),
    ("fenced-stays-out", Bug::FencedStaysOut, "recovers", &[]),
    ("journal-lost", Bug::JournalLost, "recovers", &[]),
    ("same-life", Bug::SameLife, "recovers", &[]),
    ("result-lost", Bug::ResultLost, "recovers", &[]),
];

/// What became of one planted bug.
#[derive(Clone, Debug, Serialize)]
pub struct Mutant {
    /// Its name.
    pub name: &'static str,
    /// Was it caught by the promise that has to, on a seed that passes without it?
    pub caught: bool,
    /// Which promise that is.
    pub by: &'static str,
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
        .filter(|(name, ..)| names.is_empty() || names.iter().any(|wanted| wanted == name))
        .map(|(name, bug, by, flavours)| {
            let flavours = if flavours.is_empty() { Flavour::all() } else { flavours.to_vec() };
            let mutant = hunt(name, bug, by, &flavours, seeds);
            each(&mutant);
            mutant
        })
        .collect();
    MutantReport { mutants }
}

fn hunt(name: &'static str, bug: Bug, by: &'static str, flavours: &[Flavour], seeds: u64) -> Mutant {
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
            ends_at: Some(by),
        };
        let report = run(&campaign, |_| {});
        let is_hit = |broken: &&Run| broken.violation.as_ref().is_some_and(|violation| violation.invariant == by);
        let Some(seed) = report.broken.iter().find(is_hit).map(|broken| broken.seed) else { break };
        if Scenario::among(flavours, seed).run(Bugs::NONE, Bugs::NONE, false).violation.is_none() {
            return Mutant { name, caught: true, by, seeds: seed + 1 };
        }
        from = seed + 1;
    }
    Mutant { name, caught: false, by, seeds }
}
