//! Which nodes are there, and is each of them up, lost, leaving or on its way?
//!
//! Members are judged by what the cluster layer says of them; remote nodes and guests by their connections, which
//! takes their histories (`history.rs`).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use model::situation::{Expected, Join, NoQuorum, NodeKind, NodeSeen, Role, Situation};

use crate::names::Names;
use crate::read::failures::has_any;
use crate::world::{Kind, Node, NodeIx, RscIx, World};

/// A world that has nodes and nothing else.
pub(super) fn world_of_nodes(situation: &Situation) -> World<'_> {
    let mut facts: Vec<_> = situation.nodes.iter().collect();
    facts.sort_by(|a, b| natural(a.name.as_str(), b.name.as_str()));
    let coordinator = situation.options.coordinator.as_ref();
    let nodes: Vec<Node<'_>> = facts
        .into_iter()
        .map(|facts| Node {
            name: facts.name.as_str(),
            facts,
            kind: match facts.kind {
                NodeKind::Member => Kind::Member,
                // Resolved when there are resources.
                NodeKind::Remote { .. } | NodeKind::Guest { .. } => Kind::Remote { connection: None },
            },
            is_online: false,
            is_unclean: situation.options.is_fencing_enabled
                && situation.options.fences_unseen
                && facts.kind == NodeKind::Member,
            fence_reason: None,
            is_fence_delayed: false,
            is_pending: false,
            is_standby: facts.is_standby,
            is_standby_by_failure: false,
            is_maintenance: facts.is_maintenance,
            is_shutting_down: false,
            is_coordinator: coordinator == Some(&facts.name),
            is_unseen: true,
            remote_needs_reset: false,
            remote_was_fenced: facts.seen.as_ref().is_some_and(|seen| seen.is_fenced),
            runs: Vec::new(),
            priority: 0,
            is_read: false,
            has_failures: has_any(facts),
        })
        .collect();
    let node_by_name =
        nodes.iter().enumerate().map(|(at, node)| (node.name, NodeIx(at as u32))).collect::<BTreeMap<_, _>>();
    World {
        situation,
        nodes,
        node_by_name,
        resources: Vec::new(),
        tops: Vec::new(),
        ids: Names::default(),
        lacks_device: situation.options.is_fencing_enabled && !situation.options.has_fence_device,
        numbered: names_with_number(situation),
    }
}

fn names_with_number(situation: &Situation) -> BTreeSet<&str> {
    let reported = situation.history.iter().flat_map(|report| &report.resources).map(|history| history.name.as_str());
    reported.filter(|name| name.contains(':')).collect()
}

/// Names in the order people expect: case ignored, numbers by value.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (mut a_left, mut b_left) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a_left.first(), b_left.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (a_number, a_rest) = digits(a_left);
                let (b_number, b_rest) = digits(b_left);
                let by_value = value(a_number).cmp(&value(b_number)).then(a_number.len().cmp(&b_number.len()));
                if by_value.is_ne() {
                    return by_value;
                }
                (a_left, b_left) = (a_rest, b_rest);
            }
            (Some(x), Some(y)) => {
                let by_letter = x.to_ascii_lowercase().cmp(&y.to_ascii_lowercase());
                if by_letter.is_ne() {
                    return by_letter;
                }
                (a_left, b_left) = (&a_left[1..], &b_left[1..]);
            }
        }
    }
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// Longer numbers are greater; leading zeros do not count.
fn value(digits: &[u8]) -> (usize, &[u8]) {
    let start = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    (digits.len() - start, &digits[start..])
}

/// Judges every member by what the cluster layer says of it.
pub(super) fn judge_members(world: &mut World<'_>) {
    let options = &world.situation.options;
    let may_fence_self = options.no_quorum == NoQuorum::Fence && !options.has_quorum;
    for at in 0..world.nodes.len() {
        let node = &mut world.nodes[at];
        if !node.is_member() {
            if node.facts.seen.is_some() {
                node.is_unseen = false;
            }
            if node.facts.shutdown_since.is_some_and(|since| since != 0) {
                node.is_shutting_down = true;
            }
            continue;
        }
        let Some(seen) = &node.facts.seen else { continue };
        node.is_unclean = false;
        node.is_unseen = false;
        judge(node, seen, world.situation);
        if may_fence_self && node.is_online && options.is_fencing_enabled {
            fence(node, "this part of the cluster has no majority", false);
        }
    }
}

