//! Does what a cluster file tells the agents of this machine fit what they say about themselves?
//!
//! A resource with a misspelt parameter starts nowhere, and its failures cost far more than the question. So before a
//! file counts, each machine asks those of its agents that the file names for their description.
//!
//! In: a configuration and what of it concerns this machine. Out: what does not fit, as facts.
//! Not here: the built-in agents (`core/config` knows them), who is asked and what follows from it (the daemon).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{AgentName, ClusterConfig, FenceName, ParameterValue, ResourceName};
use serde::{Deserialize, Serialize};

use crate::metadata::{Metadata, MetadataError, Parameter, fence_metadata_within, metadata_within, parse_duration};
use crate::{fence, ocf, trust};

/// More than a person reads.
const MISFITS_MAX: usize = 100;
/// Descriptions that are remembered.
const REMEMBERED_MAX: usize = 500;
/// Agents that are proposed instead of one that is not there.
const OTHERS_MAX: usize = 1000;
/// What a fence agent is told besides its parameters.
const TOLD_ANYWAY: [&str; 4] = ["action", "port", "plug", "nodename"];

/// What a parameter belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// A resource.
    Resource(ResourceName),
    /// A fence device.
    Fence(FenceName),
}

/// One thing in a configuration that does not fit an agent of this machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Misfit {
    /// Whose agent it is.
    pub owner: Owner,
    /// The agent, as the configuration names it.
    pub agent: String,
    /// What does not fit.
    pub trouble: Trouble,
}

/// What does not fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// The agent is not on this machine, or must not be run.
    NotInstalled {
        /// Why, as a sentence with the next step where there is one.
        why: String,
        /// The agents of the same provider that are there.
        others: Vec<String>,
    },
    /// The agent is there and does not say what it takes; nothing is known of its parameters.
    Silent {
        /// Why.
        why: String,
    },
    /// The agent has no such parameter.
    Unknown {
        /// The parameter.
        parameter: String,
        /// Those that it has and that are not given.
        others: Vec<String>,
    },
    /// A parameter without which the agent does not work is not given.
    Missing {
        /// The parameter.
        parameter: String,
        /// What it is for, as the agent says; may be empty.
        purpose: String,
    },
    /// The agent wants another kind of value.
    WrongValue {
        /// The parameter.
        parameter: String,
        /// What it is.
        value: String,
        /// What it should be, as a noun with its article.
        wanted: String,
    },
}

impl Trouble {
    /// Is it certain that the agent cannot work like this?
    pub fn is_certain(&self) -> bool {
        match self {
            Trouble::Silent { .. } => false,
            Trouble::NotInstalled { .. }
            | Trouble::Unknown { .. }
            | Trouble::Missing { .. }
            | Trouble::WrongValue { .. } => true,
        }
    }

    /// The parameter to point at; none where it is not in the file.
    pub fn parameter(&self) -> Option<&str> {
        match self {
            Trouble::Unknown { parameter, .. } | Trouble::WrongValue { parameter, .. } => Some(parameter),
            Trouble::NotInstalled { .. } | Trouble::Silent { .. } | Trouble::Missing { .. } => None,
        }
    }
}

/// What of `resources` and of the fence devices does not fit this machine's agents; at most 100 findings.
///
/// Runs each agent once, for at most `patience` in all: what could not be asked in that time counts as silent. What an
/// agent said is remembered as long as its file stays as it is. Takes as long as the agents do: not for a thread on
/// which others wait.
pub fn misfits(
    root: &Path,
    config: &ClusterConfig,
    resources: &BTreeSet<ResourceName>,
    patience: Duration,
) -> Vec<Misfit> {
    let until = Instant::now() + patience;
    let mut found = Vec::new();
    let mut silent: BTreeSet<String> = BTreeSet::new();
    let of_resources = resources.iter().filter_map(|name| {
        let resource = config.resources.get(name)?;
        let AgentName::Ocf { .. } = &resource.agent else { return None };
        Some((Owner::Resource(name.clone()), Agent::Resource(&resource.agent), &resource.parameters))
    });
    let of_devices = config
        .fence_devices
        .iter()
        .map(|(name, device)| (Owner::Fence(name.clone()), Agent::Fence(device.agent.as_str()), &device.parameters));
    for (owner, agent, given) in of_resources.chain(of_devices) {
        if found.len() >= MISFITS_MAX {
            break;
        }
        let troubles = match described(root, agent, until) {
            Ok(described) => compare(&described, given, matches!(owner, Owner::Fence(_))),
            // Once is enough: it says nothing about the parameters of the others either.
            Err(Trouble::Silent { .. }) if !silent.insert(agent.to_string()) => Vec::new(),
            Err(trouble) => vec![trouble],
        };
        found.extend(troubles.into_iter().map(|trouble| Misfit {
            owner: owner.clone(),
            agent: agent.to_string(),
            trouble,
        }));
    }
    found.truncate(MISFITS_MAX);
    found
}

#[derive(Clone, Copy)]
enum Agent<'a> {
    Resource(&'a AgentName),
    Fence(&'a str),
}

impl std::fmt::Display for Agent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Agent::Resource(name) => write!(f, "{name}"),
            Agent::Fence(name) => f.write_str(name),
        }
    }
}

