//! What can run, by the truth of the world? The world knows who is on, who hears whom, whose agents work and which
//! fence devices reach which machine; from that follows what a cluster must bring about while the faults last.
//!
//! A unit can run where some members that are well hear each other, are a majority of the voters, and one of them may
//! run it. If it is exclusive, every other member must be one that the devices can cut off from the unit. The oracle is
//! careful: where it is not certain, it demands nothing.

use std::collections::BTreeSet;

use model::{
    ActionKind, ClusterConfig, ClusterState, MemberState, NodeName, NodeRole, Placement, ResourceName, UnitName,
    WallTime, Weight,
};

use crate::agents::Mood;
use crate::catalogue;
use crate::clock::{At, SECONDS};
use crate::devices::DeviceMood;
use crate::world::World;

/// A node that is heard and does not answer is fenced after a minute; the rest is for the fence and the start.
const SICK: u64 = 95 * SECONDS;
/// A member that its leader has not heard since it booted, or since its worker was replaced soon after that, gets so long.
pub(crate) const PATIENCE: u64 = 330 * SECONDS;
/// Everything else.
const BRISK: u64 = 25 * SECONDS;
/// As long may fencing pause that has failed many times.
const FENCE_PAUSE: u64 = 35 * SECONDS;

/// A unit that could run and does not.
pub(crate) struct Missing {
    pub unit: UnitName,
    pub sentence: String,
}

impl World {
    /// Every unit that could run, by the truth, and does not.
    pub(crate) fn missing_units(&self) -> Vec<Missing> {
        let state = &self.watch.agreed.state;
        let config = &state.config;
        let units = config.units();
        let is_quiet = state.actions.values().any(|action| action.kind == ActionKind::ClusterMaintenance);
        let Some(core) = (!is_quiet).then(|| self.core()).flatten() else { return Vec::new() };
        let running: BTreeSet<&UnitName> = units
            .iter()
            .filter(|(name, unit)| self.is_up(config, name, &unit.members, &core))
            .map(|(name, _)| name)
            .collect();
        let mut missing = Vec::new();
        for (name, unit) in units.iter().filter(|(name, _)| !running.contains(name)) {
            let is_stopped = state.actions.values().any(|action| action.kind == ActionKind::Stop(name.clone()));
            let waits = unit.placement.after.iter().any(|other| !running.contains(other));
            if is_stopped || waits || !unit.placement.enabled || is_tied(unit.placement) {
                continue;
            }
            let Some(place) = core.iter().find(|m| self.may_run(state, unit.placement, &unit.members, **m)) else {
                continue;
            };
            if !self.is_free_of_others(state, name, &unit.members, &core) {
                continue;
            }
            let everywhere: Vec<String> =
                unit.members.iter().map(|r| format!("{r} on {:?}", self.active_on(r.as_str()))).collect();
            let why = self.plan_reason(name).unwrap_or_else(|| "nobody decided".to_owned());
            let sentence = format!(
                "{name} could run on {} and does not ({}): {why}",
                self.machines[*place].name,
                everywhere.join(", ")
            );
            missing.push(Missing { unit: name.clone(), sentence });
        }
        missing
    }

    /// Does everything of the unit run, on one machine and no other? A unit that may run twice may also run where nobody
    /// in contact with the core can stop it.
    fn is_up(&self, config: &ClusterConfig, name: &UnitName, members: &[&ResourceName], core: &[usize]) -> bool {
        let is_exclusive = config.is_exclusive(name);
        let runs = |m: usize, resource: &ResourceName| self.machines[m].services.contains_key(resource);
        let runs_all = |m: usize| members.iter().all(|resource| runs(m, resource));
        let is_harmless = |m: usize, resource: &ResourceName| {
            let is_cut_off =
                config.resources.get(resource).is_some_and(|r| r.domains.is_subset(&self.machines[m].cut_off));
            // Nobody finds a second copy where its check cannot tell, and nobody is fenced for one that does not stop.
            let mood = self.moods.get(&(m, resource.clone())).copied().unwrap_or_default();
            let works = |mood: Mood| matches!(mood, Mood::Works | Mood::Slow);
            let is_ended = works(mood.monitor) && works(mood.stop);
            is_cut_off || !is_exclusive && !is_ended
        };
        let is_free = |m: usize| members.iter().all(|resource| !runs(m, resource) || is_harmless(m, resource));
        let runs_once = |among: &[usize]| {
            among.iter().any(|m| runs_all(*m) && among.iter().filter(|other| *other != m).all(|other| is_free(*other)))
        };
        let all: Vec<usize> = (0..self.machines.len()).collect();
        runs_once(&all) || !is_exclusive && runs_once(core)
    }

