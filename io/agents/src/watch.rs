//! What of that which runs here has just ended by itself?
//!
//! One thread waits on the pidfd of every service's main process and on the kernel's notices about addresses, so that
//! a death is known at once and not at the next check. Whoever stops something has it forgotten here first: what we
//! end ourselves is no news.
//!
//! Beside that, once in a while, the thread cuts outputs down that have grown too long.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use host::address::{AddressWatch, interfaces};
use host::process::{Exit, Process};
use host::supervise::noted_exit;
use model::{CallKey, ResourceName};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::{AgentEvent, AgentsConfig, Events, output};

/// How often outputs are looked at.
const TRIM_EVERY: Duration = Duration::from_secs(10);

pub(crate) struct Watch {
    config: Arc<AgentsConfig>,
    events: Events,
    /// Wakes the thread to look at `watched` again.
    bell: Option<OwnedFd>,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    processes: BTreeMap<ResourceName, (CallKey, Arc<Process>)>,
    addresses: BTreeMap<ResourceName, (CallKey, Ipv4Addr)>,
    has_ended: bool,
}

impl Watch {
    pub(crate) fn begin(config: Arc<AgentsConfig>, events: Events) -> Arc<Watch> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .inspect_err(|error| tracing::error!("cannot watch services: {error}; their checks must do"))
            .ok();
        let watch = Arc::new(Watch { config, events, bell, watched: Mutex::default() });
        let thread = Arc::clone(&watch);
        let begun = std::thread::Builder::new()
            .name("agent-watch".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || thread.run());
        if let Err(error) = begun {
            tracing::error!("cannot watch services: {error}; their checks must do");
        }
        watch
    }

    pub(crate) fn end(&self) {
        self.watched().has_ended = true;
        self.ring();
    }

    /// From here on the end of this process is news, and the news carries `key`.
    pub(crate) fn watch_process(&self, resource: &ResourceName, key: CallKey, process: Arc<Process>) {
        let mut watched = self.watched();
        let same = |(known, old): &(CallKey, Arc<Process>)| {
            *known == key && (old.pid(), old.started()) == (process.pid(), process.started())
        };
        if !watched.processes.get(resource).is_some_and(same) {
            watched.processes.insert(resource.clone(), (key, process));
            drop(watched);
            self.ring();
        }
    }

    /// From here on the loss of this address is news, and the news carries `key`.
    pub(crate) fn watch_address(&self, resource: &ResourceName, key: CallKey, address: Ipv4Addr) {
        self.watched().addresses.insert(resource.clone(), (key, address));
        self.ring();
    }

    /// What happens to the resource is no news any more.
    pub(crate) fn forget(&self, resource: &ResourceName) {
        let mut watched = self.watched();
        watched.processes.remove(resource);
        watched.addresses.remove(resource);
    }

    /// Is this very address still watched for this very call?
    pub(crate) fn has_address(&self, resource: &ResourceName, key: CallKey, address: Ipv4Addr) -> bool {
        self.watched().addresses.get(resource) == Some(&(key, address))
    }

    /// Ends the watch of this very address for this very call; `false` if it was forgotten before.
    ///
    /// Who gets `true`, and nobody else, may say what became of the address.
    pub(crate) fn take_address(&self, resource: &ResourceName, key: CallKey, address: Ipv4Addr) -> bool {
        let mut watched = self.watched();
        let is_it = watched.addresses.get(resource) == Some(&(key, address));
        is_it && watched.addresses.remove(resource).is_some()
    }

    /// The addresses that are watched: those that this daemon put up.
    pub(crate) fn addresses(&self) -> Vec<Ipv4Addr> {
        self.watched().addresses.values().map(|(_, address)| *address).collect()
    }

    /// The address that is watched for this resource.
    pub(crate) fn address(&self, resource: &ResourceName) -> Option<Ipv4Addr> {
        self.watched().addresses.get(resource).map(|(_, address)| *address)
    }

    /// Says what became of something that was watched.
    pub(crate) fn tell(&self, key: CallKey, how: String) {
        (self.events)(AgentEvent::Exited { key, how });
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        if let Some(bell) = &self.bell {
            // A bell that rings already needs no second ring.
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        }
    }

    fn run(&self) {
        let Some(bell) = &self.bell else { return };
        let mut notices = AddressWatch::open()
            .inspect_err(|error| tracing::warn!("cannot watch addresses: {error}; their checks must do"))
            .ok();
        // Of what vanished before this thread began to listen there will be no notice.
        self.on_notices_lost();
        let mut trim_at = Instant::now() + TRIM_EVERY;
        loop {
            let processes: Vec<(ResourceName, CallKey, Arc<Process>)> = {
                let watched = self.watched();
                if watched.has_ended {
                    return;
                }
                let listed = watched.processes.iter();
                listed.map(|(resource, (key, process))| (resource.clone(), *key, Arc::clone(process))).collect()
            };
            let left = trim_at.saturating_duration_since(Instant::now());
            let ready = wait(bell, notices.as_ref(), &processes, left);
            // Reading silences the bell; an empty one is an error of no concern.
            let _ = rustix::io::read(bell, &mut [0_u8; 8]);
            for (is_ready, (resource, key, process)) in ready.processes.into_iter().zip(processes) {
                if is_ready {
                    self.on_ended(&resource, key, &process);
                }
            }
            if let Some(watch) = notices.as_ref().filter(|_| ready.notices) {
                match watch.vanished() {
                    Some(vanished) => self.on_vanished(&vanished),
                    None => {
                        notices = AddressWatch::open().ok();
                        self.on_notices_lost();
                    }
                }
            }
            if trim_at <= Instant::now() {
                trim_at = Instant::now() + TRIM_EVERY;
                output::trim_all(&self.config.output_dir);
            }
        }
    }

    fn on_ended(&self, resource: &ResourceName, key: CallKey, process: &Arc<Process>) {
        {
            let mut watched = self.watched();
            let is_it = watched.processes.get(resource).is_some_and(|(_, current)| Arc::ptr_eq(current, process));
            if !is_it {
                return;
            }
            watched.processes.remove(resource);
        }
        let how = describe_end(&self.config, process);
        self.tell(key, format!("its process {} {how}", process.pid()));
    }

    fn on_vanished(&self, vanished: &[(u32, Ipv4Addr)]) {
        for (index, address) in vanished {
            let lost: Vec<(ResourceName, CallKey)> = {
                let watched = self.watched();
                let listed = watched.addresses.iter().filter(|(_, (_, own))| own == address);
                listed.map(|(resource, (key, _))| (resource.clone(), *key)).collect()
            };
            for (resource, key) in lost {
                if self.take_address(&resource, key, *address) {
                    self.tell(key, format!("the address {address} was removed from {}", interface_name(*index)));
                }
            }
        }
    }

    /// Some notices did not reach us: look what is there.
    fn on_notices_lost(&self) {
        let Ok(found) = interfaces() else { return };
        let all: Vec<(u32, Ipv4Addr)> = self.watched().addresses.values().map(|(_, address)| (0, *address)).collect();
        let is_here = |address: Ipv4Addr| found.iter().any(|i| i.addresses.iter().any(|(own, _)| *own == address));
        let gone: Vec<(u32, Ipv4Addr)> = all.into_iter().filter(|(_, address)| !is_here(*address)).collect();
        self.on_vanished(&gone);
    }
}

