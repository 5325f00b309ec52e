//! What goes wrong, and what operators do: one step of a scenario.

use std::net::IpAddr;

use model::{ActionKind, Bug, ClusterConfig, FenceName, MemberState, NodeId, NodeRole, ResourceName, UnitName};
use node::Request;
use state::Command;

use crate::agents::AgentMood;
use crate::chance::Chance;
use crate::clock::{At, FOREVER, MILLIS, SECONDS};
use crate::devices::DeviceMood;
use crate::edits;
use crate::file::as_file;
use crate::invariants::Edits;
use crate::machine::Machine;
use crate::network::Weather;
use crate::world::{Event, World};

/// Whom it hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// This machine.
    Machine(usize),
    /// Whoever leads at that moment.
    Leader,
    /// The first machine that runs and does not lead at that moment.
    Follower,
    /// Whoever holds this unit at that moment.
    Holder(UnitName),
}

/// One step of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power goes.
    PowerOff(Who),
    /// The power comes.
    PowerOn(Who),
    /// The power of all machines goes in the same instant.
    PowerOffAll,
    /// The worker process is killed.
    KillWorker(Who),
    /// Every process stands still for so long (nanoseconds).
    Freeze(Who, u64),
    /// The pulse's thread stands still.
    StallPulse(Who, u64),
    /// Everything of the worker but the pulse stands still.
    StallNode(Who, u64),
    /// What the two halves tell each other is late.
    StallSeam(Who, u64),
    /// All switch ports of the machine go off, or on.
    Isolate(Who, bool),
    /// One switch port goes off, or on.
    Unplug(Who, usize, bool),
    /// Nothing goes from the first to the second on any link, or goes again.
    OneWay(Who, usize, bool),
    /// Nothing goes between these and the rest, or goes again.
    Partition(Vec<usize>, bool),
    /// How a network treats its packets.
    Weather(usize, Weather),
    /// Nothing reaches the machine on any network, though it sends; or it hears again.
    Deaf(Who, bool),
    /// The machine sends nothing on any network, though it hears; or it sends again.
    Mute(Who, bool),
    /// One direction of one network loses so many packets in 1000.
    Lossy {
        /// The sender.
        from: usize,
        /// The receiver.
        to: usize,
        /// The network.
        link: usize,
        /// Packets in 1000.
        loss: u64,
    },
    /// Packets from outside fill the sockets of the machine.
    Flood {
        /// Whose sockets.
        who: Who,
        /// So many packets of 1000 that the others send find no room.
        drowned: u64,
        /// For how long, in nanoseconds.
        long: u64,
    },
    /// The operating system of this machine gives this address to an interface; or somebody takes it away, if no member
    /// uses it any more.
    Address(usize, IpAddr, bool),
    /// The newest program is installed on this machine, and its daemon is started again.
    Upgrade(usize),
    /// Everything of the worker but the pulse stands still until the process ends, or goes on.
    HangWorker(Who, bool),
    /// The pulse's thread stands still until the process ends, or goes on.
    HangPulse(Who, bool),
    /// Writes take long for so long.
    SlowDisk(Who, u64),
    /// No write ends any more, or all go on.
    HangDisk(Who, bool),
    /// Every write is refused, or none any more.
    FailDisk(Who, bool),
    /// Every read and write of the disk ends in an error, or none any more.
    DiskErrors(Who, bool),
    /// The disk of a machine without power loses everything that was stored.
    LoseDisk(Who),
    /// Somebody keeps a copy of what is on the disk.
    SaveDisk(Who),
    /// The disk of a machine without power goes back to the copy.
    RestoreDisk(Who),
    /// The worker of the machine applies the log differently from the others from here on, or rightly again.
    Garble(Who, bool),
    /// Something is agreed on at which all compare their states.
    Compare,
    /// It takes this machine so long from power to the daemon.
    BootsIn(usize, u64),
    /// It takes this machine so long to open what is stored, from its next worker on.
    OpensIn(usize, u64),
    /// The operating system of this machine shows another identity from its next boot on.
    ChangeMachineId(usize),
    /// A copy of this machine, disk and all, is powered on next to it.
    Clone(usize),
    /// Something starts on this machine that nobody ordered.
    Wild(usize, ResourceName),
    /// The operating system of this machine starts this at every boot, or does so no more.
    StartsAtBoot(usize, ResourceName, bool),
    /// What runs dies.
    KillService(Who, ResourceName),
    /// How the agent of a resource does its work on one machine.
    Agent(usize, ResourceName, AgentMood),
    /// How the agent of a resource does its work on every machine: what is wrong in the file is wrong everywhere.
    AgentEverywhere(ResourceName, AgentMood),
    /// How a fence device does its work.
    Device(FenceName, DeviceMood),
    /// The machine cannot reach the device any more, or reaches it again.
    DeviceOutOfReach(FenceName, usize, bool),
    /// The wall clock jumps by so many milliseconds.
    WallStep(usize, i64),
    /// The operator asks for this. Ids are not known in advance: a node is named by the place of its machine.
    Act(ActionKind),
    /// The operator asks to take this back; nodes are named as in `Act`.
    Undo(ActionKind),
    /// The operator wants another leader.
    Lead(usize),
    /// The operator forgets all failures.
    Clear,
    /// The operator changes the cluster file.
    Configure(Box<ClusterConfig>),
    /// Somebody makes a mistake in the text of the running cluster's file, by this seed, and applies it.
    Edit(u64),
    /// Somebody applies this text.
    EditTo(String),
    /// The text before all mistakes is applied again.
    TakeBack,
    /// The daemon of the machine is told to end in order.
    Leave(Who),
    /// The daemon that ended in order is started again, in the same boot.
    StartDaemon(Who),
    /// The operator admits this machine as a new member.
    Admit(usize),
    /// The operator removes this member.
    Remove(usize),
    /// The operator wants this member fenced.
    Fence(usize),
    /// The operator attests that this machine is off, if it is.
    ConfirmOff(usize),
    /// The operator attests that this machine is off, whatever is true.
    ConfirmOffFalsely(usize),
    /// The operator forgets the failures of one resource.
    ClearOne(ResourceName),
    /// The operator reads the status of the fence devices of this member.
    FenceTest(usize),
    /// The operator makes a join token.
    Token(u64),
    /// Somebody who recorded it tells the leader once more that this member wants to leave in this life.
    OldLeave(usize),
    /// From now on this waits for its moment.
    Await(Box<Ambush>),
    /// Everything is repaired, and whatever stopped is switched off and on: a person helps.
    HealAll,
    /// The physical world is repaired, and whoever is off is switched on; nobody tells the cluster anything.
    Repair,
}

