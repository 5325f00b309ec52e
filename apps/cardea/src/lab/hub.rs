//! Who holds a lab together? The hub, PID 1 of the lab: it has the switches, the power switch and every machine, and
//! does what `cardea lab …` asks.
//!
//! In: questions over `DIR/lab.sock`. Out: answers, and a running cluster.
//! Not here: how a machine or a switch works, how the hub is started (`launch.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use super::bring_up::bring_up;
use super::daemon_api;
use super::disk::{self, Disk};
use super::filters::{self, Dropped, Filters};
use super::hang::Part;
use super::layout::{Layout, nearest};
use super::machine::{Machine, OwnEnd, Site};
use super::power_switch::{self, Plugs};
use super::protocol::{Answer, LabLink, LabNode, LabStatus, QUESTION_BYTES_MAX, Question, SOCKET};
use super::switches::{Plug, Switches};
use crate::demo;

/// What a hub is told at its start, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    /// The lab's folder.
    pub dir: PathBuf,
    /// Nodes and networks.
    pub layout: Layout,
    /// Another command line than this binary's `daemon`, for tests of the machinery.
    pub daemon: Option<Vec<String>>,
    /// Make a cluster of the machines?
    pub bring_up: bool,
    /// Run the demo.
    pub demo: Option<demo::Options>,
    /// Die when the process that started this one dies.
    pub dies_with_parent: bool,
}

/// A line that the hub prints until it is ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Something was done.
    Done(String),
    /// All is up.
    Ready(Disk),
    /// It did not work.
    Failed(String),
}

