//! Does a rule hold? Conditions on dates, on attributes of a node, on the agent and the operation.
//!
//! A rule is read once; what depends on the time alone is settled then. The rest is asked with [`Circumstances`].
//! A condition that is not understood does not hold.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::dates::{self, Span};
use crate::source::{Element, Source};
use crate::values;

/// Rules within rules, at most.
const DEPTH_MAX: u32 = 32;

/// Conditions that must hold all, or one of them.
#[derive(Debug)]
pub(crate) struct Rule<'a> {
    one_is_enough: bool,
    conditions: Vec<Condition<'a>>,
}

#[derive(Debug)]
enum Condition<'a> {
    Rule(Rule<'a>),
    Known(bool),
    Attribute(Comparison<'a>),
    Agent { class: Option<&'a str>, provider: Option<&'a str>, agent: Option<&'a str> },
    Operation { name: Option<&'a str>, interval_ms: Option<u32> },
}

#[derive(Debug)]
struct Comparison<'a> {
    attribute: &'a str,
    operator: Operator,
    kind: Option<Kind>,
    value: Option<&'a str>,
    from: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Defined,
    NotDefined,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Number,
    Version,
}

/// Where the value to compare with comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Literal,
    Parameter,
    Meta,
}

/// What a rule may ask about. What is not given is undefined.
#[derive(Clone, Copy, Default)]
pub(crate) struct Circumstances<'c> {
    /// Attributes of the node, with the built-in ones.
    pub node: Option<&'c BTreeMap<String, String>>,
    /// Class, provider and type of the agent.
    pub agent: Option<Agent<'c>>,
    /// Name of the operation and milliseconds between its runs.
    pub operation: Option<(&'c str, u32)>,
    /// Parameters of the resource on that node.
    pub parameters: Option<&'c BTreeMap<String, String>>,
    /// Settings of the resource.
    pub meta: Option<&'c BTreeMap<&'c str, &'c str>>,
    /// What the groups of a pattern matched, the whole first.
    pub groups: &'c [String],
}

/// Class, provider and type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Agent<'c> {
    pub class: Option<&'c str>,
    pub provider: Option<&'c str>,
    pub agent: Option<&'c str>,
}

impl<'a> Rule<'a> {
    /// Reads a rule.
    pub(crate) fn read(source: &Source<'a>, element: Element<'a>) -> Rule<'a> {
        Rule::read_at(source, element, 0)
    }

    /// A rule that does not hold.
    pub(crate) fn never() -> Rule<'a> {
        Rule { one_is_enough: false, conditions: vec![Condition::Known(false)] }
    }

    fn read_at(source: &Source<'a>, element: Element<'a>, depth: u32) -> Rule<'a> {
        if depth == DEPTH_MAX || !source.may_read_rule() {
            source.remark(element, "rules lie too deep, or there are too many; this one does not hold");
            return Rule::never();
        }
        let one_is_enough = match element.attribute("boolean-op") {
            None => false,
            Some(text) if text.eq_ignore_ascii_case("or") => true,
            Some(text) if text.eq_ignore_ascii_case("and") => false,
            Some(text) => {
                source.remark(element, format!("boolean-op is `and` or `or`, not {text:?}; `and` holds"));
                false
            }
        };
        let conditions = element
            .children()
            .filter(|child| child.is_element())
            .map(|child| match child.tag_name().name() {
                "rule" => source.resolve(child).map_or(Condition::Known(false), |target| {
                    Condition::Rule(Rule::read_at(source, target, depth + 1))
                }),
                "expression" => comparison(source, child),
                "date_expression" => Condition::Known(date_holds(source, child)),
                "rsc_expression" => Condition::Agent {
                    class: child.attribute("class"),
                    provider: child.attribute("provider"),
                    agent: child.attribute("type"),
                },
                "op_expression" => operation(source, child),
                _ => not_understood(source, child, "no such condition"),
            })
            .collect();
        Rule { one_is_enough, conditions }
    }

    /// Does it hold? An empty one does.
    pub(crate) fn holds(&self, circumstances: &Circumstances<'_>) -> bool {
        let mut conditions = self.conditions.iter().map(|condition| condition.holds(circumstances));
        if self.one_is_enough && !self.conditions.is_empty() {
            conditions.any(|holds| holds)
        } else {
            conditions.all(|holds| holds)
        }
    }

    /// Does it ask about the node?
    pub(crate) fn asks_node(&self) -> bool {
        self.conditions.iter().any(|condition| match condition {
            Condition::Rule(rule) => rule.asks_node(),
            Condition::Attribute(_) => true,
            Condition::Known(_) | Condition::Agent { .. } | Condition::Operation { .. } => false,
        })
    }

    /// Does it ask about a resource or an operation?
    pub(crate) fn asks_resource(&self) -> bool {
        self.conditions.iter().any(|condition| match condition {
            Condition::Rule(rule) => rule.asks_resource(),
            Condition::Attribute(comparison) => comparison.from != Origin::Literal,
            Condition::Known(_) => false,
            Condition::Agent { .. } | Condition::Operation { .. } => true,
        })
    }
}

