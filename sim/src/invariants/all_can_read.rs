//! No entry is used that a member cannot read: not before the agreed level says so, and the level does not rise while a
//! member is online, undisturbed and in contact that knows less.

use model::MemberState;
use state::Command;

use super::agreed::Taken;
use crate::world::World;

impl World {
    /// Can all members that are here read this entry?
    pub(crate) fn all_can_read(&self, taken: &Taken) -> Result<(), String> {
        let (state, needed) = (&self.watch.agreed.state, taken.command.level());
        if needed > state.level {
            return Err(format!("entry {} is of feature level {needed}, and agreed is {}", taken.index, state.level));
        }
        let Command::Raise { .. } = taken.command else { return Ok(()) };
        let calm = self.calm();
        let leader = self.machine_of(state.coordinator);
        let is_here = |m: &usize| {
            let machine = &self.machines[*m];
            let member = machine.id.and_then(|id| state.members.get(&id));
            member.is_some_and(|member| {
                member.state == MemberState::Online && member.incarnation == machine.incarnation(*m)
            }) && machine.is_quiet_for(self.now, calm)
                && leader.is_some_and(|leader| self.network.is_good_for(self.now, leader, *m, calm))
        };
        let knows_less = |m: &usize| self.machines[*m].level < needed;
        match (0..self.machines.len()).find(|m| knows_less(m) && is_here(m)) {
            None => Ok(()),
            Some(m) => Err(format!("level {needed} is agreed on, and {} cannot read it", self.machines[m].name)),
        }
    }
}