/// A step that waits for something to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambush {
    /// The note that it waits for (see [`crate::Note`]).
    pub word: &'static str,
    /// At the so-manieth time; at least 1.
    pub countdown: u64,
    /// So long after it, in nanoseconds.
    pub pause: u64,
    /// What happens then.
    pub fault: Fault,
}

impl World {
    /// Schedules a step.
    pub fn plan(&mut self, at: At, fault: Fault) {
        self.script.push(fault);
        self.at(at, Event::Fault { number: self.script.len() - 1 });
    }

    /// Lets a step wait for its moment.
    pub fn ambush(&mut self, ambush: Ambush) {
        self.ambushes.push(ambush);
    }

    /// The machine that is meant.
    pub fn who(&self, who: &Who) -> Option<usize> {
        match who {
            Who::Machine(m) => Some(*m),
            Who::Leader => self.leader(),
            Who::Follower => {
                let leader = self.leader();
                (0..self.machines.len()).find(|m| Some(*m) != leader && self.machines[*m].worker.is_some())
            }
            Who::Holder(unit) => {
                self.watch.agreed.state.holders.get(unit).and_then(|holder| self.machine_of(holder.node))
            }
        }
    }

    /// Does it, at this moment.
    pub fn inflict(&mut self, fault: &Fault) {
        self.trace.line(self.now, "*", || match fault {
            Fault::Configure(_) => "Configure".to_owned(),
            fault => format!("{fault:?}"),
        });
        let now = self.now;
        self.last_fault_at = now;
        self.watch.cuts.on_fault();
        match fault {
            Fault::PowerOff(who) => self.each(who, |world, m| world.power_off(m, "a power cut")),
            Fault::PowerOn(who) => self.each(who, World::power_on),
            Fault::PowerOffAll => (0..self.machines.len()).for_each(|m| self.power_off(m, "a power cut")),
            Fault::KillWorker(who) => self.each(who, World::crash_worker),
            Fault::Freeze(who, long) => self.each(who, |world, m| {
                world.machines[m].frozen_until = world.machines[m].frozen_until.max(now + long);
                world.stand_still(m, *long);
            }),
            Fault::StallPulse(who, long) => self.each(who, |world, m| {
                world.machines[m].pulse_stalled_until = world.machines[m].pulse_stalled_until.max(now + long);
                world.stand_still(m, *long);
            }),
            Fault::StallNode(who, long) => self.each(who, |world, m| {
                world.machines[m].node_stalled_until = world.machines[m].node_stalled_until.max(now + long);
                world.stand_still(m, *long);
            }),
            Fault::StallSeam(who, long) => self.each(who, |world, m| {
                world.machines[m].seam_stalled_until = now + long;
                world.stand_still(m, *long);
            }),
            Fault::Isolate(who, is_off) => self.each(who, |world, m| {
                (0..world.network.links()).for_each(|link| world.network.plug(now, m, link, !is_off));
            }),
            Fault::Unplug(who, link, is_off) => self.each(who, |world, m| world.network.plug(now, m, *link, !is_off)),
            Fault::OneWay(who, to, is_cut) => self.each(who, |world, from| {
                if from != *to {
                    (0..world.network.links()).for_each(|link| world.network.cut(now, from, *to, link, *is_cut));
                }
            }),
            Fault::Partition(side, is_cut) => {
                for a in side {
                    for b in (0..self.machines.len()).filter(|b| !side.contains(b)) {
                        for link in 0..self.network.links() {
                            self.network.cut(now, *a, b, link, *is_cut);
                            self.network.cut(now, b, *a, link, *is_cut);
                        }
                    }
                }
            }
            Fault::Weather(link, weather) => self.network.set_weather(now, *link, *weather),
            Fault::Deaf(who, is_deaf) => self.each(who, |world, m| {
                (0..world.network.links()).for_each(|link| world.network.deafen(now, m, link, *is_deaf));
            }),
            Fault::Mute(who, is_mute) => self.each(who, |world, m| {
                (0..world.network.links()).for_each(|link| world.network.silence(now, m, link, *is_mute));
            }),
            Fault::Lossy { from, to, link, loss } => self.network.lose(now, *from, *to, *link, *loss),
            Fault::HangWorker(who, hangs) => self.each(who, |world, m| {
                world.machines[m].node_stalled_until = if *hangs { now + FOREVER } else { now };
                world.hang(m, *hangs);
            }),
            Fault::HangPulse(who, hangs) => self.each(who, |world, m| {
                world.machines[m].pulse_stalled_until = if *hangs { now + FOREVER } else { now };
                world.hang(m, *hangs);
            }),
            Fault::SlowDisk(who, long) => self.each(who, |world, m| world.machines[m].disk.slow_until = now + long),
            Fault::HangDisk(who, hangs) => self.each(who, |world, m| world.hang_disk(m, *hangs)),
            Fault::FailDisk(who, fails) => self.each(who, |world, m| {
                world.machines[m].disk.fails = *fails;
                world.machines[m].quiet_since = world.machines[m].quiet_since.max(now);
            }),
            Fault::DiskErrors(who, has) => self.each(who, |world, m| {
                world.machines[m].disk.has_errors = *has;
                world.machines[m].quiet_since = world.machines[m].quiet_since.max(now);
            }),
            Fault::Flood { who, drowned, long } => self.each(who, |world, m| {
                (world.machines[m].flooded_until, world.machines[m].drowned) = (now + long, *drowned);
                world.stand_still(m, *long);
            }),
            Fault::Address(m, address, is_there) => {
                self.has_moved = true;
                let is_used = self.is_address_used(*m, *address);
                let addresses = &mut self.machines[*m].addresses;
                let _ = if *is_there { addresses.insert(*address) } else { !is_used && addresses.remove(address) };
                self.review_addresses();
            }
            Fault::Upgrade(m) => {
                let machine = &mut self.machines[*m];
                machine.level = state::LEVEL;
                if machine.halted == Some(node::Halt::Unreadable) {
                    machine.halted = None;
                    self.start_worker(*m);
                } else {
                    self.crash_worker(*m);
                }
            }
            Fault::LoseDisk(who) => self.each(who, |world, m| {
                if !world.machines[m].is_on {
                    world.machines[m].disk.lose();
                }
            }),
            Fault::SaveDisk(who) => self.each(who, |world, m| {
                let mut copy = world.machines[m].disk.clone();
                copy.crash(now, &mut world.chance);
                world.machines[m].saved = Some(copy);
            }),
            Fault::RestoreDisk(who) => self.each(who, |world, m| {
                if let Some(copy) = world.machines[m].saved.clone().filter(|_| !world.machines[m].is_on) {
                    world.machines[m].disk = copy;
                    world.machines[m].was_restored = true;
                }
            }),
            Fault::Garble(who, is_garbled) => self.each(who, |world, m| {
                let bugs = world.settings().bugs;
                let bugs = if *is_garbled { bugs.with(Bug::HistoryGarbled) } else { bugs };
                // A leader that is wrong lets another one lead.
                world.watch.excuse_terms_until(now + 5 * SECONDS);
                if let Some(worker) = world.machines[m].worker.as_mut() {
                    worker.node.plant(bugs);
                }
            }),
            Fault::Compare => self.operate(Command::Nothing),
            Fault::BootsIn(m, long) => self.machines[*m].boots_in = Some(*long),
            Fault::OpensIn(m, long) => self.machines[*m].disk.opens_in = *long,
            Fault::ChangeMachineId(m) => self.machines[*m].machine_id.push_str("-new"),
            Fault::Clone(m) => self.clone_machine(*m),
            Fault::Wild(m, resource) => self.start_wild(*m, resource),
            Fault::StartsAtBoot(m, resource, does) => {
                let at_boot = &mut self.machines[*m].starts_at_boot;
                let _ = if *does { at_boot.insert(resource.clone()) } else { at_boot.remove(resource) };
            }
            Fault::KillService(who, resource) => self.each(who, |world, m| world.kill_service(m, resource)),
            Fault::Agent(m, resource, mood) => drop(self.moods.insert((*m, resource.clone()), *mood)),
            Fault::AgentEverywhere(resource, mood) => {
                self.moods.extend((0..self.machines.len()).map(|m| ((m, resource.clone()), *mood)));
            }
            Fault::Device(device, mood) => {
                self.device_moods.insert(device.clone(), *mood);
                self.devices_mended_at = (*mood == DeviceMood::Works).then_some(now).or(self.devices_mended_at);
            }
            Fault::DeviceOutOfReach(device, m, is_out) => {
                self.devices_mended_at = (!is_out).then_some(now).or(self.devices_mended_at);
                let pair = (device.clone(), *m);
                let _ = if *is_out { self.out_of_reach.insert(pair) } else { self.out_of_reach.remove(&pair) };
            }
            Fault::WallStep(m, millis) => self.machines[*m].clock.wall_offset_ms += millis,
            Fault::Act(action) => {
                self.operate(Command::Act { action: self.meant(action), reason: "a test".to_owned() })
            }
            Fault::Undo(action) => {
                self.operate(Command::Undo { action: self.meant(action), reason: "a test".to_owned() })
            }
            Fault::Lead(m) => {
                self.watch.excuse_terms_until(now + 5 * SECONDS);
                if let (Some(leader), Some(node)) = (self.leader(), self.machines[*m].id) {
                    self.request(leader, Request::Lead { node });
                }
            }
            Fault::Clear => {
                self.operate(Command::Clear { resource: None, node: None, reason: "a test".to_owned() });
            }
            Fault::Configure(config) => match as_file(config) {
                Ok((text, config)) => self.configure(text, config),
                Err(_) if self.has(Bug::FileUnchecked) => self.configure(String::new(), (**config).clone()),
                Err(why) => self.note("refused-file", "", &why),
            },
            Fault::Edit(seed) => {
                let base = self.begin_edits();
                let state = &self.watch.agreed.state;
                // One mistake at a time where nodes reach each other.
                let is_fresh = state.config.nodes == base.1.nodes && state.config.networks == base.1.networks;
                let current = state.config_history.back().map(|record| record.text.clone());
                let text = current.filter(|text| is_fresh && !text.is_empty()).unwrap_or(base.0);
                self.edit_to(edits::at_random(&text, &mut Chance::new(*seed)));
            }
            Fault::EditTo(text) => {
                self.begin_edits();
                self.edit_to(text.clone());
            }
            Fault::TakeBack => {
                let (text, _) = self.begin_edits();
                self.edit_to(text);
            }
            Fault::Leave(who) => self.each(who, |world, m| {
                world.watch.excuse_terms_until(now + 5 * SECONDS);
                if world.machines[m].worker.is_some() {
                    world.request(m, Request::Leave);
                }
            }),
            Fault::StartDaemon(who) => self.each(who, |world, m| {
                if world.machines[m].halted == Some(node::Halt::Left) {
                    world.machines[m].halted = None;
                    world.start_worker(m);
                }
            }),
            Fault::Admit(m) => self.admit(*m),
            Fault::Remove(m) => {
                let node = self.id_of(*m);
                self.operate(Command::Remove { node, reason: "a test".to_owned() });
            }
            Fault::Fence(m) => {
                let (node, reason) = (self.id_of(*m), "a test".to_owned());
                if let Some(leader) = self.leader() {
                    self.request(leader, Request::Condemn { node, reason });
                }
            }
            Fault::ConfirmOff(m) => {
                if !self.machines[*m].is_on {
                    self.confirm_off(*m);
                }
            }
            Fault::ConfirmOffFalsely(m) => self.confirm_off(*m),
            Fault::ClearOne(resource) => {
                let resource = Some(resource.clone());
                self.operate(Command::Clear { resource, node: None, reason: "a test".to_owned() });
            }
            Fault::OldLeave(m) => {
                let life = self.machines[*m]
                    .id
                    .and_then(|id| self.watch.agreed.state.members.get(&id).map(|member| (id, member.incarnation)));
                if let (Some((from, incarnation)), Some(to)) = (life, self.leader()) {
                    let bytes = wire::encode(&wire::Message::Leave { incarnation }).into();
                    self.at(now, Event::MessageArrives { to, from, bytes, stream_to: None });
                }
            }
            Fault::FenceTest(m) => {
                let node = self.id_of(*m);
                if let Some(leader) = self.leader() {
                    self.request(leader, Request::FenceTest { node });
                }
            }
            Fault::Token(id) => {
                let expires = self.machines[0].clock.wall(now + 3600 * SECONDS);
                let (secret_hash, role) = (vec![7; 32], NodeRole::Member);
                self.operate(Command::AddToken { id: *id, secret_hash, expires, role, name: None });
            }
            Fault::Await(ambush) => self.ambushes.push((**ambush).clone()),
            Fault::HealAll => {
                self.repair();
                (0..self.machines.len()).for_each(|m| self.revive(m));
            }
            Fault::Repair => {
                self.repair();
                (0..self.machines.len()).for_each(|m| self.power_on(m));
            }
        }
    }

