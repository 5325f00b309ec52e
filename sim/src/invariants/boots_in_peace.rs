//! A machine that boots slowly is not cut off by a leader that booted after that machine had lost its power, before the
//! patience of the profile is over.

use model::Profile;

use crate::clock::SECONDS;
use crate::world::World;

impl World {
    /// Is the machine that `m` wants cut off not just booting?
    pub(crate) fn boots_in_peace(&self, m: usize, target: usize) -> Result<(), String> {
        let (caller, machine) = (&self.machines[m], &self.machines[target]);
        let patience = liveness::Timing::of(Profile::Lan).boot_patience.as_secs() * SECONDS;
        let is_booting = machine.is_on && self.now < machine.booted_at;
        let is_awaited = machine.lost_power_at <= caller.powered_at && self.now < caller.powered_at + patience;
        let ends = &self.watch.agreed.state.ends;
        let is_for_silence =
            machine.id.and_then(|id| ends.get(&id)).is_some_and(|end| end.is_for_silence && end.cut_off_by.is_empty());
        if is_booting && is_awaited && is_for_silence {
            return Err(format!("{} calls off {}, which boots", caller.name, machine.name));
        }
        Ok(())
    }
}
