//! Where may a resource run, and where should it?
//!
//! Rules are asked for every node; what leaves is a score for each node that a constraint speaks of, 0 included: in a
//! cluster that allows only what is said, it makes a difference.

use std::collections::BTreeMap;

use model::NodeName;
use model::situation::{Discovery, Location, Resource, ResourceKind, Role, Score};

use crate::constraints::Context;
use crate::patterns::Pattern;
use crate::rules::{Agent, Circumstances, Rule, expand};
use crate::source::Element;
use crate::values;

/// A resource that a constraint speaks of.
struct Target<'s> {
    resource: &'s Resource,
    role: Option<Role>,
    /// What the groups of a pattern matched.
    groups: Vec<String>,
}

/// Adds what a constraint comes to.
pub(crate) fn read<'a>(context: &Context<'_, 'a>, element: Element<'a>, locations: &mut Vec<Location>) {
    let Ok(role) = context.role(element, "role") else { return };
    let discovery = match element.attribute("resource-discovery").map(str::to_ascii_lowercase).as_deref() {
        None | Some("always") => Discovery::Always,
        Some("never") => Discovery::Never,
        Some("exclusive") => Discovery::Exclusive,
        Some(other) => {
            context.source.remark(element, format!("resource-discovery={other:?} is unknown; `always` holds"));
            Discovery::Always
        }
    };
    let mut rules: Vec<Element<'a>> = context.source.children(element, "rule").collect();
    if rules.len() > 1 && !context.source.may_be_older_than(4) {
        context.source.remark(element, "a location has one rule since schema 4.0; those after the first are left out");
        rules.truncate(1);
    }
    let targets = targets(context, element, role);
    let mut add = |target: &Target<'_>, role: Option<Role>, scores: Vec<(NodeName, Score)>| {
        locations.push(Location {
            id: context.id(element),
            resource: target.resource.name.clone(),
            scores,
            role: role.filter(|role| !matches!(role, Role::Started | Role::Unpromoted)),
            discovery,
            why: None,
        });
    };
    if let Some(name) = element.attribute("node") {
        let Some(at) = context.nodes.find(name) else {
            context.source.remark(element, format!("there is no node {name}; the constraint is left out"));
            return;
        };
        let score = context.score(element).unwrap_or_default();
        for target in &targets {
            add(target, target.role, vec![(context.nodes.facts[at].name.clone(), score)]);
        }
        return;
    }
    if rules.is_empty() {
        context.source.remark(element, "neither a node nor a rule; the constraint is left out");
    }
    for rule_element in rules {
        let rule = Rule::read(context.source, rule_element);
        let Ok(rule_role) = context.role(rule_element, "role") else { continue };
        let by = rule_element.attribute("score-attribute");
        let score = match (by, rule_element.attribute("score")) {
            (None, Some(text)) => values::score(text, context.colours),
            (Some(_), _) => Some(Score::ZERO),
            (None, None) => None,
        };
        let Some(score) = score else {
            context.source.remark(rule_element, "a rule without a score; it is left out");
            continue;
        };
        let on_nodes = RuleOnNodes { context, rule: &rule, by, score };
        // Most rules say the same of every resource.
        let is_same = !rule.asks_resource();
        let shared = is_same.then(|| on_nodes.scores(None));
        for target in &targets {
            let shared = shared.clone().filter(|_| target.groups.is_empty());
            let scores = shared.unwrap_or_else(|| on_nodes.scores(Some(target)));
            add(target, rule_role.or(target.role), scores);
        }
    }
}

fn targets<'s, 'a>(context: &Context<'s, 'a>, element: Element<'a>, role: Option<Role>) -> Vec<Target<'s>> {
    let mut targets = Vec::new();
    if let Some(name) = element.attribute("rsc") {
        let names = context.names.members(name).map_or_else(|| vec![name], <[_]>::to_vec);
        for name in names {
            if context.one(element, name).is_some() {
                targets.extend(context.names.find(name).map(|resource| Target { resource, role, groups: Vec::new() }));
            }
        }
    }
    if let Some(text) = element.attribute("rsc-pattern") {
        let (text, is_inverted) = text.strip_prefix('!').map_or((text, false), |rest| (rest, true));
        match Pattern::parse(text) {
            Some(pattern) => targets.extend(context.names.top.iter().filter_map(|resource| {
                let groups = pattern.find(resource.name.as_str());
                (groups.is_some() != is_inverted).then(|| Target { resource, role, groups: groups.unwrap_or_default() })
            })),
            None => {
                context.source.remark(element, format!("the pattern {text:?} is not understood; it matches nothing"))
            }
        }
    }
    for set in context.sets(element) {
        let role = set.role.or(role);
        let members = set.members.iter().filter_map(|name| context.names.find(name.as_str()));
        targets.extend(members.map(|resource| Target { resource, role, groups: Vec::new() }));
    }
    targets
}

struct RuleOnNodes<'c, 's, 'a> {
    context: &'c Context<'s, 'a>,
    rule: &'c Rule<'a>,
    /// The attribute that holds the score.
    by: Option<&'a str>,
    score: Score,
}

