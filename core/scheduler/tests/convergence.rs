//! Do plans, carried out step by step, lead to a cluster at rest, and does the kernel accept every proposal?
//!
//! A small world: agents that work or fail, nodes that die and come back, operators with wishes. The world carries out
//! what a plan allows to begin, one random step at a time, and makes the plan anew after each.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    ActionKind, Bugs, ClusterConfig, ClusterState, Domain, FenceEvidence, FenceMethod, FenceName, Incarnation,
    LogIndex, MemberState, NodeId, NodeName, NodeRole, OpId, ParameterValue, ResourceName, ResourceState, Step,
    StepKind, Term, UnitName, WallTime,
};
use scheduler::{Eligibility, Live, plan};
use state::{Command, Entry, Failure, Founder, Observation, apply, founding};

const FILE: &str = r#"
cluster = "shop"
[nodes.a]
links = ["10.0.0.1", "10.1.0.1"]
fence = ["power"]
[nodes.b]
links = ["10.0.0.2", "10.1.0.2"]
fence = ["power"]
[nodes.c]
links = ["10.0.0.3", "10.1.0.3"]
fence = ["power"]
[fence.power]
agent = "fence_lab"
[resources.address]
agent = "ocf:heartbeat:Dummy"
[resources.web]
agent = "ocf:heartbeat:Dummy"
[resources.db]
agent = "ocf:heartbeat:Dummy"
prefer = ["c"]
failback = true
[resources.cache]
agent = "ocf:heartbeat:Dummy"
class = "best-effort"
[groups.site]
members = ["address", "web"]
prefer = ["a", "b"]
after = ["db"]
"#;

/// A linear congruential generator (Knuth's MMIX constants): chance that every run repeats.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

