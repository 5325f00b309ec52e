//! What does a member keep on its disk, and what does it make of it after a restart?
//!
//! ```text
//!   Log  index ─► entry            Meta 1 ─► hard state (term, vote, commit)
//!                                       2 ─► snapshot (state, membership, position)
//!                                       3 ─► where the log starts
//! ```
//!
//! Every record is: format version, body, checksum over table, key, version and body. Damage is an error that names
//! the record; nothing is repaired by guessing, since a member that forgot a vote may vote twice.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher;

use minicbor::{Decode, Encode};
use model::{LogIndex, NodeId, Table, Term, Write};
use siphasher::sip::SipHasher13;

use crate::message::{LogEntry, Membership, Snapshot};

const FORMAT: u8 = 1;
const CHECKSUM_BYTES: usize = 8;

const HARD_STATE: u64 = 1;
const SNAPSHOT: u64 = 2;
const LOG_START: u64 = 3;

/// Why a member cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsensusError {
    /// A record that must be there is not.
    #[error("{record} is missing")]
    Missing {
        /// Which.
        record: String,
    },
    /// The bytes are not what was written.
    #[error("{record} is damaged: {why}")]
    Damaged {
        /// Which.
        record: String,
        /// What is wrong with it.
        why: String,
    },
    /// Written by a newer version.
    #[error("{record} has format {format}, this version knows only format {FORMAT}; start the newer version again")]
    Newer {
        /// Which.
        record: String,
        /// Its format.
        format: u8,
    },
    /// Settings that contradict each other.
    #[error("the settings of the log cannot be used: {0}")]
    Settings(String),
}

/// What must never be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct HardState {
    #[n(0)]
    pub term: Term,
    #[n(1)]
    pub vote: NodeId,
    #[n(2)]
    pub commit: LogIndex,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Position {
    #[n(0)]
    pub index: LogIndex,
    #[n(1)]
    pub term: Term,
}

/// Everything a member begins with.
#[derive(Clone, Debug)]
pub struct Stored {
    pub(crate) hard_state: HardState,
    /// The entry before the first one that is kept.
    pub(crate) start: Position,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) entries: VecDeque<LogEntry>,
}

impl Stored {
    /// Reads what [`founding`], [`joining`] and the `Persist` actions wrote: the records of `Table::Meta` (keys of
    /// others are ignored) and `Table::Log` in the order of the keys.
    pub fn decode(meta: &BTreeMap<u64, Vec<u8>>, log: Vec<(u64, Vec<u8>)>) -> Result<Stored, ConsensusError> {
        let hard_state: HardState = open_meta(meta, HARD_STATE)?.ok_or_else(|| missing(Table::Meta, HARD_STATE))?;
        let start: Position = open_meta(meta, LOG_START)?.ok_or_else(|| missing(Table::Meta, LOG_START))?;
        let snapshot: Option<Snapshot> = open_meta(meta, SNAPSHOT)?;

        let mut entries = VecDeque::with_capacity(log.len());
        let mut last = start;
        for (key, bytes) in log {
            let entry: LogEntry = open(Table::Log, key, &bytes)?;
            let is_next = entry.index.0 == key && key == last.index.0 + 1;
            if !is_next || entry.term < last.term || entry.term > hard_state.term {
                let why = format!("it does not follow entry {} of term {}", last.index, last.term);
                return Err(damaged(Table::Log, key, why));
            }
            last = Position { index: entry.index, term: entry.term };
            entries.push_back(entry);
        }

        let known = match &snapshot {
            None => LogIndex(0),
            Some(snapshot) => {
                snapshot.membership.check().map_err(|why| damaged(Table::Meta, SNAPSHOT, why.to_string()))?;
                snapshot.index
            }
        };
        if start.index > known || last.index < known {
            let why =
                format!("the log is kept from {} to {}, the snapshot is of {known}", start.index.0 + 1, last.index);
            return Err(damaged(Table::Meta, LOG_START, why));
        }
        if hard_state.commit > last.index {
            let why = format!("entry {} was committed, the log ends at {}", hard_state.commit, last.index);
            return Err(damaged(Table::Meta, HARD_STATE, why));
        }
        if hard_state.term < last.term {
            let why = format!("term {} is older than the log's {}", hard_state.term, last.term);
            return Err(damaged(Table::Meta, HARD_STATE, why));
        }
        Ok(Stored { hard_state, start, snapshot, entries })
    }

