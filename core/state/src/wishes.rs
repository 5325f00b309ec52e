//! What do people want? Configuration versions, operators' actions, join tokens.
//!
//! A version is the index of its entry, and a change names the version it was made from: of two that race, one wins.
//! The parsed configuration comes with its text; nothing here reads TOML.
//!
//! In: Configure, Act, Undo, Clear, AddToken, WrongToken. Out: what the scheduler has to bring about.
//! Not here: how it is brought about (`scheduler`).

use std::collections::BTreeSet;

use model::{
    ActionKind, ClusterConfig, ClusterState, ConfigRecord, ConfigVersion, HolderState, Member, MemberState, NodeId,
    NodeName, NodeRole, OperatorAction, ResourceName, ResourceState, TokenRecord, UnitName,
};

use crate::apply::Context;
use crate::kernel::{self, member, member_state_text};
use crate::observe::{forget_removed, runs_on};
use crate::{Command, Refusal};

/// From this feature level on the site can be shut down as one.
const SHUT_DOWN_LEVEL: u8 = 4;
/// Versions of the cluster file that are kept.
const VERSIONS_MAX: usize = 32;
/// Join tokens that may wait to be used.
const TOKENS_MAX: usize = 100;
/// Wrong secrets after which a token is burnt.
const WRONG_MAX: u32 = 5;

/// The key of an operator's action in [`ClusterState::actions`]: `standby:a`, `maintenance`, `move:web`, …
pub fn action_key(state: &ClusterState, action: &ActionKind) -> String {
    match action {
        ActionKind::Standby(node) => format!("standby:{}", state.name_of(*node)),
        ActionKind::NodeMaintenance(node) => format!("maintenance:{}", state.name_of(*node)),
        ActionKind::ClusterMaintenance => "maintenance".to_owned(),
        ActionKind::Move(unit, _) => format!("move:{unit}"),
        ActionKind::Stop(unit) => format!("stop:{unit}"),
        ActionKind::Leave(node) => format!("leave:{}", state.name_of(*node)),
        ActionKind::ShutDown => "shutdown".to_owned(),
    }
}

/// How the history names a wish, and what it is about.
fn asked(state: &ClusterState, action: &ActionKind) -> (&'static str, String) {
    let cluster = || state.config.name.clone();
    match action {
        ActionKind::Standby(node) => ("standby", state.name_of(*node)),
        ActionKind::NodeMaintenance(node) => ("maintenance", state.name_of(*node)),
        ActionKind::ClusterMaintenance => ("maintenance", cluster()),
        ActionKind::Move(unit, _) => ("move", unit.to_string()),
        ActionKind::Stop(unit) => ("stop", unit.to_string()),
        ActionKind::Leave(node) => ("leave", state.name_of(*node)),
        ActionKind::ShutDown => ("shutdown", cluster()),
    }
}

/// How the history names the end of a wish, and what it is about.
fn taken_back(state: &ClusterState, action: &ActionKind) -> (&'static str, String) {
    let word = match action {
        ActionKind::Standby(_) => "standby-off",
        ActionKind::NodeMaintenance(_) | ActionKind::ClusterMaintenance => "maintenance-off",
        ActionKind::Move(..) => "move-off",
        ActionKind::Stop(_) => "start",
        ActionKind::Leave(_) => "leave-off",
        ActionKind::ShutDown => "shutdown-off",
    };
    (word, asked(state, action).1)
}

/// Is the node, or the whole cluster, in maintenance?
pub fn is_in_maintenance(state: &ClusterState, node: NodeId) -> bool {
    state.actions.values().any(|action| match &action.kind {
        ActionKind::ClusterMaintenance => true,
        ActionKind::NodeMaintenance(of) => *of == node,
        ActionKind::Standby(_)
        | ActionKind::Move(..)
        | ActionKind::Stop(_)
        | ActionKind::Leave(_)
        | ActionKind::ShutDown => false,
    })
}

/// A move to a node that goes away is not asked for any more.
pub(crate) fn undo_moves_to(state: &mut ClusterState, context: &mut Context<'_>, node: NodeId) {
    let is_over = |action: &OperatorAction| matches!(&action.kind, ActionKind::Move(_, to) if *to == node);
    let over: Vec<String> =
        state.actions.iter().filter(|(_, action)| is_over(action)).map(|(key, _)| key.clone()).collect();
    for key in over {
        if let Some(action) = state.actions.remove(&key) {
            let (word, subject) = taken_back(state, &action.kind);
            context.note(word, &subject, format!("{} is gone", state.name_of(node)));
        }
    }
}

