//! What comes after what? Everything becomes pairs, in the order of their making.

use model::ResourceName;
use model::situation::{Order, OrderAction, OrderKind, OrderSide, ResourceKind};

use crate::constraints::{Context, Set, action};
use crate::source::Element;
use crate::values;

struct Reader<'c, 's, 'a> {
    context: &'c Context<'s, 'a>,
    id: String,
    kind: OrderKind,
    is_symmetric: bool,
    orders: &'c mut Vec<Order>,
}

/// Adds what a constraint comes to.
pub(crate) fn read<'a>(context: &Context<'_, 'a>, element: Element<'a>, orders: &mut Vec<Order>) {
    let kind = kind(context, element);
    let is_symmetric = element.attribute("symmetrical").and_then(values::boolean).unwrap_or(true);
    let is_symmetric = is_symmetric && kind != OrderKind::Serialize;
    let mut reader = Reader { context, id: context.id(element), kind, is_symmetric, orders };
    let sets = context.sets(element);
    if !sets.is_empty() {
        reader.sets(&sets);
        return;
    }
    let (Some(first), Some(then)) = (element.attribute("first"), element.attribute("then")) else {
        context.source.remark(element, "an order needs `first` and `then`, or sets; it is left out");
        return;
    };
    let first_text = element.attribute("first-action").unwrap_or("start");
    let then_text = element.attribute("then-action").unwrap_or(first_text);
    let (Some(first_action), Some(then_action)) = (action(first_text), action(then_text)) else {
        context.source.remark(element, "an action is `start`, `stop`, `promote` or `demote`; the order is left out");
        return;
    };
    let members = |name: &'a str| match context.set_of(element, name) {
        Some(set) => set.members,
        None => context.one(element, name).into_iter().collect(),
    };
    let (firsts, thens) = (members(first), members(then));
    let all_of_first = element.attribute("require-all").and_then(values::boolean).unwrap_or(true);
    for first in &firsts {
        let is_clone = context.names.find(first.as_str()).is_some_and(|r| matches!(r.kind, ResourceKind::Clone(_)));
        for then in &thens {
            let side = if is_clone && !all_of_first {
                OrderSide::AnyOf { set: reader.id.clone(), members: vec![first.clone()] }
            } else {
                OrderSide::One(first.clone())
            };
            reader.order(side, then, first_action, then_action);
        }
    }
}

fn kind<'a>(context: &Context<'_, 'a>, element: Element<'a>) -> OrderKind {
    match element.attribute("kind").map(str::to_ascii_lowercase).as_deref() {
        Some("mandatory") => OrderKind::Mandatory,
        Some("optional") => OrderKind::Optional,
        Some("serialize") => OrderKind::Serialize,
        Some(other) => {
            context.source.remark(element, format!("kind={other:?} is unknown; the order is mandatory"));
            OrderKind::Mandatory
        }
        None => match context.score(element) {
            Some(score) if score.value() == 0 => OrderKind::Optional,
            Some(_) | None => OrderKind::Mandatory,
        },
    }
}

