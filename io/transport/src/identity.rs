//! Who is a node? A certificate of the cluster's own authority says its number and its cluster.
//!
//! ```text
//!   init ──► authority (10 years) ──issues──► certificate of a node (90 days), name node-N.cluster-HEX.cardea
//!                                                 ▲ request, made on the node: its key never leaves it
//! ```
//!
//! Everything lies as PEM in one folder (mode 0700): `ca.crt`, on voters `ca.key`, `node.crt`, `node.key`,
//! `cluster.key`. A certificate is renewed when 60 % of its life is over, under the same key, so that one
//! file is replaced and a crash leaves the old certificate or the new.
//!
//! Not here: when a certificate counts as expired (`tls.rs`), how a new node gets one (`join.rs`).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use base64::Engine;
use model::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::seal::{ClusterKey, random};
use crate::{files, tls};

const DAY: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
const CERTIFICATE_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Part of a certificate's life after which it is renewed, in percent.
const RENEW_AFTER_PERCENT: u64 = 60;

const AUTHORITY_FILE: &str = "ca.crt";
const AUTHORITY_KEY_FILE: &str = "ca.key";
const CERTIFICATE_FILE: &str = "node.crt";
const KEY_FILE: &str = "node.key";
const CLUSTER_KEY_FILE: &str = "cluster.key";

/// Why keys or certificates cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("could not {what} {path}")]
    File {
        /// What was attempted, as a verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A secret lies open.
    #[error("{path} can be read by others: `chmod 600 {path}`, and consider the key as known to them")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// A certificate, key or request is not what it should be.
    #[error("{what}")]
    Invalid {
        /// What is wrong, as a sentence.
        what: String,
    },
}

fn invalid(what: impl Into<String>) -> IdentityError {
    IdentityError::Invalid { what: what.into() }
}

fn not_made(error: rcgen::Error) -> IdentityError {
    invalid(format!("a certificate could not be made: {error}"))
}

/// The cluster's own certificate authority, with its private key: on voters only.
pub struct Authority {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(key hidden)")
    }
}

/// Makes the authority of a new cluster; it lives 10 years.
///
/// # Errors
/// Never in practice: the parameters are ours.
pub fn create_authority(cluster_id: u64) -> Result<Authority, IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(not_made)?;
    let mut parameters = parameters(&format!("Cardea cluster {cluster_id:016x}"), since_1970() - DAY, AUTHORITY_LIFE);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = parameters.self_signed(&key).map_err(not_made)?;
    Ok(Authority { certificate: certificate.der().clone(), key })
}

/// Issues the certificate of `node` (DER) for the key that signed `request` (a PKCS #10 request, DER).
///
/// Nothing that the request asks for is taken over but its key.
///
/// # Errors
/// If the request is malformed or its signature is wrong.
pub fn issue(authority: &Authority, request: &[u8], node: NodeId, cluster_id: u64) -> Result<Vec<u8>, IdentityError> {
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
        .map_err(|error| invalid(format!("the request for a certificate is refused: {error}")))?;
    let (authority_from, _) = validity(&authority.certificate)?;
    // A clock that was set back must not make a certificate older than its authority.
    let now = since_1970().max(authority_from + DAY);
    let mut parameters = parameters(&format!("Cardea node {node}"), now - DAY, CERTIFICATE_LIFE + DAY);
    let name = NodeIdentity { node, cluster_id }.dns_name();
    parameters.subject_alt_names = vec![SanType::DnsName(name.try_into().map_err(not_made)?)];
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = Issuer::from_ca_cert_der(&authority.certificate, &authority.key).map_err(not_made)?;
    let certificate = parameters.signed_by(&request.public_key, &issuer).map_err(not_made)?;
    Ok(certificate.der().to_vec())
}

impl Authority {
    /// The authority of these parts, as another voter has them.
    ///
    /// # Errors
    /// If they do not belong together.
    pub fn from_parts(certificate: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let key = key_pair(key, "the key of the authority")?;
        let certificate = CertificateDer::from(certificate.to_vec());
        if public_key(&certificate)? != key.public_key_raw() {
            return Err(invalid("the key of the authority does not belong to its certificate"));
        }
        Ok(Authority { certificate, key })
    }

