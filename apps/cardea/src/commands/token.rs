//! `cardea token create`: what a new node needs to get in.

use std::path::Path;

use anyhow::bail;
use api::Request;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::client::Client;
use super::print_json;

/// Makes tokens for nodes that join.
#[derive(Args, Debug)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand, Debug)]
enum TokenCommand {
    /// Makes a token that is good for one join.
    Create {
        /// What the joiner becomes.
        #[arg(long, value_enum, default_value_t = Role::Member)]
        role: Role,
        /// The only name it may use.
        #[arg(long)]
        name: Option<String>,
        /// How long it is good for: 90s, 15m, 2h.
        #[arg(long, default_value = "15m")]
        valid: String,
        /// JSON instead of the command to type.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Member,
    Witness,
}

/// Runs the command.
pub fn run(root: &Path, args: TokenArgs) -> anyhow::Result<()> {
    let TokenCommand::Create { role, name, valid, json } = args.command;
    let seconds = seconds(&valid)?;
    let request = Request::CreateToken { witness: matches!(role, Role::Witness), name, seconds };
    let reply = Client::new(root)?.request(&request)?;
    let token = reply.token.unwrap_or_default();
    if json {
        return print_json(&json!({ "version": api::VERSION, "token": token, "valid_seconds": seconds }));
    }
    println!("good for one join within {valid}; on the new node:\n  cardea join ADDRESS --token {token} --node NAME --link ADDRESS");
    Ok(())
}

fn seconds(text: &str) -> anyhow::Result<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    match number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)) {
        Some(seconds @ 1..=86_400) => Ok(seconds),
        Some(_) | None => bail!("`{text}` is no time between 1s and 24h\n  for example `--valid 15m`"),
    }
}
