//! The flags about TLS (etcd: server/embed/config.go, the group "Security").

use super::values::{boolean, unsigned_32};
use super::{Error, flags::Flags};
use crate::logging::Notice;
use crate::tls::{Settings, Version, suite_is_known};
use clap::{ArgAction, Args};

/// Certificates and what is asked of others'.
#[derive(Debug, Args)]
pub struct TlsFlags {
    /// The certificate that clients are shown; read again when it changes.
    #[arg(long, default_value = "")]
    pub cert_file: String,
    /// Its key.
    #[arg(long, default_value = "")]
    pub key_file: String,
    /// What this member shows where it is a client itself; the certificate above if empty.
    #[arg(long, default_value = "")]
    pub client_cert_file: String,
    /// Its key.
    #[arg(long, default_value = "")]
    pub client_key_file: String,
    /// Clients must show a certificate that one of the system's certificate authorities, or of the file's, has signed.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub client_cert_auth: bool,
    /// Serial numbers of certificates that clients must not show, a revocation list in DER.
    #[arg(long, default_value = "")]
    pub client_crl_file: String,
    /// Names, between commas, of which a client's certificate must have one.
    #[arg(long, default_value = "")]
    pub client_cert_allowed_hostname: String,
    /// Certificate authorities of clients; with it, clients must show a certificate.
    #[arg(long, default_value = "")]
    pub trusted_ca_file: String,
    /// Make a certificate for clients, which they cannot verify.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub auto_tls: bool,
    /// The certificate that other members are shown; read again when it changes.
    #[arg(long, default_value = "")]
    pub peer_cert_file: String,
    /// Its key.
    #[arg(long, default_value = "")]
    pub peer_key_file: String,
    /// What this member shows where it dials other members; the certificate above if empty.
    #[arg(long, default_value = "")]
    pub peer_client_cert_file: String,
    /// Its key.
    #[arg(long, default_value = "")]
    pub peer_client_key_file: String,
    /// Members must show a certificate that one of the system's certificate authorities, or of the file's, has signed.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub peer_client_cert_auth: bool,
    /// Certificate authorities of the other members; with it, they must show a certificate.
    #[arg(long, default_value = "")]
    pub peer_trusted_ca_file: String,
    /// Make a certificate for the other members, which nobody verifies.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub peer_auto_tls: bool,
    /// Years that the certificates of --auto-tls and --peer-auto-tls count.
    #[arg(long, default_value = "1", value_parser = unsigned_32)]
    pub self_signed_cert_validity: u32,
    /// Serial numbers of certificates that members must not show, a revocation list in DER.
    #[arg(long, default_value = "")]
    pub peer_crl_file: String,
    /// Common names, between commas, of which a member's certificate must have one.
    #[arg(long, default_value = "")]
    pub peer_cert_allowed_cn: String,
    /// Names, between commas, of which a member's certificate must have one.
    #[arg(long, default_value = "")]
    pub peer_cert_allowed_hostname: String,
    /// Cipher suites of TLS 1.2, between commas, the best first; all that are sound if empty.
    #[arg(long, default_value = "")]
    pub cipher_suites: String,
    /// Whether a member may dial from an address that its certificate does not name. It always may so far.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub peer_skip_client_san_verification: bool,
    /// TLS1.2 or TLS1.3.
    #[arg(long, default_value = "TLS1.2")]
    pub tls_min_version: String,
    /// TLS1.2 or TLS1.3; the newest if empty.
    #[arg(long, default_value = "")]
    pub tls_max_version: String,
}

/// What one member's TLS is to be.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    pub client: Settings,
    pub peer: Settings,
    /// Certificates are to be made, unless there are some.
    pub client_automatic: bool,
    pub peer_automatic: bool,
    pub self_signed_validity_years: u32,
}

/// The flags' meaning, checked.
pub fn read(flags: &Flags, notices: &mut Vec<Notice>) -> Result<Tls, Error> {
    let given = &flags.tls;
    let version_min = version(&given.tls_min_version)?;
    let version_max = version(&given.tls_max_version)?;
    if version_max.is_some() && version_min > version_max {
        return Err(Error::TlsVersions {
            min: given.tls_min_version.clone(),
            max: given.tls_max_version.clone(),
        });
    }
    let cipher_suites = list(&given.cipher_suites);
    if version_min == Some(Version::Tls13) && !cipher_suites.is_empty() {
        return Err(Error::CipherSuitesTls13);
    }
    for name in &cipher_suites {
        match suite_is_known(name) {
            Some(true) => {}
            Some(false) => notices.push(Notice::warn(
                "this cipher suite is too weak to be spoken; ignoring it",
                [("cipher-suite", name)],
            )),
            None => return Err(Error::CipherSuite(name.clone())),
        }
    }
    let common = Settings {
        cipher_suites,
        version_min,
        version_max,
        ..Settings::default()
    };
    let tls = Tls {
        client: Settings {
            cert_file: given.cert_file.clone(),
            key_file: given.key_file.clone(),
            client_cert_file: given.client_cert_file.clone(),
            client_key_file: given.client_key_file.clone(),
            trusted_ca_file: given.trusted_ca_file.clone(),
            client_cert_auth: given.client_cert_auth,
            crl_file: given.client_crl_file.clone(),
            allowed_hostnames: list(&given.client_cert_allowed_hostname),
            ..common.clone()
        },
        peer: Settings {
            cert_file: given.peer_cert_file.clone(),
            key_file: given.peer_key_file.clone(),
            client_cert_file: given.peer_client_cert_file.clone(),
            client_key_file: given.peer_client_key_file.clone(),
            trusted_ca_file: given.peer_trusted_ca_file.clone(),
            client_cert_auth: given.peer_client_cert_auth,
            crl_file: given.peer_crl_file.clone(),
            allowed_cns: list(&given.peer_cert_allowed_cn),
            allowed_hostnames: list(&given.peer_cert_allowed_hostname),
            ..common
        },
        client_automatic: given.auto_tls,
        peer_automatic: given.peer_auto_tls,
        self_signed_validity_years: given.self_signed_cert_validity,
    };
    if !tls.peer.allowed_cns.is_empty() && !tls.peer.allowed_hostnames.is_empty() {
        return Err(Error::AllowedNames);
    }
    Ok(tls)
}

fn list(text: &str) -> Vec<String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(ToOwned::to_owned).collect()
}

fn version(text: &str) -> Result<Option<Version>, Error> {
    match text {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(Version::Tls12)),
        "TLS1.3" => Ok(Some(Version::Tls13)),
        other => Err(Error::TlsVersion(other.to_owned())),
    }
}
