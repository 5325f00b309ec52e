//! `ocf:PROVIDER:NAME`: how is a program asked that knows a resource?
//!
//! An agent is run once for each action, told everything through its environment, and answers by its exit status. When
//! its time is up, its session gets SIGTERM, and then everything that bears its mark SIGKILL. What a start leaves
//! running is the resource itself; it is the agent's business, until the agent says that it has stopped: then no process
//! that was ever started for the resource may be left.
//!
//! Source: Open Cluster Framework, Resource Agent API 1.1.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::cgroup::Cgroup;
use host::process::{Exit, Ladder, Launch, Marks, Process, command_line, end_all, find_marked, session_of};
use model::{AgentAction, Outcome};

use crate::call::{Call, Waited, failed, permanent, stuck, unknown, unseen};
use crate::output::{Output, last_line, shorten};
use crate::service::spawn_failed;
use crate::{mark, trust, watch};

/// Between two looks at the size of what an agent prints.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What agents print before the reason of a failure.
const REASON_PREFIXES: [&str; 2] = ["ocf-exit-reason:", "ocf_exit_reason:"];

pub(crate) fn run(call: &Call<'_>, provider: &str, name: &str) -> Outcome {
    let agent = find(&call.config.root, provider, name).and_then(|agent| trust::check(&agent).map(|()| agent));
    let agent = match agent {
        Ok(agent) => agent,
        Err(reason) => return call.cannot(reason),
    };
    if let (AgentAction::Monitor, Some(why)) = (call.call.action, call.unreadable()) {
        return call.cannot(why);
    }
    let ask = |action| ask(call, &agent, provider, name, action);
    if call.call.is_adoption {
        let output = call.output();
        return match adopt(call, &agent, &output) {
            Ok(Some(Adopted::Answered(exit))) => {
                let answered = answer(call, call.call.action, exit, &output.tail());
                match settle(call, answered, ask) {
                    // What an adopted stop leaves is the answer to the question whether it runs.
                    Outcome::Success if call.call.action == AgentAction::Stop => Outcome::NotRunning,
                    other => other,
                }
            }
            Ok(Some(Adopted::TimedOut(outcome))) => outcome,
            Ok(None) => ask(AgentAction::Monitor),
            Err(error) => unseen(&error),
        };
    }
    settle(call, ask(call.call.action), ask)
}

/// Makes sure of what the agent said: that nothing of a start is there that it calls impossible, and nothing any more of
/// what it says has stopped.
fn settle(call: &Call<'_>, answered: Outcome, ask: impl Fn(AgentAction) -> Outcome) -> Outcome {
    match (call.call.action, answered) {
        (AgentAction::Start, Outcome::NotBegun { reason }) => match ask(AgentAction::Monitor) {
            Outcome::NotRunning | Outcome::Unknown { .. } | Outcome::NotBegun { .. } => call.not_begun(reason),
            _ => permanent(reason),
        },
        (AgentAction::Stop, Outcome::Success) => end_remains(call),
        (AgentAction::Stop, Outcome::Failed { reason, is_permanent }) if !call.is_time_up() => {
            match ask(AgentAction::Monitor) {
                // An agent that cannot stop what does not run has nothing to stop.
                Outcome::NotRunning => end_remains(call),
                // It can say nothing at all about it.
                Outcome::Unknown { is_permanent: true, .. } | Outcome::NotBegun { .. } if is_permanent => {
                    call.not_begun(reason)
                }
                _ => Outcome::Failed { reason, is_permanent },
            }
        }
        (_, other) => other,
    }
}

