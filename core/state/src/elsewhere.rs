//! What follows where something may run on a member that does not hold its unit?
//!
//! Unknown counts as running (`ClusterState::may_run`, SAFETY §10.3). So a member leaves only when it is known to run
//! nothing that must not run twice; and what joins a held unit is barred until it is known to run nowhere else.
//!
//! In: a state. Out: why a member cannot leave, which resources nobody may start.
//! Not here: grants (`kernel.rs`), who is asked or proven off because of it (`scheduler`, `node`).

use model::{ClusterState, Holder, NodeId, NodeRole, ResourceName, ResourceState};

use crate::Refusal;
use crate::kernel::resource_state_text;

/// Why the member cannot leave in order yet: it holds a unit, or may run something that must not run twice.
pub fn why_not_leave(state: &ClusterState, node: NodeId) -> Option<Refusal> {
    let member = state.members.get(&node)?;
    let name = || member.name.to_string();
    if let Some((unit, _)) = state.holders.iter().find(|(_, holder)| holder.node == node) {
        return Some(Refusal::StillHolds { node: name(), unit: unit.clone() });
    }
    match member.role {
        NodeRole::Witness => return None,
        NodeRole::Member => {}
    }
    let is_exclusive = |resource: &&ResourceName| state.config.is_exclusive(&state.config.unit_of(resource));
    let removed = state.known.iter().filter(|(resource, nodes)| {
        !state.config.resources.contains_key(*resource)
            && nodes.get(&node).is_some_and(|known| known.incarnation == member.incarnation)
    });
    let configured = state.config.resources.keys().filter(is_exclusive);
    configured.chain(removed.map(|(resource, _)| resource)).find_map(|resource| {
        let known = state.known_state(resource, node);
        (known != ResourceState::Stopped).then(|| Refusal::NotStopped {
            resource: resource.clone(),
            node: name(),
            state: resource_state_text(known),
        })
    })
}

/// Lifts the bar of every resource that its holder may start now: it is known to have stopped on all other members, or
/// nobody holds its unit, so that the next grant asks for it.
pub(crate) fn unbar(state: &mut ClusterState) {
    let is_awaited = |resource: &ResourceName| {
        let unit = state.config.unit_of(resource);
        let holder: Option<&Holder> = state.holders.get(&unit).filter(|_| state.config.is_exclusive(&unit));
        holder.is_some_and(|holder| {
            let others = state.members.iter().filter(|(node, _)| **node != holder.node);
            others.into_iter().any(|(node, _)| state.may_run(&unit, resource, *node).is_some())
        })
    };
    let barred = state.barred.iter().filter(|resource| is_awaited(resource)).cloned().collect();
    state.barred = barred;
}
