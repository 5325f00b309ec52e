//! How do heartbeats leave and arrive without waiting for anything?
//!
//! One thread owns these sockets. It waits to its deadline, drains every socket to the end, and
//! only then looks at the clock of its protocol (SAFETY §1.3). After the start nothing here
//! allocates, locks or blocks.
//!
//! In: bytes to send, time to wait. Out: packets with their age, and how many the kernel dropped.
//! Not here: sealing (`seal.rs`), what a beat says (`core/wire`), what it means (`core/liveness`).

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

use crate::sockets::{self, REBIND_EVERY, SOCKETS_MAX, SocketError, Waker};

/// Longer packets are none of ours.
const PACKET_BYTES_MAX: usize = 2048;
/// Packets read from one socket in one drain; a flood on one link must not keep the others waiting.
const DRAIN_MAX: usize = 256;
/// Room for a timestamp and a drop counter beside each packet.
const CONTROL_BYTES: usize = 128;

/// The sockets of all addresses of this node, for heartbeats.
#[derive(Debug)]
pub struct BeatSockets {
    ends: Vec<End>,
    waker: Waker,
    drained_at: Instant,
    rebind_at: Instant,
    packet: Box<[u8; PACKET_BYTES_MAX]>,
    control: Vec<u8>,
}

#[derive(Debug)]
struct End {
    local: SocketAddr,
    socket: Option<UdpSocket>,
    dropped: u32,
    send_errors: u64,
}

/// A packet as it came from the network; nothing about it is proven.
#[derive(Debug)]
pub struct Packet<'a> {
    /// The address that it came to.
    pub local: SocketAddr,
    /// Where it claims to come from.
    pub from: SocketAddr,
    /// How long it lay in the kernel before the drain began; never longer than since the drain before.
    pub age: Duration,
    /// Its content, to be opened in place.
    pub bytes: &'a mut [u8],
}

/// What one drain found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Packets that were read.
    pub packets: u64,
    /// Packets that the kernel dropped since the drain before because a socket was full: an own stall (SAFETY §1.3).
    pub dropped: u64,
    /// More is waiting: drain again before any verdict.
    pub is_cut_short: bool,
}

