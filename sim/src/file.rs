//! How does a configuration look as a cluster file? Whatever an operator of the simulator changes is written as text and
//! read back by `core/config`, as a person's file would be: what the reader refuses never reaches the cluster.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use config::Severity;
use model::{
    AfterFence, Binding, Class, ClusterConfig, Domain, NodeRole, ParameterValue, Placement, Profile, ResourceConfig,
    Spread, Tie, Weight,
};

/// The configuration as an operator's file, and as that file reads; `Err`: why it is refused.
pub(crate) fn as_file(config: &ClusterConfig) -> Result<(String, ClusterConfig), String> {
    let text = text_of(config);
    let parsed = config::parse(&text).map_err(|findings| {
        let worst = findings.iter().find(|finding| finding.severity == Severity::Error).or(findings.first());
        worst.map_or_else(|| "no reason".to_owned(), |finding| format!("{} ({})", finding.message, finding.code))
    })?;
    Ok((text, parsed.config))
}

/// The text of a cluster file that says this.
fn text_of(config: &ClusterConfig) -> String {
    let profile = match config.profile {
        Profile::Lan => "lan",
        Profile::Cloud => "cloud",
        Profile::Wan => "wan",
    };
    let mut text = format!("cluster = {}\nprofile = {}\n", quoted(&config.name), quoted(profile));
    if let Some(spread) = config.spread {
        let word = match spread {
            Spread::Even => "even",
            Spread::Capacity => "capacity",
            Spread::Room => "room",
            Spread::Fill => "fill",
        };
        line(&mut text, "spread", &quoted(word));
    }
    if !config.choose_first.is_empty() {
        line(&mut text, "choose_first", &list(&config.choose_first));
    }
    for (number, network) in &config.networks {
        section(&mut text, "networks", &number.to_string());
        line(&mut text, "domain", &quoted(&network.domain));
    }
    for (name, node) in &config.nodes {
        section(&mut text, "nodes", name.as_str());
        line(&mut text, "links", &list(&node.links));
        if node.role == NodeRole::Witness {
            line(&mut text, "role", "\"witness\"");
        } else {
            line(&mut text, "fence", &list(&node.fence));
        }
        line(&mut text, "capacity", &table(node.capacity.iter().map(|(what, much)| (what, much.to_string()))));
        line(&mut text, "attributes", &table(node.attributes.iter().map(|(what, value)| (what, quoted(value)))));
    }
    for (name, device) in &config.fence_devices {
        section(&mut text, "fence", name.as_str());
        line(&mut text, "agent", &quoted(&device.agent));
        line(&mut text, "covers", &domains(&device.covers));
        line(&mut text, "timeout", &duration(device.timeout));
        line(&mut text, "plugs", &table(device.plugs.iter().map(|(node, plug)| (node, quoted(plug)))));
        if let Some(after) = device.after_fence {
            let word = match after {
                AfterFence::On => "on",
                AfterFence::Off => "off",
            };
            line(&mut text, "after_fence", &quoted(word));
        }
        for (key, value) in &device.parameters {
            line(&mut text, key, &parameter(value));
        }
    }
    for (name, resource) in &config.resources {
        section(&mut text, "resources", name.as_str());
        write_resource(&mut text, resource);
        if config.groups.values().all(|group| !group.members.contains(name)) {
            write_placement(&mut text, &resource.placement);
        }
    }
    for (name, group) in &config.groups {
        section(&mut text, "groups", name.as_str());
        line(&mut text, "members", &list(&group.members));
        write_placement(&mut text, &group.placement);
    }
    text
}

