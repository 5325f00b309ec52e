//! What stands in the cluster file? Text → tables → `ClusterConfig`, with the place of everything.
//!
//! First all names are collected, then every table is read against them, so that one reading finds every fault it
//! can. What concerns several tables at once (fencing, cycles, addresses) is in `check.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::time::Duration;

use model::{
    AfterFence, AgentName, Class, ClusterConfig, Domain, FenceConfig, FenceName, GroupConfig, GroupName, MonitorConfig,
    NetworkConfig, NodeConfig, NodeName, NodeRole, Placement, Profile, ResourceConfig, ResourceName, Spread, Timeouts,
    UnitName,
};
use toml::de::{DeTable, DeValue};

use crate::check;
use crate::diagnostic::{Diagnostic, Findings};
use crate::expert::{self, Expert};
use crate::parameters::{self, NATIVE_AGENTS, Raw};
use crate::placement::{PLACEMENT_KEYS, WordPlaces, placement, refuse_placement};
use crate::section::{Placed, Section, wrong_type};
use crate::words::{name_fault, nearest, nearest_within, shown, suggestion};

/// Longest text of a cluster file, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most nodes of a cluster.
const NODES_MAX: usize = 64;
/// Most resources of a cluster.
const RESOURCES_MAX: usize = 1000;
/// Most links of a node.
pub const LINKS_MAX: usize = 8;
/// Limit of an operation that says nothing else.
const TIMEOUT: Duration = Duration::from_secs(20);
/// From check to check of a resource that says nothing else.
const MONITOR_EVERY: Duration = Duration::from_secs(10);
/// Failures on one node that a resource may have, if it says nothing else.
const FAILURES_MAX: u32 = 3;

/// The keys of a resource that are no parameters of its agent.
const RESOURCE_KEYS: &[&str] =
    &["agent", "class", "domains", "monitor", "start", "stop", "failures_max", "failures", "needs", "parameters"];

/// Every key of a resource that is no parameter of its agent: its own, and those of a unit.
pub(crate) fn resource_keys() -> Vec<&'static str> {
    RESOURCE_KEYS.iter().chain(&PLACEMENT_KEYS).copied().collect()
}

/// How load is spread.
const SPREADS: [(&str, Spread); 4] =
    [("even", Spread::Even), ("capacity", Spread::Capacity), ("room", Spread::Room), ("fill", Spread::Fill)];
/// Told to fence agents by the cluster itself.
const FENCE_RESERVED: [&str; 4] = ["action", "plug", "port", "nodename"];

/// A cluster file that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// What it says.
    pub config: ClusterConfig,
    /// What it says beyond the plain words; only in a file that is read for planning.
    pub expert: Option<Expert>,
    /// What the operator should know of; in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

/// Reads and checks a cluster file of at most 1 MiB, 64 nodes and 1000 resources.
///
/// Every name that the result mentions exists, and what SAFETY §2.5 refuses is refused.
///
/// # Errors
/// All findings that one reading can make, errors first, then by place; at least one is an error.
pub fn parse(text: &str) -> Result<Parsed, Vec<Diagnostic>> {
    parsed(text, Findings::default())
}

/// Reads a cluster file for a plan or a rehearsal: what only running it needs (addresses, fencing, votes, agents that are
/// there) may be missing, and is a warning.
///
/// # Errors
/// As [`parse`].
pub fn parse_for_planning(text: &str) -> Result<Parsed, Vec<Diagnostic>> {
    parsed(text, Findings::for_planning())
}

fn parsed(text: &str, mut findings: Findings) -> Result<Parsed, Vec<Diagnostic>> {
    let found = read(text, &mut findings);
    match found {
        Some((config, expert)) if !findings.has_errors() => {
            Ok(Parsed { config, expert, warnings: findings.into_sorted() })
        }
        Some(_) | None => {
            assert!(findings.has_errors(), "a refused file must say why");
            Err(findings.into_sorted())
        }
    }
}

/// Where things stand in the text, for the checks that follow.
#[derive(Default)]
pub(crate) struct Places {
    pub(crate) nodes: BTreeMap<NodeName, Range<usize>>,
    /// One for each link of a node.
    pub(crate) links: BTreeMap<NodeName, Vec<Range<usize>>>,
    pub(crate) resources: BTreeMap<ResourceName, Range<usize>>,
    pub(crate) groups: BTreeMap<GroupName, Range<usize>>,
    /// One for each node and unit that a unit's words name.
    pub(crate) words: WordPlaces,
    /// One for each kind of capacity that a resource needs.
    pub(crate) needs: BTreeMap<(ResourceName, String), Range<usize>>,
    /// Addresses that resources keep.
    pub(crate) addresses: Vec<(ResourceName, Ipv4Addr, Range<usize>)>,
    pub(crate) networks: BTreeMap<u8, Range<usize>>,
}

