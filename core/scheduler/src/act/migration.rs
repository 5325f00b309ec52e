//! When does a resource move live instead of being stopped and started?

use model::situation::Role;

use super::Planner;
use super::graph::{Kind, Task};
use crate::world::{NodeIx, RscIx};

impl Planner<'_, '_> {
    /// Adds the way of live migration beside that of a stop and a start; it is taken if nothing speaks against it.
    pub(super) fn migrate(&mut self, rsc: RscIx, current: Option<NodeIx>, chosen: Option<NodeIx>) {
        let world = self.world;
        let it = world.rsc(rsc);
        let (Some(source), Some(target)) = (current, chosen) else { return };
        let is_clean = |node: NodeIx| !self.is_unclean(node) && self.is_online(node);
        let is_possible = it.is_managed
            && !it.is_failed
            && !it.is_start_pending
            && it.parent.is_none_or(|parent| !world.rsc(parent).is_clone())
            && self.goal(rsc) == Role::Started
            && is_clean(source)
            && is_clean(target);
        if !is_possible {
            return;
        }
        let is_partial = it.partial_migration == Some((source, target));
        let start = self.action(rsc, Task::Start, Some(target), true);
        if self.graph.get(start).is_optional || !self.graph.get(start).is_runnable {
            return;
        }
        let from = self.action(rsc, Task::MigrateFrom, Some(target), true);
        let stop = self.action(rsc, Task::Stop, Some(source), false);
        for at in [start, stop, from] {
            self.graph.get_mut(at).may_migrate = true;
        }
        let to = if is_partial { None } else { Some(self.action(rsc, Task::MigrateTo, Some(source), true)) };
        if let Some(to) = to {
            self.graph.get_mut(to).may_migrate = true;
            self.graph.order(to, from, Kind::BLOCKS.with(Kind::THEN_FOLLOWS));
        }
        self.graph.order(from, stop, Kind::ORDERED);
        for probe in self.graph.all(rsc, Task::Probe).to_vec() {
            self.graph.order(probe, to.unwrap_or(from), Kind::ORDERED);
        }
    }
}
