//! What does the scheduler decide upon? Everything that is wanted and known, in its own words.
//!
//! Both worlds lower to this: our cluster file with the agreed state, and what other cluster managers wrote. Rules,
//! templates, tags and inherited settings are resolved before (they depend on time and on who reads them); what is
//! left are plain facts. Order matters where it is a `Vec`: it is the order of the document.
//!
//! Not here: what follows from it (`scheduler`), how it is read (`import`, `state`).

mod words;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{NodeName, ResourceName};

/// A pull or a push, in −1 000 000 ..= 1 000 000; the ends mean "must" and "must not".
///
/// Written as a number, or as `"must"` and `"must not"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "words::Score", into = "words::Score")]
pub struct Score(i32);

impl Score {
    /// Nothing either way.
    pub const ZERO: Score = Score(0);
    /// Must.
    pub const MUST: Score = Score(1_000_000);
    /// Must not.
    pub const MUST_NOT: Score = Score(-1_000_000);

    /// The most that is still a number.
    pub const MOST: Score = Score(999_999);

    /// A number, limited to what a score can be.
    pub fn of(value: i64) -> Score {
        Score(value.clamp(-1_000_000, 1_000_000) as i32)
    }

    /// The number.
    pub fn value(self) -> i32 {
        self.0
    }

    /// At the upper end.
    pub fn is_must(self) -> bool {
        self == Score::MUST
    }

    /// At the lower end.
    pub fn is_must_not(self) -> bool {
        self == Score::MUST_NOT
    }

    /// At either end.
    pub fn is_mandatory(self) -> bool {
        self.is_must() || self.is_must_not()
    }
}

impl std::ops::Add for Score {
    type Output = Score;

    /// "Must not" beats "must", which beats any number; everything else is limited to the ends.
    fn add(self, other: Score) -> Score {
        if self.is_must_not() || other.is_must_not() {
            Score::MUST_NOT
        } else if self.is_must() || other.is_must() {
            Score::MUST
        } else {
            Score::of(i64::from(self.0) + i64::from(other.0))
        }
    }
}

impl std::ops::AddAssign for Score {
    fn add_assign(&mut self, other: Score) {
        *self = *self + other;
    }
}

impl std::ops::Neg for Score {
    type Output = Score;

    fn neg(self) -> Score {
        Score(-self.0)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Score::MUST => f.write_str("INFINITY"),
            Score::MUST_NOT => f.write_str("-INFINITY"),
            Score(value) => value.fmt(f),
        }
    }
}

/// What an instance of a resource does, or should do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Not known.
    #[default]
    Unknown,
    /// Runs nowhere.
    Stopped,
    /// Runs; it has no roles.
    Started,
    /// Runs, and follows.
    Unpromoted,
    /// Runs, and leads.
    Promoted,
}

/// Everything that is wanted and known at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Situation {
    /// The settings of the whole cluster.
    pub options: Options,
    /// Every node: members, remote nodes and guests.
    pub nodes: Vec<NodeFacts>,
    /// What should run, outermost first.
    pub resources: Vec<Resource>,
    /// What left the configuration and is still in the history: primitives under the name of their history, with the
    /// settings that every resource has.
    pub removed: Vec<Resource>,
    /// Which resource may, must or must not run where.
    pub locations: Vec<Location>,
    /// Which resources belong together or apart, one pair each.
    pub colocations: Vec<Colocation>,
    /// What comes after what.
    pub orders: Vec<Order>,
    /// What may run only with a ticket.
    pub ticket_rules: Vec<TicketRule>,
    /// The tickets.
    pub tickets: BTreeMap<String, Ticket>,
    /// Levels of fence devices: by node, the devices of each level.
    pub fence_levels: BTreeMap<NodeName, Vec<Vec<ResourceName>>>,
    /// What each node reports of its resources, in the order of the status section.
    pub history: Vec<NodeHistory>,
    /// The time of the decision: seconds since 1970.
    pub now: i64,
}

