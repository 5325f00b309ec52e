//! Fence agents, made for the purpose.

mod stage;

use std::collections::BTreeMap;
use std::time::Duration;

use agents::fence_metadata;
use model::FenceAction::{Off, On, Status};
use model::{FenceOutcome, FenceStatus, ParameterValue};
use stage::{PATIENCE, Stage};

fn failed(outcome: FenceOutcome) -> String {
    match outcome {
        FenceOutcome::Failed { reason } => reason,
        other => panic!("{other:?} is no failure"),
    }
}

#[test]
fn an_agent_reads_what_it_is_asked_on_its_input_alone() {
    let stage = Stage::new();
    let seen = stage.path("seen");
    stage.fence_agent("fence_show", &format!("(cat; echo \"args:$*\"; env) > {}", seen.display()));
    let secret = stage.path("secret");
    stage::write_secret(&secret, "hunter2\n");
    let parameters = BTreeMap::from([
        ("ip".to_owned(), ParameterValue::Text("10.0.0.1".to_owned())),
        ("password".to_owned(), ParameterValue::File { file: secret.display().to_string() }),
        ("action".to_owned(), ParameterValue::Text("reboot".to_owned())),
    ]);
    assert_eq!(stage.fence_with("fence_show", Off, PATIENCE, parameters), FenceOutcome::Done);
    let seen = std::fs::read_to_string(seen).unwrap();
    let (input, rest) = seen.split_once("args:").unwrap();
    for line in ["action=off", "port=7", "plug=7", "nodename=b", "ip=10.0.0.1", "password=hunter2"] {
        assert!(input.lines().any(|seen| seen == line), "{line} is missing in:\n{input}");
    }
    assert!(!input.contains("reboot"), "never anything but what was asked");
    assert!(!rest.contains("hunter2"), "neither on the command line nor in the environment");
}

#[test]
fn status_is_on_or_off_and_never_a_guess() {
    let stage = Stage::new();
    for (status, expected) in [("0", FenceStatus::On), ("2", FenceStatus::Off)] {
        stage.fence_agent("fence_status", &format!("exit {status}"));
        assert_eq!(stage.fence("fence_status", Status, PATIENCE), FenceOutcome::Status(expected));
    }
    stage.fence_agent("fence_status", "echo 'no route to device' >&2; exit 1");
    assert!(failed(stage.fence("fence_status", Status, PATIENCE)).contains("no route to device"));
    stage.fence_agent("fence_status", "kill -9 $$");
    assert!(failed(stage.fence("fence_status", Status, PATIENCE)).contains("SIGKILL"));
    stage.fence_agent("fence_status", "exit 2");
    failed(stage.fence("fence_status", Off, PATIENCE));
    failed(stage.fence("fence_status", On, PATIENCE));
}

#[test]
fn an_agent_whose_time_is_up_is_killed_with_all_it_started() {
    let stage = Stage::new();
    stage.fence_agent("fence_hang", "trap '' TERM; (setsid sleep 600 &); while :; do sleep 600; done");
    let reason = failed(stage.fence("fence_hang", Off, Duration::from_millis(100)));
    assert!(reason.contains("100ms"), "{reason}");
    assert!(stage.processes().is_empty(), "no late call can hit a node that is back");
}

#[test]
fn an_agent_that_prints_without_end_is_killed() {
    let stage = Stage::new();
    stage.fence_agent("fence_flood", "cat /dev/zero");
    assert!(failed(stage.fence("fence_flood", Off, PATIENCE)).contains("without end"));
    assert!(stage.processes().is_empty());
}

#[test]
fn an_agent_that_is_not_there_is_named() {
    let stage = Stage::new();
    for (agent, word) in [
        ("fence_absent", "/usr/sbin/fence_absent"),
        ("/nowhere/fence", "/nowhere/fence"),
        ("../sh", "../sh"),
        ("", "``"),
    ] {
        let reason = failed(stage.fence(agent, Off, PATIENCE));
        assert!(reason.contains(word), "{reason}");
    }
    stage.fence_agent("fence_locked", "exit 0");
    let path = stage.path("usr/sbin/fence_locked");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(failed(stage.fence("fence_locked", Off, PATIENCE)).contains("may not be run"));
}

#[test]
fn a_parameter_cannot_smuggle_in_another_action() {
    let stage = Stage::new();
    stage.fence_agent("fence_any", "exit 0");
    let parameters = stage::texts(&[("ip", "10.0.0.1\naction=reboot")]);
    assert!(failed(stage.fence_with("fence_any", Off, PATIENCE, parameters)).contains("more than one line"));
    let parameters = BTreeMap::from([("x".to_owned(), ParameterValue::File { file: "/nowhere/x".to_owned() })]);
    assert!(failed(stage.fence_with("fence_any", Off, PATIENCE, parameters)).contains("/nowhere/x"));
}

#[test]
fn a_fence_agent_describes_itself() {
    let stage = Stage::new();
    stage.fence_agent(
        "fence_plain",
        "read line; [ \"$line\" = action=metadata ] || exit 1
        echo '<?xml version=\"1.0\" ?><resource-agent name=\"fence_plain\" shortdesc=\"Plain\">
        <parameters><parameter name=\"ip\" required=\"1\"/></parameters></resource-agent>'",
    );
    let described = fence_metadata(stage.folder.path(), "fence_plain").unwrap();
    assert_eq!(described.short, "Plain");
    assert!(described.parameters[0].is_required);
}