/// A new version of the cluster file.
pub(crate) fn configure(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    expected_version: ConfigVersion,
    text: &str,
    config: &ClusterConfig,
    reason: &str,
) -> Result<(), Refusal> {
    check_version(state, expected_version)?;
    check_config(state, config)?;
    set_config(state, context, text, config, reason);
    Ok(())
}

/// Compare-and-set: is this made from the current version?
pub fn check_version(state: &ClusterState, expected: ConfigVersion) -> Result<(), Refusal> {
    if expected == state.config_version {
        Ok(())
    } else {
        let current = state.config_history.back().filter(|record| record.version == state.config_version);
        let by =
            current.map_or_else(String::new, |record| format!(", applied by {} ({})", record.actor, record.reason));
        Err(Refusal::OtherVersion { expected, current: state.config_version, by })
    }
}

/// Can the cluster change to this configuration as it stands?
///
/// # Errors
/// What stands against it, and what to do.
pub fn check_config(state: &ClusterState, config: &ClusterConfig) -> Result<(), Refusal> {
    for member in state.members.values() {
        if config.nodes.get(&member.name).is_none_or(|node| node.role != member.role) {
            return Err(Refusal::DropsMember(member.name.to_string()));
        }
    }
    check_addresses(state, config)?;
    for name in config.resources.keys() {
        if !state.config.resources.contains_key(name) {
            if state.known.contains_key(name) {
                return Err(Refusal::StillStopping(name.clone()));
            }
            continue;
        }
        let (from, to) = (state.config.unit_of(name), config.unit_of(name));
        if from != to && state.holders.contains_key(&from) {
            return Err(Refusal::Regrouped { resource: name.clone(), from, to });
        }
        if !state.config.is_exclusive(&from) && config.is_exclusive(&to) {
            check_runs_once(state, name, &from)?;
        }
    }
    Ok(())
}

/// Nodes take other addresses one after the other. Where some of them may let go of the present ones at once, any two
/// must find each other meanwhile over a network on which neither address changes.
fn check_addresses(state: &ClusterState, config: &ClusterConfig) -> Result<(), Refusal> {
    let links_of = |config: &ClusterConfig, name: &NodeName| {
        config.nodes.get(name).map(|node| node.links.clone()).unwrap_or_default()
    };
    let kept: Vec<(&NodeName, Vec<bool>)> = state
        .members
        .values()
        .map(|member| {
            let (old, new) = (links_of(&state.config, &member.name), links_of(config, &member.name));
            let is_kept = old.iter().enumerate().map(|(link, address)| new.get(link) == Some(address));
            (&member.name, is_kept.collect::<Vec<bool>>())
        })
        .filter(|(_, links)| !links.is_empty())
        .collect();
    let is_same = kept.iter().all(|(_, links)| links.iter().all(|is_kept| *is_kept));
    if is_same || !matches!(state.level, 1..=3) {
        return Ok(());
    }
    for (n, (one, links)) in kept.iter().enumerate() {
        let meets = |others: &[bool]| links.iter().zip(others).any(|(own, other)| *own && *other);
        if let Some((other, _)) = kept[n + 1..].iter().find(|(_, others)| !meets(others)) {
            return Err(Refusal::NoNetworkStays(one.to_string(), other.to_string()));
        }
    }
    Ok(())
}

/// What may run several times becomes exclusive only where that is true already: nothing is started by this change, but
/// two copies may run that nobody would stop in time. A condemned member may have begun a start that nobody reported.
fn check_runs_once(state: &ClusterState, resource: &ResourceName, unit: &UnitName) -> Result<(), Refusal> {
    let holder = state.holders.get(unit).map(|holder| holder.node);
    let others = state.members.iter().filter(|(node, _)| Some(**node) != holder);
    let may_run = others.into_iter().find(|(node, member)| {
        member.state == MemberState::Condemned || state.may_run(unit, resource, **node).is_some()
    });
    may_run.map_or(Ok(()), |(_, member)| {
        Err(Refusal::CannotBeExclusive { resource: resource.clone(), node: member.name.to_string() })
    })
}

