//! Who is down, and who may be condemned?
//!
//! One node's word is not enough: a member is down when the leader's own pulse has no contact with it and no member
//! that is reachable has. Down is reversible. Condemned is not, so a verdict first stands for a hold-down where all
//! links that worked share one failure domain, an unusually large loss is verified for some seconds, and a member that
//! was never heard since this machine booted is given time to boot.
//!
//! A member that only others have contact with is not down. The leader first lets the voter lead that has contact with
//! most members; what nobody better can reach is condemned after some seconds.
//!
//! Every node keeps its own list of the silent, so that a new leader need not begin to count when it is elected;
//! the leader alone speaks.
//!
//! In: what is agreed about the members, what the own pulse reports, ticks. Out: down, withdrawn, condemn.
//! Not here: proposing and applying Condemn (`core/node`, `core/state`), whether to fence (`core/fencing`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{Bug, Bugs, Incarnation, Instant, LinkId, MemberState, NodeId, Profile};

use crate::{BeatFlags, PeerReport, Timing, Verdict};

/// Fences at the same time, when many members are lost.
const CONDEMNED_AT_ONCE: usize = 4;

/// A fence that has not ended after this long will hardly end, and holds up no other.
const FENCE_TIME: Duration = Duration::from_secs(30);

/// Losses within this time are one event, as far as the brake is concerned.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The cluster's judgement about silent members, as the leader makes it.
pub struct Judge {
    bugs: Bugs,
    /// When Cardea first ran since this machine booted.
    begun: Instant,
    is_leading: bool,
    timing: Timing,
    own: Option<NodeId>,
    members: BTreeMap<NodeId, Member>,
    peers: BTreeMap<NodeId, Seen>,
    cases: BTreeMap<NodeId, Case>,
    /// Incarnations whose devices read off before anybody heard them.
    read_off: BTreeMap<NodeId, Incarnation>,
    /// Members that only others have contact with, and since when.
    partial: BTreeMap<NodeId, Instant>,
    yielded_at: Option<Instant>,
    /// While it is open, further members may be lost with the first.
    settle_until: Option<Instant>,
    is_isolated: bool,
    /// After an own stall, nobody is condemned before this.
    grace: Instant,
    /// When a late wake of its own last began such a grace.
    late_at: Option<Instant>,
    deadline: Option<Instant>,
}

/// What the judge is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nearly every input is a report")]
pub enum JudgeInput {
    /// This node leads from now on: everything that holds is said again.
    Lead {
        /// Itself.
        own: NodeId,
    },
    /// This node leads no longer.
    Follow,
    /// The members as agreed, all of them, and the timers.
    Members {
        /// The timers.
        timing: Timing,
        /// The members; the node itself may be among them.
        members: Vec<JudgeMember>,
    },
    /// What the own pulse says about a member.
    Peer(PeerReport),
    /// The fence devices of a member read off: that incarnation is over, whether or not its machine boots slowly.
    ReadOff {
        /// Whose devices.
        node: NodeId,
        /// Its agreed incarnation.
        incarnation: Incarnation,
    },
    /// The own pulse did not run for a while.
    OwnStall,
    /// The own pulse thinks that this node is (not) the one that is cut off.
    Isolated(bool),
    /// The deadline has come.
    Tick,
}

/// A member as agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgeMember {
    /// The member.
    pub id: NodeId,
    /// Its agreed incarnation; zero before its first Join.
    pub incarnation: Incarnation,
    /// Its agreed condition; only who is online can be down.
    pub state: MemberState,
    /// The failure domain of each link that leads to it from here.
    pub link_domains: Vec<u16>,
    /// May it lead without being a makeshift: is it a voter and no witness?
    pub may_lead: bool,
    /// Does it hold anything, so that it is fenced when it is lost?
    pub is_holder: bool,
    /// The priority of what it holds: more is fenced first, where fences are rationed.
    pub held_priority: i64,
}

/// What the judge wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JudgeAction {
    /// Nobody hears this incarnation: place nothing on it, prepare.
    Down {
        /// The member.
        node: NodeId,
        /// Its agreed incarnation.
        incarnation: Incarnation,
        /// Why, as one sentence.
        reason: String,
    },
    /// It was said to be down and is heard again, before a Condemn was agreed.
    Withdrawn {
        /// The member.
        node: NodeId,
    },
    /// Let this member lead: it has contact with more members than this one.
    Yield {
        /// Who should lead.
        to: NodeId,
    },
    /// Propose to condemn this incarnation. Said once while it is down, and once again after each `Lead`.
    Condemn {
        /// The member.
        node: NodeId,
        /// Its agreed incarnation.
        incarnation: Incarnation,
        /// Why, as one sentence.
        reason: String,
    },
}

/// What is agreed about a member.
struct Member {
    agreed: JudgeMember,
    /// Since when its incarnation is the agreed one, as far as this judge knows.
    since: Instant,
    /// Since when its condition is what it is, as far as this judge knows.
    state_since: Instant,
}

/// The newest report about a member.
struct Seen {
    report: PeerReport,
    /// Since when the verdict is what it is.
    since: Instant,
    /// Was it ever heard?
    was_heard: bool,
    /// The links over which contact was both ways, when there last was contact.
    worked: Vec<LinkId>,
}

/// An incarnation that nobody hears.
struct Case {
    incarnation: Incarnation,
    /// Others have contact with it, and nobody who could lead has contact with all.
    is_partial: bool,
    /// Since when it is down; none while the cut is not yet clear.
    down_at: Option<Instant>,
    is_told: bool,
    condemned_at: Option<Instant>,
}

