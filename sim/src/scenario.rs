//! What does a seed stand for? A cluster, a minute of faults of one flavour, and a healing.
//!
//! Flavours are part of every campaign: each attacks where one kind of bug would show early, and seeds of the same
//! flavour differ in everything else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use model::{
    ActionKind, AgentName, Bugs, Class, FenceName, NodeId, ParameterValue, Placement, Profile, ResourceConfig,
    ResourceName, UnitName,
};

use crate::agents::{AgentMood, Mood};
use crate::campaign::last_panic;
use crate::chance::Chance;
use crate::clock::{At, MILLIS, SECONDS};
use crate::devices::DeviceMood;
use crate::faults::{Ambush, Fault, Who};
use crate::invariants::{Violation, stopped_at, what_is_missing};
use crate::lasting;
use crate::network::Weather;
use crate::oracle::PATIENCE;
use crate::setup::Layout;
use crate::world::World;

/// How long faults go on.
const FAULTY: u64 = 60 * SECONDS;
/// Within this everything must run again after healing.
const BOUND: u64 = 20 * SECONDS;
/// As long may fencing pause that has failed many times.
const FENCE_PAUSE: u64 = 30 * SECONDS;

/// What a scenario attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// A bit of everything.
    Mixed,
    /// Power cuts, of one machine and of all.
    Power,
    /// Cuts, symmetric and one-way.
    Partitions,
    /// Fence devices that fail, lie and act late.
    Devices,
    /// Workers that are killed at bad moments.
    Workers,
    /// One node that comes and goes.
    Flapping,
    /// Leaders that stand still and come back.
    PausedLeaders,
    /// Lost, doubled and very late messages.
    BadWeather,
    /// Disks that take their time, and power cuts while they do.
    SlowDisks,
    /// Agents that fail and hang.
    BadAgents,
    /// Operators that move things about.
    Operators,
    /// Elections, and voters that lose power in the middle of them.
    Elections,
    /// Everything, and no time to recover.
    Storm,
    /// Power cuts, kills and stalls just when something was agreed or begun.
    Ambushes,
    /// Members come and go for good.
    Growth,
    /// A fault that lasts, and another one long after it.
    Lasting,
    /// Deaf and mute machines, cuts in one direction, unequal loss, bursts.
    OneWay,
    /// Services that nobody ordered.
    Wild,
    /// Machines that boot slowly, or never.
    SlowBoots,
    /// Agents that can never work, tell untruths, or leave something behind.
    SickAgents,
    /// Disks that hang, refuse writes, open slowly, or lose everything.
    SickDisks,
    /// Fence devices that cover parts, or are reached by some only.
    PartialDevices,
    /// Machines that come back as another one.
    Identities,
    /// Every kind of change of the cluster file.
    Configurations,
    /// What operators type.
    Inputs,
    /// Nothing can be fenced, and nothing has to be: everything may run twice for a while.
    NoDevices,
    /// Older programs, which are replaced one by one, late or never.
    Upgrades,
    /// Mistakes in the text of the cluster file.
    Edits,
}

/// The flavours whose faults pass.
const PASSING: [Flavour; 15] = [
    Flavour::Mixed,
    Flavour::Power,
    Flavour::Partitions,
    Flavour::Devices,
    Flavour::Workers,
    Flavour::Flapping,
    Flavour::PausedLeaders,
    Flavour::BadWeather,
    Flavour::SlowDisks,
    Flavour::BadAgents,
    Flavour::Operators,
    Flavour::Elections,
    Flavour::Storm,
    Flavour::Ambushes,
    Flavour::Growth,
];

/// The flavours whose faults last.
const LASTING: [Flavour; 13] = [
    Flavour::Lasting,
    Flavour::OneWay,
    Flavour::Wild,
    Flavour::SlowBoots,
    Flavour::SickAgents,
    Flavour::SickDisks,
    Flavour::PartialDevices,
    Flavour::Identities,
    Flavour::Configurations,
    Flavour::Inputs,
    Flavour::NoDevices,
    Flavour::Upgrades,
    Flavour::Edits,
];

impl Flavour {
    /// All of them: the flavours of a campaign that names none.
    pub fn all() -> Vec<Flavour> {
        PASSING.into_iter().chain(LASTING).collect()
    }

    /// The flavour of this name, as `Debug` writes it; capitals do not matter.
    pub fn named(name: &str) -> Option<Flavour> {
        Flavour::all().into_iter().find(|flavour| format!("{flavour:?}").eq_ignore_ascii_case(name))
    }

    fn lasts(self) -> bool {
        LASTING.contains(&self)
    }
}

