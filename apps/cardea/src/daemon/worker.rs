//! The worker: the one loop that meets the world.
//!
//! Its first act is to send heartbeats; only then it opens the database. Everything that happens arrives as [`Work`] on
//! one channel; the node machine says what to do, and nothing that it asks for is waited for.
//!
//! ```text
//!   pulse thread ─┐                      ┌─► pulse thread, datagrams, streams
//!   datagrams ────┤                      ├─► disk thread
//!   streams ──────┼─► Work ─► node::Node ┼─► agents
//!   disk thread ──┤                      ├─► answers, events, picture for the API
//!   agents, API ──┘                      └─► the end
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agents::{AgentEvent, Agents, AgentsConfig};
use anyhow::{Context, anyhow};
use api::EventKind;
use arc_swap::ArcSwap;
use host::supervise::{EXIT_FINAL, EXIT_RESTART};
use liveness::{Facts, OwnIdentity, PulseOrder, PulseReport};
use model::{
    AgentAction, AgentName, CallKey, ConfigVersion, Incarnation, Instant, LinkId, LogIndex, NodeId, Outcome,
    ParameterValue, ResourceName,
};
use node::{Action, Addresses, Answer, Halt, Identity, Input, Moment, Node, Settings, Start};
use siphasher::sip::SipHasher13;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use storage::{DiskHandle, Storage, StorageError};
use tokio::sync::oneshot;
use transport::{AllowList, ClusterKey, DatagramConfig, DatagramSender, StreamsConfig, StreamsHandle, Way};
use wire::Message;

use super::events::Events;
use super::file_writer::FileWriter;
use super::http::{self, Picture};
use super::node_file::{NodeFile, PORT, PulseFile, PulsePeer, as_stored};
use super::paths::Paths;
use super::peers;
use super::problems::Board;
use super::pulse_thread::{PulseJob, PulseThread, Vitals};
use super::watch;

/// How long a worker that was told to end lets its units be stopped, here or to start elsewhere. The node machine gives up
/// waiting for others long before, and each stop has a limit of its own: this one is for what nobody thought of.
pub const LEAVE_PATIENCE: Duration = Duration::from_secs(840);

/// How long LEAVING is said before the process ends.
const LEAVING_BEATS: Duration = Duration::from_millis(120);

/// Nodes that are not known yet and talked to all the same.
const NEWCOMERS_MAX: usize = 64;

/// How long the end of a worker waits for its small files.
const LAST_FILES: Duration = Duration::from_secs(1);

/// How long a former worker may take to hand over.
const HAND_OVER: Duration = Duration::from_millis(500);

/// What may reboot this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reboot {
    /// Nothing: a life that is over ends what it runs, and the daemon stays down.
    Never,
    /// The kernel, at once and without any order: the whole machine. For systemd's unit.
    Machine,
    /// The end of the PID namespace: a node of the lab, or a container. Never the machine.
    Namespace,
}

impl Reboot {
    /// As it is written on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Reboot::Never => "never",
            Reboot::Machine => "machine",
            Reboot::Namespace => "namespace",
        }
    }

    fn boot_anew(self) {
        let refused = match self {
            Reboot::Never => {
                tracing::error!("this daemon may not reboot the machine (`--reboot`): reboot it by hand");
                return;
            }
            Reboot::Machine => host::restart::restart_machine(),
            Reboot::Namespace => host::restart::restart_namespace(),
        };
        let Err(error) = refused;
        tracing::error!("the machine cannot be rebooted: {error}; reboot it by hand");
    }
}

/// The disk is tried after this long without a write.
const DISK_IDLE_MAX: Duration = Duration::from_secs(1);

/// Stands for a try of the disk; the node's own tokens count from 1.
const DISK_TRY: u64 = u64::MAX;

/// Something that happened.
pub enum Work {
    /// The heartbeat thread reports.
    Pulse(PulseReport),
    /// Another node says something.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// A node that the applied state does not know yet has connected, with a certificate.
    Newcomer {
        /// Who.
        node: NodeId,
        /// Where it comes from.
        address: IpAddr,
    },
    /// These writes are durable.
    Persisted(Vec<u64>),
    /// The disk failed; nothing is durable any more.
    DiskFailed(StorageError),
    /// An agent says something.
    Agent(AgentEvent),
    /// Somebody asks for something.
    Ask {
        /// What.
        request: node::Request,
        /// Who.
        actor: String,
        /// Where the answer goes.
        answer: oneshot::Sender<Answer>,
    },
    /// The process was told to end.
    Terminate,
    /// The process was told to make room for another worker.
    HandOver,
}

