//! A judgement with its reasons, as an operator reads it: a sentence for each resource that changes, then what is done,
//! numbered, each with its cause.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use super::{Cause, HandsOff, Reasons, Weighing, words};
use crate::act::Told;
use crate::sequence::{drop_detours, sequence};
use crate::{Judgement, Place};

/// The resources that a story has to explain: those that the judgement changes, leaves stopped or leaves blocked.
pub fn changed(judgement: &Judgement) -> BTreeSet<String> {
    let mut asked: BTreeSet<String> = judgement.decisions.iter().filter_map(|told| told.resource.clone()).collect();
    let placement = judgement.placement();
    let is_stopped = |name: &String| placement.get(name).is_none_or(Vec::is_empty);
    let stopped = judgement.current().into_iter().filter(|(name, places)| places.is_empty() && is_stopped(name));
    asked.extend(stopped.map(|(name, _)| name));
    let is_blocked = |flags: &Vec<String>| flags.iter().any(|flag| flag.starts_with("blocked@"));
    asked.extend(judgement.flags.iter().filter(|(_, flags)| is_blocked(flags)).map(|(name, _)| name.clone()));
    asked
}

impl fmt::Display for Judgement {
    /// Its story, without reasons that nobody asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&story(self, &Reasons::default()))
    }
}

/// Tells a judgement.
pub fn story(judgement: &Judgement, reasons: &Reasons) -> String {
    let mut out = String::new();
    let is_up = |look: &crate::NodeLook| matches!(look.state, "online" | "standby" | "maintenance" | "unclean-online");
    if !judgement.nodes.is_empty() && !judgement.nodes.values().any(is_up) {
        out += "no node is known to be online\n";
    }
    if judgement.decisions.is_empty() {
        out += "nothing would be started, stopped or moved\n";
    }
    let mut said: BTreeSet<&str> = BTreeSet::new();
    let mut texts: BTreeSet<String> = BTreeSet::new();
    for told in &judgement.decisions {
        let sentence = sentence(told, judgement, reasons);
        if let Some((resource, text)) = sentence {
            said.insert(resource);
            // What stops in several places has one sentence for all of them.
            if texts.insert(text.clone()) {
                out += &format!("{text}\n");
            }
        } else {
            out += &format!("{told}\n");
        }
    }
    let current = judgement.current();
    for (name, places) in &judgement.placement() {
        let is_changed = current.get(name).map_or(&[][..], Vec::as_slice) != places.as_slice();
        if is_changed && !said.contains(name.as_str()) {
            out += &format!("{name} would be {}\n", Place::in_words(places));
        }
    }
    for (resource, text) in left_as_it_is(reasons) {
        if said.insert(resource) {
            out += &format!("{text}\n");
        }
    }
    for (name, obstacles) in judgement.obstacles.iter().filter(|(name, _)| !said.contains(name.as_str())) {
        for obstacle in obstacles {
            out += &format!("{name} {obstacle}\n");
        }
    }
    for (number, (at, after)) in in_order(judgement).into_iter().enumerate() {
        let _ = write!(out, "{:>3}. {}", number + 1, judgement.actions[at]);
        // That what runs is checked needs no saying, and a look is its own reason.
        let goes_without_saying = |cause: &&Cause| matches!(cause, Cause::Checked | Cause::NotLookedYet);
        if let Some(cause) = reasons.causes.get(at).filter(|cause| !goes_without_saying(cause)) {
            let _ = write!(out, ": {cause}");
        }
        if !after.is_empty() {
            let after: Vec<String> = after.iter().map(|earlier| (earlier + 1).to_string()).collect();
            let _ = write!(out, "  (after {})", after.join(", "));
        }
        out.push('\n');
    }
    out
}