/// Settings of the whole cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Does this part of the cluster have the majority?
    #[serde(skip)]
    pub has_quorum: bool,
    /// What happens without it.
    #[serde(rename = "without_quorum")]
    pub no_quorum: NoQuorum,
    /// May resources run anywhere unless told otherwise?
    #[serde(rename = "allowed_anywhere")]
    pub is_symmetric: bool,
    /// Is fencing in use at all?
    #[serde(rename = "fencing")]
    pub is_fencing_enabled: bool,
    /// Is there anything that can fence: a device, or a watchdog?
    pub has_fence_device: bool,
    /// What fencing does.
    pub fence_action: FenceHow,
    /// Is a node fenced that was never seen?
    pub fences_unseen: bool,
    /// May several nodes be fenced at once?
    pub fences_concurrently: bool,
    /// Seconds a lost node gets less or more by what runs there; 0: off.
    pub priority_fencing_delay_s: u32,
    /// Seconds for a node to join before it is fenced; 0: for ever.
    pub node_pending_timeout_s: i64,
    /// Are remote nodes fenced without quorum?
    pub fences_remote_without_quorum: bool,
    /// Are resources that left the configuration stopped?
    pub stops_removed: bool,
    /// Are operations that left the configuration cancelled?
    pub cancels_removed: bool,
    /// Is it looked what runs before anything is started?
    pub probes_at_start: bool,
    /// How nodes of equal score are told apart.
    pub strategy: Strategy,
    /// Points only rank nodes: none but "must not" forbids one, and a group has its stickiness once. That is what the
    /// points of a cluster file mean. Else a sum below 0 forbids, and each member of a group sticks, as in Pacemaker.
    pub points_only_rank: bool,
    /// Hands off everything.
    #[serde(rename = "maintenance")]
    pub is_maintenance: bool,
    /// Everything is to stop.
    pub stops_all: bool,
    /// Do resources wait for a node that was shut down? `Some(0)`: without limit; else the limit in seconds.
    #[serde(with = "words::or_none")]
    pub shutdown_lock_s: Option<i64>,
    /// Member that leads, by its id in the status section.
    #[serde(skip)]
    pub coordinator: Option<NodeName>,
}

impl Options {
    /// Does such a score let something run on a node?
    pub fn allows(&self, score: Score) -> bool {
        if self.points_only_rank { !score.is_must_not() } else { score >= Score::ZERO }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            has_quorum: true,
            no_quorum: NoQuorum::Stop,
            is_symmetric: true,
            is_fencing_enabled: true,
            has_fence_device: false,
            fence_action: FenceHow::Reboot,
            fences_unseen: true,
            fences_concurrently: true,
            priority_fencing_delay_s: 0,
            node_pending_timeout_s: 0,
            fences_remote_without_quorum: false,
            stops_removed: true,
            cancels_removed: true,
            probes_at_start: true,
            strategy: Strategy::Default,
            points_only_rank: false,
            is_maintenance: false,
            stops_all: false,
            shutdown_lock_s: None,
            coordinator: None,
        }
    }
}

/// What happens without quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoQuorum {
    /// Everything stops.
    #[default]
    Stop,
    /// What runs stays; nothing else is started.
    Freeze,
    /// As with quorum.
    Ignore,
    /// Promotable resources are demoted, all others stop.
    Demote,
    /// This part fences itself. Only where fencing is enabled and quorum was there before; else it is read as `Stop`.
    Fence,
}

/// What fencing does to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FenceHow {
    /// Off and on again.
    Reboot,
    /// Off.
    Off,
    /// Lets a node use shared storage again.
    On,
}

/// How nodes of equal score are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// By the number of resources; capacity is ignored.
    #[default]
    Default,
    /// As `Default`, but what does not fit is not placed.
    Utilization,
    /// What does not fit is not placed; the most free capacity wins.
    Balanced,
    /// What does not fit is not placed; few nodes are filled up.
    Minimal,
}

