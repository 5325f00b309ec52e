//! Do the words of units contradict each other? Circles, pairs that belong together and apart, nodes that are liked
//! and forbidden, leaders where nothing leads, needs that nothing can meet.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use model::{
    AgentName, ClusterConfig, Leaning, NodeConfig, NodeName, NodeRole, Placement, Spread, Tie, UnitName, Weight,
};

use crate::diagnostic::{Diagnostic, Findings};
use crate::file::Places;
use crate::words::{enumeration, suggestion};

/// Looks for words that contradict each other.
pub(crate) fn check(config: &ClusterConfig, places: &Places, findings: &mut Findings) {
    let units = config.units();
    let placements: BTreeMap<&UnitName, &Placement> = units.iter().map(|(name, unit)| (name, unit.placement)).collect();
    let after = |unit: &UnitName| placements.get(unit).map_or_else(Vec::new, |it| it.after.iter().collect());
    let circles = Circles { places, key: "after", joint: " after ", fault: "nothing can start first" };
    circles.refuse(&placements, after, findings);
    let with = |unit: &UnitName| {
        let leanings = placements.get(unit).into_iter().flat_map(|it| leanings(it));
        let followed: BTreeSet<&UnitName> = leanings.flat_map(|(_, leaning)| leaning.with.keys()).collect();
        followed.into_iter().collect()
    };
    let circles = Circles { places, key: "with", joint: " with ", fault: "nothing can choose its node first" };
    circles.refuse(&placements, with, findings);
    for (unit, placement) in &placements {
        for (prefix, leaning) in leanings(placement) {
            let at = At { unit, prefix, places };
            refuse_torn_pairs(&at, leaning, &placements, findings);
            refuse_torn_nodes(&at, leaning, placement, prefix.is_empty(), findings);
            refuse_itself(&at, leaning, findings);
        }
    }
    refuse_without_leader(config, &placements, places, findings);
    refuse_nowhere(config, &placements, places, findings);
    warn_needs(config, places, findings);
}

/// May a unit with this placement run on that node, as far as its own words tell?
pub fn may_run_on(placement: &Placement, node: &NodeName) -> bool {
    let leaning = &placement.leaning;
    (leaning.only.is_empty() || leaning.only.contains(node)) && leaning.avoid.get(node) != Some(&Weight::Must)
}

/// What counts for a unit, and for its copies that lead, with the beginning of the keys.
fn leanings(placement: &Placement) -> impl Iterator<Item = (&'static str, &Leaning)> {
    let promotion = placement.copies.as_ref().and_then(|copies| copies.promotion.as_ref());
    [("", &placement.leaning)].into_iter().chain(promotion.map(|promotion| ("promoted.", &promotion.leaning)))
}

/// Where a word of a unit stands.
struct At<'a> {
    unit: &'a UnitName,
    prefix: &'static str,
    places: &'a Places,
}

impl At<'_> {
    fn of(&self, key: &str, name: &str) -> Range<usize> {
        place(self.places, self.unit, &format!("{}{key}", self.prefix), name).unwrap_or_default()
    }
}

fn place(places: &Places, unit: &UnitName, key: &str, name: &str) -> Option<Range<usize>> {
    places.words.get(&(unit.clone(), key.to_owned(), name.to_owned())).cloned()
}

/// A relation of units that must not run in a circle.
struct Circles<'a> {
    places: &'a Places,
    key: &'static str,
    joint: &'static str,
    fault: &'static str,
}

impl Circles<'_> {
    fn refuse<'u>(
        &self,
        units: &BTreeMap<&'u UnitName, &'u Placement>,
        next_of: impl Fn(&UnitName) -> Vec<&'u UnitName>,
        findings: &mut Findings,
    ) {
        let mut finished: BTreeSet<&UnitName> = BTreeSet::new();
        for start in units.keys() {
            // Depth first, by hand: the path so far, each with those of its neighbours that were not visited.
            let mut path: Vec<(&UnitName, Vec<&UnitName>)> = Vec::new();
            if !finished.contains(start) {
                path.push((start, next_of(start)));
            }
            while let Some((unit, next)) = path.last_mut() {
                let unit = *unit;
                if next.is_empty() {
                    finished.insert(unit);
                    path.pop();
                    continue;
                }
                let other = next.remove(0);
                if let Some(begin) = path.iter().position(|(on_path, _)| *on_path == other) {
                    let circle: Vec<&UnitName> = path[begin..].iter().map(|(unit, _)| *unit).chain([other]).collect();
                    self.tell(unit, &circle, findings);
                } else if !finished.contains(other) {
                    path.push((other, next_of(other)));
                }
            }
        }
    }

    fn tell(&self, unit: &UnitName, circle: &[&UnitName], findings: &mut Findings) {
        let shown: Vec<String> = circle.iter().map(|unit| format!("`{unit}`")).collect();
        let message = format!("{}: {}", self.fault, shown.join(self.joint));
        let diagnostic =
            Diagnostic::error("config::cycle", message).help(format!("remove one `{}` of the circle", self.key));
        let name = circle.last().map_or("", |last| last.as_str());
        let own = place(self.places, unit, self.key, name);
        let span = own.or_else(|| place(self.places, unit, &format!("promoted.{}", self.key), name));
        findings.push(match span {
            Some(span) => diagnostic.at(span, "closes the circle"),
            None => diagnostic,
        });
    }
}

