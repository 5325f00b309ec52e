//! The plan says what should change: what is proposed now, what is ordered now, and what must wait?
//!
//! The plan is made anew after every change, so the dispatcher remembers only what is in flight: a step is begun if
//! nothing comes before it and it is not in flight already. Nothing is cancelled: an operation in flight is waited
//! for, also one that a former leader began and an inventory told of.
//!
//! A member that is heard and does not answer is not waited for: who has owed an answer (to a question for its
//! inventory, to an order) for [`ANSWER_LIMIT`] counts as one that cannot be reached (SAFETY §10.1). It is asked on.
//!
//! A new leader knows the agreed state and nothing of what is being done. So it asks for inventories first: an
//! operation waits for that of its node, a grant for those of all nodes where the unit could be found and that can
//! answer. Who cannot answer and is not known to have stopped the unit must be proven off, unless the unit is
//! best-effort (SAFETY §4.4).
//!
//! A member that is heard and has not joined yet, because its machine booted a moment ago, may run what its operating
//! system started by itself. Nothing exclusive is granted or started before it has joined and could be asked; it is
//! waited for only for [`ARRIVAL_LIMIT`].
//!
//! In: the plan, who can be reached, what executors say. Out: commands for the log, messages to executors.
//!
//! Not here: what should change and why (`core/scheduler`), whether a command is lawful (`core/state`), who is
//! condemned (`core/node`).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{
    AgentAction, AgentName, Bugs, ClusterState, Epoch, Holder, HolderState, Incarnation, Instant, Known, Member,
    MemberState, NodeId, NodeRole, Op, OpId, OpResult, Plan, Problem, ProblemKind, ResourceName, ResourceState, Step,
    StepKind, UnitName,
};
use state::{Command, Failure, Observation};

use crate::conclusion::{FailureKind, conclude};
use crate::executor::UNKNOWN_AGENT;
use crate::message::{Change, ExecutorMessage, Inventory};

/// A question for an inventory is repeated after this.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Who has owed an answer for this long cannot be reached, although it is heard.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A member that is heard and has not joined is waited for this long, once until it has joined.
pub const ARRIVAL_LIMIT: Duration = Duration::from_secs(5);

/// An operation without an answer is sent again after this at first, then after twice as long each time…
const RESEND_FIRST: Duration = Duration::from_millis(200);

/// … up to this.
const RESEND_MAX: Duration = Duration::from_secs(1);

/// A proposal that neither shows nor is refused counts as lost after this.
const PROPOSAL_LOST_AFTER: Duration = Duration::from_secs(1);

/// What was refused is not tried again before this has passed.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A probe without an answer is not tried again before this has passed.
const PROBE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// A stop that failed and that nobody is fenced for is tried again after this at first, then after twice as long each
/// time…
const STOP_AGAIN_FIRST: Duration = Duration::from_secs(3);

/// … up to this.
const STOP_AGAIN_MAX: Duration = Duration::from_secs(15);

/// Beyond its own limit, an operation may wait for another one and for the end of what it left behind.
const OP_MARGIN: Duration = Duration::from_secs(10);