/// One seed, spelled out.
#[derive(Debug)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// What it attacks.
    pub flavour: Flavour,
    /// The cluster.
    pub layout: Layout,
    /// What happens when, counted from the moment at which the cluster is up.
    pub faults: Vec<(At, Fault)>,
    /// What waits for its moment, counted from then, too.
    pub ambushes: Vec<Ambush>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// Steps of nodes.
    pub steps: u64,
    /// Equal for equal runs.
    pub hash: u64,
    /// How long everything took to run again after healing, in nanoseconds; 0 if it did not come to that.
    pub recovery: u64,
    /// The first broken promise.
    pub violation: Option<Violation>,
}

impl Scenario {
    /// The scenario of a seed in a campaign that names no flavours.
    pub fn of(seed: u64) -> Self {
        Scenario::among(&Flavour::all(), seed)
    }

    /// The scenario of a seed in a campaign of these flavours.
    pub fn among(flavours: &[Flavour], seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x5eed_0f5c_ea21_0000);
        let flavour = flavours[usize::try_from(seed % flavours.len() as u64).unwrap_or(0)];
        let layout = layout(&mut chance, flavour);
        let mut draft = Draft { chance, layout, faults: Vec::new(), ambushes: Vec::new() };
        if flavour.lasts() {
            draft.fill_lasting(flavour);
        } else {
            draft.fill(flavour);
        }
        let Draft { layout, mut faults, ambushes, .. } = draft;
        faults.sort_by_key(|(at, _)| *at);
        Scenario { seed, flavour, layout, faults, ambushes }
    }

    /// Runs it. A panic of the code under test counts as a broken promise named `assertion`.
    pub fn run(&self, bugs: Bugs, reference_bugs: Bugs, is_told: bool) -> Run {
        match catch_unwind(AssertUnwindSafe(|| self.play(bugs, reference_bugs, is_told))) {
            Ok(run) => run,
            Err(_) => Run {
                seed: self.seed,
                steps: 0,
                hash: 0,
                recovery: 0,
                violation: Some(Violation { invariant: "assertion", at: stopped_at(), sentence: last_panic() }),
            },
        }
    }

    fn play(&self, bugs: Bugs, reference_bugs: Bugs, is_told: bool) -> Run {
        let mut world = match self.layout.build(self.seed, bugs, reference_bugs, is_told) {
            Ok(world) => world,
            Err(world) => return self.result(&world, 0),
        };
        let begin = world.now();
        world.switches_turn_on = self.layout.switches_turn_on;
        world.judges_every_off = self.flavour.lasts();
        for (at, fault) in &self.faults {
            world.plan(begin + at, fault.clone());
        }
        world.ambushes.clone_from(&self.ambushes);
        if self.flavour.lasts() {
            let recovery = self.last(&mut world);
            return self.result(&world, recovery);
        }
        while world.violation().is_none() && world.now() < begin + FAULTY {
            world.run_until((world.now() + SECONDS).min(begin + FAULTY));
            self.check_calm(&mut world);
        }
        let has_bad_devices = self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Device(..)));
        let bound = if has_bad_devices { BOUND + FENCE_PAUSE } else { BOUND };
        let recovery = heal(&mut world, bound);
        self.result(&world, recovery)
    }

    /// Faults last until everything that can run has had its time; then the physical world is repaired, and the cluster
    /// must come back to its whole without a word from anybody. How long that took.
    fn last(&self, world: &mut World) -> u64 {
        let last = self.faults.last().map_or(0, |(at, _)| *at);
        let end = world.now() + last + [5, 20, 75][usize::try_from(self.seed % 3).unwrap_or(0)] * SECONDS;
        let settles = |world: &World| world.missing_since.is_empty();
        while world.violation().is_none() && (world.now() < end || !settles(world)) {
            world.run_until(world.now() + SECONDS);
            world.review_missing();
        }
        let begin = world.now();
        world.inflict(&Fault::Repair);
        while world.violation().is_none() {
            world.run_until(world.now() + SECONDS);
            world.end_cuts();
            world.review_missing();
            match world.absent_members() {
                None if settles(world) => break,
                Some(absent) if world.now() > begin.max(world.last_boot()) + BOUND + FENCE_PAUSE => {
                    let long = (world.now() - begin) / SECONDS;
                    world.violate("recovers", format!("{long} s after the repair, {absent}"));
                }
                None | Some(_) => {}
            }
        }
        world.now() - begin
    }

    /// Whatever went wrong has been right again for long: then everything runs, without anybody's help.
    fn check_calm(&self, world: &mut World) {
        let has_bad_devices = self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Device(..)));
        if !has_bad_devices
            && world.is_whole_for(BOUND / 2)
            && let Some(missing) = what_is_missing(world)
        {
            world.violate("recovers", format!("for {} s nothing has been wrong, and {missing}", BOUND / 2 / SECONDS));
        }
    }

    fn result(&self, world: &World, recovery: u64) -> Run {
        Run {
            seed: self.seed,
            steps: world.steps(),
            hash: world.trace().hash(),
            recovery,
            violation: world.violation().cloned(),
        }
    }
}

