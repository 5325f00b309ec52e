//! A cluster in one process: members, their disks, a network, and a detector as simple as it can be.
//!
//! After every step: one leader per term, equal entries at equal indexes, equal states after equal indexes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use model::{Instant, LogIndex, NodeId, Profile, Table, Term, Write};

use crate::{Action, Committed, Config, Consensus, Input, MembershipChange, Message, PeerFacts, Role, Stored};

pub const MS: u64 = 1_000_000;
const BEAT_EVERY: u64 = 50 * MS;
const DETECT_EVERY: u64 = 5 * MS;
const SUSPECT_AFTER: u64 = 250 * MS;

/// SplitMix64.
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What is on a disk.
#[derive(Clone, Default)]
pub struct Disk {
    pub meta: BTreeMap<u64, Vec<u8>>,
    pub log: BTreeMap<u64, Vec<u8>>,
}

impl Disk {
    pub fn write(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Put { table, key, value } => {
                    self.table(*table).insert(*key, value.clone());
                }
                Write::DeleteFrom { table, from } => drop(self.table(*table).split_off(from)),
                Write::DeleteBelow { table, below } => {
                    let kept = self.table(*table).split_off(below);
                    *self.table(*table) = kept;
                }
                Write::Delete { table, key } => drop(self.table(*table).remove(key)),
            }
        }
    }

    fn table(&mut self, table: Table) -> &mut BTreeMap<u64, Vec<u8>> {
        match table {
            Table::Log => &mut self.log,
            Table::Meta => &mut self.meta,
            Table::Journal => panic!("the log writes no journal"),
        }
    }

    pub fn read(&self) -> Stored {
        Stored::decode(&self.meta, self.log.clone().into_iter().collect()).expect("what was written is readable")
    }
}

/// The state machine: how far, and a digest over everything up to there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub applied: u64,
    pub digest: u64,
}

impl State {
    pub fn encode(self) -> Vec<u8> {
        [self.applied.to_le_bytes(), self.digest.to_le_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> State {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        State { applied: number(0), digest: number(8) }
    }

    fn apply(&mut self, entry: &Committed) {
        assert_eq!(self.applied + 1, entry.index.0, "entries are handed out one after the other");
        self.applied = entry.index.0;
        for byte in &entry.data {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3).wrapping_add(self.applied);
        }
    }
}

#[derive(Clone)]
struct Beat {
    suspects: Vec<NodeId>,
    hears: BTreeSet<NodeId>,
    last_term: Term,
    last_index: LogIndex,
    priority: i64,
}

pub struct Machine {
    pub consensus: Option<Consensus>,
    pub disk: Disk,
    pub state: State,
    pub committed: Vec<Committed>,
    pub refused: Vec<u64>,
    pub priority: i64,
    life: u64,
    disk_free_at: u64,
    writes: VecDeque<(u64, Vec<Write>)>,
    compacted: u64,
    /// When its next tick is scheduled; others are void.
    wake_at: u64,
    heard: BTreeMap<NodeId, (u64, Beat)>,
    suspects: BTreeSet<NodeId>,
    /// Verdicts made by hand.
    pub accuses: BTreeSet<NodeId>,
    pub snapshots_installed: usize,
    is_paused: bool,
}

enum Event {
    Message { from: NodeId, to: NodeId, bytes: Vec<u8> },
    Beat { from: NodeId, to: NodeId, beat: Beat },
    Wake { node: NodeId, life: u64, at: u64 },
    Durable { node: NodeId, life: u64 },
    Detect { node: NodeId, life: u64 },
    BeatOut { node: NodeId, life: u64 },
}

pub struct Cluster {
    pub now: u64,
    pub chance: Chance,
    pub machines: BTreeMap<NodeId, Machine>,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    pub cuts: BTreeSet<(NodeId, NodeId)>,
    pub loss_percent: u64,
    pub duplicate_percent: u64,
    pub delay: (u64, u64),
    pub write_takes: (u64, u64),
    pub compact_every: u64,
    pub tail_entries: u64,
    pub lose_snapshots: usize,
    pub leaders: BTreeMap<Term, NodeId>,
    /// When each term got its leader.
    pub elected_at: BTreeMap<Term, u64>,
    /// Verdicts: when, who, about whom.
    pub verdicts: Vec<(u64, NodeId, NodeId)>,
    agreed: BTreeMap<u64, (Term, Vec<u8>)>,
    digests: BTreeMap<u64, u64>,
    next_proposal: u64,
}

pub fn id(number: u64) -> NodeId {
    NodeId(number)
}

impl Cluster {
    /// One founder, 1, that leads.
    pub fn founded(seed: u64) -> Cluster {
        let mut cluster = Cluster {
            now: MS,
            chance: Chance(seed),
            machines: BTreeMap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            cuts: BTreeSet::new(),
            loss_percent: 0,
            duplicate_percent: 0,
            delay: (MS / 10, MS / 2),
            write_takes: (MS / 2, 3 * MS),
            compact_every: u64::MAX / 2,
            tail_entries: 500,
            lose_snapshots: 0,
            leaders: BTreeMap::new(),
            elected_at: BTreeMap::new(),
            verdicts: Vec::new(),
            agreed: BTreeMap::new(),
            digests: BTreeMap::new(),
            next_proposal: 1,
        };
        cluster.add_machine(id(1), &crate::founding(State { applied: 1, digest: 0 }.encode(), id(1)));
        cluster
    }

