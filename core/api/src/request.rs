//! What can an operator ask for, and what is the answer?

use serde::{Deserialize, Serialize};

/// A change or a test that somebody asks for. The leader carries it out; other nodes pass it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Make this cluster file current.
    Apply {
        /// The file.
        text: String,
        /// Refuse if another version is current.
        expected_version: Option<u64>,
        /// Why.
        reason: String,
        /// Also if the agents of the nodes cannot work with it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
    /// Make an earlier version current again, as a new version.
    Rollback {
        /// The version to go back to.
        to: u64,
        /// Refuse if another version is current.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_version: Option<u64>,
        /// Why.
        reason: String,
    },
    /// Move a unit, once.
    Move {
        /// The group or resource.
        unit: String,
        /// The node; none: the best other one.
        to: Option<String>,
        /// Why.
        reason: String,
    },
    /// Let a node run nothing, or let it work again.
    Standby {
        /// The node.
        node: String,
        /// On or off.
        on: bool,
        /// Why.
        reason: String,
    },
    /// Keep hands off a node or off everything, or take it up again.
    Maintenance {
        /// The node; none: the whole cluster.
        node: Option<String>,
        /// On or off.
        on: bool,
        /// Why.
        reason: String,
    },
    /// Start a stopped unit again.
    Start {
        /// The group or resource.
        unit: String,
        /// Why.
        reason: String,
    },
    /// Stop a unit until it is started again.
    Stop {
        /// The group or resource.
        unit: String,
        /// Why.
        reason: String,
    },
    /// Forget failures of a resource, or the flapping of a node.
    Clear {
        /// A resource, group or node; none: everything.
        name: Option<String>,
        /// Only on this node.
        node: Option<String>,
        /// Why.
        reason: String,
    },
    /// Fence a node.
    Fence {
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// Attest that a node is off.
    ConfirmOff {
        /// The node.
        node: String,
        /// The node's name, typed again.
        typed: String,
        /// Why.
        reason: String,
    },
    /// Read the status of the fence devices of a node, or of all nodes.
    FenceTest {
        /// The node; none: all.
        node: Option<String>,
    },
    /// Let this node lead.
    Lead {
        /// The node.
        node: String,
    },
    /// Make a join token.
    CreateToken {
        /// The joiner becomes a witness.
        witness: bool,
        /// The only name it may use.
        name: Option<String>,
        /// How long it is good for, in seconds; 1..=86400.
        seconds: u64,
    },
    /// End the daemon of the answering node in order, or stop the whole site.
    ShutDown {
        /// All nodes: what runs is stopped in order, then the daemons end.
        all: bool,
        /// The operator's words for the history; may be empty.
        reason: String,
    },
    /// Remove a node from the cluster.
    Remove {
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
}

/// A request was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// See [`crate::VERSION`].
    pub version: u32,
    /// Log index of the change; zero if nothing was written.
    pub index: u64,
    /// What was done, as a sentence.
    pub message: String,
    /// The token, for `CreateToken`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What the devices say, for `FenceTest`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fence_tests: Vec<FenceTestResult>,
}

/// What one device said of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceTestResult {
    /// The node.
    pub node: String,
    /// The device.
    pub device: String,
    /// Did it answer?
    pub ok: bool,
    /// Its answer.
    pub answer: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}\n  {next}")]
pub struct Refused {
    /// See [`crate::VERSION`].
    pub version: u32,
    /// Which kind.
    pub code: RefusedCode,
    /// What was refused and why.
    pub message: String,
    /// What to do next.
    pub next: String,
    /// For `Unconfirmed`: the word that confirms exactly what `message` says would be lost, as `?confirm=WORD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// Confirms whatever would be lost, as `?confirm=yes`.
pub const CONFIRM_ALL: &str = "yes";

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusedCode {
    /// Something in the request is wrong.
    Invalid,
    /// Nobody leads with a majority.
    NotQuorate,
    /// Another version is current.
    Conflict,
    /// The rules of exclusion forbid it.
    Forbidden,
    /// The leader gave no answer in time; it may or may not be carried out.
    TimedOut,
    /// This user asks for more at once than a user may.
    Busy,
    /// It would take away something that works now, and nobody has confirmed that this is meant.
    Unconfirmed,
    /// The command did not reach the daemon, or could not be carried out on this machine.
    Failed,
}

impl Refused {
    /// A refusal with what to do next.
    pub fn new(code: RefusedCode, message: impl Into<String>, next: impl Into<String>) -> Self {
        Refused { version: crate::VERSION, code, message: message.into(), next: next.into(), confirm: None }
    }
}
