//! What would a cluster file change in the running cluster?
//!
//! In: a picture of the cluster, and the file. Out: what changes in the cluster itself, where everything goes, the steps,
//! and why `apply` would refuse the file.

use api::PlanStatus;
use config::{Diagnostic, Severity};
use model::{ClusterConfig, NodeId};
use node::View;

use super::{http, status};

/// The plan of a file. `of_agents`: what the agents of the nodes do not take of it.
pub fn of_file(
    view: &View,
    config: ClusterConfig,
    mut warnings: Vec<String>,
    of_agents: Vec<Diagnostic>,
) -> PlanStatus {
    let now = view.state.as_ref();
    let (misfits, doubts): (Vec<_>, Vec<_>) =
        of_agents.into_iter().partition(|found| found.severity == Severity::Error);
    warnings.extend(doubts.into_iter().map(|doubt| doubt.message));
    let refused = if view.is_quorate && view.leader.is_some() {
        state::check_config(now, &config).err().map(|refusal| refusal.to_string()).or_else(|| refused_by(&misfits))
    } else {
        let refused = http::not_quorate();
        Some(format!("{}; {}", refused.message, refused.next))
    };
    let changes = config::changes(&now.config, &config);
    let mut then = now.clone();
    then.config = config;
    let mut plan = scheduler::plan(&then, &view.live);
    for (unit, node) in scheduler::outlook(&then, &view.live) {
        if let Some(decision) = plan.decisions.get_mut(&unit) {
            let node = then.name_of(node);
            decision.reason =
                format!("{unit} will start on {node} once every node has been asked whether it runs there");
        }
    }
    PlanStatus { changes, refused, ..status::show_plan(&then, &plan, now.config_version.0, warnings) }
}

/// What the agents cannot work with, as one sentence.
fn refused_by(misfits: &[Diagnostic]) -> Option<String> {
    let told = |misfit: &Diagnostic| match &misfit.help {
        Some(help) => format!("{} ({help})", misfit.message),
        None => misfit.message.clone(),
    };
    let all: Vec<String> = misfits.iter().map(told).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// What it means that this node belongs to no majority, and how far it is from one; none: it does.
pub fn without_majority(view: &View) -> Option<String> {
    if view.is_quorate && view.leader.is_some() {
        return None;
    }
    let (all, needed) = (view.voters.len(), quorum::quorum(view.voters.len()));
    let is_silent = |id: &&NodeId| !status::is_heard(view, **id);
    let silent: Vec<String> = view.voters.iter().filter(is_silent).map(|id| view.state.name_of(*id)).collect();
    let heard = all - silent.len();
    let missing = if silent.is_empty() { String::new() } else { format!(" ({} silent)", silent.join(", ")) };
    Some(format!(
        "There is no majority here: {heard} of {all} votes heard, {needed} needed{missing}; nothing is started, moved or \
         fenced, and what follows is the last that was agreed"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::testing::view;
    use super::*;

    /// The file of the running cluster, changed.
    fn plan(change: impl Fn(&mut ClusterConfig)) -> PlanStatus {
        let view = view();
        let mut config = view.state.config.clone();
        change(&mut config);
        of_file(&view, config, Vec::new(), Vec::new())
    }

    #[test]
    fn a_plan_says_where_what_is_new_will_start() {
        let shown = plan(|config| {
            let new = config.resources[&model::ResourceName::from("db")].clone();
            config.resources.insert("new".into(), new);
        });
        let told: Vec<&String> = shown.decisions.iter().filter(|said| said.starts_with("new ")).collect();
        assert_eq!(told.len(), 1, "{shown:?}");
        assert!(told[0].starts_with("new will start on "), "{told:?}");
        assert!(shown.steps.iter().any(|step| step.what.starts_with("probe new on ")), "{:?}", shown.steps);
    }

    #[test]
    fn a_plan_says_what_apply_would_refuse_in_the_same_words() {
        assert_eq!(plan(|_| {}).refused, None);
        let regrouped = plan(|config| {
            let site = config.groups.remove(&"site".into()).expect("the group");
            config.groups.insert("place".into(), site);
        });
        let why = regrouped.refused.expect("it is refused");
        assert!(why.contains("would change from unit `site` to `place` while `site` is held"), "{why}");
    }

    #[test]
    fn what_the_agents_cannot_do_is_refused_and_what_is_not_known_is_a_warning() {
        let view = view();
        let found = vec![
            Diagnostic::error("agents::unknown_parameter", "x has no parameter `y`").help("did you mean `z`?"),
            Diagnostic::warning("agents::not_asked", "c could not be asked"),
        ];
        let plan = of_file(&view, view.state.config.clone(), Vec::new(), found);
        assert_eq!(plan.refused.as_deref(), Some("x has no parameter `y` (did you mean `z`?)"));
        assert_eq!(plan.warnings, ["c could not be asked"]);
    }

    #[test]
    fn without_a_majority_a_plan_says_so() {
        let mut view = view();
        view.is_quorate = false;
        let config = view.state.config.clone();
        let refused = of_file(&view, config, Vec::new(), Vec::new()).refused.expect("it is refused");
        assert!(refused.starts_with(&http::not_quorate().message), "{refused}");
    }

    #[test]
    fn explanations_begin_with_the_majority_that_is_not_there() {
        let mut view = view();
        assert_eq!(without_majority(&view), None);
        view.is_quorate = false;
        for id in [super::super::testing::B, super::super::testing::C, super::super::testing::W] {
            super::super::testing::silence(&mut view, id);
        }
        let none = without_majority(&view).expect("there is none");
        assert!(none.starts_with("There is no majority here: 1 of 4 votes heard, 3 needed (b, c, w silent)"), "{none}");
        for subject in ["site", "a"] {
            let told = status::explain(&view, subject, &[]).expect("it is there").decision;
            assert!(told.starts_with(&none), "{told}");
        }
    }

    #[test]
    fn a_plan_names_what_changes_in_the_cluster_itself() {
        let shown = plan(|config| config.profile = model::Profile::Wan);
        assert_eq!(shown.changes.len(), 1, "{shown:?}");
        assert!(shown.changes[0].contains("wan"), "{shown:?}");
    }
}
