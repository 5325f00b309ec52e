//! `cardea:ip` in a network namespace of its own, with a neighbour in another one.

mod stage;

use std::process::{Child, Command, Stdio};

use agents::AgentEvent;
use model::AgentAction::{Monitor, Start, Stop};
use model::{AgentCall, Outcome};
use stage::{Stage, eventually};

/// Set for the test program that runs inside the namespace.
const INSIDE: &str = "CARDEA_TEST_INSIDE";

/// Runs `story` in a fresh network namespace, by running this very test there once more.
fn in_namespace(test: &str, story: impl FnOnce(&Neighbour)) {
    if std::env::var_os(INSIDE).is_some() {
        return story(&Neighbour::new());
    }
    let can = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    // Root needs no user namespace, and some machines give none.
    let ways = ["-Urn", "-n"].into_iter().find(|way| can("unshare", &[way, "true"]));
    let Some(way) = ways.filter(|_| can("nsenter", &["--version"]) && can("ip", &["-V"])) else {
        return stage::skip(test, "needs root or user namespaces, util-linux and iproute2");
    };
    let own = std::env::current_exe().unwrap();
    let mut inside = Command::new("unshare");
    inside.arg(way).arg(own).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    assert!(inside.status().unwrap().success(), "the story inside the namespace failed");
}

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).stderr(Stdio::null()).status().unwrap().success()
}

/// The machine at the other end of the cable: we are 10.9.0.1, it is 10.9.0.2.
struct Neighbour {
    process: Child,
}

