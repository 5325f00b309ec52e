//! What if the network loses packets? A rule of nftables on the bridges drops them by chance.
//!
//! Only what is forwarded between ports is dropped: what the hub itself sends and receives, a client's requests among
//! it, is spared.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use super::switches::cable_prefix;

/// Why packets cannot be lost.
#[derive(Debug, thiserror::Error)]
pub enum LossError {
    /// The tool is missing.
    #[error("losing packets needs `nft`, which is not installed: run `apt-get install nftables`")]
    NoNft,
    /// The tool refused.
    #[error("nft refused: {0}")]
    Refused(String),
    /// The tool could not be run.
    #[error("could not run nft")]
    Run(#[from] io::Error),
}

/// Drops this share of the packets between nodes: percent by network, counted from 1. All zero: none, without a rule.
pub fn set(percents: &[u8]) -> Result<(), LossError> {
    let mut nft = Command::new("nft");
    let paths = std::env::var("PATH").unwrap_or_default();
    nft.args(["-f", "-"]).env("PATH", format!("{paths}:/usr/sbin:/sbin"));
    nft.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = nft.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LossError::NoNft,
        _ => LossError::Run(error),
    })?;
    child.stdin.take().expect("stdin is a pipe").write_all(rules(percents).as_bytes())?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(LossError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

fn rules(percents: &[u8]) -> String {
    let mut text = "add table bridge cardea_loss\ndelete table bridge cardea_loss\n".to_owned();
    let drops: String = (1..)
        .zip(percents)
        .filter(|(_, percent)| **percent > 0)
        .map(|(number, percent)| {
            format!("    iifname \"{}*\" numgen random mod 100 < {percent} drop\n", cable_prefix(number))
        })
        .collect();
    if !drops.is_empty() {
        text += &format!(
            "table bridge cardea_loss {{\n  chain between_nodes {{\n    type filter hook forward priority 0; \
             policy accept;\n{drops}  }}\n}}\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_networks_with_loss_get_a_rule() {
        let text = rules(&[20, 0]);
        assert!(text.contains("iifname \"n1p*\" numgen random mod 100 < 20 drop"));
        assert!(!text.contains("n2p"));
    }

    #[test]
    fn no_loss_leaves_no_table() {
        assert!(!rules(&[0, 0]).contains("chain"));
    }
}
