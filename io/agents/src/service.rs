//! `cardea:process`: how is a program kept running as a service?
//!
//! A start runs the program as leader of its own session, with the mark of the call, and waits until it answers. It is
//! found again, by whichever worker, through its record in `RUNTIME_DIR/services/` or, where that is missing or not yet
//! written, through its mark. A stop ends the whole session and everything that bears the mark, not the main process
//! alone.
//!
//! Parameters: `command` (JSON list), `directory`, `environment` (JSON object), `tcp` or `http` (see `readiness.rs`).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host::cgroup::Cgroup;
use host::limits::with_reserve;
use host::process::{Environment, Ladder, Launch, Marks, Process, StartTime, end_all, find_marked, session_of};
use host::supervise::{private_folder, replace_private_file};
use model::{AgentAction, Outcome};

use crate::call::{Call, Waited, failed, stuck, unknown, unseen};
use crate::output::Output;
use crate::readiness::{Probe, Silence};
use crate::{AgentsConfig, mark, watch};

/// A service without a probe that lives so long counts as started.
const SETTLED: Duration = Duration::from_millis(20);
/// The first tries to reach a starting service come in this rhythm …
const EAGER_PAUSE: Duration = Duration::from_millis(2);
const EAGER_TRIES: u32 = 50;
/// … and later ones in this.
const PATIENT_PAUSE: Duration = Duration::from_millis(20);
/// Longest wait for the answer to one try while the service starts.
const TRY_MAX: Duration = Duration::from_secs(5);
/// Longest polite part of a stop.
const POLITE_MAX: Duration = Duration::from_secs(5);
/// The name of the responder that the daemon's own program contains.
const BUILT_IN_RESPONDER: &str = "cardea-web";

pub(crate) fn run(call: &Call<'_>) -> Outcome {
    match (call.call.action, call.call.is_adoption) {
        (AgentAction::Start, is_adoption) => start(call, is_adoption),
        (AgentAction::Stop, false) => stop(call),
        // Ending what may still be there is safe at any time, and proves that it is gone.
        (AgentAction::Stop, true) => match stop(call) {
            Outcome::Success => Outcome::NotRunning,
            other => other,
        },
        (AgentAction::Monitor, _) => monitor(call),
    }
}

/// What the parameters say.
struct Service {
    command: Vec<String>,
    directory: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    probe: Option<Probe>,
}

impl Service {
    fn parse(parameters: &BTreeMap<String, String>) -> Result<Service, String> {
        let command = parameters.get("command").ok_or("parameter `command` is missing")?;
        let command: Vec<String> = serde_json::from_str(command)
            .map_err(|error| format!("parameter `command` is no JSON list of texts: {error}"))?;
        if command.first().is_none_or(String::is_empty) {
            return Err("parameter `command` names no program".to_owned());
        }
        let environment: BTreeMap<String, String> = match parameters.get("environment") {
            None => BTreeMap::new(),
            Some(text) => serde_json::from_str(text)
                .map_err(|error| format!("parameter `environment` is no JSON object of texts: {error}"))?,
        };
        let has_zero = |text: &String| text.contains('\0');
        if command.iter().any(has_zero) || environment.iter().any(|(name, value)| has_zero(name) || has_zero(value)) {
            return Err("parameters `command` and `environment` may not contain a zero byte".to_owned());
        }
        if let Some(name) = environment.keys().find(|name| name.is_empty() || name.contains('=')) {
            return Err(format!("parameter `environment`: `{name}` is no name of a variable"));
        }
        let directory = parameters.get("directory").map(PathBuf::from);
        Ok(Service { command, directory, environment, probe: Probe::from_parameters(parameters)? })
    }
}

fn start(call: &Call<'_>, is_adoption: bool) -> Outcome {
    let service = match Service::parse(call.parameters()) {
        Ok(service) => service,
        Err(reason) => return call.not_begun(reason),
    };
    let output = call.output();
    let found = main_process(call).and_then(|main| match main {
        Some(main) => Ok((Some(main), Vec::new())),
        None => Ok((None, find_remains(call)?)),
    });
    let remains = match found {
        Ok((Some(process), _)) => return finish_start(call, &service, process, &output),
        Ok((None, remains)) => remains,
        Err(error) => return unseen(&error),
    };
    if is_adoption {
        return if remains.is_empty() { Outcome::NotRunning } else { failed(remains_reason(&remains)) };
    }
    if !remains.is_empty() {
        // They would hold what the new one needs.
        match end_everything(call, Duration::ZERO) {
            Ok(left) if left.is_empty() => {}
            Ok(left) => {
                return failed(format!("what is left of an earlier run cannot be ended: {}", mark::show(&left)));
            }
            Err(error) => return unseen(&error),
        }
    }
    match spawn(call, &service, &output) {
        Ok(process) => {
            remember(call, &process);
            finish_start(call, &service, process, &output)
        }
        Err(outcome) => outcome,
    }
}

