//! OCF agents: small ones made for the purpose, and real ones where they are installed.

mod stage;

use std::path::Path;
use std::time::Duration;

use agents::metadata;
use model::AgentAction::{Monitor, Start, Stop};
use model::{AgentCall, AgentName, Outcome};
use stage::{Stage, eventually};

const QUICK: Duration = Duration::from_millis(100);

fn failed(outcome: Outcome) -> (String, bool) {
    match outcome {
        Outcome::Failed { reason, is_permanent } => (reason, is_permanent),
        other => panic!("{other:?} is no failure"),
    }
}

#[test]
fn an_agent_is_told_everything_by_its_environment() {
    let stage = Stage::new();
    stage.ocf("Show", "env | sort > \"$OCF_RESKEY_file\"; echo $1 >> \"$OCF_RESKEY_file\"");
    let file = stage.path("shown").display().to_string();
    assert_eq!(stage.run(stage.call("ocf:test:Show", Start, &[("file", &file)])), Outcome::Success);
    let shown = stage.file("shown");
    for line in [
        "OCF_RESOURCE_INSTANCE=thing",
        "OCF_RESOURCE_TYPE=Show",
        "OCF_RESOURCE_PROVIDER=test",
        "OCF_RA_VERSION_MAJOR=1",
        "CARDEA_OP=5.1.0",
        "OCF_RESKEY_CRM_meta_timeout=60000",
        "start",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is missing in:\n{shown}");
    }
    assert!(stage.path("run/cardea/resource-agents").is_dir());
}

#[test]
fn the_exit_status_is_the_answer() {
    let stage = Stage::new();
    stage.ocf("Exit", "echo \"ocf-exit-reason:because\" >&2; echo later; exit $OCF_RESKEY_status");
    let ask = |action, status: &str| stage.run(stage.call("ocf:test:Exit", action, &[("status", status)]));
    assert_eq!(ask(Start, "0"), Outcome::Success);
    assert_eq!(ask(Monitor, "7"), Outcome::NotRunning);
    let (reason, is_permanent) = failed(ask(Start, "5"));
    assert!(reason.contains("because") && reason.contains("not installed") && is_permanent, "{reason}");
    assert!(!failed(ask(Monitor, "1")).1);
}

#[test]
fn an_agent_that_is_not_there_or_may_not_run_is_a_permanent_failure() {
    let stage = Stage::new();
    let (reason, is_permanent) = failed(stage.run(stage.call("ocf:test:Absent", Start, &[])));
    assert!(reason.contains("resource.d/test/Absent") && is_permanent, "{reason}");
    stage.ocf("Locked", "exit 0");
    let path = stage.path("usr/lib/ocf/resource.d/test/Locked");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(failed(stage.run(stage.call("ocf:test:Locked", Start, &[]))).1);
}

#[test]
fn an_agent_that_hangs_is_ended_with_all_it_started() {
    let stage = Stage::new();
    stage.ocf(
        "Hang",
        "trap '' TERM; (setsid sh -c \"trap '' TERM; while :; do sleep 600; done\" &); while :; do sleep 600; done",
    );
    let call = AgentCall { timeout: QUICK, ..stage.call("ocf:test:Hang", Monitor, &[]) };
    assert_eq!(stage.run(call), Outcome::TimedOut);
    assert!(stage.processes().is_empty());
}

#[test]
fn an_agent_that_obeys_when_its_time_is_up_is_not_killed() {
    let stage = Stage::with(|config| config.polite = stage::PATIENCE);
    let note = stage.path("note").display().to_string();
    stage.ocf("Obey", "trap 'echo yes > $OCF_RESKEY_note; exit 1' TERM; while :; do sleep 0.01; done");
    let call = AgentCall { timeout: QUICK, ..stage.call("ocf:test:Obey", Start, &[("note", &note)]) };
    assert_eq!(stage.run(call), Outcome::TimedOut);
    assert_eq!(stage.file("note"), "yes");
}

#[test]
fn what_a_start_leaves_running_is_not_touched() {
    let stage = Stage::new();
    stage.ocf("Daemon", "if [ $1 = start ]; then setsid sleep 600 & fi; exit 0");
    assert_eq!(stage.run(stage.call("ocf:test:Daemon", Start, &[])), Outcome::Success);
    eventually(|| stage.processes().len() == 1);
    let call = AgentCall { timeout: QUICK, ..stage.call("ocf:test:Daemon", Monitor, &[]) };
    assert_eq!(stage.run(call), Outcome::Success);
    assert_eq!(stage.processes().len(), 1);
}