impl Condition<'_> {
    fn holds(&self, circumstances: &Circumstances<'_>) -> bool {
        match self {
            Condition::Rule(rule) => rule.holds(circumstances),
            Condition::Known(holds) => *holds,
            Condition::Attribute(comparison) => comparison.holds(circumstances),
            Condition::Agent { class, provider, agent } => {
                let actual = circumstances.agent.unwrap_or_default();
                let fits = |wanted: &Option<&str>, actual: Option<&str>| wanted.is_none() || *wanted == actual;
                fits(class, actual.class) && fits(provider, actual.provider) && fits(agent, actual.agent)
            }
            Condition::Operation { name, interval_ms } => circumstances.operation.is_some_and(|(actual, every_ms)| {
                name.is_none_or(|name| name == actual) && interval_ms.is_none_or(|ms| ms == every_ms)
            }),
        }
    }
}

fn not_understood<'a>(source: &Source<'a>, element: Element<'a>, why: &str) -> Condition<'a> {
    source.remark(element, format!("{why}; the condition does not hold"));
    Condition::Known(false)
}

fn operation<'a>(source: &Source<'a>, element: Element<'a>) -> Condition<'a> {
    let interval_ms = match element.attribute("interval") {
        None => None,
        Some(text) => match values::interval_ms(Some(text)) {
            Some(ms) => Some(ms),
            None => return not_understood(source, element, &format!("the interval {text:?} is no time")),
        },
    };
    Condition::Operation { name: element.attribute("name"), interval_ms }
}

fn comparison<'a>(source: &Source<'a>, element: Element<'a>) -> Condition<'a> {
    let (Some(attribute), Some(operator)) = (element.attribute("attribute"), element.attribute("operation")) else {
        return not_understood(source, element, "an expression needs `attribute` and `operation`");
    };
    let operator = match operator.to_ascii_lowercase().as_str() {
        "defined" => Operator::Defined,
        "not_defined" => Operator::NotDefined,
        "eq" => Operator::Equal,
        "ne" => Operator::NotEqual,
        "lt" => Operator::Less,
        "lte" => Operator::LessOrEqual,
        "gt" => Operator::Greater,
        "gte" => Operator::GreaterOrEqual,
        other => return not_understood(source, element, &format!("{other:?} is no comparison")),
    };
    let kind = match element.attribute("type").map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("string") => Some(Kind::Text),
        Some("integer") => Some(Kind::Integer),
        Some("number") => Some(Kind::Number),
        Some("version") => Some(Kind::Version),
        Some(other) => return not_understood(source, element, &format!("{other:?} is no type of values")),
    };
    let from = match element.attribute("value-source") {
        None | Some("literal") => Origin::Literal,
        Some("param") => Origin::Parameter,
        Some("meta") => Origin::Meta,
        Some(other) => return not_understood(source, element, &format!("{other:?} is no source of values")),
    };
    Condition::Attribute(Comparison { attribute, operator, kind, value: element.attribute("value"), from })
}

