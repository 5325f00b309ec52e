//! What does an operator's request mean for the agreed state? The leader's daemon translates it.
//!
//! In: a request and the picture that the leader has. Out: what to ask the node machine, and the sentence for the
//! operator when it is done; or a refusal with the next step.
//! Not here: whether the state accepts it (the kernel judges), how it travels (`http.rs`).

use api::{Refused, RefusedCode, Request};
use config::Parsed;
use model::{
    ActionKind, ConfigVersion, NodeId, NodeName, NodeRole, ResourceName, UnitName, WallTime,
};
use node::View;
use state::Command;

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
        Request::Apply { text, expected_version, reason } => {
            let parsed = parse(&text, "cluster.toml")?;
            let expected = expected_version.map_or(state.config_version, ConfigVersion);
            configure(expected, text, parsed, or(reason, "applied by an operator"), "the cluster file is applied")
        }
        Request::Rollback { to, reason } => {
            let Some(record) = state.config_history.iter().find(|record| record.version.0 == to) else {
                let kept: Vec<String> =
                    state.config_history.iter().map(|record| record.version.to_string()).collect();
                return Err(invalid(
                    format!("version {to} of the configuration is not kept"),
                    format!("kept are: {}; see `cardea history --versions`", kept.join(", ")),
                ));
            };
            let text = record.text.clone();
            let parsed = parse(&text, "cluster.toml")?;
            let reason = or(reason, &format!("back to version {to}"));
            configure(state.config_version, text, parsed, reason, &format!("version {to} is current again"))
        }
        Request::Move { unit, to, reason } => {
            let unit = find_unit(view, &unit)?;
            let target = move_target(view, &unit, to.as_deref())?;
            let name = state.name_of(target);
            let action = ActionKind::Move(unit.clone(), target);
            let reason = or(reason, "moved by an operator");
            Order::command(Command::Act { action, reason }, format!("{unit} moves to {name}"))
        }
        Request::Standby { node, on, reason } => {
            let id = find_node(view, &node)?;
            wish(ActionKind::Standby(id), on, reason, &format!("{node} is in standby"), &format!("{node} works again"))
        }
        Request::Maintenance { node, on, reason } => {
            let (kind, subject) = match node {
                Some(node) => (ActionKind::NodeMaintenance(find_node(view, &node)?), node),
                None => (ActionKind::ClusterMaintenance, "the cluster".to_owned()),
            };
            wish(kind, on, reason, &format!("hands off {subject}"), &format!("{subject} is looked after again"))
        }
        Request::Stop { unit, reason } => {
            let unit = find_unit(view, &unit)?;
            wish(ActionKind::Stop(unit.clone()), true, reason, &format!("{unit} is to stop"), "")
        }
        Request::Start { unit, reason } => {
            let unit = find_unit(view, &unit)?;
            if state.action(&ActionKind::Stop(unit.clone())).is_none() {
                return Err(invalid(
                    format!("{unit} is not stopped by an operator"),
                    format!("`cardea explain {unit}` says what it waits for"),
                ));
            }
            wish(ActionKind::Stop(unit.clone()), false, reason, "", &format!("{unit} is to start"))
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
            if !view.voters.contains(&id) {
                return Err(invalid(format!("{node} does not vote and cannot lead"), "`cardea status` shows who votes"));
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
        Request::Remove { node, reason } => {
            let id = find_node(view, &node)?;
            let last = state.config_history.back().map(|record| record.text.clone()).unwrap_or_default();
            let text = config::remove_node(&last, &NodeName(node.clone()))
                .map_err(|found| invalid(diagnostics::draw(&last, "cluster.toml", &found, false), "apply a cluster file that does not need this node first"))?;
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

fn configure(
    expected_version: ConfigVersion,
    text: String,
    parsed: Parsed,
    reason: String,
    done: &str,
) -> Result<Order, Refused> {
    let command = Command::Configure { expected_version, text, config: Box::new(parsed.config), reason };
    Order::command(command, done.to_owned())
}

fn wish(action: ActionKind, on: bool, reason: String, done: &str, undone: &str) -> Result<Order, Refused> {
    let reason = or(reason, "asked for by an operator");
    if on {
        Order::command(Command::Act { action, reason }, done.to_owned())
    } else {
        Order::command(Command::Undo { action, reason }, undone.to_owned())
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
        let refusal = candidates.iter().find(|c| c.node == id).and_then(|c| c.can_run.as_ref().err());
        return match refusal {
            Some(why) => Err(Refused::new(
                RefusedCode::Forbidden,
                format!("{unit} cannot run on {name}: {why}"),
                format!("`cardea explain {unit}` shows where it can"),
            )),
            None => Ok(id),
        };
    }
    candidates
        .into_iter()
        .filter(|candidate| Some(candidate.node) != holder)
        .filter_map(|candidate| candidate.can_run.ok().map(|score| (score, std::cmp::Reverse(candidate.node))))
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

/// What to do after the state refused something.
pub fn next_after(reason: &str) -> String {
    if reason.contains("version") {
        "look at the current file with `cardea history --versions`, and apply again".to_owned()
    } else {
        "`cardea status` shows the state of the cluster".to_owned()
    }
}
