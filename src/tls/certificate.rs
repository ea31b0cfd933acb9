//! The fields of a certificate, read with x509-parser: webpki exposes few of them, and does not accept X.509 v1.

use super::explain::Refused;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::{CertificateError, Error};
use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Version;

/// Shorter RSA keys are not verified: ring does not support them, and they have been advised against since 2013 (NIST SP
/// 800-131A).
pub const RSA_BITS_MIN: usize = 2048;
/// Longer keys are not verified either, as in Go.
pub const RSA_BITS_MAX: usize = 8192;
/// P-521.
const SECP521R1: &str = "1.3.132.0.35";

/// The side of a connection that presents a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Server,
    Client,
}

/// The permitted uses of a certificate that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Purposes {
    server: bool,
    client: bool,
}

/// The content of a certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    /// The subject in readable form.
    pub name: String,
    pub is_v1: bool,
    /// From its basic constraints; none without them.
    pub is_authority: Option<bool>,
    pub path_length: Option<u32>,
    pub has_name_constraints: bool,
    pub has_alternative_names: bool,
    /// By its key usage, if there is one.
    may_sign: bool,
    purposes: Purposes,
    /// Both inclusive, in seconds since 1970.
    valid: (i64, i64),
    pub public_key: SubjectPublicKeyInfoDer<'static>,
    key: Key,
    /// The object identifier of its signature algorithm.
    pub signed_with: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Rsa { bits: usize },
    P521,
    Other,
}

/// Parses a certificate in DER.
pub fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    use x509_parser::prelude::FromDer;
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(unreadable()),
    }
}

fn unreadable() -> Error {
    Error::InvalidCertificate(CertificateError::BadEncoding)
}

impl Certificate {
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, Error> {
        let parsed = parse(der)?;
        let is_v1 = parsed.version() == X509Version::V1;
        if is_v1 && !parsed.extensions().is_empty() {
            return Err(unreadable());
        }
        let basic = parsed.basic_constraints().map_err(|_| unreadable())?;
        let key_usage = parsed.key_usage().map_err(|_| unreadable())?;
        let extended = parsed.extended_key_usage().map_err(|_| unreadable())?;
        let names = parsed.subject_alternative_name().map_err(|_| unreadable())?;
        let constraints = parsed.name_constraints().map_err(|_| unreadable())?;
        let purposes = extended.map_or(
            Purposes {
                server: true,
                client: true,
            },
            |extension| Purposes {
                server: extension.value.any || extension.value.server_auth,
                client: extension.value.any || extension.value.client_auth,
            },
        );
        Ok(Self {
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            name: parsed.subject().to_string(),
            is_v1,
            is_authority: basic.as_ref().map(|extension| extension.value.ca),
            path_length: basic.and_then(|extension| extension.value.path_len_constraint),
            has_name_constraints: constraints.is_some(),
            has_alternative_names: names.is_some(),
            may_sign: key_usage.is_none_or(|extension| extension.value.key_cert_sign()),
            purposes,
            valid: (
                parsed.validity().not_before.timestamp(),
                parsed.validity().not_after.timestamp(),
            ),
            public_key: SubjectPublicKeyInfoDer::from(parsed.public_key().raw.to_vec()),
            key: Key::of(&parsed),
            signed_with: parsed.signature_algorithm.algorithm.to_id_string(),
        })
    }

    /// Whether it can sign other certificates. In Go every certificate of version 1 can. Here it must at least be its own issuer:
    /// otherwise a trusted client certificate would make every certificate trusted that the client signs.
    pub fn can_sign(&self) -> bool {
        self.may_sign
            && self
                .is_authority
                .unwrap_or(self.is_v1 && self.subject == self.issuer)
    }

    pub fn serves(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Server => self.purposes.server,
            Purpose::Client => self.purposes.client,
        }
    }

    /// Fails unless the certificate is valid at this time, in seconds since 1970.
    pub fn check_time(&self, now: u64) -> Result<(), CertificateError> {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        if now < self.valid.0 {
            return Err(CertificateError::NotValidYet);
        }
        if now > self.valid.1 {
            return Err(CertificateError::Expired);
        }
        Ok(())
    }

    /// Fails with a reason if signatures by its key cannot be verified here.
    pub fn check_key(&self) -> Result<(), Refused> {
        let name = self.name.clone();
        match self.key {
            Key::Rsa { bits } if bits < RSA_BITS_MIN => Err(Refused::ShortKey { name, bits }),
            Key::Rsa { bits } if bits > RSA_BITS_MAX => Err(Refused::LongKey { name, bits }),
            Key::P521 => Err(Refused::Curve { name }),
            Key::Rsa { .. } | Key::Other => Ok(()),
        }
    }
}

impl Key {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let key = certificate.public_key();
        let curve = key.algorithm.parameters.as_ref();
        let curve = curve.and_then(|parameters| parameters.as_oid().ok());
        match key.parsed() {
            Ok(PublicKey::RSA(key)) => {
                let zeros = key.modulus.iter().take_while(|byte| **byte == 0).count();
                let modulus = &key.modulus[zeros..];
                let first = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
                Self::Rsa {
                    bits: (modulus.len() * 8).saturating_sub(first),
                }
            }
            Ok(PublicKey::EC(_)) if curve.is_some_and(|curve| curve.to_id_string() == SECP521R1) => {
                Self::P521
            }
            _ => Self::Other,
        }
    }
}
