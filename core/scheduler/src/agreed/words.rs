//! Why here, why not there, and why now?
//!
//! Sentences for an operator. Those about a node are the rest of a sentence that begins with its name.
//!
//! In: a judged case and its steps. Out: a decision for each unit, and what speaks for or against each node.

use std::collections::{BTreeMap, BTreeSet};

use model::situation::Score;
use model::{
    ActionKind, ClusterState, Decision, Failures, Holder, HolderState, MemberState, NodeId, NodeRole, Placement,
    ResourceName, ResourceState, Staying, Step, StepKind, Unit, UnitName,
};

use super::standing::{self, blocked_by, by, can_get, holder_of, is_free_elsewhere, is_held_back, must_leave, sent_to};
use super::steps::culprit;
use super::{Case, Live};
use crate::reasons;

/// What speaks for or against one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeExplanation {
    /// The node.
    pub node: NodeId,
    /// It could be chosen, or is.
    pub can_run: bool,
    /// How much speaks for it: points of `prefer`, stickiness, what neighbours wish, together; −1 000 000: it must not.
    pub score: i32,
    /// What speaks for and against it: each the rest of a sentence that begins with the node's name.
    pub because: Vec<String>,
}

/// What speaks for or against each member as the place of `unit`; empty if there is no such unit.
pub fn explain(state: &ClusterState, live: &Live, unit: &UnitName) -> Vec<NodeExplanation> {
    let Some(explained) = reasons::explain(&super::situation_now(state, live), unit.as_str()) else {
        return Vec::new();
    };
    standing::nodes(state, live)
        .values()
        .map(|node| match explained.nodes.iter().find(|explained| explained.node == node.name()) {
            Some(found) => NodeExplanation {
                node: node.id,
                can_run: found.can_run,
                score: found.score.value(),
                because: found.because.clone(),
            },
            None => NodeExplanation {
                node: node.id,
                can_run: false,
                score: Score::MUST_NOT.value(),
                because: node.may_get.clone().err().into_iter().collect(),
            },
        })
        .collect()
}

/// May the node be given units at all? If not, the reason is the rest of a sentence that begins with its name.
///
/// # Errors
/// What keeps every unit away from it.
pub fn explain_node(state: &ClusterState, live: &Live, node: NodeId) -> Result<(), String> {
    standing::nodes(state, live)
        .get(&node)
        .map_or_else(|| Err("is not a member".to_owned()), |node| node.may_get.clone())
}

/// Where each unit should run, and why.
pub(super) fn decisions(case: &Case<'_>, steps: &[Step]) -> BTreeMap<UnitName, Decision> {
    let started: BTreeSet<&UnitName> =
        steps.iter().filter(|step| matches!(step.kind, StepKind::Start(_))).map(|step| &step.unit).collect();
    let mut decisions: BTreeMap<UnitName, Decision> = case
        .units
        .iter()
        .map(|(name, unit)| (name.clone(), decide(case, name, unit, started.contains(name))))
        .collect();
    for (name, holder) in case.state.holders.iter().filter(|(name, _)| !case.units.contains_key(*name)) {
        decisions.insert(name.clone(), Decision { node: None, reason: removed(case, name, holder) });
    }
    decisions
}

fn removed(case: &Case<'_>, name: &UnitName, holder: &Holder) -> String {
    let reason = format!("{name} left the configuration");
    let Some(node) = case.nodes.get(&holder.node) else { return reason };
    match (&node.reach, &holder.state) {
        (Err(why), _) => format!("{reason}, but {}, which holds it, {why}", node.name()),
        (Ok(()), _) if node.is_in_maintenance => {
            format!("{reason}, but {}, which holds it, is in maintenance", node.name())
        }
        (Ok(()), HolderState::Blocked { why }) => format!("{reason}, but is blocked on {}: {why}", node.name()),
        (Ok(()), HolderState::Held | HolderState::Releasing) => reason,
    }
}

