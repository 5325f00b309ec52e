//! What a node cannot say about its own resources is never taken for "nothing runs here".

use model::ResourceName;
use sim::{AgentMood, Mood, Seconds, cluster, node, resource};

/// A service runs on b by hand, and the agent there cannot look: it is started nowhere else until it can.
#[test]
fn a_probe_that_fails_for_good_is_no_proof_of_absence() {
    let blind = AgentMood { monitor: Mood::FailsForGood, ..AgentMood::default() };
    cluster(3)
        .resource("web", "prefers a")
        .settle()
        .lead("a")
        .from_here()
        .wild("b", "extra")
        .agent("b", "extra", blind)
        .configure(|config| {
            let web = config.resources[&ResourceName::from("web")].clone();
            config.resources.insert("extra".into(), web);
        })
        .run_for(30.s())
        .expect(resource("extra").runs_on("b"))
        .expect(resource("extra").was_granted(0))
        .expect(node("b").was_condemned(0))
        .agent("b", "extra", AgentMood::default())
        .run_for(30.s())
        .expect(resource("extra").runs_on("a"))
        .expect(node("b").was_condemned(0));
}

/// The holder's checks find no answer any more: it runs on, and nobody is fenced for it.
#[test]
fn a_check_that_cannot_be_made_takes_nothing_down() {
    let blind = AgentMood { monitor: Mood::FailsForGood, ..AgentMood::default() };
    cluster(3)
        .resource("web", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .agent("b", "web", blind)
        .run_for(60.s())
        .expect(resource("web").runs_on("b"))
        .expect(resource("web").was_started(0))
        .kill_worker("b")
        .run_for(30.s())
        .expect(resource("web").runs_on("b"))
        .expect(resource("web").was_started(0))
        .expect(node("b").was_condemned(0));
}
