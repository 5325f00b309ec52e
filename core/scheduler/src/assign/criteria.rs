//! What is said about each resource and node alone: locations, stickiness, bans, health.

use model::situation::{Discovery, Role, Score};

use super::Assigner;
use super::table::{Source, Table};
use crate::read::FailureCounts;
use crate::world::{NodeIx, RscIx};

impl Assigner<'_, '_> {
    /// Fills the tables.
    pub(super) fn apply_criteria(&mut self) {
        let world = self.world;
        let is_symmetric = world.situation.options.is_symmetric;
        let ordinary: Vec<Option<Score>> = world
            .nodes
            .iter()
            .map(|node| (is_symmetric && !node.is_bundle()).then_some(node.facts.base_score))
            .collect();
        for rsc in world.rsc_ixs() {
            let only_ranks = world.situation.options.points_only_rank;
            self.tables[rsc.0 as usize] = self.first_table(rsc, &ordinary).only_ranking(only_ranks);
        }
        self.apply_health();
        self.apply_locations();
        for rsc in world.rsc_ixs() {
            for (place, ban) in (0_u32..).zip(&world.rsc(rsc).bans) {
                match ban.node {
                    Some(node) => self.locate(rsc, &[(node, ban.score)], Discovery::Always, Source::Ban(rsc, place)),
                    None => {
                        let everywhere: Vec<_> = world.node_ixs().map(|node| (node, ban.score)).collect();
                        self.locate(rsc, &everywhere, Discovery::Always, Source::Ban(rsc, place));
                    }
                }
            }
        }
        self.apply_locks();
        for rsc in world.rsc_ixs().filter(|rsc| world.rsc(*rsc).is_primitive()) {
            self.apply_stickiness(rsc);
            self.apply_failures(rsc);
        }
        for rsc in world.rsc_ixs() {
            self.apply_exclusive(rsc);
        }
        for rsc in world.rsc_ixs().filter(|rsc| world.rsc(*rsc).is_primitive()) {
            self.keep_off_remotes(rsc);
        }
    }

    /// Every node, where nothing else is said; in an opt-in cluster none. `ordinary` is what is true of most.
    fn first_table(&self, rsc: RscIx, ordinary: &[Option<Score>]) -> Table {
        let world = self.world;
        let options = &world.situation.options;
        let bundled = world.rsc(rsc).replica;
        let inside = self.replica_node(rsc);
        let is_bundled_clone = self.is_bundled_clone(rsc);
        if inside.is_none() && !is_bundled_clone && bundled.is_none() {
            return Table::new(ordinary.to_vec(), self.is_asked(rsc));
        }
        let each = |node: NodeIx| {
            let there = world.node(node);
            if there.is_bundle() {
                // Only what belongs into a container runs in it.
                return match inside {
                    Some(own) if own == node => Some(Score::ZERO),
                    _ => None,
                };
            }
            if inside.is_some() || is_bundled_clone {
                return None;
            }
            (options.is_symmetric || world.rsc(rsc).connects.is_some_and(|_| bundled.is_some()))
                .then_some(there.facts.base_score)
        };
        let mut table: Vec<Option<Score>> = world.node_ixs().map(each).collect();
        if is_bundled_clone {
            // The clone inside: all its containers.
            let bundle = world.rsc(rsc).parent.expect("it is in a bundle");
            for replica in &world.rsc(bundle).replicas {
                if let Some(node) = replica.node {
                    table[node.0 as usize] = Some(Score::ZERO);
                }
            }
        }
        Table::new(table, self.is_asked(rsc))
    }

    fn is_bundled_clone(&self, rsc: RscIx) -> bool {
        self.world.rsc(rsc).is_clone() && self.world.rsc(rsc).parent.is_some()
    }

    /// The node inside a container that an instance, or what is in it, belongs to.
    pub(super) fn replica_node(&self, rsc: RscIx) -> Option<NodeIx> {
        let world = self.world;
        let mut here = Some(rsc);
        while let Some(at) = here {
            let it = world.rsc(at);
            if let Some((bundle, number)) = it.replica {
                let replica = world.rsc(bundle).replicas[number as usize];
                return if replica.inside == Some(at) { replica.node } else { None };
            }
            here = it.parent;
        }
        None
    }

