//! Stories of a leader's dispatcher: nodes a (the leader), b and c; one unit, web.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use executor::{
    ANSWER_LIMIT, ARRIVAL_LIMIT, Change, Dispatcher, DispatcherAction, DispatcherInput, ExecutorMessage, InFlight,
    Inventory, InventoryItem,
};
use model::{
    AgentAction, AgentName, Bugs, Class, ClusterConfig, ClusterState, Domain, Epoch, GrantId, Holder, HolderState,
    Incarnation, Instant, Known, LogIndex, Member, MemberState, MonitorConfig, NodeId, NodeRole, Op, OpId, OpResult,
    Outcome, Placement, Plan, ResourceConfig, ResourceState, Step, StepKind, Timeouts, WallTime,
};
use state::{Command, Observation};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const EPOCH: Epoch = Epoch(20);

struct World {
    now: Instant,
    state: ClusterState,
    dispatcher: Dispatcher,
    proposed: Vec<Command>,
    sent: Vec<(NodeId, ExecutorMessage)>,
    replans: u32,
}

fn life(node: NodeId) -> Incarnation {
    Incarnation(100 + node.0)
}

fn reachable(members: &[NodeId], arriving: &[NodeId]) -> DispatcherInput<'static> {
    DispatcherInput::Reachable {
        members: members.iter().copied().collect(),
        arriving: arriving.iter().copied().collect(),
    }
}

impl World {
    /// A new leader that has asked and heard nothing.
    fn new() -> World {
        let mut state = ClusterState { applied: LogIndex(40), epoch: EPOCH, coordinator: A, ..ClusterState::default() };
        for (id, name) in [(A, "a"), (B, "b"), (C, "c")] {
            let member = Member {
                name: name.into(),
                role: NodeRole::Member,
                incarnation: life(id),
                state: MemberState::Online,
                boot_id: String::new(),
                machine_id: String::new(),
                storage_uuid: String::new(),
                since: WallTime(0),
                flap_penalty: 0,
                flap_at: WallTime(0),
                dead: VecDeque::new(),
            };
            state.members.insert(id, member);
        }
        let web = ResourceConfig {
            agent: AgentName::Native("process".into()),
            class: Class::Exclusive,
            domains: BTreeSet::from([Domain::Network]),
            parameters: BTreeMap::new(),
            monitor: MonitorConfig { every: Duration::from_secs(10), timeout: Duration::from_secs(5) },
            timeouts: Timeouts { start: Duration::from_secs(20), stop: Duration::from_secs(30) },
            failures_max: 3,
            placement: Placement::default(),
            needs: BTreeMap::new(),
            failures_forgotten_after: None,
        };
        state.config = ClusterConfig { resources: BTreeMap::from([("web".into(), web)]), ..ClusterConfig::default() };
        let mut world = World {
            now: Instant::from_nanos(1_000_000_000),
            state,
            dispatcher: Dispatcher::new(A, Bugs::NONE),
            proposed: Vec::new(),
            sent: Vec::new(),
            replans: 0,
        };
        for node in [A, B, C] {
            world.know(node, ResourceState::Stopped, OpId { epoch: Epoch(10), index: node.0 });
        }
        world.step(DispatcherInput::Lead { epoch: EPOCH, members: vec![A, B, C] });
        world
    }

    /// A leader that has heard all.
    fn settled() -> World {
        let mut world = World::new();
        for node in [A, B, C] {
            world.say_inventory(node, Vec::new());
        }
        world.sent.clear();
        world
    }

    fn step(&mut self, input: DispatcherInput<'_>) {
        for action in self.dispatcher.step(self.now, &self.state, input) {
            match action {
                DispatcherAction::Send { to, message } => self.sent.push((to, message)),
                DispatcherAction::Propose(command) => self.proposed.push(command),
                DispatcherAction::Replan => self.replans += 1,
            }
        }
    }

