//! One connection of the benchmark: unary gRPC calls directly on HTTP/2 streams.
//!
//! hyper and tonic would add a task, two channels and several boxes per request, which more than doubles the cost. Replies are
//! not decoded: only their bytes are counted and their status is read.

use super::load::Method;
use crate::client::Endpoint;
use crate::env;
use crate::tls::{Connector, MaybeTlsStream};
use bytes::Bytes;
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// Large enough that long replies need few window updates.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// The number of streams before the server has sent its limit.
const STREAMS_BEFORE_SETTINGS: usize = 1024;
/// Pause after a failed attempt to connect, so that failing requests do not spin.
const RECONNECT_DELAY: Duration = Duration::from_millis(100);

/// A failed request: the name under which the report counts it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WireError(pub String);

/// One connection, shared by several clients, and reopened when it fails.
pub struct Wire {
    endpoint: Endpoint,
    heads: [http::Request<()>; Method::ALL.len()],
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// The number of the current connection.
    generation: Cell<u64>,
    reconnect: tokio::sync::Mutex<()>,
    connect_timeout: Duration,
    tls: Option<Connector>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Wire {
    pub async fn connect(
        endpoint: Endpoint,
        connect_timeout: Duration,
        tls: Option<&Connector>,
    ) -> Result<Self, WireError> {
        let tls = endpoint
            .connector(tls)
            .map_err(|error| WireError(error.to_string()))?;
        let heads = Method::ALL.map(|method| head_of(method.path(), &endpoint, tls.is_some()));
        let wire = Self {
            endpoint,
            heads,
            sender: RefCell::new(None),
            generation: Cell::new(0),
            reconnect: tokio::sync::Mutex::new(()),
            connect_timeout,
            tls,
        };
        wire.open().await?;
        Ok(wire)
    }

    async fn open(&self) -> Result<(), WireError> {
        let failure =
            |error: String| WireError(format!("cannot connect to {}: {error}", self.endpoint.address()));
        let handshake = async {
            let stream = env::connect(self.endpoint.address())
                .await
                .map_err(|e| failure(e.to_string()))?;
            let stream = match &self.tls {
                None => MaybeTlsStream::Plain(stream),
                Some(connector) => connector
                    .connect(stream, self.endpoint.address())
                    .await
                    .map_err(|error| failure(error.to_string()))?,
            };
            h2::client::Builder::new()
                .initial_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
                .enable_push(false)
                .handshake::<_, Bytes>(stream)
                .await
                .map_err(|error| failure(error.to_string()))
        };
        let connected = env::timeout(self.connect_timeout, handshake).await;
        let (sender, connection) = connected.map_err(|elapsed| failure(elapsed.to_string()))??;
        env::spawn(async move {
            let _ = connection.await; // the calls on it learn of the error
        });
        self.sender.replace(Some(sender));
        self.generation.set(self.generation.get() + 1);
        Ok(())
    }

    /// A handle for one client.
    pub fn handle(&self) -> Handle {
        Handle {
            sender: self.sender.borrow().clone(),
            generation: self.generation.get(),
        }
    }

    /// Sends one request and reads its reply. Returns the reply's length.
    pub async fn call(&self, handle: &mut Handle, method: Method, body: Bytes) -> Result<u64, WireError> {
        if handle.sender.is_none() {
            self.repair(handle).await?;
        }
        let sender = handle.sender.as_mut().expect("repaired above");
        match exchange(sender, self.heads[method as usize].clone(), body).await {
            Ok(answer) => answer,
            Err(error) => {
                // A reset ends one stream, any other error the connection.
                if !error.is_reset() {
                    handle.sender = None;
                }
                Err(WireError(format!("connection: {error}")))
            }
        }
    }

    /// Opens a long-lived stream, with its first requests. Returns both directions once the server has replied.
    pub async fn open_stream(
        &self,
        path: &str,
        first: Bytes,
    ) -> Result<(h2::SendStream<Bytes>, h2::RecvStream), WireError> {
        let failure = |error: h2::Error| WireError(format!("connection: {error}"));
        let mut sender = self
            .handle()
            .sender
            .ok_or_else(|| WireError("no connection".into()))?;
        std::future::poll_fn(|context| sender.poll_ready(context))
            .await
            .map_err(failure)?;
        let head = head_of(path, &self.endpoint, self.tls.is_some());
        let (answer, mut requests) = sender.send_request(head, false).map_err(failure)?;
        requests.send_data(first, false).map_err(failure)?;
        let (head, answers) = answer.await.map_err(failure)?.into_parts();
        if head.headers.contains_key("grpc-status") {
            grpc_status(&head.headers)?;
        }
        Ok((requests, answers))
    }

    /// Replaces the connection of a handle whose connection has failed. The first client opens it for all.
    async fn repair(&self, handle: &mut Handle) -> Result<(), WireError> {
        let _guard = self.reconnect.lock().await;
        if handle.generation == self.generation.get()
            && let Err(failure) = self.open().await
        {
            env::sleep(RECONNECT_DELAY).await;
            return Err(failure);
        }
        *handle = self.handle();
        Ok(())
    }
}

/// One client's access to a connection.
pub struct Handle {
    sender: Option<SendRequest<Bytes>>,
    generation: u64,
}

/// The head of all requests for one method.
fn head_of(path: &str, endpoint: &Endpoint, secure: bool) -> http::Request<()> {
    let scheme = if secure { "https" } else { "http" };
    http::Request::post(format!("{scheme}://{}{path}", endpoint.authority()))
        .version(http::Version::HTTP_2)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .header(TE, HeaderValue::from_static("trailers"))
        .body(())
        .expect("an endpoint and a path make a URI")
}

async fn exchange(
    sender: &mut SendRequest<Bytes>,
    head: http::Request<()>,
    body: Bytes,
) -> Result<Result<u64, WireError>, h2::Error> {
    std::future::poll_fn(|context| sender.poll_ready(context)).await?;
    let (answer, mut stream) = sender.send_request(head, false)?;
    stream.send_data(body, true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut answer_bytes = 0;
    while let Some(chunk) = body.data().await {
        let length = chunk?.len();
        answer_bytes += length as u64;
        body.flow_control().release_capacity(length)?;
    }
    let trailers = body.trailers().await?;
    let verdict = match (&trailers, head.status) {
        (Some(trailers), _) => grpc_status(trailers),
        (None, http::StatusCode::OK) => grpc_status(&head.headers),
        (None, status) => Err(WireError(format!("HTTP {status}"))),
    };
    Ok(verdict.map(|()| answer_bytes))
}

/// The status, in the trailers of a reply or in the head of a reply without a body.
fn grpc_status(headers: &HeaderMap) -> Result<(), WireError> {
    const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
    const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
    match headers.get(GRPC_STATUS) {
        Some(code) if code == "0" => Ok(()),
        Some(code) => {
            let code = tonic::Code::from_bytes(code.as_bytes());
            let message = headers.get(GRPC_MESSAGE).map_or(&b""[..], HeaderValue::as_bytes);
            Err(WireError(format!(
                "{code:?}: {}",
                String::from_utf8_lossy(message)
            )))
        }
        None => Err(WireError("answer without grpc-status".to_owned())),
    }
}
