//! What can plain words say of what is wanted?
//!
//! As much as fits exactly; the expert part holds the rest. A word that fits nearly is no help: the plan would differ.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::situation::{
    Discovery, Meta, NodeKind, Operation, OrderAction, OrderKind, OrderSide, Primitive, Requires, Resource,
    ResourceKind, Role, Score, Situation, Strategy,
};
use model::{
    AgentName, Binding, Class, ClusterConfig, Domain, FenceConfig, FenceName, GroupConfig, GroupName, Leaning,
    MonitorConfig, NodeConfig, NodeName, ParameterValue, Placement, ResourceConfig, ResourceName, Sequence, Spread,
    Tie, Timeouts, UnitName, Weight,
};

use crate::source::{Element, Source};

/// What an operation may take if nobody says, in milliseconds.
const TIMEOUT_MS: u32 = 20_000;
/// The longest duration that a cluster file can say, in milliseconds.
const DURATION_MS_MAX: u32 = 30 * 24 * 3600 * 1000;
/// What a fence agent is told by the cluster itself.
const TOLD: [&str; 4] = ["action", "plug", "port", "nodename"];

/// What plain words say, and what has to be said about them.
#[derive(Debug, Default)]
pub(super) struct Plain {
    pub config: ClusterConfig,
    /// Resources may run where no fence device covers what they could damage.
    pub assumes_fencing: bool,
    /// The resources and groups in the order of the CIB, each group before its members.
    pub order: Vec<ResourceName>,
    /// What a resource lies in there, if it is no group.
    pub within: BTreeMap<ResourceName, String>,
}

/// Finds plain words, and takes secrets out of what is wanted.
pub(super) fn plain(source: &Source<'_>, wanted: &mut Situation) -> Plain {
    let mut plain = Plain { assumes_fencing: wanted.options.is_fencing_enabled, ..Plain::default() };
    plain.config.name = name(source);
    for node in wanted.nodes.iter().filter(|node| node.kind == NodeKind::Member && config::is_name(node.name.as_str()))
    {
        plain.config.nodes.insert(node.name.clone(), NodeConfig::default());
    }
    let mut secrets = Secrets { elements: elements(source), source, found: BTreeSet::new() };
    for resource in &mut wanted.resources {
        plain.take(resource, None, &mut secrets);
    }
    plain.fence(source, wanted);
    for node in &wanted.nodes {
        if let Some(config) = plain.config.nodes.get_mut(&node.name) {
            config.capacity = amounts(&node.capacity);
        }
    }
    plain.config.spread = match wanted.options.strategy {
        Strategy::Default => None,
        Strategy::Utilization => Some(Spread::Capacity),
        Strategy::Balanced => Some(Spread::Room),
        Strategy::Minimal => Some(Spread::Fill),
    };
    if plain.config.spread.is_none() && plain.config.resources.values().any(|resource| !resource.needs.is_empty()) {
        plain.config.spread = Some(Spread::Even);
    }
    plain.choose_first(wanted);
    plain.lean(wanted);
    plain
}

impl Plain {
    fn take(&mut self, resource: &mut Resource, within: Option<String>, secrets: &mut Secrets<'_, '_>) {
        let name = resource.name.clone();
        match &mut resource.kind {
            ResourceKind::Primitive(primitive) => {
                let hidden = secrets.hide(&name, primitive);
                if primitive.is_fence_device() {
                    self.config.fence_devices.extend(device(&name, primitive, hidden));
                } else if let Some(config) = service(&name, &resource.meta, primitive, hidden) {
                    self.config.resources.insert(name.clone(), config);
                    self.order.push(name.clone());
                    self.within.extend(within.map(|within| (name, within)));
                }
            }
            ResourceKind::Group(members) => {
                let at = self.order.len();
                for member in members.iter_mut() {
                    self.take(member, None, secrets);
                }
                let names: Vec<ResourceName> = members.iter().map(|member| member.name.clone()).collect();
                let is_plain = config::is_name(name.as_str())
                    && members.iter().all(|member| self.config.resources.contains_key(&member.name));
                if is_plain {
                    let placement = placement(&resource.meta);
                    for member in &names {
                        if let Some(member) = self.config.resources.get_mut(member) {
                            member.placement = Placement::default();
                        }
                    }
                    let group = GroupConfig { members: names, placement };
                    self.config.groups.insert(GroupName(name.0.clone()), group);
                    self.order.insert(at, name.clone());
                    self.within.extend(within.map(|within| (name, within)));
                }
            }
            ResourceKind::Clone(inner) => self.take(inner, Some(format!("clone `{name}`")), secrets),
            ResourceKind::Bundle(bundle) => {
                if let Some(inside) = &mut bundle.inside
                    && let ResourceKind::Clone(inside) = &mut inside.kind
                {
                    self.take(inside, Some(format!("bundle `{name}`")), secrets);
                }
                let parts = bundle.replicas.iter_mut().map(|replica| &mut replica.container);
                for container in parts {
                    if let ResourceKind::Primitive(primitive) = &mut container.kind {
                        secrets.hide(&container.name, primitive);
                    }
                }
            }
        }
    }