/// What the threads of a worker share.
pub struct Hub {
    own: NodeId,
    work: Sender<Work>,
    picture: ArcSwap<Picture>,
    events: Events,
    board: Board,
    streams: std::sync::OnceLock<StreamsHandle>,
    paths: Paths,
    authority: [u8; 32],
    cluster: u64,
    key: ClusterKey,
}

impl Hub {
    /// This node.
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// The newest picture of the node.
    pub fn picture(&self) -> Arc<Picture> {
        self.picture.load_full()
    }

    /// What happened lately.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// What is wrong, as far as this node knows.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Tells the node machine.
    pub fn tell(&self, work: Work) {
        // The other end goes only when the process ends.
        let _ = self.work.send(work);
    }

    /// Fingerprint of the cluster's authority, for join tokens.
    pub fn authority(&self) -> [u8; 32] {
        self.authority
    }

    /// The cluster's identity.
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// The cluster's heartbeat key.
    pub fn key(&self) -> &ClusterKey {
        &self.key
    }

    /// The files of this node.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Asks another daemon something and waits for its answer.
    pub async fn ask_peer(&self, to: NodeId, question: Vec<u8>, patience: Duration) -> anyhow::Result<Vec<u8>> {
        let streams = self.streams.get().ok_or_else(|| anyhow!("this daemon has only just started"))?;
        Ok(streams.request(to, question, patience).await?)
    }
}

