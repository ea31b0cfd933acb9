//! The JSON (REST) form of the v3 API, as in etcd's grpc-gateway 2 (server/embed/serve.go; etcd: api/etcdserverpb/gw).
//!
//! A request is converted to its gRPC message and executed as a gRPC call, and the reply is converted to JSON. Types come from
//! the descriptors of the .proto files: a new call is one line in [`table`]. Fields have their names in the .proto files, 64-bit
//! numbers are strings, bytes are base64, enums are names, defaults are left out. Input may also use camel case, numbers and the
//! URL alphabet of base64; unknown fields are ignored. Streaming calls take one JSON object after the other and reply in lines.
//!
//! Errors also have a field `error`, as in etcd 3.4 and 3.5. A repeated field is no error: the last one counts, as in those
//! versions. Streams over WebSocket are not supported.

mod calls;
mod errors;
#[doc(hidden)] // these are public for the fuzzer
pub mod objects;
#[doc(hidden)]
pub mod table;
#[doc(hidden)]
pub mod text;

use super::backend::Backend;
use super::body::Body;
use super::bounds::TxnBounds;
use super::compression::Encoding;
use super::connection::Connection;
use super::grpc::{self, RequestBody, Requests};
use super::large_work::LargeWork;
use super::routes::{CallHead, Routes};
use crate::limits::JSON_VALUES_PER_PART;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use bytes::Bytes;
use calls::{Frames, read_text};
use futures_util::{StreamExt, stream};
use std::convert::Infallible;
use table::JsonCall;
use tonic::Status;

/// The part of a path below the API's prefix. 3.3's prefix is still accepted, 3.2's is not.
pub fn route(path: &str) -> Option<&str> {
    path.strip_prefix("/v3/")
        .or_else(|| path.strip_prefix("/v3beta/"))
}

/// Handles a request to `route`.
pub async fn respond<B: Backend>(
    routes: &Routes<B>,
    route: &str,
    connection: &Connection,
    request: Request<impl RequestBody + 'static>,
) -> Response<Body> {
    let answer = match table::call(route) {
        None => Err(Status::not_found("Not Found")),
        Some(_) if request.method() != Method::POST => Err(Status::unimplemented("Method Not Allowed")),
        Some(call) => perform(routes, call, connection, request).await,
    };
    answer.unwrap_or_else(|status| errors::response(&status))
}

async fn perform<B: Backend>(
    routes: &Routes<B>,
    call: &'static JsonCall,
    connection: &Connection,
    request: Request<impl RequestBody + 'static>,
) -> Result<Response<Body>, Status> {
    let (parts, body) = request.into_parts();
    let metadata = metadata(&parts.headers)?;
    let reading = routes.reading(connection.unread.clone(), Encoding::Identity);
    let parts_max = TxnBounds::of(routes.backend().limits().max_txn_ops).parts;
    let values_max = parts_max.saturating_mul(JSON_VALUES_PER_PART);
    let frames = if call.requests_stream {
        Frames::many(body, &call.request, &reading, values_max)
    } else {
        let (text, _room) = read_text(body, &reading).await?;
        let text_bytes = text.len();
        let read = move || text::read(&call.request, &text, values_max);
        Frames::one(reading.large.run(text_bytes, read).await?)
    };
    let head = CallHead {
        connection,
        path: call.rpc,
        headers: &metadata,
    };
    let reply = routes.invoke(&head, frames, &reading).await;
    let large = reading.large;
    if call.replies_stream {
        return Ok(lines(large, call, reply).await);
    }
    let mut replies = Requests::of_reply(reply?);
    let message = replies.next_bytes().await?.unwrap_or_default();
    let message_bytes = message.len();
    let write = move || {
        let mut text = Vec::new();
        text::write(&call.reply, message, &mut text).map(|()| text)
    };
    Ok(success(Body::plain(large.run(message_bytes, write).await?)))
}

/// Replies as lines. The head waits for the first line: until then an error can still set its status.
async fn lines(large: LargeWork, call: &'static JsonCall, reply: Result<Body, Status>) -> Response<Body> {
    let mut replies = match reply {
        Ok(body) => Requests::of_reply(body),
        Err(status) => return errors::line_response(&status),
    };
    let first = match replies.next_bytes().await {
        Ok(Some(message)) => line(&large, call, message).await,
        Ok(None) => return Response::default(),
        Err(status) => return errors::line_response(&status),
    };
    let rest = stream::unfold(Some((replies, large)), move |state| async move {
        let (mut replies, large) = state?;
        match replies.next_bytes().await {
            Ok(Some(message)) => {
                let line = line(&large, call, message).await;
                Some((line, Some((replies, large))))
            }
            Ok(None) => None,
            Err(status) => Some((errors::line(&status), None)),
        }
    });
    let lines = stream::iter([first]).chain(rest).map(Ok::<Bytes, Infallible>);
    success(Body::routed(axum::body::Body::from_stream(lines)))
}

async fn line(large: &LargeWork, call: &'static JsonCall, message: Bytes) -> Bytes {
    let message_bytes = message.len();
    let write = move || {
        let mut text = b"{\"result\":".to_vec();
        text::write(&call.reply, message, &mut text)?;
        text.extend_from_slice(b"}\n");
        Ok(text.into())
    };
    let line = large.run(message_bytes, write).await;
    line.unwrap_or_else(|status| errors::line(&status))
}

fn success(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, errors::JSON);
    headers.insert(
        HeaderName::from_static("grpc-metadata-content-type"),
        HeaderValue::from_static("application/grpc"),
    );
    response
}

/// Headers that the call gets as metadata: those with the prefix `Grpc-Metadata-`, without it.
fn metadata(headers: &HeaderMap) -> Result<HeaderMap, Status> {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        match name.as_str() {
            "grpc-timeout" => {
                grpc::timeout(value.as_bytes()).ok_or_else(|| {
                    let text = String::from_utf8_lossy(value.as_bytes());
                    Status::invalid_argument(format!("invalid grpc-timeout: {text}"))
                })?;
                metadata.insert(name, value.clone());
            }
            "authorization" => {
                metadata.append(name, value.clone());
            }
            other => {
                let rest = other.strip_prefix("grpc-metadata-");
                if let Some(Ok(name)) = rest.map(str::parse::<HeaderName>) {
                    metadata.append(name, value.clone());
                }
            }
        }
    }
    Ok(metadata)
}
