//! What do the pulse and the rest of the node tell each other?
//!
//! The pulse runs on a thread of its own. It is given orders (who the members are, what to say about the log)
//! and gives reports (whom it hears, and how well). Both are plain values; the newest replaces the earlier.
//!
//! Not here: what follows from a report (`judge.rs`, `core/consensus`).

use std::time::Duration;

use model::{ConfigVersion, Incarnation, Instant, LinkId, NodeId};

use crate::{BeatFlags, Facts, Health, Timing};

/// Who the pulse speaks for. Fixed for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnIdentity {
    /// The cluster.
    pub cluster: u64,
    /// The node.
    pub id: NodeId,
    /// The life of its kernel.
    pub incarnation: Incarnation,
    /// Random, drawn by the driver at every start of the process; never used twice.
    pub salt: u128,
    /// The cluster key that seals what is sent.
    pub key_epoch: u32,
}

/// What the pulse should do, whole; replaces the order before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulseOrder {
    /// The members; the node itself may be among them and is skipped. At most 128.
    pub members: Vec<PeerOrder>,
    /// The voters, with the node itself if it is one.
    pub voters: Vec<NodeId>,
    /// The timers.
    pub timing: Timing,
    /// What to say about the own log.
    pub facts: Facts,
    /// Is the node stopping in order?
    pub is_leaving: bool,
    /// The version of the cluster file whose addresses the driver uses. What was heard over the addresses of another
    /// version proves nothing about these.
    pub addresses: ConfigVersion,
}

/// Between which addresses a beat came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Both are those that the agreed configuration gives to this link.
    Agreed,
    /// At least one is an earlier one, which stays in use until the agreed ones are proven.
    Former,
}

/// A member to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerOrder {
    /// The member.
    pub id: NodeId,
    /// How many links lead to it: the links 0..`links`.
    pub links: u8,
    /// Its agreed current incarnation, if it has one.
    pub incarnation: Option<Incarnation>,
}

/// What the pulse has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nearly every report is about a peer")]
pub enum PulseReport {
    /// Something about a member changed.
    Peer(PeerReport),
    /// The pulse itself did not run for this long, beyond what it slept on purpose.
    OwnStall {
        /// At least the heartbeat interval.
        stall: Duration,
    },
    /// The node seems (`true`) or no longer seems to be the one that is cut off.
    Isolated(bool),
}

/// How a member looks from here; the newest report replaces the earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerReport {
    /// The member.
    pub id: NodeId,
    /// The incarnation that is, or was last, heard; the agreed one before anything was heard.
    pub incarnation: Incarnation,
    /// Is there contact with it, both ways?
    pub verdict: Verdict,
    /// Do its beats arrive, whether or not it hears ours? A suspect that is heard is deaf, and it runs.
    pub is_heard: bool,
    /// Does some link carry beats both ways, lately?
    pub is_two_way: bool,
    /// How many processes have sent its beats since this one began to listen: one more with each restart of its worker.
    pub sessions: u32,
    /// Since when it has been heard without a suspicion in between; none while it is suspect or unknown.
    pub reachable_since: Option<Instant>,
    /// For how long it may be silent before it is suspect, after what was measured on its links.
    pub limit: Duration,
    /// What it says about its log.
    pub facts: Facts,
    /// Another life under this node's name that is heard next to the reported one.
    pub rival: Option<Rival>,
    /// Members of which it hears two lives, and this node if it hears two of it.
    pub two_lives: Vec<NodeId>,
    /// Members with which it had no contact for the profile's limit or longer, ascending. Says nothing while
    /// `flags` has [`BeatFlags::NO_ACCUSE`].
    pub suspects: Vec<NodeId>,
    /// Members with which it had contact, both ways, within the profile's limit, ascending.
    pub hears: Vec<NodeId>,
    /// Its notes.
    pub flags: BeatFlags,
    /// For how long its worker and its disk have stood still, as it says; reported at once when it crosses one of the
    /// limits of [`Timing`] (`sick_lead`, `sick_drain`, `sick_fence`), in either direction.
    pub health: Health,
    /// Its links, ascending.
    pub links: Vec<LinkReport>,
}

/// A life that is heard under the name of another one. While the agreed life of a member is heard, no other one takes
/// its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rival {
    /// The incarnation that this life claims.
    pub incarnation: Incarnation,
    /// Two machines have the same identity; else one life may have followed quickly on the other.
    pub is_certain: bool,
}

/// How one link to a member looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkReport {
    /// The link.
    pub link: LinkId,
    /// Do beats flow both ways, steadily?
    pub state: LinkState,
    /// Has the peer lately proven that it hears this node over it? True also of a link that loses much.
    pub is_two_way: bool,
    /// The version of the cluster file between whose addresses beats lately flow both ways, on both nodes' word.
    pub proven: Option<ConfigVersion>,
    /// The smoothed round trip, once measured.
    pub rtt: Option<Duration>,
    /// Lost of the last 256 beats towards here; 0..=1000.
    pub loss_permille: u16,
}

/// What a link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing, or one way only.
    Down,
    /// Beats both ways, but not yet enough of them in a row.
    Confirming,
    /// Beats both ways, steadily.
    Up,
}

/// Is there contact with a member, both ways? One node's word; the cluster's is the judge's.
///
/// A member that is heard and does not hear is of no more use than a silent one: it counts as silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// No contact yet, and not yet due.
    #[default]
    Unknown,
    /// It was heard lately, and has proven that it hears this node.
    Reachable,
    /// Silent for longer than usual; is pinged.
    Late,
    /// Silent for too long.
    Suspect,
}
