//! Is there contact with one peer, in which life, and what does it say?
//!
//! A peer is reachable while beats of its current session come in over any link and prove that it hears us: each
//! names the last beat that it received. A peer that is not heard, or does not hear, is late after a short time and
//! then pinged, suspect after the limit of freshness. The age of a proof is counted from the moment at which the beat
//! that it names was sent, less what a healthy peer needs to answer; so records, delayed beats and the word of a deaf
//! node hide no loss, and our own lateness accuses nobody. A session is one life of the peer's pulse, named by a
//! salt. It counts only once a beat under it has echoed a beat of ours: so records of an earlier life prove nothing.
//!
//! In: beats whose seal was intact, ticks in detector time. Out: verdict, measured limit, what the peer says.
//! Not here: what to send and when (`pulse.rs`), one path (`link.rs`).

use std::time::Duration;

use model::{ConfigVersion, Incarnation, Instant, LinkId, NodeId};

use crate::link::{Jitter, Link};
use crate::timebase::{FdTime, TimeBase};
use crate::window::Arrival;
use crate::{
    Age, Beat, BeatFlags, BeatHeader, BeatKind, Facts, Health, LinkReport, LinkState, Path, PeerOrder, PeerReport,
    Received, Rival, Timing, Verdict,
};

/// Earlier salts that are remembered, so that a late beat of an ended life is not taken for a new one.
const RETIRED: usize = 4;

/// Beats of another life, each sent later than all before, that prove a second machine of the same identity, if the
/// first and the last of them are further apart than a life can end and be silent.
const RIVAL_BEATS: u8 = 3;

/// A rival that is certain counts for this long after it was last heard; one that is not for two limits of freshness.
const RIVAL_MEMORY: Duration = Duration::from_secs(5);

/// A peer announces pauses of at most this length.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Two stalls of a peer within this time stretch its limit.
const STALL_MEMORY: Duration = Duration::from_secs(30);

/// A member as seen from here.
pub(crate) struct Peer {
    id: NodeId,
    agreed: Option<Incarnation>,
    usable: usize,
    links: Vec<Link>,
    session: Option<Session>,
    /// Sessions that began.
    sessions: u32,
    retired: [Option<Retired>; RETIRED],
    rival: Option<Heard>,
    named_at: FdTime,
    heard_at: Option<FdTime>,
    pause: Duration,
    verdict: Verdict,
    reachable_since: Option<Instant>,
    limit: Duration,
    /// How old a proof may be beyond `answer_time`; as `limit`, but measured over both directions.
    proof_limit: Duration,
    /// How old a proof is that comes from a healthy peer, less the round trip.
    answer_time: Duration,
    jitter: Jitter,
    stalls: Stalls,
    ping_round: u32,
    pinged_at: Option<Instant>,
    pong_due: Option<u32>,
    view: View,
    reported: Option<Signature>,
    reported_at: Instant,
    is_heard_since_report: bool,
}

/// One life of the peer's pulse.
#[derive(Clone, Copy)]
struct Session {
    salt: u128,
    incarnation: Incarnation,
    sent_at_us: u64,
    pong_round: u32,
}

/// A life of the peer's pulse that another one replaced.
#[derive(Clone, Copy)]
struct Retired {
    salt: u128,
    incarnation: Incarnation,
    /// When its newest beat was sent, on its own time line.
    sent_at_us: u64,
}

/// Another life under the same name, which is heard next to the one of the session.
#[derive(Clone, Copy)]
struct Heard {
    salt: u128,
    incarnation: Incarnation,
    /// When its newest beat was sent, on its own time line.
    sent_at_us: u64,
    first_at: FdTime,
    last_at: FdTime,
    /// Beats heard, each newer than all before.
    beats: u8,
}

/// What the peer said last.
#[derive(Default)]
struct View {
    facts: Facts,
    flags: BeatFlags,
    ages: Vec<Age>,
    suspects: u128,
    hears: u128,
    two_lives: Vec<NodeId>,
    health: Health,
}

