//! Stories of one executor: a disk that forgets what was not made durable, an agent that counts, a process that dies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use executor::{Change, Executor, ExecutorAction, ExecutorInput, ExecutorMessage, Inventory};
use model::{
    AgentAction, AgentCall, AgentName, Bugs, CallKey, Class, ClusterState, Epoch, GrantId, Holder, HolderState,
    Incarnation, Instant, Known, LogIndex, Member, MemberState, MonitorConfig, NodeId, Op, OpId, OpResult, Outcome,
    ParameterValue, Placement, ResourceConfig, ResourceState, Table, Timeouts, WallTime, Write,
};

const OWN: NodeId = NodeId(2);
const LEADER: NodeId = NodeId(1);
const LIFE: Incarnation = Incarnation(77);

/// A node with one executor.
struct World {
    now: Instant,
    state: ClusterState,
    life: Incarnation,
    executor: Executor,
    bugs: Bugs,
    disk: BTreeMap<u64, Vec<u8>>,
    /// Asked for and not durable.
    writes: VecDeque<(u64, Vec<Write>)>,
    /// Asked for and not answered.
    calls: VecDeque<AgentCall>,
    abandoned: Vec<CallKey>,
    sent: Vec<ExecutorMessage>,
}

impl World {
    fn new() -> World {
        World::with(Bugs::NONE)
    }

    fn with(bugs: Bugs) -> World {
        let (applied, epoch) = (LogIndex(100), Epoch(10));
        let mut state = ClusterState { applied, epoch, coordinator: LEADER, ..ClusterState::default() };
        let member = Member {
            name: "b".into(),
            role: model::NodeRole::Member,
            incarnation: LIFE,
            state: MemberState::Online,
            boot_id: String::new(),
            machine_id: String::new(),
            storage_uuid: String::new(),
            since: WallTime(0),
            flap_penalty: 0,
            flap_at: WallTime(0),
            dead: VecDeque::new(),
        };
        state.members.insert(OWN, member);
        let executor = Executor::new(Instant::ZERO, OWN, LIFE, Vec::new(), bugs).unwrap();
        let mut world = World {
            now: Instant::from_nanos(1_000_000_000),
            state,
            life: LIFE,
            executor,
            bugs,
            disk: BTreeMap::new(),
            writes: VecDeque::new(),
            calls: VecDeque::new(),
            abandoned: Vec::new(),
            sent: Vec::new(),
        };
        world.hold("web", 50);
        let actions = world.executor.begin(world.now, &world.state);
        world.take(actions);
        world.settle();
        world
    }

    /// This node holds the unit under this grant.
    fn hold(&mut self, unit: &str, grant: u64) {
        let holder = Holder {
            node: OWN,
            incarnation: LIFE,
            grant: GrantId(grant),
            state: HolderState::Held,
            since: WallTime(0),
            reason: String::new(),
        };
        self.state.holders.insert(unit.into(), holder);
    }

    /// The state knows this of a resource on this node.
    fn know(&mut self, resource: &str, op: OpId, state: ResourceState) {
        let known = Known {
            state,
            incarnation: LIFE,
            op,
            since: WallTime(0),
            reason: String::new(),
            digest: 0,
            is_change: false,
        };
        self.state.known.entry(resource.into()).or_default().insert(OWN, known);
        self.step(ExecutorInput::Applied);
    }

    fn step(&mut self, input: ExecutorInput) {
        let actions = self.executor.step(self.now, &self.state, input);
        self.take(actions);
    }

    fn say(&mut self, message: ExecutorMessage) {
        self.step(ExecutorInput::Message { from: LEADER, message });
    }

    /// The configuration says what the operation says.
    fn configure(&mut self, op: &Op) {
        let resource = ResourceConfig {
            agent: op.agent.clone(),
            class: Class::Exclusive,
            domains: BTreeSet::new(),
            parameters: op.parameters.clone(),
            monitor: MonitorConfig { every: op.monitor_every, timeout: op.monitor_timeout },
            timeouts: Timeouts { start: op.timeout, stop: op.timeout },
            failures_max: 3,
            placement: Placement::default(),
            needs: BTreeMap::new(),
            failures_forgotten_after: None,
        };
        self.state.config.resources.insert(op.resource.clone(), resource);
    }

    /// Orders what is configured; an operation of a new leader comes after the begin of its epoch.
    fn order(&mut self, op: &Op) {
        if op.agent != AgentName::Native("unknown".into()) {
            self.configure(op);
        }
        self.state.epoch = self.state.epoch.max(op.id.epoch);
        self.say(ExecutorMessage::Op(op.clone()));
    }

    fn take(&mut self, actions: Vec<ExecutorAction>) {
        for action in actions {
            match action {
                ExecutorAction::Persist { token, writes } => self.writes.push_back((token, writes)),
                ExecutorAction::Call(call) => self.calls.push_back(call),
                ExecutorAction::Abandon(key) => {
                    self.abandoned.push(key);
                    self.calls.retain(|call| call.key != key);
                }
                ExecutorAction::Report(result) => self.sent.push(ExecutorMessage::Result(result)),
                ExecutorAction::Changed(change) => self.sent.push(ExecutorMessage::Changed(change)),
                ExecutorAction::Inventory { epoch, inventory } => {
                    self.sent.push(ExecutorMessage::Inventory { epoch, inventory });
                }
                ExecutorAction::Accepted { resource, op } => {
                    self.sent.push(ExecutorMessage::Accepted { resource, op });
                }
            }
        }
    }

