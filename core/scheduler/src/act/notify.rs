//! Who is told what?
//!
//! Instances of a clone that asks for it are told before and after its instances start, stop, are promoted or demoted:
//! whoever runs before and after that, apart from those that the change itself brings or takes.
//!
//! ```text
//!   tell ─► all told ─► start … started ─► tell ─► all told ─► repeated checks
//! ```
//!
//! In: the markers of clones; once everything is settled, their instances' actions. Out: notifications and the markers
//! around them.
//! Not here: what else waits for a clone that tells (`orders.rs`).

use model::situation::Role;

use super::graph::{ActionIx, Kind, Noted, Phase, Task};
use super::{Planner, done};
use crate::world::{NodeIx, RscIx};

const ALL: [Noted; 4] = [Noted::Start, Noted::Stop, Noted::Promote, Noted::Demote];

/// The task that is told of.
pub(super) fn task_of(noted: Noted) -> Task<'static> {
    match noted {
        Noted::Start => Task::Start,
        Noted::Stop => Task::Stop,
        Noted::Promote => Task::Promote,
        Noted::Demote => Task::Demote,
    }
}

/// What is told of a task; nothing of most.
pub(super) fn noted(task: Task<'_>) -> Option<Noted> {
    ALL.into_iter().find(|noted| task_of(*noted) == task)
}

