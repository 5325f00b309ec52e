//! How does the cluster look, for people? Turns a node's picture into what the API answers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use api::{
    ActionStatus, Event, EventKind, Explanation, Fault, HistoryItem, LinkStatus, NodeExplanation, NodeStatus,
    PlanStatus, ResourceStatus, Status, StepStatus, VersionItem,
};
use jiff::Timestamp;
use liveness::{LinkState, PeerReport, Verdict};
use model::{
    ActionKind, ClusterState, Decision, Failures, Holder, HolderState, LinkId, MemberState, NodeId, NodeName, NodeRole,
    Plan, Problem, ProblemKind, ResourceName, ResourceState, StepKind, UnitName, WallTime,
};
use node::View;
use scheduler::Eligibility;

use super::node_file::PORT;
use super::plans;

/// RFC 3339 in UTC with milliseconds, so that all have one width; nothing for the beginning of time.
pub fn show_time(at: WallTime) -> String {
    if at.0 == 0 {
        return String::new();
    }
    i64::try_from(at.0)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .map_or_else(String::new, |t| format!("{t:.3}"))
}

/// For people, to the second: `2026-11-22 20:00:00 UTC`; nothing for the beginning of time.
pub fn show_second(at: WallTime) -> String {
    match show_time(at).split_once('.') {
        Some((second, _)) => format!("{} UTC", second.replace('T', " ")),
        None => String::new(),
    }
}

/// The whole picture with the problems that are known here; `age_ms` is how old it may be.
pub fn status(view: &View, age_ms: u64, faults: Vec<Fault>) -> Status {
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
        nodes: state.members.keys().map(|id| node_status(view, *id, &faults)).collect(),
        resources: state.config.resources.keys().map(|name| resource_status(view, &decisions, name, &faults)).collect(),
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
        problems: faults.iter().map(sentence).collect(),
        faults,
    }
}

/// A problem with its beginning, as one sentence.
fn sentence(fault: &Fault) -> String {
    match fault.since.parse::<Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok()) {
        Some(since) => format!("{} (since {})", fault.text, show_second(WallTime(since))),
        None => fault.text.clone(),
    }
}

/// Why a member that is heard can be given nothing all the same, if there is a problem of that kind.
fn ailment(faults: &[Fault], name: &str) -> Option<&'static str> {
    const KINDS: [(ProblemKind, &str); 3] = [
        (ProblemKind::Deaf, "does not hear"),
        (ProblemKind::NotAnswering, "does not answer"),
        (ProblemKind::NotQuorate, "belongs to no majority"),
    ];
    let has = |kind| faults.iter().any(|fault| fault.kind == kind && fault.subject == name);
    KINDS.into_iter().find(|(kind, _)| has(*kind)).map(|(_, words)| words)
}

fn node_status(view: &View, id: NodeId, faults: &[Fault]) -> NodeStatus {
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
        MemberState::Online if state.gone.contains(&id) => "gone",
        MemberState::Online if !is_heard => "lost",
        MemberState::Online if has(ActionKind::NodeMaintenance(id)) || has(ActionKind::ClusterMaintenance) => {
            "maintenance"
        }
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
    let ailment = ailment(faults, member.name.as_str());
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
                    Some(link) => match link.state {
                        LinkState::Up => "up",
                        LinkState::Confirming => "confirming",
                        LinkState::Down => "down",
                    },
                    None => "down",
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
        eligible: view.is_quorate
            && member.role == NodeRole::Member
            && shown == "online"
            && wait.is_none()
            && ailment.is_none(),
        caught_up: is_heard && ailment.is_none() && applied.is_some_and(|applied| applied.0 + 8 >= view.commit.0),
        reason: wait.or(ailment.map(str::to_owned)).unwrap_or_default(),
        links,
    }
}

/// Does this node hear the member, or is it this node itself?
pub(super) fn is_heard(view: &View, id: NodeId) -> bool {
    let is_reachable = |verdict| match verdict {
        Verdict::Reachable | Verdict::Late => true,
        Verdict::Unknown | Verdict::Suspect => false,
    };
    id == view.own || view.peers.get(&id).is_some_and(|peer| is_reachable(peer.verdict))
}

