//! Which node for one primitive?

use std::cmp::Ordering;

use model::situation::{NoQuorum, Role, Score, Strategy};

use super::colocation::Side;
use super::table::Source;
use super::{Assigner, Decider};
use crate::world::{NodeIx, RscIx};

impl Assigner<'_, '_> {
    pub(super) fn assign_primitive(&mut self, rsc: RscIx, prefer: Option<NodeIx>) -> Option<NodeIx> {
        let world = self.world;
        let at = rsc.0 as usize;
        let it = world.rsc(rsc);
        if let Some(parent) = it.parent
            && !self.is_busy[parent.0 as usize]
            && !self.is_assigned[parent.0 as usize]
        {
            self.assign(parent, prefer);
        }
        if self.is_assigned[at] {
            return self.node[at];
        }
        if self.is_busy[at] {
            return None;
        }
        self.is_busy[at] = true;
        let follows = self.ties_of(rsc, Side::Follows);
        let leads = self.ties_of(rsc, Side::Leads);
        for mandatory in [true, false] {
            for tie in &follows {
                if self.ties[*tie as usize].score.is_mandatory() == mandatory && !self.is_assigned[at] {
                    self.follow(*tie, rsc);
                }
            }
            for tie in &leads {
                if self.ties[*tie as usize].score.is_mandatory() == mandatory && !self.is_assigned[at] {
                    self.hear_wishes(*tie, rsc);
                }
            }
        }
        if self.is_assigned[at] {
            self.is_busy[at] = false;
            return self.node[at];
        }
        let options = &world.situation.options;
        if self.goal[at] == Role::Stopped {
            self.tables[at].rule_out_all(Source::Disabled);
        } else if self.goal[at] > it.role && !options.has_quorum && options.no_quorum == NoQuorum::Freeze {
            self.goal[at] = it.role;
        }
        if !it.is_managed {
            let here = it.active_on.first().copied();
            self.settle_on(rsc, here, true, Decider::Unmanaged);
            if here.is_some() {
                self.goal[at] = it.role;
            }
        } else if options.stops_all {
            self.settle_on(rsc, None, true, Decider::StopsAll);
        } else {
            self.choose(rsc, prefer);
        }
        self.is_busy[at] = false;
        if it.connects.is_some() {
            self.connect(rsc);
        }
        self.node[at]
    }

    /// A remote node is up once its connection has a place.
    fn connect(&mut self, rsc: RscIx) {
        let Some(remote) = self.world.rsc(rsc).connects else { return };
        let at = rsc.0 as usize;
        if self.node[at].is_some() && self.goal[at] != Role::Stopped {
            self.is_online[remote.0 as usize] = true;
            if self.world.node(remote).is_unseen {
                // It is tried to reach it before it is fenced.
                self.is_unclean[remote.0 as usize] = false;
            }
        } else {
            self.is_leaving[remote.0 as usize] = true;
        }
        self.judge_open(remote);
    }

    /// The nodes of its table, the best first.
    pub(super) fn candidates(&self, rsc: RscIx) -> Vec<NodeIx> {
        let current = self.world.current_node(rsc);
        let nodes = self.world.node_ixs().filter(|node| self.score(rsc, *node).is_some()).collect();
        sorted(nodes, &|a, b| self.compare_nodes(Some(rsc), a, b, current))
    }

    /// The first of its candidates.
    fn best_candidate(&self, rsc: RscIx) -> Option<NodeIx> {
        if self.world.situation.options.strategy == Strategy::Balanced {
            return self.candidates(rsc).first().copied();
        }
        let current = self.world.current_node(rsc);
        let is_minimal = self.world.situation.options.strategy == Strategy::Minimal;
        // As `compare_nodes`, which is asked too often to look at each node twice.
        let mut best: Option<(Score, (u32, bool, u32), NodeIx)> = None;
        for (node, score) in self.world.node_ixs().zip(self.tables[rsc.0 as usize].iter()) {
            let Some(score) = *score else { continue };
            let score = if self.is_usable(node) { score } else { Score::MUST_NOT };
            if best.is_some_and(|(other, ..)| score < other) {
                continue;
            }
            let at = node.0 as usize;
            let (load, is_elsewhere) = if is_minimal { (0, false) } else { (self.load[at], Some(node) != current) };
            let rank = (load, is_elsewhere, self.name_rank[at]);
            if best.is_none_or(|(other, other_rank, _)| score > other || rank < other_rank) {
                best = Some((score, rank, node));
            }
        }
        best.map(|(.., node)| node)
    }

    /// Which node comes first for a resource?
    pub(super) fn compare_nodes(&self, rsc: Option<RscIx>, a: NodeIx, b: NodeIx, current: Option<NodeIx>) -> Ordering {
        let score = |node: NodeIx| match rsc {
            Some(rsc) if self.is_usable(node) => self.score(rsc, node).unwrap_or(Score::MUST_NOT),
            Some(_) => Score::MUST_NOT,
            None if self.is_usable(node) => Score::ZERO,
            None => Score::MUST_NOT,
        };
        let by_name = || self.name_rank[a.0 as usize].cmp(&self.name_rank[b.0 as usize]);
        let by_score = score(b).cmp(&score(a));
        if by_score.is_ne() {
            return by_score;
        }
        let strategy = self.world.situation.options.strategy;
        if strategy == Strategy::Minimal {
            return by_name();
        }
        if strategy == Strategy::Balanced {
            let by_capacity = self.compare_capacity(a, b);
            if by_capacity.is_ne() {
                return by_capacity;
            }
        }
        self.load[a.0 as usize]
            .cmp(&self.load[b.0 as usize])
            .then_with(|| (Some(b) == current).cmp(&(Some(a) == current)))
            .then_with(by_name)
    }

