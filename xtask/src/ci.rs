//! Is the tree fit to be kept?
//!
//! Stages run in order, the cheap ones first; the first that fails ends it, with the command that repeats it alone.
//! Everything is built with the one release profile.
//!
//! Why several invocations of cargo and not one `--workspace`: cargo unites the features of all packages that are built
//! together. `sim` turns `planted-bugs` on, so it is built alone, and what is tested, or run end to end, without it is
//! the product as it ships. Only clippy and rustdoc see the union: they make no program.
//!
//! A test that cannot run here appends `SKIPPED: <why>` to the file named by `CARDEA_SKIP_LOG`; the list is printed at
//! the end and fails the run with `--no-skips`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::Message;
use clap::ValueEnum;

use crate::{conformance, layers, packages};

/// Whom the unprivileged end-to-end run is: `nobody` and `nogroup` of Debian.
const NOBODY: u32 = 65534;

/// One stage, in the order of their runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// `cargo fmt`.
    Format,
    /// `cargo xtask layers`.
    Layers,
    /// Clippy, warnings are errors.
    Clippy,
    /// Unit tests and goldens.
    Tests,
    /// Tests of the simulator.
    Stories,
    /// A fixed set of simulated schedules.
    Seeds,
    /// Each planted bug is caught.
    Mutants,
    /// `cargo xtask conformance`.
    Conformance,
    /// rustdoc, warnings are errors.
    Docs,
    /// Real daemons in namespaces, as whoever runs this.
    E2e,
    /// The same as an unprivileged user; only when run by root.
    E2eUnprivileged,
}

/// What the test runners counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    skipped: u64,
}

/// Runs the stages; all of them if `only` is empty.
pub(crate) fn run(no_skips: bool, only: &[Stage]) -> Result<()> {
    let (root, target) = folders()?;
    std::env::set_current_dir(&root).with_context(|| format!("entering {}", root.display()))?;
    let is_root = is_root()?;
    packages::install_missing(is_root);
    let bench = Bench { is_root, skip_log: fresh_skip_log(&target)?, root, target };
    let started = Instant::now();
    let mut total = Count::default();
    for stage in Stage::value_variants().iter().filter(|stage| only.is_empty() || only.contains(stage)) {
        println!("\n== {}", stage.word());
        let began = Instant::now();
        let count = stage.run(&bench).map_err(|error| {
            let (word, seconds, alone) = (stage.word(), began.elapsed().as_secs_f64(), stage.alone());
            anyhow::anyhow!("\n== {word} FAILED after {seconds:.1} s: {error:#}\n   alone: {alone}")
        })?;
        total.passed += count.passed;
        total.skipped += count.skipped;
        println!("== {} ok, {:.1} s", stage.word(), began.elapsed().as_secs_f64());
    }
    let skips = skips(&bench.skip_log)?;
    if !skips.is_empty() {
        println!("\nskipped:");
        for skip in &skips {
            println!("  {skip}");
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "\n     Summary [{seconds:8.3}s] {} tests run: {} passed, {} skipped",
        total.passed,
        total.passed,
        total.skipped + u64::try_from(skips.len()).unwrap_or(u64::MAX)
    );
    if no_skips && !skips.is_empty() {
        bail!("{} tests were skipped, and --no-skips was given", skips.len());
    }
    Ok(())
}

/// What stages need to know.
struct Bench {
    is_root: bool,
    skip_log: PathBuf,
    root: PathBuf,
    target: PathBuf,
}

impl Stage {
    fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The command that repeats the stage alone.
    fn alone(self) -> String {
        match self {
            Stage::Format => "cargo fmt --all --check".to_owned(),
            Stage::Layers => "cargo xtask layers".to_owned(),
            Stage::Conformance => "cargo xtask conformance".to_owned(),
            Stage::Clippy | Stage::Tests | Stage::Stories | Stage::Seeds | Stage::Mutants => self
                .commands()
                .iter()
                .map(|words| format!("cargo {}", words.join(" ")))
                .collect::<Vec<_>>()
                .join(" && "),
            Stage::Docs => format!("RUSTDOCFLAGS='-D warnings' cargo {}", self.commands()[0].join(" ")),
            Stage::E2e | Stage::E2eUnprivileged => format!("cargo xtask ci --only {}", self.word()),
        }
    }

    /// The invocations of cargo, in order.
    fn commands(self) -> Vec<Vec<&'static str>> {
        let words = |line: &'static str| line.split(' ').collect::<Vec<_>>();
        let test = |nextest: &'static str, plain: &'static str| words(if has_nextest() { nextest } else { plain });
        match self {
            Stage::Format => vec![words("fmt --all --check")],
            Stage::Layers | Stage::Conformance => Vec::new(),
            Stage::Clippy => vec![words("clippy --release --workspace --all-targets -- -D warnings")],
            Stage::Tests => vec![test(
                "nextest run --release --workspace --exclude sim --exclude e2e --no-tests=pass",
                "test --release --workspace --exclude sim --exclude e2e",
            )],
            Stage::Stories => {
                vec![test("nextest run --release --package sim --no-tests=pass", "test --release --package sim")]
            }
            Stage::Seeds => vec![words("run --release --package sim -- run --seeds 540")],
            Stage::Mutants => vec![words("run --release --package sim -- mutants --seeds 500")],
            Stage::Docs => vec![words("doc --release --no-deps --workspace")],
            Stage::E2e => vec![
                words("build --release"),
                test(
                    "nextest run --release --package e2e --no-tests=pass",
                    "test --release --package e2e -- --test-threads=1",
                ),
            ],
            Stage::E2eUnprivileged => vec![words("build --release")],
        }
    }

    fn run(self, bench: &Bench) -> Result<Count> {
        match self {
            Stage::Layers => layers::check().map(|()| Count::default()),
            Stage::Conformance => conformance::run(None, false).map(|()| Count::default()),
            Stage::Format
            | Stage::Clippy
            | Stage::Tests
            | Stage::Stories
            | Stage::Seeds
            | Stage::Mutants
            | Stage::Docs
            | Stage::E2e => self.run_commands(bench),
            Stage::E2eUnprivileged if !bench.is_root => {
                println!("this user is not root: the stage before was the unprivileged one");
                Ok(Count::default())
            }
            Stage::E2eUnprivileged => {
                self.run_commands(bench)?;
                run_unprivileged(bench)
            }
        }
    }

    fn run_commands(self, bench: &Bench) -> Result<Count> {
        let mut count = Count::default();
        for words in self.commands() {
            let mut command = cargo(&words, &bench.skip_log);
            if self == Stage::Docs {
                command.env("RUSTDOCFLAGS", "-D warnings");
            }
            let counted = counting(&mut command)?;
            count.passed += counted.passed;
            count.skipped += counted.skipped;
        }
        Ok(count)
    }
}

