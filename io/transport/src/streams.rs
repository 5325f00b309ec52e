//! How do long messages, questions and joining nodes reach a member? Over mutual TLS on TCP.
//!
//! ```text
//!   messages   one lasting connection per direction; a bounded queue, the oldest goes first when it is full
//!   request    one connection for one question and one answer
//!   join       the same, for a node that has no certificate yet; limited, and cut short
//! ```
//!
//! A connection is dialled when there is something to send, over the first address that answers: the
//! caller gives the best link first. When a connection breaks, what was queued is dropped: whoever
//! sends repeats what still matters. Everything runs on one thread of its own.
//!
//! In: messages and questions by node. Out: calls of the [`Handler`].
//! Not here: what bytes mean (`core/wire`), who is a member (the caller says it), small messages (`datagrams.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::NodeId;
use rustix::net::sockopt::set_tcp_user_timeout;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ServerConfig};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

use crate::allow_list::AllowList;
use crate::identity::{Identity, NodeIdentity};
use crate::seal::ClusterKey;
use crate::slots::Slots;
use crate::sockets::{REBIND_EVERY, SocketError, missing_or};
use crate::tls;

/// The longest message, in bytes: a snapshot with all versions of the cluster file that are kept, with room to spare.
pub const STREAM_MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The longest frame, in bytes; a longer message takes several.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Set in the length of a frame whose message goes on in the next one.
const IS_CONTINUED: u32 = 1 << 31;
/// The longest request, answer or answer to a join, in bytes.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// The longest request of a joining node, in bytes.
pub const JOIN_BYTES_MAX: usize = 64 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// For a connection to say anything, and for a stranger to be done with the handshake.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(1);
/// From a handshake until the first frame of a request or join has arrived.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(10);
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a question tries to leave.
const DIALS_MAX: u32 = 3;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A connection that held this long has proven that the next dial is worth no pause.
const HELD: Duration = Duration::from_secs(1);
/// What was sent and not acknowledged for so long ends the connection.
const UNACKNOWLEDGED_MS: u32 = 1000;
const QUEUE_MESSAGES_MAX: usize = 256;
const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A longer message is a snapshot: it does not give way to shorter ones, only to the next snapshot.
const SHORT_BYTES_MAX: usize = 1024 * 1024;
/// Connections that have said nothing yet: in all, and from one address.
const SILENT_MAX: usize = 256;
const SILENT_PER_ADDRESS: usize = 32;
/// Handshakes of strangers, in all and from one address. Peers have a turn of their own: they show at the first word
/// that they know the cluster's key, since their address is also that of every local user on their machines.
const STRANGERS_AT_ONCE: usize = 32;
const STRANGERS_PER_ADDRESS: usize = 4;
const PEERS_AT_ONCE: usize = 64;
const JOINS_AT_ONCE: usize = 8;
const STRANGER_HANDSHAKES_PER_SECOND: u32 = 10;
const VISITORS_KEPT: usize = 256;
/// A buffer grows with what arrives, never with what a frame announces.
const FRAME_BUFFER_BYTES: usize = 16 * 1024;

/// What a connection is for: the first byte after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Messages,
    Request,
    Join,
}

impl Kind {
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Kind::Messages => 1,
            Kind::Request => 2,
            Kind::Join => 3,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Kind::Messages, Kind::Request, Kind::Join].into_iter().find(|kind| kind.byte() == byte)
    }
}

/// What a node listens on, and as whom.
#[derive(Debug)]
pub struct StreamsConfig {
    /// One address per link.
    pub listen: Vec<SocketAddr>,
    /// The node, its certificate, its authority.
    pub identity: Identity,
    /// Whose certificates count.
    pub allowed: AllowList,
}

/// Who takes what arrives. Every call runs on the thread of the streams and must not wait.
pub trait Handler: Send + Sync + 'static {
    /// A message from a member.
    fn on_message(&self, from: NodeId, message: Vec<u8>);
    /// A node has connected from this address that is no member yet as far as this node knows, and has a certificate.
    fn on_newcomer(&self, from: NodeId, address: IpAddr);
    /// A question from a member; the answer may come later, from any thread.
    fn on_request(&self, from: NodeId, request: Vec<u8>, answer: Answer);
    /// A request of a node that is no member yet ([`crate::JoinRequest::parse`]); `exporter` belongs to this connection.
    fn on_join(&self, request: Vec<u8>, exporter: [u8; 32], answer: Answer);
}

/// Takes one answer. Dropped without one, it closes the connection.
#[derive(Debug)]
pub struct Answer(oneshot::Sender<Vec<u8>>);

impl Answer {
    /// Sends the answer, at most [`REQUEST_BYTES_MAX`] bytes; a longer one closes the connection.
    pub fn send(self, answer: Vec<u8>) {
        // Whoever asked may have gone.
        let _ = self.0.send(answer);
    }
}

/// Why a question got no answer. Whether it was acted upon is unknown, unless it never left.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The node is not among the peers.
    #[error("node {node} is not known")]
    Unknown {
        /// The node.
        node: NodeId,
    },
    /// No address of the node answered; the question never left.
    #[error("node {node} is not reachable")]
    Unreachable {
        /// The node.
        node: NodeId,
        /// What the last address said.
        #[source]
        cause: io::Error,
    },
    /// The connection broke, or the node gave no answer.
    #[error("node {node} gave no answer")]
    NoAnswer {
        /// The node.
        node: NodeId,
        /// What happened to the connection.
        #[source]
        cause: io::Error,
    },
    /// No answer in time.
    #[error("node {node} gave no answer within {timeout:?}")]
    TimedOut {
        /// The node.
        node: NodeId,
        /// The time that was given.
        timeout: Duration,
    },
    /// The question never left.
    #[error("a question of {bytes} bytes is longer than {REQUEST_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// These streams have ended.
    #[error("the streams of this node have ended")]
    Ended,
}

