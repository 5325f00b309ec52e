//! The world around the nodes: one heap of events, and whoever is told about each.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

use consensus::Stored;
use liveness::{OwnIdentity, Path, PeerOrder, Pulse, PulseAction, PulseInput, PulseOrder, PulseReport, Received};
use model::{
    Bug, Bugs, CallKey, Domain, FenceAction, FenceName, FenceOutcome, LinkId, NodeConfig, NodeId, NodeName, NodeRole,
    Profile, UnitName,
};
use node::{Action, Addresses, Answer, Halt, Identity, Input, Moment, Node, Place, Request, Settings, Start};
use state::Command;

use crate::agents::Moods;
use crate::chance::Chance;
use crate::clock::{At, Clock, MICROS, MILLIS};
use crate::devices::DeviceMood;
use crate::disk::Disk;
use crate::faults::{Ambush, Fault};
use crate::invariants::{Edits, Violation, Watch};
use crate::machine::{Machine, PulseIn, SOCKET_MAX, Worker};
use crate::network::Network;
use crate::trace::Trace;

/// The cluster of every run.
pub(crate) const CLUSTER: u64 = 0x00CA_2DEA;
/// The tag of the null cipher: as long as a real one.
const TAG: [u8; 16] = [0; 16];

/// Everything: the machines, what is between them, and who looks on.
pub struct World {
    pub(crate) now: At,
    pub(crate) chance: Chance,
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    pub(crate) moods: Moods,
    pub(crate) device_moods: BTreeMap<FenceName, DeviceMood>,
    /// Devices that a machine cannot reach, though its networks work.
    pub(crate) out_of_reach: BTreeSet<(FenceName, usize)>,
    /// Clones by the machine that each was made of.
    pub(crate) clones: BTreeMap<usize, usize>,
    pub(crate) watch: Watch,
    pub(crate) trace: Trace,
    /// Power switches turn a machine on again by themselves, some seconds after they turned it off.
    pub(crate) switches_turn_on: bool,
    pub(crate) answers: BTreeMap<u64, Answer>,
    /// What was planned with `plan`.
    pub(crate) script: Vec<Fault>,
    /// What waits for its moment.
    pub(crate) ambushes: Vec<Ambush>,
    /// Is it asked of every `off` whom it hits?
    pub(crate) judges_every_off: bool,
    /// Since when units that can run do not.
    pub(crate) missing_since: BTreeMap<UnitName, At>,
    /// For how long something may be missing, and until when at least.
    pub(crate) patience: (u64, At),
    /// All machines were off at once.
    pub(crate) all_power_lost: bool,
    /// When the last fault struck or ended.
    pub(crate) last_fault_at: At,
    /// What the cluster file says of each machine.
    pub(crate) node_configs: Vec<NodeConfig>,
    pub(crate) by_id: BTreeMap<NodeId, usize>,
    /// When a fence device that did not work did so again.
    pub(crate) devices_mended_at: Option<At>,
    /// Some machine has other addresses than at first.
    pub(crate) has_moved: bool,
    /// What mistakes in the cluster file may do, from the first one on.
    pub(crate) edits: Option<Edits>,
    settings: Settings,
    steps: u64,
    heap: BinaryHeap<Scheduled>,
    sequence: u64,
    numbers: u64,
}

struct Scheduled {
    at: At,
    sequence: u64,
    event: Event,
}

/// Something that will happen.
pub(crate) enum Event {
    NodeWakes { machine: usize, life: u64 },
    PulseWakes { machine: usize, life: u64 },
    BeatArrives { to: usize, bytes: Rc<[u8]>, path: Path },
    MessageArrives { to: usize, from: NodeId, bytes: Rc<[u8]>, stream_to: Option<u64> },
    Durable { machine: usize, life: u64, token: u64 },
    CountsAsDurable { machine: usize, life: u64, token: u64 },
    Report { machine: usize, life: u64, report: Box<PulseReport> },
    Order { machine: usize, life: u64, order: Box<PulseOrder> },
    CallEnds { machine: usize, boot: u64, key: CallKey, number: u64 },
    DeviceActs { target: usize, action: FenceAction, covers: BTreeSet<Domain> },
    DeviceAnswers { machine: usize, life: u64, key: u64, answer: DeviceAnswer },
    Resumes { machine: usize },
    WorkerStarts { machine: usize, boot: u64 },
    BootServicesStart { machine: usize, boot: u64 },
    PowersOn { machine: usize },
    ServicesEnd { machine: usize, boot: u64 },
    Fault { number: usize },
    Admitted { name: NodeName, id: NodeId },
    Removed { id: NodeId },
}

/// The answer of a fence device.
pub(crate) enum DeviceAnswer {
    /// This.
    Given(FenceOutcome),
    /// The status at that moment, of what the device can cut this machine off from.
    Status { target: Option<usize>, covers: BTreeSet<Domain> },
}

