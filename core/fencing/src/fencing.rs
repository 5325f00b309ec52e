//! Which device is called next for which condemned node, and is the node off?
//!
//! Only the leader fences, and never itself. A new leader begins anew: switching off twice is harmless. What was
//! decided before this node stood still may have been overtaken: the node may have been fenced by another leader, have
//! booted and joined again. So each `off` follows the commit of a `FenceBegun` of its own, which only a living leader
//! gets, and that commit must be fresh (SAFETY §10.5). Agents that run when the leadership ends are ended.
//!
//! Before the first `off` the status is read: what is off already is proven off at once, and is not told anything.
//! What a device proves is proposed as soon as it frees something, though other devices still fail.
//!
//! A node that is proven off is switched on again, where its device says so, to boot and to return by itself.
//!
//! In: leadership, changes of the state, answers of fence agents, tests. Out: calls, FenceBegun, FenceDone, results of
//! tests. Not here: who is condemned or spared (`core/node`), what FenceDone frees (`core/state`), how an agent runs
//! (`io/agents`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{
    ActionKind, Bug, Bugs, ClusterState, Domain, Epoch, FenceAction, FenceCall, FenceConfig, FenceEvidence,
    FenceMethod, FenceName, FenceOutcome, FenceStatus, Incarnation, Instant, MemberState, NodeId, NodeName, Problem,
    ProblemKind, UnitName,
};
use state::Command;

/// The status is read again after this at first…
const READ_SOON: Duration = Duration::from_millis(20);

/// … for this long after the device took the order…
const READ_SOON_FOR: Duration = Duration::from_millis(500);

/// … and after this later.
const READ_LATER: Duration = Duration::from_millis(200);

/// An agent is killed at its limit; if nobody says so within this, the call has failed all the same.
const CALL_GRACE: Duration = Duration::from_secs(1);

/// After all levels failed, the next round waits for this at first, then for twice as long each time…
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// … up to this.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A FenceDone that does not show in the state counts as lost after this.
const PROPOSAL_LOST_AFTER: Duration = Duration::from_secs(1);

/// A FenceDone that was proposed so often in vain rests on something that changed: the node is cut off anew.
const PROPOSALS_MAX: u32 = 5;

/// A `FenceBegun` counts as the proof of leadership for this long after it was proposed.
const FRESH_FOR: Duration = Duration::from_secs(2);

/// The first look at the status is waited for no longer than this.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// A node that is proven off is switched on again after this…
const ON_AFTER: Duration = Duration::from_secs(2);

/// … and, if that failed, so many times more, each after a longer pause.
const ON_TRIES_MAX: u32 = 8;

