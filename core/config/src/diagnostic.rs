//! What is wrong, where, and what to do about it?
//!
//! A diagnostic is plain data; the apps draw it. Diagnostics are collected, so that one reading of a file finds as much
//! as it can; after `DIAGNOSTICS_MAX` the rest is dropped.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// More than a person reads; what a hostile file can make us hold and compute.
const DIAGNOSTICS_MAX: usize = 100;

/// Does it stop the file from being used?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted; the operator should know.
    Warning,
}

/// One finding about a cluster file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Does it stop the file from being used?
    pub severity: Severity,
    /// A stable name of the kind of finding, such as `config::unknown_node`.
    pub code: &'static str,
    /// What is wrong, as a sentence without a full stop.
    pub message: String,
    /// The place in the text, in bytes; none where no place is to blame.
    pub span: Option<Range<usize>>,
    /// What to write beside the place; may be empty.
    pub label: String,
    /// What to do next.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A finding that refuses the file.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            code,
            message: message.into(),
            span: None,
            label: String::new(),
            help: None,
        }
    }

    /// A finding that the operator should know of.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// Points at a place, given in bytes of the text.
    pub fn at(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.span = Some(span);
        self.label = label.into();
        self
    }

    /// Says what to do next.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Line and column of a byte of the text, both from 1; the column counts characters.
///
/// An offset beyond the end is the end; one inside a character is that character's beginning.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Where in a cluster file the key stands to which `path` leads from the outermost table, in bytes.
///
/// None if there is no such key, or the text is not valid up to there.
pub fn place(text: &str, path: &[&str]) -> Option<Range<usize>> {
    let (whole, _) = DeTable::parse_recoverable(text);
    let (last, outer) = path.split_last()?;
    let mut table = whole.get_ref();
    for name in outer {
        table = match table.iter().find(|(key, _)| key.get_ref() == name)?.1.get_ref() {
            DeValue::Table(inner) => inner,
            _ => return None,
        };
    }
    table.iter().find(|(key, _)| key.get_ref() == last).map(|(key, _)| key.span())
}

/// What stops a file from being run, but not from being planned.
const PLANNABLE: [&str; 6] = [
    "config::missing_links",
    "config::links_differ",
    "config::unfenced",
    "config::two_voters",
    "config::no_nodes",
    "config::no_such_agents",
];

/// The findings so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    is_for_planning: bool,
    list: Vec<Diagnostic>,
    has_errors: bool,
}

impl Findings {
    /// None yet, about a file that is to be planned and not run.
    pub(crate) fn for_planning() -> Findings {
        Findings { is_for_planning: true, ..Findings::default() }
    }

    /// Is the file to be planned, and not run?
    pub(crate) fn is_for_planning(&self) -> bool {
        self.is_for_planning
    }

    /// Adds one; dropped when there are too many.
    pub(crate) fn push(&mut self, mut diagnostic: Diagnostic) {
        if self.is_for_planning && PLANNABLE.contains(&diagnostic.code) {
            diagnostic.severity = Severity::Warning;
        }
        self.has_errors |= diagnostic.severity == Severity::Error;
        if !self.is_full() {
            self.list.push(diagnostic);
        }
    }

    /// Is the file refused?
    pub(crate) fn has_errors(&self) -> bool {
        self.has_errors
    }

    /// Is more work on wording a waste?
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= DIAGNOSTICS_MAX
    }

    /// All of them: errors first, then by place.
    pub(crate) fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(|d| (d.severity, d.span.as_ref().map(|s| (s.start, s.end)), d.code));
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_start_at_one() {
        let text = "a\nüb\n";
        assert_eq!(line_column(text, 0), (1, 1));
        assert_eq!(line_column(text, 2), (2, 1));
        assert_eq!(line_column(text, 3), (2, 1), "inside the two bytes of ü");
        assert_eq!(line_column(text, 4), (2, 2));
        assert_eq!(line_column(text, 999), (3, 1));
    }
}
