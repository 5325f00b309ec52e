//! What lasts: flavours whose faults do not end by themselves. Units that can run must run meanwhile (`oracle.rs`);
//! at the end only the physical world is repaired, and whatever a person would have to undo stays.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use model::{
    ActionKind, AgentName, Class, ClusterConfig, Domain, FenceName, GroupName, NodeName, NodeRole, ParameterValue,
    Placement, Profile, ResourceName, Tie, UnitName, Weight,
};

use crate::agents::{AgentMood, Mood};
use crate::clock::{At, MILLIS, SECONDS};
use crate::devices::DeviceMood;
use crate::faults::{Fault, Who};
use crate::file::as_file;
use crate::network::Weather;
use crate::scenario::{Draft, Flavour, place, set_generation};
use crate::setup::Layout;

impl Draft {
    /// Writes a scenario of a flavour whose faults last.
    pub(crate) fn fill_lasting(&mut self, flavour: Flavour) {
        let begin = self.chance.between(500 * MILLIS, 3 * SECONDS);
        match flavour {
            Flavour::Lasting => self.lasting(begin),
            Flavour::OneWay => self.one_way(begin),
            Flavour::Wild => self.wild(begin),
            Flavour::SlowBoots => self.slow_boots(begin),
            Flavour::SickAgents => self.sick_agents(begin),
            Flavour::SickDisks => self.sick_disks(begin),
            Flavour::PartialDevices => self.partial_devices(begin),
            Flavour::Identities => self.identities(begin),
            Flavour::Configurations => self.configurations(begin),
            Flavour::Inputs => self.inputs(begin),
            Flavour::NoDevices => self.no_devices(begin),
            Flavour::Upgrades => self.upgrades(begin),
            Flavour::Edits => self.edits(begin),
            _ => {}
        }
    }

    /// Something goes wrong, stays so, and long after it something else does.
    fn lasting(&mut self, at: At) {
        self.lasting_fault(at);
        if self.chance.is(700) {
            let pause = self.chance.between(2 * SECONDS, 20 * SECONDS);
            self.occasion(at + pause);
        }
        if self.chance.is(500) {
            let pause = self.chance.between(25 * SECONDS, 60 * SECONDS);
            self.lasting_fault(at + pause);
        }
    }

    fn lasting_fault(&mut self, at: At) {
        let who = self.somebody();
        match self.chance.below(11) {
            0 | 1 => self.push(at, Fault::PowerOff(who)),
            2 => self.push(at, Fault::Isolate(who, true)),
            3 => self.push(at, Fault::Deaf(who, true)),
            4 => self.push(at, Fault::Mute(who, true)),
            5 | 6 => self.push(at, Fault::HangWorker(who, true)),
            7 => self.push(at, Fault::HangPulse(who, true)),
            8 => self.push(at, Fault::HangDisk(who, true)),
            9 => self.push(at, Fault::FailDisk(who, true)),
            _ => self.partial_cut(at, true),
        }
    }

    fn partial_cut(&mut self, at: At, is_cut: bool) {
        let (one, other) = (self.machine(), self.machine());
        self.push(at, Fault::OneWay(Who::Machine(one), other, is_cut));
        if self.chance.is(600) {
            self.push(at, Fault::OneWay(Who::Machine(other), one, is_cut));
        }
    }

    /// Something that makes the cluster act.
    fn occasion(&mut self, at: At) {
        let (unit, resource, m) = (self.unit(), self.resource(), self.member());
        match self.chance.below(6) {
            0 | 1 => self.push(at, Fault::KillService(Who::Holder(unit), resource)),
            2 => self.push(at, Fault::Act(ActionKind::Move(unit, place(m)))),
            3 => self.push(at, Fault::Lead(m)),
            4 => self.push(at, Fault::Act(ActionKind::Standby(place(m)))),
            _ => self.push(at, Fault::KillWorker(Who::Holder(unit))),
        }
    }

