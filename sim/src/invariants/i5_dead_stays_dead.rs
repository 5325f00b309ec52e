//! I5: an incarnation that the cluster counts as dead is dead, and executes nothing.

use model::{AgentCall, Incarnation, NodeId};
use state::Command;

use super::agreed::Taken;
use crate::clock::SECONDS;
use crate::world::World;

impl World {
    /// Is what this entry declares dead without power, or in a later life?
    pub(crate) fn is_really_dead(&self, taken: &Taken) -> Result<(), String> {
        let (node, incarnation, covers) = match &taken.command {
            Command::FenceDone { node, incarnation, covers, .. } => (*node, *incarnation, covers),
            Command::ManualConfirm { node, incarnation, .. } => return self.is_attested_rightly(*node, *incarnation),
            Command::Join { node, incarnation, .. } => return self.lives_alone(*node, *incarnation),
            _ => return Ok(()),
        };
        let Some(m) = self.machine_of(node) else { return Ok(()) };
        let machine = &self.machines[m];
        if machine.is_on && machine.incarnation(m) == incarnation && !covers.is_subset(&machine.cut_off) {
            return Err(format!("{} counts as cut off from {covers:?} and is not, in the same life", machine.name));
        }
        Ok(())
    }

    /// A person's word counts only against a machine that nobody hears.
    fn is_attested_rightly(&self, node: NodeId, incarnation: Incarnation) -> Result<(), String> {
        let Some(m) = self.machine_of(node) else { return Ok(()) };
        let machine = &self.machines[m];
        let is_heard_by = |other: usize| {
            other != m && self.is_well(other) && self.network.is_good_for(self.now, other, m, 2 * SECONDS)
        };
        let is_heard = machine.incarnation(m) == incarnation
            && self.is_well(m)
            && machine.is_quiet_for(self.now, 2 * SECONDS)
            && Some(m) != self.leader()
            && self.leader().is_some_and(is_heard_by);
        if is_heard {
            return Err(format!("{} counts as off by a person's word, and the leader hears it", machine.name));
        }
        Ok(())
    }

    /// A life joins: no other machine lives as the same member.
    fn lives_alone(&self, node: NodeId, incarnation: Incarnation) -> Result<(), String> {
        let living: Vec<usize> = (0..self.machines.len())
            .filter(|m| self.machines[*m].id == Some(node) && self.machines[*m].worker.is_some())
            .collect();
        let joins = living.iter().any(|m| self.machines[*m].incarnation(*m) == incarnation);
        match living.iter().find(|m| joins && self.machines[**m].incarnation(**m) != incarnation) {
            None => Ok(()),
            Some(other) => {
                Err(format!("node {node} joins while {} lives as the same member", self.machines[*other].name))
            }
        }
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
