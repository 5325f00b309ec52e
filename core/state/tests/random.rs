//! Whatever is proposed, in whatever order: the rules hold. The commands are drawn without sense, as a scheduler or a
//! leader gone mad would draw them.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{A, B, C, Cluster, W, incarnation};
use model::{
    ActionKind, Domain, Epoch, GrantId, Incarnation, MemberState, NodeId, OpId, ResourceState, Term, UnitName,
};
use state::{Command, Observation, check_invariants, digest};

/// A linear congruential generator (Knuth's MMIX constants): chance that every run repeats.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_of<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).expect("small")].clone()
    }
}

/// Mostly what could be right, at times plainly wrong.
fn command(cluster: &Cluster, dice: &mut Dice) -> Command {
    let node = dice.one_of(&[A, A, B, B, C, C, W, NodeId(77)]);
    let unit: UnitName = dice.one_of(&["site", "site", "web", "db", "cache", "nothing"]).into();
    let current = cluster.state.members.get(&node).map_or(Incarnation(5), |member| member.incarnation);
    let life = if dice.below(8) == 0 { incarnation(node, dice.below(5)) } else { current };
    let epoch = if dice.below(10) == 0 { Epoch(dice.below(40)) } else { cluster.epoch() };
    let held = cluster.state.holders.get(&unit);
    let grant = held.map_or(GrantId(3), |holder| holder.grant);
    let reason = String::new();
    let resource = dice.one_of(&["address", "web", "db", "cache", "ghost"]);
    match dice.below(26) {
        0 => Command::Coordinator { node, incarnation: life, term: Term(dice.below(3) + cluster.state.term.0) },
        1..4 => Command::Grant { unit, node, incarnation: life, epoch, reason },
        4 | 5 => Command::BeginRelease { unit, grant, epoch, reason },
        6 | 7 => {
            let (node, incarnation) = held.map_or((node, life), |holder| (holder.node, holder.incarnation));
            Command::Release { unit, node, incarnation, grant, epoch }
        }
        8 => Command::Block { unit, grant, epoch, why: reason },
        9 => Command::Condemn { node, incarnation: life, epoch, reason, is_for_silence: dice.below(2) == 0 },
        10 | 11 => {
            if !cluster.state.members.contains_key(&node) {
                return Command::Nothing;
            }
            let covers: &[Domain] =
                if dice.below(2) == 0 { &[Domain::Storage] } else { &[Domain::Storage, Domain::Network] };
            cluster.fence_done(node, dice.one_of(&["disk", "power", "foreign"]), covers)
        }
        12 if dice.below(4) == 0 => Command::ManualConfirm { node, incarnation: life, reason },
        12 | 13 if cluster.state.members.contains_key(&node) => {
            let mut join = cluster.join(node, dice.below(40));
            if let Command::Join { old_heard_recently, machine_id, .. } = &mut join {
                *old_heard_recently = dice.below(4) == 0;
                if dice.below(6) == 0 {
                    *machine_id = "another".into();
                }
            }
            join
        }
        14 => Command::Leave { node, incarnation: life, epoch },
        15 => Command::Clear { resource: None, node: None, reason },
        16 => {
            let action = dice.one_of(&[
                ActionKind::NodeMaintenance(node),
                ActionKind::Move(unit.clone(), node),
                ActionKind::Stop(unit),
                ActionKind::Leave(node),
            ]);
            if dice.below(3) == 0 { Command::Act { action, reason } } else { Command::Undo { action, reason } }
        }
        17 => {
            let mut config = common::file(&["a", "b", "c", "w"]);
            match dice.below(4) {
                0 => drop(config.resources.remove(&"db".into())),
                1 => config.groups.clear(),
                _ => {}
            }
            let expected_version = cluster.state.config_version;
            Command::Configure { expected_version, text: String::new(), config: Box::new(config), reason }
        }
        18 if dice.below(20) == 0 => Command::Remove { node, reason },
        19 if dice.below(2) == 0 => Command::FenceBegun { node, incarnation: life, epoch, attempt: 1 },
        20 if dice.below(2) == 0 => Command::Lost { node, incarnation: life, epoch, reason },
        21 if dice.below(2) == 0 => Command::Gone { node, incarnation: life, epoch },
        20 => Command::Spare { node, incarnation: life, epoch },
        _ => {
            let state = dice.one_of(&[
                ResourceState::Stopped,
                ResourceState::Stopped,
                ResourceState::Stopped,
                ResourceState::Stopped,
                ResourceState::Running,
                ResourceState::Failed,
                ResourceState::Blocked,
                ResourceState::Unknown,
            ]);
            let op = OpId { epoch: Epoch(dice.below(epoch.0 + 3)), index: dice.below(1_000) };
            let op = if dice.below(3) > 0 { OpId { epoch, index: cluster.state.applied.0 } } else { op };
            let is_change = dice.below(4) == 0;
            let seen = |resource: &str| Observation {
                resource: resource.into(),
                op,
                state,
                digest: 0,
                failure: None,
                reason: String::new(),
                is_change,
            };
            let observations = if dice.below(2) == 0 {
                ["address", "web", "db", "cache"].map(seen).to_vec()
            } else {
                vec![seen(resource)]
            };
            Command::Observed { node, incarnation: life, epoch, observations }
        }
    }
}

