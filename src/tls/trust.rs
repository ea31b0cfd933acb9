//! Which certificates a file of trusted ones accepts: those that Go's crypto/x509 accepts, as far as that is safe.
//!
//! webpki verifies chains. The code around it accepts certificates that operators use and webpki refuses, and makes checks that
//! Go makes and webpki does not:
//!
//! | case | here |
//! |---|---|
//! | the certificate itself is in the file (self-signed or pinned) | accepted if time, purpose and names fit; not what it signs |
//! | a possible CA, or X.509 v1, directly below a CA of the file | accepted; webpki's algorithms verify its signature |
//! | extended key usage "any" | accepted for every use |
//! | X.509 v1 in the file, self-signed | a CA, as in Go |
//! | a certificate in the file without CA:TRUE or keyCertSign | not a CA: webpki would treat it as one |
//! | a CA of the file that is expired, has another purpose, or whose path length is exceeded | refused: webpki does not check |
//! | RSA below 2048 bits, P-521, SHA-1 | refused with a message; Go accepts the first two |
//! | X.509 v1 as a server's certificate | refused: it cannot have alternative names; Go refuses it too |
//! | X.509 v1 below an intermediate CA | refused; Go accepts it |
//!
//! However a certificate is accepted, the handshake's signature is verified with its key (`signatures`), and revocation and
//! allowed names are checked afterwards (`checks`).

use super::TlsError;
use super::certificate::{Certificate, Purpose, parse};
use super::explain::{Refused, chain_error};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::{CertificateError, DistinguishedName, Error};
use std::path::Path;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, RawPublicKeyEntity, VerifiedPath};

/// The trusted certificates of a file, or of the operating system.
pub struct Trust {
    /// Each certificate of the file in DER.
    pinned: Vec<CertificateDer<'static>>,
    /// Their content, in the same order.
    certificates: Vec<Certificate>,
    /// Those that may sign other certificates.
    anchors: Vec<TrustAnchor<'static>>,
    /// The place in `certificates` of each anchor.
    anchor_certificates: Vec<usize>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.certificates.iter().map(|one| one.name.as_str()).collect();
        f.debug_tuple("Trust").field(&names).finish()
    }
}

impl Trust {
    fn empty(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self {
            pinned: Vec::new(),
            certificates: Vec::new(),
            anchors: Vec::new(),
            anchor_certificates: Vec::new(),
            algorithms,
        }
    }

