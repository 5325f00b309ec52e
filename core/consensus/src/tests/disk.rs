//! What is stored is read back, and what is damaged is named.

use super::cluster::{Cluster, Disk, MS, State, id};
use crate::{ConsensusError, Stored};

fn written() -> Disk {
    let mut cluster = Cluster::of(3, 1);
    cluster.propose_many(10);
    cluster.run(100 * MS);
    cluster.machine(id(2)).disk.clone()
}

fn decode(disk: &Disk) -> Result<Stored, ConsensusError> {
    Stored::decode(&disk.meta, disk.log.clone().into_iter().collect())
}

#[test]
fn every_damaged_byte_is_an_error_that_names_the_record() {
    let disk = written();
    decode(&disk).unwrap();
    for key in disk.meta.keys() {
        for position in 0..disk.meta[key].len() {
            let mut damaged = disk.clone();
            damaged.meta.get_mut(key).unwrap()[position] ^= 1;
            assert!(matches!(decode(&damaged), Err(ConsensusError::Damaged { .. })), "record {key} at {position}");
        }
    }
    let (last, bytes) = disk.log.last_key_value().unwrap();
    for position in 0..bytes.len() {
        let mut damaged = disk.clone();
        damaged.log.get_mut(last).unwrap()[position] ^= 0x80;
        let error = decode(&damaged).unwrap_err().to_string();
        assert!(error.contains(&format!("entry {last} of the log")), "{error}");
    }
}

#[test]
fn a_missing_record_or_entry_is_an_error() {
    let disk = written();
    for key in [1, 2, 3] {
        let mut damaged = disk.clone();
        damaged.meta.remove(&key);
        assert!(decode(&damaged).is_err(), "without record {key}");
    }
    let keys: Vec<u64> = disk.log.keys().copied().collect();
    for key in [keys[0], keys[keys.len() / 2]] {
        let mut damaged = disk.clone();
        damaged.log.remove(&key);
        assert!(decode(&damaged).is_err(), "without entry {key}");
    }
    assert!(matches!(decode(&Disk::default()), Err(ConsensusError::Missing { .. })));
}

#[test]
fn a_record_in_the_wrong_place_is_damaged() {
    let mut disk = written();
    let keys: Vec<u64> = disk.log.keys().copied().collect();
    let other = disk.log[&keys[0]].clone();
    disk.log.insert(keys[1], other);
    assert!(matches!(decode(&disk), Err(ConsensusError::Damaged { .. })));
}

#[test]
fn a_newer_format_is_named_as_such() {
    use std::hash::Hasher;
    let mut disk = Disk::default();
    disk.write(&crate::founding(State::default().encode(), id(1)));
    let record = disk.meta.get_mut(&2).unwrap();
    record.truncate(record.len() - 8);
    record[0] = 2;
    let mut hasher = siphasher::sip::SipHasher13::new_with_keys(2, 2);
    hasher.write(record);
    record.extend_from_slice(&hasher.finish().to_le_bytes());
    assert!(matches!(decode(&disk), Err(ConsensusError::Newer { format: 2, .. })));
}

#[test]
fn a_founder_begins_with_the_state_and_a_joiner_with_none() {
    let mut founder = Disk::default();
    founder.write(&crate::founding(b"state".to_vec(), id(1)));
    assert_eq!(founder.read().snapshot(), Some(&b"state"[..]));
    let mut joiner = Disk::default();
    joiner.write(&crate::joining());
    assert_eq!(joiner.read().snapshot(), None);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Frozen samples: what one version wrote or sent, every later one reads.
#[test]
fn the_stored_form_stays_readable() {
    let writes = crate::founding(b"state".to_vec(), id(1));
    let values: Vec<String> = writes
        .iter()
        .map(|write| match write {
            model::Write::Put { key, value, .. } => format!("{key} {}", hex(value)),
            other => panic!("{other:?}"),
        })
        .collect();
    let frozen = [
        "1 01830100015f4072f11792a203",
        "3 018201015a16bb60c29d5026",
        "2 0184010182810180457374617465be03e00aa6b6f75c",
    ];
    assert_eq!(values, frozen);
}

/// As before, for a message with everything in it.
#[test]
fn the_sent_form_stays_readable() {
    use crate::MembershipChange;
    use crate::message::{LogEntry, Membership, Message, MessageKind, Snapshot};
    use model::{LogIndex, Term};
    let change = Some(MembershipChange::Promote(id(7)));
    let message = Message {
        kind: MessageKind::Append,
        term: Term(5),
        index: LogIndex(300),
        log_term: Term(4),
        commit: LogIndex(299),
        commit_term: Term(4),
        is_rejected: true,
        reject_hint: LogIndex(2),
        priority: -1,
        is_transfer: true,
        entries: vec![
            LogEntry { term: Term(5), index: LogIndex(301), data: b"x".to_vec(), change: None },
            LogEntry { term: Term(5), index: LogIndex(302), data: Vec::new(), change },
        ],
        snapshot: Some(Snapshot {
            index: LogIndex(9),
            term: Term(1),
            membership: Membership { voters: vec![id(1), id(2)], learners: vec![id(7)] },
            data: b"state".to_vec(),
        }),
    };
    let bytes = minicbor::to_vec(&message).unwrap();
    let frozen =
        concat!("8c000519012c0419012b04f50220f582830519012d4178", "840519012e4082018107840901828201028107457374617465");
    assert_eq!(hex(&bytes), frozen);
    assert_eq!(minicbor::decode::<Message>(&bytes).unwrap(), message);
}
