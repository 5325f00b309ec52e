//! How does a tie change where something goes? A primary that has its place decides for its dependents; dependents that
//! have none yet say where they would like to see the primary.

use std::collections::BTreeMap;

use model::situation::{Role, Score};

use super::colocation::{NODE, Side, Tie};
use super::primitive::sorted;
use super::table::{Source, Table};
use super::{Assigner, Decider};
use crate::world::{NodeIx, RscIx};

/// How wishes are taken.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// Through ties in which the asked follow instead of lead.
    pub follows: bool,
    /// Wishes never make a good node a bad one.
    pub only_positive: bool,
    /// What leaves no node is dropped.
    pub keeps_usable: bool,
}

/// Scores with wishes, under way.
struct Wishes {
    table: Table,
    /// Nodes that a wish would have made bad.
    spoilt: Vec<bool>,
}

/// A part of a score, rounded half away from zero; never nothing of something.
///
/// Single precision, as the compared placements do.
fn part_of(score: Score, factor: f32) -> Score {
    let exact = factor * score.value() as f32;
    let rounded = (if exact < 0.0 { exact - 0.5 } else { exact + 0.5 }) as i64;
    if rounded == 0 && score != Score::ZERO {
        return Score::of(if factor > 0.0 {
            1
        } else if factor < 0.0 {
            -1
        } else {
            0
        });
    }
    Score::of(rounded)
}

/// The share that a tie of this score passes on.
pub(super) fn factor_of(score: Score) -> f32 {
    score.value() as f32 / Score::MUST.value() as f32
}

impl Assigner<'_, '_> {
    /// What an attribute is on a node.
    fn value(&self, node: NodeIx, attribute: &str) -> Option<String> {
        let there = self.world.node(node);
        match attribute {
            NODE => Some(there.name.to_ascii_lowercase()),
            "#id" => Some(there.facts.id.to_ascii_lowercase()),
            _ => there.facts.attributes.get(attribute).map(|value| value.to_ascii_lowercase()),
        }
    }

    fn is_same_place(&self, a: NodeIx, b: NodeIx, attribute: &str) -> bool {
        if attribute == NODE { a == b } else { self.value(a, attribute) == self.value(b, attribute) }
    }

    /// What a role is judged by: of a container what is inside it.
    fn role_bearer(&self, rsc: RscIx) -> RscIx {
        let it = self.world.rsc(rsc);
        let Some((bundle, number)) = it.replica else { return rsc };
        let replica = self.world.rsc(bundle).replicas[number as usize];
        if replica.container == rsc { replica.inside.unwrap_or(rsc) } else { rsc }
    }

    /// May the dependent of a tie pull its primary?
    pub(super) fn has_influence(&self, tie: &Tie) -> bool {
        let primary = self.world.rsc(tie.primary);
        let dependent = self.world.rsc(tie.dependent);
        let is_bundle_connection = dependent.connects.is_some() && dependent.replica.is_some();
        if is_bundle_connection && !primary.is_failed && primary.active_on.len() == 1 {
            // To move a connection is nothing, to move its container interrupts the service.
            return false;
        }
        tie.has_influence || self.is_inactive(tie.primary)
    }

    fn is_inactive(&self, rsc: RscIx) -> bool {
        self.world.rsc(rsc).active_on.is_empty()
    }

    /// Places the primary of a tie, and lets it say where `rsc` goes.
    pub(super) fn follow(&mut self, tie_at: u32, rsc: RscIx) {
        let tie = self.ties[tie_at as usize].clone();
        let may_be_undone = tie.dependent_role.is_some_and(|role| role >= Role::Promoted)
            || (tie.score < Score::ZERO && !tie.score.is_must_not());
        let before = may_be_undone.then(|| self.tables[rsc.0 as usize].clone());
        if !self.is_assigned[tie.primary.0 as usize] {
            self.assign(tie.primary, None);
        }
        self.obey(rsc, tie.primary, &tie);
        if let Some(before) = before
            && !self.any_usable(&self.tables[rsc.0 as usize])
        {
            self.tables[rsc.0 as usize] = before;
        }
    }

