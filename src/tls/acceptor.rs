//! The accepting end: a listener that may speak TLS, plain, or both on one port, as etcd's can when the same address is
//! given with both schemes.

use super::pace::Pace;
use super::reload::Reloaded;
use super::stream::FirstByte;
use super::{HandshakeError, MaybeTlsStream};
use crate::env;
use crate::limits::SILENT_CONNECTION_MAX;
use rustls::ServerConfig;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A handshake takes no longer (etcd: `tlsHandshakeTimeout`).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes TLS connections of accepted ones. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<Reloaded<ServerConfig>>,
    /// For a port on a thread that others need.
    pace: Option<Arc<Pace>>,
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
        }
    }

    /// The same, whose handshakes take no more than half of their thread's time.
    #[must_use]
    pub fn paced(self) -> Self {
        Self {
            pace: Some(Arc::default()),
            ..self
        }
    }

    async fn accept(&self, stream: FirstByte) -> Result<MaybeTlsStream, HandshakeError> {
        let acceptor = tokio_rustls::TlsAcceptor::from(self.config.current().await);
        let handshake = acceptor.accept(stream);
        let stream = match &self.pace {
            Some(pace) => pace.spread(handshake).await?,
            None => handshake.await?,
        };
        Ok(MaybeTlsStream::Secure(Box::new(stream.into())))
    }
}

/// What is spoken on a port.
#[derive(Clone, Debug, Default)]
pub enum Ways {
    #[default]
    Plain,
    Secure(Acceptor),
    Both(Acceptor),
}

impl Ways {
    /// What is spoken on a port that is to speak both.
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

    /// Turns an accepted connection into what it is to be, once the other end has begun to speak. Never called where other connections are accepted: the other
    /// end may take its time.
    pub async fn begin(&self, mut stream: env::Stream) -> Result<MaybeTlsStream, HandshakeError> {
        if let Self::Plain = self {
            // Whatever is wrong with it shows when it is read.
            let spoken = env::timeout(SILENT_CONNECTION_MAX, stream.readable()).await;
            return match spoken {
                Ok(_) => Ok(MaybeTlsStream::Plain(stream)),
                Err(env::Elapsed) => Err(HandshakeError::Silent(SILENT_CONNECTION_MAX)),
            };
        }
        // Boxed, so that the tasks of plain connections are no larger for it.
        let shake = Box::pin(self.shake(stream));
        env::timeout(HANDSHAKE_TIMEOUT, shake)
            .await
            .unwrap_or(Err(HandshakeError::TimedOut(HANDSHAKE_TIMEOUT)))
    }

    async fn shake(&self, stream: env::Stream) -> Result<MaybeTlsStream, HandshakeError> {
        match self {
            Self::Plain => Ok(MaybeTlsStream::Plain(stream)),
            Self::Secure(acceptor) => acceptor.accept(FirstByte::none(stream)).await,
            Self::Both(acceptor) => {
                let stream = FirstByte::look(stream).await?;
                if stream.begins_handshake() {
                    acceptor.accept(stream).await
                } else {
                    Ok(MaybeTlsStream::Told(stream))
                }
            }
        }
    }
}

/// A port, and what is spoken on it.
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
