//! What does a cluster file say in the words of a situation?
//!
//! `prefer` becomes scores (100, 50, 33, … for a list), `avoid` and `only` bans. Points only rank nodes; what runs stays
//! firmly, unless `stickiness` says how many points move it or `failback` lets it go for any. `with` and `apart` become colocations in which the other chooses first, a group a group, `copies`
//! a clone under the name of the unit. `after` becomes an order of starts that restarts nothing and the reverse order
//! where both stop; `"running"` an order in both directions, `"if-starting"` one that only counts where both happen.
//! Every node is up, this site has every ticket, every copy can lead, and nothing runs yet: what a rehearsal begins with.
//!
//! Not here: what is known of a running cluster.

use std::collections::{BTreeMap, BTreeSet};

use model::situation::{
    Colocation, Discovery, FenceHow, Location, Meta, NoQuorum, NodeFacts, Operation, Options, Order, OrderAction,
    OrderKind, OrderSide, Primitive, Requires, Resource, ResourceKind, Role, Score, Situation, Strategy, Ticket,
    TicketLoss, TicketRule,
};
use model::{
    AgentName, Binding, ClusterConfig, Copies, Leaning, NodeConfig, NodeName, NodeRole, OnLoss, ParameterValue,
    Placement, ResourceConfig, ResourceName, Sequence, Spread, Staying, Tie, Unit, UnitName, Weight,
};

/// The attribute of a node that is its name.
const NODE: &str = "#uname";

/// A cluster in which every node is up and nothing runs.
pub fn situation_of(config: &ClusterConfig) -> Situation {
    let members: Vec<&NodeName> =
        config.nodes.iter().filter(|(_, node)| node.role == NodeRole::Member).map(|(name, _)| name).collect();
    let units = config.units();
    let mut locations = Vec::new();
    let mut colocations = Vec::new();
    let mut orders = Vec::new();
    let mut ticket_rules = Vec::new();
    for (unit, it) in &units {
        let placement = it.placement;
        let mut preferred = placement.preferred();
        if placement.staying() == Staying::Firm {
            // Not even the most points call it away.
            preferred.values_mut().for_each(|points| *points = (*points).min(Score::MOST.value().unsigned_abs()));
        }
        locations.extend(locations_of(unit, None, &preferred, &placement.leaning, &members));
        locations.extend(uncovered(config, unit, &members));
        colocations.extend(colocations_of(unit, None, &placement.leaning));
        for (earlier, sequence) in placement.sequence_after() {
            orders.extend(orders_of(unit, OrderAction::Start, earlier, sequence));
        }
        if let Some(promotion) = placement.copies.as_ref().and_then(|copies| copies.promotion.as_ref()) {
            let preferred = promotion.leaning.prefer.iter().map(|(node, points)| (node, *points)).collect();
            let role = Some(Role::Promoted);
            locations.extend(locations_of(unit, role, &preferred, &promotion.leaning, &members));
            colocations.extend(colocations_of(unit, role, &promotion.leaning));
            for (earlier, sequence) in &promotion.after {
                orders.extend(orders_of(unit, OrderAction::Promote, earlier, *sequence));
            }
        }
        ticket_rules.extend(ticket_rule(unit, placement));
    }
    let granted = Ticket { is_granted: true, is_standby: false };
    Situation {
        options: Options {
            has_fence_device: true,
            // What runs stays; nothing else starts without a majority.
            no_quorum: NoQuorum::Freeze,
            points_only_rank: true,
            // A node is never rebooted to be fenced: it is switched off, and on again once that is proven.
            fence_action: FenceHow::Off,
            strategy: match config.effective_spread() {
                Spread::Even => Strategy::Default,
                Spread::Capacity => Strategy::Utilization,
                Spread::Room => Strategy::Balanced,
                Spread::Fill => Strategy::Minimal,
            },
            ..Options::default()
        },
        nodes: members.iter().filter_map(|name| Some(node(name, config.nodes.get(*name)?, &units, config))).collect(),
        resources: in_order_of_choice(config, &units)
            .into_iter()
            .filter_map(|name| Some(resource_of(config, &units, name, units.get(name)?)))
            .collect(),
        locations,
        colocations,
        orders,
        tickets: ticket_rules.iter().map(|rule: &TicketRule| (rule.ticket.clone(), granted)).collect(),
        ticket_rules,
        ..Situation::default()
    }
}

/// Those that choose first, then groups and single resources by name.
fn in_order_of_choice<'a>(config: &'a ClusterConfig, units: &'a BTreeMap<UnitName, Unit<'_>>) -> Vec<&'a UnitName> {
    let first: BTreeSet<&UnitName> = config.choose_first.iter().collect();
    let is_group = |unit: &UnitName| config.groups.contains_key(&model::GroupName(unit.0.clone()));
    let (groups, single): (Vec<&UnitName>, Vec<&UnitName>) =
        units.keys().filter(|unit| !first.contains(unit)).partition(|unit| is_group(unit));
    config.choose_first.iter().filter(|unit| units.contains_key(*unit)).chain(groups).chain(single).collect()
}