/// The answer to a question, once it is there.
#[derive(Debug)]
pub struct Reply(oneshot::Receiver<Result<Vec<u8>, RequestError>>);

impl Reply {
    /// Waits for it. Not for use inside an async runtime: there, await it.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn wait(self) -> Result<Vec<u8>, RequestError> {
        self.0.blocking_recv().unwrap_or(Err(RequestError::Ended))
    }
}

impl Future for Reply {
    type Output = Result<Vec<u8>, RequestError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|reply| reply.unwrap_or(Err(RequestError::Ended)))
    }
}

/// Why the streams cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StreamsError {
    /// An address cannot be used.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// TLS does not take the identity.
    #[error("the identity of this node does not work: {0}")]
    Tls(#[from] rustls::Error),
    /// The system gives no thread or event queue.
    #[error("could not start the thread of the streams")]
    Thread(#[source] io::Error),
}

/// Starts and ends the streams of a node.
#[derive(Debug)]
pub struct Streams;

/// Sends and asks. Clones share the streams; they end when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct StreamsHandle(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    me: NodeIdentity,
    key: ClusterKey,
    handler: Arc<dyn Handler>,
    tls: Mutex<Tls>,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    allowed: AllowList,
    visitors: Mutex<Visitors>,
    listening: Mutex<BTreeMap<SocketAddr, Listening>>,
    silent: Slots,
    strangers: Slots,
    peer_handshakes: Semaphore,
    joins: Semaphore,
}

/// An address that is listened on, or will be once it exists.
#[derive(Debug)]
struct Listening {
    /// With its real port; none while the address does not exist.
    bound: Option<SocketAddr>,
    task: AbortHandle,
}

#[derive(Clone)]
struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

#[derive(Debug)]
struct Peer {
    outbox: Arc<Outbox>,
    task: AbortHandle,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Streams {
    /// Listens on every address and starts the thread of the streams.
    ///
    /// # Errors
    /// If an address exists and cannot be used; one that does not exist yet is tried again every second.
    pub fn start(config: StreamsConfig, handler: Arc<dyn Handler>) -> Result<StreamsHandle, StreamsError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(StreamsError::Thread)?;
        let shared = Arc::new(Shared {
            me: config.identity.identity(),
            key: config.identity.cluster_key().clone(),
            handler,
            tls: Mutex::new(Tls::of(&config.identity)?),
            peers: Mutex::default(),
            allowed: config.allowed,
            visitors: Mutex::default(),
            listening: Mutex::default(),
            silent: Slots::new(SILENT_MAX, SILENT_PER_ADDRESS),
            strangers: Slots::new(STRANGERS_AT_ONCE, STRANGERS_PER_ADDRESS),
            peer_handshakes: Semaphore::new(PEERS_AT_ONCE),
            joins: Semaphore::new(JOINS_AT_ONCE),
        });
        for address in config.listen {
            let listener = {
                let _inside = runtime.enter();
                match listen(address) {
                    Ok(listener) => Some(listener),
                    Err(cause) => {
                        missing_or(address, cause)?;
                        None
                    }
                }
            };
            shared.listen(runtime.handle(), address, listener);
        }
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("streams".to_owned())
            .spawn(move || {
                // Either way the streams are over; dropping the runtime ends every task.
                let _ = runtime.block_on(ended);
            })
            .map_err(StreamsError::Thread)?;
        Ok(StreamsHandle(Arc::new(Owner { shared, runtime: handle, end: Some(end), thread: Some(thread) })))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
        // Dropped by a handler, this runs on the very thread that would be waited for.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl StreamsHandle {
    /// Says who the other members are and where they listen, best link first; replaces what was said before.
    ///
    /// A connection whose address is no longer its peer's first is replaced; what is queued stays queued.
    pub fn set_peers(&self, peers: BTreeMap<NodeId, Vec<SocketAddr>>) {
        let shared = &self.0.shared;
        let mut known = lock(&shared.peers);
        known.retain(|node, peer| {
            let stays = peers.contains_key(node);
            if !stays {
                peer.task.abort();
            }
            stays
        });
        for (node, addresses) in peers.into_iter().filter(|(node, _)| *node != shared.me.node) {
            match known.get(&node) {
                Some(peer) => peer.outbox.move_to(addresses),
                None => {
                    let outbox = Arc::new(Outbox::new(addresses));
                    let task = self.0.runtime.spawn(deliver(Arc::clone(shared), node, Arc::clone(&outbox)));
                    known.insert(node, Peer { outbox, task: task.abort_handle() });
                }
            }
        }
    }

    /// Listens on these addresses from now on. One that does not exist yet, or cannot be used, is tried again every
    /// second. Connections that are there already go on.
    pub fn set_listen(&self, addresses: &[SocketAddr]) {
        let shared = &self.0.shared;
        let mut known = lock(&shared.listening);
        known.retain(|address, listening| {
            let stays = addresses.contains(address);
            if !stays {
                listening.task.abort();
            }
            stays
        });
        let new: Vec<SocketAddr> = addresses.iter().copied().filter(|address| !known.contains_key(address)).collect();
        drop(known);
        for address in new {
            let listener = {
                let _inside = self.0.runtime.enter();
                listen(address).ok()
            };
            shared.listen(&self.0.runtime, address, listener);
        }
    }

    /// Uses a renewed certificate for new connections.
    ///
    /// # Errors
    /// If TLS does not take it; the old one stays.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), StreamsError> {
        *lock(&self.0.shared.tls) = Tls::of(identity)?;
        Ok(())
    }

    /// Queues a message of at most [`STREAM_MESSAGE_BYTES_MAX`] bytes; never waits. It may get lost.
    ///
    /// `false` if it is too long or `to` is not a peer.
    pub fn send(&self, to: NodeId, message: Vec<u8>) -> bool {
        if message.len() > STREAM_MESSAGE_BYTES_MAX {
            return false;
        }
        lock(&self.0.shared.peers).get(&to).is_some_and(|peer| {
            peer.outbox.push(message);
            true
        })
    }

