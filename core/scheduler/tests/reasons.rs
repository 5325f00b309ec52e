//! Does an explanation say what decided, in words that an operator reads?

use model::situation::{Score, Situation};
use scheduler::reasons::{Explanation, explain};
use scheduler::{carried_out, judge, situation_of, suppose};

const FILE: &str = r#"
cluster = "shop"
[nodes.a]
links = ["10.0.0.1", "10.1.0.1"]
fence = ["power"]
[nodes.b]
links = ["10.0.0.2", "10.1.0.2"]
fence = ["power"]
[nodes.c]
links = ["10.0.0.3", "10.1.0.3"]
fence = ["power"]
[fence.power]
agent = "fence_lab"
[resources.db]
agent = "ocf:heartbeat:Dummy"
prefer = ["a", "b"]
[resources.address]
agent = "ocf:heartbeat:Dummy"
[resources.web]
agent = "ocf:heartbeat:Dummy"
[groups.site]
members = ["address", "web"]
"#;

fn running() -> Situation {
    let situation = situation_of(&config::parse(FILE).expect("a cluster file").config);
    carried_out(&situation, &judge(&situation))
}

fn after(events: &[&str]) -> Situation {
    let mut situation = running();
    for event in events {
        suppose(&mut situation, &event.parse().expect("an event")).expect("it can happen");
    }
    situation
}

fn explained(situation: &Situation, resource: &str) -> Explanation {
    explain(situation, resource).unwrap_or_else(|| panic!("{resource} is there"))
}

#[test]
fn what_stays_says_so_and_who_took_the_others_out() {
    let mut situation = after(&["standby=c"]);
    situation.nodes[2].why = Some("is in standby since 12:04 (root: new disks)".to_owned());
    let db = explained(&situation, "db");
    assert_eq!(
        db.decision,
        "db stays on a: a is preferred (100), and it runs there; c is excluded: it is in standby since 12:04 (root: new disks)"
    );
    assert_eq!(db.nodes[1].because, ["is preferred (50)"]);
    assert_eq!((db.nodes[1].can_run, db.nodes[1].score), (true, Score::of(50)));
    assert_eq!(db.nodes[2].because, ["is in standby since 12:04 (root: new disks)"]);
    assert!(!db.nodes[2].can_run);
}

#[test]
fn stickiness_is_said_where_it_decides() {
    let mut situation = after(&["standby=a"]);
    situation = carried_out(&situation, &judge(&situation));
    suppose(&mut situation, &"node=a:online".parse().expect("an event")).expect("it can happen");
    assert_eq!(
        explained(&situation, "db").decision,
        "db stays on b: it runs there and nothing prefers another node more than its stickiness"
    );
}

#[test]
fn what_moves_says_what_drives_it_away() {
    let situation = after(&["standby=a"]);
    assert_eq!(explained(&situation, "db").decision, "db moves from a to b: a is in standby; b is preferred (50)");
}

#[test]
fn a_group_speaks_with_one_voice_and_names_the_member_that_cannot_go() {
    let mut situation = running();
    let place = explained(&situation, "site").nodes.into_iter().find(|row| row.score > Score::ZERO).expect("it runs");
    let facts = situation.nodes.iter_mut().find(|node| node.name.0 == place.node).expect("a node");
    facts.attributes.insert("fail-count-web#start_0".to_owned(), "INFINITY".to_owned());
    let site = explained(&situation, "site");
    let expected = format!(
        "site moves from {0} to b: {0} cannot have web, which must be with site: it saw web fail in a way that rules it out",
        place.node
    );
    assert!(site.decision.starts_with(&expected), "{}", site.decision);
    let web = explained(&situation, "web").decision;
    assert_eq!(web, format!("web moves from {0} to b: {0} saw web fail in a way that rules it out", place.node));
    let address = explained(&running(), "web").decision;
    assert_eq!(address, format!("web stays on {}: that is where address is", place.node));
}

#[test]
fn where_all_are_equal_the_tie_break_is_told() {
    let situation = situation_of(&config::parse(FILE).expect("a cluster file").config);
    let site = explained(&situation, "site").decision;
    assert!(site.contains("fewer resources") || site.contains("comes first by name"), "{site}");
    assert!(!site.contains("score"), "{site}");
}

#[test]
fn what_is_not_there_is_not_explained() {
    assert_eq!(explain(&running(), "nothing"), None);
}

#[test]
fn copies_are_told_together() {
    let copies = FILE.replace("prefer = [\"a\", \"b\"]", "copies = 2");
    let situation = situation_of(&config::parse(&copies).expect("a cluster file").config);
    let situation = carried_out(&situation, &judge(&situation));
    let mut then = situation.clone();
    let db = explained(&situation, "db");
    assert!(db.decision.starts_with("db has 2 of 2 instances: on "), "{}", db.decision);
    suppose(&mut then, &"standby=a".parse().expect("an event")).expect("it can happen");
    suppose(&mut then, &"standby=b".parse().expect("an event")).expect("it can happen");
    let db = explained(&then, "db");
    assert!(db.decision.starts_with("db has 1 of 2 instances: on c"), "{}", db.decision);
    assert!(!db.nodes[0].can_run && db.nodes[2].can_run, "{:?}", db.nodes);
}
