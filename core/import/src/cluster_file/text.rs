//! How does the file read? What to do with it first, then nodes, fence devices, resources, the expert part, and what was
//! not understood.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use config::Expert;
use config::expert::{key, quoted};
use model::{
    Binding, Class, FenceConfig, GroupConfig, GroupName, NodeConfig, ParameterValue, Placement, ResourceConfig,
    ResourceName, Spread, Weight,
};

use super::plain::Plain;
use crate::source::Remark;

const HEAD: &str = "\
# Written by `cardea import pacemaker` from a Pacemaker CIB. It decides in that cluster as the CIB did.
#
# What to do next, with this text as cluster.toml and the CIB as cib.xml:
#   1. Fill in `links` of every node: its addresses, one for each network (in corosync.conf: ring0_addr, ring1_addr).
#   2. cardea check cluster.toml                    says what is missing before it can be applied
#   3. cardea plan cluster.toml --status cib.xml    what Cardea would do there; `cardea plan --cib cib.xml` says the same
#   4. cardea rehearse cluster.toml                 plays the loss of every node through
";

/// Parameters up to this many characters stand on one line.
const LINE_CHARS_MAX: usize = 90;

pub(super) fn write(plain: &Plain, expert: &Expert, standby: &[String], remarks: &[Remark]) -> String {
    let mut out = String::from(HEAD);
    if !expert.is_empty() {
        out += "#\n# The [expert] part says in the scheduler's own words what plain words cannot say. It is planned and rehearsed like\n";
        out += "# the rest, but not run yet: say it in plain words, or do without it, before you apply the file.\n";
    }
    let _ = writeln!(out, "\ncluster = {}", quoted(&plain.config.name));
    match plain.config.spread {
        None => {}
        Some(Spread::Even) => out += "spread = \"even\"   # placement-strategy\n",
        Some(Spread::Capacity) => out += "spread = \"capacity\"   # placement-strategy\n",
        Some(Spread::Room) => out += "spread = \"room\"   # placement-strategy\n",
        Some(Spread::Fill) => out += "spread = \"fill\"   # placement-strategy\n",
    }
    if !plain.config.choose_first.is_empty() {
        out += "# The order of the CIB decides who chooses a node first among equals.\n";
        let units: Vec<String> = plain.config.choose_first.iter().map(|unit| quoted(&unit.0)).collect();
        let _ = writeln!(out, "choose_first = [{}]", units.join(", "));
    }
    for (name, config) in &plain.config.nodes {
        node(&mut out, name.as_str(), config, standby.contains(&name.0));
    }
    for (name, config) in &plain.config.fence_devices {
        device(&mut out, name.as_str(), config);
    }
    for name in &plain.order {
        let within = plain.within.get(name).map(|within| format!("# In {within} of the CIB.\n")).unwrap_or_default();
        if let Some(config) = plain.config.groups.get(&GroupName(name.0.clone())) {
            let _ = write!(out, "\n{within}[groups.{}]\n", key(name.as_str()));
            group(&mut out, config);
        } else if let Some(config) = plain.config.resources.get(name) {
            let _ = write!(out, "\n{within}[resources.{}]\n", key(name.as_str()));
            let is_grouped = plain.config.groups.values().any(|group| group.members.contains(name));
            resource(&mut out, name, config, is_grouped);
        }
    }
    if !expert.is_empty() {
        out.push('\n');
        out += &expert.to_text();
    }
    if !remarks.is_empty() {
        out += "\n# Not understood, or not the same here:\n";
    }
    for remark in remarks {
        let line: String = format!("{}: {}", remark.place, remark.what);
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = writeln!(out, "# - {line}");
    }
    out
}

fn node(out: &mut String, name: &str, config: &NodeConfig, is_standby: bool) {
    let _ = write!(out, "\n[nodes.{}]\n", key(name));
    out.push_str("# links = [\"192.0.2.1\"]   # fill in\n");
    if is_standby {
        let _ =
            writeln!(out, "# In standby there; here that is no line in a file: `cardea standby {name}` once it runs.");
    }
    if !config.fence.is_empty() {
        let devices: Vec<String> = config.fence.iter().map(|device| quoted(&device.0)).collect();
        let _ = writeln!(out, "fence = [{}]", devices.join(", "));
    }
    amounts(out, "capacity", &config.capacity);
}

/// `capacity = { cpu = 4 }`
fn amounts(out: &mut String, word: &str, amounts: &BTreeMap<String, u32>) {
    if !amounts.is_empty() {
        let pairs: Vec<String> = amounts.iter().map(|(name, amount)| format!("{} = {amount}", key(name))).collect();
        let _ = writeln!(out, "{word} = {{ {} }}", pairs.join(", "));
    }
}

fn device(out: &mut String, name: &str, config: &FenceConfig) {
    let _ = write!(out, "\n[fence.{}]\n", key(name));
    let _ = writeln!(out, "agent = {}", quoted(&config.agent));
    let _ = writeln!(out, "timeout = {}", duration(config.timeout));
    if !config.plugs.is_empty() {
        let plugs: Vec<String> =
            config.plugs.iter().map(|(node, plug)| format!("{} = {}", key(node.as_str()), quoted(plug))).collect();
        let _ = writeln!(out, "plugs = {{ {} }}", plugs.join(", "));
    }
    for (name, value) in &config.parameters {
        let _ = writeln!(out, "{} = {}", key(name), parameter(value));
    }
}

