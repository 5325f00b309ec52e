//! I1: a unit has at most one holder, who is one living incarnation of a member.

use model::MemberState;

use super::Step;

/// Did this entry give a unit that somebody held to somebody else, or to nobody who lives?
pub(crate) fn check(step: &Step<'_>) -> Result<(), String> {
    for (unit, holder) in &step.after.holders {
        let before = step.holders_before.get(unit);
        if let Some(before) = before.filter(|before| before.grant != holder.grant) {
            return Err(format!(
                "{unit} has two holders: grant {} to node {} while node {} holds grant {}",
                holder.grant, holder.node, before.node, before.grant
            ));
        }
        let lives = step.after.members.get(&holder.node).is_some_and(|member| {
            member.incarnation == holder.incarnation
                && matches!(member.state, MemberState::Online | MemberState::Condemned)
        });
        if !lives {
            return Err(format!("{unit} is held by node {} in a life that is over", holder.node));
        }
    }
    Ok(())
}
