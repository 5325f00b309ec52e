//! Stories: a cluster file, what is given, and the plan that follows from it.
//!
//! Each folder below `plans/` is a story: `cluster.toml` (or the one above it), `given.txt`, `plan.txt`.
//! `UPDATE_GOLDENS=1` writes the plans anew; read their diff like code.
//!
//! Given, one fact a line; members are online and everything is known to be stopped unless a line says otherwise:
//! `member NODE STATE` · `lost NODE WHY` · `notyet NODE WHY` · `suppressed NODE` · `unit UNIT held|releasing NODE` ·
//! `unit UNIT blocked NODE WHY` · `known RESOURCE NODE STATE` · `outdated RESOURCE NODE` ·
//! `failures RESOURCE NODE COUNT WHY` · `permanent RESOURCE NODE WHY` · `action KIND [UNIT] [NODE]` ·
//! `suppose EVENT` (then the plan is what would be done if that happened now)

mod common;

use std::fmt::Write as _;

use model::{
    ActionKind, Epoch, Failures, GrantId, Holder, HolderState, Incarnation, Known, Member, MemberState, NodeId,
    NodeName, OpId, OperatorAction, ResourceName, ResourceState, StepKind, UnitName, WallTime,
};
use model::{ClusterState, NodeRole, Plan};
use scheduler::reasons::{changed, story};
use scheduler::{Ask, Eligibility, Live, explain, judge, judge_telling, plan, situation_if};

#[test]
fn the_plans_are_as_written() {
    common::compare_stories("plans", 40, "given.txt", |file, facts| {
        let (state, live) = given(file, facts);
        let first = plan(&state, &live);
        assert_eq!(first, plan(&state, &live), "equal inputs, equal plans");
        let supposed: Vec<&str> = facts.lines().filter_map(|line| line.strip_prefix("suppose ")).collect();
        if supposed.is_empty() { told(&state, &live, &first) } else { told_if(&state, &live, &supposed) }
    });
}

fn given(file: &str, facts: &str) -> (ClusterState, Live) {
    let config = config::parse(file).unwrap_or_else(|errors| panic!("{errors:?}")).config;
    let mut state = ClusterState { config, ..ClusterState::default() };
    let names: Vec<NodeName> = state.config.nodes.keys().cloned().collect();
    for (position, name) in names.iter().enumerate() {
        let id = NodeId(position as u64 + 1);
        let role = state.config.nodes[name].role;
        state.members.insert(id, member(id, name.clone(), role));
    }
    let resources: Vec<ResourceName> = state.config.resources.keys().cloned().collect();
    let ids: Vec<NodeId> = state.members.keys().copied().collect();
    for id in &ids {
        for resource in &resources {
            know(&mut state, resource, *id, ResourceState::Stopped);
        }
    }
    let mut overrides = Vec::new();
    for line in facts.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let node = |word: &str| state.member_named(&NodeName::from(word)).unwrap_or_else(|| panic!("{line}")).0;
        match words.as_slice() {
            ["member", name, to] => {
                let id = node(name);
                state.members.get_mut(&id).expect("a member").state = member_state(to);
            }
            ["lost", name, why @ ..] => overrides.push((node(name), Eligibility::Lost { why: why.join(" ") })),
            ["notyet", name, why @ ..] => overrides.push((node(name), Eligibility::NotYet { why: why.join(" ") })),
            ["suppressed", name] => {
                let id = node(name);
                let member = state.members.get_mut(&id).expect("a member");
                (0..3).for_each(|_| member.add_flap(WallTime(0)));
            }
            ["unit", unit, how, name, why @ ..] => {
                let grant = GrantId(100 + state.holders.len() as u64);
                let how = match *how {
                    "held" => HolderState::Held,
                    "releasing" => HolderState::Releasing,
                    "blocked" => HolderState::Blocked { why: why.join(" ") },
                    other => panic!("{other}"),
                };
                let id = node(name);
                let holder = Holder {
                    node: id,
                    incarnation: incarnation(id),
                    grant,
                    state: how,
                    since: WallTime(0),
                    reason: String::new(),
                };
                state.holders.insert(UnitName::from(*unit), holder);
            }
            ["known", resource, name, to] => {
                let id = node(name);
                know(&mut state, &ResourceName::from(*resource), id, resource_state(to));
            }
            ["outdated", resource, name] => {
                let id = node(name);
                let resource = ResourceName::from(*resource);
                know(&mut state, &resource, id, ResourceState::Running);
                state.known.get_mut(&resource).and_then(|nodes| nodes.get_mut(&id)).expect("known").digest = 1;
            }
            ["failures", resource, name, count, why @ ..] => {
                let id = node(name);
                let failures = Failures {
                    count: count.parse().expect("a count"),
                    last_reason: why.join(" "),
                    ..Failures::default()
                };
                state.failures.entry(ResourceName::from(*resource)).or_default().insert(id, failures);
            }
            ["permanent", resource, name, why @ ..] => {
                let id = node(name);
                let failures =
                    Failures { count: 1, last_reason: why.join(" "), is_permanent: true, ..Failures::default() };
                state.failures.entry(ResourceName::from(*resource)).or_default().insert(id, failures);
            }
            ["suppose", _] => {}
            ["action", kind, rest @ ..] => {
                let kind = match (*kind, rest) {
                    ("standby", [name]) => ActionKind::Standby(node(name)),
                    ("leave", [name]) => ActionKind::Leave(node(name)),
                    ("maintenance", [name]) => ActionKind::NodeMaintenance(node(name)),
                    ("maintenance", []) => ActionKind::ClusterMaintenance,
                    ("stop", [unit]) => ActionKind::Stop(UnitName::from(*unit)),
                    ("move", [unit, name]) => ActionKind::Move(UnitName::from(*unit), node(name)),
                    _ => panic!("{line}"),
                };
                let action = OperatorAction { kind, actor: "ada".into(), reason: "disk swap".into(), at: WallTime(0) };
                state.actions.insert(line.to_owned(), action);
            }
            _ => panic!("what does `{line}` mean?"),
        }
    }
    let mut live = Live::all(&state);
    live.eligible.extend(overrides);
    (state, live)
}

