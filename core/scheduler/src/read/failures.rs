//! How often did a resource fail on a node, and what does a failure lead to?
//!
//! Counts live in attributes of the node, one for each operation: `fail-count-NAME#start_0`.

use std::ops::Bound;

use model::situation::{NodeFacts, OnFail, Operation, OperationRecord, Role};

use crate::world::{NodeIx, Rsc, RscIx, World};

/// How the names of counts begin.
const COUNT: &str = "fail-count-";
/// Failures that end a resource's stay at once.
const FATAL: i64 = 1_000_000;

/// Failures of a resource on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FailureCounts {
    /// All that are recorded.
    pub recorded: i64,
    /// Those that are not forgotten.
    pub effective: i64,
    /// When the last one happened; seconds since 1970.
    pub last_at: i64,
}

impl FailureCounts {
    /// Counts them, for `rsc` alone.
    pub fn of(world: &World<'_>, rsc: RscIx, node: NodeIx) -> FailureCounts {
        if !world.node(node).has_failures {
            return FailureCounts::default();
        }
        let attributes = &world.node(node).facts.attributes;
        let it = world.rsc(rsc);
        let is_anonymous = world.is_anonymous_instance(rsc);
        let name = if is_anonymous { it.name } else { &*it.id };
        let mut counts = FailureCounts::default();
        let mut each = |kind: &str, take: &mut dyn FnMut(&mut FailureCounts, i64)| {
            let prefix = format!("{kind}-{name}");
            let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
            for (attribute, value) in attributes.range::<str, _>(from) {
                let Some(rest) = attribute.strip_prefix(prefix.as_str()) else { break };
                if is_of_operation(rest, is_anonymous) {
                    take(&mut counts, number(value));
                }
            }
        };
        each("fail-count", &mut |counts, count| counts.recorded = (counts.recorded + count).min(FATAL));
        each("last-failure", &mut |counts, at| counts.last_at = counts.last_at.max(at));
        counts.effective = counts.recorded;
        let timeout = it.meta.failure_timeout_s.filter(|timeout| *timeout > 0);
        if let Some(timeout) = timeout
            && counts.recorded > 0
            && counts.last_at > 0
            && !is_held_by_block(world, rsc, node)
            && world.situation.now > counts.last_at + timeout
        {
            counts.effective = 0;
        }
        counts
    }

    /// Counts what counts for it: a guest fails with what it holds.
    pub fn with_fillers(world: &World<'_>, rsc: RscIx, node: NodeIx) -> i64 {
        if !world.node(node).has_failures {
            return 0;
        }
        let mut sum = Self::of(world, rsc, node).effective;
        if world.rsc(rsc).replica.is_none() {
            for filler in &world.rsc(rsc).fillers {
                for primitive in &world.primitives(*filler) {
                    sum = (sum + Self::of(world, *primitive, node).effective).min(FATAL);
                }
            }
        }
        sum
    }
}

/// Does a node count any failures?
pub(super) fn has_any(facts: &NodeFacts) -> bool {
    let from = (Bound::Included(COUNT), Bound::Unbounded);
    facts.attributes.range::<str, _>(from).next().is_some_and(|(name, _)| name.starts_with(COUNT))
}

/// Is it `#OPERATION_INTERVAL`, for alike instances with a number before it?
fn is_of_operation(rest: &str, is_anonymous: bool) -> bool {
    let rest = match rest.strip_prefix(':') {
        Some(numbered) if is_anonymous => numbered.trim_start_matches(|c: char| c.is_ascii_digit()),
        _ => rest,
    };
    rest.starts_with('#')
}

fn number(value: &str) -> i64 {
    match value {
        "INFINITY" | "+INFINITY" => FATAL,
        "value++" => 1,
        _ => value.parse().unwrap_or(0),
    }
}

