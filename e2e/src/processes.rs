//! What runs? Processes of this machine, by command line and descent.

use std::collections::BTreeMap;
use std::fs;

/// A process that has not ended. Two are equal if they are the same process, whoever its parent has become.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number, as the caller sees it.
    pub pid: i32,
    /// The number of its parent.
    pub parent: i32,
    /// Clock ticks from the boot of the machine to its start: with the number, its identity.
    pub started: u64,
    /// Its command line.
    pub argv: Vec<String>,
}

impl PartialEq for Process {
    fn eq(&self, other: &Process) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }
}

/// Every process that the caller can see, but zombies and threads of the kernel.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(read).collect()
}

/// The process with this number, unless it has ended.
pub fn read(pid: i32) -> Option<Process> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let argv: Vec<String> = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|w| String::from_utf8_lossy(w).into_owned())
        .collect();
    if argv.is_empty() {
        return None;
    }
    let fields = stat(pid)?;
    Some(Process { pid, parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()?, argv })
}

/// Clock ticks of processor time that a process and its ended children have used.
pub fn ticks(pid: i32) -> Option<u64> {
    let fields = stat(pid)?;
    fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

/// The fields of `/proc/PID/stat` after the name, which may contain anything.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(|word| word.trim().to_owned()).collect())
}

/// A value of `/proc/PID/smaps_rollup` in KiB, summed over the fields named.
pub fn memory_kib(pid: i32, fields: &[&str]) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let of = |field: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.split(':').next() == Some(field))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    fields.iter().map(|field| of(field)).sum()
}

/// The process and everything that descends from it, the process first.
pub fn below(pid: i32) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    let mut found = Vec::new();
    for process in all() {
        if process.pid == pid {
            found.push(process);
        } else {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.pid) {
        found.extend(children.remove(&parent).unwrap_or_default());
        next += 1;
    }
    found
}

/// Every process with this text in one of its arguments, the caller's own apart.
pub fn mentioning(text: &str) -> Vec<Process> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mentions = |process: &Process| process.argv.iter().any(|word| word.contains(text));
    all().into_iter().filter(|process| process.pid != own && mentions(process)).collect()
}

/// Kills a process at once; one that has ended already is fine.
pub fn kill(process: &Process) {
    signal(process, rustix::process::Signal::KILL);
}

/// Sends a signal to a process; one that has ended already is fine.
pub fn signal(process: &Process, signal: rustix::process::Signal) {
    let is_same = read(process.pid).is_some_and(|now| now.started == process.started);
    if let (true, Some(pid)) = (is_same, rustix::process::Pid::from_raw(process.pid)) {
        // It may end between the look and the signal.
        let _ = rustix::process::kill_process(pid, signal);
    }
}
