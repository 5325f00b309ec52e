//! What survives a crash of this node? One database, and a few small files beside it.
//!
//! ```text
//!   core ── writes as data ──► DiskHandle ──► disk thread ──► Storage ──► one transaction ──► fsync
//!                                                  └──► tokens that are now durable
//! ```
//!
//! The core fills keys and values; nothing here knows what they mean. A failed commit is final:
//! after it nothing is acknowledged any more, because a page that an fsync lost is gone.

mod database;
mod disk_thread;
pub mod state_file;

pub use database::{Contents, Storage, StorageError, create};
pub use disk_thread::DiskHandle;
