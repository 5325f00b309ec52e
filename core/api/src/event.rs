//! What just happened? One line each, for `cardea events` and whoever follows along.

use model::ProblemKind;
use serde::{Deserialize, Serialize};

/// Something that happened on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Number of the event on its node, from 1; goes on when the worker is replaced or the node boots.
    pub number: u64,
    /// Microseconds of CLOCK_MONOTONIC on the node.
    pub at_us: u64,
    /// Wall clock, milliseconds since 1970, UTC.
    pub wall_ms: u64,
    /// The node that tells it.
    pub node: String,
    /// What happened.
    pub event: EventKind,
    /// What it happened to: a node, a unit, a resource.
    pub subject: String,
    /// Why, as a sentence.
    pub reason: String,
    /// Of which kind the problem is that begins or ends, where the event is about one of `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemKind>,
}

/// The kinds of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// This node no longer hears the subject.
    Suspect,
    /// This node hears the subject again.
    Reachable,
    /// A link to the subject went down.
    LinkDown,
    /// A link to the subject works again.
    LinkUp,
    /// The subject leads.
    Leader,
    /// The subject is to be fenced.
    Condemned,
    /// A fence agent was called for the subject.
    FenceCalled,
    /// A fence agent failed.
    FenceFailed,
    /// The subject is proven off.
    Fenced,
    /// The unit was given to a node.
    Granted,
    /// The unit is to leave its node.
    Releasing,
    /// The unit was given up, stopped.
    Released,
    /// The unit is blocked.
    Blocked,
    /// An agent was called here.
    OpBegun,
    /// An agent answered here.
    OpDone,
    /// A resource runs.
    Running,
    /// A resource stopped.
    Stopped,
    /// A resource failed.
    Failed,
    /// A node was admitted.
    Admitted,
    /// A node came with a new incarnation.
    Joined,
    /// A node left in order.
    Left,
    /// A node was removed from the cluster.
    Removed,
    /// The voters changed.
    Voters,
    /// The configuration changed.
    Config,
    /// A person attested that the subject is off.
    ConfirmedOff,
    /// The cluster began, with the subject as its first node.
    Founded,
    /// What the subject held was freed by the proof of its end.
    Freed,
    /// The daemon of the subject ended in maintenance; its services go on.
    Gone,
    /// The subject's lead is agreed on.
    Leads,
    /// The daemon of the subject was told to end.
    Leave,
    /// The subject stays after all.
    LeaveOff,
    /// All members can read the entries of a higher feature level.
    Level,
    /// Nobody has contact with the subject, and what may run twice may run elsewhere.
    Lost,
    /// An operator keeps hands off the subject.
    Maintenance,
    /// The subject is looked after again.
    MaintenanceOff,
    /// An operator moves the subject.
    Move,
    /// The move of the subject is not asked for any more.
    MoveOff,
    /// The subject was moved, as asked.
    Moved,
    /// The subject runs where it must not.
    Orphan,
    /// An operator shuts the site down.
    Shutdown,
    /// The site was started again after it was shut down.
    ShutdownOff,
    /// The subject was condemned for its silence, and is heard again.
    Spared,
    /// An operator lets the subject run nothing.
    Standby,
    /// The subject may run something again.
    StandbyOff,
    /// An operator starts the subject, which was stopped.
    Start,
    /// An operator stops the subject.
    Stop,
    /// The subject could not be stopped.
    StopFailed,
    /// The subject came back too often and gets nothing for a while.
    Suppressed,
    /// A join token was made, or burnt.
    Token,
    /// What could not be stopped has stopped after all.
    Unblocked,
    /// Failures were cleared.
    Cleared,
    /// The state of the subject was wrong, and is now that of the leader.
    Renewed,
    /// Something an operator should look at.
    Problem,
    /// A problem is over.
    ProblemOver,
    /// The worker of this node started.
    Started,
    /// Anything else that the history tells.
    Note,
}