/// Limit of a stop of a resource that is in the configuration no more.
const ORPHAN_STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Turns plans into proposals and operations, on the leader.
pub struct Dispatcher {
    own: NodeId,
    epoch: Option<Epoch>,
    /// Operations of this epoch so far.
    ops: u64,
    /// Members that are heard, whether or not they answer.
    heard_members: BTreeSet<NodeId>,
    /// Members that are heard and have owed an answer for too long.
    debtors: BTreeSet<NodeId>,
    /// Members that were heard before they had joined, and since when.
    arrivals: BTreeMap<NodeId, Arrival>,
    /// Those of them that are waited for.
    awaited: BTreeSet<NodeId>,
    /// Inventories that are here: of which incarnation, and does that executor acknowledge orders?
    inventories: BTreeMap<NodeId, (Incarnation, bool)>,
    /// Questions for the inventories of the others.
    asks: BTreeMap<NodeId, Ask>,
    flights: BTreeMap<(NodeId, ResourceName), Flight>,
    heard: BTreeMap<(NodeId, ResourceName), Heard>,
    /// Steps that are proposed, and when they count as lost; or were refused, and when to try them again.
    proposals: BTreeMap<ProposalKey, Instant>,
    /// When to try an operation again.
    retries: BTreeMap<(NodeId, ResourceName), Instant>,
    /// Stops that failed, and when to try them again.
    failed_stops: BTreeMap<(NodeId, ResourceName), FailedStop>,
    problems: Vec<Problem>,
    is_settled: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum DispatcherInput<'a> {
    /// This node leads: its `Coordinator` entry is applied.
    Lead {
        /// The index of that entry.
        epoch: Epoch,
        /// Members that are heard.
        members: Vec<NodeId>,
    },
    /// This node does not lead any more.
    Follow,
    /// A new plan, made from the state of this step. Never answered by `Replan`.
    Plan(&'a Plan),
    /// An executor says something.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: ExecutorMessage,
    },
    /// Which members are heard now, and hear this node; replaces what was said before. Those that owe an answer belong
    /// to them: the dispatcher leaves them out by itself.
    Reachable {
        /// Members that have joined.
        members: BTreeSet<NodeId>,
        /// Members in a life that has not joined yet.
        arriving: BTreeSet<NodeId>,
    },
    /// The kernel refused this proposal of the dispatcher.
    ProposalRefused {
        /// Which.
        command: Command,
    },
    /// `deadline` has passed.
    Tick,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DispatcherAction {
    /// Tell an executor; may be lost, is repeated.
    Send {
        /// Whose; the own one too.
        to: NodeId,
        /// What.
        message: ExecutorMessage,
    },
    /// Put this into the log; may be lost, is proposed again.
    Propose(Command),
    /// Make the plan anew and feed it: something may begin now that could not before.
    Replan,
}

/// An operation that was ordered and has no result here.
struct Flight {
    id: OpId,
    incarnation: Incarnation,
    /// The order, to be repeated; none if a former leader gave it.
    order: Option<Order>,
    ends_at: Instant,
}

struct Order {
    op: Op,
    again_at: Instant,
    pause: Duration,
    /// When it was first sent without any answer since.
    owed_since: Option<Instant>,
}

/// A question for an inventory that has no answer yet.
struct Ask {
    incarnation: Incarnation,
    since: Instant,
    again_at: Instant,
}

/// A member that was heard before it had joined.
struct Arrival {
    since: Instant,
    is_heard: bool,
}

/// A report that was proposed and does not show in the state yet.
struct Heard {
    incarnation: Incarnation,
    rank: Rank,
    /// The state it leads to.
    state: ResourceState,
    lost_at: Instant,
}

/// A stop that failed, and that nobody is fenced for.
struct FailedStop {
    /// None: now.
    again_at: Option<Instant>,
    pause: Duration,
}

/// Orders the reports of one resource: a change follows the result of its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    op: OpId,
    is_change: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ProposalKey {
    Grant(UnitName),
    BeginRelease(UnitName),
    Release(UnitName),
    Block(UnitName),
}

impl Dispatcher {
    /// A dispatcher that does not lead.
    pub fn new(own: NodeId, _bugs: Bugs) -> Self {
        Dispatcher {
            own,
            epoch: None,
            ops: 0,
            heard_members: BTreeSet::new(),
            debtors: BTreeSet::new(),
            arrivals: BTreeMap::new(),
            awaited: BTreeSet::new(),
            inventories: BTreeMap::new(),
            asks: BTreeMap::new(),
            flights: BTreeMap::new(),
            heard: BTreeMap::new(),
            proposals: BTreeMap::new(),
            retries: BTreeMap::new(),
            failed_stops: BTreeMap::new(),
            problems: Vec::new(),
            is_settled: false,
        }
    }

    /// The epoch it leads in.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Have all members that can be reached said what they know?
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// How long each member has owed an answer, of those that are heard and owe one.
    ///
    /// An operation that was accepted and takes long is not owed. Who owes for [`ANSWER_LIMIT`] gets nothing more, and
    /// what it is known to have stopped suffices for a grant elsewhere.
    pub fn owes(&self, now: Instant) -> BTreeMap<NodeId, Duration> {
        let mut owed: BTreeMap<NodeId, Duration> = BTreeMap::new();
        for (node, since) in self.debts() {
            let time = now.since(since);
            owed.entry(node).and_modify(|longest| *longest = time.max(*longest)).or_insert(time);
        }
        owed
    }

    /// Who owes an answer, and since when.
    fn debts(&self) -> impl Iterator<Item = (NodeId, Instant)> {
        let asks = self.asks.iter().map(|(node, ask)| (*node, ask.since));
        let orders =
            self.flights.iter().filter_map(|((node, _), flight)| Some((*node, flight.order.as_ref()?.owed_since?)));
        asks.chain(orders).filter(|(node, _)| self.heard_members.contains(node))
    }

    /// Looks who owes an answer for too long. Is it somebody else than before?
    fn count_debtors(&mut self, now: Instant) -> bool {
        let debtors =
            self.debts().filter(|(_, since)| now.since(*since) >= ANSWER_LIMIT).map(|(node, _)| node).collect();
        std::mem::replace(&mut self.debtors, debtors) != self.debtors
    }

    /// Looks who is on the way and waited for. Is it somebody else than before?
    fn count_awaited(&mut self, now: Instant) -> bool {
        let is_awaited = |arrival: &Arrival| arrival.is_heard && now.since(arrival.since) < ARRIVAL_LIMIT;
        let awaited = self.arrivals.iter().filter(|(_, arrival)| is_awaited(arrival)).map(|(node, _)| *node).collect();
        std::mem::replace(&mut self.awaited, awaited) != self.awaited
    }

