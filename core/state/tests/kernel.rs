//! Stories of the exclusion kernel: who may run what, and what ends that.

mod common;

use common::{A, B, C, Cluster, W, incarnation};
use model::{ActionKind, Domain, Epoch, GrantId, HolderState, MemberState, ResourceState, Term, UnitName, WallTime};
use state::{Command, Observation};

#[test]
fn a_unit_is_granted_once_and_freed_by_a_confirmed_stop() {
    let mut cluster = Cluster::ready();
    cluster.run("site", A);
    assert_eq!(cluster.refused(cluster.grant("site", B)), "site is held by a");
    cluster.must(cluster.begin_release("site"));
    assert_eq!(cluster.refused(cluster.release("site")), "address is running on a, not known to be stopped");
    cluster.see(A, "web", ResourceState::Stopped);
    cluster.see(A, "address", ResourceState::Stopped);
    cluster.must(cluster.release("site"));
    assert_eq!(cluster.holder("site"), None);
    assert!(cluster.state.proven_free.contains_key(&UnitName::from("site")));
    cluster.run("site", B);
    assert_eq!(cluster.holder("site"), Some(B));
}

#[test]
fn a_stop_seen_before_the_release_began_is_no_evidence() {
    let mut cluster = Cluster::ready();
    cluster.must(cluster.grant("site", A));
    let late = Observation {
        op: cluster.state.known[&"web".into()][&A].op,
        ..cluster.observation("web", ResourceState::Stopped)
    };
    cluster.must(cluster.begin_release("site"));
    assert_eq!(cluster.knows("web", A), ResourceState::Unknown, "a start may be under way");
    let command = cluster.observed(A, late);
    cluster.must(command);
    assert_eq!(cluster.knows("web", A), ResourceState::Unknown, "the old report says nothing new");
    assert_eq!(cluster.refused(cluster.release("site")), "address is unknown on a, not known to be stopped");
    cluster.see(A, "web", ResourceState::Stopped);
    cluster.see(A, "address", ResourceState::Stopped);
    cluster.must(cluster.release("site"));
}

#[test]
fn nothing_is_released_that_was_not_asked_to_go() {
    let mut cluster = Cluster::ready();
    cluster.must(cluster.grant("site", A));
    assert_eq!(cluster.refused(cluster.release("site")), "site is not being released");
    cluster.must(cluster.begin_release("site"));
    assert_eq!(cluster.refused(cluster.begin_release("site")), "site is being released");
    let wrong = Command::Release {
        unit: "site".into(),
        node: A,
        incarnation: incarnation(A, 1),
        grant: GrantId(1),
        epoch: cluster.epoch(),
    };
    assert_eq!(cluster.refused(wrong), "site is not held under grant 1");
}

#[test]
fn an_unprobed_node_blocks_exclusive_grants_everywhere_but_no_best_effort_ones() {
    let mut cluster = Cluster::unprobed();
    for node in [A, B] {
        for resource in ["address", "web", "cache"] {
            cluster.see(node, resource, ResourceState::Stopped);
        }
    }
    assert_eq!(cluster.refused(cluster.grant("site", A)), "address is unknown on c, not known to be stopped");
    cluster.must(cluster.grant("cache", A));
    cluster.see(C, "address", ResourceState::Stopped);
    cluster.see(C, "web", ResourceState::Running);
    assert_eq!(cluster.last_event(), "orphan web: runs on c, where it must not");
    assert_eq!(cluster.refused(cluster.grant("site", A)), "web is running on c, not known to be stopped");
    cluster.see(C, "web", ResourceState::Stopped);
    cluster.must(cluster.grant("site", A));
}

/// Unknown counts as running: a node that was never asked does not leave in order, so that who has left runs nothing;
/// who is condemned blocks until it is proven off.
#[test]
fn only_who_is_known_to_run_nothing_blocks_nothing() {
    let mut cluster = Cluster::unprobed();
    for resource in ["address", "web"] {
        cluster.see(A, resource, ResourceState::Stopped);
    }
    let (epoch, b) = (cluster.epoch(), incarnation(B, 1));
    let leave = Command::Leave { node: B, incarnation: b, epoch };
    assert_eq!(cluster.refused(leave.clone()), "address is unknown on b, not known to be stopped");
    for resource in ["address", "web", "db"] {
        cluster.see(B, resource, ResourceState::Stopped);
    }
    cluster.must(leave);
    cluster.must(cluster.condemn(C));
    assert_eq!(cluster.refused(cluster.grant("site", A)), "address is unknown on c, not known to be stopped");
    cluster.must(cluster.fence_done(C, "power", &[Domain::Storage, Domain::Network]));
    cluster.must(cluster.grant("site", A));
}