impl World {
    /// `machines` that are off, with `links` networks between them.
    pub(crate) fn new(
        seed: u64,
        machines: Vec<(&str, NodeRole)>,
        links: usize,
        profile: Profile,
        bugs: Bugs,
        reference_bugs: Bugs,
        is_told: bool,
    ) -> Self {
        let mut chance = Chance::new(seed);
        let compact_every = chance.pick(&[40, 100, 300, 2000]);
        let settings = Settings {
            profile,
            seed,
            compact_every,
            digest_every: 64,
            tail_entries: 64 + compact_every / 4,
            bugs,
            ..Settings::default()
        };
        let count = machines.len();
        World {
            now: 0,
            chance,
            network: Network::new(count, links),
            machines: machines.into_iter().map(|(name, role)| Machine::new(name, role)).collect(),
            moods: Moods::new(),
            device_moods: BTreeMap::new(),
            out_of_reach: BTreeSet::new(),
            clones: BTreeMap::new(),
            watch: Watch::new(count, reference_bugs),
            trace: Trace::new(is_told),
            switches_turn_on: false,
            answers: BTreeMap::new(),
            script: Vec::new(),
            ambushes: Vec::new(),
            judges_every_off: true,
            missing_since: BTreeMap::new(),
            patience: (0, 0),
            all_power_lost: false,
            last_fault_at: 0,
            node_configs: Vec::new(),
            by_id: BTreeMap::new(),
            devices_mended_at: None,
            has_moved: false,
            edits: None,
            settings,
            steps: 0,
            heap: BinaryHeap::new(),
            sequence: 0,
            numbers: 0,
        }
    }

    // Looking on.

    /// How the nodes are set.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// World time.
    pub fn now(&self) -> At {
        self.now
    }

    /// Steps of both halves of all nodes so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The record of the run.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The first broken promise, if any.
    pub fn violation(&self) -> Option<&Violation> {
        self.watch.violation.as_ref()
    }

