//! How does the cluster look, for people? Turns a node's picture into what the API answers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use api::{
    ActionStatus, Explanation, HistoryItem, LinkStatus, NodeExplanation, NodeStatus, PlanStatus, ResourceStatus, Status,
    StepStatus, VersionItem,
};
use jiff::Timestamp;
use liveness::{PeerReport, Verdict};
use model::{
    ActionKind, ClusterState, Decision, Failures, Holder, HolderState, MemberState, NodeId, NodeName, NodeRole, Plan,
    ResourceName, ResourceState, StepKind, UnitName, WallTime,
};
use node::View;
use scheduler::Eligibility;

use super::node_file::PORT;

/// RFC 3339 in UTC, or nothing for the beginning of time.
pub fn show_time(at: WallTime) -> String {
    if at.0 == 0 {
        return String::new();
    }
    i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).map_or_else(String::new, |t| t.to_string())
}

/// The whole picture; `age_ms` is how old it may be.
pub fn status(view: &View, age_ms: u64) -> Status {
    let state = &view.state;
    let decisions = decisions(view);
    Status {
        version: api::VERSION,
        cluster: state.config.name.clone(),
        node: state.name_of(view.own),
        config_version: state.config_version.0,
        quorate: view.is_quorate,
        leader: view.leader.filter(|_| view.is_quorate).map(|id| state.name_of(id)),
        term: view.term.0,
        applied: state.applied.0,
        age_ms,
        nodes: state.members.keys().map(|id| node_status(view, *id)).collect(),
        resources: state.config.resources.keys().map(|name| resource_status(view, &decisions, name)).collect(),
        actions: state
            .actions
            .values()
            .map(|action| ActionStatus {
                action: show_action(state, &action.kind),
                actor: action.actor.clone(),
                reason: action.reason.clone(),
                at: show_time(action.at),
            })
            .collect(),
        problems: problems(view, &decisions),
    }
}

fn node_status(view: &View, id: NodeId) -> NodeStatus {
    let state = &view.state;
    let member = &state.members[&id];
    let is_own = id == view.own;
    let peer = view.peers.get(&id);
    let has = |kind: ActionKind| state.action(&kind).is_some();
    let is_heard = is_heard(view, id);
    let shown = match member.state {
        MemberState::Absent => "absent",
        MemberState::Condemned => "condemned",
        MemberState::Fenced => "fenced",
        MemberState::Left => "left",
        MemberState::Online if !is_heard => "lost",
        MemberState::Online if has(ActionKind::NodeMaintenance(id)) || has(ActionKind::ClusterMaintenance) => "maintenance",
        MemberState::Online if has(ActionKind::Standby(id)) => "standby",
        MemberState::Online => "online",
    };
    let wait = match member.role {
        NodeRole::Member => scheduler::explain_node(state, &view.live, id).err(),
        NodeRole::Witness => match view.live.eligible.get(&id) {
            Some(Eligibility::Lost { why }) => Some(why.clone()),
            Some(Eligibility::Ready | Eligibility::NotYet { .. }) | None => None,
        },
    };
    let vote = if view.leader == Some(id) && view.is_quorate {
        "leader"
    } else if view.voters.contains(&id) {
        "voter"
    } else if view.learners.contains(&id) {
        "learner"
    } else {
        ""
    };
    let addresses = state.config.nodes.get(&member.name).map(|node| node.links.clone()).unwrap_or_default();
    let links = addresses
        .iter()
        .enumerate()
        .map(|(position, address)| {
            let report = peer.and_then(|peer| peer.links.iter().find(|link| usize::from(link.link.0) == position));
            LinkStatus {
                address: address.to_string(),
                state: match report {
                    _ if is_own => "own",
                    Some(link) if link.is_up => "up",
                    Some(_) | None => "down",
                }
                .to_owned(),
                rtt_ms: report.and_then(|link| link.rtt).map(|rtt| (rtt.as_secs_f64() * 1e6).round() / 1e3),
                loss: report.map_or(0.0, |link| f64::from(link.loss_permille) / 1000.0),
            }
        })
        .collect();
    let applied = if is_own { Some(state.applied) } else { peer.map(|peer| peer.facts.applied) };
    NodeStatus {
        name: member.name.to_string(),
        id: id.0,
        state: shown.to_owned(),
        role: match member.role {
            NodeRole::Member => "member",
            NodeRole::Witness => "witness",
        }
        .to_owned(),
        vote: vote.to_owned(),
        eligible: view.is_quorate && member.role == NodeRole::Member && shown == "online" && wait.is_none(),
        caught_up: is_heard && applied.is_some_and(|applied| applied.0 + 8 >= view.commit.0),
        reason: wait.unwrap_or_default(),
        links,
    }
}

