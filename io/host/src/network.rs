//! Who is plugged into which switch? Bridges, cables and addresses of a network namespace.
//!
//! A small rtnetlink client: one request, one acknowledgement. A [`Netlink`] stays bound to the namespace in which it
//! was opened, wherever its thread goes later, so that one thread can look into many namespaces.
//!
//! In: names, indexes, addresses. Out: what the kernel says.
//! Not here: which cable belongs to which node (`apps/cardea` lab), floating addresses of resources (`io/agents`).

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// Index of an interface in its namespace; 1 is `lo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkIndex(pub u32);

/// A number that interfaces share; 0 is everybody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkGroup(pub u32);

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: LinkIndex,
    /// Its name.
    pub name: String,
    /// Administratively up.
    pub is_up: bool,
    /// Has a carrier, and everything that follows from it has happened.
    pub is_running: bool,
    /// The kernel has seen it come up; an interface that is new can run before that.
    pub is_operational: bool,
}

/// What a bridge does with frames at one of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// Nothing passes; the carrier stays.
    Disabled,
    /// Everything passes.
    Forwarding,
}

/// A connection to the kernel's routing tables of one network namespace.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_ACK: u16 = 0x004;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_OPERSTATE: u16 = 16;
const IF_OPER_UP: u8 = 6;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BRPORT_STATE: u16 = 1;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const NESTED: u16 = 0x8000;
const IFF_UP: u32 = 0x1;
const IFF_RUNNING: u32 = 0x40;
const AF_BRIDGE: u8 = 7;
const IFA_F_NODAD: u8 = 0x02;
const HEADER: usize = 16;

impl Netlink {
    /// Opens a connection to the network namespace of the calling thread.
    pub fn open() -> io::Result<Netlink> {
        // Protocol 0 of this family is the routing one.
        Netlink::open_protocol(None)
    }