    /// Makes the oldest write durable, without saying so.
    fn write_one(&mut self) -> Option<u64> {
        let (token, writes) = self.writes.pop_front()?;
        for write in writes {
            match write {
                Write::Put { table: Table::Journal, key, value } => {
                    self.disk.insert(key, value);
                }
                Write::DeleteFrom { table: Table::Journal, from } => self.disk.retain(|key, _| *key < from),
                other => panic!("not the journal's: {other:?}"),
            }
        }
        Some(token)
    }

    /// Makes everything durable.
    fn settle(&mut self) {
        while let Some(token) = self.write_one() {
            self.step(ExecutorInput::Persisted { token });
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.executor.deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.step(ExecutorInput::Tick);
        }
        self.now = end;
        self.step(ExecutorInput::Tick);
    }

    fn answer(&mut self, outcome: Outcome) -> AgentCall {
        let call = self.calls.pop_front().expect("an outstanding call");
        self.step(ExecutorInput::CallDone { key: call.key, outcome });
        call
    }

    /// Runs an operation to its end.
    fn run(&mut self, op: &Op, outcome: Outcome) -> OpResult {
        self.order(op);
        self.settle();
        self.answer(outcome);
        self.settle();
        self.last_result()
    }

    /// The process dies; what is durable stays.
    fn restart(&mut self) {
        self.writes.clear();
        self.calls.clear();
        self.sent.clear();
        let journal = self.disk.iter().map(|(key, value)| (*key, value.clone())).collect();
        self.executor = Executor::new(self.now, OWN, self.life, journal, self.bugs).unwrap();
        let actions = self.executor.begin(self.now, &self.state);
        self.take(actions);
    }

    fn results(&self) -> Vec<&OpResult> {
        let sent = self.sent.iter();
        sent.filter_map(|message| if let ExecutorMessage::Result(result) = message { Some(result) } else { None })
            .collect()
    }

    fn last_result(&self) -> OpResult {
        (*self.results().last().expect("a result")).clone()
    }

    fn changes(&self) -> Vec<&Change> {
        let sent = self.sent.iter();
        sent.filter_map(|message| if let ExecutorMessage::Changed(change) = message { Some(change) } else { None })
            .collect()
    }

    fn ask_inventory(&mut self, epoch: u64) -> Inventory {
        self.state.epoch = self.state.epoch.max(Epoch(epoch));
        self.say(ExecutorMessage::AskInventory { epoch: Epoch(epoch) });
        self.settle();
        match self.sent.last() {
            Some(ExecutorMessage::Inventory { inventory, .. }) => inventory.clone(),
            other => panic!("no inventory: {other:?}"),
        }
    }
}

fn op(action: AgentAction, epoch: u64, index: u64, grant: Option<u64>) -> Op {
    op_of("web", action, epoch, index, grant)
}

fn op_of(resource: &str, action: AgentAction, epoch: u64, index: u64, grant: Option<u64>) -> Op {
    Op {
        id: OpId { epoch: Epoch(epoch), index },
        incarnation: LIFE,
        unit: resource.into(),
        resource: resource.into(),
        action,
        grant: grant.map(GrantId),
        agent: AgentName::Native("process".into()),
        parameters: BTreeMap::from([("command".to_owned(), ParameterValue::Text("serve".into()))]),
        timeout: Duration::from_secs(20),
        monitor_every: Duration::from_secs(10),
        monitor_timeout: Duration::from_secs(5),
        is_proven_free: false,
        digest: 4711,
    }
}

fn start(epoch: u64, index: u64, grant: u64) -> Op {
    op(AgentAction::Start, epoch, index, Some(grant))
}

fn stop(epoch: u64, index: u64, grant: u64) -> Op {
    op(AgentAction::Stop, epoch, index, Some(grant))
}

fn probe(epoch: u64, index: u64) -> Op {
    op(AgentAction::Monitor, epoch, index, None)
}

fn refusal(result: &OpResult) -> &str {
    result.outcome.as_ref().expect_err("a refusal")
}

#[test]
fn the_intent_is_durable_before_the_agent_is_called_and_the_result_before_it_is_reported() {
    let mut world = World::new();
    world.order(&start(10, 1, 50));
    assert!(world.calls.is_empty());
    world.settle();
    assert_eq!(world.calls.len(), 1);
    world.answer(Outcome::Success);
    assert!(world.results().is_empty());
    world.settle();
    assert_eq!(world.last_result().outcome, Ok(Outcome::Success));
    assert_eq!(world.last_result().digest, 4711);
}

#[test]
fn a_repeated_order_finds_the_result_and_runs_nothing() {
    let mut world = World::new();
    world.order(&start(10, 1, 50));
    world.order(&start(10, 1, 50));
    world.settle();
    world.order(&start(10, 1, 50));
    assert_eq!(world.calls.len(), 1);
    world.answer(Outcome::Success);
    world.order(&start(10, 1, 50));
    world.settle();
    let reported = world.results().len();
    world.order(&start(10, 1, 50));
    world.settle();
    assert!(world.calls.is_empty());
    assert_eq!(world.results().len(), reported + 1);
    assert_eq!(world.last_result().outcome, Ok(Outcome::Success));
}

/// The leader's record of the first start was lost, so that its plan wants it started.
#[test]
fn a_repeated_order_is_acknowledged_while_it_is_carried_out_and_the_disk_answers() {
    let mut world = World::new();
    let op = start(10, 1, 50);
    world.order(&op);
    assert_eq!(world.sent, [], "an order that comes once is answered by its result alone");
    world.order(&op);
    let accepted = ExecutorMessage::Accepted { resource: "web".into(), op: op.id };
    assert_eq!(world.sent.pop().as_ref(), Some(&accepted));
    world.pass(Duration::from_secs(1));
    world.order(&op);
    assert_eq!(world.sent, [], "its intent has been written for a second: the disk may never come back");
    world.settle();
    world.order(&op);
    assert_eq!(world.sent, [accepted]);
}

