//! What has the cluster agreed on, and what may change it?
//!
//! ```text
//!   Entry { at, actor, command } ──Raft──► apply ─┬─► kernel    who may run what: the exclusion rules
//!                                                 │   elsewhere what may run where nobody holds it
//!                                                 ├─► members   who belongs: Admit, Join, Leave, flap damping
//!                                                 ├─► observe   what was seen of each resource
//!                                                 └─► wishes    configuration, operators' actions, tokens
//!                                                        │
//!                                   ClusterState ◄───────┴───► history
//! ```
//!
//! `apply` is deterministic: equal states and equal entries give equal states on every node. It reads no clock;
//! time comes inside the entry. Whoever proposes may be wrong: every rule is judged here, and an entry that breaks
//! one changes nothing but the counter of refusals.
//!
//! Not here: what should change (`scheduler`), how entries become agreed (`consensus`).

mod apply;
mod command;
mod elsewhere;
mod invariants;
mod kernel;
mod members;
mod observe;
mod refusal;
mod snapshot;
mod wishes;

pub use apply::{Applied, HISTORY_WORDS, apply};
pub use command::{CodecError, Command, Entry, Failure, LEVEL, Observation};
pub use elsewhere::why_not_leave;
pub use invariants::check_invariants;
pub use kernel::domains;
pub use members::{Founder, founding, is_suppressed};
pub use refusal::Refusal;
pub use snapshot::{decode_snapshot, decode_snapshot_at, digest, encode_snapshot, parameters_digest};
pub use wishes::{action_key, check_config, check_version, is_in_maintenance};
