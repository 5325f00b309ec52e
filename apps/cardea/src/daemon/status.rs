//! How does the cluster look, for people? Turns a node's picture into what the API answers.

use api::{
    ActionStatus, Explanation, HistoryItem, LinkStatus, NodeExplanation, NodeStatus, PlanStatus, ResourceStatus, Status,
    StepStatus, VersionItem,
};
use jiff::Timestamp;
use liveness::Verdict;
use model::{
    ActionKind, ClusterState, HolderState, MemberState, NodeId, NodeRole, Plan, ResourceName, ResourceState, StepKind,
    UnitName, WallTime,
};
use node::View;
use scheduler::Eligibility;

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
        resources: state.config.resources.keys().map(|name| resource_status(view, name)).collect(),
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
        problems: problems(view),
    }
}

fn node_status(view: &View, id: NodeId) -> NodeStatus {
    let state = &view.state;
    let member = &state.members[&id];
    let is_own = id == view.own;
    let peer = view.peers.get(&id);
    let has = |kind: ActionKind| state.action(&kind).is_some();
    let is_heard = is_own || peer.is_some_and(|peer| matches!(peer.verdict, Verdict::Reachable | Verdict::Late));
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
    let wait = match view.live.eligible.get(&id) {
        Some(Eligibility::Ready) => None,
        Some(Eligibility::NotYet { why } | Eligibility::Lost { why }) => Some(why.clone()),
        None => Some("is not heard".to_owned()),
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
        eligible: member.role == NodeRole::Member && shown == "online" && wait.is_none(),
        caught_up: is_heard && applied.is_some_and(|applied| applied.0 + 8 >= view.commit.0),
        reason: wait.unwrap_or_default(),
        links,
    }
}

fn resource_status(view: &View, name: &ResourceName) -> ResourceStatus {
    let state = &view.state;
    let resource = &state.config.resources[name];
    let unit = state.config.unit_of(name);
    let holder = state.holders.get(&unit);
    let known = holder.and_then(|holder| state.known.get(name)?.get(&holder.node));
    let running = holder.map(|holder| state.known_state(name, holder.node));
    let shown = match (holder.map(|holder| &holder.state), running) {
        (Some(HolderState::Blocked { .. }), _) => "blocked",
        (Some(_), Some(ResourceState::Running)) => "running",
        (Some(_), Some(ResourceState::Failed)) => "failed",
        (Some(_), Some(ResourceState::Blocked)) => "blocked",
        (Some(_), Some(ResourceState::Unknown)) => "unknown",
        (Some(HolderState::Held), _) => "starting",
        (Some(HolderState::Releasing), _) => "stopping",
        (None, _) => "stopped",
    };
    let decision = view.plan.decisions.get(&unit).map(|decision| decision.reason.clone());
    let reason = match holder.map(|holder| &holder.state) {
        Some(HolderState::Blocked { why }) => why.clone(),
        Some(_) if shown == "failed" => known.map(|known| known.reason.clone()).unwrap_or_default(),
        Some(_) => holder.map(|holder| holder.reason.clone()).unwrap_or_default(),
        None => decision.unwrap_or_else(|| offline_decision(view, &unit)),
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

/// The plan is made where the leader is; elsewhere the same pure function gives the same reason.
fn offline_decision(view: &View, unit: &UnitName) -> String {
    scheduler::plan(&view.state, &view.live).decisions.get(unit).map(|d| d.reason.clone()).unwrap_or_default()
}

fn problems(view: &View) -> Vec<String> {
    let state = &view.state;
    let mut problems = view.problems.clone();
    for (id, member) in &state.members {
        let name = &member.name;
        if member.state == MemberState::Condemned {
            problems.push(format!(
                "{name} is lost and not proven off: what it holds stays where it is until a fence succeeds; if you are \
                 sure that it is off: `cardea fence {name} --confirm-off --reason …`"
            ));
        }
        if let Some(peer) = view.peers.get(id) {
            for link in peer.links.iter().filter(|link| !link.is_up) {
                if matches!(peer.verdict, Verdict::Reachable | Verdict::Late) {
                    problems.push(format!("link {} to {name} is down", link.link.0 + 1));
                }
            }
        }
    }
    for (name, nodes) in &state.failures {
        for (id, failures) in nodes {
            let node = state.name_of(*id);
            problems.push(format!(
                "{name} failed {} times on {node}: {}; once mended: `cardea clear {name}`",
                failures.count, failures.last_reason
            ));
        }
    }
    problems
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
