//! How does a node whose state is wrong get the right one? (SAFETY §5)
//!
//! It asks the leader for its state, if that is one of those that are right, and applies to it whatever its own log
//! holds beyond. The new state takes the place of the old one in memory and, as a snapshot, on the disk; the log stays as
//! it is. The leader has something agreed on then, at which all take a digest: either the alarm ends, or the node is
//! wrong again, and asks no more.
//!
//! The leader answers those only that it finds wrong itself. While a node is wrong it gets no further unit, does nothing
//! as the leader, and wishes less than all others to lead.
//!
//! Not here: who is wrong (`digests.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::{ClusterState, Instant, LogIndex, NodeId};
use state::{Command, Entry};
use wire::Message;

use crate::digests::{Comparison, Diverged, Stage};
use crate::input::{Action, Moment};
use crate::node::{Node, Todo, event};

/// A node that is wrong asks again after this at first, then after twice as long each time…
const ASK_FIRST: Duration = Duration::from_secs(1);
/// … up to this…
const ASK_MAX: Duration = Duration::from_secs(60);
/// … and so often at most.
const ASKS_MAX: u32 = 10;
/// So many states a node takes in one life: a machine that needs more is broken.
const RENEWALS_MAX: u32 = 3;
/// The leader answers the same node no sooner than this.
const GIVE_EVERY: Duration = Duration::from_millis(500);
/// A node that is wrong wishes less than a witness to lead.
const PRIORITY_WHILE_WRONG: i8 = -2;

/// What a node does about a wrong state: its own on a member, that of others on the leader.
#[derive(Debug, Default)]
pub(crate) struct Renewal {
    /// When the leader is asked next.
    again_at: Option<Instant>,
    /// How often it was asked since the state became wrong.
    asked: u32,
    /// Who was asked last.
    from: Option<NodeId>,
    /// The leader's state, while this node has not applied the log as far.
    received: Option<Box<ClusterState>>,
    /// A state was taken since the alarm began.
    is_taken: bool,
    /// The alarm says that nothing more is tried.
    has_given_up: bool,
    /// States that were taken in this life.
    taken: u32,
    /// When this node, as the leader, last gave its state to each member.
    given: BTreeMap<NodeId, Instant>,
}

impl Renewal {
    /// When `Tick` next has work to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.again_at
    }
}

impl Node {
    /// Is the state of this node known to be wrong?
    pub(crate) fn is_wrong(&self) -> bool {
        matches!(self.diverged, Some(Diverged { found: Comparison::Own(_), .. }))
    }

    /// Is the state of this member known to be wrong?
    pub(crate) fn is_found_wrong(&self, node: NodeId) -> bool {
        self.diverged.as_ref().is_some_and(|diverged| match &diverged.found {
            Comparison::Others(wrong) => wrong.contains(&node),
            Comparison::Own(_) => node == self.identity.own,
            Comparison::Same(_) => false,
        })
    }

    /// Those that are certainly right, if the state of this node is wrong.
    fn right_ones(&self) -> Option<&BTreeSet<NodeId>> {
        match &self.diverged {
            Some(Diverged { found: Comparison::Own(right), stage: Stage::Certain, .. }) => Some(right),
            Some(Diverged { .. }) | None => None,
        }
    }

    /// How much this node wishes to lead.
    pub(crate) fn priority(&self) -> i8 {
        match (self.is_wrong(), self.is_witness()) {
            (true, _) => PRIORITY_WHILE_WRONG,
            (false, true) => -1,
            (false, false) => 0,
        }
    }

    /// The digests say that the state of this node is wrong; true if that was to be expected no more.
    pub(crate) fn begin_renewal(&mut self, now: Moment) -> bool {
        let renewal = &mut self.renewal;
        if renewal.is_taken || renewal.taken >= RENEWALS_MAX {
            renewal.has_given_up = true;
            return true;
        }
        if !renewal.has_given_up {
            renewal.again_at.get_or_insert(now.at);
        }
        false
    }

    /// The alarm has ended.
    pub(crate) fn end_renewal(&mut self) {
        let Renewal { taken, given, .. } = std::mem::take(&mut self.renewal);
        self.renewal = Renewal { taken, given, ..Renewal::default() };
    }

    /// Asks the leader for its state, if that is right and the time has come.
    pub(crate) fn renew(&mut self, now: Moment, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        if self.renewal.again_at.is_none_or(|at| at > now.at) {
            return;
        }
        self.renewal.again_at = None;
        if self.renewal.has_given_up {
            return;
        }
        let Some(right) = self.right_ones().cloned() else { return };
        self.renewal.again_at = Some(now.at + ASK_FIRST);
        if self.reign.is_some() {
            let voter = right.iter().find(|id| self.consensus.voters().contains(id));
            todo.extend(voter.map(|voter| Todo::Consensus(consensus::Input::Transfer(*voter))));
            return;
        }
        let Some(leader) = self.consensus.leader().filter(|leader| right.contains(leader)) else { return };
        if self.renewal.asked == ASKS_MAX {
            self.give_up(format!("{} was asked for its state {ASKS_MAX} times", self.state.name_of(leader)), out);
            return;
        }
        self.renewal.again_at = Some(now.at + (ASK_FIRST * (1 << self.renewal.asked)).min(ASK_MAX));
        self.renewal.asked += 1;
        self.renewal.from = Some(leader);
        out.push(Action::Send { to: leader, message: Message::AskState });
    }