    /// Nothing keeps the machine from doing its part.
    pub(crate) fn is_well(&self, m: usize) -> bool {
        let machine = &self.machines[m];
        machine.id.is_some()
            && machine.is_on
            && machine.worker.is_some()
            && machine.halted.is_none()
            && self.now >= machine.node_gate().max(machine.pulse_gate()).max(machine.seam_stalled_until)
            && !machine.disk.is_hung
            && !machine.disk.fails
            && !machine.disk.has_errors
            && self.now >= machine.flooded_until
            && machine.level >= self.watch.agreed.state.level
            && machine.cut_off.is_empty()
            && machine.is_itself()
            && !self.clones.contains_key(&m)
            && !self.clones.values().any(|clone| *clone == m)
    }

    /// The most members that are well and hear each other, if they are a majority of the voters.
    fn core(&self) -> Option<Vec<usize>> {
        let well: Vec<usize> = (0..self.machines.len()).filter(|m| self.is_well(*m)).collect();
        let newest = well.iter().filter_map(|m| self.node(*m)).max_by_key(|node| node.state().applied)?;
        let voters = newest.consensus().voters();
        let is_voter = |m: usize| self.machines[m].id.is_some_and(|id| voters.contains(&id));
        let is_clique = |set: &[usize]| {
            set.iter().all(|a| set.iter().all(|b| a == b || self.network.is_good_for(self.now, *a, *b, 0)))
        };
        (0_u32..1 << well.len())
            .map(|bits| well.iter().enumerate().filter(|(n, _)| bits & 1 << n != 0).map(|(_, m)| *m).collect())
            .filter(|set: &Vec<usize>| set.iter().filter(|m| is_voter(**m)).count() > voters.len() / 2)
            .filter(|set| is_clique(set))
            .max_by_key(Vec::len)
    }

    /// May the unit run on this machine, as far as people, agents and earlier failures go?
    fn may_run(&self, state: &ClusterState, placement: &Placement, members: &[&ResourceName], m: usize) -> bool {
        let machine = &self.machines[m];
        let Some(id) = machine.id else { return false };
        let is_kept_away = state.actions.values().any(|action| match &action.kind {
            ActionKind::Standby(node) | ActionKind::NodeMaintenance(node) | ActionKind::Leave(node) => *node == id,
            ActionKind::ShutDown => true,
            ActionKind::ClusterMaintenance | ActionKind::Move(..) | ActionKind::Stop(_) => false,
        });
        let wall: WallTime = machine.clock.wall(self.now);
        let is_suppressed = state.members.get(&id).is_none_or(|member| member.is_suppressed(wall));
        let has_failed = members.iter().any(|resource| {
            let most = state.config.resources.get(*resource).map_or(1, |r| r.failures_max);
            let failures = state.failures.get(*resource).and_then(|nodes| nodes.get(&id));
            failures.is_some_and(|failures| failures.is_permanent || failures.count >= most)
        });
        let works = |mood: Mood| matches!(mood, Mood::Works | Mood::Slow);
        let agents_work = members.iter().all(|resource| {
            let mood = self.moods.get(&(m, (*resource).clone())).copied().unwrap_or_default();
            let can = |r: &model::ResourceConfig| catalogue::why_not(&r.agent, &r.parameters).is_none();
            works(mood.start) && works(mood.monitor) && state.config.resources.get(*resource).is_none_or(can)
        });
        machine.role == NodeRole::Member
            && is_allowed(placement, &machine.name)
            && !is_kept_away
            && !is_suppressed
            && !has_failed
            && agents_work
    }

