//! What is left to do, as facts: actions in their order, what an operator is told, and where everything ends up.

use std::collections::{BTreeMap, BTreeSet};

use model::situation::{FenceHow, Role};
use serde::{Serialize, Serializer};

use super::Planner;
use super::cause::Cause;
use super::circles::without_circles;
use super::graph::{ActionIx, Graph, Noted, Phase, Task};
use super::whereabouts::{Running, Whereabouts};
use crate::world::{NodeIx, RscIx};

/// A plan with everything that follows from it.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    whereabouts: Whereabouts,
    /// How each node is once the plan is carried out.
    pub nodes: BTreeMap<String, NodeLook>,
    /// What is still special about a resource then: `failed@NODE`, `unmanaged`, …
    pub flags: BTreeMap<String, Vec<String>>,
    /// What is done.
    pub actions: Vec<Done>,
    /// Places in `actions`: the first comes before the second.
    pub order: Vec<(usize, usize)>,
    /// What an operator is told.
    pub decisions: Vec<Told>,
    /// Parameters of every resource with an action.
    pub params: BTreeMap<String, BTreeMap<String, String>>,
    /// Why resources that run nowhere are kept off nodes by what happened.
    pub obstacles: BTreeMap<String, Vec<String>>,
    /// Why each action is done, in the order of `actions`; empty where nobody asks.
    pub(crate) causes: Vec<Cause>,
}

impl Judgement {
    /// Where everything is once the plan is carried out. Spelt out anew each time.
    pub fn placement(&self) -> BTreeMap<String, Vec<Place>> {
        self.whereabouts.placement()
    }

    /// Where everything is. Spelt out anew each time.
    pub fn current(&self) -> BTreeMap<String, Vec<Place>> {
        self.whereabouts.current()
    }

    /// As `placement`, by the names that histories bear: with implicit connections, and what is in containers on the
    /// nodes that those are; without what runs nowhere.
    pub fn running(&self) -> BTreeMap<String, Vec<Place>> {
        self.whereabouts.running()
    }
}

impl Serialize for Judgement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct InNames<'a> {
            placement: BTreeMap<String, Vec<Place>>,
            current: BTreeMap<String, Vec<Place>>,
            nodes: &'a BTreeMap<String, NodeLook>,
            flags: &'a BTreeMap<String, Vec<String>>,
            actions: &'a [Done],
            order: &'a [(usize, usize)],
            decisions: &'a [Told],
            params: &'a BTreeMap<String, BTreeMap<String, String>>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            obstacles: &'a BTreeMap<String, Vec<String>>,
        }
        let in_names = InNames {
            placement: self.placement(),
            current: self.current(),
            nodes: &self.nodes,
            flags: &self.flags,
            actions: &self.actions,
            order: &self.order,
            decisions: &self.decisions,
            params: &self.params,
            obstacles: &self.obstacles,
        };
        in_names.serialize(serializer)
    }
}

/// A node that has a resource, in a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Its name.
    pub node: String,
    /// What the resource is there.
    pub role: Role,
}

/// How a node is taken to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeLook {
    /// `member`, `remote` or `guest`.
    pub kind: &'static str,
    /// `online`, `standby`, `offline`, `unclean-offline`, …
    pub state: &'static str,
}

/// One action that somebody has to carry out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// What is done.
    pub action: &'static str,
    /// To which resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Where.
    pub node: String,
    /// Repeated checks: milliseconds between two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<u32>,
    /// Fencing: how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<&'static str>,
    /// Notifications: `pre` or `post`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<&'static str>,
    /// Notifications: of which operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<&'static str>,
    /// Milliseconds that it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
}