impl BeatSockets {
    /// Binds one socket per address. One that does not exist yet is bound later by [`BeatSockets::rebind`].
    ///
    /// # Errors
    /// If an address exists and cannot be used.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, SocketError> {
        if addresses.len() > SOCKETS_MAX {
            return Err(SocketError::TooManyAddresses { addresses: addresses.len() });
        }
        let now = Instant::now();
        let ends = addresses.iter().map(|local| {
            let socket = bind(*local)?;
            Ok(End { local: *local, socket, dropped: 0, send_errors: 0 })
        });
        Ok(BeatSockets {
            ends: ends.collect::<Result<_, SocketError>>()?,
            waker: Waker::new()?,
            drained_at: now,
            rebind_at: now + REBIND_EVERY,
            packet: Box::new([0; PACKET_BYTES_MAX]),
            control: vec![0; CONTROL_BYTES],
        })
    }

    /// Uses these addresses from now on. One that does not exist yet, or cannot be used, is tried again like a missing
    /// one; what waits in the socket of an address that goes is lost.
    pub fn set(&mut self, addresses: &[SocketAddr]) {
        self.ends.retain(|end| addresses.contains(&end.local));
        for local in addresses {
            if self.ends.len() < SOCKETS_MAX && !self.ends.iter().any(|end| end.local == *local) {
                let socket = bind(*local).ok().flatten();
                self.ends.push(End { local: *local, socket, dropped: 0, send_errors: 0 });
            }
        }
    }

    /// What ends a wait from another thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits until a packet is there, the waker was used, a signal came, or `timeout` is over.
    ///
    /// # Errors
    /// If the system cannot wait: a bug, or memory has run out.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        sockets::wait(self.ends.iter().map(|end| end.socket.as_ref()), &self.waker, Some(timeout))
    }

    /// Waits until the waker was used, a signal came, or `timeout` is over; packets wait in their sockets meanwhile.
    ///
    /// # Errors
    /// As [`BeatSockets::wait`].
    pub fn rest(&self, timeout: Duration) -> io::Result<()> {
        sockets::wait(std::iter::empty(), &self.waker, Some(timeout))
    }

    /// Reads what has arrived at every address and hands each packet to `each`; never waits.
    pub fn drain(&mut self, mut each: impl FnMut(Packet<'_>)) -> Drained {
        let now = Instant::now();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The kernel stamps with the wall clock; the limit makes a step of that clock harmless.
        let age_max = now.duration_since(self.drained_at);
        self.drained_at = now;
        let mut drained = Drained::default();
        for end in &mut self.ends {
            let Some(socket) = &end.socket else { continue };
            for turn in 0.. {
                if turn == DRAIN_MAX {
                    drained.is_cut_short = true;
                    break;
                }
                let Some(received) = receive(socket, &mut self.packet[..], &mut self.control) else { break };
                if let Some(dropped) = received.dropped {
                    drained.dropped += u64::from(dropped.wrapping_sub(end.dropped));
                    end.dropped = dropped;
                }
                let Some(from) = received.from else { continue };
                drained.packets += 1;
                let age = received.stamp.map_or(Duration::ZERO, |stamp| wall.saturating_sub(stamp)).min(age_max);
                each(Packet { local: end.local, from, age, bytes: &mut self.packet[..received.length] });
            }
        }
        drained
    }

    /// Sends one packet from this address; never waits. `false`, and counted, if it did not leave.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> bool {
        let Some(end) = self.ends.iter_mut().find(|known| known.local == from) else { return false };
        let has_left = end.socket.as_ref().is_some_and(|socket| socket.send_to(bytes, to).is_ok());
        end.send_errors += u64::from(!has_left);
        has_left
    }

    /// Tries again to bind addresses that were missing, at most once a second; those that came up by it.
    pub fn rebind(&mut self) -> impl Iterator<Item = SocketAddr> + '_ {
        // Most of the time none is missing, and the clock is not even asked.
        let now = self.missing().next().map(|_| Instant::now());
        let is_due = now.is_some_and(|now| now >= self.rebind_at);
        if let Some(now) = now.filter(|_| is_due) {
            self.rebind_at = now + REBIND_EVERY;
        }
        self.ends.iter_mut().filter(move |end| is_due && end.socket.is_none()).filter_map(|end| {
            // An address that now exists and is refused is no better than a missing one; it is tried again.
            end.socket = bind(end.local).ok().flatten();
            end.socket.is_some().then_some(end.local)
        })
    }

    /// The addresses that have no socket yet.
    pub fn missing(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.ends.iter().filter(|end| end.socket.is_none()).map(|end| end.local)
    }

    /// Packets from an address that did not leave, since it is used.
    pub fn send_errors(&self, from: SocketAddr) -> u64 {
        self.ends.iter().find(|known| known.local == from).map_or(0, |end| end.send_errors)
    }

    /// The address that a socket is really bound to: with its port, if the port was given as 0.
    pub fn bound(&self, local: SocketAddr) -> Option<SocketAddr> {
        let end = self.ends.iter().find(|known| known.local == local)?;
        end.socket.as_ref()?.local_addr().ok()
    }
}

fn bind(address: SocketAddr) -> Result<Option<UdpSocket>, SocketError> {
    let Some(socket) = sockets::bind(address)? else { return Ok(None) };
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)
        .and_then(|()| setsockopt(&socket, sockopt::RxqOvfl, &1))
        .map_err(|errno| SocketError::Io { address, cause: errno.into() })?;
    Ok(Some(socket))
}

struct Received {
    length: usize,
    from: Option<SocketAddr>,
    stamp: Option<Duration>,
    /// Packets that this socket lost since it exists; the kernel mentions it only when there are some.
    dropped: Option<u32>,
}

