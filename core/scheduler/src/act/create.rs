//! What does each resource need to get from what it is to what it should be?

use model::situation::{Definition, MultipleActive, NoQuorum, OperationRecord, Requires, Role};

use super::cause::Because;
use super::graph::{Kind, Task};
use super::{End, Ordering, Planner};
use crate::read::{FailureCounts, active_count};
use crate::world::{NodeIx, RscIx};

/// One step on the ladder of roles.
fn step(from: Role, to: Role) -> Option<(Task<'static>, Role)> {
    match (from, to) {
        (Role::Unknown | Role::Stopped, Role::Started) => Some((Task::Start, Role::Started)),
        (Role::Unknown | Role::Stopped, Role::Unpromoted | Role::Promoted) => Some((Task::Start, Role::Unpromoted)),
        (Role::Started | Role::Unpromoted, Role::Stopped) | (Role::Unpromoted, Role::Started) => {
            Some((Task::Stop, Role::Stopped))
        }
        (Role::Started | Role::Unpromoted, Role::Promoted) => Some((Task::Promote, Role::Promoted)),
        (Role::Promoted, Role::Unknown | Role::Stopped | Role::Started | Role::Unpromoted) => {
            Some((Task::Demote, Role::Unpromoted))
        }
        _ => None,
    }
}

impl Planner<'_, '_> {
    pub(super) fn create_all(&mut self) {
        for top in self.world.tops.clone() {
            self.create(top);
        }
    }

    fn create(&mut self, rsc: RscIx) {
        let it = self.world.rsc(rsc);
        if it.is_primitive() {
            self.create_primitive(rsc);
            return;
        }
        for child in it.children.clone() {
            self.create(child);
        }
        if it.is_group() {
            self.mark_group(rsc);
        } else if it.is_clone() {
            self.mark_instances(rsc, &it.children.clone());
        } else {
            let containers: Vec<RscIx> = it.replicas.iter().map(|replica| replica.container).collect();
            self.mark_instances(rsc, &containers);
        }
    }

    fn mark_group(&mut self, group: RscIx) {
        for task in [Task::Start, Task::Started, Task::Stop, Task::Stopped] {
            self.marker(group, task, true, true);
        }
        let is_promotable = self.world.clone_of(group).is_some_and(|clone| self.world.rsc(clone).meta.is_promotable);
        if is_promotable {
            for task in [Task::Demote, Task::Demoted, Task::Promote, Task::Promoted] {
                self.marker(group, task, true, true);
            }
        }
    }

