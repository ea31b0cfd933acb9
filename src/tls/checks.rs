//! What is asked of certificates beyond their chain: names that the operator allows, and that they were not revoked.
//! Mirrors `AllowedCNs`, `AllowedHostnames` and `checkCRL` of etcd's client/pkg/transport.

use super::TlsError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use x509_parser::prelude::FromDer;

/// Why a certificate with a sound chain is refused.
#[derive(thiserror::Error)]
enum Refused {
    #[error("certificate serial {0} revoked")]
    Revoked(String),
}

// rustls shows such a reason by its debug form only.
impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn refused(reason: Refused) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// The checks.
#[derive(Debug, Default)]
pub struct Checks {
    common_names: Vec<String>,
    hostnames: Vec<ServerName<'static>>,
    /// Serial numbers, as the list has them.
    revoked: Vec<Vec<u8>>,
}

impl Checks {
    pub fn new(common_names: &[String], hostnames: &[String]) -> Result<Self, TlsError> {
        let names = hostnames.iter().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| {
                let reason = format!("{name:?} is no host name that a certificate could be for");
                TlsError::Rustls(Error::General(reason))
            })
        });
        Ok(Self {
            common_names: common_names.to_vec(),
            hostnames: names.collect::<Result<_, _>>()?,
            revoked: Vec::new(),
        })
    }

    /// Refuses what a list in DER names. Only serial numbers are compared, as etcd does.
    pub fn with_revoked(mut self, list: Option<(&Path, &[u8])>) -> Result<Self, TlsError> {
        let Some((path, bytes)) = list else {
            return Ok(self);
        };
        let (_, list) =
            x509_parser::revocation_list::CertificateRevocationList::from_der(bytes).map_err(|error| {
                TlsError::Content {
                    path: path.to_owned(),
                    reason: format!("no revocation list in DER: {error}"),
                }
            })?;
        let serials = list
            .iter_revoked_certificates()
            .map(|entry| entry.raw_serial().to_vec());
        self.revoked = serials.collect();
        Ok(self)
    }

    fn check(&self, end: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !self.revoked.is_empty() {
            for certificate in std::iter::once(end).chain(rest) {
                let serial = parse(certificate)?.raw_serial().to_vec();
                if self.revoked.contains(&serial) {
                    let digits = serial.iter().map(|byte| format!("{byte:02x}"));
                    return Err(refused(Refused::Revoked(digits.collect())));
                }
            }
        }
        if self.common_names.is_empty() && self.hostnames.is_empty() {
            return Ok(());
        }
        let parsed = ParsedCertificate::try_from(end)?;
        let mut hostnames = self.hostnames.iter();
        let is_allowed = hostnames.any(|name| verify_server_name(&parsed, name).is_ok())
            || common_name(end)?.is_some_and(|name| self.common_names.contains(&name));
        if is_allowed {
            return Ok(());
        }
        tracing::warn!("client certificate authentication failed: none of the allowed names is in it");
        // This has the other end told what Go tells it: a bad certificate.
        Err(Error::InvalidCertificate(CertificateError::NotValidForName))
    }
}

fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<x509_parser::certificate::X509Certificate<'a>, Error> {
    let parsed = x509_parser::certificate::X509Certificate::from_der(certificate);
    let (_, parsed) = parsed.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    Ok(parsed)
}

/// The common name of a certificate's subject.
pub fn common_name(certificate: &CertificateDer<'_>) -> Result<Option<String>, Error> {
    let parsed = parse(certificate)?;
    let name = parsed.subject().iter_common_name().last();
    Ok(name.and_then(|name| name.as_str().ok()).map(ToOwned::to_owned))
}

/// The chain of whoever dials, and the checks.
#[derive(Debug)]
pub struct CheckedClients {
    pub verifier: Arc<dyn ClientCertVerifier>,
    pub checks: Checks,
}

impl ClientCertVerifier for CheckedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(end_entity, intermediates, now)?;
        self.checks.check(end_entity, intermediates)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// The chain and the name of whoever is dialled, and the checks.
#[derive(Debug)]
pub struct CheckedServers {
    pub verifier: Arc<WebPkiServerVerifier>,
    pub checks: Checks,
}

impl ServerCertVerifier for CheckedServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.verifier
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.checks.check(end_entity, intermediates)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Takes every certificate, and checks only that the other end has its key.
#[derive(Debug)]
pub struct Unverified(pub Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
