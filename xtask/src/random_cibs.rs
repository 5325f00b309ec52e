//! Random small Pacemaker clusters: does the scheduler make a sound plan for each, and the one that Pacemaker makes?
//!
//! A seed always gives the same CIB, to the byte. Each is judged by `cardea plan`; where `crm_simulate` is installed it
//! judges the same CIBs, and differences are printed. They are explained in `docs/coming-from-pacemaker.md`.
//!
//! Not here: large or old clusters (`cargo xtask conformance`), clusters that go wrong while they run (`sim/`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// What the agents of all resources are: Pacemaker's own, which do nothing.
const NO_PARAMETERS: &str = "f2317cad3d54cec5d7d7aa7d0bf35cf8";
const MONITOR_OF_20_S: &str = "4811cef7f7f94e3a35a70be7916cb2fd";
/// When everything was recorded, and the time of the decision: seconds since 1970.
const THEN: u64 = 1_700_000_000;
const NOW: u64 = 1_700_000_600;

/// Makes, judges and compares them.
pub(crate) fn run(seeds: u64, first: u64, out: Option<PathBuf>) -> Result<()> {
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().exec().context("asking cargo for the workspace")?;
    let target: PathBuf = metadata.target_directory.into();
    let folder = out.unwrap_or_else(|| target.join("random-cibs"));
    let (cibs, judged) = (folder.join("cibs"), folder.join("judged"));
    for empty in [&cibs, &judged] {
        if empty.exists() {
            fs::remove_dir_all(empty).with_context(|| format!("emptying {}", empty.display()))?;
        }
        fs::create_dir_all(empty).with_context(|| format!("making {}", empty.display()))?;
    }
    let names: Vec<String> = (first..first.saturating_add(seeds)).map(|seed| format!("{seed:06}")).collect();
    for (seed, name) in (first..).zip(&names) {
        let file = cibs.join(format!("{name}.xml"));
        fs::write(&file, cib(seed)).with_context(|| format!("writing {}", file.display()))?;
    }
    ensure!(!names.is_empty(), "name at least one seed");
    let status = Command::new(env!("CARGO")).args(["build", "--release"]).status().context("starting cargo")?;
    ensure!(status.success(), "cargo build {status}");
    let cardea = target.join("release/cardea");
    let mut judge = Command::new(&cardea);
    judge.args(["plan", "--cib-dir"]).arg(&cibs).arg("--out").arg(&judged);
    let status = judge.status().context("starting cardea")?;
    ensure!(status.success(), "cardea plan {status}; the last file in {} is the one before it", judged.display());
    let has_peer = Command::new("crm_simulate").arg("--version").output().is_ok();
    let mut counts: BTreeMap<Agreement, usize> = BTreeMap::new();
    for name in &names {
        let file = cibs.join(format!("{name}.xml"));
        let ours = read_json(&judged.join(format!("{name}.json")))?;
        check(&ours).with_context(|| format!("{}", file.display()))?;
        round_trip(&cardea, &file, &folder, &ours).with_context(|| format!("{}", file.display()))?;
        if has_peer && let Some(theirs) = of_peer(&file)? {
            let ours = of_plan(&ours);
            let agreement = agreement(&ours, &theirs);
            *counts.entry(agreement).or_default() += 1;
            if agreement == Agreement::Differs {
                println!("{}\n{}", file.display(), difference(&ours, &theirs));
            }
        }
    }
    println!(
        "{} CIBs: no plan panics, goes in a circle, or differs from that of the cluster file made of it",
        names.len()
    );
    if !has_peer {
        println!("NOT COMPARED: there is no crm_simulate here (Debian: pacemaker-cli-utils)");
        return Ok(());
    }
    let count = |agreement: Agreement| counts.get(&agreement).copied().unwrap_or(0);
    let compared: usize = counts.values().sum();
    println!("beside crm_simulate, of {compared} that it judged:");
    println!("  {} do the same", count(Agreement::Same));
    println!("  {} also end checks in maintenance, as newer releases do", count(Agreement::EndsChecks));
    println!("  {} leave instances where they are that it makes change places", count(Agreement::StaysInPlace));
    println!("  {} differ otherwise, and are shown above", count(Agreement::Differs));
    ensure!(
        count(Agreement::Differs) * 50 <= compared,
        "more than 2 in 100 differ for another reason than a known one"
    );
    Ok(())
}

