//! What does a client live through? A page fetched over a fresh connection every 5 ms, from inside a lab's networks.
//!
//! This is a process of its own that enters the network namespace of the lab's hub before it has a second thread.
//! Requests overlap: each has a thread, so that one that hangs blinds nobody.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::load::Beside;

const EVERY: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_secs(1);

/// What the client is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Orders {
    /// PID 1 of the lab.
    #[arg(long)]
    hub: i32,
    /// Where the service is.
    #[arg(long)]
    server: SocketAddr,
    /// How long to fetch; without it until the first good answer.
    #[arg(long)]
    seconds: Option<u64>,
}

/// What the client saw. Times in microseconds of CLOCK_MONOTONIC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Requests that were begun.
    pub requests: usize,
    /// Requests without a good answer.
    pub failed: usize,
    /// The end of the first good answer.
    pub first_us: Option<u64>,
    /// Times between the ends of two good answers, from the beginning and to the end, that are longer than 100 ms.
    pub gaps_us: Vec<u64>,
    /// The longest time between two good answers.
    pub longest_us: u64,
}

/// Runs as the client; prints what it saw as JSON.
pub fn run(orders: &Orders) -> Result<()> {
    enter(orders.hub)?;
    let ends: Arc<Mutex<Vec<Option<u64>>>> = Arc::default();
    let begun_us = e2e::now_us();
    let mut requests = Vec::new();
    loop {
        let elapsed = Duration::from_micros(e2e::now_us() - begun_us);
        let is_over = match orders.seconds {
            Some(seconds) => elapsed >= Duration::from_secs(seconds),
            None => locked(&ends).iter().any(Option::is_some) || elapsed >= Duration::from_secs(120),
        };
        if is_over {
            break;
        }
        let (ends, server) = (Arc::clone(&ends), orders.server);
        requests.push(thread::Builder::new().stack_size(128 * 1024).spawn(move || {
            let end = fetch(server).ok().map(|()| e2e::now_us());
            locked(&ends).push(end);
        })?);
        requests.retain(|request| !request.is_finished());
        // The rhythm is that of the clock, however long a start of a thread takes.
        let next_us = begun_us + (e2e::now_us() - begun_us).next_multiple_of(5000).max(5000);
        thread::sleep(Duration::from_micros(next_us.saturating_sub(e2e::now_us())).min(EVERY));
    }
    for request in requests {
        // A request that panicked has no end and counts as failed.
        let _ = request.join();
    }
    let ends = locked(&ends).clone();
    let until_us = orders.seconds.map(|seconds| begun_us + seconds * 1_000_000);
    println!("{}", serde_json::to_string(&judge(&ends, begun_us, until_us))?);
    Ok(())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a list of ends says; none is a request without a good answer. The time before the first answer counts, and that
/// after the last until `until_us`.
fn judge(ends: &[Option<u64>], begun_us: u64, until_us: Option<u64>) -> Seen {
    let mut good: Vec<u64> = ends.iter().flatten().copied().collect();
    good.sort_unstable();
    let points: Vec<u64> = std::iter::once(begun_us).chain(good.iter().copied()).chain(until_us).collect();
    let times: Vec<u64> = points.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    Seen {
        requests: ends.len(),
        failed: ends.iter().filter(|end| end.is_none()).count(),
        first_us: good.first().copied(),
        gaps_us: times.iter().copied().filter(|time| *time > 100_000).collect(),
        longest_us: times.iter().copied().max().unwrap_or(0),
    }
}

fn fetch(server: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: service\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.") && answer.get(9..12) == Some(b"200"), "no good answer");
    Ok(())
}

/// Goes into the networks of a lab. Whoever is not root must first go into its user namespace.
fn enter(hub: i32) -> Result<()> {
    let open = |name: &str| {
        std::fs::File::open(format!("/proc/{hub}/ns/{name}")).with_context(|| format!("the lab's {name} namespace"))
    };
    let (user, network) = (open("user")?, open("net")?);
    if !rustix::process::geteuid().is_root() {
        move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
            .context("entering the lab as its user")?;
    }
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).context("entering the lab's networks")
}

/// A client at work beside this process.
#[derive(Debug)]
pub struct Client(Beside);

impl Client {
    /// Starts one in this lab.
    pub fn start(lab: &e2e::Lab, server: &str, seconds: Option<u64>) -> Result<Client> {
        let hub = lab.hub().context("the lab has ended")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["client", "--hub", &hub.pid.to_string(), "--server", server]);
        if let Some(seconds) = seconds {
            command.args(["--seconds", &seconds.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(Client(Beside::start(&mut command)?))
    }

    /// Waits for its end; returns what it saw.
    pub fn seen(self) -> Result<Seen> {
        let (_, text) = self.0.output()?;
        serde_json::from_str(&text).with_context(|| format!("the client said: {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_a_long_time_between_two_good_answers() {
        let ends = [Some(1_000), Some(6_000), None, Some(206_000), Some(211_000)];
        let seen = judge(&ends, 0, None);
        assert_eq!((seen.requests, seen.failed), (5, 1));
        assert_eq!(seen.first_us, Some(1_000));
        assert_eq!(seen.gaps_us, [200_000]);
        assert_eq!(seen.longest_us, 200_000);
        assert_eq!(judge(&ends, 0, Some(900_000)).gaps_us, [200_000, 689_000], "silence at the end is a gap too");
    }

    #[test]
    fn answers_in_another_order_are_no_gap() {
        assert_eq!(judge(&[Some(6_000), Some(1_000)], 0, Some(90_000)).gaps_us, Vec::<u64>::new());
    }
}
