//! What should change, given what is wanted and what is known?
//!
//! ```text
//!   ClusterState (wanted + known) ─┐
//!   Live (what the leader sees) ───┴─► who may run anything ─► where each unit goes, and why ─► steps, in order
//!                                      eligible.rs             place.rs                         steps.rs
//! ```
//!
//! Pure and without memory: equal inputs give equal plans. The plan is made anew after every change, and only steps
//! that wait for nothing are ever begun, so a plan that has become wrong costs nothing. The kernel (`state`) judges
//! every proposal again: a bug here may keep a service down, but cannot start it twice.
//!
//! Not here: how steps become operations (`executor`), whether a node is lost (`liveness`), fencing (`fencing`).

mod eligible;
mod explain;
mod live;
mod place;
mod steps;

mod act;
mod assign;
mod lower;
mod read;
mod suppose;
mod world;

pub use explain::{NodeExplanation, explain, explain_node};
pub use live::{Eligibility, Live};
use model::situation::Situation;
use model::{ClusterState, Plan};

pub use act::{Done, Judgement, NodeLook, Place, Told};
pub use lower::situation_of;
pub use suppose::{Supposition, SuppositionError, carried_out, suppose};

/// Decides what should change.
///
/// Pure: equal states give equal plans, on any node, in any test, in a rehearsal.
pub fn plan(state: &ClusterState, live: &Live) -> Plan {
    let nodes = eligible::nodes(state, live);
    let units = state.config.units();
    let placements = place::place(state, &nodes, &units, live.bugs);
    steps::plan(state, &nodes, &units, placements)
}

/// Decides what should change in a situation, whoever described it.
///
/// Pure: equal situations give equal judgements.
pub fn judge(situation: &Situation) -> Judgement {
    let world = read::read(situation);
    let placement = assign::place(&world);
    act::act(&world, placement)
}
