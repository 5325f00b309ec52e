//! How does a machine become a member with nothing but a token and an address?
//!
//! ```text
//!   token = ID . SECRET . HASH        (hexadecimal; 64 bits, 128 bits, SHA-256 of the authority's public key)
//!
//!   joiner ── TLS, the other end certified by the pinned authority ──► any member
//!          ── token id, request for a certificate, details, proof ──►
//!          ◄── answer: certificate, secrets, members ──
//! ```
//!
//! The proof is HMAC-SHA256 over the connection's exporter, the request and the details, under
//! SHA-256(secret): the cluster stores nothing else of the secret, and a proof that somebody relays
//! to another connection proves nothing there.
//!
//! Not here: whether a token is good and used up (`core/state`), what details and answer say (`apps`).
//!
//! Source: RFC 5705 (exporters), RFC 2104 (HMAC).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use zeroize::{Zeroize, Zeroizing};

use crate::hex;
use crate::identity::{IdentityError, NodeKey};
use crate::seal::random;
use crate::streams::{JOIN_BYTES_MAX, Kind, REQUEST_BYTES_MAX};
use crate::tls;

const VERSION: u8 = 1;
const PROOF_BYTES: usize = 32;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The leader may be busy electing; admission is one agreed entry.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A token that admits one node, once.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: u64,
    secret: [u8; 16],
    pin: [u8; 32],
}

impl Drop for JoinToken {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The whole token, secret included: for the operator who asked for it.
impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}.{}", self.id, hex::encode(&self.secret), hex::encode(&self.pin))
    }
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts.
    #[error(
        "a token has three parts with dots between them, this has {parts}: copy it whole from `cardea token create`"
    )]
    Parts {
        /// How many there are.
        parts: usize,
    },
    /// A part is too short, too long, or not hexadecimal.
    #[error("the {part} of the token is not {digits} hexadecimal digits: copy it whole from `cardea token create`")]
    Part {
        /// Which part.
        part: &'static str,
        /// How long it should be.
        digits: usize,
    },
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [id, secret, pin] = parts.as_slice() else { return Err(TokenError::Parts { parts: parts.len() }) };
        Ok(JoinToken {
            id: u64::from_be_bytes(hex::decode(id).ok_or(TokenError::Part { part: "id", digits: 16 })?),
            secret: hex::decode(secret).ok_or(TokenError::Part { part: "secret", digits: 32 })?,
            pin: hex::decode(pin).ok_or(TokenError::Part { part: "hash", digits: 64 })?,
        })
    }
}

impl JoinToken {
    /// A fresh token for the cluster whose authority's public key has this hash ([`crate::public_key_hash`]).
    pub fn generate(authority_hash: [u8; 32]) -> Self {
        JoinToken { id: u64::from_be_bytes(random()), secret: random(), pin: authority_hash }
    }

    /// By which the cluster finds it.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// SHA-256 of the secret: all that the cluster stores of it, and the key of the proof.
    pub fn secret_hash(&self) -> Vec<u8> {
        digest::digest(&digest::SHA256, &self.secret).as_ref().to_vec()
    }
}

/// What a joining node asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// Which token it has.
    pub token: u64,
    /// Its request for a certificate, PKCS #10 DER.
    pub certificate_request: Vec<u8>,
    /// What else it says about itself, as the apps agree.
    pub details: Vec<u8>,
    proof: [u8; PROOF_BYTES],
}

impl JoinRequest {
    /// Reads what [`crate::Handler::on_join`] got; none if it is malformed.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (token, rest) = rest.split_first_chunk::<8>()?;
        let (proof, rest) = rest.split_first_chunk::<PROOF_BYTES>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (request, details) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        (*version == VERSION).then(|| JoinRequest {
            token: u64::from_be_bytes(*token),
            certificate_request: request.to_vec(),
            details: details.to_vec(),
            proof: *proof,
        })
    }

    /// Does the sender know the secret whose SHA-256 the cluster stored, and was this made for the connection of
    /// this exporter?
    pub fn is_proven(&self, secret_hash: &[u8], exporter: &[u8; 32]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret_hash);
        hmac::verify(&key, &proven(exporter, &self.certificate_request, &self.details), &self.proof).is_ok()
    }

    fn new(token: &JoinToken, exporter: &[u8; 32], certificate_request: Vec<u8>, details: Vec<u8>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &token.secret_hash());
        let tag = hmac::sign(&key, &proven(exporter, &certificate_request, &details));
        let proof = std::array::from_fn(|place| tag.as_ref()[place]);
        JoinRequest { token: token.id, certificate_request, details, proof }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.token.to_be_bytes());
        bytes.extend_from_slice(&self.proof);
        bytes.extend_from_slice(&length(&self.certificate_request));
        bytes.extend_from_slice(&self.certificate_request);
        bytes.extend_from_slice(&self.details);
        bytes
    }
}

