//! Certificates and keys, from PEM.

use super::TlsError;
use super::certificate::{Certificate, parse};
use super::trust::Trust;
use crate::env;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// Two file names; none unless both are given.
    pub fn of(certificate: &str, key: &str) -> Option<Self> {
        (!certificate.is_empty() && !key.is_empty()).then(|| Self {
            certificate: certificate.into(),
            key: key.into(),
        })
    }

    /// Reads both from the files' bytes, and checks that they belong together.
    pub fn read(
        &self,
        certificate: &[u8],
        key: &[u8],
        provider: &CryptoProvider,
    ) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain = certificates(&self.certificate, certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Content {
            path: self.key.clone(),
            reason: format!("no private key in PEM: {error}"),
        })?;
        let unusable = |reason: String| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            reason,
        };
        let read = Certificate::read(&chain[0]).map_err(|error| unusable(error.to_string()))?;
        read.check_key().map_err(|reason| unusable(reason.to_string()))?;
        let pair = if read.is_v1 {
            v1_pair(chain, key, &read, provider)
        } else {
            CertifiedKey::from_der(chain, key, provider)
        };
        let pair = pair.map_err(|error| match error {
            // In Go's words.
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                unusable("tls: private key does not match public key".to_owned())
            }
            error => unusable(error.to_string()),
        })?;
        Ok(Arc::new(pair))
    }

    /// Fails if the certificate's time is over: nobody who verifies it would take it.
    pub fn check_expiry(&self, pair: &CertifiedKey) -> Result<(), TlsError> {
        let until = parse(&pair.cert[0])?.validity().not_after;
        if u64::try_from(until.timestamp()).is_ok_and(|until| env::unix_time().as_secs() <= until) {
            return Ok(());
        }
        Err(TlsError::Expired {
            path: self.certificate.clone(),
            until: until.to_string(),
        })
    }
}

/// rustls cannot compare the key of an X.509 v1 certificate with the private key.
fn v1_pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    read: &Certificate,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Error> {
    let key = provider.key_provider.load_private_key(key)?;
    match key.public_key() {
        Some(public) if public.as_ref() != read.public_key.as_ref() => {
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch))
        }
        _ => Ok(CertifiedKey::new(chain, key)),
    }
}

/// The certificates of a file; at least one.
pub fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |reason: String| TlsError::Content {
        path: path.to_owned(),
        reason,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| content(format!("no certificate in PEM: {error}")))?;
    if found.is_empty() {
        return Err(content("there is no certificate in PEM in it".into()));
    }
    Ok(found)
}

/// The certificates of a trusted file.
pub fn trusted(path: &Path, bytes: &[u8], provider: &CryptoProvider) -> Result<Trust, TlsError> {
    let algorithms = provider.signature_verification_algorithms;
    Trust::of_file(path, certificates(path, bytes)?, algorithms)
}

/// The CAs that the operating system trusts.
pub fn system_authorities(provider: &CryptoProvider) -> Result<Trust, TlsError> {
    let found = rustls_native_certs::load_native_certs().certs;
    Trust::of_system(found, provider.signature_verification_algorithms)
}