impl<'a> Planner<'_, 'a> {
    /// Does a resource tell its instances?
    pub(super) fn notifies(&self, rsc: RscIx) -> bool {
        let it = self.world.rsc(rsc);
        it.is_clone() && it.meta.notifies
    }

    /// Adds the markers around what is told, beside those of what is done.
    pub(super) fn mark_notifications(&mut self, clone: RscIx) {
        if !self.notifies(clone) {
            return;
        }
        for noted in ALL {
            let task = task_of(noted);
            let (Some(begin), Some(end)) =
                (self.graph.find_exact(Some(clone), task, None), self.graph.find_exact(Some(clone), done(task), None))
            else {
                continue;
            };
            let is_optional = self.graph.get(begin).is_optional;
            let before = self.marker(clone, Task::Notify(Phase::Before, noted), is_optional, true);
            let before_done = self.marker(clone, Task::Notified(Phase::Before, noted), is_optional, true);
            self.graph.order(before, before_done, Kind::ORDERED);
            self.graph.order(before_done, begin, Kind::ORDERED);
            let (is_optional, is_runnable) = (self.graph.get(end).is_optional, self.graph.get(end).is_runnable);
            let after = self.marker(clone, Task::Notify(Phase::After, noted), is_optional, is_runnable);
            let after_done = self.marker(clone, Task::Notified(Phase::After, noted), is_optional, is_runnable);
            self.graph.order(end, after, Kind::ORDERED);
            self.graph.order(after, after_done, Kind::ORDERED);
            self.graph.order(before_done, after, Kind::ORDERED);
        }
        for (first, then) in [
            (Noted::Stop, Noted::Start),
            (Noted::Stop, Noted::Promote),
            (Noted::Start, Noted::Promote),
            (Noted::Demote, Noted::Stop),
            (Noted::Demote, Noted::Start),
            (Noted::Demote, Noted::Promote),
        ] {
            let first = self.graph.find_exact(Some(clone), Task::Notified(Phase::After, first), None);
            let then = self.graph.find_exact(Some(clone), Task::Notify(Phase::Before, then), None);
            if let (Some(first), Some(then)) = (first, then) {
                self.graph.order(first, then, Kind::ORDERED);
            }
        }
    }

    /// The others are told that an instance is gone once its node has been fenced.
    pub(super) fn notify_after_fence(&mut self, rsc: RscIx, fence: ActionIx) {
        let Some(clone) = self.world.clone_of(rsc).filter(|clone| self.notifies(*clone)) else { return };
        let after = self.graph.find_exact(Some(clone), Task::Notify(Phase::After, Noted::Stop), None);
        let after_done = self.graph.find_exact(Some(clone), Task::Notified(Phase::After, Noted::Stop), None);
        for marker in [after, after_done].into_iter().flatten() {
            self.graph.order(fence, marker, Kind::ORDERED);
            self.graph.get_mut(marker).is_optional = false;
        }
    }

    /// Adds what is told to each instance, once it is settled what happens.
    pub(super) fn notify_all(&mut self) {
        let world = self.world;
        let shown = self.shown();
        for clone in world.rsc_ixs().filter(|rsc| world.rsc(*rsc).is_clone()) {
            if !self.notifies(clone) {
                continue;
            }
            let members = world.primitives(clone);
            for noted in ALL {
                let task = task_of(noted);
                let of_all = || members.iter().flat_map(|rsc| self.graph.all(*rsc, task).iter().copied());
                let is_needed = |at: &ActionIx| !self.graph.get(*at).is_optional;
                let happens = match noted {
                    // That one has to stop is told even if it cannot, as long as another could.
                    Noted::Stop | Noted::Demote => {
                        of_all().any(|at| is_needed(&at)) && of_all().any(|at| self.graph.get(at).is_runnable)
                    }
                    Noted::Start | Noted::Promote => of_all().filter(is_needed).any(|at| shown[at.0 as usize]),
                };
                if !happens {
                    continue;
                }
                for phase in [Phase::Before, Phase::After] {
                    for task in [Task::Notify(phase, noted), Task::Notified(phase, noted)] {
                        self.marker(clone, task, false, true);
                    }
                }
                for rsc in &members {
                    self.notify(clone, *rsc, noted);
                }
            }
        }
    }

    /// Tells one instance.
    fn notify(&mut self, clone: RscIx, rsc: RscIx, noted: Noted) {
        let it = self.world.rsc(rsc);
        let is_needed = |planner: &Self, task: Task<'static>| {
            planner.graph.all(rsc, task).first().is_some_and(|at| !planner.graph.get(*at).is_optional)
        };
        match noted {
            Noted::Stop | Noted::Demote => {
                if self.role(rsc) == Role::Stopped {
                    return;
                }
                let is_implied =
                    self.graph.all(rsc, Task::Stop).first().is_some_and(|at| self.graph.get(*at).is_marker);
                for node in &it.active_on {
                    if is_implied && (self.is_unclean(*node) || self.world.node(*node).remote_needs_reset) {
                        continue;
                    }
                    self.tell_on(clone, rsc, *node, Phase::Before, noted);
                    if noted == Noted::Demote || !is_needed(self, Task::Stop) {
                        self.tell_on(clone, rsc, *node, Phase::After, noted);
                    }
                }
            }
            Noted::Start | Noted::Promote => {
                let Some(node) = self.place_of(rsc).filter(|_| self.goal(rsc) != Role::Stopped) else { return };
                // What stops and cannot come back is not there any more.
                if self.graph.all(rsc, Task::Start).first().is_some_and(|at| !self.graph.get(*at).is_runnable) {
                    return;
                }
                if noted != Noted::Start || !is_needed(self, Task::Start) {
                    self.tell_on(clone, rsc, node, Phase::Before, noted);
                }
                self.tell_on(clone, rsc, node, Phase::After, noted);
            }
        }
    }

    fn tell_on(&mut self, clone: RscIx, rsc: RscIx, node: NodeIx, phase: Phase, noted: Noted) {
        let begin = self.graph.find_exact(Some(clone), Task::Notify(phase, noted), None);
        let end = self.graph.find_exact(Some(clone), Task::Notified(phase, noted), None);
        let (Some(begin), Some(end)) = (begin, end) else { return };
        let marker = self.graph.get(begin);
        if !self.is_online(node) || !marker.is_runnable {
            return;
        }
        let at = self.action(rsc, Task::Notify(phase, noted), Some(node), false);
        self.graph.order(begin, at, Kind::ORDERED);
        self.graph.order(at, end, Kind::ORDERED);
        if phase == Phase::After {
            let checks = self.graph.of(rsc);
            for check in checks {
                if matches!(self.graph.get(check).task, Task::Monitor(_)) {
                    self.graph.order(end, check, Kind::ORDERED);
                }
            }
        }
    }
}
