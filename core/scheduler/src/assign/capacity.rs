//! What fits where? Capacity counts under every strategy but the default.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use model::situation::{Role, Score};

use super::Assigner;
use super::colocation::{Side, Tie};
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

    /// Adds what a resource needs that has no place yet; of a clone what one instance needs, unless one counts already.
    fn add_needs(&self, rsc: RscIx, counted: &BTreeSet<RscIx>, needs: &mut BTreeMap<&'a str, i64>) {
        if self.is_assigned[rsc.0 as usize] {
            return;
        }
        let world = self.world;
        let it = world.rsc(rsc);
        if let Some(primitive) = it.primitive() {
            for (name, amount) in &primitive.utilization {
                *needs.entry(name.as_str()).or_default() += i64::from(*amount);
            }
        } else if it.is_group() {
            let is_together = it.meta.is_collocated || world.clone_of(rsc).is_some();
            let members = if is_together { it.children.as_slice() } else { &it.children[..it.children.len().min(1)] };
            for member in members.iter().filter(|member| !counted.contains(member)) {
                self.add_needs(*member, counted, needs);
            }
        } else {
            let counts = |child: &RscIx| {
                counted.contains(child) || world.rsc(*child).children.iter().any(|member| counted.contains(member))
            };
            if !it.children.iter().any(counts)
                && let Some(first) = it.children.first()
            {
                self.add_needs(*first, counted, needs);
            }
        }
    }

    fn holds(&self, node: NodeIx, needs: &BTreeMap<&str, i64>) -> bool {
        needs.iter().all(|(name, amount)| self.left(node, name) >= *amount)
    }

    /// Bans the nodes that are too full; the node to prefer, if all that belongs together fits nowhere.
    pub(super) fn fit_capacity(&mut self, rsc: RscIx) -> Option<NodeIx> {
        let world = self.world;
        let mut together = BTreeSet::new();
        self.gather_tied(rsc, rsc, &mut together);
        let mut all = BTreeMap::new();
        for tied in &together {
            self.add_needs(*tied, &together, &mut all);
        }
        let usable: Vec<NodeIx> = world
            .node_ixs()
            .filter(|node| self.score(rsc, *node).is_some_and(|score| score >= Score::ZERO) && self.is_usable(*node))
            .collect();
        let fits_somewhere = usable.iter().any(|node| self.holds(*node, &all));
        let (limit, prefer) = if fits_somewhere {
            (all, None)
        } else {
            let mut own = BTreeMap::new();
            self.add_needs(rsc, &together, &mut own);
            (own, usable.iter().copied().min_by(|a, b| self.compare_capacity(*a, *b)))
        };
        for node in usable {
            if !self.holds(node, &limit) {
                self.set_score(rsc, node, Score::MUST_NOT);
            }
        }
        prefer
    }

    /// Everything that must be on the same node.
    fn gather_tied(&self, rsc: RscIx, start: RscIx, found: &mut BTreeSet<RscIx>) {
        let world = self.world;
        let it = world.rsc(rsc);
        if !found.insert(rsc) {
            return;
        }
        if it.is_group() && (it.meta.is_collocated || world.clone_of(rsc).is_some()) {
            for member in &it.children {
                self.gather_tied(*member, start, found);
            }
            return;
        }
        let is_open = |role: Option<Role>, rsc: RscIx| role.is_none_or(|role| role == self.goal_of(rsc));
        let binds = |tie: &Tie| {
            tie.score.is_must() && is_open(tie.dependent_role, tie.dependent) && is_open(tie.primary_role, tie.primary)
        };
        for tie in self.ties_of(rsc, Side::Follows) {
            let tie = &self.ties[tie as usize];
            if tie.primary != start && binds(tie) {
                self.gather_tied(tie.primary, start, found);
            }
        }
        for tie in self.ties_of(rsc, Side::Leads) {
            let tie = &self.ties[tie as usize];
            // Which instance of a clone a dependent that is none will be with is not known.
            let is_vague = it.is_clone() && !world.rsc(tie.dependent).is_clone();
            if tie.dependent != start && !is_vague && binds(tie) {
                self.gather_tied(tie.dependent, start, found);
            }
        }
    }
}