    fn apply_health(&mut self) {
        let world = self.world;
        for node in world.node_ixs() {
            let health = world.node(node).facts.health;
            if health == Score::ZERO {
                continue;
            }
            for top in &world.tops {
                if health < Score::ZERO && world.rsc(*top).meta.allows_unhealthy {
                    continue;
                }
                self.locate(*top, &[(node, health)], Discovery::Always, Source::Health);
            }
        }
    }

    fn apply_locations(&mut self) {
        let world = self.world;
        for (at, location) in world.situation.locations.iter().enumerate().rev() {
            let source = Source::Location(u32::try_from(at).unwrap_or(u32::MAX));
            let Some(rsc) = world.find(location.resource.as_str()) else { continue };
            if location.role == Some(Role::Promoted) {
                continue;
            }
            let scores: Vec<(NodeIx, Score)> = location
                .scores
                .iter()
                .filter_map(|(name, score)| Some((*world.node_by_name.get(name.as_str())?, *score)))
                .collect();
            if world.rsc(rsc).is_group() {
                for (node, score) in &scores {
                    *self.group_scores[rsc.0 as usize].entry(*node).or_default() += *score;
                }
            }
            self.locate(rsc, &scores, location.discovery, source);
        }
    }

    /// Adds scores to a resource and to what of it decides where it goes.
    fn locate(&mut self, rsc: RscIx, scores: &[(NodeIx, Score)], discovery: Discovery, source: Source) {
        let world = self.world;
        let it = world.rsc(rsc);
        let is_inside = self.replica_node(rsc).is_some();
        for (node, score) in scores {
            let table = &mut self.tables[rsc.0 as usize];
            if table[node.0 as usize].is_none() {
                if world.node(*node).is_bundle() || is_inside {
                    continue;
                }
                table.begin(*node, world.node(*node).facts.base_score, Source::Base);
            }
            table.add(*node, *score, source);
            match discovery {
                Discovery::Always => {}
                Discovery::Never => {
                    self.discovery[rsc.0 as usize].entry(*node).or_insert(discovery);
                }
                Discovery::Exclusive => {
                    self.discovery[rsc.0 as usize].insert(*node, discovery);
                    self.is_exclusive[rsc.0 as usize] = true;
                }
            }
        }
        if it.is_group() {
            let zero: Vec<_> = scores.iter().map(|(node, _)| (*node, Score::ZERO)).collect();
            for (at, member) in it.children.iter().enumerate() {
                let counts = at == 0 || !it.meta.is_collocated;
                self.locate(*member, if counts { scores } else { &zero }, discovery, source);
            }
        } else if it.is_clone() {
            for child in &it.children {
                self.locate(*child, scores, discovery, source);
            }
        } else if it.is_bundle() {
            for replica in &it.replicas {
                for part in [Some(replica.container), replica.address].into_iter().flatten() {
                    self.locate(part, scores, discovery, source);
                }
            }
        }
    }

    fn apply_locks(&mut self) {
        let world = self.world;
        let Some(limit) = world.situation.options.shutdown_lock_s else { return };
        for rsc in world.rsc_ixs() {
            let it = world.rsc(rsc);
            if !it.is_primitive()
                || it.is_fence_device()
                || it.connects.is_some()
                || it.replica.is_some()
                || world.clone_of(rsc).is_some()
            {
                continue;
            }
            let Some(node) = self.lock_of(rsc, limit) else { continue };
            let elsewhere: Vec<_> =
                world.node_ixs().filter(|other| *other != node).map(|other| (other, Score::MUST_NOT)).collect();
            self.locate(rsc, &elsewhere, Discovery::Always, Source::Lock(node));
        }
    }

