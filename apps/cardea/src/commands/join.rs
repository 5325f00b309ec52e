//! `cardea join`: enter a cluster.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use transport::{Authority, ClusterKey, Identity, JoinToken};

use super::{init, print_json};
use crate::daemon::node_file::PORT;
use crate::daemon::paths::Paths;
use crate::daemon::peers::{self, JoinDetails, JoinGrant};

/// Enters a cluster by one of its members.
///
/// Needs a token (`cardea token create` on a member) and port 7600 (TCP) of a member. The node is written into the
/// cluster file as a new version.
#[derive(Args, Debug)]
pub struct JoinArgs {
    /// Addresses of members, the first that answers is asked.
    #[arg(required = true, value_name = "MEMBER", value_parser = init::address)]
    addresses: Vec<IpAddr>,
    /// What `cardea token create` printed on a member. Other users of this machine can see it while the command runs.
    #[arg(long, required_unless_present = "token_file")]
    token: Option<String>,
    /// A file that holds the token; `-` reads it from standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The name of this node.
    #[arg(long, value_name = "NAME")]
    node: String,
    /// This node's address on each network, in the same order on all nodes; repeat for each network.
    #[arg(long = "link", required = true, value_name = "ADDRESS", value_parser = init::address)]
    links: Vec<IpAddr>,
    /// JSON instead of sentences.
    #[arg(long)]
    json: bool,
}

fn token(args: &JoinArgs) -> anyhow::Result<String> {
    match (&args.token, &args.token_file) {
        (Some(token), _) => Ok(token.clone()),
        (None, Some(path)) if path.as_os_str() == "-" => {
            std::io::read_to_string(std::io::stdin()).context("cannot read the token from standard input")
        }
        (None, Some(path)) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())),
        (None, None) => bail!("a token is needed: `cardea token create` on a member makes one"),
    }
}

/// Runs the command.
pub fn run(root: &Path, args: JoinArgs) -> anyhow::Result<()> {
    let paths = Paths::new(root);
    init::refuse_if_member(&paths)?;
    let token: JoinToken = token(&args)?.trim().parse()?;
    let interfaces = init::refuse_foreign_links(&args.node, &args.links)?;
    std::fs::create_dir_all(paths.lib()).with_context(|| format!("cannot make {}", paths.lib().display()))?;
    let details = JoinDetails {
        name: args.node.clone(),
        links: args.links,
        storage_uuid: init::storage_uuid(),
        machine_id: host::identity::machine(root, &paths.machine()).context("cannot find out which machine this is")?,
        interfaces,
    };
    let addresses: Vec<SocketAddr> = args.addresses.iter().map(|address| SocketAddr::new(*address, PORT)).collect();
    let answer = transport::join(&addresses, &token, &serde_json::to_vec(&details)?)?;
    let grant: JoinGrant =
        peers::unpack(&answer.bytes).map_err(|cause| anyhow!("the cluster refused this node: {cause:#}"))?;

    let key: [u8; 32] = BASE64
        .decode(&grant.cluster_key)?
        .try_into()
        .map_err(|_| anyhow!("the cluster's answer makes no sense; is it of another version?"))?;
    let certificate = BASE64.decode(&grant.certificate)?;
    let identity = Identity::new(&answer.authority, &certificate, &answer.key, ClusterKey::from_bytes(key))?;
    identity.save(&paths.identity())?;
    if let Some(key) = &grant.authority_key {
        Authority::from_parts(&answer.authority, &BASE64.decode(key)?)?.save(&paths.identity())?;
    }
    storage::create(&paths.database(), &consensus::joining())?;
    grant.pulse.save(&paths)?;
    // Last: a node with this file is a member.
    grant.node.save(&paths)?;
    if args.json {
        return print_json(&serde_json::json!({
            "version": api::VERSION, "cluster": grant.node.cluster_name, "node": grant.node.name, "id": grant.node.id
        }));
    }
    println!("{} is a member of cluster {}", grant.node.name, grant.node.cluster_name);
    println!("next:\n  systemctl enable --now cardea     (or `cardea daemon`)");
    Ok(())
}