/// When the peer said that it had stood still.
#[derive(Clone, Copy, Default)]
struct Stalls {
    latest: Option<FdTime>,
    is_repeated: bool,
    worst: Duration,
}

/// Everything whose change is reported at once.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Signature {
    incarnation: Incarnation,
    verdict: Verdict,
    is_heard: bool,
    is_two_way: bool,
    reachable_since: Option<Instant>,
    limit: Duration,
    rival: Option<Rival>,
    flags: BeatFlags,
    suspects: u128,
    /// A digest of the ids.
    two_lives: u128,
    hears: u128,
    links_up: u128,
    links_confirming: u128,
    links_two_way: u128,
    links_as_agreed: u128,
    /// Whose addresses are those.
    agreed: Option<ConfigVersion>,
    facts: Facts,
    /// How many limits of sickness its worker and its disk have reached.
    sickness: (u8, u8),
}

/// What a beat was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// Its salt has not proven to be of this life.
    Unproven,
    /// Its salt was replaced by a newer one.
    Retired,
    /// It is of another life than the agreed one, which is heard too.
    Rival,
    /// It had been seen before.
    Replayed,
    /// Its number is further ahead than a sender comes.
    Absurd,
    /// It was overtaken by a newer one.
    Overtaken,
    /// The peer lives. `is_new_life`: this beat proved its salt.
    Evidence { is_new_life: bool },
}

impl Peer {
    /// A member that was never heard. `sent`: for each link, the number of the next beat, where some were sent.
    pub fn new(order: &PeerOrder, time: &TimeBase, timing: &Timing, sent: &[u64]) -> Self {
        let links = sent.iter().map(|&next_seq| Link::new(next_seq)).collect();
        let mut peer = Peer {
            id: order.id,
            agreed: None,
            usable: 0,
            links,
            session: None,
            sessions: 0,
            retired: [None; RETIRED],
            rival: None,
            named_at: time.fd(),
            heard_at: None,
            pause: Duration::ZERO,
            verdict: Verdict::Unknown,
            reachable_since: None,
            limit: timing.t_to,
            proof_limit: timing.t_to,
            answer_time: timing.delta + timing.jitter,
            jitter: Jitter::new(),
            stalls: Stalls::default(),
            ping_round: 0,
            pinged_at: None,
            pong_due: None,
            view: View::default(),
            reported: None,
            reported_at: time.now(),
            is_heard_since_report: false,
        };
        peer.on_order(order);
        peer
    }

    /// Takes what is agreed about it; returns whether it has more links than before.
    pub fn on_order(&mut self, order: &PeerOrder) -> bool {
        let before = self.usable;
        self.agreed = order.incarnation;
        self.usable = usize::from(order.links);
        while self.links.len() < self.usable {
            self.links.push(Link::new(1));
        }
        self.usable > before
    }

    /// Takes other timers; what was measured before is measured again.
    pub fn on_timing(&mut self, timing: &Timing) {
        (self.limit, self.proof_limit) = (timing.t_to, timing.t_to);
        self.answer_time = timing.delta + timing.jitter;
    }

    /// Other addresses are agreed: nothing is known about them.
    pub fn forget_as_agreed(&mut self) {
        self.links.iter_mut().for_each(Link::forget_as_agreed);
    }

    /// Has it lately been heard over this link between the agreed addresses?
    pub fn is_heard_as_agreed(&self, link: LinkId, now: FdTime) -> bool {
        self.links.get(usize::from(link.0)).is_some_and(|link| link.is_heard_as_agreed(now, self.pause + self.limit))
    }

    pub fn id(&self) -> NodeId {
        self.id
    }

    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The links that lead to it.
    pub fn links(&self) -> impl ExactSizeIterator<Item = LinkId> + use<> {
        (0..self.usable).map(|n| LinkId(n as u8))
    }