/// Runs the worker to its end; the exit status for the supervisor.
pub fn run(paths: &Paths, reboot: Reboot) -> anyhow::Result<u8> {
    let _lock = host::supervise::lock_worker(&paths.run(), HAND_OVER)?;
    let file = NodeFile::load(paths)?;
    let pulse_file = PulseFile::load(paths)?;
    let certificate = transport::load_identity(&paths.identity())?;
    let key = certificate.cluster_key().clone();
    let boot_id = host::identity::boot_id().context("cannot read the boot id")?;
    let machine_id =
        host::identity::machine(paths.root(), &paths.machine()).context("cannot find out which machine this is")?;
    if let Some(why) = disk_fault_of(paths, &boot_id) {
        tracing::error!("{why}");
        return Ok(EXIT_FINAL);
    }
    let incarnation = incarnation(&boot_id, &file.storage_uuid);
    let begun = first_start(&paths.run(), &boot_id);
    let own = NodeId(file.id);

    let (work, inbox) = std::sync::mpsc::channel();
    let vitals = Arc::new(Vitals::default());
    let pulse = start_pulse(&file, &pulse_file, &key, incarnation, vitals.clone(), work.clone())?;
    signals(work.clone())?;

    let opened = Storage::open(&paths.database());
    if let Err(cause) = &opened {
        note_disk_fault(paths, &boot_id, cause);
    }
    let (database, contents) = opened?;
    let stored = consensus::Stored::decode(&contents.meta, contents.log)?;
    let own_boot_id = boot_id.clone();
    let identity = Identity {
        own,
        cluster: file.cluster,
        incarnation,
        boot_id,
        machine_id,
        storage_uuid: file.storage_uuid.clone(),
    };
    let settings = Settings {
        profile: pulse_file.profile,
        is_witness: file.is_witness,
        seed: transport::random_salt() as u64,
        ..Settings::default()
    };
    let first_peers = pulse_file.orders();
    let now = moment();
    let addresses = pulse_file.addresses();
    let start = Start {
        identity,
        settings,
        stored,
        journal: contents.journal,
        first_peers,
        addresses: addresses.clone(),
        begun,
    };
    let (node, first) = match Node::new(now, start) {
        Ok(pair) => pair,
        Err(cause) => {
            // It would be the same the next time; beats of a node that cannot take part only mislead the others.
            tracing::error!("{cause}\n  keep a copy of {}, remove this node and join it anew", paths.lib().display());
            return Ok(EXIT_FINAL);
        }
    };

    let events = Events::open(&file.name, &paths.events());
    let board = Board::new(&events.since(0), now.at);
    let hub = Arc::new(Hub {
        own,
        work: work.clone(),
        picture: ArcSwap::from_pointee(Picture { view: node.view(now), quorate_at: now.at }),
        events,
        board,
        streams: std::sync::OnceLock::new(),
        paths: paths.clone(),
        authority: transport::public_key_hash(certificate.authority())?,
        cluster: file.cluster,
        key: key.clone(),
    });
    hub.events.tell(EventKind::Started, &file.name, "the worker of this node started");

    let disk = {
        let (done, failed, vitals) = (work.clone(), work.clone(), vitals.clone());
        database.into_thread(
            move |tokens| {
                vitals.writes_done(tokens.len());
                // Nobody waits for a try of the disk: the heartbeat thread sees it, and the loop need not wake for it.
                if tokens.iter().any(|token| *token != DISK_TRY) {
                    drop(done.send(Work::Persisted(tokens)));
                }
            },
            move |cause| drop(failed.send(Work::DiskFailed(cause))),
        )?
    };
    let agents = {
        let work = work.clone();
        let config = AgentsConfig::new(paths.root());
        Agents::new(config, move |event| drop(work.send(Work::Agent(event))))
            .with_context(|| format!("cannot tell what runs here apart by {}", paths.run().display()))?
    };
    let allowed = AllowList::default();
    allowed.set_members(node.state().members.keys().copied().collect(), NodeId(node.state().applied.0));
    let (datagrams, _receiver) = {
        let work = work.clone();
        transport::datagrams(
            DatagramConfig {
                cluster_id: file.cluster,
                me: own,
                key: key.clone(),
                links: datagram_links(&addresses),
                allowed: allowed.clone(),
            },
            move |from, _, bytes| {
                if let Ok(message) = wire::decode(bytes) {
                    let _ = work.send(Work::Message { from, message });
                }
            },
        )?
    };
    let listening = addresses.to_listen();
    let listen = listening.iter().map(|address| SocketAddr::new(*address, PORT)).collect();
    let streams = peers::start(&hub, StreamsConfig { listen, identity: certificate, allowed: allowed.clone() })?;
    let _ = hub.streams.set(streams.clone());
    peers::keep_renewed(&hub, &streams)?;
    serve_api(&hub)?;
    watch::start(&hub)?;

    let mut worker = Worker {
        node,
        hub,
        pulse,
        vitals,
        disk,
        written_at: now.at,
        agents,
        datagrams,
        streams,
        allowed,
        newcomers: BTreeMap::new(),
        addresses,
        listening,
        ways: BTreeMap::new(),
        last_order: None,
        pulse_file,
        calls: BTreeMap::new(),
        asks: BTreeMap::new(),
        next_ask: 1,
        published: 0,
        files: FileWriter::start(paths)?,
        boot_id: own_boot_id,
        unsent: BTreeSet::new(),
        quorate_at: now.at,
        config_written: model::ConfigVersion(0),
        leave_by: None,
        reboot,
    };
    worker.learn_addresses();
    let ended = worker.run(first, &inbox);
    worker.files.finish(LAST_FILES);
    ended
}

/// One life of this kernel on this storage.
fn incarnation(boot_id: &str, storage_uuid: &str) -> Incarnation {
    let mut hasher = SipHasher13::new_with_keys(0x6361_7264_6561_0001, 0x696e_6361_726e_6174);
    hasher.write(boot_id.as_bytes());
    hasher.write(&[0]);
    hasher.write(storage_uuid.as_bytes());
    Incarnation(hasher.finish().max(1))
}

/// When a worker first ran since the machine booted. Unknown counts as now: others are then given more time to boot.
fn first_start(run: &Path, boot_id: &str) -> Instant {
    let (file, now) = (run.join("first-start"), host::identity::now());
    let known = std::fs::read_to_string(&file).ok().and_then(|text| {
        let (boot, nanos) = text.trim().split_once(' ')?;
        let at = Instant::from_nanos(nanos.parse().ok()?);
        (boot == boot_id && at <= now).then_some(at)
    });
    known.unwrap_or_else(|| {
        let text = format!("{boot_id} {}\n", now.as_nanos());
        if let Err(cause) = host::supervise::replace_file(&file, text.as_bytes()) {
            tracing::warn!("cannot write {}: {cause}", file.display());
        }
        now
    })
}

