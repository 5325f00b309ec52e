//! How does a command reach the daemon? HTTP over the Unix socket below the root.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use api::{Refused, Reply, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::daemon::paths::Paths;
use crate::daemon::watch::last_end;

/// Talks to the daemon of one root.
pub struct Client {
    socket: PathBuf,
    last_end: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// A client of the daemon below `root`.
    pub fn new(root: &Path) -> anyhow::Result<Client> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let paths = Paths::new(root);
        Ok(Client { socket: paths.socket(), last_end: paths.last_end(), runtime })
    }

    /// Reads something.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.runtime.block_on(async {
            let response = self.send(Method::GET, path, Vec::new()).await?;
            decode(response).await
        })
    }

    /// Asks with a body.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let body = serde_json::to_vec(body)?;
        self.runtime.block_on(async {
            let response = self.send(Method::POST, path, body).await?;
            decode(response).await
        })
    }

    /// Asks for a change; `confirm` confirms what it takes away ([`api::CONFIRM_ALL`], or the word of a refusal).
    pub fn request(&self, request: &Request, confirm: Option<&str>) -> anyhow::Result<Reply> {
        match confirm {
            Some(word) => self.post(&format!("/v1/request?confirm={word}"), request),
            None => self.post("/v1/request", request),
        }
    }

    /// Follows server-sent events until `each` says false or the daemon ends.
    pub fn follow(&self, path: &str, mut each: impl FnMut(&str) -> bool) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let response = self.send(Method::GET, path, Vec::new()).await?;
            let mut body = response.into_body();
            let mut text = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.context("the daemon broke off")?;
                text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line);
                    if let Some(data) = line.trim_end().strip_prefix("data: ")
                        && !each(data)
                    {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|cause| {
            let ended = last_end(&self.last_end).map_or_else(String::new, |why| format!("\n  its worker ended with: {why}"));
            anyhow!(cause).context(format!(
                "the daemon does not answer on {}{ended}\n  is it running? start it with `systemctl start cardea` or `cardea \
                 daemon`; `journalctl -u cardea` says more",
                self.socket.display()
            ))
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "cardea")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        sender.send_request(request).await.context("the daemon broke off")
    }
}

async fn decode<T: DeserializeOwned>(response: Response<Incoming>) -> anyhow::Result<T> {
    let status = response.status();
    let body = response.into_body().collect().await.context("the daemon broke off")?.to_bytes();
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).context("the daemon's answer makes no sense; is it of another version?");
    }
    match serde_json::from_slice::<Refused>(&body) {
        Ok(refused) => Err(refused.into()),
        Err(_) => bail!("the daemon answered {status}: {}", String::from_utf8_lossy(&body)),
    }
}
