//! What runs where? Read off what each node reports of its resources.
//!
//! Every report is taken in order of its operations: each success says what the resource is, each failure says in
//! addition what has to be done about it; the gravest demand counts. A report of a remote node or a guest counts once
//! it is known that its connection is up.

use std::collections::BTreeMap;

use model::situation::{
    Definition, MultipleActive, NodeHistory, OnFail, OperationRecord, Requires, ResourceHistory, Role, Score,
};

use crate::few::Few;
use crate::read::failures::{FailureCounts, consequence};
use crate::read::migration;
use crate::read::nodes::{connect, fence_any, judge_remote};
use crate::read::resources::{add, add_removed_instance};
use crate::world::{Ban, Kind, NodeIx, Records, RscIx, World};

// What agents answer (OCF resource agent API 1.1).
pub(super) const OK: i32 = 0;
const INVALID: i32 = 2;
const UNIMPLEMENTED: i32 = 3;
const NO_PERMISSION: i32 = 4;
const NOT_INSTALLED: i32 = 5;
const NOT_CONFIGURED: i32 = 6;
pub(super) const NOT_RUNNING: i32 = 7;
const PROMOTED: i32 = 8;
const FAILED_PROMOTED: i32 = 9;
const DEGRADED: i32 = 190;
const DEGRADED_PROMOTED: i32 = 191;

// How the call of an agent went.
pub(super) const PENDING: i32 = -1;
pub(super) const DONE: i32 = 0;
const CANCELLED: i32 = 1;
const UNSUPPORTED: i32 = 3;
const ERROR: i32 = 4;
const ERROR_HARD: i32 = 5;
const ERROR_FATAL: i32 = 6;
const AGENT_NOT_INSTALLED: i32 = 7;

/// Reads every report.
pub(super) fn read_all(world: &mut World<'_>) {
    let situation = world.situation;
    let reports: Vec<(NodeIx, &NodeHistory)> = situation
        .history
        .iter()
        .filter_map(|report| Some((*world.node_by_name.get(report.node.as_str())?, report)))
        .collect();
    loop {
        let mut has_read = false;
        for (node, report) in &reports {
            if !world.node(*node).is_read && is_readable(world, *node) {
                read_report(world, *node, report);
                has_read = true;
            }
        }
        if !has_read {
            break;
        }
    }
    if situation.options.is_fencing_enabled {
        for (node, report) in &reports {
            if !world.node(*node).is_read {
                read_report(world, *node, report);
            }
        }
    }
    for rsc in world.rsc_ixs() {
        if world.rsc(rsc).is_primitive() {
            limit_goal(world, rsc);
        }
    }
    stop_failed_containers(world);
    name_followers(world);
    for node in world.node_ixs() {
        if world.node(node).is_member() {
            continue;
        }
        if world.node(node).is_read
            && world.node(node).facts.shutdown_since.is_some_and(|since| since != 0)
            && let Some(connection) = world.node(node).connection()
        {
            // It leaves by ending its connection.
            world.resources[connection.0 as usize].goal = Role::Stopped;
        }
        judge_remote(world, node);
    }
    sum_priorities(world);
}

fn is_readable(world: &World<'_>, node: NodeIx) -> bool {
    let options = &world.situation.options;
    let it = world.node(node);
    let is_started = |rsc: Option<RscIx>| rsc.is_some_and(|rsc| world.rsc(rsc).role == Role::Started);
    if it.is_guest() {
        is_started(it.connection()) && is_started(it.container())
    } else if it.is_remote() {
        it.connection().is_some() && (options.shutdown_lock_s.is_some() || is_started(it.connection()))
    } else {
        options.is_fencing_enabled || options.shutdown_lock_s.is_some() || it.is_online
    }
}

fn read_report<'a>(world: &mut World<'a>, node: NodeIx, report: &'a NodeHistory) {
    world.nodes[node.0 as usize].is_read = true;
    if !world.node(node).is_member() {
        judge_remote(world, node);
    }
    for history in &report.resources {
        read_resource(world, node, history);
    }
    for history in report.resources.iter().filter(|history| history.container.is_some()) {
        contain_removed(world, history);
    }
}