/// Makes the configuration current and forgets what it outdates.
pub(crate) fn set_config(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    text: &str,
    config: &ClusterConfig,
    reason: &str,
) {
    let old = std::mem::replace(&mut state.config, config.clone());
    let new = &state.config;
    let is_same = |name: &ResourceName| match (old.resources.get(name), new.resources.get(name)) {
        (Some(old), Some(new)) => old.agent == new.agent && old.parameters == new.parameters,
        (None | Some(_), None) | (None, Some(_)) => false,
    };
    // The grant of a unit did not ask for what joins it now.
    let is_new_there = |name: &&ResourceName| {
        let unit = new.unit_of(name);
        let was_there = old.resources.contains_key(*name) && old.unit_of(name) == unit;
        state.holders.contains_key(&unit) && new.is_exclusive(&unit) && !was_there
    };
    let barred: Vec<ResourceName> = new.resources.keys().filter(is_new_there).cloned().collect();
    state.barred.extend(barred);
    // Which units keep their failures: those of which nothing changed. One wrong member makes the others fail, too.
    let is_unit_same = |unit: &UnitName| {
        let members = new.members_of(unit);
        members == old.members_of(unit) && members.into_iter().all(is_same)
    };
    let is_level_reached = state.level >= 3;
    state
        .failures
        .retain(|resource, _| is_same(resource) && (!is_level_reached || is_unit_same(&new.unit_of(resource))));
    // A stop that failed under the old file is tried under the new one before it costs a second node.
    let still_blocked: BTreeSet<UnitName> =
        if is_level_reached { kernel::blocked_units(state) } else { BTreeSet::new() };
    state.stop_cost_node.retain(|unit| still_blocked.contains(unit));
    state.proven_free.retain(|unit, _| {
        let members = new.members_of(unit);
        !members.is_empty() && members == old.members_of(unit) && members.into_iter().all(is_same)
    });
    state.actions.retain(|_, action| match &action.kind {
        ActionKind::Move(unit, _) | ActionKind::Stop(unit) => !new.members_of(unit).is_empty(),
        ActionKind::Standby(_)
        | ActionKind::NodeMaintenance(_)
        | ActionKind::ClusterMaintenance
        | ActionKind::Leave(_)
        | ActionKind::ShutDown => true,
    });
    state.config_version = ConfigVersion(context.index.0);
    if state.config_history.len() == VERSIONS_MAX {
        state.config_history.pop_front();
    }
    state.config_history.push_back(ConfigRecord {
        version: state.config_version,
        text: text.to_owned(),
        actor: context.actor.to_owned(),
        reason: reason.to_owned(),
        at: context.at,
    });
    forget_removed(state);
    context.note("config", &format!("version {}", state.config_version), reason);
}

/// An operator asks for something.
pub(crate) fn act(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    action: &ActionKind,
    reason: &str,
) -> Result<(), Refusal> {
    match action {
        ActionKind::Standby(node) | ActionKind::NodeMaintenance(node) | ActionKind::Leave(node) => {
            member(state, *node)?;
        }
        ActionKind::ClusterMaintenance => {}
        ActionKind::ShutDown if state.level < SHUT_DOWN_LEVEL => return Err(Refusal::NeedsLevel(SHUT_DOWN_LEVEL)),
        ActionKind::ShutDown => {}
        ActionKind::Stop(unit) => check_unit(state, unit)?,
        ActionKind::Move(unit, node) => {
            check_unit(state, unit)?;
            let target = member(state, *node)?;
            let name = target.name.to_string();
            match (target.role, target.state) {
                (NodeRole::Witness, _) => return Err(Refusal::Witness(name)),
                (NodeRole::Member, MemberState::Online) => {}
                (NodeRole::Member, other) => {
                    return Err(Refusal::NotOnline { node: name, state: member_state_text(other) });
                }
            }
            if runs_on(state, unit, *node) {
                return Err(Refusal::RunsThere { unit: unit.clone(), node: name });
            }
        }
    }
    let wish = OperatorAction {
        kind: action.clone(),
        actor: context.actor.to_owned(),
        reason: reason.to_owned(),
        at: context.at,
    };
    let key = action_key(state, action);
    let (word, subject) = asked(state, action);
    let told = match action {
        ActionKind::Move(_, to) => format!("to {}: {reason}", state.name_of(*to)),
        ActionKind::Standby(_)
        | ActionKind::NodeMaintenance(_)
        | ActionKind::ClusterMaintenance
        | ActionKind::Stop(_)
        | ActionKind::Leave(_)
        | ActionKind::ShutDown => reason.to_owned(),
    };
    context.note(word, &subject, told);
    if *action == ActionKind::ShutDown {
        let is_here =
            |(id, member): &(&NodeId, &Member)| member.state == MemberState::Online && !state.gone.contains(id);
        let leaves = state.members.iter().filter(is_here).map(|(id, _)| ActionKind::Leave(*id));
        let leaves: Vec<OperatorAction> = leaves.map(|kind| OperatorAction { kind, ..wish.clone() }).collect();
        for leave in leaves {
            state.actions.insert(action_key(state, &leave.kind), leave);
        }
    }
    state.actions.insert(key, wish);
    Ok(())
}

