//! Does a service answer?
//!
//! A probe tries once: a TCP connection, or an HTTP GET that must be answered with a status of 200 to 399.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use host::limits::{is_exhaustion, with_reserve};

/// Longest piece of an answer that is read to find its status.
const STATUS_BYTES_MAX: usize = 256;

/// What a service is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Can a connection be made?
    Tcp(SocketAddr),
    /// Is this path answered well?
    Http { address: SocketAddr, path: String },
}

/// Why a probe was not answered as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nothing came within the limit.
    TimedOut,
    /// Something else than an answer came.
    Refused(String),
    /// This node had no room for the question: nothing is known.
    NotAsked(String),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Tcp(address) => write!(f, "tcp {address}"),
            Probe::Http { address, path } => write!(f, "http://{address}{path}"),
        }
    }
}

impl Probe {
    /// The probe that the parameters ask for (`http`, else `tcp`); an error says what is wrong with them.
    pub(crate) fn from_parameters(parameters: &BTreeMap<String, String>) -> Result<Option<Probe>, String> {
        let address = |name: &str, text: &str| {
            text.parse::<SocketAddr>().map_err(|_| format!("parameter `{name}`: `{text}` is not IP:PORT"))
        };
        if let Some(url) = parameters.get("http") {
            let rest = url
                .strip_prefix("http://")
                .ok_or_else(|| format!("parameter `http`: `{url}` does not begin with http://"))?;
            let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
            if path.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(format!("parameter `http`: the path `{path}` contains blanks"));
            }
            let authority = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
            return Ok(Some(Probe::Http { address: address("http", &authority)?, path: path.to_owned() }));
        }
        parameters.get("tcp").map(|text| address("tcp", text).map(Probe::Tcp)).transpose()
    }

    /// Tries once, for at most `limit`.
    pub(crate) fn try_once(&self, limit: Duration) -> Result<(), Silence> {
        let deadline = Instant::now() + limit;
        let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let refused = |error: std::io::Error| match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Silence::TimedOut,
            // No port is left to ask from.
            ErrorKind::AddrNotAvailable => Silence::NotAsked(format!("{self}: {error}")),
            _ if is_exhaustion(&error) => Silence::NotAsked(format!("{self}: {error}")),
            _ => Silence::Refused(format!("{self}: {error}")),
        };
        let address = match self {
            Probe::Tcp(address) | Probe::Http { address, .. } => address,
        };
        let mut stream = with_reserve(|| TcpStream::connect_timeout(address, left())).map_err(refused)?;
        let Probe::Http { path, .. } = self else { return Ok(()) };
        stream.set_write_timeout(Some(left())).map_err(refused)?;
        let request =
            format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nUser-Agent: cardea\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(refused)?;
        let mut answer = Vec::new();
        loop {
            if let Some(status) = status(&answer) {
                return if (200..400).contains(&status) {
                    Ok(())
                } else {
                    Err(Silence::Refused(format!("{self} answers {status}")))
                };
            }
            if Instant::now() >= deadline {
                return Err(Silence::TimedOut);
            }
            if answer.len() >= STATUS_BYTES_MAX {
                return Err(Silence::Refused(format!("{self} does not answer in HTTP")));
            }
            let mut piece = [0; STATUS_BYTES_MAX];
            stream.set_read_timeout(Some(left())).map_err(refused)?;
            match stream.read(&mut piece) {
                Ok(0) => return Err(Silence::Refused(format!("{self} hangs up without an answer"))),
                Ok(read) => answer.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(refused(error)),
            }
        }
    }
}

/// The status of an HTTP answer, as soon as its first line is whole.
fn status(answer: &[u8]) -> Option<u16> {
    let end = answer.iter().position(|b| *b == b'\n')?;
    let mut words = std::str::from_utf8(&answer[..end]).ok()?.split_ascii_whitespace();
    let is_http = words.next()?.starts_with("HTTP/");
    is_http.then(|| words.next()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(20);

    fn parse(name: &str, value: &str) -> Result<Option<Probe>, String> {
        Probe::from_parameters(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    /// Serves one connection with this answer.
    fn server(answer: &'static str) -> Probe {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer.as_bytes());
        });
        Probe::Http { address, path: "/".to_owned() }
    }

    #[test]
    fn a_probe_is_read_from_the_parameters() {
        assert_eq!(parse("tcp", "127.0.0.1:80"), Ok(Some(Probe::Tcp("127.0.0.1:80".parse().unwrap()))));
        let http = Probe::Http { address: "10.0.0.1:8080".parse().unwrap(), path: "/ready?x=1".to_owned() };
        assert_eq!(parse("http", "http://10.0.0.1:8080/ready?x=1"), Ok(Some(http)));
        let plain = Probe::Http { address: "10.0.0.1:80".parse().unwrap(), path: "/".to_owned() };
        assert_eq!(parse("http", "http://10.0.0.1"), Ok(Some(plain)));
        assert_eq!(parse("command", "[]"), Ok(None));
        assert!(parse("tcp", "localhost:http").is_err());
        assert!(parse("http", "https://10.0.0.1/").is_err());
        assert!(parse("http", "http://10.0.0.1/a\r\nX: y").is_err(), "nothing is smuggled into the request");
    }

    #[test]
    fn a_good_status_is_an_answer_and_a_bad_one_is_not() {
        assert_eq!(server("HTTP/1.1 204 No Content\r\n\r\n").try_once(LIMIT), Ok(()));
        assert_eq!(server("HTTP/1.0 302 Found\r\n\r\n").try_once(LIMIT), Ok(()));
        let Err(Silence::Refused(why)) = server("HTTP/1.1 503 Busy\r\n\r\n").try_once(LIMIT) else { panic!() };
        assert!(why.contains("answers 503"), "{why}");
        assert!(matches!(server("").try_once(LIMIT), Err(Silence::Refused(_))));
        assert!(matches!(server("SSH-2.0-OpenSSH\r\n").try_once(LIMIT), Err(Silence::Refused(_))));
    }

    #[test]
    fn silence_is_told_from_a_refusal() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let silent = Probe::Http { address, path: "/".to_owned() };
        assert_eq!(silent.try_once(Duration::from_millis(20)), Err(Silence::TimedOut));
        assert_eq!(Probe::Tcp(address).try_once(LIMIT), Ok(()));
        drop(listener);
        assert!(matches!(Probe::Tcp(address).try_once(LIMIT), Err(Silence::Refused(_))));
    }
}
