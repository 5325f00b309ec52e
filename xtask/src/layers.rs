//! Do dependencies go downhill?
//!
//! ARCHITECTURE §3 as a table: who may know whom inside the workspace, which foreign crates are pure enough for `core/`,
//! and that nothing the product is made of can turn a planted bug on. The facts come from `cargo metadata` and
//! `cargo tree`; the judgement is functions over plain data, so that tests show that it can fail.
//!
//! Judged are the dependencies that end in a program (normal and build). What a test needs is judged only where it
//! would let `core/` touch the world.
//! Not here: calls of std that read clocks or files (`core/clippy.toml`), licences (`deny.toml`).

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// Everything that decides, but what reads files of people (`config`, `import`) or is asked by them (`api`).
const MACHINE: [&str; 9] =
    ["consensus", "executor", "fencing", "liveness", "model", "quorum", "scheduler", "state", "wire"];

/// Which foreign crates `core/` may use: they compute and do nothing else. md-5 and roxmltree read foreign formats.
const PURE: [&str; 12] = [
    "md-5",
    "minicbor",
    "protobuf",
    "raft",
    "roxmltree",
    "serde",
    "siphasher",
    "slog",
    "strsim",
    "thiserror",
    "toml",
    "toml_edit",
];

/// Where a crate lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Core,
    Io,
    Apps,
    Sim,
    Tools,
}

/// A crate of the workspace and what it needs.
#[derive(Clone, Debug)]
struct Crate {
    name: String,
    place: Place,
    /// Normal and build dependencies by package name.
    needs: Vec<String>,
    /// What only its tests need.
    tests_need: Vec<String>,
    /// Does its manifest take over the lints of the workspace?
    inherits_lints: bool,
}

/// Checks the workspace of the current folder.
pub(crate) fn check() -> Result<()> {
    let crates = crates()?;
    let mut faults = judge(&crates);
    faults.extend(judge_features(&feature_tree("cardea")?, &feature_tree("sim")?));
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    println!("layers: {} crates, every dependency goes downhill; the product sees no planted bug", crates.len());
    Ok(())
}

/// Everything that is wrong, one line each.
fn judge(crates: &[Crate]) -> Vec<String> {
    let ours: BTreeSet<&str> = crates.iter().map(|c| c.name.as_str()).collect();
    let core: BTreeSet<&str> = crates.iter().filter(|c| c.place == Place::Core).map(|c| c.name.as_str()).collect();
    let mut faults = Vec::new();
    for krate in crates {
        let Crate { name, place, .. } = krate;
        let Some(allowed) = may_know(name, *place, crates) else {
            faults.push(format!("{name}: is not in the table of layers; add it to xtask/src/layers.rs"));
            continue;
        };
        for need in &krate.needs {
            if ours.contains(need.as_str()) {
                if !allowed.contains(&need.as_str()) {
                    faults.push(format!("{name} may not depend on {need}; it may know: {}", allowed.join(", ")));
                }
            } else if !may_use(name, *place, need) {
                faults.push(format!("{name} may not use {need}: core/ knows pure crates only"));
            }
        }
        for need in &krate.tests_need {
            if *place == Place::Core && ours.contains(need.as_str()) && !core.contains(need.as_str()) {
                faults.push(format!(
                    "{name} may not depend on {need}, not even in tests: core/ is tested without the world"
                ));
            }
        }
        // io/host states its lints itself, for it alone may hold unsafe code.
        if !krate.inherits_lints && name != "host" {
            faults.push(format!("{name} does not take over the lints of the workspace: `[lints] workspace = true`"));
        }
    }
    faults
}