    /// A link that leads to it.
    pub fn link(&mut self, link: LinkId) -> Option<&mut Link> {
        self.links.get_mut(usize::from(link.0)).filter(|_| usize::from(link.0) < self.usable)
    }

    /// For every link, the number of the next beat.
    pub fn sent(&self) -> Vec<u64> {
        self.links.iter().map(Link::next_seq).collect()
    }

    /// The salt of its current session.
    pub fn salt(&self) -> Option<u128> {
        self.session.map(|session| session.salt)
    }

    /// The longest smoothed round trip of its links.
    pub fn rtt_max(&self) -> Duration {
        self.links.iter().filter_map(Link::rtt).max().unwrap_or(Duration::ZERO)
    }

    /// Detector time since there was contact both ways, beyond the pause that it announced; none if never.
    pub fn age(&self, now: FdTime) -> Option<Duration> {
        let (heard, proven) = (self.heard_at?, self.proven_at()?);
        Some(now.since(heard).max(now.since(proven)).saturating_sub(self.pause))
    }

    /// When the newest beat was sent that it is known to have received, and what a healthy peer takes to answer.
    fn proven_at(&self) -> Option<FdTime> {
        let newest = self.links[..self.usable].iter().filter_map(Link::proven_at).max()?;
        Some(newest.plus(self.answer_time + self.rtt_max()))
    }

    /// Has it been seen under its current salt, so that opening the beat is of no use?
    ///
    /// Of a beat that comes over several paths, the copy between the agreed addresses may be the last one: it counts
    /// where none has come between them for `pause_max`.
    pub fn has_seen(&self, now: FdTime, header: &BeatHeader, path: Path, pause_max: Duration) -> bool {
        self.session.is_some_and(|session| session.salt == header.salt)
            && self.links.get(usize::from(header.link.0)).is_some_and(|link| {
                let proves = path == Path::Agreed && link.is_recent(header.seq);
                let is_enough = !proves || link.is_heard_as_agreed(now, pause_max);
                link.received().has_seen(header.seq) && is_enough
            })
    }

    /// Takes a beat that came over a link that leads to it. During `grace` its lateness may be our own. `agreed`: the
    /// version of the cluster file that is applied here, and whose addresses are used.
    pub fn on_beat(
        &mut self,
        time: &TimeBase,
        timing: &Timing,
        own_salt: u128,
        agreed: Option<ConfigVersion>,
        grace: FdTime,
        received: Received,
    ) -> Worth {
        let Received { arrival, header, beat, path } = received;
        let silence_max = self.limit / 2;
        let at = time.of_arrival(arrival);
        let Some(link) = self.links.get_mut(usize::from(header.link.0)) else { return Worth::Unproven };
        let proof = link.proof(beat.echo, own_salt, at);
        let is_new_life = self.session.is_none_or(|session| session.salt != header.salt);
        let is_proven = proof.is_some_and(|proof| at.since(proof.sent_at) < timing.t_to);
        if is_new_life {
            let retired = self.retired.iter().flatten().find(|retired| retired.salt == header.salt).copied();
            if let Some(retired) = retired {
                self.hear_rival(at, timing, &header, &beat, retired.sent_at_us);
                // The agreed life goes on after another one took its place for a while.
                let goes_on = is_proven && retired.incarnation == beat.incarnation && self.is_usurped(&beat);
                if !goes_on || beat.sent_at_us <= retired.sent_at_us {
                    return Worth::Retired;
                }
            } else if proof.is_none() {
                return Worth::Unproven;
            } else if self.is_agreed_life_heard(at, timing, &beat) {
                self.hear_rival(at, timing, &header, &beat, 0);
                return Worth::Rival;
            }
            self.begin_session(&header.salt, &beat);
            self.sessions = self.sessions.saturating_add(1);
        }
        let link = &mut self.links[usize::from(header.link.0)];
        // Of several copies, not the first one may be the one that came between the agreed addresses.
        if path == Path::Agreed && link.is_recent(header.seq) {
            link.on_heard_as_agreed(at);
        }
        match link.take(header.seq, at, silence_max, is_proven) {
            Arrival::Newest => {}
            Arrival::Overtaken => return Worth::Overtaken,
            Arrival::Seen => return Worth::Replayed,
            Arrival::Absurd => return Worth::Absurd,
        }
        link.on_beat(at, proof, timing.delta * 2 + timing.jitter, silence_max);
        link.on_loss_there(beat.loss_permille);
        if beat.flags.has(BeatFlags::HEARD_AS_AGREED) && agreed == Some(beat.facts.config_version) {
            link.on_told_as_agreed(at);
        }
        if time.fd() >= grace {
            self.jitter.on_beat(arrival, &beat);
        }
        self.on_evidence(time, timing, at, beat);
        Worth::Evidence { is_new_life }
    }

