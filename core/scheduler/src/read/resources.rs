//! Which resources are there? The tree of the configuration with every instance unfolded.

use std::borrow::Cow;
use std::collections::BTreeMap;

use model::ResourceName;
use model::situation::{NodeKind, Resource, ResourceKind, Role};

use crate::few::{Few, NodeMap, NodeSet};
use crate::names::Names;
use crate::read::nodes::{connect, link};
use crate::world::{Kind, ReplicaIx, Rsc, RscIx, Shape, World};

/// Adds everything that is configured.
pub(super) fn add_resources(world: &mut World<'_>) {
    let situation = world.situation;
    let expected = size_of_all(&situation.resources, world.nodes.len());
    world.resources.reserve(expected);
    world.ids = Names::with_capacity(expected);
    let mut tops: Vec<RscIx> = Vec::new();
    for resource in &situation.resources {
        tops.push(add(world, resource, None, None, false));
    }
    // Stable: as in the document among equals.
    tops.sort_by_key(|top| std::cmp::Reverse(world.rsc(*top).meta.priority));
    world.tops = tops;
    connect_nodes(world);
    for at in world.rsc_ixs() {
        let Some(name) = &world.rsc(at).meta.container else { continue };
        if world.rsc(at).container.is_none()
            && let Some(container) = find(world, name)
        {
            link(world, at, container);
        }
    }
}

/// How many resources there will be, about.
fn size_of_all(resources: &[Resource], nodes: usize) -> usize {
    let size = |resource: &Resource| match &resource.kind {
        ResourceKind::Primitive(_) => 1,
        ResourceKind::Group(members) => 1 + members.len(),
        ResourceKind::Clone(inner) => {
            let instances = resource.meta.clone_max.map_or(nodes, |max| (max as usize).min(nodes));
            1 + instances * size_of_all(std::slice::from_ref(inner), nodes)
        }
        ResourceKind::Bundle(bundle) => 2 + 4 * bundle.replicas.len(),
    };
    resources.iter().map(size).sum()
}

fn connect_nodes(world: &mut World<'_>) {
    for at in world.node_ixs() {
        let kind = match &world.node(at).facts.kind {
            NodeKind::Member => continue,
            NodeKind::Remote { connection } => {
                Kind::Remote { connection: connection.as_ref().and_then(|name| find(world, name)) }
            }
            NodeKind::Guest { connection, container, is_bundle } => {
                match (find(world, connection), find(world, container)) {
                    (Some(connection), Some(container)) => Kind::Guest { connection, container, is_bundle: *is_bundle },
                    _ => Kind::Remote { connection: None },
                }
            }
        };
        connect(world, at, kind);
    }
}

fn find(world: &World<'_>, name: &ResourceName) -> Option<RscIx> {
    world.named(name.as_str())
}

/// Adds a resource with everything in it; `number` is that of the instance which it is in.
pub(super) fn add<'a>(
    world: &mut World<'a>,
    resource: &'a Resource,
    parent: Option<RscIx>,
    number: Option<u32>,
    is_removed: bool,
) -> RscIx {
    let id = match number {
        None => Cow::Borrowed(resource.name.as_str()),
        Some(number) => Cow::Owned(format!("{}:{number}", resource.name)),
    };
    let at = RscIx(world.resources.len() as u32);
    let parent_rsc = parent.map(|parent| world.rsc(parent));
    let is_unique = match (parent_rsc, &resource.kind) {
        (_, ResourceKind::Clone(_)) => resource.meta.is_unique,
        (Some(parent), _) => parent.is_unique || parent.is_group() && parent.parent.is_none(),
        (None, _) => true,
    };
    let options = &world.situation.options;
    let shape = match &resource.kind {
        ResourceKind::Primitive(primitive) => Shape::Primitive(primitive),
        ResourceKind::Group(_) => Shape::Group,
        ResourceKind::Clone(_) => Shape::Clone,
        ResourceKind::Bundle(bundle) => Shape::Bundle(bundle),
    };
    let meta = &resource.meta;
    let is_in_maintenance = options.is_maintenance || meta.is_maintenance;
    if world.named(&id).is_none() {
        world.ids.insert(&id, at.0);
    }
    world.resources.push(Rsc {
        id,
        name: resource.name.as_str(),
        shape,
        meta,
        parent,
        children: Vec::new(),
        replicas: Vec::new(),
        replica: None,
        number,
        is_unique,
        is_removed,
        container: None,
        fillers: Vec::new(),
        connects: None,
        active_on: Few::new(),
        role: Role::Unknown,
        goal: Role::Unknown,
        is_managed: meta.is_managed && !is_in_maintenance,
        is_blocked: false,
        is_maintenance: is_in_maintenance,
        is_failed: false,
        failed_on: NodeSet::default(),
        failure_is_ignored: false,
        needs_stop: false,
        forced_stops: NodeSet::default(),
        needs_demote: false,
        is_start_pending: false,
        pending: None,
        known_on: NodeSet::default(),
        bans: Vec::new(),
        partial_migration: None,
        dangling: Vec::new(),
        is_unmigratable: false,
        locked_to: None,
        locks_over: NodeSet::default(),
        reported_as: None,
        records: NodeMap::new(),
        clearings: BTreeMap::new(),
    });
    match &resource.kind {
        ResourceKind::Primitive(_) => {}
        ResourceKind::Group(members) => {
            for member in members {
                let child = add(world, member, Some(at), number, is_removed);
                world.resources[at.0 as usize].children.push(child);
            }
        }
        ResourceKind::Clone(inner) => {
            let instances = instances_wanted(world, at);
            for number in 0..instances {
                add_instance(world, at, inner, number, false);
            }
            if instances == 0 {
                // History may still name it.
                add_instance(world, at, inner, 0, true);
            }
        }
        ResourceKind::Bundle(bundle) => add_bundle(world, at, bundle),
    }
    at
}

