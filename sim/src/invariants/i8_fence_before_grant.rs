//! I8: in the log, the proof that ended a grant comes before the next grant of the unit. A member that may still run
//! something of an exclusive unit, whether it holds it or not, must be known to have stopped it.

use std::collections::BTreeMap;

use model::{ClusterState, LogIndex, MemberState, NodeId, NodeRole, ResourceName, ResourceState, UnitName};
use state::Command;

use super::Step;

/// Is everything of the unit known to be stopped on all members but the one that gets it?
fn runs_nowhere_else(step: &Step<'_>, unit: &UnitName, target: NodeId) -> Result<(), String> {
    let state = step.after;
    if !state.config.is_exclusive(unit) {
        return Ok(());
    }
    for resource in state.config.members_of(unit) {
        for (id, member) in
            state.members.iter().filter(|(id, member)| **id != target && member.role == NodeRole::Member)
        {
            let known = state.known_state(resource, *id);
            let may_run = match member.state {
                MemberState::Online | MemberState::Condemned => known != ResourceState::Stopped,
                MemberState::Left => known != ResourceState::Stopped && was_seen(state, resource, *id),
                MemberState::Absent | MemberState::Fenced => false,
            };
            if may_run {
                return Err(format!(
                    "{unit} is granted at entry {}, and {resource} is {known:?} on {}",
                    step.index, member.name
                ));
            }
        }
    }
    Ok(())
}

fn was_seen(state: &ClusterState, resource: &ResourceName, node: NodeId) -> bool {
    state.known.get(resource).is_some_and(|nodes| nodes.contains_key(&node))
}

/// How the last grant of each unit ended.
#[derive(Default)]
pub(crate) struct Fences {
    /// Units whose holder is condemned, and since which entry.
    condemned: BTreeMap<UnitName, LogIndex>,
}

impl Fences {
    /// Takes in one entry.
    pub fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        if !step.is_accepted {
            return Ok(());
        }
        match step.command {
            Command::Condemn { node, .. } => {
                let config = &step.after.config;
                let held = step.holders_before.iter().filter(|(unit, holder)| {
                    holder.node == *node && (config.members_of(unit).is_empty() || config.is_exclusive(unit))
                });
                self.condemned.extend(held.map(|(unit, _)| (unit.clone(), step.index)));
                Ok(())
            }
            Command::FenceDone { node, .. } | Command::ManualConfirm { node, .. } | Command::Join { node, .. } => {
                let is_freed = |unit: &UnitName| {
                    step.holders_before.get(unit).is_some_and(|holder| holder.node == *node)
                        && !step.after.holders.contains_key(unit)
                };
                self.condemned.retain(|unit, _| !is_freed(unit));
                Ok(())
            }
            // What a condemned node stops in time is free by that proof.
            Command::Release { unit, .. } => {
                self.condemned.remove(unit);
                Ok(())
            }
            Command::Grant { unit, node, .. } => match self.condemned.get(unit) {
                None => runs_nowhere_else(step, unit, *node),
                Some(since) => Err(format!(
                    "{unit} is granted at entry {}, and its holder, condemned at entry {since}, is not fenced",
                    step.index
                )),
            },
            _ => Ok(()),
        }
    }
}