    /// The action with ids in place of places.
    fn meant(&self, action: &ActionKind) -> ActionKind {
        let id = |place: &NodeId| usize::try_from(place.0).map_or_else(|_| NodeId(0), |m| self.id_of(m));
        match action {
            ActionKind::Standby(node) => ActionKind::Standby(id(node)),
            ActionKind::NodeMaintenance(node) => ActionKind::NodeMaintenance(id(node)),
            ActionKind::Move(unit, node) => ActionKind::Move(unit.clone(), id(node)),
            ActionKind::Leave(node) => ActionKind::Leave(id(node)),
            ActionKind::ClusterMaintenance => ActionKind::ClusterMaintenance,
            ActionKind::ShutDown => ActionKind::ShutDown,
            ActionKind::Stop(unit) => ActionKind::Stop(unit.clone()),
        }
    }

    fn each(&mut self, who: &Who, hit: impl Fn(&mut World, usize)) {
        if let Some(m) = self.who(who) {
            hit(self, m);
        }
    }

    fn configure(&mut self, text: String, config: ClusterConfig) {
        let Some(leader) = self.leader() else { return };
        let expected_version = self.node(leader).map_or_else(Default::default, |n| n.state().config_version);
        let (config, reason) = (Box::new(config), "a test".to_owned());
        self.operate(Command::Configure { expected_version, text, config, reason });
    }

