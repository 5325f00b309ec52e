//! Where should each unit run, and why?
//!
//! A unit stays where it is held unless it must leave (standby, a node that leaves, too many failures), an operator
//! moves it, or a node that it prefers outweighs its stickiness. Scores are small integers: the first of `prefer`
//! counts 100, the second 50, the third 33, others 0; staying counts `stickiness` (100 by default, so that nothing
//! moves for a preference alone); `failback` sets stickiness aside. Among equals the node with the fewest units wins,
//! then the oldest member.
//!
//! In: what is wanted, each node's standing. Out: a placement for each unit, in the order in which they are placed.
//! Not here: the steps from here to there (`steps.rs`).

use std::collections::{BTreeMap, BTreeSet};

use model::{
    ActionKind, Bug, Bugs, ClusterState, Decision, Holder, HolderState, NodeId, NodeName, NodeRole, Placement as Wish,
    ResourceState, Unit, UnitName,
};

use crate::eligible::{Node, by, can_get, exhausted, is_free_elsewhere};

/// Points of the first of `prefer`; the one at position p (from 0) gets this divided by p + 1.
const PREFERRED: u32 = 100;

/// What is to be done about a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Leave it as it is.
    Nothing,
    /// It is held here; bring up what does not run.
    Stay(NodeId),
    /// Release it where it is held, then grant it there.
    Leave(NodeId, Option<NodeId>),
    /// Nobody holds it: grant it.
    Take(NodeId),
}

/// What is to be done about a unit, where that leads, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) unit: UnitName,
    pub(crate) intent: Intent,
    pub(crate) decision: Decision,
}

/// Points of a node for a unit, from `prefer` alone.
pub(crate) fn score(wish: &Wish, node: &NodeName) -> u32 {
    let position = wish.prefer.iter().position(|preferred| preferred == node);
    position.and_then(|p| u32::try_from(p).ok()).map_or(0, |p| PREFERRED / (p + 1))
}

/// Does everything of the unit run where it is held?
pub(crate) fn runs(state: &ClusterState, name: &UnitName, unit: &Unit<'_>) -> bool {
    state.holders.get(name).is_some_and(|holder| {
        unit.members.iter().all(|resource| state.known_state(resource, holder.node) == ResourceState::Running)
    })
}

/// Places every unit; those that others wait for come first, then those of higher priority.
pub(crate) fn place(
    state: &ClusterState,
    nodes: &BTreeMap<NodeId, Node<'_>>,
    units: &BTreeMap<UnitName, Unit<'_>>,
    bugs: Bugs,
) -> Vec<Placement> {
    let mut load: BTreeMap<NodeId, u32> = BTreeMap::new();
    for holder in state.holders.values() {
        *load.entry(holder.node).or_default() += 1;
    }
    let mut placements: Vec<Placement> = Vec::with_capacity(units.len());
    for name in in_order(units) {
        let place = Place { state, nodes, units, bugs, load: &load, placements: &placements };
        let (intent, node, reason) = place.decide(name, &units[name]);
        match intent {
            Intent::Leave(from, to) => {
                load.entry(from).and_modify(|held| *held = held.saturating_sub(1));
                if let Some(to) = to {
                    *load.entry(to).or_default() += 1;
                }
            }
            Intent::Take(to) => *load.entry(to).or_default() += 1,
            Intent::Nothing | Intent::Stay(_) => {}
        }
        placements.push(Placement { unit: name.clone(), intent, decision: Decision { node, reason } });
    }
    placements
}

