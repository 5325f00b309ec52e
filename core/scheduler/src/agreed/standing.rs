//! Who may run what at all?
//!
//! Reasons continue a sentence that begins with the node's name: "a" + "is in standby".
//!
//! In: the agreed state, what the leader sees. Out: each node's standing, and whether it can run a given unit.
//! Not here: which of the nodes that can is best (`assign/`).

use std::collections::{BTreeMap, BTreeSet};

use model::{
    ActionKind, Bug, Bugs, ClusterState, Failures, Holder, HolderState, Member, MemberState, NodeId, NodeRole,
    OperatorAction, ResourceConfig, ResourceName, ResourceState, Unit, UnitName, WallTime,
};

use super::{Eligibility, Live};

/// One member, as the plan sees it.
pub(crate) struct Node<'a> {
    pub(crate) id: NodeId,
    pub(crate) member: &'a Member,
    /// Can operations be run there?
    pub(crate) reach: Result<(), String>,
    /// Nothing but probes may be done there.
    pub(crate) is_in_maintenance: bool,
    /// Everything must leave it, for this reason.
    pub(crate) must_empty: Option<String>,
    /// The whole cluster is going down: nobody takes over what has to leave it.
    pub(crate) is_closing: bool,
    /// May it get another unit, whichever that is?
    pub(crate) may_get: Result<(), String>,
    /// The leader's wall clock.
    pub(crate) now: WallTime,
}

impl Node<'_> {
    pub(crate) fn name(&self) -> &str {
        self.member.name.as_str()
    }

    /// May something be started or stopped there?
    pub(crate) fn is_workable(&self) -> bool {
        self.reach.is_ok() && !self.is_in_maintenance
    }

    /// Could one of the cluster's resources be found running there?
    pub(crate) fn could_run(&self) -> bool {
        match (self.member.role, self.member.state) {
            (NodeRole::Witness, _) | (_, MemberState::Absent | MemberState::Left | MemberState::Fenced) => false,
            (NodeRole::Member, MemberState::Online | MemberState::Condemned) => true,
        }
    }
}

/// Every member's standing.
pub(crate) fn nodes<'a>(state: &'a ClusterState, live: &Live) -> BTreeMap<NodeId, Node<'a>> {
    state.members.iter().map(|(id, member)| (*id, node(state, live, *id, member))).collect()
}

fn node<'a>(state: &'a ClusterState, live: &Live, id: NodeId, member: &'a Member) -> Node<'a> {
    let asked = |kind: ActionKind| state.action(&kind);
    let maintenance = asked(ActionKind::ClusterMaintenance).or_else(|| asked(ActionKind::NodeMaintenance(id)));
    let seen = live.eligible.get(&id);
    let reach = match member.state {
        MemberState::Absent => Err("has not joined yet".to_owned()),
        MemberState::Left => Err("has left".to_owned()),
        MemberState::Condemned => Err("is condemned and not yet proven off".to_owned()),
        MemberState::Fenced => Err("is fenced".to_owned()),
        MemberState::Online => match seen {
            Some(Eligibility::Ready | Eligibility::NotYet { .. }) => Ok(()),
            Some(Eligibility::Lost { why }) => Err(why.clone()),
            None => Err("is not heard".to_owned()),
        },
    };
    let must_empty = if let Some(action) = asked(ActionKind::Standby(id)) {
        Some(format!("is in standby{}", by(action)))
    } else {
        asked(ActionKind::Leave(id)).map(|action| format!("is leaving{}", by(action)))
    };
    let may_get = match member.role {
        NodeRole::Witness => Err("is a witness and runs nothing".to_owned()),
        NodeRole::Member => reach
            .clone()
            .and_then(|()| match maintenance {
                Some(action) => Err(format!("is in maintenance{}", by(action))),
                None => Ok(()),
            })
            .and_then(|()| must_empty.clone().map_or(Ok(()), Err))
            .and_then(|()| live.closing.clone().map_or(Ok(()), Err))
            .and_then(|()| {
                if member.is_suppressed(live.now) {
                    Err(format!(
                        "was lost and came back too often, and gets nothing for a while \
                         (`cardea clear {}` ends this)",
                        member.name
                    ))
                } else {
                    Ok(())
                }
            })
            .and_then(|()| match seen {
                Some(Eligibility::NotYet { why }) => Err(why.clone()),
                Some(Eligibility::Ready | Eligibility::Lost { .. }) | None => Ok(()),
            }),
    };
    let is_closing = live.closing.is_some();
    Node { id, member, reach, is_in_maintenance: maintenance.is_some(), must_empty, is_closing, may_get, now: live.now }
}

