//! What if? A situation with something else in it, and the situation in which a plan has been carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use model::situation::{
    Definition, NodeHistory, NodeKind, NodeSeen, OperationRecord, Resource, ResourceHistory, ResourceKind, Role,
    Situation, Ticket,
};
use model::{NodeName, ResourceName};

use crate::{Judgement, judge};

/// Something that might happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supposition {
    /// A node is lost.
    NodeLost(NodeName),
    /// A node is there again, and may run everything.
    NodeOnline(NodeName),
    /// A node was lost, everything that follows has been done, and it is there again.
    NodeBack(NodeName),
    /// A node is told to run nothing.
    Standby(NodeName),
    /// A resource fails wherever it runs.
    ResourceFailed(ResourceName),
    /// A ticket is granted to this site, or taken from it.
    Ticket(String, bool),
}

impl fmt::Display for Supposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Supposition::NodeLost(name) => write!(f, "node={name}:lost"),
            Supposition::NodeOnline(name) => write!(f, "node={name}:online"),
            Supposition::NodeBack(name) => write!(f, "node={name}:back"),
            Supposition::Standby(name) => write!(f, "standby={name}"),
            Supposition::ResourceFailed(name) => write!(f, "resource={name}:failed"),
            Supposition::Ticket(name, true) => write!(f, "ticket={name}:granted"),
            Supposition::Ticket(name, false) => write!(f, "ticket={name}:lost"),
        }
    }
}

/// Why a supposition makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuppositionError {
    /// Nobody knows what it means.
    #[error(
        "`{0}` is no supposition; write node=NAME:lost, node=NAME:online, node=NAME:back, standby=NODE, resource=NAME:failed, \
         ticket=NAME:lost or ticket=NAME:granted"
    )]
    Unknown(String),
    /// There is no such node.
    #[error("there is no node `{name}`; there are: {known}")]
    Node {
        /// What was said.
        name: String,
        /// What could have been said.
        known: String,
    },
    /// There are no tickets here.
    #[error("there is no ticket `{0}`: a running cluster has none, only a CIB or a cluster file can")]
    Ticket(String),
    /// There is no such resource, or it runs nowhere.
    #[error("there is no resource `{name}` that runs; there are: {known}")]
    Resource {
        /// What was said.
        name: String,
        /// What could have been said.
        known: String,
    },
}

impl FromStr for Supposition {
    type Err = SuppositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || SuppositionError::Unknown(text.to_owned());
        let (kind, rest) = text.split_once('=').ok_or_else(unknown)?;
        let (name, event) = rest.rsplit_once(':').map_or((rest, ""), |(name, event)| (name, event));
        match (kind, event) {
            ("node", "lost") => Ok(Supposition::NodeLost(NodeName::from(name))),
            ("node", "back") => Ok(Supposition::NodeBack(NodeName::from(name))),
            ("node", "online") => Ok(Supposition::NodeOnline(NodeName::from(name))),
            ("standby", "") => Ok(Supposition::Standby(NodeName::from(name))),
            ("resource", "failed") => Ok(Supposition::ResourceFailed(ResourceName::from(name))),
            ("ticket", "lost") => Ok(Supposition::Ticket(name.to_owned(), false)),
            ("ticket", "granted") => Ok(Supposition::Ticket(name.to_owned(), true)),
            _ => Err(unknown()),
        }
    }
}

/// Who votes in a cluster, the nodes that run something and the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Votes {
    /// Every voter.
    pub voters: BTreeSet<NodeName>,
    /// Voters that are not there, whatever the situation says of them: lost witnesses, nodes that nobody reaches.
    pub away: BTreeSet<NodeName>,
    /// Two voters alone: the one that is left goes on, as clusters of Pacemaker are usually set up.
    pub one_of_two_goes_on: bool,
}

/// Fewer voters are left than a majority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no majority would be left: {here} of {all} votes, and {needed} are needed (missing: {missing}). Nothing would be \
     fenced, started or moved until more of them are back"
)]
pub struct NoMajority {
    /// Votes that are left.
    pub here: usize,
    /// All votes.
    pub all: usize,
    /// Votes that are needed.
    pub needed: usize,
    /// The voters that are not there.
    pub missing: String,
}

