//! May this operation run here, and what became of it?
//!
//! At most once: an operation is journaled as an intent before its agent is called, and its result before it is
//! reported. So a repeated message finds the result, and a restarted process finds the intent and adopts what runs
//! instead of running it again. An operation of an older leader, of another life of this node, or older than what was
//! begun already is refused. A start needs the current grant in the locally applied state, and nothing at or below the
//! tombstone that the last stop wrote before it ran; so a delayed start can never follow the stop.
//!
//! An executor obeys only whom this node follows: the leader of the agreed epoch, or the one that consensus names. An
//! epoch counts, and is kept, when its begin is applied here. What is run is what the applied configuration says, or what
//! the resource was started with; so a forged order runs nothing that was not agreed on.
//!
//! One operation per resource at a time, and one may wait; what runs is checked again and again, with at most one check
//! outstanding. An operation does not wait for a check: the check is abandoned.
//!
//! In: operations, what became durable, answers of agents, exits of services. Out: writes, calls, reports.
//! A report is repeated until the applied state shows it or the leader says that it has it.
//!
//! Not here: how an agent is run and how a stop ends what does not want to end (`io/agents`), what should run where
//! (`core/scheduler`), who may hold a unit (`core/state`).

use std::collections::BTreeMap;
use std::time::Duration;

use model::{
    AgentAction, AgentCall, AgentName, Bug, Bugs, CallKey, ClusterState, Epoch, HolderState, Incarnation, Instant,
    NodeId, Op, OpId, OpResult, Outcome, ResourceName, ResourceState, Write,
};

use crate::conclusion::{Conclusion, conclude};
use crate::journal::{self, Header, JournalError, Record};
use crate::message::{Change, ExecutorMessage, InFlight, Inventory, InventoryItem};

/// Operations that run at the same time on one node; recurring checks have as much again.
const PARALLEL_MAX: usize = 8;

/// A report is repeated after this long at first, then after twice as long each time…
const REPEAT_FIRST: Duration = Duration::from_millis(100);

/// … up to this.
const REPEAT_MAX: Duration = Duration::from_secs(1);

/// What does not fit the applied configuration is refused after this: a newer version may be on its way.
const CONFIG_LIMIT: Duration = Duration::from_secs(1);

/// An order is not acknowledged while a write has been under way for this long: the disk may never come back.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// The number of the call with which a node stops by itself what it runs: nobody ordered it, and no call of an operation
/// has it.
pub const OWN_STOP: u64 = u64::MAX;

/// The agent's name in the stop of a resource that is in the configuration no more: the journal knows the real one.
pub(crate) const UNKNOWN_AGENT: &str = "unknown";

/// Runs operations on this node.
pub struct Executor {
    own: NodeId,
    incarnation: Incarnation,
    bugs: Bugs,
    /// The newest epoch heard of; older ones are not obeyed.
    max_epoch: Epoch,
    /// The newest epoch in a write that was asked for.
    written_epoch: Epoch,
    /// The newest epoch that is known to be durable.
    durable_epoch: Epoch,
    /// The journal is that of an earlier life of this node.
    is_foreign: bool,
    slots: BTreeMap<ResourceName, Slot>,
    persists: BTreeMap<u64, Persist>,
    next_token: u64,
    /// Counts operations in the order of their arrival.
    arrivals: u64,
    /// The epoch of a question for the inventory that has no answer yet.
    asked: Option<Epoch>,
    /// Whom consensus follows.
    leader: Option<NodeId>,
    /// This node is going down: it starts nothing any more.
    is_closing: bool,
    deadline: Option<Instant>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum ExecutorInput {
    /// A member sends this. Only orders, questions and acknowledgements of whom this node follows count; a question for
    /// the inventory is answered by `ExecutorAction::Inventory` as soon as no older leader is obeyed.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: ExecutorMessage,
    },
    /// Whom consensus follows; this node itself if it leads.
    Leader(Option<NodeId>),
    /// The applied state changed.
    Applied,
    /// The writes of this token are durable.
    Persisted {
        /// The token of `ExecutorAction::Persist`.
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
        /// How it ended, in words for an operator.
        how: String,
    },
    /// This process did not run for this long, beyond what it had planned to sleep.
    StallSeen(Duration),
    /// This node is going down and nobody who leads can empty it: it starts nothing any more, and stops these resources.
    /// What a stop ends needs no leader: the node stays the holder of what it ran (ADR-0018).
    Close(Vec<ResourceName>),
    /// `deadline` has passed.
    Tick,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecutorAction {
    /// Make these writes durable together and in the order of tokens, then say `Persisted`.
    Persist {
        /// Which.
        token: u64,
        /// What.
        writes: Vec<Write>,
    },
    /// Run an agent, then say `CallDone`.
    Call(AgentCall),
    /// The answer of this call is no longer waited for; end it.
    Abandon(CallKey),
    /// Tell the leader what became of an operation; may be lost, is repeated.
    Report(OpResult),
    /// Tell the leader that a resource changed by itself; may be lost, is repeated.
    Changed(Change),
    /// Tell the leader of this epoch what is known; may be lost, is asked for again.
    Inventory {
        /// The epoch of the question.
        epoch: Epoch,
        /// The answer.
        inventory: Inventory,
    },
    /// Tell the leader that its order is known here and not done yet.
    Accepted {
        /// The resource.
        resource: ResourceName,
        /// The operation.
        op: OpId,
    },
}

/// One resource on this node.
struct Slot {
    /// Key of its record in the journal.
    key: u64,
    record: Record,
    phase: Phase,
    waiting: Option<Waiting>,
    check: Check,
    /// Checks and repeated calls so far, for their keys.
    attempts: u64,
    /// The last check timed out while this process was stalled; that is forgiven once.
    is_forgiven: bool,
    /// A service ended while an operation was in flight.
    exited: Option<(CallKey, String)>,
    report: Option<Report>,
}

/// How far the operation in `record.intent` is.
enum Phase {
    /// There is none.
    Idle,
    /// The intent is being written.
    Journaling,
    /// The agent runs.
    Calling { key: CallKey, is_adoption: bool },
    /// The agent has answered; the result is being written.
    Recording { op: InFlight },
    /// This node goes down and stops it by itself.
    Closing { key: CallKey },
}

/// An operation that has not begun.
struct Waiting {
    op: Op,
    arrival: u64,
    /// A start whose grant is not applied here by then is refused.
    hold_until: Instant,
    /// So is whatever does not fit the applied configuration by then.
    fits_until: Instant,
}

/// The recurring check of what runs.
enum Check {
    /// It does not run, or failed and waits for an operation.
    Off,
    /// The next check follows the end of the last one.
    Due { ended: Instant, is_at_once: bool },
    /// A check is outstanding.
    Running { key: CallKey, timeout: Duration, stalled: Duration },
}

/// What the leader must hear.
struct Report {
    content: Content,
    again_at: Instant,
    pause: Duration,
}

enum Content {
    Result,
    Change(Change),
}

/// What a write holds.
struct Persist {
    /// The epoch in its header, if it has one.
    epoch: Option<Epoch>,
    /// Whose operation waits for it.
    waits: Option<(ResourceName, OpId)>,
    asked_at: Instant,
}

/// May a start begin?
enum Gate {
    Open,
    /// The entry that grants it is not applied here.
    NotYet,
    Shut(String),
}

impl Executor {
    /// Begins with what is stored; `begin` must follow. `journal` is all of `Table::Journal`.
    ///
    /// Fails if a record is damaged or of a newer version.
    pub fn new(
        _now: Instant,
        own: NodeId,
        incarnation: Incarnation,
        journal: Vec<(u64, Vec<u8>)>,
        bugs: Bugs,
    ) -> Result<Self, JournalError> {
        let stored = journal::decode(journal)?;
        let is_foreign = stored.header.incarnation != incarnation;
        let slots = if is_foreign {
            BTreeMap::new()
        } else {
            stored.records.into_iter().map(|(key, r)| (r.resource.clone(), Slot::new(key, r))).collect()
        };
        let epoch = stored.header.max_epoch;
        Ok(Executor {
            own,
            incarnation,
            bugs,
            max_epoch: epoch,
            written_epoch: epoch,
            durable_epoch: epoch,
            is_foreign,
            slots,
            persists: BTreeMap::new(),
            next_token: 1,
            arrivals: 0,
            asked: None,
            leader: None,
            is_closing: false,
            deadline: None,
        })
    }