/// Who asked for an action, and why, in brackets.
pub(crate) fn by(action: &OperatorAction) -> String {
    match (action.actor.as_str(), action.reason.as_str()) {
        ("", "") => String::new(),
        (actor, "") => format!(" ({actor})"),
        ("", reason) => format!(" ({reason})"),
        (actor, reason) => format!(" ({actor}: {reason})"),
    }
}

/// Can the node be given this unit now? `holder` is where it is held at the moment: what runs there under the grant
/// does not count against it.
pub(crate) fn can_get(
    state: &ClusterState,
    node: &Node<'_>,
    name: &UnitName,
    unit: &Unit<'_>,
    holder: Option<NodeId>,
) -> Result<(), String> {
    node.may_get.clone()?;
    if let Some(word) = unit.placement.not_run_yet() {
        return Err(format!("cannot run what has `{word}` yet: that can be planned and rehearsed only"));
    }
    if !state.config.domains(name).is_subset(&state.config.fence_cover(&node.member.name)) {
        return Err("has no fence device that covers what it could damage".to_owned());
    }
    if let Some((_, why)) = exhausted(state, node, unit) {
        return Err(why);
    }
    if holder == Some(node.id) {
        return Ok(());
    }
    for resource in &unit.members {
        match state.known_state(resource, node.id) {
            ResourceState::Stopped => {}
            ResourceState::Unknown => {
                let why = why_unknown(state, resource, node.id);
                return Err(if why.is_empty() {
                    format!("has not been asked yet whether {resource} runs there")
                } else {
                    format!("cannot say whether {resource} runs there{why}")
                });
            }
            ResourceState::Running => return Err(format!("runs {resource} without a grant")),
            ResourceState::Failed => return Err(format!("has a failed {resource} that is not stopped yet")),
            ResourceState::Blocked => return Err(format!("could not stop {resource}")),
        }
    }
    Ok(())
}

/// What forbids the unit on a node: as [`can_get`], but what it holds may stay while nothing sends it away.
pub(super) fn forbidden(
    state: &ClusterState,
    node: &Node<'_>,
    name: &UnitName,
    unit: &Unit<'_>,
    holder: Option<&Holder>,
) -> Result<(), String> {
    let here = holder.filter(|holder| holder.node == node.id);
    let Some(here) = here else { return can_get(state, node, name, unit, holder.map(|holder| holder.node)) };
    if here.state == HolderState::Releasing {
        return Err(format!("releases {name}"));
    }
    must_leave(state, node, unit).map_or(Ok(()), Err)
}

/// Why a unit cannot stay on the node that holds it; failures count only while something of it does not run.
pub(super) fn must_leave(state: &ClusterState, node: &Node<'_>, unit: &Unit<'_>) -> Option<String> {
    if let Some(why) = &node.must_empty {
        return Some(why.clone());
    }
    let runs = |resource: &&_| state.known_state(resource, node.id) == ResourceState::Running;
    if unit.members.iter().all(runs) {
        return None;
    }
    exhausted(state, node, unit).map(|(_, why)| why)
}

/// Why nothing can be done about a unit where it is held.
pub(super) fn blocked_by(state: &ClusterState, unit: &Unit<'_>, holder: &Holder) -> Option<String> {
    if let HolderState::Blocked { why } = &holder.state {
        return Some(why.clone());
    }
    let is_blocked = |resource: &&&_| state.known_state(resource, holder.node) == ResourceState::Blocked;
    unit.members.iter().find(is_blocked).map(|resource| format!("{resource} could not be stopped"))
}

/// Who holds the unit.
pub(super) fn holder_of<'a>(
    state: &'a ClusterState,
    nodes: &BTreeMap<NodeId, Node<'_>>,
    name: &UnitName,
    bugs: Bugs,
) -> Option<&'a Holder> {
    let holder = state.holders.get(name)?;
    // The planted bug: a unit whose holder has trouble is treated as free.
    let has_trouble = |node: &Node<'_>| !node.is_workable() || node.must_empty.is_some();
    let is_forgotten = bugs.has(Bug::GrantWithoutRelease) && nodes.get(&holder.node).is_none_or(has_trouble);
    (!is_forgotten).then_some(holder)
}

/// The node that an operator sent the unit to, and who that was.
pub(super) fn sent_to(state: &ClusterState, name: &UnitName) -> Option<(NodeId, String)> {
    state.actions.values().find_map(|action| match &action.kind {
        ActionKind::Move(unit, to) if unit == name => Some((*to, by(action))),
        ActionKind::Move(..)
        | ActionKind::Standby(_)
        | ActionKind::NodeMaintenance(_)
        | ActionKind::ClusterMaintenance
        | ActionKind::Stop(_)
        | ActionKind::Leave(_)
        | ActionKind::ShutDown => None,
    })
}

