//! What is on a machine's disk, and what is lost with it?
//!
//! Writes become durable in the order of their tokens, each some time after it was asked for. A crash keeps any
//! beginning of what was under way: a write may be durable though nobody was told so. A disk can hang, refuse to
//! write, lose everything, or go back to an earlier content.

use std::collections::{BTreeMap, VecDeque};

use model::{Table, Write};

use crate::chance::Chance;
use crate::clock::{At, FOREVER, MICROS, MILLIS};

/// One machine's disk.
#[derive(Clone, Default)]
pub struct Disk {
    meta: BTreeMap<u64, Vec<u8>>,
    log: BTreeMap<u64, Vec<u8>>,
    journal: BTreeMap<u64, Vec<u8>>,
    pending: VecDeque<(u64, Vec<Write>)>,
    busy_until: At,
    /// Until then writes take long.
    pub slow_until: At,
    /// No write ends.
    pub is_hung: bool,
    /// Every write is refused: there is no room left.
    pub fails: bool,
    /// Every read and write ends in an error of the medium.
    pub has_errors: bool,
    /// How long it takes to open what is stored.
    pub opens_in: u64,
}

impl Disk {
    /// Takes a write; returns when it will be durable.
    pub fn begin(&mut self, now: At, token: u64, writes: Vec<Write>, chance: &mut Chance) -> At {
        let takes = if now < self.slow_until {
            chance.between(20 * MILLIS, 500 * MILLIS)
        } else if chance.is(3) {
            chance.between(5 * MILLIS, 60 * MILLIS)
        } else {
            chance.between(200 * MICROS, 3 * MILLIS)
        };
        if self.is_hung {
            self.pending.push_back((token, writes));
            return FOREVER;
        }
        // What is asked for while the disk is busy goes with the next flush.
        let begins = self.busy_until.max(now);
        self.busy_until = if begins > now { begins.max(now + takes) } else { now + takes };
        self.pending.push_back((token, writes));
        self.busy_until
    }

    /// The writes that nobody has been told the end of, by token.
    pub fn pending(&self) -> Vec<u64> {
        self.pending.iter().map(|(token, _)| *token).collect()
    }

    /// Nothing of what was stored is left.
    pub fn lose(&mut self) {
        *self = Disk { opens_in: self.opens_in, ..Disk::default() };
    }

    /// The write of this token, and all before it, are durable.
    pub fn complete(&mut self, token: u64) {
        while self.pending.front().is_some_and(|(first, _)| *first <= token) {
            if let Some((_, writes)) = self.pending.pop_front() {
                self.write_all(writes);
            }
        }
    }

    /// The process or the machine ends: some beginning of what was under way is durable, the rest is lost.
    pub fn crash(&mut self, now: At, chance: &mut Chance) {
        let kept = chance.below(self.pending.len() as u64 + 1);
        for _ in 0..kept {
            if let Some((_, writes)) = self.pending.pop_front() {
                self.write_all(writes);
            }
        }
        self.pending.clear();
        self.busy_until = now;
    }

    /// Stores these at once.
    pub fn write_all(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Put { table, key, value } => drop(self.table(table).insert(key, value)),
                Write::DeleteFrom { table, from } => drop(self.table(table).split_off(&from)),
                Write::DeleteBelow { table, below } => {
                    let kept = self.table(table).split_off(&below);
                    *self.table(table) = kept;
                }
                Write::Delete { table, key } => drop(self.table(table).remove(&key)),
            }
        }
    }

    /// The records of the log that a node begins with.
    pub fn meta(&self) -> &BTreeMap<u64, Vec<u8>> {
        &self.meta
    }

    /// The entries of the log that a node begins with.
    pub fn log(&self) -> Vec<(u64, Vec<u8>)> {
        self.log.iter().map(|(key, value)| (*key, value.clone())).collect()
    }

    /// The executor's journal.
    pub fn journal(&self) -> Vec<(u64, Vec<u8>)> {
        self.journal.iter().map(|(key, value)| (*key, value.clone())).collect()
    }

    fn table(&mut self, table: Table) -> &mut BTreeMap<u64, Vec<u8>> {
        match table {
            Table::Meta => &mut self.meta,
            Table::Log => &mut self.log,
            Table::Journal => &mut self.journal,
        }
    }
}
