//! What happened lately on this node? A bounded list that can be followed, and that outlives the worker.
//!
//! A thread of its own appends each event to a file, without waiting for the disk; nobody who tells of an event waits for
//! it. Two files of bounded length hold them, so that the older one can go whole. What cannot be read in them is left out.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use api::{Event, EventKind};
use model::Problem;
use tokio::sync::watch;

/// Events that are kept.
const KEPT_MAX: usize = 4096;

/// A file that is longer makes room for a new one, in bytes.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Events that may wait for the disk; more are not written.
const WAITING_MAX: usize = 1024;

/// The list; clones share it.
#[derive(Clone)]
pub struct Events {
    kept: Arc<Mutex<VecDeque<Event>>>,
    newest: Arc<watch::Sender<u64>>,
    node: Arc<str>,
    writer: Option<SyncSender<Event>>,
}

/// Waits for the next event.
pub struct Listener(watch::Receiver<u64>);

impl Events {
    /// An empty list of this node that is kept in memory alone.
    #[cfg(test)]
    pub fn new(node: &str) -> Self {
        Events::of(node, VecDeque::new(), None)
    }

    /// The list of this node as it is in this file, which it is kept in from now on. A file that cannot be read or
    /// written costs only what is in it.
    pub fn open(node: &str, file: &Path) -> Self {
        let mut kept = VecDeque::new();
        for path in [older(file), file.to_owned()] {
            if let Err(cause) = load(&path, &mut kept) {
                tracing::warn!("cannot read {}: {cause}; the events in it are left out", path.display());
            }
        }
        let (writer, waiting) = sync_channel(WAITING_MAX);
        let path = file.to_owned();
        let started = std::thread::Builder::new()
            .name("events".into())
            .stack_size(256 * 1024)
            .spawn(move || write_all(&path, &waiting));
        if let Err(cause) = &started {
            tracing::warn!("events are not kept for the next worker: {cause}");
        }
        Events::of(node, kept, started.is_ok().then_some(writer))
    }

    fn of(node: &str, kept: VecDeque<Event>, writer: Option<SyncSender<Event>>) -> Self {
        let newest = kept.back().map_or(0, |event| event.number);
        Events {
            kept: Arc::new(Mutex::new(kept)),
            newest: Arc::new(watch::channel(newest).0),
            node: node.into(),
            writer,
        }
    }

    /// Adds one and wakes whoever follows.
    pub fn tell(&self, event: EventKind, subject: &str, reason: &str) {
        self.add(event, subject, reason, None);
    }

    /// Tells that a problem began, or is over.
    pub fn tell_problem(&self, problem: &Problem, is_over: bool) {
        let event = if is_over { EventKind::ProblemOver } else { EventKind::Problem };
        self.add(event, &problem.subject, &problem.text, Some(problem.kind));
    }

    fn add(&self, event: EventKind, subject: &str, reason: &str, problem: Option<model::ProblemKind>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let number = kept.back().map_or(0, |event| event.number) + 1;
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        let event = Event {
            number,
            at_us: host::identity::now().as_nanos() / 1000,
            wall_ms: host::identity::wall().0,
            node: self.node.to_string(),
            event,
            subject: subject.to_owned(),
            reason: reason.to_owned(),
            problem,
        };
        if let Some(writer) = &self.writer {
            // A disk that hangs costs what comes meanwhile, and holds up nobody.
            let _ = writer.try_send(event.clone());
        }
        kept.push_back(event);
        drop(kept);
        self.newest.send_replace(number);
    }

    /// Every kept event with a number above `number`.
    pub fn since(&self, number: u64) -> Vec<Event> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|event| event.number > number).cloned().collect()
    }

    /// Every kept event, if it is one of these.
    pub fn those(&self, is_it: impl Fn(&Event) -> bool) -> Vec<Event> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|event| is_it(event)).cloned().collect()
    }

    /// Something to wait with.
    pub fn listen(&self) -> Listener {
        Listener(self.newest.subscribe())
    }
}

/// Where the events are that came before those of the file.
fn older(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

/// Adds what a file holds; lines that are no events, or do not follow the ones before, are left out.
fn load(path: &Path, kept: &mut VecDeque<Event>) -> std::io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(cause),
    };
    // A line may have been written in part, and be no text.
    for line in BufReader::new(file.take(2 * FILE_BYTES_MAX)).split(b'\n') {
        let Ok(event) = serde_json::from_slice::<Event>(&line?) else { continue };
        if kept.back().is_none_or(|last| last.number < event.number) {
            if kept.len() == KEPT_MAX {
                kept.pop_front();
            }
            kept.push_back(event);
        }
    }
    Ok(())
}

