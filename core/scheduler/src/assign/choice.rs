//! What decided where a primitive goes, once its scores were there? Noted where somebody asked.
//!
//! In: the moment at which a node is given. Out: the scores of that moment, and the criterion that decided.
//! Not here: the choice itself (`primitive.rs`), sentences (`reasons/`).

use model::situation::{Score, Strategy};
use serde::Serialize;

use super::{Assigner, Table};
use crate::world::{NodeIx, RscIx};

/// What decided where something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decider {
    /// It is not managed: it stays what and where it is.
    Unmanaged,
    /// Everything is to stop.
    StopsAll,
    /// It must be beside something that is nowhere near.
    LacksPartner,
    /// No node may run it.
    NoNode,
    /// One node may run it.
    OnlyOne,
    /// More speaks for it than for any other.
    Score,
    /// As much speaks for another, and it runs here.
    Stays,
    /// More speaks for another, but points do not move it from where it is.
    Firm,
    /// As much speaks for another; a live migration, or what it is part of, asked for this one.
    Asked,
    /// All that belongs together fits nowhere, and this node has the most room.
    MostRoom,
    /// As much speaks for another, and this node has more room.
    MoreRoom,
    /// As much speaks for another, and this node has fewer resources.
    FewerResources,
    /// As much speaks for another; this one comes first by name.
    Name,
}

/// How a primitive got its node, or none.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub node: Option<NodeIx>,
    pub choice: Decider,
    /// What spoke for and against each node.
    pub table: Table,
    /// By node: can it take anything?
    pub is_usable: Vec<bool>,
    /// By node: how many resources had it already.
    pub load: Vec<u32>,
}

impl Assigner<'_, '_> {
    /// Does somebody want to know how this resource gets its place?
    pub(super) fn is_asked(&self, rsc: RscIx) -> bool {
        self.asked.get(rsc.0 as usize).copied().unwrap_or(false)
    }

    /// Notes how a primitive gets its place.
    pub(super) fn note(&mut self, rsc: RscIx, node: Option<NodeIx>, choice: Decider) {
        if !self.is_asked(rsc) {
            return;
        }
        let settled = Settled {
            node,
            choice,
            table: self.tables[rsc.0 as usize].clone(),
            is_usable: self
                .world
                .node_ixs()
                .map(|at| self.is_usable(at) || (node == Some(at) && self.world.node(at).is_guest()))
                .collect(),
            load: self.load.clone(),
        };
        self.settled.insert(rsc, settled);
    }

    /// What decided for a node, by the scores and places of this moment.
    pub(super) fn criterion(&self, rsc: RscIx, chosen: NodeIx) -> Decider {
        if !self.is_asked(rsc) {
            return Decider::Score;
        }
        let score = |node: NodeIx| self.score(rsc, node).unwrap_or(Score::MUST_NOT);
        let current = self.world.current_node(rsc);
        let is_open = |node: &NodeIx| self.allows(score(*node)) && self.is_usable(*node);
        let others: Vec<NodeIx> = self.world.node_ixs().filter(|node| *node != chosen).filter(is_open).collect();
        let equals: Vec<NodeIx> = others.iter().copied().filter(|node| score(*node) == score(chosen)).collect();
        let Some(rival) = equals.iter().copied().min_by_key(|node| self.load[node.0 as usize]) else {
            return if others.is_empty() { Decider::OnlyOne } else { Decider::Score };
        };
        let strategy = self.world.situation.options.strategy;
        let is_roomier =
            strategy == Strategy::Balanced && equals.iter().all(|other| self.compare_capacity(chosen, *other).is_lt());
        if is_roomier {
            Decider::MoreRoom
        } else if Some(chosen) == current {
            Decider::Stays
        } else if strategy != Strategy::Minimal && self.load[chosen.0 as usize] < self.load[rival.0 as usize] {
            Decider::FewerResources
        } else {
            Decider::Name
        }
    }
}
