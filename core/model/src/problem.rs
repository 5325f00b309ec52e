//! What should an operator look at? The kinds of problem, and one of them as it was found.
//!
//! A problem is the same one for as long as its kind and its subject are: so it has a beginning and an end, on every node
//! that sees it, whatever its sentence says meanwhile.

use serde::{Deserialize, Serialize};

/// The kinds of problem. `docs/json.md` lists them for programs, `docs/book/when-things-fail.md` for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// A fence device said that the subject, a node, was off, and it was heard afterwards in the same boot.
    FenceLied,
    /// The subject, a node, belongs to no majority that has a leader.
    NotQuorate,
    /// The subject, a node, is condemned and not proven off.
    NotProvenOff,
    /// The subject, a unit, is blocked where it could not be stopped.
    Blocked,
    /// The subject, a unit, should run and runs nowhere.
    RunsNowhere,
    /// The subject, a unit, waits for something that may not come by itself.
    Waits,
    /// The subject, a node, is not heard.
    Silent,
    /// The subject, a node, sends heartbeats and does not hear.
    Deaf,
    /// The subject, a node, is heard and does not answer the leader.
    NotAnswering,
    /// The subject, a node, is heard and cannot be asked over its streams.
    Unreachable,
    /// The agreed state of the subject, a node, is wrong.
    WrongState,
    /// The subject, a node, was sent something from the log that it cannot read.
    Unreadable,
    /// Two machines claim to be the subject, a node.
    TwoMachines,
    /// The subject, a node, runs a program that is too old for the cluster.
    OldProgram,
    /// The disk of the subject, a node, is full or nearly so.
    DiskFull,
    /// The worker of the subject, a node, ends again and again.
    WorkerRestarts,
    /// A fence device says that the subject, a node, is off, and the node is heard.
    FenceReadsOff,
    /// A fence device of the subject, a node, does not answer as it should.
    FenceDevice,
    /// A fence agent is missing on the subject, a node.
    FenceAgent,
    /// The daemon of the subject, a node, ended in maintenance, and its services go on.
    Unwatched,
    /// The subject, a node, came back too often and gets nothing for a while.
    Suppressed,
    /// The subject, a node, was fenced and has not come back.
    Off,
    /// The subject, a node, is proven off and cannot be switched on.
    NotSwitchedOn,
    /// The subject, a node, is a member and has never come.
    NeverCame,
    /// The subject, a resource on a node (`web on a`), has failed.
    Failed,
    /// The subject, a network between two nodes (`network 2 a-b`), is down.
    LinkDown,
    /// New addresses on the subject, a network between two nodes, carry no heartbeats; the former ones stay in use.
    NewAddresses,
    /// The subject, a network between two nodes, goes down again and again.
    LinkFlaps,
    /// Of a kind that only a later program knows.
    #[serde(other)]
    Other,
}

/// How much a problem matters to somebody who is woken up by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Everything runs; the next fault may cost more than it should.
    Warning,
    /// Something does not run, or would not be taken over.
    Critical,
}

impl ProblemKind {
    /// How much it matters.
    pub fn severity(self) -> Severity {
        use ProblemKind as Kind;
        match self {
            Kind::FenceLied
            | Kind::NotQuorate
            | Kind::NotProvenOff
            | Kind::Blocked
            | Kind::RunsNowhere
            | Kind::Silent
            | Kind::Deaf
            | Kind::NotAnswering
            | Kind::WrongState
            | Kind::TwoMachines
            | Kind::DiskFull
            | Kind::WorkerRestarts
            | Kind::FenceReadsOff => Severity::Critical,
            Kind::Waits
            | Kind::Unreachable
            | Kind::Unreadable
            | Kind::OldProgram
            | Kind::FenceDevice
            | Kind::FenceAgent
            | Kind::Unwatched
            | Kind::Suppressed
            | Kind::Off
            | Kind::NotSwitchedOn
            | Kind::NeverCame
            | Kind::Failed
            | Kind::LinkDown
            | Kind::NewAddresses
            | Kind::LinkFlaps
            | Kind::Other => Severity::Warning,
        }
    }
}

/// One problem, as somebody found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Its kind.
    pub kind: ProblemKind,
    /// What it is about, in the words of its kind.
    pub subject: String,
    /// The cause and the next step, for an operator.
    pub text: String,
}

impl Problem {
    /// A problem with its sentence.
    pub fn new(kind: ProblemKind, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Problem { kind, subject: subject.into(), text: text.into() }
    }
}
