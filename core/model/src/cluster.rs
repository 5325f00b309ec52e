//! What is wanted? The cluster file, parsed and checked: nodes, fence devices, resources, groups.
//!
//! `core/config` makes this from TOML and guarantees that every name it mentions exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::leaning::{Copies, Leaning, Sequence, Spread, TicketNeed};
use crate::{FenceName, GroupName, NodeName, ResourceName, UnitName};

/// The whole cluster file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ClusterConfig {
    /// The cluster's name.
    #[n(0)]
    pub name: String,
    /// The set of timers.
    #[n(1)]
    pub profile: Profile,
    /// The members by name.
    #[n(2)]
    pub nodes: BTreeMap<NodeName, NodeConfig>,
    /// Networks that say more than their position: number (from 1) to settings.
    #[n(3)]
    pub networks: BTreeMap<u8, NetworkConfig>,
    /// Devices that can cut nodes off.
    #[n(4)]
    pub fence_devices: BTreeMap<FenceName, FenceConfig>,
    /// What is kept running.
    #[n(5)]
    pub resources: BTreeMap<ResourceName, ResourceConfig>,
    /// Resources that run together.
    #[n(6)]
    pub groups: BTreeMap<GroupName, GroupConfig>,
    /// How load is spread; none: by capacity if a resource says what it needs, else evenly.
    #[n(7)]
    pub spread: Option<Spread>,
    /// Units that choose before others of their priority, in this order; the others follow by name.
    #[n(8)]
    #[cbor(default)]
    pub choose_first: Vec<UnitName>,
}

/// Which set of timers a cluster uses (SAFETY §0.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// One site, millisecond round trips.
    #[default]
    #[n(0)]
    Lan,
    /// Virtual machines that pause now and then.
    #[n(1)]
    Cloud,
    /// Several sites.
    #[n(2)]
    Wan,
}

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct NodeConfig {
    /// One address per network; the position is the network.
    #[n(0)]
    pub links: Vec<IpAddr>,
    /// Member or witness.
    #[n(1)]
    pub role: NodeRole,
    /// Devices that cut this node off, tried in this order.
    #[n(2)]
    pub fence: Vec<FenceName>,
    /// How much of everything it has, by name: `memory`, `cpu`, …
    #[n(3)]
    #[cbor(default)]
    pub capacity: BTreeMap<String, u32>,
    /// What else is known of it, such as its `rack`.
    #[n(4)]
    #[cbor(default)]
    pub attributes: BTreeMap<String, String>,
}

/// What a node does in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Votes and runs resources.
    #[default]
    #[n(0)]
    Member,
    /// Votes, runs nothing.
    #[n(1)]
    Witness,
}

/// Settings of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// The failure domain; networks of one domain count as one (SAFETY §1.5).
    #[n(0)]
    pub domain: String,
}

/// A device that cuts a node off.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct FenceConfig {
    /// A fence agent: a name looked up in /usr/sbin, or an absolute path.
    #[n(0)]
    pub agent: String,
    /// What the agent is told on standard input.
    #[n(1)]
    pub parameters: BTreeMap<String, ParameterValue>,
    /// What a node cut off by it can no longer touch.
    #[n(2)]
    pub covers: BTreeSet<Domain>,
    /// Limit of one call of the agent.
    #[n(3)]
    pub timeout: Duration,
    /// What the device calls a node, where that is not the node's name: node to plug.
    #[n(4)]
    pub plugs: BTreeMap<NodeName, String>,
    /// What happens to a node once it is proven off; none: it follows from what the device covers.
    #[n(5)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_fence: Option<AfterFence>,
}

impl FenceConfig {
    /// Is a node that is proven off switched on again, so that it boots and returns by itself?
    ///
    /// Only what ends the whole machine may do so by default. A machine that has lost a part goes on running: it must
    /// have booted anew before it gets that part back, and nobody but a person can tell.
    pub fn switches_on(&self) -> bool {
        let is_whole = self.covers.contains(&Domain::Storage) && self.covers.contains(&Domain::Network);
        match self.after_fence {
            Some(AfterFence::On) => is_whole,
            Some(AfterFence::Off) => false,
            None => is_whole,
        }
    }
}