/// One node, as configured and as reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    /// Its name.
    pub name: NodeName,
    /// Its id; equals the name for remote nodes and guests.
    pub id: String,
    /// What it is.
    pub kind: NodeKind,
    /// Its attributes, the transient ones over the permanent ones. Built-in ones (`#uname`, …) are left out.
    pub attributes: BTreeMap<String, String>,
    /// What it can carry.
    pub capacity: BTreeMap<String, i32>,
    /// Where every resource's score begins there.
    pub base_score: Score,
    /// What its health adds to the score of every top-level resource.
    pub health: Score,
    /// As `health`, for resources that allow unhealthy nodes (a sum below 0 does not count for them).
    pub health_colour: Option<String>,
    /// What the cluster layer says of it; none: it was never seen.
    pub seen: Option<NodeSeen>,
    /// Run nothing there.
    pub is_standby: bool,
    /// Hands off what runs there.
    pub is_maintenance: bool,
    /// It wants to leave: the attribute `shutdown` is set; its value, seconds since 1970 or 1.
    pub shutdown_since: Option<i64>,
    /// Somebody wants it fenced: the attribute `terminate`.
    pub wants_fencing: bool,
    /// Is it looked there what runs (`resource-discovery-enabled`)?
    pub is_probed: bool,
    /// Digest of the fence device definitions that it was unfenced with; see `Unfencing`.
    pub unfenced_with: Option<String>,
    /// Was it unfenced? The attribute `#node-unfenced` is there and not 0.
    pub is_unfenced: bool,
    /// Why it takes nothing, or nothing more, where somebody said so: the rest of a sentence that begins with its name, such
    /// as `is in standby since 12:04 (root: new disks)`.
    pub why: Option<String>,
}

impl NodeFacts {
    /// A member that is up and of which nothing else is known.
    pub fn up(name: &NodeName) -> NodeFacts {
        NodeFacts {
            name: name.clone(),
            id: name.0.clone(),
            seen: Some(NodeSeen {
                is_member: Some(true),
                is_process_up: true,
                join: Join::Member,
                expected: Expected::Member,
                ..NodeSeen::default()
            }),
            is_probed: true,
            ..NodeFacts::default()
        }
    }
}

/// What a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NodeKind {
    /// Takes part in the cluster.
    #[default]
    Member,
    /// Runs resources through a connection; the resource of that name, if it is configured.
    Remote {
        /// The connection.
        connection: Option<ResourceName>,
    },
    /// A virtual machine or container that is itself a resource.
    Guest {
        /// The connection.
        connection: ResourceName,
        /// The resource that is the machine.
        container: ResourceName,
        /// Is it a replica of a bundle?
        is_bundle: bool,
    },
}

/// What the cluster layer says of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// In the membership; none: the word is missing.
    pub is_member: Option<bool>,
    /// In the membership since, seconds since 1970; none: said as a word.
    pub member_since: Option<i64>,
    /// Its cluster process is up.
    pub is_process_up: bool,
    /// How far it has joined.
    pub join: Join,
    /// What it is expected to be.
    pub expected: Expected,
    /// Remote nodes: it was fenced (`node_fenced`).
    pub is_fenced: bool,
    /// Remote nodes: resources there are managed (`remote_maintenance` is off).
    pub is_remote_maintenance: bool,
}

/// How far a node has joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// Not said.
    #[default]
    Missing,
    /// Not joined.
    Down,
    /// On its way.
    Pending,
    /// Joined.
    Member,
    /// Refused.
    Banned,
    /// Something else.
    Other,
}

/// What a node is expected to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Not said.
    #[default]
    Missing,
    /// Joined.
    Member,
    /// Down.
    Down,
}