fn is_heard(view: &View, id: NodeId) -> bool {
    let is_reachable = |verdict| match verdict {
        Verdict::Reachable | Verdict::Late => true,
        Verdict::Unknown | Verdict::Suspect => false,
    };
    id == view.own || view.peers.get(&id).is_some_and(|peer| is_reachable(peer.verdict))
}

fn resource_status(view: &View, decisions: &Decisions<'_>, name: &ResourceName) -> ResourceStatus {
    let state = &view.state;
    let resource = &state.config.resources[name];
    let unit = state.config.unit_of(name);
    let holder = state.holders.get(&unit);
    let known = holder.and_then(|holder| state.known.get(name)?.get(&holder.node));
    let running = holder.map(|holder| state.known_state(name, holder.node));
    let shown = match (holder.map(|holder| &holder.state), running) {
        (Some(HolderState::Blocked { .. }), _) | (Some(_), Some(ResourceState::Blocked)) => "blocked",
        (Some(_), Some(ResourceState::Failed)) => "failed",
        (Some(HolderState::Releasing), Some(ResourceState::Stopped)) | (None, _) => "stopped",
        (Some(HolderState::Releasing), _) => "stopping",
        (Some(HolderState::Held), Some(ResourceState::Running)) => "running",
        (Some(HolderState::Held), Some(ResourceState::Unknown)) => "unknown",
        (Some(HolderState::Held), Some(ResourceState::Stopped) | None) => "starting",
    };
    let known_reason = known.map(|known| known.reason.clone()).filter(|reason| !reason.is_empty());
    let reason = match (holder, holder.map(|holder| &holder.state)) {
        (_, Some(HolderState::Blocked { why })) => why.clone(),
        (Some(holder), _) if matches!(shown, "failed" | "blocked") => known_reason.unwrap_or(holder.reason.clone()),
        (Some(holder), _) => holder.reason.clone(),
        (None, _) => decisions.get(&unit).map(|decision| decision.reason.clone()).unwrap_or_default(),
    };
    ResourceStatus {
        name: name.to_string(),
        unit: unit.to_string(),
        agent: resource.agent.to_string(),
        state: shown.to_owned(),
        role: if holder.is_some() { "started".to_owned() } else { String::new() },
        node: holder.map(|holder| state.name_of(holder.node)),
        since: show_time(known.map(|known| known.since).or(holder.map(|holder| holder.since)).unwrap_or_default()),
        reason,
        failures: state.failures.get(name).map_or(0, |nodes| nodes.values().map(|failures| failures.count).sum()),
    }
}

type Decisions<'a> = Cow<'a, BTreeMap<UnitName, Decision>>;

/// The plan is made where the leader is; elsewhere the same pure function gives the same reasons.
fn decisions(view: &View) -> Decisions<'_> {
    if view.plan.decisions.is_empty() {
        Cow::Owned(scheduler::plan(&view.state, &view.live).decisions)
    } else {
        Cow::Borrowed(&view.plan.decisions)
    }
}

/// What an operator should look at, the worst first, each with the next step.
fn problems(view: &View, decisions: &Decisions<'_>) -> Vec<String> {
    let mut problems = view.problems.clone();
    problems.extend(view.state.holders.iter().filter_map(|(unit, holder)| blocked_problem(view, unit, holder)));
    if view.is_quorate {
        problems.extend(decisions.iter().filter_map(|(unit, decision)| nowhere_problem(view, unit, decision)));
    }
    let members = view.state.members.keys();
    problems.extend(members.filter_map(|id| member_problem(view, *id)).filter(|problem| !view.problems.contains(problem)));
    for (name, nodes) in &view.state.failures {
        problems.extend(nodes.iter().map(|(id, failures)| failure_problem(view, name, *id, failures)));
    }
    problems.extend(view.peers.values().flat_map(|peer| link_problems(view, peer)));
    problems
}

fn blocked_problem(view: &View, unit: &UnitName, holder: &Holder) -> Option<String> {
    let HolderState::Blocked { why } = &holder.state else { return None };
    let node = view.state.name_of(holder.node);
    Some(format!(
        "{unit} is blocked on {node} ({why}): it starts nowhere until it is stopped there or {node} is proven off. Stop \
         it there by hand and run `cardea clear {unit}`, or `cardea fence {node}`"
    ))
}