impl Agent<'_> {
    fn find(self, root: &Path) -> Result<PathBuf, String> {
        match self {
            Agent::Resource(AgentName::Ocf { provider, name }) => ocf::find(root, provider, name),
            Agent::Resource(other) => Err(format!("`{other}` is no program")),
            Agent::Fence(name) => fence::find(root, name),
        }
    }

    /// The names of the agents of this kind that are there, for a proposal; at most 1000.
    fn others(self, root: &Path) -> Vec<String> {
        let (below, prefix) = match self {
            Agent::Resource(AgentName::Ocf { provider, .. }) => {
                (PathBuf::from("usr/lib/ocf/resource.d").join(provider), format!("ocf:{provider}:"))
            }
            Agent::Resource(_) => return Vec::new(),
            Agent::Fence(_) => (PathBuf::from("usr/sbin"), String::new()),
        };
        let folders = [root.join(&below), Path::new("/").join(&below)];
        let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let is_meant = |name: &String| !name.starts_with('.') && (!prefix.is_empty() || name.starts_with("fence_"));
        let names: BTreeSet<String> = names.filter(is_meant).map(|name| format!("{prefix}{name}")).collect();
        names.into_iter().take(OTHERS_MAX).collect()
    }
}

/// What tells that a program is the one that was asked before.
type Seen = (PathBuf, u64, u64, i64, i64);

static REMEMBERED: Mutex<BTreeMap<Seen, Metadata>> = Mutex::new(BTreeMap::new());

fn described(root: &Path, agent: Agent<'_>, until: Instant) -> Result<Metadata, Trouble> {
    let path = agent.find(root).map_err(|why| Trouble::NotInstalled { why, others: agent.others(root) })?;
    let unusable = |why| Trouble::NotInstalled { why, others: Vec::new() };
    trust::check(&path).map_err(unusable)?;
    let about = std::fs::metadata(&path);
    let about = about.map_err(|error| unusable(format!("cannot look at {}: {error}", path.display())))?;
    if about.mode() & 0o111 == 0 {
        return Err(unusable(format!("{} is not executable: `chmod +x {0}`", path.display())));
    }
    let seen: Seen = (path, about.ino(), about.size(), about.mtime(), about.mtime_nsec());
    let known = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner).get(&seen).cloned();
    if let Some(known) = known {
        return Ok(known);
    }
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Trouble::Silent { why: "there was no time left to ask it".to_owned() });
    }
    let said = match agent {
        Agent::Resource(name) => metadata_within(root, name, left),
        Agent::Fence(name) => fence_metadata_within(root, name, left),
    };
    let said = said.map_err(|error| match error {
        MetadataError::Call(why) => Trouble::Silent { why },
        other @ (MetadataError::Failed { .. } | MetadataError::Unreadable { .. }) => {
            Trouble::Silent { why: other.to_string() }
        }
    })?;
    let mut remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
    if remembered.len() >= REMEMBERED_MAX {
        remembered.clear();
    }
    remembered.insert(seen, said.clone());
    Ok(said)
}

/// What of the given parameters does not fit the description.
fn compare(described: &Metadata, given: &BTreeMap<String, ParameterValue>, is_fence: bool) -> Vec<Trouble> {
    let is_told = |name: &str| given.contains_key(name) || (is_fence && TOLD_ANYWAY.contains(&name));
    let known = |name: &str| {
        let parameters = &described.parameters;
        parameters
            .iter()
            .find(|parameter| parameter.name == name)
            .or_else(|| parameters.iter().find(|parameter| parameter.old_names.iter().any(|old| old == name)))
    };
    let mut found = Vec::new();
    for (name, value) in given {
        match known(name) {
            None if is_for_everybody(name) || (is_fence && TOLD_ANYWAY.contains(&name.as_str())) => {}
            None => {
                let others = described.parameters.iter().filter(|other| !other.is_deprecated && !is_told(&other.name));
                let others = others.map(|other| other.name.clone()).collect();
                found.push(Trouble::Unknown { parameter: name.clone(), others });
            }
            Some(parameter) => {
                if let (ParameterValue::Text(text), Some(wanted)) = (value, wanted_instead(parameter, value)) {
                    found.push(Trouble::WrongValue { parameter: name.clone(), value: text.clone(), wanted });
                }
            }
        }
    }
    let has_default = |parameter: &Parameter| parameter.default.as_ref().is_some_and(|text| !text.is_empty());
    for parameter in &described.parameters {
        let is_given = is_told(&parameter.name) || parameter.old_names.iter().any(|old| is_told(old));
        if parameter.is_required && !parameter.is_deprecated && !has_default(parameter) && !is_given {
            found.push(Trouble::Missing { parameter: parameter.name.clone(), purpose: parameter.short.clone() });
        }
    }
    found
}

/// Parameters that the agents' common library understands, whatever the agent.
fn is_for_everybody(name: &str) -> bool {
    matches!(name, "trace_ra" | "trace_file" | "OCF_CHECK_LEVEL") || name.starts_with("CRM_meta_")
}