/// What runs on a node without a grant keeps it from leaving, whatever was agreed on before.
#[test]
fn a_node_that_runs_an_orphan_does_not_leave() {
    let mut cluster = Cluster::ready();
    let epoch = cluster.epoch();
    let leave = Command::Leave { node: C, incarnation: incarnation(C, 1), epoch };
    for state in [ResourceState::Running, ResourceState::Failed, ResourceState::Blocked, ResourceState::Unknown] {
        cluster.see(C, "db", state);
        assert!(cluster.refused(leave.clone()).contains("on c, not known to be stopped"), "{state:?}");
    }
    cluster.see(C, "db", ResourceState::Stopped);
    cluster.see(C, "cache", ResourceState::Running);
    cluster.must(leave);
    // A Leave that was agreed on before this rule left something running: that blocks as well.
    cluster.state.known.get_mut(&"db".into()).and_then(|nodes| nodes.get_mut(&C)).expect("known").state =
        ResourceState::Running;
    assert_eq!(cluster.refused(cluster.grant("db", A)), "db is running on c, not known to be stopped");
}

/// A machine that was admitted and has not joined may run by hand what the cluster has never started.
#[test]
fn who_has_not_joined_may_run_what_was_never_granted() {
    let mut cluster = Cluster::ready();
    cluster.run("site", A);
    let command = cluster.admit("d", &["a", "b", "c", "w", "d"]);
    cluster.must(command);
    let d = model::NodeId(cluster.state.applied.0);
    assert_eq!(cluster.refused(cluster.grant("db", A)), "db is unknown on d, not known to be stopped");
    cluster.must(cluster.begin_release("site"));
    for resource in ["web", "address"] {
        cluster.see(A, resource, ResourceState::Stopped);
    }
    cluster.must(cluster.release("site"));
    cluster.must(cluster.grant("site", C));
    cluster.must(Command::Remove { node: d, reason: "it never came".into() });
    cluster.must(cluster.grant("db", A));
}

/// A mistake in the file fails alike on every node: it costs one node at most, until the file or an operator says
/// otherwise.
#[test]
fn that_a_stop_cost_a_node_is_remembered_until_something_changes() {
    let mut cluster = Cluster::ready();
    cluster.run("site", A);
    cluster.run("db", C);
    cluster.see(C, "db", ResourceState::Blocked);
    cluster.must(cluster.block("db"));
    let Command::Condemn { node, incarnation, epoch, reason, .. } = cluster.condemn(C) else { unreachable!() };
    cluster.must(Command::Condemn { node, incarnation, epoch, reason, is_for_silence: false });
    let db: UnitName = "db".into();
    assert_eq!(cluster.state.stop_cost_node.iter().collect::<Vec<_>>(), [&db]);
    cluster.must(cluster.fence_done(C, "power", &[Domain::Storage, Domain::Network]));
    assert!(cluster.state.stop_cost_node.contains(&db), "the next holder is meant");
    cluster.must(Command::Clear { resource: Some("web".into()), node: None, reason: String::new() });
    assert!(cluster.state.stop_cost_node.contains(&db));
    cluster.must(Command::Clear { resource: Some("db".into()), node: None, reason: String::new() });
    assert!(cluster.state.stop_cost_node.is_empty());
}

