//! What changes in the cluster itself from one file to the next, and what follows?
//!
//! What starts, stops and moves is the plan's to say. Here is what no step shows: links, timers, fence devices, agents,
//! limits.
//!
//! In: the configuration that holds, and the one that is to hold. Out: sentences, each a change with its consequence.

use std::fmt::Display;
use std::time::Duration;

use model::{AfterFence, ClusterConfig, FenceConfig, FenceName, NodeConfig, NodeName, Profile, ResourceConfig};

use crate::words::domain_word;

/// What changes in the cluster itself, and what follows: sentences.
pub fn changes(old: &ClusterConfig, new: &ClusterConfig) -> Vec<String> {
    let mut said = Vec::new();
    if old.profile != new.profile {
        said.push(format!(
            "the profile changes from {} to {}: every node beats, suspects and condemns by the new timers at once",
            profile_word(old.profile),
            profile_word(new.profile)
        ));
    }
    networks(old, new, &mut said);
    for (name, is) in &new.nodes {
        if let Some(was) = old.nodes.get(name) {
            node(name, was, is, &mut said);
        }
    }
    devices(old, new, &mut said);
    for (name, is) in &new.resources {
        if let Some(was) = old.resources.get(name) {
            resource(name.as_str(), was, is, &mut said);
        }
    }
    said
}

fn profile_word(profile: Profile) -> &'static str {
    match profile {
        Profile::Lan => "lan",
        Profile::Cloud => "cloud",
        Profile::Wan => "wan",
    }
}

fn networks(old: &ClusterConfig, new: &ClusterConfig, said: &mut Vec<String>) {
    let numbers: std::collections::BTreeSet<u8> = old.networks.keys().chain(new.networks.keys()).copied().collect();
    for number in numbers {
        let domain = |config: &ClusterConfig| {
            let network = config.networks.get(&number);
            network.map_or_else(|| "no shared domain".to_owned(), |network| format!("domain {}", network.domain))
        };
        if domain(old) != domain(new) {
            said.push(format!(
                "network {number} goes from {} to {}: networks of one domain count as one when a node falls silent",
                domain(old),
                domain(new)
            ));
        }
    }
}

fn node(name: &NodeName, was: &NodeConfig, is: &NodeConfig, said: &mut Vec<String>) {
    if was.links != is.links {
        let shared = was.links.iter().zip(&is.links).enumerate();
        let mut parts: Vec<String> = shared
            .filter(|(_, (old, new))| old != new)
            .map(|(at, (old, new))| format!("{old} becomes {new} in network {}", at + 1))
            .collect();
        let more = is.links.iter().enumerate().skip(was.links.len());
        parts.extend(more.map(|(at, address)| format!("{address} is added as network {}", at + 1)));
        let fewer = was.links.iter().enumerate().skip(is.links.len());
        parts.extend(fewer.map(|(at, address)| format!("{address} of network {} is dropped", at + 1)));
        said.push(format!(
            "links of {name}: {}; beats go that way at once, so {name} must have its new addresses before",
            parts.join(", ")
        ));
    }
    if was.fence != is.fence {
        let list = |devices: &[FenceName]| {
            let names: Vec<&str> = devices.iter().map(|device| device.0.as_str()).collect();
            if names.is_empty() { "nothing".to_owned() } else { names.join(", then ") }
        };
        let mut change = format!("{name} is cut off by {} instead of {}", list(&is.fence), list(&was.fence));
        change += if is.fence.is_empty() {
            ": nothing proves it off any more"
        } else {
            ": the next fence uses that; try it with `cardea fence test`"
        };
        said.push(change);
    }
    if was.capacity != is.capacity {
        said.push(format!("{name} has another capacity: it counts for where units fit"));
    }
    if was.attributes != is.attributes {
        said.push(format!("{name} has other attributes: they count where `with` and `apart` compare them"));
    }
}

fn devices(old: &ClusterConfig, new: &ClusterConfig, said: &mut Vec<String>) {
    for (name, is) in &new.fence_devices {
        match old.fence_devices.get(name) {
            None => said.push(format!("fence device {} is new: try it with `cardea fence test`", name.0)),
            Some(was) if was != is => said.push(format!(
                "fence device {} changes ({}): the next fence uses it as it is then; try it with `cardea fence test`",
                name.0,
                changes_of_device(was, is).join(", ")
            )),
            Some(_) => {}
        }
    }
    let gone = old.fence_devices.keys().filter(|name| !new.fence_devices.contains_key(*name));
    said.extend(gone.map(|name| format!("fence device {} is dropped: no fence uses it any more", name.0)));
}

/// Which of its words change. What a parameter is stays unsaid: it may be a secret.
fn changes_of_device(was: &FenceConfig, is: &FenceConfig) -> Vec<String> {
    let mut parts = Vec::new();
    if was.agent != is.agent {
        parts.push(format!("agent {} becomes {}", was.agent, is.agent));
    }
    let names: std::collections::BTreeSet<&String> = was.parameters.keys().chain(is.parameters.keys()).collect();
    for name in names.into_iter().filter(|name| was.parameters.get(*name) != is.parameters.get(*name)) {
        parts.push(match (was.parameters.contains_key(name), is.parameters.contains_key(name)) {
            (false, _) => format!("{name} is added"),
            (_, false) => format!("{name} is dropped"),
            (true, true) => format!("another {name}"),
        });
    }
    if was.covers != is.covers {
        let words: Vec<&str> = is.covers.iter().map(|domain| domain_word(*domain)).collect();
        parts.push(format!("it covers {}", words.join(" and ")));
    }
    if was.timeout != is.timeout {
        parts.push(becomes("timeout", shown(was.timeout), shown(is.timeout)));
    }
    if was.plugs != is.plugs {
        parts.push("other plugs".to_owned());
    }
    if was.after_fence != is.after_fence {
        parts.push(match is.after_fence {
            Some(AfterFence::On) => "nodes are switched on again".to_owned(),
            Some(AfterFence::Off) => "nodes stay off".to_owned(),
            None => "what happens after a fence follows from what it covers".to_owned(),
        });
    }
    parts
}

