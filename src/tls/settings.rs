//! The TLS settings of the flags, and the rustls configurations for them.

use super::checks::{CheckedClients, CheckedServers, Checks, Unverified};
use super::material::{Pair, system_authorities, trusted};
use super::reload::{Contents, Reloaded};
use super::trust::Trust;
use super::{Acceptor, Connector, TlsError};
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CipherSuite, ClientConfig, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// HTTP/2 first: gRPC needs it.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The TLS settings of one side of a member: towards clients, or towards other members. An empty name means not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub cert_file: String,
    pub key_file: String,
    /// The certificate that the member presents when it dials; the pair above if empty.
    pub client_cert_file: String,
    pub client_key_file: String,
    pub trusted_ca_file: String,
    pub client_cert_auth: bool,
    pub crl_file: String,
    pub allowed_cns: Vec<String>,
    pub allowed_hostnames: Vec<String>,
    pub skip_client_san_verification: bool,
    pub cipher_suites: Vec<String>,
    pub version_min: Option<Version>,
    pub version_max: Option<Version>,
    /// The certificates are automatic ones, which cannot be verified.
    pub self_signed: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Tls12,
    Tls13,
}

impl Settings {
    /// Whether a listener has no certificate.
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_empty() && self.key_file.is_empty()
    }

    /// For accepting connections. With a trusted file or `client_cert_auth`, clients must present a valid certificate.
    pub fn acceptor(&self) -> Result<Acceptor, TlsError> {
        let settings = self.clone();
        let own = self.own_pair()?;
        // It is presented only when this member dials, but must be valid from the start.
        self.client_pair()?
            .map(|pair| self.read_once(&pair))
            .transpose()?;
        let authorities_file = given(&self.trusted_ca_file);
        let crl_file = given(&self.crl_file);
        let mut files = vec![own.certificate.clone(), own.key.clone()];
        files.extend(authorities_file.iter().chain(&crl_file).cloned());
        let build = move |contents: &Contents| {
            let mut contents = contents.iter();
            let mut next = || contents.next().map_or(&[][..], Vec::as_slice);
            let (certificate, key) = (next(), next());
            let trust = match &authorities_file {
                Some(path) => Some(trusted(path, next(), &settings.provider())?),
                None if settings.client_cert_auth => Some(system_authorities(&settings.provider())?),
                None => None,
            };
            let revoked = crl_file.as_deref().map(|path| (path, next()));
            settings.server_config(&own, certificate, key, trust, revoked)
        };
        Ok(Acceptor::new(Reloaded::new(files, build)?))
    }

    /// For dialling with gRPC. Automatic certificates are not verified, as in etcd.
    pub fn connector(&self) -> Result<Connector, TlsError> {
        self.connector_for(PROTOCOLS[0])
    }

    /// For dialling with HTTP/1.1.
    pub fn http_connector(&self) -> Result<Connector, TlsError> {
        self.connector_for(PROTOCOLS[1])
    }

    fn connector_for(&self, protocol: &'static [u8]) -> Result<Connector, TlsError> {
        let settings = self.clone();
        let pair = match self.client_pair()? {
            Some(pair) => Some(pair),
            None if self.is_empty() => None,
            None => Some(self.own_pair()?),
        };
        let authorities_file = given(&self.trusted_ca_file);
        let mut files = Vec::new();
        files.extend(
            pair.iter()
                .flat_map(|pair| [pair.certificate.clone(), pair.key.clone()]),
        );
        files.extend(authorities_file.clone());
        let build = move |contents: &Contents| {
            let mut contents = contents.iter();
            let mut next = || contents.next().map_or(&[][..], Vec::as_slice);
            let shown = pair.as_ref().map(|pair| (pair, next(), next()));
            let trust = match &authorities_file {
                _ if settings.self_signed => None,
                Some(path) => Some(trusted(path, next(), &settings.provider())?),
                None => Some(system_authorities(&settings.provider())?),
            };
            settings.client_config(protocol, shown, trust)
        };
        Ok(Connector::new(Reloaded::new(files, build)?))
    }

    fn own_pair(&self) -> Result<Pair, TlsError> {
        Pair::of(&self.cert_file, &self.key_file).ok_or_else(|| TlsError::HalfPair {
            key: self.key_file.clone(),
            certificate: self.cert_file.clone(),
        })
    }

    fn client_pair(&self) -> Result<Option<Pair>, TlsError> {
        match Pair::of(&self.client_cert_file, &self.client_key_file) {
            Some(pair) => Ok(Some(pair)),
            None if self.client_cert_file.is_empty() && self.client_key_file.is_empty() => Ok(None),
            None => Err(TlsError::HalfClientPair {
                key: self.client_key_file.clone(),
                certificate: self.client_cert_file.clone(),
            }),
        }
    }

    fn read_once(&self, pair: &Pair) -> Result<(), TlsError> {
        let (read, provider) = (pair.clone(), self.provider());
        let files = vec![pair.certificate.clone(), pair.key.clone()];
        let settings = self.clone();
        Reloaded::new(files, move |contents| {
            settings.read_pair(&read, &contents[0], &contents[1], &provider)
        })?;
        Ok(())
    }

    /// Automatic certificates count for ever, as with etcd: nobody verifies them.
    fn read_pair(
        &self,
        pair: &Pair,
        certificate: &[u8],
        key: &[u8],
        provider: &CryptoProvider,
    ) -> Result<Arc<CertifiedKey>, TlsError> {
        let read = pair.read(certificate, key, provider)?;
        if !self.self_signed {
            pair.check_expiry(&read)?;
        }
        Ok(read)
    }

    fn server_config(
        &self,
        own: &Pair,
        certificate: &[u8],
        key: &[u8],
        trust: Option<Trust>,
        revoked: Option<(&Path, &[u8])>,
    ) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(self.provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions())?;
        let builder = match trust {
            None => builder.with_no_client_auth(),
            Some(trust) => {
                let checks = self.checks()?.with_revoked(revoked)?;
                let clients = CheckedClients::new(trust, checks, &provider);
                builder.with_client_cert_verifier(Arc::new(clients))
            }
        };
        let pair = self.read_pair(own, certificate, key, &provider)?;
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(config)
    }

    fn client_config(
        &self,
        protocol: &[u8],
        shown: Option<(&Pair, &[u8], &[u8])>,
        trust: Option<Trust>,
    ) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(self.provider());
        let algorithms = provider.signature_verification_algorithms;
        let verifier: Arc<dyn ServerCertVerifier> = match trust {
            None => Arc::new(Unverified(algorithms)),
            Some(trust) => Arc::new(CheckedServers {
                trust,
                checks: self.checks()?,
                algorithms,
            }),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some((pair, certificate, key)) => {
                let pair = self.read_pair(pair, certificate, key, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }

    fn checks(&self) -> Result<Checks, TlsError> {
        Checks::new(&self.allowed_cns, &self.allowed_hostnames)
    }

    /// As in Go, the list applies to TLS 1.2 only, and it does not order the suites of TLS 1.3.
    fn provider(&self) -> CryptoProvider {
        let mut provider = rustls::crypto::ring::default_provider();
        if self.cipher_suites.is_empty() {
            return provider;
        }
        let wanted: Vec<CipherSuite> = self.cipher_suites.iter().filter_map(|name| suite(name)).collect();
        provider.cipher_suites.retain(|suite| {
            suite.version().version == rustls::ProtocolVersion::TLSv1_3 || wanted.contains(&suite.suite())
        });
        let rank = |suite: CipherSuite| wanted.iter().position(|other| *other == suite);
        provider.cipher_suites.sort_by_key(|suite| rank(suite.suite()));
        provider
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let mut versions = Vec::new();
        if self.version_max != Some(Version::Tls12) {
            versions.push(&rustls::version::TLS13);
        }
        if self.version_min != Some(Version::Tls13) {
            versions.push(&rustls::version::TLS12);
        }
        versions
    }
}

fn given(file: &str) -> Option<PathBuf> {
    (!file.is_empty()).then(|| file.into())
}

/// The suite with this name in Go, if it is supported here.
fn suite(name: &str) -> Option<CipherSuite> {
    let name = match name {
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        name => name,
    };
    // In rustls, suites of TLS 1.3 have a distinct prefix, in Go they do not.
    let in_13 = name.replacen("TLS_", "TLS13_", 1);
    let spoken = rustls::crypto::ring::ALL_CIPHER_SUITES
        .iter()
        .map(SupportedCipherSuite::suite);
    let mut spoken = spoken.filter(|suite| {
        suite
            .as_str()
            .is_some_and(|known| known == name || known == in_13)
    });
    spoken.next()
}

/// Names that etcd accepts, but which are not supported here: Go itself calls them weak.
const WEAK_SUITES: [&str; 16] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Whether etcd knows a cipher suite of this name: `Some(true)` if it is supported here too.
pub fn suite_is_known(name: &str) -> Option<bool> {
    if suite(name).is_some() {
        return Some(true);
    }
    WEAK_SUITES.contains(&name).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cipher_suites_have_the_names_that_go_gives_them() {
        let table = [
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some(true)),
            ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", Some(true)),
            ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Some(true)),
            ("TLS_AES_128_GCM_SHA256", Some(true)),
            ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", Some(false)),
            ("ECDHE-RSA-DES-CBC3-SHA", None),
            ("", None),
        ];
        for (name, known) in table {
            assert_eq!(suite_is_known(name), known, "{name}");
        }
    }

    #[test]
    fn lists_of_suites_choose_for_tls_1_2_only() {
        let settings = Settings {
            cipher_suites: vec!["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384".into()],
            ..Settings::default()
        };
        let of = |version| {
            let suites = settings.provider().cipher_suites;
            suites
                .iter()
                .filter(|suite| suite.version().version == version)
                .count()
        };
        assert_eq!(of(rustls::ProtocolVersion::TLSv1_2), 1);
        assert_eq!(of(rustls::ProtocolVersion::TLSv1_3), 3);
    }

    #[test]
    fn halves_of_pairs_are_refused() {
        let half = Settings {
            cert_file: "a".into(),
            ..Settings::default()
        };
        assert_eq!(
            half.acceptor().expect_err("no key").to_string(),
            "KeyFile and CertFile must both be present[key: , cert: a]"
        );
        let half = Settings {
            cert_file: "a".into(),
            key_file: "b".into(),
            client_key_file: "c".into(),
            ..Settings::default()
        };
        assert!(matches!(half.acceptor(), Err(TlsError::HalfClientPair { .. })));
    }
}
