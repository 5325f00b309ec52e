//! `cardea rehearse`: does everything survive the loss of a node, and of two?
//!
//! Every loss is played through the scheduler, from the state in which everything is where it belongs. Needs no daemon.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use model::NodeName;
use model::situation::{NodeKind, Resource, ResourceKind, Role, Situation};
use scheduler::{Judgement, Place, Supposition};
use serde::Serialize;

use super::{check, plan_cib, print_json};

/// Plays every loss of a node through: what survives, what starts where, what cannot run.
///
/// Exit status 1 if something does not survive.
#[derive(Args, Debug)]
pub struct RehearseArgs {
    /// The cluster file.
    #[arg(required_unless_present = "cib", conflicts_with = "cib")]
    file: Option<PathBuf>,
    /// A Pacemaker CIB instead of a cluster file.
    #[arg(long, value_name = "FILE")]
    cib: Option<PathBuf>,
    /// Nodes that are lost at once, at most.
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
    losses: Vec<Loss>,
}

/// What follows from one loss.
#[derive(Debug, Serialize)]
struct Loss {
    lost: Vec<String>,
    /// Is a majority left?
    quorate: bool,
    survives: bool,
    moved: Vec<Moved>,
    stopped: Vec<Stopped>,
    overloaded: Vec<Overloaded>,
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
    let (situation, votes) = match (&args.file, &args.cib) {
        (Some(file), _) => {
            let text = check::read(file)?;
            let witnesses = config::parse_for_planning(&text).map_or(0, |parsed| {
                parsed.config.nodes.values().filter(|node| node.role == model::NodeRole::Witness).count()
            });
            (plan_cib::of_file(&text)?, Votes { witnesses, one_of_two_goes_on: false })
        }
        (None, Some(cib)) => {
            let text = std::fs::read_to_string(cib).with_context(|| format!("cannot read {}", cib.display()))?;
            let imported = import::cib(&text, plan_cib::recorded_or_now())
                .with_context(|| format!("{} cannot be rehearsed", cib.display()))?;
            (imported.situation, Votes { witnesses: 0, one_of_two_goes_on: true })
        }
        (None, None) => anyhow::bail!("name a cluster file, or a CIB with --cib"),
    };
    let rehearsal = rehearse(&situation, args.failures, votes)?;
    if args.json {
        print_json(&rehearsal)?;
    } else {
        std::io::stdout().lock().write_all(draw(&rehearsal).as_bytes())?;
    }
    Ok(i32::from(!rehearsal.ok))
}

/// Who votes besides the nodes that run something.
#[derive(Clone, Copy, Debug)]
struct Votes {
    witnesses: usize,
    /// Two nodes alone: the one that is left goes on, as Pacemaker's are usually set up.
    one_of_two_goes_on: bool,
}

impl Votes {
    fn is_majority_left(self, nodes: usize, lost: usize) -> bool {
        let all = nodes + self.witnesses;
        let left = all.saturating_sub(lost);
        left * 2 > all || (self.one_of_two_goes_on && all == 2 && left == 1)
    }
}

/// By resource: where it runs.
type Places = BTreeMap<String, Vec<Place>>;

fn rehearse(situation: &Situation, failures: u8, votes: Votes) -> anyhow::Result<Rehearsal> {
    let base = plan_cib::settled(situation);
    let before = scheduler::judge(&base).placement();
    let nodes: Vec<&NodeName> =
        base.nodes.iter().filter(|node| node.kind == NodeKind::Member).map(|node| &node.name).collect();
    let mut sets: Vec<Vec<&NodeName>> = nodes.iter().map(|node| vec![*node]).collect();
    if failures > 1 {
        for (at, first) in nodes.iter().enumerate() {
            sets.extend(nodes[at + 1..].iter().map(|second| vec![*first, *second]));
        }
    }
    let mut losses = Vec::new();
    for lost in sets {
        let mut then = base.clone();
        for node in &lost {
            scheduler::suppose(&mut then, &Supposition::NodeLost((*node).clone()))?;
        }
        then.options.has_quorum = votes.is_majority_left(nodes.len(), lost.len());
        losses.push(loss(&then, &before, &scheduler::judge(&then), &lost));
    }
    Ok(Rehearsal { version: 1, ok: losses.iter().all(|loss| loss.survives), losses })
}

fn loss(situation: &Situation, before: &Places, after: &Judgement, lost: &[&NodeName]) -> Loss {
    let places_after = after.placement();
    let is_lost = |node: &str| lost.iter().any(|lost| lost.as_str() == node);
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
                        why_stopped(after, resource)
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
        lost: lost.iter().map(|node| node.0.clone()).collect(),
        quorate: situation.options.has_quorum,
        survives: stopped.is_empty(),
        moved,
        stopped,
        overloaded,
    }
}

fn why_stopped(after: &Judgement, resource: &str) -> String {
    let told = after.decisions.iter().find(|told| told.resource.as_deref() == Some(resource));
    match told.and_then(|told| told.reason.as_deref()) {
        Some("no node can run it") | None => "no node is left that may run it".to_owned(),
        Some(reason) => reason.to_owned(),
    }
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
    table.set_header(["lost", "starts elsewhere", "cannot run", "carries too much"]);
    for loss in &rehearsal.losses {
        let moved: Vec<String> = loss.moved.iter().map(|moved| format!("{} on {}", moved.resource, moved.to)).collect();
        let stopped: Vec<String> =
            loss.stopped.iter().map(|stopped| format!("{}: {}", stopped.resource, stopped.reason)).collect();
        let overloaded: Vec<String> = loss
            .overloaded
            .iter()
            .map(|over| format!("{}: {} of {} {}", over.node, over.used, over.has, over.capacity))
            .collect();
        table.add_row([loss.lost.join(" and "), moved.join("\n"), stopped.join("\n"), overloaded.join("\n")]);
    }
    let bad = rehearsal.losses.iter().filter(|loss| !loss.survives).count();
    let end = match (bad, rehearsal.losses.len()) {
        (0, all) => format!("everything survives each of {all} losses\n"),
        (bad, all) => format!("something does not survive in {bad} of {all} losses\n"),
    };
    format!("{table}\n{end}")
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

    #[test]
    fn a_group_survives_each_node_alone() {
        let situation = plan_cib::of_file(SHOP).unwrap();
        let rehearsal = rehearse(&situation, 2, Votes { witnesses: 0, one_of_two_goes_on: false }).unwrap();
        assert_eq!(rehearsal.losses.len(), 6);
        let without_b = rehearsal.losses.iter().find(|loss| loss.lost == ["b"]).unwrap();
        let on_a = |resource: &str| Moved { resource: resource.to_owned(), from: "b".to_owned(), to: "a".to_owned() };
        assert_eq!(without_b.moved, [on_a("address"), on_a("web")]);
        assert!(rehearsal.losses.iter().filter(|loss| loss.lost.len() == 1).all(|loss| loss.survives));
        let without_a = rehearsal.losses.iter().find(|loss| loss.lost == ["a"]).unwrap();
        assert_eq!(without_a.moved, []);
        // One of three is no majority: what two lost nodes ran starts nowhere.
        let without_two = rehearsal.losses.iter().find(|loss| loss.lost == ["b", "c"]).unwrap();
        assert!(!without_two.quorate && !without_two.survives && without_two.moved.is_empty(), "{without_two:?}");
        assert!(!rehearsal.ok);
    }
}
