//! What does one call need to know, and who runs it?

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host::cgroup::Cgroup;
use host::limits::is_exhaustion;
use host::process::{Ladder, Marks, Process, end_all, find_marked, is_unreadable};
use model::{AgentAction, AgentCall, AgentName, Outcome};

use crate::output::Output;
use crate::parameters::{Prefer, Resolved};
use crate::watch::Watch;
use crate::{AgentsConfig, ip, mark, ocf, parameters, service};

/// How long a wait may go on before it looks whether the call was given up.
const SLICE: Duration = Duration::from_millis(50);

/// So long a stop waits for processes that nobody may look at. A helper with capabilities of its own (`arping`) hides from
/// a daemon without the rights of root, and ends within a second or two.
const UNREADABLE_MAX: Duration = Duration::from_secs(5);

/// A call that is running.
pub(crate) struct Call<'a> {
    pub(crate) config: &'a Arc<AgentsConfig>,
    pub(crate) watch: &'a Arc<Watch>,
    pub(crate) call: &'a AgentCall,
    /// What the agent is told.
    resolved: Resolved,
    pub(crate) deadline: Instant,
    is_given_up: &'a AtomicBool,
}

/// What came of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The process has ended.
    Ended,
    /// The limit has passed.
    Limit,
    /// The call's time is up, or it was given up.
    TimeUp,
}

/// Runs a call to its answer.
pub(crate) fn run(
    config: &Arc<AgentsConfig>,
    watch: &Arc<Watch>,
    call: &AgentCall,
    is_given_up: &AtomicBool,
) -> Outcome {
    let deadline = Instant::now() + call.timeout;
    let kept = parameters::kept(config, &call.resource, &call.parameters);
    let new = |resolved| Call { config, watch, call, resolved, deadline, is_given_up };
    // A stop is told what the start was told; a check, what holds at present.
    let prefer = match (call.action, call.is_adoption) {
        (AgentAction::Stop, _) | (AgentAction::Start, true) => Prefer::Kept,
        (AgentAction::Start, false) | (AgentAction::Monitor, _) => Prefer::File,
    };
    let resolved = match parameters::look_up(&call.parameters, &kept, prefer) {
        Ok(resolved) => resolved,
        Err(reason) => return new(Resolved::default()).cannot(reason),
    };
    let running = new(resolved);
    match call.action {
        AgentAction::Start => {
            let why = if call.is_adoption { running.unreadable() } else { running.resolved.why_refused().cloned() };
            if let Some(why) = why {
                return running.cannot(why);
            }
            if !call.is_adoption {
                parameters::keep(config, &call.resource, &call.parameters, &running.resolved.texts);
            }
            ask(&running)
        }
        AgentAction::Monitor => ask(&running),
        AgentAction::Stop => {
            let mut outcome = ask(&running);
            if let Outcome::Failed { .. } | Outcome::NotBegun { .. } = outcome
                && let Ok(present) = parameters::look_up(&call.parameters, &kept, Prefer::File)
                && present != running.resolved
            {
                // A secret that was changed while it ran: the newer one may be the right one by now.
                outcome = ask(&new(present));
            }
            if matches!(outcome, Outcome::Success | Outcome::NotRunning) {
                parameters::forget(config, &call.resource);
            }
            outcome
        }
    }
}

fn ask(call: &Call<'_>) -> Outcome {
    match &call.call.agent {
        AgentName::Native(name) => match name.as_str() {
            "process" => service::run(call),
            "ip" => ip::run(call),
            _ => call.cannot(format!(
                "there is no built-in agent `{}`; there are cardea:ip and cardea:process",
                call.call.agent
            )),
        },
        AgentName::Ocf { provider, name } => ocf::run(call, provider, name),
        AgentName::Other { .. } => call.cannot(format!("agents such as `{}` cannot be called yet", call.call.agent)),
    }
}

pub(crate) fn failed(reason: impl Into<String>) -> Outcome {
    Outcome::Failed { reason: reason.into(), is_permanent: false }
}

pub(crate) fn permanent(reason: impl Into<String>) -> Outcome {
    Outcome::Failed { reason: reason.into(), is_permanent: true }
}

/// The answer when the question could not be put for now.
pub(crate) fn unknown(reason: impl Into<String>) -> Outcome {
    Outcome::Unknown { reason: reason.into(), is_permanent: false }
}

/// May the same work a little later? `is_patient`: processes that cannot be looked at are still waited for.
fn may_pass(error: &io::Error, is_patient: bool) -> bool {
    is_exhaustion(error) || is_patient && is_unreadable(error)
}

/// The answer when nobody can say which processes there are.
pub(crate) fn unseen(error: &io::Error) -> Outcome {
    unknown(format!("its processes cannot be looked for: {error}"))
}