/// Repairs the physical world, and waits until everything runs that no person keeps from running; how long that took.
/// Nobody tells the cluster anything.
fn heal(world: &mut World, bound: u64) -> u64 {
    if world.violation().is_some() {
        return 0;
    }
    let begin = world.now();
    world.inflict(&Fault::Repair);
    let mut well_since = None;
    while world.violation().is_none() {
        world.run_until(world.now() + 250 * MILLIS);
        world.end_cuts();
        world.review_missing();
        match (what_is_wrong(world), well_since) {
            (Some(wrong), _)
                if world.now()
                    > begin.max(world.last_boot())
                        + if world.has_left_alone() { bound.max(PATIENCE) } else { bound } =>
            {
                let long = (world.now() - begin) / SECONDS;
                world.violate("recovers", format!("{long} s after the repair, {wrong}"));
            }
            (Some(_), _) => well_since = None,
            (None, None) => well_since = Some(world.now()),
            (None, Some(since)) if since + SECONDS <= world.now() => return since - begin,
            (None, Some(_)) => {}
        }
    }
    0
}

/// What a repaired cluster still lacks: everything runs, unless a person keeps something from running; then all runs
/// that can.
fn what_is_wrong(world: &World) -> Option<String> {
    let missing = world.missing_units().into_iter().next().map(|missing| missing.sentence);
    let absent = || world.absent_members();
    let whole = || if world.waits_for_a_person() { None } else { what_is_missing(world) };
    missing.or_else(absent).or_else(whole)
}

/// A machine as steps of a scenario name it (see [`Fault::Act`]).
pub(crate) fn place(m: usize) -> NodeId {
    NodeId(m as u64)
}

fn layout(chance: &mut Chance, flavour: Flavour) -> Layout {
    let mut layout = Layout::of(3);
    match chance.below(16) {
        0 => layout = Layout { members: 2, has_witness: true, ..layout },
        1 => layout.members = 4,
        2 => layout.members = 5,
        _ => {}
    }
    if flavour == Flavour::Growth || flavour == Flavour::Upgrades && chance.is(300) {
        layout.members += 1;
        layout.late = 1;
    }
    if chance.is(250) {
        layout.links = 1;
    }
    layout.profile = match chance.below(20) {
        0 => Profile::Cloud,
        1 => Profile::Wan,
        _ => Profile::Lan,
    };
    layout.is_one_domain = layout.links == 2 && chance.is(150);
    if flavour.lasts() {
        lasting::shape(chance, flavour, &mut layout);
    }
    if flavour == Flavour::Devices && chance.is(500) {
        layout.levels = 2;
    }
    let prefer = |chance: &mut Chance| Placement {
        prefer: if chance.is(300) { vec!["b".into()] } else { Vec::new() },
        failback: chance.is(100),
        ..Placement::default()
    };
    let class = if flavour == Flavour::NoDevices { Class::BestEffort } else { Class::Exclusive };
    if flavour == Flavour::Edits {
        lasting::add_agents(&mut layout);
    }
    layout.add("address", true, class, Placement::default());
    layout.add("web", true, class, Placement::default());
    layout.group("site", &["address", "web"]);
    if chance.is(600) {
        let placement = prefer(chance);
        layout.add("db", false, class, placement);
    }
    if chance.is(300) {
        let placement = Placement { after: vec!["site".into()], ..prefer(chance) };
        layout.add("cache", true, Class::BestEffort, placement);
    }
    layout
}

/// Gives the agent of a resource other parameters: it is restarted.
pub(crate) fn set_generation(resource: &mut ResourceConfig, generation: u64) {
    let (key, value) = match resource.agent {
        AgentName::Native(_) => ("command", format!("[\"/usr/bin/service\", \"{generation}\"]")),
        AgentName::Ocf { .. } | AgentName::Other { .. } => ("generation", generation.to_string()),
    };
    resource.parameters.insert(key.to_owned(), ParameterValue::Text(value));
}

