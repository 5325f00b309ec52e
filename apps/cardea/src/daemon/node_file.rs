//! Who is this node? The small files that a worker reads before anything else.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, bail};
use liveness::{PeerOrder, Timing};
use model::{ConfigVersion, NodeId, Profile};
use node::{Addresses, Place};
use serde::{Deserialize, Serialize};

use super::paths::Paths;

/// The port of heartbeats (UDP) and streams (TCP); messages have the next one (UDP).
pub const PORT: u16 = 7600;

/// Written once, by `cardea init` or `cardea join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    /// Version of this file.
    pub version: u32,
    /// The cluster's identity.
    pub cluster: u64,
    /// The cluster's name.
    pub cluster_name: String,
    /// This node's number.
    pub id: u64,
    /// This node's name.
    pub name: String,
    /// The identity of this node's storage.
    pub storage_uuid: String,
    /// Votes, runs nothing.
    pub is_witness: bool,
}

/// What the pulse needs to send beats before the database is open; rewritten whenever it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulseFile {
    /// Version of this file.
    pub version: u32,
    /// The set of timers.
    pub profile: Profile,
    /// The version of the cluster file that the addresses are taken from; 0 if an older program wrote this.
    #[serde(default)]
    pub config_version: u64,
    /// This node's address on each network.
    pub own: Vec<IpAddr>,
    /// This node's earlier addresses that are still in use, for each network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_former: Vec<Vec<IpAddr>>,
    /// The other members.
    pub peers: Vec<PulsePeer>,
    /// The voters.
    pub voters: Vec<u64>,
}

/// Another member and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulsePeer {
    /// Its number.
    pub id: u64,
    /// Its address on each network.
    pub links: Vec<IpAddr>,
    /// Its earlier addresses that are still in use, for each network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Vec<IpAddr>>,
    /// Its agreed incarnation, if it has one.
    pub incarnation: Option<u64>,
}

impl NodeFile {
    /// Reads it, and says what to do if it is not there.
    pub fn load(paths: &Paths) -> anyhow::Result<NodeFile> {
        let path = paths.node_file();
        if !path.exists() {
            bail!(
                "this node belongs to no cluster: {} is missing\n  make a cluster with `cardea init`, or enter one with `cardea join ADDRESS --token TOKEN`",
                path.display()
            );
        }
        load(&path)
    }

    /// Writes it for good.
    pub fn save(&self, paths: &Paths) -> anyhow::Result<()> {
        save(&paths.node_file(), self)
    }
}

impl PulseFile {
    /// Reads it.
    pub fn load(paths: &Paths) -> anyhow::Result<PulseFile> {
        load(&paths.pulse_file())
    }

    /// Writes it for good.
    pub fn save(&self, paths: &Paths) -> anyhow::Result<()> {
        save(&paths.pulse_file(), self)
    }

    /// The timers.
    pub fn timing(&self) -> Timing {
        Timing::of(self.profile)
    }

    /// Where everybody is.
    pub fn addresses(&self) -> Addresses {
        let peers = self.peers.iter().map(|peer| (NodeId(peer.id), places(&peer.links, &peer.former)));
        Addresses::stored(ConfigVersion(self.config_version), places(&self.own, &self.own_former), peers.collect())
    }

    /// The peers as the pulse wants them.
    pub fn orders(&self) -> Vec<PeerOrder> {
        let addresses = self.addresses();
        let order = |peer: &PulsePeer| PeerOrder {
            id: NodeId(peer.id),
            links: addresses.links_to(NodeId(peer.id)),
            incarnation: peer.incarnation.map(model::Incarnation),
        };
        self.peers.iter().map(order).collect()
    }
}

/// The places of a node, as the file has them.
fn places(links: &[IpAddr], former: &[Vec<IpAddr>]) -> Vec<Place> {
    let place = |n: usize| Place { agreed: links.get(n).copied(), former: former.get(n).cloned().unwrap_or_default() };
    (0..links.len().max(former.len())).map(place).collect()
}

/// Places as the file has them: addresses, and earlier ones.
pub fn as_stored(places: &[Place]) -> (Vec<IpAddr>, Vec<Vec<IpAddr>>) {
    let links = places.iter().map_while(|place| place.agreed).collect();
    let has_former = places.iter().any(|place| !place.former.is_empty());
    let former = places.iter().filter(|_| has_former).map(|place| place.former.clone()).collect();
    (links, former)
}

/// The newest version of both files that this program understands.
const VERSION_MAX: u32 = 1;

