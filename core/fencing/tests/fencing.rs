//! Stories of fencing: node a leads, node b is condemned and holds a unit that could damage storage and network.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use fencing::{FenceTest, Fencing, FencingAction, FencingInput};
use model::{
    AgentName, Bugs, Class, ClusterConfig, ClusterState, Domain, Epoch, FenceAction, FenceCall, FenceConfig,
    FenceMethod, FenceOutcome, FenceStatus, GrantId, Holder, HolderState, Incarnation, Instant, Member, MemberState,
    MonitorConfig, NodeConfig, NodeId, NodeRole, Placement, ResourceConfig, Timeouts, WallTime,
};
use state::Command;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const LIFE: Incarnation = Incarnation(102);
const ON: FenceOutcome = FenceOutcome::Status(FenceStatus::On);
const OFF: FenceOutcome = FenceOutcome::Status(FenceStatus::Off);

struct World {
    now: Instant,
    state: ClusterState,
    fencing: Fencing,
    calls: VecDeque<FenceCall>,
    proposed: Vec<Command>,
    tests: Vec<(u64, Vec<FenceTest>)>,
    looks: Vec<(NodeId, Incarnation, bool)>,
    failed: Vec<String>,
    abandoned: Vec<u64>,
    /// Attempts that are proposed and wait to be agreed on; none: they are agreed on at once.
    attempts: Option<Vec<u64>>,
    /// The status is on as long as a device was told nothing, and that is answered at once.
    told: Option<BTreeSet<String>>,
}

impl World {
    /// A cluster with these devices for b and what each covers.
    fn new(devices: &[(&str, &[Domain])]) -> World {
        World::with(devices, Bugs::NONE)
    }

