//! Leaders come and go, and nothing is done twice or by a deposed one (SAFETY §4.8; §7, rows 24–27).

use sim::{DeviceMood, Fault, Seconds, Weather, Who, cluster, everything, leader, node, resource, term};

#[test]
fn a_dead_leader_has_a_successor_as_soon_as_two_have_noticed() {
    cluster(3)
        .settle()
        .lead("a")
        .from_here()
        .power_off("a")
        .run_for(2.s())
        // The verdict comes 250 ms after the last beat at the latest, the successor within 50 ms of the second one.
        .expect(leader(320.ms()))
        .expect(term(1));
}

#[test]
fn one_wrong_verdict_deposes_nobody() {
    cluster(3)
        .resource("db", "prefers a")
        .settle()
        .lead("a")
        .from_here()
        .cut_one_way("a", "b")
        .run_for(3.s())
        .heal_networks()
        .run_for(3.s())
        .expect(node("a").leads())
        .expect(term(0))
        .expect(node("a").was_condemned(0))
        .expect(node("b").was_condemned(0));
}

#[test]
fn two_verdicts_are_one_election() {
    cluster(3)
        .settle()
        .lead("c")
        .from_here()
        .cut_one_way("c", "a")
        .run_for(20.ms())
        .cut_one_way("c", "b")
        .run_for(3.s())
        .expect(term(1));
}

#[test]
fn two_verdicts_in_the_same_instant_do_not_split_the_vote() {
    for seed in 0..20 {
        cluster(3)
            .seed(seed)
            .settle()
            .lead("c")
            .from_here()
            .cut_one_way("c", "a")
            .cut_one_way("c", "b")
            .run_for(2.s())
            .expect(leader(350.ms()))
            .expect(term(1));
    }
}

#[test]
fn a_successor_goes_on_with_what_was_condemned() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .when("condemned", Fault::PowerOff(Who::Leader))
        .power_off("b")
        .run_for(400.ms())
        .power_on("a")
        .run_for(5.s())
        .expect(node("b").was_condemned(1))
        .expect(node("b").was_fenced(1))
        .expect(node("b").fenced_before_start_of("db"))
        .expect(resource("db").runs());
}

#[test]
fn a_fence_whose_proof_was_lost_with_its_leader_is_repeated() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .when("power-off", Fault::PowerOff(Who::Leader))
        .isolate("b")
        .run_for(2.s())
        .power_on("a")
        .run_for(5.s())
        .expect(node("b").was_condemned(1))
        .expect(node("b").was_fenced(1))
        .expect(node("b").fenced_before_start_of("db"))
        .expect(resource("db").runs());
}

#[test]
fn a_fresh_boot_is_not_fenced_for_its_former_life() {
    // The device needs its time, and meanwhile the node has booted anew and joined.
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .devices(DeviceMood::Fails)
        .from_here()
        .power_off("b")
        .until("condemned", "b")
        .power_on("b")
        .until("joined", "b")
        .devices(DeviceMood::Works)
        .run_for(20.s())
        .expect(node("b").lost_power(1))
        .expect(everything());
}

#[test]
fn a_grant_whose_start_was_never_ordered_is_adopted() {
    for seed in 0..10 {
        cluster(3)
            .seed(seed)
            .resource("web", "prefers c")
            .settle()
            .lead("a")
            .from_here()
            .when("granted", Fault::PowerOff(Who::Leader))
            .move_to("web", "b")
            .run_for(400.ms())
            .power_on("a")
            .run_for(6.s())
            .expect(resource("web").runs_on("b"))
            .expect(resource("web").was_granted(1))
            .expect(resource("web").was_started(1));
    }
}

#[test]
fn a_deposed_leader_that_wakes_up_is_obeyed_by_nobody() {
    for seed in 0..10 {
        cluster(3)
            .seed(seed)
            .resource("web", "prefers c")
            .settle()
            .lead("a")
            .from_here()
            .when("releasing", Fault::StallNode(Who::Leader, 30_000_000_000))
            .move_to("web", "b")
            .run_for(40.s())
            .expect(everything())
            .expect(resource("web").was_started(1));
    }
}

#[test]
fn a_worker_that_hangs_while_its_pulse_beats_loses_the_lead_and_nothing_else() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .stall_rest("a", 10.s())
        .run_for(12.s())
        .expect(term(1))
        .expect(node("a").was_condemned(0))
        .expect(resource("db").was_started(0));
}

#[test]
fn a_fifth_of_all_packets_lost_changes_nothing() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .weather(Weather { loss: 200, ..Weather::default() })
        .run_for(180.s())
        .expect(term(0))
        .expect(node("a").was_condemned(0))
        .expect(node("b").was_condemned(0))
        .expect(node("c").was_condemned(0))
        .expect(resource("db").was_started(0));
}

#[test]
fn a_node_that_comes_and_goes_raises_no_term() {
    let mut story = cluster(3).settle().lead("a").from_here();
    for _ in 0..10 {
        story = story.isolate("c").run_for(1500.ms()).heal_networks().run_for(400.ms());
    }
    let _ = story.run_for(2.s()).expect(term(0)).expect(node("a").leads());
}

#[test]
fn everything_comes_back_after_all_power_was_lost() {
    cluster(3)
        .resource("db", "prefers b")
        .resource("web", "")
        .settle()
        .inflict(Fault::PowerOffAll)
        .run_for(1.s())
        .from_here()
        .power_on("a")
        .power_on("b")
        .power_on("c")
        .run_for(3.s())
        .expect(everything());
}

#[test]
fn a_witness_lends_its_vote_and_hands_the_lead_on() {
    cluster(2)
        .witness()
        .resource("db", "prefers a")
        .settle()
        .lead("a")
        .from_here()
        .power_off("a")
        .run_for(5.s())
        .expect(node("a").fenced_before_start_of("db"))
        .expect(resource("db").runs_on("b"))
        .expect(node("b").leads());
}

/// Two removals at once could take away the votes that are needed to let go of either.
#[test]
fn members_are_removed_one_after_the_other() {
    cluster(5)
        .settle()
        .lead("b")
        .inflict(Fault::Leave(Who::Machine(0)))
        .inflict(Fault::Leave(Who::Machine(2)))
        .run_for(3.s())
        .inflict(Fault::Remove(2))
        .inflict(Fault::Remove(0))
        .run_for(1.s())
        .expect(node("c").was_removed(1))
        .expect(node("a").was_removed(0))
        .inflict(Fault::Remove(0))
        .run_for(1.s())
        .expect(node("a").was_removed(1))
        .expect(everything());
}

#[test]
fn a_member_whose_vote_is_needed_is_not_removed() {
    cluster(3)
        .settle()
        .lead("b")
        .inflict(Fault::Leave(Who::Machine(0)))
        .run_for(3.s())
        .power_off("c")
        .run_for(300.ms())
        .inflict(Fault::Remove(0))
        .power_on("c")
        .run_for(3.s())
        .expect(node("a").was_removed(0))
        .inflict(Fault::Remove(0))
        .run_for(1.s())
        .expect(node("a").was_removed(1))
        .expect(everything());
}
