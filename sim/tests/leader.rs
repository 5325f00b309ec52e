//! The leader in the real world: decisions that come too late, are lost, or rest on what is over (SAFETY §10).

use model::ActionKind;
use sim::{DeviceMood, Fault, Seconds, Who, cluster, everything, level, node, resource, term};

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

/// The voters can store nothing for a while: the Condemn is agreed on when its node has been heard again for a second.
#[test]
fn a_node_that_is_heard_again_is_spared_before_its_fence_begins() {
    for seed in 0..5 {
        cluster(4)
            .seed(seed)
            .resource("db", "prefers d")
            .settle()
            .lead("a")
            .run_for(3.s())
            .from_here()
            .hang_disk("b")
            .hang_disk("c")
            .run_for(50.ms())
            .isolate("d")
            .run_for(400.ms())
            .heal_networks()
            .run_for(1300.ms())
            .inflict(Fault::HangDisk(Who::Machine(1), false))
            .inflict(Fault::HangDisk(Who::Machine(2), false))
            .run_for(20.s())
            .expect(node("d").was_condemned(1))
            .expect(node("d").was_told_off(0))
            .expect(node("d").lost_power(0))
            .expect(resource("db").runs_on("d"));
    }
}

/// The word of a member counts only together with heartbeats that say the same.
#[test]
fn an_old_word_that_a_member_leaves_moves_nothing() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .inflict(Fault::OldLeave(1))
        .inflict(Fault::OldLeave(2))
        .run_for(10.s())
        .expect(resource("db").runs_on("b"))
        .expect(resource("db").was_started(0))
        .inflict(Fault::Leave(Who::Machine(1)))
        .run_for(10.s())
        .expect(resource("db").was_started(1));
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

/// All daemons are told to end at once: services stop, everybody leaves, and all come back.
#[test]
fn all_nodes_leave_in_order_and_come_back() {
    for seed in 0..3 {
        let mut story =
            cluster(3).seed(seed).resource("db", "prefers b").resource("web", "prefers c").settle().from_here();
        for m in 0..3 {
            story = story.inflict(Fault::Leave(Who::Machine(m)));
        }
        story
            .run_for(5.s())
            .expect(node("a").has_halted(1))
            .expect(node("b").has_halted(1))
            .expect(node("c").has_halted(1))
            .expect(resource("db").runs_nowhere())
            .expect(node("b").was_condemned(0))
            .heal()
            .settle();
    }
}

#[test]
fn all_that_are_left_leave_in_order_although_one_is_missing() {
    let mut story = cluster(3).resource("db", "prefers b").settle().lead("a").power_off("c").run_for(5.s()).from_here();
    for m in 0..2 {
        story = story.inflict(Fault::Leave(Who::Machine(m)));
    }
    story
        .run_for(5.s())
        .expect(node("a").has_halted(1))
        .expect(node("b").has_halted(1))
        .expect(resource("db").runs_nowhere())
        .heal()
        .settle();
}

#[test]
fn in_maintenance_nobody_is_fenced_for_silence() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .inflict(Fault::Act(ActionKind::ClusterMaintenance))
        .run_for(2.s())
        .isolate("b")
        .run_for(5.s())
        .expect(node("b").was_condemned(0))
        .heal_networks()
        .run_for(2.s())
        .expect(resource("db").runs_on("b"));
}

/// A node whose worker hangs is where a lost node's service would go.
#[test]
fn a_node_whose_worker_hangs_gets_nothing() {
    cluster(4)
        .resource("z", "prefers b")
        .resource("web", "prefers a")
        .resource("mail", "prefers c")
        .settle()
        .lead("a")
        .from_here()
        .stall_rest("d", 600.s())
        .run_for(10.s())
        .power_off("b")
        .run_for(20.s())
        .expect(resource("z").runs());
}

/// A holder that beats and does not answer is cut off within twenty seconds, whether or not its service still runs.
#[test]
fn a_holder_whose_worker_hangs_is_fenced() {
    cluster(3)
        .resource("db", "prefers c")
        .settle()
        .lead("a")
        .from_here()
        .stall_rest("c", 600.s())
        .run_for(1.s())
        .kill("db")
        .run_for(28.s())
        .expect(node("c").fenced_before_start_of("db"))
        .expect(resource("db").runs());
}

/// The leader owes nobody anything that it could not know: a stall of its own accuses no one.
#[test]
fn a_leader_that_stood_still_condemns_nobody() {
    for seed in 0..5 {
        cluster(3)
            .seed(seed)
            .resource("db", "prefers c")
            .settle()
            .lead("a")
            .from_here()
            .stall_rest("a", 30.s())
            .run_for(50.s())
            .expect(node("b").was_condemned(0))
            .expect(node("c").was_condemned(0));
    }
}

#[test]
fn a_leader_that_leaves_while_its_successor_dies_forgets_nothing() {
    for pause in [0, 60, 150, 230] {
        cluster(4)
            .resource("db", "prefers b")
            .settle()
            .lead("a")
            .run_for(5.s())
            .from_here()
            .inflict(Fault::PowerOff(Who::Machine(1)))
            .run_for(pause.ms())
            .inflict(Fault::Leave(Who::Machine(0)))
            .run_for(30.s())
            .expect(resource("db").runs());
    }
}