/// The names that other tables may mention.
pub(crate) struct Names<'a> {
    pub(crate) members: Vec<&'a str>,
    pub(crate) witnesses: Vec<&'a str>,
    devices: Vec<&'a str>,
    pub(crate) resources: Vec<&'a str>,
    groups: Vec<&'a str>,
    /// Resource to its group.
    pub(crate) grouped: BTreeMap<&'a str, &'a str>,
    /// Valid in `after`, `with` and `apart`.
    pub(crate) units: Vec<&'a str>,
    /// Attributes that some node has.
    pub(crate) attributes: Vec<&'a str>,
}

fn read(text: &str, findings: &mut Findings) -> Option<(ClusterConfig, Option<Expert>)> {
    if text.len() > TEXT_BYTES_MAX {
        findings.push(Diagnostic::error("config::too_large", "the cluster file is larger than 1 MiB"));
        return None;
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let diagnostic = Diagnostic::error("config::syntax", format!("not valid TOML: {}", error.message()));
        findings.push(match error.span() {
            Some(span) => diagnostic.at(span, "here"),
            None => diagnostic,
        });
    }
    if findings.has_errors() {
        return None;
    }
    let root = Section::root(table.get_ref());
    root.refuse_unknown_keys(
        &[
            "cluster",
            "profile",
            "spread",
            "choose_first",
            "networks",
            "nodes",
            "fence",
            "resources",
            "groups",
            "expert",
        ],
        findings,
    );
    root.require("cluster", "cluster = \"NAME\" at the top", findings);
    let nodes = root.named("nodes", "node", findings);
    let devices = root.named("fence", "fence device", findings);
    let resources = root.named("resources", "resource", findings);
    let groups = root.named("groups", "group", findings);
    refuse_too_many(&nodes, NODES_MAX, "nodes", findings);
    refuse_too_many(&resources, RESOURCES_MAX, "resources", findings);
    let names = Names::collect(&nodes, &devices, &resources, &groups, findings);

    let mut places = Places::default();
    let config = ClusterConfig {
        name: cluster_name(&root, findings),
        profile: root
            .word("profile", &[("lan", Profile::Lan), ("cloud", Profile::Cloud), ("wan", Profile::Wan)], findings)
            .unwrap_or_default(),
        nodes: nodes
            .iter()
            .map(|(name, section)| (NodeName::from(*name), node(name, section, &names, &mut places, findings)))
            .collect(),
        networks: networks(&root, &mut places, findings),
        fence_devices: devices
            .iter()
            .filter_map(|(name, section)| Some((FenceName::from(*name), device(section, &names, findings)?)))
            .collect(),
        resources: resources
            .iter()
            .filter_map(|(name, section)| {
                Some((ResourceName::from(*name), resource(name, section, &names, &mut places, findings)?))
            })
            .collect(),
        groups: groups
            .iter()
            .map(|(name, section)| (GroupName::from(*name), group(name, section, &names, &mut places, findings)))
            .collect(),
        spread: root.word("spread", &SPREADS, findings),
        choose_first: choose_first(&root, &names, findings),
    };
    let expert = expert::read(&root, &config, findings);
    if expert.is_some() && !findings.is_for_planning() {
        let span = root.entry("expert").map_or(0..0, |(span, _)| span);
        findings.push(
            Diagnostic::error("config::expert_part", "the [expert] part can be planned and rehearsed, but not run yet")
                .at(span, "begins here")
                .help("say what it says in plain words, or take it out"),
        );
    }
    check::check(&config, &places, findings);
    Some((config, expert))
}

/// Units that choose before others of their priority.
fn choose_first(root: &Section<'_>, names: &Names<'_>, findings: &mut Findings) -> Vec<UnitName> {
    let mut units: Vec<UnitName> = Vec::new();
    for unit in root.strings("choose_first", findings).into_iter().flat_map(|list| list.value) {
        if findings.is_full() {
            break;
        }
        let what = format!("`choose_first` names `{}`", shown(unit.value));
        if let Some(group) = names.grouped.get(unit.value).filter(|_| names.resources.contains(&unit.value)) {
            findings.push(
                Diagnostic::error("config::grouped", format!("{what}, which is in group `{group}`"))
                    .at(unit.span, "does not choose on its own")
                    .help(format!("write \"{group}\"")),
            );
        } else if !names.units.contains(&unit.value) {
            let message = format!("{what}, which does not exist");
            findings.push(unknown("config::unknown_unit", message, &unit, "groups and resources", &names.units));
        } else if units.iter().any(|known| known.0 == unit.value) {
            findings
                .push(Diagnostic::error("config::duplicate", format!("{what} twice")).at(unit.span, "the second time"));
        } else {
            units.push(UnitName::from(unit.value));
        }
    }
    units
}

