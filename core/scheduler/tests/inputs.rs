//! Does the scheduler decide right in clusters that people had trouble with?
//!
//! Each CIB of `tests/inputs` is a small cluster rebuilt from a public report, and decides as Pacemaker does.

#![expect(clippy::disallowed_methods, reason = "the inputs are files")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use scheduler::{Judgement, judge};

/// The input, and everything that is done there, checks that are repeated left out.
const RIGHT: [(&str, &[&str]); 46] = [
    (
        "bundle-hard-error",
        &[
            "probe web-0 on b",
            "probe web-podman-0 on b",
            "start p on web-0",
            "start web-0 on a",
            "start web-podman-0 on a",
            "stop p on web-0",
            "stop web-0 on a",
            "stop web-podman-0 on a",
        ],
    ),
    ("bundle-without-network", &[]),
    ("clone-allow-migrate", &["migrate_from vm on b", "migrate_to vm on a", "stop vm on a"]),
    ("clone-order-hard-error", &["stop p on a"]),
    ("clone-order-threshold", &["stop p on a"]),
    ("crm-config-default-managed", &[]),
    ("crm-config-default-overruled", &["start db on b", "stop db on a"]),
    ("crm-config-default-stickiness", &[]),
    ("crm-config-old-names", &["stop db on a"]),
    ("group-member-maintenance", &[]),
    ("group-unmanaged-failed", &[]),
    ("group-unmanaged-shutdown", &[]),
    ("group-unmanaged-standby", &[]),
    ("guest-host-not-probed", &["probe vm on r1", "start g1 on b", "start vm on b", "stop g1 on a", "stop vm on a"]),
    ("is-managed-typo", &[]),
    ("isolation-of-old", &["stop db on a"]),
    ("lifetime-over", &["start db on a"]),
    (
        "live-migration-beside",
        &["migrate_from vm on b", "migrate_to vm on a", "start app on b", "stop app on a", "stop vm on a"],
    ),
    ("live-migration-dependents", &["migrate_from vm on b", "migrate_to vm on a", "stop vm on a"]),
    ("live-migration-same-node", &["migrate_from vm on b", "migrate_to vm on a", "stop vm on a"]),
    ("location-two-rules", &["start db on c"]),
    ("location-two-rules-ban", &["start db on b", "stop db on a"]),
    ("msg-knapsack", &["start medium on n2", "start small on n1"]),
    ("msg-no-status", &[]),
    ("msg-nothing-but-stopped", &[]),
    ("msg-onfail-block", &[]),
    ("msg-role-failback", &["demote drbd on b", "promote drbd on a", "start fs on a", "stop fs on b"]),
    ("msg-role-fence-peer", &["demote drbd on b", "stop drbd on b", "stop fs on b"]),
    ("multi-active-migrate", &["start vm on b", "stop vm on a", "stop vm on b"]),
    ("noquorum-demote-dependent", &["demote db on a", "stop vip on a"]),
    ("noquorum-demote-promoted", &["demote db on a"]),
    ("noquorum-demote-stopped", &[]),
    ("noquorum-demote-unpromoted", &[]),
    ("op-requires-nothing", &["probe fence-a on a", "start fence-a on a"]),
    ("op-requires-overruled", &[]),
    ("order-stop-then-start", &["start sby on a"]),
    ("order-stop-then-stop", &["start sby on a"]),
    ("pending-start-not-probed", &["probe slow on a", "start slow on a"]),
    ("ticket-fence-no-fencing", &["stop web on a"]),
    ("ticket-fence-node-maintenance", &["reboot a"]),
    ("ticket-fence-unmanaged", &["reboot a"]),
    ("ticket-freeze-managed-shutdown", &[]),
    ("ticket-freeze-shutdown", &[]),
    ("unique-clone-leftover", &["delete p:2 on a", "stop p:2 on a"]),
    ("unique-clone-without-number", &["delete p on a", "stop p on a"]),
    ("unmanaged-stopped-expired", &[]),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inputs")
}

fn judged(name: &str) -> Judgement {
    let path = folder().join(format!("{name}.xml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cib = import::cib(&text, import::Time::Recorded { otherwise: 1_795_000_000 });
    judge(&cib.unwrap_or_else(|error| panic!("{name}: {error}")).situation)
}

#[test]
fn every_input_is_decided_right() {
    let mut wrong = Vec::new();
    for (name, right) in RIGHT {
        let judgement = judged(name);
        let is_repeated = |action: &str| matches!(action, "monitor" | "cancel" | "notify");
        let done = judgement.actions.iter().filter(|done| !is_repeated(done.action));
        // What fencing is called in sentences is no matter here.
        let words = done.map(|done| match done.op {
            Some(op) => format!("{op} {}", done.node),
            None => done.to_string(),
        });
        let mut words: Vec<String> = words.collect();
        words.sort();
        if words != right {
            wrong.push(format!("{name}: {words:?} instead of {right:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_input_is_in_the_list() {
    let files = std::fs::read_dir(folder()).expect("the folder of inputs");
    let files: BTreeSet<String> = files
        .filter_map(|file| Some(file.expect("an entry").path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    assert_eq!(files, RIGHT.iter().map(|(name, _)| (*name).to_owned()).collect());
}

/// Nobody knows which of two copies is sound: both stop before one starts.
#[test]
fn two_copies_are_stopped_before_one_starts() {
    let judgement = judged("multi-active-migrate");
    let place = |words: &str| judgement.actions.iter().position(|done| done.to_string() == words).expect(words);
    let start = place("start vm on b");
    for stop in ["stop vm on a", "stop vm on b"] {
        assert!(judgement.order.contains(&(place(stop), start)), "{stop}: {:?}", judgement.order);
    }
}
