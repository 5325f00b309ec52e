//! When is that? Dates, spans and calendar patterns as in ISO 8601, in UTC.
//!
//! Instants are seconds since 1970. A date without a zone is UTC. Years are limited to 1..=9999.

use std::collections::BTreeMap;

const DAY_S: i64 = 86_400;

/// A date and time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Civil {
    year: i64,
    /// 1..=12
    month: i64,
    /// 1..=31
    day: i64,
    /// 0..=86 399
    second_of_day: i64,
}

/// Days since 1970 of a date.
///
/// Source: Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2021.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// 1: Monday … 7: Sunday.
fn weekday(days_since_1970: i64) -> i64 {
    (days_since_1970 + 3).rem_euclid(7) + 1
}

/// The Monday of the first week of a year: the week that holds the 4th of January.
fn first_monday(year: i64) -> i64 {
    let fourth = days(year, 1, 4);
    fourth - (weekday(fourth) - 1)
}

impl Civil {
    fn of(seconds: i64) -> Civil {
        let day_number = seconds.div_euclid(DAY_S);
        let shifted = day_number + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Civil {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            second_of_day: seconds.rem_euclid(DAY_S),
        }
    }

    fn seconds(self) -> i64 {
        days(self.year, self.month, self.day) * DAY_S + self.second_of_day
    }
}

/// Reads a date, with or without time and zone: `2026-07-31 12:00:00 +02:00`, `2026-212`, `2026-W31-5T10Z`.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    if !text.is_ascii() {
        return None;
    }
    let (date, time) = match text.find(|c: char| c == 'T' || c.is_whitespace()) {
        Some(at) => (&text[..at], text[at + 1..].trim()),
        None => (text, ""),
    };
    let (time, zone) = match time.find(|c: char| matches!(c, 'Z' | 'z' | '+' | '-') || c.is_whitespace()) {
        Some(at) => (&time[..at], time[at..].trim()),
        None => (time, ""),
    };
    let start = parse_date(date)? * DAY_S;
    let within = if time.is_empty() { 0 } else { parse_time(time)? };
    Some(start + within - parse_zone(zone)?)
}

fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|b| b.is_ascii_digit()) {
        None
    } else {
        text.parse().ok()
    }
}

fn parse_date(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.split('-').collect();
    let week = |part: &str| part.strip_prefix(['W', 'w']).and_then(digits);
    match parts[..] {
        [year, month, day] if week(month).is_none() => calendar(digits(year)?, digits(month)?, digits(day)?),
        [year, week_number, day] => week_date(digits(year)?, week(week_number)?, digits(day)?),
        [year, week_number] if week(week_number).is_some() => week_date(digits(year)?, week(week_number)?, 1),
        [year, ordinal] => ordinal_date(digits(year)?, digits(ordinal)?),
        [all] => match all.len() {
            7 if digits(all).is_some() => ordinal_date(digits(&all[..4])?, digits(&all[4..])?),
            7 => week_date(digits(&all[..4])?, week(&all[4..])?, 1),
            8 if digits(all).is_some() => calendar(digits(&all[..4])?, digits(&all[4..6])?, digits(&all[6..])?),
            8 => week_date(digits(&all[..4])?, week(&all[4..7])?, digits(&all[7..])?),
            _ => None,
        },
        _ => None,
    }
}

fn calendar(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_date = (1..=9999).contains(&year) && (1..=12).contains(&month);
    (is_date && (1..=days_of_month(year, month)).contains(&day)).then(|| days(year, month, day))
}

fn ordinal_date(year: i64, day: i64) -> Option<i64> {
    let last = if is_leap(year) { 366 } else { 365 };
    ((1..=9999).contains(&year) && (1..=last).contains(&day)).then(|| days(year, 1, 1) + day - 1)
}

fn week_date(year: i64, week: i64, day: i64) -> Option<i64> {
    let is_date = (1..=9999).contains(&year) && (1..=53).contains(&week) && (1..=7).contains(&day);
    is_date.then(|| first_monday(year) + (week - 1) * 7 + day - 1)
}

/// Seconds since midnight: `10`, `10:30`, `10:30:15`, `103015`.
fn parse_time(text: &str) -> Option<i64> {
    let whole = text.split(['.', ',']).next()?;
    let [hour, minute, second] = if whole.contains(':') {
        let mut parts = whole.splitn(3, ':');
        [parts.next()?, parts.next()?, parts.next().unwrap_or("0")]
    } else {
        match whole.len() {
            2 => [whole, "0", "0"],
            4 => [&whole[..2], &whole[2..], "0"],
            6 => [&whole[..2], &whole[2..4], &whole[4..]],
            _ => return None,
        }
    };
    let (hour, minute, second) = (digits(hour)?, digits(minute)?, digits(second)?);
    let is_time = (hour < 24 || (hour == 24 && minute == 0 && second == 0)) && minute < 60 && second <= 60;
    is_time.then_some(hour * 3600 + minute * 60 + second)
}

/// Seconds ahead of UTC.
fn parse_zone(text: &str) -> Option<i64> {
    if text.is_empty() || text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match text.as_bytes()[0] {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    parse_time(rest).map(|seconds| sign * seconds)
}

/// A span of time: `P1Y2M3DT4H5M6S`, `P2W`, or given by its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    months: i64,
    seconds: i64,
}

impl Span {
    /// Adds one part; the names are those of the attributes of `duration`. False: no such part.
    pub(crate) fn add(&mut self, name: &str, value: i64) -> bool {
        let value = value.clamp(-1_000_000_000, 1_000_000_000);
        match name {
            "years" => self.months += value * 12,
            "months" => self.months += value,
            "weeks" => self.seconds += value * 7 * DAY_S,
            "days" => self.seconds += value * DAY_S,
            "hours" => self.seconds += value * 3600,
            "minutes" => self.seconds += value * 60,
            "seconds" => self.seconds += value,
            _ => return false,
        }
        true
    }

