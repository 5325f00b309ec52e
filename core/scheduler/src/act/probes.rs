//! Where has to be found out whether something runs, before anything is started?

use model::situation::{Discovery, Role};

use super::cause::Because;
use super::graph::{Kind, Task};
use super::{End, Planner};
use crate::read::FailureCounts;
use crate::world::{NodeIx, RscIx, Shape};

impl Planner<'_, '_> {
    pub(super) fn add_probes(&mut self) {
        let world = self.world;
        if !world.situation.options.probes_at_start {
            return;
        }
        for node in world.node_ixs() {
            let there = world.node(node);
            self.fence_unreachable(node);
            if !self.is_online(node) || self.is_unclean(node) || !there.facts.is_probed {
                continue;
            }
            if there.is_guest() && !there.is_online && !self.will_run_guest(node) {
                continue;
            }
            for top in world.tops.clone() {
                self.probe(top, node);
            }
        }
    }

    fn will_run_guest(&self, node: NodeIx) -> bool {
        self.world.node(node).connection().is_some_and(|connection| self.place_of(connection).is_some())
    }

    /// True if a probe was added.
    fn probe(&mut self, rsc: RscIx, node: NodeIx) -> bool {
        let world = self.world;
        let it = world.rsc(rsc);
        if it.is_primitive() {
            return self.probe_primitive(rsc, node);
        }
        if it.is_bundle() {
            return self.probe_bundle(rsc, node);
        }
        if it.is_clone() && !it.is_unique {
            return self.probe_anonymous(rsc, node);
        }
        let mut any = false;
        for child in it.children.clone() {
            any |= self.probe(child, node);
        }
        any
    }

    /// One of instances that are all alike: the one that is known there, or goes there, else the first.
    fn probe_anonymous(&mut self, clone: RscIx, node: NodeIx) -> bool {
        let world = self.world;
        let instances = world.rsc(clone).children.clone();
        let bundle = world.rsc(clone).parent;
        if let Some(bundle) = bundle {
            let inside = world.rsc(bundle).replicas.iter().find(|replica| replica.node == Some(node));
            return inside.and_then(|replica| replica.inside).is_some_and(|inside| self.probe(inside, node));
        }
        if self.is_discovery_off(clone, node) {
            return false;
        }
        let is_known =
            |instance: &RscIx| world.primitives(*instance).iter().any(|rsc| world.rsc(*rsc).known_on.contains(&node));
        if let Some(known) = instances.iter().find(|instance| is_known(instance)) {
            return self.probe(*known, node);
        }
        let goes_there = instances.iter().find(|instance| self.place_of(**instance) == Some(node));
        match goes_there.or(instances.first()) {
            Some(instance) => self.probe(*instance, node),
            None => false,
        }
    }

    fn is_discovery_off(&self, rsc: RscIx, node: NodeIx) -> bool {
        let top = self.world.top(rsc);
        let mut here = Some(rsc);
        while let Some(at) = here {
            if self.placement.discovery[at.0 as usize].get(&node) == Some(&Discovery::Never) {
                return true;
            }
            here = self.world.rsc(at).parent;
        }
        let is_exclusive = self.placement.is_exclusive[rsc.0 as usize] || self.placement.is_exclusive[top.0 as usize];
        is_exclusive && self.placement.discovery[top.0 as usize].get(&node) != Some(&Discovery::Exclusive)
    }

    fn probe_primitive(&mut self, rsc: RscIx, node: NodeIx) -> bool {
        let world = self.world;
        let it = world.rsc(rsc);
        let there = world.node(node);
        if it.is_removed || it.known_on.contains(&node) {
            return false;
        }
        let top = world.top(rsc);
        let is_known_as_other = world.is_anonymous_instance(rsc)
            && world
                .primitives(top)
                .iter()
                .any(|other| world.rsc(*other).name == it.name && world.rsc(*other).known_on.contains(&node));
        if is_known_as_other {
            return false;
        }
        if !there.is_member() {
            let holds_guest = it.fillers.iter().any(|filler| world.rsc(*filler).connects.is_some());
            // Guests do not nest; a machine on a remote node is as good as any.
            if it.is_fence_device() || it.connects.is_some() || (there.is_guest() && holds_guest) {
                return false;
            }
            if let Some(container) = there.container() {
                if there.is_bundle() && !self.is_of_bundle_node(rsc, node) {
                    return false;
                }
                if self.is_implied_down(node, container, top) {
                    return false;
                }
            }
        }
        let is_bundled_inside = self.bundle_node_of(rsc).is_some();
        if is_bundled_inside {
            if self.bundle_node_of(rsc) != Some(node) {
                return false;
            }
        } else if it.container.is_some() && it.replica.is_none() && it.connects.is_none() {
            return false;
        }
        if self.is_discovery_off(rsc, node) {
            return false;
        }
        let probe = self.action(rsc, Task::Probe, Some(node), false);
        self.graph.get_mut(probe).is_optional = false;
        self.order_after_unfencing(rsc, probe, node, Kind::ORDERED);
        // It is known of all instances before one is started.
        let starter = if world.rsc(top).is_clone() { top } else { rsc };
        let runs_nowhere = it.active_on.is_empty() && world.rsc(starter).active_on.is_empty();
        let kind = if runs_nowhere { Kind::BLOCKS.with(Kind::ORDERED) } else { Kind::ORDERED };
        self.orderings.push(super::Ordering { first: End::This(probe), then: End::Of(starter, Task::Start), kind });
        self.orderings.push(super::Ordering {
            first: End::This(probe),
            then: End::Of(rsc, Task::Reload),
            kind: Kind::ORDERED,
        });
        true
    }

