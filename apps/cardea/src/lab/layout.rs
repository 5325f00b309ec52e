//! Which nodes and networks does a lab have? From a cluster file, or from two numbers.
//!
//! In: a cluster file or counts. Out: names, roles, addresses, and the text of the cluster file to apply.
//! Not here: making any of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use model::NodeRole;
use serde::{Deserialize, Serialize};

/// The port of the power switch, on the hub's address of each network.
pub const POWER_SWITCH_PORT: u16 = 7690;

/// The floating address of the service that a lab runs when nobody brings a cluster file.
pub const SERVICE_ADDRESS: &str = "10.77.1.100";

/// The port of that service.
pub const SERVICE_PORT: u16 = 8080;

/// Everything that a hub is told at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Name of the cluster.
    pub cluster: String,
    /// The machines.
    pub nodes: Vec<NodeLayout>,
    /// The networks; the position is the number, from 1.
    pub networks: Vec<NetworkLayout>,
    /// The cluster file.
    pub file: String,
    /// Files that every node finds below /run/cardea-lab, by name.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLayout {
    /// Its name.
    pub name: String,
    /// Votes only?
    pub is_witness: bool,
    /// One address per network.
    pub addresses: Vec<IpAddr>,
}

/// One network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkLayout {
    /// The hub's own address in it: clients and the power switch are there.
    pub hub: IpAddr,
    /// Prefix length.
    pub prefix: u8,
}

/// Why a lab cannot be laid out.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Too few or too many nodes.
    #[error("a lab has 1 to 7 nodes, not {0}: name another number with --nodes")]
    Nodes(usize),
    /// Too few or too many networks.
    #[error("a lab has 1 or 2 networks, not {0}: name another number with --networks")]
    Networks(usize),
    /// The cluster file has errors.
    #[error("{0}")]
    File(String),
}

impl Layout {
    /// A lab of `nodes` members (two get a witness beside them) on `networks` networks, with a floating address and a
    /// web service.
    ///
    /// `web_command` is the command line of the web service, argument by argument.
    pub fn new(nodes: usize, networks: usize, web_command: &[String]) -> Result<Layout, LayoutError> {
        if !(1..=7).contains(&nodes) {
            return Err(LayoutError::Nodes(nodes));
        }
        if !(1..=2).contains(&networks) {
            return Err(LayoutError::Networks(networks));
        }
        let address = |network: usize, host: usize| {
            let small = |number: usize| u8::try_from(number).expect("a lab is small");
            IpAddr::V4(Ipv4Addr::new(10, 77, small(network), small(host)))
        };
        let addresses = |host: usize| (1..=networks).map(|network| address(network, host)).collect::<Vec<IpAddr>>();
        let mut all: Vec<NodeLayout> = ["a", "b", "c", "d", "e", "f", "g"]
            .into_iter()
            .zip(1..)
            .take(nodes)
            .map(|(name, host)| NodeLayout { name: name.to_owned(), is_witness: false, addresses: addresses(host) })
            .collect();
        if nodes == 2 {
            all.push(NodeLayout { name: "w".to_owned(), is_witness: true, addresses: addresses(9) });
        }
        let networks: Vec<NetworkLayout> =
            (1..=networks).map(|network| NetworkLayout { hub: address(network, 254), prefix: 24 }).collect();
        let file = default_file(&all, &networks, web_command);
        Ok(Layout { cluster: "lab".to_owned(), nodes: all, networks, file, files: BTreeMap::new() })
    }

    /// The lab for a cluster file: its nodes, and one network per link.
    ///
    /// The hub takes the last address but one of the first node's /24 (or /64) in each network.
    pub fn from_file(text: &str) -> Result<Layout, LayoutError> {
        let parsed = config::parse(text).map_err(|diagnostics| {
            let lines = diagnostics.iter().map(|diagnostic| match &diagnostic.span {
                Some(span) => {
                    let (line, column) = config::line_column(text, span.start);
                    format!("{line}:{column}: {}", diagnostic.message)
                }
                None => diagnostic.message.clone(),
            });
            LayoutError::File(lines.collect::<Vec<String>>().join("\n"))
        })?;
        let nodes: Vec<NodeLayout> = parsed
            .config
            .nodes
            .iter()
            .map(|(name, node)| NodeLayout {
                name: name.to_string(),
                is_witness: node.role == NodeRole::Witness,
                addresses: node.links.clone(),
            })
            .collect();
        if !(1..=8).contains(&nodes.len()) {
            return Err(LayoutError::Nodes(nodes.len()));
        }
        let count = nodes.iter().map(|node| node.addresses.len()).max().unwrap_or(0);
        if !(1..=2).contains(&count) {
            return Err(LayoutError::Networks(count));
        }
        let networks = (0..count)
            .filter_map(|position| nodes.iter().find_map(|node| node.addresses.get(position)))
            .map(|address| match address {
                IpAddr::V4(address) => {
                    let [a, b, c, _] = address.octets();
                    NetworkLayout { hub: Ipv4Addr::new(a, b, c, 254).into(), prefix: 24 }
                }
                IpAddr::V6(address) => {
                    let mut segments = address.segments();
                    segments[4..].copy_from_slice(&[0, 0, 0, 0xfffe]);
                    NetworkLayout { hub: IpAddr::from(segments), prefix: 64 }
                }
            })
            .collect();
        Ok(Layout { cluster: parsed.config.name, nodes, networks, file: text.to_owned(), files: BTreeMap::new() })
    }

