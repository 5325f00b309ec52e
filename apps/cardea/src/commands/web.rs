//! `cardea web`: the small web responder of labs and demos.

use std::net::SocketAddr;

use clap::Args;

use crate::web;

/// Answer every GET with a page that names this node.
#[derive(Debug, Args)]
pub struct WebArgs {
    /// Where to listen; waits up to a second for the address to appear.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// The name on the page. Default: the host name.
    #[arg(long)]
    name: Option<String>,
}

/// Runs it until it is killed.
pub fn run(args: WebArgs) -> anyhow::Result<i32> {
    web::run(args.listen, args.name)?;
    Ok(0)
}