#[test]
fn what_runs_under_the_same_grant_is_not_started_again() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Success);
    world.order(&start(10, 2, 50));
    world.settle();
    assert!(world.calls.is_empty());
    assert_eq!((world.last_result().id.index, world.last_result().outcome), (2, Ok(Outcome::Success)));

    world.step(ExecutorInput::Exited { key: CallKey { op: start(10, 1, 50).id, attempt: 0 }, how: "gone".to_owned() });
    assert_eq!(world.changes().len(), 1);
    world.run(&stop(10, 3, 50), Outcome::Success);
    world.order(&start(10, 4, 50));
    world.settle();
    assert_eq!(world.calls.len(), 1);
}

/// The leader's record of the failure was lost, so that its plan wants it started.
#[test]
fn what_failed_is_not_started_before_it_was_stopped() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Failed { reason: "half".to_owned(), is_permanent: false });
    world.order(&start(10, 2, 50));
    world.settle();
    assert!(world.calls.is_empty());
    assert!(refusal(&world.last_result()).contains("stopped first"));
    world.run(&stop(10, 3, 50), Outcome::Success);
    world.order(&start(10, 4, 50));
    world.settle();
    assert_eq!(world.calls.len(), 1);
}

/// A stop that cannot begin proves nothing by itself; together with what was known before it does (ADR 0016).
#[test]
fn a_stop_that_cannot_begin_is_done_only_where_it_was_stopped_before() {
    let impossible = || Outcome::NotBegun { reason: "not installed".to_owned() };
    let mut world = World::new();
    world.run(&probe(10, 1), Outcome::NotRunning);
    let result = world.run(&start(10, 2, 50), impossible());
    assert_eq!(result.outcome, Ok(impossible()));
    world.restart();
    let result = world.run(&stop(10, 3, 50), impossible());
    assert_eq!(result.outcome, Ok(Outcome::Success));

    let mut world = World::new();
    world.run(&probe(10, 1), Outcome::NotRunning);
    world.run(&start(10, 2, 50), Outcome::Failed { reason: "half".to_owned(), is_permanent: false });
    let result = world.run(&stop(10, 3, 50), impossible());
    assert_eq!(result.outcome, Ok(impossible()), "the start did begin");
    assert_eq!(world.ask_inventory(10).resources[0].state, ResourceState::Blocked);

    let mut world = World::new();
    let result = world.run(&stop(10, 1, 50), impossible());
    assert_eq!(result.outcome, Ok(impossible()), "nobody knows what was there");
    let mut world = World::new();
    let result = world.run(&start(10, 1, 50), impossible());
    assert!(matches!(result.outcome, Ok(Outcome::Failed { is_permanent: true, .. })), "nobody knows what was there");
}

/// A file that is corrected, or taken back, heals what the wrong one left: what never ran and could not be stopped is
/// stopped with what is configured by then. What did run is stopped with what it was started with.
#[test]
fn what_never_ran_is_stopped_with_what_is_configured_now() {
    let failed = || Outcome::Failed { reason: "no such user".to_owned(), is_permanent: false };
    let corrected = |op: Op| {
        let parameters = BTreeMap::from([("command".to_owned(), ParameterValue::Text("right".into()))]);
        Op { parameters, digest: 4712, ..op }
    };
    for (has_run, told) in [(false, "right"), (true, "serve")] {
        let mut world = World::new();
        world.run(&start(10, 1, 50), if has_run { Outcome::Success } else { failed() });
        world.run(&stop(10, 2, 50), failed());
        let again = corrected(stop(10, 3, 50));
        world.order(&again);
        world.settle();
        let call = world.answer(Outcome::Success);
        assert_eq!(call.parameters["command"], ParameterValue::Text(told.into()), "has run: {has_run}");
    }
}

#[test]
fn orders_of_an_older_leader_are_refused() {
    let mut world = World::new();
    world.run(&probe(12, 1), Outcome::NotRunning);
    world.order(&start(11, 9, 50));
    assert!(refusal(&world.last_result()).contains("newer leader"));
    world.restart();
    world.order(&start(11, 9, 50));
    assert!(refusal(&world.last_result()).contains("newer leader"));
    assert!(world.calls.is_empty());
}

#[test]
fn who_answers_a_new_leader_obeys_no_older_one_after_a_crash_either() {
    let mut world = World::new();
    world.say(ExecutorMessage::AskInventory { epoch: Epoch(15) });
    world.settle();
    assert!(world.sent.is_empty(), "answered before that leader's epoch is applied");
    world.state.epoch = Epoch(15);
    world.step(ExecutorInput::Applied);
    assert!(world.sent.is_empty(), "answered before it is durable");
    world.settle();
    assert!(matches!(world.sent.last(), Some(ExecutorMessage::Inventory { epoch: Epoch(15), .. })));
    world.restart();
    world.order(&start(14, 1, 50));
    assert!(refusal(&world.last_result()).contains("newer leader"));
}

#[test]
fn what_the_state_says_of_a_new_leader_counts_too() {
    let mut world = World::new();
    world.state.epoch = Epoch(20);
    world.order(&start(19, 1, 50));
    assert!(refusal(&world.last_result()).contains("newer leader"));
}