    fn plan(&mut self, steps: &[(StepKind, NodeId)]) {
        let steps = steps
            .iter()
            .map(|(kind, node)| Step {
                kind: kind.clone(),
                unit: "web".into(),
                node: *node,
                reason: "because".into(),
                after: Vec::new(),
            })
            .collect();
        let plan = Plan { steps, ..Plan::default() };
        let replans = self.replans;
        self.step(DispatcherInput::Plan(&plan));
        assert_eq!(self.replans, replans, "a plan is never answered by a wish for a plan");
    }

    fn hear(&mut self, from: NodeId, message: ExecutorMessage) {
        self.step(DispatcherInput::Message { from, message });
    }

    fn say_inventory(&mut self, node: NodeId, resources: Vec<InventoryItem>) {
        let (max_epoch, applied) = (EPOCH, LogIndex(40));
        let inventory = Inventory { incarnation: life(node), max_epoch, applied, resources, acknowledges: true };
        self.hear(node, ExecutorMessage::Inventory { epoch: EPOCH, inventory });
    }

    fn say_result(&mut self, node: NodeId, op: &Op, outcome: Result<Outcome, String>) {
        let result = OpResult {
            id: op.id,
            incarnation: op.incarnation,
            resource: op.resource.clone(),
            action: op.action,
            grant: op.grant,
            outcome,
            digest: op.digest,
        };
        self.hear(node, ExecutorMessage::Result(result));
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.dispatcher.deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.step(DispatcherInput::Tick);
            assert!(self.dispatcher.deadline().is_none_or(|next| next > self.now), "a tick leaves nothing due");
        }
        self.now = end;
        self.step(DispatcherInput::Tick);
    }

    fn know(&mut self, node: NodeId, state: ResourceState, op: OpId) {
        let known = Known {
            state,
            incarnation: life(node),
            op,
            since: WallTime(0),
            reason: "as reported".into(),
            digest: 0,
            is_change: false,
        };
        self.state.known.entry("web".into()).or_default().insert(node, known);
    }

    fn hold(&mut self, node: NodeId) {
        let holder = Holder {
            node,
            incarnation: life(node),
            grant: GrantId(30),
            state: HolderState::Held,
            since: WallTime(0),
            reason: String::new(),
        };
        self.state.holders.insert("web".into(), holder);
    }

    fn ops(&self) -> Vec<&Op> {
        let sent = self.sent.iter();
        sent.filter_map(|(_, message)| if let ExecutorMessage::Op(op) = message { Some(op) } else { None }).collect()
    }

    fn acks(&self) -> usize {
        self.sent.iter().filter(|(_, message)| matches!(message, ExecutorMessage::Ack { .. })).count()
    }

    fn observed(&self) -> Vec<&Observation> {
        let observations = self.proposed.iter().filter_map(|command| match command {
            Command::Observed { observations, .. } => Some(observations),
            _ => None,
        });
        observations.flatten().collect()
    }
}

fn start() -> StepKind {
    StepKind::Start("web".into())
}

fn stop() -> StepKind {
    StepKind::Stop("web".into())
}

fn item(state: ResourceState, last: OpId, op: Option<InFlight>) -> InventoryItem {
    InventoryItem { resource: "web".into(), state, grant: None, op, last, reason: "died".into(), digest: 0 }
}

/// What is reported as waiting.
fn texts(world: &World) -> Vec<String> {
    world.dispatcher.problems().into_iter().map(|problem| problem.text).collect()
}

#[test]
fn a_new_leader_asks_everybody_until_they_answer() {
    let mut world = World::new();
    assert_eq!(world.sent.len(), 3);
    world.say_inventory(B, Vec::new());
    world.pass(Duration::from_millis(50));
    let asked: Vec<NodeId> = world.sent[3..].iter().map(|(to, _)| *to).collect();
    assert_eq!(asked, [A, C]);
    assert!(!world.dispatcher.is_settled());
    world.say_inventory(A, Vec::new());
    world.say_inventory(C, Vec::new());
    assert!(world.dispatcher.is_settled());
    assert_eq!(world.replans, 3);
}

