//! What is stored: writes to the node's one database, as data.
//!
//! The core fills keys and values; `io/storage` makes a list of writes durable in one transaction.

/// A table of the node's database; keys are numbers, values are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Raft log entries by log index.
    Log,
    /// Single records by a fixed key: hard state, snapshot, identity (`consensus` and `node` own the keys).
    Meta,
    /// The executor's journal (`executor` owns the keys).
    Journal,
}

/// One change of the database. A list of them becomes durable together or not at all, in list order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Stores `value` under `key`, replacing what was there.
    Put {
        /// The table.
        table: Table,
        /// The key.
        key: u64,
        /// The new value.
        value: Vec<u8>,
    },
    /// Removes every key from `from` on (inclusive).
    DeleteFrom {
        /// The table.
        table: Table,
        /// First key that goes.
        from: u64,
    },
    /// Removes every key below `below` (exclusive).
    DeleteBelow {
        /// The table.
        table: Table,
        /// First key that stays.
        below: u64,
    },
    /// Removes one key.
    Delete {
        /// The table.
        table: Table,
        /// The key.
        key: u64,
    },
}