/// An epoch that nobody agreed on is neither obeyed nor kept: it would lock out the real leader for good.
#[test]
fn an_epoch_that_is_not_agreed_counts_for_nothing() {
    let mut world = World::new();
    world.say(ExecutorMessage::AskInventory { epoch: Epoch(1 << 60) });
    let op = Op { id: OpId { epoch: Epoch(1 << 60), index: 1 }, ..start(10, 1, 50) };
    world.configure(&op);
    world.say(ExecutorMessage::Op(op));
    assert_eq!((world.writes.len(), world.sent.len()), (0, 0));
    world.restart();
    world.order(&start(10, 2, 50));
    world.settle();
    assert_eq!(world.calls.len(), 1, "the real leader is obeyed");
    assert_eq!(world.ask_inventory(12).max_epoch, Epoch(12));
}

/// Whom this node does not follow can order, ask and acknowledge nothing.
#[test]
fn only_the_leader_that_this_node_follows_is_obeyed() {
    let mut world = World::new();
    let stranger = NodeId(77);
    let op = start(10, 1, 50);
    world.configure(&op);
    let say = |world: &mut World, from: NodeId, message: ExecutorMessage| {
        world.step(ExecutorInput::Message { from, message });
    };
    say(&mut world, stranger, ExecutorMessage::Op(op.clone()));
    say(&mut world, stranger, ExecutorMessage::AskInventory { epoch: Epoch(10) });
    world.settle();
    assert_eq!((world.calls.len(), world.sent.len()), (0, 0));
    world.run(&op, Outcome::Success);
    world.sent.clear();
    say(&mut world, stranger, ExecutorMessage::Ack { resource: "web".into(), op: op.id, is_change: false });
    world.pass(Duration::from_secs(1));
    assert!(!world.results().is_empty(), "the report is repeated");
    world.step(ExecutorInput::Leader(Some(stranger)));
    world.sent.clear();
    say(&mut world, stranger, ExecutorMessage::AskInventory { epoch: Epoch(10) });
    assert!(matches!(world.sent[..], [ExecutorMessage::Inventory { .. }]), "consensus names it: {:?}", world.sent);
}

/// Nothing runs that the agreed configuration does not say, whoever orders it.
#[test]
fn only_what_is_configured_is_run() {
    let shell = BTreeMap::from([("command".to_owned(), ParameterValue::Text("/bin/sh".into()))]);
    let forged = [
        Op { parameters: shell.clone(), ..start(10, 1, 50) },
        Op { agent: AgentName::Native("ip".into()), ..start(10, 1, 50) },
        Op { resource: "shell".into(), ..start(10, 1, 50) },
        Op { parameters: shell.clone(), ..stop(10, 1, 50) },
        Op { parameters: shell.clone(), ..probe(10, 1) },
        Op { unit: "db".into(), ..start(10, 1, 60) },
    ];
    for op in forged {
        let mut world = World::new();
        world.hold("db", 60);
        world.configure(&start(10, 1, 50));
        world.say(ExecutorMessage::Op(op.clone()));
        world.pass(Duration::from_millis(999));
        assert_eq!((world.calls.len(), world.results().len()), (0, 0), "a newer version may be on its way: {op:?}");
        world.pass(Duration::from_millis(1));
        assert_eq!(refusal(&world.last_result()), "the configuration says something else here", "{op:?}");
        assert_eq!(world.writes.len(), 0, "{op:?}");
    }
}

/// An order that was made from a newer version waits for that version.
#[test]
fn an_order_waits_for_the_configuration_that_it_was_made_from() {
    let mut world = World::new();
    world.configure(&start(10, 1, 50));
    let changed = BTreeMap::from([("command".to_owned(), ParameterValue::Text("another".into()))]);
    let op = Op { parameters: changed, ..start(10, 2, 50) };
    world.say(ExecutorMessage::Op(op.clone()));
    world.settle();
    assert_eq!(world.calls.len(), 0);
    world.configure(&op);
    world.step(ExecutorInput::Applied);
    world.settle();
    assert_eq!(world.calls[0].parameters, op.parameters);
}

/// What joined a held unit is not started before it is known to run nowhere else, whoever orders it.
#[test]
fn what_is_barred_is_not_started() {
    let mut world = World::new();
    world.state.barred.insert("web".into());
    world.order(&start(10, 1, 50));
    world.settle();
    assert_eq!(world.calls.len(), 0);
    world.state.barred.clear();
    world.step(ExecutorInput::Applied);
    world.settle();
    assert_eq!(world.calls.len(), 1);
}

/// Checks that are due begin in the order in which they fell due: no name starves.
#[test]
fn every_check_has_its_turn() {
    let mut world = World::new();
    for index in 0..20 {
        let op = op_of(&format!("r{index:02}"), AgentAction::Start, 10, 1 + index, Some(100 + index));
        world.state.applied = LogIndex(1000);
        world.hold(&format!("r{index:02}"), 100 + index);
        world.run(&op, Outcome::Success);
    }
    let mut checked = BTreeSet::new();
    for _ in 0..20 {
        world.pass(Duration::from_secs(5));
        for _ in 0..world.calls.len() {
            checked.insert(world.answer(Outcome::Success).resource);
        }
    }
    assert_eq!(checked.len(), 20, "{checked:?}");
}

#[test]
fn orders_for_another_life_are_refused() {
    let mut world = World::new();
    world.order(&Op { incarnation: Incarnation(76), ..start(10, 1, 50) });
    assert!(refusal(&world.last_result()).contains("another life"));
}

