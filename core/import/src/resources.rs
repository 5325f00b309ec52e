//! What should run? Primitives, groups, clones and bundles, with templates copied in and settings inherited.
//!
//! A resource that is a machine (`remote-node`) brings a connection to it; that stands right after the top-level
//! resource in which the machine lies.

use std::collections::{BTreeMap, BTreeSet};

use model::situation::{Primitive, Resource, ResourceKind};
use model::{NodeName, ResourceName};

use crate::blocks::{self, Block, Table};
use crate::bundles;
use crate::digests::{self, Parameters};
use crate::history;
use crate::meta::{self, Defaults, Sort};
use crate::nodes::{self, Implied, Nodes};
use crate::operations::{self, OperationDefaults, Written};
use crate::options::OldDefaults;
use crate::rules::{Agent, Circumstances};
use crate::source::{Element, Source};
use crate::values;

/// Classes whose agents can tell several instances on one node apart.
const UNIQUE_CLASSES: [&str; 2] = ["ocf", "stonith"];
/// Classes whose agents know roles.
const PROMOTABLE_CLASSES: [&str; 1] = ["ocf"];

/// A primitive as it is written, with its template.
#[derive(Clone, Copy)]
pub(crate) struct Body<'a> {
    pub id: &'a str,
    pub element: Element<'a>,
    pub template: Option<Element<'a>>,
}

impl<'a> Body<'a> {
    /// The template's element and its own, which comes later and so before it.
    fn parts(&self) -> Vec<Element<'a>> {
        self.template.into_iter().chain([self.element]).collect()
    }

    fn attribute(&self, name: &str) -> Option<&'a str> {
        self.element.attribute(name).or_else(|| self.template?.attribute(name))
    }

    fn agent(&self) -> Agent<'a> {
        let [class, provider, agent] = ["class", "provider", "type"].map(|name| self.attribute(name));
        Agent { class, provider, agent }
    }
}

/// Templates by id.
pub(crate) struct Templates<'a>(BTreeMap<&'a str, Element<'a>>);

impl<'a> Templates<'a> {
    pub(crate) fn read(source: &Source<'a>) -> Templates<'a> {
        let section = source.section("resources");
        let templates = section.iter().flat_map(|s| s.children().filter(|child| child.has_tag_name("template")));
        Templates(templates.filter_map(|t| t.attribute("id").map(|id| (id, t))).collect())
    }

    fn body(&self, source: &Source<'a>, element: Element<'a>) -> Option<Body<'a>> {
        let Some(id) = element.attribute("id") else {
            source.remark(element, "a resource without id; it is left out");
            return None;
        };
        let template = match element.attribute("template") {
            None => None,
            Some(name) => match self.0.get(name) {
                Some(template) => Some(*template),
                None => {
                    source.remark(element, format!("there is no template {name}; the resource is left out"));
                    return None;
                }
            },
        };
        Some(Body { id, element, template })
    }
}

/// A node that a primitive is.
struct Guest<'a> {
    name: &'a str,
    address: Option<&'a str>,
    port: Option<&'a str>,
    start_timeout: &'a str,
    allows_migration: Option<&'a str>,
    is_managed: Option<&'a str>,
}

fn guest<'a>(source: &Source<'a>, body: &Body<'a>) -> Option<Guest<'a>> {
    let mut table = Table::new();
    blocks::fill(&mut table, &blocks::read(source, &body.parts(), "meta_attributes"), &Circumstances::default());
    let get = |name: &str| table.get(name).copied();
    Some(Guest {
        name: get("remote-node")?,
        address: get("remote-addr"),
        port: get("remote-port"),
        start_timeout: get("remote-connect-timeout").unwrap_or("60s"),
        allows_migration: get("remote-allow-migrate"),
        is_managed: get("is-managed"),
    })
}

fn is_connection(agent: Agent<'_>) -> bool {
    agent == Agent { class: Some("ocf"), provider: Some("pacemaker"), agent: Some("remote") }
}