/// How two plans for one cluster agree. `docs/coming-from-pacemaker.md` explains the known differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Agreement {
    Same,
    /// Checks end in maintenance; older releases let them run on.
    EndsChecks,
    /// Older releases stop instances of a clone and start others in their places, for nothing.
    StaysInPlace,
    Differs,
}

fn agreement(ours: &[String], theirs: &[String]) -> Agreement {
    let is_cancel = |line: &&String| line.starts_with("cancel ");
    let plain = |lines: &[String]| lines.iter().filter(|line| !is_cancel(line)).cloned().collect::<Lines>();
    let (plain_ours, plain_theirs) = (plain(ours), plain(theirs));
    if ours == theirs {
        return Agreement::Same;
    }
    if plain_ours == plain_theirs {
        return Agreement::EndsChecks;
    }
    let mut only_there = plain_theirs;
    for line in &plain_ours {
        match only_there.iter().position(|there| there == line) {
            Some(at) => _ = only_there.swap_remove(at),
            None => return Agreement::Differs,
        }
    }
    let begun =
        |action: &str| -> BTreeSet<&str> { only_there.iter().filter_map(|line| line.strip_prefix(action)).collect() };
    let (stops, starts) = (begun("stop "), begun("start "));
    let is_instance = |line: &str| {
        let resource = line.split(' ').nth(1).unwrap_or_default();
        resource.starts_with(['c', 's']) && resource.ends_with('i')
    };
    let is_swap = !stops.is_empty() && stops == starts && only_there.iter().all(|line| is_instance(line));
    if is_swap { Agreement::StaysInPlace } else { Agreement::Differs }
}

fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

/// Is it a plan, and does nothing in it wait for itself?
fn check(judged: &Value) -> Result<()> {
    if let Some(why) = judged.get("unsupported") {
        bail!("it was not planned: {why}");
    }
    let pairs = judged["order"].as_array().context("a plan has an order")?;
    let number = |value: &Value| value.as_u64().context("an order is of numbers");
    let pairs: Vec<(u64, u64)> =
        pairs.iter().map(|pair| Ok((number(&pair[0])?, number(&pair[1])?))).collect::<Result<_>>()?;
    ensure!(!goes_in_a_circle(&pairs), "the plan goes in a circle: {}", judged["order"]);
    Ok(())
}

/// Takes out what waits for nothing that is left, until nothing changes.
fn goes_in_a_circle(pairs: &[(u64, u64)]) -> bool {
    let mut left = pairs.to_vec();
    loop {
        let waiting: BTreeSet<u64> = left.iter().map(|(_, then)| *then).collect();
        let before = left.len();
        left.retain(|(first, _)| waiting.contains(first));
        if left.len() == before {
            return !left.is_empty();
        }
    }
}

/// Does the cluster file that is made of a CIB do there what the CIB does?
fn round_trip(cardea: &Path, cib: &Path, folder: &Path, ours: &Value) -> Result<()> {
    let file = folder.join("file.toml");
    let run = |command: &mut Command| -> Result<Vec<u8>> {
        let output = command.output().context("starting cardea")?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    };
    if file.exists() {
        fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
    }
    run(Command::new(cardea).args(["import", "pacemaker"]).arg(cib).arg("--out").arg(&file))?;
    let told = run(Command::new(cardea).arg("plan").arg(&file).arg("--status").arg(cib).arg("--json"))?;
    let told: Value = serde_json::from_slice(&told).context("reading what `cardea plan --json` says")?;
    let (from_file, from_cib) = (of_plan(&told), of_plan(ours));
    ensure!(
        from_file == from_cib,
        "the cluster file made of it does something else:\n{}",
        difference(&from_file, &from_cib)
    );
    Ok(())
}

/// Actions, one a line, sorted; numbers of instances that are all alike left out.
type Lines = Vec<String>;

fn without_number(resource: &str) -> &str {
    resource.split_once(':').map_or(resource, |(name, _)| name)
}

