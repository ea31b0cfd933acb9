//! The certificates of `--auto-tls` and `--peer-auto-tls`: self-signed, generated once, stored in the data directory under etcd's
//! names (client/pkg/transport/listener.go, `SelfCert`). They cannot be verified: they protect against eavesdroppers, not against
//! impostors.

use super::TlsError;
use crate::env;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use std::path::Path;
use std::time::Duration;

const YEAR: Duration = Duration::from_hours(365 * 24);

/// The paths of the certificate and the key in `directory`, generated unless both exist. `hosts` go into the certificate.
pub fn self_signed(
    directory: &Path,
    hosts: &[&str],
    validity_years: u32,
) -> Result<(String, String), TlsError> {
    if validity_years == 0 {
        return Err(TlsError::ValidityZero);
    }
    let certificate = directory.join("cert.pem");
    let key = directory.join("key.pem");
    if !(env::exists(&certificate) && env::exists(&key)) {
        make(directory, hosts, validity_years)?;
    }
    let name = |path: &Path| path.to_string_lossy().into_owned();
    Ok((name(&certificate), name(&key)))
}

/// Creates both files together: one without the other would be useless, and the other could not be made afterwards.
fn make(directory: &Path, hosts: &[&str], validity_years: u32) -> Result<(), TlsError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    let mut params = CertificateParams::new(names)?;
    let begin = std::time::UNIX_EPOCH + env::unix_time();
    params.not_before = begin.into();
    params.not_after = params.not_before + YEAR * validity_years;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "callboard");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.self_signed(&key)?;
    let scratch = directory.with_extension("new");
    env::remove_directory(&scratch)?;
    env::create_directory(&scratch)?;
    env::write_file(&scratch.join("cert.pem"), certificate.pem().as_bytes())?;
    env::write_file(&scratch.join("key.pem"), key.serialize_pem().as_bytes())?;
    env::remove_directory(directory)?;
    env::rename(&scratch, directory)?;
    tracing::warn!(
        directory = %directory.display(), not_after = %params.not_after, "automatically generate certificates"
    );
    Ok(())
}
