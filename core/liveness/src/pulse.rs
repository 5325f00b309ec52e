//! Whom do I hear, and what must be sent so that others hear me?
//!
//! A beat goes to every peer over every link each Δ, the links staggered so that some beat passes every Δ/L. A peer
//! that is late is pinged fast over all links; a changed verdict or log goes out at once. What the peers' beats say
//! becomes reports.
//!
//! The driver first feeds every datagram it has, then one `Tick`, all with the same `now`: verdicts fall in ticks
//! alone, so that none falls while its refutation waits in a socket.
//!
//! In: beats, orders, socket drops, ticks. Out: beats to send, reports.
//! Not here: one peer (`peer.rs`), one path (`link.rs`), what the cluster concludes (`judge.rs`), seal and sockets.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{ConfigVersion, Instant, LinkId, NodeId};

use crate::peer::{Peer, Worth};
use crate::timebase::{FdTime, TimeBase};
use crate::{
    Age, Beat, BeatFlags, BeatHeader, BeatKind, Echo, Facts, Health, OwnIdentity, Path, PeerOrder, PulseOrder,
    PulseReport, Timing, Verdict,
};

/// Beats beyond the rhythm follow each other at least this far apart.
const ANNOUNCE_SPACING: Duration = Duration::from_millis(5);

/// An unproven sender is answered at most this often on one link.
const ANSWER_SPACING: Duration = Duration::from_millis(10);

/// Beats that say that their sender had stood still.
const STALL_BEATS: u8 = 4;

/// Peers that are pinged at the same time.
const PINGED_MAX: usize = 16;

/// How often limits are measured anew.
const REVIEW_EVERY: Duration = Duration::from_secs(1);

/// One node's failure detector.
pub struct Pulse {
    own: OwnIdentity,
    timing: Timing,
    voters: Vec<NodeId>,
    facts: Facts,
    is_leaving: bool,
    /// Whose addresses the driver uses.
    addresses: ConfigVersion,
    time: TimeBase,
    /// The ids of `peers`, ascending, in the same places.
    ids: Vec<NodeId>,
    peers: Vec<Peer>,
    /// Numbers already used towards members that are gone: a nonce is never used twice.
    sent_to_gone: BTreeMap<NodeId, Vec<u64>>,
    slot: Slot,
    /// No verdict against anybody before this, after an own stall.
    grace: FdTime,
    stall_beats: StallBeats,
    announcement: Announcement,
    review_at: Instant,
    is_isolated: bool,
    drops: u64,
    progress: Option<Watched>,
    counters: Counters,
    deadline: Instant,
}

/// What the pulse is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nearly every input is a beat")]
pub enum PulseInput {
    /// A beat came in, and its seal was intact.
    Received(Received),
    /// The worker has a new order.
    Order(PulseOrder),
    /// The kernel's counter of datagrams dropped for lack of buffer, summed over the sockets; told when it was read.
    SocketDrops {
        /// Since the sockets were opened.
        count: u64,
    },
    /// How far the rest of the node has come; fed before every `Tick`. Costs nothing and changes no deadline.
    Progress(Progress),
    /// The deadline has come while more waits in the sockets: what is due is sent, and nobody is judged.
    SendDue,
    /// The deadline has come, or all that was received has been fed.
    Tick,
}

/// How far the rest of the node has come: counters that only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How often the worker's loop has come round.
    pub turns: u64,
    /// Writes that were given to the disk.
    pub writes_begun: u64,
    /// Writes that became durable.
    pub writes_done: u64,
}

/// A beat as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// When the kernel had it; not later than the `now` of the step.
    pub arrival: Instant,
    /// Its clear part, authenticated.
    pub header: BeatHeader,
    /// Its sealed part.
    pub beat: Beat,
    /// Between which addresses it came.
    pub path: Path,
}

/// What the pulse wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nearly every action is a beat")]
pub enum PulseAction {
    /// Seal this and send it over `link`.
    Send {
        /// To whom.
        to: NodeId,
        /// Over which link.
        link: LinkId,
        /// The clear part.
        header: BeatHeader,
        /// The part to seal.
        beat: Beat,
    },
    /// Tell the worker.
    Report(PulseReport),
}

