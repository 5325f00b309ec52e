//! What has to be said beside the plain words, so that a file comes to what is wanted?

use std::collections::BTreeMap;

use model::situation::{
    Discovery, Location, Meta, NodeFacts, Operation, Options, Primitive, Resource, Score, Situation,
};
use model::{ClusterConfig, NodeName, ResourceName};
use toml::{Table, Value};

use super::assemble::{device, outermost};
use super::{Expert, ExpertResource, Form, Loose, NodeWords, Shape, inner_names, loosen, table_of};

/// What an operation may take if nobody says, in milliseconds.
const TIMEOUT_MS: u32 = 20_000;

impl Expert {
    /// What `config` leaves unsaid of a situation that is wanted; `lower` says what plain words come to.
    ///
    /// What `config` says must be wanted: a constraint of its own that nobody wants cannot be taken back here. What is
    /// known of a situation (states, histories) is left aside.
    pub fn difference(
        config: &ClusterConfig,
        lower: impl Fn(&ClusterConfig) -> Situation,
        wanted: &Situation,
        assumes_fencing: bool,
    ) -> Expert {
        let mut expert = Expert { assumes_fencing, ..Expert::default() };
        let lowered = expert.lowered(config, lower);
        let unset = |options: &Options| Options { has_quorum: true, coordinator: None, ..options.clone() };
        expert.options = difference(&table_of(&unset(&lowered.options)), &table_of(&unset(&wanted.options)));
        expert.nodes = nodes(&lowered.nodes, &wanted.nodes);
        expert.differ_in_resources(config, &lowered.resources, &wanted.resources);
        expert.locations = locations(&lowered.locations, &wanted.locations);
        expert.colocations = without(&wanted.colocations, &lowered.colocations, |c| {
            ((&c.dependent, c.dependent_role, &c.primary, c.primary_role), (c.score, &c.attribute, c.influence))
        });
        expert.orders = without(&wanted.orders, &lowered.orders, |o| {
            (&o.first, &o.then, o.first_action, o.then_action, o.kind, o.is_symmetric)
        });
        expert.ticket_rules =
            without(&wanted.ticket_rules, &lowered.ticket_rules, |t| (&t.resource, t.role, &t.ticket, t.loss));
        expert.fence_levels = wanted
            .fence_levels
            .iter()
            .filter(|(node, levels)| lowered.fence_levels.get(*node) != Some(levels))
            .map(|(node, levels)| (node.clone(), levels.clone()))
            .collect();
        expert
    }

    fn differ_in_resources(&mut self, config: &ClusterConfig, lowered: &[Resource], wanted: &[Resource]) {
        let (mut there, plain) = loosen(lowered);
        let (wanted, order) = loosen(wanted);
        for (name, wanted) in &wanted {
            let found = there.get(name).cloned();
            let is_plain = found.is_some();
            let base = found.unwrap_or_else(|| Loose {
                meta: Meta::default(),
                form: Form::Service(Box::new(device(config, name).unwrap_or_default())),
            });
            let said = ExpertResource {
                settings: difference(
                    &table_of(&base.meta),
                    &table_of(&relevant(&base.meta, &wanted.meta, &wanted.form)),
                ),
                service: match (&base.form, &wanted.form) {
                    (Form::Service(base), Form::Service(wanted)) => difference_of_services(base, wanted),
                    (Form::Shape(_) | Form::Whole(_), Form::Service(wanted)) => table_of(&**wanted),
                    (_, Form::Shape(_) | Form::Whole(_)) => Table::new(),
                },
                shape: match &wanted.form {
                    Form::Shape(shape) if wanted.form != base.form => Some(shape.clone()),
                    Form::Shape(_) | Form::Service(_) | Form::Whole(_) => None,
                },
            };
            if !is_plain || said != ExpertResource::default() {
                self.resources.insert(name.clone(), said);
            }
            there.insert(name.clone(), wanted.clone());
        }
        let inner = inner_names(&there);
        if outermost(&[], plain, &there, &inner) != order {
            self.order_of_choice = order;
        }
    }
}

/// What must be laid over one service to make it the other.
fn difference_of_services(base: &Primitive, wanted: &Primitive) -> Table {
    let (mut base, mut wanted) = (with_limits(base), with_limits(wanted));
    let names: Vec<String> =
        base.default_timeouts_ms.keys().chain(wanted.default_timeouts_ms.keys()).cloned().collect();
    for name in names {
        base.default_timeouts_ms.entry(name.clone()).or_insert(TIMEOUT_MS);
        wanted.default_timeouts_ms.entry(name).or_insert(TIMEOUT_MS);
    }
    if sorted(&base.operations) == sorted(&wanted.operations) {
        base.operations.clone_from(&wanted.operations);
    }
    difference(&table_of(&base), &table_of(&wanted))
}

