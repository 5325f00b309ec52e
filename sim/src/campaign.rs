//! Many seeds on all cores: how many break a promise, and how fast does it go?

use std::cell::RefCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::Bugs;
use serde::Serialize;

use crate::scenario::{Flavour, Run, Scenario};

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// What the seeds attack, in turn.
    pub flavours: Vec<Flavour>,
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// Planted bugs.
    pub bugs: Bugs,
    /// Those of them that the state of reference has, too.
    pub reference_bugs: Bugs,
    /// End with the first seed that breaks this promise.
    pub ends_at: Option<&'static str>,
}

/// What it came to.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Seeds that were run.
    pub seeds: u64,
    /// Steps of nodes.
    pub steps: u64,
    /// Seeds that broke a promise.
    pub violations: usize,
    /// Schedules of sixty virtual seconds of faults, by minute and core.
    pub schedules_per_minute_per_core: f64,
    /// The longest time that everything took to run again after healing, in milliseconds, and its seed.
    pub slowest_recovery_ms: (u64, u64),
    /// The broken ones, by seed.
    #[serde(skip)]
    pub broken: Vec<Run>,
}

/// What the last panic on this thread said.
pub(crate) fn last_panic() -> String {
    PANIC.with(|said| said.borrow().clone())
}

/// Keeps what a panic says instead of printing it.
pub(crate) fn catch_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = info
            .payload()
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| info.payload().downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic without a message".to_owned());
        let place = info.location().map_or_else(String::new, |l| format!(" ({}:{})", l.file(), l.line()));
        PANIC.with(|said| *said.borrow_mut() = format!("{message}{place}"));
    }));
}

/// Runs a campaign on all cores; `each` hears of every broken seed at once.
pub fn run(campaign: &Campaign, each: impl Fn(&Run) + Sync) -> Report {
    catch_panics();
    let next = AtomicU64::new(campaign.from);
    let end = campaign.from + campaign.seeds;
    let (done, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let broken: Mutex<Vec<Run>> = Mutex::new(Vec::new());
    let slowest: Mutex<(u64, u64)> = Mutex::new((0, 0));
    let busy: Mutex<Duration> = Mutex::new(Duration::ZERO);
    let is_over = AtomicBool::new(false);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let clock = CpuClock::begin();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let run =
                        Scenario::among(&campaign.flavours, seed).run(campaign.bugs, campaign.reference_bugs, false);
                    done.fetch_add(1, Ordering::Relaxed);
                    steps.fetch_add(run.steps, Ordering::Relaxed);
                    {
                        let mut slowest = slowest.lock().expect("no thread panics with it");
                        *slowest = (*slowest).max((run.recovery / crate::clock::MILLIS, seed));
                    }
                    if let Some(violation) = &run.violation {
                        if campaign.ends_at == Some(violation.invariant) {
                            is_over.store(true, Ordering::Relaxed);
                        }
                        each(&run);
                        broken.lock().expect("no thread panics with it").push(run);
                    }
                }
                *busy.lock().expect("no thread panics with it") += clock.elapsed();
            });
        }
    });
    let mut broken = broken.into_inner().expect("all threads have ended");
    broken.sort_by_key(|run| run.seed);
    let seeds = done.into_inner();
    let minutes = busy.into_inner().expect("all threads have ended").as_secs_f64() / 60.0;
    let rate = if minutes > 0.0 { seeds as f64 / minutes } else { 0.0 };
    Report {
        seeds,
        steps: steps.into_inner(),
        violations: broken.len(),
        schedules_per_minute_per_core: (rate * 10.0).round() / 10.0,
        slowest_recovery_ms: slowest.into_inner().expect("all threads have ended"),
        broken,
    }
}

/// What this thread spent on a core: others may use the machine, too. Where the kernel does not tell, time itself.
struct CpuClock {
    began: Instant,
    spent: Option<Duration>,
}

impl CpuClock {
    fn begin() -> Self {
        CpuClock { began: Instant::now(), spent: spent() }
    }

    fn elapsed(&self) -> Duration {
        match (self.spent, spent()) {
            (Some(before), Some(after)) if after > before => after - before,
            _ => self.began.elapsed(),
        }
    }
}

fn spent() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}
