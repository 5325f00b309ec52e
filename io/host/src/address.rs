//! Which interfaces are here, which IPv4 addresses do they have, and how does one come or go?
//!
//! Plain request and answer over a netlink socket that lives for one call: a few system calls, no task, no thread, so
//! that a floating address is up well within a millisecond.
//!
//! Not here: telling the neighbours (`arp.rs`), bridges and namespaces (`network.rs`).
//!
//! Sources: RFC 3549; linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; none where addresses are not resolved by ARP (loopback, tunnels).
    pub hardware: Option<[u8; 6]>,
    /// Is it up, with a carrier?
    pub is_up: bool,
    /// Its IPv4 addresses with the lengths of their prefixes.
    pub addresses: Vec<(Ipv4Addr, u8)>,
}

impl Interface {
    /// The longest prefix of its addresses in whose subnet `address` lies, `address` itself not counted.
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<u8> {
        self.addresses
            .iter()
            .filter(|(own, prefix)| *own != address && subnet(*own, *prefix) == subnet(address, *prefix))
            .map(|(_, prefix)| *prefix)
            .max()
    }
}

fn subnet(address: Ipv4Addr, prefix: u8) -> u32 {
    u32::from(address) & u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

/// Every interface of this network namespace, in the order of the numbers.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let connection = Connection::open(0)?;
    let mut found = BTreeMap::new();
    connection.request(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; 16], |message| {
        if let Some(interface) = parse_link(message) {
            found.insert(interface.index, interface);
        }
    })?;
    let all_ipv4 = address_header(0, 0);
    connection.request(libc::RTM_GETADDR, libc::NLM_F_DUMP, &all_ipv4, |message| {
        if let Some((index, address, prefix)) = parse_address(message)
            && let Some(interface) = found.get_mut(&index)
        {
            interface.addresses.push((address, prefix));
        }
    })?;
    Ok(found.into_values().collect())
}

/// Gives the interface an address; `false` if it has it already.
pub fn add_address(index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<bool> {
    change_address(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, index, address, prefix)
        .or_else(|error| if error.raw_os_error() == Some(libc::EEXIST) { Ok(false) } else { Err(error) })
}

/// Takes an address from the interface; `false` if it did not have it.
pub fn remove_address(index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<bool> {
    change_address(libc::RTM_DELADDR, 0, index, address, prefix).or_else(|error| match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL | libc::ENODEV) => Ok(false),
        _ => Err(error),
    })
}

fn change_address(kind: u16, flags: libc::c_int, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<bool> {
    let mut body = address_header(prefix, index).to_vec();
    attribute(&mut body, libc::IFA_LOCAL, &address.octets());
    attribute(&mut body, libc::IFA_ADDRESS, &address.octets());
    if kind == libc::RTM_NEWADDR && prefix < 31 {
        let broadcast = u32::from(address) | u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        attribute(&mut body, libc::IFA_BROADCAST, &Ipv4Addr::from(broadcast).octets());
    }
    Connection::open(0)?.request(kind, flags | libc::NLM_F_ACK, &body, |_| {})?;
    Ok(true)
}

/// Sees addresses vanish from this network namespace.
#[derive(Debug)]
pub struct AddressWatch {
    connection: Connection,
}

impl AddressWatch {
    /// Watches from here on.
    pub fn open() -> io::Result<AddressWatch> {
        Ok(AddressWatch { connection: Connection::open(libc::RTMGRP_IPV4_IFADDR as u32)? })
    }

    /// The addresses that vanished since the last call, with the number of their interface; never waits.
    ///
    /// `None` if notices were lost: then the caller looks for itself.
    pub fn vanished(&self) -> Option<Vec<(u32, Ipv4Addr)>> {
        let mut gone = Vec::new();
        let mut buffer = vec![0_u8; BUFFER_BYTES];
        loop {
            match recv(&self.connection.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    for message in messages(&buffer[..length]).filter(|m| m.kind == libc::RTM_DELADDR) {
                        gone.extend(parse_address(message.body).map(|(index, address, _)| (index, address)));
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Some(gone),
                Err(_) => return None,
            }
        }
    }
}

impl AsFd for AddressWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.socket.as_fd()
    }
}

/// Larger than any message that the kernel sends (it fills up to 32 KiB).
const BUFFER_BYTES: usize = 64 * 1024;
const HEADER_BYTES: usize = 16;

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
}

struct Message<'a> {
    kind: u16,
    body: &'a [u8],
}

impl Connection {
    fn open(groups: u32) -> io::Result<Connection> {
        // Protocol 0 of this family is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Connection { socket })
    }

