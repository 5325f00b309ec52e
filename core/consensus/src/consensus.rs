//! What does this member do next for the agreed log?
//!
//! Inputs are fed to the library one by one. Whatever it then has ready is turned into actions: messages that may
//! leave before a write leave at once, all others wait for [`Input::Persisted`] of the write they rest on; entries
//! that are committed *and* on this disk are handed out in order.
//!
//! Every message is checked against this member's own log first, since the library ends the process on what cannot
//! happen. When to stand for election is decided by `election.rs`; the library's timeouts are the backstop.
//!
//! In: messages, proposals, changes of membership, completed writes, what the detector sees, ticks.
//! Out: see [`Action`]. Not here: what the entries mean (`core/state`), the disk, the network.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use minicbor::{Decode, Encode};
use model::{Bug, Instant, LogIndex, NodeId, Table, Term, Write};
use raft::eraftpb::{self, MessageType};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole, Storage};

use crate::config::Config;
use crate::election::{Election, PeerFacts, Standing};
use crate::log::Log;
use crate::message::{LogEntry, Membership, Message, MessageKind, Snapshot, change_of};
use crate::record::{ConsensusError, HardState, Position, Stored, put_entry, put_hard_state, put_snapshot, put_start};

/// After a stall no more ticks are made up for than this, beside those that were left out on purpose: a member that
/// slept must not depose anybody.
const TICKS_AT_ONCE_MAX: u64 = 2;
/// A snapshot that is neither acknowledged nor reported is sent again after this time.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(2);

/// One member's part in the agreed log.
pub struct Consensus {
    config: Config,
    raw: RawNode<Log>,
    now: Instant,
    next_tick: Instant,
    membership: Membership,
    /// The membership from each index on, since the snapshot.
    memberships: BTreeMap<LogIndex, Membership>,
    /// What was last given out to be written.
    written: HardState,
    /// The newest term that is on the disk.
    durable_term: Term,
    next_token: u64,
    writes: VecDeque<Pending>,
    /// Own proposals that are in the log and not committed, by log index.
    proposals: BTreeMap<LogIndex, (Term, u64)>,
    /// When each member was last heard in this term.
    heard: BTreeMap<NodeId, Instant>,
    heard_term: Term,
    /// Ticks so far.
    ticks: u64,
    /// On the leader: what each member owes.
    debts: BTreeMap<NodeId, Debt>,
    election: Election,
    /// Elections this member began since it last had a leader; spreads the timeouts.
    attempts: u64,
    was_candidate: bool,
    snapshots: BTreeMap<NodeId, SentSnapshot>,
    may_hand_over_at: Instant,
    reported: (Role, Term, Option<NodeId>),
    backlog: Vec<Action>,
}

/// A write that is on its way to the disk.
struct Pending {
    token: u64,
    since: Instant,
    /// The number of the library's last `Ready` that is durable with it.
    ready: Option<u64>,
    term: Term,
    touches_log: bool,
    install: Option<Install>,
    /// Messages that rest on it.
    held: Vec<eraftpb::Message>,
}

struct Install {
    index: LogIndex,
    term: Term,
    data: Vec<u8>,
}

/// What a member owes its leader. Counted in the leader's ticks: what passes while it stands still counts little.
struct Debt {
    /// The tick of its last message.
    heard: u64,
    /// Up to where its log was known to equal ours…
    matched: u64,
    /// … and the tick at which that last rose, or there was nothing more to match.
    moved: u64,
}