/// c is dead and held nothing; what is new waits only until c is proven off.
#[test]
fn a_new_resource_starts_while_a_node_is_dead() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .power_off("c")
        .run_for(5.s())
        .configure(|config| {
            let db = config.resources[&model::ResourceName::from("db")].clone();
            config.resources.insert("extra".into(), db);
        })
        .run_for(20.s())
        .expect(resource("extra").runs());
}

/// A machine comes back with another identity: its former life is not proven over, and is ended like any other.
#[test]
fn a_node_that_cannot_prove_its_new_boot_is_fenced_and_returns() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .machine_id_changes("b")
        .power_off("b")
        .power_on("b")
        .run_for(60.s())
        .expect(resource("db").runs())
        .expect(node("b").was_fenced(1))
        .settle();
}

/// A copy of a machine starts while the original serves: nothing is taken from the original, and the copy gets nothing.
#[test]
fn a_copy_of_a_living_machine_takes_nothing_from_it() {
    for (seed, copied) in ["a", "b", "c", "b", "a"].into_iter().enumerate() {
        cluster(3)
            .seed(seed as u64)
            .resource("db", "prefers b")
            .settle()
            .lead("a")
            .run_for(5.s())
            .from_here()
            .clone_of(copied)
            .run_for(40.s())
            .expect(resource("db").runs_on("b"))
            .expect(resource("db").was_started(0))
            .expect(node(copied).was_condemned(0))
            .expect(node(copied).lost_power(0))
            // The original dies, and its service is taken over.
            .power_off("b")
            .run_for(20.s())
            .expect(resource("db").runs());
    }
}

/// The vote of a voter that is gone for long goes to a member that is here: the next loss does not cost the quorum.
#[test]
fn a_voter_that_stays_away_loses_its_vote() {
    let story = cluster(4)
        .resource("db", "prefers d")
        .settle()
        .lead("a")
        .from_here()
        .power_off("c")
        .run_for(540.s())
        .expect(term(0))
        .run_for(90.s())
        .power_off("b")
        .run_for(10.s())
        .expect(resource("db").runs_on("d"))
        .kill("db")
        .run_for(20.s())
        .expect(resource("db").runs_on("d"));
    let _ = story.power_on("c").power_on("b").run_for(30.s()).expect(everything());
}

/// Nothing can be fenced, and nothing has to be: a cut ends in a takeover, and whoever was cut off goes on without a boot.
#[test]
fn a_cut_without_fence_devices_is_survived() {
    for (seed, cut) in [(1, "b"), (2, "b"), (3, "leader")] {
        cluster(3)
            .seed(seed)
            .levels(0)
            .one_network()
            .resource("cache", if cut == "b" { "prefers b, best-effort" } else { "prefers a, best-effort" })
            .settle()
            .lead("a")
            .move_to("cache", if cut == "b" { "b" } else { "a" })
            .run_for(5.s())
            .from_here()
            .isolate(if cut == "b" { "b" } else { "a" })
            .run_for(5.s())
            .expect(resource("cache").was_started(1))
            .heal_networks()
            .run_for(10.s())
            .expect(resource("cache").runs())
            .expect(resource("cache").was_started(1))
            .expect(node("a").has_halted(0))
            .expect(node("b").has_halted(0))
            .expect(node("a").was_condemned(0))
            .expect(node("b").was_condemned(0))
            .expect(everything());
    }
}

/// The daemon is replaced in maintenance: its services go on, nobody misses it, and it takes them over again.
#[test]
fn a_daemon_that_ends_in_maintenance_is_not_missed() {
    for (seed, leader) in [(1, "a"), (2, "b"), (3, "c")] {
        cluster(3)
            .seed(seed)
            .resource("db", "prefers b")
            .settle()
            .lead(leader)
            .run_for(5.s())
            .from_here()
            .inflict(Fault::Act(ActionKind::ClusterMaintenance))
            .run_for(2.s())
            .inflict(Fault::Leave(Who::Machine(1)))
            .run_for(3.s())
            .expect(node("b").has_halted(1))
            .run_for(30.s())
            .expect(node("b").was_condemned(0))
            .expect(resource("db").runs_on("b"))
            .inflict(Fault::StartDaemon(Who::Machine(1)))
            .run_for(5.s())
            .inflict(Fault::Undo(ActionKind::ClusterMaintenance))
            .run_for(10.s())
            .expect(resource("db").runs_on("b"))
            .expect(resource("db").was_started(0))
            .expect(node("b").lost_power(0))
            .expect(everything());
    }
}

