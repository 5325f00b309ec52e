//! A member that another one hears is not condemned for its silence.
//!
//! As `term_steady`, this asks the world who can hear whom: for two seconds the member ran without a disturbance, some
//! third member heard it well, and the leader heard that one. Excused is what a leader proposed while it was right and
//! only its successor could get agreed on: an entry cannot be taken back.

use model::{HolderState, NodeId};
use state::Command;

use super::agreed::Taken;
use crate::world::World;

impl World {
    /// Was the member that this entry condemns heard by nobody?
    pub(crate) fn is_rightly_condemned(&self, taken: &Taken) -> Result<(), String> {
        // Who does not answer, or cannot stop what it runs, is condemned although it is heard.
        let Command::Condemn { node, incarnation, epoch, is_for_silence: true, .. } = &taken.command else {
            return Ok(());
        };
        let state = &self.watch.agreed.state;
        let is_blocked = taken
            .holders_before
            .values()
            .any(|holder| holder.node == *node && matches!(holder.state, HolderState::Blocked { .. }));
        let is_asked_for = state.history.back().is_some_and(|entry| entry.actor != "cluster");
        let (Some(target), Some(leader)) = (self.machine_of(*node), self.machine_of(state.coordinator)) else {
            return Ok(());
        };
        let is_current = self.machines[target].is_on && self.machines[target].incarnation(target) == *incarnation;
        let is_inherited = taken.term < self.watch.term.newest;
        if is_blocked || is_asked_for || is_inherited || !is_current || *epoch != state.epoch {
            return Ok(());
        }
        let calm = self.calm();
        let is_calm = |m: usize| self.machines[m].is_quiet_for(self.now, calm);
        let hears = |a: usize, b: usize| a == b || self.network.is_good_for(self.now, a, b, calm);
        let is_member = |m: usize| self.machines[m].id.is_some_and(|id: NodeId| state.members.contains_key(&id));
        let witness = (0..self.machines.len())
            .find(|m| *m != target && is_member(*m) && is_calm(*m) && hears(*m, target) && hears(leader, *m));
        match witness.filter(|_| is_calm(target) && is_calm(leader)) {
            None => Ok(()),
            Some(witness) => Err(format!(
                "{} condemned {}, which {} hears",
                self.machines[leader].name, self.machines[target].name, self.machines[witness].name
            )),
        }
    }
}
