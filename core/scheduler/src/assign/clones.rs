//! How are the instances of a clone spread over the nodes?

use std::cmp::Ordering;

use model::situation::{Role, Score};

use super::Assigner;
use super::colocation::Side;
use super::table::{Source, Table};
use super::ties::{Manner, factor_of};
use crate::world::{NodeIx, RscIx};

impl Assigner<'_, '_> {
    pub(super) fn assign_clone(&mut self, clone: RscIx) {
        let at = clone.0 as usize;
        if self.is_assigned[at] || self.is_busy[at] {
            return;
        }
        if let Some(bundle) = self.world.rsc(clone).parent
            && !self.is_busy[bundle.0 as usize]
        {
            self.assign(bundle, None);
            return;
        }
        self.is_busy[at] = true;
        let meta = self.world.rsc(clone).meta;
        if meta.is_promotable {
            self.add_promotion_scores(clone);
        }
        for tie in self.ties_of(clone, Side::Follows) {
            let primary = self.ties[tie as usize].primary;
            if !self.is_assigned[primary.0 as usize] {
                self.assign(primary, None);
            }
        }
        for tie in self.ties_of(clone, Side::Leads) {
            self.hear_wishes(tie, clone);
        }
        let mut instances = self.world.rsc(clone).children.clone();
        self.counts[at] = vec![0; self.world.nodes.len()];
        instances.sort_by(|a, b| self.compare_instances(*a, *b));
        let wanted = meta.clone_max.unwrap_or_else(|| u32::try_from(self.world.nodes.len()).unwrap_or(u32::MAX).max(1));
        self.distribute(clone, &instances, wanted, meta.clone_node_max);
        if meta.is_promotable {
            self.choose_promoted(clone);
        }
        self.is_busy[at] = false;
        self.is_assigned[at] = true;
    }

    /// Gives each instance a place: first those that can stay, then the rest.
    pub(super) fn distribute(&mut self, parent: RscIx, instances: &[RscIx], wanted: u32, per_node_max: u32) {
        let available =
            self.world.node_ixs().filter(|node| self.score(parent, *node).is_some() && self.is_usable(*node)).count();
        let optimal = if available == 0 { 1 } else { (wanted / available as u32).max(1) };
        let mut assigned = 0;
        for instance in instances {
            if assigned >= wanted {
                break;
            }
            if let Some(current) = self.place_to_keep(parent, *instance, optimal)
                && self.assign_early(parent, *instance, current, per_node_max, wanted - assigned)
            {
                assigned += 1;
            }
        }
        for instance in instances {
            if self.is_placed(*instance) {
                continue;
            }
            if assigned >= wanted {
                let is_removed = self.world.rsc(*instance).is_removed;
                let source = if is_removed { Source::Removed } else { Source::Enough };
                let primitives = self.world.primitives(*instance);
                for rsc in primitives.iter().copied().filter(|rsc| rsc != instance).chain([*instance]) {
                    self.tables[rsc.0 as usize].rule_out_all(source);
                }
                // Only what is not managed stays.
                self.assign(*instance, None);
            } else if self.assign_instance(parent, *instance, None, per_node_max).is_some() {
                assigned += 1;
            }
        }
    }

    fn is_placed(&self, instance: RscIx) -> bool {
        self.is_assigned[instance.0 as usize]
    }

    fn first_place(&self, instance: RscIx) -> Option<NodeIx> {
        self.world.primitives(instance).iter().find_map(|rsc| self.world.current_node(*rsc))
    }

    fn active_places(&self, instance: RscIx) -> usize {
        self.world.rsc(instance).active_on.len()
    }

    fn has_failed(&self, instance: RscIx) -> bool {
        self.world.primitives(instance).iter().any(|rsc| self.world.rsc(*rsc).is_failed)
    }