    /// Packets that are lost in one direction, or for moments.
    fn one_way(&mut self, begin: At) {
        for _ in 0..self.chance.between(1, 3) {
            let at = begin + self.chance.between(0, 40 * SECONDS);
            let (who, links) = (self.somebody(), self.layout.links);
            match self.chance.below(8) {
                7 => {
                    let (drowned, long) =
                        (self.chance.pick(&[0, 300, 900]), self.chance.between(SECONDS, 90 * SECONDS));
                    self.push(at, Fault::Flood { who, drowned, long });
                }
                0 => self.push(at, Fault::Deaf(who, true)),
                1 => self.push(at, Fault::Mute(who, true)),
                2 | 3 => self.partial_cut(at, true),
                4 => {
                    let (from, to) = (self.machine(), self.machine());
                    let loss = self.chance.pick(&[100, 300, 600, 950]);
                    for link in 0..links {
                        self.push(at, Fault::Lossy { from, to, link, loss });
                    }
                }
                5 => {
                    let weather = Weather { bursts: self.chance.pick(&[1, 5, 20]), ..Weather::default() };
                    (0..links).for_each(|link| self.push(at, Fault::Weather(link, weather)));
                }
                _ => {
                    let long = self.chance.between(200 * MILLIS, 20 * SECONDS);
                    self.push(at, Fault::Deaf(who.clone(), true));
                    self.push(at + long, Fault::Deaf(who, false));
                }
            }
            if self.chance.is(500) {
                let pause = self.chance.between(SECONDS, 10 * SECONDS);
                self.occasion(at + pause);
            }
        }
    }

    /// Services run that nobody ordered, where the cluster wants them and where not.
    fn wild(&mut self, begin: At) {
        let whole = self.layout.config(self.layout.machines().len(), true);
        let extra = ResourceName::from("extra");
        let mut pattern = whole.resources[&ResourceName::from("web")].clone();
        if self.chance.is(200) {
            pattern.class = Class::BestEffort;
        }
        for m in 0..self.layout.members {
            if self.chance.is(450) {
                self.push(begin, Fault::Wild(m, extra.clone()));
            }
            let mood = AgentMood {
                stop: self.chance.pick(&[Mood::Works, Mood::Works, Mood::Slow, Mood::Fails]),
                monitor: self.chance.pick(&[Mood::Works, Mood::Works, Mood::Works, Mood::FailsForGood, Mood::Fails]),
                ..AgentMood::default()
            };
            self.push(begin, Fault::Agent(m, extra.clone(), mood));
        }
        let mut config = whole.clone();
        config.resources.insert(extra.clone(), pattern);
        if self.chance.is(500) {
            let site = config.groups.get_mut(&GroupName::from("site")).expect("every layout has it");
            let at = usize::try_from(self.chance.below(site.members.len() as u64 + 1)).unwrap_or(0);
            site.members.insert(at, extra.clone());
        }
        let configured = begin + SECONDS;
        self.push(configured, Fault::Configure(Box::new(config.clone())));
        if config.resources[&extra].class == Class::BestEffort {
            config.resources.get_mut(&extra).expect("just added").class = Class::Exclusive;
            let pause = self.chance.between(10 * MILLIS, 5 * SECONDS);
            self.push(configured + pause, Fault::Configure(Box::new(config)));
        }
        let pause = self.chance.between(5 * MILLIS, 3 * SECONDS);
        let m = self.member();
        match self.chance.below(5) {
            0 => self.push(configured + pause, Fault::Leave(Who::Machine(m))),
            1 => self.push(configured + pause, Fault::PowerOff(Who::Machine(m))),
            2 => self.push(configured + pause, Fault::KillWorker(Who::Machine(m))),
            3 => self.push(configured + pause, Fault::Lead(m)),
            _ => {}
        }
        // What the operating system starts by itself is there before the cluster is.
        if self.chance.is(500) {
            let (m, resource) = (self.member(), self.resource());
            let at = configured + 20 * SECONDS;
            self.push(at, Fault::StartsAtBoot(m, resource, true));
            self.push(at, Fault::PowerOff(Who::Machine(m)));
            self.push(at + 3 * SECONDS, Fault::PowerOn(Who::Machine(m)));
        }
    }

