//! What if? A running cluster with something else in it.

use model::situation::Situation;
use model::{ActionKind, ClusterState, MemberState, NodeId, NodeName, NodeRole, OperatorAction, ResourceState};

use super::{Eligibility, Live};
use crate::suppose::suppose_all;
use crate::{Supposition, SuppositionError, Votes};

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
        Supposition::NodeOnline(name) | Supposition::NodeBack(name) => come_back(state, live, name)?,
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

/// A running cluster in which things happened one after the other, as a situation. Without a majority of `voters` it has
/// no quorum.
///
/// # Errors
/// If one names what is not there.
pub fn situation_if(
    state: &ClusterState,
    live: &Live,
    voters: &[NodeId],
    suppositions: &[Supposition],
) -> Result<(Situation, Votes), SuppositionError> {
    let (mut state, mut live) = (state.clone(), live.clone());
    // What follows from the loss of a node that is there is played in the situation, and so is all that comes after it.
    let is_played = |supposition: &Supposition| match supposition {
        Supposition::NodeBack(name) => {
            let node = state.member_named(name);
            node.is_some_and(|(id, member)| member.state == MemberState::Online && is_heard(&live, id))
        }
        Supposition::NodeLost(_)
        | Supposition::NodeOnline(_)
        | Supposition::Standby(_)
        | Supposition::ResourceFailed(_)
        | Supposition::Ticket(..) => false,
    };
    let played_from = suppositions.iter().position(is_played).unwrap_or(suppositions.len());
    for supposition in &suppositions[..played_from] {
        suppose_now(&mut state, &mut live, supposition)?;
    }
    let name_of = |id: &NodeId| state.members.get(id).map(|member| member.name.clone());
    let is_witness = |id: &NodeId| state.members.get(id).is_some_and(|member| member.role == NodeRole::Witness);
    let mut votes = Votes {
        voters: voters.iter().filter_map(name_of).collect(),
        away: voters.iter().filter(|id| is_witness(id) && !is_heard(&live, **id)).filter_map(name_of).collect(),
        one_of_two_goes_on: false,
    };
    let mut situation = super::situation_now(&state, &live);
    situation.options.has_quorum = votes.majority(&situation).is_ok();
    suppose_all(&mut situation, &suppositions[played_from..], Some(&mut votes))?;
    Ok((situation, votes))
}

fn is_heard(live: &Live, node: NodeId) -> bool {
    match live.eligible.get(&node) {
        Some(Eligibility::Ready | Eligibility::NotYet { .. }) => true,
        Some(Eligibility::Lost { .. }) | None => false,
    }
}

/// A node is back with nothing running, and whatever kept it empty is over.
fn come_back(state: &mut ClusterState, live: &mut Live, name: &NodeName) -> Result<(), SuppositionError> {
    let node = find(state, name)?;
    let keeps_empty = |kind: &ActionKind| match kind {
        ActionKind::Standby(there) | ActionKind::NodeMaintenance(there) | ActionKind::Leave(there) => *there == node,
        ActionKind::ClusterMaintenance | ActionKind::Move(..) | ActionKind::Stop(_) | ActionKind::ShutDown => false,
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
