//! What is wrong with this machine, with what leads to the others, and with the fence devices?
//!
//! A thread of its own looks once a second, and asks the members that are heard for their problems. The leader's also
//! asks each fence device of each member for its status every few minutes, one after the other and never while a node is
//! being fenced. Nothing that it does is waited for by heartbeats or the worker's loop.
//!
//! In: the picture, the events, the disk, answers of others and of fence agents. Out: problems on the `Board`, events.
//! Not here: what the picture itself shows (`status.rs`), what becomes of a problem (`problems.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::EventKind;
use model::{FenceOutcome, FenceStatus, Instant, LinkId, MemberState, NodeId, NodeRole, Problem, ProblemKind};
use node::{Answer, View};
use tokio::sync::oneshot;

use super::node_file::PORT;
use super::peers;
use super::problems::Said;
use super::status::{is_heard, network_between, strays};
use super::worker::{Hub, Work};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two questions to the same member while all is well: each costs a TLS connection…
const ASK_EVERY: Duration = Duration::from_secs(10);

/// … and while something is a problem, or the last question had no answer.
const ASK_SOON: Duration = Duration::from_secs(2);

/// How long a member may take to tell its problems.
const ASK_PATIENCE: Duration = Duration::from_secs(3);

/// A member that is heard and could not be asked for so long is a problem.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(8);

/// A member that is heard and followed no leader for so long is a problem: elections are faster.
const STRAY_AFTER: Duration = Duration::from_secs(3);

/// What happens again and again is counted over this time.
const COUNTED_OVER: Duration = Duration::from_secs(600);

/// So many restarts of a worker, or falls of a link, in that time are a problem.
const TIMES_MIN: usize = 3;

/// Between two looks at the disk and at the installed agents.
const MACHINE_EVERY: Duration = Duration::from_secs(5);

/// A disk with less space than this, and less than one part in twenty, is nearly full; in bytes.
const DISK_FREE_MIN: u64 = 256 * 1024 * 1024;

/// A new leader asks the fence devices after this at first…
const DEVICES_FIRST: Duration = Duration::from_secs(15);

/// … and then so often…
const DEVICES_EVERY: Duration = Duration::from_secs(180);

/// … but sooner while one of them is a problem.
const DEVICES_AGAIN: Duration = Duration::from_secs(30);

/// The longest wait for the devices of one member: an agent has its own, shorter limit.
const DEVICES_PATIENCE: Duration = Duration::from_secs(180);

/// Watches until the process ends.
///
/// # Errors
/// If the system gives no thread.
pub fn start(hub: &Arc<Hub>) -> anyhow::Result<()> {
    let hub = hub.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("problems".into()).stack_size(512 * 1024).spawn(move || {
        runtime.block_on(async move {
            let mut watch = Watch::new(hub);
            let mut ticks = tokio::time::interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                watch.look();
            }
        });
    })?;
    Ok(())
}

struct Watch {
    hub: Arc<Hub>,
    /// How often the workers of others were started.
    sessions: BTreeMap<NodeId, Counter>,
    downs: BTreeMap<(NodeId, LinkId), Counter>,
    strays_since: BTreeMap<NodeId, Instant>,
    asked: Arc<Mutex<BTreeMap<NodeId, Asked>>>,
    machine: Vec<Problem>,
    machine_at: Option<Instant>,
    devices: Arc<Mutex<Devices>>,
}

/// How the questions to one member went.
#[derive(Default)]
struct Asked {
    at: Option<Instant>,
    is_waiting: bool,
    has_problems: bool,
    /// Since when there is no answer, and why.
    failing: Option<(Instant, String)>,
}

/// What the fence devices said to this leader.
#[derive(Default)]
struct Devices {
    is_asking: bool,
    /// They are asked next at this time; none: this node does not lead.
    next_at: Option<Instant>,
    /// What was wrong, by member and device.
    wrong: Vec<Problem>,
}

/// How often a number that only grows has risen within the last ten minutes.
#[derive(Default)]
struct Counter {
    last: Option<u64>,
    times: VecDeque<Instant>,
}

impl Counter {
    /// Takes the number as it is now; returns how often it rose lately.
    fn take(&mut self, count: u64, now: Instant) -> usize {
        let rises = self.last.map_or(0, |last| count.saturating_sub(last));
        self.last = Some(count);
        for _ in 0..rises.min(100) {
            self.times.push_back(now);
        }
        while self.times.front().is_some_and(|at| now.since(*at) > COUNTED_OVER) || self.times.len() > 100 {
            self.times.pop_front();
        }
        self.times.len()
    }
}