    /// Its certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Its private key, PKCS #8 DER: for the sealed channel to another voter, never for a log.
    pub fn key(&self) -> &[u8] {
        self.key.serialized_der()
    }

    /// Writes certificate and key into `folder`.
    ///
    /// # Errors
    /// As the file system says.
    pub fn save(&self, folder: &Path) -> Result<(), IdentityError> {
        prepare(folder)?;
        store(&folder.join(AUTHORITY_FILE), pem(&self.certificate).as_bytes(), 0o644)?;
        store(&folder.join(AUTHORITY_KEY_FILE), self.key.serialize_pem().as_bytes(), 0o600)
    }

    /// Reads the authority in `folder`; none if its key is not there.
    ///
    /// # Errors
    /// If a file cannot be read or is not what it should be.
    pub fn load(folder: &Path) -> Result<Option<Self>, IdentityError> {
        let key = folder.join(AUTHORITY_KEY_FILE);
        if !key.exists() {
            return Ok(None);
        }
        let key = read_key(&key)?;
        let certificate = read_certificate(&folder.join(AUTHORITY_FILE))?;
        Authority::from_parts(&certificate, key.secret_pkcs8_der()).map(Some)
    }
}

/// The private key of a node; it never leaves the node.
pub struct NodeKey(KeyPair);

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(hidden)")
    }
}

impl NodeKey {
    /// A fresh key.
    ///
    /// # Errors
    /// Only if the system has no random bytes.
    pub fn generate() -> Result<Self, IdentityError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(NodeKey).map_err(not_made)
    }

    /// A request for a certificate of this key, PKCS #10 DER; it names nothing, the authority does.
    ///
    /// # Errors
    /// Never in practice: the parameters are ours.
    pub fn request(&self) -> Result<Vec<u8>, IdentityError> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        Ok(parameters.serialize_request(&self.0).map_err(not_made)?.der().to_vec())
    }
}

/// Everything by which a node proves itself, and knows the others.
pub struct Identity {
    node: NodeIdentity,
    authority: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    cluster_key: ClusterKey,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Identity {
            node: self.node,
            authority: self.authority.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
            cluster_key: self.cluster_key.clone(),
        }
    }
}

impl Identity {
    /// The identity of these parts: the authority's certificate, the node's own (both DER), its key, the shared key.
    ///
    /// # Errors
    /// If the certificate is not of this authority, not of this key, or names no node.
    pub fn new(
        authority: &[u8],
        certificate: &[u8],
        key: &NodeKey,
        cluster_key: ClusterKey,
    ) -> Result<Self, IdentityError> {
        Identity::of(
            CertificateDer::from(authority.to_vec()),
            CertificateDer::from(certificate.to_vec()),
            PrivatePkcs8KeyDer::from(key.0.serialize_der()),
            cluster_key,
        )
    }

    fn of(
        authority: CertificateDer<'static>,
        certificate: CertificateDer<'static>,
        key: PrivatePkcs8KeyDer<'static>,
        cluster_key: ClusterKey,
    ) -> Result<Self, IdentityError> {
        if public_key(&certificate)? != key_pair(key.secret_pkcs8_der(), "the key of the node")?.public_key_raw() {
            return Err(invalid("the key of the node does not belong to its certificate"));
        }
        tls::is_signed_by(&certificate, &authority).map_err(|error| {
            invalid(format!("the certificate of the node is not of this cluster's authority: {error}"))
        })?;
        let node =
            NodeIdentity::of(&certificate).ok_or_else(|| invalid("the certificate of the node names no node"))?;
        Ok(Identity { node, authority, certificate, key, cluster_key })
    }

    /// The node.
    pub const fn node(&self) -> NodeId {
        self.node.node
    }

    /// The cluster.
    pub const fn cluster_id(&self) -> u64 {
        self.node.cluster_id
    }

    /// The secret that all members share.
    pub const fn cluster_key(&self) -> &ClusterKey {
        &self.cluster_key
    }

    /// The certificate of the authority, DER.
    pub fn authority(&self) -> &[u8] {
        &self.authority
    }

    /// When the certificate of the node ends, in time since 1970.
    ///
    /// Connections that exist live on; new ones are accepted for 7 more days.
    pub fn expires(&self) -> Duration {
        validity(&self.certificate).map_or(Duration::ZERO, |(_, until)| until)
    }