fn read_resource<'a>(world: &mut World<'a>, node: NodeIx, history: &'a ResourceHistory) {
    let Some(rsc) = find_resource(world, node, history) else { return };
    let it = &mut world.resources[rsc.0 as usize];
    if it.number.is_some() && !it.is_unique {
        it.reported_as = Some(&history.name);
    }
    if let Some(since) = history.locked_since
        && let Some(limit) = world.situation.options.shutdown_lock_s
    {
        let it = &mut world.resources[rsc.0 as usize];
        if limit == 0 || world.situation.now <= since + limit {
            it.locked_to = Some((node, since));
        } else {
            it.locks_over.insert(node);
        }
    }
    let sorted = by_age(&history.operations);
    let (start_at, stop_at) = active_range(&sorted);
    let primitive = world.rsc(rsc).primitive();
    let agent_changed = primitive.is_some_and(|primitive| {
        primitive.class != history.class || primitive.provider != history.provider || primitive.agent != history.agent
    });
    let records = Records {
        monitors: running_monitors(world, node, &sorted, start_at, stop_at),
        sorted,
        start_at,
        stop_at,
        expired_monitors: Vec::new(),
        reported_as: &history.name,
        agent_changed,
    };
    world.resources[rsc.0 as usize].records.insert(node, records);
    let role_before = world.rsc(rsc).role;
    world.resources[rsc.0 as usize].role = Role::Unknown;
    let mut reading = Reading { rsc, node, on_fail: OnFail::Ignore, last_failure: None };
    let mut at = 0;
    while let Some(record) = world.rsc(rsc).records.get(node).and_then(|records| records.sorted.get(at)) {
        reading.take(world, record);
        at += 1;
    }
    reading.conclude(world);
    limit_goal(world, rsc);
    let it = &mut world.resources[rsc.0 as usize];
    if role_before > it.role {
        it.role = role_before;
    }
}

/// It becomes no more than the operator wants.
fn limit_goal(world: &mut World<'_>, rsc: RscIx) {
    let is_promotable = world.clone_of(rsc).is_some_and(|clone| world.rsc(clone).meta.is_promotable);
    let it = &mut world.resources[rsc.0 as usize];
    let is_follower = |role: Role| role == Role::Unpromoted && is_promotable;
    if let Some(target) = it.meta.target_role.filter(|target| *target == Role::Stopped || is_follower(*target))
        && (it.goal == Role::Unknown || target < it.goal)
    {
        it.goal = target;
    }
}

/// Operations in the order in which they happened, as far as their numbers tell; that instances were told says nothing.
///
/// What is under way has no number yet: it comes last, or before what a later transition has done already.
fn by_age(operations: &[OperationRecord]) -> Vec<&OperationRecord> {
    let counting = || operations.iter().filter(|record| record.operation != "notify");
    let mut sorted = Vec::with_capacity(operations.len());
    sorted.extend(counting().filter(|record| record.call_id >= 0));
    sorted.sort_by_key(|record| (record.call_id, record.changed_at.unwrap_or(0)));
    for record in counting().filter(|record| record.call_id < 0) {
        let is_later = |other: &&OperationRecord| record.transition >= 0 && other.transition > record.transition;
        let at = sorted.iter().position(is_later).unwrap_or(sorted.len());
        sorted.insert(at, record);
    }
    sorted
}

/// Where the start and the stop are that the latest state follows from.
fn active_range(sorted: &[&OperationRecord]) -> (Option<usize>, Option<usize>) {
    let (mut start, mut stop, mut looked, mut role_change) = (None, None, None, None);
    for (at, record) in sorted.iter().enumerate() {
        match record.operation.as_str() {
            "stop" if record.status == DONE => stop = Some(at),
            "start" | "migrate_from" => start = Some(at),
            "monitor" if looked <= stop && matches!(record.rc, OK | PROMOTED) => looked = Some(at),
            "promote" | "demote" => role_change = Some(at),
            _ => {}
        }
    }
    (start.or(role_change).or(looked), stop)
}

/// Repeated checks that go on there.
fn running_monitors<'a>(
    world: &World<'_>,
    node: NodeIx,
    sorted: &[&'a OperationRecord],
    start_at: Option<usize>,
    stop_at: Option<usize>,
) -> Vec<(&'a str, u32)> {
    if !world.node(node).is_online {
        return Vec::new();
    }
    let counts = |at: usize| {
        if start_at < stop_at && Some(at) <= stop_at { false } else { start_at.is_none_or(|start| at >= start) }
    };
    let mut found = Vec::new();
    for (at, record) in sorted.iter().enumerate() {
        if counts(at) && record.interval_ms > 0 && record.status != PENDING && record.status != CANCELLED {
            let monitor = (record.operation.as_str(), record.interval_ms);
            if !found.contains(&monitor) {
                found.push(monitor);
            }
        }
    }
    found
}