    /// Does another life than the agreed one have the session, though this beat is of the agreed one?
    fn is_usurped(&self, beat: &Beat) -> bool {
        let is_other = self.session.is_some_and(|session| Some(session.incarnation) != self.agreed);
        is_other && self.agreed == Some(beat.incarnation)
    }

    /// Is this beat of another life than the agreed one, which has been heard within the limit? Then two machines have
    /// one name, or the agreed one has ended just now.
    fn is_agreed_life_heard(&self, at: FdTime, timing: &Timing, beat: &Beat) -> bool {
        self.session.is_some_and(|session| {
            Some(session.incarnation) == self.agreed
                && session.incarnation != beat.incarnation
                && self.heard_at.is_some_and(|heard| at.since(heard) < timing.t_to)
        })
    }

    /// Notes a beat of a life that has not the session, unless it is one of the same life, or was sent no later than
    /// `sent_at_us` or another one before.
    fn hear_rival(&mut self, at: FdTime, timing: &Timing, header: &BeatHeader, beat: &Beat, sent_at_us: u64) {
        if self.session.is_none_or(|session| session.incarnation == beat.incarnation) || beat.sent_at_us <= sent_at_us {
            return;
        }
        let new = Heard {
            salt: header.salt,
            incarnation: beat.incarnation,
            sent_at_us: beat.sent_at_us,
            first_at: at,
            last_at: at,
            beats: 1,
        };
        self.rival = Some(match self.rival.filter(|rival| rival.salt == header.salt && rival.counts(at, timing)) {
            None => new,
            Some(rival) if beat.sent_at_us <= rival.sent_at_us => rival,
            Some(rival) => Heard { first_at: rival.first_at, beats: rival.beats.saturating_add(1), ..new },
        });
    }

    fn begin_session(&mut self, salt: &u128, beat: &Beat) {
        for retired in &mut self.retired {
            if retired.is_some_and(|retired| retired.salt == *salt) {
                *retired = None;
            }
        }
        if self.rival.is_some_and(|rival| rival.incarnation == beat.incarnation) {
            self.rival = None;
        }
        if let Some(ended) = self.session {
            self.retired.rotate_right(1);
            let Session { salt, incarnation, sent_at_us, .. } = ended;
            self.retired[0] = Some(Retired { salt, incarnation, sent_at_us });
            if ended.incarnation != beat.incarnation {
                self.reachable_since = None;
            }
        }
        self.session = Some(Session { salt: *salt, incarnation: beat.incarnation, sent_at_us: 0, pong_round: 0 });
        self.jitter = Jitter::new();
        self.pong_due = None;
        for link in &mut self.links {
            link.begin_session();
        }
    }

