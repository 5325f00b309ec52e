//! What do members say to each other? Our own form of Raft's messages, and the check of those that arrive.
//!
//! The library's messages are protobuf, whose parser must not see what comes from the network. So they travel in
//! this form, and [`Message::check`] refuses whatever could not have come from a working member; what depends on
//! the receiver's own log is checked in `consensus.rs`.
//!
//! Sender and receiver are not part of a message: the transport knows both, and has proven the sender.

use minicbor::{Decode, Encode};
use model::{LogIndex, NodeId, Term};
use protobuf::Message as _;
use raft::eraftpb;

use crate::consensus::MembershipChange;

/// Numbers above this cannot be honest; it keeps arithmetic on them from overflowing.
const NUMBER_MAX: u64 = 1 << 60;
const MEMBERS_MAX: usize = 1024;
/// A message up to this size goes as a datagram.
const SMALL_BYTES_MAX: usize = 1024;
/// How the library marks a vote that a leader asked for.
const TRANSFER: &[u8] = raft::CAMPAIGN_TRANSFER;

/// One message from one member to another.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Message {
    #[n(0)]
    pub(crate) kind: MessageKind,
    #[n(1)]
    pub(crate) term: Term,
    #[n(2)]
    pub(crate) index: LogIndex,
    #[n(3)]
    pub(crate) log_term: Term,
    #[n(4)]
    pub(crate) commit: LogIndex,
    #[n(5)]
    pub(crate) commit_term: Term,
    #[n(6)]
    pub(crate) is_rejected: bool,
    #[n(7)]
    pub(crate) reject_hint: LogIndex,
    #[n(8)]
    pub(crate) priority: i64,
    #[n(9)]
    pub(crate) is_transfer: bool,
    #[n(10)]
    pub(crate) entries: Vec<LogEntry>,
    #[n(11)]
    pub(crate) snapshot: Option<Snapshot>,
}

/// The kinds of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum MessageKind {
    /// Entries of the leader, or only its commit index.
    #[n(0)]
    Append,
    /// The answer to Append and Snapshot.
    #[n(1)]
    AppendResponse,
    /// A candidate asks for a vote.
    #[n(2)]
    RequestVote,
    /// The answer to RequestVote.
    #[n(3)]
    RequestVoteResponse,
    /// The state itself, for a follower behind the leader's log.
    #[n(4)]
    Snapshot,
    /// The leader is there.
    #[n(5)]
    Heartbeat,
    /// The answer to Heartbeat.
    #[n(6)]
    HeartbeatResponse,
    /// The leader wants the receiver to lead.
    #[n(7)]
    TimeoutNow,
    /// Would you vote for me?
    #[n(8)]
    RequestPreVote,
    /// The answer to RequestPreVote.
    #[n(9)]
    RequestPreVoteResponse,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct LogEntry {
    #[n(0)]
    pub term: Term,
    #[n(1)]
    pub index: LogIndex,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub data: Vec<u8>,
    /// A change of membership; then `data` is empty.
    #[n(3)]
    pub change: Option<MembershipChange>,
}

/// The state after `index`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Snapshot {
    #[n(0)]
    pub index: LogIndex,
    #[n(1)]
    pub term: Term,
    #[n(2)]
    pub membership: Membership,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub data: Vec<u8>,
}

/// Who votes and who only listens; both sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Membership {
    #[n(0)]
    pub voters: Vec<NodeId>,
    #[n(1)]
    pub learners: Vec<NodeId>,
}

/// Why a message is no message of a working member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageRefusal {
    /// Term zero, or a number no cluster reaches.
    #[error("a number is out of range")]
    Number,
    /// Something is there, or missing, that this kind has not, or needs.
    #[error("the content does not fit the kind")]
    Content,
    /// Entries without order.
    #[error("the entries do not follow one another")]
    Entries,
    /// A snapshot without voters, or with a member twice.
    #[error("the membership of the snapshot is invalid")]
    Membership,
}

