//! The accepting side: a listener with TLS, without it, or with both on one port, as in etcd when the same address is given with
//! both schemes.

use super::client_address;
use super::pace::Pace;
use super::reload::Reloaded;
use super::stream::FirstByte;
use super::{HandshakeError, MaybeTlsStream};
use crate::env;
use crate::limits::SILENT_CONNECTION_MAX;
use rustls::ServerConfig;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The limit of a handshake (etcd: `tlsHandshakeTimeout`).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes TLS connections of accepted ones. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<Reloaded<ServerConfig>>,
    /// For a port on a thread that has other work.
    pace: Option<Arc<Pace>>,
    /// Certificates must be for the address that they come from.
    checks_address: bool,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl Acceptor {
    pub(super) fn new(config: Reloaded<ServerConfig>) -> Self {
        Self {
            config: Arc::new(config),
            pace: None,
            checks_address: false,
        }
    }

    /// The same, for dialling members: their certificates must be for the address that they dial from.
    #[must_use]
    pub fn checking_address(self) -> Self {
        Self {
            checks_address: true,
            ..self
        }
    }

    /// The same, but its handshakes take at most half of their thread's time.
    #[must_use]
    pub fn paced(self) -> Self {
        Self {
            pace: Some(Arc::default()),
            ..self
        }
    }

    async fn accept(&self, stream: FirstByte, from: SocketAddr) -> Result<MaybeTlsStream, HandshakeError> {
        let acceptor = tokio_rustls::TlsAcceptor::from(self.config.current().await);
        let handshake = acceptor.accept(stream);
        let stream = match &self.pace {
            Some(pace) => pace.spread(handshake).await?,
            None => handshake.await?,
        };
        let (_, connection) = stream.get_ref();
        let end = connection.peer_certificates().and_then(<[_]>::first);
        // A unix socket has no address.
        if let Some(end) = end.filter(|_| self.checks_address && !from.ip().is_unspecified()) {
            client_address::check(end, from.ip()).await?;
        }
        Ok(MaybeTlsStream::Secure(Box::new(stream.into())))
    }
}

/// The protocols of a port.
#[derive(Clone, Debug, Default)]
pub enum Ways {
    #[default]
    Plain,
    Secure(Acceptor),
    Both(Acceptor),
}

impl Ways {
    /// The protocols of a port with both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Plain, Self::Secure(acceptor)) | (Self::Secure(acceptor), Self::Plain) => {
                Self::Both(acceptor)
            }
            (Self::Plain, other) => other,
            (this, _) => this,
        }
    }

    /// Performs the handshake of an accepted connection, once the other end has sent something. Do not call it in the accept
    /// loop: the other end may be slow.
    pub async fn begin(
        &self,
        mut stream: env::Stream,
        from: SocketAddr,
    ) -> Result<MaybeTlsStream, HandshakeError> {
        if let Self::Plain = self {
            // An error will show when the stream is read.
            let spoken = env::timeout(SILENT_CONNECTION_MAX, stream.readable()).await;
            return match spoken {
                Ok(_) => Ok(MaybeTlsStream::Plain(stream)),
                Err(env::Elapsed) => Err(HandshakeError::Silent(SILENT_CONNECTION_MAX)),
            };
        }
        // Boxed, so that it does not enlarge the tasks of plain connections.
        let shake = Box::pin(self.shake(stream, from));
        env::timeout(HANDSHAKE_TIMEOUT, shake)
            .await
            .unwrap_or(Err(HandshakeError::TimedOut(HANDSHAKE_TIMEOUT)))
    }

    async fn shake(&self, stream: env::Stream, from: SocketAddr) -> Result<MaybeTlsStream, HandshakeError> {
        match self {
            Self::Plain => Ok(MaybeTlsStream::Plain(stream)),
            Self::Secure(acceptor) => acceptor.accept(FirstByte::none(stream), from).await,
            Self::Both(acceptor) => {
                let stream = FirstByte::look(stream).await?;
                if stream.begins_handshake() {
                    acceptor.accept(stream, from).await
                } else {
                    Ok(MaybeTlsStream::Told(stream))
                }
            }
        }
    }
}

/// A port and its protocols.
#[derive(Debug)]
pub struct Listener {
    pub port: env::Listener,
    pub ways: Ways,
}

impl From<env::Listener> for Listener {
    fn from(port: env::Listener) -> Self {
        Self {
            port,
            ways: Ways::Plain,
        }
    }
}