fn judge(node: &mut Node<'_>, seen: &NodeSeen, situation: &Situation) {
    let options = &situation.options;
    let is_member = seen.is_member.unwrap_or(false);
    let wants_to_leave = node.facts.shutdown_since.is_some_and(|since| since != 0);
    node.is_shutting_down = wants_to_leave;
    if !options.is_fencing_enabled {
        if is_member && seen.is_process_up && seen.join == Join::Member {
            node.is_online = true;
        } else if is_member && seen.is_process_up {
            // Joins: nothing to do until it has.
        } else if !wants_to_leave && seen.expected == Expected::Member && is_member {
            fence(node, "its cluster process is gone", false);
        } else if !wants_to_leave && !is_member && seen.expected == Expected::Member {
            fence(node, "it left the cluster without a word", false);
        }
    } else {
        let is_down = !is_member && !seen.is_process_up && matches!(seen.join, Join::Down | Join::Missing);
        if wants_to_leave {
            node.is_online = seen.is_process_up;
        } else if seen.is_member.is_none() {
            fence(node, "it has not been seen", true);
        } else if seen.join == Join::Banned {
            fence(node, "it could not join the cluster", false);
        } else if node.facts.wants_fencing && !is_down {
            fence(node, "somebody asked for it", false);
            node.is_online = is_member;
        } else if matches!(seen.expected, Expected::Down | Expected::Missing) {
            let since = seen.member_since.unwrap_or(0);
            let is_overdue = options.node_pending_timeout_s > 0
                && is_member
                && !seen.is_process_up
                && since > 0
                && situation.now - since >= options.node_pending_timeout_s;
            if is_overdue {
                fence(node, "it took too long to join", false);
            } else if is_member || seen.is_process_up {
                node.is_pending = true;
                node.is_standby = true;
            }
            node.is_online = is_member;
        } else if !is_member {
            fence(node, "it left the cluster without a word", true);
        } else if !seen.is_process_up {
            fence(node, "its cluster process is gone", false);
            node.is_online = true;
        } else {
            match seen.join {
                Join::Member => {}
                Join::Pending | Join::Down => {
                    node.is_pending = true;
                    node.is_standby = true;
                }
                Join::Missing | Join::Banned | Join::Other => fence(node, "nobody knows how far it has joined", false),
            }
            node.is_online = true;
        }
    }
}

/// Says that a node has to be fenced; the first reason stays.
pub(super) fn fence(node: &mut Node<'_>, why: &str, may_wait: bool) {
    if !node.is_unclean || node.fence_reason.is_none() {
        node.fence_reason = Some(why.to_owned());
        node.is_fence_delayed = may_wait;
    }
    node.is_unclean = true;
}

/// As [`fence`], for any node: guests are recovered with their containers.
pub(super) fn fence_any(world: &mut World<'_>, at: NodeIx, why: &str, may_wait: bool) {
    if let Kind::Guest { container, .. } = world.node(at).kind {
        let container = &mut world.resources[container.0 as usize];
        if container.is_managed && !container.is_failed {
            container.is_failed = true;
            container.needs_stop = true;
        }
        return;
    }
    if let Kind::Remote { connection: Some(connection) } = world.node(at).kind
        && !world.rsc(connection).is_managed
        && world.rsc(connection).is_failed
    {
        return;
    }
    if world.node(at).is_remote() && world.node(at).connection().is_none() {
        return;
    }
    if world.node(at).is_remote() && !world.node(at).is_unclean {
        world.nodes[at.0 as usize].remote_needs_reset = true;
    }
    fence(&mut world.nodes[at.0 as usize], why, may_wait);
}

/// Judges a remote node or guest by its connection and its container.
pub(super) fn judge_remote(world: &mut World<'_>, at: NodeIx) {
    let Some(connection) = world.node(at).connection() else {
        world.nodes[at.0 as usize].is_online = false;
        return;
    };
    let rsc = world.rsc(connection);
    let container = rsc.container.map(|container| world.rsc(container));
    let host = container.and_then(|container| match container.active_on.as_slice() {
        [host] => Some(world.node(*host)),
        _ => None,
    });
    let (role, goal, is_failed) = (rsc.role, rsc.goal, rsc.is_failed);
    let is_container_failed = container.is_some_and(|container| container.is_failed);
    let is_container_stopped = container.is_some_and(|container| container.role == Role::Stopped);
    let is_host_lost = host.is_some_and(|host| !host.is_online && host.is_unclean);
    let node = &mut world.nodes[at.0 as usize];
    if role == Role::Started {
        node.is_online = true;
        if goal == Role::Stopped {
            node.is_shutting_down = true;
        }
    }
    if is_container_failed {
        node.is_online = false;
        node.remote_needs_reset = true;
    } else if is_failed {
        node.is_online = false;
    } else if role <= Role::Stopped || is_container_stopped {
        node.is_online = false;
        node.remote_needs_reset = false;
    } else if is_host_lost {
        node.is_online = false;
        node.remote_needs_reset = true;
    }
}

/// What connects which node, once there are resources.
pub(super) fn connect(world: &mut World<'_>, node: NodeIx, kind: Kind) {
    world.nodes[node.0 as usize].kind = kind;
    if let Some(connection) = world.node(node).connection() {
        world.resources[connection.0 as usize].connects = Some(node);
    }
    if let Kind::Guest { connection, container, .. } = kind {
        link(world, connection, container);
    }
}

/// Says that `filler` needs `container`.
pub(super) fn link(world: &mut World<'_>, filler: RscIx, container: RscIx) {
    world.resources[filler.0 as usize].container = Some(container);
    let fillers = &mut world.resources[container.0 as usize].fillers;
    if !fillers.contains(&filler) {
        fillers.push(filler);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_the_order_people_expect() {
        let mut names = ["node10", "Node2", "node1", "node02", "a", "node2b"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "node1", "Node2", "node2b", "node02", "node10"]);
    }
}
