//! A lab of its own: made, asked, broken, and gone without a trace.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::api::Api;
use crate::binary::{Said, cardea, run};
use crate::processes::{self, Process};
use crate::wait::until;

/// Labs that live, for whoever must end in a hurry.
static LIVING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn living() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running lab in a folder of its own; its end takes everything with it.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    // Declared last, dropped last.
    _above: tempfile::TempDir,
}

/// A node of a lab.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its disk: the `--root` of its daemon.
    pub root: PathBuf,
}

impl Lab {
    /// A lab with a cluster: three nodes, two networks, an address and a web service, unless `words` say otherwise.
    pub fn up(words: &[&str]) -> Result<Lab> {
        let lab = Lab::reserve()?;
        lab.lab(&[&["up"], words].concat())?.ok().with_context(|| lab.logs())?;
        Ok(lab)
    }

    /// A lab for this cluster file.
    pub fn with_file(text: &str) -> Result<Lab> {
        let lab = Lab::reserve()?;
        let file = lab.write("first.toml", text)?;
        lab.lab(&["up", "--file", &file])?.ok().with_context(|| lab.logs())?;
        Ok(lab)
    }

    /// Machines and networks without any daemon: every node runs this command instead.
    pub fn bare(words: &[&str], command: &[&str]) -> Result<Lab> {
        let lab = Lab::reserve()?;
        lab.lab(&[&["up"], words, &["--bare"], command].concat())?.ok()?;
        Ok(lab)
    }