fn member(id: NodeId, name: NodeName, role: NodeRole) -> Member {
    Member {
        name,
        role,
        incarnation: incarnation(id),
        state: MemberState::Online,
        boot_id: String::new(),
        machine_id: String::new(),
        storage_uuid: String::new(),
        since: WallTime(0),
        flap_penalty: 0,
        flap_at: WallTime(0),
        dead: [].into(),
    }
}

fn incarnation(id: NodeId) -> Incarnation {
    Incarnation(id.0 * 11)
}

fn know(state: &mut ClusterState, resource: &ResourceName, node: NodeId, to: ResourceState) {
    let digest = match to {
        ResourceState::Running => state.config.resources.get(resource).map_or(7, |r| r.parameters_digest()),
        ResourceState::Unknown | ResourceState::Stopped | ResourceState::Failed | ResourceState::Blocked => 0,
    };
    let known = Known {
        state: to,
        incarnation: incarnation(node),
        op: OpId { epoch: Epoch(5), index: 1 },
        since: WallTime(0),
        reason: String::new(),
        digest,
        is_change: false,
    };
    state.known.entry(resource.clone()).or_default().insert(node, known);
}

fn member_state(word: &str) -> MemberState {
    match word {
        "absent" => MemberState::Absent,
        "online" => MemberState::Online,
        "left" => MemberState::Left,
        "condemned" => MemberState::Condemned,
        "fenced" => MemberState::Fenced,
        other => panic!("no member is `{other}`"),
    }
}

fn resource_state(word: &str) -> ResourceState {
    match word {
        "unknown" => ResourceState::Unknown,
        "stopped" => ResourceState::Stopped,
        "running" => ResourceState::Running,
        "failed" => ResourceState::Failed,
        "blocked" => ResourceState::Blocked,
        other => panic!("no resource is `{other}`"),
    }
}

/// What would be done if something happened, as an operator reads it. Every member votes.
fn told_if(state: &ClusterState, live: &Live, supposed: &[&str]) -> String {
    let supposed: Vec<_> = supposed.iter().map(|text| text.parse().expect("a supposition")).collect();
    let voters: Vec<NodeId> = state.members.keys().copied().collect();
    let (situation, votes) = situation_if(state, live, &voters, &supposed).expect("it can happen");
    let none = votes.majority(&situation).err().map(|none| format!("{none}\n")).unwrap_or_default();
    let (judgement, reasons) = judge_telling(&situation, &Ask::Of(changed(&judge(&situation))));
    none + &story(&judgement, &reasons)
}

/// The plan as an operator reads it.
fn told(state: &ClusterState, live: &Live, plan: &Plan) -> String {
    let mut text = String::new();
    for (unit, decision) in &plan.decisions {
        let place = decision.node.map_or("nowhere".to_owned(), |node| state.name_of(node));
        writeln!(text, "{unit}: {place}\n    {}", decision.reason).expect("a String takes all");
        if let Some(nodes) = plan.blocked_by.get(unit) {
            let names: Vec<String> = nodes.iter().map(|node| state.name_of(*node)).collect();
            writeln!(text, "    ! blocked by {}", names.join(", ")).expect("a String takes all");
        }
        for line in explain(state, live, unit) {
            let node = state.name_of(line.node);
            let sign = if line.can_run { '+' } else { '-' };
            writeln!(text, "    {sign} {node} {}", line.because.join("; ")).expect("a String takes all");
        }
    }
    writeln!(text).expect("a String takes all");
    for (position, step) in plan.steps.iter().enumerate() {
        let what = match &step.kind {
            StepKind::Probe(resource) => format!("probe {resource}"),
            StepKind::Grant => format!("grant {}", step.unit),
            StepKind::Start(resource) => format!("start {resource}"),
            StepKind::BeginRelease => format!("begin to release {}", step.unit),
            StepKind::Stop(resource) => format!("stop {resource}"),
            StepKind::Release => format!("release {}", step.unit),
        };
        let after: Vec<String> = step.after.iter().map(|position| (position + 1).to_string()).collect();
        let after = if after.is_empty() { String::new() } else { format!(" after {}", after.join(", ")) };
        writeln!(text, "{}. {what} on {}{after}", position + 1, state.name_of(step.node)).expect("a String takes all");
        writeln!(text, "    {}", step.reason).expect("a String takes all");
    }
    if plan.steps.is_empty() {
        text.push_str("nothing to do\n");
    }
    text
}