impl Judge {
    /// A judge that knows nobody and does not lead. `begun`: when Cardea first ran since this machine booted.
    pub fn new(bugs: Bugs, begun: Instant) -> Self {
        Judge {
            bugs,
            begun,
            is_leading: false,
            timing: Timing::of(Profile::Lan),
            own: None,
            members: BTreeMap::new(),
            peers: BTreeMap::new(),
            cases: BTreeMap::new(),
            read_off: BTreeMap::new(),
            partial: BTreeMap::new(),
            yielded_at: None,
            settle_until: None,
            is_isolated: false,
            grace: Instant::ZERO,
            late_at: None,
            deadline: None,
        }
    }

    /// Feeds one input that happened at `now`; returns what the caller must do about it.
    pub fn step(&mut self, now: Instant, input: JudgeInput) -> Vec<JudgeAction> {
        self.check_own_lateness(now);
        match input {
            JudgeInput::Lead { own } => {
                (self.own, self.is_leading) = (Some(own), true);
                self.say_again();
            }
            JudgeInput::Follow => {
                self.is_leading = false;
                self.say_again();
            }
            JudgeInput::Members { timing, members } => {
                self.timing = timing;
                self.on_members(now, members);
            }
            JudgeInput::Peer(report) => self.on_report(now, report),
            JudgeInput::ReadOff { node, incarnation } => _ = self.read_off.insert(node, incarnation),
            JudgeInput::OwnStall => self.begin_grace(now),
            JudgeInput::Isolated(is_isolated) => self.is_isolated = is_isolated,
            JudgeInput::Tick => {}
        }
        let mut actions = Vec::new();
        self.judge(now, &mut actions);
        actions
    }

    /// When `Tick` next has work to do. Extra ticks are harmless.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Who is down: the incarnations that nobody hears, condemned by this judge or not yet.
    pub fn down(&self) -> impl Iterator<Item = (NodeId, Incarnation)> {
        self.cases.iter().filter(|(_, case)| case.down_at.is_some()).map(|(&node, case)| (node, case.incarnation))
    }

    /// Who is down and waited for, since its machine may only boot slowly. Whether it is off is worth a look.
    pub fn awaited(&self) -> impl Iterator<Item = (NodeId, Incarnation)> {
        let is_awaited =
            |(node, case): &(&NodeId, &Case)| case.down_at.is_some() && self.boots_until(**node) > Instant::ZERO;
        self.cases.iter().filter(is_awaited).map(|(&node, case)| (node, case.incarnation))
    }

    /// Who wakes late looks again before it judges. A starved leader that is always a little late does so once: it
    /// has read what its pulse reported since.
    fn check_own_lateness(&mut self, now: Instant) {
        let Some(late) = self.deadline.map(|deadline| now.since(deadline)) else { return };
        let is_usual = late < self.timing.t_to && self.late_at.is_some_and(|at| now.since(at) < self.timing.t_to * 4);
        if late > self.timing.delta && !is_usual {
            self.late_at = Some(now);
            self.begin_grace(now);
        }
    }

    fn begin_grace(&mut self, now: Instant) {
        self.grace = now + self.timing.delta * 2 + self.timing.jitter;
    }

    fn say_again(&mut self) {
        self.cases.values_mut().for_each(|case| (case.is_told, case.condemned_at) = (false, None));
    }

    fn on_members(&mut self, now: Instant, members: Vec<JudgeMember>) {
        let before = std::mem::take(&mut self.members);
        for agreed in members {
            let known = before.get(&agreed.id).filter(|known| known.agreed.incarnation == agreed.incarnation);
            let since = known.map_or(now, |known| known.since);
            let state = known.filter(|known| known.agreed.state == agreed.state);
            let state_since = state.map_or(now, |known| known.state_since);
            self.members.insert(agreed.id, Member { agreed, since, state_since });
        }
        self.peers.retain(|id, _| self.members.contains_key(id));
        let is_life =
            |id: &NodeId, life: Incarnation| self.members.get(id).is_some_and(|m| m.agreed.incarnation == life);
        self.read_off.retain(|id, life| is_life(id, *life));
    }

    fn on_report(&mut self, now: Instant, report: PeerReport) {
        let is_heard = match report.verdict {
            Verdict::Reachable | Verdict::Late => true,
            Verdict::Unknown | Verdict::Suspect => false,
        };
        let before = self.peers.remove(&report.id);
        let worked = match (report.verdict, &before) {
            (Verdict::Late | Verdict::Suspect, Some(seen)) => seen.worked.clone(),
            (Verdict::Unknown | Verdict::Reachable | Verdict::Late | Verdict::Suspect, _) => {
                report.links.iter().filter(|link| link.is_two_way).map(|link| link.link).collect()
            }
        };
        let since = before.as_ref().filter(|seen| seen.report.verdict == report.verdict).map_or(now, |seen| seen.since);
        let was_heard = is_heard || before.is_some_and(|seen| seen.was_heard);
        self.peers.insert(report.id, Seen { report, since, was_heard, worked });
    }

    fn judge(&mut self, now: Instant, actions: &mut Vec<JudgeAction>) {
        self.deadline = None;
        let silence = self.silent(now);
        self.close_cases(&silence, actions);
        let Silence { lost, partial } = silence;
        self.open_cases(lost);
        self.settle(now);
        self.partial = partial.into_keys().map(|id| (id, self.partial.get(&id).copied().unwrap_or(now))).collect();
        if self.is_leading && !self.is_isolated {
            self.resolve_partial_cuts(now, actions);
            self.tell(now, actions);
            self.condemn(now, actions);
        }
    }

