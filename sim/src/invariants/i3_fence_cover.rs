//! I3: a start runs only where fencing covers whatever the unit can damage.

use model::{AgentCall, ClusterConfig, NodeName, NodeRole};
use state::Command;

use super::Step;
use crate::oracle::is_allowed;
use crate::world::World;

/// Does every new grant go to a node whose fence devices cover the unit, and can every node that a new file allows an
/// exclusive unit on be cut off from it?
pub(crate) fn check(step: &Step<'_>) -> Result<(), String> {
    let config = &step.after.config;
    let (unit, node) = match step.command {
        Command::Grant { unit, node, .. } => (unit, node),
        Command::Configure { .. } if step.is_accepted => return covers_all(config),
        _ => return Ok(()),
    };
    let Some(member) = step.after.members.get(node).filter(|_| step.is_accepted) else { return Ok(()) };
    if config.domains(unit).is_subset(&config.fence_cover(&member.name)) {
        Ok(())
    } else {
        Err(format!("{unit} is granted to {}, whose fence devices do not cover it", member.name))
    }
}

fn covers_all(config: &ClusterConfig) -> Result<(), String> {
    for (name, unit) in config.units().into_iter().filter(|(name, _)| config.is_exclusive(name)) {
        let lacks = |node: &&NodeName| !config.domains(&name).is_subset(&config.fence_cover(node));
        let members = config.nodes.iter().filter(|(_, node)| node.role == NodeRole::Member).map(|(node, _)| node);
        if let Some(node) = members.filter(|node| is_allowed(unit.placement, node)).find(lacks) {
            return Err(format!("{name} may run on {node}, whose fence devices do not cover it, by the cluster file"));
        }
    }
    Ok(())
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
