//! What does a daemon answer? HTTP with JSON on its Unix socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Longest wait for an answer that is not a stream.
const LIMIT: Duration = Duration::from_secs(15);

/// The socket of a daemon.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    /// The daemon that listens here.
    pub fn new(socket: PathBuf) -> Api {
        Api { socket }
    }

    /// The answer to a question.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, "")
    }

    /// The answer to a request.
    pub fn request(&self, request: &Value) -> Result<Value> {
        self.ask("POST", "/v1/request", &request.to_string())
    }

    /// Every event that the worker still knows, oldest first.
    pub fn events(&self) -> Result<Vec<Value>> {
        match self.get("/v1/events?since=0")? {
            Value::Array(events) => Ok(events),
            other => bail!("the events are no list: {other}"),
        }
    }

    /// Follows the events, those of the past first, until `on_each` says no or the daemon ends.
    pub fn follow(&self, mut on_each: impl FnMut(Value) -> bool) -> Result<()> {
        let mut reader = BufReader::new(self.send("GET", "/v1/events?since=0&follow=true", "")?);
        head(&mut reader)?;
        for line in reader.lines() {
            if let Some(event) = line?.strip_prefix("data:").and_then(|data| serde_json::from_str(data.trim()).ok())
                && !on_each(event)
            {
                break;
            }
        }
        Ok(())
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Result<UnixStream> {
        let stream =
            UnixStream::connect(&self.socket).with_context(|| format!("no daemon at {}", self.socket.display()))?;
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.0\r\nHost: cardea\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        (&stream).write_all(text.as_bytes())?;
        Ok(stream)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let stream = self.send(method, path, body)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut reader = BufReader::new(stream);
        let code = head(&mut reader)?;
        let mut text = String::new();
        reader.read_to_string(&mut text)?;
        if code != 200 {
            bail!("{method} {path}: {code} {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("{method} {path} answered no JSON: {text}"))
    }
}

/// Reads the head of an answer; returns its code.
fn head(reader: &mut impl BufRead) -> Result<u16> {
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let code = first.split(' ').nth(1).and_then(|word| word.parse().ok()).context("the answer is no HTTP")?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    Ok(code)
}
