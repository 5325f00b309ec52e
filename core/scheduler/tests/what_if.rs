//! Stories: a cluster file, what happens, and what follows from it.
//!
//! Each folder below `what_if/` is a story: `cluster.toml` (or the one above it), `events.txt`, `plan.txt`. Everything
//! is where it belongs when the events happen, one a line: as `cardea plan --what-if` takes them; `then` on a line of its
//! own lets the plan be carried out before the next ones; `cold` begins with nothing running.
//! `UPDATE_GOLDENS=1` writes the plans anew; read their diff like code.

#![allow(clippy::disallowed_methods)] // goldens are files

use std::path::Path;

use scheduler::reasons::{changed, story};
use scheduler::{Ask, carried_out, judge, judge_telling, situation_of, suppose};

#[test]
fn the_plans_are_as_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/what_if");
    let mut stories: Vec<_> = std::fs::read_dir(&root)
        .expect("the stories are there")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.is_dir())
        .collect();
    stories.sort();
    assert!(stories.len() >= 20, "only {} stories", stories.len());
    let mut changed = Vec::new();
    for story in stories {
        let read = |name: &str| std::fs::read_to_string(story.join(name)).ok();
        let file = read("cluster.toml").or_else(|| std::fs::read_to_string(root.join("cluster.toml")).ok());
        let told = told(&file.expect("a cluster file"), &read("events.txt").expect("events.txt"));
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            std::fs::write(story.join("plan.txt"), told).expect("a writable plan.txt");
        } else if read("plan.txt").as_deref() != Some(&told) {
            changed.push(format!("== {}\n{told}", story.display()));
        }
    }
    assert!(changed.is_empty(), "plans changed (UPDATE_GOLDENS=1 writes them anew):\n{}", changed.join("\n"));
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
