//! Does a name match a pattern? POSIX extended regular expressions, as far as names of resources need them.
//!
//! Understood: literals, `.`, `[…]` with ranges and classes, `( )`, `|`, `*`, `+`, `?`, `{m,n}`, `^`, `$`, `\`. The
//! first match is taken that lies furthest left, greedy; a search that takes too long matches nothing.

/// A pattern, understood.
#[derive(Debug)]
pub(crate) struct Pattern {
    branches: Vec<Branch>,
    groups: usize,
}

type Branch = Vec<Piece>;

#[derive(Debug)]
struct Piece {
    atom: Atom,
    least: u32,
    most: u32,
}

#[derive(Debug)]
enum Atom {
    Char(char),
    Any,
    OneOf { ranges: Vec<(char, char)>, is_inverted: bool },
    Group { number: usize, branches: Vec<Branch> },
    Start,
    End,
}

/// Repetitions that can be counted.
const REPEAT_MAX: u32 = 255;
/// Groups within groups.
const DEPTH_MAX: u32 = 20;
/// Steps of one search.
const STEPS_MAX: u32 = 200_000;
/// How deep a search may go; names are short.
const RECURSION_MAX: u32 = 2_000;

impl Pattern {
    /// Reads a pattern; none if it is no pattern.
    pub(crate) fn parse(text: &str) -> Option<Pattern> {
        let mut parser = Parser { chars: text.chars().collect(), at: 0, groups: 0, depth: 0 };
        let branches = parser.branches()?;
        (parser.at == parser.chars.len()).then_some(Pattern { branches, groups: parser.groups })
    }

    /// What the whole and each group matched, `""` for a group that took no part; none if it does not match.
    pub(crate) fn find(&self, text: &str) -> Option<Vec<String>> {
        let chars: Vec<char> = text.chars().collect();
        let mut search = Search { text: &chars, groups: vec![None; self.groups + 1], steps: 0, depth: 0 };
        for start in 0..=chars.len() {
            search.groups.fill(None);
            let mut end = None;
            if search.any(&self.branches, start, &mut |_, at| {
                end = Some(at);
                true
            }) {
                search.groups[0] = Some((start, end.unwrap_or(start)));
                let matched = |group: &Option<(usize, usize)>| {
                    group.map_or(String::new(), |(from, to)| chars[from..to].iter().collect())
                };
                return Some(search.groups.iter().map(matched).collect());
            }
        }
        None
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    groups: usize,
    depth: u32,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self, c: char) -> bool {
        let is_there = self.peek() == Some(c);
        self.at += usize::from(is_there);
        is_there
    }

    fn branches(&mut self) -> Option<Vec<Branch>> {
        let mut branches = vec![self.branch()?];
        while self.take('|') {
            branches.push(self.branch()?);
        }
        Some(branches)
    }

    fn branch(&mut self) -> Option<Branch> {
        let mut branch = Branch::new();
        while let Some(c) = self.peek() {
            if c == '|' || (c == ')' && self.depth > 0) {
                break;
            }
            let atom = self.atom()?;
            let (least, most) = self.repeat()?;
            branch.push(Piece { atom, least, most });
        }
        Some(branch)
    }

    fn atom(&mut self) -> Option<Atom> {
        let c = self.peek()?;
        self.at += 1;
        match c {
            '.' => Some(Atom::Any),
            '^' => Some(Atom::Start),
            '$' => Some(Atom::End),
            '[' => self.one_of(),
            '(' => {
                self.groups += 1;
                self.depth += 1;
                let number = self.groups;
                if self.depth > DEPTH_MAX {
                    return None;
                }
                let branches = self.branches()?;
                self.depth -= 1;
                self.take(')').then_some(Atom::Group { number, branches })
            }
            '*' | '+' | '?' => None,
            '\\' => {
                let escaped = self.peek()?;
                self.at += 1;
                Some(Atom::Char(escaped))
            }
            c => Some(Atom::Char(c)),
        }
    }

    fn repeat(&mut self) -> Option<(u32, u32)> {
        let repeat = match self.peek() {
            Some('*') => (0, u32::MAX),
            Some('+') => (1, u32::MAX),
            Some('?') => (0, 1),
            Some('{') if self.chars.get(self.at + 1).is_some_and(char::is_ascii_digit) => {
                self.at += 1;
                let least = self.number()?;
                let most = if self.take(',') {
                    if self.peek() == Some('}') { u32::MAX } else { self.number()? }
                } else {
                    least
                };
                let is_right = self.peek() == Some('}') && least <= most;
                if !is_right {
                    return None;
                }
                (least, most)
            }
            _ => return Some((1, 1)),
        };
        self.at += 1;
        Some(repeat)
    }

