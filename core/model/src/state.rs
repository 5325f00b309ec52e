//! What is agreed? The replicated state of the cluster, as plain data.
//!
//! `core/state` owns how it changes; `core/scheduler` reads it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{
    ClusterConfig, ConfigVersion, Epoch, FenceName, GrantId, Incarnation, LogIndex, NodeId, NodeName, NodeRole, OpId,
    ResourceName, Term, UnitName, WallTime,
};

/// Wanted and known, as every node holds it after the same log index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ClusterState {
    /// The last applied log index.
    #[n(0)]
    pub applied: LogIndex,
    /// The identity of the cluster, random, made by `init`.
    #[n(1)]
    pub cluster_id: u64,
    /// The epoch of the current leader.
    #[n(2)]
    pub epoch: Epoch,
    /// Who leads in this epoch.
    #[n(3)]
    pub coordinator: NodeId,
    /// The term of this epoch.
    #[n(4)]
    pub term: Term,
    /// The version of the configuration.
    #[n(5)]
    pub config_version: ConfigVersion,
    /// The cluster file, parsed.
    #[n(6)]
    pub config: ClusterConfig,
    /// The current and earlier configurations as text, oldest first, at most 32.
    #[n(7)]
    pub config_history: VecDeque<ConfigRecord>,
    /// The members.
    #[n(8)]
    pub members: BTreeMap<NodeId, Member>,
    /// Who may run each unit; a unit without an entry is held by nobody.
    #[n(9)]
    pub holders: BTreeMap<UnitName, Holder>,
    /// What is known of each resource on each node; no entry means unknown.
    #[n(10)]
    pub known: BTreeMap<ResourceName, BTreeMap<NodeId, Known>>,
    /// Failures of each resource on each node.
    #[n(11)]
    pub failures: BTreeMap<ResourceName, BTreeMap<NodeId, Failures>>,
    /// What operators asked for, by subject (`standby:a`, `move:web`, …).
    #[n(12)]
    pub actions: BTreeMap<String, OperatorAction>,
    /// What happened and why, oldest first, at most 1000.
    #[n(13)]
    pub history: VecDeque<HistoryEntry>,
    /// Join tokens that have not been used, by id.
    #[n(14)]
    pub tokens: BTreeMap<u64, TokenRecord>,
    /// Entries that the kernel refused; part of the state, so that divergence shows in the digest.
    #[n(15)]
    pub refused: u64,
    /// Units that were once held and whose last holder's end was proven (a stop, a fence): their next start need not
    /// probe for a duplicate.
    #[n(16)]
    pub proven_free: BTreeMap<UnitName, GrantId>,
    /// Resources that became part of a held unit and are not known yet to have stopped on all other members: the grant
    /// did not ask for them, so that nothing starts them until then.
    #[n(17)]
    #[cbor(default)]
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub barred: BTreeSet<ResourceName>,
    /// How the lives of condemned and fenced members end.
    #[n(18)]
    #[cbor(default)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ends: BTreeMap<NodeId, LifeEnd>,
    /// Units for which a node was condemned because it could not stop them, since this version of the file: no second
    /// node is condemned for the same.
    #[n(19)]
    #[cbor(default)]
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub stop_cost_node: BTreeSet<UnitName>,
    /// Online members whose daemon ended in maintenance: they are silent on purpose, and what they run goes on.
    #[n(20)]
    #[cbor(default)]
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub gone: BTreeSet<NodeId>,
    /// Which kinds of entries all members can read; it never falls. Zero: those of Cardea 0.1.0.
    #[n(21)]
    #[cbor(default)]
    #[serde(skip)]
    pub level: u8,
}

/// How the life of a condemned or fenced member ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct LifeEnd {
    /// The life.
    #[n(0)]
    pub incarnation: Incarnation,
    /// Nobody heard it, and it was condemned for nothing else.
    #[n(1)]
    pub is_for_silence: bool,
    /// A device may have been told to cut it off: it is spared no more.
    #[n(2)]
    pub is_fence_begun: bool,
    /// Devices that are proven to have cut it off, in the order in which they did.
    #[n(3)]
    pub cut_off_by: Vec<FenceName>,
}

