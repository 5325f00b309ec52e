//! Cables, switches and clocks misbehave, and nobody is shot for it (SAFETY §7, rows 4, 7, 15, 38, 40, 47, 48, 68).

use std::net::{IpAddr, Ipv4Addr};

use sim::{Fault, Seconds, Who, cluster, everything, node, resource, term};

#[test]
fn one_way_silence_of_one_pair_fences_nobody() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .cut_one_way("b", "a")
        .run_for(4.s())
        .expect(node("a").was_condemned(0))
        .expect(node("b").was_condemned(0))
        .expect(resource("db").runs_on("b"))
        .heal_networks()
        .settle()
        .expect(resource("db").was_started(0));
}

#[test]
fn a_pulse_that_stood_still_accuses_nobody() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .stall_pulse("a", 200.ms())
        .run_for(2.s())
        .stall_pulse("c", 5.s())
        .run_for(10.s())
        .expect(node("a").was_condemned(0))
        .expect(node("b").was_condemned(0))
        .expect(resource("db").was_started(0));
}

#[test]
fn wall_clocks_may_jump_as_they_like() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .inflict(Fault::WallStep(0, 3_600_000))
        .inflict(Fault::WallStep(1, -3_600_000))
        .inflict(Fault::WallStep(2, -1_000_000_000_000))
        .run_for(10.s())
        .expect(term(0))
        .expect(resource("db").was_started(0))
        .power_off("b")
        .run_for(2.s())
        .expect(resource("db").runs());
}

#[test]
fn a_lost_quorum_that_returns_restarts_nothing() {
    cluster(3)
        .resource("db", "prefers b")
        .resource("web", "prefers a")
        .settle()
        .from_here()
        .isolate("a")
        .isolate("b")
        .isolate("c")
        .run_for(600.s())
        .expect(node("a").lacks_quorum())
        .expect(node("b").lacks_quorum())
        .heal_networks()
        .settle()
        .run_for(10.s())
        .expect(resource("db").was_started(0))
        .expect(resource("web").was_started(0))
        .expect(node("a").was_condemned(0))
        .expect(node("b").was_condemned(0));
}

#[test]
fn a_switch_that_reloads_costs_nobody_its_life() {
    for seed in 0..10 {
        cluster(3)
            .seed(seed)
            .resource("db", "prefers b")
            .settle()
            .lead("a")
            .from_here()
            .isolate("a")
            .isolate("b")
            .isolate("c")
            .run_for(2.s())
            .heal_networks()
            .run_for(5.s())
            .expect(node("a").was_condemned(0))
            .expect(node("b").was_condemned(0))
            .expect(node("c").was_condemned(0))
            .expect(resource("db").was_started(0))
            .expect(everything());
    }
}

#[test]
fn with_one_network_a_short_outage_of_one_node_is_waited_out() {
    cluster(3)
        .one_network()
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .isolate("b")
        .run_for(600.ms())
        .heal_networks()
        .run_for(5.s())
        .expect(node("b").was_condemned(0))
        .expect(resource("db").was_started(0));
}

#[test]
fn a_cut_off_leader_changes_nothing_any_more() {
    cluster(3)
        .resource("db", "prefers b")
        .settle()
        .lead("a")
        .from_here()
        .isolate("a")
        // It still believes that it leads, and takes the order; nobody else will ever hear of it.
        .run_for(50.ms())
        .move_to("db", "c")
        .run_for(5.s())
        .heal_networks()
        .settle()
        .run_for(5.s())
        .expect(resource("db").runs_on("b"))
        .expect(resource("db").was_started(0));
}

#[test]
fn a_node_that_is_lost_again_and_again_is_left_alone_for_a_while() {
    let mut story = cluster(3).resource("db", "prefers b").settle().lead("a").from_here();
    for _ in 0..3 {
        story = story.power_off("b").run_for(2.s()).power_on("b").run_for(6.s()).move_to("db", "b").run_for(4.s());
    }
    // What it does not get it cannot lose: no more fences.
    let _ = story.power_off("b").run_for(2.s()).power_on("b").run_for(6.s()).expect(node("b").was_fenced(3));
}