    fn number(&mut self) -> Option<u32> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        text.parse().ok().filter(|number| *number <= REPEAT_MAX)
    }

    fn one_of(&mut self) -> Option<Atom> {
        let is_inverted = self.take('^');
        let mut ranges = Vec::new();
        loop {
            let c = self.peek()?;
            self.at += 1;
            if c == ']' && !ranges.is_empty() {
                return Some(Atom::OneOf { ranges, is_inverted });
            }
            if c == '[' && self.peek() == Some(':') {
                ranges.extend_from_slice(self.class()?);
                continue;
            }
            let is_range = self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|next| *next != ']');
            if is_range {
                let end = self.chars[self.at + 1];
                self.at += 2;
                ranges.push((c, end));
            } else {
                ranges.push((c, c));
            }
        }
    }

    fn class(&mut self) -> Option<&'static [(char, char)]> {
        let rest: String = self.chars[self.at + 1..].iter().take(12).collect();
        let name = rest.split(":]").next()?;
        let class: &[(char, char)] = match name {
            "digit" => &[('0', '9')],
            "alpha" => &[('a', 'z'), ('A', 'Z')],
            "alnum" => &[('a', 'z'), ('A', 'Z'), ('0', '9')],
            "lower" => &[('a', 'z')],
            "upper" => &[('A', 'Z')],
            "space" => &[(' ', ' '), ('\t', '\r')],
            "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
            "xdigit" => &[('0', '9'), ('a', 'f'), ('A', 'F')],
            _ => return None,
        };
        self.at += 1 + name.len() + 2;
        (self.at <= self.chars.len()).then_some(class)
    }
}

struct Search<'t> {
    text: &'t [char],
    groups: Vec<Option<(usize, usize)>>,
    steps: u32,
    depth: u32,
}

/// What has to match after a piece; it is told where that ended.
type Next<'n, 't> = &'n mut dyn FnMut(&mut Search<'t>, usize) -> bool;

impl<'t> Search<'t> {
    fn any(&mut self, branches: &[Branch], at: usize, next: Next<'_, 't>) -> bool {
        branches.iter().any(|branch| self.pieces(branch, at, next))
    }

    fn pieces(&mut self, pieces: &[Piece], at: usize, next: Next<'_, 't>) -> bool {
        match pieces.split_first() {
            None => next(self, at),
            Some((piece, rest)) => self.repeated(piece, 0, at, &mut |search, at| search.pieces(rest, at, next)),
        }
    }

    fn repeated(&mut self, piece: &Piece, count: u32, at: usize, next: Next<'_, 't>) -> bool {
        self.steps += 1;
        if self.steps > STEPS_MAX || self.depth > RECURSION_MAX {
            return false;
        }
        self.depth += 1;
        let mut matched = false;
        if count < piece.most {
            matched = self.atom(&piece.atom, at, &mut |search, end| {
                // A repetition that takes nothing would go on for ever.
                (end > at || count < piece.least) && search.repeated(piece, count + 1, end, next)
            });
        }
        matched = matched || (count >= piece.least && next(self, at));
        self.depth -= 1;
        matched
    }

    fn atom(&mut self, atom: &Atom, at: usize, next: Next<'_, 't>) -> bool {
        let one = self.text.get(at).copied();
        match atom {
            Atom::Char(c) => one == Some(*c) && next(self, at + 1),
            Atom::Any => one.is_some() && next(self, at + 1),
            Atom::OneOf { ranges, is_inverted } => one.is_some_and(|c| {
                let is_in = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                is_in != *is_inverted && next(self, at + 1)
            }),
            Atom::Start => at == 0 && next(self, at),
            Atom::End => at == self.text.len() && next(self, at),
            Atom::Group { number, branches } => {
                let before = self.groups[*number];
                let matched = self.any(branches, at, &mut |search, end| {
                    let inner = search.groups[*number];
                    search.groups[*number] = Some((at, end));
                    let matched = next(search, end);
                    if !matched {
                        search.groups[*number] = inner;
                    }
                    matched
                });
                if !matched {
                    self.groups[*number] = before;
                }
                matched
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern).expect("a pattern").find(text).is_some()
    }

    #[test]
    fn names_are_searched_anywhere_unless_bound() {
        assert!(matches("sc", "rsc3"));
        assert!(matches("^rsc[0-9]$", "rsc3"));
        assert!(!matches("^rsc[0-9]$", "rsc33"));
        assert!(matches("rsc3.*", "my-rsc3"));
        assert!(matches("^(web|db)-([[:digit:]]{2,3})$", "db-042"));
        assert!(!matches("^(web|db)-([[:digit:]]{2,3})$", "db-4"));
        assert!(matches("^[^a-c]+\\.x?$", "ddd."));
    }

    #[test]
    fn groups_are_told() {
        let pattern = Pattern::parse("^(web|db)-([0-9]+)(x)?").expect("a pattern");
        assert_eq!(pattern.find("db-17"), Some(vec!["db-17".into(), "db".into(), "17".into(), String::new()]));
    }

    #[test]
    fn what_is_no_pattern_is_refused_and_what_takes_too_long_does_not_match() {
        for text in ["(", "[", "*a", "a{2,1}", "a{999}", "[[:nothing:]]", "\\"] {
            assert!(Pattern::parse(text).is_none(), "{text}");
        }
        assert!(!matches("^(a*)*$", &format!("{}b", "a".repeat(60))));
        assert!(!matches("^((a?){255}){255}$", &format!("{}b", "a".repeat(400))));
        assert!(Pattern::parse(&"(".repeat(1000)).is_none());
    }
}