/// A running lab.
pub struct Hub {
    /// Nodes and networks.
    pub layout: Layout,
    /// The machines, in the layout's order.
    pub machines: Vec<Machine>,
    /// What the disks are made of.
    pub disk: Disk,
    dir: PathBuf,
    site: Arc<Site>,
    filters: Mutex<Filters>,
    outcome: Mutex<Option<i32>>,
    outcome_known: Condvar,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the hub; returns the exit status of the demo, or never.
pub fn run(orders: Orders) -> anyhow::Result<i32> {
    if orders.dies_with_parent {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    rustix::process::setsid().ok();
    host::namespace::mount_proc()?;
    host::namespace::set_hostname("lab")?;
    match orders.demo.clone() {
        Some(options) => run_demo(orders, &options),
        None => run_lab(orders),
    }
}

fn run_demo(orders: Orders, options: &demo::Options) -> anyhow::Result<i32> {
    let keep = options.keep;
    let hub = Hub::build(orders)?;
    hub.serve()?;
    let outcome = demo::run(&hub, options);
    if !keep {
        return outcome;
    }
    let exit_status = match outcome {
        Ok(exit_status) => exit_status,
        Err(error) => {
            eprintln!("cardea: {error:#}");
            1
        }
    };
    *locked(&hub.outcome) = Some(exit_status);
    hub.outcome_known.notify_all();
    hub.log_from_here()?;
    park()
}

fn run_lab(orders: Orders) -> anyhow::Result<i32> {
    let tell = |progress: &Progress| {
        // Who started the lab may be gone; the lab goes on.
        let _ = writeln!(io::stdout(), "{}", serde_json::to_string(progress).unwrap_or_default());
        let _ = io::stdout().flush();
    };
    let bring = orders.bring_up;
    let built = Hub::build(orders).and_then(|hub| {
        hub.serve()?;
        hub.power_on_all()?;
        let names: Vec<&str> = hub.machines.iter().map(|machine| machine.layout.name.as_str()).collect();
        tell(&Progress::Done(format!("switched on: {}", names.join(", "))));
        if bring {
            bring_up(&hub.layout, &hub.machines, &mut |line| tell(&Progress::Done(line.to_owned())))?;
        } else {
            hub.machines.iter().try_for_each(Machine::start_daemon)?;
        }
        Ok(hub)
    });
    match built {
        Ok(hub) => {
            hub.log_from_here()?;
            tell(&Progress::Ready(hub.disk.clone()));
            let null = File::options().write(true).open("/dev/null")?;
            rustix::stdio::dup2_stdout(null)?;
            park()
        }
        Err(error) => {
            tell(&Progress::Failed(format!("{error:#}")));
            Ok(1)
        }
    }
}

fn park() -> ! {
    loop {
        thread::park();
    }
}

impl Hub {
    /// Makes the networks and the machines, all off.
    fn build(orders: Orders) -> anyhow::Result<Arc<Hub>> {
        let disk = disk::measure(&orders.dir).context("could not measure the disk")?;
        let layout = orders.layout;
        let switches = Switches::build(&layout.networks).context("could not make the networks of the lab")?;
        for name in ["cardea", "cardea-web"] {
            std::os::unix::fs::symlink(std::env::current_exe()?, orders.dir.join("bin").join(name))?;
        }
        let site = Arc::new(Site {
            folder: orders.dir.clone(),
            networks: layout.networks.clone(),
            switches: Mutex::new(switches),
            daemon: orders.daemon,
            power_switch: layout.power_switch_addresses(),
            fence_agents: fence_agents(&layout.file),
            files: layout.files.clone(),
        });
        let machines = layout
            .nodes
            .iter()
            .enumerate()
            .map(|(position, node)| Machine::new(Arc::clone(&site), position, node.clone()))
            .collect::<anyhow::Result<Vec<Machine>>>()?;
        let filters = Mutex::new(Filters { loss: vec![0; layout.networks.len()], ..Filters::default() });
        let hub = Hub {
            layout,
            machines,
            disk,
            dir: orders.dir,
            site,
            filters,
            outcome: Mutex::new(None),
            outcome_known: Condvar::new(),
        };
        Ok(Arc::new(hub))
    }

    /// Listens for questions and for fence agents.
    fn serve(self: &Arc<Self>) -> anyhow::Result<()> {
        let addresses: Vec<IpAddr> = self.layout.networks.iter().map(|network| network.hub).collect();
        let plugs: Arc<dyn Plugs> = Arc::new(HubPlugs(Arc::clone(self)));
        power_switch::serve(&addresses, &plugs)?;
        let listener =
            UnixListener::bind(self.dir.join(SOCKET)).context("the hub cannot listen in the lab's folder")?;
        let hub = Arc::clone(self);
        thread::Builder::new().name("questions".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = Arc::clone(&hub);
                let _ = thread::Builder::new().spawn(move || hub.talk(&stream));
            }
        })?;
        let hub = Arc::clone(self);
        thread::Builder::new().name("machines".to_owned()).spawn(move || hub.watch_machines())?;
        Ok(())
    }