/// What happens to a node once it is proven off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterFence {
    /// It is switched on again.
    #[n(0)]
    On,
    /// It stays off until somebody switches it on.
    #[n(1)]
    Off,
}

/// A parameter of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ParameterValue {
    /// As written.
    #[n(0)]
    Text(#[n(0)] String),
    /// The content of this file on the node that calls the agent, trailing newline removed.
    #[n(1)]
    File {
        /// Absolute path.
        #[n(0)]
        file: String,
    },
}

/// What a resource can damage when it runs twice, and what a fence device protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// Data that both nodes could write.
    #[n(0)]
    Storage,
    /// Addresses and whatever answers on them.
    #[n(1)]
    Network,
}

/// May a resource run twice?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Never.
    #[default]
    #[n(0)]
    Exclusive,
    /// A duplicate for a while is tolerable: it may move on a verdict alone.
    #[n(1)]
    BestEffort,
}

/// The program that knows how to start, stop and monitor a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AgentName {
    /// Built in: `cardea:ip`, `cardea:process`.
    #[n(0)]
    Native(#[n(0)] String),
    /// `ocf:PROVIDER:NAME`.
    #[n(1)]
    Ocf {
        /// For example `heartbeat`.
        #[n(0)]
        provider: String,
        /// For example `IPaddr2`.
        #[n(1)]
        name: String,
    },
    /// Of another standard, such as `systemd:nginx` and `lsb:named`: can be planned with, not run.
    #[n(2)]
    Other {
        /// `systemd`, `lsb`, `service`, …
        #[n(0)]
        standard: String,
        /// What that standard calls it.
        #[n(1)]
        name: String,
    },
}

/// As [`AgentName`] is written in the log.
#[derive(Decode)]
enum WrittenAgentName {
    #[n(0)]
    Native(#[n(0)] String),
    #[n(1)]
    Ocf {
        #[n(0)]
        provider: String,
        #[n(1)]
        name: String,
    },
    #[n(2)]
    Other {
        #[n(0)]
        standard: String,
        #[n(1)]
        name: String,
    },
}

/// A name from the log or the network names an agent in the agents' folder, or nothing.
impl<'b, C> Decode<'b, C> for AgentName {
    fn decode(decoder: &mut minicbor::Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        let written = match WrittenAgentName::decode(decoder, context)? {
            WrittenAgentName::Native(name) => AgentName::Native(name),
            WrittenAgentName::Ocf { provider, name } => AgentName::Ocf { provider, name },
            WrittenAgentName::Other { standard, name } => AgentName::Other { standard, name },
        };
        match AgentName::try_from(written.to_string()) {
            Ok(name) if name == written => Ok(name),
            Ok(_) | Err(_) => Err(minicbor::decode::Error::message("not the name of an agent")),
        }
    }
}

/// Standards of agents that are known by name and not run.
const OTHER_STANDARDS: [&str; 6] = ["systemd", "lsb", "service", "heartbeat", "upstart", "nagios"];

/// Why a text is not the name of an agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an agent: write `cardea:NAME` or `ocf:PROVIDER:NAME`")]
pub struct AgentNameError(pub String);

impl TryFrom<String> for AgentName {
    type Error = AgentNameError;
    fn try_from(text: String) -> Result<Self, AgentNameError> {
        let is_word = |word: &str| {
            !word.is_empty()
                && !word.starts_with('.')
                && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        if let Some((standard, name)) = text.split_once(':')
            && OTHER_STANDARDS.contains(&standard)
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_graphic())
        {
            return Ok(AgentName::Other { standard: standard.to_owned(), name: name.to_owned() });
        }
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            ["cardea", name] if is_word(name) => Ok(AgentName::Native((*name).to_owned())),
            ["ocf", provider, name] if is_word(provider) && is_word(name) => {
                Ok(AgentName::Ocf { provider: (*provider).to_owned(), name: (*name).to_owned() })
            }
            _ => Err(AgentNameError(text)),
        }
    }
}

impl From<AgentName> for String {
    fn from(agent: AgentName) -> String {
        agent.to_string()
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AgentName::Native(name) => write!(f, "cardea:{name}"),
            AgentName::Ocf { provider, name } => write!(f, "ocf:{provider}:{name}"),
            AgentName::Other { standard, name } => write!(f, "{standard}:{name}"),
        }
    }
}