    fn open_protocol(protocol: Option<Protocol>) -> io::Result<Netlink> {
        let socket = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Makes a bridge without spanning tree or forwarding delay, and brings it up.
    ///
    /// It keeps `address`: left to itself, its hardware address changes with the cables that are plugged in.
    pub fn add_bridge(&mut self, name: &str, address: [u8; 6]) -> io::Result<LinkIndex> {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
        message.link_header(0, LinkIndex(0), IFF_UP, IFF_UP);
        message.text(IFLA_IFNAME, name);
        message.attribute(IFLA_ADDRESS, &address);
        message.nested(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "bridge");
            info.nested(IFLA_INFO_DATA, |data| {
                data.attribute(IFLA_BR_FORWARD_DELAY, &0u32.to_ne_bytes());
                data.attribute(IFLA_BR_STP_STATE, &0u32.to_ne_bytes());
                data.attribute(IFLA_BR_MCAST_SNOOPING, &[0]);
            });
        });
        self.call(message)?;
        self.index_of(name)
    }

    /// Lays a cable: one end here as `name`, the other in the namespace `there` as `peer`, with the hardware address
    /// `peer_address`. The end here is one of `group`, which can be removed as one.
    pub fn add_veth(
        &mut self,
        name: &str,
        group: LinkGroup,
        peer: &str,
        peer_address: [u8; 6],
        there: BorrowedFd<'_>,
    ) -> io::Result<LinkIndex> {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
        message.link_header(0, LinkIndex(0), 0, 0);
        message.text(IFLA_IFNAME, name);
        message.attribute(IFLA_GROUP, &group.0.to_ne_bytes());
        message.nested(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nested(IFLA_INFO_DATA, |data| {
                data.nested(VETH_INFO_PEER, |end| {
                    end.link_header(0, LinkIndex(0), 0, 0);
                    end.text(IFLA_IFNAME, peer);
                    end.attribute(IFLA_ADDRESS, &peer_address);
                    end.attribute(IFLA_NET_NS_FD, &there.as_raw_fd().to_ne_bytes());
                });
            });
        });
        self.call(message)?;
        self.index_of(name)
    }

    /// Removes every interface of a group, and with one end of a cable the other. An empty group is no error.
    ///
    /// Removing takes the kernel tens of milliseconds, however many interfaces they are.
    pub fn delete_group(&mut self, group: LinkGroup) -> io::Result<()> {
        let mut message = Message::new(RTM_DELLINK, 0);
        message.link_header(0, LinkIndex(0), 0, 0);
        message.attribute(IFLA_GROUP, &group.0.to_ne_bytes());
        match self.call(message) {
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(()),
            other => other,
        }
    }

    /// Plugs an interface into a bridge.
    pub fn set_master(&mut self, link: LinkIndex, bridge: LinkIndex) -> io::Result<()> {
        let mut message = Message::new(RTM_SETLINK, 0);
        message.link_header(0, link, 0, 0);
        message.attribute(IFLA_MASTER, &bridge.0.to_ne_bytes());
        self.call(message)
    }

    /// Brings an interface up or down.
    pub fn set_up(&mut self, link: LinkIndex, up: bool) -> io::Result<()> {
        let mut message = Message::new(RTM_SETLINK, 0);
        message.link_header(0, link, if up { IFF_UP } else { 0 }, IFF_UP);
        self.call(message)
    }

    /// Opens or closes the port of a bridge that `link` is plugged into.
    ///
    /// Fails if the interface is in no bridge; opening also fails while it is not running.
    pub fn set_port(&mut self, link: LinkIndex, state: PortState) -> io::Result<()> {
        let mut message = Message::new(RTM_SETLINK, 0);
        message.link_header(AF_BRIDGE, link, 0, 0);
        message.nested(IFLA_PROTINFO, |port| {
            let state = match state {
                PortState::Disabled => 0u8,
                PortState::Forwarding => 3u8,
            };
            port.attribute(IFLA_BRPORT_STATE, &[state]);
        });
        self.call(message)
    }

    /// Gives an interface an address; one that it has already is no error.
    pub fn add_address(&mut self, link: LinkIndex, address: IpAddr, prefix: u8) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
        let (family, bytes): (u8, Vec<u8>) = match address {
            IpAddr::V4(address) => (2, address.octets().to_vec()),
            IpAddr::V6(address) => (10, address.octets().to_vec()),
        };
        message.bytes(&[family, prefix, IFA_F_NODAD, 0]);
        message.bytes(&link.0.to_ne_bytes());
        message.attribute(IFA_LOCAL, &bytes);
        message.attribute(IFA_ADDRESS, &bytes);
        match self.call(message) {
            Err(error) if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => Ok(()),
            other => other,
        }
    }

    /// Every interface.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut message = Message::new(RTM_GETLINK, NLM_F_DUMP);
        message.link_header(0, LinkIndex(0), 0, 0);
        let mut links = Vec::new();
        self.dump(message, RTM_NEWLINK, |payload| {
            let (Some(index), Some(flags)) = (word(payload, 4), word(payload, 8)) else { return };
            let state = attributes(payload.get(16..).unwrap_or_default())
                .find(|(kind, _)| *kind == IFLA_OPERSTATE)
                .and_then(|(_, value)| value.first().copied());
            let name = attributes(payload.get(16..).unwrap_or_default())
                .find(|(kind, _)| *kind == IFLA_IFNAME)
                .map(|(_, value)| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned())
                .unwrap_or_default();
            links.push(Link {
                index: LinkIndex(index),
                name,
                is_up: flags & IFF_UP != 0,
                is_running: flags & IFF_RUNNING != 0,
                is_operational: state == Some(IF_OPER_UP),
            });
        })?;
        Ok(links)
    }

    /// The index of the interface of this name.
    pub fn index_of(&mut self, name: &str) -> io::Result<LinkIndex> {
        let links = self.links()?;
        links
            .into_iter()
            .find(|link| link.name == name)
            .map(|link| link.index)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no interface named {name}")))
    }

    /// Every address of every interface.
    pub fn addresses(&mut self) -> io::Result<Vec<(LinkIndex, IpAddr)>> {
        let mut message = Message::new(RTM_GETADDR, NLM_F_DUMP);
        message.bytes(&[0; 8]);
        let mut found = Vec::new();
        self.dump(message, RTM_NEWADDR, |payload| {
            let Some(index) = word(payload, 4) else { return };
            let mut address = None;
            for (kind, value) in attributes(payload.get(8..).unwrap_or_default()) {
                let parsed = <[u8; 4]>::try_from(value)
                    .map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
                    .or_else(|_| <[u8; 16]>::try_from(value).map(|octets| IpAddr::V6(Ipv6Addr::from(octets))));
                if let Ok(parsed) = parsed
                    && (kind == IFA_LOCAL || (kind == IFA_ADDRESS && address.is_none()))
                {
                    address = Some(parsed);
                }
            }
            found.extend(address.map(|address| (LinkIndex(index), address)));
        })?;
        Ok(found)
    }

    fn call(&mut self, message: Message) -> io::Result<()> {
        let sequence = self.send(message, NLM_F_ACK)?;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = self.receive(&mut buffer)?;
            for (kind, number, payload) in messages(&buffer[..length]) {
                if number == sequence && kind == NLMSG_ERROR {
                    return acknowledged(payload);
                }
            }
        }
    }

    fn dump(&mut self, message: Message, wanted: u16, mut on_each: impl FnMut(&[u8])) -> io::Result<()> {
        let sequence = self.send(message, 0)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = self.receive(&mut buffer)?;
            for (kind, number, payload) in messages(&buffer[..length]) {
                match kind {
                    _ if number != sequence => {}
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return acknowledged(payload),
                    kind if kind == wanted => on_each(payload),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, message: Message, flags: u16) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = message.finish(flags, self.sequence);
        net::send(&self.socket, &bytes, SendFlags::empty())?;
        Ok(self.sequence)
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match net::recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A window onto the listening sockets of one network namespace.
#[derive(Debug)]
pub struct Listeners {
    netlink: Netlink,
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const TCP: u8 = 6;
const TCP_LISTEN: u32 = 10;

impl Listeners {
    /// Opens a window onto the network namespace of the calling thread.
    pub fn open() -> io::Result<Listeners> {
        Ok(Listeners { netlink: Netlink::open_protocol(Some(netlink::SOCK_DIAG))? })
    }

    /// Does somebody listen on this TCP port of this address, or of all?
    ///
    /// Fails with `NotFound` on a kernel that cannot tell.
    pub fn contain(&mut self, address: Ipv4Addr, port: u16) -> io::Result<bool> {
        let mut message = Message::new(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
        message.bytes(&[2, TCP, 0, 0]);
        message.bytes(&(1u32 << TCP_LISTEN).to_ne_bytes());
        message.bytes(&[0; 48]);
        let mut found = false;
        self.netlink.dump(message, SOCK_DIAG_BY_FAMILY, |payload| {
            let (Some(local_port), Some(local)) = (payload.get(4..6), payload.get(8..12)) else { return };
            found |= *local_port == port.to_be_bytes() && (*local == address.octets() || *local == [0; 4]);
        })?;
        Ok(found)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn acknowledged(payload: &[u8]) -> io::Result<()> {
    match word(payload, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
        None => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_ne_bytes)
}

const fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

/// Type, sequence number and payload of each message in a datagram.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = word(bytes, 0)? as usize;
        let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((half(message, 4)?, word(message, 8)?, &message[HEADER..]))
    })
}

/// Type and value of each attribute.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0)?);
        let kind = half(bytes, 2)? & !NESTED;
        let attribute = bytes.get(..length).filter(|attribute| attribute.len() >= 4)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, &attribute[4..]))
    })
}