/// Runs the end-to-end tests that are built as a user without rights.
///
/// That user can read neither cargo's folder nor, perhaps, this repository, so the programs are copied to a folder of
/// its own, which is also its home.
fn run_unprivileged(bench: &Bench) -> Result<Count> {
    if !has_program("setpriv") {
        append(
            &bench.skip_log,
            "SKIPPED: end-to-end tests as an unprivileged user: setpriv (util-linux) is missing\n",
        )?;
        return Ok(Count::default());
    }
    let tests = test_programs(&bench.skip_log)?;
    let home = Scratch::new()?;
    let product = home.take(&bench.target.join("release/cardea"))?;
    let skip_log = fresh_skip_log(&home.path)?;
    let mut count = Count::default();
    let e2e = bench.root.join("e2e");
    for test in tests {
        let program = home.take(&test)?;
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups", "--"])
            .arg(&program)
            .arg("--test-threads=1")
            .current_dir(&e2e)
            .env("CARGO_MANIFEST_DIR", &e2e)
            .env("HOME", &home.path)
            .env("TMPDIR", &home.path)
            .env("CARDEA_BIN", &product)
            .env("CARDEA_RAN_AS_ROOT", "1")
            .env("CARDEA_SKIP_LOG", &skip_log);
        let counted = counting(&mut command)?;
        count.passed += counted.passed;
        count.skipped += counted.skipped;
    }
    append(&bench.skip_log, &fs::read_to_string(&skip_log)?)?;
    Ok(count)
}

