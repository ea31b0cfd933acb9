//! Checks of certificates beyond their chain: names that the operator allows, and revocation. Mirrors `AllowedCNs`,
//! `AllowedHostnames` and `checkCRL` of etcd's client/pkg/transport.

use super::TlsError;
use super::certificate::parse;
use super::explain::Refused;
use super::signatures::{verify_tls12, verify_tls13};
use super::trust::Trust;
use crate::mutants::{self, Mutant};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::path::Path;
use x509_parser::prelude::FromDer;

#[derive(Debug, Default)]
pub struct Checks {
    common_names: Vec<String>,
    hostnames: Vec<ServerName<'static>>,
    /// Serial numbers, as in the revocation list.
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

    /// Adds a revocation list in DER. Only serial numbers are compared, as in etcd.
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
        if !self.revoked.is_empty() && !mutants::active(Mutant::RevokedAdmitted) {
            for certificate in std::iter::once(end).chain(rest) {
                let serial = parse(certificate)?.raw_serial().to_vec();
                if self.revoked.contains(&serial) {
                    let digits = serial.iter().map(|byte| format!("{byte:02x}"));
                    return Err(Refused::Revoked(digits.collect()).into());
                }
            }
        }
        if self.common_names.is_empty() && self.hostnames.is_empty() {
            return Ok(());
        }
        // An X.509 v1 certificate cannot be read here, and has only the common name.
        let parsed = ParsedCertificate::try_from(end);
        let mut hostnames = self.hostnames.iter();
        let mut is_for = |name| {
            parsed
                .as_ref()
                .is_ok_and(|parsed| verify_server_name(parsed, name).is_ok())
        };
        let is_allowed = hostnames.any(&mut is_for)
            || common_name(end)?.is_some_and(|name| self.common_names.contains(&name));
        if is_allowed {
            return Ok(());
        }
        tracing::warn!("client certificate authentication failed: none of the allowed names is in it");
        // With this error, the other end gets the same alert as from Go: bad certificate.
        Err(Error::InvalidCertificate(CertificateError::NotValidForName))
    }
}

/// The common name of a certificate's subject.
pub fn common_name(certificate: &CertificateDer<'_>) -> Result<Option<String>, Error> {
    let parsed = parse(certificate)?;
    let name = parsed.subject().iter_common_name().last();
    Ok(name.and_then(|name| name.as_str().ok()).map(ToOwned::to_owned))
}

/// Verifies client certificates, with the checks.
#[derive(Debug)]
pub struct CheckedClients {
    trust: Trust,
    checks: Checks,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl CheckedClients {
    pub fn new(trust: Trust, checks: Checks, provider: &CryptoProvider) -> Self {
        Self {
            hints: trust.hints(),
            trust,
            checks,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for CheckedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.verify_client(end_entity, intermediates, now)?;
        self.checks.check(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Verifies server certificates and names, with the checks.
#[derive(Debug)]
pub struct CheckedServers {
    pub trust: Trust,
    pub checks: Checks,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for CheckedServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.trust
            .verify_server(end_entity, intermediates, server_name, now)?;
        self.checks.check(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Accepts every certificate, and verifies only that the other end has its key.
#[derive(Debug)]
pub struct Unverified(pub WebPkiSupportedAlgorithms);

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
        verify_tls12(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
