//! Which words are valid: names, durations; and which valid word was probably meant?

use std::time::Duration;

use model::Domain;

/// Longest name of a node, resource, group, device or cluster, in characters.
const NAME_CHARS_MAX: usize = 63;
/// Longest duration that can be written.
const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// How many valid words a help lists.
const LISTED_MAX: usize = 12;

/// Why a text cannot be a name, as the end of a sentence; none if it can.
pub(crate) fn name_fault(name: &str) -> Option<String> {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() {
        return Some("a name cannot be empty".to_owned());
    }
    if name.chars().count() > NAME_CHARS_MAX {
        return Some(format!("a name has at most {NAME_CHARS_MAX} characters"));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Some("a name begins with a letter or a digit".to_owned());
    }
    name.chars()
        .find(|c| !is_inner(*c))
        .map(|c| format!("a name cannot contain {c:?}: write letters, digits, `-`, `_`, `.`"))
}

/// Can it name a node, a resource, a group, a device or a cluster?
pub fn is_name(text: &str) -> bool {
    name_fault(text).is_none()
}

/// Reads `10s`, `500ms`, `2m`, `1h`; the error is what to write instead.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write a whole number and a unit: \"500ms\", \"10s\", \"2m\" or \"1h\"".to_owned()),
    };
    if number.is_empty() {
        return Err(format!("write a whole number before `{unit}`"));
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit_ms))
        .map(Duration::from_millis)
        .filter(|d| *d <= DURATION_MAX)
        .ok_or_else(|| "the longest duration is 720h".to_owned())
}

/// A text in a message: short, and on one line.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 64;
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(|c| c.escape_debug()).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// The valid word that is meant by `word`, if one is near enough for its length.
pub fn nearest<'a>(word: &str, valid: &[&'a str]) -> Option<&'a str> {
    let edits_max = match word.chars().count() {
        0 | 1 => 0,
        2 | 3 => 1,
        4..=8 => 2,
        longer => longer / 3,
    };
    nearest_within(edits_max, word, valid)
}

/// The valid word that is at most `edits_max` slips of the finger away from `word`.
pub(crate) fn nearest_within<'a>(edits_max: usize, word: &str, valid: &[&'a str]) -> Option<&'a str> {
    if word.len() > 4 * NAME_CHARS_MAX {
        return None;
    }
    let word = word.to_lowercase();
    valid
        .iter()
        .filter(|v| v.len().abs_diff(word.len()) <= 4 * edits_max)
        .map(|v| (strsim::damerau_levenshtein(&word, &v.to_lowercase()), *v))
        .filter(|(edits, _)| *edits <= edits_max)
        .min()
        .map(|(_, v)| v)
}

/// What to write instead of an unknown word: `did you mean …? members: …`.
pub(crate) fn suggestion(word: &str, what: &str, valid: &[&str]) -> String {
    let mut listed: Vec<&str> = valid.iter().copied().take(LISTED_MAX).collect();
    if valid.len() > LISTED_MAX {
        listed.push("…");
    }
    let list =
        if listed.is_empty() { format!("there are no {what}") } else { format!("{what}: {}", listed.join(", ")) };
    match nearest(word, valid) {
        Some(near) => format!("did you mean `{near}`? {list}"),
        None => list,
    }
}

/// `a`, `a and b`, `a, b and c`, each in backticks.
pub(crate) fn enumeration<T: AsRef<str>>(words: &[T]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{}`", w.as_ref())).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// How the file spells a domain.
pub(crate) fn domain_word(domain: Domain) -> &'static str {
    match domain {
        Domain::Storage => "storage",
        Domain::Network => "network",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_limit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO), "whether zero is allowed is for the reader of it");
        for bad in
            ["", "10", "s", "-1s", "+1s", "1.5s", "1 s", "1S", "99999999999999999999s", "5124095576030431h", "721h"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_never_reaches_out_of_a_path_or_a_line() {
        for good in ["a", "0", "web-1", "db_2", "node.example.org", "WebSite"] {
            assert_eq!(name_fault(good), None, "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", ".", "..", "-a", "a/b", "A:", "a b", "a\n", "ü", "a\0", long.as_str()] {
            assert!(name_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_word_is_near() {
        assert_eq!(nearest("stikiness", &["stickiness", "priority"]), Some("stickiness"));
        assert_eq!(nearest("Prefer", &["prefer"]), Some("prefer"));
        assert_eq!(nearest("zebra", &["prefer", "after"]), None);
        assert_eq!(nearest("w", &["a", "b"]), None, "everything is near to a single letter");
        assert_eq!(nearest_within(1, "state", &["start"]), None);
    }
}
