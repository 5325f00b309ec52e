//! The machine itself: it routes inputs to its parts and their actions onward.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use consensus::{Consensus, Role};
use executor::{
    Dispatcher, DispatcherAction, DispatcherInput, Executor, ExecutorAction, ExecutorInput, ExecutorMessage,
};
use fencing::{Fencing, FencingAction, FencingInput};
use liveness::{
    Facts, Judge, JudgeAction, JudgeInput, LinkState, PeerOrder, PeerReport, PulseOrder, PulseReport, Timing, Verdict,
};
use model::{
    ActionKind, ClusterState, Epoch, HistoryEntry, Incarnation, Instant, LinkId, LogIndex, MemberState, NodeId,
    NodeRole, Plan, ResourceName, ResourceState, Term,
};
use state::{Command, Entry};
use wire::{Announce, Message};

use crate::addresses::Addresses;
use crate::digests::Diverged;
use crate::input::{Action, Answer, Event, Halt, Identity, Input, Moment, Request, Settings, Start, StartError};
use crate::proven_off::ProvenOff;
use crate::renew::{Renewal, garble};

/// How long the parts talk among themselves before a step counts as a loop of ours.
const ROUNDS_MAX: usize = 10_000;

/// How often a node that must be told to the leader says so again.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(100);

/// What the log was too busy to take is proposed again after this at first, then after twice as long each time…
const RETRY_FIRST: Duration = Duration::from_millis(50);

/// … up to this.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// A node that is to end waits for somebody to lead for this many times the silence that a verdict takes: elections are
/// over by then. After that it goes down alone.
const LEADERLESS: u32 = 8;

/// So long it waits for a leader to empty it.
const LEAVE_PATIENCE: Duration = Duration::from_secs(60);

/// A Join that the rules refused is proposed again after this: each one is an entry on every disk.
const JOIN_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// One node without its heartbeats.
pub struct Node {
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    pub(crate) timing: Timing,
    pub(crate) consensus: Consensus,
    pub(crate) state: Arc<ClusterState>,
    pub(crate) executor: Executor,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) fencing: Fencing,
    pub(crate) judge: Judge,
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pub(crate) reign: Option<Reign>,
    /// Members that the judge would condemn, with the sentence why; done as soon as they hold something.
    pub(crate) condemnable: BTreeMap<NodeId, (Incarnation, String)>,
    pub(crate) plan: Plan,
    /// Something changed that the leader's decisions rest on.
    pub(crate) is_stale: bool,
    /// When to look at the voters again, on the leader.
    pub(crate) voters_again_at: Option<Instant>,
    /// Voters that this leader has no contact with, and since when.
    pub(crate) gone_voters: BTreeMap<NodeId, Instant>,
    /// When the devices of members that are waited for are read again.
    pub(crate) look_again_at: Option<Instant>,
    /// When the plan may change by the passing of time alone.
    pub(crate) replan_at: Option<Instant>,
    pub(crate) first_peers: Vec<PeerOrder>,
    pub(crate) addresses: Addresses,
    /// When other addresses were last taken.
    pub(crate) moved_at: Instant,
    pub(crate) is_isolated: bool,
    /// The newest digest of the state and the index it was taken at.
    pub(crate) digest: (LogIndex, u64),
    /// Another node's state differs from ours at the same index.
    pub(crate) diverged: Option<Diverged>,
    /// What is done about that.
    pub(crate) renewal: Renewal,
    /// Another node's log holds what this program cannot read.
    pub(crate) unreadable: Option<String>,
    /// How often each link to each peer went down since this worker began.
    pub(crate) downs: BTreeMap<(NodeId, LinkId), u64>,
    /// Lives that are proven to be over since this worker began.
    pub(crate) proven_off: BTreeMap<NodeId, ProvenOff>,
    pub(crate) revision: u64,
    /// Entries up to here were known to be committed when this life began.
    replayed: LogIndex,
    /// The members or their addresses may have changed since the pulse got its last order.
    is_order_stale: bool,
    pub(crate) compacted: LogIndex,
    last_order: Option<PulseOrder>,
    persists: BTreeMap<u64, (Part, u64)>,
    next_token: u64,
    proposals: BTreeMap<u64, Proposal>,
    next_proposal: u64,
    /// The proposal that removes a member, the last one.
    removal: Option<u64>,
    announce_at: Option<Instant>,
    /// Members that owe the leader an answer, and how far up the ladder of sickness they are.
    pub(crate) sick: BTreeMap<NodeId, usize>,
    /// Members whose Join was refused by the rules: they are not proposed again before this.
    pub(crate) joins_again_at: BTreeMap<NodeId, Instant>,
    /// Lives that members announced and that prove the agreed ones before them to be over.
    pub(crate) newcomers: BTreeMap<NodeId, Incarnation>,
    /// Lives for whose sake this node let another one lead.
    pub(crate) handed_over_for: BTreeSet<(NodeId, Incarnation)>,
    /// When the leader tries again what was refused because the log was busy, and how long it waits then.
    pub(crate) retry_at: Option<Instant>,
    retry_pause: Duration,
    /// When the last step was: a leader that stood still since does not know what happened meanwhile.
    stepped_at: Instant,
    /// Since when this life waits to be spared, condemned for its silence, or to end, having left as the leader.
    ending_since: Option<Instant>,
    leave: Leave,
    /// Since when this leader hears that members are to end, as long as that is not agreed.
    pub(crate) leave_heard: BTreeMap<NodeId, Instant>,
    /// Since when this node, which is to end, knows of nobody who leads.
    leaderless_since: Option<Instant>,
    /// What this node has begun to stop by itself, being about to end.
    pub(crate) stopped_alone: BTreeSet<ResourceName>,
    halted: Option<Halt>,
}

/// What this node knows of another one.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) report: PeerReport,
    /// Since when its beats carry this incarnation.
    pub(crate) incarnation_since: Instant,
    /// It was lost, or came with another incarnation, since this node began: it must prove itself before it gets units.
    pub(crate) has_returned: bool,
    /// When its beats last said that its worker or its disk stood still.
    pub(crate) stuck_at: Option<Instant>,
}

/// This node leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reign {
    /// The index of our Coordinator entry.
    pub(crate) epoch: Epoch,
    /// It is applied.
    pub(crate) is_settled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Consensus,
    Executor,
}

/// Who waits for a proposal.
#[derive(Clone, Debug)]
enum Proposal {
    Request(u64),
    Own(Command),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    No,
    /// Asked for at `since`; said to the leader every now and then.
    Asked {
        again_at: Instant,
        since: Instant,
    },
}

/// What is still to be routed in this step.
pub(crate) enum Todo {
    Consensus(consensus::Input),
    Executor(ExecutorInput),
    Dispatcher(ExecutorMessage, NodeId),
    Fencing(FencingInput),
    Judge(JudgeInput),
    Applied,
}