impl Watch {
    fn new(hub: Arc<Hub>) -> Self {
        Watch {
            hub,
            sessions: BTreeMap::new(),
            downs: BTreeMap::new(),
            strays_since: BTreeMap::new(),
            asked: Arc::default(),
            machine: Vec::new(),
            machine_at: None,
            devices: Arc::default(),
        }
    }

    fn look(&mut self) {
        let now = host::identity::now();
        let picture = self.hub.picture();
        let view = &picture.view;
        self.ask_others(view, now);
        self.ask_devices(view, now);
        if self.machine_at.is_none_or(|at| now.since(at) >= MACHINE_EVERY) {
            self.machine_at = Some(now);
            self.machine = self.of_machine(view);
        }
        let mut problems = self.machine.clone();
        problems.extend(self.own_restarts(view, now));
        problems.extend(self.restarts_of_others(view, now));
        problems.extend(self.flaps(view, now));
        problems.extend(self.strays(view, now));
        problems.extend(self.unreachable(view, now));
        problems.extend(lock(&self.devices).wrong.iter().cloned());
        self.hub.board().set_local(problems);
        for change in self.hub.board().update(view, now, host::identity::wall()) {
            let is_over = if change.is_over { "over: " } else { "" };
            tracing::warn!(subject = %change.problem.subject, "{is_over}{}", change.problem.text);
            self.hub.events().tell_problem(&change.problem, change.is_over);
        }
    }

    /// Asks the members that are heard for their problems.
    fn ask_others(&self, view: &View, now: Instant) {
        let has_problems = self.hub.board().has_problems();
        let mut asked = lock(&self.asked);
        let is_there = |id: &NodeId| {
            let is_online = view.state.members.get(id).is_some_and(|member| member.state == MemberState::Online);
            *id != view.own && is_online && is_heard(view, *id)
        };
        asked.retain(|id, _| is_there(id));
        for id in view.state.members.keys().copied().filter(is_there) {
            let entry = asked.entry(id).or_default();
            let is_soon = has_problems || entry.has_problems || entry.failing.is_some();
            let pause = if is_soon { ASK_SOON } else { ASK_EVERY };
            if entry.is_waiting || entry.at.is_some_and(|at| now.since(at) < pause) {
                continue;
            }
            (entry.is_waiting, entry.at) = (true, Some(now));
            let (hub, asked) = (self.hub.clone(), self.asked.clone());
            tokio::spawn(async move {
                let answer = hub.ask_peer(id, peers::problems_question(), ASK_PATIENCE).await;
                let now = host::identity::now();
                let mut asked = lock(&asked);
                let Some(entry) = asked.get_mut(&id) else { return };
                entry.is_waiting = false;
                match answer {
                    Ok(bytes) => {
                        entry.failing = None;
                        // An older program knows no such question: it is there, and says nothing.
                        let said = peers::unpack::<Vec<serde_json::Value>>(&bytes).unwrap_or_default();
                        let known = |value| serde_json::from_value::<Said>(value).ok();
                        let said: Vec<Said> = said.into_iter().filter_map(known).collect();
                        entry.has_problems = !said.is_empty();
                        hub.board().set_told(id, said, now);
                    }
                    Err(cause) => {
                        let since = entry.failing.take().map_or(now, |(since, _)| since);
                        entry.failing = Some((since, format!("{cause:#}")));
                    }
                }
            });
        }
    }

    fn unreachable(&self, view: &View, now: Instant) -> Vec<Problem> {
        let asked = lock(&self.asked);
        let failing = asked.iter().filter_map(|(id, entry)| {
            let (since, why) = entry.failing.as_ref()?;
            (now.since(*since) >= UNREACHABLE_AFTER).then_some((id, why))
        });
        failing
            .map(|(id, why)| {
                let (own, name) = (view.state.name_of(view.own), view.state.name_of(*id));
                let text = format!(
                    "{name} is heard, and {own} cannot reach it over TCP {PORT} ({why}): requests and long messages do not \
                     arrive. See its daemon, and its firewall in both directions"
                );
                Problem::new(ProblemKind::Unreachable, name, text)
            })
            .collect()
    }

