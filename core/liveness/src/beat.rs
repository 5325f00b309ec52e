//! What does a heartbeat say?
//!
//! A beat proves that the sender's pulse runs. Everything else in it is a hint for the receiver: how well the
//! sender hears (echo, loss, ages), how far its log is (facts), whether its own word counts just now (flags).
//!
//! The header travels in the clear and is authenticated; the beat is sealed. Their bytes on the wire are the
//! business of `core/wire` and `io/transport`; the size is bounded here: at most 256 bytes for 16 members in a
//! cluster of ordinary age.

use std::time::Duration;

use minicbor::{Decode, Encode};
use model::{ConfigVersion, Epoch, Incarnation, LinkId, LogIndex, NodeId, Term};

/// The part of a beat that everybody on the network may read, and nobody may change.
///
/// `seq` counts from 1 per receiver and link and never repeats under one `salt`: the two are the nonce of the seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeatHeader {
    /// The identity of the cluster.
    pub cluster: u64,
    /// Who sends.
    pub sender: NodeId,
    /// To whom.
    pub receiver: NodeId,
    /// Drawn at random at every start of the sending process: names one life of it.
    pub salt: u128,
    /// Which cluster key seals the beat.
    pub key_epoch: u32,
    /// Over which link.
    pub link: LinkId,
    /// The number of this beat, from 1.
    pub seq: u64,
}

/// The sealed part of a beat.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Beat {
    /// The life of the sender's kernel.
    #[n(0)]
    pub incarnation: Incarnation,
    /// Why this beat was sent.
    #[n(1)]
    pub kind: BeatKind,
    /// What the receiver should know before it believes the rest.
    #[n(2)]
    pub flags: BeatFlags,
    /// When it was sent, on the sender's own time line, in microseconds: orders the beats of one salt over all links.
    #[n(3)]
    pub sent_at_us: u64,
    /// How long after its planned time it was sent, in microseconds.
    #[n(4)]
    pub late_us: u32,
    /// How long the sender did not run within its last second, in milliseconds; 0..=1000.
    #[n(5)]
    pub own_stall_ms: u16,
    /// The next beat on this link follows within this time, in milliseconds; more than the usual interval announces
    /// a pause.
    #[n(6)]
    pub next_by_ms: u16,
    /// The last beat that the sender received from the receiver over this link.
    #[n(7)]
    pub echo: Option<Echo>,
    /// What the sender lost of the receiver's last 256 beats over this link; 0..=1000.
    #[n(8)]
    pub loss_permille: u16,
    /// How long ago the sender heard the other members; neither itself nor the receiver is in it.
    #[n(9)]
    pub ages: Vec<Age>,
    /// How far the sender's log is.
    #[n(10)]
    pub facts: Facts,
    /// For how long the sender's other parts have stood still; none while all is well.
    #[n(11)]
    pub health: Option<Health>,
    /// Members of which the sender hears two lives, the receiver included; none if there are none.
    #[n(12)]
    pub two_lives: Option<Vec<NodeId>>,
}

/// Why a beat was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum BeatKind {
    /// It was time, or something changed.
    #[n(0)]
    Beat,
    /// The receiver has been silent for a while; it answers each round once, on all links.
    #[n(1)]
    Ping {
        /// Counts the rounds of the sender, from 1.
        #[n(0)]
        round: u32,
    },
    /// The answer to a round.
    #[n(2)]
    Pong {
        /// The round.
        #[n(0)]
        round: u32,
    },
}

/// Proof that a beat arrived: its name, sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Echo {
    /// The salt under which it was sent.
    #[n(0)]
    #[cbor(with = "salt_bytes")]
    pub salt: u128,
    /// Its number.
    #[n(1)]
    pub seq: u64,
    /// How long ago it arrived, in microseconds.
    #[n(2)]
    pub hold_us: u32,
}