    fn on_evidence(&mut self, time: &TimeBase, timing: &Timing, at: FdTime, beat: Beat) {
        self.heard_at = self.heard_at.max(Some(at));
        self.pause = Duration::from_millis(u64::from(beat.next_by_ms)).saturating_sub(timing.delta).min(PAUSE_MAX);
        self.is_heard_since_report = true;
        // It runs. Whether it hears us is another question, and a verdict that stands waits for the answer.
        if self.age(at).is_some_and(|age| age < timing.t_late) {
            self.pinged_at = None;
            match self.verdict {
                Verdict::Unknown | Verdict::Suspect => self.reachable_since = Some(time.now()),
                Verdict::Reachable | Verdict::Late => {}
            }
            self.verdict = Verdict::Reachable;
            self.reachable_since = self.reachable_since.or(Some(time.now()));
        }
        let Some(session) = &mut self.session else { return };
        match beat.kind {
            BeatKind::Ping { round } if round > session.pong_round => {
                session.pong_round = round;
                self.pong_due = Some(round);
            }
            BeatKind::Beat | BeatKind::Ping { .. } | BeatKind::Pong { .. } => {}
        }
        session.incarnation = beat.incarnation;
        if beat.sent_at_us < session.sent_at_us {
            return;
        }
        session.sent_at_us = beat.sent_at_us;
        let has_stalled = BeatFlags::JUST_STALLED;
        if beat.flags.has(has_stalled) && !self.view.flags.has(has_stalled) {
            self.stalls.on_stall(at, Duration::from_millis(u64::from(beat.own_stall_ms)));
        }
        self.view.facts = beat.facts;
        self.view.flags = beat.flags.without(BeatFlags::HEARD_AS_AGREED);
        self.view.ages = beat.ages;
        self.view.two_lives = beat.two_lives.unwrap_or_default();
        self.view.health = beat.health.unwrap_or_default();
    }

    /// Sets, from the ages it reports, whom it hears: bit n is the n-th of `ids`.
    pub fn on_ages(&mut self, ids: impl Fn(NodeId) -> Option<usize>, t_to: Duration) {
        (self.view.suspects, self.view.hears) = (0, 0);
        for age in &self.view.ages {
            let Some(bit) = ids(age.node).and_then(|n| 1u128.checked_shl(n as u32)) else { continue };
            if Duration::from_millis(10) * u32::from(age.units) >= t_to {
                self.view.suspects |= bit;
            } else {
                self.view.hears |= bit;
            }
        }
    }

    /// Looks at the clock. A verdict against the peer waits for the end of `grace`, after an own stall.
    pub fn on_tick(&mut self, now: FdTime, timing: &Timing, grace: FdTime) {
        self.verdict = match self.verdict {
            Verdict::Unknown if now >= self.unknown_until(timing, grace) => Verdict::Suspect,
            Verdict::Reachable | Verdict::Late if self.suspect_at(grace).is_some_and(|at| now >= at) => {
                Verdict::Suspect
            }
            Verdict::Reachable if self.late_at(timing).is_some_and(|at| now >= at) => Verdict::Late,
            verdict => verdict,
        };
        match self.verdict {
            Verdict::Suspect => (self.reachable_since, self.pinged_at) = (None, None),
            Verdict::Unknown | Verdict::Reachable | Verdict::Late => {}
        }
    }

    /// When the clock next changes the verdict.
    pub fn verdict_due(&self, timing: &Timing, grace: FdTime) -> Option<FdTime> {
        match self.verdict {
            Verdict::Unknown => Some(self.unknown_until(timing, grace)),
            Verdict::Reachable => self.late_at(timing),
            Verdict::Late => self.suspect_at(grace),
            Verdict::Suspect => None,
        }
    }

    fn unknown_until(&self, timing: &Timing, grace: FdTime) -> FdTime {
        self.named_at.plus(timing.t_to * 4).max(grace)
    }

    fn late_at(&self, timing: &Timing) -> Option<FdTime> {
        Some(self.heard_at?.min(self.proven_at()?).plus(self.pause + timing.t_late))
    }

    fn suspect_at(&self, grace: FdTime) -> Option<FdTime> {
        let unheard = self.heard_at?.plus(self.pause + self.limit);
        let unproven = self.proven_at()?.plus(self.pause + self.proof_limit);
        Some(unheard.min(unproven).max(grace))
    }