    /// The place of the machine with this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.machines.iter().position(|machine| machine.name.as_str() == name)
    }

    /// The node on this machine, if its worker runs.
    pub fn node(&self, machine: usize) -> Option<&Node> {
        self.machines[machine].worker.as_ref().map(|worker| &worker.node)
    }

    /// Why the leader wants the unit where it wants it.
    pub(crate) fn plan_reason(&self, unit: &model::UnitName) -> Option<String> {
        let leader = self.leader()?;
        let view = self.node(leader)?.view(self.moment(leader));
        view.plan.decisions.get(unit).map(|decision| decision.reason.clone())
    }

    /// The machine whose node leads, in the newest term.
    pub fn leader(&self) -> Option<usize> {
        (0..self.machines.len())
            .filter_map(|m| self.node(m).filter(|node| node.consensus().is_leader()).map(|n| (n.consensus().term(), m)))
            .max()
            .map(|(_, m)| m)
    }

    /// Names this worker among all that ever were; 0 if none runs.
    pub(crate) fn life(&self, m: usize) -> u64 {
        self.machines[m].worker.as_ref().map_or(0, |worker| worker.life)
    }

    /// Is this bug planted?
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.settings.bugs.has(bug)
    }

    pub(crate) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn violate(&mut self, invariant: &'static str, sentence: String) {
        self.watch.violate(self.now, invariant, sentence);
    }

    pub(crate) fn moment(&self, m: usize) -> Moment {
        let clock = &self.machines[m].clock;
        Moment { at: clock.local(self.now), wall: clock.wall(self.now) }
    }

    /// Keeps what mattered, and springs what waited for it.
    pub(crate) fn note(&mut self, what: &str, subject: &str, detail: &str) {
        self.trace.note(self.now, what, subject, detail);
        if let Some(verdict) = self.edits.as_ref().map(|edits| edits.check(what, subject, detail)) {
            self.watch.judge(self.now, "edits-are-harmless", verdict);
        }
        let mut sprung = Vec::new();
        for ambush in &mut self.ambushes {
            if ambush.word == what && ambush.countdown > 0 {
                ambush.countdown -= 1;
                if ambush.countdown == 0 {
                    sprung.push((ambush.pause, ambush.fault.clone()));
                }
            }
        }
        for (pause, fault) in sprung {
            self.plan(self.now + pause, fault);
        }
        self.ambushes.retain(|ambush| ambush.countdown > 0);
    }

    // Time.

    pub(crate) fn after(&mut self, pause: u64, event: Event) {
        self.at(self.now.saturating_add(pause), event);
    }

    pub(crate) fn at(&mut self, at: At, event: Event) {
        self.sequence += 1;
        self.heap.push(Scheduled { at: at.max(self.now), sequence: self.sequence, event });
    }

    /// Lets everything happen until `until`, or until a promise is broken.
    pub fn run_until(&mut self, until: At) {
        while self.watch.violation.is_none() && self.heap.peek().is_some_and(|next| next.at <= until) {
            let Some(Scheduled { at, event, .. }) = self.heap.pop() else { break };
            self.now = at;
            self.watch.set_now(at);
            self.happen(event);
        }
        if self.watch.violation.is_none() {
            self.now = self.now.max(until);
        }
    }

    /// Runs until `is_done`, which is asked every 5 ms; false if that does not come within `limit` nanoseconds.
    pub fn run_while_not(&mut self, limit: u64, is_done: impl Fn(&World) -> bool) -> bool {
        let end = self.now + limit;
        while self.watch.violation.is_none() {
            if is_done(self) {
                return true;
            }
            if self.now >= end {
                return false;
            }
            self.run_until((self.now + 5 * MILLIS).min(end));
        }
        false
    }

    fn happen(&mut self, event: Event) {
        self.trace.mix([self.now, event.kind(), event.machine() as u64, event.weight()]);
        match event {
            Event::NodeWakes { machine, life } => {
                if self.is_life(machine, life)
                    && self.machines[machine].worker.as_ref().is_some_and(|w| w.node_wake == self.now)
                {
                    self.wake_node(machine);
                }
            }
            Event::PulseWakes { machine, life } => {
                if self.is_life(machine, life)
                    && self.machines[machine].worker.as_ref().is_some_and(|w| w.pulse_wake == self.now)
                {
                    self.wake_pulse(machine);
                }
            }
            Event::BeatArrives { to, bytes, path } => self.beat_arrives(to, bytes, path),
            Event::MessageArrives { to, from, bytes, stream_to } => self.message_arrives(to, from, &bytes, stream_to),
            Event::Durable { machine, life, token } => {
                if self.is_life(machine, life) && !self.machines[machine].disk.is_hung {
                    self.machines[machine].disk.complete(token);
                    if let Some(worker) = self.machines[machine].worker.as_mut() {
                        worker.progress.writes_done += 1;
                    }
                    if !self.has(Bug::DurableTooEarly) {
                        self.tell_node(machine, Input::Persisted { token });
                    }
                }
            }
            Event::CountsAsDurable { machine, life, token } => {
                if self.is_life(machine, life) {
                    self.tell_node(machine, Input::Persisted { token });
                }
            }
            Event::Report { machine, life, report } => {
                if self.is_life(machine, life) {
                    self.tell_node(machine, Input::Pulse(*report));
                }
            }
            Event::Order { machine, life, order } => {
                if self.is_life(machine, life) {
                    self.order_arrives(machine, order);
                }
            }
            Event::CallEnds { machine, boot, key, number } => self.end_call(machine, boot, key, number),
            Event::DeviceActs { target, action, covers } => self.device_acts(target, action, &covers),
            Event::DeviceAnswers { machine, life, key, answer } => self.device_answers(machine, life, key, answer),
            Event::Resumes { machine } => self.resume(machine),
            Event::WorkerStarts { machine, boot } => {
                if self.machines[machine].boot == boot {
                    self.start_worker(machine);
                }
            }
            Event::BootServicesStart { machine, boot } => {
                if self.machines[machine].boot == boot {
                    for resource in self.machines[machine].starts_at_boot.clone() {
                        self.start_wild(machine, &resource);
                    }
                }
            }
            Event::PowersOn { machine } => self.power_on(machine),
            Event::ServicesEnd { machine, boot } => {
                if self.machines[machine].boot == boot {
                    self.end_services(machine);
                }
            }
            Event::Admitted { name, id } => self.on_admitted(&name, id),
            Event::Removed { id } => self.on_removed(id),
            Event::Fault { number } => {
                let fault = self.script[number].clone();
                self.inflict(&fault);
            }
        }
    }

    fn is_life(&self, m: usize, life: u64) -> bool {
        self.machines[m].worker.as_ref().is_some_and(|worker| worker.life == life)
    }

    // Power and processes.

    /// The machine gets power and boots.
    pub(crate) fn power_on(&mut self, m: usize) {
        if self.machines[m].is_on || self.machines[m].id.is_none() {
            return;
        }
        let base = self.chance.between(3_000_000_000, 90_000_000_000);
        let drift = self.chance.pick(&[0, 0, 20, -20, 200, -200]);
        let machine = &mut self.machines[m];
        machine.is_on = true;
        machine.powered_at = self.now;
        machine.boot += 1;
        machine.halted = None;
        machine.broke = false;
        machine.clock = Clock::new(self.now, base, drift, machine.clock.wall_offset_ms);
        let boot = machine.boot;
        let name = machine.name.clone();
        self.note("power-on", name.as_str(), &format!("boot {boot}"));
        let quick = self.chance.between(100 * MILLIS, 600 * MILLIS);
        let pause = self.machines[m].boots_in.unwrap_or(quick);
        if !self.machines[m].starts_at_boot.is_empty() {
            self.after(pause, Event::BootServicesStart { machine: m, boot });
        }
        let pause = pause + self.machines[m].disk.opens_in;
        self.machines[m].booted_at = self.now + pause;
        self.after(pause, Event::WorkerStarts { machine: m, boot });
    }

    /// The machine loses its power, at once.
    pub(crate) fn power_off(&mut self, m: usize, why: &str) {
        let machine = &mut self.machines[m];
        if !machine.is_on {
            return;
        }
        machine.is_on = false;
        machine.lost_power_at = self.now;
        machine.services.clear();
        machine.calls.clear();
        machine.disk.crash(self.now, &mut self.chance);
        machine.worker = None;
        machine.frozen_until = 0;
        machine.end_stalls(self.now);
        let name = machine.name.clone();
        self.watch.forget(m);
        self.all_power_lost |= self.machines.iter().all(|machine| !machine.is_on);
        self.note("power-off", name.as_str(), why);
    }

    /// The worker process is killed; the supervisor starts another one. What it started goes on.
    pub(crate) fn crash_worker(&mut self, m: usize) {
        let machine = &mut self.machines[m];
        if machine.worker.is_none() {
            return;
        }
        machine.disk.crash(self.now, &mut self.chance);
        machine.worker = None;
        machine.end_stalls(self.now);
        machine.services.values_mut().for_each(|service| service.is_watched = false);
        let (boot, name) = (machine.boot, machine.name.clone());
        self.watch.forget(m);
        self.note("worker-killed", name.as_str(), "");
        let pause = self.chance.between(15 * MILLIS, 120 * MILLIS) + self.machines[m].disk.opens_in;
        self.after(pause, Event::WorkerStarts { machine: m, boot });
    }

    /// The disk answers with an error: the worker ends, and none takes part before the next boot.
    fn break_disk(&mut self, m: usize) {
        self.crash_worker(m);
        self.machines[m].broke = true;
        let name = self.machines[m].name.clone();
        self.note("disk-error", name.as_str(), "its daemon takes no part until the next boot");
    }

    pub(crate) fn start_worker(&mut self, m: usize) {
        let machine = &self.machines[m];
        if !machine.is_on || machine.worker.is_some() || machine.halted.is_some() || machine.broke {
            return;
        }
        if machine.disk.has_errors {
            return self.break_disk(m);
        }
        if self.now < machine.frozen_until {
            let (again, boot) = (machine.frozen_until, machine.boot);
            return self.at(again, Event::WorkerStarts { machine: m, boot });
        }
        let Some(own) = machine.id else { return };
        if machine.disk.meta().is_empty() {
            let name = machine.name.clone();
            return self.note("nothing-stored", name.as_str(), "");
        }
        let incarnation = machine.incarnation(m);
        let identity = Identity {
            own,
            cluster: CLUSTER,
            incarnation,
            boot_id: format!("{}-{}", machine.name, machine.boot),
            machine_id: machine.machine_id.clone(),
            storage_uuid: machine.storage_uuid.clone(),
        };
        let stored = match Stored::decode(machine.disk.meta(), machine.disk.log()) {
            Ok(stored) => stored,
            Err(cause) => return self.violate("restart", format!("{} cannot read its log: {cause}", machine.name)),
        };
        let settings = Settings {
            is_witness: machine.role == NodeRole::Witness,
            level: machine.level,
            seed: self.settings.seed ^ own.0,
            ..self.settings
        };
        let first_peers = self.first_peers(m);
        let addresses = self.machines[m].stored.clone();
        // The clock begins with the boot.
        let begun = self.machines[m].clock.local(0);
        let is_lost = self.has(Bug::JournalLost);
        let journal = if is_lost { Vec::new() } else { self.machines[m].disk.journal() };
        let moment = self.moment(m);
        let begun = Node::new(moment, Start { identity, settings, stored, journal, first_peers, addresses, begun });
        let (node, actions) = match begun {
            Ok(begun) => begun,
            Err(cause) => {
                let name = self.machines[m].name.clone();
                return self.violate("restart", format!("{name} cannot begin: {cause}"));
            }
        };
        let life = self.next_number();
        let salt = u128::from(self.chance.number()) << 64 | u128::from(self.chance.number());
        let machine = &mut self.machines[m];
        machine.quiet_since = machine.quiet_since.max(self.now);
        machine.worker = Some(Worker {
            life,
            node,
            pulse: None,
            salt,
            node_inbox: Default::default(),
            pulse_inbox: Default::default(),
            progress: Default::default(),
            drops: 0,
            drops_told: 0,
            node_wake: At::MAX,
            pulse_wake: At::MAX,
        });
        let name = machine.name.clone();
        self.trace.line(self.now, name.as_str(), || "worker starts".to_owned());
        self.review_addresses();
        self.after_node_step(m, actions);
    }

    /// What an admitted node was told about the others.
    fn first_peers(&self, m: usize) -> Vec<PeerOrder> {
        let links = u8::try_from(self.network.links()).unwrap_or(1);
        self.by_id
            .iter()
            .filter(|(_, other)| **other != m)
            .map(|(id, other)| PeerOrder {
                id: *id,
                links,
                incarnation: self.machines[*other].is_on.then(|| self.machines[*other].incarnation(*other)),
            })
            .collect()
    }

    /// The machine becomes the member `id`, begins with these records, and boots.
    pub(crate) fn install(&mut self, m: usize, id: NodeId, writes: Vec<model::Write>) {
        self.machines[m].disk = Disk::default();
        self.machines[m].stored = self.addresses_for(m, id);
        self.machines[m].lives_once = self.has(Bug::SameLife);
        self.machines[m].disk.write_all(writes);
        self.machines[m].id = Some(id);
        self.by_id.insert(id, m);
        self.power_on(m);
    }

    /// A new member was agreed on: somebody installs its machine.
    pub(crate) fn on_admitted(&mut self, name: &NodeName, id: NodeId) {
        if let Some(m) = self.index_of(name.as_str()).filter(|m| self.machines[*m].id.is_none()) {
            self.install(m, id, consensus::joining());
        }
    }

    /// A member was removed: somebody takes its machine away.
    pub(crate) fn on_removed(&mut self, id: NodeId) {
        if let Some(m) = self.by_id.remove(&id) {
            self.power_off(m, "it was removed");
            self.machines[m].id = None;
        }
    }

    // The rest of the node.

    /// Asks a node for something; the answer comes to `answers`, under the number returned.
    pub fn request(&mut self, m: usize, request: Request) -> u64 {
        let id = self.next_number();
        self.trace.line(self.now, self.machines[m].name.as_str(), || format!("is asked: {}", asked(&request)));
        self.tell_node(m, Input::Request { id, request, actor: "operator".to_owned() });
        id
    }

    pub(crate) fn tell_node(&mut self, m: usize, input: Input) {
        let gate = self.machines[m].node_gate();
        let Some(worker) = self.machines[m].worker.as_mut() else { return };
        if self.now < gate {
            worker.node_inbox.push_back(input);
            return;
        }
        self.feed_node(m, input);
    }

    fn feed_node(&mut self, m: usize, input: Input) {
        let moment = self.moment(m);
        self.trace.line(self.now, self.machines[m].name.as_str(), || brief(&input));
        let Some(worker) = self.machines[m].worker.as_mut() else { return };
        worker.progress.turns += 1;
        let actions = worker.node.step(moment, input);
        self.after_node_step(m, actions);
    }

    fn wake_node(&mut self, m: usize) {
        if self.now < self.machines[m].node_gate() {
            return;
        }
        let moment = self.moment(m);
        let Some(worker) = self.machines[m].worker.as_mut() else { return };
        worker.node_wake = At::MAX;
        worker.progress.turns += 1;
        if worker.node.deadline().is_some_and(|at| at <= moment.at) {
            let actions = worker.node.step(moment, Input::Tick);
            self.after_node_step(m, actions);
        } else {
            self.plan_node_wake(m);
        }
    }

    fn after_node_step(&mut self, m: usize, actions: Vec<Action>) {
        self.steps += 1;
        self.observe(m);
        let life = self.life(m);
        for action in actions {
            if self.life(m) == life {
                self.act(m, action);
            }
        }
        self.plan_node_wake(m);
    }

    fn plan_node_wake(&mut self, m: usize) {
        let machine = &mut self.machines[m];
        let Some(worker) = machine.worker.as_mut() else { return };
        let Some(deadline) = worker.node.deadline() else { return };
        let at = machine.clock.world(deadline).max(self.now);
        if at < worker.node_wake {
            worker.node_wake = at;
            let life = worker.life;
            self.at(at, Event::NodeWakes { machine: m, life });
        }
    }

    fn act(&mut self, m: usize, action: Action) {
        self.check_sent(m, &action);
        match action {
            Action::Send { to, message } => self.send(m, to, &message),
            Action::Persist { .. } if self.machines[m].disk.has_errors => self.break_disk(m),
            Action::Persist { .. } if self.machines[m].disk.fails => self.crash_worker(m),
            Action::Persist { token, writes } => {
                let life = self.life(m);
                if let Some(worker) = self.machines[m].worker.as_mut() {
                    worker.progress.writes_begun += 1;
                }
                let at = self.machines[m].disk.begin(self.now, token, writes, &mut self.chance);
                self.at(at, Event::Durable { machine: m, life, token });
                if self.has(Bug::DurableTooEarly) {
                    self.after(0, Event::CountsAsDurable { machine: m, life, token });
                }
            }
            Action::Call(call) => self.begin_call(m, call),
            Action::Abandon(key) => self.abandon_call(m, key),
            Action::FenceCall(call) => self.begin_fence_call(m, call),
            // What the device has been told it does all the same; its answer is of no use to anybody.
            Action::AbandonFence(_) => {}
            Action::Pulse(order) => {
                let life = self.life(m);
                let at = self.seam(m, 1);
                self.at(at, Event::Order { machine: m, life, order });
            }
            Action::Addresses => self.take_addresses(m),
            Action::Answer { id, answer } => {
                self.trace.line(self.now, self.machines[m].name.as_str(), || format!("answers: {answer:?}"));
                self.answers.insert(id, answer);
            }
            Action::Event(event) => {
                if event.event == "renewed" {
                    self.note(event.event, &event.subject, &event.reason);
                }
                self.trace.line(self.now, self.machines[m].name.as_str(), || {
                    format!("{} {}: {}", event.event, event.subject, event.reason)
                });
            }
            Action::Halt(halt) => self.halt(m, halt),
        }
    }

    /// A node stops. Whatever it ran ends where the cluster does not want it any more.
    fn halt(&mut self, m: usize, halt: Halt) {
        let machine = &mut self.machines[m];
        machine.disk.crash(self.now, &mut self.chance);
        machine.worker = None;
        machine.halted = Some(halt);
        let (boot, name) = (machine.boot, machine.name.clone());
        self.watch.forget(m);
        self.note("halt", name.as_str(), &format!("{halt:?}"));
        match halt {
            Halt::Left | Halt::Unreadable => {}
            Halt::Removed | Halt::Condemned => {
                let pause = self.chance.between(10 * MILLIS, 500 * MILLIS);
                self.after(pause, Event::ServicesEnd { machine: m, boot });
            }
        }
    }

    // Messages.

    /// The machine that a packet for this node comes to; a clone has the same addresses and gets every other one.
    fn receiver(&mut self, id: NodeId) -> Option<usize> {
        let machine = self.by_id.get(&id).copied()?;
        match self.clones.get(&machine).copied() {
            Some(clone) if self.machines[clone].is_on && self.chance.is(500) => Some(clone),
            Some(_) | None => Some(machine),
        }
    }

    fn send(&mut self, m: usize, to: NodeId, message: &wire::Message) {
        let Some(own) = self.machines[m].id else { return };
        let Some(to) = self.receiver(to) else { return };
        let bytes: Rc<[u8]> = wire::encode(message).into();
        if bytes.len() > wire::DATAGRAM_BYTES_MAX {
            let receiver = self.life(to);
            if let Some(at) = self.network.stream(self.now, m, to, &mut self.chance) {
                self.at(at, Event::MessageArrives { to, from: own, bytes, stream_to: Some(receiver) });
            }
            return;
        }
        let mut first: Option<At> = None;
        for link in 0..self.network.links() {
            let arrivals = self.network.datagram(self.now, m, to, link, &mut self.chance);
            // The receiver knows the copies of other links; a doubled packet stands for one that it cannot know.
            first = first.into_iter().chain(arrivals[0]).min();
            if let Some(at) = arrivals[1] {
                self.at(at, Event::MessageArrives { to, from: own, bytes: bytes.clone(), stream_to: None });
            }
        }
        let Some(mut at) = first else { return };
        if self.chance.is(self.network.weather[0].very_late) {
            let late = at + self.chance.between(300 * MILLIS, 5000 * MILLIS);
            if self.chance.is(500) {
                let bytes = bytes.clone();
                self.at(late, Event::MessageArrives { to, from: own, bytes, stream_to: None });
            } else {
                at = late;
            }
        }
        self.at(at, Event::MessageArrives { to, from: own, bytes, stream_to: None });
    }

    fn message_arrives(&mut self, to: usize, from: NodeId, bytes: &[u8], stream_to: Option<u64>) {
        let machine = &self.machines[to];
        let Some(worker) = &machine.worker else { return };
        let is_gone = stream_to.is_some_and(|life| life != worker.life);
        let is_full = stream_to.is_none() && self.now < machine.node_gate() && worker.node_inbox.len() >= SOCKET_MAX;
        let drowned = if self.now < machine.flooded_until { machine.drowned } else { 0 };
        if is_gone || is_full || stream_to.is_none() && drowned > 0 && self.chance.is(drowned) {
            return;
        }
        match wire::decode(bytes) {
            Ok(message) => self.tell_node(to, Input::Message { from, message }),
            Err(cause) => self.violate("codec", format!("a message that was encoded cannot be decoded: {cause}")),
        }
    }

    // The pulse.

    /// While all is well the pulse reads what arrived when its next beat is due; else at once.
    fn beat_arrives(&mut self, to: usize, bytes: Rc<[u8]>, path: Path) {
        let gate = self.machines[to].pulse_gate();
        let is_flooded = self.now < self.machines[to].flooded_until;
        let is_drowned = is_flooded && self.chance.is(self.machines[to].drowned);
        let Some(worker) = self.machines[to].worker.as_mut() else { return };
        if worker.pulse_inbox.len() < SOCKET_MAX && !is_drowned {
            worker.pulse_inbox.push_back(PulseIn::Beat { at: self.now, bytes, path });
        } else {
            worker.drops += 1;
        }
        if self.now >= gate && worker.pulse.as_ref().is_some_and(|pulse| is_flooded || !pulse.is_calm()) {
            self.read_sockets(to);
        }
    }

    fn order_arrives(&mut self, m: usize, order: Box<PulseOrder>) {
        let gate = self.machines[m].pulse_gate();
        let Some(worker) = self.machines[m].worker.as_mut() else { return };
        worker.pulse_inbox.push_back(PulseIn::Order(order));
        if self.now >= gate {
            self.read_sockets(m);
        }
    }

    fn wake_pulse(&mut self, m: usize) {
        if self.now < self.machines[m].pulse_gate() {
            return;
        }
        if let Some(worker) = self.machines[m].worker.as_mut() {
            worker.pulse_wake = At::MAX;
        }
        self.read_sockets(m);
    }

    fn read_sockets(&mut self, m: usize) {
        let Some(worker) = self.machines[m].worker.as_mut() else { return };
        let inbox = std::mem::take(&mut worker.pulse_inbox);
        self.feed_pulse(m, inbox);
    }

    /// As the pulse's thread does: everything that came in first, then what is due.
    fn feed_pulse(&mut self, m: usize, inputs: VecDeque<PulseIn>) {
        let index = m;
        let now = self.now;
        // Under a flood there is nearly always more to read.
        let is_flooded = now < self.machines[m].flooded_until;
        let is_cut_short = is_flooded && self.chance.is(900);
        let machine = &mut self.machines[m];
        let local = machine.clock.local(now);
        let (id, incarnation) = (machine.id, machine.incarnation(index));
        let (Some(worker), Some(id)) = (machine.worker.as_mut(), id) else { return };
        let mut actions = Vec::new();
        for input in inputs {
            match input {
                PulseIn::Order(order) => match worker.pulse.as_mut() {
                    Some(pulse) => actions.extend(pulse.step(local, PulseInput::Order(*order))),
                    None => {
                        let own = OwnIdentity { cluster: CLUSTER, id, incarnation, salt: worker.salt, key_epoch: 0 };
                        worker.pulse = Some(Pulse::new(local, own, *order));
                    }
                },
                PulseIn::Drops => {
                    let count = worker.drops;
                    worker.drops_told = count;
                    if let Some(pulse) = worker.pulse.as_mut() {
                        actions.extend(pulse.step(local, PulseInput::SocketDrops { count }));
                    }
                }
                PulseIn::Beat { at, bytes, path } => {
                    let Some(pulse) = worker.pulse.as_mut() else { continue };
                    let Some((sealed, TAG)) = bytes.split_last_chunk::<16>().map(|(body, tag)| (body, *tag)) else {
                        panic!("a beat without its tag");
                    };
                    let (header, body) = wire::decode_header(sealed).expect("the header was encoded");
                    let beat = wire::decode_beat(body).expect("the beat was encoded");
                    let received = Received { arrival: machine.clock.local(at), header, beat, path };
                    actions.extend(pulse.step(local, PulseInput::Received(received)));
                }
            }
            self.steps += 1;
        }
        if let Some(pulse) = worker.pulse.as_mut()
            && is_flooded
            && worker.drops > worker.drops_told
        {
            worker.drops_told = worker.drops;
            actions.extend(pulse.step(local, PulseInput::SocketDrops { count: worker.drops }));
        }
        if let Some(pulse) = worker.pulse.as_mut()
            && pulse.deadline() <= local
        {
            actions.extend(pulse.step(local, PulseInput::Progress(worker.progress)));
            actions.extend(pulse.step(local, if is_cut_short { PulseInput::SendDue } else { PulseInput::Tick }));
            self.steps += 1;
        }
        for action in actions {
            match action {
                PulseAction::Send { to, link, header, beat } => {
                    let Some(to) = self.receiver(to) else { continue };
                    let mut arrivals = Vec::new();
                    for (network, path) in self.ways(m, to, link) {
                        let copies = self.network.datagram(now, m, to, network, &mut self.chance);
                        arrivals.extend(copies.into_iter().flatten().map(|at| (at, path)));
                    }
                    if arrivals.is_empty() {
                        continue;
                    }
                    let mut bytes = Vec::with_capacity(288);
                    bytes.extend_from_slice(&wire::encode_header(&header));
                    wire::encode_beat(&beat, &mut bytes);
                    bytes.extend_from_slice(&TAG);
                    let bytes: Rc<[u8]> = bytes.into();
                    for (at, path) in arrivals {
                        self.network.beat(m, to, at);
                        self.at(at, Event::BeatArrives { to, bytes: bytes.clone(), path });
                    }
                }
                PulseAction::Report(report) => {
                    let life = self.life(m);
                    let at = self.seam(m, 0);
                    self.at(at, Event::Report { machine: m, life, report: Box::new(report) });
                }
            }
        }
        self.plan_pulse_wake(m);
    }

    fn plan_pulse_wake(&mut self, m: usize) {
        let machine = &mut self.machines[m];
        let Some(worker) = machine.worker.as_mut() else { return };
        let Some(pulse) = worker.pulse.as_ref() else { return };
        // What is left undone while more waits is looked at again when that is read.
        let soonest = if self.now < machine.flooded_until { self.now + MILLIS } else { self.now };
        let at = machine.clock.world(pulse.deadline()).max(soonest);
        if at < worker.pulse_wake {
            worker.pulse_wake = at;
            let life = worker.life;
            self.at(at, Event::PulseWakes { machine: m, life });
        }
    }

    /// When what one half tells the other (0: reports, 1: orders) arrives: in order, and at once but for a stall.
    fn seam(&mut self, m: usize, direction: usize) -> At {
        let pause = self.chance.between(3 * MICROS, 60 * MICROS);
        let machine = &mut self.machines[m];
        let busy_until = &mut machine.seam_busy_until[direction];
        *busy_until = (self.now + pause).max(machine.seam_stalled_until).max(*busy_until);
        *busy_until
    }

    // Addresses.

    /// The worker stores the addresses that it uses from now on.
    fn take_addresses(&mut self, m: usize) {
        let Some(node) = self.node(m) else { return };
        let addresses = node.addresses().clone();
        let machine = &mut self.machines[m];
        if self.has_moved && machine.stored.own != addresses.own {
            let (name, own) = (machine.name.clone(), format!("{:?}", addresses.own));
            machine.stored = addresses;
            self.note("readdressed", name.as_str(), &own);
        } else {
            machine.stored = addresses;
        }
        self.review_addresses();
    }

    /// Does a member, this machine included, send to this address of a machine, or from it?
    pub(crate) fn is_address_used(&self, m: usize, address: IpAddr) -> bool {
        let has = |places: &Vec<Place>| places.iter().any(|place| place.all().any(|known| known == address));
        let knows =
            |other: &Machine| self.machines[m].id.is_some_and(|id| other.stored.peers.get(&id).is_some_and(has));
        has(&self.machines[m].stored.own) || self.machines.iter().any(knows)
    }

    /// What an admitted node is told about where everybody is.
    fn addresses_for(&self, m: usize, id: NodeId) -> Addresses {
        let state = &self.watch.agreed.state;
        let places = |links: &[IpAddr]| links.iter().map(|address| Place::at(*address)).collect::<Vec<_>>();
        let links = |name: &NodeName| state.config.nodes.get(name).map(|node| places(&node.links));
        let others = state.members.iter().filter(|(other, _)| **other != id);
        let peers = others.filter_map(|(other, member)| Some((*other, links(&member.name)?))).collect();
        let own = links(&self.machines[m].name).unwrap_or_else(|| places(&self.node_configs[m].links));
        Addresses::stored(state.config_version, own, peers)
    }

    /// The networks that a packet over a link goes through, and between which addresses: all copies of it that an
    /// address of the receiver takes for one of that link.
    fn ways(&self, from: usize, to: usize, link: LinkId) -> Vec<(usize, Path)> {
        if !self.has_moved {
            return vec![(usize::from(link.0), Path::Agreed)];
        }
        let (sender, receiver) = (&self.machines[from], &self.machines[to]);
        let (Some(sender_id), Some(receiver_id)) = (sender.id, receiver.id) else { return Vec::new() };
        let is_there =
            |(own, other): &(IpAddr, IpAddr)| sender.addresses.contains(own) && receiver.addresses.contains(other);
        let ways = sender.stored.ways(receiver_id, link).into_iter().filter(is_there);
        ways.filter_map(|(own, other)| {
            let network = network_of(own).filter(|network| Some(*network) == network_of(other))?;
            let path = receiver.stored.path(link, other, sender_id, own)?;
            (network < self.network.links()).then_some((network, path))
        })
        .collect()
    }

    /// Which networks carry nothing from one machine to another, since no addresses in use lie on them at both ends?
    pub(crate) fn review_addresses(&mut self) {
        if !self.has_moved {
            return;
        }
        let mut found = Vec::new();
        for from in 0..self.machines.len() {
            for to in 0..self.machines.len() {
                let peer = self.machines[to].id.map_or(0, |id| self.machines[from].stored.links_to(id));
                let used: BTreeSet<usize> =
                    (0..peer).flat_map(|link| self.ways(from, to, LinkId(link))).map(|(network, _)| network).collect();
                for network in 0..self.network.links() {
                    found.push((from, to, network, !used.contains(&network)));
                }
            }
        }
        for (from, to, network, is_astray) in found {
            self.network.lead_astray(self.now, from, to, network, is_astray);
        }
    }

    // Standing still.

    /// Whatever stood still and need not any more goes on with what came in meanwhile.
    pub(crate) fn resume(&mut self, m: usize) {
        if self.now >= self.machines[m].pulse_gate() {
            if let Some(worker) = self.machines[m].worker.as_mut() {
                worker.pulse_wake = At::MAX;
                if worker.drops > 0 {
                    worker.pulse_inbox.push_back(PulseIn::Drops);
                }
            }
            self.read_sockets(m);
        }
        if self.now >= self.machines[m].node_gate() {
            let inbox = self.machines[m].worker.as_mut().map(|worker| {
                worker.node_wake = At::MAX;
                std::mem::take(&mut worker.node_inbox)
            });
            let life = self.life(m);
            for input in inbox.unwrap_or_default() {
                if self.life(m) == life {
                    self.feed_node(m, input);
                }
            }
            self.wake_node(m);
        }
    }
}

