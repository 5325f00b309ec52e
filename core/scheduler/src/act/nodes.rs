//! Which nodes are fenced or shut down, and what waits for that?

use std::collections::BTreeMap;

use model::situation::{FenceHow, NoQuorum, Requires, Role};

use super::Planner;
use super::cause::Because;
use super::graph::{ActionIx, Kind, Task};
use crate::world::{NodeIx, RscIx};

impl Planner<'_, '_> {
    /// Can it be cut off?
    pub(super) fn can_fence(&self, node: NodeIx) -> bool {
        let options = &self.world.situation.options;
        if !options.is_fencing_enabled || !options.has_fence_device {
            return false;
        }
        let there = self.world.node(node);
        if options.has_quorum || options.no_quorum == NoQuorum::Ignore {
            return true;
        }
        // Without a majority only what is seen and still obeys may be cut off.
        self.is_online(node) && there.is_online
    }

    pub(super) fn fence_and_shut_down(&mut self) {
        let world = self.world;
        let has_managed = world.rsc_ixs().any(|rsc| world.rsc(rsc).is_primitive() && world.rsc(rsc).is_managed);
        let mut fences: BTreeMap<NodeIx, ActionIx> = BTreeMap::new();
        let mut coordinator: Option<ActionIx> = None;
        let mut downs: Vec<ActionIx> = Vec::new();
        let mut shutdown_of_coordinator: Option<ActionIx> = None;
        for node in world.node_ixs() {
            let there = world.node(node);
            if there.is_guest() {
                continue;
            }
            if self.is_unclean(node) && has_managed && self.can_fence(node) {
                let at = self.graph.add(None, Task::Fence, Some(node));
                self.graph.get_mut(at).because = self.fences.get(&node).cloned().map(Because::Fact);
                fences.insert(node, at);
                if there.is_coordinator {
                    coordinator = Some(at);
                } else {
                    downs.push(at);
                }
            } else if there.is_member() && there.is_online && there.is_shutting_down {
                let at = self.graph.add(None, Task::Shutdown, Some(node));
                self.order_stops_before(node, at);
                if there.is_coordinator {
                    shutdown_of_coordinator = Some(at);
                } else {
                    downs.push(at);
                }
            }
        }
        if !world.situation.options.fences_concurrently {
            let all: Vec<ActionIx> = fences.values().copied().collect();
            for pair in all.windows(2) {
                self.graph.order(pair[0], pair[1], Kind::ORDERED);
            }
        }
        for last in [coordinator, shutdown_of_coordinator].into_iter().flatten() {
            for down in &downs {
                self.graph.order(*down, last, Kind::ORDERED);
            }
        }
        let pairs: Vec<(NodeIx, ActionIx)> = fences.iter().map(|(node, at)| (*node, *at)).collect();
        for (node, fence) in pairs {
            for rsc in world.rsc_ixs().filter(|rsc| world.rsc(*rsc).is_primitive()) {
                self.order_after_fence(rsc, node, fence);
            }
        }
        let guests: Vec<NodeIx> = world.node_ixs().filter(|node| world.node(*node).is_guest()).collect();
        for guest in guests.into_iter().filter(|_| has_managed) {
            self.fence_guest(guest);
        }
    }

    fn order_stops_before(&mut self, node: NodeIx, shutdown: ActionIx) {
        let world = self.world;
        for at in self.graph.ixs().collect::<Vec<_>>() {
            let action = self.graph.get(at);
            let (Some(rsc), Some(there)) = (action.rsc, action.node) else { continue };
            let it = world.rsc(rsc);
            if there != node || action.task != Task::Stop || it.is_maintenance || world.node(node).is_maintenance {
                continue;
            }
            if !it.is_managed && !it.is_blocked {
                continue;
            }
            self.graph.get_mut(at).is_optional = false;
            self.graph.order(at, shutdown, Kind::ORDERED.with(Kind::BLOCKS));
        }
    }

    /// What starts elsewhere waits for the fence; what stops there is done by it.
    fn order_after_fence(&mut self, rsc: RscIx, node: NodeIx, fence: ActionIx) {
        let world = self.world;
        let it = world.rsc(rsc);
        if !it.is_managed {
            return;
        }
        let requires = it.meta.requires;
        for task in [Task::Start, Task::Promote] {
            for at in self.graph.each(rsc, task) {
                if requires >= Requires::Fencing {
                    self.graph.order(fence, at, Kind::ORDERED.with(Kind::BLOCKS));
                } else if requires == Requires::Quorum {
                    let is_known_as_other =
                        !it.is_unique && it.parent.is_some_and(|parent| world.rsc(parent).known_on.contains(&node));
                    let is_unknown_there = !it.known_on.contains(&node)
                        && !is_known_as_other
                        && self.placement.tables[rsc.0 as usize][node.0 as usize].is_some();
                    if is_unknown_there && task == Task::Start {
                        self.graph.order(fence, at, Kind::ORDERED.with(Kind::BLOCKS));
                    }
                }
            }
        }
        let is_ordered = requires >= Requires::Exclusion || world.node(node).is_guest();
        let is_bundled = world.rsc(world.outermost(rsc)).is_bundle();
        for at in self.graph.each(rsc, Task::Stop) {
            if self.graph.get(at).node != Some(node) {
                continue;
            }
            let action = self.graph.get_mut(at);
            action.is_marker = true;
            action.is_runnable = true;
            self.notify_after_fence(rsc, fence);
            if !is_ordered {
                continue;
            }
            // In a bundle the order of its clone is enough.
            if !is_bundled {
                self.graph.order(fence, at, Kind::ORDERED);
            }
            let top = world.top(rsc);
            if let Some(stop) = self.graph.find_exact(Some(top), Task::Stop, None)
                && top != rsc
            {
                self.graph.order(fence, stop, Kind::ORDERED);
            }
        }
        let is_lost = !self.is_online(node) || self.is_unclean(node) || it.is_failed;
        for at in self.graph.each(rsc, Task::Demote) {
            if self.graph.get(at).node != Some(node) || !is_lost {
                continue;
            }
            let action = self.graph.get_mut(at);
            action.is_marker = true;
            action.is_runnable = true;
            if is_ordered && !is_bundled {
                self.graph.order(fence, at, Kind::ORDERED);
            }
        }
    }

