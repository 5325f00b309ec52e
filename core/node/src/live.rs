//! Which members may be given something now? The detector's view, as the scheduler needs it.

use model::{Instant, MemberState, NodeId};
use scheduler::{Live, LiveNode};

use crate::input::Moment;
use crate::node::Node;

impl Node {
    /// What the leader sees of each member now.
    pub(crate) fn live(&self, now: Moment) -> Live {
        let reachable = self.reachable_members();
        let nodes = self
            .state
            .members
            .keys()
            .map(|id| {
                let node = if !reachable.contains(id) {
                    LiveNode { is_reachable: false, wait: Some(self.absence(*id)) }
                } else {
                    LiveNode { is_reachable: true, wait: self.proving(*id, now.at) }
                };
                (*id, node)
            })
            .collect();
        Live { nodes, wall: now.wall }
    }

    fn absence(&self, id: NodeId) -> String {
        let name = self.state.name_of(id);
        match self.state.members.get(&id).map(|member| member.state) {
            Some(MemberState::Absent) | None => format!("{name} has not joined yet"),
            Some(MemberState::Left) => format!("{name} has left"),
            Some(MemberState::Condemned) => format!("{name} is lost and not proven off"),
            Some(MemberState::Fenced) => format!("{name} is fenced and has not joined again"),
            Some(MemberState::Online) => format!("{name} is not heard"),
        }
    }

    /// Why a reachable member gets nothing yet: it came back a moment ago.
    fn proving(&self, id: NodeId, now: Instant) -> Option<String> {
        let until = self.proven_at(id)?;
        (until > now).then(|| {
            let seconds = until.since(now).as_millis().div_ceil(100) as f64 / 10.0;
            format!("{} came back and has to be heard for {seconds} s more", self.state.name_of(id))
        })
    }

    /// When a member that came back has been heard for long enough; none for a member that was never away.
    fn proven_at(&self, id: NodeId) -> Option<Instant> {
        let peer = self.peers.get(&id).filter(|peer| peer.has_returned)?;
        Some(peer.report.reachable_since? + self.proving_time())
    }

    /// When the next returned member may be given something.
    pub(crate) fn next_eligibility(&self) -> Option<Instant> {
        self.peers.keys().filter_map(|id| self.proven_at(*id)).min()
    }

    /// Members that have proven themselves are as good as any other.
    pub(crate) fn forget_return(&mut self, now: Instant) {
        let proven: Vec<NodeId> =
            self.peers.keys().filter(|id| self.proven_at(**id).is_some_and(|at| at <= now)).copied().collect();
        for id in proven {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.has_returned = false;
            }
        }
    }
}