#[test]
fn an_agent_that_floods_its_output_fills_no_disk() {
    let stage = Stage::new();
    stage.ocf("Flood", "head -c 100000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1");
    let (reason, _) = failed(stage.run(stage.call("ocf:test:Flood", Start, &[])));
    assert!(reason.contains("the end"), "{}", &reason[..reason.len().min(400)]);
    assert!(stage.path("var/log/cardea/thing.log").metadata().unwrap().len() <= 1024 * 1024);
}

#[test]
fn the_next_worker_waits_for_the_agent_instead_of_running_it_twice() {
    let stage = Stage::new();
    let (count, go) = (stage.path("count").display().to_string(), stage.path("go").display().to_string());
    stage.ocf(
        "Slow",
        "[ $1 = monitor ] && exit 0; echo $1 >> $OCF_RESKEY_count; while [ ! -e $OCF_RESKEY_go ]; do sleep 0.01; done; exit 0",
    );
    let start = stage.call("ocf:test:Slow", Start, &[("count", &count), ("go", &go)]);
    stage.agents.begin(start.clone());
    stage.file("count");
    // The first worker's thread goes on waiting in this test; the second finds the same process by its mark.
    let second = stage.beside();
    second.agents.begin(AgentCall { is_adoption: true, ..start.clone() });
    std::fs::write(&go, "").unwrap();
    assert_eq!(second.done(start.key), Outcome::Success);
    assert_eq!(stage.file("count"), "start", "it ran once");
}

#[test]
fn an_adopted_call_without_its_agent_is_answered_by_a_monitor() {
    let stage = Stage::new();
    stage.ocf("Gone", "echo $1 >> $OCF_RESKEY_count; [ $1 = monitor ] && exit 7; exit 0");
    let count = stage.path("count").display().to_string();
    let call = AgentCall { is_adoption: true, ..stage.call("ocf:test:Gone", Start, &[("count", &count)]) };
    assert_eq!(stage.run(call), Outcome::NotRunning);
    assert_eq!(stage.file("count"), "monitor");
}

#[test]
fn an_agent_that_describes_itself_in_garbage_is_an_error() {
    let stage = Stage::new();
    let named = |name: &str| AgentName::Ocf { provider: "test".to_owned(), name: name.to_owned() };
    stage.ocf("Garbage", "head -c 1000 /dev/urandom");
    assert!(metadata(stage.folder.path(), &named("Garbage")).unwrap_err().to_string().contains("ocf:test:Garbage"));
    stage.ocf("Fails", "echo sorry >&2; exit 1");
    assert!(metadata(stage.folder.path(), &named("Fails")).unwrap_err().to_string().contains("sorry"));
    assert!(metadata(stage.folder.path(), &named("Absent")).is_err());
}

#[test]
fn the_real_dummy_lives_a_whole_life() {
    if !Path::new("/usr/lib/ocf/resource.d/heartbeat/Dummy").is_file() {
        return stage::skip("the_real_dummy_lives_a_whole_life", "resource-agents is not installed");
    }
    let stage = Stage::new();
    let ask = |action| stage.run(stage.call("ocf:heartbeat:Dummy", action, &[]));
    assert_eq!(ask(Monitor), Outcome::NotRunning);
    assert_eq!(ask(Start), Outcome::Success);
    assert_eq!(ask(Monitor), Outcome::Success);
    assert_eq!(ask(Stop), Outcome::Success);
    assert_eq!(ask(Monitor), Outcome::NotRunning);
    let dummy = AgentName::Ocf { provider: "heartbeat".to_owned(), name: "Dummy".to_owned() };
    let described = metadata(Path::new("/"), &dummy).unwrap();
    assert!(described.parameters.iter().any(|parameter| parameter.name == "state"));
    assert!(described.operations.iter().any(|operation| operation.name == "start" && operation.timeout.is_some()));
}

#[test]
fn the_real_ipaddr2_describes_itself_and_checks_its_parameters() {
    if !Path::new("/usr/lib/ocf/resource.d/heartbeat/IPaddr2").is_file() {
        return stage::skip("the_real_ipaddr2_describes_itself", "resource-agents is not installed");
    }
    let agent = AgentName::Ocf { provider: "heartbeat".to_owned(), name: "IPaddr2".to_owned() };
    let described = metadata(Path::new("/"), &agent).unwrap();
    assert!(described.parameters.iter().any(|parameter| parameter.name == "ip" && parameter.is_required));
    let stage = Stage::new();
    let (_, is_permanent) = failed(stage.run(stage.call("ocf:heartbeat:IPaddr2", Start, &[("ip", "no address")])));
    assert!(is_permanent);
}
