//! `cardea:ip`: how does a floating IPv4 address come here and leave?
//!
//! Where every earlier holder is proven gone, the address is added at once, announced, and only then is asked whether
//! somebody else has it: if so it is taken away again, and said so. Without that proof one question comes first.
//!
//! Parameters: `address` (`IP/PREFIX`), `device` (else the interface that has an address in the same subnet).

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use host::address::{Interface, add_address, interfaces, remove_address};
use host::arp::{self, Arp};
use host::limits::with_reserve;
use model::{AgentAction, CallKey, Outcome, ResourceName};

use crate::begin_thread;
use crate::call::{Call, failed, permanent, unknown};
use crate::watch::Watch;

/// How long an owner of the address has to answer.
const PROBE_WAIT: Duration = Duration::from_millis(200);
/// The question is put again after this time: it may get lost.
const PROBE_AGAIN: Duration = Duration::from_millis(100);
/// When the announcement is repeated, counted from the first.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(500);

pub(crate) fn run(call: &Call<'_>) -> Outcome {
    let wanted = match Wanted::parse(call) {
        Ok(wanted) => wanted,
        Err(reason) => return without_address(call, reason),
    };
    let answer = match (call.call.action, call.call.is_adoption) {
        (AgentAction::Start, is_adoption) => start(call, &wanted, is_adoption),
        (AgentAction::Stop, false) => stop(call, &wanted),
        // Taking away what may be there is safe at any time, and proves that it is gone.
        (AgentAction::Stop, true) => stop(call, &wanted).map(|_| Outcome::NotRunning),
        (AgentAction::Monitor, _) => monitor(call, &wanted),
    };
    answer.unwrap_or_else(|error| match (call.call.action, error.kind()) {
        (AgentAction::Monitor, _) => unknown(format!("{}: {error}", wanted.address)),
        (AgentAction::Start, io::ErrorKind::PermissionDenied) => {
            let reason = format!("no permission to change addresses: {error}");
            match interfaces() {
                Ok(found) if holders(&found, wanted.address).next().is_none() => call.not_begun(reason),
                Ok(_) | Err(_) => permanent(reason),
            }
        }
        (AgentAction::Start | AgentAction::Stop, _) => failed(format!("{}: {error}", wanted.address)),
    })
}

/// The answer where nobody can say which address it is.
fn without_address(call: &Call<'_>, reason: String) -> Outcome {
    let unreadable = call.why_unreadable("address");
    match (call.call.action, unreadable) {
        // What is no address is on no interface.
        (AgentAction::Stop, None) => Outcome::Success,
        (AgentAction::Stop, Some(why)) => match call.watch.address(&call.call.resource) {
            Some(address) => {
                call.watch.forget(&call.call.resource);
                match call.patiently(|| remove(address)) {
                    Ok(()) => Outcome::Success,
                    Err(error) => failed(format!("{address}: {error}")),
                }
            }
            None => call.cannot(why.clone()),
        },
        (AgentAction::Start | AgentAction::Monitor, why) => call.cannot(why.cloned().unwrap_or(reason)),
    }
}

/// What the parameters say.
struct Wanted {
    address: Ipv4Addr,
    prefix: Option<u8>,
    device: Option<String>,
}

impl Wanted {
    fn parse(call: &Call<'_>) -> Result<Wanted, String> {
        let text = call.parameters().get("address").ok_or("parameter `address` is missing")?;
        let (address, prefix) = parse_address(text)?;
        Ok(Wanted { address, prefix, device: call.parameters().get("device").cloned() })
    }

    /// The interface that the address goes to, and the length of the prefix that it gets there.
    fn place<'a>(&self, found: &'a [Interface]) -> Result<(&'a Interface, u8), String> {
        let address = self.address;
        if let Some(device) = &self.device {
            let interface = found
                .iter()
                .find(|interface| interface.name == *device)
                .ok_or_else(|| format!("there is no interface {device} on this node"))?;
            return Ok((interface, self.prefix.or(interface.subnet_of(address)).unwrap_or(32)));
        }
        let best = found
            .iter()
            .filter_map(|interface| Some((interface, interface.subnet_of(address)?)))
            .max_by_key(|(interface, prefix)| (*prefix, interface.is_up, std::cmp::Reverse(interface.index)));
        let (interface, subnet) = best.ok_or_else(|| {
            format!("no interface of this node has an address in the subnet of {address}; name one by `device`")
        })?;
        Ok((interface, self.prefix.unwrap_or(subnet)))
    }
}

