//! Why is an action in the plan?
//!
//! What makes an action needed or impossible is noted when that happens ([`Because`]: numbers only, so that it costs
//! nothing). Once the plan is there, each action that somebody has to carry out gets its [`Cause`], with names. The
//! sentences for both stand here and nowhere else.
//!
//! Not here: why a resource goes where it goes (`reasons/`).

use std::fmt;

use serde::Serialize;

use model::situation::Role;

use super::Planner;
use super::graph::{Action, ActionIx, Noted, Phase, Task};
use crate::world::RscIx;

/// What made an action needed, or impossible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    /// No node may run the resource.
    NoNode,
    /// It is not to run.
    Disabled,
    /// Its definition is another than the one it was started with.
    DefinitionChanged,
    /// There is no majority.
    NoQuorum,
    /// Another action has to be done.
    Needed(ActionIx),
    /// Another action cannot be done.
    Hindered(ActionIx),
    /// It must be with a resource that cannot start.
    Partner(RscIx),
    /// It left the configuration.
    Removed,
    /// A guest went down with its container.
    GuestDown,
    /// What happened, in words.
    Fact(String),
}

/// Why an action is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// Nobody has looked yet whether it runs there.
    NotLookedYet,
    /// It is to run, and runs nowhere.
    Wanted,
    /// It goes from one node to another.
    Moves {
        /// From where.
        from: String,
        /// To where.
        to: String,
    },
    /// It would go to another node, and cannot start there.
    CannotStart {
        /// Where it cannot start.
        node: String,
        /// Why not.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// It failed.
    Failed {
        /// Where.
        node: String,
    },
    /// Its definition is another than the one it was started with.
    DefinitionChanged,
    /// It is not to run.
    Disabled,
    /// No node may run it.
    NoNode,
    /// It is active on several nodes.
    ActiveOnSeveral,
    /// A live migration left it over there.
    LeftOver,
    /// It left the configuration, or is one instance too many.
    Removed,
    /// It is to lead.
    Leads,
    /// It is to lead no more.
    LeadsNoMore,
    /// Something else that is done brings it along.
    BroughtAlong {
        /// What is done.
        action: &'static str,
        /// To which resource; none: to the node.
        #[serde(skip_serializing_if = "Option::is_none")]
        resource: Option<String>,
    },
    /// It starts again after the stop that something else brought along.
    Restarts,
    /// The node is cut off, or let in again.
    Fencing {
        /// Why.
        why: String,
    },
    /// The node wants to leave.
    NodeLeaves,
    /// What runs is checked again and again.
    Checked,
    /// It is not checked there any more.
    CheckEnds,
    /// Instances are told of something that is done to the others.
    Tells {
        /// Of what.
        operation: &'static str,
        /// Has it been done?
        is_done: bool,
    },
    /// Its failures are forgotten.
    Forgotten {
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// It waited long enough for a node that was shut down.
    WaitedEnough,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NotLookedYet => f.write_str("nobody has looked yet"),
            Cause::Wanted => f.write_str("it is to run"),
            Cause::Moves { from, to } => write!(f, "it moves from {from} to {to}"),
            Cause::CannotStart { node, why: Some(why) } => write!(f, "it cannot start on {node}: {why}"),
            Cause::CannotStart { node, why: None } => write!(f, "it cannot start on {node}"),
            Cause::Failed { node } => write!(f, "it failed on {node}"),
            Cause::DefinitionChanged => f.write_str("its definition changed"),
            Cause::Disabled => f.write_str("it is disabled"),
            Cause::NoNode => f.write_str("no node can run it"),
            Cause::ActiveOnSeveral => f.write_str("it is active on several nodes"),
            Cause::LeftOver => f.write_str("a live migration left it over"),
            Cause::Removed => f.write_str("it left the configuration"),
            Cause::Leads => f.write_str("it is to lead"),
            Cause::LeadsNoMore => f.write_str("it is to lead no more"),
            Cause::BroughtAlong { action, resource: Some(resource) } => write!(f, "{resource} {action}"),
            Cause::BroughtAlong { action, resource: None } => write!(f, "the node {action}"),
            Cause::Restarts => f.write_str("it restarts"),
            Cause::Fencing { why } => f.write_str(why),
            Cause::NodeLeaves => f.write_str("the node wants to leave"),
            Cause::Checked => f.write_str("it runs there"),
            Cause::CheckEnds => f.write_str("that check is not wanted there"),
            Cause::Tells { operation, is_done: true } => write!(f, "others were to {operation}"),
            Cause::Tells { operation, is_done: false } => write!(f, "others are to {operation}"),
            Cause::Forgotten { why: Some(why) } => f.write_str(why),
            Cause::Forgotten { why: None } => f.write_str("it is forgotten"),
            Cause::WaitedEnough => f.write_str("it waited long enough for that node"),
        }
    }
}

