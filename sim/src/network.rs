//! Which packets arrive, when, and how often?
//!
//! Every link has two directions of its own. A network is a switch: a machine can be cut from it, can be deaf or mute
//! on it, and a pair of machines can be cut from each other in one direction. Datagrams are lost, doubled, delayed and
//! overtaken; streams are only late, and end when every path is cut.

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
    /// Packets in 1000 that begin a burst: their direction loses everything for 20–200 ms.
    pub bursts: u64,
}

/// All networks between all machines.
pub struct Network {
    machines: usize,
    links: usize,
    /// By network.
    pub weather: Vec<Weather>,
    /// Switch ports that are off, by machine and link.
    unplugged: Vec<bool>,
    /// Interfaces that receive nothing, by machine and link.
    deaf: Vec<bool>,
    /// Interfaces that send nothing, by machine and link.
    mute: Vec<bool>,
    /// Machines that a fence device has cut off.
    fenced: Vec<bool>,
    /// Packets in 1000 that a direction loses besides those of the weather, by sender, receiver and link.
    lossy: Vec<u64>,
    /// Until when a burst takes everything, by sender, receiver and link.
    burst_until: Vec<At>,
    /// Directions that are cut, by sender, receiver and link.
    cut: Vec<bool>,
    /// Directions in which packets go to an address that nobody listens on, by sender, receiver and link.
    astray: Vec<bool>,
    /// Since when some link between two machines has worked well in both directions.
    good_since: Vec<Option<At>>,
    stream_free_at: Vec<At>,
    /// Beats that arrived, by sender and receiver.
    beats: Vec<Beats>,
    /// When packets were last lost or delayed out of the usual.
    fair_since: At,
}

/// Beats that arrived in one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Beats {
    /// Since when they arrived without a gap…
    since: At,
    /// … and the last one.
    last: At,
}

/// A gap that is longer interrupts a contact.
const GAP: u64 = 250 * MILLIS;