    /// Machines need their time to boot, and some never come back.
    fn slow_boots(&mut self, at: At) {
        let count = self.layout.machines().len();
        let all = self.chance.is(600);
        let absent = self.chance.is(300).then(|| self.machine());
        for m in 0..count {
            let long = match self.chance.below(20) {
                0 => self.chance.between(100 * SECONDS, 280 * SECONDS),
                1..=9 => self.chance.between(10 * SECONDS, 60 * SECONDS),
                _ => self.chance.between(SECONDS, 10 * SECONDS),
            };
            self.push(at.saturating_sub(MILLIS), Fault::BootsIn(m, long));
        }
        if all {
            self.push(at, Fault::PowerOffAll);
        } else {
            let who = self.somebody();
            self.push(at, Fault::PowerOff(who));
        }
        let pause = self.chance.between(100 * MILLIS, 5 * SECONDS);
        for m in (0..count).filter(|m| Some(*m) != absent) {
            self.push(at + pause, Fault::PowerOn(Who::Machine(m)));
        }
        if self.chance.is(500) {
            let pause = self.chance.between(20 * SECONDS, 90 * SECONDS);
            self.occasion(at + pause);
        }
        if !all && self.chance.is(400) {
            let (who, pause) = (self.somebody(), self.chance.between(40 * SECONDS, 90 * SECONDS));
            self.push(at + pause, Fault::PowerOff(who.clone()));
            self.push(at + pause + SECONDS, Fault::PowerOn(who));
        }
    }

    /// Agents that can never work, tell untruths, or leave something behind.
    fn sick_agents(&mut self, begin: At) {
        let bad = [Mood::Fails, Mood::FailsDirty, Mood::Hangs, Mood::HangsDirty, Mood::FailsForGood];
        for _ in 0..self.chance.between(1, 3) {
            let at = begin + self.chance.between(0, 30 * SECONDS);
            let (m, resource, unit) = (self.member(), self.resource(), self.unit());
            let db = ResourceName::from("db");
            if self.chance.is(150) && self.layout.resources.contains_key(&db) {
                // The agent of what runs is taken away, and then it is to move.
                let mood = AgentMood { stop: Mood::FailsForGood, monitor: Mood::FailsForGood, ..AgentMood::default() };
                self.push(at, Fault::AgentEverywhere(db, mood));
                self.push(at + SECONDS, Fault::Act(ActionKind::Move("db".into(), place(m))));
                continue;
            }
            let mut mood = AgentMood { outlives_halt: self.chance.is(300), ..AgentMood::default() };
            match self.chance.below(5) {
                0 | 1 => mood.start = self.chance.pick(&bad),
                2 => mood.stop = self.chance.pick(&bad),
                3 => {
                    mood.monitor = self.chance.pick(&[Mood::Fails, Mood::FailsForGood, Mood::Hangs, Mood::SaysRunning])
                }
                _ => {
                    let one = self.chance.pick(&bad);
                    mood = AgentMood { start: one, stop: one, monitor: one, ..mood };
                }
            }
            if self.chance.is(350) {
                if self.chance.is(500) {
                    // It cannot even be asked, or stopped.
                    mood = AgentMood { stop: Mood::Fails, monitor: Mood::Fails, ..mood };
                }
                self.push(at, Fault::AgentEverywhere(resource.clone(), mood));
            } else {
                self.push(at, Fault::Agent(m, resource.clone(), mood));
            }
            let pause = self.chance.between(0, 5 * SECONDS);
            match self.chance.below(5) {
                0 | 1 => self.push(at + pause, Fault::Act(ActionKind::Move(unit, place(m)))),
                2 => self.push(at + pause, Fault::KillService(Who::Machine(m), resource)),
                3 => self.push(at + pause, Fault::PowerOff(Who::Holder(unit))),
                _ => self.push(at + pause, Fault::Isolate(Who::Holder(unit), true)),
            }
        }
    }