    /// Asks a peer one question of at most [`REQUEST_BYTES_MAX`] bytes; returns at once.
    pub fn request(&self, to: NodeId, request: Vec<u8>, limit: Duration) -> Reply {
        let (tell, reply) = oneshot::channel();
        let shared = Arc::clone(&self.0.shared);
        self.0.runtime.spawn(async move {
            let outcome = timeout(limit, ask(&shared, to, &request)).await;
            let _ = tell.send(outcome.unwrap_or(Err(RequestError::TimedOut { node: to, timeout: limit })));
        });
        Reply(reply)
    }

    /// The addresses that are listened on: with their real ports, if a port was given as 0.
    pub fn listening(&self) -> Vec<SocketAddr> {
        lock(&self.0.shared.listening).values().filter_map(|listening| listening.bound).collect()
    }
}

impl Shared {
    /// Serves an address on a task of its own.
    fn listen(self: &Arc<Self>, runtime: &tokio::runtime::Handle, address: SocketAddr, listener: Option<TcpListener>) {
        let bound = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        // The task finds its entry only after the lock is free.
        let mut listening = lock(&self.listening);
        let task = runtime.spawn(serve(Arc::clone(self), address, listener)).abort_handle();
        listening.insert(address, Listening { bound, task });
    }
}

impl Tls {
    fn of(identity: &Identity) -> Result<Self, rustls::Error> {
        Ok(Tls { server: tls::server_config(identity)?, client: tls::client_config(identity)? })
    }
}

/// What waits to be sent to one peer.
#[derive(Debug)]
struct Outbox {
    queue: Mutex<Queue>,
    addresses: Mutex<Vec<SocketAddr>>,
    has_work: Notify,
    has_moved: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Vec<u8>>,
    /// Bytes of the short messages.
    bytes: usize,
}

impl Queue {
    /// The newest message always fits; the oldest of its kind make room for it.
    fn push(&mut self, message: Vec<u8>) {
        let is_short = message.len() <= SHORT_BYTES_MAX;
        while let Some(oldest) = self.messages.iter().position(|waiting| (waiting.len() <= SHORT_BYTES_MAX) == is_short)
            && (!is_short || self.messages.len() >= QUEUE_MESSAGES_MAX || self.bytes + message.len() > QUEUE_BYTES_MAX)
        {
            self.remove(oldest);
        }
        self.bytes += if is_short { message.len() } else { 0 };
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        self.remove(0)
    }

    fn remove(&mut self, place: usize) -> Option<Vec<u8>> {
        let message = self.messages.remove(place)?;
        self.bytes -= if message.len() <= SHORT_BYTES_MAX { message.len() } else { 0 };
        Some(message)
    }
}

impl Outbox {
    fn new(addresses: Vec<SocketAddr>) -> Self {
        Outbox {
            queue: Mutex::default(),
            addresses: Mutex::new(addresses),
            has_work: Notify::new(),
            has_moved: Notify::new(),
        }
    }

    fn push(&self, message: Vec<u8>) {
        lock(&self.queue).push(message);
        self.has_work.notify_one();
    }

    fn pop(&self) -> Option<Vec<u8>> {
        lock(&self.queue).pop()
    }

    fn is_empty(&self) -> bool {
        lock(&self.queue).messages.is_empty()
    }

    fn clear(&self) {
        *lock(&self.queue) = Queue::default();
    }

    fn move_to(&self, addresses: Vec<SocketAddr>) {
        let mut current = lock(&self.addresses);
        if *current != addresses {
            *current = addresses;
            self.has_moved.notify_one();
        }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        lock(&self.addresses).clone()
    }

    /// Waits until there is something to send.
    async fn work(&self) {
        while self.is_empty() {
            self.has_work.notified().await;
        }
    }

    /// Waits until `address` is not the best one any more.
    async fn moved_from(&self, address: SocketAddr) {
        while lock(&self.addresses).first() == Some(&address) {
            self.has_moved.notified().await;
        }
    }
}

