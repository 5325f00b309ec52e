//! Who belongs to the cluster, and in which life?
//!
//! A member is admitted once (under a token) and joins once per boot: its incarnation. A new incarnation ends the
//! previous one only with proof that the machine has really booted anew (SAFETY §2.1, Join); a node that is lost and
//! returns too often is suppressed for a while (SAFETY §1.9).
//!
//! In: Admit, Remove, Join, Leave. Out: members, and holders freed by the proof of a new boot.
//! Not here: votes and whether a voter's log is behind what its peers remember (`consensus`).

use std::collections::VecDeque;

use model::{
    ActionKind, ClusterConfig, ClusterState, ConfigRecord, ConfigVersion, HistoryEntry, IDENTITY_BYTES_MAX,
    Incarnation, LogIndex, Member, MemberState, NodeId, NodeName, NodeRole, WallTime,
};

use crate::apply::Context;
use crate::elsewhere::why_not_leave;
use crate::kernel::{bury, free_holders, member, member_in, member_state_text, set_state};
use crate::wishes::{check_config, check_version, is_in_maintenance, set_config, undo_moves_to};
use crate::{Command, Refusal};

/// The first member, as `init` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// Its name in the cluster file.
    pub name: NodeName,
    /// Member or witness.
    pub role: NodeRole,
    /// The identity of its storage.
    pub storage_uuid: String,
    /// The identity of its machine.
    pub machine_id: String,
}

/// The state at log index 1: one member that has not joined yet, configuration version 1.
pub fn founding(cluster_id: u64, founder: Founder, text: &str, config: ClusterConfig, at: WallTime) -> ClusterState {
    let name = founder.name.clone();
    let record = |reason: &str| ConfigRecord {
        version: ConfigVersion(1),
        text: text.to_owned(),
        actor: "init".to_owned(),
        reason: reason.to_owned(),
        at,
    };
    let event = HistoryEntry {
        index: LogIndex(1),
        at,
        event: "founded".to_owned(),
        subject: name.to_string(),
        reason: format!("{name} begins a new cluster"),
        actor: "init".to_owned(),
    };
    ClusterState {
        applied: LogIndex(1),
        level: crate::LEVEL,
        cluster_id,
        config_version: ConfigVersion(1),
        config,
        config_history: VecDeque::from([record("the cluster begins")]),
        members: [(NodeId(1), new_member(founder, at))].into(),
        history: VecDeque::from([event]),
        ..ClusterState::default()
    }
}

/// Has the member flapped so much that it gets no resources at `at`?
pub fn is_suppressed(member: &Member, at: WallTime) -> bool {
    member.is_suppressed(at)
}

fn new_member(founder: Founder, at: WallTime) -> Member {
    Member {
        name: founder.name,
        role: founder.role,
        incarnation: Incarnation(0),
        state: MemberState::Absent,
        boot_id: String::new(),
        machine_id: founder.machine_id,
        storage_uuid: founder.storage_uuid,
        since: at,
        flap_penalty: 0,
        flap_at: at,
        dead: VecDeque::new(),
    }
}

/// Admits a new member under a token, or by an operator's word.
pub(crate) fn admit(state: &mut ClusterState, context: &mut Context<'_>, command: &Command) -> Result<(), Refusal> {
    let Command::Admit { name, role, storage_uuid, machine_id, config_text, config, expected_version, token } = command
    else {
        unreachable!("admit is called for Admit alone");
    };
    check_identities(name.as_str(), &[storage_uuid, machine_id])?;
    if state.member_named(name).is_some() {
        return Err(Refusal::NameTaken(name.to_string()));
    }
    if let Some(owner) = state.members.values().find(|member| member.storage_uuid == *storage_uuid) {
        return Err(Refusal::StorageTaken(owner.name.to_string()));
    }
    if let Some(token) = token {
        let record = state.tokens.get(token).ok_or(Refusal::UnknownToken)?;
        if record.expires < context.at {
            return Err(Refusal::ExpiredToken);
        }
        if record.role != *role {
            return Err(Refusal::OtherToken("role"));
        }
        if record.name.as_ref().is_some_and(|bound| bound != name) {
            return Err(Refusal::OtherToken("name"));
        }
    }
    check_version(state, *expected_version)?;
    if config.nodes.get(name).is_none_or(|node| node.role != *role) {
        return Err(Refusal::NodeNotInFile(name.to_string()));
    }
    check_config(state, config)?;
    if let Some(token) = token {
        state.tokens.remove(token);
    }
    let founder =
        Founder { name: name.clone(), role: *role, storage_uuid: storage_uuid.clone(), machine_id: machine_id.clone() };
    state.members.insert(NodeId(context.index.0), new_member(founder, context.at));
    context.note("admitted", name.as_str(), format!("{name} becomes a member"));
    set_config(state, context, config_text, config, &format!("{name} becomes a member"));
    Ok(())
}

