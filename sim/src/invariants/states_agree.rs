//! After the same entry, all nodes have the same state.

use model::ClusterState;

use super::agreed::{Agreed, fingerprint};

/// Is the state of this node the one that follows from the agreed log?
pub(crate) fn check(agreed: &Agreed, state: &ClusterState, name: &str) -> Result<(), String> {
    match agreed.fingerprint(state.applied) {
        Some(expected) if expected != fingerprint(state) => {
            Err(format!("the state of {name} differs from that of the others after entry {}", state.applied))
        }
        Some(_) | None => Ok(()),
    }
}
