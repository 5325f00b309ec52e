//! What does a cluster file say in the words of a situation?
//!
//! `prefer` becomes scores (100, 50, 33, …), stickiness stays what it is, `failback` sets it to nothing, `after` becomes
//! an order of starts that restarts nothing and the reverse order where both stop, a group a group. Every node is up, and nothing runs yet: what a
//! rehearsal begins with.
//!
//! Not here: what is known of a running cluster.

use std::collections::BTreeMap;

use model::situation::{
    Expected, Join, Location, Meta, MultipleActive, NoQuorum, NodeFacts, NodeSeen, Operation, Options, Order,
    OrderAction, OrderKind, OrderSide, Primitive, Requires, Resource, ResourceKind, Role, Score, Situation,
};
use model::{ClusterConfig, NodeName, NodeRole, Placement, ResourceConfig, ResourceName, UnitName};

/// Points of the first of `prefer`; the one at position p (from 0) gets this divided by p + 1.
const PREFERRED: i64 = 100;

/// A cluster in which every node is up and nothing runs.
pub fn situation_of(config: &ClusterConfig) -> Situation {
    let members: Vec<&NodeName> =
        config.nodes.iter().filter(|(_, node)| node.role == NodeRole::Member).map(|(name, _)| name).collect();
    let grouped: BTreeMap<&ResourceName, ()> =
        config.groups.values().flat_map(|group| &group.members).map(|name| (name, ())).collect();
    let mut resources: Vec<Resource> = Vec::new();
    for (name, group) in &config.groups {
        let members = group.members.iter().filter_map(|member| {
            let resource = config.resources.get(member)?;
            Some(primitive(config, member, resource, &group.placement))
        });
        resources.push(Resource {
            name: ResourceName(name.0.clone()),
            meta: meta(&group.placement, u32::MAX, Requires::Exclusion),
            kind: ResourceKind::Group(members.collect()),
        });
    }
    for (name, resource) in config.resources.iter().filter(|(name, _)| !grouped.contains_key(name)) {
        resources.push(primitive(config, name, resource, &resource.placement));
    }
    let units = config.units();
    let mut locations = Vec::new();
    let mut orders = Vec::new();
    for (unit, it) in &units {
        locations.extend(preferences(unit, it.placement));
        locations.extend(uncovered(config, unit, &members));
        for earlier in &it.placement.after {
            let (earlier, later) = (ResourceName(earlier.0.clone()), ResourceName(unit.0.clone()));
            orders.push(Order {
                id: format!("{later} after {earlier}"),
                first: OrderSide::One(earlier.clone()),
                then: later.clone(),
                first_action: OrderAction::Start,
                then_action: OrderAction::Start,
                kind: OrderKind::Mandatory,
                is_symmetric: false,
            });
            orders.push(Order {
                id: format!("{earlier} stops after {later}"),
                first: OrderSide::One(later),
                then: earlier,
                first_action: OrderAction::Stop,
                then_action: OrderAction::Stop,
                kind: OrderKind::Optional,
                is_symmetric: false,
            });
        }
    }
    Situation {
        options: Options {
            has_fence_device: !config.fence_devices.is_empty(),
            // What runs stays; nothing else starts without a majority.
            no_quorum: NoQuorum::Freeze,
            ..Options::default()
        },
        nodes: members.iter().map(|name| node(name)).collect(),
        resources,
        locations,
        orders,
        ..Situation::default()
    }
}

fn node(name: &NodeName) -> NodeFacts {
    NodeFacts {
        name: name.clone(),
        id: name.0.clone(),
        seen: Some(NodeSeen {
            is_member: Some(true),
            is_process_up: true,
            join: Join::Member,
            expected: Expected::Member,
            ..NodeSeen::default()
        }),
        is_probed: true,
        ..NodeFacts::default()
    }
}

