//! What does one call need to know, and who runs it?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host::cgroup::Cgroup;
use host::process::{Ladder, Marks, Process, end_all, find_marked};
use model::{AgentAction, AgentCall, AgentName, Outcome};

use crate::output::Output;
use crate::watch::Watch;
use crate::{AgentsConfig, ip, mark, ocf, parameters, service};

/// How long a wait may go on before it looks whether the call was given up.
const SLICE: Duration = Duration::from_millis(50);

/// A call that is running.
pub(crate) struct Call<'a> {
    pub(crate) config: &'a Arc<AgentsConfig>,
    pub(crate) watch: &'a Arc<Watch>,
    pub(crate) call: &'a AgentCall,
    pub(crate) parameters: BTreeMap<String, String>,
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
    let mut running = Call { config, watch, call, parameters: BTreeMap::new(), deadline, is_given_up };
    match parameters::resolve(&call.parameters) {
        Ok(parameters) => running.parameters = parameters,
        // To end a process of ours nothing needs to be read.
        Err(_) if call.action == AgentAction::Stop && matches!(call.agent, AgentName::Native(_)) => {}
        Err(reason) => return permanent(reason),
    }
    match &call.agent {
        AgentName::Native(name) => match name.as_str() {
            "process" => service::run(&running),
            "ip" => ip::run(&running),
            _ => permanent(format!(
                "there is no built-in agent `{}`; there are cardea:ip and cardea:process",
                call.agent
            )),
        },
        AgentName::Ocf { provider, name } => ocf::run(&running, provider, name),
        AgentName::Other { .. } => permanent(format!("agents such as `{}` cannot be called yet", call.agent)),
    }
}

pub(crate) fn failed(reason: impl Into<String>) -> Outcome {
    Outcome::Failed { reason: reason.into(), is_permanent: false }
}

pub(crate) fn permanent(reason: impl Into<String>) -> Outcome {
    Outcome::Failed { reason: reason.into(), is_permanent: true }
}

impl Call<'_> {
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
    pub(crate) fn find_cgroup(&self, action: AgentAction) -> Option<Cgroup> {
        Cgroup::find(self.config.cgroup.as_deref()?, &self.cgroup_name(action))
    }

    /// Ends everything that this call has started; the answer to give when its time was up.
    pub(crate) fn end_what_was_started(&self, main: &Process, cgroup: Option<&Cgroup>) -> Outcome {
        let environment = mark::entries(&mark::of_call(self.config, self.call));
        let ladder = Ladder { polite: self.config.polite, forced: self.config.forced };
        let left = end_all(ladder, cgroup, || {
            find_marked(&Marks {
                environment: environment.clone(),
                session: Some((main.pid(), main.started())),
                members: cgroup.map(Cgroup::members).unwrap_or_default(),
            })
        });
        main.reap();
        if let Some(cgroup) = cgroup {
            cgroup.remove();
        }
        if left.is_empty() { Outcome::TimedOut } else { stuck(&left) }
    }
}

/// The answer when something cannot be ended.
pub(crate) fn stuck(left: &[Process]) -> Outcome {
    Outcome::Stuck { reason: format!("cannot be ended: {}", mark::show(left)) }
}
