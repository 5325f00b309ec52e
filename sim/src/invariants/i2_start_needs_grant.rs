//! I2: a start is spawned only under the current grant, as the node applied it, and after its intent is on the disk.

use executor::Executor;
use model::{AgentCall, Bugs, HolderState};

use crate::world::World;

impl World {
    /// Does this machine hold the unit, and does its disk know of the start?
    pub(crate) fn start_has_grant(&self, m: usize, call: &AgentCall) -> Result<(), String> {
        let machine = &self.machines[m];
        let (Some(worker), Some(own)) = (&machine.worker, machine.id) else { return Ok(()) };
        let state = worker.node.state();
        let incarnation = machine.incarnation(m);
        let unit = state.config.unit_of(&call.resource);
        let is_held = state.holders.get(&unit).is_some_and(|holder| {
            holder.node == own && holder.incarnation == incarnation && matches!(holder.state, HolderState::Held)
        });
        if !is_held {
            return Err(format!("{} starts on {}, which does not hold {unit}", call.resource, machine.name));
        }
        if self.is_intended(m, call) {
            Ok(())
        } else {
            Err(format!("{} starts on {} before its journal knows of it", call.resource, machine.name))
        }
    }

    /// Would a worker that begins with this disk adopt the call?
    fn is_intended(&self, m: usize, call: &AgentCall) -> bool {
        let machine = &self.machines[m];
        let (Some(worker), Some(own)) = (&machine.worker, machine.id) else { return false };
        let moment = machine.clock.local(self.now);
        let stored = Executor::new(moment, own, machine.incarnation(m), machine.disk.journal(), Bugs::NONE);
        stored.is_ok_and(|mut stored| {
            stored.begin(moment, worker.node.state()).iter().any(|action| {
                matches!(action, executor::ExecutorAction::Call(adopted)
                    if adopted.is_adoption && adopted.key.op == call.key.op && adopted.resource == call.resource)
            })
        })
    }
}
