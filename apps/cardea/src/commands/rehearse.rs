//! `cardea rehearse`: does everything survive the loss of a node, a witness, a network, a fence device, and of two?
//!
//! Every loss is played through the scheduler, from the state in which everything is where it belongs; then the return
//! of the node. Needs no daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use model::situation::{NodeKind, Resource, ResourceKind, Role, Situation};
use model::{ClusterConfig, FenceName, NodeName, NodeRole, ResourceName};
use scheduler::{Judgement, Place, Supposition, Votes};
use serde::Serialize;

use super::{check, cib_file, plan_cib, print_json};

/// Plays every loss of a node, a witness, a network and a fence device through: what starts where, what cannot run, and
/// what goes back when the node is there again.
///
/// Exit status 1 if something does not survive, or runs nowhere to begin with.
#[derive(Args, Debug)]
pub struct RehearseArgs {
    /// The cluster file.
    #[arg(required_unless_present = "cib", conflicts_with = "cib")]
    file: Option<PathBuf>,
    /// A Pacemaker CIB instead of a cluster file: only its nodes are lost.
    #[arg(long, value_name = "FILE")]
    cib: Option<PathBuf>,
    /// Things that are lost at once, at most.
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=2))]
    failures: u8,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Rehearsal {
    version: u32,
    ok: bool,
    nowhere: Vec<Nowhere>,
    losses: Vec<Loss>,
}

/// What is wanted, and runs nowhere although nothing is lost.
#[derive(Debug, PartialEq, Serialize)]
struct Nowhere {
    resource: String,
    reason: String,
}

/// What follows from one loss.
#[derive(Debug, Serialize)]
struct Loss {
    lost: Vec<Part>,
    /// Is a majority left?
    quorate: bool,
    survives: bool,
    moved: Vec<Moved>,
    stopped: Vec<Stopped>,
    overloaded: Vec<Overloaded>,
    /// What moves again once the lost nodes are back.
    returned: Vec<Moved>,
    /// Nodes that nothing could prove off: what they run would start nowhere else.
    unfenceable: Vec<String>,
}

/// Something that may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Node(NodeName),
    Witness(NodeName),
    /// Networks of one failure domain, by number.
    Networks(Vec<u8>),
    Device(FenceName),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Node(name) => write!(f, "{name}"),
            Part::Witness(name) => write!(f, "witness {name}"),
            Part::Networks(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(u8::to_string).collect();
                write!(f, "network{} {}", if numbers.len() == 1 { "" } else { "s" }, numbers.join(" and "))
            }
            Part::Device(name) => write!(f, "device {}", name.0),
        }
    }
}

