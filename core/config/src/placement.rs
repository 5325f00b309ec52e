//! Where should a unit run, after what and with whom, and how often? The words that groups and single resources share.
//!
//! A list says "without exception" or, for `prefer`, "best first"; a table gives each name a weight, a role or a manner.
//! Not here: what contradicts what (`contradictions.rs`).

use std::collections::BTreeMap;
use std::ops::Range;

use model::{
    Binding, Copies, Leaning, NodeName, OnLoss, Placement, Promotion, Sequence, TicketNeed, Tie, UnitName, Weight,
};
use toml::de::DeValue;

use crate::diagnostic::{Diagnostic, Findings};
use crate::file::{Names, Places, unknown};
use crate::section::{Placed, Section, Value, wrong_type};
use crate::words::{name_fault, shown, suggestion};

/// The keys of a unit that say where it runs.
pub(crate) const PLACEMENT_KEYS: [&str; 15] = [
    "prefer",
    "avoid",
    "only",
    "with",
    "apart",
    "after",
    "stickiness",
    "failback",
    "priority",
    "enabled",
    "copies",
    "copies_per_node",
    "promote",
    "promoted",
    "ticket",
];
/// The keys of `promoted`.
const PROMOTED_KEYS: [&str; 6] = ["prefer", "avoid", "only", "with", "apart", "after"];
/// The most points that a wish can have without being a must.
const POINTS_MAX: i64 = 999_999;
/// Points of a preference that beats every other wish.
const PREFERENCE_MAX: i64 = 1_000_000;
/// Most copies of a unit.
const COPIES_MAX: i64 = 1000;

/// Where the names of a unit's words stand: by unit, key and name. The keys of `promoted` begin with `promoted.`.
pub(crate) type WordPlaces = BTreeMap<(UnitName, String, String), Range<usize>>;

/// Refuses the words of a unit in a member of a group.
pub(crate) fn refuse_placement(section: &Section<'_>, group: &str, findings: &mut Findings) {
    for key in PLACEMENT_KEYS {
        if let Some((span, _)) = section.entry(key) {
            findings.push(
                Diagnostic::error(
                    "config::grouped",
                    format!("{} is in group `{group}`, which is placed as a whole", section.what),
                )
                .at(span, format!("`{key}` belongs to the group"))
                .help(format!("move the line to [groups.{group}]")),
            );
        }
    }
}

/// Reads the words of a unit.
pub(crate) fn placement(
    unit: &UnitName,
    section: &Section<'_>,
    names: &Names<'_>,
    places: &mut Places,
    findings: &mut Findings,
) -> Placement {
    let default = Placement::default();
    let mut reader = Reader { unit, section, names, prefix: "", places: &mut places.words, findings };
    let (prefer, weighed) = reader.prefer();
    let leaning = reader.leaning(weighed);
    let (after, sequences) = reader.after();
    let copies = copies(unit, section, names, places, findings);
    warn_idle_stickiness(section, findings);
    Placement {
        prefer,
        after,
        stickiness: section
            .integer("stickiness", 0..1_000_001, findings)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(default.stickiness),
        failback: section.boolean("failback", findings).unwrap_or(default.failback),
        priority: section
            .integer("priority", -1_000_000..1_000_001, findings)
            .and_then(|n| i32::try_from(n).ok())
            .unwrap_or(default.priority),
        enabled: section.boolean("enabled", findings).unwrap_or(default.enabled),
        leaning,
        sequences,
        copies,
        ticket: ticket(section, findings),
        moves_for_points: section.entry("stickiness").is_some() && section.entry("failback").is_none(),
    }
}

/// Next to `failback`, which decides alone, a number of points for staying decides nothing.
fn warn_idle_stickiness(section: &Section<'_>, findings: &mut Findings) {
    let (Some((span, _)), Some((_, failback))) = (section.entry("stickiness"), section.entry("failback")) else {
        return;
    };
    let DeValue::Boolean(failback) = failback.get_ref() else { return };
    findings.push(
        Diagnostic::warning("config::no_effect", format!("`stickiness` of {} decides nothing", section.what))
            .at(span, format!("`failback = {failback}` decides alone"))
            .help("leave `failback` out, and it moves for more points than `stickiness`; or leave `stickiness` out"),
    );
}

