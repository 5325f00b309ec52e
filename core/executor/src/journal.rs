//! What must an executor still know after its process was killed?
//!
//! One record per resource, replaced as a whole, so that the journal never grows with time; and one header. Keys of
//! `Table::Journal`: 0 is the header (newest epoch, incarnation), every other key is one resource.
//!
//! A value is `version (1 byte) | SipHash-2-4 of the body (8 bytes, big-endian) | body (CBOR)`. A record that does not
//! check out stops the node from starting: an executor that forgot may run something twice.
//!
//! Not here: when a record is written (`executor.rs`), how (`io/storage`).

use std::hash::Hasher;

use minicbor::{Decode, Encode};
use model::{AgentAction, Epoch, GrantId, Incarnation, Op, OpId, OpResult, ResourceName, ResourceState, Table, Write};
use siphasher::sip::SipHasher24;

const VERSION: u8 = 1;
const HEADER_KEY: u64 = 0;
const SUM_BYTES: usize = 8;

/// Why a stored journal cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The bytes are not what was written.
    #[error(
        "record {key} of the operations journal is damaged ({what}); check the disk, make sure that no resource of the \
         cluster runs on this node, then let the node join again with fresh storage"
    )]
    Damaged {
        /// Key of the record.
        key: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A newer program wrote it.
    #[error("record {key} of the operations journal has version {version}, this program knows {VERSION}: update it")]
    TooNew {
        /// Key of the record.
        key: u64,
        /// Its version.
        version: u8,
    },
}

/// What holds for the whole journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Header {
    /// Whose records these are.
    #[n(0)]
    pub incarnation: Incarnation,
    /// The newest epoch that was obeyed.
    #[n(1)]
    pub max_epoch: Epoch,
}

/// What is known of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Record {
    /// The resource.
    #[n(0)]
    pub resource: ResourceName,
    /// No start at or below this may run any more: the grant and the operation of the last stop.
    #[n(1)]
    pub tombstone: (GrantId, OpId),
    /// The newest operation that was begun.
    #[n(2)]
    pub newest: OpId,
    /// The operation that was begun and has no result.
    #[n(3)]
    pub intent: Option<Op>,
    /// The result of the last operation that ended.
    #[n(4)]
    pub result: Option<OpResult>,
    /// The operation whose agent and parameters the next stop must use: the last start, or the probe that found it
    /// running; after a stop, the last that said any.
    #[n(5)]
    pub told: Option<Op>,
    /// What it is in.
    #[n(6)]
    pub state: ResourceState,
    /// Why.
    #[n(7)]
    pub reason: String,
    /// Digest of what it runs with; zero if it does not run or nobody knows.
    #[n(8)]
    pub digest: u64,
    /// Its start failed, and it has not been seen running with what it was told.
    #[n(9)]
    #[cbor(default)]
    pub has_never_run: bool,
}

impl Record {
    /// Did it fail in a way that may have left something behind?
    pub fn must_stop_first(&self) -> bool {
        matches!(self.state, ResourceState::Failed | ResourceState::Blocked)
    }

    /// Does it run already under the grant of this start, with the same agent and parameters?
    pub fn is_started_alike(&self, op: &Op) -> bool {
        op.action == AgentAction::Start
            && self.state == ResourceState::Running
            && self
                .told
                .as_ref()
                .is_some_and(|told| (told.action, told.grant, told.digest) == (AgentAction::Start, op.grant, op.digest))
    }
}

/// A journal as it was stored.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub header: Header,
    pub records: Vec<(u64, Record)>,
}

/// Reads a stored journal; an empty one is that of a node that never ran an operation.
pub(crate) fn decode(stored: Vec<(u64, Vec<u8>)>) -> Result<Journal, JournalError> {
    let mut journal = Journal::default();
    for (key, bytes) in stored {
        if key == HEADER_KEY {
            journal.header = unseal(key, &bytes)?;
        } else {
            journal.records.push((key, unseal(key, &bytes)?));
        }
    }
    Ok(journal)
}

/// The write that stores the header.
pub(crate) fn put_header(header: Header) -> Write {
    Write::Put { table: Table::Journal, key: HEADER_KEY, value: seal(&header) }
}

/// The write that stores one resource's record under its key, which is not 0.
pub(crate) fn put_record(key: u64, record: &Record) -> Write {
    assert!(key != HEADER_KEY, "key 0 of the journal is the header's");
    Write::Put { table: Table::Journal, key, value: seal(record) }
}

fn seal<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut body = Vec::new();
    minicbor::encode(value, &mut body).expect("writing to memory does not fail");
    let mut bytes = Vec::with_capacity(1 + SUM_BYTES + body.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&sum(&body).to_be_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn unseal<T: for<'b> Decode<'b, ()>>(key: u64, bytes: &[u8]) -> Result<T, JournalError> {
    let damaged = |what: &str| JournalError::Damaged { key, what: what.to_owned() };
    let (&version, rest) = bytes.split_first().ok_or_else(|| damaged("it is empty"))?;
    if version > VERSION {
        return Err(JournalError::TooNew { key, version });
    }
    if version != VERSION {
        return Err(damaged("no version"));
    }
    let (stored, body) = rest.split_first_chunk::<SUM_BYTES>().ok_or_else(|| damaged("it is cut short"))?;
    if u64::from_be_bytes(*stored) != sum(body) {
        return Err(damaged("its checksum is wrong"));
    }
    minicbor::decode(body).map_err(|cause| damaged(&cause.to_string()))
}

fn sum(body: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0x63_61_72_64_65_61_2d_6a, 0x6f_75_72_6e_61_6c_00_01);
    hasher.write(body);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Vec<(u64, Vec<u8>)> {
        let header = Header { incarnation: Incarnation(7), max_epoch: Epoch(3) };
        let record = Record { resource: "web".into(), tombstone: (GrantId(4), OpId::default()), ..Record::default() };
        [put_header(header), put_record(5, &record)]
            .into_iter()
            .map(|write| match write {
                Write::Put { key, value, .. } => (key, value),
                Write::DeleteFrom { .. } | Write::DeleteBelow { .. } | Write::Delete { .. } => panic!("only puts"),
            })
            .collect()
    }

    #[test]
    fn what_was_written_is_read_back() {
        let journal = decode(stored()).unwrap();
        assert_eq!(journal.header, Header { incarnation: Incarnation(7), max_epoch: Epoch(3) });
        assert_eq!(journal.records[0].0, 5);
        assert_eq!(journal.records[0].1.tombstone.0, GrantId(4));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        for (position, (key, bytes)) in stored().into_iter().enumerate() {
            for bit in 0..bytes.len() * 8 {
                let mut journal = stored();
                journal[position].1[bit / 8] ^= 1 << (bit % 8);
                let error = decode(journal).expect_err("a flipped bit");
                assert!(error.to_string().contains(&format!("record {key}")), "{error}");
            }
            for length in 0..bytes.len() {
                let mut journal = stored();
                journal[position].1.truncate(length);
                decode(journal).expect_err("a cut");
            }
        }
    }

    #[test]
    fn a_newer_version_asks_for_an_update() {
        let mut journal = stored();
        journal[0].1[0] = 2;
        assert_eq!(decode(journal).unwrap_err(), JournalError::TooNew { key: 0, version: 2 });
    }
}