#[test]
fn no_order_of_commands_breaks_the_kernel() {
    let mut accepted: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..150 {
        let mut dice = Dice(seed);
        let mut cluster = Cluster::ready();
        let mut twin = cluster.state.clone();
        let mut proven: BTreeSet<(NodeId, Incarnation)> = BTreeSet::new();
        for _ in 0..200 {
            let command = command(&cluster, &mut dice);
            let before = cluster.state.clone();
            cluster.now.0 += dice.below(5_000);
            let applied = cluster.apply_by("cluster", command.clone());
            let kind = format!("{command:?}");
            let told = || format!("seed {seed}, entry {}: {kind}", cluster.state.applied);

            let entry = state::Entry { at: cluster.now, actor: "cluster".into(), command: command.clone() };
            let twin_applied = state::apply(&mut twin, cluster.state.applied, &entry, cluster.bugs);
            assert_eq!((twin_applied, digest(&twin)), (applied.clone(), digest(&cluster.state)), "{}", told());
            check_invariants(&cluster.state).unwrap_or_else(|broken| panic!("{}: {broken}", told()));

            match &command {
                Command::FenceDone { node, incarnation, .. } | Command::ManualConfirm { node, incarnation, .. }
                    if applied.verdict.is_ok() && cluster.state.members[node].state == MemberState::Fenced =>
                {
                    proven.insert((*node, *incarnation));
                }
                Command::Join { node, .. } if applied.verdict.is_ok() => {
                    let old = before.members[node].incarnation;
                    if old != cluster.state.members[node].incarnation {
                        proven.insert((*node, old));
                    }
                }
                Command::Grant { unit, node, incarnation, .. } if applied.verdict.is_ok() => {
                    assert!(!before.holders.contains_key(unit), "{}: it was held", told());
                    assert!(!proven.contains(&(*node, *incarnation)), "{}: to a dead incarnation", told());
                    for resource in before.config.members_of(unit) {
                        assert_eq!(before.known_state(resource, *node), ResourceState::Stopped, "{}", told());
                    }
                }
                _ => {}
            }
            let held: Vec<_> =
                cluster.state.holders.keys().flat_map(|unit| cluster.state.config.members_of(unit)).collect();
            assert_eq!(held.len(), held.iter().collect::<BTreeSet<_>>().len(), "{}: held twice", told());
            for (unit, holder) in &before.holders {
                let is_exclusive = before.config.members_of(unit).is_empty() || before.config.is_exclusive(unit);
                match cluster.state.holders.get(unit) {
                    Some(after) => assert_eq!(after.grant, holder.grant, "{}", told()),
                    None => {
                        let is_proof = match &command {
                            Command::Release { grant, .. } => *grant == holder.grant,
                            Command::FenceDone { node, .. }
                            | Command::ManualConfirm { node, .. }
                            | Command::Join { node, .. } => *node == holder.node,
                            Command::Condemn { node, .. } | Command::Lost { node, .. } => {
                                *node == holder.node && !is_exclusive
                            }
                            Command::Block { unit: of, .. } => of == unit && !is_exclusive,
                            _ => false,
                        };
                        assert!(is_proof, "{}: {unit} was freed without proof", told());
                    }
                }
            }
            if applied.verdict.is_ok() {
                let name = match command {
                    Command::Coordinator { .. } => "coordinator",
                    Command::Grant { .. } => "grant",
                    Command::Release { .. } => "release",
                    Command::Condemn { .. } => "condemn",
                    Command::FenceDone { .. } => "fence",
                    Command::ManualConfirm { .. } => "confirm",
                    Command::Join { .. } => "join",
                    Command::Configure { .. } => "configure",
                    Command::Leave { .. } => "leave",
                    Command::Block { .. } => "block",
                    Command::FenceBegun { .. } => "fence-begun",
                    Command::Spare { .. } => "spare",
                    Command::Lost { .. } => "lost",
                    _ => "other",
                };
                *accepted.entry(name).or_default() += 1;
            }
        }
    }
    assert_eq!(accepted.len(), 14, "every rule was met with success at least once: {accepted:?}");
}