/// The next version of the file is no licence to fence for what the last one broke: the stop is tried under it first.
#[test]
fn that_a_stop_cost_a_node_is_remembered_while_the_stop_fails() {
    let db: UnitName = "db".into();
    let mut cluster = Cluster::ready();
    cluster.run("db", C);
    cluster.see(C, "db", ResourceState::Blocked);
    cluster.must(cluster.block("db"));
    let Command::Condemn { node, incarnation, epoch, reason, .. } = cluster.condemn(C) else { unreachable!() };
    cluster.must(Command::Condemn { node, incarnation, epoch, reason, is_for_silence: true });
    assert!(cluster.state.stop_cost_node.contains(&db), "whatever the node is condemned for");
    cluster.must(cluster.fence_done(C, "power", &[Domain::Storage, Domain::Network]));
    cluster.run("db", B);
    cluster.see(B, "db", ResourceState::Blocked);
    cluster.must(cluster.block("db"));
    let configure = |cluster: &mut Cluster| {
        let mut config = Box::new(cluster.state.config.clone());
        let resource = config.resources.get_mut(&"db".into()).expect("db");
        resource.parameters.insert("another".to_owned(), model::ParameterValue::Text("one".to_owned()));
        let expected_version = cluster.state.config_version;
        cluster.must(Command::Configure { expected_version, text: String::new(), config, reason: String::new() });
    };
    configure(&mut cluster);
    assert!(cluster.state.stop_cost_node.contains(&db), "its stop still fails on b");
    let bytes = state::encode_snapshot(&cluster.state);
    assert!(state::decode_snapshot(&bytes).expect("a snapshot").stop_cost_node.contains(&db));
    cluster.see(B, "db", ResourceState::Stopped);
    assert!(cluster.state.stop_cost_node.contains(&db), "the same version");
    configure(&mut cluster);
    assert!(cluster.state.stop_cost_node.is_empty());
}

#[test]
fn a_late_result_does_not_hide_a_failure_of_the_same_operation() {
    let mut cluster = Cluster::ready();
    cluster.must(cluster.grant("db", A));
    let running = cluster.observation("db", ResourceState::Running);
    let failed =
        Observation { state: ResourceState::Failed, is_change: true, reason: "it died".into(), ..running.clone() };
    for observation in [running.clone(), failed, running] {
        let command = cluster.observed(A, observation);
        cluster.must(command);
    }
    assert_eq!(cluster.knows("db", A), ResourceState::Failed);
}

#[test]
fn only_a_living_member_that_is_meant_gets_a_grant() {
    let mut cluster = Cluster::ready();
    assert_eq!(cluster.refused(cluster.grant("site", W)), "w is a witness and runs nothing");
    assert_eq!(cluster.refused(cluster.grant("nothing", A)), "`nothing` is not a unit of the configuration");
    assert_eq!(cluster.refused(cluster.grant("web", A)), "`web` is not a unit of the configuration");
    let other = Command::Grant {
        unit: "site".into(),
        node: B,
        incarnation: incarnation(B, 9),
        epoch: cluster.epoch(),
        reason: String::new(),
    };
    assert_eq!(cluster.refused(other), "b is in another incarnation (201) than the one meant (209)");
    cluster.must(Command::Act { action: ActionKind::NodeMaintenance(B), reason: String::new() });
    assert_eq!(cluster.refused(cluster.grant("site", B)), "b is in maintenance");
    cluster.must(cluster.condemn(C));
    assert_eq!(cluster.refused(cluster.grant("site", C)), "c is condemned");
    let mut bare = cluster.state.config.clone();
    bare.nodes.get_mut(&"a".into()).expect("a").fence.pop();
    let expected_version = cluster.state.config_version;
    cluster.must(Command::Configure {
        expected_version,
        text: String::new(),
        config: Box::new(bare),
        reason: String::new(),
    });
    assert_eq!(
        cluster.refused(cluster.grant("site", A)),
        "nothing that can fence a covers everything that site could damage"
    );
    cluster.must(cluster.grant("db", A));
}

#[test]
fn an_earlier_leader_is_refused() {
    let mut cluster = Cluster::ready();
    let old = cluster.grant("site", A);
    cluster.must(Command::Coordinator { node: B, incarnation: incarnation(B, 1), term: Term(2) });
    let refusal = cluster.refused(old);
    assert!(refusal.starts_with("the leader of epoch 9 no longer leads"), "{refusal}");
    let late = Command::Coordinator { node: A, incarnation: incarnation(A, 1), term: Term(1) };
    assert_eq!(cluster.refused(late), "term 1 is over; term 2 has begun");
    let second = Command::Coordinator { node: A, incarnation: incarnation(A, 1), term: Term(2) };
    assert_eq!(cluster.refused(second), "term 2 is over; term 2 has begun");
    assert_eq!(cluster.epoch(), Epoch(cluster.state.applied.0 - 3));
}

