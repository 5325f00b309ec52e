//! Do two machines claim to be the same member? (SAFETY §2.1, §10.9)
//!
//! A clone, or a machine that was restored from a backup while the original runs on, has the keys, the storage and the
//! number of a member. The life that is agreed stays the member: while it is heard, no other one joins, and another one
//! keeps out of the agreement until then. A life that follows on one that has ended is heard alone, and joins at once.
//!
//! Not here: telling lives apart by their heartbeats (`liveness/peer.rs`), what a Join frees (`state/members.rs`).

use liveness::{PeerReport, Verdict};
use model::{NodeId, Problem, ProblemKind};

use crate::input::Action;
use crate::node::{Node, event};

impl Node {
    /// Does this node, or one that it hears, hear two lives of the member?
    pub(crate) fn has_two_lives(&self, node: NodeId) -> bool {
        let own = self.peers.get(&node).is_some_and(|peer| peer.report.rival.is_some());
        own || self.peers.values().map(|peer| &peer.report).any(|report| {
            report.id != node
                && matches!(report.verdict, Verdict::Reachable | Verdict::Late)
                && report.two_lives.contains(&node)
        })
    }

    /// Does the agreed life of this very member run elsewhere?
    pub(crate) fn is_a_copy(&self) -> bool {
        let own = self.state.members.get(&self.identity.own);
        own.is_some_and(|own| own.incarnation.0 != 0 && own.incarnation != self.identity.incarnation)
            && self.has_two_lives(self.identity.own)
    }

    /// Reports a second machine once it is certain that there is one.
    pub(crate) fn note_rival(&self, report: &PeerReport, out: &mut Vec<Action>) {
        let is_certain = |report: &PeerReport| report.rival.is_some_and(|rival| rival.is_certain);
        let was = self.peers.get(&report.id).is_some_and(|peer| is_certain(&peer.report));
        if is_certain(report) && !was {
            out.push(event("problem", &self.state.name_of(report.id), self.two_machines(report.id)));
        }
    }

    /// What an operator should know of members with two machines.
    pub(crate) fn identity_problems(&self) -> impl Iterator<Item = Problem> {
        let certain = self.peers.values().filter(|peer| peer.report.rival.is_some_and(|rival| rival.is_certain));
        let own = self.is_a_copy().then_some(self.identity.own);
        certain
            .map(|peer| peer.report.id)
            .chain(own)
            .map(|node| Problem::new(ProblemKind::TwoMachines, self.state.name_of(node), self.two_machines(node)))
    }

    fn two_machines(&self, node: NodeId) -> String {
        let name = self.state.name_of(node);
        let boot = self.state.members.get(&node).map_or("", |member| member.boot_id.as_str());
        format!(
            "two machines claim to be {name}, a copy and the original: the one with the boot id {boot} (see \
             /proc/sys/kernel/random/boot_id) stays the member, the other one gets nothing; switch the copy off, and \
             delete its state before it starts again, so that it can join under a name of its own"
        )
    }
}