struct World {
    seed: u64,
    state: ClusterState,
    dice: Dice,
    /// What really runs, on nodes with power.
    running: BTreeMap<NodeId, BTreeMap<ResourceName, u64>>,
    dead: BTreeSet<NodeId>,
    boots: u64,
    ops: u64,
    now: WallTime,
    may_fail: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let config = config::parse(FILE).expect("a good file").config;
        let founder = Founder {
            name: NodeName::from("a"),
            role: NodeRole::Member,
            storage_uuid: "disk-a".into(),
            machine_id: "machine-a".into(),
        };
        let mut first = config.clone();
        first.nodes.retain(|name, _| name.as_str() == "a");
        first.resources.clear();
        first.groups.clear();
        let mut world = World {
            seed,
            state: founding(7, founder, "", first.clone(), WallTime(0)),
            dice: Dice(seed),
            running: BTreeMap::new(),
            dead: BTreeSet::new(),
            boots: 0,
            ops: 0,
            now: WallTime(1_000),
            may_fail: true,
        };
        for name in ["b", "c"] {
            let key = NodeName::from(name);
            first.nodes.insert(key.clone(), config.nodes[&key].clone());
            world.must(Command::Admit {
                name: key,
                role: NodeRole::Member,
                storage_uuid: format!("disk-{name}"),
                machine_id: format!("machine-{name}"),
                config_text: String::new(),
                config: Box::new(first.clone()),
                expected_version: world.state.config_version,
                token: None,
            });
        }
        world.must(Command::Configure {
            expected_version: world.state.config_version,
            text: FILE.into(),
            config: Box::new(config),
            reason: String::new(),
        });
        for node in world.nodes() {
            world.boot(node);
        }
        world.elect();
        world
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.state.members.keys().copied().collect()
    }

    fn apply(&mut self, command: Command) -> Result<(), state::Refusal> {
        self.now = WallTime(self.now.0 + 200);
        let index = LogIndex(self.state.applied.0 + 1);
        let entry = Entry { at: self.now, actor: "cluster".into(), command };
        let applied = apply(&mut self.state, index, &entry, Bugs::NONE);
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes).as_ref(), Ok(&entry));
        applied.verdict
    }

    fn must(&mut self, command: Command) {
        let told = format!("{command:?}");
        if let Err(refusal) = self.apply(command) {
            panic!("seed {}: {told} was refused: {refusal}", self.seed);
        }
    }

    fn boot(&mut self, node: NodeId) {
        self.boots += 1;
        let member = &self.state.members[&node];
        let command = Command::Join {
            node,
            incarnation: Incarnation(1_000 + self.boots),
            boot_id: format!("boot-{}", self.boots),
            machine_id: member.machine_id.clone(),
            storage_uuid: member.storage_uuid.clone(),
            last_term: Term(0),
            last_index: LogIndex(0),
            old_heard_recently: false,
        };
        self.running.insert(node, BTreeMap::new());
        self.dead.remove(&node);
        self.must(command);
    }

    /// The first node with power leads.
    fn elect(&mut self) {
        let node = self.nodes().into_iter().find(|node| !self.dead.contains(node)).expect("somebody lives");
        let incarnation = self.state.members[&node].incarnation;
        let term = Term(self.state.term.0 + 1);
        self.must(Command::Coordinator { node, incarnation, term });
    }

    fn crash(&mut self, node: NodeId) {
        if self.dead.len() == 1 || self.state.members[&node].state != MemberState::Online {
            return;
        }
        self.dead.insert(node);
        self.running.remove(&node);
        if node == self.state.coordinator {
            self.elect();
        }
        let incarnation = self.state.members[&node].incarnation;
        let reason = "it is lost".to_owned();
        self.must(Command::Condemn { node, incarnation, epoch: self.state.epoch, reason, is_for_silence: true });
    }

    fn fence(&mut self, node: NodeId) {
        let incarnation = self.state.members[&node].incarnation;
        let evidence = FenceEvidence {
            method: FenceMethod::Device(vec![FenceName::from("power")]),
            output: "off".into(),
            took_ms: 20,
        };
        let covers = BTreeSet::from([Domain::Storage, Domain::Network]);
        self.must(Command::FenceDone { node, incarnation, epoch: self.state.epoch, evidence, covers });
    }

    fn live(&self) -> Live {
        let lost = |node: &NodeId| self.dead.contains(node);
        let eligibility =
            |node| if lost(&node) { Eligibility::Lost { why: "is silent".into() } } else { Eligibility::Ready };
        let eligible = self.nodes().into_iter().map(|node| (node, eligibility(node))).collect();
        Live { eligible, now: self.now, closing: None, bugs: Bugs::NONE }
    }

    fn observe(&mut self, node: NodeId, resource: &ResourceName, to: ResourceState, is_failure: bool) {
        self.ops += 1;
        let digest = match to {
            ResourceState::Running => self.running[&node].get(resource).copied().unwrap_or(0),
            ResourceState::Unknown | ResourceState::Stopped | ResourceState::Failed | ResourceState::Blocked => 0,
        };
        let failure = is_failure.then(|| Failure { reason: "it broke".into(), is_permanent: false });
        let observation = Observation {
            resource: resource.clone(),
            op: OpId { epoch: self.state.epoch, index: self.ops },
            state: to,
            digest,
            failure,
            reason: String::new(),
            is_change: is_failure,
        };
        let incarnation = self.state.members[&node].incarnation;
        let epoch = self.state.epoch;
        self.must(Command::Observed { node, incarnation, epoch, observations: vec![observation] });
    }

    /// Carries out one step: what the kernel is asked it must accept.
    fn carry_out(&mut self, step: &Step) {
        let epoch = self.state.epoch;
        let (unit, node, reason) = (step.unit.clone(), step.node, step.reason.clone());
        let incarnation = self.state.members[&node].incarnation;
        let grant = self.state.holders.get(&unit).map(|holder| holder.grant);
        match &step.kind {
            StepKind::Grant => self.must(Command::Grant { unit, node, incarnation, epoch, reason }),
            StepKind::BeginRelease => {
                self.must(Command::BeginRelease { unit, grant: grant.expect("held"), epoch, reason });
            }
            StepKind::Release => {
                self.must(Command::Release { unit, node, incarnation, grant: grant.expect("held"), epoch });
            }
            StepKind::Probe(resource) => {
                let runs = self.running[&node].contains_key(resource);
                let found = if runs { ResourceState::Running } else { ResourceState::Stopped };
                self.observe(node, resource, found, false);
            }
            StepKind::Start(resource) => {
                let digest = self.state.config.resources[resource].parameters_digest();
                let fails = self.may_fail && self.dice.below(8) == 0;
                self.running.get_mut(&node).expect("powered").insert(resource.clone(), digest);
                self.check();
                let to = if fails { ResourceState::Failed } else { ResourceState::Running };
                self.observe(node, resource, to, fails);
            }
            StepKind::Stop(resource) => {
                self.running.get_mut(&node).expect("powered").remove(resource);
                self.observe(node, resource, ResourceState::Stopped, false);
            }
        }
    }

    /// One thing happens: mostly a step of the plan, at times something nobody asked for.
    fn happen(&mut self) {
        let nodes = self.nodes();
        let node = nodes[usize::try_from(self.dice.below(nodes.len() as u64)).expect("small")];
        let unit = UnitName::from(["site", "db", "cache"][usize::try_from(self.dice.below(3)).expect("small")]);
        match self.dice.below(60) {
            0 => self.crash(node),
            1 | 2 => match self.state.members[&node].state {
                MemberState::Condemned => self.fence(node),
                MemberState::Fenced => self.boot(node),
                MemberState::Absent | MemberState::Online | MemberState::Left => {}
            },
            3 => drop(self.apply(Command::Act { action: ActionKind::Standby(node), reason: String::new() })),
            4 => drop(self.apply(Command::Undo { action: ActionKind::Standby(node), reason: String::new() })),
            5 => drop(self.apply(Command::Act { action: ActionKind::Move(unit, node), reason: String::new() })),
            6 => drop(self.apply(Command::Act { action: ActionKind::Stop(unit), reason: String::new() })),
            7 => drop(self.apply(Command::Undo { action: ActionKind::Stop(unit), reason: String::new() })),
            8 => drop(self.apply(Command::Clear { resource: None, node: None, reason: String::new() })),
            9 => self.reconfigure(),
            10 => {
                let some = self.running.get(&node).and_then(|running| running.keys().next().cloned());
                if let Some(resource) = some {
                    self.observe(node, &resource, ResourceState::Failed, true);
                }
            }
            11 => self.elect(),
            12 if self.state.members[&node].state == MemberState::Online => {
                let resource = ResourceName::from("cache");
                let holder = self.state.holders.get(&UnitName::from("cache")).map(|holder| holder.node);
                if holder != Some(node)
                    && self.state.config.resources.contains_key(&resource)
                    && !self.dead.contains(&node)
                {
                    self.running.get_mut(&node).expect("powered").insert(resource.clone(), 1);
                    self.observe(node, &resource, ResourceState::Running, false);
                }
            }
            _ => drop(self.step()),
        }
    }

    /// Begins one of the steps that wait for nothing; `false` if there is none.
    fn step(&mut self) -> bool {
        let plan = plan(&self.state, &self.live());
        let ready: Vec<&Step> = plan.steps.iter().filter(|step| step.after.is_empty()).collect();
        assert!(plan.steps.is_empty() || !ready.is_empty(), "seed {}: steps wait for each other: {plan:?}", self.seed);
        for step in &plan.steps {
            assert!(step.after.iter().all(|position| *position < plan.steps.len()), "seed {}: {step:?}", self.seed);
            assert!(!self.dead.contains(&step.node), "seed {}: {step:?} on a dead node", self.seed);
        }
        if ready.is_empty() {
            return false;
        }
        let step = ready[usize::try_from(self.dice.below(ready.len() as u64)).expect("small")].clone();
        self.carry_out(&step);
        true
    }

    /// An operator changes a parameter, or removes or adds the resource `db`.
    fn reconfigure(&mut self) {
        let mut config: ClusterConfig = self.state.config.clone();
        let db = ResourceName::from("db");
        if self.dice.below(2) == 0 {
            let value = ParameterValue::Text(self.dice.below(1_000).to_string());
            if let Some(resource) = config.resources.get_mut(&ResourceName::from("address")) {
                resource.parameters.insert("ip".into(), value);
            }
        } else if config.resources.remove(&db).is_none() {
            config
                .resources
                .insert(db.clone(), config::parse(FILE).expect("a good file").config.resources[&db].clone());
        }
        let expected_version = self.state.config_version;
        drop(self.apply(Command::Configure {
            expected_version,
            text: String::new(),
            config: Box::new(config),
            reason: String::new(),
        }));
    }

    /// No exclusive resource runs twice.
    fn check(&self) {
        for resource in ["address", "web", "db"].map(ResourceName::from) {
            let nodes: Vec<&NodeId> =
                self.running.iter().filter(|(_, running)| running.contains_key(&resource)).map(|(id, _)| id).collect();
            assert!(nodes.len() <= 1, "seed {}: {resource} runs on {nodes:?}", self.seed);
        }
    }

    /// Everything is repaired and every wish taken back; then the cluster comes to rest with everything running.
    fn heal(&mut self) {
        self.may_fail = false;
        for node in self.nodes() {
            if self.state.members[&node].state == MemberState::Condemned {
                self.fence(node);
            }
            if self.state.members[&node].state == MemberState::Fenced {
                self.boot(node);
            }
        }
        for action in self.state.actions.values().map(|action| action.kind.clone()).collect::<Vec<_>>() {
            self.must(Command::Undo { action, reason: String::new() });
        }
        self.must(Command::Clear { resource: None, node: None, reason: String::new() });
        let mut steps = 0;
        while self.step() {
            self.check();
            steps += 1;
            assert!(
                steps < 200,
                "seed {}: no rest after {steps} steps: {:?}",
                self.seed,
                plan(&self.state, &self.live())
            );
        }
        let plan = plan(&self.state, &self.live());
        let has_db = self.state.config.resources.contains_key(&ResourceName::from("db"));
        for (unit, decision) in &plan.decisions {
            assert!(decision.node.is_some(), "seed {}: {unit} does not run: {}", self.seed, decision.reason);
        }
        for (unit, wanted) in self.state.config.units() {
            let holder = &self.state.holders[&unit];
            for resource in wanted.members {
                assert!(self.running[&holder.node].contains_key(resource), "seed {}: {resource} is down", self.seed);
            }
        }
        if has_db {
            assert_eq!(self.state.holders[&UnitName::from("db")].node.0, 3, "seed {}: db goes home", self.seed);
        }
        let total: usize = self.running.values().map(BTreeMap::len).sum();
        assert_eq!(total, self.state.config.resources.len(), "seed {}: orphans remain", self.seed);
    }
}

/// Whatever happened: once all is repaired, a bounded number of steps leads to everything running once.
#[test]
fn after_any_history_the_cluster_comes_to_rest_with_everything_running_once() {
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..5 {
            for _ in 0..60 {
                world.happen();
                world.check();
            }
            world.heal();
        }
    }
}
