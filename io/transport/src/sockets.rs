//! One UDP socket per link, bound to the link's own address.
//!
//! Never to all addresses: what a node sends must leave from its fixed address, whatever floating
//! addresses it carries, and what arrives on a link is known to be of that link. An address that
//! does not exist yet (its interface is down) is tried again later instead of stopping the daemon.
//!
//! Not here: what is sent (`beats.rs`, `datagrams.rs`).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

/// Most addresses that a node uses: eight links, and of each up to four earlier addresses that are still needed.
pub(crate) const SOCKETS_MAX: usize = 40;
/// DSCP class selector 6, network control, as the whole octet.
const CLASS_SELECTOR_6: u8 = 48 << 2;
const RECEIVE_BUFFER_BYTES: usize = 1024 * 1024;
/// How often binding to a missing address is tried.
pub(crate) const REBIND_EVERY: Duration = Duration::from_secs(1);

/// Why an address of this node cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Something else has the port.
    #[error("port {} on {} is taken: is another daemon running?", address.port(), address.ip())]
    Taken {
        /// The address.
        address: SocketAddr,
    },
    /// More addresses than a node can use.
    #[error("a node uses at most {SOCKETS_MAX} addresses, this one has {addresses}")]
    TooManyAddresses {
        /// How many were given.
        addresses: usize,
    },
    /// The system refused.
    #[error("could not use {address}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The system refused something that has no address.
    #[error("could not prepare to receive")]
    Prepare(#[source] io::Error),
}

/// Binds a socket; none if the address does not exist here at the moment.
pub(crate) fn bind(address: SocketAddr) -> Result<Option<UdpSocket>, SocketError> {
    match try_bind(address) {
        Ok(socket) => Ok(Some(socket)),
        Err(cause) => missing_or(address, cause).map(|()| None),
    }
}

/// `Ok` if the failure means that the address does not exist here at the moment.
pub(crate) fn missing_or(address: SocketAddr, cause: io::Error) -> Result<(), SocketError> {
    match cause.kind() {
        io::ErrorKind::AddrNotAvailable => Ok(()),
        io::ErrorKind::AddrInUse => Err(SocketError::Taken { address }),
        _ => Err(SocketError::Io { address, cause }),
    }
}

fn try_bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    match address {
        SocketAddr::V4(_) => sockopt::set_ip_tos(&socket, CLASS_SELECTOR_6)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            sockopt::set_ipv6_tclass(&socket, u32::from(CLASS_SELECTOR_6))?;
        }
    }
    // Beyond the system's limit only with CAP_NET_ADMIN; without it the limit is what we get.
    if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Ends a wait from another thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(crate) fn new() -> Result<Self, SocketError> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| SocketError::Prepare(errno.into()))?;
        Ok(Waker(Arc::new(event)))
    }

    /// Ends the current wait, or the next one if there is none.
    pub fn wake(&self) {
        // It can only be full, and then a wake-up is on its way.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    fn clear(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.0, &mut count);
    }
}

/// Waits until a socket has something to read, the waker was used, or `timeout` (none: for ever) is over.
///
/// Returns early when a signal arrives. Allocates nothing.
pub(crate) fn wait<'a>(
    sockets: impl Iterator<Item = Option<&'a UdpSocket>>,
    waker: &Waker,
    timeout: Option<Duration>,
) -> io::Result<()> {
    let mut all: [PollFd<'_>; SOCKETS_MAX + 1] =
        std::array::from_fn(|_| PollFd::from_borrowed_fd(waker.0.as_fd(), PollFlags::IN));
    let mut used = 1;
    for socket in sockets.flatten() {
        let descriptor: BorrowedFd<'_> = socket.as_fd();
        all[used] = PollFd::from_borrowed_fd(descriptor, PollFlags::IN);
        used += 1;
    }
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    match rustix::event::poll(&mut all[..used], timeout.as_ref()) {
        Ok(_) => {
            if all[0].revents().contains(PollFlags::IN) {
                waker.clear();
            }
            Ok(())
        }
        Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_often_a_waker_is_used_it_ends_one_wait() {
        let waker = Waker::new().unwrap();
        waker.wake();
        waker.wake();
        wait(std::iter::empty(), &waker, None).unwrap();
        assert_eq!(rustix::io::read(&*waker.0, &mut [0; 8]), Err(Errno::AGAIN));
    }
}
