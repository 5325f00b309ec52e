//! How fast, and as whom? The settings of one member of the log.

use std::time::Duration;

use model::{Bugs, NodeId, Profile};

/// Settings of one member.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Who this is; never zero.
    pub id: NodeId,
    /// Seed of this member's election timeouts.
    pub seed: u64,
    /// Who is preferred among equally good logs; a witness has −1.
    pub priority: i64,
    /// Length of one tick.
    pub tick: Duration,
    /// Ticks between two heartbeats of the leader.
    pub heartbeat_tick: usize,
    /// Ticks of silence after which the backstop begins an election, at least; also the leader's patience with a
    /// lost quorum.
    pub election_tick_min: usize,
    /// As before, at most (exclusive).
    pub election_tick_max: usize,
    /// Head start of each rank in an election by detector.
    pub rank_step: Duration,
    /// Entries that stay in the log below a snapshot, for followers a little behind.
    pub tail_entries: u64,
    /// Bugs planted on purpose.
    pub bugs: Bugs,
}

impl Config {
    /// The timers of `profile` for member `id`, without planted bugs, with priority 0.
    pub fn of(id: NodeId, seed: u64, profile: Profile) -> Self {
        Config {
            id,
            seed,
            priority: 0,
            tick: Config::tick_of(profile),
            heartbeat_tick: 3,
            election_tick_min: 20,
            election_tick_max: 40,
            rank_step: Duration::from_millis(20),
            tail_entries: 500,
            bugs: Bugs::NONE,
        }
    }

    /// The length of one tick of `profile`. It alone tells the profiles apart: the library's counts of ticks are fixed
    /// for its life, and the profile is not.
    pub fn tick_of(profile: Profile) -> Duration {
        match profile {
            Profile::Lan => Duration::from_millis(25),
            Profile::Cloud => Duration::from_millis(75),
            Profile::Wan => Duration::from_millis(100),
        }
    }

    /// Silence after which a leader or a quorum counts as lost.
    pub(crate) fn patience(&self) -> Duration {
        self.tick * u32::try_from(self.election_tick_min).unwrap_or(u32::MAX)
    }
}