/// One thing that should run; collectives hold others.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its name.
    pub name: ResourceName,
    /// Its settings, with everything inherited resolved.
    pub meta: Meta,
    /// What it is.
    pub kind: ResourceKind,
}

/// What a resource is.
#[derive(Clone, Debug, PartialEq)]
pub enum ResourceKind {
    /// One service.
    Primitive(Box<Primitive>),
    /// Primitives, together and in order.
    Group(Vec<Resource>),
    /// A primitive or a group, several times.
    Clone(Box<Resource>),
    /// Containers, each with what belongs to it.
    Bundle(Box<Bundle>),
}

/// Settings of a resource that say how it is treated. Inheritance and defaults are resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Meta {
    /// Who comes first where not all fit.
    pub priority: i32,
    /// May it be changed? Without the whole cluster's maintenance.
    #[serde(rename = "managed")]
    pub is_managed: bool,
    /// Hands off, checks too.
    #[serde(rename = "maintenance")]
    pub is_maintenance: bool,
    /// The most it may be; none: no limit.
    #[serde(with = "words::role")]
    pub target_role: Option<Role>,
    /// How much it wants to stay. Clones have 1 unless told otherwise.
    pub stickiness: Score,
    /// No number of points elsewhere moves it from where it runs, or is held.
    #[serde(rename = "stays")]
    pub is_firm: bool,
    /// Where it is held although nothing of it may run there yet.
    #[serde(skip)]
    pub held_on: Option<NodeName>,
    /// Do its colocations pull others even where it could do without?
    #[serde(rename = "critical")]
    pub is_critical: bool,
    /// Failures on a node after which it must leave; none: never.
    #[serde(with = "words::or_none")]
    pub failures_max: Option<u32>,
    /// Seconds after which a failure is forgotten.
    #[serde(with = "words::or_none")]
    pub failure_timeout_s: Option<i64>,
    /// What must be before it is started.
    pub requires: Requires,
    /// What happens when it is found active on several nodes.
    pub multiple_active: MultipleActive,
    /// May it move live?
    pub allows_migration: bool,
    /// May it run on unhealthy nodes?
    pub allows_unhealthy: bool,
    /// The guest or container whose connection or content it is.
    #[serde(with = "words::or_none")]
    pub container: Option<ResourceName>,
    /// On a guest: do the attributes of its host count instead of its own?
    pub uses_host_attributes: bool,
    /// Group: in order?
    #[serde(rename = "ordered")]
    pub is_ordered: bool,
    /// Group: together?
    #[serde(rename = "together")]
    pub is_collocated: bool,
    /// Clone: instances; none: one for each node.
    #[serde(rename = "copies", with = "words::or_none")]
    pub clone_max: Option<u32>,
    /// Clone: instances on one node.
    #[serde(rename = "copies_per_node")]
    pub clone_node_max: u32,
    /// Clone: instances that must be up for what comes after; 0: no such rule.
    #[serde(rename = "copies_min")]
    pub clone_min: u32,
    /// Clone: each instance is itself.
    #[serde(rename = "unique")]
    pub is_unique: bool,
    /// Clone: orders between clones hold node by node.
    #[serde(rename = "interleaved")]
    pub is_interleaved: bool,
    /// Clone: instances are told what happens to the others.
    pub notifies: bool,
    /// Clone: instances can lead.
    #[serde(rename = "promotable")]
    pub is_promotable: bool,
    /// Clone: instances that lead.
    pub promoted_max: u32,
    /// Clone: instances that lead on one node.
    #[serde(rename = "promoted_per_node")]
    pub promoted_node_max: u32,
}

