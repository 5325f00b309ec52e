//! Why here, and why not there?
//!
//! Placement notes for the resources that somebody asks about what each score is made of and what decided
//! (`assign/table.rs`, `assign/choice.rs`). Here that becomes facts with names, and those become sentences. The scores of
//! a node's contributions add up to its score, with the addition of scores.
//!
//! In: a situation, and which resources are asked about. Out: its judgement, with [`Reasons`]; an [`Explanation`].
//! Not here: what any of it leads to (`assign/`, `act/`).

mod explain;
mod story;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use model::situation::{MultipleActive, Role, Score, Situation};
use serde::Serialize;

pub use crate::act::Cause;
pub use explain::{Explanation, NodeReasons, explain, explanation};
pub use story::{changed, story};

pub use crate::assign::Decider;
use crate::assign::{Placement, Settled, Source, Tie};
use crate::read::FailureCounts;
use crate::world::{NodeIx, RscIx, World};
use crate::{Judgement, act, assign, read};

/// Which resources are asked about?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ask {
    /// None.
    #[default]
    Nothing,
    /// Every one.
    All,
    /// Those of these names, everything that is in them, and what is tied to them.
    Of(BTreeSet<String>),
}

/// Why a judgement is as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reasons {
    /// How each primitive that was asked about got its place, by its name; instances bear a number: `web:0`.
    pub weighings: BTreeMap<String, Weighing>,
    /// Why each action of the judgement is done, in the order of its actions.
    pub causes: Vec<Cause>,
}

/// How a primitive got its place, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Weighing {
    /// Its name without number.
    pub resource: String,
    /// The group, clone or bundle that it is part of, the innermost first.
    pub part_of: Vec<String>,
    /// Its place among all resources, in the order of the configuration.
    #[serde(skip)]
    pub place: u32,
    /// In clones and bundles: the number of the instance.
    #[serde(skip)]
    pub instance: Option<u32>,
    /// The node that it gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Where it is.
    pub current: Vec<String>,
    /// What decided.
    pub decided_by: Decider,
    /// It is to run, as far as its own settings go.
    #[serde(skip)]
    pub is_wanted: bool,
    /// Why nothing is done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hands_off: Option<HandsOff>,
    /// Every node.
    pub nodes: Vec<NodeWeight>,
    /// Instances that could lead: what decides who does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead: Option<Lead>,
}

/// Why nothing is done about a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HandsOff {
    /// It is not managed.
    Unmanaged,
    /// It, its node or the cluster is in maintenance.
    Maintenance,
    /// It failed on these nodes, and a failure blocks it.
    Failed(Vec<String>),
    /// This resource of the same group or bundle, or it itself, is active on these nodes, and that blocks it.
    ActiveOnSeveral {
        /// The name of the one that is active more than once.
        resource: String,
        /// Where.
        nodes: Vec<String>,
    },
    /// It is frozen: its ticket is not there.
    Frozen,
}

/// What speaks for and against a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeWeight {
    /// The node.
    pub node: String,
    /// It could have been chosen.
    pub can_run: bool,
    /// The sum of the contributions.
    pub score: Score,
    /// Resources that it had been given before this one.
    pub resources_before: u32,
    /// What the score is made of.
    pub contributions: Vec<Contribution>,
}

/// Who leads?
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lead {
    /// It does.
    pub leads: bool,
    /// The sum of the contributions.
    pub score: Score,
    /// What speaks for and against it.
    pub contributions: Vec<Contribution>,
}

/// A part of a score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contribution {
    /// How much.
    pub score: Score,
    /// Where it comes from.
    #[serde(flatten)]
    pub ground: Ground,
}

