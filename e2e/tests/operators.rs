//! Does every command of an operator do what it says, from any node?

use anyhow::Result;
use e2e::{Lab, Node, cluster_file, until};
use serde_json::Value;

/// What the default cluster of a lab runs, with another time between checks: another version, nothing restarts.
const SITE: &str = "\
[resources.address]
agent = \"cardea:ip\"
address = \"10.77.1.100/24\"

[resources.web]
agent = \"cardea:process\"
command = [\"cardea-web\"]
http = \"http://10.77.1.100:8080/\"
monitor = { every = \"7s\" }

[groups.site]
members = [\"address\", \"web\"]
";

fn runs_on(lab: &Lab, node: &str) -> Result<()> {
    until(&format!("site runs on {node}"), || {
        for resource in ["address", "web"] {
            let place = lab.place_now(resource)?;
            if place != node {
                return Err(format!("{resource} runs on {place}"));
            }
        }
        Ok(())
    })
}

fn another(names: &[String], than: &str) -> String {
    names.iter().find(|name| *name != than).expect("there are three").clone()
}

fn refused(node: &Node, words: &[&str], because: &str) -> Result<()> {
    let said = node.cardea(words)?;
    assert_eq!(said.exit_status, Some(1), "{said:?}");
    assert!(said.err.contains(because), "`{because}` is not in: {}", said.err);
    assert!(said.err.trim_end().lines().count() >= 2, "the next step stands on a line of its own: {}", said.err);
    Ok(())
}

fn has_fields(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "{field} is missing in {value}");
    }
}

#[test]
fn an_operator_is_told_the_truth_and_obeyed_from_every_node() -> Result<()> {
    let lab = Lab::up(&[])?;
    let status = lab.wait_until_whole()?;
    let names = lab.names()?;
    let place = lab.place_of("web")?;
    // Whoever does not lead passes the wish on.
    let leader = lab.leader()?.name;
    let asked = lab.node(&another(&names, &leader));
    let asked = &asked;

    has_fields(
        &status,
        &["version", "cluster", "config_version", "quorate", "leader", "term", "nodes", "resources", "problems"],
    );
    has_fields(&status["nodes"][0], &["name", "state", "role", "links"]);
    has_fields(&status["nodes"][0]["links"][0], &["address", "state", "rtt_ms", "loss"]);
    has_fields(&status["resources"][0], &["name", "state", "role", "node", "since", "reason"]);
    let printed = asked.must(&["status", "--json"])?.json()?;
    assert_eq!(printed["leader"], status["leader"], "every node says the same");
    // A link that stumbled meanwhile comes back by itself.
    until("a whole cluster has no problems", || {
        let status = asked.must(&["status", "--json"]).and_then(|said| said.json()).map_err(|e| format!("{e:#}"))?;
        if status["problems"] == serde_json::json!([]) { Ok(()) } else { Err(status["problems"].to_string()) }
    })?;
    let words = asked.must(&["status"])?.out;
    assert!(words.contains("site/web") && words.contains("leader"), "{words}");
    let page = lab.fetch(&another(&names, &place), "10.77.1.100", 8080)?;
    assert!(page.contains(&place), "the page names its node: {page}");

    let supposed = asked.must(&["plan", "--what-if", &format!("node={place}:lost")])?.out;
    assert!(supposed.contains(&format!("fence {place}")) && supposed.contains("start web on"), "{supposed}");
    let supposed = asked.must(&["plan", "--what-if", &format!("standby={place}"), "--json"])?.json()?;
    has_fields(&supposed, &["placement", "actions", "order", "decisions", "nodes"]);
    refused(asked, &["plan", "--what-if", "node=zebra:lost"], "zebra")?;
    assert_eq!(lab.place_now("web").map_err(anyhow::Error::msg)?, place, "asking changes nothing");

    let target = another(&names, &place);
    asked.must(&["move", "site", "--to", &target, "--reason", "a test"])?;
    runs_on(&lab, &target)?;
    let reason = lab.resource("web").map_err(anyhow::Error::msg)?["reason"].to_string();
    assert!(reason.contains("a test"), "the reason given is the reason told: {reason}");
    refused(asked, &["move", "site", "--to", "zebra"], "zebra")?;
    refused(asked, &["move", "web"], "site")?;
    refused(asked, &["move", "site", "--to", &target], "already")?;

    asked.must(&["standby", &target, "--reason", "new memory"])?;
    let place = until("site leaves a node in standby", || {
        let place = lab.place_now("web")?;
        if place == target { Err(format!("still on {place}")) } else { Ok(place) }
    })?;
    until("the node is in standby", || {
        let member = lab.member(&target)?;
        if member["state"] == "standby" { Ok(()) } else { Err(member.to_string()) }
    })?;
    refused(asked, &["move", "site", "--to", &target], "standby")?;
    let explained = asked.must(&["explain", "site", "--json"])?.json()?;
    has_fields(&explained, &["version", "subject", "decision", "nodes", "history"]);
    let why = explained["nodes"].as_array().and_then(|nodes| nodes.iter().find(|node| node["node"] == target.as_str()));
    assert_eq!(why.map(|why| &why["can_run"]), Some(&Value::Bool(false)), "{explained}");
    asked.must(&["standby", &target, "--off"])?;
    lab.wait_until_whole()?;
    assert_eq!(lab.place_of("web")?, place, "nothing moves only because a node is back");

    asked.must(&["stop", "site", "--reason", "a backup"])?;
    until("site is stopped", || {
        let resource = lab.resource("web")?;
        if resource["state"] == "stopped" && resource["node"].is_null() { Ok(()) } else { Err(resource.to_string()) }
    })?;
    for name in &names {
        until("no service runs", || {
            let left = lab.running(name, "web");
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })?;
    }
    let words = asked.must(&["status"])?.out;
    assert!(words.contains("a backup"), "who looks sees why: {words}");
    asked.must(&["start", "site"])?;
    let place = lab.place_of("web")?;
    let said = asked.must(&["start", "site"])?;
    assert!(said.out.contains("not stopped"), "what is so already is no fault: {said:?}");
    refused(asked, &["fence", &place], "--yes")?;

    // Hands off means that even a death is left alone.
    asked.must(&["maintenance", "--reason", "hands off"])?;
    let dead = lab.running(&place, "web").into_iter().next().expect("the service has a process");
    e2e::processes::kill(&dead);
    until("the death is seen", || {
        let resource = lab.resource("web")?;
        if resource["state"] == "failed" { Ok(()) } else { Err(resource.to_string()) }
    })?;
    assert_eq!(lab.running(&place, "web"), [], "and nothing is done about it");
    asked.must(&["maintenance", "--off"])?;
    runs_on(&lab, &place)?;
    let status = lab.status().map_err(anyhow::Error::msg)?;
    assert!(status["problems"].to_string().contains("cardea clear"), "a failure stays in sight: {status}");
    asked.must(&["clear", "--reason", "it was us"])?;
    until("failures are forgotten", || {
        let status = lab.status()?;
        if status["problems"] == serde_json::json!([]) { Ok(()) } else { Err(status["problems"].to_string()) }
    })?;

    let before = asked.status()?["config_version"].as_u64().expect("a number");
    let file = lab.write("second.toml", &cluster_file(&["a", "b", "c"], SITE))?;
    let plan = asked.must(&["plan", &file, "--json"])?.json()?;
    has_fields(&plan, &["version", "config_version", "decisions", "steps", "warnings"]);
    assert_eq!(plan["steps"], serde_json::json!([]), "another time between checks moves nothing");
    let stale = (before + 1).to_string();
    refused(asked, &["apply", &file, "--yes", "--expect-version", &stale], "version")?;
    refused(asked, &["apply", &file], "--yes")?;
    let other = lab.write("other.toml", &cluster_file(&["a", "b", "c"], SITE).replace("\"lab\"", "\"shop\""))?;
    refused(asked, &["apply", &other, "--yes"], "`shop`")?;
    let unasked = asked.cardea(&["apply", &file, "--json"])?;
    assert_eq!((unasked.exit_status, &unasked.json()?["code"]), (Some(1), &Value::from("unconfirmed")));
    let broken = lab.write("broken.toml", "cluster = ")?;
    refused(asked, &["apply", &broken, "--yes"], "broken.toml")?;
    let served_by = lab.running(&place, "web");
    asked.must(&["apply", &file, "--yes", "--reason", "calmer"])?;
    let after = until("the file is current here", || {
        let version = asked.status().map_err(|error| error.to_string())?["config_version"].as_u64();
        version.filter(|version| *version > before).ok_or_else(|| format!("{version:?}"))
    })?;
    let kept = asked.must(&["history", "--versions", "--json"])?.json()?;
    let last = kept.as_array().and_then(|kept| kept.last()).cloned().unwrap_or_default();
    assert_eq!((last["config_version"].as_u64(), last["reason"].as_str()), (Some(after), Some("calmer")), "{kept}");
    let again = asked.must(&["apply", &file, "--yes"])?;
    assert!(again.out.contains("nothing changed"), "the same text makes no version: {again:?}");
    refused(asked, &["rollback", &before.to_string()], "--yes")?;
    asked.must(&["rollback", &before.to_string(), "--yes"])?;
    until("the old file is current again", || {
        let text = asked.cardea(&["history", "--versions", "--json"]).and_then(|said| said.json());
        let text = text.map_err(|error| error.to_string())?;
        let kept = text.as_array().cloned().unwrap_or_default();
        let text_of = |version: u64| kept.iter().find(|item| item["config_version"].as_u64() == Some(version));
        let newest = kept.last().cloned().unwrap_or_default();
        match text_of(before) {
            Some(old) if newest["config_version"].as_u64() > Some(after) && newest["text"] == old["text"] => Ok(()),
            Some(_) | None => Err(newest.to_string()),
        }
    })?;
    refused(asked, &["rollback", "4711"], "4711")?;
    assert_eq!(lab.running(&place, "web"), served_by, "the service never noticed");

    let history = asked.must(&["history", "--json"])?.json()?.to_string();
    for reason in ["a test", "new memory", "a backup", "hands off", "calmer"] {
        assert!(history.contains(reason), "`{reason}` is not in the history: {history}");
    }
    let told = asked.must(&["events", "--json"])?;
    let event: Value = serde_json::from_str(told.out.lines().next().unwrap_or_default())?;
    has_fields(&event, &["number", "at_us", "wall_ms", "node", "event", "subject", "reason"]);

    let tested = asked.must(&["fence", "test", "--json"])?.json()?;
    let tests = tested["fence_tests"].as_array().expect("a list");
    assert_eq!(tests.len(), 3, "{tested}");
    assert!(tests.iter().all(|test| test["ok"] == true && test["answer"] == "on"), "{tested}");

    let next = another(&names, &lab.leader()?.name);
    asked.must(&["lead", &next])?;
    until("leadership is where it was sent", || {
        let leader = lab.status()?["leader"].as_str().map(str::to_owned);
        if leader.as_deref() == Some(next.as_str()) { Ok(()) } else { Err(format!("{leader:?}")) }
    })?;
    lab.wait_until_whole()?;
    assert_eq!(lab.running(&place, "web"), served_by, "leaders come and go");
    assert_eq!(
        lab.events_of(&["condemned", "fence-called", "suspect"], 0)?,
        Vec::<Value>::new(),
        "nobody was ever in doubt"
    );
    Ok(())
}

#[test]
fn a_node_that_stands_alone_tells_what_it_knew_and_changes_nothing() -> Result<()> {
    let lab = Lab::with_file(&cluster_file(&["a", "b", "c"], ""))?;
    lab.wait_until_whole()?;
    let alone = lab.node("c");
    lab.must(&["cut", "c"])?;
    let status = until("c knows that it is alone", || {
        let status = alone.status().map_err(|error| error.to_string())?;
        if status["quorate"] == false { Ok(status) } else { Err(status.to_string()) }
    })?;
    assert!(status["leader"].is_null(), "{status}");
    let said = alone.must(&["status", "--json"])?.json()?;
    assert_eq!(said["quorate"], false);
    until("the picture grows old", || {
        let age = alone.status().map_err(|error| error.to_string())?["age_ms"].as_u64();
        if age > Some(500) { Ok(()) } else { Err(format!("{age:?}")) }
    })?;
    let words = alone.must(&["status"])?.out;
    assert!(words.contains("NOT QUORATE") && words.contains(" s old"), "{words}");
    refused(&alone, &["standby", "a"], "majority")?;
    lab.must(&["heal", "c"])?;
    lab.wait_until_whole()?;
    Ok(())
}

#[test]
fn labs_of_one_two_and_seven_nodes_come_up_whole() -> Result<()> {
    for nodes in ["1", "2", "7"] {
        let lab = Lab::up(&["--nodes", nodes])?;
        let status = lab.wait_until_whole()?;
        let members = status["nodes"].as_array().into_iter().flatten().filter(|node| node["role"] == "member").count();
        assert_eq!(members.to_string(), nodes);
        assert_eq!(lab.place_of("web")?, lab.place_of("address")?);
    }
    Ok(())
}

#[test]
fn whoever_hears_of_a_change_and_then_looks_sees_it() -> Result<()> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let leader = lab.leader()?;
    let nodes = lab.nodes()?;
    let (sender, heard) = std::sync::mpsc::channel();
    for node in nodes.clone() {
        let sender = sender.clone();
        // It ends with the lab.
        std::thread::spawn(move || {
            let api = node.api();
            let _ = api.follow(|event| {
                let version = event["subject"].as_str().and_then(|subject| subject.strip_prefix("version "));
                let Some(version) = version.and_then(|version| version.parse::<u64>().ok()) else { return true };
                let seen = api.get("/v1/status").map(|status| status["config_version"].as_u64());
                sender.send((node.name.clone(), version, seen)).is_ok()
            });
        });
    }
    let mut answered = 0;
    for run in 0..20 {
        let text = cluster_file(&["a", "b", "c"], &SITE.replace("7s", &format!("{}s", 10 + run)));
        let request = serde_json::json!({"apply": {"text": text, "expected_version": null, "reason": "another time"}});
        answered = leader.api().request(&request)?["index"].as_u64().expect("an answer has a version");
        let seen = leader.status()?["config_version"].as_u64();
        assert!(seen >= Some(answered), "version {answered} was answered, and {seen:?} is shown");
    }
    let mut left = nodes.len();
    while left > 0 {
        let (name, version, seen) = heard.recv_timeout(std::time::Duration::from_secs(10))?;
        let seen = seen?;
        assert!(seen >= Some(version), "{name} told of version {version}, and shows {seen:?}");
        left -= usize::from(version == answered);
    }
    Ok(())
}
