//! How does a small message reach another node without waiting for TCP?
//!
//! It goes sealed over every usable link at once; the receiver takes the first copy and drops the
//! others (SAFETY §4.8). A message may be lost, come late or out of order: who sends it must bear that.
//! One that was recorded under an earlier life of its sender can be played again after the
//! receiver has restarted: for the receiver that is a late message.
//!
//! In: a message, addresses. Out: messages with the node that sealed them.
//! Not here: what a message says (`core/wire`), long messages (`streams.rs`).

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use model::{LinkId, NodeId};

use crate::allow_list::AllowList;
use crate::replay::Window;
use crate::seal::{ClusterKey, Label, Opener, Sealer, TAG_BYTES, random_salt};
use crate::sockets::{self, REBIND_EVERY, SOCKETS_MAX, SocketError, Waker};

/// The longest message, in bytes; longer ones go by stream.
pub const MESSAGE_BYTES_MAX: usize = 1200;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 8 + 8 + 8 + 16 + 1 + 8;
const PACKET_BYTES_MAX: usize = HEADER_BYTES + MESSAGE_BYTES_MAX + TAG_BYTES;
const DRAIN_MAX: usize = 256;
/// Sessions that are remembered per sender, the latest first.
const SESSIONS_KEPT: usize = 4;
/// Senders that are remembered; only genuine packets count.
const SENDERS_KEPT: usize = 256;

/// Who speaks, and where.
#[derive(Debug)]
pub struct DatagramConfig {
    /// The cluster; packets of another one are dropped unopened.
    pub cluster_id: u64,
    /// This node.
    pub me: NodeId,
    /// The secret of the cluster.
    pub key: ClusterKey,
    /// The addresses of each link, with the port for datagrams.
    pub links: Vec<(LinkId, SocketAddr)>,
    /// Whose messages are opened.
    pub allowed: AllowList,
}

/// One way to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Over this link.
    pub link: LinkId,
    /// From this address, which is one of the link here.
    pub from: SocketAddr,
    /// To this address.
    pub to: SocketAddr,
}

/// A message that is longer than [`MESSAGE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {bytes} bytes does not fit a datagram of {MESSAGE_BYTES_MAX}")]
pub struct TooLong {
    /// Its length.
    pub bytes: usize,
}

/// Sends messages; belongs to one thread.
#[derive(Debug)]
pub struct DatagramSender {
    sockets: Arc<Sockets>,
    sealer: Sealer,
    cluster_id: u64,
    me: NodeId,
    salt: u128,
    last_number: u64,
    body: Vec<u8>,
    packet: Vec<u8>,
}

/// Receives messages on a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct DatagramReceiver {
    sockets: Arc<Sockets>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Sockets {
    entries: Mutex<Arc<Vec<Entry>>>,
    waker: Waker,
    is_over: AtomicBool,
    refused: AtomicU64,
}

/// An address of this node, and the links that it is of.
#[derive(Debug)]
struct Entry {
    address: SocketAddr,
    links: Vec<LinkId>,
    /// None while the address does not exist here.
    socket: Arc<OnceLock<UdpSocket>>,
}

/// Binds every address, starts the receiving thread, and returns both ends.
///
/// `on_message` runs on that thread, with the node that sealed the message and the link of its first copy; it must
/// not wait.
///
/// # Errors
/// If an address exists and cannot be used; one that does not exist yet is tried again every second.
pub fn datagrams(
    config: DatagramConfig,
    on_message: impl FnMut(NodeId, LinkId, &[u8]) + Send + 'static,
) -> Result<(DatagramSender, DatagramReceiver), SocketError> {
    let entries = entries(&config.links, &[]);
    if entries.len() > SOCKETS_MAX {
        return Err(SocketError::TooManyAddresses { addresses: entries.len() });
    }
    for entry in &entries {
        if let Some(socket) = sockets::bind(entry.address)? {
            // Nobody else has this entry yet.
            let _ = entry.socket.set(socket);
        }
    }
    let sockets = Arc::new(Sockets {
        entries: Mutex::new(Arc::new(entries)),
        waker: Waker::new()?,
        is_over: AtomicBool::new(false),
        refused: AtomicU64::new(0),
    });
    let mut inbox = Inbox {
        cluster_id: config.cluster_id,
        me: config.me,
        allowed: config.allowed,
        opener: Opener::new(&config.key),
        windows: BTreeMap::new(),
    };
    let shared = Arc::clone(&sockets);
    let thread = std::thread::Builder::new()
        .name("datagrams".to_owned())
        .spawn(move || receive(&shared, &mut inbox, on_message))
        .map_err(SocketError::Prepare)?;
    let sender = DatagramSender {
        sockets: Arc::clone(&sockets),
        sealer: Sealer::new(&config.key),
        cluster_id: config.cluster_id,
        me: config.me,
        salt: random_salt(),
        last_number: 0,
        body: Vec::with_capacity(MESSAGE_BYTES_MAX + TAG_BYTES),
        packet: Vec::with_capacity(PACKET_BYTES_MAX),
    };
    Ok((sender, DatagramReceiver { sockets, thread: Some(thread) }))
}