/// One version of the cluster file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct ConfigRecord {
    /// Its version.
    #[n(0)]
    pub version: ConfigVersion,
    /// Its text.
    #[n(1)]
    pub text: String,
    /// Who applied it.
    #[n(2)]
    pub actor: String,
    /// Why.
    #[n(3)]
    pub reason: String,
    /// When, for display.
    #[n(4)]
    pub at: WallTime,
}

/// A node admitted to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Member {
    /// Its name in the cluster file.
    #[n(0)]
    pub name: NodeName,
    /// Member or witness.
    #[n(1)]
    pub role: NodeRole,
    /// Its current incarnation; zero before its first Join.
    #[n(2)]
    pub incarnation: Incarnation,
    /// Agreed condition of the current incarnation.
    #[n(3)]
    pub state: MemberState,
    /// The boot id of the current incarnation.
    #[n(4)]
    pub boot_id: String,
    /// The machine id that must stay the same for a Join to free an old incarnation.
    #[n(5)]
    pub machine_id: String,
    /// The identity of its storage; a Join with another one is refused.
    #[n(6)]
    pub storage_uuid: String,
    /// When its state last changed, for display.
    #[n(7)]
    pub since: WallTime,
    /// Flap damping: penalty and when it was last computed (SAFETY §1.9).
    #[n(8)]
    pub flap_penalty: u32,
    /// When the penalty was last computed.
    #[n(9)]
    pub flap_at: WallTime,
    /// Incarnations that are dead for ever (the last 16).
    #[n(10)]
    pub dead: VecDeque<Incarnation>,
}

/// Agreed condition of a member's incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Admitted, not yet heard of.
    #[default]
    #[n(0)]
    Absent,
    /// Joined.
    #[n(1)]
    Online,
    /// Said that it leaves, in order; holds nothing.
    #[n(2)]
    Left,
    /// Condemned: gets nothing any more; waits to be fenced.
    #[n(3)]
    Condemned,
    /// Proven off.
    #[n(4)]
    Fenced,
}

/// Who may run a unit.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Holder {
    /// The node.
    #[n(0)]
    pub node: NodeId,
    /// Its incarnation.
    #[n(1)]
    pub incarnation: Incarnation,
    /// The grant.
    #[n(2)]
    pub grant: GrantId,
    /// How far it is.
    #[n(3)]
    pub state: HolderState,
    /// Since when, for display.
    #[n(4)]
    pub since: WallTime,
    /// Why it is there.
    #[n(5)]
    pub reason: String,
}

/// How far a holder is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HolderState {
    /// May run the unit.
    #[n(0)]
    Held,
    /// Is stopping it.
    #[n(1)]
    Releasing,
    /// Cannot stop it, or two nodes claim it.
    #[n(2)]
    Blocked {
        /// Why.
        #[n(0)]
        why: String,
    },
}

/// What is known of a resource on one node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Known {
    /// Its state.
    #[n(0)]
    pub state: ResourceState,
    /// The incarnation that this was seen in.
    #[n(1)]
    pub incarnation: Incarnation,
    /// The operation that found it out.
    #[n(2)]
    pub op: OpId,
    /// Since when, for display.
    #[n(3)]
    pub since: WallTime,
    /// Why it is so.
    #[n(4)]
    pub reason: String,
    /// Digest of the agent and parameters it runs with; zero if it does not run or nobody knows.
    #[n(5)]
    pub digest: u64,
    /// Did it change by itself after the operation?
    #[n(6)]
    #[cbor(default)]
    #[serde(skip)]
    pub is_change: bool,
}

/// State of a resource on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ResourceState {
    /// No truth yet; counts as running for exclusion.
    #[default]
    #[n(0)]
    Unknown,
    /// Does not run.
    #[n(1)]
    Stopped,
    /// Runs.
    #[n(2)]
    Running,
    /// A start or a check failed; may half run.
    #[n(3)]
    Failed,
    /// A stop failed; may still run.
    #[n(4)]
    Blocked,
}

