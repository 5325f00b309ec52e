//! Resource agents as actors, and the truth about what runs: a service is active from the moment its start is
//! spawned until its stop has done its work, it dies, or the power goes.

use std::collections::BTreeMap;

use model::{AgentAction, AgentCall, AgentName, Bug, CallKey, Outcome, ResourceName};
use node::Input;

use crate::catalogue;
use crate::clock::MILLIS;
use crate::world::{Event, World};

/// Something that really runs.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// The call that started it.
    pub key: CallKey,
    /// Its end is told at once: a native agent's, and this worker knows of it.
    pub is_watched: bool,
}

/// An agent at work.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub number: u64,
    pub call: AgentCall,
    /// What it will come to.
    pub mood: Mood,
    /// Why it can do nothing with what it is told.
    pub impossible: Option<String>,
    /// The worker that waits for the answer.
    pub waiter: u64,
}

/// How an agent does one of its actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    #[default]
    Works,
    /// As it should, but it takes its time.
    Slow,
    /// It answers that it failed; a failed start leaves nothing behind, a failed stop everything.
    Fails,
    /// It answers that it failed; a failed start leaves the service half running.
    FailsDirty,
    /// It gives no answer in time; a stop leaves something that cannot be ended.
    Hangs,
    /// It gives no answer in time; a start leaves a service that escaped the agent.
    HangsDirty,
    /// It answers that it can never work here (not installed, parameters that cannot be read), and changes nothing.
    FailsForGood,
    /// A check answers that it runs, whatever is true. As a start and a stop: as it should.
    SaysRunning,
    /// A check answers that it does not run, whatever is true. As a start and a stop: as it should.
    SaysStopped,
}

/// How an agent does its actions on one machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentMood {
    /// Its starts.
    pub start: Mood,
    /// Its stops.
    pub stop: Mood,
    /// Its checks.
    pub monitor: Mood,
    /// What it started goes on when the cluster ends its own processes there.
    pub outlives_halt: bool,
}

/// Moods that differ from the usual, by machine and resource.
pub(crate) type Moods = BTreeMap<(usize, ResourceName), AgentMood>;

impl World {
    /// A node calls an agent.
    pub(crate) fn begin_call(&mut self, m: usize, mut call: AgentCall) {
        let life = self.life(m);
        let mut is_forgotten = false;
        if call.is_adoption {
            if let Some(running) = self.machines[m].calls.get_mut(&call.key) {
                running.waiter = life;
                return;
            }
            call.action = AgentAction::Monitor;
            is_forgotten = self.has(Bug::AdoptionForgets);
        }
        let mood = self.moods.get(&(m, call.resource.clone())).copied().unwrap_or_default();
        let mood = match call.action {
            AgentAction::Start => mood.start,
            AgentAction::Stop => mood.stop,
            AgentAction::Monitor if is_forgotten => Mood::SaysStopped,
            AgentAction::Monitor => mood.monitor,
        };
        let impossible = catalogue::why_not(&call.agent, &call.parameters);
        let mood = if impossible.is_some() { Mood::FailsForGood } else { mood };
        if call.action != AgentAction::Monitor {
            let name = self.machines[m].name.clone();
            let what = if call.action == AgentAction::Start { "start" } else { "stop" };
            self.note(what, call.resource.as_str(), name.as_str());
            self.check_call(m, &call);
        }
        let timeout = u64::try_from(call.timeout.as_nanos()).unwrap_or(u64::MAX);
        let usual = match call.action {
            AgentAction::Start => self.chance.between(5 * MILLIS, 60 * MILLIS),
            AgentAction::Stop => self.chance.between(2 * MILLIS, 40 * MILLIS),
            AgentAction::Monitor => self.chance.between(MILLIS, 5 * MILLIS),
        };
        let (mood, takes) = match mood {
            Mood::Works | Mood::Fails | Mood::FailsDirty | Mood::FailsForGood => (mood, usual),
            Mood::SaysRunning | Mood::SaysStopped => (mood, usual),
            Mood::Slow if usual * 30 < timeout => (Mood::Works, usual * 30),
            Mood::Slow | Mood::Hangs => (Mood::Hangs, timeout),
            Mood::HangsDirty => (mood, timeout),
        };
        match call.action {
            AgentAction::Start if mood == Mood::FailsForGood => {}
            AgentAction::Start => {
                let is_watched = matches!(call.agent, AgentName::Native(_));
                let service = Service { key: call.key, is_watched };
                self.machines[m].services.insert(call.resource.clone(), service);
            }
            AgentAction::Monitor => {
                if let Some(service) = self.machines[m].services.get_mut(&call.resource) {
                    service.is_watched = matches!(call.agent, AgentName::Native(_));
                }
            }
            AgentAction::Stop => {}
        }
        let number = self.next_number();
        let key = call.key;
        let boot = self.machines[m].boot;
        self.machines[m].calls.insert(key, Call { number, call, mood, impossible, waiter: life });
        self.after(takes, Event::CallEnds { machine: m, boot, key, number });
    }

    /// Nobody waits for this call any more: a check is ended.
    pub(crate) fn abandon_call(&mut self, m: usize, key: CallKey) {
        let calls = &mut self.machines[m].calls;
        if calls.get(&key).is_some_and(|call| call.call.action == AgentAction::Monitor) {
            calls.remove(&key);
        }
    }