impl Default for Meta {
    /// What holds where nobody says anything else.
    fn default() -> Self {
        Meta {
            priority: 0,
            is_managed: true,
            is_maintenance: false,
            target_role: None,
            stickiness: Score::ZERO,
            is_firm: false,
            held_on: None,
            is_critical: true,
            failures_max: Some(1_000_000),
            failure_timeout_s: None,
            requires: Requires::Fencing,
            multiple_active: MultipleActive::StopStart,
            allows_migration: false,
            allows_unhealthy: false,
            container: None,
            uses_host_attributes: false,
            is_ordered: true,
            is_collocated: true,
            clone_max: None,
            clone_node_max: 1,
            clone_min: 0,
            is_unique: false,
            is_interleaved: false,
            notifies: false,
            is_promotable: false,
            promoted_max: 0,
            promoted_node_max: 0,
        }
    }
}

/// What must be before a resource is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requires {
    /// Nothing.
    Nothing,
    /// A majority.
    Quorum,
    /// A majority, and every lost node that may run it is fenced; other lost nodes are of no concern.
    Exclusion,
    /// A majority, and every lost node is fenced.
    Fencing,
    /// As fencing, and the node itself is unfenced.
    Unfencing,
}

/// What happens when a resource is found active on several nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MultipleActive {
    /// Stop all, start one.
    StopStart,
    /// Stop all.
    StopOnly,
    /// Hands off.
    Block,
    /// Stop all but the one that is wanted.
    StopUnexpected,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Primitive {
    /// The standard of its agent: `ocf`, `systemd`, `lsb`, `service`, `stonith`, …
    pub class: String,
    /// Who provides the agent; `ocf` only.
    #[serde(with = "words::or_none")]
    pub provider: Option<String>,
    /// The agent.
    pub agent: String,
    /// Its parameters on any node.
    pub parameters: BTreeMap<String, String>,
    /// Its parameters on nodes where rules make them differ.
    pub parameters_on: BTreeMap<NodeName, BTreeMap<String, String>>,
    /// Its operations, as configured; the first of a name and interval counts.
    pub operations: Vec<Operation>,
    /// Milliseconds that a one-off check may take, and each action without an operation of its own: by name.
    pub default_timeouts_ms: BTreeMap<String, u32>,
    /// What it needs of a node's capacity.
    pub utilization: BTreeMap<String, i32>,
    /// It is the connection to this remote node or guest.
    #[serde(with = "words::or_none")]
    pub connects: Option<NodeName>,
    /// Seconds before a failed connection is tried again; 0: at once.
    pub reconnect_s: i64,
    /// A container that holds this guest node.
    #[serde(with = "words::or_none")]
    pub holds: Option<NodeName>,
    /// A fence device that lets nodes use storage again.
    pub unfences: bool,
    /// What its parameters hash to where no node changes them; part of `Unfencing`.
    #[serde(with = "words::or_none")]
    pub all_digest: Option<String>,
}

impl Primitive {
    /// Is it a fence device?
    pub fn is_fence_device(&self) -> bool {
        self.class == "stonith"
    }

    /// What a node that it unfences remembers of it; none if it is no fence device.
    pub fn unfencing_entry(&self, name: &str) -> Option<String> {
        self.all_digest.as_ref().map(|digest| format!("{name}:{}:{digest},", self.agent))
    }
}

/// An operation as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Its id in the configuration.
    #[serde(skip)]
    pub id: String,
    /// `start`, `stop`, `monitor`, `promote`, …
    pub name: String,
    /// Milliseconds between two runs; 0: not repeated.
    #[serde(default)]
    pub interval_ms: u32,
    /// Milliseconds it may take.
    pub timeout_ms: u32,
    /// Repeated checks: in which role; none: in every role but promoted.
    #[serde(with = "words::role", default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What its failure leads to, if said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_fail: Option<OnFail>,
    /// Is it in use?
    #[serde(rename = "enabled", default = "words::yes", skip_serializing_if = "words::is_yes")]
    pub is_enabled: bool,
}

