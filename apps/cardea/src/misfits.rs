//! What does not fit the agents of the nodes, as findings that point at the file.

use std::collections::{BTreeMap, BTreeSet};

use agents::{Misfit, Owner, Trouble};
use config::{Diagnostic, Severity};
use model::{ClusterConfig, NodeName, NodeRole, ResourceName};

/// Most parameters that are listed where none is meant for sure.
const LISTED_MAX: usize = 12;

/// The resources that may run on a node, as far as the file tells.
pub fn concerning(config: &ClusterConfig, node: &NodeName) -> BTreeSet<ResourceName> {
    if config.nodes.get(node).is_some_and(|node| node.role == NodeRole::Witness) {
        return BTreeSet::new();
    }
    let units = config.units();
    let may_run = |name: &ResourceName| {
        units.get(&config.unit_of(name)).is_none_or(|unit| config::may_run_on(unit.placement, node))
    };
    config.resources.keys().filter(|name| may_run(name)).cloned().collect()
}

/// What the agents of one machine do not take.
pub fn of_this_machine(text: &str, misfits: &[Misfit]) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = misfits
        .iter()
        .map(|misfit| {
            let mut diagnostic = drawn(text, misfit, "this machine");
            // The machine on which a file is written need not be a node.
            if let Trouble::NotInstalled { .. } = misfit.trouble {
                diagnostic.severity = Severity::Warning;
            }
            diagnostic
        })
        .collect();
    sort(&mut found);
    found
}

/// What the nodes said of a file: their misfits, or why they could not be asked.
pub type Answers = BTreeMap<NodeName, Result<Vec<Misfit>, String>>;

/// What the agents of the nodes do not take. What was as it is before is a warning: it was accepted once, and the rest
/// of the file may be urgent.
pub fn of_the_nodes(text: &str, before: &ClusterConfig, config: &ClusterConfig, answers: &Answers) -> Vec<Diagnostic> {
    let asked: BTreeSet<&NodeName> = answers.iter().filter(|(_, said)| said.is_ok()).map(|(node, _)| node).collect();
    let mut said_by: BTreeMap<&Misfit, BTreeSet<&NodeName>> = BTreeMap::new();
    for (node, misfit) in
        answers.iter().flat_map(|(node, said)| said.iter().flatten().map(move |misfit| (node, misfit)))
    {
        said_by.entry(misfit).or_default().insert(node);
    }
    // That an agent says nothing is no news where nothing changes.
    let is_news = |misfit: &Misfit| misfit.trouble.is_certain() || !is_as_before(before, config, &misfit.owner);
    let mut found: Vec<Diagnostic> = said_by
        .into_iter()
        .filter(|(misfit, _)| is_news(misfit))
        .map(|(misfit, nodes)| {
            let concerned = asked.iter().filter(|node| match &misfit.owner {
                Owner::Resource(name) => concerning(config, node).contains(name),
                Owner::Fence(_) => true,
            });
            let is_everywhere = concerned.count() == nodes.len();
            let names: Vec<&str> = nodes.iter().map(|node| node.as_str()).collect();
            let place = if is_everywhere { "any node that may need it".to_owned() } else { names.join(", ") };
            let mut diagnostic = drawn(text, misfit, &place);
            if !is_everywhere && !matches!(misfit.trouble, Trouble::NotInstalled { .. }) {
                diagnostic.message += &format!(" (on {})", names.join(", "));
            }
            if is_as_before(before, config, &misfit.owner) {
                diagnostic.severity = Severity::Warning;
            }
            diagnostic
        })
        .collect();
    for (node, why) in answers.iter().filter_map(|(node, said)| Some((node, said.as_ref().err()?))) {
        found.push(Diagnostic::warning(
            "agents::not_asked",
            format!("it is not known whether the agents of {node} can do this: {why}"),
        ));
    }
    sort(&mut found);
    found
}