    /// Can the member be talked to, and does it answer?
    fn is_reachable(&self, node: NodeId) -> bool {
        self.heard_members.contains(&node) && !self.debtors.contains(&node)
    }

    /// What waits although the plan wants it, one sentence each.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.clone()
    }

    /// When `Tick` next has work to do; extra ticks are harmless.
    pub fn deadline(&self) -> Option<Instant> {
        self.epoch?;
        let flights = self.flights.values().flat_map(|flight| {
            [Some(flight.ends_at), flight.order.as_ref().map(|order| order.again_at)].into_iter().flatten()
        });
        let heard = self.heard.values().map(|heard| heard.lost_at);
        let asks = self.asks.values().map(|ask| ask.again_at);
        let debts =
            self.debts().filter(|(node, _)| !self.debtors.contains(node)).map(|(_, since)| since + ANSWER_LIMIT);
        let arrivals = self.awaited.iter().map(|node| self.arrivals[node].since + ARRIVAL_LIMIT);
        let proposals = self.proposals.values().copied();
        let retries = self.retries.values().copied();
        let stops = self.failed_stops.values().filter_map(|stop| stop.again_at);
        flights.chain(heard).chain(asks).chain(debts).chain(arrivals).chain(proposals).chain(retries).chain(stops).min()
    }

    /// Feeds one input that happened at `now`; `state` is what is applied on this node.
    pub fn step(&mut self, now: Instant, state: &ClusterState, input: DispatcherInput<'_>) -> Vec<DispatcherAction> {
        let mut actions = Vec::new();
        let mut is_planning = false;
        match input {
            DispatcherInput::Lead { epoch, members } => {
                assert!(self.epoch != Some(epoch), "epoch {epoch} begins twice: its operations would not be unique");
                *self = Dispatcher::new(self.own, Bugs::NONE);
                self.epoch = Some(epoch);
                self.heard_members = members.into_iter().chain([self.own]).collect();
            }
            DispatcherInput::Follow => *self = Dispatcher::new(self.own, Bugs::NONE),
            DispatcherInput::Reachable { members, arriving } => self.hear(now, members, &arriving),
            DispatcherInput::Plan(plan) => {
                is_planning = true;
                if let Some(epoch) = self.epoch {
                    self.forget_done(now, state);
                    self.count_debtors(now);
                    self.count_awaited(now);
                    self.on_plan(now, state, epoch, plan, &mut actions);
                }
            }
            DispatcherInput::Message { from, message } => {
                if let Some(epoch) = self.epoch {
                    self.on_message(now, state, epoch, from, message, &mut actions);
                }
            }
            DispatcherInput::ProposalRefused { command } => {
                if let Some(key) = key_of(&command) {
                    self.proposals.insert(key, now + RETRY_AFTER);
                }
            }
            DispatcherInput::Tick => {
                let is_due = |stop: &&mut FailedStop| stop.again_at.is_some_and(|at| now >= at);
                let due = self.failed_stops.values_mut().filter(is_due).map(|stop| stop.again_at = None).count();
                if self.epoch.is_some() && (self.forget_done(now, state) || due > 0) {
                    actions.push(DispatcherAction::Replan);
                }
            }
        }
        if let Some(epoch) = self.epoch {
            self.ask(now, state, epoch, &mut actions);
            self.resend(now, &mut actions);
            if (self.count_debtors(now) | self.count_awaited(now)) && !is_planning {
                actions.push(DispatcherAction::Replan);
            }
        }
        actions
    }

    /// Who is not heard cannot answer, and owes nothing; who is heard again is asked anew.
    fn hear(&mut self, now: Instant, members: BTreeSet<NodeId>, arriving: &BTreeSet<NodeId>) {
        self.heard_members = members;
        self.heard_members.insert(self.own);
        // One that comes and goes and never joins is not waited for once more each time.
        self.arrivals.retain(|node, _| !self.heard_members.contains(node));
        for node in arriving {
            self.arrivals.entry(*node).or_insert(Arrival { since: now, is_heard: true });
        }
        for (node, arrival) in &mut self.arrivals {
            arrival.is_heard = arriving.contains(node);
        }
        self.asks.retain(|node, _| self.heard_members.contains(node));
        for ((node, _), flight) in &mut self.flights {
            if let Some(order) = flight.order.as_mut().filter(|_| !self.heard_members.contains(node)) {
                order.owed_since = None;
                order.pause = RESEND_FIRST;
            }
        }
    }

