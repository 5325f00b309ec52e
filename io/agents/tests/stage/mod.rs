//! A node folder of its own, agents in it, and the events they cause.
#![allow(dead_code, reason = "every test program uses another part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agents::{AgentEvent, Agents, AgentsConfig};
use host::process::{Ladder, Marks, Process, StartTime, end_all, find_marked};
use model::{
    AgentAction, AgentCall, AgentName, CallKey, Epoch, FenceAction, FenceCall, FenceOutcome, OpId, Outcome,
    ParameterValue,
};

/// Far longer than anything takes: a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Stage {
    pub folder: Arc<tempfile::TempDir>,
    pub agents: Agents,
    events: Mutex<Receiver<AgentEvent>>,
    keys: Arc<AtomicU64>,
}

impl Stage {
    pub fn new() -> Stage {
        Stage::with(|_| {})
    }

    /// A stage with other settings than usual.
    pub fn with(change: impl FnOnce(&mut AgentsConfig)) -> Stage {
        Stage::on(Arc::new(tempfile::tempdir().unwrap()), Arc::new(AtomicU64::new(1)), change)
    }

    fn on(folder: Arc<tempfile::TempDir>, keys: Arc<AtomicU64>, change: impl FnOnce(&mut AgentsConfig)) -> Stage {
        let (sender, receiver) = channel();
        let mut config = AgentsConfig::new(folder.path());
        config.polite = Duration::from_millis(50);
        change(&mut config);
        let sender = Mutex::new(sender);
        let agents = Agents::new(config, move |event| {
            let _ = sender.lock().unwrap().send(event);
        })
        .unwrap();
        Stage { folder, agents, events: Mutex::new(receiver), keys }
    }

    /// Another worker on the same node: it knows nothing but what is on disk and what runs.
    pub fn beside(&self) -> Stage {
        Stage::on(Arc::clone(&self.folder), Arc::clone(&self.keys), |_| {})
    }

    /// The worker that follows on this one.
    pub fn next_worker(self) -> Stage {
        self.beside()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts an OCF agent `ocf:test:NAME` into the node's folder.
    pub fn ocf(&self, name: &str, script: &str) {
        program(&self.path("usr/lib/ocf/resource.d/test").join(name), script);
    }

    /// Puts a fence agent into the node's folder.
    pub fn fence_agent(&self, name: &str, script: &str) {
        program(&self.path("usr/sbin").join(name), script);
    }

    pub fn call(&self, agent: &str, action: AgentAction, parameters: &[(&str, &str)]) -> AgentCall {
        let index = self.keys.fetch_add(1, Ordering::Relaxed);
        AgentCall {
            key: CallKey { op: OpId { epoch: Epoch(5), index }, attempt: 0 },
            resource: "thing".into(),
            agent: AgentName::try_from(agent.to_owned()).unwrap(),
            action,
            parameters: texts(parameters),
            timeout: PATIENCE,
            is_proven_free: false,
            is_adoption: false,
            started_by: None,
        }
    }

    /// Runs a call to its answer.
    pub fn run(&self, call: AgentCall) -> Outcome {
        let key = call.key;
        self.agents.begin(call);
        self.done(key)
    }

    pub fn done(&self, wanted: CallKey) -> Outcome {
        loop {
            match self.event() {
                AgentEvent::Done { key, outcome } if key == wanted => return outcome,
                AgentEvent::Done { .. } => {}
                other => panic!("instead of an answer came {other:?}"),
            }
        }
    }

    pub fn event(&self) -> AgentEvent {
        self.events.lock().unwrap().recv_timeout(PATIENCE).expect("an event comes")
    }

    pub fn no_event(&self) -> bool {
        self.events.lock().unwrap().try_recv().is_err()
    }

    pub fn fence(&self, agent: &str, action: FenceAction, timeout: Duration) -> FenceOutcome {
        self.fence_with(agent, action, timeout, texts(&[("ip", "10.0.0.1")]))
    }

    pub fn fence_with(
        &self,
        agent: &str,
        action: FenceAction,
        timeout: Duration,
        parameters: BTreeMap<String, ParameterValue>,
    ) -> FenceOutcome {
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        self.agents.begin_fence(FenceCall {
            key,
            device: "power".into(),
            agent: agent.to_owned(),
            target: "b".into(),
            plug: "7".to_owned(),
            action,
            parameters,
            timeout,
            is_test: false,
        });
        match self.event() {
            AgentEvent::FenceDone { key: answered, outcome } if answered == key => outcome,
            other => panic!("instead of an answer came {other:?}"),
        }
    }

    /// Every living process that was started on this stage.
    pub fn processes(&self) -> Vec<Process> {
        let entry = format!("CARDEA_RUN={}", self.path("run/cardea").display());
        // Other tests run in user namespaces of their own, where nobody else may look.
        let oldest = Some(StartTime(u64::MAX));
        find_marked(&Marks { environment: vec![entry], oldest, ..Marks::default() }).unwrap()
    }

    /// Waits for a file that an agent writes.
    pub fn file(&self, name: &str) -> String {
        let path = self.path(name);
        eventually(|| fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')));
        fs::read_to_string(path).unwrap().trim().to_owned()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A worker that follows takes over what runs.
        if Arc::strong_count(&self.folder) == 1 {
            let ladder = Ladder { polite: Duration::ZERO, forced: PATIENCE };
            end_all(ladder, None, || Ok(self.processes())).unwrap();
        }
    }
}

pub fn texts(parameters: &[(&str, &str)]) -> BTreeMap<String, ParameterValue> {
    parameters.iter().map(|(name, value)| ((*name).to_owned(), ParameterValue::Text((*value).to_owned()))).collect()
}

/// Writes a program by a process of its own: were the file open here, a process that another test starts meanwhile
/// would inherit it for a moment, and what is open for writing cannot be run.
pub fn program(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = Command::new("/bin/sh");
    writer.args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(path).arg(script);
    assert!(writer.status().unwrap().success());
}

/// Writes a secret that nobody else may read.
pub fn write_secret(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// `command` of a service that runs this shell script.
pub fn shell(script: &str) -> String {
    format!("[\"/bin/sh\",\"-c\",{script:?}]")
}

pub fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came true");
        std::thread::yield_now();
    }
}

/// Notes a test that cannot run here, so that a complete run can insist on it.
pub fn skip(test: &str, why: &str) {
    use std::io::Write;
    eprintln!("skipped: {test}: {why}");
    if let Some(log) = std::env::var_os("CARDEA_SKIP_LOG") {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        writeln!(file, "{test}: {why}").unwrap();
    }
}
