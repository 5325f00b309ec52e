//! Where does the library read the log? From this copy in memory of what is stored, or is on its way there.
//!
//! Invariant: `start ≤ snapshot ≤ last`, and the entries follow `start` without a gap.

use std::collections::VecDeque;

use model::{LogIndex, NodeId, Term};
use raft::eraftpb::{self, Entry};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use crate::message::{Membership, Snapshot};
use crate::record::{Position, Stored};

pub(crate) struct Log {
    start: Position,
    entries: VecDeque<Entry>,
    snapshot: Option<eraftpb::Snapshot>,
    initial: RaftState,
}

impl Log {
    pub(crate) fn new(stored: Stored) -> Self {
        let mut initial = RaftState::default();
        if let Some(snapshot) = &stored.snapshot {
            initial.conf_state = snapshot.membership.to_raft();
        }
        let known = stored.snapshot_index();
        initial.hard_state.term = stored.hard_state.term.0;
        initial.hard_state.vote = stored.hard_state.vote.0;
        initial.hard_state.commit = stored.hard_state.commit.max(known).0;
        Log {
            start: stored.start,
            entries: stored.entries.into_iter().map(crate::message::LogEntry::into_raft).collect(),
            snapshot: stored.snapshot.map(Snapshot::into_raft),
            initial,
        }
    }

    pub(crate) fn snapshot_index(&self) -> LogIndex {
        LogIndex(self.snapshot.as_ref().map_or(0, |snapshot| snapshot.get_metadata().index))
    }

    pub(crate) fn start(&self) -> Position {
        self.start
    }

    /// The entry at `index`, if it is kept.
    pub(crate) fn entry(&self, index: LogIndex) -> Option<&Entry> {
        let place = index.0.checked_sub(self.start.index.0 + 1)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    pub(crate) fn last(&self) -> u64 {
        self.start.index.0 + self.entries.len() as u64
    }

    fn position_of(&self, index: u64) -> usize {
        usize::try_from(index - self.start.index.0 - 1).expect("a log in memory has fewer entries than addresses")
    }

    /// Appends entries, replacing those from the first one's index on; true if there were such.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> bool {
        let Some(first) = entries.first() else { return false };
        assert!(
            first.index > self.start.index.0 && first.index <= self.last() + 1,
            "entry {} does not fit the log {}..={}",
            first.index,
            self.start.index,
            self.last()
        );
        let kept = self.position_of(first.index);
        let is_overwriting = kept < self.entries.len();
        self.entries.truncate(kept);
        self.entries.extend(entries.iter().cloned());
        is_overwriting
    }

    /// Takes a snapshot of a leader in place of the whole log.
    pub(crate) fn install(&mut self, snapshot: eraftpb::Snapshot) {
        let meta = snapshot.get_metadata();
        self.start = Position { index: LogIndex(meta.index), term: Term(meta.term) };
        self.entries.clear();
        self.snapshot = Some(snapshot);
    }

    /// Takes a snapshot of our own and forgets the entries up to `start`.
    pub(crate) fn compact(&mut self, snapshot: eraftpb::Snapshot, start: LogIndex) {
        self.snapshot = Some(snapshot);
        if start > self.start.index {
            let term = Term(self.entries[self.position_of(start.0)].term);
            self.entries.drain(..=self.position_of(start.0));
            self.start = Position { index: start, term };
        }
    }
}

impl Storage for Log {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.start.index.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0;
        let range = self.position_of(low)..self.position_of(high);
        let chosen = self.entries.range(range).enumerate().take_while(|(count, entry)| {
            bytes += entry.data.len() as u64 + 32;
            *count == 0 || bytes <= bytes_max
        });
        Ok(chosen.map(|(_, entry)| entry.clone()).collect())
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.start.index.0 {
            return Ok(self.start.term.0);
        }
        if index < self.start.index.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        match self.entries.get(self.position_of(index)) {
            Some(entry) => Ok(entry.term),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.start.index.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    /// The stored snapshot. A receiver that became a member after it is listed as a learner: the library installs
    /// only a snapshot that names the receiver, and the entry that admits it follows in the log anyway.
    fn snapshot(&self, _: u64, to: u64) -> Result<eraftpb::Snapshot> {
        let Some(snapshot) = &self.snapshot else {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        };
        let mut snapshot = snapshot.clone();
        let membership = Membership::from_raft(snapshot.get_metadata().get_conf_state());
        if !membership.contains(NodeId(to)) {
            snapshot.mut_metadata().mut_conf_state().mut_learners().push(to);
        }
        Ok(snapshot)
    }
}