/// Keeps the messages to one peer flowing, for ever.
async fn deliver(shared: Arc<Shared>, node: NodeId, outbox: Arc<Outbox>) {
    let mut pause = PAUSE_MIN;
    loop {
        outbox.work().await;
        let since = Instant::now();
        let end = match dial(&shared, node, &outbox.addresses(), Kind::Messages).await {
            Ok((stream, address)) => pump(stream, address, &outbox).await,
            Err(cause) => End::Lost(cause),
        };
        match end {
            End::Moved => continue,
            End::Lost(cause) => {
                tracing::debug!(%node, %cause, "no stream to the peer");
                outbox.clear();
            }
        }
        if since.elapsed() >= HELD {
            pause = PAUSE_MIN;
        } else {
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

enum End {
    /// A better link is there; nothing is wrong with this one.
    Moved,
    Lost(io::Error),
}

async fn pump(mut stream: client::TlsStream<TcpStream>, address: SocketAddr, outbox: &Outbox) -> End {
    // The first address may not have answered: then this is the best there is.
    let is_best = outbox.addresses().first() == Some(&address);
    let mut nothing = [0];
    loop {
        tokio::select! {
            () = outbox.work() => {}
            () = outbox.moved_from(address), if is_best => return End::Moved,
            () = outbox.has_moved.notified(), if !is_best => return End::Moved,
            read = stream.read(&mut nothing) => {
                return End::Lost(read.err().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()));
            }
        }
        while let Some(message) = outbox.pop() {
            if let Err(cause) = write_message(&mut stream, &message).await {
                return End::Lost(cause);
            }
        }
        if let Err(cause) = stream.flush().await {
            return End::Lost(cause);
        }
    }
}

async fn ask(shared: &Shared, node: NodeId, request: &[u8]) -> Result<Vec<u8>, RequestError> {
    if request.len() > REQUEST_BYTES_MAX {
        return Err(RequestError::TooLong { bytes: request.len() });
    }
    let addresses = lock(&shared.peers).get(&node).map(|peer| peer.outbox.addresses());
    let addresses = addresses.ok_or(RequestError::Unknown { node })?;
    let mut attempt = 1;
    let (mut stream, _) = loop {
        match dial(shared, node, &addresses, Kind::Request).await {
            Ok(dialled) => break dialled,
            // The question has not left, so asking again is safe: a lost packet must not fail it.
            Err(_) if attempt < DIALS_MAX => attempt += 1,
            Err(cause) => return Err(RequestError::Unreachable { node, cause }),
        }
        sleep(PAUSE_MIN).await;
    };
    let exchange = async {
        write_frame(&mut stream, request).await?;
        stream.flush().await?;
        read_frame(&mut stream, REQUEST_BYTES_MAX).await
    };
    exchange.await.map_err(|cause| RequestError::NoAnswer { node, cause })
}

/// Connects to the first address that answers as `node`.
async fn dial(
    shared: &Shared,
    node: NodeId,
    addresses: &[SocketAddr],
    kind: Kind,
) -> io::Result<(client::TlsStream<TcpStream>, SocketAddr)> {
    let proof = shared.key.dial_proof(shared.me.node, node);
    let connector = TlsConnector::from(tls::dial_config(&lock(&shared.tls).client, proof));
    let name = NodeIdentity { node, cluster_id: shared.me.cluster_id }.dns_name();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address is known");
    for address in addresses {
        let attempt = async {
            let socket = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
            prepare(&socket)?;
            let mut stream = timeout(HANDSHAKE_TIMEOUT, connector.connect(name.clone(), socket)).await??;
            stream.write_all(&[kind.byte()]).await?;
            Ok(stream)
        };
        match attempt.await {
            Ok(stream) => return Ok((stream, *address)),
            Err(cause) => last = cause,
        }
    }
    Err(last)
}

/// A dead peer shows within about a second, whether something is being sent or not.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    set_tcp_user_timeout(socket, UNACKNOWLEDGED_MS)?;
    let every = Duration::from_secs(1);
    SockRef::from(socket)
        .set_tcp_keepalive(&TcpKeepalive::new().with_time(every * 3).with_interval(every).with_retries(2))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(64)?;
    TcpListener::from_std(socket.into())
}

/// Takes connections on one address, for ever.
async fn serve(shared: Arc<Shared>, address: SocketAddr, listener: Option<TcpListener>) {
    let listener = match listener {
        Some(listener) => listener,
        None => loop {
            sleep(REBIND_EVERY).await;
            if let Ok(listener) = listen(address) {
                if let Some(listening) = lock(&shared.listening).get_mut(&address) {
                    listening.bound = listener.local_addr().ok();
                }
                break listener;
            }
        },
    };
    loop {
        match listener.accept().await {
            Ok((socket, from)) => {
                tokio::spawn(welcome(Arc::clone(&shared), socket, from.ip()));
                // A flood of connections must not keep those that are there from their turn.
                tokio::task::yield_now().await;
            }
            // No descriptors, or a connection that is gone already: neither ends the listening.
            Err(cause) => {
                tracing::debug!(%address, %cause, "could not accept a connection");
                sleep(PAUSE_MIN).await;
            }
        }
    }
}

/// One incoming connection, from handshake to end.
async fn welcome(shared: Arc<Shared>, socket: TcpStream, address: IpAddr) {
    let Some((mut stream, kind)) = shake(&shared, socket, address).await else { return };
    let member = member(&shared, &stream);
    // A connection that ends in an error is a connection that has ended.
    let _ = match (Kind::of(kind), member) {
        (Some(Kind::Messages), Some(from)) => {
            if !shared.allowed.is_member(from) {
                shared.handler.on_newcomer(from, address);
            }
            while_allowed(&shared, from, receive(&shared, &mut stream, from)).await
        }
        (Some(Kind::Request), Some(from)) => {
            let hand_on = |request, answer| shared.handler.on_request(from, request, answer);
            while_allowed(&shared, from, answer(&mut stream, REQUEST_BYTES_MAX, hand_on)).await
        }
        (Some(Kind::Join), _) => join(&shared, &mut stream).await,
        (Some(Kind::Messages | Kind::Request), None) | (None, _) => Ok(()),
    };
}

/// A handshake, if it is this connection's turn; whoever means it and has none dials again.
async fn shake(shared: &Shared, socket: TcpStream, address: IpAddr) -> Option<(server::TlsStream<TcpStream>, u8)> {
    let hello = {
        let slot = shared.silent.take(address);
        prepare(&socket).ok()?;
        tokio::select! {
            hello = LazyConfigAcceptor::new(Acceptor::default(), socket) => hello.ok()?,
            () = slot.lost() => return None,
            () = sleep(STRANGER_TIMEOUT) => return None,
        }
    };
    let is_peer = hello
        .client_hello()
        .alpn()
        .is_some_and(|mut protocols| protocols.any(|word| shared.key.is_dial_proof(word, shared.me.node)));
    let config = Arc::clone(&lock(&shared.tls).server);
    let rest = async {
        let mut stream = hello.into_stream(config).await?;
        let kind = stream.read_u8().await?;
        Ok::<_, io::Error>((stream, kind))
    };
    if is_peer {
        let _turn = shared.peer_handshakes.try_acquire().ok()?;
        return timeout(HANDSHAKE_TIMEOUT, rest).await.ok()?.ok();
    }
    if !lock(&shared.visitors).admit(Instant::now(), address) {
        return None;
    }
    let slot = shared.strangers.take(address);
    tokio::select! {
        shaken = rest => shaken.ok(),
        () = slot.lost() => None,
        () = sleep(STRANGER_TIMEOUT) => None,
    }
}

/// Serves a connection until it ends, or its node is removed.
async fn while_allowed(shared: &Shared, from: NodeId, served: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::select! {
        ended = served => ended,
        () = shared.allowed.refusal(from) => Ok(()),
    }
}

/// The node that the certificate of the other end names, if it is one that counts.
fn member(shared: &Shared, stream: &server::TlsStream<TcpStream>) -> Option<NodeId> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let peer = NodeIdentity::of(certificate)?;
    let counts =
        peer.cluster_id == shared.me.cluster_id && peer.node != shared.me.node && shared.allowed.may_connect(peer.node);
    counts.then_some(peer.node)
}