/// One thing that is kept running.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ResourceConfig {
    /// The agent.
    #[n(0)]
    pub agent: AgentName,
    /// May it run twice?
    #[n(1)]
    pub class: Class,
    /// What it can damage when it runs twice.
    #[n(2)]
    pub domains: BTreeSet<Domain>,
    /// What the agent is told.
    #[n(3)]
    pub parameters: BTreeMap<String, ParameterValue>,
    /// The recurring check.
    #[n(4)]
    pub monitor: MonitorConfig,
    /// Limits of start and stop.
    #[n(5)]
    pub timeouts: Timeouts,
    /// Failures on one node after which it may not run there until cleared; at least 1.
    #[n(6)]
    pub failures_max: u32,
    /// Where it runs; only for a resource in no group.
    #[n(7)]
    pub placement: Placement,
    /// How much of a node's capacity it takes, by name.
    #[n(8)]
    #[cbor(default)]
    pub needs: BTreeMap<String, u32>,
    /// Failures are forgotten when so much time has passed without another; zero: never; none: 10 minutes.
    #[n(9)]
    pub failures_forgotten_after: Option<Duration>,
}

impl ResourceConfig {
    /// Tells whether a resource runs with these settings: a digest (FNV-1a) of its agent and parameters, never zero.
    pub fn parameters_digest(&self) -> u64 {
        struct Fnv(u64);
        impl minicbor::encode::Write for Fnv {
            type Error = std::convert::Infallible;
            fn write_all(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
                for byte in bytes {
                    self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
                }
                Ok(())
            }
        }
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        minicbor::encode((&self.agent, &self.parameters), &mut hash).expect("writing to a hash cannot fail");
        hash.0.max(1)
    }
}

/// The recurring check of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct MonitorConfig {
    /// From the end of one check to the start of the next; zero: never.
    #[n(0)]
    pub every: Duration,
    /// Limit of one check.
    #[n(1)]
    pub timeout: Duration,
}

/// Limits of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Timeouts {
    /// Limit of a start.
    #[n(0)]
    pub start: Duration,
    /// Limit of a stop.
    #[n(1)]
    pub stop: Duration,
}

/// Where a unit should run.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Placement {
    /// Nodes it likes, best first.
    #[n(0)]
    pub prefer: Vec<NodeName>,
    /// Units that it starts after; how binding that is, `sequences` tells.
    #[n(1)]
    pub after: Vec<UnitName>,
    /// Points for staying where it runs; whether they are all that holds it there, `staying` tells.
    #[n(2)]
    pub stickiness: u32,
    /// Goes home to the best preferred node when that is back, whatever the stickiness.
    #[n(3)]
    pub failback: bool,
    /// Who is placed first; higher goes first.
    #[n(4)]
    pub priority: i32,
    /// Should it run at all?
    #[n(5)]
    pub enabled: bool,
    /// What else speaks for and against nodes and neighbours. A node of `prefer` that has no points here has those of
    /// its position.
    #[n(6)]
    #[cbor(default)]
    pub leaning: Leaning,
    /// How it comes after units of `after`; one that is not here must have started.
    #[n(7)]
    #[cbor(default)]
    pub sequences: BTreeMap<UnitName, Sequence>,
    /// It runs several times; none: once.
    #[n(8)]
    pub copies: Option<Copies>,
    /// It needs a ticket.
    #[n(9)]
    pub ticket: Option<TicketNeed>,
    /// Without `failback`: it leaves where it runs for a node with more points than `stickiness`. If not, points alone
    /// move it nowhere.
    #[n(10)]
    #[cbor(default)]
    pub moves_for_points: bool,
}

/// What makes a unit that runs go to another node that could have it as well?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staying {
    /// Nothing: it stays, however many points another node has.
    Firm,
    /// A node with more points than these, which its own node has for it.
    For(u32),
    /// A node with more points.
    ForNothing,
}

impl Default for Placement {
    fn default() -> Self {
        Placement {
            prefer: Vec::new(),
            after: Vec::new(),
            stickiness: 100,
            failback: false,
            priority: 0,
            enabled: true,
            leaning: Leaning::default(),
            sequences: BTreeMap::new(),
            copies: None,
            ticket: None,
            moves_for_points: false,
        }
    }
}