/// What a failure leads to; the later, the graver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFail {
    /// Nothing.
    #[default]
    Ignore,
    /// It is demoted.
    Demote,
    /// It is stopped and started.
    Restart,
    /// The connection is made anew, and the remote node fenced.
    ResetRemote,
    /// Its container is stopped and started.
    RestartContainer,
    /// It leaves the node.
    Ban,
    /// Hands off.
    Block,
    /// It is stopped for good.
    Stop,
    /// The node is emptied.
    Standby,
    /// The node is fenced.
    Fence,
}

/// Containers, each with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// The replicas, in order of number.
    pub replicas: Vec<Replica>,
    /// Replicas on one host.
    pub per_host_max: u32,
    /// Instances that lead; 0: not promotable.
    pub promoted_max: u32,
    /// The clone inside; one instance for each replica.
    pub inside: Option<Resource>,
}

/// One container of a bundle.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// The container.
    pub container: Resource,
    /// Its address.
    pub address: Option<Resource>,
    /// The connection into it.
    pub connection: Option<Resource>,
    /// The node that it is, where something runs inside.
    pub node: Option<NodeName>,
}

/// A resource that likes or dislikes nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// What the operator calls it.
    #[serde(default)]
    pub id: String,
    /// Which resource.
    pub resource: ResourceName,
    /// How much, where.
    #[serde(with = "words::scores")]
    pub scores: Vec<(NodeName, Score)>,
    /// Counts for this role only; none: for all.
    #[serde(with = "words::role", default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Where it is looked whether it runs.
    #[serde(default, skip_serializing_if = "words::is_default")]
    pub discovery: Discovery,
    /// What it says of a node, where its id would tell an operator little: the rest of a sentence that begins with the
    /// node's name, such as `is not covered by fencing`.
    #[serde(skip)]
    pub why: Option<String>,
}

/// Where it is looked whether a resource runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Discovery {
    /// There as everywhere.
    #[default]
    Always,
    /// Not there.
    Never,
    /// There, and nowhere else; nor may it run elsewhere.
    Exclusive,
}

/// A pair of resources that belongs together or apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Colocation {
    /// What the operator calls it.
    #[serde(default)]
    pub id: String,
    /// The one that follows.
    pub dependent: ResourceName,
    /// Counts for this role of it only.
    #[serde(with = "words::role", default, skip_serializing_if = "Option::is_none")]
    pub dependent_role: Option<Role>,
    /// The one that is followed.
    pub primary: ResourceName,
    /// Counts for this role of it only.
    #[serde(with = "words::role", default, skip_serializing_if = "Option::is_none")]
    pub primary_role: Option<Role>,
    /// How much together; below 0: apart.
    pub score: Score,
    /// Which attribute of the node must be equal.
    #[serde(default = "words::uname", skip_serializing_if = "words::is_uname")]
    pub attribute: String,
    /// Does the dependent pull the primary, if said?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub influence: Option<bool>,
}

/// One thing after another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What the operator calls it.
    #[serde(default)]
    pub id: String,
    /// What comes first.
    pub first: OrderSide,
    /// What comes then.
    pub then: ResourceName,
    /// What is done to the first.
    #[serde(default = "words::start", skip_serializing_if = "words::is_start")]
    pub first_action: OrderAction,
    /// What is done then.
    #[serde(default = "words::start", skip_serializing_if = "words::is_start")]
    pub then_action: OrderAction,
    /// How binding it is.
    #[serde(default = "words::mandatory", skip_serializing_if = "words::is_mandatory")]
    pub kind: OrderKind,
    /// Is the reverse true for the opposite actions?
    #[serde(rename = "and_back", default = "words::yes", skip_serializing_if = "words::is_yes")]
    pub is_symmetric: bool,
}

/// What comes first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OrderSide {
    /// One resource.
    One(ResourceName),
    /// At least one of several (`require-all=false`).
    AnyOf {
        /// What the operator calls the set.
        #[serde(default)]
        set: String,
        /// Its members.
        #[serde(rename = "any_of")]
        members: Vec<ResourceName>,
    },
}