fn resource_status(view: &View, decisions: &Decisions<'_>, name: &ResourceName, faults: &[Fault]) -> ResourceStatus {
    let state = &view.state;
    let resource = &state.config.resources[name];
    let unit = state.config.unit_of(name);
    let holder = state.holders.get(&unit);
    let known = holder.and_then(|holder| state.known.get(name)?.get(&holder.node));
    let running = holder.map(|holder| state.known_state(name, holder.node));
    let waits_for = holder.and_then(|_| waits_for(state, &unit));
    let silence = holder.and_then(|holder| silence(view, holder.node, faults));
    let shown = match (holder.map(|holder| &holder.state), running) {
        // What was known to be stopped there may have been started since.
        (
            Some(HolderState::Held | HolderState::Releasing),
            Some(ResourceState::Running | ResourceState::Unknown | ResourceState::Stopped) | None,
        ) if silence.is_some() => "unknown",
        (Some(_), Some(ResourceState::Running | ResourceState::Unknown)) if silence.is_some() => "unknown",
        (Some(HolderState::Blocked { .. }), _) | (Some(_), Some(ResourceState::Blocked)) => "blocked",
        (Some(_), Some(ResourceState::Failed)) => "failed",
        (Some(HolderState::Releasing), Some(ResourceState::Stopped)) | (None, _) => "stopped",
        (Some(HolderState::Releasing), _) => "stopping",
        (Some(HolderState::Held), Some(ResourceState::Running)) => "running",
        (Some(HolderState::Held), Some(ResourceState::Unknown)) => "unknown",
        (Some(HolderState::Held), Some(ResourceState::Stopped) | None) if waits_for.is_some() => "waiting",
        (Some(HolderState::Held), Some(ResourceState::Stopped) | None) => "starting",
    };
    let known_reason = known.map(|known| known.reason.clone()).filter(|reason| !reason.is_empty());
    let reason = match (holder, holder.map(|holder| &holder.state)) {
        (Some(_), _) if shown == "unknown" && silence.is_some() => silence.unwrap_or_default(),
        (_, Some(HolderState::Blocked { why })) => why.clone(),
        (Some(holder), _) if matches!(shown, "failed" | "blocked") => known_reason.unwrap_or(holder.reason.clone()),
        (Some(_), _) if shown == "waiting" => {
            waits_for.map(|earlier| format!("waits until {earlier} runs")).unwrap_or_default()
        }
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

/// The first of the units before it that does not run, if there is one.
fn waits_for(state: &ClusterState, unit: &UnitName) -> Option<UnitName> {
    let runs = |earlier: &UnitName| {
        state.holders.get(earlier).is_some_and(|holder| {
            let members = state.config.members_of(earlier);
            members.iter().all(|member| state.known_state(member, holder.node) == ResourceState::Running)
        })
    };
    state.config.units().get(unit)?.placement.after.iter().find(|earlier| !runs(earlier)).cloned()
}

/// Why nobody knows whether something still runs on a node, if nobody does.
fn silence(view: &View, id: NodeId, faults: &[Fault]) -> Option<String> {
    let member = view.state.members.get(&id)?;
    let name = &member.name;
    let proof = if view.is_quorate { format!("; it waits for the proof that {name} is off") } else { String::new() };
    match member.state {
        MemberState::Condemned => {
            Some(format!("ran on {name}, which is condemned since {}{proof}", show_second(member.since)))
        }
        MemberState::Online if !is_heard(view, id) && !view.state.gone.contains(&id) => {
            let since = faults.iter().find(|fault| {
                fault.subject == name.as_str() && matches!(fault.kind, ProblemKind::Silent | ProblemKind::Deaf)
            });
            let since = since.and_then(|fault| fault.since.parse::<Timestamp>().ok());
            let since = since.and_then(|at| u64::try_from(at.as_millisecond()).ok());
            let since = since.map_or_else(String::new, |at| format!(" since {}", show_second(WallTime(at))));
            Some(format!("ran on {name}, which is not heard{since}{proof}"))
        }
        MemberState::Online | MemberState::Absent | MemberState::Fenced | MemberState::Left => None,
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

/// What this node sees in its picture that an operator should look at. Of one kind and subject, the first sentence
/// counts: it comes from who knows most.
pub fn found(view: &View) -> Vec<Problem> {
    let state = &view.state;
    let mut problems: Vec<Problem> = view.problems.clone();
    problems.extend(no_majority(view));
    problems.extend(state.holders.iter().filter_map(|(unit, holder)| blocked_problem(view, unit, holder)));
    // Who leads has the plan, and tells the others.
    if view.is_quorate && view.leader == Some(view.own) {
        let decisions = decisions(view);
        problems.extend(decisions.iter().filter_map(|(unit, decision)| nowhere_problem(view, unit, decision)));
    }
    problems.extend(state.members.keys().filter_map(|id| member_problem(view, *id)));
    for (name, nodes) in &state.failures {
        problems.extend(nodes.iter().map(|(id, failures)| failure_problem(view, name, *id, failures)));
    }
    problems.extend(view.peers.values().flat_map(|peer| link_problems(view, peer)));
    problems
}

/// Members that are heard and do not follow the leader. That is one after each election, for a moment: it is a problem
/// if it lasts.
pub fn strays(view: &View) -> Vec<Problem> {
    let Some(leader) = view.leader.filter(|_| view.is_quorate) else { return Vec::new() };
    let is_stray = |id: &NodeId| {
        let is_online = view.state.members.get(id).is_some_and(|member| member.state == MemberState::Online);
        let peer = view.peers.get(id).filter(|_| is_online && is_heard(view, *id) && !view.state.gone.contains(id));
        peer.is_some_and(|peer| {
            peer.facts.is_known && (peer.facts.leader != Some(leader) || peer.facts.term < view.term)
        })
    };
    view.state
        .members
        .keys()
        .filter(|id| **id != leader && **id != view.own && is_stray(id))
        .map(|id| {
            let name = view.state.name_of(*id);
            let text = format!(
                "{name} is heard and does not follow the leader: it gets nothing new. See whether a firewall lets only the \
                 heartbeats through (UDP {PORT}, but not UDP {} or TCP {PORT}, in one direction or both)",
                PORT + 1
            );
            Problem::new(ProblemKind::NotAnswering, name, text)
        })
        .collect()
}

/// Why this node belongs to no majority.
fn no_majority(view: &View) -> Option<Problem> {
    if view.is_quorate {
        return None;
    }
    let (heard, missing): (Vec<NodeId>, Vec<NodeId>) = view.voters.iter().partition(|id| is_heard(view, **id));
    let names = |ids: &[NodeId]| ids.iter().map(|id| view.state.name_of(*id)).collect::<Vec<_>>().join(", ");
    let own = view.state.name_of(view.own);
    let needed = view.voters.len() / 2 + 1;
    let text = if heard.len() < needed {
        format!(
            "{own} belongs to no majority: {} of {} voters heard, {needed} needed; missing: {}. Nothing can be changed here \
             until enough of them are heard: look at their power, their daemons and the networks (UDP {PORT})",
            heard.len(),
            view.voters.len(),
            names(&missing)
        )
    } else {
        format!(
            "{own} hears enough voters ({}) and follows no leader: nothing can be changed here. If that lasts, see whether a \
             firewall lets only the heartbeats through (UDP {PORT}, but not UDP {} or TCP {PORT})",
            names(&heard),
            PORT + 1
        )
    };
    Some(Problem::new(ProblemKind::NotQuorate, own, text))
}

fn blocked_problem(view: &View, unit: &UnitName, holder: &Holder) -> Option<Problem> {
    let HolderState::Blocked { why } = &holder.state else { return None };
    let node = view.state.name_of(holder.node);
    let text = format!(
        "{unit} is blocked on {node} ({why}): it starts nowhere until it is stopped there or {node} is proven off. Stop \
         it there by hand and run `cardea clear {unit}`, or `cardea fence {node}`"
    );
    Some(Problem::new(ProblemKind::Blocked, unit.as_str(), text))
}

/// A unit that should run and does not. One that an operator stopped is no problem.
fn nowhere_problem(view: &View, unit: &UnitName, decision: &Decision) -> Option<Problem> {
    let state = &view.state;
    let units = state.config.units();
    let is_wanted = units.get(unit)?.placement.enabled && state.action(&ActionKind::Stop(unit.clone())).is_none();
    let is_nowhere = decision.node.is_none() && !state.holders.contains_key(unit);
    (is_wanted && is_nowhere).then(|| {
        let why = &decision.reason;
        let text = format!("{unit} runs nowhere: {why}; `cardea explain {unit}` says what each node lacks");
        Problem::new(ProblemKind::RunsNowhere, unit.as_str(), text)
    })
}

fn member_problem(view: &View, id: NodeId) -> Option<Problem> {
    use ProblemKind as Kind;
    let state = &view.state;
    let member = &state.members[&id];
    let name = &member.name;
    let held: Vec<&str> =
        state.holders.iter().filter(|(_, holder)| holder.node == id).map(|(unit, _)| unit.as_str()).collect();
    let held = held.join(", ");
    // Without a majority nothing starts anywhere, whatever is proven.
    let next = if view.is_quorate {
        format!("that starts elsewhere once {name} is proven off")
    } else {
        "nothing of that starts elsewhere until there is a majority".to_owned()
    };
    let (kind, text) = match member.state {
        MemberState::Condemned if !view.is_quorate => (
            Kind::NotProvenOff,
            format!("{name} is condemned and not proven off, and nobody can fence it until there is a majority"),
        ),
        MemberState::Condemned => (
            Kind::NotProvenOff,
            format!(
                "{name} is lost and not proven off: what it holds starts elsewhere as soon as a fence succeeds. If none \
                 does, make sure that {name} is off and run `cardea fence {name} --confirm-off --reason …`"
            ),
        ),
        MemberState::Online if state.gone.contains(&id) => (
            Kind::Unwatched,
            format!(
                "the daemon on {name} ended in maintenance: its services go on and nobody watches them; start it again \
                 (`systemctl start cardea` on {name}), or `cardea fence {name}` if it will not return"
            ),
        ),
        MemberState::Online if !is_heard(view, id) && view.peers.get(&id).is_some_and(|peer| peer.is_heard) => {
            let holds = if held.is_empty() { String::new() } else { format!("; it holds {held}, and {next}") };
            let text = format!(
                "{name} sends heartbeats and does not hear {}{holds}: look at the firewall and the networks of {name} (UDP \
                 {PORT}, towards {name})",
                state.name_of(view.own)
            );
            (Kind::Deaf, text)
        }
        MemberState::Online if !is_heard(view, id) && held.is_empty() => (
            Kind::Silent,
            format!(
                "{name} is not heard; it holds nothing and is left alone: look at its power, its daemon and its networks"
            ),
        ),
        MemberState::Online if !is_heard(view, id) => {
            (Kind::Silent, format!("{name} is not heard and holds {held}: {next}"))
        }
        MemberState::Online if member.is_suppressed(view.live.now) => (
            Kind::Suppressed,
            format!(
                "{name} was lost and came back too often, and gets nothing for a while: look for the cause, then \
                 `cardea clear {name}`"
            ),
        ),
        MemberState::Fenced => (Kind::Off, fenced_text(view, id)),
        MemberState::Absent => (
            Kind::NeverCame,
            format!(
                "{name} is a member and has never come: start its daemon (`systemctl enable --now cardea` on {name})"
            ),
        ),
        MemberState::Online | MemberState::Left => return None,
    };
    Some(Problem::new(kind, name.as_str(), text))
}

/// Why a node is off, as the history tells it, and what to do.
fn fenced_text(view: &View, id: NodeId) -> String {
    let state = &view.state;
    let name = state.name_of(id);
    let condemned = state
        .history
        .iter()
        .rev()
        .find(|entry| entry.subject == name && matches!(entry.event.as_str(), "condemned" | "lost"));
    let why = match condemned {
        Some(entry) if entry.actor == "cluster" => format!(": {}", entry.reason),
        Some(entry) if entry.reason.is_empty() => format!(" by {}", entry.actor),
        Some(entry) => format!(" by {}: {}", entry.actor, entry.reason),
        None => String::new(),
    };
    if is_heard(view, id) {
        return format!("{name} was fenced{why}. It is heard again and has not joined yet: `cardea events` on {name}");
    }
    format!(
        "{name} is off, it was fenced{why}. Mend the cause, then switch it on; if it will not return: `cardea remove {name}`"
    )
}

fn failure_problem(view: &View, name: &ResourceName, id: NodeId, failures: &Failures) -> Problem {
    let node = view.state.name_of(id);
    let times = match failures.count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    };
    let limit = view.state.config.resources.get(name).map_or(u32::MAX, |resource| resource.failures_max);
    let barred = if failures.is_permanent || failures.count >= limit { " and may not run there" } else { "" };
    let text = format!(
        "{name} failed {times} on {node}{barred}: {}; once mended: `cardea clear {name}`",
        failures.last_reason
    );
    Problem::new(ProblemKind::Failed, format!("{name} on {node}"), text)
}

/// One network between this node and another, in the same words on both.
pub fn network_between(view: &View, other: NodeId, link: LinkId) -> String {
    let mut ends = [view.state.name_of(view.own), view.state.name_of(other)];
    ends.sort();
    format!("network {} {}-{}", usize::from(link.0) + 1, ends[0], ends[1])
}

/// Links that are down to a peer that is heard over another one; a peer that is not heard has its own sentence. One
/// that carries heartbeats again needs nobody's hands.
fn link_problems(view: &View, peer: &PeerReport) -> Vec<Problem> {
    if !is_heard(view, peer.id) {
        return Vec::new();
    }
    let links_of = |id: NodeId| {
        let name = NodeName(view.state.name_of(id));
        view.state.config.nodes.get(&name).map(|node| &node.links[..]).unwrap_or_default()
    };
    let address = |id: NodeId, position: usize| {
        let name = NodeName(view.state.name_of(id));
        let shown = links_of(id).get(position).map(|address| format!(" ({address})")).unwrap_or_default();
        (name.0, shown)
    };
    peer.links
        .iter()
        // A network that was removed and is still in use for a moment is none that anybody should mend.
        .filter(|link| link.state == LinkState::Down && usize::from(link.link.0) < links_of(peer.id).len())
        .map(|link| {
            let position = usize::from(link.link.0);
            let mut ends = [address(view.own, position), address(peer.id, position)];
            ends.sort();
            let [(a, at_a), (b, at_b)] = ends;
            let number = position + 1;
            let text = format!(
                "network {number} between {a}{at_a} and {b}{at_b} is down: look at its cable, switch and firewall (UDP {PORT})"
            );
            Problem::new(ProblemKind::LinkDown, network_between(view, peer.id, link.link), text)
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
        ActionKind::ShutDown => "shutdown of the site".to_owned(),
    }
}

/// The newest `limit` entries of the history, oldest first; only those about `subject` if one is named.
pub fn history(state: &ClusterState, limit: usize, subject: Option<&str>) -> Vec<HistoryItem> {
    let mut items: Vec<HistoryItem> = state
        .history
        .iter()
        .rev()
        .filter(|entry| subject.is_none_or(|subject| entry.subject.split(' ').any(|word| word == subject)))
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

/// The history with what was a problem meanwhile, as this node saw it: the newest `limit` entries.
pub fn with_problems(agreed: Vec<HistoryItem>, problems: &[Event], limit: usize) -> Vec<HistoryItem> {
    let seen = problems.iter().map(|event| HistoryItem {
        index: 0,
        at: show_time(WallTime(event.wall_ms)),
        event: if event.event == EventKind::ProblemOver { "problem-over" } else { "problem" }.to_owned(),
        subject: event.subject.clone(),
        reason: event.reason.clone(),
        actor: event.node.clone(),
    });
    let mut items: Vec<(Option<Timestamp>, HistoryItem)> =
        agreed.into_iter().chain(seen).map(|item| (item.at.parse().ok(), item)).collect();
    // Stable: what the log has in one order stays in it.
    items.sort_by_key(|(at, _)| *at);
    let older = items.len().saturating_sub(limit);
    items.into_iter().skip(older).map(|(_, item)| item).collect()
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

/// Bytes of cluster files that somebody who is not root gets in one answer.
const TEXT_BYTES_OF_OTHERS: usize = 1024 * 1024;

/// Takes out of the versions what only root may read; the oldest texts go if all are too long.
pub fn hide_secrets(versions: &mut [VersionItem]) {
    let mut left = TEXT_BYTES_OF_OTHERS;
    for item in versions.iter_mut().rev() {
        item.text = config::redacted(&item.text);
        match left.checked_sub(item.text.len()) {
            Some(rest) => left = rest,
            None => {
                left = 0;
                item.text = "# left out: ask as root for texts this long\n".to_owned();
            }
        }
    }
}

/// Why here, why not there: for a group, a resource or a node; nothing if there is no such thing.
pub fn explain(view: &View, subject: &str, faults: &[Fault]) -> Option<Explanation> {
    let state = &view.state;
    let history = history(state, 10, Some(subject));
    if let Some((id, _)) = state.member_named(&subject.into()) {
        let held: Vec<String> =
            state.holders.iter().filter(|(_, holder)| holder.node == id).map(|(unit, _)| unit.to_string()).collect();
        let node = node_status(view, id, faults);
        let holds = if held.is_empty() { "nothing".to_owned() } else { held.join(", ") };
        return Some(Explanation {
            version: api::VERSION,
            subject: subject.to_owned(),
            decision: match plans::without_majority(view) {
                Some(none) => format!("{none}. {subject} was last known as {}, and holds {holds}", node.state),
                None => format!("{subject} is {} and holds {holds}", node.state),
            },
            nodes: vec![NodeExplanation {
                node: subject.to_owned(),
                can_run: node.eligible,
                reason: if node.reason.is_empty() { "may be given units".to_owned() } else { node.reason },
                score: None,
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
            let name = state.name_of(node.node);
            let reason = node.because.join("; ");
            NodeExplanation { node: name, can_run: node.can_run, reason, score: Some(node.score) }
        })
        .collect();
    let mut history = history;
    if unit.as_str() != subject {
        history.extend(self::history(state, 10, Some(unit.as_str())));
        history.sort_by_key(|item| item.index);
    }
    let decision = plan.decisions.get(&unit).map(|decision| decision.reason.clone()).unwrap_or_default();
    let decision = plans::without_majority(view).map_or(decision.clone(), |none| format!("{none}. {decision}"));
    Some(Explanation { version: api::VERSION, subject: subject.to_owned(), decision, nodes, history })
}

/// A plan as words.
pub fn show_plan(state: &ClusterState, plan: &Plan, config_version: u64, warnings: Vec<String>) -> PlanStatus {
    PlanStatus {
        version: api::VERSION,
        config_version,
        decisions: plan.decisions.values().map(|decision| decision.reason.clone()).collect(),
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
        changes: Vec::new(),
        refused: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use model::Instant;

    use super::super::problems::Board;
    use super::super::testing::{self, A, B, C, W, change, view};
    use super::*;

    /// As a node sees it that asks no other one.
    fn status(view: &View, age_ms: u64) -> Status {
        super::status(view, age_ms, Board::default().faults(view, Instant::from_nanos(1)))
    }

    fn explain(view: &View, subject: &str) -> Option<Explanation> {
        super::explain(view, subject, &[])
    }

    fn node(status: &Status, name: &str) -> NodeStatus {
        status.nodes.iter().find(|node| node.name == name).expect("a member").clone()
    }

    fn resource(status: &Status, name: &str) -> ResourceStatus {
        status.resources.iter().find(|resource| resource.name == name).expect("a resource").clone()
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().expect("an object").keys().map(String::as_str).collect()
    }

    #[track_caller]
    fn only_problem(status: &Status) -> &str {
        assert_eq!(status.problems.len(), 1, "{:?}", status.problems);
        &status.problems[0]
    }

    /// Scripts read these names. A field may be added here; one that is renamed or missing breaks them.
    #[test]
    fn the_json_has_the_documented_fields() {
        let json = serde_json::to_value(status(&view(), 0)).expect("plain data");
        let mut expected = vec![
            "version",
            "cluster",
            "node",
            "config_version",
            "quorate",
            "leader",
            "term",
            "applied",
            "age_ms",
            "nodes",
            "resources",
            "actions",
            "problems",
            "faults",
        ];
        expected.sort_unstable();
        assert_eq!(keys(&json), expected);
        let mut of_node = vec!["name", "id", "state", "role", "vote", "eligible", "caught_up", "reason", "links"];
        of_node.sort_unstable();
        assert_eq!(keys(&json["nodes"][0]), of_node);
        assert_eq!(keys(&json["nodes"][1]["links"][0]), ["address", "loss", "rtt_ms", "state"]);
        let mut of_resource = vec!["name", "unit", "agent", "state", "role", "node", "since", "reason", "failures"];
        of_resource.sort_unstable();
        assert_eq!(keys(&json["resources"][0]), of_resource);
    }

    #[test]
    fn a_healthy_cluster_shows_what_runs_where_and_who_leads() {
        let status = status(&view(), 0);
        assert_eq!((status.cluster.as_str(), status.node.as_str(), status.config_version), ("shop", "a", 12));
        assert!(status.quorate);
        assert_eq!((status.leader.as_deref(), status.term), (Some("a"), 3));
        let web = resource(&status, "web");
        assert_eq!((web.state.as_str(), web.role.as_str(), web.node.as_deref()), ("running", "started", Some("a")));
        assert_eq!(web.since, "2026-11-22T20:00:00.000Z");
        assert_eq!(web.reason, "site runs on a: it has room");
        assert!(status.nodes.iter().all(|node| node.state == "online" && node.caught_up));
        let votes: Vec<&str> = status.nodes.iter().map(|node| node.vote.as_str()).collect();
        assert_eq!(votes, ["leader", "voter", "voter", "voter"]);
        assert_eq!(status.problems, Vec::<String>::new(), "a unit on its way is no problem");
    }

    #[test]
    fn links_show_address_state_round_trip_and_loss() {
        let mut view = view();
        view.peers.get_mut(&B).expect("b").links[1].loss_permille = 125;
        let status = status(&view, 0);
        let b = node(&status, "b");
        let shown: Vec<_> =
            b.links.iter().map(|link| (link.address.as_str(), link.state.as_str(), link.rtt_ms, link.loss)).collect();
        assert_eq!(shown, [("10.0.0.2", "up", Some(0.25), 0.0), ("10.0.1.2", "up", Some(0.25), 0.125)]);
        let a = node(&status, "a");
        assert!(a.links.iter().all(|link| link.state == "own" && link.rtt_ms.is_none()));
    }

    #[test]
    fn a_witness_may_be_given_nothing_and_that_is_no_fault_of_it() {
        let w = node(&status(&view(), 0), "w");
        assert_eq!((w.role.as_str(), w.eligible, w.reason.as_str()), ("witness", false, ""));
    }

    /// Without a majority the last known state is shown with its age, and nothing claims to be possible.
    #[test]
    fn without_a_majority_the_last_known_state_is_shown() {
        let mut view = view();
        for id in [B, C, W] {
            testing::silence(&mut view, id);
        }
        view.is_quorate = false;
        let status = status(&view, 4200);
        assert!(!status.quorate);
        assert_eq!((status.leader.as_deref(), status.age_ms), (None, 4200));
        assert_eq!(resource(&status, "web").node.as_deref(), Some("a"), "what is known is still told");
        assert_eq!(node(&status, "b").state, "lost");
        assert!(status.nodes.iter().all(|node| !node.eligible && node.vote != "leader"));
        assert!(
            status.problems[0]
                .starts_with("a belongs to no majority: 1 of 4 voters heard, 3 needed; missing: b, c, w."),
            "{:?}",
            status.problems
        );
        assert!(!status.problems.iter().any(|problem| problem.contains("once")), "{:?}", status.problems);
        assert!(!status.problems.iter().any(|problem| problem.contains("runs nowhere")), "{:?}", status.problems);
    }

    #[test]
    fn a_condemned_node_says_what_waits_for_it_and_what_helps() {
        let mut view = view();
        view.own = B;
        view.leader = Some(B);
        view.peers = [A, C, W].into_iter().map(|id| (id, PeerReport { id, ..view.peers[&C].clone() })).collect();
        testing::silence(&mut view, A);
        change(&mut view, |state| state.members.get_mut(&A).expect("a").state = MemberState::Condemned);
        let seen = status(&view, 0);
        let a = node(&seen, "a");
        assert_eq!((a.state.as_str(), a.eligible), ("condemned", false));
        assert!(only_problem(&seen).contains("cardea fence a --confirm-off"), "{:?}", seen.problems);
        let web = resource(&seen, "web");
        assert_eq!((web.state.as_str(), web.node.as_deref()), ("unknown", Some("a")), "it may still run there");
        assert_eq!(
            web.reason,
            "ran on a, which is condemned since 2026-11-22 20:00:00 UTC; it waits for the proof that a is off"
        );

        let text = "a is not proven off (the device does not answer, and is tried again): …";
        view.problems = vec![Problem::new(ProblemKind::NotProvenOff, "a", text)];
        let seen = status(&view, 0);
        assert!(only_problem(&seen).starts_with("a is not proven off"), "the leader knows more; it is said once");
    }

    #[test]
    fn a_silent_node_is_a_problem_whether_it_holds_something_or_not() {
        let mut view = view();
        testing::silence(&mut view, B);
        let seen = status(&view, 0);
        assert_eq!(node(&seen, "b").state, "lost");
        assert!(only_problem(&seen).starts_with("b is not heard; it holds nothing"), "{:?}", seen.problems);
        change(&mut view, |state| state.holders.get_mut(&"site".into()).expect("site").node = B);
        let seen = status(&view, 0);
        assert!(only_problem(&seen).starts_with("b is not heard and holds site"), "{:?}", seen.problems);
        let web = resource(&seen, "web");
        assert_eq!(web.state, "unknown");
        assert!(web.reason.starts_with("ran on b, which is not heard"), "{}", web.reason);
        view.is_quorate = false;
        let seen = status(&view, 0);
        assert!(
            seen.problems.iter().all(|problem| !problem.contains("proven off")),
            "without a majority a proof helps nobody: {:?}",
            seen.problems
        );
    }

    /// Somebody who sends heartbeats and does not hear has power and a daemon: other things are to be looked at.
    #[test]
    fn a_deaf_node_is_told_from_a_silent_one_and_may_be_given_nothing() {
        let mut view = view();
        testing::silence(&mut view, B);
        view.peers.get_mut(&B).expect("b").is_heard = true;
        let seen = status(&view, 0);
        assert!(only_problem(&seen).starts_with("b sends heartbeats and does not hear a"), "{:?}", seen.problems);
        assert_eq!((seen.faults[0].kind, seen.faults[0].subject.as_str()), (ProblemKind::Deaf, "b"));
        let b = node(&seen, "b");
        assert!(!b.eligible && !b.caught_up);
    }

    /// Links are up, entries do not arrive: nothing may say that all is well.
    #[test]
    fn a_node_that_does_not_answer_has_not_caught_up_and_may_be_given_nothing() {
        let mut view = view();
        view.problems = vec![Problem::new(ProblemKind::NotAnswering, "b", "b is heard and does not answer")];
        let fault = serde_json::to_value(&status(&view, 0).faults[0]).expect("plain data");
        assert_eq!(keys(&fault), ["kind", "seen_by", "severity", "since", "subject", "text"]);
        let b = node(&status(&view, 0), "b");
        assert_eq!((b.eligible, b.caught_up, b.reason.as_str()), (false, false, "does not answer"));
        let c = node(&status(&view, 0), "c");
        assert!(c.eligible && c.caught_up);
    }

    #[test]
    fn who_hears_enough_voters_and_follows_nobody_is_sent_to_the_firewall() {
        let mut view = view();
        (view.is_quorate, view.leader) = (false, None);
        let seen = status(&view, 0);
        assert!(only_problem(&seen).starts_with("a hears enough voters (a, b, c, w) and follows no leader"));
        assert!(only_problem(&seen).contains("UDP 7601"), "{:?}", seen.problems);
    }

    #[test]
    fn a_unit_that_comes_after_another_one_says_what_it_waits_for() {
        let mut view = view();
        change(&mut view, |state| {
            let db = state.config.resources.get_mut(&"db".into()).expect("db");
            db.placement.after = vec!["site".into()];
            let holder = state.holders[&"site".into()].clone();
            state.holders.insert("db".into(), holder);
            state.known.insert("db".into(), testing::known(A, ResourceState::Stopped, ""));
            state.known.insert("web".into(), testing::known(A, ResourceState::Stopped, ""));
        });
        let db = resource(&status(&view, 0), "db");
        assert_eq!((db.state.as_str(), db.reason.as_str()), ("waiting", "waits until site runs"));
        change(&mut view, |state| _ = state.known.insert("web".into(), testing::known(A, ResourceState::Running, "")));
        assert_eq!(resource(&status(&view, 0), "db").state, "starting");
    }

    #[test]
    fn a_problem_says_since_when() {
        let fault = |since: &str| Fault {
            kind: ProblemKind::DiskFull,
            severity: ProblemKind::DiskFull.severity(),
            subject: "b".to_owned(),
            since: since.to_owned(),
            text: "the disk is full".to_owned(),
            seen_by: vec!["b".to_owned()],
        };
        assert_eq!(sentence(&fault("2026-11-22T20:00:00.5Z")), "the disk is full (since 2026-11-22 20:00:00 UTC)");
        assert_eq!(sentence(&fault("")), "the disk is full");
    }

    #[test]
    fn problems_stand_in_the_history_by_their_time() {
        let view = view();
        let event = |wall_ms, event| Event {
            number: 1,
            at_us: 1,
            wall_ms,
            node: "a".to_owned(),
            event,
            subject: "b".to_owned(),
            reason: "the disk is full".to_owned(),
            problem: Some(ProblemKind::DiskFull),
        };
        let seen = [event(testing::NOW.0 - 5, EventKind::Problem), event(testing::NOW.0 + 500, EventKind::ProblemOver)];
        let told = |limit| -> Vec<String> {
            let items = with_problems(history(&view.state, limit, None), &seen, limit);
            items.into_iter().map(|item| format!("{} {}", item.event, item.actor)).collect()
        };
        assert_eq!(told(9), ["problem a", "granted cluster", "failed cluster", "joined cluster", "problem-over a"]);
        assert_eq!(told(2), ["joined cluster", "problem-over a"]);
    }

    #[test]
    fn a_fenced_node_waits_to_be_looked_at() {
        let mut view = view();
        testing::silence(&mut view, B);
        change(&mut view, |state| state.members.get_mut(&B).expect("b").state = MemberState::Fenced);
        let seen = status(&view, 0);
        assert_eq!(node(&seen, "b").state, "fenced");
        assert!(only_problem(&seen).contains("cardea remove b"), "{:?}", seen.problems);
        let mut because = |actor: &str, reason: &str| {
            change(&mut view, |state| {
                let mut entry = state.history[0].clone();
                (entry.event, entry.subject) = ("condemned".to_owned(), "b".to_owned());
                (entry.actor, entry.reason) = (actor.to_owned(), reason.to_owned());
                state.history.push_back(entry);
            });
            only_problem(&status(&view, 0)).to_owned()
        };
        let text = because("cluster", "web cannot be stopped there");
        assert!(text.starts_with("b is off, it was fenced: web cannot be stopped there."), "{text}");
        let text = because("root@a", "smells of smoke");
        assert!(text.starts_with("b is off, it was fenced by root@a: smells of smoke."), "{text}");
    }

    #[test]
    fn a_node_that_left_in_order_is_no_problem() {
        let mut view = view();
        testing::silence(&mut view, B);
        change(&mut view, |state| state.members.get_mut(&B).expect("b").state = MemberState::Left);
        let seen = status(&view, 0);
        assert_eq!(node(&seen, "b").state, "left");
        assert_eq!(seen.problems, Vec::<String>::new());
    }

    #[test]
    fn a_failed_resource_tells_its_own_reason_and_the_way_back() {
        let mut view = view();
        change(&mut view, |state| {
            state
                .known
                .insert("web".into(), testing::known(A, ResourceState::Failed, "its process ended with status 1"));
            state.failures.insert("web".into(), testing::failures(A, 1, "its process ended with status 1"));
        });
        let seen = status(&view, 0);
        let web = resource(&seen, "web");
        assert_eq!((web.state.as_str(), web.reason.as_str()), ("failed", "its process ended with status 1"));
        assert_eq!(web.failures, 1);
        assert_eq!(
            only_problem(&seen),
            "web failed once on a: its process ended with status 1; once mended: `cardea clear web`"
        );
        change(&mut view, |state| {
            state.failures.insert("web".into(), testing::failures(A, 3, "no such file"));
        });
        assert!(
            status(&view, 0).problems[0].starts_with("web failed 3 times on a and may not run there: no such file")
        );
    }

    #[test]
    fn a_blocked_unit_says_how_to_unblock_it() {
        let mut view = view();
        change(&mut view, |state| {
            let why = "process 7 cannot be ended".to_owned();
            state.holders.get_mut(&"site".into()).expect("site").state = HolderState::Blocked { why };
        });
        let seen = status(&view, 0);
        let web = resource(&seen, "web");
        assert_eq!((web.state.as_str(), web.reason.as_str()), ("blocked", "process 7 cannot be ended"));
        let problem = only_problem(&seen);
        assert!(problem.contains("cardea clear site") && problem.contains("cardea fence a"), "{problem}");
    }

    #[test]
    fn what_is_being_given_up_is_stopping_until_it_has_stopped() {
        let mut view = view();
        change(&mut view, |state| state.holders.get_mut(&"site".into()).expect("site").state = HolderState::Releasing);
        assert_eq!(resource(&status(&view, 0), "web").state, "stopping");
        change(&mut view, |state| _ = state.known.insert("web".into(), testing::known(A, ResourceState::Stopped, "")));
        assert_eq!(resource(&status(&view, 0), "web").state, "stopped");
        assert_eq!(resource(&status(&view, 0), "address").state, "stopping");
    }

    #[test]
    fn a_unit_that_can_run_nowhere_is_a_problem_and_a_stopped_one_is_not() {
        let mut view = view();
        change(&mut view, |state| {
            for id in [A, B, C] {
                state.actions.insert(format!("standby:{id}"), testing::wish(ActionKind::Standby(id)));
            }
        });
        let seen = status(&view, 0);
        assert!(only_problem(&seen).starts_with("db runs nowhere: "), "{:?}", seen.problems);
        assert_eq!(resource(&seen, "db").state, "stopped");
        change(&mut view, |state| {
            _ = state.actions.insert("stop:db".to_owned(), testing::wish(ActionKind::Stop("db".into())))
        });
        assert_eq!(status(&view, 0).problems, Vec::<String>::new());
    }

    #[test]
    fn standby_and_maintenance_tell_who_asked_and_why() {
        let mut view = view();
        change(&mut view, |state| {
            state.actions.insert("standby:b".to_owned(), testing::wish(ActionKind::Standby(B)));
            state.actions.insert("maintenance:c".to_owned(), testing::wish(ActionKind::NodeMaintenance(C)));
        });
        let seen = status(&view, 0);
        let (b, c) = (node(&seen, "b"), node(&seen, "c"));
        assert_eq!((b.state.as_str(), b.reason.as_str()), ("standby", "is in standby (root@a: new disks)"));
        assert_eq!((c.state.as_str(), c.reason.as_str()), ("maintenance", "is in maintenance (root@a: new disks)"));
        assert!(!b.eligible && !c.eligible);
        let actions: Vec<&str> = seen.actions.iter().map(|action| action.action.as_str()).collect();
        assert_eq!(actions, ["maintenance of c", "standby of b"]);
    }

    #[test]
    fn one_cut_network_is_told_with_its_number_and_address() {
        let mut view = view();
        view.peers.get_mut(&B).expect("b").links[1].state = LinkState::Down;
        let seen = status(&view, 0);
        assert!(
            only_problem(&seen).starts_with("network 2 between a (10.0.1.1) and b (10.0.1.2) is down"),
            "{:?}",
            seen.problems
        );
        assert_eq!(node(&seen, "b").links[1].state, "down");
        view.peers.get_mut(&B).expect("b").links[1].state = LinkState::Confirming;
        let seen = status(&view, 0);
        assert!(seen.problems.is_empty(), "it carries heartbeats again: {:?}", seen.problems);
        assert_eq!(node(&seen, "b").links[1].state, "confirming");
    }

    #[test]
    fn explain_answers_for_nodes_groups_and_members_of_groups() {
        let view = view();
        let of_node = explain(&view, "a").expect("a node");
        assert_eq!(of_node.decision, "a is online and holds site");
        let of_member = explain(&view, "web").expect("a resource");
        assert_eq!(of_member.subject, "web");
        assert_eq!(of_member.nodes.len(), 4);
        assert!(of_member.nodes.iter().any(|node| node.node == "w" && !node.can_run));
        let told: Vec<u64> = of_member.history.iter().map(|item| item.index).collect();
        assert_eq!(told, [31, 33], "what happened to its group as well, in order");
        assert!(explain(&view, "nothing").is_none());
    }

    #[test]
    fn the_newest_history_is_kept_and_comes_in_order() {
        let view = view();
        let indexes = |limit, subject| -> Vec<u64> {
            history(&view.state, limit, subject).iter().map(|item| item.index).collect()
        };
        assert_eq!(indexes(2, None), [33, 35]);
        assert_eq!(indexes(10, Some("site")), [31]);
        assert_eq!(versions(&view.state).iter().map(|item| item.config_version).collect::<Vec<_>>(), [1, 12]);
    }

    #[test]
    fn a_plan_reads_as_numbered_steps_that_name_what_they_wait_for() {
        let view = view();
        let plan = scheduler::plan(&view.state, &view.live);
        let shown = show_plan(&view.state, &plan, 12, Vec::new());
        assert_eq!(shown.steps[0].number, 1);
        assert!(shown.steps[0].what.starts_with("grant db to "), "{:?}", shown.steps);
        assert_eq!(shown.steps[1].after, [1]);
        assert!(shown.steps.iter().all(|step| !step.reason.is_empty()));
    }

    #[test]
    fn the_beginning_of_time_is_no_time() {
        assert_eq!(show_time(WallTime(0)), "");
        assert_eq!(show_time(WallTime(u64::MAX)), "", "nor is what no calendar has");
    }
}