/// Which resource a report is about; what left the configuration is taken in as removed.
fn find_resource<'a>(world: &mut World<'a>, node: NodeIx, history: &'a ResourceHistory) -> Option<RscIx> {
    let name = history.name.as_str();
    let mut found = world.named(name);
    if let Some(instance) = found.and_then(|clone| instance_of_same_name(world, clone)) {
        found = Some(instance);
    }
    let is_collective = found.is_some_and(|rsc| !world.rsc(rsc).is_primitive());
    if is_collective {
        // Something else bore this name.
        let is_it = |top: &RscIx| world.rsc(*top).is_removed && world.rsc(*top).id == name;
        found = world.tops.iter().copied().find(is_it);
    } else if found.is_none() {
        let zero = format!("{}:0", without_number(name));
        found = world.named(&zero).filter(|rsc| world.is_anonymous_instance(*rsc));
    }
    if let Some(rsc) = found {
        let top = world.top(rsc);
        if !world.rsc(top).is_clone() || world.rsc(top).is_unique {
            return Some(rsc);
        }
        if let Some(bundle) = world.rsc(top).parent {
            return world
                .rsc(bundle)
                .replicas
                .iter()
                .find(|replica| replica.node == Some(node))
                .and_then(|replica| replica.inside)
                .and_then(|inside| member_named(world, inside, without_number(name)));
        }
        return find_instance(world, node, top, without_number(name));
    }
    if history.operations.is_empty() {
        return None;
    }
    let removed = world.situation.removed.iter().find(|removed| removed.name.as_str() == name)?;
    let rsc = add(world, removed, None, None, true);
    world.tops.push(rsc);
    reach_by_removed(world, rsc, history);
    if world.situation.options.stops_removed {
        ban(world, rsc, None, Score::MUST_NOT, "it was removed from the configuration");
    } else {
        world.resources[rsc.0 as usize].is_managed = false;
    }
    Some(rsc)
}

/// The first instance of a clone that bears the name of what it holds, as clones of our cluster file do.
fn instance_of_same_name(world: &World<'_>, clone: RscIx) -> Option<RscIx> {
    let it = world.rsc(clone);
    let first = it.children.first().copied().filter(|_| it.is_clone())?;
    (world.rsc(first).is_primitive() && world.rsc(first).name == it.name).then_some(first)
}

/// What was removed is in its container all the same; the container may have been removed, and reported, after it.
fn contain_removed(world: &mut World<'_>, history: &ResourceHistory) {
    let find = |name: &str| world.named(name);
    let Some(rsc) = find(&history.name).filter(|rsc| world.rsc(*rsc).is_removed) else { return };
    let Some(container) = history.container.as_deref().and_then(find) else { return };
    crate::read::nodes::link(world, rsc, container);
    if let Some(guest) = world.node_by_name.get(history.name.as_str()).copied()
        && matches!(world.node(guest).kind, Kind::Remote { connection: None })
    {
        // A guest that was removed with its connection is reached until that has stopped.
        connect(world, guest, Kind::Guest { connection: rsc, container, is_bundle: false });
    }
}

/// A remote node whose connection was removed is reached through it until that has stopped.
fn reach_by_removed(world: &mut World<'_>, connection: RscIx, history: &ResourceHistory) {
    let agent = (history.class.as_str(), history.provider.as_deref(), history.agent.as_str());
    if agent != ("ocf", Some("pacemaker"), "remote") || history.container.is_some() {
        return;
    }
    if let Some(node) = world.node_by_name.get(history.name.as_str()).copied()
        && matches!(world.node(node).kind, Kind::Remote { connection: None })
    {
        connect(world, node, Kind::Remote { connection: Some(connection) });
        world.nodes[node.0 as usize].is_shutting_down = true;
    }
}

fn without_number(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((base, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => base,
        _ => name,
    }
}

/// The primitive of that name in an instance, or the instance itself.
fn member_named(world: &World<'_>, instance: RscIx, name: &str) -> Option<RscIx> {
    world.primitives(instance).iter().copied().find(|rsc| world.rsc(*rsc).name == name)
}

/// Hands out the instances of a clone whose instances are all alike, in the order of reading.
fn find_instance(world: &mut World<'_>, node: NodeIx, clone: RscIx, name: &str) -> Option<RscIx> {
    let mut inactive = None;
    let mut found = None;
    let mut skips_inactive = false;
    for child in world.rsc(clone).children.iter().copied() {
        let active = places(world, child);
        if let Some(first) = active.first() {
            if *first == node {
                found = member_named(world, child, name);
                if let Some(rsc) = found {
                    if world.rsc(rsc).active_on.is_empty() {
                        break;
                    }
                    // Several reports of alike instances on one node: all but the first are too many.
                    skips_inactive = true;
                    found = None;
                }
            }
        } else if !skips_inactive && inactive.is_none() && !is_blocked(world, child) {
            inactive = member_named(world, child, name)
                .filter(|rsc| world.rsc(*rsc).pending.is_none_or(|(_, there)| there == node));
        }
    }
    if found.is_none() && !skips_inactive {
        found = inactive;
    }
    let there = world.node(node);
    let is_gone = !there.is_online || there.is_unclean;
    if let Some(rsc) = found
        && world.rsc(rsc).meta.requires < Requires::Exclusion
        && is_gone
        && !there.is_guest()
        && !is_everywhere(world, clone)
    {
        found = None;
    }
    if found.is_none() {
        let instance = add_removed_instance(world, clone);
        found = member_named(world, instance, name);
        // What is beyond the wanted number does not run.
        ban(world, instance, None, Score::MUST_NOT, "there are more instances than wanted");
    }
    found
}

fn is_everywhere(world: &World<'_>, clone: RscIx) -> bool {
    let wanted = world.rsc(clone).meta.clone_max.map_or(world.nodes.len(), |max| max as usize);
    wanted >= world.nodes.iter().filter(|node| !node.is_guest()).count()
}

fn is_blocked(world: &World<'_>, instance: RscIx) -> bool {
    world.primitives(instance).iter().any(|rsc| world.rsc(*rsc).is_blocked)
}

/// Where an instance is active, or something is under way.
fn places(world: &World<'_>, instance: RscIx) -> Few<NodeIx, 2> {
    let mut found = Few::new();
    for rsc in &world.primitives(instance) {
        let it = world.rsc(*rsc);
        for node in it.active_on.iter().copied().chain(it.pending.map(|(_, node)| node)) {
            if !found.contains(&node) {
                found.push(node);
            }
        }
    }
    found
}

/// Says where something must not, or must, run.
pub(super) fn ban(world: &mut World<'_>, rsc: RscIx, node: Option<NodeIx>, score: Score, why: &str) {
    world.resources[rsc.0 as usize].bans.push(Ban { node, score, why: why.to_owned() });
}

/// Alike instances share their bans.
fn shared(world: &World<'_>, rsc: RscIx) -> RscIx {
    if world.is_anonymous_instance(rsc) { world.top(rsc) } else { rsc }
}

/// The report of one resource, while it is read.
pub(super) struct Reading<'a> {
    pub rsc: RscIx,
    pub node: NodeIx,
    on_fail: OnFail,
    last_failure: Option<&'a OperationRecord>,
}

