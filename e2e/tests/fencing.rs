//! What if a lost node cannot be fenced? Its services wait, the operator is told what to do, and can.

use anyhow::Result;
use e2e::{Lab, cluster_file, now_us, until};

const SITE: &str = "\
[resources.address]
agent = \"cardea:ip\"
address = \"10.77.1.100/24\"

[resources.web]
agent = \"cardea:process\"
command = [\"cardea-web\"]
http = \"http://10.77.1.100:8080/\"

[groups.site]
members = [\"address\", \"web\"]
prefer = [\"a\"]

[resources.elsewhere]
agent = \"cardea:process\"
command = [\"sleep\", \"100000\"]
prefer = [\"b\"]
";

#[test]
fn a_dead_fence_device_blocks_what_needs_it_alone_until_an_operator_confirms() -> Result<()> {
    // Nobody listens on this address: the device is dead.
    let file = cluster_file(&["a", "b", "c"], SITE).replace("10.77.1.254,10.77.2.254", "10.77.1.253");
    let file = file.replace("agent = \"fence_lab\"", "agent = \"fence_lab\"\ntimeout = \"2s\"");
    let lab = Lab::with_file(&file)?;
    lab.wait_until_whole()?;
    assert_eq!(lab.place_of("web")?, "a");
    let elsewhere = lab.place_of("elsewhere")?;
    let tested = lab.node("b").cardea(&["fence", "test"])?;
    assert_eq!(tested.exit_status, Some(1), "a dead device is found before it is needed: {tested:?}");
    assert!(tested.out.contains("FAILED"), "{}", tested.out);

    let since = now_us();
    lab.must(&["crash", "a"])?;
    lab.wait_for_event("fence-failed", "a", since)?;
    let status = until("status names the next step", || {
        let status = lab.status()?;
        if status["problems"].to_string().contains("--confirm-off") { Ok(status) } else { Err(status.to_string()) }
    })?;
    assert_eq!(lab.member("a").map_err(anyhow::Error::msg)?["state"], "condemned", "{status}");
    let granted = lab.events_of(&["granted"], since)?;
    assert!(granted.is_empty(), "nothing is given away while nobody knows that a is off: {granted:?}");
    assert_eq!(lab.place_of("elsewhere")?, elsewhere, "what does not need the device goes on");
    assert!(lab.fetch("b", "10.77.1.100", 8080).is_err());

    let asked = lab.node("c");
    let refusals: [(&[&str], &str); 3] = [
        (&["fence", "a", "--confirm-off", "--typed", "a"], "--reason"),
        (&["fence", "a", "--confirm-off", "--reason", "I pulled its plug"], "--typed"),
        (&["fence", "a", "--confirm-off", "--typed", "b", "--reason", "I pulled its plug"], "typed"),
    ];
    for (words, because) in refusals {
        let said = asked.cardea(words)?;
        assert_eq!(said.exit_status, Some(1), "{said:?}");
        assert!(said.err.contains(because), "`{because}` is not in {}", said.err);
    }
    asked.must(&["fence", "a", "--confirm-off", "--typed", "a", "--reason", "I pulled its plug"])?;
    let place = lab.place_of("web")?;
    assert_ne!(place, "a");
    let page = lab.fetch("b", "10.77.1.100", 8080)?;
    assert!(page.contains(&place), "{page}");
    let history = asked.must(&["history", "--json"])?.out;
    assert!(history.contains("I pulled its plug"), "who said so is recorded: {history}");

    lab.must(&["start", "a"])?;
    lab.wait_until_whole()?;
    Ok(())
}

#[test]
fn a_node_that_is_cut_off_is_fenced_and_cannot_fence() -> Result<()> {
    let lab = Lab::with_file(&cluster_file(&["a", "b", "c"], SITE))?;
    lab.wait_until_whole()?;
    assert_eq!(lab.place_of("web")?, "a");
    let since = now_us();
    lab.must(&["cut", "a"])?;
    lab.wait_for_event("fenced", "a", since)?;
    let place = lab.place_of("web")?;
    assert_ne!(place, "a");
    let status = lab.lab_status()?;
    let power = |name: &str| {
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().find(|node| node["name"] == name).map(|node| node["power"].to_string())
    };
    assert_eq!(power("a").as_deref(), Some("\"off\""), "off, and it stays off: {status}");
    assert_eq!((power("b").as_deref(), power("c").as_deref()), (Some("\"on\""), Some("\"on\"")), "{status}");
    let order: Vec<String> = lab
        .events_of(&["condemned", "fenced", "granted"], since)?
        .iter()
        .filter(|event| event["node"] == place.as_str())
        .filter_map(|event| event["event"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(order[..3], ["condemned", "fenced", "granted"], "a grant waits for the fence");

    // A node that an operator fences is switched off, and comes back when it is switched on.
    lab.must(&["heal"])?;
    lab.must(&["start", "a"])?;
    lab.wait_until_whole()?;
    if lab.leader()?.name == place {
        // Who leads cannot fence itself.
        lab.leader()?.must(&["lead", "a"])?;
        until("a leads", || {
            if lab.leader().is_ok_and(|leader| leader.name == "a") { Ok(()) } else { Err(place.clone()) }
        })?;
        lab.wait_until_whole()?;
    }
    let since = now_us();
    lab.leader()?.must(&["fence", &place, "--yes", "--reason", "it smells"])?;
    lab.wait_for_event("fenced", &place, since)?;
    let next = until("the service runs elsewhere", || {
        let next = lab.place_now("web")?;
        if next == place { Err(format!("still on {place}")) } else { Ok(next) }
    })?;
    assert_ne!(next, place);
    lab.must(&["start", &place])?;
    lab.wait_until_whole()?;
    Ok(())
}