fn of_plan(judged: &Value) -> Lines {
    let actions = judged["actions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Lines = actions
        .iter()
        .map(|action| {
            let text = |key: &str| action[key].as_str().unwrap_or_default();
            let (resource, node) = (without_number(text("resource")), text("node"));
            match (text("action"), action["interval"].as_u64()) {
                ("fence", _) => format!("fence {node} {}", text("op")),
                ("shutdown", _) => format!("shutdown {node}"),
                (name, Some(interval)) => format!("{name} {resource} {node} {interval}"),
                (name, None) => format!("{name} {resource} {node}"),
            }
        })
        .collect();
    lines.sort();
    lines
}

/// What `crm_simulate` does; none if it gives up.
fn of_peer(cib: &Path) -> Result<Option<Lines>> {
    let output = Command::new("crm_simulate").args(["--simulate", "--xml-file"]).arg(cib).output();
    let output = output.context("starting crm_simulate")?;
    if !output.status.success() {
        println!("{}: crm_simulate ended with {}", cib.display(), output.status);
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let executed = text.lines().skip_while(|line| !line.starts_with("Executing Cluster"));
    let executed = executed.take_while(|line| !line.starts_with("Revised"));
    let mut lines: Lines = executed.filter_map(peer_line).collect();
    lines.sort();
    Ok(Some(lines))
}

/// `* Resource action: db  monitor=10000 on a`, `* Fencing a (reboot)`, `* Cluster action: do_shutdown on a`.
fn peer_line(line: &str) -> Option<String> {
    let line = line.trim_start().strip_prefix("* ")?;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if let Some(rest) = line.strip_prefix("Fencing ") {
        let (node, how) = rest.split_once(" (")?;
        return Some(format!("fence {node} {}", how.trim_end_matches(')')));
    }
    if let Some(rest) = line.strip_prefix("Cluster action:") {
        return match &words(rest)[..] {
            [action, on, node] if action == "do_shutdown" && on == "on" => Some(format!("shutdown {node}")),
            [action, _, resource, _, node] => Some(format!("{action} {} {node}", without_number(resource))),
            _ => None,
        };
    }
    let [resource, action, _, node] = &words(line.strip_prefix("Resource action:")?)[..] else { return None };
    let resource = without_number(resource);
    Some(match action.split_once('=') {
        Some((name, interval)) => format!("{name} {resource} {node} {interval}"),
        None if action == "monitor" => format!("probe {resource} {node}"),
        None => format!("{action} {resource} {node}"),
    })
}

/// Lines that only one of them has.
fn difference(ours: &[String], theirs: &[String]) -> String {
    let mut counts: BTreeMap<&String, i64> = BTreeMap::new();
    ours.iter().for_each(|line| *counts.entry(line).or_default() += 1);
    theirs.iter().for_each(|line| *counts.entry(line).or_default() -= 1);
    let mut text = String::new();
    for (line, count) in counts.into_iter().filter(|(_, count)| *count != 0) {
        let _ = writeln!(text, "  {} {line}", if count > 0 { "only here: " } else { "only there:" });
    }
    text
}

/// Xorshift: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..8).for_each(|_| _ = dice.below(2));
        dice
    }

    /// Below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % limit.max(1) as u64) as usize
    }

    /// Once in so many.
    fn is(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn of<'t>(&mut self, words: &[&'t str]) -> &'t str {
        words[self.below(words.len())]
    }
}

/// What a resource at the top is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Primitive,
    Group,
    Clone,
    Promotable,
}

struct Top {
    name: String,
    shape: Shape,
    /// The primitives in it.
    inner: Vec<String>,
}

