//! What do the words of a cluster file promise, whatever else is in it? Random files, the same in every run.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use model::{ClusterConfig, NodeName, ResourceName, UnitName, Weight};
use scheduler::{Judgement, Place, Supposition, carried_out, judge, situation_of, suppose};

use common::Dice;

const FILES: u64 = 400;

/// The tables of a file, each with its lines.
type Tables = Vec<(String, Vec<String>)>;

/// A file in which every resource leans on earlier ones only, so that nothing contradicts itself.
fn tables(dice: &mut Dice, between_units: &[&str]) -> Tables {
    let nodes = 3 + dice.below(3);
    let mut tables = vec![("fence.power".to_owned(), vec!["agent = \"fence_lab\"".to_owned()])];
    for node in 1..=nodes {
        let mut lines =
            vec![format!("links = [\"10.0.0.{node}\", \"10.1.0.{node}\"]"), "fence = [\"power\"]".to_owned()];
        lines.push(format!("capacity = {{ memory = {}, cpu = {} }}", 4 + dice.below(12), 2 + dice.below(6)));
        lines.push(format!("attributes = {{ rack = \"{}\" }}", dice.below(2)));
        tables.push((format!("nodes.n{node}"), lines));
    }
    let resources = 2 + dice.below(7);
    let is_grouped = dice.is(2);
    let mut units: Vec<String> = Vec::new();
    for number in 0..resources {
        let mut lines = vec!["agent = \"ocf:heartbeat:Dummy\"".to_owned()];
        if dice.is(2) {
            lines.push(format!("needs = {{ memory = {} }}", 1 + dice.below(6)));
        }
        let mut words = words(dice, nodes, &units, between_units);
        if is_grouped && number < 2 {
            if number == 1 {
                words.push("members = [\"r0\", \"r1\"]".to_owned());
                tables.push(("groups.g".to_owned(), words));
                units.push("g".to_owned());
            }
        } else {
            lines.extend(words);
            units.push(format!("r{number}"));
        }
        tables.push((format!("resources.r{number}"), lines));
    }
    tables
}

fn words(dice: &mut Dice, nodes: usize, units: &[String], between_units: &[&str]) -> Vec<String> {
    let mut words = Vec::new();
    let avoided = 1 + dice.below(nodes);
    match dice.below(6) {
        0 => words.push(format!("avoid = [\"n{avoided}\"]")),
        1 => words.push(format!("avoid = {{ n{avoided} = {} }}", 1 + dice.below(200))),
        2 => words.push(format!("only = [\"n{avoided}\", \"n{}\"]", 1 + avoided % nodes)),
        3 => words.push(format!("prefer = {{ n{avoided} = 200, n{} = {} }}", 1 + avoided % nodes, 1 + dice.below(300))),
        4 => words.push(format!("prefer = [\"n{avoided}\"]")),
        _ => {}
    }
    match dice.below(8) {
        0 => words.push("copies = \"all\"".to_owned()),
        1 => words.push("copies = 2".to_owned()),
        2 => words.extend(["copies = 2".to_owned(), "promote = 1".to_owned()]),
        _ => {}
    }
    if dice.is(3) {
        words.push(format!("priority = {}", dice.below(4)));
    }
    let mut others: Vec<&String> = units.iter().collect();
    shuffle(dice, &mut others);
    let mut others = others.into_iter();
    for word in between_units {
        let Some(other) = others.next().filter(|_| dice.is(2)) else { continue };
        words.push(match (*word, dice.is(2)) {
            ("after", true) => format!("after = {{ {other} = \"running\" }}"),
            (_, true) => format!("{word} = {{ {other} = {{ points = {}, by = \"rack\" }} }}", 1 + dice.below(300)),
            (_, false) => format!("{word} = [\"{other}\"]"),
        });
    }
    words
}

fn text(tables: &Tables) -> String {
    let mut text = "cluster = \"shop\"\n".to_owned();
    for (name, lines) in tables {
        text += &format!("[{name}]\n{}\n", lines.join("\n"));
    }
    text
}

fn parsed(tables: &Tables) -> ClusterConfig {
    let text = text(tables);
    config::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}")).config
}

