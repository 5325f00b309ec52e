//! What time is it? The world's time is one number; each machine reads it through a clock of its own rate.

use model::{Instant, WallTime};

/// World time: nanoseconds since the begin of the run.
pub type At = u64;

/// A microsecond of world time.
pub const MICROS: u64 = 1_000;
/// A millisecond of world time.
pub const MILLIS: u64 = 1_000_000;
/// A second of world time.
pub const SECONDS: u64 = 1_000_000_000;
/// Longer than any run.
pub(crate) const FOREVER: u64 = 1_000_000 * SECONDS;

/// 2026-01-01, where every wall clock begins, in milliseconds since 1970.
const WALL_BEGIN_MS: u64 = 1_767_225_600_000;

/// The clocks of one machine since its last boot.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    booted_at: At,
    base: u64,
    /// How many nanoseconds too many (or too few) it counts in a million.
    drift_ppm: i64,
    /// How wrong the wall clock is, in milliseconds.
    pub wall_offset_ms: i64,
}

impl Clock {
    /// A monotonic clock that showed `base` nanoseconds at `booted_at`.
    pub fn new(booted_at: At, base: u64, drift_ppm: i64, wall_offset_ms: i64) -> Self {
        Clock { booted_at, base, drift_ppm, wall_offset_ms }
    }

    /// What the monotonic clock shows at `at`.
    pub fn local(&self, at: At) -> Instant {
        let elapsed = at.saturating_sub(self.booted_at);
        Instant::from_nanos((self.base + elapsed).saturating_add_signed(self.drift(elapsed)))
    }

    /// The first moment at which the monotonic clock shows at least `local`.
    pub fn world(&self, local: Instant) -> At {
        let ahead = local.as_nanos().saturating_sub(self.base);
        let mut at = self.booted_at + ahead.saturating_add_signed(-self.drift(ahead));
        at = at.saturating_sub(self.local(at).since(local).as_nanos() as u64).max(self.booted_at);
        while self.local(at) < local {
            at += (local.since(self.local(at)).as_nanos() as u64).max(1);
        }
        at
    }

    /// What the wall clock shows at `at`.
    pub fn wall(&self, at: At) -> WallTime {
        WallTime((WALL_BEGIN_MS + at / MILLIS).saturating_add_signed(self.wall_offset_ms))
    }

    fn drift(&self, elapsed: u64) -> i64 {
        let elapsed_us = i64::try_from(elapsed / 1000).unwrap_or(i64::MAX / 1_000_000);
        elapsed_us * self.drift_ppm / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_reached_too_early_nor_much_too_late() {
        for drift in [-500, -3, 0, 7, 500] {
            let clock = Clock::new(5 * SECONDS, 17_000_000_123, drift, 0);
            for ahead in [0, 1, 999, 25 * MILLIS, 60 * SECONDS + 1] {
                let local = Instant::from_nanos(17_000_000_123 + ahead);
                let at = clock.world(local);
                assert!(clock.local(at) >= local, "{drift} {ahead}");
                assert!(clock.local(at).since(local).as_nanos() < 2000, "{drift} {ahead}");
            }
        }
    }
}
