//! `cardea plan --cib`: what would the scheduler do in this Pacemaker cluster?
//!
//! Needs no daemon and changes nothing: the CIB, with its status section, is all there is. A whole folder of them is
//! judged in one process.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use model::ClusterConfig;
use model::situation::Situation;
use scheduler::{Judgement, NoMajority, Supposition, Votes};
use serde_json::{Map, Value, json};

use super::client::Client;
use super::{cib_file, print_json};
use crate::shown;

/// Where the CIBs are, and when they are judged.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("dated").args(["cib", "status"]))]
pub struct CibArgs {
    /// A Pacemaker CIB with its status section, as `cibadmin --query` prints it, plain or packed by gzip or bzip2: shows
    /// what would be done there.
    #[arg(long, value_name = "FILE", conflicts_with = "cib_dir")]
    cib: Option<PathBuf>,
    /// All CIBs of a folder (`*.xml`), each judged into a file of its own.
    #[arg(long, value_name = "DIR", requires = "out")]
    cib_dir: Option<PathBuf>,
    /// Where the judgements of a folder go: `NAME.json` for `NAME.xml`.
    #[arg(long, value_name = "DIR", requires = "cib_dir")]
    out: Option<PathBuf>,
    /// Times of the judgements of a folder: a JSON object of names, each with a `now` or `now_epoch`.
    #[arg(long, value_name = "FILE", requires = "cib_dir")]
    args: Option<PathBuf>,
    /// The time to assume (ISO 8601, or seconds since 1970); else the one that the CIB says, or that of this machine.
    #[arg(long, value_name = "TIME", requires = "dated")]
    now: Option<String>,
    /// Also says how many seconds of processor time reading and planning took.
    #[arg(long)]
    timing: bool,
    /// What if: node=NAME:lost, node=NAME:online, node=NAME:back (it was lost, all that follows was done, and it is there again), standby=NODE, resource=NAME:failed, ticket=NAME:lost, ticket=NAME:granted; may be given
    /// more than once, and happens in the order given.
    #[arg(long = "what-if", value_name = "EVENT", conflicts_with = "cib_dir")]
    what_if: Vec<Supposition>,
    /// Also says for every node what speaks for and against it as the place of this group or resource; may be given more
    /// than once.
    #[arg(long = "why", value_name = "RESOURCE", conflicts_with = "cib_dir")]
    why: Vec<String>,
    /// With a cluster file: what it would do in the cluster that this CIB reports.
    #[arg(long, value_name = "CIB", requires = "file", conflicts_with_all = ["cib", "cib_dir"])]
    status: Option<PathBuf>,
}

/// A CIB, judged.
struct Judged {
    situation: Situation,
    judgement: Judgement,
    remarks: Vec<String>,
    reading: Duration,
    planning: Duration,
}

/// Runs the command.
pub fn run(args: &CibArgs, json: bool) -> anyhow::Result<()> {
    if let Some(folder) = &args.cib_dir {
        return judge_folder(folder, args);
    }
    let path = args.cib.as_ref().context("name a cluster file, or a CIB with --cib")?;
    let now = args.now.as_deref().map(time).transpose()?;
    let judged = judge(path, now, &args.what_if)?;
    if args.timing {
        eprintln!("reading {:.6} s, planning {:.6} s", judged.reading.as_secs_f64(), judged.planning.as_secs_f64());
    }
    if !json {
        for remark in &judged.remarks {
            eprintln!("not understood: {remark}");
        }
        if judged.situation.nodes.iter().all(|node| node.seen.is_none()) {
            println!(
                "this CIB has no status: nothing is known of its nodes; use the one that `cibadmin --query` prints"
            );
        }
    }
    show(&judged.situation, &args.why, None, json)
}

/// Shows what is judged of a situation, with its reasons.
fn show(situation: &Situation, why: &[String], no_majority: Option<&NoMajority>, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(&shown::as_json(situation, why, no_majority)?);
    }
    std::io::stdout().lock().write_all(shown::as_text(situation, why, no_majority)?.as_bytes())?;
    Ok(())
}

