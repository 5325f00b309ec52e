//! Does a service survive the death of its node, and how long is it gone? Shown, not told: a cluster of three, a client
//! that asks every 5 ms, and the faults that happen in real life, one after the other.
//!
//! ```text
//!   hub ─► bring up ─► for each run: kill · power off · cut · freeze · move ─► table
//!                          each: choose who leads → break it → watch → repair → wait until all are well
//! ```
//!
//! Not here: the machinery of the lab (`lab/`), what the client's requests prove (`judge.rs`).

mod client;
mod judge;
mod nginx;
mod report;
mod sampler;
mod watch;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use api::{Event, EventKind, Request, Status};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::lab::bring_up::{bring_up, is_ready};
use crate::lab::daemon_api;
use crate::lab::hub::Hub;
use crate::lab::layout::{Layout, LayoutError, SERVICE_ADDRESS, SERVICE_PORT};
use crate::lab::machine::Machine;
use client::{Client, now_us};
use judge::{double_answers, longest_outage, ms};
pub use report::Fault;
use report::{Report, Step};
use sampler::Sampler;
use watch::{Watch, grant};

/// The cluster file of the demo.
const FILE: &str = include_str!("../../../../examples/floating-web/cluster.toml");

/// What the file says runs, where nginx is not installed.
const BUILT_IN_COMMAND: &str = "command = [\"cardea-web\"]";

/// Names in the file.
const UNIT: &str = "site";
const ADDRESS: &str = "address";
const WEB: &str = "web";

/// Longest time for the service to come back after a fault.
const COMEBACK_LIMIT: Duration = Duration::from_secs(30);

/// Longest time for the cluster to be whole again after a repair.
const REPAIR_LIMIT: Duration = Duration::from_secs(60);

/// The service must have been back this long before a fault counts as survived.
const SETTLED: Duration = Duration::from_millis(300);

/// How often the cluster is asked while the demo waits for it.
const PAUSE: Duration = Duration::from_millis(20);

/// How the demo is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// How often each fault.
    pub runs: u32,
    /// JSON instead of a table.
    pub json: bool,
    /// The cluster stays up.
    pub keep: bool,
    /// A missed figure is a failure.
    pub check: bool,
    /// The faults, in this order.
    pub faults: Vec<Fault>,
}

/// The lab of the demo: the example as it is, with nginx for the built-in responder where that is installed.
pub fn layout() -> Result<Layout, LayoutError> {
    let Some(nginx) = nginx::find() else { return Layout::from_file(FILE) };
    let words: Vec<String> = nginx::command(&nginx).iter().map(|word| format!("{word:?}")).collect();
    assert!(FILE.contains(BUILT_IN_COMMAND), "the example runs the built-in responder");
    let mut layout =
        Layout::from_file(&FILE.replacen(BUILT_IN_COMMAND, &format!("command = [{}]", words.join(", ")), 1))?;
    layout.files.insert(nginx::FILE.to_owned(), nginx::configuration());
    Ok(layout)
}

