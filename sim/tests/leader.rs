//! The leader in the real world: decisions that come too late, are lost, or rest on what is over (SAFETY §10).

use sim::{DeviceMood, Fault, Seconds, Who, cluster, node, resource};

/// A member that returned before its Condemn could be agreed on is not condemned, or is spared at once.
#[test]
fn a_node_that_returned_is_not_ended_late() {
    for seed in 0..5 {
        cluster(3)
            .seed(seed)
            .resource("db", "prefers c")
            .settle()
            .lead("a")
            .from_here()
            .stall_rest("b", 3.s())
            .run_for(50.ms())
            .isolate("c")
            .run_for(400.ms())
            .heal_networks()
            .run_for(20.s())
            .expect(node("c").was_told_off(0))
            .expect(node("c").lost_power(0))
            .expect(resource("db").runs_on("c"));
    }
}

/// The handing over is under way when the verdict falls: it is proposed again when the log takes entries again.
#[test]
fn a_verdict_during_a_hand_over_is_not_forgotten() {
    for pause in [0, 50, 150, 240] {
        cluster(3)
            .seed(pause)
            .resource("db", "prefers b")
            .settle()
            .lead("a")
            .run_for(5.s())
            .from_here()
            .inflict(Fault::PowerOff(Who::Machine(1)))
            .run_for(pause.ms())
            .inflict(Fault::Lead(1))
            .run_for(20.s())
            .expect(resource("db").runs());
    }
}

/// A leader whose fence device fails stands still; another fences, the node boots anew; then the first wakes up.
#[test]
fn a_deposed_leader_that_wakes_up_fences_nobody() {
    for seed in 0..10 {
        cluster(5)
            .seed(seed)
            .resource("db", "prefers e")
            .settle()
            .lead("a")
            .devices(DeviceMood::Fails)
            .from_here()
            .isolate("e")
            .until("condemned", "e")
            .run_for(500.ms())
            .stall_rest("a", 40.s())
            .devices(DeviceMood::Works)
            .run_for(10.s())
            .heal_networks()
            .power_on("e")
            .run_for(50.s())
            .expect(node("e").lost_power(1))
            .expect(resource("db").runs());
    }
}

/// What is proven off is switched on again and returns by itself.
#[test]
fn a_fenced_node_returns_by_itself() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .power_off("b")
        .run_for(20.s())
        .expect(node("b").was_fenced(1))
        .settle()
        .expect(resource("db").runs());
}

/// The device already reads off: nothing is cut, and the service is back sooner.
#[test]
fn what_is_off_already_is_told_nothing() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .power_off("b")
        .run_for(1500.ms())
        .expect(node("b").was_fenced(1))
        .expect(node("b").was_told_off(0))
        .expect(resource("db").was_back_within(500.ms()));
}