#[test]
fn of_five_two_may_be_lost_at_once() {
    cluster(5)
        .resource("db", "prefers d")
        .resource("web", "prefers e")
        .settle()
        .lead("a")
        .from_here()
        .power_off("d")
        .power_off("e")
        .run_for(12.s())
        .expect(node("d").fenced_before_start_of("db"))
        .expect(node("e").fenced_before_start_of("web"))
        .expect(resource("db").runs())
        .expect(resource("web").runs());
}

#[test]
fn a_leader_and_its_neighbour_lost_together_leave_three_of_five_that_go_on() {
    cluster(5)
        .resource("db", "prefers a")
        .settle()
        .lead("a")
        .from_here()
        .power_off("a")
        .inflict(Fault::PowerOff(Who::Machine(1)))
        .run_for(12.s())
        .expect(node("a").fenced_before_start_of("db"))
        .expect(resource("db").runs());
}

/// The addresses of one network change on the running cluster: the other network carries it meanwhile.
#[test]
fn addresses_of_one_network_change_on_the_running_cluster() {
    for (seed, changed) in [(1, 0..1), (2, 1..2), (3, 0..3), (4, 0..3), (5, 0..3)] {
        let new = |m: usize| IpAddr::V4(Ipv4Addr::new(10, 77, 1, u8::try_from(m).expect("few machines") + 1));
        let old = |m: usize| IpAddr::V4(Ipv4Addr::new(10, 0, 1, u8::try_from(m).expect("few machines") + 1));
        let mut story = cluster(3).seed(seed).resource("db", "prefers b").settle().lead("a").run_for(5.s()).from_here();
        for m in changed.clone() {
            story = story.inflict(Fault::Address(m, new(m), true));
        }
        story = story.configure(|config| {
            for (m, node) in config.nodes.values_mut().enumerate().filter(|(m, _)| changed.contains(m)) {
                node.links[0] = new(m);
            }
        });
        story = story.run_for(2.s());
        for m in changed {
            story = story.inflict(Fault::Address(m, old(m), false));
        }
        story
            .run_for(5.s())
            .expect(resource("db").was_started(0))
            .expect(node("b").was_condemned(0))
            .expect(resource("db").runs_on("b"));
    }
}

/// An address on one of the two networks of the stories.
fn at(network: u8, m: usize, part: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, part, network, u8::try_from(m).expect("few machines") + 1))
}

/// Every way to change the addresses of a running cluster of so many machines, and whether the change carries heartbeats.
fn changes(machines: usize) -> Vec<(&'static str, Change, bool)> {
    let all = move |links: &'static dyn Fn(usize) -> Vec<IpAddr>| -> Change {
        Box::new(move |m| (m < machines).then(|| links(m)))
    };
    let one =
        |links: &'static dyn Fn(usize) -> Vec<IpAddr>| -> Change { Box::new(move |m| (m == 1).then(|| links(m))) };
    vec![
        ("another address on one network, one node", one(&|m| vec![at(1, m, 77), at(2, m, 0)]), true),
        ("other addresses on both networks, one node", one(&|m| vec![at(1, m, 77), at(2, m, 77)]), true),
        ("other addresses on one network, all nodes", all(&|m| vec![at(1, m, 77), at(2, m, 0)]), true),
        ("other addresses on both networks, all nodes", all(&|m| vec![at(1, m, 77), at(2, m, 77)]), true),
        ("the second network goes", all(&|m| vec![at(1, m, 0)]), true),
        ("the first network goes", all(&|m| vec![at(2, m, 0)]), true),
        ("the other order, all nodes", all(&|m| vec![at(2, m, 0), at(1, m, 0)]), true),
        ("the other order, one node", one(&|m| vec![at(2, m, 0), at(1, m, 0)]), false),
        ("an address on a wrong network, one node", one(&|m| vec![at(201, m, 77), at(2, m, 0)]), false),
        ("addresses on wrong networks, all nodes", all(&|m| vec![at(201, m, 77), at(202, m, 77)]), false),
    ]
}