/// Does it run with other parameters than those configured?
pub(super) fn is_outdated(state: &ClusterState, resource: &ResourceName, node: NodeId) -> bool {
    let running = state.known.get(resource).and_then(|nodes| nodes.get(&node)).map_or(0, |known| known.digest);
    let wanted = state.config.resources.get(resource).map(|wanted| wanted.parameters_digest());
    running != 0 && wanted.is_some_and(|wanted| wanted != running)
}

/// When failures stop to count, where the configuration says so. Without a word from it a node that failed a resource too
/// often stays out until an operator says otherwise.
pub(super) fn forgotten_at(configured: &ResourceConfig, failures: &Failures) -> Option<WallTime> {
    let after = configured.failures_forgotten_after.filter(|after| !after.is_zero() && !failures.is_permanent)?;
    Some(WallTime(failures.last_at.0.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX))))
}

/// The first resource of the unit that may not be tried there again, and why.
pub(super) fn exhausted<'u>(
    state: &ClusterState,
    node: &Node<'_>,
    unit: &Unit<'u>,
) -> Option<(&'u ResourceName, String)> {
    unit.members.iter().find_map(|resource| {
        let failures = state.failures.get(*resource)?.get(&node.id)?;
        let configured = state.config.resources.get(*resource)?;
        // A stamp that lies as far in the future as failures are remembered was written by a clock that was wrong.
        let is_over = |at: WallTime| {
            let (ahead, remembered) = (failures.last_at.0.saturating_sub(node.now.0), at.0 - failures.last_at.0);
            at <= node.now || ahead > remembered
        };
        if forgotten_at(configured, failures).is_some_and(is_over) {
            return None;
        }
        let limit = configured.failures_max.max(1);
        let reason = &failures.last_reason;
        if failures.is_permanent {
            Some((*resource, format!("cannot run {resource} ({reason}; `cardea clear {resource}` tries again)")))
        } else if failures.count >= limit {
            let times = if failures.count == 1 { "once".to_owned() } else { format!("{} times", failures.count) };
            Some((
                *resource,
                format!("has failed {resource} {times} ({reason}; `cardea clear {resource}` tries again)"),
            ))
        } else {
            None
        }
    })
}

/// Units that stay on a node that is to be emptied: nobody knows yet that they run nowhere else, so that they could start
/// nowhere (SAFETY §10.3); and the units that go with them. A stopped service would help nobody.
pub(super) fn kept(
    state: &ClusterState,
    nodes: &BTreeMap<NodeId, Node<'_>>,
    units: &BTreeMap<UnitName, Unit<'_>>,
    bugs: Bugs,
) -> BTreeMap<UnitName, String> {
    let serves = |name: &UnitName, unit: &Unit<'_>| {
        let holder = holder_of(state, nodes, name, bugs).filter(|holder| holder.state == HolderState::Held)?;
        let node = nodes.get(&holder.node).filter(|node| node.is_workable() && node.must_empty.is_some())?;
        let node = Some(node).filter(|node| !node.is_closing)?;
        (is_wanted(state, name, unit) && runs_wholly(state, unit, node.id)).then_some(node.id)
    };
    let serving: BTreeMap<&UnitName, NodeId> =
        units.iter().filter_map(|(name, unit)| Some((name, serves(name, unit)?))).collect();
    let mut kept: BTreeMap<UnitName, String> = serving
        .iter()
        .filter_map(|(name, here)| {
            let why = is_free_elsewhere(state, nodes, name, &units[*name], Some(*here)).err()?;
            Some(((*name).clone(), why))
        })
        .collect();
    let follows = |one: &UnitName, other: &UnitName| units[one].placement.leaning.with.contains_key(other);
    loop {
        let more: Vec<(UnitName, String)> = serving
            .iter()
            .filter(|(name, _)| !kept.contains_key(**name))
            .filter_map(|(name, here)| {
                let tied = kept.iter().find(|(other, _)| {
                    serving.get(other) == Some(here) && (follows(name, other) || follows(other, name))
                });
                tied.map(|(other, why)| ((*name).clone(), format!("waits with {other}, which {why}")))
            })
            .collect();
        if more.is_empty() {
            return kept;
        }
        kept.extend(more);
    }
}

/// Does everything of the unit run on the node?
pub(super) fn runs_wholly(state: &ClusterState, unit: &Unit<'_>, node: NodeId) -> bool {
    unit.members.iter().all(|resource| state.known_state(resource, node) == ResourceState::Running)
}

fn is_wanted(state: &ClusterState, name: &UnitName, unit: &Unit<'_>) -> bool {
    unit.placement.enabled && state.action(&ActionKind::Stop(name.clone())).is_none()
}