/// Which nodes do resources imply? Found before the nodes are read, as rules of resources ask for nodes.
pub(crate) fn implied_nodes<'a>(source: &Source<'a>, templates: &Templates<'a>, has_guests: bool) -> Vec<Implied> {
    let mut implied = Vec::new();
    let mut configured: BTreeSet<&str> = BTreeSet::new();
    let Some(section) = source.section("resources") else { return implied };
    let mut primitive = |element: Element<'a>| {
        let template = element.attribute("template").and_then(|name| templates.0.get(name)).copied();
        let Some(id) = element.attribute("id") else { return };
        configured.insert(id);
        let body = Body { id, element, template };
        if is_connection(body.agent()) {
            implied.push(Implied::Remote(id.to_owned()));
        } else if let Some(guest) = has_guests.then(|| guest(source, &body)).flatten() {
            let (name, container) = (guest.name.to_owned(), id.to_owned());
            implied.push(Implied::Guest { name, container, is_bundle: false });
        }
    };
    let is_primitive = |child: &Element<'a>| child.has_tag_name("primitive");
    for element in section.children() {
        match element.tag_name().name() {
            "primitive" => primitive(element),
            "group" => element.children().filter(is_primitive).for_each(&mut primitive),
            _ => {}
        }
    }
    let bundles = section.children().filter(|child| child.has_tag_name("bundle"));
    implied.extend(bundles.flat_map(bundles::implied_nodes));
    let removed = removed_connections(source).filter(|name| !configured.contains(name));
    implied.extend(removed.map(|name| Implied::Remote(name.to_owned())));
    implied
}

/// Connections in the history.
fn removed_connections<'a>(source: &Source<'a>) -> impl Iterator<Item = &'a str> {
    let status = source.status.into_iter().flat_map(|status| status.children());
    let entries = status.filter(|child| child.has_tag_name("node_state")).flat_map(history::reported);
    entries.filter(|entry| is_connection(agent_of(*entry))).filter_map(|entry| entry.attribute("id"))
}

fn agent_of(element: Element<'_>) -> Agent<'_> {
    let [class, provider, agent] = ["class", "provider", "type"].map(|name| element.attribute(name));
    Agent { class, provider, agent }
}

/// All resources, and what other readers want to know of them.
#[derive(Default)]
pub(crate) struct Resources<'a> {
    pub list: Vec<Resource>,
    /// What left the configuration and is still in the history.
    pub removed: Vec<Resource>,
    /// Parameters of operations of their own: by resource, name and milliseconds between runs.
    pub own_parameters: BTreeMap<(String, String, u32), Parameters>,
    /// Settings of each resource by name, where rules compare with them.
    pub settings: BTreeMap<String, Table<'a>>,
    /// Primitives that use a template, by its name, in the order of the document.
    pub of_template: BTreeMap<&'a str, Vec<&'a str>>,
}

/// What everything that lies in an element inherits.
pub(crate) struct Above<'p, 'a> {
    pub parent: Option<&'p Above<'p, 'a>>,
    pub meta: Vec<Block<'a>>,
    pub parameters: Vec<Block<'a>>,
    /// What the element itself ended up with.
    pub settled: Table<'a>,
}

/// Reads resources.
pub(crate) struct Reader<'s, 'a> {
    pub source: &'s Source<'a>,
    templates: &'s Templates<'a>,
    nodes: &'s Nodes,
    pub defaults: Defaults,
    resource_defaults: Vec<Block<'a>>,
    operation_defaults: OperationDefaults<'a>,
    has_guests: bool,
    keeps_settings: bool,
    seen: BTreeSet<String>,
    built: Resources<'a>,
    /// Connections that wait for the end of the top-level resource.
    connections: Vec<Resource>,
}

/// Which rules and guests the document has at all: it spares looking where there are none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits {
    pub has_guests: bool,
    pub compares_with_settings: bool,
}