/// Cuts off what is condemned.
pub struct Fencing {
    own: NodeId,
    bugs: Bugs,
    epoch: Option<Epoch>,
    next_key: u64,
    /// `FenceBegun` entries that were proposed.
    next_attempt: u64,
    targets: BTreeMap<NodeId, Target>,
    /// Condemned members that are heard: they are to be spared, not fenced.
    heard: BTreeSet<NodeId>,
    /// Condemned members whose next life is heard and about to be let in: no device is called for them.
    reborn: BTreeSet<NodeId>,
    /// Members that are proven off and are to be switched on.
    returns: BTreeMap<NodeId, Return>,
    tests: BTreeMap<Asker, Test>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum FencingInput {
    /// This node leads: its `Coordinator` entry is applied.
    Lead {
        /// The index of that entry.
        epoch: Epoch,
    },
    /// This node does not lead any more.
    Follow,
    /// The state changed.
    Applied,
    /// Condemned members that are heard. Replaces what was said before.
    Heard {
        /// They are heard in the condemned life, and nothing was done to them yet: no fence of them begins.
        spared: BTreeSet<NodeId>,
        /// They are heard in a new life that proves the condemned one to be over: for as long as they are in here, no
        /// further `off` is called for them. A leader might need their votes.
        reborn: BTreeSet<NodeId>,
    },
    /// This node stood still for a while: what it knew before may have been overtaken.
    Woke,
    /// A `FenceBegun` that this leader proposed is agreed on.
    Begun {
        /// The node to be fenced.
        node: NodeId,
        /// Which attempt.
        attempt: u64,
    },
    /// A fence agent answered.
    CallDone {
        /// Which call.
        key: u64,
        /// Its answer.
        outcome: FenceOutcome,
    },
    /// Somebody wants to know whether the devices of a node answer. Nothing is switched.
    Test {
        /// The asker's number for it.
        request: u64,
        /// The node.
        node: NodeId,
    },
    /// This leader wants to know whether a member is off already. Nothing is switched.
    Look {
        /// Whose devices are read.
        node: NodeId,
        /// Its agreed life; the answer is about this one.
        incarnation: Incarnation,
    },
    /// `deadline` has passed.
    Tick,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FencingAction {
    /// Run a fence agent, then say `CallDone`.
    Call(FenceCall),
    /// Nobody waits for this call any more: end its agent.
    Abandon(u64),
    /// Put this into the log; may be lost, is proposed again.
    Propose(Command),
    /// The answers to a test, one for each device of the node.
    TestDone {
        /// The asker's number.
        request: u64,
        /// The answers, in the order in which the devices are tried.
        results: Vec<FenceTest>,
    },
    /// The answer to a look.
    LookDone {
        /// Whose devices were read.
        node: NodeId,
        /// Its life that was agreed when the look began.
        incarnation: Incarnation,
        /// No device reads on, and one at least reads off.
        is_off: bool,
    },
    /// A device failed to cut the node off; for those who watch.
    Failed {
        /// The node.
        node: NodeId,
        /// Which device, and why, as a sentence.
        reason: String,
    },
}

/// What a device answered to a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceTest {
    /// The device.
    pub device: FenceName,
    /// Its answer to `status`.
    pub outcome: FenceOutcome,
    /// From the call to the answer, in milliseconds.
    pub took_ms: u64,
}

/// A condemned incarnation that is to be cut off.
struct Target {
    name: String,
    incarnation: Incarnation,
    phase: Phase,
    /// Position of the current device in the node's `fence`.
    level: usize,
    /// When the first call of this round was made.
    began_at: Instant,
    /// Devices whose status reads off in this round.
    proven: Vec<FenceName>,
    covered: BTreeSet<Domain>,
    /// Rounds in which every way failed.
    rounds: u32,
    /// Why levels of this round failed.
    failures: Vec<String>,
    /// Why the levels of the last round failed.
    last_failures: Vec<String>,
}

enum Phase {
    /// The next level begins at once.
    Ready,
    /// It is confirmed that this node leads, and the status may be read, before `off` is called.
    Begin { attempt: u64, proposed_at: Instant, again_at: Instant, is_confirmed: bool, look: Option<Look> },
    /// `off` is being called.
    Off { key: u64, ends_at: Instant },
    /// The device took the order; its status is read next at `read_at`.
    Wait { ordered_at: Instant, read_at: Instant },
    /// `status` is being called.
    Status { ordered_at: Instant, key: u64, ends_at: Instant },
    /// Proven; this FenceDone is proposed and counts as lost at `lost_at`.
    Proposed { command: Command, lost_at: Instant, tries: u32 },
    /// Every way failed; the next round begins at `again_at`.
    Pause { again_at: Instant },
    /// The node has no device.
    Helpless,
}

/// The status is being read before anything is done.
#[derive(Clone, Copy)]
struct Look {
    key: u64,
    ends_at: Instant,
}

/// A member that is proven off and is to be switched on.
struct Return {
    name: String,
    incarnation: Incarnation,
    /// What is still to be switched on, the next one last.
    devices: Vec<FenceName>,
    tries: u32,
    /// The call that runs, and when it counts as failed; none: the next one is made at `at`.
    call: Option<u64>,
    at: Instant,
    last_failure: Option<String>,
}

/// Who wants to know what the devices of a node read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asker {
    /// Somebody outside; the number that was given to the question.
    Request(u64),
    /// This leader, about this life of a member.
    Leader(NodeId, Incarnation),
}

/// A test of a node's devices.
struct Test {
    began_at: Instant,
    ends_at: Instant,
    /// In the order of the levels.
    calls: Vec<TestCall>,
}

struct TestCall {
    key: u64,
    device: FenceName,
    answer: Option<(FenceOutcome, Instant)>,
}

impl Fencing {
    /// A fencing that does not lead.
    pub fn new(own: NodeId, bugs: Bugs) -> Self {
        Fencing {
            own,
            bugs,
            epoch: None,
            next_key: 1,
            next_attempt: 1,
            targets: BTreeMap::new(),
            heard: BTreeSet::new(),
            reborn: BTreeSet::new(),
            returns: BTreeMap::new(),
            tests: BTreeMap::new(),
        }
    }