/// Failures of a resource on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Failures {
    /// How many since the last clear; starts again after ten minutes without one.
    #[n(0)]
    pub count: u32,
    /// When the last was, for display and for the ten minutes.
    #[n(1)]
    pub last_at: WallTime,
    /// Why.
    #[n(2)]
    pub last_reason: String,
    /// Trying again there is useless until cleared (not installed, not configured).
    #[n(3)]
    pub is_permanent: bool,
}

/// Something an operator asked for: it has an owner and a reason, and never hides.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct OperatorAction {
    /// What.
    #[n(0)]
    pub kind: ActionKind,
    /// Who.
    #[n(1)]
    pub actor: String,
    /// Why.
    #[n(2)]
    pub reason: String,
    /// When, for display.
    #[n(3)]
    pub at: WallTime,
}

/// What an operator can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// The node runs nothing.
    #[n(0)]
    Standby(#[n(0)] NodeId),
    /// Hands off the node: nothing is started, stopped or moved there.
    #[n(1)]
    NodeMaintenance(#[n(0)] NodeId),
    /// Hands off the whole cluster.
    #[n(2)]
    ClusterMaintenance,
    /// The unit goes to this node, once.
    #[n(3)]
    Move(#[n(0)] UnitName, #[n(1)] NodeId),
    /// The unit is stopped until it is started again.
    #[n(4)]
    Stop(#[n(0)] UnitName),
    /// The node leaves in order: its units go elsewhere first.
    #[n(5)]
    Leave(#[n(0)] NodeId),
    /// The whole site is to be off: all that were online leave in order, and nothing is started until one is back and
    /// nobody is still ending. From feature level 4 on.
    #[n(6)]
    ShutDown,
}

/// Something that happened, and why.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct HistoryEntry {
    /// Its place in the log.
    #[n(0)]
    pub index: LogIndex,
    /// When, for display.
    #[n(1)]
    pub at: WallTime,
    /// What happened: `granted`, `released`, `condemned`, `fenced`, `joined`, `config`, `failed`, …
    #[n(2)]
    pub event: String,
    /// What it happened to: a node, a unit, a resource.
    #[n(3)]
    pub subject: String,
    /// Why, as a sentence.
    #[n(4)]
    pub reason: String,
    /// Who asked for it: `cluster`, or an operator.
    #[n(5)]
    pub actor: String,
}

/// How a fence was proven.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FenceMethod {
    /// These devices answered and their status reads off; together they cover what is freed.
    #[n(0)]
    Device(#[n(0)] Vec<FenceName>),
    /// A person says so.
    #[n(1)]
    Human,
}

/// What a FenceDone rests on.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct FenceEvidence {
    /// How it was proven.
    #[n(0)]
    pub method: FenceMethod,
    /// What the status read back, in the agent's words.
    #[n(1)]
    pub output: String,
    /// From the first call to the proof, in milliseconds.
    #[n(2)]
    pub took_ms: u64,
}

/// A join token; its secret is stored as a hash only.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct TokenRecord {
    /// SHA-256 of the secret.
    #[n(0)]
    #[serde(skip)]
    pub secret_hash: Vec<u8>,
    /// When it ends; the leader's clock judges.
    #[n(1)]
    pub expires: WallTime,
    /// What the joiner becomes.
    #[n(2)]
    pub role: NodeRole,
    /// The only name it may join as, if bound.
    #[n(3)]
    pub name: Option<NodeName>,
    /// Wrong secrets so far; five burn it.
    #[n(4)]
    pub wrong: u32,
}

impl ClusterState {
    /// The member of this name.
    pub fn member_named(&self, name: &NodeName) -> Option<(NodeId, &Member)> {
        self.members.iter().find(|(_, member)| member.name == *name).map(|(id, member)| (*id, member))
    }

    /// What is known of a resource on a node in its current incarnation.
    pub fn known_state(&self, resource: &ResourceName, node: NodeId) -> ResourceState {
        let current = self.members.get(&node).map(|m| m.incarnation);
        self.known
            .get(resource)
            .and_then(|nodes| nodes.get(&node))
            .filter(|known| Some(known.incarnation) == current)
            .map_or(ResourceState::Unknown, |known| known.state)
    }

    /// In which condition the resource may run on a member that does not hold `unit`; none: it certainly does not.
    ///
    /// Unknown counts as running. A member that left had stopped everything exclusive before; what was last known of it
    /// counts all the same. One that was admitted and has not joined may have run the resource by hand all along: only
    /// what the cluster itself started, and is proven to have ended, is no danger there.
    pub fn may_run(&self, unit: &UnitName, resource: &ResourceName, node: NodeId) -> Option<ResourceState> {
        let member = self.members.get(&node)?;
        let known = match (member.role, member.state) {
            (NodeRole::Witness, _) | (NodeRole::Member, MemberState::Fenced) => ResourceState::Stopped,
            (NodeRole::Member, MemberState::Online | MemberState::Condemned) => self.known_state(resource, node),
            (NodeRole::Member, MemberState::Left) => {
                let last = self.known.get(resource).and_then(|nodes| nodes.get(&node));
                last.map_or(ResourceState::Stopped, |known| known.state)
            }
            (NodeRole::Member, MemberState::Absent) if self.proven_free.contains_key(unit) => ResourceState::Stopped,
            (NodeRole::Member, MemberState::Absent) => ResourceState::Unknown,
        };
        (known != ResourceState::Stopped).then_some(known)
    }

    /// The version of the file before the current one, if it is kept: what `cardea rollback` can return to.
    pub fn former_version(&self) -> Option<ConfigVersion> {
        let former = self.config_history.iter().rev().map(|record| record.version);
        former.into_iter().find(|version| *version < self.config_version)
    }

    /// The operator's wish about this subject, if any.
    pub fn action(&self, kind: &ActionKind) -> Option<&OperatorAction> {
        self.actions.values().find(|action| action.kind == *kind)
    }

    /// The name of a member, or its number if it is none.
    pub fn name_of(&self, node: NodeId) -> String {
        self.members.get(&node).map_or_else(|| format!("node {node}"), |member| member.name.to_string())
    }
}

impl Member {
    /// Added for each return from a lost life (SAFETY §1.9).
    pub const FLAP: u32 = 1000;
    /// At this penalty a member is suppressed.
    const FLAP_SUPPRESS: u32 = 2500;
    /// Below this penalty a suppressed member is free again.
    const FLAP_REUSE: u32 = 800;
    /// The penalty never grows beyond this, so that every suppression ends within a quarter of an hour.
    const FLAP_MAX: u32 = 6000;
    /// The penalty halves in this time.
    const FLAP_HALF_LIFE_MS: u64 = 300_000;

    /// The flap penalty as it has decayed until `at`. A stamp that lies in the future was written by a clock that was
    /// wrong: it decays as if it were as long past, so that no clock suppresses anybody for long.
    pub fn flap_penalty_at(&self, at: WallTime) -> u32 {
        let elapsed_ms = at.0.abs_diff(self.flap_at.0);
        let halvings = u32::try_from(elapsed_ms / Self::FLAP_HALF_LIFE_MS).unwrap_or(u32::MAX);
        let penalty = u64::from(self.flap_penalty.checked_shr(halvings).unwrap_or(0));
        let rest_ms = elapsed_ms % Self::FLAP_HALF_LIFE_MS;
        let decayed = penalty - penalty * rest_ms / (2 * Self::FLAP_HALF_LIFE_MS);
        u32::try_from(decayed).unwrap_or(u32::MAX)
    }

    /// Has it flapped so much that it runs nothing for a while? From 2500 on, until the penalty is below 800.
    pub fn is_suppressed(&self, at: WallTime) -> bool {
        self.flap_penalty >= Self::FLAP_SUPPRESS && self.flap_penalty_at(at) >= Self::FLAP_REUSE
    }

    /// Counts one more flap at `at`. A member that is suppressed stays so.
    pub fn add_flap(&mut self, at: WallTime) {
        let floor = if self.is_suppressed(at) { Self::FLAP_SUPPRESS } else { 0 };
        self.flap_penalty = (self.flap_penalty_at(at) + Self::FLAP).clamp(floor, Self::FLAP_MAX);
        self.flap_at = at;
    }
}