/// The CIB of a seed.
fn cib(seed: u64) -> String {
    let dice = &mut Dice::new(seed);
    let nodes: Vec<&str> = ["a", "b", "c"][..2 + dice.below(2)].to_vec();
    let tops: Vec<Top> = (0..1 + dice.below(3)).map(|at| top(dice, at)).collect();
    let resources: String = tops.iter().map(|top| written(dice, top)).collect();
    let constraints = constraints(dice, &tops, &nodes);
    let status = status(dice, &tops, &nodes);
    let mut options = vec![("stonith-enabled", "false")];
    if dice.is(12) {
        options.push(("symmetric-cluster", "false"));
    }
    if dice.is(12) {
        options.push(("maintenance-mode", "true"));
    }
    let has_quorum = !dice.is(8);
    if dice.is(3) {
        options.push(("no-quorum-policy", dice.of(&["stop", "freeze", "ignore", "demote"])));
    }
    let node_list: String =
        nodes.iter().zip(1..).map(|(node, id)| format!("   <node id=\"{id}\" uname=\"{node}\"/>\n")).collect();
    format!(
        "<cib crm_feature_set=\"3.16.1\" validate-with=\"pacemaker-3.9\" epoch=\"1\" num_updates=\"0\" admin_epoch=\"0\" \
         have-quorum=\"{}\" dc-uuid=\"1\" execution-date=\"{NOW}\">\n <configuration>\n  <crm_config>\n   \
         <cluster_property_set id=\"cib-bootstrap-options\">\n{}   </cluster_property_set>\n  </crm_config>\n  <nodes>\n\
         {node_list}  </nodes>\n  <resources>\n{resources}  </resources>\n  <constraints>\n{constraints}  </constraints>\n \
         </configuration>\n <status>\n{status} </status>\n</cib>\n",
        u8::from(has_quorum),
        pairs("o", &options)
    )
}

fn pairs(id: &str, pairs: &[(&str, &str)]) -> String {
    let one =
        |(name, value): &(&str, &str)| format!("    <nvpair id=\"{id}-{name}\" name=\"{name}\" value=\"{value}\"/>\n");
    pairs.iter().map(one).collect()
}

fn top(dice: &mut Dice, at: usize) -> Top {
    let shape = [Shape::Primitive, Shape::Primitive, Shape::Group, Shape::Clone, Shape::Promotable][dice.below(5)];
    let (name, inner) = match shape {
        Shape::Primitive => (format!("p{at}"), vec![format!("p{at}")]),
        Shape::Group => (format!("g{at}"), (0..2 + dice.below(2)).map(|member| format!("g{at}m{member}")).collect()),
        Shape::Clone => (format!("c{at}"), vec![format!("c{at}i")]),
        Shape::Promotable => (format!("s{at}"), vec![format!("s{at}i")]),
    };
    Top { name, shape, inner }
}

/// As it stands in the CIB.
fn written(dice: &mut Dice, top: &Top) -> String {
    let mut settings = Vec::new();
    let mut own: Vec<(&str, &str)> = Vec::new();
    match top.shape {
        Shape::Primitive | Shape::Group | Shape::Clone => {}
        Shape::Promotable => own.push(("promotable", "true")),
    }
    if matches!(top.shape, Shape::Clone | Shape::Promotable) {
        for (name, value, one_in) in
            [("interleave", "true", 2), ("clone-max", "2", 5), ("notify", "true", 8), ("ordered", "true", 8)]
        {
            if dice.is(one_in) {
                own.push((name, value));
            }
        }
    }
    if dice.is(4) {
        own.push(("resource-stickiness", dice.of(&["1", "100", "INFINITY"])));
    }
    if dice.is(14) {
        own.push(("target-role", "Stopped"));
    }
    if dice.is(10) {
        own.push(("priority", "5"));
    }
    for name in &top.inner {
        let mut meta: Vec<(&str, &str)> = Vec::new();
        if dice.is(10) {
            meta.push(("is-managed", "false"));
        }
        if dice.is(20) {
            meta.push(("maintenance", "true"));
        }
        if dice.is(5) {
            meta.push(("migration-threshold", "3"));
        }
        if dice.is(8) {
            meta.push(("failure-timeout", dice.of(&["60", "3600"])));
        }
        if top.shape != Shape::Promotable && dice.is(7) {
            meta.push(("allow-migrate", "true"));
        }
        if dice.is(12) {
            meta.push(("multiple-active", dice.of(&["stop_only", "block", "stop_unexpected"])));
        }
        if top.shape == Shape::Group && dice.is(10) {
            meta.push(("critical", "false"));
        }
        let on_fail = if dice.is(10) { dice.of(&["ignore", "block", "stop", "restart"]) } else { "" };
        let on_fail = if on_fail.is_empty() { String::new() } else { format!(" on-fail=\"{on_fail}\"") };
        let mut text = String::new();
        let agent = if top.shape == Shape::Promotable { "Stateful" } else { "Dummy" };
        let _ = write!(
            text,
            "   <primitive id=\"{name}\" class=\"ocf\" provider=\"pacemaker\" type=\"{agent}\">\n    <operations>\n     \
             <op id=\"{name}-mon\" name=\"monitor\" interval=\"10s\" timeout=\"20s\"{on_fail}/>\n    </operations>\n"
        );
        if top.shape == Shape::Primitive {
            meta.append(&mut own);
        }
        if !meta.is_empty() {
            let _ = write!(
                text,
                "    <meta_attributes id=\"{name}-m\">\n{}    </meta_attributes>\n",
                pairs(&format!("{name}-m"), &meta)
            );
        }
        text += "   </primitive>\n";
        settings.push(text);
    }
    let inner = settings.concat();
    let element = match top.shape {
        Shape::Primitive => return inner,
        Shape::Group => "group",
        Shape::Clone | Shape::Promotable => "clone",
    };
    let name = &top.name;
    let meta = if own.is_empty() {
        String::new()
    } else {
        format!("   <meta_attributes id=\"{name}-m\">\n{}   </meta_attributes>\n", pairs(&format!("{name}-m"), &own))
    };
    format!("   <{element} id=\"{name}\">\n{meta}{inner}   </{element}>\n")
}