    /// Applies a tie to `dependent`, whose primary is `primary` or what that is part of.
    pub(super) fn obey(&mut self, dependent: RscIx, primary: RscIx, tie: &Tie) {
        let world = self.world;
        let it = world.rsc(primary);
        if it.is_primitive() {
            self.obey_primitive(dependent, primary, tie);
        } else if it.is_group() {
            if it.meta.is_collocated {
                let decisive = if tie.score.is_must() { it.children.last() } else { it.children.first() };
                if let Some(member) = decisive {
                    self.obey(dependent, *member, tie);
                }
            } else if !tie.score.is_must() {
                for member in &it.children {
                    self.obey(dependent, *member, tie);
                }
            }
        } else if it.is_clone() {
            self.obey_clone(dependent, primary, tie);
        } else {
            self.obey_bundle(dependent, primary, tie);
        }
    }

    fn obey_primitive(&mut self, dependent: RscIx, primary: RscIx, tie: &Tie) {
        if !self.is_assigned[primary.0 as usize] {
            return;
        }
        let dependent_bearer = self.role_bearer(dependent);
        let primary_bearer = self.role_bearer(primary);
        let is_promotable =
            self.world.clone_of(dependent_bearer).is_some_and(|clone| self.world.rsc(clone).meta.is_promotable);
        let concerns_role = tie.dependent_role.is_some_and(|role| role >= Role::Unpromoted);
        if concerns_role && is_promotable && self.is_assigned[dependent_bearer.0 as usize] {
            self.obey_in_role(dependent, primary, primary_bearer, tie);
            return;
        }
        if self.is_assigned[dependent.0 as usize] {
            return;
        }
        let fits = |role: Option<Role>, goal: Role| role.is_none_or(|role| role == goal);
        if !fits(tie.dependent_role, self.goal_of(dependent_bearer))
            || !fits(tie.primary_role, self.goal_of(primary_bearer))
        {
            return;
        }
        let place = self.node[primary.0 as usize];
        if place.is_none() && tie.score < Score::ZERO {
            return;
        }
        let mut table = self.tables[dependent.0 as usize].clone();
        for node in self.world.node_ixs() {
            match place {
                None => table.add(node, -tie.score, Source::FollowsNothing(tie.at)),
                Some(place) if self.is_same_place(node, place, &tie.attribute) => {
                    if !tie.score.is_must() {
                        table.add(node, tie.score, Source::Follows(tie.at));
                    }
                }
                Some(_) if tie.score.is_must() => table.rule_out(node, Source::Follows(tie.at)),
                Some(_) => {}
            }
        }
        if tie.score.is_mandatory() || self.any_usable(&table) {
            self.tables[dependent.0 as usize] = table;
        }
    }

    /// A tie by role changes who leads, once instances have their places.
    fn obey_in_role(&mut self, dependent: RscIx, primary: RscIx, primary_bearer: RscIx, tie: &Tie) {
        let Some(here) = self.host_of(dependent) else { return };
        let there = self.host_of(primary);
        if !there.is_some_and(|there| self.is_same_place(here, there, &tie.attribute)) {
            if tie.score.is_must() && tie.dependent_role == Some(Role::Promoted) {
                self.priority.add(dependent, Score::MUST_NOT, Source::Follows(tie.at));
            }
            return;
        }
        if tie.primary_role.is_some_and(|role| role != self.goal_of(primary_bearer)) {
            return;
        }
        let score = if tie.dependent_role == Some(Role::Unpromoted) { -tie.score } else { tie.score };
        self.priority.add(dependent, score, Source::Follows(tie.at));
    }