    /// What the leader has no contact with, and others have: somebody with more contacts leads, or it is cut off.
    fn resolve_partial_cuts(&mut self, now: Instant, actions: &mut Vec<JudgeAction>) {
        let Some(first) = self.partial.values().min().copied() else {
            self.yielded_at = None;
            return;
        };
        if let Some(to) = self.better_connected() {
            let due = self.yielded_at.unwrap_or(first) + self.timing.partial_max;
            if now < due {
                return self.wake_at(due);
            }
            self.yielded_at = Some(now);
            actions.push(JudgeAction::Yield { to });
            return self.wake_at(now + self.timing.partial_max);
        }
        for (node, since) in self.partial.clone() {
            let due = (since + self.timing.partial_max).max(self.grace);
            let Some(incarnation) = self.members.get(&node).map(|member| member.agreed.incarnation) else { continue };
            if now < due {
                self.wake_at(due);
                continue;
            }
            let down_at = Some(since);
            let case = Case { incarnation, is_partial: true, down_at, is_told: false, condemned_at: None };
            self.cases.entry(node).or_insert(case);
        }
    }

    /// A voter with which there is contact, and which has contact with more members than this node.
    fn better_connected(&self) -> Option<NodeId> {
        let is_watched = |id: &NodeId| self.watched().any(|member| member.agreed.id == *id);
        let own = self
            .watched()
            .filter(|member| matches!(self.verdict(member.agreed.id), Verdict::Reachable | Verdict::Late))
            .count();
        let others = self.peers.iter().filter(|(id, seen)| {
            seen.report.verdict == Verdict::Reachable
                && is_watched(id)
                && self.members.get(*id).is_some_and(|member| member.agreed.may_lead)
        });
        // Each is counted without itself and with this node.
        let contacts = |seen: &Seen| seen.report.hears.iter().filter(|id| is_watched(id)).count() + 1;
        let best = others.map(|(id, seen)| (contacts(seen), Reverse(*id))).max();
        best.filter(|(contacts, _)| *contacts > own).map(|(_, Reverse(id))| id)
    }

    /// Drops the cases of members that are heard, or whose end is agreed.
    fn close_cases(&mut self, silence: &Silence, actions: &mut Vec<JudgeAction>) {
        self.cases.retain(|node, case| {
            let is_of = |silent: &BTreeMap<NodeId, Incarnation>| silent.get(node) == Some(&case.incarnation);
            let is_silent = is_of(&silence.lost) || case.is_partial && is_of(&silence.partial);
            let is_settled = self.members.get(node).is_none_or(|member| member.agreed.state != MemberState::Online);
            if !is_silent && !is_settled && case.is_told {
                actions.push(JudgeAction::Withdrawn { node: *node });
            }
            is_silent
        });
    }

    fn open_cases(&mut self, silent: BTreeMap<NodeId, Incarnation>) {
        for (node, incarnation) in silent {
            let case = Case { incarnation, is_partial: false, down_at: None, is_told: false, condemned_at: None };
            self.cases.entry(node).or_insert(case);
        }
    }

    /// Waits for members that may be lost with the first, so that the loss of a rack is one cut.
    fn settle(&mut self, now: Instant) {
        let is_open = self.cases.values().any(|case| case.down_at.is_none());
        let is_unclear = self.watched().any(|member| self.verdict(member.agreed.id) == Verdict::Late);
        if !is_open || !is_unclear {
            self.settle_until = None;
        }
        if is_open && is_unclear {
            let until = *self.settle_until.get_or_insert(now + self.timing.settle);
            if now < until {
                self.wake_at(until);
                return;
            }
        }
        for case in self.cases.values_mut() {
            case.down_at = case.down_at.or(Some(now));
        }
    }

    fn tell(&mut self, now: Instant, actions: &mut Vec<JudgeAction>) {
        let untold: Vec<NodeId> =
            self.cases.iter().filter(|(_, case)| !case.is_told && case.down_at.is_some()).map(|(id, _)| *id).collect();
        for node in untold {
            let reason = self.reason(now, node);
            let Some(case) = self.cases.get_mut(&node) else { continue };
            case.is_told = true;
            actions.push(JudgeAction::Down { node, incarnation: case.incarnation, reason });
        }
    }

    fn condemn(&mut self, now: Instant, actions: &mut Vec<JudgeAction>) {
        let is_braked = self.is_braked(now);
        let mut waiting: Vec<(Reverse<i64>, NodeId)> = Vec::new();
        for (&node, case) in self.cases.iter().filter(|(_, case)| case.condemned_at.is_none()) {
            let priority = self.members.get(&node).map_or(0, |member| member.agreed.held_priority);
            if case.down_at.is_some() {
                waiting.push((Reverse(priority), node));
            }
        }
        waiting.sort_unstable();
        for (_, node) in waiting {
            let Some(due) = self.condemn_due(node, is_braked) else { continue };
            if now < due {
                self.wake_at(due);
                continue;
            }
            if is_braked && let Some(free_at) = self.next_fence_at(now) {
                self.wake_at(free_at);
                continue;
            }
            let reason = self.reason(now, node);
            let Some(case) = self.cases.get_mut(&node) else { continue };
            case.condemned_at = Some(now);
            actions.push(JudgeAction::Condemn { node, incarnation: case.incarnation, reason });
        }
    }

    fn condemn_due(&self, node: NodeId, is_braked: bool) -> Option<Instant> {
        let down_at = self.cases.get(&node)?.down_at?;
        let is_cut_by_one = self.working_domains(node) < 2 && !self.bugs.has(Bug::HoldDownSkipped);
        let hold = if is_cut_by_one { self.timing.t_hold } else { Duration::ZERO };
        let brake = if is_braked { self.timing.brake } else { Duration::ZERO };
        Some((down_at + hold.max(brake)).max(self.grace).max(self.boots_until(node)))
    }

