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

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
use rustls::{ClientConfig, ServerConfig};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::identity::{Identity, NodeIdentity};
use crate::sockets::{REBIND_EVERY, SocketError, missing_or};
use crate::tls;

/// The longest message, in bytes: a snapshot.
pub const STREAM_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest request, answer or answer to a join, in bytes.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// The longest request of a joining node, in bytes.
pub const JOIN_BYTES_MAX: usize = 64 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// From a handshake until the first frame of a request or join has arrived.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(10);
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A connection that held this long has proven that the next dial is worth no pause.
const HELD: Duration = Duration::from_secs(1);
/// What was sent and not acknowledged for so long ends the connection.
const UNACKNOWLEDGED_MS: u32 = 1000;
const QUEUE_MESSAGES_MAX: usize = 256;
const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
const HANDSHAKES_AT_ONCE: usize = 64;
const JOINS_AT_ONCE: usize = 8;
const STRANGER_HANDSHAKES_PER_SECOND: u32 = 10;
const PEER_HANDSHAKES_PER_SECOND: u32 = 500;
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
}

/// Who takes what arrives. Every call runs on the thread of the streams and must not wait.
pub trait Handler: Send + Sync + 'static {
    /// A message from a member.
    fn on_message(&self, from: NodeId, message: Vec<u8>);
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
    handler: Arc<dyn Handler>,
    tls: Mutex<Tls>,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    refused: Mutex<BTreeSet<NodeId>>,
    visitors: Mutex<Visitors>,
    listening: Mutex<Vec<SocketAddr>>,
    handshakes: Semaphore,
    joins: Semaphore,
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
            handler,
            tls: Mutex::new(Tls::of(&config.identity)?),
            peers: Mutex::default(),
            refused: Mutex::default(),
            visitors: Mutex::default(),
            listening: Mutex::default(),
            handshakes: Semaphore::new(HANDSHAKES_AT_ONCE),
            joins: Semaphore::new(JOINS_AT_ONCE),
        });
        for address in config.listen {
            let listener = {
                let _inside = runtime.enter();
                match listen(address) {
                    Ok(listener) => {
                        lock(&shared.listening).extend(listener.local_addr());
                        Some(listener)
                    }
                    Err(cause) => {
                        missing_or(address, cause)?;
                        None
                    }
                }
            };
            runtime.spawn(serve(Arc::clone(&shared), address, listener));
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

    /// Says whose certificates count no longer, because they have been removed; replaces what was said before.
    /// Existing connections end with their peers ([`StreamsHandle::set_peers`]) or their next message.
    pub fn set_refused(&self, nodes: BTreeSet<NodeId>) {
        *lock(&self.0.shared.refused) = nodes;
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
        lock(&self.0.shared.listening).clone()
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
    bytes: usize,
}

impl Queue {
    /// The newest message always fits; the oldest ones make room for it.
    fn push(&mut self, message: Vec<u8>) {
        while !self.messages.is_empty()
            && (self.messages.len() >= QUEUE_MESSAGES_MAX || self.bytes + message.len() > QUEUE_BYTES_MAX)
        {
            self.pop();
        }
        self.bytes += message.len();
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
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
            if let Err(cause) = write_frame(&mut stream, &message).await {
                return End::Lost(cause);
            }
        }
        if let Err(cause) = stream.flush().await {
            return End::Lost(cause);
        }
    }
}

async fn ask(shared: &Shared, node: NodeId, request: &[u8]) -> Result<Vec<u8>, RequestError> {
    let addresses = lock(&shared.peers).get(&node).map(|peer| peer.outbox.addresses());
    let addresses = addresses.ok_or(RequestError::Unknown { node })?;
    let (mut stream, _) = dial(shared, node, &addresses, Kind::Request)
        .await
        .map_err(|cause| RequestError::Unreachable { node, cause })?;
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
    let connector = TlsConnector::from(Arc::clone(&lock(&shared.tls).client));
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
                lock(&shared.listening).extend(listener.local_addr());
                break listener;
            }
        },
    };
    loop {
        match listener.accept().await {
            Ok((socket, from)) => {
                let is_peer = lock(&shared.peers).values().any(|peer| peer.outbox.has_address(from.ip()));
                if lock(&shared.visitors).admit(Instant::now(), from.ip(), is_peer) {
                    tokio::spawn(welcome(Arc::clone(&shared), socket));
                }
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
async fn welcome(shared: Arc<Shared>, socket: TcpStream) {
    let shaken = {
        // Too many at once: whoever means it dials again.
        let Ok(_turn) = shared.handshakes.try_acquire() else { return };
        let acceptor = TlsAcceptor::from(Arc::clone(&lock(&shared.tls).server));
        let shake = async {
            prepare(&socket)?;
            let mut stream = acceptor.accept(socket).await?;
            let kind = stream.read_u8().await?;
            Ok::<_, io::Error>((stream, kind))
        };
        timeout(HANDSHAKE_TIMEOUT, shake).await
    };
    let Ok(Ok((mut stream, kind))) = shaken else { return };
    let member = member(&shared, &stream);
    // A connection that ends in an error is a connection that has ended.
    let _ = match (Kind::of(kind), member) {
        (Some(Kind::Messages), Some(from)) => receive(&shared, &mut stream, from).await,
        (Some(Kind::Request), Some(from)) => {
            answer(&mut stream, REQUEST_BYTES_MAX, |request, answer| shared.handler.on_request(from, request, answer))
                .await
        }
        (Some(Kind::Join), _) => join(&shared, &mut stream).await,
        (Some(Kind::Messages | Kind::Request), None) | (None, _) => Ok(()),
    };
}

/// The node that the certificate of the other end names, if it is one that counts.
fn member(shared: &Shared, stream: &server::TlsStream<TcpStream>) -> Option<NodeId> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let peer = NodeIdentity::of(certificate)?;
    let counts =
        peer.cluster_id == shared.me.cluster_id && peer.node != shared.me.node && !is_refused(shared, peer.node);
    counts.then_some(peer.node)
}

fn is_refused(shared: &Shared, node: NodeId) -> bool {
    lock(&shared.refused).contains(&node)
}

async fn receive(shared: &Shared, stream: &mut server::TlsStream<TcpStream>, from: NodeId) -> io::Result<()> {
    loop {
        let message = read_frame(stream, STREAM_MESSAGE_BYTES_MAX).await?;
        if is_refused(shared, from) {
            return Ok(());
        }
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
    if length > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes is too long")));
    }
    let mut frame = Vec::with_capacity(length.min(FRAME_BUFFER_BYTES));
    stream.take(length as u64).read_to_end(&mut frame).await?;
    if frame.len() == length { Ok(frame) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

impl Outbox {
    fn has_address(&self, address: IpAddr) -> bool {
        lock(&self.addresses).iter().any(|known| known.ip() == address)
    }
}

/// How many handshakes each source may still begin; a bucket that fills with time.
#[derive(Debug, Default)]
struct Visitors(BTreeMap<IpAddr, Bucket>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Visitors {
    fn admit(&mut self, now: Instant, from: IpAddr, is_peer: bool) -> bool {
        let per_second = f64::from(if is_peer { PEER_HANDSHAKES_PER_SECOND } else { STRANGER_HANDSHAKES_PER_SECOND });
        if self.0.len() >= VISITORS_KEPT && !self.0.contains_key(&from) {
            // Whoever has been quiet for a second has a full bucket again, and needs no entry.
            self.0.retain(|_, bucket| now.duration_since(bucket.at) < Duration::from_secs(1));
            if self.0.len() >= VISITORS_KEPT && !is_peer {
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