impl Placement {
    /// How firmly it stays where it runs.
    pub fn staying(&self) -> Staying {
        match (self.failback, self.moves_for_points) {
            (true, _) => Staying::ForNothing,
            (false, true) => Staying::For(self.stickiness),
            (false, false) => Staying::Firm,
        }
    }

    /// Points that hold it where it runs.
    pub fn points_for_staying(&self) -> u32 {
        match self.staying() {
            Staying::Firm | Staying::For(_) => self.stickiness,
            Staying::ForNothing => 0,
        }
    }

    /// Points of the first of `prefer`; the one at position p (from 0) has this divided by p + 1.
    pub const FIRST_POINTS: u32 = 100;

    /// The nodes that it likes, each with its points.
    pub fn preferred(&self) -> BTreeMap<&NodeName, u32> {
        let listed = self.prefer.iter().zip(1_u32..).map(|(node, at)| (node, Self::FIRST_POINTS / at));
        listed.chain(self.leaning.prefer.iter().map(|(node, points)| (node, *points))).collect()
    }

    /// The word of it that can be planned and rehearsed, and that no daemon can run yet.
    pub fn not_run_yet(&self) -> Option<&'static str> {
        if self.copies.is_some() {
            Some("copies")
        } else if self.ticket.is_some() {
            Some("ticket")
        } else {
            None
        }
    }

    /// The units that it comes after, and how.
    pub fn sequence_after(&self) -> impl Iterator<Item = (&UnitName, Sequence)> {
        self.after.iter().map(|unit| (unit, self.sequences.get(unit).copied().unwrap_or_default()))
    }
}

/// Resources that run together, started in this order and stopped in reverse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct GroupConfig {
    /// The resources, in the order of their starts.
    #[n(0)]
    pub members: Vec<ResourceName>,
    /// Where it runs.
    #[n(1)]
    pub placement: Placement,
}

/// What is granted, released and fenced as one: a group, or a resource in none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit<'a> {
    /// Its resources in the order of their starts.
    pub members: Vec<&'a ResourceName>,
    /// Where it runs.
    pub placement: &'a Placement,
}

