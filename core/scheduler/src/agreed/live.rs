//! What does the leader see now that is not agreed?
//!
//! Verdicts and link states change within milliseconds and are never replicated; the plan takes them as an argument.

use std::collections::BTreeMap;

use model::{Bugs, ClusterState, MemberState, NodeId, WallTime};

/// What the leader sees now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// What each member is good for at the moment; one that is missing counts as lost.
    pub eligible: BTreeMap<NodeId, Eligibility>,
    /// The leader's wall clock, for flap damping.
    pub now: WallTime,
    /// The cluster as a whole is going down, and why, as the rest of a sentence that begins with a node's name: what runs
    /// stops where it is, and nothing is started.
    pub closing: Option<String>,
    /// Planted bugs; none in the product.
    pub bugs: Bugs,
}

/// What a member is good for at the moment. `why` continues a sentence that begins with the node's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// Operations reach it, and it may get more units.
    Ready,
    /// Operations reach it, but it gets no further unit yet.
    NotYet {
        /// For example "has not been heard for long enough", "is catching up".
        why: String,
    },
    /// Nothing can be done there.
    Lost {
        /// For example "is suspect".
        why: String,
    },
}

impl Live {
    /// Every member that is online is ready, and the time is that of the latest entry of the history: for rehearsals
    /// and commands that have nobody to ask.
    pub fn all(state: &ClusterState) -> Live {
        let is_online = |state: MemberState| match state {
            MemberState::Online => true,
            MemberState::Absent | MemberState::Left | MemberState::Condemned | MemberState::Fenced => false,
        };
        Live {
            eligible: state
                .members
                .iter()
                .filter(|(_, member)| is_online(member.state))
                .map(|(id, _)| (*id, Eligibility::Ready))
                .collect(),
            now: state.history.back().map_or(WallTime(0), |event| event.at),
            closing: None,
            bugs: Bugs::NONE,
        }
    }
}