    /// Who chooses first: the units in the order of the CIB, where that is not the usual one.
    fn choose_first(&mut self, wanted: &Situation) {
        let units = self.config.units();
        let order = wanted.resources.iter().map(|resource| UnitName(resource.name.0.clone()));
        let order: Vec<UnitName> = order.filter(|unit| units.contains_key(unit)).collect();
        let is_group = |unit: &UnitName| self.config.groups.contains_key(&GroupName(unit.0.clone()));
        let mut usual = order.clone();
        usual.sort_by_key(|unit| (!is_group(unit), unit.clone()));
        if usual != order {
            self.config.choose_first = order;
        }
    }

    /// What is preferred, what goes together and apart, what comes after what.
    fn lean(&mut self, wanted: &Situation) {
        let units: BTreeSet<UnitName> = self.config.units().into_keys().collect();
        let unit = |name: &ResourceName| {
            let unit = UnitName(name.0.clone());
            (units.contains(&unit) && !self.within.contains_key(name)).then_some(unit)
        };
        let members = self.config.nodes.len();
        let usual: BTreeMap<UnitName, Placement> =
            self.config.units().into_iter().map(|(name, unit)| (name, unit.placement.clone())).collect();
        let mut changed: Vec<(UnitName, Placement)> = Vec::new();
        let mut put = |unit: &UnitName, change: &mut dyn FnMut(&mut Placement)| {
            let found = changed.iter().position(|(known, _)| known == unit);
            let at = found.unwrap_or_else(|| {
                changed.push((unit.clone(), usual.get(unit).cloned().unwrap_or_default()));
                changed.len() - 1
            });
            change(&mut changed[at].1);
        };
        for location in &wanted.locations {
            let Some(unit) = unit(&location.resource) else { continue };
            if location.role.is_some() || location.discovery != Discovery::Always {
                continue;
            }
            for (node, score) in location.scores.iter().filter(|(node, _)| self.config.nodes.contains_key(node)) {
                put(&unit, &mut |placement| lean_to(&mut placement.leaning, node, *score, members));
            }
        }
        let mut with: Paths = Paths::default();
        let mut pairs: BTreeSet<(UnitName, UnitName)> = BTreeSet::new();
        for tie in &wanted.colocations {
            let (Some(dependent), Some(primary)) = (unit(&tie.dependent), unit(&tie.primary)) else { continue };
            let is_plain = tie.dependent_role.is_none()
                && tie.primary_role.is_none()
                && tie.attribute == "#uname"
                && tie.influence.is_none()
                && tie.score != Score::ZERO;
            let pair = if dependent < primary {
                (dependent.clone(), primary.clone())
            } else {
                (primary.clone(), dependent.clone())
            };
            if !is_plain || dependent == primary || pairs.contains(&pair) {
                continue;
            }
            let is_together = tie.score > Score::ZERO;
            if is_together && !with.add(&dependent, &primary) {
                continue;
            }
            pairs.insert(pair);
            let weight =
                if tie.score.is_mandatory() { Weight::Must } else { Weight::Points(tie.score.value().unsigned_abs()) };
            put(&dependent, &mut |placement| {
                let leaning = &mut placement.leaning;
                let ties = if is_together { &mut leaning.with } else { &mut leaning.apart };
                ties.insert(primary.clone(), Tie { weight, ..Tie::default() });
            });
        }
        let mut after: Paths = Paths::default();
        for order in &wanted.orders {
            let OrderSide::One(first) = &order.first else { continue };
            let (Some(first), Some(then)) = (unit(first), unit(&order.then)) else { continue };
            let binding = match order.kind {
                OrderKind::Mandatory => Binding::Running,
                OrderKind::Optional => Binding::IfStarting,
                OrderKind::Serialize => continue,
            };
            let starts = order.first_action == OrderAction::Start && order.then_action == OrderAction::Start;
            if !starts || !order.is_symmetric || !after.add(&then, &first) {
                continue;
            }
            put(&then, &mut |placement| {
                placement.after.push(first.clone());
                placement.sequences.insert(first.clone(), Sequence { binding, ..Sequence::default() });
            });
        }
        for (unit, mut placement) in changed {
            // Words say "never there" of all of them, or points of each.
            if placement.leaning.avoid.values().any(|weight| *weight == Weight::Must) {
                placement.leaning.avoid.retain(|_, weight| *weight == Weight::Must);
            }
            if let Some(group) = self.config.groups.get_mut(&GroupName(unit.0.clone())) {
                group.placement = placement;
            } else if let Some(resource) = self.config.resources.get_mut(&ResourceName(unit.0.clone())) {
                resource.placement = placement;
            }
        }
    }

