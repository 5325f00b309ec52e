//! Faults that go one way only, that last, or that look like others: who is lost, and who is not
//! (SAFETY §1.7, §10.2, §10.4, §10.8).

use model::Profile;
use sim::{Fault, Seconds, Weather, Who, cluster, everything, node, resource, term};

#[test]
fn a_serving_follower_that_hears_nobody_is_taken_over_at_once() {
    for seed in 0..5 {
        cluster(3)
            .seed(seed)
            .resource("db", "prefers c")
            .settle()
            .lead("a")
            .run_for(1.s())
            .from_here()
            .deaf("c")
            .run_for(5.s())
            .expect(node("c").was_condemned(1))
            .expect(node("a").was_condemned(0))
            .expect(node("b").was_condemned(0))
            .expect(node("c").fenced_before_start_of("db"))
            .expect(resource("db").was_back_within(600.ms()));
    }
}

#[test]
fn a_serving_leader_that_hears_nobody_is_taken_over_at_once() {
    for seed in 0..5 {
        cluster(3)
            .seed(seed)
            .resource("db", "prefers a")
            .settle()
            .lead("a")
            .run_for(1.s())
            .from_here()
            .deaf("a")
            .run_for(5.s())
            .expect(node("a").was_condemned(1))
            .expect(node("b").was_condemned(0))
            .expect(node("c").was_condemned(0))
            .expect(node("a").fenced_before_start_of("db"))
            .expect(resource("db").was_back_within(600.ms()));
    }
}

#[test]
fn a_serving_node_that_nobody_hears_is_taken_over_at_once() {
    for (seed, leader) in [(0, "a"), (1, "c"), (2, "a"), (3, "c")] {
        cluster(3)
            .seed(seed)
            .resource("db", "prefers c")
            .settle()
            .lead(leader)
            .run_for(1.s())
            .from_here()
            .mute("c")
            .run_for(5.s())
            .expect(node("c").was_condemned(1))
            .expect(node("a").was_condemned(0))
            .expect(node("b").was_condemned(0))
            .expect(resource("db").was_back_within(600.ms()));
    }
}

#[test]
fn an_idle_node_that_hears_nobody_stops_no_failover() {
    cluster(4)
        .resource("db", "prefers a")
        .settle()
        .lead("a")
        .from_here()
        .deaf("d")
        .run_for(5.s())
        .power_off("a")
        .run_for(10.s())
        .expect(resource("db").runs());
}

#[test]
fn who_hears_only_some_members_is_not_lost() {
    // The leader hears c and c hears b, but nothing of the leader's arrives there.
    cluster(3)
        .resource("db", "prefers c")
        .settle()
        .lead("a")
        .from_here()
        .cut_one_way("a", "c")
        .run_for(30.s())
        .expect(node("a").was_condemned(0))
        .expect(node("c").was_condemned(0))
        .expect(node("b").leads())
        .expect(resource("db").was_started(0));
}

/// The leader cannot reach the holder, another voter can: that one leads.
#[test]
fn a_service_that_dies_behind_a_partial_cut_comes_back() {
    cluster(3)
        .resource("db", "prefers c")
        .settle()
        .lead("a")
        .from_here()
        .cut_one_way("a", "c")
        .cut_one_way("c", "a")
        .run_for(5.s())
        .kill("db")
        .run_for(20.s())
        .expect(resource("db").runs())
        .expect(node("a").was_condemned(0))
        .expect(node("c").was_condemned(0));
}

#[test]
fn a_fifth_lost_on_every_link_accuses_nobody() {
    for seed in 0..3 {
        cluster(3)
            .seed(seed)
            .one_network()
            .resource("db", "prefers b")
            .settle()
            .lead("a")
            .from_here()
            .weather(Weather { loss: 200, ..Weather::default() })
            .run_for(120.s())
            .expect(node("a").was_condemned(0))
            .expect(node("b").was_condemned(0))
            .expect(node("c").was_condemned(0))
            .expect(resource("db").was_started(0));
    }
}