    fn obey_clone(&mut self, dependent: RscIx, clone: RscIx, tie: &Tie) {
        let world = self.world;
        if !self.is_assigned[clone.0 as usize] {
            return;
        }
        let it = world.rsc(clone);
        if let Some(role) = tie.primary_role
            && it.meta.is_promotable
        {
            self.obey_promotable(dependent, clone, role, tie);
            return;
        }
        let instances = it.children.clone();
        if self.is_interleaved(tie) {
            match self.instance_beside(dependent, &instances, None) {
                Some(instance) => self.obey(dependent, instance, tie),
                None if tie.score.is_must() => self.leave_out(dependent),
                None => {}
            }
            return;
        }
        if tie.score.is_must() {
            let places: Vec<NodeIx> = instances
                .iter()
                .filter(|instance| !world.primitives(**instance).iter().any(|rsc| world.rsc(*rsc).is_blocked))
                .filter_map(|instance| self.node_of(*instance))
                .collect();
            self.keep_to(dependent, &places, tie);
            return;
        }
        for instance in instances {
            self.obey(dependent, instance, tie);
        }
    }

    fn keep_to(&mut self, dependent: RscIx, places: &[NodeIx], tie: &Tie) {
        for node in self.world.node_ixs() {
            if !places.iter().any(|place| self.is_same_place(node, *place, &tie.attribute)) {
                self.tables[dependent.0 as usize].rule_out(node, Source::Follows(tie.at));
            }
        }
    }

    /// Nothing can be done for it: it gets no place.
    pub(super) fn leave_out(&mut self, rsc: RscIx) {
        for primitive in self.world.primitives(rsc) {
            self.settle_on(primitive, None, true, Decider::LacksPartner);
        }
        self.is_assigned[rsc.0 as usize] = true;
        self.node[rsc.0 as usize] = None;
    }

    fn obey_promotable(&mut self, dependent: RscIx, clone: RscIx, role: Role, tie: &Tie) {
        let bearer = self.role_bearer(dependent);
        if self.is_assigned[bearer.0 as usize] && tie.dependent_role.is_some() {
            self.obey_promotable_in_role(dependent, clone, role, tie);
            return;
        }
        if tie.dependent_role == Some(Role::Promoted) && role == Role::Promoted {
            return;
        }
        let instances: Vec<(NodeIx, RscIx)> = self
            .world
            .rsc(clone)
            .children
            .iter()
            .filter(|instance| self.goal_of(**instance) == role)
            .filter_map(|instance| Some((self.node_of(*instance)?, *instance)))
            .collect();
        if tie.score.is_must() {
            for node in self.world.node_ixs() {
                let there = instances.iter().find(|(place, _)| self.is_same_place(node, *place, &tie.attribute));
                let score = match there {
                    Some((place, instance)) => self.score_when_assigned(*instance, *place),
                    None => Score::MUST_NOT,
                };
                self.tables[dependent.0 as usize].add(node, score, Source::Follows(tie.at));
            }
        } else {
            let mut table = self.tables[dependent.0 as usize].clone();
            for node in self.world.node_ixs() {
                for (place, _) in &instances {
                    if self.is_same_place(node, *place, &tie.attribute) {
                        table.add(node, tie.score, Source::Follows(tie.at));
                    }
                }
            }
            if tie.score.is_mandatory() || self.any_usable(&table) {
                self.tables[dependent.0 as usize] = table;
            }
        }
    }

    fn obey_promotable_in_role(&mut self, dependent: RscIx, clone: RscIx, role: Role, tie: &Tie) {
        let Some(here) = self.host_of(dependent) else { return };
        let instance = self.world.rsc(clone).children.iter().copied().find(|instance| {
            self.goal_of(*instance) == role
                && self.node_of(*instance).is_some_and(|there| self.is_same_place(here, there, &tie.attribute))
        });
        let score = if tie.dependent_role == Some(Role::Unpromoted) { -tie.score } else { tie.score };
        if instance.is_some() {
            self.priority.add(dependent, score, Source::Follows(tie.at));
        } else if tie.score.is_must() {
            self.priority.add(dependent, Score::MUST_NOT, Source::Follows(tie.at));
        }
    }

