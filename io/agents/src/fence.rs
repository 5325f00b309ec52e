//! How is a fence agent asked, and what does its answer prove?
//!
//! The fence-agents protocol: `name=value` lines on standard input (never on the command line, which everybody on the
//! machine can read), the answer is the exit status. That an agent says "done" proves nothing; only `status` does, and
//! judging that is not done here but in `core/fencing`. When its time is up the agent is killed, so that no late call
//! can hit a node that is back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host::process::{Exit, Ladder, Launch, Marks, end_all, find_marked};
use model::{FenceAction, FenceCall, FenceOutcome, FenceStatus};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::output::last_line;
use crate::{AgentsConfig, mark, parameters, trust};

/// What is read of an agent's output.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;
/// An agent that prints more than this is ended.
const FLOOD_BYTES: u64 = 16 * 1024 * 1024;
/// Between two looks at how much an agent has printed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `is_abandoned` ends the agent early.
pub(crate) fn run(config: &AgentsConfig, call: &FenceCall, is_abandoned: &AtomicBool) -> FenceOutcome {
    let outcome = || -> Result<FenceOutcome, String> {
        let agent = find(&config.root, &call.agent)?;
        let input = input(call)?;
        trust::check(&agent)?;
        let mut environment = mark::base_environment();
        environment.extend(mark::of_fencing(config, call.key));
        let answer = ask_until(&agent, Vec::new(), &input, environment, call.timeout, config.forced, is_abandoned)?;
        judge(call.action, answer.exit, &answer.errors)
    };
    outcome().unwrap_or_else(|reason| FenceOutcome::Failed { reason })
}

/// What an exit status means for what was asked.
fn judge(action: FenceAction, exit: Exit, errors: &str) -> Result<FenceOutcome, String> {
    match (action, exit) {
        (FenceAction::Off | FenceAction::On, Exit::Status(0)) => Ok(FenceOutcome::Done),
        (FenceAction::Status, Exit::Status(0)) => Ok(FenceOutcome::Status(FenceStatus::On)),
        (FenceAction::Status, Exit::Status(2)) => Ok(FenceOutcome::Status(FenceStatus::Off)),
        (FenceAction::Off | FenceAction::On | FenceAction::Status, Exit::Status(_) | Exit::Signal(_)) => {
            let said = last_line(errors).map(|line| format!(": {line}")).unwrap_or_default();
            Err(format!("the agent {exit}{said}"))
        }
    }
}

/// The agent's program: an absolute path, or a name in `usr/sbin` below `root` or below `/`.
///
/// # Errors
/// If it is not installed, or if this is no name of an agent; the sentence is for an operator.
pub fn find(root: &Path, agent: &str) -> Result<PathBuf, String> {
    if Path::new(agent).is_absolute() {
        return if Path::new(agent).is_file() { Ok(PathBuf::from(agent)) } else { Err(format!("there is no {agent}")) };
    }
    if agent.is_empty() || agent.contains('/') || agent.starts_with('.') {
        return Err(format!("`{agent}` is no fence agent: write its name, or an absolute path"));
    }
    let system = Path::new("/usr/sbin").join(agent);
    [root.join("usr/sbin").join(agent), system.clone()]
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{agent} is not installed on this node: there is no {}", system.display()))
}

/// What the agent reads.
fn input(call: &FenceCall) -> Result<String, String> {
    let action = match call.action {
        FenceAction::Off => "off",
        FenceAction::On => "on",
        FenceAction::Status => "status",
    };
    let mut lines = parameters::resolve(&call.parameters, call.is_test)?;
    for (name, value) in
        [("action", action), ("port", &call.plug), ("plug", &call.plug), ("nodename", call.target.as_str())]
    {
        lines.insert(name.to_owned(), value.to_owned());
    }
    // An old name of `action`: it would say something else.
    lines.remove("option");
    let is_one_line = |text: &str| !text.contains(['\n', '\r']);
    if let Some((name, _)) = lines.iter().find(|(name, value)| !is_one_line(name) || !is_one_line(value)) {
        return Err(format!("parameter `{name}` has more than one line"));
    }
    Ok(lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect())
}

/// What a program answered.
pub(crate) struct Answer {
    pub(crate) exit: Exit,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// Runs a program to its end and keeps what it printed, in memory and up to a limit; kills it when its time is up.
///
/// `environment` must hold a mark that is this run's alone.
pub(crate) fn ask(
    program: &Path,
    arguments: Vec<String>,
    input: &str,
    environment: BTreeMap<String, String>,
    timeout: Duration,
    forced: Duration,
) -> Result<Answer, String> {
    ask_until(program, arguments, input, environment, timeout, forced, &AtomicBool::new(false))
}

/// As [`ask`]; the program is also killed once nobody waits for it any more.
fn ask_until(
    program: &Path,
    arguments: Vec<String>,
    input: &str,
    environment: BTreeMap<String, String>,
    timeout: Duration,
    forced: Duration,
    is_abandoned: &AtomicBool,
) -> Result<Answer, String> {
    if is_abandoned.load(Ordering::Relaxed) {
        return Err("nobody waits for it any more".to_owned());
    }
    let deadline = Instant::now() + timeout;
    let shown = program.display();
    let cannot = |error: io::Error| format!("cannot run {shown}: {error}");
    let given = memory("input").map_err(cannot)?;
    given.write_all_at(input.as_bytes(), 0).map_err(cannot)?;
    let (output, errors) = (memory("output").map_err(cannot)?, memory("errors").map_err(cannot)?);
    let entries = [mark::OPERATION, mark::RUNTIME, mark::TOKEN]
        .iter()
        .filter_map(|name| Some(format!("{name}={}", environment.get(*name)?)))
        .collect();
    let launch = Launch {
        program: program.as_os_str(),
        called: None,
        arguments,
        directory: None,
        environment,
        input: Some(OwnedFd::from(given)),
        output: Some(output.try_clone().map_err(cannot)?),
        errors: Some(errors.try_clone().map_err(cannot)?),
        cgroup: None,
    };
    let process = launch.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{shown} may not be run: {error}"),
        _ => cannot(error),
    })?;
    let length = |file: &File| file.metadata().map_or(0, |about| about.len());
    let why = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if process.wait(left.min(LOOK_EVERY)) {
            let exit = process.reap().ok_or_else(|| format!("{shown} ended, and nobody knows how"))?;
            return Ok(Answer { exit, output: read(&output), errors: read(&errors) });
        }
        if left.is_zero() {
            break format!("no answer within {timeout:?}; the agent was killed");
        }
        if is_abandoned.load(Ordering::Relaxed) {
            break "nobody waits for it any more; the agent was killed".to_owned();
        }
        if length(&output).max(length(&errors)) > FLOOD_BYTES {
            break "the agent prints without end and was killed".to_owned();
        }
    };
    let session = Some((process.pid(), process.started()));
    let marks = Marks { environment: entries, session, oldest: Some(process.started()), ..Marks::default() };
    let left = end_all(Ladder { polite: Duration::ZERO, forced }, None, || find_marked(&marks));
    process.reap();
    Err(match left {
        Ok(left) if left.is_empty() => why,
        Ok(left) => format!("{why}, but these are left: {}", mark::show(&left)),
        Err(error) => format!("{why}, but nobody knows what is left of it: {error}"),
    })
}

/// A file without a place on any disk: no secret is left anywhere, and no disk can be full.
fn memory(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

fn read(file: &File) -> String {
    let length = file.metadata().map_or(0, |about| about.len()).min(OUTPUT_BYTES_MAX * 16);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    bytes.truncate(read);
    String::from_utf8_lossy(&bytes).into_owned()
}
