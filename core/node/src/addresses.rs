//! Where is everybody, and which earlier addresses are still needed?
//!
//! The cluster file says who is where. Nodes take a new version at slightly different times, and what it says may be
//! wrong: an address that its machine does not have, a network that carries nothing. So an address that is replaced
//! stays in use next to the new one, on each link and towards each peer, until heartbeats have flowed both ways between
//! the new ones. A network that is removed stays until another one to that peer is proven.
//!
//! In: the links of a newer version, the detector's reports. Out: what to listen on, and between what to send.
//! Not here: sockets (the driver's), what proves a link (`liveness`), whether a version is accepted (`state`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use liveness::{LinkReport, Path};
use model::{ConfigVersion, LinkId, NodeId};

/// Earlier addresses that one link keeps at most.
const FORMER_MAX: usize = 4;

/// The addresses in use; the driver keeps them over a restart.
///
/// The next worker may begin with an older log than these were taken from: they are never replaced by older ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The version of the cluster file that they are taken from; 0 if unknown.
    pub version: ConfigVersion,
    /// This node's, by link.
    pub own: Vec<Place>,
    /// Those of the other members, by link.
    pub peers: BTreeMap<NodeId, Vec<Place>>,
    /// Links to a peer on which earlier addresses are in use, since the agreed ones are not proven.
    unproven: BTreeSet<(NodeId, LinkId)>,
}

/// Where a node is on one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The agreed address; none if the agreed configuration has no such network.
    pub agreed: Option<IpAddr>,
    /// Earlier ones that are still in use, the latest first; at most four.
    pub former: Vec<IpAddr>,
}

impl Place {
    /// A place whose address is not in doubt.
    pub fn at(address: IpAddr) -> Place {
        Place { agreed: Some(address), former: Vec::new() }
    }

    /// Every address in use here, the agreed one first.
    pub fn all(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.agreed.into_iter().chain(self.former.iter().copied())
    }

    /// Takes another agreed address. `is_kept`: the present one has worked, so that it stays in use.
    fn move_to(&mut self, address: Option<IpAddr>, is_kept: bool) -> bool {
        if self.agreed == address {
            return false;
        }
        if let Some(replaced) = self.agreed.filter(|_| is_kept) {
            self.former.insert(0, replaced);
            // The oldest is the one that is known to have worked.
            if self.former.len() > FORMER_MAX {
                self.former.remove(FORMER_MAX - 1);
            }
        }
        self.agreed = address;
        self.former.retain(|former| Some(*former) != address);
        true
    }
}

/// A link to a peer whose agreed addresses have not carried heartbeats both ways yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// The member at the other end.
    pub peer: NodeId,
    /// The position of the network in the cluster file, from 0.
    pub link: LinkId,
    /// The agreed addresses, this node's first; none if the network is removed from the cluster file.
    pub agreed: Option<(IpAddr, IpAddr)>,
}

impl Addresses {
    /// What a driver has stored. Where an earlier address is in use, the agreed one counts as not proven.
    pub fn stored(version: ConfigVersion, own: Vec<Place>, peers: BTreeMap<NodeId, Vec<Place>>) -> Addresses {
        let mut addresses = Addresses { version, own, peers, unproven: BTreeSet::new() };
        let places = addresses.peers.iter();
        let pairs = places.flat_map(|(peer, places)| (0..places.len()).map(|n| (*peer, link_of(n))));
        addresses.unproven = pairs.collect();
        addresses.tidy();
        addresses
    }

    /// Takes the links of a version that is not older; says whether anything changed.
    pub(crate) fn take(
        &mut self,
        version: ConfigVersion,
        own: &[IpAddr],
        peers: &BTreeMap<NodeId, Vec<IpAddr>>,
    ) -> bool {
        let before = (self.version, self.own.clone(), self.peers.clone());
        self.version = version;
        self.peers.retain(|peer, _| peers.contains_key(peer));
        for n in 0..self.own.len().max(own.len()) {
            if n == self.own.len() {
                self.own.push(Place::default());
            }
            let is_proven = self.peers.keys().any(|peer| !self.unproven.contains(&(*peer, link_of(n))));
            let place = &mut self.own[n];
            if place.move_to(own.get(n).copied(), place.former.is_empty() || is_proven) {
                self.unproven.extend(self.peers.keys().map(|peer| (*peer, link_of(n))));
            }
        }
        for (peer, links) in peers {
            let places = self.peers.entry(*peer).or_default();
            for n in 0..places.len().max(links.len()) {
                if n == places.len() {
                    places.push(Place::default());
                }
                let pair = (*peer, link_of(n));
                let place = &mut places[n];
                if place.move_to(links.get(n).copied(), place.former.is_empty() || !self.unproven.contains(&pair)) {
                    self.unproven.insert(pair);
                }
            }
        }
        self.tidy();
        before != (self.version, self.own.clone(), self.peers.clone())
    }