fn add_instance<'a>(world: &mut World<'a>, clone: RscIx, inner: &'a Resource, number: u32, is_removed: bool) -> RscIx {
    let child = add(world, inner, Some(clone), Some(number), is_removed);
    world.resources[clone.0 as usize].children.push(child);
    child
}

/// One more instance than is wanted, because the history knows of one.
pub(super) fn add_removed_instance(world: &mut World<'_>, clone: RscIx) -> RscIx {
    let number =
        world.rsc(clone).children.iter().filter_map(|child| world.rsc(*child).number).max().map_or(0, |n| n + 1);
    let inner = inner_of(world, clone).expect("a clone holds something");
    add_instance(world, clone, inner, number, true)
}

fn inner_of<'a>(world: &World<'a>, clone: RscIx) -> Option<&'a Resource> {
    fn search<'a>(resources: impl Iterator<Item = &'a Resource>, name: &str) -> Option<&'a Resource> {
        for resource in resources {
            let found = match &resource.kind {
                ResourceKind::Clone(inner) if resource.name.as_str() == name => Some(&**inner),
                ResourceKind::Bundle(bundle) => search(bundle.inside.iter(), name),
                ResourceKind::Clone(_) | ResourceKind::Group(_) | ResourceKind::Primitive(_) => None,
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }
    search(world.situation.resources.iter(), world.rsc(clone).name)
}

/// How many instances a clone should have.
fn instances_wanted(world: &World<'_>, clone: RscIx) -> u32 {
    world.rsc(clone).meta.clone_max.unwrap_or_else(|| (world.nodes.len() as u32).max(1))
}

fn add_bundle<'a>(world: &mut World<'a>, at: RscIx, bundle: &'a model::situation::Bundle) {
    let mut replicas = Vec::new();
    for (number, replica) in (0_u32..).zip(&bundle.replicas) {
        let container = add(world, &replica.container, Some(at), None, false);
        let address = replica.address.as_ref().map(|address| add(world, address, Some(at), None, false));
        let connection = replica.connection.as_ref().map(|connection| add(world, connection, Some(at), None, false));
        for part in [Some(container), address, connection].into_iter().flatten() {
            world.resources[part.0 as usize].replica = Some((at, number));
            world.resources[at.0 as usize].children.push(part);
            if Some(part) == connection {
                link(world, part, container);
            }
        }
        let node = replica.node.as_ref().and_then(|node| world.node_by_name.get(node.as_str()).copied());
        replicas.push(ReplicaIx { container, address, connection, inside: None, node });
    }
    if let Some(inside) = &bundle.inside {
        let clone = add(world, inside, Some(at), None, false);
        world.resources[at.0 as usize].children.push(clone);
        let instances = world.rsc(clone).children.clone();
        for (number, (replica, instance)) in (0_u32..).zip(replicas.iter_mut().zip(instances)) {
            replica.inside = Some(instance);
            world.resources[instance.0 as usize].replica = Some((at, number));
            link(world, instance, replica.container);
        }
    }
    world.resources[at.0 as usize].replicas = replicas;
}