/// Reads `resources`.
pub(crate) fn read<'a>(
    source: &Source<'a>,
    templates: &Templates<'a>,
    nodes: &Nodes,
    defaults: Defaults,
    old_defaults: &OldDefaults<'a>,
    traits: Traits,
) -> Resources<'a> {
    let section = source.section("rsc_defaults");
    let mut resource_defaults = section.map(|s| blocks::read(source, &[s], "meta_attributes")).unwrap_or_default();
    resource_defaults.push(Block::of(&old_defaults.of_resources));
    let mut reader = Reader {
        source,
        templates,
        nodes,
        defaults,
        resource_defaults,
        operation_defaults: OperationDefaults::read(source, old_defaults.timeout),
        has_guests: traits.has_guests,
        keeps_settings: traits.compares_with_settings,
        seen: BTreeSet::new(),
        built: Resources::default(),
        connections: Vec::new(),
    };
    let section = source.section("resources");
    for element in section.iter().flat_map(|s| s.children().filter(|child| child.is_element())) {
        if element.has_tag_name("template") {
            continue;
        }
        if let Some(resource) = reader.resource(element, None) {
            reader.built.list.push(resource);
        }
        reader.built.list.append(&mut reader.connections);
    }
    reader.built.removed = reader.removed();
    reader.built
}

