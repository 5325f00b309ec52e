//! Does a service notice that the daemon beside it died, was replaced, or was sent away?

use anyhow::Result;
use e2e::processes::{self, Process};
use e2e::{Lab, cluster_file, now_us, until};
use rustix::process::Signal;

/// What says that somebody was taken for dead.
const VERDICTS: [&str; 4] = ["suspect", "condemned", "fence-called", "fenced"];

/// A service that notes each of its starts in a file, and is slow to come and to go.
const SLOW: &str = r#"#!/bin/sh
echo "$$" >> "$1"
trap 'sleep 0.4; exit 0' TERM
sleep 0.4
exec 2>/dev/null
# Whoever asks for readiness looks for this file.
: > "$1.ready"
while :; do sleep 0.05; done
"#;

struct Slow {
    lab: Lab,
    starts: String,
}

impl Slow {
    /// A cluster with one service that takes 400 ms to become ready; a second resource waits for that.
    fn up() -> Result<Slow> {
        let lab = Lab::reserve()?;
        let starts = lab.write("starts", "")?;
        let program = lab.program("slow", SLOW)?;
        let agent = r#"#!/bin/sh
case "$1" in
meta-data) echo '<?xml version="1.0"?><resource-agent name="slow"><version>1.0</version><parameters/><actions><action name="start" timeout="20s"/><action name="stop" timeout="20s"/><action name="monitor" timeout="20s" interval="10s"/></actions></resource-agent>' ;;
start) echo "$$" >> STARTS; sleep 0.5; : > "$HA_RSCTMP/slow" ;;
stop) sleep 0.5; rm -f "$HA_RSCTMP/slow" ;;
monitor) test -e "$HA_RSCTMP/slow" || exit 7 ;;
esac
"#;
        let agent = agent.replace("STARTS", &format!("{starts}.agent"));
        let more = format!(
            "[resources.slow]\nagent = \"ocf:test:slow\"\nmonitor = {{ every = \"10m\" }}\n\n\
             [resources.service]\nagent = \"cardea:process\"\ncommand = [\"{program}\", \"{starts}\"]\n\n\
             [groups.both]\nmembers = [\"slow\", \"service\"]\n"
        );
        let file = lab.write("slow.toml", &cluster_file(&["a", "b", "c"], "")).and_then(|file| {
            lab.write("more.toml", &cluster_file(&["a", "b", "c"], &more))?;
            Ok(file)
        })?;
        lab.must(&["up", "--file", &file])?;
        for node in lab.nodes()? {
            let folder = node.root.join("usr/lib/ocf/resource.d/test");
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join("slow"), &agent)?;
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(folder.join("slow"), std::fs::Permissions::from_mode(0o755))?;
        }
        lab.wait_until_whole()?;
        Ok(Slow { lab, starts })
    }

    fn apply(&self) -> Result<()> {
        let file = std::path::Path::new(&self.starts).with_file_name("more.toml");
        self.lab.leader()?.must(&["apply", &file.to_string_lossy(), "--yes"])?;
        Ok(())
    }

    /// How often the agent and the service were started so far.
    fn starts(&self) -> (usize, usize) {
        let count = |path: &str| std::fs::read_to_string(path).unwrap_or_default().lines().count();
        (count(&format!("{}.agent", self.starts)), count(&self.starts))
    }

    /// Kills the worker of the node on which this operation has just begun.
    fn kill_inside(&self, operation: &str, since_us: u64) -> Result<Process> {
        let event = until(&format!("a {operation} begins"), || {
            let events = self.lab.events_of(&["op-begun"], since_us).map_err(|error| error.to_string())?;
            let is_it = |event: &&serde_json::Value| {
                event["subject"] == "slow"
                    && event["reason"].as_str().is_some_and(|reason| reason.starts_with(operation))
            };
            events.iter().find(is_it).cloned().ok_or_else(|| format!("{events:?}"))
        })?;
        let node = event["node"].as_str().unwrap_or_default().to_owned();
        let worker = self.lab.worker(&node)?;
        processes::kill(&worker);
        Ok(worker)
    }
}

fn nobody_was_in_doubt(lab: &Lab, since_us: u64) -> Result<()> {
    let verdicts = lab.events_of(&VERDICTS, since_us)?;
    assert!(verdicts.is_empty(), "{verdicts:?}\n{}", lab.logs());
    Ok(())
}

fn replaced(lab: &Lab, node: &str, worker: &Process) -> Result<()> {
    until("another worker answers", || {
        let now = lab.worker(node).map_err(|error| error.to_string())?;
        if now.pid == worker.pid {
            return Err("it is still the old one".to_owned());
        }
        lab.node(node).status().map(|_| ()).map_err(|error| format!("{error:#}"))
    })
}

