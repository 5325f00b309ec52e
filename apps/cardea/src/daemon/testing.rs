//! A picture of a small healthy cluster, for the tests of what operators ask and see.
//!
//! Members a (leads, holds `site`), b and c, the witness w; the group `site` of `address` and `web`, and `db`, which
//! nobody holds yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use liveness::{BeatFlags, Facts, Health, LinkReport, LinkState, PeerReport, Verdict};
use model::{
    Bugs, ClusterState, ConfigRecord, ConfigVersion, Epoch, Failures, GrantId, HistoryEntry, Holder, HolderState,
    Incarnation, Instant, Known, LinkId, LogIndex, Member, MemberState, NodeId, NodeRole, OpId, OperatorAction, Plan,
    ResourceState, Term, WallTime,
};
use node::View;
use scheduler::{Eligibility, Live};

pub const A: NodeId = NodeId(1);
pub const B: NodeId = NodeId(2);
pub const C: NodeId = NodeId(3);
pub const W: NodeId = NodeId(4);

/// 2026-11-22T20:00:00Z.
pub const NOW: WallTime = WallTime(1_795_377_600_000);

pub const FILE: &str = r#"
cluster = "shop"

[nodes.a]
links = ["10.0.0.1", "10.0.1.1"]
fence = ["power"]
[nodes.b]
links = ["10.0.0.2", "10.0.1.2"]
fence = ["power"]
[nodes.c]
links = ["10.0.0.3", "10.0.1.3"]
fence = ["power"]
[nodes.w]
links = ["10.0.0.4", "10.0.1.4"]
role = "witness"

[fence.power]
agent = "fence_lab"

[resources.address]
agent = "cardea:ip"
address = "10.0.0.100/24"
[resources.web]
agent = "cardea:process"
command = ["web"]
[resources.db]
agent = "cardea:process"
command = ["db"]

[groups.site]
members = ["address", "web"]
"#;

pub fn incarnation(node: NodeId) -> Incarnation {
    Incarnation(1000 + node.0)
}

/// The picture that a, the leader, has.
pub fn view() -> View {
    let voters = vec![A, B, C, W];
    View {
        own: A,
        state: Arc::new(state()),
        is_quorate: true,
        leader: Some(A),
        term: Term(3),
        commit: LogIndex(40),
        voters: voters.clone(),
        learners: Vec::new(),
        peers: [B, C, W].into_iter().map(|id| (id, peer(id))).collect(),
        live: Live {
            eligible: voters.into_iter().map(|id| (id, Eligibility::Ready)).collect(),
            now: NOW,
            closing: None,
            bugs: Bugs::NONE,
        },
        downs: BTreeMap::new(),
        plan: Plan::default(),
        problems: Vec::new(),
    }
}

/// Changes the agreed state of a picture.
pub fn change(view: &mut View, change: impl FnOnce(&mut ClusterState)) {
    change(Arc::make_mut(&mut view.state));
}

/// The node fell silent, and everybody noticed.
pub fn silence(view: &mut View, id: NodeId) {
    let peer = view.peers.get_mut(&id).expect("a peer");
    peer.verdict = Verdict::Suspect;
    peer.is_heard = false;
    for link in &mut peer.links {
        link.state = LinkState::Down;
    }
    view.live.eligible.insert(id, Eligibility::Lost { why: "is not heard".to_owned() });
}

/// An operator's wish.
pub fn wish(kind: model::ActionKind) -> OperatorAction {
    OperatorAction { kind, actor: "root@a".to_owned(), reason: "new disks".to_owned(), at: NOW }
}

/// Failures of a resource on one node.
pub fn failures(node: NodeId, count: u32, reason: &str) -> BTreeMap<NodeId, Failures> {
    BTreeMap::from([(node, Failures { count, last_at: NOW, last_reason: reason.to_owned(), is_permanent: false })])
}

