//! The heartbeat thread: sockets on one side, the pulse in the middle, orders and reports on the other.
//!
//! It waits for nothing but its sockets: no disk, no lock that others hold, no name look-up. What arrives is drained
//! first, then the newest order, then one tick, all with the same `now`.
//!
//! It also watches the worker's loop. One that stands still for [`WORKER_PATIENCE`] is ended with the whole process, so
//! that the supervisor starts another one; while a thread waits inside the kernel, ending it would only end the beats.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwapOption;
use liveness::{OwnIdentity, Path, Progress, Pulse, PulseAction, PulseInput, PulseOrder, PulseReport, Received};
use model::{Instant, LinkId, NodeId};
use node::Addresses;
use transport::{BeatSockets, ClusterKey, Drained, Label, Opener, Sealer, Waker};

/// A new order, and where the members are.
#[derive(Clone)]
pub struct PulseJob {
    /// What to do.
    pub order: PulseOrder,
    /// Where everybody is, this node included.
    pub addresses: Addresses,
}

/// The thread, as the rest of the worker sees it.
pub struct PulseThread {
    jobs: Arc<Jobs>,
    waker: Waker,
    _thread: JoinHandle<()>,
}

/// The newest order that the thread has not taken; it replaces the one before.
#[derive(Default)]
struct Jobs {
    newest: ArcSwapOption<PulseJob>,
    /// Is there one? To look here at each turn costs far less than to take what is not there.
    is_there: AtomicBool,
}

impl Jobs {
    fn put(&self, job: PulseJob) {
        self.newest.store(Some(Arc::new(job)));
        self.is_there.store(true, Release);
    }

    fn take(&self) -> Option<PulseJob> {
        // Cleared first: one that is put after this is found here or at the next turn.
        let is_there = self.is_there.load(Relaxed) && self.is_there.swap(false, Acquire);
        if is_there { self.newest.swap(None).map(Arc::unwrap_or_clone) } else { None }
    }
}

/// A worker whose loop has not come round for this long is ended.
const WORKER_PATIENCE: Duration = Duration::from_secs(10);

/// How far the worker has come, for the heartbeat thread to see without asking it.
#[derive(Debug, Default)]
pub struct Vitals {
    turns: AtomicU64,
    writes_begun: AtomicU64,
    writes_done: AtomicU64,
    is_ending: AtomicBool,
}

impl Vitals {
    /// The worker's loop came round.
    pub fn turn(&self) {
        self.turns.fetch_add(1, Relaxed);
    }

    /// A write was given to the disk.
    pub fn write_begun(&self) {
        self.writes_begun.fetch_add(1, Relaxed);
    }

    /// Writes became durable.
    pub fn writes_done(&self, count: usize) {
        self.writes_done.fetch_add(count as u64, Relaxed);
    }

    /// Is a write on its way?
    pub fn is_writing(&self) -> bool {
        let done = self.writes_done.load(Relaxed);
        self.writes_begun.load(Relaxed) > done
    }

    /// The worker ends: from now on its loop may stand still for as long as that takes.
    pub fn end(&self) {
        self.is_ending.store(true, Relaxed);
    }

    fn progress(&self) -> Progress {
        Progress {
            turns: self.turns.load(Relaxed),
            writes_begun: self.writes_begun.load(Relaxed),
            writes_done: self.writes_done.load(Relaxed),
        }
    }
}