impl Message {
    /// What it is.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The sender's term (of a pre-vote: the term it would begin).
    pub fn term(&self) -> Term {
        self.term
    }

    /// Does it fit into a datagram (encoded at most 1 KiB)? Everything else goes by stream.
    pub fn is_small(&self) -> bool {
        self.bytes_max() <= SMALL_BYTES_MAX
    }

    /// Is this a snapshot? Its sender wants to hear [`crate::Input::SnapshotSent`].
    pub fn is_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// An upper bound of the encoded length in bytes.
    pub fn bytes_max(&self) -> usize {
        let entries: usize = self.entries.iter().map(|entry| 36 + entry.data.len()).sum();
        let snapshot = self.snapshot.as_ref().map_or(0, |snapshot| {
            64 + snapshot.data.len() + 9 * (snapshot.membership.voters.len() + snapshot.membership.learners.len())
        });
        96 + entries + snapshot
    }

    /// What its entries say, as the proposer wrote it.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|entry| entry.data.as_slice()).filter(|data| !data.is_empty())
    }

    /// The state that it carries.
    pub fn snapshot(&self) -> Option<&[u8]> {
        self.snapshot.as_ref().map(|snapshot| snapshot.data.as_slice())
    }

    /// Could a working member have sent this?
    pub(crate) fn check(&self) -> Result<(), MessageRefusal> {
        let numbers =
            [self.term.0, self.log_term.0, self.index.0, self.commit.0, self.commit_term.0, self.reject_hint.0];
        if self.term.0 == 0 || numbers.iter().any(|number| *number > NUMBER_MAX) {
            return Err(MessageRefusal::Number);
        }
        if (self.kind == MessageKind::Snapshot) != self.snapshot.is_some()
            || (!self.entries.is_empty() && self.kind != MessageKind::Append)
            || (self.is_transfer && self.kind != MessageKind::RequestVote)
        {
            return Err(MessageRefusal::Content);
        }
        match self.kind {
            MessageKind::Append => self.check_log_position().and_then(|()| self.check_entries()),
            // The library takes term 0 at an index it does not have for a match.
            MessageKind::RequestVote | MessageKind::RequestPreVote => self.check_log_position(),
            MessageKind::Snapshot => {
                let snapshot = self.snapshot.as_ref().ok_or(MessageRefusal::Content)?;
                let is_in_range = |number: u64, max: u64| (1..=max).contains(&number);
                if !is_in_range(snapshot.index.0, NUMBER_MAX) || !is_in_range(snapshot.term.0, self.term.0) {
                    return Err(MessageRefusal::Number);
                }
                snapshot.membership.check()
            }
            MessageKind::AppendResponse
            | MessageKind::RequestVoteResponse
            | MessageKind::Heartbeat
            | MessageKind::HeartbeatResponse
            | MessageKind::TimeoutNow
            | MessageKind::RequestPreVoteResponse => Ok(()),
        }
    }

    fn check_log_position(&self) -> Result<(), MessageRefusal> {
        let is_possible = self.index.0 >= 1 && self.log_term.0 >= 1 && self.log_term <= self.term;
        if is_possible { Ok(()) } else { Err(MessageRefusal::Number) }
    }

    fn check_entries(&self) -> Result<(), MessageRefusal> {
        let (mut index, mut term) = (self.index.0, self.log_term);
        for entry in &self.entries {
            index += 1;
            if entry.index.0 != index || entry.term < term || entry.term > self.term {
                return Err(MessageRefusal::Entries);
            }
            if entry.change.is_some_and(|change| change.node().0 == 0 || !entry.data.is_empty()) {
                return Err(MessageRefusal::Entries);
            }
            term = entry.term;
        }
        Ok(())
    }

    /// Our form of a message that the library wants to send; none for kinds that never leave a member.
    pub(crate) fn from_raft(message: eraftpb::Message) -> Option<Self> {
        use eraftpb::MessageType as Type;
        let kind = match message.get_msg_type() {
            Type::MsgAppend => MessageKind::Append,
            Type::MsgAppendResponse => MessageKind::AppendResponse,
            Type::MsgRequestVote => MessageKind::RequestVote,
            Type::MsgRequestVoteResponse => MessageKind::RequestVoteResponse,
            Type::MsgSnapshot => MessageKind::Snapshot,
            Type::MsgHeartbeat => MessageKind::Heartbeat,
            Type::MsgHeartbeatResponse => MessageKind::HeartbeatResponse,
            Type::MsgTimeoutNow => MessageKind::TimeoutNow,
            Type::MsgRequestPreVote => MessageKind::RequestPreVote,
            Type::MsgRequestPreVoteResponse => MessageKind::RequestPreVoteResponse,
            Type::MsgHup
            | Type::MsgBeat
            | Type::MsgPropose
            | Type::MsgUnreachable
            | Type::MsgSnapStatus
            | Type::MsgCheckQuorum
            | Type::MsgTransferLeader
            | Type::MsgReadIndex
            | Type::MsgReadIndexResp => return None,
        };
        let snapshot = (kind == MessageKind::Snapshot).then(|| Snapshot::from_raft(message.get_snapshot()));
        Some(Message {
            kind,
            term: Term(message.term),
            index: LogIndex(message.index),
            log_term: Term(message.log_term),
            commit: LogIndex(message.commit),
            commit_term: Term(message.commit_term),
            is_rejected: message.reject,
            reject_hint: LogIndex(message.reject_hint),
            priority: message.priority,
            is_transfer: &message.context[..] == TRANSFER,
            entries: message.get_entries().iter().map(LogEntry::from_raft).collect(),
            snapshot,
        })
    }

    /// The library's form; the message has been checked.
    pub(crate) fn into_raft(self, from: NodeId, to: NodeId) -> eraftpb::Message {
        use eraftpb::MessageType as Type;
        let mut message = eraftpb::Message::default();
        message.set_msg_type(match self.kind {
            MessageKind::Append => Type::MsgAppend,
            MessageKind::AppendResponse => Type::MsgAppendResponse,
            MessageKind::RequestVote => Type::MsgRequestVote,
            MessageKind::RequestVoteResponse => Type::MsgRequestVoteResponse,
            MessageKind::Snapshot => Type::MsgSnapshot,
            MessageKind::Heartbeat => Type::MsgHeartbeat,
            MessageKind::HeartbeatResponse => Type::MsgHeartbeatResponse,
            MessageKind::TimeoutNow => Type::MsgTimeoutNow,
            MessageKind::RequestPreVote => Type::MsgRequestPreVote,
            MessageKind::RequestPreVoteResponse => Type::MsgRequestPreVoteResponse,
        });
        message.from = from.0;
        message.to = to.0;
        message.term = self.term.0;
        message.index = self.index.0;
        message.log_term = self.log_term.0;
        message.commit = self.commit.0;
        message.commit_term = self.commit_term.0;
        message.reject = self.is_rejected;
        message.reject_hint = self.reject_hint.0;
        message.priority = self.priority;
        if self.is_transfer {
            message.context = TRANSFER.into();
        }
        if !self.entries.is_empty() {
            message.set_entries(self.entries.into_iter().map(LogEntry::into_raft).collect::<Vec<_>>().into());
        }
        if let Some(snapshot) = self.snapshot {
            message.set_snapshot(snapshot.into_raft());
        }
        message
    }
}

