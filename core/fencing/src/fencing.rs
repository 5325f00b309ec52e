//! Which device is called next for which condemned node, and is the node off?
//!
//! Only the leader fences, and never itself. A new leader begins anew: switching off twice is harmless.
//!
//! In: leadership, changes of the state, answers of fence agents, tests. Out: calls, FenceDone, results of tests.
//! Not here: who is condemned (`core/node`), what FenceDone frees (`core/state`), how an agent runs (`io/agents`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{
    Bug, Bugs, ClusterState, Domain, Epoch, FenceAction, FenceCall, FenceConfig, FenceEvidence, FenceMethod, FenceName,
    FenceOutcome, FenceStatus, Incarnation, Instant, MemberState, NodeId, NodeName,
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

/// Cuts off what is condemned.
pub struct Fencing {
    own: NodeId,
    bugs: Bugs,
    epoch: Option<Epoch>,
    next_key: u64,
    targets: BTreeMap<NodeId, Target>,
    tests: BTreeMap<u64, Test>,
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
    /// `deadline` has passed.
    Tick,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FencingAction {
    /// Run a fence agent, then say `CallDone`.
    Call(FenceCall),
    /// Put this into the log; may be lost, is proposed again.
    Propose(Command),
    /// The answers to a test, one for each device of the node.
    TestDone {
        /// The asker's number.
        request: u64,
        /// The answers, in the order in which the devices are tried.
        results: Vec<FenceTest>,
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
        Fencing { own, bugs, epoch: None, next_key: 1, targets: BTreeMap::new(), tests: BTreeMap::new() }
    }

    /// Feeds one input that happened at `now`; `state` is what is applied on this node.
    pub fn step(&mut self, now: Instant, state: &ClusterState, input: FencingInput) -> Vec<FencingAction> {
        let mut actions = Vec::new();
        match input {
            FencingInput::Lead { epoch } => {
                self.epoch = Some(epoch);
                self.targets.clear();
            }
            FencingInput::Follow => {
                self.epoch = None;
                self.targets.clear();
            }
            FencingInput::CallDone { key, outcome } => self.on_call_done(now, state, key, outcome, &mut actions),
            FencingInput::Test { request, node } => self.begin_test(now, state, request, node, &mut actions),
            FencingInput::Applied | FencingInput::Tick => {}
        }
        self.end_tests(now, &mut actions);
        if let Some(epoch) = self.epoch {
            self.choose_targets(now, state);
            for node in self.targets.keys().copied().collect::<Vec<NodeId>>() {
                self.pursue(now, state, epoch, node, &mut actions);
            }
        }
        actions
    }

    /// When `Tick` next has work to do; extra ticks are harmless.
    pub fn deadline(&self) -> Option<Instant> {
        let targets = self.targets.values().filter_map(|target| match target.phase {
            Phase::Ready | Phase::Helpless => None,
            Phase::Off { ends_at, .. } | Phase::Status { ends_at, .. } => Some(ends_at),
            Phase::Wait { read_at, .. } => Some(read_at),
            Phase::Proposed { lost_at, .. } => Some(lost_at),
            Phase::Pause { again_at } => Some(again_at),
        });
        targets.chain(self.tests.values().map(|test| test.ends_at)).min()
    }

    /// What an operator should know about nodes that cannot be cut off, one sentence each, with the next step.
    pub fn problems(&self) -> Vec<String> {
        self.targets
            .values()
            .filter_map(|target| {
                let name = &target.name;
                let why = match target.phase {
                    Phase::Helpless => "it has no fence device".to_owned(),
                    Phase::Ready
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
                Some(format!(
                    "{name} is not proven off ({why}): what it holds waits. Repair the fence device, or make sure that \
                     {name} is off and run `cardea fence {name} --confirm-off --reason …`"
                ))
            })
            .collect()
    }

    /// Whoever is condemned is a target; whoever is so no more is none, and late answers about it count for nothing.
    fn choose_targets(&mut self, now: Instant, state: &ClusterState) {
        let condemned: BTreeMap<NodeId, Incarnation> = state
            .members
            .iter()
            .filter(|(node, member)| member.state == MemberState::Condemned && **node != self.own)
            .map(|(node, member)| (*node, member.incarnation))
            .collect();
        self.targets.retain(|node, target| condemned.get(node) == Some(&target.incarnation));
        for (node, incarnation) in condemned {
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
                self.begin_level(now, state, node, actions);
            }
            // The configuration may have got a device since.
            Phase::Ready | Phase::Helpless => {
                target.began_at = now;
                self.begin_level(now, state, node, actions);
            }
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

    /// Calls `off` on the device of the current level; after the last one the round has ended.
    fn begin_level(&mut self, now: Instant, state: &ClusterState, node: NodeId, actions: &mut Vec<FencingAction>) {
        let level = self.targets[&node].level;
        let Some((name, device)) = device_at(state, node, level) else {
            return self.end_round(now, state, node, actions);
        };
        let call = self.call(state, node, &name, &device, FenceAction::Off);
        let target = self.targets.get_mut(&node).expect("the caller found it");
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
        // A rejoin or a confirmation may be applied in the very step before: then this answer is about another life.
        self.choose_targets(now, state);
        let found = self.targets.iter().find(|(_, target)| match target.phase {
            Phase::Off { key: running, ends_at } | Phase::Status { key: running, ends_at, .. } => {
                running == key && now < ends_at
            }
            Phase::Ready | Phase::Wait { .. } | Phase::Proposed { .. } | Phase::Pause { .. } | Phase::Helpless => false,
        });
        let Some((node, target)) = found.map(|(node, target)| (*node, target)) else { return };
        let Some((name, device)) = device_at(state, node, target.level) else {
            return self.end_level(now, state, epoch, node, actions);
        };
        match (&target.phase, outcome) {
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
        if target.covered.is_empty() || !needed(state, node).is_subset(&target.covered) {
            target.level += 1;
            return self.begin_level(now, state, node, actions);
        }
        let names: Vec<&str> = target.proven.iter().map(FenceName::as_str).collect();
        let evidence = FenceEvidence {
            method: FenceMethod::Device(target.proven.clone()),
            output: format!("status off at {}", names.join(", ")),
            took_ms: millis(now.since(target.began_at)),
        };
        let (incarnation, covers) = (target.incarnation, target.covered.clone());
        let command = Command::FenceDone { node, incarnation, epoch, evidence, covers };
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

    fn begin_test(
        &mut self,
        now: Instant,
        state: &ClusterState,
        request: u64,
        node: NodeId,
        actions: &mut Vec<FencingAction>,
    ) {
        let mut calls = Vec::new();
        let mut ends_at = now;
        for (name, device) in devices(state, node) {
            let call = self.call(state, node, &name, &device, FenceAction::Status);
            ends_at = ends_at.max(now + call.timeout + CALL_GRACE);
            calls.push(TestCall { key: call.key, device: name, answer: None });
            actions.push(FencingAction::Call(call));
        }
        self.tests.insert(request, Test { began_at: now, ends_at, calls });
    }

    fn end_tests(&mut self, now: Instant, actions: &mut Vec<FencingAction>) {
        let is_over = |test: &Test| now >= test.ends_at || test.calls.iter().all(|call| call.answer.is_some());
        let over: Vec<u64> = self.tests.iter().filter(|(_, test)| is_over(test)).map(|(id, _)| *id).collect();
        for request in over {
            let Some(test) = self.tests.remove(&request) else { continue };
            let silence = FenceOutcome::Failed { reason: "no answer in time".to_owned() };
            let results = test
                .calls
                .into_iter()
                .map(|TestCall { device, answer, .. }| {
                    let (outcome, at) = answer.unwrap_or_else(|| (silence.clone(), now));
                    FenceTest { device, outcome, took_ms: millis(at.since(test.began_at)) }
                })
                .collect();
            actions.push(FencingAction::TestDone { request, results });
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
        }
    }
}

impl Target {
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
    let held = state.holders.iter().filter(|(_, holder)| holder.node == node);
    held.flat_map(|(unit, _)| state.config.domains(unit)).collect()
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
