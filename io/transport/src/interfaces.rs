//! Which addresses does this machine have?
//!
//! Not here: which ones the cluster file gives it, and what follows if it has them not.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use nix::sys::socket::SockaddrStorage;

/// An address of an interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The name of the interface.
    pub interface: String,
    /// An address that the interface has, of either family.
    pub address: IpAddr,
    /// How many bits of it name its network; at most 32 or 128.
    pub prefix: u8,
}

/// Every address of every interface, those of the machine alone (loopback, link-local) left out.
///
/// # Errors
/// If the system does not tell.
pub fn interface_addresses() -> io::Result<Vec<InterfaceAddress>> {
    let found = nix::ifaddrs::getifaddrs()?;
    let ip = |address: Option<SockaddrStorage>| -> Option<IpAddr> {
        let address = address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let is_of_the_machine_alone =
        |address: &IpAddr| address.is_loopback() || matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let all = found.filter_map(|found| {
        let (interface, address) = (found.interface_name, ip(found.address)?);
        let prefix = ip(found.netmask).map_or(0, |mask| match mask {
            IpAddr::V4(mask) => mask.to_bits().count_ones(),
            IpAddr::V6(mask) => mask.to_bits().count_ones(),
        });
        Some(InterfaceAddress { interface, address, prefix: u8::try_from(prefix).unwrap_or(0) })
    });
    Ok(all.filter(|found| !is_of_the_machine_alone(&found.address)).collect())
}

/// Can this machine use this address as its own?
///
/// # Errors
/// If that cannot be found out.
pub fn has_address(address: IpAddr) -> io::Result<bool> {
    match UdpSocket::bind(SocketAddr::new(address, 0)) {
        Ok(_) => Ok(true),
        Err(cause) if cause.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(cause) => Err(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_its_loopback_and_no_address_of_the_documentation() {
        assert!(has_address("127.0.0.1".parse().unwrap()).unwrap());
        assert!(!has_address("192.0.2.77".parse().unwrap()).unwrap());
        for found in interface_addresses().unwrap() {
            assert!(!found.address.is_loopback() && found.prefix <= 128, "{found:?}");
        }
    }
}
