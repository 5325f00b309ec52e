//! OCF agents: small ones made for the purpose, and real ones where they are installed.

mod stage;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use agents::metadata;
use model::AgentAction::{Monitor, Start, Stop};
use model::{AgentCall, AgentName, Outcome, ParameterValue};
use stage::{Stage, eventually};

const QUICK: Duration = Duration::from_millis(100);

fn failed(outcome: Outcome) -> (String, bool) {
    match outcome {
        Outcome::Failed { reason, is_permanent } => (reason, is_permanent),
        other => panic!("{other:?} is no failure"),
    }
}

fn not_begun(outcome: Outcome) -> String {
    match outcome {
        Outcome::NotBegun { reason } => reason,
        other => panic!("{other:?} did begin"),
    }
}

fn unknown(outcome: Outcome) -> (String, bool) {
    match outcome {
        Outcome::Unknown { reason, is_permanent } => (reason, is_permanent),
        other => panic!("{other:?} says too much"),
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
    let reason = not_begun(ask(Start, "5"));
    assert!(reason.contains("because") && reason.contains("not installed"), "{reason}");
    assert!(unknown(ask(Monitor, "5")).1, "an agent that cannot look has not seen that it does not run");
    assert!(!failed(ask(Monitor, "1")).1);
}

#[test]
fn an_agent_that_is_not_there_or_may_not_run_begins_nothing_and_proves_nothing() {
    let stage = Stage::new();
    stage.ocf("Locked", "exit 0");
    stage.ocf("Loose", "exit 0");
    for (name, mode) in [("Locked", 0o644), ("Loose", 0o757)] {
        let path = stage.path("usr/lib/ocf/resource.d/test").join(name);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    for name in ["Absent", "Locked", "Loose"] {
        let agent = format!("ocf:test:{name}");
        let reason = not_begun(stage.run(stage.call(&agent, Start, &[])));
        assert!(reason.contains(name), "{reason}");
        assert!(unknown(stage.run(stage.call(&agent, Monitor, &[]))).1);
        let running = AgentCall { started_by: Some(model::CallKey::default()), ..stage.call(&agent, Monitor, &[]) };
        assert!(!unknown(stage.run(running)).1, "what runs is not taken down by an agent that is being replaced");
        not_begun(stage.run(stage.call(&agent, Stop, &[])));
    }
    let mut elsewhere = stage.call("ocf:test:Absent", Start, &[]);
    elsewhere.agent = AgentName::Ocf { provider: "..".to_owned(), name: "../../bin/true".to_owned() };
    assert!(not_begun(stage.run(elsewhere)).contains("no name of an agent"));
}

#[test]
fn a_start_that_left_something_behind_has_begun() {
    let stage = Stage::new();
    stage.ocf("Half", "[ $1 = start ] && { setsid sleep 600 & exit 6; }; exit 6");
    let (reason, is_permanent) = failed(stage.run(stage.call("ocf:test:Half", Start, &[])));
    assert!(reason.contains("there are processes of it") && is_permanent, "{reason}");
    stage.ocf("Runs", "[ $1 = monitor ] && exit 0; exit 6");
    failed(stage.run(stage.call("ocf:test:Runs", Start, &[])));
}

#[test]
fn a_stop_ends_what_its_agent_forgot() {
    let stage = Stage::new();
    stage.ocf("Forgets", "[ $1 = start ] && { setsid sleep 600 & }; exit 0");
    assert_eq!(stage.run(stage.call("ocf:test:Forgets", Start, &[])), Outcome::Success);
    eventually(|| stage.processes().len() == 1);
    assert_eq!(stage.run(stage.call("ocf:test:Forgets", Stop, &[])), Outcome::Success);
    assert!(stage.processes().is_empty());
}

#[test]
fn a_stop_that_fails_where_nothing_runs_has_nothing_to_stop() {
    let stage = Stage::new();
    stage.ocf("Lost", "[ $1 = monitor ] && exit 7; exit 6");
    assert_eq!(stage.run(stage.call("ocf:test:Lost", Stop, &[])), Outcome::Success);
}

/// Whether it runs is for those to say who know what was there before.
#[test]
fn a_stop_of_which_the_agent_can_say_nothing_has_not_begun() {
    let stage = Stage::new();
    stage.ocf("Blind", "exit 6");
    let stop = stage.call("ocf:test:Blind", Stop, &[]);
    not_begun(stage.run(AgentCall { started_by: Some(model::CallKey::default()), ..stop.clone() }));
    not_begun(stage.run(stop));
    for (name, script) in [
        ("Runs", "[ $1 = monitor ] && exit 0; exit 6"),
        ("Ails", "[ $1 = monitor ] && exit 1; exit 6"),
        ("Fails", "[ $1 = stop ] && exit 1; exit 6"),
    ] {
        stage.ocf(name, script);
        failed(stage.run(stage.call(&format!("ocf:test:{name}"), Stop, &[])));
    }
    stage.ocf("Half", "[ $1 = start ] && { setsid sleep 600 & exit 0; }; exit 6");
    assert_eq!(stage.run(stage.call("ocf:test:Half", Start, &[])), Outcome::Success);
    eventually(|| stage.processes().len() == 1);
    let (reason, _) = failed(stage.run(stage.call("ocf:test:Half", Stop, &[])));
    assert!(reason.contains("there are processes of it"), "{reason}");
}

/// Agents refuse to make a folder for their program that does not begin with this, word by word.
#[test]
fn the_programs_of_agents_keep_their_files_where_they_always_do() {
    let stage = Stage::new();
    stage.ocf("Where", "[ \"$HA_VARRUN\" = /var/run ] && [ \"$HA_RSCTMP\" != /var/run ]");
    assert_eq!(stage.run(stage.call("ocf:test:Where", Start, &[])), Outcome::Success);
}

#[test]
fn a_secret_that_vanishes_takes_nothing_down() {
    let stage = Stage::new();
    stage.ocf("Secret", "echo $1 $OCF_RESKEY_password >> \"$OCF_RESKEY_note\"; exit 0");
    let (note, file) = (stage.path("note").display().to_string(), stage.path("secret"));
    let with_secret = |action| {
        let mut call = stage.call("ocf:test:Secret", action, &[("note", &note)]);
        call.parameters.insert("password".to_owned(), ParameterValue::File { file: file.display().to_string() });
        call
    };
    let reason = not_begun(stage.run(with_secret(Start)));
    assert!(reason.contains("secret"), "{reason}");
    assert!(unknown(stage.run(with_secret(Monitor))).1);
    std::fs::write(&file, "s3cret\n").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let reason = not_begun(stage.run(with_secret(Start)));
    assert!(reason.contains("chmod o-rwx"), "everybody could read it: {reason}");
    stage::write_secret(&file, "s3cret\n");
    let start = with_secret(Start);
    assert_eq!(stage.run(start.clone()), Outcome::Success);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let check = AgentCall { started_by: Some(start.key), ..with_secret(Monitor) };
    assert_eq!(stage.run(check), Outcome::Success, "what runs is not taken down for that");
    std::fs::remove_file(&file).unwrap();
    let check = AgentCall { started_by: Some(start.key), ..with_secret(Monitor) };
    assert_eq!(stage.run(check), Outcome::Success);
    let next = stage.beside();
    let mut stop = with_secret(Stop);
    stop.started_by = Some(start.key);
    assert_eq!(next.run(stop), Outcome::Success, "the next worker knows it as well");
    assert_eq!(std::fs::read_to_string(&note).unwrap(), "start s3cret\nmonitor s3cret\nmonitor s3cret\nstop s3cret\n");
    // Nothing is kept any more: the stop runs without it rather than not at all.
    assert_eq!(stage.run(with_secret(Stop)), Outcome::Success);
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
    not_begun(stage.run(stage.call("ocf:heartbeat:IPaddr2", Start, &[("ip", "no address")])));
}