/// Which crates of the workspace a crate may depend on; none if the table does not know it.
fn may_know<'a>(name: &str, place: Place, crates: &'a [Crate]) -> Option<Vec<&'a str>> {
    let all = |places: &[Place]| {
        crates.iter().filter(|c| places.contains(&c.place)).map(|c| c.name.as_str()).collect::<Vec<&'a str>>()
    };
    let known: Vec<&'static str> = match (place, name) {
        (Place::Core, "model") => vec![],
        (Place::Core, "api" | "config" | "consensus" | "quorum" | "scheduler" | "state") => vec!["model"],
        (Place::Core, "import") => vec!["config", "model"],
        (Place::Core, "liveness") => vec!["model", "quorum"],
        (Place::Core, "executor" | "fencing") => vec!["model", "state"],
        // The orders of the leader and their answers are the executor's words.
        (Place::Core, "wire") => vec!["consensus", "executor", "fencing", "liveness", "model", "state"],
        (Place::Core, "node") => MACHINE.to_vec(),
        (Place::Core, _) => return None,
        (Place::Io, "agents") => vec!["host", "model"],
        (Place::Io, _) => vec!["model"],
        (Place::Apps, _) => return Some(all(&[Place::Core, Place::Io])),
        (Place::Sim, _) => return Some(all(&[Place::Core])),
        // They drive the binary from outside; what is measured is a lab, which the end-to-end tests know how to hold.
        (Place::Tools, "bench") => vec!["e2e"],
        (Place::Tools, _) => vec![],
    };
    Some(known)
}

/// May a crate use this crate of others?
fn may_use(name: &str, place: Place, foreign: &str) -> bool {
    match place {
        Place::Core => PURE.contains(&foreign) || (name == "api" && foreign == "serde_json"),
        Place::Io | Place::Apps | Place::Sim | Place::Tools => true,
    }
}

/// What is wrong with the features: trees of the product and of the simulator, as `cargo tree --edges features` prints
/// them.
fn judge_features(product: &str, simulator: &str) -> Vec<String> {
    const PLANTED: &str = "feature \"planted-bugs\"";
    let mut faults: Vec<String> = product
        .lines()
        .filter(|line| line.contains(PLANTED))
        .map(|line| format!("the product can see planted bugs: {}", line.trim()))
        .collect();
    if !product.lines().any(|line| line.contains("model v")) {
        faults.push("the tree of the product does not name `model`: this check sees nothing".to_owned());
    }
    if !simulator.contains(PLANTED) {
        faults.push("the simulator does not turn `planted-bugs` on: its mutants would be no mutants".to_owned());
    }
    faults
}

fn crates() -> Result<Vec<Crate>> {
    let metadata = MetadataCommand::new().no_deps().exec().context("asking cargo for the workspace")?;
    let root = metadata.workspace_root.clone();
    metadata
        .packages
        .iter()
        .map(|package| {
            let path = package.manifest_path.strip_prefix(&root).context("a crate outside of the workspace")?;
            let place = match path.components().next().map(|c| c.as_str()) {
                Some("core") => Place::Core,
                Some("io") => Place::Io,
                Some("apps") => Place::Apps,
                Some("sim") => Place::Sim,
                Some("bench" | "e2e" | "xtask") => Place::Tools,
                other => bail!("{path}: no layer for the folder {other:?}"),
            };
            let names = |is_wanted: fn(DependencyKind) -> bool| {
                package.dependencies.iter().filter(|d| is_wanted(d.kind)).map(|d| d.name.clone()).collect()
            };
            let manifest = fs::read_to_string(&package.manifest_path)
                .with_context(|| format!("reading {}", package.manifest_path))?;
            Ok(Crate {
                name: package.name.to_string(),
                place,
                needs: names(|kind| kind != DependencyKind::Development),
                tests_need: names(|kind| kind == DependencyKind::Development),
                inherits_lints: inherits_lints(&manifest),
            })
        })
        .collect()
}

fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines.find(|line| !line.is_empty() && !line.starts_with('#')) == Some("workspace = true")
}