fn copies(
    unit: &UnitName,
    section: &Section<'_>,
    names: &Names<'_>,
    places: &mut Places,
    findings: &mut Findings,
) -> Option<Copies> {
    let positive = |key: &str, findings: &mut Findings| {
        section.integer(key, 1..COPIES_MAX + 1, findings).and_then(|number| u32::try_from(number).ok())
    };
    let Some((_, value)) = section.entry("copies") else {
        for key in ["copies_per_node", "promote", "promoted"] {
            if let Some((span, _)) = section.entry(key) {
                findings.push(
                    Diagnostic::error("config::missing_key", format!("{} has `{key}`, but runs once", section.what))
                        .at(span, "there are no copies")
                        .help("write copies = \"all\" for one on each node, or a number such as copies = 2"),
                );
            }
        }
        return None;
    };
    let count = match value.get_ref() {
        DeValue::String(_) => {
            section.word("copies", &[("all", ())], findings)?;
            None
        }
        DeValue::Integer(_) => Some(positive("copies", findings)?),
        other => {
            let what = format!("`copies` of {}", section.what);
            findings.push(wrong_type(&what, "\"all\" or a whole number", other, value.span()));
            return None;
        }
    };
    let per_node = positive("copies_per_node", findings).unwrap_or(1);
    if let (None, Some((span, _)), 2..) = (count, section.entry("copies_per_node"), per_node) {
        findings.push(
            Diagnostic::error("config::bad_copies", format!("{} has one copy for each node", section.what))
                .at(span, "several on one node need a number of copies")
                .help("write copies = NUMBER, or remove this line"),
        );
    }
    let promoted = section.nested("promoted", findings);
    let Some(leaders) = positive("promote", findings) else {
        if let (Some(promoted), None) = (promoted, section.entry("promote")) {
            findings.push(
                Diagnostic::error("config::missing_key", format!("{} has `promoted`, but no copy leads", section.what))
                    .at(promoted.span, "for which copies?")
                    .help("write promote = 1 for one copy that leads"),
            );
        }
        return Some(Copies { count, per_node, promotion: None });
    };
    if let (Some((span, _)), Some(count)) = (section.entry("promote"), count.filter(|count| leaders > *count)) {
        let has = if count == 1 { "1 copy".to_owned() } else { format!("{count} copies") };
        findings.push(
            Diagnostic::error("config::bad_copies", format!("{} has {has}, and {leaders} of them lead", section.what))
                .at(span, format!("at most {count}")),
        );
    }
    let mut promotion = Promotion { count: leaders, ..Promotion::default() };
    if let Some(promoted) = promoted {
        promoted.refuse_unknown_keys(&PROMOTED_KEYS, findings);
        let mut reader =
            Reader { unit, section: &promoted, names, prefix: "promoted.", places: &mut places.words, findings };
        let (listed, weighed) = reader.prefer();
        let listed = Placement { prefer: listed, ..Placement::default() };
        let points = listed.preferred().into_iter().map(|(node, points)| (node.clone(), points)).chain(weighed);
        promotion.leaning = reader.leaning(points.collect());
        let (after, mut sequences) = reader.after();
        promotion.after = after
            .into_iter()
            .map(|other| {
                let sequence = sequences.remove(&other).unwrap_or_default();
                (other, sequence)
            })
            .collect();
    }
    Some(Copies { count, per_node, promotion: Some(promotion) })
}

fn ticket(section: &Section<'_>, findings: &mut Findings) -> Option<TicketNeed> {
    let (span, value) = section.entry("ticket")?;
    let (name, on_loss, to_lead) = match value.get_ref() {
        DeValue::String(_) => (section.string("ticket", findings)?, OnLoss::Stop, false),
        DeValue::Table(_) => {
            let table = section.nested("ticket", findings)?;
            table.refuse_unknown_keys(&["name", "on_loss", "role"], findings);
            table.require("name", "name = \"TICKET\"", findings);
            let losses = [
                ("stop", OnLoss::Stop),
                ("demote", OnLoss::Demote),
                ("fence", OnLoss::Fence),
                ("freeze", OnLoss::Freeze),
            ];
            let on_loss = table.word("on_loss", &losses, findings).unwrap_or_default();
            let to_lead = table.word("role", &[("promoted", ())], findings).is_some();
            let leads = section.entry("promote").is_some();
            if !leads && (to_lead || on_loss == OnLoss::Demote) {
                findings.push(
                    Diagnostic::error("config::no_leader", format!("{} has no copy that leads", section.what))
                        .at(span, "nothing is promoted here")
                        .help("write copies = \"all\" and promote = 1, or remove the role from the ticket"),
                );
            }
            (table.string("name", findings)?, on_loss, to_lead)
        }
        other => {
            let what = format!("`ticket` of {}", section.what);
            let wanted = "the name of a ticket, or { name = \"NAME\", on_loss = \"stop\" }";
            findings.push(wrong_type(&what, wanted, other, value.span()));
            return None;
        }
    };
    if let Some(fault) = name_fault(name.value) {
        findings.push(
            Diagnostic::error("config::bad_name", format!("\"{}\" cannot name a ticket", shown(name.value)))
                .at(name.span, fault),
        );
    }
    Some(TicketNeed { ticket: name.value.to_owned(), on_loss, to_lead })
}

