//! Who needs whom? Edges are applied until nothing changes.
//!
//! An action can become needed, or impossible, and never the reverse; so this ends.

use model::situation::Role;

use super::graph::{ActionIx, Edge, Kind, Phase, Task};
use super::{End, Planner, done, notify};
use crate::world::{NodeIx, RscIx};

/// What of an action counts for another: is it optional, can it be done?
#[derive(Clone, Copy, Debug)]
struct Look {
    is_optional: bool,
    is_runnable: bool,
    may_migrate: bool,
}

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
        for ordering in std::mem::take(&mut self.orderings) {
            let firsts = match ordering.first {
                End::This(action) => vec![action],
                End::Of(rsc, task) => self.first_actions(rsc, task, ordering.then),
            };
            for first in firsts {
                let thens = match ordering.then {
                    End::This(action) => vec![action],
                    End::Of(rsc, task) => self.graph.all(rsc, task).to_vec(),
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
    }

    /// The actions of a kind; where there are none and there should be, one that cannot be done.
    fn first_actions(&mut self, rsc: RscIx, task: Task<'a>, then: End<'a>) -> Vec<ActionIx> {
        let found = self.graph.all(rsc, task).to_vec();
        if !found.is_empty() {
            return found;
        }
        let then_rsc = match then {
            End::Of(then_rsc, _) => Some(then_rsc),
            End::This(action) => self.graph.get(action).rsc,
        };
        if then_rsc == Some(rsc) {
            return Vec::new();
        }
        let role = self.role(rsc);
        let is_pointless = match task {
            Task::Stop | Task::Stopped => role == Role::Stopped,
            Task::Demote | Task::Demoted => role <= Role::Unpromoted,
            Task::Delete | Task::Probe => true,
            _ => false,
        };
        if is_pointless {
            return Vec::new();
        }
        let at = self.action(rsc, task, None, true);
        vec![at]
    }

    /// Applies every edge until nothing changes.
    pub(super) fn settle_all(&mut self) {
        let mut queue: std::collections::VecDeque<ActionIx> = self.graph.ixs().collect();
        let mut is_queued = vec![true; self.graph.actions.len()];
        while let Some(at) = queue.pop_front() {
            is_queued[at.0 as usize] = false;
            for changed in self.settle(at) {
                let again: Vec<ActionIx> = self.graph.get(changed).after.iter().copied().chain([changed]).collect();
                is_queued.resize(self.graph.actions.len(), false);
                for next in again {
                    if !std::mem::replace(&mut is_queued[next.0 as usize], true) {
                        queue.push_back(next);
                    }
                }
            }
        }
    }

    /// Applies every edge that leads to an action; what changed by it.
    fn settle(&mut self, then: ActionIx) -> Vec<ActionIx> {
        let mut touched = Vec::new();
        if self.graph.get(then).needed_before > 0 {
            self.graph.get_mut(then).runnable_before = 0;
            let was_runnable = self.graph.get(then).is_runnable;
            self.graph.get_mut(then).is_runnable = false;
            for edge in self.graph.get(then).before.clone() {
                if edge.kind.has(Kind::COUNTED) && self.look(edge.first, None).is_runnable {
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
            self.graph.get_mut(first).is_optional = true;
        }
        let mut changed = Changed::default();
        let first_look = self.look(first, then_node);
        self.apply_kinds(first, then, then_node, first_look, edge.kind, &mut changed, touched);
        changed
    }

    fn drop_edge(&mut self, edge: Edge, then: ActionIx) {
        for known in &mut self.graph.get_mut(then).before {
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

    /// How an action looks to others; a collective's marker is what its members' actions are.
    fn look(&self, at: ActionIx, _node: Option<NodeIx>) -> Look {
        let action = self.graph.get(at);
        let plain =
            Look { is_optional: action.is_optional, is_runnable: action.is_runnable, may_migrate: action.may_migrate };
        let Some(rsc) = action.rsc else { return plain };
        let it = self.world.rsc(rsc);
        if it.is_primitive() {
            return plain;
        }
        let Some(task) = undone(action.task) else { return plain };
        let mut look = Look { is_optional: true, is_runnable: action.is_runnable, may_migrate: action.may_migrate };
        let members: &[RscIx] = &it.children;
        let mut any_runnable = false;
        let mut all_runnable = true;
        for member in members {
            let task_there = if self.world.rsc(*member).is_primitive() { task } else { done(task) };
            let mut has_one = false;
            for action_at in self.graph.all(*member, task_there) {
                let there = self.look(*action_at, None);
                look.is_optional &= there.is_optional;
                if there.is_runnable {
                    any_runnable = true;
                    has_one = true;
                } else {
                    all_runnable = false;
                }
            }
            let _ = has_one;
        }
        look.is_optional &= action.is_optional;
        if it.is_group() {
            let is_up = matches!(task, Task::Start | Task::Promote);
            if is_up {
                look.is_runnable &= all_runnable;
            }
        } else if matches!(action.task, Task::Start | Task::Promote | Task::Stop | Task::Demote) {
            look.is_runnable &= any_runnable || members.is_empty();
        }
        look
    }

    #[expect(clippy::too_many_arguments, reason = "one edge, taken apart")]
    fn apply_kinds(
        &mut self,
        first: ActionIx,
        then: ActionIx,
        then_node: Option<NodeIx>,
        first_look: Look,
        kind: Kind,
        changed: &mut Changed,
        touched: &mut Vec<ActionIx>,
    ) {
        if kind.has(Kind::ONE_WAY) {
            changed.add(self.apply_one_way(first, then, first_look));
        }
        if kind.has(Kind::FIRST_FOLLOWS) && !self.graph.get(then).is_optional {
            changed.first |= self.require(first, then, touched);
            changed.first |= self.stop_migrating(first, then);
        }
        if kind.has(Kind::FIRST_FOLLOWS_IF_PROMOTED) {
            let is_promoted = self.graph.get(then).rsc.is_some_and(|rsc| self.role(rsc) == Role::Promoted);
            if is_promoted && !self.graph.get(then).is_optional {
                changed.first |= self.require(first, then, touched);
                changed.first |= self.stop_migrating(first, then);
            }
        }
        if kind.has(Kind::BLOCKS) && !first_look.is_runnable {
            changed.then |= self.block(then, first, then_node, touched);
        }
        if kind.has(Kind::THEN_FOLLOWS) && !first_look.is_optional && !first_look.may_migrate {
            changed.then |= self.require_then(then, first, touched);
        }
        if kind.has(Kind::RESTARTS) {
            changed.add(self.apply_restart(first, then, touched));
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
    }

    /// What has to stop for something that does not migrate does not migrate either.
    fn stop_migrating(&mut self, first: ActionIx, then: ActionIx) -> bool {
        !self.graph.get(then).may_migrate && std::mem::replace(&mut self.graph.get_mut(first).may_migrate, false)
    }

    /// Makes an action needed, with what it stands for.
    fn require(&mut self, at: ActionIx, because: ActionIx, touched: &mut Vec<ActionIx>) -> bool {
        let action = self.graph.get(at);
        if let Some(rsc) = action.rsc
            && let Some(node) = action.node
            && self.is_hands_off(rsc, action.task, Some(node))
        {
            return false;
        }
        let (rsc, task) = (action.rsc, action.task);
        let mut changed = false;
        if self.graph.get(at).is_optional {
            self.graph.get_mut(at).is_optional = false;
            if self.graph.get(at).reason.is_none() {
                let why = self.name_of(because);
                self.graph.get_mut(at).reason = Some(format!("required {why}"));
            }
            changed = true;
        }
        if let Some(rsc) = rsc {
            let it = self.world.rsc(rsc);
            if !it.is_primitive() {
                let inner = undone(task).unwrap_or(task);
                for member in it.children.clone() {
                    for member_action in self.member_actions(member, inner) {
                        if self.graph.get(member_action).is_optional && self.require(member_action, because, touched) {
                            touched.push(member_action);
                        }
                    }
                }
            }
        }
        changed
    }

    fn require_then(&mut self, then: ActionIx, first: ActionIx, touched: &mut Vec<ActionIx>) -> bool {
        self.require(then, first, touched)
    }

    fn member_actions(&self, member: RscIx, task: Task<'a>) -> Vec<ActionIx> {
        self.graph.all(member, task).to_vec()
    }

    /// Makes an action impossible, with what it stands for.
    fn block(&mut self, at: ActionIx, because: ActionIx, _node: Option<NodeIx>, touched: &mut Vec<ActionIx>) -> bool {
        let (rsc, task) = (self.graph.get(at).rsc, self.graph.get(at).task);
        let mut changed = false;
        if self.graph.get(at).is_runnable {
            let why = self.name_of(because);
            let action = self.graph.get_mut(at);
            action.is_runnable = false;
            action.may_migrate = false;
            action.reason = Some(format!("unrunnable {why}"));
            changed = true;
        }
        if let Some(rsc) = rsc {
            let it = self.world.rsc(rsc);
            if !it.is_primitive()
                && let Some(inner) = undone(task).or(Some(task))
            {
                for member in it.children.clone() {
                    for member_action in self.member_actions(member, inner) {
                        if self.graph.get(member_action).is_runnable
                            && self.block(member_action, because, None, touched)
                        {
                            touched.push(member_action);
                        }
                    }
                }
            }
        }
        changed
    }

    /// A resource's stop and its start: one brings the other along.
    fn apply_restart(&mut self, first: ActionIx, then: ActionIx, touched: &mut Vec<ActionIx>) -> Changed {
        let mut changed = Changed::default();
        let (stop, start) = (self.graph.get(first), self.graph.get(then));
        let is_managed = start.rsc.is_none_or(|rsc| self.world.rsc(rsc).is_managed);
        let is_restart = !start.is_optional;
        let is_end = !start.is_runnable && is_managed;
        if !is_restart && !is_end {
            return changed;
        }
        if stop.is_optional && stop.is_runnable {
            changed.first |= self.require(first, then, touched);
        }
        changed.first |= self.stop_migrating(first, then);
        let stop = self.graph.get(first);
        if !stop.is_optional && !stop.is_runnable {
            changed.then |= self.block(then, first, None, touched);
        }
        changed
    }

    /// An order in one direction only: what cannot be done first keeps the then from happening, if it has not yet.
    fn apply_one_way(&mut self, first: ActionIx, then: ActionIx, first_look: Look) -> Changed {
        let mut changed = Changed::default();
        let action = self.graph.get(then);
        if let Some(rsc) = action.rsc {
            let role = self.role(rsc);
            if role == Role::Stopped && action.task == Task::Stop {
                return changed;
            }
            if role >= Role::Started
                && action.task == Task::Start
                && action.is_optional
                && self.world.rsc(rsc).active_on.len() == 1
                && action.node == self.world.rsc(rsc).active_on.first().copied()
            {
                return changed;
            }
        }
        if !first_look.is_runnable {
            let why = self.name_of(first);
            let action = self.graph.get_mut(then);
            if action.is_optional && !self.world_unmanaged(then) {
                self.graph.get_mut(then).is_optional = false;
                changed.then = true;
            }
            let action = self.graph.get_mut(then);
            if action.is_runnable {
                action.is_runnable = false;
                action.reason = Some(format!("unrunnable {why}"));
                changed.then = true;
            }
        }
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
            Task::Delete => "deletion",
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