    /// Takes links down that are silent.
    pub fn check_links(&mut self, now: FdTime) {
        for link in &mut self.links {
            link.on_tick(now, self.limit / 2, self.limit);
        }
    }

    /// Measures anew for how long it may be silent. `is_observer_slow`: this node stands still too often itself.
    pub fn review(&mut self, now: FdTime, timing: &Timing, is_observer_slow: bool) {
        let up = || self.links[..self.usable].iter().filter(|link| link.is_up());
        if up().next().is_none() {
            return;
        }
        let limit = |loss: f64| {
            let limit = timing.freshness(loss, self.jitter.measured().max(timing.jitter)) + self.stalls.allowance(now);
            let limit = if is_observer_slow { limit.max(timing.t_to * 2) } else { limit };
            limit.min(timing.t_to_max())
        };
        let heard = limit(up().map(|link| link.received().loss_upper_bound()).product());
        let proven = limit(up().map(Link::cycle_loss).product());
        (self.limit, self.proof_limit) = (heard, proven);
    }

    /// Begins a round of pings if one is due; returns its number.
    pub fn ping(&mut self, now: Instant, spacing: Duration) -> Option<u32> {
        let is_due = self.verdict == Verdict::Late && self.pinged_at.is_none_or(|at| now >= at + spacing);
        is_due.then(|| {
            self.pinged_at = Some(now);
            self.ping_round = self.ping_round.wrapping_add(1).max(1);
            self.ping_round
        })
    }

    /// When the next round of pings is due.
    pub fn ping_due(&self, now: Instant, spacing: Duration) -> Option<Instant> {
        (self.verdict == Verdict::Late).then(|| self.pinged_at.map_or(now, |at| at + spacing))
    }

    /// The round of pings to answer.
    pub fn take_pong(&mut self) -> Option<u32> {
        self.pong_due.take()
    }

    /// Is there a round of pings to answer?
    pub fn owes_pong(&self) -> bool {
        self.pong_due.is_some()
    }

    /// Another life under its name that is heard next to the one of the session.
    pub fn rival(&self, now: FdTime, timing: &Timing) -> Option<Rival> {
        let rival = self.rival.filter(|rival| rival.counts(now, timing))?;
        Some(Rival { incarnation: rival.incarnation, is_certain: rival.is_certain(timing) })
    }

    /// Does some link carry beats both ways?
    pub fn is_two_way(&self, now: FdTime) -> bool {
        self.verdict != Verdict::Suspect && self.links.iter().any(|link| link.is_two_way(now, self.proof_age_max()))
    }

    /// How old the proof of a link may be.
    fn proof_age_max(&self) -> Duration {
        self.answer_time + self.rtt_max() + self.proof_limit
    }

    /// Do its beats arrive, whether or not it hears ours?
    fn is_heard(&self, now: FdTime) -> bool {
        self.heard_at.is_some_and(|at| now < at.plus(self.pause + self.limit))
    }

    /// Makes the next question for a report answer with one: the meaning of `suspects` and `hears` has changed.
    pub fn forget_report(&mut self) {
        self.reported = None;
    }

    /// What to tell about it, if something changed; slow changes once a second. `ids` names the bits of `on_ages`.
    pub fn report(
        &mut self,
        time: &TimeBase,
        timing: &Timing,
        agreed: Option<ConfigVersion>,
        ids: impl Fn(usize) -> Option<NodeId>,
    ) -> Option<PeerReport> {
        let signature = self.signature(time.fd(), timing, agreed);
        let is_new = self.reported.is_none_or(|reported| reported.differs(&signature));
        let is_slow = self.is_heard_since_report && time.now().since(self.reported_at) >= Duration::from_secs(1);
        if !is_new && !is_slow {
            return None;
        }
        self.reported = Some(signature);
        self.reported_at = time.now();
        self.is_heard_since_report = false;
        let nodes = |bits: u128| (0..128).filter(|n| bits >> n & 1 == 1).filter_map(&ids).collect();
        let links = self.links[..self.usable].iter().enumerate();
        Some(PeerReport {
            id: self.id,
            incarnation: signature.incarnation,
            verdict: signature.verdict,
            is_heard: signature.is_heard,
            is_two_way: signature.is_two_way,
            sessions: self.sessions,
            reachable_since: signature.reachable_since,
            limit: signature.limit,
            facts: signature.facts,
            rival: signature.rival,
            two_lives: self.view.two_lives.clone(),
            suspects: nodes(signature.suspects),
            hears: nodes(signature.hears),
            flags: self.view.flags,
            health: self.view.health,
            links: links
                .map(|(n, link)| LinkReport {
                    link: LinkId(n as u8),
                    state: link.state(),
                    is_two_way: signature.links_two_way >> n & 1 == 1,
                    proven: signature.agreed.filter(|_| signature.links_as_agreed >> n & 1 == 1),
                    rtt: link.rtt(),
                    loss_permille: link.received().loss_permille(),
                })
                .collect(),
        })
    }

