//! When does a resource move live instead of being stopped and started, and what waits for it?
//!
//! A live migration is `migrate_to` at the source, `migrate_from` at the target, and a stop at the source; the start at
//! the target is then done by nobody. Both ways are in the graph. As soon as the stop or the start cannot be part of a
//! migration, because something that they wait for is restarted or cannot be done, `settle.rs` takes the live way out.
//!
//! In: where a resource is and should be. Out: actions and edges. Not here: what an interrupted migration left behind
//! (`read/migration.rs`).

use model::situation::{Role, Strategy};

use super::graph::{ActionIx, Kind, Task};
use super::settle::undone;
use super::{End, Ordering, Planner};
use crate::read::active_count;
use crate::world::{NodeIx, RscIx};

impl<'a> Planner<'_, 'a> {
    /// Does nothing in the resource itself or its nodes forbid to move it live?
    pub(super) fn can_migrate(&self, rsc: RscIx, source: NodeIx, target: NodeIx) -> bool {
        let it = self.world.rsc(rsc);
        it.meta.allows_migration
            && (it.partial_migration.is_some() || active_count(self.world, rsc) <= 1)
            && it.is_managed
            && !it.is_failed
            && !it.is_unmigratable
            && !it.is_start_pending
            && self.goal(rsc) == Role::Started
            && !self.is_unclean(source)
            && !self.is_unclean(target)
    }

    /// Adds the way of live migration beside that of a stop and a start.
    pub(super) fn migrate(&mut self, rsc: RscIx, source: NodeIx, target: NodeIx) {
        let is_half_done = self.world.rsc(rsc).partial_migration.is_some();
        let start = self.action(rsc, Task::Start, Some(target), true);
        let stop = self.action(rsc, Task::Stop, Some(source), true);
        let from = self.action(rsc, Task::MigrateFrom, Some(target), true);
        for at in [start, stop, from] {
            self.graph.get_mut(at).may_migrate = true;
        }
        self.graph.get_mut(start).is_marker = true;
        let mut begin = from;
        if !is_half_done {
            begin = self.action(rsc, Task::MigrateTo, Some(source), true);
            self.graph.order(begin, from, Kind::ORDERED.with(Kind::MIGRATES_WITH));
        }
        self.graph.order(from, stop, Kind::ORDERED.with(Kind::MIGRATES_WITH));
        self.graph.order(from, start, Kind::ORDERED.with(Kind::MIGRATES_WITH).with(Kind::STANDS_IN));
        for probe in self.graph.each(rsc, Task::Probe) {
            self.graph.order(probe, begin, Kind::ORDERED);
        }
    }

    /// What an order of starts and stops means for those who migrate instead.
    pub(super) fn order_migrations(&mut self, first: (RscIx, Task<'a>), then: (RscIx, Task<'a>)) {
        let can_migrate = |rsc: RscIx| self.world.rsc(rsc).is_primitive() && self.world.rsc(rsc).meta.allows_migration;
        if !can_migrate(then.0) || first.0 == then.0 || self.is_within(then.0, first.0) {
            return;
        }
        let first_can = can_migrate(first.0);
        let is_half_done = self.world.rsc(then.0).partial_migration.is_some();
        let unless = if first_can { Kind::ORDERED.with(Kind::UNLESS_FIRST_MIGRATES) } else { Kind::ORDERED };
        let mut push = |first: (RscIx, Task<'a>), task: Task<'a>, kind: Kind| {
            let (first, then) = (End::Of(first.0, first.1), End::Of(then.0, task));
            self.orderings.push(Ordering { first, then, kind });
        };
        match (undone(first.1).unwrap_or(first.1), then.1) {
            (Task::Start, Task::Start) => {
                if first_can {
                    push((first.0, Task::MigrateFrom), Task::MigrateTo, Kind::ORDERED);
                }
                push(first, Task::MigrateTo, unless);
            }
            (Task::Stop, Task::Stop) => {
                push(first, Task::MigrateTo, unless);
                if is_half_done {
                    push(first, Task::MigrateFrom, unless);
                }
            }
            (Task::Promote, Task::Start) => push(first, Task::MigrateTo, Kind::ORDERED),
            (Task::Demote, Task::Stop) => {
                push(first, Task::MigrateTo, Kind::ORDERED);
                if is_half_done {
                    push(first, Task::MigrateFrom, Kind::ORDERED);
                }
            }
            _ => {}
        }
    }

    fn is_within(&self, rsc: RscIx, collective: RscIx) -> bool {
        let mut here = self.world.rsc(rsc).parent;
        while let Some(parent) = here {
            if parent == collective {
                return true;
            }
            here = self.world.rsc(parent).parent;
        }
        false
    }

    /// Where capacity counts, what comes to a node waits until what leaves it has left.
    pub(super) fn order_loads(&mut self, rsc: RscIx) {
        let world = self.world;
        let it = world.rsc(rsc);
        let needs_room = it.primitive().is_some_and(|primitive| !primitive.utilization.is_empty());
        if !needs_room || world.situation.options.strategy == Strategy::Default {
            return;
        }
        for node in &it.active_on {
            let room = self.room_on(*node);
            self.orderings.push(Ordering {
                first: End::Of(rsc, Task::Stop),
                then: End::This(room),
                kind: Kind::SAME_TARGET,
            });
        }
        let Some(target) = self.placement.node[rsc.0 as usize] else { return };
        let room = End::This(self.room_on(target));
        for task in [Task::Start, Task::MigrateTo] {
            self.orderings.push(Ordering { first: room, then: End::Of(rsc, task), kind: Kind::SAME_TARGET });
        }
    }

    fn room_on(&mut self, node: NodeIx) -> ActionIx {
        if let Some(known) = self.graph.find_exact(None, Task::Unloaded, Some(node)) {
            return known;
        }
        let room = self.graph.add(None, Task::Unloaded, Some(node));
        self.graph.get_mut(room).is_marker = true;
        room
    }

    /// Two that change places live cannot each wait until the other has left: the later one does not wait.
    pub(super) fn open_load_loops(&mut self, shown: &[bool]) {
        for to in self.graph.ixs().rev().collect::<Vec<_>>() {
            let action = self.graph.get(to);
            if action.task != Task::MigrateTo || !shown[to.0 as usize] {
                continue;
            }
            for at in 0..self.graph.get(to).before.len() {
                let edge = self.graph.get(to).before[at];
                if edge.kind == Kind::SAME_TARGET && self.leads_to(to, edge.first, shown) {
                    self.graph.get_mut(to).before[at].kind = Kind::NONE;
                }
            }
        }
    }

    /// Does `end` have to wait for `start`?
    fn leads_to(&self, start: ActionIx, end: ActionIx, shown: &[bool]) -> bool {
        let mut is_seen = vec![false; self.graph.actions.len()];
        let mut open = vec![end];
        while let Some(next) = open.pop() {
            if next == start {
                return true;
            }
            if std::mem::replace(&mut is_seen[next.0 as usize], true) {
                continue;
            }
            let counting = self.graph.get(next).before.iter().filter(|edge| {
                !edge.kind.is_none() && shown[edge.first.0 as usize] && self.counts(edge.first, next, edge.kind)
            });
            open.extend(counting.map(|edge| edge.first));
        }
        false
    }
}
