//! Errors of certificates, and of the other end of a connection.

use crate::env::FileError;
use rustls::AlertDescription;
use std::io;
use std::path::PathBuf;

/// TLS that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {certificate}]")]
    HalfPair { key: String, certificate: String },
    #[error(
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: {certificate}]"
    )]
    HalfClientPair { key: String, certificate: String },
    #[error("open {}: no such file or directory", .0.display())]
    Missing(PathBuf),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: {reason}", path.display())]
    Content { path: PathBuf, reason: String },
    #[error("{} and {} do not make a usable pair: {reason}", certificate.display(), key.display())]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        reason: String,
    },
    #[error(
        "{}: x509: certificate has expired: it was valid until {until}; renew it, or set the clock of this machine right",
        path.display()
    )]
    Expired { path: PathBuf, until: String },
    #[error("no certificate authority is known: name one with --trusted-ca-file or --peer-trusted-ca-file")]
    NoAuthority,
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("selfSignedCertValidity is invalid,it should be greater than 0")]
    ValidityZero,
}

/// A connection on which the TLS handshake fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    #[error("TLS handshake failed: {0}")]
    Failed(io::Error),
    /// The other end aborted with an alert. The text is Go's.
    #[error("TLS handshake failed: {0}")]
    Refused(Alert),
    #[error("no TLS handshake within {0:?}")]
    TimedOut(std::time::Duration),
    #[error("nothing was sent within {0:?}")]
    Silent(std::time::Duration),
    #[error("{0:?} is no name that a certificate could be for")]
    Name(String),
    /// The certificate is for other addresses than the one that it comes from. The text is Go's, or etcd's.
    #[error("{0}")]
    OtherAddress(String),
    #[error("{0}")]
    Unusable(#[from] TlsError),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::AlertReceived(alert)) => Self::Refused(Alert(alert_text(*alert))),
            _ => Self::Failed(error),
        }
    }
}

/// The other end's alert. The text is Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("remote error: tls: {0}")]
pub struct Alert(String);

/// The error of an established connection, which may contain an alert: with TLS 1.3 a certificate is refused only then.
pub(super) fn with_alert(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => io::Error::new(error.kind(), Alert(alert_text(*alert))),
        _ => error,
    }
}

fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::BadCertificate => "bad certificate".into(),
        AlertDescription::CertificateExpired => "expired certificate".into(),
        AlertDescription::CertificateRequired => "certificate required".into(),
        AlertDescription::CertificateRevoked => "revoked certificate".into(),
        AlertDescription::CertificateUnknown => "unknown certificate".into(),
        AlertDescription::AccessDenied => "access denied".into(),
        AlertDescription::DecryptError => "error decrypting message".into(),
        AlertDescription::ProtocolVersion => "protocol version not supported".into(),
        AlertDescription::UnsupportedCertificate => "unsupported certificate".into(),
        AlertDescription::HandshakeFailure => "handshake failure".into(),
        AlertDescription::UnknownCA => "unknown certificate authority".into(),
        other => format!("{other:?}"),
    }
}