fn refuse_too_many(sections: &[(&str, Section<'_>)], most: usize, what: &str, findings: &mut Findings) {
    if let Some((_, first_too_many)) = sections.get(most) {
        findings.push(
            Diagnostic::error("config::too_many", format!("a cluster has at most {most} {what}"))
                .at(first_too_many.span.clone(), "one too many"),
        );
    }
}

fn cluster_name(root: &Section<'_>, findings: &mut Findings) -> String {
    let Some(name) = root.string("cluster", findings) else { return String::new() };
    if let Some(fault) = name_fault(name.value) {
        findings.push(
            Diagnostic::error("config::bad_name", format!("\"{}\" cannot name a cluster", shown(name.value)))
                .at(name.span, fault),
        );
    }
    name.value.to_owned()
}

impl<'a> Names<'a> {
    fn collect(
        nodes: &[(&'a str, Section<'a>)],
        devices: &[(&'a str, Section<'a>)],
        resources: &[(&'a str, Section<'a>)],
        groups: &[(&'a str, Section<'a>)],
        findings: &mut Findings,
    ) -> Self {
        let is_witness = |section: &Section<'_>| {
            section.entry("role").is_some_and(|(_, value)| value.get_ref().as_str() == Some("witness"))
        };
        let names = |sections: &[(&'a str, Section<'a>)]| sections.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let (witnesses, members): (Vec<_>, Vec<_>) =
            nodes.iter().cloned().partition(|(_, section)| is_witness(section));
        let resource_names: BTreeSet<&str> = resources.iter().map(|(name, _)| *name).collect();
        for (name, section) in groups.iter().filter(|(name, _)| resource_names.contains(name)) {
            findings.push(
                Diagnostic::error("config::duplicate_name", format!("group and resource are both called `{name}`"))
                    .at(section.span.clone(), "also the name of a resource")
                    .help("give the group another name: both can be granted and moved by their name"),
            );
        }
        let mut grouped = BTreeMap::new();
        for (group, section) in groups {
            // Wrong types are reported when the group itself is read.
            let members = section.strings("members", &mut Findings::default());
            for member in members.into_iter().flat_map(|m| m.value) {
                grouped.entry(member.value).or_insert(*group);
            }
        }
        // Wrong types are reported when the node itself is read.
        let attributes: BTreeSet<&str> = nodes
            .iter()
            .filter_map(|(_, section)| section.nested("attributes", &mut Findings::default()))
            .flat_map(|table| table.entries().map(|(name, _, _)| name).collect::<Vec<_>>())
            .collect();
        let single = resources.iter().map(|(name, _)| *name).filter(|name| !grouped.contains_key(name));
        Names {
            members: names(&members),
            witnesses: names(&witnesses),
            devices: names(devices),
            resources: names(resources),
            groups: names(groups),
            units: groups.iter().map(|(name, _)| *name).chain(single).collect(),
            grouped,
            attributes: attributes.into_iter().collect(),
        }
    }
}

/// The finding that a name means nothing.
pub(crate) fn unknown(
    code: &'static str,
    message: String,
    found: &Placed<&str>,
    what: &str,
    valid: &[&str],
) -> Diagnostic {
    Diagnostic::error(code, message).at(found.span.clone(), "does not exist").help(suggestion(found.value, what, valid))
}

fn node(
    name: &str,
    section: &Section<'_>,
    names: &Names<'_>,
    places: &mut Places,
    findings: &mut Findings,
) -> NodeConfig {
    section.refuse_unknown_keys(&["links", "role", "fence", "capacity", "attributes"], findings);
    if section.entry("links").is_none() {
        findings.push(
            Diagnostic::error("config::missing_links", format!("{} has no `links`", section.what))
                .at(section.span.clone(), "`links` is missing")
                .help("write links = [\"192.0.2.1\"], one address for each network"),
        );
    }
    let name = NodeName::from(name);
    places.nodes.insert(name.clone(), section.span.clone());
    let role = section
        .word("role", &[("member", NodeRole::Member), ("witness", NodeRole::Witness)], findings)
        .unwrap_or_default();
    let (links, spans) = links(section, findings);
    places.links.insert(name, spans);
    NodeConfig {
        links,
        role,
        fence: fence_levels(section, role, names, findings),
        capacity: amounts(section, "capacity", findings)
            .into_iter()
            .map(|(name, (amount, _))| (name, amount))
            .collect(),
        attributes: attributes(section, findings),
    }
}

/// Amounts by name, each with the place of its name: `{ cpu = 8, memory = 32768 }`.
fn amounts(section: &Section<'_>, key: &str, findings: &mut Findings) -> BTreeMap<String, (u32, Range<usize>)> {
    let Some(table) = section.nested(key, findings) else { return BTreeMap::new() };
    let mut amounts = BTreeMap::new();
    for (name, span, _) in table.entries() {
        if findings.is_full() {
            break;
        }
        if !is_attribute_name(name) {
            findings.push(bad_attribute_name(name, &table, span));
        } else if let Some(amount) = table.integer(name, 0..i64::from(i32::MAX) + 1, findings) {
            amounts.insert(name.to_owned(), (u32::try_from(amount).unwrap_or_default(), span));
        }
    }
    amounts
}

fn attributes(section: &Section<'_>, findings: &mut Findings) -> BTreeMap<String, String> {
    let Some(table) = section.nested("attributes", findings) else { return BTreeMap::new() };
    let mut attributes = BTreeMap::new();
    for (name, span, value) in table.entries() {
        if findings.is_full() {
            break;
        }
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Boolean(boolean) => boolean.to_string(),
            other @ (DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_)) => {
                let what = format!("`{}` of {}", shown(name), table.what);
                findings.push(wrong_type(&what, "a string, a whole number or a truth value", other, value.span()));
                continue;
            }
        };
        if is_attribute_name(name) {
            attributes.insert(name.to_owned(), text);
        } else {
            findings.push(bad_attribute_name(name, &table, span));
        }
    }
    attributes
}

