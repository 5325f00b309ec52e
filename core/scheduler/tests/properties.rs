//! What holds in every cluster, whatever is in it? Random ones, the same in every run.

mod common;

use std::collections::BTreeMap;

use model::ClusterConfig;
use model::situation::{Colocation, Location, NodeKind, Resource, ResourceKind, Role, Score, Situation};
use model::{NodeName, ResourceName};
use scheduler::reasons::{Decider, Weighing};
use scheduler::{Ask, Judgement, Supposition, carried_out, judge, judge_telling, situation_of, suppose};

use common::Dice;

/// A cluster file of a few nodes, with resources, groups, preferences and orders that do not contradict each other.
fn file(dice: &mut Dice) -> ClusterConfig {
    let nodes = 3 + dice.below(3);
    let mut text = "cluster = \"shop\"\n[fence.power]\nagent = \"fence_lab\"\n".to_owned();
    for node in 1..=nodes {
        text += &format!("[nodes.n{node}]\nlinks = [\"10.0.0.{node}\", \"10.1.0.{node}\"]\nfence = [\"power\"]\n");
    }
    let resources = 1 + dice.below(8);
    let mut grouped = vec![false; resources];
    let mut groups = String::new();
    if resources > 3 && dice.is(2) {
        grouped[0] = true;
        grouped[1] = true;
        groups = format!("[groups.g]\nmembers = [\"r0\", \"r1\"]\nprefer = [\"n{}\"]\n", 1 + dice.below(nodes));
    }
    for (resource, in_group) in grouped.iter().enumerate() {
        text += &format!("[resources.r{resource}]\nagent = \"cardea:process\"\ncommand = [\"sleep\", \"1\"]\n");
        if *in_group {
            continue;
        }
        if dice.is(2) {
            text += &format!("prefer = [\"n{}\"]\n", 1 + dice.below(nodes));
        }
        if dice.is(3) {
            text += &format!("priority = {}\n", dice.below(5));
        }
        let earlier = dice.below(resource.max(1));
        if resource > 2 && dice.is(3) && !grouped[earlier] {
            text += &format!("after = [\"r{earlier}\"]\n");
        }
    }
    text += &groups;
    config::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}")).config
}

/// The same with copies, ties and bans, which a cluster file has no words for yet.
fn cluster(dice: &mut Dice) -> Situation {
    let mut situation = situation_of(&file(dice));
    let names: Vec<ResourceName> = situation.resources.iter().map(|resource| resource.name.clone()).collect();
    for resource in &mut situation.resources {
        if matches!(resource.kind, ResourceKind::Primitive(_)) && dice.is(4) {
            let mut meta = resource.meta.clone();
            meta.stickiness = Score::of(1);
            let name = ResourceName(format!("{}-all", resource.name));
            let inner = resource.clone();
            *resource = Resource { name, meta, kind: ResourceKind::Clone(Box::new(inner)) };
        }
    }
    for (at, dependent) in names.iter().enumerate() {
        if at > 0 && dice.is(4) {
            situation.colocations.push(Colocation {
                id: format!("c{at}"),
                dependent: dependent.clone(),
                dependent_role: None,
                primary: names[dice.below(at)].clone(),
                primary_role: None,
                score: [Score::MUST, Score::MUST_NOT, Score::of(50), Score::of(-50)][dice.below(4)],
                attribute: "#uname".to_owned(),
                influence: None,
            });
        }
        if dice.is(5) {
            let node = situation.nodes[dice.below(situation.nodes.len())].name.clone();
            situation.locations.push(Location {
                id: format!("l{at}"),
                resource: dependent.clone(),
                scores: vec![(node, Score::MUST_NOT)],
                role: None,
                discovery: model::situation::Discovery::Always,
                why: None,
            });
        }
    }
    situation
}

/// Something that happens to a cluster.
fn event(dice: &mut Dice, situation: &Situation, judgement: &Judgement) -> Option<Supposition> {
    let node = || situation.nodes.iter().filter(|node| node.kind == NodeKind::Member).map(|node| node.name.clone());
    match dice.below(3) {
        0 => node().nth(dice.below(situation.nodes.len())).map(Supposition::NodeLost),
        1 => node().nth(dice.below(situation.nodes.len())).map(Supposition::Standby),
        _ => {
            let placement = judgement.placement();
            let running: Vec<&String> =
                placement.iter().filter(|(_, places)| !places.is_empty()).map(|(name, _)| name).collect();
            (!running.is_empty())
                .then(|| Supposition::ResourceFailed(ResourceName(running[dice.below(running.len())].clone())))
        }
    }
}