    /// A request for a new certificate of the same key, PKCS #10 DER.
    ///
    /// # Errors
    /// Never in practice: the key was read before.
    pub fn request(&self) -> Result<Vec<u8>, IdentityError> {
        NodeKey(key_pair(self.key.secret_pkcs8_der(), "the key of the node")?).request()
    }

    /// The same identity with a new certificate (DER).
    ///
    /// # Errors
    /// If it is not of this node, key and authority.
    pub fn renewed(&self, certificate: &[u8]) -> Result<Self, IdentityError> {
        let certificate = CertificateDer::from(certificate.to_vec());
        let renewed =
            Identity::of(self.authority.clone(), certificate, self.key.clone_key(), self.cluster_key.clone())?;
        if renewed.node == self.node { Ok(renewed) } else { Err(invalid("the new certificate is of another node")) }
    }

    /// Is more than 60 % of the certificate's life over?
    pub fn is_renewal_due(&self) -> bool {
        self.is_renewal_due_at(since_1970())
    }

    fn is_renewal_due_at(&self, now: Duration) -> bool {
        validity(&self.certificate).is_ok_and(|(from, until)| {
            let life = until.saturating_sub(from).as_secs();
            now.as_secs() > from.as_secs() + life * RENEW_AFTER_PERCENT / 100
        })
    }

    /// Writes everything into `folder`, which is made with mode 0700 if it is missing.
    ///
    /// # Errors
    /// As the file system says.
    pub fn save(&self, folder: &Path) -> Result<(), IdentityError> {
        prepare(folder)?;
        let key = key_pair(self.key.secret_pkcs8_der(), "the key of the node")?;
        store(&folder.join(AUTHORITY_FILE), pem(&self.authority).as_bytes(), 0o644)?;
        store(&folder.join(KEY_FILE), key.serialize_pem().as_bytes(), 0o600)?;
        let path = folder.join(CLUSTER_KEY_FILE);
        self.cluster_key.save(&path).map_err(|cause| IdentityError::File { what: "write", path, cause })?;
        store(&folder.join(CERTIFICATE_FILE), pem(&self.certificate).as_bytes(), 0o644)
    }

    pub(crate) fn identity(&self) -> NodeIdentity {
        self.node
    }

    /// The node's certificate and its authority's, as TLS shows them.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone(), self.authority.clone()]
    }

    pub(crate) fn private_key(&self) -> PrivatePkcs8KeyDer<'static> {
        self.key.clone_key()
    }
}

/// Reads the identity in `folder`.
///
/// # Errors
/// If a file is missing, readable by others, damaged, or does not belong to the others.
pub fn load_identity(folder: &Path) -> Result<Identity, IdentityError> {
    let authority = read_certificate(&folder.join(AUTHORITY_FILE))?;
    let certificate = read_certificate(&folder.join(CERTIFICATE_FILE))?;
    let key = read_key(&folder.join(KEY_FILE))?;
    let path = folder.join(CLUSTER_KEY_FILE);
    is_private(&path)?;
    let cluster_key = ClusterKey::load(&path).map_err(|cause| IdentityError::File { what: "read", path, cause })?;
    Identity::of(authority, certificate, key, cluster_key)
}

/// What became of a renewal.
#[derive(Debug)]
pub enum Renewal {
    /// The certificate is young enough.
    NotDue,
    /// A new one has been written; existing connections keep the old one.
    Done(Box<Identity>),
    /// It is due, but this node has no key of the authority: a voter must issue it ([`Identity::request`]).
    NeedsVoter(Box<Identity>),
}

/// Renews the certificate in `folder` if that is due. For the start of the daemon, and once a day.
///
/// # Errors
/// If a file cannot be read or written; the old certificate is still there then.
pub fn renew(folder: &Path) -> Result<Renewal, IdentityError> {
    renew_at(folder, since_1970())
}

fn renew_at(folder: &Path, now: Duration) -> Result<Renewal, IdentityError> {
    let identity = load_identity(folder)?;
    if !identity.is_renewal_due_at(now) {
        return Ok(Renewal::NotDue);
    }
    let Some(authority) = Authority::load(folder)? else { return Ok(Renewal::NeedsVoter(Box::new(identity))) };
    let certificate = issue(&authority, &identity.request()?, identity.node(), identity.cluster_id())?;
    let renewed = identity.renewed(&certificate)?;
    store(&folder.join(CERTIFICATE_FILE), pem(&renewed.certificate).as_bytes(), 0o644)?;
    Ok(Renewal::Done(Box::new(renewed)))
}

