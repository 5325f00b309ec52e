//! Which cable is plugged in where? The bridges of the lab and the port of every node.
//!
//! In: plug, cut, heal, carrier, unplug. Out: what the bridges do. Lives in the hub's network namespace. A port that is
//! cut stays so while its node is off and after it is on again, until it is healed.
//! Not here: which packets are dropped (`filters.rs`), the node's end of the cable (`machine.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use host::network::{LinkGroup, LinkIndex, Netlink, PortState};

use super::layout::NetworkLayout;

/// Longest time for a carrier to be noticed.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// The switches of a lab.
pub struct Switches {
    netlink: Netlink,
    remover: Arc<Mutex<Netlink>>,
    bridges: Vec<LinkIndex>,
    ports: BTreeMap<Plug, Port>,
    /// Ports that somebody has cut, with or without a cable in them.
    cut: BTreeSet<Plug>,
}

/// Where a cable belongs: node number and network number, both from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plug {
    /// Position of the node in the layout.
    pub node: usize,
    /// Position of the network in the layout.
    pub network: usize,
}

/// One port and the cable in it.
#[derive(Clone, Copy, Debug)]
struct Port {
    link: LinkIndex,
    is_cut: bool,
    has_carrier: bool,
}

/// How a port is, for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortCondition {
    /// No cable: the node is off.
    Unplugged,
    /// The port is disabled.
    Cut,
    /// The node sees no carrier.
    NoCarrier,
    /// Works.
    Up,
}

impl PortCondition {
    /// As a word for people and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            PortCondition::Unplugged => "unplugged",
            PortCondition::Cut => "cut",
            PortCondition::NoCarrier => "no-carrier",
            PortCondition::Up => "up",
        }
    }
}

impl Switches {
    /// Makes a bridge per network in the namespace of the calling thread, each with the hub's address.
    pub fn build(networks: &[NetworkLayout]) -> io::Result<Switches> {
        let mut netlink = Netlink::open()?;
        let loopback = netlink.index_of("lo")?;
        netlink.set_up(loopback, true)?;
        bypass_packet_filters();
        let mut bridges = Vec::new();
        for (number, network) in (1..).zip(networks) {
            let octet = u8::try_from(number).expect("a lab is small");
            let bridge = netlink.add_bridge(&bridge_name(number), [0x02, 0x77, 0, 0, octet, 0xfe])?;
            netlink.add_address(bridge, network.hub, network.prefix)?;
            bridges.push(bridge);
        }
        let remover = Arc::new(Mutex::new(Netlink::open()?));
        Ok(Switches { netlink, remover, bridges, ports: BTreeMap::new(), cut: BTreeSet::new() })
    }

    /// Lays a cable from a free port to `ethN` in the network namespace `there`, and opens the port.
    pub fn plug(&mut self, plug: Plug, there: BorrowedFd<'_>) -> io::Result<()> {
        assert!(!self.ports.contains_key(&plug), "a port takes one cable");
        let number = |position: usize| u8::try_from(position + 1).expect("a lab is small");
        let address = [0x02, 0x77, 0, 0, number(plug.network), number(plug.node)];
        let link = self.netlink.add_veth(
            &cable_name(plug),
            group(plug.node),
            &format!("eth{}", plug.network),
            address,
            there,
        )?;
        self.netlink.set_master(link, self.bridges[plug.network])?;
        self.netlink.set_up(link, true)?;
        self.ports.insert(plug, Port { link, is_cut: false, has_carrier: true });
        Ok(())
    }

    /// Closes the ports of a node at once; the cables stay.
    pub fn disable(&mut self, node: usize) -> io::Result<()> {
        for (plug, port) in &mut self.ports {
            if plug.node == node {
                self.netlink.set_port(port.link, PortState::Disabled)?;
                port.is_cut = true;
            }
        }
        Ok(())
    }

    /// Pulls out the cables of a node; returns when they are gone from the switch.
    ///
    /// The kernel closes and unlists them within milliseconds and frees them tens of milliseconds later; a thread of its
    /// own waits for that, so that no fence does.
    pub fn unplug(&mut self, node: usize) -> io::Result<()> {
        let plugs: Vec<Plug> = self.ports.keys().copied().filter(|plug| plug.node == node).collect();
        let remover = Arc::clone(&self.remover);
        let removal = thread::Builder::new()
            .name("unplug".to_owned())
            .spawn(move || remover.lock().unwrap_or_else(PoisonError::into_inner).delete_group(group(node)))?;
        loop {
            let has_ended = removal.is_finished();
            let left = self.netlink.links()?;
            if !plugs.iter().any(|plug| left.iter().any(|link| link.name == cable_name(*plug))) {
                self.ports.retain(|plug, _| plug.node != node);
                return Ok(());
            }
            if has_ended {
                removal.join().unwrap_or_else(|_| Err(io::Error::other("removing the cables panicked")))?;
                return Err(io::Error::other("the cables of the node are still there"));
            }
            thread::yield_now();
        }
    }

