//! Which nodes are there, what are they like, and what does the cluster layer say of them?
//!
//! Members come first, in the order of the document, then remote nodes, then guests. Transient attributes lie over
//! permanent ones.

use std::collections::{BTreeMap, BTreeSet};

use model::situation::{Expected, Join, NodeFacts, NodeKind, NodeSeen, Score};
use model::{NodeName, ResourceName};

use crate::blocks::{self, Block, Table};
use crate::options::{HealthStrategy, Settings};
use crate::rules::Circumstances;
use crate::source::{Element, Source};
use crate::values;

/// A node that exists because of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Implied {
    /// A remote node; the connection bears its name.
    Remote(String),
    /// A machine or container that is itself a resource; the connection bears the node's name.
    Guest { name: String, container: String, is_bundle: bool },
}

/// All nodes.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    pub facts: Vec<NodeFacts>,
    /// For rules: the attributes of each node with the built-in ones, in the same order.
    pub views: Vec<BTreeMap<String, String>>,
    by_name: BTreeMap<String, usize>,
}

impl Nodes {
    /// Its position.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Names and attributes for rules.
    pub(crate) fn views(&self) -> impl Iterator<Item = (&NodeName, &BTreeMap<String, String>)> {
        self.facts.iter().map(|facts| &facts.name).zip(&self.views)
    }
}

/// A node before its attributes are known.
struct Draft<'a> {
    name: &'a str,
    id: &'a str,
    kind: NodeKind,
    element: Option<Element<'a>>,
}

/// Reads `nodes` and `status`, with the nodes that resources imply.
pub(crate) fn read<'a>(source: &Source<'a>, settings: &Settings<'a>, implied: &'a [Implied]) -> Nodes {
    let mut nodes = Nodes::default();
    for draft in drafts(source, implied) {
        nodes.by_name.insert(draft.name.to_owned(), nodes.facts.len());
        nodes.facts.push(NodeFacts {
            name: draft.name.into(),
            id: draft.id.to_owned(),
            kind: draft.kind,
            is_probed: true,
            ..NodeFacts::default()
        });
        nodes.views.push(BTreeMap::new());
        let at = nodes.facts.len() - 1;
        configured(source, settings, draft.element, &mut nodes.facts[at], &mut nodes.views[at]);
    }
    let known = states(source, &nodes);
    for state in source.status.iter().flat_map(|status| status.children()) {
        if state.has_tag_name("node_state") && !known.iter().any(|(other, _)| *other == state) {
            source.remark(state, "a report of a node that is not configured; it is left out");
        }
    }
    for (state, at) in known {
        reported(source, state, &mut nodes.facts[at], &nodes.views[at]);
    }
    for (facts, view) in nodes.facts.iter_mut().zip(&mut nodes.views) {
        conclude(settings, facts, view);
    }
    nodes
}

/// Reports of known nodes, with the positions of these.
pub(crate) fn states<'a>(source: &Source<'a>, nodes: &Nodes) -> Vec<(Element<'a>, usize)> {
    let by_id: BTreeMap<&str, usize> = nodes.facts.iter().enumerate().map(|(at, facts)| (&*facts.id, at)).collect();
    let status = source.status.iter();
    let states = status.flat_map(|status| status.children().filter(|child| child.has_tag_name("node_state")));
    let find = |state: Element<'a>| {
        let by_name = state.attribute("uname").and_then(|name| nodes.find(name));
        by_name.or_else(|| by_id.get(state.attribute("id")?).copied())
    };
    states.filter_map(|state| find(state).map(|at| (state, at))).collect()
}

