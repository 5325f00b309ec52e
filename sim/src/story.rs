//! How is a story told? A cluster, what happens to it, and what must be true then.
//!
//! ```text
//!   cluster(3).resource("db", "prefers a").settle()
//!       .power_off("a").run_for(2.s())
//!       .expect(resource("db").runs_on("b"));
//! ```
//!
//! Every promise of `invariants` is watched all along: a story fails when one is broken. A story that fails tells how
//! it went on standard output.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{
    ActionKind, Bugs, Class, ClusterConfig, Domain, FenceName, NodeId, NodeName, Placement, Profile, ResourceName, Tie,
    UnitName, Weight,
};

use crate::agents::{AgentMood, Mood};
use crate::clock::{At, MILLIS, SECONDS};
use crate::devices::DeviceMood;
use crate::faults::{Ambush, Fault, Who};
use crate::file::as_file;
use crate::invariants::what_is_missing;
use crate::network::Weather;
use crate::setup::Layout;
use crate::trace::Note;
use crate::world::World;

/// Durations as a story says them.
pub trait Seconds {
    /// So many seconds.
    fn s(self) -> Duration;
    /// So many milliseconds.
    fn ms(self) -> Duration;
}

impl Seconds for u64 {
    fn s(self) -> Duration {
        Duration::from_secs(self)
    }
    fn ms(self) -> Duration {
        Duration::from_millis(self)
    }
}

/// A cluster that a story is told about.
pub struct Cluster {
    layout: Layout,
    seed: u64,
    world: Option<World>,
    /// Expectations about what happened look back to here.
    since: At,
}

/// What must be true.
pub struct Expectation {
    text: String,
    check: Box<Check>,
}

/// Looks at a world, and at what happened since then.
type Check = dyn Fn(&World, At) -> Result<(), String>;

/// So many machines with two networks and a fence device each.
pub fn cluster(members: usize) -> Cluster {
    Cluster { layout: Layout::of(members), seed: 1, world: None, since: 0 }
}

impl Cluster {
    /// Another course of chance.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// One network instead of two.
    pub fn one_network(mut self) -> Self {
        self.layout.links = 1;
        self
    }

    /// So many fence devices for each node, tried in their order; each covers everything.
    pub fn levels(mut self, levels: usize) -> Self {
        self.layout.levels = levels;
        self
    }

    /// A fence device for each of these, tried in their order; each covers what it says: `storage`, `network`, `all`.
    pub fn levels_covering(mut self, covers: &[&str]) -> Self {
        let domains = |word: &str| match word {
            "storage" => BTreeSet::from([Domain::Storage]),
            "network" => BTreeSet::from([Domain::Network]),
            "all" => BTreeSet::from([Domain::Storage, Domain::Network]),
            _ => panic!("`{word}` is nothing that a device covers"),
        };
        self.layout.levels = covers.len();
        self.layout.covers = covers.iter().map(|word| domains(word)).collect();
        self
    }

