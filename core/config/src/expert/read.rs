//! What does the `[expert]` part say? Every table is read into the words of a situation, with the place of what does not
//! fit.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use model::situation::{Meta, Options, Primitive};
use model::{ClusterConfig, NodeName, ResourceName};
use serde::de::DeserializeOwned;
use toml::de::{DeValue, ValueDeserializer};
use toml::{Spanned, Table};

use super::{Expert, ExpertResource, NodeWords, Shape};
use crate::diagnostic::{Diagnostic, Findings};
use crate::section::{Section, Value, wrong_type};
use crate::words::{shown, suggestion};

const KEYS: [&str; 10] = [
    "assumes_fencing",
    "options",
    "nodes",
    "resources",
    "order_of_choice",
    "locations",
    "colocations",
    "orders",
    "tickets",
    "fence_levels",
];
/// Keys of a resource that are no settings.
const SHAPES: [&str; 4] = ["service", "members", "copies_of", "bundle"];

/// Where things stand, for the checks of names.
#[derive(Default)]
struct Mentions(Vec<(ResourceName, Range<usize>)>);

/// Reads the expert part of a file, if there is one, and checks its names against those of the plain words.
pub(crate) fn read(root: &Section<'_>, config: &ClusterConfig, findings: &mut Findings) -> Option<Expert> {
    let section = root.nested("expert", findings)?;
    section.refuse_unknown_keys(&KEYS, findings);
    let mut mentions = Mentions::default();
    let mut expert = Expert {
        assumes_fencing: section.boolean("assumes_fencing", findings).unwrap_or(false),
        options: overlay::<Options>(&section, "options", findings),
        nodes: BTreeMap::new(),
        resources: BTreeMap::new(),
        order_of_choice: list(&section, "order_of_choice", findings, |name: &ResourceName, span| {
            mentions.0.push((name.clone(), span));
        }),
        locations: list(&section, "locations", findings, |_, _| {}),
        colocations: list(&section, "colocations", findings, |_, _| {}),
        orders: list(&section, "orders", findings, |_, _| {}),
        ticket_rules: list(&section, "tickets", findings, |_, _| {}),
        fence_levels: section
            .entry("fence_levels")
            .and_then(|(_, v)| value(&section.what, v, findings))
            .unwrap_or_default(),
    };
    for (name, span, value) in tables(&section, "nodes", findings) {
        if let Some(table) = table_with::<NodeWords>(&format!("node `{}`", shown(name)), span, value, findings) {
            expert.nodes.insert(NodeName::from(name), table);
        }
    }
    for (name, span, value) in tables(&section, "resources", findings) {
        if let Some(said) = resource(name, span, value, &mut mentions, findings) {
            expert.resources.insert(ResourceName::from(name), said);
        }
    }
    check_names(&expert, config, &section, &mentions, findings);
    Some(expert)
}

fn tables<'a>(
    section: &Section<'a>,
    key: &str,
    findings: &mut Findings,
) -> Vec<(&'a str, Range<usize>, &'a Value<'a>)> {
    section.nested(key, findings).map(|parent| parent.entries().collect()).unwrap_or_default()
}

fn resource(
    name: &str,
    span: Range<usize>,
    found: &Value<'_>,
    mentions: &mut Mentions,
    findings: &mut Findings,
) -> Option<ExpertResource> {
    let what = format!("resource `{}` of the expert part", shown(name));
    let section = Section::of(what.clone(), span.clone(), found, findings)?;
    let service = overlay::<Primitive>(&section, "service", findings);
    let mut shapes = Vec::new();
    if let Some((at, members)) = section.entry("members")
        && let Some(members) = value::<Vec<ResourceName>>(&what, members, findings)
    {
        shapes.push((at, Shape::Members(members)));
    }
    if let Some((at, inner)) = section.entry("copies_of")
        && let Some(inner) = value(&what, inner, findings)
    {
        shapes.push((at, Shape::CopiesOf(inner)));
    }
    if let Some((at, bundle)) = section.entry("bundle")
        && let Some(bundle) = value(&what, bundle, findings)
    {
        shapes.push((at, Shape::Bundle(bundle)));
    }
    if let Some((at, _)) = shapes.get(1) {
        findings.push(
            Diagnostic::error("config::expert", format!("{what} is two things at once"))
                .at(at.clone(), "the second")
                .help("write one of `members`, `copies_of` and `bundle`"),
        );
    }
    let shape = shapes.into_iter().next();
    if let Some((at, shape)) = &shape {
        mentions.0.extend(shape.inner().into_iter().map(|inner| (inner.clone(), at.clone())));
    }
    let DeValue::Table(table) = found.get_ref() else { return None };
    let mut settings = table.clone();
    for shape in SHAPES {
        settings.remove(shape);
    }
    let settings = Spanned::new(found.span(), DeValue::Table(settings));
    let settings = table_with::<Meta>(&what, span, &settings, findings)?;
    Some(ExpertResource { settings, service, shape: shape.map(|(_, shape)| shape) })
}

/// A table that is laid over a `T`; it must be one for itself.
fn overlay<T: DeserializeOwned>(section: &Section<'_>, key: &str, findings: &mut Findings) -> Table {
    let Some((span, value)) = section.entry(key) else { return Table::new() };
    let what = format!("`{key}` of {}", section.what);
    table_with::<T>(&what, span, value, findings).unwrap_or_default()
}

