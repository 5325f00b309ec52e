//! Fence devices as actors: what they are told, what they do, and what they say.

use std::collections::BTreeSet;

use model::{Bug, Domain, FenceAction, FenceCall, FenceName, FenceOutcome, FenceStatus};
use node::Input;

use crate::clock::MILLIS;
use crate::world::{DeviceAnswer, Event, World};

/// How a device does its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceMood {
    /// As it should.
    #[default]
    Works,
    /// It answers that it failed, and does nothing.
    Fails,
    /// It does what it is told, after up to two seconds.
    Slow,
    /// It says that it is done, and does nothing. Its status tells the truth.
    Lies,
    /// It gives no answer in time, and does what it was told later.
    ActsLate,
    /// It carries out each order, but its answer comes just before the limit; a status tells of the moment of the question.
    AnswersLate,
    /// It gives no answer and does nothing.
    Dead,
}

impl World {
    /// A node calls a fence agent.
    pub(crate) fn begin_fence_call(&mut self, m: usize, call: FenceCall) {
        let reaches = self.network.reaches_devices(m) && !self.out_of_reach.contains(&(call.device.clone(), m));
        let mood = if reaches { self.device_mood(&call.device) } else { DeviceMood::Dead };
        let name = self.machines[m].name.clone();
        self.trace.line(self.now, name.as_str(), || {
            format!("calls {:?} of {} for {} ({mood:?})", call.action, call.device, call.target)
        });
        let target = self.index_of(call.plug.as_str());
        let count = self.machines.len();
        let target = target.map(|target| if self.has(Bug::WrongPlug) { (target + 1) % count } else { target });
        if call.action == FenceAction::Off {
            self.note("fence-called", call.target.as_str(), name.as_str());
            if let Some(target) = self.index_of(call.target.as_str()) {
                let verdict = self.off_is_agreed(target);
                self.watch.judge(self.now, "off-is-agreed", verdict);
            }
            if let Some(target) = target.filter(|_| self.judges_every_off) {
                let verdict = self.may_be_cut_off(m, target);
                self.watch.judge(self.now, "off-hits-condemned", verdict);
            }
        }
        let timeout = u64::try_from(call.timeout.as_nanos()).unwrap_or(u64::MAX);
        let covers = self.covers_of(&call.device);
        let quick = self.chance.between(10 * MILLIS, 60 * MILLIS);
        let slow = self.chance.between(200 * MILLIS, 2000 * MILLIS);
        let failed = |why: &str| DeviceAnswer::Given(FenceOutcome::Failed { reason: why.to_owned() });
        let done = || DeviceAnswer::Given(FenceOutcome::Done);
        let status = || DeviceAnswer::Status { target, covers: covers.clone() };
        let late = timeout.saturating_sub(150 * MILLIS);
        // When it acts, when it answers, and what.
        let (acts, answers, answer) = match (call.action, mood) {
            (_, DeviceMood::Dead) => (None, timeout, failed("no answer in time")),
            (_, DeviceMood::Fails) => (None, quick, failed("the device refuses")),
            (FenceAction::Status, DeviceMood::Slow) => (None, quick * 4, status()),
            (FenceAction::Status, DeviceMood::Works | DeviceMood::Lies | DeviceMood::ActsLate) => {
                (None, quick / 5, status())
            }
            (FenceAction::Status, DeviceMood::AnswersLate) => {
                (None, late, DeviceAnswer::Given(self.status_of(target, &covers)))
            }
            (FenceAction::Off | FenceAction::On, DeviceMood::AnswersLate) => (Some(quick), late, done()),
            (FenceAction::Off | FenceAction::On, DeviceMood::Works) => (Some(quick), quick + 2 * MILLIS, done()),
            (FenceAction::Off | FenceAction::On, DeviceMood::Slow) => (Some(slow), slow + 5 * MILLIS, done()),
            (FenceAction::Off | FenceAction::On, DeviceMood::Lies) => (None, quick, done()),
            (FenceAction::Off | FenceAction::On, DeviceMood::ActsLate) => {
                (Some(timeout + slow), timeout, failed("no answer in time"))
            }
        };
        if let (Some(acts), Some(target)) = (acts, target) {
            self.after(acts, Event::DeviceActs { target, action: call.action, covers });
        }
        let (answers, answer) =
            if answers > timeout { (timeout, failed("no answer in time")) } else { (answers, answer) };
        let life = self.life(m);
        self.after(answers, Event::DeviceAnswers { machine: m, life, key: call.key, answer });
    }

    /// A device that covers everything is a power switch; others cut a machine off from a part.
    pub(crate) fn device_acts(&mut self, target: usize, action: FenceAction, covers: &BTreeSet<Domain>) {
        let is_power = is_power_switch(covers);
        if action == FenceAction::Off
            && self.machines[target].is_on
            && !covers.is_subset(&self.machines[target].cut_off)
        {
            let verdict = self.watch.cuts.on_hit(self.machines[target].name.as_str());
            self.watch.judge(self.now, "fences-are-bounded", verdict);
        }
        match action {
            FenceAction::Off if is_power => {
                self.power_off(target, "its fence device");
                if self.switches_turn_on && self.machines[target].id.is_some() {
                    let pause = self.chance.between(500 * MILLIS, 6000 * MILLIS);
                    self.after(pause, Event::PowersOn { machine: target });
                }
            }
            FenceAction::On if is_power => self.power_on(target),
            FenceAction::Off => {
                let name = self.machines[target].name.clone();
                self.note("cut-off", name.as_str(), &format!("{covers:?}"));
                self.machines[target].cut_off.extend(covers);
                self.review_cut_off(target);
            }
            FenceAction::On => {
                self.machines[target].cut_off.retain(|domain| !covers.contains(domain));
                self.review_cut_off(target);
            }
            FenceAction::Status => {}
        }
    }

    fn review_cut_off(&mut self, target: usize) {
        let is_cut = self.machines[target].cut_off.contains(&Domain::Network);
        self.network.fence(self.now, target, is_cut);
    }

    pub(crate) fn device_answers(&mut self, m: usize, life: u64, key: u64, answer: DeviceAnswer) {
        if self.machines[m].worker.is_none() || self.life(m) != life {
            return;
        }
        let outcome = match answer {
            DeviceAnswer::Given(outcome) => outcome,
            DeviceAnswer::Status { target, covers } => self.status_of(target, &covers),
        };
        self.tell_node(m, Input::FenceDone { key, outcome });
    }

    fn status_of(&self, target: Option<usize>, covers: &BTreeSet<Domain>) -> FenceOutcome {
        let Some(machine) = target.map(|target| &self.machines[target]) else {
            return FenceOutcome::Failed { reason: "no such plug".to_owned() };
        };
        let is_off = if is_power_switch(covers) { !machine.is_on } else { covers.is_subset(&machine.cut_off) };
        FenceOutcome::Status(if is_off { FenceStatus::Off } else { FenceStatus::On })
    }

    /// What the device covers, by the agreed configuration; one that left it is a power switch.
    fn covers_of(&self, device: &FenceName) -> BTreeSet<Domain> {
        let devices = &self.watch.agreed.state.config.fence_devices;
        devices.get(device).map_or_else(|| BTreeSet::from([Domain::Storage, Domain::Network]), |d| d.covers.clone())
    }

    fn device_mood(&self, device: &FenceName) -> DeviceMood {
        self.device_moods.get(device).copied().unwrap_or_default()
    }
}

fn is_power_switch(covers: &BTreeSet<Domain>) -> bool {
    covers.len() == 2
}
