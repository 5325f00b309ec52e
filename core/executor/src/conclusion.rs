//! What does an agent's answer say about its resource?
//!
//! The executor keeps it in its journal, the leader puts it into the agreed state: both conclude the same.

use model::{AgentAction, Outcome, ResourceState};

/// What an operation's outcome says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conclusion {
    /// What the resource is in.
    pub state: ResourceState,
    /// Why, in words for an operator; empty if it is as asked.
    pub reason: String,
    /// It counts as a failure of the resource on this node.
    pub failure: Option<FailureKind>,
}

/// Is another try on the same node useful?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    Passing,
    Permanent,
}

/// Concludes from an outcome; `None`: it says nothing, and what was known before stays.
pub(crate) fn conclude(action: AgentAction, outcome: &Outcome) -> Option<Conclusion> {
    let fine = |state| Conclusion { state, reason: String::new(), failure: None };
    let kind = |is_permanent| if is_permanent { FailureKind::Permanent } else { FailureKind::Passing };
    let failed = |reason, kind| Conclusion { state: ResourceState::Failed, reason, failure: Some(kind) };
    // A stop that fails is no mark against the node: the node is cut off for it.
    let blocked = |reason| Conclusion { state: ResourceState::Blocked, reason, failure: None };
    Some(match (action, outcome) {
        (AgentAction::Start, Outcome::Success) => fine(ResourceState::Running),
        (AgentAction::Start, Outcome::NotRunning) => Conclusion {
            state: ResourceState::Stopped,
            reason: "its start was interrupted before it began".to_owned(),
            failure: None,
        },
        (AgentAction::Start, Outcome::Failed { reason, is_permanent }) => {
            failed(format!("its start failed: {reason}"), kind(*is_permanent))
        }
        (AgentAction::Start, Outcome::TimedOut) => {
            failed("its start gave no answer in time".to_owned(), FailureKind::Passing)
        }
        (AgentAction::Start, Outcome::Stuck { reason }) => {
            failed(format!("its start hangs and cannot be ended: {reason}"), FailureKind::Passing)
        }
        // It may have begun, so that it must be stopped first.
        (AgentAction::Start, Outcome::Unknown { reason, is_permanent }) => {
            failed(format!("nobody knows what its start did: {reason}"), kind(*is_permanent))
        }
        (AgentAction::Start, Outcome::NotBegun { reason }) => Conclusion {
            state: ResourceState::Stopped,
            reason: format!("it could not be started: {reason}"),
            failure: Some(FailureKind::Permanent),
        },
        (AgentAction::Stop, Outcome::Success | Outcome::NotRunning) => fine(ResourceState::Stopped),
        (AgentAction::Stop, Outcome::Failed { reason, .. } | Outcome::NotBegun { reason }) => {
            blocked(format!("its stop failed: {reason}"))
        }
        (AgentAction::Stop, Outcome::Unknown { reason, .. }) => {
            blocked(format!("nobody knows whether its stop worked: {reason}"))
        }
        (AgentAction::Stop, Outcome::TimedOut) => blocked("its stop gave no answer in time".to_owned()),
        (AgentAction::Stop, Outcome::Stuck { reason }) => blocked(format!("its stop left something behind: {reason}")),
        (AgentAction::Monitor, Outcome::Success) => fine(ResourceState::Running),
        (AgentAction::Monitor, Outcome::NotRunning) => fine(ResourceState::Stopped),
        // Only "not running" proves that it does not run.
        (
            AgentAction::Monitor,
            Outcome::Failed { reason, is_permanent: true }
            | Outcome::Unknown { reason, is_permanent: true }
            | Outcome::NotBegun { reason },
        ) => Conclusion {
            state: ResourceState::Unknown,
            reason: format!("its probe failed: {reason}"),
            failure: Some(FailureKind::Permanent),
        },
        (AgentAction::Monitor, Outcome::Failed { reason, is_permanent: false }) => {
            failed(format!("its probe failed: {reason}"), FailureKind::Passing)
        }
        (
            AgentAction::Monitor,
            Outcome::TimedOut | Outcome::Stuck { .. } | Outcome::Unknown { is_permanent: false, .. },
        ) => return None,
    })
}
