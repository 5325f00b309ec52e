//! What do agents answer in a process that has no descriptor left? One test, alone in its program: it takes them all.

mod stage;

use std::fs::File;
use std::time::Duration;

use model::AgentAction::{Monitor, Start, Stop};
use model::{AgentCall, Outcome};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stage::{Stage, shell};

/// Every descriptor that this process may still open.
fn take_all() -> Vec<File> {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum: before.maximum }).unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    taken
}

#[test]
fn without_descriptors_nothing_is_said_to_have_stopped() {
    let stage = Stage::with(|config| config.forced = Duration::from_millis(100));
    stage.ocf("Works", "exit 0");
    let started = stage.call("cardea:process", Start, &[("command", &shell("while :; do sleep 600; done"))]);
    assert_eq!(stage.run(started.clone()), Outcome::Success);
    let quick = Duration::from_millis(300);
    let of_service = |action| AgentCall {
        parameters: started.parameters.clone(),
        started_by: Some(started.key),
        timeout: quick,
        ..stage.call("cardea:process", action, &[])
    };
    let of_agent = |action| AgentCall { timeout: quick, ..stage.call("ocf:test:Works", action, &[]) };
    let of_address =
        |action| AgentCall { timeout: quick, ..stage.call("cardea:ip", action, &[("address", "192.0.2.7/32")]) };

    let taken = take_all();
    for call in [of_service(Monitor), of_agent(Monitor), of_address(Monitor)] {
        let agent = call.agent.clone();
        let outcome = stage.run(call);
        assert!(matches!(outcome, Outcome::Unknown { is_permanent: false, .. }), "{agent}: {outcome:?}");
    }
    for call in [of_service(Stop), of_agent(Stop), of_address(Stop)] {
        let agent = call.agent.clone();
        let outcome = stage.run(call);
        assert!(!matches!(outcome, Outcome::Success | Outcome::NotRunning), "{agent}: {outcome:?}");
    }
    let adopted = stage.run(AgentCall { is_adoption: true, ..of_agent(Start) });
    assert!(matches!(adopted, Outcome::Unknown { .. }), "{adopted:?}");
    drop(taken);

    assert_eq!(stage.run(of_service(Monitor)), Outcome::Success, "it ran all the time");
    assert_eq!(stage.run(AgentCall { timeout: stage::PATIENCE, ..of_service(Stop) }), Outcome::Success);
    assert!(stage.processes().is_empty());
}
