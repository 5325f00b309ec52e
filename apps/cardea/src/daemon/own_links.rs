//! Does a node have the addresses that somebody wants to give it, and are they in the right order?
//!
//! Only the node itself knows what its interfaces have: `init` and `join` look for themselves, `plan` and `apply` ask
//! every node whose links change. The order is wrong if another node's address of one network lies in the network of
//! another link of this node; networks that nodes reach through routers give no such sign and are taken as they are.
//!
//! Not here: whether the addresses carry heartbeats, which only their use shows (`node::Addresses`).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Refused, RefusedCode};
use futures_util::future::join_all;
use model::{ClusterConfig, NodeName};
use serde::{Deserialize, Serialize};

use super::peers;
use super::worker::Hub;

/// How long a node may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a machine has, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Has {
    /// Those of the wanted addresses that it cannot use.
    pub missing: Vec<IpAddr>,
    /// The addresses of its interfaces.
    pub interfaces: Vec<Interface>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The name of the interface.
    pub name: String,
    /// An address that the interface has, of either family.
    pub address: IpAddr,
    /// How many bits of it name its network.
    pub prefix: u8,
}

/// Why a node cannot have these links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrongLink {
    /// The machine has no such address.
    Missing { node: String, address: IpAddr, has: Vec<Interface> },
    /// The same network is another link of another node.
    Order { node: String, link: usize, address: IpAddr, other: String, other_link: usize, other_address: IpAddr },
}

impl WrongLink {
    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            WrongLink::Missing { node, address, .. } => format!(
                "give the machine that address (`ip address add {address}/PREFIX dev INTERFACE` on {node}, and in its \
                 network configuration so that it stays), or write one that it has"
            ),
            WrongLink::Order { node, .. } => format!(
                "the first link of every node is network 1, the second is network 2: write the links of {node} in that \
                 order"
            ),
        }
    }
}

impl fmt::Display for WrongLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WrongLink::Missing { node, address, has } => {
                let has: Vec<String> =
                    has.iter().map(|one| format!("{}/{} on {}", one.address, one.prefix, one.name)).collect();
                let has = if has.is_empty() { "no address at all".to_owned() } else { has.join(", ") };
                write!(f, "{node} does not have the address {address}; it has {has}")
            }
            WrongLink::Order { node, link, address, other, other_link, other_address } => write!(
                f,
                "link {link} of {node} ({address}) is on the network of link {other_link} of {other} \
                 ({other_address}): their links are not in the same order"
            ),
        }
    }
}

/// What this machine has.
///
/// # Errors
/// If the system does not tell.
pub fn here(wanted: &[IpAddr]) -> std::io::Result<Has> {
    let mut missing = Vec::new();
    for address in wanted {
        if !transport::has_address(*address)? {
            missing.push(*address);
        }
    }
    let interface = |found: transport::InterfaceAddress| Interface {
        name: found.interface,
        address: found.address,
        prefix: found.prefix,
    };
    Ok(Has { missing, interfaces: transport::interface_addresses()?.into_iter().map(interface).collect() })
}

/// Judges the links of a node by what its machine has, and by the links of the others.
pub fn judge<'a>(
    node: &str,
    links: &[IpAddr],
    has: &Has,
    others: impl IntoIterator<Item = (&'a str, &'a [IpAddr])>,
) -> Result<(), WrongLink> {
    if let Some(address) = links.iter().find(|address| has.missing.contains(address)) {
        return Err(WrongLink::Missing { node: node.to_owned(), address: *address, has: has.interfaces.clone() });
    }
    let interface = |address: &IpAddr| has.interfaces.iter().find(|interface| interface.address == *address);
    let shares = |own: &IpAddr, other: &IpAddr| {
        interface(own).is_some_and(|interface| is_same_network(*own, *other, interface.prefix))
    };
    for (other, other_links) in others {
        for (other_n, other_address) in other_links.iter().enumerate() {
            if links.get(other_n).is_some_and(|own| shares(own, other_address)) {
                continue;
            }
            if let Some((n, address)) = links.iter().enumerate().find(|(_, own)| shares(own, other_address)) {
                return Err(WrongLink::Order {
                    node: node.to_owned(),
                    link: n + 1,
                    address: *address,
                    other: other.to_owned(),
                    other_link: other_n + 1,
                    other_address: *other_address,
                });
            }
        }
    }
    Ok(())
}

fn is_same_network(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let prefix = u32::from(prefix);
    match (one, other) {
        // Without a network of its own, such as a point-to-point address, nothing is known.
        (IpAddr::V4(one), IpAddr::V4(other)) if (1..32).contains(&prefix) => {
            (one.to_bits() ^ other.to_bits()) >> (32 - prefix) == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) if (1..128).contains(&prefix) => {
            (one.to_bits() ^ other.to_bits()) >> (128 - prefix) == 0
        }
        (IpAddr::V4(_) | IpAddr::V6(_), IpAddr::V4(_) | IpAddr::V6(_)) => false,
    }
}

