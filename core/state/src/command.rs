//! What can be asked of the agreed state? The commands, and the entry that carries one through the log.
//!
//! In: bytes of the log. Out: entries, and back. A version byte leads, fields are numbered and unknown ones are
//! skipped, so that a newer node's entry is readable as long as its version is.
//! Not here: what a command does (`apply.rs`).

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use model::{
    ActionKind, ClusterConfig, ConfigVersion, Domain, Epoch, FenceEvidence, GrantId, Incarnation, LogIndex, NodeId,
    NodeName, NodeRole, OpId, ResourceName, ResourceState, Term, UnitName, WallTime,
};

/// The version of the entry's encoding that this build writes.
const ENTRY_VERSION: u8 = 1;

/// Which kinds of entries this build can read. 1: `FenceBegun`, `Spare`, `Lost`, `Gone`. 2: `Block` lets a best-effort
/// unit go. 3: a new version of the file forgets the failures of whole units, and keeps what a failed stop cost for as long
/// as the stop fails. 4: nodes keep the addresses that a new version replaces until the new ones are proven, so that all
/// may change at once; `ActionKind::ShutDown`; a move is over by what keeps the unit where it was sent.
///
/// A leader uses them as soon as the agreed level says that all members know them (`Raise`).
pub const LEVEL: u8 = 4;

/// One command with its author and time, as the log carries it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// When the proposer made it, by its wall clock; for display and for limits of minutes.
    #[n(0)]
    pub at: WallTime,
    /// Who asked for it: `cluster`, or an operator.
    #[n(1)]
    pub actor: String,
    /// What is asked.
    #[n(2)]
    pub command: Command,
}