impl<'a> Reading<'a> {
    fn take(&mut self, world: &mut World<'a>, record: &'a OperationRecord) {
        let operation = record.operation.as_str();
        let is_relevant = matches!(
            operation,
            "monitor" | "asyncmon" | "start" | "stop" | "promote" | "demote" | "migrate_to" | "migrate_from"
        );
        if !is_relevant || record.status == CANCELLED {
            return;
        }
        let is_first_look = operation == "monitor" && record.interval_ms == 0;
        let is_bundled = world.rsc(self.rsc).replica.is_some()
            || world.rsc(self.rsc).parent.is_some_and(|parent| world.rsc(parent).replica.is_some());
        let expected = record.rc_expected.unwrap_or(-1);
        let mut rc = match record.rc {
            DEGRADED => OK,
            DEGRADED_PROMOTED => PROMOTED,
            rc => rc,
        };
        let mut status = record.status;
        let is_masked = !is_bundled
            && is_first_look
            && status != PENDING
            && (status == AGENT_NOT_INSTALLED || matches!(rc, INVALID | NOT_INSTALLED));
        let is_expired = status != PENDING && self.is_expired(world, record, rc, is_first_look);
        // That something unmanaged does not run is a state, no failure, and does not expire.
        let is_left_stopped = rc == NOT_RUNNING && !world.rsc(self.rsc).is_managed;
        if is_expired
            && !is_left_stopped
            && record.rc_expected != Some(record.rc)
            && self.forget(world, record, is_masked)
        {
            return;
        }
        if is_masked {
            status = DONE;
            rc = NOT_RUNNING;
            let shared = shared(world, self.rsc);
            ban(world, shared, Some(self.node), Score::MUST_NOT, "it is not installed or not configured there");
        } else if status != PENDING && status != AGENT_NOT_INSTALLED {
            if expected < 0 {
                status = ERROR;
            } else if matches!(status, DONE | ERROR) {
                status = if rc == expected { DONE } else { ERROR };
            }
            status = self.judge_answer(world, record, rc, expected, status, is_first_look);
        }
        match status {
            PENDING => self.on_pending(world, record),
            DONE => self.on_state(world, record, rc, is_masked),
            AGENT_NOT_INSTALLED => {
                let (on_fail, left) = self.consequence(world, record);
                if on_fail == OnFail::Ignore {
                    // What is not there cannot be ignored.
                    self.on_fail = OnFail::Ban;
                }
                let shared = shared(world, self.rsc);
                ban(world, shared, Some(self.node), Score::MUST_NOT, "its agent is not installed there");
                self.on_failure(world, record, rc, on_fail, left);
            }
            _ => {
                let (on_fail, left) = self.consequence(world, record);
                let restarts_container = on_fail == OnFail::RestartContainer && operation == "stop";
                if on_fail == OnFail::Ignore || restarts_container {
                    let as_expected = if expected < 0 { OK } else { expected };
                    self.on_state(world, record, as_expected, false);
                    let it = &mut world.resources[self.rsc.0 as usize];
                    it.failure_is_ignored = true;
                    it.failed_on.insert(self.node);
                    if restarts_container && self.on_fail <= OnFail::Restart {
                        self.on_fail = OnFail::RestartContainer;
                    }
                    return;
                }
                self.on_failure(world, record, rc, on_fail, left);
                let shared = shared(world, self.rsc);
                if status == ERROR_HARD {
                    ban(world, shared, Some(self.node), Score::MUST_NOT, "it cannot work there as it is configured");
                } else if status == ERROR_FATAL {
                    ban(world, shared, None, Score::MUST_NOT, "it cannot work as it is configured");
                }
            }
        }
    }