    /// The state to begin with, as given to [`founding`], `Compact`, or received from a leader; none on a member
    /// that has not heard from a leader yet.
    pub fn snapshot(&self) -> Option<&[u8]> {
        self.snapshot.as_ref().map(|snapshot| snapshot.data.as_slice())
    }

    /// The log index that [`Stored::snapshot`] is the state after; 0 without one.
    pub fn snapshot_index(&self) -> LogIndex {
        self.snapshot.as_ref().map_or(LogIndex(0), |snapshot| snapshot.index)
    }
}

/// What the first member of a new cluster begins with: the state after entry 1, and itself as the only voter.
pub fn founding(cluster_snapshot: Vec<u8>, founder: NodeId) -> Vec<Write> {
    let start = Position { index: LogIndex(1), term: Term(1) };
    let snapshot = Snapshot {
        index: start.index,
        term: start.term,
        membership: Membership { voters: vec![founder], learners: Vec::new() },
        data: cluster_snapshot,
    };
    vec![
        put_hard_state(&HardState { term: Term(1), vote: NodeId(0), commit: start.index }),
        put_start(start),
        put_snapshot(&snapshot),
    ]
}

/// What an admitted member begins with: nothing, until the leader sends the state.
pub fn joining() -> Vec<Write> {
    vec![put_hard_state(&HardState::default()), put_start(Position::default())]
}

pub(crate) fn put_hard_state(hard_state: &HardState) -> Write {
    put(Table::Meta, HARD_STATE, hard_state)
}

pub(crate) fn put_start(start: Position) -> Write {
    put(Table::Meta, LOG_START, &start)
}

pub(crate) fn put_snapshot(snapshot: &Snapshot) -> Write {
    put(Table::Meta, SNAPSHOT, snapshot)
}

pub(crate) fn put_entry(entry: &LogEntry) -> Write {
    put(Table::Log, entry.index.0, entry)
}

fn put(table: Table, key: u64, body: &impl Encode<()>) -> Write {
    let mut value = vec![FORMAT];
    minicbor::encode(body, &mut value).expect("writing to memory does not fail");
    let checksum = checksum(table, key, &value);
    value.extend_from_slice(&checksum);
    Write::Put { table, key, value }
}

fn open_meta<T>(meta: &BTreeMap<u64, Vec<u8>>, key: u64) -> Result<Option<T>, ConsensusError>
where
    T: for<'b> Decode<'b, ()>,
{
    meta.get(&key).map(|bytes| open(Table::Meta, key, bytes)).transpose()
}

fn open<T>(table: Table, key: u64, bytes: &[u8]) -> Result<T, ConsensusError>
where
    T: for<'b> Decode<'b, ()>,
{
    let Some((content, stored)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(damaged(table, key, format!("it has only {} bytes", bytes.len())));
    };
    if checksum(table, key, content) != *stored {
        return Err(damaged(table, key, "its checksum is wrong".into()));
    }
    match content.split_first() {
        None => Err(damaged(table, key, "it is empty".into())),
        Some((&FORMAT, body)) => minicbor::decode(body).map_err(|cause| damaged(table, key, cause.to_string())),
        Some((&format, _)) => Err(ConsensusError::Newer { record: name(table, key), format }),
    }
}

fn checksum(table: Table, key: u64, content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let table = match table {
        Table::Log => 1,
        Table::Meta => 2,
        Table::Journal => 3,
    };
    let mut hasher = SipHasher13::new_with_keys(table, key);
    hasher.write(content);
    hasher.finish().to_le_bytes()
}

fn missing(table: Table, key: u64) -> ConsensusError {
    ConsensusError::Missing { record: name(table, key) }
}

fn damaged(table: Table, key: u64, why: String) -> ConsensusError {
    ConsensusError::Damaged { record: name(table, key), why }
}

fn name(table: Table, key: u64) -> String {
    match (table, key) {
        (Table::Log, index) => format!("entry {index} of the log"),
        (Table::Meta, HARD_STATE) => "the record of term and vote".into(),
        (Table::Meta, SNAPSHOT) => "the snapshot of the cluster state".into(),
        (Table::Meta, LOG_START) => "the record of the start of the log".into(),
        (Table::Meta | Table::Journal, key) => format!("record {key}"),
    }
}
