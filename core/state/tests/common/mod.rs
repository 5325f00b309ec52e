//! A small cluster for stories: members a, b, c and the witness w; the units `site` (address, web), `db`, `cache`.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{
    AgentName, Bugs, Class, ClusterConfig, ClusterState, Domain, Epoch, FenceConfig, FenceEvidence, FenceMethod,
    FenceName, GrantId, GroupConfig, GroupName, HolderState, Incarnation, LogIndex, MonitorConfig, NodeConfig, NodeId,
    NodeName, NodeRole, OpId, Placement, ResourceConfig, ResourceName, ResourceState, Term, Timeouts, UnitName,
    WallTime,
};
use state::{Applied, Command, Entry, Failure, Founder, Observation, Refusal, apply, founding};

pub const A: NodeId = NodeId(1);
pub const B: NodeId = NodeId(2);
pub const C: NodeId = NodeId(3);
pub const W: NodeId = NodeId(4);

pub fn resource(class: Class) -> ResourceConfig {
    ResourceConfig {
        agent: AgentName::Native("process".into()),
        class,
        domains: BTreeSet::from([Domain::Storage, Domain::Network]),
        parameters: BTreeMap::new(),
        monitor: MonitorConfig { every: Duration::from_secs(10), timeout: Duration::from_secs(20) },
        timeouts: Timeouts { start: Duration::from_secs(20), stop: Duration::from_secs(20) },
        failures_max: 3,
        placement: Placement::default(),
        needs: BTreeMap::new(),
        failures_forgotten_after: None,
    }
}

pub fn file(nodes: &[&str]) -> ClusterConfig {
    let device = |covers: &[Domain]| FenceConfig {
        agent: "fence_lab".into(),
        parameters: BTreeMap::new(),
        covers: covers.iter().copied().collect(),
        timeout: Duration::from_secs(20),
        plugs: BTreeMap::new(),
        after_fence: None,
    };
    let node = |name: &str| NodeConfig {
        links: vec![],
        role: if name == "w" { NodeRole::Witness } else { NodeRole::Member },
        fence: vec![FenceName::from("disk"), FenceName::from("power")],
        ..NodeConfig::default()
    };
    ClusterConfig {
        name: "shop".into(),
        nodes: nodes.iter().map(|name| (NodeName::from(*name), node(name))).collect(),
        fence_devices: BTreeMap::from([
            (FenceName::from("disk"), device(&[Domain::Storage])),
            (FenceName::from("power"), device(&[Domain::Storage, Domain::Network])),
            (FenceName::from("foreign"), device(&[Domain::Storage, Domain::Network])),
        ]),
        resources: BTreeMap::from([
            (ResourceName::from("address"), resource(Class::Exclusive)),
            (ResourceName::from("web"), resource(Class::Exclusive)),
            (
                ResourceName::from("db"),
                ResourceConfig { domains: BTreeSet::from([Domain::Storage]), ..resource(Class::Exclusive) },
            ),
            (ResourceName::from("cache"), resource(Class::BestEffort)),
        ]),
        groups: BTreeMap::from([(
            GroupName::from("site"),
            GroupConfig {
                members: vec![ResourceName::from("address"), ResourceName::from("web")],
                placement: Placement::default(),
            },
        )]),
        ..ClusterConfig::default()
    }
}

/// A cluster under test: its state, and what the tests say to it.
pub struct Cluster {
    pub state: ClusterState,
    pub now: WallTime,
    pub bugs: Bugs,
    pub ops: u64,
}

impl Cluster {
    /// Admitted, joined, led by a; nothing has been probed.
    pub fn unprobed() -> Cluster {
        let founder = Founder {
            name: "a".into(),
            role: NodeRole::Member,
            storage_uuid: "disk-a".into(),
            machine_id: "machine-a".into(),
        };
        let state = founding(7, founder, "one", file(&["a"]), WallTime(0));
        let mut cluster = Cluster { state, now: WallTime(1_000), bugs: Bugs::NONE, ops: 0 };
        let mut names = vec!["a"];
        for name in ["b", "c", "w"] {
            names.push(name);
            let command = cluster.admit(name, &names);
            cluster.must(command);
        }
        for node in [A, B, C, W] {
            let command = cluster.join(node, 1);
            cluster.must(command);
        }
        cluster.must(Command::Coordinator { node: A, incarnation: incarnation(A, 1), term: Term(1) });
        cluster
    }

    /// The same with everything known to be stopped.
    pub fn ready() -> Cluster {
        let mut cluster = Cluster::unprobed();
        for node in [A, B, C] {
            for resource in ["address", "web", "db", "cache"] {
                cluster.see(node, resource, ResourceState::Stopped);
            }
        }
        cluster
    }

    pub fn apply_by(&mut self, actor: &str, command: Command) -> Applied {
        let entry = Entry { at: self.now, actor: actor.into(), command };
        assert_eq!(Entry::decode(&entry.encode()).as_ref(), Ok(&entry));
        let next = LogIndex(self.state.applied.0 + 1);
        apply(&mut self.state, next, &entry, self.bugs)
    }

    pub fn apply(&mut self, command: Command) -> Result<(), Refusal> {
        self.apply_by("cluster", command).verdict
    }

    #[track_caller]
    pub fn must(&mut self, command: Command) {
        let told = format!("{command:?}");
        if let Err(refusal) = self.apply(command) {
            panic!("{told} was refused: {refusal}");
        }
    }