    /// The set of timers.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.layout.profile = profile;
        self
    }

    /// The cluster was founded by an older program.
    pub fn founded_at_level(mut self, level: u8) -> Self {
        self.layout.level = level;
        self
    }

    /// These machines run an older program, of feature level 0.
    pub fn older(mut self, names: &[&str]) -> Self {
        let machines = self.layout.machines();
        self.layout.older = (0..machines.len()).filter(|m| names.contains(&machines[*m].0)).collect();
        self
    }

    /// One more machine that only votes: `w`.
    pub fn witness(mut self) -> Self {
        self.layout.has_witness = true;
        self
    }

    /// Something to run. `words`, separated by commas: `prefers NODE`, `prefers NODE POINTS`, `best-effort`, `unwatched` (its death is found
    /// by checks alone), `avoids NODE`, `after NAME`, `with NAME POINTS`, `failback`, `weighs` (moves where more points
    /// than its stickiness speak for another node), `forgets SECONDS` (its failures are forgotten after so long).
    pub fn resource(mut self, name: &str, words: &str) -> Self {
        let mut placement = Placement::default();
        let (mut class, mut is_native, mut forgets) = (Class::Exclusive, true, None);
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word.split_once(' ') {
                Some(("prefers", liked)) => match liked.split_once(' ') {
                    None => placement.prefer.push(NodeName::from(liked)),
                    Some((node, points)) => {
                        placement.leaning.prefer.insert(NodeName::from(node), points.parse().expect("points"));
                    }
                },
                None if word == "best-effort" => class = Class::BestEffort,
                None if word == "unwatched" => is_native = false,
                Some(("avoids", node)) => {
                    placement.leaning.avoid.insert(NodeName::from(node), Weight::Must);
                }
                Some(("after", other)) => placement.after.push(UnitName::from(other)),
                Some(("with", other)) => {
                    let (other, points) = other.split_once(' ').expect("a name, then points");
                    let weight = Weight::Points(points.parse().expect("points"));
                    placement.leaning.with.insert(UnitName::from(other), Tie { weight, ..Tie::default() });
                }
                Some(("forgets", seconds)) => forgets = Some(Duration::from_secs(seconds.parse().expect("seconds"))),
                None if word == "failback" => placement.failback = true,
                None if word == "weighs" => placement.moves_for_points = true,
                Some(_) | None => panic!("`{word}` is no word of a story"),
            }
        }
        self.layout.add(name, is_native, class, placement);
        self.layout.forget_failures(name, forgets);
        self
    }

    /// Resources that run together.
    pub fn group(mut self, name: &str, members: &[&str]) -> Self {
        self.layout.group(name, members);
        self
    }

    /// The first time: founds the cluster and lets it come up. Later: waits until everything is well.
    pub fn settle(mut self) -> Self {
        if self.world.is_none() {
            let built = self.layout.build(self.seed, Bugs::NONE, Bugs::NONE, false);
            self.world = Some(built.unwrap_or_else(|world| fail(&world, "the cluster did not come up")));
            self.since = self.world().now();
            return self;
        }
        let is_well = self.world().run_while_not(60 * SECONDS, |world| what_is_missing(world).is_none());
        self.check_promises();
        if !is_well {
            let missing = what_is_missing(self.world()).unwrap_or_default();
            fail(self.world(), &format!("the cluster does not settle: {missing}"));
        }
        self
    }

    fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("a story begins with `settle`")
    }

    fn check_promises(&mut self) {
        let world = self.world();
        if let Some(violation) = world.violation() {
            fail(world, &format!("{} is broken: {}", violation.invariant, violation.sentence));
        }
    }

    fn machine(&mut self, name: &str) -> usize {
        self.world().index_of(name).unwrap_or_else(|| panic!("there is no machine {name}"))
    }

    fn who(&mut self, name: &str) -> Who {
        match name {
            "leader" => Who::Leader,
            "follower" => Who::Follower,
            name => Who::Machine(self.machine(name)),
        }
    }

    /// Lets something happen.
    pub fn inflict(mut self, fault: Fault) -> Self {
        self.world().inflict(&fault);
        self
    }

    /// Lets something happen at the next note `word`.
    pub fn when(self, word: &'static str, fault: Fault) -> Self {
        self.when_after(word, Duration::ZERO, fault)
    }

    /// Lets something happen so long after the next note `word`.
    pub fn when_after(mut self, word: &'static str, pause: Duration, fault: Fault) -> Self {
        self.world().ambush(Ambush { word, countdown: 1, pause: nanos(pause), fault });
        self
    }

    /// Time passes.
    pub fn run_for(mut self, long: Duration) -> Self {
        let until = self.world().now() + nanos(long);
        self.world().run_until(until);
        self.check_promises();
        self
    }

    /// Time passes until a note `word` about `subject`, at most a minute.
    pub fn until(mut self, word: &'static str, subject: &'static str) -> Self {
        let begin = self.world().now();
        let has_come = self.world().run_while_not(60 * SECONDS, |world| {
            world
                .trace()
                .notes()
                .iter()
                .rev()
                .take_while(|note| note.at >= begin)
                .any(|note| note.what == word && note.subject == subject)
        });
        self.check_promises();
        if !has_come {
            fail(self.world(), &format!("`{word} {subject}` does not come"));
        }
        self
    }

    /// Expectations about what happened look back to here from now on.
    pub fn from_here(mut self) -> Self {
        self.since = self.world().now();
        self
    }

    /// This must be true.
    pub fn expect(mut self, expectation: Expectation) -> Self {
        let since = self.since;
        if let Err(why) = (expectation.check)(self.world(), since) {
            fail(self.world(), &format!("expected: {}, but {why}", expectation.text));
        }
        self
    }

    /// The power goes.
    pub fn power_off(mut self, name: &str) -> Self {
        let who = self.who(name);
        self.inflict(Fault::PowerOff(who))
    }

    /// The power comes.
    pub fn power_on(mut self, name: &str) -> Self {
        let who = self.who(name);
        self.inflict(Fault::PowerOn(who))
    }

    /// The worker process is killed; its supervisor starts another one.
    pub fn kill_worker(mut self, name: &str) -> Self {
        let who = self.who(name);
        self.inflict(Fault::KillWorker(who))
    }

    /// Every process of the machine stands still.
    pub fn freeze(mut self, name: &str, long: Duration) -> Self {
        let who = self.who(name);
        self.inflict(Fault::Freeze(who, nanos(long)))
    }

    /// The pulse stands still.
    pub fn stall_pulse(mut self, name: &str, long: Duration) -> Self {
        let who = self.who(name);
        self.inflict(Fault::StallPulse(who, nanos(long)))
    }

    /// Everything of the worker but the pulse stands still.
    pub fn stall_rest(mut self, name: &str, long: Duration) -> Self {
        let who = self.who(name);
        self.inflict(Fault::StallNode(who, nanos(long)))
    }

    /// Everything of the worker but the pulse stands still until the process ends.
    pub fn hang_worker(mut self, name: &str) -> Self {
        let who = self.who(name);
        self.inflict(Fault::HangWorker(who, true))
    }

    /// The pulse stands still until the process ends.
    pub fn hang_pulse(mut self, name: &str) -> Self {
        let who = self.who(name);
        self.inflict(Fault::HangPulse(who, true))
    }

    /// No write of the machine ends any more.
    pub fn hang_disk(mut self, name: &str) -> Self {
        let who = self.who(name);
        self.inflict(Fault::HangDisk(who, true))
    }

    /// Every write of the machine is refused, and its worker ends with an error.
    pub fn fail_disk(mut self, name: &str) -> Self {
        let who = self.who(name);
        self.inflict(Fault::FailDisk(who, true))
    }

    /// Nothing reaches the machine any more, though it sends.
    pub fn deaf(mut self, name: &str) -> Self {
        let who = self.who(name);
        self.inflict(Fault::Deaf(who, true))
    }

    /// The machine sends nothing any more, though it hears.
    pub fn mute(mut self, name: &str) -> Self {
        let who = self.who(name);
        self.inflict(Fault::Mute(who, true))
    }

    /// From power to the daemon it takes the machine so long, from its next boot on.
    pub fn boots_in(mut self, name: &str, long: Duration) -> Self {
        let m = self.machine(name);
        self.inflict(Fault::BootsIn(m, nanos(long)))
    }

    /// The machine shows another identity from its next boot on.
    pub fn machine_id_changes(mut self, name: &str) -> Self {
        let m = self.machine(name);
        self.inflict(Fault::ChangeMachineId(m))
    }

    /// A copy of the machine, disk and all, is powered on next to it: `NAME-copy`.
    pub fn clone_of(mut self, name: &str) -> Self {
        let m = self.machine(name);
        self.inflict(Fault::Clone(m))
    }

    /// The machine is cut from every network.
    pub fn isolate(mut self, name: &str) -> Self {
        let who = self.who(name);
        self.inflict(Fault::Isolate(who, true))
    }

    /// Nothing goes between these and the rest.
    pub fn partition(mut self, side: &[&str]) -> Self {
        let side = side.iter().map(|name| self.machine(name)).collect();
        self.inflict(Fault::Partition(side, true))
    }

    /// Nothing goes from the first to the second.
    pub fn cut_one_way(mut self, from: &str, to: &str) -> Self {
        let (from, to) = (self.who(from), self.machine(to));
        self.inflict(Fault::OneWay(from, to, true))
    }

    /// How all networks treat their packets.
    pub fn weather(mut self, weather: Weather) -> Self {
        for link in 0..self.layout.links {
            self = self.inflict(Fault::Weather(link, weather));
        }
        self
    }

    /// Cables, devices and agents work again; nobody gets power.
    pub fn heal_networks(mut self) -> Self {
        let now = self.world().now();
        self.world().network.heal(now);
        self
    }

    /// Everything is repaired and has power.
    pub fn heal(self) -> Self {
        self.inflict(Fault::HealAll)
    }

    /// A service dies.
    pub fn kill(mut self, resource: &str) -> Self {
        let world = self.world();
        let unit = world.watch.agreed.state.config.unit_of(&ResourceName::from(resource));
        self.inflict(Fault::KillService(Who::Holder(unit), resource.into()))
    }

    /// How the fence devices work from now on.
    pub fn devices(self, mood: DeviceMood) -> Self {
        self.inflict(Fault::Device("power1".into(), mood))
    }

    /// How the agent of a resource does its work on this machine from now on.
    pub fn agent(mut self, name: &str, resource: &str, mood: AgentMood) -> Self {
        let m = self.machine(name);
        self.inflict(Fault::Agent(m, resource.into(), mood))
    }

    /// Something starts on this machine that nobody ordered.
    pub fn wild(mut self, name: &str, resource: &str) -> Self {
        let m = self.machine(name);
        self.inflict(Fault::Wild(m, resource.into()))
    }

    /// The operating system of this machine starts this at every boot, whatever the cluster wants.
    pub fn starts_at_boot(mut self, name: &str, resource: &str) -> Self {
        let m = self.machine(name);
        self.inflict(Fault::StartsAtBoot(m, resource.into(), true))
    }

    /// The machine cannot reach the fence devices, though its networks work.
    pub fn devices_out_of_reach(mut self, name: &str) -> Self {
        let m = self.machine(name);
        for level in 1..=self.layout.levels {
            self = self.inflict(Fault::DeviceOutOfReach(FenceName(format!("power{level}")), m, true));
        }
        self
    }

    /// Stops of the resource on this machine come to this.
    pub fn stops_are(mut self, name: &str, resource: &str, stop: Mood) -> Self {
        let m = self.machine(name);
        self.inflict(Fault::Agent(m, resource.into(), AgentMood { stop, ..AgentMood::default() }))
    }

    /// The operator attests that the machine is off, whatever is true.
    pub fn confirm_off_falsely(mut self, name: &str) -> Self {
        let m = self.machine(name);
        self.inflict(Fault::ConfirmOffFalsely(m))
    }

    /// The operator changes the cluster file.
    pub fn configure(mut self, change: impl FnOnce(&mut ClusterConfig)) -> Self {
        let mut config = self.world().watch.agreed.state.config.clone();
        change(&mut config);
        if let Err(why) = as_file(&config) {
            fail(self.world(), &format!("the cluster file is refused: {why}"));
        }
        self.inflict(Fault::Configure(Box::new(config)))
    }

    /// Prints what happened since the look back began, and who leads.
    pub fn tell(mut self, label: &str) -> Self {
        let since = self.since;
        let world = self.world();
        println!("--- {label} at {}.{:03}", world.now() / SECONDS, world.now() % SECONDS / MILLIS);
        print_notes(world, since);
        if let Some((leader, node)) = world.leader().and_then(|leader| Some((leader, world.node(leader)?))) {
            println!("leader {} term {}", world.machines[leader].name, node.consensus().term());
        }
        self
    }

    /// The operator takes a resource out of the cluster file.
    pub fn remove_from_file(mut self, resource: &str) -> Self {
        let mut config = self.world().watch.agreed.state.config.clone();
        config.resources.remove(&ResourceName::from(resource));
        self.inflict(Fault::Configure(Box::new(config)))
    }

    /// The operator moves a unit.
    pub fn move_to(mut self, unit: &str, name: &str) -> Self {
        let place = NodeId(self.machine(name) as u64);
        self.inflict(Fault::Act(ActionKind::Move(UnitName::from(unit), place)))
    }

    /// The machine applies one entry differently from the others, which shows at once.
    pub fn garble_once(mut self, name: &str) -> Self {
        self = self.garble(name);
        let m = self.machine(name);
        let is_garbled = |world: &World| {
            let last = world.node(m).and_then(|node| node.state().history.back().map(|last| last.reason.clone()));
            last.is_some_and(|reason| reason.ends_with('?'))
        };
        if !self.world().run_while_not(SECONDS, is_garbled) {
            fail(self.world(), &format!("{name} applies everything rightly"));
        }
        self.ungarble(name)
    }

    /// The machine applies every entry differently from here on, and one entry follows.
    pub fn garble(mut self, name: &str) -> Self {
        let who = self.who(name);
        self.inflict(Fault::Garble(who, true)).inflict(Fault::Compare)
    }

    /// The machine applies the log rightly again.
    pub fn ungarble(mut self, name: &str) -> Self {
        let who = self.who(name);
        self.inflict(Fault::Garble(who, false))
    }

    /// Leadership goes to this machine, and has gone there.
    pub fn lead(mut self, name: &str) -> Self {
        let m = self.machine(name);
        self = self.inflict(Fault::Lead(m));
        let leads = self.world().run_while_not(10 * SECONDS, |world| world.leader() == Some(m));
        self.check_promises();
        if !leads {
            fail(self.world(), &format!("{name} does not get the lead"));
        }
        self.run_for(500.ms())
    }
}

