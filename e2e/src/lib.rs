//! How do tests and measurements hold a whole cluster in their hands? A lab of the built binary, driven from outside as
//! an operator would: commands, the API's sockets, and a look at what really runs.
//!
//! ```text
//!   Lab ─► cardea lab up|crash|cut|…          Node ─► cardea --root DIR/nodes/NAME …
//!                                                  ├► GET /v1/status, /v1/events   (api.rs)
//!                                                  └► its processes                (processes.rs)
//! ```
//!
//! Nothing here knows the product's crates: what a test cannot see from outside, an operator cannot see either.

mod api;
mod binary;
pub mod counted;
mod lab;
pub mod processes;
mod skip;
mod wait;
pub mod wild;

pub use api::Api;
pub use binary::{Said, cardea, run};
pub use lab::{Lab, Node, cluster_file, end_everything, is_whole, now_us};
pub use skip::{skip, skip_without_root};
pub use wait::{PATIENCE, until};
