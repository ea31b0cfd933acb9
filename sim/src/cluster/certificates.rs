//! The members' certificates towards each other, signed by an authority, in files. Each is valid for so short a time that a member
//! which does not read its files again loses its connections. Those that were replaced may be revoked.

use super::member_address;
use callboard::env;
use callboard::tls::Settings;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// How long a certificate is valid. All are renewed more often.
const VALID_FOR: Duration = Duration::from_secs(120);
const AUTHORITY_VALID_FOR: Duration = Duration::from_hours(24 * 365);

type Authority = CertifiedIssuer<'static, KeyPair>;

/// See the head of the file.
pub struct Certificates {
    directory: PathBuf,
    members: usize,
    /// All that the members trust. The last one signs.
    authorities: RefCell<Vec<Authority>>,
    /// The number of certificates that were issued, which is the serial number of the last one.
    issued: Cell<u64>,
}

/// A member's files.
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authorities: PathBuf,
    revoked: PathBuf,
}

impl Certificates {
    /// Writes the first files of all members.
    pub(super) fn issue(directory: &Path, members: usize) -> Self {
        env::create_directory(directory).expect("scratch files can be made");
        let this = Self {
            directory: directory.to_owned(),
            members,
            authorities: RefCell::default(),
            issued: Cell::default(),
        };
        this.add_authority();
        this.write_revoked(0);
        for member in 0..members {
            this.renew(member);
        }
        this
    }

    pub fn files(&self, member: usize) -> Files {
        let file = |extension: &str| self.directory.join(format!("m{}.{extension}", member + 1));
        Files {
            certificate: file("crt"),
            key: file("key"),
            authorities: file("ca"),
            revoked: file("crl"),
        }
    }

    /// The same with the certificate that a member had before its present one.
    pub fn replaced(&self, member: usize) -> Files {
        let before = |extension: &str| self.directory.join(format!("m{}.before.{extension}", member + 1));
        Files {
            certificate: before("crt"),
            key: before("key"),
            ..self.files(member)
        }
    }

    /// Adds an authority, which signs from now on, to what all members trust.
    pub fn add_authority(&self) {
        let mut params = CertificateParams::new([]).expect("no names");
        let number = self.authorities.borrow().len();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid_for(&mut params, AUTHORITY_VALID_FOR);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        self.authorities.borrow_mut().push(authority);
        self.write_authorities();
    }

    /// Makes members trust the newest authority only.
    pub fn drop_authorities(&self) {
        let mut authorities = self.authorities.borrow_mut();
        let old = authorities.len() - 1;
        authorities.drain(..old);
        drop(authorities);
        self.write_authorities();
    }

    fn write_authorities(&self) {
        let authorities = self.authorities.borrow();
        let all: String = authorities.iter().map(|authority| authority.pem()).collect();
        for member in 0..self.members {
            write(&self.files(member).authorities, all.as_bytes());
        }
    }

    /// Revokes all certificates but the last ones of all members.
    pub fn revoke_replaced(&self) {
        self.write_revoked(self.issued.get() - self.members as u64);
    }

    /// Revokes the certificates up to the one with this serial number.
    fn write_revoked(&self, last: u64) {
        let now = (UNIX_EPOCH + env::unix_time()).into();
        let revoked = (1..=last).map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: now + AUTHORITY_VALID_FOR,
            crl_number: SerialNumber::from(self.issued.get()),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let authorities = self.authorities.borrow();
        let authority = authorities.last().expect("there is always one");
        let list = list.signed_by(authority).expect("a list");
        for member in 0..self.members {
            write(&self.files(member).revoked, list.der());
        }
    }

    /// Gives a member another certificate and key.
    pub fn renew(&self, member: usize) {
        let (files, replaced) = (self.files(member), self.replaced(member));
        for (from, to) in [
            (&files.certificate, &replaced.certificate),
            (&files.key, &replaced.key),
        ] {
            if let Some(text) = env::read_file(from).expect("scratch files can be read") {
                write(to, &text);
            }
        }
        let names = [member_address(member).to_string()];
        let mut params = CertificateParams::new(names).expect("an address");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.issued.set(self.issued.get() + 1);
        params.serial_number = Some(SerialNumber::from(self.issued.get()));
        valid_for(&mut params, VALID_FOR);
        let key = KeyPair::generate().expect("a key");
        let authorities = self.authorities.borrow();
        let authority = authorities.last().expect("there is always one");
        let certificate = params.signed_by(&key, authority).expect("a certificate");
        write(&files.certificate, certificate.pem().as_bytes());
        write(&files.key, key.serialize_pem().as_bytes());
    }
}

impl Files {
    /// What a member is started with.
    pub(super) fn flags(&self) -> [String; 5] {
        [
            format!("--peer-cert-file={}", self.certificate.display()),
            format!("--peer-key-file={}", self.key.display()),
            format!("--peer-trusted-ca-file={}", self.authorities.display()),
            format!("--peer-crl-file={}", self.revoked.display()),
            "--peer-client-cert-auth".to_owned(),
        ]
    }

    /// The same, to dial with.
    pub fn settings(&self) -> Settings {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Settings {
            cert_file: text(&self.certificate),
            key_file: text(&self.key),
            trusted_ca_file: text(&self.authorities),
            client_cert_auth: true,
            ..Settings::default()
        }
    }
}

fn valid_for(params: &mut CertificateParams, time: Duration) {
    let now = UNIX_EPOCH + env::unix_time();
    params.not_before = (now - Duration::from_hours(1)).into();
    params.not_after = (now + time).into();
}

fn write(path: &Path, bytes: &[u8]) {
    env::write_file(path, bytes).expect("scratch files can be written");
}