impl Node {
    /// Begins with what is stored; the first step follows at once.
    pub fn new(now: Moment, start: Start) -> Result<(Node, Vec<Action>), StartError> {
        let Start { identity, settings, stored, journal, first_peers, addresses, begun } = start;
        let state = match stored.snapshot() {
            Some(bytes) => state::decode_snapshot_at(bytes, settings.level)
                .map_err(|cause| StartError::Snapshot(cause.to_string()))?,
            None => ClusterState::default(),
        };
        let is_witness =
            state.members.get(&identity.own).map_or(settings.is_witness, |own| own.role == NodeRole::Witness);
        let profile = if state.members.is_empty() { settings.profile } else { state.config.profile };
        let timing = Timing::of(profile);
        let config = consensus::Config {
            priority: if is_witness { -1 } else { 0 },
            bugs: settings.bugs,
            tail_entries: settings.tail_entries,
            ..consensus::Config::of(identity.own, settings.seed, profile)
        };
        let consensus = Consensus::new(now.at, config, stored)?;
        let executor = Executor::new(now.at, identity.own, identity.incarnation, journal, settings.bugs)?;
        let compacted = state.applied;
        let replayed = consensus.commit();
        let mut node = Node {
            dispatcher: Dispatcher::new(identity.own, settings.bugs),
            fencing: Fencing::new(identity.own, settings.bugs),
            judge: Judge::new(settings.bugs, begun),
            identity,
            settings,
            timing,
            consensus,
            state: Arc::new(state),
            executor,
            peers: BTreeMap::new(),
            reign: None,
            condemnable: BTreeMap::new(),
            plan: Plan::default(),
            is_stale: true,
            voters_again_at: None,
            gone_voters: BTreeMap::new(),
            look_again_at: None,
            replan_at: None,
            first_peers,
            addresses,
            moved_at: now.at,
            is_isolated: false,
            digest: (LogIndex(0), 0),
            diverged: None,
            renewal: Renewal::default(),
            unreadable: None,
            proven_off: BTreeMap::new(),
            downs: BTreeMap::new(),
            revision: 1,
            replayed,
            is_order_stale: true,
            compacted,
            last_order: None,
            persists: BTreeMap::new(),
            next_token: 1,
            proposals: BTreeMap::new(),
            next_proposal: 1,
            removal: None,
            announce_at: Some(now.at),
            sick: BTreeMap::new(),
            joins_again_at: BTreeMap::new(),
            newcomers: BTreeMap::new(),
            handed_over_for: BTreeSet::new(),
            retry_at: None,
            retry_pause: RETRY_FIRST,
            stepped_at: now.at,
            ending_since: None,
            leave: Leave::No,
            leave_heard: BTreeMap::new(),
            leaderless_since: None,
            stopped_alone: BTreeSet::new(),
            halted: None,
        };
        let mut out = Vec::new();
        node.take_addresses(now, &mut out);
        let begun = node.executor.begin(now.at, &node.state);
        let mut todo = Vec::new();
        node.on_executor(begun, &mut todo, &mut out);
        todo.push(Todo::Consensus(consensus::Input::Tick));
        node.run(now, todo, &mut out);
        Ok((node, out))
    }

    /// Feeds one input that happened at `now`; returns what the driver must do about it.
    pub fn step(&mut self, now: Moment, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        if self.halted.is_some() {
            return out;
        }
        let mut todo = Vec::new();
        if self.reign.is_some() && now.at.since(self.stepped_at) > self.timing.t_to {
            todo.push(Todo::Fencing(FencingInput::Woke));
        }
        self.stepped_at = now.at;
        match input {
            Input::Pulse(report) => self.on_report(now, report, &mut todo, &mut out),
            // A copy of this very machine: nobody else sends under our name.
            Input::Message { from, .. } if self.is_removed(from) || from == self.identity.own => {}
            Input::Message { from, message } => self.on_message(now, from, message, &mut todo, &mut out),
            Input::Persisted { token } => match self.persists.remove(&token) {
                Some((Part::Consensus, token)) => todo.push(Todo::Consensus(consensus::Input::Persisted { token })),
                Some((Part::Executor, token)) => todo.push(Todo::Executor(ExecutorInput::Persisted { token })),
                None => panic!("token {token} became durable and was never asked for"),
            },
            Input::CallDone { key, outcome } => todo.push(Todo::Executor(ExecutorInput::CallDone { key, outcome })),
            Input::Exited { key, how } => todo.push(Todo::Executor(ExecutorInput::Exited { key, how })),
            Input::FenceDone { key, outcome } => todo.push(Todo::Fencing(FencingInput::CallDone { key, outcome })),
            Input::Request { id, request, actor } => self.on_request(now, id, request, actor, &mut todo, &mut out),
            Input::Tick => {}
        }
        self.run(now, todo, &mut out);
        out
    }

    /// When `Tick` next has work to do. Extra ticks are harmless.
    pub fn deadline(&self) -> Option<Instant> {
        if self.halted.is_some() {
            return None;
        }
        let leave = match self.leave {
            Leave::Asked { again_at, .. } => Some(again_at),
            Leave::No => None,
        };
        let reign = if self.reign.is_some() {
            let dispatcher = self.dispatcher.deadline();
            let again =
                [self.next_eligibility(), self.voters_again_at, self.look_again_at, self.replan_at, self.retry_at];
            [dispatcher, self.fencing.deadline()].into_iter().chain(again).flatten().min()
        } else {
            None
        };
        let condemned = self.ending_since.map(|at| at + self.spare_limit());
        let parts = [self.consensus.deadline(), self.executor.deadline(), self.judge.deadline()];
        parts.into_iter().chain([self.announce_at, leave, reign, condemned, self.renewal.deadline()]).flatten().min()
    }

    fn run(&mut self, now: Moment, todo: Vec<Todo>, out: &mut Vec<Action>) {
        self.drain(now, todo, out);
        self.tick(now, out);
        for _ in 0..ROUNDS_MAX {
            if !self.is_stale {
                break;
            }
            self.is_stale = false;
            let mut todo = Vec::new();
            self.lead(now, &mut todo, out);
            self.drain(now, todo, out);
        }
        assert!(!self.is_stale, "the leader's decisions do not settle");
        self.order_pulse(out);
        let is_visible = |action: &Action| !matches!(action, Action::Send { .. } | Action::Persist { .. });
        if self.is_order_stale || out.iter().any(is_visible) {
            self.revision += 1;
        }
        self.is_order_stale = false;
    }

