//! Scripts and older clients read these words: they stay.

use api::{Event, EventKind, Refused, RefusedCode, Reply, Request, Status};
use serde_json::{from_value, json, to_value};

#[test]
fn requests_keep_their_words() {
    let reason = || "why".to_owned();
    let requests = [
        (
            Request::Apply { text: "x".to_owned(), expected_version: Some(3), reason: reason(), force: false },
            json!({ "apply": { "text": "x", "expected_version": 3, "reason": "why" } }),
        ),
        (
            Request::Rollback { to: 3, expected_version: None, reason: reason() },
            json!({ "rollback": { "to": 3, "reason": "why" } }),
        ),
        (
            Request::Rollback { to: 3, expected_version: Some(5), reason: reason() },
            json!({ "rollback": { "to": 3, "expected_version": 5, "reason": "why" } }),
        ),
        (
            Request::Move { unit: "web".to_owned(), to: None, reason: reason() },
            json!({ "move": { "unit": "web", "to": null, "reason": "why" } }),
        ),
        (
            Request::Standby { node: "a".to_owned(), on: true, reason: reason() },
            json!({ "standby": { "node": "a", "on": true, "reason": "why" } }),
        ),
        (
            Request::Maintenance { node: None, on: false, reason: reason() },
            json!({ "maintenance": { "node": null, "on": false, "reason": "why" } }),
        ),
        (
            Request::Start { unit: "web".to_owned(), reason: reason() },
            json!({ "start": { "unit": "web", "reason": "why" } }),
        ),
        (
            Request::Stop { unit: "web".to_owned(), reason: reason() },
            json!({ "stop": { "unit": "web", "reason": "why" } }),
        ),
        (
            Request::Clear { name: None, node: None, reason: reason() },
            json!({ "clear": { "name": null, "node": null, "reason": "why" } }),
        ),
        (
            Request::Fence { node: "a".to_owned(), reason: reason() },
            json!({ "fence": { "node": "a", "reason": "why" } }),
        ),
        (
            Request::ConfirmOff { node: "a".to_owned(), typed: "a".to_owned(), reason: reason() },
            json!({ "confirm-off": { "node": "a", "typed": "a", "reason": "why" } }),
        ),
        (Request::FenceTest { node: None }, json!({ "fence-test": { "node": null } })),
        (Request::Lead { node: "a".to_owned() }, json!({ "lead": { "node": "a" } })),
        (
            Request::CreateToken { witness: false, name: None, seconds: 900 },
            json!({ "create-token": { "witness": false, "name": null, "seconds": 900 } }),
        ),
        (Request::ShutDown { all: true, reason: reason() }, json!({ "shut-down": { "all": true, "reason": "why" } })),
        (
            Request::Remove { node: "a".to_owned(), reason: reason() },
            json!({ "remove": { "node": "a", "reason": "why" } }),
        ),
    ];
    for (request, expected) in requests {
        assert_eq!(to_value(&request).expect("plain data"), expected);
        assert_eq!(from_value::<Request>(expected).expect("a request"), request);
    }
}

#[test]
fn events_keep_their_words() {
    let event = Event {
        number: 7,
        at_us: 1,
        wall_ms: 2,
        node: "a".to_owned(),
        event: EventKind::FenceCalled,
        subject: "b".to_owned(),
        reason: "why".to_owned(),
        problem: None,
    };
    let expected = json!({ "number": 7, "at_us": 1, "wall_ms": 2, "node": "a", "event": "fence-called", "subject": "b",
        "reason": "why" });
    assert_eq!(to_value(event).expect("plain data"), expected);
    let words = [
        (EventKind::LinkDown, "link-down"),
        (EventKind::OpBegun, "op-begun"),
        (EventKind::OpDone, "op-done"),
        (EventKind::StandbyOff, "standby-off"),
        (EventKind::StopFailed, "stop-failed"),
        (EventKind::Granted, "granted"),
    ];
    for (kind, word) in words {
        assert_eq!(to_value(kind).expect("plain data"), word);
    }
}

#[test]
fn refusals_have_a_code_and_the_next_step() {
    let refused = Refused::new(RefusedCode::NotQuorate, "no majority", "ask elsewhere");
    let expected = json!({ "version": 1, "code": "not-quorate", "message": "no majority", "next": "ask elsewhere" });
    assert_eq!(to_value(&refused).expect("plain data"), expected);
    assert_eq!(refused.to_string(), "no majority\n  ask elsewhere");
}

/// A client meets a daemon of a later version during an upgrade, and one of an earlier version that sends less.
#[test]
fn answers_of_other_versions_are_understood() {
    let later = json!({ "version": 1, "index": 5, "message": "done", "new": { "deep": [1] } });
    let reply: Reply = from_value(later).expect("what is new is skipped, what is missing is empty");
    assert_eq!((reply.index, reply.token, reply.fence_tests.len()), (5, None, 0));
    let mut status = to_value(Status::default()).expect("plain data");
    status["new"] = json!(true);
    status["faults"] = json!([{ "kind": "of-tomorrow", "severity": "warning", "subject": "a", "since": "", "text": "x",
        "seen_by": [] }]);
    let later = from_value::<Status>(status.clone()).expect("a status");
    assert_eq!(to_value(later.faults[0].kind).expect("plain data"), "other");
    status["faults"] = json!([]);
    assert_eq!(from_value::<Status>(status).expect("a status"), Status::default());
}