impl Call<'_> {
    /// What the agent is told, as far as it can be read.
    pub(crate) fn parameters(&self) -> &BTreeMap<String, String> {
        &self.resolved.texts
    }

    /// Why a parameter cannot be read any more, if there is such a one.
    pub(crate) fn unreadable(&self) -> Option<String> {
        self.resolved.unreadable.values().next().cloned()
    }

    /// Why this parameter cannot be read any more, if that is so.
    pub(crate) fn why_unreadable(&self, name: &str) -> Option<&String> {
        self.resolved.unreadable.get(name)
    }

    /// Does it ask about something of which it is not known that it runs?
    pub(crate) fn is_probe(&self) -> bool {
        self.call.action == AgentAction::Monitor && self.call.started_by.is_none()
    }

    /// The answer where the agent cannot be asked at all, and that will be so until somebody repairs something.
    pub(crate) fn cannot(&self, reason: impl Into<String>) -> Outcome {
        let reason = reason.into();
        match self.call.action {
            // An earlier worker may have begun it.
            AgentAction::Start if self.call.is_adoption => Outcome::Unknown { reason, is_permanent: true },
            AgentAction::Start => self.not_begun(reason),
            AgentAction::Monitor => Outcome::Unknown { reason, is_permanent: self.is_probe() },
            AgentAction::Stop => self.not_begun(reason),
        }
    }

    /// The answer of a start or a stop that never began, if no process of the resource is there.
    pub(crate) fn not_begun(&self, reason: impl Into<String>) -> Outcome {
        let reason = reason.into();
        match self.find_all() {
            Ok(found) if found.is_empty() => Outcome::NotBegun { reason },
            Ok(found) => permanent(format!("{reason}; and there are processes of it: {}", mark::show(&found))),
            Err(error) => failed(format!("{reason}; and its processes cannot be looked for: {error}")),
        }
    }

    /// Every process that was ever started for the resource and has not ended.
    pub(crate) fn find_all(&self) -> io::Result<Vec<Process>> {
        let cgroup = self.find_cgroup(AgentAction::Start)?;
        find_marked(&Marks {
            environment: mark::wanted(self.config, mark::of_resource(self.config, self.call)),
            members: cgroup.as_ref().map(Cgroup::members).transpose()?.unwrap_or_default(),
            ..mark::search(self.config)
        })
    }

    /// Does something again and again while the system has no room for it, or a process cannot be looked at, and there is
    /// time.
    pub(crate) fn patiently<T>(&self, mut run: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let readable_by = Instant::now() + UNREADABLE_MAX;
        loop {
            match run() {
                Err(error) if !self.is_time_up() && may_pass(&error, Instant::now() < readable_by) => {
                    std::thread::sleep(SLICE.min(self.left()));
                }
                answer => return answer,
            }
        }
    }

    /// Time until the call's own end.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_time_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed) || self.left().is_zero()
    }

    /// Waits for the end of a process, at most for `limit`, and not beyond the call's own end.
    pub(crate) fn wait(&self, process: &Process, limit: Duration) -> Waited {
        let until = Instant::now() + limit;
        loop {
            let slice = until.saturating_duration_since(Instant::now()).min(self.left()).min(SLICE);
            if process.wait(slice) {
                return Waited::Ended;
            }
            if self.is_time_up() {
                return Waited::TimeUp;
            }
            if Instant::now() >= until {
                return Waited::Limit;
            }
        }
    }

    /// What the resource's processes print from here on.
    pub(crate) fn output(&self) -> Output {
        Output::of(self.config, &self.call.resource)
    }

    /// The name of the cgroup for what this action of this resource starts.
    pub(crate) fn cgroup_name(&self, action: AgentAction) -> String {
        format!("cardea-{}-{}", mark::file_name(self.call.resource.as_str()), mark::action_word(action))
    }

    /// A fresh cgroup for the processes of this call, if there can be one.
    pub(crate) fn make_cgroup(&self) -> Option<Cgroup> {
        Cgroup::create(self.config.cgroup.as_deref()?, &self.cgroup_name(self.call.action))
    }

    /// The cgroup that this action of the resource ran in, if there is one.
    pub(crate) fn find_cgroup(&self, action: AgentAction) -> io::Result<Option<Cgroup>> {
        match self.config.cgroup.as_deref() {
            Some(parent) => Cgroup::find(parent, &self.cgroup_name(action)),
            None => Ok(None),
        }
    }

    /// Ends everything that this call has started; the answer to give when its time was up.
    pub(crate) fn end_what_was_started(&self, main: &Process, cgroup: Option<&Cgroup>) -> Outcome {
        let environment = mark::wanted(self.config, mark::of_call(self.config, self.call));
        let ladder = Ladder { polite: self.config.polite, forced: self.config.forced };
        let left = end_all(ladder, cgroup, || {
            find_marked(&Marks {
                environment: environment.clone(),
                session: Some((main.pid(), main.started())),
                members: cgroup.map(Cgroup::members).transpose()?.unwrap_or_default(),
                ..mark::search(self.config)
            })
        });
        main.reap();
        if let Some(cgroup) = cgroup {
            cgroup.remove();
        }
        match left {
            Ok(left) if left.is_empty() => Outcome::TimedOut,
            Ok(left) => stuck(&left),
            Err(error) => unseen(&error),
        }
    }
}

/// The answer when something cannot be ended.
pub(crate) fn stuck(left: &[Process]) -> Outcome {
    Outcome::Stuck { reason: format!("cannot be ended: {}", mark::show(left)) }
}
