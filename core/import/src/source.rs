//! Where does it stand, and what was not understood there?
//!
//! The parsed document with what every reader needs: elements by id (for `id-ref`), the time, and the remarks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use roxmltree::{Document, Node};

/// An element of the document.
pub(crate) type Element<'a> = Node<'a, 'a>;

/// Something that was read but has no effect here, or not the one that was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The element, its id and its line: `rsc_order o1, line 12`.
    pub place: String,
    /// What is not understood, and what holds instead.
    pub what: String,
}

/// More remarks than a person reads are counted, not kept.
const REMARKS_MAX: usize = 1000;

/// References can make few rules many.
const RULES_MAX: u32 = 200_000;

/// `pacemaker-2.10` is 2, 10; `pacemaker-next`, `none` and the like name no version.
fn schema(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.strip_prefix("pacemaker-")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The document and what all readers share.
pub(crate) struct Source<'a> {
    /// `configuration`, if there is one.
    pub configuration: Option<Element<'a>>,
    /// `status`, if there is one.
    pub status: Option<Element<'a>>,
    /// The time of the decision: seconds since 1970.
    pub now: i64,
    /// Which version of the CIB schema it follows (`validate-with`): major, minor. None: it does not say.
    pub schema: Option<(u32, u32)>,
    /// Elements of the configuration by id; empty if nothing refers to an id.
    ids: BTreeMap<&'a str, Element<'a>>,
    /// Where each line begins.
    lines: Vec<usize>,
    remarks: RefCell<Vec<Remark>>,
    dropped: Cell<usize>,
    rules: Cell<u32>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(document: &'a Document<'a>, now: i64) -> Source<'a> {
        let text = document.input_text();
        let part = |name: &str| document.root_element().children().find(|child| child.has_tag_name(name));
        let configuration = part("configuration");
        let mut ids = BTreeMap::new();
        if text.contains("id-ref=") {
            for element in configuration.iter().flat_map(|c| c.descendants()) {
                if let Some(id) = element.attribute("id") {
                    // A resource_ref names something that bears the id.
                    if !matches!(element.tag_name().name(), "resource_ref" | "obj_ref") {
                        ids.entry(id).or_insert(element);
                    }
                }
            }
        }
        let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Source {
            configuration,
            status: part("status"),
            now,
            schema: document.root_element().attribute("validate-with").and_then(schema),
            ids,
            lines: std::iter::once(0).chain(line_ends).collect(),
            remarks: RefCell::new(Vec::new()),
            dropped: Cell::new(0),
            rules: Cell::new(0),
        }
    }

    /// A section of the configuration: `resources`, `constraints`, …
    pub(crate) fn section(&self, name: &str) -> Option<Element<'a>> {
        self.configuration.and_then(|c| c.children().find(|child| child.has_tag_name(name)))
    }

    /// The element itself, or the one that its `id-ref` names.
    pub(crate) fn resolve(&self, element: Element<'a>) -> Option<Element<'a>> {
        let Some(id) = element.attribute("id-ref") else { return Some(element) };
        let target = self.ids.get(id).copied().filter(|t| t.tag_name() == element.tag_name());
        if target.is_none() {
            self.remark(
                element,
                format!("no {} has the id {id}; the reference is left out", element.tag_name().name()),
            );
        }
        target
    }

    /// The children of that name, with references followed.
    pub(crate) fn children(&self, element: Element<'a>, name: &'static str) -> impl Iterator<Item = Element<'a>> {
        element.children().filter(move |child| child.has_tag_name(name)).filter_map(|child| self.resolve(child))
    }

    /// Is it from before that version of the schema, or of none that is known?
    pub(crate) fn may_be_older_than(&self, major: u32) -> bool {
        self.schema.is_none_or(|(known, _)| known < major)
    }

    /// Does it follow a schema before that version?
    pub(crate) fn is_older_than(&self, major: u32) -> bool {
        self.schema.is_some_and(|(known, _)| known < major)
    }

    /// Counts rules; false: there were enough.
    pub(crate) fn may_read_rule(&self) -> bool {
        self.rules.set(self.rules.get().saturating_add(1));
        self.rules.get() <= RULES_MAX
    }

    /// Notes what was not understood.
    pub(crate) fn remark(&self, element: Element<'a>, what: impl Into<String>) {
        let mut remarks = self.remarks.borrow_mut();
        if remarks.len() == REMARKS_MAX {
            self.dropped.set(self.dropped.get() + 1);
            return;
        }
        let line = self.lines.partition_point(|start| *start <= element.range().start);
        let name = element.tag_name().name();
        let id = ["id", "id-ref", "uname"].iter().find_map(|a| element.attribute(*a));
        let place = match id {
            Some(id) => format!("{name} {id}, line {line}"),
            None => format!("{name}, line {line}"),
        };
        remarks.push(Remark { place, what: what.into() });
    }

    /// Everything that was noted, in the order of reading.
    pub(crate) fn into_remarks(self) -> Vec<Remark> {
        let mut remarks = self.remarks.into_inner();
        let dropped = self.dropped.into_inner();
        if dropped > 0 {
            remarks.push(Remark { place: "cib".to_owned(), what: format!("{dropped} more remarks were left out") });
        }
        remarks
    }
}