fn spawn(call: &Call<'_>, service: &Service, output: &Output) -> Result<Process, Outcome> {
    if let Some(directory) = service.directory.as_deref().filter(|directory| !directory.is_dir()) {
        return Err(failed(format!("the directory {} does not exist", directory.display())));
    }
    let mut arguments = service.command.clone();
    let named = arguments.remove(0);
    let is_built_in = named == BUILT_IN_RESPONDER;
    if is_built_in {
        arguments.insert(0, "web".to_owned());
    }
    let mut environment = mark::base_environment();
    environment.extend(service.environment.clone());
    environment.extend(mark::of_call(call.config, call.call));
    let printed = output.open();
    let cgroup = call.make_cgroup();
    let launch = Launch {
        program: OsStr::new(if is_built_in { "/proc/self/exe" } else { &named }),
        called: is_built_in.then_some("cardea"),
        arguments,
        directory: service.directory.as_deref(),
        environment,
        input: None,
        errors: printed.as_ref().and_then(|file| file.try_clone().ok()),
        output: printed,
        cgroup: cgroup.as_ref(),
    };
    launch.spawn().map_err(|error| spawn_failed(call, &named, &error))
}

/// Why a program could not be run; without it, or without permission, another try is useless.
pub(crate) fn spawn_failed(call: &Call<'_>, program: &str, error: &io::Error) -> Outcome {
    match (error.kind(), call.call.action) {
        (io::ErrorKind::NotFound, _) => call.cannot(format!("{program} does not exist (or what it is to be run with)")),
        (io::ErrorKind::PermissionDenied, _) => call.cannot(format!("{program} may not be run: {error}")),
        (_, AgentAction::Monitor) => unknown(format!("cannot run {program}: {error}")),
        (_, AgentAction::Start | AgentAction::Stop) => failed(format!("cannot run {program}: {error}")),
    }
}

/// Waits until the service answers; ends it if it does not in time.
fn finish_start(call: &Call<'_>, service: &Service, process: Process, output: &Output) -> Outcome {
    match await_ready(call, service.probe.as_ref(), &process) {
        Ok(()) => {
            call.watch.watch_process(&call.call.resource, call.call.key, Arc::new(process));
            Outcome::Success
        }
        Err(why) => {
            let how = match why {
                NotReady::Ended => {
                    let exit = watch::exit_of(call.config, &process);
                    let how = exit.map_or_else(|| "ended".to_owned(), |exit| exit.to_string());
                    let said = output.last_line().map(|line| format!(": {line}")).unwrap_or_default();
                    format!("it {how} before it was ready{said}")
                }
                NotReady::TimeUp { last } => {
                    let last = last.map(|last| format!(" ({last})")).unwrap_or_default();
                    format!("it was not ready within {:?}{last}; it was ended", call.call.timeout)
                }
            };
            let left = end_everything(call, call.config.polite);
            process.reap();
            match left {
                Ok(left) if left.is_empty() => {
                    forget(call);
                    failed(how)
                }
                Ok(left) => stuck(&left),
                Err(error) => unseen(&error),
            }
        }
    }
}

enum NotReady {
    Ended,
    TimeUp { last: Option<String> },
}