    /// Disks that hang, refuse writes, end in errors, take long to open, lose everything, or are restored from a copy.
    fn sick_disks(&mut self, at: At) {
        let who = self.somebody();
        let m = self.machine();
        match self.chance.below(8) {
            5 => self.push(at, Fault::DiskErrors(who, true)),
            6 => {
                // What is stored cannot be read by the next worker.
                self.push(at, Fault::DiskErrors(Who::Machine(m), true));
                self.push(at, Fault::KillWorker(Who::Machine(m)));
            }
            7 => {
                let (saved, pause) = (at, self.chance.between(SECONDS, 15 * SECONDS));
                self.push(saved, Fault::SaveDisk(Who::Machine(m)));
                self.occasion(saved + pause / 2);
                self.push(saved + pause, Fault::PowerOff(Who::Machine(m)));
                self.push(saved + pause + SECONDS, Fault::RestoreDisk(Who::Machine(m)));
                self.push(saved + pause + 2 * SECONDS, Fault::PowerOn(Who::Machine(m)));
            }
            0 | 1 => self.push(at, Fault::HangDisk(who, true)),
            2 => self.push(at, Fault::FailDisk(who, true)),
            3 => {
                self.push(at, Fault::PowerOff(Who::Machine(m)));
                self.push(at + SECONDS, Fault::LoseDisk(Who::Machine(m)));
                self.push(at + 2 * SECONDS, Fault::PowerOn(Who::Machine(m)));
            }
            _ => {
                let long = self.chance.between(200 * MILLIS, 8 * SECONDS);
                self.push(at, Fault::OpensIn(m, long));
                self.push(at + SECONDS, Fault::KillWorker(Who::Machine(m)));
            }
        }
        let pause = self.chance.between(SECONDS, 20 * SECONDS);
        self.occasion(at + pause);
        if self.chance.is(400) {
            let (who, pause) = (self.somebody(), self.chance.between(20 * SECONDS, 50 * SECONDS));
            self.push(at + pause, Fault::PowerOff(who));
        }
    }

    /// Devices that do not work for long, or not for everybody.
    fn partial_devices(&mut self, at: At) {
        let (device, m) = (self.device_name(), self.machine());
        match self.chance.below(4) {
            0 => self.push(at, Fault::DeviceOutOfReach(device, m, true)),
            1 => {
                let mood = self.chance.pick(&[DeviceMood::Dead, DeviceMood::Fails, DeviceMood::Lies, DeviceMood::Slow]);
                self.push(at, Fault::Device(device, mood));
            }
            2 => {
                self.push(at, Fault::Device(device.clone(), DeviceMood::Dead));
                let long = self.chance.between(5 * SECONDS, 60 * SECONDS);
                self.push(at + long, Fault::Device(device, DeviceMood::Works));
            }
            _ => {}
        }
        for _ in 0..self.chance.between(1, 2) {
            let (who, pause) = (self.somebody(), self.chance.between(100 * MILLIS, 30 * SECONDS));
            match self.chance.below(4) {
                0 | 1 => self.push(at + pause, Fault::PowerOff(who)),
                2 => self.push(at + pause, Fault::Isolate(who, true)),
                _ => self.push(at + pause, Fault::Freeze(who, 20 * SECONDS)),
            }
        }
    }

    /// Cuts, pauses and power cuts of a cluster that cannot fence.
    fn no_devices(&mut self, begin: At) {
        let mut at = begin;
        for _ in 0..self.chance.between(2, 6) {
            let m = self.machine();
            let who = || Who::Machine(m);
            let long = self.chance.between(300 * MILLIS, 25 * SECONDS);
            let (begins, ends) = match self.chance.below(7) {
                0 | 1 => (Fault::Isolate(who(), true), Some(Fault::Isolate(who(), false))),
                2 => (Fault::Deaf(who(), true), Some(Fault::Deaf(who(), false))),
                3 => (Fault::Mute(who(), true), Some(Fault::Mute(who(), false))),
                4 => (Fault::Freeze(who(), long), None),
                5 => (Fault::HangWorker(who(), true), Some(Fault::HangWorker(who(), false))),
                _ => (Fault::PowerOff(who()), Some(Fault::PowerOn(who()))),
            };
            self.push(at, begins);
            if let Some(ends) = ends {
                self.push(at + long, ends);
            }
            at += self.chance.between(100 * MILLIS, 30 * SECONDS);
        }
    }

    /// Machines that come back as another one.
    fn identities(&mut self, at: At) {
        let m = self.machine();
        if self.chance.is(600) {
            self.push(at, Fault::ChangeMachineId(m));
            self.push(at, Fault::PowerOff(Who::Machine(m)));
            let pause = self.chance.between(100 * MILLIS, 5 * SECONDS);
            self.push(at + pause, Fault::PowerOn(Who::Machine(m)));
        } else {
            self.push(at, Fault::Clone(m));
        }
        let pause = self.chance.between(SECONDS, 30 * SECONDS);
        self.occasion(at + pause);
    }

