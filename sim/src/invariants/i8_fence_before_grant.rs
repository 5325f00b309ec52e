//! I8: in the log, the proof that ended a grant comes before the next grant of the unit.

use std::collections::BTreeMap;

use model::{LogIndex, UnitName};
use state::Command;

use super::Step;

/// How the last grant of each unit ended.
#[derive(Default)]
pub(crate) struct Fences {
    /// Units whose holder is condemned, and since which entry.
    condemned: BTreeMap<UnitName, LogIndex>,
}

impl Fences {
    /// Takes in one entry.
    pub fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        if !step.is_accepted {
            return Ok(());
        }
        match step.command {
            Command::Condemn { node, .. } => {
                let config = &step.after.config;
                let held = step.holders_before.iter().filter(|(unit, holder)| {
                    holder.node == *node && (config.members_of(unit).is_empty() || config.is_exclusive(unit))
                });
                self.condemned.extend(held.map(|(unit, _)| (unit.clone(), step.index)));
                Ok(())
            }
            Command::FenceDone { node, .. } | Command::ManualConfirm { node, .. } | Command::Join { node, .. } => {
                let is_freed = |unit: &UnitName| {
                    step.holders_before.get(unit).is_some_and(|holder| holder.node == *node)
                        && !step.after.holders.contains_key(unit)
                };
                self.condemned.retain(|unit, _| !is_freed(unit));
                Ok(())
            }
            // What a condemned node stops in time is free by that proof.
            Command::Release { unit, .. } => {
                self.condemned.remove(unit);
                Ok(())
            }
            Command::Grant { unit, .. } => match self.condemned.get(unit) {
                None => Ok(()),
                Some(since) => Err(format!(
                    "{unit} is granted at entry {}, and its holder, condemned at entry {since}, is not fenced",
                    step.index
                )),
            },
            _ => Ok(()),
        }
    }
}
