//! What is there? The situation with every name resolved: nodes and resources by number, instances unfolded, and what
//! the history says of each.
//!
//! Built once (`read/`), never changed afterwards: placement and actions are values of their own beside it.
//!
//! Not here: how it is read (`read/`), where anything should run (`assign/`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::few::{Few, NodeMap, NodeSet};
use crate::names::Names;
use model::situation::{Bundle, Meta, NodeFacts, OperationRecord, Primitive, Requires, Role, Score, Situation};

/// A node, by its place in [`World::nodes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeIx(pub u32);

/// A resource, collective or instance, by its place in [`World::resources`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RscIx(pub u32);

/// Everything that is there.
pub(crate) struct World<'a> {
    pub situation: &'a Situation,
    /// In natural order of their names (digits by value, case ignored): the order of most loops.
    pub nodes: Vec<Node<'a>>,
    pub node_by_name: BTreeMap<&'a str, NodeIx>,
    /// Parents before children; what was removed from the configuration comes last.
    pub resources: Vec<Rsc<'a>>,
    /// Outermost resources: by priority, then as in the document; what was removed last.
    pub tops: Vec<RscIx>,
    /// By id; a primitive or group inside a clone bears a number: `web:0`.
    pub ids: Names,
    /// Fencing is wanted, and nothing is there that could fence.
    pub lacks_device: bool,
    /// Names with number that the history bears.
    pub numbered: BTreeSet<&'a str>,
}

/// A node, and what is made of what is reported of it.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub name: &'a str,
    pub facts: &'a NodeFacts,
    pub kind: Kind,
    /// Operations reach it (remote nodes: their connection is up).
    pub is_online: bool,
    /// It is lost, or has to be fenced for another reason.
    pub is_unclean: bool,
    /// Why it has to be fenced; the first reason counts.
    pub fence_reason: Option<String>,
    /// Fencing it may wait a little: it was just lost (priority-fencing-delay).
    pub is_fence_delayed: bool,
    /// It joins, and cannot do anything yet.
    pub is_pending: bool,
    /// Runs nothing: told so, or after a failure.
    pub is_standby: bool,
    pub is_standby_by_failure: bool,
    pub is_maintenance: bool,
    /// It wants to leave.
    pub is_shutting_down: bool,
    pub is_coordinator: bool,
    /// Nothing says that it ever was there; for a remote node: that its connection comes back will do.
    pub is_unseen: bool,
    /// Remote nodes: the connection failed, so that the node has to be fenced.
    pub remote_needs_reset: bool,
    /// Remote nodes: it was fenced, and has not come back.
    pub remote_was_fenced: bool,
    /// What is active there, in the order of reading.
    pub runs: Vec<RscIx>,
    /// Sum of the priorities of what runs there.
    pub priority: i32,
    /// Its history was read.
    pub is_read: bool,
    /// It counts failures of anything.
    pub has_failures: bool,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Member,
    Remote { connection: Option<RscIx> },
    Guest { connection: RscIx, container: RscIx, is_bundle: bool },
}

impl Node<'_> {
    pub fn is_member(&self) -> bool {
        matches!(self.kind, Kind::Member)
    }

    pub fn is_guest(&self) -> bool {
        matches!(self.kind, Kind::Guest { .. })
    }

    pub fn is_remote(&self) -> bool {
        matches!(self.kind, Kind::Remote { .. })
    }

    pub fn is_bundle(&self) -> bool {
        matches!(self.kind, Kind::Guest { is_bundle: true, .. })
    }

    /// The resource that connects it.
    pub fn connection(&self) -> Option<RscIx> {
        match self.kind {
            Kind::Member => None,
            Kind::Remote { connection } => connection,
            Kind::Guest { connection, .. } => Some(connection),
        }
    }

    /// The resource that it is.
    pub fn container(&self) -> Option<RscIx> {
        match self.kind {
            Kind::Guest { container, .. } => Some(container),
            Kind::Member | Kind::Remote { .. } => None,
        }
    }
}

