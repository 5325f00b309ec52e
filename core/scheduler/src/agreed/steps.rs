//! Which steps lead there, under the grants of the exclusion kernel?
//!
//! Starts and stops, and what comes before what, are the judgement's. Around them: a unit that leaves its node is marked
//! as leaving before its first stop and released after its last; it is granted after that, before its first start. What
//! the judgement lets wait for a fence is left out: the plan is made anew when the fence is done. What nobody knows is
//! probed; what runs without a grant, or left the configuration, is stopped.
//!
//! In: a judged case. Out: steps, which name the positions of the steps they wait for.
//! Not here: what a step does (`executor`).

use std::collections::{BTreeMap, BTreeSet};

use model::{Holder, HolderState, NodeId, ResourceName, ResourceState, Step, StepKind, Unit, UnitName};

use super::standing::{blocked_by, doubles, holder_of, is_outdated};
use super::{Case, words};
use crate::sequence::{Sequence, drop_detours, sequence};

/// Makes the steps.
pub(super) fn steps(case: &Case<'_>) -> Vec<Step> {
    let mut draft = Draft {
        case,
        owners: case
            .units
            .iter()
            .flat_map(|(name, unit)| unit.members.iter().map(move |resource| (resource.as_str(), (name, *resource))))
            .collect(),
        leaving: case.units.iter().filter(|(name, unit)| leaves(case, name, unit)).map(|(name, _)| name).collect(),
        steps: Vec::new(),
        begins: BTreeMap::new(),
        releases: BTreeMap::new(),
        grants: BTreeMap::new(),
        cleanups: BTreeMap::new(),
        stops: BTreeMap::new(),
        stuck: BTreeSet::new(),
        postponed: BTreeSet::new(),
        probes: BTreeMap::new(),
        leftovers: BTreeMap::new(),
    };
    draft.probe();
    let removed = draft.begin_removed();
    draft.leftovers = draft.stop_leftovers();
    for (unit, node) in removed {
        let reason = format!("{unit} left the configuration");
        let leftovers = draft.leftovers.get(&node).into_iter().flatten();
        let waits = draft.begins.get(&unit).into_iter().chain(leftovers).copied().collect();
        draft.push(StepKind::Release, &unit, node, &reason, waits);
    }
    draft.stop_orphans();
    draft.carry_out();
    let leaving: Vec<&UnitName> = draft.leaving.iter().copied().collect();
    for name in leaving {
        draft.release(name);
    }
    without_detours(&mut draft.steps);
    draft.steps
}

/// Leaves out of what a step waits for whatever something else that it waits for already waits for.
fn without_detours(steps: &mut [Step]) {
    for at in 0..steps.len() {
        let mut waits = std::mem::take(&mut steps[at].after);
        drop_detours(&mut waits, |first| &steps[first].after);
        steps[at].after = waits;
    }
}

/// Is the unit to leave the node that holds it, and can anything be done about that?
fn leaves(case: &Case<'_>, name: &UnitName, unit: &Unit<'_>) -> bool {
    let Some(holder) = holder_of(case.state, &case.nodes, name, case.live.bugs) else { return false };
    let is_to_leave = holder.state == HolderState::Releasing || case.target(unit) != Some(holder.node);
    is_to_leave && is_workable(case, unit, holder)
}

/// Can and may something be done about the unit where it is held?
fn is_workable(case: &Case<'_>, unit: &Unit<'_>, holder: &Holder) -> bool {
    blocked_by(case.state, unit, holder).is_none()
        && case.nodes.get(&holder.node).is_some_and(|node| node.is_workable())
}

struct Draft<'d> {
    case: &'d Case<'d>,
    /// The unit of each resource.
    owners: BTreeMap<&'d str, (&'d UnitName, &'d ResourceName)>,
    /// Units that leave the node that holds them.
    leaving: BTreeSet<&'d UnitName>,
    steps: Vec<Step>,
    begins: BTreeMap<UnitName, usize>,
    releases: BTreeMap<&'d UnitName, usize>,
    grants: BTreeMap<&'d UnitName, usize>,
    /// Stops of what left the configuration; by node.
    leftovers: BTreeMap<NodeId, Vec<usize>>,
    /// Stops of what runs without a grant; by unit.
    cleanups: BTreeMap<&'d UnitName, Vec<usize>>,
    /// Stops where the unit is held.
    stops: BTreeMap<&'d ResourceName, usize>,
    /// Units of which a stop has to wait for something that is no step.
    stuck: BTreeSet<&'d UnitName>,
    /// Units that stay where they run until they can start where they are drawn to.
    postponed: BTreeSet<&'d UnitName>,
    probes: BTreeMap<(&'d ResourceName, NodeId), usize>,
}

