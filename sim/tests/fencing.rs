//! A lost node is fenced, and only what is proven off is taken over (SAFETY §7, rows 1, 2, 18, 20, 21).

use sim::{DeviceMood, Fault, Mood, Seconds, Who, cluster, everything, node, resource};

#[test]
fn a_node_that_lost_power_is_noticed_fenced_and_taken_over() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .expect(resource("db").runs_on("b"))
        .from_here()
        .power_off("b")
        .run_for(2.s())
        .expect(node("b").was_detected_within(300.ms()))
        .expect(node("b").was_fenced(1))
        .expect(node("b").fenced_before_start_of("db"))
        .expect(resource("db").was_back_within(500.ms()))
        .expect(resource("db").runs());
}

#[test]
fn a_leader_that_lost_power_while_it_served_is_taken_over_as_well() {
    cluster(3)
        .resource("db", "prefers a")
        .settle()
        .lead("a")
        .from_here()
        .power_off("a")
        .run_for(2.s())
        .expect(node("a").was_detected_within(350.ms()))
        .expect(node("a").fenced_before_start_of("db"))
        .expect(resource("db").was_back_within(500.ms()));
}

#[test]
fn a_node_cut_from_both_networks_is_off_before_its_service_starts_elsewhere() {
    cluster(3)
        .resource("db", "prefers c")
        .settle()
        .lead("a")
        .from_here()
        .isolate("c")
        .run_for(2.s())
        .expect(node("c").fenced_before_start_of("db"))
        .expect(node("c").lost_power(1))
        .expect(resource("db").was_back_within(500.ms()));
}

#[test]
fn of_two_halves_only_the_one_with_a_majority_of_voters_grants() {
    // Four members have three voters, which are a, b and c.
    for seed in 0..10 {
        cluster(4)
            .seed(seed)
            .resource("db", "prefers d")
            .settle()
            .lead("c")
            .expect(resource("db").runs_on("d"))
            .from_here()
            .partition(&["a", "b"])
            .run_for(10.s())
            .expect(node("d").fenced_before_start_of("db"))
            .expect(node("a").was_fenced(0))
            .expect(node("b").was_fenced(0))
            .heal()
            .settle()
            .expect(resource("db").runs());
    }
}

#[test]
fn a_minority_fences_nobody_and_starts_nothing() {
    cluster(2)
        .witness()
        .resource("db", "prefers a")
        .settle()
        .lead("a")
        .expect(resource("db").runs_on("a"))
        .isolate("b")
        .isolate("w")
        .from_here()
        .run_for(10.s())
        .expect(node("a").lacks_quorum())
        .expect(node("a").was_fenced(0))
        .expect(node("b").was_fenced(0))
        .expect(resource("db").runs_on("a"))
        .expect(resource("db").was_started(0))
        .heal()
        .settle()
        .expect(resource("db").runs_on("a"))
        .expect(resource("db").was_started(0));
}

#[test]
fn what_does_not_stop_is_fenced_and_moves() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .stops_are("b", "db", Mood::Hangs)
        .move_to("db", "c")
        .run_for(6.s())
        .expect(node("b").was_condemned(1))
        .expect(node("b").fenced_before_start_of("db"))
        .expect(resource("db").runs_on("c"));
}

#[test]
fn a_leader_that_cannot_stop_what_it_runs_is_fenced_by_another() {
    cluster(3)
        .resource("db", "prefers a")
        .settle()
        .lead("a")
        .from_here()
        .stops_are("a", "db", Mood::Hangs)
        .move_to("db", "c")
        .run_for(8.s())
        .expect(node("a").fenced_before_start_of("db"))
        .expect(resource("db").runs_on("c"));
}

#[test]
fn a_device_that_says_done_without_effect_proves_nothing() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .devices(DeviceMood::Lies)
        .from_here()
        .isolate("b")
        .run_for(20.s())
        .expect(node("b").was_condemned(1))
        .expect(node("b").was_fenced(0))
        .expect(resource("db").was_started(0))
        .expect(resource("db").runs_on("b"))
        .devices(DeviceMood::Works)
        .run_for(40.s())
        .expect(node("b").fenced_before_start_of("db"))
        .expect(resource("db").runs());
}

#[test]
fn a_device_that_acts_after_its_time_harms_nobody() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .devices(DeviceMood::ActsLate)
        .from_here()
        .isolate("b")
        .until("power-off", "b")
        .expect(node("b").was_fenced(0))
        .expect(resource("db").was_started(0))
        .devices(DeviceMood::Works)
        .run_for(40.s())
        .expect(node("b").fenced_before_start_of("db"))
        .expect(resource("db").runs());
}

#[test]
fn a_dead_device_blocks_only_what_needs_it() {
    cluster(3)
        .resource("db", "prefers b")
        .resource("web", "prefers c")
        .settle()
        .lead("a")
        .devices(DeviceMood::Dead)
        .from_here()
        .power_off("b")
        .run_for(5.s())
        .expect(resource("db").runs_nowhere())
        .expect(resource("web").runs_on("c"))
        .kill("web")
        .run_for(1.s())
        .expect(resource("web").runs_on("c"))
        .devices(DeviceMood::Works)
        .run_for(40.s())
        .expect(resource("db").runs());
}

#[test]
fn what_is_drawn_to_a_place_that_waits_for_a_fence_runs_on_where_it_is() {
    cluster(3)
        .resource("db", "prefers b 1000, avoids a")
        .resource("web", "avoids b, prefers a 10, with db 120, after db, weighs")
        .settle()
        .configure(|config| {
            config.fence_devices.values_mut().for_each(|device| device.after_fence = Some(model::AfterFence::Off));
        })
        .run_for(1.s())
        .lead("a")
        .devices(DeviceMood::Dead)
        .from_here()
        .power_off("b")
        .run_for(10.s())
        .expect(resource("db").runs_nowhere())
        .expect(resource("web").runs_on("a"))
        .expect(resource("web").was_started(0))
        .devices(DeviceMood::Works)
        .run_for(40.s())
        .expect(resource("db").runs_on("c"))
        .expect(resource("web").runs_on("c"));
}

#[test]
fn best_effort_moves_on_the_verdict_alone() {
    cluster(3)
        .resource("cache", "prefers b, best-effort")
        .settle()
        .lead("a")
        .devices(DeviceMood::Dead)
        .from_here()
        .power_off("b")
        .run_for(2.s())
        .expect(resource("cache").runs())
        .expect(node("b").was_fenced(0));
}

#[test]
fn a_frozen_node_is_off_before_it_can_wake() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .freeze("b", 20.s())
        .run_for(3.s())
        .expect(node("b").fenced_before_start_of("db"))
        .expect(resource("db").was_back_within(500.ms()))
        .power_on("b")
        .settle()
        .expect(everything());
}

#[test]
fn one_broken_network_of_two_is_no_reason_for_anything() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .from_here()
        .inflict(Fault::Unplug(Who::Machine(1), 0, true))
        .run_for(10.s())
        .expect(node("b").was_condemned(0))
        .expect(resource("db").was_started(0))
        .expect(sim::term(0));
}
