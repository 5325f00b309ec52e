//! Who is heard and does not answer? The ladder of sickness (SAFETY §10.1).
//!
//! A beat proves that a machine and its pulse run, not that its worker, its disk or the way to it do. A member that owes
//! the leader an answer gets nothing new. If the leader hears it, and another voter does too, that one leads for a try:
//! the fault may be on the way. (Whom the leader does not hear and others do is the judge's: see `liveness`.) If it does not answer anybody, it is condemned as soon as it holds something, or keeps something from running.
//!
//! Time is counted in the leader's own ticks, so that a leader that stood still accuses nobody.
//!
//! Not here: who is silent (`liveness`), who owes an operation (`executor`).

use std::time::Duration;

use model::{Epoch, Incarnation, MemberState, NodeId, Problem, ProblemKind};
use state::Command;

use crate::input::{Action, Moment};
use crate::leader::holds_anything;
use crate::node::{Node, Todo};

/// Another voter that hears it leads for a try after this.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(5);

/// Who should be drained, holds something and cannot even take the order to stop it, is condemned after this.
const STOP_MARGIN: Duration = Duration::from_secs(2);

impl Node {
    /// For how long a member has owed the leader an answer, or has made no progress, as its own beats say.
    fn owes(&self, node: NodeId) -> Duration {
        if node == self.identity.own {
            return Duration::ZERO;
        }
        self.consensus.owes(node).max(self.own_word(node))
    }

    /// For how long the worker or the disk of a member has stood still, as its beats say.
    fn own_word(&self, node: NodeId) -> Duration {
        self.peers.get(&node).map_or(Duration::ZERO, |peer| peer.report.health.longest())
    }

    /// On the leader: the members that reach another step of the ladder make a new look necessary.
    pub(crate) fn watch_sick(&mut self) {
        let members = self.state.members.keys().copied();
        let silent: Vec<NodeId> = members.filter(|id| self.who_hears(*id).is_empty()).collect();
        silent.into_iter().for_each(|id| self.consensus.forgive(id));
        let terms = self.timing;
        let steps = [terms.sick_lead, HAND_OVER_LIMIT, terms.sick_drain, terms.sick_drain + STOP_MARGIN];
        let sick = self
            .state
            .members
            .keys()
            .map(|id| (*id, self.owes(*id)))
            .filter(|(_, owed)| *owed >= terms.sick_lead)
            .map(|(id, owed)| (id, steps.iter().filter(|step| owed >= **step).count()))
            .collect();
        if self.sick != sick {
            self.sick = sick;
            self.is_stale = true;
        }
    }

    /// Does what the ladder says about members that are heard, by this node or by another, and do not answer it.
    pub(crate) fn treat_sick(&mut self, now: Moment, epoch: Epoch, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let sick: Vec<(NodeId, Incarnation)> = self
            .sick
            .keys()
            .filter_map(|id| Some((*id, self.state.members.get(id)?)))
            .filter(|(_, member)| member.state == MemberState::Online)
            .map(|(id, member)| (id, member.incarnation))
            .collect();
        let (terms, blocking) = (self.timing, self.blocking());
        for (node, incarnation) in sick {
            let owed = self.owes(node);
            let is_tolerated = self.settings.bugs.has(model::Bug::SickTolerated);
            if is_tolerated || self.is_left_alone(node) || self.who_hears(node).is_empty() {
                continue;
            }
            let hearing = self.who_hears(node);
            // What stood still by its own word and goes on again has not answered yet, and will.
            let stuck_at = self.peers.get(&node).and_then(|peer| peer.stuck_at);
            let was_stuck = stuck_at.is_some_and(|at| now.at.since(at) < HAND_OVER_LIMIT);
            let may_be_the_way =
                hearing.contains(&self.identity.own) && self.own_word(node) < terms.sick_lead && !was_stuck;
            if owed >= HAND_OVER_LIMIT && may_be_the_way && self.handed_over_for.insert((node, incarnation)) {
                let best = hearing.into_iter().find(|id| *id != self.identity.own);
                if let Some(best) = best.filter(|best| self.may_lead(*best)) {
                    todo.push(Todo::Consensus(consensus::Input::Transfer(best)));
                    return;
                }
            }
            let is_due = owed >= terms.sick_drain + STOP_MARGIN && holds_anything(&self.state, node)
                || owed >= terms.sick_drain && blocking.contains(&node);
            if !is_due || self.is_ending(node) {
                continue;
            }
            if !self.consensus.majority_answers(self.timing.t_to, node) {
                return self.retry_later(now);
            }
            let reason = format!(
                "it is heard and has not answered for {} s: its worker or its disk hangs, or nothing reaches it",
                owed.as_secs()
            );
            let command = if self.ends_by_verdict(node) && holds_anything(&self.state, node) {
                Command::Lost { node, incarnation, epoch, reason }
            } else {
                Command::Condemn { node, incarnation, epoch, reason, is_for_silence: false }
            };
            self.propose_own(now, command, todo, out);
        }
    }

    /// On the leader: members that are heard and do not answer it.
    pub(crate) fn sick_problems(&self) -> impl Iterator<Item = Problem> {
        let heard = self.heard_members();
        self.sick.keys().filter(move |id| heard.contains(id)).map(|id| {
            let name = self.state.name_of(*id);
            let text = if self.own_word(*id) >= self.timing.sick_lead {
                format!(
                    "the worker or the disk of {name} hangs: it is heard, does not answer, and gets nothing new. See `dmesg` \
                     and the console of {name}"
                )
            } else {
                format!(
                    "{name} is heard and does not answer the leader: it gets nothing new. See whether a firewall lets only \
                     the heartbeats through (UDP 7600, but not UDP 7601 or TCP 7600, in one direction or both)"
                )
            };
            Problem::new(ProblemKind::NotAnswering, name, text)
        })
    }

    /// The members that hear a member, this node first.
    fn who_hears(&self, node: NodeId) -> Vec<NodeId> {
        use liveness::Verdict::{Late, Reachable};
        let is_heard =
            |id: NodeId| self.peers.get(&id).is_some_and(|peer| matches!(peer.report.verdict, Reachable | Late));
        let own = is_heard(node).then_some(self.identity.own);
        let others = self
            .peers
            .values()
            .map(|peer| &peer.report)
            .filter(|report| report.id != node && is_heard(report.id) && report.hears.contains(&node))
            .map(|report| report.id);
        own.into_iter().chain(others).collect()
    }

    /// Could this voter lead well?
    fn may_lead(&self, node: NodeId) -> bool {
        self.consensus.voters().contains(&node)
            && !self.sick.contains_key(&node)
            && !self.is_leaving(node)
            && self.peers.get(&node).is_some_and(|peer| {
                peer.report.verdict == liveness::Verdict::Reachable
                    && peer.report.is_two_way
                    && peer.report.facts.priority >= 0
            })
    }
}
