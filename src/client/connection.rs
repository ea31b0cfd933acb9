//! One HTTP/2 connection, as a cloneable tower service under tonic's generated clients.
//!
//! It owns the connection's flow-control windows, its keep-alive and the bound on requests in flight. It does not reconnect: the
//! session does. A request that certainly was not sent fails with [`ChannelError::NotSent`]. A write may be retried only after
//! that error.

use super::EndpointError;
use crate::env;
use crate::tls::{Connector, HandshakeError, MaybeTlsStream};
use http::uri::{Authority, Scheme};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// The default of [`ChannelOptions::in_flight_max`]: beyond it callers wait, so that memory stays bounded.
const IN_FLIGHT_MAX_DEFAULT: usize = 4096;
/// The default of [`ChannelOptions::stream_window_bytes`]: large enough that a long range needs few window updates.
const STREAM_WINDOW_BYTES_DEFAULT: u32 = 4 * 1024 * 1024;
/// The default of [`ChannelOptions::connection_window_bytes`].
const CONNECTION_WINDOW_BYTES_DEFAULT: u32 = 16 * 1024 * 1024;
/// The default of [`ChannelOptions::connect_timeout`].
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

/// Pings that check whether an idle peer is alive.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    pub interval: Duration,
    pub timeout: Duration,
}

/// The settings of a connection.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    pub stream_window_bytes: u32,
    pub connection_window_bytes: u32,
    pub keep_alive: Option<KeepAlive>,
    /// Requests whose replies are not read to the end yet; further ones wait.
    pub in_flight_max: usize,
    pub connect_timeout: Duration,
    /// For TLS connections.
    pub tls: Option<Connector>,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            stream_window_bytes: STREAM_WINDOW_BYTES_DEFAULT,
            connection_window_bytes: CONNECTION_WINDOW_BYTES_DEFAULT,
            keep_alive: None,
            in_flight_max: IN_FLIGHT_MAX_DEFAULT,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            tls: None,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    #[error("cannot connect to {address}: {source}")]
    Refused { address: String, source: io::Error },
    #[error("cannot connect to {address}: no answer within {limit:?}")]
    TimedOut { address: String, limit: Duration },
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("cannot connect to {address}: {source}")]
    Tls { address: String, source: HandshakeError },
    #[error("{address} does not speak HTTP/2: {source}")]
    Handshake { address: String, source: hyper::Error },
    #[error("{0:?} is not a host and port")]
    Authority(String),
}

/// Why a request has no reply. It is the source of the [`Status`] with which the channel fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The request certainly was not sent.
    #[error("the connection is closed, the request was not sent")]
    NotSent,
    /// The request may have been executed.
    #[error("the connection was lost: {}", chain(.0))]
    Lost(#[source] hyper::Error),
}