/// How long ago the sender of a beat heard a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Age {
    /// The member.
    #[n(0)]
    pub node: NodeId,
    /// The age in units of 10 ms, rounded down; 255 is 2.55 s and more, or never.
    #[n(1)]
    pub units: u8,
}

/// A set of notes that a beat carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct BeatFlags(#[n(0)] u8);

impl BeatFlags {
    /// No note.
    pub const NONE: BeatFlags = BeatFlags(0);
    /// The sender did not run for a while, and now runs again.
    pub const JUST_STALLED: BeatFlags = BeatFlags(1);
    /// The sender stops in order and will fall silent.
    pub const LEAVING: BeatFlags = BeatFlags(2);
    /// The sender does not trust its own view: its silence about others accuses nobody.
    pub const NO_ACCUSE: BeatFlags = BeatFlags(4);
    /// The sender has lately heard the receiver over this link, from and at the addresses that the configuration in
    /// `facts` gives to the two. About this link alone.
    pub const HEARD_AS_AGREED: BeatFlags = BeatFlags(8);

    /// Are all notes of `other` in this set?
    pub const fn has(self, other: BeatFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// This set and `other`.
    #[must_use]
    pub const fn with(self, other: BeatFlags) -> BeatFlags {
        BeatFlags(self.0 | other.0)
    }

    /// This set without `other`.
    #[must_use]
    pub const fn without(self, other: BeatFlags) -> BeatFlags {
        BeatFlags(self.0 & !other.0)
    }
}

/// How far a node's log is; told by its worker, carried by its pulse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Facts {
    /// Its term.
    #[n(0)]
    pub term: Term,
    /// Whom it follows, or itself.
    #[n(1)]
    pub leader: Option<NodeId>,
    /// The term of its last log entry.
    #[n(2)]
    pub last_term: Term,
    /// The index of its last log entry.
    #[n(3)]
    pub last_index: LogIndex,
    /// The last index that it knows to be committed.
    #[n(4)]
    pub commit: LogIndex,
    /// The last index that it applied.
    #[n(5)]
    pub applied: LogIndex,
    /// The configuration it has applied.
    #[n(6)]
    pub config_version: ConfigVersion,
    /// The index at which `digest` was taken.
    #[n(7)]
    pub digest_index: LogIndex,
    /// The digest of its state at `digest_index`.
    #[n(8)]
    pub digest: u64,
    /// The epoch it has applied.
    #[n(9)]
    pub epoch: Epoch,
    /// Its wish to lead: higher first; a witness has −1.
    #[n(10)]
    pub priority: i8,
    /// Does the rest mean anything? False until the worker has its log open.
    #[n(11)]
    pub is_known: bool,
    /// Which kinds of entries it can read.
    #[n(12)]
    #[cbor(default)]
    pub level: u8,
}

impl Facts {
    /// Does `other` differ in a way that somebody waits for? How much is applied can wait for the next beat.
    pub(crate) fn differs_urgently(&self, other: &Facts) -> bool {
        let Facts { term, leader, commit, config_version, epoch, is_known, .. } = *other;
        (term, leader, commit, config_version, epoch, is_known)
            != (self.term, self.leader, self.commit, self.config_version, self.epoch, self.is_known)
    }
}

/// For how long parts of a node have made no progress, in its own detector time; zero while all is well.
///
/// A beat proves that the machine and the pulse run. It is this that says whether the rest does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The worker's loop has not come round for so long.
    pub worker: Duration,
    /// Writes are outstanding, and none has become durable for so long.
    pub disk: Duration,
}

/// What is younger is no sign of anything, and is not sent.
const HEALTH_MIN: Duration = Duration::from_secs(1);

/// The unit in which ages of progress are sent.
const HEALTH_UNIT: Duration = Duration::from_millis(100);

impl Health {
    /// The longer of the two.
    pub fn longest(&self) -> Duration {
        self.worker.max(self.disk)
    }

    /// As a beat carries it.
    pub(crate) fn to_send(self) -> Option<Health> {
        (self.longest() >= HEALTH_MIN).then_some(self)
    }
}

