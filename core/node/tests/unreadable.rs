//! Does a node keep away from a log that it cannot read?

use std::collections::BTreeMap;

use consensus::Stored;
use model::{Incarnation, Instant, NodeId, Table, WallTime, Write};
use node::{Action, Addresses, Identity, Input, Moment, Node, Settings, Start};
use wire::Message;

const LEADER: NodeId = NodeId(1);

fn moment() -> Moment {
    Moment { at: Instant::from_nanos(1_000_000_000), wall: WallTime(1_795_377_600_000) }
}

/// A node that was just admitted and knows nothing yet.
fn joining() -> Node {
    let mut meta = BTreeMap::new();
    for write in consensus::joining() {
        match write {
            Write::Put { table: Table::Meta, key, value } => _ = meta.insert(key, value),
            other => panic!("{other:?}"),
        }
    }
    let identity = Identity {
        own: NodeId(9),
        cluster: 7,
        incarnation: Incarnation(5),
        boot_id: "boot".to_owned(),
        machine_id: "machine".to_owned(),
        storage_uuid: "storage".to_owned(),
    };
    let stored = Stored::decode(&meta, Vec::new()).expect("the records of a joining node");
    let (settings, journal, first_peers, begun) = (Settings::default(), Vec::new(), Vec::new(), Instant::ZERO);
    let start = Start { identity, settings, stored, journal, first_peers, addresses: Addresses::default(), begun };
    Node::new(moment(), start).expect("a node").0
}

/// An entry of the leader with this content of less than 24 bytes, as CBOR.
fn append(data: &[u8]) -> Message {
    const NO: u8 = 0xf4;
    const NULL: u8 = 0xf6;
    let list = |length: u8| 0x80 + length;
    let length = u8::try_from(data.len()).expect("a short content");
    let mut bytes = vec![1, list(2), 0, list(1)];
    bytes.extend([list(12), 0, 2, 1, 1, 2, 0, NO, 0, 0, NO, list(1), list(4), 2, 2, 0x40 + length]);
    bytes.extend_from_slice(data);
    bytes.extend([NULL, NULL]);
    wire::decode(&bytes).expect("an Append")
}

fn is_problem(action: &Action) -> bool {
    matches!(action, Action::Event(event) if event.event == "problem")
}

#[test]
fn an_entry_that_cannot_be_read_is_not_taken_and_reported_once() {
    let mut node = joining();
    let garbage = append(b"garbage");
    let actions = node.step(moment(), Input::Message { from: LEADER, message: garbage.clone() });
    assert_eq!(actions.iter().filter(|action| is_problem(action)).count(), 1, "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::Persist { .. })), "{actions:?}");
    assert_eq!(node.view(moment()).problems.iter().filter(|problem| problem.text.contains("cannot read")).count(), 1);
    let again = node.step(moment(), Input::Message { from: LEADER, message: garbage });
    assert!(!again.iter().any(is_problem), "{again:?}");
    let empty = node.step(moment(), Input::Message { from: LEADER, message: append(b"") });
    assert!(empty.iter().any(|action| matches!(action, Action::Persist { .. })), "an entry without content: {empty:?}");
}
