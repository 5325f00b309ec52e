//! Who answers here? A small web responder that names the node it runs on, for labs and demos without a web server.
//!
//! Every GET gets 200 and a tiny page. One thread, no runtime: it answers within milliseconds of its start.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Longest time that a connection may take; the slowest is dropped when too many are open.
const CONNECTION_LIMIT: Duration = Duration::from_secs(5);

/// How long to wait for the address to appear on this node.
const BIND_LIMIT: Duration = Duration::from_secs(1);

/// Most connections at a time.
const CONNECTIONS_MAX: usize = 1000;

struct Connection {
    stream: TcpStream,
    begun: Instant,
    head: Vec<u8>,
    answer: Option<(Vec<u8>, usize)>,
}

/// Answers on `listen` until it is killed.
pub fn run(listen: SocketAddr, name: Option<String>) -> anyhow::Result<()> {
    let name = name.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    let listener = bind(listen).with_context(|| format!("could not listen on {listen}"))?;
    listener.set_nonblocking(true)?;
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let mut fds = vec![PollFd::new(&listener, PollFlags::IN)];
        fds.extend(connections.iter().map(|connection| {
            let waits_for = if connection.answer.is_some() { PollFlags::OUT } else { PollFlags::IN };
            PollFd::new(&connection.stream, waits_for)
        }));
        let limit = (!connections.is_empty()).then_some(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has_callers = !fds[0].revents().is_empty();
        let mut is_due = fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<bool>>().into_iter();
        connections.retain_mut(|connection| {
            let is_due = is_due.next().unwrap_or(false);
            (!is_due || connection.advance(&name)) && connection.begun.elapsed() < CONNECTION_LIMIT
        });
        while has_callers && connections.len() < CONNECTIONS_MAX {
            let Ok((stream, _)) = listener.accept() else { break };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let _ = stream.set_nodelay(true);
            let mut connection = Connection { stream, begun: Instant::now(), head: Vec::new(), answer: None };
            if connection.advance(&name) {
                connections.push(connection);
            }
        }
    }
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(listen) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && begun.elapsed() < BIND_LIMIT => {
                thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

impl Connection {
    /// Reads or writes what is possible; false when the connection is over.
    fn advance(&mut self, name: &str) -> bool {
        loop {
            if let Some((bytes, sent)) = &mut self.answer {
                match self.stream.write(&bytes[*sent..]) {
                    Ok(count) => *sent += count,
                    Err(error) => return is_early(&error),
                }
                if *sent == bytes.len() {
                    let _ = self.stream.shutdown(std::net::Shutdown::Write);
                    return false;
                }
                continue;
            }
            let mut buffer = [0; 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.head.extend_from_slice(&buffer[..count]),
                Err(error) => return is_early(&error),
            }
            if self.head.windows(4).any(|window| window == b"\r\n\r\n") {
                self.answer = Some((answer(&self.head, name), 0));
            } else if self.head.len() > HEAD_BYTES_MAX {
                return false;
            }
        }
    }
}

fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn answer(head: &[u8], name: &str) -> Vec<u8> {
    let is_get = head.starts_with(b"GET ") || head.starts_with(b"HEAD ");
    let (status, body) = if is_get {
        ("200 OK", format!("<!doctype html><title>{name}</title><h1>{name}</h1>\n"))
    } else {
        ("405 Method Not Allowed", "only GET\n".to_owned())
    };
    let shown = if head.starts_with(b"HEAD ") { "" } else { &body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {}\r\nX-Cardea-Node: {name}\r\n\
         Connection: close\r\n\r\n{shown}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_the_node() {
        let text = String::from_utf8(answer(b"GET / HTTP/1.1\r\n\r\n", "a")).expect("text");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(text.contains("X-Cardea-Node: a\r\n"));
        assert!(text.ends_with("<h1>a</h1>\n"));
    }

    #[test]
    fn nothing_but_get_is_served() {
        assert!(answer(b"DELETE / HTTP/1.1\r\n\r\n", "a").starts_with(b"HTTP/1.1 405"));
    }
}
