//! `cardea:process` with real programs.

mod cgroups;
mod stage;

use std::net::TcpListener;
use std::time::Duration;

use agents::AgentEvent;
use host::process::{Process, Signal};
use model::AgentAction::{Monitor, Start, Stop};
use model::{AgentCall, Outcome, ParameterValue};
use stage::{PATIENCE, Stage, eventually, shell};

const FOREVER: &str = "while :; do sleep 600; done";

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

/// Starts this script as a service; returns the call that did it.
fn start(stage: &Stage, script: &str) -> AgentCall {
    let call = stage.call("cardea:process", Start, &[("command", &shell(script))]);
    assert_eq!(stage.run(call.clone()), Outcome::Success);
    call
}

fn later(stage: &Stage, action: model::AgentAction, started: &AgentCall) -> AgentCall {
    AgentCall {
        parameters: started.parameters.clone(),
        started_by: Some(started.key),
        ..stage.call("cardea:process", action, &[])
    }
}

#[test]
fn a_service_is_started_checked_and_stopped() {
    let stage = Stage::new();
    let started = start(&stage, FOREVER);
    assert_eq!(stage.run(later(&stage, Monitor, &started)), Outcome::Success);
    assert_eq!(stage.run(later(&stage, Stop, &started)), Outcome::Success);
    assert!(stage.processes().is_empty());
    assert_eq!(stage.run(later(&stage, Monitor, &started)), Outcome::NotRunning);
    assert_eq!(stage.run(later(&stage, Stop, &started)), Outcome::Success, "what does not run is stopped");
    assert!(stage.no_event(), "what we end ourselves is no news");
}

#[test]
fn a_service_is_started_once_however_often_it_is_asked_for() {
    let stage = Stage::new();
    start(&stage, "echo x >> starts; while :; do sleep 600; done");
    let script = shell("echo x >> starts; while :; do sleep 600; done");
    for _ in 0..3 {
        assert_eq!(stage.run(stage.call("cardea:process", Start, &[("command", &script)])), Outcome::Success);
    }
    assert_eq!(stage.processes().len(), 2, "the shell and its sleep");
}

#[test]
fn the_death_of_a_service_is_told_at_once() {
    let stage = Stage::new();
    let started = start(&stage, &format!("echo $$ > {}; {FOREVER}", stage.path("pid").display()));
    let pid = stage.file("pid").parse().unwrap();
    Process::open(pid).unwrap().signal(Signal::KILL).unwrap();
    let AgentEvent::Exited { key, how } = stage.event() else { panic!("its end is told first") };
    assert_eq!(key, started.key);
    assert!(how.contains("SIGKILL"), "{how}");
    let (reason, _) = failed(stage.run(later(&stage, Monitor, &started)));
    assert!(reason.contains("sleep"), "what is left of it is named: {reason}");
    assert_eq!(stage.run(later(&stage, Stop, &started)), Outcome::Success);
    assert!(stage.processes().is_empty());
}

#[test]
fn a_service_that_ends_at_once_says_why() {
    let stage = Stage::new();
    let script = shell("echo first; echo 'no such file: x.conf' >&2; exit 3");
    let (reason, is_permanent) = failed(stage.run(stage.call("cardea:process", Start, &[("command", &script)])));
    assert!(reason.contains("status 3") && reason.contains("no such file: x.conf"), "{reason}");
    assert!(!is_permanent);
}

#[test]
fn what_cannot_be_run_is_said_and_not_tried_again() {
    let stage = Stage::new();
    for (command, word) in [("[\"/nowhere/at/all\"]", "/nowhere/at/all"), ("[\"/etc/passwd\"]", "/etc/passwd")] {
        let call = stage.call("cardea:process", Start, &[("command", command)]);
        let reason = not_begun(stage.run(call));
        assert!(reason.contains(word), "{reason}");
    }
    let reason = not_begun(stage.run(stage.call("cardea:nothing", Start, &[])));
    assert!(reason.contains("cardea:nothing"), "{reason}");
}

#[test]
fn a_directory_that_vanished_is_named() {
    let stage = Stage::new();
    let gone = stage.path("gone").display().to_string();
    let parameters = [("command", "[\"/bin/true\"]"), ("directory", gone.as_str())];
    let (reason, is_permanent) = failed(stage.run(stage.call("cardea:process", Start, &parameters)));
    assert!(reason.contains(&gone) && !is_permanent, "{reason}");
}

#[test]
fn a_missing_parameter_file_is_named_and_does_not_hinder_a_stop() {
    let stage = Stage::new();
    let mut call = stage.call("cardea:process", Start, &[]);
    call.parameters.insert("command".to_owned(), ParameterValue::File { file: "/nowhere/command".to_owned() });
    let reason = not_begun(stage.run(call.clone()));
    assert!(reason.contains("/nowhere/command"), "{reason}");
    let probe = AgentCall { started_by: None, ..later(&stage, Monitor, &call) };
    assert_eq!(stage.run(probe), Outcome::NotRunning, "no process of it is proof enough");
    assert_eq!(stage.run(later(&stage, Stop, &call)), Outcome::Success);
}

