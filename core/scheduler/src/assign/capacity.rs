//! What fits where? Capacity counts under every strategy but the default.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use model::situation::Role;

use super::Assigner;
use super::colocation::{Side, Tie};
use super::table::Source;
use crate::world::{Node, NodeIx, Rsc, RscIx, World};

fn needs_of<'a>(rsc: &Rsc<'a>) -> Option<&'a BTreeMap<String, i32>> {
    rsc.primitive().map(|primitive| &primitive.utilization)
}

/// What a node has too little of.
#[derive(Clone, Debug)]
pub(crate) struct Shortage {
    /// The attribute.
    pub what: String,
    pub needed: i64,
    pub left: i64,
}

/// What nodes have and resources need, by attribute.
pub(crate) struct Capacity {
    /// The attributes.
    names: Vec<String>,
    /// By node and attribute: what is left.
    left: Vec<Vec<i64>>,
    /// By resource: what a primitive needs of which attribute.
    needs: Vec<Vec<(usize, i64)>>,
}

impl Capacity {
    pub fn new(world: &World<'_>) -> Self {
        let asked = world.resources.iter().filter_map(needs_of).flat_map(|needs| needs.keys());
        let names: BTreeSet<&str> =
            world.nodes.iter().flat_map(|node| node.facts.capacity.keys()).chain(asked).map(String::as_str).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let left = |node: &Node<'_>| {
            names.iter().map(|name| node.facts.capacity.get(*name).copied().map_or(0, i64::from)).collect()
        };
        let needs = |rsc: &Rsc<'_>| {
            let needs = needs_of(rsc).into_iter().flatten();
            needs
                .filter_map(|(name, amount)| Some((names.binary_search(&name.as_str()).ok()?, i64::from(*amount))))
                .collect()
        };
        Capacity {
            left: world.nodes.iter().map(left).collect(),
            needs: world.resources.iter().map(needs).collect(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn take(&mut self, rsc: RscIx, node: NodeIx, sign: i64) {
        for (what, amount) in &self.needs[rsc.0 as usize] {
            self.left[node.0 as usize][*what] -= sign * amount;
        }
    }
}

impl Assigner<'_, '_> {
    /// The node with more left comes first: each attribute has a vote.
    pub(super) fn compare_capacity(&self, a: NodeIx, b: NodeIx) -> Ordering {
        let (a, b) = (&self.capacity.left[a.0 as usize], &self.capacity.left[b.0 as usize]);
        let votes: i32 = a.iter().zip(b).map(|(a, b)| a.cmp(b) as i32).sum();
        0.cmp(&votes)
    }

    pub(super) fn use_capacity(&mut self, rsc: RscIx, node: NodeIx) {
        self.capacity.take(rsc, node, 1);
    }

    pub(super) fn free_capacity(&mut self, rsc: RscIx, node: NodeIx) {
        self.capacity.take(rsc, node, -1);
    }

    /// Adds what a resource needs that has no place yet; of a clone what one instance needs, unless one counts already.
    fn add_needs(&self, rsc: RscIx, counted: &BTreeSet<RscIx>, needs: &mut BTreeMap<usize, i64>) {
        if self.is_assigned[rsc.0 as usize] {
            return;
        }
        let world = self.world;
        let it = world.rsc(rsc);
        if it.is_primitive() {
            for (what, amount) in &self.capacity.needs[rsc.0 as usize] {
                *needs.entry(*what).or_default() += amount;
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

    fn holds(&self, node: NodeIx, needs: &BTreeMap<usize, i64>) -> bool {
        needs.iter().all(|(what, amount)| self.capacity.left[node.0 as usize][*what] >= *amount)
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
            .filter(|node| self.score(rsc, *node).is_some_and(|score| self.allows(score)) && self.is_usable(*node))
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
                self.tables[rsc.0 as usize].rule_out(node, Source::Capacity);
                self.note_shortage(rsc, node, &limit);
            }
        }
        prefer
    }

    /// Notes what there is too little of, where somebody asks.
    fn note_shortage(&mut self, rsc: RscIx, node: NodeIx, needs: &BTreeMap<usize, i64>) {
        if !self.is_asked(rsc) {
            return;
        }
        let left = &self.capacity.left[node.0 as usize];
        if let Some((what, needed)) = needs.iter().find(|(what, amount)| left[**what] < **amount) {
            let what_name = self.capacity.names[*what].clone();
            let shortage = Shortage { what: what_name, needed: *needed, left: left[*what] };
            self.shortages.insert((rsc, node), shortage);
        }
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