    /// Sends a request and reads the answers up to the last one.
    fn request(&self, kind: u16, flags: libc::c_int, body: &[u8], mut on_answer: impl FnMut(&[u8])) -> io::Result<()> {
        let length = u32::try_from(HEADER_BYTES + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut request = Vec::with_capacity(HEADER_BYTES + body.len());
        request.extend_from_slice(&length.to_ne_bytes());
        request.extend_from_slice(&kind.to_ne_bytes());
        request.extend_from_slice(&flags.to_ne_bytes());
        request.extend_from_slice(&1_u32.to_ne_bytes());
        request.extend_from_slice(&0_u32.to_ne_bytes());
        request.extend_from_slice(body);
        send(&self.socket, &request, SendFlags::empty())?;
        let mut buffer = vec![0_u8; BUFFER_BYTES];
        loop {
            let length = match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in messages(&buffer[..length]) {
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        return match read_u32(message.body, 0).map(u32::cast_signed) {
                            Some(0) => Ok(()),
                            Some(error) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
                            None => Err(io::ErrorKind::InvalidData.into()),
                        };
                    }
                    _ => on_answer(message.body),
                }
            }
        }
    }
}

fn messages(buffer: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let length = usize::try_from(read_u32(rest, 0)?).ok()?;
        let body = rest.get(HEADER_BYTES..length)?;
        let kind = read_u16(rest, 4)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Message { kind, body })
    })
}

fn attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(rest, 0)?);
        let value = rest.get(4..length)?;
        let kind = read_u16(rest, 2)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("attributes are written here, and short");
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// `struct ifaddrmsg` of an IPv4 address.
fn address_header(prefix: u8, index: u32) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    [libc::AF_INET as u8, prefix, 0, 0, a, b, c, d]
}

/// Interface, address and prefix of an address message; `None` if it is not about IPv4.
fn parse_address(message: &[u8]) -> Option<(u32, Ipv4Addr, u8)> {
    if i32::from(*message.first()?) != libc::AF_INET {
        return None;
    }
    let prefix = *message.get(1)?;
    let index = read_u32(message, 4)?;
    let (mut local, mut peer) = (None, None);
    for (kind, value) in attributes(message.get(8..)?) {
        let address = <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
        match kind {
            libc::IFA_LOCAL => local = address,
            libc::IFA_ADDRESS => peer = address,
            _ => {}
        }
    }
    Some((index, local.or(peer)?, prefix))
}

fn parse_link(message: &[u8]) -> Option<Interface> {
    let index = read_u32(message, 4)?;
    let flags = read_u32(message, 8)?.cast_signed();
    let (mut name, mut hardware) = (None, None);
    for (kind, value) in attributes(message.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => {
                let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
                name = Some(String::from_utf8_lossy(&value[..end]).into_owned());
            }
            libc::IFLA_ADDRESS => hardware = <[u8; 6]>::try_from(value).ok(),
            _ => {}
        }
    }
    let has_arp = flags & (libc::IFF_NOARP | libc::IFF_LOOPBACK) == 0;
    let is_up = flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0;
    Some(Interface { index, name: name?, hardware: hardware.filter(|_| has_arp), is_up, addresses: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(addresses: &[(&str, u8)]) -> Interface {
        Interface {
            index: 2,
            name: "eth0".into(),
            hardware: Some([2, 0, 0, 0, 0, 1]),
            is_up: true,
            addresses: addresses.iter().map(|(a, p)| (a.parse().unwrap(), *p)).collect(),
        }
    }

    #[test]
    fn an_address_belongs_where_its_subnet_is() {
        let eth0 = interface(&[("10.77.1.1", 24), ("10.0.0.1", 8)]);
        assert_eq!(eth0.subnet_of("10.77.1.100".parse().unwrap()), Some(24));
        assert_eq!(eth0.subnet_of("10.77.2.100".parse().unwrap()), Some(8));
        assert_eq!(eth0.subnet_of("192.168.1.1".parse().unwrap()), None);
        assert_eq!(interface(&[("10.77.1.100", 24)]).subnet_of("10.77.1.100".parse().unwrap()), None, "not by itself");
        assert_eq!(interface(&[("1.2.3.4", 0)]).subnet_of("9.9.9.9".parse().unwrap()), Some(0));
    }

    #[test]
    fn loopback_is_there_and_resolves_nothing_by_arp() {
        let found = interfaces().unwrap();
        let loopback = found.iter().find(|i| i.name == "lo").expect("every namespace has a loopback interface");
        assert_eq!(loopback.hardware, None);
    }

    #[test]
    fn garbage_from_the_socket_is_no_message() {
        assert_eq!(messages(&[1, 2, 3]).count(), 0);
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(messages(&[0xff; 64]).count(), 0);
        assert!(parse_link(&[0; 7]).is_none());
        assert!(parse_address(&[2, 24, 0, 0, 1, 0, 0, 0, 9, 0, 1]).is_none());
    }

    #[test]
    fn what_is_not_permitted_or_not_there_is_an_error() {
        assert!(add_address(u32::MAX, "192.0.2.1".parse().unwrap(), 24).is_err());
    }
}