fn is_attribute_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn bad_attribute_name(name: &str, table: &Section<'_>, span: Range<usize>) -> Diagnostic {
    Diagnostic::error("config::bad_name", format!("{} cannot have `{}`", table.what, shown(name)))
        .at(span, "only letters, digits, `-`, `_` and `.`")
}

fn links(section: &Section<'_>, findings: &mut Findings) -> (Vec<IpAddr>, Vec<Range<usize>>) {
    let Some(texts) = section.strings("links", findings) else { return (Vec::new(), Vec::new()) };
    let fault = match texts.value.len() {
        0 => Some("no address"),
        1..=LINKS_MAX => None,
        _ => Some("more than 8"),
    };
    if let Some(fault) = fault {
        findings.push(
            Diagnostic::error("config::bad_links", format!("{} needs 1 to {LINKS_MAX} links", section.what))
                .at(texts.span, fault)
                .help("write one address of the node for each network: links = [\"192.0.2.1\"]"),
        );
        return (Vec::new(), Vec::new());
    }
    let mut links = Vec::new();
    let mut spans = Vec::new();
    for text in texts.value {
        match link(text.value) {
            Ok(address) => {
                links.push(address);
                spans.push(text.span);
            }
            Err(fault) => findings.push(
                Diagnostic::error(
                    "config::bad_address",
                    format!("{} cannot have the link \"{}\"", section.what, shown(text.value)),
                )
                .at(text.span, fault)
                .help("write an address of the node without prefix length and port: \"192.0.2.1\""),
            ),
        }
    }
    (links, spans)
}

fn link(text: &str) -> Result<IpAddr, &'static str> {
    let address: IpAddr = text.parse().map_err(|_| "not an IP address")?;
    let (is_broadcast, is_local) = match address {
        IpAddr::V4(v4) => (v4.is_broadcast(), false),
        IpAddr::V6(v6) => (false, v6.is_unicast_link_local()),
    };
    if address.is_unspecified() || address.is_multicast() || is_broadcast {
        Err("not the address of one machine")
    } else if is_local {
        Err("link-local addresses name no network")
    } else {
        Ok(address)
    }
}

fn fence_levels(section: &Section<'_>, role: NodeRole, names: &Names<'_>, findings: &mut Findings) -> Vec<FenceName> {
    let Some(devices) = section.strings("fence", findings) else { return Vec::new() };
    if role == NodeRole::Witness {
        findings.push(
            Diagnostic::error(
                "config::witness",
                format!("{} is a witness and cannot have fence devices", section.what),
            )
            .at(devices.span, "runs nothing that could do harm")
            .help("remove `fence` here"),
        );
        return Vec::new();
    }
    let mut levels: Vec<FenceName> = Vec::new();
    for device in devices.value {
        if findings.is_full() {
            break;
        }
        if !names.devices.contains(&device.value) {
            let message =
                format!("{} names fence device `{}`, which does not exist", section.what, shown(device.value));
            findings.push(unknown("config::unknown_fence", message, &device, "fence devices", &names.devices));
        } else if levels.iter().any(|known| known.0 == device.value) {
            findings.push(
                Diagnostic::error(
                    "config::duplicate",
                    format!("{} names fence device `{}` twice", section.what, device.value),
                )
                .at(device.span, "the second time"),
            );
        } else {
            levels.push(FenceName::from(device.value));
        }
    }
    levels
}