    fn with(devices: &[(&str, &[Domain])], bugs: Bugs) -> World {
        let mut state = ClusterState { epoch: Epoch(20), coordinator: A, ..ClusterState::default() };
        for (id, name) in [(A, "a"), (B, "b")] {
            let member = Member {
                name: name.into(),
                role: NodeRole::Member,
                incarnation: Incarnation(100 + id.0),
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
        let resource = ResourceConfig {
            agent: AgentName::Native("process".into()),
            class: Class::Exclusive,
            domains: BTreeSet::from([Domain::Storage, Domain::Network]),
            parameters: BTreeMap::new(),
            monitor: MonitorConfig { every: Duration::ZERO, timeout: Duration::ZERO },
            timeouts: Timeouts { start: Duration::ZERO, stop: Duration::ZERO },
            failures_max: 3,
            placement: Placement::default(),
            needs: BTreeMap::new(),
            failures_forgotten_after: None,
        };
        let device = |covers: &[Domain]| FenceConfig {
            agent: "fence_lab".into(),
            parameters: BTreeMap::new(),
            covers: covers.iter().copied().collect(),
            timeout: Duration::from_secs(5),
            plugs: BTreeMap::from([("b".into(), "outlet-7".to_owned())]),
            after_fence: None,
        };
        let node =
            NodeConfig { fence: devices.iter().map(|(name, _)| (*name).into()).collect(), ..NodeConfig::default() };
        state.config = ClusterConfig {
            nodes: BTreeMap::from([("a".into(), node.clone()), ("b".into(), node)]),
            fence_devices: devices.iter().map(|(name, covers)| ((*name).into(), device(covers))).collect(),
            resources: BTreeMap::from([("db".into(), resource)]),
            ..ClusterConfig::default()
        };
        let holder = Holder {
            node: B,
            incarnation: LIFE,
            grant: GrantId(9),
            state: HolderState::Held,
            since: WallTime(0),
            reason: String::new(),
        };
        state.holders.insert("db".into(), holder);
        let mut world = World {
            now: Instant::from_nanos(1_000_000_000),
            state,
            fencing: Fencing::new(A, bugs),
            calls: VecDeque::new(),
            proposed: Vec::new(),
            tests: Vec::new(),
            looks: Vec::new(),
            failed: Vec::new(),
            abandoned: Vec::new(),
            attempts: None,
            told: Some(BTreeSet::new()),
        };
        world.step(FencingInput::Lead { epoch: Epoch(20) });
        world
    }

    fn condemn(mut self) -> World {
        self.set(MemberState::Condemned);
        self
    }

    fn set(&mut self, state: MemberState) {
        self.state.members.get_mut(&B).unwrap().state = state;
        self.step(FencingInput::Applied);
    }

    fn step(&mut self, input: FencingInput) {
        let mut inputs = Vec::new();
        for action in self.fencing.step(self.now, &self.state, input) {
            match action {
                FencingAction::Call(call) => {
                    let is_first_look = self
                        .told
                        .as_ref()
                        .is_some_and(|told| call.action == FenceAction::Status && !told.contains(call.device.as_str()));
                    match &mut self.told {
                        Some(told) if call.action == FenceAction::Off => _ = told.insert(call.device.to_string()),
                        Some(_) | None => {}
                    }
                    if is_first_look && self.state.members[&B].state == MemberState::Condemned {
                        inputs.push(FencingInput::CallDone { key: call.key, outcome: ON });
                    } else {
                        self.calls.push_back(call);
                    }
                }
                FencingAction::Abandon(key) => {
                    self.calls.retain(|call| call.key != key);
                    self.abandoned.push(key);
                }
                FencingAction::Propose(Command::FenceBegun { node, attempt, .. }) => match &mut self.attempts {
                    Some(attempts) => attempts.push(attempt),
                    None => inputs.push(FencingInput::Begun { node, attempt }),
                },
                FencingAction::Propose(command) => self.proposed.push(command),
                FencingAction::TestDone { request, results } => self.tests.push((request, results)),
                FencingAction::LookDone { node, incarnation, is_off } => self.looks.push((node, incarnation, is_off)),
                FencingAction::Failed { reason, .. } => self.failed.push(reason),
            }
        }
        inputs.into_iter().for_each(|input| self.step(input));
    }

    /// Nothing is answered by itself.
    fn by_hand(mut self) -> World {
        (self.attempts, self.told) = (Some(Vec::new()), None);
        self
    }

    fn agree(&mut self) {
        let attempts = std::mem::take(self.attempts.as_mut().expect("by hand"));
        for attempt in attempts {
            self.step(FencingInput::Begun { node: B, attempt });
        }
    }

    /// The oldest outstanding call is this one, and is answered so.
    fn answer(&mut self, device: &str, action: FenceAction, outcome: FenceOutcome) -> FenceCall {
        let call = self.calls.pop_front().expect("an outstanding call");
        assert_eq!((call.device.as_str(), call.action), (device, action));
        self.step(FencingInput::CallDone { key: call.key, outcome });
        call
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.fencing.deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.step(FencingInput::Tick);
            assert!(self.fencing.deadline().is_none_or(|next| next > self.now), "a tick leaves nothing due");
        }
        self.now = end;
        self.step(FencingInput::Tick);
    }
}

const ALL: &[Domain] = &[Domain::Storage, Domain::Network];

fn failed(reason: &str) -> FenceOutcome {
    FenceOutcome::Failed { reason: reason.into() }
}

#[test]
fn a_condemned_node_is_off_when_the_status_reads_off() {
    let mut world = World::new(&[("pdu", ALL)]).condemn();
    let call = world.answer("pdu", FenceAction::Off, FenceOutcome::Done);
    assert_eq!((call.plug.as_str(), call.target.as_str()), ("outlet-7", "b"));
    world.now += Duration::from_millis(3);
    world.answer("pdu", FenceAction::Status, OFF);
    let [Command::FenceDone { node: B, incarnation: LIFE, epoch: Epoch(20), evidence, covers }] = &world.proposed[..]
    else {
        panic!("one FenceDone: {:?}", world.proposed)
    };
    assert_eq!(evidence.method, FenceMethod::Device(vec!["pdu".into()]));
    assert_eq!(evidence.took_ms, 3);
    assert_eq!(covers.len(), 2);
    world.set(MemberState::Fenced);
    assert_eq!(world.fencing.deadline(), None);
}

#[test]
fn an_agent_that_lies_is_not_believed() {
    let mut world = World::new(&[("pdu", ALL)]).condemn();
    world.answer("pdu", FenceAction::Off, FenceOutcome::Done);
    for _ in 0..25 {
        world.answer("pdu", FenceAction::Status, ON);
        assert!(world.calls.is_empty());
        world.pass(Duration::from_millis(20));
    }
    world.answer("pdu", FenceAction::Status, ON);
    world.pass(Duration::from_millis(199));
    assert!(world.calls.is_empty(), "it is asked less often after a while");
    world.pass(Duration::from_secs(5));
    world.answer("pdu", FenceAction::Status, ON);
    assert!(world.proposed.is_empty());
    assert!(world.failed[0].contains("still reads on"));
}

#[test]
fn a_status_that_cannot_be_read_once_is_read_again() {
    let mut world = World::new(&[("pdu", ALL)]).condemn();
    world.answer("pdu", FenceAction::Off, FenceOutcome::Done);
    world.answer("pdu", FenceAction::Status, failed("busy"));
    world.pass(Duration::from_millis(20));
    world.answer("pdu", FenceAction::Status, OFF);
    assert_eq!(world.proposed.len(), 1);
}

#[test]
fn the_next_level_is_tried_when_one_fails() {
    let mut world = World::new(&[("bmc", ALL), ("pdu", ALL)]).condemn();
    world.answer("bmc", FenceAction::Off, failed("no route to host"));
    world.answer("pdu", FenceAction::Off, FenceOutcome::Done);
    world.answer("pdu", FenceAction::Status, OFF);
    assert_eq!(world.proposed.len(), 1);
    assert_eq!(world.failed, ["bmc failed: no route to host"]);
}

#[test]
fn devices_that_cover_a_part_each_are_used_together() {
    let mut world = World::new(&[("san", &[Domain::Storage]), ("switch", &[Domain::Network])]).condemn();
    world.answer("san", FenceAction::Off, FenceOutcome::Done);
    world.answer("san", FenceAction::Status, OFF);
    assert!(world.proposed.is_empty(), "db needs both");
    world.answer("switch", FenceAction::Off, FenceOutcome::Done);
    world.answer("switch", FenceAction::Status, OFF);
    let Command::FenceDone { evidence, covers, .. } = &world.proposed[0] else { panic!("a FenceDone") };
    assert_eq!(evidence.method, FenceMethod::Device(vec!["san".into(), "switch".into()]));
    assert_eq!(covers.len(), 2);
}

#[test]
fn a_node_that_holds_nothing_exclusive_needs_one_device() {
    let mut world = World::new(&[("san", &[Domain::Storage]), ("switch", &[Domain::Network])]);
    world.state.holders.clear();
    world = world.condemn();
    world.answer("san", FenceAction::Off, FenceOutcome::Done);
    world.answer("san", FenceAction::Status, OFF);
    assert_eq!(world.proposed.len(), 1);
}

#[test]
fn what_works_but_covers_too_little_frees_nothing() {
    let mut world = World::new(&[("san", &[Domain::Storage])]).condemn();
    world.answer("san", FenceAction::Off, FenceOutcome::Done);
    world.answer("san", FenceAction::Status, OFF);
    assert!(world.proposed.is_empty());
    assert!(world.fencing.problems()[0].text.contains("no device that works covers network"));
}

#[test]
fn a_late_answer_is_no_answer() {
    let mut world = World::new(&[("pdu", ALL)]).condemn();
    let late = world.calls.front().unwrap().clone();
    world.pass(Duration::from_secs(6));
    assert_eq!(world.failed, ["pdu gave no answer in time"]);
    world.step(FencingInput::CallDone { key: late.key, outcome: FenceOutcome::Done });
    assert!(world.calls.is_empty() && world.proposed.is_empty());
}

#[test]
fn a_dead_device_is_tried_again_more_and_more_slowly_and_says_what_to_do() {
    let mut world = World::new(&[("pdu", ALL)]).condemn();
    assert!(world.fencing.problems().is_empty());
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        world.answer("pdu", FenceAction::Off, failed("no route to host"));
        world.pass(Duration::from_secs(pause) - Duration::from_millis(1));
        assert!(world.calls.is_empty());
        world.pass(Duration::from_millis(1));
        let problems = world.fencing.problems();
        assert!(problems[0].text.contains("no route to host"), "{problems:?}");
        assert!(problems[0].text.contains("cardea fence b --confirm-off --reason"), "{problems:?}");
    }
}