/// What was refused since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Beats of another cluster.
    pub foreign: u64,
    /// Beats for another node.
    pub misaddressed: u64,
    /// Beats of a node that is no member, or over a link that does not lead to it.
    pub unknown_sender: u64,
    /// Beats that had been seen before, or too old to tell.
    pub replayed: u64,
    /// Beats whose number is further ahead than a sender comes.
    pub absurd: u64,
    /// Datagrams that are no beat, or no longer as their sender sealed them.
    pub broken: u64,
    /// Beats under a salt that a newer one of the same sender has replaced.
    pub retired: u64,
    /// Beats under a salt that had not yet proven to be of this life; it may prove it later.
    pub unproven: u64,
    /// Datagrams that the kernel dropped for lack of buffer.
    pub dropped: u64,
}

/// Since when the counters of progress stand still.
struct Watched {
    progress: Progress,
    turned_at: FdTime,
    written_at: FdTime,
}

/// The rhythm: one link after the other.
struct Slot {
    at: Instant,
    link: u8,
}

/// The beats after an own stall.
struct StallBeats {
    left: u8,
    at: Instant,
}

/// A beat to everybody, out of the rhythm.
struct Announcement {
    is_due: bool,
    not_before: Instant,
}

impl Pulse {
    /// A pulse that has heard nobody. Its first deadline is `now`.
    pub fn new(now: Instant, own: OwnIdentity, order: PulseOrder) -> Self {
        let mut pulse = Pulse {
            own,
            timing: order.timing,
            voters: Vec::new(),
            facts: order.facts,
            is_leaving: order.is_leaving,
            addresses: order.addresses,
            time: TimeBase::new(now),
            ids: Vec::new(),
            peers: Vec::new(),
            sent_to_gone: BTreeMap::new(),
            slot: Slot { at: now, link: 0 },
            grace: FdTime::default(),
            stall_beats: StallBeats { left: 0, at: now },
            announcement: Announcement { is_due: true, not_before: now },
            review_at: now,
            is_isolated: false,
            drops: 0,
            progress: None,
            counters: Counters::default(),
            deadline: now,
        };
        pulse.on_order(order);
        pulse.slot.at = now + pulse.slot_length();
        pulse
    }

    /// Feeds one input that happened at `now`; returns what the caller must do about it.
    ///
    /// Feed what was received before the `Tick` of the same wake. Extra ticks are harmless.
    #[must_use]
    pub fn step(&mut self, now: Instant, input: PulseInput) -> Vec<PulseAction> {
        let mut actions = Vec::new();
        if let Some(late) = self.time.wake(now, self.timing.g_max) {
            self.on_late_wake(late, &mut actions);
        }
        match input {
            PulseInput::Received(received) => self.on_received(received, &mut actions),
            PulseInput::Order(order) => self.on_order(order),
            PulseInput::SocketDrops { count } => self.on_drops(count),
            PulseInput::Progress(progress) => {
                self.on_progress(progress);
                return actions;
            }
            PulseInput::SendDue => self.send_due(&mut actions),
            PulseInput::Tick => self.on_tick(&mut actions),
        }
        self.announce(&mut actions);
        self.deadline = self.next_deadline();
        self.time.plan(self.deadline);
        actions
    }

    /// When `Tick` next has work to do; not later than one interval of the rhythm.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Is every peer heard as usual, so that what arrives may wait for the next deadline?
    ///
    /// With the time of arrival from the kernel, beats that are read a little later prove as much. As soon as a peer
    /// is late, every one counts at once: an answer, the suspicion of another node.
    pub fn is_calm(&self) -> bool {
        self.peers.iter().all(|peer| peer.verdict() == Verdict::Reachable)
    }

    /// What was refused since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// For how long the rest of this node has stood still, the stalls of this thread not counted.
    pub fn health(&self) -> Health {
        let age = |since: FdTime| self.time.fd().since(since);
        self.progress.as_ref().map_or(Health::default(), |watched| {
            let is_writing = watched.progress.writes_begun > watched.progress.writes_done;
            let disk = if is_writing { age(watched.written_at) } else { Duration::ZERO };
            Health { worker: age(watched.turned_at), disk }
        })
    }

