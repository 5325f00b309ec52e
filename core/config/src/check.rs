//! Can this cluster be kept safe? The checks that concern several tables at once.
//!
//! The rules are those of SAFETY §2.5: an exclusive resource needs, on every node that could run it, a fence device that
//! covers what it can damage; two voters alone cannot tell which of them was cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::{Class, ClusterConfig, Domain, NodeConfig, NodeName, NodeRole, ParameterValue};

use crate::contradictions;
use crate::diagnostic::{Diagnostic, Findings};
use crate::file::Places;
use crate::words::{domain_word, enumeration};

/// Most copies of resources in all: what planning can bear.
const INSTANCES_MAX: usize = 10_000;

/// How many copies of resources the cluster would run in all.
pub fn instances(config: &ClusterConfig) -> usize {
    let copies = |unit: &model::Unit<'_>| match &unit.placement.copies {
        Some(copies) => copies.count.map_or(config.nodes.len(), |count| usize::try_from(count).unwrap_or(usize::MAX)),
        None => 1,
    };
    let units = config.units();
    units.values().map(|unit| copies(unit).saturating_mul(unit.members.len())).fold(0, usize::saturating_add)
}

/// Looks for faults between the tables of a file.
pub(crate) fn check(config: &ClusterConfig, places: &Places, findings: &mut Findings) {
    refuse_shared_addresses(config, places, findings);
    let instances = instances(config);
    if instances > INSTANCES_MAX {
        findings.push(
            Diagnostic::error(
                "config::too_many",
                format!("{instances} copies of resources are more than a cluster can plan, which is {INSTANCES_MAX}"),
            )
            .help("lower `copies`, or use several clusters"),
        );
        return;
    }
    contradictions::check(config, places, findings);
    if findings.has_errors() {
        return; // a node or device that was misread would be blamed for lacking what it has
    }
    check_networks(config, places, findings);
    refuse_unfenced(config, places, findings);
    check_votes(config, places, findings);
    warn_links(config, places, findings);
    warn_swapped_links(config, places, findings);
    warn_foreign_addresses(config, places, findings);
}

fn refuse_shared_addresses(config: &ClusterConfig, places: &Places, findings: &mut Findings) {
    let mut users: BTreeMap<IpAddr, String> = BTreeMap::new();
    let links = config.nodes.iter().flat_map(|(name, node)| {
        let spans = places.links.get(name).into_iter().flatten();
        node.links.iter().zip(spans).map(move |(address, span)| (format!("node `{name}`"), *address, span))
    });
    let kept = places
        .addresses
        .iter()
        .map(|(resource, address, span)| (format!("resource `{resource}`"), IpAddr::V4(*address), span));
    let mut all: Vec<_> = links.chain(kept).collect();
    all.sort_by_key(|(_, _, span)| span.start);
    for (user, address, span) in all {
        if let Some(first) = users.get(&address) {
            findings.push(
                Diagnostic::error("config::duplicate_address", format!("{user} has address {address} of {first}"))
                    .at(span.clone(), "in use")
                    .help("give each link and each resource an address of its own"),
            );
        } else {
            users.insert(address, user);
        }
    }
}

fn check_networks(config: &ClusterConfig, places: &Places, findings: &mut Findings) {
    let links_max = config.nodes.values().map(|n| n.links.len()).max().unwrap_or(0);
    for (number, span) in places.networks.iter().filter(|(number, _)| usize::from(**number) > links_max) {
        findings.push(
            Diagnostic::error("config::unused_network", format!("network `{number}` does not exist"))
                .at(span.clone(), format!("no node has a link {number}"))
                .help("[networks.1] is the network of the first link of every node"),
        );
    }
    let members = || members(config).filter(|(_, node)| !node.links.is_empty());
    let Some((first, most)) = members().map(|(name, node)| (name, node.links.len())).max_by_key(|(_, links)| *links)
    else {
        return;
    };
    for (name, node) in members().filter(|(_, node)| node.links.len() < most) {
        let Some(span) = places.nodes.get(name) else { continue };
        let message = format!("node `{name}` has {} of the {most} links that node `{first}` has", node.links.len());
        findings.push(
            Diagnostic::error("config::links_differ", message)
                .at(span.clone(), "a link is missing")
                .help("the same position is the same network: give every member one address for each"),
        );
    }
}

