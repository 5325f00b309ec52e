//! Whom does this node hear, and who is down?
//!
//! ```text
//!   datagrams ─► Pulse ──PeerReport──► Judge (where the leader is) ─► Down, Condemn
//!      ▲           │ └──────────────► consensus: election by detector
//!      └── beats ──┘
//! ```
//!
//! [`Pulse`] sends heartbeats over every link and gives one node's verdict about each peer. [`Judge`] adds what the
//! other members hear and decides who is down, and when that is sure enough to condemn.
//!
//! Verdicts are local and may be wrong; nothing here grants or frees anything. That a condemned node runs nothing
//! any more is proven by fencing, elsewhere.

mod beat;
mod exchange;
mod judge;
mod link;
mod peer;
mod pulse;
#[cfg(test)]
mod testing;
mod timebase;
mod timing;
mod window;

pub use beat::{Age, Beat, BeatFlags, BeatHeader, BeatKind, Echo, Facts, Health};
pub use exchange::{
    LinkReport, LinkState, OwnIdentity, Path, PeerOrder, PeerReport, PulseOrder, PulseReport, Rival, Verdict,
};
pub use judge::{Judge, JudgeAction, JudgeInput, JudgeMember};
pub use pulse::{Counters, Progress, Pulse, PulseAction, PulseInput, Received};
pub use timing::Timing;