fn table_with<T: DeserializeOwned>(
    what: &str,
    span: Range<usize>,
    found: &Value<'_>,
    findings: &mut Findings,
) -> Option<Table> {
    Section::of(what.to_owned(), span, found, findings)?;
    value::<T>(what, found, findings)?;
    value(what, found, findings)
}

/// The entries of a list, each with its place.
fn list<T: DeserializeOwned>(
    section: &Section<'_>,
    key: &str,
    findings: &mut Findings,
    mut seen: impl FnMut(&T, Range<usize>),
) -> Vec<T> {
    let Some((_, found)) = section.entry(key) else { return Vec::new() };
    let DeValue::Array(entries) = found.get_ref() else {
        let what = format!("`{key}` of {}", section.what);
        findings.push(wrong_type(&what, "a list", found.get_ref(), found.span()));
        return Vec::new();
    };
    let mut list = Vec::new();
    for entry in entries.iter() {
        if let Some(found) = value(&format!("an entry of `{key}`"), entry, findings) {
            seen(&found, entry.span());
            list.push(found);
        }
    }
    list
}

fn value<T: DeserializeOwned>(what: &str, found: &Value<'_>, findings: &mut Findings) -> Option<T> {
    T::deserialize(ValueDeserializer::from(found.clone()))
        .map_err(|error| {
            let message = error.message();
            let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
            let span = error.span().unwrap_or_else(|| found.span());
            let diagnostic = match unknown {
                Some((key, rest)) => {
                    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
                    Diagnostic::error("config::unknown_key", format!("{what} has no key `{}`", shown(key)))
                        .at(span, "unknown key")
                        .help(suggestion(key, "keys", &known))
                }
                None => Diagnostic::error("config::expert", format!("{what} is not understood: {}", shown(message)))
                    .at(span, "here"),
            };
            findings.push(diagnostic);
        })
        .ok()
}

/// Every resource that is mentioned is there, and lies in one other at most.
fn check_names(
    expert: &Expert,
    config: &ClusterConfig,
    section: &Section<'_>,
    mentions: &Mentions,
    findings: &mut Findings,
) {
    let plain = config.resources.keys().map(|name| name.as_str()).chain(config.groups.keys().map(|name| name.as_str()));
    let known: BTreeSet<&str> = plain.chain(expert.resources.keys().map(|name| name.as_str())).collect();
    let listed: Vec<&str> = known.iter().copied().collect();
    let refuse = |name: &ResourceName, span: Range<usize>, findings: &mut Findings| {
        if !known.contains(name.as_str()) && !findings.is_full() {
            let message = format!("the expert part names resource `{}`, which does not exist", shown(name.as_str()));
            findings.push(
                Diagnostic::error("config::unknown_resource", message).at(span, "does not exist").help(suggestion(
                    name.as_str(),
                    "resources",
                    &listed,
                )),
            );
        }
    };
    for (name, span) in &mentions.0 {
        refuse(name, span.clone(), findings);
    }
    let place = |key: &str, at: usize| -> Range<usize> {
        let found = section.entry(key).and_then(|(_, value)| match value.get_ref() {
            DeValue::Array(entries) => entries.get(at).map(|entry| entry.span()),
            _ => None,
        });
        found.unwrap_or_else(|| section.span.clone())
    };
    for (at, location) in expert.locations.iter().enumerate() {
        refuse(&location.resource, place("locations", at), findings);
    }
    for (at, colocation) in expert.colocations.iter().enumerate() {
        refuse(&colocation.dependent, place("colocations", at), findings);
        refuse(&colocation.primary, place("colocations", at), findings);
    }
    for (at, order) in expert.orders.iter().enumerate() {
        refuse(&order.then, place("orders", at), findings);
        let firsts = match &order.first {
            model::situation::OrderSide::One(first) => std::slice::from_ref(first),
            model::situation::OrderSide::AnyOf { members, .. } => members.as_slice(),
        };
        firsts.iter().for_each(|first| refuse(first, place("orders", at), findings));
    }
    for (at, rule) in expert.ticket_rules.iter().enumerate() {
        refuse(&rule.resource, place("tickets", at), findings);
    }
    let mut inside: BTreeMap<&ResourceName, &ResourceName> = BTreeMap::new();
    for (outer, said) in &expert.resources {
        for inner in said.shape.iter().flat_map(|shape| shape.inner()) {
            if let Some(other) = inside.insert(inner, outer) {
                let span = tables(section, "resources", findings)
                    .into_iter()
                    .find(|(name, _, _)| *name == outer.as_str())
                    .map_or_else(|| section.span.clone(), |(_, span, _)| span);
                let message = format!("resource `{inner}` lies in `{other}` and in `{outer}`");
                findings.push(
                    Diagnostic::error("config::expert", message)
                        .at(span, "the second")
                        .help("a resource lies in one other at most; take it out of one of them"),
                );
            }
        }
    }
    refuse_circles(&inside, section, findings);
}

/// What lies in itself would never be put together.
fn refuse_circles(inside: &BTreeMap<&ResourceName, &ResourceName>, section: &Section<'_>, findings: &mut Findings) {
    let mut sound: BTreeSet<&ResourceName> = BTreeSet::new();
    for start in inside.keys() {
        let mut path = BTreeSet::new();
        let mut at = *start;
        while !sound.contains(at) {
            if !path.insert(at) {
                let message = format!("resource `{at}` lies in itself");
                findings.push(Diagnostic::error("config::cycle", message).at(section.span.clone(), "somewhere here"));
                return;
            }
            match inside.get(at) {
                Some(outer) => at = outer,
                None => break,
            }
        }
        sound.extend(path);
    }
}