/// The members that keep wanted exclusive units from every node that could take them, and that nothing but their end
/// will change: they cannot be reached, or could not stop what runs there without a grant.
pub(super) fn blockers(
    state: &ClusterState,
    nodes: &BTreeMap<NodeId, Node<'_>>,
    units: &BTreeMap<UnitName, Unit<'_>>,
    bugs: Bugs,
) -> BTreeMap<UnitName, BTreeSet<NodeId>> {
    let kept = kept(state, nodes, units, bugs);
    let blocked = |name: &UnitName, unit: &Unit<'_>| {
        let holder = holder_of(state, nodes, name, bugs);
        let is_held_back = holder
            .is_some_and(|holder| unit.members.iter().any(|resource| is_held_back(state, name, resource, holder.node)));
        let waits = match holder {
            None => true,
            Some(holder) => match &holder.state {
                HolderState::Held => kept.contains_key(name) || is_held_back,
                HolderState::Releasing => true,
                HolderState::Blocked { .. } => false,
            },
        };
        let here = holder.map(|holder| holder.node);
        let could_take = |node: &Node<'_>| Some(node.id) != here && can_get(state, node, name, unit, here).is_ok();
        if !waits
            || !state.config.is_exclusive(name)
            || !is_wanted(state, name, unit)
            || !is_held_back && !nodes.values().any(could_take)
        {
            return BTreeSet::new();
        }
        nodes
            .values()
            .filter(|node| Some(node.id) != here && node.could_run() && !node.is_in_maintenance)
            .filter(|node| node.member.state == MemberState::Online)
            .filter(|node| {
                unit.members.iter().any(|resource| match state.known_state(resource, node.id) {
                    ResourceState::Stopped => false,
                    ResourceState::Blocked => !state.stop_cost_node.contains(name) || node.reach.is_err(),
                    ResourceState::Unknown | ResourceState::Running | ResourceState::Failed => node.reach.is_err(),
                })
            })
            .map(|node| node.id)
            .collect()
    };
    units
        .iter()
        .map(|(name, unit)| (name.clone(), blocked(name, unit)))
        .filter(|(_, nodes): &(UnitName, BTreeSet<NodeId>)| !nodes.is_empty())
        .collect()
}

/// ` (the reason)`, if the node was asked and could not say; else nothing.
fn why_unknown(state: &ClusterState, resource: &ResourceName, node: NodeId) -> String {
    let known = state.known.get(resource).and_then(|nodes| nodes.get(&node));
    known.filter(|known| !known.reason.is_empty()).map(|known| format!(" ({})", known.reason)).unwrap_or_default()
}

/// The other members on which a resource of an exclusive unit may run although `holder` holds it: what a machine starts
/// by itself at its boot runs there before anybody could look. A grant waits for members that never joined, too; who
/// holds the unit does not.
pub(super) fn doubles<'s>(
    state: &'s ClusterState,
    name: &'s UnitName,
    resource: &'s ResourceName,
    holder: NodeId,
) -> impl Iterator<Item = NodeId> + use<'s> {
    let is_exclusive = state.config.is_exclusive(name);
    let others = state
        .members
        .iter()
        .filter(move |(id, member)| is_exclusive && **id != holder && member.state != MemberState::Absent);
    others.map(|(id, _)| *id).filter(move |id| state.may_run(name, resource, *id).is_some())
}

/// Is the resource to be started where its unit is held, and has to wait until it is certain that it runs nowhere else?
pub(super) fn is_held_back(state: &ClusterState, name: &UnitName, resource: &ResourceName, holder: NodeId) -> bool {
    state.barred.contains(resource)
        || state.known_state(resource, holder) != ResourceState::Running
            && doubles(state, name, resource, holder).next().is_some()
}

/// Is it certain that no other node than `holder` runs anything of an exclusive unit? A best-effort unit needs no
/// certainty.
pub(crate) fn is_free_elsewhere(
    state: &ClusterState,
    nodes: &BTreeMap<NodeId, Node<'_>>,
    name: &UnitName,
    unit: &Unit<'_>,
    holder: Option<NodeId>,
) -> Result<(), String> {
    if !state.config.is_exclusive(name) {
        return Ok(());
    }
    for node in nodes.values().filter(|node| Some(node.id) != holder) {
        for resource in &unit.members {
            let Some(may_run) = state.may_run(name, resource, node.id) else { continue };
            let what = match may_run {
                ResourceState::Stopped => continue,
                ResourceState::Unknown => format!(
                    "it is known whether {resource} runs on {}{}",
                    node.name(),
                    why_unknown(state, resource, node.id)
                ),
                ResourceState::Running | ResourceState::Failed => format!("{resource} has stopped on {}", node.name()),
                ResourceState::Blocked => format!("{resource}, which could not be stopped, is off on {}", node.name()),
            };
            return Err(match &node.reach {
                Ok(()) => format!("waits until {what}"),
                Err(why) => format!("waits until {what}: {} {why}", node.name()),
            });
        }
    }
    Ok(())
}
