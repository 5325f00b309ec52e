//! Which steps lead from what is known to what is decided, and in which order?
//!
//! Within a unit: start in order, stop in reverse, and a member that must stop takes the later ones with it. Across
//! units `after` orders starts, and stops in reverse where both stop; it stops nothing by itself. What nobody knows is
//! probed everywhere; what runs where it must not is stopped.
//!
//! In: placements. Out: the plan, whose steps name the positions of the steps they wait for.
//! Not here: what a step does (`executor`).

use std::collections::BTreeMap;

use model::{
    ClusterState, Decision, HolderState, NodeId, Plan, ResourceName, ResourceState, Step, StepKind, Unit, UnitName,
};

use crate::eligible::Node;
use crate::place::{Intent, Placement, runs};

/// Makes the plan.
pub(crate) fn plan(
    state: &ClusterState,
    nodes: &BTreeMap<NodeId, Node<'_>>,
    units: &BTreeMap<UnitName, Unit<'_>>,
    placements: Vec<Placement>,
) -> Plan {
    let mut draft =
        Draft { state, nodes, units, steps: Vec::new(), starts: BTreeMap::new(), decisions: BTreeMap::new() };
    draft.probe(&placements);
    let removed_units = draft.begin_removed();
    let leftovers = draft.stop_leftovers();
    for (unit, node) in removed_units {
        let reason = format!("{unit} left the configuration");
        let waits: Vec<usize> =
            draft.begins_of(&unit).chain(leftovers.get(&node).into_iter().flatten().copied()).collect();
        draft.push(StepKind::Release, &unit, node, &reason, waits);
    }
    draft.stop_orphans();
    for placement in placements {
        let unit = &units[&placement.unit];
        let Placement { unit: name, intent, mut decision } = placement;
        match intent {
            Intent::Nothing => {}
            Intent::Stay(node) => draft.bring_up(&name, unit, node, &mut decision),
            Intent::Take(node) => draft.take(&name, unit, node, &decision.reason, None),
            Intent::Leave(from, to) => {
                let none = Vec::new();
                let released = draft.leave(&name, unit, from, &decision.reason, leftovers.get(&from).unwrap_or(&none));
                if let Some(to) = to {
                    draft.take(&name, unit, to, &decision.reason, Some(released));
                }
            }
        }
        draft.decisions.insert(name, decision);
    }
    draft.stop_in_reverse();
    Plan { decisions: draft.decisions, steps: draft.steps }
}

struct Draft<'d, 'a> {
    state: &'d ClusterState,
    nodes: &'d BTreeMap<NodeId, Node<'a>>,
    units: &'d BTreeMap<UnitName, Unit<'d>>,
    steps: Vec<Step>,
    /// The last start of each unit that has one in the plan.
    starts: BTreeMap<UnitName, usize>,
    decisions: BTreeMap<UnitName, Decision>,
}

impl Draft<'_, '_> {
    fn push(&mut self, kind: StepKind, unit: &UnitName, node: NodeId, reason: &str, after: Vec<usize>) -> usize {
        self.steps.push(Step { kind, unit: unit.clone(), node, reason: reason.to_owned(), after });
        self.steps.len() - 1
    }

    fn name(&self, id: NodeId) -> &str {
        self.nodes.get(&id).map_or("?", |node| node.name())
    }

    /// Asks every reachable node about what is unknown there; what is being released there is stopped instead.
    fn probe(&mut self, placements: &[Placement]) {
        for node in self.nodes.values().filter(|node| node.could_run() && node.reach.is_ok()) {
            for placement in placements {
                if matches!(placement.intent, Intent::Leave(from, _) if from == node.id) {
                    continue;
                }
                for resource in &self.units[&placement.unit].members {
                    if self.state.known_state(resource, node.id) == ResourceState::Unknown {
                        let reason = format!("nobody knows whether {resource} runs on {}", node.name());
                        let kind = StepKind::Probe((*resource).clone());
                        self.push(kind, &placement.unit, node.id, &reason, Vec::new());
                    }
                }
            }
        }
    }