/// Where a part of a score comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "ground", rename_all = "snake_case")]
pub enum Ground {
    /// What the node offers to every resource.
    Base,
    /// How healthy the node is.
    Health,
    /// What a location says.
    Location {
        /// Which location.
        id: String,
        /// What it says in words, if it does: the rest of a sentence that begins with the node's name.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// Something that happened.
    Happened {
        /// To which resource.
        resource: String,
        /// What, as a sentence about the resource.
        what: String,
    },
    /// It waits for a node that was shut down.
    WaitsFor {
        /// Which node.
        node: String,
    },
    /// It runs there, and wants to stay.
    Stickiness {
        /// What runs there.
        resource: String,
    },
    /// It failed there too often.
    Failures {
        /// What failed.
        resource: String,
        /// How often.
        count: i64,
        /// How often it may.
        limit: u32,
    },
    /// Locations name the nodes where it may run, and not this one.
    NotNamed,
    /// Nothing says that it may run there, and nothing runs unasked.
    NotAllowed,
    /// Remote nodes and guests do not run such a resource.
    RemoteNode,
    /// It is not to run.
    Disabled,
    /// It follows another resource.
    With {
        /// Which.
        resource: String,
        /// Where that is, in the role.
        on: Vec<String>,
        /// Only copies of it in this role count; none: all.
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
        /// How much it is drawn there; below 0: away.
        pull: Score,
        /// Which colocation says so; none: it is part of the same thing.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// It would follow another resource, and that runs nowhere, or nowhere in the role.
    WithNothing {
        /// Which.
        resource: String,
        /// Only copies of it in this role count; none: all.
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
        /// Which colocation says so; none: it is part of the same thing.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// Another resource that follows it would like to see it there, or not.
    Wish {
        /// Which.
        resource: String,
        /// Which colocation ties it; none: it is part of the same thing.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// What others wish must not keep it away.
    WishLimit,
    /// There is too little room.
    Capacity {
        /// Of what.
        #[serde(skip_serializing_if = "Option::is_none")]
        what: Option<String>,
        /// How much is needed.
        needed: i64,
        /// How much is left.
        left: i64,
    },
    /// What its agent says of how fit it is to lead there.
    Fitness,
    /// Its agent has not said whether it may lead.
    NoFitness,
    /// What it is to be there at most, or at least.
    RoleLimit,
    /// The ticket to lead is not there.
    Ticket,
    /// As many instances run as are wanted.
    EnoughInstances,
    /// The node has as many instances as it may have.
    FullOfInstances,
    /// What it is part of may not run there.
    PartOf {
        /// What that is.
        resource: String,
    },
    /// It left the configuration, or is one instance too many.
    Removed,
    /// The node takes nothing.
    Node {
        /// How it is: the rest of a sentence that begins with its name.
        is: String,
    },
    /// It belongs into the container that is there.
    Container,
}

/// Decides what should change, and says why where somebody asks.
///
/// Pure: equal situations give equal judgements, whoever asks what.
pub fn judge_telling(situation: &Situation, ask: &Ask) -> (Judgement, Reasons) {
    let world = read::read(situation);
    let placement = assign::place_telling(&world, asked(&world, ask));
    let mut reasons = Teller { world: &world, placement: &placement }.reasons();
    let mut judgement = act::act_telling(&world, placement, true);
    reasons.causes = std::mem::take(&mut judgement.causes);
    (judgement, reasons)
}

/// By resource: is it asked about? Empty for none.
fn asked(world: &World<'_>, ask: &Ask) -> Vec<bool> {
    let names = match ask {
        Ask::Nothing => return Vec::new(),
        Ask::All => return vec![true; world.resources.len()],
        Ask::Of(names) => names,
    };
    let is_named = |rsc: &RscIx| {
        let it = world.rsc(*rsc);
        names.contains(&*it.id) || names.contains(it.name)
    };
    let mut tops: BTreeSet<RscIx> = world.rsc_ixs().filter(is_named).map(|rsc| world.outermost(rsc)).collect();
    let named = tops.clone();
    for colocation in &world.situation.colocations {
        let sides = [&colocation.dependent, &colocation.primary].map(|name| world.find(name.as_str()));
        let sides: Vec<RscIx> = sides.into_iter().flatten().map(|rsc| world.outermost(rsc)).collect();
        if sides.iter().any(|side| named.contains(side)) {
            tops.extend(sides);
        }
    }
    world.rsc_ixs().map(|rsc| tops.contains(&world.outermost(rsc))).collect()
}

/// Turns what was noted into facts with names.
struct Teller<'w, 'a> {
    world: &'w World<'a>,
    placement: &'w Placement,
}

impl Teller<'_, '_> {
    fn reasons(&self) -> Reasons {
        let tell =
            |(rsc, settled): (&RscIx, &Settled)| (self.world.rsc(*rsc).id.to_string(), self.weighing(*rsc, settled));
        Reasons { weighings: self.placement.settled.iter().map(tell).collect(), causes: Vec::new() }
    }

    fn weighing(&self, rsc: RscIx, settled: &Settled) -> Weighing {
        let world = self.world;
        let it = world.rsc(rsc);
        let mut part_of = Vec::new();
        let mut here = it.parent;
        while let Some(parent) = here {
            part_of.push(world.rsc(parent).id.to_string());
            here = world.rsc(parent).parent;
        }
        Weighing {
            resource: it.name.to_owned(),
            place: rsc.0,
            instance: it.number.or(it.replica.map(|(_, number)| number)),
            part_of,
            node: settled.node.map(|node| self.node_name(node)),
            current: it.active_on.iter().map(|node| self.node_name(*node)).collect(),
            decided_by: settled.choice,
            is_wanted: it.goal != Role::Stopped && !it.is_removed && it.is_managed,
            hands_off: self.hands_off(rsc),
            nodes: world.node_ixs().map(|node| self.node_weight(rsc, settled, node)).collect(),
            lead: self.lead(rsc),
        }
    }

    /// Why nothing is done about it.
    fn hands_off(&self, rsc: RscIx) -> Option<HandsOff> {
        let world = self.world;
        let it = world.rsc(rsc);
        if it.is_managed {
            return None;
        }
        if !it.is_blocked {
            return Some(if it.is_maintenance { HandsOff::Maintenance } else { HandsOff::Unmanaged });
        }
        let blocks = |rsc: &RscIx| {
            let it = world.rsc(*rsc);
            it.active_on.len() > 1 && it.meta.multiple_active == MultipleActive::Block
        };
        let others = it.parent.map(|parent| world.rsc(parent).children.clone()).unwrap_or_default();
        if let Some(several) = std::iter::once(rsc).chain(others).find(blocks) {
            let several = world.rsc(several);
            let nodes = several.active_on.iter().map(|node| self.node_name(*node)).collect();
            return Some(HandsOff::ActiveOnSeveral { resource: several.id.to_string(), nodes });
        }
        if !it.is_failed {
            return Some(HandsOff::Frozen);
        }
        let failed = world.node_ixs().filter(|node| it.failed_on.contains(node));
        Some(HandsOff::Failed(failed.map(|node| self.node_name(node)).collect()))
    }

    fn node_weight(&self, rsc: RscIx, settled: &Settled, node: NodeIx) -> NodeWeight {
        let at = node.0 as usize;
        let is_usable = settled.is_usable.get(at).copied().unwrap_or(false);
        let mut contributions: Vec<Contribution> = Vec::new();
        if !is_usable {
            let is = self.standing(node);
            contributions.push(Contribution { score: Score::MUST_NOT, ground: Ground::Node { is } });
        }
        let table_score = settled.table.get(at).copied().flatten();
        if table_score.is_none() {
            contributions.push(Contribution { score: Score::MUST_NOT, ground: Ground::NotAllowed });
        }
        for entry in settled.table.entries(node) {
            let ground = self.ground(rsc, node, entry.source);
            contributions.push(Contribution { score: entry.score, ground });
        }
        let score = match table_score {
            Some(score) if is_usable => score,
            Some(_) | None => Score::MUST_NOT,
        };
        NodeWeight {
            node: self.node_name(node),
            can_run: self.world.situation.options.allows(score),
            score,
            resources_before: settled.load.get(at).copied().unwrap_or_default(),
            contributions,
        }
    }

    /// Who leads is decided by how fit an instance is and what the clone has on its node.
    fn lead(&self, rsc: RscIx) -> Option<Lead> {
        let world = self.world;
        let node = self.placement.node[rsc.0 as usize]?;
        let clone = world.clone_of(rsc).filter(|clone| world.rsc(*clone).meta.is_promotable)?;
        let mut instance = rsc;
        while let Some(parent) = world.rsc(instance).parent.filter(|parent| *parent != clone) {
            instance = parent;
        }
        let fitness = self.placement.fitness.entries(instance);
        let of_clone = self.placement.tables[clone.0 as usize].entries(node);
        let of_clone =
            of_clone.filter(|entry| entry.source != Source::Fitness).map(|entry| (entry.score, entry.source));
        let contributions: Vec<Contribution> = fitness
            .iter()
            .copied()
            .chain(of_clone)
            .map(|(score, source)| Contribution { score, ground: self.ground(clone, node, source) })
            .collect();
        let score = contributions.iter().fold(Score::ZERO, |sum, one| sum + one.score);
        let leads = self.placement.goal[rsc.0 as usize] == Role::Promoted;
        Some(Lead { leads, score, contributions })
    }

    fn ground(&self, asker: RscIx, node: NodeIx, source: Source) -> Ground {
        let world = self.world;
        let name = |rsc: RscIx| world.rsc(rsc).id.to_string();
        match source {
            Source::Base => Ground::Base,
            Source::Health => Ground::Health,
            Source::Location(at) => match world.situation.locations.get(at as usize) {
                Some(location) => Ground::Location { id: location.id.clone(), why: location.why.clone() },
                None => Ground::NotNamed,
            },
            Source::Ban(rsc, at) => Ground::Happened {
                resource: name(rsc),
                what: world.rsc(rsc).bans.get(at as usize).map(|ban| ban.why.to_string()).unwrap_or_default(),
            },
            Source::Lock(node) => Ground::WaitsFor { node: self.node_name(node) },
            Source::Stickiness(rsc) => Ground::Stickiness { resource: name(rsc) },
            Source::Failures(rsc) => Ground::Failures {
                resource: name(rsc),
                count: FailureCounts::with_fillers(world, rsc, node),
                limit: world.rsc(rsc).meta.failures_max.unwrap_or_default(),
            },
            Source::NotNamed => Ground::NotNamed,
            Source::Remote => Ground::RemoteNode,
            Source::Disabled => Ground::Disabled,
            Source::Follows(at) => {
                let tie = self.tie(at);
                Ground::With {
                    resource: name(tie.primary),
                    on: self.places(tie.primary, tie.primary_role),
                    role: tie.primary_role,
                    pull: tie.score,
                    id: self.colocation_id(tie),
                }
            }
            Source::FollowsNothing(at) => {
                let tie = self.tie(at);
                let (resource, role) = (name(tie.primary), tie.primary_role);
                Ground::WithNothing { resource, role, id: self.colocation_id(tie) }
            }
            Source::Wish(rsc, at) => Ground::Wish { resource: name(rsc), id: self.colocation_id(self.tie(at)) },
            Source::WishLimit => Ground::WishLimit,
            Source::Capacity => match self.placement.shortages.get(&(asker, node)) {
                Some(shortage) => {
                    Ground::Capacity { what: Some(shortage.what.clone()), needed: shortage.needed, left: shortage.left }
                }
                None => Ground::Capacity { what: None, needed: 0, left: 0 },
            },
            Source::Fitness => Ground::Fitness,
            Source::NoFitness => Ground::NoFitness,
            Source::RoleLimit => Ground::RoleLimit,
            Source::Ticket => Ground::Ticket,
            Source::Enough => Ground::EnoughInstances,
            Source::FullOfInstances => Ground::FullOfInstances,
            Source::Parent(parent) => self.ground_of_parent(parent, node),
            Source::Removed => Ground::Removed,
            Source::Unusable => Ground::Node { is: self.standing(node) },
            Source::Container => Ground::Container,
        }
    }

    /// What keeps a collective off a node keeps its instances off.
    fn ground_of_parent(&self, parent: RscIx, node: NodeIx) -> Ground {
        let table = &self.placement.tables[parent.0 as usize];
        if table.get(node.0 as usize).copied().flatten().is_none() {
            return Ground::NotAllowed;
        }
        let decisive =
            table.entries(node).find(|entry| entry.score.is_must_not() && entry.source != Source::Parent(parent));
        match decisive {
            Some(entry) => self.ground(parent, node, entry.source),
            None => Ground::PartOf { resource: self.world.rsc(parent).id.to_string() },
        }
    }

    fn tie(&self, at: u32) -> &Tie {
        &self.placement.ties[at as usize]
    }

    fn colocation_id(&self, tie: &Tie) -> Option<String> {
        Some(self.world.situation.colocations.get(tie.colocation? as usize)?.id.clone())
    }

    /// Where the primitives of a resource go, those in the role if one is named.
    fn places(&self, rsc: RscIx, role: Option<Role>) -> Vec<String> {
        let nodes: BTreeSet<NodeIx> = self
            .world
            .primitives(rsc)
            .into_iter()
            .filter(|primitive| role.is_none_or(|role| self.placement.goal[primitive.0 as usize] == role))
            .filter_map(|primitive| self.placement.node[primitive.0 as usize])
            .collect();
        nodes.into_iter().map(|node| self.node_name(node)).collect()
    }

    fn node_name(&self, node: NodeIx) -> String {
        self.world.node(node).name.to_owned()
    }

    /// Why a node takes nothing: the rest of a sentence that begins with its name.
    fn standing(&self, node: NodeIx) -> String {
        let there = self.world.node(node);
        let at = node.0 as usize;
        let said = |otherwise: &str| there.facts.why.clone().unwrap_or_else(|| otherwise.to_owned());
        if self.placement.is_unclean[at] {
            let is = if there.is_online { "has to be fenced" } else { "is lost" };
            let why = there.fence_reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            said(&format!("{is}{why}"))
        } else if there.is_shutting_down {
            said("is leaving the cluster")
        } else if there.is_pending {
            said("is joining, and can do nothing yet")
        } else if !self.placement.is_online[at] {
            said(if there.is_member() { "is offline" } else { "is not connected" })
        } else if there.is_standby_by_failure {
            "is in standby after a failure".to_owned()
        } else if there.is_standby {
            said("is in standby")
        } else if there.is_maintenance {
            said("is in maintenance")
        } else if there.is_guest() {
            "is down with its container".to_owned()
        } else {
            "is not connected".to_owned()
        }
    }
}
