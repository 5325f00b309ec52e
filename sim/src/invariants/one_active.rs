//! At any real time an exclusive resource is active on at most one machine. Where fence devices have cut it off from
//! everything that it could damage, it does not count.

use model::{AgentCall, Class};

use crate::world::World;

impl World {
    /// Is the resource, which is about to be started on machine `m`, active nowhere else?
    pub(crate) fn is_first_active(&self, m: usize, call: &AgentCall) -> Result<(), String> {
        let config = &self.watch.agreed.state.config;
        let resource = config.resources.get(&call.resource);
        if resource.is_some_and(|resource| resource.class == Class::BestEffort) {
            return Ok(());
        }
        let is_harmless = |other: usize| {
            let cut_off = &self.machines[other].cut_off;
            resource.is_some_and(|resource| resource.domains.is_subset(cut_off))
        };
        let other = (0..self.machines.len()).find(|other| {
            *other != m && self.machines[*other].services.contains_key(&call.resource) && !is_harmless(*other)
        });
        match other {
            None => Ok(()),
            Some(other) => Err(format!(
                "{} starts on {} while it runs on {}",
                call.resource, self.machines[m].name, self.machines[other].name
            )),
        }
    }
}