impl Comparison<'_> {
    fn holds(&self, circumstances: &Circumstances<'_>) -> bool {
        let name = expand(self.attribute, circumstances.groups);
        let actual = circumstances.node.and_then(|attributes| attributes.get(&*name)).map(String::as_str);
        let reference = match (self.from, self.value) {
            (Origin::Literal, value) => value,
            (Origin::Parameter, Some(name)) => {
                circumstances.parameters.and_then(|table| table.get(name)).map(String::as_str)
            }
            (Origin::Meta, Some(name)) => circumstances.meta.and_then(|table| table.get(name)).copied(),
            (Origin::Parameter | Origin::Meta, None) => None,
        };
        let both = actual.zip(reference);
        let order = || self.order(actual, reference);
        match self.operator {
            Operator::Defined => actual.is_some(),
            Operator::NotDefined => actual.is_none(),
            Operator::Equal => order().is_eq(),
            Operator::NotEqual => order().is_ne(),
            Operator::Less => both.is_some() && order().is_lt(),
            Operator::LessOrEqual => both.is_some() && order().is_le(),
            Operator::Greater => both.is_some() && order().is_gt(),
            Operator::GreaterOrEqual => both.is_some() && order().is_ge(),
        }
    }

    /// What is undefined comes before everything else.
    fn order(&self, actual: Option<&str>, reference: Option<&str>) -> Ordering {
        let (Some(left), Some(right)) = (actual, reference) else {
            return actual.is_some().cmp(&reference.is_some());
        };
        let kind = self.kind.unwrap_or(match self.operator {
            Operator::Defined | Operator::NotDefined | Operator::Equal | Operator::NotEqual => Kind::Text,
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                if left.contains('.') || right.contains('.') { Kind::Number } else { Kind::Integer }
            }
        });
        let by_kind = match kind {
            Kind::Text => None,
            Kind::Integer => values::integer(left).zip(values::integer(right)).map(|(l, r)| l.cmp(&r)),
            Kind::Number => values::number(left).zip(values::number(right)).map(|(l, r)| l.total_cmp(&r)),
            Kind::Version => Some(compare_versions(left, right)),
        };
        by_kind.unwrap_or_else(|| left.to_ascii_lowercase().cmp(&right.to_ascii_lowercase()))
    }
}

/// Part by part, with missing parts as 0.
fn compare_versions(left: &str, right: &str) -> Ordering {
    let parts = |text: &str| text.split('.').map(|part| values::integer(part).unwrap_or(0)).collect::<Vec<_>>();
    let (left, right) = (parts(left), parts(right));
    let length = left.len().max(right.len());
    let at = |parts: &[i64], i: usize| parts.get(i).copied().unwrap_or(0);
    (0..length).map(|i| at(&left, i).cmp(&at(&right, i))).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Replaces `%1` … `%9` (and `%0`, the whole) by what the groups of a pattern matched.
pub(crate) fn expand<'t>(text: &'t str, groups: &[String]) -> std::borrow::Cow<'t, str> {
    if groups.is_empty() || !text.contains('%') {
        return text.into();
    }
    let mut result = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match rest.peek().and_then(|digit| digit.to_digit(10)) {
            Some(digit) if c == '%' => {
                rest.next();
                result.push_str(groups.get(digit as usize).map_or("", String::as_str));
            }
            _ => result.push(c),
        }
    }
    result.into()
}

fn date_holds<'a>(source: &Source<'a>, element: Element<'a>) -> bool {
    let now = source.now;
    let date = |name: &str| match element.attribute(name) {
        None => Ok(None),
        Some(text) => dates::parse(text).map(Some).ok_or(text),
    };
    let (start, end) = match (date("start"), date("end")) {
        (Ok(start), Ok(end)) => (start, end),
        (Err(text), _) | (_, Err(text)) => {
            source.remark(element, format!("{text:?} is no date; the condition does not hold"));
            return false;
        }
    };
    let operation = element.attribute("operation").unwrap_or("in_range").to_ascii_lowercase();
    let holds = match operation.as_str() {
        "gt" => start.map(|start| now > start),
        "lt" => end.map(|end| now < end),
        "in_range" => {
            let duration = source.children(element, "duration").next();
            let last = end.or_else(|| Some(span(source, duration?)?.after(start?)));
            let is_bound = start.is_some() || last.is_some();
            is_bound.then(|| start.is_none_or(|start| start <= now) && last.is_none_or(|last| now <= last))
        }
        "date_spec" => source.children(element, "date_spec").next().and_then(|spec| {
            let fields = spec.attributes().filter(|a| a.name() != "id").map(|a| (a.name(), a.value())).collect();
            dates::matches(&fields, now)
        }),
        _ => None,
    };
    holds.unwrap_or_else(|| {
        source
            .remark(element, format!("the {operation} condition lacks a part or has a strange one; it does not hold"));
        false
    })
}