    /// The certificates of the file `path`. Those whose signatures cannot be verified here are logged and left out; at least one
    /// must remain.
    pub fn of_file(
        path: &Path,
        certificates: Vec<CertificateDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, TlsError> {
        let content = |reason: String| TlsError::Content {
            path: path.to_owned(),
            reason,
        };
        let mut trust = Self::empty(algorithms);
        let mut complaint = None;
        for certificate in certificates {
            let read = Certificate::read(&certificate)
                .map_err(|error| content(format!("a trusted certificate cannot be used: {error}")))?;
            if let Err(reason) = read.check_key() {
                tracing::warn!(path = %path.display(), %reason, "a trusted certificate cannot be used");
                complaint = Some(reason);
                continue;
            }
            trust
                .add(certificate, read)
                .map_err(|error| content(format!("a trusted certificate cannot be used: {error}")))?;
        }
        match complaint {
            Some(reason) if trust.pinned.is_empty() => Err(content(reason.to_string())),
            _ => Ok(trust),
        }
    }

    /// The CAs of the operating system, as far as they are usable.
    pub fn of_system(
        certificates: Vec<CertificateDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, TlsError> {
        let mut trust = Self::empty(algorithms);
        for certificate in certificates {
            if let Ok(read) = Certificate::read(&certificate)
                && read.check_key().is_ok()
            {
                // A CA that webpki cannot read cannot verify anything.
                let _ = trust.add(certificate, read);
            }
        }
        if trust.anchors.is_empty() {
            return Err(TlsError::NoAuthority);
        }
        Ok(trust)
    }

    fn add(&mut self, certificate: CertificateDer<'static>, read: Certificate) -> Result<(), webpki::Error> {
        if read.can_sign() {
            let anchor = webpki::anchor_from_trusted_cert(&certificate)?.to_owned();
            self.anchors.push(anchor);
            self.anchor_certificates.push(self.pinned.len());
        }
        self.pinned.push(certificate);
        self.certificates.push(read);
        Ok(())
    }

    /// Names that help the other end to choose a certificate: subjects and issuers of the trusted ones.
    pub fn hints(&self) -> Vec<DistinguishedName> {
        let mut names: Vec<&Vec<u8>> = Vec::new();
        for certificate in &self.certificates {
            for name in [&certificate.subject, &certificate.issuer] {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names.into_iter().map(|name| name.clone().into()).collect()
    }

    /// Verifies a client's certificate.
    pub fn verify_client(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        self.verify(end, intermediates, now, Purpose::Client).map(drop)
    }

    /// Verifies the certificate of a server that was dialled as `name`.
    pub fn verify_server(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let read = self.verify(end, intermediates, now, Purpose::Server)?;
        if !read.has_alternative_names {
            return Err(Refused::NoNames { name: read.name }.into());
        }
        let parsed = rustls::server::ParsedCertificate::try_from(end)?;
        rustls::client::verify_server_name(&parsed, name)
    }

    fn verify(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        purpose: Purpose,
    ) -> Result<Certificate, Error> {
        let read = Certificate::read(end)?;
        read.check_key()?;
        let outcome = if self.pinned.iter().any(|pinned| pinned.as_ref() == end.as_ref()) {
            self_standing(end, &read, now, purpose)
        } else if read.is_v1 || read.is_authority == Some(true) {
            self_standing(end, &read, now, purpose).and_then(|()| self.verify_below(end, &read, now, purpose))
        } else {
            self.verify_chain(end, intermediates, now, purpose)
        };
        match outcome {
            Ok(()) => Ok(read),
            Err(error) => Err(Error::InvalidCertificate(self.explain(&read, error))),
        }
    }

    /// Verifies a chain with webpki, from the file's CAs down.
    fn verify_chain(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        purpose: Purpose,
    ) -> Result<(), CertificateError> {
        // Of several paths webpki keeps the most informative reason; the reasons from the file's CAs are better.
        let refusal = std::cell::RefCell::new(None);
        let check_path = |path: &VerifiedPath<'_>| {
            let place = self
                .anchors
                .iter()
                .position(|anchor| std::ptr::eq(anchor, path.anchor()));
            let below = path.intermediate_certificates().count();
            self.check_anchor(place, below, now, purpose).map_err(|reason| {
                *refusal.borrow_mut() = Some(reason);
                webpki::Error::UnknownIssuer
            })
        };
        let verified = EndEntityCert::try_from(end).and_then(|certificate| {
            certificate
                .verify_for_usage(
                    self.algorithms.all,
                    &self.anchors,
                    intermediates,
                    now,
                    Extended(purpose),
                    None,
                    Some(&check_path),
                )
                .map(drop)
        });
        verified.map_err(|error| match refusal.take() {
            Some(reason) => reason.into(),
            None => chain_error(error),
        })
    }

    /// Checks of a trusted CA that Go makes and webpki does not.
    fn check_anchor(
        &self,
        place: Option<usize>,
        intermediates: usize,
        now: UnixTime,
        purpose: Purpose,
    ) -> Result<(), Refused> {
        let place = place.expect("webpki's anchor is one of those that it was given");
        let certificate = &self.certificates[self.anchor_certificates[place]];
        let name = certificate.name.clone();
        if certificate.check_time(now.as_secs()).is_err() {
            return Err(Refused::AuthorityTime { name });
        }
        if !certificate.serves(purpose) {
            return Err(Refused::AuthorityPurpose { name });
        }
        match certificate.path_length {
            Some(length) if intermediates > length as usize => Err(Refused::PathLength { name }),
            _ => Ok(()),
        }
    }

    /// Verifies a certificate directly below a CA of the file, of a kind that webpki does not accept as the end of a chain.
    fn verify_below(
        &self,
        end: &CertificateDer<'_>,
        read: &Certificate,
        now: UnixTime,
        purpose: Purpose,
    ) -> Result<(), CertificateError> {
        let mut error = CertificateError::UnknownIssuer;
        for (place, certificate) in self.anchor_certificates.iter().enumerate() {
            let authority = &self.certificates[*certificate];
            if authority.subject != read.issuer {
                continue;
            }
            // Names below it would have to be compared with its constraints, which webpki does only for chains.
            let checked = if authority.has_name_constraints {
                Err(CertificateError::UnknownIssuer)
            } else {
                self.check_anchor(Some(place), 0, now, purpose)
                    .map_err(CertificateError::from)
                    .and_then(|()| self.is_signed_by(end, authority))
            };
            match checked {
                Ok(()) => return Ok(()),
                Err(reason) => error = reason,
            }
        }
        Err(error)
    }

    fn is_signed_by(
        &self,
        end: &CertificateDer<'_>,
        authority: &Certificate,
    ) -> Result<(), CertificateError> {
        let unreadable = CertificateError::BadEncoding;
        let parsed = parse(end).map_err(|_| unreadable.clone())?;
        let outer = &parsed.signature_algorithm;
        if *outer != parsed.tbs_certificate.signature || parsed.signature_value.unused_bits != 0 {
            return Err(unreadable);
        }
        let key = RawPublicKeyEntity::try_from(&authority.public_key).map_err(chain_error)?;
        let oid = outer.algorithm.as_bytes();
        // An algorithm's identifier begins with its object identifier in DER.
        let is_named = |id: &[u8]| {
            id.strip_prefix(&[6, oid.len() as u8])
                .is_some_and(|rest| rest.starts_with(oid))
        };
        let mut candidates = self.algorithms.all.iter();
        let is_valid = candidates.any(|algorithm| {
            is_named(&algorithm.signature_alg_id())
                && key
                    .verify_signature(
                        *algorithm,
                        parsed.tbs_certificate.as_ref(),
                        &parsed.signature_value.data,
                    )
                    .is_ok()
        });
        if is_valid {
            Ok(())
        } else {
            Err(CertificateError::BadSignature)
        }
    }

    /// Replaces an unspecific error by a better one, if more is known.
    fn explain(&self, read: &Certificate, error: CertificateError) -> CertificateError {
        let name = read.name.clone();
        match error {
            CertificateError::UnknownIssuer => {
                let issuers = self.certificates.iter();
                let mut issuers =
                    issuers.filter(|issuer| issuer.subject == read.issuer && !issuer.can_sign());
                match issuers.next() {
                    Some(issuer) => Refused::NoAuthority {
                        name,
                        issuer: issuer.name.clone(),
                    }
                    .into(),
                    None => CertificateError::UnknownIssuer,
                }
            }
            CertificateError::BadSignature | CertificateError::Other(_)
                if self.signature_is_unknown(read) =>
            {
                Refused::Algorithm {
                    name,
                    algorithm: read.signed_with.clone(),
                }
                .into()
            }
            other => other,
        }
    }

    fn signature_is_unknown(&self, read: &Certificate) -> bool {
        let mut known = self.algorithms.all.iter();
        !known.any(|algorithm| {
            let id = algorithm.signature_alg_id();
            let oid = id.get(1).and_then(|length| id.get(2..2 + *length as usize));
            oid.is_some_and(|oid| {
                x509_parser::der_parser::oid::Oid::new(oid.into()).to_id_string() == read.signed_with
            })
        })
    }
}

/// Go's checks of an end certificate itself: that every critical extension is understood, its time, its purpose.
fn self_standing(
    end: &CertificateDer<'_>,
    read: &Certificate,
    now: UnixTime,
    purpose: Purpose,
) -> Result<(), CertificateError> {
    if !read.is_v1 {
        EndEntityCert::try_from(end).map_err(chain_error)?;
    }
    read.check_time(now.as_secs())?;
    if read.serves(purpose) {
        Ok(())
    } else {
        Err(CertificateError::InvalidPurpose)
    }
}

/// A purpose that an extended key usage must allow, if there is one: by name, or with "any".
struct Extended(Purpose);

/// anyExtendedKeyUsage, id-kp-serverAuth and id-kp-clientAuth (RFC 5280, section 4.2.1.12).
const ANY: [usize; 5] = [2, 5, 29, 37, 0];
const SERVER: [usize; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 1];
const CLIENT: [usize; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 2];

impl ExtendedKeyUsageValidator for Extended {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let wanted = match self.0 {
            Purpose::Server => SERVER,
            Purpose::Client => CLIENT,
        };
        let mut is_limited = false;
        for purpose in purposes {
            let purpose = purpose?.to_decoded_oid();
            if purpose == ANY || purpose == wanted {
                return Ok(());
            }
            is_limited = true;
        }
        if !is_limited {
            return Ok(());
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(
            webpki::RequiredEkuNotFoundContext {
                required: match self.0 {
                    Purpose::Server => webpki::KeyUsage::server_auth(),
                    Purpose::Client => webpki::KeyUsage::client_auth(),
                },
                present: Vec::new(),
            },
        ))
    }
}
