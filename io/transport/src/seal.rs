//! Did a member of this cluster send this datagram, and may others read it?
//!
//! Every datagram is sealed with AES-256-GCM under a key for its label, sender, receiver and
//! session: HKDF-SHA256 of the cluster key, with the session's salt. A salt is drawn at every
//! start of the sending process and every packet of it has its own number, so no nonce is ever
//! used twice. A seal proves *a member*, not which one: enough for liveness, and for messages
//! that Raft may see late, twice or never.
//!
//! In: clear header, body, numbers of the packet. Out: sealed or opened body.
//! Not here: what a packet holds (`core/wire`), whether it comes a second time (`replay.rs`, `core/liveness`).
//!
//! Sources: RFC 5869 (HKDF), NIST SP 800-38D (GCM).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, hmac};
use model::{LinkId, NodeId};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::{Zeroize, Zeroizing};

use crate::hex;

/// What a seal adds to a body, in bytes.
pub const TAG_BYTES: usize = 16;
/// Sessions whose keys are kept per pair of nodes: the living one, and some for packets that are still on their way.
const SESSIONS_KEPT: usize = 4;
/// Pairs of nodes whose keys are kept.
const PAIRS_KEPT: usize = 512;
const CHECKSUM_BYTES: usize = 4;
const DIAL_PREFIX: &str = "cardea-dial-";

/// The secret that all members share; never printed, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey([u8; 32]);

impl Drop for ClusterKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(hidden)")
    }
}

impl ClusterKey {
    /// A fresh random key.
    pub fn generate() -> Self {
        ClusterKey(random())
    }

    /// The key of these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        ClusterKey(bytes)
    }

    /// The bytes of the key: for the sealed channel that carries it to a joining node, never for a log.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads a key that [`ClusterKey::save`] wrote.
    ///
    /// # Errors
    /// As the file system says; `InvalidData` if it is no key, or not the one that was written.
    pub fn load(path: &Path) -> io::Result<Self> {
        let text = Zeroizing::new(crate::files::read(path)?);
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let text = std::str::from_utf8(&text).map_err(|_| wrong("not a cluster key"))?.trim();
        let (key, checksum) = text.split_once(' ').ok_or_else(|| wrong("not a cluster key"))?;
        let key = ClusterKey(hex::decode(key).ok_or_else(|| wrong("not a cluster key"))?);
        if hex::decode(checksum) == Some(key.checksum()) { Ok(key) } else { Err(wrong("the checksum does not match")) }
    }

    /// Writes the key to a file that its owner alone can read, replacing it whole.
    ///
    /// # Errors
    /// As the file system says.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let text = Zeroizing::new(format!("{} {}\n", hex::encode(&self.0), hex::encode(&self.checksum())));
        crate::files::write(path, text.as_bytes(), 0o600)
    }

    /// Shows whoever has the key, before any handshake, that `dialler` means to connect to `listener`.
    ///
    /// It decides whose turn a handshake is, and proves nothing more: the certificate does.
    pub(crate) fn dial_proof(&self, dialler: NodeId, listener: NodeId) -> String {
        let mut told = b"cardea dial".to_vec();
        told.extend_from_slice(&dialler.0.to_be_bytes());
        told.extend_from_slice(&listener.0.to_be_bytes());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), &told);
        format!("{DIAL_PREFIX}{dialler}-{}", hex::encode(&tag.as_ref()[..16]))
    }

    /// Is this such a proof for `listener`, of another node?
    pub(crate) fn is_dial_proof(&self, proof: &[u8], listener: NodeId) -> bool {
        let dialler = std::str::from_utf8(proof)
            .ok()
            .and_then(|proof| proof.strip_prefix(DIAL_PREFIX)?.split_once('-')?.0.parse().ok());
        dialler.is_some_and(|dialler| {
            let expected = self.dial_proof(NodeId(dialler), listener);
            NodeId(dialler) != listener
                && aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), proof).is_ok()
        })
    }

    fn checksum(&self) -> [u8; CHECKSUM_BYTES] {
        let hash = digest::digest(&digest::SHA256, &self.0);
        std::array::from_fn(|place| hash.as_ref()[place])
    }
}

/// What a sealed packet is for; a packet of one label never opens as one of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// A heartbeat.
    Beat,
    /// A message that fits a datagram.
    Datagram,
}

impl Label {
    const fn bytes(self) -> &'static [u8] {
        match self {
            Label::Beat => b"cardea beat",
            Label::Datagram => b"cardea datagram",
        }
    }
}

/// A fresh session salt: drawn at every start of a sending process.
pub fn random_salt() -> u128 {
    u128::from_be_bytes(random())
}

/// Random bytes from the kernel itself.
///
/// The generator of aws-lc measures jitter for 50 ms of processor time before its first byte, which a worker that has
/// just been restarted does not have: its first beat waits for its salt.
///
/// # Panics
/// If the system has none: nothing that needs a secret may go on then.
pub fn random<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let mut filled = 0;
    while filled < BYTES {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(Errno::INTR) => {}
            Err(error) => panic!("the system has random bytes: {error}"),
        }
    }
    bytes
}

