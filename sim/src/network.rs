//! Which packets arrive, when, and how often?
//!
//! Every link has two directions of its own. A network is a switch: a machine can be cut from it, and a pair of
//! machines can be cut from each other in one direction. Datagrams are lost, doubled, delayed and overtaken; streams
//! are only late, and end when every path is cut.

use crate::chance::Chance;
use crate::clock::{At, MICROS, MILLIS};

/// How one network treats its packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Lost packets in 1000.
    pub loss: u64,
    /// Doubled packets in 1000.
    pub double: u64,
    /// Packets in 1000 that come up to 20 ms late.
    pub late: u64,
    /// Node messages in 1000 that come 0.3–5 s late, or once more so late.
    pub very_late: u64,
}

/// All networks between all machines.
pub struct Network {
    machines: usize,
    links: usize,
    /// By network.
    pub weather: Vec<Weather>,
    /// Switch ports that are off, by machine and link.
    unplugged: Vec<bool>,
    /// Directions that are cut, by sender, receiver and link.
    cut: Vec<bool>,
    /// Since when some link between two machines has worked well in both directions.
    good_since: Vec<Option<At>>,
    stream_free_at: Vec<At>,
}

impl Network {
    /// `links` networks between `machines` machines, in good order.
    pub fn new(machines: usize, links: usize) -> Self {
        Network {
            machines,
            links,
            weather: vec![Weather::default(); links],
            unplugged: vec![false; machines * links],
            cut: vec![false; machines * machines * links],
            good_since: vec![Some(0); machines * machines],
            stream_free_at: vec![0; machines * machines],
        }
    }

    /// How many networks there are.
    pub fn links(&self) -> usize {
        self.links
    }

    /// Turns the switch port of a machine off or on.
    pub fn plug(&mut self, now: At, machine: usize, link: usize, is_on: bool) {
        self.unplugged[machine * self.links + link] = !is_on;
        self.review(now);
    }

    /// Cuts or heals one direction.
    pub fn cut(&mut self, now: At, from: usize, to: usize, link: usize, is_cut: bool) {
        let place = self.place(from, to, link);
        self.cut[place] = is_cut;
        self.review(now);
    }

    /// Sets how a network treats its packets.
    pub fn set_weather(&mut self, now: At, link: usize, weather: Weather) {
        self.weather[link] = weather;
        self.review(now);
    }

    /// Everything works again.
    pub fn heal(&mut self, now: At) {
        self.unplugged.fill(false);
        self.cut.fill(false);
        self.weather.fill(Weather::default());
        self.review(now);
    }

    /// Can the machine reach anything on this network?
    pub fn is_plugged(&self, machine: usize, link: usize) -> bool {
        !self.unplugged[machine * self.links + link]
    }

    /// Can the machine reach a fence device on any network?
    pub fn reaches_devices(&self, machine: usize) -> bool {
        (0..self.links).any(|link| self.is_plugged(machine, link))
    }

    /// Does this direction carry packets?
    pub fn carries(&self, from: usize, to: usize, link: usize) -> bool {
        self.is_plugged(from, link) && self.is_plugged(to, link) && !self.cut[self.place(from, to, link)]
    }

    /// Has some link between the two worked well, both ways, without a break for `long`?
    pub fn is_good_for(&self, now: At, a: usize, b: usize, long: u64) -> bool {
        self.good_since[a * self.machines + b].is_some_and(|since| since + long <= now)
    }

    /// When the copies of a datagram over one link arrive: none, one or two.
    pub fn datagram(&self, now: At, from: usize, to: usize, link: usize, chance: &mut Chance) -> [Option<At>; 2] {
        let weather = self.weather[link];
        if !self.carries(from, to, link) || chance.is(weather.loss) {
            return [None, None];
        }
        let mut arrival = || {
            let late = if chance.is(weather.late) { chance.between(MILLIS, 20 * MILLIS) } else { 0 };
            now + chance.between(60 * MICROS, 400 * MICROS) + late
        };
        let first = arrival();
        let second = arrival();
        [Some(first), chance.is(weather.double).then_some(second)]
    }

    /// When a message over a stream arrives, if any path is there.
    pub fn stream(&mut self, now: At, from: usize, to: usize, chance: &mut Chance) -> Option<At> {
        let link = (0..self.links).find(|link| self.carries(from, to, *link) && self.carries(to, from, *link))?;
        let repeated =
            if chance.is(self.weather[link].loss * 2) { chance.between(5 * MILLIS, 300 * MILLIS) } else { 0 };
        let free_at = &mut self.stream_free_at[from * self.machines + to];
        *free_at = (*free_at).max(now + chance.between(100 * MICROS, 800 * MICROS) + repeated);
        Some(*free_at)
    }

    /// Does no network lose or delay anything out of the usual?
    pub fn is_fair(&self) -> bool {
        self.weather.iter().all(|weather| *weather == Weather::default())
    }

    fn place(&self, from: usize, to: usize, link: usize) -> usize {
        (from * self.machines + to) * self.links + link
    }

    fn review(&mut self, now: At) {
        for a in 0..self.machines {
            for b in 0..self.machines {
                let is_good = (0..self.links).any(|link| {
                    let weather = self.weather[link];
                    self.carries(a, b, link) && self.carries(b, a, link) && weather.loss <= 200
                });
                let since = &mut self.good_since[a * self.machines + b];
                *since = if is_good { since.or(Some(now)) } else { None };
            }
        }
    }
}