impl<C> Encode<C> for Health {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let units = |age: Duration| u16::try_from(age.as_millis() / HEALTH_UNIT.as_millis().max(1)).unwrap_or(u16::MAX);
        e.array(2)?.u16(units(self.worker))?.u16(units(self.disk))?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Health {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let position = d.position();
        if d.array()? != Some(2) {
            return Err(minicbor::decode::Error::message("progress has two ages").at(position));
        }
        Ok(Health { worker: HEALTH_UNIT * u32::from(d.u16()?), disk: HEALTH_UNIT * u32::from(d.u16()?) })
    }
}

/// CBOR has no 128-bit numbers: a salt is 16 bytes, most significant first.
mod salt_bytes {
    use minicbor::decode::Error;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};

    pub fn encode<C, W: Write>(salt: &u128, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        e.bytes(&salt.to_be_bytes())?.ok()
    }

    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<u128, Error> {
        let position = d.position();
        let bytes: [u8; 16] = d.bytes()?.try_into().map_err(|_| Error::message("a salt has 16 bytes").at(position))?;
        Ok(u128::from_be_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fullest() -> Beat {
        Beat {
            incarnation: Incarnation(u64::MAX),
            kind: BeatKind::Ping { round: u32::MAX },
            flags: BeatFlags::JUST_STALLED.with(BeatFlags::LEAVING),
            sent_at_us: u64::MAX,
            late_us: u32::MAX,
            own_stall_ms: 1000,
            next_by_ms: 1000,
            echo: Some(Echo { salt: u128::MAX, seq: u64::MAX, hold_us: u32::MAX }),
            loss_permille: 1000,
            ages: (0..14).map(|n| Age { node: NodeId(40_000 + n), units: 255 }).collect(),
            facts: Facts {
                term: Term(70_000),
                leader: Some(NodeId(40_000)),
                last_term: Term(70_000),
                last_index: LogIndex(10_000_000),
                commit: LogIndex(10_000_000),
                applied: LogIndex(10_000_000),
                config_version: ConfigVersion(10_000_000),
                digest_index: LogIndex(10_000_000),
                digest: u64::MAX,
                epoch: Epoch(10_000_000),
                priority: -1,
                is_known: true,
                level: 1,
            },
            health: None,
            two_lives: None,
        }
    }

    #[test]
    fn a_beat_survives_the_wire() {
        let beat = fullest();
        let bytes = minicbor::to_vec(&beat).expect("a vector takes every beat");
        assert_eq!(minicbor::decode::<Beat>(&bytes).expect("what was encoded decodes"), beat);
    }

    #[test]
    fn progress_travels_in_tenths_of_a_second_and_only_when_it_lacks() {
        let health = Health { worker: Duration::from_millis(2040), disk: Duration::ZERO };
        let sick = Beat { health: health.to_send(), ..fullest() };
        let bytes = minicbor::to_vec(&sick).expect("a vector takes every beat");
        let read = minicbor::decode::<Beat>(&bytes).expect("what was encoded decodes").health.expect("it was sent");
        assert_eq!(read, Health { worker: Duration::from_millis(2000), disk: Duration::ZERO });
        assert_eq!(Health { worker: Duration::from_millis(900), disk: Duration::ZERO }.to_send(), None);
    }

    #[test]
    fn a_beat_of_sixteen_members_fits_256_bytes() {
        let bytes = minicbor::to_vec(fullest()).expect("a vector takes every beat");
        assert!(bytes.len() <= 256, "{} bytes", bytes.len());
    }

    #[test]
    fn a_salt_of_the_wrong_length_is_refused() {
        let bytes = minicbor::to_vec((minicbor::bytes::ByteVec::from(vec![1u8; 15]), 1u64, 1u32)).expect("encodes");
        assert!(minicbor::decode::<Echo>(&bytes).is_err());
    }
}