/// hyper gives its cause only in the source.
fn chain(error: &hyper::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl From<ChannelError> for Status {
    fn from(error: ChannelError) -> Self {
        let mut status = Status::unavailable(error.to_string());
        status.set_source(Arc::new(error));
        status
    }
}

type BoxError = Box<dyn StdError + Send + Sync>;
type Permit = OwnedSemaphorePermit;
type AcquirePermit = Pin<Box<dyn Future<Output = Result<Permit, AcquireError>> + Send + Sync>>;

/// One connection. Clones share it; it closes when the last one is dropped.
pub struct Channel<B = tonic::body::Body> {
    sender: SendRequest<B>,
    authority: Authority,
    scheme: Scheme,
    in_flight: Arc<Semaphore>,
    /// Taken by `poll_ready`, passed to the request by `call`.
    permit: Option<Permit>,
    acquire: Option<AcquirePermit>,
}

impl<B> Channel<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Connects to `address` (`host:port`); requests name the server as `authority`.
    pub async fn connect(address: &str, authority: &str) -> Result<Self, ConnectError> {
        Self::connect_with(address, authority, &ChannelOptions::default()).await
    }

    pub async fn connect_with(
        address: &str,
        authority: &str,
        options: &ChannelOptions,
    ) -> Result<Self, ConnectError> {
        let authority = authority
            .parse()
            .map_err(|_| ConnectError::Authority(authority.to_owned()))?;
        let limit = options.connect_timeout;
        env::timeout(limit, Self::handshake(address, authority, options))
            .await
            .unwrap_or_else(|env::Elapsed| {
                Err(ConnectError::TimedOut {
                    address: address.to_owned(),
                    limit,
                })
            })
    }

    async fn handshake(
        address: &str,
        authority: Authority,
        options: &ChannelOptions,
    ) -> Result<Self, ConnectError> {
        let stream = env::connect(address)
            .await
            .map_err(|source| ConnectError::Refused {
                address: address.to_owned(),
                source,
            })?;
        let stream = match &options.tls {
            None => MaybeTlsStream::Plain(stream),
            Some(connector) => {
                connector
                    .connect(stream, address)
                    .await
                    .map_err(|source| ConnectError::Tls {
                        address: address.to_owned(),
                        source,
                    })?
            }
        };
        let mut builder = Builder::new(env::Executor);
        builder
            .timer(env::Timer)
            .initial_stream_window_size(options.stream_window_bytes)
            .initial_connection_window_size(options.connection_window_bytes);
        if let Some(keep_alive) = options.keep_alive {
            builder
                .keep_alive_interval(keep_alive.interval)
                .keep_alive_timeout(keep_alive.timeout)
                .keep_alive_while_idle(true);
        }
        let (sender, connection) =
            builder
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|source| ConnectError::Handshake {
                    address: address.to_owned(),
                    source,
                })?;
        let peer = address.to_owned();
        env::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(peer, error = chain(&error), "connection ended");
            }
        });
        let in_flight = Arc::new(Semaphore::new(options.in_flight_max));
        Ok(Self {
            sender,
            authority,
            scheme: if options.tls.is_some() {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            },
            in_flight,
            permit: None,
            acquire: None,
        })
    }
}

impl<B> Channel<B> {
    /// Whether the connection is known to be closed. If false, the next request may still find it closed.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// The name of the server in requests.
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Gives the request the scheme and authority that HTTP/2 requires.
    fn address_request(&self, request: &mut http::Request<B>) {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        if parts.path_and_query.is_none() {
            parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        }
        *request.uri_mut() = http::Uri::from_parts(parts).expect("scheme, authority and path make a URI");
    }
}

impl<B> Clone for Channel<B> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            authority: self.authority.clone(),
            scheme: self.scheme.clone(),
            in_flight: Arc::clone(&self.in_flight),
            permit: None,
            acquire: None,
        }
    }
}

impl<B> fmt::Debug for Channel<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("authority", &self.authority)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl<B> tower_service::Service<http::Request<B>> for Channel<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<ResponseBody>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // Generated clients poll again and lose the source of an error, so the second poll must not fail: `call` detects itself
        // that the connection is closed.
        if self.permit.is_some() {
            return Poll::Ready(Ok(()));
        }
        if self.is_closed() {
            return Poll::Ready(Err(ChannelError::NotSent.into()));
        }
        if self.acquire.is_none() {
            let in_flight = Arc::clone(&self.in_flight);
            match in_flight.try_acquire_owned() {
                Ok(permit) => {
                    self.permit = Some(permit);
                    return Poll::Ready(Ok(()));
                }
                Err(_) => self.acquire = Some(Box::pin(Arc::clone(&self.in_flight).acquire_owned())),
            }
        }
        let acquire = self.acquire.as_mut().expect("set above");
        let permit = ready!(acquire.as_mut().poll(context)).expect("the semaphore is never closed");
        self.acquire = None;
        self.permit = Some(permit);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let permit = self.permit.take().expect("poll_ready was asked first");
        self.address_request(&mut request);
        let answer = self.sender.try_send_request(request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => Ok(response.map(|incoming| ResponseBody {
                    incoming,
                    _permit: permit,
                })),
                // hyper returns the request only if no part of it was written.
                Err(error) if error.message().is_some() => Err(ChannelError::NotSent.into()),
                Err(error) => Err(ChannelError::Lost(error.into_error()).into()),
            }
        })
    }
}

/// A reply's body. Its request counts as in flight until the body is dropped.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    _permit: Permit,
}

impl Body for ResponseBody {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(context));
        Poll::Ready(frame.map(|frame| frame.map_err(|error| ChannelError::Lost(error).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