impl PulseThread {
    /// Binds the sockets and begins to beat at once, on this port everywhere.
    ///
    /// `report` runs on the heartbeat thread and must not wait.
    pub fn start(
        own: OwnIdentity,
        key: &ClusterKey,
        port: u16,
        first: PulseJob,
        vitals: Arc<Vitals>,
        report: impl Fn(PulseReport) + Send + 'static,
    ) -> anyhow::Result<PulseThread> {
        let sockets =
            BeatSockets::bind(&listen(&first.addresses, port)).context("cannot bind the heartbeat sockets")?;
        let waker = sockets.waker();
        let jobs = Arc::new(Jobs::default());
        let inbox = jobs.clone();
        let mut beating = Beating {
            pulse: Pulse::new(host::identity::now(), own, first.order),
            sockets,
            port,
            ways: ways(&first.addresses, port),
            addresses: first.addresses,
            sealer: Sealer::new(key),
            opener: Opener::new(key),
            packet: Vec::with_capacity(1024),
            body: Vec::with_capacity(1024),
            received: Vec::with_capacity(64),
            drops: 0,
            vitals,
            watch: Watch::default(),
        };
        let thread = std::thread::Builder::new()
            .name("pulse".into())
            .spawn(move || {
                host::scheduling::set_thread_name("pulse");
                let urgency = host::scheduling::ask_for_urgency();
                tracing::debug!(?urgency, "heartbeat thread runs");
                beating.run(&inbox, report);
            })
            .context("cannot start the heartbeat thread")?;
        Ok(PulseThread { jobs, waker, _thread: thread })
    }

    /// Gives the thread a new order; never waits.
    pub fn order(&self, job: PulseJob) {
        self.jobs.put(job);
        self.waker.wake();
    }
}

/// Every address to listen on.
fn listen(addresses: &Addresses, port: u16) -> Vec<SocketAddr> {
    addresses.to_listen().into_iter().map(|address| SocketAddr::new(address, port)).collect()
}

/// Between what each beat goes.
type Ways = BTreeMap<(NodeId, LinkId), Vec<(SocketAddr, SocketAddr)>>;

fn ways(addresses: &Addresses, port: u16) -> Ways {
    let mut ways = Ways::new();
    for peer in addresses.peers.keys() {
        for (link, from, to) in addresses.all_ways(*peer) {
            let way = (SocketAddr::new(from, port), SocketAddr::new(to, port));
            ways.entry((*peer, link)).or_default().push(way);
        }
    }
    ways
}

/// No link has this number.
const NO_LINK: LinkId = LinkId(u8::MAX);

struct Beating {
    pulse: Pulse,
    sockets: BeatSockets,
    port: u16,
    addresses: Addresses,
    ways: Ways,
    sealer: Sealer,
    opener: Opener,
    packet: Vec<u8>,
    body: Vec<u8>,
    received: Vec<Received>,
    drops: u64,
    vitals: Arc<Vitals>,
    watch: Watch,
}

/// Does the worker's loop hang?
#[derive(Debug, Default)]
struct Watch {
    /// The age of the worker's last turn at which it is looked at again.
    look_again_at: Duration,
}

impl Watch {
    /// Is this the moment to end a worker whose last turn was so long ago?
    fn is_due(&mut self, age: Duration, vitals: &Vitals) -> bool {
        if age < WORKER_PATIENCE {
            self.look_again_at = WORKER_PATIENCE;
            return false;
        }
        // Before its first turn it reads its database, which may take long after a crash.
        let is_watched = vitals.progress().turns > 0 && !vitals.is_ending.load(Relaxed);
        let is_due = is_watched && age >= self.look_again_at;
        if is_due {
            self.look_again_at = age + Duration::from_secs(1);
        }
        is_due
    }
}

impl Beating {
    fn run(&mut self, inbox: &Jobs, report: impl Fn(PulseReport)) {
        loop {
            let drained = self.drain();
            let now = host::identity::now();
            self.turn(now, drained, inbox, &report);
            if drained.is_cut_short {
                continue;
            }
            for address in self.sockets.rebind() {
                tracing::info!(address = %address.ip(), "an address of this node is there and can be used");
            }
            let sleep = self.pulse.deadline().since(host::identity::now()).min(Duration::from_secs(1));
            // While all is well, one wake-up per slot of the rhythm does: the kernel notes when each beat arrived.
            let waited = if self.pulse.is_calm() { self.sockets.rest(sleep) } else { self.sockets.wait(sleep) };
            if let Err(cause) = waited {
                tracing::error!(%cause, "the heartbeat thread cannot wait for its sockets");
            }
        }
    }