    /// What an instance had on the node that it got.
    fn score_when_assigned(&self, instance: RscIx, node: NodeIx) -> Score {
        self.score(instance, node).unwrap_or_default()
    }

    /// Do the instances of both sides of a tie pair up?
    fn is_interleaved(&self, tie: &Tie) -> bool {
        let world = self.world;
        let (dependent, primary) = (world.rsc(tie.dependent), world.rsc(tie.primary));
        let per_node = |rsc: RscIx| {
            let it = world.rsc(rsc);
            match it.shape {
                crate::world::Shape::Bundle(bundle) => bundle.per_host_max,
                _ => it.meta.clone_node_max,
            }
        };
        (dependent.is_clone() || dependent.is_bundle())
            && (primary.is_clone() || primary.is_bundle())
            && (dependent.meta.is_interleaved || dependent.is_bundle())
            && per_node(tie.dependent) == per_node(tie.primary)
    }

    /// Where it is; of what runs in a bundle, where its container is.
    pub(super) fn host_of(&self, rsc: RscIx) -> Option<NodeIx> {
        let node = self.node_of(rsc)?;
        let there = self.world.node(node);
        match there.container() {
            Some(container) if there.is_bundle() => self.node_of(container),
            Some(_) | None => Some(node),
        }
    }

    /// The instance on the node where the dependent is, or may be.
    fn instance_beside(&self, dependent: RscIx, instances: &[RscIx], role: Option<Role>) -> Option<RscIx> {
        let on = |node: NodeIx| {
            instances.iter().copied().find(|instance| {
                self.node_of(*instance) == Some(node) && role.is_none_or(|role| self.goal_of(*instance) == role)
            })
        };
        if let Some(node) = self.host_of(dependent) {
            return on(node);
        }
        self.candidates(dependent).into_iter().find_map(on)
    }

    fn obey_bundle(&mut self, dependent: RscIx, bundle: RscIx, tie: &Tie) {
        let world = self.world;
        if !self.is_assigned[bundle.0 as usize] {
            return;
        }
        let replicas = world.rsc(bundle).replicas.clone();
        if self.is_interleaved(tie) {
            let containers: Vec<RscIx> = replicas.iter().map(|replica| replica.container).collect();
            match self.instance_beside(dependent, &containers, None) {
                Some(container) => self.obey(dependent, container, tie),
                None if tie.score.is_must() => self.leave_out(dependent),
                None => {}
            }
            return;
        }
        if tie.score.is_must() {
            let counts = |replica: &crate::world::ReplicaIx| match tie.primary_role {
                Some(role) if role >= Role::Promoted => {
                    replica.inside.is_some_and(|inside| self.goal_of(inside) >= Role::Promoted)
                }
                _ => true,
            };
            let places: Vec<NodeIx> = replicas
                .iter()
                .filter(|replica| counts(replica) && !world.rsc(replica.container).is_blocked)
                .filter_map(|replica| self.node_of(replica.container))
                .collect();
            self.keep_to(dependent, &places, tie);
            return;
        }
        for replica in replicas {
            self.obey(dependent, replica.container, tie);
        }
    }

    /// Lets everything that follows `primary` through this tie say where it would like to see it.
    pub(super) fn hear_wishes(&mut self, tie_at: u32, primary: RscIx) {
        let tie = &self.ties[tie_at as usize];
        if !self.has_influence(tie) {
            return;
        }
        let (dependent, share) = (tie.dependent, factor_of(tie.score));
        let only_positive = self.world.rsc(primary).is_clone();
        let manner = Manner { follows: false, only_positive, keeps_usable: true };
        let table = self.tables[primary.0 as usize].clone();
        let wished = self.wishes(dependent, primary, Some(table), Some(tie_at), share, manner);
        self.tables[primary.0 as usize] = wished;
    }