/// Who types it, and where it stands, decides nothing.
#[test]
fn the_order_of_tables_and_keys_changes_no_plan() {
    for seed in 1..=FILES {
        let mut dice = dice_of(seed);
        let mut tables = tables(&mut dice, &["with", "apart", "after"]);
        let situation = situation_of(&parsed(&tables));
        for (_, lines) in &mut tables {
            shuffle(&mut dice, lines);
        }
        shuffle(&mut dice, &mut tables);
        let other = situation_of(&parsed(&tables));
        assert_eq!(judge(&situation).to_string(), judge(&other).to_string(), "seed {seed}");
        assert_eq!(situation, other, "seed {seed}");
    }
}

/// Words without points are no wishes: nothing that happens makes them untrue. Without orders: where a unit is placed is
/// decided before it is known whether what it comes after can run.
#[test]
fn with_apart_only_and_avoid_hold_whatever_happens() {
    let (mut pairs, mut bans) = (0, 0);
    for seed in 1..=FILES {
        let mut dice = dice_of(seed);
        let config = parsed(&tables(&mut dice, &["with", "apart"]));
        let mut situation = situation_of(&config);
        for step in 0..4 {
            let judgement = judge(&situation);
            let (tied, banned) = check(&config, &judgement, &format!("seed {seed} step {step}"));
            pairs += tied;
            bans += banned;
            situation = carried_out(&situation, &judgement);
            let node = situation.nodes[dice.below(situation.nodes.len())].name.clone();
            let event = if dice.is(2) { Supposition::NodeLost(node) } else { Supposition::Standby(node) };
            suppose(&mut situation, &event).expect("the node is there");
        }
    }
    assert!(pairs > 200 && bans > 200, "too few words to show anything: {pairs} and {bans}");
}

/// A file with points in place of every must.
fn pointed(dice: &mut Dice) -> ClusterConfig {
    let nodes = 3 + dice.below(3);
    let mut tables = vec![("fence.power".to_owned(), vec!["agent = \"fence_lab\"".to_owned()])];
    for node in 1..=nodes {
        let links = format!("links = [\"10.0.0.{node}\", \"10.1.0.{node}\"]");
        tables.push((format!("nodes.n{node}"), vec![links, "fence = [\"power\"]".to_owned()]));
    }
    for number in 0..2 + dice.below(6) {
        let mut lines = vec!["agent = \"ocf:heartbeat:Dummy\"".to_owned()];
        let avoided = dice.below(nodes);
        let preferred = (avoided + 1 + dice.below(nodes - 1)) % nodes;
        lines.push(format!("avoid = {{ n{} = {} }}", avoided + 1, 1 + dice.below(999_999)));
        lines.push(format!("prefer = {{ n{} = {} }}", preferred + 1, 1 + dice.below(1_000_000)));
        if number > 0 {
            let word = if dice.is(2) { "apart" } else { "with" };
            lines.push(format!("{word} = {{ r{} = {} }}", dice.below(number), 1 + dice.below(999_999)));
        }
        tables.push((format!("resources.r{number}"), lines));
    }
    parsed(&tables)
}

/// Points only rank: as long as a node is there, everything runs. And what runs goes nowhere for points, whoever is back.
#[test]
fn points_neither_forbid_a_node_nor_call_anything_back() {
    let mut came_back = 0;
    for seed in 1..=FILES {
        let mut dice = dice_of(seed);
        let config = pointed(&mut dice);
        let mut situation = situation_of(&config);
        situation = carried_out(&situation, &judge(&situation));
        let nodes: Vec<NodeName> = situation.nodes.iter().map(|node| node.name.clone()).collect();
        let away: Vec<&NodeName> = nodes.iter().filter(|_| dice.is(2)).take(nodes.len() - 1).collect();
        for node in &away {
            suppose(&mut situation, &Supposition::NodeLost((*node).clone())).expect("the node is there");
        }
        let judgement = judge(&situation);
        for (name, places) in judgement.placement() {
            assert_eq!(places.len(), 1, "seed {seed}: {name} without {away:?}");
        }
        situation = carried_out(&situation, &judgement);
        for node in &away {
            suppose(&mut situation, &Supposition::NodeOnline((*node).clone())).expect("the node is there");
            assert_eq!(judge(&situation).placement(), judgement.placement(), "seed {seed}: {node} is back");
            came_back += 1;
        }
    }
    assert!(came_back > 200, "too few nodes came back to show anything: {came_back}");
}

