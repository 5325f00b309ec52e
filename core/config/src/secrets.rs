//! What in a cluster file must not be written there, or shown?
//!
//! The file is read by many: every version is kept, copied to all nodes and shown. A password therefore belongs into a
//! file of its own, and the cluster file says `{ file = "/…" }`. What was written before that rule is hidden where a
//! version is shown to anybody but root.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::section::Value;

/// Stands where a secret was.
const HIDDEN: &str = "\"(hidden)\"";

/// Does a parameter of this name hold a secret? Names of files and scripts do not, though they may lead to one. Nor does a
/// bare `key`: fence agents of shared disks call the number of a reservation so.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> = name.split(['-', '_', '.']).collect();
    let last = words.last().copied().unwrap_or_default();
    let is_place = ["file", "script", "path", "dir"].iter().any(|place| last.ends_with(place));
    let is_public = words.contains(&"public");
    let is_named = name.contains("passw")
        || name.contains("passphrase")
        || ["secret", "token", "apikey"].iter().any(|secret| last.ends_with(secret))
        || words.contains(&"secret")
        || last == "pass"
        || last == "key" && words.len() > 1;
    is_named && !is_place && !is_public
}

/// The text of a cluster file with its secrets hidden; nothing of it if it cannot be read.
pub fn redacted(text: &str) -> String {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return "# hidden: this version is not valid TOML\n".to_owned();
    }
    let mut places = Vec::new();
    in_table(table.get_ref(), &mut places);
    places.sort_by_key(|place| place.start);
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for place in places {
        shown.push_str(&text[from..place.start]);
        shown.push_str(HIDDEN);
        from = place.end;
    }
    shown.push_str(&text[from..]);
    shown
}

fn in_table(table: &DeTable<'_>, places: &mut Vec<Range<usize>>) {
    for (name, value) in table {
        match value.get_ref() {
            DeValue::Table(_) => in_value(value, places),
            _ if is_secret(name.get_ref()) => places.push(value.span()),
            _ => in_value(value, places),
        }
    }
}

fn in_value(value: &Value<'_>, places: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => in_table(table, places),
        DeValue::Array(values) => values.iter().for_each(|value| in_value(value, places)),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_and_those_of_their_places_are_none() {
        let secret =
            ["password", "passwd", "PASSWORD", "login_pass", "admin-secret", "secret_key", "token", "api_token"];
        assert!(secret.into_iter().all(is_secret));
        let open = [
            "passwd_script",
            "password_file",
            "identity_file",
            "public_key",
            "key",
            "keyboard",
            "bypass",
            "user",
            "port",
        ];
        assert_eq!(open.into_iter().find(|name| is_secret(name)), None);
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand_and_all_else_stays() {
        let text = "# rack 3\n[fence.power]\nip = \"10.0.0.1\" # a\npassword = \'\'\'top\nsecret\'\'\' # b\n\
                    [resources.db]\nparameters = { passwd = \"x\", token = 17, user = \"joe\" }\n\
                    environment.DB_PASSWORD = \"y\"\nfine = { password = { file = \"/etc/p\" } }\n";
        let shown = "# rack 3\n[fence.power]\nip = \"10.0.0.1\" # a\npassword = \"(hidden)\" # b\n\
                     [resources.db]\nparameters = { passwd = \"(hidden)\", token = \"(hidden)\", user = \"joe\" }\n\
                     environment.DB_PASSWORD = \"(hidden)\"\nfine = { password = { file = \"/etc/p\" } }\n";
        assert_eq!(redacted(text), shown);
        assert!(!redacted("password = \"top\" =").contains("top"));
    }
}