fn write_resource(text: &mut String, resource: &ResourceConfig) {
    line(text, "agent", &quoted(&resource.agent.to_string()));
    let class = match resource.class {
        Class::Exclusive => "exclusive",
        Class::BestEffort => "best-effort",
    };
    line(text, "class", &quoted(class));
    line(text, "domains", &domains(&resource.domains));
    let (every, timeout) = (duration(resource.monitor.every), duration(resource.monitor.timeout));
    line(text, "monitor", &format!("{{ every = {every}, timeout = {timeout} }}"));
    line(text, "start", &format!("{{ timeout = {} }}", duration(resource.timeouts.start)));
    line(text, "stop", &format!("{{ timeout = {} }}", duration(resource.timeouts.stop)));
    let forgotten = resource.failures_forgotten_after.map(|after| format!(", forget_after = {}", duration(after)));
    let failures = format!("{{ max = {}{} }}", resource.failures_max, forgotten.unwrap_or_default());
    line(text, "failures", &failures);
    line(text, "needs", &table(resource.needs.iter().map(|(what, much)| (what, much.to_string()))));
    line(text, "parameters", &table(resource.parameters.iter().map(|(key, value)| (key, parameter(value)))));
}

fn write_placement(text: &mut String, placement: &Placement) {
    let leaning = &placement.leaning;
    if leaning.prefer.is_empty() {
        line(text, "prefer", &list(&placement.prefer));
    } else {
        line(text, "prefer", &table(leaning.prefer.iter().map(|(node, points)| (node, points.to_string()))));
    }
    let musts = || leaning.avoid.iter().filter(|(_, weight)| **weight == Weight::Must).map(|(node, _)| node);
    if musts().count() == leaning.avoid.len() {
        line(text, "avoid", &list(musts()));
    } else {
        let points = leaning.avoid.iter().filter_map(|(node, weight)| match weight {
            Weight::Points(points) => Some((node, points.to_string())),
            Weight::Must => None,
        });
        line(text, "avoid", &table(points));
    }
    if !leaning.only.is_empty() {
        line(text, "only", &list(&leaning.only));
    }
    line(text, "with", &table(leaning.with.iter().map(|(unit, how)| (unit, tie(how)))));
    line(text, "apart", &table(leaning.apart.iter().map(|(unit, how)| (unit, tie(how)))));
    let after = placement.sequence_after().map(|(unit, how)| {
        let word = match how.binding {
            Binding::Started => "\"started\"",
            Binding::Running => "\"running\"",
            Binding::IfStarting => "\"if-starting\"",
        };
        (unit, word.to_owned())
    });
    line(text, "after", &table(after));
    if placement.moves_for_points {
        line(text, "stickiness", &placement.stickiness.to_string());
    } else {
        line(text, "failback", &placement.failback.to_string());
    }
    line(text, "priority", &placement.priority.to_string());
    line(text, "enabled", &placement.enabled.to_string());
}

fn tie(tie: &Tie) -> String {
    let points = match tie.weight {
        Weight::Must => None,
        Weight::Points(points) => Some(("points", points.to_string())),
    };
    let by = tie.by.as_ref().map(|by| ("by", quoted(by)));
    table(points.into_iter().chain(by))
}

fn domains(domains: &BTreeSet<Domain>) -> String {
    list(domains.iter().map(|domain| match domain {
        Domain::Storage => "storage",
        Domain::Network => "network",
    }))
}

/// A `command` is a list, which JSON and TOML write alike.
fn parameter(value: &ParameterValue) -> String {
    match value {
        ParameterValue::Text(text) if text.starts_with('[') => text.clone(),
        ParameterValue::Text(text) => quoted(text),
        ParameterValue::File { file } => format!("{{ file = {} }}", quoted(file)),
    }
}

fn section(text: &mut String, kind: &str, name: &str) {
    let _ = write!(text, "\n[{kind}.{}]\n", quoted(name));
}

fn line(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key} = {value}");
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn duration(long: Duration) -> String {
    format!("\"{}ms\"", long.as_millis())
}

fn list(items: impl IntoIterator<Item = impl ToString>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

fn table(items: impl IntoIterator<Item = (impl ToString, String)>) -> String {
    let items: Vec<String> =
        items.into_iter().map(|(key, value)| format!("{} = {value}", quoted(&key.to_string()))).collect();
    format!("{{ {} }}", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn what_is_written_reads_as_it_was() {
        for seed in 0..100 {
            let layout = Scenario::of(seed).layout;
            let config = layout.config(layout.machines().len(), true);
            let (text, read) = as_file(&config).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            assert_eq!(read, config, "seed {seed}:\n{text}");
        }
    }
}