impl LogEntry {
    pub(crate) fn from_raft(entry: &eraftpb::Entry) -> Self {
        let change = change_of(entry);
        let data = if change.is_some() { Vec::new() } else { entry.data.to_vec() };
        LogEntry { term: Term(entry.term), index: LogIndex(entry.index), data, change }
    }

    pub(crate) fn into_raft(self) -> eraftpb::Entry {
        let mut entry = eraftpb::Entry { term: self.term.0, index: self.index.0, ..Default::default() };
        match self.change {
            None => entry.data = self.data.into(),
            Some(change) => {
                entry.set_entry_type(eraftpb::EntryType::EntryConfChangeV2);
                let bytes = change.into_raft().write_to_bytes();
                entry.data = bytes.expect("a change of membership has no required fields").into();
            }
        }
        entry
    }
}

/// The change of membership that an entry holds.
pub(crate) fn change_of(entry: &eraftpb::Entry) -> Option<MembershipChange> {
    match entry.get_entry_type() {
        eraftpb::EntryType::EntryNormal => None,
        eraftpb::EntryType::EntryConfChange => unreachable!("only changes of the second form are ever proposed"),
        eraftpb::EntryType::EntryConfChangeV2 => {
            let mut change = eraftpb::ConfChangeV2::default();
            change.merge_from_bytes(&entry.data).expect("a change of membership is written by this crate");
            let single = change.get_changes().first().expect("a change of membership changes one member");
            let node = NodeId(single.node_id);
            Some(match single.get_change_type() {
                eraftpb::ConfChangeType::AddNode => MembershipChange::Promote(node),
                eraftpb::ConfChangeType::AddLearnerNode => MembershipChange::AddLearner(node),
                eraftpb::ConfChangeType::RemoveNode => MembershipChange::Remove(node),
            })
        }
    }
}