impl Event {
    fn machine(&self) -> usize {
        match self {
            Event::NodeWakes { machine, .. }
            | Event::PulseWakes { machine, .. }
            | Event::Durable { machine, .. }
            | Event::CountsAsDurable { machine, .. }
            | Event::Report { machine, .. }
            | Event::Order { machine, .. }
            | Event::CallEnds { machine, .. }
            | Event::DeviceAnswers { machine, .. }
            | Event::Resumes { machine }
            | Event::WorkerStarts { machine, .. }
            | Event::BootServicesStart { machine, .. }
            | Event::PowersOn { machine }
            | Event::ServicesEnd { machine, .. } => *machine,
            Event::BeatArrives { to, .. } | Event::MessageArrives { to, .. } => *to,
            Event::DeviceActs { target, .. } => *target,
            Event::Fault { number } => *number,
            Event::Admitted { id, .. } | Event::Removed { id } => id.0 as usize,
        }
    }

    fn kind(&self) -> u64 {
        match self {
            Event::NodeWakes { .. } => 1,
            Event::PulseWakes { .. } => 2,
            Event::BeatArrives { .. } => 3,
            Event::MessageArrives { .. } => 4,
            Event::Durable { .. } => 5,
            Event::Report { .. } => 6,
            Event::Order { .. } => 7,
            Event::CallEnds { .. } => 8,
            Event::DeviceActs { .. } => 9,
            Event::DeviceAnswers { .. } => 10,
            Event::Resumes { .. } => 11,
            Event::WorkerStarts { .. } => 12,
            Event::PowersOn { .. } => 13,
            Event::ServicesEnd { .. } => 14,
            Event::Fault { .. } => 15,
            Event::Admitted { .. } => 16,
            Event::Removed { .. } => 17,
            Event::BootServicesStart { .. } => 18,
            Event::CountsAsDurable { .. } => 19,
        }
    }