    /// Feeds one input that happened at `now`; `state` is what is applied on this node.
    pub fn step(&mut self, now: Instant, state: &ClusterState, input: FencingInput) -> Vec<FencingAction> {
        let mut actions = Vec::new();
        match input {
            FencingInput::Lead { epoch } => {
                self.stop(&mut actions);
                self.epoch = Some(epoch);
            }
            FencingInput::Follow => self.stop(&mut actions),
            FencingInput::Heard { spared, reborn } => (self.heard, self.reborn) = (spared, reborn),
            FencingInput::Woke => self.doubt(now),
            FencingInput::Begun { node, attempt } => self.on_begun(now, node, attempt),
            FencingInput::CallDone { key, outcome } => self.on_call_done(now, state, key, outcome, &mut actions),
            FencingInput::Test { request, node } => {
                self.begin_test(now, state, Asker::Request(request), node, &mut actions);
            }
            FencingInput::Look { node, incarnation } => {
                self.begin_test(now, state, Asker::Leader(node, incarnation), node, &mut actions);
            }
            FencingInput::Applied | FencingInput::Tick => {}
        }
        self.end_tests(now, &mut actions);
        if let Some(epoch) = self.epoch {
            self.choose_targets(now, state, &mut actions);
            for node in self.targets.keys().copied().collect::<Vec<NodeId>>() {
                self.pursue(now, state, epoch, node, &mut actions);
            }
            self.switch_on(now, state, &mut actions);
        }
        actions
    }

    /// When `Tick` next has work to do; extra ticks are harmless.
    pub fn deadline(&self) -> Option<Instant> {
        let targets = self.targets.iter().filter_map(|(node, target)| match target.phase {
            Phase::Begin { .. } if self.reborn.contains(node) => None,
            Phase::Ready | Phase::Helpless => None,
            Phase::Begin { again_at, look, .. } => Some(look.map_or(again_at, |look| look.ends_at.min(again_at))),
            Phase::Off { ends_at, .. } | Phase::Status { ends_at, .. } => Some(ends_at),
            Phase::Wait { read_at, .. } => Some(read_at),
            Phase::Proposed { lost_at, .. } => Some(lost_at),
            Phase::Pause { again_at } => Some(again_at),
        });
        let returns = self.returns.values().filter(|back| !back.is_over()).map(|back| back.at);
        targets.chain(returns).chain(self.tests.values().map(|test| test.ends_at)).min()
    }

    /// What an operator should know about nodes that cannot be cut off, one sentence each, with the next step.
    pub fn problems(&self) -> Vec<Problem> {
        self.targets
            .values()
            .filter_map(|target| {
                let name = &target.name;
                let why = match target.phase {
                    Phase::Helpless => "it has no fence device".to_owned(),
                    Phase::Ready
                    | Phase::Begin { .. }
                    | Phase::Off { .. }
                    | Phase::Wait { .. }
                    | Phase::Status { .. }
                    | Phase::Proposed { .. }
                    | Phase::Pause { .. } => {
                        if target.rounds == 0 {
                            return None;
                        }
                        format!("{}, and is tried again", target.last_failures.join("; "))
                    }
                };
                let text = format!(
                    "{name} is not proven off ({why}): what it holds waits. Repair the fence device, or make sure that \
                     {name} is off and run `cardea fence {name} --confirm-off --reason …`"
                );
                Some(Problem::new(ProblemKind::NotProvenOff, name, text))
            })
            .chain(self.returns.values().filter_map(|back| {
                let why = back.last_failure.as_ref().filter(|_| back.is_over())?;
                let name = &back.name;
                let text =
                    format!("{name} is proven off and cannot be switched on again ({why}): switch it on by hand");
                Some(Problem::new(ProblemKind::NotSwitchedOn, name, text))
            }))
            .collect()
    }

    /// This node leads no longer: whatever runs for it is ended.
    fn stop(&mut self, actions: &mut Vec<FencingAction>) {
        self.epoch = None;
        self.heard.clear();
        self.reborn.clear();
        let calls = self.targets.values().filter_map(Target::call).chain(self.returns.values().filter_map(|b| b.call));
        actions.extend(calls.map(FencingAction::Abandon));
        self.targets.clear();
        self.returns.clear();
    }

    /// What was confirmed before counts for nothing: whoever is about to be cut off is looked at again.
    fn doubt(&mut self, now: Instant) {
        for target in self.targets.values_mut() {
            if let Phase::Begin { attempt, again_at, is_confirmed, .. } = &mut target.phase {
                (*attempt, *again_at, *is_confirmed) = (0, now, false);
            }
        }
    }

    fn on_begun(&mut self, now: Instant, node: NodeId, begun: u64) {
        let Some(target) = self.targets.get_mut(&node) else { return };
        if let Phase::Begin { attempt, proposed_at, again_at, is_confirmed, .. } = &mut target.phase
            && *attempt == begun
        {
            *is_confirmed = now.since(*proposed_at) <= FRESH_FOR;
            *again_at = if *is_confirmed { *proposed_at + FRESH_FOR } else { now };
        }
    }