#[test]
fn a_condemned_leader_does_not_lead_again() {
    let mut cluster = Cluster::ready();
    assert_eq!(cluster.refused(cluster.condemn(A)), "a leads the cluster; another node must lead first");
    assert_eq!(cluster.refused(cluster.confirm(A)), "a leads the cluster; another node must lead first");
    cluster.must(Command::Coordinator { node: B, incarnation: incarnation(B, 1), term: Term(2) });
    cluster.must(cluster.condemn(A));
    let again = Command::Coordinator { node: A, incarnation: incarnation(A, 1), term: Term(3) };
    assert_eq!(cluster.refused(again), "a is condemned");
    cluster.must(cluster.fence_done(A, "power", &[Domain::Storage]));
    let again = Command::Coordinator { node: A, incarnation: incarnation(A, 1), term: Term(3) };
    assert_eq!(cluster.refused(again), "this incarnation of a is dead for ever; the node must boot again");
    let anew = Command::Coordinator { node: A, incarnation: incarnation(A, 2), term: Term(3) };
    cluster.must(anew);
}

#[test]
fn a_verdict_frees_nothing_exclusive_until_the_fence_is_proven() {
    let mut cluster = Cluster::ready();
    cluster.run("site", B);
    cluster.run("cache", B);
    assert_eq!(
        cluster.refused(cluster.fence_done(B, "power", &[Domain::Storage, Domain::Network])),
        "b is not condemned"
    );
    cluster.must(cluster.condemn(B));
    assert_eq!(cluster.holder("site"), Some(B));
    assert_eq!(cluster.holder("cache"), None, "a duplicate of it is tolerable");
    assert!(!cluster.state.proven_free.contains_key(&UnitName::from("cache")));
    cluster.must(cluster.grant("cache", A));
    assert_eq!(cluster.refused(cluster.condemn(B)), "b is condemned");
    assert_eq!(cluster.refused(cluster.grant("site", A)), "site is held by b");
    cluster.must(cluster.fence_done(B, "power", &[Domain::Storage, Domain::Network]));
    assert_eq!(cluster.holder("site"), None);
    assert_eq!(cluster.state.members[&B].state, MemberState::Fenced);
    assert!(cluster.state.proven_free.contains_key(&UnitName::from("site")));
    assert_eq!(cluster.knows("web", B), ResourceState::Unknown);
    cluster.must(cluster.grant("site", A));
}

#[test]
fn a_fence_frees_what_it_covers_and_a_further_one_the_rest() {
    let mut cluster = Cluster::ready();
    cluster.run("site", B);
    cluster.run("db", B);
    cluster.must(cluster.condemn(B));
    cluster.must(cluster.fence_done(B, "disk", &[Domain::Storage]));
    assert_eq!(cluster.holder("db"), None, "db damages storage alone");
    assert_eq!(cluster.holder("site"), Some(B), "its address still answers");
    assert_eq!(cluster.state.members[&B].state, MemberState::Condemned);
    cluster.must(cluster.fence_done(B, "power", &[Domain::Storage, Domain::Network]));
    assert_eq!(cluster.holder("site"), None);
    assert_eq!(cluster.state.members[&B].state, MemberState::Fenced);
}

#[test]
fn a_fence_must_be_done_by_a_device_of_that_node_which_covers_what_it_claims() {
    let mut cluster = Cluster::ready();
    cluster.must(cluster.condemn(B));
    let wanted = "the evidence names no device that fences b and covers what is claimed";
    assert_eq!(cluster.refused(cluster.fence_done(B, "foreign", &[Domain::Storage])), wanted);
    assert_eq!(cluster.refused(cluster.fence_done(B, "disk", &[Domain::Network])), wanted);
    assert_eq!(cluster.refused(cluster.fence_done(B, "disk", &[])), wanted);
}

