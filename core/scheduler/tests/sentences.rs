//! What is told of a CIB: the cause that decided, for the instance and role that a sentence speaks of; and why what stays
//! stopped stays stopped.

mod common;

use scheduler::reasons::{changed, explain, story};
use scheduler::{Ask, judge, judge_telling};

/// The story of a CIB below `sentences/`, and the explanation of one resource: the decision, then each node.
fn told(name: &str, resource: &str) -> (String, String) {
    let situation = common::cib(name);
    let (judgement, reasons) = judge_telling(&situation, &Ask::Of(changed(&judge(&situation))));
    let explained = explain(&situation, resource).expect("it is there");
    let nodes: Vec<String> =
        explained.nodes.iter().map(|node| format!("{}: {}", node.node, node.because.join("; "))).collect();
    (story(&judgement, &reasons), format!("{}\n{}", explained.decision, nodes.join("\n")))
}

#[test]
fn what_stays_stopped_is_named_with_the_constraints_that_keep_it() {
    let (story, _) = told("nothing_but_stopped", "web");
    assert!(story.starts_with("nothing would be started, stopped or moved\nweb runs nowhere: "), "{story}");
    for id in ["cli-ban-web-on-a", "cli-ban-web-on-b"] {
        assert!(story.contains(id), "{story}");
    }
}

#[test]
fn what_has_no_room_is_named() {
    let (story, _) = told("knapsack", "large");
    let line = story.lines().find(|line| line.starts_with("large runs nowhere: ")).expect("large is named");
    assert!(line.contains("n2 is excluded: it has too little memory: 3072 needed, "), "{line}");
}

#[test]
fn without_status_no_node_is_known() {
    let (story, _) = told("no_status", "db");
    assert!(story.starts_with("no node is known to be online\n"), "{story}");
    assert!(story.contains("\ndb runs nowhere: "), "{story}");
}

#[test]
fn a_failure_that_blocks_is_the_reason() {
    let (story, explained) = told("onfail_block", "db");
    let why = "it failed on a and is blocked there (on-fail=block)";
    assert!(story.contains(why) && explained.contains(why), "{story}\n{explained}");
    assert!(!explained.contains("not managed, and left"), "{explained}");
    assert!(!explained.contains("cannot have db: it is not managed, and runs there"), "{explained}");
}

#[test]
fn what_is_active_twice_and_blocked_is_the_reason_for_what_depends_on_it() {
    let (story, _) = told("active_twice_and_blocked", "x");
    assert!(
        story.contains("x is active on a and b, and that blocks it") || story.contains("it is active on a and b"),
        "{story}"
    );
    assert!(!story.contains("stop y on a: it moves from a to b"), "{story}");
    let (story, _) = told("active_twice_and_stopped", "x");
    let lines: Vec<&str> = story.lines().filter(|line| line.starts_with("x ")).collect();
    assert_eq!(lines.len(), 1, "{story}");
}

#[test]
fn each_instance_has_its_own_reason_and_a_tie_names_its_role() {
    let (story, explained) = told("role_failback", "fs");
    assert!(
        story.contains("demote drbd from b on b: it is to lead no more") || story.contains("it is to lead no more"),
        "{story}"
    );
    assert!(!story.contains("demote drbd on b: it is to lead\n"), "{story}");
    assert!(
        explained.contains("b is not where drbd-clone leads (on a), which fs must be with")
            || explained.contains("b: is not where drbd-clone leads (on a), which fs must be with"),
        "{explained}"
    );
}

#[test]
fn what_keeps_every_copy_from_leading_is_named() {
    let (story, of_fs) = told("role_fence_peer", "fs");
    let (_, of_clone) = told("role_fence_peer", "drbd-clone");
    for text in [&story, &of_fs, &of_clone] {
        assert!(text.contains("a must not have drbd leading (drbd-fence-by-handler)"), "{text}");
    }
    assert!(of_fs.contains("it must be with drbd-clone, which leads nowhere"), "{of_fs}");
}

#[test]
fn a_ticket_in_standby_is_not_called_absent() {
    let (story, _) = told("ticket_in_standby", "web");
    assert!(story.contains("web runs nowhere: ticket T is in standby"), "{story}");
}

#[test]
fn what_speaks_against_a_node_is_named_where_it_outweighs_the_rest() {
    let (_, explained) = told("points_below_nothing", "web");
    assert!(
        explained.contains("has more against web than for it (-10 in all): it is avoided (rather-not, -10)"),
        "{explained}"
    );
}
