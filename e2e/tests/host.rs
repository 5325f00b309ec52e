//! What runs on a node: is it found, ended and left alone as it should be, whoever stands in the way?

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::processes::Process;
use e2e::{Lab, cluster_file, now_us, skip_without_root, until};
use rustix::process::{Pid, Resource, Rlimit};

/// What says that somebody was taken for dead, or that something was moved.
const UNREST: [&str; 6] = ["suspect", "condemned", "fence-called", "fenced", "granted", "stopped"];

const WATCHED: &str = "\
[resources.web]
agent = \"cardea:process\"
command = [\"cardea-web\"]
tcp = \"127.0.0.1:8080\"
monitor = { every = \"200ms\" }
prefer = [\"b\"]
";

fn calm(lab: &Lab, since_us: u64) -> Result<()> {
    let unrest = lab.events_of(&UNREST, since_us)?;
    assert!(unrest.is_empty(), "{unrest:?}\n{}", lab.logs());
    Ok(())
}

fn replace_worker(lab: &Lab, node: &str) -> Result<()> {
    let before = lab.worker(node)?;
    lab.exec(node, &["cardea", "daemon", "--restart"])?.ok()?;
    until("another worker answers", || {
        let now = lab.worker(node).map_err(|error| error.to_string())?;
        if now.pid == before.pid {
            return Err("it is still the old one".to_owned());
        }
        lab.node(node).status().map(drop).map_err(|error| format!("{error:#}"))
    })?;
    lab.wait_until_whole()?;
    Ok(())
}

/// The number that a process has in the innermost namespace that it lives in.
fn own_number(process: &Process) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
    status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_ascii_whitespace().last()?.parse().ok())
}

/// The supervisor of a node that has booted is its process 2; what it inherits is no thread of the kernel.
#[test]
fn what_a_replaced_worker_had_started_is_gone_after_its_stop() -> Result<()> {
    let lab = Lab::with_file(&cluster_file(&["a", "b", "c"], WATCHED))?;
    lab.wait_until_whole()?;
    // In its first life a node runs `init` or `join` before its daemon.
    lab.must(&["crash", "--all"])?;
    lab.must(&["start", "--all"])?;
    lab.wait_until_whole()?;
    for node in lab.names()? {
        assert_eq!(own_number(&lab.supervisor(&node)?), Some(2));
    }
    for _ in 0..3 {
        let place = lab.place_of("web")?;
        assert_eq!(lab.running(&place, "cardea-web").len().max(lab.running(&place, "web").len()), 1);
        replace_worker(&lab, &place)?;
        lab.leader()?.must(&["standby", &place, "--yes"])?;
        until("it runs elsewhere", || {
            let now = lab.place_now("web")?;
            if now == place { Err(now) } else { Ok(()) }
        })?;
        assert_eq!(lab.running(&place, "web"), [], "a stop that is said to be done is done");
        lab.leader()?.must(&["standby", &place, "--off"])?;
        lab.wait_until_whole()?;
    }
    let place = lab.place_of("web")?;
    replace_worker(&lab, &place)?;
    lab.leader()?.must(&["stop", "web"])?;
    until("it is stopped", || {
        let resource = lab.resource("web")?;
        if resource["state"] == "stopped" { Ok(()) } else { Err(resource.to_string()) }
    })?;
    for node in lab.names()? {
        assert_eq!(lab.running(&node, "web"), []);
    }
    Ok(())
}

#[test]
fn a_daemon_that_can_open_nothing_any_more_moves_nothing() -> Result<()> {
    let lab = Lab::with_file(&cluster_file(&["a", "b", "c"], WATCHED))?;
    lab.wait_until_whole()?;
    let place = lab.place_of("web")?;
    let (worker, service) = (lab.worker(&place)?, lab.running(&place, "web"));
    let pid = Pid::from_raw(worker.pid).expect("a pid");
    let asked = ["a", "b", "c"].into_iter().find(|name| *name != place).expect("three nodes");
    let since = now_us();
    // Its reserve was opened first and has the numbers from 3: with a lower limit not even that helps.
    let blind = Rlimit { current: Some(3), maximum: hard_limit(worker.pid) };
    let before = rustix::process::prlimit(Some(pid), Resource::Nofile, blind)?;
    let blind_since = Instant::now();
    until("it was blind for a while", || {
        let said = lab.node(asked).status().map_err(|error| format!("{error:#}"))?;
        let web = &said["resources"][0];
        assert_eq!((web["state"].as_str(), web["node"].as_str()), (Some("running"), Some(place.as_str())), "{said}");
        if blind_since.elapsed() > Duration::from_secs(4) { Ok(()) } else { Err("not yet".to_owned()) }
    })?;
    rustix::process::prlimit(Some(pid), Resource::Nofile, before)?;
    lab.wait_until_whole()?;
    assert_eq!(lab.running(&place, "web"), service, "the service never noticed");
    calm(&lab, since)?;
    let told = lab.events_of(&["op-done"], since)?;
    assert!(told.iter().any(|event| event.to_string().contains("nobody knows")), "{told:?}");
    Ok(())
}

fn hard_limit(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_ascii_whitespace().nth(4)?.parse().ok()
}

#[test]
fn another_user_of_a_node_neither_locks_nor_forges_anything() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        skip_without_root("another user in a lab");
        return Ok(());
    }
    let lab = Lab::with_file(&cluster_file(&["a", "b", "c"], WATCHED))?;
    lab.wait_until_whole()?;
    let place = lab.place_of("web")?;
    let service = lab.running(&place, "web");
    let run = lab.node(&place).root.join("run/cardea");
    let since = now_us();
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    for file in ["worker.lock", "daemon.lock", "mark-secret"] {
        let path = run.join(file);
        assert_eq!(path.metadata()?.permissions().mode() & 0o777, 0o600, "{}", path.display());
        let said = lab.exec(&place, &[&nobody[..], &["cat", &path.to_string_lossy()]].concat())?;
        assert_ne!(said.exit_status, Some(0), "{said:?}");
    }
    // Many processes that ask to be taken for the service, and do not want to end.
    let forged = format!(
        "for n in 1 2 3 4 5 6 7 8; do CARDEA_RUN={} CARDEA_RESOURCE=web CARDEA_ACTION=start CARDEA_OP=1.1.0 \
         CARDEA_TOKEN=0 setsid sh -c 'trap \"\" TERM; while :; do sleep 0.3; done' >/dev/null 2>&1 & done",
        run.display()
    );
    lab.exec(&place, &[&nobody[..], &["sh", "-c", &forged]].concat())?.ok()?;
    replace_worker(&lab, &place)?;
    calm(&lab, since)?;
    assert!(lab.running(&place, "sleep 0.3").len() >= 8, "the forged ones run");
    lab.leader()?.must(&["stop", "web"])?;
    until("it is stopped", || {
        let resource = lab.resource("web")?;
        if resource["state"] == "stopped" { Ok(()) } else { Err(resource.to_string()) }
    })?;
    let left = lab.running(&place, "web");
    assert!(!left.iter().any(|process| service.contains(process)), "{left:?}");
    let fences = lab.events_of(&["suspect", "condemned", "fence-called", "fenced", "stop-failed"], since)?;
    assert!(fences.is_empty(), "{fences:?}");
    Ok(())
}