/// Seals packets. Belongs to one thread; a session's keys are derived once.
#[derive(Debug)]
pub struct Sealer(Keys);

impl Sealer {
    /// A sealer under this key.
    pub fn new(key: &ClusterKey) -> Self {
        Sealer(Keys::new(key))
    }

    /// Encrypts `body` in place and appends its tag of [`TAG_BYTES`].
    ///
    /// `header` stays readable and cannot be changed unnoticed. The caller never uses the same `link` and `seq`
    /// twice under one label, sender, receiver and salt. Allocates nothing if `body` has room for the tag and the
    /// session is known.
    pub fn seal(
        &mut self,
        label: Label,
        sender: NodeId,
        receiver: NodeId,
        salt: u128,
        link: LinkId,
        seq: u64,
        header: &[u8],
        body: &mut Vec<u8>,
    ) {
        let key = self.0.kept(Pair { label, sender, receiver }, salt);
        let tag = key
            .seal_in_place_separate_tag(nonce(link, seq), Aad::from(header), body)
            .expect("a datagram is shorter than what one nonce can carry");
        body.extend_from_slice(tag.as_ref());
    }
}

/// Opens packets. Belongs to one thread.
///
/// A session is remembered only after a packet of it has opened, so a flood of made-up salts costs
/// its own work and displaces nothing.
#[derive(Debug)]
pub struct Opener(Keys);

impl Opener {
    /// An opener under this key.
    pub fn new(key: &ClusterKey) -> Self {
        Opener(Keys::new(key))
    }

    /// Checks and decrypts `body` in place; the length of the plain text at its start, or none if this exact
    /// packet was not sealed under this key. What `body` holds then is worthless.
    pub fn open(
        &mut self,
        label: Label,
        sender: NodeId,
        receiver: NodeId,
        salt: u128,
        link: LinkId,
        seq: u64,
        header: &[u8],
        body: &mut [u8],
    ) -> Option<usize> {
        let pair = Pair { label, sender, receiver };
        let open = |key: &LessSafeKey, body: &mut [u8]| {
            key.open_in_place(nonce(link, seq), Aad::from(header), body).ok().map(|plain| plain.len())
        };
        if let Some(key) = self.0.find(pair, salt) {
            return open(key, body);
        }
        if body.len() < TAG_BYTES {
            return None;
        }
        let key = self.0.derive(pair, salt);
        let length = open(&key, body)?;
        self.0.keep(pair, salt, key);
        Some(length)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    label: Label,
    sender: NodeId,
    receiver: NodeId,
}

/// The keys of recent sessions, the latest first.
struct Keys {
    cluster: ClusterKey,
    sessions: BTreeMap<Pair, Vec<(u128, LessSafeKey)>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("pairs", &self.sessions.len()).finish_non_exhaustive()
    }
}

impl Keys {
    fn new(cluster: &ClusterKey) -> Self {
        Keys { cluster: cluster.clone(), sessions: BTreeMap::new() }
    }

    fn find(&mut self, pair: Pair, salt: u128) -> Option<&LessSafeKey> {
        let sessions = self.sessions.get_mut(&pair)?;
        let place = sessions.iter().position(|(known, _)| *known == salt)?;
        sessions[..=place].rotate_right(1);
        Some(&sessions[0].1)
    }

    fn keep(&mut self, pair: Pair, salt: u128, key: LessSafeKey) {
        if self.sessions.len() >= PAIRS_KEPT && !self.sessions.contains_key(&pair) {
            // More pairs than a cluster has: only members that left long ago can have filled this.
            self.sessions.clear();
        }
        let sessions = self.sessions.entry(pair).or_default();
        sessions.insert(0, (salt, key));
        sessions.truncate(SESSIONS_KEPT);
    }

    fn kept(&mut self, pair: Pair, salt: u128) -> &LessSafeKey {
        let is_known = self.find(pair, salt).is_some();
        if !is_known {
            let key = self.derive(pair, salt);
            self.keep(pair, salt, key);
        }
        &self.sessions[&pair][0].1
    }

    fn derive(&self, pair: Pair, salt: u128) -> LessSafeKey {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &salt.to_be_bytes()).extract(&self.cluster.0);
        let (sender, receiver) = (pair.sender.0.to_be_bytes(), pair.receiver.0.to_be_bytes());
        let info: [&[u8]; 3] = [pair.label.bytes(), &sender, &receiver];
        let mut bytes = Zeroizing::new([0; 32]);
        extracted
            .expand(&info, hkdf::HKDF_SHA256)
            .and_then(|key| key.fill(bytes.as_mut_slice()))
            .expect("32 bytes are one block of HKDF");
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes.as_slice()).expect("AES-256 has a key of 32 bytes"))
    }
}

