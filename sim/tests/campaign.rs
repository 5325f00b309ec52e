//! The simulator itself: the same seed is the same run, seeds differ, and a few of each flavour keep all promises.

use model::{Bug, Bugs};
use sim::{Campaign, Flavour, Scenario};

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [0, 3, 7, 12, 13] {
        let [one, other] = [0, 1].map(|_| Scenario::of(seed).run(Bugs::NONE, Bugs::NONE, false));
        assert_eq!((one.hash, one.steps), (other.hash, other.steps), "seed {seed}");
        assert_ne!(one.hash, Scenario::of(seed + 100).run(Bugs::NONE, Bugs::NONE, false).hash);
    }
}

#[test]
fn a_few_seeds_of_every_flavour_keep_all_promises() {
    let campaign = Campaign {
        flavours: Flavour::all(),
        from: 500,
        seeds: 56,
        bugs: Bugs::NONE,
        reference_bugs: Bugs::NONE,
        ends_at: None,
    };
    let report = sim::run(&campaign, |run| eprintln!("{run:?}"));
    assert_eq!(report.violations, 0);
}

#[test]
fn a_planted_bug_breaks_a_promise_by_name() {
    let bugs = Bugs::NONE.with(Bug::ReadBackSkipped);
    let campaign =
        Campaign { flavours: Flavour::all(), from: 0, seeds: 100, bugs, reference_bugs: bugs, ends_at: None };
    let report = sim::run(&campaign, |_| {});
    let violation = report.broken.first().and_then(|run| run.violation.as_ref()).expect("a bug is caught");
    assert_ne!(violation.invariant, "assertion", "{violation:?}");
}

/// A seed that found a fault for which there is no story yet: a hung disk that went on moved the lead.
#[test]
fn a_seed_that_found_a_fault_keeps_all_promises() {
    assert_eq!(Scenario::among(&[Flavour::SickDisks], 2774).run(Bugs::NONE, Bugs::NONE, false).violation, None);
}
