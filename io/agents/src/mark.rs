//! By what is a process recognised as ours, and as whose?
//!
//! Every process of a call carries in its environment which daemon, which resource, which call and which action it
//! belongs to. All of them are needed: two daemons may share a machine, and operation numbers begin again in another
//! cluster. A token proves that this daemon set the mark (`secret.rs`).

use std::collections::BTreeMap;
use std::path::Path;

use host::process::{Environment, Marks, Process, command_line};
use model::{AgentAction, AgentCall, CallKey};

use crate::AgentsConfig;

pub(crate) const OPERATION: &str = "CARDEA_OP";
pub(crate) const RUNTIME: &str = "CARDEA_RUN";
pub(crate) const RESOURCE: &str = "CARDEA_RESOURCE";
pub(crate) const ACTION: &str = "CARDEA_ACTION";
pub(crate) const TOKEN: &str = "CARDEA_TOKEN";

/// For what fence agents get their token: they belong to no resource.
const FENCING: &str = "/fencing";

pub(crate) fn operation(key: CallKey) -> String {
    format!("{}.{}.{}", key.op.epoch, key.op.index, key.attempt)
}

pub(crate) fn action_word(action: AgentAction) -> &'static str {
    match action {
        AgentAction::Start => "start",
        AgentAction::Stop => "stop",
        AgentAction::Monitor => "monitor",
    }
}

/// The whole mark of a call, as it goes into an environment.
pub(crate) fn of_call(config: &AgentsConfig, call: &AgentCall) -> BTreeMap<String, String> {
    BTreeMap::from([
        (OPERATION.to_owned(), operation(call.key)),
        (RUNTIME.to_owned(), runtime(config)),
        (RESOURCE.to_owned(), call.resource.to_string()),
        (ACTION.to_owned(), action_word(call.action).to_owned()),
        (TOKEN.to_owned(), config.secret.token(call.resource.as_str())),
    ])
}

/// What every process that was ever started for the resource of a call has in its mark.
pub(crate) fn of_resource(config: &AgentsConfig, call: &AgentCall) -> BTreeMap<String, String> {
    let mut mark = of_call(config, call);
    mark.remove(OPERATION);
    mark.remove(ACTION);
    mark
}

/// The mark of a fence agent.
pub(crate) fn of_fencing(config: &AgentsConfig, key: u64) -> BTreeMap<String, String> {
    BTreeMap::from([
        (OPERATION.to_owned(), format!("fence.{key}")),
        (RUNTIME.to_owned(), runtime(config)),
        (TOKEN.to_owned(), config.secret.token(FENCING)),
    ])
}

/// Was the process of this environment, which names this daemon, really started by it?
pub(crate) fn is_genuine(config: &AgentsConfig, environment: &Environment) -> bool {
    let what = environment.value(RESOURCE).unwrap_or(FENCING);
    !config.secret.is_strict() || environment.value(TOKEN) == Some(config.secret.token(what).as_str())
}

/// What every search for processes of ours begins with.
pub(crate) fn search<'a>(config: &AgentsConfig) -> Marks<'a> {
    Marks { oldest: Some(config.secret.since()), ..Marks::default() }
}

/// `NAME=value` as it is looked for in environments.
pub(crate) fn wanted(config: &AgentsConfig, mut mark: BTreeMap<String, String>) -> Vec<String> {
    if !config.secret.is_strict() {
        mark.remove(TOKEN);
    }
    mark.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

pub(crate) fn runtime(config: &AgentsConfig) -> String {
    config.runtime_dir.display().to_string()
}

/// The environment that agents and services begin with: little, and the same everywhere.
pub(crate) fn base_environment() -> BTreeMap<String, String> {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut environment =
        BTreeMap::from([("PATH".to_owned(), PATH.to_owned()), ("LANG".to_owned(), "C.UTF-8".to_owned())]);
    for name in ["HOME", "USER", "LOGNAME", "TMPDIR", "TZ"] {
        if let Ok(value) = std::env::var(name) {
            environment.insert(name.to_owned(), value);
        }
    }
    environment
}

/// A name as the name of a file: what is not plain is written as `%` and two hexadecimal digits.
pub(crate) fn file_name(name: &str) -> String {
    let mut safe = String::with_capacity(name.len());
    for (position, byte) in name.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && position > 0);
        if is_plain {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("%{byte:02x}"));
        }
    }
    safe
}

/// Processes as an operator can look for them: `1234 (nginx), 1235 (sh)`.
pub(crate) fn show(processes: &[Process]) -> String {
    const SHOWN_MAX: usize = 8;
    let mut shown: Vec<String> = processes
        .iter()
        .take(SHOWN_MAX)
        .map(|process| {
            let line = command_line(process.pid()).unwrap_or_default();
            let name = line.first().map_or("?", |program| {
                Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or(program)
            });
            format!("{} ({name})", process.pid())
        })
        .collect();
    if processes.len() > SHOWN_MAX {
        shown.push(format!("{} more", processes.len() - SHOWN_MAX));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_its_folder() {
        assert_eq!(file_name("web-1_a.b"), "web-1_a.b");
        assert_eq!(file_name(".."), "%2e.");
        assert_eq!(file_name("../etc/passwd"), "%2e.%2fetc%2fpasswd");
        assert_eq!(file_name("ä"), "%c3%a4");
    }
}