    /// What an answer says beyond "as expected or not".
    fn judge_answer(
        &mut self,
        world: &mut World<'_>,
        record: &OperationRecord,
        rc: i32,
        expected: i32,
        status: i32,
        is_first_look: bool,
    ) -> i32 {
        let can_fence = can_fence(world, self.node);
        let it = &mut world.resources[self.rsc.0 as usize];
        match rc {
            OK if is_first_look && expected == NOT_RUNNING => DONE,
            NOT_RUNNING if is_first_look || expected == rc || !it.is_managed => {
                it.role = Role::Stopped;
                self.on_fail = OnFail::Ignore;
                it.goal = Role::Unknown;
                DONE
            }
            PROMOTED => {
                it.role = Role::Promoted;
                if is_first_look && rc != expected { DONE } else { status }
            }
            FAILED_PROMOTED => {
                it.role = Role::Promoted;
                ERROR
            }
            NOT_CONFIGURED => ERROR_FATAL,
            UNIMPLEMENTED if record.interval_ms > 0 => UNSUPPORTED,
            UNIMPLEMENTED | NOT_INSTALLED | INVALID | NO_PERMISSION => {
                if !can_fence && record.operation == "stop" {
                    it.is_managed = false;
                    it.is_blocked = true;
                }
                ERROR_HARD
            }
            OK | NOT_RUNNING => status,
            // Nobody expects an answer that says nothing.
            _ if status == DONE => ERROR,
            _ => status,
        }
    }

    /// Is it a failure that is forgotten by now? If so its count may be cleared.
    fn is_expired(&self, world: &mut World<'_>, record: &OperationRecord, rc: i32, is_first_look: bool) -> bool {
        if record.status == AGENT_NOT_INSTALLED {
            return false;
        }
        let it = world.rsc(self.rsc);
        let is_last_failure = record.id.ends_with("_last_failure_0");
        let is_failed = record.rc_expected != Some(rc);
        let blocks = is_failed
            && it.primitive().is_some_and(|primitive| {
                super::failures::find(&primitive.operations, &record.operation, record.interval_ms)
                    .is_some_and(|op| op.on_fail == Some(OnFail::Block))
            });
        let ends_at = match (record.changed_at, it.meta.failure_timeout_s.filter(|timeout| *timeout > 0)) {
            (Some(changed_at), Some(timeout)) => Some(changed_at + timeout),
            (None, _) | (_, None) => None,
        };
        // What a failed connection says of its node counts until the node has been fenced.
        let waits_for_fence = world.situation.options.is_fencing_enabled
            && record.operation == "monitor"
            && record.interval_ms > 0
            && it.primitive().is_some_and(|primitive| primitive.reconnect_s > 0)
            && it.connects.is_some_and(|remote| !world.node(remote).remote_was_fenced);
        let mut expired = !blocks && !waits_for_fence && ends_at.is_some_and(|end| world.situation.now >= end);
        if expired {
            let counts = FailureCounts::of(world, self.rsc, self.node);
            let clears = if counts.recorded > 0 {
                if counts.effective == 0 {
                    true
                } else {
                    expired = false;
                    false
                }
            } else {
                is_last_failure && it.primitive().is_some_and(|primitive| primitive.reconnect_s > 0)
            };
            if clears {
                let clearings = &mut world.resources[self.rsc.0 as usize].clearings;
                clearings.entry(self.node).or_insert_with(|| "it expired".to_owned());
            }
        }
        let is_compared = matches!(record.operation.as_str(), "start" | "monitor");
        if !expired
            && is_last_failure
            && is_compared
            && matches!(record.definition, Definition::Changed | Definition::Reloadable | Definition::Private)
        {
            let clearings = &mut world.resources[self.rsc.0 as usize].clearings;
            clearings.entry(self.node).or_insert_with(|| "its definition changed".to_owned());
        }
        expired && !(is_first_look && matches!(rc, OK | NOT_RUNNING | PROMOTED | DEGRADED | DEGRADED_PROMOTED))
    }

    /// Forgets a failure that is long past, if that can be; a check that is repeated has to be asked for anew.
    fn forget(&self, world: &mut World<'a>, record: &'a OperationRecord, is_masked: bool) -> bool {
        let it = &mut world.resources[self.rsc.0 as usize];
        if is_masked {
            if it.role <= Role::Stopped {
                it.role = Role::Unknown;
            }
            return true;
        }
        if record.interval_ms == 0 {
            return true;
        }
        let there = &world.nodes[self.node.0 as usize];
        if !there.is_online || there.is_unclean {
            return false;
        }
        if let Some(records) = it.records.get_mut(self.node) {
            records.expired_monitors.push((record.operation.as_str(), record.interval_ms));
        }
        true
    }

    fn consequence(&self, world: &World<'_>, record: &OperationRecord) -> (OnFail, Role) {
        consequence(world, world.rsc(self.rsc), &record.operation, record.interval_ms)
    }

