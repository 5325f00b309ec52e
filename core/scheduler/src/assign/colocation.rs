//! What is tied to what? Explicit colocations and those that groups, guests and bundles bring along, and for each
//! resource the ties that count for it, in the order in which they count.

use std::cmp::{Ordering, Reverse};
use std::rc::Rc;

use model::situation::{Role, Score};

use super::Assigner;
use crate::world::{RscIx, World};

/// The attribute that colocations compare unless told otherwise: the node itself.
pub(crate) const NODE: &str = "#uname";

/// One resource that follows another.
#[derive(Clone, Debug)]
pub(crate) struct Tie {
    /// Its place among all ties.
    pub at: u32,
    /// The colocation that it is, by its place in the situation; none: built in.
    pub colocation: Option<u32>,
    pub dependent: RscIx,
    pub dependent_role: Option<Role>,
    pub primary: RscIx,
    pub primary_role: Option<Role>,
    pub score: Score,
    pub attribute: Rc<str>,
    /// Does the dependent pull the primary even from where it runs?
    pub has_influence: bool,
    pub is_explicit: bool,
}

/// A role that restricts: that something runs is no restriction.
fn restricting(role: Option<Role>) -> Option<Role> {
    role.filter(|role| !matches!(role, Role::Started | Role::Unknown))
}

/// All ties, and by resource those that it follows and leads, in order.
pub(super) fn ties(world: &World<'_>) -> (Vec<Tie>, Vec<Vec<u32>>, Vec<Vec<u32>>) {
    let mut all = Vec::new();
    for (place, colocation) in (0_u32..).zip(&world.situation.colocations) {
        let (Some(dependent), Some(primary)) =
            (world.find(colocation.dependent.as_str()), world.find(colocation.primary.as_str()))
        else {
            continue;
        };
        if colocation.score == Score::ZERO || dependent == primary {
            continue;
        }
        all.push(Tie {
            at: 0,
            colocation: Some(place),
            dependent,
            dependent_role: restricting(colocation.dependent_role),
            primary,
            primary_role: restricting(colocation.primary_role),
            score: colocation.score,
            attribute: Rc::from(colocation.attribute.as_str()),
            has_influence: colocation.influence.unwrap_or(world.rsc(dependent).meta.is_critical),
            is_explicit: true,
        });
    }
    let node: Rc<str> = Rc::from(NODE);
    let built_in = |dependent: RscIx, primary: RscIx, score: Score, has_influence: bool| Tie {
        at: 0,
        colocation: None,
        dependent,
        dependent_role: None,
        primary,
        primary_role: None,
        score,
        attribute: Rc::clone(&node),
        has_influence,
        is_explicit: false,
    };
    for rsc in world.rsc_ixs() {
        let it = world.rsc(rsc);
        if it.is_group() && it.meta.is_collocated {
            for pair in it.children.windows(2) {
                all.push(built_in(pair[1], pair[0], Score::MUST, world.rsc(pair[1]).meta.is_critical));
            }
        }
        if let Some(container) = it.container
            && it.replica.is_none()
            && world.connection_inward(rsc).is_none()
        {
            all.push(built_in(rsc, container, Score::MUST, true));
        }
        for replica in &it.replicas {
            if let Some(address) = replica.address {
                all.push(built_in(address, replica.container, Score::MUST, true));
            }
            if let Some(connection) = replica.connection {
                all.push(built_in(connection, replica.container, Score::of(10_000), true));
            }
        }
    }
    for (at, tie) in (0_u32..).zip(&mut all) {
        tie.at = at;
    }
    let mut follows = vec![Vec::new(); world.resources.len()];
    let mut leads = vec![Vec::new(); world.resources.len()];
    for (at, tie) in (0_u32..).zip(&all) {
        insert(&all, world, &mut follows[tie.dependent.0 as usize], at, |tie| tie.primary);
        insert(&all, world, &mut leads[tie.primary.0 as usize], at, |tie| tie.dependent);
    }
    (all, follows, leads)
}

