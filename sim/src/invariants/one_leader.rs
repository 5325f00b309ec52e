//! At most one node leads in a term.

use std::collections::BTreeMap;

use model::Term;

/// Who led in which term.
#[derive(Default)]
pub(crate) struct OneLeader {
    leaders: BTreeMap<Term, usize>,
}

impl OneLeader {
    /// Machine `m` leads in `term`.
    pub fn check(&mut self, term: Term, m: usize, name: &str) -> Result<(), String> {
        match self.leaders.insert(term, m) {
            Some(other) if other != m => Err(format!("{name} and another node both lead in term {term}")),
            Some(_) | None => Ok(()),
        }
    }
}
