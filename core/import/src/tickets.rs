//! What may run only with a ticket, and which tickets are there?

use std::collections::BTreeMap;

use model::ResourceName;
use model::situation::{Role, Ticket, TicketLoss, TicketRule};

use crate::constraints::Context;
use crate::source::{Element, Source};
use crate::values;

/// The tickets of the status.
pub(crate) fn granted<'a>(source: &Source<'a>) -> BTreeMap<String, Ticket> {
    let sections = source.status.iter().flat_map(|status| source.children(*status, "tickets"));
    let states = sections.flat_map(|section| source.children(section, "ticket_state"));
    states
        .filter_map(|state| {
            let is = |name: &str| state.attribute(name).and_then(values::boolean).unwrap_or(false);
            let ticket = Ticket { is_granted: is("granted"), is_standby: is("standby") };
            state.attribute("id").map(|id| (id.to_owned(), ticket))
        })
        .collect()
}

/// Adds what a constraint comes to.
pub(crate) fn read<'a>(context: &Context<'_, 'a>, element: Element<'a>, rules: &mut Vec<TicketRule>) {
    let Some(ticket) = element.attribute("ticket") else {
        context.source.remark(element, "there is no `ticket`; the constraint is left out");
        return;
    };
    let loss = element.attribute("loss-policy");
    let mut add = |resource: ResourceName, role: Option<Role>| {
        rules.push(TicketRule {
            id: context.id(element),
            resource,
            role,
            ticket: ticket.to_owned(),
            loss: loss.and_then(policy).unwrap_or(match role {
                Some(Role::Promoted) => TicketLoss::Demote,
                Some(Role::Unknown | Role::Stopped | Role::Started | Role::Unpromoted) | None => TicketLoss::Stop,
            }),
        });
    };
    if loss.is_some_and(|text| policy(text).is_none()) {
        context.source.remark(element, "a loss-policy is `stop`, `demote`, `fence` or `freeze`; the default holds");
    }
    let sets = context.sets(element);
    for set in &sets {
        set.members.iter().for_each(|member| add(member.clone(), set.role));
    }
    let Some(name) = element.attribute("rsc").filter(|_| sets.is_empty()) else { return };
    let Ok(role) = context.role(element, "rsc-role") else { return };
    match context.set_of(element, name) {
        Some(set) => set.members.into_iter().for_each(|member| add(member, role)),
        None => context.one(element, name).into_iter().for_each(|resource| add(resource, role)),
    }
}

fn policy(text: &str) -> Option<TicketLoss> {
    match text.to_ascii_lowercase().as_str() {
        "stop" => Some(TicketLoss::Stop),
        "demote" => Some(TicketLoss::Demote),
        "fence" => Some(TicketLoss::Fence),
        "freeze" => Some(TicketLoss::Freeze),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{dummy, read};

    #[test]
    fn losing_a_ticket_demotes_what_needs_it_to_lead_and_stops_others() {
        let clone = format!(r#"<clone id="c">{}</clone>"#, dummy("inner", ""));
        let sections = format!(
            r#"<resources>{}{clone}</resources><constraints><rsc_ticket rsc="x" ticket="t"/>
            <rsc_ticket ticket="t"><resource_set role="Master"><resource_ref id="c"/></resource_set></rsc_ticket>
            <rsc_ticket rsc="x" ticket="u" loss-policy="freeze"/><rsc_ticket rsc="w" ticket="t"/></constraints>"#,
            dummy("x", "")
        );
        let status = r#"<tickets><ticket_state id="t" granted="true" standby="1"/><ticket_state id="u"/></tickets>"#;
        let situation = read(&sections, status).situation;
        let losses: Vec<_> = situation.ticket_rules.iter().map(|rule| rule.loss).collect();
        assert_eq!(losses, [TicketLoss::Stop, TicketLoss::Demote, TicketLoss::Freeze]);
        assert_eq!(situation.tickets["t"], Ticket { is_granted: true, is_standby: true });
        assert!(!situation.tickets["u"].is_granted);
    }
}
