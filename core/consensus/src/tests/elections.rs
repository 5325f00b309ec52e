//! Elections by detector, hand-over, and the backstop.

use std::time::Duration;

use model::{Instant, LogIndex, Profile, Term};

use super::cluster::{Cluster, Disk, MS, State, after_second_verdict, id};
use crate::message::{Message, MessageKind};
use crate::{Action, Config, Consensus, Input, Role};

/// A dead leader has a successor within 50 ms of the second verdict, in the next term.
#[test]
fn a_dead_leader_has_a_successor_within_50_ms_of_the_second_verdict() {
    for (count, seed) in [(3, 1), (3, 2), (3, 3), (3, 4), (5, 5), (5, 6), (5, 7), (5, 8)] {
        let mut cluster = Cluster::of(count, seed);
        cluster.propose_many(5);
        let (old, term, since) = (cluster.leader().unwrap(), cluster.term(), cluster.now);
        cluster.crash(old);
        cluster.until("successor", |cluster| cluster.leader().is_some());
        let next = Term(term.0 + 1);
        assert_eq!(cluster.leaders.keys().next_back(), Some(&next), "seed {seed}: one election");
        let took = after_second_verdict(&cluster, old, since, next);
        assert!(took <= Duration::from_millis(50), "seed {seed}: {took:?}");
    }
}

/// The same while entries are on their way: what was committed stays, and the election is no slower.
#[test]
fn a_leader_that_dies_at_work_has_a_successor_at_once() {
    for seed in 10..30 {
        let mut cluster = Cluster::of(3, seed);
        cluster.propose_many(20);
        for _ in 0..10 {
            cluster.propose();
        }
        let delay = cluster.chance.below(3 * MS);
        cluster.run(delay);
        let (old, term, since) = (cluster.leader().unwrap(), cluster.term(), cluster.now);
        cluster.crash(old);
        cluster.until("successor", |cluster| cluster.leader().is_some());
        let next = Term(term.0 + 1);
        let took = after_second_verdict(&cluster, old, since, next);
        assert!(took <= Duration::from_millis(50), "seed {seed}: {took:?}");
        cluster.settle();
    }
}

/// One wrong verdict costs nothing: same leader, same term.
#[test]
fn one_wrong_verdict_elects_nobody() {
    for seed in 40..45 {
        let mut cluster = Cluster::of(3, seed);
        let (leader, term) = (cluster.leader().unwrap(), cluster.term());
        cluster.machine(id(2)).accuses.insert(leader);
        cluster.run(2_000 * MS);
        assert_eq!((cluster.leader(), cluster.term()), (Some(leader), term));
        cluster.machine(id(2)).accuses.clear();
        cluster.settle();
        assert_eq!((cluster.leader(), cluster.term()), (Some(leader), term));
    }
}

/// Two wrong verdicts of three cost one election.
#[test]
fn two_wrong_verdicts_cost_one_election() {
    for seed in 50..60 {
        let mut cluster = Cluster::of(3, seed);
        let (leader, term) = (cluster.leader().unwrap(), cluster.term());
        cluster.machine(id(2)).accuses.insert(leader);
        cluster.run(30 * MS);
        cluster.machine(id(3)).accuses.insert(leader);
        cluster.run(200 * MS);
        cluster.machine(id(2)).accuses.clear();
        cluster.machine(id(3)).accuses.clear();
        cluster.run(2_000 * MS);
        assert_eq!(cluster.term(), Term(term.0 + 1), "seed {seed}");
        assert_ne!(cluster.leader(), Some(leader));
        cluster.settle();
    }
}

