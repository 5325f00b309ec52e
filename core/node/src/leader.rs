//! What a leader does besides leading the log: who is a member, who votes, who is down, what should change.
//!
//! Everything here is made anew from the state and the detector's view after each change; nothing is remembered that
//! a successor could not find in the log, but for what is in flight.

use std::collections::BTreeSet;
use std::time::Duration;

use consensus::MembershipChange;
use executor::DispatcherInput;
use fencing::FencingInput;
use liveness::{JudgeInput, JudgeMember, PeerReport, Verdict};
use model::{
    ActionKind, ClusterState, Epoch, HolderState, Incarnation, Member, MemberState, NodeId, NodeRole, Problem,
    ProblemKind, ResourceState, Term,
};
use state::Command;
use wire::Announce;

use crate::input::{Action, Moment};
use crate::node::{Node, Reign, Todo, event};

/// A learner that lacks at most this many entries may become a voter.
const PROMOTION_LAG_MAX: u64 = 64;

/// The vote of a voter that was not heard for so long goes to a member that is here.
const VOTER_PATIENCE: Duration = Duration::from_secs(600);

/// So often the devices of a member are read that is waited for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A member with a new boot may take this much longer to join than a verdict takes; after that its fence continues.
const REBIRTH_MARGIN: Duration = Duration::from_secs(1);

/// A member that was admitted within so many milliseconds is waited for before a later one gets its vote.
const FIRST_COME_MS: u64 = 3000;

impl Node {
    /// This node was elected: its epoch begins with the very first entry it adds.
    pub(crate) fn begin_reign(&mut self, now: Moment, term: Term, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let name = self.state.name_of(self.identity.own);
        out.push(event("leader", &name, format!("{name} leads in term {term}")));
        let command = Command::Coordinator { node: self.identity.own, incarnation: self.identity.incarnation, term };
        let epoch = Epoch(self.consensus.last_index().0 + 1);
        self.reign = Some(Reign { epoch, is_settled: false });
        self.propose_own(now, command, todo, out);
        assert!(self.consensus.last_index().0 >= epoch.0, "a leader's first proposal was refused");
        self.condemnable.clear();
        todo.push(Todo::Judge(JudgeInput::Lead { own: self.identity.own }));
        self.is_stale = true;
    }

    /// Another node leads, or nobody does.
    pub(crate) fn end_reign(&mut self, now: Moment, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        todo.push(Todo::Judge(JudgeInput::Follow));
        todo.push(Todo::Fencing(FencingInput::Follow));
        let actions = self.dispatcher.step(now.at, &self.state, DispatcherInput::Follow);
        self.on_dispatcher(now, actions, todo, out);
        self.plan = Default::default();
        self.condemnable.clear();
        self.retry_at = None;
        self.look_again_at = None;
        self.gone_voters.clear();
        self.sick.clear();
        self.leave_heard.clear();
        self.forget_own_proposals();
    }

    /// Looks at everything that a leader decides and begins what can begin.
    pub(crate) fn lead(&mut self, now: Moment, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let Some(reign) = self.reign else { return };
        // What it would decide rests on a wrong state; another one is to lead.
        if self.is_wrong() {
            return;
        }
        self.tend_voters(now, todo);
        if !self.goes_down() {
            self.condemn_down(now, reign.epoch, todo, out);
        }
        if !reign.is_settled || self.state.epoch != reign.epoch {
            return;
        }
        self.tend_level(now, reign.epoch, todo, out);
        self.end_shutdown(now, todo, out);
        self.spare(now, reign.epoch, todo, out);
        let heard = self.heard_members();
        let mut actions = Vec::new();
        if self.dispatcher.epoch() != Some(reign.epoch) {
            let members = heard.iter().copied().collect();
            todo.push(Todo::Fencing(FencingInput::Lead { epoch: reign.epoch }));
            actions.extend(self.dispatcher.step(
                now.at,
                &self.state,
                DispatcherInput::Lead { epoch: reign.epoch, members },
            ));
        }
        let reachable = DispatcherInput::Reachable { members: heard, arriving: self.arriving_members() };
        actions.extend(self.dispatcher.step(now.at, &self.state, reachable));
        let live = self.live(now);
        let plan = scheduler::plan(&self.state, &live);
        actions.extend(self.dispatcher.step(now.at, &self.state, DispatcherInput::Plan(&plan)));
        self.plan = plan;
        self.replan_at = scheduler::again_at(&self.state, &live)
            .map(|at| now.at + Duration::from_millis(at.0.saturating_sub(now.wall.0)));
        self.on_dispatcher(now, actions, todo, out);
        self.tend_leavers(now, reign.epoch, todo, out);
        if self.goes_down() {
            return;
        }
        self.condemn_blocked(now, reign.epoch, todo, out);
        self.look_at_awaited(now, todo);
        self.condemn_down(now, reign.epoch, todo, out);
        self.condemn_stuck(now, reign.epoch, todo, out);
        self.treat_sick(now, reign.epoch, todo, out);
    }

