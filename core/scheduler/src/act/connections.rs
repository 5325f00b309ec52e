//! What has to come before what on remote nodes and guests?
//!
//! Their actions go through a connection that is itself a resource: it must be up before anything starts there, and
//! stay up until everything has stopped there. Where it does not come back, what was on the node ends by fencing.
//!
//! In: the actions of all resources. Out: relations to connections and containers, and nodes to be fenced.
//! Not here: the fencing itself (`nodes.rs`), whether a remote node is up (`read/nodes.rs`).

use model::situation::Role;

use super::graph::{ActionIx, Kind, Task};
use super::{End, Ordering, Planner};
use crate::world::{NodeIx, RscIx};

/// What can be done through the connection of a remote node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// It is up, and stays or moves.
    Alive,
    /// Its host is lost, or it is moving: it comes back elsewhere.
    Resting,
    /// It is down, and is tried again.
    Unknown,
    /// It ends, as it should.
    Stopped,
    /// It does not come back.
    Failed,
}

impl Planner<'_, '_> {
    /// What is done on a remote node or guest needs its connection.
    pub(super) fn order_on_connections(&mut self) {
        let world = self.world;
        for at in self.graph.ixs().collect::<Vec<_>>() {
            let action = self.graph.get(at);
            let (Some(rsc), Some(node), task) = (action.rsc, action.node, action.task) else { continue };
            if world.rsc(rsc).connects.is_some() && task == Task::ClearFailures {
                self.orderings.push(Ordering {
                    first: End::This(at),
                    then: End::Of(rsc, Task::Start),
                    kind: Kind::ORDERED,
                });
                continue;
            }
            // A check is ended whether or not its connection comes back.
            if action.is_marker || matches!(task, Task::Cancel(..)) {
                continue;
            }
            let Some(connection) = world.node(node).connection() else { continue };
            if task == Task::Start {
                // If the connection cannot be made, it stays where it is.
                for stop in self.graph.each(rsc, Task::Stop) {
                    if self.graph.get(stop).node != Some(node) {
                        let (first, then) = (End::Of(connection, Task::Start), End::This(stop));
                        self.orderings.push(Ordering { first, then, kind: Kind::ORDERED });
                    }
                }
            }
            match world.node(node).container() {
                Some(container) => self.order_on_guest(at, task, connection, container),
                None => self.order_on_remote(at, task, node, connection),
            }
        }
    }

    /// A remote node whose connection failed and does not come back is cut off: nothing else tells what it does.
    pub(super) fn fence_unreachable(&mut self, node: NodeIx) {
        let there = self.world.node(node);
        if !self.is_online(node)
            && there.is_remote()
            && there.connection().is_some_and(|connection| self.reach(node, connection) == Reach::Failed)
        {
            self.fence(node, "the connection is unrecoverable");
        }
    }

    fn after_start(&mut self, rsc: RscIx, at: ActionIx, kind: Kind) {
        let (first, then) = (End::Of(rsc, Task::Start), End::This(at));
        self.orderings.push(Ordering { first, then, kind: kind.with(Kind::BLOCKS) });
    }

    fn before_stop(&mut self, at: ActionIx, rsc: RscIx, kind: Kind) {
        let (first, then) = (End::This(at), End::Of(rsc, Task::Stop));
        self.orderings.push(Ordering { first, then, kind: kind.with(Kind::ORDERED) });
    }

    fn order_on_guest(&mut self, at: ActionIx, task: Task<'_>, connection: RscIx, container: RscIx) {
        match task {
            Task::Start | Task::Promote => {
                self.after_start(container, at, Kind::THEN_FOLLOWS);
                self.after_start(connection, at, Kind::NONE);
            }
            Task::Stop | Task::Demote => {
                // What was in a failed container ended with it.
                if !self.world.rsc(container).is_failed {
                    self.before_stop(at, connection, Kind::NONE);
                }
            }
            Task::Monitor(_) => self.after_start(connection, at, Kind::THEN_FOLLOWS),
            _ => self.after_start(connection, at, Kind::NONE),
        }
    }

    fn order_on_remote(&mut self, at: ActionIx, task: Task<'_>, node: NodeIx, connection: RscIx) {
        let reach = self.reach(node, connection);
        match task {
            Task::Start | Task::Promote => {
                let kind = if reach == Reach::Failed { Kind::THEN_FOLLOWS } else { Kind::NONE };
                self.after_start(connection, at, kind);
            }
            Task::Stop => match reach {
                Reach::Alive => self.before_stop(at, connection, Kind::FIRST_FOLLOWS),
                Reach::Failed => self.fence(node, "resources are active but connection is unrecoverable"),
                Reach::Stopped | Reach::Unknown | Reach::Resting => {
                    if self.goal(connection) == Role::Stopped {
                        self.before_stop(at, connection, Kind::FIRST_FOLLOWS);
                    } else {
                        self.after_start(connection, at, Kind::NONE);
                    }
                }
            },
            Task::Demote => {
                // Where the connection ends, the stop tells the order.
                if matches!(reach, Reach::Resting | Reach::Unknown) {
                    self.after_start(connection, at, Kind::NONE);
                }
            }
            Task::Monitor(_) => self.after_start(connection, at, Kind::THEN_FOLLOWS),
            _ => {
                if task == Task::Probe && reach == Reach::Failed {
                    self.fence(node, "resources are in unknown state and connection is unrecoverable");
                }
                if reach == Reach::Stopped && !self.world.rsc(connection).active_on.is_empty() {
                    // Looked at while that is possible.
                    self.before_stop(at, connection, Kind::BLOCKS);
                } else {
                    self.after_start(connection, at, Kind::NONE);
                }
            }
        }
    }

    fn reach(&self, node: NodeIx, connection: RscIx) -> Reach {
        let world = self.world;
        let it = world.rsc(connection);
        let host = self.current_of(connection);
        if self.goal(connection) == Role::Stopped || self.place_of(connection).is_none() {
            if host.is_some_and(|host| self.is_unclean(host)) {
                return Reach::Failed;
            }
            if !it.is_failed {
                return Reach::Stopped;
            }
            let is_retried = it.primitive().is_some_and(|primitive| primitive.reconnect_s > 0);
            let there = world.node(node);
            let wants_to_leave = there.facts.shutdown_since.is_some_and(|since| since != 0);
            if self.goal(connection) == Role::Stopped && is_retried && there.remote_was_fenced && !wants_to_leave {
                return Reach::Unknown;
            }
            return Reach::Failed;
        }
        let Some(host) = host else { return Reach::Unknown };
        if self.is_unclean(host) || !self.is_online(host) || it.active_on.len() > 1 && it.partial_migration.is_some() {
            return Reach::Resting;
        }
        Reach::Alive
    }

    /// Where it is; of several places the one that counts.
    fn current_of(&self, rsc: RscIx) -> Option<NodeIx> {
        let it = self.world.rsc(rsc);
        it.partial_migration.map(|(source, _)| source).or_else(|| it.active_on.first().copied())
    }
}