/// Ends what the resource left running although it has stopped.
fn end_remains(call: &Call<'_>) -> Outcome {
    let left = call.patiently(|| {
        let found = call.find_all()?;
        if found.is_empty() {
            return Ok(found);
        }
        let cgroup = call.find_cgroup(AgentAction::Start)?;
        let ladder = Ladder { polite: call.config.polite, forced: call.config.forced };
        tracing::warn!("{} has stopped, and these were left and are ended: {}", call.call.resource, mark::show(&found));
        end_all(ladder, cgroup.as_ref(), || call.find_all())
    });
    match left {
        Ok(left) if left.is_empty() => {
            if let Ok(Some(cgroup)) = call.find_cgroup(AgentAction::Start) {
                cgroup.remove();
            }
            Outcome::Success
        }
        Ok(left) => stuck(&left),
        Err(error) => unseen(&error),
    }
}

/// The agent's program: below `root`, or below `/`.
pub(crate) fn find(root: &Path, provider: &str, name: &str) -> Result<PathBuf, String> {
    let is_plain = |word: &str| !word.is_empty() && !word.starts_with('.') && !word.contains(['/', '\0']);
    if !is_plain(provider) || !is_plain(name) {
        return Err(format!("ocf:{provider}:{name} is no name of an agent"));
    }
    let below = |root: &Path| root.join("usr/lib/ocf/resource.d").join(provider).join(name);
    let system = below(Path::new("/"));
    [below(root), system.clone()]
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| format!("ocf:{provider}:{name} is not installed on this node: there is no {}", system.display()))
}

/// Where agents keep notes until the next boot.
fn scratch(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("resource-agents")
}

/// What every agent is told, besides the parameters.
pub(crate) fn environment(root: &Path, runtime_dir: &Path, provider: &str, name: &str) -> BTreeMap<String, String> {
    let own_tree = root.join("usr/lib/ocf");
    // A tree without the shell library serves agents that use the system's.
    let is_whole = own_tree.join("lib/heartbeat/ocf-shellfuncs").is_file();
    let ocf_root = if is_whole { own_tree } else { PathBuf::from("/usr/lib/ocf") };
    let mut environment = mark::base_environment();
    for (name, value) in [
        ("OCF_ROOT", ocf_root.display().to_string()),
        ("OCF_RA_VERSION_MAJOR", "1".to_owned()),
        ("OCF_RA_VERSION_MINOR", "1".to_owned()),
        ("OCF_RESOURCE_TYPE", name.to_owned()),
        ("OCF_RESOURCE_PROVIDER", provider.to_owned()),
        ("HA_RSCTMP", scratch(runtime_dir).display().to_string()),
        ("HA_SBIN_DIR", "/usr/sbin".to_owned()),
        // The programs that agents start keep their files there, wherever ours are; agents compare it word by word.
        ("HA_VARRUN", "/var/run".to_owned()),
        ("HA_LOGFACILITY", "none".to_owned()),
        ("HA_cluster_type", "cardea".to_owned()),
        ("__OCF_PRG", name.to_owned()),
    ] {
        environment.insert(name.to_owned(), value);
    }
    environment
}

