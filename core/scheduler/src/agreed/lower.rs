//! What is known of a running cluster, in the words of a situation.
//!
//! A resource counts as active where its unit is held, and nowhere else: what runs without a grant is not part of what
//! is decided, it is stopped (`steps.rs`). A unit may go only where it is certain that nobody else runs it; everything
//! that speaks against a node becomes a location that forbids it.
//!
//! Not here: what the cluster file says (`lower.rs` beside this folder).

use std::collections::{BTreeMap, BTreeSet};

use model::situation::{
    Definition, Discovery, Expected, Join, Location, NodeFacts, NodeHistory, NodeSeen, OperationRecord, Resource,
    ResourceHistory, ResourceKind, Role, Score, Situation,
};
use model::{
    ActionKind, Bug, Bugs, ClusterState, Holder, NodeId, NodeName, NodeRole, ResourceName, ResourceState, Unit,
    UnitName,
};

use super::standing::{Node, blocked_by, forbidden, holder_of, is_free_elsewhere, is_outdated, kept, sent_to};
use crate::Live;
use crate::lower::situation_of;

/// Milliseconds of the check whose failure stands for any failure.
const ANY_CHECK_MS: u32 = 10_000;

/// The situation of a running cluster.
pub(super) fn lower(
    state: &ClusterState,
    nodes: &BTreeMap<NodeId, Node<'_>>,
    units: &BTreeMap<UnitName, Unit<'_>>,
    live: &Live,
) -> Situation {
    let mut situation = situation_of(&state.config);
    // What is unknown is probed under the kernel's rules, and what may run elsewhere waits for its own node's end alone.
    situation.options.probes_at_start = false;
    situation.options.has_fence_device = true;
    situation.options.fences_unseen = false;
    situation.now = i64::try_from(live.now.0 / 1000).unwrap_or(i64::MAX);
    let configured = std::mem::take(&mut situation.nodes);
    let holders: BTreeSet<NodeId> =
        units.keys().filter_map(|unit| holder_of(state, nodes, unit, live.bugs)).map(|holder| holder.node).collect();
    situation.nodes = nodes
        .values()
        .filter(|node| node.member.role == NodeRole::Member)
        .map(|node| {
            let known = configured.iter().find(|facts| facts.name == node.member.name).cloned();
            facts(node, known.unwrap_or_default(), holders.contains(&node.id))
        })
        .collect();
    let agents = agents(&situation.resources);
    let kept = kept(state, nodes, units, live.bugs);
    let mut history: BTreeMap<NodeId, Vec<ResourceHistory>> = nodes.keys().map(|id| (*id, Vec::new())).collect();
    for resource in &mut situation.resources {
        let name = UnitName(resource.name.0.clone());
        let Some(unit) = units.get(&name) else { continue };
        let is_stopped = state.action(&ActionKind::Stop(name.clone())).is_some();
        let holder = holder_of(state, nodes, &name, live.bugs);
        let is_untouchable = holder.is_some_and(|holder| is_untouchable(state, nodes, unit, holder));
        let held_on = holder.and_then(|holder| nodes.get(&holder.node)).map(|node| &node.member.name);
        treat(resource, is_stopped, is_untouchable || kept.contains_key(&name), held_on);
    }
    for (name, unit) in units {
        let holder = holder_of(state, nodes, name, live.bugs);
        situation.locations.extend(locations(state, nodes, name, unit, holder, live.bugs));
        let Some(holder) = holder else { continue };
        for resource in &unit.members {
            if let Some(there) = history.get_mut(&holder.node) {
                there.push(report(state, resource, holder, agents.get(*resource)));
            }
        }
    }
    situation.history = history
        .into_iter()
        .filter_map(|(id, resources)| Some(NodeHistory { node: nodes.get(&id)?.member.name.clone(), resources }))
        .collect();
    situation
}

/// A member as it stands. One that cannot be reached has to be fenced only if something may run there.
fn facts(node: &Node<'_>, configured: NodeFacts, may_run: bool) -> NodeFacts {
    let is_up = node.reach.is_ok();
    let is_lost = !is_up && may_run;
    NodeFacts {
        name: node.member.name.clone(),
        id: node.member.name.0.clone(),
        seen: Some(NodeSeen {
            is_member: Some(is_up),
            is_process_up: is_up,
            join: if is_up { Join::Member } else { Join::Down },
            expected: if is_up || is_lost { Expected::Member } else { Expected::Down },
            ..NodeSeen::default()
        }),
        is_standby: node.must_empty.is_some(),
        is_maintenance: node.is_in_maintenance,
        why: node.may_get.clone().err(),
        is_probed: true,
        ..configured
    }
}

/// Hands off: nobody can or may do anything about the unit where it is held.
fn is_untouchable(state: &ClusterState, nodes: &BTreeMap<NodeId, Node<'_>>, unit: &Unit<'_>, holder: &Holder) -> bool {
    blocked_by(state, unit, holder).is_some()
        || nodes.get(&holder.node).is_none_or(|node| node.reach.is_ok() && node.is_in_maintenance)
}