fn await_ready(call: &Call<'_>, probe: Option<&Probe>, process: &Process) -> Result<(), NotReady> {
    let Some(probe) = probe else {
        return match call.wait(process, SETTLED) {
            Waited::Limit => Ok(()),
            Waited::Ended => Err(NotReady::Ended),
            Waited::TimeUp => Err(NotReady::TimeUp { last: None }),
        };
    };
    for tries in 1_u32.. {
        let silence = match probe.try_once(call.left().min(TRY_MAX)) {
            // Somebody else may answer where our process could not.
            Ok(()) if process.is_alive() => return Ok(()),
            Ok(()) => return Err(NotReady::Ended),
            Err(silence) => silence,
        };
        let pause = if tries < EAGER_TRIES { EAGER_PAUSE } else { PATIENT_PAUSE };
        match call.wait(process, pause) {
            Waited::Limit => {}
            Waited::Ended => return Err(NotReady::Ended),
            Waited::TimeUp => {
                let last = match silence {
                    Silence::TimedOut => format!("{probe} gives no answer"),
                    Silence::Refused(why) | Silence::NotAsked(why) => why,
                };
                return Err(NotReady::TimeUp { last: Some(last) });
            }
        }
    }
    Err(NotReady::TimeUp { last: None })
}

fn stop(call: &Call<'_>) -> Outcome {
    call.watch.forget(&call.call.resource);
    let polite = (call.call.timeout / 2).min(POLITE_MAX);
    match call.patiently(|| end_everything(call, polite)) {
        Ok(left) if left.is_empty() => {
            forget(call);
            Outcome::Success
        }
        Ok(left) => stuck(&left),
        Err(error) => unseen(&error),
    }
}

fn monitor(call: &Call<'_>) -> Outcome {
    let process = match main_process(call) {
        Ok(Some(process)) => process,
        Ok(None) => {
            return match find_remains(call) {
                Ok(remains) if remains.is_empty() => Outcome::NotRunning,
                Ok(remains) => failed(remains_reason(&remains)),
                Err(error) => unseen(&error),
            };
        }
        Err(error) => return unseen(&error),
    };
    if let Some(key) = call.call.started_by {
        call.watch.watch_process(&call.call.resource, key, Arc::new(process));
    }
    // It runs; whether it answers as it should is a question of its own.
    let probe = match call.unreadable() {
        Some(why) => return unknown(why),
        None => match Service::parse(call.parameters()) {
            Ok(service) => service.probe,
            Err(reason) => return call.cannot(reason),
        },
    };
    match probe.map(|probe| probe.try_once(call.left())) {
        None | Some(Ok(())) => Outcome::Success,
        Some(Err(Silence::NotAsked(why))) => unknown(why),
        Some(Err(Silence::TimedOut)) => Outcome::TimedOut,
        Some(Err(Silence::Refused(why))) => failed(why),
    }
}

fn remains_reason(remains: &[Process]) -> String {
    format!("its main process has ended, but these are left: {}", mark::show(remains))
}

fn record_path(call: &Call<'_>) -> PathBuf {
    call.config.runtime_dir.join("services").join(mark::file_name(call.call.resource.as_str()))
}

/// Writes down which process the service is. Without the record it is found by its mark, at more cost.
fn remember(call: &Call<'_>, process: &Process) {
    let path = record_path(call);
    let record = format!("{} {} {}\n", process.pid(), process.started().0, mark::operation(call.call.key));
    let written = private_folder(path.parent().unwrap_or(Path::new("/")))
        .and_then(|()| replace_private_file(&path, record.as_bytes()));
    if let Err(error) = written {
        tracing::warn!("cannot write {}: {error}; {} is found by its mark", path.display(), call.call.resource);
    }
}

fn forget(call: &Call<'_>) {
    // A record of something that is gone matches no process.
    let _ = fs::remove_file(record_path(call));
    if let Ok(Some(cgroup)) = call.find_cgroup(AgentAction::Start) {
        cgroup.remove();
    }
}

