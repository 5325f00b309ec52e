//! How does the cluster look from this node, for people?

use std::collections::BTreeMap;
use std::sync::Arc;

use liveness::{PeerReport, Verdict};
use model::{ClusterState, LinkId, LogIndex, NodeId, Plan, Problem, ProblemKind, Term};
use scheduler::Live;

use crate::digests::Comparison;
use crate::input::Moment;
use crate::node::Node;

/// A picture of a node, cheap to take and to hand to another thread.
#[derive(Clone, Debug)]
pub struct View {
    /// The node.
    pub own: NodeId,
    /// The agreed state as applied here.
    pub state: Arc<ClusterState>,
    /// Does this node belong to a majority that has a leader?
    pub is_quorate: bool,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: Term,
    /// The committed index as known here.
    pub commit: LogIndex,
    /// The voters.
    pub voters: Vec<NodeId>,
    /// Members that learn and do not vote.
    pub learners: Vec<NodeId>,
    /// What the detector says of the others.
    pub peers: BTreeMap<NodeId, PeerReport>,
    /// How often each link to each other member went down since this worker began.
    pub downs: BTreeMap<(NodeId, LinkId), u64>,
    /// Which members may be given something, as this node sees it.
    pub live: Live,
    /// What should change; empty on a node that does not lead.
    pub plan: Plan,
    /// What an operator should look at and only this node can know; those of one kind and subject are one.
    pub problems: Vec<Problem>,
}

/// Other addresses that carry nothing after so many limits of freshness are a problem.
const PROVEN_WITHIN: u32 = 12;

impl Node {
    /// What is to be done about addresses that were changed and carry no heartbeats.
    fn address_problems(&self, now: Moment) -> Vec<Problem> {
        if now.at.since(self.moved_at) < self.timing.t_to * PROVEN_WITHIN {
            return Vec::new();
        }
        let own = self.state.name_of(self.identity.own);
        let before = self.state.config_history.iter().rev().nth(1);
        let back =
            before.map_or_else(String::new, |record| format!(", or go back: `cardea rollback {}`", record.version));
        let is_heard = |peer: &NodeId| {
            self.peers.get(peer).is_some_and(|peer| matches!(peer.report.verdict, Verdict::Reachable | Verdict::Late))
        };
        let unproven = self.addresses.unproven().filter(|unproven| is_heard(&unproven.peer));
        unproven
            .map(|unproven| {
                let (name, network) = (self.state.name_of(unproven.peer), u16::from(unproven.link.0) + 1);
                let mut ends = [own.as_str(), name.as_str()];
                ends.sort_unstable();
                let subject = format!("network {network} {}-{}", ends[0], ends[1]);
                let text = match unproven.agreed {
                    Some((from, to)) => format!(
                        "network {network}: no heartbeats go both ways between the new addresses {from} of {own} and \
                         {to} of {name}, so the former ones stay in use: check with `ip address` on both nodes that \
                         they have them, and the switch and firewall between (UDP and TCP 7600, UDP 7601){back}"
                    ),
                    None => format!(
                        "network {network} is removed, and no other network between {own} and {name} carries \
                         heartbeats both ways, so it stays in use: look at the links in `cardea status`{back}"
                    ),
                };
                Problem::new(ProblemKind::NewAddresses, subject, text)
            })
            .collect()
    }

    /// Takes a picture.
    pub fn view(&self, now: Moment) -> View {
        let own = self.state.name_of(self.identity.own);
        let mut problems: Vec<Problem> = self.lies().collect();
        problems.extend(self.diverged.iter().map(|diverged| {
            let whose = match &diverged.found {
                Comparison::Others(wrong) => {
                    wrong.iter().map(|id| self.state.name_of(*id)).collect::<Vec<_>>().join(", ")
                }
                Comparison::Same(_) | Comparison::Own(_) => own.clone(),
            };
            Problem::new(ProblemKind::WrongState, whose, &diverged.reason)
        }));
        problems.extend(self.unreadable.iter().map(|reason| Problem::new(ProblemKind::Unreadable, &own, reason)));
        problems.extend(self.identity_problems());
        problems.extend(self.level_problems());
        problems.extend(self.address_problems(now));
        if self.reign.is_some() {
            problems.extend(self.sick_problems());
            problems.extend(self.fencing.problems());
            problems.extend(self.dispatcher.problems());
        }
        View {
            own: self.identity.own,
            state: self.state.clone(),
            is_quorate: self.consensus.is_quorate(),
            leader: self.consensus.leader(),
            term: self.consensus.term(),
            commit: self.consensus.commit(),
            voters: self.consensus.voters().to_vec(),
            learners: self.consensus.learners().to_vec(),
            peers: self.peers.iter().map(|(id, peer)| (*id, peer.report.clone())).collect(),
            downs: self.downs.clone(),
            live: self.live(now),
            plan: self.plan.clone(),
            problems,
        }
    }
}