/// All daemons end in maintenance, one after the other, and come back: nothing is stopped or started.
#[test]
fn all_daemons_end_in_maintenance_and_come_back() {
    for seed in 0..3 {
        let mut story = cluster(3)
            .seed(seed)
            .resource("db", "prefers b")
            .resource("web", "prefers c")
            .settle()
            .from_here()
            .inflict(Fault::Act(ActionKind::ClusterMaintenance))
            .run_for(2.s());
        for m in 0..3 {
            story = story.inflict(Fault::Leave(Who::Machine(m))).run_for(3.s());
        }
        story = story
            .expect(node("a").has_halted(1))
            .expect(node("b").has_halted(1))
            .expect(node("c").has_halted(1))
            .run_for(20.s());
        for m in [2, 0, 1] {
            story = story.inflict(Fault::StartDaemon(Who::Machine(m))).run_for(1.s());
        }
        story
            .run_for(5.s())
            .inflict(Fault::Undo(ActionKind::ClusterMaintenance))
            .run_for(10.s())
            .expect(resource("db").was_started(0))
            .expect(resource("web").was_started(0))
            .expect(node("b").was_condemned(0))
            .expect(everything());
    }
}

/// A verdict about a node that left meanwhile is forgotten, though the node is back in the same life.
#[test]
fn a_verdict_about_a_node_that_left_is_forgotten() {
    for seed in 0..5 {
        cluster(3)
            .seed(seed)
            .resource("db", "prefers a")
            .settle()
            .lead("a")
            .power_off("c")
            .run_for(10.s())
            .from_here()
            // A voter that leaves waits for the third one, and is not heard when that is back.
            .inflict(Fault::Leave(Who::Machine(1)))
            .run_for(1.s())
            .isolate("b")
            .power_on("c")
            .run_for(20.s())
            .heal_networks()
            .run_for(5.s())
            .inflict(Fault::StartDaemon(Who::Machine(1)))
            .run_for(10.s())
            .move_to("db", "b")
            .run_for(10.s())
            .expect(resource("db").runs_on("b"))
            .expect(node("b").was_condemned(0));
    }
}

/// A cluster of an older program uses newer entries as soon as all its members can read them.
#[test]
fn newer_entries_are_used_when_all_can_read_them() {
    cluster(3)
        .founded_at_level(0)
        .resource("db", "prefers b")
        .settle()
        .run_for(1.s())
        .expect(level(state::LEVEL))
        .from_here()
        .power_off("b")
        .run_for(20.s())
        .expect(resource("db").runs());
}

/// An older program is waited for as long as it takes part; newer entries are used once the last one is replaced.
#[test]
fn older_programs_are_replaced_one_by_one() {
    let mut story = cluster(3).older(&["a", "b", "c"]).resource("db", "prefers b").settle();
    for m in 0..3 {
        story = story.expect(level(0)).inflict(Fault::Upgrade(m)).run_for(5.s()).expect(everything());
    }
    story
        .expect(level(state::LEVEL))
        .from_here()
        .power_off("b")
        .run_for(20.s())
        .expect(node("b").was_fenced(1))
        .expect(resource("db").runs());
}

/// Who was off while the others were upgraded cannot read what they agreed on since: it takes no part, and holds nobody
/// up, until it is upgraded, too.
#[test]
fn an_older_program_that_comes_back_late_takes_no_part_until_it_is_replaced() {
    for seed in 0..5 {
        cluster(3)
            .seed(seed)
            .older(&["a", "b", "c"])
            .resource("db", "prefers c")
            .settle()
            .boots_in("c", 30.s())
            .power_off("c")
            .run_for(2.s())
            .inflict(Fault::Upgrade(0))
            .run_for(3.s())
            .inflict(Fault::Upgrade(1))
            .run_for(10.s())
            .expect(level(state::LEVEL))
            .from_here()
            .run_for(40.s())
            .kill("db")
            .run_for(5.s())
            .expect(node("c").has_halted(0))
            .expect(resource("db").runs())
            .inflict(Fault::Upgrade(2))
            .run_for(10.s())
            .expect(everything());
    }
}

/// The last older program goes with its node: its fence begins at the old level and is agreed on at the new one.
#[test]
fn a_fence_during_the_rise_of_the_level_is_agreed_on() {
    for seed in 0..5 {
        cluster(3)
            .seed(seed)
            .older(&["a", "b", "c"])
            .resource("db", "prefers c")
            .settle()
            .inflict(Fault::Upgrade(0))
            .run_for(3.s())
            .inflict(Fault::Upgrade(1))
            .run_for(5.s())
            .lead("a")
            .expect(level(0))
            .from_here()
            .isolate("c")
            .run_for(20.s())
            .expect(level(state::LEVEL))
            .expect(node("c").was_told_off(1))
            .expect(resource("db").runs());
    }
}

/// The device answers about a life that is over when the next one is condemned: that proves nothing about it.
#[test]
fn a_late_answer_of_a_device_says_nothing_about_the_next_life() {
    for seed in 0..10 {
        cluster(3)
            .seed(seed)
            .resource("db", "prefers b")
            .settle()
            .lead("a")
            .from_here()
            .devices(DeviceMood::AnswersLate)
            .power_off("b")
            .until("condemned", "b")
            .run_for(30.ms())
            // It falls silent before it can say that nothing runs there.
            .when("joined", Fault::Isolate(Who::Machine(1), true))
            .power_on("b")
            .run_for(20.s())
            .expect(node("b").was_condemned(2))
            .expect(resource("db").runs());
    }
}