/// Verdicts in the same instant do not split the vote, not even where each believes to be the best.
#[test]
fn verdicts_in_the_same_instant_do_not_split_the_vote() {
    for (count, seed) in (60..100).map(|seed| (if seed % 2 == 0 { 3 } else { 5 }, seed)) {
        let mut cluster = Cluster::of(count, seed);
        let (old, term) = (cluster.leader().unwrap(), cluster.term());
        if seed % 4 < 2 {
            // The survivors' beats are a little behind their logs.
            cluster.propose();
            cluster.run(6 * MS);
        }
        cluster.crash(old);
        let (survivors, since): (Vec<_>, _) = ((2..=count).map(id).collect(), cluster.now);
        for survivor in &survivors {
            cluster.machine(*survivor).accuses.insert(old);
        }
        for survivor in &survivors {
            cluster.detect(*survivor, true);
        }
        cluster.until("successor", |cluster| cluster.leader().is_some());
        assert_eq!(cluster.leaders.keys().next_back(), Some(&Term(term.0 + 1)), "seed {seed}: one election");
        let took = Duration::from_nanos(cluster.now - since);
        assert!(took <= Duration::from_millis(50), "seed {seed}: {took:?}");
        cluster.settle();
    }
}

/// A leader that nobody hears steps down, and says so before anybody asks.
#[test]
fn a_leader_without_a_majority_is_not_quorate_and_steps_down() {
    let mut cluster = Cluster::of(3, 100);
    let old = cluster.leader().unwrap();
    assert!(cluster.node(old).is_quorate() && cluster.node(id(2)).is_quorate());
    cluster.isolate(old);
    cluster.run(600 * MS);
    assert!(!cluster.node(old).is_quorate());
    cluster.run(600 * MS);
    assert!(!cluster.node(old).is_leader());
    let new = cluster.leader().unwrap();
    assert!(cluster.node(new).is_quorate());
    let term = cluster.term();
    cluster.run(20_000 * MS);
    cluster.heal();
    cluster.settle();
    assert_eq!((cluster.leader(), cluster.term()), (Some(new), term), "the one that comes back disturbs nobody");
}

/// Without any verdict the timeouts elect somebody in the end.
#[test]
fn a_cold_start_elects_a_leader() {
    let mut cluster = Cluster::of(3, 101);
    cluster.propose_many(3);
    for node in 1..=3 {
        cluster.crash(id(node));
    }
    cluster.run(100 * MS);
    for node in 1..=3 {
        cluster.start(id(node));
    }
    let since = cluster.now;
    cluster.settle();
    assert!(cluster.now - since < 2_000 * MS);
}

/// Leadership goes where it is sent, without a gap in what is agreed.
#[test]
fn leadership_is_handed_over_on_request() {
    let mut cluster = Cluster::of(3, 102);
    cluster.propose_many(3);
    let term = cluster.term();
    cluster.input(id(1), Input::Transfer(id(3)));
    cluster.run(30 * MS);
    assert_eq!((cluster.leader(), cluster.term()), (Some(id(3)), Term(term.0 + 1)));
    cluster.propose_many(3);
    cluster.settle();
}

/// A witness with the only copy of an agreed entry leads, and lets a data node lead as soon as it can.
#[test]
fn a_witness_wins_with_the_only_copy_and_hands_over() {
    let mut cluster = Cluster::founded(103);
    cluster.join(id(2), 0);
    cluster.join(id(3), -1);
    cluster.settle();
    cluster.cut(id(1), id(2));
    cluster.cut(id(2), id(3));
    cluster.propose_many(5);
    let agreed = cluster.node(id(1)).commit();
    cluster.crash(id(1));
    cluster.heal();
    cluster.until("witness that leads", |cluster| cluster.leader() == Some(id(3)));
    cluster.until("data node that leads", |cluster| cluster.leader() == Some(id(2)));
    cluster.settle();
    assert!(cluster.node(id(2)).applied() > agreed);
}