#[test]
fn a_grant_waits_for_the_inventories_of_those_who_can_answer() {
    let mut world = World::new();
    world.plan(&[(StepKind::Grant, B)]);
    assert!(world.proposed.is_empty());
    assert_eq!(texts(&world), ["web waits for b until a, b, c has said what runs there"]);
    for node in [A, B, C] {
        world.say_inventory(node, Vec::new());
    }
    world.plan(&[(StepKind::Grant, B)]);
    assert!(matches!(&world.proposed[..], [Command::Grant { node: B, epoch: EPOCH, .. }]));
    assert!(world.dispatcher.problems().is_empty());
}

#[test]
fn a_grant_waits_for_the_proof_that_a_silent_node_is_off_unless_it_is_known_to_run_nothing() {
    let mut world = World::new();
    world.step(reachable(&[A, B], &[]));
    world.say_inventory(A, Vec::new());
    world.say_inventory(B, Vec::new());
    world.know(C, ResourceState::Running, OpId { epoch: Epoch(10), index: 9 });
    world.state.members.get_mut(&C).unwrap().state = MemberState::Condemned;
    world.plan(&[(StepKind::Grant, B)]);
    assert!(world.proposed.is_empty());
    world.state.members.get_mut(&C).unwrap().state = MemberState::Fenced;
    world.plan(&[(StepKind::Grant, B)]);
    assert_eq!(world.proposed.len(), 1);

    let mut world = World::new();
    world.step(reachable(&[A, B], &[]));
    world.say_inventory(A, Vec::new());
    world.say_inventory(B, Vec::new());
    world.plan(&[(StepKind::Grant, B)]);
    assert_eq!(world.proposed.len(), 1, "c is known to run nothing of it");
}

#[test]
fn nothing_exclusive_is_granted_or_started_while_a_member_arrives() {
    let mut world = World::settled();
    world.state.members.get_mut(&C).unwrap().state = MemberState::Fenced;
    world.step(reachable(&[A, B], &[C]));
    world.plan(&[(StepKind::Grant, B)]);
    assert!(world.proposed.is_empty());
    assert_eq!(texts(&world), ["web waits until c has joined and said what runs there"]);
    world.hold(B);
    world.plan(&[(StepKind::Start("web".into()), B)]);
    assert!(world.sent.is_empty());

    // It joins, and is asked.
    world.state.members.get_mut(&C).unwrap().state = MemberState::Online;
    world.step(reachable(&[A, B, C], &[]));
    world.plan(&[(StepKind::Start("web".into()), B)]);
    assert!(matches!(&world.sent[..], [(B, ExecutorMessage::Op(_))]));
}

#[test]
fn a_member_that_never_joins_is_waited_for_only_once() {
    let mut world = World::settled();
    world.state.members.get_mut(&C).unwrap().state = MemberState::Fenced;
    world.step(reachable(&[A, B], &[C]));
    world.plan(&[(StepKind::Grant, B)]);
    assert!(world.proposed.is_empty());
    assert_eq!(world.dispatcher.deadline(), Some(world.now + ARRIVAL_LIMIT));
    let replans = world.replans;
    world.now += ARRIVAL_LIMIT;
    world.step(DispatcherInput::Tick);
    assert_eq!(world.replans, replans + 1);
    world.plan(&[(StepKind::Grant, B)]);
    assert!(matches!(&world.proposed[..], [Command::Grant { node: B, .. }]));

    // Its worker ends and comes up again and again.
    world.proposed.clear();
    world.now += ARRIVAL_LIMIT;
    world.step(reachable(&[A, B], &[]));
    world.step(reachable(&[A, B], &[C]));
    world.plan(&[(StepKind::Grant, B)]);
    assert!(matches!(&world.proposed[..], [Command::Grant { node: B, .. }]));
}

#[test]
fn a_best_effort_unit_waits_for_nobody_who_arrives() {
    let mut world = World::settled();
    world.state.config.resources.get_mut(&"web".into()).unwrap().class = Class::BestEffort;
    world.state.members.get_mut(&C).unwrap().state = MemberState::Fenced;
    world.step(reachable(&[A, B], &[C]));
    world.plan(&[(StepKind::Grant, B)]);
    assert_eq!(world.proposed.len(), 1);
}