fn nanos(long: Duration) -> u64 {
    u64::try_from(long.as_nanos()).unwrap_or(u64::MAX)
}

fn print_notes(world: &World, since: At) {
    for Note { at, what, subject, detail } in world.trace().notes().iter().filter(|note| note.at >= since) {
        println!("{:>4}.{:03} {what} {subject}: {detail}", at / SECONDS, at % SECONDS / MILLIS);
    }
}

fn fail(world: &World, why: &str) -> ! {
    print_notes(world, 0);
    panic!("at {}.{:03} s: {why}", world.now() / SECONDS, world.now() % SECONDS / MILLIS);
}

/// Expectations about one machine.
pub struct OfNode(String);

/// Speaks of a machine.
pub fn node(name: &str) -> OfNode {
    OfNode(name.to_owned())
}

/// Expectations about one resource.
pub struct OfResource(String);

/// Speaks of a resource.
pub fn resource(name: &str) -> OfResource {
    OfResource(name.to_owned())
}

fn expectation(text: String, check: impl Fn(&World, At) -> Result<(), String> + 'static) -> Expectation {
    Expectation { text, check: Box::new(check) }
}

fn notes<'a>(world: &'a World, since: At, word: &'a str, subject: &'a str) -> impl Iterator<Item = &'a Note> {
    world.trace().notes().iter().filter(move |note| note.at >= since && note.what == word && note.subject == subject)
}

