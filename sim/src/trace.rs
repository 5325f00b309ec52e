//! What happened in a run? A hash over all of it, what mattered as notes, and everything as lines if wanted.

use crate::clock::{At, MICROS, SECONDS};

/// Something that mattered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub at: At,
    /// What: a word of the agreed history, or one of the world (`start`, `power-off`, …).
    pub what: String,
    /// To whom.
    pub subject: String,
    /// More about it.
    pub detail: String,
}

/// The record of a run.
pub struct Trace {
    hash: u64,
    notes: Vec<Note>,
    is_told: bool,
}

impl Trace {
    /// An empty record; `is_told`: every line goes to standard output at once.
    pub fn new(is_told: bool) -> Self {
        Trace { hash: fnv(&[]), notes: Vec::new(), is_told }
    }

    /// Equal runs have equal hashes.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// What mattered so far, in order.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Takes an event into the hash.
    pub fn mix(&mut self, parts: [u64; 4]) {
        for part in parts {
            self.hash = (self.hash ^ part).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }

    /// Are lines wanted?
    pub fn is_told(&self) -> bool {
        self.is_told
    }

    /// Tells one line, if lines are wanted.
    pub fn line(&self, at: At, who: &str, text: impl FnOnce() -> String) {
        if self.is_told {
            println!("{:>4}.{:06} {who:<3} {}", at / SECONDS, at % SECONDS / MICROS, text());
        }
    }

    /// Keeps what mattered, and tells it.
    pub fn note(&mut self, at: At, what: &str, subject: &str, detail: &str) {
        self.line(at, "=", || format!("{what} {subject}: {detail}"));
        self.mix([at, fnv(what.as_bytes()), fnv(subject.as_bytes()), fnv(detail.as_bytes())]);
        self.notes.push(Note { at, what: what.to_owned(), subject: subject.to_owned(), detail: detail.to_owned() });
    }
}

/// A hash of bytes (FNV-1a).
pub fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
