//! The term does not rise while a majority hears the leader.
//!
//! The world knows who can hear whom. A rise of the newest term breaks the promise if, for the last two seconds (eight with the slower timers), the
//! leader of that term led and ran without a disturbance, and so did voters that make up a majority with it, and
//! between the leader and each of these some link carried packets well in both directions. Excused are a hand-over that somebody
//! asked for, a witness that leads, a leader that cannot stop what it runs (another one has to fence it), and a leader
//! that does not reach a member which another voter reaches, or to which a disturbed member has not answered for five
//! seconds (another one leads for a try).

use std::time::Duration;

use model::{HolderState, NodeRole, Profile, ResourceState, Term};

use crate::clock::{At, SECONDS};
use crate::world::World;

/// The newest term and who leads in it.
#[derive(Default)]
pub(crate) struct TermSteady {
    pub is_on: bool,
    pub newest: Term,
    leader: Option<(usize, At)>,
    pub excused_until: At,
}

impl TermSteady {
    pub fn on_leader(&mut self, now: At, m: usize, term: Term) {
        if term >= self.newest {
            self.leader = Some((m, now));
        }
    }
}

impl World {
    /// For so long everything must have been well before somebody counts as heard.
    pub(crate) fn calm(&self) -> u64 {
        match self.watch.agreed.state.config.profile {
            Profile::Lan => 2 * SECONDS,
            Profile::Cloud | Profile::Wan => 8 * SECONDS,
        }
    }

    /// The newest term rises, on machine `m`.
    pub(crate) fn term_may_rise(&mut self, m: usize, term: Term) -> Result<(), String> {
        let watch = &mut self.watch.term;
        let (old, leader) = (watch.newest, watch.leader.take());
        watch.newest = term;
        if !watch.is_on || self.now < watch.excused_until {
            return Ok(());
        }
        let Some((leader, since)) = leader.filter(|(leader, _)| *leader != m) else { return Ok(()) };
        let own = self.machines[leader].id;
        let is_blocked = self
            .watch
            .agreed
            .state
            .holders
            .values()
            .any(|holder| Some(holder.node) == own && matches!(holder.state, HolderState::Blocked { .. }))
            || own.is_some_and(|own| {
                let state = &self.watch.agreed.state;
                state.known.keys().any(|resource| state.known_state(resource, own) == ResourceState::Blocked)
            });
        let is_calm = !is_blocked
            && self.machines[leader].role == NodeRole::Member
            && since + self.calm() <= self.now
            && self.machines[leader].is_quiet_for(self.now, self.calm())
            && self.node(leader).is_some_and(|node| node.consensus().is_leader() && node.consensus().term() == old);
        let Some(node) = self.node(leader).filter(|_| is_calm) else { return Ok(()) };
        let voters = node.consensus().voters();
        let hearing = voters
            .iter()
            .filter_map(|voter| self.machine_of(*voter))
            .filter(|voter| {
                *voter == leader
                    || self.machines[*voter].is_quiet_for(self.now, self.calm())
                        && self.network.is_good_for(self.now, leader, *voter, self.calm())
            })
            .count();
        if hearing <= voters.len() / 2 {
            return Ok(());
        }
        let reaches = |a: usize, b: usize| a == b || self.network.is_good_for(self.now, a, b, self.calm());
        let is_split = (0..self.machines.len()).filter(|target| self.machines[*target].is_on).any(|target| {
            let voters = voters.iter().filter_map(|voter| self.machine_of(*voter));
            // Contact over a bad link is contact, too.
            !reaches(leader, target)
                && voters.into_iter().any(|voter| voter != target && self.network.connects(voter, target))
        });
        let is_silent = self.machines.iter().any(|machine| {
            let owed = machine.id.map(|id| node.consensus().owes(id));
            // A log that is older than the leader knows, or that its program cannot read, does not grow either.
            let cannot_follow = machine.was_restored || machine.level < self.watch.agreed.state.level;
            let is_disturbed = cannot_follow || !machine.is_quiet_for(self.now, self.calm());
            machine.is_on && is_disturbed && owed >= Some(Duration::from_secs(5))
        });
        if is_split || is_silent {
            return Ok(());
        }
        Err(format!(
            "{} begins term {term} while {} leads term {old} and {hearing} of {} voters hear it",
            self.machines[m].name,
            self.machines[leader].name,
            voters.len()
        ))
    }
}
