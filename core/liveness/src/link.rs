//! Does one network path to one peer carry beats, both ways?
//!
//! A link goes down after a silence, or when nothing has proven for a while that the peer receives what is sent
//! over it. It comes up after eight beats in a row that prove it, so that a flapping cable does not flap the cluster.
//! The proof is an echo: the peer names one of the beats it was sent.
//!
//! In: beats sent and received over this link. Out: up or down, round trip, loss.
//! Not here: whether the peer is reachable, for which one beat over any link is enough (`peer.rs`).

use std::time::Duration;

use model::Instant;

use crate::timebase::FdTime;
use crate::window::{Arrival, Window, upper_bound};
use crate::{Beat, Echo, LinkState};

/// Beats both ways, in a row, after which a link is up.
const CONFIRMATIONS: u8 = 8;

/// Sent beats whose echo is recognised.
const SENT_REMEMBERED: u64 = 128;

/// The copy of a beat over another path may come after so many newer beats, and still says that its path works.
const COPIES_LATE_MAX: u64 = 4;

/// An echo of something older proves nothing.
const ECHO_AGE_MAX: Duration = Duration::from_secs(2);

/// A path to a peer.
pub(crate) struct Link {
    state: State,
    /// The number of the next beat; never falls while the process lives.
    next_seq: u64,
    sent_at: Box<[FdTime; SENT_REMEMBERED as usize]>,
    received: Window,
    heard_at: Option<FdTime>,
    /// When the newest beat was sent of which the peer has proven that it arrived.
    proven_at: Option<FdTime>,
    rtt: Option<Duration>,
    /// What the peer lost of our last beats, in a thousand.
    lost_there: u16,
    /// When an unproven sender was last answered here.
    answered_at: Option<Instant>,
    agreed: AsAgreed,
}

/// When beats last came between the addresses of the agreed configuration.
#[derive(Clone, Copy, Default)]
struct AsAgreed {
    /// Towards here.
    heard_at: Option<FdTime>,
    /// Towards the peer, as it says.
    told_at: Option<FdTime>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Down { confirmed: u8 },
}

/// What a valid echo says.
#[derive(Clone, Copy)]
pub(crate) struct Proof {
    pub sent_at: FdTime,
    hold: Duration,
}

