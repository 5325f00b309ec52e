//! What does one agreed entry change?
//!
//! Each command is judged first and changes the state afterwards, or changes nothing. After every entry the safety
//! assertions run: a holder disappears only by a proof, and one unit never has two.
//!
//! In: a state, the index and content of the next entry. Out: the next state, the verdict, what to tell operators.
//! Not here: the rules themselves (`kernel.rs`, `members.rs`, `observe.rs`, `wishes.rs`).

use std::collections::BTreeMap;

use model::{Bugs, ClusterState, GrantId, HistoryEntry, LogIndex, UnitName, WallTime};

use crate::elsewhere::unbar;
use crate::{Command, Entry, Refusal, check_invariants, kernel, members, observe, wishes};

/// Entries of the history that are kept.
const HISTORY_MAX: usize = 1000;

/// Every word that the history says in [`HistoryEntry::event`]; observers get it as the event of the same name.
pub const HISTORY_WORDS: [&str; 41] = [
    "admitted",
    "blocked",
    "cleared",
    "condemned",
    "config",
    "confirmed-off",
    "failed",
    "fenced",
    "founded",
    "freed",
    "gone",
    "granted",
    "joined",
    "leads",
    "leave",
    "leave-off",
    "left",
    "level",
    "lost",
    "maintenance",
    "maintenance-off",
    "move",
    "move-off",
    "moved",
    "orphan",
    "released",
    "releasing",
    "removed",
    "running",
    "shutdown",
    "shutdown-off",
    "spared",
    "standby",
    "standby-off",
    "start",
    "stop",
    "stop-failed",
    "stopped",
    "suppressed",
    "token",
    "unblocked",
];

/// What applying an entry came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Did it take effect?
    pub verdict: Result<(), Refusal>,
    /// What was added to the history.
    pub events: Vec<HistoryEntry>,
}

/// The entry being applied, and what it has to tell.
pub(crate) struct Context<'a> {
    pub(crate) index: LogIndex,
    pub(crate) at: WallTime,
    pub(crate) actor: &'a str,
    pub(crate) bugs: Bugs,
    events: Vec<HistoryEntry>,
}

impl Context<'_> {
    /// Tells operators that `event` happened to `subject`, and why.
    pub(crate) fn note(&mut self, event: &str, subject: &str, reason: impl Into<String>) {
        self.events.push(HistoryEntry {
            index: self.index,
            at: self.at,
            event: event.to_owned(),
            subject: subject.to_owned(),
            reason: reason.into(),
            actor: self.actor.to_owned(),
        });
    }
}

/// Applies the entry at `index`, which must be later than every one applied before.
///
/// # Panics
/// If an entry is applied twice or out of order, or if the kernel broke one of its own rules: both are bugs of ours.
pub fn apply(state: &mut ClusterState, index: LogIndex, entry: &Entry, bugs: Bugs) -> Applied {
    assert!(index > state.applied, "entry {index} is applied after entry {}", state.applied);
    let before = grants(state);
    let mut context = Context { index, at: entry.at, actor: &entry.actor, bugs, events: Vec::new() };
    let verdict = change(state, &mut context, &entry.command);
    let events = context.events;
    state.applied = index;
    if !state.barred.is_empty() {
        unbar(state);
    }
    if verdict.is_err() {
        assert!(events.is_empty(), "a refused command changed something: {events:?}");
        state.refused += 1;
    }
    for event in &events {
        if state.history.len() == HISTORY_MAX {
            state.history.pop_front();
        }
        state.history.push_back(event.clone());
    }
    if bugs == Bugs::NONE {
        assert_holders_end_by_proof(state, &before, &entry.command);
        if let Err(broken) = check_invariants(state) {
            panic!("after entry {index}: {broken}");
        }
    }
    Applied { verdict, events }
}

