//! What have we agreed on, in which order, and who leads?
//!
//! ```text
//!   Message ──┐                              ┌─► Send       (a datagram or a stream)
//!   Propose ──┤   gate ─► raft ─► ready ─►   ├─► Persist    (answered by Persisted)
//!   Persisted ┼─►  ▲                         ├─► Committed, Install, MembershipChanged
//!   Peers ────┤    └ election by detector    ├─► RoleChanged
//!   Tick ─────┘                              └─► Refused
//! ```
//!
//! One replicated log, kept by the `raft` crate, which nothing else in Cardea names: terms, votes, replication,
//! membership and snapshots are its work; the timing of elections, the format of messages and records, and the
//! check of everything that comes from the network are ours.
//!
//! Pure: no I/O, clock or thread, and the same inputs give the same actions.

mod config;
mod consensus;
mod election;
mod log;
mod message;
mod record;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use consensus::{Action, ChangeRefusal, Committed, Consensus, Input, MembershipChange, Refusal, Role};
pub use election::PeerFacts;
pub use message::{Message, MessageKind, MessageRefusal};
pub use record::{ConsensusError, Stored, founding, joining};
