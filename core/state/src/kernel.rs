//! Who may run what? The exclusion kernel (SAFETY §2.1).
//!
//! A unit has at most one holder: a node in one incarnation, under one grant. A holder ends by a proof only: a stop
//! that its own incarnation confirmed after the release began, a verified fence, a new boot of the same machine, or
//! a person's word. A verdict ("b is lost") frees nothing but best-effort units.
//!
//! Whoever proposes is not trusted: a scheduler gone mad cannot start a thing twice.
//!
//! In: commands of the leader. Out: the changed holders, or a refusal.
//! Not here: new lives of a node (`members.rs`), what runs where (`observe.rs`).

use std::collections::BTreeSet;

use model::{
    Bug, ClusterConfig, ClusterState, Domain, Epoch, FenceEvidence, FenceMethod, GrantId, Holder, HolderState,
    Incarnation, Known, LifeEnd, Member, MemberState, NodeId, NodeRole, ResourceName, ResourceState, Term, UnitName,
};

use crate::Refusal;
use crate::apply::Context;
use crate::observe::forget_removed;
use crate::wishes::{is_in_maintenance, undo_moves_to};

/// Incarnations that are remembered as dead, per member.
const DEAD_MAX: usize = 16;

/// Refuses what an earlier leader proposed.
pub(crate) fn check_epoch(state: &ClusterState, epoch: Epoch) -> Result<(), Refusal> {
    if epoch == state.epoch { Ok(()) } else { Err(Refusal::OldEpoch { proposed: epoch, current: state.epoch }) }
}

/// The member, if there is one.
pub(crate) fn member(state: &ClusterState, node: NodeId) -> Result<&Member, Refusal> {
    state.members.get(&node).ok_or(Refusal::UnknownNode(node))
}

/// The member, if `incarnation` is its current one and not dead.
pub(crate) fn member_in(state: &ClusterState, node: NodeId, incarnation: Incarnation) -> Result<&Member, Refusal> {
    let member = member(state, node)?;
    if member.dead.contains(&incarnation) {
        return Err(Refusal::DeadIncarnation(member.name.to_string()));
    }
    if member.incarnation != incarnation {
        return Err(Refusal::OtherIncarnation {
            node: member.name.to_string(),
            proposed: incarnation,
            current: member.incarnation,
        });
    }
    Ok(member)
}

/// Must the unit never run twice? One that left the configuration counts as exclusive: nobody knows any more.
pub(crate) fn is_exclusive(config: &ClusterConfig, unit: &UnitName) -> bool {
    config.members_of(unit).is_empty() || config.is_exclusive(unit)
}

/// What the unit can damage; everything, if it left the configuration.
pub fn domains(config: &ClusterConfig, unit: &UnitName) -> BTreeSet<Domain> {
    if config.members_of(unit).is_empty() { everything() } else { config.domains(unit) }
}

fn everything() -> BTreeSet<Domain> {
    BTreeSet::from([Domain::Storage, Domain::Network])
}

/// The condition of a member as a word.
pub(crate) fn member_state_text(state: MemberState) -> &'static str {
    match state {
        MemberState::Absent => "absent",
        MemberState::Online => "online",
        MemberState::Left => "left",
        MemberState::Condemned => "condemned",
        MemberState::Fenced => "fenced",
    }
}

/// The condition of a resource as a word.
pub(crate) fn resource_state_text(state: ResourceState) -> &'static str {
    match state {
        ResourceState::Unknown => "unknown",
        ResourceState::Stopped => "stopped",
        ResourceState::Running => "running",
        ResourceState::Failed => "failed",
        ResourceState::Blocked => "blocked",
    }
}

fn holder_state_text(state: &HolderState) -> &'static str {
    match state {
        HolderState::Held => "not being released",
        HolderState::Releasing => "being released",
        HolderState::Blocked { .. } => "blocked",
    }
}