impl Reader<'_, '_, '_> {
    fn order(&mut self, first: OrderSide, then: &ResourceName, first_action: OrderAction, then_action: OrderAction) {
        self.orders.push(Order {
            id: self.id.clone(),
            first,
            then: then.clone(),
            first_action,
            then_action,
            kind: self.kind,
            is_symmetric: self.is_symmetric,
        });
    }

    fn sets(&mut self, sets: &[Set<'_>]) {
        let mut before: Option<(&Set<'_>, OrderAction)> = None;
        for set in sets {
            let text = set.action.unwrap_or("start");
            let Some(action) = action(text) else {
                self.context.source.remark(set.element, format!("{text:?} is no action; the order ends before"));
                return;
            };
            self.inside(set, action);
            if let Some((before, before_action)) = before {
                self.between(before, before_action, set, action);
            }
            before = Some((set, action));
        }
    }

    /// Pairs within a set.
    fn inside(&mut self, set: &Set<'_>, action: OrderAction) {
        let one = |name: &ResourceName| OrderSide::One(name.clone());
        if self.kind == OrderKind::Serialize {
            for (at, first) in set.members.iter().enumerate() {
                set.members[at + 1..].iter().for_each(|then| self.order(one(first), then, action, action));
            }
        } else if set.sequential != Some(false) {
            for two in set.members.windows(2) {
                self.order(one(&two[0]), &two[1], action, action);
            }
        }
    }

    /// Pairs between a set and the next one. Only a set that says that it is in sequence takes part with one member.
    fn between(&mut self, first: &Set<'_>, first_action: OrderAction, then: &Set<'_>, then_action: OrderAction) {
        if !first.require_all {
            for member in &then.members {
                let side = OrderSide::AnyOf { set: first.id.to_owned(), members: first.members.clone() };
                self.order(side, member, first_action, then_action);
            }
            return;
        }
        let in_sequence = |set: &Set<'_>| set.sequential == Some(true);
        if first.is_cut && in_sequence(first) {
            return;
        }
        let last = first.members.last().filter(|_| in_sequence(first));
        let next = then.members.first().filter(|_| in_sequence(then));
        let firsts = last.map_or(&first.members[..], std::slice::from_ref);
        let thens = next.map_or(&then.members[..], std::slice::from_ref);
        for one in firsts {
            for other in thens {
                self.order(OrderSide::One(one.clone()), other, first_action, then_action);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::situation::{Order, OrderKind, OrderSide};

    use crate::testing::constrained;

    fn told(order: &Order) -> String {
        let first = match &order.first {
            OrderSide::One(name) => name.to_string(),
            OrderSide::AnyOf { members, .. } => {
                format!("any of {}", members.iter().map(ToString::to_string).collect::<Vec<_>>().join("+"))
            }
        };
        format!("{:?} {first}, {:?} {}", order.first_action, order.then_action, order.then)
    }

    fn orders(text: &str) -> Vec<String> {
        constrained(text).situation.orders.iter().map(told).collect()
    }

    fn set(attributes: &str, members: &[&str]) -> String {
        let members: String = members.iter().map(|name| format!(r#"<resource_ref id="{name}"/>"#)).collect();
        format!("<resource_set {attributes}>{members}</resource_set>")
    }

    #[test]
    fn the_later_action_is_that_of_the_first_unless_said() {
        assert_eq!(orders(r#"<rsc_order first="c" first-action="promote" then="x"/>"#), ["Promote c, Promote x"]);
        assert_eq!(orders(r#"<rsc_order first="x" then="y" then-action="stop"/>"#), ["Start x, Stop y"]);
        assert!(orders(r#"<rsc_order first="x" then="y" then-action="dance"/>"#).is_empty());
    }

    #[test]
    fn kinds_come_from_words_and_from_old_scores() {
        let kind = |text: &str| {
            let imported = constrained(&format!(r#"<rsc_order first="x" then="y" {text}/>"#));
            (imported.situation.orders[0].kind, imported.situation.orders[0].is_symmetric)
        };
        assert_eq!(kind(""), (OrderKind::Mandatory, true));
        assert_eq!(kind("score=\"0\""), (OrderKind::Optional, true));
        assert_eq!(kind("kind=\"Serialize\""), (OrderKind::Serialize, false));
        assert_eq!(kind("kind=\"foo\" symmetrical=\"no\""), (OrderKind::Mandatory, false));
    }

    #[test]
    fn only_a_set_that_says_it_is_in_sequence_takes_part_with_one_member() {
        let sets = |first: &str| format!("<rsc_order>{}{}</rsc_order>", set(first, &["x", "y"]), set("", &["z"]));
        assert_eq!(orders(&sets("")), ["Start x, Start y", "Start x, Start z", "Start y, Start z"]);
        assert_eq!(orders(&sets("sequential=\"true\"")), ["Start x, Start y", "Start y, Start z"]);
        let one_is_enough = "sequential=\"false\" require-all=\"false\"";
        assert_eq!(orders(&sets(one_is_enough)), ["Start any of x+y, Start z"]);
    }

    #[test]
    fn one_instance_of_a_clone_can_be_enough() {
        assert_eq!(orders(r#"<rsc_order first="c" then="x" require-all="false"/>"#), ["Start any of c, Start x"]);
        assert_eq!(orders(r#"<rsc_order first="y" then="x" require-all="false"/>"#), ["Start y, Start x"]);
    }
}
