//! What should change? A plan: where every unit should run, and the steps towards it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{NodeId, ResourceName, UnitName};

/// The scheduler's answer for one state. Equal states give equal plans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Where each unit should run, and why.
    pub decisions: BTreeMap<UnitName, Decision>,
    /// What must change. A step may begin when no step of `after` is in the plan any more: the plan is made
    /// anew after every change, so that only steps with empty `after` are ever begun.
    pub steps: Vec<Step>,
    /// Members that keep an exclusive unit from a node that could take it now, as long as they are not proven off: it may
    /// run there, and they cannot be reached or could not stop it. Whoever leads condemns them after a while.
    #[serde(skip)]
    pub blocked_by: BTreeMap<UnitName, BTreeSet<NodeId>>,
}

/// Where one unit should run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The node; none: it should be stopped, or it must wait.
    pub node: Option<NodeId>,
    /// Why, as a sentence for an operator.
    pub reason: String,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What to do.
    pub kind: StepKind,
    /// The unit it serves.
    pub unit: UnitName,
    /// The node it happens on.
    pub node: NodeId,
    /// Why, as a sentence for an operator.
    pub reason: String,
    /// Positions in [`Plan::steps`] that come first.
    pub after: Vec<usize>,
}

/// The kinds of change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Find out whether the resource runs there.
    Probe(ResourceName),
    /// Give the unit to the node.
    Grant,
    /// Start the resource under the node's grant.
    Start(ResourceName),
    /// Mark the unit as leaving the node; nothing of it is started there any more.
    BeginRelease,
    /// Stop the resource.
    Stop(ResourceName),
    /// Record that nothing of the unit runs there.
    Release,
}