#[test]
fn a_persons_word_frees_everything_at_once() {
    let mut cluster = Cluster::ready();
    cluster.run("site", B);
    let applied = cluster.apply_by("ada", cluster.confirm(B));
    assert_eq!(applied.verdict, Ok(()));
    let events: Vec<&str> = applied.events.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(events, ["condemned", "confirmed-off", "freed"]);
    assert!(applied.events.iter().all(|event| event.actor == "ada"));
    assert_eq!(cluster.holder("site"), None);
    assert_eq!(cluster.refused(cluster.confirm(B)), "this incarnation of b is dead for ever; the node must boot again");
}

#[test]
fn a_blocked_unit_stays_where_it_is_until_its_node_is_off() {
    let mut cluster = Cluster::ready();
    cluster.run("site", B);
    cluster.must(cluster.begin_release("site"));
    cluster.see(B, "web", ResourceState::Blocked);
    cluster.must(cluster.block("site"));
    assert_eq!(cluster.holder_state("site"), &HolderState::Blocked { why: "busy".into() });
    assert_eq!(cluster.refused(cluster.block("site")), "site is blocked");
    assert_eq!(cluster.refused(cluster.begin_release("site")), "site is blocked");
    assert_eq!(cluster.refused(cluster.release("site")), "site is blocked");
    cluster.must(cluster.condemn(B));
    cluster.must(cluster.fence_done(B, "power", &[Domain::Storage, Domain::Network]));
    assert_eq!(cluster.holder("site"), None);
}

#[test]
fn clearing_a_blockade_frees_nothing_but_lets_it_be_looked_at_again() {
    let mut cluster = Cluster::ready();
    cluster.run("site", B);
    cluster.must(cluster.begin_release("site"));
    cluster.see(B, "web", ResourceState::Blocked);
    cluster.must(cluster.block("site"));
    cluster.must(Command::Clear { resource: Some("web".into()), node: None, reason: "umount helped".into() });
    assert_eq!(cluster.holder_state("site"), &HolderState::Held);
    assert_eq!(cluster.knows("web", B), ResourceState::Unknown);
    assert_eq!(cluster.refused(cluster.grant("site", A)), "site is held by b");
}

#[test]
fn what_left_the_file_keeps_its_holder_until_it_has_stopped() {
    let mut cluster = Cluster::ready();
    cluster.run("db", B);
    let mut config = cluster.state.config.clone();
    config.resources.remove(&"db".into());
    let expected_version = cluster.state.config_version;
    cluster.must(Command::Configure {
        expected_version,
        text: String::new(),
        config: Box::new(config.clone()),
        reason: String::new(),
    });
    assert_eq!(cluster.holder("db"), Some(B));
    assert_eq!(cluster.knows("db", B), ResourceState::Running);
    let back = Command::Configure {
        expected_version: cluster.state.config_version,
        text: String::new(),
        config: Box::new(common::file(&["a", "b", "c", "w"])),
        reason: String::new(),
    };
    assert_eq!(
        cluster.refused(back.clone()),
        "`db` was removed and has not stopped everywhere yet; try again when it has"
    );
    cluster.must(cluster.begin_release("db"));
    assert_eq!(cluster.refused(cluster.release("db")), "db is running on b, not known to be stopped");
    cluster.see(B, "db", ResourceState::Stopped);
    cluster.must(cluster.release("db"));
    assert!(!cluster.state.known.contains_key(&"db".into()), "nothing is left of it");
    cluster.must(back);
}

#[test]
fn a_removed_unit_needs_a_fence_that_covers_everything() {
    let mut cluster = Cluster::ready();
    cluster.run("db", B);
    let mut config = cluster.state.config.clone();
    config.resources.remove(&"db".into());
    let expected_version = cluster.state.config_version;
    cluster.must(Command::Configure {
        expected_version,
        text: String::new(),
        config: Box::new(config),
        reason: String::new(),
    });
    cluster.must(cluster.condemn(B));
    assert_eq!(cluster.holder("db"), Some(B));
    cluster.must(cluster.fence_done(B, "disk", &[Domain::Storage]));
    assert_eq!(cluster.holder("db"), Some(B), "nobody knows any more what it could damage");
    cluster.must(cluster.fence_done(B, "power", &[Domain::Storage, Domain::Network]));
    assert_eq!(cluster.holder("db"), None);
}

