//! Is the lab honest machinery, and does it end without a trace?

use anyhow::Result;
use e2e::{Lab, processes, until};

/// What every node of these labs does instead of running a daemon.
const IDLE: [&str; 2] = ["sleep", "1000"];

#[test]
fn the_status_of_a_lab_has_the_documented_fields_and_tells_the_truth() -> Result<()> {
    let lab = Lab::bare(&["--nodes", "2"], &IDLE)?;
    let status = lab.lab_status()?;
    for field in ["cluster", "dir", "disk", "leader", "quorate", "loss", "nodes"] {
        assert!(status.get(field).is_some(), "{field} is missing in {status}");
    }
    let nodes = status["nodes"].as_array().expect("a list");
    let names: Vec<&str> = nodes.iter().filter_map(|node| node["name"].as_str()).collect();
    assert_eq!(names, ["a", "b", "w"], "two nodes get a witness");
    for field in ["name", "power", "boot_id", "role", "state", "links", "resources", "root"] {
        assert!(nodes[0].get(field).is_some(), "{field} is missing in {status}");
    }
    assert!(nodes.iter().all(|node| node["power"] == "on"), "{status}");
    let boot = |status: &serde_json::Value, node: usize| status["nodes"][node]["boot_id"].as_str().map(str::to_owned);
    let told = boot(&status, 0).expect("a boot id");
    let seen = lab.exec("a", &["cat", "/proc/sys/kernel/random/boot_id"])?.ok()?.out;
    assert_eq!(told, seen.trim(), "the node sees the boot id that it was given");
    let machine = |node: &str| lab.exec(node, &["cat", "/etc/machine-id"]).map(|said| said.out);
    assert_ne!(machine("a")?, machine("b")?, "every node is another machine");
    let before = machine("a")?;

    lab.must(&["crash", "a"])?;
    let status = lab.lab_status()?;
    assert_eq!(status["nodes"][0]["power"], "off");
    assert_eq!(lab.processes_of("a"), [], "off means that nothing of it runs");
    let said = lab.exec("a", &["true"])?;
    assert_ne!(said.exit_status, Some(0));
    assert!(said.err.contains("cardea lab start a"), "the next step is named: {}", said.err);

    lab.must(&["start", "a"])?;
    let status = lab.lab_status()?;
    assert_ne!(boot(&status, 0), Some(told), "another boot, another id");
    assert_eq!(machine("a")?, before, "the machine is the same");

    lab.must(&["cut", "b"])?;
    assert_eq!(lab.lab_status()?["nodes"][1]["links"][0]["state"], "cut");
    lab.must(&["heal", "b"])?;
    lab.must(&["linkdown", "b", "--network", "2"])?;
    let status = lab.lab_status()?;
    assert_eq!(status["nodes"][1]["links"][0]["state"], "up");
    assert_eq!(status["nodes"][1]["links"][1]["state"], "no-carrier");
    lab.must(&["heal"])?;

    lab.must(&["freeze", "b"])?;
    assert_eq!(lab.lab_status()?["nodes"][1]["power"], "frozen");
    for process in lab.processes_of("b") {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        assert_eq!(state, Some('T'), "a frozen node has no process that can run: {process:?}");
    }
    lab.must(&["thaw", "b"])?;
    assert_eq!(lab.lab_status()?["nodes"][1]["power"], "on");

    let said = lab.lab(&["crash", "c"])?;
    assert_eq!(said.exit_status, Some(1));
    assert!(said.err.contains("the nodes are a, b, w"), "{}", said.err);

    lab.must(&["down"])?;
    assert!(!lab.dir().exists(), "the folder is gone");
    lab.expect_no_process()
}

#[test]
fn a_killed_lab_leaves_no_process_and_is_swept_by_the_next() -> Result<()> {
    let lab = Lab::bare(&["--nodes", "1", "--networks", "1"], &IDLE)?;
    let hub = lab.hub().expect("a lab has a hub");
    assert!(lab.processes().len() > 1);
    processes::kill(&hub);
    lab.expect_no_process()?;
    assert!(lab.dir().exists(), "whoever is killed cannot clean up");
    let said = lab.lab(&["status"])?;
    assert_eq!(said.exit_status, Some(1));
    assert!(said.err.contains("cardea lab up"), "the next step is named: {}", said.err);

    lab.must(&["up", "--nodes", "1", "--networks", "1", "--bare", "sleep", "1000"])?;
    let busy = lab.lab(&["up", "--nodes", "1"])?;
    assert_eq!(busy.exit_status, Some(1));
    assert!(busy.err.contains("lab down"), "a living lab is left alone: {}", busy.err);
    lab.must(&["down"])?;
    assert!(!lab.dir().exists());
    lab.expect_no_process()
}