/// What can be asked of the agreed state. A command that carries an `epoch` comes from the leader and is refused
/// unless that epoch is the current one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// A new leader begins; the index of this entry becomes the epoch.
    #[n(0)]
    Coordinator {
        /// The leader.
        #[n(0)]
        node: NodeId,
        /// Its incarnation, joined or not.
        #[n(1)]
        incarnation: Incarnation,
        /// The term it was elected in.
        #[n(2)]
        term: Term,
    },
    /// Admits a new member; its id is the index of this entry.
    #[n(1)]
    Admit {
        /// Its name.
        #[n(0)]
        name: NodeName,
        /// Member or witness.
        #[n(1)]
        role: NodeRole,
        /// The identity of its storage.
        #[n(2)]
        storage_uuid: String,
        /// The identity of its machine.
        #[n(3)]
        machine_id: String,
        /// The cluster file with the new node in it.
        #[n(4)]
        config_text: String,
        /// The same, parsed.
        #[n(5)]
        config: Box<ClusterConfig>,
        /// The version that the file was made from.
        #[n(6)]
        expected_version: ConfigVersion,
        /// The join token that this uses up.
        #[n(7)]
        token: Option<u64>,
    },
    /// Removes a member that is off and holds nothing.
    #[n(2)]
    Remove {
        /// The member.
        #[n(0)]
        node: NodeId,
        /// Why.
        #[n(1)]
        reason: String,
    },
    /// A member is here, in this incarnation.
    #[n(3)]
    Join {
        /// The member.
        #[n(0)]
        node: NodeId,
        /// Its incarnation.
        #[n(1)]
        incarnation: Incarnation,
        /// The boot id of the incarnation.
        #[n(2)]
        boot_id: String,
        /// The identity of the machine.
        #[n(3)]
        machine_id: String,
        /// The identity of the storage.
        #[n(4)]
        storage_uuid: String,
        /// The term of its last log entry; consensus judges it, the history keeps it.
        #[n(5)]
        last_term: Term,
        /// The index of its last log entry.
        #[n(6)]
        last_index: LogIndex,
        /// Was its previous incarnation heard within the freshness limit? Then it is not gone.
        #[n(7)]
        old_heard_recently: bool,
    },
    /// A member goes in order; it holds nothing.
    #[n(4)]
    Leave {
        /// The member.
        #[n(0)]
        node: NodeId,
        /// Its incarnation.
        #[n(1)]
        incarnation: Incarnation,
        /// The leader's epoch.
        #[n(2)]
        epoch: Epoch,
    },
    /// Gives a unit to a node; the index of this entry becomes the grant.
    #[n(5)]
    Grant {
        /// The unit.
        #[n(0)]
        unit: UnitName,
        /// Who may run it.
        #[n(1)]
        node: NodeId,
        /// In this incarnation only.
        #[n(2)]
        incarnation: Incarnation,
        /// The leader's epoch.
        #[n(3)]
        epoch: Epoch,
        /// Why there.
        #[n(4)]
        reason: String,
    },
    /// The unit is to leave its holder: from here on only a new stop counts as evidence.
    #[n(6)]
    BeginRelease {
        /// The unit.
        #[n(0)]
        unit: UnitName,
        /// The grant that ends.
        #[n(1)]
        grant: GrantId,
        /// The leader's epoch.
        #[n(2)]
        epoch: Epoch,
        /// Why.
        #[n(3)]
        reason: String,
    },
    /// The unit has stopped where it was held.
    #[n(7)]
    Release {
        /// The unit.
        #[n(0)]
        unit: UnitName,
        /// Its holder.
        #[n(1)]
        node: NodeId,
        /// The holder's incarnation.
        #[n(2)]
        incarnation: Incarnation,
        /// The grant that ends.
        #[n(3)]
        grant: GrantId,
        /// The leader's epoch.
        #[n(4)]
        epoch: Epoch,
    },
    /// The holder cannot stop the unit.
    #[n(8)]
    Block {
        /// The unit.
        #[n(0)]
        unit: UnitName,
        /// The grant concerned.
        #[n(1)]
        grant: GrantId,
        /// The leader's epoch.
        #[n(2)]
        epoch: Epoch,
        /// Why.
        #[n(3)]
        why: String,
    },
    /// This incarnation gets nothing any more and is to be fenced; only `Spare` takes it back.
    #[n(9)]
    Condemn {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// The incarnation.
        #[n(1)]
        incarnation: Incarnation,
        /// The leader's epoch.
        #[n(2)]
        epoch: Epoch,
        /// Why.
        #[n(3)]
        reason: String,
        /// It is condemned because nobody hears it, and for nothing else.
        #[n(4)]
        #[cbor(default)]
        is_for_silence: bool,
    },
    /// The condemned incarnation is proven off, as far as `covers` reaches.
    #[n(10)]
    FenceDone {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// The incarnation.
        #[n(1)]
        incarnation: Incarnation,
        /// The leader's epoch.
        #[n(2)]
        epoch: Epoch,
        /// What proves it.
        #[n(3)]
        evidence: FenceEvidence,
        /// What the node can no longer touch.
        #[n(4)]
        covers: BTreeSet<Domain>,
    },
    /// A person attests that the incarnation is off.
    #[n(11)]
    ManualConfirm {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// The incarnation.
        #[n(1)]
        incarnation: Incarnation,
        /// Why that is certain.
        #[n(2)]
        reason: String,
    },
    /// What a node's executor reported.
    #[n(12)]
    Observed {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// The reporting incarnation.
        #[n(1)]
        incarnation: Incarnation,
        /// The leader's epoch.
        #[n(2)]
        epoch: Epoch,
        /// What was seen.
        #[n(3)]
        observations: Vec<Observation>,
    },
    /// A new version of the cluster file.
    #[n(13)]
    Configure {
        /// The version it was made from.
        #[n(0)]
        expected_version: ConfigVersion,
        /// The file.
        #[n(1)]
        text: String,
        /// The same, parsed.
        #[n(2)]
        config: Box<ClusterConfig>,
        /// Why.
        #[n(3)]
        reason: String,
    },
    /// An operator asks for something.
    #[n(14)]
    Act {
        /// What.
        #[n(0)]
        action: ActionKind,
        /// Why.
        #[n(1)]
        reason: String,
    },
    /// An operator takes a wish back.
    #[n(15)]
    Undo {
        /// Which.
        #[n(0)]
        action: ActionKind,
        /// Why.
        #[n(1)]
        reason: String,
    },
    /// Forgets failures, blockades and flaps, so that they no longer keep resources away.
    #[n(16)]
    Clear {
        /// Of this resource; none: of all.
        #[n(0)]
        resource: Option<ResourceName>,
        /// On this node; none: on all.
        #[n(1)]
        node: Option<NodeId>,
        /// Why.
        #[n(2)]
        reason: String,
    },
    /// A new join token.
    #[n(17)]
    AddToken {
        /// Its id, the public half.
        #[n(0)]
        id: u64,
        /// SHA-256 of its secret half.
        #[n(1)]
        secret_hash: Vec<u8>,
        /// When it ends.
        #[n(2)]
        expires: WallTime,
        /// What the joiner becomes.
        #[n(3)]
        role: NodeRole,
        /// The only name it may be used for, if bound.
        #[n(4)]
        name: Option<NodeName>,
    },
    /// Somebody used a token with a wrong secret; five of them burn it.
    #[n(18)]
    WrongToken {
        /// The token.
        #[n(0)]
        id: u64,
    },
    /// Changes nothing.
    #[n(19)]
    Nothing,
    /// From here on a device may be told to cut this condemned incarnation off. Its commit is also the proof that its
    /// leader still leads: each `off` follows a commit of its own.
    #[n(20)]
    FenceBegun {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// The incarnation.
        #[n(1)]
        incarnation: Incarnation,
        /// The leader's epoch.
        #[n(2)]
        epoch: Epoch,
        /// Counts the attempts of this leader.
        #[n(3)]
        attempt: u64,
    },
    /// The incarnation was condemned for its silence and is heard again before any device was told to cut it off.
    #[n(21)]
    Spare {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// The incarnation.
        #[n(1)]
        incarnation: Incarnation,
        /// The leader's epoch.
        #[n(2)]
        epoch: Epoch,
    },
    /// Nobody has contact with this member, and no device could cut it off: what it holds that may run twice may run
    /// elsewhere. The member itself goes on.
    #[n(22)]
    Lost {
        /// Who is lost.
        #[n(0)]
        node: NodeId,
        /// Its life that is meant; an entry about another one is refused.
        #[n(1)]
        incarnation: Incarnation,
        /// The leader's epoch.
        #[n(2)]
        epoch: Epoch,
        /// Why nobody has contact, as one sentence for operators.
        #[n(3)]
        reason: String,
    },
    /// The daemon of this member ends in maintenance: it is silent from here on, and its services go on.
    #[n(23)]
    Gone {
        /// Whose daemon ended.
        #[n(0)]
        node: NodeId,
        /// Its life that is meant; an entry about another one is refused.
        #[n(1)]
        incarnation: Incarnation,
        /// The leader's epoch.
        #[n(2)]
        epoch: Epoch,
    },
    /// All members that are online can read the entries of this level: they are used from here on.
    #[n(24)]
    Raise {
        /// The level.
        #[n(0)]
        level: u8,
        /// The leader's epoch.
        #[n(1)]
        epoch: Epoch,
    },
}