    /// A folder for a lab that does not run yet.
    pub fn reserve() -> Result<Lab> {
        let below = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).map_or("/var/tmp".into(), PathBuf::from);
        let above = tempfile::Builder::new().prefix("e2e-").tempdir_in(below).context("a folder for the lab")?;
        let dir = above.path().join("l");
        living().push(dir.clone());
        Ok(Lab { dir, _above: above })
    }

    /// The lab's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file beside the lab, readable to every node; returns its path.
    pub fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self._above.path().join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Writes a program beside the lab; returns its path.
    pub fn program(&self, name: &str, text: &str) -> Result<String> {
        let path = self.write(name, text)?;
        make_executable(Path::new(&path))?;
        Ok(path)
    }

    /// `cardea lab --dir DIR WORDS`.
    pub fn lab(&self, words: &[&str]) -> Result<Said> {
        run(Command::new(cardea()).args(["lab", "--dir"]).arg(&self.dir).args(words))
    }

    /// The same, which must succeed.
    pub fn must(&self, words: &[&str]) -> Result<Said> {
        self.lab(words)?.ok()
    }

    /// `cardea lab status --json`.
    pub fn lab_status(&self) -> Result<Value> {
        self.must(&["status", "--json"])?.json()
    }

    /// The names of the nodes.
    pub fn names(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.dir.join("nodes")).context("the lab has no nodes")?;
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Node {
        Node { name: name.to_owned(), root: self.dir.join("nodes").join(name) }
    }

    /// All nodes.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        Ok(self.names()?.iter().map(|name| self.node(name)).collect())
    }

    /// Runs a command inside a node.
    pub fn exec(&self, node: &str, words: &[&str]) -> Result<Said> {
        self.lab(&[&["exec", node, "--"], words].concat())
    }

    /// PID 1 of the lab.
    pub fn hub(&self) -> Option<Process> {
        hub_of(&self.dir)
    }

    /// Every process of the lab, the hub among them.
    pub fn processes(&self) -> Vec<Process> {
        self.hub().map(|hub| processes::below(hub.pid)).unwrap_or_default()
    }

    /// The processes of one node, its PID 1 first; none while it is off.
    pub fn processes_of(&self, node: &str) -> Vec<Process> {
        let root = self.node(node).root.to_string_lossy().into_owned();
        let first = self.processes().into_iter().find(|process| match process.argv.as_slice() {
            [_, role, orders] if role == "lab-node" => {
                serde_json::from_str::<Value>(orders).is_ok_and(|orders| orders["root"] == root.as_str())
            }
            _ => false,
        });
        first.map(|first| processes::below(first.pid)).unwrap_or_default()
    }

    /// The supervisor of a node's daemon.
    pub fn supervisor(&self, node: &str) -> Result<Process> {
        self.daemon_process(node, |last| !["--worker", "--restart"].contains(&last))
    }

    /// The worker of a node's daemon.
    pub fn worker(&self, node: &str) -> Result<Process> {
        self.daemon_process(node, |last| last == "--worker")
    }

    fn daemon_process(&self, node: &str, is_it: impl Fn(&str) -> bool) -> Result<Process> {
        let of_node = self.processes_of(node).into_iter();
        let mut found = of_node.filter(|process| {
            process.argv.iter().any(|word| word == "daemon") && process.argv.last().is_some_and(|last| is_it(last))
        });
        found.next().with_context(|| format!("no daemon runs on {node}"))
    }

    /// The processes of a node with this word in their command line.
    pub fn running(&self, node: &str, word: &str) -> Vec<Process> {
        let is_it = |process: &Process| process.argv.iter().any(|argument| argument.contains(word));
        // PID 1 has its whole orders, and with them the cluster file, in its command line.
        self.processes_of(node).into_iter().skip(1).filter(is_it).collect()
    }

    /// The status of the node that leads.
    pub fn status(&self) -> Result<Value, String> {
        let mut last = "no node answers".to_owned();
        for node in self.nodes().map_err(|error| format!("{error:#}"))? {
            match node.status() {
                Ok(status) if status["quorate"] == true && status["leader"] == node.name.as_str() => return Ok(status),
                Ok(status) => last = format!("{} does not lead: {status}", node.name),
                Err(error) => last = format!("{error:#}"),
            }
        }
        Err(last)
    }

    /// The leader's name.
    pub fn leader(&self) -> Result<Node> {
        let name = until("somebody leads", || {
            let status = self.status()?;
            status["leader"].as_str().map(str::to_owned).ok_or_else(|| "nobody leads".to_owned())
        })?;
        Ok(self.node(&name))
    }

    /// Where a resource runs.
    pub fn place_of(&self, resource: &str) -> Result<String> {
        until(&format!("{resource} runs"), || self.place_now(resource))
    }

    /// Where a resource runs at this moment.
    pub fn place_now(&self, resource: &str) -> Result<String, String> {
        let found = self.resource(resource)?;
        match (found["state"].as_str(), found["node"].as_str()) {
            (Some("running"), Some(node)) => Ok(node.to_owned()),
            _ => Err(found.to_string()),
        }
    }

    /// What the leader says of a resource.
    pub fn resource(&self, resource: &str) -> Result<Value, String> {
        let status = self.status()?;
        let resources = status["resources"].as_array().cloned().unwrap_or_default();
        resources.into_iter().find(|r| r["name"] == resource).ok_or_else(|| format!("no {resource}: {status}"))
    }

    /// What the leader says of a node.
    pub fn member(&self, node: &str) -> Result<Value, String> {
        let status = self.status()?;
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        nodes.into_iter().find(|n| n["name"] == node).ok_or_else(|| format!("no {node}: {status}"))
    }

    /// Waits until every node votes, has caught up and may run everything, on every node's word, and everything runs.
    pub fn wait_until_whole(&self) -> Result<Value> {
        until("the cluster is whole", || {
            let status = self.status()?;
            is_whole(&status)?;
            for node in self.nodes().map_err(|error| format!("{error:#}"))? {
                let own = node.status().map_err(|error| format!("{}: {error:#}", node.name))?;
                if own["quorate"] != true
                    || own["leader"] != status["leader"]
                    || own["applied"].as_u64() < status["applied"].as_u64()
                {
                    return Err(format!("{} is behind: {own}", node.name));
                }
            }
            Ok(status)
        })
        .with_context(|| self.logs())
    }

    /// Every event that any node still knows, by time.
    pub fn events(&self) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        for node in self.nodes()? {
            events.extend(node.api().events().unwrap_or_default());
        }
        events.sort_by_key(|event| event["at_us"].as_u64());
        Ok(events)
    }

    /// Fails if a process of the lab outlives it.
    pub fn expect_no_process(&self) -> Result<()> {
        let dir = self.dir.to_string_lossy().into_owned();
        until("no process is left", || {
            let left = processes::mentioning(&dir);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
    }

    /// Sends a signal to the supervisor of a node's daemon.
    pub fn signal_daemon(&self, node: &str, signal: Signal) -> Result<()> {
        let supervisor = self.supervisor(node)?;
        processes::signal(&supervisor, signal);
        Ok(())
    }

    /// The service answers over its address, asked from this node.
    pub fn fetch(&self, from: &str, address: &str, port: u16) -> Result<String> {
        let script = format!("exec 3<>/dev/tcp/{address}/{port}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
        let said = self.exec(from, &["timeout", "5", "bash", "-c", &script])?;
        match said.exit_status {
            Some(0) => Ok(said.out),
            _ => bail!("{}", said.err),
        }
    }

    /// Waits for an event of this kind about this subject at or after `since_us`.
    pub fn wait_for_event(&self, kind: &str, subject: &str, since_us: u64) -> Result<Value> {
        until(&format!("event {kind} of {subject}"), || {
            let events = self.events().map_err(|error| format!("{error:#}"))?;
            let is_it = |event: &&Value| {
                event["event"] == kind && event["subject"] == subject && event["at_us"].as_u64() >= Some(since_us)
            };
            events.iter().find(is_it).cloned().ok_or_else(|| format!("{} events", events.len()))
        })
        .map_err(|error| anyhow!("{error:#}\n{}", self.logs()))
    }

    /// The events of these kinds at or after `since_us`.
    pub fn events_of(&self, kinds: &[&str], since_us: u64) -> Result<Vec<Value>> {
        let is_it = |event: &Value| {
            event["at_us"].as_u64() >= Some(since_us) && kinds.iter().any(|kind| event["event"] == *kind)
        };
        Ok(self.events()?.into_iter().filter(is_it).collect())
    }

    /// The last words of every node, for a test that fails.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let names = self.names().unwrap_or_default();
        for log in names.iter().map(|name| format!("{name}.log")).chain(["lab.log".to_owned()]) {
            let words = std::fs::read_to_string(self.dir.join(&log)).unwrap_or_default();
            let lines: Vec<&str> = words.lines().collect();
            let _ = writeln!(text, "--- {log}\n{}", lines[lines.len().saturating_sub(25)..].join("\n"));
        }
        text
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        end(&self.dir);
        living().retain(|dir| *dir != self.dir);
    }
}

/// Ends every lab that this process made; for a signal handler's thread.
pub fn end_everything() {
    let dirs = std::mem::take(&mut *living());
    for dir in dirs {
        end(&dir);
        if let Some(above) = dir.parent() {
            let _ = std::fs::remove_dir_all(above);
        }
    }
}

fn hub_of(dir: &Path) -> Option<Process> {
    let orders = dir.join("orders.json");
    let is_it = |process: &Process| matches!(process.argv.as_slice(), [_, role, path] if role == "lab-hub" && Path::new(path) == orders);
    processes::all().into_iter().find(is_it)
}

fn end(dir: &Path) {
    if !dir.exists() {
        return;
    }
    let _ = run(Command::new(cardea()).args(["lab", "--dir"]).arg(dir).arg("down"));
    if let Some(hub) = hub_of(dir) {
        processes::kill(&hub);
        let gone = until("the hub ends", || hub_of(dir).map_or(Ok(()), |hub| Err(format!("{hub:?}"))));
        assert!(gone.is_ok(), "{gone:?}");
    }
}

impl Node {
    /// Its daemon's API.
    pub fn api(&self) -> Api {
        Api::new(self.root.join("run/cardea/api.sock"))
    }

    /// The cluster as this node sees it.
    pub fn status(&self) -> Result<Value> {
        self.api().get("/v1/status")
    }

    /// The command line of the program for this node.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(cardea());
        command.arg("--root").arg(&self.root).args(words);
        command
    }

    /// Runs a command of the program for this node, from outside of it.
    pub fn cardea(&self, words: &[&str]) -> Result<Said> {
        run(&mut self.command(words))
    }

    /// The same, which must succeed.
    pub fn must(&self, words: &[&str]) -> Result<Said> {
        self.cardea(words)?.ok()
    }

    /// Starts a command of the program for this node.
    pub fn start(&self, words: &[&str]) -> Result<Child> {
        Ok(self.command(words).spawn()?)
    }
}

