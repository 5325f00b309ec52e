//! Which promises are watched? One file each; whoever sees something that a promise speaks of asks it at once.
//!
//! ```text
//!   every step of a node ─► one_leader, committed_survives, term_steady, inventories
//!   every agreed entry ───► i1, i3, i4, i5, i8, heard_is_not_condemned, short_silence, boots_in_peace,
//!                           all_can_read, off_is_agreed (once, on a copy of the state)
//!   every applied entry ──► logs_agree, states_agree
//!   every call of an agent ► one_active, i2, i3, i5, i6, at_most_once
//!   every call of a device ► off_is_agreed, off_hits_condemned, fences_are_bounded
//!   while faults last ────► stays_available (see `oracle`)
//!   after healing ────────► recovers
//! ```

mod agreed;
mod all_can_read;
mod at_most_once;
mod boots_in_peace;
mod committed_survives;
mod edits_are_harmless;
mod fences_are_bounded;
mod heard_is_not_condemned;
mod i1_one_holder;
mod i2_start_needs_grant;
mod i3_fence_cover;
mod i4_holder_ends_by_proof;
mod i5_dead_stays_dead;
mod i6_no_older_operation;
mod i8_fence_before_grant;
mod logs_agree;
mod off_hits_condemned;
mod off_is_agreed;
mod one_active;
mod one_leader;
mod recovers;
mod short_silence;
mod states_agree;
mod term_steady;

use std::cell::Cell;
use std::collections::BTreeMap;

use executor::ExecutorMessage;
use model::{AgentAction, AgentCall, Bugs, ClusterState, Holder, LogIndex, NodeId, Term, UnitName};
use node::Action;
use state::Command;

use crate::clock::At;
use crate::world::{Event, World};
use agreed::Agreed;

pub(crate) use edits_are_harmless::Edits;
pub(crate) use recovers::what_is_missing;

thread_local! {
    /// World time of the run on this thread, for a run that panics.
    static NOW: Cell<At> = const { Cell::new(0) };
}

/// World time at which the run on this thread stopped.
pub(crate) fn stopped_at() -> At {
    NOW.get()
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub invariant: &'static str,
    /// When, in world time.
    pub at: At,
    /// What happened.
    pub sentence: String,
}

/// Watches all promises of one run.
pub(crate) struct Watch {
    pub violation: Option<Violation>,
    pub agreed: Agreed,
    seen: Vec<Seen>,
    one_leader: one_leader::OneLeader,
    term: term_steady::TermSteady,
    at_most_once: at_most_once::AtMostOnce,
    operations: i6_no_older_operation::Operations,
    fences: i8_fence_before_grant::Fences,
    pub cuts: fences_are_bounded::Fences,
    agreements: off_is_agreed::Agreements,
}

/// What was last seen of one node.
#[derive(Clone, Copy, Default)]
struct Seen {
    term: Term,
    is_leader: bool,
    applied: LogIndex,
}

/// An agreed entry and what it changed.
pub(crate) struct Step<'a> {
    pub index: LogIndex,
    pub command: &'a Command,
    pub is_accepted: bool,
    pub holders_before: &'a BTreeMap<UnitName, Holder>,
    pub after: &'a ClusterState,
}

impl Watch {
    pub fn new(machines: usize, bugs: Bugs) -> Self {
        Watch {
            violation: None,
            agreed: Agreed::new(bugs),
            seen: vec![Seen::default(); machines],
            one_leader: Default::default(),
            term: Default::default(),
            at_most_once: Default::default(),
            operations: Default::default(),
            fences: Default::default(),
            cuts: Default::default(),
            agreements: Default::default(),
        }
    }

    pub fn set_now(&self, now: At) {
        NOW.set(now);
    }

    /// The first broken promise ends the run.
    pub fn violate(&mut self, at: At, invariant: &'static str, sentence: String) {
        self.violation.get_or_insert(Violation { invariant, at, sentence });
    }

    pub fn judge(&mut self, at: At, invariant: &'static str, verdict: Result<(), String>) {
        if let Err(sentence) = verdict {
            self.violate(at, invariant, sentence);
        }
    }

    /// A worker ended: the next one on this machine begins anew.
    pub fn forget(&mut self, m: usize) {
        self.seen[m] = Seen::default();
    }

    /// There is one more machine.
    pub fn grow(&mut self) {
        self.seen.push(Seen::default());
    }

    /// From now on a rise of the term needs a reason.
    pub fn begin_term_watch(&mut self) {
        self.term.is_on = true;
    }

    /// Somebody was told to hand leadership over, or to leave.
    pub fn excuse_terms_until(&mut self, at: At) {
        self.term.excused_until = self.term.excused_until.max(at);
    }
}

impl World {
    /// After every step of a node: whatever changed is checked.
    pub(crate) fn observe(&mut self, m: usize) {
        let Some(worker) = self.machines[m].worker.as_ref() else { return };
        let consensus = worker.node.consensus();
        let now =
            Seen { term: consensus.term(), is_leader: consensus.is_leader(), applied: worker.node.state().applied };
        let before = self.watch.seen[m];
        self.watch.seen[m] = now;
        if now.term != before.term || now.is_leader != before.is_leader {
            self.observe_term(m, before, now);
        }
        if now.applied != before.applied {
            self.observe_applied(m, before, now);
        }
    }

