//! What may people ask, and what do they get to see?
//!
//! ```text
//!   CLI, page ──Request──► daemon ──► Reply | Refused
//!             ◄──Status, Event, Explanation (JSON, versioned)
//! ```
//!
//! One set of types for every client. Fields are only ever added; a field that changes its meaning gets a new name.
//! Not here: HTTP, sockets, how things are drawn (`apps/cardea`).

mod event;
mod request;
mod status;

pub use event::{Event, EventKind};
pub use request::{CONFIRM_ALL, FenceTestResult, Refused, RefusedCode, Reply, Request};
pub use status::{
    ActionStatus, Explanation, Fault, HistoryItem, LinkStatus, NodeExplanation, NodeStatus, PlanStatus, ResourceStatus,
    Status, StepStatus, VersionItem,
};

/// Version of the JSON that this crate describes; in every answer as `version`.
pub const VERSION: u32 = 1;