fn nodes_of(judgement: &Judgement, resource: &str) -> Vec<String> {
    judgement.placement().get(resource).into_iter().flatten().map(|place| place.node.clone()).collect()
}

/// Actions that change what runs.
fn changes(judgement: &Judgement) -> Vec<String> {
    let is_change = |action: &str| !matches!(action, "monitor" | "cancel" | "probe" | "clear_failcount" | "notify");
    judgement
        .actions
        .iter()
        .filter(|done| is_change(done.action))
        .map(|done| format!("{} {} on {}", done.action, done.resource.clone().unwrap_or_default(), done.node))
        .collect()
}

fn primitives(resource: &Resource) -> Vec<&Resource> {
    match &resource.kind {
        ResourceKind::Primitive(_) => vec![resource],
        ResourceKind::Group(members) => members.iter().flat_map(primitives).collect(),
        ResourceKind::Clone(inner) => primitives(inner),
        ResourceKind::Bundle(_) => Vec::new(),
    }
}

/// No resource is where it must not be, and what must be together is.
fn hard_constraints_hold(situation: &Situation, judgement: &Judgement) {
    let unusable = |node: &str| {
        situation.nodes.iter().any(|facts| {
            facts.name.as_str() == node
                && (facts.is_standby || facts.seen.as_ref().is_none_or(|seen| seen.is_member != Some(true)))
        })
    };
    for resource in situation.resources.iter().flat_map(primitives) {
        for node in nodes_of(judgement, resource.name.as_str()) {
            assert!(!unusable(&node), "{} is on {node}, which runs nothing", resource.name);
        }
    }
    let in_tree = |name: &ResourceName| -> Vec<&Resource> {
        let tree = situation
            .resources
            .iter()
            .find(|resource| resource.name == *name || primitives(resource).iter().any(|inner| inner.name == *name));
        tree.map(primitives).unwrap_or_default()
    };
    for location in &situation.locations {
        for (node, score) in &location.scores {
            for resource in in_tree(&location.resource) {
                let is_there = nodes_of(judgement, resource.name.as_str()).contains(&node.0);
                assert!(!(score.is_must_not() && is_there), "{} must not be on {node}", resource.name);
            }
        }
    }
    for tie in situation.colocations.iter().filter(|tie| tie.score.is_mandatory()) {
        let at = |name: &ResourceName| -> Vec<String> {
            in_tree(name).first().map(|first| nodes_of(judgement, first.name.as_str())).unwrap_or_default()
        };
        let (dependent, primary) = (at(&tie.dependent), at(&tie.primary));
        let is_clone = |name: &ResourceName| {
            situation.resources.iter().any(|resource| {
                matches!(resource.kind, ResourceKind::Clone(_))
                    && (resource.name == *name || primitives(resource).iter().any(|inner| inner.name == *name))
            })
        };
        for node in &dependent {
            if tie.score.is_must() {
                assert!(
                    primary.contains(node),
                    "{}: {} is on {node}, {} on {primary:?}",
                    tie.id,
                    tie.dependent,
                    tie.primary
                );
            } else if !is_clone(&tie.primary) && !is_clone(&tie.dependent) {
                assert!(
                    !primary.contains(node),
                    "{}: {} and {} are both on {node}",
                    tie.id,
                    tie.dependent,
                    tie.primary
                );
            }
        }
    }
}

#[test]
fn a_plan_that_is_carried_out_leaves_nothing_to_do() {
    for seed in 1..400 {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ (seed << 17) ^ seed);
        let mut situation = cluster(&mut dice);
        for round in 0..3 {
            let judgement = judge(&situation);
            hard_constraints_hold(&situation, &judgement);
            let then = carried_out(&situation, &judgement);
            let again = judge(&then);
            assert_eq!(
                changes(&again),
                Vec::<String>::new(),
                "seed {seed}, round {round}: {:#?}",
                judgement.placement()
            );
            assert_eq!(again.placement(), judgement.placement(), "seed {seed}, round {round}");
            let Some(event) = event(&mut dice, &then, &again) else { break };
            situation = then;
            suppose(&mut situation, &event).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }
}