fn feature_tree(package: &str) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", package, "--edges", "features,normal,build", "--prefix", "none"])
        .output()
        .context("running cargo tree")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo tree --package {package} failed: {stderr}");
    String::from_utf8(output.stdout).context("cargo tree printed no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn krate(name: &str, place: Place, needs: &[&str]) -> Crate {
        let needs = needs.iter().map(|n| (*n).to_owned()).collect();
        Crate { name: name.to_owned(), place, needs, tests_need: vec![], inherits_lints: true }
    }

    /// A small workspace in order, with one crate replaced.
    fn with(changed: Crate) -> Vec<String> {
        let mut crates = vec![
            krate("model", Place::Core, &["serde"]),
            krate("config", Place::Core, &["model", "toml"]),
            krate("state", Place::Core, &["model"]),
            krate("scheduler", Place::Core, &["model"]),
            krate("node", Place::Core, &["model", "state", "scheduler"]),
            krate("api", Place::Core, &["serde_json"]),
            krate("host", Place::Io, &["model", "libc"]),
            krate("agents", Place::Io, &["model", "host"]),
            krate("cardea", Place::Apps, &["node", "agents", "config", "tokio"]),
            krate("sim", Place::Sim, &["node", "rand_chacha"]),
            krate("e2e", Place::Tools, &["tempfile"]),
        ];
        crates.retain(|c| c.name != changed.name);
        crates.push(changed);
        judge(&crates)
    }

    #[test]
    fn downhill_is_fine() {
        assert_eq!(with(krate("model", Place::Core, &["serde", "minicbor"])), Vec::<String>::new());
    }

    #[test]
    fn uphill_and_sideways_are_refused() {
        for (name, place, need) in [
            ("model", Place::Core, "state"),
            ("scheduler", Place::Core, "state"),
            ("node", Place::Core, "config"),
            ("state", Place::Core, "host"),
            ("host", Place::Io, "agents"),
            ("agents", Place::Io, "state"),
            ("sim", Place::Sim, "host"),
            ("cardea", Place::Apps, "sim"),
            ("e2e", Place::Tools, "node"),
        ] {
            let faults = with(krate(name, place, &[need]));
            assert_eq!(faults.len(), 1, "{name} → {need}: {faults:?}");
            assert!(faults[0].starts_with(&format!("{name} may not depend on {need}")), "{faults:?}");
        }
    }

    #[test]
    fn core_uses_pure_crates_only() {
        for foreign in ["tokio", "libc", "rustix", "rand", "rand_chacha", "serde_json", "tracing"] {
            let faults = with(krate("state", Place::Core, &["model", foreign]));
            assert_eq!(faults, [format!("state may not use {foreign}: core/ knows pure crates only")]);
        }
        assert!(with(krate("api", Place::Core, &["serde_json"])).is_empty());
    }

    #[test]
    fn a_crate_that_nobody_placed_is_refused() {
        assert_eq!(with(krate("gossip", Place::Core, &[])).len(), 1);
    }

    #[test]
    fn tests_of_core_stay_in_core() {
        let golden = Crate { tests_need: vec!["config".to_owned()], ..krate("scheduler", Place::Core, &["model"]) };
        assert!(with(golden).is_empty());
        let worldly = Crate { tests_need: vec!["agents".to_owned()], ..krate("scheduler", Place::Core, &["model"]) };
        assert_eq!(with(worldly).len(), 1);
    }

    #[test]
    fn lints_are_left_out_by_host_alone() {
        let free = |name, place| Crate { inherits_lints: false, ..krate(name, place, &["model"]) };
        assert_eq!(with(free("agents", Place::Io)).len(), 1);
        assert!(with(free("host", Place::Io)).is_empty());
        assert!(inherits_lints("[package]\n[lints]\nworkspace = true\n"));
        assert!(!inherits_lints("[package]\n[lints.rust]\nmissing_docs = \"warn\"\n"));
        assert!(!inherits_lints("[lints]\n[dependencies]\nworkspace = true\n"));
    }

    #[test]
    fn a_planted_bug_in_the_product_is_seen() {
        let clean = "cardea v0.1.0\nmodel v0.1.0 (/x)\nmodel feature \"default\"\n";
        let planted = "sim v0.1.0\nmodel feature \"planted-bugs\"\n";
        assert!(judge_features(clean, planted).is_empty());
        assert_eq!(
            judge_features(&format!("{clean}state feature \"planted-bugs\" (command-line)\n"), planted).len(),
            1
        );
        assert_eq!(judge_features(clean, "sim v0.1.0\n").len(), 1, "a simulator without mutants");
        assert_eq!(judge_features("", planted).len(), 1, "a tree that shows nothing");
    }
}
