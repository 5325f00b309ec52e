//! Why did the agreed state not change? Every refusal in words for an operator.

use model::{ConfigVersion, Epoch, GrantId, Incarnation, NodeId, ResourceName, Term, UnitName};

/// Why a command was refused. It changed nothing but the counter of refusals.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the message of each variant is its documentation
pub enum Refusal {
    #[error("the leader of epoch {proposed} no longer leads; the current epoch is {current}")]
    OldEpoch { proposed: Epoch, current: Epoch },
    #[error("term {proposed} is over; term {current} has begun")]
    OldTerm { proposed: Term, current: Term },
    #[error("node {0} is not a member")]
    UnknownNode(NodeId),
    #[error("`{0}` is not a unit of the configuration")]
    UnknownUnit(UnitName),
    #[error("`{0}` is not a resource of the configuration")]
    UnknownResource(ResourceName),
    #[error("{node} is in another incarnation ({current}) than the one meant ({proposed})")]
    OtherIncarnation { node: String, proposed: Incarnation, current: Incarnation },
    #[error("this incarnation of {0} is dead for ever; the node must boot again")]
    DeadIncarnation(String),
    #[error("{0} is condemned")]
    Condemned(String),
    #[error("{0} is not condemned")]
    NotCondemned(String),
    #[error("{0} cannot be spared any more: it was condemned for more than its silence, or its fence has begun")]
    FenceBegun(String),
    #[error("{node} is {state}, not online")]
    NotOnline { node: String, state: &'static str },
    #[error("{0} leads the cluster; another node must lead first")]
    Leads(String),
    #[error("{0} has already joined")]
    AlreadyJoined(String),
    #[error(
        "the storage of {0} is not the one it was admitted with: \
         remove the node (`cardea remove`) and join it anew under a token"
    )]
    OtherStorage(String),
    #[error("the previous life of {node} must be proven off first ({why}): fence it, or confirm that it is off")]
    NeedsFence { node: String, why: &'static str },
    #[error("{0} is a witness and runs nothing")]
    Witness(String),
    #[error("{0} is in maintenance")]
    Maintenance(String),
    #[error("a member runs an older Cardea, which does not know this: feature level {0} is needed on all")]
    NeedsLevel(u8),
    #[error("the cluster is at feature level {0} already")]
    LevelReached(u8),
    #[error("{0} is not in maintenance")]
    NotInMaintenance(String),
    #[error("{unit} is held by {node}")]
    Held { unit: UnitName, node: String },
    #[error("nothing that can fence {node} covers everything that {unit} could damage")]
    NotCovered { unit: UnitName, node: String },
    #[error("{resource} is {state} on {node}, not known to be stopped")]
    NotStopped { resource: ResourceName, node: String, state: &'static str },
    #[error("{unit} is not held under grant {grant}")]
    OtherGrant { unit: UnitName, grant: GrantId },
    #[error("{unit} is {state}")]
    HolderState { unit: UnitName, state: &'static str },
    #[error("{node} still holds {unit}")]
    StillHolds { node: String, unit: UnitName },
    #[error("the evidence names no device that fences {0} and covers what is claimed")]
    NoEvidence(String),
    #[error("this was made from version {expected} of the cluster file, and version {current} is current{by}")]
    OtherVersion { expected: ConfigVersion, current: ConfigVersion, by: String },
    #[error("the file drops the member `{0}`, or changes its role: use `cardea remove` and `cardea join`")]
    DropsMember(String),
    #[error(
        "`{0}` and `{1}` would not find each other: on every network an address changes. Change one network after \
         another, each when the one before works; a cluster with one network gets a second one first"
    )]
    NoNetworkStays(String, String),
    #[error("the file has no node `{0}`")]
    NodeNotInFile(String),
    #[error("an identity of the machine or storage of {0} is longer than any real one")]
    LongIdentity(String),
    #[error("a member named `{0}` exists already")]
    NameTaken(String),
    #[error("this storage already belongs to the member `{0}`: a copied disk cannot join")]
    StorageTaken(String),
    #[error(
        "`{resource}` would change from unit `{from}` to `{to}` while `{from}` is held: stop it first (`cardea stop {from}`)"
    )]
    Regrouped { resource: ResourceName, from: UnitName, to: UnitName },
    #[error("`{0}` was removed and has not stopped everywhere yet; try again when it has")]
    StillStopping(ResourceName),
    #[error("`{resource}` cannot become exclusive: it may run on {node}, which must stop it or be proven off first")]
    CannotBeExclusive { resource: ResourceName, node: String },
    #[error("no such join token, or it was used; make a new one with `cardea token create`")]
    UnknownToken,
    #[error("the join token has expired; make a new one with `cardea token create`")]
    ExpiredToken,
    #[error("the join token is for another {0}")]
    OtherToken(&'static str),
    #[error("too many unused join tokens")]
    TooManyTokens,
    #[error("{unit} runs on {node} already")]
    RunsThere { unit: UnitName, node: String },
    #[error("nobody asked for that: there is nothing to undo")]
    NoSuchAction,
}
