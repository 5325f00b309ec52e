//! What do people do to a cluster file by mistake? Drops, doublings, misspellings, swaps, renames, moves between groups, on
//! the text of the running cluster; and every single one of the small ones, for a whole file.
//!
//! In: a text. Out: another text, which may be refused; what a whole file came to.
//! Not here: what must not follow from it (`invariants/edits_are_harmless.rs`).

use std::collections::BTreeMap;

use model::Bugs;
use serde::Serialize;

use crate::chance::Chance;
use crate::clock::SECONDS;
use crate::faults::Fault;
use crate::invariants::what_is_missing;
use crate::setup::Layout;

/// The text with one mistake in it.
pub(crate) fn at_random(text: &str, chance: &mut Chance) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let spoken: Vec<usize> = (0..lines.len()).filter(|at| says_something(&lines[*at])).collect();
    if spoken.is_empty() {
        return text.to_owned();
    }
    let at = chance.pick(&spoken);
    match chance.below(12) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 if at + 1 < lines.len() => lines.swap(at, at + 1),
        3 => rename(&mut lines, chance),
        4 => move_member(&mut lines, chance),
        5 => drop_section(&mut lines, at),
        6 => {
            let other = chance.pick(&spoken);
            swap_values(&mut lines, at, other);
        }
        7 | 8 => {
            let agents: Vec<usize> = spoken.into_iter().filter(|at| lines[*at].starts_with("agent")).collect();
            if !agents.is_empty() {
                let at = chance.pick(&agents);
                lines[at] = misspell(&lines[at], chance);
            }
        }
        _ => lines[at] = misspell(&lines[at], chance),
    }
    lines.join("\n") + "\n"
}

fn says_something(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

/// One letter of the line goes, comes twice, is another one, or changes places with the next.
fn misspell(line: &str, chance: &mut Chance) -> String {
    let letters = u64::try_from(line.chars().count()).unwrap_or(0);
    let (at, kind) = (chance.below(letters), chance.below(4));
    edit_letter(line, usize::try_from(at).unwrap_or(0), kind)
}

fn edit_letter(line: &str, at: usize, kind: u64) -> String {
    let mut letters: Vec<char> = line.chars().collect();
    match kind {
        0 => drop(letters.remove(at)),
        1 => letters.insert(at, letters[at]),
        2 => {
            letters[at] = match letters[at] {
                '9' => '8',
                digit @ '0'..='8' => char::from(digit as u8 + 1),
                'x' => 'y',
                _ => 'x',
            }
        }
        _ if at + 1 < letters.len() => letters.swap(at, at + 1),
        _ => {}
    }
    letters.into_iter().collect()
}

/// A section gets another name, everywhere or only in its heading.
fn rename(lines: &mut [String], chance: &mut Chance) {
    let headings: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with('[')).collect();
    if headings.is_empty() {
        return;
    }
    let at = chance.pick(&headings);
    let Some((_, name)) = lines[at].trim_matches(['[', ']']).split_once('.') else { return };
    let name = name.trim_matches('"').to_owned();
    let (old, new) = (format!("\"{name}\""), format!("\"{name}2\""));
    let is_everywhere = chance.is(500);
    for (n, line) in lines.iter_mut().enumerate() {
        if n == at || is_everywhere {
            *line = line.replace(&old, &new);
        }
    }
}

/// A member of one group goes to another one, or to none.
fn move_member(lines: &mut [String], chance: &mut Chance) {
    let groups: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with("members")).collect();
    if groups.is_empty() {
        return;
    }
    let (from, to) = (chance.pick(&groups), chance.pick(&groups));
    let members: Vec<String> = lines[from].split('"').skip(1).step_by(2).map(str::to_owned).collect();
    if members.is_empty() {
        return;
    }
    let member = chance.pick(&members);
    lines[from] = lines[from].replacen(&format!("\"{member}\", "), "", 1).replacen(&format!(", \"{member}\""), "", 1);
    if from != to {
        lines[to] = lines[to].replacen(']', &format!(", \"{member}\"]"), 1);
    }
}

/// The section of the line, with its heading.
fn drop_section(lines: &mut Vec<String>, at: usize) {
    let is_heading = |line: &String| line.starts_with('[');
    let Some(begin) = lines[..=at].iter().rposition(is_heading) else { return };
    let end = lines[begin + 1..].iter().position(is_heading).map_or(lines.len(), |next| begin + 1 + next);
    lines.drain(begin..end);
}

fn swap_values(lines: &mut [String], one: usize, other: usize) {
    let split = |line: &str| line.split_once(" = ").map(|(key, value)| (key.to_owned(), value.to_owned()));
    if let (Some((key, value)), Some((other_key, other_value))) = (split(&lines[one]), split(&lines[other])) {
        lines[one] = format!("{key} = {other_value}");
        lines[other] = format!("{other_key} = {value}");
    }
}

