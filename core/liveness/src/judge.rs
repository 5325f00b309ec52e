//! Who is down, and who may be condemned?
//!
//! One node's word is not enough: a member is down when the leader's own pulse suspects it and no member that is
//! reachable hears it. Down is reversible. Condemned is not, so a verdict first stands for a hold-down where all
//! links share one failure domain, and an unusually large loss is verified for some seconds.
//!
//! Every node keeps its own list of the silent, so that a new leader need not begin to count when it is elected;
//! the leader alone speaks.
//!
//! In: what is agreed about the members, what the own pulse reports, ticks. Out: down, withdrawn, condemn.
//! Not here: proposing and applying Condemn (`core/node`, `core/state`), whether to fence (`core/fencing`).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use model::{Bug, Bugs, Incarnation, Instant, MemberState, NodeId, Profile};

use crate::{BeatFlags, PeerReport, Timing, Verdict};

/// Fences at the same time, when many members are lost.
const CONDEMNED_AT_ONCE: usize = 4;

/// The cluster's judgement about silent members, as the leader makes it.
pub struct Judge {
    bugs: Bugs,
    is_leading: bool,
    timing: Timing,
    own: Option<NodeId>,
    members: BTreeMap<NodeId, Member>,
    peers: BTreeMap<NodeId, Seen>,
    cases: BTreeMap<NodeId, Case>,
    /// While it is open, further members may be lost with the first.
    settle_until: Option<Instant>,
    is_isolated: bool,
    /// After an own stall, nobody is condemned before this.
    grace: Instant,
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
    /// The own pulse did not run for a while.
    OwnStall,
    /// The own pulse thinks that this node is (not) the one that is cut off.
    Isolated(bool),
    /// The deadline has come.
    Tick,
}

/// A member as agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgeMember {
    /// The member.
    pub id: NodeId,
    /// Its agreed incarnation; zero before its first Join.
    pub incarnation: Incarnation,
    /// Its agreed condition; only who is online can be down.
    pub state: MemberState,
    /// In how many separate failure domains links lead to it from here.
    pub link_domains: usize,
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
}

/// The newest report about a member.
struct Seen {
    report: PeerReport,
    /// Since when the verdict is what it is.
    since: Instant,
    /// Was it ever heard?
    was_heard: bool,
}

/// An incarnation that nobody hears.
struct Case {
    incarnation: Incarnation,
    /// Since when it is down; none while the cut is not yet clear.
    down_at: Option<Instant>,
    is_told: bool,
    is_condemned: bool,
}

impl Judge {
    /// A judge that knows nobody and does not lead.
    pub fn new(bugs: Bugs) -> Self {
        Judge {
            bugs,
            is_leading: false,
            timing: Timing::of(Profile::Lan),
            own: None,
            members: BTreeMap::new(),
            peers: BTreeMap::new(),
            cases: BTreeMap::new(),
            settle_until: None,
            is_isolated: false,
            grace: Instant::ZERO,
            deadline: None,
        }
    }