    /// Recovers after a restart: adopts what an earlier process began, watches what runs, repeats what may be unheard.
    ///
    /// In a new incarnation nothing of the old one runs, and no operation of it is obeyed: only the epoch stays.
    pub fn begin(&mut self, now: Instant, state: &ClusterState) -> Vec<ExecutorAction> {
        let mut actions = Vec::new();
        if std::mem::take(&mut self.is_foreign) {
            let header = Header { incarnation: self.incarnation, max_epoch: self.max_epoch };
            let clear = Write::DeleteFrom { table: model::Table::Journal, from: 0 };
            let writes = vec![clear, journal::put_header(header)];
            self.persist(Persist { epoch: Some(self.max_epoch), waits: None, asked_at: now }, writes, &mut actions);
        }
        for slot in self.slots.values_mut() {
            if let Some(intent) = slot.record.intent.clone() {
                let is_adoption = intent.action != AgentAction::Monitor;
                actions.push(slot.call(&intent, is_adoption));
                continue;
            }
            if slot.record.state == ResourceState::Running {
                slot.check = Check::Due { ended: now, is_at_once: true };
            }
            if let Some(result) = &slot.record.result {
                // It failed since, or this node stopped it when it went down.
                let has_worked = result.outcome == Ok(Outcome::Success);
                let is_changed = match (result.action, slot.record.state) {
                    (AgentAction::Start, state) => state != ResourceState::Running,
                    (AgentAction::Stop | AgentAction::Monitor, state) => state == ResourceState::Failed,
                };
                let content = if is_changed && has_worked {
                    Content::Change(slot.change(self.incarnation))
                } else {
                    Content::Result
                };
                slot.report = Some(Report { content, again_at: now, pause: REPEAT_FIRST });
            }
        }
        self.go_on(now, state, &mut actions);
        actions
    }

    /// Feeds one input that happened at `now`; `state` is what is applied on this node.
    pub fn step(&mut self, now: Instant, state: &ClusterState, input: ExecutorInput) -> Vec<ExecutorAction> {
        let mut actions = Vec::new();
        self.max_epoch = self.max_epoch.max(state.epoch);
        match input {
            ExecutorInput::Message { from, message } => self.on_message(now, state, from, message, &mut actions),
            ExecutorInput::Leader(leader) => self.leader = leader,
            ExecutorInput::Persisted { token } => self.on_persisted(now, state, token, &mut actions),
            ExecutorInput::CallDone { key, outcome } => self.on_call_done(now, key, outcome, &mut actions),
            ExecutorInput::Exited { key, how } => self.on_exited(now, key, how, &mut actions),
            ExecutorInput::StallSeen(stall) => self.on_stall(stall),
            ExecutorInput::Close(resources) => self.close(state, resources, &mut actions),
            ExecutorInput::Applied | ExecutorInput::Tick => {}
        }
        self.go_on(now, state, &mut actions);
        actions
    }

