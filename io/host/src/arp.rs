//! Who answers for this IPv4 address, and how do the neighbours learn that we do?
//!
//! A probe asks for the owner of an address without claiming it; an announcement makes every neighbour replace what it
//! remembers. Both as RFC 5227 says; the announcement is sent as request and as reply, because some devices heed
//! only one of them.

use std::io;
use std::mem::size_of;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with};

use crate::address::Interface;

/// An Ethernet address.
pub type Hardware = [u8; 6];

const BROADCAST: Hardware = [0xff; 6];
const PACKET_BYTES: usize = 28;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

/// The ARP traffic of one interface.
#[derive(Debug)]
pub struct Arp {
    socket: OwnedFd,
    index: u32,
    hardware: Hardware,
}

impl Arp {
    /// Opens it; needs CAP_NET_RAW. `None` where addresses are not resolved by ARP.
    pub fn open(interface: &Interface) -> io::Result<Option<Arp>> {
        let Some(hardware) = interface.hardware else { return Ok(None) };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // The protocol comes with the binding: a socket that listens already is taken off all other interfaces first,
        // for which the kernel waits 10 to 20 ms.
        let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
        let arp = Arp { socket, index: interface.index, hardware };
        let address = arp.address(BROADCAST);
        // SAFETY: `address` is a live sockaddr_ll, and its true length is given.
        let answer = unsafe {
            libc::bind(arp.socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
        };
        if answer == 0 { Ok(Some(arp)) } else { Err(io::Error::last_os_error()) }
    }

    /// Tells every neighbour that the address is here.
    pub fn announce(&self, address: Ipv4Addr) -> io::Result<()> {
        self.send(&packet(REQUEST, self.hardware, address, [0; 6], address))?;
        self.send(&packet(REPLY, self.hardware, address, BROADCAST, address))
    }

    /// Asks who has the address, without claiming it.
    pub fn probe(&self, address: Ipv4Addr) -> io::Result<()> {
        self.send(&packet(REQUEST, self.hardware, Ipv4Addr::UNSPECIFIED, [0; 6], address))
    }

    /// Waits, at most this long, for somebody else to say that the address is his; returns who.
    pub fn listen(&self, address: Ipv4Addr, limit: Duration) -> io::Result<Option<Hardware>> {
        let deadline = Instant::now() + limit;
        let mut buffer = [0_u8; 64];
        loop {
            match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => {
                    if let Some(owner) = claim(&buffer[..length.min(64)], address).filter(|mac| *mac != self.hardware) {
                        return Ok(Some(owner));
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    let left = Timespec {
                        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                        tv_nsec: i64::from(left.subsec_nanos()),
                    };
                    match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left)) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn send(&self, packet: &[u8; PACKET_BYTES]) -> io::Result<()> {
        let address = self.address(BROADCAST);
        // SAFETY: packet and address are live, and their true lengths are given.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn address(&self, to: Hardware) -> libc::sockaddr_ll {
        let mut octets = [0; 8];
        octets[..6].copy_from_slice(&to);
        libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ARP as u16).to_be(),
            sll_ifindex: self.index.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: octets,
        }
    }
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
fn packet(kind: u8, from: Hardware, source: Ipv4Addr, to: Hardware, target: Ipv4Addr) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, kind]);
    packet[8..14].copy_from_slice(&from);
    packet[14..18].copy_from_slice(&source.octets());
    packet[18..24].copy_from_slice(&to);
    packet[24..28].copy_from_slice(&target.octets());
    packet
}

/// Who claims the address in this packet, if it is a claim.
fn claim(packet: &[u8], address: Ipv4Addr) -> Option<Hardware> {
    let is_arp = packet.get(..7)? == [0, 1, 8, 0, 6, 4, 0] && matches!(packet.get(7)?, &REQUEST | &REPLY);
    let says_so = packet.get(14..18)? == address.octets();
    let _whole = packet.get(..PACKET_BYTES)?;
    (is_arp && says_so).then(|| packet.get(8..14)?.try_into().ok())?
}

/// An Ethernet address as people write it.
pub fn show(hardware: Hardware) -> String {
    hardware.map(|octet| format!("{octet:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: Hardware = [2, 0, 0, 0, 0, 9];

    #[test]
    fn an_answer_claims_the_address_and_a_question_does_not() {
        let address: Ipv4Addr = "10.77.1.100".parse().unwrap();
        let asker: Ipv4Addr = "10.77.1.1".parse().unwrap();
        assert_eq!(claim(&packet(REPLY, OTHER, address, BROADCAST, asker), address), Some(OTHER));
        assert_eq!(claim(&packet(REQUEST, OTHER, address, [0; 6], address), address), Some(OTHER), "an announcement");
        assert_eq!(claim(&packet(REQUEST, OTHER, asker, [0; 6], address), address), None);
        assert_eq!(claim(&packet(REQUEST, OTHER, Ipv4Addr::UNSPECIFIED, [0; 6], address), address), None, "a probe");
    }

    #[test]
    fn garbage_claims_nothing() {
        let address: Ipv4Addr = "10.77.1.100".parse().unwrap();
        assert_eq!(claim(&[], address), None);
        assert_eq!(claim(&packet(REPLY, OTHER, address, BROADCAST, address)[..20], address), None);
        assert_eq!(claim(&packet(7, OTHER, address, BROADCAST, address), address), None);
        assert_eq!(claim(&[0xff; 64], address), None);
    }

    #[test]
    fn an_ethernet_address_reads_as_usual() {
        assert_eq!(show(OTHER), "02:00:00:00:00:09");
    }
}
