//! Replication, restart, snapshots and membership.

use model::{LogIndex, NodeId, Profile, Term};

use super::cluster::{Cluster, Disk, MS, State, id};
use crate::message::{Message, MessageKind};
use crate::{Action, ChangeRefusal, Config, Consensus, Input, MembershipChange, Refusal};

#[test]
fn a_founder_leads_alone_and_others_join_it() {
    let mut cluster = Cluster::founded(1);
    cluster.until("leader", |cluster| cluster.leader() == Some(id(1)));
    cluster.propose_many(3);
    cluster.join(id(7), 0);
    cluster.join(id(9), 0);
    cluster.settle();
    for node in [1, 7, 9] {
        assert_eq!(cluster.node(id(node)).voters(), [id(1), id(7), id(9)]);
        assert!(cluster.node(id(node)).learners().is_empty());
    }
    assert_eq!(cluster.machines[&id(7)].state, cluster.machines[&id(1)].state);
}

#[test]
fn a_proposal_comes_back_with_its_id_where_it_was_made_and_nowhere_else() {
    let mut cluster = Cluster::of(3, 2);
    let proposal = cluster.propose();
    cluster.run(50 * MS);
    let count = |cluster: &mut Cluster, node: u64| {
        cluster.machine(id(node)).committed.iter().filter(|entry| entry.proposal == Some(proposal)).count()
    };
    assert_eq!([1, 2, 3].map(|node| count(&mut cluster, node)), [1, 0, 0]);
}

#[test]
fn a_follower_refuses_proposals_and_names_the_leader() {
    let mut cluster = Cluster::of(3, 3);
    let now = cluster.at();
    let follower = cluster.machine(id(2)).consensus.as_mut().unwrap();
    let actions = follower.step(now, Input::Propose { id: 5, data: b"x".to_vec() });
    assert!(actions.contains(&Action::Refused { id: 5, why: Refusal::NotLeader { leader: Some(id(1)) } }));
}

#[test]
fn a_proposal_that_another_leader_overwrote_is_refused() {
    let mut cluster = Cluster::of(3, 4);
    cluster.isolate(id(1));
    let proposal = cluster.propose();
    cluster.until("successor", |cluster| cluster.leader().is_some_and(|leader| leader != id(1)));
    cluster.propose_many(3);
    cluster.heal();
    cluster.settle();
    assert_eq!(cluster.machine(id(1)).refused, [proposal]);
}

/// The leader of before leads again, and writes where its lost proposals stood.
#[test]
fn a_proposal_that_its_own_maker_overwrites_is_refused_as_well() {
    let mut cluster = Cluster::of(3, 4);
    cluster.isolate(id(1));
    let lost: Vec<u64> = (0..8).map(|_| cluster.propose()).collect();
    cluster.until("successor", |cluster| cluster.leader().is_some_and(|leader| leader != id(1)));
    cluster.heal();
    cluster.settle();
    let leader = cluster.leader().expect("a leader");
    cluster.input(leader, Input::Transfer(id(1)));
    cluster.until("return", |cluster| cluster.leader() == Some(id(1)));
    cluster.propose_many(20);
    cluster.settle();
    let mut refused = cluster.machine(id(1)).refused.clone();
    refused.sort_unstable();
    assert_eq!(refused, lost);
}

#[test]
fn what_was_agreed_survives_the_restart_of_everybody() {
    let mut cluster = Cluster::of(3, 5);
    cluster.propose_many(30);
    cluster.settle();
    let before = cluster.machine(id(1)).state;
    for node in 1..=3 {
        cluster.crash(id(node));
    }
    for node in 1..=3 {
        cluster.start(id(node));
    }
    assert_eq!(cluster.node(id(2)).voters().len(), 3, "the membership is known before the first tick");
    cluster.settle();
    cluster.propose_many(3);
    cluster.settle();
    assert!(cluster.machine(id(1)).state.applied > before.applied);
}

#[test]
fn a_member_behind_a_compacted_log_receives_the_state() {
    let mut cluster = Cluster::of(3, 6);
    cluster.compact_every = 20;
    cluster.tail_entries = 5;
    for node in 1..=3 {
        cluster.crash(id(node));
        cluster.start(id(node));
    }
    cluster.settle();
    let behind = [1, 2, 3].map(id).into_iter().find(|node| Some(*node) != cluster.leader()).unwrap();
    cluster.crash(behind);
    cluster.propose_many(200);
    let before = cluster.machine(behind).snapshots_installed;
    cluster.start(behind);
    cluster.settle();
    assert_eq!(cluster.machine(behind).snapshots_installed, before + 1);
    cluster.crash(behind);
    cluster.start(behind);
    cluster.propose_many(3);
    cluster.settle();
}

