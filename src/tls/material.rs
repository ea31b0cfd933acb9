//! Certificates and keys, from PEM.

use super::TlsError;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// Two names of which both or none are given.
    pub fn of(certificate: &str, key: &str) -> Option<Self> {
        (!certificate.is_empty() && !key.is_empty()).then(|| Self {
            certificate: certificate.into(),
            key: key.into(),
        })
    }

    /// Reads both out of their files' bytes, and checks that they belong together.
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
        let pair = CertifiedKey::from_der(chain, key, provider).map_err(|error| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            reason: error.to_string(),
        })?;
        Ok(Arc::new(pair))
    }
}

/// The certificates of a file, of which there must be one.
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

/// The certificate authorities of a file.
pub fn authorities(path: &Path, bytes: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, bytes)? {
        roots.add(certificate).map_err(|error| TlsError::Content {
            path: path.to_owned(),
            reason: format!("a certificate authority cannot be used: {error}"),
        })?;
    }
    Ok(roots)
}

/// The certificate authorities that the operating system trusts.
pub fn system_authorities() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(TlsError::NoAuthority);
    }
    Ok(roots)
}
