//! Where do containers go, and what belongs to them?

use model::situation::{Role, Score};

use super::Assigner;
use super::colocation::Side;
use super::table::Source;
use crate::world::{NodeIx, RscIx, Shape};

impl Assigner<'_, '_> {
    pub(super) fn assign_bundle(&mut self, bundle: RscIx) {
        let at = bundle.0 as usize;
        if self.is_assigned[at] || self.is_busy[at] {
            return;
        }
        self.is_busy[at] = true;
        let world = self.world;
        let Shape::Bundle(definition) = world.rsc(bundle).shape else { return };
        let replicas = world.rsc(bundle).replicas.clone();
        for tie in self.ties_of(bundle, Side::Follows) {
            let primary = self.ties[tie as usize].primary;
            if !self.is_assigned[primary.0 as usize] {
                self.assign(primary, None);
            }
        }
        let mut containers: Vec<RscIx> = replicas.iter().map(|replica| replica.container).collect();
        self.counts[at] = vec![0; world.nodes.len()];
        containers.sort_by(|a, b| self.compare_instances(*a, *b));
        let wanted = u32::try_from(containers.len()).unwrap_or(u32::MAX);
        self.distribute(bundle, &containers, wanted, definition.per_host_max);
        for replica in &replicas {
            if let Some(address) = replica.address {
                self.assign(address, None);
            }
            if let Some(connection) = replica.connection {
                let host = self.node_of(replica.container);
                if let Some(host) = host
                    && !world.node(host).is_member()
                {
                    self.stay_beside(connection, host);
                    self.assign(connection, None);
                } else {
                    self.assign(connection, host);
                }
            }
            let (Some(inside), Some(node)) = (replica.inside, replica.node) else { continue };
            for primitive in world.primitives(inside) {
                // A new container begins with a new instance: of its earlier failures only too many of them keep it out.
                let failed_too_often = self.has_failed_too_often(primitive, node);
                let table = &mut self.tables[primitive.0 as usize];
                if failed_too_often {
                    table.add(node, Score::MUST, Source::Container);
                } else {
                    table.begin(node, Score::MUST, Source::Container);
                }
            }
            if !world.rsc(inside).is_primitive() {
                self.tables[inside.0 as usize].add(node, Score::MUST, Source::Container);
            }
            if let Some(clone) = world.rsc(inside).parent {
                // It belongs to its container, whatever the other instances do.
                let was_busy = std::mem::replace(&mut self.is_busy[clone.0 as usize], true);
                self.assign(inside, Some(node));
                self.is_busy[clone.0 as usize] = was_busy;
            }
        }
        if let Some(clone) = world.rsc(bundle).children.last().copied().filter(|last| world.rsc(*last).is_clone()) {
            for replica in &replicas {
                if let Some(node) = replica.node {
                    self.tables[clone.0 as usize].begin(node, Score::ZERO, Source::Container);
                }
            }
            self.assign(clone, None);
        }
        self.goal[at] = Role::Started;
        self.is_busy[at] = false;
        self.is_assigned[at] = true;
    }

    /// Whoever connects to a remote node or guest connects to the containers there as well: it has room for one only.
    fn stay_beside(&mut self, connection: RscIx, host: NodeIx) {
        let Some(outer) = self.world.node(host).connection() else { return };
        let beside = self.assign(outer, None);
        for node in self.world.node_ixs() {
            if Some(node) != beside {
                self.tables[connection.0 as usize].rule_out(node, Source::Container);
            }
        }
    }
}