/// A unit that should run and does not. One that an operator stopped is no problem.
fn nowhere_problem(view: &View, unit: &UnitName, decision: &Decision) -> Option<String> {
    let state = &view.state;
    let units = state.config.units();
    let is_wanted = units.get(unit)?.placement.enabled && state.action(&ActionKind::Stop(unit.clone())).is_none();
    let is_nowhere = decision.node.is_none() && !state.holders.contains_key(unit);
    (is_wanted && is_nowhere)
        .then(|| format!("{unit} runs nowhere: {}; `cardea explain {unit}` says what each node lacks", decision.reason))
}

fn member_problem(view: &View, id: NodeId) -> Option<String> {
    let state = &view.state;
    let member = &state.members[&id];
    let name = &member.name;
    let held: Vec<&str> =
        state.holders.iter().filter(|(_, holder)| holder.node == id).map(|(unit, _)| unit.as_str()).collect();
    match member.state {
        // The leader, which fences, knows more than this and has said it.
        MemberState::Condemned if view.problems.iter().any(|problem| problem.starts_with(&format!("{name} "))) => None,
        MemberState::Condemned => Some(format!(
            "{name} is lost and not proven off: what it holds starts elsewhere as soon as a fence succeeds. If that does \
             not come to pass, make sure that {name} is off and run `cardea fence {name} --confirm-off --reason …`"
        )),
        MemberState::Online if !is_heard(view, id) && held.is_empty() => Some(format!(
            "{name} is not heard; it holds nothing and is left alone: look at its power, its daemon and its networks"
        )),
        MemberState::Online if !is_heard(view, id) => Some(format!(
            "{name} is not heard and holds {}: that starts elsewhere once {name} is proven off",
            held.join(", ")
        )),
        MemberState::Online if member.is_suppressed(view.live.now) => Some(format!(
            "{name} was lost and came back too often, and gets nothing for a while: look for the cause, then \
             `cardea clear {name}`"
        )),
        MemberState::Fenced => Some(format!(
            "{name} is off since it was fenced: find out why it fell silent, then switch it on; if it will not return: \
             `cardea remove {name}`"
        )),
        MemberState::Absent => Some(format!(
            "{name} is a member and has never come: start its daemon (`systemctl enable --now cardea` on {name})"
        )),
        MemberState::Online | MemberState::Left => None,
    }
}

fn failure_problem(view: &View, name: &ResourceName, id: NodeId, failures: &Failures) -> String {
    let node = view.state.name_of(id);
    let times = match failures.count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    };
    let limit = view.state.config.resources.get(name).map_or(u32::MAX, |resource| resource.failures_max);
    let barred = if failures.is_permanent || failures.count >= limit { " and may not run there" } else { "" };
    format!("{name} failed {times} on {node}{barred}: {}; once mended: `cardea clear {name}`", failures.last_reason)
}

/// Links that are down to a peer that is heard over another one; a peer that is not heard has its own sentence.
fn link_problems(view: &View, peer: &PeerReport) -> Vec<String> {
    if !is_heard(view, peer.id) {
        return Vec::new();
    }
    let name = view.state.name_of(peer.id);
    let addresses = view.state.config.nodes.get(&NodeName(name.clone())).map(|node| &node.links[..]).unwrap_or_default();
    peer.links
        .iter()
        .filter(|link| !link.is_up)
        .map(|link| {
            let position = usize::from(link.link.0);
            let address = addresses.get(position).map_or_else(String::new, |address| format!(" ({address})"));
            format!(
                "network {} to {name}{address} is down: look at its cable, switch and firewall (UDP {PORT})",
                position + 1
            )
        })
        .collect()
}

/// An operator's wish, as words.
pub fn show_action(state: &ClusterState, kind: &ActionKind) -> String {
    match kind {
        ActionKind::Standby(node) => format!("standby of {}", state.name_of(*node)),
        ActionKind::NodeMaintenance(node) => format!("maintenance of {}", state.name_of(*node)),
        ActionKind::ClusterMaintenance => "maintenance of the cluster".to_owned(),
        ActionKind::Move(unit, node) => format!("move of {unit} to {}", state.name_of(*node)),
        ActionKind::Stop(unit) => format!("stop of {unit}"),
        ActionKind::Leave(node) => format!("leave of {}", state.name_of(*node)),
    }
}