/// The state was found wrong, and is another one from here on; what the log holds is as it was.
#[test]
fn a_replaced_state_is_what_a_member_begins_with_after_its_restart() {
    let mut cluster = Cluster::of(3, 8);
    cluster.tail_entries = 5;
    cluster.propose_many(30);
    cluster.settle();
    let leader = cluster.leader().unwrap();
    let member = [1, 2, 3].map(id).into_iter().find(|node| *node != leader).unwrap();
    cluster.crash(member);
    cluster.start(member);
    cluster.settle();
    let installed = cluster.machine(member).snapshots_installed;
    let right = cluster.machine(member).state;
    let wrong = State { digest: right.digest ^ 1, ..right };
    let upto = LogIndex(right.applied);
    let restart = |cluster: &mut Cluster, from: Input| {
        cluster.input(member, from);
        cluster.run(50 * MS);
        cluster.crash(member);
        cluster.start(member);
        cluster.machine(member).state
    };
    assert_eq!(restart(&mut cluster, Input::Compact { upto, snapshot: wrong.encode() }), wrong);
    let again = Input::Compact { upto, snapshot: right.encode() };
    assert_eq!(restart(&mut cluster, again), wrong, "a log is compacted once up to the same entry");
    let before = (cluster.node(member).last_index(), cluster.node(member).voters().to_vec());
    let kept =
        |cluster: &Cluster| (1..=upto.0).filter(|index| cluster.node(member).entry(LogIndex(*index)).is_some()).count();
    assert_eq!(kept(&cluster), 5);
    assert_eq!(restart(&mut cluster, Input::Replace { upto, snapshot: right.encode() }), right);
    assert_eq!(before, (cluster.node(member).last_index(), cluster.node(member).voters().to_vec()));
    assert_eq!(kept(&cluster), 5);
    // What it has not applied it cannot have the state of, and it does not go back.
    for upto in [upto.0 + 1, upto.0 - 1] {
        let none = Input::Replace { upto: LogIndex(upto), snapshot: wrong.encode() };
        assert_eq!(restart(&mut cluster, none), right);
    }
    cluster.propose_many(10);
    cluster.settle();
    assert_eq!(cluster.machines[&member].state, cluster.machines[&leader].state);
    assert_eq!(cluster.machines[&member].snapshots_installed, installed, "the log did without the leader's");
}

/// A snapshot that got lost is sent again, without anybody reporting it.
#[test]
fn a_lost_snapshot_is_sent_again() {
    let mut cluster = Cluster::of(3, 7);
    cluster.lose_snapshots = 2;
    cluster.join(id(4), 0);
    cluster.settle();
    assert_eq!(cluster.node(id(4)).voters().len(), 4);
}

/// A snapshot older than a node's admission is good for it: the rest follows in the log.
#[test]
fn a_new_member_starts_from_a_snapshot_older_than_its_admission() {
    let mut cluster = Cluster::of(3, 8);
    cluster.compact_every = 50;
    cluster.propose_many(60);
    cluster.compact_every = u64::MAX / 2;
    cluster.propose_many(10);
    cluster.join(id(4), 0);
    cluster.settle();
    cluster.crash(id(4));
    cluster.start(id(4));
    cluster.settle();
    assert_eq!(cluster.node(id(4)).voters(), [1, 2, 3, 4].map(id));
}

#[test]
fn a_removed_member_no_longer_counts_and_disturbs_nobody() {
    let mut cluster = Cluster::of(4, 9);
    cluster.change(MembershipChange::Remove(id(4)));
    cluster.until("smaller cluster", |cluster| cluster.node(id(1)).voters().len() == 3);
    let term = cluster.term();
    cluster.run(10_000 * MS);
    assert_eq!((cluster.leader(), cluster.node(id(1)).term()), (Some(id(1)), term));
    cluster.crash(id(3));
    cluster.propose_many(3);
    cluster.settle();
}