impl Link {
    /// A link over which `next_seq - 1` beats were sent before.
    pub fn new(next_seq: u64) -> Self {
        Link {
            state: State::Down { confirmed: 0 },
            next_seq,
            sent_at: Box::new([FdTime::default(); SENT_REMEMBERED as usize]),
            received: Window::new(),
            heard_at: None,
            proven_at: None,
            rtt: None,
            lost_there: 0,
            answered_at: None,
            agreed: AsAgreed::default(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// What it carries.
    pub fn state(&self) -> LinkState {
        match self.state {
            State::Down { confirmed: 0 } => LinkState::Down,
            State::Down { .. } => LinkState::Confirming,
            State::Up => LinkState::Up,
        }
    }

    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub fn received(&self) -> &Window {
        &self.received
    }

    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Takes the number for a beat that is sent now.
    pub fn on_send(&mut self, now: FdTime) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.sent_at[(seq % SENT_REMEMBERED) as usize] = now;
        seq
    }

    /// Does `echo` name a beat that was sent here, lately, under `own_salt`?
    pub fn proof(&self, echo: Option<Echo>, own_salt: u128, now: FdTime) -> Option<Proof> {
        let echo = echo.filter(|echo| echo.salt == own_salt)?;
        let is_remembered = echo.seq >= 1 && echo.seq < self.next_seq && self.next_seq - echo.seq <= SENT_REMEMBERED;
        let sent_at = is_remembered.then(|| self.sent_at[(echo.seq % SENT_REMEMBERED) as usize])?;
        let hold = Duration::from_micros(u64::from(echo.hold_us));
        (now.since(sent_at) <= ECHO_AGE_MAX).then_some(Proof { sent_at, hold })
    }

    /// Forgets the numbers received: they are counted anew under another salt.
    pub fn begin_session(&mut self) {
        self.received = Window::new();
    }

    /// Takes the number of a proven sender's beat. `is_proven`: it names a beat that was sent here a moment ago.
    pub fn take(&mut self, seq: u64, arrival: FdTime, silence_max: Duration, is_proven: bool) -> Arrival {
        let after_outage = self.heard_at.is_none_or(|at| arrival.since(at) >= silence_max);
        self.received.take(seq, after_outage, is_proven)
    }

    /// When the newest beat was sent of which the peer has proven that it arrived.
    pub fn proven_at(&self) -> Option<FdTime> {
        self.proven_at
    }

    /// Takes what the peer says that it lost of our beats, in a thousand.
    pub fn on_loss_there(&mut self, permille: u16) {
        self.lost_there = permille.min(1000);
    }

    /// The probability that a beat there, or the one back, is lost; 0.0..=1.0.
    pub fn cycle_loss(&self) -> f64 {
        let there = upper_bound(f64::from(self.lost_there) / 1000.0);
        1.0 - (1.0 - there) * (1.0 - self.received.loss_upper_bound())
    }

    /// Counts a new beat of a proven sender. A proof not older than `fresh` makes it one that flows both ways.
    pub fn on_beat(&mut self, arrival: FdTime, proof: Option<Proof>, fresh: Duration, silence_max: Duration) {
        if self.heard_at.is_none_or(|at| arrival.since(at) >= silence_max) {
            self.state = State::Down { confirmed: 0 };
        }
        self.heard_at = self.heard_at.max(Some(arrival));
        if let Some(proof) = proof {
            // An echo that is only repeated says nothing about the way.
            if self.proven_at.is_none_or(|at| proof.sent_at > at) {
                self.proven_at = Some(proof.sent_at);
                let sample = arrival.since(proof.sent_at).saturating_sub(proof.hold);
                self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
            }
        }
        let is_two_way = proof.is_some_and(|proof| arrival.since(proof.sent_at) <= fresh);
        self.state = match self.state {
            State::Up => State::Up,
            State::Down { confirmed } if is_two_way && confirmed + 1 >= CONFIRMATIONS => State::Up,
            State::Down { confirmed } if is_two_way => State::Down { confirmed: confirmed + 1 },
            State::Down { .. } => State::Down { confirmed: 0 },
        };
    }

    /// Is this the number of one of the newest beats, or of a newer one?
    pub fn is_recent(&self, seq: u64) -> bool {
        seq.saturating_add(COPIES_LATE_MAX) > self.received.newest()
    }

    /// A beat came between the agreed addresses.
    pub fn on_heard_as_agreed(&mut self, at: FdTime) {
        self.agreed.heard_at = self.agreed.heard_at.max(Some(at));
    }

    /// The peer says that it hears this node between the agreed addresses.
    pub fn on_told_as_agreed(&mut self, at: FdTime) {
        self.agreed.told_at = self.agreed.told_at.max(Some(at));
    }

    /// Other addresses are agreed: nothing is known about them.
    pub fn forget_as_agreed(&mut self) {
        self.agreed = AsAgreed::default();
    }

    /// Has a beat come between the agreed addresses, towards here, within `silence_max`?
    pub fn is_heard_as_agreed(&self, now: FdTime, silence_max: Duration) -> bool {
        self.agreed.heard_at.is_some_and(|at| now.since(at) < silence_max)
    }

    /// Did beats flow both ways between the agreed addresses within `silence_max`?
    pub fn is_as_agreed(&self, now: FdTime, silence_max: Duration) -> bool {
        let is_told = self.agreed.told_at.is_some_and(|at| now.since(at) < silence_max);
        is_told && self.is_heard_as_agreed(now, silence_max)
    }

    /// Takes the link down after `silence_max` of silence, or `proof_age_max` without proof.
    pub fn on_tick(&mut self, now: FdTime, silence_max: Duration, proof_age_max: Duration) {
        let is_silent = self.heard_at.is_none_or(|at| now.since(at) >= silence_max);
        if is_silent || (self.is_up() && !self.is_two_way(now, proof_age_max)) {
            self.state = State::Down { confirmed: 0 };
        }
    }

    /// Has the peer proven that something sent within `proof_age_max` arrived?
    pub fn is_two_way(&self, now: FdTime, proof_age_max: Duration) -> bool {
        self.proven_at.is_some_and(|at| now.since(at) < proof_age_max)
    }

    /// What to tell the peer about its own beats, under its `salt`.
    pub fn echo(&self, salt: u128, now: FdTime) -> Option<Echo> {
        let heard_at = self.heard_at.filter(|_| self.received.newest() > 0)?;
        let hold_us = u32::try_from(now.since(heard_at).as_micros()).unwrap_or(u32::MAX);
        Some(Echo { salt, seq: self.received.newest(), hold_us })
    }

    /// May an unproven sender be answered here? Once per `spacing`.
    pub fn may_answer(&mut self, now: Instant, spacing: Duration) -> bool {
        let may = self.answered_at.is_none_or(|at| now.since(at) >= spacing);
        if may {
            self.answered_at = Some(now);
        }
        may
    }
}

/// How much later than the earliest the latest beats come: the 99.9th percentile over about 1000 of them.
///
/// It compares two clocks, so it follows their drift: two windows of 512, of each the least and the two greatest
/// differences.
pub(crate) struct Jitter {
    current: Spread,
    previous: Spread,
}

#[derive(Clone, Copy)]
struct Spread {
    count: u16,
    least: i64,
    greatest: i64,
    second: i64,
}

impl Spread {
    const SIZE: u16 = 512;
    const EMPTY: Spread = Spread { count: 0, least: i64::MAX, greatest: i64::MIN, second: i64::MIN };
}

impl Jitter {
    pub fn new() -> Self {
        Jitter { current: Spread::EMPTY, previous: Spread::EMPTY }
    }

    /// Counts a beat that arrived at `arrival` on our time line and was planned on the sender's.
    pub fn on_beat(&mut self, arrival: Instant, beat: &Beat) {
        let planned_us = beat.sent_at_us.saturating_sub(u64::from(beat.late_us));
        let difference = (arrival.as_nanos() / 1000) as i64 - planned_us.min(i64::MAX as u64) as i64;
        if self.current.count >= Spread::SIZE {
            self.previous = self.current;
            self.current = Spread::EMPTY;
        }
        let spread = &mut self.current;
        spread.count += 1;
        spread.least = spread.least.min(difference);
        if difference >= spread.greatest {
            (spread.second, spread.greatest) = (spread.greatest, difference);
        } else {
            spread.second = spread.second.max(difference);
        }
    }

    /// The measured jitter; zero before enough was measured.
    pub fn measured(&self) -> Duration {
        let (a, b) = (&self.current, &self.previous);
        let second = a.greatest.min(b.greatest).max(a.second).max(b.second);
        let least = a.least.min(b.least);
        if second < least { Duration::ZERO } else { Duration::from_micros(second.abs_diff(least)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timebase::TimeBase;

    const FRESH: Duration = Duration::from_millis(110);
    const SILENCE: Duration = Duration::from_millis(125);
    const LIMIT: Duration = Duration::from_millis(250);

    /// Sends and receives one echoed beat `step_ms` after the last.
    fn exchange(link: &mut Link, now: &mut FdTime, step_ms: u64) {
        let seq = link.on_send(*now);
        *now = now.plus(Duration::from_millis(step_ms));
        let proof = link.proof(Some(Echo { salt: 1, seq, hold_us: 0 }), 1, *now);
        assert!(proof.is_some());
        link.take(seq, *now, SILENCE, true);
        link.on_beat(*now, proof, FRESH, SILENCE);
        link.on_tick(*now, SILENCE, LIMIT);
    }

    fn up(now: &mut FdTime) -> Link {
        let mut link = Link::new(1);
        for _ in 0..CONFIRMATIONS {
            exchange(&mut link, now, 50);
        }
        assert!(link.is_up());
        link
    }

    fn start() -> FdTime {
        TimeBase::new(Instant::ZERO).fd()
    }

    #[test]
    fn a_link_needs_eight_beats_both_ways_in_a_row() {
        let (mut link, mut now) = (Link::new(1), start());
        assert_eq!(link.state(), LinkState::Down);
        for _ in 0..CONFIRMATIONS - 1 {
            exchange(&mut link, &mut now, 50);
            assert_eq!(link.state(), LinkState::Confirming);
        }
        exchange(&mut link, &mut now, 50);
        assert_eq!(link.state(), LinkState::Up);
    }

    #[test]
    fn a_flapping_link_stays_down() {
        let mut now = start();
        let mut link = up(&mut now);
        for _ in 0..20 {
            now = now.plus(SILENCE);
            link.on_tick(now, SILENCE, LIMIT);
            assert!(!link.is_up());
            for _ in 0..CONFIRMATIONS - 1 {
                exchange(&mut link, &mut now, 50);
                assert!(!link.is_up());
            }
        }
    }

    #[test]
    fn a_link_that_carries_beats_one_way_only_goes_down() {
        let mut now = start();
        let mut link = up(&mut now);
        for n in 0..6 {
            now = now.plus(Duration::from_millis(50));
            link.on_beat(now, None, FRESH, SILENCE);
            link.on_tick(now, SILENCE, LIMIT);
            assert_eq!(link.is_up(), n < 3, "beat {n}");
        }
    }

    #[test]
    fn an_echo_of_what_was_never_sent_or_long_ago_proves_nothing() {
        let (mut link, now) = (Link::new(1), start());
        let seq = link.on_send(now);
        let echo = |salt, seq| Some(Echo { salt, seq, hold_us: 0 });
        assert!(link.proof(echo(1, seq), 1, now).is_some());
        assert!(link.proof(echo(2, seq), 1, now).is_none(), "the salt of another life");
        assert!(link.proof(echo(1, seq + 1), 1, now).is_none(), "not yet sent");
        assert!(link.proof(echo(1, 0), 1, now).is_none());
        assert!(link.proof(None, 1, now).is_none());
        assert!(link.proof(echo(1, seq), 1, now.plus(Duration::from_millis(2001))).is_none());
    }

    #[test]
    fn jitter_is_the_second_largest_lateness() {
        let mut jitter = Jitter::new();
        assert_eq!(jitter.measured(), Duration::ZERO);
        let mut beat = crate::testing::beat();
        for n in 0..1000u64 {
            let late_us = if n == 300 { 90_000 } else { n % 7 * 1000 };
            beat.sent_at_us = n * 50_000;
            jitter.on_beat(Instant::from_nanos((n * 50_000 + 1_000_000 + late_us) * 1000), &beat);
        }
        assert_eq!(jitter.measured(), Duration::from_millis(6));
    }
}
