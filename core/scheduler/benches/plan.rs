//! How long does planning take, and how does it grow?
//!
//! `cargo bench -p scheduler` plans synthetic clusters of growing size. The inputs come from `gen_cib.py`, which lies with
//! the scheduler cases (`CARDEA_CASES`, else beside the repository); without it there is nothing to plan. Where
//! `crm_simulate` is installed (Debian's `pacemaker-cli-utils`) it plans the same inputs in the same run.
//!
//! Figures are processor time on one core, in milliseconds: the median of several plans, the least and the most.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a benchmark reads files and clocks

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nodes, primitives, what happened, and more words for the generator.
const INPUTS: [(u32, u32, &str, &[&str]); 10] = [
    (8, 100, "nodefail", &[]),
    (16, 500, "nodefail", &[]),
    (32, 1000, "nodefail", &[]),
    (32, 1000, "idle", &[]),
    (32, 1000, "probe", &[]),
    (32, 5000, "nodefail", &[]),
    (32, 5000, "nodefail", &["--utilization"]),
    (64, 5000, "nodefail", &[]),
    (128, 10_000, "nodefail", &[]),
    (128, 10_000, "idle", &[]),
];

/// Plans of one input, at most; big ones get fewer.
const RUNS: usize = 9;
/// After so much time an input has been planned often enough.
const ENOUGH: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    // `cargo test --benches` asks for nothing but a start.
    if std::env::args().any(|word| word == "--test") {
        return ExitCode::SUCCESS;
    }
    let Some(generator) = generator() else {
        println!("there is no gen_cib.py here; name the folder of the scheduler cases in CARDEA_CASES");
        return ExitCode::SUCCESS;
    };
    let folder = std::env::temp_dir().join(format!("cardea-bench-{}", std::process::id()));
    let result = measure_all(&generator, &folder);
    let _ = fs::remove_dir_all(&folder);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn generator() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/scheduler-conformance");
    let folder = std::env::var_os("CARDEA_CASES").map_or_else(beside, PathBuf::from);
    let generator = folder.join("gen_cib.py");
    generator.is_file().then_some(generator)
}

fn measure_all(generator: &Path, folder: &Path) -> Result<(), String> {
    let peer = Command::new("crm_simulate").arg("--version").output().is_ok();
    if !peer {
        println!("crm_simulate is not installed: ours alone");
    }
    println!(
        "{:<34} {:>10} {:>26} {:>12} {:>7}",
        "nodes x primitives", "reading", "planning (min - max)", "crm_simulate", "ratio"
    );
    for (nodes, primitives, state, more) in INPUTS {
        let name = format!("{nodes} x {primitives} {state} {}", more.join(" ")).trim_end().to_owned();
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let file = folder.join("cib.xml");
        let text = generate(generator, nodes, primitives, state, more)?;
        fs::write(&file, &text).map_err(|error| format!("{}: {error}", file.display()))?;
        let begun = used();
        let imported =
            import::cib(&text, import::Time::Recorded { otherwise: 0 }).map_err(|error| error.to_string())?;
        let reading = ms(used() - begun);
        let mut times = Vec::new();
        let first = used();
        while times.len() < RUNS && (times.len() < 3 || used() - first < ENOUGH) {
            let begun = used();
            std::hint::black_box(scheduler::judge(&imported.situation));
            times.push(ms(used() - begun));
        }
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let spread = format!("{median:.2} ({:.2} - {:.2})", times[0], times[times.len() - 1]);
        let theirs = if peer { simulate(folder) } else { None };
        let (theirs, ratio) = theirs.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |theirs| (format!("{theirs:.0}"), format!("{:.0}", theirs / median)),
        );
        println!("{name:<34} {reading:>10.2} {spread:>26} {theirs:>12} {ratio:>7}");
    }
    Ok(())
}

fn generate(generator: &Path, nodes: u32, primitives: u32, state: &str, more: &[&str]) -> Result<String, String> {
    let output = Command::new("python3")
        .arg(generator)
        .args(["--nodes", &nodes.to_string(), "--primitives", &primitives.to_string(), "--state", state])
        .args(more)
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

/// What the peer says that it took, in milliseconds; reading is not in it.
fn simulate(folder: &Path) -> Option<f64> {
    let output = Command::new("crm_simulate").arg("--profile").arg(folder).args(["--repeat", "1"]).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<&str> = said.split_whitespace().collect();
    let at = words.iter().position(|word| word.starts_with("secs"))?;
    words.get(at.checked_sub(1)?)?.parse::<f64>().ok().map(|seconds| seconds * 1000.0)
}

fn used() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
