//! Stories: a cluster file, what happens, and what follows from it.
//!
//! Each folder below `what_if/` is a story: `cluster.toml` (or the one above it), `events.txt`, `plan.txt`. Everything
//! is where it belongs when the events happen, one a line: as `cardea plan --what-if` takes them; `then` on a line of its
//! own lets the plan be carried out before the next ones; `cold` begins with nothing running.
//! `UPDATE_GOLDENS=1` writes the plans anew; read their diff like code.

mod common;

use scheduler::reasons::{changed, story};
use scheduler::{Ask, carried_out, judge, judge_telling, situation_of, suppose};

#[test]
fn the_plans_are_as_written() {
    common::compare_stories("what_if", 20, "events.txt", told);
}

fn told(file: &str, events: &str) -> String {
    let config = config::parse(file).unwrap_or_else(|errors| panic!("{errors:?}")).config;
    let mut situation = situation_of(&config);
    let mut lines = events.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).peekable();
    if lines.peek() == Some(&"cold") {
        lines.next();
    } else {
        situation = carried_out(&situation, &judge(&situation));
    }
    for line in lines {
        if line == "then" {
            situation = carried_out(&situation, &judge(&situation));
        } else {
            let event = line.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
            suppose(&mut situation, &event).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
    let ask = Ask::Of(changed(&judge(&situation)));
    let (judgement, reasons) = judge_telling(&situation, &ask);
    story(&judgement, &reasons)
}