fn proven(exporter: &[u8; 32], certificate_request: &[u8], details: &[u8]) -> Vec<u8> {
    [exporter, length(certificate_request).as_slice(), certificate_request, details].concat()
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Why joining did not work.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No address took the connection.
    #[error("no member answers at {address}: is its daemon running, and the port open?")]
    Unreachable {
        /// The last address that was tried.
        address: SocketAddr,
        /// What it said.
        #[source]
        cause: io::Error,
    },
    /// Somebody answers who is not of the token's cluster.
    #[error("{address} is not a member of the cluster that made this token: check the address, or make a new token")]
    WrongCluster {
        /// The address.
        address: SocketAddr,
        /// What TLS said.
        #[source]
        cause: io::Error,
    },
    /// The member closed the connection without an answer.
    #[error("{address} gave no answer: the token may be used up or expired; its log says why")]
    NoAnswer {
        /// The address.
        address: SocketAddr,
        /// What happened to the connection.
        #[source]
        cause: io::Error,
    },
    /// The details do not fit.
    #[error("the request is longer than {JOIN_BYTES_MAX} bytes")]
    TooLong,
    /// The node's key could not be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS could not be set up.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What a member answered, and what only the joiner has.
#[derive(Debug)]
pub struct JoinAnswer {
    /// The answer, as the apps agree.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The certificate (DER) of the authority that the token pins: believe no other.
    pub authority: Vec<u8>,
    /// The key that the certificate in the answer is for.
    pub key: NodeKey,
}

/// Asks the first member that answers to admit this node; waits for the answer, up to about half a minute.
///
/// # Errors
/// See [`JoinError`]; whether the token was used up is unknown after [`JoinError::NoAnswer`].
pub fn join(addresses: &[SocketAddr], token: &JoinToken, details: &[u8]) -> Result<JoinAnswer, JoinError> {
    let key = NodeKey::generate()?;
    let certificate_request = key.request()?;
    if certificate_request.len() + details.len() + 1024 > JOIN_BYTES_MAX {
        return Err(JoinError::TooLong);
    }
    let mut socket = Err(JoinError::Unreachable {
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        cause: io::Error::new(io::ErrorKind::InvalidInput, "no address was given"),
    });
    for address in addresses {
        socket = TcpStream::connect_timeout(address, CONNECT_TIMEOUT)
            .map(|socket| (socket, *address))
            .map_err(|cause| JoinError::Unreachable { address: *address, cause });
        if socket.is_ok() {
            break;
        }
    }
    let (mut socket, address) = socket?;
    let unreachable = |cause| JoinError::Unreachable { address, cause };
    socket.set_nodelay(true).map_err(unreachable)?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(unreachable)?;
    socket.set_write_timeout(Some(CONNECT_TIMEOUT)).map_err(unreachable)?;

    let name = ServerName::IpAddress(address.ip().into());
    let mut connection = ClientConnection::new(tls::joiner_config(token.pin)?, name)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).map_err(|cause| {
            match cause.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                true => JoinError::WrongCluster { address, cause },
                false => JoinError::Unreachable { address, cause },
            }
        })?;
    }
    let exporter = connection.export_keying_material([0; 32], tls::EXPORTER_LABEL, None)?;
    let authority = connection
        .peer_certificates()
        .and_then(|shown| tls::pinned_authority(&token.pin, shown))
        .ok_or(rustls::Error::NoCertificatesPresented)?
        .to_vec();
    let request = JoinRequest::new(token, &exporter, certificate_request, details.to_vec()).encode();
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    let bytes = exchange(&mut stream, &request).map_err(|cause| JoinError::NoAnswer { address, cause })?;
    Ok(JoinAnswer { bytes, authority, key })
}

fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    stream.write_all(&[Kind::Join.byte()])?;
    stream.write_all(&length(request))?;
    stream.write_all(request)?;
    stream.flush()?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > REQUEST_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
    }
    let mut answer = Zeroizing::new(Vec::new());
    stream.take(length as u64).read_to_end(&mut answer)?;
    if answer.len() == length { Ok(answer) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use model::NodeId;

    use super::*;
    use crate::identity::tests::{CLUSTER, Secrets, secrets};
    use crate::{AllowList, Answer, Handler, Identity, Streams, StreamsConfig, StreamsHandle, issue, public_key_hash};

    /// A member that admits whoever proves to know the secret of its one token, as node 7.
    struct Door {
        secrets: Secrets,
        secret_hash: Vec<u8>,
        seen: Mutex<mpsc::Sender<(Vec<u8>, [u8; 32])>>,
    }

    impl Handler for Door {
        fn on_newcomer(&self, _from: NodeId, _address: std::net::IpAddr) {}
        fn on_message(&self, _from: NodeId, _message: Vec<u8>) {}
        fn on_request(&self, _from: NodeId, _request: Vec<u8>, _answer: Answer) {}
        fn on_join(&self, bytes: Vec<u8>, exporter: [u8; 32], answer: Answer) {
            let request = JoinRequest::parse(&bytes).unwrap();
            if request.is_proven(&self.secret_hash, &exporter) {
                let wanted = &request.certificate_request;
                answer.send(issue(&self.secrets.authority, wanted, NodeId(7), CLUSTER).unwrap());
            }
            self.seen.lock().unwrap().send((bytes, exporter)).unwrap();
        }
    }

    struct Fixture {
        handle: StreamsHandle,
        token: JoinToken,
        seen: mpsc::Receiver<(Vec<u8>, [u8; 32])>,
        cluster_key: crate::ClusterKey,
    }

    fn cluster() -> Fixture {
        let secrets = secrets();
        let token = JoinToken::generate(public_key_hash(secrets.authority.certificate()).unwrap());
        let cluster_key = secrets.cluster_key.clone();
        let (tell, seen) = mpsc::channel();
        let config = StreamsConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            identity: secrets.identity(1),
            allowed: AllowList::default(),
        };
        let door = Door { secrets, secret_hash: token.secret_hash(), seen: Mutex::new(tell) };
        let handle = Streams::start(config, Arc::new(door)).unwrap();
        Fixture { handle, token, seen, cluster_key }
    }

    #[test]
    fn a_token_makes_a_machine_a_member() {
        let cluster = cluster();
        // Copied by hand, with a newline, and with a member that is down.
        let token: JoinToken = format!(" {}\n", cluster.token).parse().unwrap();
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let addresses = [dead, cluster.handle.listening()[0]];
        let answer = join(&addresses, &token, b"I am d").unwrap();
        let identity =
            Identity::new(&answer.authority, &answer.bytes, &answer.key, cluster.cluster_key.clone()).unwrap();
        assert_eq!((identity.node(), identity.cluster_id()), (NodeId(7), CLUSTER));
        let (bytes, exporter) = cluster.seen.recv().unwrap();
        let request = JoinRequest::parse(&bytes).unwrap();
        assert_eq!((request.token, request.details.as_slice()), (token.id(), b"I am d".as_slice()));
        assert!(request.is_proven(&token.secret_hash(), &exporter));
        assert!(!request.is_proven(&token.secret_hash(), &[0; 32]), "relayed to another connection");
        for place in 9..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let proven = JoinRequest::parse(&changed).is_some_and(|r| r.is_proven(&token.secret_hash(), &exporter));
            assert!(!proven, "{place}");
        }
    }

    #[test]
    fn a_wrong_secret_gets_no_answer() {
        let cluster = cluster();
        let mut guessed = cluster.token.clone();
        guessed.secret[0] ^= 1;
        let outcome = join(&cluster.handle.listening(), &guessed, b"");
        assert!(matches!(outcome, Err(JoinError::NoAnswer { .. })), "{outcome:?}");
        assert!(join(&cluster.handle.listening(), &cluster.token, b"").is_ok());
    }

    #[test]
    fn a_member_of_another_cluster_learns_nothing() {
        let (ours, theirs) = (cluster(), cluster());
        let outcome = join(&theirs.handle.listening(), &ours.token, b"my secrets");
        assert!(matches!(outcome, Err(JoinError::WrongCluster { .. })), "{outcome:?}");
        assert!(theirs.seen.try_recv().is_err());
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(join(&[nobody], &ours.token, b""), Err(JoinError::Unreachable { .. })));
        assert!(matches!(join(&[], &ours.token, b""), Err(JoinError::Unreachable { .. })));
        assert!(matches!(join(&[nobody], &ours.token, &[0; JOIN_BYTES_MAX]), Err(JoinError::TooLong)));
    }

    #[test]
    fn a_token_survives_as_text_and_a_damaged_one_says_where() {
        let token = JoinToken::generate([9; 32]);
        let text = token.to_string();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(&text[17..49]), "the secret is not for logs");
        assert_eq!("abc".parse::<JoinToken>(), Err(TokenError::Parts { parts: 1 }));
        assert_eq!(text[..text.len() - 1].parse::<JoinToken>(), Err(TokenError::Part { part: "hash", digits: 64 }));
        assert_eq!(text.replacen('.', "x.", 1).parse::<JoinToken>(), Err(TokenError::Part { part: "id", digits: 16 }));
    }

    #[test]
    fn a_malformed_request_is_none() {
        let request = JoinRequest::new(&JoinToken::generate([0; 32]), &[1; 32], vec![5; 40], vec![6; 9]);
        let bytes = request.encode();
        assert_eq!(JoinRequest::parse(&bytes), Some(request));
        assert!((0..85).all(|length| JoinRequest::parse(&bytes[..length]).is_none()));
        assert_eq!(JoinRequest::parse(&[0xff; 300]), None);
    }
}