/// One line that an operator is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Told {
    /// `start`, `stop`, `move`, `recover`, …
    pub action: &'static str,
    /// Of which resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Fencing: which node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_role: Option<Role>,
    /// To where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What it will be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_role: Option<Role>,
    /// Fencing: how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<&'static str>,
    /// Fencing of a guest: the resource that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// It cannot be done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub blocked: bool,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl<'w, 'a> Planner<'w, 'a> {
    pub(super) fn judgement(mut self, tells: bool) -> Judgement {
        let shown = self.shown();
        self.open_load_loops(&shown);
        let then = self.running_then(&shown);
        let is_shown = |at: &ActionIx| shown[at.0 as usize];
        let (real, actions): (Vec<ActionIx>, Vec<Done>) =
            self.graph.ixs().filter(is_shown).filter_map(|at| Some((at, self.done(at)?))).unzip();
        Judgement {
            whereabouts: self.whereabouts(&then),
            nodes: self.nodes(&then, &shown),
            flags: self.flags(&then, &shown),
            order: self.order_of(&real, &shown),
            actions,
            decisions: self.told(),
            params: self.params(&real),
            obstacles: self.obstacles(&then),
            causes: if tells { real.iter().map(|at| self.cause(*at)).collect() } else { Vec::new() },
        }
    }

    fn is_migrating(&self, rsc: RscIx) -> bool {
        self.graph
            .all(rsc, Task::MigrateFrom)
            .iter()
            .any(|at| self.graph.get(*at).is_runnable && !self.graph.get(*at).is_optional)
    }

    /// Which actions are part of the plan?
    pub(super) fn shown(&self) -> Vec<bool> {
        let world = self.world;
        self.graph
            .actions
            .iter()
            .map(|action| {
                if !action.is_runnable || (action.is_optional && !action.is_always_shown) {
                    return false;
                }
                if let Some(rsc) = action.rsc
                    && !world.rsc(rsc).is_managed
                    && world.rsc(rsc).is_primitive()
                    && !matches!(
                        action.task,
                        Task::Monitor(_)
                            | Task::Cancel(..)
                            | Task::Probe
                            | Task::ClearFailures
                            | Task::Delete
                            | Task::Forget
                    )
                {
                    return false;
                }
                if action.is_marker || matches!(action.task, Task::Fence | Task::Unfence | Task::Shutdown) {
                    return true;
                }
                let Some(node) = action.node else { return false };
                if matches!(action.task, Task::ClearFailures | Task::Delete | Task::Forget) {
                    return true;
                }
                self.is_online(node) && !self.is_unclean(node) && !world.node(node).is_pending
            })
            .collect()
    }

    /// An action as somebody has to carry it out; none for markers.
    fn done(&self, at: ActionIx) -> Option<Done> {
        let world = self.world;
        let action = self.graph.get(at);
        if action.is_marker {
            return None;
        }
        let node = world.node(action.node?).name.to_owned();
        let mut done = Done { node, ..Done::default() };
        done.action = match action.task {
            Task::Start => "start",
            Task::Stop => "stop",
            Task::Promote => "promote",
            Task::Demote => "demote",
            Task::MigrateTo => "migrate_to",
            Task::MigrateFrom => "migrate_from",
            Task::Reload => "reload",
            Task::Probe => "probe",
            Task::Monitor(interval) => {
                done.interval = Some(interval);
                "monitor"
            }
            Task::Cancel(_, interval) => {
                done.interval = Some(interval);
                "cancel"
            }
            Task::ClearFailures => "clear_failcount",
            Task::Delete => "delete",
            Task::Forget => "lrm_delete",
            Task::Fence => {
                done.op = Some(how(self.fence_how(action.node?)));
                "fence"
            }
            Task::Unfence => {
                done.op = Some(how(FenceHow::On));
                "fence"
            }
            Task::Shutdown => "shutdown",
            Task::Notify(phase, noted) => {
                done.phase = Some(match phase {
                    Phase::Before => "pre",
                    Phase::After => "post",
                });
                done.of = Some(match noted {
                    Noted::Start => "start",
                    Noted::Stop => "stop",
                    Noted::Promote => "promote",
                    Noted::Demote => "demote",
                });
                "notify"
            }
            Task::Started
            | Task::Stopped
            | Task::Promoted
            | Task::Demoted
            | Task::Unloaded
            | Task::Enough(_)
            | Task::Notified(..) => return None,
        };
        done.resource = action.rsc.map(|rsc| self.reported_name(rsc).to_owned());
        done.timeout = self.timeout(at);
        Some(done)
    }

    fn timeout(&self, at: ActionIx) -> Option<u32> {
        let action = self.graph.get(at);
        let primitive = self.world.rsc(action.rsc?).primitive()?;
        let (name, interval) = match action.task {
            Task::Start => ("start", 0),
            Task::Stop => ("stop", 0),
            Task::Promote => ("promote", 0),
            Task::Demote => ("demote", 0),
            Task::MigrateTo => ("migrate_to", 0),
            Task::MigrateFrom => ("migrate_from", 0),
            Task::Reload => ("reload", 0),
            Task::Probe => ("monitor", 0),
            Task::Monitor(interval) | Task::Cancel(_, interval) => ("monitor", interval),
            Task::Notify(..) => ("notify", 0),
            _ => return Some(20_000),
        };
        let configured = crate::read::find(&primitive.operations, name, interval);
        let default = || primitive.default_timeouts_ms.get(name).copied().unwrap_or(20_000);
        Some(configured.map_or_else(default, |operation| operation.timeout_ms))
    }

    /// The name that its agent knows it by: an instance bears its number if the history knows it so.
    fn reported_name(&self, rsc: RscIx) -> &'w str {
        let it = self.world.rsc(rsc);
        if self.world.numbered.contains(&*it.id) { &it.id } else { self.name(rsc) }
    }

    /// The name that an operator knows it by.
    pub(super) fn name(&self, rsc: RscIx) -> &'w str {
        let it = self.world.rsc(rsc);
        if self.world.is_anonymous_instance(rsc) { it.name } else { &it.id }
    }

    /// Orders between real actions, markers in between left out.
    fn order_of(&self, real: &[ActionIx], shown: &[bool]) -> Vec<(usize, usize)> {
        let mut place: Vec<Option<usize>> = vec![None; self.graph.actions.len()];
        for (at, action) in real.iter().enumerate() {
            place[action.0 as usize] = Some(at);
        }
        let mut pairs = Vec::new();
        // By action: the last real one that was come from.
        let mut seen: Vec<Option<usize>> = vec![None; self.graph.actions.len()];
        let mut open = Vec::new();
        for (to, at) in real.iter().enumerate() {
            open.push(*at);
            while let Some(next) = open.pop() {
                for edge in &self.graph.get(next).before {
                    let first = edge.first.0 as usize;
                    if edge.kind.is_none() || !shown[first] || !self.counts(edge.first, next, edge.kind) {
                        continue;
                    }
                    if let Some(from) = place[first] {
                        pairs.push((from, to));
                    } else if seen[first].replace(to) != Some(to) {
                        open.push(edge.first);
                    }
                }
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        without_circles(real.len(), pairs)
    }

    pub(super) fn counts(&self, first: ActionIx, then: ActionIx, kind: super::Kind) -> bool {
        let (a, b) = (self.graph.get(first), self.graph.get(then));
        if kind.has(super::Kind::SERIAL) && a.node != b.node {
            return true;
        }
        // The stop at the end of a live migration interrupts nothing.
        let is_live_stop = a.may_migrate && a.task == Task::Stop && kind == super::Kind::ORDERED;
        let is_unless_live = a.may_migrate && kind.has(super::Kind::UNLESS_FIRST_MIGRATES);
        !is_live_stop && !is_unless_live
    }

    /// Why what runs nowhere is kept off nodes.
    fn obstacles(&self, then: &Running<'w, 'a>) -> BTreeMap<String, Vec<String>> {
        let world = self.world;
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for rsc in world.rsc_ixs().filter(|rsc| world.rsc(*rsc).is_primitive()) {
            if then.anywhere(rsc) || self.outer_bundle(rsc).is_some() {
                continue;
            }
            let shared = world.top(rsc);
            let bans = [Some(rsc), (shared != rsc).then_some(shared)].into_iter().flatten();
            for ban in bans.flat_map(|rsc| &world.rsc(rsc).bans).filter(|ban| ban.score.is_must_not()) {
                let line = match ban.node {
                    Some(node) => format!("not on {}: {}", world.node(node).name, ban.why),
                    None => format!("nowhere: {}", ban.why),
                };
                let list = found.entry(self.name(rsc).to_owned()).or_default();
                if !list.contains(&line) {
                    list.push(line);
                }
            }
        }
        found
    }

    pub(super) fn outer_bundle(&self, rsc: RscIx) -> Option<RscIx> {
        let top = self.world.outermost(rsc);
        self.world.rsc(top).is_bundle().then_some(top)
    }

    /// How each node is once the plan is carried out.
    fn nodes(&self, then: &Running<'w, 'a>, shown: &[bool]) -> BTreeMap<String, NodeLook> {
        let world = self.world;
        let fenced: BTreeSet<NodeIx> = self
            .graph
            .actions
            .iter()
            .zip(shown)
            .filter(|(action, is_shown)| action.task == Task::Fence && **is_shown)
            .filter_map(|(action, _)| action.node)
            .collect();
        let mut found = BTreeMap::new();
        for node in world.node_ixs() {
            let there = world.node(node);
            let is_up = match there.connection() {
                None if there.is_member() => there.is_online && !fenced.contains(&node),
                None => false,
                Some(connection) => then.anywhere(connection),
            };
            let kind = if there.is_member() {
                "member"
            } else if there.is_guest() {
                "guest"
            } else {
                "remote"
            };
            if kind == "guest" && !is_up {
                continue;
            }
            let is_unclean = there.is_member() && there.is_unclean && !fenced.contains(&node)
                || there.is_remote() && self.is_unclean(node) && !fenced.contains(&node) && !is_up;
            let state = if there.is_pending && !fenced.contains(&node) {
                "pending"
            } else if is_unclean {
                if is_up { "unclean-online" } else { "unclean-offline" }
            } else if is_up {
                if there.is_standby {
                    "standby"
                } else if there.is_maintenance {
                    "maintenance"
                } else {
                    "online"
                }
            } else if there.facts.is_standby && !fenced.contains(&node) {
                "offline-standby"
            } else if there.is_maintenance && !fenced.contains(&node) {
                "offline-maintenance"
            } else {
                "offline"
            };
            found.insert(there.name.to_owned(), NodeLook { kind, state });
        }
        found
    }

    /// What is still special about resources once the plan is carried out.
    fn flags(&self, then: &Running<'w, 'a>, shown: &[bool]) -> BTreeMap<String, Vec<String>> {
        let world = self.world;
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let hands_off = |rsc: RscIx| {
            let it = world.rsc(rsc);
            if it.is_maintenance {
                Some("maintenance")
            } else if !it.is_managed {
                Some("unmanaged")
            } else {
                None
            }
        };
        for rsc in world.rsc_ixs() {
            let it = world.rsc(rsc);
            if !it.is_primitive() {
                let is_outermost =
                    it.parent.is_none_or(|parent| !world.rsc(parent).is_clone() && !world.rsc(parent).is_bundle());
                if is_outermost && let Some(flag) = hands_off(rsc) {
                    found.entry(it.id.to_string()).or_default().insert(flag.to_owned());
                }
                continue;
            }
            let is_implicit = it.connects.is_some_and(|node| world.node(node).is_guest());
            if self.outer_bundle(rsc).is_some() || is_implicit {
                continue;
            }
            let mut is_anywhere = false;
            for (node, _) in then.of(rsc) {
                is_anywhere = true;
                let mut say = |flag: &str| {
                    let flag = format!("{flag}@{}", world.node(node).name);
                    found.entry(self.name(rsc).to_owned()).or_default().insert(flag);
                };
                if it.is_failed && it.failed_on.contains(&node) {
                    let mut stops = self.graph.all(rsc, Task::Stop).iter();
                    if !stops.any(|stop| shown[stop.0 as usize] && self.graph.get(*stop).node == Some(node)) {
                        say("failed");
                    }
                }
                if it.is_removed {
                    say("removed");
                }
                if it.is_blocked {
                    say("blocked");
                } else if let Some(flag) = hands_off(rsc) {
                    say(flag);
                }
            }
            if is_anywhere {
                continue;
            }
            let mut say = |flag: String| found.entry(self.name(rsc).to_owned()).or_default().insert(flag);
            let is_instance = world.clone_of(rsc).is_some() && !it.is_unique;
            if !is_instance
                && !it.is_removed
                && let Some(flag) = hands_off(rsc)
            {
                say(flag.to_owned());
            }
            if let Some((node, _)) = it.locked_to {
                say(format!("locked@{}", world.node(node).name));
            }
        }
        found.into_iter().map(|(name, flags)| (name, flags.into_iter().collect())).collect()
    }

    fn params(&self, real: &[ActionIx]) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        for at in real {
            let action = self.graph.get(*at);
            let (Some(rsc), Some(node)) = (action.rsc, action.node) else { continue };
            let Some(primitive) = self.world.rsc(rsc).primitive() else { continue };
            if matches!(
                action.task,
                Task::Stop
                    | Task::Demote
                    | Task::Notify(..)
                    | Task::Cancel(..)
                    | Task::ClearFailures
                    | Task::Delete
                    | Task::Forget
            ) {
                continue;
            }
            let name = &self.world.node(node).facts.name;
            let parameters = primitive.parameters_on.get(name).unwrap_or(&primitive.parameters);
            if !parameters.is_empty() {
                found.entry(self.reported_name(rsc).to_owned()).or_insert_with(|| parameters.clone());
            }
        }
        found
    }

    /// What an operator is told.
    fn told(&self) -> Vec<Told> {
        let world = self.world;
        let mut lines = Vec::new();
        for at in self.graph.ixs() {
            let action = self.graph.get(at);
            let Some(node) = action.node else { continue };
            let op = match action.task {
                Task::Fence => self.fence_how(node),
                Task::Unfence if !action.is_optional => FenceHow::On,
                _ => continue,
            };
            lines.push(Told {
                action: "fence",
                node: Some(world.node(node).name.to_owned()),
                op: Some(how(op)),
                via: world.node(node).container().map(|container| self.name(container).to_owned()),
                reason: action.because.as_ref().map(|because| self.reason(because)),
                ..Told::default()
            });
        }
        for rsc in world.rsc_ixs().filter(|rsc| world.rsc(*rsc).is_primitive()) {
            self.tell(rsc, &mut lines);
        }
        lines
    }

    fn tell(&self, rsc: RscIx, lines: &mut Vec<Told>) {
        let world = self.world;
        let graph: &Graph<'_> = &self.graph;
        let it = world.rsc(rsc);
        if !it.is_managed {
            return;
        }
        let current = world.current_node(rsc);
        let next = self.placement.node[rsc.0 as usize];
        let (role, goal) = (self.role(rsc), self.goal(rsc));
        let find = |task: Task<'static>, node: Option<NodeIx>| {
            node.and_then(|node| graph.find_exact(Some(rsc), task, Some(node))).map(|at| graph.get(at))
        };
        let needed = |task: Task<'static>, node: Option<NodeIx>| find(task, node).filter(|action| !action.is_optional);
        // That something runs needs no saying, unless it leads, or could.
        let says_roles = role > Role::Started || goal > Role::Unpromoted;
        let role_word = |role: Role| says_roles.then_some(role);
        let node_name = |node: Option<NodeIx>| node.map(|node| world.node(node).name.to_owned());
        let mut say =
            |action: &'static str, from: Option<NodeIx>, to: Option<NodeIx>, cause: Option<&super::Action<'_>>| {
                lines.push(Told {
                    action,
                    resource: Some(self.reported_name(rsc).to_owned()),
                    from: node_name(from),
                    from_role: if from.is_some() || action == "promote" { role_word(role) } else { None },
                    to: node_name(to),
                    to_role: to.and_then(|_| role_word(goal)),
                    blocked: cause.is_some_and(|action| !action.is_runnable),
                    reason: cause.and_then(|action| self.reason_of(action)),
                    ..Told::default()
                });
            };
        let start = find(Task::Start, next);
        let is_moving = current.is_some() && next.is_some() && current != next;
        let stop = needed(Task::Stop, current);
        let reload = needed(Task::Reload, current).filter(|_| stop.is_none() && needed(Task::Start, next).is_none());
        if role == goal {
            if role == Role::Stopped {
                return;
            }
            if self.is_migrating(rsc) {
                say("migrate", current, next, None);
            } else if reload.is_some() {
                say("reload", current, next, reload);
            } else if start.is_none_or(|start| start.is_optional) {
                if needed(Task::Demote, current).is_some() && needed(Task::Promote, next).is_some() {
                    say("re-promote", current, next, needed(Task::Demote, current));
                } else if start.is_some_and(|start| !start.is_runnable) && stop.is_some() {
                    say("stop", current, None, stop);
                }
            } else if start.is_some_and(|start| !start.is_runnable) {
                say("stop", current, None, stop.or(start));
            } else if is_moving {
                say(if it.is_failed { "recover" } else { "move" }, current, next, stop);
            } else if it.is_failed {
                say("recover", current, next, stop);
            } else {
                say("restart", current, next, stop);
            }
            return;
        }
        let is_start_impossible = start.is_some_and(|start| !start.is_runnable);
        if stop.is_some() && (goal == Role::Stopped || is_start_impossible) {
            for node in &it.active_on {
                if let Some(stop) = needed(Task::Stop, Some(*node)) {
                    say("stop", Some(*node), None, Some(stop));
                }
            }
        } else if stop.is_some() && it.is_failed && it.needs_stop {
            say("recover", current, next, stop);
        } else if is_moving {
            say("move", current, next, stop);
        } else if reload.is_some() {
            say("reload", current, next, reload);
        } else if stop.is_some() {
            say("restart", current, next, stop);
        } else if role == Role::Promoted {
            if let Some(demote) = needed(Task::Demote, current) {
                say("demote", current, next, Some(demote));
            }
        } else if goal == Role::Promoted {
            let from = current;
            say("promote", from, next, find(Task::Promote, next).or(start));
        } else if goal > Role::Stopped {
            say("start", None, next, start);
        }
    }
}

fn how(fence: FenceHow) -> &'static str {
    match fence {
        FenceHow::Reboot => "reboot",
        FenceHow::Off => "off",
        FenceHow::On => "on",
    }
}