fn check_unit(state: &ClusterState, unit: &UnitName) -> Result<(), Refusal> {
    if state.config.members_of(unit).is_empty() { Err(Refusal::UnknownUnit(unit.clone())) } else { Ok(()) }
}

/// An operator takes a wish back.
pub(crate) fn undo(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    action: &ActionKind,
    reason: &str,
) -> Result<(), Refusal> {
    let key = action_key(state, action);
    state.actions.remove(&key).ok_or(Refusal::NoSuchAction)?;
    let (word, subject) = taken_back(state, action);
    context.note(word, &subject, reason);
    Ok(())
}

/// Forgets failures, blockades and flaps. A blockade lifted this way frees nothing: the holder stays, and what it
/// could not stop counts as unknown until it is looked at again.
pub(crate) fn clear(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    resource: Option<&ResourceName>,
    node: Option<NodeId>,
    reason: &str,
) -> Result<(), Refusal> {
    if let Some(resource) = resource
        && !state.config.resources.contains_key(resource)
        && !state.known.contains_key(resource)
    {
        return Err(Refusal::UnknownResource(resource.clone()));
    }
    if let Some(node) = node {
        member(state, node)?;
    }
    let is_meant = |name: &ResourceName| resource.is_none_or(|meant| meant == name);
    let is_there = |id: NodeId| node.is_none_or(|meant| meant == id);
    for (name, nodes) in &mut state.failures {
        nodes.retain(|id, _| !(is_meant(name) && is_there(*id)));
    }
    state.failures.retain(|_, nodes| !nodes.is_empty());
    for (name, nodes) in &mut state.known {
        for known in nodes.iter_mut().filter(|(id, _)| is_meant(name) && is_there(**id)).map(|(_, known)| known) {
            if known.state == ResourceState::Blocked {
                known.state = ResourceState::Unknown;
                known.since = context.at;
                known.reason = "cleared; to be looked at again".to_owned();
            }
        }
    }
    let unit = resource.map(|resource| state.config.unit_of(resource));
    state.stop_cost_node.retain(|name| unit.as_ref().is_some_and(|unit| unit != name));
    for (name, holder) in &mut state.holders {
        if unit.as_ref().is_none_or(|unit| unit == name)
            && is_there(holder.node)
            && matches!(holder.state, HolderState::Blocked { .. })
        {
            holder.state = HolderState::Held;
            holder.since = context.at;
        }
    }
    if resource.is_none() {
        for (_, member) in state.members.iter_mut().filter(|(id, _)| is_there(**id)) {
            member.flap_penalty = 0;
            member.flap_at = context.at;
        }
    }
    let subject = match (resource, node) {
        (Some(resource), Some(node)) => format!("{resource} on {}", state.name_of(node)),
        (Some(resource), None) => resource.to_string(),
        (None, Some(node)) => state.name_of(node),
        (None, None) => "everything".to_owned(),
    };
    context.note("cleared", &subject, reason);
    Ok(())
}

/// A new join token; expired ones go.
pub(crate) fn add_token(state: &mut ClusterState, context: &mut Context<'_>, command: &Command) -> Result<(), Refusal> {
    let Command::AddToken { id, secret_hash, expires, role, name } = command else {
        unreachable!("add_token is called for AddToken alone");
    };
    let alive = state.tokens.values().filter(|token| token.expires >= context.at).count();
    if alive >= TOKENS_MAX || state.tokens.contains_key(id) {
        return Err(Refusal::TooManyTokens);
    }
    state.tokens.retain(|_, token| token.expires >= context.at);
    let token =
        TokenRecord { secret_hash: secret_hash.clone(), expires: *expires, role: *role, name: name.clone(), wrong: 0 };
    state.tokens.insert(*id, token);
    context.note("token", "join token", "a new member may join");
    Ok(())
}

/// A wrong secret; the fifth burns the token.
pub(crate) fn wrong_token(state: &mut ClusterState, context: &mut Context<'_>, id: u64) -> Result<(), Refusal> {
    let token = state.tokens.get_mut(&id).ok_or(Refusal::UnknownToken)?;
    token.wrong += 1;
    if token.wrong >= WRONG_MAX {
        state.tokens.remove(&id);
        context.note("token", "join token", format!("burnt after {WRONG_MAX} wrong secrets"));
    }
    Ok(())
}
