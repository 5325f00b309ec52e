//! `cardea token create`: what a new node needs to get in.

use std::path::Path;

use anyhow::bail;
use api::{Request, Status};
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
        /// What the joiner becomes; a witness votes and runs nothing.
        #[arg(long, value_enum, default_value_t = Role::Member)]
        role: Role,
        /// The only name it may use.
        #[arg(long, value_name = "NODE")]
        name: Option<String>,
        /// How long it is good for: 90s, 15m, 2h.
        #[arg(long, default_value = "15m", value_name = "TIME")]
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
    let client = Client::new(root)?;
    let request = Request::CreateToken { witness: matches!(role, Role::Witness), name: name.clone(), seconds };
    let token = client.request(&request, None)?.token.unwrap_or_default();
    if json {
        return print_json(&json!({ "version": api::VERSION, "token": token, "valid_seconds": seconds }));
    }
    let status: Status = client.get("/v1/status")?;
    println!("good for one join within {valid}; on the new node:\n  {}", join_line(&status, &token, name));
    Ok(())
}

/// What to type on the new node: this node is asked first, by its address on the first network.
fn join_line(status: &Status, token: &str, name: Option<String>) -> String {
    let own = status.nodes.iter().find(|node| node.name == status.node);
    let address = own.and_then(|node| node.links.first()).map_or("ADDRESS", |link| &link.address);
    let name = name.unwrap_or_else(|| "NAME".to_owned());
    let links = " --link ADDRESS".repeat(own.map_or(1, |node| node.links.len().max(1)));
    format!("cardea join {address} --token {token} --node {name}{links}")
}

/// Seconds of a time as people write it: `90s`, `15m`, `2h`.
pub(super) fn seconds(text: &str) -> anyhow::Result<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    match number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)) {
        Some(seconds @ 1..=86_400) => Ok(seconds),
        Some(_) | None => bail!("`{text}` is no time between 1s and 24h\n  for example `15m`"),
    }
}

#[cfg(test)]
mod tests {
    use api::{LinkStatus, NodeStatus};

    use super::*;

    #[test]
    fn a_token_lives_for_a_second_to_a_day() {
        for (text, expected) in [("90s", 90), ("15m", 900), ("2h", 7200), ("1s", 1), ("24h", 86_400)] {
            assert_eq!(seconds(text).ok(), Some(expected), "{text}");
        }
        for text in
            ["", "15", "m", "0s", "25h", "1d", "-1m", "1.5h", "99999999999999999999s", "18446744073709551615h", "ü"]
        {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_line_for_the_new_node_can_be_pasted() {
        let link = |address: &str| LinkStatus { address: address.to_owned(), ..LinkStatus::default() };
        let links = vec![link("10.0.0.1"), link("10.0.1.1")];
        let node = NodeStatus { name: "a".to_owned(), links, ..NodeStatus::default() };
        let status = Status { node: "a".to_owned(), nodes: vec![node], ..Status::default() };
        assert_eq!(
            join_line(&status, "T", Some("w".to_owned())),
            "cardea join 10.0.0.1 --token T --node w --link ADDRESS --link ADDRESS"
        );
        assert_eq!(
            join_line(&Status::default(), "T", None),
            "cardea join ADDRESS --token T --node NAME --link ADDRESS"
        );
    }
}