impl Serialize for Part {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Debug, PartialEq, Serialize)]
struct Moved {
    resource: String,
    from: String,
    to: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Stopped {
    resource: String,
    from: String,
    reason: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Overloaded {
    node: String,
    capacity: String,
    used: i64,
    has: i64,
}

/// Runs the command.
pub fn run(args: &RehearseArgs) -> anyhow::Result<i32> {
    let (situation, config) = match (&args.file, &args.cib) {
        (Some(file), _) => {
            let text = check::read(file)?;
            let (situation, config) = plan_cib::of_file(&text)?;
            (situation, Some(config))
        }
        (None, Some(cib)) => {
            let text = cib_file::read(cib)?;
            let imported = import::cib(&text, plan_cib::recorded_or_now())
                .with_context(|| format!("{} cannot be rehearsed", cib.display()))?;
            (imported.situation, None)
        }
        (None, None) => anyhow::bail!("name a cluster file, or a CIB with --cib"),
    };
    let rehearsal = rehearse(&situation, config.as_ref(), args.failures)?;
    if args.json {
        print_json(&rehearsal)?;
    } else {
        std::io::stdout().lock().write_all(draw(&rehearsal).as_bytes())?;
    }
    Ok(i32::from(!rehearsal.ok))
}

/// By resource: where it runs.
type Places = BTreeMap<String, Vec<Place>>;

/// The cluster with everything where it belongs.
struct Stage<'a> {
    base: Situation,
    before: Places,
    votes: Votes,
    /// Of a cluster file; a CIB has none.
    config: Option<&'a ClusterConfig>,
}

fn rehearse(situation: &Situation, config: Option<&ClusterConfig>, failures: u8) -> anyhow::Result<Rehearsal> {
    let base = plan_cib::settled(situation);
    let votes = match config {
        Some(config) => plan_cib::votes_of(config),
        None => {
            let members = base.nodes.iter().filter(|node| node.kind == NodeKind::Member);
            let voters = members.map(|node| node.name.clone()).collect();
            Votes { voters, away: BTreeSet::new(), one_of_two_goes_on: true }
        }
    };
    let before = scheduler::judge(&base).placement();
    let stage = Stage { base, before, votes, config };
    let parts = parts(&stage.base, config);
    let mut sets: Vec<Vec<Part>> = parts.iter().map(|part| vec![part.clone()]).collect();
    if failures > 1 {
        for (at, first) in parts.iter().enumerate() {
            sets.extend(parts[at + 1..].iter().map(|second| vec![first.clone(), second.clone()]));
        }
    }
    let losses = sets.into_iter().map(|lost| stage.lose(lost)).collect::<anyhow::Result<Vec<Loss>>>()?;
    let nowhere = stage.nowhere();
    let ok = nowhere.is_empty() && losses.iter().all(|loss| loss.survives);
    Ok(Rehearsal { version: 1, ok, nowhere, losses })
}

/// What may be lost: each node; of a cluster file also each witness, the networks of each failure domain, each fence
/// device that a node has.
fn parts(situation: &Situation, config: Option<&ClusterConfig>) -> Vec<Part> {
    let members = situation.nodes.iter().filter(|node| node.kind == NodeKind::Member);
    let mut parts: Vec<Part> = members.map(|node| Part::Node(node.name.clone())).collect();
    let Some(config) = config else { return parts };
    let witnesses = config.nodes.iter().filter(|(_, node)| node.role == NodeRole::Witness);
    parts.extend(witnesses.map(|(name, _)| Part::Witness(name.clone())));
    let links_max = config.nodes.values().map(|node| node.links.len()).max().unwrap_or(0);
    let mut domains: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for number in (1_u8..).take(links_max) {
        let said = config.networks.get(&number).map(|network| network.domain.clone());
        // No name of a domain begins so.
        domains.entry(said.unwrap_or_else(|| format!("\0{number:03}"))).or_default().push(number);
    }
    let mut networks: Vec<Vec<u8>> = domains.into_values().collect();
    networks.sort();
    if config.nodes.len() > 1 {
        parts.extend(networks.into_iter().map(Part::Networks));
    }
    let used: BTreeSet<&FenceName> = config.nodes.values().flat_map(|node| &node.fence).collect();
    parts.extend(used.into_iter().map(|name| Part::Device(name.clone())));
    parts
}

impl Stage<'_> {
    /// Plays a loss through.
    fn lose(&self, lost: Vec<Part>) -> anyhow::Result<Loss> {
        let nodes: Vec<&NodeName> = lost
            .iter()
            .filter_map(|part| match part {
                Part::Node(name) => Some(name),
                Part::Witness(_) | Part::Networks(_) | Part::Device(_) => None,
            })
            .collect();
        let mut votes = self.votes.clone();
        votes.away.extend(lost.iter().filter_map(|part| match part {
            Part::Witness(name) => Some(name.clone()),
            Part::Node(_) | Part::Networks(_) | Part::Device(_) => None,
        }));
        let isolated = self.isolated(&lost);
        votes.away.extend(isolated.iter().cloned());
        let mut then = self.base.clone();
        for node in &nodes {
            scheduler::suppose(&mut then, &Supposition::NodeLost((*node).clone()))?;
        }
        then.options.has_quorum = votes.majority(&then).is_ok();
        let mut gone: BTreeSet<&str> = nodes.iter().map(|node| node.as_str()).collect();
        if then.options.has_quorum {
            // Cut off from the majority: they are fenced like lost ones. Without a majority nobody does that.
            for node in isolated.iter().filter(|node| self.base.nodes.iter().any(|facts| facts.name == **node)) {
                scheduler::suppose(&mut then, &Supposition::NodeLost(node.clone()))?;
                gone.insert(node.as_str());
            }
        }
        let after = scheduler::judge(&then);
        let mut loss = loss(&then, &self.before, &after, &gone);
        let unfenceable = self.unfenceable(&lost);
        self.hold_back(&lost, &unfenceable, &mut loss);
        if then.options.has_quorum && !nodes.is_empty() {
            let mut again = scheduler::carried_out(&then, &after);
            for node in &nodes {
                scheduler::suppose(&mut again, &Supposition::NodeOnline((*node).clone()))?;
            }
            loss.returned = moved(&after.placement(), &scheduler::judge(&again).placement());
        }
        loss.unfenceable = unfenceable.into_keys().map(|node| node.0).collect();
        loss.survives = loss.stopped.is_empty();
        loss.lost = lost;
        Ok(loss)
    }

