//! What a node is told, and what it asks of its driver.

use executor::JournalError;
use fencing::FenceTest;
use liveness::{PeerOrder, PulseOrder, PulseReport};
use model::{
    AgentCall, Bugs, CallKey, FenceCall, FenceOutcome, Incarnation, Instant, NodeId, Outcome, Profile, WallTime, Write,
};
use state::Command;
use wire::Message;

use crate::addresses::Addresses;

/// A point in time as a step gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// On this machine's monotonic time line: everything is decided by it.
    pub at: Instant,
    /// On the wall: for display, and copied into entries.
    pub wall: WallTime,
}

/// Who this node is in this life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The member.
    pub own: NodeId,
    /// The cluster.
    pub cluster: u64,
    /// The incarnation.
    pub incarnation: Incarnation,
    /// The kernel's boot id.
    pub boot_id: String,
    /// The machine id.
    pub machine_id: String,
    /// The identity of the storage.
    pub storage_uuid: String,
}

/// What may differ between a product and a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Timers, until the configuration is known.
    pub profile: Profile,
    /// Votes but leads only if it must (a witness), until the configuration is known.
    pub is_witness: bool,
    /// Seed of the election timeouts.
    pub seed: u64,
    /// Applied entries after which the log is compacted; at least 1.
    pub compact_every: u64,
    /// Applied entries between two digests of the state (SAFETY §5); at least 1.
    pub digest_every: u64,
    /// Entries that stay in the log below a snapshot, for followers a little behind.
    pub tail_entries: u64,
    /// The feature level that this program knows: it reads no entry of a higher one. Less than [`state::LEVEL`] only
    /// where an older program is simulated.
    pub level: u8,
    /// Planted bugs; none in the product.
    pub bugs: Bugs,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            profile: Profile::Lan,
            is_witness: false,
            seed: 1,
            compact_every: 2000,
            digest_every: 256,
            tail_entries: 500,
            level: state::LEVEL,
            bugs: Bugs::NONE,
        }
    }
}

/// What a node begins with.
#[derive(Debug)]
pub struct Start {
    /// Who it is.
    pub identity: Identity,
    /// Settings.
    pub settings: Settings,
    /// The log and its records, as stored.
    pub stored: consensus::Stored,
    /// The executor's journal, as stored.
    pub journal: Vec<(u64, Vec<u8>)>,
    /// Members to exchange heartbeats with until the state names them (a node that was just admitted).
    pub first_peers: Vec<PeerOrder>,
    /// The addresses in use when the driver last stored them; they may be newer than the stored state.
    pub addresses: Addresses,
    /// When Cardea first ran on this machine since it booted: who was not heard since is given time to boot too.
    pub begun: Instant,
}

/// Why a node cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log is damaged.
    #[error("the cluster log on this node is damaged: {0}")]
    Consensus(#[from] consensus::ConsensusError),
    /// The snapshot is damaged.
    #[error("the snapshot of the cluster state on this node is damaged: {0}")]
    Snapshot(String),
    /// The journal is damaged.
    #[error("the journal of operations on this node is damaged: {0}")]
    Journal(#[from] JournalError),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The other half of this node reports.
    Pulse(PulseReport),
    /// Another member says something.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// The writes of this token are durable.
    Persisted {
        /// The token of `Action::Persist`.
        token: u64,
    },
    /// An agent answered.
    CallDone {
        /// Which call.
        key: CallKey,
        /// Its answer.
        outcome: Outcome,
    },
    /// What a start left running is gone.
    Exited {
        /// The call that started it.
        key: CallKey,
        /// How it ended.
        how: String,
    },
    /// A fence agent answered.
    FenceDone {
        /// Which call.
        key: u64,
        /// Its answer.
        outcome: FenceOutcome,
    },
    /// Somebody asks for something; answered by `Action::Answer`.
    Request {
        /// The asker's number for it.
        id: u64,
        /// What.
        request: Request,
        /// Who asks, for the record.
        actor: String,
    },
    /// `deadline` has passed.
    Tick,
}

/// What can be asked of the leader's node.
#[derive(Clone, Debug)]
pub enum Request {
    /// Put this into the log.
    Propose(Box<Command>),
    /// Fence a member.
    Condemn {
        /// The member.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Read the status of the fence devices of a member.
    FenceTest {
        /// The member.
        node: NodeId,
    },
    /// Let another voter lead.
    Lead {
        /// The voter.
        node: NodeId,
    },
    /// This node is to leave in order: move what runs here, then `Action::Halt`. Any node takes this.
    Leave,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Done; the log index of the change, or zero.
    Done {
        /// The index.
        index: u64,
    },
    /// Refused by the rules of the state; the reason for an operator.
    Refused(String),
    /// This node does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<NodeId>,
    },
    /// What the devices say.
    FenceTests(Vec<FenceTest>),
}

/// Something that an observer may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened, as one of the names in `api::EventKind`.
    pub event: &'static str,
    /// To what.
    pub subject: String,
    /// Why.
    pub reason: String,
}

/// Why a node stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// It left in order; nothing of the cluster's runs here.
    Left,
    /// It is no member any more.
    Removed,
    /// The others condemned this incarnation: whatever runs here must end at once.
    Condemned,
    /// The agreed log or a snapshot says something that this program cannot read: whoever cannot follow the log must
    /// not act on it, and reading it again would change nothing.
    Unreadable,
}

/// What the driver is asked to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send this; may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Make these writes durable together, then say `Persisted`. Writes become durable in the order of tokens.
    Persist {
        /// Which.
        token: u64,
        /// What.
        writes: Vec<Write>,
    },
    /// Run an agent, then say `CallDone`.
    Call(AgentCall),
    /// The call's answer is no longer waited for; end it.
    Abandon(CallKey),
    /// Run a fence agent, then say `FenceDone`.
    FenceCall(FenceCall),
    /// Nobody waits for this fence call any more: kill its agent. `FenceDone` may still follow.
    AbandonFence(u64),
    /// Give this to the other half of this node.
    Pulse(Box<PulseOrder>),
    /// Somebody is elsewhere now, this node included, or an earlier address is needed no longer: see
    /// [`crate::Node::addresses`]. Store them, and use them from now on; a `Pulse` that follows was made with them.
    Addresses,
    /// Answer a request.
    Answer {
        /// The asker's number.
        id: u64,
        /// The answer.
        answer: Answer,
    },
    /// Tell observers.
    Event(Event),
    /// Stop.
    Halt(Halt),
}
