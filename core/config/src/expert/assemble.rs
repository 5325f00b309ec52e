//! What does a cluster file with an expert part come to? The plain words, with the expert part laid over them.

use std::collections::{BTreeMap, BTreeSet};

use model::situation::{Bundle, Meta, NodeFacts, Primitive, Replica, Requires, Resource, ResourceKind, Situation};
use model::{ClusterConfig, FenceConfig, FenceName, ParameterValue, ResourceName};

use super::{Expert, Form, Loose, NodeWords, Shape, inner_names, laid_over, loosen};

impl Expert {
    /// The cluster of a file in which every node is up and nothing runs; `lower` says what plain words come to.
    pub fn situation(&self, config: &ClusterConfig, lower: impl Fn(&ClusterConfig) -> Situation) -> Situation {
        let mut situation = self.lowered(config, lower);
        situation.options = laid_over(situation.options, &self.options);
        self.lay_over_nodes(&mut situation.nodes);
        situation.resources = self.assemble(config, &situation.resources);
        situation.locations.extend(self.locations.iter().cloned());
        situation.colocations.extend(self.colocations.iter().cloned());
        situation.orders.extend(self.orders.iter().cloned());
        situation.ticket_rules.extend(self.ticket_rules.iter().cloned());
        situation.fence_levels.extend(self.fence_levels.iter().map(|(node, levels)| (node.clone(), levels.clone())));
        situation
    }

    /// What the plain words alone come to.
    pub(super) fn lowered(&self, config: &ClusterConfig, lower: impl Fn(&ClusterConfig) -> Situation) -> Situation {
        if !self.assumes_fencing {
            return lower(config);
        }
        let mut covered = config.clone();
        for resource in covered.resources.values_mut() {
            resource.domains.clear();
        }
        let mut situation = lower(&covered);
        situation.resources.iter_mut().for_each(trust_fencing);
        situation
    }

    fn lay_over_nodes(&self, nodes: &mut Vec<NodeFacts>) {
        for (name, words) in &self.nodes {
            let at = nodes.iter().position(|facts| facts.name == *name).unwrap_or_else(|| {
                nodes.push(NodeFacts::up(name));
                nodes.len() - 1
            });
            let facts = &mut nodes[at];
            let NodeWords { kind, base_score, attributes, capacity, is_probed } =
                laid_over(NodeWords::of(facts), words);
            facts.kind = kind;
            facts.base_score = base_score;
            facts.attributes = attributes;
            facts.capacity = capacity;
            facts.is_probed = is_probed;
        }
    }

    fn assemble(&self, config: &ClusterConfig, lowered: &[Resource]) -> Vec<Resource> {
        let (mut loose, plain) = loosen(lowered);
        for (name, said) in &self.resources {
            let it = loose.entry(name.clone()).or_insert_with(|| Loose {
                meta: Meta::default(),
                form: Form::Service(Box::new(device(config, name).unwrap_or_default())),
            });
            it.meta = laid_over(it.meta.clone(), &said.settings);
            if let Some(shape) = &said.shape {
                it.form = Form::Shape(shape.clone());
            } else if let Form::Service(primitive) = &mut it.form {
                **primitive = laid_over((**primitive).clone(), &said.service);
            }
        }
        let inner = inner_names(&loose);
        let outermost: Vec<ResourceName> = outermost(&self.order_of_choice, plain, &loose, &inner);
        outermost.iter().filter_map(|name| build(name, &mut loose)).collect()
    }
}

/// What needs sole use of its node has it once every lost node is fenced.
fn trust_fencing(resource: &mut Resource) {
    if resource.meta.requires == Requires::Exclusion {
        resource.meta.requires = Requires::Fencing;
    }
    match &mut resource.kind {
        ResourceKind::Primitive(_) => {}
        ResourceKind::Group(members) => members.iter_mut().for_each(trust_fencing),
        ResourceKind::Clone(inner) => trust_fencing(inner),
        ResourceKind::Bundle(bundle) => {
            for replica in &mut bundle.replicas {
                let parts = [Some(&mut replica.container), replica.address.as_mut(), replica.connection.as_mut()];
                parts.into_iter().flatten().for_each(trust_fencing);
            }
            bundle.inside.iter_mut().for_each(trust_fencing);
        }
    }
}

/// The names of the outermost resources: those of a list, those of the plain words, all others.
pub(super) fn outermost(
    first: &[ResourceName],
    plain: Vec<ResourceName>,
    loose: &BTreeMap<ResourceName, Loose>,
    inner: &BTreeSet<ResourceName>,
) -> Vec<ResourceName> {
    let mut seen = BTreeSet::new();
    let all = first.iter().cloned().chain(plain).chain(loose.keys().cloned());
    all.filter(|name| loose.contains_key(name) && !inner.contains(name) && seen.insert(name.clone())).collect()
}

/// Puts a resource together; each part is used once.
fn build(name: &ResourceName, loose: &mut BTreeMap<ResourceName, Loose>) -> Option<Resource> {
    let Loose { meta, form } = loose.remove(name)?;
    let kind = match form {
        Form::Service(primitive) => ResourceKind::Primitive(primitive),
        Form::Whole(kind) => *kind,
        Form::Shape(Shape::Members(members)) => {
            ResourceKind::Group(members.iter().filter_map(|member| build(member, loose)).collect())
        }
        Form::Shape(Shape::CopiesOf(inner)) => ResourceKind::Clone(Box::new(build(&inner, loose)?)),
        Form::Shape(Shape::Bundle(bundle)) => {
            let replicas = bundle.replicas.into_iter().filter_map(|replica| {
                Some(Replica {
                    container: build(&replica.container, loose)?,
                    address: replica.address.and_then(|name| build(&name, loose)),
                    connection: replica.connection.and_then(|name| build(&name, loose)),
                    node: replica.node,
                })
            });
            let replicas = replicas.collect();
            let inside = bundle.inside.and_then(|name| build(&name, loose));
            let (per_host_max, promoted_max) = (bundle.per_host, bundle.promoted_max);
            ResourceKind::Bundle(Box::new(Bundle { replicas, per_host_max, promoted_max, inside }))
        }
    };
    Some(Resource { name: name.clone(), meta, kind })
}

/// A fence device as a resource: what the device's own table says.
pub(super) fn device(config: &ClusterConfig, name: &ResourceName) -> Option<Primitive> {
    let FenceConfig { agent, parameters, .. } = config.fence_devices.get(&FenceName(name.0.clone()))?;
    let parameters = parameters.iter().filter_map(|(name, value)| match value {
        ParameterValue::Text(text) => Some((name.clone(), text.clone())),
        ParameterValue::File { .. } => None,
    });
    Some(Primitive {
        class: "stonith".to_owned(),
        agent: agent.clone(),
        parameters: parameters.collect(),
        ..Primitive::default()
    })
}