fn resource(name: &str, was: &ResourceConfig, is: &ResourceConfig, said: &mut Vec<String>) {
    if was.agent != is.agent {
        said.push(format!(
            "{name} gets another agent: it stops with {} and starts with {}, which must be installed on every node that \
             may run it",
            was.agent, is.agent
        ));
    }
    let mut parts = Vec::new();
    if was.monitor.every != is.monitor.every {
        parts.push(becomes("checks every", shown(was.monitor.every), shown(is.monitor.every)));
    }
    if was.monitor.timeout != is.monitor.timeout {
        parts.push(becomes("limit of a check", shown(was.monitor.timeout), shown(is.monitor.timeout)));
    }
    if was.timeouts.start != is.timeouts.start {
        parts.push(becomes("limit of a start", shown(was.timeouts.start), shown(is.timeouts.start)));
    }
    if was.timeouts.stop != is.timeouts.stop {
        parts.push(becomes("limit of a stop", shown(was.timeouts.stop), shown(is.timeouts.stop)));
    }
    if was.failures_max != is.failures_max {
        parts.push(becomes("failures before it leaves a node", was.failures_max, is.failures_max));
    }
    if !parts.is_empty() {
        said.push(format!("{name}: {}; this restarts nothing", parts.join(", ")));
    }
    if was.class != is.class {
        let class = match is.class {
            model::Class::Exclusive => "exclusive: it waits for the proof that it runs nowhere else",
            model::Class::BestEffort => "best-effort: it may run twice for a while",
        };
        said.push(format!("{name} becomes {class}"));
    }
    if was.domains != is.domains {
        said.push(format!("{name} can damage something else: it runs only where fencing covers that"));
    }
}

fn becomes(what: &str, was: impl Display, is: impl Display) -> String {
    format!("{what} {was} becomes {is}")
}

fn shown(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms == 0 {
        "never".to_owned()
    } else if ms.is_multiple_of(1000) {
        format!("{} s", ms / 1000)
    } else {
        format!("{ms} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
cluster = "shop"
[nodes.a]
links = ["10.0.0.1", "10.1.0.1"]
fence = ["power"]
[nodes.b]
links = ["10.0.0.2", "10.1.0.2"]
fence = ["power"]
[nodes.c]
links = ["10.0.0.3", "10.1.0.3"]
fence = ["power"]
[fence.power]
agent = "fence_lab"
ip = "10.0.0.9"
[resources.db]
agent = "ocf:heartbeat:pgsql"
"#;

    fn changed(from: &str, to: &str) -> Vec<String> {
        let config = |text: &str| crate::parse(text).expect("a right file").config;
        changes(&config(FILE), &config(&FILE.replace(from, to)))
    }

    #[test]
    fn the_same_file_changes_nothing() {
        assert_eq!(changed("", ""), Vec::<String>::new());
        assert_eq!(changed("[resources.db]", "[resources.db]\nprefer = [\"a\"]"), Vec::<String>::new());
    }

    #[test]
    fn what_no_step_shows_is_said_with_what_follows() {
        let cases = [
            ("cluster = \"shop\"", "cluster = \"shop\"\nprofile = \"wan\"", "the profile changes from lan to wan"),
            ("\"10.1.0.3\"", "\"10.1.0.33\"", "links of c: 10.1.0.3 becomes 10.1.0.33 in network 2"),
            ("fence_lab", "fence_ipmilan", "fence device power changes (agent fence_lab becomes fence_ipmilan)"),
            ("ip = \"10.0.0.9\"", "ip = \"10.0.0.8\"", "fence device power changes (another ip)"),
            (
                "[fence.power]",
                "[networks.1]\ndomain = \"x\"\n[fence.power]",
                "network 1 goes from no shared domain to domain x",
            ),
            ("heartbeat:pgsql", "heartbeat:mysql", "db gets another agent: it stops with ocf:heartbeat:pgsql and"),
            (
                "[resources.db]",
                "[resources.db]\nmonitor = { every = \"5s\" }",
                "db: checks every 10 s becomes 5 s; this restarts",
            ),
            ("[resources.db]", "[fence.new]\nagent = \"fence_lab\"\n[resources.db]", "fence device new is new: try it"),
        ];
        for (from, to, expected) in cases {
            let said = changed(from, to);
            assert!(said.len() == 1 && said[0].starts_with(expected), "{to}: {said:?}");
        }
    }

    #[test]
    fn a_secret_is_not_said() {
        let said = changed("ip = \"10.0.0.9\"", "ip = \"10.0.0.9\"\npassword = { file = \"/etc/cardea/secrets/p\" }");
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("password is added") && !said[0].contains("/etc"), "{said:?}");
    }
}