/// What an executor saw of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Observation {
    /// The resource.
    #[n(0)]
    pub resource: ResourceName,
    /// The operation that found it out; recurring checks carry that of the start.
    #[n(1)]
    pub op: OpId,
    /// The resource's state on the node.
    #[n(2)]
    pub state: ResourceState,
    /// Digest of the agent and parameters it runs with ([`crate::parameters_digest`]); zero if nobody knows.
    #[n(3)]
    pub digest: u64,
    /// Set if this counts as a failure on the node.
    #[n(4)]
    pub failure: Option<Failure>,
    /// Why it is so, in words for an operator.
    #[n(5)]
    pub reason: String,
    /// Did the resource change by itself after the operation? Else this is the operation's result.
    #[n(6)]
    #[cbor(default)]
    pub is_change: bool,
}

/// One failure of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Failure {
    /// What went wrong, in words for an operator.
    #[n(0)]
    pub reason: String,
    /// Will another try on this node give the same answer?
    #[n(1)]
    pub is_permanent: bool,
}

/// Why bytes are no entry or snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Nothing there.
    #[error("the {what} is empty")]
    Empty {
        /// What was to be read.
        what: &'static str,
    },
    /// Written by a newer Cardea.
    #[error("the {what} has version {found}, this build reads version {known}: install the newer Cardea")]
    Version {
        /// What was to be read.
        what: &'static str,
        /// The version in the bytes.
        found: u8,
        /// The version that this build knows.
        known: u8,
    },
    /// Of a cluster whose members all know more than this build.
    #[error("the {what} is of feature level {found}, this build knows {known}: install the newer Cardea")]
    Level {
        /// What was to be read.
        what: &'static str,
        /// The agreed level.
        found: u8,
        /// The level of this build.
        known: u8,
    },
    /// Damaged.
    #[error("the {what} is damaged: {cause}")]
    Damaged {
        /// What was to be read.
        what: &'static str,
        /// What is wrong with it.
        cause: String,
    },
}

