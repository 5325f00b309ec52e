//! Which node's state is the wrong one? (SAFETY §5)
//!
//! Every node takes a digest of its state at the same log indices, and after each entry that says nothing, and says it
//! in its beats. Nodes that disagree at one index have applied something differently: a bug, or a bit that fell over.
//! The many are right, and of equally many those with the leader. All nodes find the same ones wrong, and one of these
//! that leads lets another one lead.
//!
//! Programs of different feature levels write the same state differently: they are not compared.
//!
//! Not here: what becomes of a node that is wrong (`renew.rs`).

use std::collections::{BTreeMap, BTreeSet};

use liveness::Verdict;
use model::{LogIndex, NodeId};

use crate::input::{Action, Moment};
use crate::node::{Node, Peer, Todo, event};

/// What the digests of one log index say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// These have the state of this node, and nobody is known to have another one. May be nobody.
    Same(BTreeSet<NodeId>),
    /// The states of these are wrong.
    Others(BTreeSet<NodeId>),
    /// The state of this node is wrong: these have another one.
    Own(BTreeSet<NodeId>),
}

/// How much is known about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Too few could be compared: those that are missing may change who is right.
    Undecided,
    /// Whatever the others have, these are the right ones.
    Certain,
    /// The right state was taken, and became wrong again.
    Hopeless,
}

/// States differ.
#[derive(Clone, Debug)]
pub(crate) struct Diverged {
    /// Whose.
    pub(crate) found: Comparison,
    /// How much is known.
    pub(crate) stage: Stage,
    /// The sentence for an operator: what differs, and what to do.
    pub(crate) reason: String,
}

/// Compares the digest of this node with those that the others took at the same index.
fn compare(own: NodeId, digest: u64, leader: Option<NodeId>, others: &[(NodeId, u64)]) -> Comparison {
    let mut groups: BTreeMap<u64, BTreeSet<NodeId>> = BTreeMap::from([(digest, BTreeSet::from([own]))]);
    for (id, digest) in others {
        groups.entry(*digest).or_default().insert(*id);
    }
    let rank = |ids: &BTreeSet<NodeId>| (ids.len(), leader.is_some_and(|leader| ids.contains(&leader)));
    let right = groups.iter().max_by_key(|(_, ids)| rank(ids)).map_or(digest, |(digest, _)| *digest);
    let of = |digest: u64| groups.get(&digest).into_iter().flatten().copied().filter(|id| *id != own).collect();
    if groups.len() == 1 {
        Comparison::Same(of(digest))
    } else if right == digest {
        Comparison::Others(others.iter().filter(|(_, other)| *other != digest).map(|(id, _)| *id).collect())
    } else {
        Comparison::Own(of(right))
    }
}

/// Are the right ones so many of the members that those not compared change nothing?
fn is_final(own: NodeId, found: &Comparison, leader: Option<NodeId>, others: &[(NodeId, u64)], members: usize) -> bool {
    let right: BTreeSet<NodeId> = match found {
        Comparison::Same(_) => return false,
        Comparison::Own(right) => right.clone(),
        Comparison::Others(wrong) => {
            others.iter().map(|(id, _)| *id).chain([own]).filter(|id| !wrong.contains(id)).collect()
        }
    };
    let has_leader = leader.is_some_and(|leader| right.contains(&leader));
    2 * right.len() > members || (2 * right.len() == members && has_leader)
}

impl Node {
    /// Compares the states after a new digest, of this node or of another one.
    pub(crate) fn compare_digests(&mut self, now: Moment, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let (index, digest) = self.digest;
        if index == LogIndex(0) || self.settings.bugs.has(model::Bug::DigestSkipped) {
            return;
        }
        let known = self.peers.values().filter(|peer| peer.report.facts.is_known);
        let known: Vec<_> = known.filter(|peer| peer.report.facts.level == state::LEVEL).collect();
        let others: Vec<(NodeId, u64)> = known
            .iter()
            .map(|peer| (peer.report.id, peer.report.facts))
            .filter(|(_, facts)| facts.digest_index == index)
            .map(|(id, facts)| (id, facts.digest))
            .collect();
        let leader = self.consensus.leader();
        let mut found = compare(self.identity.own, digest, leader, &others);
        let is_member = |id: &NodeId| self.state.members.contains_key(id);
        if let Comparison::Same(same) = &found {
            let is_over = self.diverged.as_ref().is_some_and(|diverged| match &diverged.found {
                Comparison::Same(_) => false,
                Comparison::Others(wrong) => wrong.iter().all(|id| same.contains(id) || !is_member(id)),
                Comparison::Own(right) => right.iter().any(|id| same.contains(id)) || !right.iter().any(is_member),
            });
            if is_over {
                self.set_diverged(None);
                self.end_renewal();
            }
            return;
        }
        let is_certain = is_final(self.identity.own, &found, leader, &others, self.state.members.len());
        // Whose digest of this index is still on its way may belong to either side.
        let is_awaited =
            |peer: &&&Peer| peer.report.verdict != Verdict::Suspect && peer.report.facts.digest_index < index;
        if !is_certain && known.iter().any(|peer| is_awaited(&peer)) {
            return;
        }
        // Who was wrong, and took no digest at this index, is wrong still.
        if let (Comparison::Others(wrong), Some(Diverged { found: Comparison::Others(before), .. })) =
            (&mut found, &self.diverged)
        {
            wrong.extend(before.iter().filter(|id| is_member(id) && !others.iter().any(|(other, _)| other == *id)));
        }
        let is_hopeless = is_certain && matches!(found, Comparison::Own(_)) && self.begin_renewal(now);
        let stage = match (is_hopeless, is_certain) {
            (true, _) => Stage::Hopeless,
            (false, true) => Stage::Certain,
            (false, false) => Stage::Undecided,
        };
        if self.diverged.as_ref().is_some_and(|diverged| diverged.found == found && diverged.stage >= stage) {
            return;
        }
        let (subject, reason) = self.alarm(&found, stage, index);
        out.push(event("problem", &subject, reason.clone()));
        if let Comparison::Own(right) = &found
            && self.reign.is_some()
        {
            let voter = right.iter().find(|id| self.consensus.voters().contains(id));
            todo.extend(voter.map(|voter| Todo::Consensus(consensus::Input::Transfer(*voter))));
        }
        self.set_diverged(Some(Diverged { found, stage, reason }));
    }

