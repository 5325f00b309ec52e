//! What could be done, and what has to come before what?
//!
//! Actions of collectives are markers: nobody executes them, they stand for "all of it has started" and the like. An
//! edge says in what way the state of one action follows from another's; `settle.rs` applies them until nothing changes.

use std::collections::BTreeMap;

use super::cause::Because;
use crate::few::Few;
use crate::world::{NodeIx, RscIx};

/// Actions of one kind: nearly always one.
pub(crate) type Actions = Few<ActionIx, 2>;

/// An action, by its place in [`Graph::actions`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ActionIx(pub u32);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task<'a> {
    Start,
    Stop,
    Promote,
    Demote,
    MigrateTo,
    MigrateFrom,
    Reload,
    /// Find out whether it runs.
    Probe,
    /// A check that is repeated: milliseconds between two.
    Monitor(u32),
    /// Ends a repeated check: its name and interval.
    Cancel(&'a str, u32),
    ClearFailures,
    /// Forgets a resource and its history.
    Delete,
    /// Forgets the history that kept a resource waiting for its node.
    Forget,
    /// Cuts a node off.
    Fence,
    /// Lets a node use storage again.
    Unfence,
    Shutdown,
    // Markers of collectives: everything of it has …
    Started,
    Stopped,
    Promoted,
    Demoted,
    /// Everything that leaves a node has left it, so that there is room.
    Unloaded,
    /// Enough of several first actions are done.
    Enough(u32),
    /// Instances are told; before or after what.
    Notify(Phase, Noted),
    /// All have been told.
    Notified(Phase, Noted),
}

/// When instances are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Before,
    After,
}

/// What instances are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Noted {
    Start,
    Stop,
    Promote,
    Demote,
}

/// One action.
#[derive(Clone, Debug)]
pub(crate) struct Action<'a> {
    pub task: Task<'a>,
    pub rsc: Option<RscIx>,
    /// Where; none: nowhere in particular (markers), or there is no place for it.
    pub node: Option<NodeIx>,
    /// It need not be done.
    pub is_optional: bool,
    /// Something else makes it needless, whoever needs it.
    pub is_cancelled: bool,
    /// It could be done.
    pub is_runnable: bool,
    /// Nobody executes it.
    pub is_marker: bool,
    /// Part of the plan even though nothing needs it.
    pub is_always_shown: bool,
    /// A live migration may do instead.
    pub may_migrate: bool,
    /// It waits for at least so many of the actions before it; 0: for each as its edge says.
    pub needed_before: u32,
    /// Of those, how many can be done.
    pub runnable_before: u32,
    /// Why it has to be done, or cannot be.
    pub because: Option<Because>,
    pub before: Few<Edge, 4>,
    pub after: Few<ActionIx, 4>,
}

/// A relation to an earlier action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edge {
    pub first: ActionIx,
    pub kind: Kind,
}

/// What follows from what, besides the order. A set of the constants below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind(u32);

impl Kind {
    /// Only the order, if both are done.
    pub const ORDERED: Kind = Kind(1);
    /// If the first has to be done, so has the then.
    pub const THEN_FOLLOWS: Kind = Kind(1 << 1);
    /// If the then has to be done and any member of the collective that the first stands for, so has the first. A stop
    /// alone brings no other stop along: what depends on it stops because its start has to be repeated, or cannot be done.
    pub const FIRST_FOLLOWS: Kind = Kind(1 << 2);
    /// If the then has to be done, so has the first, while the resource leads.
    pub const FIRST_FOLLOWS_IF_PROMOTED: Kind = Kind(1 << 3);
    /// If the first cannot be done, neither can the then.
    pub const BLOCKS: Kind = Kind(1 << 4);
    /// A stop that a start on the same resource brings along, and what hinders it.
    pub const RESTARTS: Kind = Kind(1 << 5);
    /// If the first cannot be done, the then is not needed.
    pub const ONE_WAY: Kind = Kind(1 << 6);
    /// Counts only on the same node.
    pub const SAME_NODE: Kind = Kind(1 << 7);
    /// The then counts how many of its firsts can be done.
    pub const COUNTED: Kind = Kind(1 << 8);
    /// If the first is shown, so is the then.
    pub const SHOWS_THEN: Kind = Kind(1 << 9);
    /// If the then is shown, so is the first.
    pub const SHOWS_FIRST: Kind = Kind(1 << 10);
    /// The first can be done only while the then can be part of a live migration, and is needed if the then is.
    pub const MIGRATES_WITH: Kind = Kind(1 << 11);
    /// The first counts only if it cannot be done by live migration.
    pub const UNLESS_FIRST_MIGRATES: Kind = Kind(1 << 12);
    /// For stops and starts on one node where capacity is short: counts for the node that was chosen.
    pub const SAME_TARGET: Kind = Kind(1 << 13);
    /// The then makes the first needless.
    pub const CANCELS_FIRST: Kind = Kind(1 << 14);
    /// If the first cannot be done, the then has to be carried out after all.
    pub const STANDS_IN: Kind = Kind(1 << 15);
    /// Never both at once, in either order.
    pub const SERIAL: Kind = Kind(1 << 18);
    /// Counts no more.
    pub const NONE: Kind = Kind(0);