/// Runs the agent once and translates its answer.
fn ask(call: &Call<'_>, agent: &Path, provider: &str, name: &str, action: AgentAction) -> Outcome {
    let mut environment = environment(&call.config.root, &call.config.runtime_dir, provider, name);
    environment.insert("OCF_RESOURCE_INSTANCE".to_owned(), call.call.resource.to_string());
    for (name, value) in call.parameters() {
        environment.insert(format!("OCF_RESKEY_{name}"), value.clone());
    }
    // Agents tell a probe from a recurring check by the interval.
    let is_recurring = call.call.action == AgentAction::Monitor && call.call.started_by.is_some();
    let interval_ms = if is_recurring { "10000" } else { "0" };
    environment.insert("OCF_RESKEY_CRM_meta_interval".to_owned(), interval_ms.to_owned());
    let timeout_ms = call.call.timeout.as_millis().to_string();
    environment.insert("OCF_RESKEY_CRM_meta_timeout".to_owned(), timeout_ms);
    if let Some(depth) = call.parameters().get("OCF_CHECK_LEVEL") {
        environment.insert("OCF_CHECK_LEVEL".to_owned(), depth.clone());
    }
    environment.extend(mark::of_call(call.config, call.call));
    if let Err(error) = host::supervise::open_folder(&scratch(&call.config.runtime_dir)) {
        tracing::warn!("agents have no place for their notes and may fail: {error}");
    }
    let output = call.output();
    let printed = output.open();
    let cgroup = call.make_cgroup();
    let spawn = || {
        let again = |file: &std::fs::File| file.try_clone().ok();
        let launch = Launch {
            program: agent.as_os_str(),
            called: None,
            arguments: vec![mark::action_word(action).to_owned()],
            directory: None,
            environment: environment.clone(),
            input: None,
            errors: printed.as_ref().and_then(again),
            output: printed.as_ref().and_then(again),
            cgroup: cgroup.as_ref(),
        };
        launch.spawn()
    };
    // A stop that fails costs the node; a check is repeated anyway.
    let spawned = if call.call.action == AgentAction::Stop { call.patiently(spawn) } else { spawn() };
    let process = match spawned {
        Ok(process) => process,
        Err(error) => return spawn_failed(call, &agent.display().to_string(), &error),
    };
    match await_end(call, &process, &output) {
        Waited::Ended => {
            let exit = watch::exit_of(call.config, &process);
            if let Some(cgroup) = cgroup {
                // What a start left running stays in it.
                cgroup.remove();
            }
            let printed = output.tail();
            output.trim();
            let lost = "the agent ended, and nobody knows how";
            match (exit, action) {
                (Some(exit), _) => answer(call, action, exit, &printed),
                (None, AgentAction::Monitor) => unknown(lost),
                (None, AgentAction::Start | AgentAction::Stop) => failed(lost),
            }
        }
        Waited::Limit | Waited::TimeUp => call.end_what_was_started(&process, cgroup.as_ref()),
    }
}

fn await_end(call: &Call<'_>, process: &Process, output: &Output) -> Waited {
    loop {
        match call.wait(process, LOOK_EVERY) {
            Waited::Limit => output.trim(),
            ended @ (Waited::Ended | Waited::TimeUp) => return ended,
        }
    }
}

enum Adopted {
    Answered(Exit),
    TimedOut(Outcome),
}

/// Waits for the agent that an earlier worker began; `None` if there is none, or if its answer is lost.
fn adopt(call: &Call<'_>, agent: &Path, output: &Output) -> io::Result<Option<Adopted>> {
    let Some(process) = call.patiently(|| find_running(call, agent))? else { return Ok(None) };
    Ok(match await_end(call, &process, output) {
        Waited::Ended => watch::exit_of(call.config, &process).map(Adopted::Answered),
        Waited::Limit | Waited::TimeUp => {
            let cgroup: Option<Cgroup> = call.find_cgroup(call.call.action)?;
            Some(Adopted::TimedOut(call.end_what_was_started(&process, cgroup.as_ref())))
        }
    })
}

/// The agent itself, not what it has started: it leads its session, and its command line says agent and action.
fn find_running(call: &Call<'_>, agent: &Path) -> io::Result<Option<Process>> {
    // Its operation does not matter: a resource has one at a time, which may have taken several calls.
    let mut mark = mark::of_call(call.config, call.call);
    mark.remove(mark::OPERATION);
    let environment = mark::wanted(call.config, mark);
    let (path, action) = (agent.display().to_string(), mark::action_word(call.call.action));
    for process in find_marked(&Marks { environment, ..mark::search(call.config) })? {
        let line = command_line(process.pid())?;
        let is_agent = line.contains(&path) && line.last().is_some_and(|word| word == action);
        if is_agent && session_of(process.pid())? == Some(process.pid()) {
            return Ok(Some(process));
        }
    }
    Ok(None)
}