    /// Can the cluster make certain that the unit runs nowhere else?
    fn is_free_of_others(
        &self,
        state: &ClusterState,
        unit: &UnitName,
        members: &[&ResourceName],
        core: &[usize],
    ) -> bool {
        if !state.config.is_exclusive(unit) {
            return true;
        }
        let works = |mood: Mood| matches!(mood, Mood::Works | Mood::Slow | Mood::Fails);
        (0..self.machines.len()).filter(|m| self.machines[*m].id.is_some()).all(|m| {
            let moods = || members.iter().filter_map(|resource| self.moods.get(&(m, (*resource).clone())));
            // A check that answers nothing keeps the unit away until a person acts.
            let tells = moods().all(|mood| works(mood.monitor));
            let stops = moods().all(|mood| matches!(mood.stop, Mood::Works | Mood::Slow));
            // A failed stop may cause a fence once for the unit and the version of the file; the next node that
            // cannot stop it is held, and the unit waits for a person.
            let may_fence = stops || !self.machines[m].is_on || !state.stop_cost_node.contains(unit);
            tells && (core.contains(&m) && stops || may_fence && self.can_be_cut_off(state, unit, m, core))
        })
    }

    /// Can every member of the core cut this machine off from whatever the unit can damage?
    fn can_be_cut_off(&self, state: &ClusterState, unit: &UnitName, m: usize, core: &[usize]) -> bool {
        if self.machines[m].role == NodeRole::Witness {
            return true;
        }
        // Its daemon ended in maintenance: it is left alone until it is back, or a person acts.
        if self.machines[m].id.is_some_and(|id| state.gone.contains(&id)) {
            return false;
        }
        let Some(node) = state.config.nodes.get(&self.machines[m].name) else { return false };
        let reached = node.fence.iter().filter(|device| {
            let mood = self.device_moods.get(*device).copied().unwrap_or_default();
            let is_reached = |from: &usize| {
                self.network.reaches_devices(*from) && !self.out_of_reach.contains(&((*device).clone(), *from))
            };
            matches!(mood, DeviceMood::Works | DeviceMood::Slow) && core.iter().all(is_reached)
        });
        let covers: BTreeSet<_> = reached
            .filter_map(|device| state.config.fence_devices.get(device))
            .flat_map(|device| device.covers.iter().copied())
            .collect();
        state.config.domains(unit).is_subset(&covers)
    }

    /// Within this the cluster must have repaired what it can, by the worst that is wrong now.
    fn bound(&self) -> u64 {
        let count = self.machines.len();
        let is_member = |m: usize| self.machines[m].id.is_some();
        let is_sick = |m: usize| self.machines[m].is_on && self.machines[m].halted.is_none() && !self.is_well(m);
        let is_cut = |a: usize, b: usize| {
            a != b && is_member(a) && is_member(b) && !self.network.is_good_for(self.now, a, b, 20 * SECONDS)
        };
        let has_cuts = (0..count).any(|a| (0..count).any(|b| is_cut(a, b)));
        let is_any_unwell = (0..count).any(|m| is_member(m) && !self.is_well(m));
        let has_bad_devices = self.device_moods.values().any(|mood| *mood != DeviceMood::Works);
        // What failed just before its device was mended is tried again after its pause.
        let were_bad = self.devices_mended_at.is_some_and(|at| self.now < at + FENCE_PAUSE);
        let pause = if has_bad_devices || were_bad { FENCE_PAUSE } else { 0 };
        pause
            + if self.has_left_alone()
                || self.all_power_lost && is_any_unwell
                || self.has_moved && (is_any_unwell || has_cuts)
            {
                PATIENCE
            } else if has_cuts || (0..count).any(|m| is_member(m) && is_sick(m)) {
                SICK
            } else {
                BRISK
            }
    }