    /// Waits until every cable of a node has a carrier and its port is open: the kernel takes notice of a carrier a
    /// moment later, and would open a port again that was closed meanwhile.
    pub fn settle(&mut self, node: usize) -> io::Result<()> {
        let begun = Instant::now();
        let plugs = self.ports.iter().filter(|(plug, port)| plug.node == node && port.has_carrier);
        let names: Vec<String> = plugs.map(|(plug, _)| cable_name(*plug)).collect();
        while begun.elapsed() < SETTLE_LIMIT {
            let links = self.netlink.links()?;
            if names.iter().all(|name| links.iter().any(|link| link.name == *name && link.is_running)) {
                return self.close_cut_ports(node);
            }
            thread::sleep(Duration::from_micros(200));
        }
        Err(io::Error::other("a cable of the node has no carrier"))
    }

    fn close_cut_ports(&mut self, node: usize) -> io::Result<()> {
        let plugs: Vec<Plug> = self.cut.iter().copied().filter(|plug| plug.node == node).collect();
        for plug in plugs {
            let Some(port) = self.ports.get(&plug).filter(|port| port.has_carrier).copied() else { continue };
            // A port that was closed before the kernel saw its carrier would be opened by that.
            let begun = Instant::now();
            while !self.netlink.links()?.iter().any(|link| link.index == port.link && link.is_operational) {
                if begun.elapsed() > SETTLE_LIMIT {
                    return Err(io::Error::other("a cable of the node has no carrier"));
                }
                thread::sleep(Duration::from_micros(200));
            }
            self.netlink.set_port(port.link, PortState::Disabled)?;
            self.ports.insert(plug, Port { is_cut: true, ..port });
        }
        Ok(())
    }

    /// Closes or opens one port, without a word to the node: its carrier stays.
    pub fn set_cut(&mut self, plug: Plug, cut: bool) -> io::Result<()> {
        if cut {
            self.cut.insert(plug);
        } else {
            self.cut.remove(&plug);
        }
        let Some(port) = self.ports.get_mut(&plug).filter(|port| port.is_cut != cut) else { return Ok(()) };
        // Without a carrier the port is closed anyway, and opens with it.
        if port.has_carrier {
            let state = if cut { PortState::Disabled } else { PortState::Forwarding };
            self.netlink.set_port(port.link, state)?;
        }
        port.is_cut = cut;
        Ok(())
    }

    /// Takes the node's carrier away, or gives it back.
    pub fn set_carrier(&mut self, plug: Plug, carrier: bool) -> io::Result<()> {
        let Some(port) = self.ports.get_mut(&plug).filter(|port| port.has_carrier != carrier) else { return Ok(()) };
        self.netlink.set_up(port.link, carrier)?;
        port.has_carrier = carrier;
        let (is_cut, link) = (port.is_cut, port.link);
        if carrier {
            self.settle(plug.node)?;
            if is_cut {
                self.netlink.set_port(link, PortState::Disabled)?;
            }
        }
        Ok(())
    }

    /// How a port is.
    pub fn condition(&self, plug: Plug) -> PortCondition {
        match self.ports.get(&plug) {
            None => PortCondition::Unplugged,
            Some(port) if !port.has_carrier => PortCondition::NoCarrier,
            Some(port) if port.is_cut => PortCondition::Cut,
            Some(_) => PortCondition::Up,
        }
    }
}

/// Makes the bridges switches: what crosses them is no business of the machine's packet filters for IP, which container
/// engines turn on for every bridge. Rules on the bridges themselves (`loss.rs`) work as before.
fn bypass_packet_filters() {
    for filters in ["ip", "ip6", "arp"] {
        // Absent where nothing has turned them on; where it is refused the lab is slower and works.
        let _ = fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{filters}tables"), "0");
    }
}

/// Name of the bridge of a network; numbers count from 1.
fn bridge_name(number: usize) -> String {
    format!("net{number}")
}

/// Name of the switch's end of a cable: network and node by number, so that long node names fit.
pub fn cable_name(plug: Plug) -> String {
    format!("{}{}", cable_prefix(plug.network + 1), plug.node + 1)
}

/// The cables of a node.
fn group(node: usize) -> LinkGroup {
    LinkGroup(u32::try_from(node).expect("a lab is small") + 1)
}

/// What the names of the cables of a network begin with; numbers count from 1.
pub fn cable_prefix(number: usize) -> String {
    format!("n{number}p")
}
