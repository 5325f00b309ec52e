//! Stories of pulses that hear each other over links that lose, delay, break and replay.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use liveness::{
    Beat, BeatFlags, BeatHeader, BeatKind, Facts, LinkState, OwnIdentity, Path, PeerOrder, PeerReport, Progress, Pulse,
    PulseAction, PulseInput, PulseOrder, PulseReport, Received, Rival, Timing, Verdict,
};
use model::{ConfigVersion, Incarnation, Instant, LinkId, NodeId, Profile, Term};

const T: Timing = Timing::of(Profile::Lan);
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Pulses on a network, in virtual time.
struct World {
    now: Instant,
    nodes: BTreeMap<NodeId, Machine>,
    packets: BinaryHeap<Reverse<Packet>>,
    sent: u64,
    chance: u64,
    loss_percent: u64,
    /// Only what this node sends is lost; else what anybody sends.
    lossy_sender: Option<NodeId>,
    delay: Duration,
    cut: BTreeSet<(NodeId, NodeId, LinkId)>,
    /// Between which addresses all beats come.
    path: Path,
    reports: Vec<(Instant, NodeId, PulseReport)>,
    /// Everything that was ever sent, if wanted.
    record: Option<Vec<(BeatHeader, Beat)>>,
}

struct Machine {
    pulse: Pulse,
    order: PulseOrder,
    /// What the pulse is told of the rest of its node, at every wake; the first counter rises by itself if wanted.
    progress: Option<Progress>,
    is_turning: bool,
    stalled_until: Option<Instant>,
    inbox: Vec<Received>,
    seen: BTreeMap<NodeId, PeerReport>,
}

struct Packet {
    at: Instant,
    number: u64,
    header: BeatHeader,
    beat: Beat,
}

impl PartialEq for Packet {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Packet {}
impl PartialOrd for Packet {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Packet {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl World {
    /// Nodes 1..=`nodes`, all started at once, with `links` links between each two.
    fn new(nodes: u64, links: u8) -> Self {
        let mut world = World {
            now: Instant::from_nanos(1_000_000_000),
            nodes: BTreeMap::new(),
            packets: BinaryHeap::new(),
            sent: 0,
            chance: 42,
            loss_percent: 0,
            lossy_sender: None,
            delay: Duration::from_micros(300),
            cut: BTreeSet::new(),
            path: Path::Agreed,
            reports: Vec::new(),
            record: None,
        };
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        for &id in &ids {
            let order = PulseOrder {
                members: ids.iter().map(|&id| PeerOrder { id, links, incarnation: Some(incarnation(id, 0)) }).collect(),
                voters: ids.clone(),
                timing: T,
                facts: Facts::default(),
                is_leaving: false,
                addresses: ConfigVersion(0),
            };
            world.start(id, 0, order);
        }
        world
    }

    /// The same, after everybody heard everybody and all links are up.
    fn settled(nodes: u64, links: u8) -> Self {
        let mut world = World::new(nodes, links);
        world.run_for(ms(1500));
        for (id, machine) in &world.nodes {
            assert_eq!(machine.seen.len() as u64, nodes - 1);
            for peer in machine.seen.values() {
                assert_eq!(peer.verdict, Verdict::Reachable, "{id} hears {}", peer.id);
                assert!(peer.is_two_way && peer.links.iter().all(|link| link.state == LinkState::Up));
            }
        }
        world.reports.clear();
        world
    }

    fn start(&mut self, id: NodeId, life: u64, order: PulseOrder) {
        let salt = u128::from(self.random()) << 64 | u128::from(self.random());
        let own = OwnIdentity { cluster: 7, id, incarnation: incarnation(id, life), salt, key_epoch: 1 };
        let pulse = Pulse::new(self.now, own, order.clone());
        let machine = Machine {
            pulse,
            order,
            progress: None,
            is_turning: true,
            stalled_until: None,
            inbox: Vec::new(),
            seen: BTreeMap::new(),
        };
        self.nodes.insert(id, machine);
    }

    /// The process of `id` is killed and started again at once; `life` is that of its kernel.
    fn restart(&mut self, id: NodeId, life: u64) {
        let order = self.nodes[&id].order.clone();
        self.start(id, life, order);
    }

    fn crash(&mut self, id: NodeId) {
        self.nodes.remove(&id);
    }

    fn stall(&mut self, id: NodeId, span: Duration) {
        let until = self.now + span;
        self.nodes.get_mut(&id).expect("a node stalls only while it runs").stalled_until = Some(until);
    }

    fn cut(&mut self, from: NodeId, to: NodeId, link: u8) {
        self.cut.insert((from, to, LinkId(link)));
    }

    fn order(&mut self, id: NodeId, change: impl FnOnce(&mut PulseOrder)) {
        let machine = self.nodes.get_mut(&id).expect("the node runs");
        change(&mut machine.order);
        let order = machine.order.clone();
        self.step(id, PulseInput::Order(order));
    }

