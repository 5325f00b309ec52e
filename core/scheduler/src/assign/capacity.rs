//! What fits where? Capacity counts under every strategy but the default.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use model::situation::{Score, Strategy};

use super::Assigner;
use super::colocation::Side;
use crate::world::{NodeIx, RscIx};

impl<'a> Assigner<'_, 'a> {
    /// What is left of a node.
    fn left(&self, node: NodeIx, what: &str) -> i64 {
        let has = self.world.node(node).facts.capacity.get(what).copied().unwrap_or(0);
        i64::from(has) - self.used[node.0 as usize].get(what).copied().unwrap_or(0)
    }

    /// The node with more left comes first: each attribute has a vote.
    pub(super) fn compare_capacity(&self, a: NodeIx, b: NodeIx) -> Ordering {
        let names: BTreeSet<&String> =
            self.world.node(a).facts.capacity.keys().chain(self.world.node(b).facts.capacity.keys()).collect();
        let votes: i32 = names
            .into_iter()
            .map(|name| match self.left(a, name).cmp(&self.left(b, name)) {
                Ordering::Greater => 1,
                Ordering::Less => -1,
                Ordering::Equal => 0,
            })
            .sum();
        0.cmp(&votes)
    }

    pub(super) fn use_capacity(&mut self, rsc: RscIx, node: NodeIx) {
        self.book(rsc, node, 1);
    }

    pub(super) fn free_capacity(&mut self, rsc: RscIx, node: NodeIx) {
        self.book(rsc, node, -1);
    }

    fn book(&mut self, rsc: RscIx, node: NodeIx, sign: i64) {
        let Some(primitive) = self.world.rsc(rsc).primitive() else { return };
        for (name, amount) in &primitive.utilization {
            *self.used[node.0 as usize].entry(name.as_str()).or_default() += sign * i64::from(*amount);
        }
    }

    fn needs(&self, rscs: impl IntoIterator<Item = RscIx>) -> BTreeMap<&'a str, i64> {
        let mut sum = BTreeMap::new();
        for rsc in rscs {
            let Some(primitive) = self.world.rsc(rsc).primitive() else { continue };
            for (name, amount) in &primitive.utilization {
                *sum.entry(name.as_str()).or_default() += i64::from(*amount);
            }
        }
        sum
    }

    fn holds(&self, node: NodeIx, needs: &BTreeMap<&str, i64>) -> bool {
        needs.iter().all(|(name, amount)| self.left(node, name) >= *amount)
    }

    /// Bans the nodes that are too full; the node to prefer, if all that belongs together fits nowhere.
    pub(super) fn fit_capacity(&mut self, rsc: RscIx, prefer: Option<NodeIx>) -> Option<NodeIx> {
        let world = self.world;
        if world.situation.options.strategy == Strategy::Default {
            return prefer;
        }
        let mut together = BTreeSet::new();
        self.gather_tied(rsc, &mut together);
        let open: BTreeSet<RscIx> =
            together.iter().copied().filter(|tied| !self.is_assigned[tied.0 as usize]).collect();
        let usable: Vec<NodeIx> = world
            .node_ixs()
            .filter(|node| self.score(rsc, *node).is_some_and(|score| score >= Score::ZERO) && self.is_usable(*node))
            .collect();
        let all = self.needs(open.iter().copied().chain([rsc]).collect::<BTreeSet<_>>());
        let own = self.needs([rsc]);
        let mut most: Option<NodeIx> = None;
        for node in &usable {
            if self.holds(*node, &all) && most.is_none_or(|most| self.compare_capacity(*node, most).is_lt()) {
                most = Some(*node);
            }
        }
        let (limit, prefer) = if most.is_some() && open.len() > 1 {
            (&all, prefer)
        } else if most.is_some() {
            (&own, prefer)
        } else {
            let mut roomy: Option<NodeIx> = None;
            for node in &usable {
                if self.holds(*node, &own) && roomy.is_none_or(|roomy| self.compare_capacity(*node, roomy).is_lt()) {
                    roomy = Some(*node);
                }
            }
            (&own, if open.len() > 1 { roomy.or(prefer) } else { prefer })
        };
        let full: Vec<NodeIx> = world.node_ixs().filter(|node| !self.holds(*node, limit)).collect();
        let before = self.tables[rsc.0 as usize].clone();
        for node in full {
            if self.score(rsc, node).is_some() {
                self.set_score(rsc, node, Score::MUST_NOT);
            }
        }
        let _ = before;
        prefer
    }

    /// Everything that must be on the same node.
    fn gather_tied(&self, rsc: RscIx, found: &mut BTreeSet<RscIx>) {
        if !found.insert(rsc) {
            return;
        }
        let world = self.world;
        let it = world.rsc(rsc);
        if !it.is_primitive() {
            for child in &it.children {
                self.gather_tied(*child, found);
            }
        }
        for tie in self.ties_of(rsc, Side::Follows) {
            let tie = &self.ties[tie as usize];
            if tie.score.is_must() {
                self.gather_other(tie.primary, found, rsc);
            }
        }
        for tie in self.ties_of(rsc, Side::Leads) {
            let tie = &self.ties[tie as usize];
            let is_clone_led = world.rsc(tie.primary).is_clone() && !world.rsc(tie.dependent).is_clone();
            if tie.score.is_must() && !is_clone_led {
                self.gather_other(tie.dependent, found, rsc);
            }
        }
    }

    fn gather_other(&self, other: RscIx, found: &mut BTreeSet<RscIx>, from: RscIx) {
        let world = self.world;
        let it = world.rsc(other);
        if it.is_clone() || it.is_bundle() {
            // One of its instances; which one is not known.
            let _ = from;
            return;
        }
        self.gather_tied(other, found);
        if let Some(group) = it.parent.filter(|parent| world.rsc(*parent).is_group()) {
            self.gather_tied(group, found);
        }
    }
}
