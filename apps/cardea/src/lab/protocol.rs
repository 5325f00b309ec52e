//! What do `cardea lab …` commands and the hub say to each other? One line of JSON each way, over `DIR/lab.sock`.
//!
//! `exec` sends its standard input, output and error with the question; they become the command's own.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::folder::{self, FolderError};
use super::hang::Part;

/// Name of the hub's socket in the lab's folder.
pub const SOCKET: &str = "lab.sock";

/// Longest question, in bytes.
pub const QUESTION_BYTES_MAX: usize = 64 * 1024;

/// A question to the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum Question {
    /// How is everything?
    Status,
    /// Run this inside a node.
    Exec {
        /// Where.
        node: String,
        /// What.
        argv: Vec<String>,
    },
    /// Cut the power of nodes, of all at the same moment.
    Crash {
        /// Which; none: all.
        nodes: Vec<String>,
    },
    /// Give them power and start their daemons.
    Start {
        /// Which; none: all.
        nodes: Vec<String>,
        /// How long their boots take from now on.
        boot_takes_s: Option<u64>,
    },
    /// Close the switch ports of a node.
    Cut {
        /// Which.
        node: String,
        /// Only in this network, counted from 1.
        network: Option<usize>,
    },
    /// Drop what is sent between two nodes.
    CutBetween {
        /// One.
        node: String,
        /// The other.
        other: String,
        /// Only what the first says to the second.
        one_way: bool,
        /// Only in this network, counted from 1.
        network: Option<usize>,
    },
    /// Drop everything that is sent to a node.
    Deaf {
        /// Which.
        node: String,
        /// Only in this network, counted from 1.
        network: Option<usize>,
    },
    /// Drop everything that a node sends.
    Mute {
        /// Which.
        node: String,
        /// Only in this network, counted from 1.
        network: Option<usize>,
    },
    /// Let a part of a node's daemon hang.
    Hang {
        /// Which.
        node: String,
        /// What hangs.
        part: Part,
    },
    /// Open the ports, give the carrier back, drop nothing any more, and let go on what hangs.
    Heal {
        /// Which; none: all.
        node: Option<String>,
        /// Only in this network, counted from 1.
        network: Option<usize>,
    },
    /// Stop every process of a node.
    Freeze {
        /// Which.
        node: String,
    },
    /// Let them go on.
    Thaw {
        /// Which.
        node: String,
    },
    /// Drop this share of the packets between nodes.
    Loss {
        /// 0..=100.
        percent: u8,
        /// Only in this network, counted from 1.
        network: Option<usize>,
    },
    /// Take the carrier of a node away.
    Linkdown {
        /// Which.
        node: String,
        /// In this network, counted from 1.
        network: usize,
    },
    /// End the lab.
    Down,
    /// Wait for the end of the demo; the answer's exit status is the demo's.
    Outcome,
}

/// The hub's answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Was it done?
    pub ok: bool,
    /// What was done, or why not, as a sentence with the next step.
    pub message: String,
    /// The exit status of a command that was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// How everything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<LabStatus>,
}

/// How a lab is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabStatus {
    /// Name of the cluster.
    pub cluster: String,
    /// The folder.
    pub dir: String,
    /// What the disks are.
    pub disk: Option<Disk>,
    /// Who leads, if a node says so.
    pub leader: Option<String>,
    /// Does any node belong to a majority?
    pub quorate: bool,
    /// Packets lost per network, in percent.
    pub loss: Vec<u8>,
    /// The machines.
    pub nodes: Vec<LabNode>,
}

/// How a machine of a lab is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabNode {
    /// Its name.
    pub name: String,
    /// `on`, `off` or `frozen`.
    pub power: String,
    /// Its boot id; empty while it is off.
    pub boot_id: String,
    /// What the cluster says of it: `leader`, `voter`, `learner`; empty if nobody says anything.
    pub role: String,
    /// What the cluster says of it: `online`, `lost`, …; empty if nobody says anything.
    pub state: String,
    /// What is wrong with it: `deaf`, `mute`, `cut from b`, `hung worker`, …
    pub faults: Vec<String>,
    /// Its switch ports.
    pub links: Vec<LabLink>,
    /// The resources that run there.
    pub resources: Vec<String>,
    /// Its disk: the `--root` of its daemon.
    pub root: String,
}

/// A switch port and the cable in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LabLink {
    /// The network, counted from 1.
    pub network: usize,
    /// The node's address.
    pub address: String,
    /// `up`, `cut`, `no-carrier` or `unplugged`.
    pub state: String,
}

/// Asks the hub of the lab in `dir`.
pub fn ask(dir: &Path, question: &Question) -> anyhow::Result<Answer> {
    ask_with(dir, question, &[])
}

/// Asks the hub of the lab in `dir`, with file descriptors for it to use.
pub fn ask_with(dir: &Path, question: &Question, descriptors: &[BorrowedFd<'_>]) -> anyhow::Result<Answer> {
    folder::check_owner(dir)?;
    let stream = UnixStream::connect(dir.join(SOCKET)).map_err(|_| FolderError::NoLab(dir.to_owned()))?;
    let mut line = serde_json::to_string(question)?;
    line.push('\n');
    anyhow::ensure!(line.len() <= QUESTION_BYTES_MAX, "the command line is too long for the lab");
    let sent = host::network::send_with_descriptors(stream.as_fd(), line.as_bytes(), descriptors)?;
    std::io::Write::write_all(&mut &stream, &line.as_bytes()[sent..])?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    anyhow::ensure!(!answer.is_empty(), "the lab in {} ended", dir.display());
    Ok(serde_json::from_str(&answer)?)
}