/// Writes what comes until nobody tells of anything any more.
fn write_all(path: &Path, waiting: &Receiver<Event>) {
    let mut file = None;
    let mut has_failed = false;
    while let Ok(event) = waiting.recv() {
        let written = match &mut file {
            Some(file) => append(file, &event),
            None => open_file(path).and_then(|opened| append(file.insert(opened), &event)),
        };
        let rotated = written.and_then(|()| {
            let is_long =
                file.as_ref().map(File::metadata).transpose()?.is_some_and(|about| about.len() > FILE_BYTES_MAX);
            if is_long {
                file = None;
                std::fs::rename(path, older(path))?;
            }
            Ok(())
        });
        match rotated {
            Ok(()) => has_failed = false,
            Err(cause) => {
                file = None;
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!(
                        "cannot write {}: {cause}; the next worker will not know these events",
                        path.display()
                    );
                }
            }
        }
    }
}

/// A file that ends in the middle of a line goes on with a line of its own.
fn open_file(path: &Path) -> std::io::Result<File> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
    if file.metadata()?.len() > 0 {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

fn append(file: &mut File, event: &Event) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    file.write_all(&line)
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

    /// What the history says arrives as an event of the same name, and not as a note.
    #[test]
    fn every_word_of_the_history_is_an_event() {
        for word in state::HISTORY_WORDS {
            let kind = serde_json::from_value::<EventKind>(word.into()).unwrap_or_else(|_| panic!("{word}"));
            assert_ne!(kind, EventKind::Note, "{word}");
        }
    }

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

    /// Waits for the writer's thread.
    fn lines(path: &Path, count: usize) -> String {
        for _ in 0..2000 {
            let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
            if text.lines().filter(|line| line.ends_with('}')).count() >= count {
                return text;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("{} has fewer than {count} lines", path.display());
    }

    #[test]
    fn events_outlive_their_worker_and_a_broken_file_costs_what_is_broken() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events.jsonl");
        let first = Events::open("a", &path);
        let problem = Problem::new(model::ProblemKind::DiskFull, "a", "it is full");
        first.tell(EventKind::Started, "a", "one");
        first.tell_problem(&problem, false);
        lines(&path, 2);
        let mut file = OpenOptions::new().append(true).open(&path).expect("it is there");
        file.write_all(b"{\"number\": 3, \xff\xfe").expect("room");
        let second = Events::open("a", &path);
        second.tell(EventKind::Started, "a", "three");
        lines(&path, 3);
        let third = Events::open("a", &path);
        let told: Vec<(u64, String)> = third.since(0).into_iter().map(|event| (event.number, event.reason)).collect();
        assert_eq!(told, [(1, "one".to_owned()), (2, "it is full".to_owned()), (3, "three".to_owned())]);
        assert_eq!(third.since(1)[0].problem, Some(model::ProblemKind::DiskFull));
        // What is no file is no events, and stops nobody.
        let folder = Events::open("a", folder.path());
        folder.tell(EventKind::Note, "a", "kept in memory");
        assert_eq!(folder.since(0).len(), 1);
    }

    #[test]
    fn the_files_stay_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events.jsonl");
        let (writer, waiting) = sync_channel(8);
        let written = path.clone();
        let thread = std::thread::spawn(move || write_all(&written, &waiting));
        let sample = told(1).since(0).remove(0);
        for number in 1..=3000 {
            let reason = "x".repeat(2000);
            writer.send(Event { number, reason, ..sample.clone() }).expect("the thread lives");
        }
        drop(writer);
        thread.join().expect("no panic");
        let sizes = [&path, &older(&path)].map(|path| std::fs::metadata(path).map_or(0, |about| about.len()));
        assert!(sizes.iter().all(|size| *size <= FILE_BYTES_MAX + 4096), "{sizes:?}");
        let kept = Events::open("a", &path).since(0);
        assert_eq!(kept.last().map(|event| event.number), Some(3000));
        assert!(kept.len() > 500, "the older file counts too: {}", kept.len());
    }
}