    /// When `Tick` next has work to do; extra ticks are harmless.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What is known of this node's resources, beside `state` as it is applied here.
    pub fn inventory(&self, state: &ClusterState) -> Inventory {
        let resources = self
            .slots
            .values()
            .map(|slot| InventoryItem {
                resource: slot.record.resource.clone(),
                state: slot.record.state,
                grant: slot.record.told.as_ref().and_then(|op| op.grant),
                op: slot.in_flight(),
                last: slot.record.result.as_ref().map_or(OpId::default(), |result| result.id),
                reason: slot.record.reason.clone(),
                digest: slot.record.digest,
            })
            .collect();
        Inventory {
            incarnation: self.incarnation,
            max_epoch: self.max_epoch,
            applied: state.applied,
            resources,
            acknowledges: true,
        }
    }

    fn on_message(
        &mut self,
        now: Instant,
        state: &ClusterState,
        from: NodeId,
        message: ExecutorMessage,
        actions: &mut Vec<ExecutorAction>,
    ) {
        let leads_epoch = state.epoch != Epoch(0) && from == state.coordinator;
        if !leads_epoch && self.leader != Some(from) && !self.bugs.has(Bug::EpochIgnored) {
            return;
        }
        match message {
            // The leader repeats what comes before its epoch is applied here.
            ExecutorMessage::Op(op) if op.id.epoch <= state.epoch => self.on_op(now, op, actions),
            ExecutorMessage::AskInventory { epoch } if epoch >= self.max_epoch => self.asked = Some(epoch),
            ExecutorMessage::Ack { resource, op, is_change } => self.on_ack(&resource, op, is_change),
            ExecutorMessage::Op(_)
            | ExecutorMessage::AskInventory { .. }
            | ExecutorMessage::Result(_)
            | ExecutorMessage::Changed(_)
            | ExecutorMessage::Inventory { .. }
            | ExecutorMessage::Accepted { .. } => {}
        }
    }

    /// The stop of everything that may run here, as far as the journal knows: for a node whose life is over, and which
    /// feeds nothing in any more. `timeout` is for each.
    pub fn last_stops(&self, timeout: Duration) -> Vec<AgentCall> {
        let running = self.slots.values().filter_map(|slot| {
            let started = slot.record.intent.as_ref().filter(|op| op.action == AgentAction::Start);
            let told = slot.record.told.as_ref().filter(|_| slot.may_run() || slot.is_busy());
            started.or(told)
        });
        let stop_of = |op: &Op| AgentCall {
            // No call of an operation has this number.
            key: CallKey { op: op.id, attempt: OWN_STOP },
            resource: op.resource.clone(),
            agent: op.agent.clone(),
            action: AgentAction::Stop,
            parameters: op.parameters.clone(),
            timeout,
            is_proven_free: false,
            is_adoption: false,
            started_by: (op.action == AgentAction::Start).then_some(CallKey { op: op.id, attempt: 0 }),
        };
        running.map(stop_of).collect()
    }

    fn on_op(&mut self, now: Instant, op: Op, actions: &mut Vec<ExecutorAction>) {
        if op.incarnation != self.incarnation {
            return self.refuse(&op, "it was meant for another life of this node", actions);
        }
        let obeys_all = self.bugs.has(Bug::EpochIgnored);
        if op.id.epoch < self.max_epoch && !obeys_all {
            return self.refuse(&op, "a newer leader has been heard of", actions);
        }

        if let Some(slot) = self.slots.get(&op.resource) {
            if slot.in_flight().is_some_and(|running| running.id == op.id)
                || slot.waiting.as_ref().is_some_and(|waiting| waiting.op.id == op.id)
            {
                if !self.is_disk_slow(now) {
                    actions.push(ExecutorAction::Accepted { resource: op.resource, op: op.id });
                }
                return;
            }
            if let Some(result) = slot.record.result.as_ref().filter(|result| result.id == op.id) {
                actions.push(ExecutorAction::Report(result.clone()));
                return;
            }
            let newest = slot.waiting.as_ref().map_or(slot.record.newest, |waiting| waiting.op.id);
            if op.id <= newest && !obeys_all && !self.bugs.has(Bug::OlderOpTaken) {
                return self.refuse(&op, "a later operation of this resource came first", actions);
            }
            let is_buried = op.grant.is_some_and(|grant| (grant, op.id) <= slot.record.tombstone);
            if op.action == AgentAction::Start && is_buried {
                return self.refuse(&op, "the resource was stopped after this start was ordered", actions);
            }
            let stop_waits = slot.waiting.as_ref().is_some_and(|waiting| waiting.op.action == AgentAction::Stop);
            if stop_waits && op.action != AgentAction::Stop {
                return self.refuse(&op, "a stop waits before it", actions);
            }
        }
        if op.action == AgentAction::Start && op.grant.is_none() {
            return self.refuse(&op, "a start needs a grant", actions);
        }
        if op.action == AgentAction::Start && self.is_closing {
            return self.refuse(&op, "this node is going down", actions);
        }
        let told = self.slots.get(&op.resource).is_some_and(|slot| slot.record.told.is_some() || slot.is_busy());
        if has_no_agent(&op) && !told {
            return self.refuse(&op, "this node never ran it and does not know how to", actions);
        }

        self.arrivals += 1;
        let waiting =
            Waiting { arrival: self.arrivals, hold_until: now + op.timeout, fits_until: now + CONFIG_LIMIT, op };
        let next_key = self.slots.values().map(|slot| slot.key).max().unwrap_or(0) + 1;
        let resource = waiting.op.resource.clone();
        let slot = self
            .slots
            .entry(resource.clone())
            .or_insert_with(|| Slot::new(next_key, Record { resource, ..Record::default() }));
        if let Some(replaced) = slot.waiting.replace(waiting) {
            self.refuse(&replaced.op, "a later operation took its place", actions);
        }
    }

