//! How much time has passed in which a beat could have been noticed?
//!
//! A detector that was not running cannot accuse others of having been silent. The time base is therefore no clock
//! but an accumulator: each wake adds at most the planned sleep and a small tolerance; the rest of the gap is own
//! stall. A stall of 150 ms and one of 15 s cost a peer the same few milliseconds of its limit.
//!
//! In: wakes at monotonic instants, the next planned wake. Out: detector time, own stalls.
//! Not here: what follows from a stall (`pulse.rs`).

use std::time::Duration;

use model::Instant;

/// Seconds over which own stalls are summed.
const METER_SECONDS: u64 = 10;

/// A point in detector time, in nanoseconds. Comparable within one process only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FdTime(u64);

impl FdTime {
    /// Detector time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: FdTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The point `span` later.
    pub fn plus(self, span: Duration) -> FdTime {
        FdTime(self.0.saturating_add(nanos(span)))
    }

    /// The point `span` earlier, but not before the beginning.
    pub fn minus(self, span: Duration) -> FdTime {
        FdTime(self.0.saturating_sub(nanos(span)))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Detector time, fed by every wake.
pub(crate) struct TimeBase {
    now: Instant,
    fd: FdTime,
    /// Detector time at the wake before this one.
    before: FdTime,
    planned: Instant,
    stalls_ms: [u32; METER_SECONDS as usize],
    second: u64,
}

impl TimeBase {
    pub fn new(now: Instant) -> Self {
        // Detector time starts late enough that "an hour ago" can be written down.
        let start = FdTime(nanos(Duration::from_secs(3600)));
        TimeBase { now, fd: start, before: start, planned: now, stalls_ms: [0; METER_SECONDS as usize], second: 0 }
    }

    /// The monotonic instant of this wake.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Detector time.
    pub fn fd(&self) -> FdTime {
        self.fd
    }

    /// Advances to a wake; returns by how much it came later than planned, if that is more than `g_max`.
    pub fn wake(&mut self, now: Instant, g_max: Duration) -> Option<Duration> {
        if now <= self.now {
            return None;
        }
        let gap = now.since(self.now);
        let planned = self.planned.since(self.now);
        self.before = self.fd;
        self.fd = self.fd.plus(gap.min(planned + g_max));
        self.now = now;
        self.roll_meter();
        let late = gap.saturating_sub(planned);
        if late <= g_max {
            return None;
        }
        let stall_ms = u32::try_from(late.as_millis()).unwrap_or(u32::MAX);
        let bucket = &mut self.stalls_ms[(self.second % METER_SECONDS) as usize];
        *bucket = bucket.saturating_add(stall_ms);
        Some(late)
    }

    /// Says when the next wake is planned.
    pub fn plan(&mut self, deadline: Instant) {
        self.planned = deadline;
    }

    /// Takes the time since the wake before back: something that arrived in it was lost by our own fault.
    pub fn discard_last_gap(&mut self) {
        self.fd = self.before;
    }

    /// The detector time of an arrival between the wake before and now.
    pub fn of_arrival(&self, arrival: Instant) -> FdTime {
        self.fd.minus(self.now.since(arrival)).max(self.before.min(self.fd))
    }

    /// When `at` will be reached if there is no stall.
    pub fn instant_of(&self, at: FdTime) -> Instant {
        self.now + at.since(self.fd)
    }

    /// Own stall in the last one to two seconds; 0..=1000 ms.
    pub fn last_stall_ms(&self) -> u16 {
        let at = |second: u64| self.stalls_ms[(second % METER_SECONDS) as usize];
        at(self.second).saturating_add(at(self.second.wrapping_sub(1))).min(1000) as u16
    }

    /// Did this process stand still for more than a fifth of the last 10 s?
    pub fn is_often_stalled(&self) -> bool {
        self.stalls_ms.iter().map(|&ms| u64::from(ms)).sum::<u64>() > METER_SECONDS * 1000 / 5
    }

    fn roll_meter(&mut self) {
        let second = self.now.as_nanos() / 1_000_000_000;
        let passed = (second - self.second).min(METER_SECONDS);
        for back in 0..passed {
            self.stalls_ms[((second - back) % METER_SECONDS) as usize] = 0;
        }
        self.second = second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: Duration = Duration::from_millis(10);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn passed(base: &TimeBase) -> u128 {
        base.fd().since(TimeBase::new(at(0)).fd()).as_millis()
    }

    #[test]
    fn time_passes_as_planned() {
        let mut base = TimeBase::new(at(0));
        base.plan(at(25));
        assert_eq!(base.wake(at(25), G), None);
        base.plan(at(50));
        assert_eq!(base.wake(at(30), G), None, "a datagram woke it");
        assert_eq!(passed(&base), 30);
    }

    #[test]
    fn any_stall_counts_as_little() {
        for stall in [150, 15_000] {
            let mut base = TimeBase::new(at(0));
            base.plan(at(25));
            assert_eq!(base.wake(at(25 + stall), G), Some(Duration::from_millis(stall)));
            assert_eq!(passed(&base), 35);
        }
    }

    #[test]
    fn an_arrival_during_a_stall_is_not_older_than_the_stall_counts() {
        let mut base = TimeBase::new(at(0));
        base.plan(at(25));
        base.wake(at(1000), G);
        assert_eq!(base.fd().since(base.of_arrival(at(100))), Duration::from_millis(35));
        assert_eq!(base.fd().since(base.of_arrival(at(998))), Duration::from_millis(2));
    }

    #[test]
    fn stalls_are_remembered_for_ten_seconds() {
        let mut base = TimeBase::new(at(0));
        base.plan(at(0));
        base.wake(at(2500), G);
        assert!(base.is_often_stalled());
        assert_eq!(base.last_stall_ms(), 1000);
        for ms in (2600..13_000).step_by(100) {
            base.plan(at(ms));
            base.wake(at(ms), G);
        }
        assert!(!base.is_often_stalled());
        assert_eq!(base.last_stall_ms(), 0);
    }

    #[test]
    fn a_clock_that_goes_back_changes_nothing() {
        let mut base = TimeBase::new(at(100));
        assert_eq!(base.wake(at(50), G), None);
        assert_eq!((base.now(), passed(&base)), (at(100), 0));
    }
}
