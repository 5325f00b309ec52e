//! Fence devices as actors: what they are told, what they do, and what they say.

use model::{FenceAction, FenceCall, FenceName, FenceOutcome, FenceStatus};
use node::Input;

use crate::clock::MILLIS;
use crate::world::{Event, World};

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
    /// It gives no answer and does nothing.
    Dead,
}

impl World {
    /// A node calls a fence agent.
    pub(crate) fn begin_fence_call(&mut self, m: usize, call: FenceCall) {
        let reaches = self.network.reaches_devices(m);
        let mood = if reaches { self.device_mood(&call.device) } else { DeviceMood::Dead };
        let name = self.machines[m].name.clone();
        self.trace.line(self.now, name.as_str(), || {
            format!("calls {:?} of {} for {} ({mood:?})", call.action, call.device, call.target)
        });
        if call.action == FenceAction::Off {
            self.note("fence-called", call.target.as_str(), name.as_str());
        }
        let timeout = u64::try_from(call.timeout.as_nanos()).unwrap_or(u64::MAX);
        let target = self.index_of(call.plug.as_str());
        let quick = self.chance.between(10 * MILLIS, 60 * MILLIS);
        let slow = self.chance.between(200 * MILLIS, 2000 * MILLIS);
        let failed = |why: &str| Some(FenceOutcome::Failed { reason: why.to_owned() });
        // When it acts, when it answers, and what; none: the status at that moment.
        let (acts, answers, answer) = match (call.action, mood) {
            (_, DeviceMood::Dead) => (None, timeout, failed("no answer in time")),
            (_, DeviceMood::Fails) => (None, quick, failed("the device refuses")),
            (FenceAction::Status, DeviceMood::Slow) => (None, quick * 4, None),
            (FenceAction::Status, DeviceMood::Works | DeviceMood::Lies | DeviceMood::ActsLate) => {
                (None, quick / 5, None)
            }
            (FenceAction::Off | FenceAction::On, DeviceMood::Works) => {
                (Some(quick), quick + 2 * MILLIS, Some(FenceOutcome::Done))
            }
            (FenceAction::Off | FenceAction::On, DeviceMood::Slow) => {
                (Some(slow), slow + 5 * MILLIS, Some(FenceOutcome::Done))
            }
            (FenceAction::Off | FenceAction::On, DeviceMood::Lies) => (None, quick, Some(FenceOutcome::Done)),
            (FenceAction::Off | FenceAction::On, DeviceMood::ActsLate) => {
                (Some(timeout + slow), timeout, failed("no answer in time"))
            }
        };
        if let (Some(acts), Some(target)) = (acts, target) {
            self.after(acts, Event::DeviceActs { target, action: call.action });
        }
        let (answers, answer) =
            if answers > timeout { (timeout, failed("no answer in time")) } else { (answers, answer) };
        let life = self.life(m);
        self.after(answers, Event::DeviceAnswers { machine: m, life, key: call.key, target, answer });
    }

    pub(crate) fn device_acts(&mut self, target: usize, action: FenceAction) {
        match action {
            FenceAction::Off => {
                self.power_off(target, "its fence device");
                if self.returns_after_fence && self.machines[target].id.is_some() {
                    let pause = self.chance.between(500 * MILLIS, 6000 * MILLIS);
                    self.after(pause, Event::PowersOn { machine: target });
                }
            }
            FenceAction::On => self.power_on(target),
            FenceAction::Status => {}
        }
    }

    pub(crate) fn device_answers(
        &mut self,
        m: usize,
        life: u64,
        key: u64,
        target: Option<usize>,
        answer: Option<FenceOutcome>,
    ) {
        if self.machines[m].worker.is_none() || self.life(m) != life {
            return;
        }
        let outcome = answer.unwrap_or_else(|| match target {
            Some(target) if !self.machines[target].is_on => FenceOutcome::Status(FenceStatus::Off),
            Some(_) => FenceOutcome::Status(FenceStatus::On),
            None => FenceOutcome::Failed { reason: "no such plug".to_owned() },
        });
        self.tell_node(m, Input::FenceDone { key, outcome });
    }

    fn device_mood(&self, device: &FenceName) -> DeviceMood {
        self.device_moods.get(device).copied().unwrap_or_default()
    }
}
