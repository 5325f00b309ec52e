//! What if the power of a whole site comes back, and not every machine with it?

use anyhow::{Context as _, Result};
use e2e::{Lab, now_us, until};
use serde_json::Value;

/// What happens to a node that is taken for lost.
const ENDS: [&str; 3] = ["condemned", "fence-called", "fenced"];

/// Gives power to these nodes; returns where the service runs then.
fn power_up(lab: &Lab, nodes: &[String]) -> Result<String> {
    let words: Vec<&str> = std::iter::once("start").chain(nodes.iter().map(String::as_str)).collect();
    lab.must(&words)?;
    until("the service runs on a node that has power", || {
        let place = lab.place_now("web")?;
        if nodes.contains(&place) { Ok(place) } else { Err(format!("it was on {place}")) }
    })
}

fn boot_of(lab: &Lab, node: &str) -> Result<Value> {
    let status = lab.lab_status()?;
    let found = status["nodes"].as_array().and_then(|nodes| nodes.iter().find(|found| found["name"] == node));
    Ok(found.context("a node of the lab")?["boot_id"].clone())
}

#[test]
fn after_a_power_failure_of_the_site_the_machine_that_boots_last_is_waited_for() -> Result<()> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let place = lab.place_of("web")?;
    let (late, others): (Vec<String>, Vec<String>) = {
        let names = lab.names()?;
        let late = names.iter().rfind(|name| **name != place).context("another node")?.clone();
        names.into_iter().partition(|name| *name == late)
    };
    let late = &late[0];
    lab.must(&["crash", "--all"])?;
    let since = now_us();
    lab.must(&["start", late, "--boot-takes", "8s"])?;
    let boot = boot_of(&lab, late)?;
    power_up(&lab, &others)?;
    until("the late one is back", || {
        let member = lab.member(late)?;
        if member["state"] == "online" { Ok(()) } else { Err(member.to_string()) }
    })?;
    lab.wait_until_whole()?;
    let ends = lab.events_of(&ENDS, since)?;
    assert!(ends.is_empty(), "nobody is switched off while it boots: {ends:?}");
    assert_eq!(boot_of(&lab, late)?, boot, "it booted once");
    Ok(())
}

#[test]
fn a_machine_that_never_comes_back_holds_nobody_up() -> Result<()> {
    let lab = Lab::up(&[])?;
    lab.wait_until_whole()?;
    let gone = lab.place_of("web")?;
    lab.must(&["crash", "--all"])?;
    let others: Vec<String> = lab.names()?.into_iter().filter(|name| *name != gone).collect();
    let place = power_up(&lab, &others)?;
    let page = lab.fetch(&place, "10.77.1.100", 8080)?;
    assert!(page.contains(&place), "{page}");
    lab.must(&["start", &gone])?;
    lab.wait_until_whole()?;
    Ok(())
}