    /// Voters that no network reaches any more.
    fn isolated(&self, lost: &[Part]) -> Vec<NodeName> {
        let Some(config) = self.config else { return Vec::new() };
        let networks: BTreeSet<usize> = lost
            .iter()
            .filter_map(|part| match part {
                Part::Networks(numbers) => Some(numbers),
                Part::Node(_) | Part::Witness(_) | Part::Device(_) => None,
            })
            .flatten()
            .map(|number| usize::from(*number))
            .collect();
        let is_cut_off = |links: usize| (1..=links).all(|number| networks.contains(&number));
        let found = config.nodes.iter().filter(|(_, node)| !networks.is_empty() && is_cut_off(node.links.len()));
        found.map(|(name, _)| name.clone()).collect()
    }

    /// Nodes that nothing could prove off without the lost devices, each with the units for which that counts.
    fn unfenceable(&self, lost: &[Part]) -> BTreeMap<NodeName, BTreeSet<ResourceName>> {
        let mut found: BTreeMap<NodeName, BTreeSet<ResourceName>> = BTreeMap::new();
        let Some(config) = self.config else { return found };
        let is_lost = |device: &FenceName| lost.contains(&Part::Device(device.clone()));
        let mut without = config.clone();
        for node in without.nodes.values_mut() {
            node.fence.retain(|device| !is_lost(device));
        }
        for (unit, it) in config.units() {
            let domains = config.domains(&unit);
            for (name, _) in config.nodes.iter().filter(|(_, node)| node.role == NodeRole::Member) {
                let is_covered = |config: &ClusterConfig| domains.is_subset(&config.fence_cover(name));
                if config.is_exclusive(&unit) && is_covered(config) && !is_covered(&without) {
                    found.entry(name.clone()).or_default().extend(it.members.iter().map(|member| (*member).clone()));
                }
            }
        }
        found
    }

    /// What ran on a node that nothing proves off starts nowhere else.
    fn hold_back(&self, lost: &[Part], unfenceable: &BTreeMap<NodeName, BTreeSet<ResourceName>>, loss: &mut Loss) {
        let devices: Vec<String> = lost
            .iter()
            .filter_map(|part| match part {
                Part::Device(name) => Some(name.0.clone()),
                Part::Node(_) | Part::Witness(_) | Part::Networks(_) => None,
            })
            .collect();
        let waits = |moved: &Moved| {
            let units = unfenceable.get(&NodeName::from(moved.from.as_str()));
            units.is_some_and(|held| held.contains(&ResourceName::from(moved.resource.as_str())))
        };
        let (held, moved): (Vec<Moved>, Vec<Moved>) = std::mem::take(&mut loss.moved).into_iter().partition(waits);
        loss.moved = moved;
        loss.stopped.extend(held.into_iter().map(|held| Stopped {
            reason: format!("{} cannot be proven off without {}", held.from, devices.join(" and ")),
            resource: held.resource,
            from: held.from,
        }));
    }

    /// What is wanted, and has no place although nothing is lost.
    fn nowhere(&self) -> Vec<Nowhere> {
        let mut wanted = Vec::new();
        self.base.resources.iter().for_each(|resource| gather_wanted(resource, &mut wanted));
        let runs = |name: &str| {
            let numbered = format!("{name}:");
            let replica = format!("{name}-");
            self.before.iter().any(|(known, places)| {
                !places.is_empty() && (known == name || known.starts_with(&numbered) || known.starts_with(&replica))
            })
        };
        let without = wanted.into_iter().filter(|name| !runs(name));
        without
            .map(|name| Nowhere {
                resource: name.to_owned(),
                reason: scheduler::reasons::explain(&self.base, name).map_or_else(
                    || "no node can run it".to_owned(),
                    |explained| {
                        explained
                            .decision
                            .strip_prefix(&format!("{name} runs nowhere: "))
                            .map_or_else(|| explained.decision.clone(), ToOwned::to_owned)
                    },
                ),
            })
            .collect()
    }
}

