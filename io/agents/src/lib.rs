//! How is a resource started, stopped and checked on this node, and how is a node cut off?
//!
//! ```text
//!   begin(AgentCall) ──► call ──► service   cardea:process: a program of our own
//!                                ip         cardea:ip: a floating IPv4 address
//!                                ocf        ocf:PROVIDER:NAME: a program that knows how
//!   begin_fence(FenceCall) ─────► fence     a program that cuts a node off
//!                                              │
//!   AgentEvent ◄── the answer of a call, ◄─────┴── watch: what runs has ended by itself
//! ```
//!
//! In: one call at a time, as data. Out: exactly one answer for each, later, from another thread; and a word at once
//! when something that a start left running is gone. Nothing here waits for the caller or makes the caller wait.
//!
//! Not here: what is run when, and what was run before (`core/executor`, `core/fencing`).

mod call;
mod fence;
mod ip;
mod mark;
mod metadata;
mod misfit;
mod ocf;
mod output;
mod parameters;
mod readiness;
mod secret;
mod service;
mod trust;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{AgentAction, AgentCall, CallKey, FenceCall, FenceOutcome, Outcome};

pub use fence::find as find_fence_agent;
pub use metadata::{Metadata, MetadataError, Operation, Parameter, fence_metadata, metadata};
pub use misfit::{Misfit, Owner, Trouble, misfits};

use secret::Secret;
use watch::Watch;

/// Where agents are found, and where what concerns them is kept.
#[derive(Clone, Debug)]
pub struct AgentsConfig {
    /// Below it agents are looked for first; `/` is always looked at as well.
    pub root: PathBuf,
    /// What must survive a restart of the worker, and not a boot. Must be this daemon's alone: it is part of the mark
    /// by which processes are recognised.
    pub runtime_dir: PathBuf,
    /// What services and agents print, one file for each resource.
    pub output_dir: PathBuf,
    /// The cgroup below which operations get one of their own, where there is one.
    pub cgroup: Option<PathBuf>,
    /// How long an operation whose time is up may take to end after SIGTERM.
    pub polite: Duration,
    /// How long what was sent SIGKILL may take to vanish.
    pub forced: Duration,
    /// What proves that a mark is ours; of `Agents::new`.
    secret: Secret,
}

impl AgentsConfig {
    /// The product's settings below `root`.
    pub fn new(root: &Path) -> AgentsConfig {
        AgentsConfig {
            root: root.to_owned(),
            runtime_dir: root.join("run/cardea"),
            output_dir: root.join("var/log/cardea"),
            cgroup: host::cgroup::delegated(),
            polite: Duration::from_secs(5),
            forced: Duration::from_secs(5),
            secret: Secret::default(),
        }
    }
}

/// What came of a call, or became of what it left running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// A call has been answered. Every call that was begun is, once.
    Done {
        /// Which call.
        key: CallKey,
        /// Its answer.
        outcome: Outcome,
    },
    /// What the call started ended by itself: a service's main process died, a floating address was taken away.
    Exited {
        /// The call that started it.
        key: CallKey,
        /// How, in words for an operator.
        how: String,
    },
    /// A fence call has been answered.
    FenceDone {
        /// Which call.
        key: u64,
        /// Its answer.
        outcome: FenceOutcome,
    },
}

/// How long one of the last stops may take, and the killing before and after them.
pub const LAST_STOP_MAX: Duration = Duration::from_secs(2);
/// How long all of the last stops may take.
const LAST_STOPS_MAX: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

pub(crate) type Events = Arc<dyn Fn(AgentEvent) + Send + Sync>;

/// Runs agents. Dropping it ends no call and no service; only their watch ends.
pub struct Agents {
    config: Arc<AgentsConfig>,
    events: Events,
    watch: Arc<Watch>,
    /// The running calls, and the switches that end them early.
    calls: Arc<Mutex<BTreeMap<CallKey, Arc<AtomicBool>>>>,
    /// The same for fence calls.
    fences: Arc<Mutex<BTreeMap<u64, Arc<AtomicBool>>>>,
    /// The thread that is there already when no other can be made.
    spare: Sender<Job>,
}

impl Agents {
    /// Gets ready; makes the folders that it needs. `events` is called from other threads and should not wait.
    ///
    /// Fails if processes of ours could not be told from others.
    pub fn new(mut config: AgentsConfig, events: impl Fn(AgentEvent) + Send + Sync + 'static) -> io::Result<Self> {
        host::supervise::open_folder(&config.runtime_dir)?;
        if let Err(error) = host::supervise::private_folder(&config.output_dir) {
            tracing::warn!("cannot make {}: {error}; what is printed is lost", config.output_dir.display());
        }
        let own = format!("{}={}", mark::RUNTIME, mark::runtime(&config));
        config.secret = Secret::load(&config.runtime_dir, &own)?;
        let config = Arc::new(config);
        let events: Events = Arc::new(events);
        let watch = Watch::begin(Arc::clone(&config), Arc::clone(&events));
        let (spare, jobs) = channel::<Job>();
        begin_thread(move || jobs.into_iter().for_each(|job| job()))?;
        Ok(Agents { config, events, watch, calls: Arc::default(), fences: Arc::default(), spare })
    }

