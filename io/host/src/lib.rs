//! What does this machine offer? Processes, clocks, scheduling, addresses, namespaces: the kernel's interfaces, made safe.
//!
//! ```text
//!   identity, scheduling,
//!   limits, restart      ─► the daemon's start, end   supervise ─► the worker's life
//!   process, cgroup      ─► agents, services        address, arp ─► floating addresses
//!   namespace, network, hold ─► the lab
//! ```
//!
//! The only crate with `unsafe` code: each block says why it is sound. Nothing here decides anything about the cluster.

pub mod address;
pub mod arp;
pub mod cgroup;
pub mod hold;
pub mod identity;
pub mod limits;
pub mod namespace;
pub mod network;
pub mod process;
pub mod restart;
pub mod scheduling;
pub mod supervise;
