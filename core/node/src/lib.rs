//! All of one node but its heartbeats, as one machine: what to do about what happened?
//!
//! ```text
//!   PulseReport ─┐                                       ┌─► Send, PulseOrder
//!   Message ─────┤  consensus ─► state ─► scheduler ─►   ├─► Persist
//!   Persisted ───┼─►                     dispatcher      ├─► Call, FenceCall
//!   CallDone ────┤  judge ─► Condemn ─► fencing          ├─► Answer, Event
//!   Request ─────┘           executor                    └─► Halt
//! ```
//!
//! `Node` owns the machines by value, steps them, and turns their actions into its own or into inputs of their
//! neighbours. `Pulse` is the other half of a node and lives in `liveness`; the two meet in `PulseReport` and
//! `PulseOrder` only, so that either may stall without the other.
//!
//! In: inputs with the time at which they happened. Out: actions; what an action brings about is a later input.
//! Not here: sockets, disks, processes (the driver's), what a heartbeat proves (`liveness`).

mod addresses;
mod closing;
mod digests;
mod input;
mod leader;
mod live;
mod node;
mod proven_off;
mod renew;
mod rivals;
mod sick;
mod view;

pub use addresses::{Addresses, Place, Unproven};
pub use input::{Action, Answer, Event, Halt, Identity, Input, Moment, Request, Settings, Start, StartError};
pub use node::Node;
pub use view::View;
