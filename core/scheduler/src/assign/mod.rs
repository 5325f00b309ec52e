//! Where should everything run?
//!
//! Greedy, in order of priority: each resource takes the node with the best score after everything that is tied to it
//! has had its say. Nothing is taken back, except that instances of clones are tried out.
//!
//! ```text
//!   criteria.rs: what is said about each resource and node alone ─► tables of scores
//!   colocation.rs: what is tied together ─► ties.rs: how one table changes another
//!   primitive.rs ─► capacity.rs      clones.rs ─► promotion.rs      bundles.rs
//! ```

mod bundles;
mod capacity;
mod choice;
mod clones;
mod colocation;
mod criteria;
mod primitive;
mod promotion;
mod table;
mod ties;

use std::collections::BTreeMap;

use model::situation::{Role, Score, Strategy};

use crate::world::{NodeIx, RscIx, World};

pub(crate) use capacity::Shortage;
pub use choice::Decider;
pub(crate) use choice::Settled;
pub(crate) use colocation::Tie;
pub(crate) use table::{Source, Table, Weights};

/// Where everything should run.
pub(crate) struct Placement {
    /// By resource: the node that a primitive goes to; a group's is that of its first member.
    pub node: Vec<Option<NodeIx>>,
    /// By resource: what it should be there.
    pub goal: Vec<Role>,
    /// By node: reached, once everything is where it should be.
    pub is_online: Vec<bool>,
    /// By node: has to be fenced.
    pub is_unclean: Vec<bool>,
    /// By resource: which nodes it could be on.
    pub tables: Vec<Table>,
    /// Everything that is tied together, built-in ties too.
    pub ties: Vec<Tie>,
    /// By resource: ties that it leads.
    pub leads: Vec<Vec<u32>>,
    /// By resource and node: is it looked there whether it runs?
    pub discovery: Vec<std::collections::BTreeMap<NodeIx, model::situation::Discovery>>,
    /// By resource: it may run, and is looked for, only where a location says so.
    pub is_exclusive: Vec<bool>,
    /// How the primitives that were asked about got their places.
    pub settled: BTreeMap<RscIx, Settled>,
    /// What there was too little of, where that was asked.
    pub shortages: BTreeMap<(RscIx, NodeIx), Shortage>,
    /// How fit each instance is to lead, where that was asked.
    pub fitness: Weights,
}

/// Finds a place for everything.
pub(crate) fn place(world: &World<'_>) -> Placement {
    place_telling(world, Vec::new())
}

/// Finds a place for everything, and notes how those that are asked about got theirs: by resource; empty for none.
pub(crate) fn place_telling(world: &World<'_>, asked: Vec<bool>) -> Placement {
    let mut assigner = Assigner::new(world, asked);
    assigner.apply_criteria();
    let mut tops = world.tops.clone();
    if world.situation.options.strategy != Strategy::Default {
        assigner.sort_by_wishes(&mut tops);
    }
    let (connections, others): (Vec<RscIx>, Vec<RscIx>) =
        tops.into_iter().partition(|top| world.rsc(*top).connects.is_some());
    for rsc in connections {
        let prefer = world.rsc(rsc).partial_migration.map(|(_, target)| target);
        assigner.assign(rsc, prefer);
    }
    for rsc in others {
        assigner.assign(rsc, None);
    }
    assigner.finish()
}

/// The work under way.
pub(super) struct Assigner<'w, 'a> {
    pub world: &'w World<'a>,
    pub tables: Vec<Table>,
    pub node: Vec<Option<NodeIx>>,
    pub goal: Vec<Role>,
    pub is_assigned: Vec<bool>,
    pub is_busy: Vec<bool>,
    pub is_merging: Vec<bool>,
    pub has_promotion_scores: Vec<bool>,
    /// Clones and bundles: instances on each node.
    pub counts: Vec<Vec<u32>>,
    /// Primitives that were given to each node.
    pub load: Vec<u32>,
    pub capacity: capacity::Capacity,
    /// By node: its place among the names in byte order.
    pub name_rank: Vec<u32>,
    pub is_online: Vec<bool>,
    pub is_leaving: Vec<bool>,
    pub is_unclean: Vec<bool>,
    /// By node: what follows from these, and what does not change.
    is_open: Vec<bool>,
    pub priority: Weights,
    pub promotion: Vec<Score>,
    pub ties: Vec<Tie>,
    pub follows: Vec<Vec<u32>>,
    pub leads: Vec<Vec<u32>>,
    pub discovery: Vec<std::collections::BTreeMap<NodeIx, model::situation::Discovery>>,
    pub is_exclusive: Vec<bool>,
    /// What locations say about a group itself, for members that are tied alone.
    pub group_scores: Vec<std::collections::BTreeMap<NodeIx, Score>>,
    /// By resource: is it asked how it gets its place? Empty for none.
    pub asked: Vec<bool>,
    pub settled: BTreeMap<RscIx, Settled>,
    pub shortages: BTreeMap<(RscIx, NodeIx), Shortage>,
}

