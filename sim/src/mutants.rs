//! Can the simulator fail? Each planted bug must be caught by a promise, not by accident, and seeds that catch it must
//! pass without it.

use model::{Bug, Bugs};
use serde::Serialize;

use crate::campaign::{Campaign, run};
use crate::scenario::{Flavour, Scenario};

/// The planted bugs by name.
const ALL: [(&str, Bug); 10] = [
    ("no-wait-for-fence-done", Bug::NoWaitForFenceDone),
    ("grant-without-release", Bug::GrantWithoutRelease),
    ("epoch-ignored", Bug::EpochIgnored),
    ("stop-assumed", Bug::StopAssumed),
    ("journal-after-spawn", Bug::JournalAfterSpawn),
    ("pre-vote-off", Bug::PreVoteOff),
    ("digest-skipped", Bug::DigestSkipped),
    ("read-back-skipped", Bug::ReadBackSkipped),
    ("evidence-skipped", Bug::EvidenceSkipped),
    ("vote-before-persist", Bug::VoteBeforePersist),
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

/// Plants each bug in turn and looks for it with at most `seeds` seeds.
pub fn mutants(seeds: u64, mut each: impl FnMut(&Mutant)) -> MutantReport {
    let mutants = ALL
        .into_iter()
        .map(|(name, bug)| {
            let mutant = hunt(name, bug, seeds);
            each(&mutant);
            mutant
        })
        .collect();
    MutantReport { mutants }
}

fn hunt(name: &'static str, bug: Bug, seeds: u64) -> Mutant {
    let bugs = Bugs::NONE.with(bug);
    // The state of reference applies every entry as the majority does.
    let reference_bugs = if bug == Bug::DigestSkipped { Bugs::NONE } else { bugs };
    let mut from = 0;
    while from < seeds {
        let campaign = Campaign {
            flavours: Flavour::usual(),
            from,
            seeds: seeds - from,
            bugs,
            reference_bugs,
            ends_at_first: true,
        };
        let report = run(&campaign, |_| {});
        let Some(broken) = report.broken.first() else { break };
        let by = broken.violation.as_ref().map(|violation| violation.invariant);
        let is_clean = Scenario::of(broken.seed).run(Bugs::NONE, Bugs::NONE, false).violation.is_none();
        if is_clean && by.is_some_and(|by| by != "assertion") {
            return Mutant { name, caught: true, by, seeds: broken.seed + 1 };
        }
        from = broken.seed + 1;
    }
    Mutant { name, caught: false, by: None, seeds }
}
