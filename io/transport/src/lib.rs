//! How do bytes travel between the nodes of a cluster, so that only members can read or make them?
//!
//! ```text
//!   heartbeats ──────► beats ─────┐  sealed ──► one UDP socket per link
//!   small messages ──► datagrams ─┘  (seal)
//!   everything else ─► streams ─────► mutual TLS 1.3 between members ──► TCP, best link first
//!   a new node ──────► join ────────► TLS, the authority pinned by a one-time token
//! ```
//!
//! There is no plaintext mode. Nothing here knows what the bytes mean (`core/wire` does) and nothing
//! here decides who is a member (`core/state` does; `allow_list` holds what it decided). What comes from the network is refused and
//! counted, never asserted on.

mod allow_list;
mod beats;
mod datagrams;
mod files;
mod hex;
mod identity;
mod interfaces;
mod join;
mod replay;
mod seal;
mod slots;
mod sockets;
mod streams;
mod tls;

pub use allow_list::AllowList;
pub use beats::{BeatSockets, Drained, Packet};
pub use datagrams::{DatagramConfig, DatagramReceiver, DatagramSender, MESSAGE_BYTES_MAX, TooLong, Way, datagrams};
pub use identity::{
    Authority, Identity, IdentityError, NodeKey, Renewal, create_authority, issue, load_identity, public_key_hash,
    renew,
};
pub use interfaces::{InterfaceAddress, has_address, interface_addresses};
pub use join::{JoinAnswer, JoinError, JoinRequest, JoinToken, TokenError, join};
pub use seal::{ClusterKey, Label, Opener, Sealer, TAG_BYTES, random_salt};
pub use sockets::{SocketError, Waker};
pub use streams::{
    Answer, Handler, JOIN_BYTES_MAX, REQUEST_BYTES_MAX, Reply, RequestError, STREAM_MESSAGE_BYTES_MAX, Streams,
    StreamsConfig, StreamsError, StreamsHandle,
};