/// What a resource is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape<'a> {
    Primitive(&'a Primitive),
    Group,
    Clone,
    Bundle(&'a Bundle),
}

/// One resource: a primitive (each instance of a clone is one of its own), or a collective.
#[derive(Debug)]
pub(crate) struct Rsc<'a> {
    /// Its name; instances of clones bear a number: `web:0`.
    pub id: Cow<'a, str>,
    /// Its name without number.
    pub name: &'a str,
    pub shape: Shape<'a>,
    pub meta: &'a Meta,
    pub parent: Option<RscIx>,
    /// Group: members in order. Clone: instances by number, then those beyond clone-max. Bundle: for each replica its
    /// container, address and connection, and last the clone inside.
    pub children: Vec<RscIx>,
    /// Bundles: what belongs together.
    pub replicas: Vec<ReplicaIx>,
    /// Parts and instances of bundles: the bundle, and the number of the replica.
    pub replica: Option<(RscIx, u32)>,
    /// Instances of clones, and what is in them: the number.
    pub number: Option<u32>,
    /// Each instance is itself; always so outside of clones.
    pub is_unique: bool,
    /// It left the configuration, or it is an instance beyond clone-max.
    pub is_removed: bool,
    /// The guest or container that it needs: implicit connections and what runs in containers.
    pub container: Option<RscIx>,
    /// What needs this container.
    pub fillers: Vec<RscIx>,
    /// The remote node or guest that it connects.
    pub connects: Option<NodeIx>,

    /// Everywhere it is active, in the order of reading.
    pub active_on: Few<NodeIx, 2>,
    /// What it is there at most.
    pub role: Role,
    /// The most it may become: target role, failures. `Unknown`: not limited.
    pub goal: Role,
    pub is_managed: bool,
    /// Nothing is done to it.
    pub is_blocked: bool,
    pub is_maintenance: bool,
    pub is_failed: bool,
    /// Where it failed.
    pub failed_on: NodeSet,
    pub failure_is_ignored: bool,
    /// It must stop before anything else.
    pub needs_stop: bool,
    /// Stops that the history demands.
    pub forced_stops: NodeSet,
    /// It is demoted for its failure, and may be promoted again at once.
    pub needs_demote: bool,
    /// A start of it is under way.
    pub is_start_pending: bool,
    /// An operation of it is under way: which, where.
    pub pending: Option<(&'a str, NodeIx)>,
    /// Nodes where it is known what it is.
    pub known_on: NodeSet,
    /// Where it must not, or must, run because of what happened.
    pub bans: Vec<Ban>,
    /// Live migration that is half done: from, to.
    pub partial_migration: Option<(NodeIx, NodeIx)>,
    /// Left over where a live migration came from.
    pub dangling: Vec<NodeIx>,
    /// What happened forbids to migrate it live.
    pub is_unmigratable: bool,
    /// It waits for this node, which was shut down, since.
    pub locked_to: Option<(NodeIx, i64)>,
    /// It waited for these nodes long enough.
    pub locks_over: NodeSet,
    /// The name with number that the history of an anonymous instance bears.
    pub reported_as: Option<&'a str>,
    /// By node: what was done there.
    pub records: NodeMap<Records<'a>>,
    /// By node: why the count of failures is to be cleared.
    pub clearings: BTreeMap<NodeIx, String>,
}

impl<'a> Rsc<'a> {
    pub fn primitive(&self) -> Option<&'a Primitive> {
        match self.shape {
            Shape::Primitive(primitive) => Some(primitive),
            Shape::Group | Shape::Clone | Shape::Bundle(_) => None,
        }
    }

    pub fn is_primitive(&self) -> bool {
        matches!(self.shape, Shape::Primitive(_))
    }

    pub fn is_group(&self) -> bool {
        matches!(self.shape, Shape::Group)
    }

    pub fn is_clone(&self) -> bool {
        matches!(self.shape, Shape::Clone)
    }

    pub fn is_bundle(&self) -> bool {
        matches!(self.shape, Shape::Bundle(_))
    }

    pub fn is_fence_device(&self) -> bool {
        self.primitive().is_some_and(Primitive::is_fence_device)
    }
}

/// A replica of a bundle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplicaIx {
    pub container: RscIx,
    pub address: Option<RscIx>,
    pub connection: Option<RscIx>,
    /// The instance inside.
    pub inside: Option<RscIx>,
    pub node: Option<NodeIx>,
}

/// Where something must not, or must, run because of what happened.
#[derive(Clone, Debug)]
pub(crate) struct Ban {
    /// None: everywhere.
    pub node: Option<NodeIx>,
    pub score: Score,
    pub why: String,
}

