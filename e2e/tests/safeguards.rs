//! Is a cluster safe from a wrong word, a former member, and a timer that was too short?

use std::time::Duration;

use anyhow::Result;
use e2e::{Lab, cluster_file, now_us, until};

const SLEEPER: &str = "\
[resources.sleeper]
agent = \"cardea:process\"
command = [\"sleep\", \"1000000\"]
";

#[test]
fn nobody_can_attest_that_a_node_is_off_while_it_is_heard() -> Result<()> {
    let lab = Lab::with_file(&cluster_file(&["a", "b", "c"], SLEEPER))?;
    lab.wait_until_whole()?;
    let place = lab.place_of("sleeper")?;
    let service = lab.running(&place, "1000000");
    let others: Vec<String> = lab.names()?.into_iter().filter(|name| *name != place).collect();
    if lab.leader()?.name == place {
        lab.leader()?.must(&["lead", &others[0]])?;
        until("another leads", || {
            let leader = lab.status()?["leader"].as_str().map(str::to_owned);
            if leader.as_deref() == Some(others[0].as_str()) { Ok(()) } else { Err(format!("{leader:?}")) }
        })?;
        lab.wait_until_whole()?;
    }
    let since = now_us();
    for asked in &others {
        let words = ["fence", &place, "--confirm-off", "--typed", &place, "--reason", "it looks dead"];
        let said = lab.node(asked).cardea(&words)?;
        assert_eq!(said.exit_status, Some(1), "{said:?}");
        assert!(said.err.contains(&format!("cardea fence {place}")), "the next step is named: {}", said.err);
    }
    assert_eq!(lab.running(&place, "1000000"), service);
    let harm = lab.events_of(&["condemned", "fenced", "granted"], since)?;
    assert!(harm.is_empty(), "{harm:?}");
    Ok(())
}

#[test]
fn a_former_member_is_listened_to_by_nobody() -> Result<()> {
    let stays_off = "agent = \"fence_lab\"\nafter_fence = \"off\"";
    let lab =
        Lab::with_file(&cluster_file(&["a", "b", "c", "d"], SLEEPER).replace("agent = \"fence_lab\"", stays_off))?;
    lab.wait_until_whole()?;
    if lab.leader()?.name == "d" {
        lab.leader()?.must(&["lead", "a"])?;
        until("a leads", || {
            if lab.leader().is_ok_and(|leader| leader.name == "a") { Ok(()) } else { Err(String::new()) }
        })?;
        lab.wait_until_whole()?;
    }
    // It is cut off, so that all it has stays on its disk.
    lab.leader()?.must(&["fence", "d", "--yes", "--reason", "it is replaced"])?;
    lab.wait_for_event("fenced", "d", 0)?;
    until("d may be removed", || {
        let said =
            lab.leader().and_then(|leader| leader.cardea(&["remove", "d"])).map_err(|error| format!("{error:#}"))?;
        if said.exit_status == Some(0) { Ok(()) } else { Err(said.err) }
    })?;
    let place = lab.place_of("sleeper")?;
    let service = lab.running(&place, "1000000");
    let since = now_us();
    lab.must(&["start", "d"])?;
    // It knows the key and has a certificate; nobody answers, and what it asks for is not done.
    let former = lab.node("d");
    let until_then = std::time::Instant::now() + Duration::from_secs(3);
    while std::time::Instant::now() < until_then {
        if let Ok(status) = former.status() {
            assert_ne!(status["quorate"], true, "{status}");
        }
        let said = former.cardea(&["stop", "sleeper"])?;
        assert_ne!(said.exit_status, Some(0), "{said:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let status = lab.status().map_err(anyhow::Error::msg)?;
    let names: Vec<&str> =
        status["nodes"].as_array().into_iter().flatten().filter_map(|n| n["name"].as_str()).collect();
    assert_eq!(names, ["a", "b", "c"], "{status}");
    assert_eq!(lab.running(&place, "1000000"), service);
    let mut harm = lab.events_of(&["suspect", "condemned", "fence-called", "granted", "joined"], since)?;
    harm.retain(|event| event["node"] != "d");
    assert!(harm.is_empty(), "{harm:?}");
    Ok(())
}

#[test]
fn a_profile_that_is_applied_counts_at_once() -> Result<()> {
    let text = cluster_file(&["a", "b", "c"], SLEEPER);
    let lab = Lab::with_file(&text)?;
    lab.wait_until_whole()?;
    let file =
        lab.write("wan.toml", &text.replacen("cluster = \"lab\"\n", "cluster = \"lab\"\nprofile = \"wan\"\n", 1))?;
    lab.leader()?.must(&["apply", &file, "--yes"])?;
    lab.wait_until_whole()?;
    let leader = lab.leader()?.name;
    let still = lab.names()?.into_iter().find(|name| *name != leader).expect("a node that follows");
    let since = now_us();
    // Twice as long as the profile before would have borne.
    lab.must(&["freeze", &still])?;
    std::thread::sleep(Duration::from_millis(500));
    lab.must(&["thaw", &still])?;
    lab.wait_until_whole()?;
    let harm = lab.events_of(&["condemned", "fence-called", "fenced"], since)?;
    assert!(harm.is_empty(), "{harm:?}");
    Ok(())
}
