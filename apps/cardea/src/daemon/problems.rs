//! Which problems are there, since when, and who sees them?
//!
//! Every node finds problems by itself (`status.rs` in the picture, `watch.rs` on the machine) and asks the others for
//! theirs: so each is seen on every node. A problem begins when the first node sees it and is over once nobody has seen
//! it for a moment; both are events of every node, which outlive its worker.
//!
//! ```text
//!   picture ──► found ─┐
//!   watch ─────────────┼──► merged by kind and subject ──► faults of `status`, events, `history`
//!   other nodes ───────┘
//! ```
//!
//! Not here: how a problem is found, how the others are asked.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{Event, EventKind, Fault};
use model::{Instant, NodeId, Problem, ProblemKind, WallTime};
use node::View;
use serde::{Deserialize, Serialize};

use super::status::{found, show_time};

/// A problem that ends sooner is no event: a failover alone makes several.
const LASTING: Duration = Duration::from_secs(2);

/// A problem that nobody sees is over after this.
const OVER_AFTER: Duration = Duration::from_secs(4);

/// What was a problem before the worker was replaced is looked for this long before it is over.
const OVER_AFTER_RESTART: Duration = Duration::from_secs(30);

/// What another node said counts this long.
const TOLD_FOR: Duration = Duration::from_secs(25);

/// The most problems that are taken from another node, and the longest sentence of one, in bytes.
const TOLD_MAX: usize = 200;
const TEXT_BYTES_MAX: usize = 2000;

/// The same problem, whatever its sentence says.
type Key = (ProblemKind, String);

/// What this node knows of problems; shared by the threads of a worker.
#[derive(Default)]
pub struct Board(Mutex<Known>);

#[derive(Default)]
struct Known {
    open: BTreeMap<Key, Open>,
    /// What was found on this machine.
    local: Vec<Problem>,
    told: BTreeMap<NodeId, Told>,
}

struct Open {
    since: WallTime,
    first_seen: Instant,
    /// It is over then, unless it is seen again.
    ends_at: Instant,
    text: String,
    is_announced: bool,
}

struct Told {
    at: Instant,
    said: Vec<Said>,
}

/// A problem as one node tells another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    #[serde(flatten)]
    problem: Problem,
    /// Since when, milliseconds since 1970.
    since_ms: u64,
}

/// A problem began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The problem with the sentence that it was last told with.
    pub problem: Problem,
    /// It is over.
    pub is_over: bool,
}

/// One problem while the words about it are brought together.
struct Merged {
    text: String,
    rank: Rank,
    since: Option<WallTime>,
    seen_by: Vec<String>,
}

/// Whose sentence about a problem is taken: the last of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Before,
    Other,
    Own,
    Leader,
    Subject,
}