    fn on_pending(&mut self, world: &mut World<'a>, record: &'a OperationRecord) {
        let is_first_look = record.operation == "monitor" && record.interval_ms == 0;
        match record.operation.as_str() {
            "start" => {
                world.resources[self.rsc.0 as usize].is_start_pending = true;
                self.set_active(world);
            }
            "promote" => world.resources[self.rsc.0 as usize].role = Role::Promoted,
            "migrate_to" if world.node(self.node).is_unclean => {
                let target = record.migrate_target.as_ref();
                if let Some(target) = target.and_then(|name| world.node_by_name.get(name.as_str())).copied() {
                    world.resources[self.rsc.0 as usize].forced_stops.insert(target);
                }
            }
            _ => {}
        }
        let it = &mut world.resources[self.rsc.0 as usize];
        if it.pending.is_none() && !is_first_look {
            it.pending = Some((&record.operation, self.node));
        }
    }

    /// What a success says.
    fn on_state(&mut self, world: &mut World<'a>, record: &'a OperationRecord, rc: i32, is_masked: bool) {
        let at = self.rsc.0 as usize;
        let mut is_past = false;
        if is_masked {
            world.resources[at].role = Role::Stopped;
        } else if rc == NOT_RUNNING {
            is_past = true;
        } else {
            match record.operation.as_str() {
                "monitor" => {
                    is_past = self.last_failure.is_some_and(|failure| {
                        failure.operation == record.operation && failure.interval_ms == record.interval_ms
                    });
                    if world.resources[at].role < Role::Started {
                        self.set_active(world);
                    }
                }
                "start" | "migrate_from" => {
                    world.resources[at].role = Role::Started;
                    is_past = true;
                }
                "stop" => {
                    world.resources[at].role = Role::Stopped;
                    is_past = true;
                }
                "promote" => {
                    world.resources[at].role = Role::Promoted;
                    is_past = true;
                }
                "demote" => {
                    is_past = self.on_fail == OnFail::Demote;
                    world.resources[at].role = Role::Unpromoted;
                }
                "migrate_to" => migration::on_migrate_to(world, self.rsc, self.node, record),
                _ => {
                    if world.resources[at].role < Role::Started {
                        self.set_active(world);
                    }
                }
            }
        }
        if !is_past {
            return;
        }
        let has_reconnect = world.rsc(self.rsc).primitive().is_some_and(|primitive| primitive.reconnect_s > 0);
        match self.on_fail {
            OnFail::Stop | OnFail::Ban | OnFail::Standby | OnFail::Fence => {}
            OnFail::ResetRemote if has_reconnect => {}
            OnFail::Block
            | OnFail::Ignore
            | OnFail::Demote
            | OnFail::Restart
            | OnFail::RestartContainer
            | OnFail::ResetRemote => {
                self.on_fail = OnFail::Ignore;
                world.resources[at].goal = Role::Unknown;
            }
        }
    }

    fn on_failure(&mut self, world: &mut World<'a>, record: &'a OperationRecord, rc: i32, on_fail: OnFail, left: Role) {
        self.last_failure = Some(record);
        let at = self.rsc.0 as usize;
        self.on_fail = self.on_fail.max(on_fail);
        let is_first_look = record.operation == "monitor" && record.interval_ms == 0;
        match record.operation.as_str() {
            "stop" => ban(world, self.rsc, Some(self.node), Score::MUST_NOT, "it could not be stopped there"),
            "migrate_to" => migration::on_migrate_to_failed(world, self.rsc, self.node, record),
            "migrate_from" => migration::on_migrate_from_failed(world, self.rsc, self.node, record),
            "promote" => world.resources[at].role = Role::Promoted,
            "demote" => {
                let it = &mut world.resources[at];
                if on_fail == OnFail::Block {
                    it.role = Role::Promoted;
                    it.goal = Role::Stopped;
                } else if rc == NOT_RUNNING {
                    it.role = Role::Stopped;
                } else {
                    it.role = Role::Unpromoted;
                }
            }
            _ => {}
        }
        if is_first_look && rc == NOT_INSTALLED {
            world.resources[at].role = Role::Stopped;
        } else if world.resources[at].role < Role::Started {
            self.set_active(world);
        }
        if left != Role::Started && world.resources[at].goal < left {
            world.resources[at].goal = left;
        }
        if left == Role::Stopped {
            let shared = shared(world, self.rsc);
            ban(world, shared, None, Score::MUST_NOT, "it failed and is to stay stopped");
        }
    }

    /// It runs: promotable instances follow, others just run.
    fn set_active(&self, world: &mut World<'_>) {
        let top = world.top(self.rsc);
        let is_promotable = world.rsc(top).is_clone() && world.rsc(top).meta.is_promotable;
        world.resources[self.rsc.0 as usize].role = if is_promotable { Role::Unpromoted } else { Role::Started };
    }