fn problems(world: &World, name: &str) -> Result<String, String> {
    let m = world.index_of(name).ok_or("there is no such machine")?;
    let node = world.node(m).ok_or("its worker does not run")?;
    Ok(node.view(world.moment(m)).problems.iter().map(|problem| problem.text.as_str()).collect::<Vec<_>>().join("; "))
}

/// All nodes that have applied as much as the first have its state, to the last bit, and none is left out.
pub fn equal_states() -> Expectation {
    expectation("all states are equal".to_owned(), |world, _| {
        let states: Vec<_> = (0..world.machines.len()).filter_map(|m| Some((m, world.node(m)?.state()))).collect();
        let (_, first) = states.first().ok_or("no worker runs")?;
        for (m, state) in &states {
            let name = &world.machines[*m].name;
            if state.applied != first.applied {
                return Err(format!("{name} has applied {}, the first one {}", state.applied, first.applied));
            }
            if state::digest(state) != state::digest(first) {
                return Err(format!("{name} has another state after entry {}", state.applied));
            }
        }
        Ok(())
    })
}

fn times(word: &'static str, subject: String, wanted: usize) -> Expectation {
    expectation(format!("`{word} {subject}` {wanted} times"), move |world, since| {
        match notes(world, since, word, &subject).count() {
            count if count == wanted => Ok(()),
            count => Err(format!("it came {count} times")),
        }
    })
}