#[test]
fn a_node_without_a_device_waits_for_a_person() {
    let mut world = World::new(&[]).condemn();
    world.pass(Duration::from_secs(100));
    assert!(world.calls.is_empty() && world.proposed.is_empty());
    assert!(world.fencing.problems()[0].text.contains("no fence device"));
}

#[test]
fn a_new_leader_fences_again_what_is_not_proven() {
    let mut world = World::new(&[("pdu", ALL)]).condemn();
    let old = world.calls.front().unwrap().clone();
    world.step(FencingInput::Follow);
    assert_eq!(world.fencing.deadline(), None);
    assert_eq!(world.abandoned, [old.key], "the agent is ended");
    world.step(FencingInput::Lead { epoch: Epoch(30) });
    world.step(FencingInput::CallDone { key: old.key, outcome: FenceOutcome::Done });
    world.answer("pdu", FenceAction::Status, ON);
    world.answer("pdu", FenceAction::Off, FenceOutcome::Done);
    world.answer("pdu", FenceAction::Status, OFF);
    assert!(matches!(&world.proposed[..], [Command::FenceDone { epoch: Epoch(30), .. }]));
}

#[test]
fn a_node_that_came_back_is_left_alone() {
    let mut world = World::new(&[("pdu", ALL)]).condemn();
    world.answer("pdu", FenceAction::Off, FenceOutcome::Done);
    let member = world.state.members.get_mut(&B).unwrap();
    (member.state, member.incarnation) = (MemberState::Online, Incarnation(999));
    let status = world.calls.front().unwrap().clone();
    world.step(FencingInput::CallDone { key: status.key, outcome: OFF });
    world.pass(Duration::from_secs(60));
    assert!(world.calls.is_empty() && world.proposed.is_empty());
}