/// It is switched off, and on again once that is proven.
#[test]
fn no_node_is_rebooted_to_be_fenced() {
    let mut situation = situation_of(&parsed(&tables(&mut dice_of(7), &[])));
    situation = carried_out(&situation, &judge(&situation));
    let node = situation.nodes[0].name.clone();
    suppose(&mut situation, &Supposition::NodeLost(node)).expect("the node is there");
    let fences: Vec<_> = judge(&situation).actions.into_iter().filter(|done| done.action == "fence").collect();
    assert!(!fences.is_empty() && fences.iter().all(|done| done.op == Some("off")), "{fences:?}");
}

/// Where it failed too often it does not run, until that is forgotten.
#[test]
fn failures_count_until_their_time_is_over() {
    let node =
        |name: &str| format!("[nodes.{name}]\nlinks = [\"10.0.0.{}\"]\nfence = [\"power\"]\n", name.as_bytes()[0]);
    let file = format!(
        "cluster = \"shop\"\n[fence.power]\nagent = \"fence_lab\"\n{}{}{}[resources.db]\nagent = \"ocf:heartbeat:Dummy\"\nclass = \"best-effort\"\n\
         prefer = [\"a\"]\nfailures = {{ max = 2, forget_after = \"30m\" }}\n",
        node("a"),
        node("b"),
        node("c"),
    );
    let config = config::parse(&file).unwrap_or_else(|faults| panic!("{faults:?}\n{file}")).config;
    let mut situation = situation_of(&config);
    situation = carried_out(&situation, &judge(&situation));
    let failed_at = 1_000_000;
    let on = |failures: u32, now: i64| {
        let mut situation = situation.clone();
        situation.now = now;
        let attributes = &mut situation.nodes[0].attributes;
        attributes.insert("fail-count-db#monitor_10000".to_owned(), failures.to_string());
        attributes.insert("last-failure-db#monitor_10000".to_owned(), failed_at.to_string());
        judge(&situation).placement()["db"].iter().map(|place| place.node.clone()).collect::<Vec<_>>()
    };
    assert_eq!(on(1, failed_at + 10), ["a"], "once is not too often");
    assert_eq!(on(2, failed_at + 10), ["b"]);
    assert_eq!(on(2, failed_at + 1799), ["b"]);
    assert_eq!(on(2, failed_at + 1801), ["a"], "forgotten");
}

fn nodes_of(
    config: &ClusterConfig,
    placement: &BTreeMap<String, Vec<Place>>,
    unit: &UnitName,
) -> Vec<BTreeSet<String>> {
    let places = |name: &&ResourceName| {
        let places = placement.get(name.as_str()).into_iter().flatten();
        places.map(|place| place.node.clone()).collect()
    };
    config.members_of(unit).iter().map(places).collect()
}

/// How many ties of what runs were checked, and how many bans.
fn check(config: &ClusterConfig, judgement: &Judgement, when: &str) -> (usize, usize) {
    let (mut pairs, mut bans) = (0, 0);
    let placement = judgement.placement();
    for (name, unit) in config.units() {
        let leaning = &unit.placement.leaning;
        for nodes in nodes_of(config, &placement, &name) {
            for node in &nodes {
                let node = NodeName::from(node.as_str());
                assert!(leaning.only.is_empty() || leaning.only.contains(&node), "{when}: {name} on {node}");
                assert_ne!(leaning.avoid.get(&node), Some(&Weight::Must), "{when}: {name} on {node}");
                bans += usize::from(!leaning.only.is_empty() || !leaning.avoid.is_empty());
            }
            let hard = |weight: Weight| weight == Weight::Must;
            for (other, _) in leaning.with.iter().filter(|(_, tie)| hard(tie.weight)) {
                // A group is where its first member is, whatever becomes of the others.
                for there in nodes_of(config, &placement, other).into_iter().take(1) {
                    assert!(nodes.is_subset(&there), "{when}: {name} on {nodes:?}, {other} on {there:?}");
                    pairs += nodes.len();
                }
            }
            for (other, _) in leaning.apart.iter().filter(|(_, tie)| hard(tie.weight)) {
                for there in nodes_of(config, &placement, other) {
                    assert!(nodes.is_disjoint(&there), "{when}: {name} on {nodes:?}, {other} on {there:?}");
                    pairs += nodes.len();
                }
            }
        }
    }
    (pairs, bans)
}

fn dice_of(seed: u64) -> Dice {
    Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
}

fn shuffle<T>(dice: &mut Dice, list: &mut [T]) {
    for at in (1..list.len()).rev() {
        list.swap(at, dice.below(at + 1));
    }
}