#[test]
fn a_best_effort_unit_does_not_wait_for_a_silent_node() {
    let mut world = World::new();
    world.state.config.resources.get_mut(&"web".into()).unwrap().class = Class::BestEffort;
    world.know(C, ResourceState::Running, OpId { epoch: Epoch(10), index: 9 });
    world.step(reachable(&[A, B], &[]));
    world.say_inventory(A, Vec::new());
    world.say_inventory(B, Vec::new());
    world.plan(&[(StepKind::Grant, B)]);
    assert_eq!(world.proposed.len(), 1);
}

#[test]
fn what_is_proposed_is_not_proposed_again_until_it_is_lost() {
    let mut world = World::settled();
    world.plan(&[(StepKind::Grant, B)]);
    world.plan(&[(StepKind::Grant, B)]);
    assert_eq!(world.proposed.len(), 1);
    let replans = world.replans;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.replans, replans + 1);
    world.plan(&[(StepKind::Grant, B)]);
    assert_eq!(world.proposed.len(), 2);
}

#[test]
fn what_is_refused_is_tried_again_after_a_while() {
    let mut world = World::settled();
    world.plan(&[(StepKind::Grant, B)]);
    let command = world.proposed[0].clone();
    world.step(DispatcherInput::ProposalRefused { command });
    world.plan(&[(StepKind::Grant, B)]);
    assert_eq!(world.proposed.len(), 1);
    world.pass(Duration::from_millis(100));
    world.plan(&[(StepKind::Grant, B)]);
    assert_eq!(world.proposed.len(), 2);
}

#[test]
fn a_step_that_others_precede_does_not_begin() {
    let mut world = World::settled();
    world.hold(B);
    let step = |kind, after| Step { kind, unit: "web".into(), node: B, reason: String::new(), after };
    let plan = Plan { steps: vec![step(stop(), vec![]), step(start(), vec![0])], ..Plan::default() };
    world.step(DispatcherInput::Plan(&plan));
    assert_eq!(world.ops().len(), 1);
    assert_eq!(world.ops()[0].action, AgentAction::Stop);
}

#[test]
fn an_operation_is_ordered_once_and_repeated_until_its_result() {
    let mut world = World::settled();
    world.hold(B);
    world.plan(&[(start(), B)]);
    world.plan(&[(start(), B)]);
    assert_eq!(world.ops().len(), 1);
    let op = world.ops()[0].clone();
    assert_eq!((op.id, op.grant, op.incarnation), (OpId { epoch: EPOCH, index: 1 }, Some(GrantId(30)), life(B)));
    assert_eq!(op.digest, state::parameters_digest(&world.state.config.resources[&"web".into()]));
    world.pass(Duration::from_millis(700));
    assert_eq!(world.ops().len(), 3);
    assert!(world.ops().iter().all(|again| **again == op));
    world.say_result(B, &op, Ok(Outcome::Success));
    assert_eq!(world.observed()[0].state, ResourceState::Running);
    world.plan(&[(start(), B)]);
    world.pass(Duration::from_millis(900));
    assert_eq!(world.ops().len(), 3, "the state will show it");
    world.say_result(B, &op, Ok(Outcome::Success));
    assert_eq!((world.observed().len(), world.acks()), (1, 0));
    world.know(B, ResourceState::Running, op.id);
    world.say_result(B, &op, Ok(Outcome::Success));
    assert_eq!((world.observed().len(), world.acks()), (1, 1));
}

#[test]
fn an_operation_waits_for_the_inventory_of_its_node_and_for_its_return() {
    let mut world = World::new();
    world.hold(B);
    world.plan(&[(start(), B)]);
    assert!(world.ops().is_empty());
    world.say_inventory(B, Vec::new());
    world.step(reachable(&[A, C], &[]));
    world.plan(&[(start(), B)]);
    assert!(world.ops().is_empty());
    world.step(reachable(&[A, B, C], &[]));
    world.plan(&[(start(), B)]);
    assert_eq!(world.ops().len(), 1);
}

