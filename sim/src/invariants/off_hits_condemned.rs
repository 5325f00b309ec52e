//! An `off` is called only for a life that is condemned, and not for one that the caller can hear.
//!
//! A machine that has booted anew lives another life. Whoever calls a fence device for it must have heard of that, if
//! for the last second the machine ran without a disturbance and a link to it worked both ways. A life that nobody lets
//! in is no such life: it does not prove that the condemned one before it is over, and ends with it.

use model::MemberState;

use crate::clock::SECONDS;
use crate::world::World;

impl World {
    /// May machine `m` have this machine cut off now?
    pub(crate) fn may_be_cut_off(&self, m: usize, target: usize) -> Result<(), String> {
        let machine = &self.machines[target];
        let Some(id) = machine.id.filter(|_| machine.is_on) else { return Ok(()) };
        let life = machine.incarnation(target);
        let is_condemned = self
            .watch
            .agreed
            .state
            .members
            .get(&id)
            .is_some_and(|member| member.dead.contains(&life) || member.state == MemberState::Condemned);
        let is_heard = self.is_well(target)
            && machine.is_quiet_for(self.now, SECONDS)
            && self.network.is_good_for(self.now, m, target, SECONDS);
        if is_heard && !is_condemned {
            return Err(format!(
                "{} calls off {}, which runs a life that is not condemned, and which it can hear",
                self.machines[m].name, machine.name
            ));
        }
        Ok(())
    }
}