    /// Forgets what shows in the state, what ended, and whom it concerned no more. Is there anything to try again?
    fn forget_done(&mut self, now: Instant, state: &ClusterState) -> bool {
        let count = |own: &Self| own.flights.len() + own.heard.len() + own.proposals.len() + own.retries.len();
        let before = count(self);
        self.flights.retain(|(node, resource), flight| {
            let shows = known(state, resource, *node).is_some_and(|known| known.op >= flight.id);
            is_online(state, *node, flight.incarnation) && !shows && now < flight.ends_at
        });
        self.heard.retain(|(node, resource), heard| {
            let shows = shows(state, resource, *node, heard.rank, heard.state);
            is_online(state, *node, heard.incarnation) && !shows && now < heard.lost_at
        });
        self.proposals.retain(|_, until| now < *until);
        self.retries.retain(|_, until| now < *until);
        count(self) < before
    }

    fn on_plan(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        plan: &Plan,
        actions: &mut Vec<DispatcherAction>,
    ) {
        self.problems.clear();
        let ready: Vec<&Step> = plan.steps.iter().filter(|step| step.after.is_empty()).collect();
        let wanted: BTreeSet<ProposalKey> = ready.iter().filter_map(|step| key_of_step(step)).collect();
        self.proposals.retain(|key, _| matches!(key, ProposalKey::Block(_)) || wanted.contains(key));
        let mut waiting = BTreeMap::new();
        for step in ready {
            let Some(member) = state.members.get(&step.node) else { continue };
            if matches!(step.kind, StepKind::Grant | StepKind::Start(_))
                && let Some(arriving) = self.arriving(state, &step.unit)
            {
                let text = format!("{} waits until {arriving} has joined and said what runs there", step.unit);
                waiting.insert(step.unit.clone(), text);
                continue;
            }
            match &step.kind {
                StepKind::Grant => self.grant(now, state, epoch, step, member, actions),
                StepKind::BeginRelease => {
                    let Some(holder) = holder_on(state, step) else { continue };
                    let command = Command::BeginRelease {
                        unit: step.unit.clone(),
                        grant: holder.grant,
                        epoch,
                        reason: step.reason.clone(),
                    };
                    self.propose(now, command, actions);
                }
                StepKind::Release => self.release(now, state, epoch, step, actions),
                StepKind::Probe(resource) => {
                    self.order(now, state, epoch, step, resource, AgentAction::Monitor, actions);
                }
                StepKind::Start(resource) => {
                    self.order(now, state, epoch, step, resource, AgentAction::Start, actions);
                }
                StepKind::Stop(resource) => {
                    self.order(now, state, epoch, step, resource, AgentAction::Stop, actions);
                }
            }
        }
        self.problems
            .extend(waiting.into_iter().map(|(unit, text)| Problem::new(ProblemKind::Waits, unit.as_str(), text)));
        self.stop_again(now, state, epoch, actions);
        self.block(now, state, epoch, actions);
        for (unit, holder) in &state.holders {
            if matches!(holder.state, HolderState::Blocked { .. }) && state.stop_cost_node.contains(unit) {
                let way_back = way_back(state).map(|way| format!(", {way}")).unwrap_or_default();
                let text = format!(
                    "{unit} cannot be stopped on {} either: one node was fenced for it already, and no second one is. The \
                     stop is tried again and again; correct the file{way_back}, or stop it by hand",
                    state.name_of(holder.node)
                );
                self.problems.push(Problem::new(ProblemKind::Blocked, unit.as_str(), text));
            }
        }
        self.problems.extend(self.debtors.iter().map(|node| {
            let name = state.name_of(*node);
            let text =
                format!("{name} is heard but does not answer: nothing is given to it or awaited from it until it does");
            Problem::new(ProblemKind::NotAnswering, name, text)
        }));
    }

    fn grant(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        step: &Step,
        member: &Member,
        actions: &mut Vec<DispatcherAction>,
    ) {
        let silent: Vec<String> = state
            .members
            .iter()
            .filter(|(node, member)| {
                !self.has_said(**node, member.incarnation) && self.could_be_found(state, &step.unit, **node, member)
            })
            .map(|(node, _)| state.name_of(*node))
            .collect();
        if silent.is_empty() {
            let command = Command::Grant {
                unit: step.unit.clone(),
                node: step.node,
                incarnation: member.incarnation,
                epoch,
                reason: step.reason.clone(),
            };
            self.propose(now, command, actions);
        } else {
            let (node, silent) = (state.name_of(step.node), silent.join(", "));
            let text = format!("{} waits for {node} until {silent} has said what runs there", step.unit);
            self.problems.push(Problem::new(ProblemKind::Waits, step.unit.as_str(), text));
        }
    }

