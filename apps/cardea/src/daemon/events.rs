//! What happened lately on this node? A bounded list that can be followed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use api::{Event, EventKind};
use tokio::sync::watch;

/// Events that are kept.
const KEPT_MAX: usize = 4096;

/// The list; clones share it.
#[derive(Clone)]
pub struct Events {
    kept: Arc<Mutex<VecDeque<Event>>>,
    newest: Arc<watch::Sender<u64>>,
    node: Arc<str>,
}

/// Waits for the next event.
pub struct Listener(watch::Receiver<u64>);

impl Events {
    /// An empty list of this node.
    pub fn new(node: &str) -> Self {
        Events {
            kept: Arc::new(Mutex::new(VecDeque::with_capacity(64))),
            newest: Arc::new(watch::channel(0).0),
            node: node.into(),
        }
    }

    /// Adds one and wakes whoever follows.
    pub fn tell(&self, event: EventKind, subject: &str, reason: &str) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let number = kept.back().map_or(0, |event| event.number) + 1;
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Event {
            number,
            at_us: host::identity::now().as_nanos() / 1000,
            wall_ms: host::identity::wall().0,
            node: self.node.to_string(),
            event,
            subject: subject.to_owned(),
            reason: reason.to_owned(),
        });
        drop(kept);
        self.newest.send_replace(number);
    }

    /// Every kept event with a number above `number`.
    pub fn since(&self, number: u64) -> Vec<Event> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|event| event.number > number).cloned().collect()
    }

    /// Something to wait with.
    pub fn listen(&self) -> Listener {
        Listener(self.newest.subscribe())
    }
}

impl Listener {
    /// Waits until there is an event newer than at the last wait.
    pub async fn wait(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(count: u64) -> Events {
        let events = Events::new("a");
        for number in 1..=count {
            events.tell(EventKind::Note, "b", &number.to_string());
        }
        events
    }

    #[test]
    fn events_are_numbered_from_one_and_can_be_asked_for_from_any_number_on() {
        let events = told(3);
        let numbers = |since| events.since(since).iter().map(|event| event.number).collect::<Vec<_>>();
        assert_eq!(numbers(0), [1, 2, 3]);
        assert_eq!(numbers(2), [3]);
        assert_eq!(numbers(9), [] as [u64; 0]);
        let first = &events.since(0)[0];
        assert_eq!((first.node.as_str(), first.subject.as_str(), first.reason.as_str()), ("a", "b", "1"));
    }

    #[test]
    fn the_oldest_are_forgotten_and_no_number_comes_twice() {
        let most = KEPT_MAX as u64;
        let events = told(most + 5);
        let kept = events.since(0);
        assert_eq!((kept.len(), kept[0].number), (KEPT_MAX, 6));
        assert_eq!(kept.last().map(|event| event.number), Some(most + 5));
    }

    /// A follower that asks, finds nothing and then waits misses nothing that came in between.
    #[test]
    fn what_comes_before_the_wait_ends_it() {
        let events = told(1);
        let mut listener = events.listen();
        events.tell(EventKind::Note, "b", "in between");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(listener.wait());
        assert_eq!(events.since(1).len(), 1);
    }
}