    /// Ends everything that any call of this daemon started, at once: for a node that may no longer run what it runs.
    ///
    /// First the `addresses` go and every process is killed, so that nothing is served any more; then the agents are
    /// asked to `stop` what processes alone do not tell, all at the same time and not for long. What cannot be ended is
    /// said in the log.
    pub fn end_everything(&self, stops: Vec<AgentCall>, addresses: &[Ipv4Addr]) {
        let watched = self.watch.addresses();
        self.watch.end();
        ip::remove_all(&watched);
        ip::remove_all(addresses);
        let is_service = |action: &str| action != mark::action_word(AgentAction::Stop);
        service::end_all_of(&self.config, LAST_STOP_MAX, is_service);
        let (done, answers) = channel();
        let mut open = 0;
        for call in stops {
            let (config, watch, done) = (Arc::clone(&self.config), Arc::clone(&self.watch), done.clone());
            let begun = begin_thread(move || {
                let outcome = call::run(&config, &watch, &call, &AtomicBool::new(false));
                tracing::info!("the last stop of {}: {outcome:?}", call.resource);
                // Nobody waits any more when it comes too late.
                let _ = done.send(());
            });
            match begun {
                Ok(()) => open += 1,
                Err(error) => tracing::error!("the agent of a stop cannot be asked: {error}"),
            }
        }
        let until = Instant::now() + LAST_STOPS_MAX;
        while open > 0 && answers.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok() {
            open -= 1;
        }
        service::end_all_of(&self.config, LAST_STOP_MAX, |_| true);
    }

    /// Begins a call of a resource agent; `Done` with its key follows. A call that is running is not begun again.
    pub fn begin(&self, call: AgentCall) {
        let key = call.key;
        let switch = Arc::new(AtomicBool::new(false));
        if self.running().insert(key, Arc::clone(&switch)).is_some() {
            return;
        }
        let (config, events) = (Arc::clone(&self.config), Arc::clone(&self.events));
        let (watch, calls) = (Arc::clone(&self.watch), Arc::clone(&self.calls));
        self.do_beside(Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| call::run(&config, &watch, &call, &switch)))
                .unwrap_or_else(|_| broken_off(call.action));
            calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            events(AgentEvent::Done { key, outcome });
        }));
    }

    /// Does a job in a thread of its own; where the system has none left, in the one that is kept for that, when its
    /// turn comes.
    fn do_beside(&self, job: Job) {
        let job = Arc::new(Mutex::new(Some(job)));
        let take = |job: &Mutex<Option<Job>>| job.lock().unwrap_or_else(PoisonError::into_inner).take();
        let own = Arc::clone(&job);
        let begun = begin_thread(move || take(&own).into_iter().for_each(|job| job()));
        if let Err(error) = begun {
            tracing::warn!("no thread is left for a call; it waits for its turn: {error}");
            if let Some(job) = take(&job) {
                self.spare.send(job).expect("the spare thread lives as long as this");
            }
        }
    }

    /// Begins a call of a fence agent; `FenceDone` with its key follows.
    pub fn begin_fence(&self, call: FenceCall) {
        let key = call.key;
        let switch = Arc::new(AtomicBool::new(false));
        self.fences.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&switch));
        let (config, events, fences) = (Arc::clone(&self.config), Arc::clone(&self.events), Arc::clone(&self.fences));
        self.do_beside(Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| fence::run(&config, &call, &switch)))
                .unwrap_or_else(|_| FenceOutcome::Failed { reason: BROKEN_OFF.to_owned() });
            fences.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            events(AgentEvent::FenceDone { key, outcome });
        }));
    }

    /// Ends a running call early, as if its time were up; its `Done` still follows.
    pub fn abandon(&self, key: CallKey) {
        if let Some(switch) = self.running().get(&key) {
            switch.store(true, Ordering::Relaxed);
        }
    }

    /// Kills the agent of a fence call, as if its time were up; its `FenceDone` still follows.
    pub fn abandon_fence(&self, key: u64) {
        if let Some(switch) = self.fences.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            switch.store(true, Ordering::Relaxed);
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<CallKey, Arc<AtomicBool>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.watch.end();
    }
}

const BROKEN_OFF: &str = "the call broke off by a fault of the daemon; see its log";

fn broken_off(action: AgentAction) -> Outcome {
    match action {
        AgentAction::Monitor => call::unknown(BROKEN_OFF),
        AgentAction::Start | AgentAction::Stop => call::failed(BROKEN_OFF),
    }
}

pub(crate) fn begin_thread(run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name("agent-call".to_owned()).stack_size(512 * 1024).spawn(run).map(drop)
}
