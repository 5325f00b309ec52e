//! I5: an incarnation that the cluster counts as dead is dead, and executes nothing.

use model::AgentCall;
use state::Command;

use super::agreed::Taken;
use crate::world::World;

impl World {
    /// Is what this entry declares dead without power, or in a later life?
    pub(crate) fn is_really_dead(&self, taken: &Taken) -> Result<(), String> {
        let (node, incarnation, covers) = match &taken.command {
            Command::FenceDone { node, incarnation, covers, .. } => (*node, *incarnation, covers),
            _ => return Ok(()),
        };
        let Some(m) = self.machine_of(node) else { return Ok(()) };
        let machine = &self.machines[m];
        if machine.is_on && machine.incarnation(m) == incarnation && !covers.is_subset(&machine.cut_off) {
            return Err(format!("{} counts as cut off from {covers:?} and is not, in the same life", machine.name));
        }
        Ok(())
    }

    /// Is the life in which this start runs not agreed to be over?
    pub(crate) fn starter_lives(&self, m: usize, call: &AgentCall) -> Result<(), String> {
        let machine = &self.machines[m];
        let Some(id) = machine.id else { return Ok(()) };
        let incarnation = machine.incarnation(m);
        let is_dead = self.watch.agreed.state.members.get(&id).is_some_and(|member| member.dead.contains(&incarnation));
        if is_dead {
            return Err(format!("{} starts on {} in a life that counts as dead", call.resource, machine.name));
        }
        Ok(())
    }
}