/// Runs the demo in a lab; returns its exit status.
pub fn run(hub: &Arc<Hub>, options: &Options) -> anyhow::Result<i32> {
    let says = Says { json: options.json };
    says.line(&format!(
        "{} nodes in namespaces of this machine, {} networks between them; disks on {}, fsync {:.1} ms",
        hub.machines.len(),
        hub.layout.networks.len(),
        hub.disk.file_system,
        hub.disk.fsync_ms
    ));
    hub.power_on_all()?;
    bring_up(&hub.layout, &hub.machines, &mut |line| says.line(line))?;
    let watch = Watch::start(hub)?;
    let service: SocketAddr = format!("{SERVICE_ADDRESS}:{SERVICE_PORT}").parse().expect("an address");
    let client = Client::start(service)?;
    let sampler = Sampler::start(hub, service)?;
    let mut demo = Demo { hub, watch, client, says, steps: Vec::new(), problems: Vec::new() };
    demo.wait_until_whole()?;
    let serving = demo.serving()?;
    demo.says.line(&format!("http://{service}/ is served by {serving}; a client asks every 5 ms\n"));

    let mut failure = None;
    'runs: for run in 1..=options.runs {
        for fault in options.faults.iter().copied() {
            let leaders: &[Option<bool>] = match fault {
                Fault::Kill | Fault::Move => &[None],
                Fault::Poweroff | Fault::Cut | Fault::Freeze | Fault::Deaf | Fault::Mute => &[Some(true), Some(false)],
            };
            for leader in leaders {
                if let Err(error) = demo.survive(run, fault, *leader) {
                    failure = Some(format!("{}: {error:#}", fault.words()));
                    break 'runs;
                }
            }
        }
    }

    let doubles = double_answers(&demo.client.ended_since(0), &demo.watch.grants(UNIT));
    let found = sampler.found();
    let mut problems = std::mem::take(&mut demo.problems);
    problems.extend(failure);
    problems.extend(doubles.iter().cloned());
    problems.extend(found.doubles.iter().cloned());
    if found.served == 0 {
        problems.push("the sampler never saw the service on any node, so it proves nothing".to_owned());
    }
    if !demo.client.is_alive() {
        problems.push("the client ended before the demo".to_owned());
    }
    let report = Report {
        runs: options.runs,
        summary: report::summary(&demo.steps),
        steps: demo.steps,
        double_answers: doubles.len(),
        double_holders: found.doubles.len(),
        ok: problems.is_empty(),
        problems,
    };
    // A demo that broke off has measured too little to be judged.
    let missed = if options.check && report.ok { report::missed(&options.faults, &report.steps) } else { Vec::new() };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("\nmilliseconds after the fault, medians of {} runs\n{}", options.runs, report::table(&report));
        println!(
            "answers from two nodes: {}; looks at the nodes: {}, {} found the service, {} found it twice",
            report.double_answers, found.looks, found.served, report.double_holders
        );
    }
    for problem in report.problems.iter().chain(&missed) {
        eprintln!("cardea: {problem}");
    }
    if options.keep {
        eprintln!(
            "the cluster stays up: `cardea lab status --dir {0}`, `cardea lab down --dir {0}`",
            hub.dir().display()
        );
    }
    Ok(i32::from(!(report.ok && missed.is_empty())))
}

/// Where the demo's words go: to people, unless a program listens.
struct Says {
    json: bool,
}

impl Says {
    fn line(&self, text: &str) {
        if !self.json {
            println!("{text}");
            let _ = std::io::stdout().flush();
        }
    }
}

struct Demo<'a> {
    hub: &'a Arc<Hub>,
    watch: Watch,
    client: Client,
    says: Says,
    steps: Vec<Step>,
    problems: Vec<String>,
}

/// The stages between a fault and its end, in microseconds of the common clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stages {
    detected: Option<u64>,
    elected: Option<u64>,
    condemned: Option<u64>,
    fenced: Option<u64>,
    granted: Option<u64>,
    address: Option<u64>,
    web_begun: Option<u64>,
    web_done: Option<u64>,
    ready: Option<u64>,
    to: Option<String>,
    reason: Option<String>,
}

