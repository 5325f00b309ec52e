//! Where does a resource run, why there, and why on no other node?

use std::collections::BTreeSet;

use model::situation::{Score, Situation};
use serde::Serialize;

use super::{Ask, NodeWeight, Reasons, Weighing, judge_telling, words};
use crate::Judgement;

/// Why a resource is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The resource.
    pub resource: String,
    /// What is decided, and why: a sentence.
    pub decision: String,
    /// Every node.
    pub nodes: Vec<NodeReasons>,
}

/// What speaks for and against a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeReasons {
    /// The node.
    pub node: String,
    /// It could be chosen, or is.
    pub can_run: bool,
    /// How much speaks for it.
    pub score: Score,
    /// What does, and what speaks against it: each the rest of a sentence that begins with its name.
    pub because: Vec<String>,
}

/// Explains a resource: a primitive, an instance, or what holds several; none if there is no such thing.
pub fn explain(situation: &Situation, resource: &str) -> Option<Explanation> {
    let ask = Ask::Of(BTreeSet::from([resource.to_owned()]));
    let (judgement, reasons) = judge_telling(situation, &ask);
    explanation(&judgement, &reasons, resource)
}

/// Explains a resource that was asked about; none if it was not, or there is no such thing.
pub fn explanation(judgement: &Judgement, reasons: &Reasons, resource: &str) -> Option<Explanation> {
    let parts = parts(reasons, resource);
    let (_, first) = *parts.first()?;
    let is_spread = parts.iter().any(|(_, part)| part.instance != first.instance);
    let (mut decision, nodes) = if is_spread {
        (of_instances(resource, &parts, reasons), spread_nodes(resource, &parts, reasons))
    } else {
        (of_members(resource, &parts, reasons), nodes(resource, first, reasons))
    };
    // Where no instance leads, each says what keeps it from that.
    let is_without_leader = !parts.iter().any(|(_, part)| part.lead.as_ref().is_some_and(|lead| lead.leads));
    let leaders = parts.iter().filter_map(|(_, part)| {
        let lead = part.lead.as_ref().filter(|lead| lead.leads || is_without_leader)?;
        words::lead_in_words(&part.resource, part, lead, reasons)
    });
    for sentence in leaders {
        decision = format!("{decision}; {sentence}");
    }
    let is_part = |told: &str| parts.iter().any(|(id, part)| *id == told || part.resource == told);
    for told in judgement.decisions.iter().filter(|told| told.blocked) {
        if told.resource.as_deref().is_some_and(is_part) {
            let why = told.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            decision = format!("{decision}; this cannot be done now{why}");
            break;
        }
    }
    Some(Explanation { resource: resource.to_owned(), decision, nodes })
}

type Part<'r> = (&'r str, &'r Weighing);

/// The primitives that a name stands for, in the order of the configuration.
fn parts<'r>(reasons: &'r Reasons, name: &str) -> Vec<Part<'r>> {
    let all = || reasons.weighings.iter().map(|(id, weighing)| (id.as_str(), weighing));
    let mut found: Vec<Part<'r>> = all().filter(|(id, _)| *id == name).collect();
    if found.is_empty() {
        found = all().filter(|(_, weighing)| weighing.resource == name).collect();
    }
    if found.is_empty() {
        found = all().filter(|(_, weighing)| weighing.part_of.iter().any(|whole| whole == name)).collect();
    }
    found.sort_by_key(|(_, weighing)| weighing.place);
    found
}

/// One thing, or several that belong together: the first speaks for all that are with it.
fn of_members(name: &str, parts: &[Part<'_>], reasons: &Reasons) -> String {
    let Some((_, first)) = parts.first() else { return String::new() };
    let mut decision = words::decision(name, first, reasons);
    for (id, part) in parts.iter().skip(1).filter(|(_, part)| part.node != first.node) {
        decision = format!("{decision}; {}", words::decision(id, part, reasons));
    }
    decision
}

/// Several instances of the same.
fn of_instances(name: &str, parts: &[Part<'_>], reasons: &Reasons) -> String {
    let instances = instances(parts);
    let places: Vec<&str> = instances.iter().filter_map(|(_, part)| part.node.as_deref()).collect();
    let mut decision = if places.is_empty() {
        format!("{name} has no place")
    } else {
        format!("{name} has {} of {} instances: on {}", places.len(), instances.len(), places.join(", "))
    };
    let moved = instances.iter().filter(|(_, part)| !part.current.is_empty() && part.node.as_slice() != part.current);
    for (id, part) in moved {
        decision = format!("{decision}; {}", words::decision(id, part, reasons));
    }
    let is_open = |part: &Weighing| part.node.is_none() && part.current.is_empty() && !words::is_crowded_out(part);
    let unplaced = instances.iter().find(|(_, part)| is_open(part));
    if let Some((id, part)) = unplaced {
        decision = format!("{decision}; {}", words::decision(id, part, reasons));
    }
    decision
}

/// Of each instance what leads the rest of it: the first member of a group, the container.
fn instances<'r>(parts: &[Part<'r>]) -> Vec<Part<'r>> {
    let mut seen: BTreeSet<Option<u32>> = BTreeSet::new();
    parts.iter().copied().filter(|(_, part)| seen.insert(part.instance)).collect()
}

fn nodes(name: &str, weighing: &Weighing, reasons: &Reasons) -> Vec<NodeReasons> {
    weighing.nodes.iter().map(|row| node(name, weighing, row, reasons)).collect()
}

fn node(name: &str, weighing: &Weighing, row: &NodeWeight, reasons: &Reasons) -> NodeReasons {
    NodeReasons {
        node: row.node.clone(),
        can_run: row.can_run,
        score: row.score,
        because: words::because(name, weighing, row, reasons),
    }
}

/// By node: how the instance there was weighed, else one that found no place, else any.
fn spread_nodes(name: &str, parts: &[Part<'_>], reasons: &Reasons) -> Vec<NodeReasons> {
    let Some((_, first)) = parts.first() else { return Vec::new() };
    let instances: Vec<&Weighing> = instances(parts).into_iter().map(|(_, part)| part).collect();
    let speaker = |node: &str| {
        let there = instances.iter().find(|part| part.node.as_deref() == Some(node));
        let unplaced = || instances.iter().find(|part| part.node.is_none());
        there.or_else(unplaced).copied().unwrap_or(first)
    };
    first
        .nodes
        .iter()
        .filter_map(|row| {
            let weighing = speaker(&row.node);
            let row = weighing.nodes.iter().find(|other| other.node == row.node)?;
            Some(node(name, weighing, row, reasons))
        })
        .collect()
}