    fn on_progress(&mut self, progress: Progress) {
        let fd = self.time.fd();
        let Some(watched) = &mut self.progress else {
            self.progress = Some(Watched { progress, turned_at: fd, written_at: fd });
            return;
        };
        if progress.turns != watched.progress.turns {
            watched.turned_at = fd;
        }
        let was_idle = watched.progress.writes_begun <= watched.progress.writes_done;
        if was_idle || progress.writes_done != watched.progress.writes_done {
            watched.written_at = fd;
        }
        watched.progress = progress;
    }

    fn on_late_wake(&mut self, late: Duration, actions: &mut Vec<PulseAction>) {
        if late < self.timing.delta {
            return;
        }
        self.begin_grace();
        self.stall_beats = StallBeats { left: STALL_BEATS, at: self.time.now() };
        actions.push(PulseAction::Report(PulseReport::OwnStall { stall: late }));
    }

    fn begin_grace(&mut self) {
        let rtt = self.peers.iter().map(Peer::rtt_max).max().unwrap_or(Duration::ZERO).min(self.timing.t_to);
        self.grace = self.time.fd().plus(self.timing.delta * 2 + rtt + self.timing.jitter);
    }

    fn on_drops(&mut self, count: u64) {
        if count > self.drops {
            self.counters.dropped = self.counters.dropped.saturating_add(count - self.drops);
            self.time.discard_last_gap();
            self.begin_grace();
        }
        self.drops = count;
    }

    fn on_order(&mut self, order: PulseOrder) {
        let PulseOrder { members, voters, timing, facts, is_leaving, addresses } = order;
        if addresses != self.addresses {
            self.addresses = addresses;
            self.peers.iter_mut().for_each(Peer::forget_as_agreed);
        }
        if timing != self.timing {
            self.peers.iter_mut().for_each(|peer| peer.on_timing(&timing));
        }
        self.timing = timing;
        self.voters = voters;
        self.announcement.is_due |= self.facts.differs_urgently(&facts);
        self.facts = facts;
        if is_leaving && !self.is_leaving {
            self.announcement = Announcement { is_due: true, not_before: self.time.now() };
        }
        self.is_leaving = is_leaving;
        self.on_members(&members.iter().filter(|member| member.id != self.own.id).map(|m| (m.id, m)).collect());
    }

    fn on_members(&mut self, members: &BTreeMap<NodeId, &PeerOrder>) {
        let has_changed = !self.ids.iter().eq(members.keys());
        if has_changed {
            for gone in self.peers.extract_if(.., |peer| !members.contains_key(&peer.id())) {
                self.sent_to_gone.insert(gone.id(), gone.sent());
            }
        }
        for (n, (id, member)) in members.iter().enumerate() {
            if self.peers.get(n).is_some_and(|peer| peer.id() == *id) {
                self.announcement.is_due |= self.peers[n].on_order(member);
            } else {
                let sent = self.sent_to_gone.remove(id).unwrap_or_default();
                self.peers.insert(n, Peer::new(member, &self.time, &self.timing, &sent));
                self.announcement.is_due = true;
            }
        }
        if has_changed {
            self.ids = members.keys().copied().collect();
            for peer in &mut self.peers {
                peer.on_ages(|id| self.ids.binary_search(&id).ok(), self.timing.t_to);
                peer.forget_report();
            }
        }
    }

    /// Is it worth while to open the beat with this header, which came over `link`? Cheap, and nothing is proven yet.
    pub fn admits(&mut self, link: LinkId, header: &BeatHeader, path: Path) -> bool {
        self.sender(header).is_some_and(|n| {
            let is_new = !self.peers[n].has_seen(self.time.fd(), header, path, self.timing.delta);
            self.counters.replayed += u64::from(!is_new);
            let is_here = header.link == link;
            self.counters.unknown_sender += u64::from(!is_here);
            is_new && is_here
        })
    }

    /// Counts a datagram that is no beat, or whose seal is broken.
    pub fn count_broken(&mut self) {
        self.counters.broken += 1;
    }

