//! `cardea fence`: cut a node off, attest that it is off, or ask the devices whether they answer.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::bail;
use api::Request;
use clap::{Args, Subcommand};

use super::client::Client;
use super::status::table;
use super::{ask, print_json, print_reply};

/// Fences a node; with --confirm-off attests that it is off; `fence test` asks the devices.
///
/// The node is cut off by its devices, and they are asked whether it is off; only then does what it held start
/// elsewhere. A node that is heard is fenced only after a question. Where no device answers, a person can look and attest it: that is recorded.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct FenceArgs {
    #[command(subcommand)]
    test: Option<FenceCommand>,
    /// The node.
    #[arg(required = true)]
    node: Option<String>,
    /// Attests that the node is off, by your own eyes: what it held starts elsewhere. If that is wrong, data is lost.
    #[arg(long)]
    confirm_off: bool,
    /// The node's name again, where there is no terminal to type it on.
    #[arg(long, requires = "confirm_off", value_name = "NODE")]
    typed: Option<String>,
    /// Why; recorded in the history.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
    /// Does not ask, even if the node is heard and something runs there.
    #[arg(long, short)]
    yes: bool,
    /// JSON instead of a sentence.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum FenceCommand {
    /// Reads the status of the fence devices of one node or of all; switches nothing.
    Test {
        /// The node; without it all nodes.
        node: Option<String>,
        /// JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub fn run(root: &Path, args: FenceArgs) -> anyhow::Result<i32> {
    let client = Client::new(root)?;
    if let Some(FenceCommand::Test { node, json }) = args.test {
        return test(&client, node, json);
    }
    let node = args.node.unwrap_or_default();
    let request = if args.confirm_off {
        if args.reason.trim().is_empty() {
            bail!("why is it certain that {node} is off?\n  add `--reason \"…\"`; it is recorded");
        }
        let typed = match args.typed {
            Some(typed) => typed,
            None => type_name(&node)?,
        };
        Request::ConfirmOff { node, typed, reason: args.reason }
    } else {
        Request::Fence { node, reason: args.reason }
    };
    print_reply(&ask::carry_out(&client, &request, args.yes, args.json)?, args.json)?;
    Ok(0)
}

fn type_name(node: &str) -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to type the node's name on\n  add `--typed {node}`");
    }
    print!("If {node} still runs, its data will be destroyed. Type the name of the node that is off: ");
    std::io::stdout().flush()?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed)?;
    Ok(typed.trim().to_owned())
}

fn test(client: &Client, node: Option<String>, json: bool) -> anyhow::Result<i32> {
    let reply = client.request(&Request::FenceTest { node }, None)?;
    if json {
        print_json(&reply)?;
    } else {
        let mut lines = table(&["node", "device", "", "answer", "took"]);
        for test in &reply.fence_tests {
            let verdict = if test.ok { "ok" } else { "FAILED" };
            lines.add_row([&test.node, &test.device, verdict, &test.answer, &format!("{} ms", test.took_ms)]);
        }
        println!("{lines}");
    }
    let all_ok = !reply.fence_tests.is_empty() && reply.fence_tests.iter().all(|test| test.ok);
    Ok(i32::from(!all_ok))
}
