//! What does a node's daemon say? Questions over its Unix socket, from outside the node.
//!
//! HTTP/1.0, so that an answer ends with its connection and a stream of events is plain lines.
//! Not here: what the answers mean (`core/api`), the daemon's side.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::{Event, Reply, Request, Status};

/// Longest wait for an answer that is not a stream.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks for the cluster as this node sees it.
pub fn status(socket: &Path) -> anyhow::Result<Status> {
    let body = call(socket, "GET", "/v1/status", "")?;
    serde_json::from_str(&body).context("the daemon's status is not what this version understands")
}

/// Asks for a change or a test.
pub fn action(socket: &Path, request: &Request) -> anyhow::Result<Reply> {
    let body = call(socket, "POST", "/v1/request", &serde_json::to_string(request)?)?;
    serde_json::from_str(&body).context("the daemon's reply is not what this version understands")
}

/// Follows the events from now on; `on_each` says whether to go on. Returns when it says no, or the daemon is gone.
pub fn follow(socket: &Path, mut on_each: impl FnMut(Event) -> bool) -> anyhow::Result<()> {
    let stream = UnixStream::connect(socket)?;
    (&stream).write_all(b"GET /v1/events?follow=true HTTP/1.0\r\nHost: cardea\r\nAccept: text/event-stream\r\n\r\n")?;
    let mut reader = BufReader::new(&stream);
    if head(&mut reader)? != 200 {
        bail!("the daemon refuses to tell its events");
    }
    for line in reader.lines() {
        let line = line?;
        let Some(data) = line.strip_prefix("data:") else { continue };
        if let Ok(event) = serde_json::from_str(data.trim())
            && !on_each(event)
        {
            break;
        }
    }
    Ok(())
}

fn call(socket: &Path, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: cardea\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    (&stream).write_all(request.as_bytes())?;
    let mut reader = BufReader::new(&stream);
    let code = head(&mut reader)?;
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    if code == 200 {
        return Ok(text);
    }
    match serde_json::from_str::<api::Refused>(&text) {
        Ok(refused) => bail!("{}; {}", refused.message, refused.next),
        Err(_) => bail!("the daemon answered {code}: {}", text.trim()),
    }
}

/// Reads the head of an answer; returns its code.
fn head(reader: &mut impl BufRead) -> io::Result<u16> {
    let mut code = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        match code {
            None => {
                let word = line.split(' ').nth(1).and_then(|word| word.parse().ok());
                code = Some(word.ok_or(io::ErrorKind::InvalidData)?);
            }
            Some(code) if line.is_empty() => return Ok(code),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_ends_at_the_empty_line() {
        let mut answer: &[u8] = b"HTTP/1.0 409 Conflict\r\ncontent-type: text/plain\r\n\r\nbody";
        assert_eq!(head(&mut answer).expect("a head"), 409);
        assert_eq!(answer, b"body");
        assert!(head(&mut b"nonsense\r\n\r\n".as_slice()).is_err());
        assert!(head(&mut b"HTTP/1.0 200 OK\r\n".as_slice()).is_err());
    }
}