/// The names under which what is wanted would run.
fn gather_wanted<'a>(resource: &'a Resource, found: &mut Vec<&'a str>) {
    let meta = &resource.meta;
    if meta.target_role == Some(Role::Stopped) || !meta.is_managed || meta.is_maintenance {
        return;
    }
    match &resource.kind {
        ResourceKind::Primitive(_) | ResourceKind::Bundle(_) => found.push(resource.name.as_str()),
        ResourceKind::Group(members) => members.iter().for_each(|member| gather_wanted(member, found)),
        ResourceKind::Clone(_) if meta.clone_max == Some(0) => {}
        ResourceKind::Clone(inner) => gather_wanted(inner, found),
    }
}

/// What runs on other nodes than before.
fn moved(before: &Places, after: &Places) -> Vec<Moved> {
    let mut moved = Vec::new();
    for (resource, places) in before {
        let now = after.get(resource).map_or(&[][..], Vec::as_slice);
        let left = places.iter().filter(|place| !now.iter().any(|other| other.node == place.node));
        let new = now.iter().filter(|place| !places.iter().any(|other| other.node == place.node));
        moved.extend(left.zip(new).map(|(from, to)| Moved {
            resource: resource.clone(),
            from: from.node.clone(),
            to: to.node.clone(),
        }));
    }
    moved
}

fn loss(situation: &Situation, before: &Places, after: &Judgement, lost: &BTreeSet<&str>) -> Loss {
    let places_after = after.placement();
    let is_lost = |node: &str| lost.contains(node);
    let mut moved = Vec::new();
    let mut stopped = Vec::new();
    for (resource, places) in before {
        // What a lost node had may be thought to be there still; it serves nobody.
        let now: Vec<&Place> =
            places_after.get(resource).into_iter().flatten().filter(|place| !is_lost(&place.node)).collect();
        let gone: Vec<&str> = places
            .iter()
            .map(|place| place.node.as_str())
            .filter(|node| !now.iter().any(|p| p.node == *node))
            .collect();
        let mut new =
            now.iter().map(|place| place.node.as_str()).filter(|node| !places.iter().any(|p| p.node == *node));
        for from in gone {
            match new.next() {
                Some(to) => {
                    moved.push(Moved { resource: resource.clone(), from: from.to_owned(), to: to.to_owned() });
                }
                // A copy of a clone that was on the lost node has nowhere to go, and the others run on.
                None if is_lost(from) && !now.is_empty() => {}
                None => stopped.push(Stopped {
                    resource: resource.clone(),
                    from: from.to_owned(),
                    reason: if situation.options.has_quorum {
                        why_stopped(situation, after, resource, lost)
                    } else {
                        "no majority is left".to_owned()
                    },
                }),
            }
        }
        let was_led = places.iter().any(|place| place.role == Role::Promoted);
        if was_led && !now.is_empty() && !now.iter().any(|place| place.role == Role::Promoted) {
            stopped.push(Stopped {
                resource: resource.clone(),
                from: String::new(),
                reason: "no copy of it leads any more".to_owned(),
            });
        }
    }
    let overloaded = overloaded(situation, &places_after);
    Loss {
        lost: Vec::new(),
        quorate: situation.options.has_quorum,
        survives: stopped.is_empty(),
        moved,
        stopped,
        overloaded,
        returned: Vec::new(),
        unfenceable: Vec::new(),
    }
}

/// What keeps it off the nodes that are left.
fn why_stopped(situation: &Situation, after: &Judgement, resource: &str, lost: &BTreeSet<&str>) -> String {
    let told = after.decisions.iter().find(|told| told.resource.as_deref() == Some(resource));
    if let Some(reason) = told.and_then(|told| told.reason.as_deref()).filter(|reason| *reason != "no node can run it")
    {
        return reason.to_owned();
    }
    let explained = scheduler::reasons::explain(situation, resource);
    let nodes = explained.iter().flat_map(|explained| &explained.nodes);
    let said: Vec<String> = nodes
        .filter(|node| !node.can_run && !lost.contains(node.node.as_str()))
        .filter_map(|node| Some(format!("{} {}", node.node, node.because.first()?)))
        .collect();
    if said.is_empty() { "no node is left that may run it".to_owned() } else { said.join("; ") }
}