    /// Whoever is condemned is a target; whoever is so no more is none, and late answers about it count for nothing.
    fn choose_targets(&mut self, now: Instant, state: &ClusterState, actions: &mut Vec<FencingAction>) {
        let condemned: BTreeMap<NodeId, Incarnation> = state
            .members
            .iter()
            .filter(|(node, member)| member.state == MemberState::Condemned && **node != self.own)
            .filter(|(node, _)| !self.heard.contains(node) || is_begun(state, **node))
            .map(|(node, member)| (*node, member.incarnation))
            .collect();
        self.targets.retain(|node, target| {
            let stays = condemned.get(node) == Some(&target.incarnation);
            if !stays {
                actions.extend(target.call().map(FencingAction::Abandon));
            }
            stays
        });
        for (node, incarnation) in condemned {
            if !self.targets.contains_key(&node) {
                self.give_way(now, state, node, actions);
            }
            self.targets.entry(node).or_insert_with(|| Target {
                name: state.name_of(node),
                incarnation,
                phase: Phase::Ready,
                level: 0,
                began_at: now,
                proven: Vec::new(),
                covered: BTreeSet::new(),
                rounds: 0,
                failures: Vec::new(),
                last_failures: Vec::new(),
            });
        }
    }

    /// A fence begins: whoever only asks its devices something is in the way, since some serve one caller at a time.
    fn give_way(&mut self, now: Instant, state: &ClusterState, node: NodeId, actions: &mut Vec<FencingAction>) {
        let needed: BTreeSet<FenceName> = devices(state, node).into_iter().map(|(name, _)| name).collect();
        let asked = self.tests.iter_mut().filter(|(asker, _)| matches!(asker, Asker::Request(_)));
        for call in asked.flat_map(|(_, test)| &mut test.calls) {
            if call.answer.is_none() && needed.contains(&call.device) {
                let reason = "a fence has begun that needs the device: ask again when it is over".to_owned();
                call.answer = Some((FenceOutcome::Failed { reason }, now));
                actions.push(FencingAction::Abandon(call.key));
            }
        }
    }

    /// Does what is due for one target.
    fn pursue(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        node: NodeId,
        actions: &mut Vec<FencingAction>,
    ) {
        let target = self.targets.get_mut(&node).expect("the caller found it");
        match &mut target.phase {
            Phase::Off { ends_at, .. } | Phase::Status { ends_at, .. } if now >= *ends_at => {
                actions.extend(target.call().map(FencingAction::Abandon));
                let target = &self.targets[&node];
                let Some((name, _)) = device_at(state, node, target.level) else {
                    return self.end_level(now, state, epoch, node, actions);
                };
                let reason = format!("{name} gave no answer in time");
                self.fail_level(now, state, epoch, node, reason, actions);
            }
            // What was read off stays off: the incarnation cannot come back.
            Phase::Proposed { command, lost_at, tries } if now >= *lost_at && *tries < PROPOSALS_MAX => {
                (*lost_at, *tries) = (now + PROPOSAL_LOST_AFTER, *tries + 1);
                actions.push(FencingAction::Propose(command.clone()));
            }
            Phase::Pause { again_at: due } | Phase::Proposed { lost_at: due, .. } if now >= *due => {
                target.restart(now);
                self.begin_level(now, state, epoch, node, actions);
            }
            // The configuration may have got a device since.
            Phase::Ready | Phase::Helpless => {
                target.began_at = now;
                self.begin_level(now, state, epoch, node, actions);
            }
            Phase::Begin { .. } => self.begin_off(now, state, epoch, node, actions),
            Phase::Wait { ordered_at, read_at } if now >= *read_at => {
                let ordered_at = *ordered_at;
                let Some((name, device)) = device_at(state, node, target.level) else {
                    return self.end_level(now, state, epoch, node, actions);
                };
                let call = self.call(state, node, &name, &device, FenceAction::Status);
                let target = self.targets.get_mut(&node).expect("it was there above");
                target.phase = Phase::Status { ordered_at, key: call.key, ends_at: now + call.timeout + CALL_GRACE };
                actions.push(FencingAction::Call(call));
            }
            Phase::Off { .. }
            | Phase::Status { .. }
            | Phase::Pause { .. }
            | Phase::Proposed { .. }
            | Phase::Wait { .. } => {}
        }
    }