#[test]
fn a_lost_proposal_is_repeated_without_another_call() {
    let mut world = World::new(&[("pdu", ALL)]).condemn();
    world.answer("pdu", FenceAction::Off, FenceOutcome::Done);
    world.answer("pdu", FenceAction::Status, OFF);
    world.pass(Duration::from_secs(4));
    assert_eq!(world.proposed.len(), 5);
    assert!(world.calls.is_empty());
    world.pass(Duration::from_secs(1));
    assert_eq!(world.calls[0].action, FenceAction::Status, "something changed since");
}

#[test]
fn nobody_cuts_itself_off() {
    let mut world = World::new(&[("pdu", ALL)]);
    world.state.members.get_mut(&A).unwrap().state = MemberState::Condemned;
    world.step(FencingInput::Applied);
    world.pass(Duration::from_secs(10));
    assert!(world.calls.is_empty());
}

#[test]
fn a_test_asks_every_device_and_switches_nothing() {
    let mut world = World::new(&[("bmc", ALL), ("pdu", ALL)]);
    world.step(FencingInput::Test { request: 5, node: B });
    let bmc = world.calls.pop_front().unwrap();
    world.now += Duration::from_millis(7);
    world.answer("pdu", FenceAction::Status, ON);
    assert_eq!(bmc.action, FenceAction::Status);
    assert!(world.tests.is_empty());
    world.pass(Duration::from_secs(6));
    let (request, results) = &world.tests[0];
    assert_eq!(*request, 5);
    assert_eq!((results[0].device.as_str(), results[0].outcome.clone()), ("bmc", failed("no answer in time")));
    assert_eq!((results[1].outcome.clone(), results[1].took_ms), (ON, 7));
    world.step(FencingInput::CallDone { key: bmc.key, outcome: ON });
    assert_eq!(world.tests.len(), 1);
}

/// Some devices serve one caller at a time: whoever only asks one something is not in the way of a fence.
#[test]
fn a_test_gives_way_to_a_fence() {
    let mut world = World::new(&[("bmc", ALL)]);
    world.step(FencingInput::Test { request: 5, node: B });
    let asked = world.calls.pop_front().unwrap();
    let mut world = world.condemn();
    assert_eq!(world.abandoned, [asked.key]);
    let (request, results) = world.tests.pop().expect("the asker gets an answer");
    assert_eq!((request, results.len()), (5, 1));
    assert!(matches!(&results[0].outcome, FenceOutcome::Failed { reason } if reason.contains("a fence has begun")));
    world.answer("bmc", FenceAction::Off, FenceOutcome::Done);
}

