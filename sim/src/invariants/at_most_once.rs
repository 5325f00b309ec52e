//! One operation is run at most once in a boot, however often it is ordered, and nothing is started where it runs.

use std::collections::BTreeSet;

use model::{AgentAction, AgentCall, CallKey};

/// Every call that was spawned, by machine and boot.
#[derive(Default)]
pub(crate) struct AtMostOnce {
    spawned: BTreeSet<(usize, u64, CallKey)>,
}

impl AtMostOnce {
    /// The machine spawns this; `is_active`: the resource really runs there.
    pub fn check(&mut self, m: usize, boot: u64, call: &AgentCall, name: &str, is_active: bool) -> Result<(), String> {
        if call.action == AgentAction::Start && is_active {
            return Err(format!("{} starts on {name}, where it runs", call.resource));
        }
        if self.spawned.insert((m, boot, call.key)) {
            return Ok(());
        }
        let op = call.key.op;
        Err(format!("{:?} of {} ({}.{}) runs a second time on {name}", call.action, call.resource, op.epoch, op.index))
    }
}
