//! Does the demo keep its promise, and does it clean up behind itself?

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use e2e::{Lab, cardea, processes, run, until};
use rustix::process::Signal;

#[test]
fn the_service_survives_every_fault_and_never_answers_from_two_nodes() -> Result<()> {
    let lab = Lab::reserve()?;
    let said = run(Command::new(cardea()).args(["demo", "--json", "--runs", "1", "--dir"]).arg(lab.dir()))?;
    let report = said.json()?;
    assert_eq!(said.exit_status, Some(0), "{report}\n{}", said.err);
    assert_eq!(report["runs"], 1);
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(report["double_answers"], 0, "{report}");
    let steps = report["steps"].as_array().context("a list of steps")?;
    let faults: Vec<&str> = steps.iter().filter_map(|step| step["fault"].as_str()).collect();
    assert_eq!(faults, ["kill", "poweroff", "poweroff", "cut", "cut", "freeze", "freeze", "move"]);
    for pair in steps[1..7].chunks(2) {
        assert_eq!(
            (&pair[0]["leader"], &pair[1]["leader"]),
            (&true.into(), &false.into()),
            "both roles are hit: {report}"
        );
    }
    for step in steps {
        for field in [
            "detected_ms",
            "elected_ms",
            "condemned_ms",
            "fenced_ms",
            "granted_ms",
            "address_ms",
            "ready_ms",
            "client_ms",
            "outage_ms",
            "reason",
        ] {
            assert!(step.get(field).is_some(), "{field} is missing in {step}");
        }
        assert!(step["outage_ms"].as_f64() > Some(0.0), "{step}");
        assert!(step["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{step}");
    }
    for fault in ["kill", "poweroff", "cut", "freeze", "move"] {
        for figure in ["min", "median", "max"] {
            assert!(report["summary"][fault]["outage_ms"][figure].is_number(), "{fault} {figure}: {report}");
        }
    }
    assert!(!lab.dir().exists(), "the folder is gone");
    lab.expect_no_process()
}

#[test]
fn ctrl_c_in_the_middle_of_the_demo_leaves_nothing_behind() -> Result<()> {
    let lab = Lab::reserve()?;
    let mut demo = Command::new(cardea())
        .args(["demo", "--dir"])
        .arg(lab.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    until("three daemons run", || {
        let workers = processes::mentioning("--worker").into_iter();
        let dir = lab.dir().to_string_lossy().into_owned();
        let ours = workers.filter(|worker| worker.argv.iter().any(|word| word.contains(&dir))).count();
        if ours == 3 { Ok(()) } else { Err(format!("{ours} workers")) }
    })?;
    let process = processes::read(i32::try_from(demo.id())?).context("the demo runs")?;
    processes::signal(&process, Signal::INT);
    assert_eq!(demo.wait()?.code(), Some(130));
    assert!(!lab.dir().exists(), "the folder is gone");
    lab.expect_no_process()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    assert!(!mounts.contains(&*lab.dir().to_string_lossy()), "no mount is left");
    Ok(())
}