/// The links that a machine gets, or none if it keeps those that it has.
type Change = Box<dyn Fn(usize) -> Option<Vec<IpAddr>>>;

/// Whatever becomes of the addresses, the former ones carry the cluster until the new ones are proven: nobody is
/// suspected, nothing moves, and the way back is open.
#[test]
fn addresses_change_in_every_way_and_nobody_notices() {
    for nodes in [2, 3, 5] {
        let machines = if nodes == 2 { 3 } else { nodes };
        for (n, (what, change, works)) in changes(machines).into_iter().enumerate() {
            let begun = if nodes == 2 { cluster(2).witness() } else { cluster(nodes) };
            let mut story =
                begun.seed(n as u64).resource("db", "prefers b").settle().lead("a").run_for(5.s()).from_here();
            for m in 0..machines {
                for address in change(m).into_iter().flatten() {
                    // A wrong network is one that nobody is on.
                    story = story.inflict(Fault::Address(m, address, true));
                }
            }
            story = story.configure(|config| {
                for (m, node) in config.nodes.values_mut().enumerate() {
                    if let Some(links) = change(m) {
                        node.links = links;
                    }
                }
                let links = config.nodes.values().map(|node| node.links.len()).max().unwrap_or(0);
                config.networks.retain(|number, _| usize::from(*number) <= links);
            });
            println!("{nodes} nodes: {what}");
            story = story.run_for(3.s());
            if works {
                // Nobody needs the former ones: they go.
                for m in 0..machines {
                    let kept = change(m).unwrap_or_default();
                    for former in [at(1, m, 0), at(2, m, 0)].into_iter().filter(|former| !kept.contains(former)) {
                        story = story.inflict(Fault::Address(m, former, false));
                    }
                }
            }
            story = story
                .run_for(5.s())
                .expect(term(0))
                .expect(node("a").was_condemned(0))
                .expect(node("b").was_condemned(0))
                .expect(resource("db").was_started(0))
                .expect(resource("db").runs_on("b"));
            // A worker that starts again knows what was in use, whether or not its log does.
            story = story.kill_worker("b").run_for(4.s()).expect(node("b").was_condemned(0));
            let doubt = "the former ones stay in use";
            if works {
                story = story.expect(node("a").has_no_problem(doubt)).expect(node("b").has_no_problem(doubt));
            } else {
                story = story.expect(node("a").has_problem(doubt)).expect(node("b").has_problem(doubt));
                story = story.configure(|config| {
                    for (m, node) in config.nodes.values_mut().enumerate() {
                        node.links = vec![at(1, m, 0), at(2, m, 0)];
                    }
                });
                story = story.run_for(5.s());
            }
            let _ = story
                .expect(node("b").was_condemned(0))
                .expect(resource("db").was_started(0))
                .expect(resource("db").runs_on("b"))
                .expect(everything());
        }
    }
}

/// A network that was removed comes back as the first one.
#[test]
fn a_network_that_is_added_is_used() {
    let links = |story: sim::Cluster, of: fn(usize) -> Vec<IpAddr>| {
        story.configure(move |config| {
            for (m, node) in config.nodes.values_mut().enumerate() {
                node.links = of(m);
            }
            let links = config.nodes.values().map(|node| node.links.len()).max().unwrap_or(0);
            config.networks.retain(|number, _| usize::from(*number) <= links);
        })
    };
    let story = cluster(3).resource("db", "prefers b").settle().lead("a").run_for(5.s()).from_here();
    // From here on addresses count.
    let story = story.inflict(Fault::Address(0, at(1, 0, 0), true));
    let story = links(story, |m| vec![at(2, m, 0)]).run_for(3.s());
    let story = links(story, |m| vec![at(1, m, 0), at(2, m, 0)]).run_for(3.s());
    let story = (0..3).fold(story, |story, m| story.inflict(Fault::Unplug(Who::Machine(m), 1, true)));
    story
        .run_for(3.s())
        .expect(term(0))
        .expect(node("b").was_condemned(0))
        .expect(resource("db").was_started(0))
        .expect(resource("db").runs_on("b"));
}
