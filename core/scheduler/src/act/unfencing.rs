//! Which nodes are unfenced, and what waits for that?
//!
//! Some fence devices cut a node off its storage rather than its power; before the node may use the storage it is
//! unfenced, once. A node is unfenced if it never was and anything that needs it is there, or is to be looked for; and
//! again when the definition of a device changed. What needs it stops before, and starts after; fence devices are
//! looked at and started after it as well, because many of them can do nothing on a node that is still cut off.
//!
//! In: starts, stops and probes as they are made. Out: unfencings, and edges to and from them.
//! Not here: whether a digest is today's (`import/unfencing.rs`).

use model::situation::Requires;

use super::Planner;
use super::cause::Because;
use super::graph::{ActionIx, Kind, Task};
use crate::world::{NodeIx, RscIx, World};

/// The devices that unfence nodes; none if nothing does, nor needs it.
pub(super) fn devices(world: &World<'_>) -> Option<Vec<RscIx>> {
    let unfences = |rsc: &RscIx| world.rsc(*rsc).primitive().is_some_and(|primitive| primitive.unfences);
    let needs_it = |rsc: RscIx| world.rsc(rsc).is_primitive() && world.rsc(rsc).meta.requires == Requires::Unfencing;
    let found: Vec<RscIx> = world.rsc_ixs().filter(unfences).collect();
    (!found.is_empty() || world.rsc_ixs().any(needs_it)).then_some(found)
}

impl Planner<'_, '_> {
    /// A start or a look waits until the node is unfenced; `kind` says what else follows.
    pub(super) fn order_after_unfencing(&mut self, rsc: RscIx, at: ActionIx, node: NodeIx, kind: Kind) {
        let it = self.world.rsc(rsc);
        if self.unfencers.is_none() || !(it.is_fence_device() || it.meta.requires == Requires::Unfencing) {
            return;
        }
        let unfencing = self.unfencing_of(node);
        self.graph.order(unfencing, at, kind);
        if !self.world.node(node).facts.is_unfenced {
            let why = format!("required by {}", self.name_of(at));
            self.unfence(node, &why);
        }
    }

    /// What needs a node unfenced stops before that is done.
    pub(super) fn order_before_unfencing(&mut self, rsc: RscIx, stop: ActionIx, node: NodeIx) {
        if self.unfencers.is_some() && self.world.rsc(rsc).meta.requires == Requires::Unfencing {
            let unfencing = self.unfencing_of(node);
            self.graph.order(stop, unfencing, Kind::ORDERED.with(Kind::FIRST_FOLLOWS));
        }
    }

    /// A fence device that is another than before unfences the node where that was noticed; if it cannot, all others.
    pub(super) fn unfence_anew(&mut self, device: RscIx, node: NodeIx, why: &str) {
        if self.unfencers.is_none() || !self.world.rsc(device).is_fence_device() || self.unfence(node, why) {
            return;
        }
        for other in self.world.node_ixs() {
            if self.placement.tables[device.0 as usize].get(other.0 as usize).copied().flatten().is_some() {
                self.unfence(other, why);
            }
        }
    }

    /// Says that a node has to be unfenced; false if it is in no state for it.
    fn unfence(&mut self, node: NodeIx, why: &str) -> bool {
        if !self.is_online(node) || self.is_unclean(node) || self.world.node(node).is_shutting_down {
            return false;
        }
        let at = self.unfencing_of(node);
        self.need_unfencing(at, node, why);
        true
    }

    fn need_unfencing(&mut self, at: ActionIx, node: NodeIx, why: &str) {
        if self.can_unfence(node) {
            let action = self.graph.get_mut(at);
            action.is_optional = false;
            action.because.get_or_insert_with(|| Because::Fact(why.to_owned()));
        }
    }

    fn can_unfence(&self, node: NodeIx) -> bool {
        match self.world.node(node).container() {
            Some(container) => {
                let hosts = &self.world.rsc(container).active_on;
                hosts.iter().all(|host| self.is_online(*host) || self.can_fence(*host))
            }
            None => self.can_fence(node),
        }
    }

    /// The unfencing of a node, which need not be done unless something says so.
    fn unfencing_of(&mut self, node: NodeIx) -> ActionIx {
        if let Some(known) = self.graph.find_exact(None, Task::Unfence, Some(node)) {
            return known;
        }
        let at = self.graph.add(None, Task::Unfence, Some(node));
        self.graph.get_mut(at).is_optional = true;
        // On members the history of the devices tells; others run none, and remember what they were unfenced with.
        if !self.world.node(node).is_member()
            && let Some(device) = self.changed_device(node)
        {
            let why = format!("the definition of {} changed", self.world.rsc(device).id);
            self.need_unfencing(at, node, &why);
        }
        at
    }

    /// A device that unfences and is another than the one that a node was unfenced with.
    fn changed_device(&self, node: NodeIx) -> Option<RscIx> {
        let known = self.world.node(node).facts.unfenced_with.as_ref()?;
        self.unfencers.iter().flatten().copied().find(|device| {
            let it = self.world.rsc(*device);
            let entry = it.primitive().and_then(|device| device.unfencing_entry(it.name));
            entry.is_some_and(|entry| !known.contains(&entry))
        })
    }
}