/// Reads the words of a unit, or those of its promoted copies.
struct Reader<'r, 'a> {
    unit: &'r UnitName,
    section: &'r Section<'a>,
    names: &'r Names<'a>,
    prefix: &'static str,
    places: &'r mut WordPlaces,
    findings: &'r mut Findings,
}

/// A name of a list, or of a table with what is said of it.
type Item<'a> = (Placed<&'a str>, Option<&'a Value<'a>>);

impl<'a> Reader<'_, 'a> {
    /// The nodes of `prefer` in the order of a list, or those of a table, best first, with their points.
    fn prefer(&mut self) -> (Vec<NodeName>, BTreeMap<NodeName, u32>) {
        let mut listed = Vec::new();
        let mut weighed = BTreeMap::new();
        for (node, value) in self.nodes("prefer", "prefers", "a list of nodes, or points such as { a = 200, b = 50 }") {
            let name = NodeName::from(node.value);
            if let Some(value) = value {
                let Some(points) = self.points("prefer", &node, value, PREFERENCE_MAX) else { continue };
                weighed.insert(name.clone(), points);
            }
            listed.push(name);
        }
        // Stable: by name among equals.
        listed.sort_by_key(|node| std::cmp::Reverse(weighed.get(node).copied()));
        (listed, weighed)
    }

    fn leaning(&mut self, prefer: BTreeMap<NodeName, u32>) -> Leaning {
        let mut leaning = Leaning { prefer, ..Leaning::default() };
        for (node, value) in self.nodes("avoid", "avoids", "a list of nodes, or points such as { c = 50 }") {
            let weight = match value {
                None => Weight::Must,
                Some(value) => match self.points("avoid", &node, value, POINTS_MAX) {
                    Some(points) => Weight::Points(points),
                    None => continue,
                },
            };
            leaning.avoid.insert(NodeName::from(node.value), weight);
        }
        for (node, value) in self.nodes("only", "runs only on", "a list of nodes") {
            if let Some(value) = value {
                self.findings.push(
                    Diagnostic::error("config::wrong_type", format!("`only` of {} has no weights", self.section.what))
                        .at(value.span(), "all or nothing")
                        .help("write only = [\"NODE\"], or prefer = { NODE = 50 } for a wish"),
                );
            }
            leaning.only.insert(NodeName::from(node.value));
        }
        self.refuse_empty_only();
        leaning.with = self.ties("with", "runs with");
        leaning.apart = self.ties("apart", "keeps apart from");
        leaning
    }

    /// Without a name it would allow nothing, or anything: both would surprise.
    fn refuse_empty_only(&mut self) {
        let Some((_, value)) = self.section.entry("only") else { return };
        let is_empty = match value.get_ref() {
            DeValue::Array(items) => items.is_empty(),
            DeValue::Table(table) => table.is_empty(),
            _ => false,
        };
        if is_empty {
            self.findings.push(
                Diagnostic::error("config::empty", format!("`only` of {} names no node", self.section.what))
                    .at(value.span(), "nowhere")
                    .help("name the nodes where it may run, or remove the line if it may run anywhere"),
            );
        }
    }

    fn ties(&mut self, key: &'static str, verb: &str) -> BTreeMap<UnitName, Tie> {
        let wanted = "a list of groups and resources, or a table such as { db = 50 } or { db = \"promoted\" }";
        let mut ties = BTreeMap::new();
        for (other, value) in self.units(key, verb, wanted) {
            let tie = match value {
                None => Some(Tie::default()),
                Some(value) => self.tie(key, &other, value),
            };
            ties.extend(tie.map(|tie| (UnitName::from(other.value), tie)));
        }
        ties
    }

    fn tie(&mut self, key: &str, other: &Placed<&str>, value: &'a Value<'a>) -> Option<Tie> {
        let what = format!("`{}` in `{key}` of {}", other.value, self.section.what);
        match value.get_ref() {
            DeValue::Integer(_) => {
                let weight = Weight::Points(self.points(key, other, value, POINTS_MAX)?);
                Some(Tie { weight, ..Tie::default() })
            }
            DeValue::String(text) => {
                let text = Placed { value: text.as_ref(), span: value.span() };
                self.section.word_of(key, &text, &[("promoted", ())], self.findings)?;
                Some(Tie { to_promoted: true, ..Tie::default() })
            }
            DeValue::Table(_) => {
                let table = Section::of(what, other.span.clone(), value, self.findings)?;
                table.refuse_unknown_keys(&["points", "role", "by"], self.findings);
                let points = table.integer("points", 1..POINTS_MAX + 1, self.findings);
                Some(Tie {
                    weight: points.and_then(|n| u32::try_from(n).ok()).map_or(Weight::Must, Weight::Points),
                    to_promoted: table.word("role", &[("promoted", ())], self.findings).is_some(),
                    by: self.attribute(&table),
                })
            }
            found => {
                let wanted = "points, \"promoted\" or a table such as { role = \"promoted\", points = 50 }";
                self.findings.push(wrong_type(&what, wanted, found, value.span()));
                None
            }
        }
    }

    /// The attribute of nodes that a tie compares; one that no node has is a slip.
    fn attribute(&mut self, table: &Section<'_>) -> Option<String> {
        let by = table.string("by", self.findings)?;
        if !self.names.attributes.contains(&by.value) {
            let message = format!("{} compares `{}`, which no node has", table.what, shown(by.value));
            self.findings.push(
                unknown("config::unknown_attribute", message, &by, "attributes", &self.names.attributes).help(format!(
                    "{}; write attributes = {{ {} = \"…\" }} into [nodes.NAME]",
                    suggestion(by.value, "attributes", &self.names.attributes),
                    shown(by.value)
                )),
            );
        }
        Some(by.value.to_owned())
    }

    fn after(&mut self) -> (Vec<UnitName>, BTreeMap<UnitName, Sequence>) {
        let wanted = "a list of groups and resources, or a table such as { db = \"running\" }";
        let mut after = Vec::new();
        let mut sequences = BTreeMap::new();
        for (other, value) in self.units("after", "starts after", wanted) {
            let name = UnitName::from(other.value);
            if let Some(value) = value {
                let Some(sequence) = self.sequence(&other, value) else { continue };
                if sequence != Sequence::default() {
                    sequences.insert(name.clone(), sequence);
                }
            }
            after.push(name);
        }
        (after, sequences)
    }

    fn sequence(&mut self, other: &Placed<&str>, value: &'a Value<'a>) -> Option<Sequence> {
        let bindings =
            [("started", Binding::Started), ("running", Binding::Running), ("if-starting", Binding::IfStarting)];
        let plain = |binding| Sequence { binding, to_promoted: false };
        let what = format!("`{}` in `after` of {}", other.value, self.section.what);
        match value.get_ref() {
            DeValue::String(text) => {
                let text = Placed { value: text.as_ref(), span: value.span() };
                let promoted = ("promoted", Sequence { to_promoted: true, ..Sequence::default() });
                let words: Vec<(&str, Sequence)> =
                    bindings.iter().map(|(word, binding)| (*word, plain(*binding))).chain([promoted]).collect();
                self.section.word_of("after", &text, &words, self.findings)
            }
            DeValue::Table(_) => {
                let table = Section::of(what, other.span.clone(), value, self.findings)?;
                table.refuse_unknown_keys(&["role", "binding"], self.findings);
                Some(Sequence {
                    binding: table.word("binding", &bindings, self.findings).unwrap_or_default(),
                    to_promoted: table.word("role", &[("promoted", ())], self.findings).is_some(),
                })
            }
            found => {
                let wanted = "\"started\", \"running\", \"if-starting\", \"promoted\" or a table";
                self.findings.push(wrong_type(&what, wanted, found, value.span()));
                None
            }
        }
    }

    fn points(&mut self, key: &str, of: &Placed<&str>, value: &Value<'_>, most: i64) -> Option<u32> {
        let what = format!("`{}` in `{key}` of {}", shown(of.value), self.section.what);
        match value.get_ref() {
            DeValue::Integer(integer) => {
                let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
                let points = number.filter(|n| (1..=most).contains(n)).and_then(|n| u32::try_from(n).ok());
                if points.is_none() {
                    self.findings.push(
                        Diagnostic::error("config::out_of_range", format!("{what} is out of range"))
                            .at(value.span(), format!("must be from 1 to {most}"))
                            .help("the first of a list of preferred nodes has 100 points, and so has staying put"),
                    );
                }
                points
            }
            found => {
                self.findings.push(wrong_type(&what, "a whole number of points", found, value.span()));
                None
            }
        }
    }

    /// The nodes of a list or table that are members; everything else is a finding.
    fn nodes(&mut self, key: &'static str, verb: &str, wanted: &str) -> Vec<Item<'a>> {
        let names = self.names;
        let mut known: Vec<Item<'a>> = Vec::new();
        for (node, value) in self.items(key, wanted) {
            if self.findings.is_full() {
                break;
            }
            let what = format!("{} {verb} node `{}`", self.section.what, shown(node.value));
            if names.witnesses.contains(&node.value) {
                self.findings.push(
                    Diagnostic::error("config::witness", format!("{what}, which is a witness"))
                        .at(node.span, "runs nothing")
                        .help(suggestion(node.value, "members", &names.members)),
                );
            } else if !names.members.contains(&node.value) {
                let message = format!("{what}, which is not a member");
                self.findings.push(unknown("config::unknown_node", message, &node, "members", &names.members));
            } else if known.iter().any(|(other, _)| other.value == node.value) {
                self.findings.push(
                    Diagnostic::error("config::duplicate", format!("{what} twice")).at(node.span, "the second time"),
                );
            } else {
                self.note(key, &node);
                known.push((node, value));
            }
        }
        known
    }

    /// The units of a list or table that exist; everything else is a finding.
    fn units(&mut self, key: &'static str, verb: &str, wanted: &str) -> Vec<Item<'a>> {
        let names = self.names;
        let mut known: Vec<Item<'a>> = Vec::new();
        for (other, value) in self.items(key, wanted) {
            if self.findings.is_full() {
                break;
            }
            let what = format!("{} {verb} `{}`", self.section.what, shown(other.value));
            if let Some(group) = names.grouped.get(other.value).filter(|_| names.resources.contains(&other.value)) {
                let diagnostic = Diagnostic::error("config::grouped", format!("{what}, which is in group `{group}`"))
                    .at(other.span, "not started on its own");
                self.findings.push(match (self.unit.0 == **group, key) {
                    (true, "after") => {
                        diagnostic.help("remove it: the order within a group is the order of its members")
                    }
                    (true, _) => diagnostic.help("remove it: the members of a group run together"),
                    (false, _) => diagnostic.help(format!("write \"{group}\"")),
                });
            } else if !names.units.contains(&other.value) {
                let message = format!("{what}, which does not exist");
                self.findings.push(unknown(
                    "config::unknown_unit",
                    message,
                    &other,
                    "groups and resources",
                    &names.units,
                ));
            } else if known.iter().any(|(known, _)| known.value == other.value) {
                self.findings.push(
                    Diagnostic::error("config::duplicate", format!("{what} twice")).at(other.span, "the second time"),
                );
            } else {
                self.note(key, &other);
                known.push((other, value));
            }
        }
        known
    }

    fn note(&mut self, key: &str, name: &Placed<&str>) {
        let key = format!("{}{key}", self.prefix);
        self.places.insert((self.unit.clone(), key, name.value.to_owned()), name.span.clone());
    }

    /// The strings of a list in its order, or the keys of a table by name.
    fn items(&mut self, key: &str, wanted: &str) -> Vec<Item<'a>> {
        let Some((_, value)) = self.section.entry(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(_) => {
                let strings = self.section.strings(key, self.findings);
                strings.into_iter().flat_map(|list| list.value).map(|text| (text, None)).collect()
            }
            DeValue::Table(_) => {
                let Some(table) = self.section.nested(key, self.findings) else { return Vec::new() };
                let mut items: Vec<Item<'a>> =
                    table.entries().map(|(name, span, value)| (Placed { value: name, span }, Some(value))).collect();
                items.sort_by_key(|(name, _)| name.value);
                items
            }
            found => {
                let what = format!("`{key}` of {}", self.section.what);
                self.findings.push(wrong_type(&what, wanted, found, value.span()));
                Vec::new()
            }
        }
    }
}
