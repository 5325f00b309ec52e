//! What does the cluster file say, and is that a cluster that can be kept safe?
//!
//! ```text
//!   text ─► toml ─► section (typed values with places) ─► file (nodes, fence, resources, groups) ─► check ─► ClusterConfig
//!                        └────────────────── diagnostics that point at the place ─────────────────────┘
//!   text + node ─► edit ─► text, comments kept
//! ```
//!
//! Pure: text in, plain data out. Not here: how a diagnostic is drawn (the apps), what a parameter of a foreign agent
//! means (its meta-data), whether a device answers (`fence test`).

mod changes;
mod check;
mod contradictions;
mod diagnostic;
mod edit;
pub mod expert;
mod file;
mod parameters;
mod placement;
mod secrets;
mod section;
mod words;

pub use changes::changes;
pub use check::instances;
pub use contradictions::may_run_on;
pub use diagnostic::{Diagnostic, Severity, line_column, place};
pub use edit::{add_node, initial, remove_node};
pub use expert::Expert;
pub use file::{LINKS_MAX, Parsed, parse, parse_for_planning};
pub use secrets::{is_secret, redacted};
pub use words::{is_name, nearest};
