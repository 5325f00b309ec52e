//! How does a whole state become bytes, and how do two nodes compare theirs without sending them?
//!
//! A snapshot is a version byte, the digest, and the encoded state; the digest is SipHash-2-4 under a fixed key over
//! that encoding, so that it also tells a damaged snapshot. Not a secret: it finds divergence, not forgery.
//!
//! Not here: who compares digests, and when (`node`).

use std::hash::Hasher;

use model::{ClusterState, ResourceConfig};
use siphasher::sip::SipHasher24;

use crate::CodecError;
use crate::command::{LEVEL, body_of, check_level, decode_all};

/// The version of the snapshot's encoding that this build writes.
const SNAPSHOT_VERSION: u8 = 1;

/// The state as bytes.
pub fn encode_snapshot(state: &ClusterState) -> Vec<u8> {
    let mut bytes = vec![SNAPSHOT_VERSION; 9];
    minicbor::encode(state, &mut bytes).expect("writing to a Vec cannot fail");
    let digest = hash(&bytes[9..]).to_le_bytes();
    bytes[1..9].copy_from_slice(&digest);
    bytes
}

/// The state in these bytes.
///
/// # Errors
/// If they are empty, of another version or a higher level, or damaged.
pub fn decode_snapshot(bytes: &[u8]) -> Result<ClusterState, CodecError> {
    decode_snapshot_at(bytes, LEVEL)
}

/// The state in these bytes, as a build that knows this feature level can read it.
///
/// # Errors
/// As [`decode_snapshot`].
pub fn decode_snapshot_at(bytes: &[u8], known: u8) -> Result<ClusterState, CodecError> {
    let what = "snapshot";
    let damaged = |cause: &str| CodecError::Damaged { what, cause: cause.to_owned() };
    let body = body_of(what, SNAPSHOT_VERSION, bytes)?;
    let (digest, body) = body.split_first_chunk::<8>().ok_or_else(|| damaged("too short"))?;
    if u64::from_le_bytes(*digest) != hash(body) {
        return Err(damaged("its digest differs"));
    }
    let state: ClusterState = decode_all(what, body)?;
    check_level(what, state.level, known).map(|()| state)
}

/// A digest of the whole state: equal on every node at the same applied index.
pub fn digest(state: &ClusterState) -> u64 {
    let mut hasher = Hashing(SipHasher24::new());
    minicbor::encode(state, &mut hasher).expect("hashing cannot fail");
    hasher.0.finish()
}

/// A digest of what a resource is told: its agent and parameters. Never zero, which stands for "nobody knows".
pub fn parameters_digest(resource: &ResourceConfig) -> u64 {
    resource.parameters_digest()
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new();
    hasher.write(bytes);
    hasher.finish()
}

struct Hashing(SipHasher24);

impl minicbor::encode::Write for Hashing {
    type Error = std::convert::Infallible;
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.write(bytes);
        Ok(())
    }
}