#[test]
fn a_worker_that_is_killed_costs_no_verdict_no_fence_and_no_service() -> Result<()> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let since = now_us();
    let place = lab.place_of("web")?;
    let service = lab.running(&place, "web");
    for _ in 0..3 {
        let worker = lab.worker(&place)?;
        processes::kill(&worker);
        replaced(&lab, &place, &worker)?;
        lab.wait_until_whole()?;
    }
    assert_eq!(lab.running(&place, "web"), service, "the service never noticed");
    nobody_was_in_doubt(&lab, since)?;

    // The new worker watches what the old one started: a death is noticed, and the service is back in place.
    processes::kill(&service[0]);
    until("the service is another process", || {
        let now = lab.running(&place, "web");
        if now.is_empty() || now == service { Err(format!("{now:?}")) } else { Ok(()) }
    })?;
    lab.wait_until_whole()?;
    assert_eq!(lab.place_of("web")?, place);

    let worker = lab.worker(&place)?;
    let service = lab.running(&place, "web");
    let root = lab.node(&place).root.to_string_lossy().into_owned();
    lab.exec(&place, &["cardea", "--root", &root, "daemon", "--restart"])?.ok()?;
    replaced(&lab, &place, &worker)?;
    lab.wait_until_whole()?;
    assert_eq!(lab.running(&place, "web"), service, "services stay when the daemon is replaced");
    nobody_was_in_doubt(&lab, since)?;

    let second = lab.exec(&place, &["cardea", "--root", &root, "daemon"])?;
    assert_ne!(second.exit_status, Some(0));
    assert!(second.err.contains("already runs"), "two daemons on one root are refused: {}", second.err);
    assert_eq!(lab.running(&place, "web"), service);
    lab.wait_until_whole()?;
    nobody_was_in_doubt(&lab, since)
}

#[test]
fn a_start_and_a_stop_whose_worker_dies_are_carried_out_exactly_once() -> Result<()> {
    let slow = Slow::up()?;
    let lab = &slow.lab;
    let since = now_us();
    slow.apply()?;
    slow.kill_inside("start", since)?;
    lab.wait_until_whole()?;
    assert_eq!(slow.starts(), (1, 1), "{}", lab.logs());

    let place = lab.place_of("service")?;
    let since_stop = now_us();
    lab.leader()?.must(&["stop", "both"])?;
    slow.kill_inside("stop", since_stop)?;
    until("both are stopped", || {
        let resource = lab.resource("slow")?;
        if resource["state"] == "stopped" { Ok(()) } else { Err(resource.to_string()) }
    })?;
    assert_eq!(lab.running(&place, "/slow"), [], "what is stopped does not run");
    assert_eq!(slow.starts(), (1, 1), "{}", lab.logs());
    lab.leader()?.must(&["start", "both"])?;
    lab.wait_until_whole()?;
    assert_eq!(slow.starts(), (2, 2));
    nobody_was_in_doubt(lab, since)
}

#[test]
fn a_serving_node_that_is_told_to_end_hands_over_first_and_nobody_is_fenced() -> Result<()> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let since = now_us();
    let place = lab.place_of("web")?;
    lab.leader()?.must(&["lead", &place])?;
    until("the serving node leads", || {
        let leader = lab.status()?["leader"].as_str().map(str::to_owned);
        if leader.as_deref() == Some(place.as_str()) { Ok(()) } else { Err(format!("{leader:?}")) }
    })?;
    lab.wait_until_whole()?;
    lab.signal_daemon(&place, Signal::TERM)?;
    let next = until("the service runs elsewhere", || {
        let next = lab.place_now("web")?;
        if next == place { Err(format!("still on {place}")) } else { Ok(next) }
    })?;
    until("the daemon has ended", || lab.supervisor(&place).map_or(Ok(()), |left| Err(format!("{left:?}"))))?;
    // Whatever ends with another status than 0 is started again by the node's PID 1, as by systemd.
    assert!(!lab.logs().contains("is started again"), "{}", lab.logs());
    assert_eq!(lab.running(&place, "web"), []);
    let member = lab.member(&place).map_err(anyhow::Error::msg)?;
    assert_eq!(member["state"], "left", "{member}");
    let fences = lab.events_of(&["condemned", "fence-called", "fenced"], since)?;
    assert!(fences.is_empty(), "{fences:?}");

    lab.must(&["start", &place])?;
    lab.wait_until_whole()?;
    assert_eq!(lab.place_of("web")?, next, "who comes back takes nothing");
    Ok(())
}