/// Reads one packet; none if there is none, or the socket reports an error that a sender of garbage can cause.
fn receive(socket: &UdpSocket, packet: &mut [u8], control: &mut [u8]) -> Option<Received> {
    let mut parts = [IoSliceMut::new(packet)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(control), MsgFlags::MSG_DONTWAIT).ok()?;
    let mut received = Received { length: message.bytes, from: None, stamp: None, dropped: None };
    let is_whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
    received.from = message.address.filter(|_| is_whole).and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6))))
    });
    for item in message.cmsgs().into_iter().flatten() {
        match item {
            ControlMessageOwned::ScmTimestampns(stamp) => {
                let seconds = u64::try_from(stamp.tv_sec()).unwrap_or(0);
                received.stamp = Some(Duration::new(seconds, u32::try_from(stamp.tv_nsec()).unwrap_or(0)));
            }
            ControlMessageOwned::RxqOvfl(dropped) => received.dropped = Some(dropped),
            // The kernel adds nothing that was not asked for.
            _ => {}
        }
    }
    Some(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn local() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn second() -> SocketAddr {
        "127.0.0.2:0".parse().unwrap()
    }

    fn pair() -> (BeatSockets, BeatSockets) {
        let addresses = [local(), second()];
        (BeatSockets::bind(&addresses).unwrap(), BeatSockets::bind(&addresses).unwrap())
    }

    #[test]
    fn a_packet_arrives_at_the_address_it_was_sent_to_and_from_the_address_it_left() {
        let (mut a, mut b) = pair();
        for (mark, address) in [(0, local()), (1, second())] {
            assert!(a.send(address, b.bound(address).unwrap(), &[mark; 40]));
            b.wait(LONG).unwrap();
            let mut heard = Vec::new();
            let drained = b.drain(|packet| {
                assert!(packet.age < LONG);
                heard.push((packet.local, packet.from, packet.bytes.to_vec()));
            });
            assert_eq!(heard, [(address, a.bound(address).unwrap(), vec![mark; 40])]);
            assert_eq!(drained, Drained { packets: 1, dropped: 0, is_cut_short: false });
        }
        assert_eq!(b.drain(|_| panic!("nothing is left")), Drained::default());
    }

    #[test]
    fn other_addresses_are_taken_up_and_those_that_stay_lose_nothing() {
        let (mut a, mut b) = pair();
        let to = b.bound(local()).unwrap();
        assert!(a.send(local(), to, b"waits"));
        let missing: SocketAddr = "192.0.2.77:0".parse().unwrap();
        let third: SocketAddr = "127.0.0.3:0".parse().unwrap();
        b.set(&[third, missing, local()]);
        assert_eq!((b.bound(local()), b.bound(second())), (Some(to), None));
        assert_eq!(b.missing().collect::<Vec<_>>(), [missing]);
        assert!(a.send(local(), b.bound(third).unwrap(), b"to the new one"));
        let mut heard = Vec::new();
        while heard.len() < 2 {
            b.wait(LONG).unwrap();
            b.drain(|packet| heard.push(packet.bytes.to_vec()));
        }
        heard.sort_unstable();
        assert_eq!(heard, [b"to the new one".to_vec(), b"waits".to_vec()]);
    }

    #[test]
    fn a_waker_ends_a_wait_from_another_thread() {
        let (a, _) = pair();
        let waker = a.waker();
        std::thread::spawn(move || waker.wake());
        a.wait(LONG).unwrap();
    }

    #[test]
    fn a_flood_is_read_in_portions_and_what_was_lost_is_counted() {
        let (mut a, mut b) = pair();
        let to = b.bound(local()).unwrap();
        // One drain of nothing more: the counter comes with the packets that are left in the socket.
        let sent = (0..20_000).filter(|_| a.send(local(), to, &[7; 1200])).count() as u64;
        let mut total = Drained::default();
        while {
            let drained = b.drain(|_| {});
            total.packets += drained.packets;
            total.dropped += drained.dropped;
            drained.is_cut_short
        } {}
        assert!(a.send(local(), to, b"the counter as it is now"));
        b.wait(LONG).unwrap();
        let last = b.drain(|_| {});
        assert_eq!(total.packets + total.dropped + last.dropped, sent);
        assert!(total.dropped + last.dropped > 0);
    }

    #[test]
    fn a_packet_longer_than_ours_is_no_packet() {
        let (mut a, mut b) = pair();
        let to = b.bound(local()).unwrap();
        assert!(a.send(local(), to, &[7; PACKET_BYTES_MAX + 1]));
        assert!(a.send(local(), to, b""));
        b.wait(LONG).unwrap();
        let mut lengths = Vec::new();
        b.drain(|packet| lengths.push(packet.bytes.len()));
        assert_eq!(lengths, [0]);
    }

    #[test]
    fn an_address_that_is_missing_stops_nobody() {
        let missing: SocketAddr = "192.0.2.77:0".parse().unwrap();
        let mut sockets = BeatSockets::bind(&[local(), missing]).unwrap();
        assert_eq!(sockets.missing().collect::<Vec<_>>(), [missing]);
        assert!(!sockets.send(missing, local(), b"x"));
        assert_eq!(sockets.send_errors(missing), 1);
        sockets.rebind_at = Instant::now();
        assert_eq!(sockets.rebind().count(), 0);
        sockets.ends[1].local = second();
        assert_eq!(sockets.rebind().count(), 0, "once a second");
        sockets.rebind_at = Instant::now();
        assert_eq!(sockets.rebind().collect::<Vec<_>>(), [second()]);
        assert_eq!(sockets.missing().count(), 0);
    }

    #[test]
    fn a_taken_port_is_named() {
        let first = BeatSockets::bind(&[local()]).unwrap();
        let taken = first.bound(local()).unwrap();
        let error = BeatSockets::bind(&[taken]).unwrap_err();
        assert!(matches!(error, SocketError::Taken { address } if address == taken));
    }
}
