//! Operations run at most once, whatever is lost, doubled, killed or booted anew (SAFETY §7, rows 28–30).

use model::{AgentName, ParameterValue, ResourceConfig};
use sim::{AgentMood, Cluster, Fault, Mood, Seconds, Weather, Who, cluster, condemned, everything, node, resource};

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

/// What people write when they are in a hurry: the agent is not there, does not know a parameter, or lacks one.
const MISTAKES: [fn(&mut ResourceConfig); 3] = [
    |db| db.agent = AgentName::Ocf { provider: "heartbeat".to_owned(), name: "Dumy".to_owned() },
    |db| db.parameters = [("sate".to_owned(), ParameterValue::Text("/run/db".to_owned()))].into(),
    |db| db.agent = AgentName::Ocf { provider: "heartbeat".to_owned(), name: "Filesystem".to_owned() },
];

fn with_mistake(story: Cluster, mistake: fn(&mut ResourceConfig)) -> Cluster {
    story.configure(|config| mistake(config.resources.get_mut(&"db".into()).expect("db")))
}

/// One wrong letter stops the service that it is about, and nothing else; taking it back is enough.
#[test]
fn a_mistake_in_the_file_fences_nobody_and_is_healed_by_taking_it_back() {
    for (seed, mistake) in (0..6).zip(MISTAKES.into_iter().cycle()) {
        let mut right = None;
        let story = cluster(3)
            .seed(seed)
            .resource("web", "prefers c")
            .resource("address", "prefers b, unwatched")
            .resource("db", "prefers b, unwatched")
            .group("site", &["address", "db"])
            .settle()
            .configure(|config| right = Some(config.clone()))
            .run_for(1.s())
            .from_here();
        let right = right.expect("the file as it was");
        let _ = with_mistake(story, mistake)
            .run_for(20.s())
            .expect(resource("db").runs_nowhere())
            .expect(resource("web").was_started(0))
            .expect(condemned(0))
            .configure(|config| *config = right)
            .settle()
            .expect(resource("db").runs())
            .expect(resource("web").was_started(0));
    }
}

/// A stop that fails everywhere costs one node, for this version of the file and for the next: what was broken is tried
/// under the new version before anybody is fenced for it again.
#[test]
fn what_cannot_be_stopped_costs_one_node_whatever_version_comes_next() {
    for seed in 0..6 {
        let broken = AgentMood { start: Mood::FailsDirty, stop: Mood::Fails, ..AgentMood::default() };
        let mut story =
            cluster(3).seed(seed).resource("web", "prefers a").resource("db", "prefers b, unwatched").settle();
        story = story.lead("a").from_here();
        for name in ["a", "b", "c"] {
            story = story.agent(name, "db", AgentMood { stop: Mood::Works, ..broken });
        }
        story = story.kill("db").run_for(100.ms());
        for name in ["a", "b", "c"] {
            story = story.agent(name, "db", broken);
        }
        story = story.run_for(20.s()).expect(condemned(1));
        for generation in ["1", "2"] {
            story = story
                .configure(|config| {
                    let db = config.resources.get_mut(&"db".into()).expect("db");
                    db.parameters.insert("generation".to_owned(), ParameterValue::Text(generation.to_owned()));
                })
                .run_for(10.s())
                .expect(condemned(1));
        }
        for name in ["a", "b", "c"] {
            story = story.agent(name, "db", AgentMood::default());
        }
        let _ = story.settle().expect(condemned(1)).expect(resource("db").runs());
    }
}