    /// The node that a resource waits for because it was shut down.
    pub(crate) fn lock_of(&self, rsc: RscIx, limit_s: i64) -> Option<NodeIx> {
        let world = self.world;
        let it = world.rsc(rsc);
        if let Some((node, _)) = it.locked_to {
            // It came back by itself, or runs already.
            return it.active_on.is_empty().then_some(node);
        }
        let [node] = it.active_on.as_slice() else { return None };
        let there = world.node(*node);
        let since = there.facts.shutdown_since.unwrap_or(0);
        let is_clean = there.is_shutting_down && !there.is_unclean;
        let is_in_time = limit_s == 0 || world.situation.now <= since + limit_s;
        (is_clean && it.is_managed && is_in_time).then_some(*node)
    }

    fn apply_stickiness(&mut self, rsc: RscIx) {
        let world = self.world;
        let it = world.rsc(rsc);
        if !it.is_managed || it.meta.stickiness < Score::of(1) {
            return;
        }
        let [node] = it.active_on.as_slice() else { return };
        if world.situation.options.points_only_rank && self.follows_active_member(rsc) {
            return;
        }
        if world.situation.options.is_symmetric || self.score(rsc, *node).is_some() {
            self.locate(rsc, &[(*node, it.meta.stickiness)], Discovery::Always, Source::Stickiness(rsc));
        }
    }

    /// Is an earlier member of its group active, which speaks for the whole group?
    fn follows_active_member(&self, rsc: RscIx) -> bool {
        let world = self.world;
        let group = world.rsc(rsc).parent.map(|group| world.rsc(group)).filter(|group| group.is_group());
        let earlier = group.into_iter().flat_map(|group| group.children.iter().take_while(|member| **member != rsc));
        let mut earlier = earlier.map(|member| world.rsc(*member));
        earlier.any(|member| member.is_managed && member.active_on.as_slice().len() == 1)
    }

    fn apply_failures(&mut self, rsc: RscIx) {
        let world = self.world;
        for node in world.node_ixs() {
            if !self.has_failed_too_often(rsc, node) {
                continue;
            }
            let banned = if world.is_anonymous_instance(rsc) { world.top(rsc) } else { rsc };
            self.locate(banned, &[(node, Score::MUST_NOT)], Discovery::Always, Source::Failures(rsc));
        }
    }

    /// Has it reached its `migration-threshold` on a node?
    pub(super) fn has_failed_too_often(&self, rsc: RscIx, node: NodeIx) -> bool {
        let world = self.world;
        let it = world.rsc(rsc);
        let Some(max) = it.meta.failures_max.filter(|max| *max > 0) else { return false };
        world.node(node).has_failures
            && !it.failure_is_ignored
            && !it.clearings.contains_key(&node)
            && FailureCounts::with_fillers(world, rsc, node) >= i64::from(max)
    }

    fn apply_exclusive(&mut self, rsc: RscIx) {
        let top = self.world.top(rsc);
        if !self.is_exclusive[rsc.0 as usize] && !self.is_exclusive[top.0 as usize] {
            return;
        }
        for node in self.world.node_ixs() {
            if self.discovery[rsc.0 as usize].get(&node) != Some(&Discovery::Exclusive) {
                self.tables[rsc.0 as usize].rule_out(node, Source::NotNamed);
            }
        }
    }

    /// Neither fence devices nor connections nor guests run on remote nodes.
    fn keep_off_remotes(&mut self, rsc: RscIx) {
        let world = self.world;
        let it = world.rsc(rsc);
        if let Some(connection) = world.connection_inward(rsc) {
            // It is in its container by being on the guest.
            for node in world.node_ixs() {
                if world.node(node).connection() != Some(connection) {
                    self.tables[rsc.0 as usize].rule_out(node, Source::Container);
                }
            }
        }
        let holds_guest = it.fillers.iter().any(|filler| world.rsc(*filler).connects.is_some());
        let keeps_off = it.is_fence_device() || it.connects.is_some() || (holds_guest && it.replica.is_none());
        if !keeps_off {
            return;
        }
        for node in world.node_ixs().filter(|node| !world.node(*node).is_member()) {
            self.tables[rsc.0 as usize].rule_out(node, Source::Remote);
        }
    }
}