fn group(out: &mut String, config: &GroupConfig) {
    let members: Vec<String> = config.members.iter().map(|member| quoted(member.as_str())).collect();
    let _ = writeln!(out, "members = [{}]", members.join(", "));
    placement(out, &config.placement);
}

fn placement(out: &mut String, placement: &Placement) {
    let usual = Placement::default();
    if placement.moves_for_points || placement.stickiness != usual.stickiness {
        let _ = writeln!(out, "stickiness = {}", placement.stickiness);
    }
    if placement.priority != usual.priority {
        let _ = writeln!(out, "priority = {}", placement.priority);
    }
    if placement.enabled != usual.enabled {
        let _ = writeln!(out, "enabled = {}   # target-role", placement.enabled);
    }
    let preferred = placement.leaning.prefer.iter().map(|(node, points)| (node.as_str(), points.to_string()));
    words(out, "prefer", preferred.collect());
    weights(out, "avoid", placement.leaning.avoid.iter().map(|(node, weight)| (node.as_str(), *weight)).collect());
    weights(out, "with", placement.leaning.with.iter().map(|(unit, tie)| (unit.as_str(), tie.weight)).collect());
    weights(out, "apart", placement.leaning.apart.iter().map(|(unit, tie)| (unit.as_str(), tie.weight)).collect());
    let after = placement.sequence_after().map(|(unit, sequence)| {
        let binding = match sequence.binding {
            Binding::Started => "started",
            Binding::Running => "running",
            Binding::IfStarting => "if-starting",
        };
        (unit.as_str(), quoted(binding))
    });
    words(out, "after", after.collect());
}

/// `word = { a = 1 }`
fn words(out: &mut String, word: &str, pairs: Vec<(&str, String)>) {
    if !pairs.is_empty() {
        let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{} = {value}", key(name))).collect();
        let _ = writeln!(out, "{word} = {{ {} }}", pairs.join(", "));
    }
}

/// A list where everything is a must, else a table in which that is said.
fn weights(out: &mut String, word: &str, all: Vec<(&str, Weight)>) {
    if !all.is_empty() && all.iter().all(|(_, weight)| *weight == Weight::Must) {
        let names: Vec<String> = all.iter().map(|(name, _)| quoted(name)).collect();
        let _ = writeln!(out, "{word} = [{}]", names.join(", "));
        return;
    }
    let pairs = all.into_iter().map(|(name, weight)| match weight {
        Weight::Must => (name, "{}".to_owned()),
        Weight::Points(points) => (name, points.to_string()),
    });
    words(out, word, pairs.collect());
}

fn resource(out: &mut String, name: &ResourceName, config: &ResourceConfig, is_grouped: bool) {
    let _ = writeln!(out, "agent = {}", quoted(&config.agent.to_string()));
    match config.class {
        Class::Exclusive => {}
        Class::BestEffort => {
            out.push_str("class = \"best-effort\"   # it did not wait for fencing there: two copies are possible\n")
        }
    }
    let (every, timeout) = (duration(config.monitor.every), duration(config.monitor.timeout));
    let _ = writeln!(out, "monitor = {{ every = {every}, timeout = {timeout} }}");
    let usual = Duration::from_secs(20);
    for (operation, limit) in [("start", config.timeouts.start), ("stop", config.timeouts.stop)] {
        if limit != usual {
            let _ = writeln!(out, "{operation} = {{ timeout = {} }}", duration(limit));
        }
    }
    let note = if config.failures_max == 1_000_000 { "   # migration-threshold was not set" } else { "" };
    let forgotten = config.failures_forgotten_after.map(|time| format!(", forget_after = {}", duration(time)));
    let _ = writeln!(out, "failures = {{ max = {}{} }}{note}", config.failures_max, forgotten.unwrap_or_default());
    amounts(out, "needs", &config.needs);
    if !is_grouped {
        placement(out, &config.placement);
    }
    parameters(out, name, config);
}

fn parameters(out: &mut String, name: &ResourceName, config: &ResourceConfig) {
    if config.parameters.is_empty() {
        return;
    }
    let pairs: Vec<String> =
        config.parameters.iter().map(|(name, value)| format!("{} = {}", key(name), parameter(value))).collect();
    let line = format!("parameters = {{ {} }}", pairs.join(", "));
    if line.chars().count() <= LINE_CHARS_MAX {
        let _ = writeln!(out, "{line}");
    } else {
        let _ = write!(out, "[resources.{}.parameters]\n{}\n", key(name.as_str()), pairs.join("\n"));
    }
}

fn parameter(value: &ParameterValue) -> String {
    match value {
        ParameterValue::Text(text) => quoted(text),
        ParameterValue::File { file } => format!("{{ file = {} }}", quoted(file)),
    }
}

/// A duration in the largest unit that says it exactly.
fn duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let (size, unit) = if ms == 0 {
        (1000, "s")
    } else {
        units.into_iter().find(|(size, _)| ms.is_multiple_of(*size)).unwrap_or((1, "ms"))
    };
    format!("\"{}{unit}\"", ms / size)
}
