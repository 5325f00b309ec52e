//! What does a CIB come to as a whole? The readers in their order, each with what the ones before found.

use model::situation::Situation;
use roxmltree::Document;

use crate::constraints;
use crate::fence_levels;
use crate::history;
use crate::meta::Defaults;
use crate::nodes;
use crate::options;
use crate::resources::{self, Templates, Traits, each_primitive};
use crate::source::{Remark, Source};
use crate::tickets;
use crate::unfencing;
use crate::values;

/// What was read, and what was not understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Everything that the scheduler decides upon.
    pub situation: Situation,
    /// What has no effect here, or not the one that was meant; in the order of reading.
    pub not_understood: Vec<Remark>,
}

/// Why a text is no CIB.
#[derive(Debug, thiserror::Error)]
pub enum CibError {
    /// It is no XML.
    #[error("no XML at line {line}, column {column}; save the CIB anew with `cibadmin --query`")]
    Xml {
        /// Counted from 1.
        line: u32,
        /// Counted from 1, in characters.
        column: u32,
        /// What the parser says.
        #[source]
        cause: roxmltree::Error,
    },
    /// It is something else.
    #[error(
        "the outermost element is <{name}>, at line {line}, column {column}, but a CIB begins with <cib>; pass what `cibadmin --query` prints"
    )]
    OtherDocument {
        /// What it is.
        name: String,
        /// Counted from 1.
        line: u32,
        /// Counted from 1, in characters.
        column: u32,
    },
    /// It follows a schema from before Pacemaker 1.0, whose words meant something else.
    #[error(
        "the CIB follows the schema {schema}, from before Pacemaker 1.0, which nothing reads any more; upgrade it there with `cibadmin --upgrade --force`"
    )]
    TooOld {
        /// What it says of itself.
        schema: String,
    },
    /// There is no configuration in it.
    #[error(
        "the <cib> at line {line}, column {column} has no <configuration>; pass the whole of what `cibadmin --query` prints"
    )]
    NoConfiguration {
        /// Counted from 1.
        line: u32,
        /// Counted from 1, in characters.
        column: u32,
    },
}

/// The time of the decision, in seconds since 1970; limited to the years 1970 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// This one, whatever the CIB says.
    At(i64),
    /// The one that the CIB says (`execution-date`).
    Recorded {
        /// If it says none.
        otherwise: i64,
    },
}

/// The end of the year 9999; no calendar is asked for more.
const LAST_SECOND: i64 = 253_402_300_799;

/// Reads a CIB: configuration and status, as `cibadmin --query` prints them.
///
/// What is strange but leaves the rest readable becomes a remark, never an error.
pub fn cib(text: &str, time: Time) -> Result<Imported, CibError> {
    let document = parse(text)?;
    let (source, root) = source(&document, time)?;
    let situation = situation(&source, text, root);
    Ok(Imported { situation, not_understood: source.into_remarks() })
}

/// Reads text as XML.
pub(crate) fn parse(text: &str) -> Result<Document<'_>, CibError> {
    Document::parse(text).map_err(|cause| {
        let place = cause.pos();
        CibError::Xml { line: place.row, column: place.col, cause }
    })
}

/// The document with what the readers share, and its outermost element.
pub(crate) fn source<'a>(
    document: &'a Document<'a>,
    time: Time,
) -> Result<(Source<'a>, roxmltree::Node<'a, 'a>), CibError> {
    let root = document.root_element();
    let place = document.text_pos_at(root.range().start);
    let (line, column) = (place.row, place.col);
    if !root.has_tag_name("cib") {
        return Err(CibError::OtherDocument { name: root.tag_name().name().to_owned(), line, column });
    }
    let schema = root.attribute("validate-with").unwrap_or_default();
    if ["pacemaker-0.", "transitional-0."].iter().any(|old| schema.starts_with(old)) {
        return Err(CibError::TooOld { schema: schema.to_owned() });
    }
    let recorded = || root.attribute("execution-date").and_then(values::integer);
    let now = match time {
        Time::At(now) => now,
        Time::Recorded { otherwise } => recorded().unwrap_or(otherwise),
    };
    let now = now.clamp(0, LAST_SECOND);
    let source = Source::new(document, now);
    if source.configuration.is_none() {
        return Err(CibError::NoConfiguration { line, column });
    }
    Ok((source, root))
}