fn judge_folder(folder: &Path, args: &CibArgs) -> anyhow::Result<()> {
    let out = args.out.as_ref().context("name the folder for the judgements with --out")?;
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let times = match &args.args {
        None => Map::new(),
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| format!("{} is no JSON object of names", path.display()))?
        }
    };
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "xml"));
    paths.sort();
    ensure!(!paths.is_empty(), "there is no CIB (*.xml) in {}", folder.display());
    let (mut reading, mut planning) = (Duration::ZERO, Duration::ZERO);
    for path in &paths {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let now = times.get(&name).map(time_of_case).transpose().with_context(|| format!("the time of {name}"))?;
        let answer = match judge(path, now.flatten(), &[]) {
            Ok(judged) => {
                reading += judged.reading;
                planning += judged.planning;
                shown::judgement(&judged.judgement)?
            }
            Err(cause) => json!({ "unsupported": format!("{cause:#}") }),
        };
        let file = out.join(format!("{name}.json"));
        fs::write(&file, answer.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.timing {
        let (reading, planning) = (reading.as_secs_f64(), planning.as_secs_f64());
        eprintln!("{} CIBs: reading {reading:.6} s, planning {planning:.6} s", paths.len());
    }
    println!("{} CIBs judged into {}", paths.len(), out.display());
    Ok(())
}

/// Shows what would be done in the running cluster if something happened now.
pub fn run_now(client: &Client, args: &CibArgs, json: bool) -> anyhow::Result<()> {
    let what_if: Vec<String> = args.what_if.iter().map(ToString::to_string).collect();
    let answer: Value = client.post("/v1/what-if", &json!({ "what_if": what_if, "why": args.why, "json": json }))?;
    match answer.as_str() {
        Some(text) => std::io::stdout().lock().write_all(text.as_bytes())?,
        None => print_json(&answer)?,
    }
    Ok(())
}

impl CibArgs {
    /// Is there a CIB to judge?
    pub fn is_named(&self) -> bool {
        self.cib.is_some() || self.cib_dir.is_some()
    }

    /// Is something else asked for than what the running cluster would do?
    pub fn is_hypothetical(&self) -> bool {
        !self.what_if.is_empty() || !self.why.is_empty() || self.status.is_some()
    }
}

/// Shows what a file would do: where a CIB reports the state, there; if something is supposed, with everything where it
/// belongs; else with nothing running.
pub fn run_file(text: &str, args: &CibArgs, json: bool) -> anyhow::Result<()> {
    let (mut situation, config) = of_file(text)?;
    let mut votes = None;
    if let Some(path) = &args.status {
        let now = args.now.as_deref().map(time).transpose()?;
        let cib = cib_file::read(path)?;
        let imported = import::cib(&cib, now.map_or_else(recorded_or_now, import::Time::At))
            .with_context(|| format!("{} says no state", path.display()))?;
        situation = import::with_status(situation, &imported.situation);
    } else if !args.what_if.is_empty() || !args.why.is_empty() {
        situation = settled(&situation);
        votes = Some(votes_of(&config));
    }
    scheduler::suppose_all(&mut situation, &args.what_if, votes.as_mut())?;
    let no_majority = votes.and_then(|votes| votes.majority(&situation).err());
    show(&situation, &args.why, no_majority.as_ref(), json)
}

/// Every node of a file votes.
pub fn votes_of(config: &ClusterConfig) -> Votes {
    Votes { voters: config.nodes.keys().cloned().collect(), ..Votes::default() }
}

/// The cluster of a file, every node up and nothing running, and what the file says in plain words.
pub fn of_file(text: &str) -> anyhow::Result<(Situation, ClusterConfig)> {
    match config::parse_for_planning(text) {
        Ok(parsed) => {
            let expert = parsed.expert.unwrap_or_default();
            Ok((expert.situation(&parsed.config, scheduler::situation_of), parsed.config))
        }
        Err(_) => bail!("the cluster file has mistakes; `cardea check FILE` shows them"),
    }
}

/// A situation with everything done that is to be done.
pub fn settled(situation: &Situation) -> Situation {
    scheduler::carried_out(situation, &scheduler::judge(situation))
}

fn judge(path: &Path, now: Option<i64>, what_if: &[Supposition]) -> anyhow::Result<Judged> {
    let text = cib_file::read(path)?;
    let begun = processor_time();
    let time = now.map_or_else(recorded_or_now, import::Time::At);
    let mut imported = import::cib(&text, time).with_context(|| format!("{} cannot be planned", path.display()))?;
    scheduler::suppose_all(&mut imported.situation, what_if, None)?;
    let read = processor_time();
    let judgement = scheduler::judge(&imported.situation);
    let planned = processor_time();
    Ok(Judged {
        situation: imported.situation,
        judgement,
        remarks: imported
            .not_understood
            .iter()
            .chain(&import::against_schema(&text))
            .map(|remark| format!("{}: {}", remark.place, remark.what))
            .collect(),
        reading: read.saturating_sub(begun),
        planning: planned.saturating_sub(read),
    })
}

/// The time that a CIB says, else that of this machine.
pub fn recorded_or_now() -> import::Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    import::Time::Recorded { otherwise: i64::try_from(now.as_secs()).unwrap_or(i64::MAX) }
}

/// What this process has used of the processor.
fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(used.tv_sec).unwrap_or(0), u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// A time as people type it: ISO 8601, or seconds since 1970.
pub fn time(text: &str) -> anyhow::Result<i64> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    match import::time_of(text) {
        Some(seconds) => Ok(seconds),
        None => bail!("`{text}` is no time; write it as 2026-03-01T12:00:00Z, or as seconds since 1970"),
    }
}

fn time_of_case(case: &Value) -> anyhow::Result<Option<i64>> {
    match (case.get("now_epoch"), case.get("now")) {
        (Some(seconds), _) => Ok(Some(seconds.as_i64().context("`now_epoch` is no number of seconds")?)),
        (None, Some(text)) => Ok(Some(match text.as_i64() {
            Some(seconds) => seconds,
            None => time(text.as_str().context("`now` is no time")?)?,
        })),
        (None, None) => Ok(None),
    }
}

/// The object that is compared with what other schedulers decide.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_a_number() {
        assert_eq!(time("86400").unwrap(), 86_400);
        assert_eq!(time("1970-01-02T00:00:00Z").unwrap(), 86_400);
        let said = time("tomorrow").unwrap_err().to_string();
        assert!(said.contains("`tomorrow` is no time") && said.contains("1970"), "{said}");
    }
}