fn networks(root: &Section<'_>, places: &mut Places, findings: &mut Findings) -> BTreeMap<u8, NetworkConfig> {
    let mut networks = BTreeMap::new();
    let Some(parent) = root.nested("networks", findings) else { return networks };
    for (key, span, value) in parent.entries() {
        let number =
            key.parse::<u8>().ok().filter(|n| n.to_string() == key && (1..=LINKS_MAX).contains(&usize::from(*n)));
        let Some(number) = number else {
            findings.push(
                Diagnostic::error("config::bad_network", format!("`{}` is no network", shown(key)))
                    .at(span, format!("networks are numbered from 1 to {LINKS_MAX}"))
                    .help("[networks.1] is the network of the first link of every node"),
            );
            continue;
        };
        let Some(section) = Section::of(format!("network `{number}`"), span.clone(), value, findings) else { continue };
        section.refuse_unknown_keys(&["domain"], findings);
        section.require("domain", "domain = \"NAME\"; networks of one domain can fail together", findings);
        let Some(domain) = section.string("domain", findings) else { continue };
        if let Some(fault) = name_fault(domain.value) {
            findings.push(
                Diagnostic::error(
                    "config::bad_name",
                    format!("\"{}\" cannot name a failure domain", shown(domain.value)),
                )
                .at(domain.span, fault),
            );
        }
        places.networks.insert(number, span);
        networks.insert(number, NetworkConfig { domain: domain.value.to_owned() });
    }
    networks
}

fn domains(section: &Section<'_>, key: &str, findings: &mut Findings) -> BTreeSet<Domain> {
    let both = BTreeSet::from([Domain::Storage, Domain::Network]);
    let Some(texts) = section.strings(key, findings) else { return both };
    if texts.value.is_empty() {
        findings.push(
            Diagnostic::error("config::empty", format!("`{key}` of {} is empty", section.what))
                .at(texts.span, "nothing")
                .help(format!(
                    "write {key} = [\"storage\", \"network\"] or one of them; without the line both are meant"
                )),
        );
    }
    let words = [("storage", Domain::Storage), ("network", Domain::Network)];
    texts.value.iter().filter_map(|text| section.word_of(key, text, &words, findings)).collect()
}

fn device(section: &Section<'_>, names: &Names<'_>, findings: &mut Findings) -> Option<FenceConfig> {
    section.require("agent", "agent = \"fence_ipmilan\"", findings);
    let keys = ["agent", "covers", "timeout", "plugs", "after_fence"];
    let raw: Vec<Raw<'_>> = section.entries().filter(|(key, _, _)| !keys.contains(key)).collect();
    for (name, span, _) in raw.iter().filter(|(name, _, _)| FENCE_RESERVED.contains(name)) {
        findings.push(
            Diagnostic::error(
                "config::reserved",
                format!("`{name}` of {} is told by the cluster itself", section.what),
            )
            .at(span.clone(), "cannot be set")
            .help("what the device calls a node stands in plugs = { NODE = \"PLUG\" }"),
        );
    }
    warn_misspelt(section, &keys, findings);
    let parameters = parameters::free(&section.what, &raw, true, findings);
    let covers = domains(section, "covers", findings);
    let timeout = section.duration("timeout", false, findings).unwrap_or(TIMEOUT);
    let plugs = plugs(section, names, findings);
    let after_fence = after_fence(section, &covers, findings);
    let agent = section.string("agent", findings)?;
    if let Some(fault) = fence_agent_fault(agent.value) {
        findings.push(
            Diagnostic::error("config::bad_agent", format!("\"{}\" is not a fence agent", shown(agent.value)))
                .at(agent.span, fault)
                .help("write the name of a program in /usr/sbin, such as \"fence_ipmilan\", or an absolute path"),
        );
        return None;
    }
    Some(FenceConfig { agent: agent.value.to_owned(), parameters, covers, timeout, plugs, after_fence })
}

/// A machine that lost only a part of the world goes on running: it gets that part back after it has booted anew.
fn after_fence(section: &Section<'_>, covers: &BTreeSet<Domain>, findings: &mut Findings) -> Option<AfterFence> {
    let text = section.string("after_fence", findings)?;
    let word = section.word_of("after_fence", &text, &[("on", AfterFence::On), ("off", AfterFence::Off)], findings)?;
    if word == AfterFence::On && covers.len() < 2 {
        findings.push(
            Diagnostic::error(
                "config::after_fence",
                format!("{} cannot switch a node on again: it cuts off a part only", section.what),
            )
            .at(text.span, "the node runs on")
            .help("leave the line out; give the node back what it lost when it has booted anew"),
        );
        return None;
    }
    Some(word)
}

fn fence_agent_fault(agent: &str) -> Option<&'static str> {
    if agent.contains('/') {
        return parameters::path_fault(agent);
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if agent.is_empty() || agent.starts_with(['.', '-']) || !agent.chars().all(is_word) {
        return Some("not the name of a program");
    }
    None
}

fn plugs(section: &Section<'_>, names: &Names<'_>, findings: &mut Findings) -> BTreeMap<NodeName, String> {
    let mut plugs = BTreeMap::new();
    let Some(table) = section.nested("plugs", findings) else { return plugs };
    let nodes: Vec<&str> = names.members.iter().chain(&names.witnesses).copied().collect();
    for (node, span, value) in table.entries() {
        if findings.is_full() {
            break;
        }
        if !nodes.contains(&node) {
            let message = format!("{} names node `{}`, which is not a member", table.what, shown(node));
            let found = Placed { value: node, span };
            findings.push(unknown("config::unknown_node", message, &found, "members", &nodes));
            continue;
        }
        let plug = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            other => {
                let what = format!("`{node}` of {}", table.what);
                findings.push(wrong_type(&what, "a string or a whole number", other, value.span()));
                continue;
            }
        };
        if plug.is_empty() || plug.contains(['\n', '\r', '\0']) {
            findings.push(
                Diagnostic::error("config::bad_parameter", format!("no device calls node `{node}` like that"))
                    .at(value.span(), "must be a single line of text"),
            );
        } else {
            plugs.insert(NodeName::from(node), plug);
        }
    }
    plugs
}

