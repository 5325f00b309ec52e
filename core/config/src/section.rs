//! What does one table of the file hold? Typed values with their places; a wrong type is a finding, never a guess.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Findings};
use crate::words::{duration, enumeration, name_fault, nearest, shown, suggestion};

/// Most items of a list.
const LIST_MAX: usize = 1000;

/// A value with its place in the text, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// A value as the TOML reader gives it.
pub(crate) type Value<'a> = Spanned<DeValue<'a>>;

/// One table of the file.
#[derive(Clone)]
pub(crate) struct Section<'a> {
    /// How a message calls it: "node `a`".
    pub(crate) what: String,
    /// The place of its name.
    pub(crate) span: Range<usize>,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(crate) fn root(table: &'a DeTable<'a>) -> Self {
        Section { what: "the cluster file".to_owned(), span: 0..0, table }
    }

    /// A table with a name; anything else is a finding.
    pub(crate) fn of(what: String, span: Range<usize>, value: &'a Value<'a>, findings: &mut Findings) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Section { what, span, table }),
            other => {
                findings.push(wrong_type(&what, "a table", other, value.span()));
                None
            }
        }
    }

    /// A table with a name that was made in this section's place.
    pub(crate) fn nested(&self, key: &str, findings: &mut Findings) -> Option<Section<'a>> {
        let (span, value) = self.entry(key)?;
        Section::of(format!("`{key}` of {}", self.what), span, value, findings)
    }

    /// Every key with its place and its value, in the order of the file.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, Range<usize>, &'a Value<'a>)> + use<'a> {
        self.table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
    }

    /// The place of a key and its value.
    pub(crate) fn entry(&self, key: &str) -> Option<(Range<usize>, &'a Value<'a>)> {
        self.table.get_key_value(key).map(|(key, value)| (key.span(), value))
    }

    /// The named tables below `key`: `[nodes.a]`, `[nodes.b]`; names are checked.
    pub(crate) fn named(&self, key: &str, noun: &str, findings: &mut Findings) -> Vec<(&'a str, Section<'a>)> {
        let Some(parent) = self.nested(key, findings) else { return Vec::new() };
        let mut sections = Vec::new();
        for (name, span, value) in parent.entries() {
            if let Some(fault) = name_fault(name) {
                findings.push(
                    Diagnostic::error("config::bad_name", format!("`{}` cannot name a {noun}", shown(name)))
                        .at(span, fault),
                );
            } else if let Some(section) = Section::of(format!("{noun} `{name}`"), span, value, findings) {
                sections.push((name, section));
            }
        }
        sections
    }

    /// Every key that is none of `known` is a finding with the nearest known one.
    pub(crate) fn refuse_unknown_keys(&self, known: &[&str], findings: &mut Findings) {
        for (key, span, _) in self.entries().filter(|(key, _, _)| !known.contains(key)) {
            if findings.is_full() {
                return;
            }
            findings.push(
                Diagnostic::error("config::unknown_key", format!("{} has no key `{}`", self.what, shown(key)))
                    .at(span, "unknown key")
                    .help(suggestion(key, "keys", known)),
            );
        }
    }

    /// A finding that `key` must be there; `example` is a line to write.
    pub(crate) fn require(&self, key: &str, example: &str, findings: &mut Findings) {
        if self.entry(key).is_none() {
            findings.push(
                Diagnostic::error("config::missing_key", format!("{} has no `{key}`", self.what))
                    .at(self.span.clone(), format!("`{key}` is missing"))
                    .help(format!("write {example}")),
            );
        }
    }

    /// A string.
    pub(crate) fn string(&self, key: &str, findings: &mut Findings) -> Option<Placed<&'a str>> {
        let (_, value) = self.entry(key)?;
        self.string_of(key, value, findings)
    }

    fn string_of(&self, key: &str, value: &'a Value<'a>, findings: &mut Findings) -> Option<Placed<&'a str>> {
        match value.get_ref() {
            DeValue::String(text) => Some(Placed { value: text.as_ref(), span: value.span() }),
            other => {
                findings.push(wrong_type(&format!("`{key}` of {}", self.what), "a string", other, value.span()));
                None
            }
        }
    }

    /// A list of strings, with the place of each; what is no string is left out.
    pub(crate) fn strings(&self, key: &str, findings: &mut Findings) -> Option<Placed<Vec<Placed<&'a str>>>> {
        let (_, value) = self.entry(key)?;
        match value.get_ref() {
            DeValue::Array(items) if items.len() > LIST_MAX => {
                findings.push(
                    Diagnostic::error("config::too_many", format!("`{key}` of {} is too long a list", self.what))
                        .at(value.span(), format!("{} items, and {LIST_MAX} are the most", items.len())),
                );
                None
            }
            DeValue::Array(items) => {
                let item = format!("an item of `{key}`");
                let strings = items
                    .iter()
                    .filter_map(|value| match value.get_ref() {
                        DeValue::String(text) => Some(Placed { value: text.as_ref(), span: value.span() }),
                        other => {
                            let what = format!("{item} of {}", self.what);
                            findings.push(wrong_type(&what, "a string", other, value.span()));
                            None
                        }
                    })
                    .collect();
                Some(Placed { value: strings, span: value.span() })
            }
            other => {
                let what = format!("`{key}` of {}", self.what);
                findings.push(wrong_type(&what, "a list of strings", other, value.span()));
                None
            }
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, key: &str, findings: &mut Findings) -> Option<bool> {
        let (_, value) = self.entry(key)?;
        match value.get_ref() {
            DeValue::Boolean(boolean) => Some(*boolean),
            other => {
                let what = format!("`{key}` of {}", self.what);
                findings.push(wrong_type(&what, "`true` or `false`", other, value.span()));
                None
            }
        }
    }

    /// A whole number in `range`.
    pub(crate) fn integer(&self, key: &str, range: Range<i64>, findings: &mut Findings) -> Option<i64> {
        let (_, value) = self.entry(key)?;
        match value.get_ref() {
            DeValue::Integer(integer) => {
                let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
                let in_range = number.filter(|n| range.contains(n));
                if in_range.is_none() {
                    findings.push(
                        Diagnostic::error("config::out_of_range", format!("`{key}` of {} is out of range", self.what))
                            .at(value.span(), format!("must be from {} to {}", range.start, range.end - 1)),
                    );
                }
                in_range
            }
            other => {
                let what = format!("`{key}` of {}", self.what);
                findings.push(wrong_type(&what, "a whole number", other, value.span()));
                None
            }
        }
    }

    /// A duration; `may_be_zero` where zero means "never".
    pub(crate) fn duration(&self, key: &str, may_be_zero: bool, findings: &mut Findings) -> Option<Duration> {
        let (_, value) = self.entry(key)?;
        let text = match value.get_ref() {
            DeValue::Integer(number) => {
                let message = format!("`{key}` of {} has no unit", self.what);
                findings.push(
                    Diagnostic::error("config::bad_duration", message)
                        .at(value.span(), "of what?")
                        .help(format!("write \"{}s\" for seconds", shown(number.as_str()))),
                );
                return None;
            }
            _ => self.string_of(key, value, findings)?,
        };
        let fault = match duration(text.value) {
            Ok(found) if found.is_zero() && !may_be_zero => "must be longer than zero".to_owned(),
            Ok(found) => return Some(found),
            Err(fault) => fault,
        };
        let message = format!("`{key}` of {} cannot be \"{}\"", self.what, shown(text.value));
        findings.push(Diagnostic::error("config::bad_duration", message).at(text.span, fault));
        None
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)], findings: &mut Findings) -> Option<T> {
        let text = self.string(key, findings)?;
        self.word_of(key, &text, words, findings)
    }

    /// Which of a few words a text of this section is.
    pub(crate) fn word_of<T: Copy>(
        &self,
        key: &str,
        text: &Placed<&str>,
        words: &[(&str, T)],
        findings: &mut Findings,
    ) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == text.value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let valid: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("`{key}` of {} cannot be \"{}\"", self.what, shown(text.value));
            let help = match nearest(text.value, &valid) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("write one of {}", enumeration(&valid)),
            };
            findings.push(
                Diagnostic::error("config::bad_word", message).at(text.span.clone(), "not a valid word").help(help),
            );
        }
        found
    }
}

/// The finding that a value has another type than it needs.
pub(crate) fn wrong_type(what: &str, wanted: &str, found: &DeValue<'_>, span: Range<usize>) -> Diagnostic {
    let found = match found {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Diagnostic::error("config::wrong_type", format!("{what} must be {wanted}")).at(span, format!("this is {found}"))
}
