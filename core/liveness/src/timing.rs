//! How long is too long? The timers of a profile, and how a lossy path stretches the limit of freshness.
//!
//! A verdict is a mistake when every beat of a living peer in the window was lost by chance, and the burst of
//! pings too. With independent loss the rate of that has a closed form; the limit is the smallest one at which
//! it stays below one mistake in 10⁹ hours for a pair of nodes.
//!
//! Pure functions of measured loss and jitter. Not here: measuring them (`window.rs`, `peer.rs`).
//!
//! Source: Chen, Toueg, Aguilera, "On the Quality of Service of Failure Detectors", IEEE ToC 2002 (freshness points).

use std::time::Duration;

use model::Profile;

/// One wrong verdict in this many hours, per pair, is what a limit is allowed to cost.
const MISTAKES_PER_HOUR_MAX: f64 = 1e-9;

/// The limit grows to at most this multiple of the profile's.
const STRETCH_MAX: u32 = 4;

/// The timers of a profile (SAFETY §0.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Δ: a beat per link and peer this often.
    pub delta: Duration,
    /// T_to: a peer that is silent for this long is suspect; the least, loss stretches it.
    pub t_to: Duration,
    /// T_late: a peer that is silent for this long is pinged.
    pub t_late: Duration,
    /// b: pings follow each other this fast.
    pub burst: Duration,
    /// g_max: waking later than planned by more than this is an own stall.
    pub g_max: Duration,
    /// J: what sender and network may add to a beat's time before anything is measured.
    pub jitter: Duration,
    /// T_hold: from "down" to Condemn where all links share one failure domain; else there is no wait.
    pub t_hold: Duration,
    /// The longest wait for a second member that may be lost with the first.
    pub settle: Duration,
    /// How long an unusually large loss is verified before anybody is condemned.
    pub brake: Duration,
    /// A member that was never heard since this machine booted is given so long to boot itself.
    pub boot_patience: Duration,
    /// A member without contact to the leader that another member has contact with is left alone for so long.
    pub partial_max: Duration,
    /// A node that beats and makes no progress, or owes an answer, for this long is sick: it leads no longer and gets
    /// nothing new.
    pub sick_lead: Duration,
    /// It is drained.
    pub sick_drain: Duration,
    /// It is condemned if it holds anything, or if what is wanted waits for it.
    pub sick_fence: Duration,
}

impl Timing {
    /// The timers of `profile`.
    pub const fn of(profile: Profile) -> Self {
        const fn ms(n: u64) -> Duration {
            Duration::from_millis(n)
        }
        match profile {
            Profile::Lan => Timing {
                delta: ms(50),
                t_to: ms(250),
                t_late: ms(75),
                burst: ms(5),
                g_max: ms(10),
                jitter: ms(10),
                t_hold: ms(750),
                settle: ms(100),
                brake: ms(5000),
                boot_patience: ms(300_000),
                partial_max: ms(5000),
                sick_lead: ms(2000),
                sick_drain: ms(15_000),
                sick_fence: ms(60_000),
            },
            Profile::Cloud => Timing {
                delta: ms(100),
                t_to: ms(1500),
                t_late: ms(200),
                burst: ms(25),
                g_max: ms(20),
                jitter: ms(100),
                t_hold: ms(3000),
                settle: ms(100),
                brake: ms(5000),
                boot_patience: ms(300_000),
                partial_max: ms(5000),
                sick_lead: ms(2000),
                sick_drain: ms(15_000),
                sick_fence: ms(60_000),
            },
            Profile::Wan => Timing {
                delta: ms(200),
                t_to: ms(2000),
                t_late: ms(400),
                burst: ms(50),
                g_max: ms(20),
                jitter: ms(150),
                t_hold: ms(3000),
                settle: ms(100),
                brake: ms(5000),
                boot_patience: ms(300_000),
                partial_max: ms(5000),
                sick_lead: ms(2000),
                sick_drain: ms(15_000),
                sick_fence: ms(60_000),
            },
        }
    }

    /// The limit of freshness never exceeds this.
    pub fn t_to_max(&self) -> Duration {
        self.t_to * STRETCH_MAX
    }

    /// How many of the limits `sick_lead`, `sick_drain` and `sick_fence` such an age has reached.
    pub(crate) fn sickness(&self, age: Duration) -> u8 {
        [self.sick_lead, self.sick_drain, self.sick_fence].into_iter().filter(|limit| age >= *limit).count() as u8
    }

    /// The detector's step: half of the largest gap that is no own stall.
    fn tick(&self) -> Duration {
        self.g_max / 2
    }

    /// The limit of freshness for a peer whose beats are lost on all links at once with probability `loss`
    /// (0.0..=1.0), and whose beats come up to `jitter` late.
    ///
    /// Never shorter than the profile's, never longer than [`Timing::t_to_max`].
    pub fn freshness(&self, loss: f64, jitter: Duration) -> Duration {
        let mut limit = self.t_to;
        while limit < self.t_to_max() && self.mistakes_per_hour(limit, loss, jitter) > MISTAKES_PER_HOUR_MAX {
            limit += self.tick();
        }
        limit.min(self.t_to_max())
    }

    /// Wrong verdicts per hour and pair for a limit (SAFETY §1.5): all beats in the window and all rounds of the
    /// burst are lost.
    fn mistakes_per_hour(&self, limit: Duration, loss: f64, jitter: Duration) -> f64 {
        let times = |span: Duration, step: Duration| (span.as_nanos() / step.as_nanos().max(1)).min(1 << 20) as i32;
        let loss = loss.clamp(0.0, 1.0);
        let beats = times(limit.saturating_sub(jitter), self.delta);
        let rounds = times(limit.saturating_sub(self.tick() + self.t_late), self.burst);
        let round_lost = 1.0 - (1.0 - loss) * (1.0 - loss);
        let windows_per_hour = 3600.0 / self.delta.as_secs_f64();
        windows_per_hour * (1.0 - loss) * loss.powi(beats) * round_lost.powi(rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: Timing = Timing::of(Profile::Lan);

    fn lan(loss_percent: u32) -> u128 {
        LAN.freshness(f64::from(loss_percent) / 100.0, LAN.jitter).as_millis()
    }

    #[test]
    fn a_fifth_lost_on_one_link_keeps_the_limit_of_the_profile() {
        assert_eq!(lan(0), 250);
        assert_eq!(lan(20), 250);
        assert_eq!(LAN.freshness(0.2, Duration::from_millis(50)).as_millis(), 250);
    }

    #[test]
    fn more_loss_stretches_the_limit_up_to_four_times() {
        assert_eq!((lan(30), lan(40), lan(50)), (270, 360, 510));
        assert_eq!(lan(95), 1000);
    }

    #[test]
    fn the_closed_form_gives_the_published_numbers() {
        let rate = LAN.mistakes_per_hour(LAN.t_to, 0.2, LAN.jitter);
        assert!((5e-14..1.2e-13).contains(&rate), "{rate:e}");
    }

    #[test]
    fn every_profile_is_consistent() {
        for profile in [Profile::Lan, Profile::Cloud, Profile::Wan] {
            let t = Timing::of(profile);
            assert!(t.delta < t.t_late && t.t_late < t.t_to, "{profile:?}");
            assert!(t.burst < t.t_late && t.g_max <= t.delta, "{profile:?}");
        }
    }
}