    /// Could something of the unit run on the node, as far as this leader can know without asking?
    ///
    /// A node that can be reached is asked in any case: the answer takes a round trip. Any other is harmless if
    /// all of the unit is known to be stopped there: it is not the holder, so that it cannot start anything.
    fn could_be_found(&self, state: &ClusterState, unit: &UnitName, node: NodeId, member: &Member) -> bool {
        let can_run = match (member.role, member.state) {
            (NodeRole::Witness, _)
            | (NodeRole::Member, MemberState::Absent | MemberState::Left | MemberState::Fenced) => false,
            (NodeRole::Member, MemberState::Online | MemberState::Condemned) => true,
        };
        let is_stopped = || {
            let resources = state.config.members_of(unit);
            resources.iter().all(|resource| state.known_state(resource, node) == ResourceState::Stopped)
        };
        let can_answer = member.state == MemberState::Online && self.is_reachable(node);
        can_run && (can_answer || state.config.is_exclusive(unit) && !is_stopped())
    }

    /// Names of those whose arrival an exclusive unit waits for; none if it waits for nobody.
    fn arriving(&self, state: &ClusterState, unit: &UnitName) -> Option<String> {
        let names: Vec<String> = self.awaited.iter().map(|node| state.name_of(*node)).collect();
        (state.config.is_exclusive(unit) && !names.is_empty()).then(|| names.join(", "))
    }

    /// Is the inventory of this incarnation here?
    fn has_said(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.inventories.get(&node).is_some_and(|(said, _)| *said == incarnation)
    }

    fn release(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        step: &Step,
        actions: &mut Vec<DispatcherAction>,
    ) {
        let Some(holder) = holder_on(state, step) else { return };
        let is_busy = self
            .flights
            .keys()
            .any(|(node, resource)| *node == step.node && state.config.unit_of(resource) == step.unit);
        if is_busy || !self.has_said(step.node, holder.incarnation) {
            return;
        }
        let command = Command::Release {
            unit: step.unit.clone(),
            node: holder.node,
            incarnation: holder.incarnation,
            grant: holder.grant,
            epoch,
        };
        self.propose(now, command, actions);
    }

    /// A stop that failed is tried again where nobody is fenced for it: the unit is held elsewhere or best-effort, or one
    /// node was fenced for it already. The cause may be gone by then (a missing agent is installed, a busy device free).
    fn stop_again(&mut self, now: Instant, state: &ClusterState, epoch: Epoch, actions: &mut Vec<DispatcherAction>) {
        let mut failed = BTreeMap::new();
        for (resource, nodes) in &state.known {
            let unit = state.config.unit_of(resource);
            let is_spared = !state.config.members_of(&unit).is_empty() && !state.config.is_exclusive(&unit)
                || state.stop_cost_node.contains(&unit);
            let is_held_on = |node| state.holders.get(&unit).is_some_and(|holder| holder.node == node);
            for node in nodes.iter().filter(|(_, known)| known.state == ResourceState::Blocked).map(|(node, _)| *node) {
                let is_current = known(state, resource, node).is_some_and(|known| {
                    known.state == ResourceState::Blocked && is_online(state, node, known.incarnation)
                });
                if (is_spared || !is_held_on(node)) && is_current && !state::is_in_maintenance(state, node) {
                    failed.insert((node, resource.clone()), unit.clone());
                }
            }
        }
        self.failed_stops.retain(|key, _| failed.contains_key(key));
        for ((node, resource), unit) in failed {
            let first = FailedStop { again_at: Some(now + STOP_AGAIN_FIRST), pause: STOP_AGAIN_FIRST };
            let stop = self.failed_stops.entry((node, resource.clone())).or_insert(first);
            if stop.again_at.is_some_and(|at| now < at) {
                continue;
            }
            stop.pause = (stop.pause * 2).min(STOP_AGAIN_MAX);
            stop.again_at = Some(now + stop.pause);
            let reason = format!("the last stop of {resource} failed");
            let kind = StepKind::Stop(resource.clone());
            let step = Step { kind, unit, node, reason, after: Vec::new() };
            self.order(now, state, epoch, &step, &resource, AgentAction::Stop, actions);
        }
    }

    /// A holder on which something cannot be stopped is blocked; what follows is decided elsewhere. What left the
    /// configuration counts wherever something is to be released: nobody knows any more to which unit it belonged.
    fn block(&mut self, now: Instant, state: &ClusterState, epoch: Epoch, actions: &mut Vec<DispatcherAction>) {
        for (unit, holder) in &state.holders {
            if matches!(holder.state, HolderState::Blocked { .. }) {
                continue;
            }
            let members = state.config.members_of(unit);
            let is_leaving = members.is_empty() || matches!(holder.state, HolderState::Releasing);
            let removed = state.known.keys().filter(|r| is_leaving && !state.config.resources.contains_key(*r));
            let stuck = members.into_iter().chain(removed).find_map(|resource| {
                let known = known(state, resource, holder.node)?;
                (known.state == ResourceState::Blocked && known.incarnation == holder.incarnation)
                    .then(|| format!("{resource}: {}", known.reason))
            });
            if let Some(why) = stuck {
                self.propose(now, Command::Block { unit: unit.clone(), grant: holder.grant, epoch, why }, actions);
            }
        }
    }

