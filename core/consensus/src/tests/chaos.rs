//! Everything at once: loss, doubles, delays, cuts, one-way links, crashes, pauses, slow disks, compaction.

use std::collections::BTreeSet;

use model::NodeId;

use super::cluster::{Cluster, MS, id};
use crate::{Input, MembershipChange};

fn run(count: u64, seed: u64) {
    let mut cluster = Cluster::of(count, seed);
    cluster.loss_percent = cluster.chance.below(25);
    cluster.duplicate_percent = 10;
    cluster.delay = (MS / 10, MS * (1 + cluster.chance.below(20)));
    cluster.write_takes = (MS / 2, MS * (1 + cluster.chance.below(30)));
    cluster.compact_every = 10 + cluster.chance.below(40);
    cluster.tail_entries = cluster.chance.below(20);
    let mut removed: BTreeSet<NodeId> = BTreeSet::new();
    for _ in 0..150 {
        let one = id(1 + cluster.chance.below(count));
        let other = id(1 + cluster.chance.below(count));
        match cluster.chance.below(14) {
            0 if one != other => cluster.cut(one, other),
            1 => {
                cluster.cuts.insert((one, other));
            }
            2 => cluster.isolate(one),
            3 | 4 => cluster.heal(),
            5 if cluster.is_up(one) => cluster.crash(one),
            6 | 7 => {
                for node in (1..=count).map(id) {
                    if !cluster.is_up(node) {
                        cluster.start(node);
                    }
                }
            }
            8 => cluster.pause(one, true),
            9 => (1..=count).map(id).for_each(|node| cluster.pause(node, false)),
            10 if cluster.is_up(one) => cluster.input(one, Input::Transfer(other)),
            11 => {
                // Guests come and members go, so that the membership changes in the middle of everything.
                let (known, guests_max) = (cluster.machines.len() as u64, 4);
                if known < count + guests_max && cluster.chance.percent(30) {
                    cluster.add_machine(id(known + 1), &crate::joining());
                }
                let somebody = id(1 + cluster.chance.below(cluster.machines.len() as u64));
                let change = match cluster.chance.below(5) {
                    0 if !removed.contains(&somebody) => MembershipChange::AddLearner(somebody),
                    1 | 2 => MembershipChange::Promote(somebody),
                    3 if removed.len() < 2 => MembershipChange::Remove(somebody),
                    _ => MembershipChange::Promote(id(known)),
                };
                let is_possible =
                    cluster.leader().is_some_and(|leader| cluster.node(leader).may_change(change).is_ok());
                if is_possible && let MembershipChange::Remove(gone) = change {
                    // An id is never used again.
                    removed.insert(gone);
                }
                if is_possible {
                    cluster.change(change);
                }
            }
            _ => cluster.propose_many(5),
        }
        let pause = cluster.chance.below(200 * MS);
        cluster.run(pause);
    }
    cluster.heal();
    cluster.loss_percent = 0;
    let nodes: Vec<NodeId> = cluster.machines.keys().copied().collect();
    for node in nodes {
        cluster.pause(node, false);
        if !cluster.is_up(node) {
            cluster.start(node);
        }
    }
    cluster.settle();
    cluster.propose_many(3);
    cluster.settle();
}

/// One leader per term, one history, and progress after healing: three voters.
#[test]
fn three_members_agree_whatever_happens() {
    (0..40).for_each(|seed| run(3, seed));
}

/// The same with five.
#[test]
fn five_members_agree_whatever_happens() {
    (100..120).for_each(|seed| run(5, seed));
}

/// The same with two and with one.
#[test]
fn one_and_two_members_agree_whatever_happens() {
    (200..215).for_each(|seed| run(2, seed));
    (300..310).for_each(|seed| run(1, seed));
}
