//! A machine that boots slowly is not condemned by a leader that booted after that machine had lost its power, before
//! the patience of the profile is over; unless it had no power a moment ago.

use model::Profile;
use state::Command;

use super::agreed::Taken;
use crate::clock::SECONDS;
use crate::world::World;

impl World {
    /// Does the member that this entry condemns for its silence not just boot?
    pub(crate) fn boots_in_peace(&self, taken: &Taken) -> Result<(), String> {
        let Command::Condemn { node, is_for_silence: true, .. } = &taken.command else { return Ok(()) };
        let coordinator = self.watch.agreed.state.coordinator;
        let (Some(target), Some(leader)) = (self.machine_of(*node), self.machine_of(coordinator)) else {
            return Ok(());
        };
        let (leader, machine) = (&self.machines[leader], &self.machines[target]);
        let patience = liveness::Timing::of(Profile::Lan).boot_patience.as_secs() * SECONDS;
        let is_booting = machine.is_on && self.now < machine.booted_at;
        let is_awaited = machine.lost_power_at <= leader.powered_at && self.now < leader.powered_at + patience;
        let is_inherited = taken.term < self.watch.term.newest;
        // Its device may have read off just before it got power.
        let was_off = self.now < machine.powered_at + 5 * SECONDS;
        if is_booting && is_awaited && !is_inherited && !was_off {
            return Err(format!("{} condemned {}, which boots", leader.name, machine.name));
        }
        Ok(())
    }
}