    fn observe_term(&mut self, m: usize, before: Seen, now: Seen) {
        if now.term > self.watch.term.newest {
            let verdict = self.term_may_rise(m, now.term);
            self.watch.judge(self.now, "term-steady", verdict);
        }
        if now.is_leader && (!before.is_leader || before.term != now.term) {
            let name = self.machines[m].name.clone();
            self.note("leads", name.as_str(), &format!("term {}", now.term));
            self.watch.term.on_leader(self.now, m, now.term);
            let verdict = self.watch.one_leader.check(now.term, m, name.as_str());
            self.watch.judge(self.now, "one-leader", verdict);
            let Some(worker) = self.machines[m].worker.as_ref() else { return };
            let verdict = committed_survives::check(&self.watch.agreed, worker.node.consensus(), name.as_str());
            self.watch.judge(self.now, "committed-survives", verdict);
        }
    }

    fn observe_applied(&mut self, m: usize, before: Seen, now: Seen) {
        for index in before.applied.0.max(1) + 1..=now.applied.0 {
            let index = LogIndex(index);
            let Some(worker) = self.machines[m].worker.as_ref() else { return };
            // What lies before a snapshot cannot be looked at; the state after it can.
            let Some(entry) = worker.node.consensus().entry(index) else { continue };
            let is_known = self.watch.agreed.knows(index);
            let verdict = logs_agree::check(&mut self.watch.agreed, &entry, self.machines[m].name.as_str());
            self.watch.judge(self.now, "logs-agree", verdict);
            if !is_known {
                let Some(step) = self.watch.agreed.apply(&entry) else { continue };
                for event in &step.events {
                    self.note(&event.event, &event.subject, &event.reason);
                }
                self.observe_entry(&step);
            }
        }
        let Some(worker) = self.machines[m].worker.as_ref() else { return };
        let verdict = states_agree::check(&self.watch.agreed, worker.node.state(), self.machines[m].name.as_str());
        self.watch.judge(self.now, "states-agree", verdict);
    }

    fn observe_entry(&mut self, taken: &agreed::Taken) {
        let now = self.now;
        let verdicts = {
            let Watch { agreed, fences, .. } = &mut self.watch;
            let step = Step {
                index: taken.index,
                command: &taken.command,
                is_accepted: taken.is_accepted,
                holders_before: &taken.holders_before,
                after: &agreed.state,
            };
            [
                ("i1-one-holder", i1_one_holder::check(&step)),
                ("i3-fence-cover", i3_fence_cover::check(&step)),
                ("i4-holder-ends-by-proof", i4_holder_ends_by_proof::check(&step)),
                ("i8-fence-before-grant", fences.check(&step)),
            ]
        };
        for (invariant, verdict) in verdicts {
            self.watch.judge(now, invariant, verdict);
        }
        match &taken.command {
            Command::Admit { name, .. } if taken.is_accepted => {
                self.at(now, Event::Admitted { name: name.clone(), id: NodeId(taken.index.0) });
            }
            Command::Remove { node, .. } if taken.is_accepted => self.at(now, Event::Removed { id: *node }),
            _ => {}
        }
        if taken.is_accepted {
            let verdict = self.is_really_dead(taken);
            self.watch.judge(now, "i5-dead-stays-dead", verdict);
            let verdict = self.is_rightly_condemned(taken);
            self.watch.judge(now, "heard-is-not-condemned", verdict);
            let verdict = self.was_silent_long(taken);
            self.watch.judge(now, "short-silence", verdict);
            let verdict = self.boots_in_peace(taken);
            self.watch.judge(now, "boots-in-peace", verdict);
            let verdict = self.all_can_read(taken);
            self.watch.judge(now, "all-can-read", verdict);
            let verdict = self.begins_rightly(taken);
            self.watch.judge(now, "off-is-agreed", verdict);
        }
    }

    /// Before an agent is spawned for a start or a stop.
    pub(crate) fn check_call(&mut self, m: usize, call: &AgentCall) {
        let now = self.now;
        let boot = self.machines[m].boot;
        let name = self.machines[m].name.clone();
        let is_active = self.machines[m].services.contains_key(&call.resource);
        let verdict = self.watch.operations.on_call(m, boot, call, name.as_str());
        self.watch.judge(now, "i6-no-older-operation", verdict);
        let verdict = self.watch.at_most_once.check(m, boot, call, name.as_str(), is_active);
        self.watch.judge(now, "at-most-once", verdict);
        if call.action != AgentAction::Start {
            return;
        }
        for (invariant, verdict) in [
            ("one-active", self.is_first_active(m, call)),
            ("i2-start-needs-grant", self.start_has_grant(m, call)),
            ("i3-fence-cover", self.start_is_covered(m, call)),
            ("i5-dead-stays-dead", self.starter_lives(m, call)),
        ] {
            self.watch.judge(now, invariant, verdict);
        }
    }

    /// What a node tells others about its operations binds it.
    pub(crate) fn check_sent(&mut self, m: usize, action: &Action) {
        if let Action::Send {
            message: wire::Message::Executor(ExecutorMessage::Inventory { epoch, inventory }), ..
        } = action
        {
            let boot = self.machines[m].boot;
            self.watch.operations.on_inventory(m, boot, *epoch, inventory);
        }
    }

    /// The machine on which a member lives.
    pub(crate) fn machine_of(&self, id: NodeId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }
}