impl Network {
    /// `links` networks between `machines` machines, in good order.
    pub fn new(machines: usize, links: usize) -> Self {
        Network {
            machines,
            links,
            weather: vec![Weather::default(); links],
            unplugged: vec![false; machines * links],
            deaf: vec![false; machines * links],
            mute: vec![false; machines * links],
            fenced: vec![false; machines],
            lossy: vec![0; machines * machines * links],
            burst_until: vec![0; machines * machines * links],
            cut: vec![false; machines * machines * links],
            astray: vec![false; machines * machines * links],
            good_since: vec![Some(0); machines * machines],
            stream_free_at: vec![0; machines * machines],
            beats: vec![Beats::default(); machines * machines],
            fair_since: 0,
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

    /// Lets an interface receive nothing, or everything again.
    pub fn deafen(&mut self, now: At, machine: usize, link: usize, is_deaf: bool) {
        self.deaf[machine * self.links + link] = is_deaf;
        self.review(now);
    }

    /// Lets an interface send nothing, or everything again.
    pub fn silence(&mut self, now: At, machine: usize, link: usize, is_mute: bool) {
        self.mute[machine * self.links + link] = is_mute;
        self.review(now);
    }

    /// A fence device cuts a machine off, or lets it in again.
    pub fn fence(&mut self, now: At, machine: usize, is_cut: bool) {
        self.fenced[machine] = is_cut;
        self.review(now);
    }

    /// Lets one direction lose so many packets in 1000, besides those of the weather.
    pub fn lose(&mut self, now: At, from: usize, to: usize, link: usize, permille: u64) {
        let place = self.place(from, to, link);
        self.lossy[place] = permille;
        self.fair_since = now;
        self.review(now);
    }

    /// One more machine on every network; what goes wrong now between the others is forgotten.
    pub fn grow(&mut self, now: At) {
        let weather = std::mem::take(&mut self.weather);
        *self = Network { weather, ..Network::new(self.machines + 1, self.links) };
        self.good_since.fill(Some(now));
        self.review(now);
    }

    /// Cuts or heals one direction.
    pub fn cut(&mut self, now: At, from: usize, to: usize, link: usize, is_cut: bool) {
        let place = self.place(from, to, link);
        self.cut[place] = is_cut;
        self.review(now);
    }

    /// Whether the packets of one direction go to an address that the receiver listens on.
    pub fn lead_astray(&mut self, now: At, from: usize, to: usize, link: usize, is_astray: bool) {
        let place = self.place(from, to, link);
        if std::mem::replace(&mut self.astray[place], is_astray) != is_astray {
            self.review(now);
        }
    }

    /// Sets how a network treats its packets.
    pub fn set_weather(&mut self, now: At, link: usize, weather: Weather) {
        self.weather[link] = weather;
        self.fair_since = now;
        self.review(now);
    }

    /// Everything works again.
    pub fn heal(&mut self, now: At) {
        self.unplugged.fill(false);
        self.deaf.fill(false);
        self.mute.fill(false);
        self.lossy.fill(0);
        self.burst_until.fill(0);
        self.cut.fill(false);
        self.weather.fill(Weather::default());
        self.review(now);
    }

    /// Can the machine reach anything on this network?
    pub fn is_plugged(&self, machine: usize, link: usize) -> bool {
        !self.fenced[machine] && !self.unplugged[machine * self.links + link]
    }

    /// Can the machine reach a fence device on any network, and be answered?
    pub fn reaches_devices(&self, machine: usize) -> bool {
        (0..self.links).any(|link| {
            let port = machine * self.links + link;
            self.is_plugged(machine, link) && !self.deaf[port] && !self.mute[port]
        })
    }

    /// Does this direction carry packets?
    pub fn carries(&self, from: usize, to: usize, link: usize) -> bool {
        self.is_plugged(from, link)
            && self.is_plugged(to, link)
            && !self.mute[from * self.links + link]
            && !self.deaf[to * self.links + link]
            && !self.cut[self.place(from, to, link)]
            && !self.astray[self.place(from, to, link)]
    }

    /// Does some link between the two carry packets both ways, be it badly?
    pub fn connects(&self, a: usize, b: usize) -> bool {
        a == b || (0..self.links).any(|link| self.carries(a, b, link) && self.carries(b, a, link))
    }

    /// Has some link between the two worked well, both ways, without a break for `long`?
    pub fn is_good_for(&self, now: At, a: usize, b: usize, long: u64) -> bool {
        self.good_since[a * self.machines + b].is_some_and(|since| since + long <= now)
    }

    /// When the copies of a datagram over one link arrive: none, one or two.
    pub fn datagram(&mut self, now: At, from: usize, to: usize, link: usize, chance: &mut Chance) -> [Option<At>; 2] {
        let weather = self.weather[link];
        let place = self.place(from, to, link);
        if chance.is(weather.bursts) {
            self.burst_until[place] = now + chance.between(20 * MILLIS, 200 * MILLIS);
        }
        let is_lost = now < self.burst_until[place] || chance.is(weather.loss) || chance.is(self.lossy[place]);
        if is_lost || !self.carries(from, to, link) {
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
        let loss = self.weather[link].loss + self.lossy[self.place(from, to, link)] / 2;
        let repeated = if chance.is(loss * 2) { chance.between(5 * MILLIS, 300 * MILLIS) } else { 0 };
        let free_at = &mut self.stream_free_at[from * self.machines + to];
        *free_at = (*free_at).max(now + chance.between(100 * MICROS, 800 * MICROS) + repeated);
        Some(*free_at)
    }

    /// A beat arrives, or will.
    pub fn beat(&mut self, from: usize, to: usize, at: At) {
        let beats = &mut self.beats[from * self.machines + to];
        if at > beats.last + GAP {
            beats.since = at;
        }
        beats.last = beats.last.max(at);
    }

    /// When the last beat arrived in that direction between the two from which none has arrived for longer.
    pub fn contact_until(&self, a: usize, b: usize) -> At {
        self.beats[a * self.machines + b].last.min(self.beats[b * self.machines + a].last)
    }

    /// How long the last contact between the two was.
    pub fn contact_lasted(&self, a: usize, b: usize) -> u64 {
        let since = self.beats[a * self.machines + b].since.max(self.beats[b * self.machines + a].since);
        self.contact_until(a, b).saturating_sub(since)
    }

    /// Has no network lost or delayed anything out of the usual for `long`?
    pub fn was_fair_for(&self, now: At, long: u64) -> bool {
        self.is_fair() && self.fair_since + long <= now
    }

    /// Does no network lose or delay anything out of the usual?
    pub fn is_fair(&self) -> bool {
        self.weather.iter().all(|weather| *weather == Weather::default()) && self.lossy.iter().all(|loss| *loss == 0)
    }

    fn place(&self, from: usize, to: usize, link: usize) -> usize {
        (from * self.machines + to) * self.links + link
    }

    fn is_good(&self, from: usize, to: usize, link: usize) -> bool {
        let weather = self.weather[link];
        let loss = weather.loss + self.lossy[self.place(from, to, link)];
        self.carries(from, to, link) && loss <= 200 && weather.bursts == 0
    }

    fn review(&mut self, now: At) {
        for a in 0..self.machines {
            for b in 0..self.machines {
                let is_good = (0..self.links).any(|link| self.is_good(a, b, link) && self.is_good(b, a, link));
                let since = &mut self.good_since[a * self.machines + b];
                *since = if is_good { since.or(Some(now)) } else { None };
            }
        }
    }
}