const STICKY: &str = r#"#!/bin/sh
case "$1" in
start) : > "$OCF_RESKEY_state" ;;
stop) rm -f "$OCF_RESKEY_state" ;;
monitor) test -e "$OCF_RESKEY_state" || exit 7 ;;
esac
exit 0
"#;

const MORE: &str = "\
[resources.sticky]
agent = \"ocf:test:sticky\"
prefer = [\"b\"]

[resources.address]
agent = \"cardea:ip\"
address = \"10.77.1.150/24\"
prefer = [\"b\"]
";

/// A device that lies, and a node that comes back from a cut: it ends what no process tells of, and boots anew.
#[test]
fn a_condemned_node_that_hears_of_it_ends_what_its_agents_started_and_boots_anew() -> Result<()> {
    let lab = Lab::reserve()?;
    let liar = lab.write("liar", "")?;
    let file = cluster_file(&["a", "b", "c"], "").replace("agent = \"fence_lab\"", &format!("agent = \"{liar}\""));
    std::fs::write(
        &liar,
        "#!/bin/sh\nwhile read -r line; do case $line in action=status) exit 2;; action=off) exit 0;; esac; done\n",
    )?;
    std::fs::set_permissions(&liar, std::fs::Permissions::from_mode(0o755))?;
    let first = lab.write("first.toml", &file)?;
    lab.must(&["up", "--file", &first])?;
    for node in lab.nodes()? {
        let folder = node.root.join("usr/lib/ocf/resource.d/test");
        std::fs::create_dir_all(&folder)?;
        // Each node has a state of its own.
        let agent = STICKY.replace("$OCF_RESKEY_state", &node.root.join("sticky-state").to_string_lossy());
        std::fs::write(folder.join("sticky"), agent)?;
        std::fs::set_permissions(folder.join("sticky"), std::fs::Permissions::from_mode(0o755))?;
    }
    lab.wait_until_whole()?;
    let second = lab.write("second.toml", &(file + MORE))?;
    lab.leader()?.must(&["apply", &second, "--yes"])?;
    lab.wait_until_whole()?;
    assert_eq!(lab.place_of("sticky")?, "b");
    let first_of = |node: &str| lab.processes_of(node).into_iter().next();
    let before = first_of("b");
    let since = now_us();
    lab.must(&["cut", "b"])?;
    let next = until("it runs elsewhere", || {
        let place = lab.place_now("sticky")?;
        if place == "b" { Err(place) } else { Ok(place) }
    })?;
    let state_of = |node: &str| lab.node(node).root.join("sticky-state");
    assert!(state_of(&next).exists() && state_of("b").exists(), "the device lied");
    // What arrives at once after the proof may have been on its way while the power went, and is no lie.
    std::thread::sleep(Duration::from_secs(1));
    lab.must(&["heal", "b"])?;
    until("its agent has stopped it there", || {
        if state_of("b").exists() { Err("its state is still there".to_owned()) } else { Ok(()) }
    })
    .map_err(|error| anyhow::anyhow!("{error:#}\n{}", lab.logs()))?;
    until("its machine has ended", || {
        let now = first_of("b");
        if now == before { Err(format!("{now:?}")) } else { Ok(()) }
    })?;
    assert!(state_of(&next).exists());
    assert!(!lab.events_of(&["condemned"], since)?.is_empty());

    // The lie stays a problem, also for the workers to come, until an operator has looked at it.
    let lie = |node: &str| -> std::result::Result<bool, String> {
        let status = lab.node(node).status().map_err(|error| format!("{error:#}"))?;
        let is_it = |fault: &&serde_json::Value| fault["kind"] == "fence-lied" && fault["subject"] == "b";
        Ok(status["faults"].as_array().into_iter().flatten().find(is_it).is_some_and(|fault| fault["since"] != ""))
    };
    let told = |node: &str, wanted: bool| {
        until(&format!("the lie is told by {node}: {wanted}"), || match lie(node)? {
            is_told if is_told == wanted => Ok(()),
            is_told => Err(format!("{is_told}")),
        })
    };
    told("a", true)?;
    told("c", true)?;
    until("it is in the history of c", || {
        let history = lab.node("c").api().get("/v1/history?subject=b").map_err(|error| format!("{error:#}"))?;
        if history.to_string().contains("was heard afterwards") { Ok(()) } else { Err(history.to_string()) }
    })?;
    let worker = lab.worker("c")?;
    e2e::processes::kill(&worker);
    until("another worker answers", || {
        let now = lab.worker("c").map_err(|error| error.to_string())?;
        if now.pid == worker.pid { Err("it is the old one".to_owned()) } else { lie("c").map(|_| ()) }
    })?;
    told("c", true)?;
    lab.leader()?.must(&["clear", "b"])?;
    told("a", false)?;
    told("c", false)?;
    Ok(())
}