impl DatagramSender {
    /// Uses these addresses from now on; those that are new are bound soon, by the receiving thread.
    ///
    /// An address that does not exist yet, or cannot be used, is tried again every second.
    pub fn set_links(&self, links: &[(LinkId, SocketAddr)]) {
        let mut current = self.sockets.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = entries(links, &current);
        new.truncate(SOCKETS_MAX);
        *current = Arc::new(new);
        drop(current);
        self.sockets.waker.wake();
    }

    /// Sends one message over every given way at once; never waits. Returns over how many it left.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn send(&mut self, to: NodeId, over: &[Way], message: &[u8]) -> Result<usize, TooLong> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(TooLong { bytes: message.len() });
        }
        self.last_number += 1;
        let (mut left, mut sealed) = (0, None);
        let entries = self.sockets.entries();
        for Way { link, from, to: address } in over {
            let entry = entries.iter().find(|entry| entry.address == *from && entry.links.contains(link));
            let Some(socket) = entry.and_then(|entry| entry.socket.get()) else { continue };
            if sealed == Some(*link) {
                // The same packet over another pair of addresses.
                left += usize::from(socket.send_to(&self.packet, address).is_ok());
                continue;
            }
            sealed = Some(*link);
            let header = Header {
                cluster_id: self.cluster_id,
                sender: self.me,
                receiver: to,
                salt: self.salt,
                link: *link,
                number: self.last_number,
            }
            .encode();
            self.body.clear();
            self.body.extend_from_slice(message);
            self.sealer.seal(Label::Datagram, self.me, to, self.salt, *link, self.last_number, &header, &mut self.body);
            self.packet.clear();
            self.packet.extend_from_slice(&header);
            self.packet.extend_from_slice(&self.body);
            left += usize::from(socket.send_to(&self.packet, address).is_ok());
        }
        Ok(left)
    }
}

impl DatagramReceiver {
    /// Packets that were dropped because they did not open or came a second time, copies over other links excluded.
    pub fn refused(&self) -> u64 {
        self.sockets.refused.load(Ordering::Relaxed)
    }

    /// The address that a link is bound to: with its real port, if the port was given as 0.
    pub fn local_address(&self, link: LinkId) -> Option<SocketAddr> {
        let entries = self.sockets.entries();
        entries.iter().find(|entry| entry.links.contains(&link))?.socket.get()?.local_addr().ok()
    }
}

