//! Where is a resource whose live migration was interrupted?
//!
//! A whole migration is: `migrate_to` at the source, `migrate_from` at the target, `stop` at the source. What is missing
//! of it, and what happened later on either side, tells where the resource may be active.

use model::situation::{OperationRecord, Role};

use crate::read::history::{DONE, NOT_RUNNING, OK, PENDING, add_active};
use crate::world::{NodeIx, RscIx, World};

/// The source says that it sent the resource away.
pub(super) fn on_migrate_to(world: &mut World<'_>, rsc: RscIx, node: NodeIx, sent: &OperationRecord) {
    let Some((source, target)) = ends(world, node, sent) else { return };
    let received = last(world, rsc, target, |record| {
        record.operation == "migrate_from" && is_between(world, record, source, target)
    });
    let is_source_newer = is_newer_than_check(world, rsc, source, sent, true);
    if received.is_some() && is_source_newer {
        return;
    }
    let is_target_newer = has_newer_state(world, rsc, target, sent, received);
    if is_source_newer && is_target_newer {
        return;
    }
    if let Some(received) = received
        && received.rc == OK
        && received.status == DONE
    {
        // Arrived; only the stop at the source is missing.
        let it = &mut world.resources[rsc.0 as usize];
        it.role = Role::Stopped;
        it.dangling.push(source);
        it.partial_migration = None;
        return;
    }
    world.resources[rsc.0 as usize].role = Role::Started;
    let is_active_there = !is_target_newer && world.node(target).is_online;
    if received.is_some_and(|received| received.status != PENDING) {
        if is_active_there {
            add_active(world, rsc, target, true);
        } else {
            fail(world, rsc);
        }
        return;
    }
    if world.node(target).is_online && is_unknown(world, rsc, target) {
        // Its history was cleaned: it will be looked at.
        return;
    }
    if is_active_there {
        let is_source_up = world.node(source).is_online;
        add_active(world, rsc, target, false);
        if is_source_up {
            world.resources[rsc.0 as usize].partial_migration = Some((source, target));
        }
    } else if !is_source_newer {
        fail(world, rsc);
    }
}

/// The source could not send it away.
pub(super) fn on_migrate_to_failed(world: &mut World<'_>, rsc: RscIx, node: NodeIx, sent: &OperationRecord) {
    world.resources[rsc.0 as usize].role = Role::Started;
    let Some((source, target)) = ends(world, node, sent) else { return };
    let received = last(world, rsc, target, |record| {
        record.operation == "migrate_from" && is_between(world, record, source, target)
    });
    if !is_unknown(world, rsc, target) && !has_newer_state(world, rsc, target, sent, received) {
        if world.node(target).is_online {
            add_active(world, rsc, target, false);
        }
    } else if !is_newer_than_check(world, rsc, source, sent, true) {
        world.resources[rsc.0 as usize].dangling.push(source);
    }
}

/// The target could not take it.
pub(super) fn on_migrate_from_failed(world: &mut World<'_>, rsc: RscIx, node: NodeIx, received: &OperationRecord) {
    world.resources[rsc.0 as usize].role = Role::Started;
    let Some((source, target)) = ends(world, node, received) else { return };
    let sent = last(world, rsc, source, |record| {
        record.operation == "migrate_to" && is_between(world, record, source, target)
    });
    if !is_unknown(world, rsc, source)
        && !has_newer_state(world, rsc, source, received, sent)
        && world.node(source).is_online
    {
        add_active(world, rsc, source, true);
    }
}

fn fail(world: &mut World<'_>, rsc: RscIx) {
    let it = &mut world.resources[rsc.0 as usize];
    it.is_failed = true;
    it.needs_stop = true;
    it.is_unmigratable = true;
}

fn ends(world: &World<'_>, node: NodeIx, record: &OperationRecord) -> Option<(NodeIx, NodeIx)> {
    let find =
        |name: &Option<model::NodeName>| name.as_ref().and_then(|name| world.node_by_name.get(name.as_str()).copied());
    let source = find(&record.migrate_source).or((record.operation == "migrate_to").then_some(node))?;
    let target = find(&record.migrate_target).or((record.operation == "migrate_from").then_some(node))?;
    Some((source, target))
}

fn is_between(world: &World<'_>, record: &OperationRecord, source: NodeIx, target: NodeIx) -> bool {
    record.migrate_source.as_ref().is_none_or(|name| name.as_str() == world.node(source).name)
        && record.migrate_target.as_ref().is_none_or(|name| name.as_str() == world.node(target).name)
}

/// What a node reports of a resource, read or not.
fn report<'a>(world: &World<'a>, rsc: RscIx, node: NodeIx) -> impl Iterator<Item = &'a OperationRecord> {
    let (name, situation) = (world.rsc(rsc).id.clone(), world.situation);
    let there = world.node(node).name;
    situation
        .history
        .iter()
        .filter(move |report| report.node.as_str() == there)
        .flat_map(|report| &report.resources)
        .filter(move |history| history.name == name)
        .flat_map(|history| &history.operations)
}

fn last<'a>(
    world: &World<'a>,
    rsc: RscIx,
    node: NodeIx,
    is_it: impl Fn(&OperationRecord) -> bool,
) -> Option<&'a OperationRecord> {
    report(world, rsc, node).filter(|record| is_it(record)).max_by_key(|record| record.call_id)
}

/// Is nothing known of it there? Checks that found out nothing do not count.
fn is_unknown(world: &World<'_>, rsc: RscIx, node: NodeIx) -> bool {
    !report(world, rsc, node).any(|record| record.rc != 193)
}

/// Which of two records is the newer? On one node by their numbers, on two by their times.
fn is_newer(record: &OperationRecord, than: &OperationRecord, is_same_node: bool) -> bool {
    if is_same_node && record.call_id >= 0 && than.call_id >= 0 {
        return record.call_id > than.call_id;
    }
    match (record.changed_at, than.changed_at) {
        (Some(at), Some(than)) => at > than,
        _ => false,
    }
}

/// Did anything but a check happen there later?
fn is_newer_than_check(
    world: &World<'_>,
    rsc: RscIx,
    node: NodeIx,
    than: &OperationRecord,
    is_same_node: bool,
) -> bool {
    report(world, rsc, node).any(|record| {
        matches!(record.operation.as_str(), "start" | "stop" | "migrate_to" | "migrate_from")
            && !std::ptr::eq(record, than)
            && is_newer(record, than, is_same_node)
    })
}

/// Does anything later on that node say more than the migration?
fn has_newer_state(
    world: &World<'_>,
    rsc: RscIx,
    node: NodeIx,
    migration: &OperationRecord,
    counterpart: Option<&OperationRecord>,
) -> bool {
    let (than, is_same_node) = counterpart.map_or((migration, false), |counterpart| (counterpart, true));
    is_newer_than_check(world, rsc, node, than, is_same_node)
        || report(world, rsc, node).any(|record| {
            record.operation == "monitor"
                && record.rc == NOT_RUNNING
                && record.status == DONE
                && is_newer(record, than, is_same_node)
        })
}
