//! The commands that ask for a change: move, standby, maintenance, start, stop, clear, lead, remove.

use std::path::Path;

use api::Request;
use clap::Args;

use super::client::Client;
use super::{ask, print_reply};

/// What every change has in common.
#[derive(Args, Debug, Clone)]
pub struct Common {
    /// Why; recorded in the history.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
    /// Does not ask, whatever it takes away; needed for that where there is no terminal, and with --json.
    #[arg(long, short)]
    yes: bool,
    /// JSON instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// Moves a group or resource to another node, once.
///
/// It is stopped where it runs and started there; nothing stays behind that would hold it there or bring it back.
#[derive(Args, Debug)]
pub struct MoveArgs {
    /// The group or resource.
    unit: String,
    /// The node; without it the best other one.
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Lets a node run nothing, or work again with --off.
///
/// What runs there moves away in order, or stops where nothing else can run it. The node goes on voting.
#[derive(Args, Debug)]
pub struct StandbyArgs {
    /// The node.
    node: String,
    /// Ends the standby.
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    common: Common,
}

/// Keeps hands off a node or off everything, or looks after it again with --off.
///
/// Nothing is started, stopped or moved there, and a failed stop fences nobody. Services go on running as they are. A
/// node that falls silent is still fenced if it holds something.
#[derive(Args, Debug)]
pub struct MaintenanceArgs {
    /// The node; without it the whole cluster.
    node: Option<String>,
    /// Ends the maintenance.
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    common: Common,
}

/// A group or resource.
#[derive(Args, Debug)]
pub struct UnitArgs {
    /// The group or resource.
    unit: String,
    #[command(flatten)]
    common: Common,
}

/// Forgets failures, so that resources may run again where they failed.
///
/// Also ends a blockade (after the service was stopped by hand) and the wait of a node that came and went too often.
#[derive(Args, Debug)]
pub struct ClearArgs {
    /// A resource, group or node; without it everything.
    name: Option<String>,
    /// Only failures on this node.
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// A node.
#[derive(Args, Debug)]
pub struct NodeArgs {
    /// The node.
    node: String,
    #[command(flatten)]
    common: Common,
}

fn carry_out(root: &Path, common: &Common, request: impl FnOnce(String) -> Request) -> anyhow::Result<()> {
    let request = request(common.reason.clone());
    let reply = ask::carry_out(&Client::new(root)?, &request, common.yes, common.json)?;
    print_reply(&reply, common.json)
}

/// `cardea move`.
pub fn move_unit(root: &Path, args: MoveArgs) -> anyhow::Result<()> {
    carry_out(root, &args.common, |reason| Request::Move { unit: args.unit, to: args.to, reason })
}

/// `cardea standby`.
pub fn standby(root: &Path, args: StandbyArgs) -> anyhow::Result<()> {
    carry_out(root, &args.common, |reason| Request::Standby { node: args.node, on: !args.off, reason })
}

/// `cardea maintenance`.
pub fn maintenance(root: &Path, args: MaintenanceArgs) -> anyhow::Result<()> {
    carry_out(root, &args.common, |reason| Request::Maintenance { node: args.node, on: !args.off, reason })
}

/// `cardea start`.
pub fn start(root: &Path, args: UnitArgs) -> anyhow::Result<()> {
    carry_out(root, &args.common, |reason| Request::Start { unit: args.unit, reason })
}

/// `cardea stop`.
pub fn stop(root: &Path, args: UnitArgs) -> anyhow::Result<()> {
    carry_out(root, &args.common, |reason| Request::Stop { unit: args.unit, reason })
}

/// `cardea clear`.
pub fn clear(root: &Path, args: ClearArgs) -> anyhow::Result<()> {
    carry_out(root, &args.common, |reason| Request::Clear { name: args.name, node: args.node, reason })
}

/// `cardea lead`.
pub fn lead(root: &Path, args: NodeArgs) -> anyhow::Result<()> {
    carry_out(root, &args.common, |_| Request::Lead { node: args.node })
}

/// `cardea remove`.
pub fn remove(root: &Path, args: NodeArgs) -> anyhow::Result<()> {
    carry_out(root, &args.common, |reason| Request::Remove { node: args.node, reason })
}
