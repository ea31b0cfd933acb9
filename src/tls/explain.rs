//! The message to an operator when a certificate is refused: what is wrong with it, and how to make a better one.

use rustls::{CertificateError, Error, OtherError};
use std::fmt;
use std::sync::Arc;

/// Makes a certificate that every check here accepts, which is also its own CA.
pub const BETTER_ONE: &str = "make a better one: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -days 365 -subj /CN=NAME -addext subjectAltName=DNS:HOST,IP:ADDRESS -keyout key.pem -out cert.pem";

/// Why a certificate is refused, where rustls has no error for it.
#[derive(thiserror::Error)]
pub enum Refused {
    #[error("certificate serial {0} revoked")]
    Revoked(String),
    #[error(
        "the certificate {name:?} has an RSA key of {bits} bits, and at least 2048 are needed; {BETTER_ONE}"
    )]
    ShortKey { name: String, bits: usize },
    #[error(
        "the certificate {name:?} has an RSA key of {bits} bits, and at most 8192 are taken; {BETTER_ONE}"
    )]
    LongKey { name: String, bits: usize },
    #[error(
        "the certificate {name:?} has a key on the curve P-521, which is not verified here: P-256 and P-384 are; {BETTER_ONE}"
    )]
    Curve { name: String },
    #[error(
        "the certificate {name:?} has no subject alternative names, and its common name does not count as the name of a server; \
         {BETTER_ONE}"
    )]
    NoNames { name: String },
    #[error(
        "the certificate {name:?} is signed with an algorithm that is not verified here ({algorithm}; SHA-1 and MD5 are not): \
         sign it again with SHA-256 (openssl x509 -req -sha256)"
    )]
    Algorithm { name: String, algorithm: String },
    #[error("the certificate authority {name:?} is not valid now: its time is over or has not come")]
    AuthorityTime { name: String },
    #[error("the certificate authority {name:?} has an extended key usage that does not allow this use")]
    AuthorityPurpose { name: String },
    #[error("there are more certificate authorities below {name:?} than its path length allows")]
    PathLength { name: String },
    #[error(
        "the certificate {name:?} is signed by {issuer:?}, which is trusted for itself but may not sign others (it lacks CA:TRUE \
         or the key usage keyCertSign): add the certificate itself to the trusted file, or make an authority: openssl req -x509 \
         -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=NAME -addext \
         keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem"
    )]
    NoAuthority { name: String, issuer: String },
    #[error("{0}")]
    Chain(webpki::Error),
}

// rustls shows such a reason only in its debug form.
impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Refused> for CertificateError {
    fn from(reason: Refused) -> Self {
        Self::Other(OtherError(Arc::new(reason)))
    }
}

impl From<Refused> for Error {
    fn from(reason: Refused) -> Self {
        Self::InvalidCertificate(reason.into())
    }
}

/// webpki's reason as a rustls error, so that the other end gets the matching alert.
pub fn chain_error(error: webpki::Error) -> CertificateError {
    use webpki::Error as Reason;
    match error {
        Reason::BadDer | Reason::BadDerTime | Reason::TrailingData(_) => CertificateError::BadEncoding,
        Reason::CertNotValidYet { .. } => CertificateError::NotValidYet,
        Reason::CertExpired { .. } | Reason::InvalidCertValidity => CertificateError::Expired,
        Reason::UnknownIssuer => CertificateError::UnknownIssuer,
        Reason::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        Reason::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        Reason::UnsupportedCriticalExtension => CertificateError::UnhandledCriticalExtension,
        other => Refused::Chain(other).into(),
    }
}