/// What was done to a resource on a node.
#[derive(Debug, Default)]
pub(crate) struct Records<'a> {
    /// All, in the order of their happening.
    pub sorted: Vec<&'a OperationRecord>,
    /// Places of the last start and the last stop that count.
    pub start_at: Option<usize>,
    pub stop_at: Option<usize>,
    /// Repeated checks that run there.
    pub monitors: Vec<(&'a str, u32)>,
    /// Repeated checks whose failure has expired: they are asked for anew.
    pub expired_monitors: Vec<(&'a str, u32)>,
    /// What the history is filed under.
    pub reported_as: &'a str,
    /// It was recorded with another agent.
    pub agent_changed: bool,
}

impl<'a> World<'a> {
    /// The resource that a constraint names: instances of clones stand for the clone, what is in a bundle for the bundle.
    pub fn find(&self, name: &str) -> Option<RscIx> {
        let found = self.named(name).or_else(|| self.named(&format!("{name}:0")))?;
        let top = self.outermost(found);
        let top_rsc = self.rsc(top);
        Some(if top_rsc.is_clone() || top_rsc.is_bundle() { top } else { found })
    }

    /// The resource of that id.
    pub fn named(&self, id: &str) -> Option<RscIx> {
        self.ids.get(id, |at| &self.resources[at as usize].id).map(RscIx)
    }

    pub fn node(&self, at: NodeIx) -> &Node<'a> {
        &self.nodes[at.0 as usize]
    }

    pub fn rsc(&self, at: RscIx) -> &Rsc<'a> {
        &self.resources[at.0 as usize]
    }

    pub fn node_ixs(&self) -> impl Iterator<Item = NodeIx> + use<> {
        (0..self.nodes.len() as u32).map(NodeIx)
    }

    pub fn rsc_ixs(&self) -> impl Iterator<Item = RscIx> + use<> {
        (0..self.resources.len() as u32).map(RscIx)
    }

    /// The outermost ancestor; the clone inside a bundle counts as one of its own.
    pub fn top(&self, at: RscIx) -> RscIx {
        let mut top = at;
        while let Some(parent) = self.rsc(top).parent {
            if self.rsc(parent).is_bundle() {
                break;
            }
            top = parent;
        }
        top
    }

    /// The outermost ancestor, bundles included.
    pub fn outermost(&self, at: RscIx) -> RscIx {
        let mut top = at;
        while let Some(parent) = self.rsc(top).parent {
            top = parent;
        }
        top
    }

    /// The connection to the remote node or guest that it is to run on, where its container says so.
    pub fn connection_inward(&self, at: RscIx) -> Option<RscIx> {
        let it = self.rsc(at);
        let container = it.container.filter(|_| it.connects.is_none() && it.replica.is_none())?;
        let connects = |rsc: &RscIx| self.rsc(*rsc).connects.is_some();
        Some(container).filter(connects).or_else(|| self.rsc(container).fillers.iter().copied().find(connects))
    }

    /// Is it a bundle, or in one?
    pub fn is_bundled(&self, at: RscIx) -> bool {
        self.rsc(self.outermost(at)).is_bundle()
    }

    /// The clone that it is an instance of, or in an instance of.
    pub fn clone_of(&self, at: RscIx) -> Option<RscIx> {
        let mut here = at;
        while let Some(parent) = self.rsc(here).parent {
            if self.rsc(parent).is_clone() {
                return Some(parent);
            }
            here = parent;
        }
        None
    }

    /// Is it an instance, or part of one, of a clone whose instances are all alike?
    pub fn is_anonymous_instance(&self, at: RscIx) -> bool {
        self.clone_of(at).is_some_and(|clone| !self.rsc(clone).is_unique)
    }

    /// Every primitive of a collective, or itself.
    pub fn primitives(&self, at: RscIx) -> Few<RscIx, 6> {
        let mut found = Few::new();
        self.add_primitives(at, &mut found);
        found
    }

    fn add_primitives(&self, at: RscIx, found: &mut Few<RscIx, 6>) {
        let rsc = self.rsc(at);
        if rsc.is_primitive() {
            found.push(at);
        }
        for child in &rsc.children {
            self.add_primitives(*child, found);
        }
    }

    /// Where it is; of several places the one that counts.
    pub fn current_node(&self, at: RscIx) -> Option<NodeIx> {
        let it = self.rsc(at);
        if let Some((source, _)) = it.partial_migration {
            return Some(source);
        }
        let is_clean = |node: &NodeIx| self.node(*node).is_online && !self.node(*node).is_unclean;
        let first_clean = || it.active_on.iter().copied().find(is_clean);
        let found = if it.meta.requires < Requires::Exclusion { first_clean() } else { None };
        found.or(it.active_on.first().copied())
    }

    /// Could resources be given to it, scores aside?
    pub fn is_usable(&self, at: NodeIx) -> bool {
        let node = self.node(at);
        node.is_online && !node.is_shutting_down && !node.is_unclean && !node.is_standby && !node.is_maintenance
    }
}