    /// The cluster file of a running cluster changes in every way that a person can think of.
    fn configurations(&mut self, begin: At) {
        let mut config = self.layout.config(self.layout.machines().len(), true);
        let mut at = begin;
        for _ in 0..self.chance.between(3, 9) {
            let before = config.clone();
            if self.chance.is(250) {
                self.readdress(&mut config, at);
            } else {
                self.edit(&mut config, at);
            }
            self.push(at, Fault::Configure(Box::new(config.clone())));
            // The next change begins with the file that counts.
            if as_file(&config).is_err() {
                config = before;
            }
            let pause = self.chance.between(20 * MILLIS, 8 * SECONDS);
            match self.chance.below(6) {
                0 => self.occasion(at + pause / 2),
                1 => {
                    let who = self.somebody();
                    self.push(at + pause / 2, Fault::PowerOff(who));
                    for m in 0..self.layout.machines().len() {
                        self.push(at + pause / 2 + 4 * SECONDS, Fault::PowerOn(Who::Machine(m)));
                    }
                }
                _ => {}
            }
            at += pause;
        }
    }

    /// Addresses change in every way that a person can think of: others on one network, for one machine or for all; a
    /// network goes, or comes; the links of one machine, or of all, in another order; an address that carries nothing.
    fn readdress(&mut self, config: &mut ClusterConfig, at: At) {
        let only = self.chance.is(500).then(|| self.machine());
        let names: Vec<(usize, NodeName)> =
            self.layout.machines().into_iter().map(|(name, _)| NodeName::from(name)).enumerate().collect();
        let mut concerned: Vec<(usize, &mut Vec<IpAddr>)> = Vec::new();
        for (name, node) in &mut config.nodes {
            let m = names.iter().find(|(_, known)| known == name).map(|(m, _)| *m);
            concerned.extend(m.map(|m| (m, &mut node.links)));
        }
        let links = concerned.iter().map(|(_, links)| links.len()).max().unwrap_or(1);
        let network = u8::try_from(self.chance.between(20, 200)).unwrap_or(20);
        let address = |link: usize, m: usize| IpAddr::V4(Ipv4Addr::new(10, network, link as u8 + 1, m as u8 + 1));
        let mut pushed: Vec<(At, Fault)> = Vec::new();
        match self.chance.below(8) {
            // The new addresses are there before the file changes; the old ones go later, or at once.
            0..4 => {
                let link = usize::try_from(self.chance.below(self.layout.links as u64)).unwrap_or(0);
                let keep = if self.chance.is(300) { 2 * SECONDS } else { self.chance.between(SECONDS, 20 * SECONDS) };
                for (m, links) in concerned.into_iter().filter(|(m, _)| only.is_none_or(|only| only == *m)) {
                    let Some(place) = links.get_mut(link) else { continue };
                    // The network that it lies on stays the same.
                    let third = match place {
                        IpAddr::V4(old) => usize::from(old.octets()[2]).saturating_sub(1),
                        IpAddr::V6(_) => link,
                    };
                    let new = address(third, m);
                    let old = std::mem::replace(place, new);
                    pushed.push((at.saturating_sub(MILLIS), Fault::Address(m, new, true)));
                    if old != new {
                        pushed.push((at + keep, Fault::Address(m, old, false)));
                    }
                }
            }
            4 if links > 1 => {
                let link = usize::try_from(self.chance.below(links as u64)).unwrap_or(0);
                for (m, links) in concerned.into_iter().filter(|(_, links)| link < links.len()) {
                    // The interface keeps its address.
                    pushed.push((at.saturating_sub(MILLIS), Fault::Address(m, links.remove(link), true)));
                }
            }
            4 | 5 if links < self.layout.links => {
                for (m, links) in concerned {
                    let on = |link: usize| {
                        links
                            .iter()
                            .any(|known| matches!(known, IpAddr::V4(v4) if usize::from(v4.octets()[2]) == link + 1))
                    };
                    let Some(missing) = (0..self.layout.links).find(|link| !on(*link)) else { continue };
                    let new = address(missing, m);
                    links.push(new);
                    pushed.push((at.saturating_sub(MILLIS), Fault::Address(m, new, true)));
                }
            }
            4..6 => {
                for (m, links) in concerned.into_iter().filter(|(m, _)| only.is_none_or(|only| only == *m)) {
                    links.reverse();
                    pushed.extend(links.iter().map(|link| (at.saturating_sub(MILLIS), Fault::Address(m, *link, true))));
                }
            }
            // No machine has it, and it is on a network that does not exist.
            _ => {
                for (m, links) in concerned.into_iter().filter(|(m, _)| only.is_none_or(|only| only == *m)) {
                    let link = usize::try_from(self.chance.below(links.len().max(1) as u64)).unwrap_or(0);
                    let Some(place) = links.get_mut(link) else { continue };
                    pushed.push((at.saturating_sub(MILLIS), Fault::Address(m, *place, true)));
                    *place = address(200, m);
                }
            }
        }
        let most = config.nodes.values().map(|node| node.links.len()).max().unwrap_or(0);
        config.networks.retain(|number, _| usize::from(*number) <= most);
        for (at, fault) in pushed {
            self.push(at, fault);
        }
    }