    fn drain(&mut self, now: Moment, todo: Vec<Todo>, out: &mut Vec<Action>) {
        let mut queue: VecDeque<Todo> = todo.into();
        let mut rounds = 0;
        while let Some(next) = queue.pop_front() {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "the parts of the node talk in a circle");
            let mut more = Vec::new();
            match next {
                Todo::Consensus(input) => {
                    let actions = self.consensus.step(now.at, input);
                    self.on_consensus(now, actions, &mut more, out);
                }
                Todo::Executor(input) => {
                    let actions = self.executor.step(now.at, &self.state, input);
                    self.on_executor(actions, &mut more, out);
                }
                Todo::Dispatcher(message, from) => {
                    let actions = self.dispatcher.step(now.at, &self.state, DispatcherInput::Message { from, message });
                    self.on_dispatcher(now, actions, &mut more, out);
                }
                Todo::Fencing(input) => {
                    let actions = self.fencing.step(now.at, &self.state, input);
                    self.on_fencing(now, actions, &mut more, out);
                }
                Todo::Judge(input) => {
                    let actions = self.judge.step(now.at, input);
                    self.on_judge(actions, &mut more);
                }
                Todo::Applied => {
                    self.is_order_stale = true;
                    self.take_profile();
                    self.take_addresses(now, out);
                    more.push(Todo::Executor(ExecutorInput::Applied));
                    // The judge watches on every node, so that a new leader does not begin to wait anew.
                    more.push(Todo::Judge(self.judged_members()));
                    if self.reign.is_some() {
                        more.push(Todo::Fencing(self.heard_condemned(now)));
                        more.push(Todo::Fencing(FencingInput::Applied));
                    }
                }
            }
            queue.extend(more);
        }
    }

    /// The timers are those of the configuration that is applied, at any time.
    fn take_profile(&mut self) {
        if !self.state.members.is_empty() {
            let profile = self.state.config.profile;
            self.timing = Timing::of(profile);
            self.consensus.set_tick(consensus::Config::tick_of(profile));
        }
    }

    /// Everybody is where the configuration says that is applied, unless the addresses come from a newer one already.
    fn take_addresses(&mut self, now: Moment, out: &mut Vec<Action>) {
        let state = &self.state;
        if state.members.is_empty() || state.config_version < self.addresses.version {
            return;
        }
        let links =
            |name: &model::NodeName| state.config.nodes.get(name).map(|node| node.links.clone()).unwrap_or_default();
        // A state from before the own admission, or one from after the removal, says nothing about this node.
        let Some(own) = state.members.get(&self.identity.own).map(|own| links(&own.name)) else { return };
        let others = state.members.iter().filter(|(id, _)| **id != self.identity.own);
        let peers = others.map(|(id, member)| (*id, links(&member.name))).collect();
        if self.addresses.take(state.config_version, &own, &peers) {
            self.moved_at = now.at;
            self.is_order_stale = true;
            out.push(Action::Addresses);
        }
    }

    /// Time-driven work of every part whose deadline has passed.
    fn tick(&mut self, now: Moment, out: &mut Vec<Action>) {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now.at);
        let mut todo = Vec::new();
        let is_tick = is_due(self.consensus.deadline());
        if is_tick {
            todo.push(Todo::Consensus(consensus::Input::Tick));
        }
        if is_due(self.executor.deadline()) {
            todo.push(Todo::Executor(ExecutorInput::Tick));
        }
        if is_due(self.judge.deadline()) {
            todo.push(Todo::Judge(JudgeInput::Tick));
        }
        if self.reign.is_some() {
            if is_tick {
                self.watch_sick();
            }
            if is_due(self.fencing.deadline()) {
                todo.push(Todo::Fencing(FencingInput::Tick));
            }
            if is_due(self.dispatcher.deadline()) {
                let actions = self.dispatcher.step(now.at, &self.state, DispatcherInput::Tick);
                self.on_dispatcher(now, actions, &mut todo, out);
            }
            if is_due(self.next_eligibility()) {
                self.is_stale = true;
                self.forget_return(now.at);
            }
            self.is_stale |= is_due(self.voters_again_at) || is_due(self.look_again_at);
            if is_due(self.retry_at) {
                self.retry_at = None;
                self.is_stale = true;
            }
            if is_due(self.replan_at) {
                self.replan_at = None;
                self.is_stale = true;
            }
        }
        self.drain(now, todo, out);
        if self.ending_since.is_some() {
            self.check_own_membership(now, out);
        }
        let mut todo = Vec::new();
        self.renew(now, &mut todo, out);
        if is_due(self.announce_at) {
            self.announce(now, &mut todo, out);
        }
        if let Leave::Asked { again_at, .. } = self.leave
            && again_at <= now.at
        {
            self.ask_to_leave(now, &mut todo, out);
        }
        self.go_down_alone(now, &mut todo, out);
        self.drain(now, todo, out);
    }

    fn on_report(&mut self, now: Moment, report: PulseReport, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        match report {
            PulseReport::Peer(report) => self.on_peer(now, report, todo, out),
            PulseReport::OwnStall { stall } => {
                todo.push(Todo::Executor(ExecutorInput::StallSeen(stall)));
                todo.push(Todo::Judge(JudgeInput::OwnStall));
            }
            PulseReport::Isolated(is_isolated) => {
                self.is_isolated = is_isolated;
                todo.push(Todo::Judge(JudgeInput::Isolated(is_isolated)));
            }
        }
    }

    fn on_peer(&mut self, now: Moment, report: PeerReport, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let id = report.id;
        let before = self.peers.get(&id);
        let was = before.map_or(Verdict::Unknown, |peer| peer.report.verdict);
        let is_lost_now = report.verdict == Verdict::Suspect && was != Verdict::Suspect;
        let is_heard_now = report.verdict == Verdict::Reachable && matches!(was, Verdict::Suspect | Verdict::Unknown);
        let is_new_life = before.is_some_and(|peer| {
            peer.report.verdict != Verdict::Unknown && peer.report.incarnation != report.incarnation
        });
        let name = self.state.name_of(id);
        if is_lost_now {
            let limit_ms = report.limit.as_millis();
            let reason = if report.is_heard {
                format!("{name} beats, and has not heard this node for {limit_ms} ms")
            } else {
                format!("no heartbeat of {name} on any link for {limit_ms} ms")
            };
            out.push(event("suspect", &name, reason));
        } else if is_heard_now {
            out.push(event("reachable", &name, "heartbeats arrive and are answered".into()));
        }
        if let Some(before) = before {
            for link in &report.links {
                let was_up = before
                    .report
                    .links
                    .iter()
                    .find(|old| old.link == link.link)
                    .is_some_and(|old| old.state == LinkState::Up);
                let reason = format!("link {} to {name}", link.link.0 + 1);
                match (was_up, link.state == LinkState::Up) {
                    (true, false) => {
                        *self.downs.entry((id, link.link)).or_default() += 1;
                        out.push(event("link-down", &name, reason));
                    }
                    (false, true) => out.push(event("link-up", &name, reason)),
                    (true, true) | (false, false) => {}
                }
            }
        }
        let has_returned = before.is_some_and(|peer| peer.has_returned) || is_lost_now || is_new_life;
        let incarnation_since = before.filter(|_| !is_new_life).map_or(now.at, |peer| peer.incarnation_since);
        let is_stuck = |report: &PeerReport| report.health.longest() >= self.timing.sick_lead;
        let is_or_was_stuck = is_stuck(&report) || before.is_some_and(|peer| is_stuck(&peer.report));
        let stuck_at = if is_or_was_stuck { Some(now.at) } else { before.and_then(|peer| peer.stuck_at) };
        let changed = before.is_none_or(|peer| {
            peer.report.verdict != report.verdict
                || peer.report.incarnation != report.incarnation
                || peer.report.is_two_way != report.is_two_way
                || peer.report.facts.is_known != report.facts.is_known
                || peer.report.facts.level != report.facts.level
                || peer.report.reachable_since != report.reachable_since
        });
        self.note_rival(&report, out);
        self.compare_with_proof(now, &report);
        if self.addresses.prove(id, &report.links) {
            self.is_order_stale = true;
            out.push(Action::Addresses);
        }
        self.revision += 1;
        self.peers.insert(id, Peer { report: report.clone(), incarnation_since, has_returned, stuck_at });
        self.compare_digests(now, todo, out);
        todo.push(Todo::Consensus(consensus::Input::Peers(self.peer_facts())));
        todo.push(Todo::Judge(JudgeInput::Peer(report)));
        self.is_stale |= changed && self.reign.is_some();
    }

    fn on_message(&mut self, now: Moment, from: NodeId, message: Message, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        // A number is the index of its admission: one from before that is no member's was removed, and stays so.
        let is_removed = from.0 <= self.state.applied.0 && !self.state.members.contains_key(&from);
        if is_removed && !self.state.members.is_empty() {
            return;
        }
        match message {
            Message::Consensus(_) if self.is_a_copy() => {}
            Message::Consensus(message) => match why_unreadable(&message, self.settings.level) {
                None => todo.push(Todo::Consensus(consensus::Input::Message { from, message })),
                Some(what) => self.note_unreadable(from, &what, out),
            },
            Message::Executor(message) => self.on_executor_message(now, from, message, todo, out),
            Message::Announce(announce) => self.on_announce(now, from, announce, todo, out),
            Message::Leave { incarnation } => self.on_leave(now, from, incarnation, todo, out),
            Message::AskState => self.give_state(now, from, todo, out),
            Message::State { snapshot } => self.on_state(now, from, &snapshot, todo, out),
        }
    }

    /// Another member's log says something that this program cannot read: it is not taken into our own.
    fn note_unreadable(&mut self, from: NodeId, what: &str, out: &mut Vec<Action>) {
        if self.unreadable.is_none() {
            let name = self.state.name_of(from);
            let reason = format!(
                "{name} sends {what}, which this node cannot read and does not take: compare `cardea --version` on both"
            );
            out.push(event("problem", &name, reason.clone()));
            self.unreadable = Some(reason);
        }
    }

    /// Orders and questions are for the executor, answers for the dispatcher.
    fn on_executor_message(
        &mut self,
        now: Moment,
        from: NodeId,
        message: ExecutorMessage,
        todo: &mut Vec<Todo>,
        out: &mut Vec<Action>,
    ) {
        if message.is_for_executor() {
            let actions = self.executor.step(now.at, &self.state, ExecutorInput::Message { from, message });
            self.on_executor(actions, todo, out);
        } else if self.reign.is_some() {
            todo.push(Todo::Dispatcher(message, from));
        }
    }

    fn on_request(
        &mut self,
        now: Moment,
        id: u64,
        request: Request,
        actor: String,
        todo: &mut Vec<Todo>,
        out: &mut Vec<Action>,
    ) {
        if matches!(request, Request::Leave) {
            self.begin_to_leave(now);
            out.push(Action::Answer { id, answer: Answer::Done { index: 0 } });
            return;
        }
        let Some(reign) = self.reign else {
            let leader = self.consensus.leader().filter(|leader| *leader != self.identity.own);
            out.push(Action::Answer { id, answer: Answer::NotLeader { leader } });
            return;
        };
        match request {
            Request::Propose(command) => {
                if let Command::Remove { node, .. } = *command
                    && let Some(why) = self.why_not_remove(node)
                {
                    out.push(Action::Answer { id, answer: Answer::Refused(why) });
                    return;
                }
                if let Command::ManualConfirm { node, incarnation, .. } = *command
                    && let Some(why) = self.why_not_confirm(node, incarnation)
                {
                    out.push(Action::Answer { id, answer: Answer::Refused(why) });
                    return;
                }
                self.propose(now, *command, actor, Proposal::Request(id), todo, out);
            }
            Request::Condemn { node, reason } => {
                let Some(member) = self.state.members.get(&node) else {
                    out.push(Action::Answer { id, answer: Answer::Refused(format!("node {node} is not a member")) });
                    return;
                };
                let incarnation = member.incarnation;
                let command = Command::Condemn { node, incarnation, epoch: reign.epoch, reason, is_for_silence: false };
                self.propose(now, command, actor, Proposal::Request(id), todo, out);
            }
            Request::FenceTest { node } => {
                todo.push(Todo::Fencing(FencingInput::Test { request: id, node }));
            }
            Request::Lead { node } => {
                if node != self.identity.own {
                    todo.push(Todo::Consensus(consensus::Input::Transfer(node)));
                }
                out.push(Action::Answer { id, answer: Answer::Done { index: 0 } });
            }
            Request::Leave => {}
        }
    }

    fn propose(
        &mut self,
        now: Moment,
        command: Command,
        actor: String,
        proposal: Proposal,
        todo: &mut Vec<Todo>,
        out: &mut Vec<Action>,
    ) {
        let id = self.next_proposal;
        self.next_proposal += 1;
        if matches!(command, Command::Remove { .. }) {
            self.removal = Some(id);
        }
        let data = Entry { at: now.wall, actor, command }.encode();
        self.proposals.insert(id, proposal);
        let actions = self.consensus.step(now.at, consensus::Input::Propose { id, data });
        self.on_consensus(now, actions, todo, out);
    }

    /// Proposes a command of the leader itself.
    pub(crate) fn propose_own(&mut self, now: Moment, command: Command, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        self.propose(now, command.clone(), "cluster".into(), Proposal::Own(command), todo, out);
    }

    fn on_consensus(
        &mut self,
        now: Moment,
        actions: Vec<consensus::Action>,
        todo: &mut Vec<Todo>,
        out: &mut Vec<Action>,
    ) {
        for action in actions {
            match action {
                consensus::Action::Send { .. } if self.is_a_copy() => {}
                consensus::Action::Send { to, message } => {
                    out.push(Action::Send { to, message: Message::Consensus(message) });
                }
                consensus::Action::Persist { token, writes } => {
                    self.persist(Part::Consensus, token, writes, out);
                }
                consensus::Action::Committed(entries) => {
                    for entry in entries {
                        if self.halted == Some(Halt::Unreadable) {
                            return;
                        }
                        self.apply(now, entry, todo, out);
                    }
                    self.take_state(now, todo, out);
                    self.compact(todo);
                    self.is_stale |= self.reign.is_some();
                    todo.push(Todo::Applied);
                }
                consensus::Action::Install { index, snapshot, .. } => {
                    let state = match state::decode_snapshot_at(&snapshot, self.settings.level) {
                        Ok(state) if state.applied == index => state,
                        Ok(state) => {
                            let what = format!("a snapshot of index {index} says that it is of {}", state.applied);
                            return self.stop_reading(what, out);
                        }
                        Err(cause) => return self.stop_reading(format!("a snapshot cannot be read: {cause}"), out),
                    };
                    self.state = Arc::new(state);
                    self.compacted = index;
                    self.digest = (LogIndex(0), 0);
                    self.after_replacement(now, todo, out);
                }
                consensus::Action::RoleChanged { role, term, leader } => {
                    self.on_role(now, role, term, leader, todo, out);
                }
                consensus::Action::Refused { id, .. } => self.on_proposal_refused(now, id, todo, out),
                consensus::Action::MembershipChanged { voters, .. } => {
                    let names: Vec<String> = voters.iter().map(|id| self.state.name_of(*id)).collect();
                    out.push(event("voters", &self.state.config.name.clone(), format!("voters: {}", names.join(", "))));
                    self.is_stale |= self.reign.is_some();
                }
            }
        }
    }

    /// The whole state is another one.
    pub(crate) fn after_replacement(&mut self, now: Moment, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        self.is_stale |= self.reign.is_some();
        todo.push(Todo::Applied);
        self.announce_at.get_or_insert(now.at);
        self.check_own_membership(now, out);
    }

    /// A proposal did not get into the log. What the leader itself wanted is decided anew after a pause.
    fn on_proposal_refused(&mut self, now: Moment, id: u64, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        match self.proposals.remove(&id) {
            Some(Proposal::Request(request)) => {
                let leader = self.consensus.leader().filter(|leader| *leader != self.identity.own);
                out.push(Action::Answer { id: request, answer: Answer::NotLeader { leader } });
            }
            Some(Proposal::Own(command)) if self.reign.is_some() => {
                self.retry_later(now);
                let input = DispatcherInput::ProposalRefused { command };
                let actions = self.dispatcher.step(now.at, &self.state, input);
                self.on_dispatcher(now, actions, todo, out);
            }
            Some(Proposal::Own(_)) | None => {}
        }
    }

    /// Whatever the leader wants is looked at again after a pause, which grows as long as the log takes nothing.
    pub(crate) fn retry_later(&mut self, now: Moment) {
        if self.retry_at.is_none() {
            self.retry_at = Some(now.at + self.retry_pause);
            self.retry_pause = (self.retry_pause * 2).min(RETRY_MAX);
        }
    }

    fn persist(&mut self, part: Part, token: u64, writes: Vec<model::Write>, out: &mut Vec<Action>) {
        let own = self.next_token;
        self.next_token += 1;
        self.persists.insert(own, (part, token));
        out.push(Action::Persist { token: own, writes });
    }

    fn apply(&mut self, now: Moment, entry: consensus::Committed, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let mut answer = Answer::Done { index: entry.index.0 };
        let mut is_compared = entry.index.0.is_multiple_of(self.settings.digest_every);
        if entry.data.is_empty() {
            Arc::make_mut(&mut self.state).applied = entry.index;
        } else {
            let mut decoded = match Entry::decode_at(&entry.data, self.settings.level) {
                Ok(decoded) => decoded,
                Err(cause) => {
                    return self.stop_reading(format!("log entry {} cannot be read: {cause}", entry.index), out);
                }
            };
            let state = Arc::make_mut(&mut self.state);
            if self.settings.bugs.has(model::Bug::DigestSkipped)
                && state.members.keys().next_back() == Some(&self.identity.own)
                && matches!(decoded.command, Command::Observed { .. })
            {
                decoded.command = Command::Nothing;
            }
            let applied = state::apply(state, entry.index, &decoded, self.settings.bugs);
            garble(state, self.settings.bugs);
            // It says nothing else than: let us compare.
            is_compared |= matches!(decoded.command, Command::Nothing);
            // What was known to be committed before this life is no news.
            if entry.index > self.replayed {
                out.extend(applied.events.iter().map(history_event));
            }
            match applied.verdict {
                Ok(()) if entry.index > self.replayed => self.note_proven_off(now, &decoded.command),
                Ok(()) => {}
                Err(refusal) => answer = Answer::Refused(refusal.to_string()),
            }
            // A fence that began when nobody could agree on it is agreed on before its `off`.
            if let Command::Raise { .. } = decoded.command {
                todo.push(Todo::Fencing(FencingInput::Woke));
            }
            if let Command::Act { action: ActionKind::ShutDown, .. } = decoded.command
                && entry.index > self.replayed
                && self.is_leaving(self.identity.own)
            {
                self.begin_to_leave(now);
            }
            if let Command::Coordinator { node, .. } = decoded.command
                && node == self.identity.own
                && let Some(reign) = &mut self.reign
                && reign.epoch.0 == entry.index.0
            {
                reign.is_settled = true;
            }
        }
        // A verdict counts for as long as its member is online, and not for a later time of the same life.
        let members = &self.state.members;
        self.condemnable.retain(|id, (incarnation, _)| {
            members.get(id).is_some_and(|m| m.state == MemberState::Online && m.incarnation == *incarnation)
        });
        assert!(self.state.applied == entry.index, "entry {} was applied as {}", entry.index, self.state.applied);
        if is_compared {
            self.digest = (entry.index, state::digest(&self.state));
            self.compare_digests(now, todo, out);
        }
        match entry.proposal.and_then(|id| self.proposals.remove(&id)) {
            Some(Proposal::Request(id)) => out.push(Action::Answer { id, answer }),
            Some(Proposal::Own(command)) => {
                self.retry_pause = RETRY_FIRST;
                if let (Answer::Done { .. }, Command::FenceBegun { node, attempt, .. }) = (&answer, &command) {
                    todo.push(Todo::Fencing(FencingInput::Begun { node: *node, attempt: *attempt }));
                }
                if let (Answer::Refused(_), Command::Join { node, .. }) = (&answer, &command) {
                    self.joins_again_at.insert(*node, now.at + JOIN_AGAIN_AFTER);
                }
                if let Answer::Refused(why) = &answer {
                    out.push(event("note", "kernel", format!("a proposal was refused: {why}")));
                    let input = DispatcherInput::ProposalRefused { command };
                    let actions = self.dispatcher.step(now.at, &self.state, input);
                    self.on_dispatcher(now, actions, todo, out);
                }
            }
            None => {}
        }
        self.check_own_membership(now, out);
        if self.needs_announcement() {
            self.announce_at.get_or_insert(now.at);
        }
    }

    /// The log holds what this program cannot read: a newer one wrote it, or somebody who should not.
    fn stop_reading(&mut self, what: String, out: &mut Vec<Action>) {
        if self.halted.is_none() {
            self.halted = Some(Halt::Unreadable);
            let name = self.state.name_of(self.identity.own);
            let next = "compare `cardea --version` on all nodes";
            out.push(event("problem", &name, format!("{what}; this node stops: {next}")));
            out.push(Action::Halt(Halt::Unreadable));
        }
    }

    /// A node that is condemned, has left or is no member any more must stop.
    fn check_own_membership(&mut self, now: Moment, out: &mut Vec<Action>) {
        if self.halted.is_some() || self.state.members.is_empty() {
            return;
        }
        let own_life = self.identity.incarnation;
        let may_be_spared = self.state.ends.get(&self.identity.own).is_some_and(|end| {
            end.incarnation == own_life && end.is_for_silence && !end.is_fence_begun && end.cut_off_by.is_empty()
        });
        let mut waits = None;
        let halt = match self.state.members.get(&self.identity.own) {
            // Its number is the index of its admission: a state from before does not know it yet.
            None => (self.state.applied.0 >= self.identity.own.0).then_some(Halt::Removed),
            Some(own) if own.dead.contains(&own_life) => Some(Halt::Condemned),
            Some(own) if own.incarnation != own_life => None,
            Some(own) => match own.state {
                MemberState::Condemned if may_be_spared => {
                    let since = self.ending_since.unwrap_or(now.at);
                    waits = Some(since);
                    (now.at.since(since) >= self.spare_limit()).then_some(Halt::Condemned)
                }
                MemberState::Condemned | MemberState::Fenced => Some(Halt::Condemned),
                // Who left stays for a moment: others that leave with it need its voice, and a leader has to tell them.
                MemberState::Left | MemberState::Online
                    if self.leave != Leave::No
                        && (own.state == MemberState::Left || self.state.gone.contains(&self.identity.own)) =>
                {
                    let since = self.ending_since.unwrap_or(now.at);
                    waits = Some(since);
                    let limit = if self.reign.is_some() { self.timing.t_to * 2 } else { self.timing.t_to };
                    (now.at.since(since) >= limit).then_some(Halt::Left)
                }
                MemberState::Left | MemberState::Online | MemberState::Absent => None,
            },
        };
        self.ending_since = waits;
        if let Some(halt) = halt {
            self.halted = Some(halt);
            out.push(Action::Halt(halt));
        }
    }

    /// Who was condemned for its silence alone, and learns of it, waits for so long to be spared.
    fn spare_limit(&self) -> Duration {
        self.timing.t_to * 2
    }

    /// Lets go of the log before the applied state once enough has come together.
    fn compact(&mut self, todo: &mut Vec<Todo>) {
        let applied = self.state.applied;
        if applied.0 >= self.compacted.0 + self.settings.compact_every {
            self.compacted = applied;
            let snapshot = state::encode_snapshot(&self.state);
            todo.push(Todo::Consensus(consensus::Input::Compact { upto: applied, snapshot }));
        }
    }

    fn on_role(
        &mut self,
        now: Moment,
        role: Role,
        term: Term,
        leader: Option<NodeId>,
        todo: &mut Vec<Todo>,
        out: &mut Vec<Action>,
    ) {
        todo.push(Todo::Executor(ExecutorInput::Leader(leader)));
        match role {
            Role::Leader => {
                if self.reign.is_none() {
                    self.begin_reign(now, term, todo, out);
                }
            }
            Role::Follower | Role::Candidate | Role::PreCandidate | Role::Learner => {
                if self.reign.take().is_some() {
                    self.end_reign(now, todo, out);
                }
                if let Leave::Asked { again_at, .. } = &mut self.leave
                    && leader.is_some()
                {
                    *again_at = now.at;
                }
                if let Some(leader) = leader {
                    let name = self.state.name_of(leader);
                    out.push(event("leader", &name, format!("{name} leads in term {term}")));
                    if self.needs_announcement() {
                        self.announce_at = Some(now.at);
                    }
                }
            }
        }
    }

    fn on_executor(&mut self, actions: Vec<ExecutorAction>, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        for action in actions {
            match action {
                ExecutorAction::Persist { token, writes } => self.persist(Part::Executor, token, writes, out),
                ExecutorAction::Call(call) => {
                    if call.action != model::AgentAction::Monitor {
                        let what = match call.action {
                            model::AgentAction::Start => "start",
                            model::AgentAction::Stop => "stop",
                            model::AgentAction::Monitor => "monitor",
                        };
                        out.push(event("op-begun", call.resource.as_str(), what.into()));
                    }
                    out.push(Action::Call(call));
                }
                ExecutorAction::Abandon(key) => out.push(Action::Abandon(key)),
                ExecutorAction::Report(result) => self.report_to_leader(ExecutorMessage::Result(result), todo, out),
                ExecutorAction::Changed(change) => self.report_to_leader(ExecutorMessage::Changed(change), todo, out),
                ExecutorAction::Inventory { epoch, inventory } => {
                    self.report_to_leader(ExecutorMessage::Inventory { epoch, inventory }, todo, out);
                }
                ExecutorAction::Accepted { resource, op } => {
                    self.report_to_leader(ExecutorMessage::Accepted { resource, op }, todo, out);
                }
            }
        }
    }

    /// Reports go to the leader, who may be this very node. Without a leader they are lost, and repeated.
    fn report_to_leader(&mut self, message: ExecutorMessage, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        match self.consensus.leader() {
            Some(leader) if leader != self.identity.own => {
                out.push(Action::Send { to: leader, message: Message::Executor(message) });
            }
            Some(leader) if self.reign.is_some() => todo.push(Todo::Dispatcher(message, leader)),
            Some(_) | None => {}
        }
    }

    pub(crate) fn on_dispatcher(
        &mut self,
        now: Moment,
        actions: Vec<DispatcherAction>,
        todo: &mut Vec<Todo>,
        out: &mut Vec<Action>,
    ) {
        for action in actions {
            match action {
                DispatcherAction::Send { to, message } if to == self.identity.own => {
                    self.on_executor_message(now, to, message, todo, out);
                }
                DispatcherAction::Send { to, message } => {
                    out.push(Action::Send { to, message: Message::Executor(message) });
                }
                DispatcherAction::Propose(command) => self.propose_own(now, command, todo, out),
                DispatcherAction::Replan => self.is_stale = true,
            }
        }
    }

    fn on_fencing(&mut self, now: Moment, actions: Vec<FencingAction>, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        for action in actions {
            match action {
                FencingAction::Call(call) => {
                    if call.action == model::FenceAction::Off {
                        let reason = format!("device {} is told to cut {} off", call.device, call.target);
                        out.push(event("fence-called", call.target.as_str(), reason));
                    }
                    out.push(Action::FenceCall(call));
                }
                FencingAction::Abandon(key) => out.push(Action::AbandonFence(key)),
                // Before all members know this entry, a fence begins without it.
                FencingAction::Propose(Command::FenceBegun { node, attempt, .. }) if self.state.level < 1 => {
                    todo.push(Todo::Fencing(FencingInput::Begun { node, attempt }));
                }
                FencingAction::Propose(command) => self.propose_own(now, command, todo, out),
                FencingAction::TestDone { request, results } => {
                    out.push(Action::Answer { id: request, answer: Answer::FenceTests(results) });
                }
                FencingAction::LookDone { node, incarnation, is_off } => {
                    todo.extend(is_off.then_some(Todo::Judge(JudgeInput::ReadOff { node, incarnation })));
                }
                FencingAction::Failed { node, reason } => {
                    out.push(event("fence-failed", &self.state.name_of(node), reason));
                }
            }
        }
    }

    fn on_judge(&mut self, actions: Vec<JudgeAction>, todo: &mut Vec<Todo>) {
        for action in actions {
            self.is_stale = true;
            match action {
                JudgeAction::Down { .. } => {}
                JudgeAction::Yield { to } => todo.push(Todo::Consensus(consensus::Input::Transfer(to))),
                JudgeAction::Withdrawn { node } => {
                    self.condemnable.remove(&node);
                }
                JudgeAction::Condemn { node, incarnation, reason } => {
                    self.condemnable.insert(node, (incarnation, reason));
                }
            }
        }
    }

    /// Must this node still be told to the leader?
    fn needs_announcement(&self) -> bool {
        let stays_out = |own: &model::Member| {
            own.state == MemberState::Fenced && self.settings.bugs.has(model::Bug::FencedStaysOut)
        };
        // An earlier process of this life may have been told to end, and did without the others.
        let is_expected_to_leave = || self.is_leaving(self.identity.own);
        self.state.members.get(&self.identity.own).filter(|own| !stays_out(own)).is_some_and(|own| {
            own.incarnation != self.identity.incarnation
                || self.leave == Leave::No
                    && (matches!(own.state, MemberState::Left | MemberState::Absent)
                        || self.state.gone.contains(&self.identity.own)
                        || own.state == MemberState::Online && is_expected_to_leave())
        })
    }

    /// Tells the leader that this incarnation is here and wants to join.
    fn announce(&mut self, now: Moment, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        if !self.needs_announcement() {
            self.announce_at = None;
            return;
        }
        self.announce_at = Some(now.at + ANNOUNCE_EVERY);
        let announce = Announce {
            incarnation: self.identity.incarnation,
            boot_id: self.identity.boot_id.clone(),
            machine_id: self.identity.machine_id.clone(),
            storage_uuid: self.identity.storage_uuid.clone(),
            last_term: self.consensus.last_term(),
            last_index: self.consensus.last_index(),
        };
        match self.consensus.leader() {
            Some(leader) if leader == self.identity.own => self.on_announce(now, leader, announce, todo, out),
            Some(leader) => out.push(Action::Send { to: leader, message: Message::Announce(announce) }),
            None => {}
        }
    }

    pub(crate) fn was_told_to_leave(&self) -> bool {
        self.leave != Leave::No
    }

    /// From here on this node says that it ends, until it has.
    fn begin_to_leave(&mut self, now: Moment) {
        if self.leave == Leave::No {
            self.leave = Leave::Asked { again_at: now.at, since: now.at };
        }
    }

    /// A node that is to end, and that nobody who leads empties, stops by itself what it runs: in order, and each once.
    ///
    /// It holds what it stops, and goes on to hold it: nobody else starts anything because of it (ADR-0018).
    fn go_down_alone(&mut self, now: Moment, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let Leave::Asked { since, .. } = self.leave else { return };
        if self.consensus.leader().is_some() {
            self.leaderless_since = None;
        } else {
            self.leaderless_since.get_or_insert(now.at);
        }
        let is_alone = self.leaderless_since.is_some_and(|at| now.at.since(at) >= self.timing.t_to * LEADERLESS);
        let is_late = now.at.since(since) >= LEAVE_PATIENCE;
        let has_begun = !self.stopped_alone.is_empty();
        if self.halted.is_some() || self.ending_since.is_some() || !(is_alone || is_late || has_begun) {
            return;
        }
        let open: Vec<(ResourceName, ResourceState)> =
            self.executor.open().map(|(resource, state)| (resource.clone(), state)).collect();
        let name = self.state.name_of(self.identity.own);
        if self.is_in_maintenance(self.identity.own) {
            out.push(event("note", &name, "ends in maintenance: its services go on, and nobody watches them".into()));
        } else {
            let next = self.next_stops_alone(now, &open);
            if !next.is_empty() {
                if !has_begun {
                    let why = if is_alone { "nobody leads" } else { "nobody took over in time" };
                    out.push(event("note", &name, format!("ends, and {why}: it stops what it runs by itself")));
                }
                self.stopped_alone.extend(next.iter().cloned());
                todo.push(Todo::Executor(ExecutorInput::Close(next)));
                return;
            }
            let is_busy = open.iter().any(|(_, state)| *state == ResourceState::Unknown);
            let is_written = !self.persists.values().any(|(part, _)| *part == Part::Executor);
            if is_busy || !is_written && now.at.since(since) < LEAVE_PATIENCE * 2 {
                return;
            }
            let left: Vec<&str> = open.iter().map(|(resource, _)| resource.as_str()).collect();
            if !left.is_empty() {
                let reason = format!("ends, and could not stop {}: it may still run", left.join(", "));
                out.push(event("problem", &name, reason));
            }
        }
        self.halted = Some(Halt::Left);
        out.push(Action::Halt(Halt::Left));
    }

    /// Asks the leader to empty this node; a leader first lets somebody else lead.
    fn ask_to_leave(&mut self, now: Moment, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        if let Leave::Asked { again_at, .. } = &mut self.leave {
            *again_at = now.at + ANNOUNCE_EVERY;
        }
        if self.is_the_last_in_maintenance() {
            self.halted = Some(Halt::Left);
            out.push(Action::Halt(Halt::Left));
            return;
        }
        let incarnation = self.identity.incarnation;
        match self.consensus.leader() {
            Some(leader) if leader == self.identity.own => {
                match self.successor().filter(|id| !self.says_it_leaves(*id)) {
                    Some(successor) => todo.push(Todo::Consensus(consensus::Input::Transfer(successor))),
                    None => self.on_leave(now, leader, incarnation, todo, out),
                }
            }
            Some(leader) => out.push(Action::Send { to: leader, message: Message::Leave { incarnation } }),
            None => {}
        }
    }

    /// Hands are off, all others have ended, and nobody is left who could agree to anything, or miss this node.
    fn is_the_last_in_maintenance(&self) -> bool {
        let is_there = |(id, member): (&NodeId, &model::Member)| {
            *id != self.identity.own && member.state == MemberState::Online && !self.state.gone.contains(id)
        };
        self.consensus.leader().is_none()
            && self.is_in_maintenance(self.identity.own)
            && !self.state.members.iter().any(is_there)
    }

    /// What a leader proposed and did not see applied is its successor's business.
    pub(crate) fn forget_own_proposals(&mut self) {
        self.proposals.retain(|_, proposal| matches!(proposal, Proposal::Request(_)));
    }

    /// Is the removal of a member on its way into the log?
    pub(crate) fn is_removing(&self) -> bool {
        self.removal.is_some_and(|id| self.proposals.contains_key(&id))
    }

    /// Commands that this node proposed as the leader and that are not applied yet.
    pub(crate) fn own_proposals(&self) -> impl Iterator<Item = &Command> {
        self.proposals.values().filter_map(|proposal| match proposal {
            Proposal::Own(command) => Some(command),
            Proposal::Request(_) => None,
        })
    }

    /// What the detector sees, as elections need it.
    fn peer_facts(&self) -> Vec<consensus::PeerFacts> {
        self.peers
            .values()
            .map(|peer| consensus::PeerFacts {
                id: peer.report.id,
                // Who beats and makes no progress can lead as little as who is silent.
                is_suspect: peer.report.verdict == Verdict::Suspect
                    || peer.report.health.longest() >= self.timing.sick_lead,
                is_two_way: peer.report.is_two_way,
                suspects: peer.report.suspects.clone(),
                last_term: peer.report.facts.last_term,
                last_index: peer.report.facts.last_index,
                priority: i64::from(peer.report.facts.priority),
            })
            .collect()
    }

    /// Gives the other half whatever changed for it.
    fn order_pulse(&mut self, out: &mut Vec<Action>) {
        let is_leaving = self.leave != Leave::No || self.halted == Some(Halt::Left);
        let facts = Facts {
            term: self.consensus.term(),
            leader: self.consensus.leader(),
            last_term: self.consensus.last_term(),
            last_index: self.consensus.last_index(),
            commit: self.consensus.commit(),
            applied: self.state.applied,
            config_version: self.state.config_version,
            digest_index: self.digest.0,
            digest: self.digest.1,
            epoch: self.state.epoch,
            priority: self.priority(),
            is_known: true,
            level: self.settings.level,
        };
        let is_same = self.last_order.as_ref().is_some_and(|last| {
            last.facts == facts && last.is_leaving == is_leaving && last.voters == self.consensus.voters()
        });
        if is_same && !self.is_order_stale {
            return;
        }
        let order = PulseOrder {
            members: self.pulse_members(),
            voters: self.consensus.voters().to_vec(),
            timing: self.timing,
            facts,
            is_leaving,
            addresses: self.addresses.version,
        };
        if self.last_order.as_ref() != Some(&order) {
            self.last_order = Some(order.clone());
            out.push(Action::Pulse(Box::new(order)));
        }
    }

    fn pulse_members(&self) -> Vec<PeerOrder> {
        if self.state.members.is_empty() {
            return self.first_peers.clone();
        }
        self.state
            .members
            .iter()
            .filter(|(id, _)| **id != self.identity.own)
            .map(|(id, member)| PeerOrder {
                id: *id,
                links: self.addresses.links_to(*id),
                incarnation: Some(member.incarnation).filter(|incarnation| incarnation.0 != 0),
            })
            .collect()
    }

    /// A node's number is the index of its admission: one that the applied state has passed and does not list is
    /// that of a node that was removed. A higher one may have been admitted since.
    fn is_removed(&self, node: NodeId) -> bool {
        !self.state.members.is_empty() && !self.state.members.contains_key(&node) && node.0 <= self.state.applied.0
    }

    /// Is this member known to have applied the log up to `index`? Its heartbeats say so.
    pub fn has_applied(&self, member: NodeId, index: LogIndex) -> bool {
        self.peers.get(&member).is_some_and(|peer| peer.report.facts.is_known && peer.report.facts.applied >= index)
    }

    pub(crate) fn is_witness(&self) -> bool {
        self.state.members.get(&self.identity.own).map_or(self.settings.is_witness, |own| own.role == NodeRole::Witness)
    }

    /// Where everybody is, and which earlier addresses are still in use.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The agreed state as this node has applied it.
    pub fn state(&self) -> &Arc<ClusterState> {
        &self.state
    }

    /// The consensus of this node, to look at.
    pub fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// The executor of this node, to look at.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Plants other bugs from here on; there are none in the product.
    pub fn plant(&mut self, bugs: model::Bugs) {
        self.settings.bugs = bugs;
    }

    /// Why this node stopped, if it did.
    pub fn halted(&self) -> Option<Halt> {
        self.halted
    }

    /// Rises whenever something visible may have changed.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

/// What in a message could never be applied by a program of this feature level.
fn why_unreadable(message: &consensus::Message, level: u8) -> Option<String> {
    let entry = message.entries().find_map(|data| Entry::decode_at(data, level).err());
    let snapshot = message.snapshot().and_then(|data| state::decode_snapshot_at(data, level).err());
    entry
        .map(|cause| format!("a log entry ({cause})"))
        .or_else(|| snapshot.map(|cause| format!("a snapshot ({cause})")))
}

pub(crate) fn event(event: &'static str, subject: &str, reason: String) -> Action {
    Action::Event(Event { event, subject: subject.to_owned(), reason })
}

/// The history's words are those of the events; one of an older program that is none of them is a note.
fn history_event(entry: &HistoryEntry) -> Action {
    let kind = state::HISTORY_WORDS.iter().find(|kind| **kind == entry.event).copied();
    match kind {
        Some(kind) => event(kind, &entry.subject, entry.reason.clone()),
        None => event("note", &entry.subject, format!("{}: {}", entry.event, entry.reason)),
    }
}