fn parse_address(text: &str) -> Result<(Ipv4Addr, Option<u8>), String> {
    let wrong = || format!("parameter `address`: `{text}` is not IP/PREFIX, for example 10.0.0.5/24");
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse().ok().filter(|p| *p <= 32).ok_or_else(wrong)?)),
        None => (text, None),
    };
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
        return Err(format!("parameter `address`: {address} cannot be given to an interface"));
    }
    Ok((address, prefix))
}

/// The interfaces that have the address, with the prefix it has there.
fn holders(found: &[Interface], address: Ipv4Addr) -> impl Iterator<Item = (&Interface, u8)> {
    found.iter().flat_map(move |interface| {
        let own = interface.addresses.iter().filter(move |(own, _)| *own == address);
        own.map(move |(_, prefix)| (interface, *prefix))
    })
}

fn start(call: &Call<'_>, wanted: &Wanted, is_adoption: bool) -> io::Result<Outcome> {
    let address = wanted.address;
    let found = interfaces()?;
    let here = holders(&found, address).next();
    if is_adoption && here.is_none() {
        return Ok(Outcome::NotRunning);
    }
    let (interface, prefix) = match here {
        Some(here) => here,
        None => match wanted.place(&found) {
            Ok(place) => place,
            Err(reason) => return Ok(failed(reason)),
        },
    };
    if !interface.is_up {
        return Ok(failed(format!("{} is down", interface.name)));
    }
    let arp = Arp::open(interface)?;
    if here.is_none() {
        if !call.call.is_proven_free
            && let Some(arp) = &arp
            && let Some(owner) = ask_for_owner(arp, address)?
        {
            let owner = arp::show(owner);
            return Ok(failed(format!("{address} is in use: {owner} answers for it on {}", interface.name)));
        }
        add_address(interface.index, address, prefix)?;
    }
    call.watch.watch_address(&call.call.resource, call.call.key, address);
    if let Some(arp) = arp {
        arp.announce(address)?;
        let after = After {
            watch: Arc::clone(call.watch),
            resource: call.call.resource.clone(),
            key: call.call.key,
            index: interface.index,
            address,
            prefix,
            // Asked already, or asked at the start that this one finds done.
            asks: call.call.is_proven_free && here.is_none(),
        };
        if let Err(error) = begin_thread(move || after.run(&arp)) {
            tracing::warn!("{address} is announced only once: {error}");
        }
    }
    Ok(Outcome::Success)
}

/// Asks twice who has the address, and waits for an answer.
fn ask_for_owner(arp: &Arp, address: Ipv4Addr) -> io::Result<Option<arp::Hardware>> {
    arp.probe(address)?;
    if let Some(owner) = arp.listen(address, PROBE_AGAIN)? {
        return Ok(Some(owner));
    }
    arp.probe(address)?;
    arp.listen(address, PROBE_WAIT - PROBE_AGAIN)
}

/// What is still to be done once the address is here.
struct After {
    watch: Arc<Watch>,
    resource: ResourceName,
    key: CallKey,
    index: u32,
    address: Ipv4Addr,
    prefix: u8,
    asks: bool,
}

impl After {
    /// Announces twice more, and looks meanwhile whether somebody else answers for the address.
    fn run(&self, arp: &Arp) {
        let since = Instant::now();
        let result = || -> io::Result<()> {
            if self.asks {
                arp.probe(self.address)?;
            }
            if self.has_owner(arp, PROBE_AGAIN)? || !self.is_here() {
                return Ok(());
            }
            arp.announce(self.address)?;
            if self.asks {
                arp.probe(self.address)?;
            }
            if self.has_owner(arp, PROBE_WAIT - PROBE_AGAIN)? {
                return Ok(());
            }
            std::thread::sleep(ANNOUNCE_AGAIN.saturating_sub(since.elapsed()));
            if self.is_here() { arp.announce(self.address) } else { Ok(()) }
        };
        if let Err(error) = result() {
            tracing::warn!("{} could not be announced again: {error}", self.address);
        }
    }