    fn strays(&mut self, view: &View, now: Instant) -> Vec<Problem> {
        let strays = strays(view);
        let id_of = |problem: &Problem| view.state.member_named(&problem.subject.as_str().into()).map(|(id, _)| id);
        let ids: BTreeSet<NodeId> = strays.iter().filter_map(id_of).collect();
        self.strays_since.retain(|id, _| ids.contains(id));
        for id in ids {
            self.strays_since.entry(id).or_insert(now);
        }
        let lasts = |problem: &Problem| {
            let since = id_of(problem).and_then(|id| self.strays_since.get(&id));
            since.is_some_and(|since| now.since(*since) >= STRAY_AFTER)
        };
        strays.into_iter().filter(lasts).collect()
    }

    fn flaps(&mut self, view: &View, now: Instant) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.downs.retain(|(id, _), _| view.state.members.contains_key(id));
        for (key, count) in &view.downs {
            // A link that has never gone down is not among them: its first fall counts too.
            let counter = self.downs.entry(*key).or_insert_with(|| Counter { last: Some(0), ..Counter::default() });
            let times = counter.take(*count, now);
            if times >= TIMES_MIN && view.state.members.contains_key(&key.0) {
                let subject = network_between(view, key.0, key.1);
                let text = format!(
                    "{subject} went down {times} times in the last {} min: look at its cable, its switch and the load there",
                    COUNTED_OVER.as_secs() / 60
                );
                problems.push(Problem::new(ProblemKind::LinkFlaps, subject, text));
            }
        }
        problems
    }

    fn restarts_of_others(&mut self, view: &View, now: Instant) -> Vec<Problem> {
        self.sessions.retain(|id, _| view.peers.contains_key(id));
        let mut problems = Vec::new();
        for (id, peer) in &view.peers {
            let counter = self.sessions.entry(*id).or_default();
            // The first one is no restart.
            if peer.sessions > 0 && counter.take(u64::from(peer.sessions), now) >= TIMES_MIN {
                let name = view.state.name_of(*id);
                let text = restarts_text(&name, counter.times.len(), None);
                problems.push(Problem::new(ProblemKind::WorkerRestarts, name, text));
            }
        }
        problems
    }

    /// The workers before this one in this boot, as the events tell.
    fn own_restarts(&self, view: &View, now: Instant) -> Option<Problem> {
        let now_us = now.as_nanos() / 1000;
        let oldest = now_us.saturating_sub(u64::try_from(COUNTED_OVER.as_micros()).unwrap_or(u64::MAX));
        let is_start =
            |event: &api::Event| event.event == EventKind::Started && event.at_us >= oldest && event.at_us <= now_us;
        let restarts = self.hub.events().those(is_start).len().saturating_sub(1);
        if restarts < TIMES_MIN {
            return None;
        }
        let name = view.state.name_of(view.own);
        let why = last_end(&self.hub.paths().last_end());
        Some(Problem::new(ProblemKind::WorkerRestarts, &name, restarts_text(&name, restarts, why.as_deref())))
    }

    fn of_machine(&self, view: &View) -> Vec<Problem> {
        let name = view.state.name_of(view.own);
        let lib = self.hub.paths().lib();
        let mut problems = Vec::new();
        match rustix::fs::statvfs(&lib) {
            Ok(disk) => {
                let free = disk.f_bavail.saturating_mul(disk.f_frsize);
                if is_nearly_full(free, disk.f_blocks.saturating_mul(disk.f_frsize)) {
                    let text = format!(
                        "the disk of {name} is nearly full: {} MB are left for {}. Make room: a node that cannot write drops \
                         out, and its services are looked after no more",
                        free / 1_000_000,
                        lib.display()
                    );
                    problems.push(Problem::new(ProblemKind::DiskFull, &name, text));
                }
            }
            Err(cause) => {
                let text = format!("the disk of {name} cannot be looked at ({}: {cause}): see `dmesg`", lib.display());
                problems.push(Problem::new(ProblemKind::DiskFull, &name, text));
            }
        }
        let is_member = view.state.members.get(&view.own).is_some_and(|own| own.role == NodeRole::Member);
        let used: BTreeSet<_> = view.state.config.nodes.values().flat_map(|node| &node.fence).collect();
        let devices = view.state.config.fence_devices.iter().filter(|(device, _)| is_member && used.contains(device));
        let missing: Vec<String> = devices
            .filter_map(|(device, config)| {
                let why = agents::find_fence_agent(self.hub.paths().root(), &config.agent).err()?;
                Some(format!("{device}: {why}"))
            })
            .collect();
        if !missing.is_empty() {
            let text = format!(
                "{name} cannot fence anybody when it leads ({}): install the agent on {name}",
                missing.join("; ")
            );
            problems.push(Problem::new(ProblemKind::FenceAgent, &name, text));
        }
        problems
    }

    /// On the leader: asks the fence devices for the status of each member when it is time.
    fn ask_devices(&self, view: &View, now: Instant) {
        let mut devices = lock(&self.devices);
        if !view.is_quorate || view.leader != Some(view.own) {
            devices.next_at = None;
            devices.wrong.clear();
            return;
        }
        let next_at = *devices.next_at.get_or_insert(now + DEVICES_FIRST);
        let is_fencing = view.state.members.values().any(|member| member.state == MemberState::Condemned);
        if devices.is_asking || now < next_at || is_fencing {
            return;
        }
        devices.is_asking = true;
        let asked = view.state.members.iter().filter(|(_, member)| {
            member.role == NodeRole::Member
                && member.state == MemberState::Online
                && view.state.config.nodes.get(&member.name).is_some_and(|node| !node.fence.is_empty())
        });
        let asked: Vec<NodeId> = asked.map(|(id, _)| *id).collect();
        let (hub, devices) = (self.hub.clone(), self.devices.clone());
        tokio::spawn(async move {
            let mut wrong = Vec::new();
            for id in asked {
                wrong.extend(ask_devices_of(&hub, id).await);
            }
            let mut devices = lock(&devices);
            devices.is_asking = false;
            // Who leads no longer since has nothing to say.
            if devices.next_at.is_some() {
                let pause = if wrong.is_empty() { DEVICES_EVERY } else { DEVICES_AGAIN };
                devices.next_at = Some(host::identity::now() + pause);
                devices.wrong = wrong;
            }
        });
    }
}