/// What is known of a resource on one node.
pub fn known(node: NodeId, state: ResourceState, reason: &str) -> BTreeMap<NodeId, Known> {
    let op = OpId { epoch: Epoch(30), index: 4 };
    let digest = 0;
    BTreeMap::from([(
        node,
        Known {
            state,
            incarnation: incarnation(node),
            op,
            since: NOW,
            reason: reason.to_owned(),
            digest,
            is_change: false,
        },
    )])
}

/// So on a, and stopped on b and c.
fn everywhere(on_a: ResourceState) -> BTreeMap<NodeId, Known> {
    let states = [(A, on_a), (B, ResourceState::Stopped), (C, ResourceState::Stopped)];
    states.into_iter().flat_map(|(id, state)| known(id, state, "")).collect()
}

fn state() -> ClusterState {
    let config = config::parse(FILE).expect("a sound file").config;
    let record = |version: u64, text: &str| ConfigRecord {
        version: ConfigVersion(version),
        text: text.to_owned(),
        actor: "root@a".to_owned(),
        reason: "first services".to_owned(),
        at: NOW,
    };
    let entry = |index: u64, event: &str, subject: &str, reason: &str| HistoryEntry {
        index: LogIndex(index),
        at: NOW,
        event: event.to_owned(),
        subject: subject.to_owned(),
        reason: reason.to_owned(),
        actor: "cluster".to_owned(),
    };
    ClusterState {
        applied: LogIndex(40),
        cluster_id: 7,
        epoch: Epoch(30),
        coordinator: A,
        term: Term(3),
        config_version: ConfigVersion(12),
        config,
        config_history: VecDeque::from([record(1, "cluster = \"shop\"\n"), record(12, FILE)]),
        members: [(A, "a"), (B, "b"), (C, "c"), (W, "w")]
            .into_iter()
            .map(|(id, name)| (id, member(id, name)))
            .collect(),
        holders: BTreeMap::from([(
            "site".into(),
            Holder {
                node: A,
                incarnation: incarnation(A),
                grant: GrantId(31),
                state: HolderState::Held,
                since: NOW,
                reason: "site runs on a: it has room".to_owned(),
            },
        )]),
        known: BTreeMap::from([
            ("address".into(), everywhere(ResourceState::Running)),
            ("web".into(), everywhere(ResourceState::Running)),
            ("db".into(), everywhere(ResourceState::Stopped)),
        ]),
        history: VecDeque::from([
            entry(31, "granted", "site", "site runs on a: it has room"),
            entry(33, "failed", "web", "its process ended with status 1"),
            entry(35, "joined", "b", "b is back"),
        ]),
        ..ClusterState::default()
    }
}

fn member(id: NodeId, name: &str) -> Member {
    Member {
        name: name.into(),
        role: if id == W { NodeRole::Witness } else { NodeRole::Member },
        incarnation: incarnation(id),
        state: MemberState::Online,
        boot_id: format!("boot-{name}"),
        machine_id: format!("machine-{name}"),
        storage_uuid: format!("disk-{name}"),
        since: NOW,
        flap_penalty: 0,
        flap_at: NOW,
        dead: VecDeque::new(),
    }
}

fn peer(id: NodeId) -> PeerReport {
    let link = |number| LinkReport {
        link: LinkId(number),
        state: LinkState::Up,
        is_two_way: true,
        proven: None,
        rtt: Some(Duration::from_micros(250)),
        loss_permille: 0,
    };
    PeerReport {
        id,
        incarnation: incarnation(id),
        verdict: Verdict::Reachable,
        is_heard: true,
        is_two_way: true,
        sessions: 1,
        reachable_since: Some(Instant::from_nanos(1)),
        limit: Duration::from_millis(250),
        facts: Facts { applied: LogIndex(40), is_known: true, ..Facts::default() },
        rival: None,
        two_lives: Vec::new(),
        suspects: Vec::new(),
        hears: BTreeSet::from([A, B, C, W]).into_iter().filter(|other| *other != id).collect(),
        flags: BeatFlags::NONE,
        health: Health::default(),
        links: vec![link(0), link(1)],
    }
}
