//! I6: a node that has answered a leader obeys no older one any more, and runs the operations of a resource in their
//! order.

use std::collections::BTreeMap;

use executor::Inventory;
use model::{AgentCall, Epoch, OpId, ResourceName};

/// What each machine ran and promised in its present boot.
#[derive(Default)]
pub(crate) struct Operations {
    machines: BTreeMap<(usize, u64), Machine>,
}

#[derive(Default)]
struct Machine {
    newest: BTreeMap<ResourceName, OpId>,
    promised: Epoch,
    /// Operations that were under way when the promise was made.
    allowed: Vec<OpId>,
}

impl Operations {
    /// The machine tells a leader that it obeys no older one.
    pub fn on_inventory(&mut self, m: usize, boot: u64, epoch: Epoch, inventory: &Inventory) {
        let machine = self.machines.entry((m, boot)).or_default();
        if epoch > machine.promised {
            machine.promised = epoch;
            machine.allowed = inventory.resources.iter().filter_map(|item| item.op.as_ref()).map(|op| op.id).collect();
        }
    }

    /// The machine runs this.
    pub fn on_call(&mut self, m: usize, boot: u64, call: &AgentCall, name: &str) -> Result<(), String> {
        // Nobody ordered it: a node that goes down alone stops what it holds, and starts nothing afterwards.
        if call.key.attempt == executor::OWN_STOP && call.action == model::AgentAction::Stop {
            return Ok(());
        }
        let machine = self.machines.entry((m, boot)).or_default();
        let op = call.key.op;
        let what = format!("{:?} of {} ({}.{}) on {name}", call.action, call.resource, op.epoch, op.index);
        if op.epoch < machine.promised && !machine.allowed.contains(&op) {
            return Err(format!("{what} runs after the leader of epoch {} was heard of", machine.promised));
        }
        let newest = machine.newest.entry(call.resource.clone()).or_default();
        if op < *newest {
            return Err(format!("{what} runs after {}.{}", newest.epoch, newest.index));
        }
        *newest = op;
        Ok(())
    }
}
