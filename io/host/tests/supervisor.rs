//! Real supervisors with real workers: this program plays the supervisor and the worker as well, each in a process of
//! its own without other threads, which is why it brings no test harness.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use host::process::{Exit, Process, Signal};
use host::supervise::{lock_worker, noted_exit, supervise};

/// A worker in the shell: says who it is, exits 0 at SIGTERM and 75 at SIGHUP.
const SHELL_WORKER: &str = "trap 'exit 0' TERM; trap 'exit 75' HUP
    echo $$ > worker.new; mv worker.new worker.pid; while :; do sleep 0.01; done";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("supervisor") => be_supervisor(Path::new(&arguments[2]), &arguments[3]),
        Some("worker") => be_worker(Path::new(&arguments[2])),
        Some("--list") => {
            let is_for_ignored = arguments.iter().any(|argument| argument == "--ignored");
            if !is_for_ignored {
                println!("the_supervisor_keeps_its_promises: test");
            }
        }
        _ => {
            a_killed_worker_is_replaced_at_once();
            a_worker_that_hands_over_is_replaced();
            a_worker_that_hands_over_unasked_is_held_back();
            the_end_of_an_orphan_is_noted();
            a_final_failure_is_not_repeated();
            a_first_worker_that_cannot_start_is_not_started_again();
            a_second_supervisor_is_refused();
            a_new_supervisor_takes_over_from_the_worker_of_a_killed_one();
        }
    }
}

fn be_supervisor(folder: &Path, script: &str) -> ! {
    let worker = || {
        let mut command = if script == "locking" {
            let mut command = Command::new("/proc/self/exe");
            command.arg("worker").arg(folder);
            command
        } else {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            command
        };
        command.current_dir(folder);
        command
    };
    let status = supervise(worker, folder).unwrap_or_else(|error| {
        fs::write(folder.join("refused"), error.to_string()).unwrap();
        1
    });
    std::process::exit(status.into());
}

fn be_worker(folder: &Path) -> ! {
    let _lock = lock_worker(folder, Duration::from_secs(20)).unwrap();
    fs::write(folder.join("worker.new"), format!("{}\n", std::process::id())).unwrap();
    fs::rename(folder.join("worker.new"), folder.join("worker.pid")).unwrap();
    loop {
        std::thread::park();
    }
}

struct Stage {
    folder: tempfile::TempDir,
    supervisor: Child,
}

impl Stage {
    fn new(script: &str) -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = supervisor(folder.path(), script);
        Stage { folder, supervisor }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The pid of the worker, once it is another than `before`.
    fn worker(&self, before: Option<u32>) -> u32 {
        let mut found = None;
        eventually(|| {
            let text = fs::read_to_string(self.path("worker.pid")).unwrap_or_default();
            found = text.trim().parse().ok().filter(|pid| Some(*pid) != before);
            found.is_some()
        });
        found.unwrap()
    }

    fn tell(&self, signal: Signal) {
        Process::open(self.supervisor.id()).unwrap().signal(signal).unwrap();
    }

    fn end(mut self) -> i32 {
        self.tell(Signal::TERM);
        self.supervisor.wait().unwrap().code().unwrap()
    }
}

fn supervisor(folder: &Path, script: &str) -> Child {
    Command::new("/proc/self/exe").arg("supervisor").arg(folder).arg(script).stdin(Stdio::null()).spawn().unwrap()
}

fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came true");
        std::thread::yield_now();
    }
}

fn a_killed_worker_is_replaced_at_once() {
    let stage = Stage::new(SHELL_WORKER);
    let mut worker = stage.worker(None);
    for _ in 0..5 {
        Process::open(worker).unwrap().signal(Signal::KILL).unwrap();
        worker = stage.worker(Some(worker));
    }
    assert_eq!(stage.end(), 0, "the worker's own exit status");
}

fn a_worker_that_hands_over_is_replaced() {
    let stage = Stage::new(SHELL_WORKER);
    let worker = stage.worker(None);
    stage.tell(Signal::HUP);
    stage.worker(Some(worker));
    assert_eq!(stage.end(), 0);
}

/// Whatever makes a worker give way to the next one again and again, it does not keep the machine busy.
fn a_worker_that_hands_over_unasked_is_held_back() {
    let stage = Stage::new("date +%s%N >> begun; exit 75");
    let begun = || -> Vec<u128> {
        let text = fs::read_to_string(stage.path("begun")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    eventually(|| begun().len() >= 14);
    let begun = begun();
    assert!(begun[13] - begun[10] >= 500_000_000, "{begun:?}");
    stage.end();
}

fn the_end_of_an_orphan_is_noted() {
    let orphan =
        "(sh -c 'echo $$ > orphan.new; mv orphan.new orphan.pid; while [ ! -e go ]; do sleep 0.01; done; exit 7' &)";
    let stage = Stage::new(&format!("{orphan}\n{SHELL_WORKER}"));
    stage.worker(None);
    eventually(|| stage.path("orphan.pid").exists());
    let pid = fs::read_to_string(stage.path("orphan.pid")).unwrap().trim().parse().unwrap();
    let orphan = Process::open(pid).unwrap();
    fs::write(stage.path("go"), "").unwrap();
    eventually(|| noted_exit(stage.folder.path(), pid, orphan.started()).is_some());
    assert_eq!(noted_exit(stage.folder.path(), pid, orphan.started()), Some(Exit::Status(7)));
    assert_eq!(stage.end(), 0);
}

fn a_final_failure_is_not_repeated() {
    let mut stage = Stage::new("echo x >> starts; exit 78");
    assert_eq!(stage.supervisor.wait().unwrap().code(), Some(78));
    assert_eq!(fs::read_to_string(stage.path("starts")).unwrap(), "x\n");
}

fn a_first_worker_that_cannot_start_is_not_started_again() {
    let mut stage = Stage::new("echo x >> starts; exit 3");
    assert_eq!(stage.supervisor.wait().unwrap().code(), Some(3));
    assert_eq!(fs::read_to_string(stage.path("starts")).unwrap(), "x\n");
}

fn a_second_supervisor_is_refused() {
    let stage = Stage::new(SHELL_WORKER);
    stage.worker(None);
    assert_eq!(supervisor(stage.folder.path(), SHELL_WORKER).wait().unwrap().code(), Some(1));
    let refusal = fs::read_to_string(stage.path("refused")).unwrap();
    assert!(refusal.contains(&format!("pid {}", stage.supervisor.id())), "{refusal}");
    assert_eq!(stage.end(), 0);
}

fn a_new_supervisor_takes_over_from_the_worker_of_a_killed_one() {
    let mut stage = Stage::new("locking");
    let first = Process::open(stage.worker(None)).unwrap();
    stage.supervisor.kill().unwrap();
    stage.supervisor.wait().unwrap();
    assert!(first.is_alive(), "the worker outlives its supervisor");
    stage.supervisor = supervisor(stage.folder.path(), "locking");
    stage.worker(Some(first.pid()));
    assert!(!first.is_alive(), "two workers never run at a time");
    assert_eq!(stage.end(), 128 + 15);
}
