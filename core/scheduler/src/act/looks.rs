//! What waits for the look whether something runs?
//!
//! What comes after a stop comes after the looks at what is stopped: they may find that it has to be stopped elsewhere
//! too. And what restarts because something starts is not stopped before it is known whether that start is needed.
//!
//! In: probes, relations and edges as they are. Out: more edges from probes.
//! Not here: which probes there are (`probes.rs`).

use std::collections::BTreeSet;

use super::graph::{Action, ActionIx, Actions, Kind, Task};
use super::{End, Ordering, Planner};
use crate::world::RscIx;

impl<'a> Planner<'_, 'a> {
    /// What comes after a stop comes after the looks at what is stopped.
    pub(super) fn look_before_stops(&mut self, orderings: &[Ordering<'a>]) {
        for ordering in orderings {
            let (first, task) = self.end(ordering.first);
            let (then, then_task) = self.end(ordering.then);
            let (Some(first), Some(then)) = (first, then) else { continue };
            if task != Task::Stop || first == then || self.graph.all(first, Task::Probe).is_empty() {
                continue;
            }
            // A container that stops may be started again, and looked into.
            if self.world.rsc(first).container == Some(then) && then_task == Task::Stop {
                continue;
            }
            let kind = if ordering.kind.has(Kind::SAME_TARGET) {
                Kind::ORDERED.with(Kind::SAME_TARGET)
            } else if ordering.kind.has(Kind::UNLESS_FIRST_MIGRATES) {
                Kind::ORDERED.with(Kind::UNLESS_FIRST_MIGRATES)
            } else if ordering.kind.has(Kind::SAME_NODE) {
                Kind::ORDERED.with(Kind::SAME_NODE)
            } else {
                Kind::ORDERED
            };
            let thens = match ordering.then {
                End::This(then) => Actions::from(&[then][..]),
                End::Of(then, then_task) => self.graph.each(then, then_task),
            };
            for probe in self.graph.each(first, Task::Probe) {
                for then in &thens {
                    self.graph.order(probe, *then, kind);
                }
            }
        }
    }

    fn end(&self, end: End<'a>) -> (Option<RscIx>, Task<'a>) {
        match end {
            End::Of(rsc, task) => (Some(rsc), task),
            End::This(action) => (self.graph.get(action).rsc, self.graph.get(action).task),
        }
    }

    /// What restarts because something else starts waits for the looks at that.
    pub(super) fn order_probes(&mut self) {
        let goes_down = |action: &Action<'_>| matches!(action.task, Task::Stop | Task::Demote) && action.node.is_some();
        let is_anything_down = self.graph.actions.iter().any(goes_down);
        for rsc in self.world.rsc_ixs() {
            let probes = self.graph.each(rsc, Task::Probe);
            if probes.is_empty() {
                continue;
            }
            self.hold_inactive_instances(rsc, &probes);
            if !is_anything_down {
                continue;
            }
            let mut restarts = Restarts::default();
            for probe in &probes {
                for after in &self.graph.get(*probe).after {
                    self.follow_starts(rsc, *after, &mut restarts);
                }
            }
            for stop in restarts.downs {
                for probe in &probes {
                    self.graph.order(*probe, stop, Kind::ORDERED);
                }
            }
        }
    }

    /// Instances that run nowhere are not started while it cannot be known what the others do.
    fn hold_inactive_instances(&mut self, rsc: RscIx, probes: &[ActionIx]) {
        let world = self.world;
        let top = world.top(rsc);
        if !world.rsc(top).is_clone() || world.rsc(top).active_on.is_empty() {
            return;
        }
        for probe in probes.iter().filter(|probe| !self.graph.get(**probe).is_runnable).copied().collect::<Vec<_>>() {
            for other in world.primitives(top) {
                if !world.rsc(other).active_on.is_empty() {
                    continue;
                }
                for start in self.graph.each(other, Task::Start) {
                    self.graph.order(probe, start, Kind::ORDERED.with(Kind::BLOCKS));
                }
            }
        }
    }

    /// Notes what goes down before `after` or what follows from it.
    fn follow_starts(&self, rsc: RscIx, after: ActionIx, restarts: &mut Restarts) {
        let world = self.world;
        let mut open = vec![after];
        while let Some(at) = open.pop() {
            if !restarts.seen.insert(at) {
                continue;
            }
            let action = self.graph.get(at);
            let owner = action.rsc;
            if let Some(owner) = owner
                && owner != rsc
                && world.rsc(owner).is_primitive()
            {
                let down = match action.task {
                    Task::Start => Some(Task::Stop),
                    Task::Promote => Some(Task::Demote),
                    _ => None,
                };
                for at in down.into_iter().flat_map(|down| self.graph.all(owner, down)) {
                    if !self.graph.get(*at).is_marker {
                        restarts.downs.insert(*at);
                    }
                }
            }
            for next in &action.after {
                let mut kinds = self.graph.get(*next).before.iter().filter(|edge| edge.first == at);
                if kinds.any(|edge| edge.kind.has(Kind::THEN_FOLLOWS)) || self.is_inside(rsc, owner, *next) {
                    open.push(*next);
                }
            }
        }
    }

    /// Is it the action of a part of a collective that counts for `rsc`?
    fn is_inside(&self, rsc: RscIx, owner: Option<RscIx>, part: ActionIx) -> bool {
        let world = self.world;
        let (Some(owner), Some(part)) = (owner, self.graph.get(part).rsc) else { return false };
        let (whole, inner) = (world.rsc(owner), world.rsc(part));
        if whole.is_primitive() || world.rsc(rsc).parent == Some(owner) || inner.parent != Some(owner) {
            return false;
        }
        if whole.is_clone() && whole.meta.is_interleaved {
            let there = self.place_of(rsc);
            return there.is_some() && self.place_of(part) == there;
        }
        true
    }
}

/// What was met on the way from a probe.
#[derive(Default)]
struct Restarts {
    seen: BTreeSet<ActionIx>,
    /// Stops and demotes.
    downs: BTreeSet<ActionIx>,
}