    /// The node that an instance runs on, if it may be kept there.
    fn place_to_keep(&self, parent: RscIx, instance: RscIx, optimal: u32) -> Option<NodeIx> {
        if self.is_placed(instance) || self.has_failed(instance) {
            return None;
        }
        let node = self.first_place(instance)?;
        let is_full = self.score(parent, node).is_some() && self.counts[parent.0 as usize][node.0 as usize] >= optimal;
        (self.is_usable(node) && !is_full).then_some(node)
    }

    /// Tries an instance on its node; whatever keeps it away has a place reserved meanwhile.
    fn assign_early(
        &mut self,
        parent: RscIx,
        instance: RscIx,
        current: NodeIx,
        per_node_max: u32,
        available: u32,
    ) -> bool {
        let before = self.save(instance);
        let counts_before = self.counts[parent.0 as usize].clone();
        let mut reserved = 0;
        while reserved < available {
            let chosen = self.assign_instance(parent, instance, Some(current), per_node_max);
            if chosen == Some(current) {
                let mut counts = counts_before;
                counts[current.0 as usize] += 1;
                self.counts[parent.0 as usize] = counts;
                return true;
            }
            self.restore(&before);
            if chosen.is_none() {
                self.unassign(instance);
                break;
            }
            reserved += 1;
            // Its count stays: that is the reservation.
            self.unassign(instance);
        }
        self.counts[parent.0 as usize] = counts_before;
        false
    }

    /// An instance, and everything in it.
    fn parts(&self, instance: RscIx) -> Vec<RscIx> {
        let mut open = vec![instance];
        let mut parts = Vec::new();
        while let Some(next) = open.pop() {
            parts.push(next);
            open.extend(&self.world.rsc(next).children);
        }
        parts
    }

    fn save(&self, instance: RscIx) -> Vec<(RscIx, Table)> {
        self.parts(instance).into_iter().map(|part| (part, self.tables[part.0 as usize].clone())).collect()
    }

    fn restore(&mut self, saved: &[(RscIx, Table)]) {
        for (rsc, table) in saved {
            self.tables[rsc.0 as usize].clone_from(table);
        }
    }

    fn assign_instance(
        &mut self,
        parent: RscIx,
        instance: RscIx,
        prefer: Option<NodeIx>,
        per_node_max: u32,
    ) -> Option<NodeIx> {
        let parts = self.parts(instance);
        for node in self.world.node_ixs() {
            let source = if self.world.rsc(instance).is_removed {
                Source::Removed
            } else if !self.is_usable(node) {
                Source::Unusable
            } else if self.score(parent, node).is_none_or(|score| !self.allows(score)) {
                Source::Parent(parent)
            } else if self.counts[parent.0 as usize][node.0 as usize] >= per_node_max {
                Source::FullOfInstances
            } else {
                continue;
            };
            for rsc in &parts {
                self.tables[rsc.0 as usize].rule_out(node, source);
            }
        }
        let chosen = self.assign(instance, prefer);
        let chosen = chosen.or_else(|| self.node_of(instance));
        if let Some(chosen) = chosen {
            self.counts[parent.0 as usize][chosen.0 as usize] += 1;
        }
        chosen
    }