    fn mark_instances(&mut self, rsc: RscIx, instances: &[RscIx]) {
        let needs = |planner: &Self, task: Task<'static>| {
            instances.iter().any(|instance| {
                planner.world.primitives(*instance).iter().any(|primitive| {
                    planner.graph.all(*primitive, task).iter().any(|at| {
                        let action = planner.graph.get(*at);
                        !action.is_optional && (action.is_runnable || action.is_marker)
                    })
                })
            })
        };
        let is_active = instances.iter().any(|instance| self.role(*instance) > Role::Stopped);
        let starts = needs(self, Task::Start);
        let stops = needs(self, Task::Stop);
        self.marker(rsc, Task::Start, !starts, true);
        self.marker(rsc, Task::Started, !starts, is_active || starts);
        let stop = self.marker(rsc, Task::Stop, !stops, true);
        // What depends on instances may leave live before they stop, unless they only change places.
        self.graph.get_mut(stop).may_migrate = !self.restarts_any(instances);
        self.marker(rsc, Task::Stopped, !stops, true);
        if self.world.rsc(rsc).meta.is_promotable {
            let promotes = needs(self, Task::Promote);
            let demotes = needs(self, Task::Demote);
            self.marker(rsc, Task::Promote, !promotes, true);
            let is_led = instances.iter().any(|instance| self.role(*instance) == Role::Promoted);
            self.marker(rsc, Task::Promoted, !promotes, promotes || is_led);
            self.marker(rsc, Task::Demote, !demotes, true);
            self.marker(rsc, Task::Demoted, !demotes, true);
        }
        self.mark_notifications(rsc);
    }

    /// Does any instance both stop and start?
    fn restarts_any(&self, instances: &[RscIx]) -> bool {
        let is_needed = |rsc: RscIx, task: Task<'static>| {
            self.graph
                .all(rsc, task)
                .iter()
                .map(|at| self.graph.get(*at))
                .any(|action| !action.is_optional && (action.is_runnable || action.is_marker && task == Task::Stop))
        };
        instances
            .iter()
            .flat_map(|instance| self.world.primitives(*instance))
            .any(|primitive| is_needed(primitive, Task::Start) && is_needed(primitive, Task::Stop))
    }

    fn create_primitive(&mut self, rsc: RscIx) {
        let world = self.world;
        let at = rsc.0 as usize;
        let it = world.rsc(rsc);
        self.placement.goal[at] = self.goal_with_quorum(rsc);
        let goal = self.placement.goal[at];
        let chosen = self.placement.node[at];
        let count = active_count(world, rsc);
        for node in &it.dangling {
            self.action(rsc, Task::Stop, Some(*node), false);
        }
        for node in &it.forced_stops {
            self.action(rsc, Task::Stop, Some(*node), false);
        }
        let current = world.current_node(rsc);
        let moves = match (current, chosen) {
            (Some(source), Some(target)) if source != target && goal > Role::Stopped => Some((source, target)),
            _ => None,
        };
        let mut migrates = moves.filter(|(source, target)| self.can_migrate(rsc, *source, *target));
        let mut needs_stop = moves.is_some();
        let is_half_migrated = it.partial_migration.is_some();
        let is_continued = is_half_migrated && it.active_on.len() == 2 && migrates == it.partial_migration;
        if is_half_migrated && !is_continued {
            needs_stop = true;
            migrates = None;
        } else if !is_half_migrated && count > 1 {
            needs_stop |= match it.meta.multiple_active {
                MultipleActive::StopStart | MultipleActive::StopUnexpected => true,
                MultipleActive::StopOnly | MultipleActive::Block => false,
            };
        }
        self.may_migrate[at] = migrates.is_some();
        self.check_definition(rsc);
        if it.is_start_pending && chosen.is_some() {
            let start = self.action(rsc, Task::Start, chosen, true);
            self.graph.get_mut(start).is_always_shown = true;
        }
        let mut needs_promote = false;
        if moves.is_some() {
            // It stops in any case.
        } else if it.is_failed {
            if it.needs_stop {
                needs_stop = true;
            } else if goal == Role::Promoted {
                needs_promote = true;
            } else if !it.needs_demote {
                needs_stop |= it.needs_stop;
            }
        } else if it.is_blocked {
            needs_stop = true;
        } else if it.role > Role::Started && current.is_some() && chosen.is_some() {
            let start = self.action(rsc, Task::Start, chosen, true);
            if !self.graph.get(start).is_optional {
                needs_stop = true;
            }
        }
        self.restart(rsc, chosen, needs_stop, needs_promote);
        self.change_role(rsc, chosen);
        self.add_monitors(rsc);
        if let Some((source, target)) = migrates {
            self.migrate(rsc, source, target);
        }
    }

    /// What it should be, with the limit of `no-quorum-policy=demote`: without quorum an instance of a promotable clone
    /// may go on, and nothing leads.
    fn goal_with_quorum(&self, rsc: RscIx) -> Role {
        let options = &self.world.situation.options;
        let it = self.world.rsc(rsc);
        let goal = self.goal(rsc);
        let is_limited = !options.has_quorum
            && options.no_quorum == NoQuorum::Demote
            && it.role >= Role::Unpromoted
            && it.is_managed
            && it.meta.requires != Requires::Nothing;
        if is_limited { goal.min(Role::Unpromoted) } else { goal }
    }

    /// Down to a stop, and up again to what it is: needed, or in case something else needs it.
    fn restart(&mut self, rsc: RscIx, chosen: Option<NodeIx>, needs_stop: bool, needs_promote: bool) {
        let it = self.world.rsc(rsc);
        let held = if it.role == Role::Unknown { Role::Stopped } else { it.role };
        let mut role = held;
        while let Some((task, next)) = step(role, Role::Stopped) {
            let is_needed = needs_stop || (task == Task::Demote && needs_promote);
            self.take_step(rsc, task, chosen, !is_needed);
            role = next;
        }
        if it.is_blocked || held > self.goal(rsc) {
            return;
        }
        while role < held {
            let Some((task, next)) = step(role, held) else { break };
            let is_needed = needs_stop || (task == Task::Promote && needs_promote);
            self.take_step(rsc, task, chosen, !is_needed);
            role = next;
        }
    }

    /// From what it is to what it should be.
    fn change_role(&mut self, rsc: RscIx, chosen: Option<NodeIx>) {
        let goal = self.goal(rsc);
        let mut role = self.role(rsc);
        while role != goal {
            let Some((task, next)) = step(role, goal) else { break };
            self.take_step(rsc, task, chosen, false);
            role = next;
        }
    }

    fn take_step(&mut self, rsc: RscIx, task: Task<'static>, chosen: Option<NodeIx>, is_optional: bool) {
        let world = self.world;
        let it = world.rsc(rsc);
        match task {
            Task::Stop => {
                for node in it.active_on.clone() {
                    let is_expected = it.meta.multiple_active == MultipleActive::StopUnexpected
                        && active_count(world, rsc) > 1
                        && Some(node) == chosen;
                    if is_expected {
                        continue;
                    }
                    let mut is_optional = is_optional;
                    if let Some((_, target)) = it.partial_migration
                        && target == node
                        && it.active_on.len() > 1
                    {
                        if chosen == Some(target) && self.may_migrate[rsc.0 as usize] {
                            continue;
                        }
                        is_optional = false;
                    }
                    let stop = self.action(rsc, Task::Stop, Some(node), is_optional);
                    self.order_before_unfencing(rsc, stop, node);
                    if !it.is_managed {
                        self.graph.get_mut(stop).is_runnable = false;
                    }
                    if chosen.is_none() && self.graph.get(stop).because.is_none() {
                        let is_disabled = it.meta.target_role == Some(Role::Stopped);
                        let because = if is_disabled { Because::Disabled } else { Because::NoNode };
                        self.graph.get_mut(stop).because = Some(because);
                    }
                }
            }
            Task::Start => {
                let start = self.action(rsc, Task::Start, chosen, true);
                if let Some(node) = chosen {
                    self.order_after_unfencing(rsc, start, node, Kind::THEN_FOLLOWS);
                }
                if !is_optional && self.graph.get(start).is_runnable && it.is_managed {
                    self.graph.get_mut(start).is_optional = false;
                }
                let is_expected = it.meta.multiple_active == MultipleActive::StopUnexpected
                    && active_count(world, rsc) > 1
                    && chosen.is_some_and(|node| it.active_on.contains(&node));
                if is_expected {
                    self.graph.get_mut(start).is_marker = true;
                }
            }
            Task::Promote => {
                let is_startable = self
                    .graph
                    .all(rsc, Task::Start)
                    .iter()
                    .filter(|at| self.graph.get(**at).node == chosen)
                    .all(|at| self.graph.get(*at).is_runnable);
                if is_startable {
                    let promote = self.action(rsc, Task::Promote, chosen, is_optional);
                    let is_expected = it.meta.multiple_active == MultipleActive::StopUnexpected
                        && active_count(world, rsc) > 1
                        && chosen.is_some_and(|node| it.active_on.contains(&node));
                    if is_expected {
                        self.graph.get_mut(promote).is_marker = true;
                    }
                } else {
                    for at in self.graph.each(rsc, Task::Promote) {
                        if self.graph.get(at).node == chosen {
                            self.graph.get_mut(at).is_runnable = false;
                        }
                    }
                }
            }
            Task::Demote => {
                for node in it.active_on.clone() {
                    self.action(rsc, Task::Demote, Some(node), is_optional);
                }
            }
            _ => unreachable!("roles change by these four"),
        }
    }

    /// What runs with another definition than the one it was started with is restarted, or reloaded.
    fn check_definition(&mut self, rsc: RscIx) {
        let world = self.world;
        let it = world.rsc(rsc);
        if it.primitive().is_none() {
            return;
        }
        let is_removed_instance = it.is_removed && world.is_anonymous_instance(rsc);
        for (node, records) in it.records.iter() {
            let there = world.node(*node);
            if !(world.is_usable(*node) || there.is_maintenance) {
                continue;
            }
            if is_removed_instance {
                // The history may bear the name of another instance, and be of another agent.
                let named = world.named(records.reported_as).filter(|_| records.agent_changed);
                if let Some(named) = named.filter(|named| !world.rsc(*named).active_on.contains(node)) {
                    self.delete(named, *node);
                }
                continue;
            }
            if it.is_removed {
                self.delete(rsc, *node);
                continue;
            }
            let is_active = it.active_on.contains(node);
            if records.agent_changed {
                self.delete(rsc, *node);
                self.unfence_anew(rsc, *node, "device definition changed");
                if is_active {
                    self.action(rsc, Task::Stop, Some(*node), false);
                }
            }
            if !is_active {
                continue;
            }
            let mut reloads = false;
            let mut changed = false;
            for (place, record) in records.sorted.iter().enumerate() {
                let is_in_range = if records.start_at < records.stop_at && Some(place) <= records.stop_at {
                    false
                } else {
                    records.start_at.is_none_or(|start| place >= start)
                };
                let is_compared = record.interval_ms > 0
                    || matches!(&*record.operation, "start" | "promote" | "migrate_from" | "monitor");
                if !is_in_range || !is_compared {
                    continue;
                }
                if record.interval_ms > 0 {
                    let is_hands_off = it.is_maintenance || there.is_maintenance;
                    changed |= !is_hands_off && (record.definition.takes_effect() || !self.is_wanted(rsc, record));
                    continue;
                }
                match record.definition {
                    Definition::Same | Definition::Private => {}
                    Definition::Reloadable => {
                        reloads = true;
                        self.unfence_anew(rsc, *node, "device parameters changed");
                    }
                    Definition::Changed | Definition::Unrecorded => {
                        changed = true;
                        let start = self.action(rsc, Task::Start, self.placement.node[rsc.0 as usize], true);
                        let action = self.graph.get_mut(start);
                        if it.is_managed {
                            action.is_optional = false;
                        }
                        action.because = Some(Because::DefinitionChanged);
                        self.require_restart(rsc, *node);
                        self.unfence_anew(rsc, *node, "device parameters changed");
                    }
                }
            }
            if (changed || reloads) && FailureCounts::of(world, rsc, *node).effective > 0 {
                let clear = self.action(rsc, Task::ClearFailures, Some(*node), false);
                self.graph.get_mut(clear).because = Some(Because::DefinitionChanged);
            }
            if !reloads || !it.is_managed || it.is_failed {
                continue;
            }
            if it.is_start_pending {
                // It may have been started with the old definition.
                self.action(rsc, Task::Stop, Some(*node), false);
                continue;
            }
            self.reloads.insert(rsc, *node);
            let reload = self.action(rsc, Task::Reload, Some(*node), false);
            self.graph.get_mut(reload).because = Some(Because::DefinitionChanged);
            for task in [Task::Stop, Task::Demote] {
                self.orderings.push(Ordering {
                    first: End::This(reload),
                    then: End::Of(rsc, task),
                    kind: Kind::ORDERED.with(Kind::CANCELS_FIRST),
                });
            }
        }
    }

    /// Forgets it on a node, once it is stopped there and before it starts anywhere.
    fn delete(&mut self, rsc: RscIx, node: NodeIx) {
        let there = self.world.node(node);
        if self.world.rsc(rsc).failed_on.contains(&node) || there.is_unclean || !there.is_online {
            return;
        }
        let delete = self.action(rsc, Task::Delete, Some(node), false);
        self.orderings.push(Ordering { first: End::Of(rsc, Task::Stop), then: End::This(delete), kind: Kind::ORDERED });
        self.orderings.push(Ordering {
            first: End::This(delete),
            then: End::Of(rsc, Task::Start),
            kind: Kind::ORDERED,
        });
    }

    /// Is a repeated operation still asked for?
    fn is_wanted(&self, rsc: RscIx, record: &OperationRecord) -> bool {
        self.world.rsc(rsc).primitive().is_some_and(|primitive| {
            primitive.operations.iter().any(|operation| {
                operation.is_enabled
                    && operation.name == record.operation
                    && operation.interval_ms == record.interval_ms
            })
        })
    }

    fn require_restart(&mut self, rsc: RscIx, node: NodeIx) {
        let stop = self.action(rsc, Task::Stop, Some(node), false);
        let action = self.graph.get_mut(stop);
        if action.because.is_none() {
            action.because = Some(Because::DefinitionChanged);
        }
    }
}
