//! What does an agent say about itself?
//!
//! Resource and fence agents describe their parameters and actions in XML when asked for `meta-data` (`metadata`). It
//! comes from a foreign program: anything may be in it, and nothing in it may do harm.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use host::process::Exit;
use model::AgentName;
use roxmltree::{Document, Node, ParsingOptions};

use crate::output::last_line;
use crate::{AgentsConfig, fence, mark, ocf};

/// How long an agent may take to describe itself.
const TIMEOUT: Duration = Duration::from_secs(10);
/// More XML nodes than any description needs.
const NODES_MAX: u32 = 100_000;

/// What an agent says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Its version, as it writes it.
    pub version: String,
    /// What it is for, in a line.
    pub short: String,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// Its actions.
    pub operations: Vec<Operation>,
}

/// One parameter of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Must it be given?
    pub is_required: bool,
    /// May no two resources have the same value?
    pub is_unique: bool,
    /// What it is when it is not given.
    pub default: Option<String>,
    /// `string`, `integer`, `boolean`, …: as the agent says.
    pub kind: String,
    /// The only values that it takes; empty if the agent lists none.
    pub options: Vec<String>,
    /// Is it an old name, or of no use any more?
    pub is_deprecated: bool,
    /// Old names of it, which the agent still takes.
    pub old_names: Vec<String>,
    /// What it is for, in a line.
    pub short: String,
}

/// One action of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// `start`, `stop`, `monitor`, …
    pub name: String,
    /// The limit that the agent suggests.
    pub timeout: Option<Duration>,
    /// How often the agent suggests to do it.
    pub interval: Option<Duration>,
}

