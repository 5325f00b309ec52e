//! What speaks for and against nodes and neighbours? The words of the cluster file beyond names and timers.
//!
//! Here is what an operator wrote, with names that exist. Not here: what follows from it (`scheduler`).

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{NodeName, UnitName};

/// How much something is wanted, or not wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub enum Weight {
    /// Without exception.
    #[default]
    #[n(0)]
    Must,
    /// With so many points against those of others, 1 to 999999.
    #[n(1)]
    Points(#[n(0)] u32),
}

/// What speaks for and against nodes and neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Leaning {
    /// Nodes that it likes, with points.
    #[n(0)]
    pub prefer: BTreeMap<NodeName, u32>,
    /// Nodes where it must not or would rather not run.
    #[n(1)]
    pub avoid: BTreeMap<NodeName, Weight>,
    /// It runs on no other node; empty: on any.
    #[n(2)]
    pub only: BTreeSet<NodeName>,
    /// Units that it follows: they choose first.
    #[n(3)]
    pub with: BTreeMap<UnitName, Tie>,
    /// Units that it keeps away from: they choose first.
    #[n(4)]
    pub apart: BTreeMap<UnitName, Tie>,
}

/// How one unit goes with another, or keeps away from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Tie {
    /// How binding it is.
    #[n(0)]
    pub weight: Weight,
    /// Only copies of the other that lead count.
    #[n(1)]
    pub to_promoted: bool,
    /// The attribute of nodes that is compared, such as `rack`; none: the node itself.
    #[n(2)]
    pub by: Option<String>,
}

/// How one unit comes after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Sequence {
    /// How binding it is.
    #[n(0)]
    pub binding: Binding,
    /// It waits until copies of the other lead.
    #[n(1)]
    pub to_promoted: bool,
}

/// How binding an order is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub enum Binding {
    /// The other must have started; what becomes of it later does not matter.
    #[default]
    #[n(0)]
    Started,
    /// The other must run all the time: it stops before the other and restarts with it.
    #[n(1)]
    Running,
    /// Only where both start, or both stop.
    #[n(2)]
    IfStarting,
}

/// How often a unit runs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Copies {
    /// How many there are; none: one for each node.
    #[n(0)]
    pub count: Option<u32>,
    /// How many may run on one node; at least 1.
    #[n(1)]
    pub per_node: u32,
    /// Some of the copies lead.
    #[n(2)]
    pub promotion: Option<Promotion>,
}

/// Which copies lead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Promotion {
    /// How many lead.
    #[n(0)]
    pub count: u32,
    /// What speaks for and against leading somewhere.
    #[n(1)]
    pub leaning: Leaning,
    /// Units that must run before a copy is made to lead.
    #[n(2)]
    pub after: BTreeMap<UnitName, Sequence>,
}

/// A unit runs only while this site has a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TicketNeed {
    /// Which ticket.
    #[n(0)]
    pub ticket: String,
    /// What happens when it is lost.
    #[n(1)]
    pub on_loss: OnLoss,
    /// It is needed to lead, not to run.
    #[n(2)]
    pub to_lead: bool,
}

/// What happens when a ticket is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub enum OnLoss {
    /// It stops.
    #[default]
    #[n(0)]
    Stop,
    /// What leads follows.
    #[n(1)]
    Demote,
    /// The nodes where it runs are fenced.
    #[n(2)]
    Fence,
    /// Hands off.
    #[n(3)]
    Freeze,
}

/// How load is spread over nodes that are equally liked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub enum Spread {
    /// The fewest resources; what they need does not matter.
    #[default]
    #[n(0)]
    Even,
    /// The fewest resources, but nothing goes where it does not fit.
    #[n(1)]
    Capacity,
    /// The most room left; nothing goes where it does not fit.
    #[n(2)]
    Room,
    /// Few nodes are filled up; nothing goes where it does not fit.
    #[n(3)]
    Fill,
}
