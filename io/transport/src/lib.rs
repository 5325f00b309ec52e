//! How do bytes travel between the nodes of a cluster, so that only members can read or make them?
mod beats;
mod datagrams;
mod files;
mod hex;
mod replay;
mod seal;
mod sockets;

pub use beats::{BeatSockets, Drained, Packet};
pub use datagrams::{DatagramConfig, DatagramReceiver, DatagramSender, MESSAGE_BYTES_MAX, TooLong, datagrams};
pub use seal::{ClusterKey, Label, Opener, Sealer, TAG_BYTES, random_salt};
pub use sockets::{SocketError, Waker};
