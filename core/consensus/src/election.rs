//! Who should stand for election, and when?
//!
//! The detector knows of a dead leader long before an election timeout ends. A voter whose detector suspects the
//! leader it follows stands at once if it is the best of the reachable voters, and later by its rank otherwise, so
//! that two never stand in the same instant. Standing begins with a pre-vote, and every voter asks its own detector
//! before it answers one: a wrong verdict of one node costs nothing.
//!
//! In: what the detector sees of every peer, and this member's own standing. Out: "stand now", and whose vote
//! requests may be heard.
//! Not here: votes, terms and the backstop of timeouts (the library), the detector (`core/liveness`).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use model::{Instant, LogIndex, NodeId, Term};

/// What this node's detector knows about one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    /// The peer.
    pub id: NodeId,
    /// Is it silent beyond the limit, for us?
    pub is_suspect: bool,
    /// Do we hear it, and does it say that it hears us?
    pub is_two_way: bool,
    /// Whom it suspects.
    pub suspects: Vec<NodeId>,
    /// The term of the last entry of its log.
    pub last_term: Term,
    /// The index of the last entry of its log.
    pub last_index: LogIndex,
    /// Its election priority; a witness has −1.
    pub priority: i64,
}

/// What decides between two candidates: more is better.
pub(crate) type Merit = (Term, LogIndex, i64, Reverse<NodeId>);

/// This member's own part in an election.
pub(crate) struct Standing<'a> {
    pub merit: Merit,
    pub voters: &'a [NodeId],
    /// Is it a voter that follows somebody, or nobody?
    pub may_stand: bool,
    /// Does it need no contact to a majority (a planted bug)?
    pub is_careless: bool,
}

pub(crate) struct Election {
    own: NodeId,
    step: Duration,
    peers: BTreeMap<NodeId, PeerFacts>,
    /// The last leader that this member followed and that no other has replaced.
    followed: Option<NodeId>,
    trial: Option<Trial>,
}

/// Our leader is suspect, and we may stand.
struct Trial {
    accused: NodeId,
    since: Instant,
    /// Voters that report the same suspicion.
    seconds: usize,
    has_stood: bool,
    next_at: Instant,
}

impl Election {
    pub(crate) fn new(own: NodeId, step: Duration) -> Self {
        Election { own, step, peers: BTreeMap::new(), followed: None, trial: None }
    }

    pub(crate) fn on_peers(&mut self, peers: Vec<PeerFacts>) {
        self.peers = peers.into_iter().map(|facts| (facts.id, facts)).collect();
    }

    /// Whom the library follows.
    pub(crate) fn on_leader(&mut self, leader: Option<NodeId>) {
        if leader.is_some() {
            self.followed = leader.filter(|leader| *leader != self.own);
        }
    }

    /// Another candidate has our voice: let it try before we stand ourselves. Also after our own requests have
    /// left: let the answers come.
    pub(crate) fn postpone(&mut self, now: Instant, voters: usize) {
        let wait = self.period(voters);
        if let Some(trial) = &mut self.trial {
            trial.has_stood = true;
            trial.next_at = trial.next_at.max(now + wait);
        }
    }

    pub(crate) fn has_trial(&self) -> bool {
        self.trial.is_some()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.trial.as_ref().map(|trial| trial.next_at)
    }

    pub(crate) fn is_suspect(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|facts| facts.is_suspect)
    }

    pub(crate) fn facts(&self, node: NodeId) -> Option<&PeerFacts> {
        self.peers.get(&node)
    }

    /// Looks at the situation again; true: stand now.
    pub(crate) fn review(&mut self, now: Instant, own: &Standing<'_>) -> bool {
        let accused = self.followed.filter(|leader| self.is_suspect(*leader));
        let is_able = own.may_stand && (own.is_careless || self.has_majority(own.voters));
        let Some(accused) = accused.filter(|_| is_able) else {
            self.trial = None;
            return false;
        };
        let rank = self.rank(own);
        let head_start = self.step * u32::try_from(rank).unwrap_or(u32::MAX);
        let period = self.period(own.voters.len());
        let seconds = self.seconds(accused, own.voters);

        let trial = match &mut self.trial {
            Some(trial) if trial.accused == accused => trial,
            Some(_) | None => {
                self.trial.insert(Trial { accused, since: now, seconds, has_stood: false, next_at: now + head_start })
            }
        };
        if !trial.has_stood {
            trial.next_at = trial.since + head_start;
        }
        // The voters that had not noticed yet ignored us; one of them has noticed.
        if seconds > trial.seconds && rank == 0 {
            trial.next_at = now;
        }
        trial.seconds = seconds;
        if now < trial.next_at {
            return false;
        }
        trial.has_stood = true;
        trial.next_at = now + period;
        true
    }

    fn period(&self, voters: usize) -> Duration {
        self.step * u32::try_from(voters.max(2)).unwrap_or(u32::MAX)
    }

    fn reachable<'a>(&'a self, voters: &'a [NodeId]) -> impl Iterator<Item = &'a PeerFacts> {
        voters
            .iter()
            .filter(|id| **id != self.own)
            .filter_map(|id| self.peers.get(id))
            .filter(|facts| facts.is_two_way && !facts.is_suspect)
    }

    fn has_majority(&self, voters: &[NodeId]) -> bool {
        1 + self.reachable(voters).count() > voters.len() / 2
    }

    fn rank(&self, own: &Standing<'_>) -> usize {
        self.reachable(own.voters)
            .filter(|peer| (peer.last_term, peer.last_index, peer.priority, Reverse(peer.id)) > own.merit)
            .count()
    }

    fn seconds(&self, accused: NodeId, voters: &[NodeId]) -> usize {
        self.reachable(voters).filter(|peer| peer.suspects.contains(&accused)).count()
    }
}