    /// Something about the content, for the hash of the run.
    fn weight(&self) -> u64 {
        match self {
            Event::BeatArrives { bytes, .. } | Event::MessageArrives { bytes, .. } => {
                bytes.len() as u64
                    ^ bytes
                        .iter()
                        .rev()
                        .skip(16)
                        .take(24)
                        .fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
            }
            Event::Durable { token, .. } => *token,
            _ => 0,
        }
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest; of two at the same time, the one that was scheduled first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

/// A request as one line; a cluster file would be many.
fn asked(request: &Request) -> String {
    match request {
        Request::Propose(command) => match &**command {
            Command::Configure { expected_version, .. } => format!("Configure on version {expected_version}"),
            Command::Admit { name, .. } => format!("Admit {name}"),
            command => format!("{command:?}"),
        },
        request => format!("{request:?}"),
    }
}

/// An input as one line.
fn brief(input: &Input) -> String {
    match input {
        Input::Pulse(PulseReport::Peer(report)) => {
            format!(
                "sees node {} {:?} two-way {} suspects {:?}",
                report.id, report.verdict, report.is_two_way, report.suspects
            )
        }
        Input::Pulse(report) => format!("{report:?}"),
        Input::Message { from, message: wire::Message::Consensus(message) } => {
            format!("node {from}: {:?} term {}", message.kind(), message.term())
        }
        Input::Message { from, message } => format!("node {from}: {message:?}"),
        Input::Persisted { token } => format!("write {token} is durable"),
        Input::CallDone { key, outcome } => {
            format!("call {}.{}.{} done: {outcome:?}", key.op.epoch, key.op.index, key.attempt)
        }
        Input::Exited { key, how } => format!("service of {}.{} exited: {how}", key.op.epoch, key.op.index),
        Input::FenceDone { key, outcome } => format!("fence call {key} done: {outcome:?}"),
        Input::Request { request, .. } => format!("request {}", asked(request)),
        Input::Tick => "tick".to_owned(),
    }
}

/// The network that an address lies on: its third number, from 1.
fn network_of(address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(address) => usize::from(address.octets()[2]).checked_sub(1),
        IpAddr::V6(_) => None,
    }
}