/// A parameter of a foreign agent may be called anything; one that looks like a key of ours is probably a slip.
fn warn_misspelt(section: &Section<'_>, keys: &[&str], findings: &mut Findings) {
    let long: Vec<&str> = keys.iter().copied().filter(|key| key.len() >= 5).collect();
    for (name, span, _) in section.entries().filter(|(name, _, _)| !keys.contains(name)) {
        if findings.is_full() {
            return;
        }
        if let Some(near) = nearest_within(1, name, &long) {
            findings.push(
                Diagnostic::warning(
                    "config::looks_misspelt",
                    format!("`{}` of {} is passed to the agent as a parameter", shown(name), section.what),
                )
                .at(span, format!("did you mean `{near}`?"))
                .help(format!(
                    "if the agent has such a parameter, put it into a table of its own: parameters = {{ {} = … }}",
                    shown(name)
                )),
            );
        }
    }
}

/// A resource without an agent: a key that looks like the word is probably it.
fn require_agent(section: &Section<'_>, findings: &mut Findings) {
    let example = "agent = \"cardea:process\"";
    let slip = section.entries().find(|(name, ..)| nearest_within(1, name, &["agent"]).is_some());
    match slip.filter(|_| section.entry("agent").is_none()) {
        None => section.require("agent", example, findings),
        Some((name, span, _)) => findings.push(
            Diagnostic::error("config::missing_key", format!("{} has no `agent`", section.what))
                .at(span, "did you mean `agent`?")
                .help(format!("write `agent` instead of `{}`, such as {example}", shown(name))),
        ),
    }
}

/// Words with which Pacemaker says how a resource is treated, and what says it here. No agent knows them.
const PACEMAKER_WORDS: [(&str, &str); 27] = [
    ("migration-threshold", "write failures_max = N"),
    ("failure-timeout", "write failures = { max = N, forget_after = \"10m\" }"),
    ("resource-stickiness", "write stickiness = N, or leave it out: what runs stays"),
    ("target-role", "write enabled = false, or use `cardea stop`"),
    ("is-managed", "use `cardea maintenance` while somebody else looks after it"),
    ("maintenance", "use `cardea maintenance` while somebody else looks after it"),
    ("on-fail", "leave it out: it restarts in place, then elsewhere, and is fenced if it cannot be stopped"),
    ("multiple-active", "leave it out: an exclusive resource is never started twice"),
    ("requires", "write class = \"best-effort\" for what may start without the proof that it runs nowhere else"),
    ("allow-migrate", "leave it out: nothing moves live yet"),
    ("resource-discovery", "leave it out: every node is asked what runs there"),
    ("start-delay", "write after = [\"…\"] for what must run before"),
    ("interval", "write monitor = { every = \"10s\" }"),
    (
        "op",
        "write monitor = { every = \"10s\", timeout = \"20s\" }, start = { timeout = \"…\" }, stop = { timeout = \"…\" }",
    ),
    ("operations", "write monitor = { every = \"10s\", timeout = \"20s\" }"),
    ("meta", "write its words as keys of the resource"),
    ("meta-attributes", "write its words as keys of the resource"),
    ("utilization", "write needs = { memory = 4096 }"),
    ("clone-max", "write copies = N"),
    ("clone-node-max", "write copies_per_node = N"),
    ("globally-unique", "write copies_per_node = N"),
    ("interleave", "leave it out: copies pair up with those on their own node"),
    ("ordered", "leave it out: the members of a group start in their order"),
    ("promotable", "write promote = 1"),
    ("promoted-max", "write promote = N"),
    ("master-max", "write promote = N"),
    ("notify", "leave it out: copies are not told of each other yet"),
];

/// A parameter of a foreign agent may be called anything; a word of Pacemaker's is none of an agent.
fn warn_pacemaker_words(section: &Section<'_>, findings: &mut Findings) {
    for (name, span, _) in section.entries() {
        let plain = name.to_ascii_lowercase().replace('_', "-");
        let Some((_, instead)) = PACEMAKER_WORDS.iter().find(|(word, _)| *word == plain) else { continue };
        if findings.is_full() {
            return;
        }
        findings.push(
            Diagnostic::warning(
                "config::pacemaker_word",
                format!("`{}` of {} is passed to the agent as a parameter", shown(name), section.what),
            )
            .at(span, "a word of Pacemaker's, without effect here")
            .help(format!("{instead}; if the agent has such a parameter: parameters = {{ {} = … }}", shown(name))),
        );
    }
}