    /// Feeds one input that happened at `now`; returns what the caller must do about it.
    pub fn step(&mut self, now: Instant, input: JudgeInput) -> Vec<JudgeAction> {
        if self.deadline.is_some_and(|deadline| now.since(deadline) > self.timing.delta) {
            self.begin_grace(now);
        }
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

    fn begin_grace(&mut self, now: Instant) {
        self.grace = now + self.timing.delta * 2 + self.timing.jitter;
    }

    fn say_again(&mut self) {
        self.cases.values_mut().for_each(|case| (case.is_told, case.is_condemned) = (false, false));
    }

    fn on_members(&mut self, now: Instant, members: Vec<JudgeMember>) {
        let before = std::mem::take(&mut self.members);
        for agreed in members {
            let known = before.get(&agreed.id).filter(|known| known.agreed.incarnation == agreed.incarnation);
            let since = known.map_or(now, |known| known.since);
            self.members.insert(agreed.id, Member { agreed, since });
        }
        self.peers.retain(|id, _| self.members.contains_key(id));
    }

    fn on_report(&mut self, now: Instant, report: PeerReport) {
        let is_heard = match report.verdict {
            Verdict::Reachable | Verdict::Late => true,
            Verdict::Unknown | Verdict::Suspect => false,
        };
        let before = self.peers.remove(&report.id);
        let since = before.as_ref().filter(|seen| seen.report.verdict == report.verdict).map_or(now, |seen| seen.since);
        let was_heard = is_heard || before.is_some_and(|seen| seen.was_heard);
        self.peers.insert(report.id, Seen { report, since, was_heard });
    }

    fn judge(&mut self, now: Instant, actions: &mut Vec<JudgeAction>) {
        self.deadline = None;
        let silent = self.silent(now);
        self.close_cases(&silent, actions);
        self.open_cases(silent);
        self.settle(now);
        if self.is_leading && !self.is_isolated {
            self.tell(now, actions);
            self.condemn(now, actions);
        }
    }

    /// Drops the cases of members that are heard, or whose end is agreed.
    fn close_cases(&mut self, silent: &BTreeMap<NodeId, Incarnation>, actions: &mut Vec<JudgeAction>) {
        self.cases.retain(|node, case| {
            let is_silent = silent.get(node) == Some(&case.incarnation);
            let is_settled = self.members.get(node).is_none_or(|member| member.agreed.state != MemberState::Online);
            if !is_silent && !is_settled && case.is_told {
                actions.push(JudgeAction::Withdrawn { node: *node });
            }
            is_silent
        });
    }

    fn open_cases(&mut self, silent: BTreeMap<NodeId, Incarnation>) {
        for (node, incarnation) in silent {
            let case = Case { incarnation, down_at: None, is_told: false, is_condemned: false };
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
        let is_braked = self.is_braked();
        let mut waiting: Vec<(Reverse<i64>, NodeId)> = Vec::new();
        for (&node, case) in self.cases.iter().filter(|(_, case)| !case.is_condemned) {
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
            if is_braked && self.condemned() >= CONDEMNED_AT_ONCE {
                continue;
            }
            let reason = self.reason(now, node);
            let Some(case) = self.cases.get_mut(&node) else { continue };
            case.is_condemned = true;
            actions.push(JudgeAction::Condemn { node, incarnation: case.incarnation, reason });
        }
    }

    fn condemn_due(&self, node: NodeId, is_braked: bool) -> Option<Instant> {
        let down_at = self.cases.get(&node)?.down_at?;
        let hold = if self.members.get(&node)?.agreed.link_domains >= 2 { Duration::ZERO } else { self.timing.t_hold };
        let brake = if is_braked { self.timing.brake } else { Duration::ZERO };
        Some((down_at + hold.max(brake)).max(self.grace))
    }

    /// Are more members lost at the same time than one failure explains: more than one, and more than a quarter?
    fn is_braked(&self) -> bool {
        let lost = self.agreed_condemned() + self.cases.len();
        let all = self.members.values().filter(|member| counts_as_member(member.agreed.state)).count();
        lost > 1 && lost * 4 > all
    }

    /// Condemned and not yet proven off.
    fn condemned(&self) -> usize {
        self.agreed_condemned() + self.cases.values().filter(|case| case.is_condemned).count()
    }

    fn agreed_condemned(&self) -> usize {
        self.members.values().filter(|member| member.agreed.state == MemberState::Condemned).count()
    }

    /// The incarnations that this node suspects and nobody reachable hears.
    fn silent(&mut self, now: Instant) -> BTreeMap<NodeId, Incarnation> {
        let mut silent = BTreeMap::new();
        let mut unsure = Vec::new();
        for member in self.watched() {
            let JudgeMember { id, incarnation, .. } = member.agreed;
            let Some(seen) = self.peers.get(&id).filter(|seen| seen.report.verdict == Verdict::Suspect) else {
                continue;
            };
            // A node that has just joined in a new life is given time to be heard in it, like one at our start.
            let is_heard = seen.report.incarnation == incarnation;
            let expected = member.since + self.timing.t_to * 4;
            if !is_heard && now < expected {
                unsure.push(expected);
                continue;
            }
            match self.evidence(now, id, seen) {
                Evidence::NobodyHears => _ = silent.insert(id, incarnation),
                Evidence::SomebodyHears => {}
                Evidence::Unsure { until } => unsure.push(until),
            }
        }
        unsure.into_iter().for_each(|at| self.wake_at(at));
        silent
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
        let silence = if seen.was_heard {
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
        let link = |n| LinkReport { link: LinkId(n), state: LinkState::Up, rtt: None, loss_permille: 0 };
        PeerReport {
            id,
            incarnation: incarnation(id),
            verdict,
            is_two_way: true,
            reachable_since: None,
            limit: T.t_to,
            facts: Facts::default(),
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
                link_domains,
                held_priority: id.0 as i64,
            };
            let members: Vec<JudgeMember> = ids.iter().copied().map(member).collect();
            let mut court = Court { judge: Judge::new(Bugs::NONE), members, said: Vec::new() };
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
    fn the_word_of_one_member_that_hears_it_saves_a_node() {
        let mut court = Court::leading(3, 2);
        court.sees(at(100), report(C, Verdict::Suspect, &[]));
        court.tell(at(60_000), JudgeInput::Tick);
        assert!(court.said.is_empty());
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