    /// Members that can be given something now: heard, and none that has owed an answer for too long (SAFETY §10.1).
    pub(crate) fn reachable_members(&self, now: Moment) -> BTreeSet<NodeId> {
        let owes = self.dispatcher.owes(now.at);
        let answers =
            |id: &NodeId| owes.get(id).is_none_or(|time| *time < executor::ANSWER_LIMIT) && !self.sick.contains_key(id);
        self.heard_members().into_iter().filter(answers).collect()
    }

    /// Members whose executors can be talked to now: they are heard, and hear this node. This node is one of them.
    pub(crate) fn heard_members(&self) -> BTreeSet<NodeId> {
        self.state
            .members
            .iter()
            .filter(|(id, member)| {
                member.state == MemberState::Online
                    && !self.state.gone.contains(id)
                    && (**id == self.identity.own && member.incarnation == self.identity.incarnation
                        || self.peers.get(id).is_some_and(|peer| {
                            matches!(peer.report.verdict, Verdict::Reachable | Verdict::Late)
                                && peer.report.is_two_way
                                && peer.report.incarnation == member.incarnation
                                && peer.report.facts.is_known
                        }))
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// Members that are heard, and hear this node, in a life that has not joined yet: they may run what their machine
    /// started by itself.
    fn arriving_members(&self) -> BTreeSet<NodeId> {
        self.state
            .members
            .iter()
            .filter(|(id, member)| {
                member.role == NodeRole::Member
                    && self.is_here(**id)
                    && self.peers.get(id).is_some_and(|peer| {
                        let is_leaving = peer.report.flags.has(liveness::BeatFlags::LEAVING);
                        peer.report.incarnation != member.incarnation
                            || member.state == MemberState::Left && !is_leaving
                    })
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// Entries of a newer kind are used once every member that is online can read them; who can, says so in its beats.
    fn tend_level(&mut self, now: Moment, epoch: Epoch, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let online = self.state.members.iter().filter(|(_, member)| member.state == MemberState::Online);
        let others = online.map(|(id, _)| *id).filter(|id| *id != self.identity.own);
        let is_unasked = self.settings.bugs.has(model::Bug::RaiseUnasked);
        let known = |id: NodeId| self.peers.get(&id).map_or(0, |peer| peer.report.facts.level);
        let own = self.settings.level;
        let level = others.map(known).filter(|_| !is_unasked).min().unwrap_or(own).min(own);
        if level > self.state.level && !self.is_proposed(|command| matches!(command, Command::Raise { .. })) {
            self.propose_own(now, Command::Raise { level, epoch }, todo, out);
        }
    }

    /// Does the member run a program that cannot read what is agreed on? It could answer nothing if it were let in.
    pub(crate) fn is_too_old(&self, node: NodeId) -> bool {
        let facts = self.peers.get(&node).map(|peer| &peer.report.facts);
        facts.is_some_and(|facts| facts.is_known && facts.level < self.state.level)
    }

    /// Who takes no part because of its old program, one sentence each.
    pub(crate) fn level_problems(&self) -> impl Iterator<Item = Problem> {
        self.state.members.iter().filter(|(id, _)| self.is_here(**id) && self.is_too_old(**id)).map(|(id, member)| {
            let known = self.peers.get(id).map_or(0, |peer| peer.report.facts.level);
            let text = format!(
                "{} runs an older program, which knows feature level {known}, and the cluster is at {}: it takes no part \
                 until the newer Cardea is installed there",
                member.name, self.state.level
            );
            Problem::new(ProblemKind::OldProgram, member.name.as_str(), text)
        })
    }

    /// Keeps the voters at their number: the members that joined first; others learn (ARCHITECTURE §6.1).
    fn tend_voters(&mut self, now: Moment, todo: &mut Vec<Todo>) {
        self.voters_again_at = None;
        self.note_gone_voters(now);
        if self.consensus.has_pending_change() {
            return;
        }
        let (voters, learners) = (self.consensus.voters(), self.consensus.learners());
        let is_raft_member = |id: &NodeId| voters.contains(id) || learners.contains(id);
        let gone = voters.iter().chain(learners).find(|id| !self.state.members.contains_key(id)).copied();
        if let Some(gone) = gone {
            let change = if gone == self.identity.own {
                // A leader that removes itself goes on leading: somebody else has to do it.
                self.successor().map(consensus::Input::Transfer)
            } else {
                Some(consensus::Input::Change(MembershipChange::Remove(gone)))
            };
            todo.extend(change.map(Todo::Consensus));
            return;
        }
        if let Some(new) = self.state.members.keys().find(|id| !is_raft_member(id)) {
            todo.push(Todo::Consensus(consensus::Input::Change(MembershipChange::AddLearner(*new))));
            return;
        }
        let commit = self.consensus.commit().0;
        let is_ready = |id: &NodeId| {
            self.peers.get(id).is_some_and(|peer| peer.report.verdict == Verdict::Reachable)
                && self.consensus.matched(*id).is_some_and(|matched| matched.0 + PROMOTION_LAG_MAX >= commit)
        };
        if voters.len() >= quorum::voter_target(self.state.members.len()) {
            // Whoever was gone for long votes again when it is back and a vote is free; until then it learns.
            let first = self.gone_voters.iter().map(|(id, since)| (*since + VOTER_PATIENCE, *id)).min();
            if let Some((due, gone)) = first.filter(|_| learners.iter().any(is_ready)) {
                if now.at < due {
                    self.voters_again_at = Some(due);
                } else {
                    let change = MembershipChange::Remove(gone);
                    todo.push(Todo::Consensus(consensus::Input::Change(change)));
                }
            }
            return;
        }
        let next = self.state.members.iter().filter(|(id, _)| learners.contains(id)).find(|(id, member)| {
            is_ready(id) || now.wall.0.abs_diff(member.since.0) < FIRST_COME_MS && member.state == MemberState::Absent
        });
        match next {
            Some((id, _)) if is_ready(id) => {
                let change = MembershipChange::Promote(*id);
                todo.push(Todo::Consensus(consensus::Input::Change(change)));
            }
            // Those that joined first vote: one that was admitted a moment ago is waited for.
            Some(_) => self.voters_again_at = Some(now.at + Duration::from_millis(FIRST_COME_MS)),
            None => {}
        }
    }

    /// Is there contact with this node, both ways? There is with this node itself.
    pub(crate) fn is_here(&self, id: NodeId) -> bool {
        id == self.identity.own
            || self.peers.get(&id).is_some_and(|peer| {
                matches!(peer.report.verdict, Verdict::Reachable | Verdict::Late) && peer.report.is_two_way
            })
    }

    /// Keeps since when this leader has had no contact with voters.
    fn note_gone_voters(&mut self, now: Moment) {
        let gone = self.consensus.voters().iter().filter(|id| !self.is_here(**id));
        self.gone_voters = gone.map(|id| (*id, self.gone_voters.get(id).copied().unwrap_or(now.at))).collect();
    }

    /// Why a member cannot be removed at this moment: its machine is gone from then on, and a majority of the voters
    /// must still be there to let go of its vote. None, if it can.
    pub(crate) fn why_not_remove(&self, node: NodeId) -> Option<String> {
        let voters = self.consensus.voters();
        let is_gone = |id: &NodeId| !self.state.members.contains_key(id);
        if self.is_removing() || self.consensus.has_pending_change() || voters.iter().any(is_gone) {
            return Some("another change of the members is not complete; try again in a moment".to_owned());
        }
        let stays = |id: &&NodeId| **id == self.identity.own || **id != node && self.is_here(**id);
        let staying = voters.iter().filter(stays).count();
        (voters.contains(&node) && !quorum::is_majority(staying, voters.len())).then(|| {
            format!(
                "without {} only {staying} of {} voters can be reached, which is no majority: bring the others back first",
                self.state.name_of(node),
                voters.len()
            )
        })
    }

    /// Why nobody can attest that this life of a node is off: somebody hears it. None, if nobody does.
    pub(crate) fn why_not_confirm(&self, node: NodeId, incarnation: Incarnation) -> Option<String> {
        let is_heard = |report: &PeerReport| matches!(report.verdict, Verdict::Reachable | Verdict::Late);
        let own = self.peers.get(&node).map(|peer| &peer.report).filter(|report| is_heard(report));
        let by = match own {
            // Its next life is heard: this one may well be off.
            Some(report) if report.incarnation != incarnation => return None,
            Some(_) => self.identity.own,
            None => {
                let others = self.peers.values().map(|peer| &peer.report);
                others.filter(|r| r.id != node && is_heard(r) && r.hears.contains(&node)).map(|r| r.id).next()?
            }
        };
        let (name, by) = (self.state.name_of(node), self.state.name_of(by));
        Some(format!(
            "{by} hears {name}, so it is not off: run `cardea fence {name}` to have it cut off, or pull its power and \
             confirm that again"
        ))
    }

    /// A node that asked to leave and is empty has left.
    fn tend_leavers(&mut self, now: Moment, epoch: Epoch, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let leaving = |id: &NodeId, member: &Member| member.state == MemberState::Online && self.is_leaving(*id);
        let is_empty = |id: &NodeId| state::why_not_leave(&self.state, *id).is_none();
        let mut empty: Vec<(NodeId, Incarnation)> = self
            .state
            .members
            .iter()
            .filter(|(id, member)| {
                leaving(id, member)
                    && is_empty(id)
                    && !self.is_proposed(|command| matches!(command, Command::Leave { node, .. } if node == *id))
            })
            .map(|(id, member)| (*id, member.incarnation))
            .collect();
        // A voter that goes alone, and takes the majority away, waits for as long as a member stays that could run something:
        // another one may be back soon. When the cluster as a whole goes down, all go together, the leader last: else the
        // last ones could neither leave nor stay.
        let voters = self.consensus.voters();
        let is_here = |id: &NodeId| self.is_here(*id);
        let answers = |id: &NodeId| self.consensus.has_answered(*id, self.timing.t_to);
        let staying = voters.iter().filter(|id| !self.is_leaving(**id) && is_here(id) && answers(id)).count();
        let mut is_held = false;
        if !quorum::is_majority(staying, voters.len()) {
            let mut here = self.state.members.iter().filter(|(id, m)| m.state == MemberState::Online && is_here(id));
            let mut going = here.clone().filter(|(id, _)| self.is_leaving(**id));
            let somebody_stays = here.any(|(id, m)| m.role == NodeRole::Member && !self.is_leaving(*id));
            if somebody_stays && self.closing().is_none() {
                let all = empty.len();
                empty.retain(|(id, _)| !voters.contains(id));
                is_held = empty.len() < all;
            } else if !going.all(|(id, _)| is_empty(id) || self.is_stuck(*id)) {
                return;
            }
        }
        if is_held {
            self.retry_later(now);
        }
        empty.sort_by_key(|(id, _)| *id == self.identity.own);
        for (node, incarnation) in empty {
            self.propose_own(now, Command::Leave { node, incarnation, epoch }, todo, out);
        }
    }

    /// Hands off this member, whatever happens to it.
    pub(crate) fn is_in_maintenance(&self, node: NodeId) -> bool {
        state::is_in_maintenance(&self.state, node)
    }

    /// Is nothing done about this member, whatever happens to it? It is in maintenance, or its daemon ended in it.
    pub(crate) fn is_left_alone(&self, node: NodeId) -> bool {
        self.is_in_maintenance(node) || self.state.gone.contains(&node)
    }

    /// Was the daemon on this member told to end?
    pub(crate) fn is_leaving(&self, node: NodeId) -> bool {
        self.state.action(&ActionKind::Leave(node)).is_some()
    }

    /// What cannot be stopped is cut off: the holder of a blocked exclusive unit is condemned (SAFETY §2.6). That is done
    /// once for a unit and a version of the file: what fails alike on the next node is a mistake in the file, and would
    /// cost node after node.
    fn condemn_blocked(&mut self, now: Moment, epoch: Epoch, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let blocked: Vec<(NodeId, Incarnation, String)> = self
            .state
            .holders
            .iter()
            .filter(|(unit, holder)| {
                matches!(holder.state, HolderState::Blocked { .. })
                    && !self.state.stop_cost_node.contains(*unit)
                    && (self.state.config.is_exclusive(unit) || self.state.config.members_of(unit).is_empty())
                    && self.state.members.get(&holder.node).is_some_and(|member| {
                        member.state == MemberState::Online && member.incarnation == holder.incarnation
                    })
                    && !self.is_left_alone(holder.node)
                    && !self
                        .is_proposed(|command| matches!(command, Command::Condemn { node, .. } if *node == holder.node))
            })
            .map(|(unit, holder)| {
                let why = match &holder.state {
                    HolderState::Blocked { why } => why.as_str(),
                    HolderState::Held | HolderState::Releasing => "",
                };
                (holder.node, holder.incarnation, format!("{unit} cannot be stopped: {why}"))
            })
            .collect();
        for (node, incarnation, reason) in blocked {
            if node == self.identity.own {
                self.let_another_fence_me(todo);
                continue;
            }
            let command = Command::Condemn { node, incarnation, epoch, reason, is_for_silence: false };
            self.propose_own(now, command, todo, out);
        }
    }

    /// Nobody fences itself: another voter leads first, and condemns this node.
    fn let_another_fence_me(&self, todo: &mut Vec<Todo>) {
        todo.extend(self.successor().map(|successor| Todo::Consensus(consensus::Input::Transfer(successor))));
    }

    /// A member came up with an incarnation that is not agreed yet.
    pub(crate) fn on_announce(
        &mut self,
        now: Moment,
        from: NodeId,
        announce: Announce,
        todo: &mut Vec<Todo>,
        out: &mut Vec<Action>,
    ) {
        let Some(member) = self.state.members.get(&from) else { return };
        // Another machine, or the same boot: nothing proves that the former life is over, and somebody has to end it.
        let is_proven = announce.boot_id != member.boot_id && announce.machine_id == member.machine_id;
        if is_proven && member.incarnation != announce.incarnation {
            self.newcomers.insert(from, announce.incarnation);
        }
        let Some(reign) = self.reign else { return };
        if self.is_proposed(|c| matches!(c, Command::Join { node, .. } if *node == from)) {
            return;
        }
        let Some(member) = self.state.members.get(&from) else { return };
        if self.has_two_lives(from) || self.is_too_old(from) {
            return;
        }
        if self.joins_again_at.get(&from).is_some_and(|at| now.at < *at) {
            return;
        }
        // SAFETY §2.1: the new life counts only when no beat of the old one arrived for as long as a verdict takes.
        let old_heard_recently = from != self.identity.own
            && member.incarnation.0 != 0
            && member.incarnation != announce.incarnation
            && self.peers.get(&from).is_none_or(|peer| {
                peer.report.incarnation != announce.incarnation
                    || now.at.since(peer.incarnation_since) < self.timing.t_to
            });
        if old_heard_recently {
            return;
        }
        let is_other = member.incarnation.0 != 0 && member.incarnation != announce.incarnation;
        if is_other && !is_proven && member.state == MemberState::Online && from != self.identity.own {
            let is_known = self.is_proposed(|c| matches!(c, Command::Condemn { node, .. } if *node == from));
            if !is_known && !self.is_in_maintenance(from) {
                let (incarnation, epoch) = (member.incarnation, reign.epoch);
                let reason = "it is here in another life, and nothing proves that the former one is over".to_owned();
                let command = Command::Condemn { node: from, incarnation, epoch, reason, is_for_silence: false };
                self.propose_own(now, command, todo, out);
            }
            return;
        }
        let command = Command::Join {
            node: from,
            incarnation: announce.incarnation,
            boot_id: announce.boot_id,
            machine_id: announce.machine_id,
            storage_uuid: announce.storage_uuid,
            last_term: announce.last_term,
            last_index: announce.last_index,
            old_heard_recently,
        };
        self.propose_own(now, command, todo, out);
    }

    /// A member wants to leave in order. The message alone may be an old one that somebody sends once more: it counts
    /// only together with heartbeats of this life that say the same.
    pub(crate) fn on_leave(
        &mut self,
        now: Moment,
        from: NodeId,
        incarnation: Incarnation,
        todo: &mut Vec<Todo>,
        out: &mut Vec<Action>,
    ) {
        let says_so = from == self.identity.own
            || self.peers.get(&from).is_some_and(|peer| {
                peer.report.incarnation == incarnation && peer.report.flags.has(liveness::BeatFlags::LEAVING)
            });
        let member = self.state.members.get(&from);
        let is_here = says_so
            && !self.state.gone.contains(&from)
            && member.is_some_and(|m| m.incarnation == incarnation && m.state == MemberState::Online);
        let Some(reign) = self.reign.filter(|_| is_here) else { return };
        if self.state.level >= 1 && self.is_in_maintenance(from) && state::why_not_leave(&self.state, from).is_some() {
            // Hands off: what runs there cannot go elsewhere first, and goes on.
            if !self.is_proposed(|c| matches!(c, Command::Gone { node, .. } if *node == from)) {
                let command = Command::Gone { node: from, incarnation, epoch: reign.epoch };
                self.propose_own(now, command, todo, out);
            }
            return;
        }
        let is_wanted = self.state.action(&ActionKind::Leave(from)).is_none()
            && !self
                .is_proposed(|c| matches!(c, Command::Act { action: ActionKind::Leave(node), .. } if *node == from));
        if !is_wanted {
            self.leave_heard.remove(&from);
        } else if !self.may_be_the_first(now, from) {
            let reason = format!("the daemon on {} was told to end", self.state.name_of(from));
            self.propose_own(now, Command::Act { action: ActionKind::Leave(from), reason }, todo, out);
        }
    }

    /// Who should lead instead of this node: a reachable voter that runs resources, the one with the most entries.
    pub(crate) fn successor(&self) -> Option<NodeId> {
        self.consensus
            .voters()
            .iter()
            .filter(|id| **id != self.identity.own)
            .filter_map(|id| self.peers.get(id))
            .filter(|peer| peer.report.verdict == Verdict::Reachable && peer.report.is_two_way)
            .max_by_key(|peer| {
                (
                    !self.says_it_leaves(peer.report.id),
                    peer.report.facts.priority,
                    peer.report.facts.last_index,
                    std::cmp::Reverse(peer.report.id),
                )
            })
            .map(|peer| peer.report.id)
    }

    /// The members as the judge wants them.
    pub(crate) fn judged_members(&self) -> JudgeInput {
        let own_name = self.state.members.get(&self.identity.own).map(|own| &own.name);
        let units = self.state.config.units();
        let members = self
            .state
            .members
            .iter()
            .map(|(id, member)| JudgeMember {
                id: *id,
                incarnation: member.incarnation,
                // Who ended in maintenance is silent on purpose.
                state: if self.state.gone.contains(id) { MemberState::Left } else { member.state },
                link_domains: own_name
                    .map_or_else(Vec::new, |own| self.state.config.domains_of_links(own, &member.name)),
                may_lead: member.role == NodeRole::Member && self.consensus.voters().contains(id),
                is_holder: holds_anything(&self.state, *id),
                held_priority: self
                    .state
                    .holders
                    .iter()
                    .filter(|(_, holder)| holder.node == *id)
                    .map(|(unit, _)| units.get(unit).map_or(0, |unit| i64::from(unit.placement.priority)))
                    .sum(),
            })
            .collect();
        JudgeInput::Members { timing: self.timing, members }
    }

    /// The members that keep a wanted exclusive unit from every node that could take it.
    pub(crate) fn blocking(&self) -> BTreeSet<NodeId> {
        self.plan.blocked_by.values().flatten().copied().collect()
    }

    /// What a member could not stop, though it does not hold it, keeps the unit from running anywhere: it is cut off.
    fn condemn_stuck(&mut self, now: Moment, epoch: Epoch, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let mut stuck = Vec::new();
        for (unit, nodes) in &self.plan.blocked_by {
            for node in nodes {
                let resources = self.state.config.members_of(unit);
                let blocked =
                    resources.into_iter().find(|r| self.state.known_state(r, *node) == ResourceState::Blocked);
                let member = self.state.members.get(node).filter(|member| member.state == MemberState::Online);
                if let (Some(resource), Some(member)) = (blocked, member)
                    && !self.is_left_alone(*node)
                    && !self.is_proposed(|c| matches!(c, Command::Condemn { node: of, .. } if of == node))
                {
                    let reason =
                        format!("{resource} runs there without being held, cannot be stopped, and {unit} waits");
                    stuck.push((*node, member.incarnation, reason));
                }
            }
        }
        for (node, incarnation, reason) in stuck {
            if node == self.identity.own {
                self.let_another_fence_me(todo);
                continue;
            }
            let command = Command::Condemn { node, incarnation, epoch, reason, is_for_silence: false };
            self.propose_own(now, command, todo, out);
        }
    }

    /// Condemns what is down, if it holds anything (the agreed table of holders says for certain who does), or if what is
    /// wanted waits for the proof that it does not run there.
    fn condemn_down(&mut self, now: Moment, epoch: Epoch, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let blocking = self.blocking();
        let due: Vec<(NodeId, Incarnation, String)> = self
            .condemnable
            .iter()
            .filter(|(id, (incarnation, _))| {
                self.state
                    .members
                    .get(id)
                    .is_some_and(|member| member.incarnation == *incarnation && member.state == MemberState::Online)
                    && (holds_anything(&self.state, **id) || blocking.contains(id) && self.can_be_fenced(**id))
                    && !self.is_left_alone(**id)
                    && !self.is_ending(**id)
            })
            .map(|(id, (incarnation, reason))| (*id, *incarnation, reason.clone()))
            .collect();
        for (node, incarnation, reason) in due {
            // Who cannot get an entry agreed on now, without the accused, would condemn one that may be back by then.
            if !self.consensus.majority_answers(self.timing.t_to, node) {
                self.retry_later(now);
                continue;
            }
            let command = if self.ends_by_verdict(node) {
                Command::Lost { node, incarnation, epoch, reason }
            } else {
                Command::Condemn { node, incarnation, epoch, reason, is_for_silence: true }
            };
            self.propose_own(now, command, todo, out);
        }
    }

    /// Asks the devices of members that are waited for, since they may only boot slowly, and that keep something from
    /// running: who is off runs nothing.
    fn look_at_awaited(&mut self, now: Moment, todo: &mut Vec<Todo>) {
        let blocking = self.blocking();
        let awaited: Vec<(NodeId, Incarnation)> = self
            .judge
            .awaited()
            .filter(|(node, _)| {
                (holds_anything(&self.state, *node) || blocking.contains(node)) && !self.is_in_maintenance(*node)
            })
            .collect();
        if awaited.is_empty() {
            self.look_again_at = None;
        } else if self.look_again_at.is_none_or(|at| now.at >= at) {
            self.look_again_at = Some(now.at + LOOK_EVERY);
            let looks = awaited.into_iter().map(|(node, incarnation)| FencingInput::Look { node, incarnation });
            todo.extend(looks.map(Todo::Fencing));
        }
    }

    /// Is there a device that could cut the node off?
    pub(crate) fn can_be_fenced(&self, node: NodeId) -> bool {
        let member = self.state.members.get(&node);
        member.and_then(|m| self.state.config.nodes.get(&m.name)).is_none_or(|config| !config.fence.is_empty())
    }

    /// Is the mere verdict enough to run elsewhere whatever the node holds? To condemn it would end a life for nothing:
    /// no device could prove that it is off.
    pub(crate) fn ends_by_verdict(&self, node: NodeId) -> bool {
        let mut held = self.state.holders.iter().filter(|(_, holder)| holder.node == node);
        self.state.level >= 1
            && !self.can_be_fenced(node)
            && held.all(|(unit, _)| {
                !self.state.config.is_exclusive(unit) && !self.state.config.members_of(unit).is_empty()
            })
    }

    /// Is it proposed already to condemn the node, or to take from it what may run twice?
    pub(crate) fn is_ending(&self, node: NodeId) -> bool {
        self.is_proposed(|command| {
            matches!(command, Command::Condemn { node: of, .. } | Command::Lost { node: of, .. } if *of == node)
        })
    }

    /// Condemned members that are heard, were condemned for their silence alone, and were not fenced in any way yet.
    fn sparable(&self) -> BTreeSet<NodeId> {
        let is_heard = |node: &NodeId, incarnation: Incarnation| {
            self.peers.get(node).map(|peer| &peer.report).is_some_and(|report| {
                report.verdict == Verdict::Reachable && report.is_two_way && report.incarnation == incarnation
            })
        };
        let ends = self.state.ends.iter().filter(|(node, end)| {
            end.is_for_silence
                && !end.is_fence_begun
                && end.cut_off_by.is_empty()
                && self.state.members.get(node).is_some_and(|member| member.state == MemberState::Condemned)
                && is_heard(node, end.incarnation)
        });
        ends.map(|(node, _)| *node).collect()
    }

    /// Condemned members that have booted since and are heard in their new life. They are let in when their old life has
    /// been silent for long enough, and their fence is over then; who is not let in is waited for no longer.
    fn reborn(&self, now: Moment) -> BTreeSet<NodeId> {
        let condemned = self.state.members.iter().filter(|(_, member)| member.state == MemberState::Condemned);
        let is_coming = |id: &NodeId, old: Incarnation| {
            self.peers.get(id).is_some_and(|peer| {
                peer.report.verdict == Verdict::Reachable
                    && peer.report.is_two_way
                    && peer.report.incarnation != old
                    && self.newcomers.get(id) == Some(&peer.report.incarnation)
                    && now.at.since(peer.incarnation_since) < self.timing.t_to + REBIRTH_MARGIN
            })
        };
        condemned
            .filter(|(id, member)| is_coming(id, member.incarnation) && !self.has_two_lives(**id))
            .map(|(id, _)| *id)
            .collect()
    }

    /// What the fences have to know about condemned members that are heard.
    pub(crate) fn heard_condemned(&self, now: Moment) -> FencingInput {
        FencingInput::Heard { spared: self.spared(), reborn: self.reborn(now) }
    }

    /// Those of the condemned members that are heard after all and are to go on, as far as all members know of that.
    fn spared(&self) -> BTreeSet<NodeId> {
        let may_spare = self.state.level >= 1 && !self.settings.bugs.has(model::Bug::SpareSkipped);
        if may_spare { self.sparable() } else { BTreeSet::new() }
    }

    /// Takes back what was said about members that are heard after all.
    fn spare(&mut self, now: Moment, epoch: Epoch, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let (spared, reborn) = (self.spared(), self.reborn(now));
        if !reborn.is_empty() {
            self.retry_later(now);
        }
        todo.push(Todo::Fencing(FencingInput::Heard { spared: spared.clone(), reborn }));
        for node in spared {
            let is_proposed =
                self.is_proposed(|command| matches!(command, Command::Spare { node: of, .. } if *of == node));
            let Some(incarnation) = self.state.ends.get(&node).map(|end| end.incarnation).filter(|_| !is_proposed)
            else {
                continue;
            };
            self.propose_own(now, Command::Spare { node, incarnation, epoch }, todo, out);
        }
    }

    pub(crate) fn is_proposed(&self, matches: impl Fn(&Command) -> bool) -> bool {
        self.own_proposals().any(matches)
    }

    /// How long a returned node must be heard without a break before it gets units (SAFETY §1.9).
    pub(crate) fn proving_time(&self) -> Duration {
        self.timing.t_to * 10
    }
}

/// Is the node the holder of any unit?
pub(crate) fn holds_anything(state: &ClusterState, node: NodeId) -> bool {
    state.holders.values().any(|holder| holder.node == node)
}
