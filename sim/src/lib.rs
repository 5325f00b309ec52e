//! Does the whole cluster keep its promises, whatever goes wrong?
//!
//! ```text
//!   seed ─► Scenario ─► faults ─┐
//!                               ▼                       ┌─► invariants (after every step)
//!   chance ─────────────────► World ──inputs──► Node, Pulse of every machine (the code that we ship)
//!                               ▲                       │
//!   network, disks, agents, devices ◄──────actions──────┘
//! ```
//!
//! One thread, one heap of events, one seed: the same seed gives the same run. Nothing here decides anything for the
//! cluster; the world only carries, delays, loses and breaks, and looks on.

mod agents;
mod campaign;
mod catalogue;
mod chance;
mod clock;
mod devices;
mod disk;
mod edits;
mod faults;
mod file;
mod invariants;
mod lasting;
mod machine;
mod mutants;
mod network;
mod oracle;
mod scenario;
mod setup;
mod story;
mod trace;
mod world;

pub use agents::{AgentMood, Mood};
pub use campaign::{Campaign, Report, run};
pub use chance::Chance;
pub use clock::{At, MICROS, MILLIS, SECONDS};
pub use devices::DeviceMood;
pub use edits::{EditReport, every_edit};
pub use faults::{Ambush, Fault, Who};
pub use invariants::Violation;
pub use mutants::{Mutant, MutantReport, mutants};
pub use network::Weather;
pub use scenario::{Flavour, Run, Scenario};
pub use setup::Layout;
pub use story::{
    Cluster, Expectation, Seconds, cluster, condemned, equal_states, everything, leader, level, node, resource, term,
};
pub use trace::{Note, Trace};
pub use world::World;
