//! At any real time an exclusive resource is active on at most one machine.

use model::{AgentCall, Class};

use crate::world::World;

impl World {
    /// Is the resource, which is about to be started on machine `m`, active nowhere else?
    pub(crate) fn is_first_active(&self, m: usize, call: &AgentCall) -> Result<(), String> {
        let config = &self.watch.agreed.state.config;
        if config.resources.get(&call.resource).is_some_and(|resource| resource.class == Class::BestEffort) {
            return Ok(());
        }
        let other = (0..self.machines.len())
            .find(|other| *other != m && self.machines[*other].services.contains_key(&call.resource));
        match other {
            None => Ok(()),
            Some(other) => Err(format!(
                "{} starts on {} while it runs on {}",
                call.resource, self.machines[m].name, self.machines[other].name
            )),
        }
    }
}
