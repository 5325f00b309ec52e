//! From a situation to a world: names resolved, instances unfolded, histories read.
//!
//! ```text
//!   nodes.rs ──► resources.rs ──► history.rs (failures.rs, migration.rs) ──► World
//! ```

mod failures;
mod history;
mod migration;
mod nodes;
mod resources;
mod tickets;

pub(crate) use failures::{FailureCounts, find};
pub(crate) use history::{active_count, can_fence};

use model::situation::Situation;

use crate::world::World;

/// Reads everything.
pub(crate) fn read(situation: &Situation) -> World<'_> {
    let mut world = nodes::world_of_nodes(situation);
    resources::add_resources(&mut world);
    nodes::judge_members(&mut world);
    history::read_all(&mut world);
    tickets::apply(&mut world);
    if world.lacks_device {
        // What cannot be cut off is not touched.
        for rsc in world.rsc_ixs() {
            let it = &mut world.resources[rsc.0 as usize];
            it.is_managed &= !it.is_primitive();
        }
    }
    world
}