/// What is wrong with the devices of one member. Nothing is said where they could not be asked, for instance since
/// somebody is being fenced.
async fn ask_devices_of(hub: &Arc<Hub>, id: NodeId) -> Vec<Problem> {
    let is_fencing = |view: &View| view.state.members.values().any(|member| member.state == MemberState::Condemned);
    let before = hub.picture();
    if is_fencing(&before.view) {
        return Vec::new();
    }
    let (answer, wait) = oneshot::channel();
    let request = node::Request::FenceTest { node: id };
    hub.tell(Work::Ask { request, actor: "cluster".to_owned(), answer });
    let Ok(Ok(Answer::FenceTests(results))) = tokio::time::timeout(DEVICES_PATIENCE, wait).await else {
        return Vec::new();
    };
    let after = hub.picture();
    if is_fencing(&after.view) {
        return Vec::new();
    }
    let was_heard = is_heard(&before.view, id) && is_heard(&after.view, id);
    device_problems(&before.view, id, was_heard, &results)
}

/// What the answers of a member's devices mean.
fn device_problems(view: &View, id: NodeId, was_heard: bool, results: &[fencing::FenceTest]) -> Vec<Problem> {
    let name = view.state.name_of(id);
    let mut failed = Vec::new();
    let mut off = Vec::new();
    for result in results {
        match &result.outcome {
            FenceOutcome::Failed { reason } => failed.push(format!("{}: {reason}", result.device)),
            FenceOutcome::Status(FenceStatus::Off) if was_heard => off.push(result.device.as_str()),
            FenceOutcome::Status(FenceStatus::Off | FenceStatus::On) | FenceOutcome::Done => {}
        }
    }
    let mut problems = Vec::new();
    if !failed.is_empty() {
        let text = format!(
            "fence devices of {name} do not work ({}): without them {name} cannot be proven off. Mend that, then `cardea \
             fence test {name}`",
            failed.join("; ")
        );
        problems.push(Problem::new(ProblemKind::FenceDevice, &name, text));
    }
    if !off.is_empty() {
        problems.push(Problem::new(ProblemKind::FenceReadsOff, &name, reads_off_text(&name, &off.join(", "))));
    }
    problems
}

/// A device says off, and the node is heard.
fn reads_off_text(name: &str, devices: &str) -> String {
    format!(
        "{devices} reads off for {name}, and {name} is heard: its plug belongs to another machine, or the device lies, and \
         what {name} runs could run twice. Check the plugs, then `cardea fence test {name}`"
    )
}

