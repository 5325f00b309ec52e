//! When is the other end of a TLS connection a member of this cluster?
//!
//! TLS 1.3 only. The other end must show a certificate of the cluster's own authority; no other
//! authority counts. An expired certificate is accepted for 7 more days, and a clock that was set
//! back does not make one "not yet valid": neither may cut a cluster apart (SAFETY §8).

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{
    DangerousClientConfigBuilder, HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore,
    ServerConfig, SignatureScheme,
};

use crate::identity::{Identity, public_key_hash, since_1970, validity};

/// How long after its end a certificate still opens connections.
pub const EXPIRY_GRACE: Duration = Duration::from_secs(7 * 24 * 3600);
/// What a joining node binds its proof to: this connection and no other (RFC 5705).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-cardea-join";
const PROTOCOL: &[u8] = b"cardea/1";

/// For the side that listens: members show a certificate, joining nodes have none yet.
pub fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, Error> {
    let members = Arc::new(Members::of(identity.authority())?);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(members)
        .with_single_cert(identity.chain(), PrivateKeyDer::Pkcs8(identity.private_key()))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // Connections last; tickets to resume them would only cost memory.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// For the side that dials another member.
pub fn client_config(identity: &Identity) -> Result<Arc<ClientConfig>, Error> {
    let members = Arc::new(Members::of(identity.authority())?);
    let config = client_builder()?
        .with_custom_certificate_verifier(members)
        .with_client_auth_cert(identity.chain(), PrivateKeyDer::Pkcs8(identity.private_key()))?;
    Ok(without_memory(config))
}

/// The same with a proof of who dials whom, among the protocols: others choose none of that name.
pub fn dial_config(client: &ClientConfig, proof: String) -> Arc<ClientConfig> {
    let mut config = client.clone();
    config.alpn_protocols.push(proof.into_bytes());
    Arc::new(config)
}

/// For a joining node, which knows nothing but the hash of the authority's public key.
pub fn joiner_config(pin: [u8; 32]) -> Result<Arc<ClientConfig>, Error> {
    let pinned = Arc::new(Pinned { pin, algorithms: provider().signature_verification_algorithms });
    Ok(without_memory(client_builder()?.with_custom_certificate_verifier(pinned).with_no_client_auth()))
}

fn client_builder() -> Result<DangerousClientConfigBuilder, Error> {
    let builder = ClientConfig::builder_with_provider(provider());
    Ok(builder.with_protocol_versions(&[&rustls::version::TLS13])?.dangerous())
}

fn without_memory(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    Arc::new(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Never reached: only TLS 1.3 is offered and accepted.
fn tls12_is_refused() -> Error {
    Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig)
}

/// Is the certificate (DER) signed by the authority (DER)?
pub fn is_signed_by(certificate: &CertificateDer<'_>, authority: &CertificateDer<'_>) -> Result<(), Error> {
    let members = Members::of(authority)?;
    members.check(certificate, since_1970())
}

/// Accepts certificates of one authority.
#[derive(Debug)]
struct Members {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Members {
    fn of(authority: &[u8]) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority.to_vec()))?;
        Ok(Members { roots, algorithms: provider().signature_verification_algorithms })
    }

    /// Members act on both ends of a connection, so their certificates must allow the server's part in any case.
    fn check(&self, certificate: &CertificateDer<'_>, now: Duration) -> Result<(), Error> {
        let judged_at = UnixTime::since_unix_epoch(judged_at(certificate, now));
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, &[], judged_at, self.algorithms.all)
    }
}

/// The moment at which a certificate's dates are judged: within them, as long as the grace lasts.
fn judged_at(certificate: &[u8], now: Duration) -> Duration {
    match validity(certificate) {
        Ok((from, _)) if now < from => from,
        Ok((_, until)) if now > until && now <= until + EXPIRY_GRACE => {
            tracing::warn!("a certificate has expired, and is accepted for a few more days: renew it");
            until
        }
        Ok(_) | Err(_) => now,
    }
}

impl ServerCertVerifier for Members {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(certificate, Duration::from_secs(now.as_secs()))?;
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12_is_refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Members {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(certificate, Duration::from_secs(now.as_secs()))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Accepts whoever shows, and is certified by, the authority whose public key has this hash.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

/// The certificate of the authority that a token pins, among those that the other end showed.
pub fn pinned_authority<'a>(pin: &[u8; 32], shown: &'a [CertificateDer<'a>]) -> Option<&'a CertificateDer<'a>> {
    shown.iter().find(|certificate| public_key_hash(certificate).is_ok_and(|hash| hash == *pin))
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = pinned_authority(&self.pin, intermediates)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        Members::of(authority)?.check(certificate, Duration::from_secs(now.as_secs()))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12_is_refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::tests::secrets;

    #[test]
    fn a_certificate_counts_seven_days_longer_and_however_slow_the_clock() {
        let secrets = secrets();
        let identity = secrets.identity(1);
        let certificate = &identity.chain()[0];
        let members = Members::of(identity.authority()).unwrap();
        let end = identity.expires();
        let day = Duration::from_secs(24 * 3600);
        for accepted in [Duration::from_secs(1), since_1970(), end - day, end + day, end + 7 * day] {
            members.check(certificate, accepted).unwrap();
        }
        for refused in [end + 7 * day + Duration::from_secs(1), end + 4000 * day] {
            assert!(members.check(certificate, refused).is_err());
        }
    }
}