/// A unit as one resource: a primitive, a group, or a clone of either.
fn resource_of(
    config: &ClusterConfig,
    units: &BTreeMap<UnitName, Unit<'_>>,
    name: &UnitName,
    unit: &Unit<'_>,
) -> Resource {
    let placement = unit.placement;
    let members = unit.members.iter().filter_map(|member| {
        let resource = config.resources.get(*member)?;
        Some(primitive(config, member, resource, placement))
    });
    let mut members: Vec<Resource> = members.collect();
    let name = ResourceName(name.0.clone());
    let inner = match members.pop() {
        Some(single) if members.is_empty() && single.name == name => single,
        last => {
            members.extend(last);
            let meta = meta(placement, u32::MAX, None, Requires::Exclusion);
            Resource { name: name.clone(), meta, kind: ResourceKind::Group(members) }
        }
    };
    let Some(copies) = &placement.copies else { return inner };
    let mut meta = Meta { failures_max: Some(u32::MAX), ..inner.meta.clone() };
    meta.clone_max = copies.count;
    meta.clone_node_max = copies.per_node.max(1);
    // Copies that share a node have to be told apart.
    meta.is_unique = copies.per_node > 1;
    // Copies that keep apart from copies keep apart from all of them, not from the one that they would pair up with.
    let has_copies = |unit: &UnitName| units.get(unit).is_some_and(|unit| unit.placement.copies.is_some());
    meta.is_interleaved = !placement.leaning.apart.keys().any(has_copies);
    if let Some(promotion) = &copies.promotion {
        meta.is_promotable = true;
        meta.promoted_max = promotion.count;
        meta.promoted_node_max = 1;
    }
    Resource { name, meta, kind: ResourceKind::Clone(Box::new(inner)) }
}

fn node(
    name: &NodeName,
    config: &NodeConfig,
    units: &BTreeMap<UnitName, Unit<'_>>,
    cluster: &ClusterConfig,
) -> NodeFacts {
    let mut attributes = config.attributes.clone();
    for unit in units.values().filter(|unit| promotes(unit.placement)) {
        for member in unit.members.iter().filter(|member| cluster.resources.contains_key(**member)) {
            attributes.insert(format!("master-{member}"), "1".to_owned());
        }
    }
    NodeFacts {
        capacity: config.capacity.iter().map(|(what, has)| (what.clone(), amount(*has))).collect(),
        attributes,
        ..NodeFacts::up(name)
    }
}

fn promotes(placement: &Placement) -> bool {
    placement.copies.as_ref().is_some_and(|copies: &Copies| copies.promotion.is_some())
}

/// What speaks for and against nodes; `role`: only for copies in it.
fn locations_of(
    unit: &UnitName,
    role: Option<Role>,
    preferred: &BTreeMap<&NodeName, u32>,
    leaning: &Leaning,
    members: &[&NodeName],
) -> Vec<Location> {
    let likes = preferred.iter().map(|(node, points)| ((*node).clone(), Score::of(i64::from(*points))));
    let dislikes = leaning.avoid.iter().map(|(node, weight)| (node.clone(), -score(*weight)));
    let others = members
        .iter()
        .filter(|node| !leaning.only.is_empty() && !leaning.only.contains(**node))
        .map(|node| ((*node).clone(), Score::MUST_NOT));
    let words = [
        ("prefer", "is preferred", likes.collect::<Vec<_>>()),
        ("avoid", "is to be avoided", dislikes.collect()),
        ("only", "is none of the nodes in `only`", others.collect()),
    ];
    words
        .into_iter()
        .filter(|(_, _, scores)| !scores.is_empty())
        .map(|(word, why, scores)| Location {
            id: format!("{word} of {unit}{}", promoted_suffix(role)),
            resource: ResourceName(unit.0.clone()),
            scores,
            role,
            discovery: Discovery::Always,
            why: Some(format!("{why}{}", promoted_suffix(role))),
        })
        .collect()
}

fn promoted_suffix(role: Option<Role>) -> &'static str {
    if role == Some(Role::Promoted) { " (to lead)" } else { "" }
}

fn score(weight: Weight) -> Score {
    match weight {
        Weight::Must => Score::MUST,
        Weight::Points(points) => Score::of(i64::from(points)),
    }
}

/// What goes together and apart; `role`: only for copies in it.
fn colocations_of(unit: &UnitName, role: Option<Role>, leaning: &Leaning) -> Vec<Colocation> {
    let colocation = |other: &UnitName, tie: &Tie, word: &str, score: Score| Colocation {
        id: format!("{unit}{} {word} {other}", promoted_suffix(role)),
        dependent: ResourceName(unit.0.clone()),
        dependent_role: role,
        primary: ResourceName(other.0.clone()),
        primary_role: tie.to_promoted.then_some(Role::Promoted),
        score,
        attribute: tie.by.clone().unwrap_or_else(|| NODE.to_owned()),
        influence: None,
    };
    let together = leaning.with.iter().map(|(other, tie)| colocation(other, tie, "with", score(tie.weight)));
    let apart = leaning.apart.iter().map(|(other, tie)| colocation(other, tie, "apart from", -score(tie.weight)));
    together.chain(apart).collect()
}