impl ClusterConfig {
    /// Every unit by name: the groups, and the resources that are in none.
    pub fn units(&self) -> BTreeMap<UnitName, Unit<'_>> {
        let grouped: BTreeSet<&ResourceName> = self.groups.values().flat_map(|g| &g.members).collect();
        let groups = self.groups.iter().map(|(name, group)| {
            (UnitName(name.0.clone()), Unit { members: group.members.iter().collect(), placement: &group.placement })
        });
        let single = self.resources.iter().filter(|(name, _)| !grouped.contains(name)).map(|(name, resource)| {
            (UnitName(name.0.clone()), Unit { members: vec![name], placement: &resource.placement })
        });
        groups.chain(single).collect()
    }

    /// The unit that a resource belongs to.
    pub fn unit_of(&self, resource: &ResourceName) -> UnitName {
        self.groups
            .iter()
            .find(|(_, group)| group.members.contains(resource))
            .map_or_else(|| UnitName(resource.0.clone()), |(name, _)| UnitName(name.0.clone()))
    }

    /// The resources of a unit in the order of their starts; empty if there is no such unit.
    pub fn members_of(&self, unit: &UnitName) -> Vec<&ResourceName> {
        if let Some(group) = self.groups.get(&GroupName(unit.0.clone())) {
            return group.members.iter().collect();
        }
        let is_single = |name: &ResourceName| self.groups.values().all(|group| !group.members.contains(name));
        let single = self.resources.get_key_value(&ResourceName(unit.0.clone())).map(|(name, _)| name);
        single.filter(|name| is_single(name)).into_iter().collect()
    }

    /// Must the unit never run twice? So it is as soon as one of its resources is exclusive.
    pub fn is_exclusive(&self, unit: &UnitName) -> bool {
        self.members_of(unit).iter().any(|r| self.resources.get(r).is_some_and(|r| r.class == Class::Exclusive))
    }

    /// What the unit can damage when it runs twice: the domains of its exclusive resources.
    pub fn domains(&self, unit: &UnitName) -> BTreeSet<Domain> {
        self.members_of(unit)
            .iter()
            .filter_map(|r| self.resources.get(r))
            .filter(|r| r.class == Class::Exclusive)
            .flat_map(|r| r.domains.iter().copied())
            .collect()
    }

    /// Everything that some fence device of the node covers.
    pub fn fence_cover(&self, node: &NodeName) -> BTreeSet<Domain> {
        self.nodes
            .get(node)
            .into_iter()
            .flat_map(|n| &n.fence)
            .filter_map(|device| self.fence_devices.get(device))
            .flat_map(|device| device.covers.iter().copied())
            .collect()
    }

    /// How load is spread.
    pub fn effective_spread(&self) -> Spread {
        let is_counted = || self.resources.values().any(|resource| !resource.needs.is_empty());
        self.spread.unwrap_or_else(|| if is_counted() { Spread::Capacity } else { Spread::Even })
    }

    /// In how many failure domains the links of `a` and `b` to each other lie.
    pub fn link_domains(&self, a: &NodeName, b: &NodeName) -> usize {
        self.domains_of_links(a, b).into_iter().collect::<BTreeSet<u16>>().len()
    }

    /// The failure domain of each link between `a` and `b`, as a number: equal ones are one domain.
    pub fn domains_of_links(&self, a: &NodeName, b: &NodeName) -> Vec<u16> {
        let links = |name| self.nodes.get(name).map_or(0, |n: &NodeConfig| n.links.len());
        let shared = links(a).min(links(b));
        let names: Vec<String> = (1..=shared)
            .map(|number| {
                let number = u8::try_from(number).unwrap_or(u8::MAX);
                self.networks.get(&number).map_or_else(|| format!("\0{number}"), |network| network.domain.clone())
            })
            .collect();
        let first_of = |name: &String| names.iter().position(|other| other == name).unwrap_or(0);
        names.iter().map(|name| u16::try_from(first_of(name)).unwrap_or(u16::MAX)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_the_log_names_nothing_outside_the_agents_folder() {
        let written = |provider: &str, name: &str| {
            let agent = AgentName::Ocf { provider: provider.to_owned(), name: name.to_owned() };
            minicbor::to_vec(&agent).expect("a vector takes everything")
        };
        assert!(minicbor::decode::<AgentName>(&written("heartbeat", "IPaddr2")).is_ok());
        for (provider, name) in [("..", "sh"), ("heartbeat", "../../../bin/sh"), ("", "x"), ("a", ""), ("a:b", "c")] {
            assert!(minicbor::decode::<AgentName>(&written(provider, name)).is_err(), "{provider} {name}");
        }
        for name in ["../x", "..", "a/b", "a\u{1b}[2J", &"x".repeat(2000)] {
            let bytes = minicbor::to_vec(name).expect("a vector takes everything");
            assert!(minicbor::decode::<NodeName>(&bytes).is_err(), "{name:?}");
        }
        assert!(minicbor::decode::<NodeName>(&minicbor::to_vec("web-1.x").expect("bytes")).is_ok());
    }

    /// What a node with an older version stored: fields 0 to 5 of a placement, 0 to 2 of a node.
    #[test]
    fn what_was_stored_before_the_newer_words_is_read() {
        let mut old = Vec::new();
        let mut encoder = minicbor::Encoder::new(&mut old);
        let written = encoder.array(6).and_then(|e| {
            e.encode(["a"])?.encode(["db"])?.u32(7)?.bool(true)?.i32(-3)?.bool(false)?;
            e.array(3)?.encode(["10.0.0.1".parse::<IpAddr>().expect("an address")])?.encode(NodeRole::Witness)?.array(0)
        });
        written.expect("a vector takes everything");
        let mut decoder = minicbor::Decoder::new(&old);
        let placement: Placement = decoder.decode().expect("an old placement");
        let expected = Placement {
            prefer: vec!["a".into()],
            after: vec!["db".into()],
            stickiness: 7,
            failback: true,
            priority: -3,
            enabled: false,
            ..Placement::default()
        };
        assert_eq!(placement, expected);
        let node: NodeConfig = decoder.decode().expect("an old node");
        assert_eq!((node.role, node.links.len(), node.capacity.len()), (NodeRole::Witness, 1, 0));
    }
}
