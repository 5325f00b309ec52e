//! `cardea lab`: a cluster in namespaces on this machine, to play with.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use super::token::seconds;
use crate::lab::folder::{self, default_path};
use crate::lab::hang::Part;
use crate::lab::launch;
use crate::lab::layout::Layout;
use crate::lab::protocol::{Answer, LabStatus, Question, ask, ask_with};

/// Play with a whole cluster in namespaces on this machine.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// Where the lab lives. Default: cardea-lab below $TMPDIR or /var/tmp.
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Make a lab and bring its cluster up.
    Up(Up),
    /// Show machines, cables and what runs where.
    Status,
    /// Run a command inside a node: `cardea lab exec a -- cardea status`.
    Exec {
        /// The node.
        node: String,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true)]
        argv: Vec<String>,
    },
    /// Cut the power of nodes, at the same moment.
    Crash(Which),
    /// Switch nodes on again.
    Start {
        #[command(flatten)]
        which: Which,
        /// How long the boot takes: 20s, 3m. They have power at once, and their daemons start so much later, at every
        /// boot until the next `start`.
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        boot_takes: Option<u64>,
    },
    /// Cut a node from its networks, or from one other node, silently: the carrier stays. Only `heal` ends it.
    Cut {
        /// The node.
        node: String,
        /// Only from this node; everybody else hears both.
        other: Option<String>,
        /// Only what the first says to the second is lost.
        #[arg(long, requires = "other")]
        one_way: bool,
        /// Only on this network, counted from 1.
        #[arg(long)]
        network: Option<usize>,
    },
    /// Let a node hear nothing; what it says arrives. Only `heal` ends it.
    Deaf {
        /// The node.
        node: String,
        /// Only on this network, counted from 1.
        #[arg(long)]
        network: Option<usize>,
    },
    /// Let nobody hear a node; it hears all. Only `heal` ends it.
    Mute {
        /// The node.
        node: String,
        /// Only on this network, counted from 1.
        #[arg(long)]
        network: Option<usize>,
    },
    /// Let the worker of a node hang while its heartbeats go on, until it is healed or replaced.
    HangWorker {
        /// The node.
        node: String,
    },
    /// Let the disk of a node take writes and never finish them, until it is healed or the power goes off.
    HangDisk {
        /// The node.
        node: String,
    },
    /// Undo cuts, deafness, muteness, pulled cables and what hangs.
    Heal {
        /// The node; none: every node.
        node: Option<String>,
        /// Only on this network, counted from 1.
        #[arg(long)]
        network: Option<usize>,
    },
    /// Stop every process of a node.
    Freeze {
        /// The node.
        node: String,
    },
    /// Let a frozen node go on.
    Thaw {
        /// The node.
        node: String,
    },
    /// Lose packets between nodes; 0 ends it. The client's packets are spared.
    Loss {
        /// How many of a hundred.
        #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: u8,
        /// Only on this network, counted from 1.
        #[arg(long)]
        network: Option<usize>,
    },
    /// Take the carrier of a node away, as if the cable were pulled; `heal` gives it back.
    Linkdown {
        /// The node.
        node: String,
        /// On this network, counted from 1.
        #[arg(long, default_value_t = 1)]
        network: usize,
    },
    /// End the lab and remove its folder.
    Down,
}

#[derive(Debug, Args)]
struct Which {
    /// The nodes.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    nodes: Vec<String>,
    /// All nodes of the lab.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct Up {
    /// The cluster file; nodes and networks are as it says.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "networks"])]
    file: Option<PathBuf>,
    /// How many nodes, 1 to 7; two get a witness beside them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=7))]
    nodes: u8,
    /// How many networks, 1 or 2.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    networks: u8,
    /// Allow a folder in memory.
    #[arg(long)]
    volatile: bool,
    /// Only machines and networks, with this command in place of the daemon.
    #[arg(long, hide = true, num_args = 1.., allow_hyphen_values = true)]
    bare: Option<Vec<String>>,
}