    /// What is in a container that is down or goes down is down without a look; it starts after that is sure.
    fn is_implied_down(&mut self, guest: NodeIx, container: RscIx, top: RscIx) -> bool {
        let world = self.world;
        let it = world.rsc(container);
        let target = self.place_of(container);
        let first = if it.role <= Role::Stopped {
            if target.is_none_or(|target| it.known_on.contains(&target)) {
                return true;
            }
            Task::Probe
        } else {
            let goes_down = world.node(guest).remote_needs_reset
                || self.is_unclean(guest)
                || it.is_failed
                || self.goal(container) == Role::Stopped
                || target.is_some_and(|target| !it.active_on.contains(&target));
            if !goes_down {
                return false;
            }
            Task::Stop
        };
        self.orderings.push(super::Ordering {
            first: End::Of(container, first),
            then: End::Of(top, Task::Start),
            kind: Kind::ORDERED,
        });
        true
    }

    fn probe_bundle(&mut self, bundle: RscIx, node: NodeIx) -> bool {
        let world = self.world;
        let Shape::Bundle(definition) = world.rsc(bundle).shape else { return false };
        let replicas = &world.rsc(bundle).replicas;
        let mut any = false;
        for replica in replicas {
            if let Some(address) = replica.address {
                any |= self.probe(address, node);
            }
            if let Some(inside) = replica.inside
                && replica.node == Some(node)
            {
                any |= self.probe(inside, node);
            }
            if self.probe(replica.container, node) {
                any = true;
                if definition.per_host_max == 1 {
                    // Ports of two replicas on one host would clash.
                    for other in replicas.iter().filter(|other| other.container != replica.container) {
                        self.before(
                            (replica.container, Task::Probe),
                            (other.container, Task::Start),
                            Kind::ORDERED.with(Kind::SAME_NODE),
                        );
                    }
                }
            }
            if let Some(connection) = replica.connection
                && self.probe(connection, node)
                && let Some(probe) = self.graph.find_exact(Some(connection), Task::Probe, Some(node))
            {
                // Where the container is decides where the connection leads.
                any = true;
                let runs = !world.rsc(replica.container).active_on.is_empty();
                self.orderings.push(super::Ordering {
                    first: End::Of(replica.container, Task::Start),
                    then: End::This(probe),
                    kind: if runs { Kind::ORDERED } else { Kind::ORDERED.with(Kind::BLOCKS) },
                });
            }
        }
        any
    }

    fn is_of_bundle_node(&self, rsc: RscIx, node: NodeIx) -> bool {
        self.bundle_node_of(rsc) == Some(node)
    }

    /// The node inside a container that it belongs to.
    pub(super) fn bundle_node_of(&self, rsc: RscIx) -> Option<NodeIx> {
        let mut here = Some(rsc);
        while let Some(at) = here {
            let it = self.world.rsc(at);
            if let Some((bundle, number)) = it.replica {
                let replica = self.world.rsc(bundle).replicas[number as usize];
                return if replica.inside == Some(at) { replica.node } else { None };
            }
            here = it.parent;
        }
        None
    }

    /// Counts of failures that are forgotten are cleared.
    pub(super) fn clear_failures(&mut self) {
        self.clear_failures_of_removed();
        for rsc in self.world.rsc_ixs() {
            for (node, why) in &self.world.rsc(rsc).clearings {
                if !self.is_online(*node) && !self.world.node(*node).is_online {
                    continue;
                }
                let clear = self.action(rsc, Task::ClearFailures, Some(*node), false);
                let action = self.graph.get_mut(clear);
                action.because = Some(Because::Fact(why.clone()));
                if self.world.rsc(rsc).connects.is_some() {
                    self.orderings.push(super::Ordering {
                        first: End::This(clear),
                        then: End::Of(rsc, Task::Start),
                        kind: Kind::ORDERED,
                    });
                }
            }
            for node in &self.world.rsc(rsc).locks_over {
                self.action(rsc, Task::Forget, Some(*node), false);
            }
        }
    }

    fn clear_failures_of_removed(&mut self) {
        let world = self.world;
        if !world.situation.options.stops_removed {
            return;
        }
        for rsc in world.tops.iter().copied().filter(|top| world.rsc(*top).is_removed) {
            for node in world.node_ixs() {
                if !self.is_online(node) || FailureCounts::of(world, rsc, node).effective == 0 {
                    continue;
                }
                let clear = self.action(rsc, Task::ClearFailures, Some(node), false);
                self.graph.get_mut(clear).because = Some(Because::Removed);
                self.orderings.push(super::Ordering {
                    first: End::This(clear),
                    then: End::Of(rsc, Task::Stop),
                    kind: Kind::ORDERED,
                });
            }
        }
    }
}
