//! What has to be done, and in which order?
//!
//! ```text
//!   orders.rs: what comes before what (built-in and configured)
//!   create.rs: what each resource needs ─► monitors.rs, migration.rs, probes.rs, nodes.rs
//!   settle.rs: who needs whom, until nothing changes ─► emit.rs, whereabouts.rs: what is left to do ─► words.rs
//! ```

mod cause;
mod circles;
mod connections;
mod create;
mod emit;
mod graph;
mod looks;
mod members;
mod migration;
mod monitors;
mod nodes;
mod notify;
mod orders;
mod probes;
mod settle;
mod unfencing;
mod whereabouts;
mod words;

use std::collections::BTreeMap;

use cause::Because;
use model::situation::{NoQuorum, OrderAction, Requires, Role};

pub use cause::Cause;
pub use emit::{Done, Judgement, NodeLook, Place, Told};
pub(crate) use graph::{Action, ActionIx, Graph, Kind, Task};

use crate::assign::Placement;
use crate::read::can_fence;
use crate::world::{NodeIx, RscIx, World};

/// Makes the plan that leads to a placement.
pub(crate) fn act(world: &World<'_>, placement: Placement) -> Judgement {
    act_telling(world, placement, false)
}

/// As [`act`]; with the causes of the actions, if they are asked for.
pub(crate) fn act_telling(world: &World<'_>, placement: Placement, tells: bool) -> Judgement {
    let mut planner = Planner::new(world, placement);
    planner.add_builtin_orders();
    planner.add_configured_orders();
    planner.add_orders_of_avoidance();
    planner.add_probes();
    planner.clear_failures();
    planner.create_all();
    planner.order_on_connections();
    planner.fence_and_shut_down();
    planner.apply_orders();
    planner.block_dependents();
    planner.order_probes();
    planner.settle_all();
    while planner.block_dependents() {
        planner.settle_all();
    }
    planner.notify_all();
    planner.judgement(tells)
}

/// A relation between kinds of actions of two resources, before the actions are there.
#[derive(Clone, Debug)]
pub(super) struct Ordering<'a> {
    pub first: End<'a>,
    pub then: End<'a>,
    pub kind: Kind,
}

/// One end of an [`Ordering`].
#[derive(Clone, Copy, Debug)]
pub(super) enum End<'a> {
    /// All actions of that kind.
    Of(RscIx, Task<'a>),
    /// This one.
    This(ActionIx),
}

/// The work under way.
pub(super) struct Planner<'w, 'a> {
    pub world: &'w World<'a>,
    pub placement: Placement,
    pub graph: Graph<'a>,
    pub orderings: Vec<Ordering<'a>>,
    /// What was seen of collectives.
    members: members::Members,
    /// Nodes to be fenced, and why.
    pub fences: BTreeMap<NodeIx, String>,
    /// By resource: it may move live, for all that is known of it alone.
    pub may_migrate: Vec<bool>,
    /// A definition changed: stop, or reload, on that node.
    pub reloads: BTreeMap<RscIx, NodeIx>,
    /// Devices that unfence nodes; none: nothing needs that.
    pub unfencers: Option<Vec<RscIx>>,
}

impl<'w, 'a> Planner<'w, 'a> {
    fn new(world: &'w World<'a>, placement: Placement) -> Self {
        let fences = world
            .node_ixs()
            .filter(|node| placement.is_unclean[node.0 as usize])
            .map(|node| (node, world.node(node).fence_reason.clone().unwrap_or_else(|| "it was never seen".to_owned())))
            .collect();
        Planner {
            world,
            placement,
            graph: Graph::default(),
            orderings: Vec::new(),
            members: members::Members::default(),
            fences,
            may_migrate: vec![false; world.resources.len()],
            reloads: BTreeMap::new(),
            unfencers: unfencing::devices(world),
        }
    }

    pub fn place_of(&self, rsc: RscIx) -> Option<NodeIx> {
        let it = self.world.rsc(rsc);
        if it.is_primitive() {
            return self.placement.node[rsc.0 as usize];
        }
        it.children.iter().find_map(|child| self.place_of(*child))
    }

    /// What it should be.
    pub fn goal(&self, rsc: RscIx) -> Role {
        let it = self.world.rsc(rsc);
        if it.is_primitive() {
            let goal = self.placement.goal[rsc.0 as usize];
            return match (goal, self.placement.node[rsc.0 as usize]) {
                (Role::Unknown, Some(_)) => Role::Started,
                (Role::Unknown, None) => Role::Stopped,
                _ => goal,
            };
        }
        it.children.iter().map(|child| self.goal(*child)).max().unwrap_or(Role::Stopped)
    }

    /// What it is, of collectives the most of any member.
    pub fn role(&self, rsc: RscIx) -> Role {
        let it = self.world.rsc(rsc);
        if it.is_primitive() {
            return if it.role == Role::Unknown { Role::Stopped } else { it.role };
        }
        it.children.iter().map(|child| self.role(*child)).max().unwrap_or(Role::Stopped)
    }

