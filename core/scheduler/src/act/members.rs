//! What do the members of a collective amount to, asked again and again while nothing changes?
//!
//! Every instance of a clone waits for the marker of the clone, and the marker is what its instances are: asked each
//! time, a clone on every node of a large cluster would be counted as often as it has instances, squared. So what was
//! seen is kept until any action changes, and members are found by their nodes.
//!
//! Not here: what follows from it (`settle.rs`).

use super::Planner;
use super::graph::{ActionIx, Task};
use crate::few::Few;
use crate::world::NodeIx;

/// What of an action counts for another: is it optional, can it be done?
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub is_optional: bool,
    pub is_runnable: bool,
    pub may_migrate: bool,
}

/// What was seen of markers, by marker.
#[derive(Default)]
pub(super) struct Members {
    /// The state of the graph in which it was seen, and what.
    seen: Vec<Option<(u64, Look)>>,
    by_node: Vec<Option<ByNode>>,
}

/// The actions that a marker stands for, by their nodes.
struct ByNode {
    /// As many actions as there were.
    actions: usize,
    /// None where a member is a collective itself.
    on: Option<Vec<Few<ActionIx, 1>>>,
}

impl Members {
    /// What the marker looked like, if nothing has changed since.
    pub fn seen(&self, marker: ActionIx, version: u64) -> Option<Look> {
        let (known, look) = (*self.seen.get(marker.0 as usize)?)?;
        (known == version).then_some(look)
    }

    /// Notes what it looks like.
    pub fn note(&mut self, marker: ActionIx, version: u64, look: Look) {
        let at = marker.0 as usize;
        if self.seen.len() <= at {
            self.seen.resize(at + 1, None);
        }
        self.seen[at] = Some((version, look));
    }
}

impl<'a> Planner<'_, 'a> {
    /// Actions of `task` on a node that the marker of a clone stands for; none if instances are collectives.
    pub(super) fn members_on(&mut self, marker: ActionIx, task: Task<'a>, node: NodeIx) -> Option<Few<ActionIx, 1>> {
        let at = marker.0 as usize;
        let actions = self.graph.actions.len();
        if self.members.by_node.len() <= at {
            self.members.by_node.resize_with(actions, || None);
        }
        if self.members.by_node[at].as_ref().is_none_or(|known| known.actions != actions) {
            self.members.by_node[at] = Some(ByNode { actions, on: self.members_by_node(marker, task) });
        }
        let on = self.members.by_node[at].as_ref()?.on.as_ref()?;
        on.get(node.0 as usize).cloned()
    }

    fn members_by_node(&self, marker: ActionIx, task: Task<'a>) -> Option<Vec<Few<ActionIx, 1>>> {
        let world = self.world;
        let it = world.rsc(self.graph.get(marker).rsc?);
        if !it.is_clone() || !it.children.iter().all(|child| world.rsc(*child).is_primitive()) {
            return None;
        }
        let mut on = vec![Few::new(); world.nodes.len()];
        for child in &it.children {
            for member in self.graph.all(*child, task) {
                if let Some(node) = self.graph.get(*member).node {
                    on[node.0 as usize].push(*member);
                }
            }
        }
        Some(on)
    }
}
