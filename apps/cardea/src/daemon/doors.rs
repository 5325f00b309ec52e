//! Who gets through to the API, and for how long?
//!
//! The socket is open to every local user, so every user's share is limited: connections in all and per user, with a
//! part that only root can take; a connection that asks nothing is closed. Whoever is over the limit gets an answer
//! that says so, not silence. The kernel says which user it is (SO_PEERCRED).
//!
//! Not here: what a user may ask (`http.rs`).

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use api::{Refused, RefusedCode};
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Connections of all users but root.
const OTHERS_MAX: usize = 64;
/// Connections of one user.
const PER_USER_MAX: usize = 8;
/// Connections of root, and of the daemon's own user.
const OWN_MAX: usize = 128;
/// How long a connection may stand open without a whole request or a reader of the answer.
const IDLE_MAX: Duration = Duration::from_secs(5);
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection, and whether a request of theirs is being answered.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user; none if the kernel does not say.
    pub uid: Option<u32>,
    busy: Arc<AtomicUsize>,
}

impl Caller {
    fn of(stream: &UnixStream) -> Self {
        Caller { uid: stream.peer_cred().ok().map(|credentials| credentials.uid()), busy: Arc::default() }
    }

    /// May this user change things, and see secrets?
    pub fn may_change(&self) -> bool {
        self.uid.is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw())
    }

    /// Who it is, for the record.
    pub fn actor(&self, node: &str) -> String {
        match self.uid {
            Some(0) => format!("root@{node}"),
            Some(uid) => format!("uid {uid}@{node}"),
            None => format!("unknown@{node}"),
        }
    }

    /// While this lives, the connection is not idle.
    pub fn keep_open(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.busy.clone())
    }
}

/// A request is being answered.
#[derive(Debug)]
pub struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Doors>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Doors>) -> Self {
        stream.io().caller.clone()
    }
}

/// How many connections each user has.
type Inside = Arc<Mutex<BTreeMap<Visitor, usize>>>;

/// Root and the daemon's own user, and everybody else by user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Visitor {
    Own,
    Other(Option<u32>),
}

/// The place of one connection among those of its user; given back when it is dropped.
#[derive(Debug)]
struct Place {
    inside: Inside,
    visitor: Visitor,
}

impl Place {
    fn take(inside: &Inside, visitor: Visitor) -> Option<Place> {
        let mut places = inside.lock().unwrap_or_else(PoisonError::into_inner);
        let own = places.get(&visitor).copied().unwrap_or(0);
        let others =
            || -> usize { places.iter().filter(|(who, _)| **who != Visitor::Own).map(|(_, taken)| taken).sum() };
        let is_free = match visitor {
            Visitor::Own => own < OWN_MAX,
            Visitor::Other(_) => own < PER_USER_MAX && others() < OTHERS_MAX,
        };
        is_free.then(|| {
            places.insert(visitor, own + 1);
            Place { inside: inside.clone(), visitor }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = places.get_mut(&self.visitor) {
            *taken -= 1;
            if *taken == 0 {
                places.remove(&self.visitor);
            }
        }
    }
}

/// Listens on the socket and lets in whom the limits allow.
#[derive(Debug)]
pub struct Doors {
    listener: UnixListener,
    inside: Inside,
    idle_max: Duration,
}

impl Doors {
    /// Guards this socket.
    pub fn new(listener: UnixListener) -> Doors {
        Doors { listener, inside: Inside::default(), idle_max: IDLE_MAX }
    }
}

impl Listener for Doors {
    type Io = Visit;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Visit, Self::Addr) {
        loop {
            let (stream, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(cause) => {
                    tracing::debug!(%cause, "could not accept a connection to the API");
                    sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let caller = Caller::of(&stream);
            let visitor = if caller.may_change() { Visitor::Own } else { Visitor::Other(caller.uid) };
            match Place::take(&self.inside, visitor) {
                Some(place) => {
                    let idle = Box::pin(sleep(self.idle_max));
                    let idle_max = self.idle_max;
                    let visit = Visit { stream, caller, idle, idle_max, is_waiting_to_write: false, _place: place };
                    return (visit, address);
                }
                None => turn_away(&stream),
            }
            // Whoever knocks without end must not keep those inside from their answers.
            tokio::task::yield_now().await;
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Tells somebody over the limit so, as far as it fits into the socket.
fn turn_away(stream: &UnixStream) {
    let refused = Refused::new(
        RefusedCode::Busy,
        "this user, or all users together, have too many connections to the daemon",
        "end some of them, or ask as root",
    );
    let body = serde_json::to_string(&refused).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    // A fresh socket has room for it; if not, the closed connection says enough.
    let _ = stream.try_write(answer.as_bytes());
}

/// A connection that ends if it stands idle for too long.
#[derive(Debug)]
pub struct Visit {
    stream: UnixStream,
    caller: Caller,
    idle: Pin<Box<Sleep>>,
    idle_max: Duration,
    is_waiting_to_write: bool,
    _place: Place,
}

impl Visit {
    /// Ends the connection if no request is being answered and the time is over.
    fn watch(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        while self.idle.as_mut().poll(context).is_ready() {
            if self.caller.busy.load(Ordering::Relaxed) == 0 || self.is_waiting_to_write {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.restart();
        }
        Poll::Pending
    }

    fn restart(&mut self) {
        let until = Instant::now() + self.idle_max;
        self.idle.set(sleep_until(until));
    }

    fn written(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.is_waiting_to_write = false;
            self.restart();
            return written;
        }
        if !self.is_waiting_to_write {
            self.is_waiting_to_write = true;
            self.restart();
        }
        self.watch(context).map(Err)
    }
}

impl AsyncRead for Visit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Bytes that arrive do not restart the time: a request must be complete within it.
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending => self.watch(context).map(Err),
        }
    }
}

impl AsyncWrite for Visit {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_takes_the_place_of_another_or_of_root() {
        let inside = Inside::default();
        let take = |visitor| Place::take(&inside, visitor);
        let first: Vec<Place> = std::iter::from_fn(|| take(Visitor::Other(Some(1)))).take(1000).collect();
        assert_eq!(first.len(), PER_USER_MAX);
        let mut all: Vec<Place> = (2..1000).filter_map(|uid| take(Visitor::Other(Some(uid)))).collect();
        assert_eq!(first.len() + all.len(), OTHERS_MAX);
        assert!(take(Visitor::Own).is_some(), "root has places of its own");
        all.pop();
        assert!(take(Visitor::Other(Some(5000))).is_some(), "a place that is given back is free");
        drop((first, all));
        assert!(inside.lock().expect("nobody panicked").is_empty());
    }

    #[test]
    fn who_asks_nothing_is_shown_out_and_who_is_answered_stays() {
        use tokio::io::AsyncReadExt;
        let idle_max = Duration::from_millis(20);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("api.sock");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut doors = Doors::new(UnixListener::bind(&path).expect("a socket"));
            doors.idle_max = idle_max;
            let _client = UnixStream::connect(&path).await.expect("the door");
            let (mut visit, _) = doors.accept().await;
            let busy = visit.caller.keep_open();
            let mut buffer = [0; 8];
            let waited = tokio::time::timeout(idle_max * 10, visit.read(&mut buffer)).await;
            assert!(waited.is_err(), "a request that is being answered is no idle connection");
            drop(busy);
            let error = visit.read(&mut buffer).await.expect_err("it is idle");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }
}