/// A scenario being written.
pub(crate) struct Draft {
    pub chance: Chance,
    pub layout: Layout,
    faults: Vec<(At, Fault)>,
    ambushes: Vec<Ambush>,
}

impl Draft {
    fn fill(&mut self, flavour: Flavour) {
        let count = if flavour == Flavour::Storm { self.chance.between(25, 60) } else { self.chance.between(4, 14) };
        for _ in 0..count {
            let at = self.chance.between(300 * MILLIS, FAULTY - 5 * SECONDS);
            match flavour {
                Flavour::Mixed | Flavour::Storm => self.any(at),
                Flavour::Power => self.power(at),
                Flavour::Partitions => self.partition(at),
                Flavour::Devices => self.device(at),
                Flavour::Workers => self.worker(at),
                Flavour::Flapping => self.flap(at),
                Flavour::PausedLeaders => self.pause(at),
                Flavour::BadWeather => self.weather(at),
                Flavour::SlowDisks => self.disk(at),
                Flavour::BadAgents => self.agent(at),
                Flavour::Operators => self.operator(at),
                Flavour::Elections => self.election(at),
                Flavour::Growth => self.growth(at),
                Flavour::Ambushes => {
                    self.ambush();
                    self.trigger(at);
                }
                _ => {}
            }
        }
        // Something else besides, so that no flavour is a world of its own.
        for _ in 0..self.chance.below(3) {
            let at = self.chance.between(300 * MILLIS, FAULTY - 5 * SECONDS);
            self.any(at);
        }
    }

    pub fn push(&mut self, at: At, fault: Fault) {
        self.faults.push((at, fault));
    }

    fn any(&mut self, at: At) {
        match self.chance.below(11) {
            0 => self.power(at),
            1 => self.partition(at),
            2 => self.device(at),
            3 => self.worker(at),
            4 => self.flap(at),
            5 => self.pause(at),
            6 => self.weather(at),
            7 => self.disk(at),
            8 => self.agent(at),
            9 => self.operator(at),
            _ => self.election(at),
        }
    }

    pub fn machine(&mut self) -> usize {
        let count = self.layout.machines().len() as u64;
        usize::try_from(self.chance.below(count)).unwrap_or(0)
    }

    pub fn member(&mut self) -> usize {
        usize::try_from(self.chance.below(self.layout.members as u64)).unwrap_or(0)
    }

    pub fn unit(&mut self) -> UnitName {
        let units: Vec<UnitName> = self.layout.config(1, true).units().into_keys().collect();
        self.chance.pick(&units)
    }

    pub fn resource(&mut self) -> ResourceName {
        let resources: Vec<ResourceName> = self.layout.resources.keys().cloned().collect();
        self.chance.pick(&resources)
    }

    pub fn somebody(&mut self) -> Who {
        match self.chance.below(6) {
            0 | 1 => Who::Leader,
            2 => Who::Follower,
            3 | 4 => Who::Holder(self.unit()),
            _ => Who::Machine(self.machine()),
        }
    }

    pub fn device_name(&mut self) -> FenceName {
        let level = self.chance.between(1, self.layout.levels as u64);
        FenceName(format!("power{level}"))
    }

    fn power(&mut self, at: At) {
        if self.chance.is(120) {
            self.push(at, Fault::PowerOffAll);
            for m in 0..self.layout.machines().len() {
                let pause = self.chance.between(50 * MILLIS, 3 * SECONDS);
                self.push(at + pause, Fault::PowerOn(Who::Machine(m)));
            }
            return;
        }
        let who = self.somebody();
        self.push(at, Fault::PowerOff(who));
        let pause = if self.chance.is(300) {
            self.chance.between(5 * MILLIS, 200 * MILLIS)
        } else {
            self.chance.between(SECONDS, 8 * SECONDS)
        };
        for m in 0..self.layout.machines().len() {
            self.push(at + pause, Fault::PowerOn(Who::Machine(m)));
        }
    }

    fn partition(&mut self, at: At) {
        let long = self.chance.between(50 * MILLIS, 6 * SECONDS);
        match self.chance.below(5) {
            0 => {
                let m = self.machine();
                self.push(at, Fault::Isolate(Who::Machine(m), true));
                self.push(at + long, Fault::Isolate(Who::Machine(m), false));
            }
            1 => {
                let (from, to) = (self.machine(), self.machine());
                self.push(at, Fault::OneWay(Who::Machine(from), to, true));
                self.push(at + long, Fault::OneWay(Who::Machine(from), to, false));
            }
            2 => {
                let m = self.machine();
                let link = usize::try_from(self.chance.below(self.layout.links as u64)).unwrap_or(0);
                self.push(at, Fault::Unplug(Who::Machine(m), link, true));
                self.push(at + long, Fault::Unplug(Who::Machine(m), link, false));
            }
            _ => {
                let count = self.layout.machines().len();
                let side: Vec<usize> = (0..count).filter(|_| self.chance.is(500)).collect();
                self.push(at, Fault::Partition(side.clone(), true));
                self.push(at + long, Fault::Partition(side, false));
            }
        }
    }

