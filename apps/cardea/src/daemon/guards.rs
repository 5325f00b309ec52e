//! What would an act take away that works now? Whoever asks for it has to confirm exactly that.
//!
//! The act is tried on a copy of the agreed state, and the scheduler says what would run then. The guard is here and not
//! in the commands, so that it holds for everybody who talks to the daemon; the commands ask the question.
//!
//! In: the leader's picture, what the node machine is to be asked. Out: nothing, or a refusal that lists the losses.
//! Not here: what can never be done (`requests.rs`, the kernel).

use std::collections::BTreeSet;
use std::hash::Hasher;

use api::{CONFIRM_ALL, Refused, RefusedCode};
use model::{ActionKind, ClusterState, HolderState, LogIndex, NodeId, ResourceState, UnitName};
use node::View;
use scheduler::{Eligibility, Live};
use siphasher::sip::SipHasher13;
use state::{Command, Entry};

use super::{requests, status};

/// Refuses what takes something away, unless `confirm` is the word of exactly these losses, or confirms any.
pub fn check(view: &View, asks: &[node::Request], confirm: Option<&str>) -> Result<(), Refused> {
    if confirm == Some(CONFIRM_ALL) {
        return Ok(());
    }
    confirmed(&losses(view, asks), confirm)
}

/// As [`check`], for the end of this node's own daemon: it needs no leader, so this node says what would be lost.
pub fn check_end(view: &View, confirm: Option<&str>) -> Result<(), Refused> {
    if confirm == Some(CONFIRM_ALL) {
        return Ok(());
    }
    let own = view.own;
    let mut losses: Vec<String> = without_quorum(view, own).into_iter().collect();
    if state::is_in_maintenance(&view.state, own) {
        // Its services go on.
    } else if view.is_quorate {
        let (mut after, live) = (view.state.as_ref().clone(), &view.live);
        let leave = Command::Act { action: ActionKind::Leave(own), reason: String::new() };
        apply(&mut after, leave, live.now);
        losses.extend(stopped(&view.state, live, &after, live, &BTreeSet::new()));
    } else {
        let here = serving(&view.state).filter(|(_, at)| *at == own);
        losses.extend(here.map(|(unit, _)| format!("{unit} stops: no majority is here that could start it elsewhere")));
    }
    confirmed(&losses, confirm)
}

fn confirmed(losses: &[String], confirm: Option<&str>) -> Result<(), Refused> {
    let word = word_of(losses);
    if losses.is_empty() || confirm == Some(&word) {
        return Ok(());
    }
    let message = format!("this would take away what works now:\n  - {}", losses.join("\n  - "));
    let mut refused =
        Refused::new(RefusedCode::Unconfirmed, message, "nothing was changed; if that is meant, add `--yes`");
    refused.confirm = Some(word);
    Err(refused)
}

/// Changes whenever the losses do: a confirmation holds for what was shown.
fn word_of(losses: &[String]) -> String {
    let mut hasher = SipHasher13::new();
    for loss in losses {
        hasher.write(loss.as_bytes());
        hasher.write(&[0]);
    }
    format!("{:016x}", hasher.finish())
}

/// What works now and would not afterwards, one sentence each.
fn losses(view: &View, asks: &[node::Request]) -> Vec<String> {
    let mut after = view.state.as_ref().clone();
    let mut live = view.live.clone();
    let mut named = BTreeSet::new();
    let mut losses = Vec::new();
    let mut is_changed = false;
    for ask in asks {
        match ask {
            node::Request::Propose(command) => {
                if let Command::Act { action: ActionKind::Stop(unit), .. } = &**command {
                    named.insert(unit.clone());
                }
                if let Command::Act { action: ActionKind::ShutDown, .. } = &**command {
                    losses.extend(everything(view));
                    continue;
                }
                if can_take_away(command) {
                    is_changed = true;
                    apply(&mut after, (**command).clone(), live.now);
                }
            }
            node::Request::Condemn { node, .. } if status::is_heard(view, *node) => {
                is_changed = true;
                losses.push(format!("{} is heard, and nothing says that it is broken", after.name_of(*node)));
                losses.extend(without_quorum(view, *node));
                switch_off(&mut after, &mut live, *node);
                losses.extend(interrupted(view, *node));
            }
            node::Request::Condemn { .. }
            | node::Request::FenceTest { .. }
            | node::Request::Lead { .. }
            | node::Request::Leave => {}
        }
    }
    if is_changed {
        losses.extend(stopped(&view.state, &view.live, &after, &live, &named));
    }
    losses
}