/// A new leader begins. It may be a node whose new incarnation has not joined yet (cold start), but never one that
/// is condemned or dead.
pub(crate) fn coordinator(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    node: NodeId,
    incarnation: Incarnation,
    term: Term,
) -> Result<(), Refusal> {
    let member = member(state, node)?;
    let name = member.name.clone();
    if member.dead.contains(&incarnation) {
        return Err(Refusal::DeadIncarnation(name.to_string()));
    }
    if member.incarnation == incarnation && member.state == MemberState::Condemned {
        return Err(Refusal::Condemned(name.to_string()));
    }
    if term < state.term || (term == state.term && state.epoch != Epoch(0) && node != state.coordinator) {
        return Err(Refusal::OldTerm { proposed: term, current: state.term });
    }
    state.epoch = Epoch(context.index.0);
    state.coordinator = node;
    state.term = term;
    context.note("leads", name.as_str(), format!("{name} was elected in term {term}"));
    Ok(())
}

/// Gives a unit to a node.
pub(crate) fn grant(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    unit: &UnitName,
    node: NodeId,
    incarnation: Incarnation,
    reason: &str,
) -> Result<(), Refusal> {
    let resources: Vec<&ResourceName> = state.config.members_of(unit);
    if resources.is_empty() {
        return Err(Refusal::UnknownUnit(unit.clone()));
    }
    let target = member_in(state, node, incarnation)?;
    let name = target.name.to_string();
    match target.role {
        NodeRole::Member => {}
        NodeRole::Witness => return Err(Refusal::Witness(name)),
    }
    match target.state {
        MemberState::Online => {}
        MemberState::Condemned => return Err(Refusal::Condemned(name)),
        MemberState::Absent | MemberState::Left | MemberState::Fenced => {
            return Err(Refusal::NotOnline { node: name, state: member_state_text(target.state) });
        }
    }
    if is_in_maintenance(state, node) {
        return Err(Refusal::Maintenance(name));
    }
    if let Some(holder) = state.holders.get(unit)
        && !context.bugs.has(Bug::GrantWithoutRelease)
    {
        return Err(Refusal::Held { unit: unit.clone(), node: state.name_of(holder.node) });
    }
    if !state.config.domains(unit).is_subset(&state.config.fence_cover(&target.name)) {
        return Err(Refusal::NotCovered { unit: unit.clone(), node: name });
    }
    let is_exclusive = state.config.is_exclusive(unit);
    let asks_all =
        is_exclusive && !context.bugs.has(Bug::GrantWithoutRelease) && !context.bugs.has(Bug::ElsewhereUnasked);
    for (other, member) in &state.members {
        if *other != node && !asks_all {
            continue;
        }
        for resource in &resources {
            if let Some(known) = state.may_run(unit, resource, *other) {
                return Err(Refusal::NotStopped {
                    resource: (*resource).clone(),
                    node: member.name.to_string(),
                    state: resource_state_text(known),
                });
            }
        }
    }
    let holder = Holder {
        node,
        incarnation,
        grant: GrantId(context.index.0),
        state: HolderState::Held,
        since: context.at,
        reason: reason.to_owned(),
    };
    state.holders.insert(unit.clone(), holder);
    context.note("granted", unit.as_str(), format!("to {name}: {reason}"));
    Ok(())
}

/// The unit is to leave its holder. What was known to be stopped becomes unknown again: a start may be under way
/// that nobody has reported, so that only an operation later than all that were seen proves the stop.
pub(crate) fn begin_release(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    unit: &UnitName,
    grant: GrantId,
    reason: &str,
) -> Result<(), Refusal> {
    let holder = held_under(state, unit, grant)?;
    match holder.state {
        HolderState::Held => {}
        HolderState::Releasing | HolderState::Blocked { .. } => {
            return Err(Refusal::HolderState { unit: unit.clone(), state: holder_state_text(&holder.state) });
        }
    }
    let node = holder.node;
    let resources = resources_to_stop(state, unit, node);
    for resource in resources {
        if let Some(known) = state.known.get_mut(&resource).and_then(|nodes| nodes.get_mut(&node))
            && known.state == ResourceState::Stopped
        {
            known.state = ResourceState::Unknown;
            known.since = context.at;
            known.reason = "a stop must confirm that nothing was started meanwhile".to_owned();
        }
    }
    let name = state.name_of(node);
    if let Some(holder) = state.holders.get_mut(unit) {
        holder.state = HolderState::Releasing;
        holder.since = context.at;
        holder.reason = reason.to_owned();
    }
    context.note("releasing", unit.as_str(), format!("from {name}: {reason}"));
    Ok(())
}