#[test]
fn a_test_of_a_node_without_devices_ends_at_once() {
    let mut world = World::new(&[]);
    world.step(FencingInput::Test { request: 6, node: B });
    assert_eq!(world.tests, [(6, Vec::new())]);
}

#[test]
fn who_is_waited_for_is_off_if_a_device_says_so_and_none_contradicts() {
    let mut world = World::new(&[("bmc", ALL), ("pdu", ALL)]);
    let dead = || failed("no answer from the management board");
    for (bmc, pdu, is_off) in
        [(dead(), OFF, true), (OFF, OFF, true), (ON, OFF, false), (dead(), dead(), false), (dead(), ON, false)]
    {
        let incarnation = Incarnation(77);
        world.step(FencingInput::Look { node: B, incarnation });
        world.step(FencingInput::Look { node: B, incarnation });
        world.answer("bmc", FenceAction::Status, bmc);
        world.answer("pdu", FenceAction::Status, pdu);
        assert_eq!(world.looks, [(B, incarnation, is_off)]);
        assert!(world.calls.is_empty() && world.proposed.is_empty(), "a look changes nothing, and one is enough");
        world.looks.clear();
    }
}

#[cfg(feature = "planted-bugs")]
#[test]
fn without_the_read_back_a_lie_is_believed() {
    let mut world = World::with(&[("pdu", ALL)], Bugs::NONE.with(model::Bug::ReadBackSkipped)).condemn();
    world.answer("pdu", FenceAction::Off, FenceOutcome::Done);
    assert_eq!(world.proposed.len(), 1);
}

#[test]
fn what_is_off_already_is_told_nothing() {
    let mut world = World::new(&[("pdu", ALL)]).by_hand().condemn();
    world.answer("pdu", FenceAction::Status, OFF);
    assert!(matches!(&world.proposed[..], [Command::FenceDone { .. }]));
    world.agree();
    assert!(world.calls.is_empty());
}

#[test]
fn nothing_is_cut_off_before_it_is_agreed_that_this_node_still_leads() {
    let mut world = World::new(&[("pdu", ALL)]).by_hand().condemn();
    world.answer("pdu", FenceAction::Status, ON);
    world.pass(Duration::from_millis(900));
    assert!(world.calls.is_empty());
    world.agree();
    assert_eq!(world.calls[0].action, FenceAction::Off);
}

#[test]
fn a_leader_that_stood_still_asks_again_before_it_cuts_off() {
    let mut world = World::new(&[("pdu", ALL)]).by_hand().condemn();
    world.answer("pdu", FenceAction::Status, ON);
    world.step(FencingInput::Woke);
    let attempts = world.attempts.clone().expect("by hand");
    assert_eq!(attempts.len(), 2, "what was asked before the stall proves nothing");
    world.step(FencingInput::Begun { node: B, attempt: attempts[0] });
    assert!(world.calls.is_empty());
    world.step(FencingInput::Begun { node: B, attempt: attempts[1] });
    assert_eq!(world.calls[0].action, FenceAction::Off);
}

#[test]
fn an_agreement_that_took_too_long_proves_nothing() {
    let mut world = World::new(&[("pdu", ALL)]).by_hand().condemn();
    world.answer("pdu", FenceAction::Status, ON);
    world.now += Duration::from_secs(60);
    world.agree();
    assert!(world.calls.is_empty());
    assert_eq!(world.attempts.as_ref().map(Vec::len), Some(1), "it is asked again");
}

#[test]
fn a_status_that_does_not_come_is_not_waited_for_long() {
    let mut world = World::new(&[("pdu", ALL)]).by_hand().condemn();
    let look = world.calls.front().unwrap().key;
    for _ in 0..21 {
        world.pass(Duration::from_millis(100));
        world.agree();
    }
    assert_eq!(world.abandoned, [look]);
    assert_eq!(world.calls[0].action, FenceAction::Off);
}

#[test]
fn who_is_heard_is_not_fenced_as_long_as_nothing_was_begun() {
    let mut world = World::new(&[("pdu", ALL)]).by_hand();
    let end = model::LifeEnd { incarnation: LIFE, is_for_silence: true, ..model::LifeEnd::default() };
    world.state.ends.insert(B, end);
    world.step(FencingInput::Heard { spared: BTreeSet::from([B]), reborn: BTreeSet::new() });
    let mut world = world.condemn();
    world.pass(Duration::from_secs(5));
    assert!(world.calls.is_empty() && world.attempts.as_ref().is_some_and(Vec::is_empty));
    world.state.ends.get_mut(&B).unwrap().is_fence_begun = true;
    world.step(FencingInput::Applied);
    assert_eq!(world.calls[0].action, FenceAction::Status);
}