impl MembershipChange {
    pub(crate) fn into_raft(self) -> eraftpb::ConfChangeV2 {
        let mut single = eraftpb::ConfChangeSingle { node_id: self.node().0, ..Default::default() };
        single.set_change_type(match self {
            MembershipChange::AddLearner(_) => eraftpb::ConfChangeType::AddLearnerNode,
            MembershipChange::Promote(_) => eraftpb::ConfChangeType::AddNode,
            MembershipChange::Remove(_) => eraftpb::ConfChangeType::RemoveNode,
        });
        let mut change = eraftpb::ConfChangeV2::default();
        change.set_changes(vec![single].into());
        change
    }
}

impl Snapshot {
    pub(crate) fn from_raft(snapshot: &eraftpb::Snapshot) -> Self {
        let meta = snapshot.get_metadata();
        Snapshot {
            index: LogIndex(meta.index),
            term: Term(meta.term),
            membership: Membership::from_raft(meta.get_conf_state()),
            data: snapshot.data.to_vec(),
        }
    }

    pub(crate) fn into_raft(self) -> eraftpb::Snapshot {
        let mut snapshot = eraftpb::Snapshot::default();
        let meta = snapshot.mut_metadata();
        meta.index = self.index.0;
        meta.term = self.term.0;
        meta.set_conf_state(self.membership.to_raft());
        snapshot.data = self.data.into();
        snapshot
    }
}

impl Membership {
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }

    pub(crate) fn check(&self) -> Result<(), MessageRefusal> {
        let mut all: Vec<NodeId> = self.voters.iter().chain(&self.learners).copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        let is_sound = !self.voters.is_empty()
            && count <= MEMBERS_MAX
            && all.len() == count
            && all.iter().all(|id| (1..=NUMBER_MAX).contains(&id.0));
        if is_sound { Ok(()) } else { Err(MessageRefusal::Membership) }
    }

    pub(crate) fn from_raft(state: &eraftpb::ConfState) -> Self {
        let sorted = |ids: &[u64]| {
            let mut ids: Vec<NodeId> = ids.iter().map(|id| NodeId(*id)).collect();
            ids.sort_unstable();
            ids
        };
        Membership { voters: sorted(state.get_voters()), learners: sorted(state.get_learners()) }
    }

    pub(crate) fn to_raft(&self) -> eraftpb::ConfState {
        let mut state = eraftpb::ConfState::default();
        state.set_voters(self.voters.iter().map(|id| id.0).collect());
        state.set_learners(self.learners.iter().map(|id| id.0).collect());
        state
    }
}