#[test]
fn a_start_that_was_delayed_until_after_the_stop_is_refused() {
    let mut world = World::new();
    world.run(&stop(10, 2, 50), Outcome::Success);
    world.order(&start(10, 1, 50));
    assert!(refusal(&world.last_result()).contains("later operation"));
    world.restart();
    world.order(&start(10, 1, 50));
    world.settle();
    assert!(refusal(&world.last_result()).contains("later operation"));
    assert!(world.calls.is_empty());
}

#[test]
fn a_start_under_an_older_grant_than_the_stopped_one_is_refused() {
    let mut world = World::new();
    world.run(&stop(10, 2, 60), Outcome::Success);
    world.order(&start(10, 3, 50));
    assert!(refusal(&world.last_result()).contains("was stopped"));
}

#[test]
fn a_restart_in_place_goes_under_the_same_grant() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Success);
    world.run(&stop(10, 2, 50), Outcome::Success);
    assert_eq!(world.run(&start(10, 3, 50), Outcome::Success).outcome, Ok(Outcome::Success));
}

#[test]
fn a_start_waits_for_its_grant_to_be_applied_here() {
    let mut world = World::new();
    world.order(&op_of("db", AgentAction::Start, 10, 1, Some(101)));
    world.settle();
    assert!(world.calls.is_empty() && world.results().is_empty());
    world.hold("db", 101);
    world.state.applied = LogIndex(101);
    world.step(ExecutorInput::Applied);
    world.settle();
    assert_eq!(world.calls.len(), 1);
}

#[test]
fn a_start_whose_grant_never_arrives_is_refused_in_time() {
    let mut world = World::new();
    world.order(&op_of("db", AgentAction::Start, 10, 1, Some(101)));
    world.pass(Duration::from_secs(21));
    assert!(refusal(&world.last_result()).contains("did not arrive"));
}

#[test]
fn a_start_without_the_current_grant_is_refused() {
    let mut world = World::new();
    world.order(&start(10, 1, 49));
    assert!(refusal(&world.last_result()).contains("not granted"));
    world.state.holders.get_mut(&"web".into()).unwrap().state = HolderState::Releasing;
    world.order(&start(10, 2, 50));
    assert!(refusal(&world.last_result()).contains("leaving"));
    world.order(&op(AgentAction::Start, 10, 3, None));
    assert!(refusal(&world.last_result()).contains("needs a grant"));
}

#[test]
fn a_grant_lost_while_the_intent_is_written_starts_nothing() {
    let mut world = World::new();
    world.order(&start(10, 1, 50));
    world.state.holders.clear();
    world.settle();
    assert!(world.calls.is_empty());
    assert!(refusal(&world.last_result()).contains("not granted"));
}

#[test]
fn one_operation_per_resource_and_the_stop_goes_before_what_waits() {
    let mut world = World::new();
    world.order(&start(10, 1, 50));
    world.settle();
    world.order(&probe(10, 2));
    world.order(&stop(10, 3, 50));
    assert_eq!(refusal(&world.last_result()), "a later operation took its place");
    world.order(&probe(10, 4));
    assert_eq!(refusal(&world.last_result()), "a stop waits before it");
    assert_eq!(world.calls.len(), 1);
    world.answer(Outcome::Success);
    world.settle();
    assert_eq!(world.calls[0].action, AgentAction::Stop);
}

#[test]
fn a_node_runs_eight_operations_at_a_time_and_begins_with_the_stops() {
    let mut world = World::new();
    for index in 0..10 {
        world.order(&op_of(&format!("r{index}"), AgentAction::Monitor, 10, 10 + index, None));
    }
    world.order(&op_of("late", AgentAction::Stop, 10, 30, None));
    world.settle();
    assert_eq!(world.calls.len(), 8);
    world.answer(Outcome::NotRunning);
    world.settle();
    assert_eq!(world.calls.back().unwrap().resource, "late".into());
}

#[test]
fn a_stop_uses_what_the_start_was_told() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Success);
    let unknown = Op { agent: AgentName::Native("unknown".into()), parameters: BTreeMap::new(), ..stop(10, 2, 50) };
    world.order(&unknown);
    world.settle();
    let call = &world.calls[0];
    assert_eq!(call.agent, AgentName::Native("process".into()));
    assert_eq!(call.parameters, start(10, 1, 50).parameters);
    assert_eq!(call.started_by, Some(CallKey { op: OpId { epoch: Epoch(10), index: 1 }, attempt: 0 }));
}

#[test]
fn what_left_the_configuration_can_be_stopped_once_more() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Success);
    world.run(&stop(10, 2, 50), Outcome::Success);
    world.order(&Op { agent: AgentName::Native("unknown".into()), ..stop(10, 3, 50) });
    world.settle();
    assert_eq!(world.calls[0].agent, AgentName::Native("process".into()));
    assert_eq!(world.calls[0].started_by, None);
}

#[test]
fn the_stop_of_what_runs_is_told_what_the_start_was_and_not_what_is_configured_since() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Success);
    let changed = BTreeMap::from([("command".to_owned(), ParameterValue::Text("another".into()))]);
    world.order(&Op { parameters: changed.clone(), ..stop(10, 2, 50) });
    world.settle();
    assert_eq!(world.calls[0].parameters, start(10, 1, 50).parameters);
    world.answer(Outcome::Success);
    world.settle();
    world.order(&Op { parameters: changed.clone(), ..start(10, 3, 50) });
    world.settle();
    assert_eq!(world.calls[0].parameters, changed);
}