    fn random(&mut self) -> u64 {
        self.chance = self.chance.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.chance >> 33
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let wakes = self.nodes.iter().map(|(id, m)| (m.stalled_until.unwrap_or(m.pulse.deadline()), *id));
            let wake = wakes.min().map(|(at, id)| (at.max(self.now), id));
            let packet = self.packets.peek().map(|Reverse(packet)| packet.at);
            match (wake, packet) {
                (wake, Some(at)) if at <= end && wake.is_none_or(|(wake, _)| at <= wake) => {
                    self.now = at;
                    self.deliver();
                }
                (Some((at, id)), _) if at <= end => {
                    self.now = at;
                    self.wake(id);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        let Some(Reverse(Packet { header, beat, .. })) = self.packets.pop() else { return };
        let received = Received { arrival: self.now, header, beat, path: self.path };
        match self.nodes.get_mut(&header.receiver) {
            Some(machine) if machine.stalled_until.is_some() => machine.inbox.push(received),
            Some(_) => self.step(header.receiver, PulseInput::Received(received)),
            None => {}
        }
    }

    fn wake(&mut self, id: NodeId) {
        let machine = self.nodes.get_mut(&id).expect("only running nodes wake");
        machine.stalled_until = None;
        for received in std::mem::take(&mut machine.inbox) {
            self.step(id, PulseInput::Received(received));
        }
        let machine = self.nodes.get_mut(&id).expect("only running nodes wake");
        if let Some(progress) = &mut machine.progress {
            progress.turns += u64::from(machine.is_turning);
            let told = PulseInput::Progress(*progress);
            self.step(id, told);
        }
        self.step(id, PulseInput::Tick);
    }

    fn step(&mut self, id: NodeId, input: PulseInput) {
        let machine = self.nodes.get_mut(&id).expect("only running nodes step");
        for action in machine.pulse.step(self.now, input) {
            match action {
                PulseAction::Send { to, link, header, beat } => {
                    assert_eq!((header.receiver, header.link, header.sender), (to, link, id));
                    if let Some(record) = &mut self.record {
                        record.push((header, beat.clone()));
                    }
                    self.sent += 1;
                    self.chance = self.chance.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let chance = self.chance >> 33;
                    let is_lossy = self.lossy_sender.is_none_or(|sender| sender == id);
                    if is_lossy && chance % 100 < self.loss_percent || self.cut.contains(&(id, to, link)) {
                        continue;
                    }
                    let at = self.now + self.delay + Duration::from_micros(chance % 100);
                    self.packets.push(Reverse(Packet { at, number: self.sent, header, beat }));
                }
                PulseAction::Report(report) => {
                    if let PulseReport::Peer(peer) = &report {
                        self.nodes.get_mut(&id).expect("it steps").seen.insert(peer.id, peer.clone());
                    }
                    self.reports.push((self.now, id, report));
                }
            }
        }
    }

    fn seen(&self, by: NodeId, of: NodeId) -> &PeerReport {
        &self.nodes[&by].seen[&of]
    }

    /// When `by` first reported this verdict about `of` since the reports were last cleared.
    fn first(&self, by: NodeId, of: NodeId, verdict: Verdict) -> Option<Instant> {
        self.reports.iter().find_map(|(at, id, report)| match report {
            PulseReport::Peer(peer) if *id == by && peer.id == of && peer.verdict == verdict => Some(*at),
            PulseReport::Peer(_) | PulseReport::OwnStall { .. } | PulseReport::Isolated(_) => None,
        })
    }

    fn accusations(&self) -> usize {
        let is_suspect = |report: &PulseReport| match report {
            PulseReport::Peer(peer) => peer.verdict == Verdict::Suspect,
            PulseReport::OwnStall { .. } | PulseReport::Isolated(_) => false,
        };
        self.reports.iter().filter(|(_, _, report)| is_suspect(report)).count()
    }
}

fn incarnation(id: NodeId, life: u64) -> Incarnation {
    Incarnation(id.0 * 1000 + life)
}

#[test]
fn nodes_that_start_together_hear_each_other_within_a_few_round_trips() {
    let mut world = World::new(3, 2);
    world.run_for(ms(10));
    for by in [A, B, C] {
        for of in [A, B, C].into_iter().filter(|&of| of != by) {
            assert_eq!(world.seen(by, of).verdict, Verdict::Reachable);
            assert!(world.seen(by, of).is_two_way);
            assert!(world.seen(by, of).links[0].state != LinkState::Up, "a link needs eight beats");
        }
    }
}

#[test]
fn a_crashed_node_is_suspect_after_the_limit_and_not_before() {
    for offset in 0..25 {
        let mut world = World::settled(3, 2);
        world.run_for(ms(2 * offset));
        world.crash(C);
        let crashed = world.now;
        world.run_for(ms(300));
        for by in [A, B] {
            let taken = world.first(by, C, Verdict::Suspect).expect("C is dead").since(crashed);
            assert!(taken >= T.t_to - T.delta && taken <= T.t_to + ms(6), "{by} needed {taken:?}");
            assert_eq!(world.seen(by, C).reachable_since, None);
        }
        assert!(world.seen(A, B).suspects.contains(&C) && world.seen(B, A).suspects.contains(&C));
        assert!(!world.seen(A, B).hears.contains(&C));
    }
}

#[test]
fn a_verdict_is_told_at_once() {
    let mut world = World::settled(3, 1);
    world.crash(C);
    world.run_for(ms(300));
    let own = world.first(B, C, Verdict::Suspect).expect("C is dead");
    let told = world.reports.iter().find_map(|(at, id, report)| match report {
        PulseReport::Peer(peer) if *id == A && peer.id == B && peer.suspects.contains(&C) => Some(*at),
        PulseReport::Peer(_) | PulseReport::OwnStall { .. } | PulseReport::Isolated(_) => None,
    });
    assert!(told.expect("B tells it").since(own) < ms(6));
}

#[test]
fn a_fifth_of_all_packets_lost_for_an_hour_accuses_nobody() {
    let mut world = World::settled(2, 1);
    world.loss_percent = 20;
    for _ in 0..60 {
        world.run_for(Duration::from_secs(60));
        assert_eq!(world.accusations(), 0);
        world.reports.clear();
        let limit = world.seen(A, B).limit;
        assert!(limit <= T.t_to + ms(50), "{limit:?}: such a loss hardly stretches the limit, however it is spread");
    }
    let loss = world.seen(A, B).links[0].loss_permille;
    assert!((100..300).contains(&loss), "measured {loss} permille");
}

#[test]
fn half_of_all_packets_lost_stretches_the_limit() {
    let mut world = World::settled(2, 1);
    world.loss_percent = 50;
    world.run_for(Duration::from_secs(120));
    let limit = world.seen(A, B).limit;
    assert!(limit > ms(400) && limit <= T.t_to_max(), "{limit:?}");
    world.loss_percent = 0;
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.seen(A, B).limit, T.t_to);
}

#[test]
fn a_stalled_observer_accuses_nobody() {
    for stall in [150, 300, 5000] {
        let mut world = World::settled(3, 1);
        world.stall(A, ms(stall));
        world.run_for(ms(stall + 2000));
        let accused = world.reports.iter().filter(|(_, id, report)| {
            *id == A && matches!(report, PulseReport::Peer(peer) if peer.verdict == Verdict::Suspect)
        });
        assert_eq!(accused.count(), 0, "stall of {stall} ms");
        assert!(world.reports.iter().any(|(_, id, report)| {
            *id == A && matches!(report, PulseReport::OwnStall { stall: told } if *told >= ms(stall - 50))
        }));
    }
}

#[test]
fn a_stalled_observer_says_that_its_word_does_not_count() {
    let mut world = World::settled(2, 1);
    world.stall(A, ms(150));
    world.run_for(ms(152));
    assert!(world.seen(B, A).flags.has(BeatFlags::NO_ACCUSE));
    world.run_for(ms(300));
    assert!(!world.seen(B, A).flags.has(BeatFlags::NO_ACCUSE));
}

#[test]
fn a_peer_that_stands_still_again_and_again_is_given_more_time() {
    let mut world = World::settled(2, 1);
    world.stall(A, ms(180));
    world.run_for(ms(3000));
    assert_eq!(world.seen(B, A).limit, T.t_to, "once is not again");
    for _ in 0..2 {
        world.stall(A, ms(180));
        world.run_for(ms(3000));
    }
    assert!(world.seen(B, A).limit >= T.t_to + ms(100), "{:?}", world.seen(B, A).limit);
    world.run_for(Duration::from_secs(40));
    assert_eq!(world.seen(B, A).limit, T.t_to);
}

#[test]
fn a_node_that_died_during_the_observers_stall_is_still_found_dead() {
    let mut world = World::settled(3, 2);
    world.stall(A, ms(1000));
    world.crash(C);
    world.run_for(ms(1000));
    let woken = world.now;
    world.run_for(ms(400));
    let taken = world.first(A, C, Verdict::Suspect).expect("C is dead").since(woken);
    assert!(taken <= T.t_to + ms(10), "{taken:?}");
}

#[test]
fn drops_in_the_own_socket_accuse_nobody() {
    let mut world = World::settled(2, 1);
    world.cut(B, A, 0);
    world.run_for(ms(240));
    world.step(A, PulseInput::SocketDrops { count: 5 });
    world.run_for(ms(40));
    assert_eq!(world.first(A, B, Verdict::Suspect), None, "A lost them itself");
    world.cut.clear();
    world.run_for(ms(300));
    assert_eq!(world.first(A, B, Verdict::Suspect), None);
    assert_eq!(world.nodes[&A].pulse.counters().dropped, 5);
}

#[test]
fn one_way_loss_shows_on_both_sides() {
    let mut world = World::settled(2, 1);
    world.cut(B, A, 0);
    world.run_for(ms(600));
    assert_eq!(world.seen(A, B).verdict, Verdict::Suspect);
    assert!(!world.seen(A, B).is_heard);
    assert_eq!(world.seen(B, A).verdict, Verdict::Suspect, "A does not hear B");
    assert!(world.seen(B, A).is_heard && !world.seen(B, A).is_two_way);
    assert!(world.seen(B, A).links[0].state != LinkState::Up);
}

#[test]
fn who_hears_nobody_is_suspect_as_soon_as_who_is_silent() {
    for offset in 0..25 {
        for links in [1, 2] {
            let mut world = World::settled(3, links);
            world.run_for(ms(2 * offset));
            for link in 0..links {
                world.cut(A, C, link);
                world.cut(B, C, link);
            }
            let deaf = world.now;
            world.run_for(ms(400));
            for by in [A, B] {
                let taken = world.first(by, C, Verdict::Suspect).expect("C hears nobody").since(deaf);
                assert!(taken >= T.t_to - T.delta && taken <= T.t_to + T.delta + T.jitter + ms(7), "{by}: {taken:?}");
                assert!(world.seen(by, C).is_heard && !world.seen(by, C).is_two_way);
            }
            assert!(world.seen(A, B).suspects.contains(&C) && !world.seen(A, B).hears.contains(&C));
            let blames_itself =
                |id| world.reports.iter().any(|(_, by, r)| *by == id && *r == PulseReport::Isolated(true));
            assert!(blames_itself(C) && !blames_itself(A));
            world.cut.clear();
            world.run_for(ms(100));
            assert_eq!(world.seen(A, C).verdict, Verdict::Reachable);
        }
    }
}

#[test]
fn a_fifth_lost_in_one_direction_only_accuses_nobody() {
    let mut world = World::settled(2, 1);
    world.lossy_sender = Some(A);
    world.loss_percent = 40;
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.accusations(), 0);
}

#[test]
fn another_life_that_is_still_heard_is_a_rival() {
    // The original of B goes on; a machine with its identity beats from its address, and proves itself.
    let mut world = World::settled(2, 1);
    let original = world.nodes.remove(&B).expect("it runs");
    let order = original.order.clone();
    world.start(B, 1, order);
    world.run_for(ms(1000));
    assert_eq!(world.seen(A, B).incarnation, incarnation(B, 1));
    assert_eq!(world.seen(A, B).rival, None);
    let mut original = original.pulse;
    for round in 0..8 {
        world.run_for(ms(50));
        for action in original.step(world.now, PulseInput::Tick) {
            if let PulseAction::Send { header, beat, .. } = action {
                world.step(A, PulseInput::Received(Received { arrival: world.now, header, beat, path: Path::Agreed }));
            }
        }
        world.run_for(ms(5));
        let is_certain = round >= 6;
        assert_eq!(world.seen(A, B).rival, Some(Rival { incarnation: incarnation(B, 0), is_certain }), "{round}");
    }
    world.run_for(Duration::from_secs(7));
    assert_eq!(world.seen(A, B).rival, None, "it is gone");
}

#[test]
fn while_the_agreed_life_of_a_member_is_heard_no_other_takes_its_place() {
    for links in [1, 2] {
        let mut world = World::settled(3, links);
        let copy = OwnIdentity { cluster: 7, id: B, incarnation: incarnation(B, 1), salt: 99, key_epoch: 1 };
        let mut copy = Pulse::new(world.now, copy, world.nodes[&B].order.clone());
        for round in 0..60 {
            world.run_for(ms(10));
            // Everything that A sends to B reaches both machines.
            for (header, beat) in world.record.take().unwrap_or_default() {
                if header.receiver == B {
                    let received = Received { arrival: world.now, header, beat, path: Path::Agreed };
                    let _ = copy.step(world.now, PulseInput::Received(received));
                }
            }
            world.record = Some(Vec::new());
            for action in copy.step(world.now, PulseInput::Tick) {
                if let PulseAction::Send { to: A, header, beat, .. } = action {
                    world.step(
                        A,
                        PulseInput::Received(Received { arrival: world.now, header, beat, path: Path::Agreed }),
                    );
                }
            }
            assert_eq!(world.seen(A, B).incarnation, incarnation(B, 0), "{round}");
        }
        assert_eq!(world.seen(A, B).verdict, Verdict::Reachable);
        assert_eq!(world.seen(A, B).rival, Some(Rival { incarnation: incarnation(B, 1), is_certain: true }));
        assert_eq!(world.seen(C, A).two_lives, [B], "A tells the others");
        assert_eq!(world.seen(B, A).two_lives, [B], "and B itself");
        assert_eq!(world.accusations(), 0);
        // The agreed one dies: then the other one is heard.
        world.crash(B);
        for _ in 0..60 {
            world.run_for(ms(10));
            for action in copy.step(world.now, PulseInput::Tick) {
                if let PulseAction::Send { to: A, header, beat, .. } = action {
                    world.step(
                        A,
                        PulseInput::Received(Received { arrival: world.now, header, beat, path: Path::Agreed }),
                    );
                }
            }
        }
        assert_eq!(world.seen(A, B).incarnation, incarnation(B, 1));
        assert_eq!(world.seen(A, B).rival, None);
    }
}

#[test]
fn a_number_far_ahead_does_not_make_all_that_follow_look_old() {
    let mut world = World::settled(2, 1);
    world.record = Some(Vec::new());
    world.run_for(ms(100));
    let record = world.record.take().expect("it was recorded");
    let (header, beat) = record.into_iter().rfind(|(header, _)| header.sender == B).expect("B beats");
    let forged = BeatHeader { seq: u64::MAX, ..header };
    let beat = Beat { echo: None, ..beat };
    world.step(A, PulseInput::Received(Received { arrival: world.now, header: forged, beat, path: Path::Agreed }));
    assert_eq!(world.nodes[&A].pulse.counters().absurd, 1);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.accusations(), 0);
}

#[test]
fn beats_without_a_fresh_echo_hide_no_death() {
    let mut world = World::settled(2, 1);
    world.record = Some(Vec::new());
    world.run_for(ms(100));
    let record = world.record.take().expect("it was recorded");
    let (header, beat) = record.into_iter().rfind(|(header, _)| header.sender == B).expect("B beats");
    world.crash(B);
    let died = world.now;
    for n in 1..100 {
        world.run_for(ms(10));
        let forged = BeatHeader { seq: header.seq + n, ..header };
        world.step(
            A,
            PulseInput::Received(Received {
                arrival: world.now,
                header: forged,
                beat: beat.clone(),
                path: Path::Agreed,
            }),
        );
    }
    let taken = world.first(A, B, Verdict::Suspect).expect("B is dead").since(died);
    assert!(taken <= T.t_to + T.delta * 2, "{taken:?}");
}

#[test]
fn losing_one_of_two_links_accuses_nobody_and_takes_that_link_down() {
    let mut world = World::settled(2, 2);
    world.cut(A, B, 1);
    world.cut(B, A, 1);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.accusations(), 0);
    let states: Vec<LinkState> = world.seen(A, B).links.iter().map(|link| link.state).collect();
    assert_eq!(states, [LinkState::Up, LinkState::Down]);
    world.cut.clear();
    world.run_for(T.delta * 7);
    assert_eq!(world.seen(A, B).links[1].state, LinkState::Confirming, "seven beats are not enough");
    world.run_for(T.delta * 3);
    assert!(world.seen(A, B).links[1].state == LinkState::Up);
    assert_eq!(world.seen(A, B).links[1].loss_permille, 0, "an outage is no loss");
}

#[test]
fn a_silent_peer_is_pinged_until_it_answers() {
    let mut world = World::settled(2, 1);
    world.cut(B, A, 0);
    world.run_for(ms(100));
    assert_eq!(world.seen(A, B).verdict, Verdict::Late);
    let before = world.sent;
    world.run_for(ms(50));
    assert!(world.sent - before >= 16, "pings and answers follow each other every 5 ms");
    world.cut.clear();
    world.run_for(ms(10));
    assert_eq!(world.seen(A, B).verdict, Verdict::Reachable);
    let before = world.sent;
    world.run_for(ms(100));
    assert!(world.sent - before <= 6, "the burst has ended");
}

#[test]
fn a_restarted_process_is_heard_again_at_once_and_never_suspect() {
    for offset in 0..25 {
        let mut world = World::settled(3, 2);
        world.run_for(ms(2 * offset));
        world.restart(B, 0);
        let restarted = world.now;
        world.run_for(ms(50));
        for (by, of) in [(B, A), (B, C)] {
            let taken = world.first(by, of, Verdict::Reachable).expect("it is heard").since(restarted);
            assert!(taken < ms(5), "{by} needed {taken:?} for {of}");
        }
        world.run_for(ms(1000));
        assert_eq!(world.accusations(), 0);
        assert!(world.seen(A, B).is_two_way);
        assert_eq!(world.nodes[&A].pulse.counters().replayed, 0);
    }
}

#[test]
fn a_restarted_process_is_heard_again_when_a_fifth_is_lost() {
    for seed in 0..200 {
        let mut world = World::settled(2, 2);
        world.chance = seed;
        world.loss_percent = 20;
        world.restart(B, 0);
        world.run_for(ms(240));
        assert!(matches!(world.seen(B, A).verdict, Verdict::Reachable | Verdict::Late), "seed {seed}");
        world.run_for(ms(1000));
        assert_eq!(world.accusations(), 0, "seed {seed}");
    }
}

#[test]
fn a_new_boot_is_reported_as_another_incarnation() {
    let mut world = World::settled(2, 2);
    world.crash(B);
    world.run_for(ms(400));
    assert_eq!(world.seen(A, B).verdict, Verdict::Suspect);
    assert_eq!(world.seen(A, B).incarnation, incarnation(B, 0));
    let order = world.nodes[&A].order.clone();
    world.start(B, 1, order);
    world.run_for(ms(50));
    assert_eq!(world.seen(A, B).verdict, Verdict::Reachable);
    assert_eq!(world.seen(A, B).incarnation, incarnation(B, 1));
}

#[test]
fn records_of_an_earlier_life_prove_nothing() {
    let mut world = World::new(2, 1);
    world.record = Some(Vec::new());
    world.run_for(Duration::from_secs(3));
    // Both restart; then B dies, and its whole earlier life is played back to A.
    let record = world.record.take().expect("it was recorded");
    world.restart(A, 0);
    world.restart(B, 0);
    world.run_for(ms(500));
    world.crash(B);
    world.run_for(ms(300));
    assert_eq!(world.seen(A, B).verdict, Verdict::Suspect);
    world.reports.clear();
    for (header, beat) in record.into_iter().filter(|(header, _)| header.sender == B) {
        let received = Received { arrival: world.now, header, beat, path: Path::Agreed };
        world.step(A, PulseInput::Received(received));
        world.run_for(ms(10));
    }
    assert_eq!(world.first(A, B, Verdict::Reachable), None);
    assert!(world.nodes[&A].pulse.counters().unproven > 50);
}

#[test]
fn records_of_this_life_are_taken_once() {
    let mut world = World::settled(2, 1);
    world.record = Some(Vec::new());
    world.run_for(Duration::from_secs(1));
    let record = world.record.take().expect("it was recorded");
    world.crash(B);
    world.run_for(ms(100));
    for (header, beat) in record.into_iter().filter(|(header, _)| header.sender == B) {
        let received = Received { arrival: world.now, header, beat, path: Path::Agreed };
        world.step(A, PulseInput::Received(received));
        world.run_for(ms(10));
    }
    assert_eq!(world.seen(A, B).verdict, Verdict::Suspect);
    assert!(world.nodes[&A].pulse.counters().replayed >= 20);
}

#[test]
fn a_life_that_was_replaced_does_not_come_back() {
    let mut world = World::settled(2, 1);
    world.record = Some(Vec::new());
    world.run_for(ms(100));
    let record = world.record.take().expect("it was recorded");
    world.restart(B, 0);
    world.run_for(ms(20));
    let (header, beat) = record.into_iter().rfind(|(header, _)| header.sender == B).expect("B beats");
    let received = Received { arrival: world.now, header, beat, path: Path::Agreed };
    world.step(A, PulseInput::Received(received));
    assert_eq!(world.nodes[&A].pulse.counters().retired, 1);
}

#[test]
fn beats_of_strangers_are_counted_and_ignored() {
    let mut world = World::settled(2, 1);
    world.record = Some(Vec::new());
    world.run_for(ms(100));
    let record = world.record.take().expect("it was recorded");
    let (header, beat) = record.into_iter().find(|(header, _)| header.sender == B).expect("B beats");
    for header in [
        BeatHeader { cluster: 8, ..header },
        BeatHeader { receiver: C, ..header },
        BeatHeader { sender: C, ..header },
        BeatHeader { link: LinkId(1), ..header },
        BeatHeader { link: LinkId(255), seq: u64::MAX, ..header },
        BeatHeader { salt: 1, seq: u64::MAX, ..header },
    ] {
        let received = Received { arrival: world.now, header, beat: beat.clone(), path: Path::Agreed };
        world.step(A, PulseInput::Received(received));
    }
    let counters = world.nodes[&A].pulse.counters();
    assert_eq!((counters.foreign, counters.misaddressed, counters.unknown_sender), (1, 1, 3));
}

#[test]
fn a_member_that_was_never_heard_is_suspect_after_four_limits() {
    let mut world = World::new(2, 1);
    world.crash(B);
    world.run_for(T.t_to * 4 - ms(1));
    assert_eq!(world.seen(A, B).verdict, Verdict::Unknown);
    world.run_for(ms(2));
    assert_eq!(world.seen(A, B).verdict, Verdict::Suspect);
    assert_eq!(world.seen(A, B).incarnation, incarnation(B, 0), "the agreed one");
}

#[test]
fn a_new_term_goes_out_at_once() {
    let mut world = World::settled(2, 2);
    world.order(A, |order| order.facts = Facts { term: Term(5), leader: Some(A), is_known: true, ..order.facts });
    world.run_for(ms(1));
    assert_eq!(world.seen(B, A).facts.term, Term(5));
    let before = world.sent;
    for _ in 0..100 {
        world.order(A, |order| order.facts.commit.0 += 1);
        world.run_for(Duration::from_micros(100));
    }
    assert!(world.sent - before <= 2 * 3 + 4, "at most one more beat per 5 ms");
    world.run_for(ms(6));
    assert_eq!(world.seen(B, A).facts.commit.0, 100);
}

#[test]
fn a_leaving_node_says_so_at_once() {
    let mut world = World::settled(2, 1);
    world.order(A, |order| order.is_leaving = true);
    world.run_for(ms(1));
    assert!(world.seen(B, A).flags.has(BeatFlags::LEAVING));
}

#[test]
fn a_worker_or_a_disk_that_stands_still_shows_in_the_beats() {
    let mut world = World::settled(2, 1);
    let progress = |begun, done| Some(Progress { turns: 1, writes_begun: begun, writes_done: done });
    let machine = |world: &mut World, id, progress, is_turning| {
        let machine = world.nodes.get_mut(&id).expect("it runs");
        (machine.progress, machine.is_turning) = (progress, is_turning);
    };
    machine(&mut world, A, progress(5, 5), true);
    machine(&mut world, B, progress(5, 5), true);
    world.run_for(ms(5000));
    assert_eq!((world.seen(A, B).health, world.seen(B, A).health), Default::default());
    // The worker of A hangs; the disk of B does not end its sixth write.
    machine(&mut world, A, progress(5, 5), false);
    machine(&mut world, B, progress(6, 5), true);
    world.run_for(ms(1900));
    world.reports.clear();
    world.run_for(ms(160));
    let told = |by| {
        let is_of = |(_, id, report): &&(Instant, NodeId, PulseReport)| {
            *id == by && matches!(report, PulseReport::Peer(peer) if peer.health != Default::default())
        };
        world.reports.iter().filter(is_of).count()
    };
    assert!(told(A) >= 1 && told(B) >= 1, "two seconds are told at once");
    assert!((ms(1900)..ms(2100)).contains(&world.seen(B, A).health.worker), "{:?}", world.seen(B, A).health);
    assert_eq!(world.seen(B, A).health.disk, ms(0));
    assert!((ms(1900)..ms(2100)).contains(&world.seen(A, B).health.disk));
    assert_eq!(world.seen(A, B).health.worker, ms(0));
    machine(&mut world, A, progress(5, 5), true);
    machine(&mut world, B, progress(7, 6), true);
    world.run_for(ms(100));
    assert_eq!((world.seen(A, B).health, world.seen(B, A).health), Default::default());
}

#[test]
fn a_stall_of_the_whole_process_is_no_lack_of_progress() {
    let mut world = World::settled(2, 1);
    world.nodes.get_mut(&A).expect("it runs").progress = Some(Progress::default());
    world.run_for(ms(100));
    world.stall(A, Duration::from_secs(30));
    world.nodes.get_mut(&A).expect("it runs").is_turning = false;
    world.run_for(Duration::from_millis(30_100));
    assert!(world.nodes[&A].pulse.health().worker < ms(200));
}

#[test]
fn beats_that_are_due_leave_though_more_waits_in_the_sockets() {
    let mut world = World::settled(2, 1);
    world.crash(B);
    let end = world.now + Duration::from_secs(1);
    let before = world.sent;
    while world.now < end {
        world.now += ms(2);
        world.step(A, PulseInput::SendDue);
    }
    assert!(world.sent - before >= 19, "{} beats", world.sent - before);
    assert_eq!(world.first(A, B, Verdict::Suspect), None, "a refutation may wait in the sockets");
    world.step(A, PulseInput::Tick);
    assert!(world.seen(A, B).verdict == Verdict::Suspect);
}

#[test]
fn a_node_cut_off_from_all_blames_itself() {
    let mut world = World::settled(3, 2);
    for (from, to) in [(A, B), (B, A), (A, C), (C, A)] {
        world.cut(from, to, 0);
        world.cut(from, to, 1);
    }
    world.run_for(ms(400));
    let isolated = |id| world.reports.iter().any(|(_, by, r)| *by == id && *r == PulseReport::Isolated(true));
    assert!(isolated(A) && !isolated(B) && !isolated(C));
    world.cut.clear();
    world.run_for(ms(100));
    assert!(world.reports.iter().any(|(_, by, report)| *by == A && *report == PulseReport::Isolated(false)));
}

#[test]
fn two_of_five_lost_at_once_are_not_taken_for_isolation() {
    let mut world = World::settled(5, 2);
    world.crash(NodeId(4));
    world.crash(NodeId(5));
    world.run_for(ms(400));
    assert_eq!(world.seen(A, NodeId(4)).verdict, Verdict::Suspect);
    assert_eq!(world.seen(A, NodeId(5)).verdict, Verdict::Suspect);
    assert!(!world.reports.iter().any(|(_, _, report)| *report == PulseReport::Isolated(true)));
}

#[test]
fn numbers_go_on_when_a_member_returns_to_the_order() {
    let mut world = World::settled(2, 1);
    world.record = Some(Vec::new());
    world.run_for(ms(60));
    world.order(A, |order| order.members.clear());
    world.run_for(ms(100));
    let members = world.nodes[&B].order.members.clone();
    world.order(A, |order| order.members = members);
    world.run_for(ms(100));
    let record = world.record.take().expect("it was recorded");
    let numbers: Vec<u64> = record.iter().filter(|(header, _)| header.sender == A).map(|(h, _)| h.seq).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "a nonce is never used twice: {numbers:?}");
    assert_eq!(world.seen(A, B).verdict, Verdict::Reachable);
}

