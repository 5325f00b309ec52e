//! At each place of the log, all nodes apply the same entry.

use consensus::Committed;

use super::agreed::Agreed;

/// Is what this node applies what was agreed on?
pub(crate) fn check(agreed: &mut Agreed, entry: &Committed, name: &str) -> Result<(), String> {
    match agreed.is_same(entry) {
        None | Some(true) => Ok(()),
        Some(false) => Err(format!("{name} applies another entry {} than was agreed on", entry.index)),
    }
}
