//! Which program is tested, and what does it say?

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The program: `CARDEA_BIN`, else the one in the folder that the test itself was built into.
pub fn cardea() -> PathBuf {
    if let Some(named) = std::env::var_os("CARDEA_BIN") {
        return named.into();
    }
    let own = std::env::current_exe().expect("a running program has a path");
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join("cardea")).find(|path| path.is_file());
    beside.expect("build the program first: `cargo build --release`, or name it in CARDEA_BIN")
}

/// What a command said at its end.
#[derive(Clone, Debug)]
pub struct Said {
    /// The command line, for messages.
    pub command: String,
    /// The exit status; none if a signal ended it.
    pub exit_status: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// The same if it was done, an error with its words if not.
    pub fn ok(self) -> Result<Said> {
        if self.exit_status != Some(0) {
            bail!("{} ended with {:?}: {}{}", self.command, self.exit_status, self.out, self.err);
        }
        Ok(self)
    }

    /// Standard output as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out)
            .with_context(|| format!("{} printed no JSON: {}{}", self.command, self.out, self.err))
    }
}

/// Runs a command to its end, without input.
pub fn run(command: &mut Command) -> Result<Said> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {shown}"))?;
    Ok(Said {
        command: shown,
        exit_status: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
