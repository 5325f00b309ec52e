//! What does a single value mean? Words, numbers, scores and spans of time, as Pacemaker reads them.
//!
//! A value that means nothing is `None`: what holds then depends on who asks.

use model::situation::{Role, Score};

use crate::dates;

/// `true`, `on`, `yes`, `y`, `1` and their opposites.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(["true", "on", "yes", "y", "1"]) {
        Some(true)
    } else if is_one_of(["false", "off", "no", "n", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// The leading digits; what follows is ignored. Out of range: the nearest number.
pub(crate) fn integer(text: &str) -> Option<i64> {
    split_integer(text).map(|(value, _)| value)
}

/// A whole number within 32 bits that is not below `least`.
pub(crate) fn count(text: &str, least: i64) -> Option<u32> {
    integer(text).filter(|value| *value >= least).and_then(|value| u32::try_from(value).ok())
}

/// The leading number with a fraction; what follows is ignored.
pub(crate) fn number(text: &str) -> Option<f64> {
    let text = text.trim_start();
    let end = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || *c == '.' || (*at == 0 && matches!(c, '+' | '-'))))
        .map_or(text.len(), |(at, _)| at);
    text[..end].parse().ok()
}

fn split_integer(text: &str) -> Option<(i64, &str)> {
    let text = text.trim_start();
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let end = digits.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let value =
        digits[..end].bytes().fold(0_i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Some((sign * value, &digits[end..]))
}

/// What the colours of node health count, as scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Colours {
    pub red: Score,
    pub yellow: Score,
    pub green: Score,
}

/// `INFINITY`, `-INFINITY`, a number, or a colour of node health.
pub(crate) fn score(text: &str, colours: Colours) -> Option<Score> {
    let text = text.trim();
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("INFINITY") || is("+INFINITY") {
        Some(Score::MUST)
    } else if is("-INFINITY") {
        Some(Score::MUST_NOT)
    } else if is("red") {
        Some(colours.red)
    } else if is("yellow") {
        Some(colours.yellow)
    } else if is("green") {
        Some(colours.green)
    } else {
        integer(text).map(Score::of)
    }
}

/// Milliseconds: a number of seconds, or with a unit (`us`, `ms`, `s`, `min`, `h`), or a duration as in ISO 8601.
pub(crate) fn milliseconds(text: &str) -> Option<i64> {
    let text = text.trim();
    if text.starts_with(['P', 'p']) {
        return dates::Span::parse(text).map(|span| span.seconds_about().saturating_mul(1000));
    }
    let (value, unit) = split_integer(text)?;
    match unit.trim().to_ascii_lowercase().as_str() {
        "" | "s" | "sec" => Some(value.saturating_mul(1000)),
        "ms" | "msec" => Some(value),
        "us" | "usec" => Some(value / 1000),
        "m" | "min" => Some(value.saturating_mul(60_000)),
        "h" | "hr" => Some(value.saturating_mul(3_600_000)),
        _ => None,
    }
}

/// Milliseconds between two runs; 0 where it is not said. None: it means nothing, or is more than 49 days.
pub(crate) fn interval_ms(text: Option<&str>) -> Option<u32> {
    text.map_or(Some(0), |text| milliseconds(text).and_then(|ms| u32::try_from(ms).ok()))
}

/// Whole seconds, rounded up; none if it means nothing or is below 0.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    milliseconds(text).filter(|ms| *ms >= 0).map(|ms| ms / 1000 + i64::from(ms % 1000 > 0))
}

/// A role by its name of today or of old.
pub(crate) fn role(text: &str) -> Option<Role> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("Stopped") {
        Some(Role::Stopped)
    } else if is("Started") {
        Some(Role::Started)
    } else if is("Unpromoted") || is("Slave") {
        Some(Role::Unpromoted)
    } else if is("Promoted") || is("Master") {
        Some(Role::Promoted)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_their_digits_end() {
        assert_eq!(integer(" -12abc"), Some(-12));
        assert_eq!(integer("2.5"), Some(2));
        assert_eq!(integer("x2"), None);
        assert_eq!(integer("-"), None);
        assert_eq!(integer("99999999999999999999"), Some(i64::MAX));
        assert_eq!(integer("-99999999999999999999"), Some(-i64::MAX));
        assert_eq!(number("2.5x"), Some(2.5));
        assert_eq!(number("-.5"), Some(-0.5));
        assert_eq!(number("."), None);
        assert_eq!(count("-1", 0), None);
        assert_eq!(count("4294967296", 0), None);
    }

    #[test]
    fn scores_are_limited_and_may_be_colours() {
        let colours = Colours { red: Score::MUST_NOT, yellow: Score::of(-10), green: Score::ZERO };
        assert_eq!(score("INFINITY", colours), Some(Score::MUST));
        assert_eq!(score("-infinity", colours), Some(Score::MUST_NOT));
        assert_eq!(score("2000000", colours), Some(Score::MUST));
        assert_eq!(score("yellow", colours), Some(Score::of(-10)));
        assert_eq!(score("much", colours), None);
    }

    #[test]
    fn a_plain_number_is_seconds() {
        assert_eq!(milliseconds("10"), Some(10_000));
        assert_eq!(milliseconds("10 ms"), Some(10));
        assert_eq!(milliseconds("2min"), Some(120_000));
        assert_eq!(milliseconds("1h"), Some(3_600_000));
        assert_eq!(milliseconds("PT1M30S"), Some(90_000));
        assert_eq!(milliseconds("10 bananas"), None);
        assert_eq!(seconds("1500ms"), Some(2));
        assert_eq!(interval_ms(Some("-1")), None);
        assert_eq!(interval_ms(Some("99999999999999999999h")), None);
    }
}