    /// Begins the stops that this node does by itself. A leader's operation that is under way goes first.
    fn close(&mut self, state: &ClusterState, resources: Vec<ResourceName>, actions: &mut Vec<ExecutorAction>) {
        self.is_closing = true;
        for resource in resources {
            let Some(slot) = self.slots.get_mut(&resource).filter(|slot| slot.may_run() && !slot.is_busy()) else {
                continue;
            };
            let Some(told) = slot.record.told.clone() else { continue };
            if let Check::Running { key, .. } = slot.check {
                actions.push(ExecutorAction::Abandon(key));
            }
            slot.check = Check::Off;
            slot.exited = None;
            let configured = state.config.resources.get(&resource);
            // No call of an operation has this number: nobody ordered it.
            let key = CallKey { op: slot.record.newest, attempt: OWN_STOP };
            let started_by = slot.started_by();
            slot.phase = Phase::Closing { key };
            actions.push(ExecutorAction::Call(AgentCall {
                key,
                resource,
                agent: told.agent,
                action: AgentAction::Stop,
                parameters: told.parameters,
                timeout: configured.map_or(told.timeout, |configured| configured.timeouts.stop),
                is_proven_free: false,
                is_adoption: false,
                started_by,
            }));
        }
    }

    /// A stop that this node did by itself is over: the journal keeps what it came to, and whoever leads hears it.
    fn on_closed(
        &mut self,
        now: Instant,
        resource: &ResourceName,
        outcome: Outcome,
        actions: &mut Vec<ExecutorAction>,
    ) {
        let slot = self.slots.get_mut(resource).expect("the caller found it");
        let outcome = if outcome == Outcome::NotRunning { Outcome::Success } else { outcome };
        slot.phase = Phase::Idle;
        slot.exited = None;
        if let Some(Conclusion { state, reason, .. }) = conclude(AgentAction::Stop, &outcome) {
            slot.record.state = state;
            slot.record.reason = match state {
                ResourceState::Stopped => "this node stopped it when it went down".to_owned(),
                ResourceState::Unknown | ResourceState::Running | ResourceState::Failed | ResourceState::Blocked => {
                    reason
                }
            };
        }
        if slot.record.state == ResourceState::Stopped {
            slot.record.digest = 0;
        }
        let change = slot.change(self.incarnation);
        actions.push(ExecutorAction::Changed(change.clone()));
        slot.report =
            Some(Report { content: Content::Change(change), again_at: now + REPEAT_FIRST, pause: REPEAT_FIRST * 2 });
        let writes = vec![journal::put_record(slot.key, &slot.record)];
        self.persist(Persist { epoch: None, waits: None, asked_at: now }, writes, actions);
    }

    /// What may still run here, or is being started or stopped.
    pub fn open(&self) -> impl Iterator<Item = (&ResourceName, ResourceState)> {
        let is_open = |slot: &&Slot| slot.may_run() || slot.is_busy();
        self.slots.values().filter(is_open).map(|slot| {
            let state = if slot.is_busy() { ResourceState::Unknown } else { slot.record.state };
            (&slot.record.resource, state)
        })
    }

    fn on_ack(&mut self, resource: &ResourceName, op: OpId, is_change: bool) {
        let Some(slot) = self.slots.get_mut(resource) else { return };
        let is_meant = match &slot.report {
            Some(Report { content: Content::Result, .. }) => {
                !is_change && slot.record.result.as_ref().is_some_and(|result| result.id == op)
            }
            Some(Report { content: Content::Change(change), .. }) => is_change && change.op == op,
            None => false,
        };
        if is_meant {
            slot.report = None;
        }
    }

    fn on_persisted(&mut self, now: Instant, state: &ClusterState, token: u64, actions: &mut Vec<ExecutorAction>) {
        let Some(persist) = self.persists.remove(&token) else { return };
        if let Some(epoch) = persist.epoch {
            self.durable_epoch = self.durable_epoch.max(epoch);
        }
        let Some((resource, id)) = persist.waits else { return };
        let Some(slot) = self.slots.get_mut(&resource) else { return };
        match &slot.phase {
            Phase::Journaling => {
                let op = slot.record.intent.clone().expect("an operation that is journaled is the intent");
                assert!(op.id == id, "operation {id:?} of {resource} is durable while {:?} is journaled", op.id);
                let shut = match op.action {
                    AgentAction::Start => match gate(self.own, self.incarnation, state, &op) {
                        Gate::Open if slot.fits(state, &op) => None,
                        Gate::Open | Gate::NotYet => Some("what it rests on has changed meanwhile".to_owned()),
                        Gate::Shut(reason) => Some(reason),
                    },
                    AgentAction::Stop | AgentAction::Monitor => None,
                };
                if let Some(reason) = shut {
                    return self.finish(now, &resource, &op, Err(reason), actions);
                }
                actions.push(slot.call(&op, false));
                if op.action == AgentAction::Stop && self.bugs.has(Bug::StopAssumed) {
                    self.finish(now, &resource, &op, Ok(Outcome::Success), actions);
                }
            }
            Phase::Recording { op } => {
                assert!(op.id == id, "result of {id:?} of {resource} is durable while {:?} is recorded", op.id);
                slot.phase = Phase::Idle;
                let result = slot.record.result.clone().expect("a recorded operation has a result");
                slot.report =
                    Some(Report { content: Content::Result, again_at: now + REPEAT_FIRST, pause: REPEAT_FIRST * 2 });
                actions.push(ExecutorAction::Report(result));
                if let Some((key, how)) = slot.exited.take() {
                    self.on_exited(now, key, how, actions);
                }
            }
            Phase::Idle | Phase::Calling { .. } | Phase::Closing { .. } => {}
        }
    }