fn change(state: &mut ClusterState, context: &mut Context<'_>, command: &Command) -> Result<(), Refusal> {
    match command {
        Command::Coordinator { node, incarnation, term } => {
            kernel::coordinator(state, context, *node, *incarnation, *term)
        }
        Command::Admit { .. } => members::admit(state, context, command),
        Command::Remove { node, reason } => members::remove(state, context, *node, reason),
        Command::Join { .. } => members::join(state, context, command),
        Command::Leave { node, incarnation, epoch } => {
            kernel::check_epoch(state, *epoch)?;
            members::leave(state, context, *node, *incarnation)
        }
        Command::Grant { unit, node, incarnation, epoch, reason } => {
            kernel::check_epoch(state, *epoch)?;
            kernel::grant(state, context, unit, *node, *incarnation, reason)
        }
        Command::BeginRelease { unit, grant, epoch, reason } => {
            kernel::check_epoch(state, *epoch)?;
            kernel::begin_release(state, context, unit, *grant, reason)
        }
        Command::Release { unit, node, incarnation, grant, epoch } => {
            kernel::check_epoch(state, *epoch)?;
            kernel::release(state, context, unit, *node, *incarnation, *grant)
        }
        Command::Block { unit, grant, epoch, why } => {
            kernel::check_epoch(state, *epoch)?;
            kernel::block(state, context, unit, *grant, why)
        }
        Command::Condemn { node, incarnation, epoch, reason, is_for_silence } => {
            kernel::check_epoch(state, *epoch)?;
            kernel::condemn(state, context, *node, *incarnation, reason, *is_for_silence)
        }
        Command::Lost { node, incarnation, epoch, reason } => {
            kernel::check_epoch(state, *epoch)?;
            kernel::lost(state, context, *node, *incarnation, reason)
        }
        Command::Raise { level, epoch } => {
            kernel::check_epoch(state, *epoch)?;
            kernel::raise(state, context, *level)
        }
        Command::Gone { node, incarnation, epoch } => {
            kernel::check_epoch(state, *epoch)?;
            members::gone(state, context, *node, *incarnation)
        }
        Command::FenceBegun { node, incarnation, epoch, .. } => {
            kernel::check_epoch(state, *epoch)?;
            kernel::fence_begun(state, *node, *incarnation)
        }
        Command::Spare { node, incarnation, epoch } => {
            kernel::check_epoch(state, *epoch)?;
            kernel::spare(state, context, *node, *incarnation)
        }
        Command::FenceDone { node, incarnation, epoch, evidence, covers } => {
            kernel::check_epoch(state, *epoch)?;
            kernel::fence_done(state, context, *node, *incarnation, evidence, covers)
        }
        Command::ManualConfirm { node, incarnation, reason } => {
            kernel::manual_confirm(state, context, *node, *incarnation, reason)
        }
        Command::Observed { node, incarnation, epoch, observations } => {
            kernel::check_epoch(state, *epoch)?;
            observe::observed(state, context, *node, *incarnation, observations)
        }
        Command::Configure { expected_version, text, config, reason } => {
            wishes::configure(state, context, *expected_version, text, config, reason)
        }
        Command::Act { action, reason } => wishes::act(state, context, action, reason),
        Command::Undo { action, reason } => wishes::undo(state, context, action, reason),
        Command::Clear { resource, node, reason } => wishes::clear(state, context, resource.as_ref(), *node, reason),
        Command::AddToken { .. } => wishes::add_token(state, context, command),
        Command::WrongToken { id } => wishes::wrong_token(state, context, *id),
        Command::Nothing => Ok(()),
    }
}

fn grants(state: &ClusterState) -> BTreeMap<UnitName, GrantId> {
    state.holders.iter().map(|(unit, holder)| (unit.clone(), holder.grant)).collect()
}

/// I1 and I4 of SAFETY §2.4, across one step.
fn assert_holders_end_by_proof(state: &ClusterState, before: &BTreeMap<UnitName, GrantId>, command: &Command) {
    for (unit, grant) in before {
        match state.holders.get(unit) {
            Some(holder) => {
                assert!(holder.grant == *grant, "{unit} changed from grant {grant} to {} unreleased", holder.grant);
            }
            None => assert!(
                match command {
                    Command::Release { .. }
                    | Command::FenceDone { .. }
                    | Command::ManualConfirm { .. }
                    | Command::Join { .. } => true,
                    Command::Condemn { .. } | Command::Lost { .. } | Command::Block { .. } | Command::Raise { .. } =>
                        !kernel::is_exclusive(&state.config, unit),
                    Command::Coordinator { .. }
                    | Command::Admit { .. }
                    | Command::Remove { .. }
                    | Command::Leave { .. }
                    | Command::Grant { .. }
                    | Command::BeginRelease { .. }
                    | Command::Observed { .. }
                    | Command::Configure { .. }
                    | Command::Act { .. }
                    | Command::Undo { .. }
                    | Command::Clear { .. }
                    | Command::AddToken { .. }
                    | Command::WrongToken { .. }
                    | Command::FenceBegun { .. }
                    | Command::Spare { .. }
                    | Command::Gone { .. }
                    | Command::Nothing => false,
                },
                "{unit} lost its holder by {command:?}"
            ),
        }
    }
}
