//! How can anybody try a whole cluster on one machine? Nodes in namespaces, with real cables, disks and power.
//!
//! ```text
//!   cardea lab up ─► launch ─► hub (PID 1 of the lab) ─┬─ switches: bridges net1, net2, ports
//!                                                      ├─ power switch: TCP, on an address of each network
//!   cardea lab … ──── DIR/lab.sock ────────────────────┤
//!                                                      └─ machine a, b, c: PID 1 (inside) ─► cardea daemon --root …
//! ```
//!
//! Nothing about a node is simulated: it runs the daemon that a real machine runs, on a folder that is its disk, and
//! dies by SIGKILL with its cables unplugged. When the hub dies, the kernel kills everything in the lab.
//!
//! A fault lasts until it is healed: switch ports, filters and hung threads are set from outside of the nodes, and no
//! daemon has a switch for them.
//! Not here: what the faults of the demo prove (`demo/`), namespaces and netlink themselves (`io/host`).

pub mod bring_up;
pub mod daemon_api;
pub mod disk;
pub mod fence_agent;
pub mod filters;
pub mod folder;
pub mod hang;
pub mod hub;
pub mod inside;
pub mod launch;
pub mod layout;
pub mod machine;
pub mod power_switch;
pub mod processes;
pub mod protocol;
pub mod switches;