    fn on_call_done(&mut self, now: Instant, key: CallKey, outcome: Outcome, actions: &mut Vec<ExecutorAction>) {
        let found = self.slots.iter_mut().find(|(_, slot)| {
            let serves_op = matches!(slot.phase,
                Phase::Calling { key: running, .. } | Phase::Closing { key: running } if running == key);
            serves_op || matches!(slot.check, Check::Running { key: running, .. } if running == key)
        });
        let Some((resource, slot)) = found else { return };
        let resource = resource.clone();
        match slot.phase {
            Phase::Calling { key: running, is_adoption } if running == key => {
                let op = slot.record.intent.clone().expect("an operation that runs is the intent");
                // Whatever an adopted stop has reached, it is the agents' contract that it may be asked for again;
                // what is gone is reported as stopped, and what could not be ended is not tried twice.
                let is_open = match (op.action, &outcome) {
                    (AgentAction::Stop, Outcome::NotRunning | Outcome::Stuck { .. }) => false,
                    (
                        AgentAction::Stop,
                        Outcome::Success
                        | Outcome::Failed { .. }
                        | Outcome::TimedOut
                        | Outcome::Unknown { .. }
                        | Outcome::NotBegun { .. },
                    ) => is_adoption,
                    (AgentAction::Start | AgentAction::Monitor, _) => false,
                };
                if is_open {
                    slot.attempts += 1;
                    let call = slot.call_again(&op);
                    actions.push(call);
                } else {
                    self.finish(now, &resource, &op, Ok(outcome), actions);
                }
            }
            Phase::Closing { key: running } if running == key => self.on_closed(now, &resource, outcome, actions),
            Phase::Idle
            | Phase::Journaling
            | Phase::Calling { .. }
            | Phase::Recording { .. }
            | Phase::Closing { .. } => {
                self.on_check_done(now, &resource, outcome, actions);
            }
        }
    }

    fn on_check_done(
        &mut self,
        now: Instant,
        resource: &ResourceName,
        outcome: Outcome,
        actions: &mut Vec<ExecutorAction>,
    ) {
        let slot = self.slots.get_mut(resource).expect("the caller found it");
        let Check::Running { timeout, stalled, .. } = slot.check else { return };
        let reason = match outcome {
            Outcome::Success => {
                slot.is_forgiven = false;
                slot.check = Check::Due { ended: now, is_at_once: false };
                return;
            }
            // Nothing was learned: what ran is taken to run on, and is asked again.
            Outcome::Unknown { .. } | Outcome::NotBegun { .. } => {
                slot.check = Check::Due { ended: now, is_at_once: false };
                return;
            }
            Outcome::TimedOut if stalled * 5 > timeout && !slot.is_forgiven => {
                slot.is_forgiven = true;
                slot.check = Check::Due { ended: now, is_at_once: true };
                return;
            }
            Outcome::NotRunning => "it does not run any more".to_owned(),
            Outcome::TimedOut => format!("its check gave no answer within {timeout:?}"),
            Outcome::Failed { reason, .. } => format!("its check failed: {reason}"),
            Outcome::Stuck { reason } => format!("its check hangs: {reason}"),
        };
        slot.check = Check::Off;
        self.fail(now, resource, reason, actions);
    }

    fn on_exited(&mut self, now: Instant, key: CallKey, how: String, actions: &mut Vec<ExecutorAction>) {
        let found = self
            .slots
            .iter_mut()
            .find(|(_, slot)| slot.started_by() == Some(key) || slot.in_flight().is_some_and(|op| op.id == key.op));
        let Some((resource, slot)) = found else { return };
        let resource = resource.clone();
        if slot.is_busy() {
            slot.exited = Some((key, how));
        } else if slot.started_by() == Some(key) && slot.record.state == ResourceState::Running {
            self.fail(now, &resource, how, actions);
        }
    }

    fn on_stall(&mut self, stall: Duration) {
        for slot in self.slots.values_mut() {
            if let Check::Running { stalled, .. } = &mut slot.check {
                *stalled += stall;
            }
        }
    }

    /// What runs here failed by itself: the leader hears it at once, and the journal keeps it.
    fn fail(&mut self, now: Instant, resource: &ResourceName, reason: String, actions: &mut Vec<ExecutorAction>) {
        let slot = self.slots.get_mut(resource).expect("the caller found it");
        if let Check::Running { key, .. } = slot.check {
            actions.push(ExecutorAction::Abandon(key));
        }
        slot.check = Check::Off;
        slot.record.state = ResourceState::Failed;
        slot.record.reason = reason;
        let change = slot.change(self.incarnation);
        actions.push(ExecutorAction::Changed(change.clone()));
        slot.report =
            Some(Report { content: Content::Change(change), again_at: now + REPEAT_FIRST, pause: REPEAT_FIRST * 2 });
        let writes = vec![journal::put_record(slot.key, &slot.record)];
        self.persist(Persist { epoch: None, waits: None, asked_at: now }, writes, actions);
    }

    /// Does everything that can be done now, whatever the input was.
    fn go_on(&mut self, now: Instant, state: &ClusterState, actions: &mut Vec<ExecutorAction>) {
        self.repeat_reports(now, state, actions);
        self.begin_waiting(now, state, actions);
        self.begin_checks(now, state, actions);
        if self.max_epoch > self.written_epoch {
            let write = self.header_write();
            self.persist(Persist { epoch: Some(self.max_epoch), waits: None, asked_at: now }, vec![write], actions);
        }
        if let Some(epoch) = self.asked.filter(|epoch| *epoch <= self.durable_epoch) {
            self.asked = None;
            actions.push(ExecutorAction::Inventory { epoch, inventory: self.inventory(state) });
        }
        self.deadline = self.next_deadline(state);
    }