fn members(config: &ClusterConfig) -> impl Iterator<Item = (&NodeName, &NodeConfig)> {
    config.nodes.iter().filter(|(_, node)| match node.role {
        NodeRole::Member => true,
        NodeRole::Witness => false,
    })
}

fn refuse_unfenced(config: &ClusterConfig, places: &Places, findings: &mut Findings) {
    let units = config.units();
    for (name, resource) in config.resources.iter().filter(|(_, r)| r.class == Class::Exclusive) {
        let unit = units.get(&config.unit_of(name));
        let lacking: Vec<(&NodeName, BTreeSet<Domain>)> = members(config)
            .filter(|(node, _)| unit.is_none_or(|unit| contradictions::may_run_on(unit.placement, node)))
            .map(|(node, _)| (node, resource.domains.difference(&config.fence_cover(node)).copied().collect()))
            .filter(|(_, missing): &(_, BTreeSet<Domain>)| !missing.is_empty())
            .collect();
        if lacking.is_empty() {
            continue;
        }
        let nodes: Vec<&str> = lacking.iter().map(|(node, _)| node.as_str()).collect();
        let words =
            |missing: &BTreeSet<Domain>| missing.iter().map(|d| domain_word(*d)).collect::<Vec<_>>().join(" and ");
        let (noun, verb) = if nodes.len() == 1 { ("node", "has") } else { ("nodes", "have") };
        let first = &lacking[0].1;
        let label = if lacking.iter().all(|(_, missing)| missing == first) {
            format!("{noun} {} {verb} no fence device that covers {}", enumeration(&nodes), words(first))
        } else {
            let each: Vec<String> =
                lacking.iter().map(|(node, missing)| format!("{} on `{node}`", words(missing))).collect();
            format!("no fence device covers {}", each.join(", "))
        };
        let message =
            format!("resource `{name}` is exclusive, but {noun} {} cannot be cut off from it", enumeration(&nodes));
        let span = places.resources.get(name).cloned().unwrap_or_default();
        findings.push(Diagnostic::error("config::unfenced", message).at(span, label).help(
            "give each node fence = [\"DEVICE\"], or write class = \"best-effort\" if two copies at once do no harm",
        ));
    }
}

fn check_votes(config: &ClusterConfig, places: &Places, findings: &mut Findings) {
    let all = config.nodes.len();
    let members = members(config).count();
    let Some((last, span)) = places.nodes.iter().max_by_key(|(_, span)| span.start) else {
        findings.push(
            Diagnostic::error("config::no_nodes", "the cluster has no nodes")
                .help("write [nodes.NAME] with links = [\"192.0.2.1\"]"),
        );
        return;
    };
    if members == 0 {
        findings.push(
            Diagnostic::error("config::no_nodes", "every node is a witness: none can run a resource")
                .at(span.clone(), "runs nothing")
                .help(format!("remove role = \"witness\" from [nodes.{last}], or add a member")),
        );
    } else if members == 2 && all == 2 && config.resources.values().any(|r| r.class == Class::Exclusive) {
        findings.push(
            Diagnostic::error(
                "config::two_voters",
                "two nodes alone cannot tell which of them was cut off, and there are exclusive resources",
            )
            .at(span.clone(), "the second of two votes")
            .help("add a witness: a third machine with role = \"witness\" votes and runs nothing"),
        );
    } else if all.is_multiple_of(2) {
        findings.push(
            Diagnostic::warning("config::even_nodes", format!("{all} nodes survive no more failures than {}", all - 1))
                .at(span.clone(), "an even number of nodes")
                .help("add a node, or a witness that votes and runs nothing"),
        );
    }
}

