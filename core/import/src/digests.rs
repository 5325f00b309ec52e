//! Has a definition changed since an operation was done? Checksums over parameters, compared with the recorded ones.
//!
//! The text that is hashed is one blank, an empty element `parameters` with the parameters as attributes in the order
//! of their names, and a line feed. MD5 is what the format asks for; nothing is kept secret or signed by it.

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use model::situation::Definition;

use crate::source::Element;
use crate::values;

/// Parameters by name.
pub(crate) type Parameters = BTreeMap<String, String>;

/// What the instance in a container is told of its address; it is not hashed.
pub(crate) const EXTERNAL_ADDRESS: &str = "pcmk_external_ip";

/// The timeout of a repeated operation is hashed with its parameters, under this name, in milliseconds.
const TIMEOUT: &str = "CRM_meta_timeout";

/// Feature set from which on records of the private digest hold what the digest of everything holds.
const FULL_SECURE: [i64; 3] = [3, 16, 0];

/// What parameters hash to: 32 lower-case hexadecimal digits.
pub(crate) fn of<'p>(parameters: impl IntoIterator<Item = (&'p str, &'p str)>) -> String {
    let mut text = String::from(" <parameters");
    for (name, value) in parameters {
        text.push(' ');
        text.push_str(name);
        text.push_str("=\"");
        escape(value, &mut text);
        text.push('"');
    }
    text.push_str("/>\n");
    let hash = Md5::digest(text.as_bytes());
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    hash.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn escape(value: &str, text: &mut String) {
    for c in value.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\n' => text.push_str("&#10;"),
            '\t' => text.push_str("&#9;"),
            '\r' => text.push_str("&#13;"),
            c => text.push(c),
        }
    }
}

/// What an operation would be called with today.
pub(crate) struct Current<'p> {
    /// Parameters of the resource on that node.
    pub parameters: &'p Parameters,
    /// Parameters that are the operation's own; they come before the resource's.
    pub own: Option<&'p Parameters>,
    /// Repeated ones: the timeout in milliseconds.
    pub timeout_ms: Option<u32>,
    /// It is a fence device.
    pub is_fence_device: bool,
}

impl Current<'_> {
    fn table(&self, timeout: &str) -> BTreeMap<String, String> {
        let mut table = self.own.cloned().unwrap_or_default();
        for (name, value) in self.parameters {
            if !table.contains_key(name) {
                table.insert(name.clone(), value.clone());
            }
        }
        table.retain(|name, _| !is_left_out(name));
        if self.timeout_ms.is_some() {
            table.insert(TIMEOUT.to_owned(), timeout.to_owned());
        }
        table
    }

    /// Compares with what the record of an operation holds.
    pub(crate) fn compare(&self, record: Element<'_>) -> Definition {
        let timeout = self.timeout_ms.map(|ms| ms.to_string()).unwrap_or_default();
        let table = self.table(&timeout);
        let all = of(table.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let recorded = record.attribute("op-digest");
        let listed = |list: &str, name: &str| list.split_ascii_whitespace().any(|word| word == name);
        let needs_restart = record.attribute("op-restart-digest").is_some_and(|digest| {
            let list = record.attribute("op-force-restart");
            let kept = table.iter().filter(|(name, _)| list.is_none_or(|list| listed(list, name)));
            of(kept.map(|(name, value)| (name.as_str(), value.as_str()))) != digest
        });
        if !needs_restart && recorded == Some(all.as_str()) {
            return Definition::Same;
        }
        if self.only_private_changed(record, &table) {
            return if recorded.is_some() { Definition::Private } else { Definition::Same };
        }
        if recorded.is_none() && !needs_restart {
            return Definition::Unrecorded;
        }
        let can_reload = record.attribute("op-restart-digest").is_some() && self.own.is_none_or(BTreeMap::is_empty);
        if !needs_restart && can_reload { Definition::Reloadable } else { Definition::Changed }
    }

    /// Is the rest the same, without the parameters that the record calls private? Then what is read may be a copy
    /// with masked passwords.
    fn only_private_changed(&self, record: Element<'_>, table: &Parameters) -> bool {
        let Some(digest) = record.attribute("op-secure-digest") else { return false };
        let private: Vec<&str> =
            record.attribute("op-secure-params").unwrap_or_default().split_ascii_whitespace().collect();
        let is_old = is_older(record.attribute("crm_feature_set").unwrap_or_default());
        let kept = table.iter().filter(|(name, _)| {
            let is_executors = is_old && (name.as_str() == TIMEOUT || self.is_fence_device && is_fence_parameter(name));
            !private.contains(&name.as_str()) && !is_executors
        });
        of(kept.map(|(name, value)| (name.as_str(), value.as_str()))) == digest
    }
}