fn moment() -> Moment {
    Moment { at: host::identity::now(), wall: host::identity::wall() }
}

fn start_pulse(
    file: &NodeFile,
    pulse_file: &PulseFile,
    key: &ClusterKey,
    incarnation: Incarnation,
    vitals: Arc<Vitals>,
    work: Sender<Work>,
) -> anyhow::Result<PulseThread> {
    let own = OwnIdentity {
        cluster: file.cluster,
        id: NodeId(file.id),
        incarnation,
        salt: transport::random_salt(),
        key_epoch: 1,
    };
    let order = PulseOrder {
        members: pulse_file.orders(),
        voters: pulse_file.voters.iter().map(|id| NodeId(*id)).collect(),
        timing: pulse_file.timing(),
        facts: Facts::default(),
        is_leaving: false,
        addresses: ConfigVersion(pulse_file.config_version),
    };
    let first = PulseJob { order, addresses: pulse_file.addresses() };
    PulseThread::start(own, key, PORT, first, vitals, move |report| drop(work.send(Work::Pulse(report))))
}

/// The addresses for messages, by link.
fn datagram_links(addresses: &Addresses) -> Vec<(LinkId, SocketAddr)> {
    let places = addresses.own.iter().enumerate();
    let of_link = |(n, place): (usize, &node::Place)| {
        let link = LinkId(u8::try_from(n).unwrap_or(u8::MAX));
        place.all().map(move |address| (link, SocketAddr::new(address, PORT + 1))).collect::<Vec<_>>()
    };
    places.flat_map(of_link).collect()
}