    fn device(&mut self, at: At) {
        if self.chance.is(120) {
            return self.late_answer(at);
        }
        let device = self.device_name();
        let mood = self.chance.pick(&[
            DeviceMood::Fails,
            DeviceMood::Slow,
            DeviceMood::Lies,
            DeviceMood::Lies,
            DeviceMood::ActsLate,
            DeviceMood::AnswersLate,
            DeviceMood::Dead,
        ]);
        let long = self.chance.between(SECONDS, 8 * SECONDS);
        self.push(at, Fault::Device(device.clone(), mood));
        self.push(at + long, Fault::Device(device, DeviceMood::Works));
        let pause = self.chance.between(10 * MILLIS, 900 * MILLIS);
        let unit = self.unit();
        match self.chance.below(3) {
            0 => {
                let m = self.member();
                self.push(at + pause, Fault::Isolate(Who::Machine(m), true));
                self.push(at + pause + long, Fault::Isolate(Who::Machine(m), false));
            }
            1 => self.push(at + pause, Fault::Freeze(Who::Holder(unit), long)),
            _ => {
                let m = self.member();
                self.push(at + pause, Fault::PowerOff(Who::Machine(m)));
                if self.chance.is(400) {
                    self.push(at + pause + long / 2, Fault::ConfirmOff(m));
                }
                self.push(at + pause + long, Fault::PowerOn(Who::Machine(m)));
            }
        }
    }

    /// A device answers late that a machine is off, which boots meanwhile and falls silent in its next life before it could
    /// say that nothing runs there.
    fn late_answer(&mut self, at: At) {
        let (device, m, unit) = (self.device_name(), self.member(), self.unit());
        let condemned = at + 3 * SECONDS;
        let await_word = |word, pause, fault| Fault::Await(Box::new(Ambush { word, countdown: 1, pause, fault }));
        let (boots, falls) = (self.chance.between(10 * MILLIS, 400 * MILLIS), self.chance.between(0, 60 * MILLIS));
        self.push(at, Fault::Act(ActionKind::Move(unit, place(m))));
        self.push(condemned, Fault::Device(device.clone(), DeviceMood::AnswersLate));
        self.push(condemned, await_word("condemned", boots, Fault::PowerOn(Who::Machine(m))));
        self.push(condemned, await_word("joined", falls, Fault::Isolate(Who::Machine(m), true)));
        self.push(condemned, Fault::PowerOff(Who::Machine(m)));
        self.push(condemned + 8 * SECONDS, Fault::Isolate(Who::Machine(m), false));
        self.push(condemned + 8 * SECONDS, Fault::Device(device, DeviceMood::Works));
        self.push(condemned + 9 * SECONDS, Fault::PowerOn(Who::Machine(m)));
    }

    fn worker(&mut self, at: At) {
        let unit = self.unit();
        let m = self.member();
        // Something begins; the kill hits its middle.
        match self.chance.below(4) {
            0 => self.push(at, Fault::Act(ActionKind::Move(unit.clone(), place(m)))),
            1 => {
                let resource = self.resource();
                self.push(at, Fault::KillService(Who::Holder(unit.clone()), resource));
            }
            2 => self.push(at, Fault::PowerOff(Who::Holder(unit.clone()))),
            _ => {}
        }
        for _ in 0..self.chance.between(1, 3) {
            let pause = self.chance.between(0, 150 * MILLIS);
            let who = match self.chance.below(3) {
                0 => Who::Holder(unit.clone()),
                1 => Who::Leader,
                _ => Who::Machine(m),
            };
            self.push(at + pause, Fault::KillWorker(who));
        }
        for m in 0..self.layout.machines().len() {
            self.push(at + 3 * SECONDS, Fault::PowerOn(Who::Machine(m)));
        }
    }

