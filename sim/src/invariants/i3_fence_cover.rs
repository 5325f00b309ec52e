//! I3: a start runs only where fencing covers whatever the unit can damage.

use model::AgentCall;
use state::Command;

use super::Step;
use crate::world::World;

/// Does every new grant go to a node whose fence devices cover the unit?
pub(crate) fn check(step: &Step<'_>) -> Result<(), String> {
    let Command::Grant { unit, node, .. } = step.command else { return Ok(()) };
    let Some(member) = step.after.members.get(node).filter(|_| step.is_accepted) else { return Ok(()) };
    let config = &step.after.config;
    if config.domains(unit).is_subset(&config.fence_cover(&member.name)) {
        Ok(())
    } else {
        Err(format!("{unit} is granted to {}, whose fence devices do not cover it", member.name))
    }
}

impl World {
    /// Does the fencing of the machine cover what it starts, as its own node knows the configuration?
    pub(crate) fn start_is_covered(&self, m: usize, call: &AgentCall) -> Result<(), String> {
        let Some(node) = self.node(m) else { return Ok(()) };
        let config = &node.state().config;
        let unit = config.unit_of(&call.resource);
        let name = &self.machines[m].name;
        if config.domains(&unit).is_subset(&config.fence_cover(name)) {
            Ok(())
        } else {
            Err(format!("{} starts on {name}, whose fence devices do not cover it", call.resource))
        }
    }
}