    /// The place of the peer that the header names; counted if there is none.
    fn sender(&mut self, header: &BeatHeader) -> Option<usize> {
        let counters = &mut self.counters;
        if header.cluster != self.own.cluster {
            counters.foreign += 1;
            return None;
        }
        if header.receiver != self.own.id {
            counters.misaddressed += 1;
            return None;
        }
        let sender = self.ids.binary_search(&header.sender).ok();
        let sender = sender.filter(|&n| self.peers[n].link(header.link).is_some());
        counters.unknown_sender += u64::from(sender.is_none());
        sender
    }

    fn on_received(&mut self, received: Received, actions: &mut Vec<PulseAction>) {
        let (header, agreed) = (received.header, self.agreed());
        let Some(n) = self.sender(&header) else { return };
        let counters = &mut self.counters;
        let peer = &mut self.peers[n];
        let before = peer.verdict();
        match peer.on_beat(&self.time, &self.timing, self.own.salt, agreed, self.grace, received) {
            Worth::Absurd => counters.absurd += 1,
            Worth::Retired => counters.retired += 1,
            Worth::Replayed => counters.replayed += 1,
            Worth::Overtaken => {}
            Worth::Unproven | Worth::Rival => {
                counters.unproven += 1;
                self.answer(n, header.link, Some(Echo { salt: header.salt, seq: header.seq, hold_us: 0 }), actions);
            }
            Worth::Evidence { is_new_life } => {
                peer.on_ages(|id| self.ids.binary_search(&id).ok(), self.timing.t_to);
                self.on_evidence(n, before, actions);
                if is_new_life {
                    let echo = self.echo(n, header.link);
                    self.answer(n, header.link, echo, actions);
                }
            }
        }
    }

    fn on_evidence(&mut self, n: usize, before: Verdict, actions: &mut Vec<PulseAction>) {
        match before {
            Verdict::Unknown | Verdict::Suspect => {
                self.announcement.is_due = true;
                self.check_isolation(actions);
            }
            Verdict::Reachable | Verdict::Late => {}
        }
        self.report(n, actions);
    }

    /// Tells a new life of a peer at once that it was heard, which proves this node to it.
    fn answer(&mut self, n: usize, link: LinkId, echo: Option<Echo>, actions: &mut Vec<PulseAction>) {
        let now = self.time.now();
        if self.peers[n].link(link).is_some_and(|link| link.may_answer(now, ANSWER_SPACING)) {
            let draft = Draft { echo, ..self.draft(BeatKind::Beat) };
            self.send(n, link, draft, actions);
        }
    }

    fn on_tick(&mut self, actions: &mut Vec<PulseAction>) {
        let (now, fd) = (self.time.now(), self.time.fd());
        for peer in &mut self.peers {
            let before = peer.verdict();
            peer.on_tick(fd, &self.timing, self.grace);
            self.announcement.is_due |= before != peer.verdict() && peer.verdict() == Verdict::Suspect;
        }
        if now >= self.slot.at {
            self.peers.iter_mut().for_each(|peer| peer.check_links(fd));
        }
        if now >= self.review_at {
            self.review_at = now + REVIEW_EVERY;
            let is_slow = self.time.is_often_stalled();
            self.peers.iter_mut().for_each(|peer| peer.review(fd, &self.timing, is_slow));
        }
        self.send_due(actions);
        self.check_isolation(actions);
        for n in 0..self.peers.len() {
            self.report(n, actions);
        }
    }

    /// Sends what the clock, or somebody, asks for.
    fn send_due(&mut self, actions: &mut Vec<PulseAction>) {
        let now = self.time.now();
        if now >= self.slot.at {
            self.beat_in_rhythm(actions);
        }
        if self.stall_beats.left > 0 && now >= self.stall_beats.at {
            self.send_to_all(self.draft(BeatKind::Beat), actions);
            self.stall_beats = StallBeats { left: self.stall_beats.left - 1, at: now + self.timing.burst };
        }
        self.ping_and_pong(actions);
    }