    /// Where the power switch listens, as the fence agent reads it: `10.77.1.254,10.77.2.254`.
    pub fn power_switch_addresses(&self) -> String {
        power_switch_addresses(&self.networks)
    }
}

fn power_switch_addresses(networks: &[NetworkLayout]) -> String {
    networks.iter().map(|network| network.hub.to_string()).collect::<Vec<String>>().join(",")
}

fn default_file(nodes: &[NodeLayout], networks: &[NetworkLayout], web_command: &[String]) -> String {
    let quoted = |items: &[String]| items.iter().map(|item| format!("{item:?}")).collect::<Vec<String>>().join(", ");
    let mut text = "cluster = \"lab\"\nprofile = \"lan\"\n".to_owned();
    for node in nodes {
        let links: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
        let _ = write!(text, "\n[nodes.{}]\nlinks = [{}]\n", node.name, quoted(&links));
        text.push_str(if node.is_witness { "role = \"witness\"\n" } else { "fence = [\"switch\"]\n" });
    }
    let _ = write!(
        text,
        "\n[fence.switch]\nagent = \"fence_lab\"\nip = \"{}\"\n\n\
         [resources.address]\nagent = \"cardea:ip\"\naddress = \"{SERVICE_ADDRESS}/24\"\n\n\
         [resources.web]\nagent = \"cardea:process\"\ncommand = [{}]\nhttp = \"http://{SERVICE_ADDRESS}:{SERVICE_PORT}/\"\n\n\
         [groups.site]\nmembers = [\"address\", \"web\"]\n",
        power_switch_addresses(networks),
        quoted(web_command),
    );
    text
}

/// The name in `known` that is closest to what somebody typed, if one is close.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| {
        let (typed, name): (Vec<char>, Vec<char>) = (typed.chars().collect(), name.chars().collect());
        let mut row: Vec<usize> = (0..=name.len()).collect();
        for (i, a) in typed.iter().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, b) in name.iter().enumerate() {
                let substituted = diagonal + usize::from(a != b);
                diagonal = row[j + 1];
                row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row[name.len()]
    };
    known
        .into_iter()
        .min_by_key(|name| distance(name))
        .filter(|name| distance(name) < name.len() && distance(name) <= 1.max(name.len() / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Vec<String> {
        vec!["cardea-web".to_owned()]
    }

    #[test]
    fn two_nodes_get_a_witness() {
        let layout = Layout::new(2, 2, &web()).expect("a layout");
        let names: Vec<(&str, bool)> = layout.nodes.iter().map(|n| (n.name.as_str(), n.is_witness)).collect();
        assert_eq!(names, [("a", false), ("b", false), ("w", true)]);
    }

    #[test]
    fn the_file_of_every_size_passes_the_check_and_gives_the_same_layout() {
        for nodes in 1..=7 {
            for networks in 1..=2 {
                let layout = Layout::new(nodes, networks, &web()).expect("a layout");
                let again = Layout::from_file(&layout.file).unwrap_or_else(|e| panic!("{e}\n{}", layout.file));
                assert_eq!(again, layout);
            }
        }
    }

    #[test]
    fn nobody_gets_eight_nodes_or_three_networks() {
        assert!(Layout::new(8, 1, &web()).is_err());
        assert!(Layout::new(0, 1, &web()).is_err());
        assert!(Layout::new(3, 3, &web()).is_err());
    }

    #[test]
    fn a_slip_of_the_finger_finds_its_name() {
        assert_eq!(nearest("alpa", ["alpha", "beta"]), Some("alpha"));
        assert_eq!(nearest("A1", ["a1", "b2"]), Some("a1"));
        assert_eq!(nearest("d", ["a", "b"]), None, "nothing in common");
        assert_eq!(nearest("zebra", ["alpha", "beta"]), None);
    }
}