/// How a unit comes after another: when it starts, or when a copy of it is made to lead.
fn orders_of(unit: &UnitName, then_action: OrderAction, earlier: &UnitName, sequence: Sequence) -> Vec<Order> {
    let (earlier, later) = (ResourceName(earlier.0.clone()), ResourceName(unit.0.clone()));
    let first_action = if sequence.to_promoted { OrderAction::Promote } else { OrderAction::Start };
    let reverse = |action: OrderAction| match action {
        OrderAction::Start => OrderAction::Stop,
        OrderAction::Stop => OrderAction::Start,
        OrderAction::Promote => OrderAction::Demote,
        OrderAction::Demote => OrderAction::Promote,
    };
    let forwards = |kind: OrderKind, is_symmetric: bool| Order {
        id: format!("{later} after {earlier}"),
        first: OrderSide::One(earlier.clone()),
        then: later.clone(),
        first_action,
        then_action,
        kind,
        is_symmetric,
    };
    match sequence.binding {
        Binding::Running => vec![forwards(OrderKind::Mandatory, true)],
        Binding::IfStarting => vec![forwards(OrderKind::Optional, true)],
        Binding::Started => vec![
            forwards(OrderKind::Mandatory, false),
            Order {
                id: format!("{earlier} stops after {later}"),
                first: OrderSide::One(later.clone()),
                then: earlier.clone(),
                first_action: reverse(then_action),
                then_action: reverse(first_action),
                kind: OrderKind::Optional,
                is_symmetric: false,
            },
        ],
    }
}

fn ticket_rule(unit: &UnitName, placement: &Placement) -> Option<TicketRule> {
    let need = placement.ticket.as_ref()?;
    Some(TicketRule {
        id: format!("ticket of {unit}"),
        resource: ResourceName(unit.0.clone()),
        role: need.to_lead.then_some(Role::Promoted),
        ticket: need.ticket.clone(),
        loss: match need.on_loss {
            OnLoss::Stop => TicketLoss::Stop,
            OnLoss::Demote => TicketLoss::Demote,
            OnLoss::Fence => TicketLoss::Fence,
            OnLoss::Freeze => TicketLoss::Freeze,
        },
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
        discovery: Discovery::Always,
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
        if promotes(placement) {
            // Checks are told apart by their intervals.
            let role = Some(Role::Promoted);
            let check = operation("monitor", every.saturating_add(1), ms(resource.monitor.timeout));
            operations.push(Operation { role, ..check });
        }
    }
    let (class, provider, agent) = match resource.agent.clone() {
        AgentName::Native(name) => ("cardea".to_owned(), None, name),
        AgentName::Ocf { provider, name } => ("ocf".to_owned(), Some(provider), name),
        AgentName::Other { standard, name } => (standard, None, name),
    };
    let told = resource.parameters.iter().filter_map(|(name, value)| match value {
        ParameterValue::Text(text) => Some((name.clone(), text.clone())),
        ParameterValue::File { .. } => None,
    });
    let requires = if is_exclusive { Requires::Exclusion } else { Requires::Quorum };
    Resource {
        name: name.clone(),
        meta: meta(placement, resource.failures_max, resource.failures_forgotten_after, requires),
        kind: ResourceKind::Primitive(Box::new(Primitive {
            class,
            provider,
            agent,
            parameters: told.collect(),
            parameters_on: BTreeMap::new(),
            operations,
            // A look takes as long as a check.
            default_timeouts_ms: BTreeMap::from([("monitor".to_owned(), ms(resource.monitor.timeout))]),
            utilization: resource.needs.iter().map(|(what, needs)| (what.clone(), amount(*needs))).collect(),
            connects: None,
            reconnect_s: 0,
            holds: None,
            unfences: false,
            all_digest: None,
        })),
    }
}

fn amount(amount: u32) -> i32 {
    i32::try_from(amount).unwrap_or(i32::MAX)
}

fn seconds_up(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

fn meta(
    placement: &Placement,
    failures_max: u32,
    forgotten_after: Option<std::time::Duration>,
    requires: Requires,
) -> Meta {
    Meta {
        priority: placement.priority,
        target_role: (!placement.enabled).then_some(Role::Stopped),
        stickiness: Score::of(i64::from(placement.points_for_staying())),
        is_firm: placement.staying() == Staying::Firm,
        failures_max: Some(failures_max.max(1)),
        failure_timeout_s: forgotten_after.filter(|time| !time.is_zero()).map(seconds_up),
        requires,
        ..Meta::default()
    }
}
