//! Which agents are installed on the simulated machines, and what may they be told?
//!
//! Agents answer as real ones do: one that is not there, does not know a parameter or lacks one that it needs can do
//! nothing, its check and its stop no more than its start.
//!
//! Not here: what an agent that can work comes to (`agents.rs`).

use std::collections::BTreeMap;

use model::{AgentName, ParameterValue};

/// One agent: its name, the parameters that it needs, and those that it knows besides.
type Entry = (&'static str, &'static [&'static str], &'static [&'static str]);

/// The agents of every simulated machine.
const INSTALLED: [Entry; 7] = [
    ("cardea:process", &["command"], &["environment", "directory", "http", "tcp", "generation"]),
    ("cardea:ip", &["address"], &["device"]),
    ("ocf:heartbeat:Dummy", &[], &["state", "fake", "generation"]),
    ("ocf:heartbeat:Filesystem", &["device", "directory", "fstype"], &["options", "generation"]),
    ("ocf:heartbeat:IPaddr2", &["ip"], &["cidr_netmask", "nic", "generation"]),
    ("ocf:heartbeat:pgsql", &["pgdata"], &["pgctl", "pgport", "socketdir", "config", "generation"]),
    ("ocf:heartbeat:apache", &[], &["configfile", "httpd", "port", "statusurl", "generation"]),
];

/// Why this agent can do nothing with these parameters; none: it can.
pub(crate) fn why_not(agent: &AgentName, parameters: &BTreeMap<String, ParameterValue>) -> Option<String> {
    let name = agent.to_string();
    let Some((_, needed, known)) = INSTALLED.iter().find(|(installed, ..)| *installed == name) else {
        return Some(format!("{name} is not installed"));
    };
    let unknown = parameters.keys().find(|key| !needed.contains(&key.as_str()) && !known.contains(&key.as_str()));
    if let Some(unknown) = unknown {
        return Some(format!("{name} does not know the parameter {unknown} (status 2)"));
    }
    let missing = needed.iter().find(|key| !parameters.contains_key(**key));
    missing.map(|missing| format!("{name} needs the parameter {missing} (status 6)"))
}
