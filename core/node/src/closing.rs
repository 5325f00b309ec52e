//! The end of a node, and of all of them: who takes over what runs, and what is stopped where it is.
//!
//! A node that ends alone is emptied by the leader. When so many end that no majority stays, nobody is there to hand
//! over to: what runs on them is stopped in its order, where it is, and they leave together. A node that nobody leads
//! stops by itself what it holds.
//!
//! In: agreed wishes, who is heard. Out: whether the cluster goes down; what a lonely node stops next.
//! Not here: when a node goes down alone (`node.rs`), who may leave when (`leader.rs`).

use std::collections::BTreeMap;

use model::{
    ActionKind, HolderState, Known, MemberState, NodeId, NodeRole, OperatorAction, ResourceName, ResourceState,
    StepKind,
};
use scheduler::{Eligibility, Live};
use state::Command;

use crate::input::{Action, Moment};
use crate::node::{Node, Todo};

impl Node {
    /// Why nobody gets anything any more, as the rest of a sentence that begins with a node's name: the site is to be
    /// off, or so many members end at the same time that the others could agree on nothing.
    pub(crate) fn closing(&self) -> Option<String> {
        if let Some(wish) = self.state.action(&ActionKind::ShutDown) {
            return Some(format!("gets nothing: {} shuts the site down", wish.actor));
        }
        let voters = self.consensus.voters();
        let staying = voters.iter().filter(|id| !self.says_it_leaves(**id) && self.is_here(**id)).count();
        if quorum::is_majority(staying, voters.len()) {
            return None;
        }
        // Who has left stays for a moment, and lends its vote to those that end with it: nothing is granted by that.
        let is_there = |id: NodeId, state: MemberState| match state {
            MemberState::Online => self.is_here(id),
            MemberState::Left => self.is_here(id) && self.says_it_leaves(id),
            MemberState::Absent | MemberState::Condemned | MemberState::Fenced => false,
        };
        let here: Vec<(NodeId, NodeRole)> = self
            .state
            .members
            .iter()
            .filter(|(id, member)| is_there(**id, member.state))
            .map(|(id, member)| (*id, member.role))
            .collect();
        let leaving = here.iter().filter(|(id, _)| self.says_it_leaves(*id)).count();
        let somebody_stays = here.iter().any(|(id, role)| *role == NodeRole::Member && !self.says_it_leaves(*id));
        (leaving >= 2 || leaving == 1 && !somebody_stays)
            .then(|| format!("gets nothing: {leaving} nodes end at the same time, and no majority stays"))
    }

    /// Was the member told to end, whether or not that is agreed yet? Its beats say so first.
    pub(crate) fn says_it_leaves(&self, node: NodeId) -> bool {
        let is_flagged = || {
            let incarnation = self.state.members.get(&node).map(|member| member.incarnation);
            self.peers.get(&node).map(|peer| &peer.report).is_some_and(|report| {
                Some(report.incarnation) == incarnation && report.flags.has(liveness::BeatFlags::LEAVING)
            })
        };
        self.is_leaving(node) || node == self.identity.own && self.was_told_to_leave() || is_flagged()
    }

    /// Is it too early to empty a member that is to end? When several machines are shut down together, their beats say so
    /// within moments of each other, and what runs on one must not move to the next one that ends.
    pub(crate) fn may_be_the_first(&mut self, now: Moment, node: NodeId) -> bool {
        let heard = *self.leave_heard.entry(node).or_insert(now.at);
        now.at.since(heard) < self.timing.t_to * 2 && self.closing().is_none()
    }

    /// Does the cluster go down, and this leader with it? Then nothing waits for the proof that anybody is off.
    pub(crate) fn goes_down(&self) -> bool {
        self.is_leaving(self.identity.own) && self.closing().is_some()
    }

