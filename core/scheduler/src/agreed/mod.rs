//! What should change in a running cluster?
//!
//! ```text
//!   ClusterState (agreed) ─┐  standing.rs: who may get what without risk
//!   Live (seen) ───────────┴► lower.rs: the same in the words of a situation ─► judge ─┬► steps.rs: under grants
//!                                                                                      └► words.rs: and why
//! ```
//!
//! Where everything goes and in which order is decided by the one scheduler that decides for imported clusters too. What
//! is added here is what the exclusion kernel asks for: nothing starts without a grant, nothing is granted while it may
//! run elsewhere, what nobody knows is probed, what runs without a grant is stopped.

mod live;
mod lower;
mod standing;
mod steps;
mod suppose;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use model::situation::Situation;
use model::{
    ClusterState, HolderState, Known, NodeId, OpId, Plan, ResourceName, ResourceState, Unit, UnitName, WallTime,
};

pub use live::{Eligibility, Live};
use standing::Node;
pub use suppose::{situation_if, suppose_now};
pub use words::{NodeExplanation, explain, explain_node};

use crate::act::Judgement;
use crate::reasons::{Ask, Explanation, explanation, judge_telling};

/// Milliseconds between two looks at a node that came back too often.
const QUIET_MS: u64 = 10_000;

/// Decides what should change.
///
/// Pure: equal states give equal plans, on any node, in any test, in a rehearsal.
pub fn plan(state: &ClusterState, live: &Live) -> Plan {
    let case = Case::of(state, live);
    let steps = steps::steps(&case);
    let decisions = words::decisions(&case, &steps);
    let blocked_by = standing::blockers(state, &case.nodes, &case.units, live.bugs);
    Plan { decisions, steps, blocked_by }
}

/// Where units will start that wait only until their nodes have been asked what runs there, if nothing is found.
pub fn outlook(state: &ClusterState, live: &Live) -> BTreeMap<UnitName, NodeId> {
    let nodes = standing::nodes(state, live);
    let is_asked = |resource: &ResourceName, node: &Node<'_>| {
        let known = state.known.get(resource).and_then(|nodes| nodes.get(&node.id));
        known.is_some_and(|known| known.state != ResourceState::Unknown || !known.reason.is_empty())
    };
    let mut answered = state.clone();
    let mut waiting: BTreeSet<UnitName> = BTreeSet::new();
    for node in nodes.values().filter(|node| node.is_workable() && node.could_run()) {
        for resource in state.config.resources.keys().filter(|resource| !is_asked(resource, node)) {
            let unit = state.config.unit_of(resource);
            if !state.holders.contains_key(&unit) {
                waiting.insert(unit);
            }
            let nothing = Known {
                state: ResourceState::Stopped,
                incarnation: node.member.incarnation,
                op: OpId::default(),
                since: live.now,
                reason: String::new(),
                digest: 0,
                is_change: false,
            };
            answered.known.entry(resource.clone()).or_default().insert(node.id, nothing);
        }
    }
    if waiting.is_empty() {
        return BTreeMap::new();
    }
    let case = Case::of(&answered, live);
    let place = |unit: UnitName| {
        let node = case.target(case.units.get(&unit)?)?;
        Some((unit, node))
    };
    waiting.into_iter().filter_map(place).collect()
}

/// What is wanted and known of a running cluster in the words of a situation: what `judge` and `suppose` take.
pub fn situation_now(state: &ClusterState, live: &Live) -> Situation {
    lower::lower(state, &standing::nodes(state, live), &state.config.units(), live)
}

/// When a plan may change by the passing of time alone: failures are forgotten then, or a node has been quiet for long
/// enough.
pub fn again_at(state: &ClusterState, live: &Live) -> Option<WallTime> {
    let forgotten = state.failures.iter().flat_map(|(resource, nodes)| {
        let configured = state.config.resources.get(resource);
        nodes.values().filter_map(move |failures| standing::forgotten_at(configured?, failures))
    });
    let is_suppressed = state.members.values().any(|member| member.is_suppressed(live.now));
    let quiet = is_suppressed.then(|| WallTime(live.now.0 + QUIET_MS));
    forgotten.filter(|at| *at > live.now).chain(quiet).min()
}

