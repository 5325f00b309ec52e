//! What do nodes say to each other, as bytes?
//!
//! ```text
//!   heartbeat:  56 bytes of header, in the clear │ Beat (CBOR), sealed │ 16 bytes of tag
//!   message:    version │ Message (CBOR); as a sealed datagram or a frame of a TLS stream
//! ```
//!
//! CBOR fields are numbered and unknown ones are skipped, so that versions can be mixed during an upgrade: a new field
//! is optional, a new kind of message is dropped by who does not know it, and a number is never used twice. Frozen
//! samples in `tests/frozen/` keep it so. Bytes come from the network: whatever they are, decoding gives a value or
//! an error, and never allocates more than a small multiple of their length.
//!
//! Not here: the seal itself (`io/transport`), what the words mean (`liveness`, `consensus`, `executor`).

mod beat;
mod message;

pub use beat::{HEADER_BYTES, decode_beat, decode_header, encode_beat, encode_header};
pub use message::{Announce, DATAGRAM_BYTES_MAX, Message, decode, encode};

/// Why bytes are no heartbeat and no message. They are dropped and counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Too short to be anything.
    #[error("{found} bytes are too few")]
    Short {
        /// How many there were.
        found: usize,
    },
    /// Not ours, or of a version that this build does not speak.
    #[error("not a Cardea {what} of version {known}")]
    Foreign {
        /// What was expected.
        what: &'static str,
        /// The version that this build speaks.
        known: u8,
    },
    /// The body makes no sense.
    #[error("damaged {what}: {cause}")]
    Damaged {
        /// What was expected.
        what: &'static str,
        /// What is wrong.
        cause: String,
    },
}