#[test]
fn a_start_waits_until_the_service_answers() {
    let stage = Stage::new();
    // The test itself answers in place of the service, once the service has begun.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let parameters = [("command", &*shell(FOREVER)), ("tcp", &address)];
    let call = stage.call("cardea:process", Start, &parameters);
    assert_eq!(stage.run(call.clone()), Outcome::Success);
    drop(listener);
    let (reason, _) = failed(stage.run(later(&stage, Monitor, &call)));
    assert!(reason.contains(&address), "{reason}");
}

#[test]
fn a_service_that_never_answers_is_ended() {
    let stage = Stage::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let parameters = [("command", &*shell(FOREVER)), ("tcp", &address)];
    let call = AgentCall { timeout: Duration::from_millis(100), ..stage.call("cardea:process", Start, &parameters) };
    let (reason, _) = failed(stage.run(call));
    assert!(reason.contains("not ready") && reason.contains(&address), "{reason}");
    assert!(stage.processes().is_empty());
}

#[test]
fn a_stop_ends_what_ignores_it_and_what_left_its_session() {
    let stage = Stage::new();
    let ready = stage.path("ready").display().to_string();
    let script = format!(
        "trap '' TERM
        (trap '' TERM; setsid sh -c \"trap '' TERM; while :; do sleep 600; done\") &
        env -i sh -c \"trap '' TERM; while :; do /bin/sleep 600; done\" &
        echo yes > {ready}; while :; do sleep 600; done"
    );
    let started = start(&stage, &script);
    stage.file("ready");
    let stop = AgentCall { timeout: Duration::from_millis(200), ..later(&stage, Stop, &started) };
    let everything = || {
        let pid = std::fs::read_to_string(stage.path("run/cardea/services/thing")).unwrap();
        let leader: u32 = pid.split(' ').next().unwrap().parse().unwrap();
        (leader, stage.processes().len())
    };
    let (leader, count) = everything();
    assert!(count > 1);
    assert_eq!(stage.run(stop), Outcome::Success);
    assert!(stage.processes().is_empty());
    let marks = host::process::Marks { session: Some((leader, host::process::StartTime(0))), ..Default::default() };
    assert!(host::process::find_marked(&marks).unwrap().is_empty());
}

#[test]
fn the_next_worker_finds_the_service_and_hears_of_its_death() {
    let stage = Stage::new();
    let started = start(&stage, FOREVER);
    let stage = stage.next_worker();
    assert_eq!(stage.run(later(&stage, Monitor, &started)), Outcome::Success);
    let before = stage.processes().len();
    assert_eq!(stage.run(AgentCall { is_adoption: true, ..started.clone() }), Outcome::Success);
    assert_eq!(stage.processes().len(), before, "an adopted start starts nothing");
    for process in stage.processes() {
        process.signal(Signal::KILL).unwrap();
    }
    let AgentEvent::Exited { key, .. } = stage.event() else { panic!("its end is told") };
    assert_eq!(key, started.key);
}

#[test]
fn a_service_is_found_although_the_worker_died_before_writing_it_down() {
    let stage = Stage::new();
    let started = start(&stage, FOREVER);
    std::fs::remove_file(stage.path("run/cardea/services/thing")).unwrap();
    let stage = stage.next_worker();
    assert_eq!(stage.run(AgentCall { is_adoption: true, ..started.clone() }), Outcome::Success);
    assert_eq!(stage.run(AgentCall { is_adoption: true, ..later(&stage, Stop, &started) }), Outcome::NotRunning);
    assert!(stage.processes().is_empty());
}

#[test]
fn an_adopted_start_of_which_nothing_is_left_starts_nothing() {
    let stage = Stage::new();
    let call = stage.call("cardea:process", Start, &[("command", &shell(FOREVER))]);
    assert_eq!(stage.run(AgentCall { is_adoption: true, ..call }), Outcome::NotRunning);
    assert!(stage.processes().is_empty());
}

#[test]
fn a_given_up_start_is_ended_and_still_answered() {
    let stage = Stage::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let call = stage.call("cardea:process", Start, &[("command", &shell(FOREVER)), ("tcp", &address)]);
    stage.agents.begin(call.clone());
    eventually(|| !stage.processes().is_empty());
    stage.agents.abandon(call.key);
    failed(stage.done(call.key));
    assert!(stage.processes().is_empty());
    assert_eq!(PATIENCE, call.timeout, "its own time was not up");
}

#[test]
fn forged_marks_change_nothing() {
    let stage = Stage::new();
    let started = start(&stage, FOREVER);
    let environment = |pid: u32| host::process::environment_of(pid).unwrap().unwrap();
    let own = environment(stage.processes()[0].pid());
    assert_eq!(own.value("CARDEA_TOKEN").map(str::len), Some(32));
    let mut forged = std::process::Command::new("/bin/sh")
        .args(["-c", "trap '' TERM; while :; do sleep 600; done"])
        .envs(
            ["CARDEA_RUN", "CARDEA_RESOURCE", "CARDEA_ACTION", "CARDEA_OP"]
                .map(|name| (name, own.value(name).unwrap())),
        )
        .env("CARDEA_TOKEN", "0".repeat(32))
        .spawn()
        .unwrap();
    eventually(|| environment(forged.id()).value("CARDEA_ACTION").is_some());
    assert_eq!(stage.run(later(&stage, Stop, &started)), Outcome::Success);
    assert!(forged.try_wait().unwrap().is_none(), "it is none of ours");
    let probe = AgentCall { started_by: None, ..later(&stage, Monitor, &started) };
    assert_eq!(stage.run(probe), Outcome::NotRunning);
    assert_eq!(stage.run(AgentCall { started_by: None, ..started.clone() }), Outcome::Success);
    stage.agents.end_everything(Vec::new(), &[]);
    assert!(forged.try_wait().unwrap().is_none());
    // The shell and its sleep end together.
    for process in stage.processes() {
        process.signal(Signal::KILL).unwrap();
    }
    forged.wait().unwrap();
}

#[test]
fn the_end_of_a_life_stops_what_only_agents_know() {
    let stage = Stage::new();
    let note = stage.path("note").display().to_string();
    stage.ocf("Mount", "echo $1 >> $OCF_RESKEY_note; exit 0");
    stage.ocf("Hangs", "[ $1 = stop ] && sleep 600; exit 0");
    start(&stage, FOREVER);
    let timeout = agents::LAST_STOP_MAX;
    let stop = |agent: &str| AgentCall { timeout, ..stage.call(agent, Stop, &[("note", &note)]) };
    let since = std::time::Instant::now();
    stage.agents.end_everything(vec![stop("ocf:test:Mount"), stop("ocf:test:Hangs")], &[]);
    assert!(since.elapsed() < Duration::from_secs(12), "{:?}", since.elapsed());
    assert_eq!(stage.file("note"), "stop");
    assert!(stage.processes().is_empty());
}

#[test]
fn another_daemons_service_is_left_alone() {
    let (ours, theirs) = (Stage::new(), Stage::new());
    let started = start(&theirs, FOREVER);
    assert_eq!(ours.run(later(&ours, Monitor, &started)), Outcome::NotRunning);
    assert_eq!(ours.run(later(&ours, Stop, &started)), Outcome::Success);
    assert_eq!(theirs.run(later(&theirs, Monitor, &started)), Outcome::Success);
}

#[test]
fn a_service_without_a_place_for_its_output_runs_nevertheless() {
    let stage = Stage::new();
    std::fs::remove_dir_all(stage.path("var")).unwrap();
    std::fs::write(stage.path("var"), "not a folder").unwrap();
    start(&stage, FOREVER);
}

#[test]
fn a_cgroup_holds_what_hides_from_marks_and_sessions() {
    let Some(tree) = cgroups::Tree::new() else {
        eprintln!("the kernel gives this user no cgroup: the service lives without one");
        return lives_by_marks_and_session(host::cgroup::delegated());
    };
    let stage = Stage::with(|config| config.cgroup = Some(tree.path.clone()));
    let ready = stage.path("ready").display().to_string();
    let script = format!("env -i setsid /bin/sh -c 'echo $$ > {ready}; while :; do sleep 600; done' & {FOREVER}");
    let started = start(&stage, &script);
    let hidden = Process::open(stage.file("ready").parse().unwrap()).unwrap();
    assert_eq!(stage.run(later(&stage, Stop, &started)), Outcome::Success);
    assert!(!hidden.is_alive());
    assert_eq!(tree.children(), Vec::<String>::new(), "a stop leaves no cgroup");
}

#[test]
fn a_service_without_a_cgroup_runs_nevertheless() {
    lives_by_marks_and_session(None);
    // A folder that takes in no cgroup, and one that is none.
    lives_by_marks_and_session(Some("/proc/self".into()));
    let folder = tempfile::tempdir().unwrap();
    lives_by_marks_and_session(Some(folder.path().to_owned()));
}

/// A whole life of a service below a folder in which no cgroup can be made: nothing is refused, and a stop ends what
/// left the session and what forgot its environment.
fn lives_by_marks_and_session(cgroup: Option<std::path::PathBuf>) {
    let stage = Stage::with(|config| config.cgroup = cgroup);
    let ready = |name: &str| stage.path(name).display().to_string();
    let [own, session] = [ready("own"), ready("session")];
    let script = format!(
        "setsid /bin/sh -c 'echo $$ > {session}; while :; do sleep 600; done' &
        env -i /bin/sh -c 'echo $$ > {own}; while :; do sleep 600; done' & {FOREVER}"
    );
    let started = start(&stage, &script);
    let children = ["own", "session"].map(|name| Process::open(stage.file(name).parse().unwrap()).unwrap());
    assert_eq!(stage.run(later(&stage, Monitor, &started)), Outcome::Success);
    assert_eq!(stage.run(later(&stage, Stop, &started)), Outcome::Success);
    assert!(children.iter().all(|child| !child.is_alive()));
    assert!(stage.processes().is_empty());
    assert_eq!(stage.run(later(&stage, Monitor, &started)), Outcome::NotRunning);
    assert!(stage.no_event(), "no error is reported");
}