    /// Older programs are replaced one by one; one may stay, or be off meanwhile and come back old.
    fn upgrades(&mut self, begin: At) {
        let mut older: Vec<usize> = self.layout.older.iter().copied().collect();
        let late = self.layout.machines().len() - self.layout.late;
        let stays = if self.chance.is(300) { Some(self.chance.pick(&older)) } else { None };
        let is_off = if self.chance.is(400) { Some(self.chance.pick(&older)) } else { None };
        let mut at = begin;
        if let Some(m) = is_off {
            self.push(at, Fault::PowerOff(Who::Machine(m)));
            at += self.chance.between(500 * MILLIS, 3 * SECONDS);
        }
        while !older.is_empty() {
            let next = usize::try_from(self.chance.below(older.len() as u64)).unwrap_or(0);
            let m = older.swap_remove(next);
            let pause = self.chance.between(300 * MILLIS, 8 * SECONDS);
            if m < late && Some(m) != stays && Some(m) != is_off {
                self.push(at, Fault::Upgrade(m));
                at += pause;
            }
            if self.chance.is(300) {
                self.occasion(at + pause / 2);
            }
        }
        for m in late..self.layout.machines().len() {
            let pause = self.chance.between(0, 20 * SECONDS);
            self.push(begin + pause, Fault::Admit(m));
            if self.chance.is(600) {
                self.push(begin + pause + 10 * SECONDS, Fault::Upgrade(m));
            }
        }
        if let Some(m) = is_off {
            let pause = self.chance.between(0, 20 * SECONDS);
            self.push(at + pause, Fault::PowerOn(Who::Machine(m)));
            if Some(m) != stays {
                self.push(at + pause + 5 * SECONDS, Fault::Upgrade(m));
            }
        }
        if self.chance.is(600) {
            let (who, pause) = (self.somebody(), self.chance.between(SECONDS, 30 * SECONDS));
            match self.chance.below(3) {
                0 => self.push(at + pause, Fault::PowerOff(who)),
                1 => self.push(at + pause, Fault::Isolate(who, true)),
                _ => self.occasion(at + pause),
            }
        }
    }