/// The process that is written down as the service, alive or not, and the operation that started it.
fn recorded(call: &Call<'_>) -> io::Result<Option<(u32, StartTime, String)>> {
    let record = match with_reserve(|| fs::read_to_string(record_path(call))) {
        Ok(record) => record,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut words = record.split_ascii_whitespace();
    // A record that makes no sense is none: the mark decides.
    let mut parsed =
        || Some((words.next()?.parse().ok()?, StartTime(words.next()?.parse().ok()?), words.next()?.to_owned()));
    Ok(parsed())
}

/// The service's main process, if it is alive: the recorded one, else the oldest that bears the mark of the start.
fn main_process(call: &Call<'_>) -> io::Result<Option<Process>> {
    let started_by = match call.call.action {
        AgentAction::Start => Some(call.call.key),
        AgentAction::Stop | AgentAction::Monitor => call.call.started_by,
    };
    let operation = started_by.map(mark::operation);
    if let Some((pid, started, by)) = recorded(call)? {
        let process = Process::open_exact(pid, started)?.filter(Process::is_alive);
        if process.is_some() || Some(by) == operation {
            return Ok(process);
        }
    }
    let Some(operation) = operation else { return Ok(None) };
    // A worker may have been killed between the start of the process and its record.
    let mut mark = mark_of_start(call);
    mark.insert(mark::OPERATION.to_owned(), operation);
    let marked = find_marked(&Marks { environment: mark::wanted(call.config, mark), ..mark::search(call.config) })?;
    let Some(oldest) = marked.into_iter().min_by_key(|process| (process.started(), process.pid())) else {
        return Ok(None);
    };
    let leads_its_session = session_of(oldest.pid())? == Some(oldest.pid());
    Ok(Some(oldest).filter(|_| leads_its_session))
}

/// The mark of any start of this resource: which operation it was does not matter for what runs.
fn mark_of_start(call: &Call<'_>) -> BTreeMap<String, String> {
    let mut mark = mark::of_resource(call.config, call.call);
    mark.insert(mark::ACTION.to_owned(), mark::action_word(AgentAction::Start).to_owned());
    mark
}

/// Every process of the service that is alive.
fn find_remains(call: &Call<'_>) -> io::Result<Vec<Process>> {
    let cgroup = call.find_cgroup(AgentAction::Start)?;
    find_marked(&Marks {
        environment: mark::wanted(call.config, mark_of_start(call)),
        session: recorded(call)?.map(|(leader, started, _)| (leader, started)),
        members: cgroup.as_ref().map(Cgroup::members).transpose()?.unwrap_or_default(),
        ..mark::search(call.config)
    })
}

fn end_everything(call: &Call<'_>, polite: Duration) -> io::Result<Vec<Process>> {
    let cgroup = call.find_cgroup(AgentAction::Start)?;
    end_all(Ladder { polite, forced: call.config.forced }, cgroup.as_ref(), || find_remains(call))
}

/// SIGKILL to every process that bears this daemon's mark and whose action `is_meant`, and to what is in the cgroups of
/// starts, until none is left.
pub(crate) fn end_all_of(config: &AgentsConfig, forced: Duration, is_meant: impl Fn(&str) -> bool) {
    let own = vec![format!("{}={}", mark::RUNTIME, mark::runtime(config))];
    let is_genuine = |environment: &Environment| {
        is_meant(environment.value(mark::ACTION).unwrap_or_default()) && mark::is_genuine(config, environment)
    };
    let left = end_all(Ladder { polite: Duration::ZERO, forced }, None, || {
        let mut members = Vec::new();
        if let Some(parent) = &config.cgroup {
            for cgroup in Cgroup::find_all(parent, |name| name.starts_with("cardea-") && name.ends_with("-start"))? {
                cgroup.kill();
                members.extend(cgroup.members()?);
            }
        }
        find_marked(&Marks { environment: own.clone(), is_genuine: Some(&is_genuine), members, ..mark::search(config) })
    });
    match left {
        Ok(left) if left.is_empty() => {}
        Ok(left) => tracing::error!("cannot be ended: {}", mark::show(&left)),
        Err(error) => tracing::error!("what runs here cannot be looked for, and may run on: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parameters: &[(&str, &str)]) -> Result<Service, String> {
        Service::parse(&parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_is_wrong_with_the_parameters_is_said() {
        let why = |parameters: &[(&str, &str)]| parse(parameters).err().expect("these are wrong");
        assert!(why(&[]).contains("`command` is missing"));
        assert!(why(&[("command", "nginx -g x")]).contains("JSON list"));
        assert!(why(&[("command", "[]")]).contains("no program"));
        assert!(why(&[("command", "[\"a\\u0000\"]")]).contains("zero byte"));
        assert!(why(&[("command", "[\"a\"]"), ("environment", "{\"A=B\":\"\"}")]).contains("`A=B`"));
        assert!(why(&[("command", "[\"a\"]"), ("tcp", "x")]).contains("IP:PORT"));
        let service = parse(&[("command", "[\"/bin/true\",\"-x\"]"), ("environment", "{\"A\":\"b\"}")]).ok().unwrap();
        assert_eq!(service.command, ["/bin/true", "-x"]);
        assert_eq!(service.environment["A"], "b");
    }
}