/// SIGTERM and SIGINT end this worker in order, SIGHUP makes room for another one.
fn signals(work: Sender<Work>) -> anyhow::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot wait for signals")?;
    std::thread::Builder::new().name("signals".into()).stack_size(64 * 1024).spawn(move || {
        for signal in signals.forever() {
            let told = if signal == SIGHUP { Work::HandOver } else { Work::Terminate };
            if work.send(told).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn serve_api(hub: &Arc<Hub>) -> anyhow::Result<()> {
    let hub = hub.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("api".into()).stack_size(512 * 1024).spawn(move || {
        let path = hub.paths().socket();
        if let Err(cause) = runtime.block_on(http::serve(&path, hub)) {
            tracing::error!("the API ended: {cause:#}");
        }
    })?;
    Ok(())
}

struct Worker {
    node: Node,
    hub: Arc<Hub>,
    pulse: PulseThread,
    vitals: Arc<Vitals>,
    disk: DiskHandle,
    /// When something was last given to the disk.
    written_at: Instant,
    agents: Agents,
    datagrams: DatagramSender,
    streams: StreamsHandle,
    allowed: AllowList,
    /// Nodes that were admitted after the applied state, and where they are: only the log can tell more.
    newcomers: BTreeMap<NodeId, Vec<IpAddr>>,
    /// Where everybody is, newcomers included.
    addresses: Addresses,
    /// The addresses that this node listens on.
    listening: BTreeSet<IpAddr>,
    /// How messages go to each other node.
    ways: BTreeMap<NodeId, Vec<Way>>,
    last_order: Option<PulseOrder>,
    pulse_file: PulseFile,
    files: FileWriter,
    boot_id: String,
    /// Members that something could not be sent to, which has been said.
    unsent: BTreeSet<NodeId>,
    /// Calls of agents that are not answered.
    calls: BTreeMap<CallKey, (ResourceName, AgentAction)>,
    asks: BTreeMap<u64, oneshot::Sender<Answer>>,
    next_ask: u64,
    /// The revision of the node in the published picture.
    published: u64,
    quorate_at: Instant,
    config_written: model::ConfigVersion,
    /// Leaving, and until when it is waited for.
    leave_by: Option<Instant>,
    reboot: Reboot,
}

impl Worker {
    fn run(&mut self, first: Vec<Action>, inbox: &Receiver<Work>) -> anyhow::Result<u8> {
        let ended = self.run_until_the_end(first, inbox);
        self.vitals.end();
        ended
    }

    fn run_until_the_end(&mut self, first: Vec<Action>, inbox: &Receiver<Work>) -> anyhow::Result<u8> {
        if let Some(status) = self.perform(first) {
            return Ok(status);
        }
        loop {
            self.vitals.turn();
            let now = host::identity::now();
            self.try_disk(now);
            let deadline = [self.node.deadline(), self.leave_by].into_iter().flatten().min();
            let sleep = deadline.map_or(Duration::from_secs(1), |at| at.since(now));
            let inputs = match inbox.recv_timeout(sleep) {
                Ok(work) => match self.inputs(work)? {
                    Next::Inputs(inputs) => inputs,
                    Next::End(status) => return Ok(status),
                },
                Err(RecvTimeoutError::Timeout) => vec![Input::Tick],
                Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("all other threads of the worker ended")),
            };
            for input in inputs {
                let actions = self.node.step(moment(), input);
                if let Some(status) = self.perform(actions) {
                    return Ok(status);
                }
            }
            if self.leave_by.is_some_and(|at| at <= host::identity::now()) {
                tracing::error!(
                    "what runs here could not be stopped within {} s; it stays as it is and the daemon ends",
                    LEAVE_PATIENCE.as_secs()
                );
                return Ok(0);
            }
            self.publish();
        }
    }

    /// A disk that hangs shows only when something is written: where nothing is, it is tried.
    fn try_disk(&mut self, now: Instant) {
        if now.since(self.written_at) >= DISK_IDLE_MAX && !self.vitals.is_writing() {
            self.written_at = now;
            self.vitals.write_begun();
            self.disk.try_it(DISK_TRY);
        }
    }

    fn inputs(&mut self, work: Work) -> anyhow::Result<Next> {
        let input = match work {
            Work::Pulse(report) => Input::Pulse(report),
            Work::Message { from, message } => Input::Message { from, message },
            Work::Newcomer { node, address } => {
                if self.newcomers.len() < NEWCOMERS_MAX {
                    self.newcomers.entry(node).or_insert_with(|| vec![address]);
                    self.learn_addresses();
                }
                return Ok(Next::Inputs(Vec::new()));
            }
            Work::Persisted(tokens) => {
                let of_node = tokens.into_iter().filter(|token| *token != DISK_TRY);
                return Ok(Next::Inputs(of_node.map(|token| Input::Persisted { token }).collect()));
            }
            Work::DiskFailed(cause) => {
                // What was not written may not be claimed: this node must go, and be fenced if it holds anything.
                if note_disk_fault(self.hub.paths(), &self.boot_id, &cause) {
                    let cause = anyhow!(cause);
                    tracing::error!("the disk lost something: {cause:#}; this node takes no part until its next boot");
                    return Ok(Next::End(EXIT_FINAL));
                }
                return Err(anyhow!(cause).context("the disk failed; this node leaves the cluster"));
            }
            Work::Agent(AgentEvent::Done { key, outcome }) => {
                self.tell_done(key, &outcome);
                Input::CallDone { key, outcome }
            }
            Work::Agent(AgentEvent::Exited { key, how }) => Input::Exited { key, how },
            Work::Agent(AgentEvent::FenceDone { key, outcome }) => Input::FenceDone { key, outcome },
            Work::Ask { request, actor, answer } => {
                let id = self.next_ask;
                self.next_ask += 1;
                self.asks.retain(|_, waiting| !waiting.is_closed());
                self.asks.insert(id, answer);
                Input::Request { id, request, actor }
            }
            Work::Terminate => {
                if self.leave_by.is_some() {
                    tracing::warn!("told to end twice: the daemon ends now, services stay as they are");
                    return Ok(Next::End(0));
                }
                tracing::info!("told to end: what runs here goes elsewhere first, or is stopped where nobody is left");
                self.leave_by = Some(host::identity::now() + LEAVE_PATIENCE);
                Input::Request { id: 0, request: node::Request::Leave, actor: "daemon".to_owned() }
            }
            Work::HandOver => {
                tracing::info!("this worker makes room for the next; services stay");
                return Ok(Next::End(EXIT_RESTART));
            }
        };
        Ok(Next::Inputs(vec![input]))
    }

    /// Begins each action; the exit status if the node is to stop.
    fn perform(&mut self, actions: Vec<Action>) -> Option<u8> {
        let mut end = None;
        let mut said = Vec::new();
        let mut has_moved = false;
        for action in actions {
            match action {
                Action::Send { to, message } => self.send(to, &message),
                Action::Persist { token, writes } => {
                    self.vitals.write_begun();
                    self.written_at = host::identity::now();
                    self.disk.submit(token, writes);
                }
                Action::Call(call) => {
                    self.calls.insert(call.key, (call.resource.clone(), call.action));
                    self.agents.begin(call);
                }
                Action::Abandon(key) => {
                    self.calls.remove(&key);
                    self.agents.abandon(key);
                }
                Action::FenceCall(call) => self.agents.begin_fence(call),
                Action::AbandonFence(key) => self.agents.abandon_fence(key),
                Action::Addresses => has_moved = true,
                Action::Pulse(order) => {
                    self.order_pulse(*order);
                    has_moved = false;
                }
                Action::Answer { id, answer } => said.push(Said::Answer { id, answer }),
                Action::Event(event) => said.push(Said::Event(event)),
                Action::Halt(halt) => end = Some(halt),
            }
        }
        // An order that was made with other addresses takes them along; else the last one stands.
        if has_moved && let Some(order) = self.last_order.take() {
            self.order_pulse(order);
        }
        if !said.is_empty() {
            // Whoever hears of a change and then looks must see it.
            self.publish();
        }
        for said in said {
            match said {
                Said::Answer { id, answer } => {
                    if let Some(waiting) = self.asks.remove(&id) {
                        // The asker may have gone.
                        let _ = waiting.send(answer);
                    }
                }
                Said::Event(event) => self.tell(&event),
            }
        }
        // What else the step asked for comes first: the last heartbeats say that this node leaves.
        end.map(|halt| self.halt(halt))
    }

    /// Says what an agent answered; that a check found all well is no news.
    fn tell_done(&mut self, key: CallKey, outcome: &Outcome) {
        let Some((resource, action)) = self.calls.remove(&key) else { return };
        let what = match action {
            AgentAction::Start => "start",
            AgentAction::Stop => "stop",
            AgentAction::Monitor => "monitor",
        };
        let how = match outcome {
            Outcome::Success if action == AgentAction::Monitor => return,
            Outcome::Success => "done".to_owned(),
            Outcome::NotRunning => "does not run".to_owned(),
            Outcome::Failed { reason, .. } => format!("failed: {reason}"),
            Outcome::TimedOut => "gave no answer in time and was ended".to_owned(),
            Outcome::Stuck { reason } => format!("cannot be ended: {reason}"),
            Outcome::Unknown { reason, .. } => format!("nobody knows: {reason}"),
            Outcome::NotBegun { reason } => format!("did not begin: {reason}"),
        };
        self.hub.events.tell(EventKind::OpDone, resource.as_str(), &format!("{what}: {how}"));
    }

    fn tell(&self, event: &node::Event) {
        let kind = serde_json::from_value(serde_json::Value::String(event.event.to_owned())).unwrap_or(EventKind::Note);
        tracing::info!(event = event.event, subject = %event.subject, "{}", event.reason);
        self.hub.events.tell(kind, &event.subject, &event.reason);
    }

    fn send(&mut self, to: NodeId, message: &Message) {
        let bytes = wire::encode(message);
        if bytes.len() <= wire::DATAGRAM_BYTES_MAX {
            let over = self.ways.get(&to).map_or(&[][..], Vec::as_slice);
            if let Err(cause) = self.datagrams.send(to, over, &bytes) {
                tracing::error!(%cause, "a message does not fit its datagram");
            }
            // A receiver whose log does not know this node yet believes its certificate, and no datagram.
            if !self.node.has_applied(to, LogIndex(self.hub.own.0)) {
                self.streams.send(to, bytes);
            }
        } else {
            let length = bytes.len();
            if !self.streams.send(to, bytes) && self.unsent.insert(to) {
                let name = self.node.state().name_of(to);
                tracing::error!(
                    "a message of {length} bytes to {name} is too long, or {name} has no address; {name} may fall behind"
                );
            }
        }
    }

    /// Where everybody is, from the agreed configuration; whoever sends and listens follows.
    fn learn_addresses(&mut self) {
        let state = self.node.state();
        let applied = NodeId(state.applied.0);
        let mut addresses = self.node.addresses().clone();
        if !state.members.is_empty() {
            let stored = self.pulse_file.peers.iter().map(|peer| (NodeId(peer.id), peer.links.clone()));
            self.newcomers.retain(|id, _| *id > applied);
            self.newcomers.extend(stored.filter(|(id, _)| *id > applied));
            let known: BTreeSet<NodeId> = state.members.keys().chain(self.newcomers.keys()).copied().collect();
            self.allowed.set_members(known, applied);
        }
        for (id, links) in &self.newcomers {
            let places = || links.iter().map(|address| node::Place::at(*address)).collect();
            addresses.peers.entry(*id).or_insert_with(places);
        }
        if addresses == self.addresses && !self.ways.is_empty() {
            return;
        }
        let way =
            |(link, from, to)| Way { link, from: SocketAddr::new(from, PORT + 1), to: SocketAddr::new(to, PORT + 1) };
        self.ways = addresses.peers.keys().map(|peer| (*peer, addresses.all_ways(*peer).map(way).collect())).collect();
        let listening = addresses.to_listen();
        if addresses.own != self.addresses.own {
            self.datagrams.set_links(&datagram_links(&addresses));
        }
        if listening != self.listening {
            let list: Vec<String> = listening.iter().map(ToString::to_string).collect();
            tracing::info!("this node listens on {}", list.join(", "));
            let listen: Vec<SocketAddr> = listening.iter().map(|address| SocketAddr::new(*address, PORT)).collect();
            self.streams.set_listen(&listen);
            self.listening = listening;
        }
        let to_connect = |peer: &NodeId| {
            addresses.to_connect(*peer).into_iter().map(|address| SocketAddr::new(address, PORT)).collect()
        };
        self.streams.set_peers(addresses.peers.keys().map(|peer| (*peer, to_connect(peer))).collect());
        self.addresses = addresses;
    }

    fn order_pulse(&mut self, order: PulseOrder) {
        self.learn_addresses();
        self.store_addresses(&order);
        self.last_order = Some(order.clone());
        self.pulse.order(PulseJob { order, addresses: self.addresses.clone() });
    }

    /// Keeps what the next worker has to know before it opens the database.
    fn store_addresses(&mut self, order: &PulseOrder) {
        let state = self.node.state();
        if state.members.is_empty() {
            return;
        }
        let incarnation_of =
            |id: &NodeId| state.members.get(id).map(|member| member.incarnation.0).filter(|known| *known != 0);
        let (own, own_former) = as_stored(&self.addresses.own);
        let peers = self.addresses.peers.iter().map(|(id, places)| {
            let (links, former) = as_stored(places);
            PulsePeer { id: id.0, links, former, incarnation: incarnation_of(id) }
        });
        let file = PulseFile {
            version: 1,
            profile: state.config.profile,
            config_version: self.addresses.version.0,
            own,
            own_former,
            peers: peers.collect(),
            voters: order.voters.iter().map(|id| id.0).collect(),
        };
        if file != self.pulse_file {
            self.files.save_pulse(file.clone());
            self.pulse_file = file;
        }
    }

    fn publish(&mut self) {
        let revision = self.node.revision();
        if revision == self.published {
            return;
        }
        self.published = revision;
        let now = moment();
        let view = self.node.view(now);
        if view.is_quorate {
            self.quorate_at = now.at;
        }
        let picture = Arc::new(Picture { view, quorate_at: self.quorate_at });
        self.hub.picture.store(picture.clone());
        let state = &picture.view.state;
        if state.config_version != self.config_written
            && let Some(record) = state.config_history.back()
        {
            self.config_written = state.config_version;
            self.files.save_cluster_file(record.text.clone());
        }
    }

    fn halt(&mut self, halt: Halt) -> u8 {
        self.vitals.end();
        match halt {
            Halt::Left => {
                let state = self.node.state();
                let is_in_maintenance = state::is_in_maintenance(state, self.hub.own);
                if state.gone.contains(&self.hub.own) || is_in_maintenance && self.node.executor().open().count() > 0 {
                    tracing::info!(
                        "the daemon ends in maintenance: services stay as they are, and nobody watches them"
                    );
                } else {
                    tracing::info!("this node has left in order");
                }
                std::thread::sleep(LEAVING_BEATS);
                0
            }
            Halt::Removed => {
                tracing::warn!("this node is no member of the cluster any more; `cardea join` lets it in again");
                self.end_life();
                EXIT_FINAL
            }
            Halt::Unreadable => {
                tracing::error!(
                    "this node takes no part until a program that can read its log is installed, or until it is \
                     removed and joined anew"
                );
                EXIT_FINAL
            }
            Halt::Condemned => {
                tracing::error!("the cluster condemned this node: whatever it ran here ends now");
                self.end_life();
                EXIT_FINAL
            }
        }
    }

    /// Others may run by now what this node runs: it ends all of it. Whatever an agent has left is ended by a boot, where
    /// something exclusive was among it.
    fn end_life(&self) {
        let state = self.node.state();
        let stops = self.node.executor().last_stops(agents::LAST_STOP_MAX);
        let is_exclusive = |resource: &ResourceName| {
            !state.config.resources.contains_key(resource) || state.config.is_exclusive(&state.config.unit_of(resource))
        };
        let has_run_exclusive = stops.iter().any(|call| is_exclusive(&call.resource));
        let configured = state.config.resources.values().map(|resource| (&resource.agent, &resource.parameters));
        let told = stops.iter().map(|call| (&call.agent, &call.parameters));
        let addresses: Vec<Ipv4Addr> = configured
            .chain(told)
            .filter_map(|(agent, parameters)| floating_address(agent, parameters))
            .filter(|address| !self.pulse_file.own.contains(&IpAddr::V4(*address)))
            .collect();
        self.agents.end_everything(stops, &addresses);
        if has_run_exclusive {
            tracing::error!("it ran something exclusive: the machine reboots");
            super::log::finish();
            self.reboot.boot_anew();
        }
    }
}

/// The address that a `cardea:ip` puts up.
fn floating_address(agent: &AgentName, parameters: &BTreeMap<String, ParameterValue>) -> Option<Ipv4Addr> {
    match (agent, parameters.get("address")?) {
        (AgentName::Native(name), ParameterValue::Text(text)) if name == "ip" => text.split('/').next()?.parse().ok(),
        _ => None,
    }
}

/// What others hear of a step.
enum Said {
    Answer { id: u64, answer: Answer },
    Event(node::Event),
}

enum Next {
    Inputs(Vec<Input>),
    End(u8),
}

/// After a failed write the kernel may hold pages that the disk has lost, and give them to whoever reads. Only a boot
/// ends that: until then this node must not claim what it reads. True if it was such a failure.
fn note_disk_fault(paths: &Paths, boot_id: &str, cause: &StorageError) -> bool {
    if !cause.is_disk_fault() {
        return false;
    }
    let mark = paths.storage_failed();
    let written = std::fs::create_dir_all(paths.run()).and_then(|()| std::fs::write(&mark, boot_id));
    if let Err(cause) = written {
        tracing::error!("cannot write {}: {cause}", mark.display());
    }
    true
}

/// Why this node may not take part in this boot, if its disk failed earlier in it.
fn disk_fault_of(paths: &Paths, boot_id: &str) -> Option<String> {
    let mark = paths.storage_failed();
    let is_noted = match std::fs::read(&mark) {
        Ok(noted) => noted == boot_id.as_bytes(),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => false,
        // A mark that cannot be read is a mark.
        Err(_) => true,
    };
    is_noted.then(|| {
        format!(
            "the disk of this node failed earlier in this boot, and what is read from it may never have reached it: \
             this node takes no part until it has booted again\n  \
             check the disk (`dmesg`), then reboot; or, if the disk is replaced and {} restored, remove {}",
            paths.lib().display(),
            mark.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_disk_fault_a_node_takes_no_part_until_the_next_boot() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let failure = |cause: std::io::Error| StorageError::Io { what: "write to", path: "x".into(), cause };
        assert!(!note_disk_fault(&paths, "boot 1", &failure(std::io::ErrorKind::StorageFull.into())));
        assert_eq!(disk_fault_of(&paths, "boot 1"), None, "a full disk has lost nothing");
        assert!(note_disk_fault(&paths, "boot 1", &failure(std::io::Error::from_raw_os_error(5))));
        assert!(disk_fault_of(&paths, "boot 1").is_some_and(|why| why.contains("reboot")));
        assert_eq!(disk_fault_of(&paths, "boot 2"), None);
    }
}
