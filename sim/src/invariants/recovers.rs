//! After everything is healed, whatever can run runs again within a bound.

use model::{HolderState, MemberState, NodeRole, ResourceState};

use crate::world::World;

/// What is not as it should be on a healed cluster that is wanted whole; none: all is well.
pub(crate) fn what_is_missing(world: &World) -> Option<String> {
    let Some(leader) = world.leader() else { return Some("nobody leads".to_owned()) };
    let Some(node) = world.node(leader) else { return Some("nobody leads".to_owned()) };
    let state = node.state();
    if state.coordinator != world.machines[leader].id.unwrap_or_default() {
        return Some("the leader's epoch has not begun".to_owned());
    }
    for machine in &world.machines {
        let Some(id) = machine.id else { continue };
        let Some(member) = state.members.get(&id) else { return Some(format!("{} is no member", machine.name)) };
        if member.state != MemberState::Online {
            return Some(format!("{} is {:?}", machine.name, member.state));
        }
    }
    for (unit, wanted) in state.config.units() {
        if !wanted.placement.enabled {
            continue;
        }
        let Some(holder) = state.holders.get(&unit) else {
            let why = world.plan_reason(&unit).unwrap_or_else(|| "no decision".to_owned());
            return Some(format!("nobody holds {unit}: {why}"));
        };
        if !matches!(holder.state, HolderState::Held) {
            return Some(format!("{unit} is {:?} on {}", holder.state, state.name_of(holder.node)));
        }
        let Some(m) = world.machine_of(holder.node) else { return Some(format!("{unit} is held by a stranger")) };
        for resource in &wanted.members {
            if !world.machines[m].services.contains_key(*resource) {
                return Some(format!("{resource} does not run on {}, which holds {unit}", world.machines[m].name));
            }
            let known = state.known_state(resource, holder.node);
            if known != ResourceState::Running {
                return Some(format!("{resource} runs on {} and counts as {known:?}", world.machines[m].name));
            }
        }
        let elsewhere = (0..world.machines.len()).find(|other| {
            *other != m && wanted.members.iter().any(|r| world.machines[*other].services.contains_key(*r))
        });
        if let Some(other) = elsewhere {
            return Some(format!("something of {unit} runs on {} as well", world.machines[other].name));
        }
    }
    for machine in &world.machines {
        if let Some(orphan) = machine.services.keys().find(|resource| !state.config.resources.contains_key(*resource)) {
            return Some(format!("{orphan}, which nobody wants, runs on {}", machine.name));
        }
    }
    let voters = node.consensus().voters().len();
    let wanted = quorum::voter_target(world.machines.iter().filter(|m| m.id.is_some()).count());
    if voters < wanted {
        return Some(format!("{voters} voters instead of {wanted}"));
    }
    if world.machines.iter().any(|m| m.role == NodeRole::Witness && !m.services.is_empty()) {
        return Some("the witness runs something".to_owned());
    }
    None
}