fn warn_links(config: &ClusterConfig, places: &Places, findings: &mut Findings) {
    if config.nodes.len() < 2 {
        return;
    }
    let single: Vec<&NodeName> =
        config.nodes.iter().filter(|(_, n)| n.links.len() == 1).map(|(name, _)| name).collect();
    if let Some(span) = single.first().and_then(|name| places.nodes.get(*name)) {
        let names: Vec<&str> = single.iter().take(8).map(|name| name.as_str()).collect();
        let more = if single.len() > names.len() { " and others" } else { "" };
        let (noun, verb) = if single.len() == 1 { ("node", "has") } else { ("nodes", "have") };
        findings.push(
            Diagnostic::warning(
                "config::single_link",
                format!("{noun} {}{more} {verb} a single link", enumeration(&names)),
            )
            .at(span.clone(), "one cut cable and the node is lost")
            .help("add an address on a second network to `links`"),
        );
    }
    let members: Vec<(&NodeName, &NodeConfig)> = members(config).collect();
    if let [(a, first), (b, second), ..] = members.as_slice()
        && first.links.len().min(second.links.len()) > 1
        && config.link_domains(a, b) == 1
        && let Some(span) = places.networks.values().next_back()
    {
        findings.push(
            Diagnostic::warning("config::one_domain", "all links lie in one failure domain")
                .at(span.clone(), "the same domain again")
                .help("one failure cuts every link: use networks that share no switch"),
        );
    }
}

/// Is an address on the same network as a link, as far as a usual prefix tells? The file does not say the prefix.
fn usual_network(address: IpAddr) -> (bool, u64) {
    match address {
        IpAddr::V4(address) => (true, u64::from(address.to_bits() >> 8)),
        IpAddr::V6(address) => (false, (address.to_bits() >> 64) as u64),
    }
}

/// A node whose link lies on a network that is another number for all others: their cables cross.
fn warn_swapped_links(config: &ClusterConfig, places: &Places, findings: &mut Findings) {
    let numbers_of = |of: &NodeName, network: (bool, u64)| -> BTreeSet<usize> {
        let others = config.nodes.iter().filter(|(name, _)| *name != of);
        let links = others.flat_map(|(_, node)| node.links.iter().enumerate());
        links.filter(|(_, address)| usual_network(**address) == network).map(|(number, _)| number).collect()
    };
    let swapped = |name: &NodeName, node: &NodeConfig| {
        node.links.iter().enumerate().find_map(|(number, address)| {
            let elsewhere = numbers_of(name, usual_network(*address));
            let other = *elsewhere.first()?;
            (!elsewhere.contains(&number)).then_some((number, *address, other))
        })
    };
    let mut found: Vec<_> = config.nodes.iter().filter_map(|(name, node)| Some((name, swapped(name, node)?))).collect();
    if found.len() * 2 > config.nodes.len() {
        // Each differs from some other: the last one is as good a place as any.
        found.drain(..found.len() - 1);
    }
    for (name, (number, address, other)) in found {
        let Some(span) = places.links.get(name).and_then(|spans| spans.get(number)) else { continue };
        findings.push(
            Diagnostic::warning(
                "config::swapped_links",
                format!(
                    "link {} of node `{name}` is {address}, whose network is number {} on other nodes",
                    number + 1,
                    other + 1
                ),
            )
            .at(span.clone(), "the links seem to be in another order")
            .help("the same position is the same network on every node: put `links` into the same order"),
        );
    }
}

/// An address for which no node has a link in its network. Its device would be found on no node.
fn warn_foreign_addresses(config: &ClusterConfig, places: &Places, findings: &mut Findings) {
    for (resource, address, span) in &places.addresses {
        let Some(settings) = config.resources.get(resource) else { continue };
        let text = |name: &str| match settings.parameters.get(name) {
            Some(ParameterValue::Text(text)) => Some(text.as_str()),
            Some(ParameterValue::File { .. }) | None => None,
        };
        let prefix = text("address").and_then(|text| text.split_once('/')?.1.parse::<u32>().ok());
        let Some(prefix) = prefix.filter(|prefix| *prefix > 0 && *prefix < 32 && text("device").is_none()) else {
            continue;
        };
        let network = |address: std::net::Ipv4Addr| address.to_bits() >> (32 - prefix);
        let has_link = |node: &NodeConfig| {
            node.links.iter().any(|link| matches!(link, IpAddr::V4(link) if network(*link) == network(*address)))
        };
        if members(config).any(|(_, node)| has_link(node)) {
            continue;
        }
        findings.push(
            Diagnostic::warning(
                "config::foreign_address",
                format!("no node has a link in the network of {address}/{prefix}, which resource `{resource}` keeps"),
            )
            .at(span.clone(), "on no node's network, as far as the file says")
            .help("it starts only where a network device holds that network: check the address, or name the device: device = \"eth1\""),
        );
    }
}