    /// Switches a node that reboots itself on again.
    fn watch_machines(&self) {
        loop {
            let lives: Vec<_> = self.machines.iter().filter_map(|machine| Some((machine, machine.life()?))).collect();
            let mut fds: Vec<PollFd<'_>> = lives.iter().map(|(_, (fd, _))| PollFd::new(fd, PollFlags::IN)).collect();
            // Machines that are switched on meanwhile are seen at the next look.
            let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 200_000_000 }));
            for ((machine, (_, boot_id)), fd) in lives.iter().zip(&fds) {
                if fd.revents().is_empty() {
                    continue;
                }
                let name = &machine.layout.name;
                match machine.follow_own_end(boot_id) {
                    Ok(None) => {}
                    Ok(Some(OwnEnd::Off)) => eprintln!("{name} switched itself off"),
                    Ok(Some(OwnEnd::Reboot)) => eprintln!("{name} reboots"),
                    Err(error) => {
                        eprintln!("{name} ended, and could not be followed: {error:#}");
                        thread::sleep(Duration::from_secs(1));
                    }
                }
            }
        }
    }

    /// The lab's folder.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Switches all machines on.
    pub fn power_on_all(&self) -> anyhow::Result<()> {
        self.machines.iter().try_for_each(Machine::power_on)
    }

    /// The machine of this name.
    pub fn machine(&self, name: &str) -> anyhow::Result<&Machine> {
        if let Some(machine) = self.machines.iter().find(|machine| machine.layout.name == name) {
            return Ok(machine);
        }
        let names = || self.machines.iter().map(|machine| machine.layout.name.as_str());
        let all = names().collect::<Vec<&str>>().join(", ");
        match nearest(name, names()) {
            Some(close) => bail!("there is no node `{name}`; did you mean `{close}`? The nodes are {all}"),
            None => bail!("there is no node `{name}`; the nodes are {all}"),
        }
    }

    /// Closes the ports of a machine in one network (counted from 1) or all.
    pub fn cut(&self, machine: &Machine, network: Option<usize>) -> anyhow::Result<()> {
        self.each_port(machine, network, |switches, plug| switches.set_cut(plug, true))
    }

    /// Opens the ports, gives the carrier back, drops nothing any more, and lets go on what hangs.
    pub fn heal(&self, machine: &Machine, network: Option<usize>) -> anyhow::Result<()> {
        self.each_port(machine, network, |switches, plug| {
            switches.set_carrier(plug, true)?;
            switches.set_cut(plug, false)
        })?;
        if network.is_none() {
            machine.end_hangs();
        }
        let network = network.map(|number| number - 1);
        self.set_filters(|filters| filters.drops.retain(|drop| !drop.concerns(machine.position(), network)))
    }

    /// Drops everything that is sent to a machine.
    pub fn deafen(&self, machine: &Machine, network: Option<usize>) -> anyhow::Result<()> {
        let plugs = self.plugs(machine, network)?;
        self.set_filters(|filters| filters.drops.extend(plugs.into_iter().map(Dropped::To)))
    }

    /// Drops everything that a machine sends.
    pub fn mute(&self, machine: &Machine, network: Option<usize>) -> anyhow::Result<()> {
        let plugs = self.plugs(machine, network)?;
        self.set_filters(|filters| filters.drops.extend(plugs.into_iter().map(Dropped::From)))
    }

    /// Drops what `from` says to `to`.
    fn cut_one_way(&self, from: &Machine, to: &Machine, network: Option<usize>) -> anyhow::Result<()> {
        anyhow::ensure!(from.position() != to.position(), "a node cannot be cut from itself");
        let pairs = self.plugs(from, network)?.into_iter().zip(self.plugs(to, network)?);
        let drops = pairs.map(|(from, to)| Dropped::Between { from, to });
        self.set_filters(|filters| filters.drops.extend(drops))
    }

    fn set_filters(&self, change: impl FnOnce(&mut Filters)) -> anyhow::Result<()> {
        let mut current = locked(&self.filters);
        let mut wanted = current.clone();
        change(&mut wanted);
        if wanted != *current {
            filters::set(&wanted)?;
            *current = wanted;
        }
        Ok(())
    }

    /// Its places in one network (counted from 1) or all.
    fn plugs(&self, machine: &Machine, network: Option<usize>) -> anyhow::Result<Vec<Plug>> {
        let count = machine.layout.addresses.len();
        let positions = match network {
            None => 0..count,
            Some(number) if (1..=count).contains(&number) => number - 1..number,
            Some(number) => bail!("there is no network {number}; the networks are 1 to {count}"),
        };
        Ok(positions.map(|network| Plug { node: machine.position(), network }).collect())
    }

    /// What is wrong with a machine, in words.
    fn faults(&self, machine: &Machine) -> Vec<String> {
        let own = machine.position();
        let name = |plug: Plug| self.machines[plug.node].layout.name.as_str();
        let mut networks: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for dropped in &locked(&self.filters).drops {
            let (plug, what) = match *dropped {
                Dropped::To(plug) => (plug, "deaf".to_owned()),
                Dropped::From(plug) => (plug, "mute".to_owned()),
                Dropped::Between { from, to } => (to, format!("does not hear {}", name(from))),
            };
            if plug.node == own {
                networks.entry(what).or_default().push((plug.network + 1).to_string());
            }
        }
        let dropped = networks.into_iter().map(|(what, networks)| {
            let is_everywhere = networks.len() == machine.layout.addresses.len();
            if is_everywhere { what } else { format!("{what} on network {}", networks.join(", ")) }
        });
        let hung = machine.hanging().into_iter().map(|part| match part {
            Part::Worker => "hung worker".to_owned(),
            Part::Disk => "hung disk".to_owned(),
        });
        dropped.chain(hung).collect()
    }

    fn each_port(
        &self,
        machine: &Machine,
        network: Option<usize>,
        change: impl Fn(&mut Switches, Plug) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let plugs = self.plugs(machine, network)?;
        let mut switches = locked(&self.site.switches);
        for plug in plugs {
            change(&mut switches, plug)?;
        }
        Ok(())
    }

    fn set_loss(&self, percent: u8, network: Option<usize>) -> anyhow::Result<()> {
        anyhow::ensure!(percent <= 100, "a loss is 0 to 100 percent, not {percent}");
        let count = self.layout.networks.len();
        let positions = match network {
            None => 0..count,
            Some(number) if (1..=count).contains(&number) => number - 1..number,
            Some(number) => bail!("there is no network {number}; the networks are 1 to {count}"),
        };
        self.set_filters(|filters| filters.loss[positions].fill(percent))
    }

    /// The cluster as a node sees it that belongs to a majority, else as any node sees it.
    pub fn cluster_status(&self) -> Option<api::Status> {
        let mut any = None;
        for machine in self.machines.iter().filter(|machine| machine.is_on() && !machine.is_frozen()) {
            match daemon_api::status(&machine.api_socket()) {
                Ok(status) if status.quorate => return Some(status),
                Ok(status) => any = any.or(Some(status)),
                Err(_) => {}
            }
        }
        any
    }

    /// How everything is.
    pub fn status(&self) -> LabStatus {
        let cluster = self.cluster_status();
        let nodes = self.machines.iter().map(|machine| {
            let name = &machine.layout.name;
            let told = cluster.as_ref().and_then(|status| status.nodes.iter().find(|node| node.name == *name));
            let switches = locked(&self.site.switches);
            let links = machine.layout.addresses.iter().enumerate().map(|(network, address)| LabLink {
                network: network + 1,
                address: address.to_string(),
                state: switches.condition(Plug { node: machine.position(), network }).as_str().to_owned(),
            });
            let links = links.collect();
            drop(switches);
            let resources = cluster.iter().flat_map(|status| &status.resources);
            LabNode {
                name: name.clone(),
                power: match (machine.is_on(), machine.is_frozen()) {
                    (false, _) => "off",
                    (true, true) => "frozen",
                    (true, false) => "on",
                }
                .to_owned(),
                boot_id: machine.boot_id().unwrap_or_default(),
                faults: self.faults(machine),
                role: told.map(|node| node.vote.clone()).unwrap_or_default(),
                state: told.map(|node| node.state.clone()).unwrap_or_default(),
                links,
                resources: resources
                    .filter(|resource| resource.node.as_deref() == Some(name) && resource.state == "running")
                    .map(|resource| resource.name.clone())
                    .collect(),
                root: machine.root().display().to_string(),
            }
        });
        let nodes = nodes.collect();
        let loss = locked(&self.filters).loss.clone();
        LabStatus {
            cluster: self.layout.cluster.clone(),
            dir: self.dir.display().to_string(),
            disk: Some(self.disk.clone()),
            leader: cluster.as_ref().and_then(|status| status.leader.clone()),
            quorate: cluster.as_ref().is_some_and(|status| status.quorate),
            loss,
            nodes,
        }
    }

    fn talk(&self, stream: &UnixStream) {
        let mut ends = false;
        let answer = match hear(stream) {
            Ok((question, descriptors)) => {
                ends = question == Question::Down;
                self.answer(question, descriptors, stream)
            }
            Err(error) => Err(error),
        };
        let answer =
            answer.unwrap_or_else(|error| Answer { ok: false, message: format!("{error:#}"), ..Answer::default() });
        let mut line = serde_json::to_string(&answer).expect("an answer is plain data");
        line.push('\n');
        let _ = (&mut &*stream).write_all(line.as_bytes());
        if ends {
            std::process::exit(0);
        }
    }

    fn answer(&self, question: Question, descriptors: Vec<OwnedFd>, stream: &UnixStream) -> anyhow::Result<Answer> {
        let done = |message: String| Ok(Answer { ok: true, message, ..Answer::default() });
        match question {
            Question::Status => Ok(Answer { ok: true, status: Some(self.status()), ..Answer::default() }),
            Question::Exec { node, argv } => {
                let machine = self.machine(&node)?;
                let Ok([stdin, stdout, stderr]) = <[OwnedFd; 3]>::try_from(descriptors) else {
                    bail!("exec needs an input and two outputs");
                };
                let child = machine.spawn(&argv, stdin.into(), stdout.into(), stderr.into())?;
                let exit_status = wait_while_heard(child, stream)?;
                Ok(Answer { ok: true, exit_status: Some(exit_status), ..Answer::default() })
            }
            Question::Crash { nodes } => {
                let machines = self.chosen(&nodes)?;
                // Nobody may act on the loss of another while the power goes off, node by node.
                machines.iter().try_for_each(|machine| machine.isolate())?;
                on_each(&machines, Machine::power_off)?;
                done(format!("{} without power", be(&machines)))
            }
            Question::Start { nodes, boot_takes_s } => {
                let machines = self.chosen(&nodes)?;
                let boot_takes = Duration::from_secs(boot_takes_s.unwrap_or(0));
                on_each(&machines, |machine| {
                    machine.set_boot_takes(boot_takes);
                    machine.power_on()?;
                    machine.start_daemon()
                })?;
                let boots = boot_takes_s.map_or_else(String::new, |s| format!("; the daemon starts in {s} s"));
                done(format!("{} on{boots}", be(&machines)))
            }
            Question::CutBetween { node, other, one_way, network } => {
                let (first, second) = (self.machine(&node)?, self.machine(&other)?);
                self.cut_one_way(first, second, network)?;
                if one_way {
                    return done(format!("{other} does not hear {node} on {}", network_words(network)));
                }
                self.cut_one_way(second, first, network)?;
                done(format!("{node} and {other} do not hear each other on {}", network_words(network)))
            }
            Question::Deaf { node, network } => {
                self.deafen(self.machine(&node)?, network)?;
                done(format!("{node} is deaf on {}", network_words(network)))
            }
            Question::Mute { node, network } => {
                self.mute(self.machine(&node)?, network)?;
                done(format!("{node} is mute on {}", network_words(network)))
            }
            Question::Hang { node, part } => {
                self.machine(&node)?.hang(part)?;
                done(match part {
                    Part::Worker => format!("the worker of {node} hangs; its heartbeats go on"),
                    Part::Disk => format!("the disk of {node} takes writes and never finishes them"),
                })
            }
            Question::Cut { node, network } => {
                self.cut(self.machine(&node)?, network)?;
                done(format!("{node} is cut from {}", network_words(network)))
            }
            Question::Heal { node: Some(node), network } => {
                self.heal(self.machine(&node)?, network)?;
                done(format!("{node} is back on {}", network_words(network)))
            }
            Question::Heal { node: None, network } => {
                self.machines.iter().try_for_each(|machine| self.heal(machine, network))?;
                done(format!("every node is back on {}", network_words(network)))
            }
            Question::Freeze { node } => {
                self.machine(&node)?.freeze()?;
                done(format!("{node} stands still"))
            }
            Question::Thaw { node } => {
                self.machine(&node)?.thaw()?;
                done(format!("{node} goes on"))
            }
            Question::Loss { percent, network } => {
                self.set_loss(percent, network)?;
                done(format!("{percent} % of the packets between nodes are lost on {}", network_words(network)))
            }
            Question::Linkdown { node, network } => {
                let machine = self.machine(&node)?;
                self.each_port(machine, Some(network), |switches, plug| switches.set_carrier(plug, false))?;
                done(format!("{node} has no carrier on network {network}"))
            }
            Question::Down => {
                self.machines.iter().try_for_each(Machine::power_off)?;
                // Here, because only root of this lab may remove what a node made unreadable to others.
                std::fs::remove_dir_all(self.dir.join("nodes"))?;
                done("the lab is down".to_owned())
            }
            Question::Outcome => {
                let mut outcome = locked(&self.outcome);
                while outcome.is_none() {
                    outcome = self.outcome_known.wait(outcome).unwrap_or_else(PoisonError::into_inner);
                }
                Ok(Answer { ok: true, exit_status: *outcome, ..Answer::default() })
            }
        }
    }

    /// The machines of these names; of no names, all.
    fn chosen(&self, names: &[String]) -> anyhow::Result<Vec<&Machine>> {
        if names.is_empty() {
            return Ok(self.machines.iter().collect());
        }
        names.iter().map(|name| self.machine(name)).collect()
    }

    /// From here on nobody watches: words go to the lab's log.
    fn log_from_here(&self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.dir.join("lab.log"))?;
        rustix::stdio::dup2_stderr(&log)?;
        Ok(())
    }
}

