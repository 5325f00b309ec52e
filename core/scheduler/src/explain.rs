//! Why here, and why not there?

use model::{ClusterState, NodeId, UnitName};

use crate::place::score;
use crate::{Live, eligible};

/// What speaks for or against one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeExplanation {
    /// The node.
    pub node: NodeId,
    /// Its score (higher is better: 100 for the first of `prefer`, 50 for the second, 33, …; where the unit is held,
    /// its stickiness on top), or what keeps the unit away, as the rest of a sentence that begins with the node's
    /// name.
    pub can_run: Result<u32, String>,
}

/// What speaks for or against each member as the place of `unit`; empty if there is no such unit.
pub fn explain(state: &ClusterState, live: &Live, unit: &UnitName) -> Vec<NodeExplanation> {
    let units = state.config.units();
    let Some(wanted) = units.get(unit) else { return Vec::new() };
    let holder = state.holders.get(unit).map(|holder| holder.node);
    eligible::nodes(state, live)
        .values()
        .map(|node| {
            let stays = if holder == Some(node.id) { wanted.placement.stickiness } else { 0 };
            let can_run = eligible::can_get(state, node, unit, wanted, holder)
                .map(|()| score(wanted.placement, &node.member.name).saturating_add(stays));
            NodeExplanation { node: node.id, can_run }
        })
        .collect()
}

/// May the node be given units at all? If not, the reason is the rest of a sentence that begins with its name.
///
/// # Errors
/// What keeps every unit away from it.
pub fn explain_node(state: &ClusterState, live: &Live, node: NodeId) -> Result<(), String> {
    eligible::nodes(state, live)
        .get(&node)
        .map_or_else(|| Err("is not a member".to_owned()), |node| node.may_get.clone())
}
