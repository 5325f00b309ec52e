//! Has this beat been seen before, and how many were lost?
//!
//! One bit for each of the last 1024 numbers. A number is taken once; the bits of the last 256 are the measured loss.
//!
//! In: numbers of authenticated beats. Out: new, late or seen; loss.

/// Numbers that are remembered.
const REMEMBERED: u64 = 1024;
const WORDS: usize = (REMEMBERED / 64) as usize;

/// Numbers over which loss is measured.
pub(crate) const MEASURED: u64 = 256;

/// A number that is further ahead than this is absurd: a sender needs half a day for so many beats.
const AHEAD_MAX: u64 = 1 << 20;

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Higher than every one before.
    Newest,
    /// First seen, but overtaken by a higher one.
    Overtaken,
    /// Seen before, or too old to tell.
    Seen,
    /// Further ahead than a sender comes without being heard; taken, it would make all that follow look old.
    Absurd,
}

/// The numbers seen under one salt on one link; empty at first.
pub(crate) struct Window {
    newest: u64,
    seen: [u64; WORDS],
}

impl Window {
    pub fn new() -> Self {
        // What was sent before the first beat that arrived is not lost: it was never awaited.
        Window { newest: 0, seen: [u64::MAX; WORDS] }
    }

    /// The highest number; 0 if none.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Takes a number. `after_outage`: what is missing before it fell into an outage and is no random loss.
    /// `is_proven`: its sender has just heard us over this link, so that any number may be true.
    pub fn take(&mut self, seq: u64, after_outage: bool, is_proven: bool) -> Arrival {
        let is_first = self.newest == 0;
        if seq > self.newest {
            if !is_first && !is_proven && seq - self.newest > AHEAD_MAX {
                return Arrival::Absurd;
            }
            if !is_first {
                self.mark_between(seq, after_outage);
            }
            self.newest = seq;
            self.set(seq, true);
            return Arrival::Newest;
        }
        if self.has_seen(seq) {
            return Arrival::Seen;
        }
        self.set(seq, true);
        Arrival::Overtaken
    }

    /// Was this number taken before, or is it too old to tell?
    pub fn has_seen(&self, seq: u64) -> bool {
        seq == 0 || seq <= self.newest && (self.newest - seq >= REMEMBERED || self.is_set(seq))
    }

    /// Lost of the last [`MEASURED`] numbers.
    pub fn lost(&self) -> u32 {
        let first = self.newest.wrapping_sub(MEASURED - 1) % REMEMBERED;
        let (word, shift) = ((first / 64) as usize, first % 64);
        let received: u32 = (0..(MEASURED / 64) as usize)
            .map(|i| {
                let low = self.seen[(word + i) % WORDS] >> shift;
                let high = self.seen[(word + i + 1) % WORDS].checked_shl(64 - shift as u32).unwrap_or(0);
                (low | high).count_ones()
            })
            .sum();
        MEASURED as u32 - received
    }

    /// The same as permille; 0..=1000.
    pub fn loss_permille(&self) -> u16 {
        (self.lost() * 1000 / MEASURED as u32) as u16
    }

    /// The loss that is not exceeded with 97.5 % certainty; 0.0..=1.0.
    pub fn loss_upper_bound(&self) -> f64 {
        upper_bound(f64::from(self.lost()) / MEASURED as f64)
    }

    fn mark_between(&mut self, seq: u64, as_seen: bool) {
        if seq - self.newest >= REMEMBERED {
            self.seen = [if as_seen { u64::MAX } else { 0 }; WORDS];
            return;
        }
        for missing in self.newest + 1..seq {
            self.set(missing, as_seen);
        }
    }

    fn is_set(&self, seq: u64) -> bool {
        let bit = seq % REMEMBERED;
        self.seen[(bit / 64) as usize] >> (bit % 64) & 1 == 1
    }

    fn set(&mut self, seq: u64, value: bool) {
        let bit = seq % REMEMBERED;
        let word = &mut self.seen[(bit / 64) as usize];
        *word = *word & !(1 << (bit % 64)) | u64::from(value) << (bit % 64);
    }
}

/// What a share of losses, measured over [`MEASURED`] numbers, does not exceed with 97.5 % certainty; 0.0..=1.0.
///
/// Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927.
pub(crate) fn upper_bound(p: f64) -> f64 {
    const Z: f64 = 1.96;
    let n = MEASURED as f64;
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((p + Z * Z / (2.0 * n) + spread) / (1.0 + Z * Z / n)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_taken_once() {
        let mut window = Window::new();
        assert_eq!(window.take(5000, false, false), Arrival::Newest);
        assert_eq!(window.take(5000, false, false), Arrival::Seen);
        assert_eq!(window.take(5003, false, false), Arrival::Newest);
        assert_eq!(window.take(5002, false, false), Arrival::Overtaken);
        assert_eq!(window.take(5002, false, false), Arrival::Seen);
        assert_eq!(window.take(5003 - 1024, false, false), Arrival::Seen, "too old to tell");
        assert_eq!(window.take(0, false, false), Arrival::Seen);
        assert_eq!(window.take(u64::MAX, false, false), Arrival::Absurd);
        assert_eq!(window.take(5003 + AHEAD_MAX, false, false), Arrival::Newest);
        assert_eq!(window.take(u64::MAX, false, true), Arrival::Newest, "its sender hears us");
        assert!(window.has_seen(u64::MAX) && window.has_seen(5003) && window.has_seen(0));
    }

    #[test]
    fn loss_is_what_is_missing_of_the_last_256() {
        let mut window = Window::new();
        for seq in (1000..9000).filter(|seq| seq % 4 != 0) {
            window.take(seq, false, false);
        }
        assert_eq!(window.lost(), 64);
        assert_eq!(window.loss_permille(), 250);
        for seq in 9000..9256 {
            window.take(seq, false, false);
        }
        assert_eq!(window.lost(), 0);
    }

    #[test]
    fn what_came_before_the_first_beat_is_not_lost() {
        let mut window = Window::new();
        window.take(77, false, false);
        assert_eq!(window.lost(), 0);
    }

    #[test]
    fn an_outage_is_no_random_loss() {
        for length in [100, 5000] {
            let (mut silent, mut lossy) = (Window::new(), Window::new());
            silent.take(10, false, false);
            lossy.take(10, false, false);
            silent.take(11 + length, true, false);
            lossy.take(11 + length, false, false);
            assert_eq!(silent.lost(), 0);
            assert_eq!(u64::from(lossy.lost()), length.min(255));
        }
    }

    #[test]
    fn the_upper_bound_of_no_loss_is_small_but_not_zero() {
        let mut window = Window::new();
        window.take(1, false, false);
        assert!((0.014..0.016).contains(&window.loss_upper_bound()));
    }
}
