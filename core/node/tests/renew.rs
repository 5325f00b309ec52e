//! Who asks for a state, who gets one, and when is it enough? (SAFETY §5)

use std::collections::BTreeMap;
use std::time::Duration;

use consensus::Stored;
use liveness::{BeatFlags, Facts, Health, PeerReport, PulseReport, Verdict};
use model::{
    ClusterConfig, ClusterState, Incarnation, Instant, LogIndex, Member, MemberState, NodeId, NodeRole, Table,
    WallTime, Write,
};
use node::{Action, Addresses, Identity, Input, Moment, Node, Settings, Start};
use state::{Command, Entry, Founder};
use wire::Message;

const LEADER: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const OWN: NodeId = NodeId(9);
/// The state that nodes begin with is the one after this entry.
const FIRST: u8 = 10;

/// A node, and what it wanted done.
struct Desk {
    node: Node,
    now: u64,
    sent: Vec<(u64, NodeId, Message)>,
    events: Vec<(&'static str, String)>,
    facts: Facts,
    /// The last entry of its log.
    last: u8,
}

/// Three members; the wrong state tells another story.
fn state(is_right: bool) -> ClusterState {
    let founder = Founder {
        name: "a".into(),
        role: NodeRole::Member,
        storage_uuid: "storage".to_owned(),
        machine_id: "machine".to_owned(),
    };
    let mut state = state::founding(7, founder, "", ClusterConfig::default(), WallTime(1));
    let first = state.members.values().next().expect("the founder").clone();
    let member = |(id, name): (NodeId, &str)| {
        let incarnation = Incarnation(if id == OWN { 5 } else { id.0 });
        (id, Member { name: name.into(), incarnation, state: MemberState::Online, ..first.clone() })
    };
    state.members = [(LEADER, "a"), (OTHER, "b"), (OWN, "c")].into_iter().map(member).collect();
    state.applied = LogIndex(FIRST.into());
    if !is_right {
        state.history[0].reason.push('?');
    }
    state
}

fn stored(writes: Vec<Write>) -> Stored {
    let mut meta = BTreeMap::new();
    for write in writes {
        match write {
            Write::Put { table: Table::Meta, key, value } => _ = meta.insert(key, value),
            other => panic!("{other:?}"),
        }
    }
    Stored::decode(&meta, Vec::new()).expect("what a node begins with")
}

/// Bytes, in CBOR.
fn bytes(data: &[u8]) -> Vec<u8> {
    [&[0x59][..], &u16::try_from(data.len()).expect("short").to_be_bytes(), data].concat()
}

/// A message of the agreed log from the leader in term 2, as CBOR.
fn consensus(kind: u8, index: u8, commit: u8, entries: &[u8], snapshot: &[u8]) -> Message {
    const NO: u8 = 0xf4;
    let log_term = if kind == 0 { 2 } else { 0 };
    let head = [1, 0x82, 0, 0x81, 0x8c, kind, 2, index, log_term, commit, 0, NO, 0, 0, NO];
    wire::decode(&[&head[..], entries, snapshot].concat()).expect("a message of the log")
}

const NO_ENTRIES: [u8; 1] = [0x80];
const NO_SNAPSHOT: [u8; 1] = [0xf6];

impl Desk {
    fn new() -> Desk {
        let identity = Identity {
            own: OWN,
            cluster: 7,
            incarnation: Incarnation(5),
            boot_id: "boot".to_owned(),
            machine_id: "machine".to_owned(),
            storage_uuid: "storage".to_owned(),
        };
        let settings = Settings { digest_every: 1, ..Settings::default() };
        let (stored, journal, first_peers, begun) =
            (stored(consensus::joining()), Vec::new(), Vec::new(), Instant::ZERO);
        let start = Start { identity, settings, stored, journal, first_peers, addresses: Addresses::default(), begun };
        let (node, actions) = Node::new(Desk::moment(1000), start).expect("a node");
        let (sent, events, facts) = (Vec::new(), Vec::new(), Facts::default());
        let mut desk = Desk { node, now: 1000, sent, events, facts, last: FIRST };
        desk.perform(actions);
        desk
    }

    /// A member that begins with this state; these vote.
    fn with_state(state: &ClusterState, voters: &[u8]) -> Desk {
        let mut desk = Desk::new();
        let membership = [&[0x82, 0x80 + u8::try_from(voters.len()).expect("few")][..], voters, &[0x80]].concat();
        let snapshot = [&[0x84, FIRST, 2][..], &membership, &bytes(&state::encode_snapshot(state))].concat();
        desk.hear(LEADER, consensus(4, 0, 0, &NO_ENTRIES, &snapshot));
        desk
    }

    /// A member with this state that follows the leader; it has applied one entry since.
    fn following(state: &ClusterState) -> Desk {
        let mut desk = Desk::with_state(state, &[1, 2, 9]);
        desk.append();
        desk
    }

    fn moment(millis: u64) -> Moment {
        Moment { at: Instant::from_nanos(millis * 1_000_000), wall: WallTime(1_795_377_600_000 + millis) }
    }