/// What is done to something, as the rest of a sentence that begins with its name; and what cannot be done.
fn verbs(task: Task<'_>) -> (&'static str, &'static str) {
    match task {
        Task::Start | Task::Started => ("starts", "cannot start"),
        Task::Stop | Task::Stopped => ("stops", "cannot be stopped"),
        Task::Promote | Task::Promoted => ("is promoted", "cannot be promoted"),
        Task::Demote | Task::Demoted => ("is demoted", "cannot be demoted"),
        Task::MigrateTo | Task::MigrateFrom => ("moves live", "cannot move live"),
        Task::Reload => ("is reloaded", "cannot be reloaded"),
        Task::Probe => ("is looked for", "cannot be looked for"),
        Task::Monitor(_) | Task::Cancel(..) => ("is checked", "cannot be checked"),
        Task::ClearFailures => ("has its failures forgotten", "cannot have its failures forgotten"),
        Task::Delete | Task::Forget => ("is forgotten", "cannot be forgotten"),
        Task::Fence => ("is fenced", "cannot be fenced"),
        Task::Unfence => ("is unfenced", "cannot be unfenced"),
        Task::Shutdown => ("shuts down", "cannot shut down"),
        Task::Unloaded => ("makes room", "makes no room"),
        Task::Enough(_) => ("is there in part", "is not there in part"),
        Task::Notify(..) | Task::Notified(..) => ("is told", "cannot be told"),
    }
}

impl Planner<'_, '_> {
    /// What made an action needed or impossible, as a sentence.
    pub(super) fn reason(&self, because: &Because) -> String {
        match because {
            Because::NoNode => "no node can run it".to_owned(),
            Because::Disabled => "it is disabled".to_owned(),
            Because::DefinitionChanged => "its definition changed".to_owned(),
            Because::NoQuorum => "there is no quorum".to_owned(),
            Because::Needed(other) => self.sentence(*other, self.verb(*other)),
            Because::Hindered(other) => self.sentence(*other, verbs(self.graph.get(*other).task).1),
            Because::Partner(rsc) => format!("it must be with {}, which cannot start", self.world.rsc(*rsc).id),
            Because::Removed => "it left the configuration".to_owned(),
            Because::GuestDown => "the guest went down".to_owned(),
            Because::Fact(what) => what.clone(),
        }
    }