#[test]
fn changes_of_membership_are_refused_with_a_reason() {
    let mut cluster = Cluster::of(3, 10);
    let leader = cluster.node(id(1));
    assert_eq!(leader.may_change(MembershipChange::Remove(id(1))), Err(ChangeRefusal::Leader));
    assert_eq!(leader.may_change(MembershipChange::AddLearner(id(2))), Err(ChangeRefusal::NoSuchMember));
    assert_eq!(leader.may_change(MembershipChange::Promote(id(9))), Err(ChangeRefusal::NoSuchMember));
    assert_eq!(cluster.node(id(2)).may_change(MembershipChange::Remove(id(3))), Err(ChangeRefusal::NotLeader));
    cluster.crash(id(3));
    cluster.run(600 * MS);
    assert_eq!(cluster.node(id(1)).may_change(MembershipChange::Remove(id(2))), Err(ChangeRefusal::Quorum));
    assert_eq!(cluster.node(id(1)).may_change(MembershipChange::Remove(id(3))), Ok(()));
    cluster.change(MembershipChange::AddLearner(id(9)));
    assert_eq!(cluster.node(id(1)).may_change(MembershipChange::Remove(id(3))), Err(ChangeRefusal::Pending));
}

/// A member that slept through the admission of its present leader follows it.
#[test]
fn a_leader_that_joined_meanwhile_is_followed() {
    let mut cluster = Cluster::of(3, 11);
    cluster.crash(id(3));
    cluster.join(id(4), 0);
    cluster.join(id(5), 0);
    cluster.input(id(1), Input::Transfer(id(5)));
    cluster.until("new leader", |cluster| cluster.leader() == Some(id(5)));
    cluster.start(id(3));
    cluster.settle();
    assert_eq!(cluster.node(id(3)).voters().len(), 5);
}

fn message(kind: MessageKind, term: u64, index: u64, log_term: u64) -> Message {
    Message {
        kind,
        term: Term(term),
        index: LogIndex(index),
        log_term: Term(log_term),
        commit: LogIndex(0),
        commit_term: Term(0),
        is_rejected: false,
        reject_hint: LogIndex(0),
        priority: 0,
        is_transfer: false,
        entries: Vec::new(),
        snapshot: None,
    }
}

/// Three voters, as seen by 2, with an empty log behind the snapshot.
fn voter() -> Consensus {
    let mut disk = Disk::default();
    disk.write(&crate::founding(State::default().encode(), id(1)));
    let mut stored = disk.read();
    stored.snapshot.as_mut().unwrap().membership.voters = [1, 2, 3].map(id).to_vec();
    Consensus::new(model::Instant::ZERO, Config::of(id(2), 1, Profile::Lan), stored).unwrap()
}

/// A vote that is not on the disk could be given twice.
#[test]
fn a_vote_leaves_when_it_is_durable_and_not_before() {
    let mut voter = voter();
    let now = model::Instant::from_nanos(1);
    let request = message(MessageKind::RequestVote, 2, 1, 1);
    let actions = voter.step(now, Input::Message { from: id(3), message: request });
    let token = actions.iter().find_map(|action| match action {
        Action::Persist { token, .. } => Some(*token),
        _ => None,
    });
    let is_sent = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Send { .. }));
    assert!(!is_sent(&actions), "{actions:?}");
    let actions = voter.step(now, Input::Persisted { token: token.expect("the vote is written") });
    assert!(is_sent(&actions));
}

/// A slow disk is not a dead member: heartbeats are answered while a write hangs.
#[test]
fn heartbeats_are_answered_while_a_write_hangs() {
    let mut voter = voter();
    let now = model::Instant::from_nanos(1);
    let mut append = message(MessageKind::Append, 1, 1, 1);
    let entry = crate::message::LogEntry { term: Term(1), index: LogIndex(2), data: b"x".to_vec(), change: None };
    append.entries.push(entry);
    let sends = |actions: Vec<Action>| -> Vec<(NodeId, MessageKind)> {
        let sends = actions.into_iter().filter_map(|action| match action {
            Action::Send { to, message } => Some((to, message.kind())),
            _ => None,
        });
        sends.collect()
    };
    let actions = voter.step(now, Input::Message { from: id(1), message: append });
    assert_eq!(sends(actions), []);
    let heartbeat = message(MessageKind::Heartbeat, 1, 0, 0);
    let actions = voter.step(now, Input::Message { from: id(1), message: heartbeat });
    assert_eq!(sends(actions), [(id(1), MessageKind::HeartbeatResponse)]);
    let actions = voter.step(now, Input::Persisted { token: 1 });
    assert_eq!(sends(actions), [(id(1), MessageKind::AppendResponse)]);
}