    /// What follows once everything is read.
    fn conclude(mut self, world: &mut World<'a>) {
        let at = self.rsc.0 as usize;
        let role = world.resources[at].role;
        let is_active = role > Role::Stopped;
        if role != Role::Unknown && !self.is_only_starting(world) {
            let mut here = Some(self.rsc);
            while let Some(rsc) = here {
                world.resources[rsc.0 as usize].known_on.insert(self.node);
                here = if world.rsc(rsc).is_unique { None } else { world.rsc(rsc).parent };
            }
        }
        let options = &world.situation.options;
        let there = world.node(self.node);
        if is_active && !there.is_online && !there.is_maintenance && world.rsc(self.rsc).is_managed {
            if there.is_guest() {
                let it = &mut world.resources[at];
                it.is_failed = true;
                it.needs_stop = true;
                let why = format!("{} is thought to be active there", it.id);
                fence_any(world, self.node, &why, false);
            } else if options.is_fencing_enabled {
                if there.is_remote() && there.connection().is_some_and(|rsc| !world.rsc(rsc).is_failed) {
                    world.nodes[self.node.0 as usize].is_unseen = true;
                }
                let why = format!("{} is thought to be active there", world.rsc(self.rsc).id);
                fence_any(world, self.node, &why, false);
            }
        }
        let on_fail_seen = self.on_fail;
        if world.node(self.node).is_unclean {
            // Fencing repairs it.
            self.on_fail = OnFail::Ignore;
        }
        match self.on_fail {
            OnFail::Ignore => {}
            OnFail::Fence => {
                let why = format!("{} failed there", world.rsc(self.rsc).id);
                fence_any(world, self.node, &why, false);
            }
            OnFail::Standby => {
                let node = &mut world.nodes[self.node.0 as usize];
                node.is_standby = true;
                node.is_standby_by_failure = true;
            }
            OnFail::Block => {
                world.resources[at].is_managed = false;
                world.resources[at].is_blocked = true;
            }
            OnFail::Ban => ban(world, self.rsc, Some(self.node), Score::MUST_NOT, "it failed there, and is to leave"),
            OnFail::Stop => world.resources[at].goal = Role::Stopped,
            OnFail::Restart => {
                if is_active {
                    self.demand_stop(world);
                }
            }
            OnFail::RestartContainer => {
                world.resources[at].is_failed = true;
                world.resources[at].needs_stop = true;
                match world.rsc(self.rsc).container {
                    // Where the container runs is known later.
                    Some(container) => {
                        let container = &mut world.resources[container.0 as usize];
                        container.needs_stop = true;
                    }
                    None if is_active => {
                        world.resources[at].forced_stops.insert(self.node);
                    }
                    None => {}
                }
            }
            OnFail::ResetRemote => {
                world.resources[at].is_failed = true;
                world.resources[at].needs_stop = true;
                if world.situation.options.is_fencing_enabled
                    && let Some(remote) = world.rsc(self.rsc).connects
                    && !world.node(remote).remote_was_fenced
                {
                    fence_any(world, remote, "remote connection is unrecoverable", false);
                }
                if is_active {
                    world.resources[at].forced_stops.insert(self.node);
                }
                if world.rsc(self.rsc).primitive().is_some_and(|primitive| primitive.reconnect_s > 0) {
                    world.resources[at].goal = Role::Stopped;
                }
            }
            OnFail::Demote => world.resources[at].is_failed = true,
        }
        if world.rsc(self.rsc).is_failed
            && let Some(remote) = world.rsc(self.rsc).connects
            && world.node(remote).is_unclean
        {
            world.nodes[remote.0 as usize].is_unseen = false;
        }
        if is_active {
            add_active(world, self.rsc, self.node, on_fail_seen != OnFail::Ignore);
            match self.on_fail {
                OnFail::Ignore => {}
                OnFail::Demote => {
                    world.resources[at].is_failed = true;
                    world.resources[at].needs_demote = true;
                }
                OnFail::Block
                | OnFail::Restart
                | OnFail::ResetRemote
                | OnFail::RestartContainer
                | OnFail::Ban
                | OnFail::Stop
                | OnFail::Standby
                | OnFail::Fence => world.resources[at].is_failed = true,
            }
        } else if role == Role::Stopped
            && world.resources[at].partial_migration.is_some_and(|(from, _)| from == self.node)
        {
            world.resources[at].role = Role::Started;
        }
    }

    /// Is a start without any answer all that is recorded there? It may have begun or not: somebody has to look.
    ///
    /// An operation under way bears the code 193, which says that it has begun.
    fn is_only_starting(&self, world: &World<'_>) -> bool {
        fn says_nothing(record: &&OperationRecord) -> bool {
            record.operation == "start" && record.status == PENDING && record.rc < 0
        }
        world
            .rsc(self.rsc)
            .records
            .get(self.node)
            .is_some_and(|records| !records.sorted.is_empty() && records.sorted.iter().all(says_nothing))
    }