    /// From the first edit on it is watched what edits do; the file before all of them.
    fn begin_edits(&mut self) -> (String, ClusterConfig) {
        let state = &self.watch.agreed.state;
        let text = || state.config_history.back().map(|record| record.text.clone()).unwrap_or_default();
        self.edits.get_or_insert_with(|| Edits::new(text(), state.config.clone())).base.clone()
    }

    /// As `cardea apply` does: what the reader refuses never reaches the cluster.
    fn edit_to(&mut self, text: String) {
        match config::parse(&text) {
            Ok(parsed) => {
                let old = &self.watch.agreed.state.config;
                self.edits.iter_mut().for_each(|edits| edits.on_edit(old, &parsed.config));
                self.configure(text, parsed.config);
            }
            Err(findings) => {
                let why = findings.first().map(|finding| finding.message.clone()).unwrap_or_default();
                self.note("refused-file", "", &why);
            }
        }
    }

    fn confirm_off(&mut self, m: usize) {
        let (node, incarnation) = (self.id_of(m), self.machines[m].incarnation(m));
        self.operate(Command::ManualConfirm { node, incarnation, reason: "a test".to_owned() });
    }

    /// Something of the machine stands still until its process ends, or goes on now.
    fn hang(&mut self, m: usize, hangs: bool) {
        let machine = &mut self.machines[m];
        if hangs {
            machine.quiet_since = self.now + FOREVER;
        } else {
            machine.quiet_since = self.now;
            self.resume(m);
        }
    }