/// The unit has stopped where it was held.
pub(crate) fn release(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    unit: &UnitName,
    node: NodeId,
    incarnation: Incarnation,
    grant: GrantId,
) -> Result<(), Refusal> {
    let holder = held_under(state, unit, grant)?;
    if (holder.node, holder.incarnation) != (node, incarnation) {
        return Err(Refusal::OtherGrant { unit: unit.clone(), grant });
    }
    match holder.state {
        HolderState::Releasing => {}
        HolderState::Held | HolderState::Blocked { .. } => {
            return Err(Refusal::HolderState { unit: unit.clone(), state: holder_state_text(&holder.state) });
        }
    }
    let name = member_in(state, node, incarnation)?.name.to_string();
    for resource in resources_to_stop(state, unit, node) {
        let known = state.known_state(&resource, node);
        if known != ResourceState::Stopped {
            return Err(Refusal::NotStopped { resource, node: name, state: resource_state_text(known) });
        }
    }
    state.holders.remove(unit);
    prove_free(state, unit, grant);
    forget_removed(state);
    context.note("released", unit.as_str(), format!("by {name}: everything of it has stopped"));
    Ok(())
}

/// The holder cannot stop the unit. A best-effort unit is let go (from feature level 2 on): nobody is fenced for it, and a
/// duplicate of it is tolerable. What does not stop stays known as that, and keeps the unit from this node.
pub(crate) fn block(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    unit: &UnitName,
    grant: GrantId,
    why: &str,
) -> Result<(), Refusal> {
    let holder = held_under(state, unit, grant)?;
    match holder.state {
        HolderState::Held | HolderState::Releasing => {}
        HolderState::Blocked { .. } => {
            return Err(Refusal::HolderState { unit: unit.clone(), state: holder_state_text(&holder.state) });
        }
    }
    if is_let_go(state, unit) {
        let_go(state, context, unit, why);
        return Ok(());
    }
    let name = state.name_of(holder.node);
    if let Some(holder) = state.holders.get_mut(unit) {
        holder.state = HolderState::Blocked { why: why.to_owned() };
        holder.since = context.at;
    }
    context.note("blocked", unit.as_str(), format!("on {name}: {why}"));
    Ok(())
}

/// May the unit run elsewhere although its holder cannot stop it?
fn is_let_go(state: &ClusterState, unit: &UnitName) -> bool {
    state.level >= 2 && !state.config.is_exclusive(unit) && !state.config.members_of(unit).is_empty()
}

fn let_go(state: &mut ClusterState, context: &mut Context<'_>, unit: &UnitName, why: &str) {
    if let Some(holder) = state.holders.remove(unit) {
        let name = state.name_of(holder.node);
        context.note(
            "freed",
            unit.as_str(),
            format!("{name} cannot stop it ({why}), and a duplicate of it is tolerable"),
        );
    }
}

/// The name of a member that a verdict may be about: it is online in this life, and does not lead.
fn accused(state: &ClusterState, node: NodeId, incarnation: Incarnation) -> Result<String, Refusal> {
    let member = member_in(state, node, incarnation)?;
    let name = member.name.to_string();
    match member.state {
        MemberState::Online => {}
        MemberState::Condemned => return Err(Refusal::Condemned(name)),
        MemberState::Absent | MemberState::Left | MemberState::Fenced => {
            return Err(Refusal::NotOnline { node: name, state: member_state_text(member.state) });
        }
    }
    if node == state.coordinator {
        return Err(Refusal::Leads(name));
    }
    Ok(name)
}

