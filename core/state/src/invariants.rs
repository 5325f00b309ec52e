//! What is true of every agreed state, whatever came before?
//!
//! In: a state. Out: the first rule it breaks, in words.
//! Not here: rules across two states (`apply.rs`), across nodes (`sim`).

use std::collections::BTreeSet;

use model::{ClusterState, MemberState, NodeRole};

/// Checks the structure of a state: each unit's holder is a member's current, living incarnation that runs
/// resources; grants are unique and lie in the past; names are unique.
///
/// # Errors
/// The first rule that is broken, in words.
pub fn check_invariants(state: &ClusterState) -> Result<(), String> {
    let mut grants = BTreeSet::new();
    for (unit, holder) in &state.holders {
        let Some(member) = state.members.get(&holder.node) else {
            return Err(format!("{unit} is held by node {}, which is no member", holder.node));
        };
        let name = &member.name;
        if holder.incarnation != member.incarnation || member.dead.contains(&holder.incarnation) {
            return Err(format!("{unit} is held by a dead incarnation of {name}"));
        }
        match member.state {
            MemberState::Online | MemberState::Condemned => {}
            MemberState::Absent | MemberState::Left | MemberState::Fenced => {
                return Err(format!("{unit} is held by {name}, which is {:?}", member.state));
            }
        }
        match member.role {
            NodeRole::Member => {}
            NodeRole::Witness => return Err(format!("{unit} is held by the witness {name}")),
        }
        if holder.grant.0 > state.applied.0 || !grants.insert(holder.grant) {
            return Err(format!("the grant {} of {unit} is not unique or lies in the future", holder.grant));
        }
        if state.proven_free.get(unit).is_some_and(|ended| *ended >= holder.grant) {
            return Err(format!("{unit} is held under grant {}, which has ended", holder.grant));
        }
    }
    for (id, member) in &state.members {
        if state.members.range(..id).any(|(_, earlier)| earlier.name == member.name) {
            return Err(format!("two members are named {}", member.name));
        }
        if id.0 > state.applied.0 {
            return Err(format!("{} was admitted in the future", member.name));
        }
        let is_dead = member.dead.contains(&member.incarnation);
        if is_dead != (member.state == MemberState::Fenced) {
            return Err(format!("{} is {:?}, and its incarnation is dead: {is_dead}", member.name, member.state));
        }
    }
    if state.epoch.0 > state.applied.0 || state.config_version.0 > state.applied.0 {
        return Err("the epoch or the configuration lies in the future".to_owned());
    }
    Ok(())
}
