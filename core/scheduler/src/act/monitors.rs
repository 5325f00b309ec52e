//! Which checks are repeated, and which end?

use model::situation::{Operation, Role};

use super::graph::{Kind, Task};
use super::{End, Ordering, Planner};
use crate::world::{NodeIx, RscIx};

impl<'a> Planner<'_, 'a> {
    pub(super) fn add_monitors(&mut self, rsc: RscIx) {
        let world = self.world;
        let it = world.rsc(rsc);
        let Some(primitive) = it.primitive() else { return };
        if it.is_blocked {
            return;
        }
        if it.is_maintenance || (it.is_removed) {
            self.cancel_all(rsc);
            return;
        }
        let chosen = self.placement.node[rsc.0 as usize];
        let in_maintenance = chosen.is_some_and(|node| world.node(node).is_maintenance);
        if in_maintenance {
            self.cancel_all(rsc);
            return;
        }
        if chosen.is_some() && self.goal(rsc) > Role::Stopped {
            // Checks follow it even where it need not be done.
            self.action(rsc, Task::Start, chosen, true);
        }
        for operation in &primitive.operations {
            if operation.interval_ms == 0 || !operation.is_enabled {
                continue;
            }
            if matches!(operation.name.as_str(), "start" | "stop" | "promote" | "demote") {
                continue;
            }
            // Of two that cannot be told apart neither is done.
            let is_same =
                |other: &&Operation| other.name == operation.name && other.interval_ms == operation.interval_ms;
            if primitive.operations.iter().filter(is_same).count() > 1 {
                continue;
            }
            if operation.role == Some(Role::Stopped) {
                self.add_stopped_monitor(rsc, operation);
            } else {
                self.add_monitor(rsc, chosen, operation);
            }
        }
        self.cancel_unwanted(rsc);
    }

    /// Does the role that it is to have fit?
    fn fits(&self, rsc: RscIx, operation: &Operation) -> bool {
        let goal = self.goal(rsc);
        match operation.role {
            None | Some(Role::Unknown) => goal != Role::Promoted,
            Some(role) => role == goal,
        }
    }

    fn add_monitor(&mut self, rsc: RscIx, chosen: Option<NodeIx>, operation: &'a Operation) {
        let world = self.world;
        let it = world.rsc(rsc);
        let task = Task::Monitor(operation.interval_ms);
        let Some(node) = chosen else { return };
        if self.goal(rsc) == Role::Stopped && it.is_managed {
            return;
        }
        let records = it.records.get(node);
        let is_running =
            records.is_some_and(|records| records.monitors.contains(&(operation.name.as_str(), operation.interval_ms)));
        let start = self.graph.find(Some(rsc), Task::Start, Some(node));
        let start_is_optional = start.is_none_or(|start| self.graph.get(start).is_optional);
        let start_is_runnable = start.is_none_or(|start| self.graph.get(start).is_runnable);
        let is_compared = world.is_usable(node);
        let is_changed = records.filter(|_| is_compared).is_some_and(|records| {
            records.expired_monitors.contains(&(operation.name.as_str(), operation.interval_ms))
                || records.sorted.iter().any(|record| {
                    record.operation == operation.name
                        && record.interval_ms == operation.interval_ms
                        && record.definition.takes_effect()
                        && record.status != -1
                })
        });
        let is_optional = is_running && start_is_optional && !is_changed;
        if !self.fits(rsc, operation) {
            if is_optional {
                let cancel = Task::Cancel(&operation.name, operation.interval_ms);
                let at = self.action(rsc, cancel, Some(node), false);
                self.graph.get_mut(at).is_optional = false;
                let then = match (self.role(rsc), self.goal(rsc)) {
                    (Role::Promoted, _) => Some(Task::Demote),
                    (_, Role::Promoted) => Some(Task::Promote),
                    (_, Role::Stopped) => Some(Task::Stop),
                    _ => None,
                };
                if let Some(then) = then {
                    let (first, then) = (End::This(at), End::Of(rsc, then));
                    self.orderings.push(Ordering { first, then, kind: Kind::BLOCKS.with(Kind::ORDERED) });
                }
            }
            return;
        }
        let at = self.action(rsc, task, Some(node), is_optional);
        let is_online = self.is_online(node) && !self.is_unclean(node);
        let action = self.graph.get_mut(at);
        action.is_optional = is_optional;
        if !start_is_runnable || !is_online {
            action.is_runnable = false;
        }
        if !it.is_managed && !it.active_on.contains(&node) {
            action.is_runnable = false;
        }
        let start_kind = Kind::THEN_FOLLOWS.with(Kind::BLOCKS);
        self.orderings.push(Ordering { first: End::Of(rsc, Task::Start), then: End::This(at), kind: start_kind });
        self.orderings.push(Ordering { first: End::Of(rsc, Task::Reload), then: End::This(at), kind: start_kind });
        if self.goal(rsc) == Role::Promoted {
            let kind = Kind::ORDERED.with(Kind::BLOCKS);
            self.orderings.push(Ordering { first: End::Of(rsc, Task::Promote), then: End::This(at), kind });
        } else if it.role == Role::Promoted {
            let kind = Kind::ORDERED.with(Kind::BLOCKS);
            self.orderings.push(Ordering { first: End::Of(rsc, Task::Demote), then: End::This(at), kind });
        }
    }

    /// A check that a resource stays down where it does not run.
    fn add_stopped_monitor(&mut self, rsc: RscIx, operation: &'a Operation) {
        let world = self.world;
        let it = world.rsc(rsc);
        if !it.is_unique {
            return;
        }
        let chosen = self.placement.node[rsc.0 as usize];
        for node in world.node_ixs() {
            let records = it.records.get(node);
            let is_running = records
                .is_some_and(|records| records.monitors.contains(&(operation.name.as_str(), operation.interval_ms)));
            if chosen == Some(node) && self.goal(rsc) != Role::Stopped {
                if is_running {
                    let cancel = Task::Cancel(&operation.name, operation.interval_ms);
                    let at = self.action(rsc, cancel, Some(node), false);
                    self.graph.get_mut(at).is_optional = false;
                    self.orderings.push(Ordering {
                        first: End::This(at),
                        then: End::Of(rsc, Task::Start),
                        kind: Kind::BLOCKS.with(Kind::ORDERED),
                    });
                }
                continue;
            }
            let at = self.action(rsc, Task::Monitor(operation.interval_ms), Some(node), is_running);
            let is_reached = self.is_online(node) && !self.is_unclean(node);
            let action = self.graph.get_mut(at);
            action.is_optional = is_running;
            if !is_reached {
                action.is_runnable = false;
            }
            for probe in self.graph.each(rsc, Task::Probe) {
                if self.graph.get(probe).node != Some(node) {
                    continue;
                }
                self.orderings.push(Ordering {
                    first: End::This(probe),
                    then: End::This(at),
                    kind: Kind::BLOCKS.with(Kind::ORDERED),
                });
            }
            for stop in self.graph.each(rsc, Task::Stop) {
                if self.graph.get(stop).node == Some(node) {
                    if !self.graph.get(stop).is_runnable {
                        self.graph.get_mut(at).is_runnable = false;
                    }
                    if !self.graph.get(stop).is_optional {
                        self.graph.get_mut(at).is_optional = false;
                    }
                    self.orderings.push(Ordering {
                        first: End::This(stop),
                        then: End::This(at),
                        kind: Kind::BLOCKS.with(Kind::THEN_FOLLOWS),
                    });
                }
            }
        }
    }

    /// Ends what goes on and is not configured any more.
    fn cancel_unwanted(&mut self, rsc: RscIx) {
        let world = self.world;
        if !world.situation.options.cancels_removed {
            return;
        }
        let it = world.rsc(rsc);
        let Some(primitive) = it.primitive() else { return };
        for (node, records) in it.records.iter() {
            if !it.active_on.contains(node) || !world.is_usable(*node) {
                continue;
            }
            for (name, interval_ms) in &records.monitors {
                let is_wanted = primitive.operations.iter().any(|operation| {
                    operation.name == *name && operation.interval_ms == *interval_ms && operation.is_enabled
                });
                if !is_wanted {
                    self.cancel(rsc, *node, name, *interval_ms);
                }
            }
        }
    }

    fn cancel_all(&mut self, rsc: RscIx) {
        let it = self.world.rsc(rsc);
        if it.is_removed {
            return;
        }
        for (node, records) in it.records.iter() {
            if !self.is_online(*node) {
                continue;
            }
            for (name, interval_ms) in &records.monitors {
                self.cancel(rsc, *node, name, *interval_ms);
            }
        }
    }

    fn cancel(&mut self, rsc: RscIx, node: NodeIx, name: &'a str, interval_ms: u32) {
        let at = self.action(rsc, Task::Cancel(name, interval_ms), Some(node), false);
        self.graph.get_mut(at).is_optional = false;
        self.orderings.push(Ordering { first: End::Of(rsc, Task::Stop), then: End::This(at), kind: Kind::NONE });
    }
}