#[test]
fn what_was_found_running_has_no_known_digest() {
    let mut world = World::new();
    assert_eq!(world.run(&probe(10, 1), Outcome::Success).digest, 0);
    world.run(&stop(10, 2, 50), Outcome::Success);
    world.run(&start(10, 3, 50), Outcome::Success);
    assert_eq!(world.run(&probe(10, 4), Outcome::Success).digest, 4711);
}

#[test]
fn the_stop_of_what_nobody_knows_is_refused() {
    let mut world = World::new();
    world.order(&Op { agent: AgentName::Native("unknown".into()), ..stop(10, 2, 50) });
    assert!(refusal(&world.last_result()).contains("does not know how"));
}

#[test]
fn reports_are_repeated_more_and_more_slowly_until_the_state_shows_them() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Success);
    world.sent.clear();
    world.pass(Duration::from_millis(350));
    assert_eq!(world.results().len(), 2);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.results().len(), 5);
    world.know("web", OpId { epoch: Epoch(10), index: 1 }, ResourceState::Running);
    world.sent.clear();
    world.pass(Duration::from_secs(5));
    assert!(world.results().is_empty());
}

#[test]
fn reports_are_repeated_until_the_leader_has_them() {
    let mut world = World::new();
    let result = world.run(&probe(10, 1), Outcome::TimedOut);
    world.say(ExecutorMessage::Ack { resource: "web".into(), op: result.id, is_change: false });
    world.sent.clear();
    world.pass(Duration::from_secs(5));
    assert!(world.sent.is_empty());
}

#[test]
fn a_result_that_nobody_heard_is_reported_again_after_a_restart() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Success);
    world.restart();
    assert_eq!(world.last_result().outcome, Ok(Outcome::Success));
}

#[test]
fn what_runs_is_checked_again_and_again_and_a_failure_is_said_once() {
    let mut world = World::new();
    let result = world.run(&start(10, 1, 50), Outcome::Success);
    world.know("web", result.id, ResourceState::Running);
    world.pass(Duration::from_secs(9));
    assert!(world.calls.is_empty());
    world.pass(Duration::from_secs(1));
    let check = world.answer(Outcome::Success);
    assert_eq!(check.action, AgentAction::Monitor);
    assert_eq!(check.key.op, result.id);
    world.pass(Duration::from_secs(10));
    world.pass(Duration::from_secs(60));
    assert_eq!(world.calls.len(), 1, "at most one check is outstanding");
    assert_ne!(world.calls[0].key, check.key);
    world.answer(Outcome::NotRunning);
    world.settle();
    assert_eq!(world.changes().len(), 1);
    assert_eq!(world.changes()[0].state, ResourceState::Failed);
    assert_eq!(world.changes()[0].op, result.id);
    world.know("web", result.id, ResourceState::Failed);
    world.pass(Duration::from_secs(60));
    assert!(world.calls.is_empty(), "what failed waits for an operation");
    assert_eq!(world.changes().len(), 1);
}

#[test]
fn a_check_that_timed_out_while_this_process_stalled_is_forgiven_once() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Success);
    world.pass(Duration::from_secs(10));
    world.step(ExecutorInput::StallSeen(Duration::from_millis(1100)));
    world.answer(Outcome::TimedOut);
    assert!(world.changes().is_empty());
    assert_eq!(world.calls.len(), 1, "it is checked again at once");
    world.step(ExecutorInput::StallSeen(Duration::from_millis(1100)));
    world.answer(Outcome::TimedOut);
    assert_eq!(world.changes().len(), 1);
}

#[test]
fn a_life_that_is_over_knows_what_it_must_stop() {
    let limit = Duration::from_secs(2);
    let mut world = World::new();
    assert!(world.executor.last_stops(limit).is_empty());
    world.order(&start(10, 1, 50));
    world.settle();
    assert_eq!(world.executor.last_stops(limit).len(), 1, "a start that has begun may have done its work");
    world.answer(Outcome::Success);
    world.settle();
    let stops = world.executor.last_stops(limit);
    assert_eq!((stops.len(), stops[0].action, stops[0].timeout), (1, AgentAction::Stop, limit));
    world.run(&stop(10, 2, 50), Outcome::Success);
    assert!(world.executor.last_stops(limit).is_empty());
}

#[test]
fn a_check_that_cannot_be_made_changes_nothing() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Success);
    for is_permanent in [false, true, true] {
        world.pass(Duration::from_secs(10));
        world.answer(Outcome::Unknown { reason: "too many open files".to_owned(), is_permanent });
        assert!(world.changes().is_empty());
        assert!(world.calls.is_empty(), "it is not asked again at once");
    }
    world.pass(Duration::from_secs(10));
    world.answer(Outcome::NotRunning);
    assert_eq!(world.changes().len(), 1);
}

#[test]
fn a_stop_that_cannot_be_proven_is_no_stop() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Success);
    let outcome = Outcome::Unknown { reason: "the processes cannot be listed".to_owned(), is_permanent: false };
    world.run(&stop(10, 2, 50), outcome);
    let inventory = world.executor.inventory(&world.state);
    assert_eq!(inventory.resources[0].state, ResourceState::Blocked);
}

#[test]
fn a_check_that_timed_out_without_a_stall_is_a_failure() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Success);
    world.pass(Duration::from_secs(10));
    world.step(ExecutorInput::StallSeen(Duration::from_millis(900)));
    world.answer(Outcome::TimedOut);
    assert!(world.changes()[0].reason.contains("no answer"));
}