/// Who wishes less to lead than before lets another one lead, and is not elected where another can be.
#[test]
fn a_leader_that_loses_its_wish_to_lead_hands_over() {
    for seed in 130..135 {
        let mut cluster = Cluster::of(3, seed);
        let first = cluster.leader().unwrap();
        let wish = |cluster: &mut Cluster, priority: i64| {
            cluster.machine(first).priority = priority;
            cluster.machine(first).consensus.as_mut().unwrap().set_priority(priority);
        };
        wish(&mut cluster, -2);
        cluster.until("another leader", |cluster| cluster.leader().is_some_and(|leader| leader != first));
        cluster.settle();
        let second = cluster.leader().unwrap();
        cluster.crash(second);
        cluster.until("a third leader", |cluster| cluster.leader().is_some());
        assert!(!cluster.node(first).is_leader(), "seed {seed}");
        cluster.start(second);
        cluster.settle();
        wish(&mut cluster, 0);
        cluster.input(cluster.leader().unwrap(), Input::Transfer(first));
        cluster.until("the first one again", |cluster| cluster.leader() == Some(first));
        cluster.run(5000 * MS);
        assert!(cluster.node(first).is_leader(), "it keeps what it has");
    }
}

/// With equal logs the witness never leads.
#[test]
fn a_witness_does_not_lead_where_another_can() {
    for seed in 110..120 {
        let mut cluster = Cluster::founded(seed);
        cluster.join(id(2), -1);
        cluster.join(id(3), 0);
        cluster.settle();
        cluster.crash(id(1));
        cluster.until("successor", |cluster| cluster.leader().is_some());
        assert_eq!(cluster.leader(), Some(id(3)), "seed {seed}");
    }
}

/// A frozen leader that comes back does not depose its successor, nor believes in itself.
#[test]
fn a_frozen_leader_comes_back_as_a_follower() {
    let mut cluster = Cluster::of(3, 121);
    let old = cluster.leader().unwrap();
    cluster.pause(old, true);
    cluster.until("successor", |cluster| cluster.leader().is_some_and(|leader| leader != old));
    cluster.run(5_000 * MS);
    let (new, term) = (cluster.leader(), cluster.term());
    cluster.pause(old, false);
    cluster.settle();
    assert_eq!((cluster.leader(), cluster.term()), (new, term));
}

/// After a stall of any length a follower does not campaign at once.
#[test]
fn a_stalled_member_makes_up_for_two_ticks_at_most() {
    let mut disk = Disk::default();
    disk.write(&crate::founding(State::default().encode(), id(1)));
    let mut config = Config::of(id(1), 1, Profile::Lan);
    config.bugs = model::Bugs::NONE;
    let mut consensus = Consensus::new(Instant::ZERO, config, disk.read()).unwrap();
    let actions = consensus.step(Instant::ZERO + Duration::from_secs(3600), Input::Tick);
    assert!(actions.iter().all(|action| !matches!(action, Action::Persist { .. })), "no election");
    assert_eq!(consensus.role(), Role::Follower);
    assert_eq!(consensus.term(), Term(1));
}

/// A consent to an earlier question that was seconds on its way is none to this one: the term stays.
#[test]
fn a_late_pre_vote_is_no_pre_vote() {
    let mut cluster = Cluster::of(3, 80);
    let leader = cluster.leader().unwrap();
    let lonely = [id(1), id(2), id(3)].into_iter().find(|node| *node != leader).unwrap();
    cluster.isolate(lonely);
    cluster.until("question", |cluster| cluster.node(lonely).role() == Role::PreCandidate);
    let term = cluster.node(lonely).term();
    let message = Message {
        kind: MessageKind::RequestPreVoteResponse,
        term,
        index: LogIndex(0),
        log_term: Term(0),
        commit: LogIndex(0),
        commit_term: Term(0),
        is_rejected: false,
        reject_hint: LogIndex(0),
        priority: 0,
        is_transfer: false,
        entries: Vec::new(),
        snapshot: None,
    };
    cluster.input(lonely, Input::Message { from: leader, message });
    assert_eq!((cluster.node(lonely).role(), cluster.node(lonely).term()), (Role::PreCandidate, term));
}