fn span<'a>(source: &Source<'a>, element: Element<'a>) -> Option<Span> {
    let mut span = Span::default();
    for attribute in element.attributes().filter(|a| a.name() != "id") {
        let is_understood = values::integer(attribute.value()).is_some_and(|value| span.add(attribute.name(), value));
        if !is_understood {
            source.remark(element, format!("{}={:?} is no part of a duration", attribute.name(), attribute.value()));
            return None;
        }
    }
    Some(span)
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;

    use super::*;

    const NOON: i64 = 1_785_499_200;

    fn holds(rule: &str, circumstances: &Circumstances<'_>) -> bool {
        let text = format!("<cib><configuration>{rule}</configuration></cib>");
        let document = Document::parse(&text).expect("well-formed");
        let source = Source::new(&document, NOON);
        Rule::read(&source, source.section("rule").expect("a rule")).holds(circumstances)
    }

    fn on_node(condition: &str) -> bool {
        let attributes = [("cpus", "8"), ("load", "1.5"), ("name", "Alpha"), ("agent", "1.10.2")];
        let node = attributes.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let circumstances = Circumstances { node: Some(&node), ..Circumstances::default() };
        holds(&format!("<rule><expression {condition}/></rule>"), &circumstances)
    }

    #[test]
    fn attributes_are_compared_by_type() {
        assert!(on_node(r#"attribute="cpus" operation="gt" value="10" type="string""#));
        assert!(on_node(r#"attribute="cpus" operation="lt" value="10""#));
        assert!(on_node(r#"attribute="load" operation="gt" value="1""#));
        assert!(!on_node(r#"attribute="load" operation="gt" value="1" type="integer""#));
        assert!(on_node(r#"attribute="name" operation="eq" value="alpha""#));
        assert!(on_node(r#"attribute="agent" operation="gt" value="1.9" type="version""#));
    }

    #[test]
    fn what_is_undefined_differs_from_everything_and_is_not_less() {
        assert!(on_node(r#"attribute="none" operation="ne" value="x""#));
        assert!(on_node(r#"attribute="none" operation="not_defined""#));
        assert!(!on_node(r#"attribute="none" operation="lt" value="5""#));
        assert!(!on_node(r#"attribute="cpus" operation="around" value="5""#));
        assert!(!on_node(r#"operation="eq" value="5""#));
    }

    #[test]
    fn rules_nest() {
        let date = |d: &str| format!(r#"<rule><date_expression operation="gt" start="{d}"/></rule>"#);
        let (past, future) = (date("2020-01-01"), date("2030-01-01"));
        let none = Circumstances::default();
        assert!(holds(&format!(r#"<rule boolean-op="or">{past}{future}</rule>"#), &none));
        assert!(!holds(&format!(r#"<rule boolean-op="and">{past}{future}</rule>"#), &none));
        assert!(holds("<rule/>", &none));
        assert!(!holds(&format!("{}{}", "<rule>".repeat(99), "</rule>".repeat(99)), &none));
    }

    #[test]
    fn ranges_include_both_ends_and_durations_count_from_the_start() {
        let none = Circumstances::default();
        let date = |inner: &str| holds(&format!("<rule><date_expression {inner}</rule>"), &none);
        assert!(date(r#"operation="in_range" end="2026-07-31 12:00:00"/>"#));
        assert!(date(r#"start="2026-07-31 12:00:00"/>"#));
        assert!(date(r#"operation="in_range" start="2026-07-31"><duration hours="12"/></date_expression>"#));
        assert!(!date(r#"operation="in_range" start="2026-07-31"><duration hours="11"/></date_expression>"#));
        assert!(date(r#"operation="date_spec"><date_spec hours="9-16"/></date_expression>"#));
        assert!(!date(r#"operation="gt" start="2026-07-31 12:00:00"/>"#));
        assert!(!date(r#"operation="gt"/>"#));
    }

    #[test]
    fn agents_and_operations_are_asked_for_exactly() {
        let agent = Agent { class: Some("ocf"), provider: Some("heartbeat"), agent: Some("IPaddr2") };
        let circumstances =
            Circumstances { agent: Some(agent), operation: Some(("monitor", 10_000)), ..Circumstances::default() };
        let rule = |inner: &str| holds(&format!("<rule>{inner}</rule>"), &circumstances);
        assert!(rule(r#"<rsc_expression class="ocf" type="IPaddr2"/><op_expression name="monitor" interval="10s"/>"#));
        assert!(!rule(r#"<rsc_expression class="systemd"/>"#));
        assert!(!rule(r#"<op_expression name="monitor" interval="20s"/>"#));
        assert!(!holds(r#"<rule><op_expression name="monitor"/></rule>"#, &Circumstances::default()));
    }

    #[test]
    fn groups_of_a_pattern_are_filled_in() {
        let groups = ["db-3".to_owned(), "3".to_owned()];
        assert_eq!(expand("rank-%1%2-%0%", &groups), "rank-3-db-3%");
        assert_eq!(expand("rank-%1", &[]), "rank-%1");
    }
}