    fn hang_disk(&mut self, m: usize, hangs: bool) {
        let disk = &mut self.machines[m].disk;
        let was_hung = std::mem::replace(&mut disk.is_hung, hangs);
        let waiting = disk.pending();
        if was_hung && !hangs {
            self.machines[m].quiet_since = self.machines[m].quiet_since.max(self.now);
            let life = self.life(m);
            for token in waiting {
                self.after(MILLIS, Event::Durable { machine: m, life, token });
            }
        }
    }

    /// A copy of the machine, disk and all, is powered on next to it.
    fn clone_machine(&mut self, m: usize) {
        let original = &self.machines[m];
        let mut disk = original.disk.clone();
        disk.crash(self.now, &mut self.chance);
        let mut copy = Machine::new(&format!("{}-copy", original.name), original.role);
        (copy.id, copy.disk) = (original.id, disk);
        copy.machine_id.clone_from(&original.machine_id);
        copy.storage_uuid.clone_from(&original.storage_uuid);
        copy.level = original.level;
        (copy.addresses, copy.stored) = (original.addresses.clone(), original.stored.clone());
        self.machines.push(copy);
        self.network.grow(self.now);
        self.watch.grow();
        let place = self.machines.len() - 1;
        self.clones.insert(m, place);
        self.review_addresses();
        self.power_on(place);
    }