    /// Which devices cut which node off.
    fn fence(&mut self, source: &Source<'_>, wanted: &Situation) {
        let mut hosts: Vec<(FenceName, Option<BTreeSet<String>>)> = Vec::new();
        for resource in &wanted.resources {
            each_device(resource, &mut |name, primitive| {
                let device = FenceName(name.0.clone());
                if let Some(config) = self.config.fence_devices.get_mut(&device) {
                    let (known, plugs) = reach(primitive);
                    config.plugs = plugs.into_iter().filter(|(node, _)| self.config.nodes.contains_key(node)).collect();
                    hosts.push((device, known));
                }
            });
        }
        let names: Vec<NodeName> = self.config.nodes.keys().cloned().collect();
        for name in names {
            let devices: Vec<FenceName> = match wanted.fence_levels.get(&name) {
                Some(levels) => {
                    if levels.iter().any(|level| level.len() > 1)
                        && let Some(section) = source.section("fencing-topology")
                    {
                        source.remark(
                            section,
                            format!(
                                "{name} is fenced by several devices together; [nodes.{name}] tries one after the other"
                            ),
                        );
                    }
                    levels.iter().flatten().map(|device| FenceName(device.0.clone())).collect()
                }
                None => {
                    let reaches = |known: &Option<BTreeSet<String>>| {
                        known.as_ref().is_none_or(|known| known.contains(name.as_str()))
                    };
                    hosts.iter().filter(|(_, known)| reaches(known)).map(|(device, _)| device.clone()).collect()
                }
            };
            let mut seen = BTreeSet::new();
            let devices = devices
                .into_iter()
                .filter(|device| self.config.fence_devices.contains_key(device) && seen.insert(device.clone()));
            if let Some(node) = self.config.nodes.get_mut(&name) {
                node.fence = devices.collect();
            }
        }
    }
}

/// Who points to whom; nobody to himself, and no pair twice.
#[derive(Default)]
struct Paths(BTreeMap<UnitName, BTreeSet<UnitName>>);

impl Paths {
    /// Adds a step if it closes no circle and is new.
    fn add(&mut self, from: &UnitName, to: &UnitName) -> bool {
        let mut open = vec![to];
        let mut seen = BTreeSet::new();
        while let Some(at) = open.pop() {
            if at == from {
                return false;
            }
            if seen.insert(at) {
                open.extend(self.0.get(at).into_iter().flatten());
            }
        }
        self.0.entry(from.clone()).or_default().insert(to.clone())
    }
}

/// A node that is liked or disliked, where words say exactly that.
fn lean_to(leaning: &mut Leaning, node: &NodeName, score: Score, members: usize) {
    if leaning.prefer.contains_key(node) || leaning.avoid.contains_key(node) {
        return;
    }
    if score > Score::ZERO {
        leaning.prefer.insert(node.clone(), score.value().unsigned_abs());
    } else if score < Score::ZERO && leaning.avoid.len() + 1 < members {
        let weight = if score.is_must_not() { Weight::Must } else { Weight::Points(score.value().unsigned_abs()) };
        leaning.avoid.insert(node.clone(), weight);
    }
}

/// Amounts that words can say.
fn amounts(amounts: &BTreeMap<String, i32>) -> BTreeMap<String, u32> {
    let said = amounts.iter().filter(|(name, _)| config::is_name(name));
    said.filter_map(|(name, amount)| Some((name.clone(), u32::try_from(*amount).ok()?))).collect()
}

/// Passwords, which a file that every node gets does not hold.
struct Secrets<'s, 'a> {
    elements: BTreeMap<&'a str, Element<'a>>,
    source: &'s Source<'a>,
    found: BTreeSet<(ResourceName, String)>,
}