impl OfNode {
    /// It was fenced so many times.
    pub fn was_fenced(self, wanted: usize) -> Expectation {
        times("fenced", self.0, wanted)
    }

    /// Its daemon ended for good so many times.
    pub fn has_halted(self, wanted: usize) -> Expectation {
        times("halt", self.0, wanted)
    }

    /// A fence device was told so many times to cut it off.
    pub fn was_told_off(self, wanted: usize) -> Expectation {
        times("fence-called", self.0, wanted)
    }

    /// It was removed so many times.
    pub fn was_removed(self, wanted: usize) -> Expectation {
        times("removed", self.0, wanted)
    }

    /// It was condemned so many times.
    pub fn was_condemned(self, wanted: usize) -> Expectation {
        times("condemned", self.0, wanted)
    }

    /// It took the state of the leader so many times in place of its own.
    pub fn renewed(self, wanted: usize) -> Expectation {
        times("renewed", self.0, wanted)
    }

    /// It knows of a problem with these words.
    pub fn has_problem(self, words: &'static str) -> Expectation {
        expectation(format!("`{words}` is a problem on {}", self.0), move |world, _| {
            let problems = problems(world, &self.0)?;
            if problems.contains(words) { Ok(()) } else { Err(format!("it has {problems}")) }
        })
    }

