//! The daemon: how one node meets the world. See `worker.rs` for the picture.

mod doors;
pub mod events;
mod examine;
mod file_writer;
mod guards;
pub mod http;
pub mod log;
pub mod node_file;
pub mod own_links;
pub mod paths;
pub mod peers;
mod plans;
mod problems;
pub mod pulse_thread;
pub mod requests;
pub mod status;
#[cfg(test)]
mod testing;
pub mod watch;
pub mod worker;
