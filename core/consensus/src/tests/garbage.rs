//! Whatever arrives, nobody falls over.

use model::{Instant, LogIndex, NodeId, Term};

use super::cluster::{Chance, Cluster, MS, State, id};
use crate::message::{LogEntry, Membership, Message, MessageKind, Snapshot};
use crate::{Action, Consensus, Input, MembershipChange};

const KINDS: [MessageKind; 10] = [
    MessageKind::Append,
    MessageKind::AppendResponse,
    MessageKind::RequestVote,
    MessageKind::RequestVoteResponse,
    MessageKind::Snapshot,
    MessageKind::Heartbeat,
    MessageKind::HeartbeatResponse,
    MessageKind::TimeoutNow,
    MessageKind::RequestPreVote,
    MessageKind::RequestPreVoteResponse,
];

/// A number near what is real, so that it gets past the first check, or anywhere.
fn number(chance: &mut Chance, near: u64) -> u64 {
    match chance.below(12) {
        0 => 0,
        1 => chance.next(),
        2 => near.saturating_sub(chance.below(5)),
        3 => near + 1 + chance.below(5),
        4 => 1 + chance.below(near.max(1)),
        _ => near,
    }
}

fn garbage(chance: &mut Chance, term: Term, last: LogIndex, last_term: Term) -> Message {
    let kind = KINDS[usize::try_from(chance.below(10)).unwrap()];
    let term = Term(number(chance, term.0));
    let index = LogIndex(number(chance, last.0));
    let log_term = Term(number(chance, last_term.0));
    let mut entries = Vec::new();
    if kind == MessageKind::Append || chance.percent(3) {
        let mut next = index.0;
        for _ in 0..chance.below(4) {
            next = if chance.percent(95) { next.saturating_add(1) } else { number(chance, last.0) };
            let change = chance.percent(20).then(|| match chance.below(3) {
                0 => MembershipChange::AddLearner(NodeId(chance.below(6))),
                1 => MembershipChange::Promote(NodeId(chance.below(6))),
                _ => MembershipChange::Remove(NodeId(chance.below(6))),
            });
            let data = if change.is_some() { Vec::new() } else { vec![1; usize::try_from(chance.below(9)).unwrap()] };
            entries.push(LogEntry { term: Term(number(chance, term.0)), index: LogIndex(next), data, change });
        }
    }
    let has_snapshot = (kind == MessageKind::Snapshot) != chance.percent(3);
    let snapshot = has_snapshot.then(|| Snapshot {
        index: LogIndex(number(chance, last.0)),
        term: Term(number(chance, last_term.0)),
        membership: Membership {
            voters: (0..chance.below(4)).map(|_| NodeId(chance.below(5))).collect(),
            learners: (0..chance.below(2)).map(|_| NodeId(chance.below(5))).collect(),
        },
        data: State::default().encode(),
    });
    Message {
        kind,
        term,
        index,
        log_term,
        commit: LogIndex(number(chance, last.0)),
        commit_term: Term(number(chance, last_term.0)),
        is_rejected: chance.percent(30),
        reject_hint: LogIndex(number(chance, last.0)),
        priority: i64::try_from(chance.below(3)).unwrap() - 1,
        is_transfer: chance.percent(5),
        entries,
        snapshot,
    }
}

/// Random messages, ticks, verdicts and half-finished writes: refused or taken, never fatal.
#[test]
fn garbage_from_the_network_never_panics() {
    for seed in 0..400 {
        let mut chance = Chance(seed);
        let (count, grown) = [(1, 1), (3, 2), (3, 1)][usize::try_from(seed % 3).unwrap()];
        let mut cluster = Cluster::of(count, seed % 8);
        cluster.propose_many(3);
        cluster.run(100 * MS);
        let mut now = cluster.at();
        let mut node: Consensus = cluster.machine(id(grown)).consensus.take().unwrap();
        let mut tokens = Vec::new();
        for _ in 0..400 {
            now += std::time::Duration::from_millis(chance.below(10));
            let input = match chance.below(10) {
                0 => Input::Tick,
                1 if !tokens.is_empty() => Input::Persisted { token: tokens.remove(0) },
                2 => Input::Propose { id: chance.next(), data: vec![7] },
                3 => Input::SnapshotSent { to: NodeId(chance.below(5)), ok: chance.percent(50) },
                4 => Input::Compact { upto: LogIndex(number(&mut chance, node.applied().0)), snapshot: vec![1] },
                _ => {
                    let message = garbage(&mut chance, node.term(), node.last_index(), node.last_term());
                    Input::Message { from: NodeId(chance.below(5)), message }
                }
            };
            let actions = node.step(now, input);
            tokens.extend(actions.iter().filter_map(|action| match action {
                Action::Persist { token, .. } => Some(*token),
                _ => None,
            }));
        }
    }
}

/// The same for a node that knows nothing yet.
#[test]
fn garbage_does_not_hurt_a_node_that_waits_for_its_first_snapshot() {
    for seed in 1000..1200 {
        let mut chance = Chance(seed);
        let mut disk = super::cluster::Disk::default();
        disk.write(&crate::joining());
        let config = crate::Config::of(id(3), seed, model::Profile::Lan);
        let mut node = Consensus::new(Instant::ZERO, config, disk.read()).unwrap();
        let mut now = Instant::ZERO;
        for _ in 0..200 {
            now += std::time::Duration::from_millis(chance.below(30));
            let term = Term(node.term().0.max(1));
            let message = garbage(&mut chance, term, LogIndex(node.last_index().0.max(3)), term);
            let actions = node.step(now, Input::Message { from: NodeId(chance.below(5)), message });
            for action in actions {
                if let Action::Persist { token, .. } = action
                    && chance.percent(70)
                {
                    node.step(now, Input::Persisted { token });
                }
            }
        }
    }
}

/// Bytes that are no message are refused by the decoder, not by a panic.
#[test]
fn random_bytes_are_no_message() {
    let mut chance = Chance(9);
    let sample = garbage(&mut chance, Term(3), LogIndex(9), Term(2));
    let bytes = minicbor::to_vec(&sample).unwrap();
    for _ in 0..20_000 {
        let mut bytes = bytes.clone();
        for _ in 0..=chance.below(3) {
            let position = usize::try_from(chance.below(bytes.len() as u64)).unwrap();
            bytes[position] = u8::try_from(chance.below(256)).unwrap();
        }
        bytes.truncate(usize::try_from(chance.below(bytes.len() as u64 + 1)).unwrap());
        if let Ok(message) = minicbor::decode::<Message>(&bytes) {
            let _ = message.check();
        }
    }
}