    /// Sends over the link whose turn it is. Missed turns are not made up for.
    fn beat_in_rhythm(&mut self, actions: &mut Vec<PulseAction>) {
        let (now, slot_length) = (self.time.now(), self.slot_length());
        let late_us = u32::try_from(now.since(self.slot.at).as_micros()).unwrap_or(u32::MAX);
        let link = LinkId(self.slot.link);
        let draft = Draft { late_us, ..self.draft(BeatKind::Beat) };
        for n in 0..self.peers.len() {
            if self.peers[n].link(link).is_some() {
                let echo = self.echo(n, link);
                self.send(n, link, Draft { echo, ..draft }, actions);
            }
        }
        let next = self.slot.at + slot_length;
        self.slot.at = if next > now { next } else { now + slot_length };
        self.slot.link = (self.slot.link + 1) % self.links_max();
    }

    fn ping_and_pong(&mut self, actions: &mut Vec<PulseAction>) {
        let mut pinged = 0;
        for n in 0..self.peers.len() {
            let peer = &mut self.peers[n];
            if let Some(round) = peer.take_pong() {
                self.send_over_all_links(n, self.draft(BeatKind::Pong { round }), actions);
            }
            let peer = &mut self.peers[n];
            if peer.verdict() == Verdict::Late && pinged < PINGED_MAX {
                pinged += 1;
                if let Some(round) = peer.ping(self.time.now(), self.timing.burst) {
                    self.send_over_all_links(n, self.draft(BeatKind::Ping { round }), actions);
                }
            }
        }
    }

    /// The self-isolation test of SAFETY §1.9: who suspects many and has no majority suspects itself.
    fn check_isolation(&mut self, actions: &mut Vec<PulseAction>) {
        let suspects = self.peers.iter().filter(|peer| peer.verdict() == Verdict::Suspect).count();
        let are_many = suspects >= self.peers.len().div_ceil(2).max(2);
        let is_isolated = are_many && !self.has_majority();
        if is_isolated != self.is_isolated {
            self.is_isolated = is_isolated;
            actions.push(PulseAction::Report(PulseReport::Isolated(is_isolated)));
        }
    }

    /// Do beats flow both ways between this node and a majority of the voters, itself counted if it is one?
    fn has_majority(&self) -> bool {
        let fd = self.time.fd();
        let is_in_contact = |voter: &&NodeId| {
            **voter == self.own.id || self.ids.binary_search(voter).is_ok_and(|n| self.peers[n].is_two_way(fd))
        };
        quorum::is_majority(self.voters.iter().filter(is_in_contact).count(), self.voters.len())
    }

    /// Sends what cannot wait for the rhythm.
    fn announce(&mut self, actions: &mut Vec<PulseAction>) {
        let now = self.time.now();
        if self.announcement.is_due && now >= self.announcement.not_before {
            self.announcement = Announcement { is_due: false, not_before: now + ANNOUNCE_SPACING };
            self.send_to_all(self.draft(BeatKind::Beat), actions);
        }
    }

    fn send_to_all(&mut self, draft: Draft, actions: &mut Vec<PulseAction>) {
        for n in 0..self.peers.len() {
            self.send_over_all_links(n, draft, actions);
        }
    }

    fn send_over_all_links(&mut self, n: usize, draft: Draft, actions: &mut Vec<PulseAction>) {
        for link in self.peers[n].links() {
            let echo = self.echo(n, link);
            self.send(n, link, Draft { echo, ..draft }, actions);
        }
    }

    fn draft(&self, kind: BeatKind) -> Draft {
        let mut flags = BeatFlags::NONE;
        if self.is_leaving {
            flags = flags.with(BeatFlags::LEAVING);
        }
        if self.stall_beats.left > 0 {
            flags = flags.with(BeatFlags::JUST_STALLED);
        }
        if self.is_isolated || self.time.fd() < self.grace {
            flags = flags.with(BeatFlags::NO_ACCUSE);
        }
        Draft { kind, flags, late_us: 0, echo: None }
    }

    fn echo(&mut self, n: usize, link: LinkId) -> Option<Echo> {
        let fd = self.time.fd();
        let peer = &mut self.peers[n];
        let salt = peer.salt()?;
        peer.link(link)?.echo(salt, fd)
    }