async fn receive(shared: &Shared, stream: &mut server::TlsStream<TcpStream>, from: NodeId) -> io::Result<()> {
    loop {
        let message = read_message(stream, STREAM_MESSAGE_BYTES_MAX).await?;
        shared.handler.on_message(from, message);
    }
}

async fn join(shared: &Shared, stream: &mut server::TlsStream<TcpStream>) -> io::Result<()> {
    let Ok(_turn) = shared.joins.try_acquire() else { return Ok(()) };
    let exporter =
        stream.get_ref().1.export_keying_material([0; 32], tls::EXPORTER_LABEL, None).map_err(io::Error::other)?;
    timeout(
        JOIN_TIMEOUT,
        answer(stream, JOIN_BYTES_MAX, |request, answer| shared.handler.on_join(request, exporter, answer)),
    )
    .await?
}

/// Reads one question, hands it on, and sends its answer.
async fn answer(
    stream: &mut server::TlsStream<TcpStream>,
    bytes_max: usize,
    hand_on: impl FnOnce(Vec<u8>, Answer),
) -> io::Result<()> {
    let question = timeout(FIRST_FRAME_TIMEOUT, read_frame(stream, bytes_max)).await??;
    let (tell, answer) = oneshot::channel();
    hand_on(question, Answer(tell));
    let mut nothing = [0];
    let answer = tokio::select! {
        answer = answer => answer.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?,
        _ = stream.read(&mut nothing) => return Ok(()),
    };
    if answer.len() <= REQUEST_BYTES_MAX {
        write_frame(stream, &answer).await?;
        stream.flush().await?;
    }
    stream.shutdown().await
}

async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(frame).await
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await? as usize;
    let mut frame = Vec::with_capacity(length.min(FRAME_BUFFER_BYTES));
    read_part(stream, &mut frame, length, bytes_max).await?;
    Ok(frame)
}

/// Reads the next `length` bytes behind those that are there.
async fn read_part(
    stream: &mut (impl AsyncRead + Unpin),
    into: &mut Vec<u8>,
    length: usize,
    bytes_max: usize,
) -> io::Result<()> {
    let whole = into.len().saturating_add(length);
    if whole > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes is too long")));
    }
    stream.take(length as u64).read_to_end(into).await?;
    if into.len() == whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Sends a message in as many frames as it needs.
async fn write_message(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let mut rest = message;
    while let Some((part, more)) = rest.split_at_checked(FRAME_BYTES_MAX).filter(|(_, more)| !more.is_empty()) {
        let length = u32::try_from(part.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        stream.write_all(&(length | IS_CONTINUED).to_be_bytes()).await?;
        stream.write_all(part).await?;
        rest = more;
    }
    write_frame(stream, rest).await
}

/// Reads a message of one frame or several; it grows with what arrives.
async fn read_message(stream: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let length = stream.read_u32().await?;
        let part = (length & !IS_CONTINUED) as usize;
        if part > FRAME_BYTES_MAX || (part == 0 && length != 0) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {part} bytes")));
        }
        read_part(stream, &mut message, part, bytes_max).await?;
        if length & IS_CONTINUED == 0 {
            return Ok(message);
        }
    }
}

