//! How is an operator asked, before something happens that may not be meant?
//!
//! The daemon says what would be lost and refuses; here the question is put to whoever sits at the terminal. Without a
//! terminal nobody can be asked, and `--yes` has to say it.

use std::io::{IsTerminal, Write};

use anyhow::bail;
use api::{CONFIRM_ALL, Refused, RefusedCode, Reply, Request};

use super::client::Client;

/// How often the question is repeated while what would be lost changes.
const QUESTIONS_MAX: usize = 5;

/// Is there somebody to ask? JSON is for programs.
pub fn can_ask(json: bool) -> bool {
    !json && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Asks for a yes.
///
/// # Errors
/// If the answer is another one, or if nobody can be asked.
pub fn confirm(question: &str, json: bool) -> anyhow::Result<()> {
    if !can_ask(json) {
        return Err(Refused::new(
            RefusedCode::Unconfirmed,
            format!("nothing was changed: there is no terminal to ask `{question}` on"),
            "add `--yes` if it is meant",
        )
        .into());
    }
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was changed");
    }
    Ok(())
}

/// Asks the daemon for a change. If that takes away what works, the operator is asked first.
pub fn carry_out(client: &Client, request: &Request, yes: bool, json: bool) -> anyhow::Result<Reply> {
    let mut word = yes.then(|| CONFIRM_ALL.to_owned());
    for _ in 0..QUESTIONS_MAX {
        let error = match client.request(request, word.as_deref()) {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        word = match error.downcast_ref::<Refused>() {
            Some(Refused { code: RefusedCode::Unconfirmed, confirm: Some(word), message, .. }) if can_ask(json) => {
                println!("{message}");
                confirm("go on?", json)?;
                Some(word.clone())
            }
            Some(_) | None => return Err(error),
        };
    }
    bail!("what would be lost changes again and again; nothing was changed\n  look at `cardea status`")
}
