//! How does the cluster look from this node, for people?

use std::collections::BTreeMap;
use std::sync::Arc;

use liveness::PeerReport;
use model::{ClusterState, LogIndex, NodeId, Plan, Term};
use scheduler::Live;

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
    /// Which members may be given something, as this node sees it.
    pub live: Live,
    /// What should change; empty on a node that does not lead.
    pub plan: Plan,
    /// What an operator should look at.
    pub problems: Vec<String>,
}

impl Node {
    /// Takes a picture.
    pub fn view(&self, now: Moment) -> View {
        let mut problems: Vec<String> =
            self.diverged.iter().map(|diverged| &diverged.reason).chain(&self.unreadable).cloned().collect();
        problems.extend(self.identity_problems());
        problems.extend(self.level_problems());
        if !self.consensus.is_quorate() {
            problems.push(
                "this node does not belong to a majority: nothing can be changed here; see the links in `cardea status`"
                    .to_owned(),
            );
        }
        if self.reign.is_some() {
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
            live: self.live(now),
            plan: self.plan.clone(),
            problems,
        }
    }
}