    fn repeat_reports(&mut self, now: Instant, state: &ClusterState, actions: &mut Vec<ExecutorAction>) {
        for slot in self.slots.values_mut() {
            let Some(report) = &mut slot.report else { continue };
            let known = state
                .known
                .get(&slot.record.resource)
                .and_then(|nodes| nodes.get(&self.own))
                .filter(|known| known.incarnation == self.incarnation);
            let is_seen = known.is_some_and(|known| match &report.content {
                Content::Result => slot.record.result.as_ref().is_none_or(|result| known.op >= result.id),
                Content::Change(change) => {
                    known.op > change.op || (known.op == change.op && known.state == change.state)
                }
            });
            if is_seen {
                slot.report = None;
            } else if now >= report.again_at {
                report.again_at = now + report.pause;
                report.pause = (report.pause * 2).min(REPEAT_MAX);
                match &report.content {
                    Content::Result => actions.extend(slot.record.result.clone().map(ExecutorAction::Report)),
                    Content::Change(change) => actions.push(ExecutorAction::Changed(change.clone())),
                }
            }
        }
    }

    /// Begins what waits and may run: stops first, then in the order of arrival.
    fn begin_waiting(&mut self, now: Instant, state: &ClusterState, actions: &mut Vec<ExecutorAction>) {
        let obeys_all = self.bugs.has(Bug::EpochIgnored);
        let mut ready: Vec<(bool, u64, ResourceName)> = Vec::new();
        let mut refused: Vec<(ResourceName, String)> = Vec::new();
        for (resource, slot) in self.slots.iter().filter(|(_, slot)| !slot.is_busy()) {
            let Some(Waiting { op, arrival, hold_until, fits_until }) = &slot.waiting else { continue };
            if op.id.epoch < self.max_epoch && !obeys_all {
                refused.push((resource.clone(), "a newer leader has been heard of".to_owned()));
                continue;
            }
            if !slot.fits(state, op) {
                if now >= *fits_until {
                    refused.push((resource.clone(), "the configuration says something else here".to_owned()));
                }
                continue;
            }
            let gate = match op.action {
                AgentAction::Start if slot.record.must_stop_first() => {
                    Gate::Shut("it failed here and must be stopped first".to_owned())
                }
                AgentAction::Start => gate(self.own, self.incarnation, state, op),
                AgentAction::Stop | AgentAction::Monitor => Gate::Open,
            };
            match gate {
                Gate::Open => ready.push((op.action != AgentAction::Stop, *arrival, resource.clone())),
                Gate::NotYet if now < *hold_until => {}
                Gate::NotYet => refused.push((resource.clone(), "its grant did not arrive here in time".to_owned())),
                Gate::Shut(reason) => refused.push((resource.clone(), reason)),
            }
        }
        for (resource, reason) in refused {
            let waiting = self.slots.get_mut(&resource).and_then(|slot| slot.waiting.take());
            if let Some(waiting) = waiting {
                self.refuse(&waiting.op, &reason, actions);
            }
        }
        ready.sort();
        let running = self.slots.values().filter(|slot| slot.is_busy()).count();
        for (_, _, resource) in ready.into_iter().take(PARALLEL_MAX.saturating_sub(running)) {
            self.begin_op(now, state, &resource, actions);
        }
    }

    /// Journals the intent of the waiting operation; its agent is called when that is durable.
    ///
    /// A leader whose record of a start was lost orders it once more: what runs already is not started again.
    fn begin_op(
        &mut self,
        now: Instant,
        state: &ClusterState,
        resource: &ResourceName,
        actions: &mut Vec<ExecutorAction>,
    ) {
        let slot = self.slots.get_mut(resource).expect("the caller found it");
        let mut op = slot.waiting.take().expect("the caller saw it wait").op;
        op.is_proven_free &= state.proven_free.contains_key(&op.unit);
        if let Some(told) = slot.record.told.as_ref().filter(|_| slot.is_told_better(&op)) {
            op.agent = told.agent.clone();
            op.parameters = told.parameters.clone();
        }
        if let Check::Running { key, .. } = slot.check {
            actions.push(ExecutorAction::Abandon(key));
        }
        slot.check = Check::Off;
        slot.report = None;
        slot.exited = None;
        slot.record.newest = slot.record.newest.max(op.id);
        if slot.record.is_started_alike(&op) {
            return self.finish(now, resource, &op, Ok(Outcome::Success), actions);
        }
        if let (AgentAction::Stop, Some(grant)) = (op.action, op.grant) {
            slot.record.tombstone = slot.record.tombstone.max((grant, op.id));
        }
        slot.record.intent = Some(op.clone());
        slot.phase = Phase::Journaling;
        let spawns_first = self.bugs.has(Bug::JournalAfterSpawn);
        if spawns_first {
            actions.push(slot.call(&op, false));
        }
        let mut writes = vec![journal::put_record(slot.key, &slot.record)];
        let epoch = (self.max_epoch > self.written_epoch).then_some(self.max_epoch);
        if epoch.is_some() {
            writes.insert(0, self.header_write());
        }
        let waits = (!spawns_first).then(|| (resource.clone(), op.id));
        self.persist(Persist { epoch, waits, asked_at: now }, writes, actions);
    }