#[test]
fn a_start_needs_the_grant_and_a_proof_that_it_is_free_goes_with_it() {
    let mut world = World::settled();
    world.plan(&[(start(), B)]);
    assert!(world.ops().is_empty());
    world.hold(B);
    world.state.proven_free.insert("web".into(), GrantId(25));
    world.plan(&[(start(), B)]);
    assert!(world.ops()[0].is_proven_free);
}

#[test]
fn an_operation_of_the_former_leader_is_adopted() {
    let mut world = World::new();
    world.hold(B);
    let id = OpId { epoch: Epoch(10), index: 7 };
    let op = InFlight { id, action: AgentAction::Start, timeout: Duration::from_secs(20) };
    world.say_inventory(B, vec![item(ResourceState::Stopped, OpId::default(), Some(op))]);
    world.plan(&[(start(), B)]);
    world.pass(Duration::from_secs(10));
    world.plan(&[(start(), B)]);
    assert!(world.ops().is_empty(), "no second start");
    let result = OpResult {
        id,
        incarnation: life(B),
        resource: "web".into(),
        action: AgentAction::Start,
        grant: Some(GrantId(30)),
        outcome: Ok(Outcome::Success),
        digest: 5,
    };
    world.hear(B, ExecutorMessage::Result(result));
    assert_eq!((world.observed()[0].op, world.observed()[0].state), (id, ResourceState::Running));
}

#[test]
fn an_adopted_operation_that_never_ends_is_given_up_at_its_limit() {
    let mut world = World::new();
    world.hold(B);
    let id = OpId { epoch: Epoch(10), index: 7 };
    let op = InFlight { id, action: AgentAction::Start, timeout: Duration::from_secs(20) };
    for (node, said) in [(A, vec![]), (B, vec![item(ResourceState::Stopped, OpId::default(), Some(op))]), (C, vec![])] {
        world.say_inventory(node, said);
    }
    let replans = world.replans;
    world.pass(Duration::from_secs(31));
    assert_eq!(world.replans, replans + 1);
    world.plan(&[(start(), B)]);
    assert_eq!(world.ops().len(), 1);
}

#[test]
fn what_an_inventory_knows_better_is_proposed() {
    let mut world = World::new();
    let newer = OpId { epoch: Epoch(10), index: 7 };
    world.say_inventory(B, vec![item(ResourceState::Failed, newer, None)]);
    let observed = world.observed();
    assert_eq!((observed[0].state, observed[0].op), (ResourceState::Failed, newer));
    assert_eq!(observed[0].failure.as_ref().unwrap().reason, "died");
    world.say_inventory(C, vec![item(ResourceState::Running, OpId { epoch: Epoch(9), index: 1 }, None)]);
    assert_eq!(world.observed().len(), 1, "older than what is known");
}

#[test]
fn a_refused_operation_is_planned_anew() {
    let mut world = World::settled();
    world.hold(B);
    world.plan(&[(start(), B)]);
    let op = world.ops()[0].clone();
    let replans = world.replans;
    world.say_result(B, &op, Err("its grant did not arrive here in time".into()));
    assert_eq!((world.replans, world.acks()), (replans + 1, 1));
    assert!(world.proposed.is_empty());
    world.plan(&[(start(), B)]);
    assert_eq!(world.ops().len(), 1, "not at once");
    world.pass(Duration::from_millis(100));
    world.plan(&[(start(), B)]);
    assert_eq!(world.ops().len(), 2);
    assert!(world.ops()[1].id > op.id);
}

#[test]
fn a_probe_without_an_answer_says_nothing_and_is_tried_again_later() {
    let mut world = World::settled();
    let probe = StepKind::Probe("web".into());
    world.plan(&[(probe.clone(), B)]);
    let op = world.ops()[0].clone();
    world.say_result(B, &op, Ok(Outcome::TimedOut));
    assert!(world.proposed.is_empty());
    world.pass(Duration::from_secs(4));
    world.plan(&[(probe.clone(), B)]);
    assert_eq!(world.ops().len(), 1);
    world.pass(Duration::from_secs(1));
    world.plan(&[(probe, B)]);
    assert_eq!(world.ops().len(), 2);
}