    fn step(&mut self, input: Input) {
        let actions = self.node.step(Desk::moment(self.now), input);
        self.perform(actions);
    }

    /// Whatever is to be written is on the disk at once.
    fn perform(&mut self, actions: Vec<Action>) {
        let mut tokens = Vec::new();
        for action in actions {
            match action {
                Action::Persist { token, .. } => tokens.push(token),
                Action::Send { to, message } => self.sent.push((self.now, to, message)),
                Action::Pulse(order) => self.facts = order.facts,
                Action::Event(event) => self.events.push((event.event, event.reason)),
                Action::Halt(halt) => panic!("{halt:?}"),
                _ => {}
            }
        }
        tokens.into_iter().for_each(|token| self.step(Input::Persisted { token }));
    }

    fn hear(&mut self, from: NodeId, message: Message) {
        self.step(Input::Message { from, message });
    }

    /// The leader has an entry agreed on that says nothing.
    fn append(&mut self) {
        let entry = Entry { at: WallTime(1), actor: "cluster".to_owned(), command: Command::Nothing };
        let next = self.last + 1;
        let entries = [&[0x81, 0x84, 2, next][..], &bytes(&entry.encode()), &NO_SNAPSHOT].concat();
        self.hear(LEADER, consensus(0, self.last, next, &entries, &NO_SNAPSHOT));
        self.last = next;
        assert_eq!(self.node.state().applied, LogIndex(next.into()));
    }

    /// Time passes under a leader that is heard.
    fn run(&mut self, millis: u64) {
        let until = self.now + millis;
        while self.now < until {
            self.now += 100;
            self.hear(LEADER, consensus(5, 0, self.last, &NO_ENTRIES, &NO_SNAPSHOT));
            self.step(Input::Tick);
        }
    }

    /// Heartbeats of another member say that it has this state after the entry that this node applied last.
    fn beat(&mut self, id: NodeId, digest: u64) {
        self.beat_of(id, self.facts.digest_index, digest);
    }

    /// Another member is heard; it has not compared anything yet.
    fn greet(&mut self, id: NodeId) {
        self.beat_of(id, LogIndex(0), 0);
    }

    fn beat_of(&mut self, id: NodeId, digest_index: LogIndex, digest: u64) {
        let report = PeerReport {
            id,
            incarnation: Incarnation(id.0),
            verdict: Verdict::Reachable,
            is_heard: true,
            is_two_way: true,
            sessions: 1,
            reachable_since: Some(Instant::ZERO),
            limit: Duration::from_millis(250),
            facts: Facts { digest_index, digest, is_known: true, level: state::LEVEL, ..self.facts },
            rival: None,
            two_lives: Vec::new(),
            suspects: Vec::new(),
            hears: vec![OWN],
            flags: BeatFlags::NONE,
            health: Health::default(),
            links: Vec::new(),
        };
        self.step(Input::Pulse(PulseReport::Peer(report)));
    }

    fn asked_at(&self) -> Vec<u64> {
        let asks = self.sent.iter().filter(|(_, _, message)| *message == Message::AskState);
        asks.inspect(|(_, to, _)| assert_eq!(*to, LEADER)).map(|(at, ..)| *at).collect()
    }

    fn given_to(&self) -> Vec<NodeId> {
        let given = self.sent.iter().filter(|(_, _, message)| matches!(message, Message::State { .. }));
        given.map(|(_, to, _)| *to).collect()
    }