/// The incarnation gets nothing any more and is to be fenced.
pub(crate) fn condemn(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    node: NodeId,
    incarnation: Incarnation,
    reason: &str,
    is_for_silence: bool,
) -> Result<(), Refusal> {
    let name = accused(state, node, incarnation)?;
    let is_remembered = !is_for_silence || state.level >= 3;
    if is_remembered && !context.bugs.has(Bug::StopCostForgotten) {
        remember_failed_stops(state, node);
    }
    set_state(state, context, node, MemberState::Condemned);
    state.gone.remove(&node);
    state.ends.insert(node, LifeEnd { incarnation, is_for_silence, ..LifeEnd::default() });
    context.note("condemned", &name, reason);
    undo_moves_to(state, context, node);
    free_by_verdict(state, context, node, "is condemned");
    Ok(())
}

/// Nobody has contact with the member: what it holds that may run twice is free. It stays a member; what it still runs
/// when it is back is stopped there, as whatever runs where it is not held.
pub(crate) fn lost(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    node: NodeId,
    incarnation: Incarnation,
    reason: &str,
) -> Result<(), Refusal> {
    let name = accused(state, node, incarnation)?;
    context.note("lost", &name, reason);
    undo_moves_to(state, context, node);
    free_by_verdict(state, context, node, "is lost");
    Ok(())
}

/// Frees what the node holds that may run twice.
fn free_by_verdict(state: &mut ClusterState, context: &mut Context<'_>, node: NodeId, how: &str) {
    let name = state.name_of(node);
    let ends_at_once = |config: &ClusterConfig, unit: &UnitName, bugs: model::Bugs| {
        !is_exclusive(config, unit) || bugs.has(Bug::NoWaitForFenceDone)
    };
    let freed: Vec<UnitName> = state
        .holders
        .iter()
        .filter(|(unit, holder)| holder.node == node && ends_at_once(&state.config, unit, context.bugs))
        .map(|(unit, _)| unit.clone())
        .collect();
    for unit in freed {
        state.holders.remove(&unit);
        state.proven_free.remove(&unit);
        context.note("freed", unit.as_str(), format!("{name} {how}, and a duplicate of it is tolerable"));
    }
}

/// All members that are online can read the entries of this level. A level that was reached is never left.
pub(crate) fn raise(state: &mut ClusterState, context: &mut Context<'_>, level: u8) -> Result<(), Refusal> {
    if level <= state.level {
        return Err(Refusal::LevelReached(state.level));
    }
    state.level = level;
    let name = state.config.name.clone();
    context.note("level", &name, format!("all members know feature level {level}"));
    let blocked = state.holders.iter().filter_map(|(unit, holder)| match &holder.state {
        HolderState::Blocked { why } if is_let_go(state, unit) => Some((unit.clone(), why.clone())),
        HolderState::Held | HolderState::Releasing | HolderState::Blocked { .. } => None,
    });
    for (unit, why) in blocked.collect::<Vec<_>>() {
        let_go(state, context, &unit, &why);
    }
    Ok(())
}

/// A device is about to be told to cut the condemned incarnation off: nobody spares it from here on.
pub(crate) fn fence_begun(state: &mut ClusterState, node: NodeId, incarnation: Incarnation) -> Result<(), Refusal> {
    let member = member_in(state, node, incarnation)?;
    match member.state {
        MemberState::Condemned => {}
        MemberState::Absent | MemberState::Online | MemberState::Left | MemberState::Fenced => {
            return Err(Refusal::NotCondemned(member.name.to_string()));
        }
    }
    end_of(state, node, incarnation).is_fence_begun = true;
    Ok(())
}

/// The incarnation is heard after all, and no device was told anything: it goes on as if nothing had been said. What
/// was freed by the verdict stays free.
pub(crate) fn spare(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    node: NodeId,
    incarnation: Incarnation,
) -> Result<(), Refusal> {
    let member = member_in(state, node, incarnation)?;
    let name = member.name.to_string();
    match member.state {
        MemberState::Condemned => {}
        MemberState::Absent | MemberState::Online | MemberState::Left | MemberState::Fenced => {
            return Err(Refusal::NotCondemned(name));
        }
    }
    let is_sparable = |end: &LifeEnd| {
        end.incarnation == incarnation && end.is_for_silence && !end.is_fence_begun && end.cut_off_by.is_empty()
    };
    if !state.ends.get(&node).is_some_and(is_sparable) {
        return Err(Refusal::FenceBegun(name));
    }
    state.ends.remove(&node);
    set_state(state, context, node, MemberState::Online);
    context.note("spared", &name, format!("{name} is heard again, and no fence device was told anything"));
    Ok(())
}