    fn demand_stop(&self, world: &mut World<'_>) {
        let it = &mut world.resources[self.rsc.0 as usize];
        it.is_failed = true;
        it.needs_stop = true;
        it.forced_stops.insert(self.node);
    }
}

/// Can a lost node be fenced?
pub(crate) fn can_fence(world: &World<'_>, node: NodeIx) -> bool {
    let options = &world.situation.options;
    let there = world.node(node);
    if let Some(container) = there.container() {
        let container = world.rsc(container);
        return container.active_on.iter().all(|host| !world.node(*host).is_unclean || can_fence(world, *host));
    }
    if !options.is_fencing_enabled || !options.has_fence_device {
        return false;
    }
    if options.has_quorum || options.no_quorum == model::situation::NoQuorum::Ignore {
        return true;
    }
    there.is_online
}

/// Notes that a resource is active on a node, with everything that it is part of.
pub(super) fn add_active(world: &mut World<'_>, rsc: RscIx, node: NodeIx, has_failed: bool) {
    let at = rsc.0 as usize;
    if has_failed {
        world.resources[at].failed_on.insert(node);
    }
    if world.resources[at].active_on.contains(&node) {
        return;
    }
    world.resources[at].active_on.push(node);
    if world.resources[at].is_primitive() {
        world.nodes[node.0 as usize].runs.push(rsc);
        if world.node(node).is_maintenance {
            world.resources[at].is_managed = false;
            world.resources[at].is_maintenance = true;
        }
    }
    if !world.resources[at].is_managed && world.resources[at].is_primitive() {
        ban(world, rsc, Some(node), Score::MUST, "it is not managed, and runs there");
        let mut here = world.rsc(rsc).parent;
        while let Some(parent) = here {
            if world.node(node).is_online && !world.rsc(parent).active_on.contains(&node) {
                world.resources[parent.0 as usize].active_on.push(node);
            }
            here = world.rsc(parent).parent;
        }
        return;
    }
    if world.rsc(rsc).is_primitive() && active_count(world, rsc) > 1 {
        match world.rsc(rsc).meta.multiple_active {
            MultipleActive::StopOnly => ban(world, rsc, None, Score::MUST_NOT, "it was active on several nodes"),
            MultipleActive::Block => {
                let mut blocked = vec![rsc];
                if let Some(parent) = world.rsc(rsc).parent
                    && (world.rsc(parent).is_group() || world.rsc(parent).is_bundle())
                    && world.rsc(parent).meta.multiple_active == MultipleActive::Block
                {
                    blocked.extend(world.rsc(parent).children.clone());
                }
                for rsc in blocked {
                    world.resources[rsc.0 as usize].is_managed = false;
                    world.resources[rsc.0 as usize].is_blocked = true;
                }
            }
            MultipleActive::StopStart | MultipleActive::StopUnexpected => {}
        }
    }
    if let Some(parent) = world.rsc(rsc).parent {
        add_active(world, parent, node, false);
    }
}

/// On how many nodes it is active in earnest.
pub(crate) fn active_count(world: &World<'_>, rsc: RscIx) -> usize {
    let it = world.rsc(rsc);
    let counts_all = it.meta.requires >= Requires::Exclusion;
    it.active_on
        .iter()
        .filter(|node| {
            let there = world.node(**node);
            counts_all || (there.is_online && !there.is_unclean)
        })
        .count()
}

/// Containers whose content failed stop where they run.
fn stop_failed_containers(world: &mut World<'_>) {
    for at in 0..world.resources.len() {
        let rsc = &mut world.resources[at];
        if rsc.needs_stop && !rsc.fillers.is_empty() {
            for node in rsc.active_on.clone() {
                rsc.forced_stops.insert(node);
            }
        }
    }
}

/// What was started and can lead, follows.
fn name_followers(world: &mut World<'_>) {
    for rsc in world.rsc_ixs() {
        let is_promotable = world.clone_of(rsc).is_some_and(|clone| world.rsc(clone).meta.is_promotable);
        let it = &mut world.resources[rsc.0 as usize];
        if is_promotable && it.role == Role::Started {
            it.role = Role::Unpromoted;
        }
    }
}

/// What a node is worth when only one can be fenced first.
fn sum_priorities(world: &mut World<'_>) {
    let mut sums: BTreeMap<NodeIx, i32> = BTreeMap::new();
    for node in world.node_ixs() {
        for rsc in &world.node(node).runs {
            let it = world.rsc(*rsc);
            if it.failed_on.contains(&node) {
                continue;
            }
            let mut worth = it.meta.priority;
            if it.role == Role::Promoted && worth != 0 {
                worth += 1;
            }
            *sums.entry(node).or_default() += worth;
            if let Some(container) = world.node(node).container() {
                for host in &world.rsc(container).active_on {
                    *sums.entry(*host).or_default() += worth;
                }
            }
        }
    }
    for (node, sum) in sums {
        world.nodes[node.0 as usize].priority = sum;
    }
}
