//! I4: a holder ends by a confirmed stop, a verified fence, a person's word or a new boot; a best-effort unit also by
//! a verdict, or by the word that it cannot be stopped.

use state::Command;

use super::Step;

/// Did a holder end by anything else?
pub(crate) fn check(step: &Step<'_>) -> Result<(), String> {
    for (unit, holder) in step.holders_before {
        if step.after.holders.get(unit).is_some_and(|after| after.grant == holder.grant) {
            continue;
        }
        let is_best_effort = !step.after.config.members_of(unit).is_empty() && !step.after.config.is_exclusive(unit);
        let is_proof = match step.command {
            Command::Release { .. }
            | Command::FenceDone { .. }
            | Command::ManualConfirm { .. }
            | Command::Join { .. } => true,
            Command::Condemn { .. } | Command::Lost { .. } => is_best_effort,
            Command::Block { unit: of, .. } => of == unit && is_best_effort,
            _ => false,
        };
        if !is_proof {
            return Err(format!("node {} lost {unit} without proof, by entry {}", holder.node, step.index));
        }
    }
    Ok(())
}
