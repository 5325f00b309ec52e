//! The rows of the requirements, one file each.

mod change;
mod cold_start;
mod failover;
mod loss;
mod power;
mod rest;
mod sick;
mod simulator;
mod wild;
mod worker;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::Line;
use crate::figure::Figure;

/// The service of a lab that nobody gave a cluster file.
const SERVICE: &str = "10.77.1.100:8080";

/// Kinds of event that say that somebody was taken for dead.
const VERDICTS: [&str; 4] = ["suspect", "condemned", "fence-called", "fenced"];

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Row {
    /// The faults of the demo.
    Failover,
    /// Nodes that are sick and not dead.
    Sick,
    /// All daemons from nothing.
    ColdStart,
    /// A site whose power returns, without one machine.
    PowerUp,
    /// A change on its way to the other nodes.
    Change,
    /// Memory and processor at rest.
    Rest,
    /// A network that loses packets.
    Loss,
    /// A worker that is killed.
    Worker,
    /// Workers and supervisors that are replaced.
    Replaced,
    /// What a local user can do.
    Attacks,
    /// The simulator.
    Simulator,
}

impl Row {
    /// Every row, in the order of the table.
    pub fn all() -> Vec<Row> {
        Row::value_variants().to_vec()
    }

    /// What it is about.
    pub fn what(self) -> &'static str {
        match self {
            Row::Failover => "faults of the serving node, as in the demo",
            Row::Sick => "serving node sick and not dead",
            Row::ColdStart => "cold start of all three daemons",
            Row::PowerUp => "power returns to a site, and one machine late or never",
            Row::Change => "change applied until visible on the other nodes",
            Row::Rest => "one node at rest, of three, on two links",
            Row::Loss => "20 % of the packets between nodes lost",
            Row::Worker => "worker killed with SIGKILL",
            Row::Replaced => "every worker replaced, then the service taken away",
            Row::Attacks => "a local user without rights on the serving node",
            Row::Simulator => "simulator, schedules of 60 virtual seconds",
        }
    }

    /// Measures it.
    pub fn measure(self, line: &Line) -> Result<Vec<Figure>> {
        match self {
            Row::Failover => failover::measure(line),
            Row::Sick => sick::measure(line),
            Row::ColdStart => cold_start::measure(line),
            Row::PowerUp => power::measure(line),
            Row::Change => change::measure(line),
            Row::Rest => rest::measure(line),
            Row::Loss => loss::measure(line),
            Row::Worker => worker::measure(line),
            Row::Replaced => wild::replaced(line),
            Row::Attacks => wild::attacks(line),
            Row::Simulator => simulator::measure(line),
        }
    }
}