    /// Tells the pulse everything that happened up to `now`.
    fn turn(&mut self, now: Instant, drained: Drained, inbox: &Jobs, report: &impl Fn(PulseReport)) {
        if drained.dropped > 0 {
            self.drops += drained.dropped;
            self.step(now, PulseInput::SocketDrops { count: self.drops }, report);
        }
        let mut arrived = std::mem::take(&mut self.received);
        for received in arrived.drain(..) {
            self.step(now, PulseInput::Received(received), report);
        }
        // Its room is used again.
        self.received = arrived;
        if let Some(PulseJob { order, addresses }) = inbox.take() {
            if addresses != self.addresses {
                self.sockets.set(&listen(&addresses, self.port));
                self.ways = ways(&addresses, self.port);
                self.addresses = addresses;
            }
            self.step(now, PulseInput::Order(order), report);
        }
        self.step(now, PulseInput::Progress(self.vitals.progress()), report);
        self.watch_worker();
        // While more waits, a verdict might fall before its refutation is read; beats are due all the same.
        let due = if drained.is_cut_short { PulseInput::SendDue } else { PulseInput::Tick };
        self.step(now, due, report);
    }

    /// Feeds the pulse one input and performs every action that it returns.
    fn step(&mut self, now: Instant, input: PulseInput, report: &impl Fn(PulseReport)) {
        let actions = self.pulse.step(now, input);
        self.perform(actions, report);
    }

    /// Ends the process if the worker's loop hangs where that helps.
    fn watch_worker(&mut self) {
        let is_due = self.watch.is_due(self.pulse.health().worker, &self.vitals);
        if is_due && host::scheduling::is_any_thread_in_kernel_wait() == Ok(false) {
            // Not a word before: the log may be what the worker waits for. The supervisor reports the end.
            std::process::abort();
        }
    }

    /// Reads everything that has arrived, as far as it is for us.
    fn drain(&mut self) -> Drained {
        let Beating { sockets, opener, received, pulse, addresses, .. } = self;
        sockets.drain(|packet| {
            let arrived = host::identity::now();
            let Ok((header, _)) = wire::decode_header(packet.bytes) else { return pulse.count_broken() };
            // What comes to an address that is not of its link is of no link.
            let path = addresses.path(header.link, packet.local.ip(), header.sender, packet.from.ip());
            let (link, path) = path.map_or((NO_LINK, Path::Former), |path| (header.link, path));
            // Cheap, and before any cryptography.
            if !pulse.admits(link, &header, path) {
                return;
            }
            let (clear, body) = packet.bytes.split_at_mut(wire::HEADER_BYTES);
            let Some(length) = opener.open(
                Label::Beat,
                header.sender,
                header.receiver,
                header.salt,
                header.link,
                header.seq,
                clear,
                body,
            ) else {
                return pulse.count_broken();
            };
            let Ok(beat) = wire::decode_beat(&body[..length]) else { return pulse.count_broken() };
            let arrival = model::Instant::from_nanos(arrived.as_nanos().saturating_sub(packet.age.as_nanos() as u64));
            received.push(Received { arrival, header, beat, path });
        })
    }

