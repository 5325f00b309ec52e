//! What runs where? What the executors saw, ordered by the operations that found it out.
//!
//! Operations are ordered for ever, so a late report never overwrites a newer one. After a release has begun, only a
//! newer operation speaks of what was stopped before (see `kernel::begin_release`).
//!
//! In: observations of one node. Out: what is known, failures counted, moves completed.
//! Not here: what follows from a failure (`scheduler`).

use std::time::Duration;

use model::{
    ActionKind, ClusterState, Failures, HolderState, Incarnation, Known, MemberState, NodeId, ResourceName,
    ResourceState, Staying, UnitName, WallTime,
};

use crate::apply::Context;
use crate::kernel::{member_in, member_state_text, resources_to_stop};
use crate::{Failure, Observation, Refusal};

/// After this long without a failure, counting starts anew.
const FAILURES_FORGOTTEN_MS: u64 = 600_000;

/// Takes in what the node's executor reported.
pub(crate) fn observed(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    node: NodeId,
    incarnation: Incarnation,
    observations: &[Observation],
) -> Result<(), Refusal> {
    let member = member_in(state, node, incarnation)?;
    match member.state {
        MemberState::Online | MemberState::Condemned => {}
        MemberState::Absent | MemberState::Left | MemberState::Fenced => {
            return Err(Refusal::NotOnline { node: member.name.to_string(), state: member_state_text(member.state) });
        }
    }
    for observation in observations {
        let is_from_the_future = observation.op.epoch > state.epoch;
        if !is_from_the_future && is_news(state, node, incarnation, observation) {
            take_in(state, context, node, incarnation, observation);
        }
    }
    unblock(state, context, node);
    forget_removed(state);
    finish_moves(state, context);
    Ok(())
}

/// What could not be stopped has stopped after all: the units there are held as before.
fn unblock(state: &mut ClusterState, context: &mut Context<'_>, node: NodeId) {
    let is_open = |unit: &UnitName| {
        resources_to_stop(state, unit, node).iter().all(|r| state.known_state(r, node) != ResourceState::Blocked)
    };
    let open: Vec<UnitName> = state
        .holders
        .iter()
        .filter(|(_, holder)| holder.node == node && matches!(holder.state, HolderState::Blocked { .. }))
        .map(|(unit, _)| unit.clone())
        .filter(is_open)
        .collect();
    let name = state.name_of(node);
    for unit in open {
        if let Some(holder) = state.holders.get_mut(&unit) {
            holder.state = HolderState::Held;
            holder.since = context.at;
            context.note("unblocked", unit.as_str(), format!("on {name}: what could not be stopped has stopped"));
        }
    }
}

/// Does it say more than what is known already?
fn is_news(state: &ClusterState, node: NodeId, incarnation: Incarnation, observation: &Observation) -> bool {
    let known = state.known.get(&observation.resource).and_then(|nodes| nodes.get(&node));
    match known.filter(|known| known.incarnation == incarnation) {
        Some(known) if known.state == ResourceState::Unknown => observation.op > known.op,
        // Of one operation, its result comes first and what changed afterwards follows: a late result says nothing new.
        Some(known) if known.op == observation.op && known.is_change != observation.is_change => observation.is_change,
        Some(known) if known.op == observation.op => {
            (observation.state, observation.digest) != (known.state, known.digest)
        }
        Some(known) => observation.op > known.op,
        None => {
            state.config.resources.contains_key(&observation.resource) || observation.state != ResourceState::Stopped
        }
    }
}

fn take_in(
    state: &mut ClusterState,
    context: &mut Context<'_>,
    node: NodeId,
    incarnation: Incarnation,
    observation: &Observation,
) {
    let name = state.name_of(node);
    let resource = &observation.resource;
    let unit = state.config.unit_of(resource);
    let is_holder = state.holders.get(&unit).is_some_and(|holder| holder.node == node);
    let before = state.known_state(resource, node);
    let since = match state.known.get(resource).and_then(|nodes| nodes.get(&node)) {
        Some(known) if known.incarnation == incarnation && known.state == observation.state => known.since,
        Some(_) | None => context.at,
    };
    let known = Known {
        state: observation.state,
        incarnation,
        op: observation.op,
        since,
        reason: observation.reason.clone(),
        digest: observation.digest,
        is_change: observation.is_change,
    };
    state.known.entry(resource.clone()).or_default().insert(node, known);
    if let Some(failure) = &observation.failure
        && state.config.resources.contains_key(resource)
    {
        count(state, resource, node, failure, context.at);
    }
    let told = |what: &str| {
        if observation.reason.is_empty() { what.to_owned() } else { format!("{what}: {}", observation.reason) }
    };
    match (before, observation.state) {
        (ResourceState::Unknown, ResourceState::Stopped) | (_, ResourceState::Unknown) => {}
        (before, now) if before == now => {}
        (_, ResourceState::Running) if !is_holder => {
            context.note("orphan", resource.as_str(), told(&format!("runs on {name}, where it must not")));
        }
        (_, ResourceState::Running) => context.note("running", resource.as_str(), told(&format!("on {name}"))),
        (_, ResourceState::Stopped) => context.note("stopped", resource.as_str(), told(&format!("on {name}"))),
        (_, ResourceState::Failed) => context.note("failed", resource.as_str(), told(&format!("on {name}"))),
        (_, ResourceState::Blocked) => context.note("stop-failed", resource.as_str(), told(&format!("on {name}"))),
    }
}