#[derive(Default)]
struct Ready {
    notices: bool,
    processes: Vec<bool>,
}

/// Waits until something happens, at most this long.
fn wait(
    bell: &OwnedFd,
    notices: Option<&AddressWatch>,
    processes: &[(ResourceName, CallKey, Arc<Process>)],
    limit: Duration,
) -> Ready {
    let mut polled = vec![PollFd::new(bell, PollFlags::IN)];
    polled.extend(processes.iter().map(|(_, _, process)| PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)));
    polled.extend(notices.map(|watch| PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)));
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    match poll(&mut polled, Some(&limit)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ready::default(),
        Err(error) => {
            tracing::error!("cannot watch services: {error}");
            // Not a busy loop: try again a little later.
            std::thread::sleep(Duration::from_millis(100));
            return Ready::default();
        }
    }
    let is_ready: Vec<bool> = polled[1..].iter().map(|fd| !fd.revents().is_empty()).collect();
    Ready { notices: is_ready.get(processes.len()).copied().unwrap_or(false), processes: is_ready }
}

/// How an ended process ended, whoever was its parent.
pub(crate) fn exit_of(config: &AgentsConfig, process: &Process) -> Option<Exit> {
    const NOTED_WITHIN: Duration = Duration::from_millis(20);
    if let Some(exit) = process.reap() {
        return Some(exit);
    }
    // A child of the supervisor: its note may be a moment behind the pidfd.
    let deadline = Instant::now() + NOTED_WITHIN;
    loop {
        let noted = noted_exit(&config.runtime_dir, process.pid(), process.started());
        if noted.is_some() || Instant::now() >= deadline {
            return noted;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn describe_end(config: &AgentsConfig, process: &Process) -> String {
    exit_of(config, process).map_or_else(|| "ended".to_owned(), |exit| exit.to_string())
}

fn interface_name(index: u32) -> String {
    let name = || -> io::Result<Option<String>> {
        Ok(interfaces()?.into_iter().find(|interface| interface.index == index).map(|interface| interface.name))
    };
    name().ok().flatten().unwrap_or_else(|| "its interface".to_owned())
}
