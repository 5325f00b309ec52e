//! Nodes that end, one, many and all: what runs is handed over where somebody stays, and stopped in order where nobody
//! does (ADR-0018).

use std::time::Duration;

use model::ActionKind;
use sim::{Cluster, Fault, Mood, Seconds, Who, cluster, everything, node, resource};

fn leave(m: usize) -> Fault {
    Fault::Leave(Who::Machine(m))
}

fn start(m: usize) -> Fault {
    Fault::StartDaemon(Who::Machine(m))
}

/// Three members, `db` on b and `web` on c.
fn site(seed: u64) -> Cluster {
    cluster(3).seed(seed).resource("db", "prefers b").resource("web", "prefers c").settle().from_here()
}

fn all_have_ended(story: Cluster) -> Cluster {
    story
        .expect(node("a").has_halted(1))
        .expect(node("b").has_halted(1))
        .expect(node("c").has_halted(1))
        .expect(resource("db").runs_nowhere())
        .expect(resource("web").runs_nowhere())
}

/// Nobody was cut off or accused.
fn in_peace(story: Cluster) -> Cluster {
    ["a", "b", "c"].into_iter().fold(story, |story, name| {
        story.expect(node(name).was_condemned(0)).expect(node(name).was_told_off(0)).expect(node(name).lost_power(0))
    })
}

fn after_a_start(story: Cluster) -> Cluster {
    (0..3)
        .fold(story, |story, m| story.inflict(start(m)).run_for(300.ms()))
        .run_for(10.s())
        .expect(resource("db").runs_on("b"))
        .expect(resource("web").runs_on("c"))
        .expect(everything())
}

/// The site is shut down as one: nothing moves, all end, and the next start needs no word from anybody.
#[test]
fn a_site_is_shut_down_and_starts_again() {
    for seed in 0..4 {
        let story = site(seed).inflict(Fault::Act(ActionKind::ShutDown)).run_for(6.s());
        let story = all_have_ended(story).expect(resource("db").was_granted(0)).expect(resource("web").was_granted(0));
        in_peace(after_a_start(in_peace(story)));
    }
}

/// Machines are told to end together, not all in the same moment: services do not hop to those that end as well.
#[test]
fn services_do_not_hop_while_a_majority_ends() {
    for seed in 0..4 {
        let story = site(seed).inflict(leave(0)).inflict(leave(1)).run_for(5.s());
        let story = story.expect(resource("db").runs_nowhere()).expect(resource("db").was_granted(0));
        let story = story.expect(resource("web").runs_on("c"));
        let story = story.expect(node("a").has_halted(1)).expect(node("b").has_halted(1));
        // The last one has nobody to agree with, and stops its service by itself.
        let story = all_have_ended(story.inflict(leave(2)).run_for(8.s()));
        in_peace(after_a_start(in_peace(story)));
    }
}

/// One that ends alone hands over, also when another one has gone before.
#[test]
fn one_that_ends_alone_hands_over() {
    for seed in 0..4 {
        let story = site(seed).inflict(leave(0)).run_for(5.s()).expect(node("a").has_halted(1));
        let story = story.inflict(leave(1)).run_for(3.s()).expect(resource("db").runs_on("c"));
        let story = story.inflict(leave(2)).run_for(8.s());
        in_peace(all_have_ended(story)).heal().settle();
    }
}

/// Two have lost their power, the third is told to end: it has no quorum, and stops what it runs.
#[test]
fn the_last_one_stops_its_services_by_itself() {
    for seed in 0..4 {
        cluster(3)
            .seed(seed)
            .resource("db", "prefers c")
            .resource("web", "prefers c")
            .settle()
            .from_here()
            .power_off("a")
            .power_off("b")
            .run_for(1.s())
            .inflict(leave(2))
            .run_for(8.s())
            .expect(node("c").has_halted(1))
            .expect(resource("db").runs_nowhere())
            .expect(resource("web").runs_nowhere())
            // In the same boot: what it had stopped is no failure, and runs again.
            .inflict(start(2))
            .run_for(1.s())
            .power_on("a")
            .power_on("b")
            .run_for(20.s())
            .expect(resource("db").runs_on("c"))
            .expect(node("c").was_condemned(0))
            .expect(everything());
    }
}

/// In maintenance the services of the last one go on, and its daemon does not wait for anybody.
#[test]
fn the_last_one_ends_in_maintenance_and_stops_nothing() {
    cluster(3)
        .resource("db", "prefers c")
        .settle()
        .inflict(Fault::Act(ActionKind::ClusterMaintenance))
        .run_for(1.s())
        .from_here()
        .power_off("a")
        .power_off("b")
        .run_for(1.s())
        .inflict(leave(2))
        .run_for(5.s())
        .expect(node("c").has_halted(1))
        .expect(resource("db").runs_on("c"));
}

/// A machine dies in the middle of the shutdown: the others end all the same, and cut nobody off for it.
#[test]
fn a_crash_during_the_shutdown_keeps_nobody() {
    for (seed, pause) in [(0, 0), (1, 50), (2, 200), (3, 600)] {
        for name in ["b", "c"] {
            site(seed)
                .inflict(Fault::Act(ActionKind::ShutDown))
                .run_for(Duration::from_millis(pause))
                .power_off(name)
                .run_for(12.s())
                .expect(node("a").has_halted(1))
                .expect(node(name).was_told_off(0))
                .heal()
                .settle();
        }
    }
}

/// The site is told to end while a service is just taken over from a dead node.
#[test]
fn a_shutdown_during_a_failover_ends() {
    for (seed, pause) in [(0, 100), (1, 300), (2, 500)] {
        site(seed)
            .power_off("b")
            .run_for(Duration::from_millis(pause))
            .inflict(leave(0))
            .inflict(leave(2))
            .run_for(15.s())
            .expect(node("a").has_halted(1))
            .expect(node("c").has_halted(1))
            .expect(resource("db").runs_nowhere())
            .expect(resource("web").runs_nowhere())
            .heal()
            .settle();
    }
}

/// Who is started again while others are still ending starts nothing until they have ended.
#[test]
fn nothing_starts_while_others_still_end() {
    cluster(3)
        .resource("db", "prefers a")
        .resource("web", "prefers c")
        .settle()
        .lead("b")
        .stops_are("c", "web", Mood::Slow)
        .from_here()
        .inflict(Fault::Act(ActionKind::ShutDown))
        .run_for(500.ms())
        .power_off("a")
        .power_on("a")
        .run_for(2.s())
        .expect(resource("db").was_started(0))
        .heal()
        .settle();
}

/// What cannot be stopped keeps only its own node, and nobody is fenced for it.
#[test]
fn a_failed_stop_does_not_keep_the_site() {
    cluster(3)
        .resource("db", "prefers b")
        .resource("web", "prefers c")
        .settle()
        .lead("a")
        .stops_are("c", "web", Mood::Fails)
        .from_here()
        .inflict(Fault::Act(ActionKind::ShutDown))
        .run_for(20.s())
        .expect(node("a").has_halted(1))
        .expect(node("b").has_halted(1))
        .expect(node("c").has_halted(1))
        .expect(resource("db").runs_nowhere())
        .expect(node("c").was_told_off(0));
}