fn preferences(unit: &UnitName, placement: &Placement) -> Option<Location> {
    let scores: Vec<(NodeName, Score)> =
        placement.prefer.iter().zip(1_i64..).map(|(node, at)| (node.clone(), Score::of(PREFERRED / at))).collect();
    (!scores.is_empty()).then(|| Location {
        id: format!("prefer of {unit}"),
        resource: ResourceName(unit.0.clone()),
        scores,
        role: None,
        discovery: model::situation::Discovery::Always,
        why: Some("is preferred".to_owned()),
    })
}

/// An exclusive unit runs only where fencing covers what it could damage.
fn uncovered(config: &ClusterConfig, unit: &UnitName, members: &[&NodeName]) -> Option<Location> {
    let domains = config.domains(unit);
    let scores: Vec<(NodeName, Score)> = members
        .iter()
        .filter(|node| !domains.is_subset(&config.fence_cover(node)))
        .map(|node| ((*node).clone(), Score::MUST_NOT))
        .collect();
    (!scores.is_empty()).then(|| Location {
        id: format!("fence cover of {unit}"),
        resource: ResourceName(unit.0.clone()),
        scores,
        role: None,
        discovery: model::situation::Discovery::Always,
        why: Some("is not covered by fencing for all that it uses".to_owned()),
    })
}

fn primitive(
    config: &ClusterConfig,
    name: &ResourceName,
    resource: &ResourceConfig,
    placement: &Placement,
) -> Resource {
    let ms = |time: std::time::Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let is_exclusive = config.is_exclusive(&config.unit_of(name));
    let every = ms(resource.monitor.every);
    let operation = |name: &str, interval_ms: u32, timeout_ms: u32| Operation {
        id: format!("{name}-{interval_ms}"),
        name: name.to_owned(),
        interval_ms,
        timeout_ms,
        role: None,
        on_fail: None,
        is_enabled: true,
    };
    let mut operations =
        vec![operation("start", 0, ms(resource.timeouts.start)), operation("stop", 0, ms(resource.timeouts.stop))];
    if every > 0 {
        operations.push(operation("monitor", every, ms(resource.monitor.timeout)));
    }
    let (class, agent) = match resource.agent.to_string().split_once(':') {
        Some((class, agent)) => (class.to_owned(), agent.to_owned()),
        None => (String::new(), resource.agent.to_string()),
    };
    let requires = if is_exclusive { Requires::Exclusion } else { Requires::Quorum };
    Resource {
        name: name.clone(),
        meta: meta(placement, resource.failures_max, requires),
        kind: ResourceKind::Primitive(Box::new(Primitive {
            class,
            provider: None,
            agent,
            parameters: BTreeMap::new(),
            parameters_on: BTreeMap::new(),
            operations,
            default_timeouts_ms: BTreeMap::new(),
            utilization: BTreeMap::new(),
            connects: None,
            reconnect_s: 0,
            holds: None,
            unfences: false,
            all_digest: None,
        })),
    }
}

fn meta(placement: &Placement, failures_max: u32, requires: Requires) -> Meta {
    let stickiness = if placement.failback { 0 } else { i64::from(placement.stickiness) };
    Meta {
        priority: placement.priority,
        is_managed: true,
        is_maintenance: false,
        target_role: (!placement.enabled).then_some(Role::Stopped),
        stickiness: Score::of(stickiness),
        is_critical: true,
        failures_max: Some(failures_max.max(1)),
        failure_timeout_s: None,
        requires,
        multiple_active: MultipleActive::StopStart,
        allows_migration: false,
        allows_unhealthy: false,
        container: None,
        is_ordered: true,
        is_collocated: true,
        clone_max: None,
        clone_node_max: 1,
        clone_min: 0,
        is_unique: false,
        is_interleaved: false,
        notifies: false,
        is_promotable: false,
        promoted_max: 0,
        promoted_node_max: 0,
        uses_host_attributes: false,
    }
}