/// Removes a member that is off (or was never here) and holds nothing. Its id is never used again.
pub(crate) fn remove(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    node: NodeId,
    reason: &str,
) -> Result<(), Refusal> {
    let member = member(state, node)?;
    let name = member.name.to_string();
    if let Some((unit, _)) = state.holders.iter().find(|(_, holder)| holder.node == node) {
        return Err(Refusal::StillHolds { node: name, unit: unit.clone() });
    }
    match member.state {
        MemberState::Absent | MemberState::Left | MemberState::Fenced => {}
        MemberState::Online => {
            return Err(Refusal::NeedsFence { node: name, why: "it is online; stop its daemon" });
        }
        MemberState::Condemned => return Err(Refusal::Condemned(name)),
    }
    if node == state.coordinator {
        return Err(Refusal::Leads(name));
    }
    bury(state, node);
    state.members.remove(&node);
    state.ends.remove(&node);
    state.gone.remove(&node);
    for nodes in state.failures.values_mut() {
        nodes.remove(&node);
    }
    state.failures.retain(|_, nodes| !nodes.is_empty());
    state.actions.retain(|_, action| match &action.kind {
        ActionKind::Standby(of) | ActionKind::NodeMaintenance(of) | ActionKind::Move(_, of) | ActionKind::Leave(of) => {
            *of != node
        }
        ActionKind::ClusterMaintenance | ActionKind::Stop(_) | ActionKind::ShutDown => true,
    });
    context.note("removed", &name, reason);
    Ok(())
}

/// A member is here, in this incarnation.
pub(crate) fn join(state: &mut ClusterState, context: &mut Context<'_>, command: &Command) -> Result<(), Refusal> {
    let Command::Join { node, incarnation, boot_id, machine_id, storage_uuid, old_heard_recently, .. } = command else {
        unreachable!("join is called for Join alone");
    };
    let (node, incarnation) = (*node, *incarnation);
    let old = member(state, node)?;
    let name = old.name.to_string();
    check_identities(&name, &[boot_id, machine_id, storage_uuid])?;
    if old.storage_uuid != *storage_uuid {
        return Err(Refusal::OtherStorage(name));
    }
    if incarnation == Incarnation(0) {
        return Err(Refusal::OtherIncarnation { node: name, proposed: incarnation, current: old.incarnation });
    }
    if old.dead.contains(&incarnation) {
        return Err(Refusal::DeadIncarnation(name));
    }
    if old.incarnation == incarnation {
        return rejoin(state, context, node);
    }
    let is_proven_new = proof_of_new_boot(old, boot_id, machine_id, *old_heard_recently);
    let (reason, is_flap) = match old.state {
        MemberState::Absent => (format!("{name} is here for the first time"), false),
        MemberState::Left => (format!("{name} is back"), false),
        MemberState::Fenced => (format!("{name} is back after it was fenced"), true),
        MemberState::Online | MemberState::Condemned => match is_proven_new {
            Ok(()) => {
                (format!("{name} has booted anew: its previous life is over"), old.state == MemberState::Condemned)
            }
            Err(why) => return Err(Refusal::NeedsFence { node: name, why }),
        },
    };
    context.note("joined", &name, reason);
    if !context.bugs.has(model::Bug::HoldersOutliveBoot) {
        free_holders(state, context, node, None, "has booted anew");
    }
    bury(state, node);
    state.ends.remove(&node);
    state.gone.remove(&node);
    if let Some(member) = state.members.get_mut(&node) {
        member.incarnation = incarnation;
        member.boot_id = boot_id.clone();
        member.machine_id = machine_id.clone();
        if is_flap {
            member.add_flap(context.at);
        }
        if is_flap && member.is_suppressed(context.at) {
            context.note("suppressed", &name, "it was lost and came back too often; `cardea clear` ends this");
        }
    }
    set_state(state, context, node, MemberState::Online);
    forget_leaving(state, node);
    Ok(())
}