    /// Where it stays although points may speak for another node.
    fn firm_place(&self, rsc: RscIx) -> Option<NodeIx> {
        let world = self.world;
        let meta = world.rsc(rsc).meta;
        if !meta.is_firm {
            return None;
        }
        let held_on = meta.held_on.as_ref().and_then(|node| world.node_by_name.get(node.as_str()).copied());
        let here = world.current_node(rsc).or(held_on)?;
        let score = |node: NodeIx| self.score(rsc, node).filter(|_| self.is_usable_with_host(node));
        let own = score(here).filter(|score| self.allows(*score))?;
        let is_called_away = || world.node_ixs().any(|node| score(node).is_some_and(Score::is_must));
        (own.is_must() || !is_called_away()).then_some(here)
    }

    fn choose(&mut self, rsc: RscIx, prefer: Option<NodeIx>) {
        let world = self.world;
        let mut asked_for = Decider::Asked;
        let prefer = if self.world.situation.options.strategy == Strategy::Default {
            prefer
        } else {
            let roomiest = self.fit_capacity(rsc);
            if prefer.is_none() {
                asked_for = Decider::MostRoom;
            }
            prefer.or(roomiest)
        };
        let Some(best) = self.best_candidate(rsc) else {
            self.settle_on(rsc, None, false, Decider::NoNode);
            return;
        };
        let score = |node: NodeIx| self.score(rsc, node).unwrap_or(Score::MUST_NOT);
        let is_open = |node: NodeIx| self.is_usable_with_host(node);
        let preferred = prefer
            .filter(|node| self.score(rsc, *node).is_some())
            .filter(|node| score(*node) >= score(best) && self.allows(score(*node)) && is_open(*node));
        let chosen = preferred.unwrap_or_else(|| {
            let is_unique_instance = self.world.clone_of(rsc).is_some_and(|clone| self.world.rsc(clone).is_unique);
            let current = self.world.current_node(rsc);
            match current {
                Some(current)
                    if !is_unique_instance
                        && (score(best) > Score::ZERO || world.situation.options.points_only_rank)
                        && is_open(best)
                        && score(current) == score(best)
                        && is_open(current) =>
                {
                    current
                }
                _ => best,
            }
        });
        if let Some(here) = self.firm_place(rsc).filter(|here| *here != chosen) {
            self.settle_on(rsc, Some(here), false, Decider::Firm);
            return;
        }
        let choice = match self.criterion(rsc, chosen) {
            // It is the preferred one among equals.
            Decider::Stays | Decider::FewerResources | Decider::Name | Decider::MoreRoom
                if preferred == Some(chosen) && self.world.current_node(rsc) != Some(chosen) =>
            {
                asked_for
            }
            decided => decided,
        };
        self.settle_on(rsc, Some(chosen), false, choice);
    }

    /// Gives it the node, or none if it may not run there and is not forced to.
    pub(super) fn settle_on(&mut self, rsc: RscIx, node: Option<NodeIx>, is_forced: bool, choice: Decider) {
        let at = rsc.0 as usize;
        let node = node.filter(|node| {
            let may_run = self.score(rsc, *node).is_some_and(|score| self.allows(score))
                && (self.is_usable(*node) || self.world.node(*node).is_guest());
            // Guests are trusted to come up with their containers.
            is_forced || may_run
        });
        if let Some(old) = self.node[at] {
            self.release(rsc, old);
        }
        self.note(rsc, node, if node.is_none() && !is_forced { Decider::NoNode } else { choice });
        self.is_assigned[at] = true;
        self.node[at] = node;
        match node {
            None => self.goal[at] = Role::Stopped,
            Some(node) => {
                self.load[node.0 as usize] += 1;
                self.use_capacity(rsc, node);
                if self.goal[at] == Role::Unknown {
                    self.goal[at] = Role::Started;
                }
            }
        }
    }

    /// Takes a place back.
    pub(super) fn unassign(&mut self, rsc: RscIx) {
        let world = self.world;
        for primitive in world.primitives(rsc) {
            let at = primitive.0 as usize;
            if let Some(node) = self.node[at] {
                self.release(primitive, node);
            }
            self.node[at] = None;
            self.is_assigned[at] = false;
            self.goal[at] = world.rsc(primitive).goal;
        }
        self.is_assigned[rsc.0 as usize] = false;
        self.node[rsc.0 as usize] = None;
        self.goal[rsc.0 as usize] = world.rsc(rsc).goal;
    }

    fn release(&mut self, rsc: RscIx, node: NodeIx) {
        self.load[node.0 as usize] = self.load[node.0 as usize].saturating_sub(1);
        self.free_capacity(rsc, node);
    }
}

/// Sorts nodes by merging halves. Votes on capacity may go round in a circle, on which the sort of the standard library
/// panics; what comes out then depends on the way of sorting, so that it is spelt out.
pub(super) fn sorted(mut nodes: Vec<NodeIx>, compare: &dyn Fn(NodeIx, NodeIx) -> Ordering) -> Vec<NodeIx> {
    if nodes.len() < 2 {
        return nodes;
    }
    let right = sorted(nodes.split_off(nodes.len().div_ceil(2)), compare);
    let mut left = sorted(nodes, compare).into_iter().peekable();
    let mut right = right.into_iter().peekable();
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if compare(*a, *b).is_le() { left.next() } else { right.next() };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}