    /// It knows of no problem with these words.
    pub fn has_no_problem(self, words: &'static str) -> Expectation {
        expectation(format!("`{words}` is no problem on {}", self.0), move |world, _| {
            let problems = problems(world, &self.0)?;
            if problems.contains(words) { Err(format!("it has {problems}")) } else { Ok(()) }
        })
    }

    /// It lost its power so many times.
    pub fn lost_power(self, wanted: usize) -> Expectation {
        times("power-off", self.0, wanted)
    }

    /// It leads.
    pub fn leads(self) -> Expectation {
        expectation(format!("{} leads", self.0), move |world, _| match world.leader() {
            Some(leader) if world.machines[leader].name.as_str() == self.0 => Ok(()),
            Some(leader) => Err(format!("{} leads", world.machines[leader].name)),
            None => Err("nobody leads".to_owned()),
        })
    }

    /// It does not belong to a majority that has a leader.
    pub fn lacks_quorum(self) -> Expectation {
        expectation(format!("{} is inquorate", self.0), move |world, _| {
            let m = world.index_of(&self.0).ok_or("there is no such machine")?;
            match world.node(m).is_some_and(|node| node.consensus().is_quorate()) {
                false => Ok(()),
                true => Err("it is quorate".to_owned()),
            }
        })
    }

    /// Its fence was proven before the resource was started anywhere.
    pub fn fenced_before_start_of(self, resource: &str) -> Expectation {
        let resource = resource.to_owned();
        expectation(format!("{} is fenced before {resource} starts", self.0), move |world, since| {
            let fenced = notes(world, since, "fenced", &self.0).map(|note| note.at).next();
            let started = notes(world, since, "start", &resource).map(|note| note.at).next();
            match (fenced, started) {
                (Some(fenced), Some(started)) if fenced <= started => Ok(()),
                (_, None) => Err(format!("{resource} was not started")),
                (fenced, Some(_)) => Err(format!("the fence came at {fenced:?}")),
            }
        })
    }

    /// It is counted as lost within this time after its power went.
    pub fn was_detected_within(self, limit: Duration) -> Expectation {
        expectation(format!("{} is lost within {limit:?}", self.0), move |world, since| {
            let off = notes(world, since, "power-off", &self.0).map(|note| note.at).next().ok_or("it has power")?;
            let lost =
                notes(world, off, "condemned", &self.0).map(|note| note.at).next().ok_or("it is not condemned")?;
            if lost - off <= nanos(limit) { Ok(()) } else { Err(format!("it took {} ms", (lost - off) / MILLIS)) }
        })
    }
}