/// What is done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderAction {
    /// Started.
    Start,
    /// Stopped.
    Stop,
    /// Made to lead.
    Promote,
    /// Made to follow.
    Demote,
}

/// How binding an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderKind {
    /// The then needs the first.
    Mandatory,
    /// Only if both happen.
    Optional,
    /// Never at the same time.
    Serialize,
}

/// A resource that needs a ticket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketRule {
    /// What the operator calls it.
    #[serde(default)]
    pub id: String,
    /// Which resource.
    pub resource: ResourceName,
    /// In which role; none: in any.
    #[serde(with = "words::role", default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Which ticket.
    pub ticket: String,
    /// What happens when it is lost.
    pub loss: TicketLoss,
}

/// What happens to a resource whose ticket is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TicketLoss {
    /// It stops.
    Stop,
    /// It is demoted.
    Demote,
    /// The nodes where it runs are fenced.
    Fence,
    /// Hands off.
    Freeze,
}

/// A ticket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    /// This site has it.
    pub is_granted: bool,
    /// It is about to be given away.
    pub is_standby: bool,
}

/// What a node reports of its resources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeHistory {
    /// The node.
    pub node: NodeName,
    /// Its resources, in the order of the report.
    pub resources: Vec<ResourceHistory>,
}

/// What a node reports of one resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceHistory {
    /// The name as reported: instances of clones may bear a number.
    pub name: String,
    /// The agent's standard, as it was when this was recorded.
    pub class: String,
    /// The agent's provider then.
    pub provider: Option<String>,
    /// The agent then.
    pub agent: String,
    /// The machine or container it belongs to.
    pub container: Option<String>,
    /// It waits for its node since; seconds since 1970.
    pub locked_since: Option<i64>,
    /// What was done, in the order of the report.
    pub operations: Vec<OperationRecord>,
}

/// An operation that was done, or is under way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OperationRecord {
    /// Its id: `NAME_OPERATION_INTERVAL`, or `NAME_last_failure_0` and the like.
    pub id: String,
    /// `start`, `stop`, `monitor`, …
    pub operation: String,
    /// Milliseconds between two runs; 0: not repeated.
    pub interval_ms: u32,
    /// The order of the executor; −1: under way.
    pub call_id: i64,
    /// The number of the plan that asked for it, for those under way.
    pub transition: i64,
    /// The number of the action in that plan.
    pub transition_action: i64,
    /// How the call went: −1 pending, 0 done, 1 cancelled, 2 timed out, 3 unsupported, 4 error, 7 not installed, …
    pub status: i32,
    /// What the agent answered.
    pub rc: i32,
    /// What it was expected to answer; none: not recorded.
    pub rc_expected: Option<i32>,
    /// When the answer last changed; seconds since 1970.
    pub changed_at: Option<i64>,
    /// When it last ran; seconds since 1970.
    pub ran_at: Option<i64>,
    /// What the agent said.
    pub exit_reason: String,
    /// Live migration: from where.
    pub migrate_source: Option<NodeName>,
    /// Live migration: to where.
    pub migrate_target: Option<NodeName>,
    /// Has the definition changed since?
    pub definition: Definition,
}

/// Has the definition of a resource changed since an operation was done?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Definition {
    /// It has not.
    #[default]
    Same,
    /// In parameters that the agent can take over while it runs.
    Reloadable,
    /// In others.
    Changed,
    /// In private ones only, unless those are just masked in what was read. It goes on; failures are forgotten.
    Private,
    /// It is not recorded what it was. Whatever runs counts as changed; failures are not forgotten for it.
    Unrecorded,
}

impl Definition {
    /// Does what runs have to be told of it?
    pub fn takes_effect(self) -> bool {
        match self {
            Definition::Same | Definition::Private => false,
            Definition::Reloadable | Definition::Changed | Definition::Unrecorded => true,
        }
    }
}
