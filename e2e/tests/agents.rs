//! Do agents of others run as they are?

use std::path::Path;

use anyhow::{Context as _, Result};
use e2e::{Lab, cluster_file, now_us, skip, until};

const AGENTS: &str = "/usr/lib/ocf/resource.d/heartbeat";

fn has(agents: &[&str]) -> bool {
    let missing: Vec<&&str> = agents.iter().filter(|agent| !Path::new(AGENTS).join(agent).exists()).collect();
    if !missing.is_empty() {
        skip("OCF agents", &format!("{missing:?} of the package resource-agents are missing"));
    }
    missing.is_empty()
}

#[test]
fn the_real_ocf_agents_run_and_move_when_their_node_dies() -> Result<()> {
    if !has(&["Dummy", "IPaddr2"]) {
        return Ok(());
    }
    let more = "\
[resources.dummy]
agent = \"ocf:heartbeat:Dummy\"

[resources.address]
agent = \"ocf:heartbeat:IPaddr2\"
ip = \"10.77.1.101\"
cidr_netmask = 24
nic = \"eth0\"

[groups.both]
members = [\"dummy\", \"address\"]
";
    let lab = Lab::with_file(&cluster_file(&["a", "b", "c"], more))?;
    let place = until("Dummy runs", || lab.place_now("dummy"))?;
    let address = until("IPaddr2 has answered", || {
        let resource = lab.resource("address")?;
        match resource["state"].as_str() {
            Some("running" | "failed") => Ok(resource),
            _ if resource["failures"].as_u64() > Some(0) => Ok(resource),
            _ => Err(resource.to_string()),
        }
    })?;
    let with_address = address["state"] == "running";
    if !with_address {
        let problems = lab.status().map_err(anyhow::Error::msg)?["problems"].to_string();
        assert!(!rustix::process::geteuid().is_root(), "root may do everything: {problems}\n{}", lab.logs());
        skip("ocf:heartbeat:IPaddr2 without rights", &problems);
    }
    if with_address {
        lab.wait_until_whole()?;
        let seen = lab.exec(&place, &["ip", "-4", "-o", "addr", "show", "dev", "eth0"])?.out;
        assert!(seen.contains("10.77.1.101/24"), "{seen}");
        lab.leader()?.must(&["stop", "both"])?;
        until("the address is gone", || {
            let seen = lab.exec(&place, &["ip", "-4", "-o", "addr"]).map_err(|error| error.to_string())?.out;
            if seen.contains("10.77.1.101") { Err(seen) } else { Ok(()) }
        })?;
        lab.leader()?.must(&["start", "both"])?;
        lab.wait_until_whole()?;
        let place = lab.place_of("dummy")?;
        let since = now_us();
        lab.must(&["crash", &place])?;
        lab.wait_for_event("fenced", &place, since)?;
        let next = until("both run elsewhere", || {
            let (dummy, address) = (lab.place_now("dummy")?, lab.place_now("address")?);
            if dummy == place || dummy != address { Err(format!("{dummy} {address}")) } else { Ok(dummy) }
        })?;
        let seen = lab.exec(&next, &["ip", "-4", "-o", "addr"])?.out;
        assert!(seen.contains("10.77.1.101/24"), "{seen}");
    }
    Ok(())
}

#[test]
fn a_missing_agent_an_agent_without_execute_bit_and_one_of_garbage_are_told_apart() -> Result<()> {
    let more = "\
[resources.missing]
agent = \"ocf:test:missing\"

[resources.unmarked]
agent = \"ocf:test:unmarked\"

[resources.garbage]
agent = \"ocf:test:garbage\"

[resources.endless]
agent = \"ocf:test:endless\"
start = { timeout = \"300ms\" }
";
    let lab = Lab::with_file(&cluster_file(&["a", "b", "c"], ""))?;
    for node in lab.nodes()? {
        let folder = node.root.join("usr/lib/ocf/resource.d/test");
        std::fs::create_dir_all(&folder)?;
        let agents = [
            ("unmarked", "#!/bin/sh\nexit 0\n", 0o644),
            (
                "garbage",
                "#!/bin/sh\nhead -c 100000 /dev/urandom\nhead -c 100000 /dev/urandom >&2\ncase $1 in start) exit 99;; monitor) exit 7;; *) exit 0;; esac\n",
                0o755,
            ),
            (
                "endless",
                "#!/bin/sh\ncase $1 in start) trap '' TERM; while :; do sleep 1; done;; monitor) exit 7;; *) exit 0;; esac\n",
                0o755,
            ),
        ];
        for (name, text, mode) in agents {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::write(folder.join(name), text)?;
            std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode))?;
        }
    }
    lab.wait_until_whole()?;
    let file = lab.write("agents.toml", &cluster_file(&["a", "b", "c"], more))?;
    let refused = lab.leader()?.cardea(&["apply", &file, "--yes"])?;
    assert_eq!(refused.exit_status, Some(1), "{refused:?}");
    for word in ["ocf:test:missing is not installed", "ocf:test:unmarked", "chmod +x", "--force"] {
        assert!(refused.err.contains(word), "`{word}` is not in: {}", refused.err);
    }
    lab.leader()?.must(&["apply", &file, "--yes", "--force", "--reason", "a try"])?;
    let history = lab.leader()?.must(&["history"])?.out;
    assert!(history.contains("a try (forced although"), "{history}");
    for name in ["missing", "unmarked", "garbage", "endless"] {
        let problem = until(&format!("{name} is told as a problem"), || {
            let status = lab.status()?;
            let problems = status["problems"].as_array().cloned().unwrap_or_default();
            let about = |problem: &&serde_json::Value| problem.as_str().is_some_and(|text| text.contains(name));
            problems.iter().find(about).map(ToString::to_string).ok_or_else(|| status.to_string())
        })?;
        assert!(problem.contains("cardea "), "the next step is named: {problem}");
    }
    for node in lab.names()? {
        until("an agent that never ends is ended", || {
            let left = lab.running(&node, "endless");
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })?;
    }
    Ok(())
}