/// As the unit file says: a daemon that the cluster has sent away is not started again, one that fails is.
#[test]
fn a_daemon_that_ends_for_good_stays_down_and_one_that_fails_is_started_again() -> Result<()> {
    let starts = |lab: &Lab| {
        let file = std::fs::read_to_string(lab.node("a").root.join("starts")).unwrap_or_default();
        file.lines().count()
    };
    let after = |lab: &Lab, count: usize| {
        until("it was started", || match starts(lab) {
            now if now < count => Err(format!("{now} times")),
            _ => Ok(()),
        })
    };
    let words = ["--nodes", "1", "--networks", "1"];
    let lab = Lab::bare(&words, &["sh", "-c", "echo x >> starts; exit 78"])?;
    after(&lab, 1)?;
    // Far longer than the pause before a restart.
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(starts(&lab), 1);
    lab.must(&["start", "a"])?;
    after(&lab, 2)?;
    drop(lab);
    let lab = Lab::bare(&words, &["sh", "-c", "echo x >> starts; exit 1"])?;
    after(&lab, 3)
}

#[test]
fn packets_are_lost_between_nodes_and_not_on_the_way_to_a_client() -> Result<()> {
    let lab = Lab::bare(&["--nodes", "1", "--networks", "1"], &IDLE)?;
    let said = lab.lab(&["loss", "20"])?;
    if said.exit_status != Some(0) {
        assert!(said.err.contains("nft"), "a refusal names what is missing: {}", said.err);
        e2e::skip("losing packets", said.err.trim());
        return Ok(());
    }
    assert_eq!(lab.lab_status()?["loss"], serde_json::json!([20]));
    lab.must(&["loss", "0"])?;
    assert_eq!(lab.lab_status()?["loss"], serde_json::json!([0]));
    let said = lab.lab(&["loss", "101"])?;
    assert_eq!(said.exit_status, Some(2), "wrong usage: {}", said.err);
    Ok(())
}

#[test]
fn a_folder_in_memory_is_refused_unless_it_is_asked_for() -> Result<()> {
    let Ok(memory) = tempfile::Builder::new().prefix("e2e-").tempdir_in("/dev/shm") else {
        e2e::skip("a lab in memory", "there is no /dev/shm that this user may write to");
        return Ok(());
    };
    let dir = memory.path().join("l");
    let up = |more: &[&str]| {
        let words = ["lab", "up", "--nodes", "1", "--networks", "1", "--dir"];
        e2e::run(std::process::Command::new(e2e::cardea()).args(words).arg(&dir).args(more))
    };
    let said = up(&["--bare", "sleep", "1000"])?;
    assert_eq!(said.exit_status, Some(1));
    assert!(said.err.contains("--volatile"), "the way out is named: {}", said.err);
    assert!(!dir.exists(), "nothing is left");
    let said = up(&["--volatile", "--bare", "sleep", "1000"])?;
    let down = e2e::run(std::process::Command::new(e2e::cardea()).args(["lab", "down", "--dir"]).arg(&dir))?;
    said.ok()?;
    down.ok()?;
    until("the folder is gone", || if dir.exists() { Err(dir.display().to_string()) } else { Ok(()) })
}

#[test]
fn a_folder_that_is_not_a_labs_is_left_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("thesis.txt"), "years of work")?;
    let words = ["lab", "up", "--nodes", "1", "--dir"];
    let said = e2e::run(std::process::Command::new(e2e::cardea()).args(words).arg(folder.path()))?;
    assert_eq!(said.exit_status, Some(1));
    assert!(said.err.contains("--dir"), "{}", said.err);
    assert!(folder.path().join("thesis.txt").exists());
    Ok(())
}