#[test]
fn who_is_heard_in_its_next_life_is_cut_off_no_further() {
    let mut world = World::new(&[("san", &[Domain::Storage]), ("power", ALL)]).condemn();
    world.answer("san", FenceAction::Off, FenceOutcome::Done);
    world.step(FencingInput::Heard { spared: BTreeSet::new(), reborn: BTreeSet::from([B]) });
    world.answer("san", FenceAction::Status, OFF);
    world.pass(Duration::from_millis(300));
    assert!(world.calls.iter().all(|call| call.action != FenceAction::Off), "{:?}", world.calls);
    assert!(world.fencing.deadline().is_none_or(|at| at > world.now), "nothing is due while it is waited for");

    // It is not let in.
    world.step(FencingInput::Heard { spared: BTreeSet::new(), reborn: BTreeSet::new() });
    assert!(world.calls.iter().any(|call| call.action == FenceAction::Off), "{:?}", world.calls);
}

#[test]
fn a_removed_unit_is_freed_by_what_covers_everything() {
    let mut world = World::new(&[("san", &[Domain::Storage]), ("switch", &[Domain::Network])]);
    world.state.config.resources.clear();
    let mut world = world.condemn();
    world.answer("san", FenceAction::Off, FenceOutcome::Done);
    world.answer("san", FenceAction::Status, OFF);
    world.answer("switch", FenceAction::Off, FenceOutcome::Done);
    world.answer("switch", FenceAction::Status, OFF);
    let is_whole = |c: &Command| matches!(c, Command::FenceDone { covers, .. } if covers.len() == 2);
    assert!(world.proposed.iter().any(is_whole), "{:?}", world.proposed);
}

#[test]
fn a_part_that_is_proven_frees_what_it_covers() {
    let mut world = World::new(&[("san", &[Domain::Storage]), ("switch", &[Domain::Network])]);
    let mut disk = world.state.config.resources[&"db".into()].clone();
    disk.domains = BTreeSet::from([Domain::Storage]);
    world.state.config.resources.insert("disk".into(), disk);
    let holder = Holder { grant: GrantId(10), ..world.state.holders[&"db".into()].clone() };
    world.state.holders.insert("disk".into(), holder);
    let mut world = world.condemn();
    world.answer("san", FenceAction::Off, FenceOutcome::Done);
    world.answer("san", FenceAction::Status, OFF);
    assert_eq!(world.proposed.len(), 1);
    world.answer("switch", FenceAction::Off, failed("dead"));
    assert!(world.fencing.problems()[0].text.contains("dead"));
}

#[test]
fn what_is_proven_off_is_switched_on_again() {
    let mut world = World::new(&[("pdu", ALL)]).condemn();
    world.answer("pdu", FenceAction::Off, FenceOutcome::Done);
    world.answer("pdu", FenceAction::Status, OFF);
    let end = model::LifeEnd { incarnation: LIFE, cut_off_by: vec!["pdu".into()], ..model::LifeEnd::default() };
    world.state.ends.insert(B, end);
    world.set(MemberState::Fenced);
    world.pass(Duration::from_secs(2));
    world.answer("pdu", FenceAction::On, failed("busy"));
    world.pass(Duration::from_secs(1));
    world.answer("pdu", FenceAction::On, FenceOutcome::Done);
    world.pass(Duration::from_secs(100));
    assert!(world.calls.is_empty());
}

#[test]
fn what_shall_stay_off_stays_off() {
    let mut world = World::new(&[("pdu", ALL)]);
    world.state.config.fence_devices.get_mut(&"pdu".into()).unwrap().after_fence = Some(model::AfterFence::Off);
    let end = model::LifeEnd { incarnation: LIFE, cut_off_by: vec!["pdu".into()], ..model::LifeEnd::default() };
    world.state.ends.insert(B, end);
    world.set(MemberState::Fenced);
    world.pass(Duration::from_secs(100));
    assert!(world.calls.is_empty());
}