fn treat(resource: &mut Resource, is_stopped: bool, is_untouchable: bool, held_on: Option<&NodeName>) {
    resource.meta.held_on = held_on.cloned();
    if is_stopped {
        resource.meta.target_role = Some(Role::Stopped);
    }
    if is_untouchable {
        resource.meta.is_managed = false;
    }
    if let ResourceKind::Group(members) = &mut resource.kind {
        members.iter_mut().for_each(|member| treat(member, is_stopped, is_untouchable, held_on));
    }
}

/// What the state says about the unit and each node.
fn locations(
    state: &ClusterState,
    nodes: &BTreeMap<NodeId, Node<'_>>,
    name: &UnitName,
    unit: &Unit<'_>,
    holder: Option<&Holder>,
    bugs: Bugs,
) -> Vec<Location> {
    let location = |id: &str, why: String, node: &NodeName, score: Score| Location {
        id: format!("{id} {name} {node}"),
        resource: ResourceName(name.0.clone()),
        scores: vec![(node.clone(), score)],
        role: None,
        discovery: Discovery::Always,
        why: Some(why),
    };
    let mut found = Vec::new();
    let uncertain = is_free_elsewhere(state, nodes, name, unit, holder.map(|holder| holder.node)).err();
    let uncertain = uncertain.filter(|_| !bugs.has(Bug::ElsewhereUnasked));
    for node in nodes.values().filter(|node| node.member.role == NodeRole::Member) {
        let is_held_here = holder.is_some_and(|holder| holder.node == node.id);
        let why = forbidden(state, node, name, unit, holder).err();
        let why = why.or_else(|| uncertain.clone().filter(|_| !is_held_here));
        if let Some(why) = why {
            found.push(location("state", why, &node.member.name, Score::MUST_NOT));
        }
    }
    let name_of = |id: NodeId| nodes.get(&id).map(|node| &node.member.name);
    if let Some((to, asked)) = sent_to(state, name)
        && let Some(to) = name_of(to)
    {
        found.push(location("move", format!("was asked for by an operator{asked}"), to, Score::MUST));
    }
    // What has not started yet stays as willingly as what runs.
    let runs = |node: NodeId| unit.members.iter().any(|resource| may_be_active(state.known_state(resource, node)));
    if let Some(here) = holder.filter(|holder| !runs(holder.node)).and_then(|holder| name_of(holder.node)) {
        let points = Score::of(i64::from(unit.placement.points_for_staying()));
        found.push(location("hold", format!("holds {name}"), here, points));
    }
    found
}

fn may_be_active(known: ResourceState) -> bool {
    match known {
        ResourceState::Unknown | ResourceState::Running | ResourceState::Failed | ResourceState::Blocked => true,
        ResourceState::Stopped => false,
    }
}

/// What the node that holds a unit would report of one of its resources.
fn report(state: &ClusterState, name: &ResourceName, holder: &Holder, agent: Option<&Agent>) -> ResourceHistory {
    let known = state.known_state(name, holder.node);
    let record = |operation: &str, interval_ms: u32, call_id: i64, rc: i32| OperationRecord {
        id: format!("{name}_{operation}_{interval_ms}"),
        operation: operation.to_owned(),
        interval_ms,
        call_id,
        rc,
        rc_expected: Some(rc),
        ..OperationRecord::default()
    };
    let operations = match known {
        ResourceState::Stopped => vec![record("stop", 0, 1, 0)],
        ResourceState::Unknown | ResourceState::Running | ResourceState::Blocked => {
            let definition = if is_outdated(state, name, holder.node) { Definition::Changed } else { Definition::Same };
            let start = OperationRecord { definition, ..record("start", 0, 1, 0) };
            let checks = agent.into_iter().flat_map(|agent| &agent.checks_ms);
            std::iter::once(start).chain(checks.map(|every_ms| record("monitor", *every_ms, 2, 0))).collect()
        }
        ResourceState::Failed => vec![
            record("start", 0, 1, 0),
            OperationRecord {
                id: format!("{name}_last_failure_0"),
                rc_expected: Some(0),
                ..record("monitor", ANY_CHECK_MS, 2, 1)
            },
        ],
    };
    ResourceHistory { name: name.0.clone(), operations, ..agent.map(|agent| agent.history.clone()).unwrap_or_default() }
}

/// The agent of a resource.
struct Agent {
    /// As a history bears it.
    history: ResourceHistory,
    /// Milliseconds between repeated checks.
    checks_ms: Vec<u32>,
}

/// The agent of every resource.
fn agents(resources: &[Resource]) -> BTreeMap<ResourceName, Agent> {
    let mut found = BTreeMap::new();
    for resource in resources {
        match &resource.kind {
            ResourceKind::Primitive(primitive) => {
                let (class, provider, agent) =
                    (primitive.class.clone(), primitive.provider.clone(), primitive.agent.clone());
                let history = ResourceHistory { class, provider, agent, ..ResourceHistory::default() };
                let every = primitive.operations.iter().map(|operation| operation.interval_ms);
                let agent = Agent { history, checks_ms: every.filter(|every| *every > 0).collect() };
                found.insert(resource.name.clone(), agent);
            }
            ResourceKind::Group(members) => found.extend(agents(members)),
            ResourceKind::Clone(_) | ResourceKind::Bundle(_) => {}
        }
    }
    found
}