impl<'w, 'a> Assigner<'w, 'a> {
    fn new(world: &'w World<'a>, asked: Vec<bool>) -> Self {
        let (resources, nodes) = (world.resources.len(), world.nodes.len());
        let (ties, follows, leads) = colocation::ties(world);
        Assigner {
            world,
            tables: vec![Table::default(); resources],
            node: vec![None; resources],
            goal: world.resources.iter().map(|rsc| rsc.goal).collect(),
            is_assigned: vec![false; resources],
            is_busy: vec![false; resources],
            is_merging: vec![false; resources],
            has_promotion_scores: vec![false; resources],
            counts: vec![Vec::new(); resources],
            load: vec![0; nodes],
            capacity: capacity::Capacity::new(world),
            name_rank: name_ranks(world),
            is_online: world.nodes.iter().map(|node| node.is_online).collect(),
            is_leaving: world.nodes.iter().map(|node| node.is_shutting_down).collect(),
            is_unclean: world.nodes.iter().map(|node| node.is_unclean).collect(),
            is_open: world.node_ixs().map(|node| world.is_usable(node)).collect(),
            priority: Weights::new(
                world.resources.iter().map(|rsc| Score::of(i64::from(rsc.meta.priority))).collect(),
                !asked.is_empty(),
                world.situation.options.points_only_rank,
            ),
            promotion: vec![Score::ZERO; resources],
            ties,
            follows,
            leads,
            discovery: vec![std::collections::BTreeMap::new(); resources],
            is_exclusive: vec![false; resources],
            group_scores: vec![std::collections::BTreeMap::new(); resources],
            asked,
            settled: BTreeMap::new(),
            shortages: BTreeMap::new(),
        }
    }

    fn finish(self) -> Placement {
        Placement {
            node: self.node,
            goal: self.goal,
            is_online: self.is_online,
            is_unclean: self.is_unclean,
            tables: self.tables,
            ties: self.ties,
            leads: self.leads,
            discovery: self.discovery,
            is_exclusive: self.is_exclusive,
            settled: self.settled,
            shortages: self.shortages,
            fitness: self.priority,
        }
    }

    /// Could resources be given to it, as far as is decided by now?
    pub fn is_usable(&self, node: NodeIx) -> bool {
        self.is_open[node.0 as usize]
    }

    /// Looks again whether a node can be given anything.
    pub fn judge_open(&mut self, node: NodeIx) {
        let at = node.0 as usize;
        let facts = self.world.node(node);
        self.is_open[at] = self.is_online[at]
            && !self.is_leaving[at]
            && !self.is_unclean[at]
            && !facts.is_standby
            && !facts.is_maintenance;
    }

    /// As [`Assigner::is_usable`]; a guest must have a place itself.
    pub fn is_usable_with_host(&self, node: NodeIx) -> bool {
        self.is_usable(node)
            && self.world.node(node).container().is_none_or(|container| self.node_of(container).is_some())
    }

    /// Does such a score let something run on a node?
    pub fn allows(&self, score: Score) -> bool {
        self.world.situation.options.allows(score)
    }

    pub fn score(&self, rsc: RscIx, node: NodeIx) -> Option<Score> {
        self.tables[rsc.0 as usize][node.0 as usize]
    }

    /// Is any node left that could take it?
    pub fn any_usable(&self, table: &Table) -> bool {
        self.world
            .node_ixs()
            .any(|node| table[node.0 as usize].is_some_and(|score| self.allows(score)) && self.is_usable(node))
    }

    /// Where it is by now: of collectives the first place of a member.
    pub fn node_of(&self, rsc: RscIx) -> Option<NodeIx> {
        let it = self.world.rsc(rsc);
        if it.is_primitive() {
            return self.node[rsc.0 as usize];
        }
        it.children.iter().find_map(|child| self.node_of(*child))
    }

    /// What it should be, of collectives the most of any member.
    pub fn goal_of(&self, rsc: RscIx) -> Role {
        let it = self.world.rsc(rsc);
        if it.is_primitive() {
            return self.goal[rsc.0 as usize];
        }
        it.children.iter().map(|child| self.goal_of(*child)).max().unwrap_or_default()
    }

    /// Gives a resource its place; everything it depends on gets one first.
    pub fn assign(&mut self, rsc: RscIx, prefer: Option<NodeIx>) -> Option<NodeIx> {
        let it = self.world.rsc(rsc);
        if it.is_primitive() {
            self.assign_primitive(rsc, prefer)
        } else if it.is_group() {
            self.assign_group(rsc, prefer)
        } else if it.is_clone() {
            self.assign_clone(rsc);
            None
        } else {
            self.assign_bundle(rsc);
            None
        }
    }

    fn assign_group(&mut self, group: RscIx, prefer: Option<NodeIx>) -> Option<NodeIx> {
        let at = group.0 as usize;
        if self.is_assigned[at] {
            return self.node[at];
        }
        if self.is_busy[at] {
            return None;
        }
        if let Some(parent) = self.world.rsc(group).parent
            && !self.is_busy[parent.0 as usize]
        {
            self.assign(parent, prefer);
            if self.is_assigned[at] {
                return self.node[at];
            }
        }
        self.is_busy[at] = true;
        let mut first = None;
        for member in self.world.rsc(group).children.clone() {
            let node = self.assign(member, prefer);
            if first.is_none() {
                first = node;
            }
        }
        self.goal[at] =
            self.world.rsc(group).children.first().map_or(Role::Stopped, |member| self.goal[member.0 as usize]);
        self.is_busy[at] = false;
        self.is_assigned[at] = true;
        self.node[at] = first;
        if self.world.rsc(group).meta.is_collocated { first } else { None }
    }
}

/// By node: its place among the names in byte order.
fn name_ranks(world: &World<'_>) -> Vec<u32> {
    let mut by_name: Vec<NodeIx> = world.node_ixs().collect();
    by_name.sort_by_key(|node| world.node(*node).name);
    let mut ranks = vec![0; by_name.len()];
    for (rank, node) in (0_u32..).zip(by_name) {
        ranks[node.0 as usize] = rank;
    }
    ranks
}