/// Primitives and bundles by id.
fn elements<'a>(source: &Source<'a>) -> BTreeMap<&'a str, Element<'a>> {
    let section = source.section("resources");
    let found = section.into_iter().flat_map(|s| s.descendants().filter(|element| element.has_tag_name("primitive")));
    found.filter_map(|element| Some((element.attribute("id")?, element))).collect()
}

impl Secrets<'_, '_> {
    /// Takes secrets out of a primitive; where they should be kept, by parameter.
    fn hide(&mut self, name: &ResourceName, primitive: &mut Primitive) -> BTreeMap<String, ParameterValue> {
        let mut hidden = BTreeMap::new();
        // A hash over secrets tells something of them; only devices that unfence need it.
        if !primitive.unfences {
            primitive.all_digest = None;
        }
        let names: Vec<String> = primitive.parameters.keys().filter(|known| is_secret(known)).cloned().collect();
        for parameter in names {
            primitive.parameters.remove(&parameter);
            for there in primitive.parameters_on.values_mut() {
                there.remove(&parameter);
            }
            // Names of resources and parameters may be anything; a path is plain.
            let word = |text: &str| -> String {
                text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
            };
            let file = format!("/etc/cardea/secrets/{}-{}", word(name.as_str()), word(&parameter));
            if self.found.insert((name.clone(), parameter.clone()))
                && let Some(element) = self.elements.get(name.as_str())
            {
                let what = format!("{parameter} is a secret and not in the file; put it into {file} on every node");
                self.source.remark(*element, what);
            }
            hidden.insert(parameter, ParameterValue::File { file });
        }
        hidden
    }
}

/// Is the value of such a parameter nobody's business?
pub(super) fn is_secret(parameter: &str) -> bool {
    let name = parameter.to_ascii_lowercase();
    (name.contains("passw") || name.ends_with("secret")) && !name.ends_with("script") && !name.ends_with("file")
}

fn service(
    name: &ResourceName,
    meta: &Meta,
    primitive: &Primitive,
    hidden: BTreeMap<String, ParameterValue>,
) -> Option<ResourceConfig> {
    // The connection to a guest follows from the guest.
    if !config::is_name(name.as_str()) || meta.container.is_some() {
        return None;
    }
    let agent = match &primitive.provider {
        Some(provider) => format!("{}:{provider}:{}", primitive.class, primitive.agent),
        None => format!("{}:{}", primitive.class, primitive.agent),
    };
    let agent = AgentName::try_from(agent).ok()?;
    if matches!(agent, AgentName::Native(_)) {
        return None;
    }
    let monitor = primitive.operations.iter().find(|operation| is_monitor(operation));
    let limit = |name: &str| {
        let said =
            primitive.operations.iter().find(|op| op.name == name && op.interval_ms == 0).map(|op| op.timeout_ms);
        duration(said.or_else(|| primitive.default_timeouts_ms.get(name).copied()).unwrap_or(TIMEOUT_MS))
    };
    Some(ResourceConfig {
        agent,
        class: match meta.requires {
            Requires::Nothing | Requires::Quorum => Class::BestEffort,
            Requires::Exclusion | Requires::Fencing | Requires::Unfencing => Class::Exclusive,
        },
        domains: BTreeSet::from([Domain::Storage, Domain::Network]),
        parameters: parameters(&primitive.parameters, hidden),
        monitor: MonitorConfig {
            every: monitor.map_or(Duration::ZERO, |monitor| duration(monitor.interval_ms)),
            timeout: monitor.map_or_else(
                || duration(primitive.default_timeouts_ms.get("monitor").copied().unwrap_or(TIMEOUT_MS)),
                |monitor| duration(monitor.timeout_ms),
            ),
        },
        timeouts: Timeouts { start: limit("start"), stop: limit("stop") },
        failures_max: meta.failures_max.unwrap_or(u32::MAX).max(1),
        placement: placement(meta),
        needs: amounts(&primitive.utilization),
        failures_forgotten_after: Some(
            meta.failure_timeout_s
                .and_then(|s| u32::try_from(s).ok()?.checked_mul(1000))
                .map_or(Duration::ZERO, duration),
        ),
    })
}

fn is_monitor(operation: &Operation) -> bool {
    operation.name == "monitor" && operation.interval_ms > 0 && operation.role.is_none() && operation.is_enabled
}

/// A duration that a file can say; what is none is said in the expert part.
fn duration(ms: u32) -> Duration {
    let is_one = (1..=DURATION_MS_MAX).contains(&ms);
    Duration::from_millis(u64::from(if is_one { ms } else { TIMEOUT_MS }))
}

