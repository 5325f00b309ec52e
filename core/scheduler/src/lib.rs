//! What should change, given what is wanted and what is known?
//!
//! ```text
//!   ClusterState (wanted + known) ─┐                          ┌─► steps under grants, and why
//!   Live (what the leader sees) ───┴► agreed/ ─┐              │   agreed/
//!                                              ├► Situation ─► judge ─► Judgement
//!   ClusterConfig (a cluster file) ─► lower.rs ┤   read/ ─► assign/ ─► act/
//!   a CIB ─► import ───────────────────────────┘
//! ```
//!
//! Pure and without memory: equal inputs give equal plans. The plan is made anew after every change, and only steps
//! that wait for nothing are ever begun, so a plan that has become wrong costs nothing. The kernel (`state`) judges
//! every proposal again: a bug here may keep a service down, but cannot start it twice.
//!
//! Not here: how steps become operations (`executor`), whether a node is lost (`liveness`), fencing (`fencing`).

mod act;
mod agreed;
mod assign;
mod few;
mod lower;
mod names;
mod read;
pub mod reasons;
mod sequence;
mod suppose;
mod world;

use model::situation::Situation;

pub use act::{Done, Judgement, NodeLook, Place, Told};
pub use agreed::{
    Eligibility, Live, NodeExplanation, again_at, explain, explain_node, outlook, plan, situation_if, situation_now,
    suppose_now,
};
pub use lower::situation_of;
pub use reasons::{Ask, Reasons, judge_telling};
pub use suppose::{NoMajority, Supposition, SuppositionError, Votes, carried_out, suppose, suppose_all};

/// Decides what should change in a situation, whoever described it.
///
/// Pure: equal situations give equal judgements.
pub fn judge(situation: &Situation) -> Judgement {
    let world = read::read(situation);
    let placement = assign::place(&world);
    act::act(&world, placement)
}

/// As [`judge`], with the node of each resource by name, whether or not it can start there now.
fn judge_with_places(situation: &Situation) -> (Judgement, Vec<(String, String)>) {
    let world = read::read(situation);
    let placement = assign::place(&world);
    let named = |rsc: &world::RscIx| {
        let node = placement.node[rsc.0 as usize]?;
        Some((world.rsc(*rsc).id.to_string(), world.node(node).name.to_owned()))
    };
    let places = world.rsc_ixs().filter(|rsc| world.rsc(*rsc).is_primitive()).filter_map(|rsc| named(&rsc)).collect();
    (act::act(&world, placement), places)
}