    /// The version of the cluster file that the facts name, if its addresses are the ones in use.
    fn agreed(&self) -> Option<ConfigVersion> {
        (self.facts.is_known && self.facts.config_version == self.addresses).then_some(self.addresses)
    }

    fn send(&mut self, n: usize, link: LinkId, draft: Draft, actions: &mut Vec<PulseAction>) {
        let is_heard = self.agreed().is_some() && self.peers[n].is_heard_as_agreed(link, self.time.fd());
        let flags = if is_heard { draft.flags.with(BeatFlags::HEARD_AS_AGREED) } else { draft.flags };
        let ages = self.ages_but_of(n);
        let (to, fd) = (self.ids[n], self.time.fd());
        let Some(path) = self.peers[n].link(link) else { return };
        let header = BeatHeader {
            cluster: self.own.cluster,
            sender: self.own.id,
            receiver: to,
            salt: self.own.salt,
            key_epoch: self.own.key_epoch,
            link,
            seq: path.on_send(fd),
        };
        let beat = Beat {
            incarnation: self.own.incarnation,
            kind: draft.kind,
            flags,
            sent_at_us: self.time.now().as_nanos() / 1000,
            late_us: draft.late_us,
            own_stall_ms: self.time.last_stall_ms(),
            next_by_ms: u16::try_from(self.timing.delta.as_millis()).unwrap_or(u16::MAX),
            echo: draft.echo,
            loss_permille: path.received().loss_permille(),
            ages,
            facts: self.facts,
            health: self.health().to_send(),
            two_lives: self.two_lives(),
        };
        actions.push(PulseAction::Send { to, link, header, beat });
    }

    fn two_lives(&self) -> Option<Vec<NodeId>> {
        let fd = self.time.fd();
        let ids = self.peers.iter().filter(|peer| peer.rival(fd, &self.timing).is_some()).map(Peer::id);
        Some(ids.collect::<Vec<NodeId>>()).filter(|ids| !ids.is_empty())
    }

    fn ages_but_of(&self, n: usize) -> Vec<Age> {
        let fd = self.time.fd();
        let others = self.peers.iter().enumerate().filter(|(other, _)| *other != n);
        others
            .map(|(_, peer)| {
                let units = peer.age(fd).map_or(u128::MAX, |age| age.as_millis() / 10);
                Age { node: peer.id(), units: u8::try_from(units).unwrap_or(u8::MAX) }
            })
            .collect()
    }

    fn report(&mut self, n: usize, actions: &mut Vec<PulseAction>) {
        let agreed = self.agreed();
        let report = self.peers[n].report(&self.time, &self.timing, agreed, |bit| self.ids.get(bit).copied());
        actions.extend(report.map(|report| PulseAction::Report(PulseReport::Peer(report))));
    }

    fn links_max(&self) -> u8 {
        self.peers.iter().map(|peer| peer.links().len() as u8).max().unwrap_or(1).max(1)
    }

    fn slot_length(&self) -> Duration {
        self.timing.delta / u32::from(self.links_max())
    }

    fn next_deadline(&self) -> Instant {
        let (now, burst) = (self.time.now(), self.timing.burst);
        let verdicts = self.peers.iter().filter_map(|peer| peer.verdict_due(&self.timing, self.grace));
        let verdicts = verdicts.min().map(|at| self.time.instant_of(at));
        let pings = self.peers.iter().filter_map(|peer| peer.ping_due(now, burst)).take(PINGED_MAX).min();
        let pongs = self.peers.iter().any(Peer::owes_pong).then_some(now);
        let announcement = self.announcement.is_due.then_some(self.announcement.not_before);
        let stall_beats = (self.stall_beats.left > 0).then_some(self.stall_beats.at);
        let due = [verdicts, pings, pongs, announcement, stall_beats];
        due.into_iter().flatten().fold(self.slot.at, Instant::min)
    }
}

/// What differs between the beats of one moment.
#[derive(Clone, Copy)]
struct Draft {
    kind: BeatKind,
    flags: BeatFlags,
    late_us: u32,
    echo: Option<Echo>,
}