    fn propose(&mut self, now: Instant, command: Command, actions: &mut Vec<DispatcherAction>) {
        let key = key_of(&command).expect("only commands with a key are proposed here");
        if let Entry::Vacant(free) = self.proposals.entry(key) {
            free.insert(now + PROPOSAL_LOST_AFTER);
            actions.push(DispatcherAction::Propose(command));
        }
    }

    fn order(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        step: &Step,
        resource: &ResourceName,
        action: AgentAction,
        actions: &mut Vec<DispatcherAction>,
    ) {
        let key = (step.node, resource.clone());
        let Some(member) = state.members.get(&step.node).filter(|member| member.state == MemberState::Online) else {
            return;
        };
        let is_taken =
            self.flights.contains_key(&key) || self.heard.contains_key(&key) || self.retries.contains_key(&key);
        let is_known = self.has_said(step.node, member.incarnation);
        if is_taken || !is_known || !self.is_reachable(step.node) {
            return;
        }
        let holder = holder_on(state, step);
        let grant = match action {
            AgentAction::Start => match holder.filter(|holder| holder.state == HolderState::Held) {
                Some(holder) => Some(holder.grant),
                None => return,
            },
            AgentAction::Stop => holder.map(|holder| holder.grant),
            AgentAction::Monitor => None,
        };
        let config = state.config.resources.get(resource);
        if config.is_none() && action != AgentAction::Stop {
            return;
        }
        self.ops += 1;
        let id = OpId { epoch, index: self.ops };
        let timeout = config.map_or(ORPHAN_STOP_TIMEOUT, |config| match action {
            AgentAction::Start => config.timeouts.start,
            AgentAction::Stop => config.timeouts.stop,
            AgentAction::Monitor => config.monitor.timeout,
        });
        let op = Op {
            id,
            incarnation: member.incarnation,
            unit: step.unit.clone(),
            resource: resource.clone(),
            action,
            grant,
            agent: config.map_or_else(|| AgentName::Native(UNKNOWN_AGENT.to_owned()), |config| config.agent.clone()),
            parameters: config.map(|config| config.parameters.clone()).unwrap_or_default(),
            timeout,
            monitor_every: config.map_or(Duration::ZERO, |config| config.monitor.every),
            monitor_timeout: config.map_or(Duration::ZERO, |config| config.monitor.timeout),
            is_proven_free: state.proven_free.contains_key(&step.unit),
            digest: config.map_or(0, state::parameters_digest),
        };
        let owed_since = self.acknowledges(step.node).then_some(now);
        let order = Order { op: op.clone(), again_at: now + RESEND_FIRST, pause: RESEND_FIRST * 2, owed_since };
        let flight =
            Flight { id, incarnation: member.incarnation, order: Some(order), ends_at: now + timeout + OP_MARGIN };
        self.flights.insert(key, flight);
        actions.push(DispatcherAction::Send { to: step.node, message: ExecutorMessage::Op(op) });
    }

    fn on_message(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        from: NodeId,
        message: ExecutorMessage,
        actions: &mut Vec<DispatcherAction>,
    ) {
        let is_current = |incarnation| is_online(state, from, incarnation);
        match message {
            ExecutorMessage::Result(result) if is_current(result.incarnation) => {
                self.on_result(now, state, epoch, from, result, actions);
            }
            ExecutorMessage::Changed(change) if is_current(change.incarnation) => {
                self.on_changed(now, state, epoch, from, change, actions);
            }
            ExecutorMessage::Inventory { epoch: asked, inventory } if asked == epoch => {
                if is_current(inventory.incarnation) {
                    self.on_inventory(now, state, epoch, from, inventory, actions);
                }
            }
            ExecutorMessage::Accepted { resource, op } => {
                let flight = self.flights.get_mut(&(from, resource)).filter(|flight| flight.id == op);
                if let Some(order) = flight.and_then(|flight| flight.order.as_mut()) {
                    order.owed_since = None;
                }
            }
            // Of another life or epoch, or meant for an executor.
            ExecutorMessage::Result(_)
            | ExecutorMessage::Changed(_)
            | ExecutorMessage::Inventory { .. }
            | ExecutorMessage::Op(_)
            | ExecutorMessage::Ack { .. }
            | ExecutorMessage::AskInventory { .. } => {}
        }
    }