    /// Begins to release what is held but no longer configured; returns those that can be released after their stops.
    fn begin_removed(&mut self) -> Vec<(UnitName, NodeId)> {
        let mut begun = Vec::new();
        for (unit, holder) in &self.state.holders {
            if self.units.contains_key(unit) {
                continue;
            }
            let Some(node) = self.nodes.get(&holder.node) else { continue };
            let reason = format!("{unit} left the configuration");
            let decide = |reason: String| Decision { node: None, reason };
            if !node.is_workable() {
                let why = match &node.reach {
                    Err(why) => why.clone(),
                    Ok(()) => "is in maintenance".to_owned(),
                };
                let reason = format!("{reason}, but {}, which holds it, {why}", node.name());
                self.decisions.insert(unit.clone(), decide(reason));
                continue;
            }
            match &holder.state {
                HolderState::Held => {
                    self.push(StepKind::BeginRelease, unit, node.id, &reason, Vec::new());
                }
                HolderState::Releasing => {}
                HolderState::Blocked { why } => {
                    let reason = format!("{reason}, but is blocked on {}: {why}", node.name());
                    self.decisions.insert(unit.clone(), decide(reason));
                    continue;
                }
            }
            self.decisions.insert(unit.clone(), decide(reason));
            begun.push((unit.clone(), node.id));
        }
        begun
    }

    fn begins_of(&self, unit: &UnitName) -> impl Iterator<Item = usize> {
        let position = self.steps.iter().position(|step| step.kind == StepKind::BeginRelease && step.unit == *unit);
        position.into_iter()
    }