/// Together and apart, measured by the same.
fn refuse_torn_pairs(
    at: &At<'_>,
    leaning: &Leaning,
    placements: &BTreeMap<&UnitName, &Placement>,
    findings: &mut Findings,
) {
    for (other, tie) in &leaning.with {
        let is_same = |apart: Option<&Tie>| apart.is_some_and(|apart| apart.by == tie.by);
        let unit = at.unit;
        let span = if is_same(leaning.apart.get(other)) {
            at.of("apart", other.as_str())
        } else if placements.get(other).is_some_and(|it| is_same(it.leaning.apart.get(unit))) {
            place(at.places, other, "apart", unit.as_str()).unwrap_or_default()
        } else {
            continue;
        };
        findings.push(
            Diagnostic::error("config::contradiction", format!("`{unit}` runs with `{other}` and apart from it"))
                .at(span, "and here they are kept apart")
                .help(format!("remove `apart` here or `with` from `{unit}`; by = \"ATTRIBUTE\" makes them differ")),
        );
    }
}

fn refuse_torn_nodes(at: &At<'_>, leaning: &Leaning, placement: &Placement, is_for_all: bool, findings: &mut Findings) {
    let unit = at.unit;
    let listed = placement.prefer.iter().filter(|_| is_for_all);
    let liked: BTreeSet<&NodeName> = listed.chain(leaning.prefer.keys()).collect();
    for node in liked {
        let (message, help) = if leaning.avoid.contains_key(node) {
            (format!("`{unit}` prefers node `{node}` and avoids it"), "remove the node from `prefer` or from `avoid`")
        } else if !leaning.only.is_empty() && !leaning.only.contains(node) {
            (
                format!("`{unit}` prefers node `{node}`, but runs only on others"),
                "add the node to `only`, or remove it from `prefer`",
            )
        } else {
            continue;
        };
        findings.push(
            Diagnostic::error("config::contradiction", message)
                .at(at.of("prefer", node.as_str()), "cannot be meant")
                .help(help),
        );
    }
    for node in leaning.only.iter().filter(|node| leaning.avoid.get(*node) == Some(&Weight::Must)) {
        findings.push(
            Diagnostic::error("config::contradiction", format!("`{unit}` runs only on node `{node}`, and never there"))
                .at(at.of("avoid", node.as_str()), "also in `only`")
                .help("remove the node from `only` or from `avoid`"),
        );
    }
}

fn refuse_itself(at: &At<'_>, leaning: &Leaning, findings: &mut Findings) {
    // A circle of one is told as a circle.
    if leaning.apart.contains_key(at.unit) {
        findings.push(
            Diagnostic::error("config::contradiction", format!("`{}` keeps apart from itself", at.unit))
                .at(at.of("apart", at.unit.as_str()), "the same")
                .help("remove it; copies of one unit are on different nodes unless `copies_per_node` says otherwise"),
        );
    }
}

