//! Which values hold? Blocks of names and values, with scores and rules, laid one over the other.
//!
//! The block with the highest score comes first, among equals the one that stands last in the document; the first value
//! found for a name holds. A block whose rule does not hold is passed over.

use std::collections::BTreeMap;

use model::situation::Score;

use crate::rules::{Circumstances, Rule};
use crate::source::{Element, Source};
use crate::values::{self, Colours};

/// Values by name.
pub(crate) type Table<'a> = BTreeMap<&'a str, &'a str>;

/// One block.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub id: Option<&'a str>,
    score: Score,
    pub rule: Option<Rule<'a>>,
    pub pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Block<'a> {
    /// A block that nobody wrote.
    pub(crate) fn of(table: &Table<'a>) -> Block<'a> {
        let pairs = table.iter().map(|(name, value)| (*name, *value)).collect();
        Block { id: None, score: Score::ZERO, rule: None, pairs }
    }
}

/// The blocks of that name in several elements, best first.
pub(crate) fn read<'a>(source: &Source<'a>, parents: &[Element<'a>], name: &'static str) -> Vec<Block<'a>> {
    let mut blocks: Vec<Block<'a>> = parents
        .iter()
        .flat_map(|parent| source.children(*parent, name).map(|element| block(source, element)))
        .collect();
    blocks.reverse();
    blocks.sort_by_key(|block| -block.score.value());
    blocks
}

fn block<'a>(source: &Source<'a>, element: Element<'a>) -> Block<'a> {
    let id = element.attribute("id");
    let mut block = Block { id, score: Score::ZERO, rule: None, pairs: Vec::new() };
    if let Some(text) = element.attribute("score") {
        block.score = values::score(text, Colours::default()).unwrap_or_default();
    }
    for child in element.children().filter(|child| child.is_element()) {
        match child.tag_name().name() {
            "nvpair" => pair(source, element, child, &mut block.pairs),
            // How it was written long ago.
            "attributes" => {
                let pairs = child.children().filter(|c| c.has_tag_name("nvpair"));
                pairs.for_each(|nvpair| pair(source, element, nvpair, &mut block.pairs));
            }
            "rule" if block.rule.is_none() => {
                block.rule = Some(source.resolve(child).map_or_else(Rule::never, |rule| Rule::read(source, rule)));
            }
            other => source.remark(child, format!("{other} means nothing here; it is left out")),
        }
    }
    block
}

fn pair<'a>(source: &Source<'a>, block: Element<'a>, element: Element<'a>, pairs: &mut Vec<(&'a str, &'a str)>) {
    let Some(target) = source.resolve(element) else { return };
    let name = element.attribute("name").or(target.attribute("name"));
    // A name without a value, and the word for "unset", leave the name to others.
    let value = target.attribute("value").filter(|value| !value.eq_ignore_ascii_case("#default"));
    let Some((name, value)) = name.zip(value) else { return };
    pairs.push(if source.is_older_than(3) && block.has_tag_name("meta_attributes") {
        as_since_3(source, element, name, value)
    } else {
        (name, value)
    });
}

/// What a setting of a resource before schema 3.0 is since then.
fn as_since_3<'a>(source: &Source<'a>, element: Element<'a>, name: &'a str, value: &'a str) -> (&'a str, &'a str) {
    match name {
        "isolation" | "isolation-host" | "isolation-instance" | "isolation-wrapper" => {
            source.remark(element, format!("there is no {name} since schema 3.0; the resource stays stopped"));
            ("target-role", "Stopped")
        }
        _ => (name, value),
    }
}

/// Adds what is not yet there.
pub(crate) fn fill<'a>(table: &mut Table<'a>, blocks: &[Block<'a>], circumstances: &Circumstances<'_>) {
    for block in blocks {
        if block.rule.as_ref().is_none_or(|rule| rule.holds(circumstances)) {
            for (name, value) in &block.pairs {
                table.entry(name).or_insert(value);
            }
        }
    }
}

/// Does a rule of these ask about the node?
pub(crate) fn ask_node(blocks: &[Block<'_>]) -> bool {
    blocks.iter().any(|block| block.rule.as_ref().is_some_and(Rule::asks_node))
}

/// Does no rule of these ask about a resource or an operation?
pub(crate) fn are_same_for_all(blocks: &[Block<'_>]) -> bool {
    !blocks.iter().any(|block| block.rule.as_ref().is_some_and(Rule::asks_resource))
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;

    use super::*;

    fn table(text: &str) -> BTreeMap<String, String> {
        let document = Document::parse(text).expect("well-formed");
        let source = Source::new(&document, 0);
        let root = source.section("primitive").expect("a primitive");
        let mut table = Table::new();
        fill(&mut table, &read(&source, &[root], "meta_attributes"), &Circumstances::default());
        table.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn the_highest_score_wins_and_then_the_last() {
        let table = table(
            r##"<cib><configuration><primitive>
            <meta_attributes><nvpair name="a" value="1"/><nvpair name="c" value="1"/></meta_attributes>
            <meta_attributes score="5"><nvpair name="b" value="5"/><nvpair name="c" value="#default"/></meta_attributes>
            <meta_attributes><nvpair name="a" value="2"/><nvpair name="a" value="3"/></meta_attributes>
            </primitive></configuration></cib>"##,
        );
        let expected = [("a", "2"), ("b", "5"), ("c", "1")];
        assert_eq!(table, expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into_iter().collect());
    }

    #[test]
    fn references_stand_for_what_they_name() {
        let table = table(
            r#"<cib><configuration><primitive>
            <meta_attributes><nvpair id-ref="n" name="other"/><nvpair id-ref="nobody"/></meta_attributes>
            <meta_attributes id-ref="m"/></primitive>
            <x><meta_attributes id="m"><nvpair id="n" name="a" value="1"/></meta_attributes></x></configuration></cib>"#,
        );
        assert_eq!(table.get("other").map(String::as_str), Some("1"));
        assert_eq!(table.get("a").map(String::as_str), Some("1"));
    }
}