/// The operator chooses slower timers while the cluster runs.
#[test]
fn a_profile_that_is_applied_counts() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .configure(|config| config.profile = Profile::Cloud)
        .run_for(10.s())
        .isolate("b")
        .run_for(800.ms())
        .heal_networks()
        .run_for(10.s())
        .expect(node("b").was_condemned(0))
        .expect(resource("db").was_started(0));
}

#[test]
fn a_profile_that_is_applied_counts_for_workers_that_start_later() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .configure(|config| config.profile = Profile::Cloud)
        .run_for(10.s())
        .kill_worker("a")
        .run_for(2.s())
        .kill_worker("b")
        .run_for(2.s())
        .kill_worker("c")
        .run_for(10.s())
        .from_here()
        .isolate("b")
        .run_for(800.ms())
        .heal_networks()
        .run_for(10.s())
        .expect(node("b").was_condemned(0))
        .expect(resource("db").was_started(0));
}

#[test]
fn a_machine_that_boots_slower_is_not_fenced() {
    cluster(3)
        .resource("db", "prefers c")
        .resource("web", "prefers a")
        .settle()
        .inflict(Fault::PowerOffAll)
        .run_for(2.s())
        .from_here()
        .power_on("a")
        .power_on("b")
        .boots_in("c", 180.s())
        .power_on("c")
        .run_for(6.s())
        .expect(resource("web").runs())
        .expect(resource("db").runs_nowhere())
        .run_for(200.s())
        .expect(node("c").was_condemned(0))
        .expect(node("c").lost_power(0))
        .expect(everything());
}

#[test]
fn a_machine_without_power_is_off_and_not_waited_for() {
    cluster(3)
        .resource("db", "prefers c")
        .resource("web", "prefers a")
        .settle()
        .inflict(Fault::PowerOffAll)
        .run_for(2.s())
        .from_here()
        .power_on("a")
        .power_on("b")
        .run_for(6.s())
        .expect(resource("web").runs())
        .expect(resource("db").runs())
        .run_for(180.s())
        .power_on("c")
        .run_for(20.s())
        .expect(node("c").lost_power(0))
        .expect(everything());
}

#[test]
fn a_machine_that_never_boots_is_fenced_in_the_end() {
    cluster(3)
        .resource("db", "prefers c")
        .settle()
        .inflict(Fault::PowerOffAll)
        .run_for(2.s())
        .from_here()
        .power_on("a")
        .power_on("b")
        .boots_in("c", 900.s())
        .power_on("c")
        .run_for(290.s())
        .expect(resource("db").runs_nowhere())
        .run_for(30.s())
        .expect(resource("db").runs());
}

#[test]
fn with_one_network_down_for_long_a_blink_of_the_other_fences_nobody() {
    for seed in 0..5 {
        let mut story = cluster(3).seed(seed).resource("db", "prefers b").settle().lead("a");
        for machine in 0..3 {
            story = story.inflict(Fault::Unplug(Who::Machine(machine), 0, true));
        }
        story
            .run_for(60.s())
            .from_here()
            .inflict(Fault::Unplug(Who::Machine(1), 1, true))
            .run_for(280.ms())
            .inflict(Fault::Unplug(Who::Machine(1), 1, false))
            .run_for(5.s())
            .expect(node("b").was_condemned(0))
            .expect(resource("db").was_started(0));
    }
}

/// Whoever has more packets to read than it can sends its beats on time all the same.
#[test]
fn a_flooded_node_is_not_missed() {
    for (seed, name) in [(1, "a"), (2, "b"), (3, "c")] {
        let m = usize::try_from(seed - 1).expect("a machine");
        cluster(3)
            .seed(seed)
            .resource("db", "prefers b")
            .settle()
            .lead("a")
            .run_for(5.s())
            .from_here()
            .inflict(Fault::Flood { who: Who::Machine(m), drowned: 300, long: 10_000_000_000 })
            .run_for(12.s())
            .expect(node(name).was_condemned(0))
            .expect(term(0))
            .expect(resource("db").runs_on("b"))
            .expect(resource("db").was_started(0));
    }
}
