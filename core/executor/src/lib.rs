//! Who starts and stops resources, once and in order?
//!
//! ```text
//!   Plan ─► Dispatcher (on the leader) ──Op──► Executor (on every node) ─► AgentCall
//!               │  ▲                              │     ▲
//!               ▼  └── Result, Changed, Inventory ┘     └── CallDone, Exited
//!        Grant, Release, Observed, … (to the log)
//! ```
//!
//! The dispatcher is forgetful: a new leader begins with what the inventories of the nodes say. The executor
//! remembers: what it began is in its journal before it begins, so that an operation runs at most once, whatever is
//! lost, repeated, delayed or killed.
//!
//! Source: the rules of SAFETY §4.2–4.6.

mod conclusion;
mod dispatcher;
mod executor;
mod journal;
mod message;

pub use dispatcher::{ANSWER_LIMIT, ARRIVAL_LIMIT, Dispatcher, DispatcherAction, DispatcherInput};
pub use executor::{Executor, ExecutorAction, ExecutorInput, OWN_STOP};
pub use journal::JournalError;
pub use message::{Change, ExecutorMessage, InFlight, Inventory, InventoryItem};