    /// Journals what became of an operation; it is reported when that is durable.
    fn finish(
        &mut self,
        now: Instant,
        resource: &ResourceName,
        op: &Op,
        outcome: Result<Outcome, String>,
        actions: &mut Vec<ExecutorAction>,
    ) {
        let slot = self.slots.get_mut(resource).expect("the caller found it");
        let was_stopped = match slot.record.state {
            ResourceState::Stopped => !self.bugs.has(Bug::NotBegunBlocks),
            ResourceState::Unknown | ResourceState::Running | ResourceState::Failed | ResourceState::Blocked => {
                op.action == AgentAction::Stop && self.bugs.has(Bug::NotBegunBelieved)
            }
        };
        let outcome = match (op.action, outcome) {
            (AgentAction::Stop, Ok(Outcome::NotRunning)) => Ok(Outcome::Success),
            // It had stopped, or was never there, and no start of it has begun since: so it is still (ADR 0016).
            (AgentAction::Stop, Ok(Outcome::NotBegun { .. })) if was_stopped => Ok(Outcome::Success),
            // Nobody knows what there was before.
            (AgentAction::Start, Ok(Outcome::NotBegun { reason })) if !was_stopped => {
                Ok(Outcome::Failed { reason, is_permanent: true })
            }
            (_, outcome) => outcome,
        };
        slot.conclude(op, &outcome);
        if slot.record.state == ResourceState::Running {
            slot.check = Check::Due { ended: now, is_at_once: false };
            slot.is_forgiven = false;
        }
        slot.record.result = Some(OpResult {
            id: op.id,
            incarnation: self.incarnation,
            resource: resource.clone(),
            action: op.action,
            grant: op.grant,
            outcome,
            digest: slot.record.digest,
        });
        slot.record.intent = None;
        slot.phase = Phase::Recording { op: InFlight { id: op.id, action: op.action, timeout: op.timeout } };
        let writes = vec![journal::put_record(slot.key, &slot.record)];
        self.persist(Persist { epoch: None, waits: Some((resource.clone(), op.id)), asked_at: now }, writes, actions);
    }

    fn begin_checks(&mut self, now: Instant, state: &ClusterState, actions: &mut Vec<ExecutorAction>) {
        let outstanding = self.slots.values().filter(|slot| matches!(slot.check, Check::Running { .. })).count();
        // Whose check has been due for the longest time goes first, so that none is left out for ever.
        let due_at = |slot: &Slot| slot.check_at(state).filter(|at| *at <= now && !slot.is_busy());
        let mut due: Vec<(Instant, &mut Slot)> =
            self.slots.values_mut().filter_map(|slot| Some((due_at(slot)?, slot))).collect();
        due.sort_by_key(|(at, _)| *at);
        for (_, slot) in due.into_iter().take(PARALLEL_MAX.saturating_sub(outstanding)) {
            let Some(told) = slot.record.told.clone() else { continue };
            slot.attempts += 1;
            let (_, timeout) = slot.check_timing(state, &told);
            let key = CallKey { op: told.id, attempt: slot.attempts };
            slot.check = Check::Running { key, timeout, stalled: Duration::ZERO };
            actions.push(ExecutorAction::Call(AgentCall {
                key,
                resource: told.resource,
                agent: told.agent,
                action: AgentAction::Monitor,
                parameters: told.parameters,
                timeout,
                is_proven_free: false,
                is_adoption: false,
                started_by: slot.started_by(),
            }));
        }
    }

    fn next_deadline(&self, state: &ClusterState) -> Option<Instant> {
        let checks = self.slots.values().filter(|slot| matches!(slot.check, Check::Running { .. })).count();
        self.slots
            .values()
            .flat_map(|slot| {
                let report = slot.report.as_ref().map(|report| report.again_at);
                let waiting = slot.waiting.as_ref().filter(|_| !slot.is_busy());
                let held = waiting.map(|waiting| match slot.fits(state, &waiting.op) {
                    true => waiting.hold_until,
                    false => waiting.fits_until,
                });
                let check = slot.check_at(state).filter(|_| !slot.is_busy() && checks < PARALLEL_MAX);
                [report, held, check]
            })
            .flatten()
            .min()
    }

    fn refuse(&self, op: &Op, reason: &str, actions: &mut Vec<ExecutorAction>) {
        actions.push(ExecutorAction::Report(OpResult {
            id: op.id,
            incarnation: self.incarnation,
            resource: op.resource.clone(),
            action: op.action,
            grant: op.grant,
            outcome: Err(reason.to_owned()),
            digest: 0,
        }));
    }

    /// Has a write been under way for suspiciously long?
    fn is_disk_slow(&self, now: Instant) -> bool {
        self.persists.values().next().is_some_and(|oldest| now.since(oldest.asked_at) >= WRITE_LIMIT)
    }

    fn header_write(&self) -> Write {
        journal::put_header(Header { incarnation: self.incarnation, max_epoch: self.max_epoch })
    }

    fn persist(&mut self, persist: Persist, writes: Vec<Write>, actions: &mut Vec<ExecutorAction>) {
        if let Some(epoch) = persist.epoch {
            self.written_epoch = self.written_epoch.max(epoch);
        }
        let token = self.next_token;
        self.next_token += 1;
        self.persists.insert(token, persist);
        actions.push(ExecutorAction::Persist { token, writes });
    }
}

impl Slot {
    fn new(key: u64, record: Record) -> Self {
        Slot {
            key,
            record,
            phase: Phase::Idle,
            waiting: None,
            check: Check::Off,
            attempts: 0,
            is_forgiven: false,
            exited: None,
            report: None,
        }
    }

    fn is_busy(&self) -> bool {
        match self.phase {
            Phase::Idle => false,
            Phase::Journaling | Phase::Calling { .. } | Phase::Recording { .. } | Phase::Closing { .. } => true,
        }
    }

    fn in_flight(&self) -> Option<InFlight> {
        match &self.phase {
            Phase::Idle | Phase::Closing { .. } => None,
            Phase::Recording { op } => Some(op.clone()),
            Phase::Journaling | Phase::Calling { .. } => {
                self.record.intent.as_ref().map(|op| InFlight { id: op.id, action: op.action, timeout: op.timeout })
            }
        }
    }

    /// The call whose processes are the service, if an operation started it.
    fn started_by(&self) -> Option<CallKey> {
        self.record
            .told
            .as_ref()
            .filter(|told| told.action == AgentAction::Start && self.record.state != ResourceState::Stopped)
            .map(|told| CallKey { op: told.id, attempt: 0 })
    }

