//! Who may be in the middle of a handshake?
//!
//! So many at once, and of one address so many: the oldest gives way to the newest, so that connections which stand
//! half open cost whoever opened them, and nobody else.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// The places, shared by all connections of a kind.
#[derive(Debug)]
pub(crate) struct Slots {
    all_max: usize,
    per_address_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// The oldest first.
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    number: u64,
    address: IpAddr,
    gone: Arc<Notify>,
}

/// One place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    slots: &'a Slots,
    number: u64,
    gone: Arc<Notify>,
}

impl Slots {
    pub(crate) fn new(all_max: usize, per_address_max: usize) -> Self {
        Slots { all_max, per_address_max, taken: Mutex::default() }
    }

    /// Takes a place; the oldest of the same address, or of all, loses its own if there is none left.
    pub(crate) fn take(&self, address: IpAddr) -> Slot<'_> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.places.iter().filter(|place| place.address == address).count();
        let oldest = if of_address >= self.per_address_max {
            taken.places.iter().position(|place| place.address == address)
        } else {
            (taken.places.len() >= self.all_max).then_some(0)
        };
        if let Some(oldest) = oldest {
            taken.places.remove(oldest).gone.notify_one();
        }
        let (number, gone) = (taken.next, Arc::new(Notify::new()));
        taken.next += 1;
        taken.places.push(Place { number, address, gone: gone.clone() });
        Slot { slots: self, number, gone }
    }
}

impl Slot<'_> {
    /// Waits until this place is somebody else's.
    pub(crate) async fn lost(&self) {
        self.gone.notified().await;
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.places.retain(|place| place.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_an_address_gives_way_before_those_of_others() {
        let slots = Slots::new(6, 2);
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let other = slots.take(address(9));
        let taken: Vec<Slot<'_>> = (0..50).map(|_| slots.take(address(1))).collect();
        let numbers = || slots.taken.lock().unwrap().places.iter().map(|place| place.number).collect::<Vec<_>>();
        assert_eq!(numbers(), [0, 49, 50], "one address has two places, the newest");
        let many: Vec<Slot<'_>> = (10..14).map(|number| slots.take(address(number))).collect();
        assert_eq!(numbers(), [49, 50, 51, 52, 53, 54], "then the oldest of all");
        drop((taken, many, other));
        assert!(numbers().is_empty());
    }
}