#[test]
fn a_probe_that_cannot_be_made_proves_nothing_and_bars_the_node() {
    let mut world = World::settled();
    let probe = StepKind::Probe("web".into());
    for outcome in [
        Outcome::Unknown { reason: "not installed".into(), is_permanent: true },
        // An older node says it in this way.
        Outcome::Failed { reason: "not installed".into(), is_permanent: true },
    ] {
        world.plan(&[(probe.clone(), B)]);
        let op: Op = (*world.ops().last().unwrap()).clone();
        world.say_result(B, &op, Ok(outcome));
        let observed = world.observed();
        assert_eq!(observed.last().unwrap().state, ResourceState::Unknown);
        assert!(observed.last().unwrap().failure.as_ref().unwrap().is_permanent);
        world.pass(Duration::from_secs(6));
    }
}

#[test]
fn a_probe_that_fails_in_the_same_way_again_and_again_does_not_fill_the_log() {
    let mut world = World::settled();
    let probe = StepKind::Probe("web".into());
    let outcome = Ok(Outcome::Unknown { reason: "not installed".into(), is_permanent: true });
    world.plan(&[(probe.clone(), B)]);
    let op = world.ops()[0].clone();
    world.say_result(B, &op, outcome.clone());
    let reason = world.observed()[0].reason.clone();
    world.know(B, ResourceState::Unknown, op.id);
    world.state.known.get_mut(&"web".into()).unwrap().get_mut(&B).unwrap().reason = reason;
    world.plan(&[(probe.clone(), B)]);
    assert_eq!(world.ops().len(), 1, "not at once");
    world.pass(Duration::from_secs(6));
    world.plan(&[(probe, B)]);
    let op = world.ops()[1].clone();
    world.say_result(B, &op, outcome);
    assert_eq!(world.observed().len(), 1);
}

#[test]
fn a_start_that_never_began_leaves_nothing_to_stop() {
    let mut world = World::settled();
    world.hold(B);
    world.plan(&[(start(), B)]);
    let op = world.ops()[0].clone();
    world.say_result(B, &op, Ok(Outcome::NotBegun { reason: "not installed".into() }));
    let observed = world.observed();
    assert_eq!(observed[0].state, ResourceState::Stopped);
    assert!(observed[0].failure.as_ref().unwrap().is_permanent);
}

#[test]
fn a_failed_stop_blocks_the_holder() {
    let mut world = World::settled();
    world.hold(B);
    world.plan(&[(stop(), B)]);
    let op = world.ops()[0].clone();
    world.say_result(B, &op, Ok(Outcome::Stuck { reason: "process 12".into() }));
    assert_eq!(world.observed()[0].state, ResourceState::Blocked);
    world.know(B, ResourceState::Blocked, op.id);
    world.plan(&[]);
    world.plan(&[]);
    let blocks = world.proposed.iter().filter(|command| matches!(command, Command::Block { .. })).count();
    assert_eq!(blocks, 1);
    world.state.holders.get_mut(&"web".into()).unwrap().state = HolderState::Blocked { why: "stuck".into() };
    world.pass(Duration::from_secs(2));
    world.plan(&[]);
    let blocks = world.proposed.iter().filter(|command| matches!(command, Command::Block { .. })).count();
    assert_eq!(blocks, 1);
}