/// A request being written.
struct Message {
    bytes: Vec<u8>,
    flags: u16,
}

impl Message {
    fn new(kind: u16, flags: u16) -> Message {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        Message { bytes, flags }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn link_header(&mut self, family: u8, link: LinkIndex, flags: u32, change: u32) {
        self.bytes(&[family, 0, 0, 0]);
        self.bytes(&link.0.to_ne_bytes());
        self.bytes(&flags.to_ne_bytes());
        self.bytes(&change.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("an attribute is shorter than 64 KiB");
        self.bytes(&length.to_ne_bytes());
        self.bytes(&kind.to_ne_bytes());
        self.bytes(value);
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Message)) {
        let start = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).expect("an attribute is shorter than 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn finish(mut self, flags: u16, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).expect("a request is short");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&(self.flags | flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// Receives one message and at most `N` file descriptors that came with it.
///
/// Returns the bytes written to `buffer` and the descriptors, close-on-exec.
pub fn receive_with_descriptors(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = net::RecvAncillaryBuffer::new(&mut space);
    let mut parts = [io::IoSliceMut::new(buffer)];
    let received = net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control
        .drain()
        .filter_map(|message| match message {
            net::RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    Ok((received.bytes, descriptors))
}

/// Sends one message with at most three file descriptors.
pub fn send_with_descriptors(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = net::SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(net::SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok(net::sendmsg(socket, &[io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_as_it_was_written() {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE);
        message.link_header(0, LinkIndex(7), IFF_UP, IFF_UP);
        message.text(IFLA_IFNAME, "net1");
        message.nested(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "bridge"));
        let bytes = message.finish(NLM_F_ACK, 42);

        let (kind, sequence, payload) = messages(&bytes).next().expect("one message");
        assert_eq!((kind, sequence, word(payload, 4)), (RTM_NEWLINK, 42, Some(7)));
        let found: Vec<(u16, &[u8])> = attributes(&payload[16..]).collect();
        assert_eq!(found[0], (IFLA_IFNAME, b"net1\0".as_slice()));
        assert_eq!(found[1].0, IFLA_LINKINFO);
        assert_eq!(attributes(found[1].1).next(), Some((IFLA_INFO_KIND, b"bridge\0".as_slice())));
    }

    #[test]
    fn a_cut_message_ends_the_list_and_nothing_else() {
        let bytes = Message::new(RTM_NEWLINK, 0).finish(0, 1);
        assert_eq!(messages(&bytes[..10]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0, 5]).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
    }

    #[test]
    fn a_listener_is_seen_and_its_end_too() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut listeners = Listeners::open().expect("a window");
        assert!(listeners.contain(Ipv4Addr::LOCALHOST, port).expect("an answer"));
        assert!(!listeners.contain(Ipv4Addr::new(127, 0, 0, 2), port).expect("an answer"));
        drop(listener);
        assert!(!listeners.contain(Ipv4Addr::LOCALHOST, port).expect("an answer"));
    }

    #[test]
    fn every_namespace_has_a_loopback() {
        let mut netlink = Netlink::open().expect("netlink");
        assert_eq!(netlink.index_of("lo").expect("lo"), LinkIndex(1));
        assert!(netlink.index_of("no-such-link").is_err());
    }
}