    /// Turns to the device of the current level; after the last one the round has ended.
    fn begin_level(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        node: NodeId,
        actions: &mut Vec<FencingAction>,
    ) {
        let target = &self.targets[&node];
        let is_first = target.rounds == 0;
        let Some((name, device)) = device_at(state, node, target.level) else {
            return self.end_round(now, state, node, actions);
        };
        let look = is_first.then(|| {
            let call = self.call(state, node, &name, &device, FenceAction::Status);
            let look = Look { key: call.key, ends_at: now + call.timeout.min(LOOK_MAX) };
            actions.push(FencingAction::Call(call));
            look
        });
        let target = self.targets.get_mut(&node).expect("it was there above");
        target.phase = Phase::Begin { attempt: 0, proposed_at: now, again_at: now, is_confirmed: false, look };
        self.begin_off(now, state, epoch, node, actions);
    }

    /// Calls `off` once it is certain that this node leads and the status does not read off.
    fn begin_off(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        node: NodeId,
        actions: &mut Vec<FencingAction>,
    ) {
        if self.reborn.contains(&node) {
            return;
        }
        let next_attempt = self.next_attempt;
        let target = self.targets.get_mut(&node).expect("the caller found it");
        let (level, incarnation) = (target.level, target.incarnation);
        let Phase::Begin { attempt, proposed_at, again_at, is_confirmed, look } = &mut target.phase else { return };
        if let Some(late) = look.filter(|look| now >= look.ends_at) {
            actions.push(FencingAction::Abandon(late.key));
            *look = None;
        }
        let is_unasked = self.bugs.has(Bug::OffUnagreed);
        if now >= *again_at {
            (*attempt, *proposed_at, *is_confirmed) = (next_attempt, now, false);
            *again_at = now + PROPOSAL_LOST_AFTER;
            actions.push(FencingAction::Propose(Command::FenceBegun {
                node,
                incarnation,
                epoch,
                attempt: next_attempt,
            }));
            self.next_attempt += 1;
            if !is_unasked {
                return;
            }
        }
        if !is_unasked && (!*is_confirmed || look.is_some()) {
            return;
        }
        let Some((name, device)) = device_at(state, node, level) else {
            return self.end_level(now, state, epoch, node, actions);
        };
        let call = self.call(state, node, &name, &device, FenceAction::Off);
        let target = self.targets.get_mut(&node).expect("it was there above");
        target.phase = Phase::Off { key: call.key, ends_at: now + call.timeout + CALL_GRACE };
        actions.push(FencingAction::Call(call));
    }

    fn on_call_done(
        &mut self,
        now: Instant,
        state: &ClusterState,
        key: u64,
        outcome: FenceOutcome,
        actions: &mut Vec<FencingAction>,
    ) {
        for call in self.tests.values_mut().flat_map(|test| &mut test.calls) {
            if call.key == key {
                call.answer = Some((outcome, now));
                return;
            }
        }
        let Some(epoch) = self.epoch else { return };
        if self.on_switched_on(now, key, &outcome) {
            return;
        }
        // A rejoin or a confirmation may be applied in the very step before: then this answer is about another life.
        self.choose_targets(now, state, actions);
        let found = self.targets.iter().find(|(_, target)| match target.phase {
            Phase::Off { key: running, ends_at } | Phase::Status { key: running, ends_at, .. } => {
                running == key && now < ends_at
            }
            Phase::Begin { look, .. } => look.is_some_and(|look| look.key == key && now < look.ends_at),
            Phase::Ready | Phase::Wait { .. } | Phase::Proposed { .. } | Phase::Pause { .. } | Phase::Helpless => false,
        });
        let is_late = self.bugs.has(Bug::LateAnswerTaken) && matches!(outcome, FenceOutcome::Status(_));
        let later = self.targets.iter().find(|(_, target)| is_late && target.call().is_some_and(|asked| key < asked));
        let Some((node, target)) = found.or(later).map(|(node, target)| (*node, target)) else { return };
        let Some((name, device)) = device_at(state, node, target.level) else {
            return self.end_level(now, state, epoch, node, actions);
        };
        let outcome = match outcome {
            FenceOutcome::Status(_) if self.bugs.has(Bug::StatusMisread) => FenceOutcome::Status(FenceStatus::Off),
            outcome => outcome,
        };
        match (&target.phase, outcome) {
            (Phase::Begin { .. }, FenceOutcome::Status(FenceStatus::Off)) => {
                self.prove(now, state, epoch, node, name, &device, actions);
            }
            // It is on, or the device cannot say: it is cut off.
            (Phase::Begin { .. }, _) => {
                let target = self.targets.get_mut(&node).expect("it was found above");
                if let Phase::Begin { look, .. } = &mut target.phase {
                    *look = None;
                }
                self.begin_off(now, state, epoch, node, actions);
            }
            (Phase::Off { .. }, FenceOutcome::Done) => {
                if self.bugs.has(Bug::ReadBackSkipped) {
                    return self.prove(now, state, epoch, node, name, &device, actions);
                }
                let target = self.targets.get_mut(&node).expect("it was found above");
                target.phase = Phase::Wait { ordered_at: now, read_at: now };
            }
            (Phase::Status { .. }, FenceOutcome::Status(FenceStatus::Off)) => {
                self.prove(now, state, epoch, node, name, &device, actions);
            }
            (Phase::Status { ordered_at, .. }, outcome) => {
                let ordered_at = *ordered_at;
                if now.since(ordered_at) >= device.timeout {
                    let reason = match outcome {
                        FenceOutcome::Failed { reason } => format!("{name} cannot read the status: {reason}"),
                        FenceOutcome::Done | FenceOutcome::Status(_) => {
                            format!("{name} said that it was done, but the status still reads on")
                        }
                    };
                    return self.fail_level(now, state, epoch, node, reason, actions);
                }
                let pause = if now.since(ordered_at) < READ_SOON_FOR { READ_SOON } else { READ_LATER };
                let target = self.targets.get_mut(&node).expect("it was found above");
                target.phase = Phase::Wait { ordered_at, read_at: now + pause };
            }
            (Phase::Off { .. }, FenceOutcome::Failed { reason }) => {
                self.fail_level(now, state, epoch, node, format!("{name} failed: {reason}"), actions);
            }
            (Phase::Off { .. }, FenceOutcome::Status(_)) => {
                let reason = format!("{name} answered something else than asked");
                self.fail_level(now, state, epoch, node, reason, actions);
            }
            (Phase::Ready | Phase::Wait { .. } | Phase::Proposed { .. } | Phase::Pause { .. } | Phase::Helpless, _) => {
                unreachable!("only calls in flight are found by their key")
            }
        }
    }