    /// An agent has come to its end.
    pub(crate) fn end_call(&mut self, m: usize, boot: u64, key: CallKey, number: u64) {
        let machine = &mut self.machines[m];
        if machine.boot != boot || !machine.is_on || machine.calls.get(&key).is_none_or(|call| call.number != number) {
            return;
        }
        if self.now < machine.frozen_until {
            let again = machine.frozen_until;
            return self.at(again, Event::CallEnds { machine: m, boot, key, number });
        }
        let Some(Call { call, mood, impossible, waiter, .. }) = machine.calls.remove(&key) else { return };
        let is_active = machine.services.contains_key(&call.resource);
        // What an agent leaves without a process (a mount, an address) shows to nobody but the agent.
        let shows = is_active && matches!(call.agent, AgentName::Native(_));
        let failed = |what: &str| Outcome::Failed { reason: what.to_owned(), is_permanent: false };
        let outcome = match (call.action, mood) {
            (action, Mood::FailsForGood) => {
                let reason = impossible.unwrap_or_else(|| "a file that it needs cannot be read".to_owned());
                match action {
                    AgentAction::Start | AgentAction::Stop if !shows => Outcome::NotBegun { reason },
                    AgentAction::Start | AgentAction::Stop => Outcome::Failed { reason, is_permanent: true },
                    AgentAction::Monitor => Outcome::Unknown { reason, is_permanent: call.started_by.is_none() },
                }
            }
            (AgentAction::Monitor, Mood::SaysRunning) => Outcome::Success,
            (AgentAction::Monitor, Mood::SaysStopped) => Outcome::NotRunning,
            (AgentAction::Start, Mood::Works | Mood::Slow | Mood::SaysRunning | Mood::SaysStopped) if is_active => {
                Outcome::Success
            }
            (AgentAction::Start, Mood::Works | Mood::Slow | Mood::SaysRunning | Mood::SaysStopped) => {
                failed("it ended while it started")
            }
            (AgentAction::Start, Mood::HangsDirty) => Outcome::TimedOut,
            (AgentAction::Start, Mood::Fails) => {
                machine.services.remove(&call.resource);
                failed("it cannot be started")
            }
            (AgentAction::Start, Mood::FailsDirty) => failed("it is half started"),
            (AgentAction::Start, Mood::Hangs) => {
                machine.services.remove(&call.resource);
                Outcome::TimedOut
            }
            (AgentAction::Stop, Mood::Works | Mood::Slow | Mood::SaysRunning | Mood::SaysStopped) => {
                machine.services.remove(&call.resource);
                Outcome::Success
            }
            (AgentAction::Stop, Mood::Fails | Mood::FailsDirty) => failed("it does not stop"),
            (AgentAction::Stop, Mood::Hangs | Mood::HangsDirty) => {
                Outcome::Stuck { reason: "a process does not end".to_owned() }
            }
            (AgentAction::Monitor, Mood::Works | Mood::Slow) if is_active => Outcome::Success,
            (AgentAction::Monitor, Mood::Works | Mood::Slow) => Outcome::NotRunning,
            (AgentAction::Monitor, Mood::Fails | Mood::FailsDirty) => failed("the check failed"),
            (AgentAction::Monitor, Mood::Hangs | Mood::HangsDirty) => Outcome::TimedOut,
        };
        self.trace.line(self.now, self.machines[m].name.as_str(), || {
            format!("{:?} of {} ends: {outcome:?}", call.action, call.resource)
        });
        let is_lost = self.has(Bug::ResultLost) && call.action == AgentAction::Start && self.chance.is(300);
        if self.machines[m].worker.is_some() && self.life(m) == waiter && !is_lost {
            self.tell_node(m, Input::CallDone { key, outcome });
        }
    }

    /// A service dies by itself.
    pub(crate) fn kill_service(&mut self, m: usize, resource: &ResourceName) {
        let Some(service) = self.machines[m].services.remove(resource) else { return };
        let name = self.machines[m].name.clone();
        self.note("died", resource.as_str(), name.as_str());
        if service.is_watched && self.machines[m].worker.is_some() {
            self.tell_node(m, Input::Exited { key: service.key, how: "it was killed".to_owned() });
        }
    }

    /// Something starts that nobody ordered; it is what it would be if the cluster had started it.
    pub(crate) fn start_wild(&mut self, m: usize, resource: &ResourceName) {
        let machine = &mut self.machines[m];
        if !machine.is_on || machine.services.contains_key(resource) {
            return;
        }
        machine.services.insert(resource.clone(), Service { key: CallKey::default(), is_watched: false });
        let name = machine.name.clone();
        self.note("wild", resource.as_str(), name.as_str());
    }

    /// The processes that carry the cluster's mark end; what an agent put elsewhere may go on.
    pub(crate) fn end_services(&mut self, m: usize) {
        let moods = &self.moods;
        let outlives =
            |resource: &ResourceName| moods.get(&(m, resource.clone())).is_some_and(|mood| mood.outlives_halt);
        self.machines[m].services.retain(|resource, _| outlives(resource));
        self.machines[m].calls.clear();
    }

    /// Where the resource really runs, by the order of the machines.
    pub fn active_on(&self, resource: &str) -> Vec<&str> {
        let resource = ResourceName::from(resource);
        self.machines.iter().filter(|m| m.services.contains_key(&resource)).map(|m| m.name.as_str()).collect()
    }
}
