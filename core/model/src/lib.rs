//! The nouns of a cluster as plain data: what every other crate talks about.
//!
//! ```text
//!   ids, time ─► cluster (what is wanted) ─┐
//!                operation (what is done)  ├─► state (what is agreed) ─► plan (what should change)
//!                disk (what is stored)     ┘
//!   situation: the same, as the scheduler sees it, whoever wrote it
//! ```
//!
//! Nothing here decides anything: no I/O, no clock, no chance. Types that cross the network or
//! reach the disk carry numbered minicbor fields; a number is never used twice (rolling upgrades).

mod cluster;
mod disk;
mod ids;
mod leaning;
mod operation;
mod plan;
mod planted;
mod problem;
pub mod situation;
mod state;
mod time;

pub use cluster::{
    AfterFence, AgentName, AgentNameError, Class, ClusterConfig, Domain, FenceConfig, GroupConfig, MonitorConfig,
    NetworkConfig, NodeConfig, NodeRole, ParameterValue, Placement, Profile, ResourceConfig, Staying, Timeouts, Unit,
};
pub use disk::{Table, Write};
pub use ids::{
    ConfigVersion, Epoch, FenceName, GrantId, GroupName, IDENTITY_BYTES_MAX, Incarnation, LinkId, LogIndex, NodeId,
    NodeName, ResourceName, Term, UnitName,
};
pub use leaning::{Binding, Copies, Leaning, OnLoss, Promotion, Sequence, Spread, TicketNeed, Tie, Weight};
pub use operation::{
    AgentAction, AgentCall, CallKey, FenceAction, FenceCall, FenceOutcome, FenceStatus, Op, OpId, OpResult, Outcome,
};
pub use plan::{Decision, Plan, Step, StepKind};
pub use planted::{Bug, Bugs};
pub use problem::{Problem, ProblemKind, Severity};
pub use state::{
    ActionKind, ClusterState, ConfigRecord, Failures, FenceEvidence, FenceMethod, HistoryEntry, Holder, HolderState,
    Known, LifeEnd, Member, MemberState, OperatorAction, ResourceState, TokenRecord,
};
pub use time::{Instant, WallTime};
