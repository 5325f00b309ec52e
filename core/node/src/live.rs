//! Which members may be given something now? The detector's view, as the scheduler needs it.

use model::{Instant, MemberState, NodeId};
use scheduler::{Eligibility, Live};

use crate::input::Moment;
use crate::node::Node;

impl Node {
    /// What the leader sees of each member now.
    pub(crate) fn live(&self, now: Moment) -> Live {
        let (heard, reachable) = (self.heard_members(), self.reachable_members(now));
        let eligible = self
            .state
            .members
            .iter()
            .map(|(id, member)| {
                let eligibility = if reachable.contains(id) && self.is_found_wrong(*id) {
                    Eligibility::NotYet { why: "has another state than the others".to_owned() }
                } else if reachable.contains(id) {
                    self.proving(*id, now.at).map_or(Eligibility::Ready, |why| Eligibility::NotYet { why })
                } else {
                    let why = match member.state {
                        _ if heard.contains(id) => "does not answer",
                        MemberState::Online if self.state.gone.contains(id) => "ended in maintenance",
                        state => absence(state),
                    };
                    Eligibility::Lost { why: why.to_owned() }
                };
                (*id, eligibility)
            })
            .collect();
        Live { eligible, now: now.wall, closing: self.closing(), bugs: self.settings.bugs }
    }

    /// Why a reachable member gets nothing yet: it came back a moment ago.
    fn proving(&self, id: NodeId, now: Instant) -> Option<String> {
        let until = self.proven_at(id)?;
        (until > now).then(|| {
            let tenths = until.since(now).as_millis().div_ceil(100);
            format!("came back and has to be heard for {}.{} s more", tenths / 10, tenths % 10)
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

fn absence(state: MemberState) -> &'static str {
    match state {
        MemberState::Absent => "has not joined yet",
        MemberState::Left => "has left",
        MemberState::Condemned => "is lost and not proven off",
        MemberState::Fenced => "is fenced and has not joined again",
        MemberState::Online => "is not heard",
    }
}
