//! Each `off` follows an agreement of its own: a `FenceBegun` for that life, not older than two seconds. And no fence
//! begins for a life that was condemned for its silence alone while the leader hears it: that one is spared.

use std::collections::BTreeMap;

use model::{Incarnation, NodeId};
use state::Command;

use super::agreed::Taken;
use crate::clock::{At, MILLIS, SECONDS};
use crate::world::World;

/// An agreement counts for two seconds, by a clock that may drift a little.
const FRESH_FOR: u64 = 2 * SECONDS + 10 * MILLIS;

/// The newest agreement to cut each member off.
#[derive(Default)]
pub(crate) struct Agreements {
    begun: BTreeMap<NodeId, (Incarnation, At)>,
}

impl World {
    /// Has it been agreed just now to cut this machine off?
    pub(crate) fn off_is_agreed(&self, target: usize) -> Result<(), String> {
        let machine = &self.machines[target];
        // Below level 1 nobody can read such an agreement.
        let Some(id) = machine.id.filter(|_| self.watch.agreed.state.level >= 1) else { return Ok(()) };
        let begun = self.watch.agreements.begun.get(&id);
        if begun.is_some_and(|(_, at)| self.now <= at + FRESH_FOR) {
            return Ok(());
        }
        Err(format!("{} is told to be cut off, and that was not agreed on within two seconds", machine.name))
    }

    /// Notes that a fence begins. Is its target silent, if it was condemned for that?
    pub(crate) fn begins_rightly(&mut self, taken: &Taken) -> Result<(), String> {
        let Command::FenceBegun { node, incarnation, .. } = &taken.command else { return Ok(()) };
        let before = self.watch.agreements.begun.insert(*node, (*incarnation, self.now));
        let is_first = before.is_none_or(|(life, _)| life != *incarnation);
        let state = &self.watch.agreed.state;
        let is_for_silence = state.ends.get(node).is_some_and(|end| end.is_for_silence && end.cut_off_by.is_empty());
        let is_inherited = taken.term < self.watch.term.newest;
        let (Some(target), Some(leader)) = (self.machine_of(*node), self.machine_of(state.coordinator)) else {
            return Ok(());
        };
        let calm = self.calm() / 2;
        let is_calm = |m: usize| self.is_well(m) && self.machines[m].is_quiet_for(self.now, calm);
        let is_heard = self.machines[target].incarnation(target) == *incarnation
            && is_calm(target)
            && is_calm(leader)
            && self.network.is_good_for(self.now, leader, target, calm);
        if is_first && is_for_silence && !is_inherited && is_heard {
            let [leader, target] = [leader, target].map(|m| &self.machines[m].name);
            return Err(format!("{leader} begins to cut off {target}, which was silent, and which it hears"));
        }
        Ok(())
    }
}