    /// The device's status reads off. If that covers what the node holds, it is done.
    fn prove(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        node: NodeId,
        name: FenceName,
        device: &FenceConfig,
        actions: &mut Vec<FencingAction>,
    ) {
        let target = self.targets.get_mut(&node).expect("the caller found it");
        target.proven.push(name);
        target.covered.extend(&device.covers);
        if !target.is_enough(state, node) && target.frees_something(state, node) {
            actions.push(FencingAction::Propose(target.fence_done(now, node, epoch)));
        }
        self.end_level(now, state, epoch, node, actions);
    }

    fn fail_level(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        node: NodeId,
        reason: String,
        actions: &mut Vec<FencingAction>,
    ) {
        actions.push(FencingAction::Failed { node, reason: reason.clone() });
        let target = self.targets.get_mut(&node).expect("the caller found it");
        target.failures.push(reason);
        self.end_level(now, state, epoch, node, actions);
    }

    fn end_level(
        &mut self,
        now: Instant,
        state: &ClusterState,
        epoch: Epoch,
        node: NodeId,
        actions: &mut Vec<FencingAction>,
    ) {
        let target = self.targets.get_mut(&node).expect("the caller found it");
        if !target.is_enough(state, node) {
            target.level += 1;
            return self.begin_level(now, state, epoch, node, actions);
        }
        let command = target.fence_done(now, node, epoch);
        target.phase = Phase::Proposed { command: command.clone(), lost_at: now + PROPOSAL_LOST_AFTER, tries: 1 };
        actions.push(FencingAction::Propose(command));
    }

    /// No level is left, and the node is not proven off.
    fn end_round(&mut self, now: Instant, state: &ClusterState, node: NodeId, actions: &mut Vec<FencingAction>) {
        let needed = needed(state, node);
        let target = self.targets.get_mut(&node).expect("the caller found it");
        if device_at(state, node, 0).is_none() {
            target.phase = Phase::Helpless;
            target.level = 0;
            return;
        }
        let missing: Vec<String> =
            needed.difference(&target.covered).map(|domain| format!("{domain:?}").to_lowercase()).collect();
        if !target.proven.is_empty() {
            let reason = format!("no device that works covers {}", missing.join(", "));
            actions.push(FencingAction::Failed { node, reason: reason.clone() });
            target.failures.push(reason);
        }
        let pause = PAUSE_FIRST.saturating_mul(1 << target.rounds.min(5)).min(PAUSE_MAX);
        target.rounds = target.rounds.saturating_add(1);
        target.last_failures = std::mem::take(&mut target.failures);
        target.phase = Phase::Pause { again_at: now + pause };
    }