#[test]
fn a_quiet_cluster_is_quiet() {
    let mut world = World::settled(3, 2);
    let before = world.sent;
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.sent - before, 3 * 2 * 2 * 20 * 10, "a beat per interval, peer and link, and nothing else");
    assert!(world.reports.len() <= 3 * 2 * 11, "{} reports: one a second and peer", world.reports.len());
}

#[test]
fn no_beat_makes_the_pulse_stumble() {
    let mut world = World::settled(3, 2);
    world.record = Some(Vec::new());
    world.run_for(ms(100));
    let record = world.record.take().expect("it was recorded");
    let beats: Vec<_> = record.into_iter().filter(|(header, _)| header.receiver == A).collect();
    for _ in 0..20_000 {
        let pick = world.random() as usize % beats.len();
        let (mut header, mut beat) = beats[pick].clone();
        let extreme = match world.random() % 4 {
            0 => 0,
            1 => u64::MAX,
            2 => world.random(),
            _ => world.random() << 33,
        };
        match world.random() % 10 {
            0 => header.seq = extreme,
            1 => header.salt ^= u128::from(extreme),
            2 => header.link = LinkId(extreme as u8),
            3 => beat.sent_at_us = extreme,
            4 => beat.late_us = extreme as u32,
            5 => (beat.own_stall_ms, beat.next_by_ms) = (extreme as u16, extreme as u16),
            6 => beat.echo = beat.echo.map(|echo| liveness::Echo { seq: extreme, hold_us: extreme as u32, ..echo }),
            7 => beat.kind = BeatKind::Ping { round: extreme as u32 },
            8 => beat.ages.push(liveness::Age { node: NodeId(extreme), units: extreme as u8 }),
            _ => beat.incarnation = Incarnation(extreme),
        }
        header.seq = if world.random().is_multiple_of(2) {
            header.seq
        } else {
            header.seq.saturating_add(world.random() % 5000)
        };
        let received = Received { arrival: world.now, header, beat, path: Path::Agreed };
        world.step(A, PulseInput::Received(received));
        world.run_for(ms(1));
    }
}

