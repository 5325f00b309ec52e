//! Where is everything, before and after a plan? By number; names are looked up when somebody asks.
//!
//! A plan changes the places of few resources, and most that read a plan ask for few names: so nothing is spelt out
//! until it is printed.
//!
//! In: the actions that are carried out. Out: places by name. Not here: what else is said of a plan (`emit.rs`).

use std::collections::BTreeMap;

use model::situation::Role;

use super::Planner;
use super::emit::Place;
use super::graph::Task;
use crate::world::{NodeIx, ReplicaIx, RscIx, World};

/// Where everything is, and where it will be.
#[derive(Clone, Debug, Default)]
pub(super) struct Whereabouts {
    nodes: Names,
    entries: Names,
    listings: Vec<Listing>,
    now: Vec<Spot>,
    then: Vec<Spot>,
}

/// Who sees an entry?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// The operator, and whoever compares with the history.
    Everyone,
    /// Whoever compares with the history: implicit connections, what is in bundles.
    History,
    /// The operator: replicas of bundles.
    Operator,
}

/// One place of one entry, both by number.
#[derive(Clone, Copy, Debug)]
struct Spot {
    entry: u32,
    node: u32,
    role: Role,
}

/// Many names in one piece of memory.
#[derive(Clone, Debug, Default)]
struct Names {
    text: String,
    ends: Vec<usize>,
}

impl Names {
    fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }

    fn get(&self, at: u32) -> &str {
        let at = at as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[at]]
    }
}

impl Whereabouts {
    /// Where everything is, as an operator knows it.
    pub fn current(&self) -> BTreeMap<String, Vec<Place>> {
        self.for_operator(&self.now)
    }

    /// Where everything will be, as an operator knows it.
    pub fn placement(&self) -> BTreeMap<String, Vec<Place>> {
        self.for_operator(&self.then)
    }

    /// Where every primitive will be, by the name of its history; only what runs somewhere.
    pub fn running(&self) -> BTreeMap<String, Vec<Place>> {
        let mut found: BTreeMap<String, Vec<Place>> = BTreeMap::new();
        for spot in &self.then {
            if self.listings[spot.entry as usize] != Listing::Operator {
                found.entry(self.entries.get(spot.entry).to_owned()).or_default().push(self.place(spot));
            }
        }
        found
    }

    fn for_operator(&self, spots: &[Spot]) -> BTreeMap<String, Vec<Place>> {
        let listed = (0_u32..).zip(&self.listings).filter(|(_, listing)| **listing != Listing::History);
        let mut found: BTreeMap<String, Vec<Place>> =
            listed.map(|(entry, _)| (self.entries.get(entry).to_owned(), Vec::new())).collect();
        for spot in spots.iter().filter(|spot| self.listings[spot.entry as usize] != Listing::History) {
            if let Some(list) = found.get_mut(self.entries.get(spot.entry)) {
                list.push(self.place(spot));
            }
        }
        for list in found.values_mut() {
            list.sort();
            list.dedup();
        }
        found
    }

    fn place(&self, spot: &Spot) -> Place {
        Place { node: self.nodes.get(spot.node).to_owned(), role: spot.role }
    }
}

/// What runs where, as it is but for what changed.
pub(super) struct Running<'w, 'a> {
    world: &'w World<'a>,
    changed: BTreeMap<RscIx, Vec<(NodeIx, Role)>>,
}

impl<'w, 'a> Running<'w, 'a> {
    fn now(world: &'w World<'a>) -> Self {
        Running { world, changed: BTreeMap::new() }
    }

    /// The places of a primitive.
    pub fn of(&self, rsc: RscIx) -> impl Iterator<Item = (NodeIx, Role)> {
        let it = self.world.rsc(rsc);
        let changed = self.changed.get(&rsc);
        let kept = if changed.is_none() { it.active_on.as_slice() } else { &[] };
        kept.iter().map(|node| (*node, it.role)).chain(changed.into_iter().flatten().copied())
    }

    /// Does a primitive run anywhere?
    pub fn anywhere(&self, rsc: RscIx) -> bool {
        self.of(rsc).next().is_some()
    }

    fn change(&mut self, rsc: RscIx) -> &mut Vec<(NodeIx, Role)> {
        let it = self.world.rsc(rsc);
        self.changed.entry(rsc).or_insert_with(|| it.active_on.iter().map(|node| (*node, it.role)).collect())
    }

    fn set(&mut self, rsc: RscIx, node: NodeIx, role: Role) {
        let places = self.change(rsc);
        match places.iter_mut().find(|(place, _)| *place == node) {
            Some(known) => known.1 = role,
            None => places.push((node, role)),
        }
    }
}