impl Votes {
    /// Is it about a voter that runs nothing? Then only votes change.
    fn hear_of_witness(&mut self, situation: &Situation, supposition: &Supposition) -> bool {
        let (name, is_lost) = match supposition {
            Supposition::NodeLost(name) => (name, true),
            Supposition::NodeOnline(name) | Supposition::NodeBack(name) => (name, false),
            Supposition::Standby(_) | Supposition::ResourceFailed(_) | Supposition::Ticket(..) => return false,
        };
        let is_witness = self.voters.contains(name) && !situation.nodes.iter().any(|facts| facts.name == *name);
        if is_witness && is_lost {
            self.away.insert(name.clone());
        } else if is_witness {
            self.away.remove(name);
        }
        is_witness
    }

    /// Are the voters that are there more than half?
    ///
    /// # Errors
    /// If not.
    pub fn majority(&self, situation: &Situation) -> Result<(), NoMajority> {
        let is_up = |name: &NodeName| {
            let facts = situation.nodes.iter().find(|facts| facts.name == *name);
            facts.is_none_or(|facts| facts.seen.as_ref().is_some_and(|seen| seen.is_process_up))
        };
        let missing: Vec<&str> =
            self.voters.iter().filter(|name| self.away.contains(*name) || !is_up(name)).map(NodeName::as_str).collect();
        let all = self.voters.len();
        let here = all - missing.len();
        if here * 2 > all || (self.one_of_two_goes_on && all == 2 && here == 1) {
            return Ok(());
        }
        Err(NoMajority { here, all, needed: all / 2 + 1, missing: missing.join(", ") })
    }
}

/// Lets things happen in a situation, one after the other. With `votes` it has quorum as long as they are a majority.
///
/// # Errors
/// If one names what is not there.
pub fn suppose_all(
    situation: &mut Situation,
    suppositions: &[Supposition],
    mut votes: Option<&mut Votes>,
) -> Result<(), SuppositionError> {
    fn count(situation: &mut Situation, votes: Option<&Votes>) {
        if let Some(votes) = votes {
            situation.options.has_quorum = votes.majority(situation).is_ok();
        }
    }
    for supposition in suppositions {
        if let Some(votes) = votes.as_deref_mut()
            && votes.hear_of_witness(situation, supposition)
        {
            count(situation, Some(votes));
            continue;
        }
        if let Supposition::NodeBack(name) = supposition {
            lose(situation, name)?;
            count(situation, votes.as_deref());
            *situation = carried_out(situation, &judge(situation));
        }
        suppose(situation, supposition)?;
        count(situation, votes.as_deref());
    }
    Ok(())
}

/// Lets something happen in a situation; the return of a node only as far as it is there again.
///
/// # Errors
/// If it names what is not there.
pub fn suppose(situation: &mut Situation, supposition: &Supposition) -> Result<(), SuppositionError> {
    match supposition {
        Supposition::NodeLost(name) => lose(situation, name),
        Supposition::NodeOnline(name) | Supposition::NodeBack(name) => {
            let at = find(situation, name)?;
            situation.nodes[at].is_standby = false;
            situation.nodes[at].why = None;
            situation.nodes[at].seen = Some(NodeSeen {
                is_member: Some(true),
                is_process_up: true,
                join: model::situation::Join::Member,
                expected: model::situation::Expected::Member,
                ..NodeSeen::default()
            });
            Ok(())
        }
        Supposition::Standby(name) => {
            let at = find(situation, name)?;
            situation.nodes[at].is_standby = true;
            situation.nodes[at].why = None;
            Ok(())
        }
        Supposition::ResourceFailed(name) => fail(situation, name.as_str()),
        Supposition::Ticket(name, is_granted) => {
            situation.tickets.insert(name.clone(), Ticket { is_granted: *is_granted, is_standby: false });
            Ok(())
        }
    }
}

fn find(situation: &Situation, name: &NodeName) -> Result<usize, SuppositionError> {
    situation.nodes.iter().position(|node| node.name == *name).ok_or_else(|| {
        let known: Vec<&str> = situation.nodes.iter().map(|node| node.name.as_str()).collect();
        SuppositionError::Node { name: name.0.clone(), known: known.join(", ") }
    })
}

fn lose(situation: &mut Situation, name: &NodeName) -> Result<(), SuppositionError> {
    let at = find(situation, name)?;
    situation.nodes[at].why = None;
    match situation.nodes[at].kind.clone() {
        NodeKind::Member => {
            let expected = model::situation::Expected::Member;
            let join = model::situation::Join::Down;
            situation.nodes[at].seen =
                Some(NodeSeen { is_member: Some(false), is_process_up: false, join, expected, ..NodeSeen::default() });
            Ok(())
        }
        // It is lost when nothing reaches it any more.
        NodeKind::Remote { connection } => match connection {
            Some(connection) => fail(situation, connection.as_str()),
            None => Ok(()),
        },
        NodeKind::Guest { container, .. } => fail(situation, container.as_str()),
    }
}

