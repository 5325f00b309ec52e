//! Stories of orders and answers, of what runs unordered, and of plans that cannot be finished.

use model::{ActionKind, ClusterConfig, NodeId, ResourceName};
use sim::{AgentMood, Fault, Mood, Seconds, Who, cluster, node, resource};

/// A copy of `web` under the name `extra`.
fn add_extra(config: &mut ClusterConfig) {
    let web = config.resources[&ResourceName::from("web")].clone();
    config.resources.insert("extra".into(), web);
}

/// A learner's worker hangs while its heartbeats go on; then the leader, which serves, loses power.
#[test]
fn a_hung_worker_elsewhere_does_not_stop_a_failover() {
    cluster(4)
        .resource("db", "prefers a")
        .settle()
        .lead("a")
        .from_here()
        .hang_worker("d")
        .run_for(2.s())
        .power_off("a")
        .run_for(20.s())
        .expect(resource("db").runs());
}

/// A learner's disk hangs for good: it cannot promise to obey no older leader, and is not waited for.
#[test]
fn a_hung_disk_elsewhere_does_not_stop_a_failover() {
    cluster(4)
        .resource("db", "prefers a")
        .settle()
        .lead("a")
        .from_here()
        .hang_disk("d")
        .run_for(2.s())
        .power_off("a")
        .run_for(20.s())
        .expect(resource("db").runs());
}

/// A node joins in a new life and dies before it was asked what runs there. Emptying another node afterwards must not
/// stop a service that could start nowhere, and nothing is lost when the wish is taken back.
#[test]
fn a_node_is_not_emptied_while_a_silent_one_keeps_its_service_from_the_others() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .power_off("c")
        .run_for(3.s())
        .when("joined", Fault::PowerOff(Who::Machine(2)))
        .power_on("c")
        .run_for(10.s())
        .from_here()
        .inflict(Fault::Act(ActionKind::Standby(NodeId(1))))
        .run_for(500.ms())
        .expect(resource("db").runs())
        .inflict(Fault::Undo(ActionKind::Standby(NodeId(1))))
        .run_for(20.s())
        .expect(resource("db").runs());
}

/// A resource joins a group that runs on one node, while it runs already on the others, which nobody ordered.
#[test]
fn what_joins_a_held_group_is_not_started_twice() {
    cluster(3)
        .resource("web", "prefers a")
        .group("site", &["web"])
        .settle()
        .lead("a")
        .move_to("site", "a")
        .run_for(3.s())
        .from_here()
        .wild("b", "extra")
        .wild("c", "extra")
        .stops_are("b", "extra", Mood::Slow)
        .stops_are("c", "extra", Mood::Slow)
        .configure(|config| {
            add_extra(config);
            config.groups.get_mut(&"site".into()).expect("site").members.push("extra".into());
        })
        .run_for(60.s())
        .expect(resource("extra").runs_on("a"));
}

/// A node wants to leave while something runs there that it does not hold: it stays until that has stopped.
#[test]
fn a_node_that_leaves_stops_what_it_does_not_hold_first() {
    for seed in 0..10 {
        cluster(3)
            .seed(seed)
            .resource("web", "prefers a")
            .settle()
            .lead("a")
            .from_here()
            .wild("c", "extra")
            .stops_are("c", "extra", Mood::Slow)
            .configure(add_extra)
            .when("orphan", Fault::Leave(Who::Machine(2)))
            .run_for(60.s())
            .expect(resource("extra").runs())
            .expect(resource("extra").avoids("c"));
    }
}

/// The wall clock of the leader is a year ahead while a node is lost three times: by a right clock it is forgiven.
#[test]
fn a_wrong_clock_suppresses_nobody_for_ever() {
    let year_ms = 3_600_000 * 24 * 365;
    let mut story = cluster(3)
        .resource("db", "prefers b, failback")
        .settle()
        .lead("a")
        .from_here()
        .inflict(Fault::WallStep(0, year_ms));
    for _ in 0..3 {
        story = story.power_off("b").run_for(3.s()).power_on("b").run_for(8.s()).move_to("db", "b").run_for(4.s());
    }
    let _ = story
        .expect(node("b").was_fenced(3))
        .inflict(Fault::WallStep(0, -year_ms))
        .run_for(60.s())
        .expect(resource("db").runs_on("b"));
}

