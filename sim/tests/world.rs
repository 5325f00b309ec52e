//! The world itself: lasting faults last, and what a story does to a machine really happens to it.

use sim::{AgentMood, Fault, Mood, Seconds, Who, cluster, everything, node, resource};

#[test]
fn a_wild_service_is_stopped_before_its_resource_is_granted() {
    cluster(3)
        .resource("web", "prefers a")
        .settle()
        .lead("a")
        .from_here()
        .wild("b", "extra")
        .expect(resource("extra").runs_on("b"))
        .configure(|config| {
            let web = config.resources[&"web".into()].clone();
            config.resources.insert("extra".into(), web);
        })
        .run_for(10.s())
        .expect(resource("extra").runs());
}

#[test]
fn a_service_of_the_operating_system_starts_at_every_boot() {
    cluster(3)
        .resource("web", "prefers a, best-effort")
        .settle()
        .starts_at_boot("c", "extra")
        .power_off("c")
        .run_for(2.s())
        .expect(resource("extra").runs_nowhere())
        .power_on("c")
        .run_for(2.s())
        .expect(resource("extra").runs_on("c"));
}

#[test]
fn a_machine_boots_in_its_own_time() {
    cluster(3)
        .resource("web", "prefers a")
        .settle()
        .lead("a")
        .boots_in("c", 90.s())
        .power_off("c")
        .run_for(1.s())
        .from_here()
        .power_on("c")
        .run_for(80.s())
        .expect(node("c").lacks_quorum())
        .run_for(15.s())
        .expect(everything());
}

#[test]
fn a_hung_worker_ends_with_its_process() {
    cluster(3)
        .resource("web", "prefers a")
        .settle()
        .lead("a")
        .hang_worker("c")
        .run_for(5.s())
        .expect(node("c").was_condemned(0))
        .kill_worker("c")
        .settle();
}

#[test]
fn a_hung_disk_goes_on_where_it_stood() {
    cluster(3)
        .resource("web", "prefers a")
        .settle()
        .lead("a")
        .hang_disk("c")
        .run_for(5.s())
        .inflict(Fault::HangDisk(Who::Machine(2), false))
        .settle();
}

#[test]
fn a_disk_that_refuses_writes_ends_the_worker_again_and_again() {
    cluster(3)
        .resource("web", "prefers a, best-effort")
        .settle()
        .lead("a")
        .from_here()
        .fail_disk("c")
        .move_to("web", "b")
        .run_for(3.s())
        .expect(node("a").leads())
        .expect(resource("web").runs_on("b"))
        .inflict(Fault::FailDisk(Who::Machine(2), false))
        .settle();
}

#[test]
fn an_agent_that_can_never_work_here_starts_nothing() {
    cluster(3)
        .resource("web", "prefers a")
        .settle()
        .lead("a")
        .from_here()
        .agent("b", "web", AgentMood { start: Mood::FailsForGood, ..AgentMood::default() })
        .move_to("web", "b")
        .run_for(10.s())
        .expect(resource("web").avoids("b"));
}

#[test]
fn a_false_check_hides_a_dead_service() {
    cluster(3)
        .resource("web", "prefers b, unwatched")
        .settle()
        .agent("b", "web", AgentMood { monitor: Mood::SaysRunning, ..AgentMood::default() })
        .kill("web")
        .run_for(10.s())
        .expect(resource("web").runs_nowhere())
        .agent("b", "web", AgentMood::default())
        .settle();
}

#[test]
fn unequal_loss_of_one_direction_condemns_nobody() {
    let mut story = cluster(3).resource("web", "prefers b").settle().lead("a").from_here();
    for link in 0..2 {
        story = story.inflict(Fault::Lossy { from: 1, to: 0, link, loss: 200 });
    }
    let _ = story.run_for(60.s()).expect(node("b").was_condemned(0)).expect(resource("web").runs_on("b"));
}

/// After an error of its disk nobody knows what a node has stored: it takes no part before its next boot.
#[test]
fn a_disk_error_ends_the_part_of_a_node_until_its_next_boot() {
    cluster(3)
        .resource("db", "prefers c")
        .settle()
        .lead("a")
        .from_here()
        .inflict(Fault::DiskErrors(Who::Machine(2), true))
        .kill_worker("c")
        .run_for(10.s())
        .expect(node("c").was_fenced(1))
        .expect(resource("db").runs())
        .inflict(Fault::DiskErrors(Who::Machine(2), false))
        .power_off("c")
        .power_on("c")
        .run_for(20.s())
        .expect(everything());
}

/// A machine comes back with an earlier content of its disk.
#[test]
fn a_rolled_back_disk_of_one_node_disturbs_nobody() {
    for (seed, name) in [(1, "a"), (2, "b"), (3, "c")] {
        let who = || Who::Machine(usize::try_from(seed - 1).expect("a machine"));
        cluster(3)
            .seed(seed)
            .resource("db", "prefers b")
            .settle()
            .inflict(Fault::SaveDisk(who()))
            .run_for(1.s())
            .move_to("db", "c")
            .run_for(5.s())
            .move_to("db", "a")
            .run_for(5.s())
            .power_off(name)
            .inflict(Fault::RestoreDisk(who()))
            .run_for(5.s())
            .power_on(name)
            .run_for(30.s())
            .expect(everything());
    }
}