fn placement(meta: &Meta) -> Placement {
    Placement {
        stickiness: u32::try_from(meta.stickiness.value()).unwrap_or(0),
        moves_for_points: true,
        priority: meta.priority.clamp(-1_000_000, 1_000_000),
        enabled: meta.target_role != Some(Role::Stopped),
        ..Placement::default()
    }
}

fn parameters(
    told: &BTreeMap<String, String>,
    hidden: BTreeMap<String, ParameterValue>,
) -> BTreeMap<String, ParameterValue> {
    let can_be_said = |name: &str, value: &str| {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !name.is_empty() && name.chars().all(is_word) && !value.contains('\0')
    };
    let told = told.iter().filter(|(name, value)| can_be_said(name, value));
    told.map(|(name, value)| (name.clone(), ParameterValue::Text(value.clone()))).chain(hidden).collect()
}

fn device(
    name: &ResourceName,
    primitive: &Primitive,
    hidden: BTreeMap<String, ParameterValue>,
) -> Option<(FenceName, FenceConfig)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let agent = &primitive.agent;
    if !config::is_name(name.as_str()) || agent.starts_with(['.', '-']) || !agent.chars().all(is_word) {
        return None;
    }
    let timeout = primitive.parameters.get("pcmk_reboot_timeout").and_then(|text| crate::values::seconds(text));
    let timeout = timeout.and_then(|s| u32::try_from(s).ok()?.checked_mul(1000)).filter(|ms| *ms > 0);
    // What tells Pacemaker how to use the device is no business of its agent.
    let told: BTreeMap<String, String> = primitive
        .parameters
        .iter()
        .filter(|(name, value)| {
            !name.starts_with("pcmk_") && !TOLD.contains(&name.as_str()) && !value.contains(['\n', '\r'])
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let keys = ["agent", "covers", "timeout", "plugs", "after_fence"];
    let mut parameters = parameters(&told, hidden);
    parameters.retain(|name, _| !keys.contains(&name.as_str()));
    Some((
        FenceName(name.0.clone()),
        FenceConfig {
            agent: agent.clone(),
            parameters,
            covers: BTreeSet::from([Domain::Storage, Domain::Network]),
            timeout: duration(timeout.unwrap_or(60_000)),
            plugs: BTreeMap::new(),
            after_fence: None,
        },
    ))
}

fn each_device(resource: &Resource, visit: &mut impl FnMut(&ResourceName, &Primitive)) {
    crate::resources::each_primitive(resource, &mut |name, primitive| {
        if primitive.is_fence_device() {
            visit(name, primitive);
        }
    });
}

/// The nodes that a device says it reaches (none: it is asked), and what it calls them.
fn reach(primitive: &Primitive) -> (Option<BTreeSet<String>>, BTreeMap<NodeName, String>) {
    let words = |text: &str| -> Vec<String> {
        text.split([' ', ',', ';', '\t', '\n']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let list = primitive.parameters.get("pcmk_host_list").map(|text| words(text));
    let map = primitive.parameters.get("pcmk_host_map").map(|text| words(text));
    let mut known: BTreeSet<String> = list.iter().flatten().cloned().collect();
    let mut plugs = BTreeMap::new();
    for pair in map.iter().flatten() {
        if let Some((node, plug)) = pair.split_once([':', '=']) {
            known.insert(node.to_owned());
            if !plug.is_empty() && plug != node && !plug.contains(['\r', '\0']) {
                plugs.insert(NodeName::from(node), plug.to_owned());
            }
        }
    }
    // One port for all of them.
    if let Some(plug) = primitive.parameters.get("port").or_else(|| primitive.parameters.get("plug"))
        && map.is_none()
        && !plug.is_empty()
        && !plug.contains(['\n', '\r', '\0'])
    {
        plugs.extend(known.iter().map(|node| (NodeName(node.clone()), plug.clone())));
    }
    let is_said = list.is_some() || map.is_some();
    (is_said.then_some(known), plugs)
}

/// The cluster's name, as far as it can be one here.
fn name(source: &Source<'_>) -> String {
    let pairs = source.section("crm_config").into_iter().flat_map(|section| section.descendants());
    let mut named = pairs.filter(|pair| pair.has_tag_name("nvpair") && pair.attribute("name") == Some("cluster-name"));
    let said = named.find_map(|pair| pair.attribute("value")).unwrap_or_default();
    if config::is_name(said) { said.to_owned() } else { "imported".to_owned() }
}
