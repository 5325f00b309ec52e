//! The heartbeat thread: sockets on one side, the pulse in the middle, orders and reports on the other.
//!
//! It waits for nothing but its sockets: no disk, no lock that others hold, no name look-up. What arrives is drained
//! first, then orders, then one tick, all with the same `now`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use liveness::{OwnIdentity, Pulse, PulseAction, PulseInput, PulseOrder, PulseReport, Received};
use model::{LinkId, NodeId};
use std::sync::mpsc::{Receiver, SyncSender};
use transport::{BeatSockets, ClusterKey, Label, Opener, Sealer, Waker};

/// A new order, and where the members are.
pub struct PulseJob {
    /// What to do.
    pub order: PulseOrder,
    /// Each member's address on each network.
    pub addresses: BTreeMap<NodeId, Vec<SocketAddr>>,
}

/// The thread, as the rest of the worker sees it.
pub struct PulseThread {
    jobs: SyncSender<PulseJob>,
    waker: Waker,
    _thread: JoinHandle<()>,
}

/// Orders that may wait; the newest replaces all others anyway.
const JOBS_MAX: usize = 256;

impl PulseThread {
    /// Binds the sockets and begins to beat at once.
    ///
    /// `report` runs on the heartbeat thread and must not wait.
    pub fn start(
        own: OwnIdentity,
        key: &ClusterKey,
        links: &[SocketAddr],
        first: PulseJob,
        report: impl Fn(PulseReport) + Send + 'static,
    ) -> anyhow::Result<PulseThread> {
        let links: Vec<(LinkId, SocketAddr)> = links
            .iter()
            .enumerate()
            .map(|(n, address)| (LinkId(u8::try_from(n).unwrap_or(u8::MAX)), *address))
            .collect();
        let sockets = BeatSockets::bind(&links).context("cannot bind the heartbeat sockets")?;
        let waker = sockets.waker();
        let (jobs, inbox) = std::sync::mpsc::sync_channel(JOBS_MAX);
        let mut beating = Beating {
            own: own.id,
            pulse: Pulse::new(host::identity::now(), own, first.order),
            sockets,
            addresses: first.addresses,
            sealer: Sealer::new(key),
            opener: Opener::new(key),
            packet: Vec::with_capacity(1024),
            body: Vec::with_capacity(1024),
            received: Vec::with_capacity(64),
            drops: 0,
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
        if self.jobs.try_send(job).is_err() {
            tracing::error!("the heartbeat thread does not take orders any more");
        }
        self.waker.wake();
    }
}

struct Beating {
    own: NodeId,
    pulse: Pulse,
    sockets: BeatSockets,
    addresses: BTreeMap<NodeId, Vec<SocketAddr>>,
    sealer: Sealer,
    opener: Opener,
    packet: Vec<u8>,
    body: Vec<u8>,
    received: Vec<Received>,
    drops: u64,
}

impl Beating {
    fn run(&mut self, jobs: &Receiver<PulseJob>, report: impl Fn(PulseReport)) {
        loop {
            let is_cut_short = self.drain();
            let now = host::identity::now();
            for received in std::mem::take(&mut self.received) {
                let actions = self.pulse.step(now, PulseInput::Received(received));
                self.perform(actions, &report);
            }
            while let Ok(job) = jobs.try_recv() {
                self.addresses = job.addresses;
                let actions = self.pulse.step(now, PulseInput::Order(job.order));
                self.perform(actions, &report);
            }
            if is_cut_short {
                continue;
            }
            let actions = self.pulse.step(now, PulseInput::Tick);
            self.perform(actions, &report);
            for link in self.sockets.rebind() {
                tracing::info!(%link, "link can be used");
            }
            let sleep = self.pulse.deadline().since(host::identity::now()).min(Duration::from_secs(1));
            // While all is well, one wake-up per slot of the rhythm does: the kernel notes when each beat arrived.
            let waited = if self.pulse.is_calm() { self.sockets.rest(sleep) } else { self.sockets.wait(sleep) };
            if let Err(cause) = waited {
                tracing::error!(%cause, "the heartbeat thread cannot wait for its sockets");
            }
        }
    }

    /// Reads everything that has arrived; true if more is waiting.
    fn drain(&mut self) -> bool {
        let Beating { sockets, opener, received, own, .. } = self;
        let own = *own;
        let drained = sockets.drain(|packet| {
            let arrived = host::identity::now();
            let Ok((header, _)) = wire::decode_header(packet.bytes) else { return };
            if header.receiver != own || header.link != packet.link {
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
                return;
            };
            let Ok(beat) = wire::decode_beat(&body[..length]) else { return };
            let arrival = model::Instant::from_nanos(arrived.as_nanos().saturating_sub(packet.age.as_nanos() as u64));
            received.push(Received { arrival, header, beat });
        });
        if drained.dropped > 0 {
            self.drops += drained.dropped;
            // A drop is an own stall; what it means is the pulse's business.
            let _ = self.pulse.step(host::identity::now(), PulseInput::SocketDrops { count: self.drops });
        }
        drained.is_cut_short
    }

    fn perform(&mut self, actions: Vec<PulseAction>, report: &impl Fn(PulseReport)) {
        for action in actions {
            match action {
                PulseAction::Report(said) => report(said),
                PulseAction::Send { to, link, header, beat } => {
                    let Some(address) = self.addresses.get(&to).and_then(|links| links.get(usize::from(link.0))) else {
                        continue;
                    };
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
                    self.sockets.send(link, *address, &self.packet);
                }
            }
        }
    }
}
