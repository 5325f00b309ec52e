//! One sample of everything that nodes say to each other, with every field filled.

use std::collections::BTreeMap;
use std::time::Duration;

use executor::{Change, ExecutorMessage, InFlight, Inventory, InventoryItem};
use liveness::{Age, Beat, BeatFlags, BeatHeader, BeatKind, Echo, Facts, Health};
use minicbor::Encode;
use model::{
    AgentAction, AgentName, ConfigVersion, Epoch, GrantId, Incarnation, LinkId, LogIndex, NodeId, Op, OpId, OpResult,
    Outcome, ParameterValue, ResourceName, ResourceState, Term, UnitName,
};
use wire::{Announce, Message};

pub fn header() -> BeatHeader {
    BeatHeader {
        cluster: 0x0102_0304_0506_0708,
        sender: NodeId(1),
        receiver: NodeId(260),
        salt: 0x000f_0e0d_0c0b_0a09_0807_0605_0403_0201,
        key_epoch: 7,
        link: LinkId(1),
        seq: 70_000,
    }
}

pub fn beats() -> Vec<(&'static str, Beat)> {
    let kinds =
        [("beat", BeatKind::Beat), ("ping", BeatKind::Ping { round: 3 }), ("pong", BeatKind::Pong { round: 3 })];
    let sick = Beat {
        health: Some(Health { worker: Duration::from_millis(2100), disk: Duration::from_secs(16) }),
        ..beat(BeatKind::Beat)
    };
    let contested = Beat { two_lives: Some(vec![NodeId(5), NodeId(9)]), ..beat(BeatKind::Beat) };
    kinds
        .into_iter()
        .map(|(name, kind)| (name, beat(kind)))
        .chain([("beat-sick", sick), ("beat-two-lives", contested)])
        .collect()
}

fn beat(kind: BeatKind) -> Beat {
    Beat {
        incarnation: Incarnation(0xfeed),
        kind,
        flags: BeatFlags::JUST_STALLED.with(BeatFlags::NO_ACCUSE),
        sent_at_us: 1_000_000,
        late_us: 12,
        own_stall_ms: 80,
        next_by_ms: 50,
        echo: Some(Echo { salt: 0x0102_0304, seq: 69_999, hold_us: 480 }),
        loss_permille: 200,
        ages: vec![Age { node: NodeId(9), units: 2 }, Age { node: NodeId(12), units: 255 }],
        facts: Facts {
            term: Term(4),
            leader: Some(NodeId(1)),
            last_term: Term(4),
            last_index: LogIndex(310),
            commit: LogIndex(309),
            applied: LogIndex(308),
            config_version: ConfigVersion(120),
            digest_index: LogIndex(256),
            digest: 0xdead_beef_0bad_cafe,
            epoch: Epoch(300),
            priority: -1,
            is_known: true,
            level: 0,
        },
        health: None,
        two_lives: None,
    }
}

/// Every kind of message, by the name of its frozen sample.
pub fn messages() -> Vec<(String, Message)> {
    let mut all: Vec<(String, Message)> = consensus_messages();
    all.extend([
        ("op-start".to_owned(), Message::Executor(ExecutorMessage::Op(op(AgentAction::Start)))),
        ("op-stop".to_owned(), Message::Executor(ExecutorMessage::Op(op(AgentAction::Stop)))),
        ("op-monitor".to_owned(), Message::Executor(ExecutorMessage::Op(op(AgentAction::Monitor)))),
    ]);
    all.extend(outcomes().into_iter().map(|(name, outcome)| {
        (format!("result-{name}"), Message::Executor(ExecutorMessage::Result(result(outcome))))
    }));
    all.extend([
        ("changed".to_owned(), Message::Executor(ExecutorMessage::Changed(change()))),
        (
            "ack".to_owned(),
            Message::Executor(ExecutorMessage::Ack { resource: "web".into(), op: op_id(), is_change: true }),
        ),
        ("ask-inventory".to_owned(), Message::Executor(ExecutorMessage::AskInventory { epoch: Epoch(300) })),
        (
            "inventory".to_owned(),
            Message::Executor(ExecutorMessage::Inventory { epoch: Epoch(300), inventory: inventory() }),
        ),
        (
            "inventory-acknowledging".to_owned(),
            Message::Executor(ExecutorMessage::Inventory {
                epoch: Epoch(300),
                inventory: Inventory { acknowledges: true, ..inventory() },
            }),
        ),
        ("accepted".to_owned(), Message::Executor(ExecutorMessage::Accepted { resource: "web".into(), op: op_id() })),
        ("announce".to_owned(), Message::Announce(announce())),
        ("leave".to_owned(), Message::Leave { incarnation: Incarnation(0xfeed) }),
        ("ask-state".to_owned(), Message::AskState),
        ("state".to_owned(), Message::State { snapshot: b"the state".to_vec() }),
    ]);
    all
}

fn op_id() -> OpId {
    OpId { epoch: Epoch(300), index: 17 }
}

fn op(action: AgentAction) -> Op {
    Op {
        id: op_id(),
        incarnation: Incarnation(0xfeed),
        unit: UnitName("shop".to_owned()),
        resource: ResourceName("web".to_owned()),
        action,
        grant: Some(GrantId(305)),
        agent: AgentName::Ocf { provider: "heartbeat".to_owned(), name: "Dummy".to_owned() },
        parameters: BTreeMap::from([
            ("address".to_owned(), ParameterValue::Text("10.0.0.100/24".to_owned())),
            ("password".to_owned(), ParameterValue::File { file: "/etc/cardea/secrets/web".to_owned() }),
        ]),
        timeout: Duration::from_secs(20),
        monitor_every: Duration::from_millis(2_500),
        monitor_timeout: Duration::from_secs(10),
        is_proven_free: true,
        digest: 0x1234_5678_9abc_def0,
    }
}