/// Names of the fence agents in a cluster file; `fence_lab` always.
fn fence_agents(file: &str) -> Vec<String> {
    let parsed = config::parse(file).map(|parsed| parsed.config.fence_devices).unwrap_or_default();
    let named = parsed
        .into_values()
        .map(|device| device.agent)
        .filter(|agent| agent.starts_with("fence_") && !agent.contains('/'));
    named.chain(["fence_lab".to_owned()]).collect::<BTreeSet<String>>().into_iter().collect()
}

/// Does something with several machines at the same time; the first error is told.
fn on_each(machines: &[&Machine], act: impl Fn(&Machine) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let acts: Vec<_> = machines.iter().map(|machine| scope.spawn(|| act(machine))).collect();
        let done: Vec<anyhow::Result<()>> = acts
            .into_iter()
            .map(|act| act.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of the lab panicked"))))
            .collect();
        done.into_iter().collect()
    })
}

/// `a is`, `a, b are`.
fn be(machines: &[&Machine]) -> String {
    let names: Vec<&str> = machines.iter().map(|machine| machine.layout.name.as_str()).collect();
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

fn network_words(network: Option<usize>) -> String {
    network.map_or_else(|| "every network".to_owned(), |number| format!("network {number}"))
}

fn hear(stream: &UnixStream) -> anyhow::Result<(Question, Vec<OwnedFd>)> {
    let mut text = Vec::new();
    let mut descriptors = Vec::new();
    while text.last() != Some(&b'\n') {
        let mut buffer = vec![0; 4096];
        let (length, mut more) = host::network::receive_with_descriptors(stream.as_fd(), &mut buffer)?;
        descriptors.append(&mut more);
        text.extend_from_slice(&buffer[..length]);
        anyhow::ensure!(length > 0 && text.len() <= QUESTION_BYTES_MAX, "the question is cut off or too long");
    }
    Ok((serde_json::from_slice(&text).context("the lab does not understand this question")?, descriptors))
}

/// Waits for a command to end; kills it if nobody waits for the answer any more.
fn wait_while_heard(mut child: Child, stream: &UnixStream) -> anyhow::Result<i32> {
    let pidfd = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    loop {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(stream, PollFlags::RDHUP)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !fds[0].revents().is_empty() {
            use std::os::unix::process::ExitStatusExt as _;
            let status = child.wait()?;
            return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
        }
        if !fds[1].revents().is_empty() {
            child.kill()?;
        }
    }
}

struct HubPlugs(Arc<Hub>);

impl Plugs for HubPlugs {
    fn names(&self) -> Vec<String> {
        self.0.machines.iter().map(|machine| machine.layout.name.clone()).collect()
    }

    fn is_on(&self, plug: &str) -> anyhow::Result<bool> {
        Ok(self.0.machine(plug)?.is_on())
    }

    fn off(&self, plug: &str) -> anyhow::Result<()> {
        self.0.machine(plug)?.power_off()
    }

    fn on(&self, plug: &str) -> anyhow::Result<()> {
        let machine = self.0.machine(plug)?;
        machine.power_on()?;
        machine.start_daemon()
    }
}