impl Entry {
    /// The entry as bytes for the log.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![ENTRY_VERSION];
        minicbor::encode(self, &mut bytes).expect("writing to a Vec cannot fail");
        bytes
    }

    /// The entry in these bytes.
    ///
    /// # Errors
    /// If they are empty, of another version or a higher level, damaged, or longer than the entry.
    pub fn decode(bytes: &[u8]) -> Result<Entry, CodecError> {
        Entry::decode_at(bytes, LEVEL)
    }

    /// The entry in these bytes, as a build that knows this level can read it.
    ///
    /// # Errors
    /// As [`Entry::decode`].
    pub fn decode_at(bytes: &[u8], known: u8) -> Result<Entry, CodecError> {
        let body = body_of("log entry", ENTRY_VERSION, bytes)?;
        let entry: Entry = decode_all("log entry", body)?;
        check_level("log entry", entry.command.level(), known).map(|()| entry)
    }
}

impl Command {
    /// Which feature level a build must know to read this entry; the cluster must be at that level before it is used.
    pub fn level(&self) -> u8 {
        match self {
            Command::Raise { level, .. } => *level,
            Command::FenceBegun { .. } | Command::Spare { .. } | Command::Lost { .. } | Command::Gone { .. } => 1,
            Command::Act { action: ActionKind::ShutDown, .. } | Command::Undo { action: ActionKind::ShutDown, .. } => 4,
            Command::Coordinator { .. }
            | Command::Admit { .. }
            | Command::Join { .. }
            | Command::Leave { .. }
            | Command::Remove { .. }
            | Command::Grant { .. }
            | Command::BeginRelease { .. }
            | Command::Release { .. }
            | Command::Block { .. }
            | Command::Condemn { .. }
            | Command::FenceDone { .. }
            | Command::ManualConfirm { .. }
            | Command::Observed { .. }
            | Command::Configure { .. }
            | Command::Act { .. }
            | Command::Undo { .. }
            | Command::Clear { .. }
            | Command::AddToken { .. }
            | Command::WrongToken { .. }
            | Command::Nothing => 0,
        }
    }
}

/// Refuses what only a newer build than one of level `known` can follow.
pub(crate) fn check_level(what: &'static str, found: u8, known: u8) -> Result<(), CodecError> {
    if found <= known { Ok(()) } else { Err(CodecError::Level { what, found, known }) }
}

/// What follows the version byte, if that is `known`.
pub(crate) fn body_of<'b>(what: &'static str, known: u8, bytes: &'b [u8]) -> Result<&'b [u8], CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Empty { what }),
        Some((found, body)) if *found == known => Ok(body),
        Some((found, _)) => Err(CodecError::Version { what, found: *found, known }),
    }
}

/// Reads a value that fills `body` to its end.
pub(crate) fn decode_all<'b, T: Decode<'b, ()>>(what: &'static str, body: &'b [u8]) -> Result<T, CodecError> {
    let mut decoder = minicbor::Decoder::new(body);
    let value =
        decoder.decode().map_err(|e: minicbor::decode::Error| CodecError::Damaged { what, cause: e.to_string() })?;
    if decoder.position() == body.len() {
        Ok(value)
    } else {
        Err(CodecError::Damaged { what, cause: format!("{} bytes too many", body.len() - decoder.position()) })
    }
}
