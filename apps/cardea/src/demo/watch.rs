//! What do the nodes tell? The events of every node, followed as long as it lives, in one list.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use api::{Event, EventKind};

use super::judge::Grant;
use crate::lab::daemon_api;
use crate::lab::hub::Hub;

/// The events of all nodes.
#[derive(Clone, Default)]
pub struct Watch {
    events: Arc<Mutex<Vec<Event>>>,
}

impl Watch {
    /// Starts to follow every machine of `hub`, each on a thread that ends with the process.
    pub fn start(hub: &Arc<Hub>) -> std::io::Result<Watch> {
        let watch = Watch::default();
        for machine in &hub.machines {
            let (events, socket) = (Arc::clone(&watch.events), machine.api_socket());
            thread::Builder::new().name("events".to_owned()).spawn(move || follow(&events, &socket))?;
        }
        Ok(watch)
    }

    /// Every event since `since_us`, oldest first.
    pub fn since(&self, since_us: u64) -> Vec<Event> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Event> = events.iter().filter(|event| event.at_us >= since_us).cloned().collect();
        found.sort_by_key(|event| event.at_us);
        found
    }

    /// The events since `since_us` that are no old news.
    pub fn fresh_since(&self, since_us: u64) -> Vec<Event> {
        fresh(self.since(0)).into_iter().filter(|event| event.at_us >= since_us).collect()
    }

    /// To whom `unit` was given, since the beginning.
    pub fn grants(&self, unit: &str) -> Vec<Grant> {
        fresh(self.since(0)).iter().filter(|event| event.subject == unit).filter_map(grant).collect()
    }
}

/// Leaves out old news: what a node tells between the start of its worker and its own joining, it was told.
///
/// Events must be in the order of their times.
fn fresh(events: Vec<Event>) -> Vec<Event> {
    let mut is_catching_up = BTreeSet::new();
    let is_fresh = |event: &Event| {
        match event.event {
            EventKind::Started => {
                is_catching_up.insert(event.node.clone());
            }
            EventKind::Joined if event.subject == event.node => {
                is_catching_up.remove(&event.node);
            }
            _ => {}
        }
        !is_catching_up.contains(&event.node)
    };
    let mut events = events;
    events.retain(is_fresh);
    events
}

/// The grant that an event tells of: its reason begins with `to NODE: `.
pub fn grant(event: &Event) -> Option<Grant> {
    if event.event != EventKind::Granted {
        return None;
    }
    let (node, _why) = event.reason.strip_prefix("to ")?.split_once(':')?;
    Some(Grant { at_us: event.at_us, node: node.to_owned() })
}

fn follow(events: &Mutex<Vec<Event>>, socket: &Path) {
    // A worker that starts again counts from 1 and remembers nothing; one that only broke the connection tells all.
    let mut last = (0, 0);
    loop {
        let _ = daemon_api::follow(socket, |event| {
            let place = (event.at_us, event.number);
            if place > last {
                last = place;
                events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
            true
        });
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at_us: u64, node: &str, event: EventKind, subject: &str, reason: &str) -> Event {
        Event {
            number: at_us,
            at_us,
            wall_ms: 0,
            node: node.to_owned(),
            event,
            subject: subject.to_owned(),
            reason: reason.to_owned(),
            problem: None,
        }
    }

    #[test]
    fn a_grant_names_its_node() {
        let event = event(7, "c", EventKind::Granted, "site", "to b: a is fenced");
        assert_eq!(grant(&event), Some(Grant { at_us: 7, node: "b".to_owned() }));
    }

    #[test]
    fn what_a_node_learns_when_it_comes_back_is_old_news() {
        let events = vec![
            event(1, "b", EventKind::Granted, "site", "to b: a is fenced"),
            event(5, "a", EventKind::Started, "a", "the worker of this node started"),
            event(6, "a", EventKind::Granted, "site", "to b: a is fenced"),
            event(7, "b", EventKind::Joined, "a", "a is back"),
            event(8, "a", EventKind::Joined, "a", "a is back"),
            event(9, "a", EventKind::Granted, "site", "to a: asked"),
        ];
        let times: Vec<u64> = fresh(events).iter().map(|event| event.at_us).collect();
        assert_eq!(times, [1, 7, 8, 9]);
    }
}