    /// Voters 1 to `count`, all caught up.
    pub fn of(count: u64, seed: u64) -> Cluster {
        let mut cluster = Cluster::founded(seed);
        for number in 2..=count {
            cluster.join(id(number), 0);
        }
        cluster.settle();
        cluster
    }

    pub fn add_machine(&mut self, node: NodeId, writes: &[Write]) {
        let mut disk = Disk::default();
        disk.write(writes);
        let machine = Machine {
            consensus: None,
            disk,
            state: State::default(),
            committed: Vec::new(),
            refused: Vec::new(),
            priority: 0,
            life: 0,
            disk_free_at: 0,
            writes: VecDeque::new(),
            compacted: 0,
            wake_at: u64::MAX,
            heard: BTreeMap::new(),
            suspects: BTreeSet::new(),
            accuses: BTreeSet::new(),
            snapshots_installed: 0,
            is_paused: false,
        };
        self.machines.insert(node, machine);
        self.start(node);
    }

    /// Lets a new node in and waits until it votes.
    pub fn join(&mut self, node: NodeId, priority: i64) {
        self.add_machine(node, &crate::joining());
        self.machine(node).priority = priority;
        self.crash(node);
        self.start(node);
        self.until("a learner", |cluster| {
            cluster.change(MembershipChange::AddLearner(node));
            cluster.leader().is_some_and(|leader| cluster.node(leader).learners().contains(&node))
        });
        self.promote(node);
    }

    pub fn promote(&mut self, node: NodeId) {
        self.until("a voter", |cluster| {
            let Some(leader) = cluster.leader() else { return false };
            let is_ready = cluster.node(leader).matched(node) >= Some(cluster.node(leader).commit());
            if is_ready {
                cluster.change(MembershipChange::Promote(node));
            }
            cluster.leader().is_some_and(|leader| cluster.node(leader).voters().contains(&node))
        });
    }

    pub fn change(&mut self, change: MembershipChange) {
        if let Some(leader) = self.leader() {
            self.input(leader, Input::Change(change));
        }
    }

    pub fn start(&mut self, node: NodeId) {
        let now = self.at();
        let tail_entries = self.tail_entries;
        let machine = self.machine(node);
        assert!(machine.consensus.is_none());
        let stored = machine.disk.read();
        machine.state = stored.snapshot().map(State::decode).unwrap_or_default();
        let mut config = Config::of(node, 7, Profile::Lan);
        config.priority = machine.priority;
        config.tail_entries = tail_entries;
        machine.consensus = Some(Consensus::new(now, config, stored).unwrap());
        let life = machine.life;
        let shift = self.chance.below(BEAT_EVERY);
        self.schedule(shift, Event::BeatOut { node, life });
        self.schedule(shift % DETECT_EVERY, Event::Detect { node, life });
        self.input(node, Input::Tick);
    }

