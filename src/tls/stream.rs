//! A connection, plain or not.

use super::checks::common_name;
use crate::env;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection. Like the plain stream it does not offer vectored writes, for the same reason.
#[derive(Debug)]
pub enum Stream {
    Plain(env::Stream),
    /// A plain connection on a port that speaks TLS too.
    Told(FirstByte),
    /// Boxed, since it is some thousand bytes large.
    Secure(Box<tokio_rustls::TlsStream<FirstByte>>),
}

impl Stream {
    /// The common name of the certificate that the other end has shown; none where it has shown none, or none that was asked for.
    pub fn certificate_name(&self) -> Option<Arc<str>> {
        let Self::Secure(stream) = self else {
            return None;
        };
        let (_, connection) = stream.get_ref();
        let end = connection.peer_certificates()?.first()?;
        // It was read before, when it was verified.
        common_name(end).ok().flatten().map(Arc::from)
    }
}

/// A connection whose first byte may have been looked at.
#[derive(Debug)]
pub struct FirstByte {
    byte: Option<u8>,
    stream: env::Stream,
}

impl FirstByte {
    /// Nothing was looked at.
    pub(super) fn none(stream: env::Stream) -> Self {
        Self { byte: None, stream }
    }

    /// Waits for the first byte, which stays to be read.
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

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Told(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secure(stream) => {
                // Who closes the connection without saying so in TLS first has closed it all the same.
                match ready!(Pin::new(stream).poll_read(context, buffer)) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                    outcome => Poll::Ready(outcome),
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
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