/// Runs it; returns the exit status.
pub fn run(args: LabArgs) -> anyhow::Result<i32> {
    let dir = args.dir.unwrap_or_else(|| default_path("cardea-lab"));
    let question = match args.command {
        LabCommand::Up(up) => return bring_up(&dir, up, args.json),
        LabCommand::Exec { node, argv } => return exec(&dir, node, argv),
        LabCommand::Status => Question::Status,
        LabCommand::Crash(which) => Question::Crash { nodes: which.nodes },
        LabCommand::Start { which, boot_takes } => Question::Start { nodes: which.nodes, boot_takes_s: boot_takes },
        LabCommand::Cut { node, other: None, network, .. } => Question::Cut { node, network },
        LabCommand::Cut { node, other: Some(other), one_way, network } => {
            Question::CutBetween { node, other, one_way, network }
        }
        LabCommand::Deaf { node, network } => Question::Deaf { node, network },
        LabCommand::Mute { node, network } => Question::Mute { node, network },
        LabCommand::HangWorker { node } => Question::Hang { node, part: Part::Worker },
        LabCommand::HangDisk { node } => Question::Hang { node, part: Part::Disk },
        LabCommand::Heal { node, network } => Question::Heal { node, network },
        LabCommand::Freeze { node } => Question::Freeze { node },
        LabCommand::Thaw { node } => Question::Thaw { node },
        LabCommand::Loss { percent, network } => Question::Loss { percent, network },
        LabCommand::Linkdown { node, network } => Question::Linkdown { node, network },
        LabCommand::Down => Question::Down,
    };
    let answer = ask(&dir, &question)?;
    if answer.ok && question == Question::Down {
        folder::remove_when_dead(&dir)?;
    }
    Ok(show(&answer, args.json))
}

fn show(answer: &Answer, json: bool) -> i32 {
    match (&answer.status, json) {
        (Some(status), true) => println!("{}", serde_json::to_string(status).unwrap_or_default()),
        (None, true) => println!("{}", json!({"ok": answer.ok, "message": answer.message})),
        (Some(status), false) => print_status(status),
        (None, false) if answer.ok => println!("{}", answer.message),
        (None, false) => eprintln!("cardea: {}", answer.message),
    }
    i32::from(!answer.ok)
}

fn bring_up(dir: &Path, up: Up, json: bool) -> anyhow::Result<i32> {
    let layout = match &up.file {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
            Layout::from_file(&text).with_context(|| format!("{} cannot be used", path.display()))?
        }
        None => Layout::new(usize::from(up.nodes), usize::from(up.networks), &["cardea-web".to_owned()])?,
    };
    let is_default = *dir == *default_path("cardea-lab");
    let folder = launch::make_folder(dir, up.volatile)?;
    let path = folder.path().to_owned();
    let brings_up = up.bare.is_none();
    let disk = launch::up(folder, layout, up.bare, brings_up, &mut |step| {
        if !json {
            println!("{step}");
        }
    })?;
    let answer = ask(&path, &Question::Status)?;
    let status = answer.status.unwrap_or_default();
    if json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        print_status(&status);
        let dir = if is_default { String::new() } else { format!(" --dir {}", path.display()) };
        println!(
            "disks in {} on {}, median fsync {:.2} ms\nnext: cardea lab status{dir} · cardea lab crash a{dir} · \
             cardea lab exec a{dir} -- cardea status · cardea lab down{dir}",
            path.display(),
            disk.file_system,
            disk.fsync_ms
        );
    }
    Ok(0)
}

fn exec(dir: &Path, node: String, argv: Vec<String>) -> anyhow::Result<i32> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let answer = ask_with(dir, &Question::Exec { node, argv }, &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
    match answer.exit_status {
        Some(exit_status) => Ok(exit_status),
        None => {
            eprintln!("cardea: {}", answer.message);
            Ok(1)
        }
    }
}

fn print_status(status: &LabStatus) {
    let mut table = Table::new();
    let preset = if io::stdout().is_terminal() { presets::UTF8_BORDERS_ONLY } else { presets::NOTHING };
    table.load_style(preset).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["node", "power", "state", "role", "links", "resources", "faults"]);
    for node in &status.nodes {
        let links: Vec<String> = node.links.iter().map(|link| format!("{} {}", link.address, link.state)).collect();
        table.add_row([
            node.name.clone(),
            node.power.clone(),
            node.state.clone(),
            node.role.clone(),
            links.join(", "),
            node.resources.join(", "),
            node.faults.join(", "),
        ]);
    }
    println!("{table}");
    for (number, percent) in (1..).zip(&status.loss).filter(|(_, percent)| **percent > 0) {
        println!("network {number} loses {percent} % of the packets between nodes");
    }
}