    /// What is done; the start of what runs there is the end of a restart.
    fn verb(&self, at: ActionIx) -> &'static str {
        let action = self.graph.get(at);
        let runs_there = |rsc: RscIx| action.node.is_some_and(|node| self.world.rsc(rsc).active_on.contains(&node));
        match action.task {
            Task::Start if action.rsc.is_some_and(runs_there) => "restarts",
            task => verbs(task).0,
        }
    }

    /// Why an action has to be done, or cannot be.
    pub(super) fn reason_of(&self, action: &Action<'_>) -> Option<String> {
        let unreachable = || {
            let node = action.node.filter(|node| !action.is_runnable && !self.is_online(*node))?;
            Some(format!("{} cannot be reached", self.world.node(node).name))
        };
        action.because.as_ref().map(|because| self.reason(because)).or_else(unreachable)
    }

    fn sentence(&self, at: ActionIx, verb: &str) -> String {
        let action = self.graph.get(at);
        match (action.rsc, action.node) {
            (Some(rsc), _) => format!("{} {verb}", self.world.rsc(rsc).id),
            (None, Some(node)) => format!("{} {verb}", self.world.node(node).name),
            (None, None) => verb.to_owned(),
        }
    }

    /// Why an action is done.
    pub(super) fn cause(&self, at: ActionIx) -> Cause {
        let action = self.graph.get(at);
        let noted = action.because.as_ref();
        let why = || noted.map(|because| self.reason(because));
        match action.task {
            Task::Probe => Cause::NotLookedYet,
            Task::Monitor(_) => Cause::Checked,
            Task::Cancel(..) => Cause::CheckEnds,
            Task::ClearFailures => Cause::Forgotten { why: why() },
            Task::Delete => match action.rsc.is_some_and(|rsc| self.world.rsc(rsc).is_removed) {
                true => Cause::Removed,
                false => Cause::DefinitionChanged,
            },
            Task::Forget => Cause::WaitedEnough,
            Task::Fence | Task::Unfence => Cause::Fencing { why: why().unwrap_or_default() },
            Task::Shutdown => Cause::NodeLeaves,
            Task::Reload => Cause::DefinitionChanged,
            Task::Notify(phase, noted) | Task::Notified(phase, noted) => {
                let operation = match noted {
                    Noted::Start => "start",
                    Noted::Stop => "stop",
                    Noted::Promote => "promote",
                    Noted::Demote => "demote",
                };
                Cause::Tells { operation, is_done: phase == Phase::After }
            }
            Task::Start
            | Task::Stop
            | Task::Promote
            | Task::Demote
            | Task::MigrateTo
            | Task::MigrateFrom
            | Task::Started
            | Task::Stopped
            | Task::Promoted
            | Task::Demoted
            | Task::Unloaded
            | Task::Enough(_) => self.cause_of_change(at),
        }
    }

    /// Why a resource changes its state.
    fn cause_of_change(&self, at: ActionIx) -> Cause {
        let action = self.graph.get(at);
        let Some(rsc) = action.rsc else { return Cause::Wanted };
        let it = self.world.rsc(rsc);
        match &action.because {
            Some(Because::Needed(other)) => {
                let action = self.verb(*other);
                let other = self.graph.get(*other);
                if other.rsc != Some(rsc) {
                    return Cause::BroughtAlong {
                        action,
                        resource: other.rsc.map(|rsc| self.world.rsc(rsc).id.to_string()),
                    };
                }
                // Its own other half: a stop that its start needs has the reason that the start has.
                match &other.because {
                    Some(Because::DefinitionChanged) => return Cause::DefinitionChanged,
                    Some(Because::Needed(third)) if self.graph.get(*third).rsc != Some(rsc) => {
                        let action = self.verb(*third);
                        let third = self.graph.get(*third);
                        return Cause::BroughtAlong {
                            action,
                            resource: third.rsc.map(|rsc| self.world.rsc(rsc).id.to_string()),
                        };
                    }
                    _ => {}
                }
            }
            Some(Because::DefinitionChanged) => return Cause::DefinitionChanged,
            _ => {}
        }
        if it.is_removed {
            return Cause::Removed;
        }
        if action.task == Task::Stop && action.node.is_some_and(|node| it.dangling.contains(&node)) {
            return Cause::LeftOver;
        }
        if it.active_on.len() > 1 && it.partial_migration.is_none() {
            return Cause::ActiveOnSeveral;
        }
        let name = |node: crate::world::NodeIx| self.world.node(node).name.to_owned();
        let current = self.world.current_node(rsc);
        let chosen = self.placement.node[rsc.0 as usize];
        match (current, chosen) {
            (Some(from), Some(to)) if from != to => {
                let start = self.graph.find_exact(Some(rsc), Task::Start, Some(to)).map(|at| self.graph.get(at));
                if let Some(start) = start.filter(|start| action.task == Task::Stop && !start.is_runnable) {
                    return Cause::CannotStart { node: name(to), why: self.reason_of(start) };
                }
                return Cause::Moves { from: name(from), to: name(to) };
            }
            (Some(_), None) if it.meta.target_role == Some(Role::Stopped) => return Cause::Disabled,
            (Some(_), None) => return Cause::NoNode,
            (_, _) => {}
        }
        if let Some(node) = current.filter(|_| it.is_failed) {
            return Cause::Failed { node: name(node) };
        }
        match action.task {
            Task::Promote | Task::Promoted if self.role(rsc) < Role::Promoted => Cause::Leads,
            Task::Demote | Task::Demoted if self.goal(rsc) < Role::Promoted => Cause::LeadsNoMore,
            _ if current.is_some() => Cause::Restarts,
            _ => Cause::Wanted,
        }
    }
}