fn resource(
    name: &str,
    section: &Section<'_>,
    names: &Names<'_>,
    places: &mut Places,
    findings: &mut Findings,
) -> Option<ResourceConfig> {
    require_agent(section, findings);
    let resource_name = ResourceName::from(name);
    places.resources.insert(resource_name.clone(), section.span.clone());
    let classes = [("exclusive", Class::Exclusive), ("best-effort", Class::BestEffort)];
    let class = section.word("class", &classes, findings).unwrap_or_default();
    let domains = domains(section, "domains", findings);
    let (every, check_timeout) = match section.nested("monitor", findings) {
        Some(monitor) => {
            monitor.refuse_unknown_keys(&["every", "timeout"], findings);
            (monitor.duration("every", true, findings), monitor.duration("timeout", false, findings))
        }
        None => (None, None),
    };
    let limit = |operation: &str, findings: &mut Findings| {
        let table = section.nested(operation, findings)?;
        table.refuse_unknown_keys(&["timeout"], findings);
        table.duration("timeout", false, findings)
    };
    let timeouts = Timeouts {
        start: limit("start", findings).unwrap_or(TIMEOUT),
        stop: limit("stop", findings).unwrap_or(TIMEOUT),
    };
    let (failures_max, failures_forgotten_after) = failures(section, findings);
    let needs = amounts(section, "needs", findings);
    for (what, (_, span)) in &needs {
        places.needs.insert((resource_name.clone(), what.clone()), span.clone());
    }
    let placement = match names.grouped.get(name) {
        None => placement(&UnitName::from(name), section, names, places, findings),
        Some(group) => {
            refuse_placement(section, group, findings);
            Placement::default()
        }
    };
    let raw = raw_parameters(section, findings);
    let agent = agent(section, findings)?;
    let parameters = match agent.to_string().as_str() {
        "cardea:ip" => {
            let (parameters, kept) = parameters::ip(section, &raw, findings);
            places.addresses.extend(kept.map(|kept| (resource_name, kept.address, kept.span)));
            parameters
        }
        "cardea:process" => parameters::process(section, &raw, findings),
        _ => {
            warn_misspelt(section, &resource_keys(), findings);
            warn_pacemaker_words(section, findings);
            parameters::free(&section.what, &raw, false, findings)
        }
    };
    Some(ResourceConfig {
        agent,
        class,
        domains,
        parameters,
        monitor: MonitorConfig { every: every.unwrap_or(MONITOR_EVERY), timeout: check_timeout.unwrap_or(TIMEOUT) },
        timeouts,
        failures_max,
        placement,
        needs: needs.into_iter().map(|(what, (amount, _))| (what, amount)).collect(),
        failures_forgotten_after,
    })
}

/// How often it may fail on a node, and when that is forgotten.
fn failures(section: &Section<'_>, findings: &mut Findings) -> (u32, Option<Duration>) {
    let most = |section: &Section<'_>, key: &str, findings: &mut Findings| {
        section.integer(key, 1..i64::from(u32::MAX) + 1, findings).and_then(|n| u32::try_from(n).ok())
    };
    let short = most(section, "failures_max", findings);
    let Some(table) = section.nested("failures", findings) else { return (short.unwrap_or(FAILURES_MAX), None) };
    table.refuse_unknown_keys(&["max", "forget_after"], findings);
    if let (Some((span, _)), Some(_)) = (section.entry("failures_max"), table.entry("max")) {
        findings.push(
            Diagnostic::error("config::duplicate", format!("{} says twice how often it may fail", section.what))
                .at(span, "the same as `max` of `failures`")
                .help("remove `failures_max`"),
        );
    }
    let forgotten = table.duration("forget_after", true, findings);
    (most(&table, "max", findings).or(short).unwrap_or(FAILURES_MAX), forgotten)
}

/// The keys that go to the agent: those that are not ours, and all of `parameters`.
fn raw_parameters<'a>(section: &Section<'a>, findings: &mut Findings) -> Vec<Raw<'a>> {
    let keys = resource_keys();
    let mut raw: Vec<Raw<'a>> = section.entries().filter(|(key, _, _)| !keys.contains(key)).collect();
    if let Some(table) = section.nested("parameters", findings) {
        for (key, span, value) in table.entries() {
            if section.entry(key).is_some() && !keys.contains(&key) {
                findings.push(
                    Diagnostic::error(
                        "config::duplicate",
                        format!("parameter `{}` of {} stands twice", shown(key), section.what),
                    )
                    .at(span, "the second time"),
                );
            } else {
                raw.push((key, span, value));
            }
        }
    }
    raw
}

