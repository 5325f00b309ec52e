//! Can the agents of the nodes do what a cluster file asks of them? Every node that may need an agent is asked.
//!
//! In: a file that is to be planned or applied. Out: findings that point at the file; or a refusal.
//! Not here: what fits (`io/agents`), how a finding is drawn (`diagnostics.rs`).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::{Refused, RefusedCode, Request};
use config::{Diagnostic, Severity};
use model::{ClusterConfig, MemberState, NodeName, NodeRole};
use scheduler::Eligibility;
use tokio::task::JoinSet;

use super::worker::Hub;
use super::{peers, requests};
use crate::diagnostics;
use crate::misfits::{self, Answers};

/// How long a node may look at its agents.
const LOOK: Duration = Duration::from_secs(4);

/// How long a node is waited for; with what follows, less than whoever asked for a change waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// What this node's agents do not take of a file: the answer to another daemon's question.
pub async fn here(root: &Path, own: NodeName, text: String) -> Result<Vec<agents::Misfit>, String> {
    let root = root.to_owned();
    let looked = tokio::task::spawn_blocking(move || {
        let parsed = config::parse(&text).map_err(|_| "it reads the file as invalid: is it of another version?")?;
        let concerned: BTreeSet<_> = misfits::concerning(&parsed.config, &own);
        Ok(agents::misfits(&root, &parsed.config, &concerned, LOOK))
    });
    looked.await.unwrap_or(Err("it failed to look")).map_err(str::to_owned)
}

/// Asks every member that may run something what its agents do not take of a file.
pub async fn everywhere(hub: &Arc<Hub>, text: &str, config: &ClusterConfig) -> Vec<Diagnostic> {
    let view = hub.picture().view.clone();
    let mut answers = Answers::new();
    let mut asked = JoinSet::new();
    for (id, member) in view.state.members.iter().filter(|(_, member)| member.role == NodeRole::Member) {
        let (id, name, text) = (*id, member.name.clone(), text.to_owned());
        if id == hub.own() {
            let root = hub.paths().root().to_owned();
            asked.spawn(async move {
                let said = here(&root, name.clone(), text).await;
                (name, said)
            });
            continue;
        }
        let why_not = match (member.state, view.live.eligible.get(&id)) {
            (MemberState::Online, Some(Eligibility::Ready | Eligibility::NotYet { .. })) => None,
            (_, Some(Eligibility::Lost { why })) => Some(format!("{name} {why}")),
            (_, _) => Some(format!("{name} is not online")),
        };
        if let Some(why) = why_not {
            answers.insert(name, Err(why));
            continue;
        }
        let hub = Arc::clone(hub);
        asked.spawn(async move {
            let said = match hub.ask_peer(id, peers::examine_question(text), PATIENCE).await {
                Ok(bytes) => peers::unpack(&bytes).map_err(|cause| cause.to_string()),
                Err(cause) => Err(format!("it gave no answer: {cause}")),
            };
            (name, said)
        });
    }
    while let Some(answered) = asked.join_next().await {
        if let Ok((name, said)) = answered {
            answers.insert(name, said);
        }
    }
    misfits::of_the_nodes(text, &view.state.config, config, &answers)
}

/// Refuses a file that the agents cannot work with, or notes what was known when somebody applied it all the same.
pub async fn admit(hub: &Arc<Hub>, request: Request) -> Result<Request, Refused> {
    let Request::Apply { text, expected_version, reason, force } = request else { return Ok(request) };
    let parsed = requests::parse(&text, "cluster.toml")?;
    let found = everywhere(hub, &text, &parsed.config).await;
    let reason = judge(&text, found, reason, force)?;
    Ok(Request::Apply { text, expected_version, reason, force })
}

/// The reason to note in the history, or the refusal.
fn judge(text: &str, mut found: Vec<Diagnostic>, reason: String, force: bool) -> Result<String, Refused> {
    found.retain(|diagnostic| diagnostic.severity == Severity::Error);
    let Some(first) = found.first() else { return Ok(reason) };
    if !force {
        return Err(Refused::new(
            RefusedCode::Invalid,
            diagnostics::draw(text, "cluster.toml", &found, false),
            "the agents cannot work like this, and nothing was changed: mend the places shown, or apply it with --force if \
             you know better",
        ));
    }
    let more = if found.len() > 1 { format!(", and {} more", found.len() - 1) } else { String::new() };
    let noted = format!("forced although {}{more}", first.message);
    Ok(if reason.trim().is_empty() { noted } else { format!("{reason} ({noted})") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_cannot_do_is_refused_and_noted_where_it_is_forced() {
        let found = || {
            vec![
                Diagnostic::error("agents::unknown_parameter", "x has no parameter `y`"),
                Diagnostic::error("agents::missing_parameter", "x needs `z`"),
                Diagnostic::warning("agents::not_asked", "c"),
            ]
        };
        let refused = judge("", found(), String::new(), false).expect_err("refused");
        assert_eq!(refused.code, RefusedCode::Invalid);
        assert!(refused.message.contains("no parameter `y`") && refused.next.contains("--force"), "{refused:?}");
        let noted = judge("", found(), "new disk".to_owned(), true).expect("forced");
        assert_eq!(noted, "new disk (forced although x has no parameter `y`, and 1 more)");
        let warned = vec![Diagnostic::warning("agents::not_asked", "c")];
        assert_eq!(judge("", warned, "why".to_owned(), true), Ok("why".to_owned()));
    }
}
