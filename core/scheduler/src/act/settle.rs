//! Who needs whom? Edges are applied until nothing changes.
//!
//! An action can become needed, impossible or needless, and never the reverse, so this ends. What counts its firsts is
//! counted anew each time; the count can only fall.

use std::collections::BTreeMap;

use model::situation::Role;

use super::cause::Because;
use super::graph::{ActionIx, Actions, Edge, Kind, Phase, Task};
use super::members::Look;
use super::{End, Planner, notify};
use crate::world::{NodeIx, RscIx};

/// What an edge changed.
#[derive(Clone, Copy, Debug, Default)]
struct Changed {
    first: bool,
    then: bool,
}

impl Changed {
    fn add(&mut self, other: Changed) {
        self.first |= other.first;
        self.then |= other.then;
    }
}

impl<'a> Planner<'_, 'a> {
    /// Turns relations between kinds of actions into edges between actions.
    pub(super) fn apply_orders(&mut self) {
        let orderings = std::mem::take(&mut self.orderings);
        for ordering in &orderings {
            let firsts = match ordering.first {
                End::This(action) => Actions::from(&[action][..]),
                End::Of(rsc, task) => self.first_actions(rsc, task, ordering.then),
            };
            for first in firsts {
                let thens = match ordering.then {
                    End::This(action) => Actions::from(&[action][..]),
                    End::Of(rsc, task) => self.graph.each(rsc, task),
                };
                for then in thens {
                    let mut kind = ordering.kind;
                    let (a, b) = (self.graph.get(first), self.graph.get(then));
                    if a.rsc == b.rsc
                        && a.task == Task::Stop
                        && b.task == Task::Start
                        && a.rsc
                            .is_some_and(|rsc| self.world.rsc(rsc).dangling.iter().any(|node| Some(*node) == a.node))
                    {
                        kind = kind.without(Kind::THEN_FOLLOWS);
                    }
                    self.graph.order(first, then, kind);
                }
            }
        }
        self.look_before_stops(&orderings);
    }

    /// The actions of a kind; where there are none and there should be, one that cannot be done.
    fn first_actions(&mut self, rsc: RscIx, task: Task<'a>, then: End<'a>) -> Actions {
        let found = self.graph.each(rsc, task);
        if !found.is_empty() {
            return found;
        }
        let then_rsc = match then {
            End::Of(then_rsc, _) => Some(then_rsc),
            End::This(action) => self.graph.get(action).rsc,
        };
        if then_rsc == Some(rsc) {
            return Actions::new();
        }
        let role = self.role(rsc);
        let is_pointless = match task {
            Task::Stop | Task::Stopped => role == Role::Stopped,
            Task::Demote | Task::Demoted => role <= Role::Unpromoted,
            Task::Delete | Task::Probe => true,
            _ => false,
        };
        if is_pointless {
            return Actions::new();
        }
        let at = self.action(rsc, task, None, true);
        Actions::from(&[at][..])
    }

    /// Applies every edge until nothing changes.
    pub(super) fn settle_all(&mut self) {
        let mut queue: std::collections::VecDeque<ActionIx> = self.graph.ixs().collect();
        let mut is_queued = vec![true; self.graph.actions.len()];
        while let Some(at) = queue.pop_front() {
            is_queued[at.0 as usize] = false;
            for changed in self.settle(at) {
                let again: Vec<ActionIx> =
                    self.graph.get(changed).after.iter().copied().chain([changed]).chain(self.outer(changed)).collect();
                is_queued.resize(self.graph.actions.len(), false);
                for next in again {
                    if !std::mem::replace(&mut is_queued[next.0 as usize], true) {
                        queue.push_back(next);
                    }
                }
            }
        }
    }

    /// The marker of the collective that it is part of.
    fn outer(&self, at: ActionIx) -> Option<ActionIx> {
        let action = self.graph.get(at);
        let parent = self.world.rsc(action.rsc?).parent?;
        self.graph.find_exact(Some(parent), undone(action.task)?, None)
    }

    /// Applies every edge that leads to an action; what changed by it.
    fn settle(&mut self, then: ActionIx) -> Vec<ActionIx> {
        let mut touched = Vec::new();
        self.look(then, None, &mut touched);
        if self.graph.get(then).needed_before > 0 {
            self.graph.get_mut(then).runnable_before = 0;
            let was_runnable = self.graph.get(then).is_runnable;
            self.graph.get_mut(then).is_runnable = false;
            for edge in self.graph.get(then).before.clone() {
                if edge.kind.has(Kind::COUNTED) && self.look(edge.first, None, &mut touched).is_runnable {
                    self.graph.get_mut(then).runnable_before += 1;
                }
            }
            let action = self.graph.get_mut(then);
            action.is_runnable = action.runnable_before >= action.needed_before;
            if action.is_runnable != was_runnable {
                touched.push(then);
            }
        }
        let mut at = 0;
        while at < self.graph.get(then).before.len() {
            let edge = self.graph.get(then).before[at];
            at += 1;
            if edge.kind.is_none() {
                continue;
            }
            let changed = self.apply(edge, then, &mut touched);
            if changed.first && !touched.contains(&edge.first) {
                touched.push(edge.first);
            }
            if changed.then && !touched.contains(&then) {
                touched.push(then);
            }
        }
        touched
    }

    fn apply(&mut self, edge: Edge, then: ActionIx, touched: &mut Vec<ActionIx>) -> Changed {
        let first = edge.first;
        let (first_node, then_node) = (self.node_for(first), self.node_for(then));
        if edge.kind.has(Kind::SAME_NODE) && first_node.is_some() && then_node.is_some() && first_node != then_node {
            self.drop_edge(edge, then);
            return Changed::default();
        }
        if edge.kind.has(Kind::UNLESS_FIRST_MIGRATES) && self.graph.get(first).may_migrate {
            return Changed::default();
        }
        if edge.kind.has(Kind::CANCELS_FIRST) && !self.graph.get(then).is_optional {
            let action = self.graph.get_mut(first);
            action.is_optional = true;
            // For good: otherwise it would be asked for and dropped in turns for ever.
            action.is_cancelled = true;
        }
        if !edge.kind.is_more_than_order() {
            return Changed::default();
        }
        let first_look = self.look_from(first, then_node, touched);
        self.apply_kinds(first, then, first_look, edge.kind, touched)
    }

    fn drop_edge(&mut self, edge: Edge, then: ActionIx) {
        for known in self.graph.actions[then.0 as usize].before.iter_mut() {
            if *known == edge {
                known.kind = Kind::NONE;
            }
        }
    }

    /// Where an action counts as happening; a group's start happens where the group goes.
    fn node_for(&self, at: ActionIx) -> Option<NodeIx> {
        let action = self.graph.get(at);
        match (action.rsc, action.task) {
            (Some(rsc), Task::Start) if self.world.rsc(rsc).is_group() => self.place_of(rsc),
            _ => action.node,
        }
    }

    /// How an action looks to one on a node: of clones, what counts is needed there, and possible anywhere.
    fn look_from(&mut self, at: ActionIx, node: Option<NodeIx>, touched: &mut Vec<ActionIx>) -> Look {
        let look = self.look(at, None, touched);
        let is_spread = self.graph.get(at).rsc.is_some_and(|rsc| {
            let it = self.world.rsc(rsc);
            it.is_clone() || it.is_bundle()
        });
        if node.is_none() || !is_spread {
            return look;
        }
        let there = self.look(at, node, touched);
        Look { is_runnable: look.is_runnable || there.is_runnable, ..there }
    }

    /// How an action looks to others; a collective's marker is what its members' actions are, those of primitives on
    /// that node if one is named.
    fn look(&mut self, at: ActionIx, node: Option<NodeIx>, touched: &mut Vec<ActionIx>) -> Look {
        let world = self.world;
        let action = self.graph.get(at);
        let (is_begin, own_task) = (undone(action.task) == Some(action.task), action.task);
        let plain =
            Look { is_optional: action.is_optional, is_runnable: action.is_runnable, may_migrate: action.may_migrate };
        let Some(rsc) = action.rsc else { return plain };
        let it = world.rsc(rsc);
        if it.is_primitive() {
            return plain;
        }
        let Some(task) = undone(own_task) else { return plain };
        if node.is_none()
            && let Some(look) = self.members.seen(at, self.graph.version())
        {
            return look;
        }
        let mut look = Look { is_optional: true, is_runnable: true, may_migrate: plain.may_migrate };
        let mut is_any_runnable = false;
        let mut is_blocked = false;
        let on_node = node.and_then(|node| self.members_on(at, task, node));
        for member in on_node.iter().flatten() {
            let member = self.graph.get(*member);
            look.is_optional &= member.is_optional;
            is_any_runnable |= member.is_runnable;
        }
        for member in it.children.iter().filter(|_| on_node.is_none()) {
            let is_primitive = world.rsc(*member).is_primitive();
            let node_there = if is_primitive { node } else { None };
            let task_there = if is_primitive { task } else { own_task };
            let found = self.graph.find(Some(*member), task_there, node_there);
            let Some(member_action) = found else {
                let is_up = matches!(own_task, Task::Start | Task::Promote | Task::Started | Task::Promoted);
                if it.is_group() && (is_up || !is_begin) {
                    look.is_runnable = false;
                }
                continue;
            };
            let there = self.look(member_action, node, touched);
            look.is_optional &= there.is_optional;
            is_any_runnable |= there.is_runnable;
            is_blocked |= !there.is_runnable;
        }
        if it.is_group() {
            if !is_begin && is_blocked {
                look.is_runnable = false;
            }
        } else {
            look.is_runnable = is_any_runnable;
            is_blocked = node.is_none() && !is_any_runnable;
        }
        let action = self.graph.get(at);
        let is_optional = action.is_optional && look.is_optional;
        let is_runnable = action.is_runnable && !(is_blocked && !(is_begin && it.is_group()));
        if (is_optional, is_runnable) != (action.is_optional, action.is_runnable) {
            let action = self.graph.get_mut(at);
            (action.is_optional, action.is_runnable) = (is_optional, is_runnable);
            if !touched.contains(&at) {
                touched.push(at);
            }
        }
        if node.is_none() {
            self.members.note(at, self.graph.version(), look);
        }
        look
    }

    fn apply_kinds(
        &mut self,
        first: ActionIx,
        then: ActionIx,
        first_look: Look,
        kind: Kind,
        touched: &mut Vec<ActionIx>,
    ) -> Changed {
        let mut changed = Changed::default();
        let (first_rsc, then_rsc) = (self.graph.get(first).rsc, self.graph.get(then).rsc);
        for one in [
            Kind::THEN_FOLLOWS,
            Kind::RESTARTS,
            Kind::FIRST_FOLLOWS,
            Kind::FIRST_FOLLOWS_IF_PROMOTED,
            Kind::BLOCKS,
            Kind::ONE_WAY,
        ] {
            if kind.has(one) {
                let owner = if one == Kind::FIRST_FOLLOWS { first_rsc } else { then_rsc };
                changed.add(self.update(owner, first, then, first_look, one, touched));
            }
        }
        if kind.has(Kind::STANDS_IN) && !first_look.is_runnable {
            let action = self.graph.get_mut(then);
            changed.then |= std::mem::replace(&mut action.is_marker, false);
            changed.then |= std::mem::replace(&mut action.may_migrate, false);
        }
        if kind.has(Kind::SHOWS_THEN) && first_look.is_runnable && !first_look.is_optional {
            let action = self.graph.get_mut(then);
            changed.then |= !std::mem::replace(&mut action.is_always_shown, true);
        }
        if kind.has(Kind::SHOWS_FIRST) && !self.graph.get(then).is_optional {
            let action = self.graph.get_mut(first);
            changed.first |= !std::mem::replace(&mut action.is_always_shown, true);
        }
        if kind.has(Kind::MIGRATES_WITH) {
            let (can, is_needed) = {
                let action = self.graph.get(then);
                (action.may_migrate && action.is_runnable, !action.is_optional)
            };
            let action = self.graph.get_mut(first);
            if !can {
                changed.first |= std::mem::replace(&mut action.is_runnable, false);
            }
            if is_needed {
                changed.first |= std::mem::replace(&mut action.is_optional, false);
            }
        }
        let binds = kind.has(Kind::THEN_FOLLOWS) || kind.has(Kind::FIRST_FOLLOWS) || kind.has(Kind::RESTARTS);
        let stop = self.graph.get(first);
        let is_stuck = stop.task == Task::Stop
            && !stop.is_runnable
            && stop.rsc.is_some_and(|rsc| !self.world.rsc(rsc).is_managed && self.world.rsc(rsc).is_blocked);
        if binds && is_stuck {
            changed.then |= self.block(then, first);
        }
        changed
    }

    /// Applies one kind of relation, and to what a collective's marker stands for.
    fn update(
        &mut self,
        owner: Option<RscIx>,
        first: ActionIx,
        then: ActionIx,
        first_look: Look,
        kind: Kind,
        touched: &mut Vec<ActionIx>,
    ) -> Changed {
        let world = self.world;
        let Some(owner) = owner else { return self.update_one(first, then, first_look, kind, touched) };
        let it = world.rsc(owner);
        if it.is_primitive() {
            return self.update_one(first, then, first_look, kind, touched);
        }
        let is_group = it.is_group();
        if !is_group && self.is_interleaved(first, then) {
            return self.update_interleaved(first, then, kind, touched);
        }
        let changed = self.update_one(first, then, first_look, kind, touched);
        let (then_rsc, task, node) = {
            let action = self.graph.get(then);
            (action.rsc, action.task, action.node)
        };
        if is_group && then_rsc != Some(owner) {
            return changed;
        }
        let Some(then_rsc) = then_rsc else { return changed };
        for member in &world.rsc(then_rsc).children {
            let Some(member_action) = self.graph.find(Some(*member), task, node) else { continue };
            if member_action == first || (!is_group && !self.look(member_action, node, touched).is_runnable) {
                continue;
            }
            let inner = self.update(Some(*member), first, member_action, first_look, kind, touched);
            if inner.then && !touched.contains(&member_action) {
                touched.push(member_action);
            }
            if inner.first && !touched.contains(&first) {
                touched.push(first);
            }
        }
        changed
    }

    /// Applies one kind of relation to these two actions.
    fn update_one(
        &mut self,
        first: ActionIx,
        then: ActionIx,
        first_look: Look,
        kind: Kind,
        touched: &mut Vec<ActionIx>,
    ) -> Changed {
        let mut changed = Changed::default();
        let is_then_needed =
            kind == Kind::FIRST_FOLLOWS && !self.look_from(then, self.node_for(first), touched).is_optional;
        if kind == Kind::THEN_FOLLOWS {
            if !first_look.is_optional && !first_look.may_migrate {
                changed.then = self.require(then, first);
            }
        } else if kind == Kind::RESTARTS {
            changed = self.apply_restart(first, then);
        } else if kind == Kind::FIRST_FOLLOWS {
            if is_then_needed && !first_look.is_optional {
                changed.first = self.require(first, then);
                changed.first |= self.stop_migrating(first, then);
            }
        } else if kind == Kind::FIRST_FOLLOWS_IF_PROMOTED {
            let is_promoted = self.graph.get(then).rsc.is_some_and(|rsc| self.role(rsc) == Role::Promoted);
            if is_promoted && !self.graph.get(then).is_optional {
                changed.first = self.require(first, then);
                changed.first |= self.stop_migrating(first, then);
            }
        } else if kind == Kind::BLOCKS {
            if !first_look.is_runnable {
                changed.then = self.block(then, first);
            }
        } else if kind == Kind::ONE_WAY {
            changed = self.apply_one_way(first, then);
        }
        changed
    }

    /// What has to stop for something that does not migrate does not migrate either.
    fn stop_migrating(&mut self, first: ActionIx, then: ActionIx) -> bool {
        !self.graph.get(then).may_migrate && std::mem::replace(&mut self.graph.get_mut(first).may_migrate, false)
    }

    /// Makes an action needed, that of an unmanaged resource too: nobody carries it out, and what waits for it is stuck.
    fn require(&mut self, at: ActionIx, because: ActionIx) -> bool {
        if !self.graph.get(at).is_optional || self.graph.get(at).is_cancelled {
            return false;
        }
        let action = self.graph.get_mut(at);
        action.is_optional = false;
        action.because.get_or_insert(Because::Needed(because));
        true
    }

    /// Makes an action impossible.
    fn block(&mut self, at: ActionIx, because: ActionIx) -> bool {
        if !self.graph.get(at).is_runnable {
            return false;
        }
        let action = self.graph.get_mut(at);
        action.is_runnable = false;
        action.may_migrate = false;
        action.because = Some(Because::Hindered(because));
        true
    }

    /// Do relations between two collectives hold instance by instance?
    fn is_interleaved(&self, first: ActionIx, then: ActionIx) -> bool {
        let (first, then) = (self.graph.get(first), self.graph.get(then));
        let (Some(first_rsc), Some(then_rsc)) = (first.rsc, then.rsc) else { return false };
        let is_spread = |rsc: RscIx| self.world.rsc(rsc).is_clone() || self.world.rsc(rsc).is_bundle();
        let decides = if matches!(then.task, Task::Stop | Task::Demote) { first_rsc } else { then_rsc };
        first_rsc != then_rsc
            && is_spread(first_rsc)
            && is_spread(then_rsc)
            && self.world.rsc(decides).meta.is_interleaved
    }

    /// Applies a relation between two clones to the instances on the same nodes.
    fn update_interleaved(
        &mut self,
        first: ActionIx,
        then: ActionIx,
        kind: Kind,
        touched: &mut Vec<ActionIx>,
    ) -> Changed {
        let world = self.world;
        let mut changed = Changed::default();
        let (first_action, then_action) = (self.graph.get(first), self.graph.get(then));
        let (Some(first_rsc), Some(then_rsc)) = (first_action.rsc, then_action.rsc) else { return changed };
        let (first_task, then_task) = (first_action.task, then_action.task);
        let task = undone(first_task).unwrap_or(first_task);
        let goes_down = task != first_task && matches!(task, Task::Stop | Task::Demote);
        let mut matches: BTreeMap<NodeIx, RscIx> = BTreeMap::new();
        for instance in self.instances(first_rsc).into_iter().rev() {
            let is_blocked = world.primitives(instance).iter().any(|rsc| world.rsc(*rsc).is_blocked);
            if !is_blocked && let Some(node) = self.only_place(instance, goes_down) {
                matches.insert(node, instance);
            }
        }
        for then_instance in self.instances(then_rsc) {
            let partner = match self.only_place(then_instance, goes_down) {
                Some(node) => matches.get(&node).copied(),
                None => self.open_nodes(then_instance).iter().find_map(|node| matches.get(node).copied()),
            };
            let Some(partner) = partner else {
                if !goes_down && matches!(kind, Kind::BLOCKS | Kind::THEN_FOLLOWS) {
                    changed.then |= self.give_up(then_instance, touched);
                }
                continue;
            };
            let task_there = if world.rsc(partner).is_primitive() { task } else { first_task };
            let Some(first_there) = self.graph.find(Some(partner), task_there, None) else { continue };
            let Some(then_there) = self.graph.find(Some(then_instance), then_task, None) else { continue };
            if self.graph.order(first_there, then_there, kind) && !touched.contains(&then_there) {
                touched.push(then_there);
            }
            let look = self.look(first_there, None, touched);
            let inner = self.update(Some(then_instance), first_there, then_there, look, kind, touched);
            for (is_changed, at) in [(inner.first, first_there), (inner.then, then_there)] {
                if is_changed && !touched.contains(&at) {
                    touched.push(at);
                }
            }
            changed.add(inner);
        }
        changed
    }

    /// Instances of a clone; of bundles their containers.
    fn instances(&self, rsc: RscIx) -> Vec<RscIx> {
        let it = self.world.rsc(rsc);
        if it.is_bundle() { it.replicas.iter().map(|replica| replica.container).collect() } else { it.children.clone() }
    }

    /// The one node where all of an instance is, or goes.
    fn only_place(&self, instance: RscIx, is_current: bool) -> Option<NodeIx> {
        let mut found = None;
        for rsc in self.world.primitives(instance) {
            let places = if is_current {
                self.world.rsc(rsc).active_on.as_slice()
            } else {
                self.placement.node[rsc.0 as usize].as_slice()
            };
            for node in places {
                if found.is_some_and(|known| known != *node) {
                    return None;
                }
                found = Some(*node);
            }
        }
        found
    }

    /// The nodes that an instance may be on, the best first.
    fn open_nodes(&self, instance: RscIx) -> Vec<NodeIx> {
        let table = &self.placement.tables[instance.0 as usize];
        let score = |node: &NodeIx| table.get(node.0 as usize).copied().flatten();
        let mut nodes: Vec<NodeIx> = self.world.node_ixs().filter(|node| score(node).is_some()).collect();
        nodes.sort_by_key(|node| std::cmp::Reverse(score(node)));
        nodes
    }

    /// An instance that lacks what it needs beside it goes nowhere.
    fn give_up(&mut self, instance: RscIx, touched: &mut Vec<ActionIx>) -> bool {
        let mut is_changed = false;
        for rsc in self.world.primitives(instance) {
            let at = rsc.0 as usize;
            is_changed |= self.placement.node[at].take().is_some();
            self.placement.goal[at] = Role::Stopped;
            for action_at in self.graph.of(rsc) {
                let is_managed = self.world.rsc(rsc).is_managed;
                let action = self.graph.get_mut(action_at);
                let was = (action.is_optional, action.is_runnable);
                match action.task {
                    Task::Stop if is_managed => action.is_optional = false,
                    Task::Start | Task::Monitor(_) => action.is_runnable = false,
                    _ => {}
                }
                if was != (action.is_optional, action.is_runnable) {
                    is_changed = true;
                    if !touched.contains(&action_at) {
                        touched.push(action_at);
                    }
                }
            }
        }
        is_changed
    }

    /// A stop that something else brings along: its own start, or the stop of what it stands on.
    fn apply_restart(&mut self, first: ActionIx, then: ActionIx) -> Changed {
        let mut changed = Changed::default();
        let (stop, waiter) = (self.graph.get(first), self.graph.get(then));
        let is_managed = waiter.rsc.is_none_or(|rsc| self.world.rsc(rsc).is_managed);
        let is_restart = !waiter.is_optional;
        let is_end = !waiter.is_runnable && is_managed && stop.rsc == waiter.rsc;
        if !is_restart && !is_end {
            return changed;
        }
        if is_restart || stop.is_runnable {
            changed.first |= self.require(first, then);
        }
        changed.first |= self.stop_migrating(first, then);
        let stop = self.graph.get(first);
        if !stop.is_optional && !stop.is_runnable {
            changed.then |= self.block(then, first);
        }
        changed
    }

    /// An order in one direction only: what cannot be done first keeps the then from happening, if it has not yet.
    fn apply_one_way(&mut self, first: ActionIx, then: ActionIx) -> Changed {
        let mut changed = Changed::default();
        if self.graph.get(first).is_runnable {
            return changed;
        }
        let action = self.graph.get(then);
        let Some(rsc) = action.rsc else { return changed };
        if action.is_optional {
            let role = self.role(rsc);
            let active_on = &self.world.rsc(rsc).active_on;
            let is_up = role >= Role::Started
                && action.task == Task::Start
                && action.node.is_some_and(|node| active_on.as_slice() == [node]);
            if is_up || (role == Role::Stopped && action.task == Task::Stop) {
                return changed;
            }
        }
        changed.then |= !self.world_unmanaged(then) && self.require(then, first);
        changed.then |= self.block(then, first);
        changed
    }

    fn world_unmanaged(&self, at: ActionIx) -> bool {
        self.graph.get(at).rsc.is_some_and(|rsc| !self.world.rsc(rsc).is_managed)
    }

    pub(super) fn name_of(&self, at: ActionIx) -> String {
        let action = self.graph.get(at);
        let task = match action.task {
            Task::Start | Task::Started => "start",
            Task::Stop | Task::Stopped => "stop",
            Task::Promote | Task::Promoted => "promote",
            Task::Demote | Task::Demoted => "demote",
            Task::MigrateTo | Task::MigrateFrom => "migration",
            Task::Reload => "reload",
            Task::Probe => "probe",
            Task::Monitor(_) | Task::Cancel(..) => "monitor",
            Task::ClearFailures => "clearing of failures",
            Task::Delete | Task::Forget => "deletion",
            Task::Fence => "fencing",
            Task::Unfence => "unfencing",
            Task::Shutdown => "shutdown",
            Task::Unloaded => "room",
            Task::Enough(_) => "enough of a set",
            Task::Notify(..) | Task::Notified(..) => "notification",
        };
        match action.rsc {
            Some(rsc) => format!("{} {task}", self.world.rsc(rsc).id),
            None => task.to_owned(),
        }
    }
}

/// The task whose end a marker stands for, or that the marker begins.
pub(super) fn undone(task: Task<'_>) -> Option<Task<'_>> {
    match task {
        Task::Start | Task::Started => Some(Task::Start),
        Task::Stop | Task::Stopped => Some(Task::Stop),
        Task::Promote | Task::Promoted => Some(Task::Promote),
        Task::Demote | Task::Demoted => Some(Task::Demote),
        Task::Notified(Phase::After, noted) => Some(notify::task_of(noted)),
        _ => None,
    }
}