    /// Was somebody told to leave while nobody could agree on it? To all others it is a silent machine with power: a leader
    /// that has not heard it since its own worker began waits for it as for one that boots.
    pub(crate) fn has_left_alone(&self) -> bool {
        let members = &self.watch.agreed.state.members;
        self.machines.iter().any(|machine| {
            let member = machine.id.and_then(|id| members.get(&id));
            machine.halted == Some(node::Halt::Left)
                && member.is_some_and(|member| matches!(member.state, MemberState::Online | MemberState::Condemned))
        })
    }

    /// A member that is well, hears the others and is not there; none: all are.
    pub(crate) fn absent_members(&self) -> Option<String> {
        let state = &self.watch.agreed.state;
        let Some(core) = self.core() else {
            return self.can_be_complete().then(|| "no majority is well".to_owned());
        };
        // A leader that has seen more of a member's log than is there sends it nothing until another one leads.
        let absent = core.into_iter().filter(|m| !self.machines[*m].was_restored).find_map(|m| {
            let member = state.members.get(&self.machines[m].id?)?;
            (member.state != MemberState::Online).then(|| format!("{} is {:?}", self.machines[m].name, member.state))
        });
        let is_down = |m: &usize| self.machines[*m].id.is_some() && self.machines[*m].worker.is_none();
        let down = (0..self.machines.len()).filter(is_down).find(|m| self.machines[*m].is_able(state.level));
        absent.or_else(|| down.map(|m| format!("nothing of the cluster runs on {}", self.machines[m].name)))
    }

    /// Could a majority of the voters take part without a word from a person?
    fn can_be_complete(&self) -> bool {
        let level = self.watch.agreed.state.level;
        let nodes = (0..self.machines.len()).filter_map(|m| self.node(m));
        let voters: Vec<usize> = match nodes.max_by_key(|node| node.state().applied) {
            Some(node) => node.consensus().voters().iter().filter_map(|id| self.machine_of(*id)).collect(),
            None => self.by_id.values().copied().collect(),
        };
        voters.iter().filter(|m| self.machines[**m].is_able(level)).count() > voters.len() / 2
    }

    /// When the last machine that boots, or has booted, had its daemon started.
    pub(crate) fn last_boot(&self) -> At {
        self.machines.iter().filter(|machine| machine.is_on).map(|machine| machine.booted_at).max().unwrap_or(0)
    }

    /// Notes since when each unit has been missing; a fault, or a machine that has booted, gives the cluster its time
    /// again.
    pub(crate) fn review_missing(&mut self) {
        let booted_at = Some(self.last_boot()).filter(|at| *at <= self.now).unwrap_or(0);
        // When the worst is over, the cluster has the time that the rest takes.
        let (bound, until) = (self.bound(), self.patience.1);
        if bound >= self.patience.0 || self.now >= until {
            self.patience = (bound, self.now + BRISK);
        }
        let missing = self.missing_units();
        let names: BTreeSet<UnitName> = missing.iter().map(|one| one.unit.clone()).collect();
        self.missing_since.retain(|unit, _| names.contains(unit));
        for Missing { unit, sentence } in missing {
            let since: &mut At = self.missing_since.entry(unit).or_insert(self.now);
            *since = (*since).max(self.last_fault_at).max(booted_at);
            let long = self.now - *since;
            if long > self.patience.0 {
                self.violate("stays-available", format!("for {} s, {sentence}", long / SECONDS));
            }
        }
    }
}

pub(crate) fn is_allowed(placement: &Placement, node: &NodeName) -> bool {
    let leaning = &placement.leaning;
    (leaning.only.is_empty() || leaning.only.contains(node)) && leaning.avoid.get(node) != Some(&Weight::Must)
}

/// Does where it may run depend on where others run?
fn is_tied(placement: &Placement) -> bool {
    placement.leaning.with.values().chain(placement.leaning.apart.values()).any(|tie| tie.weight == Weight::Must)
}