/// A failure that blocks is never forgotten.
fn is_held_by_block(world: &World<'_>, rsc: RscIx, node: NodeIx) -> bool {
    let Some(primitive) = world.rsc(rsc).primitive() else { return false };
    let blocks = |record: &&OperationRecord| {
        record.rc_expected.is_some_and(|expected| expected != record.rc)
            && primitive.operations.iter().any(|operation| {
                operation.on_fail == Some(OnFail::Block)
                    && operation.name == record.operation
                    && operation.interval_ms == record.interval_ms
            })
    };
    world.rsc(rsc).records.get(node).is_some_and(|records| records.sorted.iter().any(blocks))
}

/// What a failure of an operation leads to, and the role that is left.
pub(super) fn consequence(world: &World<'_>, rsc: &Rsc<'_>, operation: &str, interval_ms: u32) -> (OnFail, Role) {
    let is_fencing_enabled = world.situation.options.is_fencing_enabled;
    let Some(primitive) = rsc.primitive() else { return (OnFail::Restart, Role::Started) };
    let configured = find(&primitive.operations, operation, interval_ms);
    let is_promoted_monitor =
        |op: &Operation| op.name == "monitor" && op.interval_ms > 0 && op.role == Some(Role::Promoted);
    let mut said = configured.and_then(|op| op.on_fail);
    if operation == "demote" && said.is_none() {
        said = primitive
            .operations
            .iter()
            .find(|op| is_promoted_monitor(op) && op.is_enabled && op.on_fail.is_some())
            .and_then(|op| op.on_fail)
            .filter(|on_fail| *on_fail != OnFail::Demote);
    }
    let is_allowed = |on_fail: &OnFail| match on_fail {
        OnFail::Standby | OnFail::Stop if operation == "stop" => false,
        OnFail::Demote => operation == "promote" || configured.is_some_and(is_promoted_monitor),
        OnFail::RestartContainer => rsc.container.is_some(),
        OnFail::Ignore
        | OnFail::Restart
        | OnFail::ResetRemote
        | OnFail::Ban
        | OnFail::Block
        | OnFail::Stop
        | OnFail::Standby
        | OnFail::Fence => true,
    };
    let said = said.filter(is_allowed).map(|on_fail| match on_fail {
        OnFail::Fence if !is_fencing_enabled => OnFail::Stop,
        OnFail::Standby
        | OnFail::Ignore
        | OnFail::Demote
        | OnFail::Restart
        | OnFail::ResetRemote
        | OnFail::RestartContainer
        | OnFail::Ban
        | OnFail::Block
        | OnFail::Stop
        | OnFail::Fence => on_fail,
    });
    let is_connection = rsc.connects.is_some();
    let is_first_look = operation == "monitor" && interval_ms == 0;
    let mut left = Role::Started;
    let on_fail = match said {
        None if rsc.container.is_some() => OnFail::RestartContainer,
        _ if (said.is_none() || !rsc.is_managed) && is_connection && !is_first_look && operation != "start" => {
            if rsc.is_managed {
                if primitive.reconnect_s > 0 {
                    left = Role::Stopped;
                }
                OnFail::ResetRemote
            } else {
                left = Role::Stopped;
                OnFail::Stop
            }
        }
        None if operation == "stop" && is_fencing_enabled => OnFail::Fence,
        None if operation == "stop" => OnFail::Block,
        None => OnFail::Restart,
        Some(said) => said,
    };
    let left = match on_fail {
        OnFail::Stop => Role::Stopped,
        _ if left == Role::Stopped => left,
        _ if operation == "promote" => Role::Unpromoted,
        _ => Role::Started,
    };
    (on_fail, left)
}

/// The operation of a name and interval; the first counts.
pub(crate) fn find<'a>(operations: &'a [Operation], name: &str, interval_ms: u32) -> Option<&'a Operation> {
    let exact = |name: &str| operations.iter().find(|op| op.name == name && op.interval_ms == interval_ms);
    exact(name).or_else(|| matches!(name, "migrate_to" | "migrate_from").then(|| exact("migrate")).flatten())
}