#[test]
fn a_late_observation_overwrites_nothing_newer() {
    let mut cluster = Cluster::ready();
    let early = cluster.observation("web", ResourceState::Stopped);
    cluster.run("site", A);
    let command = cluster.observed(A, early.clone());
    cluster.must(command);
    assert_eq!(cluster.knows("web", A), ResourceState::Running);
    let future = Observation { op: model::OpId { epoch: Epoch(1_000), index: 1 }, ..early };
    let command = cluster.observed(A, future);
    cluster.must(command);
    assert_eq!(cluster.knows("web", A), ResourceState::Running);
    let observation = cluster.observation("web", ResourceState::Running);
    let mut dead = cluster.observed(B, observation);
    if let Command::Observed { incarnation, .. } = &mut dead {
        *incarnation = common::incarnation(B, 9);
    }
    assert_eq!(cluster.refused(dead), "b is in another incarnation (201) than the one meant (209)");
}

#[test]
fn a_failure_counts_once_and_is_forgotten_after_ten_quiet_minutes() {
    let mut cluster = Cluster::ready();
    cluster.run("site", A);
    let start = cluster.state.known[&"web".into()][&A].op;
    let failure = Some(state::Failure { reason: "exited with 139".into(), is_permanent: false });
    let died = Observation { op: start, is_change: true, failure, ..cluster.observation("web", ResourceState::Failed) };
    for _ in 0..2 {
        let command = cluster.observed(A, died.clone());
        cluster.must(command);
    }
    let count = |cluster: &Cluster| cluster.state.failures[&"web".into()][&A].count;
    assert_eq!(count(&cluster), 1, "the repeated report is the same failure");
    cluster.see_failure(A, "web", false);
    assert_eq!(count(&cluster), 2);
    cluster.now.0 += 600_001;
    cluster.see_failure(A, "web", true);
    assert_eq!(count(&cluster), 1);
    assert!(cluster.state.failures[&"web".into()][&A].is_permanent);
    cluster.must(Command::Clear { resource: Some("web".into()), node: Some(A), reason: String::new() });
    assert!(cluster.state.failures.is_empty());
}

/// What the planted bugs do, so that the simulator has something to find.
#[cfg(feature = "planted-bugs")]
mod planted {
    use super::*;
    use model::{Bug, Bugs};

    #[test]
    fn no_wait_for_fence_done_frees_at_once() {
        let mut cluster = Cluster::ready();
        cluster.bugs = Bugs::NONE.with(Bug::NoWaitForFenceDone);
        cluster.run("site", B);
        cluster.must(cluster.condemn(B));
        assert_eq!(cluster.holder("site"), None);
    }

    #[test]
    fn grant_without_release_takes_from_the_holder() {
        let mut cluster = Cluster::ready();
        cluster.bugs = Bugs::NONE.with(Bug::GrantWithoutRelease);
        cluster.run("site", B);
        cluster.must(cluster.grant("site", A));
        assert_eq!(cluster.holder("site"), Some(A));
    }
}

/// Who is heard again is spared, as long as no device can have been told anything.
#[test]
fn a_life_condemned_for_its_silence_is_spared_until_its_fence_begins() {
    let mut cluster = Cluster::ready();
    cluster.run("db", B);
    let spare = |cluster: &Cluster| Command::Spare { node: B, incarnation: incarnation(B, 1), epoch: cluster.epoch() };
    let begun = |cluster: &Cluster| Command::FenceBegun {
        node: B,
        incarnation: incarnation(B, 1),
        epoch: cluster.epoch(),
        attempt: 1,
    };
    let command = spare(&cluster);
    assert!(cluster.apply(command).is_err(), "it is not condemned");
    let command = cluster.condemn(B);
    cluster.must(command);
    let command = spare(&cluster);
    cluster.must(command);
    assert_eq!(cluster.state.members[&B].state, MemberState::Online);
    assert_eq!(cluster.state.holders[&"db".into()].node, B);
    let command = cluster.condemn(B);
    cluster.must(command);
    let command = begun(&cluster);
    cluster.must(command);
    let command = spare(&cluster);
    assert!(cluster.apply(command).is_err(), "it may be off in a moment");
}