#[test]
fn a_failed_stop_is_tried_again_where_nobody_is_fenced_for_it() {
    let mut world = World::settled();
    world.hold(B);
    world.know(B, ResourceState::Blocked, OpId { epoch: Epoch(10), index: 9 });
    world.state.holders.get_mut(&"web".into()).unwrap().state = HolderState::Blocked { why: "stuck".into() };
    world.plan(&[]);
    world.pass(Duration::from_secs(30));
    world.plan(&[]);
    assert!(world.ops().is_empty(), "its holder is to be fenced");
    world.state.stop_cost_node.insert("web".into());
    world.plan(&[]);
    let mut tries = Vec::new();
    for second in 1..60 {
        let replans = world.replans;
        world.pass(Duration::from_secs(1));
        if world.replans > replans {
            world.plan(&[]);
        }
        let op = world.ops().pop().cloned();
        if let Some(op) = op {
            assert_eq!((op.action, op.resource.as_str()), (AgentAction::Stop, "web"));
            tries.push(second);
            world.sent.clear();
            world.proposed.clear();
            world.say_result(B, &op, Ok(Outcome::Stuck { reason: "process 12".into() }));
            let reason = world.observed().first().map(|observation| observation.reason.clone());
            assert_eq!(reason.is_some(), tries.len() == 1, "what is known already is not written again");
            reason.into_iter().for_each(|reason| {
                world.know(B, ResourceState::Blocked, op.id);
                let nodes = world.state.known.get_mut(&"web".into()).unwrap();
                nodes.get_mut(&B).unwrap().reason = reason;
            });
        }
    }
    assert_eq!(tries, [3, 9, 21, 36, 51]);
}

#[test]
fn a_late_result_does_not_undo_the_death_that_followed_it() {
    let mut world = World::settled();
    world.hold(B);
    world.plan(&[(start(), B)]);
    let op = world.ops()[0].clone();
    let change = Change {
        resource: "web".into(),
        incarnation: life(B),
        op: op.id,
        state: ResourceState::Failed,
        reason: "killed".into(),
        digest: 0,
        grant: op.grant,
    };
    world.hear(B, ExecutorMessage::Changed(change.clone()));
    world.say_result(B, &op, Ok(Outcome::Success));
    assert_eq!(world.observed().len(), 1);
    world.know(B, ResourceState::Failed, op.id);
    world.say_result(B, &op, Ok(Outcome::Success));
    world.hear(B, ExecutorMessage::Changed(change));
    assert_eq!(world.observed().len(), 1);
    assert_eq!(world.acks(), 2);
}

#[test]
fn nothing_of_another_life_or_epoch_is_believed() {
    let mut world = World::settled();
    world.hold(B);
    world.plan(&[(start(), B)]);
    let op = world.ops()[0].clone();
    world.state.members.get_mut(&B).unwrap().incarnation = Incarnation(999);
    world.say_result(B, &op, Ok(Outcome::Success));
    assert!(world.proposed.is_empty());
    let inventory = Inventory { incarnation: Incarnation(999), ..Inventory::default() };
    world.hear(B, ExecutorMessage::Inventory { epoch: Epoch(19), inventory });
    assert!(!world.dispatcher.is_settled(), "a node that came back is asked again");
}

#[test]
fn an_orphan_that_left_the_configuration_is_stopped_and_forgotten() {
    let mut world = World::settled();
    let last = OpId { epoch: Epoch(10), index: 9 };
    world.know(B, ResourceState::Running, last);
    world.state.config.resources.clear();
    world.plan(&[(stop(), B)]);
    let op = world.ops()[0].clone();
    assert_eq!((op.agent.clone(), op.grant), (AgentName::Native("unknown".into()), None));
    world.state.known.clear();
    world.say_result(B, &op, Ok(Outcome::Success));
    assert_eq!((world.acks(), world.proposed.len()), (1, 0));
}

#[test]
fn a_release_waits_for_what_is_in_flight() {
    let mut world = World::settled();
    world.hold(B);
    world.plan(&[(stop(), B), (StepKind::Release, B)]);
    assert!(world.proposed.is_empty());
    let op = world.ops()[0].clone();
    world.say_result(B, &op, Ok(Outcome::Success));
    world.know(B, ResourceState::Stopped, op.id);
    world.plan(&[(StepKind::Release, B)]);
    assert!(matches!(world.proposed.last(), Some(Command::Release { grant: GrantId(30), .. })));
}