/// A service that can be stopped nowhere costs one node, not one after the other.
#[test]
fn a_stop_that_fails_everywhere_costs_one_node() {
    cluster(4)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .stops_are("a", "db", Mood::Fails)
        .stops_are("b", "db", Mood::Fails)
        .stops_are("c", "db", Mood::Fails)
        .stops_are("d", "db", Mood::Fails)
        .move_to("db", "c")
        .run_for(5.s())
        .expect(node("b").was_fenced(1))
        .expect(resource("db").runs_on("c"))
        .move_to("db", "d")
        .run_for(20.s())
        .expect(resource("db").runs_on("c"))
        .expect(node("c").was_condemned(0));
}

/// The stop that failed everywhere is tried again: whoever mends its cause need not tell anybody.
#[test]
fn a_stop_that_could_not_work_is_tried_until_it_does() {
    cluster(4)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .stops_are("b", "db", Mood::Fails)
        .stops_are("c", "db", Mood::Fails)
        .move_to("db", "c")
        .run_for(5.s())
        .expect(node("b").was_fenced(1))
        .move_to("db", "d")
        .run_for(20.s())
        .expect(resource("db").runs_on("c"))
        .stops_are("c", "db", Mood::Works)
        .run_for(20.s())
        .expect(resource("db").runs_on("d"))
        .expect(node("c").was_condemned(0));
}

/// What a leader cannot stop itself, without holding it, another one fences it for.
#[test]
fn a_leader_that_is_in_the_way_lets_another_one_lead() {
    cluster(5)
        .resource("db", "prefers b")
        .settle()
        .lead("c")
        .agent(
            "a",
            "db",
            AgentMood { start: Mood::Works, stop: Mood::Fails, monitor: Mood::Fails, outlives_halt: false },
        )
        .power_off("a")
        .run_for(1.s())
        .power_on("a")
        .run_for(5.s())
        .lead("a")
        .from_here()
        .power_off("b")
        .run_for(20.s())
        .expect(node("a").was_condemned(1))
        .expect(resource("db").runs());
}

/// A machine that was fenced boots and starts a service by itself, as its operating system was told to. Its vote makes a
/// leader, which must not give the service to another node before the newcomer has said what runs there.
#[test]
fn what_a_machine_starts_at_its_boot_is_found_before_the_service_is_given_away() {
    cluster(3)
        .resource("db", "prefers a")
        .settle()
        .power_off("c")
        .run_for(3.s())
        .starts_at_boot("c", "db")
        .from_here()
        .power_off("a")
        .run_for(5.s())
        .power_on("c")
        .run_for(20.s())
        .expect(resource("db").runs());
}

/// The same, while the service fails on the node that holds it: it is not started there again unasked either.
#[test]
fn what_a_machine_starts_at_its_boot_is_found_before_the_service_is_started_again() {
    cluster(3)
        .resource("db", "prefers a")
        .settle()
        .power_off("c")
        .run_for(3.s())
        .starts_at_boot("c", "db")
        .from_here()
        .when("wild", Fault::KillService(Who::Machine(0), "db".into()))
        .power_on("c")
        .run_for(20.s())
        .expect(resource("db").runs());
}

/// Nobody is fenced for what may run twice: where it fails and cannot be stopped it is left, and starts elsewhere.
#[test]
fn what_may_run_twice_and_does_not_stop_starts_elsewhere() {
    cluster(3)
        .resource("cache", "best-effort, prefers c")
        .settle()
        .from_here()
        .stops_are("c", "cache", Mood::HangsDirty)
        .inflict(Fault::KillService(Who::Machine(2), "cache".into()))
        .run_for(20.s())
        .expect(resource("cache").avoids("c"))
        .expect(resource("cache").runs())
        .expect(node("c").was_condemned(0));
}
