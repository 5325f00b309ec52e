//! What may run with the tickets that this site has?

use model::situation::{Role, Score, Ticket, TicketLoss, TicketRule};

use crate::read::history::ban;
use crate::read::nodes::fence_any;
use crate::world::{RscIx, World};

/// Applies every rule.
pub(super) fn apply(world: &mut World<'_>) {
    for rule in &world.situation.ticket_rules {
        let ticket = world.situation.tickets.get(&rule.ticket).copied().unwrap_or_default();
        if ticket.is_granted && !ticket.is_standby {
            continue;
        }
        let Some(rsc) = world.find(rule.resource.as_str()) else { continue };
        for primitive in world.primitives(rsc) {
            lose(world, primitive, rule, ticket);
        }
    }
}

fn lose(world: &mut World<'_>, rsc: RscIx, rule: &TicketRule, ticket: Ticket) {
    let why = format!("ticket {} is {}", rule.ticket, if ticket.is_granted { "in standby" } else { "not there" });
    let is_active = !world.rsc(rsc).active_on.is_empty();
    let is_for_promoted = rule.role == Some(Role::Promoted);
    let is_in_role = |role: Role| match rule.role {
        None | Some(Role::Unknown | Role::Stopped | Role::Started) => true,
        Some(wanted) => role == wanted,
    };
    if !is_active || ticket.is_granted {
        if !is_for_promoted || rule.loss == TicketLoss::Stop {
            ban(world, rsc, None, Score::MUST_NOT, &why);
        }
        return;
    }
    let role = world.rsc(rsc).role;
    let loss = match rule.loss {
        // Nothing is fenced: the best that is left is to stop.
        TicketLoss::Fence if !world.situation.options.is_fencing_enabled => TicketLoss::Stop,
        loss => loss,
    };
    match loss {
        TicketLoss::Stop => ban(world, rsc, None, Score::MUST_NOT, &why),
        TicketLoss::Demote => {
            if !is_for_promoted {
                ban(world, rsc, None, Score::MUST_NOT, &why);
            }
        }
        TicketLoss::Fence => {
            if !is_in_role(role) {
                return;
            }
            ban(world, rsc, None, Score::MUST_NOT, &why);
            for node in world.rsc(rsc).active_on.clone() {
                fence_any(world, node, "a ticket was lost that nodes are fenced for", false);
            }
        }
        TicketLoss::Freeze => {
            if is_in_role(role) {
                world.resources[rsc.0 as usize].is_managed = false;
                world.resources[rsc.0 as usize].is_blocked = true;
            }
        }
    }
}
