//! How does a cluster come to be? As a real one: founded on the first machine, the others admitted one by one, and
//! then told what to run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use model::{
    AgentName, Bugs, Class, ClusterConfig, ConfigVersion, Domain, FenceConfig, FenceName, GroupConfig, MonitorConfig,
    NetworkConfig, NodeConfig, NodeId, NodeName, NodeRole, ParameterValue, Placement, Profile, ResourceConfig,
    ResourceName, Timeouts, WallTime,
};
use node::{Answer, Request};
use state::{Command, Founder};

use crate::clock::SECONDS;
use crate::file::as_file;
use crate::world::{CLUSTER, World};

/// The names of machines, in their order.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Machines that run resources; at most 6.
    pub members: usize,
    /// One more that only votes.
    pub has_witness: bool,
    /// The set of timers.
    pub profile: Profile,
    /// Networks between them.
    pub links: usize,
    /// All networks are one failure domain.
    pub is_one_domain: bool,
    /// Machines that are there, and no members yet.
    pub late: usize,
    /// Fence devices of every node, tried in this order; each of its own.
    pub levels: usize,
    /// Power switches turn a machine on again by themselves, some seconds after they turned it off.
    pub switches_turn_on: bool,
    /// What each level covers; without one: everything.
    pub covers: Vec<BTreeSet<Domain>>,
    /// What is kept running.
    pub resources: BTreeMap<ResourceName, ResourceConfig>,
    /// Resources that run together.
    pub groups: BTreeMap<model::GroupName, GroupConfig>,
    /// The feature level of the program that founded the cluster.
    pub level: u8,
    /// Machines on which an older program is installed, of feature level 0.
    pub older: BTreeSet<usize>,
    /// The cluster file, if it is a given one; it says what the fields above leave open.
    pub file: Option<String>,
}

impl Layout {
    /// Machines, two networks, one fence device, nothing to run.
    pub fn of(members: usize) -> Self {
        Layout {
            members,
            has_witness: false,
            profile: Profile::Lan,
            links: 2,
            is_one_domain: false,
            late: 0,
            levels: 1,
            switches_turn_on: true,
            covers: Vec::new(),
            resources: BTreeMap::new(),
            groups: BTreeMap::new(),
            level: state::LEVEL,
            older: BTreeSet::new(),
            file: None,
        }
    }

    /// The machines that this cluster file speaks of, which runs on them.
    ///
    /// # Panics
    /// If the file is refused, or its nodes are not `a`, `b`, … and perhaps the witness `w`.
    pub fn of_file(text: &str) -> Self {
        let config = config::parse(text).unwrap_or_else(|findings| panic!("{:?}", findings.first())).config;
        let members = config.nodes.values().filter(|node| node.role == NodeRole::Member).count();
        let layout = Layout {
            has_witness: members < config.nodes.len(),
            links: config.nodes.values().map(|node| node.links.len()).max().unwrap_or(0),
            profile: config.profile,
            file: Some(text.to_owned()),
            ..Layout::of(members)
        };
        let names: BTreeSet<NodeName> = layout.machines().into_iter().map(|(name, _)| name.into()).collect();
        assert!(config.nodes.keys().all(|name| names.contains(name)), "nodes are a, b, … and w");
        layout
    }

    /// All machines, by name and role; the last `late` ones are not admitted when the cluster comes up.
    pub fn machines(&self) -> Vec<(&'static str, NodeRole)> {
        let members = NAMES.iter().take(self.members).map(|name| (*name, NodeRole::Member));
        members.chain(self.has_witness.then_some(("w", NodeRole::Witness))).collect()
    }