    /// `table` with what `source`, and what is tied to it, would like.
    pub(super) fn wishes(
        &mut self,
        source: RscIx,
        target: RscIx,
        table: Option<Table>,
        tie: Option<u32>,
        factor: f32,
        manner: Manner,
    ) -> Table {
        let mut wishes = Wishes {
            spoilt: vec![false; self.world.nodes.len()],
            table: table.unwrap_or_else(|| self.tables[source.0 as usize].clone()),
        };
        let is_first = tie.is_none();
        self.add_wishes(&mut wishes, source, target, tie, factor, manner, is_first);
        for (node, is_spoilt) in (0_u32..).map(NodeIx).zip(&wishes.spoilt) {
            if *is_spoilt {
                wishes.table.limit(node, Score::of(1), Source::WishLimit);
            }
        }
        wishes.table
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one walk through the ties")]
    fn add_wishes(
        &mut self,
        wishes: &mut Wishes,
        source: RscIx,
        target: RscIx,
        tie: Option<u32>,
        factor: f32,
        manner: Manner,
        is_start: bool,
    ) {
        let world = self.world;
        let at = source.0 as usize;
        if self.is_merging[at] {
            return;
        }
        self.is_merging[at] = true;
        let before = manner.keeps_usable.then(|| (wishes.table.clone(), wishes.spoilt.clone()));
        let it = world.rsc(source);
        if it.is_group() {
            if let Some(member) = it.children.first() {
                self.add_wishes(wishes, *member, target, tie, factor, manner, is_start);
            }
        } else if !is_start {
            self.add_own_wishes(wishes, source, target, tie, factor, manner);
        }
        if self.any_usable(&wishes.table) {
            let side = if manner.follows { Side::Follows } else { Side::Leads };
            for next_at in self.ties_of(source, side) {
                let next = &self.ties[next_at as usize];
                let other = if manner.follows { next.primary } else { next.dependent };
                if !manner.follows && !self.has_influence(next) {
                    continue;
                }
                let share = factor * factor_of(next.score);
                let manner = Manner { keeps_usable: true, ..manner };
                self.add_wishes(wishes, other, target, Some(next_at), share, manner, false);
            }
        } else if let Some(before) = before {
            (wishes.table, wishes.spoilt) = before;
        }
        self.is_merging[at] = false;
    }

    fn add_own_wishes(
        &self,
        wishes: &mut Wishes,
        source: RscIx,
        target: RscIx,
        tie: Option<u32>,
        factor: f32,
        manner: Manner,
    ) {
        let source_of_wish = tie.map_or(Source::Base, |tie| Source::Wish(source, tie));
        let tie = tie.map(|tie| &self.ties[tie as usize]);
        let attribute = tie.map_or(NODE, |tie| &*tie.attribute);
        let extra = self.group_scores_behind(source, tie);
        for node in self.world.node_ixs() {
            let Some(score) = wishes.table[node.0 as usize] else { continue };
            // Those who go with something in a container look at where the container is.
            let place = match self.world.node(node).container() {
                Some(container) if self.world.node(node).is_bundle() && self.world.is_bundled(target) => {
                    self.node_of(container)
                }
                Some(_) | None => Some(node),
            };
            let wish = place.map_or(Score::MUST_NOT, |place| self.best_score(source, place, attribute, extra));
            if factor < 0.0 && wish < Score::ZERO {
                // What it avoids does not draw those that avoid it, unless it can go nowhere else.
                let stickiness = self.world.rsc(target).meta.stickiness;
                let part = part_of(wish, factor);
                let is_worth_it = tie.is_some_and(|tie| self.has_influence(tie))
                    && self.is_allowed_on_one(source)
                    && stickiness < part;
                if !is_worth_it {
                    continue;
                }
            }
            if wishes.spoilt[node.0 as usize] {
                continue;
            }
            let part = part_of(wish, factor);
            let new = score + part;
            if manner.only_positive && new < Score::ZERO {
                if score > Score::ZERO {
                    wishes.spoilt[node.0 as usize] = true;
                    continue;
                }
                if score == Score::ZERO {
                    continue;
                }
            }
            wishes.table.add(node, part, source_of_wish);
        }
    }

    /// The best score that it has on any usable node of the same place.
    fn best_score(&self, rsc: RscIx, place: NodeIx, attribute: &str, extra: Option<&BTreeMap<NodeIx, Score>>) -> Score {
        let score_on = |node: NodeIx| {
            let score = self.score(rsc, node).filter(|_| self.is_usable(node))?;
            Some(extra.and_then(|extra| extra.get(&node)).map_or(score, |extra| score + *extra))
        };
        let best = if attribute == NODE {
            score_on(place)
        } else {
            self.world.node_ixs().filter(|node| self.is_same_place(*node, place, attribute)).filter_map(score_on).max()
        };
        best.unwrap_or(Score::MUST_NOT)
    }

    /// A member that is tied alone speaks for its group: what locations say about that.
    fn group_scores_behind(&self, rsc: RscIx, tie: Option<&Tie>) -> Option<&BTreeMap<NodeIx, Score>> {
        let group = self.world.rsc(rsc).parent.filter(|group| self.world.rsc(*group).is_group())?;
        let is_alone = tie.is_some_and(|tie| tie.is_explicit && tie.dependent == rsc)
            && self.world.rsc(group).children.first() != Some(&rsc);
        is_alone.then(|| &self.group_scores[group.0 as usize])
    }

    fn is_allowed_on_one(&self, rsc: RscIx) -> bool {
        self.tables[rsc.0 as usize].iter().flatten().filter(|score| self.allows(**score)).count() == 1
    }

    /// Who speaks for a resource that asks what it follows: of a group its last member, which the others lead.
    fn last_of(&self, rsc: RscIx) -> RscIx {
        let it = self.world.rsc(rsc);
        if it.is_group() { it.children.last().copied().unwrap_or(rsc) } else { rsc }
    }

    /// Sorts resources whose places compete for capacity: who is wanted most goes first.
    pub(super) fn sort_by_wishes(&mut self, tops: &mut [RscIx]) {
        let manner = Manner { follows: true, only_positive: false, keeps_usable: false };
        let mut keyed: Vec<(RscIx, Table)> =
            tops.iter().map(|top| (*top, self.wishes(self.last_of(*top), *top, None, None, 1.0, manner))).collect();
        let nodes = sorted(self.world.node_ixs().collect(), &|a, b| self.compare_nodes(None, a, b, None));
        let world = self.world;
        let order = |a: &(RscIx, Table), b: &(RscIx, Table)| {
            let (a_rsc, b_rsc) = (world.rsc(a.0), world.rsc(b.0));
            let by_priority = b_rsc.meta.priority.cmp(&a_rsc.meta.priority);
            if by_priority.is_ne() {
                return by_priority;
            }
            let on = |table: &Table, node: Option<&NodeIx>| {
                node.map_or(Score::MUST_NOT, |node| table[node.0 as usize].unwrap_or(Score::MUST_NOT))
            };
            let here = |rsc: &(RscIx, Table)| on(&rsc.1, world.current_node(rsc.0).as_ref());
            let by_current = here(b).cmp(&here(a));
            if by_current.is_ne() {
                return by_current;
            }
            nodes
                .iter()
                .map(|node| on(&b.1, Some(node)).cmp(&on(&a.1, Some(node))))
                .find(|by| by.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        };
        keyed.sort_by(order);
        for (place, (top, _)) in tops.iter_mut().zip(keyed) {
            *place = top;
        }
    }
}
