//! Verifies that the other end of a handshake has the key of the certificate that it presents. rustls does this. For X.509 v1,
//! which rustls cannot read, the key is extracted from the certificate first.

use super::certificate::Certificate;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{self, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::{CertificateError, DigitallySignedStruct, Error};
use webpki::{EndEntityCert, RawPublicKeyEntity};

/// The key of an X.509 v1 certificate; none for others.
fn v1_key(certificate: &CertificateDer<'_>) -> Result<Option<SubjectPublicKeyInfoDer<'static>>, Error> {
    if EndEntityCert::try_from(certificate).is_ok() {
        return Ok(None);
    }
    let read = Certificate::read(certificate)?;
    Ok(read.is_v1.then_some(read.public_key))
}

pub fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let Some(key) = v1_key(certificate)? else {
        return crypto::verify_tls12_signature(message, certificate, signature, algorithms);
    };
    let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
    let key = RawPublicKeyEntity::try_from(&key).map_err(|_| bad())?;
    let mut known = algorithms.mapping.iter();
    let (_, candidates) = known
        .find(|(scheme, _)| *scheme == signature.scheme)
        .ok_or_else(bad)?;
    // In TLS 1.2 a scheme does not name the curve, so several algorithms are possible.
    let mut candidates = candidates.iter();
    candidates
        .any(|algorithm| {
            key.verify_signature(*algorithm, message, signature.signature())
                .is_ok()
        })
        .then(HandshakeSignatureValid::assertion)
        .ok_or_else(bad)
}

pub fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    match v1_key(certificate)? {
        None => crypto::verify_tls13_signature(message, certificate, signature, algorithms),
        Some(key) => crypto::verify_tls13_signature_with_raw_key(message, &key, signature, algorithms),
    }
}