/// Nodes that are to carry more than they can.
fn overloaded(situation: &Situation, after: &Places) -> Vec<Overloaded> {
    let mut needs: BTreeMap<&str, &BTreeMap<String, i32>> = BTreeMap::new();
    for resource in &situation.resources {
        gather(resource, &mut needs);
    }
    let mut used: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for (resource, places) in after {
        let name = resource.rsplit_once(':').map_or(resource.as_str(), |(name, _)| name);
        let Some(needs) = needs.get(resource.as_str()).or_else(|| needs.get(name)) else { continue };
        for place in places {
            for (what, amount) in *needs {
                *used.entry((place.node.as_str(), what)).or_default() += i64::from(*amount);
            }
        }
    }
    let mut found = Vec::new();
    for ((node, what), used) in used {
        let facts = situation.nodes.iter().find(|facts| facts.name.as_str() == node);
        let has = facts.and_then(|facts| facts.capacity.get(what)).copied().map_or(0, i64::from);
        if used > has && facts.is_some_and(|facts| !facts.capacity.is_empty()) {
            found.push(Overloaded { node: node.to_owned(), capacity: what.to_owned(), used, has });
        }
    }
    found
}

fn gather<'a>(resource: &'a Resource, needs: &mut BTreeMap<&'a str, &'a BTreeMap<String, i32>>) {
    match &resource.kind {
        ResourceKind::Primitive(primitive) => {
            needs.insert(resource.name.as_str(), &primitive.utilization);
        }
        ResourceKind::Group(members) => members.iter().for_each(|member| gather(member, needs)),
        ResourceKind::Clone(inner) => gather(inner, needs),
        ResourceKind::Bundle(bundle) => bundle.inside.iter().for_each(|inside| gather(inside, needs)),
    }
}

fn draw(rehearsal: &Rehearsal) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["lost", "starts elsewhere", "cannot run", "goes back", "remarks"]);
    let places = |moved: &[Moved]| {
        let said: Vec<String> = moved.iter().map(|moved| format!("{} on {}", moved.resource, moved.to)).collect();
        said.join("\n")
    };
    for loss in &rehearsal.losses {
        let stopped: Vec<String> =
            loss.stopped.iter().map(|stopped| format!("{}: {}", stopped.resource, stopped.reason)).collect();
        let lost: Vec<String> = loss.lost.iter().map(Part::to_string).collect();
        let cells =
            [lost.join(" and "), places(&loss.moved), stopped.join("\n"), places(&loss.returned), remarks(loss)];
        table.add_row(cells);
    }
    let mut nowhere = String::new();
    for resource in &rehearsal.nowhere {
        nowhere += &format!("{} runs nowhere, although nothing is lost: {}\n", resource.resource, resource.reason);
    }
    let bad = rehearsal.losses.iter().filter(|loss| !loss.survives).count();
    let end = match (bad, rehearsal.losses.len()) {
        (0, all) if nowhere.is_empty() => format!("everything survives each of {all} losses\n"),
        (0, all) => format!("what runs survives each of {all} losses\n"),
        (bad, all) => format!("something does not survive in {bad} of {all} losses\n"),
    };
    format!("{nowhere}{table}\n{end}")
}