/// SHA-256 over the public key (SPKI, DER) of a certificate (DER): what a join token pins.
///
/// # Errors
/// If it is no certificate.
pub fn public_key_hash(certificate: &[u8]) -> Result<[u8; 32], IdentityError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| invalid("not a certificate"))?;
    let hash = digest::digest(&digest::SHA256, parsed.public_key().raw);
    Ok(std::array::from_fn(|place| hash.as_ref()[place]))
}

/// What a certificate says about who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeIdentity {
    pub node: NodeId,
    pub cluster_id: u64,
}

impl NodeIdentity {
    pub fn dns_name(self) -> String {
        format!("node-{}.cluster-{:016x}.cardea", self.node, self.cluster_id)
    }

    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let names = &parsed.subject_alternative_name().ok()??.value.general_names;
        let [GeneralName::DNSName(name)] = names.as_slice() else { return None };
        let (node, cluster) = name.strip_prefix("node-")?.strip_suffix(".cardea")?.split_once(".cluster-")?;
        let identity =
            NodeIdentity { node: NodeId(node.parse().ok()?), cluster_id: u64::from_str_radix(cluster, 16).ok()? };
        // One spelling per identity.
        (identity.dns_name() == *name).then_some(identity)
    }
}

/// From when until when a certificate is valid, in time since 1970.
pub(crate) fn validity(certificate: &[u8]) -> Result<(Duration, Duration), IdentityError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| invalid("not a certificate"))?;
    let seconds = |at: i64| Duration::from_secs(u64::try_from(at).unwrap_or(0));
    let validity = parsed.validity();
    Ok((seconds(validity.not_before.timestamp()), seconds(validity.not_after.timestamp())))
}

pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().max(DAY)
}

fn parameters(common_name: &str, from: Duration, life: Duration) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.not_before = rcgen::date_time_ymd(1970, 1, 1) + from;
    parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + from + life;
    parameters.serial_number = Some(SerialNumber::from_slice(&random::<16>()));
    parameters
}

fn public_key(certificate: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| invalid("not a certificate"))?;
    Ok(parsed.public_key().subject_public_key.data.to_vec())
}

fn key_pair(key: &[u8], whose: &str) -> Result<KeyPair, IdentityError> {
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(key)).map_err(|_| invalid(format!("{whose} is damaged")))
}

/// Makes the folder if it is missing; its mode is 0700 in any case.
fn prepare(folder: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .and_then(|()| std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)))
        .map_err(|cause| IdentityError::File { what: "prepare", path: folder.to_owned(), cause })
}

fn store(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
    files::write(path, bytes, mode).map_err(|cause| IdentityError::File { what: "write", path: path.to_owned(), cause })
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    files::read(path).map_err(|cause| IdentityError::File { what: "read", path: path.to_owned(), cause })
}

fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, IdentityError> {
    CertificateDer::from_pem_slice(&read(path)?).map_err(|_| invalid(format!("{} is no certificate", path.display())))
}

fn read_key(path: &Path) -> Result<PrivatePkcs8KeyDer<'static>, IdentityError> {
    is_private(path)?;
    let text = zeroize::Zeroizing::new(read(path)?);
    PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|_| invalid(format!("{} is no private key", path.display())))
}