fn drafts<'a>(source: &Source<'a>, implied: &'a [Implied]) -> Vec<Draft<'a>> {
    let mut members = Vec::new();
    let mut remotes = Vec::new();
    let mut guests = Vec::new();
    let mut seen = BTreeSet::new();
    let section = source.section("nodes");
    let elements = section.iter().flat_map(|s| s.children().filter(|child| child.has_tag_name("node")));
    let mut entries: BTreeMap<&str, Element<'a>> = BTreeMap::new();
    for element in elements {
        let id = element.attribute("id");
        let Some(name) = element.attribute("uname").or(id) else {
            source.remark(element, "a node without name and id; it is left out");
            continue;
        };
        let is_remote = match element.attribute("type").map(str::to_ascii_lowercase).as_deref() {
            None | Some("member" | "normal" | "cluster") => false,
            Some("remote") => true,
            Some(other) => {
                source.remark(element, format!("a node of the type {other:?} runs nothing; it is left out"));
                continue;
            }
        };
        if is_remote {
            entries.entry(name).or_insert(element);
        } else if seen.insert(name) {
            let id = id.unwrap_or(name);
            members.push(Draft { name, id, kind: NodeKind::Member, element: Some(element) });
        } else {
            source.remark(element, format!("there is another node {name}; this one is left out"));
        }
    }
    for node in implied {
        let (name, kind) = match node {
            Implied::Remote(name) => (name, NodeKind::Remote { connection: Some(ResourceName(name.clone())) }),
            Implied::Guest { name, container, is_bundle } => (
                name,
                NodeKind::Guest {
                    connection: ResourceName(name.clone()),
                    container: ResourceName(container.clone()),
                    is_bundle: *is_bundle,
                },
            ),
        };
        if seen.insert(name) {
            let is_guest = matches!(node, Implied::Guest { .. });
            let draft = Draft { name, id: name, kind, element: entries.remove(name.as_str()) };
            if is_guest { guests.push(draft) } else { remotes.push(draft) }
        }
    }
    for (name, element) in entries {
        if seen.insert(name) {
            let kind = NodeKind::Remote { connection: None };
            remotes.push(Draft { name, id: element.attribute("id").unwrap_or(name), kind, element: Some(element) });
        }
    }
    members.into_iter().chain(remotes).chain(guests).collect()
}

/// What the configuration says of it.
fn configured<'a>(
    source: &Source<'a>,
    settings: &Settings<'a>,
    element: Option<Element<'a>>,
    facts: &mut NodeFacts,
    view: &mut BTreeMap<String, String>,
) {
    let is_leader = settings.leader_id == Some(&*facts.id);
    let kind = match facts.kind {
        NodeKind::Member => "cluster",
        NodeKind::Remote { .. } => "remote",
        NodeKind::Guest { .. } => "container",
    };
    view.insert("#uname".to_owned(), facts.name.0.clone());
    view.insert("#id".to_owned(), facts.id.clone());
    view.insert("#is_dc".to_owned(), is_leader.to_string());
    view.insert("#kind".to_owned(), kind.to_owned());
    if let Some(name) = settings.cluster_name {
        view.insert("#cluster-name".to_owned(), name.to_owned());
    }
    let Some(element) = element else { return };
    if let Some(text) = element.attribute("score") {
        match values::score(text, settings.colours) {
            Some(score) => facts.base_score = score,
            None => source.remark(element, format!("the score {text:?} is none; it counts 0")),
        }
    }
    let attributes = evaluate(&blocks::read(source, &[element], "instance_attributes"), view);
    for (name, value) in attributes {
        facts.attributes.insert(name.to_owned(), value.to_owned());
    }
    let mut known = view.clone();
    known.extend(facts.attributes.iter().map(|(name, value)| (name.clone(), value.clone())));
    let capacity = evaluate(&blocks::read(source, &[element], "utilization"), &known);
    facts.capacity = amounts(source, element, &capacity);
}

fn evaluate<'a>(blocks: &[Block<'a>], view: &BTreeMap<String, String>) -> Table<'a> {
    let mut table = Table::new();
    blocks::fill(&mut table, blocks, &Circumstances { node: Some(view), ..Circumstances::default() });
    table
}

/// Amounts of what a node has or a resource needs.
pub(crate) fn amounts<'a>(source: &Source<'a>, at: Element<'a>, table: &Table<'a>) -> BTreeMap<String, i32> {
    let mut amounts = BTreeMap::new();
    for (name, text) in table {
        match values::integer(text) {
            Some(amount) => {
                let amount = amount.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
                amounts.insert((*name).to_owned(), amount);
            }
            None => source.remark(at, format!("{name}={text:?} is no amount; it is left out")),
        }
    }
    amounts
}