/// What is to run and stays stopped, and what is blocked where it is: why, once for all instances alike.
fn left_as_it_is(reasons: &Reasons) -> Vec<(&str, String)> {
    let mut weighings: Vec<(&String, &Weighing)> = reasons.weighings.iter().collect();
    weighings.sort_by_key(|(_, weighing)| weighing.place);
    let runs = |resource: &str| {
        let alike = reasons.weighings.values().filter(|weighing| weighing.resource == resource);
        alike.into_iter().any(|weighing| weighing.node.is_some() || !weighing.current.is_empty())
    };
    let mut told = Vec::new();
    for (id, weighing) in weighings {
        let is_blocked = match &weighing.hands_off {
            Some(HandsOff::Failed(_) | HandsOff::ActiveOnSeveral { .. } | HandsOff::Frozen) => true,
            Some(HandsOff::Unmanaged | HandsOff::Maintenance) | None => false,
        };
        if weighing.is_wanted && !runs(&weighing.resource) || is_blocked && !weighing.current.is_empty() {
            let called = if weighing.instance.is_some() { &weighing.resource } else { id };
            told.push((called.as_str(), words::decision(called, weighing, reasons)));
        }
    }
    told
}

/// The actions, each after those that it waits for, with the places in this order of those that it waits for directly.
fn in_order(judgement: &Judgement) -> Vec<(usize, Vec<usize>)> {
    let sequence = sequence(judgement.actions.len(), &judgement.order);
    let mut numbers = vec![0; judgement.actions.len()];
    let mut ordered: Vec<(usize, Vec<usize>)> = Vec::with_capacity(sequence.order.len());
    for at in sequence.order {
        numbers[at] = ordered.len();
        let mut waits: Vec<usize> = sequence.before[at].iter().map(|first| numbers[*first]).collect();
        waits.sort_unstable();
        drop_detours(&mut waits, |first| &ordered[first].1);
        ordered.push((at, waits));
    }
    ordered
}

/// Why a resource goes where it goes; none for changes that leave it where it is.
fn sentence<'r>(told: &Told, judgement: &Judgement, reasons: &'r Reasons) -> Option<(&'r str, String)> {
    let name = told.resource.as_deref()?;
    if told.blocked {
        return None;
    }
    let is_it = |weighing: &Weighing| {
        weighing.resource == name
            && weighing.node == told.to
            && told.from.as_ref().is_none_or(|from| weighing.current.contains(from))
    };
    let by_name = reasons.weighings.get_key_value(name);
    let (id, weighing) = by_name.or_else(|| reasons.weighings.iter().find(|(_, weighing)| is_it(weighing)))?;
    match told.action {
        "start" | "move" | "migrate" => {}
        // What has a place and stops all the same says why it cannot start there.
        "stop" if weighing.node.is_none() => {}
        _ => {
            let (_, cause) = judgement.actions.iter().zip(&reasons.causes).find(|(done, _)| {
                done.resource.as_deref() == Some(name) && is_part_of(told, done.action, &done.node)
            })?;
            let told = Told { reason: Some(cause.to_string()), ..told.clone() };
            return Some((weighing.resource.as_str(), told.to_string()));
        }
    }
    let called = if reasons.weighings.contains_key(name) { id.as_str() } else { name };
    let mut text = words::decision(called, weighing, reasons);
    if let Some(lead) = weighing.lead.as_ref().filter(|lead| lead.leads)
        && let Some(why) = words::lead_in_words(called, weighing, lead, reasons)
    {
        text = format!("{text}; {why}");
    }
    Some((weighing.resource.as_str(), text))
}

/// Is an action on a node what is told of a resource? Other instances of it have actions of their own.
fn is_part_of(told: &Told, action: &str, node: &str) -> bool {
    let place = match action {
        "stop" | "demote" => told.from.as_deref().or(told.to.as_deref()),
        "start" | "promote" | "reload" => told.to.as_deref().or(told.from.as_deref()),
        _ => return false,
    };
    let fits = match told.action {
        "stop" => action == "stop",
        "demote" => action == "demote",
        "promote" => action == "promote",
        "reload" => action == "reload",
        "re-promote" => matches!(action, "demote" | "promote"),
        _ => true,
    };
    fits && place.is_none_or(|place| place == node)
}