    /// Whom it is about, and what an operator should know and do.
    fn alarm(&self, found: &Comparison, stage: Stage, index: LogIndex) -> (String, String) {
        let names =
            |ids: &BTreeSet<NodeId>| ids.iter().map(|id| self.state.name_of(*id)).collect::<Vec<_>>().join(", ");
        let own = self.state.name_of(self.identity.own);
        let (subject, wrong) = match found {
            Comparison::Own(right) => (own, format!("the state of this node differs from that of {}", names(right))),
            Comparison::Others(wrong) | Comparison::Same(wrong) => {
                (names(wrong), format!("the state of {} differs from that of this node", names(wrong)))
            }
        };
        let rejoin = format!("stop the daemon of {subject}, run `cardea remove {subject}`, and let it join again");
        let then = match stage {
            Stage::Undecided => format!(
                "and too few members are there to say who is right: {subject} gets no more to run until the others are back"
            ),
            Stage::Certain => format!(
                "and most are against it: {subject} takes theirs by itself, and gets no more to run until then; if it stays \
                 so, restart the daemon of {subject} (its services go on); if that does not help, {rejoin}"
            ),
            Stage::Hopeless => format!(
                "though {subject} took theirs before: its program or its machine is at fault, and nothing more is tried; \
                 compare `cardea --version` on all nodes and test the memory of {subject}, then {rejoin}"
            ),
        };
        let reason = format!("{wrong} at log index {index}, {then}");
        (subject, reason)
    }

    /// Who is wrong gets nothing more to run, and should not lead.
    fn set_diverged(&mut self, diverged: Option<Diverged>) {
        self.diverged = diverged;
        self.consensus.set_priority(i64::from(self.priority()));
        self.is_stale |= self.reign.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    #[test]
    fn the_many_are_right_and_of_equally_many_those_with_the_leader() {
        let set = |ids: &[NodeId]| ids.iter().copied().collect::<BTreeSet<_>>();
        let leads = Some(B);
        assert_eq!(compare(A, 7, leads, &[]), Comparison::Same(set(&[])));
        assert_eq!(compare(A, 7, leads, &[(B, 7), (C, 7)]), Comparison::Same(set(&[B, C])));
        assert_eq!(compare(A, 7, leads, &[(B, 7), (C, 8)]), Comparison::Others(set(&[C])));
        assert_eq!(compare(A, 7, leads, &[(B, 8), (C, 7)]), Comparison::Others(set(&[B])), "though it leads");
        assert_eq!(compare(B, 8, leads, &[(A, 7), (C, 7)]), Comparison::Own(set(&[A, C])));
        assert_eq!(compare(A, 7, leads, &[(B, 8)]), Comparison::Own(set(&[B])));
        assert_eq!(compare(B, 8, leads, &[(A, 7)]), Comparison::Others(set(&[A])));
        assert_eq!(compare(C, 9, leads, &[(A, 7), (B, 8)]), Comparison::Own(set(&[B])), "three states, and one leads");
    }

    #[test]
    fn who_is_right_is_certain_once_the_others_cannot_change_it() {
        let is_certain = |own, digest, leader, others: &[(NodeId, u64)], members| {
            is_final(own, &compare(own, digest, leader, others), leader, others, members)
        };
        assert!(!is_certain(C, 7, Some(A), &[(A, 8)], 3), "B may agree with C");
        assert!(!is_certain(A, 8, Some(A), &[(C, 7)], 3), "as seen by the leader");
        assert!(is_certain(C, 7, Some(A), &[(A, 8), (B, 8)], 3));
        assert!(is_certain(B, 8, Some(A), &[(A, 8), (C, 7)], 3));
        assert!(is_certain(A, 8, Some(A), &[(B, 7)], 2), "of two the leader");
        assert!(is_certain(B, 7, Some(A), &[(A, 8)], 2));
        assert!(!is_certain(B, 7, None, &[(A, 8)], 2));
        assert!(is_certain(C, 7, Some(A), &[(A, 8), (B, 8)], 4), "the fourth one can only make it a draw");
        assert!(!is_certain(C, 7, Some(C), &[(A, 8), (B, 8)], 4), "a draw, which the leader decides");
        assert!(!is_certain(A, 7, Some(A), &[(B, 7)], 2), "no difference");
    }

    #[test]
    fn all_find_the_same_ones_wrong() {
        let states = [(NodeId(1), 1), (NodeId(2), 2), (NodeId(3), 1), (NodeId(4), 2), (NodeId(5), 2)];
        for leader in states.iter().map(|(id, _)| Some(*id)).chain([None]) {
            for (own, digest) in states {
                let others: Vec<_> = states.into_iter().filter(|(id, _)| *id != own).collect();
                let wrong = matches!(compare(own, digest, leader, &others), Comparison::Own(_));
                assert_eq!(wrong, digest == 1, "{own:?} under {leader:?}");
            }
        }
    }
}