impl<'a> Reader<'_, 'a> {
    fn resource(&mut self, element: Element<'a>, above: Option<&Above<'_, 'a>>) -> Option<Resource> {
        match element.tag_name().name() {
            "primitive" => self.primitive(element, above),
            "group" => self.group(element, above),
            "clone" | "master" => self.clone(element, above),
            "bundle" => bundles::read(self, element),
            other => {
                self.source.remark(element, format!("{other} is no resource; it is left out"));
                None
            }
        }
    }

    /// A name can be given once.
    pub(crate) fn claim(&mut self, at: Element<'a>, name: &str) -> bool {
        let is_new = !name.is_empty() && self.seen.insert(name.to_owned());
        if !is_new {
            self.source.remark(at, format!("{name:?} is no name or given twice; this one is left out"));
        }
        is_new
    }

    /// The values that hold for an element.
    pub(crate) fn table(
        &self,
        attributes: &[Element<'a>],
        own: &[Block<'a>],
        above: Option<&Above<'_, 'a>>,
        agent: Agent<'_>,
    ) -> Table<'a> {
        let mut table = Table::new();
        for attribute in attributes.iter().rev().flat_map(|element| element.attributes()) {
            table.entry(attribute.name()).or_insert(attribute.value());
        }
        let circumstances = Circumstances { agent: Some(agent), ..Circumstances::default() };
        blocks::fill(&mut table, own, &circumstances);
        let mut level = above;
        while let Some(above) = level {
            blocks::fill(&mut table, &above.meta, &circumstances);
            level = above.parent;
        }
        blocks::fill(&mut table, &self.resource_defaults, &circumstances);
        for (name, value) in above.iter().flat_map(|above| &above.settled) {
            table.entry(name).or_insert(value);
        }
        table
    }

    /// Blocks and settings of a collective.
    pub(crate) fn level<'p>(&self, element: Element<'a>, above: Option<&'p Above<'p, 'a>>) -> Above<'p, 'a> {
        let meta = blocks::read(self.source, &[element], "meta_attributes");
        let parameters = blocks::read(self.source, &[element], "instance_attributes");
        let settled = self.table(&[element], &meta, above, Agent::default());
        Above { parent: above, meta, parameters, settled }
    }

    fn keep_settings(&mut self, name: &str, table: &Table<'a>) {
        if self.keeps_settings {
            self.built.settings.insert(name.to_owned(), table.clone());
        }
    }

    fn group(&mut self, element: Element<'a>, above: Option<&Above<'_, 'a>>) -> Option<Resource> {
        let name = self.named(element)?;
        let level = self.level(element, above);
        self.keep_settings(name, &level.settled);
        let meta = meta::read(self.source, element, &level.settled, Sort::Group, self.defaults);
        let mut members = Vec::new();
        for child in element.children().filter(|child| child.has_tag_name("primitive")) {
            members.extend(self.primitive(child, Some(&level)));
        }
        if members.is_empty() {
            self.source.remark(element, "a group without members; it is left out");
            return None;
        }
        Some(Resource { name: name.into(), meta, kind: ResourceKind::Group(members) })
    }

    fn named(&mut self, element: Element<'a>) -> Option<&'a str> {
        let name = element.attribute("id").unwrap_or_default();
        self.claim(element, name).then_some(name)
    }

    fn clone(&mut self, element: Element<'a>, above: Option<&Above<'_, 'a>>) -> Option<Resource> {
        let name = self.named(element)?;
        let mut level = self.level(element, above);
        if element.has_tag_name("master") {
            level.settled.insert("promotable", "true");
        }
        self.keep_settings(name, &level.settled);
        let mut meta = meta::read(self.source, element, &level.settled, Sort::Clone, self.defaults);
        // What a clone has by itself reaches what is in it, if nobody else says anything.
        level.settled.entry("resource-stickiness").or_insert("1");
        let child = element.children().find(|child| child.has_tag_name("primitive") || child.has_tag_name("group"));
        let child = child.and_then(|child| self.resource(child, Some(&level)));
        let Some(child) = child else {
            self.source.remark(element, "a clone of nothing; it is left out");
            return None;
        };
        let mut classes = BTreeSet::new();
        collect_classes(&child, &mut classes);
        if meta.is_promotable && !classes.iter().all(|class| PROMOTABLE_CLASSES.contains(class)) {
            self.source.remark(element, "agents of this class know no roles; the promotable clone is left out");
            return None;
        }
        if meta.is_unique && !classes.iter().all(|class| UNIQUE_CLASSES.contains(class)) {
            self.source.remark(element, "agents of this class cannot tell instances apart; there is one on each node");
            meta.is_unique = false;
            meta.clone_node_max = 1;
            let nodes = u32::try_from(self.nodes.facts.len()).unwrap_or(u32::MAX);
            meta.clone_max = meta.clone_max.map(|max| max.min(nodes));
        }
        Some(Resource { name: name.into(), meta, kind: ResourceKind::Clone(Box::new(child)) })
    }

    /// Reads a primitive.
    pub(crate) fn primitive(&mut self, element: Element<'a>, above: Option<&Above<'_, 'a>>) -> Option<Resource> {
        let body = self.templates.body(self.source, element)?;
        let agent = body.agent();
        let (Some(class), Some(agent_name)) = (agent.class, agent.agent) else {
            self.source.remark(element, "a primitive needs `class` and `type`; it is left out");
            return None;
        };
        if !self.claim(element, body.id) {
            return None;
        }
        if let Some(template) = element.attribute("template") {
            self.built.of_template.entry(template).or_default().push(body.id);
        }
        let parts = body.parts();
        let mut own = blocks::read(self.source, &parts, "meta_attributes");
        own.extend(operations::old_requires(self.source, &body));
        let table = self.table(&parts, &own, above, agent);
        self.keep_settings(body.id, &table);
        let is_connection = is_connection(agent);
        let sort = Sort::Primitive {
            is_fence_device: class == "stonith",
            is_connection,
            moves_live: is_connection && !table.contains_key("container"),
        };
        let mut meta = meta::read(self.source, element, &table, sort, self.defaults);
        let (parameters, parameters_on) = self.parameters(&parts, above, agent);
        let written = operations::written(self.source, &body, agent);
        self.keep_own_parameters(body.id, &written);
        let fence_timeout = parameters.get("pcmk_monitor_timeout").filter(|_| class == "stonith").map(String::as_str);
        let (operations, default_timeouts_ms) =
            operations::settle(self.source, element, &written, &self.operation_defaults, agent, fence_timeout);
        let reconnect_s =
            parameters.get("reconnect_interval").filter(|_| is_connection).and_then(|t| values::seconds(t));
        if let Some(seconds) = reconnect_s {
            meta.failure_timeout_s = Some(seconds).filter(|s| *s > 0);
        }
        let needs = blocks::read(self.source, &parts, "utilization");
        let mut utilization = Table::new();
        blocks::fill(&mut utilization, &needs, &Circumstances { agent: Some(agent), ..Circumstances::default() });
        let guest = if self.has_guests { guest(self.source, &body) } else { None };
        let primitive = Primitive {
            class: class.to_owned(),
            provider: agent.provider.map(str::to_owned),
            agent: agent_name.to_owned(),
            all_digest: (class == "stonith")
                .then(|| digests::of(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())))),
            parameters,
            parameters_on,
            operations,
            default_timeouts_ms,
            utilization: nodes::amounts(self.source, element, &utilization),
            connects: is_connection.then(|| body.id.into()),
            reconnect_s: reconnect_s.unwrap_or(0),
            holds: guest.as_ref().map(|guest| guest.name.into()),
            unfences: class == "stonith" && table.get("provides") == Some(&"unfencing"),
        };
        let mut primitive = primitive;
        if let Some(guest) = guest {
            match self.guest_connection(element, body.id, &guest) {
                Some(connection) => self.connections.push(connection),
                None => primitive.holds = None,
            }
        }
        Some(Resource { name: body.id.into(), meta, kind: ResourceKind::Primitive(Box::new(primitive)) })
    }

    /// What the history knows and the configuration does not, under the names of the history.
    fn removed(&self) -> Vec<Resource> {
        let mut known = BTreeSet::new();
        // How many instances there are by name, of those that differ; else one stands for another.
        let mut in_clones: BTreeMap<&str, Option<u32>> = BTreeMap::new();
        for resource in &self.built.list {
            let is_numbered = matches!(resource.kind, ResourceKind::Clone(_) | ResourceKind::Bundle(_));
            let is_unique = matches!(resource.kind, ResourceKind::Clone(_)) && resource.meta.is_unique;
            let of_nodes = || u32::try_from(self.nodes.facts.len()).unwrap_or(u32::MAX).max(1);
            let instances = is_unique.then(|| resource.meta.clone_max.unwrap_or_else(of_nodes));
            each_primitive(resource, &mut |name, _| {
                if !is_unique {
                    known.insert(name.as_str());
                }
                if is_numbered {
                    in_clones.insert(name.as_str(), instances);
                }
            });
        }
        let is_known = |name: &str| {
            let is_instance = |(base, number): (&str, &str)| {
                number.bytes().all(|b| b.is_ascii_digit())
                    && in_clones.get(base).is_some_and(|instances| {
                        instances.is_none_or(|instances| number.parse().is_ok_and(|number: u32| number < instances))
                    })
            };
            known.contains(name) || name.rsplit_once(':').is_some_and(is_instance)
        };
        let mut removed = Vec::new();
        let mut seen = BTreeSet::new();
        for (state, _) in nodes::states(self.source, self.nodes) {
            for entry in history::reported(state) {
                let Some(name) = entry.attribute("id").filter(|name| !is_known(name)) else { continue };
                if !seen.insert(name) {
                    continue;
                }
                let agent = agent_of(entry);
                let mut resource = self.implicit(entry, name, agent, Table::new(), None, Parameters::new(), &[]);
                resource.meta.container = entry.attribute("container").map(ResourceName::from);
                if let ResourceKind::Primitive(primitive) = &mut resource.kind {
                    primitive.connects = is_connection(agent).then(|| name.into());
                }
                removed.push(resource);
            }
        }
        removed
    }

    fn keep_own_parameters(&mut self, name: &str, written: &[Written<'a>]) {
        for op in written.iter().filter(|op| !op.own.is_empty()) {
            let mut table = Table::new();
            blocks::fill(&mut table, &op.own, &Circumstances::default());
            let key = (name.to_owned(), op.name.to_owned(), op.interval_ms);
            self.built.own_parameters.entry(key).or_insert_with(|| owned(&table));
        }
    }

    /// Parameters on any node, and where they differ.
    fn parameters(
        &self,
        parts: &[Element<'a>],
        above: Option<&Above<'_, 'a>>,
        agent: Agent<'_>,
    ) -> (Parameters, BTreeMap<NodeName, Parameters>) {
        let own = blocks::read(self.source, parts, "instance_attributes");
        let evaluate = |node: Option<&BTreeMap<String, String>>| {
            let circumstances = Circumstances { node, agent: Some(agent), ..Circumstances::default() };
            let mut table = Table::new();
            blocks::fill(&mut table, &own, &circumstances);
            let mut level = above;
            while let Some(above) = level {
                blocks::fill(&mut table, &above.parameters, &circumstances);
                level = above.parent;
            }
            owned(&table)
        };
        let mut asks_node = blocks::ask_node(&own);
        let mut level = above;
        while let Some(above) = level {
            asks_node |= blocks::ask_node(&above.parameters);
            level = above.parent;
        }
        let anywhere = evaluate(None);
        let mut somewhere = BTreeMap::new();
        if asks_node {
            let there = self.nodes.views().map(|(name, view)| (name.clone(), evaluate(Some(view))));
            somewhere.extend(there.filter(|(_, parameters)| *parameters != anywhere));
        }
        (anywhere, somewhere)
    }

    fn guest_connection(&mut self, at: Element<'a>, container: &str, guest: &Guest<'a>) -> Option<Resource> {
        if !self.claim(at, guest.name) {
            return None;
        }
        let mut own = Table::new();
        own.extend(guest.allows_migration.map(|value| ("allow-migrate", value)));
        own.extend(guest.is_managed.map(|value| ("is-managed", value)));
        let parameters = [("addr", guest.address), ("port", guest.port)];
        let parameters = parameters.into_iter().filter_map(|(n, value)| Some((n.to_owned(), value?.to_owned())));
        let start = Written {
            table: Table::from([("timeout", guest.start_timeout)]),
            ..Written::implied(guest.name, "start", 0, None)
        };
        let written = [Written::implied(guest.name, "monitor", 30, Some("30s")), start];
        Some(self.connection(at, guest.name, container, own, None, parameters.collect(), &written))
    }

    /// The connection into a machine or container.
    pub(crate) fn connection(
        &self,
        at: Element<'a>,
        name: &str,
        container: &str,
        own: Table<'a>,
        above: Option<&Above<'_, 'a>>,
        parameters: Parameters,
        written: &[Written<'a>],
    ) -> Resource {
        let agent = Agent { class: Some("ocf"), provider: Some("pacemaker"), agent: Some("remote") };
        let mut connection = self.implicit(at, name, agent, own, above, parameters, written);
        connection.meta.container = Some(container.into());
        if let ResourceKind::Primitive(primitive) = &mut connection.kind {
            primitive.connects = Some(name.into());
        }
        connection
    }

    /// A primitive that nobody wrote.
    pub(crate) fn implicit(
        &self,
        at: Element<'a>,
        name: &str,
        agent: Agent<'_>,
        own: Table<'a>,
        above: Option<&Above<'_, 'a>>,
        parameters: Parameters,
        written: &[Written<'a>],
    ) -> Resource {
        let mut table = own;
        for (name, value) in self.table(&[], &[], above, agent) {
            table.entry(name).or_insert(value);
        }
        let is_connection = is_connection(agent);
        let is_fence_device = agent.class == Some("stonith");
        let sort = Sort::Primitive { is_fence_device, is_connection, moves_live: false };
        let meta = meta::read(self.source, at, &table, sort, self.defaults);
        let (operations, default_timeouts_ms) =
            operations::settle(self.source, at, written, &self.operation_defaults, agent, None);
        let primitive = Primitive {
            class: agent.class.unwrap_or_default().to_owned(),
            provider: agent.provider.map(str::to_owned),
            agent: agent.agent.unwrap_or_default().to_owned(),
            parameters,
            parameters_on: BTreeMap::new(),
            operations,
            default_timeouts_ms,
            utilization: BTreeMap::new(),
            connects: None,
            reconnect_s: 0,
            holds: None,
            unfences: false,
            all_digest: None,
        };
        Resource { name: name.into(), meta, kind: ResourceKind::Primitive(Box::new(primitive)) }
    }
}

fn owned(table: &Table<'_>) -> Parameters {
    table.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn collect_classes<'r>(resource: &'r Resource, classes: &mut BTreeSet<&'r str>) {
    each_primitive(resource, &mut |_, primitive| {
        classes.insert(&primitive.class);
    });
}

/// Calls `act` for every primitive in it.
pub(crate) fn each_primitive<'r>(resource: &'r Resource, act: &mut impl FnMut(&'r ResourceName, &'r Primitive)) {
    match &resource.kind {
        ResourceKind::Primitive(primitive) => act(&resource.name, primitive),
        ResourceKind::Group(members) => members.iter().for_each(|member| each_primitive(member, act)),
        ResourceKind::Clone(child) => each_primitive(child, act),
        ResourceKind::Bundle(bundle) => {
            for replica in &bundle.replicas {
                each_primitive(&replica.container, act);
                replica.address.iter().for_each(|address| each_primitive(address, act));
                replica.connection.iter().for_each(|connection| each_primitive(connection, act));
            }
            bundle.inside.iter().for_each(|inside| each_primitive(inside, act));
        }
    }
}

#[cfg(test)]
mod tests {
    use model::situation::{Role, Score};

    use super::*;
    use crate::testing::{block, dummy, primitive, read};

    fn resources(inside: &str) -> Vec<Resource> {
        read(&format!("<resources>{inside}</resources>"), "").situation.resources
    }

    fn child(resource: &Resource) -> &Resource {
        match &resource.kind {
            ResourceKind::Clone(child) => child,
            ResourceKind::Group(members) => &members[0],
            other => panic!("no child: {other:?}"),
        }
    }

    #[test]
    fn the_nearest_value_holds_and_defaults_come_before_what_a_clone_has_by_itself() {
        let meta = |pairs: &[(&str, &str)]| block("meta_attributes", pairs);
        let text = |defaults: &str| {
            let inner = dummy("p", &meta(&[("priority", "1")]));
            let group =
                format!(r#"<group id="g">{}{inner}</group>"#, meta(&[("priority", "2"), ("target-role", "Stopped")]));
            let clone =
                format!(r#"<clone id="c">{}{group}</clone>"#, meta(&[("priority", "3"), ("is-managed", "false")]));
            read(&format!("<resources>{clone}</resources><rsc_defaults>{defaults}</rsc_defaults>"), "")
        };
        let imported = text("");
        let clone = &imported.situation.resources[0];
        let (group, inner) = (child(clone), child(child(clone)));
        assert_eq!([clone, group, inner].map(|r| r.meta.priority), [3, 2, 1]);
        assert_eq!([clone, group, inner].map(|r| r.meta.is_managed), [false; 3]);
        assert_eq!([clone, group, inner].map(|r| r.meta.target_role), [None, Some(Role::Stopped), Some(Role::Stopped)]);
        assert_eq!([clone, group, inner].map(|r| r.meta.stickiness), [Score::of(1); 3]);
        let with_default = text(&meta(&[("resource-stickiness", "0")]));
        assert_eq!(child(child(&with_default.situation.resources[0])).meta.stickiness, Score::ZERO);
    }

    #[test]
    fn a_template_gives_what_the_primitive_does_not_say() {
        let own = format!(
            r#"<primitive id="p" template="t">{}<operations><op name="monitor" interval="20"/></operations></primitive>"#,
            block("instance_attributes", &[("level", "own")])
        );
        let template = format!(
            r#"<template id="t" class="ocf" provider="heartbeat" type="db">{}<operations>
               <op name="monitor" interval="10"/><op name="start" interval="0" timeout="7"/></operations></template>"#,
            block("instance_attributes", &[("level", "template"), ("port", "1")])
        );
        let resources = resources(&format!("{template}{own}"));
        let it = primitive(&resources[0]);
        assert_eq!((it.class.as_str(), it.agent.as_str()), ("ocf", "db"));
        let parameters = ["level", "port"].map(|name| it.parameters[name].as_str());
        assert_eq!(parameters, ["own", "1"]);
        let operations: Vec<_> = it.operations.iter().map(|op| (op.name.as_str(), op.interval_ms)).collect();
        assert_eq!(operations, [("monitor", 20_000), ("start", 0)]);
        assert_eq!(it.default_timeouts_ms["start"], 7000);
    }

    #[test]
    fn parameters_differ_by_node_only_where_rules_ask_for_nodes() {
        let rule = r##"<instance_attributes score="9"><rule><expression attribute="#uname" operation="eq" value="b"/></rule>
            <nvpair name="device" value="/dev/b"/></instance_attributes>"##;
        let plain = block("instance_attributes", &[("device", "/dev/a"), ("fstype", "xfs")]);
        let resources = resources(&dummy("p", &format!("{plain}{rule}")));
        let it = primitive(&resources[0]);
        assert_eq!(it.parameters["device"], "/dev/a");
        assert_eq!(it.parameters_on.len(), 1);
        assert_eq!(it.parameters_on[&NodeName::from("b")]["device"], "/dev/b");
    }

    #[test]
    fn a_guest_brings_a_node_and_a_connection_after_its_group() {
        let guest = block("meta_attributes", &[("remote-node", "g1"), ("remote-addr", "192.0.2.1")]);
        let group = format!(r#"<group id="g">{}{}</group>"#, dummy("vm", &guest), dummy("other", ""));
        let imported = read(&format!("<resources>{group}{}</resources>", dummy("last", "")), "");
        let situation = imported.situation;
        let names: Vec<_> = situation.resources.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["g", "g1", "last"]);
        let connection = &situation.resources[1];
        assert_eq!(connection.meta.container, Some("vm".into()));
        assert!(!connection.meta.allows_migration);
        let it = primitive(connection);
        assert_eq!((it.parameters["addr"].as_str(), it.connects.clone()), ("192.0.2.1", Some("g1".into())));
        assert_eq!((it.default_timeouts_ms["start"], it.default_timeouts_ms["monitor"]), (60_000, 30_000));
        assert_eq!(primitive(child(&situation.resources[0])).holds, Some("g1".into()));
        assert_eq!(situation.nodes.last().map(|node| node.name.as_str()), Some("g1"));
    }

    #[test]
    fn agents_that_cannot_tell_instances_apart_make_an_anonymous_clone() {
        let clone = |class: &str, meta: &[(&str, &str)]| {
            let meta = block("meta_attributes", meta);
            format!(r#"<clone id="c">{meta}<primitive id="p" class="{class}" type="x"/></clone>"#)
        };
        let unique = [("globally-unique", "true"), ("clone-max", "9"), ("clone-node-max", "3")];
        let clones = resources(&clone("systemd", &unique));
        let meta = &clones[0].meta;
        assert_eq!((meta.is_unique, meta.clone_max, meta.clone_node_max), (false, Some(2), 1));
        assert!(resources(&clone("ocf", &unique))[0].meta.is_unique);
        assert!(resources(&clone("systemd", &[("promotable", "true")])).is_empty());
    }

    #[test]
    fn what_left_the_configuration_is_kept_as_removed() {
        let history = |name: &str, agent: &str| {
            format!(r#"<lrm_resource id="{name}" class="ocf" provider="pacemaker" type="{agent}"/>"#)
        };
        let all = [("p", "Dummy"), ("p:1", "Dummy"), ("c:1", "Dummy"), ("gone", "Dummy"), ("r9", "remote")];
        let histories: String = all.iter().map(|(name, agent)| history(name, agent)).collect();
        let report = |name: &str| {
            format!(r#"<node_state uname="{name}"><lrm><lrm_resources>{histories}</lrm_resources></lrm></node_state>"#)
        };
        let resources = format!(r#"<resources>{}<clone id="k">{}</clone></resources>"#, dummy("p", ""), dummy("c", ""));
        let situation = read(&resources, &format!("{}{}", report("a"), report("b"))).situation;
        let removed: Vec<_> = situation.removed.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(removed, ["p:1", "gone", "r9"]);
        assert_eq!(situation.nodes.last().map(|node| node.name.as_str()), Some("r9"), "its connection is still there");
    }

    #[test]
    fn a_name_is_given_once() {
        let imported = read(&format!("<resources>{}{}</resources>", dummy("p", ""), dummy("p", "")), "");
        assert_eq!(imported.situation.resources.len(), 1);
        assert_eq!(imported.not_understood[0].place, "primitive p, line 2");
    }
}