#[test]
fn who_does_not_lead_does_nothing() {
    let mut world = World::settled();
    world.plan(&[(StepKind::Grant, B)]);
    world.step(DispatcherInput::Follow);
    world.sent.clear();
    world.proposed.clear();
    world.plan(&[(StepKind::Grant, B)]);
    world.pass(Duration::from_secs(10));
    assert_eq!(world.dispatcher.deadline(), None);
    assert_eq!(world.dispatcher.epoch(), None);
    assert!(world.sent.is_empty() && world.proposed.is_empty());
}

/// A member that is heard and does not say what runs there is waited for only so long: what is known to have stopped
/// there suffices then.
#[test]
fn a_grant_does_not_wait_for_who_is_heard_and_does_not_answer() {
    let mut world = World::new();
    world.say_inventory(A, Vec::new());
    world.say_inventory(B, Vec::new());
    world.plan(&[(StepKind::Grant, B)]);
    assert_eq!(world.proposed, [], "c is heard: it is asked first");
    assert!(!world.dispatcher.is_settled());
    assert_eq!(world.dispatcher.owes(world.now), BTreeMap::from([(C, Duration::ZERO)]));
    let replans = world.replans;
    world.pass(ANSWER_LIMIT);
    assert_eq!(world.dispatcher.owes(world.now)[&C], ANSWER_LIMIT);
    assert!(world.replans > replans && world.dispatcher.is_settled());
    world.plan(&[(StepKind::Grant, B)]);
    assert!(matches!(&world.proposed[..], [Command::Grant { node: B, .. }]), "{:?}", world.proposed);
    assert!(world.dispatcher.problems().iter().any(|said| said.text.contains("c is heard but does not answer")));
}

/// What may run on a member that does not answer still keeps the unit from everybody else.
#[test]
fn a_grant_waits_for_who_does_not_answer_if_the_unit_may_run_there() {
    for state in [ResourceState::Unknown, ResourceState::Running, ResourceState::Failed, ResourceState::Blocked] {
        let mut world = World::new();
        world.know(C, state, OpId { epoch: Epoch(10), index: 9 });
        world.say_inventory(A, Vec::new());
        world.say_inventory(B, Vec::new());
        world.pass(ANSWER_LIMIT * 10);
        world.plan(&[(StepKind::Grant, B)]);
        assert_eq!(world.proposed, [], "{state:?}");
    }
}

/// Who does not answer is asked on, and counts again with its answer; who is not heard owes nothing.
#[test]
fn a_debt_ends_with_the_answer_or_with_silence() {
    let mut world = World::new();
    world.pass(ANSWER_LIMIT);
    world.sent.clear();
    world.pass(Duration::from_millis(60));
    assert!(world.sent.iter().any(|(to, message)| *to == C && matches!(message, ExecutorMessage::AskInventory { .. })));
    let replans = world.replans;
    world.say_inventory(C, Vec::new());
    assert!(world.replans > replans);
    world.step(reachable(&[A, C], &[]));
    assert_eq!(world.dispatcher.owes(world.now).keys().collect::<Vec<_>>(), [&A], "b is not heard");
    world.pass(ANSWER_LIMIT);
    world.step(reachable(&[A, B, C], &[]));
    assert_eq!(world.dispatcher.owes(world.now)[&B], Duration::ZERO, "b is asked anew");
}

/// An order is owed until it is acknowledged: an operation that takes long is not, one that never arrived is.
#[test]
fn an_order_is_owed_until_it_is_acknowledged() {
    let mut world = World::settled();
    world.hold(B);
    world.plan(&[(start(), B)]);
    let id = world.ops()[0].id;
    for _ in 0..8 {
        world.pass(Duration::from_secs(1));
        world.hear(B, ExecutorMessage::Accepted { resource: "web".into(), op: id });
        assert_eq!(world.dispatcher.owes(world.now), BTreeMap::new());
    }
    world.pass(ANSWER_LIMIT + Duration::from_secs(1));
    assert!(world.dispatcher.owes(world.now)[&B] >= ANSWER_LIMIT, "b stopped to acknowledge");
    let op = world.ops()[0].clone();
    world.say_result(B, &op, Ok(Outcome::Success));
    assert_eq!(world.dispatcher.owes(world.now), BTreeMap::new());
}