fn load<T: for<'a> Deserialize<'a>>(path: &Path) -> anyhow::Result<T> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if let Ok(Versioned { version }) = serde_json::from_slice(&text)
        && version > VERSION_MAX
    {
        bail!(
            "{} has version {version}, and this program understands up to {VERSION_MAX}: a newer one wrote it\n  \
             install that one again; `cardea --version` tells which one this is",
            path.display()
        );
    }
    serde_json::from_slice(&text).with_context(|| {
        format!("{} is damaged; restore it from a backup, or remove this node and join it anew", path.display())
    })
}

fn save<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(value)?;
    storage::state_file::save(path, &text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node_file() -> NodeFile {
        NodeFile {
            version: 1,
            cluster: u64::MAX,
            cluster_name: "shop".to_owned(),
            id: 9,
            name: "b".to_owned(),
            storage_uuid: "00ff".to_owned(),
            is_witness: true,
        }
    }

    #[test]
    fn a_file_of_a_newer_program_is_left_alone_and_said_to_be_newer() {
        let (_root, paths) = root();
        NodeFile { version: VERSION_MAX + 1, ..node_file() }.save(&paths).expect("written");
        let refusal = NodeFile::load(&paths).expect_err("too new").to_string();
        assert!(refusal.contains("version 2") && refusal.contains("cardea --version"), "{refusal}");
    }

    fn root() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        std::fs::create_dir_all(paths.lib()).expect("a folder");
        (root, paths)
    }

    #[test]
    fn who_a_node_is_survives_the_disk() {
        let (_root, paths) = root();
        node_file().save(&paths).expect("a writable folder");
        assert_eq!(NodeFile::load(&paths).expect("what was written"), node_file());
    }

    #[test]
    fn a_node_of_no_cluster_is_told_how_to_enter_one() {
        let (_root, paths) = root();
        let error = NodeFile::load(&paths).expect_err("nothing is there").to_string();
        assert!(error.contains("cardea init") && error.contains("cardea join"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_named() {
        let (_root, paths) = root();
        std::fs::write(paths.node_file(), b"{\"version\": 1").expect("a writable folder");
        let error = format!("{:#}", NodeFile::load(&paths).expect_err("half a file"));
        assert!(error.contains("node.json") && error.contains("damaged"), "{error}");
    }

    /// What an earlier version wrote is read, and so is a file with fields of a later one.
    #[test]
    fn the_files_of_other_versions_stay_readable() {
        let node = r#"{"version":1,"cluster":18446744073709551615,"cluster_name":"shop","id":9,"name":"b",
            "storage_uuid":"00ff","is_witness":true,"new":[1]}"#;
        assert_eq!(serde_json::from_str::<NodeFile>(node).expect("a node file"), node_file());
        let pulse = r#"{"version":1,"profile":"lan","own":["10.0.0.1","10.0.1.1"],
            "peers":[{"id":9,"links":["10.0.0.2"],"incarnation":null}],"voters":[1,9],"new":true}"#;
        let pulse: PulseFile = serde_json::from_str(pulse).expect("a pulse file");
        assert_eq!(pulse.orders(), [PeerOrder { id: NodeId(9), links: 1, incarnation: None }], "links that both have");
        assert_eq!(pulse.timing(), Timing::of(Profile::Lan));
    }

    /// A worker that begins with an older log keeps the addresses that were in use, earlier ones included.
    #[test]
    fn addresses_survive_the_disk_with_their_version() {
        let (_root, paths) = root();
        let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let moved = Place { agreed: Some(ip("10.0.0.9")), former: vec![ip("10.0.0.1")] };
        let removed = Place { agreed: None, former: vec![ip("10.0.1.1")] };
        let own = vec![moved, removed];
        let peers = std::collections::BTreeMap::from([(
            NodeId(9),
            vec![Place::at(ip("10.0.0.2")), Place { agreed: None, former: vec![ip("10.0.1.2")] }],
        )]);
        let addresses = Addresses::stored(ConfigVersion(55), own, peers);
        let (own, own_former) = as_stored(&addresses.own);
        let (links, former) = as_stored(&addresses.peers[&NodeId(9)]);
        let file = PulseFile {
            version: 1,
            profile: Profile::Wan,
            config_version: 55,
            own,
            own_former,
            peers: vec![PulsePeer { id: 9, links, former, incarnation: None }],
            voters: vec![1, 9],
        };
        file.save(&paths).expect("a writable folder");
        let file = PulseFile::load(&paths).expect("what was written");
        assert_eq!(file.addresses(), addresses);
        assert_eq!(file.orders()[0].links, 2, "a network that is removed and still in use counts");
    }
}
