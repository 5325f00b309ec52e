//! How do log lines reach the journal without anybody waiting for it?
//!
//! Standard error may be a journal that hangs or a terminal that nobody reads. A thread of its own writes to it; when
//! too much waits, lines are dropped, and the next line that gets through says how many.
//!
//! The thread starts with the first line, so that it inherits the signals that its process has blocked by then.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const LINES_MAX: usize = 4096;
/// How long the end of the process waits for its last lines.
const LAST_LINES: Duration = Duration::from_millis(300);

enum Job {
    Line(Vec<u8>),
    /// Everything before this has been written.
    Written(SyncSender<()>),
}

static LINES: Lines = Lines { jobs: OnceLock::new(), dropped: AtomicU64::new(0) };

struct Lines {
    jobs: OnceLock<Option<SyncSender<Job>>>,
    dropped: AtomicU64,
}

/// Logs to standard error from now on.
pub fn start() {
    let filter = EnvFilter::try_from_env("CARDEA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(ToLines).with_target(false).with_ansi(false).init();
}

/// Writes a line of its own, in its turn.
pub fn line(text: String) {
    LINES.send(text.into_bytes());
}

/// Lets the last lines out before the process ends, if that does not take long.
pub fn finish() {
    let Some(Some(jobs)) = LINES.jobs.get() else { return };
    let (told, written) = sync_channel(1);
    if jobs.try_send(Job::Written(told)).is_ok() {
        let _ = written.recv_timeout(LAST_LINES);
    }
}

struct ToLines;

impl<'a> MakeWriter<'a> for ToLines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One line, sent when it is complete.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.0);
        if !line.is_empty() {
            LINES.send(line);
        }
    }
}

impl Lines {
    fn send(&'static self, line: Vec<u8>) {
        let jobs = self.jobs.get_or_init(|| {
            let (jobs, inbox) = sync_channel(LINES_MAX);
            let thread = std::thread::Builder::new().name("log".into()).stack_size(64 * 1024);
            thread.spawn(move || write_all(&inbox, &self.dropped, io::stderr())).is_ok().then_some(jobs)
        });
        if jobs.as_ref().is_none_or(|jobs| jobs.try_send(Job::Line(line)).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_all(inbox: &Receiver<Job>, dropped: &AtomicU64, mut to: impl Write) {
    while let Ok(job) = inbox.recv() {
        // Nobody can be told that there is nobody to tell.
        match job {
            Job::Line(line) => drop(to.write_all(&line)),
            Job::Written(told) => drop(told.try_send(())),
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(to, "{lost} lines were dropped here: standard error was not read in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_were_dropped_are_counted() {
        let (jobs, inbox) = sync_channel(4);
        for line in [b"one\n".to_vec(), b"two\n".to_vec()] {
            jobs.try_send(Job::Line(line)).expect("there is room");
        }
        drop(jobs);
        let mut written = Vec::new();
        write_all(&inbox, &AtomicU64::new(7), &mut written);
        let text = String::from_utf8(written).expect("text");
        assert_eq!(text, "one\n7 lines were dropped here: standard error was not read in time\ntwo\n");
    }
}
