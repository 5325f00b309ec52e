//! What if a node applies the log differently from the others? It finds out, takes the right state, and is well again
//! (SAFETY §5; §7, row 45).

use sim::{Cluster, Fault, Seconds, Weather, cluster, equal_states, everything, node, resource, term};

const ALARM: &str = "differs from that of";

fn three(seed: u64) -> Cluster {
    let three = cluster(3).seed(seed).resource("db", "prefers c").resource("web", "prefers a");
    three.settle().lead("a").from_here()
}

/// Nobody was disturbed, and nothing is left of it.
fn is_well(story: Cluster, names: &[&str]) {
    let mut story = story.expect(equal_states()).expect(everything());
    for name in names {
        story = story
            .expect(node(name).has_no_problem("state"))
            .expect(node(name).was_condemned(0))
            .expect(node(name).lost_power(0));
    }
    for name in ["db", "web"] {
        story = story.expect(resource(name).was_started(0)).expect(resource(name).was_granted(0));
    }
}

#[test]
fn a_wrong_state_is_replaced_and_nobody_notices() {
    for seed in 0..10 {
        let story = three(seed).garble_once("c").run_for(10.s()).expect(term(0)).expect(node("a").leads());
        is_well(story.expect(node("c").renewed(1)), &["a", "b", "c"]);
    }
}

/// As long as nobody has compared, nobody can know; then all know.
#[test]
fn all_name_the_one_that_is_wrong_and_it_alone() {
    let story = three(1).garble("c").run_for(20.s()).expect(node("c").has_problem("at fault"));
    let story = story.expect(node("a").has_problem("the state of c differs"));
    story.expect(node("b").has_problem("the state of c differs")).expect(node("a").leads());
}

#[test]
fn a_witness_takes_the_right_state_as_well() {
    for seed in 0..5 {
        let two = cluster(2).witness().seed(seed).resource("db", "prefers b").resource("web", "prefers a");
        let story = two.settle().lead("a").from_here().garble_once("w").run_for(10.s());
        is_well(story.expect(node("w").renewed(1)).expect(term(0)), &["a", "b", "w"]);
    }
}

/// It lets another one lead, takes its state, and may lead again.
#[test]
fn a_leader_that_is_wrong_lets_another_one_lead_and_is_well_again() {
    for seed in 0..10 {
        let story = three(seed).garble_once("a").run_for(10.s()).expect(node("a").renewed(1));
        let story = story.expect(node("a").has_no_problem(ALARM));
        is_well(story.lead("a"), &["a", "b", "c"]);
    }
}

#[test]
fn bad_weather_only_delays_it() {
    let weather = Weather { loss: 300, ..Weather::default() };
    for seed in 0..5 {
        let story = three(seed).garble_once("c").weather(weather).run_for(30.s());
        let story = story.weather(Weather::default()).settle().inflict(Fault::Compare).run_for(10.s());
        story.expect(equal_states()).expect(node("c").has_no_problem("state")).expect(everything());
    }
}

/// The restart in the middle reads the wrong snapshot or the right one: either way it ends well.
#[test]
fn a_restart_in_the_middle_changes_nothing() {
    for millis in [1, 30, 60, 100, 150, 200, 250, 300, 400] {
        let story = three(3).garble_once("c").run_for(millis.ms()).kill_worker("c").run_for(10.s());
        let story = story.inflict(Fault::Compare).run_for(10.s());
        story.expect(equal_states()).expect(node("c").has_no_problem("state")).expect(everything());
    }
}

/// What is wrong for good is not asked about for ever, gets nothing to run, and does not lead.
#[test]
fn a_node_that_is_wrong_again_gives_up_and_gets_nothing_more() {
    let story = three(1).garble("b").run_for(60.s()).expect(node("b").has_problem("nothing more is tried"));
    let story = story.expect(node("b").renewed(1)).expect(resource("db").was_started(0)).expect(node("a").leads());
    // It is the next one in the order of names, and c would be the only other.
    let story = story.from_here().power_off("a").run_for(20.s());
    story.expect(node("c").leads()).expect(resource("web").runs_on("c")).expect(resource("db").runs_on("c"));
}

/// Two of three that differ cannot know who is right: nothing is replaced until the third one decides, also against the
/// leader.
#[test]
fn too_few_to_compare_replace_nothing_and_the_third_one_decides() {
    for seed in 0..5 {
        let two = three(seed).power_off("b").run_for(10.s()).from_here();
        let two = two.garble_once("c").run_for(20.s());
        let two = two.expect(node("c").has_problem("too few members")).expect(node("a").has_problem("too few members"));
        let three = two.expect(node("c").renewed(0)).power_on("b").settle().inflict(Fault::Compare).run_for(10.s());
        let three = three.expect(node("c").renewed(1)).expect(node("c").has_no_problem("state")).expect(equal_states());
        three.expect(node("a").has_no_problem("state")).expect(resource("db").was_started(0));
    }
    let two = three(1).power_off("b").run_for(10.s()).from_here().garble_once("a").run_for(20.s());
    let three = two.expect(node("a").renewed(0)).expect(node("c").renewed(0));
    // The third one finds the leader wrong, which lets another one lead: a new term is no fault.
    let three = three.ungarble("a").power_on("b").settle().inflict(Fault::Compare).run_for(10.s());
    three
        .expect(node("a").renewed(1))
        .expect(equal_states())
        .expect(node("a").has_no_problem("state"))
        .expect(node("c").has_no_problem("state"));
}