    fn problems(&self) -> String {
        self.node
            .view(Desk::moment(self.now))
            .problems
            .iter()
            .map(|problem| problem.text.as_str())
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// The digest of the right state after the entry that was applied last.
fn right_digest(desk: &Desk) -> u64 {
    let mut right = state(true);
    for index in u64::from(FIRST) + 1..=desk.last.into() {
        let entry = Entry { at: WallTime(1), actor: "cluster".to_owned(), command: Command::Nothing };
        state::apply(&mut right, LogIndex(index), &entry, model::Bugs::NONE);
    }
    state::digest(&right)
}

/// A member that the others have found wrong.
fn wrong() -> Desk {
    let mut desk = Desk::following(&state(false));
    let right = right_digest(&desk);
    desk.greet(OTHER);
    desk.beat(LEADER, right);
    assert_eq!((desk.asked_at(), desk.problems()), (Vec::new(), String::new()), "the other one may agree with it");
    desk.beat(OTHER, right);
    desk
}

fn right_answer() -> Message {
    Message::State { snapshot: state::encode_snapshot(&state(true)) }
}

#[test]
fn who_is_wrong_asks_the_leader_less_and_less_often_and_not_for_ever() {
    let mut desk = wrong();
    assert_eq!(desk.asked_at(), [1000], "at once");
    assert_eq!(desk.facts.priority, -2, "others are to lead");
    desk.run(1_000_000);
    let asked = desk.asked_at();
    assert_eq!(asked.len(), 10, "{asked:?}");
    let pauses: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.is_sorted() && pauses[0] >= 1000 && pauses[8] <= 61_000, "{pauses:?}");
    assert!(desk.problems().contains("was asked for its state 10 times, to no avail"), "{}", desk.problems());
}

#[test]
fn the_leaders_state_is_taken_with_what_the_log_holds_beyond_it() {
    let mut desk = wrong();
    desk.append();
    desk.hear(OTHER, right_answer());
    desk.hear(LEADER, Message::State { snapshot: b"nonsense".to_vec() });
    assert_ne!(desk.facts.digest, right_digest(&desk), "one was not asked, the other one cannot be read");
    desk.hear(LEADER, right_answer());
    assert_eq!((desk.facts.digest_index.0, desk.facts.digest), (desk.last.into(), right_digest(&desk)));
    assert_eq!(desk.node.state().applied.0, desk.last.into());
    assert_eq!(desk.events.iter().filter(|(event, _)| *event == "renewed").count(), 1, "{:?}", desk.events);
    assert!(!desk.problems().is_empty(), "nobody has compared it yet");
    let right = right_digest(&desk);
    desk.beat(LEADER, right);
    assert_eq!((desk.problems(), desk.facts.priority), (String::new(), 0));
    let asked = desk.asked_at().len();
    desk.run(100_000);
    assert_eq!(desk.asked_at().len(), asked, "all is well");
}

/// The answer may be of an entry that this node has not applied yet.
#[test]
fn a_state_that_is_ahead_waits_for_the_log() {
    let mut desk = wrong();
    let mut ahead = state(true);
    let entry = Entry { at: WallTime(1), actor: "cluster".to_owned(), command: Command::Nothing };
    for index in [11, 12] {
        state::apply(&mut ahead, LogIndex(index), &entry, model::Bugs::NONE);
    }
    desk.hear(LEADER, Message::State { snapshot: state::encode_snapshot(&ahead) });
    assert_ne!(desk.facts.digest, right_digest(&desk));
    desk.append();
    assert_eq!(desk.facts.digest, right_digest(&desk));
}

#[test]
fn who_is_wrong_again_gives_up_and_says_so() {
    let mut desk = wrong();
    desk.append();
    desk.hear(LEADER, right_answer());
    let (right, asked) = (right_digest(&desk), desk.asked_at().len());
    // As if this node had applied something differently once more.
    desk.beat(LEADER, right ^ 1);
    desk.beat(OTHER, right ^ 1);
    assert!(desk.problems().contains("nothing more is tried"), "{}", desk.problems());
    desk.hear(LEADER, right_answer());
    desk.run(1_000_000);
    assert_eq!(desk.asked_at().len(), asked);
    assert_eq!(desk.events.iter().filter(|(event, _)| *event == "renewed").count(), 1);
    assert_eq!(desk.facts.priority, -2);
}

#[test]
fn three_states_in_one_life_are_enough() {
    let mut desk = wrong();
    for round in 1..=3 {
        desk.hear(LEADER, right_answer());
        let right = right_digest(&desk);
        desk.beat(LEADER, right);
        desk.beat(OTHER, right);
        assert_eq!(desk.problems(), "", "round {round}");
        // The next entry is applied differently again.
        desk.append();
        let other = right_digest(&desk) ^ 1;
        desk.beat(LEADER, other);
        desk.beat(OTHER, other);
    }
    assert_eq!(desk.events.iter().filter(|(event, _)| *event == "renewed").count(), 3);
    assert!(desk.problems().contains("nothing more is tried"), "{}", desk.problems());
    assert_eq!(desk.asked_at().len(), 3);
}

#[test]
fn the_leader_gives_its_state_to_whom_it_finds_wrong_and_to_nobody_else() {
    let mut desk = Desk::with_state(&state(true), &[9]);
    for _ in 0..200 {
        desk.now += 50;
        desk.step(Input::Tick);
    }
    assert_eq!(desk.facts.leader, Some(OWN), "the only voter leads");
    let own = desk.facts.digest;
    desk.greet(LEADER);
    desk.beat(OTHER, own ^ 1);
    desk.hear(OTHER, Message::AskState);
    assert_eq!(desk.given_to(), [], "the third one may agree with either");
    desk.beat(LEADER, own);
    desk.hear(LEADER, Message::AskState);
    desk.hear(OTHER, right_answer());
    assert_eq!(desk.given_to(), [], "who is right needs nothing, and who is wrong has nothing to give");
    let before = desk.node.state().applied;
    desk.hear(OTHER, Message::AskState);
    desk.hear(OTHER, Message::AskState);
    assert_eq!(desk.given_to(), [OTHER], "once");
    assert_eq!(desk.node.state().applied.0, before.0 + 1, "then something is agreed on, at which all compare");
    desk.now += 1000;
    desk.hear(OTHER, Message::AskState);
    assert_eq!(desk.given_to(), [OTHER, OTHER]);
    let compared = desk.facts.digest;
    desk.beat(OTHER, compared);
    desk.now += 1000;
    desk.hear(OTHER, Message::AskState);
    assert_eq!(desk.given_to(), [OTHER, OTHER], "it is right now");
}