/// What else an operator should know of a loss.
fn remarks(loss: &Loss) -> String {
    let mut said: Vec<String> = loss
        .overloaded
        .iter()
        .map(|over| format!("{} carries too much: {} of {} {}", over.node, over.used, over.has, over.capacity))
        .collect();
    if !loss.quorate {
        said.push("no majority is left: nothing is started until one is back".to_owned());
    }
    if !loss.unfenceable.is_empty() {
        let nodes = loss.unfenceable.join(", ");
        said.push(format!("{nodes} could not be proven off: what runs there would start nowhere else"));
    }
    said.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = r#"
cluster = "shop"
[nodes.a]
links = ["10.0.0.1", "10.1.0.1"]
fence = ["power"]
[nodes.b]
links = ["10.0.0.2", "10.1.0.2"]
fence = ["power"]
[nodes.c]
links = ["10.0.0.3", "10.1.0.3"]
fence = ["power"]
[fence.power]
agent = "fence_lab"
[resources.address]
agent = "cardea:ip"
address = "10.0.0.100/24"
[resources.web]
agent = "cardea:process"
command = ["sleep", "1000000"]
[groups.site]
members = ["address", "web"]
prefer = ["b"]
"#;

    fn rehearsal_of(text: &str, failures: u8) -> Rehearsal {
        let (situation, config) = plan_cib::of_file(text).unwrap();
        rehearse(&situation, Some(&config), failures).unwrap()
    }

    fn find<'r>(rehearsal: &'r Rehearsal, lost: &str) -> &'r Loss {
        let named = |loss: &Loss| loss.lost.iter().map(Part::to_string).collect::<Vec<_>>().join(" and ") == lost;
        rehearsal.losses.iter().find(|loss| named(loss)).unwrap()
    }

    #[test]
    fn a_group_survives_each_node_alone() {
        let rehearsal = rehearsal_of(SHOP, 2);
        // Three nodes, two networks, one device, and all pairs of these.
        assert_eq!(rehearsal.losses.len(), 6 + 15);
        let without_b = find(&rehearsal, "b");
        let on_a = |resource: &str| Moved { resource: resource.to_owned(), from: "b".to_owned(), to: "a".to_owned() };
        assert_eq!(without_b.moved, [on_a("address"), on_a("web")]);
        assert!(rehearsal.losses.iter().filter(|loss| loss.lost.len() == 1).all(|loss| loss.survives));
        let without_a = find(&rehearsal, "a");
        assert_eq!(without_a.moved, []);
        // One of three is no majority: what two lost nodes ran starts nowhere.
        let without_two = find(&rehearsal, "b and c");
        assert!(!without_two.quorate && !without_two.survives && without_two.moved.is_empty(), "{without_two:?}");
        assert!(!rehearsal.ok);
    }

    #[test]
    fn what_runs_nowhere_to_begin_with_is_named() {
        let file = SHOP.replace("[groups.site]\nmembers = [\"address\", \"web\"]\nprefer = [\"b\"]\n", "")
            + "only = [\"a\", \"c\"]\n[resources.shop]\nagent = \"cardea:process\"\ncommand = [\"sleep\", \"1\"]\nonly = [\"b\"]\nwith = [\"web\"]\n";
        let rehearsal = rehearsal_of(&file, 1);
        let named: Vec<&str> = rehearsal.nowhere.iter().map(|nowhere| nowhere.resource.as_str()).collect();
        assert_eq!((named, rehearsal.ok), (vec!["shop"], false));
        let drawn = draw(&rehearsal);
        assert!(drawn.starts_with("shop runs nowhere, although nothing is lost: "), "{drawn}");
        assert!(!drawn.contains("everything survives"), "{drawn}");
    }

    #[test]
    fn a_node_that_nothing_proves_off_holds_what_it_ran() {
        let rehearsal = rehearsal_of(SHOP, 2);
        let alone = find(&rehearsal, "device power");
        assert!(alone.survives && alone.moved.is_empty(), "{alone:?}");
        assert_eq!(alone.unfenceable, ["a", "b", "c"]);
        let both = find(&rehearsal, "b and device power");
        let held: Vec<(&str, &str)> =
            both.stopped.iter().map(|stopped| (stopped.resource.as_str(), stopped.reason.as_str())).collect();
        let why = "b cannot be proven off without power";
        assert_eq!((held, both.survives), (vec![("address", why), ("web", why)], false));
    }

    #[test]
    fn networks_and_witnesses_are_lost_as_well() {
        let witness = "[nodes.w]\nlinks = [\"10.1.0.4\"]\nrole = \"witness\"\n";
        let two = SHOP.replace("[nodes.c]\nlinks = [\"10.0.0.3\", \"10.1.0.3\"]\nfence = [\"power\"]\n", witness);
        let rehearsal = rehearsal_of(&two, 2);
        assert!(find(&rehearsal, "witness w").survives && find(&rehearsal, "network 1").quorate);
        let with_a = find(&rehearsal, "a and witness w");
        assert!(!with_a.quorate && with_a.moved.is_empty(), "{with_a:?}");
        assert!(!find(&rehearsal, "b and witness w").survives);
        // The witness has one link, in network 1: without it and with a node lost there is no majority.
        assert!(!find(&rehearsal, "b and network 1").quorate);
        // Nobody hears anybody: everything goes on as it is, and nothing is started.
        let cut = find(&rehearsal, "network 1 and network 2");
        assert!(!cut.quorate && cut.survives && cut.moved.is_empty(), "{cut:?}");
        let shared = format!("{two}[networks.1]\ndomain = \"sw\"\n[networks.2]\ndomain = \"sw\"\n");
        assert!(!find(&rehearsal_of(&shared, 1), "networks 1 and 2").quorate);
    }

    #[test]
    fn the_return_of_a_node_is_played() {
        assert_eq!(find(&rehearsal_of(SHOP, 1), "b").returned, []);
        let going_home = SHOP.replace("prefer = [\"b\"]\n", "prefer = [\"b\"]\nfailback = true\n");
        let back = |resource: &str| Moved { resource: resource.to_owned(), from: "a".to_owned(), to: "b".to_owned() };
        assert_eq!(find(&rehearsal_of(&going_home, 1), "b").returned, [back("address"), back("web")]);
    }
}