    /// Lets go of what the detector's report about a peer shows to be needed no longer; says whether anything changed.
    pub(crate) fn prove(&mut self, peer: NodeId, links: &[LinkReport]) -> bool {
        let agreed = self.agreed_links(peer);
        let is_proven = |link: LinkId| {
            let mut reports = links.iter().filter(|report| usize::from(report.link.0) < agreed);
            let counts = |report: &LinkReport| report.proven == Some(self.version);
            if usize::from(link.0) < agreed {
                reports.any(|report| report.link == link && counts(report))
            } else {
                reports.any(counts)
            }
        };
        let before = self.unproven.len();
        let kept = |pair: &(NodeId, LinkId)| pair.0 != peer || !is_proven(pair.1);
        self.unproven = self.unproven.iter().copied().filter(kept).collect();
        let has_changed = self.unproven.len() < before;
        if has_changed {
            self.tidy();
        }
        has_changed
    }

    /// How many links lead to a peer: the links 0..n, removed ones that are still in use included.
    pub fn links_to(&self, peer: NodeId) -> u8 {
        let count = self.peers.get(&peer).map_or(0, Vec::len).min(self.own.len());
        let is_used = |n: &usize| !self.ways(peer, link_of(*n)).is_empty();
        u8::try_from((0..count).rev().find(is_used).map_or(0, |last| last + 1)).unwrap_or(u8::MAX)
    }

    /// Between which addresses something for a peer goes over a link: from, to. The agreed ones come first.
    pub fn ways(&self, peer: NodeId, link: LinkId) -> Vec<(IpAddr, IpAddr)> {
        let n = usize::from(link.0);
        let (Some(own), Some(place)) = (self.own.get(n), self.peers.get(&peer).and_then(|places| places.get(n))) else {
            return Vec::new();
        };
        let is_unproven = self.unproven.contains(&(peer, link));
        let pairs = own.all().flat_map(|from| place.all().map(move |to| (from, to)));
        let is_used = |(from, to): &(IpAddr, IpAddr)| {
            from.is_ipv4() == to.is_ipv4() && (is_unproven || Some(*from) == own.agreed && Some(*to) == place.agreed)
        };
        pairs.filter(is_used).collect()
    }

    /// Every way to a peer, by link.
    pub fn all_ways(&self, peer: NodeId) -> impl Iterator<Item = (LinkId, IpAddr, IpAddr)> + '_ {
        (0..self.links_to(peer))
            .map(LinkId)
            .flat_map(move |link| self.ways(peer, link).into_iter().map(move |(from, to)| (link, from, to)))
    }

    /// Where to connect to a peer, best first: proven addresses, then earlier ones, then those not yet proven.
    pub fn to_connect(&self, peer: NodeId) -> Vec<IpAddr> {
        let places = || self.peers.get(&peer).into_iter().flatten().enumerate();
        let is_unproven = |n: &usize| self.unproven.contains(&(peer, link_of(*n)));
        let proven = places().filter(|(n, _)| !is_unproven(n)).filter_map(|(_, place)| place.agreed);
        let former = places().flat_map(|(_, place)| place.former.iter().copied());
        let rest = places().filter(|(n, _)| is_unproven(n)).filter_map(|(_, place)| place.agreed);
        let mut all = Vec::new();
        for address in proven.chain(former).chain(rest) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }

    /// Every address to listen on.
    pub fn to_listen(&self) -> BTreeSet<IpAddr> {
        self.own.iter().flat_map(Place::all).collect()
    }

    /// How a packet of a peer for a link came, or none if it came to an address that is not one of that link.
    pub fn path(&self, link: LinkId, own: IpAddr, peer: NodeId, from: IpAddr) -> Option<Path> {
        let n = usize::from(link.0);
        let place = self.own.get(n).filter(|place| place.all().any(|address| address == own))?;
        let agreed = self.peers.get(&peer).and_then(|places| places.get(n)).and_then(|place| place.agreed);
        let is_agreed = place.agreed == Some(own) && agreed == Some(from);
        Some(if is_agreed { Path::Agreed } else { Path::Former })
    }

    /// The links on which earlier addresses are still in use.
    pub fn unproven(&self) -> impl Iterator<Item = Unproven> + '_ {
        self.unproven.iter().map(|(peer, link)| {
            let n = usize::from(link.0);
            let of_peer = self.peers.get(peer).and_then(|places| places.get(n)).and_then(|place| place.agreed);
            let agreed = self.own.get(n).and_then(|place| place.agreed).zip(of_peer);
            Unproven { peer: *peer, link: *link, agreed }
        })
    }

    /// How many links to a peer the agreed configuration has.
    fn agreed_links(&self, peer: NodeId) -> usize {
        let count = |places: &[Place]| places.iter().take_while(|place| place.agreed.is_some()).count();
        self.peers.get(&peer).map_or(0, |places| count(places)).min(count(&self.own))
    }

    /// Forgets earlier addresses that nobody is waited for with, and networks without any address.
    fn tidy(&mut self) {
        let Addresses { own, peers, unproven, .. } = self;
        let has_former = |places: &[Place], n: usize| places.get(n).is_some_and(|place| !place.former.is_empty());
        unproven.retain(|(peer, link)| {
            let n = usize::from(link.0);
            let Some(places) = peers.get(peer) else { return false };
            // An end without any address on this network has no way to keep.
            let is_there = |places: &[Place]| places.get(n).is_some_and(|place| place.all().next().is_some());
            is_there(own) && is_there(places) && (has_former(own, n) || has_former(places, n))
        });
        for (n, place) in own.iter_mut().enumerate() {
            if !unproven.iter().any(|(_, link)| *link == link_of(n)) {
                place.former.clear();
            }
        }
        for (peer, places) in peers.iter_mut() {
            for (n, place) in places.iter_mut().enumerate() {
                if !unproven.contains(&(*peer, link_of(n))) {
                    place.former.clear();
                }
            }
        }
        for places in std::iter::once(own).chain(peers.values_mut()) {
            while places.last().is_some_and(|place| *place == Place::default()) {
                places.pop();
            }
        }
    }
}