impl Drop for DatagramReceiver {
    fn drop(&mut self) {
        self.sockets.is_over.store(true, Ordering::SeqCst);
        self.sockets.waker.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Sockets {
    fn entries(&self) -> Arc<Vec<Entry>> {
        Arc::clone(&self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One entry for each address. What is known already keeps its socket.
fn entries(links: &[(LinkId, SocketAddr)], known: &[Entry]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (link, address) in links {
        if let Some(entry) = entries.iter_mut().find(|entry| entry.address == *address) {
            entry.links.push(*link);
            continue;
        }
        let same = known.iter().find(|entry| entry.address == *address);
        let socket = same.map_or_else(Arc::default, |entry| Arc::clone(&entry.socket));
        entries.push(Entry { address: *address, links: vec![*link], socket });
    }
    entries
}

fn bind_missing(entries: &[Entry]) {
    for entry in entries.iter().filter(|entry| entry.socket.get().is_none()) {
        if let Ok(Some(bound)) = sockets::bind(entry.address) {
            // Only the receiving thread binds, so nothing was set in between.
            let _ = entry.socket.set(bound);
        }
    }
}

fn receive(sockets: &Sockets, inbox: &mut Inbox, mut on_message: impl FnMut(NodeId, LinkId, &[u8])) {
    // One byte more than the longest, so that a longer one shows.
    let mut packet = vec![0; PACKET_BYTES_MAX + 1];
    let mut rebind_at = std::time::Instant::now() + REBIND_EVERY;
    let mut entries = sockets.entries();
    while !sockets.is_over.load(Ordering::SeqCst) {
        let is_complete = entries.iter().all(|entry| entry.socket.get().is_some());
        let timeout = (!is_complete).then_some(REBIND_EVERY);
        if let Err(cause) = sockets::wait(entries.iter().map(|entry| entry.socket.get()), &sockets.waker, timeout) {
            // Without descriptors to wait on there is nothing to receive; the links show it as lost.
            tracing::error!(%cause, "cannot wait for datagrams");
            return;
        }
        let newest = sockets.entries();
        let are_others = !Arc::ptr_eq(&newest, &entries);
        entries = newest;
        if are_others || timeout.is_some() && std::time::Instant::now() >= rebind_at {
            rebind_at = std::time::Instant::now() + REBIND_EVERY;
            bind_missing(&entries);
        }
        for entry in entries.iter() {
            let Some(socket) = entry.socket.get() else { continue };
            for _ in 0..DRAIN_MAX {
                let length = match socket.recv_from(&mut packet) {
                    Ok((length, _)) => length,
                    Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                match inbox.open(&entry.links, &mut packet[..length]) {
                    Ok(Some((from, link, message))) => on_message(from, link, message),
                    Ok(None) => {}
                    Err(Refused) => {
                        sockets.refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

struct Refused;

/// Who sent a message, over which link, and what it says.
type Opened<'a> = (NodeId, LinkId, &'a [u8]);

/// What has been received so far.
struct Inbox {
    cluster_id: u64,
    me: NodeId,
    allowed: AllowList,
    opener: Opener,
    windows: BTreeMap<NodeId, Vec<(u128, Window)>>,
}

impl Inbox {
    /// Sender, link and message of a genuine packet that came to an address of these links; none if the message came
    /// before.
    fn open<'a>(&mut self, links: &[LinkId], packet: &'a mut [u8]) -> Result<Option<Opened<'a>>, Refused> {
        if packet.len() > PACKET_BYTES_MAX {
            return Err(Refused);
        }
        let (bytes, body) = packet.split_first_chunk_mut::<HEADER_BYTES>().ok_or(Refused)?;
        let header = Header::decode(bytes).ok_or(Refused)?;
        if header.cluster_id != self.cluster_id || header.receiver != self.me || !links.contains(&header.link) {
            return Err(Refused);
        }
        if !self.allowed.is_member(header.sender) {
            return Err(Refused);
        }
        if self.window(&header).is_some_and(|window| !window.is_new(header.number)) {
            return Ok(None);
        }
        let length = self
            .opener
            .open(Label::Datagram, header.sender, self.me, header.salt, header.link, header.number, bytes, body)
            .ok_or(Refused)?;
        self.mark(&header);
        Ok(Some((header.sender, header.link, &body[..length])))
    }

    fn window(&self, header: &Header) -> Option<&Window> {
        let sessions = self.windows.get(&header.sender)?;
        sessions.iter().find(|(salt, _)| *salt == header.salt).map(|(_, window)| window)
    }

    fn mark(&mut self, header: &Header) {
        if self.windows.len() >= SENDERS_KEPT && !self.windows.contains_key(&header.sender) {
            self.windows.pop_first();
        }
        let sessions = self.windows.entry(header.sender).or_default();
        let place = sessions.iter().position(|(salt, _)| *salt == header.salt).unwrap_or_else(|| {
            sessions.truncate(SESSIONS_KEPT - 1);
            sessions.push((header.salt, Window::default()));
            sessions.len() - 1
        });
        sessions[..=place].rotate_right(1);
        sessions[0].1.mark(header.number);
    }
}

/// The clear part of a packet. The same number on every link is the same message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    cluster_id: u64,
    sender: NodeId,
    receiver: NodeId,
    salt: u128,
    link: LinkId,
    number: u64,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.cluster_id.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.sender.0.to_be_bytes());
        bytes[17..25].copy_from_slice(&self.receiver.0.to_be_bytes());
        bytes[25..41].copy_from_slice(&self.salt.to_be_bytes());
        bytes[41] = self.link.0;
        bytes[42..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let number = |from: usize| u64::from_be_bytes(std::array::from_fn(|place| bytes[from + place]));
        (bytes[0] == VERSION).then(|| Header {
            cluster_id: number(1),
            sender: NodeId(number(9)),
            receiver: NodeId(number(17)),
            salt: u128::from(number(25)) << 64 | u128::from(number(33)),
            link: LinkId(bytes[41]),
            number: number(42),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(5);
    const CLUSTER: u64 = 0xc0ffee;

    type Heard = mpsc::Receiver<(NodeId, Vec<u8>)>;

    fn node(me: NodeId, key: &ClusterKey) -> (DatagramSender, DatagramReceiver, Heard) {
        node_that_hears(me, key, &AllowList::default())
    }

    fn node_that_hears(me: NodeId, key: &ClusterKey, allowed: &AllowList) -> (DatagramSender, DatagramReceiver, Heard) {
        let (tell, heard) = mpsc::channel();
        let links = vec![(LinkId(0), OWN[0].parse().unwrap()), (LinkId(1), OWN[1].parse().unwrap())];
        let config = DatagramConfig { cluster_id: CLUSTER, me, key: key.clone(), links, allowed: allowed.clone() };
        let on_message = move |from, _, message: &[u8]| {
            let _ = tell.send((from, message.to_vec()));
        };
        let (sender, receiver) = datagrams(config, on_message).unwrap();
        (sender, receiver, heard)
    }

    const OWN: [&str; 2] = ["127.0.0.1:0", "127.0.0.2:0"];

    fn way(link: LinkId, to: SocketAddr) -> Way {
        Way { link, from: OWN[usize::from(link.0)].parse().unwrap(), to }
    }

    fn addresses(of: &DatagramReceiver) -> Vec<Way> {
        [LinkId(0), LinkId(1)].into_iter().map(|link| way(link, of.local_address(link).unwrap())).collect()
    }

    fn next(heard: &Heard) -> (NodeId, Vec<u8>) {
        heard.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    #[test]
    fn a_message_over_two_links_is_heard_once() {
        let key = ClusterKey::generate();
        let (mut a, _a, _) = node(A, &key);
        let (_, b, heard) = node(B, &key);
        for round in 0..200_u8 {
            assert_eq!(a.send(B, &addresses(&b), &[round; 1200]), Ok(2));
            assert_eq!(next(&heard), (A, vec![round; 1200]));
        }
        assert_eq!(a.send(B, &addresses(&b)[1..], b"last"), Ok(1));
        assert_eq!(next(&heard), (A, b"last".to_vec()));
        assert!(heard.try_recv().is_err());
        assert_eq!(a.send(B, &addresses(&b), &[0; 1201]), Err(TooLong { bytes: 1201 }));
    }

    #[test]
    fn garbage_replays_and_strangers_are_dropped() {
        let key = ClusterKey::generate();
        let (mut a, _a, _) = node(A, &key);
        let (_, b, heard) = node(B, &key);
        let (mut stranger, _s, _) = node(A, &ClusterKey::generate());
        let spy = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(a.send(B, &[way(LinkId(0), spy.local_addr().unwrap())], b"recorded"), Ok(1));
        let mut recorded = [0; 2000];
        let length = spy.recv(&mut recorded).unwrap();
        let recorded = &recorded[..length];
        assert!(!recorded.windows(6).any(|part| part == b"record"));

        let to = b.local_address(LinkId(0)).unwrap();
        for turn in 0..2000_usize {
            let mut garbage: Vec<u8> = (0..turn).map(|place| (place * 31 + turn) as u8).collect();
            spy.send_to(&garbage, to).unwrap();
            // A true header before garbage, with ever new salts.
            garbage.splice(0..garbage.len().min(HEADER_BYTES), recorded[..HEADER_BYTES].iter().copied());
            garbage[25..33].copy_from_slice(&(turn as u64).to_be_bytes());
            spy.send_to(&garbage, to).unwrap();
            assert_eq!(stranger.send(B, &addresses(&b), b"let me in"), Ok(2));
        }
        for place in 0..length {
            let mut changed = recorded.to_vec();
            changed[place] ^= 0x10;
            spy.send_to(&changed, to).unwrap();
        }
        spy.send_to(recorded, b.local_address(LinkId(1)).unwrap()).unwrap();
        // The kernel may drop what floods a socket, so the true one is sent until it is heard.
        let first = loop {
            spy.send_to(recorded, to).unwrap();
            if let Ok(first) = heard.recv_timeout(Duration::from_millis(50)) {
                break first;
            }
        };
        assert_eq!(first, (A, b"recorded".to_vec()));
        spy.send_to(recorded, to).unwrap();
        assert_eq!(a.send(B, &addresses(&b), b"still here"), Ok(2));
        assert_eq!(next(&heard), (A, b"still here".to_vec()));
        assert!(heard.try_recv().is_err());
        assert!(b.refused() > 0);
    }

    #[test]
    fn only_members_are_heard_whoever_has_the_key() {
        let key = ClusterKey::generate();
        let allowed = AllowList::default();
        let (_, b, heard) = node_that_hears(B, &key, &allowed);
        let (mut a, _a, _) = node(A, &key);
        let (mut removed, _r, _) = node(NodeId(4), &key);
        let (mut invented, _i, _) = node(NodeId(1 << 40), &key);
        allowed.set_members([A, B].into(), NodeId(9));
        for sender in [&mut removed, &mut invented] {
            assert_eq!(sender.send(B, &addresses(&b), b"obey me"), Ok(2));
        }
        assert_eq!(a.send(B, &addresses(&b), b"a member"), Ok(2));
        assert_eq!(next(&heard), (A, b"a member".to_vec()));
        assert!(b.refused() >= 2);
    }

    #[test]
    fn a_restarted_sender_is_heard_at_once() {
        let key = ClusterKey::generate();
        let (_, b, heard) = node(B, &key);
        for round in 0..10_u8 {
            let (mut a, _a, _) = node(A, &key);
            assert_eq!(a.send(B, &addresses(&b), &[round]), Ok(2));
            assert_eq!(next(&heard), (A, vec![round]));
        }
    }

    /// An address that is replaced stays in use for as long as it is listed next to the new one.
    #[test]
    fn other_addresses_are_taken_up_while_messages_flow() {
        let key = ClusterKey::generate();
        let (mut a, _a, _) = node(A, &key);
        let (b_sender, b, heard) = node(B, &key);
        let former = b.local_address(LinkId(0)).unwrap();
        let spare = UdpSocket::bind("127.0.0.3:0").unwrap().local_addr().unwrap();
        b_sender.set_links(&[(LinkId(0), spare), (LinkId(0), OWN[0].parse().unwrap())]);
        let both = [way(LinkId(0), spare), way(LinkId(0), former)];
        assert_eq!(a.send(B, &both, b"to both"), Ok(2));
        assert_eq!(next(&heard), (A, b"to both".to_vec()));
        b_sender.set_links(&[(LinkId(0), spare)]);
        // Bound by another thread: what comes before that is lost.
        let first = (0..400).find_map(|_| {
            a.send(B, &both[..1], b"to the new one").unwrap();
            heard.recv_timeout(Duration::from_millis(50)).ok()
        });
        assert_eq!(first, Some((A, b"to the new one".to_vec())));
        assert_eq!(b.local_address(LinkId(0)), Some(spare));
        assert_eq!(b.local_address(LinkId(1)), None);
    }

    #[test]
    fn a_header_survives_its_encoding() {
        let header =
            Header { cluster_id: 1 << 63, sender: A, receiver: B, salt: 3 << 100 | 9, link: LinkId(7), number: !0 };
        assert_eq!(Header::decode(&header.encode()), Some(header));
    }
}