/// What the small mistakes of a whole file came to.
#[derive(Debug, Default, Serialize)]
pub struct EditReport {
    /// Mistakes that were made.
    pub tried: usize,
    /// The file was refused.
    pub refused: usize,
    /// The file says the same as before.
    pub same: usize,
    /// The file was applied to a running cluster.
    pub applied: usize,
    /// What broke a promise: the mistake, and the sentence.
    pub broken: Vec<(String, String)>,
}

/// Makes every `every`th of the small mistakes in a cluster file: each letter dropped, doubled, replaced or swapped with
/// the next, each line dropped or doubled. Applies each that is accepted to a running cluster, looks on for ten virtual
/// seconds, and takes it back.
///
/// # Panics
/// If the file itself is refused, or its nodes are not `a`, `b`, … and the witness `w`.
pub fn every_edit(text: &str, every: usize, mut each: impl FnMut(&EditReport)) -> EditReport {
    let base = config::parse(text).expect("the file is accepted as it is").config;
    let layout = Layout::of_file(text);
    let mut report = EditReport::default();
    for (what, edited) in small_edits(text).into_iter().step_by(every.max(1)) {
        report.tried += 1;
        match config::parse(&edited) {
            Err(_) => report.refused += 1,
            Ok(parsed) if parsed.config == base => report.same += 1,
            Ok(_) => {
                report.applied += 1;
                if let Some(sentence) = try_out(&layout, text, &edited) {
                    report.broken.push((what, sentence));
                }
            }
        }
        each(&report);
    }
    report
}

/// Every small mistake, and what it is; equal texts once.
fn small_edits(text: &str) -> BTreeMap<String, String> {
    let lines: Vec<&str> = text.lines().collect();
    let with = |at: usize, new: Option<String>| {
        let kept = lines.iter().enumerate().filter_map(|(n, line)| match (n == at, &new) {
            (false, _) => Some((*line).to_owned()),
            (true, new) => new.clone(),
        });
        kept.collect::<Vec<_>>().join("\n") + "\n"
    };
    let mut edits = BTreeMap::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| says_something(line)) {
        let said = line.split(" # ").next().unwrap_or(line).trim_end();
        edits.insert(format!("{:04} dropped: {said}", at + 1), with(at, None));
        edits.insert(format!("{:04} doubled: {said}", at + 1), with(at, Some(format!("{line}\n{line}"))));
        for letter in 0..said.chars().count() {
            for kind in 0..4 {
                let edited = edit_letter(said, letter, kind);
                edits.insert(format!("{:04} {edited}", at + 1), with(at, Some(edited)));
            }
        }
    }
    edits
}

/// Applies the text to a cluster that runs the file, and takes it back; what broke meanwhile.
fn try_out(layout: &Layout, text: &str, edited: &str) -> Option<String> {
    let mut world = match layout.build(1, Bugs::NONE, Bugs::NONE, false) {
        Ok(world) => world,
        Err(world) => return Some(world.violation().map_or_else(String::new, |violation| violation.sentence.clone())),
    };
    world.run_until(world.now() + SECONDS);
    let was_missing = what_is_missing(&world).is_some();
    world.inflict(&Fault::EditTo(edited.to_owned()));
    world.run_until(world.now() + 10 * SECONDS);
    world.inflict(&Fault::EditTo(text.to_owned()));
    let is_back = world.run_while_not(40 * SECONDS, |world| was_missing || what_is_missing(world).is_none());
    match world.violation() {
        Some(violation) => Some(format!("{}: {}", violation.invariant, violation.sentence)),
        None if !is_back => what_is_missing(&world).map(|missing| format!("taken back, {missing}")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_edits_are_all_of_them() {
        let edits = small_edits("ab = 1 # c\n");
        // 6 letters; swaps of equal neighbours, doublings of one of two and the like say the same.
        assert!(edits.len() > 15 && edits.len() <= 2 + 24, "{edits:?}");
        for wanted in ["b = 1\n", "aab = 1\n", "ba = 1\n", "ab = 2\n", "ab = 1 # c\nab = 1 # c\n", "\n"] {
            assert!(edits.values().any(|text| text == wanted), "{wanted:?} in {edits:?}");
        }
    }

    #[test]
    fn a_random_mistake_changes_the_text() {
        let layout = crate::scenario::Scenario::of(3).layout;
        let (text, _) = crate::file::as_file(&layout.config(layout.machines().len(), true)).expect("a file");
        let mut chance = Chance::new(1);
        let changed = (0..200).filter(|_| at_random(&text, &mut chance) != text).count();
        assert!(changed > 150, "{changed} of 200");
    }
}