    fn flap(&mut self, at: At) {
        let m = self.machine();
        let mut at = at;
        for _ in 0..self.chance.between(2, 5) {
            let off = self.chance.between(100 * MILLIS, 2500 * MILLIS);
            let on = self.chance.between(50 * MILLIS, 1500 * MILLIS);
            if self.chance.is(700) {
                self.push(at, Fault::Isolate(Who::Machine(m), true));
                self.push(at + off, Fault::Isolate(Who::Machine(m), false));
            } else {
                // It hears nobody, and everybody hears it.
                for from in (0..self.layout.machines().len()).filter(|from| *from != m) {
                    self.push(at, Fault::OneWay(Who::Machine(from), m, true));
                    self.push(at + off, Fault::OneWay(Who::Machine(from), m, false));
                }
            }
            at += off + on;
        }
    }

    fn pause(&mut self, at: At) {
        if self.chance.is(100) {
            return self.late_verdict(at);
        }
        let long = match self.chance.below(4) {
            0 => self.chance.between(20 * MILLIS, 250 * MILLIS),
            1 | 2 => self.chance.between(250 * MILLIS, 3 * SECONDS),
            _ => self.chance.between(3 * SECONDS, 30 * SECONDS),
        };
        let who = if self.chance.is(700) { Who::Leader } else { self.somebody() };
        match self.chance.below(5) {
            0 => self.push(at, Fault::StallPulse(who, long)),
            1 | 2 => self.push(at, Fault::StallNode(who, long)),
            3 => self.push(at, Fault::StallSeam(who, long.min(2 * SECONDS))),
            _ => self.push(at, Fault::Freeze(who, long)),
        }
        if self.chance.is(400) {
            let unit = self.unit();
            let m = self.member();
            let action = ActionKind::Move(unit, place(m));
            self.push(at.saturating_sub(20 * MILLIS), Fault::Act(action));
        }
    }

    /// While the others can store nothing, a member falls silent for a moment: its Condemn is agreed on when it has
    /// been heard again for a second.
    fn late_verdict(&mut self, at: At) {
        // Of four members the last one has no vote: it cannot agree to its own end.
        let target = self.layout.members - 1;
        let leader = usize::try_from(self.chance.below(target as u64)).unwrap_or(0);
        let unit = self.unit();
        let others = || (0..self.layout.machines().len()).filter(|m| *m != leader && *m != target).map(Who::Machine);
        let (begin, end): (Vec<Fault>, Vec<Fault>) =
            others().map(|who| (Fault::HangDisk(who.clone(), true), Fault::HangDisk(who, false))).unzip();
        let hung = at + 3 * SECONDS;
        let blink = self.chance.between(350 * MILLIS, 450 * MILLIS);
        let back = self.chance.between(1650 * MILLIS, 2250 * MILLIS);
        self.push(at, Fault::Act(ActionKind::Move(unit, place(target))));
        self.push(at, Fault::Lead(leader));
        begin.into_iter().for_each(|fault| self.push(hung, fault));
        self.push(hung + 50 * MILLIS, Fault::Isolate(Who::Machine(target), true));
        self.push(hung + 50 * MILLIS + blink, Fault::Isolate(Who::Machine(target), false));
        end.into_iter().for_each(|fault| self.push(hung + back, fault));
    }

    fn weather(&mut self, at: At) {
        if self.chance.is(150) {
            let (who, drowned) = (self.somebody(), self.chance.pick(&[0, 0, 300, 900]));
            let long = self.chance.between(500 * MILLIS, 8 * SECONDS);
            return self.push(at, Fault::Flood { who, drowned, long });
        }
        let long = self.chance.between(2 * SECONDS, 15 * SECONDS);
        let weather = Weather {
            loss: self.chance.pick(&[0, 10, 100, 200, 300]),
            double: self.chance.pick(&[0, 20, 300]),
            late: self.chance.pick(&[0, 50, 400]),
            very_late: self.chance.pick(&[0, 20, 150]),
            bursts: 0,
        };
        for link in 0..self.layout.links {
            self.push(at, Fault::Weather(link, weather));
            self.push(at + long, Fault::Weather(link, Weather::default()));
        }
        let pause = self.chance.between(100 * MILLIS, SECONDS);
        match self.chance.below(6) {
            0 => self.power(at + pause),
            1 => self.operator(at + pause),
            2 => self.pause(at + pause),
            3 => {}
            // What is restarted in place again and again gives late orders something to disturb.
            _ => {
                let (unit, resource) = (self.unit(), self.resource());
                for n in 1..=4 {
                    let pause = n * self.chance.between(200 * MILLIS, SECONDS);
                    self.push(at + pause, Fault::KillService(Who::Holder(unit.clone()), resource.clone()));
                }
            }
        }
    }