    /// Reads a duration as in ISO 8601.
    pub(crate) fn parse(text: &str) -> Option<Span> {
        let mut span = Span::default();
        let mut number = String::new();
        let mut is_time = false;
        let mut parts = 0;
        for c in text.strip_prefix(['P', 'p'])?.chars() {
            let part = match (c.to_ascii_uppercase(), is_time) {
                ('T', false) if number.is_empty() => {
                    is_time = true;
                    continue;
                }
                ('0'..='9', _) => {
                    number.push(c);
                    continue;
                }
                ('Y', false) => "years",
                ('M', false) => "months",
                ('W', false) => "weeks",
                ('D', false) => "days",
                // Strictly these two come after a `T`, but `P0S` is about.
                ('H', _) => "hours",
                ('M', true) => "minutes",
                ('S', _) => "seconds",
                _ => return None,
            };
            parts += 1;
            // A dozen parts is more than any span has; the limit keeps sums small.
            if parts > 12 {
                return None;
            }
            span.add(part, digits(&number)?);
            number.clear();
        }
        (parts > 0 && number.is_empty()).then_some(span)
    }

    /// In seconds, with months of 30 and years of 365 days.
    pub(crate) fn seconds_about(self) -> i64 {
        self.months / 12 * 365 * DAY_S + self.months % 12 * 30 * DAY_S + self.seconds
    }

    /// That much later. A day that the month does not have becomes its last.
    pub(crate) fn after(self, start: i64) -> i64 {
        let begin = Civil::of(start);
        let months = begin.month - 1 + self.months;
        let year = (begin.year + months.div_euclid(12)).clamp(1, 999_999);
        let month = months.rem_euclid(12) + 1;
        let day = begin.day.min(days_of_month(year, month));
        Civil { year, month, day, ..begin }.seconds() + self.seconds
    }
}

/// Does an instant match a calendar pattern? `fields`: the attributes of a `date_spec`. None: a field is not understood.
pub(crate) fn matches(fields: &BTreeMap<&str, &str>, now: i64) -> Option<bool> {
    let civil = Civil::of(now);
    let day_number = now.div_euclid(DAY_S);
    let thursday = day_number - weekday(day_number) + 4;
    let week_year = Civil::of(thursday * DAY_S).year;
    let mut result = true;
    for (name, ranges) in fields {
        let value = match *name {
            "seconds" => civil.second_of_day % 60,
            "minutes" => civil.second_of_day / 60 % 60,
            "hours" => civil.second_of_day / 3600,
            "monthdays" => civil.day,
            "weekdays" => weekday(day_number),
            "yeardays" => day_number - days(civil.year, 1, 1) + 1,
            "months" => civil.month,
            "weeks" => (thursday - first_monday(week_year)) / 7 + 1,
            "weekyears" => week_year,
            "years" => civil.year,
            _ => return None,
        };
        result &= in_ranges(ranges, value)?;
    }
    Some(result)
}

/// `3`, `1-5`, `7-`, `-4`, or several of them with commas.
fn in_ranges(text: &str, value: i64) -> Option<bool> {
    let mut result = false;
    for range in text.split(',') {
        let (low, high) = match range.trim().split_once('-') {
            Some((low, high)) => (low, high),
            None => (range.trim(), range.trim()),
        };
        let low = if low.is_empty() { i64::MIN } else { digits(low)? };
        let high = if high.is_empty() { i64::MAX } else { digits(high)? };
        result |= (low..=high).contains(&value);
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_many_spellings() {
        let noon = 1_785_499_200;
        for text in ["2026-07-31 12:00:00", "20260731T1200Z", "2026-212T12:00", "2026W315 14:00:00 +02:00"] {
            assert_eq!(parse(text), Some(noon), "{text}");
        }
        assert_eq!(parse("2026-W31-5 07:00:00 -05:00"), Some(noon));
        assert_eq!(parse("1970-01-01"), Some(0));
        assert_eq!(parse("2005-001"), parse("2005-01-01"));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in ["", "yesterday", "2026-02-29", "2026-13-01", "2026-01-01 25:00", "0000-01-01", "2026-01-01 1:2 +x"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        for text in ["P", "PT", "P1", "1D", "P1X", "PT1Y"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_month_after_the_last_of_january_is_the_last_of_february() {
        let month = Span::parse("P1M").expect("a span");
        assert_eq!(month.after(parse("2024-01-31").expect("a date")), parse("2024-02-29").expect("a date"));
        assert_eq!(Span::parse("P1DT2H").map(Span::seconds_about), Some(93_600));
    }

    #[test]
    fn calendars_match_by_field() {
        let friday = parse("2026-07-31 12:00:00").expect("a date");
        let spec = |pairs: &[(&'static str, &'static str)]| matches(&pairs.iter().copied().collect(), friday);
        assert_eq!(spec(&[("weekdays", "1-5"), ("hours", "9-16")]), Some(true));
        assert_eq!(spec(&[("weekdays", "6,7")]), Some(false));
        assert_eq!(spec(&[("weeks", "31"), ("weekyears", "2026"), ("yeardays", "212")]), Some(true));
        assert_eq!(spec(&[("years", "2020-")]), Some(true));
        assert_eq!(spec(&[("moon", "3")]), None);
        assert_eq!(spec(&[("hours", "noon")]), None);
    }
}