/// Units after those they wait for; among the rest the highest priority first, then by name. A cycle, which the
/// configuration refuses, is broken where it stands.
fn in_order<'u>(units: &'u BTreeMap<UnitName, Unit<'_>>) -> Vec<&'u UnitName> {
    let mut by_priority: Vec<(&UnitName, &Unit<'_>)> = units.iter().collect();
    by_priority.sort_by_key(|(name, unit)| (std::cmp::Reverse(unit.placement.priority), *name));
    let mut done: BTreeSet<&UnitName> = BTreeSet::new();
    let mut order = Vec::with_capacity(units.len());
    while !by_priority.is_empty() {
        let is_ready =
            |unit: &Unit<'_>| unit.placement.after.iter().all(|name| done.contains(name) || !units.contains_key(name));
        let position = by_priority.iter().position(|(_, unit)| is_ready(unit)).unwrap_or(0);
        let (name, _) = by_priority.remove(position);
        done.insert(name);
        order.push(name);
    }
    order
}

struct Place<'p, 'a> {
    state: &'p ClusterState,
    nodes: &'p BTreeMap<NodeId, Node<'a>>,
    units: &'p BTreeMap<UnitName, Unit<'p>>,
    bugs: Bugs,
    load: &'p BTreeMap<NodeId, u32>,
    placements: &'p [Placement],
}

type Verdict = (Intent, Option<NodeId>, String);

impl Place<'_, '_> {
    fn decide(&self, name: &UnitName, unit: &Unit<'_>) -> Verdict {
        if unit.members.is_empty() {
            return (Intent::Nothing, None, format!("{name} has no resources"));
        }
        match self.state.holders.get(name) {
            Some(holder) if self.forgets_holder(holder) => self.begin(name, unit, None),
            Some(holder) => self.go_on(name, unit, holder),
            None => self.begin(name, unit, None),
        }
    }

    /// The planted bug: a unit whose holder has trouble is treated as free.
    fn forgets_holder(&self, holder: &Holder) -> bool {
        let has_trouble = |node: &Node<'_>| !node.is_workable() || node.must_empty.is_some();
        self.bugs.has(Bug::GrantWithoutRelease) && self.nodes.get(&holder.node).is_none_or(has_trouble)
    }

    /// A unit that nobody holds, or (`leaving`) that is on its way out of a node.
    fn begin(&self, name: &UnitName, unit: &Unit<'_>, leaving: Option<NodeId>) -> Verdict {
        let (target, reason) = match self.wanted(name, unit).and_then(|()| self.choose(name, unit, leaving)) {
            Ok((target, reason)) => (Some(target), reason),
            Err(reason) => (None, reason),
        };
        let intent = match (leaving, target) {
            (Some(from), to) => Intent::Leave(from, to),
            (None, Some(to)) => Intent::Take(to),
            (None, None) => Intent::Nothing,
        };
        (intent, target, reason)
    }

    /// A unit that a node holds.
    fn go_on(&self, name: &UnitName, unit: &Unit<'_>, holder: &Holder) -> Verdict {
        let here = holder.node;
        let Some(node) = self.nodes.get(&here) else {
            return (Intent::Nothing, None, format!("{name} is held by node {here}, which is no member"));
        };
        let at = node.name();
        let untouched = |reason: String| (Intent::Nothing, Some(here), reason);
        if node.member.state == model::MemberState::Condemned {
            return (Intent::Nothing, None, format!("{name} waits until {at} is proven off"));
        }
        if node.is_in_maintenance {
            return untouched(format!("{name} is left alone: {at} is in maintenance"));
        }
        if let Err(why) = &node.reach {
            return untouched(format!("{name} waits: {at} {why}"));
        }
        if let HolderState::Blocked { why } = &holder.state {
            return untouched(format!("{name} is blocked on {at}: {why}"));
        }
        let is_blocked = |resource: &&&_| self.state.known_state(resource, here) == ResourceState::Blocked;
        if let Some(resource) = unit.members.iter().find(is_blocked) {
            return untouched(format!("{name} is blocked on {at}: {resource} could not be stopped"));
        }
        if holder.state == HolderState::Releasing {
            return self.begin(name, unit, Some(here));
        }
        if let Err(why) = self.wanted(name, unit) {
            return (Intent::Leave(here, None), None, why);
        }
        if let Some(why) = self.must_leave(node, unit) {
            return match self.choose(name, unit, Some(here)) {
                Ok((to, _)) if to == here => (Intent::Stay(here), Some(here), format!("{name} stays on {at}")),
                Ok((to, _)) => {
                    let reason = format!("{name} moves to {} because {at} {why}", self.name(to));
                    (Intent::Leave(here, Some(to)), Some(to), reason)
                }
                Err(others) => (Intent::Leave(here, None), None, format!("{name} stops because {at} {why}; {others}")),
            };
        }
        match self.better(name, unit, here) {
            Ok(Some((to, reason))) => (Intent::Leave(here, Some(to)), Some(to), reason),
            Ok(None) => (Intent::Stay(here), Some(here), format!("{name} stays on {at}")),
            Err(why) => (Intent::Stay(here), Some(here), format!("{name} stays on {at}: {why}")),
        }
    }

    /// Should the unit run at all?
    fn wanted(&self, name: &UnitName, unit: &Unit<'_>) -> Result<(), String> {
        if !unit.placement.enabled {
            return Err(format!("{name} is stopped: the configuration says `enabled = false`"));
        }
        match self.state.action(&ActionKind::Stop(name.clone())) {
            Some(action) => Err(format!("{name} is stopped: an operator stopped it{}", by(action))),
            None => Ok(()),
        }
    }

    /// Why the unit cannot stay on the node that holds it; failures count only while something of it does not run.
    fn must_leave(&self, node: &Node<'_>, unit: &Unit<'_>) -> Option<String> {
        if let Some(why) = &node.must_empty {
            return Some(why.clone());
        }
        let runs = |resource: &&_| self.state.known_state(resource, node.id) == ResourceState::Running;
        if unit.members.iter().all(runs) {
            return None;
        }
        exhausted(self.state, node.id, unit).map(|(_, why)| why)
    }

    /// A node worth leaving `here` for: the one an operator asked for, or one that is preferred by more than the
    /// unit's stickiness. `Err` says why it cannot go where it was sent or belongs.
    fn better(&self, name: &UnitName, unit: &Unit<'_>, here: NodeId) -> Result<Option<(NodeId, String)>, String> {
        if let Some((to, asked)) = self.sent_to(name) {
            if to == here {
                return Ok(None);
            }
            self.can_take(name, unit, to, Some(here))
                .map_err(|why| format!("it cannot move to {}, which {why}", self.name(to)))?;
            return Ok(Some((
                to,
                format!("{name} moves to {} because an operator asked for it{asked}", self.name(to)),
            )));
        }
        if !runs(self.state, name, unit) {
            return Ok(None);
        }
        let wish = unit.placement;
        let points = |id: NodeId| self.nodes.get(&id).map_or(0, |node| score(wish, &node.member.name));
        let stay = points(here).saturating_add(if wish.failback { 0 } else { wish.stickiness });
        let mut homes: Vec<NodeId> = self.nodes.keys().copied().filter(|id| points(*id) > stay).collect();
        homes.sort_by_key(|id| std::cmp::Reverse(points(*id)));
        let mut obstacle = None;
        for home in homes {
            match self.can_take(name, unit, home, Some(here)) {
                Ok(()) => {
                    let reason =
                        format!("{name} moves to {}, which it prefers to {}", self.name(home), self.name(here));
                    return Ok(Some((home, reason)));
                }
                Err(why) => {
                    obstacle.get_or_insert(format!("{}, which it prefers, {why}", self.name(home)));
                }
            }
        }
        obstacle.map_or(Ok(None), Err)
    }

    /// The node that an operator sent the unit to, and who that was.
    fn sent_to(&self, name: &UnitName) -> Option<(NodeId, String)> {
        self.state.actions.values().find_map(|action| match &action.kind {
            ActionKind::Move(unit, to) if unit == name => Some((*to, by(action))),
            ActionKind::Move(..)
            | ActionKind::Standby(_)
            | ActionKind::NodeMaintenance(_)
            | ActionKind::ClusterMaintenance
            | ActionKind::Stop(_)
            | ActionKind::Leave(_) => None,
        })
    }

    fn can_take(&self, name: &UnitName, unit: &Unit<'_>, to: NodeId, holder: Option<NodeId>) -> Result<(), String> {
        let node = self.nodes.get(&to).ok_or_else(|| "is not a member".to_owned())?;
        can_get(self.state, node, name, unit, holder)?;
        is_free_elsewhere(self.state, self.nodes, name, unit, holder)
    }

    /// The best node for a unit, and why; or why there is none.
    fn choose(&self, name: &UnitName, unit: &Unit<'_>, holder: Option<NodeId>) -> Result<(NodeId, String), String> {
        is_free_elsewhere(self.state, self.nodes, name, unit, holder).map_err(|why| format!("{name} {why}"))?;
        self.dependencies(name, unit)?;
        let candidates: BTreeMap<NodeId, Result<(), String>> =
            self.nodes.values().map(|node| (node.id, can_get(self.state, node, name, unit, holder))).collect();
        if let Some((to, asked)) = self.sent_to(name)
            && candidates.get(&to).is_some_and(Result::is_ok)
        {
            return Ok((to, format!("{name} goes to {} because an operator asked for it{asked}", self.name(to))));
        }
        let load = |id: NodeId| self.load.get(&id).copied().unwrap_or(0);
        let points = |id: NodeId| self.nodes.get(&id).map_or(0, |node| score(unit.placement, &node.member.name));
        let best = candidates
            .iter()
            .filter(|(_, can)| can.is_ok())
            .map(|(id, _)| *id)
            .min_by_key(|id| (std::cmp::Reverse(points(*id)), load(*id), *id));
        let obstacles = || {
            let nodes = self.nodes.values().filter(|node| node.member.role == NodeRole::Member);
            let said = nodes.filter_map(|node| Some((node.name(), candidates.get(&node.id)?.as_ref().err()?)));
            said.map(|(node, why)| format!("{node} {why}")).collect::<Vec<_>>().join("; ")
        };
        let Some(best) = best else {
            return Err(format!("no node can run {name}: {}", obstacles()));
        };
        let to = self.name(best);
        let first =
            unit.placement.prefer.iter().find_map(|preferred| {
                self.nodes.values().find(|node| node.member.name == *preferred).map(|node| node.id)
            });
        let reason = match obstacles() {
            _ if first == Some(best) => format!("{name} goes to {to}, which it prefers"),
            obstacles if obstacles.is_empty() => format!("{name} goes to {to}, the best of the nodes that can run it"),
            obstacles => format!("{name} goes to {to}: {obstacles}"),
        };
        Ok((best, reason))
    }

    /// Do the units that it starts after run, or will they?
    fn dependencies(&self, name: &UnitName, unit: &Unit<'_>) -> Result<(), String> {
        for earlier in &unit.placement.after {
            let Some(needed) = self.units.get(earlier) else { continue };
            let is_coming = self
                .placements
                .iter()
                .find(|placement| placement.unit == *earlier)
                .is_some_and(|placement| placement.decision.node.is_some() && placement.intent != Intent::Nothing);
            if !is_coming && !runs(self.state, earlier, needed) {
                return Err(format!("{name} waits until {earlier} runs"));
            }
        }
        Ok(())
    }

    fn name(&self, id: NodeId) -> &str {
        self.nodes.get(&id).map_or("?", |node| node.name())
    }
}
