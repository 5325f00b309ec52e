//! How does the cluster look from this node, for people?

use std::collections::BTreeMap;
use std::sync::Arc;

use liveness::PeerReport;
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

impl Node {
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