/// What the value should be, if it is something else. What is empty, or what the agent itself has as its default, is
/// never wrong.
fn wanted_instead(parameter: &Parameter, value: &ParameterValue) -> Option<String> {
    let ParameterValue::Text(text) = value else { return None };
    let text = text.trim();
    if text.is_empty() || parameter.default.as_deref().is_some_and(|default| default.trim() == text) {
        return None;
    }
    if !parameter.options.is_empty() {
        let is_listed = parameter.options.iter().any(|option| option.eq_ignore_ascii_case(text));
        return (!is_listed).then(|| format!("one of {}", parameter.options.join(", ")));
    }
    let (is_right, wanted) = match parameter.kind.as_str() {
        "integer" => (text.parse::<i64>().is_ok() || is_hexadecimal(text), "a whole number"),
        "boolean" => (is_boolean(text), "true or false"),
        "second" | "time" => (parse_duration(text).is_some(), "a time, such as 20s"),
        _ => (true, ""),
    };
    (!is_right).then(|| wanted.to_owned())
}

fn is_hexadecimal(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|digits| u64::from_str_radix(digits, 16).is_ok())
}

/// The words of the agents' common library, any case.
fn is_boolean(text: &str) -> bool {
    const WORDS: [&str; 12] = ["true", "false", "yes", "no", "on", "off", "1", "0", "y", "n", "ja", "nein"];
    WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, kind: &str, is_required: bool) -> Parameter {
        Parameter { name: name.to_owned(), kind: kind.to_owned(), is_required, ..Parameter::default() }
    }

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, ParameterValue> {
        let text = |value: &str| ParameterValue::Text(value.to_owned());
        pairs.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect()
    }

    fn filesystem() -> Metadata {
        let parameters = vec![
            parameter("device", "string", true),
            parameter("directory", "string", true),
            parameter("force_unmount", "boolean", false),
            Parameter { default: Some("auto".to_owned()), ..parameter("fast_stop", "integer", true) },
        ];
        Metadata { parameters, ..Metadata::default() }
    }

    #[test]
    fn a_misspelt_parameter_is_unknown_and_the_right_one_is_missing() {
        let found = compare(&filesystem(), &given(&[("device", "/dev/sdb1"), ("drectory", "/srv")]), false);
        let [Trouble::Unknown { parameter, others }, Trouble::Missing { parameter: missing, .. }] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((parameter.as_str(), missing.as_str()), ("drectory", "directory"));
        assert_eq!(others, &["directory", "force_unmount", "fast_stop"]);
        assert!(found.iter().all(Trouble::is_certain));
    }

    #[test]
    fn a_value_of_another_kind_is_named_with_what_is_wanted() {
        let fine = [("device", "a"), ("directory", "b")];
        let with = |more: &[(&str, &str)]| compare(&filesystem(), &given(&[&fine[..], more].concat()), false);
        assert_eq!(with(&[("force_unmount", "YES"), ("fast_stop", " -5 ")]), []);
        assert_eq!(with(&[("fast_stop", "auto")]), [], "its own default");
        assert_eq!(with(&[("fast_stop", "")]), []);
        let found = with(&[("fast_stop", "soon"), ("force_unmount", "flase")]);
        let wanted = found.iter().map(|trouble| match trouble {
            Trouble::WrongValue { parameter, wanted, .. } => (parameter.as_str(), wanted.as_str()),
            other => panic!("{other:?}"),
        });
        let wanted: Vec<_> = wanted.collect();
        assert_eq!(wanted, [("fast_stop", "a whole number"), ("force_unmount", "true or false")]);
        let select = Parameter { options: vec!["soft".into(), "hard".into()], ..parameter("mode", "select", false) };
        let described = Metadata { parameters: vec![select], ..Metadata::default() };
        assert_eq!(compare(&described, &given(&[("mode", "Hard")]), false), []);
        assert_eq!(compare(&described, &given(&[("mode", "weak")]), false).len(), 1);
    }

    #[test]
    fn an_old_name_is_as_good_as_the_new_one() {
        let described = Metadata {
            parameters: vec![
                Parameter { old_names: vec!["ipaddr".to_owned()], ..parameter("ip", "string", true) },
                Parameter { is_deprecated: true, ..parameter("ipaddr", "string", true) },
                parameter("plug", "string", true),
                Parameter { default: Some("reboot".to_owned()), ..parameter("action", "string", true) },
            ],
            ..Metadata::default()
        };
        assert_eq!(compare(&described, &given(&[("ip", "10.0.0.9")]), true), []);
        assert_eq!(compare(&described, &given(&[("ipaddr", "10.0.0.9")]), true), []);
        assert!(
            matches!(&compare(&described, &given(&[]), true)[..], [Trouble::Missing { parameter, .. }] if parameter == "ip")
        );
    }

    #[test]
    fn what_every_agent_understands_needs_no_description() {
        let fine = given(&[("device", "a"), ("directory", "b"), ("trace_ra", "1"), ("OCF_CHECK_LEVEL", "20")]);
        assert_eq!(compare(&filesystem(), &fine, false), []);
    }
}
