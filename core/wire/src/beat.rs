//! A heartbeat as bytes.
//!
//! ```text
//!    0  'C' 'b'      magic
//!    2  version      1
//!    3  link
//!    4  key epoch    big endian, like all that follow
//!    8  cluster
//!   16  sender
//!   24  receiver
//!   32  salt         16 bytes
//!   48  seq
//!   56  sealed beat
//! ```

use liveness::{Beat, BeatHeader};
use model::{LinkId, NodeId};

use crate::WireError;

/// Length of the clear header.
pub const HEADER_BYTES: usize = 56;

const MAGIC: [u8; 2] = *b"Cb";
const VERSION: u8 = 1;

/// The header as bytes; they are authenticated together with the beat.
pub fn encode_header(header: &BeatHeader) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..2].copy_from_slice(&MAGIC);
    bytes[2] = VERSION;
    bytes[3] = header.link.0;
    bytes[4..8].copy_from_slice(&header.key_epoch.to_be_bytes());
    bytes[8..16].copy_from_slice(&header.cluster.to_be_bytes());
    bytes[16..24].copy_from_slice(&header.sender.0.to_be_bytes());
    bytes[24..32].copy_from_slice(&header.receiver.0.to_be_bytes());
    bytes[32..48].copy_from_slice(&header.salt.to_be_bytes());
    bytes[48..].copy_from_slice(&header.seq.to_be_bytes());
    bytes
}

/// The header at the beginning of a datagram, and the sealed rest.
///
/// # Errors
/// If the datagram is too short, or no heartbeat of this version.
pub fn decode_header(datagram: &[u8]) -> Result<(BeatHeader, &[u8]), WireError> {
    let Some((header, rest)) = datagram.split_at_checked(HEADER_BYTES) else {
        return Err(WireError::Short { found: datagram.len() });
    };
    if header[..2] != MAGIC || header[2] != VERSION {
        return Err(WireError::Foreign { what: "heartbeat", known: VERSION });
    }
    let header = BeatHeader {
        link: LinkId(header[3]),
        key_epoch: u32::from_be_bytes(field(header, 4)),
        cluster: u64::from_be_bytes(field(header, 8)),
        sender: NodeId(u64::from_be_bytes(field(header, 16))),
        receiver: NodeId(u64::from_be_bytes(field(header, 24))),
        salt: u128::from_be_bytes(field(header, 32)),
        seq: u64::from_be_bytes(field(header, 48)),
    };
    Ok((header, rest))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Appends the beat to `bytes`, to be sealed in place.
pub fn encode_beat(beat: &Beat, bytes: &mut Vec<u8>) {
    minicbor::encode(beat, bytes).expect("writing to a Vec cannot fail");
}

/// The beat that was sealed.
///
/// # Errors
/// If the bytes are no beat.
pub fn decode_beat(bytes: &[u8]) -> Result<Beat, WireError> {
    minicbor::decode(bytes).map_err(|cause| WireError::Damaged { what: "heartbeat", cause: cause.to_string() })
}