    pub fn is_online(&self, node: NodeIx) -> bool {
        self.placement.is_online[node.0 as usize]
    }

    pub fn is_unclean(&self, node: NodeIx) -> bool {
        self.placement.is_unclean[node.0 as usize]
    }

    /// Says that a node has to be fenced.
    pub fn fence(&mut self, node: NodeIx, why: &str) {
        if self.world.node(node).is_guest() {
            return;
        }
        self.placement.is_unclean[node.0 as usize] = true;
        self.fences.entry(node).or_insert_with(|| why.to_owned());
    }

    /// The action of a resource on a node, made if it is not there. Once needed it stays so.
    pub fn action(&mut self, rsc: RscIx, task: Task<'a>, node: Option<NodeIx>, is_optional: bool) -> ActionIx {
        if let Some(at) = self.graph.find_exact(Some(rsc), task, node) {
            if !is_optional && !self.is_hands_off(rsc, task, node) {
                self.graph.get_mut(at).is_optional = false;
            }
            return at;
        }
        let at = self.graph.add(Some(rsc), task, node);
        let hands_off = self.is_hands_off(rsc, task, node);
        self.graph.get_mut(at).is_optional = is_optional || hands_off;
        self.judge_runnable(at);
        at
    }

    /// Actions on what is not managed are never needed, but checks.
    fn is_hands_off(&self, rsc: RscIx, task: Task<'a>, node: Option<NodeIx>) -> bool {
        let is_check = matches!(task, Task::Monitor(_) | Task::Cancel(..) | Task::Probe);
        node.is_some() && !self.world.rsc(rsc).is_managed && !is_check
    }

    /// A marker of a collective.
    pub fn marker(&mut self, rsc: RscIx, task: Task<'a>, is_optional: bool, is_runnable: bool) -> ActionIx {
        let at = match self.graph.find_exact(Some(rsc), task, None) {
            Some(at) => at,
            None => {
                let at = self.graph.add(Some(rsc), task, None);
                self.graph.get_mut(at).is_optional = true;
                at
            }
        };
        let action = self.graph.get_mut(at);
        action.is_marker = true;
        action.is_optional &= is_optional;
        action.is_runnable = is_runnable;
        at
    }

    fn judge_runnable(&mut self, at: ActionIx) {
        let action = self.graph.get(at).clone();
        let Some(rsc) = action.rsc else { return };
        let Some(node) = action.node else {
            self.graph.get_mut(at).is_runnable = false;
            return;
        };
        let world = self.world;
        let there = world.node(node);
        let it = world.rsc(rsc);
        // The leader does these by itself.
        let is_done_here = matches!(action.task, Task::Delete | Task::Forget | Task::ClearFailures);
        let is_reached = self.is_online(node) || (there.is_guest() && !there.remote_needs_reset);
        if !is_done_here && !is_reached {
            self.graph.get_mut(at).is_runnable = false;
            if it.is_managed && action.task == Task::Stop && !self.is_unclean(node) {
                self.fence(node, "stop is unrunnable");
            }
            return;
        }
        if !is_done_here && there.is_pending {
            self.graph.get_mut(at).is_runnable = false;
            return;
        }
        let needs = match action.task {
            Task::Start | Task::Promote => it.meta.requires,
            _ => Requires::Nothing,
        };
        if needs == Requires::Nothing {
            // Whether a guest is still there cannot be known while its host is lost and cannot be fenced.
            if there.is_guest() && !can_fence(world, node) {
                self.graph.get_mut(at).is_runnable = false;
            }
            return;
        }
        let options = &world.situation.options;
        if options.has_quorum {
            return;
        }
        let role = self.role(rsc);
        let because = match options.no_quorum {
            NoQuorum::Ignore | NoQuorum::Fence => return,
            // Its goal is limited; it may follow, wherever it goes.
            NoQuorum::Demote if role >= Role::Unpromoted => return,
            NoQuorum::Stop | NoQuorum::Demote => Because::NoQuorum,
            NoQuorum::Freeze if it.active_on.is_empty() || self.goal(rsc) > role => Because::NoQuorum,
            NoQuorum::Freeze => return,
        };
        let action = self.graph.get_mut(at);
        action.is_runnable = false;
        action.because = Some(because);
    }
}

/// The action that an order speaks of.
pub(super) fn task_of(action: OrderAction) -> Task<'static> {
    match action {
        OrderAction::Start => Task::Start,
        OrderAction::Stop => Task::Stop,
        OrderAction::Promote => Task::Promote,
        OrderAction::Demote => Task::Demote,
    }
}

/// The marker that says that a task of a collective is done.
pub(super) fn done(task: Task<'_>) -> Task<'_> {
    match task {
        Task::Start => Task::Started,
        Task::Stop => Task::Stopped,
        Task::Promote => Task::Promoted,
        Task::Demote => Task::Demoted,
        other => other,
    }
}