/// A service whose starts and stops have their limits with their operations, whether or not these had to be said.
fn with_limits(primitive: &Primitive) -> Primitive {
    let mut it = primitive.clone();
    for name in ["start", "stop"] {
        let said = it.default_timeouts_ms.remove(name).unwrap_or(TIMEOUT_MS);
        if !it.operations.iter().any(|operation| operation.name == name && operation.interval_ms == 0) {
            it.operations.push(Operation {
                id: String::new(),
                name: name.to_owned(),
                interval_ms: 0,
                timeout_ms: said,
                role: None,
                on_fail: None,
                is_enabled: true,
            });
        }
    }
    for operation in &mut it.operations {
        operation.id.clear();
    }
    it
}

fn sorted(operations: &[Operation]) -> Vec<&Operation> {
    let mut all: Vec<&Operation> = operations.iter().collect();
    all.sort_by_key(|operation| (&operation.name, operation.interval_ms));
    all
}

/// The settings that count for what a resource is; the others are those of `base`.
fn relevant(base: &Meta, wanted: &Meta, form: &Form) -> Meta {
    match form {
        Form::Service(_) => Meta {
            is_ordered: base.is_ordered,
            is_collocated: base.is_collocated,
            clone_max: base.clone_max,
            clone_node_max: base.clone_node_max,
            clone_min: base.clone_min,
            is_unique: base.is_unique,
            is_interleaved: base.is_interleaved,
            notifies: base.notifies,
            is_promotable: base.is_promotable,
            promoted_max: base.promoted_max,
            promoted_node_max: base.promoted_node_max,
            ..wanted.clone()
        },
        Form::Shape(Shape::Members(_)) => Meta {
            failures_max: base.failures_max,
            failure_timeout_s: base.failure_timeout_s,
            requires: base.requires,
            allows_migration: base.allows_migration,
            clone_max: base.clone_max,
            clone_node_max: base.clone_node_max,
            clone_min: base.clone_min,
            is_unique: base.is_unique,
            is_interleaved: base.is_interleaved,
            notifies: base.notifies,
            is_promotable: base.is_promotable,
            promoted_max: base.promoted_max,
            promoted_node_max: base.promoted_node_max,
            ..wanted.clone()
        },
        Form::Shape(Shape::CopiesOf(_) | Shape::Bundle(_)) | Form::Whole(_) => Meta {
            failures_max: base.failures_max,
            failure_timeout_s: base.failure_timeout_s,
            requires: base.requires,
            multiple_active: base.multiple_active,
            allows_migration: base.allows_migration,
            ..wanted.clone()
        },
    }
}

fn nodes(lowered: &[NodeFacts], wanted: &[NodeFacts]) -> BTreeMap<NodeName, Table> {
    let mut nodes = BTreeMap::new();
    for facts in wanted {
        let found = lowered.iter().find(|lowered| lowered.name == facts.name);
        let is_plain = found.is_some();
        let base = found.map_or_else(|| NodeWords::of(&NodeFacts::up(&facts.name)), NodeWords::of);
        let said = difference(&table_of(&base), &table_of(&NodeWords::of(facts)));
        if !is_plain || !said.is_empty() {
            nodes.insert(facts.name.clone(), said);
        }
    }
    nodes
}

/// Locations without what the plain words say, node by node.
fn locations(lowered: &[Location], wanted: &[Location]) -> Vec<Location> {
    let said = |location: &Location| location.role.is_none() && location.discovery == Discovery::Always;
    let mut left: BTreeMap<(ResourceName, NodeName), Vec<Score>> = BTreeMap::new();
    for location in lowered.iter().filter(|location| said(location)) {
        for (node, score) in &location.scores {
            left.entry((location.resource.clone(), node.clone())).or_default().push(*score);
        }
    }
    let mut kept = Vec::new();
    for location in wanted {
        let mut rest = location.clone();
        if said(location) {
            rest.scores.retain(|(node, score)| {
                let found = left.get_mut(&(location.resource.clone(), node.clone()));
                match found.and_then(|scores| Some((scores.iter().position(|other| other == score)?, scores))) {
                    Some((at, scores)) => {
                        scores.swap_remove(at);
                        false
                    }
                    None => true,
                }
            });
        }
        // A location that says nothing of any node still says something in a cluster that allows only what is said.
        if !rest.scores.is_empty() || location.scores.is_empty() {
            kept.push(rest);
        }
    }
    kept
}

/// What is not among the others; each of these stands for one.
fn without<'a, T: Clone, K: PartialEq>(all: &'a [T], others: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<T> {
    let mut left: Vec<K> = others.iter().map(&key).collect();
    let mut kept = Vec::new();
    for one in all {
        match left.iter().position(|other| *other == key(one)) {
            Some(at) => _ = left.swap_remove(at),
            None => kept.push(one.clone()),
        }
    }
    kept
}

/// What must be laid over one table to make it the other. Everything of the first is in the second as well.
fn difference(base: &Table, wanted: &Table) -> Table {
    let mut said = Table::new();
    for (key, value) in wanted {
        match (base.get(key), value) {
            (Some(found), value) if found == value => {}
            (Some(Value::Table(found)), Value::Table(value)) => {
                said.insert(key.clone(), Value::Table(difference(found, value)));
            }
            _ => _ = said.insert(key.clone(), value.clone()),
        }
    }
    said
}