fn is_private(path: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt;
    match path.metadata() {
        Ok(found) if found.permissions().mode() & 0o077 == 0 => Ok(()),
        Ok(_) => Err(IdentityError::Exposed { path: path.to_owned() }),
        Err(cause) => Err(IdentityError::File { what: "read", path: path.to_owned(), cause }),
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use std::fmt::Write;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        let _ = writeln!(pem, "{}", String::from_utf8_lossy(line));
    }
    pem + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub const CLUSTER: u64 = 0xc0ff_ee00_1234_0001;

    /// A cluster's secrets, for tests.
    pub struct Secrets {
        pub authority: Authority,
        pub cluster_key: ClusterKey,
    }

    pub fn secrets() -> Secrets {
        Secrets { authority: create_authority(CLUSTER).unwrap(), cluster_key: ClusterKey::generate() }
    }

    impl Secrets {
        pub fn identity(&self, node: u64) -> Identity {
            let key = NodeKey::generate().unwrap();
            let certificate = issue(&self.authority, &key.request().unwrap(), NodeId(node), CLUSTER).unwrap();
            Identity::new(self.authority.certificate(), &certificate, &key, self.cluster_key.clone()).unwrap()
        }
    }

    #[test]
    fn an_identity_says_who_it_is_and_survives_a_restart() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("identity");
        let secrets = secrets();
        let identity = secrets.identity(17);
        identity.save(&folder).unwrap();
        let loaded = load_identity(&folder).unwrap();
        assert_eq!((loaded.node(), loaded.cluster_id()), (NodeId(17), CLUSTER));
        assert_eq!(loaded.cluster_key(), identity.cluster_key());
        assert!(Authority::load(&folder).unwrap().is_none());
        secrets.authority.save(&folder).unwrap();
        let authority = Authority::load(&folder).unwrap().unwrap();
        assert_eq!(authority.certificate(), loaded.authority());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert!(["ca.key", "node.key", "cluster.key"].iter().all(|name| mode(&folder.join(name)) == 0o600));
    }

    #[test]
    fn parts_of_different_clusters_do_not_fit() {
        let (ours, theirs) = (secrets(), secrets());
        let key = NodeKey::generate().unwrap();
        let request = key.request().unwrap();
        let certificate = issue(&theirs.authority, &request, NodeId(1), CLUSTER).unwrap();
        let made = |authority: &Authority, key: &NodeKey| {
            Identity::new(authority.certificate(), &certificate, key, ClusterKey::generate())
        };
        made(&theirs.authority, &key).unwrap();
        assert!(made(&ours.authority, &key).is_err());
        assert!(made(&theirs.authority, &NodeKey::generate().unwrap()).is_err());
        assert!(Authority::from_parts(ours.authority.certificate(), theirs.authority.key()).is_err());
    }

    #[test]
    fn a_request_is_signed_by_its_key() {
        let secrets = secrets();
        let key = NodeKey::generate().unwrap();
        let request = key.request().unwrap();
        let issued = |request: &[u8]| issue(&secrets.authority, request, NodeId(1), CLUSTER);
        assert_eq!(public_key(&issued(&request).unwrap()).unwrap(), key.0.public_key_raw());
        let mut refused = 0;
        for place in 0..request.len() {
            let mut changed = request.clone();
            changed[place] ^= 1;
            match issued(&changed) {
                // What is not signed, such as the tag before the signature, may be read leniently.
                Ok(certificate) => assert_eq!(public_key(&certificate).unwrap(), key.0.public_key_raw(), "{place}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused >= request.len() - 2, "{refused} of {}", request.len());
        assert!(issued(b"").is_err() && issued(&[0x30; 500]).is_err());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        secrets().identity(1).save(folder.path()).unwrap();
        for name in ["node.key", "cluster.key"] {
            let path = folder.path().join(name);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
            assert!(matches!(load_identity(folder.path()), Err(IdentityError::Exposed { .. })));
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        load_identity(folder.path()).unwrap();
    }

    #[test]
    fn a_certificate_is_renewed_when_sixty_percent_of_its_life_are_over() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = secrets();
        let identity = secrets.identity(3);
        identity.save(folder.path()).unwrap();
        assert!(!identity.is_renewal_due());
        let later = since_1970() + DAY * 60;
        assert!(matches!(renew_at(folder.path(), since_1970() + DAY * 50).unwrap(), Renewal::NotDue));
        assert!(matches!(renew_at(folder.path(), later).unwrap(), Renewal::NeedsVoter(_)));
        secrets.authority.save(folder.path()).unwrap();
        let Renewal::Done(renewed) = renew_at(folder.path(), later).unwrap() else { panic!("it is due") };
        assert_ne!(renewed.certificate, identity.certificate);
        assert_eq!(load_identity(folder.path()).unwrap().certificate, renewed.certificate);
        assert!(identity.renewed(&secrets.identity(3).certificate).is_err(), "of another key");
    }
}