    fn perform(&mut self, actions: Vec<PulseAction>, report: &impl Fn(PulseReport)) {
        for action in actions {
            match action {
                PulseAction::Report(said) => report(said),
                PulseAction::Send { to, link, header, beat } => {
                    let Some(ways) = self.ways.get(&(to, link)) else { continue };
                    let clear = wire::encode_header(&header);
                    self.body.clear();
                    wire::encode_beat(&beat, &mut self.body);
                    self.sealer.seal(
                        Label::Beat,
                        header.sender,
                        header.receiver,
                        header.salt,
                        header.link,
                        header.seq,
                        &clear,
                        &mut self.body,
                    );
                    self.packet.clear();
                    self.packet.extend_from_slice(&clear);
                    self.packet.extend_from_slice(&self.body);
                    for (from, at) in ways {
                        self.sockets.send(*from, *at, &self.packet);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liveness::{Facts, PeerOrder, Timing};
    use model::{ConfigVersion, Incarnation, Profile};
    use node::Place;
    use std::net::{IpAddr, UdpSocket};

    #[test]
    fn a_worker_that_stands_still_for_ten_seconds_is_ended() {
        let (vitals, s) = (Vitals::default(), Duration::from_secs);
        let mut watch = Watch::default();
        assert!(!watch.is_due(s(60), &vitals), "it still reads its database");
        vitals.turn();
        assert!(!watch.is_due(s(9), &vitals));
        assert!(watch.is_due(s(10), &vitals));
        assert!(
            !watch.is_due(s(10), &vitals),
            "where a thread waits in the kernel it is looked at again a little later"
        );
        assert!(watch.is_due(s(11), &vitals));
        assert!(!watch.is_due(s(0), &vitals), "it came round");
        assert!(watch.is_due(s(10), &vitals));
        vitals.end();
        assert!(!watch.is_due(s(60), &vitals), "its end may take its time");
    }

    /// The first input of a turn is the one that shows a stall: what follows from it is not thrown away.
    #[test]
    fn a_stall_that_overflowed_a_socket_is_reported() {
        let own = OwnIdentity { cluster: 7, id: NodeId(1), incarnation: Incarnation(5), salt: 9, key_epoch: 0 };
        let order = PulseOrder {
            members: vec![PeerOrder { id: NodeId(2), links: 1, incarnation: None }],
            voters: vec![NodeId(1), NodeId(2)],
            timing: Timing::of(Profile::Lan),
            facts: Facts::default(),
            is_leaving: false,
            addresses: ConfigVersion(0),
        };
        let begun = host::identity::now();
        let key = ClusterKey::generate();
        let mut beating = Beating {
            pulse: Pulse::new(begun, own, order),
            sockets: BeatSockets::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap(),
            port: 0,
            addresses: Addresses::default(),
            ways: Ways::new(),
            sealer: Sealer::new(&key),
            opener: Opener::new(&key),
            packet: Vec::new(),
            body: Vec::new(),
            received: Vec::new(),
            drops: 0,
            vitals: Arc::default(),
            watch: Watch::default(),
        };
        let inbox = Jobs::default();
        let mut stalls = |now, drained| {
            let stalls = std::cell::RefCell::new(Vec::new());
            beating.turn(now, drained, &inbox, &|report| {
                if let PulseReport::OwnStall { stall } = report {
                    stalls.borrow_mut().push(stall);
                }
            });
            stalls.into_inner()
        };
        assert!(stalls(begun, Drained::default()).is_empty());
        for (seconds, dropped) in [(60, 1), (120, 0), (180, 5)] {
            let drained = Drained { packets: 9, dropped, is_cut_short: false };
            let told = stalls(begun + Duration::from_secs(seconds), drained);
            assert!(matches!(told[..], [stall] if stall > Duration::from_secs(50)), "{dropped} dropped: {told:?}");
        }
    }

    #[test]
    fn of_many_orders_the_newest_is_followed() {
        let own = OwnIdentity { cluster: 7, id: NodeId(1), incarnation: Incarnation(5), salt: 9, key_epoch: 0 };
        let receiver = UdpSocket::bind("127.0.0.3:0").unwrap();
        let port = receiver.local_addr().unwrap().port();
        receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let job = |own: &str, peer: &str| PulseJob {
            order: PulseOrder {
                members: vec![PeerOrder { id: NodeId(2), links: 1, incarnation: None }],
                voters: vec![NodeId(1), NodeId(2)],
                timing: Timing::of(Profile::Lan),
                facts: Facts::default(),
                is_leaving: false,
                addresses: ConfigVersion(0),
            },
            addresses: Addresses::stored(
                ConfigVersion(0),
                vec![Place::at(ip(own))],
                BTreeMap::from([(NodeId(2), vec![Place::at(ip(peer))])]),
            ),
        };
        let key = ClusterKey::generate();
        let first = job("127.0.0.1", "127.0.0.4");
        let thread = PulseThread::start(own, &key, port, first.clone(), Arc::default(), |_| {}).unwrap();
        for _ in 0..1000 {
            thread.order(first.clone());
        }
        // Another address of this node is taken up as well, while the thread runs.
        thread.order(job("127.0.0.2", "127.0.0.3"));
        let mut packet = [0; 2048];
        let (length, from) = receiver.recv_from(&mut packet).expect("beats go where the last order says");
        assert!(length > 0);
        assert_eq!(from.ip(), ip("127.0.0.2"));
    }
}
