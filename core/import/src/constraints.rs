//! Which resources does a constraint speak of? Names, templates, tags and sets.
//!
//! A template or a tag stands for all its resources, unordered among themselves. A set with an unknown member loses
//! that member and all that follow.

use std::collections::{BTreeMap, BTreeSet};

use model::ResourceName;
use model::situation::{Colocation, Location, Order, OrderAction, Resource, ResourceKind, Role, TicketRule};

use crate::blocks::Table;
use crate::colocations;
use crate::locations;
use crate::nodes::Nodes;
use crate::orders;
use crate::resources::Resources;
use crate::rules::{Circumstances, Rule};
use crate::source::{Element, Source};
use crate::tickets;
use crate::values::{self, Colours};

/// All constraints, each kind in the order of the document.
#[derive(Default)]
pub(crate) struct Constraints {
    pub locations: Vec<Location>,
    pub colocations: Vec<Colocation>,
    pub orders: Vec<Order>,
    pub ticket_rules: Vec<TicketRule>,
}

/// What constraints are read with.
pub(crate) struct Context<'s, 'a> {
    pub source: &'s Source<'a>,
    pub nodes: &'s Nodes,
    pub colours: Colours,
    pub names: Names<'s, 'a>,
    /// Settings of resources, where rules compare with them.
    pub settings: &'s BTreeMap<String, Table<'a>>,
}

/// Reads `constraints`.
pub(crate) fn read<'a>(source: &Source<'a>, nodes: &Nodes, colours: Colours, resources: &Resources<'a>) -> Constraints {
    let context =
        Context { source, nodes, colours, names: Names::new(source, resources), settings: &resources.settings };
    let mut constraints = Constraints::default();
    let section = source.section("constraints");
    for element in section.iter().flat_map(|s| s.children().filter(|child| child.is_element())) {
        if !is_in_force(source, element) {
            continue;
        }
        match element.tag_name().name() {
            "rsc_location" => locations::read(&context, element, &mut constraints.locations),
            "rsc_colocation" => colocations::read(&context, element, &mut constraints.colocations),
            "rsc_order" => orders::read(&context, element, &mut constraints.orders),
            "rsc_ticket" => tickets::read(&context, element, &mut constraints.ticket_rules),
            other => source.remark(element, format!("{other} is no constraint; it is left out")),
        }
    }
    constraints
}

/// Does its `<lifetime>` still hold, or has it none? One of its rules is enough.
fn is_in_force<'a>(source: &Source<'a>, constraint: Element<'a>) -> bool {
    let Some(lifetime) = constraint.children().find(|child| child.has_tag_name("lifetime")) else { return true };
    if !source.may_be_older_than(4) {
        source.remark(lifetime, "there is no lifetime since schema 4.0, but a rule; the constraint holds for ever");
        return true;
    }
    let rules: Vec<Rule<'a>> = source.children(lifetime, "rule").map(|rule| Rule::read(source, rule)).collect();
    let holds = rules.is_empty() || rules.iter().any(|rule| rule.holds(&Circumstances::default()));
    if !holds {
        source.remark(constraint, "its lifetime is over, or has not begun; the constraint is left out");
    }
    holds
}

/// Everything that a constraint can name.
pub(crate) struct Names<'s, 'a> {
    resources: BTreeMap<&'s str, &'s Resource>,
    /// Members of templates and tags.
    sets: BTreeMap<&'s str, Vec<&'a str>>,
    /// Outermost resources, in order.
    pub top: &'s [Resource],
}

impl<'s, 'a> Names<'s, 'a> {
    fn new(source: &Source<'a>, resources: &'s Resources<'a>) -> Names<'s, 'a> {
        let mut names = Names { resources: BTreeMap::new(), sets: BTreeMap::new(), top: &resources.list };
        for resource in &resources.list {
            names.add(resource);
        }
        for (template, users) in &resources.of_template {
            names.sets.insert(template, users.clone());
        }
        let tags = source.section("tags");
        for tag in tags.iter().flat_map(|s| s.children().filter(|child| child.has_tag_name("tag"))) {
            let members = tag.children().filter(|child| child.has_tag_name("obj_ref"));
            if let Some(id) = tag.attribute("id") {
                names.sets.entry(id).or_insert_with(|| members.filter_map(|m| m.attribute("id")).collect());
            }
        }
        names
    }