/// A worker that was started so often.
fn restarts_text(name: &str, times: usize, why: Option<&str>) -> String {
    let minutes = COUNTED_OVER.as_secs() / 60;
    let why = why.map_or_else(String::new, |why| format!("; it ended last with: {why}"));
    format!(
        "the worker of {name} was started {times} times more in the last {minutes} min{why}. See `journalctl -u cardea` on \
         {name}"
    )
}

/// How the last worker that ended by an error did, in one line, if that was in the last minutes.
pub fn last_end(file: &Path) -> Option<String> {
    let age = file.metadata().ok()?.modified().ok()?.elapsed().unwrap_or_default();
    let text = std::fs::read_to_string(file).ok().filter(|_| age < COUNTED_OVER)?;
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn is_nearly_full(free: u64, size: u64) -> bool {
    free < DISK_FREE_MIN && free.saturating_mul(20) < size
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use fencing::FenceTest;

    use super::super::testing::{B, C, view};
    use super::*;

    const START: Instant = Instant::from_nanos(1_000_000_000);

    #[test]
    fn what_rises_is_counted_for_ten_minutes() {
        let mut counter = Counter::default();
        assert_eq!(counter.take(7, START), 0, "what was before is not known to be recent");
        assert_eq!(counter.take(9, START), 2);
        assert_eq!(counter.take(10, START + Duration::from_secs(300)), 3);
        assert_eq!(counter.take(10, START + Duration::from_secs(601)), 1);
        assert_eq!(counter.take(3, START + Duration::from_secs(602)), 1, "a new count begins lower");
        assert_eq!(counter.take(4, START + Duration::from_secs(602)), 2);
        assert_eq!(counter.take(1_000_000, START + Duration::from_secs(602)), 100, "and it is bounded");
    }

    fn said(outcome: FenceOutcome) -> FenceTest {
        FenceTest { device: model::FenceName("power".to_owned()), outcome, took_ms: 5 }
    }

    #[test]
    fn a_device_that_fails_or_says_off_for_a_heard_node_is_a_problem() {
        let view = view();
        let problems = |was_heard, outcome| device_problems(&view, B, was_heard, &[said(outcome)]);
        assert_eq!(problems(true, FenceOutcome::Status(FenceStatus::On)), []);
        assert_eq!(problems(false, FenceOutcome::Status(FenceStatus::Off)), [], "it is off");
        let off = problems(true, FenceOutcome::Status(FenceStatus::Off));
        assert_eq!((off.len(), off[0].kind, off[0].subject.as_str()), (1, ProblemKind::FenceReadsOff, "b"));
        assert!(off[0].text.starts_with("power reads off for b, and b is heard"), "{off:?}");
        let failed = problems(true, FenceOutcome::Failed { reason: "wrong password".to_owned() });
        assert_eq!(failed[0].kind, ProblemKind::FenceDevice);
        assert!(failed[0].text.contains("power: wrong password") && failed[0].text.contains("cardea fence test b"));
    }

    #[test]
    fn who_is_heard_and_follows_another_leader_or_none_is_a_stray() {
        let mut view = view();
        for peer in view.peers.values_mut() {
            (peer.facts.leader, peer.facts.term) = (Some(view.own), view.term);
        }
        assert_eq!(strays(&view), []);
        view.peers.get_mut(&C).expect("c").facts.term = model::Term(view.term.0 - 1);
        assert_eq!(strays(&view).len(), 1, "it follows who led before");
        view.peers.get_mut(&C).expect("c").facts.leader = None;
        let found = strays(&view);
        assert_eq!((found.len(), found[0].subject.as_str()), (1, "c"));
        assert!(found[0].text.contains("UDP 7601"), "{found:?}");
        view.is_quorate = false;
        assert_eq!(strays(&view), [], "who has no majority judges nobody");
    }

    #[test]
    fn only_a_disk_that_has_little_left_of_both_is_nearly_full() {
        let (mega, giga) = (1024 * 1024, 1024 * 1024 * 1024);
        assert!(is_nearly_full(10 * mega, 10 * giga));
        assert!(!is_nearly_full(300 * mega, 100 * giga) && !is_nearly_full(10 * mega, 20 * mega));
    }

    #[test]
    fn how_a_worker_ended_is_one_line_and_may_be_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("worker-ended");
        assert_eq!(last_end(&file), None);
        std::fs::write(&file, "the disk failed:\n  no space\u{1b}[2J").expect("room");
        assert_eq!(last_end(&file).as_deref(), Some("the disk failed:   no space [2J"));
    }
}
