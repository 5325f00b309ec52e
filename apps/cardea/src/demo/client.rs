//! What does a user see? A client that fetches the page over a fresh connection every 5 ms.
//!
//! Requests overlap: one that hangs does not keep the next from being sent. One thread, plain sockets, poll.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::time::{ClockId, clock_gettime};

use super::judge::Request;

/// From the start of one request to the start of the next.
const EVERY: Duration = Duration::from_millis(5);

/// Longest time of a request.
const LIMIT: Duration = Duration::from_secs(1);

/// Most answer bytes that are read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Microseconds of CLOCK_MONOTONIC: the clock of every node of a lab.
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}

/// A client at work on a thread of its own.
pub struct Client {
    requests: Arc<Mutex<Requests>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Client {
    /// Starts to fetch the page of `server`.
    pub fn start(server: SocketAddr) -> io::Result<Client> {
        let requests = Arc::new(Mutex::new(Requests::default()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (done, over) = (Arc::clone(&requests), Arc::clone(&is_over));
        let thread =
            thread::Builder::new().name("client".to_owned()).spawn(move || fetch_until(server, &done, &over))?;
        Ok(Client { requests, is_over, thread: Some(thread) })
    }

    /// Every request that ended at `since_us` or later, and those that wait for an answer, as failed so far.
    pub fn since(&self, since_us: u64) -> Vec<Request> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let start = requests.done.partition_point(|request| request.ended_us < since_us);
        let ended_us = now_us();
        let open = requests.open.iter().map(|began_us| Request { began_us: *began_us, ended_us, answer: None });
        requests.done[start..].iter().cloned().chain(open).collect()
    }

    /// The requests that ended at `since_us` or later.
    pub fn ended_since(&self, since_us: u64) -> Vec<Request> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let start = requests.done.partition_point(|request| request.ended_us < since_us);
        requests.done[start..].to_vec()
    }

    /// Is it still at work?
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the client knows.
#[derive(Default)]
struct Requests {
    /// In the order of their ends.
    done: Vec<Request>,
    /// When those began that have no end yet.
    open: Vec<u64>,
}

struct Attempt {
    stream: TcpStream,
    began_us: u64,
    is_sent: bool,
    answer: Vec<u8>,
}

enum Progress {
    Pending,
    Done(Option<String>),
}

fn fetch_until(server: SocketAddr, done: &Mutex<Requests>, is_over: &AtomicBool) -> io::Result<()> {
    let every_us = u64::try_from(EVERY.as_micros()).unwrap_or(u64::MAX);
    let limit_us = u64::try_from(LIMIT.as_micros()).unwrap_or(u64::MAX);
    let mut open: Vec<Attempt> = Vec::new();
    let mut next_us = now_us();
    while !is_over.load(Ordering::Relaxed) {
        let now = now_us();
        if now >= next_us {
            next_us = (next_us + every_us).max(now);
            done.lock().unwrap_or_else(PoisonError::into_inner).open.push(now);
            match begin(server, now) {
                Ok(attempt) => open.push(attempt),
                Err(_unreachable) => finish(done, now, None),
            }
        }
        let mut fds: Vec<PollFd<'_>> = open
            .iter()
            .map(|attempt| PollFd::new(&attempt.stream, if attempt.is_sent { PollFlags::IN } else { PollFlags::OUT }))
            .collect();
        let wait = Duration::from_micros(next_us.saturating_sub(now_us()));
        let wait = Timespec::try_from(wait).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut fds, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let due: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut due = due.into_iter();
        open.retain_mut(|attempt| {
            let progress = if due.next().unwrap_or(false) { attempt.advance() } else { Progress::Pending };
            match progress {
                Progress::Done(answer) => finish(done, attempt.began_us, answer),
                Progress::Pending if now_us().saturating_sub(attempt.began_us) > limit_us => {
                    finish(done, attempt.began_us, None);
                }
                Progress::Pending => return true,
            }
            false
        });
    }
    Ok(())
}

fn finish(done: &Mutex<Requests>, began_us: u64, answer: Option<String>) {
    let mut requests = done.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(position) = requests.open.iter().position(|open| *open == began_us) {
        requests.open.swap_remove(position);
    }
    requests.done.push(Request { began_us, ended_us: now_us(), answer });
}

fn begin(server: SocketAddr, now: u64) -> io::Result<Attempt> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket: OwnedFd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A reset instead of a wait after each connection: otherwise thousands of them would linger.
    rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    match rustix::net::connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Attempt { stream: TcpStream::from(socket), began_us: now, is_sent: false, answer: Vec::new() })
}

impl Attempt {
    fn advance(&mut self) -> Progress {
        if !self.is_sent {
            return match self.stream.write(b"GET / HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n") {
                Ok(_) => {
                    self.is_sent = true;
                    Progress::Pending
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Progress::Pending,
                Err(_) => Progress::Done(None),
            };
        }
        let mut buffer = [0; 2048];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Progress::Done(complete_answer(&self.answer)),
                Ok(count) => self.answer.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Progress::Done(None),
            }
            if self.answer.len() > ANSWER_BYTES_MAX {
                return Progress::Done(None);
            }
        }
        match complete_answer(&self.answer) {
            Some(node) => Progress::Done(Some(node)),
            None => Progress::Pending,
        }
    }
}

/// The node that a whole, good answer names; none if it is not whole or not good.
fn complete_answer(answer: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    if lines.next()?.split(' ').nth(1)? != "200" {
        return None;
    }
    let (mut node, mut length) = (None, None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("x-cardea-node") {
            node = Some(value.trim().to_owned());
        } else if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        }
    }
    (body.len() >= length?).then_some(node?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_counts() {
        let whole = b"HTTP/1.1 200 OK\r\nX-Cardea-Node: a\r\nContent-Length: 2\r\n\r\na\n";
        assert_eq!(complete_answer(whole), Some("a".to_owned()));
        assert_eq!(complete_answer(&whole[..whole.len() - 1]), None);
        assert_eq!(complete_answer(b"HTTP/1.1 502 Bad\r\nX-Cardea-Node: a\r\nContent-Length: 0\r\n\r\n"), None);
        assert_eq!(complete_answer(b"\xff\xfe"), None);
    }
}