fn outcomes() -> [(&'static str, Result<Outcome, String>); 8] {
    [
        ("success", Ok(Outcome::Success)),
        ("not-running", Ok(Outcome::NotRunning)),
        ("failed", Ok(Outcome::Failed { reason: "no such file".to_owned(), is_permanent: true })),
        ("timed-out", Ok(Outcome::TimedOut)),
        ("stuck", Ok(Outcome::Stuck { reason: "process 7 cannot be ended".to_owned() })),
        ("unknown", Ok(Outcome::Unknown { reason: "too many open files".to_owned(), is_permanent: false })),
        ("not-begun", Ok(Outcome::NotBegun { reason: "no such agent".to_owned() })),
        ("refused", Err("the epoch is too old".to_owned())),
    ]
}

fn result(outcome: Result<Outcome, String>) -> OpResult {
    OpResult {
        id: op_id(),
        incarnation: Incarnation(0xfeed),
        resource: "web".into(),
        action: AgentAction::Start,
        grant: Some(GrantId(305)),
        outcome,
        digest: 99,
    }
}

fn change() -> Change {
    Change {
        resource: "web".into(),
        incarnation: Incarnation(0xfeed),
        op: op_id(),
        state: ResourceState::Failed,
        reason: "its process ended with status 1".to_owned(),
        digest: 99,
        grant: Some(GrantId(305)),
    }
}

fn inventory() -> Inventory {
    let states = [
        ResourceState::Unknown,
        ResourceState::Stopped,
        ResourceState::Running,
        ResourceState::Failed,
        ResourceState::Blocked,
    ];
    let in_flight = InFlight { id: op_id(), action: AgentAction::Stop, timeout: Duration::from_secs(20) };
    Inventory {
        incarnation: Incarnation(0xfeed),
        max_epoch: Epoch(300),
        applied: LogIndex(309),
        resources: states
            .into_iter()
            .enumerate()
            .map(|(number, state)| InventoryItem {
                resource: ResourceName(format!("r{number}")),
                state,
                grant: Some(GrantId(305)),
                op: Some(in_flight.clone()),
                last: op_id(),
                reason: "as asked".to_owned(),
                digest: 99,
            })
            .collect(),
        acknowledges: false,
    }
}

fn announce() -> Announce {
    Announce {
        incarnation: Incarnation(0xfeed),
        boot_id: "6b2c9c1e-0000-4000-8000-000000000001".to_owned(),
        machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
        storage_uuid: "fedcba9876543210fedcba9876543210".to_owned(),
        last_term: Term(4),
        last_index: LogIndex(310),
    }
}

/// A message of the agreed log, as its bytes say it: only the consensus itself can make one.
#[derive(Encode)]
struct ConsensusBytes {
    #[n(0)]
    kind: u8,
    #[n(1)]
    term: u64,
    #[n(2)]
    index: u64,
    #[n(3)]
    log_term: u64,
    #[n(4)]
    commit: u64,
    #[n(5)]
    commit_term: u64,
    #[n(6)]
    is_rejected: bool,
    #[n(7)]
    reject_hint: u64,
    #[n(8)]
    priority: i64,
    #[n(9)]
    is_transfer: bool,
    #[n(10)]
    entries: Vec<EntryBytes>,
    #[n(11)]
    snapshot: Option<SnapshotBytes>,
}

#[derive(Encode)]
struct EntryBytes {
    #[n(0)]
    term: u64,
    #[n(1)]
    index: u64,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    data: Vec<u8>,
}

#[derive(Encode)]
struct SnapshotBytes {
    #[n(0)]
    index: u64,
    #[n(1)]
    term: u64,
    #[n(2)]
    membership: (Vec<u64>, Vec<u64>),
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    data: Vec<u8>,
}

fn consensus_messages() -> Vec<(String, Message)> {
    const KINDS: [&str; 10] = [
        "append",
        "append-response",
        "request-vote",
        "request-vote-response",
        "snapshot",
        "heartbeat",
        "heartbeat-response",
        "timeout-now",
        "request-pre-vote",
        "request-pre-vote-response",
    ];
    (0..).zip(KINDS).map(|(number, name)| (name.to_owned(), consensus_message(number))).collect()
}

fn consensus_message(kind: u8) -> Message {
    const APPEND: u8 = 0;
    const REQUEST_VOTE: u8 = 2;
    const SNAPSHOT: u8 = 4;
    let entry = |index, data: &[u8]| EntryBytes { term: 4, index, data: data.to_vec() };
    let bytes = ConsensusBytes {
        kind,
        term: 4,
        index: 309,
        log_term: 4,
        commit: 308,
        commit_term: 4,
        is_rejected: false,
        reject_hint: 0,
        priority: -1,
        is_transfer: kind == REQUEST_VOTE,
        entries: if kind == APPEND { vec![entry(310, b"an entry"), entry(311, b"")] } else { Vec::new() },
        snapshot: (kind == SNAPSHOT).then(|| SnapshotBytes {
            index: 300,
            term: 3,
            membership: (vec![1, 9, 12], vec![40]),
            data: b"the state".to_vec(),
        }),
    };
    let bytes = minicbor::to_vec(bytes).expect("a vector takes every message");
    Message::Consensus(minicbor::decode(&bytes).expect("these are the bytes of a consensus message"))
}