    /// Switches on what is proven off, one device after the other: the last that cut it off first.
    fn switch_on(&mut self, now: Instant, state: &ClusterState, actions: &mut Vec<FencingAction>) {
        let is_fenced = |node: &NodeId, incarnation: Incarnation| {
            state.members.get(node).is_some_and(|m| m.state == MemberState::Fenced && m.incarnation == incarnation)
        };
        self.returns.retain(|node, back| {
            let stays = is_fenced(node, back.incarnation);
            if !stays {
                actions.extend(back.call.map(FencingAction::Abandon));
            }
            stays
        });
        for (node, end) in state.ends.iter().filter(|(node, end)| is_fenced(node, end.incarnation)) {
            let is_on = |name: &&FenceName| state.config.fence_devices.get(*name).is_some_and(FenceConfig::switches_on);
            self.returns.entry(*node).or_insert_with(|| Return {
                name: state.name_of(*node),
                incarnation: end.incarnation,
                devices: end.cut_off_by.iter().filter(is_on).cloned().collect(),
                tries: 0,
                call: None,
                at: now + ON_AFTER,
                last_failure: None,
            });
        }
        let is_due = |back: &Return| !back.is_over() && now >= back.at;
        let due: Vec<NodeId> = self.returns.iter().filter(|(_, back)| is_due(back)).map(|(node, _)| *node).collect();
        for node in due {
            // Somebody may be working on it.
            if state.action(&ActionKind::NodeMaintenance(node)).is_some() {
                if let Some(back) = self.returns.get_mut(&node) {
                    back.at = now + PAUSE_MAX;
                }
                continue;
            }
            let Some(back) = self.returns.get_mut(&node) else { continue };
            if let Some(late) = back.call {
                actions.push(FencingAction::Abandon(late));
                back.fail(now, "no answer in time".to_owned());
                continue;
            }
            let Some(name) = back.devices.last().cloned() else { continue };
            let Some(device) = state.config.fence_devices.get(&name) else {
                back.devices.pop();
                continue;
            };
            let call = self.call(state, node, &name, device, FenceAction::On);
            if let Some(back) = self.returns.get_mut(&node) {
                (back.call, back.at) = (Some(call.key), now + call.timeout + CALL_GRACE);
            }
            actions.push(FencingAction::Call(call));
        }
    }

    /// Takes the answer to a call of `switch_on`; false if it is none.
    fn on_switched_on(&mut self, now: Instant, key: u64, outcome: &FenceOutcome) -> bool {
        let Some(back) = self.returns.values_mut().find(|back| back.call == Some(key)) else { return false };
        match outcome {
            FenceOutcome::Done => {
                back.devices.pop();
                (back.call, back.at, back.tries, back.last_failure) = (None, now, 0, None);
            }
            FenceOutcome::Failed { reason } => back.fail(now, reason.clone()),
            FenceOutcome::Status(_) => back.fail(now, "it answered something else than asked".to_owned()),
        }
        true
    }

    fn begin_test(
        &mut self,
        now: Instant,
        state: &ClusterState,
        asker: Asker,
        node: NodeId,
        actions: &mut Vec<FencingAction>,
    ) {
        if self.tests.contains_key(&asker) {
            return;
        }
        let mut calls = Vec::new();
        let mut ends_at = now;
        for (name, device) in devices(state, node) {
            let call = FenceCall { is_test: true, ..self.call(state, node, &name, &device, FenceAction::Status) };
            ends_at = ends_at.max(now + call.timeout + CALL_GRACE);
            calls.push(TestCall { key: call.key, device: name, answer: None });
            actions.push(FencingAction::Call(call));
        }
        self.tests.insert(asker, Test { began_at: now, ends_at, calls });
    }

    fn end_tests(&mut self, now: Instant, actions: &mut Vec<FencingAction>) {
        let is_over = |test: &Test| now >= test.ends_at || test.calls.iter().all(|call| call.answer.is_some());
        let over: Vec<Asker> = self.tests.iter().filter(|(_, test)| is_over(test)).map(|(id, _)| *id).collect();
        for asker in over {
            let Some(test) = self.tests.remove(&asker) else { continue };
            let silence = FenceOutcome::Failed { reason: "no answer in time".to_owned() };
            let results: Vec<FenceTest> = test
                .calls
                .into_iter()
                .map(|TestCall { device, answer, .. }| {
                    let (outcome, at) = answer.unwrap_or_else(|| (silence.clone(), now));
                    FenceTest { device, outcome, took_ms: millis(at.since(test.began_at)) }
                })
                .collect();
            actions.push(match asker {
                Asker::Request(request) => FencingAction::TestDone { request, results },
                Asker::Leader(node, incarnation) => {
                    let reads = |status| results.iter().any(|result| result.outcome == FenceOutcome::Status(status));
                    FencingAction::LookDone {
                        node,
                        incarnation,
                        is_off: reads(FenceStatus::Off) && !reads(FenceStatus::On),
                    }
                }
            });
        }
    }