    /// So long a member is waited for that was not heard since this machine booted, and is not known to be off.
    fn boots_until(&self, node: NodeId) -> Instant {
        let was_heard = self.bugs.has(Bug::PatienceSkipped) || self.peers.get(&node).is_some_and(|seen| seen.was_heard);
        let is_off = self
            .read_off
            .get(&node)
            .is_some_and(|life| self.members.get(&node).is_some_and(|member| member.agreed.incarnation == *life));
        if was_heard || is_off { Instant::ZERO } else { self.begun + self.timing.boot_patience }
    }

    /// In how many separate failure domains links worked when there last was contact: what one fault cannot cut.
    fn working_domains(&self, node: NodeId) -> usize {
        let (Some(member), Some(seen)) = (self.members.get(&node), self.peers.get(&node)) else { return 0 };
        let domains: BTreeSet<u16> = seen
            .worked
            .iter()
            .filter_map(|link| member.agreed.link_domains.get(usize::from(link.0)))
            .copied()
            .collect();
        domains.len()
    }

    /// Are more members lost at the same time than one failure explains: more than one, and more than a quarter?
    ///
    /// One that is down for long belongs to another event, whether or not it was fenced.
    fn is_braked(&self, now: Instant) -> bool {
        let is_fresh = |case: &Case| case.down_at.is_none_or(|at| now.since(at) <= AT_ONCE);
        let is_counted = |(node, case): &(&NodeId, &Case)| is_fresh(case) || self.asked_at(now, **node, case).is_some();
        let lost = self.fences(now).count() + self.cases.iter().filter(is_counted).count();
        let all = self.members.values().filter(|member| counts_as_member(member.agreed.state)).count();
        lost > 1 && lost * 4 > all
    }

    /// When one more may be fenced; none: at once.
    fn next_fence_at(&self, now: Instant) -> Option<Instant> {
        let asked = self.cases.iter().filter_map(|(node, case)| self.asked_at(now, *node, case));
        let mut begun: Vec<Instant> = asked.chain(self.fences(now)).collect();
        begun.sort_unstable();
        let last = begun.len().checked_sub(CONDEMNED_AT_ONCE)?;
        begun.get(last).map(|at| *at + FENCE_TIME)
    }

    /// When it was said to condemn a member, if that is not agreed yet and will lead to a fence.
    fn asked_at(&self, now: Instant, node: NodeId, case: &Case) -> Option<Instant> {
        let member = self.members.get(&node)?;
        let is_open = member.agreed.state == MemberState::Online && member.agreed.is_holder;
        case.condemned_at.filter(|at| is_open && now.since(*at) < FENCE_TIME)
    }

    /// When the fences began that are under way.
    fn fences(&self, now: Instant) -> impl Iterator<Item = Instant> {
        self.members
            .values()
            .filter(|member| member.agreed.state == MemberState::Condemned)
            .map(|member| member.state_since)
            .filter(move |at| now.since(*at) < FENCE_TIME)
    }

    /// The incarnations that this node suspects: nobody reachable hears them, or somebody does.
    fn silent(&mut self, now: Instant) -> Silence {
        let mut silence = Silence::default();
        let mut unsure = Vec::new();
        for member in self.watched() {
            let JudgeMember { id, incarnation, .. } = member.agreed;
            let is_suspect = |seen: &&Seen| {
                let counts_as_contact = self.bugs.has(Bug::OneWayContact) && seen.report.is_heard;
                seen.report.verdict == Verdict::Suspect && !counts_as_contact
            };
            let Some(seen) = self.peers.get(&id).filter(is_suspect) else { continue };
            // A node that has just joined in a new life is given time to be heard in it, like one at our start.
            let is_heard = seen.report.incarnation == incarnation;
            let expected = member.since + self.timing.t_to * 4;
            if !is_heard && now < expected {
                unsure.push(expected);
                continue;
            }
            match self.evidence(now, id, seen) {
                Evidence::NobodyHears => _ = silence.lost.insert(id, incarnation),
                Evidence::SomebodyHears if is_heard => _ = silence.partial.insert(id, incarnation),
                Evidence::SomebodyHears => {}
                Evidence::Unsure { until } => unsure.push(until),
            }
        }
        unsure.into_iter().for_each(|at| self.wake_at(at));
        silence
    }

    /// What the reachable members say about a suspect. Who does not trust its own view is waited for, but not longer
    /// than a healthy one would need to find out.
    fn evidence(&self, now: Instant, suspect: NodeId, suspicion: &Seen) -> Evidence {
        if self.bugs.has(Bug::EvidenceSkipped) {
            return Evidence::NobodyHears;
        }
        let until = suspicion.since + self.timing.t_to;
        let mut evidence = Evidence::NobodyHears;
        for (_, seen) in self.witnesses(suspect) {
            if seen.report.hears.contains(&suspect) {
                return Evidence::SomebodyHears;
            }
            if seen.report.flags.has(BeatFlags::NO_ACCUSE) && now < until {
                evidence = Evidence::Unsure { until };
            }
        }
        evidence
    }

    /// The other members that are reachable: their word about `suspect` is fresh.
    fn witnesses(&self, suspect: NodeId) -> impl Iterator<Item = (&NodeId, &Seen)> {
        self.peers.iter().filter(move |(id, seen)| **id != suspect && seen.report.verdict == Verdict::Reachable)
    }