fn constraints(dice: &mut Dice, tops: &[Top], nodes: &[&str]) -> String {
    let mut text = String::new();
    for (at, top) in tops.iter().enumerate() {
        if dice.is(2) {
            let score = dice.of(&["10", "100", "-50", "INFINITY", "-INFINITY"]);
            let node = dice.of(nodes);
            let _ = writeln!(
                text,
                "   <rsc_location id=\"l{at}\" rsc=\"{}\" node=\"{node}\" score=\"{score}\"/>",
                top.name
            );
        }
        if at == 0 {
            continue;
        }
        let other = &tops[dice.below(at)];
        if dice.is(3) {
            let score = dice.of(&["INFINITY", "INFINITY", "-INFINITY", "100", "-100"]);
            let mut roles = String::new();
            if other.shape == Shape::Promotable && dice.is(2) {
                roles = format!(" with-rsc-role=\"{}\"", dice.of(&["Promoted", "Unpromoted"]));
            }
            let _ = writeln!(
                text,
                "   <rsc_colocation id=\"k{at}\" rsc=\"{}\" with-rsc=\"{}\" score=\"{score}\"{roles}/>",
                top.name, other.name
            );
        }
        if dice.is(3) {
            let (first, then) = if dice.is(4) { (top, other) } else { (other, top) };
            let promotes = first.shape == Shape::Promotable && dice.is(2);
            let action = if promotes { " first-action=\"promote\" then-action=\"start\"" } else { "" };
            let kind = dice.of(&["Mandatory", "Mandatory", "Mandatory", "Optional", "Serialize"]);
            let one_way = if kind != "Serialize" && dice.is(6) { " symmetrical=\"false\"" } else { "" };
            let _ = writeln!(
                text,
                "   <rsc_order id=\"q{at}\" first=\"{}\" then=\"{}\" kind=\"{kind}\"{action}{one_way}/>",
                first.name, then.name
            );
        }
    }
    text
}

/// What a node knows of a primitive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Stopped,
    Started,
    Promoted,
    /// It ran, and a check found it failed with this answer.
    Failed(u8),
    /// A start did not succeed.
    NotStarted,
    NotStopped,
    Nothing,
}

