//! A certificate authority, and what it signs.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use std::fs;
use std::path::{Path, PathBuf};

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub file: PathBuf,
}

/// The files of a certificate and its key.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Written to `<directory>/<name>.ca`.
    pub fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let file = directory.join(format!("{name}.ca"));
        fs::write(&file, issuer.pem()).expect("write the authority");
        Self { issuer, file }
    }

    /// A certificate for this machine under a common name, written to `<directory>/<file>.crt` and `.key`.
    pub fn sign(&self, directory: &Path, file: &str, common_name: &str) -> Pair {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let pair = Pair {
            certificate: directory.join(format!("{file}.crt")),
            key: directory.join(format!("{file}.key")),
        };
        fs::write(&pair.certificate, certificate.pem()).expect("write the certificate");
        fs::write(&pair.key, key.serialize_pem()).expect("write the key");
        pair
    }
}

impl Pair {
    /// What etcdctl and `callboard bench` take.
    pub fn arguments(&self, authority: &Authority) -> [String; 3] {
        [
            format!("--cacert={}", authority.file.display()),
            format!("--cert={}", self.certificate.display()),
            format!("--key={}", self.key.display()),
        ]
    }

    /// What a server takes, for clients or (`peer-`) for other members.
    pub fn flags(&self, side: &str, authority: &Authority) -> [String; 3] {
        [
            format!("--{side}cert-file={}", self.certificate.display()),
            format!("--{side}key-file={}", self.key.display()),
            format!("--{side}trusted-ca-file={}", authority.file.display()),
        ]
    }
}