    fn disk(&mut self, at: At) {
        let who = self.somebody();
        let long = self.chance.between(300 * MILLIS, 5 * SECONDS);
        self.push(at, Fault::SlowDisk(who.clone(), long));
        let pause = self.chance.between(10 * MILLIS, 1500 * MILLIS);
        match self.chance.below(4) {
            0 => self.power(at + pause),
            1 => self.push(at + pause, Fault::KillWorker(who)),
            2 => self.operator(at + pause),
            _ => self.election(at + pause),
        }
    }

    fn agent(&mut self, at: At) {
        let (m, resource, unit) = (self.member(), self.resource(), self.unit());
        let bad = [Mood::Slow, Mood::Fails, Mood::FailsDirty, Mood::Hangs];
        let mut mood = AgentMood::default();
        match self.chance.below(4) {
            0 => mood.start = self.chance.pick(&bad),
            1 => mood.stop = self.chance.pick(&bad),
            2 => mood.monitor = self.chance.pick(&bad),
            _ => mood = AgentMood { start: self.chance.pick(&bad), stop: self.chance.pick(&bad), ..mood },
        }
        let long = self.chance.between(SECONDS, 10 * SECONDS);
        self.push(at, Fault::Agent(m, resource.clone(), mood));
        self.push(at + long, Fault::Agent(m, resource.clone(), AgentMood::default()));
        let pause = self.chance.between(0, 500 * MILLIS);
        match self.chance.below(3) {
            0 => self.push(at + pause, Fault::KillService(Who::Machine(m), resource)),
            1 => {
                let other = self.member();
                let action = ActionKind::Move(unit, place(other));
                self.push(at + pause, Fault::Act(action));
            }
            _ => {}
        }
    }

    fn operator(&mut self, at: At) {
        let (m, unit) = (self.member(), self.unit());
        let node = place(m);
        let long = self.chance.between(200 * MILLIS, 6 * SECONDS);
        match self.chance.below(11) {
            0 | 1 => self.push(at, Fault::Act(ActionKind::Move(unit, node))),
            9 => {
                self.push(at, Fault::Act(ActionKind::ClusterMaintenance));
                self.push(at + long, Fault::Undo(ActionKind::ClusterMaintenance));
            }
            10 => self.push(at, Fault::Fence(m)),
            2 => {
                self.push(at, Fault::Act(ActionKind::Standby(node)));
                self.push(at + long, Fault::Undo(ActionKind::Standby(node)));
            }
            3 => {
                self.push(at, Fault::Act(ActionKind::Stop(unit.clone())));
                self.push(at + long, Fault::Undo(ActionKind::Stop(unit)));
            }
            4 => {
                self.push(at, Fault::Act(ActionKind::NodeMaintenance(node)));
                self.push(at + long, Fault::Undo(ActionKind::NodeMaintenance(node)));
            }
            5 => {
                let m = self.machine();
                self.push(at, Fault::Lead(m));
            }
            6 => {
                self.push(at, Fault::Leave(Who::Machine(m)));
                self.push(at + long + 2 * SECONDS, Fault::PowerOff(Who::Machine(m)));
                self.push(at + long + 3 * SECONDS, Fault::PowerOn(Who::Machine(m)));
            }
            7 => {
                let whole = self.layout.config(self.layout.machines().len(), true);
                let mut config = whole.clone();
                let single: Vec<ResourceName> = config
                    .resources
                    .keys()
                    .filter(|r| config.units().contains_key(&UnitName(r.0.clone())))
                    .cloned()
                    .collect();
                if let Some(gone) = single.first().filter(|_| self.chance.is(400)) {
                    config.resources.remove(gone);
                    self.push(at + long, Fault::Configure(Box::new(whole)));
                }
                config.resources.values_mut().for_each(|resource| set_generation(resource, at));
                self.push(at, Fault::Configure(Box::new(config)));
            }
            _ => {
                let step = self.chance.pick(&[-3_600_000, 3_600_000, -500, 120_000]);
                self.push(at, Fault::WallStep(m, step));
            }
        }
    }

    /// Something goes wrong within milliseconds of what the cluster itself does.
    fn ambush(&mut self) {
        let word = self.chance.pick(&[
            "start",
            "stop",
            "granted",
            "releasing",
            "released",
            "condemned",
            "fence-called",
            "fenced",
            "leads",
            "joined",
            "running",
            "power-off",
        ]);
        let who = self.somebody();
        let long = self.chance.between(20 * MILLIS, 3 * SECONDS);
        let fault = match self.chance.below(7) {
            0 | 1 => Fault::PowerOff(who),
            2 | 3 => Fault::KillWorker(who),
            4 => Fault::StallNode(who, long),
            5 => Fault::Freeze(who, long),
            _ => Fault::SlowDisk(who, long),
        };
        let (countdown, pause) = (self.chance.between(1, 5), self.chance.between(0, 4 * MILLIS));
        self.ambushes.push(Ambush { word, countdown, pause, fault });
    }