    /// Power off: whatever was not durable is gone.
    pub fn crash(&mut self, node: NodeId) {
        let machine = self.machine(node);
        machine.consensus = None;
        machine.life += 1;
        machine.disk_free_at = 0;
        machine.writes.clear();
        machine.wake_at = u64::MAX;
        machine.heard.clear();
        machine.suspects.clear();
    }

    /// Stopped, with everything that arrives waiting; or going on.
    pub fn pause(&mut self, node: NodeId, is_paused: bool) {
        self.machine(node).is_paused = is_paused;
    }

    pub fn cut(&mut self, left: NodeId, right: NodeId) {
        self.cuts.insert((left, right));
        self.cuts.insert((right, left));
    }

    pub fn isolate(&mut self, node: NodeId) {
        let others: Vec<NodeId> = self.machines.keys().copied().filter(|other| *other != node).collect();
        for other in others {
            self.cut(node, other);
        }
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    pub fn machine(&mut self, node: NodeId) -> &mut Machine {
        self.machines.get_mut(&node).unwrap()
    }

    pub fn node(&self, node: NodeId) -> &Consensus {
        self.machines[&node].consensus.as_ref().unwrap()
    }

    pub fn is_up(&self, node: NodeId) -> bool {
        self.machines[&node].consensus.is_some()
    }

    pub fn at(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    /// The running leader of the highest term.
    pub fn leader(&self) -> Option<NodeId> {
        self.machines
            .iter()
            .filter_map(|(node, machine)| Some((machine.consensus.as_ref()?, *node)))
            .filter(|(consensus, _)| consensus.is_leader())
            .max_by_key(|(consensus, _)| consensus.term())
            .map(|(_, node)| node)
    }

    pub fn term(&self) -> Term {
        self.machines.values().filter_map(|machine| Some(machine.consensus.as_ref()?.term())).max().unwrap()
    }

    /// Proposes at the leader; the proposal's id.
    pub fn propose(&mut self) -> u64 {
        let proposal = self.next_proposal;
        self.next_proposal += 1;
        if let Some(leader) = self.leader() {
            self.input(leader, Input::Propose { id: proposal, data: format!("entry {proposal}").into_bytes() });
        }
        proposal
    }

    pub fn propose_many(&mut self, count: u64) {
        for _ in 0..count {
            self.propose();
            self.run(MS);
        }
    }

    /// Runs until everybody who is up agrees on everything and follows one leader.
    pub fn settle(&mut self) {
        self.until("agreement", |cluster| {
            let Some(leader) = cluster.leader() else { return false };
            let (commit, last) = (cluster.node(leader).commit(), cluster.node(leader).last_index());
            let members: Vec<NodeId> =
                cluster.node(leader).voters().iter().chain(cluster.node(leader).learners()).copied().collect();
            commit == last
                && members
                    .iter()
                    .filter(|node| cluster.is_up(**node))
                    .all(|node| cluster.node(*node).applied() == commit && cluster.node(*node).leader() == Some(leader))
        });
        self.run(100 * MS);
    }

    pub fn until(&mut self, what: &str, mut is_true: impl FnMut(&mut Cluster) -> bool) {
        let end = self.now + 60_000 * MS;
        while !is_true(self) {
            assert!(self.now < end, "no {what} within a minute");
            self.run(MS);
        }
    }

    pub fn run(&mut self, nanos: u64) {
        let end = self.now + nanos;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > end {
                break;
            }
            self.now = self.now.max(entry.key().0);
            let event = entry.remove();
            self.handle(event);
        }
        self.now = end;
    }

    fn schedule(&mut self, after: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((self.now + after, self.next_event), event);
    }

    fn lives(&self, node: NodeId, life: u64) -> bool {
        self.machines[&node].life == life && self.is_up(node)
    }

    fn handle(&mut self, event: Event) {
        let owner = match &event {
            Event::Message { to, .. } | Event::Beat { to, .. } => *to,
            Event::Wake { node, .. }
            | Event::Durable { node, .. }
            | Event::Detect { node, .. }
            | Event::BeatOut { node, .. } => *node,
        };
        if self.machines[&owner].is_paused {
            self.schedule(MS, event);
            return;
        }
        match event {
            Event::Message { from, to, bytes } if self.is_up(to) => {
                let message: Message = minicbor::decode(&bytes).unwrap();
                let was_snapshot = message.is_snapshot();
                self.input(to, Input::Message { from, message });
                if was_snapshot && self.is_up(from) {
                    self.input(from, Input::SnapshotSent { to, ok: true });
                }
            }
            Event::Beat { from, to, beat } if self.is_up(to) => {
                let now = self.now;
                self.machine(to).heard.insert(from, (now, beat));
                self.detect(to, true);
            }
            Event::Wake { node, life, at } if self.lives(node, life) && self.machines[&node].wake_at == at => {
                self.machine(node).wake_at = u64::MAX;
                self.input(node, Input::Tick);
            }
            Event::Durable { node, life } if self.lives(node, life) => {
                let (token, writes) = self.machine(node).writes.pop_front().unwrap();
                self.machine(node).disk.write(&writes);
                self.input(node, Input::Persisted { token });
            }
            Event::Detect { node, life } if self.lives(node, life) => {
                self.detect(node, false);
                self.schedule(DETECT_EVERY, Event::Detect { node, life });
            }
            Event::BeatOut { node, life } if self.lives(node, life) => {
                self.beat(node);
                self.schedule(BEAT_EVERY, Event::BeatOut { node, life });
            }
            Event::Message { .. }
            | Event::Beat { .. }
            | Event::Wake { .. }
            | Event::Durable { .. }
            | Event::Detect { .. }
            | Event::BeatOut { .. } => {}
        }
    }

    /// The verdicts of one node at this moment.
    pub fn detect(&mut self, node: NodeId, has_news: bool) {
        let now = self.now;
        let machine = self.machine(node);
        let mut suspects: BTreeSet<NodeId> = machine
            .heard
            .iter()
            .filter(|(_, (heard_at, _))| now - heard_at > SUSPECT_AFTER)
            .map(|(peer, _)| *peer)
            .collect();
        suspects.extend(&machine.accuses);
        let is_new = suspects != machine.suspects;
        let fresh: Vec<NodeId> = suspects.difference(&machine.suspects).copied().collect();
        machine.suspects = suspects;
        if !is_new && !has_news {
            return;
        }
        let facts = machine.heard.iter().map(|(peer, (_, beat))| PeerFacts {
            id: *peer,
            is_suspect: machine.suspects.contains(peer),
            is_two_way: beat.hears.contains(&node) && !machine.suspects.contains(peer),
            suspects: beat.suspects.clone(),
            last_term: beat.last_term,
            last_index: beat.last_index,
            priority: beat.priority,
        });
        let facts = facts.collect();
        self.verdicts.extend(fresh.into_iter().map(|accused| (now, node, accused)));
        if is_new {
            self.beat(node);
        }
        self.input(node, Input::Peers(facts));
    }

    /// Sends a beat to everybody.
    pub fn beat(&mut self, node: NodeId) {
        let machine = &self.machines[&node];
        let consensus = machine.consensus.as_ref().unwrap();
        let beat = Beat {
            suspects: machine.suspects.iter().copied().collect(),
            hears: machine.heard.keys().copied().filter(|peer| !machine.suspects.contains(peer)).collect(),
            last_term: consensus.last_term(),
            last_index: consensus.last_index(),
            priority: machine.priority,
        };
        for to in self.machines.keys().copied().filter(|to| *to != node).collect::<Vec<_>>() {
            if !self.cuts.contains(&(node, to)) && !self.chance.percent(self.loss_percent / 2) {
                let delay = self.draw(self.delay);
                self.schedule(delay, Event::Beat { from: node, to, beat: beat.clone() });
            }
        }
    }

    pub fn draw(&mut self, (min, max): (u64, u64)) -> u64 {
        min + self.chance.below(max - min + 1)
    }

    pub fn input(&mut self, node: NodeId, input: Input) {
        let now = self.at();
        let Some(consensus) = self.machine(node).consensus.as_mut() else { return };
        let actions = consensus.step(now, input);
        let due = consensus.deadline();
        let life = self.machine(node).life;
        let at = due.map_or(u64::MAX, Instant::as_nanos).max(self.now + 1);
        if at < self.machines[&node].wake_at {
            self.machine(node).wake_at = at;
            self.schedule(at - self.now, Event::Wake { node, life, at });
        }
        for action in actions {
            self.act(node, action);
        }
    }

    fn act(&mut self, node: NodeId, action: Action) {
        match action {
            Action::Send { to, message } => self.send(node, to, &message),
            Action::Persist { token, writes } => {
                let takes = self.draw(self.write_takes);
                let (now, life) = (self.now, self.machine(node).life);
                let done_at = self.machine(node).disk_free_at.max(now) + takes;
                self.machine(node).disk_free_at = done_at;
                self.machine(node).writes.push_back((token, writes));
                self.schedule(done_at - now, Event::Durable { node, life });
            }
            Action::Committed(entries) => {
                for entry in entries {
                    let seen = self.agreed.entry(entry.index.0).or_insert((entry.term, entry.data.clone()));
                    assert_eq!(*seen, (entry.term, entry.data.clone()), "{node} disagrees on entry {}", entry.index);
                    self.machine(node).state.apply(&entry);
                    self.machine(node).committed.push(entry);
                    self.check_state(node);
                }
                let compact_every = self.compact_every;
                let machine = self.machine(node);
                let state = machine.state;
                if state.applied >= machine.compacted + compact_every {
                    machine.compacted = state.applied;
                    self.input(node, Input::Compact { upto: LogIndex(state.applied), snapshot: state.encode() });
                }
            }
            Action::Install { index, snapshot, .. } => {
                let state = State::decode(&snapshot);
                assert_eq!(state.applied, index.0);
                assert!(state.applied >= self.machine(node).state.applied, "{node} goes back in time");
                self.machine(node).state = state;
                self.machine(node).snapshots_installed += 1;
                self.check_state(node);
            }
            Action::RoleChanged { role: Role::Leader, term, leader } => {
                assert_eq!(leader, Some(node));
                let first = *self.leaders.entry(term).or_insert(node);
                assert_eq!(first, node, "term {term} has two leaders");
                self.elected_at.entry(term).or_insert(self.now);
            }
            Action::RoleChanged { .. } | Action::MembershipChanged { .. } => {}
            Action::Refused { id, .. } => self.machine(node).refused.push(id),
        }
    }

    fn check_state(&mut self, node: NodeId) {
        let state = self.machine(node).state;
        let digest = *self.digests.entry(state.applied).or_insert(state.digest);
        assert_eq!(digest, state.digest, "{node} has another state after entry {}", state.applied);
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: &Message) {
        let bytes = minicbor::to_vec(message).unwrap();
        assert!(bytes.len() <= message.bytes_max(), "a {:?} is longer than said", message.kind());
        let is_lost = self.cuts.contains(&(from, to)) || self.chance.percent(self.loss_percent);
        if message.is_snapshot() && self.lose_snapshots > 0 {
            self.lose_snapshots -= 1;
            return;
        }
        if is_lost || !self.machines.contains_key(&to) {
            return;
        }
        if self.chance.percent(self.duplicate_percent) {
            let delay = self.draw(self.delay) * 3;
            self.schedule(delay, Event::Message { from, to, bytes: bytes.clone() });
        }
        let delay = self.draw(self.delay);
        self.schedule(delay, Event::Message { from, to, bytes });
    }
}

/// How long after the second verdict about `accused` the leader of `term` was there.
pub fn after_second_verdict(cluster: &Cluster, accused: NodeId, since: u64, term: Term) -> Duration {
    let mut times: Vec<u64> =
        cluster.verdicts.iter().filter(|(at, _, whom)| *at >= since && *whom == accused).map(|(at, ..)| *at).collect();
    times.sort_unstable();
    Duration::from_nanos(cluster.elected_at[&term].saturating_sub(times[1]))
}