    /// One change of the cluster file.
    fn edit(&mut self, config: &mut ClusterConfig, at: At) {
        let resources: Vec<ResourceName> = config.resources.keys().cloned().collect();
        let name = self.chance.pick(&resources);
        let unit = config.unit_of(&name);
        let units: Vec<UnitName> = config.units().into_keys().collect();
        let other = self.chance.pick(&units);
        let members: Vec<NodeName> =
            config.nodes.iter().filter(|(_, n)| n.role == NodeRole::Member).map(|(name, _)| name.clone()).collect();
        let node = self.chance.pick(&members);
        let is_grouped = unit.as_str() != name.as_str();
        match self.chance.below(16) {
            0 => {
                let added = ResourceName(format!("new{}", self.chance.below(3)));
                let resource = config.resources[&name].clone();
                config.resources.entry(added).or_insert(resource);
            }
            1 => remove(config, &name),
            2 => {
                let single = units.iter().find(|u| config.groups.keys().all(|group| group.as_str() != u.as_str()));
                if let (Some(single), Some(group)) = (single, config.groups.values_mut().next()) {
                    group.members.push(ResourceName(single.0.clone()));
                    forget_unit(config, single);
                }
            }
            3 if is_grouped => {
                for group in config.groups.values_mut().filter(|group| group.members.len() > 1) {
                    group.members.retain(|member| *member != name);
                }
            }
            4 => {
                let resource = config.resources.get_mut(&name).expect("it was picked from there");
                resource.class = match resource.class {
                    Class::Exclusive => Class::BestEffort,
                    Class::BestEffort => Class::Exclusive,
                };
            }
            5 => config.profile = self.chance.pick(&[Profile::Lan, Profile::Lan, Profile::Cloud, Profile::Wan]),
            6 => {
                let devices: Vec<FenceName> = config.fence_devices.keys().cloned().collect();
                let node = config.nodes.get_mut(&node).expect("it was picked from there");
                // Without a device an exclusive resource has no business there: that file is refused.
                node.fence = if self.chance.is(300) { Vec::new() } else { vec![self.chance.pick(&devices)] };
            }
            7 => {
                let added = FenceName(format!("spare{}", self.chance.below(2)));
                let device = config.fence_devices.values().next().cloned().expect("every layout has one");
                config.fence_devices.insert(added.clone(), device);
                let node = config.nodes.get_mut(&node).expect("it was picked from there");
                if !node.fence.contains(&added) {
                    node.fence.push(added);
                }
            }
            8 => rename(config, &name, &ResourceName(format!("{name}x"))),
            9 => place_of(config, &unit, |placement| placement.priority = -placement.priority + 1),
            10 => place_of(config, &unit, |placement| placement.prefer = vec![node]),
            11 if unit != other => {
                let points = u32::try_from(self.chance.between(1, 500)).unwrap_or(1);
                let tie = Tie { weight: Weight::Points(points), ..Tie::default() };
                let is_with = self.chance.is(500);
                place_of(config, &unit, |placement| {
                    let leaning = &mut placement.leaning;
                    let _ = if is_with { leaning.with.insert(other, tie) } else { leaning.apart.insert(other, tie) };
                });
            }
            12 => {
                let only = self.chance.is(500);
                place_of(config, &unit, |placement| {
                    if only {
                        placement.leaning.only = BTreeSet::from([node]);
                    } else {
                        placement.leaning.only.clear();
                    }
                });
            }
            13 => {
                let resource = config.resources.get_mut(&name).expect("it was picked from there");
                resource.needs.insert("memory".to_owned(), 10);
                for node in config.nodes.values_mut() {
                    node.capacity.insert("memory".to_owned(), 100);
                }
            }
            14 => {
                let resource = config.resources.get_mut(&name).expect("it was picked from there");
                resource.timeouts.stop = Duration::from_secs(self.chance.between(1, 9));
                resource.failures_max = u32::try_from(self.chance.between(1, 4)).unwrap_or(1);
            }
            _ => set_generation(config.resources.get_mut(&name).expect("it was picked from there"), at),
        }
    }

    /// Mistakes in the text of the cluster file, and in the end they are taken back.
    fn edits(&mut self, begin: At) {
        let mut at = begin;
        for _ in 0..self.chance.between(2, 5) {
            let seed = self.chance.number();
            self.push(at, Fault::Edit(seed));
            at += self.chance.between(4 * SECONDS, 12 * SECONDS);
            if self.chance.is(500) {
                self.push(at, Fault::TakeBack);
                at += self.chance.between(3 * SECONDS, 8 * SECONDS);
            }
        }
        self.push(at, Fault::TakeBack);
    }

    /// What operators type: wishes, tokens, tests, and what they attest falsely.
    fn inputs(&mut self, begin: At) {
        let mut at = begin;
        for n in 0..self.chance.between(5, 15) {
            let (m, unit, resource) = (self.member(), self.unit(), self.resource());
            match self.chance.below(12) {
                0 => self.push(at, Fault::Token(n)),
                1 => self.push(at, Fault::ClearOne(resource)),
                2 => self.push(at, Fault::FenceTest(m)),
                3 => self.push(at, Fault::ConfirmOffFalsely(m)),
                4 => self.push(at, Fault::Act(ActionKind::Standby(place(m)))),
                5 => self.push(at, Fault::Undo(ActionKind::Standby(place(m)))),
                6 => self.push(at, Fault::Act(ActionKind::Stop(unit))),
                7 => self.push(at, Fault::Undo(ActionKind::Stop(unit))),
                8 => self.push(at, Fault::Lead(m)),
                9 => self.push(at, Fault::KillService(Who::Holder(unit), resource)),
                10 => {
                    let action =
                        self.chance.pick(&[ActionKind::ClusterMaintenance, ActionKind::NodeMaintenance(place(m))]);
                    let long = self.chance.between(SECONDS, 20 * SECONDS);
                    self.push(at, Fault::Act(action.clone()));
                    self.push(at + long, Fault::Undo(action));
                }
                _ => self.push(at, Fault::Act(ActionKind::Move(unit, place(m)))),
            }
            at += self.chance.between(50 * MILLIS, 6 * SECONDS);
        }
    }
}

