//! Which packets get lost in the lab? Rules of nftables on the bridges drop them: by chance, or by where they come from
//! and go to.
//!
//! Loss by chance drops only what is forwarded between ports: what the hub itself sends and receives, a client's requests
//! among it, is spared. A deaf or mute node hears or says nothing at all, the hub included.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use super::switches::{Plug, cable_name, cable_prefix};

/// Why packets cannot be lost.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
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

/// Everything that the bridges drop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Percent of the packets between nodes, by network.
    pub loss: Vec<u8>,
    /// What is dropped always.
    pub drops: BTreeSet<Dropped>,
}

/// Packets that never arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// Everything to this port: its node is deaf.
    To(Plug),
    /// Everything from this port: its node is mute.
    From(Plug),
    /// Everything from one port to another.
    Between {
        /// Who says it.
        from: Plug,
        /// Who does not hear it.
        to: Plug,
    },
}

impl Dropped {
    /// Does the drop hurt this node? With a network: there?
    pub fn concerns(self, node: usize, network: Option<usize>) -> bool {
        let is_it = |plug: Plug| plug.node == node && network.is_none_or(|network| plug.network == network);
        match self {
            Dropped::To(plug) | Dropped::From(plug) => is_it(plug),
            Dropped::Between { from, to } => is_it(from) || is_it(to),
        }
    }
}

/// Makes the bridges drop this and nothing else.
pub fn set(filters: &Filters) -> Result<(), FilterError> {
    let mut nft = Command::new("nft");
    let paths = std::env::var("PATH").unwrap_or_default();
    nft.args(["-f", "-"]).env("PATH", format!("{paths}:/usr/sbin:/sbin"));
    nft.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = nft.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => FilterError::NoNft,
        _ => FilterError::Run(error),
    })?;
    child.stdin.take().expect("stdin is a pipe").write_all(rules(filters).as_bytes())?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(FilterError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

fn rules(filters: &Filters) -> String {
    let (mut between, mut to_hub, mut from_hub) = (Vec::new(), Vec::new(), Vec::new());
    for drop in &filters.drops {
        match drop {
            Dropped::To(plug) => {
                between.push(format!("oifname \"{}\" drop", cable_name(*plug)));
                from_hub.push(format!("oifname \"{}\" drop", cable_name(*plug)));
            }
            Dropped::From(plug) => {
                between.push(format!("iifname \"{}\" drop", cable_name(*plug)));
                to_hub.push(format!("iifname \"{}\" drop", cable_name(*plug)));
            }
            Dropped::Between { from, to } => {
                between.push(format!("iifname \"{}\" oifname \"{}\" drop", cable_name(*from), cable_name(*to)));
            }
        }
    }
    let losses = (1..).zip(&filters.loss).filter(|(_, percent)| **percent > 0);
    between.extend(losses.map(|(number, percent)| {
        format!("iifname \"{}*\" numgen random mod 100 < {percent} drop", cable_prefix(number))
    }));
    let mut chains = String::new();
    for (hook, drops) in [("forward", between), ("input", to_hub), ("output", from_hub)] {
        if !drops.is_empty() {
            let drops = drops.join("\n    ");
            chains += &format!(
                "  chain at_{hook} {{\n    type filter hook {hook} priority 0; policy accept;\n    {drops}\n  }}\n"
            );
        }
    }
    let table = if chains.is_empty() { String::new() } else { format!("table bridge cardea_lab {{\n{chains}}}\n") };
    "add table bridge cardea_lab\ndelete table bridge cardea_lab\n".to_owned() + &table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plug(node: usize, network: usize) -> Plug {
        Plug { node, network }
    }

    fn text(loss: &[u8], drops: &[Dropped]) -> String {
        rules(&Filters { loss: loss.to_vec(), drops: drops.iter().copied().collect() })
    }

    #[test]
    fn only_networks_with_loss_get_a_rule() {
        let text = text(&[20, 0], &[]);
        assert!(text.contains("iifname \"n1p*\" numgen random mod 100 < 20 drop"));
        assert!(!text.contains("n2p") && !text.contains("hook input"));
    }

    #[test]
    fn nothing_to_drop_leaves_no_table() {
        assert!(!text(&[0, 0], &[]).contains("chain"));
    }

    #[test]
    fn a_deaf_node_does_not_hear_the_hub_either_and_a_one_way_cut_touches_nobody_else() {
        let deaf = text(&[], &[Dropped::To(plug(2, 0))]);
        assert_eq!(deaf.matches("oifname \"n1p3\" drop").count(), 2, "{deaf}");
        assert!(deaf.contains("hook output") && !deaf.contains("iifname"), "{deaf}");
        let mute = text(&[], &[Dropped::From(plug(2, 0))]);
        assert!(mute.contains("hook input") && !mute.contains("oifname"), "{mute}");
        let cut = text(&[], &[Dropped::Between { from: plug(0, 1), to: plug(1, 1) }]);
        assert_eq!(cut.matches("iifname \"n2p1\" oifname \"n2p2\" drop").count(), 1, "{cut}");
        assert!(!cut.contains("hook input") && !cut.contains("hook output"), "{cut}");
    }

    #[test]
    fn a_drop_concerns_both_its_ends() {
        let cut = Dropped::Between { from: plug(0, 1), to: plug(1, 1) };
        assert!(cut.concerns(0, None) && cut.concerns(1, Some(1)));
        assert!(!cut.concerns(1, Some(0)) && !cut.concerns(2, None));
    }
}