/// Every score is the sum of what is told of it, and the node that was chosen has the best.
fn is_accounted_for(weighing: &Weighing) {
    for row in &weighing.nodes {
        let sum = row.contributions.iter().fold(Score::ZERO, |sum, one| sum + one.score);
        assert_eq!(sum, row.score, "{} on {}: {:?}", weighing.resource, row.node, row.contributions);
    }
    if let Some(chosen) = weighing.nodes.iter().find(|row| Some(&row.node) == weighing.node.as_ref())
        && weighing.decided_by != Decider::Unmanaged
    {
        let best = weighing.nodes.iter().map(|row| row.score).max();
        assert_eq!(Some(chosen.score), best, "{} goes to {}", weighing.resource, chosen.node);
    }
}

#[test]
fn contributions_add_up_to_the_scores_that_decide_and_asking_changes_nothing() {
    let mut weighed = 0;
    for seed in 1..400 {
        let mut dice = Dice(0xA5A5_5A5A_0F0F_F0F0 ^ (seed << 15) ^ seed);
        let mut situation = cluster(&mut dice);
        for _ in 0..3 {
            let (judgement, reasons) = judge_telling(&situation, &Ask::All);
            let unasked = judge(&situation);
            assert_eq!(judgement.placement(), unasked.placement(), "seed {seed}");
            assert_eq!((&judgement.actions, &judgement.order), (&unasked.actions, &unasked.order), "seed {seed}");
            for (id, weighing) in &reasons.weighings {
                is_accounted_for(weighing);
                let alone = Ask::Of([id.clone()].into());
                let (_, asked_alone) = judge_telling(&situation, &alone);
                assert_eq!(asked_alone.weighings.get(id), Some(weighing), "seed {seed}: {id}");
                weighed += 1;
            }
            let then = carried_out(&situation, &judgement);
            let Some(event) = event(&mut dice, &then, &judge(&then)) else { break };
            situation = then;
            suppose(&mut situation, &event).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }
    assert!(weighed > 3000, "only {weighed} were weighed");
}

#[test]
fn what_is_added_moves_nothing_that_sticks() {
    for seed in 1..200 {
        let mut dice = Dice(0x2545_F491_4F6C_DD1D ^ (seed << 13) ^ seed);
        let situation = situation_of(&file(&mut dice));
        let before = judge(&situation);
        let mut then = carried_out(&situation, &before);
        let mut added = then.resources.iter().flat_map(primitives).next().expect("there is one").clone();
        added.name = ResourceName::from("unrelated");
        added.meta.priority = i32::try_from(dice.below(3)).unwrap_or(0) * 100;
        then.resources.insert(0, added);
        let after = judge(&then);
        for (resource, places) in &before.placement() {
            assert_eq!(after.placement().get(resource), Some(places), "seed {seed}: {resource} moved");
        }
        assert_eq!(after.placement()["unrelated"].len(), 1, "seed {seed}");
    }
}

#[test]
fn every_order_is_in_the_plan() {
    for seed in 1..200 {
        let mut dice = Dice(0xDEAD_BEEF_CAFE_F00D ^ (seed << 11) ^ seed);
        let situation = situation_of(&file(&mut dice));
        let judgement = judge(&situation);
        let start_of: BTreeMap<&str, usize> = judgement
            .actions
            .iter()
            .enumerate()
            .filter(|(_, done)| done.action == "start")
            .filter_map(|(at, done)| Some((done.resource.as_deref()?, at)))
            .collect();
        let is_before = |first: usize, then: usize| {
            let mut open = vec![first];
            let mut seen = vec![false; judgement.actions.len()];
            while let Some(here) = open.pop() {
                if here == then {
                    return true;
                }
                if !std::mem::replace(&mut seen[here], true) {
                    open.extend(judgement.order.iter().filter(|(from, _)| *from == here).map(|(_, to)| *to));
                }
            }
            false
        };
        for order in situation.orders.iter().filter(|order| order.first_action == model::situation::OrderAction::Start)
        {
            let model::situation::OrderSide::One(first) = &order.first else { continue };
            if let (Some(first), Some(then)) = (start_of.get(first.as_str()), start_of.get(order.then.as_str())) {
                assert!(is_before(*first, *then), "seed {seed}: {}", order.id);
            }
        }
    }
}

#[test]
fn a_role_is_what_it_is_called() {
    let mut dice = Dice(7);
    let judgement = judge(&cluster(&mut dice));
    let placement = judgement.placement();
    let roles = placement.values().flatten().map(|place| place.role);
    assert!(roles.into_iter().all(|role| role == Role::Started), "nothing here can lead");
    assert!(judgement.nodes.keys().all(|node| NodeName(node.clone()).as_str().starts_with('n')));
}