    /// Will the member never be empty, because something there cannot be stopped?
    pub(crate) fn is_stuck(&self, node: NodeId) -> bool {
        let is_blocked = |known: &BTreeMap<NodeId, Known>| {
            known.get(&node).is_some_and(|known| known.state == ResourceState::Blocked)
        };
        self.state.known.values().any(is_blocked)
    }

    /// The site is started again: whoever leads in a new life ends the wish when nobody of the old one is still ending.
    pub(crate) fn end_shutdown(&mut self, now: Moment, todo: &mut Vec<Todo>, out: &mut Vec<Action>) {
        let wish = ActionKind::ShutDown;
        let is_ending =
            |id: &NodeId, state: MemberState| state == MemberState::Online && self.is_leaving(*id) && self.is_here(*id);
        if self.state.action(&wish).is_none()
            || self.is_leaving(self.identity.own)
            || self.state.members.iter().any(|(id, member)| is_ending(id, member.state))
            || self.is_proposed(|c| matches!(c, Command::Undo { action: ActionKind::ShutDown, .. }))
        {
            return;
        }
        let reason = "the site is started again".to_owned();
        self.propose_own(now, Command::Undo { action: wish, reason }, todo, out);
    }

    /// What this node stops next without a leader: what nothing else here rests on any more. Each is tried once; when the
    /// order gives nothing more, whatever still runs is stopped at once.
    pub(crate) fn next_stops_alone(&self, now: Moment, open: &[(ResourceName, ResourceState)]) -> Vec<ResourceName> {
        let is_left = |resource: &ResourceName| {
            let state = open.iter().find(|(name, _)| name == resource).map(|(_, state)| *state);
            matches!(state, Some(ResourceState::Running | ResourceState::Failed))
                && !self.stopped_alone.contains(resource)
        };
        let next: Vec<ResourceName> = self.stops_in_order(now).into_iter().filter(is_left).collect();
        let is_busy = open.iter().any(|(_, state)| *state == ResourceState::Unknown);
        if next.is_empty() && !is_busy {
            return open.iter().map(|(resource, _)| resource.clone()).filter(is_left).collect();
        }
        next
    }

    /// The stops that a leader would order now if this node were all that is left, and were to be emptied.
    fn stops_in_order(&self, now: Moment) -> Vec<ResourceName> {
        let own = self.identity.own;
        let mut state = self.state.as_ref().clone();
        let Some(member) = state.members.get_mut(&own) else { return Vec::new() };
        member.state = MemberState::Online;
        member.incarnation = self.identity.incarnation;
        let leave = ActionKind::Leave(own);
        let wish = OperatorAction { kind: leave.clone(), actor: String::new(), reason: String::new(), at: now.wall };
        state.actions.insert(state::action_key(&state, &leave), wish);
        for holder in state.holders.values_mut().filter(|holder| holder.node == own) {
            holder.incarnation = self.identity.incarnation;
            if holder.state == HolderState::Held {
                holder.state = HolderState::Releasing;
            }
        }
        for item in self.executor.inventory(&self.state).resources {
            let known = Known {
                state: item.state,
                incarnation: self.identity.incarnation,
                op: item.last,
                since: now.wall,
                reason: item.reason,
                digest: item.digest,
                is_change: false,
            };
            state.known.entry(item.resource).or_default().insert(own, known);
        }
        let live = Live {
            eligible: BTreeMap::from([(own, Eligibility::Ready)]),
            now: now.wall,
            closing: Some("goes down".to_owned()),
            bugs: self.settings.bugs,
        };
        let steps = scheduler::plan(&state, &live).steps;
        let ready = steps.into_iter().filter(|step| step.node == own && step.after.is_empty());
        let stop = |kind| match kind {
            StepKind::Stop(resource) => Some(resource),
            StepKind::Probe(_) | StepKind::Grant | StepKind::Start(_) | StepKind::BeginRelease | StepKind::Release => {
                None
            }
        };
        ready.filter_map(|step| stop(step.kind)).collect()
    }
}
