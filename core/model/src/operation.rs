//! What is done? One start, stop or monitor of a resource; one call of a fence agent.

use std::collections::BTreeMap;
use std::time::Duration;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{AgentName, Epoch, FenceName, GrantId, Incarnation, NodeName, ParameterValue, ResourceName, UnitName};

/// Identifies an operation; ordered, and unique for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
pub struct OpId {
    /// The leader's epoch.
    #[n(0)]
    pub epoch: Epoch,
    /// Counts the leader's operations, from 1.
    #[n(1)]
    pub index: u64,
}

/// What an agent of a resource is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentAction {
    /// Make it run.
    #[n(0)]
    Start,
    /// Make it not run.
    #[n(1)]
    Stop,
    /// Does it run?
    #[n(2)]
    Monitor,
}

/// An order of the leader to the executor of one node (SAFETY §4.2).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Op {
    /// Which operation.
    #[n(0)]
    pub id: OpId,
    /// The incarnation of the node that is meant.
    #[n(1)]
    pub incarnation: Incarnation,
    /// The unit of the resource.
    #[n(2)]
    pub unit: UnitName,
    /// The resource.
    #[n(3)]
    pub resource: ResourceName,
    /// What to do; `Monitor` is a probe, whose answer is an observation.
    #[n(4)]
    pub action: AgentAction,
    /// The grant under which a start runs, or which a stop ends; none for a probe and for the stop of an orphan.
    #[n(5)]
    pub grant: Option<GrantId>,
    /// The agent.
    #[n(6)]
    pub agent: AgentName,
    /// What the agent is told. A stop uses what the start was told, where the executor's journal knows it.
    #[n(7)]
    pub parameters: BTreeMap<String, ParameterValue>,
    /// Limit of the operation.
    #[n(8)]
    pub timeout: Duration,
    /// From the end of one check to the start of the next, once it runs; zero: never.
    #[n(9)]
    pub monitor_every: Duration,
    /// Limit of one check.
    #[n(10)]
    pub monitor_timeout: Duration,
    /// The start may take for granted that no other node is active (every earlier holder is proven gone).
    #[n(11)]
    pub is_proven_free: bool,
    /// Digest of agent and parameters (`state::parameters_digest`).
    #[n(12)]
    pub digest: u64,
}

/// The answer of an agent. One that we dislike is no error.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub enum Outcome {
    /// Start or stop done; the monitor found it running.
    #[n(0)]
    Success,
    /// The monitor found it not running.
    #[n(1)]
    NotRunning,
    /// It did not work; `reason` says why, in words for an operator.
    #[n(2)]
    Failed {
        /// Why.
        #[n(0)]
        reason: String,
        /// Will another try on this node give the same answer (not installed, not configured)?
        #[n(1)]
        is_permanent: bool,
    },
    /// No answer in time; everything that carried the operation's mark was ended.
    #[n(3)]
    TimedOut,
    /// No answer in time, and something of it cannot be ended.
    #[n(4)]
    Stuck {
        /// What is left.
        #[n(0)]
        reason: String,
    },
    /// The question could not be put, or the agent could not answer it: the resource may run or not.
    ///
    /// Never read it as "not running" (SAFETY §10.3).
    #[n(5)]
    Unknown {
        /// Why.
        #[n(0)]
        reason: String,
        /// Will another try on this node give the same answer until somebody repairs something?
        #[n(1)]
        is_permanent: bool,
    },
    /// The agent could not begin, and no process of the resource is there. Another try on this node gives the same
    /// answer until somebody repairs something (agent missing, parameters wrong or unreadable).
    ///
    /// Of a start or a stop. What was stopped before is stopped still; of anything else it proves nothing.
    #[n(6)]
    NotBegun {
        /// Why.
        #[n(0)]
        reason: String,
    },
}

/// What an executor reports about an operation.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OpResult {
    /// Which operation.
    #[n(0)]
    pub id: OpId,
    /// The reporting incarnation.
    #[n(1)]
    pub incarnation: Incarnation,
    /// The resource.
    #[n(2)]
    pub resource: ResourceName,
    /// What was asked.
    #[n(3)]
    pub action: AgentAction,
    /// The grant of the operation.
    #[n(4)]
    pub grant: Option<GrantId>,
    /// The answer; `Err` says why the operation was refused and that nothing was run.
    #[n(5)]
    pub outcome: Result<Outcome, String>,
    /// Digest of the agent and parameters that it runs with.
    #[n(6)]
    pub digest: u64,
}

/// Identifies one call of an agent on this node; new for every call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct CallKey {
    /// The operation that the call serves; recurring checks carry that of the start.
    #[n(0)]
    pub op: OpId,
    /// Counts the calls for that operation, from 0.
    #[n(1)]
    pub attempt: u64,
}

/// One call of a resource agent, as `io/agents` runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCall {
    /// Which call; the mark `CARDEA_OP=<epoch>.<index>.<attempt>` in the environment.
    pub key: CallKey,
    /// The resource.
    pub resource: ResourceName,
    /// The agent.
    pub agent: AgentName,
    /// What to do.
    pub action: AgentAction,
    /// What the agent is told.
    pub parameters: BTreeMap<String, ParameterValue>,
    /// Limit of the call.
    pub timeout: Duration,
    /// No other node can be active (see [`Op::is_proven_free`]).
    pub is_proven_free: bool,
    /// A worker that was here before may have begun this call: look for its processes by the mark and wait for them
    /// instead of running it twice; if there are none, run `Monitor` instead and answer with what it found.
    pub is_adoption: bool,
    /// The call whose processes are the service itself, if this node started it (`cardea:process`).
    pub started_by: Option<CallKey>,
}

/// What a fence agent is asked to do. Never `reboot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FenceAction {
    /// Cut it off.
    #[n(0)]
    Off,
    /// Let it boot.
    #[n(1)]
    On,
    /// Is it on?
    #[n(2)]
    Status,
}

/// One call of a fence agent, as `io/agents` runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceCall {
    /// Which call; unique in this process.
    pub key: u64,
    /// The device.
    pub device: FenceName,
    /// The agent of the device.
    pub agent: String,
    /// The node that is meant.
    pub target: NodeName,
    /// What the device calls it.
    pub plug: String,
    /// What to do.
    pub action: FenceAction,
    /// What the agent is told.
    pub parameters: BTreeMap<String, ParameterValue>,
    /// Limit of the call; the agent is killed when it passes.
    pub timeout: Duration,
    /// Does it only find out whether the device could be used? Then whatever is wrong is an answer.
    pub is_test: bool,
}

/// What a device says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FenceStatus {
    /// It has power.
    #[n(0)]
    On,
    /// It has none.
    #[n(1)]
    Off,
}

/// The answer of a fence agent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FenceOutcome {
    /// The agent says that it is done (`Off`, `On`). Proves nothing by itself.
    #[n(0)]
    Done,
    /// What `Status` found.
    #[n(1)]
    Status(#[n(0)] FenceStatus),
    /// It failed or gave no answer in time.
    #[n(2)]
    Failed {
        /// Why, in words for an operator.
        #[n(0)]
        reason: String,
    },
}