/// What the status says of it.
fn reported<'a>(source: &Source<'a>, state: Element<'a>, facts: &mut NodeFacts, view: &BTreeMap<String, String>) {
    let (is_member, member_since) = membership(state.attribute("in_ccm"));
    facts.seen = Some(NodeSeen {
        is_member,
        member_since,
        is_process_up: state.attribute("crmd").is_some_and(is_up),
        join: match state.attribute("join").map(str::to_ascii_lowercase).as_deref() {
            None => Join::Missing,
            Some("member") => Join::Member,
            Some("pending") => Join::Pending,
            Some("down") => Join::Down,
            Some("banned" | "nack") => Join::Banned,
            Some(_) => Join::Other,
        },
        expected: match state.attribute("expected").map(str::to_ascii_lowercase).as_deref() {
            None => Expected::Missing,
            Some("member") => Expected::Member,
            Some(_) => Expected::Down,
        },
        is_fenced: state.attribute("node_fenced").is_some_and(is_set),
        is_remote_maintenance: state.attribute("node_in_maintenance").is_some_and(is_set),
    });
    for transient in source.children(state, "transient_attributes") {
        let table = evaluate(&blocks::read(source, &[transient], "instance_attributes"), view);
        facts.attributes.extend(table.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

/// In the membership, and since when.
fn membership(text: Option<&str>) -> (Option<bool>, Option<i64>) {
    let Some(text) = text else { return (None, None) };
    match (values::boolean(text), values::integer(text)) {
        (Some(is_member), _) => (Some(is_member), None),
        (None, Some(since)) => (Some(since > 0), Some(since).filter(|since| *since > 0)),
        (None, None) => (Some(text.eq_ignore_ascii_case("online")), None),
    }
}

fn is_up(text: &str) -> bool {
    text.eq_ignore_ascii_case("online") || is_set(text)
}

/// Yes, or a point in time.
fn is_set(text: &str) -> bool {
    values::boolean(text).or_else(|| values::integer(text).map(|value| value > 0)).unwrap_or(false)
}

/// What follows from its attributes.
fn conclude(settings: &Settings<'_>, facts: &mut NodeFacts, view: &mut BTreeMap<String, String>) {
    let site = facts.attributes.get("site-name").cloned().or_else(|| settings.cluster_name.map(str::to_owned));
    if let Some(site) = site {
        view.insert("#site-name".to_owned(), site);
    }
    view.extend(facts.attributes.iter().map(|(name, value)| (name.clone(), value.clone())));
    let get = |name: &str| facts.attributes.get(name).map(String::as_str);
    facts.is_standby = get("standby").and_then(values::boolean).unwrap_or(false);
    facts.is_maintenance = get("maintenance").and_then(values::boolean).unwrap_or(false);
    facts.wants_fencing = get("terminate").is_some_and(is_set);
    facts.shutdown_since = get("shutdown").and_then(shutdown_since);
    facts.is_unfenced = get("#node-unfenced").is_some_and(|text| values::integer(text) != Some(0));
    facts.unfenced_with = get("#digests-all").map(str::to_owned);
    facts.is_probed = facts.kind == NodeKind::Member
        || get("resource-discovery-enabled").is_none_or(|text| values::boolean(text) == Some(true));
    if settings.health != HealthStrategy::None {
        let colours = facts.attributes.iter().filter(|(name, _)| name.starts_with("#health")).map(|(_, value)| value);
        let scores = colours.clone().map(|text| values::score(text, settings.colours).unwrap_or_default());
        let base = if settings.health == HealthStrategy::Progressive { settings.health_base } else { Score::ZERO };
        // With `custom`, rules of the operator say what the colours mean.
        if settings.health != HealthStrategy::Custom {
            facts.health = scores.fold(base, |sum, score| sum + score);
        }
        let has = |colour: &str| colours.clone().any(|text| text.eq_ignore_ascii_case(colour));
        facts.health_colour = ["red", "yellow"].into_iter().find(|colour| has(colour)).map(str::to_owned);
    }
}

/// Seconds since 1970, or 1 if it is said without a time. None: it does not want to leave.
fn shutdown_since(text: &str) -> Option<i64> {
    match values::integer(text) {
        Some(0) => None,
        Some(since) => Some(since.max(1)),
        None => (!text.is_empty() && values::boolean(text) != Some(false)).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;

    use super::*;
    use crate::options;

    fn nodes(configuration: &str, status: &str, implied: &[Implied]) -> Nodes {
        let text = format!(
            "<cib have-quorum=\"1\" dc-uuid=\"1\"><configuration>{configuration}</configuration>\
             <status>{status}</status></cib>"
        );
        let document = Document::parse(&text).expect("well-formed");
        let source = Source::new(&document, 0);
        read(&source, &options::read(&source, document.root_element()), implied)
    }

    const TWO: &str = r#"<nodes><node id="1" uname="a"><instance_attributes><nvpair name="standby" value="on"/>
        </instance_attributes></node><node id="2" uname="b" score="-5"/></nodes>"#;

    #[test]
    fn transient_attributes_lie_over_permanent_ones() {
        let nodes = nodes(
            TWO,
            r#"<node_state id="1" uname="a" in_ccm="true" crmd="online" join="member" expected="member">
               <transient_attributes><instance_attributes><nvpair name="standby" value="off"/>
               <nvpair name="shutdown" value="1234"/></instance_attributes></transient_attributes></node_state>"#,
            &[],
        );
        assert!(!nodes.facts[0].is_standby);
        assert_eq!(nodes.facts[0].shutdown_since, Some(1234));
        assert_eq!(nodes.views[0].get("#is_dc").map(String::as_str), Some("true"));
        assert_eq!(nodes.facts[1].base_score, Score::of(-5));
        assert_eq!(nodes.facts[1].seen, None);
    }

    #[test]
    fn the_cluster_layer_speaks_in_words_and_in_times() {
        let nodes = nodes(
            TWO,
            r#"<node_state id="1" in_ccm="1720597967" crmd="1720597968" join="nack" expected="down"/>
               <node_state uname="b" in_ccm="false" crmd="offline" node_fenced="17"/><node_state uname="c"/>"#,
            &[],
        );
        let seen = nodes.facts[0].seen.clone().expect("seen");
        assert_eq!((seen.is_member, seen.member_since), (Some(true), Some(1_720_597_967)));
        assert!(seen.is_process_up && seen.join == Join::Banned && seen.expected == Expected::Down);
        let seen = nodes.facts[1].seen.clone().expect("seen");
        assert_eq!((seen.is_member, seen.is_process_up, seen.is_fenced), (Some(false), false, true));
    }

    #[test]
    fn remote_nodes_come_after_members_and_guests_last() {
        let guest = Implied::Guest { name: "g".to_owned(), container: "vm".to_owned(), is_bundle: false };
        let implied = [guest, Implied::Remote("r".to_owned())];
        let nodes = nodes(
            r#"<nodes><node id="r" uname="r" type="remote"/><node id="old" uname="old" type="remote"/>
               <node id="1" uname="a"/><node id="p" uname="p" type="ping"/></nodes>"#,
            "",
            &implied,
        );
        let names: Vec<&str> = nodes.facts.iter().map(|facts| facts.name.as_str()).collect();
        assert_eq!(names, ["a", "r", "old", "g"]);
        assert_eq!(nodes.facts[2].kind, NodeKind::Remote { connection: None });
    }

    #[test]
    fn health_is_summed_by_strategy() {
        let option = |strategy: &str| {
            format!(
                r##"<crm_config><cluster_property_set><nvpair name="node-health-strategy" value="{strategy}"/>
                <nvpair name="node-health-yellow" value="-10"/><nvpair name="node-health-base" value="3"/>
                </cluster_property_set></crm_config><nodes><node id="1" uname="a"><instance_attributes>
                <nvpair name="#health-disk" value="yellow"/><nvpair name="#health-fan" value="-2"/>
                </instance_attributes></node></nodes>"##
            )
        };
        let health = |strategy: &str| nodes(&option(strategy), "", &[]).facts[0].health.value();
        assert_eq!(health("progressive"), -9);
        assert_eq!(health("only-green"), -1_000_000);
        assert_eq!(health("migrate-on-red"), -2);
        assert_eq!(health("none"), 0);
        assert_eq!(health("custom"), 0);
    }
}