fn check_identities(name: &str, identities: &[&String]) -> Result<(), Refusal> {
    if identities.iter().any(|identity| identity.len() > IDENTITY_BYTES_MAX) {
        return Err(Refusal::LongIdentity(name.to_owned()));
    }
    Ok(())
}

/// The same boot again: a daemon that left in order and is back, or one that changed its mind about leaving.
fn rejoin(state: &mut ClusterState, context: &mut Context<'_>, node: NodeId) -> Result<(), Refusal> {
    let member = member(state, node)?;
    let name = member.name.to_string();
    match member.state {
        MemberState::Left => {
            set_state(state, context, node, MemberState::Online);
            state.known.values_mut().for_each(|nodes| drop(nodes.remove(&node)));
            state.known.retain(|_, nodes| !nodes.is_empty());
            forget_leaving(state, node);
            context.note("joined", &name, format!("{name} is back"));
            Ok(())
        }
        MemberState::Online if state.gone.contains(&node) => {
            state.gone.remove(&node);
            forget_leaving(state, node);
            context.note("joined", &name, format!("{name} is back, and takes over what it ran"));
            Ok(())
        }
        MemberState::Online if state.action(&ActionKind::Leave(node)).is_some() => {
            forget_leaving(state, node);
            context.note("joined", &name, format!("{name} stays after all"));
            Ok(())
        }
        MemberState::Absent | MemberState::Online => Err(Refusal::AlreadyJoined(name)),
        MemberState::Condemned => Err(Refusal::Condemned(name)),
        MemberState::Fenced => Err(Refusal::DeadIncarnation(name)),
    }
}

/// Is the machine of the previous life the same, and booted anew since?
fn proof_of_new_boot(
    old: &Member,
    boot_id: &str,
    machine_id: &str,
    old_heard_recently: bool,
) -> Result<(), &'static str> {
    if boot_id.is_empty() || boot_id == old.boot_id {
        return Err("it has not booted anew");
    }
    if machine_id.is_empty() || machine_id != old.machine_id {
        return Err("it is not the same machine");
    }
    if old_heard_recently {
        return Err("it was heard just now");
    }
    Ok(())
}

fn forget_leaving(state: &mut ClusterState, node: NodeId) {
    state.actions.retain(|_, action| action.kind != ActionKind::Leave(node));
}

/// The daemon of a member ends while hands are off: its services go on, and what it holds stays held.
pub(crate) fn gone(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    node: NodeId,
    incarnation: Incarnation,
) -> Result<(), Refusal> {
    let member = member_in(state, node, incarnation)?;
    let name = member.name.to_string();
    match member.state {
        MemberState::Online => {}
        MemberState::Absent | MemberState::Left | MemberState::Condemned | MemberState::Fenced => {
            return Err(Refusal::NotOnline { node: name, state: member_state_text(member.state) });
        }
    }
    if !is_in_maintenance(state, node) {
        return Err(Refusal::NotInMaintenance(name));
    }
    state.gone.insert(node);
    forget_leaving(state, node);
    context.note("gone", &name, format!("the daemon on {name} ended in maintenance; its services go on"));
    Ok(())
}

/// A member goes in order.
pub(crate) fn leave(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    node: NodeId,
    incarnation: Incarnation,
) -> Result<(), Refusal> {
    let member = member_in(state, node, incarnation)?;
    let name = member.name.to_string();
    match member.state {
        MemberState::Online => {}
        MemberState::Absent | MemberState::Left | MemberState::Condemned | MemberState::Fenced => {
            return Err(Refusal::NotOnline { node: name, state: member_state_text(member.state) });
        }
    }
    if let Some(why) = why_not_leave(state, node) {
        return Err(why);
    }
    set_state(state, context, node, MemberState::Left);
    context.note("left", &name, format!("{name} left in order"));
    undo_moves_to(state, context, node);
    Ok(())
}
