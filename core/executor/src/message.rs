//! What do the leader and the executors tell each other?
//!
//! Every message may be lost, repeated or late. The leader repeats an `Op` until its `Result`; an executor answers a
//! repeated one with `Accepted` while it is not done, and repeats
//! `Result` and `Changed` until the agreed state shows them or an `Ack` arrives; the leader repeats `AskInventory`.
//!
//! Not here: how messages travel (`core/wire`, `io/transport`).

use std::time::Duration;

use minicbor::{Decode, Encode};
use model::{AgentAction, Epoch, GrantId, Incarnation, LogIndex, Op, OpId, OpResult, ResourceName, ResourceState};

/// One message between a leader's dispatcher and an executor.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ExecutorMessage {
    /// To an executor: do this.
    #[n(0)]
    Op(#[n(0)] Op),
    /// To the leader: what became of an operation.
    #[n(1)]
    Result(#[n(0)] OpResult),
    /// To the leader: a resource changed by itself.
    #[n(2)]
    Changed(#[n(0)] Change),
    /// To an executor: this report needs no repetition.
    #[n(3)]
    Ack {
        /// The resource.
        #[n(0)]
        resource: ResourceName,
        /// The operation of the report.
        #[n(1)]
        op: OpId,
        /// Was it a `Changed`? Else a `Result`.
        #[n(2)]
        is_change: bool,
    },
    /// To an executor: obey no older leader any more, and say what you know.
    #[n(4)]
    AskInventory {
        /// The asking leader's epoch.
        #[n(0)]
        epoch: Epoch,
    },
    /// To the leader: what the executor knows.
    #[n(5)]
    Inventory {
        /// The epoch of the question.
        #[n(0)]
        epoch: Epoch,
        /// The answer.
        #[n(1)]
        inventory: Inventory,
    },
    /// To the leader: this order arrived and is being carried out, or waits here for its turn. Answers an order that was
    /// repeated; nothing is owed until the next repetition.
    #[n(6)]
    Accepted {
        /// The resource.
        #[n(0)]
        resource: ResourceName,
        /// The operation.
        #[n(1)]
        op: OpId,
    },
}

impl ExecutorMessage {
    /// Is it for an executor? Else it is for the leader's dispatcher.
    pub fn is_for_executor(&self) -> bool {
        match self {
            ExecutorMessage::Op(_) | ExecutorMessage::Ack { .. } | ExecutorMessage::AskInventory { .. } => true,
            ExecutorMessage::Result(_)
            | ExecutorMessage::Changed(_)
            | ExecutorMessage::Inventory { .. }
            | ExecutorMessage::Accepted { .. } => false,
        }
    }
}

/// A resource changed without an operation: it died, or a recurring check failed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Change {
    /// The resource.
    #[n(0)]
    pub resource: ResourceName,
    /// The reporting incarnation.
    #[n(1)]
    pub incarnation: Incarnation,
    /// The last operation before the change.
    #[n(2)]
    pub op: OpId,
    /// What it is in now.
    #[n(3)]
    pub state: ResourceState,
    /// Why, in words for an operator.
    #[n(4)]
    pub reason: String,
    /// Digest of the agent and parameters that it ran with.
    #[n(5)]
    pub digest: u64,
    /// The grant that it ran under, if it was started by an operation.
    #[n(6)]
    pub grant: Option<GrantId>,
}

/// What an executor knows of this node's resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Inventory {
    /// The answering incarnation.
    #[n(0)]
    pub incarnation: Incarnation,
    /// The newest epoch that it has heard of.
    #[n(1)]
    pub max_epoch: Epoch,
    /// The last log index it has applied.
    #[n(2)]
    pub applied: LogIndex,
    /// Every resource that an operation was ever run for in this incarnation.
    #[n(3)]
    pub resources: Vec<InventoryItem>,
    /// Does this executor answer a repeated order with [`ExecutorMessage::Accepted`]?
    #[n(4)]
    #[cbor(default)]
    pub acknowledges: bool,
}

/// What an executor knows of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct InventoryItem {
    /// The resource.
    #[n(0)]
    pub resource: ResourceName,
    /// Its state after the last finished operation and what changed since.
    #[n(1)]
    pub state: ResourceState,
    /// The grant of its last start.
    #[n(2)]
    pub grant: Option<GrantId>,
    /// The operation that runs at this moment.
    #[n(3)]
    pub op: Option<InFlight>,
    /// The last finished operation; zero if none is.
    #[n(4)]
    pub last: OpId,
    /// Why it is in this state, in words for an operator; empty if all is as asked.
    #[n(5)]
    pub reason: String,
    /// Digest of the agent and parameters it runs with; zero if it does not run or nobody knows.
    #[n(6)]
    pub digest: u64,
}

/// An operation that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct InFlight {
    /// Which.
    #[n(0)]
    pub id: OpId,
    /// What it does.
    #[n(1)]
    pub action: AgentAction,
    /// Its limit, counted from its begin.
    #[n(2)]
    pub timeout: Duration,
}
