//! Did this number come before? A sliding window over the numbers of one session.
//!
//! Source: RFC 6479, sliding window without bit shifting.

/// How far a number may lag behind the highest one.
pub const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;

/// The last [`WINDOW`] numbers; numbers start at 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    highest: u64,
    seen: [u64; WORDS],
}

impl Window {
    /// Has this number neither been marked nor left the window?
    pub fn is_new(&self, number: u64) -> bool {
        if number > self.highest {
            return true;
        }
        let (word, bit) = place(number);
        number > 0 && self.highest - number < WINDOW && self.seen[word] & bit == 0
    }

    /// Marks a number whose packet has proven genuine.
    pub fn mark(&mut self, number: u64) {
        if number > self.highest {
            if number - self.highest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.highest + 1..=number {
                    let (word, bit) = place(skipped);
                    self.seen[word] &= !bit;
                }
            }
            self.highest = number;
        }
        if self.highest - number < WINDOW {
            let (word, bit) = place(number);
            self.seen[word] |= bit;
        }
    }
}

fn place(number: u64) -> (usize, u64) {
    let place = number % WINDOW;
    ((place / 64) as usize, 1 << (place % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_number_counts_once_and_only_within_the_window() {
        // A walk that goes forward, back and far ahead, beside a set that remembers everything.
        let mut window = Window::default();
        let (mut seen, mut highest, mut number) = (BTreeSet::new(), 0, 1_u64);
        for turn in 0..200_000_u64 {
            let jump = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            number = match turn % 1000 {
                0 => highest + jump % 3000,
                _ => (highest + jump % 4).saturating_sub(jump % 1500),
            };
            let is_new = number > 0 && !seen.contains(&number) && (number > highest || highest - number < WINDOW);
            assert_eq!(window.is_new(number), is_new, "{number} after {highest}");
            if is_new {
                window.mark(number);
                seen.insert(number);
                highest = highest.max(number);
            }
        }
        assert!(number > 0);
    }

    #[test]
    fn the_largest_number_is_no_surprise() {
        let mut window = Window::default();
        window.mark(u64::MAX);
        assert!(!window.is_new(u64::MAX));
        assert!(window.is_new(u64::MAX - 1));
        assert!(!window.is_new(1));
    }
}