    fn is_here(&self) -> bool {
        self.watch.has_address(&self.resource, self.key, self.address)
    }

    /// Listens for another owner; gives the address up if there is one.
    fn has_owner(&self, arp: &Arp, limit: Duration) -> io::Result<bool> {
        let owner = arp.listen(self.address, limit)?;
        let Some(owner) = owner.filter(|_| self.asks) else { return Ok(false) };
        if !self.watch.take_address(&self.resource, self.key, self.address) {
            return Ok(false);
        }
        // Removed before it is told: whoever hears of it may rely on it.
        let removed = remove_address(self.index, self.address, self.prefix);
        let end = match &removed {
            Ok(_) => "it was taken away here".to_owned(),
            Err(error) => format!("it could not be taken away here: {error}"),
        };
        self.watch.tell(self.key, format!("{} answers for {} as well; {end}", arp::show(owner), self.address));
        Ok(true)
    }
}

fn stop(call: &Call<'_>, wanted: &Wanted) -> io::Result<Outcome> {
    call.watch.forget(&call.call.resource);
    call.patiently(|| remove(wanted.address))?;
    Ok(Outcome::Success)
}

/// Takes the address off every interface.
fn remove(address: Ipv4Addr) -> io::Result<()> {
    let found = with_reserve(interfaces)?;
    holders(&found, address)
        .try_for_each(|(interface, prefix)| with_reserve(|| remove_address(interface.index, address, prefix)).map(drop))
}

/// Takes these addresses off every interface.
pub(crate) fn remove_all(addresses: &[Ipv4Addr]) {
    for address in addresses {
        if let Err(error) = remove(*address) {
            tracing::error!("{address} cannot be taken away: {error}");
        }
    }
}

fn monitor(call: &Call<'_>, wanted: &Wanted) -> io::Result<Outcome> {
    let found = with_reserve(interfaces)?;
    let Some((interface, _)) = holders(&found, wanted.address).next() else { return Ok(Outcome::NotRunning) };
    if let Some(key) = call.call.started_by {
        call.watch.watch_address(&call.call.resource, key, wanted.address);
    }
    if !interface.is_up {
        return Ok(failed(format!("{} is down", interface.name)));
    }
    Ok(Outcome::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str, addresses: &[(&str, u8)]) -> Interface {
        let addresses = addresses.iter().map(|(a, p)| (a.parse().unwrap(), *p)).collect();
        Interface { index, name: name.to_owned(), hardware: Some([2; 6]), is_up: true, addresses }
    }

    fn wanted(address: &str, device: Option<&str>) -> Wanted {
        let (address, prefix) = parse_address(address).unwrap();
        Wanted { address, prefix, device: device.map(str::to_owned) }
    }

    #[test]
    fn an_address_is_checked_before_anything_is_done_with_it() {
        assert_eq!(parse_address("10.0.0.5/24"), Ok((Ipv4Addr::new(10, 0, 0, 5), Some(24))));
        assert_eq!(parse_address("10.0.0.5"), Ok((Ipv4Addr::new(10, 0, 0, 5), None)));
        for wrong in ["", "10.0.0", "10.0.0.5/33", "10.0.0.5/x", "::1/64", "0.0.0.0/0", "224.0.0.1/4"] {
            assert!(parse_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_goes_where_its_subnet_is_unless_a_device_is_named() {
        let found = [
            interface(1, "lo", &[("127.0.0.1", 8)]),
            interface(2, "eth0", &[("10.77.1.1", 24)]),
            interface(3, "eth1", &[("10.77.2.1", 24)]),
        ];
        let place = |wanted: Wanted| wanted.place(&found).map(|(interface, prefix)| (interface.name.clone(), prefix));
        assert_eq!(place(wanted("10.77.2.100/24", None)), Ok(("eth1".to_owned(), 24)));
        assert_eq!(place(wanted("10.77.1.100", None)), Ok(("eth0".to_owned(), 24)));
        assert_eq!(place(wanted("192.0.2.1/32", Some("eth0"))), Ok(("eth0".to_owned(), 32)));
        assert!(place(wanted("192.0.2.1/32", None)).unwrap_err().contains("device"));
        assert!(place(wanted("192.0.2.1/32", Some("eth9"))).unwrap_err().contains("eth9"));
    }
}