/// Asks every node whose links would change whether it has them; the warnings about those that could not be asked.
pub async fn refuse_wrong_links(hub: &Arc<Hub>, config: &ClusterConfig) -> Result<Vec<String>, Refused> {
    let view = &hub.picture().view;
    let state = &view.state;
    let current = |name: &NodeName| state.config.nodes.get(name).map(|node| &node.links);
    let changed = state.members.iter().filter_map(|(id, member)| {
        let links = &config.nodes.get(&member.name)?.links;
        (current(&member.name) != Some(links)).then_some((*id, &member.name, links))
    });
    let answers = changed.map(|(id, name, links)| async move {
        let has = if id == hub.own() { here(links).map_err(anyhow::Error::from) } else { ask(hub, id, links).await };
        (name, links, has)
    });
    let mut warnings = Vec::new();
    for (name, links, has) in join_all(answers).await {
        let others = config.nodes.iter().filter(|(other, _)| *other != name);
        let others = others.map(|(other, node)| (other.as_str(), node.links.as_slice()));
        match has {
            Ok(has) => judge(name.as_str(), links, &has, others).map_err(|wrong| {
                let message = format!("{wrong}; nothing was changed");
                Refused::new(RefusedCode::Invalid, message, wrong.next())
            })?,
            Err(cause) => {
                let list: Vec<String> = links.iter().map(ToString::to_string).collect();
                warnings.push(format!(
                    "{name} could not be asked whether it has the addresses {} ({cause:#}): its present ones stay in \
                     use until heartbeats go both ways over the new ones",
                    list.join(", ")
                ));
            }
        }
    }
    Ok(warnings)
}

async fn ask(hub: &Arc<Hub>, id: model::NodeId, links: &[IpAddr]) -> anyhow::Result<Has> {
    let answer = hub.ask_peer(id, peers::links_question(links), PATIENCE).await?;
    peers::unpack(&answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn has(missing: &[&str]) -> Has {
        let interface = |(n, text): (usize, &&str)| Interface {
            name: format!("eth{n}"),
            address: text.parse().expect("an address"),
            prefix: 24,
        };
        Has {
            missing: ips(missing),
            interfaces: ["10.0.0.3", "10.0.1.3", "10.0.0.33"].iter().enumerate().map(interface).collect(),
        }
    }

    fn judged(links: &[&str], has: &Has, other: &[&str]) -> Result<(), WrongLink> {
        judge("c", &ips(links), has, [("a", ips(other).as_slice())])
    }

    #[test]
    fn an_address_that_the_machine_lacks_is_named_with_those_that_it_has() {
        let wrong = judged(&["10.0.0.9", "10.0.1.3"], &has(&["10.0.0.9"]), &[]).expect_err("it lacks one");
        let text = wrong.to_string();
        assert!(text.contains("c does not have the address 10.0.0.9; it has 10.0.0.3/24 on eth0"), "{text}");
        assert!(wrong.next().contains("ip address add 10.0.0.9/PREFIX"), "{}", wrong.next());
        let nothing = WrongLink::Missing { node: "c".into(), address: ips(&["10.0.0.9"])[0], has: Vec::new() };
        assert!(nothing.to_string().ends_with("no address at all"), "{nothing}");
    }

    #[test]
    fn links_in_another_order_than_those_of_the_others_are_found() {
        let others = ["10.0.0.1", "10.0.1.1"];
        assert_eq!(judged(&["10.0.0.3", "10.0.1.3"], &has(&[]), &others), Ok(()));
        assert_eq!(judged(&["10.0.0.33", "10.0.1.3"], &has(&[]), &others), Ok(()));
        let wrong = judged(&["10.0.1.3", "10.0.0.3"], &has(&[]), &others).expect_err("the other way round");
        assert!(
            wrong.to_string().contains("link 2 of c (10.0.0.3) is on the network of link 1 of a (10.0.0.1)"),
            "{wrong}"
        );
        assert!(wrong.next().contains("links of c"), "{}", wrong.next());
        assert!(judged(&["10.0.1.3"], &has(&[]), &others).is_err(), "one link, on the second network");
    }

    #[test]
    fn routed_networks_give_no_sign_of_an_order() {
        assert_eq!(judged(&["10.0.0.3", "10.0.1.3"], &has(&[]), &["10.9.1.1", "10.9.0.1"]), Ok(()));
        let mut routed = has(&[]);
        routed.interfaces.iter_mut().for_each(|interface| interface.prefix = 32);
        assert_eq!(judged(&["10.0.1.3", "10.0.0.3"], &routed, &["10.0.0.1", "10.0.1.1"]), Ok(()));
        routed.interfaces.iter_mut().for_each(|interface| interface.prefix = 0);
        assert_eq!(judged(&["10.0.1.3", "10.0.0.3"], &routed, &["10.0.0.1", "10.0.1.1"]), Ok(()));
        let v6 = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(is_same_network(v6("fd00:1::1"), v6("fd00:1::2"), 64));
        assert!(!is_same_network(v6("fd00:1::1"), v6("fd00:2::2"), 64));
        assert!(!is_same_network(v6("fd00:1::1"), v6("10.0.0.1"), 64));
    }
}