fn agent(section: &Section<'_>, findings: &mut Findings) -> Option<AgentName> {
    let text = section.string("agent", findings)?;
    let refused = |message: String, label: &str, help: String| {
        Diagnostic::error("config::bad_agent", message).at(text.span.clone(), label).help(help)
    };
    let shown_agent = shown(text.value);
    let is_other = |text: &str| matches!(AgentName::try_from(text.to_owned()), Ok(AgentName::Other { .. }));
    let finding = if text.value.starts_with("systemd:") || text.value.starts_with("stonith:") || is_other(text.value) {
        let (standard, name) = text.value.split_once(':').unwrap_or((text.value, ""));
        let name = shown(name);
        let (agents, help) = match standard {
            "stonith" => (
                "fence devices among the resources",
                format!("write it as a device: [fence.NAME] with agent = \"{name}\", and fence = [\"NAME\"] in [nodes.…]"),
            ),
            "heartbeat" => (
                "agents of Heartbeat's first kind",
                format!("write its successor: agent = \"ocf:heartbeat:{name}\""),
            ),
            "lsb" | "service" | "upstart" | "nagios" => (
                "agents for scripts of that kind",
                "run the program itself with agent = \"cardea:process\" and command = [\"/usr/sbin/NAME\", …], or use an agent \"ocf:PROVIDER:NAME\"".to_owned(),
            ),
            "systemd" => (
                "agents for systemd units yet",
                "run the program itself with agent = \"cardea:process\" and command = [\"/usr/sbin/NAME\", …], in the foreground".to_owned(),
            ),
            _ => (
                "agents for that standard",
                "run the program itself with agent = \"cardea:process\" and command = [\"/usr/sbin/NAME\", …], in the foreground".to_owned(),
            ),
        };
        findings.push(
            Diagnostic::error(
                "config::no_such_agents",
                format!("{} uses `{shown_agent}`, and there are no {agents}", section.what),
            )
            .at(text.span.clone(), "not available")
            .help(help),
        );
        return AgentName::try_from(text.value.to_owned()).ok();
    } else {
        match AgentName::try_from(text.value.to_owned()) {
            Ok(agent @ AgentName::Ocf { .. }) => return Some(agent),
            Ok(agent @ AgentName::Native(_)) if NATIVE_AGENTS.contains(&text.value) => return Some(agent),
            Ok(AgentName::Native(_)) => refused(
                format!("{} uses `{shown_agent}`, which does not exist", section.what),
                "no such agent",
                suggestion(text.value, "built-in agents", &NATIVE_AGENTS),
            ),
            Ok(AgentName::Other { .. }) | Err(_) => refused(
                format!("{} uses `{shown_agent}`, which is not the name of an agent", section.what),
                "not an agent",
                match nearest(text.value, &NATIVE_AGENTS) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "write \"cardea:ip\", \"cardea:process\" or \"ocf:PROVIDER:NAME\"".to_owned(),
                },
            ),
        }
    };
    findings.push(finding);
    None
}

fn group(
    name: &str,
    section: &Section<'_>,
    names: &Names<'_>,
    places: &mut Places,
    findings: &mut Findings,
) -> GroupConfig {
    let known: Vec<&str> = ["members"].into_iter().chain(PLACEMENT_KEYS).collect();
    section.refuse_unknown_keys(&known, findings);
    section.require("members", "members = [\"RESOURCE\"], in the order of their starts", findings);
    places.groups.insert(GroupName::from(name), section.span.clone());
    let mut members: Vec<ResourceName> = Vec::new();
    if let Some(texts) = section.strings("members", findings) {
        if texts.value.is_empty() {
            findings.push(
                Diagnostic::error("config::empty", format!("{} has no members", section.what))
                    .at(texts.span, "nothing to run")
                    .help("name its resources in the order of their starts, or remove the group"),
            );
        }
        for member in texts.value {
            if findings.is_full() {
                break;
            }
            match names.grouped.get(member.value) {
                _ if !names.resources.contains(&member.value) => {
                    let is_group = names.groups.contains(&member.value);
                    let message = format!(
                        "{} has member `{}`, which is {}",
                        section.what,
                        shown(member.value),
                        if is_group { "a group itself" } else { "no resource" }
                    );
                    findings.push(unknown("config::unknown_resource", message, &member, "resources", &names.resources));
                }
                _ if members.iter().any(|known| known.0 == member.value) => findings.push(
                    Diagnostic::error(
                        "config::duplicate",
                        format!("{} has member `{}` twice", section.what, member.value),
                    )
                    .at(member.span, "the second time"),
                ),
                Some(other) if *other != name => findings.push(
                    Diagnostic::error("config::two_groups", format!("resource `{}` is in two groups", member.value))
                        .at(member.span, format!("already in group `{other}`"))
                        .help("a resource runs in one group; let one group start `after` the other"),
                ),
                Some(_) | None => members.push(ResourceName::from(member.value)),
            }
        }
    }
    GroupConfig { members, placement: placement(&UnitName::from(name), section, names, places, findings) }
}