    /// Adds a resource; a native one is noticed at once when it dies.
    pub fn add(&mut self, name: &str, is_native: bool, class: Class, placement: Placement) {
        let agent = if is_native {
            AgentName::Native("process".to_owned())
        } else {
            AgentName::Ocf { provider: "heartbeat".to_owned(), name: "Dummy".to_owned() }
        };
        // What a native agent runs; the other one needs nothing.
        let parameters = if is_native {
            BTreeMap::from([("command".to_owned(), ParameterValue::Text(format!("[\"/usr/bin/{name}\"]")))])
        } else {
            BTreeMap::new()
        };
        let config = ResourceConfig {
            agent,
            class,
            domains: BTreeSet::from([Domain::Storage, Domain::Network]),
            parameters,
            monitor: MonitorConfig { every: Duration::from_secs(2), timeout: Duration::from_secs(2) },
            timeouts: Timeouts { start: Duration::from_secs(4), stop: Duration::from_secs(3) },
            failures_max: 3,
            placement,
            needs: BTreeMap::new(),
            failures_forgotten_after: None,
        };
        self.resources.insert(name.into(), config);
    }

    /// Lets failures of a resource be forgotten after a while.
    pub fn forget_failures(&mut self, name: &str, after: Option<Duration>) {
        if let Some(resource) = self.resources.get_mut(&ResourceName::from(name)) {
            resource.failures_forgotten_after = after;
        }
    }

    /// Lets resources run together.
    pub fn group(&mut self, name: &str, members: &[&str]) {
        let members = members.iter().map(|member| ResourceName::from(*member)).collect();
        self.groups.insert(name.into(), GroupConfig { members, placement: Placement::default() });
    }

    /// The cluster file for the first `count` machines, with or without what is to run.
    pub fn config(&self, count: usize, is_whole: bool) -> ClusterConfig {
        if let Some(text) = &self.file {
            let mut config = config::parse(text).expect("the file was read before").config;
            let present: Vec<NodeName> = self.machines().into_iter().take(count).map(|(name, _)| name.into()).collect();
            config.nodes.retain(|name, _| present.contains(name));
            if !is_whole {
                config.resources.clear();
                config.groups.clear();
                config.choose_first.clear();
            }
            return config;
        }
        let devices: Vec<FenceName> = (1..=self.levels).map(|level| FenceName(format!("power{level}"))).collect();
        let node = |place: usize, role: NodeRole| NodeConfig {
            links: (0..self.links)
                .map(|link| IpAddr::V4(Ipv4Addr::new(10, 0, link as u8 + 1, place as u8 + 1)))
                .collect(),
            role,
            // A witness runs nothing that could do harm.
            fence: if role == NodeRole::Witness { Vec::new() } else { devices.clone() },
            ..NodeConfig::default()
        };
        let device = |level: usize| FenceConfig {
            agent: "fence_lab".to_owned(),
            parameters: BTreeMap::new(),
            covers: self.covers.get(level).cloned().unwrap_or(BTreeSet::from([Domain::Storage, Domain::Network])),
            timeout: Duration::from_secs(2),
            plugs: BTreeMap::new(),
            after_fence: None,
        };
        let domain = |link: usize| {
            (
                link as u8 + 1,
                NetworkConfig { domain: if self.is_one_domain { "one".into() } else { format!("net{link}") } },
            )
        };
        ClusterConfig {
            name: "sim".to_owned(),
            profile: self.profile,
            nodes: self
                .machines()
                .into_iter()
                .take(count)
                .enumerate()
                .map(|(place, (name, role))| (NodeName::from(name), node(place, role)))
                .collect(),
            networks: (0..self.links).map(domain).collect(),
            fence_devices: devices.iter().enumerate().map(|(level, name)| (name.clone(), device(level))).collect(),
            resources: if is_whole { self.resources.clone() } else { BTreeMap::new() },
            groups: if is_whole { self.groups.clone() } else { BTreeMap::new() },
            ..ClusterConfig::default()
        }
    }

    /// A world in which this cluster is up, complete and runs what it should; `Err`: it did not come to that.
    pub fn build(&self, seed: u64, bugs: Bugs, reference_bugs: Bugs, is_told: bool) -> Result<World, Box<World>> {
        let mut world = World::new(seed, self.machines(), self.links, self.profile, bugs, reference_bugs, is_told);
        let config = self.config(self.machines().len(), false);
        let of = |(name, _): (&str, _)| config.nodes[&NodeName::from(name)].clone();
        world.node_configs = self.machines().into_iter().map(of).collect();
        for (m, machine) in world.machines.iter_mut().enumerate() {
            machine.addresses = world.node_configs[m].links.iter().copied().collect();
            machine.level = if self.older.contains(&m) { 0 } else { state::LEVEL };
        }
        if self.found(&mut world) && self.admit_others(&mut world) && self.configure(&mut world) {
            world.watch.begin_term_watch();
            Ok(world)
        } else {
            if world.violation().is_none() {
                let why = crate::invariants::what_is_missing(&world).unwrap_or_else(|| "it took too long".to_owned());
                world.violate("recovers", format!("the cluster did not come up: {why}"));
            }
            Err(Box::new(world))
        }
    }