    /// A guest ends with its container: that is its fencing, and nobody carries it out.
    fn fence_guest(&mut self, guest: NodeIx) {
        let world = self.world;
        let Some(container) = world.node(guest).container() else { return };
        let can_fence =
            world.rsc(container).active_on.iter().all(|host| !self.is_unclean(*host) || self.can_fence(*host));
        if !world.node(guest).remote_needs_reset || !can_fence {
            return;
        }
        let at = self.graph.add(None, Task::Fence, Some(guest));
        let action = self.graph.get_mut(at);
        action.is_marker = true;
        action.because = Some(Because::GuestDown);
        let stop = self.graph.all(container, Task::Stop).first().copied();
        let cause = match stop {
            Some(stop) if self.graph.get(stop).is_marker => {
                self.graph.find(None, Task::Fence, self.graph.get(stop).node).or(Some(stop))
            }
            Some(stop) => Some(stop),
            // It is thought to be down, perhaps because its history was forgotten: it is looked at first.
            None => world
                .node(guest)
                .connection()
                .and_then(|connection| self.graph.all(connection, Task::Stop).first().copied()),
        };
        if let Some(cause) = cause {
            self.graph.order(cause, at, Kind::ORDERED);
        }
        for rsc in world.rsc_ixs().filter(|rsc| world.rsc(*rsc).is_primitive()) {
            self.order_after_fence(rsc, guest, at);
        }
    }

    /// What fencing does to a node.
    pub(super) fn fence_how(&self, node: NodeIx) -> FenceHow {
        let world = self.world;
        if let Some(container) = world.node(node).container() {
            let comes_back = self.place_of(container).is_some() && self.goal(container) > Role::Stopped;
            return if comes_back { FenceHow::Reboot } else { FenceHow::Off };
        }
        world.situation.options.fence_action
    }

    /// What must be with something that cannot start does not start either.
    /// True if that is new for any.
    pub(super) fn block_dependents(&mut self) -> bool {
        let world = self.world;
        let mut is_changed = false;
        let mut open: Vec<(RscIx, Task<'static>)> = Vec::new();
        for rsc in world.rsc_ixs().filter(|rsc| world.rsc(*rsc).is_primitive()) {
            for task in [Task::Start, Task::Promote] {
                let all = self.graph.all(rsc, task);
                if !all.is_empty()
                    && all.iter().all(|at| !self.graph.get(*at).is_runnable)
                    && all.iter().any(|at| !self.graph.get(*at).is_optional)
                {
                    open.push((rsc, task));
                }
            }
        }
        while let Some((rsc, task)) = open.pop() {
            let mut owners = vec![rsc];
            let mut here = rsc;
            while let Some(parent) = world.rsc(here).parent {
                let is_collective_blocked = world.rsc(parent).is_group() || {
                    let instances = &world.rsc(parent).children;
                    instances.iter().all(|instance| {
                        world.primitives(*instance).iter().all(|primitive| {
                            // What does not even try is not hindered.
                            let all = self.graph.all(*primitive, task);
                            !all.is_empty() && all.iter().all(|at| !self.graph.get(*at).is_runnable)
                        })
                    })
                };
                if !is_collective_blocked {
                    break;
                }
                owners.push(parent);
                here = parent;
            }
            for owner in owners {
                for tie in self.placement.leads[owner.0 as usize].clone() {
                    let tie = self.placement.ties[tie as usize].clone();
                    if !tie.score.is_must() || !tie.is_explicit {
                        continue;
                    }
                    let needs_promoted = tie.primary_role == Some(Role::Promoted);
                    if needs_promoted != (task == Task::Promote) {
                        continue;
                    }
                    let blocked_task =
                        if tie.dependent_role == Some(Role::Promoted) { Task::Promote } else { Task::Start };
                    for primitive in world.primitives(tie.dependent) {
                        for at in self.graph.each(primitive, blocked_task) {
                            let action = self.graph.get_mut(at);
                            if action.is_runnable {
                                is_changed = true;
                                action.is_runnable = false;
                                action.because = Some(Because::Partner(rsc));
                                open.push((primitive, blocked_task));
                            }
                        }
                    }
                }
            }
        }
        is_changed
    }
}