fn nonce(link: LinkId, seq: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[0] = link.0;
    bytes[4..].copy_from_slice(&seq.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_dial_is_proven_for_one_pair_of_nodes() {
        let (ours, theirs) = (ClusterKey::generate(), ClusterKey::generate());
        let proof = ours.dial_proof(NodeId(5), NodeId(9));
        assert!(ours.is_dial_proof(proof.as_bytes(), NodeId(9)));
        assert!(!ours.is_dial_proof(proof.as_bytes(), NodeId(8)));
        assert!(!theirs.is_dial_proof(proof.as_bytes(), NodeId(9)));
        assert!(!ours.is_dial_proof(proof.replace("-5-", "-6-").as_bytes(), NodeId(9)));
        assert!(!ours.is_dial_proof(b"cardea-dial-", NodeId(9)) && !ours.is_dial_proof(&[0xff; 40], NodeId(9)));
    }

    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const LINK: LinkId = LinkId(1);

    fn sealed(key: &ClusterKey, salt: u128, seq: u64) -> Vec<u8> {
        let mut body = b"I am here".to_vec();
        Sealer::new(key).seal(Label::Beat, A, B, salt, LINK, seq, b"header", &mut body);
        body
    }

    #[test]
    fn what_was_sealed_opens() {
        let key = ClusterKey::generate();
        let mut body = sealed(&key, 7, 3);
        assert_eq!(body.len(), 9 + TAG_BYTES);
        assert!(!body.windows(4).any(|part| part == b"here"));
        let length = Opener::new(&key).open(Label::Beat, A, B, 7, LINK, 3, b"header", &mut body).unwrap();
        assert_eq!(&body[..length], b"I am here");
    }

    #[test]
    fn nothing_about_a_packet_can_be_changed() {
        let key = ClusterKey::generate();
        let mut opener = Opener::new(&key);
        let body = sealed(&key, 7, 3);
        let mut opens = |label, sender, receiver, salt, link, seq, header: &[u8]| {
            opener.open(label, sender, receiver, salt, link, seq, header, &mut body.clone()).is_some()
        };
        assert!(opens(Label::Beat, A, B, 7, LINK, 3, b"header"));
        assert!(!opens(Label::Datagram, A, B, 7, LINK, 3, b"header"), "another label");
        assert!(!opens(Label::Beat, B, A, 7, LINK, 3, b"header"), "sent back to its sender");
        assert!(!opens(Label::Beat, A, NodeId(3), 7, LINK, 3, b"header"), "another receiver");
        assert!(!opens(Label::Beat, A, B, 8, LINK, 3, b"header"), "another session");
        assert!(!opens(Label::Beat, A, B, 7, LinkId(0), 3, b"header"), "another link");
        assert!(!opens(Label::Beat, A, B, 7, LINK, 4, b"header"), "another number");
        assert!(!opens(Label::Beat, A, B, 7, LINK, 3, b"headeR"), "another header");
        for place in 0..body.len() {
            let mut changed = body.clone();
            changed[place] ^= 1;
            assert_eq!(opener.open(Label::Beat, A, B, 7, LINK, 3, b"header", &mut changed), None);
        }
        let mut other = Opener::new(&ClusterKey::generate());
        assert_eq!(other.open(Label::Beat, A, B, 7, LINK, 3, b"header", &mut body.clone()), None, "another cluster");
    }

    #[test]
    fn a_body_of_any_length_is_no_surprise() {
        let mut opener = Opener::new(&ClusterKey::generate());
        for length in 0..100 {
            assert_eq!(opener.open(Label::Beat, A, B, 1, LINK, 1, b"", &mut vec![0; length]), None);
        }
    }

    #[test]
    fn a_flood_of_made_up_salts_displaces_nothing() {
        let key = ClusterKey::generate();
        let mut opener = Opener::new(&key);
        assert!(opener.open(Label::Beat, A, B, 7, LINK, 1, b"header", &mut sealed(&key, 7, 1)).is_some());
        for salt in 1000..3000 {
            assert!(opener.open(Label::Beat, A, B, salt, LINK, 1, b"header", &mut [9; 80]).is_none());
            assert!(opener.open(Label::Beat, NodeId(salt as u64), B, 7, LINK, 1, b"header", &mut [9; 80]).is_none());
        }
        assert_eq!(opener.0.sessions.len(), 1);
        assert!(opener.0.find(Pair { label: Label::Beat, sender: A, receiver: B }, 7).is_some());
    }

    #[test]
    fn only_recent_sessions_are_remembered() {
        let key = ClusterKey::generate();
        let mut opener = Opener::new(&key);
        for salt in 0..100 {
            assert!(opener.open(Label::Beat, A, B, salt, LINK, 1, b"header", &mut sealed(&key, salt, 1)).is_some());
        }
        assert_eq!(opener.0.sessions.values().map(Vec::len).sum::<usize>(), SESSIONS_KEPT);
        assert!(opener.open(Label::Beat, A, B, 3, LINK, 9, b"header", &mut sealed(&key, 3, 9)).is_some());
    }

    #[test]
    fn a_key_file_is_private_and_checked() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.key");
        let key = ClusterKey::generate();
        key.save(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ClusterKey::load(&path).unwrap(), key);
        assert_eq!(format!("{key:?}"), "ClusterKey(hidden)");
        let mut text = std::fs::read(&path).unwrap();
        text[5] = if text[5] == b'0' { b'1' } else { b'0' };
        std::fs::write(&path, &text).unwrap();
        assert!(ClusterKey::load(&path).is_err());
    }
}