struct SentSnapshot {
    since: Instant,
    is_delivered: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A member sent something.
    Message {
        /// Who; proven by the transport.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// Somebody wants `data` agreed on. Answered by `Committed` with this id, or by `Refused`; after a loss of
    /// leadership the answer may take until another leader has committed something.
    Propose {
        /// Chosen by the caller; meaningful on this member only.
        id: u64,
        /// The entry; not empty.
        data: Vec<u8>,
    },
    /// The leader wants another membership; ignored where [`Consensus::may_change`] refuses it.
    Change(MembershipChange),
    /// The write with this token and all before it are durable.
    Persisted {
        /// From [`Action::Persist`].
        token: u64,
    },
    /// The state after entry `upto`, which was committed here: the log before it may go.
    Compact {
        /// The last entry in the snapshot.
        upto: LogIndex,
        /// The state.
        snapshot: Vec<u8>,
    },
    /// The state after entry `upto`, which was committed here, is another one than this member thought: it takes the
    /// place of the stored snapshot, which may be of the same entry. The log stays as it is.
    Replace {
        /// The last entry in the snapshot.
        upto: LogIndex,
        /// The encoded state after that entry.
        snapshot: Vec<u8>,
    },
    /// The transport delivered a snapshot message, or could not.
    SnapshotSent {
        /// To whom.
        to: NodeId,
        /// Was it delivered?
        ok: bool,
    },
    /// What the detector sees, of every peer; on every change.
    Peers(Vec<PeerFacts>),
    /// The leader should let this voter lead.
    Transfer(NodeId),
    /// Time passed.
    Tick,
}

/// A change of who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum MembershipChange {
    /// A new member receives the log and does not vote.
    #[n(0)]
    AddLearner(#[n(0)] NodeId),
    /// A learner becomes a voter.
    #[n(1)]
    Promote(#[n(0)] NodeId),
    /// A voter or learner is no member any more.
    #[n(2)]
    Remove(#[n(0)] NodeId),
}

impl MembershipChange {
    /// Whom it concerns.
    pub fn node(self) -> NodeId {
        match self {
            MembershipChange::AddLearner(node) | MembershipChange::Promote(node) | MembershipChange::Remove(node) => {
                node
            }
        }
    }
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it; it may be lost, doubled and overtaken.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Make the writes durable, in the order of the tokens; then say [`Input::Persisted`]. A write that fails is
    /// never reported: this member must then stop.
    Persist {
        /// Names the write.
        token: u64,
        /// In one transaction.
        writes: Vec<Write>,
    },
    /// These entries are agreed on; they follow one another and everything handed out before.
    Committed(Vec<Committed>),
    /// Replace the whole state: it comes from the leader and is on the disk already.
    Install {
        /// The state is the one after this entry.
        index: LogIndex,
        /// That entry's term.
        term: Term,
        /// The state.
        snapshot: Vec<u8>,
    },
    /// The role, the term or the leader changed.
    RoleChanged {
        /// What this member is.
        role: Role,
        /// Its term.
        term: Term,
        /// Whom it follows; itself while it leads.
        leader: Option<NodeId>,
    },
    /// A proposal is not in the log.
    Refused {
        /// The proposal.
        id: u64,
        /// Why.
        why: Refusal,
    },
    /// The membership changed.
    MembershipChanged {
        /// Who votes, sorted.
        voters: Vec<NodeId>,
        /// Who only listens, sorted.
        learners: Vec<NodeId>,
    },
}

/// One entry that is agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// What was proposed; empty for entries of the log itself (a new leader, a change of membership).
    pub data: Vec<u8>,
    /// The id, if it was proposed here.
    pub proposal: Option<u64>,
}

/// Why a proposal was not taken, or was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else leads, or nobody.
    #[error("this node does not lead")]
    NotLeader {
        /// Who leads, as far as this member knows.
        leader: Option<NodeId>,
    },
    /// Too much is waiting to be agreed on, or leadership is being handed over; try again.
    #[error("the leader is busy")]
    Busy,
}

/// Why the membership cannot change in this way at this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefusal {
    /// This member does not lead.
    #[error("this node does not lead")]
    NotLeader,
    /// Another change is not complete.
    #[error("another change of membership is not complete")]
    Pending,
    /// It is so already, or the node is no member (or no learner).
    #[error("the node is not in the state that this change begins with")]
    NoSuchMember,
    /// A leader does not remove itself: it lets another lead first.
    #[error("the leader cannot remove itself")]
    Leader,
    /// Fewer voters than a majority of the new membership were heard lately.
    #[error("too few voters of the new membership are reachable")]
    Quorum,
}

/// What a member is in its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A voter that follows a leader, or waits for one.
    Follower,
    /// It asks whether it would be elected.
    PreCandidate,
    /// It asks for votes.
    Candidate,
    /// It leads. This alone is no permission to act.
    Leader,
    /// It receives the log and does not vote.
    Learner,
}

