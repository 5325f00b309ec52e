//! What does a cluster need that has no plain words? The `[expert]` part of a cluster file.
//!
//! ```text
//!   plain words ─► ClusterConfig ─► lowered ─┐
//!   [expert] ─► read.rs ─► Expert ───────────┴─► assemble.rs ─► Situation
//!   wanted Situation − lowered ─► difference.rs ─► Expert ─► write.rs ─► [expert]
//! ```
//!
//! Its tables lie over what the plain words come to: a setting that stands there replaces the one of the plain words,
//! a resource of another name is added. The vocabulary is that of [`model::situation`].
//!
//! Not here: what the plain words come to (`scheduler`); that a daemon cannot run such a file is said where it is applied.

mod assemble;
mod difference;
mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use model::situation::{
    Colocation, Location, NodeFacts, NodeKind, Order, Primitive, Resource, ResourceKind, Score, TicketRule,
};
use model::{NodeName, ResourceName};
use serde::{Deserialize, Serialize};
use toml::Table;

pub(crate) use read::read;
pub use write::{key, quoted};

/// The `[expert]` part of a cluster file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expert {
    /// Does fencing cover every node, whatever the devices say?
    pub assumes_fencing: bool,
    /// Settings of the whole cluster that differ from those of the plain words.
    options: Table,
    /// Nodes that are no members, and what else there is to say of members.
    nodes: BTreeMap<NodeName, Table>,
    /// Resources, and what else there is to say of those with plain words.
    resources: BTreeMap<ResourceName, ExpertResource>,
    /// Who chooses first among equals: the outermost resources by name; the others follow.
    order_of_choice: Vec<ResourceName>,
    locations: Vec<Location>,
    colocations: Vec<Colocation>,
    orders: Vec<Order>,
    ticket_rules: Vec<TicketRule>,
    fence_levels: BTreeMap<NodeName, Vec<Vec<ResourceName>>>,
}

/// What is said of one resource.
#[derive(Clone, Debug, Default, PartialEq)]
struct ExpertResource {
    settings: Table,
    service: Table,
    shape: Option<Shape>,
}

/// What a resource is, if it is no single service.
#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Members(Vec<ResourceName>),
    CopiesOf(ResourceName),
    Bundle(BundleShape),
}

/// Containers, by the names of their parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BundleShape {
    per_host: u32,
    promoted_max: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    inside: Option<ResourceName>,
    replicas: Vec<ReplicaShape>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplicaShape {
    container: ResourceName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<ResourceName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connection: Option<ResourceName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<NodeName>,
}

/// What is wanted of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NodeWords {
    kind: NodeKind,
    base_score: Score,
    attributes: BTreeMap<String, String>,
    capacity: BTreeMap<String, i32>,
    #[serde(rename = "probed")]
    is_probed: bool,
}

impl Default for NodeWords {
    fn default() -> Self {
        NodeWords::of(&NodeFacts { is_probed: true, ..NodeFacts::default() })
    }
}

impl NodeWords {
    fn of(facts: &NodeFacts) -> NodeWords {
        NodeWords {
            kind: facts.kind.clone(),
            base_score: facts.base_score,
            attributes: facts.attributes.clone(),
            capacity: facts.capacity.clone(),
            is_probed: facts.is_probed,
        }
    }
}

impl Expert {
    /// Is there nothing in it?
    pub fn is_empty(&self) -> bool {
        *self == Expert::default()
    }
}

impl Shape {
    /// The names of what lies in it.
    fn inner(&self) -> Vec<&ResourceName> {
        match self {
            Shape::Members(members) => members.iter().collect(),
            Shape::CopiesOf(inner) => vec![inner],
            Shape::Bundle(bundle) => {
                let parts = bundle.replicas.iter().flat_map(|replica| {
                    [Some(&replica.container), replica.address.as_ref(), replica.connection.as_ref()]
                });
                parts.chain([bundle.inside.as_ref()]).flatten().collect()
            }
        }
    }
}

/// A resource without what lies in it.
#[derive(Clone, Debug, PartialEq)]
struct Loose {
    meta: model::situation::Meta,
    form: Form,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Service(Box<Primitive>),
    Shape(Shape),
    /// Copies of what bears the same name: plain words make them, and nothing is laid over what is in them.
    Whole(Box<ResourceKind>),
}

/// Every resource of a list and of what lies in it, by name; and the names of the outermost, in order.
fn loosen(resources: &[Resource]) -> (BTreeMap<ResourceName, Loose>, Vec<ResourceName>) {
    let mut loose = BTreeMap::new();
    for resource in resources {
        take_apart(resource, &mut loose);
    }
    (loose, resources.iter().map(|resource| resource.name.clone()).collect())
}

fn take_apart(resource: &Resource, loose: &mut BTreeMap<ResourceName, Loose>) {
    let form = match &resource.kind {
        ResourceKind::Primitive(primitive) => Form::Service(primitive.clone()),
        ResourceKind::Group(members) => {
            members.iter().for_each(|member| take_apart(member, loose));
            Form::Shape(Shape::Members(members.iter().map(|member| member.name.clone()).collect()))
        }
        ResourceKind::Clone(inner) if inner.name == resource.name => Form::Whole(Box::new(resource.kind.clone())),
        ResourceKind::Clone(inner) => {
            take_apart(inner, loose);
            Form::Shape(Shape::CopiesOf(inner.name.clone()))
        }
        ResourceKind::Bundle(bundle) => {
            let mut part = |resource: &Resource| {
                take_apart(resource, loose);
                resource.name.clone()
            };
            let replicas = bundle.replicas.iter().map(|replica| ReplicaShape {
                container: part(&replica.container),
                address: replica.address.as_ref().map(&mut part),
                connection: replica.connection.as_ref().map(&mut part),
                node: replica.node.clone(),
            });
            let replicas = replicas.collect();
            let inside = bundle.inside.as_ref().map(&mut part);
            let (per_host, promoted_max) = (bundle.per_host_max, bundle.promoted_max);
            Form::Shape(Shape::Bundle(BundleShape { per_host, promoted_max, inside, replicas }))
        }
    };
    loose.insert(resource.name.clone(), Loose { meta: resource.meta.clone(), form });
}

/// Names of resources that lie in another one.
fn inner_names(loose: &BTreeMap<ResourceName, Loose>) -> BTreeSet<ResourceName> {
    let shapes = loose.values().filter_map(|loose| match &loose.form {
        Form::Service(_) | Form::Whole(_) => None,
        Form::Shape(shape) => Some(shape),
    });
    shapes.flat_map(Shape::inner).cloned().collect()
}

/// A value as a table; everything here can be written as one.
fn table_of<T: Serialize>(value: &T) -> Table {
    Table::try_from(value).unwrap_or_default()
}

/// Lays what is said over what holds otherwise.
fn lay_over(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => lay_over(base, over),
            _ => _ = base.insert(key.clone(), value.clone()),
        }
    }
}

/// A value with something laid over it; what does not fit, which reading refuses, leaves it as it is.
fn laid_over<T: Serialize + for<'de> Deserialize<'de>>(value: T, over: &Table) -> T {
    if over.is_empty() {
        return value;
    }
    let mut table = table_of(&value);
    lay_over(&mut table, over);
    T::deserialize(table).unwrap_or(value)
}