impl<'w, 'a> Planner<'w, 'a> {
    /// What runs where once the plan is carried out.
    pub(super) fn running_then(&self, shown: &[bool]) -> Running<'w, 'a> {
        let world = self.world;
        let mut running = Running::now(world);
        // What goes down does so before anything comes up.
        let mut ups: [Vec<(RscIx, NodeIx)>; 2] = Default::default();
        let mut stops: Vec<(RscIx, NodeIx)> = Vec::new();
        let mut fenced: Vec<NodeIx> = Vec::new();
        for (action, _) in self.graph.actions.iter().zip(shown).filter(|(_, is_shown)| **is_shown) {
            let Some(node) = action.node else { continue };
            if action.task == Task::Fence {
                fenced.push(node);
            }
            let Some(rsc) = action.rsc.filter(|rsc| world.rsc(*rsc).is_primitive()) else { continue };
            match action.task {
                Task::Demote => {
                    if let Some((_, role)) = running.change(rsc).iter_mut().find(|(place, _)| *place == node) {
                        *role = Role::Unpromoted;
                    }
                }
                Task::Stop => stops.push((rsc, node)),
                Task::Start | Task::MigrateFrom => ups[0].push((rsc, node)),
                Task::Promote => ups[1].push((rsc, node)),
                _ => {}
            }
        }
        for (rsc, node) in stops {
            running.change(rsc).retain(|(place, _)| *place != node);
        }
        for node in fenced.into_iter().filter(|node| !world.node(*node).is_guest()) {
            let is_there = |rsc: &RscIx| world.rsc(*rsc).is_primitive() && world.rsc(*rsc).active_on.contains(&node);
            for rsc in world.rsc_ixs().filter(is_there) {
                running.change(rsc).retain(|(place, _)| *place != node);
            }
        }
        for (rsc, node) in &ups[0] {
            let is_promotable = world.clone_of(*rsc).is_some_and(|clone| world.rsc(clone).meta.is_promotable);
            running.set(*rsc, *node, if is_promotable { Role::Unpromoted } else { Role::Started });
        }
        for (rsc, node) in &ups[1] {
            running.set(*rsc, *node, Role::Promoted);
        }
        running
    }

    pub(super) fn whereabouts(&self, then: &Running<'w, 'a>) -> Whereabouts {
        let world = self.world;
        let now = Running::now(world);
        let mut all = Whereabouts::default();
        for node in &world.nodes {
            all.nodes.push(node.name);
        }
        for rsc in world.rsc_ixs().filter(|rsc| world.rsc(*rsc).is_primitive()) {
            let is_implicit = world.rsc(rsc).connects.is_some_and(|node| world.node(node).is_guest());
            let is_hidden = is_implicit || self.outer_bundle(rsc).is_some();
            let entry = all.listings.len() as u32;
            all.entries.push(self.name(rsc));
            all.listings.push(if is_hidden { Listing::History } else { Listing::Everyone });
            let spot = |(node, role): (NodeIx, Role)| Spot { entry, node: node.0, role };
            all.now.extend(now.of(rsc).map(spot));
            all.then.extend(then.of(rsc).map(spot));
        }
        for bundle in world.rsc_ixs().filter(|rsc| world.rsc(*rsc).is_bundle()) {
            for (number, replica) in world.rsc(bundle).replicas.iter().enumerate() {
                let entry = all.listings.len() as u32;
                all.entries.push(&format!("{}-{number}", world.rsc(bundle).id));
                all.listings.push(Listing::Operator);
                let spot = |(node, role): (NodeIx, Role)| Spot { entry, node: node.0, role };
                all.now.extend(self.places_of_replica(replica, &now).map(spot));
                all.then.extend(self.places_of_replica(replica, then).map(spot));
            }
        }
        all
    }

    /// A replica is where its container is, as what runs inside is.
    fn places_of_replica(
        &self,
        replica: &ReplicaIx,
        running: &Running<'w, 'a>,
    ) -> impl Iterator<Item = (NodeIx, Role)> + use<'w, 'a> {
        let inner = replica.inside.map(|inside| self.world.primitives(inside)).unwrap_or_default();
        let is_empty = replica.inside.is_none();
        let otherwise = if is_empty { Role::Started } else { Role::Stopped };
        let role = inner.iter().flat_map(|rsc| running.of(*rsc)).map(|(_, role)| role).max().unwrap_or(otherwise);
        let hosts: Vec<NodeIx> = running.of(replica.container).map(|(node, _)| node).collect();
        hosts.into_iter().filter(move |_| role > Role::Stopped || is_empty).map(move |node| (node, role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_in_a_bundle_is_listed_by_its_replica() {
        let mut all = Whereabouts::default();
        all.nodes.push("a");
        all.nodes.push("b");
        for (name, listing) in
            [("db", Listing::Everyone), ("inside", Listing::History), ("bundle-0", Listing::Operator)]
        {
            all.entries.push(name);
            all.listings.push(listing);
        }
        for (entry, node) in [(0, 1), (0, 0), (1, 0), (2, 0)] {
            all.then.push(Spot { entry, node, role: Role::Started });
        }
        let names = |places: &BTreeMap<String, Vec<Place>>| {
            let one = |(name, places): (&String, &Vec<Place>)| {
                let nodes: Vec<&str> = places.iter().map(|place| place.node.as_str()).collect();
                format!("{name}: {}", nodes.join(" "))
            };
            places.iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(names(&all.placement()), ["bundle-0: a", "db: a b"]);
        assert_eq!(names(&all.current()), ["bundle-0: ", "db: "]);
        assert_eq!(names(&all.running()), ["db: b a", "inside: a"]);
    }
}