#[test]
fn an_operation_does_not_wait_for_a_check() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Success);
    world.pass(Duration::from_secs(10));
    let check = world.calls[0].key;
    world.order(&stop(10, 2, 50));
    world.settle();
    assert_eq!(world.abandoned, [check]);
    assert_eq!(world.calls[0].action, AgentAction::Stop);
    world.step(ExecutorInput::CallDone { key: check, outcome: Outcome::NotRunning });
    assert!(world.changes().is_empty(), "a late answer is no answer");
}

#[test]
fn a_dead_service_is_said_at_once() {
    let mut world = World::new();
    let result = world.run(&start(10, 1, 50), Outcome::Success);
    let key = CallKey { op: result.id, attempt: 0 };
    world.step(ExecutorInput::Exited { key, how: "killed by signal 9".into() });
    assert_eq!(world.changes()[0].reason, "killed by signal 9");
    world.settle();
    world.restart();
    assert!(world.calls.is_empty(), "what failed is not checked");
    assert_eq!(world.changes().len(), 1, "it is said again");
}

#[test]
fn a_service_that_dies_while_its_start_is_recorded_is_not_overlooked() {
    let mut world = World::new();
    world.order(&start(10, 1, 50));
    world.settle();
    let call = world.answer(Outcome::Success);
    world.step(ExecutorInput::Exited { key: call.key, how: "exit status 1".into() });
    assert!(world.changes().is_empty());
    world.settle();
    assert_eq!(world.changes().len(), 1);
}

#[test]
fn a_service_that_ends_because_it_is_stopped_is_no_failure() {
    let mut world = World::new();
    let result = world.run(&start(10, 1, 50), Outcome::Success);
    world.order(&stop(10, 2, 50));
    world.settle();
    world.step(ExecutorInput::Exited { key: CallKey { op: result.id, attempt: 0 }, how: "exit status 0".into() });
    world.answer(Outcome::Success);
    world.settle();
    assert!(world.changes().is_empty());
    assert_eq!(world.last_result().outcome, Ok(Outcome::Success));
}

#[test]
fn after_a_restart_what_runs_is_watched_again() {
    let mut world = World::new();
    let result = world.run(&start(10, 1, 50), Outcome::Success);
    world.know("web", result.id, ResourceState::Running);
    world.restart();
    assert_eq!(world.calls[0].action, AgentAction::Monitor);
    assert_eq!(world.calls[0].started_by, Some(CallKey { op: result.id, attempt: 0 }));
    assert!(world.results().is_empty());
}

#[test]
fn an_interrupted_stop_is_brought_to_its_end() {
    let mut world = World::new();
    world.run(&start(10, 1, 50), Outcome::Success);
    world.order(&stop(10, 2, 50));
    world.settle();
    world.restart();
    let adopted = world.answer(Outcome::Success);
    assert!(adopted.is_adoption);
    let again = world.answer(Outcome::Success);
    assert!(!again.is_adoption && again.action == AgentAction::Stop && again.key != adopted.key);
    world.settle();
    assert_eq!(world.last_result().outcome, Ok(Outcome::Success));
    assert_eq!(world.ask_inventory(11).resources[0].state, ResourceState::Stopped);
}

#[test]
fn an_interrupted_stop_of_what_is_gone_is_done() {
    let mut world = World::new();
    world.order(&stop(10, 2, 50));
    world.settle();
    world.restart();
    world.answer(Outcome::NotRunning);
    world.settle();
    assert_eq!(world.last_result().outcome, Ok(Outcome::Success));
}

#[test]
fn a_new_life_obeys_nothing_of_the_old_one_and_keeps_the_epoch() {
    let mut world = World::new();
    world.run(&start(30, 1, 50), Outcome::Success);
    world.order(&stop(30, 2, 50));
    world.settle();
    world.life = Incarnation(78);
    world.restart();
    world.settle();
    assert!(world.calls.is_empty() && world.sent.is_empty());
    assert_eq!(world.disk.len(), 1, "the journal holds the header alone");
    world.order(&Op { incarnation: Incarnation(78), ..probe(29, 9) });
    assert!(refusal(&world.last_result()).contains("newer leader"));
}

#[test]
fn the_journal_does_not_grow_with_time() {
    let mut world = World::new();
    for round in 0..50 {
        world.run(&start(10, 2 * round + 1, 50), Outcome::Success);
        world.run(&stop(10, 2 * round + 2, 50), Outcome::Success);
    }
    assert_eq!(world.disk.len(), 2);
}

#[test]
fn an_inventory_tells_what_runs_and_what_is_being_done() {
    let mut world = World::new();
    let result = world.run(&start(10, 1, 50), Outcome::Success);
    world.order(&op_of("db", AgentAction::Monitor, 10, 2, None));
    world.settle();
    let inventory = world.ask_inventory(11);
    assert_eq!((inventory.max_epoch, inventory.applied), (Epoch(11), LogIndex(100)));
    let [db, web] = inventory.resources.as_slice() else { panic!("two resources: {inventory:?}") };
    assert_eq!(db.op.as_ref().unwrap().id.index, 2);
    assert_eq!((web.state, web.last, web.grant), (ResourceState::Running, result.id, Some(GrantId(50))));
    assert_eq!((web.op.as_ref(), web.digest), (None, 4711));
}

#[test]
fn a_damaged_journal_is_an_error_and_no_panic() {
    let error = Executor::new(Instant::ZERO, OWN, LIFE, vec![(0, vec![1, 2, 3])], Bugs::NONE).err().unwrap();
    assert!(error.to_string().contains("damaged"), "{error}");
}

/// The agent as it really is on the node: it survives the death of the process that called it.
#[derive(Default)]
struct FakeAgent {
    spawned: u32,
    service: Option<CallKey>,
}

