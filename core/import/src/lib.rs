//! What does a Pacemaker cluster say, in our words?
//!
//! ```text
//!   text ─► xml ─► options ─┐
//!                  nodes ───┼─► resources ─► constraints ─► history ─► Situation
//!                  rules ───┘   (bundles)                   (digests)      + remarks: what was not understood
//! ```
//!
//! A CIB, the XML of configuration and status, becomes a [`model::situation::Situation`]. Everything that depends on
//! time, on attributes of nodes or on who inherits from whom is settled here; what leaves is plain values.
//!
//! Pure: text in, plain data out; nothing in a document makes it panic. Not here: what follows from it (`scheduler`).

mod blocks;
mod bundles;
mod cib;
mod cluster_file;
mod colocations;
mod constraints;
mod dates;
mod digests;
mod fence_levels;
mod history;
mod locations;
mod meta;
mod nodes;
mod operations;
mod options;
mod orders;
mod patterns;
mod resources;
mod rules;
mod schema;
mod source;
mod status;
#[cfg(test)]
mod testing;
mod tickets;
mod unfencing;
mod values;

pub use cib::{CibError, Imported, Time, cib};
pub use cluster_file::{ClusterFile, cluster_file};
pub use schema::against_schema;
pub use source::Remark;
pub use status::with_status;

/// A point in time as CIBs write it (ISO 8601, UTC unless it says otherwise): seconds since 1970; none if it is no time.
pub fn time_of(text: &str) -> Option<i64> {
    dates::parse(text)
}