impl Demo<'_> {
    /// One fault from the choice of the leader to the whole cluster.
    fn survive(&mut self, run: u32, fault: Fault, leader: Option<bool>) -> anyhow::Result<()> {
        let victim = self.serving()?;
        if let Some(leader) = leader {
            self.lead(&victim, leader)?;
        }
        let status = self.status()?;
        let leads = status.leader.as_deref() == Some(victim.as_str());
        let machine = self.hub.machine(&victim)?;
        let target = self.other_than(&victim)?;
        self.says.line(&format!(
            "run {run}: {} ({victim}, {})",
            fault.words(),
            if leads { "which leads" } else { "which follows" }
        ));

        let fault_us = self.inflict(fault, machine, &status, &target)?;
        let stages = self.watch_comeback(fault, &victim, fault_us)?;

        let requests = self.client.since(fault_us.saturating_sub(2_000_000));
        let outage = longest_outage(&requests, fault_us).context("the client had no answer any more")?;
        let after = |at: Option<u64>| at.map(|at| ms(at.saturating_sub(fault_us)));
        let to = stages.to.clone().unwrap_or_else(|| victim.clone());
        let step = Step {
            fault,
            leader: leads,
            run,
            node: victim.clone(),
            to: to.clone(),
            detected_ms: after(stages.detected),
            elected_ms: after(stages.elected),
            condemned_ms: after(stages.condemned),
            fenced_ms: after(stages.fenced),
            granted_ms: after(stages.granted),
            address_ms: after(stages.address),
            ready_ms: after(stages.ready),
            client_ms: after(Some(outage.until_us)),
            start_ms: stages.web_begun.zip(stages.web_done).map(|(begun, done)| ms(done.saturating_sub(begun))),
            outage_ms: outage.ms(),
            reason: stages.reason.clone().unwrap_or_else(|| format!("{WEB} was started again on {victim}")),
        };
        self.says.line(&format!(
            "  client     {:>7.1} ms   served again, by {to}; outage {:.1} ms\n  because {}\n",
            step.client_ms.unwrap_or(0.0),
            step.outage_ms,
            step.reason
        ));
        self.steps.push(step);
        self.repair()?;
        self.wait_until_whole()
    }

    /// Breaks it; returns when.
    fn inflict(&self, fault: Fault, machine: &Machine, status: &Status, target: &str) -> anyhow::Result<u64> {
        let fault_us = now_us();
        match fault {
            Fault::Kill => {
                let pid = responder(machine)?;
                let fault_us = now_us();
                rustix::process::kill_process(pid, Signal::KILL)?;
                return Ok(fault_us);
            }
            Fault::Poweroff => machine.power_off()?,
            Fault::Cut => self.hub.cut(machine, None)?,
            Fault::Freeze => machine.freeze()?,
            Fault::Deaf => self.hub.deafen(machine, None)?,
            Fault::Mute => self.hub.mute(machine, None)?,
            Fault::Move => {
                let asked = status.leader.as_deref().unwrap_or(&machine.layout.name);
                let request =
                    Request::Move { unit: UNIT.to_owned(), to: Some(target.to_owned()), reason: "demo".to_owned() };
                daemon_api::action(&self.hub.machine(asked)?.api_socket(), &request)?;
            }
        }
        Ok(fault_us)
    }

    /// Tells every stage as it happens; returns when the client has been served again for a while.
    fn watch_comeback(&self, fault: Fault, victim: &str, fault_us: u64) -> anyhow::Result<Stages> {
        let begun = Instant::now();
        let mut told = Stages::default();
        loop {
            let stages = stages(&self.watch.fresh_since(fault_us), fault, victim);
            self.tell_new(&told, &stages, fault_us);
            told = stages;
            let holder = match fault {
                Fault::Kill => Some(told.to.as_deref().unwrap_or(victim)),
                Fault::Poweroff | Fault::Cut | Fault::Freeze | Fault::Deaf | Fault::Mute | Fault::Move => {
                    told.to.as_deref()
                }
            };
            let is_ready = told.ready.is_some();
            if let Some(holder) = holder
                && is_ready
                && let Some(back_us) = judge::first_answer_of(&self.client.since(fault_us), holder, fault_us)
                && now_us().saturating_sub(back_us) > u64::try_from(SETTLED.as_micros()).unwrap_or(u64::MAX)
            {
                return Ok(told);
            }
            if begun.elapsed() > COMEBACK_LIMIT {
                let seen = serde_json::to_string(&self.hub.cluster_status()).unwrap_or_default();
                bail!("the service did not come back within {COMEBACK_LIMIT:?}: {told:?}; the cluster says {seen}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn tell_new(&self, old: &Stages, new: &Stages, fault_us: u64) {
        let rows = [
            ("detected", old.detected, new.detected),
            ("elected", old.elected, new.elected),
            ("condemned", old.condemned, new.condemned),
            ("fenced", old.fenced, new.fenced),
            ("granted", old.granted, new.granted),
            ("address", old.address, new.address),
            ("ready", old.ready, new.ready),
        ];
        for (name, before, now) in rows {
            if let (None, Some(at)) = (before, now) {
                let to = new.to.as_deref().filter(|_| name == "granted").map(|to| format!("   to {to}"));
                self.says.line(&format!(
                    "  {name:<10} {:>7.1} ms{}",
                    ms(at.saturating_sub(fault_us)),
                    to.unwrap_or_default()
                ));
            }
        }
    }

    /// Gives back power, cables and breath.
    fn repair(&self) -> anyhow::Result<()> {
        for machine in &self.hub.machines {
            if machine.is_frozen() {
                machine.thaw()?;
            }
            machine.power_on()?;
            machine.start_daemon()?;
            self.hub.heal(machine, None)?;
        }
        Ok(())
    }

    /// Waits until every node is a voter, caught up and eligible, on every node's word, and the service answers.
    fn wait_until_whole(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut cleared = Instant::now();
        loop {
            let missing = self.missing();
            match missing {
                None => return Ok(()),
                Some(why) if begun.elapsed() > REPAIR_LIMIT => {
                    bail!("the cluster is not whole after {REPAIR_LIMIT:?}: {why}")
                }
                Some(_) => {}
            }
            // An operator who repaired something says so: old failures must not count against what comes next.
            if cleared.elapsed() > Duration::from_secs(1) {
                self.clear();
                cleared = Instant::now();
            }
            thread::sleep(PAUSE);
        }
    }

    fn clear(&self) {
        let request = Request::Clear { name: None, node: None, reason: "the demo repaired it".to_owned() };
        if let Ok(machine) = self.status().and_then(|status| self.hub.machine(&status.leader.unwrap_or_default())) {
            // Refused while nobody leads; the next round asks again.
            let _ = daemon_api::action(&machine.api_socket(), &request);
        }
    }

    /// Why the cluster is not whole; none if it is.
    fn missing(&self) -> Option<String> {
        let status = match self.status() {
            Ok(status) => status,
            Err(error) => return Some(format!("{error:#}")),
        };
        for machine in &self.hub.machines {
            let name = &machine.layout.name;
            let Some(node) = status.nodes.iter().find(|node| node.name == *name) else {
                return Some(format!("{name} is unknown"));
            };
            if !is_ready(&status, name) || !(node.eligible || machine.layout.is_witness) {
                return Some(format!("{name} is {} {} {}", node.state, node.vote, node.reason));
            }
            match daemon_api::status(&machine.api_socket()) {
                Ok(own) if own.quorate && own.applied >= status.applied && own.leader == status.leader => {}
                Ok(_) => return Some(format!("{name} is not up to date")),
                Err(error) => return Some(format!("{name} does not answer: {error:#}")),
            }
        }
        if let Some(resource) = status.resources.iter().find(|resource| resource.state != "running") {
            return Some(format!("{} is {}: {}", resource.name, resource.state, resource.reason));
        }
        if let Some(resource) = status.resources.iter().find(|resource| resource.failures > 0) {
            self.clear();
            return Some(format!("{} has failures that count", resource.name));
        }
        let recent = self.client.ended_since(now_us().saturating_sub(100_000));
        let serves = !recent.is_empty() && recent.iter().all(|request| request.answer.is_some());
        (!serves).then(|| "the service does not answer every request".to_owned())
    }

    fn status(&self) -> anyhow::Result<Status> {
        match self.hub.cluster_status() {
            // The leader knows best; it also answers while others still learn who leads.
            Some(status) if status.quorate => match &status.leader {
                Some(leader) => daemon_api::status(&self.hub.machine(leader)?.api_socket()),
                None => Ok(status),
            },
            Some(_) | None => bail!("no node belongs to a majority"),
        }
    }

    fn serving(&self) -> anyhow::Result<String> {
        let status = self.status()?;
        let web = status.resources.iter().find(|resource| resource.name == WEB);
        web.and_then(|resource| resource.node.clone()).with_context(|| format!("{WEB} runs nowhere"))
    }

    fn other_than(&self, name: &str) -> anyhow::Result<String> {
        let names = self.hub.machines.iter().map(|machine| &machine.layout.name);
        // The next in the circle, so that every node gets its turn.
        let all: Vec<&String> = names.collect();
        let position = all.iter().position(|other| *other == name).unwrap_or(0);
        all.get((position + 1) % all.len()).map(|name| (*name).clone()).context("there is no other node")
    }

    /// Lets `victim` lead, or lets it not lead.
    fn lead(&self, victim: &str, leads: bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut asked = None;
        loop {
            // While leadership passes on, nobody leads.
            let leader = self.status().ok().and_then(|status| status.leader);
            if leader.as_ref().is_some_and(|leader| (leader == victim) == leads) {
                return self.wait_until_whole();
            }
            if begun.elapsed() > REPAIR_LIMIT {
                bail!("leadership could not be transferred");
            }
            if let Some(leader) = leader
                && asked.is_none_or(|at: Instant| at.elapsed() > Duration::from_secs(1))
            {
                let node = if leads { victim.to_owned() } else { self.other_than(victim)? };
                let _ = daemon_api::action(&self.hub.machine(&leader)?.api_socket(), &Request::Lead { node });
                asked = Some(Instant::now());
            }
            thread::sleep(PAUSE);
        }
    }
}

/// The stages that the events since a fault tell of. The word of the node that was hit does not count.
fn stages(events: &[Event], fault: Fault, victim: &str) -> Stages {
    let first = |is_it: &dyn Fn(&Event) -> bool| events.iter().find(|event| is_it(event)).map(|event| event.at_us);
    let is = |event: &Event, kind: EventKind, subject: &str| event.event == kind && event.subject == subject;
    let by_others = |event: &Event| event.node != victim;
    match fault {
        Fault::Kill => {
            let begun = start_of_web(events, 0);
            let since = begun.map_or(u64::MAX, |event| event.at_us);
            let moved = events.iter().filter(|e| e.subject == UNIT).find_map(grant);
            Stages {
                detected: first(&|e| is(e, EventKind::Failed, WEB) || is(e, EventKind::OpBegun, WEB)),
                web_begun: begun.map(|event| event.at_us),
                web_done: begun.and_then(|begun| end_of_start(events, begun)),
                ready: first(&|e| is(e, EventKind::Running, WEB) && e.at_us >= since),
                to: moved.map(|grant| grant.node),
                reason: events.iter().find(|e| is(e, EventKind::Failed, WEB)).map(|e| e.reason.clone()),
                ..Stages::default()
            }
        }
        Fault::Poweroff | Fault::Cut | Fault::Freeze | Fault::Deaf | Fault::Mute | Fault::Move => {
            let granted = events.iter().filter(|e| e.subject == UNIT).find_map(|e| {
                let grant = grant(e).filter(|grant| grant.node != victim)?;
                Some((grant, e.reason.clone()))
            });
            let since = granted.as_ref().map_or(u64::MAX, |(grant, _)| grant.at_us);
            let begun = start_of_web(events, since);
            Stages {
                detected: first(&|e| is(e, EventKind::Suspect, victim) && by_others(e)),
                elected: first(&|e| e.event == EventKind::Leader && e.subject != victim && by_others(e)),
                condemned: first(&|e| is(e, EventKind::Condemned, victim)),
                fenced: first(&|e| is(e, EventKind::Fenced, victim)),
                granted: granted.as_ref().map(|(grant, _)| grant.at_us),
                address: first(&|e| is(e, EventKind::Running, ADDRESS) && e.at_us >= since),
                web_begun: begun.map(|event| event.at_us),
                web_done: begun.and_then(|begun| end_of_start(events, begun)),
                ready: first(&|e| is(e, EventKind::Running, WEB) && e.at_us >= since),
                to: granted.as_ref().map(|(grant, _)| grant.node.clone()),
                reason: granted.map(|(_, reason)| reason),
            }
        }
    }
}

/// The first start of the service at `since_us` or later.
fn start_of_web(events: &[Event], since_us: u64) -> Option<&Event> {
    events.iter().find(|event| {
        event.event == EventKind::OpBegun
            && event.subject == WEB
            && event.reason.starts_with("start")
            && event.at_us >= since_us
    })
}

/// When a start was done: an operation on the same node that ended after it. If another one ends earlier, the start
/// counts as shorter than it was, and we as slower.
fn end_of_start(events: &[Event], begun: &Event) -> Option<u64> {
    let done = |e: &&Event| e.event == EventKind::OpDone && e.node == begun.node && e.at_us >= begun.at_us;
    events.iter().find(done).map(|event| event.at_us)
}

/// The process of the service on this node.
fn responder(machine: &Machine) -> anyhow::Result<Pid> {
    let is_responder = |pid: &Pid| {
        let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
        let line = std::fs::read(path).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let (program, first) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let is_built_in = program.ends_with("cardea-web") || (program.ends_with("cardea") && first == "web");
        is_built_in || program.ends_with("nginx") || program.starts_with("nginx:")
    };
    let found = machine.processes()?.into_iter().find(is_responder);
    found.with_context(|| format!("no process of {WEB} runs on {}", machine.layout.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at_us: u64, node: &str, event: EventKind, subject: &str, reason: &str) -> Event {
        Event {
            number: at_us,
            at_us,
            wall_ms: 0,
            node: node.to_owned(),
            event,
            subject: subject.to_owned(),
            reason: reason.to_owned(),
            problem: None,
        }
    }

    #[test]
    fn the_example_is_a_lab_with_and_without_nginx() {
        let plain = Layout::from_file(FILE).expect("the example is good");
        assert_eq!(plain.nodes.len(), 3);
        assert_eq!(plain.networks.len(), 2);
        layout().expect("the demo's own file is good");
    }

    #[test]
    fn the_victim_is_no_witness_of_its_own_death() {
        let events = [
            event(5, "a", EventKind::Suspect, "b", "silent"),
            event(9, "b", EventKind::Suspect, "a", "silent"),
            event(12, "b", EventKind::Leader, "b", "b leads in term 2"),
            event(14, "b", EventKind::Condemned, "a", "silent"),
            event(30, "b", EventKind::Fenced, "a", "power says off"),
            event(31, "b", EventKind::Granted, "site", "to c: a is fenced"),
            event(35, "c", EventKind::Running, "address", "on c"),
            event(36, "c", EventKind::OpBegun, "web", "start"),
            event(40, "c", EventKind::Running, "web", "on c"),
        ];
        let stages = stages(&events, Fault::Cut, "a");
        assert_eq!(stages.detected, Some(9));
        assert_eq!((stages.elected, stages.condemned, stages.fenced), (Some(12), Some(14), Some(30)));
        assert_eq!((stages.granted, stages.address, stages.web_begun), (Some(31), Some(35), Some(36)));
        assert_eq!(stages.ready, Some(40));
        assert_eq!(stages.to.as_deref(), Some("c"));
        assert_eq!(stages.reason.as_deref(), Some("to c: a is fenced"));
    }

    #[test]
    fn a_service_that_was_up_before_its_restart_is_not_ready_yet() {
        let events = [
            event(5, "a", EventKind::Failed, "web", "on a: killed by signal 9"),
            event(8, "a", EventKind::OpBegun, "web", "stop"),
            event(9, "a", EventKind::OpBegun, "web", "start"),
        ];
        let early = stages(&events, Fault::Kill, "a");
        assert_eq!((early.detected, early.web_begun, early.ready), (Some(5), Some(9), None));
    }
}
