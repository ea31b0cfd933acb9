//! The flags about TLS (etcd: server/embed/config.go, the group "Security").

use super::values::{boolean, unsigned_32};
use super::{Error, flags::Flags};
use crate::logging::Notice;
use crate::tls::{Settings, Version, suite_is_known};
use clap::{ArgAction, Args};

/// Certificates and what is asked of others'.
#[derive(Debug, Args)]
#[command(next_help_heading = "Security")]
pub struct TlsFlags {
    /// Server certificate towards clients; reloaded when it changes.
    #[arg(long, default_value = "")]
    pub cert_file: String,
    /// Private key of --cert-file.
    #[arg(long, default_value = "")]
    pub key_file: String,
    /// Client certificate of this member; --cert-file if empty.
    #[arg(long, default_value = "")]
    pub client_cert_file: String,
    /// Private key of --client-cert-file.
    #[arg(long, default_value = "")]
    pub client_key_file: String,
    /// Require client certificates, signed by a CA of --trusted-ca-file or of the system.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub client_cert_auth: bool,
    /// Revocation list (CRL, DER) for client certificates.
    #[arg(long, default_value = "")]
    pub client_crl_file: String,
    /// Allowed names in client certificates, comma-separated.
    #[arg(long, default_value = "")]
    pub client_cert_allowed_hostname: String,
    /// CA file for client certificates; requires them.
    #[arg(long, default_value = "")]
    pub trusted_ca_file: String,
    /// Generate a self-signed certificate for clients.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub auto_tls: bool,
    /// Certificate towards other members; reloaded when it changes.
    #[arg(long, default_value = "")]
    pub peer_cert_file: String,
    /// Private key of --peer-cert-file.
    #[arg(long, default_value = "")]
    pub peer_key_file: String,
    /// Client certificate towards other members; --peer-cert-file if empty.
    #[arg(long, default_value = "")]
    pub peer_client_cert_file: String,
    /// Private key of --peer-client-cert-file.
    #[arg(long, default_value = "")]
    pub peer_client_key_file: String,
    /// Require members' certificates, signed by a CA of --peer-trusted-ca-file or of the system.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub peer_client_cert_auth: bool,
    /// CA file for members' certificates; requires them.
    #[arg(long, default_value = "")]
    pub peer_trusted_ca_file: String,
    /// Generate a self-signed certificate for other members.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub peer_auto_tls: bool,
    /// Validity of generated certificates in years.
    #[arg(long, default_value = "1", value_parser = unsigned_32)]
    pub self_signed_cert_validity: u32,
    /// Revocation list (CRL, DER) for members' certificates.
    #[arg(long, default_value = "")]
    pub peer_crl_file: String,
    /// Allowed common names in members' certificates, comma-separated.
    #[arg(long, default_value = "")]
    pub peer_cert_allowed_cn: String,
    /// Allowed names in members' certificates, comma-separated.
    #[arg(long, default_value = "")]
    pub peer_cert_allowed_hostname: String,
    /// Cipher suites of TLS 1.2 in order of preference, comma-separated; all secure ones if empty.
    #[arg(long, default_value = "")]
    pub cipher_suites: String,
    /// Do not check that a member's certificate is for the address that the member dials from.
    #[arg(long, alias = "experimental-peer-skip-client-san-verification", default_value = "false",
        default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = boolean)]
    pub peer_skip_client_san_verification: bool,
    /// Minimum TLS version: TLS1.2 or TLS1.3.
    #[arg(long, default_value = "TLS1.2")]
    pub tls_min_version: String,
    /// Maximum TLS version: TLS1.2 or TLS1.3; the newest if empty.
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
            skip_client_san_verification: given.peer_skip_client_san_verification,
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

/// Words between commas.
pub fn list(text: &str) -> Vec<String> {
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