fn status(dice: &mut Dice, tops: &[Top], nodes: &[&str]) -> String {
    // By node and primitive.
    let mut known: BTreeMap<(&str, &str), Known> = BTreeMap::new();
    for top in tops {
        let home = dice.of(nodes);
        let runs = !dice.is(4);
        // Where a group has got to.
        let active = if dice.is(4) { dice.below(top.inner.len() + 1) } else { top.inner.len() };
        for (at, name) in top.inner.iter().enumerate() {
            for node in nodes {
                let state = match top.shape {
                    Shape::Primitive | Shape::Group if *node == home && runs && at < active => Known::Started,
                    Shape::Primitive | Shape::Group => Known::Stopped,
                    Shape::Clone | Shape::Promotable if dice.is(4) => Known::Stopped,
                    Shape::Promotable if *node == home && runs => Known::Promoted,
                    Shape::Clone | Shape::Promotable => Known::Started,
                };
                known.insert((*node, name.as_str()), state);
            }
            if dice.is(5) {
                let node = dice.of(nodes);
                let failure = match dice.below(6) {
                    0..=2 => Known::Failed(1),
                    3 => Known::Failed(7),
                    4 => Known::NotStarted,
                    _ => Known::NotStopped,
                };
                let state = known.get_mut(&(node, name.as_str())).expect("every node has a state");
                if *state == Known::Started || failure == Known::NotStarted {
                    *state = failure;
                }
            }
            if dice.is(20) {
                // Somebody started it by hand, too.
                let node = dice.of(nodes);
                known.insert((node, name.as_str()), Known::Started);
            }
            if dice.is(15) {
                let node = dice.of(nodes);
                known.insert((node, name.as_str()), Known::Nothing);
            }
        }
    }
    let mut text = String::new();
    let mut call = 0;
    for (node, id) in nodes.iter().zip(1..) {
        let mut attributes: Vec<(String, String)> = Vec::new();
        let mut put = |name: &str, value: &str| attributes.push((name.to_owned(), value.to_owned()));
        let is_gone = id > 1 && dice.is(8);
        if dice.is(5) {
            put("standby", "on");
        } else if dice.is(14) {
            put("maintenance", "true");
        } else if dice.is(14) && !is_gone {
            put("shutdown", "1700000500");
        }
        let mut resources = String::new();
        for top in tops {
            for name in &top.inner {
                let state = known[&(*node, name.as_str())];
                if state == Known::Promoted {
                    put(&format!("master-{name}"), "10");
                } else if top.shape == Shape::Promotable && dice.is(2) {
                    put(&format!("master-{name}"), dice.of(&["5", "10", "-1"]));
                }
                let operation = match state {
                    Known::Failed(_) => Some("monitor_10000"),
                    Known::NotStarted => Some("start_0"),
                    Known::NotStopped => Some("stop_0"),
                    Known::Stopped | Known::Started | Known::Promoted | Known::Nothing => None,
                };
                if let Some(operation) = operation {
                    let count = if operation == "start_0" { "INFINITY" } else { dice.of(&["1", "3"]) };
                    put(&format!("fail-count-{name}#{operation}"), count);
                    put(&format!("last-failure-{name}#{operation}"), &THEN.to_string());
                }
                resources += &history(name, node, top.shape, state, &mut call);
            }
        }
        let presence = if is_gone {
            "in_ccm=\"false\" crmd=\"offline\" join=\"down\" expected=\"down\""
        } else {
            "in_ccm=\"true\" crmd=\"online\" join=\"member\" expected=\"member\""
        };
        if is_gone {
            resources.clear();
            attributes.clear();
        }
        let attributes: Vec<(&str, &str)> =
            attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let _ = write!(
            text,
            "  <node_state id=\"{id}\" uname=\"{node}\" {presence}>\n   <lrm id=\"{id}\">\n    <lrm_resources>\n{resources}    \
             </lrm_resources>\n   </lrm>\n   <transient_attributes id=\"{id}\">\n    <instance_attributes id=\"s{id}\">\n\
             {}    </instance_attributes>\n   </transient_attributes>\n  </node_state>\n",
            attribute_pairs(id, &attributes)
        );
    }
    text
}

/// Names of counts hold characters that no id may.
fn attribute_pairs(node: usize, attributes: &[(&str, &str)]) -> String {
    let one = |(at, (name, value)): (usize, &(&str, &str))| {
        format!("     <nvpair id=\"s{node}-{at}\" name=\"{name}\" value=\"{value}\"/>\n")
    };
    attributes.iter().enumerate().map(one).collect()
}