    fn stand_still(&mut self, m: usize, long: u64) {
        let end = self.now + long;
        self.machines[m].quiet_since = self.machines[m].quiet_since.max(end);
        self.at(end, Event::Resumes { machine: m });
    }

    /// Asks whoever leads to admit a machine that is no member.
    fn admit(&mut self, m: usize) {
        let Some(leader) = self.leader().filter(|_| self.machines[m].id.is_none()) else { return };
        let Some(node) = self.node(leader) else { return };
        let (name, role) = (self.machines[m].name.clone(), self.machines[m].role);
        let mut config = node.state().config.clone();
        config.nodes.insert(name.clone(), self.node_configs[m].clone());
        let command = Command::Admit {
            role,
            storage_uuid: format!("disk-{name}"),
            machine_id: format!("machine-{name}"),
            config_text: String::new(),
            config: Box::new(config),
            expected_version: node.state().config_version,
            token: None,
            name,
        };
        self.operate(command);
    }

    /// Asks whoever leads for a command; nobody there, nobody hears it.
    pub(crate) fn operate(&mut self, command: Command) {
        if let Some(leader) = self.leader() {
            self.request(leader, Request::Propose(Box::new(command)));
        }
    }

    /// Cables, devices, agents, disks and processes work as they should.
    fn repair(&mut self) {
        self.network.heal(self.now);
        self.ambushes.clear();
        self.moods.clear();
        if !self.device_moods.is_empty() || !self.out_of_reach.is_empty() {
            self.devices_mended_at = Some(self.now);
        }
        self.device_moods.clear();
        self.out_of_reach.clear();
        for m in 0..self.machines.len() {
            let machine = &mut self.machines[m];
            machine.disk.slow_until = machine.disk.slow_until.min(self.now);
            machine.disk.fails = false;
            machine.disk.has_errors = false;
            machine.flooded_until = machine.flooded_until.min(self.now);
            machine.quiet_since = machine.quiet_since.min(self.now);
            machine.frozen_until = machine.frozen_until.min(self.now);
            machine.pulse_stalled_until = machine.pulse_stalled_until.min(self.now);
            machine.node_stalled_until = machine.node_stalled_until.min(self.now);
            machine.seam_stalled_until = machine.seam_stalled_until.min(self.now);
            self.machines[m].disk.opens_in = 0;
            self.machines[m].boots_in = None;
            self.machines[m].starts_at_boot.clear();
            self.hang_disk(m, false);
            self.resume(m);
        }
        // Interfaces have the addresses that the cluster file gives them.
        for (name, node) in &self.watch.agreed.state.config.nodes {
            for machine in self.machines.iter_mut().filter(|machine| machine.name == *name) {
                machine.addresses.extend(&node.links);
            }
        }
        self.review_addresses();
        self.end_cuts();
    }