fn link_of(position: usize) -> LinkId {
    LinkId(u8::try_from(position).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use liveness::LinkState;

    use super::*;

    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| ip(text)).collect()
    }

    /// This node, b and c on two networks, as version 5 says and as it has long been.
    fn begun() -> Addresses {
        let mut addresses = Addresses::default();
        take(&mut addresses, 5, &["10.0.0.1", "10.0.1.1"]);
        assert_eq!(addresses.unproven().count(), 0, "the first addresses replace none");
        addresses
    }

    fn take(addresses: &mut Addresses, version: u64, own: &[&str]) -> bool {
        let peers = BTreeMap::from([(B, ips(&["10.0.0.2", "10.0.1.2"])), (C, ips(&["10.0.0.3", "10.0.1.3"]))]);
        let peers = peers.into_iter().map(|(peer, links)| (peer, links[..own.len().min(2)].to_vec())).collect();
        addresses.take(ConfigVersion(version), &ips(own), &peers)
    }

    fn report(links: &[(u8, u64)]) -> Vec<LinkReport> {
        let report = |(link, version): &(u8, u64)| LinkReport {
            link: LinkId(*link),
            state: LinkState::Up,
            is_two_way: true,
            proven: Some(ConfigVersion(*version)),
            rtt: None,
            loss_permille: 0,
        };
        links.iter().map(report).collect()
    }

    #[test]
    fn an_address_that_is_replaced_stays_in_use_until_every_peer_is_heard_at_the_new_one() {
        let mut addresses = begun();
        assert!(take(&mut addresses, 9, &["10.0.0.9", "10.0.1.1"]));
        let both = BTreeSet::from([ip("10.0.0.1"), ip("10.0.0.9"), ip("10.0.1.1")]);
        assert_eq!(addresses.to_listen(), both);
        let ways = [(ip("10.0.0.9"), ip("10.0.0.2")), (ip("10.0.0.1"), ip("10.0.0.2"))];
        assert_eq!(addresses.ways(B, LinkId(0)), ways);
        assert_eq!(addresses.ways(B, LinkId(1)).len(), 1, "what did not change is sent once");
        assert_eq!(addresses.path(LinkId(0), ip("10.0.0.1"), B, ip("10.0.0.2")), Some(Path::Former));
        assert_eq!(addresses.path(LinkId(0), ip("10.0.0.9"), B, ip("10.0.0.2")), Some(Path::Agreed));
        assert_eq!(addresses.path(LinkId(1), ip("10.0.0.9"), B, ip("10.0.0.2")), None, "of another link");

        assert!(!addresses.prove(B, &report(&[(0, 5), (1, 9)])), "a word about the former version proves nothing");
        assert!(addresses.prove(B, &report(&[(0, 9)])));
        assert_eq!(addresses.ways(B, LinkId(0)), ways[..1]);
        assert_eq!(addresses.to_listen(), both, "c may still speak to the former one");
        assert!(addresses.prove(C, &report(&[(0, 9)])));
        assert_eq!(addresses.to_listen(), BTreeSet::from([ip("10.0.0.9"), ip("10.0.1.1")]));
        assert_eq!(addresses.unproven().count(), 0);
    }

    #[test]
    fn an_address_that_never_carried_anything_is_forgotten_and_the_working_one_kept() {
        let mut addresses = begun();
        for (version, wrong) in [(9, "10.0.0.91"), (12, "10.0.0.92"), (15, "10.0.0.93")] {
            assert!(take(&mut addresses, version, &[wrong, "10.0.1.1"]));
            assert_eq!(addresses.own[0], Place { agreed: Some(ip(wrong)), former: vec![ip("10.0.0.1")] });
        }
        assert!(take(&mut addresses, 20, &["10.0.0.1", "10.0.1.1"]), "back to the address that works");
        assert_eq!(addresses.own[0], Place::at(ip("10.0.0.1")));
        assert_eq!(addresses.ways(B, LinkId(0)), [(ip("10.0.0.1"), ip("10.0.0.2"))]);
    }

    #[test]
    fn the_working_end_of_a_link_is_kept_though_the_other_end_is_in_doubt() {
        let mut addresses = begun();
        assert!(take(&mut addresses, 9, &["10.0.0.91", "10.0.1.1"]));
        let own = ips(&["10.0.0.91", "10.0.1.1"]);
        let peers = BTreeMap::from([(B, ips(&["10.0.0.92", "10.0.1.2"])), (C, ips(&["10.0.0.3", "10.0.1.3"]))]);
        assert!(addresses.take(ConfigVersion(12), &own, &peers));
        assert!(addresses.ways(B, LinkId(0)).contains(&(ip("10.0.0.1"), ip("10.0.0.2"))), "{addresses:?}");
    }

    #[test]
    fn a_removed_network_is_used_until_another_one_to_that_peer_is_proven() {
        let mut addresses = begun();
        assert!(take(&mut addresses, 9, &["10.0.0.1"]));
        assert_eq!(addresses.links_to(B), 2);
        assert!(addresses.prove(B, &report(&[(0, 9)])));
        assert_eq!((addresses.links_to(B), addresses.links_to(C)), (1, 2));
        assert!(addresses.prove(C, &report(&[(0, 9)])));
        assert_eq!(addresses.to_listen(), BTreeSet::from([ip("10.0.0.1")]));
        assert_eq!(addresses.own.len(), 1);
    }

    #[test]
    fn links_in_another_order_keep_both_orders_until_one_is_proven() {
        let mut addresses = begun();
        assert!(take(&mut addresses, 9, &["10.0.1.1", "10.0.0.1"]));
        for (link, former) in [(0, "10.0.0.1"), (1, "10.0.1.1")] {
            let to = if link == 0 { "10.0.0.2" } else { "10.0.1.2" };
            assert!(addresses.ways(B, LinkId(link)).contains(&(ip(former), ip(to))));
            assert_eq!(addresses.path(LinkId(link), ip(former), B, ip(to)), Some(Path::Former));
        }
        assert_eq!(addresses.to_listen().len(), 2);
    }

    #[test]
    fn a_node_alone_needs_no_proof() {
        let mut addresses = Addresses::default();
        assert!(addresses.take(ConfigVersion(1), &ips(&["10.0.0.1"]), &BTreeMap::new()));
        assert!(addresses.take(ConfigVersion(2), &ips(&["10.0.0.9"]), &BTreeMap::new()));
        assert_eq!(addresses.to_listen(), BTreeSet::from([ip("10.0.0.9")]));
    }

    #[test]
    fn what_was_stored_is_in_doubt_where_a_former_address_is_in_use() {
        let mut addresses = begun();
        assert!(take(&mut addresses, 9, &["10.0.0.9", "10.0.1.1"]));
        let again = Addresses::stored(addresses.version, addresses.own.clone(), addresses.peers.clone());
        assert_eq!(again, addresses);
        let doubt = |peer| Unproven {
            peer,
            link: LinkId(0),
            agreed: Some((ip("10.0.0.9"), ip(if peer == B { "10.0.0.2" } else { "10.0.0.3" }))),
        };
        assert_eq!(again.unproven().collect::<Vec<_>>(), [doubt(B), doubt(C)]);
    }

    #[test]
    fn a_network_that_is_added_replaces_nothing() {
        let mut addresses = Addresses::default();
        take(&mut addresses, 5, &["10.0.0.1"]);
        assert!(take(&mut addresses, 9, &["10.0.0.1", "10.0.1.1"]));
        assert_eq!((addresses.links_to(B), addresses.unproven().count()), (2, 0));
    }
}