/// One running cluster, judged.
struct Case<'a> {
    state: &'a ClusterState,
    live: &'a Live,
    nodes: BTreeMap<NodeId, Node<'a>>,
    ids: BTreeMap<String, NodeId>,
    units: BTreeMap<UnitName, Unit<'a>>,
    judgement: Judgement,
    /// Where each resource should run, whether or not that can begin now.
    assigned: BTreeMap<ResourceName, NodeId>,
    /// Units that stay on a node that is to be emptied, and why.
    kept: BTreeMap<UnitName, String>,
    /// Why units move that could stay, and why others have no place.
    explained: BTreeMap<UnitName, Explanation>,
}

impl<'a> Case<'a> {
    fn of(state: &'a ClusterState, live: &'a Live) -> Self {
        let nodes = standing::nodes(state, live);
        let units = state.config.units();
        let situation = lower::lower(state, &nodes, &units, live);
        let (judgement, places) = crate::judge_with_places(&situation);
        let ids: BTreeMap<String, NodeId> = nodes.values().map(|node| (node.name().to_owned(), node.id)).collect();
        let assigned = places
            .iter()
            .filter_map(|(resource, node)| Some((ResourceName(resource.clone()), *ids.get(node.as_str())?)))
            .collect();
        let kept = standing::kept(state, &nodes, &units, live.bugs);
        let mut case = Case { state, live, nodes, ids, units, judgement, assigned, kept, explained: BTreeMap::new() };
        case.explained = case.explanations(&situation);
        case
    }

    /// What draws units away from nodes that they need not leave, and what keeps units from all nodes.
    fn explanations(&self, situation: &Situation) -> BTreeMap<UnitName, Explanation> {
        let asked: BTreeSet<&UnitName> = self
            .units
            .iter()
            .filter(|(name, unit)| match self.target(unit) {
                Some(_) => self.is_drawn(name),
                None => self.lacks_node(name, unit),
            })
            .map(|(name, _)| name)
            .collect();
        if asked.is_empty() {
            return BTreeMap::new();
        }
        let ask = Ask::Of(asked.iter().map(|name| name.0.clone()).collect());
        let (judgement, reasons) = judge_telling(situation, &ask);
        let told = |name: &UnitName| explanation(&judgement, &reasons, name.as_str());
        asked.into_iter().filter_map(|name| Some((name.clone(), told(name)?))).collect()
    }

    /// Is the unit drawn away from a node where it could stay?
    fn is_drawn(&self, name: &UnitName) -> bool {
        let holder = standing::holder_of(self.state, &self.nodes, name, self.live.bugs);
        let (Some(holder), Some(unit)) = (holder.filter(|it| it.state == HolderState::Held), self.units.get(name))
        else {
            return false;
        };
        let could_stay = |node: &Node<'_>| node.is_workable() && standing::must_leave(self.state, node, unit).is_none();
        self.target(unit).is_some_and(|target| target != holder.node)
            && self.nodes.get(&holder.node).is_some_and(could_stay)
    }

    /// Would the unit be without service from its stop until its next start, although it runs?
    fn serves(&self, name: &UnitName) -> bool {
        let holder = standing::holder_of(self.state, &self.nodes, name, self.live.bugs);
        holder.zip(self.units.get(name)).is_some_and(|(holder, unit)| {
            holder.state == HolderState::Held && standing::runs_wholly(self.state, unit, holder.node)
        })
    }

    /// Is there no node for a unit that is wanted, for other reasons than that it may run elsewhere?
    fn lacks_node(&self, name: &UnitName, unit: &Unit<'_>) -> bool {
        let here = standing::holder_of(self.state, &self.nodes, name, self.live.bugs).map(|holder| holder.node);
        let is_reached = here.is_none_or(|here| self.nodes.get(&here).is_some_and(Node::is_workable));
        is_reached
            && words::wanted(self, name, unit).is_ok()
            && standing::is_free_elsewhere(self.state, &self.nodes, name, unit, here).is_ok()
    }

    fn node_name(&self, id: NodeId) -> &str {
        self.nodes.get(&id).map_or("?", |node| node.name())
    }

    /// Where the unit should run: its first resource leads the others.
    fn target(&self, unit: &Unit<'_>) -> Option<NodeId> {
        unit.members.first().and_then(|first| self.assigned.get(*first)).copied()
    }
}