/// Everything that the scheduler decides upon.
pub(crate) fn situation<'a>(source: &Source<'a>, text: &str, root: roxmltree::Node<'a, 'a>) -> Situation {
    let settings = options::read(source, root);
    let traits =
        Traits { has_guests: text.contains("remote-node"), compares_with_settings: text.contains("value-source") };
    let templates = Templates::read(source);
    let implied = resources::implied_nodes(source, &templates, traits.has_guests);
    let mut nodes = nodes::read(source, &settings, &implied);
    let uses_unfencing = text.contains("unfencing") && uses_unfencing(source);
    let defaults = Defaults::new(&settings.options, settings.colours, uses_unfencing);
    let resources = resources::read(source, &templates, &nodes, defaults, &settings.old_defaults, traits);
    let constraints = constraints::read(source, &nodes, settings.colours, &resources);
    let history = history::read(source, &nodes, &resources);
    let fence_levels = fence_levels::read(source, &nodes);
    unfencing::forgive_masked(&mut nodes.facts, &resources.list);
    remark_unused(source);
    let mut options = settings.options;
    options.coordinator = settings
        .leader_id
        .and_then(|id| nodes.facts.iter().find(|facts| facts.id == id))
        .map(|facts| facts.name.clone());
    for resource in &resources.list {
        each_primitive(resource, &mut |_, primitive| options.has_fence_device |= primitive.is_fence_device());
    }
    Situation {
        options,
        nodes: nodes.facts,
        resources: resources.list,
        removed: resources.removed,
        locations: constraints.locations,
        colocations: constraints.colocations,
        orders: constraints.orders,
        ticket_rules: constraints.ticket_rules,
        tickets: tickets::granted(source),
        fence_levels,
        history,
        now: source.now,
    }
}

/// Does anything ask for unfencing, or offer it?
fn uses_unfencing(source: &Source<'_>) -> bool {
    let pairs = source.configuration.iter().flat_map(|c| c.descendants().filter(|d| d.has_tag_name("nvpair")));
    pairs.filter(|pair| pair.attribute("value") == Some("unfencing")).any(|pair| {
        let is_meta = pair.parent().is_some_and(|parent| parent.has_tag_name("meta_attributes"));
        is_meta && matches!(pair.attribute("name"), Some("provides" | "requires"))
    })
}

/// Sections that mean something to an operator, but nothing here.
fn remark_unused(source: &Source<'_>) {
    for section in source.configuration.iter().flat_map(|c| c.children().filter(|child| child.is_element())) {
        let name = section.tag_name().name();
        let count = section.children().filter(|child| child.is_element()).count();
        match name {
            "crm_config" | "nodes" | "resources" | "constraints" | "fencing-topology" | "tags" | "rsc_defaults"
            | "op_defaults" => {}
            "acls" | "alerts" if count > 0 => {
                source.remark(section, format!("{name} are not taken over: {count} of them"));
            }
            "acls" | "alerts" => {}
            other => source.remark(section, format!("the section {other} is not known; it is left out")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_cib_says_where_and_what_to_do() {
        let error = cib("<cib>\n<configuration>", Time::At(0)).expect_err("cut off");
        assert!(error.to_string().starts_with("no XML at line "), "{error}");
        let error = cib("<!-- -->\n<pacemaker/>", Time::At(0)).expect_err("something else").to_string();
        assert!(error.contains("<pacemaker>, at line 2, column 1") && error.contains("cibadmin"), "{error}");
        assert!(matches!(cib("<cib/>", Time::At(0)), Err(CibError::NoConfiguration { line: 1, .. })));
        let old = r#"<cib validate-with="transitional-0.6"><configuration/></cib>"#;
        let error = cib(old, Time::At(0)).expect_err("too old").to_string();
        assert!(error.contains("transitional-0.6") && error.contains("--upgrade"), "{error}");
    }

    #[test]
    fn the_time_is_told_or_stands_in_the_document() {
        let text = r#"<cib execution-date="77"><configuration/></cib>"#;
        let now = |text, time| cib(text, time).expect("a CIB").situation.now;
        let otherwise = Time::Recorded { otherwise: 9 };
        assert_eq!((now(text, otherwise), now(text, Time::At(5)), now(text, Time::At(i64::MIN))), (77, 5, 0));
        assert_eq!(now("<cib><configuration/></cib>", otherwise), 9);
    }

    #[test]
    fn the_leader_is_known_by_its_id() {
        let text = r#"<cib dc-uuid="17" have-quorum="true"><configuration><nodes><node id="17" uname="n"/></nodes>
            <alerts><alert id="x" path="/x"/></alerts></configuration></cib>"#;
        let imported = cib(text, Time::At(0)).expect("a CIB");
        assert_eq!(imported.situation.options.coordinator, Some("n".into()));
        assert!(imported.situation.options.has_quorum);
        assert_eq!(imported.not_understood.len(), 1);
    }
}
