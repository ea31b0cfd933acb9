//! The dialling side.

use super::reload::Reloaded;
use super::settings::Settings;
use super::stream::FirstByte;
use super::{HandshakeError, MaybeTlsStream, TlsError};
use crate::env;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::sync::Arc;

/// Makes TLS connections of dialled ones. Cheap to clone. It has no time limit: the caller has one for the whole dial.
#[derive(Clone)]
pub struct Connector {
    config: Arc<Reloaded<ClientConfig>>,
    /// Whose certificate the other end must have, whatever its address.
    name: Option<Arc<str>>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// The TLS files of a client's command line: `--cacert`, `--cert`, `--key` and `--insecure-skip-tls-verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    pub cacert: String,
    pub cert: String,
    pub key: String,
    pub insecure_skip_tls_verify: bool,
}

impl ClientFiles {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the files.
    pub fn connector(&self) -> Result<Connector, TlsError> {
        let settings = Settings {
            cert_file: self.cert.clone(),
            key_file: self.key.clone(),
            trusted_ca_file: self.cacert.clone(),
            self_signed: self.insecure_skip_tls_verify,
            ..Settings::default()
        };
        settings.connector()
    }
}

impl Connector {
    pub(super) fn new(config: Reloaded<ClientConfig>) -> Self {
        Self {
            config: Arc::new(config),
            name: None,
        }
    }

    /// The same for servers whose certificates are for `name`.
    #[must_use]
    pub fn for_servers_named(self, name: &str) -> Self {
        Self {
            name: Some(name.into()),
            ..self
        }
    }

    /// Performs the handshake with `address` (`host:port`). The other end's certificate must be valid for its host, unless another name
    /// was given.
    pub async fn connect(
        &self,
        stream: env::Stream,
        address: &str,
    ) -> Result<MaybeTlsStream, HandshakeError> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let host = self.name.as_deref().unwrap_or(host);
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| HandshakeError::Name(host.to_owned()))?;
        let connector = tokio_rustls::TlsConnector::from(self.config.current().await);
        let stream = connector.connect(name, FirstByte::none(stream)).await?;
        Ok(MaybeTlsStream::Secure(Box::new(stream.into())))
    }
}