/// Has every node everything, may it run everything, does it vote (of an even number one learns), and does everything
/// run?
pub fn is_whole(status: &Value) -> Result<(), String> {
    if status["quorate"] != true {
        return Err(format!("not quorate: {status}"));
    }
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    let votes = |node: &Value| matches!(node["vote"].as_str(), Some("leader" | "voter"));
    let voters = nodes.iter().filter(|node| votes(node)).count();
    let voters_wanted = if nodes.len() > 2 { nodes.len() - usize::from(nodes.len() % 2 == 0) } else { nodes.len() };
    if voters < voters_wanted {
        return Err(format!("only {voters} vote: {status}"));
    }
    let works = |node: &Value| node["role"] == "witness" || node["eligible"] == true;
    if let Some(node) = nodes.iter().find(|node| !(works(node) && node["caught_up"] == true)) {
        return Err(format!("not ready: {node}"));
    }
    match status["resources"].as_array().into_iter().flatten().find(|resource| resource["state"] != "running") {
        Some(resource) => Err(format!("does not run: {resource}")),
        None => Ok(()),
    }
}

/// A cluster file for nodes of these names on two networks, each fenced by the lab's power switch; `more` is what runs.
pub fn cluster_file(nodes: &[&str], more: &str) -> String {
    let mut text = "cluster = \"lab\"\n".to_owned();
    for (host, name) in (1..).zip(nodes) {
        let _ =
            write!(text, "\n[nodes.{name}]\nlinks = [\"10.77.1.{host}\", \"10.77.2.{host}\"]\nfence = [\"switch\"]\n");
    }
    text + "\n[fence.switch]\nagent = \"fence_lab\"\nip = \"10.77.1.254,10.77.2.254\"\n\n" + more
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Microseconds of CLOCK_MONOTONIC, the clock of every event of a lab.
pub fn now_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}
