//! A judgement with its reasons, as an operator reads it: a sentence for each resource that changes, then what is done,
//! numbered, each with its cause.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use super::{Cause, Reasons, Weighing, words};
use crate::act::Told;
use crate::sequence::{drop_detours, sequence};
use crate::{Judgement, Place};

/// The resources that a judgement changes: those to ask about before its story is told.
pub fn changed(judgement: &Judgement) -> BTreeSet<String> {
    judgement.decisions.iter().filter_map(|told| told.resource.clone()).collect()
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
    if judgement.decisions.is_empty() {
        out += "nothing would be started, stopped or moved\n";
    }
    let mut said: BTreeSet<&str> = BTreeSet::new();
    for told in &judgement.decisions {
        let sentence = sentence(told, judgement, reasons);
        if let Some((resource, text)) = sentence {
            said.insert(resource);
            out += &format!("{text}\n");
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
            let cause = judgement.actions.iter().zip(&reasons.causes).find(|(done, _)| {
                done.resource.as_deref() == Some(name)
                    && matches!(done.action, "stop" | "start" | "promote" | "demote" | "reload")
            });
            let (_, cause) = cause?;
            let told = Told { reason: Some(cause.to_string()), ..told.clone() };
            return Some((weighing.resource.as_str(), told.to_string()));
        }
    }
    let called = if reasons.weighings.contains_key(name) { id.as_str() } else { name };
    let mut text = words::decision(called, weighing, reasons);
    if let Some(lead) = weighing.lead.as_ref().filter(|lead| lead.leads)
        && let Some(why) = words::lead(called, weighing, lead, reasons)
    {
        text = format!("{text}; {why}");
    }
    Some((weighing.resource.as_str(), text))
}