impl OfResource {
    /// It really runs there, and nowhere else.
    pub fn runs_on(self, name: &str) -> Expectation {
        let name = name.to_owned();
        expectation(format!("{} runs on {name}", self.0), move |world, _| match world.active_on(&self.0).as_slice() {
            [only] if *only == name => Ok(()),
            others => Err(format!("it runs on {others:?}")),
        })
    }

    /// It runs somewhere.
    pub fn runs(self) -> Expectation {
        expectation(format!("{} runs", self.0), move |world, _| match world.active_on(&self.0).as_slice() {
            [_] => Ok(()),
            others => Err(format!("it runs on {others:?}")),
        })
    }

    /// It does not run on this machine.
    pub fn avoids(self, name: &str) -> Expectation {
        let name = name.to_owned();
        expectation(format!("{} is not on {name}", self.0), move |world, _| {
            let places = world.active_on(&self.0);
            if places.iter().any(|place| *place == name) { Err(format!("it runs on {places:?}")) } else { Ok(()) }
        })
    }

    /// It runs nowhere.
    pub fn runs_nowhere(self) -> Expectation {
        expectation(format!("{} is stopped", self.0), move |world, _| match world.active_on(&self.0).as_slice() {
            [] => Ok(()),
            others => Err(format!("it runs on {others:?}")),
        })
    }

    /// Its start was spawned so many times.
    pub fn was_started(self, wanted: usize) -> Expectation {
        times("start", self.0, wanted)
    }

    /// It was granted so many times; for resources in no group.
    pub fn was_granted(self, wanted: usize) -> Expectation {
        times("granted", self.0, wanted)
    }

    /// It runs again within this time after it died, or whoever ran it lost power.
    pub fn was_back_within(self, limit: Duration) -> Expectation {
        expectation(format!("{} is back within {limit:?}", self.0), move |world, since| {
            let back = notes(world, since, "running", &self.0).last().map(|note| note.at).ok_or("it is not back")?;
            if back - since <= nanos(limit) { Ok(()) } else { Err(format!("it took {} ms", (back - since) / MILLIS)) }
        })
    }
}

/// The newest term rose by so much.
pub fn term(rises: usize) -> Expectation {
    expectation(format!("{rises} new terms"), move |world, since| {
        let leads = world.trace().notes().iter().filter(|note| note.at >= since && note.what == "leads");
        match leads.filter(|note| note.detail.starts_with("term ")).count() {
            count if count == rises => Ok(()),
            count => Err(format!("there were {count}")),
        }
    })
}

/// Entries of this level are in use.
pub fn level(wanted: u8) -> Expectation {
    expectation(format!("feature level {wanted}"), move |world, _| match world.watch.agreed.state.level {
        level if level == wanted => Ok(()),
        level => Err(format!("it is {level}")),
    })
}

/// Somebody was elected within this time after the look back began.
pub fn leader(limit: Duration) -> Expectation {
    expectation(format!("a leader within {limit:?}"), move |world, since| {
        let led = world.trace().notes().iter().find(|note| note.at >= since && note.what == "leads");
        let led = led.ok_or("nobody was elected")?.at;
        if led - since <= nanos(limit) { Ok(()) } else { Err(format!("it took {} ms", (led - since) / MILLIS)) }
    })
}

/// So many members were condemned, all together.
pub fn condemned(wanted: usize) -> Expectation {
    expectation(format!("{wanted} are condemned"), move |world, since| {
        let notes = world.trace().notes().iter().filter(|note| note.at >= since && note.what == "condemned");
        match notes.count() {
            count if count == wanted => Ok(()),
            count => Err(format!("{count} were")),
        }
    })
}

/// Everything that can run runs, and every member is there.
pub fn everything() -> Expectation {
    expectation("everything is well".to_owned(), |world, _| what_is_missing(world).map_or(Ok(()), Err))
}
