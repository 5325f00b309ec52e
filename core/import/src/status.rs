//! What would a cluster file do in the cluster that a CIB reports?
//!
//! What is wanted comes from one situation, what is known from another: the states and attributes of nodes, histories,
//! tickets, quorum, the time.
//!
//! Not here: how a file is read (`config`).

use std::collections::BTreeSet;

use model::situation::{NodeFacts, NodeKind, Resource, ResourceKind, Situation};

use crate::resources::each_primitive;

/// What is wanted in `wanted`, in the state that `cib` reports.
pub fn with_status(wanted: Situation, cib: &Situation) -> Situation {
    let mut then = wanted;
    then.options.has_quorum = cib.options.has_quorum;
    then.options.coordinator = cib.options.coordinator.clone();
    then.now = cib.now;
    then.tickets = cib.tickets.clone();
    then.history = cib.history.clone();
    then.removed = removed(&then.resources, cib);
    then.nodes = nodes(&then, cib);
    then
}

/// What the CIB itself no longer wants, and what the file does not.
fn removed(wanted: &[Resource], cib: &Situation) -> Vec<Resource> {
    let mut kept = BTreeSet::new();
    // What runs under such a name is none of the numbered instances.
    let mut numbered = BTreeSet::new();
    for resource in wanted {
        let is_numbered = matches!(resource.kind, ResourceKind::Clone(_)) && resource.meta.is_unique;
        each_primitive(resource, &mut |name, _| {
            kept.insert(name.clone());
            if is_numbered {
                numbered.insert(name.clone());
            }
        });
    }
    let is_gone = |resource: &&Resource| !kept.contains(&resource.name) || numbered.contains(&resource.name);
    let mut removed: Vec<Resource> = cib.removed.iter().filter(is_gone).cloned().collect();
    for resource in &cib.resources {
        each_primitive(resource, &mut |name, primitive| {
            if !kept.contains(name) {
                removed.push(Resource {
                    name: name.clone(),
                    meta: model::situation::Meta::default(),
                    kind: ResourceKind::Primitive(Box::new(primitive.clone())),
                });
            }
        });
    }
    removed
}

/// Nodes as they are reported, with what is wanted of them. What the history alone implies stays.
fn nodes(wanted: &Situation, cib: &Situation) -> Vec<NodeFacts> {
    let is_implied = |known: &NodeFacts| match &known.kind {
        NodeKind::Member => false,
        NodeKind::Remote { connection: None } => true,
        NodeKind::Remote { connection: Some(connection) } | NodeKind::Guest { connection, .. } => {
            wanted.removed.iter().any(|removed| removed.name == *connection)
        }
    };
    let mut nodes = Vec::new();
    for known in &cib.nodes {
        match wanted.nodes.iter().find(|node| node.name == known.name) {
            Some(node) => {
                let mut attributes = node.attributes.clone();
                attributes.extend(known.attributes.iter().map(|(name, value)| (name.clone(), value.clone())));
                nodes.push(NodeFacts {
                    kind: node.kind.clone(),
                    base_score: node.base_score,
                    capacity: node.capacity.clone(),
                    is_probed: node.is_probed && known.is_probed,
                    attributes,
                    ..known.clone()
                });
            }
            None if is_implied(known) => nodes.push(known.clone()),
            None => {}
        }
    }
    let is_new = |node: &&NodeFacts| cib.nodes.iter().all(|known| known.name != node.name);
    let unseen = wanted.nodes.iter().filter(is_new).map(|node| NodeFacts { seen: None, ..node.clone() });
    nodes.extend(unseen);
    nodes
}