#[test]
fn who_is_condemned_for_more_than_silence_is_not_spared() {
    let mut cluster = Cluster::ready();
    let Command::Condemn { node, incarnation, epoch, reason, .. } = cluster.condemn(B) else { unreachable!() };
    cluster.must(Command::Condemn { node, incarnation, epoch, reason, is_for_silence: false });
    assert!(cluster.apply(Command::Spare { node, incarnation, epoch }).is_err());
}

/// A successor knows from the state what is to be switched on again; the next life has no such end.
#[test]
fn what_cut_a_life_off_is_remembered_until_the_next_one() {
    let mut cluster = Cluster::ready();
    let command = cluster.condemn(B);
    cluster.must(command);
    let command = cluster.fence_done(B, "power", &[model::Domain::Storage, model::Domain::Network]);
    cluster.must(command);
    assert_eq!(cluster.state.ends[&B].cut_off_by, ["power".into()]);
    let command = cluster.join(B, 2);
    cluster.must(command);
    assert!(cluster.state.ends.is_empty());
}

/// A verdict frees what may run twice and ends no life; it frees nothing else.
#[test]
fn a_lost_member_keeps_its_life_and_what_must_not_run_twice() {
    let mut cluster = Cluster::ready();
    cluster.run("site", B);
    cluster.run("cache", B);
    let lost = |cluster: &Cluster| Command::Lost {
        node: B,
        incarnation: incarnation(B, 1),
        epoch: cluster.epoch(),
        reason: "no heartbeat".into(),
    };
    cluster.must(lost(&cluster));
    assert_eq!(cluster.holder("cache"), None);
    assert_eq!(cluster.holder("site"), Some(B), "no proof, no end");
    assert_eq!(cluster.state.members[&B].state, MemberState::Online);
    assert_eq!(cluster.knows("cache", B), ResourceState::Running, "it is stopped there when the node is back");
    cluster.must(cluster.grant("cache", A));
}

/// A best-effort unit that its holder cannot stop may run elsewhere; an exclusive one stays blocked.
#[test]
fn what_may_run_twice_is_let_go_where_it_cannot_be_stopped() {
    let mut cluster = Cluster::ready();
    cluster.run("cache", A);
    cluster.run("db", A);
    cluster.see(A, "cache", ResourceState::Blocked);
    cluster.see(A, "db", ResourceState::Blocked);
    cluster.must(cluster.block("cache"));
    cluster.must(cluster.block("db"));
    assert_eq!((cluster.holder("cache"), cluster.holder("db")), (None, Some(A)));
    assert_eq!(cluster.state.known_state(&"cache".into(), A), ResourceState::Blocked);
    cluster.run("cache", B);
}

/// Before all members know the level at which it is let go, it is blocked; it is let go when they do.
#[test]
fn what_may_run_twice_is_let_go_when_all_members_know_that() {
    let mut cluster = Cluster::ready();
    cluster.state.level = 1;
    for unit in ["cache", "db"] {
        cluster.run(unit, A);
        cluster.see(A, unit, ResourceState::Blocked);
        cluster.must(cluster.block(unit));
        assert_eq!(cluster.holder(unit), Some(A));
    }
    cluster.must(Command::Raise { level: 2, epoch: cluster.epoch() });
    assert_eq!((cluster.holder("cache"), cluster.holder("db")), (None, Some(A)));
}

/// The level of the cluster rises when all members know more, and never falls; who knows less says so.
#[test]
fn a_feature_level_is_never_left() {
    let mut cluster = Cluster::ready();
    cluster.state.level = 0;
    let raise = |cluster: &Cluster, level: u8| Command::Raise { level, epoch: cluster.epoch() };
    cluster.must(raise(&cluster, 1));
    assert_eq!(cluster.refused(raise(&cluster, 1)), "the cluster is at feature level 1 already");
    assert_eq!(cluster.refused(raise(&cluster, 0)), "the cluster is at feature level 1 already");
    let newer = state::Entry { at: WallTime(0), actor: "cluster".into(), command: raise(&cluster, state::LEVEL + 1) };
    let cause = state::Entry::decode(&newer.encode()).expect_err("only a newer build can follow");
    assert!(cause.to_string().ends_with("this build knows 4: install the newer Cardea"), "{cause}");
    cluster.state.level = state::LEVEL + 1;
    assert!(state::decode_snapshot(&state::encode_snapshot(&cluster.state)).is_err());
}