/// What an exit status means.
fn answer(call: &Call<'_>, action: AgentAction, exit: Exit, printed: &str) -> Outcome {
    // What was found running is asked again and again; that the agent has lost its way since does not make it unknown.
    let is_known_to_run = call.call.action == AgentAction::Monitor && call.call.started_by.is_some();
    meaning(action, is_known_to_run, exit, printed)
}

fn meaning(action: AgentAction, is_known_to_run: bool, exit: Exit, printed: &str) -> Outcome {
    let status = match exit {
        Exit::Status(status) => status,
        Exit::Signal(_) => return failed(format!("the agent {exit}")),
    };
    let because = |meaning: &str| match reason(printed) {
        Some(reason) => format!("{reason} (status {status}, {meaning})"),
        None => format!("status {status}, {meaning}"),
    };
    match (status, action) {
        (0, AgentAction::Start | AgentAction::Stop | AgentAction::Monitor) => Outcome::Success,
        (7, AgentAction::Monitor) => Outcome::NotRunning,
        (7, AgentAction::Stop) => Outcome::Success,
        (7, AgentAction::Start) => failed(because("not running after its start")),
        (8, AgentAction::Monitor) => Outcome::Success,
        (2..=6, action) => {
            let reason = because(match status {
                2 => "wrong arguments",
                3 => "action not known to the agent",
                4 => "insufficient privileges",
                5 => "not installed",
                _ => "not configured",
            });
            match action {
                AgentAction::Start => Outcome::NotBegun { reason },
                AgentAction::Monitor if is_known_to_run => failed(reason),
                AgentAction::Monitor => Outcome::Unknown { reason, is_permanent: true },
                AgentAction::Stop => permanent(reason),
            }
        }
        (9, _) => failed(because("failed in the promoted role")),
        (1, _) => failed(because("failed")),
        (_, _) => failed(because("a status without a meaning")),
    }
}

/// The agent's own words: the reason it gives, else its last line.
fn reason(printed: &str) -> Option<String> {
    let given = printed.lines().rev().find_map(|line| {
        let line = line.trim();
        REASON_PREFIXES.iter().find_map(|prefix| line.strip_prefix(prefix)).map(|reason| shorten(reason.trim()))
    });
    given.or_else(|| last_line(printed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_status_means_what_the_standard_says() {
        use AgentAction::{Monitor, Start, Stop};
        let status = |action, status| meaning(action, false, Exit::Status(status), "");
        assert_eq!(status(Start, 0), Outcome::Success);
        assert_eq!(status(Monitor, 7), Outcome::NotRunning);
        assert_eq!(status(Stop, 7), Outcome::Success, "what does not run is stopped");
        assert!(matches!(status(Start, 7), Outcome::Failed { is_permanent: false, .. }));
        for permanent in 2..=6 {
            assert!(matches!(status(Start, permanent), Outcome::NotBegun { .. }), "{permanent}");
            assert!(matches!(status(Stop, permanent), Outcome::Failed { is_permanent: true, .. }), "{permanent}");
            assert!(matches!(status(Monitor, permanent), Outcome::Unknown { is_permanent: true, .. }), "{permanent}");
            let running = meaning(Monitor, true, Exit::Status(permanent), "");
            assert!(matches!(running, Outcome::Failed { is_permanent: false, .. }), "{permanent}");
        }
        for passing in [1, 9, 42, 255] {
            assert!(matches!(status(Monitor, passing), Outcome::Failed { is_permanent: false, .. }), "{passing}");
        }
        let killed = meaning(Stop, false, Exit::Signal(9), "");
        assert!(matches!(killed, Outcome::Failed { is_permanent: false, .. }));
    }

    #[test]
    fn the_agents_own_reason_is_told() {
        let printed = "starting\nocf-exit-reason:no such device\nlast words\n";
        assert_eq!(reason(printed).unwrap(), "no such device");
        assert_eq!(reason("starting\nlast words\n").unwrap(), "last words");
        assert_eq!(reason(" \n"), None);
    }
}