    /// Calls the agent of an operation for the first time in this process.
    fn call(&mut self, op: &Op, is_adoption: bool) -> ExecutorAction {
        self.call_as(op, CallKey { op: op.id, attempt: 0 }, is_adoption)
    }

    fn call_again(&mut self, op: &Op) -> ExecutorAction {
        self.call_as(op, CallKey { op: op.id, attempt: self.attempts }, false)
    }

    fn call_as(&mut self, op: &Op, key: CallKey, is_adoption: bool) -> ExecutorAction {
        self.phase = Phase::Calling { key, is_adoption };
        ExecutorAction::Call(AgentCall {
            key,
            resource: op.resource.clone(),
            agent: op.agent.clone(),
            action: op.action,
            parameters: op.parameters.clone(),
            timeout: op.timeout,
            is_proven_free: op.is_proven_free,
            is_adoption,
            started_by: self.started_by(),
        })
    }

    /// Does the journal know better than this operation which agent and parameters are meant?
    fn is_told_better(&self, op: &Op) -> bool {
        has_no_agent(op)
            || match op.action {
                AgentAction::Start => false,
                // What never ran and cannot be stopped was told something wrong: what is configured now may be right.
                AgentAction::Stop | AgentAction::Monitor => {
                    self.may_run() && !(self.record.has_never_run && self.record.state == ResourceState::Blocked)
                }
            }
    }

    /// Is it what the applied configuration says, or what the journal knows to have been run here?
    fn fits(&self, state: &ClusterState, op: &Op) -> bool {
        self.is_told_better(op)
            || state.config.resources.get(&op.resource).is_some_and(|resource| {
                resource.agent == op.agent
                    && resource.parameters == op.parameters
                    && state.config.unit_of(&op.resource) == op.unit
            })
    }

    /// Is there something that was started, or found, and has not stopped since?
    fn may_run(&self) -> bool {
        match self.record.state {
            ResourceState::Unknown | ResourceState::Stopped => false,
            ResourceState::Running | ResourceState::Failed | ResourceState::Blocked => true,
        }
    }

    /// What the outcome of an operation says about the resource.
    fn conclude(&mut self, op: &Op, outcome: &Result<Outcome, String>) {
        let is_known_since = self.may_run();
        let is_started_alike = self.record.is_started_alike(op);
        let told = self.record.told.get_or_insert_with(|| op.clone());
        let Some(Conclusion { state, reason, .. }) = outcome.as_ref().ok().and_then(|o| conclude(op.action, o)) else {
            return;
        };
        // An answer that is none takes nothing away from what is known.
        if state == ResourceState::Unknown && is_known_since {
            return;
        }
        match op.action {
            // What runs is still known by the call that started it.
            AgentAction::Start if is_started_alike => {}
            AgentAction::Start => {
                *told = op.clone();
                self.record.digest = op.digest;
            }
            AgentAction::Monitor if !is_known_since || state == ResourceState::Stopped => {
                *told = op.clone();
                self.record.digest = 0;
            }
            AgentAction::Stop | AgentAction::Monitor => {}
        }
        if state == ResourceState::Stopped {
            self.record.digest = 0;
        }
        match (op.action, state) {
            (_, ResourceState::Running | ResourceState::Stopped) => self.record.has_never_run = false,
            (AgentAction::Start, _) => self.record.has_never_run = true,
            (AgentAction::Stop | AgentAction::Monitor, _) => {}
        }
        self.record.state = state;
        self.record.reason = reason;
    }

    fn change(&self, incarnation: Incarnation) -> Change {
        Change {
            resource: self.record.resource.clone(),
            incarnation,
            op: self.record.result.as_ref().map_or(self.record.newest, |result| result.id),
            state: self.record.state,
            reason: self.record.reason.clone(),
            digest: self.record.digest,
            grant: self.record.told.as_ref().and_then(|told| told.grant),
        }
    }

    /// How often and how long to check: as configured now, else as the start said.
    fn check_timing(&self, state: &ClusterState, told: &Op) -> (Duration, Duration) {
        state
            .config
            .resources
            .get(&told.resource)
            .filter(|resource| resource.agent == told.agent)
            .map_or((told.monitor_every, told.monitor_timeout), |r| (r.monitor.every, r.monitor.timeout))
    }

    fn check_at(&self, state: &ClusterState) -> Option<Instant> {
        let Check::Due { ended, is_at_once } = self.check else { return None };
        let (every, _) = self.check_timing(state, self.record.told.as_ref()?);
        if is_at_once { Some(ended) } else { (!every.is_zero()).then(|| ended + every) }
    }
}

/// Is it the stop of what is in the configuration no more? Then the journal knows which agent is meant.
fn has_no_agent(op: &Op) -> bool {
    matches!(&op.agent, AgentName::Native(name) if name == UNKNOWN_AGENT)
}

/// May this start begin, as far as the locally applied state says?
fn gate(own: NodeId, incarnation: Incarnation, state: &ClusterState, op: &Op) -> Gate {
    let Some(grant) = op.grant else { return Gate::Shut("a start needs a grant".to_owned()) };
    if state.barred.contains(&op.resource) {
        return Gate::NotYet;
    }
    match state.holders.get(&op.unit) {
        Some(holder) if holder.node == own && holder.incarnation == incarnation && holder.grant == grant => {
            match &holder.state {
                HolderState::Held => Gate::Open,
                HolderState::Releasing => Gate::Shut(format!("{} is leaving this node", op.unit)),
                HolderState::Blocked { why } => Gate::Shut(format!("{} is blocked: {why}", op.unit)),
            }
        }
        _ if state.applied.0 < grant.0 => Gate::NotYet,
        _ => Gate::Shut(format!("{} is not granted to this node under grant {grant}", op.unit)),
    }
}