fn decide(case: &Case<'_>, name: &UnitName, unit: &Unit<'_>, is_started: bool) -> Decision {
    let decision = |node: Option<NodeId>, reason: String| Decision { node, reason };
    if unit.members.is_empty() {
        return decision(None, format!("{name} has no resources"));
    }
    let target = case.target(unit);
    let Some(holder) = holder_of(case.state, &case.nodes, name, case.live.bugs) else {
        return match target {
            Some(to) if is_started => decision(Some(to), arrival(case, name, unit, to, None)),
            Some(_) => decision(None, waits_for_others(case, name, unit)),
            None => decision(None, nowhere(case, name, unit, None)),
        };
    };
    let here = holder.node;
    let Some(node) = case.nodes.get(&here) else {
        return decision(None, format!("{name} is held by node {here}, which is no member"));
    };
    let at = node.name();
    if node.member.state == MemberState::Condemned {
        return decision(None, format!("{name} waits until {at} is proven off"));
    }
    if node.is_in_maintenance {
        return decision(Some(here), format!("{name} is left alone: {at} is in maintenance"));
    }
    if let Err(why) = &node.reach {
        return decision(Some(here), format!("{name} waits: {at} {why}"));
    }
    if let Some(why) = blocked_by(case.state, unit, holder) {
        return decision(Some(here), format!("{name} is blocked on {at}: {why}"));
    }
    if let Some(why) = case.kept.get(name) {
        let to_empty = node.must_empty.as_deref().unwrap_or("is to be emptied");
        return decision(Some(here), format!("{name} stays on {at} although that {to_empty}: it {why}"));
    }
    match target {
        Some(to) if to == here => decision(Some(here), stay(case, name, unit, here, is_started)),
        Some(to) if is_started => decision(Some(to), arrival(case, name, unit, to, Some(holder))),
        Some(to) if case.is_drawn(name) || case.serves(name) => {
            let reason = format!("{name} stays on {at} until it can start on {}", case.node_name(to));
            decision(Some(here), format!("{reason} ({})", waits_for_others(case, name, unit)))
        }
        Some(_) => decision(None, waits_for_others(case, name, unit)),
        None => decision(None, nowhere(case, name, unit, Some(holder))),
    }
}