/// How the current life of a member ends.
fn end_of(state: &mut ClusterState, node: NodeId, incarnation: Incarnation) -> &mut LifeEnd {
    let end = state.ends.entry(node).or_default();
    if end.incarnation != incarnation {
        *end = LifeEnd { incarnation, ..LifeEnd::default() };
    }
    end
}

/// Remembers what the node could not stop, so that the same mistake does not cost one node after the other.
fn remember_failed_stops(state: &mut ClusterState, node: NodeId) {
    let units: Vec<UnitName> = blocked_on(state, node).collect();
    state.stop_cost_node.extend(units);
}

/// The units of which something could not be stopped, on any member.
pub(crate) fn blocked_units(state: &ClusterState) -> BTreeSet<UnitName> {
    state.members.keys().flat_map(|node| blocked_on(state, *node)).collect()
}

/// The units of which something could not be stopped on the node.
fn blocked_on(state: &ClusterState, node: NodeId) -> impl Iterator<Item = UnitName> {
    let held = state
        .holders
        .iter()
        .filter(move |(_, holder)| holder.node == node && matches!(holder.state, HolderState::Blocked { .. }));
    let blocked = state
        .config
        .resources
        .keys()
        .filter(move |resource| state.known_state(resource, node) == ResourceState::Blocked)
        .map(|resource| state.config.unit_of(resource));
    held.map(|(unit, _)| unit.clone()).chain(blocked)
}

/// The condemned incarnation is proven off, as far as `covers` reaches. It is dead once nothing is held by it any
/// more; until then it stays condemned, and a further proof may free the rest.
pub(crate) fn fence_done(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    node: NodeId,
    incarnation: Incarnation,
    evidence: &FenceEvidence,
    covers: &BTreeSet<Domain>,
) -> Result<(), Refusal> {
    let member = member_in(state, node, incarnation)?;
    let name = member.name.to_string();
    match member.state {
        MemberState::Condemned => {}
        MemberState::Absent | MemberState::Online | MemberState::Left | MemberState::Fenced => {
            return Err(Refusal::NotCondemned(name));
        }
    }
    let how = match &evidence.method {
        FenceMethod::Human => return Err(Refusal::NoEvidence(name)),
        FenceMethod::Device(devices) => {
            let own = state.config.nodes.get(&member.name).map_or(&[][..], |node| &node.fence[..]);
            let claimable: BTreeSet<Domain> = devices
                .iter()
                .filter(|device| own.contains(device))
                .filter_map(|device| state.config.fence_devices.get(device))
                .flat_map(|device| device.covers.iter().copied())
                .collect();
            if covers.is_empty() || !covers.is_subset(&claimable) {
                return Err(Refusal::NoEvidence(name));
            }
            let end = end_of(state, node, incarnation);
            let news = devices.iter().filter(|device| !end.cut_off_by.contains(device)).cloned().collect::<Vec<_>>();
            end.cut_off_by.extend(news);
            let names: Vec<&str> = devices.iter().map(|device| device.as_str()).collect();
            format!("{} reads off after {} ms: {}", names.join(", "), evidence.took_ms, evidence.output)
        }
    };
    context.note("fenced", &name, how);
    end_life(state, context, node, covers, "is proven off");
    Ok(())
}