    /// A device that cut a machine off from a part does not let it in again by itself: once the cluster has its proof,
    /// somebody does.
    pub(crate) fn end_cuts(&mut self) {
        for m in 0..self.machines.len() {
            let member = self.machines[m].id.and_then(|id| self.watch.agreed.state.members.get(&id));
            let is_awaited = member.is_some_and(|member| member.state == MemberState::Condemned);
            if !self.machines[m].cut_off.is_empty() && !is_awaited {
                self.power_off(m, "somebody takes it out of its cut");
                self.machines[m].cut_off.clear();
                self.network.fence(self.now, m, false);
                self.power_on(m);
            }
        }
    }

    /// Powers a machine on; one whose daemon ended for good is switched off first.
    pub(crate) fn revive(&mut self, m: usize) {
        if self.machines[m].halted.is_some() {
            self.power_off(m, "the operator restarts it");
        }
        self.power_on(m);
    }

    /// Has nothing been wrong for `long`, and does no wish or failure keep anything from running?
    pub(crate) fn is_whole_for(&self, long: u64) -> bool {
        let Some(node) = self.leader().and_then(|leader| self.node(leader)) else {
            return self.last_fault_at + long <= self.now && self.is_whole(long);
        };
        let is_blocked = |holder: &model::Holder| matches!(holder.state, model::HolderState::Blocked { .. });
        let is_kept_away = node.state().holders.values().any(is_blocked) || self.waits_for_a_person();
        self.last_fault_at + long <= self.now && !is_kept_away && self.is_whole(long)
    }

    /// Is there anything that only a person can take back, or time: a wish, failures that are counted, a machine that
    /// comes back too often, or one that cannot take part?
    pub(crate) fn waits_for_a_person(&self) -> bool {
        let state = &self.watch.agreed.state;
        let wall = state.history.back().map_or(model::WallTime(0), |entry| entry.at);
        !state.actions.is_empty()
            || state.failures.values().flat_map(|nodes| nodes.values()).any(|failures| failures.count > 0)
            || state.members.values().any(|member| member.is_suppressed(wall))
            || self.machines.iter().any(|machine| machine.id.is_some() && !machine.is_able(state.level))
    }

    fn is_whole(&self, long: u64) -> bool {
        let count = self.machines.len();
        let is_member = |m: usize| self.machines[m].id.is_some();
        let are_good = |a: usize, b: usize| {
            a == b || !is_member(a) || !is_member(b) || self.network.is_good_for(self.now, a, b, long)
        };
        (0..count).all(|m| !is_member(m) || self.machines[m].is_quiet_for(self.now, long))
            && (0..count).all(|a| (0..count).all(|b| are_good(a, b)))
            && self.moods.values().all(|mood| *mood == AgentMood::default())
            && self.network.is_fair()
    }

    /// The id that the machine was admitted under.
    pub fn id_of(&self, m: usize) -> NodeId {
        self.machines[m].id.unwrap_or_default()
    }
}