fn append(log: &Path, text: &str) -> Result<()> {
    let mut file =
        fs::OpenOptions::new().append(true).open(log).with_context(|| format!("opening {}", log.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", log.display()))
}

/// Builds the end-to-end tests and says where their programs are.
fn test_programs(skip_log: &Path) -> Result<Vec<PathBuf>> {
    let words =
        ["test", "--release", "--package", "e2e", "--tests", "--no-run", "--message-format=json-render-diagnostics"];
    let output = cargo(&words, skip_log).stderr(Stdio::inherit()).output().context("building the end-to-end tests")?;
    ensure!(output.status.success(), "cargo {} failed", words.join(" "));
    let mut programs = Vec::new();
    for message in Message::parse_stream(output.stdout.as_slice()) {
        match message.context("reading what cargo built")? {
            Message::CompilerArtifact(artifact) if artifact.profile.test => {
                programs.extend(artifact.executable.map(PathBuf::from));
            }
            _ => {}
        }
    }
    Ok(programs)
}

/// A folder that the unprivileged user owns; gone when dropped.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self> {
        let path = PathBuf::from(format!("/var/tmp/cardea-ci-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        let scratch = Scratch { path };
        chown(&scratch.path, Some(NOBODY), Some(NOBODY)).context("giving the folder away")?;
        Ok(scratch)
    }

    /// Copies a program in, so that everyone may run it.
    fn take(&self, program: &Path) -> Result<PathBuf> {
        let name = program.file_name().context("a program without a name")?;
        let copy = self.path.join(name);
        fs::copy(program, &copy).with_context(|| format!("copying {}", program.display()))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        Ok(copy)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("could not remove {}: {error}", self.path.display());
        }
    }
}

/// A call of cargo that no setting of the caller's shell changes.
fn cargo(words: &[&str], skip_log: &Path) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(words).env("CARDEA_SKIP_LOG", skip_log).env("CARGO_TERM_COLOR", "never");
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTDOCFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(variable);
    }
    command
}

/// Runs a command, shows what it prints, and counts the tests that its runner reports.
fn counting(command: &mut Command) -> Result<Count> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {shown}"))?;
    let stdout = child.stdout.take().context("no stdout")?;
    let stderr = child.stderr.take().context("no stderr")?;
    let errors = thread::spawn(move || pass_on(stderr, std::io::stderr()));
    let mut count = pass_on(stdout, std::io::stdout())?;
    let from_errors = errors.join().map_err(|_| anyhow::anyhow!("reading the output failed"))??;
    count.passed += from_errors.passed;
    count.skipped += from_errors.skipped;
    let status = child.wait().with_context(|| format!("waiting for {shown}"))?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(count)
}

fn pass_on(from: impl Read, mut to: impl Write) -> Result<Count> {
    let mut count = Count::default();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        let counted = counted(&String::from_utf8_lossy(&line));
        count.passed += counted.passed;
        count.skipped += counted.skipped;
        line.clear();
    }
    Ok(count)
}

/// Reads the closing line of nextest or of the built-in runner; anything else counts nothing.
fn counted(line: &str) -> Count {
    let line = line.trim();
    let is_closing = (line.starts_with("Summary [") && line.contains(" run: ")) || line.starts_with("test result:");
    if !is_closing {
        return Count::default();
    }
    let words: Vec<&str> = line.split([' ', ',', ';']).filter(|word| !word.is_empty()).collect();
    let before = |word: &str| {
        words.windows(2).filter(|pair| pair[1] == word).find_map(|pair| pair[0].parse::<u64>().ok()).unwrap_or(0)
    };
    Count { passed: before("passed"), skipped: before("skipped") + before("ignored") }
}

/// An empty log that every user may write to.
fn fresh_skip_log(below: &Path) -> Result<PathBuf> {
    let folder = below.join("ci");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let log = folder.join("skipped");
    fs::write(&log, "").with_context(|| format!("writing {}", log.display()))?;
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666))?;
    Ok(log)
}

fn skips(log: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// The folders of the workspace and of what is built.
fn folders() -> Result<(PathBuf, PathBuf)> {
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().exec().context("asking cargo for the workspace")?;
    Ok((metadata.workspace_root.into(), metadata.target_directory.into()))
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("asking who we are")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

fn has_nextest() -> bool {
    succeeds(Command::new(env!("CARGO")).args(["nextest", "--version"]))
}

fn has_program(name: &str) -> bool {
    succeeds(Command::new(name).arg("--version"))
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_both_runners_is_counted() {
        let count = |passed, skipped| Count { passed, skipped };
        assert_eq!(counted("     Summary [   0.482s] 20 tests run: 20 passed (1 slow), 3 skipped\n"), count(20, 3));
        assert_eq!(
            counted("test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; finished in 0.1s"),
            count(5, 1)
        );
        assert_eq!(counted("        PASS [   0.008s] config the_night_passed"), Count::default());
        assert_eq!(counted("test words ... 5 passed"), Count::default());
    }

    #[test]
    fn every_stage_names_the_command_that_repeats_it() {
        for stage in Stage::value_variants() {
            assert!(stage.alone().contains("cargo "), "{stage:?}");
        }
    }

    #[test]
    fn the_product_is_never_built_together_with_the_simulator() {
        for stage in Stage::value_variants() {
            for words in stage.commands().iter().filter(|words| words.contains(&"--workspace")) {
                let makes_no_program = ["clippy", "doc"].contains(&words[0]);
                assert!(makes_no_program || words.windows(2).any(|pair| pair == ["--exclude", "sim"]), "{words:?}");
            }
        }
    }
}