fn is_as_before(before: &ClusterConfig, config: &ClusterConfig, owner: &Owner) -> bool {
    match owner {
        Owner::Resource(name) => {
            let told = |config: &ClusterConfig| {
                let units = config.units();
                let leaning = units.get(&config.unit_of(name)).map(|unit| unit.placement.leaning.clone());
                config.resources.get(name).map(|resource| (resource.parameters_digest(), leaning))
            };
            told(before) == told(config)
        }
        Owner::Fence(name) => before.fence_devices.get(name) == config.fence_devices.get(name),
    }
}

fn sort(found: &mut [Diagnostic]) {
    found.sort_by_key(|diagnostic| (diagnostic.severity, diagnostic.span.as_ref().map(|span| span.start)));
}

/// `place` completes "is not installed on …".
fn drawn(text: &str, misfit: &Misfit, place: &str) -> Diagnostic {
    let (table, name, of) = match &misfit.owner {
        Owner::Resource(name) => ("resources", name.as_str(), format!("`{name}`")),
        Owner::Fence(name) => ("fence", name.as_str(), format!("fence device `{name}`")),
    };
    let agent = &misfit.agent;
    let (code, message, label, help) = match &misfit.trouble {
        Trouble::NotInstalled { why, others } => {
            let valid: Vec<&str> = others.iter().map(String::as_str).collect();
            let near = config::nearest(agent, &valid).map(|near| format!("did you mean \"{near}\"? else "));
            let help = format!("{}install it there, or keep {of} away from there", near.unwrap_or_default());
            ("agents::not_installed", format!("{agent} cannot be run on {place}: {why}"), "not there", help)
        }
        Trouble::Silent { why } => {
            let message = format!("it is not known what {agent} takes: {why}");
            ("agents::silent", message, "not checked", "look up its parameters in its documentation".to_owned())
        }
        Trouble::Unknown { parameter, others } => {
            let valid: Vec<&str> = others.iter().map(String::as_str).collect();
            let help = match config::nearest(parameter, &valid) {
                Some(near) => format!("did you mean `{near}`?"),
                None if valid.is_empty() => format!("{agent} takes no other parameters"),
                None if valid.len() > LISTED_MAX => {
                    format!("{agent} also takes {}, … (its meta-data has all)", valid[..LISTED_MAX].join(", "))
                }
                None => format!("{agent} also takes {}", valid.join(", ")),
            };
            (
                "agents::unknown_parameter",
                format!("{agent} has no parameter `{parameter}`"),
                "not known to the agent",
                help,
            )
        }
        Trouble::Missing { parameter, purpose } => {
            let purpose = if purpose.is_empty() { String::new() } else { format!(" ({purpose})") };
            let help = format!("write {parameter} = \"…\" into [{table}.{name}]");
            let message = format!("{agent} needs `{parameter}`{purpose}, and {of} does not give it");
            ("agents::missing_parameter", message, "a parameter is missing", help)
        }
        Trouble::WrongValue { parameter, value, wanted } => {
            let message = format!("`{parameter}` of {of} is `{}`", value.chars().take(100).collect::<String>());
            ("agents::wrong_value", message, "not what the agent wants", format!("{agent} wants {wanted}"))
        }
    };
    let paths: [&[&str]; 3] = match (&misfit.trouble, misfit.trouble.parameter()) {
        (_, Some(parameter)) => [&[table, name, parameter], &[table, name, "parameters", parameter], &[table, name]],
        (Trouble::NotInstalled { .. } | Trouble::Silent { .. }, None) => {
            [&[table, name, "agent"], &[table, name], &[table, name]]
        }
        (_, None) => [&[table, name], &[table, name], &[table, name]],
    };
    let diagnostic =
        if misfit.trouble.is_certain() { Diagnostic::error(code, message) } else { Diagnostic::warning(code, message) };
    let diagnostic = diagnostic.help(help);
    match paths.into_iter().find_map(|path| config::place(text, path)) {
        Some(span) => diagnostic.at(span, label),
        None => diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"cluster = "lab"
[nodes.a]
links = ["10.0.0.1"]
fence = ["power"]
[nodes.b]
links = ["10.0.0.2"]
fence = ["power"]
[nodes.c]
links = ["10.0.0.3"]
fence = ["power"]
[fence.power]
agent = "fence_lab"
covers = ["storage", "network"]
[resources.data]
agent = "ocf:heartbeat:Filesystem"
device = "/dev/vdb"
drectory = "/srv"
avoid = ["c"]
"#;

    fn parsed(text: &str) -> ClusterConfig {
        config::parse(text).expect("a valid file").config
    }

    fn misfit(trouble: Trouble) -> Misfit {
        Misfit { owner: Owner::Resource("data".into()), agent: "ocf:heartbeat:Filesystem".to_owned(), trouble }
    }

    fn unknown() -> Misfit {
        misfit(Trouble::Unknown { parameter: "drectory".to_owned(), others: vec!["directory".to_owned()] })
    }

    fn answers(of: &[(&str, Result<Vec<Misfit>, String>)]) -> Answers {
        of.iter().map(|(node, said)| (NodeName((*node).to_owned()), said.clone())).collect()
    }

    #[test]
    fn a_node_looks_only_at_what_it_may_run() {
        let config = parsed(TEXT);
        assert_eq!(concerning(&config, &"a".into()), BTreeSet::from(["data".into()]));
        assert_eq!(concerning(&config, &"c".into()), BTreeSet::new());
    }

    #[test]
    fn a_misspelt_parameter_is_pointed_at_and_the_right_one_named() {
        let config = parsed(TEXT);
        let said = answers(&[("a", Ok(vec![unknown()])), ("b", Ok(vec![unknown()])), ("c", Ok(Vec::new()))]);
        let found = of_the_nodes(TEXT, &ClusterConfig::default(), &config, &said);
        let [one] = &found[..] else { panic!("one finding, not one for each node: {found:?}") };
        assert_eq!(one.severity, Severity::Error);
        assert_eq!(one.message, "ocf:heartbeat:Filesystem has no parameter `drectory`");
        assert_eq!(one.help.as_deref(), Some("did you mean `directory`?"));
        let span = one.span.clone().expect("a place");
        assert_eq!(&TEXT[span], "drectory");
    }

    #[test]
    fn what_only_one_node_lacks_names_the_node() {
        let absent = misfit(Trouble::NotInstalled { why: "there is no file".to_owned(), others: Vec::new() });
        let said = answers(&[("a", Ok(Vec::new())), ("b", Ok(vec![absent]))]);
        let found = of_the_nodes(TEXT, &ClusterConfig::default(), &parsed(TEXT), &said);
        assert_eq!(found[0].message, "ocf:heartbeat:Filesystem cannot be run on b: there is no file");
        assert_eq!(found[0].severity, Severity::Error);
    }

    #[test]
    fn what_was_accepted_before_and_nodes_that_cannot_be_asked_are_warnings() {
        let config = parsed(TEXT);
        let said = answers(&[("a", Ok(vec![unknown()])), ("b", Err("b is suspect".to_owned()))]);
        let found = of_the_nodes(TEXT, &config, &config, &said);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|diagnostic| diagnostic.severity == Severity::Warning));
        assert!(found.iter().any(|diagnostic| diagnostic.message.contains("b is suspect")));
        let changed = parsed(&TEXT.replace("/dev/vdb", "/dev/vdc"));
        assert_eq!(of_the_nodes(TEXT, &config, &changed, &said)[0].severity, Severity::Error);
    }

    #[test]
    fn a_machine_that_need_not_be_a_node_may_lack_an_agent() {
        let others = vec!["ocf:heartbeat:Filesystem2".to_owned()];
        let absent = misfit(Trouble::NotInstalled { why: "there is no file".to_owned(), others });
        let found = of_this_machine(TEXT, &[absent, unknown()]);
        assert_eq!(found.iter().map(|one| one.severity).collect::<Vec<_>>(), [Severity::Error, Severity::Warning]);
        assert!(
            found[1].help.as_ref().is_some_and(|help| help.contains("did you mean \"ocf:heartbeat:Filesystem2\"?"))
        );
    }
}
