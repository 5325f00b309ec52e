//! How do machines become a cluster? As on real ones: `init` on the first, `join` on the others, `apply` of the file.
//!
//! In: machines that are on, with empty disks. Out: a cluster in which every node votes, as far as it should, and is caught up.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use api::{NodeStatus, Status};

use super::daemon_api;
use super::layout::Layout;
use super::machine::Machine;

/// Longest time that a step of bringing up may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to wait for the services of a fresh cluster.
const STARTED_LIMIT: Duration = Duration::from_secs(5);

/// How often a node is asked whether it is there yet.
const PAUSE: Duration = Duration::from_millis(10);

/// Makes a cluster of the machines and applies the layout's file; `tell` hears of every step.
pub fn bring_up(layout: &Layout, machines: &[Machine], tell: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let Some((first, others)) = machines.split_first() else { bail!("a lab without nodes has no cluster") };
    let links = |machine: &Machine| -> Vec<String> {
        machine.layout.addresses.iter().flat_map(|address| ["--link".to_owned(), address.to_string()]).collect()
    };
    first.run(&cardea(first, &["init", "--cluster", &layout.cluster, "--node", &first.layout.name], &links(first)))?;
    first.start_daemon()?;
    wait(first, |status| status.quorate)?;
    tell(&format!("{} founded the cluster {}", first.layout.name, layout.cluster));
    for machine in others {
        let name = &machine.layout.name;
        let role: &[String] =
            if machine.layout.is_witness { &["--role".to_owned(), "witness".to_owned()] } else { &[] };
        let printed = first.run(&cardea(first, &["token", "create", "--json"], role))?;
        let token = token(&printed)?;
        let address = first.layout.addresses[0].to_string();
        machine.run(&cardea(machine, &["join", &address, "--token", &token, "--node", name], &links(machine)))?;
        machine.start_daemon()?;
        wait(first, |status| is_ready(status, name))?;
        tell(&format!("{name} joined"));
    }
    let file = first.root().join("cluster.toml");
    std::fs::write(&file, &layout.file)?;
    first.run(&cardea(first, &["apply", &file.to_string_lossy(), "--yes"], &[]))?;
    tell("the cluster file is applied");
    // Whoever looks first should see it run; a file whose services are disabled or broken is no failure of the lab.
    let count = config::parse(&layout.file).map_or(0, |parsed| parsed.config.resources.len());
    let _ = wait_for(first, STARTED_LIMIT, |status| {
        status.resources.iter().filter(|resource| resource.state == "running").count() == count
    });
    Ok(())
}

fn cardea(machine: &Machine, words: &[&str], more: &[String]) -> Vec<String> {
    let root = machine.root();
    let root = root.to_string_lossy();
    let head = ["cardea", "--root", &root].into_iter().chain(words.iter().copied()).map(str::to_owned);
    head.chain(more.iter().cloned()).collect()
}

fn token(printed: &str) -> anyhow::Result<String> {
    let value: serde_json::Value = serde_json::from_str(printed).context("`token create --json` printed no JSON")?;
    match value.get("token").and_then(serde_json::Value::as_str) {
        Some(token) => Ok(token.to_owned()),
        None => bail!("`token create --json` printed no token"),
    }
}

/// Has the node everything, and does it vote, or are there as many voters as there should be without it?
pub fn is_ready(status: &Status, name: &str) -> bool {
    let votes = |node: &NodeStatus| matches!(node.vote.as_str(), "leader" | "voter");
    let voters = status.nodes.iter().filter(|node| votes(node)).count();
    let learns = |node: &NodeStatus| node.vote == "learner" && voters >= quorum::voter_target(status.nodes.len());
    let is_done = |node: &NodeStatus| node.caught_up && (votes(node) || learns(node));
    status.quorate && status.nodes.iter().any(|node| node.name == name && is_done(node))
}

fn wait(machine: &Machine, is_done: impl Fn(&Status) -> bool) -> anyhow::Result<()> {
    wait_for(machine, PATIENCE, is_done)
}

fn wait_for(machine: &Machine, limit: Duration, is_done: impl Fn(&Status) -> bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut last = String::new();
    while begun.elapsed() < limit {
        match daemon_api::status(&machine.api_socket()) {
            Ok(status) if is_done(&status) => return Ok(()),
            Ok(status) => last = serde_json::to_string(&status)?,
            Err(error) => last = format!("{error:#}"),
        }
        thread::sleep(PAUSE);
    }
    bail!("{} is not ready after {limit:?}; last answer: {last}{}", machine.layout.name, log_tail(machine))
}

/// The last lines of a node's log, for an error message.
fn log_tail(machine: &Machine) -> String {
    let folder = machine.root();
    let path = folder.parent().and_then(Path::parent).map(|dir| dir.join(format!("{}.log", machine.layout.name)));
    let text = path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].iter().map(|line| format!("\n  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(votes: &[&str]) -> Status {
        let nodes = votes.iter().zip(["a", "b", "c", "d"]).map(|(vote, name)| NodeStatus {
            name: name.to_owned(),
            vote: (*vote).to_owned(),
            caught_up: true,
            ..NodeStatus::default()
        });
        Status { quorate: true, nodes: nodes.collect(), ..Status::default() }
    }

    #[test]
    fn a_learner_that_should_vote_is_not_ready() {
        assert!(is_ready(&status(&["leader", "voter"]), "b"));
        assert!(!is_ready(&status(&["leader", "learner"]), "b"));
        assert!(!is_ready(&status(&["leader", "voter"]), "c"));
    }

    #[test]
    fn the_fourth_node_is_ready_without_a_vote() {
        assert!(is_ready(&status(&["leader", "voter", "voter", "learner"]), "d"));
        assert!(!is_ready(&status(&["leader", "voter", "learner", "learner"]), "d"));
    }

    #[test]
    fn a_token_is_read_from_json_alone() {
        assert_eq!(token(r#"{"token":"t-1"}"#).expect("a token"), "t-1");
        assert!(token("t-1").is_err());
        assert!(token("{}").is_err());
    }
}