/// Could the command stop something? What is recorded, and hands that are kept off, stop nothing.
fn can_take_away(command: &Command) -> bool {
    match command {
        Command::Act { action: ActionKind::NodeMaintenance(_) | ActionKind::ClusterMaintenance, .. } => false,
        Command::Act { .. }
        | Command::Undo { .. }
        | Command::Clear { .. }
        | Command::Configure { .. }
        | Command::Remove { .. } => true,
        Command::Coordinator { .. }
        | Command::Admit { .. }
        | Command::Join { .. }
        | Command::Leave { .. }
        | Command::Grant { .. }
        | Command::BeginRelease { .. }
        | Command::Release { .. }
        | Command::Block { .. }
        | Command::Condemn { .. }
        | Command::FenceDone { .. }
        | Command::ManualConfirm { .. }
        | Command::Observed { .. }
        | Command::AddToken { .. }
        | Command::WrongToken { .. }
        | Command::Nothing
        | Command::FenceBegun { .. }
        | Command::Spare { .. }
        | Command::Lost { .. }
        | Command::Gone { .. }
        | Command::Raise { .. } => false,
    }
}

/// What the kernel refuses changes nothing, and is refused when it is proposed.
fn apply(state: &mut ClusterState, command: Command, at: model::WallTime) {
    let index = LogIndex(state.applied.0 + 1);
    let entry = Entry { at, actor: String::new(), command };
    let _ = state::apply(state, index, &entry, model::Bugs::NONE);
}

/// The node is cut off, and proven so.
fn switch_off(state: &mut ClusterState, live: &mut Live, node: NodeId) {
    let incarnation = state.members.get(&node).map(|member| member.incarnation).unwrap_or_default();
    let (epoch, reason) = (state.epoch, String::new());
    // Another node leads before a leader is cut off.
    if state.coordinator == node
        && let Some(other) = state.members.keys().copied().find(|id| *id != node)
    {
        state.coordinator = other;
    }
    let condemn = Command::Condemn { node, incarnation, epoch, reason: reason.clone(), is_for_silence: false };
    apply(state, condemn, live.now);
    apply(state, Command::ManualConfirm { node, incarnation, reason }, live.now);
    live.eligible.insert(node, Eligibility::Lost { why: "is fenced".to_owned() });
}

fn without_quorum(view: &View, node: NodeId) -> Option<String> {
    let voters = &view.voters;
    let staying = voters.iter().filter(|id| **id != node && status::is_heard(view, **id)).count();
    (voters.contains(&node) && !quorum::is_majority(staying, voters.len())).then(|| {
        format!(
            "without {} only {staying} of {} voters are heard, which is no majority: nothing is started, moved or fenced \
             until others are back",
            view.state.name_of(node),
            voters.len()
        )
    })
}

/// What ends with the site.
fn everything(view: &View) -> Vec<String> {
    let units: Vec<&str> = serving(&view.state).map(|(unit, _)| unit.as_str()).collect();
    let mut losses = Vec::new();
    if !units.is_empty() {
        losses.push(format!("every service stops: {}", units.join(", ")));
    }
    let ending = requests::ending(view);
    losses.push(format!("the daemons of {} end, until somebody starts them again", ending.join(", ")));
    let silent = view.state.members.iter().filter(|(id, member)| {
        member.state == model::MemberState::Online && !view.state.gone.contains(id) && !status::is_heard(view, **id)
    });
    losses.extend(silent.map(|(_, member)| format!("{} is not heard, and may go on as it is", member.name)));
    losses
}

fn interrupted(view: &View, node: NodeId) -> Option<String> {
    let units: Vec<&str> = serving(&view.state).filter(|(_, at)| *at == node).map(|(unit, _)| unit.as_str()).collect();
    (!units.is_empty()).then(|| format!("{} runs there, and is cut off in the middle of its work", units.join(", ")))
}

/// Units that run wholly where they are held.
fn serving(state: &ClusterState) -> impl Iterator<Item = (&UnitName, NodeId)> {
    state.holders.iter().filter_map(|(unit, holder)| {
        let members = state.config.members_of(unit);
        let runs = |resource: &&model::ResourceName| state.known_state(resource, holder.node) == ResourceState::Running;
        (holder.state == HolderState::Held && !members.is_empty() && members.iter().all(runs))
            .then_some((unit, holder.node))
    })
}

