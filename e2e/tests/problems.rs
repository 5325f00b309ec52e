//! Does status show each fault, on every node, for as long as it lasts?

use anyhow::{Context as _, Result};
use e2e::{Lab, cluster_file, processes, until};
use serde_json::Value;

const MORE: &str = "\
[resources.elsewhere]
agent = \"cardea:process\"
command = [\"sleep\", \"100000\"]
prefer = [\"a\"]
";

/// What a node says of a problem of this kind and subject.
fn fault(lab: &Lab, node: &str, kind: &str, subject: &str) -> Result<Option<Value>, String> {
    let status = lab.node(node).status().map_err(|error| format!("{node}: {error:#}"))?;
    let faults = status["faults"].as_array().cloned().ok_or_else(|| format!("{node} has no faults: {status}"))?;
    Ok(faults.into_iter().find(|fault| fault["kind"] == kind && fault["subject"] == subject))
}

/// Waits until each of these nodes shows the problem, with its beginning and in its history; returns the last one's.
fn seen_on(lab: &Lab, nodes: &[&str], kind: &str, subject: &str) -> Result<Value> {
    let mut last = Value::Null;
    for node in nodes {
        last = until(&format!("{node} shows {kind} of {subject}"), || {
            let found = fault(lab, node, kind, subject)?.filter(|fault| fault["since"] != "");
            found
                .ok_or_else(|| lab.node(node).status().map_or_else(|e| format!("{e:#}"), |s| s["problems"].to_string()))
        })
        .with_context(|| lab.logs())?;
        in_history(lab, node, "problem", subject)?;
    }
    Ok(last)
}

fn in_history(lab: &Lab, node: &str, event: &str, subject: &str) -> Result<()> {
    until(&format!("{event} of {subject} is in the history of {node}"), || {
        let path = format!("/v1/history?limit=1000&subject={}", subject.replace(' ', "%20"));
        let history = lab.node(node).api().get(&path).map_err(|error| format!("{error:#}"))?;
        let items = history.as_array().cloned().unwrap_or_default();
        if items.iter().any(|item| item["event"] == event) { Ok(()) } else { Err(format!("{history}")) }
    })
}

fn over_on(lab: &Lab, nodes: &[&str], kind: &str, subject: &str) -> Result<()> {
    for node in nodes {
        until(&format!("{kind} of {subject} is over on {node}"), || match fault(lab, node, kind, subject)? {
            Some(fault) => Err(fault.to_string()),
            None => Ok(()),
        })?;
        in_history(lab, node, "problem-over", subject)?;
    }
    Ok(())
}

/// One port of three is closed, links go up and down, a worker ends again and again: every node tells, and tells when it
/// is over; a new worker knows what was before.
#[test]
fn closed_ports_flapping_links_and_restarts_are_problems_on_every_node() -> Result<()> {
    let lab = Lab::with_file(&cluster_file(&["a", "b", "c"], MORE))?;
    lab.wait_until_whole()?;
    let all = ["a", "b", "c"];
    let rules = "add table inet shut; add chain inet shut in { type filter hook input priority 0; }; \
                 add rule inet shut in udp dport 7601 drop";
    let said = lab.exec("c", &["nft", rules])?;
    if said.exit_status != Some(0) {
        e2e::skip("closing a port", said.err.trim());
        return Ok(());
    }
    seen_on(&lab, &["a", "b"], "not-answering", "c")?;
    for node in ["a", "b"] {
        let status = lab.node(node).status()?;
        let c =
            status["nodes"].as_array().into_iter().flatten().find(|n| n["name"] == "c").cloned().unwrap_or_default();
        assert_eq!((&c["eligible"], &c["caught_up"]), (&false.into(), &false.into()), "{node}: {c}");
        let checked = lab.node(node).cardea(&["status", "--check"])?;
        assert_eq!(checked.exit_status, Some(2), "{checked:?}");
        assert!(checked.out.starts_with("CRITICAL: ") && checked.out.lines().count() == 1, "{checked:?}");
    }
    lab.exec("c", &["nft", "delete table inet shut"])?.ok()?;
    over_on(&lab, &["a", "b"], "not-answering", "c")?;
    lab.wait_until_whole()?;

    for _ in 0..3 {
        lab.must(&["cut", "b", "--network", "2"])?;
        until("the link is down", || {
            fault(&lab, "a", "link-down", "network 2 a-b")?.map(|_| ()).ok_or_else(|| "it is up".to_owned())
        })?;
        lab.must(&["heal", "b"])?;
        until("the link is up", || match fault(&lab, "a", "link-down", "network 2 a-b")? {
            Some(fault) => Err(fault.to_string()),
            None => Ok(()),
        })?;
        until("the link is up for long enough", || {
            let status = lab.node("a").status().map_err(|error| format!("{error:#}"))?;
            let b = &status["nodes"][1];
            if b["links"][1]["state"] == "up" { Ok(()) } else { Err(b.to_string()) }
        })?;
    }
    seen_on(&lab, &all, "link-flaps", "network 2 a-b")?;

    for _ in 0..3 {
        let worker = lab.worker("b")?;
        processes::kill(&worker);
        until("another worker answers", || {
            let now = lab.worker("b").map_err(|error| error.to_string())?;
            if now.pid == worker.pid { Err("it is the old one".to_owned()) } else { Ok(()) }
        })?;
        lab.wait_until_whole()?;
    }
    seen_on(&lab, &all, "worker-restarts", "b")?;
    in_history(&lab, "b", "problem", "network 2 a-b").context("the workers before told of it")?;
    let events = lab.node("b").api().events()?;
    let starts = events.iter().filter(|event| event["event"] == "started").count();
    assert!(starts >= 4, "the events of the workers before are kept: {starts}");
    let numbers: Vec<u64> = events.iter().filter_map(|event| event["number"].as_u64()).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "no number comes twice");
    Ok(())
}

/// What a fence device would answer when it is needed is found out before.
#[test]
fn fence_devices_that_would_not_do_are_problems_before_they_are_needed() -> Result<()> {
    let lab = Lab::reserve()?;
    let says = lab.write("says", "0")?;
    let agent = lab.program("fence_says", &format!("#!/bin/sh\necho 'login refused' >&2\nexit $(cat {says})\n"))?;
    let file = cluster_file(&["a", "b", "c"], MORE).replace("agent = \"fence_lab\"", &format!("agent = \"{agent}\""));
    let first = lab.write("first.toml", &file)?;
    lab.must(&["up", "--file", &first])?;
    lab.wait_until_whole()?;
    let test = |node: &str| lab.node("a").cardea(&["fence", "test", node]);
    assert_eq!(test("b")?.exit_status, Some(0), "it reads on");
    std::fs::write(&says, "2")?;
    let tested = test("b")?;
    assert_eq!(tested.exit_status, Some(1), "off is no answer for a node that is heard: {tested:?}");
    assert!(tested.out.contains("reads off, but b is heard"), "{tested:?}");
    for subject in ["a", "b"] {
        seen_on(&lab, &["a", "b"], "fence-reads-off", subject)?;
    }
    std::fs::write(&says, "1")?;
    let fault = seen_on(&lab, &["a", "b"], "fence-device", "b")?;
    assert!(fault["text"].as_str().is_some_and(|text| text.contains("login refused")), "{fault}");
    over_on(&lab, &["a", "b"], "fence-reads-off", "b")?;
    std::fs::write(&says, "0")?;
    over_on(&lab, &["a", "b"], "fence-device", "b")?;
    std::fs::remove_file(&agent)?;
    seen_on(&lab, &["a", "b"], "fence-agent", "b")?;
    Ok(())
}