    fn on_result(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        from: NodeId,
        result: OpResult,
        actions: &mut Vec<DispatcherAction>,
    ) {
        let key = (from, result.resource.clone());
        let was_awaited = self.flights.get(&key).is_some_and(|flight| flight.id == result.id);
        if was_awaited {
            self.flights.remove(&key);
        }
        let ack = ExecutorMessage::Ack { resource: result.resource.clone(), op: result.id, is_change: false };
        let conclusion = match &result.outcome {
            Ok(outcome) => conclude(result.action, outcome),
            Err(_) => None,
        };
        let Some(conclusion) = conclusion else {
            // Refused, or a probe without an answer: nothing to record. What the plan still wants is tried again.
            if was_awaited {
                let pause = if result.outcome.is_err() { RETRY_AFTER } else { PROBE_AGAIN_AFTER };
                self.retries.insert(key, now + pause);
                actions.push(DispatcherAction::Replan);
            }
            actions.push(DispatcherAction::Send { to: from, message: ack });
            return;
        };
        if conclusion.state == ResourceState::Unknown {
            self.retries.insert(key, now + PROBE_AGAIN_AFTER);
        }
        let is_repeated = matches!(conclusion.state, ResourceState::Unknown | ResourceState::Blocked)
            && known(state, &result.resource, from)
                .is_some_and(|known| known.state == conclusion.state && known.reason == conclusion.reason);
        if is_repeated {
            // The log would grow by an entry with each try.
            actions.push(DispatcherAction::Send { to: from, message: ack });
            return;
        }
        let observation = Observation {
            resource: result.resource.clone(),
            op: result.id,
            state: conclusion.state,
            digest: result.digest,
            failure: conclusion.failure.map(|kind| Failure {
                reason: conclusion.reason.clone(),
                is_permanent: kind == FailureKind::Permanent,
            }),
            reason: conclusion.reason,
            is_change: false,
        };
        let rank = Rank { op: result.id, is_change: false };
        if self.observe(now, state, epoch, from, result.incarnation, vec![(rank, observation)], actions) {
            actions.push(DispatcherAction::Send { to: from, message: ack });
        }
    }

    fn on_changed(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        from: NodeId,
        change: Change,
        actions: &mut Vec<DispatcherAction>,
    ) {
        let rank = Rank { op: change.op, is_change: true };
        let observation = Observation {
            resource: change.resource.clone(),
            op: change.op,
            state: change.state,
            digest: change.digest,
            failure: failure_of(change.state, &change.reason),
            reason: change.reason,
            is_change: true,
        };
        if self.observe(now, state, epoch, from, change.incarnation, vec![(rank, observation)], actions) {
            let message = ExecutorMessage::Ack { resource: change.resource, op: change.op, is_change: true };
            actions.push(DispatcherAction::Send { to: from, message });
        }
    }

    fn on_inventory(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        from: NodeId,
        inventory: Inventory,
        actions: &mut Vec<DispatcherAction>,
    ) {
        let said = (inventory.incarnation, inventory.acknowledges);
        if self.inventories.insert(from, said).is_some_and(|(before, _)| before == inventory.incarnation) {
            return;
        }
        self.asks.remove(&from);
        let mut news = Vec::new();
        for item in inventory.resources {
            if let Some(op) = item.op {
                // A former leader's operation: it goes on, and its result is waited for.
                let flight = Flight {
                    id: op.id,
                    incarnation: inventory.incarnation,
                    order: None,
                    ends_at: now + op.timeout + OP_MARGIN,
                };
                self.flights.insert((from, item.resource), flight);
                continue;
            }
            let known = known(state, &item.resource, from);
            let is_news = item.state != ResourceState::Unknown
                && known.is_none_or(|known| item.last >= known.op && item.state != known.state);
            if is_news {
                let rank = Rank { op: item.last, is_change: item.state == ResourceState::Failed };
                let observation = Observation {
                    resource: item.resource,
                    op: item.last,
                    state: item.state,
                    digest: item.digest,
                    failure: failure_of(item.state, &item.reason),
                    reason: item.reason,
                    is_change: rank.is_change,
                };
                news.push((rank, observation));
            }
        }
        self.observe(now, state, epoch, from, inventory.incarnation, news, actions);
        actions.push(DispatcherAction::Replan);
    }

    /// Proposes what is new of these. Does the state show all of them already?
    fn observe(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        node: NodeId,
        incarnation: Incarnation,
        reports: Vec<(Rank, Observation)>,
        actions: &mut Vec<DispatcherAction>,
    ) -> bool {
        let mut observations = Vec::new();
        let mut is_shown = true;
        for (rank, observation) in reports {
            if shows(state, &observation.resource, node, rank, observation.state) {
                continue;
            }
            is_shown = false;
            let key = (node, observation.resource.clone());
            let is_proposed = self
                .heard
                .get(&key)
                .is_some_and(|heard| heard.incarnation == incarnation && heard.rank >= rank && now < heard.lost_at);
            if !is_proposed {
                let heard = Heard { incarnation, rank, state: observation.state, lost_at: now + PROPOSAL_LOST_AFTER };
                self.heard.insert(key, heard);
                observations.push(observation);
            }
        }
        if !observations.is_empty() {
            actions.push(DispatcherAction::Propose(Command::Observed { node, incarnation, epoch, observations }));
        }
        is_shown
    }