fn fail(situation: &mut Situation, name: &str) -> Result<(), SuppositionError> {
    let current = judge(situation).current();
    let active: Vec<String> = current.get(name).into_iter().flatten().map(|place| place.node.clone()).collect();
    if active.is_empty() {
        let known: Vec<&str> =
            current.iter().filter(|(_, places)| !places.is_empty()).map(|(name, _)| name.as_str()).collect();
        return Err(SuppositionError::Resource { name: name.to_owned(), known: known.join(", ") });
    }
    let now = situation.now;
    for report in situation.history.iter_mut().filter(|report| active.contains(&report.node.0)) {
        let is_it = |known: &str| {
            known == name
                || known.rsplit_once(':').is_some_and(|(base, number)| base == name && number.parse::<u32>().is_ok())
        };
        for history in report.resources.iter_mut().filter(|history| is_it(&history.name)) {
            let last = history.operations.iter().map(|record| record.call_id).max().unwrap_or(0).max(0);
            let monitor = history.operations.iter().find(|record| record.interval_ms > 0);
            let interval_ms = monitor.map_or(10_000, |record| record.interval_ms);
            history.operations.push(OperationRecord {
                id: format!("{}_last_failure_0", history.name),
                operation: "monitor".to_owned(),
                interval_ms,
                call_id: last + 1,
                transition: -1,
                rc: 1,
                rc_expected: Some(0),
                changed_at: Some(now),
                ran_at: Some(now),
                ..OperationRecord::default()
            });
        }
    }
    Ok(())
}

/// The situation once everything that was judged has been done, and has succeeded.
pub fn carried_out(situation: &Situation, judgement: &Judgement) -> Situation {
    let mut then = situation.clone();
    let fenced: BTreeSet<&str> = judgement
        .actions
        .iter()
        .filter(|done| done.action == "fence" && done.op != Some("on"))
        .map(|done| done.node.as_str())
        .collect();
    let unfenced: BTreeSet<&str> = judgement
        .actions
        .iter()
        .filter(|done| done.action == "fence" && done.op == Some("on"))
        .map(|done| done.node.as_str())
        .collect();
    for node in &mut then.nodes {
        if unfenced.contains(node.name.as_str()) {
            node.is_unfenced = true;
            node.unfenced_with = Some(unfencing_entries(&situation.resources));
        }
        if fenced.contains(node.name.as_str()) && node.kind == NodeKind::Member {
            node.seen = Some(NodeSeen {
                is_member: Some(false),
                is_process_up: false,
                join: model::situation::Join::Down,
                expected: model::situation::Expected::Down,
                ..NodeSeen::default()
            });
        }
        for done in judgement.actions.iter().filter(|done| done.action == "clear_failcount") {
            let Some(resource) = done.resource.as_ref().filter(|_| done.node == node.name.0) else { continue };
            let counts = [format!("fail-count-{resource}#"), format!("last-failure-{resource}#")];
            node.attributes.retain(|name, _| !counts.iter().any(|count| name.starts_with(count)));
        }
    }
    let mut places: BTreeMap<&str, BTreeMap<&str, Role>> = BTreeMap::new();
    let running = judgement.running();
    for (resource, there) in &running {
        for place in there {
            places.entry(resource).or_default().insert(&place.node, place.role);
        }
    }
    let mut primitives = Vec::new();
    for resource in &situation.resources {
        gather(resource, &mut primitives);
    }
    then.history = then
        .nodes
        .iter()
        .filter(|node| !fenced.contains(node.name.as_str()))
        .map(|node| NodeHistory {
            node: node.name.clone(),
            resources: primitives.iter().flat_map(|resource| reports(resource, &node.name, &places)).collect(),
        })
        .collect();
    then
}

/// What a node remembers once it is unfenced by the devices of today.
fn unfencing_entries(resources: &[Resource]) -> String {
    let mut primitives = Vec::new();
    resources.iter().for_each(|resource| gather(resource, &mut primitives));
    let entry = |resource: &&Resource| match &resource.kind {
        ResourceKind::Primitive(device) if device.unfences => device.unfencing_entry(resource.name.as_str()),
        _ => None,
    };
    primitives.iter().filter_map(entry).collect()
}