    /// Which instance is given a place first?
    pub(super) fn compare_instances(&self, a: RscIx, b: RscIx) -> Ordering {
        let (a_count, b_count) = (self.active_places(a), self.active_places(b));
        if a_count > 0 && b_count > 0 && a_count != b_count {
            return a_count.cmp(&b_count);
        }
        let parent_of = |rsc: RscIx| self.world.rsc(rsc).parent.expect("an instance is in something");
        let allowed = |rsc: RscIx| {
            let node = self.first_place(rsc)?;
            let in_own = self.score(rsc, node).is_some_and(|score| self.allows(score));
            Some((node, in_own))
        };
        let (a_place, b_place) = (allowed(a), allowed(b));
        let can = |place: Option<(NodeIx, bool)>| place.is_none_or(|(_, can)| can);
        let by_allowed = can(b_place).cmp(&can(a_place));
        if by_allowed.is_ne() {
            return by_allowed;
        }
        let by_priority = self.priority.get(b).cmp(&self.priority.get(a));
        if by_priority.is_ne() {
            return by_priority;
        }
        let (a_node, b_node) = match (a_place, b_place) {
            (None, None) => return self.by_number(a, b),
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (Some((a_node, _)), Some((b_node, _))) => (a_node, b_node),
        };
        let by_usable = self.is_usable(b_node).cmp(&self.is_usable(a_node));
        if by_usable.is_ne() {
            return by_usable;
        }
        let (a_parent, b_parent) = (parent_of(a), parent_of(b));
        let in_parent = |parent: RscIx, node: NodeIx| self.score(parent, node).is_some_and(|score| self.allows(score));
        let by_parent = in_parent(b_parent, b_node).cmp(&in_parent(a_parent, a_node));
        if by_parent.is_ne() {
            return by_parent;
        }
        let count = |parent: RscIx, node: NodeIx| {
            self.counts[parent.0 as usize].get(node.0 as usize).copied().unwrap_or_default()
        };
        let by_count = count(a_parent, a_node).cmp(&count(b_parent, b_node));
        if by_count.is_ne() {
            return by_count;
        }
        let by_failure = self.has_failed(a).cmp(&self.has_failed(b));
        if by_failure.is_ne() {
            return by_failure;
        }
        let by_wishes = self.wished_on(b, b_node).cmp(&self.wished_on(a, a_node));
        if by_wishes.is_ne() {
            return by_wishes;
        }
        self.by_number(a, b)
    }

    fn by_number(&self, a: RscIx, b: RscIx) -> Ordering {
        let number = |rsc: RscIx| {
            let it = self.world.rsc(rsc);
            it.number.or(it.replica.map(|(_, number)| number)).unwrap_or_default()
        };
        number(a).cmp(&number(b))
    }

    /// What everything that the clone is tied to would add on the node where an instance is.
    fn wished_on(&self, instance: RscIx, node: NodeIx) -> Score {
        let world = self.world;
        let Some(parent) = world.rsc(instance).parent else { return Score::ZERO };
        let mut sum = self.score(instance, node).unwrap_or(Score::MUST_NOT);
        for tie in self.ties_of(parent, Side::Follows) {
            let tie = &self.ties[tie as usize];
            if let Some(place) = self.node_of(tie.primary)
                && place == node
                && !tie.score.is_must()
            {
                sum += tie.score;
            }
        }
        for tie in self.ties_of(parent, Side::Leads) {
            let tie = &self.ties[tie as usize];
            if !self.has_influence(tie) {
                continue;
            }
            let share = factor_of(tie.score);
            let wish = self.score(tie.dependent, node).unwrap_or(Score::MUST_NOT);
            let exact = (share * wish.value() as f32).round();
            let added = sum + Score::of(exact as i64);
            sum = if added < Score::ZERO && sum >= Score::ZERO { sum.min(Score::of(1)) } else { added };
        }
        sum
    }

    /// Adds what dependents of a role would like to the scores of a clone.
    pub(super) fn hear_promotion_wishes(&mut self, clone: RscIx) {
        let mut ties = self.ties_of(clone, Side::Leads);
        if let Some(bundle) = self.world.rsc(clone).parent {
            // What follows the bundle follows what is in it only here.
            ties.extend(self.ties_of(bundle, Side::Leads));
        }
        for at in ties {
            let tie = &self.ties[at as usize];
            if tie.primary_role != Some(Role::Promoted) || !self.has_influence(tie) {
                continue;
            }
            let manner = Manner { follows: false, only_positive: true, keeps_usable: true };
            let table = self.tables[clone.0 as usize].clone();
            let (dependent, share) = (tie.dependent, factor_of(tie.score));
            self.tables[clone.0 as usize] = self.wishes(dependent, clone, Some(table), Some(at), share, manner);
        }
    }
}