    pub const fn with(self, other: Kind) -> Kind {
        Kind(self.0 | other.0)
    }

    pub const fn without(self, other: Kind) -> Kind {
        Kind(self.0 & !other.0)
    }

    pub const fn has(self, other: Kind) -> bool {
        self.0 & other.0 == other.0
    }

    /// Does it say more than an order?
    pub const fn is_more_than_order(self) -> bool {
        let order_only = Kind::ORDERED.0 | Kind::SAME_NODE.0 | Kind::COUNTED.0 | Kind::SERIAL.0 | Kind::CANCELS_FIRST.0;
        self.0 & !order_only != 0
    }

    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Everything that could be done.
#[derive(Default)]
pub(crate) struct Graph<'a> {
    pub actions: Vec<Action<'a>>,
    /// Counts what may have changed actions.
    version: u64,
    /// By resource, and by task in the order in which the tasks came up; there are few.
    by_rsc: Vec<Vec<(Task<'a>, Actions)>>,
    /// What belongs to no resource.
    others: BTreeMap<Task<'a>, Actions>,
}

impl<'a> Graph<'a> {
    pub fn get(&self, at: ActionIx) -> &Action<'a> {
        &self.actions[at.0 as usize]
    }

    pub fn get_mut(&mut self, at: ActionIx) -> &mut Action<'a> {
        self.version += 1;
        &mut self.actions[at.0 as usize]
    }

    /// Equal as long as no action has changed, edges aside.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn ixs(&self) -> impl DoubleEndedIterator<Item = ActionIx> + use<'a> {
        (0..self.actions.len() as u32).map(ActionIx)
    }

    /// The action of that task, on that node if one is named.
    pub fn find(&self, rsc: Option<RscIx>, task: Task<'a>, node: Option<NodeIx>) -> Option<ActionIx> {
        self.all_of(rsc, task).iter().copied().find(|at| node.is_none() || self.get(*at).node == node)
    }

    /// The action of that task on exactly that node, or on none.
    pub fn find_exact(&self, rsc: Option<RscIx>, task: Task<'a>, node: Option<NodeIx>) -> Option<ActionIx> {
        self.all_of(rsc, task).iter().copied().find(|at| self.get(*at).node == node)
    }

    /// All actions of that task.
    pub fn all(&self, rsc: RscIx, task: Task<'a>) -> &[ActionIx] {
        self.all_of(Some(rsc), task)
    }

    /// As [`Graph::all`], to go through while actions change.
    pub fn each(&self, rsc: RscIx, task: Task<'a>) -> Actions {
        self.all(rsc, task).into()
    }

    fn all_of(&self, rsc: Option<RscIx>, task: Task<'a>) -> &[ActionIx] {
        let found = match rsc {
            None => self.others.get(&task),
            Some(rsc) => self
                .by_rsc
                .get(rsc.0 as usize)
                .and_then(|tasks| tasks.iter().find(|(known, _)| *known == task))
                .map(|(_, all)| all),
        };
        found.map_or(&[], Few::as_slice)
    }

    /// All actions of a resource, in the order in which they were added.
    pub fn of(&self, rsc: RscIx) -> Vec<ActionIx> {
        let tasks = self.by_rsc.get(rsc.0 as usize).map_or(&[][..], Vec::as_slice);
        let mut all: Vec<ActionIx> = tasks.iter().flat_map(|(_, all)| all).copied().collect();
        all.sort_unstable();
        all
    }

    /// Adds an action; it is runnable and needed.
    pub fn add(&mut self, rsc: Option<RscIx>, task: Task<'a>, node: Option<NodeIx>) -> ActionIx {
        let at = ActionIx(self.actions.len() as u32);
        self.version += 1;
        self.actions.push(Action {
            task,
            rsc,
            node,
            is_optional: false,
            is_cancelled: false,
            is_runnable: true,
            is_marker: false,
            is_always_shown: false,
            may_migrate: false,
            needed_before: 0,
            runnable_before: 0,
            because: None,
            before: Few::new(),
            after: Few::new(),
        });
        let Some(rsc) = rsc else {
            self.others.entry(task).or_default().push(at);
            return at;
        };
        if self.by_rsc.len() <= rsc.0 as usize {
            self.by_rsc.resize_with(rsc.0 as usize + 1, Vec::new);
        }
        let tasks = &mut self.by_rsc[rsc.0 as usize];
        match tasks.iter_mut().find(|(known, _)| *known == task) {
            Some((_, all)) => all.push(at),
            None => tasks.push((task, Few::from(&[at][..]))),
        }
        at
    }

    /// Says that `first` comes before `then`; true if that is new.
    pub fn order(&mut self, first: ActionIx, then: ActionIx, kind: Kind) -> bool {
        if first == then || kind.is_none() {
            return false;
        }
        let mut is_linked = false;
        for edge in self.get(then).before.iter().filter(|edge| edge.first == first) {
            if edge.kind.has(kind) {
                return false;
            }
            is_linked = true;
        }
        self.actions[then.0 as usize].before.push(Edge { first, kind });
        if !is_linked {
            self.actions[first.0 as usize].after.push(then);
        }
        true
    }
}