/// A person attests that the incarnation is off: everything it held is free.
pub(crate) fn manual_confirm(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    node: NodeId,
    incarnation: Incarnation,
    reason: &str,
) -> Result<(), Refusal> {
    let member = member_in(state, node, incarnation)?;
    let name = member.name.to_string();
    match member.state {
        MemberState::Online | MemberState::Condemned => {}
        MemberState::Absent | MemberState::Left | MemberState::Fenced => {
            return Err(Refusal::NotOnline { node: name, state: member_state_text(member.state) });
        }
    }
    if node == state.coordinator {
        return Err(Refusal::Leads(name));
    }
    if member.state == MemberState::Online {
        if state.level >= 3 {
            remember_failed_stops(state, node);
        }
        set_state(state, context, node, MemberState::Condemned);
        context.note("condemned", &name, reason);
        undo_moves_to(state, context, node);
    }
    state.gone.remove(&node);
    end_of(state, node, incarnation).is_fence_begun = true;
    context.note("confirmed-off", &name, reason);
    end_life(state, context, node, &everything(), "is confirmed off");
    Ok(())
}

/// Frees what the node holds as far as `covers` reaches; if nothing is left, its incarnation is dead.
fn end_life(state: &mut ClusterState, context: &mut Context<'_>, node: NodeId, covers: &BTreeSet<Domain>, how: &str) {
    free_holders(state, context, node, Some(covers), how);
    if state.holders.values().all(|holder| holder.node != node) {
        set_state(state, context, node, MemberState::Fenced);
        bury(state, node);
    }
}

/// Frees what the node holds: all of it, or only what `covers` protects.
pub(crate) fn free_holders(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    node: NodeId,
    covers: Option<&BTreeSet<Domain>>,
    how: &str,
) {
    let name = state.name_of(node);
    let freed: Vec<(UnitName, GrantId)> = state
        .holders
        .iter()
        .filter(|(_, holder)| holder.node == node)
        .filter(|(unit, _)| covers.is_none_or(|covers| domains(&state.config, unit).is_subset(covers)))
        .map(|(unit, holder)| (unit.clone(), holder.grant))
        .collect();
    for (unit, grant) in freed {
        state.holders.remove(&unit);
        prove_free(state, &unit, grant);
        context.note("freed", unit.as_str(), format!("{name} {how}"));
    }
}

/// The member's current incarnation is dead for ever, and with it everything that was known of it.
pub(crate) fn bury(state: &mut ClusterState, node: NodeId) {
    if let Some(member) = state.members.get_mut(&node)
        && member.incarnation != Incarnation(0)
        && !member.dead.contains(&member.incarnation)
    {
        if member.dead.len() == DEAD_MAX {
            member.dead.pop_front();
        }
        member.dead.push_back(member.incarnation);
    }
    for nodes in state.known.values_mut() {
        nodes.remove(&node);
    }
    state.known.retain(|_, nodes| !nodes.is_empty());
}

/// Sets the agreed condition of a member.
pub(crate) fn set_state(state: &mut ClusterState, context: &Context<'_>, node: NodeId, to: MemberState) {
    if let Some(member) = state.members.get_mut(&node) {
        member.state = to;
        member.since = context.at;
    }
}

fn prove_free(state: &mut ClusterState, unit: &UnitName, grant: GrantId) {
    if !state.config.members_of(unit).is_empty() {
        state.proven_free.insert(unit.clone(), grant);
    }
}

fn held_under<'a>(state: &'a ClusterState, unit: &UnitName, grant: GrantId) -> Result<&'a Holder, Refusal> {
    state
        .holders
        .get(unit)
        .filter(|holder| holder.grant == grant)
        .ok_or_else(|| Refusal::OtherGrant { unit: unit.clone(), grant })
}

/// What must have stopped on `node` before the unit leaves it: its resources, and those which left the configuration
/// while they ran there, since nobody knows any more which unit they belonged to.
pub(crate) fn resources_to_stop(state: &ClusterState, unit: &UnitName, node: NodeId) -> Vec<ResourceName> {
    let current = state.members.get(&node).map(|member| member.incarnation);
    let is_here = |nodes: &std::collections::BTreeMap<NodeId, Known>| {
        nodes.get(&node).is_some_and(|known| Some(known.incarnation) == current)
    };
    let removed = state
        .known
        .iter()
        .filter(|(resource, nodes)| !state.config.resources.contains_key(*resource) && is_here(nodes))
        .map(|(resource, _)| resource);
    state.config.members_of(unit).into_iter().chain(removed).cloned().collect()
}