    /// Asks every member that is heard and has not answered in its incarnation.
    fn ask(&mut self, now: Instant, state: &ClusterState, epoch: Epoch, actions: &mut Vec<DispatcherAction>) {
        let silent: BTreeMap<NodeId, Incarnation> = state
            .members
            .iter()
            .filter(|(node, member)| {
                member.role == NodeRole::Member
                    && member.state == MemberState::Online
                    && self.heard_members.contains(node)
                    && !self.has_said(**node, member.incarnation)
            })
            .map(|(node, member)| (*node, member.incarnation))
            .collect();
        self.asks.retain(|node, ask| silent.get(node) == Some(&ask.incarnation));
        for (node, incarnation) in silent {
            let ask = self.asks.entry(node).or_insert(Ask { incarnation, since: now, again_at: now });
            if now >= ask.again_at {
                ask.again_at = now + ASK_EVERY;
                actions.push(DispatcherAction::Send { to: node, message: ExecutorMessage::AskInventory { epoch } });
            }
        }
        self.is_settled = self.asks.keys().all(|node| self.debtors.contains(node));
    }

    fn resend(&mut self, now: Instant, actions: &mut Vec<DispatcherAction>) {
        for ((node, _), flight) in &mut self.flights {
            let Some(order) = flight.order.as_mut().filter(|order| now >= order.again_at) else { continue };
            order.again_at = now + order.pause;
            order.pause = (order.pause * 2).min(RESEND_MAX);
            if self.heard_members.contains(node) {
                if self.inventories.get(node).is_some_and(|(_, acknowledges)| *acknowledges) {
                    order.owed_since.get_or_insert(now);
                }
                actions.push(DispatcherAction::Send { to: *node, message: ExecutorMessage::Op(order.op.clone()) });
            }
        }
    }

    fn acknowledges(&self, node: NodeId) -> bool {
        self.inventories.get(&node).is_some_and(|(_, acknowledges)| *acknowledges)
    }
}

/// How the last change of the file is taken back; none if there is no version before it.
fn way_back(state: &ClusterState) -> Option<String> {
    let former = state.former_version()?;
    Some(format!("take it back by `cardea rollback {former}`"))
}

fn known<'a>(state: &'a ClusterState, resource: &ResourceName, node: NodeId) -> Option<&'a Known> {
    let incarnation = state.members.get(&node)?.incarnation;
    state.known.get(resource)?.get(&node).filter(|known| known.incarnation == incarnation)
}

/// Does the state tell as much as this report, or more?
fn shows(state: &ClusterState, resource: &ResourceName, node: NodeId, rank: Rank, reported: ResourceState) -> bool {
    match known(state, resource, node) {
        Some(known) => known.op > rank.op || known.op == rank.op && (!rank.is_change || known.state == reported),
        // Of what left the configuration and has stopped, the state knows nothing.
        None => reported == ResourceState::Stopped && !state.config.resources.contains_key(resource),
    }
}

fn is_online(state: &ClusterState, node: NodeId, incarnation: Incarnation) -> bool {
    let member = state.members.get(&node);
    member.is_some_and(|member| member.state == MemberState::Online && member.incarnation == incarnation)
}

/// The holder of the step's unit, if it is the step's node in its current incarnation.
fn holder_on<'a>(state: &'a ClusterState, step: &Step) -> Option<&'a Holder> {
    let incarnation = state.members.get(&step.node)?.incarnation;
    state.holders.get(&step.unit).filter(|holder| holder.node == step.node && holder.incarnation == incarnation)
}

fn failure_of(state: ResourceState, reason: &str) -> Option<Failure> {
    (state == ResourceState::Failed).then(|| Failure { reason: reason.to_owned(), is_permanent: false })
}

fn key_of_step(step: &Step) -> Option<ProposalKey> {
    match &step.kind {
        StepKind::Grant => Some(ProposalKey::Grant(step.unit.clone())),
        StepKind::BeginRelease => Some(ProposalKey::BeginRelease(step.unit.clone())),
        StepKind::Release => Some(ProposalKey::Release(step.unit.clone())),
        StepKind::Probe(_) | StepKind::Start(_) | StepKind::Stop(_) => None,
    }
}

fn key_of(command: &Command) -> Option<ProposalKey> {
    match command {
        Command::Grant { unit, .. } => Some(ProposalKey::Grant(unit.clone())),
        Command::BeginRelease { unit, .. } => Some(ProposalKey::BeginRelease(unit.clone())),
        Command::Release { unit, .. } => Some(ProposalKey::Release(unit.clone())),
        Command::Block { unit, .. } => Some(ProposalKey::Block(unit.clone())),
        Command::Coordinator { .. }
        | Command::Admit { .. }
        | Command::Remove { .. }
        | Command::Join { .. }
        | Command::Leave { .. }
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
        | Command::FenceBegun { .. }
        | Command::Spare { .. }
        | Command::Lost { .. }
        | Command::Gone { .. }
        | Command::Raise { .. }
        | Command::Nothing => None,
    }
}