/// Inserts before the first that does not come earlier: the newest first among equals.
fn insert(ties: &[Tie], world: &World<'_>, list: &mut Vec<u32>, new: u32, by: impl Fn(&Tie) -> RscIx) {
    let of = |at: u32| by(&ties[at as usize]);
    let at = list.iter().position(|old| precedence(world, of(new), of(*old)).is_le()).unwrap_or(list.len());
    list.insert(at, new);
}

fn precedence(world: &World<'_>, a: RscIx, b: RscIx) -> Ordering {
    let key = |rsc: RscIx| {
        let it = world.rsc(rsc);
        let size = if it.is_bundle() {
            3
        } else if it.is_clone() {
            2
        } else {
            u8::from(it.is_group())
        };
        (Reverse(it.meta.priority), Reverse(size), Reverse(it.is_clone() && it.meta.is_promotable))
    };
    key(a).cmp(&key(b)).then_with(|| world.rsc(a).id.cmp(&world.rsc(b).id))
}

/// Which side of its ties is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Ties in which it follows.
    Follows,
    /// Ties in which it leads.
    Leads,
}

impl Assigner<'_, '_> {
    /// The ties that count for a resource, those of what it is part of included.
    pub(super) fn ties_of(&self, rsc: RscIx, side: Side) -> Vec<u32> {
        let mut list = Vec::new();
        self.gather(rsc, rsc, side, &mut list);
        list
    }

    fn own(&self, rsc: RscIx, side: Side) -> &[u32] {
        match side {
            Side::Follows => &self.follows[rsc.0 as usize],
            Side::Leads => &self.leads[rsc.0 as usize],
        }
    }

    fn insert_tie(&self, list: &mut Vec<u32>, tie: u32, side: Side) {
        insert(&self.ties, self.world, list, tie, |tie| match side {
            Side::Follows => tie.primary,
            Side::Leads => tie.dependent,
        });
    }

    /// Of a list that comes to others, the first is taken once for each: whoever has ties of its own and is in
    /// something that has several feels only the first of those.
    fn merge(&self, list: &mut Vec<u32>, addition: &[u32], side: Side) {
        if list.is_empty() {
            list.extend_from_slice(addition);
        } else if let Some(first) = addition.first() {
            for _ in addition {
                self.insert_tie(list, *first, side);
            }
        }
    }

    fn gather(&self, here: RscIx, asker: RscIx, side: Side, list: &mut Vec<u32>) {
        let it = self.world.rsc(here);
        if it.is_primitive() {
            if here == asker {
                self.merge(list, self.own(here, side), side);
                if let Some(parent) = it.parent {
                    self.gather(parent, asker, side, list);
                }
            } else {
                for tie in self.own(here, side) {
                    if self.ties[*tie as usize].is_explicit {
                        self.insert_tie(list, *tie, side);
                    }
                }
            }
        } else if it.is_group() {
            let edge = match side {
                Side::Follows => it.children.first(),
                Side::Leads => it.children.last(),
            };
            if here == asker || edge == Some(&asker) {
                self.merge(list, self.own(here, side), side);
                if let Some(parent) = it.parent {
                    self.gather(parent, asker, side, list);
                }
                for member in it.children.iter().filter(|member| **member != asker) {
                    self.gather(*member, asker, side, list);
                }
            } else if side == Side::Follows {
                let earlier = it.children.iter().take_while(|member| **member != asker);
                if earlier.into_iter().any(|member| !self.world.rsc(*member).is_managed) {
                    for tie in self.own(here, side) {
                        if self.ties[*tie as usize].score.is_must() {
                            self.insert_tie(list, *tie, side);
                        }
                    }
                }
            }
        } else if it.is_clone() {
            self.merge(list, self.own(here, side), side);
            if let Some(bundle) = it.parent
                && here == asker
            {
                self.gather(bundle, asker, side, list);
            }
        } else {
            let is_container = it.replicas.iter().any(|replica| replica.container == asker);
            if here == asker || is_container {
                self.merge(list, self.own(here, side), side);
            }
        }
    }
}