    fn call(
        &mut self,
        state: &ClusterState,
        node: NodeId,
        name: &FenceName,
        device: &FenceConfig,
        action: FenceAction,
    ) -> FenceCall {
        let target = state.members.get(&node).map(|member| member.name.clone()).unwrap_or_default();
        let key = self.next_key;
        self.next_key += 1;
        FenceCall {
            key,
            device: name.clone(),
            agent: device.agent.clone(),
            plug: device.plugs.get(&target).cloned().unwrap_or_else(|| target.0.clone()),
            target,
            action,
            parameters: device.parameters.clone(),
            timeout: device.timeout,
            is_test: false,
        }
    }
}

impl Return {
    /// Is nothing left to be done?
    fn is_over(&self) -> bool {
        self.devices.is_empty() || self.tries > ON_TRIES_MAX
    }

    fn fail(&mut self, now: Instant, reason: String) {
        let pause = PAUSE_FIRST.saturating_mul(1 << self.tries.min(5)).min(PAUSE_MAX);
        (self.call, self.at, self.tries, self.last_failure) = (None, now + pause, self.tries + 1, Some(reason));
    }
}

impl Target {
    /// The call that runs for it.
    fn call(&self) -> Option<u64> {
        match &self.phase {
            Phase::Off { key, .. } | Phase::Status { key, .. } => Some(*key),
            Phase::Begin { look, .. } => look.map(|look| look.key),
            Phase::Ready | Phase::Wait { .. } | Phase::Proposed { .. } | Phase::Pause { .. } | Phase::Helpless => None,
        }
    }

    /// Is it proven off as far as what it holds can do damage?
    fn is_enough(&self, state: &ClusterState, node: NodeId) -> bool {
        !self.covered.is_empty() && needed(state, node).is_subset(&self.covered)
    }

    /// Does what is proven free something that it holds?
    fn frees_something(&self, state: &ClusterState, node: NodeId) -> bool {
        held(state, node).any(|unit| state::domains(&state.config, unit).is_subset(&self.covered))
    }

    fn fence_done(&self, now: Instant, node: NodeId, epoch: Epoch) -> Command {
        let names: Vec<&str> = self.proven.iter().map(FenceName::as_str).collect();
        let evidence = FenceEvidence {
            method: FenceMethod::Device(self.proven.clone()),
            output: format!("status off at {}", names.join(", ")),
            took_ms: millis(now.since(self.began_at)),
        };
        Command::FenceDone { node, incarnation: self.incarnation, epoch, evidence, covers: self.covered.clone() }
    }

    /// Begins a new round: what was read before may have changed since.
    fn restart(&mut self, now: Instant) {
        self.level = 0;
        self.began_at = now;
        self.proven.clear();
        self.covered.clear();
    }
}

/// What must be covered before the node's holders may be freed.
fn needed(state: &ClusterState, node: NodeId) -> BTreeSet<Domain> {
    held(state, node).flat_map(|unit| state::domains(&state.config, unit)).collect()
}

fn held(state: &ClusterState, node: NodeId) -> impl Iterator<Item = &UnitName> {
    state.holders.iter().filter(move |(_, holder)| holder.node == node).map(|(unit, _)| unit)
}

/// Was a device perhaps told to cut the node off in this life?
fn is_begun(state: &ClusterState, node: NodeId) -> bool {
    state.ends.get(&node).is_none_or(|end| end.is_fence_begun || !end.is_for_silence)
}

/// The devices of a node in the order in which they are tried.
fn devices(state: &ClusterState, node: NodeId) -> Vec<(FenceName, FenceConfig)> {
    let name: Option<&NodeName> = state.members.get(&node).map(|member| &member.name);
    let levels = name.and_then(|name| state.config.nodes.get(name)).map_or(&[][..], |node| &node.fence[..]);
    levels
        .iter()
        .filter_map(|name| state.config.fence_devices.get(name).map(|device| (name.clone(), device.clone())))
        .collect()
}

fn device_at(state: &ClusterState, node: NodeId, level: usize) -> Option<(FenceName, FenceConfig)> {
    devices(state, node).into_iter().nth(level)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