    /// The members whose silence matters.
    fn watched(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|Member { agreed, .. }| {
            agreed.state == MemberState::Online && agreed.incarnation != Incarnation(0) && Some(agreed.id) != self.own
        })
    }

    fn verdict(&self, node: NodeId) -> Verdict {
        self.peers.get(&node).map_or(Verdict::Unknown, |seen| seen.report.verdict)
    }

    fn wake_at(&mut self, at: Instant) {
        self.deadline = Some(self.deadline.map_or(at, |deadline| deadline.min(at)));
    }

    fn reason(&self, now: Instant, node: NodeId) -> String {
        let Some(seen) = self.peers.get(&node) else { return "never heard".to_owned() };
        let links = match seen.report.links.len() {
            1 => "its only link".to_owned(),
            count => format!("any of {count} links"),
        };
        let silence_ms = (seen.report.limit + now.since(seen.since)).as_millis();
        let said = if seen.report.flags.has(BeatFlags::LEAVING) { "it said that it leaves; " } else { "" };
        let silence = if self.partial.contains_key(&node) {
            return format!(
                "{said}this node has had no contact with it for {silence_ms} ms, and no member that could lead has contact with all"
            );
        } else if seen.report.is_heard {
            format!("it beats and does not hear: no answer on {links} for {silence_ms} ms")
        } else if seen.was_heard {
            format!("no heartbeat on {links} for {silence_ms} ms")
        } else {
            format!("never heard on {links} since this node started")
        };
        let others = match self.witnesses(node).count() {
            0 => "no other member is reachable to ask",
            _ => "nobody else hears it",
        };
        format!("{said}{silence}, {others}")
    }
}

/// Whom this node has no contact with.
#[derive(Default)]
struct Silence {
    /// Nobody has.
    lost: BTreeMap<NodeId, Incarnation>,
    /// Others have.
    partial: BTreeMap<NodeId, Incarnation>,
}

enum Evidence {
    NobodyHears,
    SomebodyHears,
    Unsure { until: Instant },
}