    fn add(&mut self, resource: &'s Resource) {
        self.resources.insert(resource.name.as_str(), resource);
        match &resource.kind {
            ResourceKind::Primitive(_) => {}
            ResourceKind::Group(members) => members.iter().for_each(|member| self.add(member)),
            ResourceKind::Clone(child) => self.add(child),
            ResourceKind::Bundle(bundle) => {
                for replica in &bundle.replicas {
                    self.add(&replica.container);
                    replica.address.iter().for_each(|address| self.add(address));
                    replica.connection.iter().for_each(|connection| self.add(connection));
                }
                bundle.inside.iter().for_each(|inside| self.add(inside));
            }
        }
    }

    /// The resource of that name; an instance of a clone is meant by the name without its number.
    pub(crate) fn find(&self, name: &str) -> Option<&'s Resource> {
        let without_number = || {
            let (name, number) = name.rsplit_once(':')?;
            number.bytes().all(|b| b.is_ascii_digit()).then(|| self.resources.get(name))?
        };
        self.resources.get(name).or_else(without_number).copied()
    }

    /// The members of a template or tag; none if the name is not of such.
    pub(crate) fn members(&self, name: &str) -> Option<&[&'a str]> {
        if self.resources.contains_key(name) { None } else { self.sets.get(name).map(Vec::as_slice) }
    }
}

/// Resources that a constraint treats alike.
#[derive(Clone, Debug)]
pub(crate) struct Set<'a> {
    pub element: Element<'a>,
    pub id: &'a str,
    pub members: Vec<ResourceName>,
    /// An unknown member cut it short.
    pub is_cut: bool,
    pub sequential: Option<bool>,
    pub require_all: bool,
    pub role: Option<Role>,
    pub action: Option<&'a str>,
}

impl<'a> Context<'_, 'a> {
    /// What the operator calls it.
    pub(crate) fn id(&self, element: Element<'a>) -> String {
        element.attribute("id").unwrap_or_default().to_owned()
    }

    /// The one resource that an attribute names. Remarks that it is unknown.
    pub(crate) fn one(&self, element: Element<'a>, name: &str) -> Option<ResourceName> {
        let found = self.names.find(name).map(|resource| resource.name.clone());
        if found.is_none() {
            self.source.remark(element, format!("there is no resource {name}; the constraint is left out"));
        }
        found
    }

    /// The resource sets of a constraint, in order.
    pub(crate) fn sets(&self, element: Element<'a>) -> Vec<Set<'a>> {
        let mut sets = Vec::new();
        for set in self.source.children(element, "resource_set") {
            let boolean = |name: &str| set.attribute(name).and_then(values::boolean);
            let mut result = Set {
                element: set,
                id: set.attribute("id").unwrap_or_default(),
                members: Vec::new(),
                is_cut: false,
                sequential: boolean("sequential"),
                require_all: boolean("require-all").unwrap_or(true),
                role: self.role(set, "role").unwrap_or(None),
                action: set.attribute("action"),
            };
            let references = set.children().filter(|child| child.has_tag_name("resource_ref"));
            let mut named = BTreeSet::new();
            for name in references.filter_map(|reference| reference.attribute("id")) {
                for name in self.names.members(name).unwrap_or(&[name]) {
                    match self.names.find(name) {
                        Some(resource) if !result.is_cut => {
                            if named.insert(&resource.name) {
                                result.members.push(resource.name.clone());
                            }
                        }
                        Some(_) => {}
                        None => {
                            self.source.remark(set, format!("no resource {name}; the set ends before it"));
                            result.is_cut = true;
                        }
                    }
                }
            }
            sets.push(result);
        }
        sets
    }

    /// A set in place of a template or tag that an attribute names.
    pub(crate) fn set_of(&self, element: Element<'a>, name: &'a str) -> Option<Set<'a>> {
        let members = self.names.members(name)?;
        let known = members.iter().map_while(|name| self.names.find(name));
        let members: Vec<_> = known.map(|resource| resource.name.clone()).collect();
        if members.is_empty() {
            self.source.remark(element, format!("{name} stands for no resource"));
        }
        let is_cut = false;
        Some(Set {
            element,
            id: name,
            members,
            is_cut,
            sequential: Some(false),
            require_all: true,
            role: None,
            action: None,
        })
    }

    /// A role; started is the same as any. Err: it is none, which is remarked.
    pub(crate) fn role(&self, element: Element<'a>, name: &str) -> Result<Option<Role>, ()> {
        match element.attribute(name).map(|text| (text, values::role(text))) {
            None | Some((_, Some(Role::Started))) => Ok(None),
            Some((_, Some(role))) => Ok(Some(role)),
            Some((text, None)) => {
                self.source.remark(element, format!("{name}={text:?} is no role; the constraint is left out"));
                Err(())
            }
        }
    }

    /// A score; what cannot be read counts as none.
    pub(crate) fn score(&self, element: Element<'a>) -> Option<model::situation::Score> {
        let text = element.attribute("score")?;
        let score = values::score(text, self.colours);
        if score.is_none() {
            self.source.remark(element, format!("the score {text:?} is none; it counts 0"));
        }
        score
    }
}