impl Neighbour {
    fn new() -> Neighbour {
        let process = Command::new("unshare").args(["-n", "sleep", "600"]).spawn().unwrap();
        let neighbour = Neighbour { process };
        let pid = neighbour.process.id().to_string();
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        eventually(|| std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|other| other != own));
        assert!(run("ip", &["link", "set", "lo", "up"]));
        assert!(run("ip", &["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &pid]));
        assert!(run("ip", &["address", "add", "10.9.0.1/24", "dev", "eth0"]));
        assert!(run("ip", &["link", "set", "eth0", "up"]));
        assert!(neighbour.ip(&["address", "add", "10.9.0.2/24", "dev", "eth0"]));
        assert!(neighbour.ip(&["link", "set", "eth0", "up"]));
        eventually(is_up);
        neighbour
    }

    fn ip(&self, arguments: &[&str]) -> bool {
        let pid = self.process.id().to_string();
        run("nsenter", &[&["-t", &pid, "-n", "ip"], arguments].concat())
    }

    /// What the neighbour knows about an address.
    fn remembers(&self, address: &str) -> String {
        let pid = self.process.id().to_string();
        let output = Command::new("nsenter").args(["-t", &pid, "-n", "ip", "neighbour", "show", address]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Has our end of the cable a carrier?
fn is_up() -> bool {
    host::address::interfaces().unwrap().iter().any(|interface| interface.name == "eth0" && interface.is_up)
}

fn has(address: &str) -> bool {
    let address: std::net::Ipv4Addr = address.parse().unwrap();
    host::address::interfaces().unwrap().iter().any(|i| i.addresses.iter().any(|(own, _)| *own == address))
}

fn start(stage: &Stage, is_proven_free: bool) -> AgentCall {
    AgentCall { is_proven_free, ..stage.call("cardea:ip", Start, &[("address", "10.9.0.100/24")]) }
}

fn later(stage: &Stage, action: model::AgentAction, started: &AgentCall) -> AgentCall {
    AgentCall {
        parameters: started.parameters.clone(),
        started_by: Some(started.key),
        ..stage.call("cardea:ip", action, &[])
    }
}

#[test]
fn an_address_comes_is_checked_and_goes() {
    in_namespace("an_address_comes_is_checked_and_goes", |_| {
        let stage = Stage::new();
        for is_proven_free in [true, false] {
            let call = start(&stage, is_proven_free);
            assert_eq!(stage.run(later(&stage, Monitor, &call)), Outcome::NotRunning);
            assert_eq!(stage.run(call.clone()), Outcome::Success);
            assert!(has("10.9.0.100"));
            assert_eq!(stage.run(later(&stage, Monitor, &call)), Outcome::Success);
            assert_eq!(stage.run(later(&stage, Start, &call)), Outcome::Success, "it is there already");
            assert_eq!(stage.run(later(&stage, Stop, &call)), Outcome::Success);
            assert!(!has("10.9.0.100"));
            assert_eq!(stage.run(later(&stage, Stop, &call)), Outcome::Success);
        }
        assert!(stage.no_event(), "what we take away ourselves is no news");
    });
}

#[test]
fn the_neighbours_learn_where_an_address_went() {
    in_namespace("the_neighbours_learn_where_an_address_went", |neighbour| {
        let old = ["neighbour", "add", "10.9.0.100", "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "reachable"];
        assert!(neighbour.ip(&old));
        let stage = Stage::new();
        assert_eq!(stage.run(start(&stage, true)), Outcome::Success);
        eventually(|| !neighbour.remembers("10.9.0.100").contains("02:00:00:00:00:99"));
    });
}

#[test]
fn an_address_in_use_is_not_taken() {
    in_namespace("an_address_in_use_is_not_taken", |neighbour| {
        assert!(neighbour.ip(&["address", "add", "10.9.0.100/24", "dev", "eth0"]));
        let stage = Stage::new();
        let Outcome::Failed { reason, is_permanent } = stage.run(start(&stage, false)) else { panic!("it is in use") };
        assert!(reason.contains("in use") && !is_permanent, "{reason}");
        assert!(!has("10.9.0.100"));
    });
}

#[test]
fn an_address_thought_free_is_given_up_when_somebody_answers_for_it() {
    in_namespace("an_address_thought_free_is_given_up_when_somebody_answers_for_it", |neighbour| {
        assert!(neighbour.ip(&["address", "add", "10.9.0.100/24", "dev", "eth0"]));
        let stage = Stage::new();
        let call = start(&stage, true);
        stage.agents.begin(call.clone());
        // The neighbour may be quicker than the report of the start.
        let mut events = [stage.event(), stage.event()];
        events.sort_by_key(|event| matches!(event, AgentEvent::Exited { .. }));
        let [AgentEvent::Done { outcome, .. }, AgentEvent::Exited { key, how }] = events else { panic!("{events:?}") };
        assert_eq!((outcome, key), (Outcome::Success, call.key), "nobody is asked first");
        assert!(how.contains("answers for 10.9.0.100"), "{how}");
        assert!(!has("10.9.0.100"));
    });
}

#[test]
fn an_address_that_somebody_removes_is_missed_at_once() {
    in_namespace("an_address_that_somebody_removes_is_missed_at_once", |_| {
        let stage = Stage::new();
        let call = start(&stage, true);
        assert_eq!(stage.run(call.clone()), Outcome::Success);
        assert!(run("ip", &["address", "delete", "10.9.0.100/24", "dev", "eth0"]));
        let AgentEvent::Exited { key, how } = stage.event() else { panic!("it is told") };
        assert_eq!(key, call.key);
        assert!(how.contains("removed from eth0"), "{how}");
    });
}

#[test]
fn an_interface_that_is_down_keeps_no_service_up() {
    in_namespace("an_interface_that_is_down_keeps_no_service_up", |neighbour| {
        let stage = Stage::new();
        let call = start(&stage, true);
        assert_eq!(stage.run(call.clone()), Outcome::Success);
        assert!(neighbour.ip(&["link", "set", "eth0", "down"]));
        eventually(|| !is_up());
        let Outcome::Failed { reason, .. } = stage.run(later(&stage, Monitor, &call)) else { panic!("eth0 is down") };
        assert!(reason.contains("eth0 is down"), "{reason}");
    });
}

#[test]
fn an_address_without_a_place_is_refused_with_the_way_out() {
    in_namespace("an_address_without_a_place_is_refused_with_the_way_out", |_| {
        let stage = Stage::new();
        let call = stage.call("cardea:ip", Start, &[("address", "192.0.2.5/24")]);
        let Outcome::Failed { reason, .. } = stage.run(call) else { panic!("there is no such subnet") };
        assert!(reason.contains("`device`"), "{reason}");
    });
}

#[test]
fn the_real_ipaddr2_brings_an_address_and_takes_it_away() {
    const TEST: &str = "the_real_ipaddr2_brings_an_address_and_takes_it_away";
    if !std::path::Path::new("/usr/lib/ocf/resource.d/heartbeat/IPaddr2").is_file() {
        return stage::skip(TEST, "resource-agents is not installed");
    }
    in_namespace(TEST, |_| {
        let stage = Stage::new();
        let parameters = [("ip", "10.9.0.100"), ("cidr_netmask", "24"), ("nic", "eth0")];
        let ask = |action| stage.run(stage.call("ocf:heartbeat:IPaddr2", action, &parameters));
        assert_eq!(ask(Monitor), Outcome::NotRunning);
        assert_eq!(ask(Start), Outcome::Success);
        assert!(has("10.9.0.100"));
        assert_eq!(ask(Monitor), Outcome::Success);
        assert_eq!(ask(Stop), Outcome::Success);
        assert!(!has("10.9.0.100"));
    });
}