impl Consensus {
    /// Begins with what is stored. Actions that follow from it come with the first step, which is due at once.
    pub fn new(now: Instant, config: Config, stored: Stored) -> Result<Self, ConsensusError> {
        let settings = raft::Config {
            id: config.id.0,
            election_tick: config.election_tick_min,
            heartbeat_tick: config.heartbeat_tick,
            applied: stored.snapshot_index().0,
            max_size_per_msg: 256 << 10,
            max_inflight_msgs: 64,
            check_quorum: true,
            pre_vote: !config.bugs.has(Bug::PreVoteOff),
            min_election_tick: config.election_tick_min,
            max_election_tick: config.election_tick_max,
            read_only_option: raft::ReadOnlyOption::Safe,
            skip_bcast_commit: false,
            batch_append: true,
            priority: config.priority,
            max_uncommitted_size: 4 << 20,
            max_committed_size_per_ready: 1 << 20,
        };
        settings.validate().map_err(|cause| ConsensusError::Settings(cause.to_string()))?;

        let written = stored.hard_state;
        let membership = stored.snapshot.as_ref().map(|snapshot| snapshot.membership.clone()).unwrap_or_default();
        let snapshot_index = stored.snapshot_index();
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&settings, Log::new(stored), &logger)
            .map_err(|cause| ConsensusError::Settings(cause.to_string()))?;
        let mut consensus = Consensus {
            raw,
            now,
            next_tick: now + config.tick,
            memberships: BTreeMap::from([(snapshot_index, membership.clone())]),
            membership,
            written,
            durable_term: written.term,
            next_token: 1,
            writes: VecDeque::new(),
            proposals: BTreeMap::new(),
            heard: BTreeMap::new(),
            heard_term: written.term,
            ticks: 0,
            debts: BTreeMap::new(),
            election: Election::new(config.id, config.rank_step),
            attempts: 0,
            was_candidate: false,
            snapshots: BTreeMap::new(),
            may_hand_over_at: now,
            reported: (Role::Follower, Term(0), None),
            backlog: Vec::new(),
            config,
        };
        // A membership that is older than what is known to be committed must not elect anybody: what is known is
        // taken in before the first tick.
        let mut actions = Vec::new();
        consensus.settle(&mut actions);
        consensus.report(&mut actions);
        consensus.backlog = actions;
        Ok(consensus)
    }

    /// Feeds one input that happened at `now`; returns what the driver must do about it.
    pub fn step(&mut self, now: Instant, input: Input) -> Vec<Action> {
        self.now = self.now.max(now);
        let mut actions = std::mem::take(&mut self.backlog);
        self.catch_up_with_time(&mut actions);
        match input {
            Input::Message { from, message } => self.on_message(from, message, &mut actions),
            Input::Propose { id, data } => self.on_propose(id, data, &mut actions),
            Input::Change(change) => self.on_change(change),
            Input::Persisted { token } => self.on_persisted(token, &mut actions),
            Input::Compact { upto, .. } if upto <= self.raw.store().snapshot_index() => {}
            Input::Compact { upto, snapshot } | Input::Replace { upto, snapshot } => {
                self.store_snapshot(upto, snapshot, &mut actions);
            }
            Input::SnapshotSent { to, ok } => self.on_snapshot_sent(to, ok),
            Input::Peers(peers) => self.election.on_peers(peers),
            Input::Transfer(node) => self.transfer(node),
            Input::Tick => {}
        }
        self.settle(&mut actions);
        self.consider_election(&mut actions);
        self.report(&mut actions);
        actions
    }

    /// Takes another profile: from here on time passes in ticks of this length.
    pub fn set_tick(&mut self, tick: Duration) {
        if self.config.tick != tick {
            self.config.tick = tick;
            self.next_tick = self.now + tick;
        }
    }

    /// Takes another wish to lead: of equally good logs the one with the higher priority is elected, and a leader lets
    /// one with a higher priority lead as soon as that has everything.
    pub fn set_priority(&mut self, priority: i64) {
        self.config.priority = priority;
        self.raw.raft.set_priority(priority);
    }

    /// When `Tick` next has work to do.
    pub fn deadline(&self) -> Option<Instant> {
        if !self.backlog.is_empty() {
            return Some(self.now);
        }
        let next_tick = self.next_tick + self.config.tick * self.idle_ticks();
        Some(self.election.deadline().map_or(next_tick, |at| at.min(next_tick)))
    }

    /// Ticks that nothing depends on: they are made up for together with the one after them, which saves wake-ups.
    ///
    /// A leader works at its next heartbeat. Who follows one hears it sooner than that, so that its ticks are a
    /// backstop only.
    fn idle_ticks(&self) -> u32 {
        let raft = &self.raw.raft;
        let idle = match raft.state {
            StateRole::Leader => self.config.heartbeat_tick.saturating_sub(raft.heartbeat_elapsed() + 1),
            StateRole::Follower if self.leader().is_some() && !self.election.has_trial() => self.config.heartbeat_tick,
            _ => 0,
        };
        u32::try_from(idle).unwrap_or(0)
    }

    /// What this member is.
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Follower if !self.membership.voters.contains(&self.config.id) => Role::Learner,
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }

    /// Does this member lead? No permission to act: another may lead in a later term.
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// The current term.
    pub fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    /// Who leads in this term, as far as this member knows.
    pub fn leader(&self) -> Option<NodeId> {
        (self.raw.raft.leader_id != raft::INVALID_ID).then_some(NodeId(self.raw.raft.leader_id))
    }

    /// Did the leader hear a majority, or this follower its leader, within the shortest election timeout?
    pub fn is_quorate(&self) -> bool {
        match self.leader() {
            None => false,
            Some(leader) if leader == self.config.id => {
                self.voters().iter().filter(|voter| self.was_heard(**voter)).count() > self.voters().len() / 2
            }
            Some(leader) => self.was_heard(leader),
        }
    }

    /// On the leader: has a majority of the voters answered within `limit`, `accused` not counted?
    pub fn majority_answers(&self, limit: Duration, accused: NodeId) -> bool {
        let has_answered = |voter: &NodeId| *voter != accused && self.has_answered(*voter, limit);
        let answering = self.voters().iter().filter(|voter| has_answered(voter)).count();
        self.is_leader() && answering > self.voters().len() / 2
    }

    /// On the leader: has this member answered within `limit`?
    pub fn has_answered(&self, node: NodeId, limit: Duration) -> bool {
        node == self.config.id || self.heard.get(&node).is_some_and(|at| self.now.since(*at) <= limit)
    }

    /// A member that nobody hears owes nothing: what it owes is counted from when it is heard again.
    pub fn forgive(&mut self, node: NodeId) {
        self.debts.remove(&node);
    }

    /// On the leader: for how long a member has owed an answer to a heartbeat or to entries.
    pub fn owes(&self, node: NodeId) -> Duration {
        let Some(debt) = self.debts.get(&node) else { return Duration::ZERO };
        let owed = (self.ticks - debt.heard).max(self.ticks - debt.moved);
        // One round is always under way.
        let ticks = u32::try_from(owed).unwrap_or(u32::MAX).saturating_sub(1);
        self.config.tick.saturating_mul(ticks)
    }

    /// The index of the last entry of the log, durable or not.
    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.last_index())
    }

    /// The term of the last entry of the log.
    pub fn last_term(&self) -> Term {
        Term(self.raw.raft.raft_log.last_term())
    }

    /// The last entry that is known to be agreed on.
    pub fn commit(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.committed)
    }

    /// The last entry that was handed out, or is in the snapshot that was.
    pub fn applied(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.applied)
    }

    /// The entry at `index`, agreed on or not, to look at; none if the log does not reach so far or has let go of it.
    pub fn entry(&self, index: LogIndex) -> Option<Committed> {
        let entry = self.raw.raft.raft_log.store.entry(index)?;
        let data = if change_of(entry).is_some() { Vec::new() } else { entry.data.to_vec() };
        Some(Committed { index, term: Term(entry.term), data, proposal: None })
    }

    /// Who votes, sorted.
    pub fn voters(&self) -> &[NodeId] {
        &self.membership.voters
    }

    /// Who only listens, sorted.
    pub fn learners(&self) -> &[NodeId] {
        &self.membership.learners
    }

    /// Up to where a member's log is known to equal ours; only the leader knows.
    pub fn matched(&self, node: NodeId) -> Option<LogIndex> {
        let progress = self.is_leader().then(|| self.raw.raft.prs().get(node.0)).flatten();
        progress.map(|progress| LogIndex(progress.matched))
    }

    /// On the leader: may a change of membership be under way?
    pub fn has_pending_change(&self) -> bool {
        self.is_leader() && self.raw.raft.has_pending_conf()
    }

    /// To whom leadership is being handed over.
    pub fn transferee(&self) -> Option<NodeId> {
        self.raw.raft.lead_transferee.map(NodeId)
    }

    /// Could [`Input::Change`] be done at this time?
    pub fn may_change(&self, change: MembershipChange) -> Result<(), ChangeRefusal> {
        if !self.is_leader() {
            return Err(ChangeRefusal::NotLeader);
        }
        if self.has_pending_change() || self.transferee().is_some() {
            return Err(ChangeRefusal::Pending);
        }
        let mut voters = self.membership.voters.clone();
        let is_possible = match change {
            MembershipChange::AddLearner(node) => node.0 != 0 && !self.membership.contains(node),
            MembershipChange::Promote(node) => {
                voters.push(node);
                self.membership.learners.contains(&node)
            }
            MembershipChange::Remove(node) if node == self.config.id => return Err(ChangeRefusal::Leader),
            MembershipChange::Remove(node) => {
                voters.retain(|voter| *voter != node);
                self.membership.contains(node)
            }
        };
        if !is_possible {
            return Err(ChangeRefusal::NoSuchMember);
        }
        let heard = voters.iter().filter(|voter| self.was_heard(**voter)).count();
        if voters != self.membership.voters && heard <= voters.len() / 2 {
            return Err(ChangeRefusal::Quorum);
        }
        Ok(())
    }

    fn was_heard(&self, node: NodeId) -> bool {
        node == self.config.id || self.heard.get(&node).is_some_and(|at| self.now.since(*at) <= self.config.patience())
    }

    fn catch_up_with_time(&mut self, actions: &mut Vec<Action>) {
        if self.now < self.next_tick {
            return;
        }
        let tick_nanos = u64::try_from(self.config.tick.as_nanos()).unwrap_or(u64::MAX).max(1);
        let late = u64::try_from(self.now.since(self.next_tick).as_nanos()).unwrap_or(u64::MAX) / tick_nanos;
        let at_once_max = u64::from(self.idle_ticks()) + TICKS_AT_ONCE_MAX;
        if late < at_once_max {
            self.next_tick += self.config.tick * u32::try_from(late + 1).unwrap_or(1);
        } else {
            self.next_tick = self.now + self.config.tick;
        }
        for _ in 0..(late + 1).min(at_once_max) {
            self.ticks += 1;
            if self.may_tick() {
                self.raw.tick();
                self.settle(actions);
            }
        }
        self.count_debts();
        self.check_snapshots();
        self.consider_handing_over();
    }

    fn count_debts(&mut self) {
        if !self.is_leader() {
            self.debts.clear();
            return;
        }
        let last = self.raw.raft.raft_log.last_index();
        let members: Vec<NodeId> = self.membership.voters.iter().chain(&self.membership.learners).copied().collect();
        self.debts.retain(|node, _| members.contains(node));
        for node in members.into_iter().filter(|node| *node != self.config.id) {
            let Some(progress) = self.raw.raft.prs().get(node.0) else { continue };
            let matched = progress.matched;
            let debt = self.debts.entry(node).or_insert(Debt { heard: self.ticks, matched, moved: self.ticks });
            // A snapshot takes as long as it takes.
            if matched >= last || matched != debt.matched || progress.state == ProgressState::Snapshot {
                (debt.matched, debt.moved) = (matched, self.ticks);
            }
        }
    }

    /// The library begins an election at a tick. It must not while a snapshot is on its way to the disk, nor, as
    /// the only voter, before its log is on the disk.
    fn may_tick(&self) -> bool {
        self.is_leader() || !(self.is_installing() || (self.is_alone() && self.is_log_pending()))
    }

    fn is_installing(&self) -> bool {
        self.writes.iter().any(|write| write.install.is_some())
    }

    fn is_log_pending(&self) -> bool {
        self.writes.iter().any(|write| write.touches_log)
    }

    fn is_alone(&self) -> bool {
        self.membership.voters == [self.config.id]
    }

    fn check_snapshots(&mut self) {
        let overdue: Vec<(NodeId, bool)> = self
            .snapshots
            .iter()
            .filter(|(_, sent)| self.now.since(sent.since) >= SNAPSHOT_PATIENCE)
            .map(|(node, sent)| (*node, sent.is_delivered))
            .collect();
        for (node, is_delivered) in overdue {
            self.end_snapshot(node, is_delivered);
        }
    }

    /// Lets the library go on with a member that was sent a snapshot: behind it, or with the snapshot again.
    fn end_snapshot(&mut self, node: NodeId, is_delivered: bool) {
        self.snapshots.remove(&node);
        let progress = self.raw.raft.prs().get(node.0);
        if self.is_leader() && progress.is_some_and(|progress| progress.state == ProgressState::Snapshot) {
            let status = if is_delivered { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
            self.raw.report_snapshot(node.0, status);
        }
    }

    fn on_snapshot_sent(&mut self, to: NodeId, ok: bool) {
        if !ok {
            self.end_snapshot(to, false);
        } else if let Some(sent) = self.snapshots.get_mut(&to) {
            // Its acknowledgement follows when it is on the receiver's disk, and is what counts.
            sent.is_delivered = true;
            sent.since = self.now;
        }
    }

    fn consider_election(&mut self, actions: &mut Vec<Action>) {
        self.election.on_leader(self.leader());
        let raft = &self.raw.raft;
        let own = Standing {
            merit: (self.last_term(), self.last_index(), self.config.priority, Reverse(self.config.id)),
            voters: &self.membership.voters,
            may_stand: raft.promotable() && raft.state != StateRole::Leader,
            is_careless: self.config.bugs.has(Bug::PreVoteOff),
        };
        if !self.election.review(self.now, &own) || !self.may_tick() {
            return;
        }
        // Its requests for votes wait for the disk: to begin again would throw them away.
        let is_waiting = self.writes.iter().any(|write| !write.held.is_empty());
        if self.raw.raft.state == StateRole::Candidate && is_waiting {
            return;
        }
        self.raw.raft.leader_id = raft::INVALID_ID;
        // An error would mean that this member left the log, which `promotable` excludes.
        let _ = self.raw.campaign();
        self.settle(actions);
    }

    /// Leadership moves on when this member should not keep it: a witness leads only until somebody else can, and a
    /// leader whose disk hangs cannot do its work.
    fn consider_handing_over(&mut self) {
        if !self.is_leader() || self.transferee().is_some() || self.now < self.may_hand_over_at {
            return;
        }
        let is_stuck =
            self.writes.front().is_some_and(|write| self.now.since(write.since) > self.config.patience() * 2);
        let best = self
            .voters()
            .iter()
            .filter(|voter| **voter != self.config.id && self.was_heard(**voter) && !self.election.is_suspect(**voter))
            .filter(|voter| self.matched(**voter).is_some_and(|matched| matched >= self.commit()))
            .map(|voter| (self.election.facts(*voter).map_or(0, |facts| facts.priority), Reverse(*voter)))
            .max();
        let Some((priority, Reverse(best))) = best else { return };
        if is_stuck || (self.raw.raft.commit_to_current_term() && priority > self.config.priority) {
            self.may_hand_over_at = self.now + self.config.patience() * 2;
            self.raw.transfer_leader(best.0);
        }
    }

    fn transfer(&mut self, node: NodeId) {
        if self.is_leader() && self.voters().contains(&node) {
            self.raw.transfer_leader(node.0);
        }
    }

    fn on_message(&mut self, from: NodeId, mut message: Message, actions: &mut Vec<Action>) {
        if !self.admits(from, &message) {
            return;
        }
        let is_vote_request = matches!(message.kind, MessageKind::RequestVote | MessageKind::RequestPreVote);
        if is_vote_request {
            self.prepare_vote(from, &mut message);
        }
        let term = message.term;
        // An error is a message from a node that left meanwhile.
        let _ = self.raw.step(message.into_raft(from, self.config.id));
        self.settle(actions);
        if term == self.heard_term && term == self.term() {
            self.heard.insert(from, self.now);
            if let Some(debt) = self.debts.get_mut(&from) {
                debt.heard = self.ticks;
            }
        }
    }

    /// Is it safe and right to give this message to the library?
    fn admits(&self, from: NodeId, message: &Message) -> bool {
        if from == self.config.id || from.0 == 0 || message.check().is_err() {
            return false;
        }
        let is_member = self.membership.contains(from);
        let knows_nothing = self.membership.voters.is_empty();
        let last = self.last_index();
        // Whoever leads, or has a longer log, may have become a member since our last entry.
        let may_lead = is_member || knows_nothing || message.term >= self.term();
        let is_newer = (message.log_term, message.index) > (self.last_term(), last);
        match message.kind {
            MessageKind::Append => may_lead,
            MessageKind::Heartbeat => may_lead && message.commit <= last,
            MessageKind::Snapshot => {
                let names_us = |snapshot: &Snapshot| snapshot.membership.contains(self.config.id);
                may_lead && message.snapshot.as_ref().is_some_and(names_us)
            }
            // A member that knows no voters has no voice that could count.
            MessageKind::RequestVote => !knows_nothing && (is_member || is_newer),
            MessageKind::RequestPreVote => {
                !knows_nothing && (is_member || is_newer) && !self.is_better_than(from, message)
            }
            // Our requests left when our log was on the disk; what answers another one is no answer.
            MessageKind::RequestVoteResponse => is_member && !self.is_log_pending(),
            // The library counts a consent of any term up to the one it asks for.
            MessageKind::RequestPreVoteResponse => {
                let is_meant = message.is_rejected || message.term.0 == self.term().0 + 1;
                is_member && is_meant && !self.is_log_pending()
            }
            MessageKind::AppendResponse => is_member && message.index <= last,
            MessageKind::HeartbeatResponse => is_member,
            MessageKind::TimeoutNow => {
                self.leader() == Some(from) && message.term == self.term() && !self.is_alone() && !self.is_installing()
            }
        }
    }

    /// Two that ask for pre-votes in the same instant: the better one does not answer the other, and the other
    /// answers and stands back.
    fn is_better_than(&self, from: NodeId, message: &Message) -> bool {
        let own = (self.last_term(), self.last_index(), self.config.priority, Reverse(self.config.id));
        let other = (message.log_term, message.index, message.priority, Reverse(from));
        self.raw.raft.state == StateRole::PreCandidate && self.election.has_trial() && own > other
    }

    fn prepare_vote(&mut self, from: NodeId, message: &mut Message) {
        let is_careless = self.config.bugs.has(Bug::PreVoteOff);
        let follows_suspect =
            self.leader().is_some_and(|leader| leader != self.config.id && self.election.is_suspect(leader));
        if follows_suspect || (is_careless && !self.is_leader()) {
            self.raw.raft.leader_id = raft::INVALID_ID;
        }
        // Priority decides between equal logs only: a witness with the better log must be able to win.
        if (message.log_term, message.index) > (self.last_term(), self.last_index()) {
            message.priority = message.priority.max(self.config.priority);
        }
        let is_rival = self.raw.raft.state == StateRole::PreCandidate && self.membership.contains(from);
        if message.kind == MessageKind::RequestPreVote && is_rival && self.election.has_trial() {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
        }
    }

    fn on_propose(&mut self, id: u64, data: Vec<u8>, actions: &mut Vec<Action>) {
        if !self.is_leader() {
            actions.push(Action::Refused { id, why: Refusal::NotLeader { leader: self.leader() } });
            return;
        }
        match self.raw.propose(Vec::new(), data) {
            Ok(()) => {
                // An entry of an earlier term that stood there is gone, and with it the proposal.
                if let Some((_, lost)) = self.proposals.insert(self.last_index(), (self.term(), id)) {
                    actions.push(Action::Refused { id: lost, why: Refusal::NotLeader { leader: self.leader() } });
                }
            }
            Err(_) => actions.push(Action::Refused { id, why: Refusal::Busy }),
        }
    }

    fn on_change(&mut self, change: MembershipChange) {
        if self.may_change(change).is_ok() {
            // Refused by the library only under back-pressure; the caller asks again as long as it wants it.
            let _ = self.raw.propose_conf_change(Vec::new(), change.into_raft());
        }
    }

    /// Turns whatever the library has ready into actions, until there is no more.
    fn settle(&mut self, actions: &mut Vec<Action>) {
        self.spread_timeouts();
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            let number = ready.number();
            let mut writes = Vec::new();
            let mut install = None;
            if !ready.snapshot().is_empty() {
                install = Some(self.take_snapshot(ready.snapshot(), &mut writes));
            }
            let mut entries = ready.take_entries();
            if self.config.bugs.has(Bug::ConflictKept) {
                let last = self.raw.store().last();
                entries.retain(|entry| entry.index > last);
            }
            let touches_log = !entries.is_empty() || install.is_some();
            if let Some(first) = entries.first() {
                if self.raw.mut_store().append(&entries) {
                    writes.push(Write::DeleteFrom { table: Table::Log, from: first.index });
                }
                writes.extend(entries.iter().map(|entry| put_entry(&LogEntry::from_raft(entry))));
            }
            self.push_hard_state(ready.must_sync(), &mut writes);
            let mut messages = ready.take_messages();
            let resting = ready.take_persisted_messages();
            let committed = ready.take_committed_entries();
            self.raw.advance_append_async(ready);

            if !writes.is_empty() {
                self.persist(writes, Some(number), touches_log, install, actions);
            } else if let Some(last) = self.writes.back_mut() {
                last.ready = Some(number);
            } else {
                self.raw.on_persist_ready(number);
            }
            // The only voter elects itself within one call: its term may not be on the disk when it leads.
            if self.durable_term < self.term() {
                self.hold(messages.split_off(0), actions);
            }
            self.send(messages, actions);
            self.hold(resting, actions);
            self.hand_out(committed, actions);
            self.spread_timeouts();
        }
    }

    /// The commit index alone is never written, but goes along with every other write.
    fn push_hard_state(&mut self, must_sync: bool, writes: &mut Vec<Write>) {
        let raft = &self.raw.raft;
        let current =
            HardState { term: Term(raft.term), vote: NodeId(raft.vote), commit: LogIndex(raft.raft_log.committed) };
        if (must_sync || !writes.is_empty()) && current != self.written {
            self.written = current;
            writes.push(put_hard_state(&current));
        }
    }

    fn take_snapshot(&mut self, snapshot: &eraftpb::Snapshot, writes: &mut Vec<Write>) -> Install {
        let own = Snapshot::from_raft(snapshot);
        self.raw.mut_store().install(snapshot.clone());
        writes.push(put_snapshot(&own));
        writes.push(put_start(Position { index: own.index, term: own.term }));
        writes.push(Write::DeleteFrom { table: Table::Log, from: 0 });
        self.membership = own.membership.clone();
        self.memberships = BTreeMap::from([(own.index, own.membership)]);
        Install { index: own.index, term: own.term, data: own.data }
    }

    fn persist(
        &mut self,
        writes: Vec<Write>,
        ready: Option<u64>,
        touches_log: bool,
        install: Option<Install>,
        actions: &mut Vec<Action>,
    ) {
        let token = self.next_token;
        self.next_token += 1;
        let pending =
            Pending { token, since: self.now, ready, term: self.written.term, touches_log, install, held: Vec::new() };
        self.writes.push_back(pending);
        actions.push(Action::Persist { token, writes });
    }

    fn on_persisted(&mut self, token: u64, actions: &mut Vec<Action>) {
        assert!(token < self.next_token, "write {token} was never asked for");
        while self.writes.front().is_some_and(|write| write.token <= token) {
            let Some(write) = self.writes.pop_front() else { break };
            self.durable_term = self.durable_term.max(write.term);
            if let Some(number) = write.ready {
                self.raw.on_persist_ready(number);
            }
            if let Some(Install { index, term, data }) = write.install {
                self.raw.advance_apply_to(index.0);
                self.lose_proposals(index, actions);
                actions.push(Action::Install { index, term, snapshot: data });
                self.report_membership(actions);
            }
            if write.held.iter().any(|message| message.get_msg_type() == MessageType::MsgRequestVote) {
                self.election.postpone(self.now, self.membership.voters.len());
            }
            self.send(write.held, actions);
        }
    }

    /// Sends messages once everything written so far is durable.
    fn hold(&mut self, messages: Vec<eraftpb::Message>, actions: &mut Vec<Action>) {
        let Some(mut last) = self.writes.pop_back() else { return self.send(messages, actions) };
        let (at_once, held) = messages.into_iter().partition(|message| self.may_overtake_writes(message));
        last.held.extend::<Vec<_>>(held);
        self.writes.push_back(last);
        self.send(at_once, actions);
    }

    /// An answer to a heartbeat rests on nothing but the term: a slow disk must not look like a dead member.
    fn may_overtake_writes(&self, message: &eraftpb::Message) -> bool {
        match message.get_msg_type() {
            MessageType::MsgHeartbeatResponse => message.term <= self.durable_term.0,
            MessageType::MsgRequestVote | MessageType::MsgRequestVoteResponse => {
                self.config.bugs.has(Bug::VoteBeforePersist)
            }
            MessageType::MsgAppendResponse => self.config.bugs.has(Bug::AckBeforePersist),
            _ => false,
        }
    }

    fn send(&mut self, messages: Vec<eraftpb::Message>, actions: &mut Vec<Action>) {
        for message in messages {
            let to = NodeId(message.to);
            let is_consent = matches!(
                message.get_msg_type(),
                MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse
            ) && !message.reject;
            if is_consent {
                self.election.postpone(self.now, self.membership.voters.len());
            }
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.snapshots.insert(to, SentSnapshot { since: self.now, is_delivered: false });
            }
            if let Some(message) = Message::from_raft(message) {
                actions.push(Action::Send { to, message });
            }
        }
    }

    fn hand_out(&mut self, entries: Vec<eraftpb::Entry>, actions: &mut Vec<Action>) {
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        let mut committed = Vec::with_capacity(entries.len());
        let mut is_changed = false;
        for entry in entries {
            let change = change_of(&entry);
            if let Some(change) = change {
                is_changed |= self.apply_change(LogIndex(entry.index), change);
            }
            let index = LogIndex(entry.index);
            let proposal = self.proposals.remove(&index).and_then(|(term, id)| {
                let is_ours = term.0 == entry.term;
                if !is_ours {
                    actions.push(Action::Refused { id, why: Refusal::NotLeader { leader: self.leader() } });
                }
                is_ours.then_some(id)
            });
            let data = if change.is_some() { Vec::new() } else { entry.data.to_vec() };
            committed.push(Committed { index, term: Term(entry.term), data, proposal });
        }
        self.raw.advance_apply_to(last);
        actions.push(Action::Committed(committed));
        if is_changed {
            self.step_down_if_removed();
            self.report_membership(actions);
            if LogIndex(last) > self.written.commit {
                let mut writes = Vec::new();
                self.push_hard_state(true, &mut writes);
                if !writes.is_empty() {
                    self.persist(writes, None, false, None, actions);
                }
            }
        }
    }

    /// Takes a change into force; false if it means nothing any more, which every member finds alike.
    fn apply_change(&mut self, index: LogIndex, change: MembershipChange) -> bool {
        let Ok(state) = self.raw.apply_conf_change(&change.into_raft()) else { return false };
        self.membership = Membership::from_raft(&state);
        self.memberships.insert(index, self.membership.clone());
        self.heard.retain(|node, _| self.membership.contains(*node));
        if let MembershipChange::AddLearner(node) | MembershipChange::Remove(node) = change {
            self.snapshots.remove(&node);
        }
        true
    }

    /// The library lets a member that was removed go on as it is.
    fn step_down_if_removed(&mut self) {
        if !self.raw.raft.promotable() && self.raw.raft.state != StateRole::Follower {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
        }
    }

    fn report_membership(&self, actions: &mut Vec<Action>) {
        let Membership { voters, learners } = self.membership.clone();
        actions.push(Action::MembershipChanged { voters, learners });
    }

    /// A snapshot took the place of entries that may have been proposals of ours: nobody will know.
    fn lose_proposals(&mut self, upto: LogIndex, actions: &mut Vec<Action>) {
        let later = self.proposals.split_off(&LogIndex(upto.0 + 1));
        for (_, id) in std::mem::replace(&mut self.proposals, later).into_values() {
            actions.push(Action::Refused { id, why: Refusal::NotLeader { leader: self.leader() } });
        }
    }

    fn store_snapshot(&mut self, upto: LogIndex, data: Vec<u8>, actions: &mut Vec<Action>) {
        let log = self.raw.store();
        if upto < log.snapshot_index() || upto > self.applied() || self.is_installing() {
            return;
        }
        let Ok(term) = log.term(upto.0) else { return };
        let start = log.start();
        let later = self.memberships.split_off(&LogIndex(upto.0 + 1));
        let (_, membership) = self.memberships.pop_last().expect("a membership is known since the snapshot");
        self.memberships = later;
        self.memberships.insert(upto, membership.clone());

        let snapshot = Snapshot { index: upto, term: Term(term), membership, data };
        let mut writes = vec![put_snapshot(&snapshot)];
        let new_start = LogIndex(upto.0.saturating_sub(self.config.tail_entries)).max(start.index);
        self.raw.mut_store().compact(snapshot.into_raft(), new_start);
        if new_start > start.index {
            writes.push(put_start(self.raw.store().start()));
            writes.push(Write::DeleteBelow { table: Table::Log, below: new_start.0 + 1 });
        }
        self.push_hard_state(true, &mut writes);
        self.persist(writes, None, false, None, actions);
    }

    /// The library draws its election timeouts by chance; ours follow from seed, term and attempt.
    fn spread_timeouts(&mut self) {
        let raft = &mut self.raw.raft;
        let is_candidate = matches!(raft.state, StateRole::Candidate | StateRole::PreCandidate);
        if raft.leader_id != raft::INVALID_ID {
            self.attempts = 0;
        } else if is_candidate && !self.was_candidate {
            self.attempts += 1;
        }
        self.was_candidate = is_candidate;
        if self.heard_term.0 != raft.term {
            self.heard_term = Term(raft.term);
            self.heard.clear();
        }
        let (min, max) = (self.config.election_tick_min, self.config.election_tick_max);
        let chance = [self.config.id.0, raft.term, self.attempts].iter().fold(self.config.seed, |hash, part| {
            let mixed = (hash ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) ^ (mixed >> 32)
        });
        let spread = chance % u64::try_from(max - min).unwrap_or(1).max(1);
        raft.set_randomized_election_timeout(min + usize::try_from(spread).unwrap_or(0));
    }

    fn report(&mut self, actions: &mut Vec<Action>) {
        let current = (self.role(), self.term(), self.leader());
        if current != self.reported {
            self.reported = current;
            let (role, term, leader) = current;
            actions.push(Action::RoleChanged { role, term, leader });
        }
    }
}