/// An action of an order. None: it is none.
pub(crate) fn action(text: &str) -> Option<OrderAction> {
    match text.to_ascii_lowercase().as_str() {
        "start" => Some(OrderAction::Start),
        "stop" => Some(OrderAction::Stop),
        "promote" => Some(OrderAction::Promote),
        "demote" => Some(OrderAction::Demote),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{constrained, dummy, read};

    #[test]
    fn a_constraint_holds_for_its_lifetime() {
        let location = |operation: &str| {
            format!(
                r#"<rsc_location id="l" rsc="x" node="a" score="1"><lifetime><rule score="0">
                <date_expression operation="{operation}" start="2020-01-01" end="2020-01-01"/></rule></lifetime></rsc_location>
                <rsc_order id="o" first="x" then="y"><lifetime><rule score="0">
                <date_expression operation="{operation}" start="2020-01-01" end="2020-01-01"/></rule></lifetime></rsc_order>"#
            )
        };
        let ended = constrained(&location("gt"));
        assert!(ended.situation.locations.is_empty() && ended.situation.orders.is_empty());
        assert_eq!(ended.not_understood.len(), 2, "{:?}", ended.not_understood);
        let lasting = constrained(&location("lt"));
        assert_eq!((lasting.situation.locations.len(), lasting.situation.orders.len()), (1, 1));
        assert!(lasting.not_understood.is_empty(), "{:?}", lasting.not_understood);
    }

    #[test]
    fn templates_and_tags_stand_for_their_resources() {
        let resources = r#"<template id="t" class="ocf" provider="pacemaker" type="Dummy"/>
            <primitive id="t1" template="t"/><primitive id="t2" template="t"/>"#;
        let tags = r#"<tags><tag id="both"><obj_ref id="t2"/><obj_ref id="x"/></tag></tags>"#;
        let constraints = r#"<rsc_colocation rsc="t" with-rsc="x" score="1"/><rsc_colocation rsc="t" with-rsc="both" score="2"/>
            <rsc_order first="both" then="t1"/><rsc_location rsc="both" node="a" score="3"/>
            <rsc_order first="x" then="t:0"/>"#;
        let imported = read(
            &format!(
                "<resources>{resources}{}</resources>{tags}<constraints>{constraints}</constraints>",
                dummy("x", "")
            ),
            "",
        );
        let situation = imported.situation;
        let pairs: Vec<_> = situation.colocations.iter().map(|c| format!("{}+{}", c.dependent, c.primary)).collect();
        assert_eq!(pairs, ["t1+x", "t2+x"]);
        assert_eq!(situation.orders.len(), 2);
        assert_eq!(situation.locations.iter().map(|l| l.resource.as_str()).collect::<Vec<_>>(), ["t2", "x"]);
        assert_eq!(imported.not_understood.len(), 2, "both sides are several, and nobody is called t:0");
    }
}