/// The newest `limit` entries of the history, oldest first; only those about `subject` if one is named.
pub fn history(state: &ClusterState, limit: usize, subject: Option<&str>) -> Vec<HistoryItem> {
    let mut items: Vec<HistoryItem> = state
        .history
        .iter()
        .rev()
        .filter(|entry| subject.is_none_or(|subject| entry.subject == subject))
        .take(limit)
        .map(|entry| HistoryItem {
            index: entry.index.0,
            at: show_time(entry.at),
            event: entry.event.clone(),
            subject: entry.subject.clone(),
            reason: entry.reason.clone(),
            actor: entry.actor.clone(),
        })
        .collect();
    items.reverse();
    items
}

/// The kept versions of the configuration, oldest first.
pub fn versions(state: &ClusterState) -> Vec<VersionItem> {
    state
        .config_history
        .iter()
        .map(|record| VersionItem {
            config_version: record.version.0,
            actor: record.actor.clone(),
            reason: record.reason.clone(),
            at: show_time(record.at),
            text: record.text.clone(),
        })
        .collect()
}

/// Why here, why not there: for a group, a resource or a node; nothing if there is no such thing.
pub fn explain(view: &View, subject: &str) -> Option<Explanation> {
    let state = &view.state;
    let history = history(state, 10, Some(subject));
    if let Some((id, _)) = state.member_named(&subject.into()) {
        let held: Vec<String> =
            state.holders.iter().filter(|(_, holder)| holder.node == id).map(|(unit, _)| unit.to_string()).collect();
        let node = node_status(view, id);
        let holds = if held.is_empty() { "nothing".to_owned() } else { held.join(", ") };
        return Some(Explanation {
            version: api::VERSION,
            subject: subject.to_owned(),
            decision: format!("{subject} is {} and holds {holds}", node.state),
            nodes: vec![NodeExplanation {
                node: subject.to_owned(),
                can_run: node.eligible,
                reason: if node.reason.is_empty() { "may be given units".to_owned() } else { node.reason },
            }],
            history,
        });
    }
    let resource = ResourceName(subject.to_owned());
    let unit = if state.config.resources.contains_key(&resource) {
        state.config.unit_of(&resource)
    } else {
        UnitName(subject.to_owned())
    };
    if state.config.members_of(&unit).is_empty() {
        return None;
    }
    let plan = scheduler::plan(state, &view.live);
    let nodes = scheduler::explain(state, &view.live, &unit)
        .into_iter()
        .map(|node| {
            let (can_run, reason) = match node.can_run {
                Ok(score) => (true, format!("can run it, with {score} points")),
                Err(why) => (false, why),
            };
            NodeExplanation { node: state.name_of(node.node), can_run, reason }
        })
        .collect();
    let mut history = history;
    if unit.as_str() != subject {
        history.extend(self::history(state, 10, Some(unit.as_str())));
        history.sort_by_key(|item| item.index);
    }
    let decision = plan.decisions.get(&unit).map(|decision| decision.reason.clone()).unwrap_or_default();
    Some(Explanation { version: api::VERSION, subject: subject.to_owned(), decision, nodes, history })
}

/// A plan as words.
pub fn show_plan(state: &ClusterState, plan: &Plan, config_version: u64, warnings: Vec<String>) -> PlanStatus {
    PlanStatus {
        version: api::VERSION,
        config_version,
        decisions: plan.decisions.iter().map(|(unit, decision)| format!("{unit}: {}", decision.reason)).collect(),
        steps: plan
            .steps
            .iter()
            .enumerate()
            .map(|(position, step)| {
                let node = state.name_of(step.node);
                let unit = &step.unit;
                let what = match &step.kind {
                    StepKind::Probe(resource) => format!("probe {resource} on {node}"),
                    StepKind::Grant => format!("grant {unit} to {node}"),
                    StepKind::Start(resource) => format!("start {resource} on {node}"),
                    StepKind::BeginRelease => format!("begin to release {unit} on {node}"),
                    StepKind::Stop(resource) => format!("stop {resource} on {node}"),
                    StepKind::Release => format!("release {unit} from {node}"),
                };
                StepStatus {
                    number: position + 1,
                    what,
                    reason: step.reason.clone(),
                    after: step.after.iter().map(|position| position + 1).collect(),
                }
            })
            .collect(),
        warnings,
    }
}
