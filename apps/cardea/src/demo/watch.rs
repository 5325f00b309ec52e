//! What do the nodes tell? The events of every node, followed as long as it lives, in one list.

use std::path::PathBuf;
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

    /// To whom `unit` was given, since the beginning.
    pub fn grants(&self, unit: &str) -> Vec<Grant> {
        let events = self.since(0).into_iter();
        events.filter(|event| event.subject == unit).filter_map(|event| grant(&event)).collect()
    }
}

/// The grant that an event tells of: its reason begins with `to NODE: `.
pub fn grant(event: &Event) -> Option<Grant> {
    if event.event != EventKind::Granted {
        return None;
    }
    let (node, _why) = event.reason.strip_prefix("to ")?.split_once(':')?;
    Some(Grant { at_us: event.at_us, node: node.to_owned() })
}

fn follow(events: &Mutex<Vec<Event>>, socket: &PathBuf) {
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

    #[test]
    fn a_grant_names_its_node() {
        let event = Event {
            number: 1,
            at_us: 7,
            wall_ms: 0,
            node: "c".to_owned(),
            event: EventKind::Granted,
            subject: "site".to_owned(),
            reason: "to b: a is fenced".to_owned(),
        };
        assert_eq!(grant(&event), Some(Grant { at_us: 7, node: "b".to_owned() }));
    }
}
