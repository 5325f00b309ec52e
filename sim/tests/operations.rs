//! Operations run at most once, whatever is lost, doubled, killed or booted anew (SAFETY §7, rows 28–30).

use sim::{Fault, Mood, Seconds, Weather, Who, cluster, everything, node, resource};

#[test]
fn orders_that_come_twice_or_late_are_run_once() {
    let weather = Weather { loss: 100, double: 500, late: 300, very_late: 200, bursts: 0 };
    for seed in 0..10 {
        let mut story =
            cluster(3).seed(seed).resource("web", "prefers b").settle().lead("a").from_here().weather(weather);
        for target in ["c", "b", "c", "b"] {
            story = story.move_to("web", target).run_for(8.s()).expect(resource("web").runs_on(target));
        }
        let _ = story.expect(resource("web").was_started(4)).expect(node("b").was_condemned(0));
    }
}

#[test]
fn a_worker_killed_in_the_middle_of_a_start_adopts_it() {
    for seed in 0..20 {
        cluster(3)
            .seed(seed)
            .resource("web", "prefers c")
            .settle()
            .lead("a")
            .from_here()
            .when_after("start", (seed % 10 * 3).ms(), Fault::KillWorker(Who::Machine(1)))
            .move_to("web", "b")
            .run_for(5.s())
            .expect(resource("web").was_started(1))
            .expect(resource("web").runs_on("b"))
            .expect(node("b").was_condemned(0));
    }
}

#[test]
fn a_worker_killed_in_the_middle_of_a_stop_ends_it() {
    for seed in 0..20 {
        cluster(3)
            .seed(seed)
            .resource("web", "prefers b")
            .settle()
            .lead("a")
            .from_here()
            .when_after("stop", (seed % 10 * 3).ms(), Fault::KillWorker(Who::Machine(1)))
            .move_to("web", "c")
            .run_for(5.s())
            .expect(resource("web").was_started(1))
            .expect(resource("web").runs_on("c"))
            .expect(node("b").was_condemned(0));
    }
}

#[test]
fn a_worker_killed_at_rest_is_heard_again_before_anybody_worries() {
    let mut story = cluster(3).resource("web", "prefers b").settle().lead("a").from_here();
    for _ in 0..10 {
        story = story.kill_worker("b").run_for(2.s()).kill_worker("a").run_for(2.s());
    }
    let _ = story
        .expect(node("a").was_condemned(0))
        .expect(node("b").was_condemned(0))
        .expect(resource("web").was_started(0))
        .expect(resource("web").runs_on("b"));
}

#[test]
fn a_node_that_boots_anew_before_it_is_missed_frees_what_it_held() {
    // One network: a verdict waits 750 ms before it condemns, and the node is back earlier.
    cluster(3)
        .one_network()
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .power_off("b")
        .power_on("b")
        .until("joined", "b")
        .run_for(4.s())
        .expect(node("b").was_fenced(0))
        .expect(resource("db").was_started(1))
        .expect(everything());
}

#[test]
fn what_dies_is_started_in_place_and_moves_only_when_it_dies_too_often() {
    cluster(3)
        .resource("web", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .kill("web")
        .run_for(1.s())
        .expect(resource("web").runs_on("b"))
        .expect(resource("web").was_back_within(200.ms()))
        .kill("web")
        .run_for(1.s())
        .expect(resource("web").runs_on("b"))
        .kill("web")
        .run_for(1.s())
        .expect(resource("web").runs())
        .expect(resource("web").was_started(3))
        .expect(resource("web").was_granted(1));
}

#[test]
fn a_death_that_nobody_tells_is_found_by_the_next_check() {
    cluster(3)
        .resource("db", "prefers b, unwatched")
        .settle()
        .from_here()
        .kill("db")
        .run_for(4.s())
        .expect(resource("db").runs_on("b"))
        .expect(resource("db").was_started(1));
}

#[test]
fn a_stop_that_fails_is_not_taken_for_one() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .stops_are("b", "db", Mood::Fails)
        .move_to("db", "c")
        .run_for(5.s())
        .expect(node("b").fenced_before_start_of("db"))
        .expect(resource("db").runs_on("c"));
}

#[test]
fn a_unit_moves_by_hand_within_a_tenth_of_a_second() {
    cluster(3)
        .resource("web", "prefers b")
        .settle()
        .lead("a")
        .run_for(5.s())
        .from_here()
        .move_to("web", "c")
        .run_for(2.s())
        .expect(resource("web").runs_on("c"))
        .expect(resource("web").was_back_within(150.ms()));
}

#[test]
fn a_node_that_leaves_is_emptied_first() {
    cluster(3)
        .resource("web", "prefers a")
        .settle()
        .lead("a")
        .from_here()
        .inflict(Fault::Leave(Who::Machine(0)))
        .run_for(5.s())
        .expect(node("a").was_condemned(0))
        .expect(resource("web").was_started(1))
        .expect(resource("web").runs());
}

#[test]
fn what_left_the_configuration_and_does_not_stop_is_fenced() {
    cluster(3)
        .resource("db", "prefers b")
        .resource("web", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .stops_are("b", "db", Mood::Fails)
        .remove_from_file("db")
        .run_for(5.s())
        .expect(node("b").was_fenced(1))
        .expect(resource("db").runs_nowhere())
        .expect(resource("web").runs());
}

#[test]
fn a_node_that_failed_too_often_is_tried_again_once_that_is_forgotten() {
    cluster(3)
        .resource("web", "prefers b, failback, forgets 20")
        .settle()
        .lead("a")
        .from_here()
        .kill("web")
        .run_for(2.s())
        .kill("web")
        .run_for(2.s())
        .expect(resource("web").runs_on("b"))
        .kill("web")
        .run_for(5.s())
        .expect(resource("web").runs())
        .expect(resource("web").avoids("b"))
        .run_for(12.s())
        .expect(resource("web").avoids("b"))
        .run_for(8.s())
        .expect(resource("web").runs_on("b"));
}