/// Who leads, and who waits for a leader?
fn refuse_without_leader(
    config: &ClusterConfig,
    placements: &BTreeMap<&UnitName, &Placement>,
    places: &Places,
    findings: &mut Findings,
) {
    let leads = |placement: &Placement| placement.copies.as_ref().is_some_and(|copies| copies.promotion.is_some());
    for (unit, placement) in placements {
        let mut waits: Vec<(String, &UnitName)> = Vec::new();
        for (prefix, leaning) in leanings(placement) {
            for (key, ties) in [("with", &leaning.with), ("apart", &leaning.apart)] {
                let to_promoted = ties.iter().filter(|(_, tie)| tie.to_promoted);
                waits.extend(to_promoted.map(|(other, _)| (format!("{prefix}{key}"), other)));
            }
        }
        let own = placement.sequences.iter().map(|(other, sequence)| ("after", other, sequence));
        let promotion = placement.copies.as_ref().and_then(|copies| copies.promotion.as_ref());
        let promoted = promotion.into_iter().flat_map(|promotion| &promotion.after);
        let orders = own.chain(promoted.map(|(other, sequence)| ("promoted.after", other, sequence)));
        let to_promoted = orders.filter(|(_, _, sequence)| sequence.to_promoted);
        waits.extend(to_promoted.map(|(key, other, _)| (key.to_owned(), other)));
        for (key, other) in waits.into_iter().filter(|(_, other)| placements.get(other).is_none_or(|it| !leads(it))) {
            findings.push(
                Diagnostic::error("config::no_leader", format!("no copy of `{other}` leads"))
                    .at(place(places, unit, &key, other.as_str()).unwrap_or_default(), "never promoted")
                    .help(format!("write copies = \"all\" and promote = 1 for `{other}`, or remove the role here")),
            );
        }
        if !leads(placement) {
            continue;
        }
        for member in config.members_of(unit) {
            let Some(resource) = config.resources.get(member) else { continue };
            match &resource.agent {
                AgentName::Ocf { .. } => {}
                AgentName::Native(_) | AgentName::Other { .. } => findings.push(
                    Diagnostic::error(
                        "config::bad_agent",
                        format!("`{unit}` has copies that lead, but {} cannot promote `{member}`", resource.agent),
                    )
                    .at(places.resources.get(member).cloned().unwrap_or_default(), "knows no promotion")
                    .help("use an agent \"ocf:PROVIDER:NAME\" that promotes, or remove `promote`"),
                ),
            }
        }
    }
}

fn members(config: &ClusterConfig) -> impl Iterator<Item = (&NodeName, &NodeConfig)> {
    config.nodes.iter().filter(|(_, node)| match node.role {
        NodeRole::Member => true,
        NodeRole::Witness => false,
    })
}

fn refuse_nowhere(
    config: &ClusterConfig,
    placements: &BTreeMap<&UnitName, &Placement>,
    places: &Places,
    findings: &mut Findings,
) {
    for (unit, placement) in placements {
        let last = placement.leaning.avoid.keys().next_back();
        let Some(last) = last.filter(|_| !members(config).any(|(node, _)| may_run_on(placement, node))) else {
            continue;
        };
        findings.push(
            Diagnostic::error("config::contradiction", format!("no node is left where `{unit}` may run"))
                .at(place(places, unit, "avoid", last.as_str()).unwrap_or_default(), "the last one")
                .help("remove a node from `avoid`, or write points: avoid = { NODE = 50 } is a wish"),
        );
    }
}

/// What no node can give.
fn warn_needs(config: &ClusterConfig, places: &Places, findings: &mut Findings) {
    let kinds: BTreeSet<&str> =
        members(config).flat_map(|(_, node)| node.capacity.keys()).map(String::as_str).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    let is_ignored = config.effective_spread() == Spread::Even;
    for ((resource, what), span) in &places.needs {
        if findings.is_full() {
            return;
        }
        let wanted = config.resources.get(resource).and_then(|it| it.needs.get(what)).copied().unwrap_or_default();
        let most = members(config).filter_map(|(_, node)| node.capacity.get(what)).max();
        let finding = |code, message: String| Diagnostic::warning(code, message);
        if is_ignored {
            findings.push(
                finding("config::ignored", format!("what `{resource}` needs is not looked at"))
                    .at(span.clone(), "has no effect")
                    .help("spread = \"even\" counts resources only; write \"capacity\", \"room\" or \"fill\""),
            );
        } else if most.is_none() {
            findings.push(
                finding("config::no_room", format!("`{resource}` needs `{what}`, and no node says how much it has"))
                    .at(span.clone(), "fits nowhere")
                    .help(format!(
                        "{}; write capacity = {{ {what} = … }} into [nodes.NAME]",
                        suggestion(what, "capacities", &kinds)
                    )),
            );
        } else if let Some(most) = most.filter(|most| **most < wanted) {
            let has: Vec<&str> = members(config)
                .filter(|(_, node)| node.capacity.get(what) == Some(most))
                .map(|(name, _)| name.as_str())
                .take(8)
                .collect();
            findings.push(
                finding("config::no_room", format!("`{resource}` needs {wanted} `{what}`, more than any node has"))
                    .at(span.clone(), "fits nowhere")
                    .help(format!("the most is {most}, on {}", enumeration(&has))),
            );
        }
    }
}
