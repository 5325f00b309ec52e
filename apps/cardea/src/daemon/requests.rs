//! What does an operator's request mean for the agreed state? The leader's daemon translates it.
//!
//! In: a request and the picture that the leader has. Out: what to ask the node machine, and the sentence for the
//! operator when it is done; or a refusal with the next step.
//! Not here: whether the state accepts it (the kernel judges), how it travels (`http.rs`).

use api::{Refused, RefusedCode, Request};
use config::Parsed;
use model::{
    ActionKind, ClusterConfig, ClusterState, ConfigVersion, MemberState, NodeId, NodeName, NodeRole, ResourceName,
    UnitName, WallTime,
};
use node::View;
use state::Command;

use super::status;
use crate::diagnostics;

/// What to do for a request, in this order; all but the last must succeed for the next to be tried.
#[derive(Debug)]
pub struct Order {
    /// What the node machine is asked.
    pub asks: Vec<node::Request>,
    /// What was done, as a sentence.
    pub done: String,
    /// The text of a new token, for the operator alone.
    pub token: Option<String>,
}

impl Order {
    fn one(ask: node::Request, done: String) -> Result<Order, Refused> {
        Ok(Order { asks: vec![ask], done, token: None })
    }

    /// It is so already.
    fn nothing(done: String) -> Order {
        Order { asks: Vec::new(), done, token: None }
    }

    fn command(command: Command, done: String) -> Result<Order, Refused> {
        Order::one(node::Request::Propose(Box::new(command)), done)
    }
}

fn invalid(message: impl Into<String>, next: impl Into<String>) -> Refused {
    Refused::new(RefusedCode::Invalid, message, next)
}

/// Reads a cluster file, or refuses it with its diagnostics drawn as text.
pub fn parse(text: &str, name: &str) -> Result<Parsed, Refused> {
    config::parse(text).map_err(|diagnostics| {
        invalid(
            diagnostics::draw(text, name, &diagnostics, false),
            format!("mend the places shown and try again; `cardea check {name}` checks without applying"),
        )
    })
}

/// Finds the member of this name.
pub fn find_node(view: &View, name: &str) -> Result<NodeId, Refused> {
    view.state.member_named(&NodeName(name.to_owned())).map(|(id, _)| id).ok_or_else(|| {
        let members: Vec<&str> = view.state.members.values().map(|member| member.name.as_str()).collect();
        invalid(
            format!("there is no node `{name}`{}", nearest(name, &members)),
            format!("the members are: {}", members.join(", ")),
        )
    })
}

fn find_unit(view: &View, name: &str) -> Result<UnitName, Refused> {
    let units = view.state.config.units();
    let unit = UnitName(name.to_owned());
    if units.contains_key(&unit) {
        return Ok(unit);
    }
    if view.state.config.resources.contains_key(&ResourceName(name.to_owned())) {
        let group = view.state.config.unit_of(&ResourceName(name.to_owned()));
        return Err(invalid(
            format!("`{name}` is part of the group `{group}`, which moves, starts and stops as one"),
            format!("say `{group}` instead"),
        ));
    }
    let names: Vec<&str> = units.keys().map(UnitName::as_str).collect();
    Err(invalid(
        format!("there is no group or resource `{name}`{}", nearest(name, &names)),
        if names.is_empty() {
            "nothing is configured yet: `cardea apply FILE`".to_owned()
        } else {
            format!("there are: {}", names.join(", "))
        },
    ))
}