    /// Stops what left the configuration while it ran; the positions by node.
    fn stop_leftovers(&mut self) -> BTreeMap<NodeId, Vec<usize>> {
        let mut stops: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        let begins: Vec<(usize, NodeId)> = self
            .steps
            .iter()
            .enumerate()
            .filter(|(_, s)| s.kind == StepKind::BeginRelease)
            .map(|(i, s)| (i, s.node))
            .collect();
        for (resource, nodes) in &self.state.known {
            if self.state.config.resources.contains_key(resource) {
                continue;
            }
            for (id, known) in nodes {
                let Some(node) = self.nodes.get(id) else { continue };
                if known.incarnation != node.member.incarnation || !node.is_workable() {
                    continue;
                }
                let waits: Vec<usize> = begins.iter().filter(|(_, on)| on == id).map(|(i, _)| *i).collect();
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
        for node in self.nodes.values().filter(|node| node.could_run() && node.is_workable()) {
            for (name, unit) in self.units {
                if self.state.holders.get(name).is_some_and(|holder| holder.node == node.id) {
                    continue;
                }
                let mut waits = Vec::new();
                for resource in unit.members.iter().rev() {
                    match self.state.known_state(resource, node.id) {
                        ResourceState::Running | ResourceState::Failed => {}
                        ResourceState::Unknown | ResourceState::Stopped | ResourceState::Blocked => continue,
                    }
                    let reason = format!("{resource} runs on {}, which does not hold {name}", node.name());
                    let stop = self.push(StepKind::Stop((*resource).clone()), name, node.id, &reason, waits);
                    waits = vec![stop];
                }
            }
        }
    }

    /// Brings up in order what does not run where the unit is held.
    fn bring_up(&mut self, name: &UnitName, unit: &Unit<'_>, node: NodeId, decision: &mut Decision) {
        let needs: Vec<Need> = unit.members.iter().map(|resource| self.need(resource, node)).collect();
        let Some(first) = needs.iter().position(|need| *need != Need::Nothing) else { return };
        if needs[first] == Need::Answer {
            decision.reason = format!("{name} waits until it is known whether {} runs", unit.members[first]);
            return;
        }
        let at = self.name(node).to_owned();
        let culprit = unit.members[first];
        let why = match needs[first] {
            Need::Restart(Restart::Failed) => format!("{culprit} failed on {at}"),
            Need::Restart(Restart::Changed) => format!("the parameters of {culprit} changed"),
            Need::Start | Need::Answer | Need::Nothing => format!("{name} is to run on {at}"),
        };
        let mut last = None;
        for (position, resource) in unit.members.iter().enumerate().skip(first).rev() {
            let must_stop = match self.state.known_state(resource, node) {
                ResourceState::Running | ResourceState::Failed => true,
                ResourceState::Unknown | ResourceState::Stopped | ResourceState::Blocked => false,
            };
            if must_stop {
                let reason =
                    if position == first { why.clone() } else { format!("it runs on top of {culprit}: {why}") };
                let waits = last.into_iter().collect();
                last = Some(self.push(StepKind::Stop((*resource).clone()), name, node, &reason, waits));
            }
        }
        match self.may_start(name, unit) {
            Ok(waits) => {
                let waits = waits.into_iter().chain(last).collect();
                let until = needs.iter().position(|need| *need == Need::Answer).unwrap_or(needs.len());
                self.start(name, &unit.members[first..until], node, &why, waits);
                decision.reason = format!("{} ({why})", decision.reason);
            }
            Err(earlier) => decision.reason = format!("{name} waits on {at} until {earlier} runs"),
        }
    }

    fn need(&self, resource: &ResourceName, node: NodeId) -> Need {
        match self.state.known_state(resource, node) {
            ResourceState::Unknown => Need::Answer,
            ResourceState::Stopped => Need::Start,
            ResourceState::Failed => Need::Restart(Restart::Failed),
            ResourceState::Running if self.is_outdated(resource, node) => Need::Restart(Restart::Changed),
            ResourceState::Running | ResourceState::Blocked => Need::Nothing,
        }
    }

    /// Does it run with other parameters than those configured?
    fn is_outdated(&self, resource: &ResourceName, node: NodeId) -> bool {
        let running = self.state.known.get(resource).and_then(|nodes| nodes.get(&node)).map_or(0, |known| known.digest);
        let wanted = self.state.config.resources.get(resource).map(|wanted| wanted.parameters_digest());
        running != 0 && wanted.is_some_and(|wanted| wanted != running)
    }

    /// Releases the unit where it is held; the position of the release.
    fn leave(&mut self, name: &UnitName, unit: &Unit<'_>, from: NodeId, reason: &str, leftovers: &[usize]) -> usize {
        let is_held = self.state.holders.get(name).is_some_and(|holder| holder.state == HolderState::Held);
        let mut waits: Vec<usize> = Vec::new();
        if is_held {
            waits = vec![self.push(StepKind::BeginRelease, name, from, reason, Vec::new())];
        }
        for resource in unit.members.iter().rev() {
            if is_held || self.state.known_state(resource, from) != ResourceState::Stopped {
                waits = vec![self.push(StepKind::Stop((*resource).clone()), name, from, reason, waits)];
            }
        }
        waits.extend(leftovers);
        self.push(StepKind::Release, name, from, reason, waits)
    }

    /// Grants the unit and starts it in order.
    fn take(&mut self, name: &UnitName, unit: &Unit<'_>, to: NodeId, reason: &str, released: Option<usize>) {
        let grant = self.push(StepKind::Grant, name, to, reason, released.into_iter().collect());
        if let Ok(waits) = self.may_start(name, unit) {
            let waits = waits.into_iter().chain([grant]).collect();
            self.start(name, &unit.members, to, reason, waits);
        }
    }

    fn start(&mut self, name: &UnitName, members: &[&ResourceName], node: NodeId, reason: &str, waits: Vec<usize>) {
        let mut waits = waits;
        for resource in members {
            let start = self.push(StepKind::Start((*resource).clone()), name, node, reason, waits);
            self.starts.insert(name.clone(), start);
            waits = vec![start];
        }
    }

    /// The starts of other units that come first; `Err` names a unit that has to run first and does not come.
    fn may_start(&self, name: &UnitName, unit: &Unit<'_>) -> Result<Vec<usize>, UnitName> {
        let mut waits = Vec::new();
        for earlier in unit.placement.after.iter().filter(|earlier| *earlier != name) {
            let Some(needed) = self.units.get(earlier) else { continue };
            match self.starts.get(earlier) {
                Some(start) => waits.push(*start),
                None if runs(self.state, earlier, needed) => {}
                None => return Err(earlier.clone()),
            }
        }
        Ok(waits)
    }

    /// Where a unit and one that comes after it both stop, the later one stops first.
    fn stop_in_reverse(&mut self) {
        let stops_of = |steps: &[Step], unit: &UnitName| -> Vec<usize> {
            let is_stop = |step: &Step| matches!(step.kind, StepKind::Stop(_)) && step.unit == *unit;
            steps.iter().enumerate().filter(|(_, step)| is_stop(step)).map(|(position, _)| position).collect()
        };
        for (name, unit) in self.units.iter().filter(|(_, unit)| !unit.placement.after.is_empty()) {
            let first = stops_of(&self.steps, name);
            if first.is_empty() {
                continue;
            }
            for earlier in unit.placement.after.iter().filter(|earlier| *earlier != name) {
                for position in stops_of(&self.steps, earlier) {
                    self.steps[position].after.extend(&first);
                }
            }
        }
    }
}

/// What a resource needs in order to run where its unit is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    Answer,
    Start,
    Restart(Restart),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Restart {
    Failed,
    Changed,
}
