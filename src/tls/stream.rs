//! A connection with or without TLS.

use super::checks::common_name;
use super::error::with_alert;
use crate::env;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection. Like the plain stream it does not offer vectored writes, for the same reason.
#[derive(Debug)]
pub enum MaybeTlsStream {
    Plain(env::Stream),
    /// A plain connection on a port that also accepts TLS.
    Told(FirstByte),
    /// Boxed, since it takes about a thousand bytes.
    Secure(Box<tokio_rustls::TlsStream<FirstByte>>),
}

impl MaybeTlsStream {
    pub fn is_secure(&self) -> bool {
        matches!(self, Self::Secure(_))
    }

    /// The common name of the other end's certificate; none if it presented none, or none was requested.
    pub fn certificate_name(&self) -> Option<Arc<str>> {
        let Self::Secure(stream) = self else {
            return None;
        };
        let (_, connection) = stream.get_ref();
        let end = connection.peer_certificates()?.first()?;
        // It was parsed before, when it was verified.
        common_name(end).ok().flatten().map(Arc::from)
    }
}

/// A connection whose first byte may have been read ahead.
#[derive(Debug)]
pub struct FirstByte {
    byte: Option<u8>,
    stream: env::Stream,
}

impl FirstByte {
    /// Nothing was read ahead.
    pub(super) fn none(stream: env::Stream) -> Self {
        Self { byte: None, stream }
    }

    /// Waits for the first byte, and keeps it for the reader.
    pub(super) async fn look(mut stream: env::Stream) -> io::Result<Self> {
        let mut bytes = [0];
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await?;
        Ok(Self {
            byte: (read == 1).then_some(bytes[0]),
            stream,
        })
    }

    /// Whether the first byte is that of a TLS handshake record (RFC 8446, section 5.1).
    pub(super) fn begins_handshake(&self) -> bool {
        self.byte == Some(0x16)
    }
}

impl AsyncRead for FirstByte {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(byte) = self.byte.take()
        {
            buffer.put_slice(&[byte]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for FirstByte {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for MaybeTlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Told(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secure(stream) => {
                // A connection that is closed without a TLS close notification counts as closed.
                match ready!(Pin::new(stream).poll_read(context, buffer)) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                    outcome => Poll::Ready(outcome.map_err(with_alert)),
                }
            }
        }
    }
}

impl AsyncWrite for MaybeTlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Told(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Told(stream) => Pin::new(stream).poll_flush(context),
            Self::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Told(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // the test owns the executor
mod tests {
    use super::*;
    use crate::tls::{Settings, Ways, self_signed};
    use rcgen::{CertificateParams, DnType, KeyPair};

    #[tokio::test]
    async fn the_name_of_a_client_is_that_of_its_certificate() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, "root");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let file = |name: &str, text: String| {
            let path = directory.path().join(name);
            env::write_file(&path, text.as_bytes()).expect("a scratch file");
            path.to_string_lossy().into_owned()
        };
        let (cert_file, key_file) = (file("cert", certificate.pem()), file("key", key.serialize_pem()));
        let trusting = |trusted_ca_file: &str| Settings {
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
            trusted_ca_file: trusted_ca_file.to_owned(),
            ..Settings::default()
        };
        let connector = trusting(&cert_file).connector().expect("sound files");
        // A server that trusts no client certificates requests none.
        for (trusted, name) in [(cert_file.as_str(), Some("root")), ("", None)] {
            let ways = Ways::Secure(trusting(trusted).acceptor().expect("sound files"));
            let listener = env::Listener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            let accepting = async {
                let (stream, remote) = listener.accept().await.expect("a connection");
                ways.begin(stream, remote).await.expect("a handshake")
            };
            let connecting = async {
                let stream = env::connect(&address).await.expect("a connection");
                connector.connect(stream, &address).await.expect("a handshake")
            };
            let (accepted, _client) = futures_util::future::join(accepting, connecting).await;
            assert_eq!(accepted.certificate_name().as_deref(), name);
        }
    }

    #[tokio::test]
    async fn who_is_refused_hears_why() {
        let directory = tempfile::tempdir().expect("a directory");
        let made = |name: &str| {
            let path = directory.path().join(name);
            let (cert_file, key_file) = self_signed(&path, &["127.0.0.1"], 1).expect("a certificate");
            Settings {
                cert_file,
                key_file,
                ..Settings::default()
            }
        };
        let server = made("server");
        let client = Settings {
            trusted_ca_file: made("other").cert_file,
            ..Settings::default()
        };
        let listener = env::Listener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let ways = Ways::Secure(server.acceptor().expect("sound files"));
        let connector = client.connector().expect("sound files");
        let accepting = async {
            let (stream, remote) = listener.accept().await.expect("a connection");
            ways.begin(stream, remote)
                .await
                .expect_err("the client does not trust it")
                .to_string()
        };
        let connecting = async {
            let stream = env::connect(&address).await.expect("a connection");
            connector.connect(stream, &address).await.is_err()
        };
        let (told, refused) = futures_util::future::join(accepting, connecting).await;
        assert!(refused);
        assert!(
            told.ends_with("remote error: tls: error decrypting message"),
            "{told}"
        );
    }
}