fn nearest(name: &str, valid: &[&str]) -> String {
    config::nearest(name, valid).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

fn or(reason: String, otherwise: &str) -> String {
    if reason.trim().is_empty() { otherwise.to_owned() } else { reason }
}

/// What a request means, given the leader's picture.
pub fn translate(view: &View, request: Request, authority: [u8; 32], wall: WallTime) -> Result<Order, Refused> {
    let state = &view.state;
    match request {
        Request::Apply { text, expected_version, reason, force: _ } => {
            let parsed = parse(&text, "cluster.toml")?;
            refuse_other_cluster(state, &parsed.config)?;
            let reason = or(reason, "applied by an operator");
            configure(state, expected_version, text, parsed, reason, "the cluster file is applied")
        }
        Request::Rollback { to, expected_version, reason } => {
            let Some(record) = state.config_history.iter().find(|record| record.version.0 == to) else {
                let kept: Vec<String> = state.config_history.iter().map(|record| record.version.to_string()).collect();
                return Err(invalid(
                    format!("version {to} of the configuration is not kept"),
                    format!("kept are: {}; see `cardea history --versions`", kept.join(", ")),
                ));
            };
            let text = record.text.clone();
            let parsed = parse(&text, "cluster.toml")?;
            let reason = or(reason, &format!("back to version {to}"));
            configure(state, expected_version, text, parsed, reason, &format!("version {to} is current again"))
        }
        Request::Move { unit, to, reason } => {
            let unit = find_unit(view, &unit)?;
            refuse_while_hands_are_off(state, &unit)?;
            let target = move_target(view, &unit, to.as_deref())?;
            let name = state.name_of(target);
            let action = ActionKind::Move(unit.clone(), target);
            let reason = or(reason, "moved by an operator");
            Order::command(Command::Act { action, reason }, format!("{unit} moves to {name}"))
        }
        Request::Standby { node, on, reason } => {
            let id = find_node(view, &node)?;
            let (done, undone) = (format!("{node} is in standby"), format!("{node} works again"));
            wish(state, ActionKind::Standby(id), on, reason, &done, &undone)
        }
        Request::Maintenance { node, on, reason } => {
            let (kind, subject) = match node {
                Some(node) => (ActionKind::NodeMaintenance(find_node(view, &node)?), node),
                None => (ActionKind::ClusterMaintenance, "the cluster".to_owned()),
            };
            let (done, undone) = (format!("hands off {subject}"), format!("{subject} is looked after again"));
            wish(state, kind, on, reason, &done, &undone)
        }
        Request::Stop { unit, reason } => {
            let unit = find_unit(view, &unit)?;
            let done = format!("{unit} is to stop");
            wish(state, ActionKind::Stop(unit), true, reason, &done, "")
        }
        Request::Start { unit, reason } => {
            let unit = find_unit(view, &unit)?;
            let undone = format!("{unit} is to start");
            if state.action(&ActionKind::Stop(unit.clone())).is_none() {
                return Ok(Order::nothing(format!(
                    "{unit} is not stopped by an operator; `cardea explain {unit}` says where it runs or what it waits for"
                )));
            }
            wish(state, ActionKind::Stop(unit), false, reason, "", &undone)
        }
        Request::Clear { name, node, reason } => clear(view, name, node, reason),
        Request::Fence { node, reason } => {
            let id = find_node(view, &node)?;
            if view.state.config.nodes.get(&NodeName(node.clone())).is_none_or(|n| n.fence.is_empty()) {
                return Err(Refused::new(
                    RefusedCode::Forbidden,
                    format!("{node} has no fence device"),
                    "add `fence = [\"DEVICE\"]` to the node in the cluster file and apply it",
                ));
            }
            let reason = or(reason, "fenced by an operator");
            Order::one(node::Request::Condemn { node: id, reason }, format!("{node} is condemned and will be fenced"))
        }
        Request::ConfirmOff { node, typed, reason } => {
            let id = find_node(view, &node)?;
            if typed != node {
                return Err(invalid(
                    format!("the typed name `{typed}` is not `{node}`"),
                    format!("type the name of the node that is off: `--typed {node}`"),
                ));
            }
            if reason.trim().is_empty() {
                return Err(invalid("why is it certain that the node is off?", "add `--reason \"…\"`; it is recorded"));
            }
            let incarnation = state.members.get(&id).map(|member| member.incarnation).unwrap_or_default();
            Order::command(
                Command::ManualConfirm { node: id, incarnation, reason },
                format!("{node} counts as off: what it held may start elsewhere"),
            )
        }
        Request::FenceTest { node } => {
            let nodes: Vec<NodeId> = match node {
                Some(node) => vec![find_node(view, &node)?],
                None => state.members.iter().filter(|(_, m)| m.role == NodeRole::Member).map(|(id, _)| *id).collect(),
            };
            let asks = nodes.into_iter().map(|node| node::Request::FenceTest { node }).collect();
            Ok(Order { asks, done: "the fence devices were asked for their status".to_owned(), token: None })
        }
        Request::Lead { node } => {
            let id = find_node(view, &node)?;
            refuse_to_lead(view, id, &node)?;
            if view.own == id {
                return Ok(Order::nothing(format!("{node} leads already")));
            }
            Order::one(node::Request::Lead { node: id }, format!("leadership goes to {node}"))
        }
        Request::CreateToken { witness, name, seconds } => {
            if !(1..=86_400).contains(&seconds) {
                return Err(invalid("a token is good for between a second and a day", "for example `--valid 15m`"));
            }
            let token = transport::JoinToken::generate(authority);
            let command = Command::AddToken {
                id: token.id(),
                secret_hash: token.secret_hash(),
                expires: WallTime(wall.0 + seconds * 1000),
                role: if witness { NodeRole::Witness } else { NodeRole::Member },
                name: name.map(NodeName),
            };
            let mut order = Order::command(command, "a token is made; it is good for one join".to_owned())?;
            order.token = Some(token.to_string());
            Ok(order)
        }
        Request::ShutDown { all: true, reason } => {
            let done = format!(
                "the site goes down: what runs is stopped in order, then the daemons of {} end; it comes up again when they \
                 are started",
                ending(view).join(", ")
            );
            wish(state, ActionKind::ShutDown, true, or(reason, "asked for by an operator"), &done, "")
        }
        Request::ShutDown { all: false, .. } => Err(invalid(
            "a node is shut down by its own daemon, and this one was passed on",
            "`cardea --version` on both nodes",
        )),
        Request::Remove { node, reason } => {
            let id = find_node(view, &node)?;
            refuse_to_remove(view, id, &node)?;
            let last = state.config_history.back().map(|record| record.text.clone()).unwrap_or_default();
            let text = config::remove_node(&last, &NodeName(node.clone())).map_err(|found| {
                invalid(
                    diagnostics::draw(&last, "cluster.toml", &found, false),
                    "apply a cluster file that does not need this node first",
                )
            })?;
            let parsed = parse(&text, "cluster.toml")?;
            let reason = or(reason, "removed by an operator");
            let remove = Command::Remove { node: id, reason: reason.clone() };
            let configure = Command::Configure {
                expected_version: state.config_version,
                text,
                config: Box::new(parsed.config),
                reason,
            };
            Ok(Order {
                asks: vec![node::Request::Propose(Box::new(remove)), node::Request::Propose(Box::new(configure))],
                done: format!("{node} is no member any more"),
                token: None,
            })
        }
    }
}

/// Only a voter that is here can take over, and a witness leads only while nobody else can.
fn refuse_to_lead(view: &View, id: NodeId, name: &str) -> Result<(), Refused> {
    let is_witness = view.state.members.get(&id).is_some_and(|member| member.role == NodeRole::Witness);
    let why = if !view.voters.contains(&id) {
        "does not vote"
    } else if is_witness {
        "is a witness, which leads only while no other voter can"
    } else if !status::is_heard(view, id) {
        "is not heard"
    } else {
        return Ok(());
    };
    Err(Refused::new(
        RefusedCode::Forbidden,
        format!("{name} {why}: it cannot be made the leader"),
        "`cardea status` shows who votes and who is online",
    ))
}

/// The members whose daemons run.
pub fn ending(view: &View) -> Vec<String> {
    let state = &view.state;
    let is_ending =
        |(id, member): &(&NodeId, &model::Member)| member.state == MemberState::Online && !state.gone.contains(id);
    state.members.iter().filter(is_ending).map(|(_, member)| member.name.to_string()).collect()
}

/// A member goes only when it is off or has left, and holds nothing; says what brings that about.
fn refuse_to_remove(view: &View, id: NodeId, name: &str) -> Result<(), Refused> {
    let (why, next) = match view.state.members[&id].state {
        MemberState::Online if !status::is_heard(view, id) => (
            "is not heard and not proven off",
            format!(
                "`cardea fence {name}` switches it off and proves it; or make sure that it is off and run \
                 `cardea fence {name} --confirm-off --reason …`"
            ),
        ),
        MemberState::Online => (
            "is online",
            format!(
                "stop its daemon first: `systemctl stop cardea` on {name} moves what runs there; if it cannot be reached, \
                 `cardea fence {name}`"
            ),
        ),
        MemberState::Condemned => (
            "is lost and not proven off",
            format!(
                "wait for its fence, or make sure that it is off and run `cardea fence {name} --confirm-off --reason …`"
            ),
        ),
        MemberState::Absent | MemberState::Left | MemberState::Fenced => return Ok(()),
    };
    Err(Refused::new(RefusedCode::Forbidden, format!("{name} {why}: it cannot be removed"), next))
}

fn configure(
    state: &ClusterState,
    expected_version: Option<u64>,
    text: String,
    parsed: Parsed,
    reason: String,
    done: &str,
) -> Result<Order, Refused> {
    let expected_version = expected_version.map_or(state.config_version, ConfigVersion);
    state::check_version(state, expected_version).map_err(|refusal| {
        let why = refusal.to_string();
        Refused::new(RefusedCode::Conflict, why.clone(), next_after(&why))
    })?;
    refuse_what_cannot_run(&parsed.config)?;
    if state.config_history.back().is_some_and(|record| record.text == text) {
        return Ok(Order::nothing(format!("nothing changed: version {} says the same", state.config_version)));
    }
    let command = Command::Configure { expected_version, text, config: Box::new(parsed.config), reason };
    Order::command(command, done.to_owned())
}

/// A file that was written for another cluster would rename this one, and stop what it runs.
pub fn refuse_other_cluster(state: &ClusterState, config: &ClusterConfig) -> Result<(), Refused> {
    if state.config.name == config.name {
        return Ok(());
    }
    Err(Refused::new(
        RefusedCode::Forbidden,
        format!(
            "the file is for the cluster `{}`, and this is `{}`; nothing was changed",
            config.name, state.config.name
        ),
        format!(
            "ask on a node of `{}`, or write `cluster = \"{}\"` if it is for this one",
            config.name, state.config.name
        ),
    ))
}

/// A move is done once and at once: while hands are off, it would be done whenever they are on again.
fn refuse_while_hands_are_off(state: &ClusterState, unit: &UnitName) -> Result<(), Refused> {
    let holder = state.holders.get(unit).map(|holder| holder.node);
    let off = |kind: ActionKind, on: String, command: String| {
        state.action(&kind).map(|_| {
            Refused::new(
                RefusedCode::Forbidden,
                format!("{on} is in maintenance: {unit} is not moved"),
                format!("`cardea maintenance {command}--off`, then move it"),
            )
        })
    };
    let of_node = holder.and_then(|node| {
        let name = state.name_of(node);
        off(ActionKind::NodeMaintenance(node), format!("{name}, where it runs,"), format!("{name} "))
    });
    let of_cluster = off(ActionKind::ClusterMaintenance, "the cluster".to_owned(), String::new());
    of_cluster.or(of_node).map_or(Ok(()), Err)
}

/// What can be planned and rehearsed is not always run.
pub fn refuse_what_cannot_run(config: &ClusterConfig) -> Result<(), Refused> {
    let units = config.units();
    let found = units.iter().find_map(|(name, unit)| Some((name, unit.placement.not_run_yet()?)));
    match found {
        None => Ok(()),
        Some((unit, word)) => Err(invalid(
            format!("`{unit}` has `{word}`, which can be planned and rehearsed, but not run yet; nothing was changed"),
            format!("remove `{word}` from `{unit}`; `cardea rehearse FILE` plays it through as it is"),
        )),
    }
}

/// Asks for something or takes it back. Where it is so already, nothing is written, unless there is a new reason.
fn wish(
    state: &ClusterState,
    action: ActionKind,
    on: bool,
    reason: String,
    done: &str,
    undone: &str,
) -> Result<Order, Refused> {
    let is_without_reason = reason.trim().is_empty();
    let reason = or(reason, "asked for by an operator");
    match (on, state.action(&action)) {
        (true, Some(before)) if is_without_reason => {
            Ok(Order::nothing(format!("{done} already ({}: {})", before.actor, before.reason)))
        }
        (true, Some(_) | None) => Order::command(Command::Act { action, reason }, done.to_owned()),
        (false, Some(_)) => Order::command(Command::Undo { action, reason }, undone.to_owned()),
        (false, None) => {
            Ok(Order::nothing(format!("nothing to do: nobody asked for {}", status::show_action(state, &action))))
        }
    }
}

fn move_target(view: &View, unit: &UnitName, to: Option<&str>) -> Result<NodeId, Refused> {
    let holder = view.state.holders.get(unit).map(|holder| holder.node);
    let candidates = scheduler::explain(&view.state, &view.live, unit);
    if let Some(name) = to {
        let id = find_node(view, name)?;
        if holder == Some(id) {
            return Err(invalid(format!("{unit} is on {name} already"), "name another node with `--to`"));
        }
        let refusal = candidates.iter().find(|candidate| candidate.node == id && !candidate.can_run);
        return match refusal.map(|candidate| candidate.because.join("; ")) {
            Some(why) => Err(Refused::new(
                RefusedCode::Forbidden,
                format!("{unit} cannot run on {name}: {name} {why}"),
                format!("`cardea explain {unit}` shows where it can"),
            )),
            None => Ok(id),
        };
    }
    candidates
        .into_iter()
        .filter(|candidate| candidate.can_run && Some(candidate.node) != holder)
        .map(|candidate| (candidate.score, std::cmp::Reverse(candidate.node)))
        .max()
        .map(|(_, std::cmp::Reverse(node))| node)
        .ok_or_else(|| {
            Refused::new(
                RefusedCode::Forbidden,
                format!("{unit} can run nowhere else"),
                format!("`cardea explain {unit}` says why not"),
            )
        })
}

fn clear(view: &View, name: Option<String>, node: Option<String>, reason: String) -> Result<Order, Refused> {
    let on = node.as_deref().map(|node| find_node(view, node)).transpose()?;
    let reason = or(reason, "cleared by an operator");
    let one = |resource: Option<ResourceName>, node: Option<NodeId>| {
        node::Request::Propose(Box::new(Command::Clear { resource, node, reason: reason.clone() }))
    };
    let Some(name) = name else {
        return Order::one(one(None, on), "all failures are forgotten".to_owned());
    };
    if let Ok(id) = find_node(view, &name) {
        return Order::one(one(None, Some(id)), format!("failures and flaps of {name} are forgotten"));
    }
    let resource = ResourceName(name.clone());
    let members: Vec<ResourceName> = if view.state.config.resources.contains_key(&resource) {
        vec![resource]
    } else {
        let unit = find_unit(view, &name)?;
        view.state.config.members_of(&unit).into_iter().cloned().collect()
    };
    let asks = members.into_iter().map(|resource| one(Some(resource), on)).collect();
    Ok(Order { asks, done: format!("failures of {name} are forgotten"), token: None })
}

/// What to do after the state refused something, by the words of its refusal.
pub fn next_after(reason: &str) -> String {
    let says = |words: &str| reason.contains(words);
    if says("version") {
        "look again: `cardea history --versions` lists who applied what; then apply your file again".to_owned()
    } else if says("must lead first") {
        "let another node lead with `cardea lead NODE`, and ask again".to_owned()
    } else if says("use `cardea remove`") {
        "a file cannot add or drop members; `cardea status` shows who they are".to_owned()
    } else if says("still holds") {
        "`cardea standby NODE` moves it away; then ask again".to_owned()
    } else if says("nothing to undo") {
        "`cardea status` shows what operators asked for".to_owned()
    } else {
        "`cardea status` shows the state of the cluster".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use model::{HolderState, LogIndex};

    use super::super::testing::{self, A, B, C, FILE, NOW, W, change, view};
    use super::*;

    const AUTHORITY: [u8; 32] = [7; 32];

    fn ask(view: &View, request: Request) -> Result<Order, Refused> {
        translate(view, request, AUTHORITY, NOW)
    }

    /// The one command that a request becomes, and what the operator is told.
    #[track_caller]
    fn command(view: &View, request: Request) -> (Command, String) {
        let order = ask(view, request).expect("a request that can be carried out");
        assert_eq!(order.asks.len(), 1, "{order:?}");
        match order.asks.into_iter().next() {
            Some(node::Request::Propose(command)) => (*command, order.done),
            other => panic!("{other:?}"),
        }
    }

    /// The refusal; it always says what to do next.
    #[track_caller]
    fn refused(view: &View, request: Request) -> (RefusedCode, String, String) {
        let refused = ask(view, request).expect_err("a refusal");
        assert!(!refused.next.is_empty(), "{refused:?}");
        (refused.code, refused.message, refused.next)
    }

    fn no_reason() -> String {
        String::new()
    }

    fn move_site(to: Option<&str>) -> Request {
        Request::Move { unit: "site".to_owned(), to: to.map(str::to_owned), reason: "kernel update".to_owned() }
    }

    #[test]
    fn a_file_is_applied_on_top_of_the_current_version() {
        let text = FILE.replace("[groups.site]", "[groups.site]\nprefer = [\"b\"]");
        let request = Request::Apply { text: text.clone(), expected_version: None, reason: no_reason(), force: false };
        let (command, done) = command(&view(), request);
        let Command::Configure { expected_version, text: proposed, reason, .. } = command else {
            panic!("{command:?}")
        };
        assert_eq!((expected_version, proposed), (ConfigVersion(12), text));
        assert_eq!(reason, "applied by an operator", "every change has a reason");
        assert_eq!(done, "the cluster file is applied");
    }

    #[test]
    fn the_version_that_an_operator_expects_is_the_one_that_is_compared() {
        let apply = |version| Request::Apply {
            text: format!("{FILE}# calmer\n"),
            expected_version: Some(version),
            reason: no_reason(),
            force: false,
        };
        let (code, message, next) = refused(&view(), apply(9));
        assert_eq!(code, RefusedCode::Conflict);
        assert!(message.contains("version 12 is current, applied by root@a (first services)"), "{message}");
        assert!(next.contains("look again"), "{next}");
        let (command, _) = command(&view(), apply(12));
        assert!(matches!(command, Command::Configure { expected_version: ConfigVersion(12), .. }), "{command:?}");
    }

    #[test]
    fn the_same_text_makes_no_version() {
        let request =
            Request::Apply { text: FILE.to_owned(), expected_version: None, reason: no_reason(), force: false };
        let order = ask(&view(), request).expect("no refusal");
        assert!(order.asks.is_empty(), "{order:?}");
        assert_eq!(order.done, "nothing changed: version 12 says the same");
    }

    #[test]
    fn a_file_of_another_cluster_is_refused() {
        let text = FILE.replace("\"shop\"", "\"factory\"");
        let request = Request::Apply { text, expected_version: None, reason: no_reason(), force: false };
        let (code, message, next) = refused(&view(), request);
        assert_eq!(code, RefusedCode::Forbidden);
        assert!(message.contains("`factory`") && message.contains("this is `shop`"), "{message}");
        assert!(next.contains("cluster = \"shop\""), "{next}");
    }

    /// While hands are off a move would be done whenever they are on again, which nobody expects then.
    #[test]
    fn nothing_is_moved_in_maintenance() {
        for (wish, words) in [
            (ActionKind::ClusterMaintenance, "cardea maintenance --off"),
            (ActionKind::NodeMaintenance(A), "cardea maintenance a --off"),
        ] {
            let mut view = view();
            change(&mut view, |state| _ = state.actions.insert("maintenance".to_owned(), testing::wish(wish)));
            let (code, message, next) = refused(&view, move_site(Some("c")));
            assert_eq!(code, RefusedCode::Forbidden);
            assert!(message.contains("maintenance"), "{message}");
            assert!(next.contains(words), "{next}");
        }
    }

    /// Asked twice: the first reason stays, unless a new one is given; what is so already is no fault.
    #[test]
    fn a_wish_that_is_in_force_keeps_its_reason() {
        let mut view = view();
        let standby = |on, reason: &str| Request::Standby { node: "b".to_owned(), on, reason: reason.to_owned() };
        let nothing = ask(&view, standby(false, "")).expect("no refusal");
        assert_eq!((nothing.asks.len(), nothing.done.as_str()), (0, "nothing to do: nobody asked for standby of b"));
        let wish = testing::wish(ActionKind::Standby(B));
        change(&mut view, |state| _ = state.actions.insert("standby:b".to_owned(), wish));
        let again = ask(&view, standby(true, "")).expect("no refusal");
        assert_eq!((again.asks.len(), again.done.as_str()), (0, "b is in standby already (root@a: new disks)"));
        let (other, _) = command(&view, standby(true, "new fans"));
        assert!(matches!(&other, Command::Act { reason, .. } if reason == "new fans"), "{other:?}");
    }

    #[test]
    fn a_faulty_file_is_refused_with_the_place_of_the_fault() {
        let text = FILE.replace("prefer", "prefers").replace("[\"address\", \"web\"]", "[\"address\", \"wep\"]");
        let request = Request::Apply { text, expected_version: None, reason: no_reason(), force: false };
        let (code, message, next) = refused(&view(), request);
        assert_eq!(code, RefusedCode::Invalid);
        assert!(message.contains("wep") && message.contains("cluster.toml:"), "{message}");
        assert!(next.contains("cardea check"), "{next}");
    }

    /// What can be rehearsed and not run is refused as a whole, with what to do instead.
    #[test]
    fn a_file_with_copies_is_not_applied() {
        let text = FILE.replace("[groups.site]\n", "[groups.site]\ncopies = 2\n");
        assert_ne!(text, FILE);
        let request = Request::Apply { text, expected_version: None, reason: no_reason(), force: false };
        let (code, message, next) = refused(&view(), request);
        assert_eq!(code, RefusedCode::Invalid);
        assert!(message.contains("`copies`") && message.contains("nothing was changed"), "{message}");
        assert!(next.contains("cardea rehearse"), "{next}");
    }

    #[test]
    fn an_earlier_version_comes_back_as_a_new_one() {
        let mut view = view();
        change(&mut view, |state| state.config_history[0].text = format!("# as it was\n{FILE}"));
        let (command, done) = command(&view, Request::Rollback { to: 1, expected_version: None, reason: no_reason() });
        let Command::Configure { expected_version, reason, .. } = command else { panic!("{command:?}") };
        assert_eq!((expected_version, reason.as_str()), (ConfigVersion(12), "back to version 1"));
        assert_eq!(done, "version 1 is current again");
        let (code, _, next) = refused(&view, Request::Rollback { to: 5, expected_version: None, reason: no_reason() });
        assert_eq!((code, next.contains("1, 12")), (RefusedCode::Invalid, true), "{next}");
    }

    #[test]
    fn a_move_goes_where_it_is_sent() {
        let (command, done) = command(&view(), move_site(Some("c")));
        let action = ActionKind::Move("site".into(), C);
        assert_eq!(command, Command::Act { action, reason: "kernel update".to_owned() });
        assert_eq!(done, "site moves to c");
    }

    #[test]
    fn a_move_without_a_target_goes_to_the_best_other_node() {
        let mut view = view();
        change(&mut view, |state| {
            state.config.groups.get_mut(&"site".into()).expect("site").placement.prefer = vec!["c".into()];
        });
        let (command, _) = command(&view, move_site(None));
        assert!(matches!(command, Command::Act { action: ActionKind::Move(_, C), .. }), "{command:?}");
    }

    #[test]
    fn a_move_that_cannot_be_says_why_not() {
        let mut view = view();
        let (_, message, _) = refused(&view, move_site(Some("a")));
        assert_eq!(message, "site is on a already");
        let (code, message, next) = refused(&view, move_site(Some("w")));
        assert_eq!(code, RefusedCode::Forbidden);
        assert_eq!(message, "site cannot run on w: w is a witness and runs nothing");
        assert_eq!(next, "`cardea explain site` shows where it can");
        for id in [B, C] {
            testing::silence(&mut view, id);
        }
        let (code, message, _) = refused(&view, move_site(None));
        assert_eq!((code, message.as_str()), (RefusedCode::Forbidden, "site can run nowhere else"));
    }

    #[test]
    fn a_member_of_a_group_is_not_moved_alone() {
        let request = Request::Move { unit: "web".to_owned(), to: None, reason: no_reason() };
        let (_, message, next) = refused(&view(), request);
        assert!(message.contains("part of the group `site`"), "{message}");
        assert_eq!(next, "say `site` instead");
    }

    #[test]
    fn a_misspelt_name_is_answered_with_the_nearest_and_with_all() {
        let request = Request::Stop { unit: "sitee".to_owned(), reason: no_reason() };
        let (code, message, next) = refused(&view(), request);
        assert_eq!(code, RefusedCode::Invalid);
        assert!(message.contains("did you mean `site`?"), "{message}");
        assert_eq!(next, "there are: db, site");
        let (_, message, next) = refused(&view(), Request::Lead { node: "x".to_owned() });
        assert_eq!((message.as_str(), next.as_str()), ("there is no node `x`", "the members are: a, b, c, w"));
    }

    #[test]
    fn standby_is_asked_for_and_taken_back() {
        let standby = |on| Request::Standby { node: "b".to_owned(), on, reason: "new disks".to_owned() };
        let (on, done) = command(&view(), standby(true));
        let reason = "new disks".to_owned();
        assert_eq!(on, Command::Act { action: ActionKind::Standby(B), reason: reason.clone() });
        assert_eq!(done, "b is in standby");
        let mut view = view();
        change(&mut view, |state| {
            _ = state.actions.insert("standby:2".to_owned(), testing::wish(ActionKind::Standby(B)));
        });
        let (off, done) = command(&view, standby(false));
        assert_eq!(off, Command::Undo { action: ActionKind::Standby(B), reason });
        assert_eq!(done, "b works again");
    }

    #[test]
    fn maintenance_is_of_a_node_or_of_everything() {
        let maintenance =
            |node: Option<&str>| Request::Maintenance { node: node.map(str::to_owned), on: true, reason: no_reason() };
        let (of_b, done) = command(&view(), maintenance(Some("b")));
        assert!(matches!(of_b, Command::Act { action: ActionKind::NodeMaintenance(B), .. }), "{of_b:?}");
        assert_eq!(done, "hands off b");
        let (of_all, done) = command(&view(), maintenance(None));
        assert!(matches!(of_all, Command::Act { action: ActionKind::ClusterMaintenance, .. }), "{of_all:?}");
        assert_eq!(done, "hands off the cluster");
    }

    #[test]
    fn only_what_an_operator_stopped_can_be_started() {
        let mut view = view();
        let start = || Request::Start { unit: "db".to_owned(), reason: no_reason() };
        let nothing = ask(&view, start()).expect("no refusal");
        assert!(nothing.asks.is_empty(), "{nothing:?}");
        assert!(nothing.done.contains("not stopped by an operator"), "{nothing:?}");
        assert!(nothing.done.contains("`cardea explain db`"), "{nothing:?}");
        let stop = ActionKind::Stop("db".into());
        let (stopped, _) = command(&view, Request::Stop { unit: "db".to_owned(), reason: no_reason() });
        assert!(matches!(&stopped, Command::Act { action, .. } if *action == stop), "{stopped:?}");
        change(&mut view, |state| _ = state.actions.insert("stop:db".to_owned(), testing::wish(stop.clone())));
        let (started, done) = command(&view, start());
        assert!(matches!(&started, Command::Undo { action, .. } if *action == stop), "{started:?}");
        assert_eq!(done, "db is to start");
    }

    #[test]
    fn clear_reaches_a_resource_a_group_a_node_or_everything() {
        let clear = |name: Option<&str>, node: Option<&str>| {
            let request =
                Request::Clear { name: name.map(str::to_owned), node: node.map(str::to_owned), reason: no_reason() };
            let order = ask(&view(), request).expect("a request that can be carried out");
            let what = |ask: node::Request| match ask {
                node::Request::Propose(command) => match *command {
                    Command::Clear { resource, node, .. } => (resource.map(|name| name.0), node),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            };
            order.asks.into_iter().map(what).collect::<Vec<_>>()
        };
        assert_eq!(clear(None, None), [(None, None)]);
        assert_eq!(clear(Some("b"), None), [(None, Some(B))]);
        assert_eq!(clear(Some("web"), Some("a")), [(Some("web".to_owned()), Some(A))]);
        assert_eq!(clear(Some("site"), None), [(Some("address".to_owned()), None), (Some("web".to_owned()), None)]);
        let request = Request::Clear { name: Some("x".to_owned()), node: None, reason: no_reason() };
        assert_eq!(refused(&view(), request).0, RefusedCode::Invalid);
    }

    #[test]
    fn a_node_is_fenced_only_if_something_can_fence_it() {
        let fence = |node: &str| Request::Fence { node: node.to_owned(), reason: no_reason() };
        let order = ask(&view(), fence("b")).expect("b has a device");
        assert!(
            matches!(&order.asks[..], [node::Request::Condemn { node: B, reason }] if !reason.is_empty()),
            "{order:?}"
        );
        let (code, message, next) = refused(&view(), fence("w"));
        assert_eq!((code, message.as_str()), (RefusedCode::Forbidden, "w has no fence device"));
        assert!(next.contains("fence = ["), "{next}");
    }

    /// Whoever attests that a node is off types its name and says why; a slip would cost the data.
    #[test]
    fn a_node_counts_as_off_only_by_its_typed_name_and_a_reason() {
        let confirm = |typed: &str, reason: &str| Request::ConfirmOff {
            node: "b".to_owned(),
            typed: typed.to_owned(),
            reason: reason.to_owned(),
        };
        assert!(refused(&view(), confirm("c", "pulled the plug")).1.contains("is not `b`"));
        assert!(refused(&view(), confirm("", "pulled the plug")).2.contains("--typed b"));
        assert!(refused(&view(), confirm("b", "  ")).2.contains("--reason"));
        let (command, done) = command(&view(), confirm("b", "pulled the plug"));
        let reason = "pulled the plug".to_owned();
        assert_eq!(command, Command::ManualConfirm { node: B, incarnation: testing::incarnation(B), reason });
        assert!(done.starts_with("b counts as off"), "{done}");
    }

    #[test]
    fn fence_devices_are_tested_for_one_node_or_for_all_that_run_something() {
        let tested = |node: Option<&str>| -> Vec<NodeId> {
            let order = ask(&view(), Request::FenceTest { node: node.map(str::to_owned) }).expect("a test");
            let id = |ask| match ask {
                node::Request::FenceTest { node } => node,
                other => panic!("{other:?}"),
            };
            order.asks.into_iter().map(id).collect()
        };
        assert_eq!(tested(Some("c")), [C]);
        assert_eq!(tested(None), [A, B, C], "a witness runs nothing and needs no fence");
    }

    #[test]
    fn only_a_voter_can_lead() {
        let mut view = view();
        let lead = || Request::Lead { node: "b".to_owned() };
        let order = ask(&view, lead()).expect("b votes");
        assert!(matches!(order.asks[..], [node::Request::Lead { node: B }]), "{order:?}");
        view.voters.retain(|id| *id != B);
        assert!(refused(&view, lead()).1.contains("does not vote"));
        let lead = |node: &str| Request::Lead { node: node.to_owned() };
        assert!(refused(&view, lead("w")).1.contains("witness"));
        assert!(ask(&view, lead("a")).expect("a leads").asks.is_empty());
        testing::silence(&mut view, C);
        assert!(refused(&view, lead("c")).1.contains("not heard"));
    }

    #[test]
    fn a_token_is_stored_as_a_hash_and_shown_once() {
        let create = |seconds| Request::CreateToken { witness: true, name: Some("d".to_owned()), seconds };
        let order = ask(&view(), create(900)).expect("a token");
        let text = order.token.clone().expect("the operator needs it");
        let token: transport::JoinToken = text.parse().expect("what is shown can be typed");
        let [node::Request::Propose(command)] = &order.asks[..] else { panic!("{order:?}") };
        let Command::AddToken { id, secret_hash, expires, role, name } = &**command else { panic!("{command:?}") };
        assert_eq!((*id, secret_hash.clone()), (token.id(), token.secret_hash()));
        assert_eq!((*expires, *role, name.clone()), (WallTime(NOW.0 + 900_000), NodeRole::Witness, Some("d".into())));
        assert!(!order.done.contains(&text), "what is done is logged, the token is not");
        for seconds in [0, 86_401, u64::MAX] {
            assert_eq!(refused(&view(), create(seconds)).0, RefusedCode::Invalid);
        }
    }

    #[test]
    fn a_removed_node_leaves_the_members_and_then_the_file() {
        let mut view = view();
        change(&mut view, |state| state.members.get_mut(&C).expect("c").state = MemberState::Left);
        let remove = Request::Remove { node: "c".to_owned(), reason: no_reason() };
        let order = ask(&view, remove).expect("c has left");
        let [node::Request::Propose(first), node::Request::Propose(second)] = &order.asks[..] else {
            panic!("{order:?}")
        };
        assert!(matches!(**first, Command::Remove { node: C, .. }), "{first:?}");
        let Command::Configure { expected_version, text, config, .. } = &**second else { panic!("{second:?}") };
        assert_eq!(*expected_version, ConfigVersion(12));
        assert!(!text.contains("[nodes.c]") && !config.nodes.contains_key(&"c".into()), "{text}");
    }

    #[test]
    fn a_node_that_may_still_run_something_is_not_removed() {
        let mut view = view();
        let remove = || Request::Remove { node: "c".to_owned(), reason: no_reason() };
        let (code, message, next) = refused(&view, remove());
        assert_eq!((code, message.as_str()), (RefusedCode::Forbidden, "c is online: it cannot be removed"));
        assert!(next.contains("systemctl stop cardea") && next.contains("cardea fence c"), "{next}");
        testing::silence(&mut view, C);
        assert_eq!(refused(&view, remove()).1, "c is not heard and not proven off: it cannot be removed");
        change(&mut view, |state| state.members.get_mut(&C).expect("c").state = MemberState::Condemned);
        assert!(refused(&view, remove()).2.contains("--confirm-off"));
    }

    #[test]
    fn a_node_that_the_file_cannot_do_without_is_not_removed() {
        let mut view = view();
        change(&mut view, |state| {
            state.members.get_mut(&W).expect("w").state = MemberState::Left;
            let text = FILE.replace("[nodes.c]\nlinks = [\"10.0.0.3\", \"10.0.1.3\"]\nfence = [\"power\"]\n", "");
            state.config_history.back_mut().expect("a version").text = text;
        });
        let (_, message, next) = refused(&view, Request::Remove { node: "w".to_owned(), reason: no_reason() });
        assert!(message.contains("two nodes alone"), "{message}");
        assert!(next.contains("apply a cluster file"), "{next}");
    }

    /// The next steps are found by words of the refusals: these must be their words.
    #[test]
    fn refusals_of_the_state_have_a_fitting_next_step() {
        use state::Refusal;
        let (expected, current) = (ConfigVersion(1), ConfigVersion(12));
        let version = Refusal::OtherVersion { expected, current, by: String::new() };
        assert!(next_after(&version.to_string()).contains("history --versions"));
        assert!(next_after(&Refusal::Leads("a".to_owned()).to_string()).contains("cardea lead"));
        assert!(next_after(&Refusal::DropsMember("c".to_owned()).to_string()).contains("members"));
        let holds = Refusal::StillHolds { node: "a".to_owned(), unit: "site".into() };
        assert!(next_after(&holds.to_string()).contains("cardea standby"));
        assert!(next_after(&Refusal::NoSuchAction.to_string()).contains("operators"));
        assert!(next_after(&Refusal::Condemned("b".to_owned()).to_string()).contains("cardea status"));
    }

    /// What is translated is also what the kernel takes, on the state it was made from.
    #[test]
    fn the_state_accepts_what_is_translated() {
        let view = view();
        let requests = [
            move_site(Some("b")),
            Request::Standby { node: "b".to_owned(), on: true, reason: no_reason() },
            Request::Stop { unit: "site".to_owned(), reason: no_reason() },
            Request::Clear { name: None, node: None, reason: no_reason() },
            Request::Apply {
                text: format!("{FILE}# calmer\n"),
                expected_version: None,
                reason: no_reason(),
                force: false,
            },
            Request::CreateToken { witness: false, name: None, seconds: 60 },
        ];
        for request in requests {
            let (command, done) = command(&view, request);
            let mut state = view.state.as_ref().clone();
            let entry = state::Entry { at: NOW, actor: "root@a".to_owned(), command };
            let applied = state::apply(&mut state, LogIndex(41), &entry, model::Bugs::NONE);
            assert!(applied.verdict.is_ok(), "{done}: {:?}", applied.verdict);
            assert!(matches!(state.holders[&"site".into()].state, HolderState::Held));
        }
    }
}
