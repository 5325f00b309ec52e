//! What nodes say to each other besides heartbeats.

use consensus::Message as ConsensusMessage;
use executor::ExecutorMessage;
use minicbor::{Decode, Encode};
use model::{Incarnation, LogIndex, Term};

use crate::WireError;

const VERSION: u8 = 1;

/// Encoded messages up to this length travel as datagrams over every link at once, longer ones over a stream.
pub const DATAGRAM_BYTES_MAX: usize = 1100;

/// The longest message to or from an executor: an inventory of all resources that a cluster may have.
const EXECUTOR_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The longest id of a boot, machine or storage.
const ID_BYTES_MAX: usize = 128;

/// One message between two nodes. It may be lost, repeated and late.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Message {
    /// Of the agreed log.
    #[n(0)]
    Consensus(#[n(0)] ConsensusMessage),
    /// Between the leader and an executor.
    #[n(1)]
    Executor(#[n(0)] ExecutorMessage),
    /// To the leader: this incarnation of mine is here and wants to join.
    #[n(2)]
    Announce(#[n(0)] Announce),
    /// To the leader: this node wants to leave in order.
    #[n(3)]
    Leave {
        /// The leaving incarnation.
        #[n(0)]
        incarnation: Incarnation,
    },
    /// To the leader: my state is wrong, as the digests say; send me yours.
    #[n(4)]
    AskState,
    /// The leader's answer, to a member whose state it finds wrong as well.
    #[n(5)]
    State {
        /// Its whole state, as a snapshot.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        snapshot: Vec<u8>,
    },
}

/// A node with a new incarnation presents itself (SAFETY §2.1, Join).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Announce {
    /// The incarnation.
    #[n(0)]
    pub incarnation: Incarnation,
    /// Its boot id.
    #[n(1)]
    #[cbor(decode_with = "identity")]
    pub boot_id: String,
    /// Its machine id.
    #[n(2)]
    #[cbor(decode_with = "identity")]
    pub machine_id: String,
    /// The identity of its storage.
    #[n(3)]
    #[cbor(decode_with = "identity")]
    pub storage_uuid: String,
    /// The term of its last log entry.
    #[n(4)]
    pub last_term: Term,
    /// The index of its last log entry.
    #[n(5)]
    pub last_index: LogIndex,
}

/// Reads an identity: a longer text is none, and would go into the log of every node.
fn identity<Context>(decoder: &mut minicbor::Decoder<'_>, _: &mut Context) -> Result<String, minicbor::decode::Error> {
    let text = decoder.str()?;
    if text.len() > model::IDENTITY_BYTES_MAX {
        return Err(minicbor::decode::Error::message("an identity is longer than any that a machine has"));
    }
    Ok(text.to_owned())
}

/// The message as bytes.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(VERSION);
    minicbor::encode(message, &mut bytes).expect("writing to a Vec cannot fail");
    bytes
}

/// The message in these bytes.
///
/// # Errors
/// If they are no message of this version.
pub fn decode(bytes: &[u8]) -> Result<Message, WireError> {
    let Some((version, body)) = bytes.split_first() else {
        return Err(WireError::Short { found: bytes.len() });
    };
    if *version != VERSION {
        return Err(WireError::Foreign { what: "message", known: VERSION });
    }
    let message: Message =
        minicbor::decode(body).map_err(|cause| WireError::Damaged { what: "message", cause: cause.to_string() })?;
    match &message {
        Message::Executor(_) if bytes.len() > EXECUTOR_BYTES_MAX => Err(too_long("a report of an executor")),
        Message::Announce(announce) if announce.is_too_long() => Err(too_long("an announcement")),
        Message::Consensus(_)
        | Message::Executor(_)
        | Message::Announce(_)
        | Message::Leave { .. }
        | Message::AskState
        | Message::State { .. } => Ok(message),
    }
}

/// What ends up in the log must be of a length that the log can carry.
fn too_long(what: &str) -> WireError {
    WireError::Damaged { what: "message", cause: format!("{what} is too long") }
}

impl Announce {
    fn is_too_long(&self) -> bool {
        [&self.boot_id, &self.machine_id, &self.storage_uuid].into_iter().any(|text| text.len() > ID_BYTES_MAX)
    }
}
