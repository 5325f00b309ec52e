//! Mistakes in cluster files do no harm: a part of all small ones in every example.
//!
//! All of them: `cargo run --release -p sim -- edits examples/*/cluster.toml`.

use sim::every_edit;

/// Every so-manieth mistake; no divisor of the four that each letter gets.
const EVERY: usize = 97;

fn keep_all_promises(text: &str) {
    let report = every_edit(text, EVERY, |_| {});
    assert_eq!(report.broken, Vec::<(String, String)>::new());
    assert!(report.applied > 3 && report.refused > 3, "{report:?}");
}

#[test]
fn mistakes_in_the_floating_web_do_no_harm() {
    keep_all_promises(include_str!("../../examples/floating-web/cluster.toml"));
}

#[test]
fn mistakes_in_the_two_racks_do_no_harm() {
    keep_all_promises(include_str!("../../examples/two-racks/cluster.toml"));
}

#[test]
fn mistakes_in_the_database_do_no_harm() {
    keep_all_promises(include_str!("../../examples/database/cluster.toml"));
}