/// Units that serve now and would have a place no more.
fn stopped(
    before: &ClusterState,
    live_before: &Live,
    after: &ClusterState,
    live_after: &Live,
    named: &BTreeSet<UnitName>,
) -> Vec<String> {
    let (was, is) = (scheduler::plan(before, live_before), scheduler::plan(after, live_after));
    serving(before)
        .filter(|(unit, _)| !named.contains(*unit))
        .filter(|(unit, _)| was.decisions.get(*unit).is_some_and(|decision| decision.node.is_some()))
        .filter_map(|(unit, node)| {
            let name = before.name_of(node);
            match is.decisions.get(unit) {
                Some(decision) if decision.node.is_some() => None,
                Some(decision) => Some(format!("{unit}, which runs on {name}, stops: {}", decision.reason)),
                None => Some(format!("{unit}, which runs on {name}, stops: it is in the file no more")),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, A, B, C, change, view};
    use super::*;

    fn act(action: ActionKind) -> Vec<node::Request> {
        vec![node::Request::Propose(Box::new(Command::Act { action, reason: "why".to_owned() }))]
    }

    fn fence(node: NodeId) -> Vec<node::Request> {
        vec![node::Request::Condemn { node, reason: "why".to_owned() }]
    }

    #[track_caller]
    fn refused(view: &View, asks: &[node::Request]) -> Refused {
        let refused = check(view, asks, None).expect_err("something is lost");
        assert_eq!(refused.code, RefusedCode::Unconfirmed);
        assert!(refused.next.contains("--yes"), "{refused:?}");
        refused
    }

    #[test]
    fn what_moves_elsewhere_is_no_loss() {
        let view = view();
        for action in [
            ActionKind::Standby(A),
            ActionKind::Standby(B),
            ActionKind::Move("site".into(), B),
            ActionKind::Stop("site".into()),
            ActionKind::ClusterMaintenance,
        ] {
            assert_eq!(check(&view, &act(action.clone()), None), Ok(()), "{action:?}");
        }
    }

    #[test]
    fn standby_of_the_last_node_says_which_services_end() {
        let mut view = view();
        for id in [B, C] {
            testing::silence(&mut view, id);
        }
        let refused = refused(&view, &act(ActionKind::Standby(A)));
        assert!(refused.message.contains("site, which runs on a, stops"), "{}", refused.message);
        let word = refused.confirm.expect("a word");
        assert_eq!(check(&view, &act(ActionKind::Standby(A)), Some(&word)), Ok(()));
        assert_eq!(check(&view, &act(ActionKind::Standby(A)), Some(CONFIRM_ALL)), Ok(()));
    }

    /// Between the question and the answer something else may have happened: then it is asked again.
    #[test]
    fn a_confirmation_holds_for_what_was_shown() {
        let mut view = view();
        let word = refused(&view, &fence(B)).confirm.expect("a word");
        assert_eq!(check(&view, &fence(B), Some(&word)), Ok(()));
        testing::silence(&mut view, C);
        assert!(refused(&view, &fence(B)).message.contains("no majority"));
        assert!(check(&view, &fence(B), Some(&word)).is_err());
    }

    #[test]
    fn a_fence_says_what_it_interrupts_and_what_ends() {
        let mut view = view();
        let message = refused(&view, &fence(A)).message;
        assert!(message.contains("a is heard") && message.contains("site runs there"), "{message}");
        assert!(!message.contains("stops"), "it starts elsewhere: {message}");
        let text = testing::FILE.replace("[groups.site]", "[groups.site]\navoid = [\"b\", \"c\"]");
        change(&mut view, |state| state.config = config::parse(&text).expect("a sound file").config);
        let message = refused(&view, &fence(A)).message;
        assert!(message.contains("site, which runs on a, stops"), "{message}");
    }

    #[test]
    fn a_shutdown_of_the_site_names_what_ends() {
        let mut view = view();
        let message = refused(&view, &act(ActionKind::ShutDown)).message;
        assert!(message.contains("every service stops: site") && message.contains("a, b, c, w end"), "{message}");
        testing::silence(&mut view, C);
        assert!(refused(&view, &act(ActionKind::ShutDown)).message.contains("c is not heard"));
    }

    /// The one after which no majority stays says so; another one hands over and goes.
    #[test]
    fn the_end_of_one_node_asks_only_if_something_is_lost() {
        let mut view = view();
        assert_eq!(check_end(&view, None), Ok(()));
        testing::silence(&mut view, C);
        let refused = check_end(&view, None).expect_err("no majority stays");
        assert!(refused.message.contains("without a only 2 of 4 voters"), "{}", refused.message);
        view.is_quorate = false;
        let refused = check_end(&view, None).expect_err("its service stops");
        assert!(refused.message.contains("site stops"), "{}", refused.message);
        assert_eq!(check_end(&view, Some(CONFIRM_ALL)), Ok(()));
    }

    #[test]
    fn a_silent_node_is_fenced_without_a_question() {
        let mut view = view();
        testing::silence(&mut view, C);
        assert_eq!(check(&view, &fence(C), None), Ok(()));
    }

    #[test]
    fn a_file_without_a_running_service_is_a_loss() {
        let view = view();
        let text = testing::FILE.replace("[groups.site]\nmembers = [\"address\", \"web\"]\n", "");
        let config = config::parse(&text).expect("a sound file").config;
        let command = Command::Configure {
            expected_version: view.state.config_version,
            text,
            config: Box::new(config),
            reason: "why".to_owned(),
        };
        let asks = [node::Request::Propose(Box::new(command))];
        // The kernel does not let members leave a group that is held: nothing is lost.
        assert_eq!(check(&view, &asks, None), Ok(()));
        let rest = testing::FILE.split("[resources.address]").next().expect("the nodes").to_owned();
        let config = config::parse(&rest).expect("a sound file").config;
        let command = Command::Configure {
            expected_version: view.state.config_version,
            text: rest,
            config: Box::new(config),
            reason: "why".to_owned(),
        };
        let refused = refused(&view, &[node::Request::Propose(Box::new(command))]);
        assert!(refused.message.contains("site, which runs on a, stops"), "{}", refused.message);
    }
}