/// Why there is no description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The agent is not there, cannot be run, or gives no answer in time.
    #[error("{0}")]
    Call(String),
    /// The agent failed.
    #[error("{agent} {how} when asked to describe itself")]
    Failed {
        /// The agent.
        agent: String,
        /// How, and its last words.
        how: String,
    },
    /// What it prints is no description.
    #[error("{agent} does not describe itself in readable XML: {why}")]
    Unreadable {
        /// The agent.
        agent: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Describes a resource agent; an OCF agent is run for that, for at most 10 s.
pub fn metadata(root: &Path, agent: &AgentName) -> Result<Metadata, MetadataError> {
    metadata_within(root, agent, TIMEOUT)
}

/// As [`metadata`], for at most so long.
pub(crate) fn metadata_within(root: &Path, agent: &AgentName, limit: Duration) -> Result<Metadata, MetadataError> {
    match agent {
        AgentName::Native(name) => native(name).ok_or_else(|| {
            MetadataError::Call(format!("there is no built-in agent `{agent}`; there are cardea:ip and cardea:process"))
        }),
        AgentName::Ocf { provider, name } => {
            let path = ocf::find(root, provider, name).map_err(MetadataError::Call)?;
            let environment = ocf::environment(root, &AgentsConfig::new(root).runtime_dir, provider, name);
            describe(&agent.to_string(), &path, vec!["meta-data".to_owned()], "", environment, limit)
        }
        AgentName::Other { .. } => Err(MetadataError::Call(format!("agents such as `{agent}` cannot be called yet"))),
    }
}

/// Describes a fence agent by running it, for at most 10 s.
pub fn fence_metadata(root: &Path, agent: &str) -> Result<Metadata, MetadataError> {
    fence_metadata_within(root, agent, TIMEOUT)
}

/// As [`fence_metadata`], for at most so long.
pub(crate) fn fence_metadata_within(root: &Path, agent: &str, limit: Duration) -> Result<Metadata, MetadataError> {
    let path = fence::find(root, agent).map_err(MetadataError::Call)?;
    describe(agent, &path, Vec::new(), "action=metadata\n", mark::base_environment(), limit)
}

fn describe(
    agent: &str,
    path: &Path,
    arguments: Vec<String>,
    input: &str,
    mut environment: BTreeMap<String, String>,
    limit: Duration,
) -> Result<Metadata, MetadataError> {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    environment.insert(mark::OPERATION.to_owned(), format!("metadata.{}.{run}", std::process::id()));
    let answer =
        fence::ask(path, arguments, input, environment, limit.min(TIMEOUT), TIMEOUT).map_err(MetadataError::Call)?;
    if answer.exit != Exit::Status(0) {
        let said = last_line(&answer.errors).map(|line| format!(" ({line})")).unwrap_or_default();
        return Err(MetadataError::Failed { agent: agent.to_owned(), how: format!("{}{said}", answer.exit) });
    }
    parse(&answer.output).map_err(|why| MetadataError::Unreadable { agent: agent.to_owned(), why })
}

fn parse(printed: &str) -> Result<Metadata, String> {
    // Agents print warnings before the document.
    let begin = printed.find("<?xml").or_else(|| printed.find("<resource-agent")).unwrap_or(0);
    let options = ParsingOptions { allow_dtd: true, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(&printed[begin..], options).map_err(|error| error.to_string())?;
    let root = document.root_element();
    if !root.has_tag_name("resource-agent") {
        return Err(format!("it begins with <{}>, not with <resource-agent>", root.tag_name().name()));
    }
    let listed = |list: &str, item: &'static str| {
        let lists: Vec<Node<'_, '_>> = root.children().filter(|node| node.has_tag_name(list)).collect();
        let items = lists.into_iter().flat_map(|node| node.children());
        items.filter(|node| node.has_tag_name(item)).collect::<Vec<_>>()
    };
    let nodes = listed("parameters", "parameter");
    let mut parameters: Vec<Parameter> = nodes.iter().filter_map(parameter).collect();
    for node in &nodes {
        let Some((old, new)) = node.attribute("name").zip(replacement(node)) else { continue };
        if let Some(parameter) = parameters.iter_mut().find(|parameter| parameter.name == new) {
            parameter.old_names.push(old.to_owned());
        }
    }
    Ok(Metadata {
        name: root.attribute("name").unwrap_or_default().to_owned(),
        version: root.attribute("version").map(str::to_owned).or_else(|| text_of(&root, "version")).unwrap_or_default(),
        short: root
            .attribute("shortdesc")
            .map(str::to_owned)
            .or_else(|| text_of(&root, "shortdesc"))
            .unwrap_or_default(),
        parameters,
        operations: listed("actions", "action").into_iter().filter_map(|node| operation(&node)).collect(),
    })
}

fn parameter(node: &Node<'_, '_>) -> Option<Parameter> {
    let content = node.children().find(|child| child.has_tag_name("content"));
    let is_true = |name: &str| node.attribute(name).is_some_and(|value| matches!(value, "1" | "true" | "yes"));
    Some(Parameter {
        name: node.attribute("name").filter(|name| !name.is_empty())?.to_owned(),
        is_required: is_true("required"),
        is_unique: is_true("unique"),
        default: content.and_then(|content| content.attribute("default")).map(str::to_owned),
        kind: content.and_then(|content| content.attribute("type")).unwrap_or("string").to_owned(),
        options: content
            .into_iter()
            .flat_map(|content| content.children())
            .filter(|child| child.has_tag_name("option"))
            .filter_map(|option| option.attribute("value").map(str::to_owned))
            .collect(),
        is_deprecated: is_true("deprecated") || node.children().any(|child| child.has_tag_name("deprecated")),
        // Fence agents name the old ones at the new one.
        old_names: node.attribute("obsoletes").map(str::to_owned).into_iter().collect(),
        short: text_of(node, "shortdesc").unwrap_or_default(),
    })
}

/// The new name of a deprecated parameter (OCF 1.1).
fn replacement<'a>(node: &Node<'a, '_>) -> Option<&'a str> {
    let deprecated = node.children().find(|child| child.has_tag_name("deprecated"))?;
    deprecated.children().find(|child| child.has_tag_name("replaced-with"))?.attribute("name")
}

fn operation(node: &Node<'_, '_>) -> Option<Operation> {
    let time = |name: &str| node.attribute(name).and_then(parse_duration);
    Some(Operation {
        name: node.attribute("name").filter(|name| !name.is_empty())?.to_owned(),
        timeout: time("timeout"),
        interval: time("interval"),
    })
}

fn text_of(node: &Node<'_, '_>, child: &str) -> Option<String> {
    let text = node.children().find(|n| n.has_tag_name(child))?.text()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A time as agents write it: `20`, `20s`, `500ms`, `1min`, `2h`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let millis = match text[end..].trim() {
        "" | "s" | "sec" => number.checked_mul(1000)?,
        "ms" | "msec" => number,
        "m" | "min" => number.checked_mul(60_000)?,
        "h" | "hr" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(millis))
}

/// The description of a built-in agent.
fn native(name: &str) -> Option<Metadata> {
    let parameter = |name: &str, is_required, is_unique, kind: &str, short: &str| Parameter {
        name: name.to_owned(),
        is_required,
        is_unique,
        kind: kind.to_owned(),
        short: short.to_owned(),
        ..Parameter::default()
    };
    let (short, parameters) = match name {
        "ip" => (
            "A floating IPv4 address",
            vec![
                parameter("address", true, true, "string", "IP/PREFIX, for example 10.0.0.5/24"),
                parameter("device", false, false, "string", "The interface, if its subnet does not say it"),
            ],
        ),
        "process" => (
            "A program that runs as a service",
            vec![
                parameter("command", true, false, "string", "Program and arguments, a JSON list of texts"),
                parameter("directory", false, false, "string", "Working directory"),
                parameter("environment", false, false, "string", "Variables, a JSON object of texts"),
                parameter("tcp", false, false, "string", "IP:PORT that accepts connections once it is ready"),
                parameter(
                    "http",
                    false,
                    false,
                    "string",
                    "http://IP:PORT/PATH that answers 2xx or 3xx once it is ready",
                ),
            ],
        ),
        _ => return None,
    };
    let operation = |name: &str| Operation { name: name.to_owned(), ..Operation::default() };
    Some(Metadata {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        short: short.to_owned(),
        parameters,
        operations: ["start", "stop", "monitor"].map(operation).to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMMY: &str = r#"warning: something
<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="Thing" version="1.2">
<version>1.0</version>
<shortdesc lang="en">A
  thing</shortdesc>
<parameters>
<parameter name="state" unique="1" required="0">
<shortdesc lang="en">State file</shortdesc>
<content type="string" default="/run/x" />
</parameter>
<parameter name="need" required="1"><content type="integer" /></parameter>
<parameter name="must" deprecated="1"><deprecated><replaced-with name="need"/></deprecated><content type="integer" /></parameter>
<parameter name="mode" obsoletes="way"><content type="select"><option value="soft"/><option value="hard"/></content></parameter>
<parameter><content/></parameter>
</parameters>
<actions>
<action name="start" timeout="20s" />
<action name="monitor" timeout="1min" interval="10" depth="0" />
</actions>
</resource-agent>"#;

    #[test]
    fn an_agents_description_is_read() {
        let found = parse(DUMMY).unwrap();
        assert_eq!((found.name.as_str(), found.version.as_str(), found.short.as_str()), ("Thing", "1.2", "A thing"));
        assert_eq!(found.parameters.len(), 4, "one without a name is none");
        assert!(found.parameters[0].is_unique && !found.parameters[0].is_required);
        assert_eq!(found.parameters[0].default.as_deref(), Some("/run/x"));
        assert!(found.parameters[1].is_required);
        assert_eq!(found.parameters[1].old_names, ["must"]);
        assert!(found.parameters[2].is_deprecated && !found.parameters[1].is_deprecated);
        assert_eq!(
            (&found.parameters[3].options[..], &found.parameters[3].old_names[..]),
            (&["soft".to_owned(), "hard".to_owned()][..], &["way".to_owned()][..])
        );
        assert_eq!(found.operations[0].timeout, Some(Duration::from_secs(20)));
        assert_eq!(found.operations[1].interval, Some(Duration::from_secs(10)));
    }

    #[test]
    fn garbage_is_an_error_and_nothing_worse() {
        let bomb = r#"<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;">
            <!ENTITY e "&d;&d;&d;&d;"><!ENTITY f "&e;&e;&e;&e;&f;">]><resource-agent>&f;</resource-agent>"#;
        for garbage in ["", "<", "<html/>", "<resource-agent>", "\u{0}\u{1}", "no xml at all", bomb] {
            assert!(parse(garbage).is_err(), "{garbage:?}");
        }
        assert_eq!(parse_duration("20 parsecs"), None);
        assert_eq!(parse_duration("99999999999999999999s"), None);
        assert_eq!(parse_duration("ä"), None);
    }

    #[test]
    fn the_built_in_agents_describe_themselves() {
        let ip = metadata(Path::new("/"), &AgentName::Native("ip".to_owned())).unwrap();
        assert!(ip.parameters.iter().any(|p| p.name == "address" && p.is_required));
        assert!(metadata(Path::new("/"), &AgentName::Native("nothing".to_owned())).is_err());
    }
}