    fn signature(&self, now: FdTime, timing: &Timing, agreed: Option<ConfigVersion>) -> Signature {
        let those = |matches: &dyn Fn(&Link) -> bool| {
            let links = self.links[..self.usable].iter().enumerate().filter(|(_, link)| matches(link));
            links.fold(0, |bits, (n, _)| bits | 1u128.checked_shl(n as u32).unwrap_or(0))
        };
        let (proof_age_max, silence_max) = (self.proof_age_max(), self.pause + self.limit);
        Signature {
            incarnation: self.session.map(|s| s.incarnation).or(self.agreed).unwrap_or_default(),
            verdict: self.verdict,
            is_heard: self.is_heard(now),
            is_two_way: self.is_two_way(now),
            reachable_since: self.reachable_since,
            limit: self.limit,
            rival: self.rival(now, timing),
            flags: self.view.flags.without(BeatFlags::JUST_STALLED),
            suspects: self.view.suspects,
            hears: self.view.hears,
            two_lives: self.view.two_lives.iter().fold(0, |bits, id| bits | 1u128 << (id.0 % 128)),
            links_up: those(&|link| link.state() == LinkState::Up),
            links_confirming: those(&|link| link.state() == LinkState::Confirming),
            links_two_way: those(&|link| link.is_two_way(now, proof_age_max)),
            links_as_agreed: those(&|link| link.is_as_agreed(now, silence_max)),
            agreed,
            facts: self.view.facts,
            sickness: (timing.sickness(self.view.health.worker), timing.sickness(self.view.health.disk)),
        }
    }
}

impl Signature {
    /// Does `other` differ in more than what is applied?
    fn differs(&self, other: &Signature) -> bool {
        let applied = self.facts.applied;
        Signature { facts: Facts { applied, ..other.facts }, ..*other } != *self
    }
}

impl Heard {
    /// Was it heard lately enough to count?
    fn counts(&self, now: FdTime, timing: &Timing) -> bool {
        let memory = if self.is_certain(timing) { RIVAL_MEMORY } else { timing.t_to * 2 };
        now.since(self.last_at) < memory
    }

    /// Do both lives go on? A life that has just ended was heard a moment ago too, but not for as long.
    fn is_certain(&self, timing: &Timing) -> bool {
        self.beats >= RIVAL_BEATS && self.last_at.since(self.first_at) > timing.t_to
    }
}

impl Stalls {
    fn on_stall(&mut self, at: FdTime, length: Duration) {
        self.is_repeated = self.latest.is_some_and(|latest| at.since(latest) < STALL_MEMORY);
        self.worst = if self.is_repeated { self.worst.max(length) } else { length };
        self.latest = Some(at);
    }

    /// What a peer that stands still again and again is given beyond the limit.
    fn allowance(&self, now: FdTime) -> Duration {
        let is_recent = self.latest.is_some_and(|latest| now.since(latest) < STALL_MEMORY);
        if self.is_repeated && is_recent { self.worst } else { Duration::ZERO }
    }
}