    /// The command must be refused, change nothing, and be counted; the refusal as text.
    #[track_caller]
    pub fn refused(&mut self, command: Command) -> String {
        let before = self.state.clone();
        let refusal = self.apply(command).expect_err("a refusal").to_string();
        let counted = ClusterState { refused: before.refused + 1, applied: LogIndex(before.applied.0 + 1), ..before };
        assert_eq!(self.state, counted, "a refused command changes nothing but the counter");
        refusal
    }

    pub fn admit(&self, name: &str, names: &[&str]) -> Command {
        Command::Admit {
            name: name.into(),
            role: if name == "w" { NodeRole::Witness } else { NodeRole::Member },
            storage_uuid: format!("disk-{name}"),
            machine_id: format!("machine-{name}"),
            config_text: names.join(" "),
            config: Box::new(file(names)),
            expected_version: self.state.config_version,
            token: None,
        }
    }

    /// The Join of a node's `boot`-th life on its own machine and storage.
    pub fn join(&self, node: NodeId, boot: u64) -> Command {
        let member = &self.state.members[&node];
        Command::Join {
            node,
            incarnation: incarnation(node, boot),
            boot_id: format!("boot-{node}-{boot}"),
            machine_id: member.machine_id.clone(),
            storage_uuid: member.storage_uuid.clone(),
            last_term: Term(1),
            last_index: LogIndex(1),
            old_heard_recently: false,
        }
    }

    pub fn epoch(&self) -> Epoch {
        self.state.epoch
    }

    pub fn grant(&self, unit: &str, node: NodeId) -> Command {
        Command::Grant {
            unit: unit.into(),
            node,
            incarnation: self.state.members[&node].incarnation,
            epoch: self.epoch(),
            reason: "it fits".into(),
        }
    }

    pub fn begin_release(&self, unit: &str) -> Command {
        Command::BeginRelease {
            unit: unit.into(),
            grant: self.grant_of(unit),
            epoch: self.epoch(),
            reason: "it moves".into(),
        }
    }

    pub fn release(&self, unit: &str) -> Command {
        let holder = &self.state.holders[&UnitName::from(unit)];
        Command::Release {
            unit: unit.into(),
            node: holder.node,
            incarnation: holder.incarnation,
            grant: holder.grant,
            epoch: self.epoch(),
        }
    }

    pub fn block(&self, unit: &str) -> Command {
        Command::Block { unit: unit.into(), grant: self.grant_of(unit), epoch: self.epoch(), why: "busy".into() }
    }

    pub fn condemn(&self, node: NodeId) -> Command {
        let incarnation = self.state.members[&node].incarnation;
        Command::Condemn { node, incarnation, epoch: self.epoch(), reason: "silent".into(), is_for_silence: true }
    }

    pub fn fence_done(&self, node: NodeId, device: &str, covers: &[Domain]) -> Command {
        Command::FenceDone {
            node,
            incarnation: self.state.members[&node].incarnation,
            epoch: self.epoch(),
            evidence: FenceEvidence {
                method: FenceMethod::Device(vec![device.into()]),
                output: "off".into(),
                took_ms: 20,
            },
            covers: covers.iter().copied().collect(),
        }
    }

    pub fn confirm(&self, node: NodeId) -> Command {
        let incarnation = self.state.members[&node].incarnation;
        Command::ManualConfirm { node, incarnation, reason: "I pulled the plug".into() }
    }

    pub fn observation(&mut self, resource: &str, to: ResourceState) -> Observation {
        self.ops += 1;
        Observation {
            resource: resource.into(),
            op: OpId { epoch: self.epoch(), index: self.ops },
            state: to,
            digest: 0,
            failure: None,
            reason: String::new(),
            is_change: false,
        }
    }

    pub fn observed(&self, node: NodeId, observation: Observation) -> Command {
        Command::Observed {
            node,
            incarnation: self.state.members[&node].incarnation,
            epoch: self.epoch(),
            observations: vec![observation],
        }
    }

    #[track_caller]
    pub fn see(&mut self, node: NodeId, resource: &str, to: ResourceState) {
        let observation = self.observation(resource, to);
        let command = self.observed(node, observation);
        self.must(command);
    }

    #[track_caller]
    pub fn see_failure(&mut self, node: NodeId, resource: &str, is_permanent: bool) {
        let failure = Some(Failure { reason: "it broke".into(), is_permanent });
        let observation = Observation { failure, ..self.observation(resource, ResourceState::Failed) };
        let command = self.observed(node, observation);
        self.must(command);
    }

    /// Granted to the node, and everything of it runs there.
    #[track_caller]
    pub fn run(&mut self, unit: &str, node: NodeId) {
        let command = self.grant(unit, node);
        self.must(command);
        for resource in self.resources(unit) {
            self.see(node, &resource, ResourceState::Running);
        }
    }

    pub fn resources(&self, unit: &str) -> Vec<String> {
        self.state.config.members_of(&unit.into()).into_iter().map(|resource| resource.0.clone()).collect()
    }

    pub fn holder(&self, unit: &str) -> Option<NodeId> {
        self.state.holders.get(&UnitName::from(unit)).map(|holder| holder.node)
    }

    pub fn holder_state(&self, unit: &str) -> &HolderState {
        &self.state.holders[&UnitName::from(unit)].state
    }

    pub fn grant_of(&self, unit: &str) -> GrantId {
        self.state.holders[&UnitName::from(unit)].grant
    }

    pub fn knows(&self, resource: &str, node: NodeId) -> ResourceState {
        self.state.known_state(&resource.into(), node)
    }

    pub fn last_event(&self) -> String {
        let event = self.state.history.back().expect("a history");
        format!("{} {}: {}", event.event, event.subject, event.reason)
    }
}

pub fn incarnation(node: NodeId, boot: u64) -> Incarnation {
    Incarnation(node.0 * 100 + boot)
}