impl Board {
    /// Goes on with what was a problem according to these events of the workers before.
    pub fn new(events: &[Event], now: Instant) -> Self {
        let mut open = BTreeMap::new();
        for event in events {
            let Some(kind) = event.problem else { continue };
            let key = (kind, event.subject.clone());
            if event.event == EventKind::ProblemOver {
                open.remove(&key);
            } else {
                let since = WallTime(event.wall_ms);
                let ends_at = now + OVER_AFTER_RESTART;
                let text = event.reason.clone();
                open.insert(key, Open { since, first_seen: now, ends_at, text, is_announced: true });
            }
        }
        Board(Mutex::new(Known { open, ..Known::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found on this machine; replaces what was found before.
    pub fn set_local(&self, problems: Vec<Problem>) {
        self.lock().local = problems;
    }

    /// What another node said; replaces what it said before.
    pub fn set_told(&self, by: NodeId, mut said: Vec<Said>, now: Instant) {
        said.truncate(TOLD_MAX);
        said.retain(|said| said.problem.text.len() <= TEXT_BYTES_MAX && said.problem.subject.len() <= TEXT_BYTES_MAX);
        self.lock().told.insert(by, Told { at: now, said });
    }

    /// What this node tells others: what it sees itself. A node without a majority speaks of itself alone, since what it
    /// knows of the others is old.
    pub fn say(&self, view: &View) -> Vec<Said> {
        let known = self.lock();
        let own = view.state.name_of(view.own);
        let own_leads = view.leader == Some(view.own);
        let is_news = |problem: &Problem| match relation(problem.kind) {
            Relation::Agreed => own_leads,
            Relation::Leaders => own_leads && view.is_quorate,
            Relation::Seen => view.is_quorate || problem.subject == own,
        };
        let all = found(view).into_iter().chain(known.local.iter().cloned()).filter(is_news);
        all.map(|problem| {
            let open = known.open.get(&(problem.kind, problem.subject.clone()));
            let since_ms = open.map_or_else(|| host::identity::wall().0, |open| open.since.0);
            Said { problem, since_ms }
        })
        .collect()
    }

    /// Everything that is a problem now, the worst first.
    pub fn faults(&self, view: &View, now: Instant) -> Vec<Fault> {
        self.lock().faults(view, now)
    }

    /// Was something a problem at the last look?
    pub fn has_problems(&self) -> bool {
        !self.lock().open.is_empty()
    }

    /// Looks again; returns what began and what ended.
    pub fn update(&self, view: &View, now: Instant, wall: WallTime) -> Vec<Change> {
        let mut known = self.lock();
        known.told.retain(|id, told| now.since(told.at) < TOLD_FOR && view.state.members.contains_key(id));
        let merged = known.merged(view, now);
        let mut changes = Vec::new();
        for ((kind, subject), merged) in merged {
            let open = known.open.entry((kind, subject.clone())).or_insert_with(|| Open {
                since: merged.since.unwrap_or(wall),
                first_seen: now,
                ends_at: now,
                text: String::new(),
                is_announced: false,
            });
            // What is only remembered lasts no longer for it.
            if merged.rank != Rank::Before || is_lasting(kind) {
                open.ends_at = now + OVER_AFTER;
            }
            open.text = merged.text;
            if !open.is_announced && now.since(open.first_seen) >= LASTING {
                open.is_announced = true;
                changes.push(Change { problem: Problem::new(kind, subject, open.text.clone()), is_over: false });
            }
        }
        known.open.retain(|(kind, subject), open| {
            let is_over = open.ends_at <= now || is_lasting(*kind) && is_cleared(view, subject, open.since);
            if is_over && open.is_announced {
                changes.push(Change { problem: Problem::new(*kind, subject, open.text.clone()), is_over: true });
            }
            !is_over
        });
        changes
    }
}

impl Known {
    fn faults(&self, view: &View, now: Instant) -> Vec<Fault> {
        let mut faults: Vec<Fault> = self
            .merged(view, now)
            .into_iter()
            .map(|((kind, subject), merged)| {
                let known = self.open.get(&(kind, subject.clone())).map(|open| open.since);
                let since = known.or(merged.since).map(show_time).unwrap_or_default();
                let Merged { text, seen_by, .. } = merged;
                Fault { kind, severity: kind.severity(), subject, since, text, seen_by }
            })
            .collect();
        faults.sort_by_key(|fault| std::cmp::Reverse(fault.severity));
        faults
    }

    fn merged(&self, view: &View, now: Instant) -> BTreeMap<Key, Merged> {
        let own = view.state.name_of(view.own);
        let own_rank = |subject: &str| {
            if subject == own {
                Rank::Subject
            } else if view.leader == Some(view.own) {
                Rank::Leader
            } else {
                Rank::Own
            }
        };
        let mut merged: BTreeMap<Key, Merged> = BTreeMap::new();
        for problem in found(view).into_iter().chain(self.local.iter().cloned()) {
            let rank = own_rank(&problem.subject);
            let Problem { kind, subject, text } = problem;
            // The first sentence about it stays: it comes from who knows most.
            merged.entry((kind, subject)).or_insert(Merged { text, rank, since: None, seen_by: vec![own.clone()] });
        }
        for (id, told) in self.told.iter().filter(|(_, told)| now.since(told.at) < TOLD_FOR) {
            let name = view.state.name_of(*id);
            for Said { problem, since_ms } in &told.said {
                let key = (problem.kind, problem.subject.clone());
                let rank = match () {
                    () if problem.subject == name => Rank::Subject,
                    () if view.leader == Some(*id) => Rank::Leader,
                    () => Rank::Other,
                };
                if relation(problem.kind) == Relation::Agreed && !merged.contains_key(&key) {
                    continue;
                }
                let since = WallTime(*since_ms);
                let entry = merged.entry(key).or_insert_with(|| Merged {
                    text: problem.text.clone(),
                    rank,
                    since: Some(since),
                    seen_by: Vec::new(),
                });
                entry.seen_by.push(name.clone());
                entry.since = Some(entry.since.map_or(since, |before| before.min(since)));
                if rank > entry.rank {
                    (entry.text, entry.rank) = (problem.text.clone(), rank);
                }
            }
        }
        for merged in merged.values_mut().filter(|merged| merged.rank == Rank::Other) {
            merged.text = format!("{} (seen by {})", merged.text, merged.seen_by.join(", "));
        }
        for ((kind, subject), open) in &self.open {
            let may_flicker = *kind == ProblemKind::NotAnswering && open.is_announced && now < open.ends_at;
            if may_flicker || is_lasting(*kind) && !is_cleared(view, subject, open.since) {
                merged.entry((*kind, subject.clone())).or_insert_with(|| Merged {
                    text: open.text.clone(),
                    rank: Rank::Before,
                    since: Some(open.since),
                    seen_by: Vec::new(),
                });
            }
        }
        merged
    }
}

/// How other nodes come to know of a problem.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// From the agreed state, as this one: another node has at most a better sentence.
    Agreed,
    /// From the leader, who plans.
    Leaders,
    /// From whoever sees it.
    Seen,
}

fn relation(kind: ProblemKind) -> Relation {
    use ProblemKind as Kind;
    match kind {
        Kind::NotProvenOff
        | Kind::Blocked
        | Kind::Unwatched
        | Kind::Suppressed
        | Kind::Off
        | Kind::NeverCame
        | Kind::Failed => Relation::Agreed,
        Kind::RunsNowhere | Kind::Waits | Kind::NotSwitchedOn | Kind::FenceReadsOff | Kind::FenceDevice => {
            Relation::Leaders
        }
        Kind::FenceLied
        | Kind::NotQuorate
        | Kind::Silent
        | Kind::Deaf
        | Kind::NotAnswering
        | Kind::Unreachable
        | Kind::WrongState
        | Kind::Unreadable
        | Kind::TwoMachines
        | Kind::OldProgram
        | Kind::DiskFull
        | Kind::WorkerRestarts
        | Kind::FenceAgent
        | Kind::LinkDown
        | Kind::NewAddresses
        | Kind::LinkFlaps
        | Kind::Other => Relation::Seen,
    }
}

/// Is it a problem until an operator clears its node, though nothing shows it any more?
fn is_lasting(kind: ProblemKind) -> bool {
    kind == ProblemKind::FenceLied
}

fn is_cleared(view: &View, node: &str, since: WallTime) -> bool {
    let newest = view.state.history.iter().rev().take_while(|entry| entry.at >= since);
    let is_it = |subject: &str| subject == node || subject == "everything";
    newest.into_iter().any(|entry| entry.event == "cleared" && is_it(&entry.subject))
}

#[cfg(test)]
mod tests {
    use liveness::LinkState;

    use super::super::testing::{self, A, B, C, NOW, change, view};
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const START: Instant = Instant::from_nanos(1_000_000_000);

    fn full(of: &str) -> Problem {
        Problem::new(ProblemKind::DiskFull, of, format!("the disk of {of} is full"))
    }

    fn said(problem: Problem, since_ms: u64) -> Said {
        Said { problem, since_ms }
    }

    fn since(board: &Board, kind: ProblemKind, subject: &str) -> Option<WallTime> {
        board.lock().open.get(&(kind, subject.to_owned())).map(|open| open.since)
    }

    fn texts(faults: &[Fault]) -> Vec<&str> {
        faults.iter().map(|fault| fault.text.as_str()).collect()
    }

    #[test]
    fn what_one_node_finds_is_seen_on_every_node_with_its_beginning() {
        let board = Board::default();
        board.set_told(B, vec![said(full("b"), NOW.0)], START);
        let faults = board.faults(&view(), START + S);
        assert_eq!(texts(&faults), ["the disk of b is full"]);
        assert_eq!(
            (faults[0].seen_by.as_slice(), faults[0].since.as_str()),
            (&["b".to_owned()][..], "2026-11-22T20:00:00.000Z")
        );
        assert!(board.faults(&view(), START + TOLD_FOR).is_empty(), "who says nothing more has no say");
    }

    #[test]
    fn what_two_nodes_see_is_one_problem_with_the_sentence_of_who_knows_most() {
        let board = Board::default();
        let mut view = view();
        view.peers.get_mut(&B).expect("b").links[1].state = LinkState::Down;
        let down = found(&view).remove(0);
        board.set_told(B, vec![said(down, NOW.0)], START);
        let restarts = |text: &str| Problem::new(ProblemKind::WorkerRestarts, "b", text);
        board.set_local(vec![restarts("it was restarted")]);
        assert_eq!(board.faults(&view, START)[0].text, "it was restarted");
        board.set_told(C, vec![said(restarts("somebody else's word"), NOW.0)], START);
        assert_eq!(board.faults(&view, START)[0].text, "it was restarted");
        board.set_told(B, vec![said(restarts("its disk is full"), NOW.0)], START);
        let faults = board.faults(&view, START);
        assert_eq!((faults.len(), faults[0].text.as_str()), (2, "its disk is full"));
    }

    #[test]
    fn who_is_cut_off_says_nothing_about_the_others() {
        let mut view = view();
        for id in [A, C] {
            view.peers.insert(id, liveness::PeerReport { id, ..view.peers[&B].clone() });
            testing::silence(&mut view, id);
        }
        view.own = B;
        view.is_quorate = false;
        view.leader = None;
        let board = Board::default();
        let subjects: Vec<String> = board.say(&view).into_iter().map(|said| said.problem.subject).collect();
        assert_eq!(subjects, ["b"]);
    }

    #[test]
    fn a_problem_begins_and_ends_once_and_a_short_one_is_no_event() {
        let board = Board::default();
        let view = view();
        let at = |seconds: u64| (START + S * seconds as u32, WallTime(NOW.0 + 1000 * seconds));
        let step = |seconds| board.update(&view, at(seconds).0, at(seconds).1);
        board.set_local(vec![full("a")]);
        assert_eq!(step(0), []);
        board.set_local(Vec::new());
        assert_eq!((step(1), step(5)), (vec![], vec![]));
        board.set_local(vec![full("a")]);
        step(10);
        assert_eq!(step(12), [Change { problem: full("a"), is_over: false }]);
        assert_eq!(step(13), []);
        assert_eq!(since(&board, ProblemKind::DiskFull, "a"), Some(WallTime(NOW.0 + 10_000)));
        board.set_local(Vec::new());
        assert_eq!(step(14), []);
        assert_eq!(step(18), [Change { problem: full("a"), is_over: true }]);
    }

    #[test]
    fn a_new_worker_goes_on_with_what_was_a_problem() {
        let event = |kind, event, wall_ms| Event {
            number: 1,
            at_us: 1,
            wall_ms,
            node: "a".to_owned(),
            event,
            subject: "b".to_owned(),
            reason: "it lied".to_owned(),
            problem: Some(kind),
        };
        let events = [
            event(ProblemKind::FenceLied, EventKind::Problem, NOW.0),
            event(ProblemKind::DiskFull, EventKind::Problem, NOW.0),
            event(ProblemKind::Deaf, EventKind::Problem, NOW.0),
            event(ProblemKind::Deaf, EventKind::ProblemOver, NOW.0),
        ];
        let board = Board::new(&events, START);
        let mut view = view();
        assert_eq!(texts(&board.faults(&view, START)), ["it lied"], "only what nothing else shows is believed unseen");
        assert_eq!(board.update(&view, START + S, NOW), []);
        board.set_local(vec![full("b")]);
        assert_eq!(board.update(&view, START + S * 2, WallTime(NOW.0 + 9000)), [], "that is no news");
        assert_eq!(since(&board, ProblemKind::DiskFull, "b"), Some(NOW));
        assert_eq!(board.update(&view, START + S * 400, NOW).len(), 0, "it is seen");
        assert_eq!(board.faults(&view, START + S * 400).len(), 2, "a lie is one until it is cleared");
        change(&mut view, |state| {
            let mut entry = state.history[0].clone();
            (entry.event, entry.subject) = ("cleared".to_owned(), "b".to_owned());
            state.history.push_back(entry);
        });
        let changes = board.update(&view, START + S * 401, NOW);
        assert!(changes.iter().any(|c| c.is_over && c.problem.kind == ProblemKind::FenceLied), "{changes:?}");
    }
}