impl RuleOnNodes<'_, '_, '_> {
    fn scores(&self, target: Option<&Target<'_>>) -> Vec<(NodeName, Score)> {
        let nothing = BTreeMap::new();
        let mut scores = Vec::new();
        for (name, view) in self.context.nodes.views() {
            let mut circumstances = Circumstances { node: Some(view), ..Circumstances::default() };
            if let Some(target) = target {
                circumstances.groups = &target.groups;
                circumstances.meta = self.context.settings.get(target.resource.name.as_str());
                if let ResourceKind::Primitive(primitive) = &target.resource.kind {
                    circumstances.parameters = Some(primitive.parameters_on.get(name).unwrap_or(&primitive.parameters));
                    circumstances.agent = Some(Agent {
                        class: Some(&primitive.class),
                        provider: primitive.provider.as_deref(),
                        agent: Some(&primitive.agent),
                    });
                } else {
                    circumstances.parameters = Some(&nothing);
                }
            }
            if !self.rule.holds(&circumstances) {
                continue;
            }
            let score = match self.by {
                None => Some(self.score),
                Some(attribute) => {
                    let text = view.get(&*expand(attribute, circumstances.groups));
                    text.map(|text| values::score(text, self.context.colours).unwrap_or_default())
                }
            };
            scores.extend(score.map(|score| (name.clone(), score)));
        }
        scores
    }
}

#[cfg(test)]
mod tests {
    use model::situation::{Location, Role};

    use crate::testing::{block, constrained, dummy, read};

    /// Resource, and `node=score` for each.
    fn told(location: &Location) -> String {
        let scores: Vec<_> = location.scores.iter().map(|(node, score)| format!("{node}={score}")).collect();
        format!("{} {}", location.resource, scores.join(" "))
    }

    fn locations(text: &str) -> Vec<String> {
        constrained(text).situation.locations.iter().map(told).collect()
    }

    #[test]
    fn a_score_of_0_is_kept_and_a_node_that_is_unknown_is_not() {
        assert_eq!(locations(r#"<rsc_location rsc="x" node="a" score="0"/>"#), ["x a=0"]);
        assert_eq!(locations(r#"<rsc_location rsc="x" node="n" score="1"/>"#), Vec::<String>::new());
        assert_eq!(locations(r#"<rsc_location rsc="w" node="a" score="1"/>"#), Vec::<String>::new());
    }

    #[test]
    fn every_rule_counts_that_has_a_score() {
        let rule = |score: &str, node: &str| {
            format!(r##"<rule {score}><expression attribute="#uname" operation="ne" value="{node}"/></rule>"##)
        };
        let three = format!(
            r#"<rsc_location rsc="x">{}{}{}</rsc_location>"#,
            rule("score=\"-INFINITY\"", "a"),
            rule("", "a"),
            rule("score=\"5\" role=\"Promoted\"", "b")
        );
        assert_eq!(locations(&three), ["x b=-INFINITY", "x a=5"]);
        let roles: Vec<_> = constrained(&three).situation.locations.iter().map(|location| location.role).collect();
        assert_eq!(roles, [None, Some(Role::Promoted)], "each rule has its own role");
        assert!(locations(&format!(r#"<rsc_location rsc="x">{}</rsc_location>"#, rule("", "a"))).is_empty());
    }

    #[test]
    fn patterns_and_sets_stand_for_several() {
        assert_eq!(locations(r#"<rsc_location rsc-pattern="^[xy]$" node="b" score="3"/>"#), ["x b=3", "y b=3"]);
        assert_eq!(locations(r#"<rsc_location rsc-pattern="![xyz]" node="b" score="3"/>"#), ["c b=3"]);
        let set = r#"<rsc_location node="a" score="7"><resource_set role="Promoted"><resource_ref id="c"/></resource_set>
            <resource_set><resource_ref id="z"/></resource_set></rsc_location>"#;
        let imported = constrained(set);
        assert_eq!(imported.situation.locations.iter().map(told).collect::<Vec<_>>(), ["c a=7", "z a=7"]);
        assert_eq!(imported.situation.locations[0].role, Some(Role::Promoted));
    }

    #[test]
    fn scores_come_from_attributes_of_nodes_and_are_compared_with_parameters() {
        let attributes = |id: &str, pairs: &[(&str, &str)]| {
            format!(
                r#"<node_state id="{id}"><transient_attributes>{}</transient_attributes></node_state>"#,
                block("instance_attributes", pairs)
            )
        };
        let resource = dummy("rack-1", &block("instance_attributes", &[("rack", "one")]));
        let sections = format!(
            r#"<resources>{resource}</resources><constraints>
            <rsc_location rsc="rack-1"><rule score-attribute="ping"><expression attribute="ping" operation="defined"/></rule>
            </rsc_location><rsc_location rsc="rack-1"><rule score="2">
            <expression attribute="rack" operation="eq" value="rack" value-source="param"/></rule></rsc_location>
            <rsc_location rsc-pattern="rack-(.*)"><rule score-attribute="weight-%1"/></rsc_location></constraints>"#
        );
        let status = attributes("1", &[("ping", "100"), ("rack", "two")])
            + &attributes("2", &[("rack", "one"), ("weight-1", "9")]);
        let situation = read(&sections, &status).situation;
        let told: Vec<_> = situation.locations.iter().map(told).collect();
        assert_eq!(told, ["rack-1 a=100", "rack-1 b=2", "rack-1 b=9"]);
    }
}