    /// Members are admitted and removed while something else goes on.
    fn growth(&mut self, at: At) {
        let m = if self.chance.is(500) { self.layout.members - 1 } else { self.member() };
        let pause = self.chance.between(0, 2 * SECONDS);
        match self.chance.below(5) {
            0 | 1 => {
                self.push(at, Fault::Admit(m));
                self.push(at + 2 * SECONDS, Fault::Admit(m));
            }
            2 => {
                self.push(at, Fault::Leave(Who::Machine(m)));
                self.push(at + 3 * SECONDS, Fault::Remove(m));
                self.push(at + 4 * SECONDS + pause, Fault::Admit(m));
            }
            3 => {
                self.push(at, Fault::PowerOff(Who::Machine(m)));
                self.push(at + SECONDS + pause, Fault::Remove(m));
                self.push(at + 4 * SECONDS + pause, Fault::Admit(m));
                self.push(at + 6 * SECONDS + pause, Fault::PowerOn(Who::Machine(m)));
            }
            _ => self.any(at),
        }
        match self.chance.below(4) {
            0 => self.election(at + pause),
            1 => self.partition(at + pause),
            2 => self.push(at + pause, Fault::PowerOff(Who::Leader)),
            _ => {}
        }
        for m in 0..self.layout.machines().len() {
            self.push(at + 5 * SECONDS, Fault::PowerOn(Who::Machine(m)));
        }
    }

    /// Gives the cluster something to do, and power to whoever lost it.
    fn trigger(&mut self, at: At) {
        let (unit, resource, m) = (self.unit(), self.resource(), self.member());
        match self.chance.below(4) {
            0 => self.push(at, Fault::Act(ActionKind::Move(unit, place(m)))),
            1 => self.push(at, Fault::KillService(Who::Holder(unit), resource)),
            2 => self.push(at, Fault::PowerOff(Who::Holder(unit))),
            _ => {
                self.push(at, Fault::Isolate(Who::Machine(m), true));
                self.push(at + 2 * SECONDS, Fault::Isolate(Who::Machine(m), false));
            }
        }
        for m in 0..self.layout.machines().len() {
            self.push(at + 3 * SECONDS, Fault::PowerOn(Who::Machine(m)));
        }
    }

    fn election(&mut self, at: At) {
        if self.chance.is(150) {
            return self.lost_vote(at);
        }
        // The leader falls silent, and while the others elect, power goes where a vote was just given.
        match self.chance.below(3) {
            0 => self.push(at, Fault::PowerOff(Who::Leader)),
            1 => {
                self.push(at, Fault::Freeze(Who::Leader, 2 * SECONDS));
            }
            _ => {
                let m = self.machine();
                self.push(at, Fault::Lead(m));
            }
        }
        for _ in 0..self.chance.between(1, 3) {
            let m = self.machine();
            let pause = self.chance.between(0, 400 * MILLIS);
            if self.chance.is(500) {
                self.push(at + pause, Fault::KillWorker(Who::Machine(m)));
            } else {
                self.push(at + pause, Fault::PowerOff(Who::Machine(m)));
                self.push(at + pause + 100 * MILLIS, Fault::PowerOn(Who::Machine(m)));
            }
        }
        for m in 0..self.layout.machines().len() {
            self.push(at + 4 * SECONDS, Fault::PowerOn(Who::Machine(m)));
        }
    }

    /// A voter loses power between its vote and the disk, and is asked again by the other side of a cut.
    fn lost_vote(&mut self, at: At) {
        let machines: Vec<usize> = (0..3).collect();
        let [old, new, voter] = [0, 1, 2].map(|n| machines[(n + self.layout.links) % 3]);
        let elected = at + 1500 * MILLIS;
        let lost = elected + self.chance.between(230 * MILLIS, 420 * MILLIS);
        self.push(at, Fault::Lead(old));
        self.push(elected, Fault::SlowDisk(Who::Machine(voter), 2 * SECONDS));
        self.push(elected, Fault::Isolate(Who::Machine(old), true));
        self.push(lost, Fault::KillWorker(Who::Machine(voter)));
        self.push(lost, Fault::Isolate(Who::Machine(new), true));
        self.push(lost, Fault::Isolate(Who::Machine(old), false));
        self.push(lost, Fault::KillWorker(Who::Machine(old)));
        self.push(lost + 4 * SECONDS, Fault::Isolate(Who::Machine(new), false));
    }
}