/// What is forgotten or misspelt, as it was met with real agents; and what the status then says of it.
const MISTAKES: [(&str, &str, &str); 4] = [
    ("MailTo", "[resources.wrong]\nagent = \"ocf:heartbeat:MailTo\"\n", "Email"),
    ("Route", "[resources.wrong]\nagent = \"ocf:heartbeat:Route\"\ndestination = \"myhost\"\n", "device"),
    ("galera", "[resources.wrong]\nagent = \"ocf:heartbeat:galera\"\n", "multistate"),
    ("Dummy", "[resources.right]\nagent = \"ocf:heartbeat:Dumy\"\n", "Dumy"),
];

#[test]
fn a_mistake_in_the_file_powers_nothing_off_and_is_taken_back() -> Result<()> {
    const RIGHT: &str = "[resources.right]\nagent = \"ocf:heartbeat:Dummy\"\n";
    const BESIDES: &str = "\n[resources.besides]\nagent = \"ocf:heartbeat:Dummy\"\n\n";
    let names: Vec<&str> = MISTAKES.iter().map(|(agent, ..)| *agent).collect();
    if !has(&names) {
        return Ok(());
    }
    let of = |what: &str| cluster_file(&["a", "b", "c"], &format!("{BESIDES}{what}"));
    let lab = Lab::with_file(&of(RIGHT))?;
    let whole = lab.wait_until_whole()?;
    let version = whole["config_version"].as_u64().expect("a version");
    let place = lab.place_of("besides")?;
    for (agent, wrong, words) in MISTAKES {
        let since = now_us();
        let text = if agent == "Dummy" { of(wrong) } else { of(&format!("{RIGHT}\n{wrong}")) };
        let file = lab.write("wrong.toml", &text)?;
        let before = config_version(&lab)?;
        apply(&lab, &file)?;
        until(&format!("the status says what is wrong with {agent}"), || {
            let status = lab.status()?;
            let problems = status["problems"].to_string() + &status["units"].to_string();
            let says = |word: &str| problems.contains(word);
            let is_said = says(words) && says(&format!("cardea rollback {before}"));
            if is_said { Ok(()) } else { Err(status.to_string()) }
        })?;
        // The lab's devices need a fraction of this for a fence.
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert_eq!(lab.events_of(&["condemned", "fence-called", "fenced"], since)?, Vec::<serde_json::Value>::new());
        let request = serde_json::json!({ "rollback": { "to": before, "reason": "a mistake" } });
        lab.leader()?.api().request(&request)?;
        lab.wait_until_whole()?;
        assert_eq!(lab.place_of("besides")?, place, "{agent}");
        let touched = lab.events_of(&["running", "stopped", "failed"], since)?;
        assert!(touched.iter().all(|event| event["subject"] != "besides"), "{touched:?}");
    }
    assert_ne!(config_version(&lab)?, version);
    Ok(())
}

fn config_version(lab: &Lab) -> Result<u64> {
    let status = lab.status().map_err(anyhow::Error::msg)?;
    status["config_version"].as_u64().with_context(|| format!("no version: {status}"))
}

/// Applies a file, whatever the agents say about it.
fn apply(lab: &Lab, file: &str) -> Result<()> {
    lab.leader()?.must(&["apply", file, "--yes", "--force"])?;
    Ok(())
}

#[test]
fn a_file_that_the_agents_of_the_nodes_do_not_take_is_refused_with_the_place() -> Result<()> {
    if !has(&["Filesystem"]) {
        return Ok(());
    }
    let more = |key: &str| {
        format!(
            "[resources.data]\nagent = \"ocf:heartbeat:Filesystem\"\ndevice = \"/dev/none\"\n{key} = \"/srv/data\"\nfstype = \"ext4\"\nenabled = false\n"
        )
    };
    let lab = Lab::with_file(&cluster_file(&["a", "b", "c"], ""))?;
    lab.wait_until_whole()?;
    let typo = lab.write("typo.toml", &cluster_file(&["a", "b", "c"], &more("drectory")))?;
    let asked = lab.leader()?;
    for words in [&["check", &typo][..], &["apply", &typo, "--yes"]] {
        let said = asked.cardea(words)?;
        assert_eq!(said.exit_status, Some(1), "{said:?}");
        for word in ["no parameter `drectory`", "did you mean `directory`?", "needs `directory`"] {
            assert!(said.err.contains(word), "`{word}` is not in: {}", said.err);
        }
    }
    let plan = asked.cardea(&["plan", &typo])?;
    assert!(plan.exit_status == Some(1) && plan.err.contains("would refuse this file"), "{plan:?}");
    // A node where the agent cannot be run is named; those where it can are not.
    let c = lab.node("c");
    let folder = c.root.join("usr/lib/ocf/resource.d/heartbeat");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("Filesystem"), "#!/bin/sh\n")?;
    let right = lab.write("right.toml", &cluster_file(&["a", "b", "c"], &more("directory")))?;
    let said = asked.cardea(&["apply", &right, "--yes"])?;
    assert!(said.exit_status == Some(1) && said.err.contains("cannot be run on c"), "{said:?}");
    std::fs::remove_file(folder.join("Filesystem"))?;
    asked.must(&["apply", &right, "--yes"])?;
    Ok(())
}