fn counts_as_member(state: MemberState) -> bool {
    match state {
        MemberState::Online | MemberState::Condemned | MemberState::Fenced => true,
        MemberState::Absent | MemberState::Left => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Facts, Health, LinkReport, LinkState};
    use model::LinkId;

    const T: Timing = Timing::of(Profile::Lan);
    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn at(n: u64) -> Instant {
        Instant::ZERO + ms(10_000 + n)
    }

    fn incarnation(id: NodeId) -> Incarnation {
        Incarnation(id.0 * 10)
    }

    fn report(id: NodeId, verdict: Verdict, hears: &[NodeId]) -> PeerReport {
        let link = |n| LinkReport {
            link: LinkId(n),
            state: LinkState::Up,
            is_two_way: true,
            proven: None,
            rtt: None,
            loss_permille: 0,
        };
        PeerReport {
            id,
            incarnation: incarnation(id),
            verdict,
            is_heard: false,
            is_two_way: true,
            sessions: 1,
            reachable_since: None,
            limit: T.t_to,
            facts: Facts::default(),
            rival: None,
            two_lives: Vec::new(),
            suspects: Vec::new(),
            hears: hears.to_vec(),
            flags: BeatFlags::NONE,
            health: Health::default(),
            links: vec![link(0), link(1)],
        }
    }

    /// Node A, with what it said.
    struct Court {
        judge: Judge,
        members: Vec<JudgeMember>,
        said: Vec<String>,
    }

    impl Court {
        /// A leads nodes 1..=`nodes`; all hear all.
        fn leading(nodes: u64, link_domains: usize) -> Self {
            let mut court = Court::following(nodes, link_domains);
            court.tell(at(0), JudgeInput::Lead { own: A });
            assert!(court.said.is_empty());
            court
        }

        fn following(nodes: u64, link_domains: usize) -> Self {
            let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
            let member = |id| JudgeMember {
                id,
                incarnation: incarnation(id),
                state: MemberState::Online,
                link_domains: (0..2).map(|n| if link_domains > 1 { n } else { 0 }).collect(),
                may_lead: true,
                is_holder: true,
                held_priority: id.0 as i64,
            };
            let members: Vec<JudgeMember> = ids.iter().copied().map(member).collect();
            let mut court = Court { judge: Judge::new(Bugs::NONE, Instant::ZERO), members, said: Vec::new() };
            court.agree(at(0), |_| {});
            for &id in &ids[1..] {
                let others: Vec<NodeId> = ids.iter().copied().filter(|&other| other != A && other != id).collect();
                court.sees(at(0), report(id, Verdict::Reachable, &others));
            }
            court
        }

        fn agree(&mut self, now: Instant, change: impl FnOnce(&mut Vec<JudgeMember>)) {
            change(&mut self.members);
            self.tell(now, JudgeInput::Members { timing: T, members: self.members.clone() });
        }

        fn sees(&mut self, now: Instant, report: PeerReport) {
            self.tell(now, JudgeInput::Peer(report));
        }

        fn tell(&mut self, now: Instant, input: JudgeInput) {
            while let Some(due) = self.judge.deadline().filter(|&due| due < now) {
                self.step(due, JudgeInput::Tick);
                assert_ne!(self.judge.deadline(), Some(due), "a tick does its work");
            }
            self.step(now, input);
        }

        fn step(&mut self, now: Instant, input: JudgeInput) {
            let ms = (now - at(0)).as_millis();
            for action in self.judge.step(now, input) {
                self.said.push(match action {
                    JudgeAction::Down { node, .. } => format!("{ms} down {node}"),
                    JudgeAction::Yield { to } => format!("{ms} yield to {to}"),
                    JudgeAction::Withdrawn { node } => format!("{ms} withdrawn {node}"),
                    JudgeAction::Condemn { node, .. } => format!("{ms} condemn {node}"),
                });
            }
        }
    }

    #[test]
    fn whom_nobody_hears_is_condemned_at_once_over_two_domains() {
        let mut court = Court::leading(3, 2);
        court.sees(at(100), report(C, Verdict::Suspect, &[]));
        assert!(court.said.is_empty(), "B still hears it");
        court.sees(at(105), report(B, Verdict::Reachable, &[]));
        assert_eq!(court.said, ["105 down 3", "105 condemn 3"]);
        court.tell(at(9000), JudgeInput::Tick);
        assert_eq!(court.said.len(), 2, "it is said once");
    }

    #[test]
    fn the_word_of_one_member_that_has_contact_saves_a_node() {
        let mut court = Court::leading(3, 2);
        court.sees(at(100), report(C, Verdict::Suspect, &[]));
        court.tell(at(60_000), JudgeInput::Tick);
        assert!(!court.said.iter().any(|said| said.contains("down") || said.contains("condemn")), "{:?}", court.said);
    }

    #[test]
    fn a_member_that_is_not_reachable_itself_saves_nobody() {
        let mut court = Court::leading(3, 2);
        court.sees(at(100), report(B, Verdict::Suspect, &[C]));
        assert_eq!(court.said, Vec::<String>::new(), "C hears it");
        court.sees(at(110), report(C, Verdict::Suspect, &[]));
        assert_eq!(court.said, ["110 down 2", "110 down 3"], "two of three are verified first");
    }

    #[test]
    fn a_member_that_does_not_trust_its_own_view_is_waited_for_but_not_for_ever() {
        let doubtful =
            |hears: &[NodeId]| PeerReport { flags: BeatFlags::NO_ACCUSE, ..report(B, Verdict::Reachable, hears) };
        let mut court = Court::leading(3, 2);
        court.sees(at(90), doubtful(&[]));
        court.sees(at(100), report(C, Verdict::Suspect, &[]));
        assert!(court.said.is_empty());
        court.sees(at(150), report(B, Verdict::Reachable, &[]));
        assert_eq!(court.said, ["150 down 3", "150 condemn 3"]);

        let mut court = Court::leading(3, 2);
        court.sees(at(90), doubtful(&[]));
        court.sees(at(100), report(C, Verdict::Suspect, &[]));
        court.tell(at(2000), JudgeInput::Tick);
        assert_eq!(court.said, ["350 down 3", "350 condemn 3"]);
    }

    #[test]
    fn one_failure_domain_waits_for_the_hold_down() {
        let mut court = Court::leading(2, 1);
        court.sees(at(100), report(B, Verdict::Suspect, &[]));
        court.tell(at(2000), JudgeInput::Tick);
        assert_eq!(court.said, ["100 down 2", "850 condemn 2"]);
    }

    #[test]
    fn who_returns_within_the_hold_down_is_not_condemned() {
        let mut court = Court::leading(2, 1);
        court.sees(at(100), report(B, Verdict::Suspect, &[]));
        court.sees(at(800), report(B, Verdict::Reachable, &[]));
        court.tell(at(5000), JudgeInput::Tick);
        assert_eq!(court.said, ["100 down 2", "800 withdrawn 2"]);
    }

    #[test]
    fn two_nodes_lost_at_once_are_one_cut() {
        let mut court = Court::leading(8, 2);
        let (x, y) = (NodeId(7), NodeId(8));
        for id in 2..=6 {
            court.sees(at(90), report(NodeId(id), Verdict::Reachable, &[]));
        }
        court.sees(at(95), report(y, Verdict::Late, &[x]));
        court.sees(at(100), report(x, Verdict::Suspect, &[]));
        assert!(court.said.is_empty(), "the cut is not clear");
        court.sees(at(130), report(y, Verdict::Suspect, &[x]));
        assert_eq!(court.said, ["130 down 7", "130 down 8", "130 condemn 8", "130 condemn 7"], "higher priority first");
    }

    #[test]
    fn the_settle_window_ends() {
        let mut court = Court::leading(8, 2);
        for id in 2..=6 {
            court.sees(at(90), report(NodeId(id), Verdict::Reachable, &[]));
        }
        court.sees(at(95), report(NodeId(8), Verdict::Late, &[]));
        court.sees(at(100), report(NodeId(7), Verdict::Suspect, &[]));
        court.tell(at(1000), JudgeInput::Tick);
        assert_eq!(court.said, ["200 down 7", "200 condemn 7"]);
    }

    #[test]
    fn an_unusually_large_loss_is_verified_first() {
        let mut court = Court::leading(5, 2);
        for id in [2, 3] {
            court.sees(at(90), report(NodeId(id), Verdict::Reachable, &[]));
        }
        court.sees(at(95), report(NodeId(5), Verdict::Late, &[]));
        court.sees(at(100), report(NodeId(4), Verdict::Suspect, &[]));
        court.sees(at(110), report(NodeId(5), Verdict::Suspect, &[]));
        court.tell(at(20_000), JudgeInput::Tick);
        assert_eq!(court.said, ["110 down 4", "110 down 5", "5110 condemn 5", "5110 condemn 4"]);
    }

    #[test]
    fn a_fence_that_is_finished_no_longer_counts_for_the_brake() {
        let mut court = Court::leading(3, 2);
        court.sees(at(50), report(B, Verdict::Reachable, &[]));
        court.sees(at(100), report(C, Verdict::Suspect, &[]));
        court.agree(at(110), |members| members[2].state = MemberState::Condemned);
        court.agree(at(200), |members| members[2].state = MemberState::Fenced);
        court.sees(at(300), report(B, Verdict::Suspect, &[]));
        assert_eq!(court.said, ["100 down 3", "100 condemn 3", "300 down 2", "300 condemn 2"]);
    }

    #[test]
    fn a_new_leader_says_again_what_holds_and_does_not_count_anew() {
        let mut court = Court::following(3, 1);
        court.sees(at(90), report(B, Verdict::Reachable, &[]));
        court.sees(at(100), report(C, Verdict::Suspect, &[]));
        assert!(court.said.is_empty());
        court.tell(at(500), JudgeInput::Lead { own: A });
        court.tell(at(900), JudgeInput::Follow);
        court.tell(at(950), JudgeInput::Lead { own: A });
        assert_eq!(court.said, ["500 down 3", "850 condemn 3", "950 down 3", "950 condemn 3"]);
    }

    #[test]
    fn who_never_joined_has_left_or_is_off_is_not_down() {
        for state in [MemberState::Absent, MemberState::Left, MemberState::Fenced, MemberState::Condemned] {
            let mut court = Court::leading(2, 2);
            court.agree(at(10), |members| members[1].state = state);
            court.sees(at(100), report(B, Verdict::Suspect, &[]));
            assert!(court.said.is_empty(), "{state:?}");
        }
    }

    #[test]
    fn a_node_that_joins_in_a_new_life_is_given_time_to_be_heard() {
        let mut court = Court::leading(2, 2);
        court.agree(at(10), |members| members[1].state = MemberState::Fenced);
        court.sees(at(20), report(B, Verdict::Suspect, &[]));
        let joined = |members: &mut Vec<JudgeMember>| {
            (members[1].state, members[1].incarnation) = (MemberState::Online, Incarnation(21));
        };
        court.agree(at(9000), joined);
        assert!(court.said.is_empty());
        court.tell(at(20_000), JudgeInput::Tick);
        assert_eq!(court.said, ["10000 down 2", "10000 condemn 2"], "but not for ever");
    }

    #[test]
    fn links_that_did_not_work_before_the_silence_count_for_nothing() {
        let with = |verdict, works: [bool; 2]| {
            let mut report = report(B, verdict, &[]);
            report.links.iter_mut().zip(works).for_each(|(link, works)| link.is_two_way = works);
            report
        };
        // Network 1 has been down for days; network 2 blinks.
        let mut court = Court::leading(2, 2);
        court.sees(at(50), with(Verdict::Reachable, [false, true]));
        court.sees(at(80), with(Verdict::Late, [false, true]));
        court.sees(at(100), with(Verdict::Suspect, [false, false]));
        court.tell(at(2000), JudgeInput::Tick);
        assert_eq!(court.said, ["100 down 2", "850 condemn 2"]);
        // Both worked until now.
        let mut court = Court::leading(2, 2);
        court.sees(at(80), with(Verdict::Late, [false, true]));
        court.sees(at(100), with(Verdict::Suspect, [false, false]));
        assert_eq!(court.said, ["100 down 2", "100 condemn 2"]);
    }

    #[test]
    fn a_member_that_has_not_booted_yet_is_waited_for() {
        let mut court = Court::leading(3, 2);
        court.judge = Judge::new(Bugs::NONE, at(0));
        let members = court.members.clone();
        court.tell(at(0), JudgeInput::Members { timing: T, members });
        court.tell(at(0), JudgeInput::Lead { own: A });
        court.sees(at(10), report(B, Verdict::Reachable, &[]));
        court.sees(at(1000), report(C, Verdict::Suspect, &[]));
        court.tell(at(299_000), JudgeInput::Tick);
        assert_eq!(court.said, ["1000 down 3"]);
        court.tell(at(301_000), JudgeInput::Tick);
        assert_eq!(court.said, ["1000 down 3", "300000 condemn 3"]);
        // Heard since, it is judged like any other.
        court.sees(at(340_000), report(B, Verdict::Suspect, &[]));
        assert_eq!(court.said.last().expect("B is lost"), "340000 condemn 2");
    }

    #[test]
    fn a_member_that_has_not_booted_is_not_waited_for_once_it_reads_off() {
        let mut court = Court::leading(3, 2);
        court.judge = Judge::new(Bugs::NONE, at(0));
        let members = court.members.clone();
        let incarnation = members[2].incarnation;
        court.tell(at(0), JudgeInput::Members { timing: T, members });
        court.tell(at(0), JudgeInput::Lead { own: A });
        court.sees(at(10), report(B, Verdict::Reachable, &[]));
        court.sees(at(1000), report(C, Verdict::Suspect, &[]));
        assert_eq!(court.judge.awaited().collect::<Vec<_>>(), [(C, incarnation)]);
        court.tell(at(1100), JudgeInput::ReadOff { node: C, incarnation: Incarnation(incarnation.0 + 1) });
        assert_eq!(court.said, ["1000 down 3"], "another life was meant");
        court.tell(at(1200), JudgeInput::ReadOff { node: C, incarnation });
        assert_eq!(court.said, ["1000 down 3", "1200 condemn 3"]);
        assert_eq!(court.judge.awaited().count(), 0);
    }

    #[test]
    fn idle_members_that_are_dead_for_long_do_not_stop_or_slow_down_a_condemn() {
        let mut court = Court::leading(9, 2);
        court.agree(at(50), |members| members.iter_mut().skip(5).for_each(|member| member.is_holder = false));
        for id in 2..=9 {
            court.sees(at(90), report(NodeId(id), Verdict::Reachable, &[]));
        }
        for id in 6..=9 {
            court.sees(at(100), report(NodeId(id), Verdict::Suspect, &[]));
            court.tell(at(100 + (id - 5) * 20_000), JudgeInput::Tick);
        }
        court.sees(at(200_000), report(NodeId(5), Verdict::Suspect, &[]));
        assert_eq!(court.said.last().expect("5 is lost"), "200000 condemn 5");
    }

    #[test]
    fn fences_that_do_not_end_hold_up_no_other_for_ever() {
        let mut court = Court::leading(12, 2);
        for id in 2..=12 {
            court.sees(at(90), report(NodeId(id), Verdict::Reachable, &[]));
        }
        for id in 3..=8 {
            court.sees(at(95), report(NodeId(id), Verdict::Late, &[]));
        }
        for id in 3..=8 {
            court.sees(at(100), report(NodeId(id), Verdict::Suspect, &[]));
        }
        court.tell(at(6000), JudgeInput::Tick);
        let condemned = |court: &Court| court.said.iter().filter(|said| said.contains("condemn")).count();
        assert_eq!(condemned(&court), CONDEMNED_AT_ONCE);
        court.agree(at(6100), |members| {
            members[4..8].iter_mut().for_each(|member| member.state = MemberState::Condemned);
        });
        court.tell(at(34_000), JudgeInput::Tick);
        assert_eq!(condemned(&court), CONDEMNED_AT_ONCE);
        court.tell(at(40_000), JudgeInput::Tick);
        assert_eq!(condemned(&court), 6);
    }

    #[test]
    fn a_judge_that_always_wakes_a_little_late_judges_all_the_same() {
        let mut court = Court::leading(2, 1);
        court.sees(at(100), report(B, Verdict::Suspect, &[]));
        for _ in 0..20 {
            let late = court.judge.deadline().map(|due| due + ms(80));
            let Some(late) = late else { break };
            court.step(late, JudgeInput::Tick);
        }
        assert_eq!(court.said, ["100 down 2", "1120 condemn 2"]);
    }

    #[test]
    fn who_has_contact_with_more_leads() {
        let mut court = Court::leading(3, 2);
        court.sees(at(100), report(C, Verdict::Suspect, &[B]));
        court.tell(at(60_000), JudgeInput::Tick);
        assert_eq!(court.said[0], "5100 yield to 2");
        assert!(court.said.iter().all(|said| said.ends_with("yield to 2")), "C is left alone: {:?}", court.said);
    }

    #[test]
    fn a_witness_that_lies_about_a_dead_member_wins_it_five_seconds() {
        let mut court = Court::leading(3, 2);
        court.agree(at(50), |members| members[1].may_lead = false);
        court.sees(at(90), report(B, Verdict::Reachable, &[A, C]));
        court.sees(at(90), report(C, Verdict::Reachable, &[A, B]));
        court.sees(at(100), report(C, Verdict::Suspect, &[]));
        court.tell(at(5_000), JudgeInput::Tick);
        assert!(court.said.is_empty(), "{:?}", court.said);
        court.tell(at(5_200), JudgeInput::Tick);
        assert_eq!(court.said, ["5100 down 3", "5100 condemn 3"]);
    }

    #[test]
    fn whom_nobody_better_can_reach_is_condemned_after_a_while() {
        // A ring: A has no contact with C, B none with D.
        let mut court = Court::leading(4, 2);
        let d = NodeId(4);
        court.sees(at(50), report(B, Verdict::Reachable, &[C]));
        court.sees(at(50), report(d, Verdict::Reachable, &[C]));
        court.sees(at(100), report(C, Verdict::Suspect, &[B, d]));
        court.tell(at(5000), JudgeInput::Tick);
        assert!(court.said.is_empty(), "{:?}", court.said);
        court.tell(at(20_000), JudgeInput::Tick);
        assert_eq!(court.said, ["5100 down 3", "5100 condemn 3"]);
    }

    #[test]
    fn an_isolated_or_just_stalled_leader_condemns_nobody() {
        let mut court = Court::leading(2, 2);
        court.tell(at(50), JudgeInput::Isolated(true));
        court.sees(at(100), report(B, Verdict::Suspect, &[]));
        assert!(court.said.is_empty());
        court.tell(at(200), JudgeInput::OwnStall);
        court.tell(at(200), JudgeInput::Isolated(false));
        court.tell(at(1000), JudgeInput::Tick);
        assert_eq!(court.said, ["200 down 2", "310 condemn 2"]);
    }

    #[test]
    fn a_worker_that_slept_through_the_hold_down_looks_again_first() {
        let mut court = Court::leading(2, 1);
        court.sees(at(100), report(B, Verdict::Suspect, &[]));
        court.step(at(3000), JudgeInput::Tick);
        assert_eq!(court.said, ["100 down 2"]);
        court.sees(at(3001), report(B, Verdict::Reachable, &[]));
        assert_eq!(court.said, ["100 down 2", "3001 withdrawn 2"]);
    }

    #[test]
    fn the_reason_is_a_sentence_an_operator_understands() {
        let mut court = Court::leading(3, 2);
        court.sees(at(90), report(B, Verdict::Reachable, &[]));
        let actions = court.judge.step(at(100), JudgeInput::Peer(report(C, Verdict::Suspect, &[])));
        let reason = "no heartbeat on any of 2 links for 250 ms, nobody else hears it".to_owned();
        assert_eq!(actions[1], JudgeAction::Condemn { node: C, incarnation: incarnation(C), reason });
    }

    #[cfg(feature = "planted-bugs")]
    #[test]
    fn the_planted_bug_ignores_the_others() {
        let mut court = Court::leading(3, 2);
        court.judge.bugs = Bugs::NONE.with(Bug::EvidenceSkipped);
        court.sees(at(100), report(C, Verdict::Suspect, &[]));
        assert_eq!(court.said, ["100 down 3", "100 condemn 3"]);
    }
}
