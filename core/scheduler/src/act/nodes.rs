//! Which nodes are fenced or shut down, and what waits for that?

use std::collections::BTreeMap;

use model::situation::{FenceHow, NoQuorum, Requires, Role};

use super::graph::{ActionIx, Kind, Task};
use super::{End, Ordering, Planner};
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
                self.graph.get_mut(at).reason = self.fences.get(&node).cloned();
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
        for guest in guests {
            self.imply_guest_stops(guest);
        }
        self.order_on_connections();
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
            for at in self.graph.all(rsc, task).to_vec() {
                if requires >= Requires::Fencing {
                    self.graph.order(fence, at, Kind::ORDERED.with(Kind::BLOCKS));
                } else if requires == Requires::Quorum {
                    let is_unknown_there = !it.known_on.contains(&node)
                        && self.placement.tables[rsc.0 as usize][node.0 as usize].is_some();
                    if is_unknown_there && task == Task::Start {
                        self.graph.order(fence, at, Kind::ORDERED.with(Kind::BLOCKS));
                    }
                }
            }
        }
        for task in [Task::Stop, Task::Demote] {
            for at in self.graph.all(rsc, task).to_vec() {
                let action = self.graph.get(at);
                if action.node != Some(node) {
                    continue;
                }
                if world.node(node).is_remote() && !world.node(node).remote_needs_reset && action.is_optional {
                    continue;
                }
                let action = self.graph.get_mut(at);
                if task == Task::Demote && action.is_optional {
                    continue;
                }
                action.is_marker = true;
                action.is_runnable = true;
                if task == Task::Stop {
                    self.notify_after_fence(rsc, fence);
                }
                if requires >= Requires::Fencing {
                    self.graph.order(fence, at, Kind::ORDERED);
                }
            }
        }
    }

    /// What runs on a guest ends with its container.
    fn imply_guest_stops(&mut self, guest: NodeIx) {
        let world = self.world;
        let Some(container) = world.node(guest).container() else { return };
        let is_reset = world.node(guest).remote_needs_reset || world.rsc(container).is_failed;
        let host_is_fenced =
            world.rsc(container).active_on.iter().any(|host| self.is_unclean(*host) && self.can_fence(*host));
        if !is_reset && !host_is_fenced {
            return;
        }
        let stop = self.graph.all(container, Task::Stop).iter().copied().find(|at| !self.graph.get(*at).is_optional);
        let cause = match stop {
            Some(stop) if !self.graph.get(stop).is_marker => Some(stop),
            _ => world
                .rsc(container)
                .active_on
                .iter()
                .find_map(|host| self.graph.find(None, Task::Fence, Some(*host)))
                .or(stop),
        };
        let runs = !world.node(guest).runs.is_empty() || world.node(guest).is_online;
        if !runs {
            return;
        }
        let at = self.graph.add(None, Task::Fence, Some(guest));
        let action = self.graph.get_mut(at);
        action.is_marker = true;
        action.is_always_shown = true;
        action.reason = Some("guest is unclean".to_owned());
        if let Some(cause) = cause {
            self.graph.order(cause, at, Kind::ORDERED);
        }
        for rsc in world.rsc_ixs().filter(|rsc| world.rsc(*rsc).is_primitive()) {
            if !world.rsc(rsc).is_managed {
                continue;
            }
            for task in [Task::Stop, Task::Demote] {
                for action_at in self.graph.all(rsc, task).to_vec() {
                    if self.graph.get(action_at).node == Some(guest) {
                        let action = self.graph.get_mut(action_at);
                        action.is_marker = true;
                        action.is_runnable = true;
                        if task == Task::Stop {
                            action.is_optional = false;
                        }
                        self.graph.order(at, action_at, Kind::ORDERED);
                    }
                }
            }
            if self.needs_fencing(rsc) {
                for task in [Task::Start, Task::Promote] {
                    for action_at in self.graph.all(rsc, task).to_vec() {
                        self.graph.order(at, action_at, Kind::ORDERED);
                    }
                }
            }
        }
    }

    /// What is done on a remote node needs its connection.
    fn order_on_connections(&mut self) {
        let world = self.world;
        for at in self.graph.ixs().collect::<Vec<_>>() {
            let action = self.graph.get(at);
            let (Some(rsc), Some(node)) = (action.rsc, action.node) else { continue };
            let Some(connection) = world.node(node).connection() else { continue };
            if !world.rsc(rsc).is_primitive() || rsc == connection {
                continue;
            }
            let task = action.task;
            let is_marker = action.is_marker;
            match task {
                Task::Start | Task::Promote | Task::Monitor(_) | Task::Reload => {
                    let kind = if matches!(task, Task::Monitor(_)) {
                        Kind::BLOCKS.with(Kind::THEN_FOLLOWS)
                    } else {
                        Kind::BLOCKS.with(Kind::ORDERED)
                    };
                    self.orderings.push(Ordering {
                        first: End::Of(connection, Task::Start),
                        then: End::This(at),
                        kind,
                    });
                }
                Task::Stop | Task::Demote if !is_marker => {
                    let is_alive = world.node(node).is_online && !world.rsc(connection).is_failed;
                    if is_alive {
                        self.orderings.push(Ordering {
                            first: End::This(at),
                            then: End::Of(connection, Task::Stop),
                            kind: Kind::FIRST_FOLLOWS.with(Kind::ORDERED),
                        });
                    } else {
                        self.orderings.push(Ordering {
                            first: End::Of(connection, Task::Start),
                            then: End::This(at),
                            kind: Kind::BLOCKS.with(Kind::ORDERED),
                        });
                    }
                }
                _ => {}
            }
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
    pub(super) fn block_dependents(&mut self) {
        let world = self.world;
        let mut open: Vec<(RscIx, Task<'static>)> = Vec::new();
        for rsc in world.rsc_ixs() {
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
                            self.graph.all(*primitive, task).iter().all(|at| !self.graph.get(*at).is_runnable)
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
                        for at in self.graph.all(primitive, blocked_task).to_vec() {
                            let action = self.graph.get_mut(at);
                            if action.is_runnable {
                                action.is_runnable = false;
                                action.reason = Some(format!("colocation with {}", world.rsc(rsc).id));
                                open.push((primitive, blocked_task));
                            }
                        }
                    }
                }
            }
        }
    }
}