/// A beat that came between former addresses proves nothing about those that are agreed, and neither does what was
/// proven about the addresses of an earlier version.
#[test]
fn agreed_addresses_are_proven_by_beats_both_ways_between_them_alone() {
    let mut world = World::settled(2, 2);
    let is_proven = |world: &World| [A, B].map(|id| world.seen(id, if id == A { B } else { A }).links[0].proven);
    let order = |world: &mut World, id: NodeId, version: u64| {
        world.order(id, |order| {
            order.addresses = ConfigVersion(version);
            (order.facts.config_version, order.facts.is_known) = (ConfigVersion(version), true);
        });
    };
    order(&mut world, A, 0);
    order(&mut world, B, 0);
    world.run_for(ms(1500));
    assert_eq!(is_proven(&world), [Some(ConfigVersion(0)); 2]);

    // A has taken the addresses of another version: what B says about those of the old one counts for nothing.
    order(&mut world, A, 9);
    world.run_for(ms(1500));
    assert_eq!(is_proven(&world), [None; 2]);
    assert!(world.seen(A, B).links.iter().all(|link| link.state == LinkState::Up), "the link itself goes on");

    // B follows, and all that arrives still comes over the former addresses.
    world.path = Path::Former;
    order(&mut world, B, 9);
    world.run_for(ms(1500));
    assert_eq!(is_proven(&world), [None; 2]);
    world.path = Path::Agreed;
    world.run_for(ms(1500));
    assert_eq!(is_proven(&world), [Some(ConfigVersion(9)); 2]);
    world.path = Path::Former;
    world.run_for(ms(1500));
    assert_eq!(is_proven(&world), [None; 2], "what is proven stays so only while beats come");
}