impl FakeAgent {
    fn run(&mut self, call: &AgentCall) -> Outcome {
        match (call.action, call.is_adoption) {
            (AgentAction::Start, false) => {
                self.spawned += 1;
                self.service = Some(call.key);
                Outcome::Success
            }
            (AgentAction::Start, true) | (AgentAction::Monitor, _) => {
                if self.service.is_some() {
                    Outcome::Success
                } else {
                    Outcome::NotRunning
                }
            }
            (AgentAction::Stop, _) => panic!("nobody stops it"),
        }
    }
}

/// Runs one start with a leader that repeats itself, and kills the process after `crash_at` events; returns how often
/// the service was spawned, and how many events there were.
fn start_with_crash(bugs: Bugs, crash_at: Option<u32>) -> (u32, u32) {
    let mut world = World::with(bugs);
    let mut agent = FakeAgent::default();
    let mut index = 1;
    let mut events = 0;
    let mut answers: VecDeque<(CallKey, Outcome)> = VecDeque::new();
    let mut durable: VecDeque<u64> = VecDeque::new();
    let mut has_crashed = false;
    for _ in 0..200 {
        if crash_at == Some(events) && !has_crashed {
            has_crashed = true;
            answers.clear();
            durable.clear();
            world.restart();
        }
        events += 1;
        if let Some(token) = durable.pop_front() {
            world.step(ExecutorInput::Persisted { token });
        } else if let Some(call) = world.calls.pop_front() {
            let outcome = agent.run(&call);
            answers.push_back((call.key, outcome));
        } else if let Some((key, outcome)) = answers.pop_front() {
            world.step(ExecutorInput::CallDone { key, outcome });
        } else if let Some(token) = world.write_one() {
            durable.push_back(token);
        } else {
            let done = world.results().iter().find(|result| result.id.index == index).map(|r| r.outcome.clone());
            match done {
                Some(Ok(Outcome::Success)) => break,
                Some(Ok(Outcome::NotRunning)) => index += 1,
                Some(other) => panic!("crash at {crash_at:?}: {other:?}"),
                None => {}
            }
            world.order(&start(10, index, 50));
        }
    }
    assert!(agent.service.is_some(), "crash at {crash_at:?}: it does not run");
    assert_eq!(world.ask_inventory(11).resources[0].state, ResourceState::Running, "crash at {crash_at:?}");
    (agent.spawned, events)
}

#[test]
fn wherever_the_process_dies_the_service_is_started_exactly_once() {
    let (spawned, events) = start_with_crash(Bugs::NONE, None);
    assert_eq!(spawned, 1);
    assert!(events > 5, "the story has {events} events");
    for crash_at in 0..=events {
        let (spawned, _) = start_with_crash(Bugs::NONE, Some(crash_at));
        assert_eq!(spawned, 1, "crash at event {crash_at}");
    }
}

#[cfg(feature = "planted-bugs")]
mod planted {
    use super::*;
    use model::Bug;

    #[test]
    fn journal_after_spawn_starts_twice_somewhere() {
        let bugs = Bugs::NONE.with(Bug::JournalAfterSpawn);
        let (_, events) = start_with_crash(bugs, None);
        assert!((0..=events).any(|crash_at| start_with_crash(bugs, Some(crash_at)).0 > 1));
    }

    #[test]
    fn an_older_epoch_is_obeyed() {
        let mut world = World::with(Bugs::NONE.with(Bug::EpochIgnored));
        world.run(&probe(12, 1), Outcome::NotRunning);
        world.order(&start(11, 9, 50));
        world.settle();
        assert_eq!(world.calls.len(), 1);
    }

    #[test]
    fn a_stop_is_done_before_it_is() {
        let mut world = World::with(Bugs::NONE.with(Bug::StopAssumed));
        world.order(&stop(10, 1, 50));
        world.settle();
        assert_eq!(world.last_result().outcome, Ok(Outcome::Success));
        assert_eq!(world.calls.len(), 1);
    }
}

/// A node that goes down stops by itself what it runs, starts nothing any more, and its next process knows.
#[test]
fn a_node_that_goes_down_stops_what_it_runs() {
    let mut world = World::new();
    let first = start(10, 1, 50);
    world.run(&first, Outcome::Success);
    world.step(ExecutorInput::Close(vec!["web".into()]));
    let call = world.calls.iter().find(|call| call.action == AgentAction::Stop).cloned().expect("a stop");
    assert_eq!((call.key.op, call.key.attempt), (first.id, executor::OWN_STOP));
    let later = start(10, 2, 50);
    world.order(&later);
    assert!(world.last_result().outcome.is_err_and(|why| why.contains("going down")), "nothing starts any more");
    world.step(ExecutorInput::Close(vec!["web".into()]));
    assert_eq!(world.calls.iter().filter(|call| call.action == AgentAction::Stop).count(), 1, "each once");
    assert_eq!(world.executor.open().count(), 1);
    world.calls.retain(|call| call.action == AgentAction::Stop);
    world.answer(Outcome::Success);
    world.settle();
    assert_eq!(world.executor.open().count(), 0);
    let changes = world.changes();
    let change = changes.last().expect("the leader hears of it");
    assert_eq!((change.state, change.op), (ResourceState::Stopped, first.id));
    world.restart();
    let changes = world.changes();
    assert_eq!(changes.last().map(|change| change.state), Some(ResourceState::Stopped), "it was no failure");
    world.settle();
    assert_eq!(world.run(&start(10, 3, 50), Outcome::Success).outcome, Ok(Outcome::Success));
}
