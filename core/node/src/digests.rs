//! Which node's state is the wrong one? (SAFETY §5)
//!
//! Every node takes a digest of its state at the same log indices and says it in its beats. Nodes that disagree at one
//! index have applied something differently: a bug, or a bit that fell over. The many are right, and of equally many
//! those with the leader. All nodes find the same ones wrong, and one of these that leads lets another one lead.
//!
//! Programs of different feature levels write the same state differently: they are not compared.
//!
//! A node that is wrong reads its state again from its snapshot and its log when its daemon is restarted.

use std::collections::{BTreeMap, BTreeSet};

use model::{LogIndex, NodeId};

use crate::input::Action;
use crate::node::{Node, Todo, event};

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

impl Node {
    /// Compares the states after a new digest, of this node or of another one.
    pub(crate) fn compare_digests(&mut self, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let (index, digest) = self.digest;
        if index == LogIndex(0) || self.settings.bugs.has(model::Bug::DigestSkipped) {
            return;
        }
        let facts = self.peers.values().map(|peer| (peer.report.id, peer.report.facts));
        let others: Vec<(NodeId, u64)> = facts
            .filter(|(_, facts)| facts.is_known && facts.digest_index == index && facts.level == state::LEVEL)
            .map(|(id, facts)| (id, facts.digest))
            .collect();
        let found = compare(self.identity.own, digest, self.consensus.leader(), &others);
        if let Comparison::Same(same) = &found {
            let is_over = match &self.diverged {
                None | Some((Comparison::Same(_), _)) => false,
                Some((Comparison::Others(wrong), _)) => {
                    wrong.iter().all(|id| same.contains(id) || !self.state.members.contains_key(id))
                }
                Some((Comparison::Own(right), _)) => right.iter().any(|id| same.contains(id)),
            };
            if is_over {
                self.diverged = None;
            }
            return;
        }
        if self.diverged.as_ref().is_some_and(|(known, _)| *known == found) {
            return;
        }
        let names =
            |ids: &BTreeSet<NodeId>| ids.iter().map(|id| self.state.name_of(*id)).collect::<Vec<_>>().join(", ");
        let own = self.state.name_of(self.identity.own);
        let (subject, wrong) = match &found {
            Comparison::Own(right) => {
                (own.clone(), format!("the state of this node differs from that of {}", names(right)))
            }
            Comparison::Others(wrong) | Comparison::Same(wrong) => {
                (names(wrong), format!("the state of {} differs from that of this node", names(wrong)))
            }
        };
        let reason = format!(
            "{wrong} at log index {index}, and most are against it: restart the daemon of {subject} (its services go on); \
             if that does not help, stop it, run `cardea remove {subject}`, and let it join again"
        );
        out.push(event("problem", &subject, reason.clone()));
        if let Comparison::Own(right) = &found
            && self.reign.is_some()
        {
            let voter = right.iter().find(|id| self.consensus.voters().contains(id));
            todo.extend(voter.map(|voter| Todo::Consensus(consensus::Input::Transfer(*voter))));
        }
        self.diverged = Some((found, reason));
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