    /// Nothing more is tried; the alarm says why.
    fn give_up(&mut self, why: String, out: &mut Vec<Action>) {
        self.renewal.again_at = None;
        self.renewal.has_given_up = true;
        let own = self.state.name_of(self.identity.own);
        if let Some(diverged) = &mut self.diverged {
            diverged.reason = format!("{}; {why}, to no avail", diverged.reason);
            out.push(event("problem", &own, diverged.reason.clone()));
        }
    }

    /// A member that is wrong wants the state of this node, which leads.
    pub(crate) fn give_state(&mut self, now: Moment, to: NodeId, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let is_certain = self.diverged.as_ref().is_some_and(|diverged| diverged.stage >= Stage::Certain);
        let is_too_soon = self.renewal.given.get(&to).is_some_and(|at| now.at.since(*at) < GIVE_EVERY);
        if self.reign.is_none() || !is_certain || self.is_wrong() || !self.is_found_wrong(to) || is_too_soon {
            return;
        }
        self.renewal.given.insert(to, now.at);
        let snapshot = state::encode_snapshot(&self.state);
        out.push(Action::Send { to, message: Message::State { snapshot } });
        self.propose_own(now, Command::Nothing, todo, out);
    }

    /// The leader's answer.
    pub(crate) fn on_state(
        &mut self,
        now: Moment,
        from: NodeId,
        snapshot: &[u8],
        todo: &mut Vec<Todo>,
        out: &mut Vec<Action>,
    ) {
        let is_right = self.right_ones().is_some_and(|right| right.contains(&from));
        let is_wanted = is_right && self.renewal.from == Some(from) && self.reign.is_none();
        if !is_wanted || self.renewal.is_taken || self.renewal.has_given_up {
            return;
        }
        // One that cannot be read is asked for again.
        let Ok(state) = state::decode_snapshot(snapshot) else { return };
        self.renewal.received = Some(Box::new(state));
        self.take_state(now, todo, out);
    }

    /// Takes the leader's state as soon as this node has applied the log as far.
    pub(crate) fn take_state(&mut self, now: Moment, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let upto = self.state.applied;
        let Some(mut renewed) = self.renewal.received.take_if(|received| received.applied <= upto) else { return };
        let taken_at = renewed.applied;
        let mut digest = (LogIndex(0), 0);
        if taken_at.0.is_multiple_of(self.settings.digest_every) {
            digest = (taken_at, state::digest(&renewed));
        }
        while renewed.applied < upto {
            let index = LogIndex(renewed.applied.0 + 1);
            // What is not kept any more, or cannot be read, makes this state useless; a newer one is asked for.
            let Some(entry) = self.consensus.entry(index) else { return };
            let is_compared = if entry.data.is_empty() {
                renewed.applied = index;
                false
            } else {
                let Ok(decoded) = Entry::decode(&entry.data) else { return };
                state::apply(&mut renewed, index, &decoded, self.settings.bugs);
                garble(&mut renewed, self.settings.bugs);
                matches!(decoded.command, Command::Nothing)
            };
            if is_compared || index.0.is_multiple_of(self.settings.digest_every) {
                digest = (index, state::digest(&renewed));
            }
        }
        // Until it is known to be right, the leader is asked to have something agreed on that shows it.
        self.renewal.is_taken = true;
        self.renewal.taken += 1;
        self.compacted = upto;
        self.digest = digest;
        let snapshot = state::encode_snapshot(&renewed);
        todo.push(Todo::Consensus(consensus::Input::Replace { upto, snapshot }));
        self.state = Arc::new(*renewed);
        let from = self.renewal.from.map_or_else(String::new, |from| self.state.name_of(from));
        let own = self.state.name_of(self.identity.own);
        let what = format!(
            "the state of {own} was wrong; it is now that of {from} after log index {taken_at} and what followed"
        );
        out.push(event("renewed", &own, what));
        if let Some(diverged) = &mut self.diverged {
            diverged.reason = format!(
                "the state of {own} was wrong; it took that of {from}, and is compared again with the next entry"
            );
        }
        self.compare_digests(now, todo, out);
        self.after_replacement(now, todo, out);
    }
}

/// Planted by stories: this node writes another history than the others.
pub(crate) fn garble(state: &mut ClusterState, bugs: model::Bugs) {
    if bugs.has(model::Bug::HistoryGarbled)
        && let Some(last) = state.history.back_mut()
    {
        last.reason.push('?');
    }
}