fn gather<'a>(resource: &'a Resource, found: &mut Vec<&'a Resource>) {
    match &resource.kind {
        ResourceKind::Primitive(_) => found.push(resource),
        ResourceKind::Group(members) => members.iter().for_each(|member| gather(member, found)),
        ResourceKind::Clone(inner) => gather(inner, found),
        ResourceKind::Bundle(bundle) => {
            for replica in &bundle.replicas {
                let parts = [Some(&replica.container), replica.address.as_ref(), replica.connection.as_ref()];
                parts.into_iter().flatten().for_each(|part| gather(part, found));
            }
            bundle.inside.iter().for_each(|inside| gather(inside, found));
        }
    }
}

/// What a node reports of a primitive that is, or is not, where it should be.
fn reports(
    resource: &Resource,
    node: &NodeName,
    places: &BTreeMap<&str, BTreeMap<&str, Role>>,
) -> Vec<ResourceHistory> {
    let ResourceKind::Primitive(primitive) = &resource.kind else { return Vec::new() };
    let name = resource.name.as_str();
    // Unique instances stand under their numbers.
    let numbered = format!("{name}:");
    let of_unique = places.range(numbered.as_str()..).take_while(|(known, _)| known.starts_with(&numbered));
    let instances: Vec<(&str, Option<Role>)> = of_unique
        .map(|(known, there)| (*known, there.get(node.as_str()).copied()))
        .chain(places.get(name).map(|there| (name, there.get(node.as_str()).copied())))
        .collect();
    let instances = if instances.is_empty() { vec![(name, None)] } else { instances };
    instances
        .into_iter()
        .map(|(name, role)| {
            let record = |operation: &str, interval_ms: u32, call_id: i64, rc: i32| OperationRecord {
                id: format!("{name}_{operation}_{interval_ms}"),
                operation: operation.to_owned(),
                interval_ms,
                call_id,
                transition: 1,
                rc,
                rc_expected: Some(rc),
                definition: Definition::Same,
                ..OperationRecord::default()
            };
            let mut operations = Vec::new();
            match role {
                None => operations.push(record("monitor", 0, 1, 7)),
                Some(role) => {
                    operations.push(record("start", 0, 2, 0));
                    if role == Role::Promoted {
                        operations.push(record("promote", 0, 3, 0));
                    }
                    for operation in primitive.operations.iter().filter(|operation| operation.interval_ms > 0) {
                        let fits = match operation.role {
                            None | Some(Role::Unknown | Role::Started | Role::Unpromoted) => role != Role::Promoted,
                            Some(Role::Promoted) => role == Role::Promoted,
                            Some(Role::Stopped) => false,
                        };
                        if fits && operation.is_enabled {
                            let rc = if role == Role::Promoted { 8 } else { 0 };
                            operations.push(record(&operation.name, operation.interval_ms, 4, rc));
                        }
                    }
                }
            }
            ResourceHistory {
                name: name.to_owned(),
                class: primitive.class.clone(),
                provider: primitive.provider.clone(),
                agent: primitive.agent.clone(),
                operations,
                ..ResourceHistory::default()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supposition_is_a_word_for_what_might_happen() {
        assert_eq!("node=b:lost".parse(), Ok(Supposition::NodeLost(NodeName::from("b"))));
        assert_eq!("node=b:online".parse(), Ok(Supposition::NodeOnline(NodeName::from("b"))));
        assert_eq!("standby=a".parse(), Ok(Supposition::Standby(NodeName::from("a"))));
        assert_eq!("resource=db:0:failed".parse(), Ok(Supposition::ResourceFailed(ResourceName::from("db:0"))));
        assert_eq!("ticket=T:granted".parse(), Ok(Supposition::Ticket("T".to_owned(), true)));
        for right in [
            "node=b:lost",
            "node=b:online",
            "node=b:back",
            "standby=a",
            "resource=db:0:failed",
            "ticket=T:granted",
            "ticket=T:lost",
        ] {
            assert_eq!(right.parse::<Supposition>().map(|it| it.to_string()).as_deref(), Ok(right));
        }
        for wrong in ["", "node", "node=b", "node=b:gone", "standby=a:lost", "moon=full"] {
            assert!(wrong.parse::<Supposition>().is_err(), "{wrong}");
        }
    }
}