/// Why it stays, and what hinders what is wished.
fn stay(case: &Case<'_>, name: &UnitName, unit: &Unit<'_>, here: NodeId, is_started: bool) -> String {
    let at = case.node_name(here);
    let stays = format!("{name} stays on {at}");
    let is_unknown = |resource: &&&_| case.state.known_state(resource, here) == ResourceState::Unknown;
    if let Some(resource) = unit.members.iter().find(is_unknown) {
        return format!("{name} waits until it is known whether {resource} runs");
    }
    if let Some(resource) = unit.members.iter().find(|resource| is_held_back(case.state, name, resource, here)) {
        let why = is_free_elsewhere(case.state, &case.nodes, name, unit, Some(here)).err();
        return format!("{stays}; {resource} {}", why.unwrap_or_else(|| "starts in a moment".to_owned()));
    }
    if let Some((_, why)) = culprit(case, unit, here) {
        return format!("{stays} ({why})");
    }
    let runs = unit.members.iter().all(|resource| case.state.known_state(resource, here) == ResourceState::Running);
    if !runs {
        return if is_started {
            format!("{stays} ({name} is to run on {at})")
        } else {
            waits_for_others(case, name, unit).replacen(" waits", &format!(" waits on {at}"), 1)
        };
    }
    let can_take = |to: NodeId| {
        let node = case.nodes.get(&to).ok_or_else(|| "is not a member".to_owned())?;
        can_get(case.state, node, name, unit, Some(here))?;
        is_free_elsewhere(case.state, &case.nodes, name, unit, Some(here))
    };
    if let Some((to, _)) = sent_to(case.state, name) {
        return match can_take(to) {
            Err(why) if to != here => format!("{stays}: it cannot move to {}, which {why}", case.node_name(to)),
            Ok(()) | Err(_) => stays,
        };
    }
    let preferred = |id: NodeId| case.nodes.get(&id).and_then(|node| position(unit, node.member.name.as_str()));
    let outweighs = |id: NodeId| match (preferred(id), preferred(here)) {
        (Some(there), Some(here)) => there < here,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let home = case.nodes.keys().copied().filter(|id| outweighs(*id)).min_by_key(|id| preferred(*id));
    let Some(home) = home else { return stays };
    let at_home = case.node_name(home);
    match (unit.placement.staying(), can_take(home)) {
        (Staying::ForNothing, Err(why)) => format!("{stays}: {at_home}, which it prefers, {why}"),
        (Staying::For(points), Err(why)) if points < Placement::FIRST_POINTS => {
            format!("{stays}: {at_home}, which it prefers, {why}")
        }
        (Staying::Firm, Ok(())) => {
            format!(
                "{stays}: points alone move it nowhere, not to {at_home} either, which it prefers (`failback = false`)"
            )
        }
        (Staying::ForNothing | Staying::For(_) | Staying::Firm, Ok(()) | Err(_)) => stays,
    }
}

fn position(unit: &Unit<'_>, node: &str) -> Option<usize> {
    unit.placement.prefer.iter().position(|preferred| preferred.as_str() == node)
}

/// Why it goes where it goes.
fn arrival(case: &Case<'_>, name: &UnitName, unit: &Unit<'_>, to: NodeId, holder: Option<&Holder>) -> String {
    let target = case.node_name(to);
    let asked = sent_to(case.state, name).filter(|(asked, _)| *asked == to).map(|(_, asked)| asked);
    if let Some(holder) = holder.filter(|holder| holder.state != HolderState::Releasing) {
        let at = case.node_name(holder.node);
        let why = case.nodes.get(&holder.node).and_then(|node| must_leave(case.state, node, unit));
        return match (why, asked) {
            (Some(why), _) => format!("{name} moves to {target} because {at} {why}"),
            (None, Some(asked)) => format!("{name} moves to {target} because an operator asked for it{asked}"),
            (None, None) => {
                let better = || format!("{name} moves to {target}, which is better for it than {at}");
                case.explained.get(name).map_or_else(better, |explained| explained.decision.clone())
            }
        };
    }
    if let Some(asked) = asked {
        return format!("{name} goes to {target} because an operator asked for it{asked}");
    }
    let obstacles = obstacles(case, name, unit, holder);
    if unit.placement.prefer.first().is_some_and(|first| first.as_str() == target) {
        format!("{name} goes to {target}, which it prefers")
    } else if obstacles.is_empty() {
        format!("{name} goes to {target}, the best of the nodes that can run it")
    } else {
        format!("{name} goes to {target}: {obstacles}")
    }
}

/// Why no node gets it.
fn nowhere(case: &Case<'_>, name: &UnitName, unit: &Unit<'_>, holder: Option<&Holder>) -> String {
    if let Err(why) = wanted(case, name, unit) {
        return why;
    }
    let here = holder.map(|holder| holder.node);
    let others = match is_free_elsewhere(case.state, &case.nodes, name, unit, here) {
        Err(why) => format!("{name} {why}"),
        Ok(()) => match case.explained.get(name) {
            Some(explained) => {
                let closed = explained.nodes.iter().filter(|node| !node.can_run);
                let said: Vec<String> =
                    closed.map(|node| format!("{} {}", node.node, node.because.join(", "))).collect();
                format!("no node can run {name}: {}", said.join("; "))
            }
            None => format!("no node can run {name}: {}", obstacles(case, name, unit, holder)),
        },
    };
    let leaves = here.and_then(|here| must_leave(case.state, case.nodes.get(&here)?, unit));
    let reason = match (leaves, here) {
        (Some(why), Some(here)) if holder.is_some_and(|holder| holder.state == HolderState::Held) => {
            format!("{name} stops because {} {why}; {others}", case.node_name(here))
        }
        _ => others,
    };
    match way_back(case, unit) {
        Some(way_back) => format!("{reason}; {way_back}"),
        None => reason,
    }
}

/// How the last change of the file is taken back, if something of the unit was found impossible since then.
fn way_back(case: &Case<'_>, unit: &Unit<'_>) -> Option<String> {
    let changed_at = case.state.config_history.back()?.at;
    let is_new = |failures: &Failures| failures.is_permanent && failures.last_at >= changed_at;
    let failures = |resource: &&ResourceName| case.state.failures.get(*resource);
    let mut failures = unit.members.iter().filter_map(failures).flat_map(BTreeMap::values);
    let former = case.state.former_version()?;
    failures.any(is_new).then(|| format!("`cardea rollback {former}` takes the last change of the file back"))
}

/// Should the unit run at all?
pub(super) fn wanted(case: &Case<'_>, name: &UnitName, unit: &Unit<'_>) -> Result<(), String> {
    if !unit.placement.enabled {
        return Err(format!("{name} is stopped: the configuration says `enabled = false`"));
    }
    match case.state.action(&ActionKind::Stop(name.clone())) {
        Some(action) => Err(format!("{name} is stopped: an operator stopped it{}", by(action))),
        None => Ok(()),
    }
}

fn obstacles(case: &Case<'_>, name: &UnitName, unit: &Unit<'_>, holder: Option<&Holder>) -> String {
    let here = holder.map(|holder| holder.node);
    let members = case.nodes.values().filter(|node| node.member.role == NodeRole::Member);
    let said = members.filter_map(|node| {
        let why = can_get(case.state, node, name, unit, here).err()?;
        Some(format!("{} {why}", node.name()))
    });
    said.collect::<Vec<_>>().join("; ")
}

/// A unit has a place and cannot start there yet.
fn waits_for_others(case: &Case<'_>, name: &UnitName, unit: &Unit<'_>) -> String {
    let runs = |earlier: &UnitName| {
        let Some(holder) = case.state.holders.get(earlier) else { return false };
        if case.nodes.get(&holder.node).is_none_or(|node| node.reach.is_err()) {
            return false;
        }
        let members = case.units.get(earlier).map(|unit| &unit.members[..]).unwrap_or_default();
        members.iter().all(|member| case.state.known_state(member, holder.node) == ResourceState::Running)
    };
    match unit.placement.after.iter().find(|earlier| !runs(earlier)) {
        Some(earlier) => format!("{name} waits until {earlier} runs"),
        None => format!("{name} waits until what is in its way has stopped"),
    }
}

/// Why a unit is granted, or leaves.
pub(super) fn unit_reason(case: &Case<'_>, name: &UnitName) -> String {
    case.units.get(name).map_or_else(String::new, |unit| decide(case, name, unit, true).reason)
}

/// Why a resource is started.
pub(super) fn start_reason(case: &Case<'_>, name: &UnitName, unit: &Unit<'_>, node: NodeId) -> String {
    let is_held_here = case.state.holders.get(name).is_some_and(|holder| holder.node == node);
    match culprit(case, unit, node).filter(|_| is_held_here) {
        Some((_, why)) => why,
        None if is_held_here => format!("{name} is to run on {}", case.node_name(node)),
        None => unit_reason(case, name),
    }
}

/// Why a resource is stopped.
pub(super) fn stop_reason(
    case: &Case<'_>,
    name: &UnitName,
    unit: &Unit<'_>,
    node: NodeId,
    resource: &ResourceName,
    is_leaving: bool,
) -> String {
    match culprit(case, unit, node) {
        _ if is_leaving => unit_reason(case, name),
        Some((culprit, why)) if culprit == resource => why,
        Some((culprit, why)) => format!("it runs on top of {culprit}: {why}"),
        None => format!("{resource} is to stop on {}", case.node_name(node)),
    }
}
