//! `cardea init`: begin a cluster on this node.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, bail};
use clap::Args;
use model::{NodeConfig, NodeId, NodeName, NodeRole};
use state::Founder;
use transport::{ClusterKey, Identity, NodeKey};

use super::print_json;
use crate::daemon::node_file::{NodeFile, PulseFile};
use crate::daemon::own_links::{self, Interface};
use crate::daemon::paths::Paths;
use crate::diagnostics;

/// Begins a new cluster with this node as its first member.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// The name of the cluster.
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// The name of this node.
    #[arg(long, value_name = "NAME")]
    node: String,
    /// This node's address on each network, in the same order on all nodes; repeat for each network.
    #[arg(long = "link", required = true, value_name = "ADDRESS", value_parser = address)]
    links: Vec<IpAddr>,
    /// How long a silence may be, and all other timers: `lan` (one site), `cloud` (machines that pause now and then),
    /// `wan` (several sites). Can be changed in the cluster file at any time.
    #[arg(long, value_name = "PROFILE", default_value = "lan", value_parser = ["lan", "cloud", "wan"])]
    profile: String,
    /// JSON instead of sentences.
    #[arg(long)]
    json: bool,
}

/// Refuses to touch a node that belongs to a cluster already.
pub fn refuse_if_member(paths: &Paths) -> anyhow::Result<()> {
    for path in [paths.node_file(), paths.database()] {
        if path.exists() {
            bail!(
                "this node belongs to a cluster already: {} exists\n  to begin anew, stop the daemon, `cardea remove` it on another member, and delete {}",
                path.display(),
                paths.lib().display()
            );
        }
    }
    Ok(())
}

/// Reads an address from the command line. Names are not looked up: name servers may be down when it counts.
pub fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        "this is no IP address: write the address itself, such as 192.0.2.1; names are not looked up".to_owned()
    })
}

/// Refuses addresses that this machine does not have; what its interfaces have.
pub fn refuse_foreign_links(node: &str, links: &[IpAddr]) -> anyhow::Result<Vec<Interface>> {
    let has = own_links::here(links).context("cannot find out which addresses this machine has")?;
    match own_links::judge(node, links, &has, []) {
        Ok(()) => Ok(has.interfaces),
        Err(wrong) => bail!("{wrong}\n  {}", wrong.next()),
    }
}

/// A random identity for this node's storage.
pub fn storage_uuid() -> String {
    format!("{:032x}", transport::random_salt())
}

/// Runs the command.
pub fn run(root: &Path, args: &InitArgs) -> anyhow::Result<()> {
    let paths = Paths::new(root);
    refuse_if_member(&paths)?;
    refuse_foreign_links(&args.node, &args.links)?;
    let name = NodeName(args.node.clone());
    let node = NodeConfig { links: args.links.clone(), ..NodeConfig::default() };
    let text = config::initial(&args.cluster, &args.profile, &name, &node);
    let parsed = config::parse(&text)
        .map_err(|found| anyhow::anyhow!("{}", diagnostics::draw(&text, "the new cluster file", &found, false)))?;

    let cluster = (transport::random_salt() as u64).max(1);
    let storage_uuid = storage_uuid();
    let authority = transport::create_authority(cluster)?;
    let key = NodeKey::generate()?;
    let certificate = transport::issue(&authority, &key.request()?, NodeId(1), cluster)?;
    let identity = Identity::new(authority.certificate(), &certificate, &key, ClusterKey::generate())?;

    std::fs::create_dir_all(paths.lib()).with_context(|| format!("cannot make {}", paths.lib().display()))?;
    let machine_id =
        host::identity::machine(root, &paths.machine()).context("cannot find out which machine this is")?;
    authority.save(&paths.identity())?;
    identity.save(&paths.identity())?;
    let founder = Founder { name, role: NodeRole::Member, storage_uuid: storage_uuid.clone(), machine_id };
    let state = state::founding(cluster, founder, &text, parsed.config.clone(), host::identity::wall());
    storage::create(&paths.database(), &consensus::founding(state::encode_snapshot(&state), NodeId(1)))?;
    PulseFile {
        version: 1,
        profile: parsed.config.profile,
        config_version: 0,
        own: args.links.clone(),
        own_former: Vec::new(),
        peers: Vec::new(),
        voters: vec![1],
    }
    .save(&paths)?;
    // Last: a node with this file is a member.
    NodeFile {
        version: 1,
        cluster,
        cluster_name: args.cluster.clone(),
        id: 1,
        name: args.node.clone(),
        storage_uuid,
        is_witness: false,
    }
    .save(&paths)?;
    if args.json {
        return print_json(
            &serde_json::json!({ "version": api::VERSION, "cluster": args.cluster, "node": args.node, "id": 1 }),
        );
    }
    println!("cluster {} begins with node {}", args.cluster, args.node);
    println!("next:");
    println!("  systemctl enable --now cardea     (or `cardea daemon`)");
    println!("  cardea token create               for each further node, then `cardea join` there");
    println!("  cardea apply FILE                 resources and fence devices, once all nodes are in");
    Ok(())
}
