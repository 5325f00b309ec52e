//! Whoever is elected has every entry that was ever agreed on.

use consensus::Consensus;

use super::agreed::Agreed;

/// Does the log of the new leader end with, or go beyond, the last agreed entry?
pub(crate) fn check(agreed: &Agreed, consensus: &Consensus, name: &str) -> Result<(), String> {
    let last = agreed.last();
    let Some(term) = agreed.term(last) else { return Ok(()) };
    match consensus.entry(last) {
        Some(entry) if entry.term == term => Ok(()),
        Some(entry) => Err(format!("{name} leads with term {} at entry {last}, agreed is term {term}", entry.term)),
        None if consensus.last_index() < last => {
            Err(format!("{name} leads with a log that ends at {}, agreed is up to {last}", consensus.last_index()))
        }
        // It is in its snapshot.
        None => Ok(()),
    }
}