/// The cluster of a flavour whose faults last.
/// Resources of agents that need parameters: a mount and what runs on top of it.
pub(crate) fn add_agents(layout: &mut Layout) {
    let text = |value: &str| ParameterValue::Text(value.to_owned());
    for (name, agent, parameters) in [
        ("disk", "Filesystem", &[("device", "/dev/sdb"), ("directory", "/srv"), ("fstype", "ext4")][..]),
        ("pg", "pgsql", &[("pgdata", "/srv/pg")]),
    ] {
        layout.add(name, false, Class::Exclusive, Placement::default());
        let resource = layout.resources.get_mut(&ResourceName::from(name)).expect("it was added above");
        resource.agent = AgentName::Ocf { provider: "heartbeat".to_owned(), name: agent.to_owned() };
        resource.parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
    }
    layout.group("data", &["disk", "pg"]);
}

pub(crate) fn shape(draft: &mut crate::chance::Chance, flavour: Flavour, layout: &mut Layout) {
    // Whoever is off stays off, unless its power switch is of the kind that turns on by itself.
    layout.switches_turn_on = draft.is(400);
    if flavour == Flavour::NoDevices {
        layout.levels = 0;
    }
    if flavour == Flavour::PartialDevices {
        let all = || BTreeSet::from([Domain::Storage, Domain::Network]);
        let (storage, network) = (BTreeSet::from([Domain::Storage]), BTreeSet::from([Domain::Network]));
        layout.covers = match draft.below(4) {
            0 => vec![all(), all()],
            1 => vec![storage, network],
            2 => vec![network, storage, all()],
            _ => vec![storage, all()],
        };
        layout.levels = layout.covers.len();
    }
    if flavour == Flavour::Upgrades {
        // The cluster begins with an older program, or only who comes late has one.
        let first_late = layout.machines().len() - layout.late;
        let is_old = layout.late == 0 || draft.is(500);
        layout.older = (0..layout.machines().len()).filter(|m| draft.is(600) || *m == 0 && is_old).collect();
        layout.older.retain(|m| is_old || *m >= first_late);
        if layout.older.is_empty() {
            layout.older.insert(first_late);
        }
    }
    if flavour == Flavour::OneWay && draft.is(200) {
        layout.members = 5;
        layout.has_witness = false;
    }
}

fn place_of(config: &mut ClusterConfig, unit: &UnitName, change: impl FnOnce(&mut Placement)) {
    if let Some(group) = config.groups.get_mut(&GroupName(unit.0.clone())) {
        change(&mut group.placement);
    } else if let Some(resource) = config.resources.get_mut(&ResourceName(unit.0.clone())) {
        change(&mut resource.placement);
    }
}

/// Takes a resource out of the file, and whatever speaks of it.
fn remove(config: &mut ClusterConfig, name: &ResourceName) {
    if config.resources.len() == 1 || config.groups.values().any(|group| group.members == [name.clone()]) {
        return;
    }
    config.resources.remove(name);
    config.groups.values_mut().for_each(|group| group.members.retain(|member| member != name));
    forget_unit(config, &UnitName(name.0.clone()));
}

/// Nothing speaks of the unit any more.
fn forget_unit(config: &mut ClusterConfig, unit: &UnitName) {
    let placements = config
        .resources
        .values_mut()
        .map(|resource| &mut resource.placement)
        .chain(config.groups.values_mut().map(|group| &mut group.placement));
    for placement in placements {
        placement.after.retain(|other| other != unit);
        placement.sequences.remove(unit);
        placement.leaning.with.remove(unit);
        placement.leaning.apart.remove(unit);
    }
}

fn rename(config: &mut ClusterConfig, old: &ResourceName, new: &ResourceName) {
    if new.as_str().len() > 20 {
        return;
    }
    let Some(resource) = config.resources.remove(old) else { return };
    config.resources.insert(new.clone(), resource);
    for member in config.groups.values_mut().flat_map(|group| &mut group.members).filter(|member| *member == old) {
        member.clone_from(new);
    }
    forget_unit(config, &UnitName(old.0.clone()));
}
