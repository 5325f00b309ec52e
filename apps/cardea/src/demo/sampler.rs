//! Does ever more than one powered node have the address and a responder behind it? A look every 10 ms.
//!
//! It looks through windows opened once per power-on and enters no namespace.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::client::now_us;
use super::judge::ms;
use crate::lab::hub::Hub;

/// From one look to the next.
const EVERY: Duration = Duration::from_millis(10);

/// A sampler at work on a thread of its own.
pub struct Sampler {
    found: Arc<Mutex<Found>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What it saw.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Looks so far.
    pub looks: u64,
    /// Looks that found one node or more: none would mean that the sampler is blind.
    pub served: u64,
    /// Looks that found two nodes or more, one sentence each.
    pub doubles: Vec<String>,
}

impl Sampler {
    /// Starts to look for the service at `service` on the machines of `hub`.
    pub fn start(hub: &Arc<Hub>, service: SocketAddr) -> std::io::Result<Sampler> {
        let found = Arc::new(Mutex::new(Found::default()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (hub, seen, over) = (Arc::clone(hub), Arc::clone(&found), Arc::clone(&is_over));
        let thread = thread::Builder::new().name("sampler".to_owned()).spawn(move || {
            while !over.load(Ordering::Relaxed) {
                look(&hub, service, &seen);
                thread::sleep(EVERY);
            }
        })?;
        Ok(Sampler { found, is_over, thread: Some(thread) })
    }

    /// What it saw so far.
    pub fn found(&self) -> Found {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(hub: &Hub, service: SocketAddr, seen: &Mutex<Found>) {
    let serving: Vec<&str> = hub
        .machines
        .iter()
        .filter(|machine| {
            let Some(probe) = machine.probe() else { return false };
            let mut probe = probe.lock().unwrap_or_else(PoisonError::into_inner);
            // A window that closes while we look belongs to a node that is being switched off.
            probe.has_listener(service.ip(), service.port()).unwrap_or(false)
                && probe.has_address(service.ip()).unwrap_or(false)
        })
        .map(|machine| machine.layout.name.as_str())
        .collect();
    let mut found = seen.lock().unwrap_or_else(PoisonError::into_inner);
    found.looks += 1;
    found.served += u64::from(!serving.is_empty());
    if serving.len() > 1 {
        found.doubles.push(format!("{} had the address and a responder at {} ms", serving.join(" and "), ms(now_us())));
    }
}
