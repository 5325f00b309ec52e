//! What if? A running cluster with something else in it.

use model::{ActionKind, ClusterState, MemberState, NodeId, NodeName, OperatorAction, ResourceState};

use super::{Eligibility, Live};
use crate::{Supposition, SuppositionError};

/// Lets something happen in what is agreed and seen.
///
/// # Errors
/// If it names what is not there.
pub fn suppose_now(
    state: &mut ClusterState,
    live: &mut Live,
    supposition: &Supposition,
) -> Result<(), SuppositionError> {
    match supposition {
        Supposition::NodeLost(name) => {
            let node = find(state, name)?;
            live.eligible.insert(node, Eligibility::Lost { why: "is supposed to be lost".to_owned() });
        }
        Supposition::NodeOnline(name) => come_back(state, live, name)?,
        Supposition::Standby(name) => {
            let kind = ActionKind::Standby(find(state, name)?);
            let action = OperatorAction { kind, actor: String::new(), reason: "supposed".to_owned(), at: live.now };
            state.actions.insert(format!("standby:{name}"), action);
        }
        Supposition::ResourceFailed(name) => {
            let running = |known: &model::Known| known.state == ResourceState::Running;
            let known: Vec<String> = state
                .known
                .iter()
                .filter(|(_, nodes)| nodes.values().any(running))
                .map(|(resource, _)| resource.to_string())
                .collect();
            let there = state.known.get_mut(name).into_iter().flat_map(|nodes| nodes.values_mut());
            let mut has_failed = false;
            for known in there.filter(|known| running(known)) {
                known.state = ResourceState::Failed;
                has_failed = true;
            }
            if !has_failed {
                return Err(SuppositionError::Resource { name: name.0.clone(), known: known.join(", ") });
            }
        }
        Supposition::Ticket(name, _) => return Err(SuppositionError::Ticket(name.clone())),
    }
    Ok(())
}

/// A node is back with nothing running, and whatever kept it empty is over.
fn come_back(state: &mut ClusterState, live: &mut Live, name: &NodeName) -> Result<(), SuppositionError> {
    let node = find(state, name)?;
    let keeps_empty = |kind: &ActionKind| match kind {
        ActionKind::Standby(there) | ActionKind::NodeMaintenance(there) | ActionKind::Leave(there) => *there == node,
        ActionKind::ClusterMaintenance | ActionKind::Move(..) | ActionKind::Stop(_) => false,
    };
    state.actions.retain(|_, action| !keeps_empty(&action.kind));
    let Some(member) = state.members.get_mut(&node) else { return Ok(()) };
    let was_away = member.state != MemberState::Online;
    member.state = MemberState::Online;
    member.flap_penalty = 0;
    live.eligible.insert(node, Eligibility::Ready);
    if was_away {
        let incarnation = member.incarnation;
        let resources: Vec<_> = state.config.resources.keys().cloned().collect();
        for resource in resources {
            let known = model::Known {
                state: ResourceState::Stopped,
                incarnation,
                op: model::OpId::default(),
                since: live.now,
                reason: String::new(),
                digest: 0,
                is_change: false,
            };
            state.known.entry(resource).or_default().insert(node, known);
        }
    }
    Ok(())
}

fn find(state: &ClusterState, name: &NodeName) -> Result<NodeId, SuppositionError> {
    state.member_named(name).map(|(id, _)| id).ok_or_else(|| {
        let known: Vec<&str> = state.members.values().map(|member| member.name.as_str()).collect();
        SuppositionError::Node { name: name.0.clone(), known: known.join(", ") }
    })
}