fn is_left_out(name: &str) -> bool {
    name.starts_with("CRM_meta_") || matches!(name, "crm_feature_set" | "id" | "on_node" | EXTERNAL_ADDRESS)
}

fn is_older(feature_set: &str) -> bool {
    let mut parts = feature_set.split('.').map(|part| values::integer(part).unwrap_or(0));
    let version: [i64; 3] = std::array::from_fn(|_| parts.next().unwrap_or(0));
    version < FULL_SECURE
}

/// Parameters of every fence device, which its agent does not know.
fn is_fence_parameter(name: &str) -> bool {
    name == "provides" || name == "stonith-timeout" || name.starts_with("pcmk_")
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;

    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn compare(pairs: &[(&str, &str)], timeout_ms: Option<u32>, record: &str) -> Definition {
        let document = Document::parse(record).expect("well-formed");
        let parameters = parameters(pairs);
        let current = Current { parameters: &parameters, own: None, timeout_ms, is_fence_device: false };
        current.compare(document.root_element())
    }

    #[test]
    fn no_parameters_have_a_well_known_digest() {
        assert_eq!(of([]), "f2317cad3d54cec5d7d7aa7d0bf35cf8");
        assert_eq!(compare(&[], None, r#"<op op-digest="f2317cad3d54cec5d7d7aa7d0bf35cf8"/>"#), Definition::Same);
        assert_eq!(compare(&[], None, "<op/>"), Definition::Unrecorded);
    }

    #[test]
    fn a_repeated_operation_includes_its_timeout() {
        let digest = of([(TIMEOUT, "30000")]);
        let record = format!(r#"<op op-digest="{digest}"/>"#);
        assert_eq!(compare(&[], Some(30_000), &record), Definition::Same);
        assert_eq!(compare(&[], Some(20_000), &record), Definition::Changed);
        assert_eq!(compare(&[], None, &record), Definition::Changed);
    }

    #[test]
    fn what_the_agent_can_take_over_is_reloaded() {
        let restart = of([("port", "1")]);
        let record = format!(r#"<op op-digest="x" op-restart-digest="{restart}" op-force-restart=" port "/>"#);
        assert_eq!(compare(&[("port", "1"), ("level", "9")], None, &record), Definition::Reloadable);
        assert_eq!(compare(&[("port", "2"), ("level", "9")], None, &record), Definition::Changed);
    }

    #[test]
    fn a_masked_password_is_no_change() {
        let secure = of([("user", "joe")]);
        let record = format!(r#"<op op-digest="x" op-secure-digest="{secure}" op-secure-params=" password "/>"#);
        assert_eq!(compare(&[("user", "joe"), ("password", "****")], None, &record), Definition::Private);
        assert_eq!(compare(&[("user", "jim"), ("password", "****")], None, &record), Definition::Changed);
    }

    #[test]
    fn values_are_escaped_as_in_xml() {
        let mut text = String::new();
        escape("a<b & \"c\"", &mut text);
        assert_eq!(text, "a&lt;b &amp; &quot;c&quot;");
    }
}
