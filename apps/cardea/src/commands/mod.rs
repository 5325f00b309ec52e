//! What people type. One file per command: its options, what it asks, and how the answer looks.
//!
//! Reading commands print for people, or JSON with `--json`; every error names the next step.
//! Not here: what is done (`daemon/`, `lab/`, `demo/`).

pub mod apply;
pub mod ask;
pub mod change;
pub mod check;
pub mod cib_file;
pub mod client;
pub mod daemon;
pub mod demo;
pub mod events;
pub mod explain;
pub mod fence;
pub mod history;
pub mod import;
pub mod init;
pub mod join;
pub mod lab;
pub mod plan;
pub mod plan_cib;
pub mod rehearse;
pub mod shutdown;
pub mod status;
pub mod token;
pub mod web;

use std::io::{IsTerminal, Write};

use serde::Serialize;

/// Prints a value as JSON, with a newline.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Is standard error a terminal that shows colours?
pub fn is_colored() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Prints the sentence of a reply, or the reply as JSON.
pub fn print_reply(reply: &api::Reply, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(reply);
    }
    println!("{}", reply.message);
    Ok(())
}

/// What a failed command prints with `--json`: the refusal of the daemon, or its own error in the same shape.
pub fn refusal_of(error: &anyhow::Error) -> api::Refused {
    if let Some(refused) = error.downcast_ref::<api::Refused>() {
        return refused.clone();
    }
    let text = format!("{error:#}");
    let (message, next) = text.split_once("\n  ").unwrap_or((&text, "see `cardea --help`"));
    api::Refused::new(api::RefusedCode::Failed, message, next)
}