/// How many handshakes each address of a stranger may still begin; a bucket that fills with time.
#[derive(Debug, Default)]
struct Visitors(BTreeMap<IpAddr, Bucket>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Visitors {
    fn admit(&mut self, now: Instant, from: IpAddr) -> bool {
        let per_second = f64::from(STRANGER_HANDSHAKES_PER_SECOND);
        if self.0.len() >= VISITORS_KEPT && !self.0.contains_key(&from) {
            // Whoever has been quiet for a second has a full bucket again, and needs no entry.
            self.0.retain(|_, bucket| now.duration_since(bucket.at) < Duration::from_secs(1));
            if self.0.len() >= VISITORS_KEPT {
                return false;
            }
        }
        let bucket = self.0.entry(from).or_insert(Bucket { left: per_second, at: now });
        let filled = now.saturating_duration_since(bucket.at).as_secs_f64() * per_second;
        *bucket = Bucket { left: (bucket.left + filled).min(per_second), at: now };
        let is_admitted = bucket.left >= 1.0;
        if is_admitted {
            bucket.left -= 1.0;
        }
        is_admitted
    }
}

/// What a panicked holder left behind is still whole: every change here is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{Read, Write};
    use std::sync::mpsc;

    use super::*;
    use crate::identity::tests::{CLUSTER, Secrets, secrets};
    use crate::identity::{NodeKey, issue};

    const LONG: Duration = Duration::from_secs(20);
    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    /// Hands on messages; answers questions by what they say.
    struct Ear {
        heard: mpsc::Sender<(NodeId, Vec<u8>)>,
        kept: Mutex<Vec<Answer>>,
    }

    impl Handler for Ear {
        fn on_message(&self, from: NodeId, message: Vec<u8>) {
            let _ = self.heard.send((from, message));
        }

        fn on_newcomer(&self, from: NodeId, address: IpAddr) {
            let _ = self.heard.send((from, format!("newcomer at {address}").into_bytes()));
        }

        fn on_request(&self, from: NodeId, request: Vec<u8>, answer: Answer) {
            match request.as_slice() {
                b"keep me waiting" => lock(&self.kept).push(answer),
                b"no answer" => {}
                _ => answer.send([from.to_string().as_bytes(), b" asked ", &request].concat()),
            }
        }

        fn on_join(&self, request: Vec<u8>, _exporter: [u8; 32], answer: Answer) {
            answer.send([b"heard ".as_slice(), &request].concat());
        }
    }

    struct Node {
        handle: StreamsHandle,
        allowed: AllowList,
        heard: mpsc::Receiver<(NodeId, Vec<u8>)>,
    }

    fn local() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn start_at(listen: Vec<SocketAddr>, identity: Identity) -> Node {
        let (tell, heard) = mpsc::channel();
        let handler = Arc::new(Ear { heard: tell, kept: Mutex::default() });
        let allowed = AllowList::default();
        let config = StreamsConfig { listen, identity, allowed: allowed.clone() };
        Node { handle: Streams::start(config, handler).unwrap(), allowed, heard }
    }

    fn start(secrets: &Secrets, node: u64) -> Node {
        start_at(vec![local()], secrets.identity(node))
    }

    impl Node {
        fn knows(&self, node: NodeId, other: &Node) -> &Self {
            self.handle.set_peers(BTreeMap::from([(node, other.handle.listening())]));
            self
        }

        fn next(&self) -> (NodeId, Vec<u8>) {
            self.heard.recv_timeout(LONG).unwrap()
        }

        /// Sends until it is heard: a message may get lost while a connection breaks.
        fn reaches(&self, to: NodeId, other: &Node) {
            while other.heard.try_recv().is_ok() {}
            let until = Instant::now() + LONG;
            while Instant::now() < until {
                assert!(self.handle.send(to, b"are you there?".to_vec()));
                if other.heard.recv_timeout(Duration::from_millis(20)).is_ok() {
                    return;
                }
            }
            panic!("nothing arrived");
        }
    }

    #[test]
    fn messages_arrive_in_order_with_the_name_of_their_sender() {
        let secrets = secrets();
        let (a, b) = (start(&secrets, 1), start(&secrets, 2));
        a.knows(B, &b);
        b.knows(A, &a);
        for number in 0..100_u8 {
            assert!(a.handle.send(B, vec![number; 3000]));
            assert!(b.handle.send(A, vec![number]));
        }
        for number in 0..100_u8 {
            assert_eq!(b.next(), (A, vec![number; 3000]));
            assert_eq!(a.next(), (B, vec![number]));
        }
        assert!(!a.handle.send(NodeId(9), Vec::new()), "not a peer");
        assert!(!a.handle.send(A, Vec::new()), "itself");
    }

    #[test]
    fn a_snapshot_of_several_frames_arrives_whole_and_nothing_longer_is_taken() {
        let secrets = secrets();
        let (a, b) = (start(&secrets, 1), start(&secrets, 2));
        a.knows(B, &b);
        for bytes in [FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, 2 * FRAME_BYTES_MAX + 7] {
            let snapshot: Vec<u8> = (0..bytes).map(|place| (place % 251) as u8).collect();
            assert!(a.handle.send(B, snapshot.clone()));
            assert!(b.next() == (A, snapshot), "{bytes}");
        }
        assert!(!a.handle.send(B, vec![0; STREAM_MESSAGE_BYTES_MAX + 1]));
        a.reaches(B, &b);
    }

    #[test]
    fn a_question_has_one_answer_or_says_why_not() {
        let secrets = secrets();
        let (a, b) = (start(&secrets, 1), start(&secrets, 2));
        a.knows(B, &b);
        b.knows(A, &a);
        let ask = |to, what: &[u8], limit| a.handle.request(to, what.to_vec(), limit).wait();
        assert_eq!(ask(B, b"who leads?", LONG).unwrap(), b"1 asked who leads?");
        let many: Vec<Reply> = (0..20).map(|_| a.handle.request(B, b"again".to_vec(), LONG)).collect();
        assert!(many.into_iter().all(|reply| reply.wait().unwrap() == b"1 asked again"));
        let long = vec![7; REQUEST_BYTES_MAX - 100];
        assert_eq!(ask(B, &long, LONG).unwrap().len(), REQUEST_BYTES_MAX - 100 + 8);
        assert!(matches!(ask(B, b"no answer", LONG), Err(RequestError::NoAnswer { node: B, .. })));
        assert!(matches!(ask(B, &vec![7; REQUEST_BYTES_MAX + 1], LONG), Err(RequestError::TooLong { .. })));
        let short = Duration::from_millis(50);
        assert!(matches!(ask(B, b"keep me waiting", short), Err(RequestError::TimedOut { .. })));
        assert!(matches!(ask(NodeId(9), b"", LONG), Err(RequestError::Unknown { .. })));
        drop(b);
        assert!(matches!(ask(B, b"still there?", LONG), Err(RequestError::Unreachable { .. })));
    }

    #[test]
    fn a_peer_that_restarts_is_reached_again() {
        let secrets = secrets();
        let a = start(&secrets, 1);
        let mut b = start(&secrets, 2);
        let at = b.handle.listening();
        a.knows(B, &b).reaches(B, &b);
        for _ in 0..3 {
            drop(b);
            b = start_at(at.clone(), secrets.identity(2));
            a.reaches(B, &b);
        }
    }

    #[test]
    fn the_best_address_that_answers_is_used() {
        let secrets = secrets();
        let a = start(&secrets, 1);
        let b = start_at(vec![local(), "127.0.0.2:0".parse().unwrap()], secrets.identity(2));
        // A port that nobody listens on: it was free a moment ago.
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let live = b.handle.listening();
        b.knows(A, &a);
        a.handle.set_peers(BTreeMap::from([(B, vec![dead, live[1]])]));
        a.reaches(B, &b);
        assert_eq!(a.handle.request(B, b"hi".to_vec(), LONG).wait().unwrap(), b"1 asked hi");
        // Now the other link is better; nothing that is queued gets lost.
        for turn in 0..20_u8 {
            a.handle.set_peers(BTreeMap::from([(B, vec![live[usize::from(turn) % 2], dead])]));
            assert!(a.handle.send(B, vec![turn]));
            while b.next().1 != [turn] {}
        }
    }

    #[test]
    fn other_addresses_are_listened_on_and_what_is_connected_stays_so() {
        let secrets = secrets();
        let (a, b) = (start(&secrets, 1), start(&secrets, 2));
        b.knows(A, &a);
        a.knows(B, &b).reaches(B, &b);
        let other: SocketAddr = "127.0.0.2:0".parse().unwrap();
        let former = b.handle.listening()[0];
        b.handle.set_listen(&[other, "192.0.2.77:7000".parse().unwrap()]);
        assert!(a.handle.send(B, b"over the connection that is there".to_vec()));
        assert_eq!(b.next().1, b"over the connection that is there");
        let now = b.handle.listening();
        assert!(now.len() == 1 && now != [former], "{now:?}");
        a.knows(B, &b).reaches(B, &b);
        assert_eq!(a.handle.request(B, b"hi".to_vec(), LONG).wait().unwrap(), b"1 asked hi");
    }

    #[test]
    fn a_node_of_another_cluster_is_no_peer() {
        let (ours, theirs) = (secrets(), secrets());
        let (a, b) = (start(&ours, 1), start(&theirs, 2));
        a.knows(B, &b);
        b.knows(A, &a);
        let asked = a.handle.request(B, b"hello".to_vec(), LONG).wait();
        assert!(matches!(asked, Err(RequestError::Unreachable { .. })), "{asked:?}");
        // The same authority, and a certificate for another cluster.
        let key = NodeKey::generate().unwrap();
        let certificate = issue(&ours.authority, &key.request().unwrap(), B, CLUSTER + 1).unwrap();
        let stranger =
            Identity::new(ours.authority.certificate(), &certificate, &key, ours.cluster_key.clone()).unwrap();
        let c = start_at(vec![local()], stranger);
        a.knows(B, &c);
        c.knows(A, &a);
        let asked = a.handle.request(B, b"hello".to_vec(), LONG).wait();
        assert!(matches!(asked, Err(RequestError::Unreachable { .. })), "{asked:?}");
        assert!(c.handle.request(A, b"hello".to_vec(), LONG).wait().is_err());
        assert!(a.heard.try_recv().is_err());
    }

    #[test]
    fn a_member_cannot_pass_for_another() {
        let secrets = secrets();
        let (a, c) = (start(&secrets, 1), start(&secrets, 3));
        // At the address of node 2 answers node 3.
        a.knows(B, &c);
        assert!(matches!(
            a.handle.request(B, b"hello".to_vec(), LONG).wait(),
            Err(RequestError::Unreachable { node: B, .. })
        ));
    }

    #[test]
    fn a_removed_node_is_cut_off_at_once_and_refused() {
        let secrets = secrets();
        let (a, b) = (start(&secrets, 1), start(&secrets, 2));
        b.knows(A, &a).reaches(A, &a);
        let waiting = b.handle.request(A, b"keep me waiting".to_vec(), LONG);
        a.allowed.set_members([A, NodeId(3)].into(), NodeId(9));
        assert!(matches!(waiting.wait(), Err(RequestError::NoAnswer { .. } | RequestError::Unreachable { .. })));
        assert!(b.handle.request(A, b"let me in".to_vec(), LONG).wait().is_err());
        while a.heard.try_recv().is_ok() {}
        for _ in 0..10 {
            assert!(b.handle.send(A, b"listen to me".to_vec()));
            assert!(a.heard.recv_timeout(Duration::from_millis(20)).is_err());
        }
        a.allowed.set_members([A, B].into(), NodeId(9));
        b.reaches(A, &a);
        assert!(b.handle.request(A, b"let me in".to_vec(), LONG).wait().is_ok());
    }

    #[test]
    fn a_member_admitted_later_than_the_known_log_is_heard_and_reported() {
        let secrets = secrets();
        let (a, d) = (start(&secrets, 1), start(&secrets, 40));
        a.allowed.set_members([A, B].into(), NodeId(9));
        d.knows(A, &a);
        assert!(d.handle.send(A, b"I lead".to_vec()));
        assert_eq!(a.next(), (NodeId(40), b"newcomer at 127.0.0.1".to_vec()));
        assert_eq!(a.next(), (NodeId(40), b"I lead".to_vec()));
    }

    /// What a client without a certificate gets for a connection of this kind.
    fn without_certificate(secrets: &Secrets, to: SocketAddr, kind: Kind) -> io::Result<Vec<u8>> {
        let pin = crate::public_key_hash(secrets.authority.certificate()).unwrap();
        let mut socket = std::net::TcpStream::connect(to)?;
        socket.set_read_timeout(Some(LONG))?;
        let name = ServerName::IpAddress(to.ip().into());
        let mut connection = rustls::ClientConnection::new(tls::joiner_config(pin).unwrap(), name).unwrap();
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        stream.write_all(&[kind.byte(), 0, 0, 0, 3, b'a', b'b', b'c'])?;
        stream.flush()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer)
    }

    #[test]
    fn without_a_certificate_one_can_only_join() {
        let secrets = secrets();
        let a = start(&secrets, 1);
        let to = a.handle.listening()[0];
        for kind in [Kind::Messages, Kind::Request] {
            let answer = without_certificate(&secrets, to, kind);
            assert!(answer.as_ref().map_or(true, Vec::is_empty), "{answer:?}");
        }
        assert_eq!(without_certificate(&secrets, to, Kind::Join).unwrap(), b"\0\0\0\x09heard abc");
        assert!(a.heard.try_recv().is_err());
    }

    #[test]
    fn a_flood_of_garbage_keeps_no_member_out() {
        let secrets = secrets();
        let (a, b) = (start(&secrets, 1), start(&secrets, 2));
        let to = a.handle.listening()[0];
        b.knows(A, &a);
        let mut open = Vec::new();
        for turn in 0..300_usize {
            let mut socket = std::net::TcpStream::connect(to).unwrap();
            let garbage: Vec<u8> = (0..turn * 7).map(|place| (place * 13 + turn) as u8).collect();
            let _ = socket.write_all(&garbage);
            open.push(socket);
        }
        b.reaches(A, &a);
    }

    /// A local user on a peer's machine has the address of the peer.
    #[test]
    fn half_open_connections_from_a_peers_address_keep_the_peer_from_nothing() {
        let secrets = secrets();
        let (a, b) = (start(&secrets, 1), start(&secrets, 2));
        let to = a.handle.listening()[0];
        a.knows(B, &b);
        b.knows(A, &a);
        let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flood = {
            let over = over.clone();
            std::thread::spawn(move || {
                let mut open = VecDeque::new();
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    open.extend(std::net::TcpStream::connect(to));
                    open.truncate(400);
                    if open.len() == 400 {
                        open.pop_front();
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            })
        };
        std::thread::sleep(Duration::from_millis(200));
        for _ in 0..50 {
            assert_eq!(b.handle.request(A, b"hello".to_vec(), LONG).wait().unwrap(), b"2 asked hello");
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        flood.join().unwrap();
    }

    #[test]
    fn a_frame_that_announces_too_much_ends_the_connection() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = |bytes: &[u8], bytes_max| {
            let mut bytes = bytes.to_vec();
            runtime.block_on(read_frame(&mut std::io::Cursor::new(&mut bytes), bytes_max)).map_err(|e| e.kind())
        };
        assert_eq!(read(b"\0\0\0\x03abc", 3), Ok(b"abc".to_vec()));
        assert_eq!(read(b"\0\0\0\x04abcd", 3), Err(io::ErrorKind::InvalidData));
        assert_eq!(read(b"\xff\xff\xff\xff", REQUEST_BYTES_MAX), Err(io::ErrorKind::InvalidData));
        assert_eq!(read(b"\0\x0f\0\0abc", REQUEST_BYTES_MAX), Err(io::ErrorKind::UnexpectedEof));
        let message = |bytes: &[u8], bytes_max| {
            let mut bytes = bytes.to_vec();
            runtime.block_on(read_message(&mut std::io::Cursor::new(&mut bytes), bytes_max)).map_err(|e| e.kind())
        };
        assert_eq!(message(b"\x80\0\0\x02ab\0\0\0\x01c", 3), Ok(b"abc".to_vec()));
        assert_eq!(message(b"\x80\0\0\x02ab\0\0\0\x02cd", 3), Err(io::ErrorKind::InvalidData));
        assert_eq!(message(b"\x80\0\0\0\x80\0\0\0", 3), Err(io::ErrorKind::InvalidData), "without end");
    }

    #[test]
    fn a_full_queue_loses_its_oldest() {
        let mut queue = Queue::default();
        for number in 0..QUEUE_MESSAGES_MAX + 10 {
            queue.push(vec![number as u8; number % 7]);
        }
        assert_eq!(queue.messages.len(), QUEUE_MESSAGES_MAX);
        assert_eq!(queue.messages[0], vec![10; 3]);
        for byte in [1, 2] {
            queue.push(vec![byte; QUEUE_BYTES_MAX * 2]);
        }
        for number in 0..QUEUE_MESSAGES_MAX * 2 {
            queue.push(vec![number as u8; 3]);
        }
        let long: Vec<&Vec<u8>> = queue.messages.iter().filter(|message| message.len() > 3).collect();
        assert_eq!(
            (long.len(), long[0][0]),
            (1, 2),
            "only the newest snapshot waits, and it gives way to nothing else"
        );
        assert_eq!((queue.messages.len(), queue.bytes), (QUEUE_MESSAGES_MAX, 3 * (QUEUE_MESSAGES_MAX - 1)));
    }

    #[test]
    fn strangers_get_ten_handshakes_a_second_each() {
        let mut visitors = Visitors::default();
        let start = Instant::now();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let mut admitted = |at: u64, from, times| {
            let now = start + Duration::from_millis(at);
            (0..times).filter(|_| visitors.admit(now, from)).count()
        };
        assert_eq!(admitted(0, address(1), 100), 10);
        assert_eq!(admitted(0, address(2), 5), 5);
        assert_eq!(admitted(500, address(1), 100), 5);
        assert_eq!(admitted(9000, address(1), 100), 10);
        let newcomers: usize = (10..2000).map(|number| admitted(9000, address(number), 1)).sum();
        assert!(newcomers <= VISITORS_KEPT, "{newcomers}");
        assert_eq!(admitted(11_000, address(5001), 1), 1);
    }

    #[test]
    fn a_link_without_an_address_stops_nobody_and_a_taken_port_is_named() {
        let secrets = secrets();
        let missing: SocketAddr = "192.0.2.77:7000".parse().unwrap();
        let a = start_at(vec![missing, local()], secrets.identity(1));
        let taken = a.handle.listening();
        assert_eq!(taken.len(), 1);
        let (tell, _) = mpsc::channel();
        let handler = Arc::new(Ear { heard: tell, kept: Mutex::default() });
        let config = StreamsConfig { listen: taken, identity: secrets.identity(2), allowed: AllowList::default() };
        let again = Streams::start(config, handler);
        assert!(matches!(again, Err(StreamsError::Socket(SocketError::Taken { .. }))));
    }
}