/// What became of an action of the judgement.
#[derive(Clone)]
enum Fate {
    /// Who waits for it waits for these steps.
    Steps(Vec<usize>),
    /// It waits for something that is no step: a fence, a release elsewhere.
    Waits,
}

impl<'d> Draft<'d> {
    fn push(&mut self, kind: StepKind, unit: &UnitName, node: NodeId, reason: &str, mut after: Vec<usize>) -> usize {
        after.sort_unstable();
        after.dedup();
        self.steps.push(Step { kind, unit: unit.clone(), node, reason: reason.to_owned(), after });
        self.steps.len() - 1
    }

    fn holder(&self, name: &UnitName) -> Option<&'d Holder> {
        holder_of(self.case.state, &self.case.nodes, name, self.case.live.bugs)
    }

    /// Asks every reachable node about what is unknown there; what leaves it is stopped instead.
    fn probe(&mut self) {
        let case = self.case;
        for node in case.nodes.values().filter(|node| node.could_run() && node.reach.is_ok()) {
            for (name, unit) in &case.units {
                let is_left = self.leaving.contains(name) && self.holder(name).is_some_and(|h| h.node == node.id);
                if is_left {
                    continue;
                }
                for resource in &unit.members {
                    if case.state.known_state(resource, node.id) == ResourceState::Unknown {
                        let reason = format!("nobody knows whether {resource} runs on {}", node.name());
                        let kind = StepKind::Probe((*resource).clone());
                        let probe = self.push(kind, name, node.id, &reason, Vec::new());
                        self.probes.insert((*resource, node.id), probe);
                    }
                }
            }
        }
    }

    /// Begins to release what is held but no longer configured; returns those that can be released after their stops.
    fn begin_removed(&mut self) -> Vec<(UnitName, NodeId)> {
        let mut begun = Vec::new();
        for (unit, holder) in &self.case.state.holders {
            if self.case.units.contains_key(unit) {
                continue;
            }
            let Some(node) = self.case.nodes.get(&holder.node).filter(|node| node.is_workable()) else { continue };
            match &holder.state {
                HolderState::Held => {
                    let reason = format!("{unit} left the configuration");
                    let begin = self.push(StepKind::BeginRelease, unit, node.id, &reason, Vec::new());
                    self.begins.insert(unit.clone(), begin);
                }
                HolderState::Releasing => {}
                HolderState::Blocked { .. } => continue,
            }
            begun.push((unit.clone(), node.id));
        }
        begun
    }

    /// Stops what left the configuration while it ran; the positions by node.
    fn stop_leftovers(&mut self) -> BTreeMap<NodeId, Vec<usize>> {
        let mut stops: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (resource, nodes) in &self.case.state.known {
            if self.case.state.config.resources.contains_key(resource) {
                continue;
            }
            for (id, known) in nodes {
                let Some(node) = self.case.nodes.get(id) else { continue };
                if known.incarnation != node.member.incarnation || !node.is_workable() {
                    continue;
                }
                let waits: Vec<usize> =
                    self.begins.values().copied().filter(|begin| self.steps[*begin].node == *id).collect();
                match known.state {
                    ResourceState::Blocked => continue,
                    ResourceState::Stopped if waits.is_empty() => continue,
                    ResourceState::Stopped
                    | ResourceState::Unknown
                    | ResourceState::Running
                    | ResourceState::Failed => {}
                }
                let reason = format!("{resource} left the configuration");
                let unit = UnitName(resource.0.clone());
                let stop = self.push(StepKind::Stop(resource.clone()), &unit, *id, &reason, waits);
                stops.entry(*id).or_default().push(stop);
            }
        }
        stops
    }

    /// Stops what runs on a node that does not hold its unit.
    fn stop_orphans(&mut self) {
        let case = self.case;
        for node in case.nodes.values().filter(|node| node.could_run() && node.is_workable()) {
            for (name, unit) in &case.units {
                if case.state.holders.get(name).is_some_and(|holder| holder.node == node.id) {
                    continue;
                }
                let mut waits = Vec::new();
                for resource in unit.members.iter().rev() {
                    match case.state.known_state(resource, node.id) {
                        ResourceState::Running | ResourceState::Failed => {}
                        ResourceState::Unknown | ResourceState::Stopped | ResourceState::Blocked => continue,
                    }
                    let reason = format!("{resource} runs on {}, which does not hold {name}", node.name());
                    let stop = self.push(StepKind::Stop((*resource).clone()), name, node.id, &reason, waits);
                    self.cleanups.entry(name).or_default().push(stop);
                    waits = vec![stop];
                }
            }
        }
    }

    /// Follows the actions of the judgement in their order.
    fn carry_out(&mut self) {
        let actions = &self.case.judgement.actions;
        let sequence = sequence(actions.len(), &self.case.judgement.order);
        assert_eq!(sequence.order.len(), actions.len(), "the order of a judgement has no circle");
        self.postpone(&sequence);
        let mut fates: Vec<Fate> = vec![Fate::Waits; actions.len()];
        for at in sequence.order {
            let mut waits = Some(Vec::new());
            for first in &sequence.before[at] {
                match &fates[*first] {
                    Fate::Steps(steps) => waits.iter_mut().for_each(|waits| waits.extend(steps)),
                    Fate::Waits => waits = None,
                }
            }
            fates[at] = self.take(at, waits);
        }
    }

    /// What runs, or could stay, does not leave for a place where its start has to wait for a fence: that may take long,
    /// and may never come to pass. A node that is to be emptied waits as long.
    fn postpone(&mut self, sequence: &Sequence) {
        let actions = &self.case.judgement.actions;
        let mut is_waiting = vec![false; actions.len()];
        for at in &sequence.order {
            let action = &actions[*at];
            is_waiting[*at] = action.action == "fence" || sequence.before[*at].iter().any(|first| is_waiting[*first]);
            let owner = action.resource.as_deref().and_then(|resource| self.owners.get(resource));
            let Some((name, _)) = owner.filter(|_| action.action == "start" && is_waiting[*at]) else { continue };
            if self.leaving.contains(name) && (self.case.is_drawn(name) || self.case.serves(name)) {
                self.leaving.remove(name);
                self.postponed.insert(name);
            }
        }
    }

    /// One action; `waits`: the steps before it, none if it has to wait for something that is no step.
    fn take(&mut self, at: usize, waits: Option<Vec<usize>>) -> Fate {
        let case = self.case;
        let action = &case.judgement.actions[at];
        let owner = action.resource.as_deref().and_then(|resource| self.owners.get(resource)).copied();
        let node = case.ids.get(action.node.as_str()).copied();
        match (action.action, owner, node) {
            (_, Some((name, _)), _) if self.postponed.contains(name) => Fate::Waits,
            ("start", Some((name, resource)), Some(node)) => self.start(name, resource, node, waits),
            ("stop", Some((name, resource)), Some(node)) => self.stop(name, resource, node, waits),
            ("fence", ..) => Fate::Waits,
            // Checks are repeated by the node itself.
            _ => waits.map_or(Fate::Waits, Fate::Steps),
        }
    }

    fn start(
        &mut self,
        name: &'d UnitName,
        resource: &'d ResourceName,
        node: NodeId,
        waits: Option<Vec<usize>>,
    ) -> Fate {
        let case = self.case;
        let unit = &case.units[name];
        let Some(mut waits) = waits.filter(|_| !case.state.barred.contains(resource)) else { return Fate::Waits };
        match self.holder(name) {
            Some(holder) if !is_workable(case, unit, holder) => return Fate::Waits,
            Some(holder) if holder.node == node && holder.state == HolderState::Held => {
                for double in doubles(case.state, name, resource, node) {
                    match self.end_of(name, resource, double) {
                        Some(step) => waits.push(step),
                        None => return Fate::Waits,
                    }
                }
            }
            Some(_) | None => match self.grant(name, node) {
                Some(grant) => waits.push(grant),
                None => return Fate::Waits,
            },
        }
        // What it runs on top of has to be known.
        let below = unit.members.iter().take_while(|member| **member != resource);
        waits.extend(below.filter_map(|below| self.probes.get(&(*below, node))));
        let reason = words::start_reason(case, name, unit, node);
        Fate::Steps(vec![self.push(StepKind::Start(resource.clone()), name, node, &reason, waits)])
    }

    /// The step after which it is known whether a resource that may run on the node without a grant has stopped there.
    fn end_of(&self, name: &UnitName, resource: &ResourceName, node: NodeId) -> Option<usize> {
        let stops = self.cleanups.get(name).into_iter().flatten().copied();
        let is_its = |at: &usize| {
            self.steps[*at].node == node && matches!(&self.steps[*at].kind, StepKind::Stop(of) if of == resource)
        };
        self.probes.get(&(resource, node)).copied().or_else(|| stops.into_iter().find(is_its))
    }

    fn stop(
        &mut self,
        name: &'d UnitName,
        resource: &'d ResourceName,
        node: NodeId,
        waits: Option<Vec<usize>>,
    ) -> Fate {
        let case = self.case;
        let unit = &case.units[name];
        let is_here = self.holder(name).is_some_and(|holder| holder.node == node && is_workable(case, unit, holder));
        let Some(mut waits) = waits.filter(|_| is_here) else {
            self.stuck.insert(name);
            return Fate::Waits;
        };
        waits.extend(self.begin(name, node));
        let reason = words::stop_reason(case, name, unit, node, resource, self.leaving.contains(name));
        let stop = self.push(StepKind::Stop(resource.clone()), name, node, &reason, waits);
        self.stops.insert(resource, stop);
        Fate::Steps(vec![stop])
    }

    /// Marks a unit that leaves.
    fn begin(&mut self, name: &'d UnitName, node: NodeId) -> Option<usize> {
        let is_held = self.holder(name).is_some_and(|holder| holder.state == HolderState::Held);
        if !is_held || !self.leaving.contains(name) {
            return None;
        }
        if let Some(begin) = self.begins.get(name) {
            return Some(*begin);
        }
        let reason = words::unit_reason(self.case, name);
        let begin = self.push(StepKind::BeginRelease, name, node, &reason, Vec::new());
        self.begins.insert(name.clone(), begin);
        Some(begin)
    }

    /// Releases a unit that leaves, once everything of it is stopped; none if it cannot be.
    fn release(&mut self, name: &'d UnitName) -> Option<usize> {
        if let Some(release) = self.releases.get(name) {
            return Some(*release);
        }
        let case = self.case;
        if !self.leaving.contains(name) || self.stuck.contains(name) {
            return None;
        }
        let holder = self.holder(name)?;
        let reason = words::unit_reason(case, name);
        let begin = self.begin(name, holder.node);
        let mut waits: Vec<usize> = begin.into_iter().collect();
        for resource in case.units[name].members.iter().rev() {
            // Under a mark that is new every stop is proven anew.
            let must_stop = begin.is_some() || case.state.known_state(resource, holder.node) != ResourceState::Stopped;
            if let Some(stop) = self.stops.get(*resource) {
                waits = vec![*stop];
            } else if must_stop {
                let stop = self.push(StepKind::Stop((*resource).clone()), name, holder.node, &reason, waits);
                self.stops.insert(resource, stop);
                waits = vec![stop];
            }
        }
        waits.extend(self.leftovers.get(&holder.node).into_iter().flatten());
        let release = self.push(StepKind::Release, name, holder.node, &reason, waits);
        self.releases.insert(name, release);
        Some(release)
    }

    /// Grants a unit, once it is released and nothing of it runs elsewhere.
    fn grant(&mut self, name: &'d UnitName, node: NodeId) -> Option<usize> {
        if let Some(grant) = self.grants.get(name) {
            return Some(*grant);
        }
        let mut waits: Vec<usize> = self.cleanups.get(name).cloned().unwrap_or_default();
        if self.holder(name).is_some() {
            waits.push(self.release(name)?);
        }
        let reason = words::unit_reason(self.case, name);
        let grant = self.push(StepKind::Grant, name, node, &reason, waits);
        self.grants.insert(name, grant);
        Some(grant)
    }
}

/// The first resource of the unit that is to be stopped and started where it is held, and why.
pub(super) fn culprit<'u>(case: &Case<'_>, unit: &Unit<'u>, node: NodeId) -> Option<(&'u ResourceName, String)> {
    unit.members.iter().find_map(|resource| {
        let at = case.node_name(node);
        match case.state.known_state(resource, node) {
            ResourceState::Failed => Some((*resource, format!("{resource} failed on {at}"))),
            ResourceState::Running if is_outdated(case.state, resource, node) => {
                Some((*resource, format!("the parameters of {resource} changed")))
            }
            ResourceState::Running | ResourceState::Unknown | ResourceState::Stopped | ResourceState::Blocked => None,
        }
    })
}
