//! How does the cluster look from this node?

use model::{ProblemKind, Severity};
use serde::{Deserialize, Serialize};

/// The answer to `cardea status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// See [`crate::VERSION`].
    pub version: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// The node that answers.
    pub node: String,
    /// Version of the current configuration.
    pub config_version: u64,
    /// Does this node belong to a majority that has a leader?
    pub quorate: bool,
    /// Who leads, if anybody is known to.
    pub leader: Option<String>,
    /// The term.
    pub term: u64,
    /// The last applied log index.
    pub applied: u64,
    /// How old this picture may be, in milliseconds; zero on a quorate node.
    pub age_ms: u64,
    /// The members.
    pub nodes: Vec<NodeStatus>,
    /// The resources.
    pub resources: Vec<ResourceStatus>,
    /// What operators asked for and is in force.
    pub actions: Vec<ActionStatus>,
    /// What an operator should look at, each with the next step: the sentences of `faults`.
    pub problems: Vec<String>,
    /// The same with their kinds, the worst first.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// Something that an operator should look at. It is the same one for as long as `kind` and `subject` are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its kind.
    pub kind: ProblemKind,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about: a node, a unit, a resource on a node, a network between two nodes.
    pub subject: String,
    /// Since when, RFC 3339, as the first node that saw it says; empty if it was seen this very moment.
    pub since: String,
    /// The cause and the next step.
    pub text: String,
    /// The nodes that see it, as far as the answering node knows.
    pub seen_by: Vec<String>,
}

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u64,
    /// `online`, `lost`, `standby`, `maintenance`, `condemned`, `fenced`, `left`, `absent`.
    pub state: String,
    /// `member` or `witness`.
    pub role: String,
    /// `leader`, `voter` or `learner`; empty if it is none of these yet.
    pub vote: String,
    /// May it be given units now?
    pub eligible: bool,
    /// Has it everything that is agreed, as far as this node knows?
    pub caught_up: bool,
    /// Why it is not eligible, or what there is to say.
    pub reason: String,
    /// The links between the answering node and this one; its own links for the answering node.
    pub links: Vec<LinkStatus>,
}

/// One link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The other end's address.
    pub address: String,
    /// `up`, `down` or `own`.
    pub state: String,
    /// Round-trip time in milliseconds, if known.
    pub rtt_ms: Option<f64>,
    /// Share of lost heartbeats, 0.0..=1.0.
    pub loss: f64,
}

/// One resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// Its name.
    pub name: String,
    /// The group or resource that is moved as one.
    pub unit: String,
    /// The agent.
    pub agent: String,
    /// `running`, `stopped`, `starting`, `waiting` (for others to run), `stopping`, `failed`, `blocked`, `unknown`.
    pub state: String,
    /// `started` while it has a node, else empty.
    pub role: String,
    /// Where it runs or is to run.
    pub node: Option<String>,
    /// Since when, RFC 3339; empty if never.
    pub since: String,
    /// Why it is there, or why it is not.
    pub reason: String,
    /// Failures that count now.
    pub failures: u32,
}

/// One wish of an operator in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ActionStatus {
    /// As a sentence: `standby of a`.
    pub action: String,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, RFC 3339.
    pub at: String,
}

/// The answer to `cardea explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// See [`crate::VERSION`].
    pub version: u32,
    /// What was asked about.
    pub subject: String,
    /// The decision, as a sentence.
    pub decision: String,
    /// Per node, why here or why not.
    pub nodes: Vec<NodeExplanation>,
    /// What happened to it lately, newest last.
    pub history: Vec<HistoryItem>,
}

/// Why here, or why not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeExplanation {
    /// The node.
    pub node: String,
    /// May it run there?
    pub can_run: bool,
    /// Why.
    pub reason: String,
    /// How much speaks for it as the place of a group or resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<i32>,
}

/// One line of `cardea history`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryItem {
    /// Its place in the log.
    pub index: u64,
    /// When, RFC 3339.
    pub at: String,
    /// What happened.
    pub event: String,
    /// To what.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub actor: String,
}

/// One version of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VersionItem {
    /// The version.
    pub config_version: u64,
    /// Who applied it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, RFC 3339.
    pub at: String,
    /// The file.
    pub text: String,
}

/// The answer to `cardea plan`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanStatus {
    /// See [`crate::VERSION`].
    pub version: u32,
    /// The version that the plan starts from.
    pub config_version: u64,
    /// Where each unit should run, as sentences.
    pub decisions: Vec<String>,
    /// What would change, in order.
    pub steps: Vec<StepStatus>,
    /// Warnings about the file.
    pub warnings: Vec<String>,
    /// What changes in the cluster itself: links, timers, fence devices, agents; each a sentence with what follows.
    #[serde(default)]
    pub changes: Vec<String>,
    /// Why `apply` would refuse the file now, and what to do; none: it would not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// One step of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepStatus {
    /// Position, from 1.
    pub number: usize,
    /// What.
    pub what: String,
    /// Why.
    pub reason: String,
    /// Numbers of the steps that come first.
    pub after: Vec<usize>,
}