    fn found(&self, world: &mut World) -> bool {
        let (name, role) = self.machines()[0];
        let founder = Founder {
            name: name.into(),
            role,
            storage_uuid: format!("disk-{name}"),
            machine_id: format!("machine-{name}"),
        };
        let mut begin = state::founding(CLUSTER, founder, "", self.config(1, false), WallTime(0));
        begin.level = if self.older.contains(&0) { 0 } else { self.level };
        let writes = consensus::founding(state::encode_snapshot(&begin), NodeId(1));
        world.watch.agreed.found(begin);
        world.install(0, NodeId(1), writes);
        world.run_while_not(10 * SECONDS, |world| {
            world.leader().and_then(|leader| world.node(leader)).is_some_and(|node| is_online(node, NodeId(1)))
        })
    }

    fn admit_others(&self, world: &mut World) -> bool {
        let mut machines = self.machines();
        machines.truncate(machines.len() - self.late);
        for (m, (name, role)) in machines.iter().enumerate().skip(1) {
            let command = |version| Command::Admit {
                name: (*name).into(),
                role: *role,
                storage_uuid: format!("disk-{name}"),
                machine_id: format!("machine-{name}"),
                config_text: String::new(),
                config: Box::new(self.config(m + 1, false)),
                expected_version: version,
                token: None,
            };
            if ask(world, command).is_none() {
                return false;
            }
        }
        let wanted = quorum::voter_target(machines.len());
        world.run_while_not(20 * SECONDS, |world| {
            world.leader().and_then(|leader| world.node(leader)).is_some_and(|node| {
                world.by_id.keys().all(|id| is_online(node, *id)) && node.consensus().voters().len() == wanted
            })
        })
    }

    fn configure(&self, world: &mut World) -> bool {
        let config = self.config(self.machines().len() - self.late, true);
        let (text, config) = match self.file.clone().map_or_else(|| as_file(&config), |text| Ok((text, config.clone())))
        {
            Ok(file) => file,
            Err(why) => panic!("no operator can have this cluster file: {why}"),
        };
        let cannot_run = config.units().values().any(|unit| unit.placement.not_run_yet().is_some());
        let command = |version| Command::Configure {
            expected_version: version,
            text: text.clone(),
            config: Box::new(config.clone()),
            reason: "a new cluster".to_owned(),
        };
        if cannot_run {
            // Some of it can be planned only: the rest has its time.
            let is_taken = ask(world, command).is_some();
            world.run_until(world.now() + 5 * SECONDS);
            return is_taken && world.violation().is_none();
        }
        ask(world, command).is_some()
            && world.run_while_not(20 * SECONDS, |world| crate::invariants::what_is_missing(world).is_none())
    }
}

/// Asks the leader for a change, until one takes it; its log index.
fn ask(world: &mut World, command: impl Fn(ConfigVersion) -> Command) -> Option<u64> {
    for _ in 0..20 {
        let Some(leader) = world.leader() else {
            world.run_until(world.now() + SECONDS / 4);
            continue;
        };
        let version = world.node(leader).map_or(ConfigVersion(0), |node| node.state().config_version);
        let id = world.request(leader, Request::Propose(Box::new(command(version))));
        world.run_while_not(2 * SECONDS, |world| world.answers.contains_key(&id));
        if let Some(Answer::Done { index }) = world.answers.remove(&id) {
            return Some(index);
        }
    }
    None
}

fn is_online(node: &node::Node, id: NodeId) -> bool {
    node.state().members.get(&id).is_some_and(|member| member.state == model::MemberState::Online)
}
