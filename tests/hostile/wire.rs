//! HTTP/2 as an attacker speaks it: streams that are opened, written to and left as the case wants it.

use bytes::{BufMut, Bytes};
use callboard::proto::etcdserverpb as pb;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use prost::Message;
use std::net::SocketAddr;

/// A connection whose far end is served in the background.
pub async fn connect(member: SocketAddr) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(member)
        .await
        .expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    let builder = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .initial_max_send_streams(1 << 20)
        .max_concurrent_reset_streams(1 << 20)
        .handshake::<_, Bytes>(stream)
        .await;
    let (sender, connection) = builder.expect("HTTP/2");
    tokio::spawn(async move {
        // The streams hear of it.
        let _ = connection.await;
    });
    sender.ready().await.expect("settings")
}

/// A gRPC call that has begun.
pub struct Call {
    pub answer: h2::client::ResponseFuture,
    pub requests: SendStream<Bytes>,
}

/// Begins a call.
pub fn begin(sender: &mut SendRequest<Bytes>, path: &str) -> Result<Call, h2::Error> {
    let request = http::Request::post(format!("http://hostile{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request");
    let (answer, requests) = sender.send_request(request, false)?;
    Ok(Call { answer, requests })
}

/// Calls with one message and waits for the status: 0 is a success.
pub async fn call(
    sender: &mut SendRequest<Bytes>,
    path: &str,
    message: Bytes,
) -> Result<(u32, String), h2::Error> {
    let mut call = begin(sender, path)?;
    call.requests.send_data(message, true)?;
    let (head, mut body) = call.answer.await?.into_parts();
    drain(&mut body).await?;
    let trailers = body.trailers().await?;
    Ok(status(trailers.as_ref().unwrap_or(&head.headers)))
}

/// Reads an answer's data to its end.
pub async fn drain(body: &mut RecvStream) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let bytes = data?.len();
        body.flow_control().release_capacity(bytes)?;
    }
    Ok(())
}

fn status(headers: &HeaderMap) -> (u32, String) {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    (
        text("grpc-status").parse().unwrap_or(99),
        text("grpc-message").to_owned(),
    )
}

/// A message with gRPC's prefix.
pub fn framed(message: &impl Message) -> Bytes {
    prefixed(&message.encode_to_vec())
}

pub fn prefixed(message: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.extend_from_slice(message);
    framed.into()
}

pub fn get(key: &str) -> Bytes {
    framed(&pb::RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    })
}

pub fn put(key: &str, value: Vec<u8>) -> Bytes {
    framed(&pb::PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        ..Default::default()
    })
}