fn count(state: &mut ClusterState, resource: &ResourceName, node: NodeId, failure: &Failure, at: WallTime) {
    let configured = state.config.resources.get(resource).and_then(|resource| resource.failures_forgotten_after);
    let forgotten_ms = match configured {
        None => FAILURES_FORGOTTEN_MS,
        Some(Duration::ZERO) => u64::MAX,
        Some(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
    };
    let failures: &mut Failures = state.failures.entry(resource.clone()).or_default().entry(node).or_default();
    // A stamp that lies as far in the future was written by a clock that was wrong.
    if at.0.abs_diff(failures.last_at.0) > forgotten_ms {
        failures.count = 0;
    }
    failures.count = failures.count.saturating_add(1);
    failures.last_at = at;
    failures.last_reason = failure.reason.clone();
    failures.is_permanent |= failure.is_permanent;
}

/// From this feature level on, what runs stays for any points unless the file says otherwise. Members of an older build end
/// a move by the former rule, and all must end it at the same entry.
const STAYING_LEVEL: u8 = 4;

/// A move is over once the whole unit runs where it was sent. Where the configuration would send it straight back
/// (`failback`, or a preferred node with more points than `stickiness`), the wish stays until an operator takes it back.
fn finish_moves(state: &mut ClusterState, context: &mut Context<'_>) {
    let done: Vec<(String, UnitName, NodeId)> = state
        .actions
        .iter()
        .filter_map(|(key, action)| match &action.kind {
            ActionKind::Move(unit, node) => Some((key.clone(), unit.clone(), *node)),
            ActionKind::Standby(_)
            | ActionKind::NodeMaintenance(_)
            | ActionKind::ClusterMaintenance
            | ActionKind::Stop(_)
            | ActionKind::Leave(_)
            | ActionKind::ShutDown => None,
        })
        .filter(|(_, unit, node)| runs_on(state, unit, *node) && !returns_by_itself(state, unit))
        .collect();
    for (key, unit, node) in done {
        state.actions.remove(&key);
        context.note("moved", unit.as_str(), format!("to {}, as asked", state.name_of(node)));
    }
}

fn returns_by_itself(state: &ClusterState, unit: &UnitName) -> bool {
    if state.level < STAYING_LEVEL {
        let units = state.config.units();
        return units.get(unit).is_some_and(|unit| unit.placement.failback || unit.placement.stickiness == 0);
    }
    state.config.units().get(unit).is_some_and(|unit| match unit.placement.staying() {
        Staying::ForNothing => true,
        Staying::For(points) => points == 0 || unit.placement.preferred().values().any(|other| *other > points),
        Staying::Firm => false,
    })
}

/// Does the node hold the unit, and does everything of it run there?
pub(crate) fn runs_on(state: &ClusterState, unit: &UnitName, node: NodeId) -> bool {
    state.holders.get(unit).is_some_and(|holder| holder.node == node)
        && state
            .config
            .members_of(unit)
            .iter()
            .all(|resource| state.known_state(resource, node) == ResourceState::Running)
}

/// Forgets what is known of resources that left the configuration, once they have stopped and nothing that left the
/// configuration is still held there.
pub(crate) fn forget_removed(state: &mut ClusterState) {
    if state.known.keys().all(|resource| state.config.resources.contains_key(resource)) {
        return;
    }
    let is_awaited = |node: NodeId| {
        state.holders.iter().any(|(unit, holder)| holder.node == node && state.config.members_of(unit).is_empty())
    };
    let awaited: Vec<NodeId> = state.members.keys().copied().filter(|node| is_awaited(*node)).collect();
    for (resource, nodes) in &mut state.known {
        if !state.config.resources.contains_key(resource) {
            nodes.retain(|node, known| known.state != ResourceState::Stopped || awaited.contains(node));
        }
    }
    state.known.retain(|_, nodes| !nodes.is_empty());
}
