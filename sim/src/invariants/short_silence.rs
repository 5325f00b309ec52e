//! Where one fault can cut all links, a short silence condemns nobody: the hold-down has to pass.
//!
//! The world knows when beats last arrived. If all networks are one failure domain, and the leader and a member were in
//! contact for a second, the member is not condemned for its silence before nothing arrived in one direction for as long
//! as a verdict and the hold-down of the quickest profile take. A tenth of that is left for what the detector measures.

use model::{Incarnation, NodeId, Profile};
use state::Command;

use super::agreed::Taken;
use crate::clock::SECONDS;
use crate::world::World;

impl World {
    /// Was the member that this entry condemns silent for long enough?
    pub(crate) fn was_silent_long(&self, taken: &Taken) -> Result<(), String> {
        let Command::Condemn { node, incarnation, is_for_silence: true, .. } = &taken.command else { return Ok(()) };
        let state = &self.watch.agreed.state;
        let Some((leader, target)) = self.pair(state.coordinator, *node, *incarnation) else { return Ok(()) };
        // A network that the file does not describe is a domain of its own.
        let name = |m: usize| &self.machines[m].name;
        let is_one_domain = state.config.link_domains(name(leader), name(target)) < 2;
        let is_inherited = taken.term < self.watch.term.newest;
        if !is_one_domain
            || is_inherited
            || !self.clones.is_empty()
            || !self.network.was_fair_for(self.now, 5 * SECONDS)
        {
            return Ok(());
        }
        let timing = liveness::Timing::of(Profile::Lan);
        let least = u64::try_from((timing.t_to + timing.t_hold).as_nanos()).unwrap_or(u64::MAX) / 10 * 9;
        let silent = self.now - self.network.contact_until(leader, target).min(self.now);
        if silent < least && self.network.contact_lasted(leader, target) >= SECONDS {
            return Err(format!(
                "{} is condemned after {} ms of silence, and one fault can cut all its links",
                self.machines[target].name,
                silent / 1_000_000
            ));
        }
        Ok(())
    }

    fn pair(&self, leader: NodeId, target: NodeId, life: Incarnation) -> Option<(usize, usize)> {
        let (leader, target) = (self.machine_of(leader)?, self.machine_of(target)?);
        let is_current = self.machines[target].incarnation(target) == life;
        is_current.then_some((leader, target))
    }
}