fn history(name: &str, node: &str, shape: Shape, state: Known, call: &mut u32) -> String {
    let agent = if shape == Shape::Promotable { "Stateful" } else { "Dummy" };
    let mut records = String::new();
    // The operation, milliseconds between two, the answer, the one that was expected.
    let mut record = |id: &str, operation: &str, every_ms: u32, answer: u8, expected: u8| {
        *call += 1;
        let status = if answer == expected { 0 } else { 4 };
        let digest = if every_ms > 0 { MONITOR_OF_20_S } else { NO_PARAMETERS };
        let key = format!("{call}:1:{expected}:00000000-0000-4000-8000-000000000000");
        let _ = writeln!(
            records,
            "      <lrm_rsc_op id=\"{name}_{id}\" operation_key=\"{name}_{operation}_{every_ms}\" operation=\"{operation}\" \
             crm_feature_set=\"3.16.1\" transition-key=\"{key}\" transition-magic=\"{status}:{answer};{key}\" call-id=\"{call}\" \
             rc-code=\"{answer}\" op-status=\"{status}\" interval=\"{every_ms}\" last-rc-change=\"{THEN}\" last-run=\"{THEN}\" \
             exec-time=\"1\" queue-time=\"0\" on_node=\"{node}\" op-digest=\"{digest}\"/>"
        );
    };
    match state {
        Known::Nothing => return String::new(),
        Known::Stopped => record("last_0", "monitor", 0, 7, 7),
        Known::Started => {
            record("last_0", "start", 0, 0, 0);
            record("monitor_10000", "monitor", 10_000, 0, 0);
        }
        Known::Promoted => record("last_0", "promote", 0, 0, 0),
        Known::Failed(answer) => {
            record("last_0", "start", 0, 0, 0);
            record("last_failure_0", "monitor", 10_000, answer, 0);
        }
        Known::NotStarted => record("last_failure_0", "start", 0, 1, 0),
        Known::NotStopped => {
            record("last_0", "start", 0, 0, 0);
            record("last_failure_0", "stop", 0, 1, 0);
        }
    }
    format!(
        "     <lrm_resource id=\"{name}\" class=\"ocf\" provider=\"pacemaker\" type=\"{agent}\">\n{records}     </lrm_resource>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_bytes_and_another_seed_others() {
        assert_eq!(cib(7), cib(7));
        let different: BTreeSet<String> = (0..100).map(cib).collect();
        assert!(different.len() > 95, "{} of 100", different.len());
    }

    #[test]
    fn a_circle_is_found() {
        assert!(!goes_in_a_circle(&[(0, 1), (1, 2), (0, 2)]));
        assert!(goes_in_a_circle(&[(0, 1), (1, 2), (2, 1)]));
    }

    #[test]
    fn lines_of_both_are_compared() {
        let ours = of_plan(&serde_json::json!({ "actions": [
            { "action": "monitor", "resource": "db:1", "node": "a", "interval": 10000 },
            { "action": "probe", "resource": "db", "node": "a" },
            { "action": "fence", "node": "b", "op": "reboot" },
        ]}));
        let told = [
            "  * Resource action: db:0            monitor=10000 on a",
            "  * Resource action: db              monitor on a",
            "  * Fencing b (reboot)",
            "  * Pseudo action:   c_start_0",
        ];
        let mut theirs: Lines = told.into_iter().filter_map(peer_line).collect();
        theirs.sort();
        assert_eq!(ours, theirs);
        assert!(difference(&ours, &theirs[1..]).contains("only here:  fence b reboot"));
        assert_eq!(agreement(&ours, &theirs), Agreement::Same);
        let cancel = "cancel db a 10000".to_owned();
        assert_eq!(agreement(&[ours.clone(), vec![cancel]].concat(), &theirs), Agreement::EndsChecks);
        let swap = ["start c1i a", "stop c1i a", "monitor c1i a 10000"].map(str::to_owned);
        assert_eq!(agreement(&ours, &[theirs.clone(), swap.to_vec()].concat()), Agreement::StaysInPlace);
        assert_eq!(agreement(&ours, &[theirs.clone(), swap[1..].to_vec()].concat()), Agreement::Differs);
        assert_eq!(agreement(&ours, &theirs[1..]), Agreement::Differs);
        assert_eq!(peer_line("  * Cluster action:  do_shutdown on a").as_deref(), Some("shutdown a"));
    }
}
