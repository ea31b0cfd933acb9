//! gRPC's framing of requests and replies.
//!
//! Used instead of tonic's server, whose 8 KiB of buffers per call and boxed futures and bodies cost more than a get itself, and
//! whose error texts differ from grpc-go's when a request is too large. tonic's statuses are used.

use super::body::{Body, PREFIX_BYTES};
use super::bounds::has_few_fields;
use super::compression::{self, Encoding};
use super::large_work::LargeWork;
use super::slow::KeptRequest;
use super::status::EtcdError;
use super::unread::{ConnectionBudget, Room, arrival};
use crate::env;
use crate::limits::{FLAT_FIELDS_MAX, INLINE_WORK_BYTES};
use crate::metrics::CountedCall;
use ::http::{HeaderMap, HeaderValue, Response, header};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::Either;
use http_body_util::BodyExt;
use prost::Message;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tonic::{Code, Status};

/// A body of a request.
pub trait RequestBody: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Send + Unpin {}
impl<T: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Send + Unpin> RequestBody for T {}

/// How requests are read. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The largest message.
    pub bytes_max: usize,
    pub unread: ConnectionBudget,
    pub large: LargeWork,
    pub encoding: Encoding,
    pub kept: KeptRequest,
}

impl Reading {
    /// A message that has arrived, decompressed.
    async fn expanded(&self, data: Bytes, is_compressed: bool) -> Result<Bytes, Status> {
        /// The estimated growth; it may be up to a thousandfold.
        const GROWTH: usize = 64;
        if !is_compressed {
            return Ok(data);
        }
        self.encoding.check()?;
        let bytes_max = self.bytes_max;
        let work = data.len().saturating_mul(GROWTH);
        // Boxed: few clients compress.
        Box::pin(
            self.large
                .run(work, move || compression::expand(&data, bytes_max)),
        )
        .await
    }
}

/// Reads the one message of a call, and counts it.
pub async fn message<M: Message + Default + Send + 'static>(
    body: impl RequestBody,
    reading: &Reading,
    call: &CountedCall,
) -> Result<M, Status> {
    let (data, _room) = whole_message(body, reading, call).await?;
    reading.large.run(data.len(), move || decode(data)).await
}

/// The same for messages without repeated or nested messages: these decode quickly however large they are.
pub async fn flat_message<M: Message + Default + Send + 'static>(
    body: impl RequestBody,
    reading: &Reading,
    call: &CountedCall,
) -> Result<M, Status> {
    let (data, _room) = whole_message(body, reading, call).await?;
    let is_cheap = data.len() <= INLINE_WORK_BYTES || has_few_fields(&data, FLAT_FIELDS_MAX);
    let bytes = if is_cheap { 0 } else { data.len() };
    reading.large.run(bytes, move || decode(data)).await
}

/// Reads the one message of a call in its encoded form, and counts it. Its room is taken until the second part is dropped.
pub async fn whole_message(
    mut body: impl RequestBody,
    reading: &Reading,
    call: &CountedCall,
) -> Result<(Bytes, Option<Room>), Status> {
    let mut first = None;
    let at_once = {
        let data = pin!(next_data(&mut body));
        poll_once(data).await
    };
    if let Poll::Ready(data) = at_once {
        let mut data = data?.ok_or_else(no_message)?;
        if let Some(bytes) = announced(&data)
            && data.len() == PREFIX_BYTES + bytes
            && body.is_end_stream()
        {
            let (_, is_compressed) = message_bytes(&mut data, reading.bytes_max)?;
            call.received(data.len());
            let data = reading.expanded(data, is_compressed).await?;
            reading.kept.keep(&data);
            return Ok((data, None));
        }
        first = Some(data);
    }
    // Boxed: nearly all messages arrive in one piece.
    let (data, is_compressed, room) = Box::pin(arriving_message(first, body, reading)).await?;
    call.received(data.len());
    let data = reading.expanded(data, is_compressed).await?;
    reading.kept.keep(&data);
    Ok((data, room))
}

async fn arriving_message(
    first: Option<Bytes>,
    mut body: impl RequestBody,
    reading: &Reading,
) -> Result<(Bytes, bool, Option<Room>), Status> {
    let prefixed = async {
        let mut data = match first {
            Some(data) => data,
            None => next_data(&mut body).await?.ok_or_else(no_message)?,
        };
        if data.len() < PREFIX_BYTES {
            data = gather(data, PREFIX_BYTES, &mut body).await?;
        }
        Ok(data)
    };
    let mut data = arrival(0, prefixed).await?;
    let (bytes, is_compressed) = message_bytes(&mut data, reading.bytes_max)?;
    let room = if data.len() < bytes {
        Some(reading.unread.take(bytes).await?)
    } else {
        None
    };
    let rest = async {
        if data.len() < bytes {
            data = gather(data, bytes, &mut body).await?;
        }
        while data.len() == bytes && !body.is_end_stream() {
            match next_data(&mut body).await? {
                Some(more) => data = [data, more].concat().into(),
                None => break,
            }
        }
        if data.len() > bytes {
            return Err(Status::internal(
                "grpc: more than one message in a call with one request",
            ));
        }
        Ok(data)
    };
    Ok((arrival(bytes, rest).await?, is_compressed, room))
}

fn no_message() -> Status {
    Status::internal("grpc: no message in a call with one request")
}

/// The messages of a call with many requests, one after the other. Also used for the messages of a reply.
#[derive(Debug)]
pub struct Requests<R> {
    body: R,
    /// Data that has arrived and is not used yet.
    data: Bytes,
    /// None for a reply of this member.
    reading: Option<Reading>,
}

impl<R: RequestBody> Requests<R> {
    pub fn new(body: R, reading: Reading) -> Self {
        Self {
            body,
            data: Bytes::new(),
            reading: Some(reading),
        }
    }

    /// The messages of a reply that this member has made.
    pub fn of_reply(body: R) -> Self {
        Self {
            body,
            data: Bytes::new(),
            reading: None,
        }
    }

    /// The next message; none once the client has finished.
    pub async fn next<M: Message + Default + Send + 'static>(&mut self) -> Result<Option<M>, Status> {
        let Some((data, _room)) = self.next_message().await? else {
            return Ok(None);
        };
        match &self.reading {
            Some(reading) => {
                let decoded = reading.large.run(data.len(), move || decode(data)).await;
                decoded.map(Some)
            }
            None => decode(data).map(Some),
        }
    }

    /// The next message in its encoded form.
    pub async fn next_bytes(&mut self) -> Result<Option<Bytes>, Status> {
        Ok(self.next_message().await?.map(|(data, _)| data))
    }

    /// Once a message has begun to arrive, its rest has to arrive within a deadline.
    async fn next_message(&mut self) -> Result<Option<(Bytes, Option<Room>)>, Status> {
        if self.data.is_empty() {
            match next_data(&mut self.body).await? {
                Some(data) => self.data = data,
                None => return Ok(None),
            }
        }
        let is_whole = announced(&self.data).is_some_and(|bytes| self.data.len() >= PREFIX_BYTES + bytes);
        let Some(reading) = self.reading.clone().filter(|_| !is_whole) else {
            let bytes_max = self
                .reading
                .as_ref()
                .map_or(usize::MAX, |reading| reading.bytes_max);
            self.gather(PREFIX_BYTES).await?;
            let (bytes, is_compressed) = message_bytes(&mut self.data, bytes_max)?;
            self.gather(bytes).await?;
            let data = self.data.split_to(bytes);
            return Ok(Some(match &self.reading {
                Some(reading) => (reading.expanded(data, is_compressed).await?, None),
                None => (data, None),
            }));
        };
        // Boxed: nearly all messages arrive in one piece.
        Box::pin(async move {
            arrival(0, self.gather(PREFIX_BYTES)).await?;
            let (bytes, is_compressed) = message_bytes(&mut self.data, reading.bytes_max)?;
            let room = reading.unread.take(bytes).await?;
            arrival(bytes, self.gather(bytes)).await?;
            let data = self.data.split_to(bytes);
            Ok(Some((reading.expanded(data, is_compressed).await?, Some(room))))
        })
        .await
    }

    async fn gather(&mut self, bytes: usize) -> Result<(), Status> {
        if self.data.len() < bytes {
            self.data = gather(std::mem::take(&mut self.data), bytes, &mut self.body).await?;
        }
        Ok(())
    }
}

/// The length of the message that begins here, if its prefix is complete.
fn announced(data: &[u8]) -> Option<usize> {
    let prefix = data.first_chunk::<PREFIX_BYTES>()?;
    let [_, length @ ..] = prefix;
    Some(u32::from_be_bytes(*length) as usize)
}

/// Reads the prefix of a message: its length, and whether it is compressed.
fn message_bytes(data: &mut Bytes, bytes_max: usize) -> Result<(usize, bool), Status> {
    let is_compressed = data.get_u8() != 0;
    let bytes = data.get_u32() as usize;
    if bytes > bytes_max {
        let text = format!("grpc: received message larger than max ({bytes} vs. {bytes_max})");
        return Err(Status::resource_exhausted(text));
    }
    Ok((bytes, is_compressed))
}

fn decode<M: Message + Default>(data: Bytes) -> Result<M, Status> {
    M::decode(data).map_err(|error| undecodable(&error))
}

/// grpc-go's error for a message that does not decode.
pub(super) fn undecodable(error: &dyn std::fmt::Display) -> Status {
    Status::internal(format!("grpc: error unmarshalling request: {error}"))
}

/// The next data that is not empty, or none at the end. A reply can end with an error.
pub(super) async fn next_data(body: &mut impl RequestBody) -> Result<Option<Bytes>, Status> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::cancelled(error.to_string()))?;
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => return Ok(Some(data)),
            Err(frame) => {
                let status = frame.trailers_ref().and_then(Status::from_header_map);
                if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
                    return Err(status);
                }
            }
        }
    }
    Ok(None)
}

/// Joins data until there are `bytes` of it.
async fn gather(first: Bytes, bytes: usize, body: &mut impl RequestBody) -> Result<Bytes, Status> {
    // The announced bytes have not arrived yet: grow with what arrives.
    let mut joined = BytesMut::with_capacity(bytes.min(first.len() + 64 * 1024));
    joined.extend_from_slice(&first);
    while joined.len() < bytes {
        let data = next_data(body)
            .await?
            .ok_or_else(|| Status::internal("unexpected EOF"))?;
        joined.extend_from_slice(&data);
    }
    Ok(joined.freeze())
}

/// The result of a call, counted.
pub fn counted(mut call: CountedCall, result: Result<Body, Status>) -> Result<Body, Status> {
    match result {
        Ok(body) => Ok(body.counted(call)),
        Err(status) => {
            call.end(status.code());
            Err(status)
        }
    }
}

/// The HTTP response that carries a reply or a status.
pub fn response(result: Result<Body, Status>) -> Response<Body> {
    match result {
        Ok(body) => {
            let mut response = Response::new(body);
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
        Err(status) => status.into_http(),
    }
}

/// Whether a request is gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Waits for a reply until the caller's deadline (`grpc-timeout`), and returns the time at which the wait began. A call that need not
/// wait starts no timer and reads no clock. The reply is pinned by the caller of this function: passed by value, every request's
/// future would hold it twice.
pub async fn within_deadline(
    headers: &HeaderMap,
    mut reply: Pin<&mut impl Future<Output = Result<Body, Status>>>,
) -> (Result<Body, Status>, Option<env::Instant>) {
    let limit = headers.get("grpc-timeout").map(|limit| timeout(limit.as_bytes()));
    if limit == Some(None) {
        return (Err(Status::internal("malformed grpc-timeout")), None);
    }
    if let Poll::Ready(result) = poll_once(reply.as_mut()).await {
        return (result, None);
    }
    let begun = Some(env::now());
    let Some(limit) = limit.flatten() else {
        return (reply.await, begun);
    };
    let timer = pin!(env::sleep(limit));
    match futures_util::future::select(reply, timer).await {
        Either::Left((result, _)) => (result, begun),
        Either::Right(_) => (Err(EtcdError::DeadlineExceeded.into()), begun),
    }
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// Parses a gRPC timeout: up to eight digits and a unit.
pub fn timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Whether the client prefers an error to waiting when there is no leader (etcd's `hasleader: true`).
pub fn requires_leader(headers: &HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value| value == "true")
}

/// The error for an unknown service or method, in grpc-go's words.
pub fn unknown(path: &str, services: &[&str]) -> Status {
    let text = match path.strip_prefix('/').and_then(|path| path.rsplit_once('/')) {
        None => format!("malformed method name: {path:?}"),
        Some((service, method)) if services.contains(&service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    };
    Status::new(Code::Unimplemented, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let cases: [(&[u8], Option<Duration>); 8] = [
            (b"5S", Some(Duration::from_secs(5))),
            (b"100m", Some(Duration::from_millis(100))),
            (b"99999999n", Some(Duration::from_nanos(99_999_999))),
            (b"1H", Some(Duration::from_hours(1))),
            (b"999999999S", None),
            (b"5", None),
            (b"", None),
            (b"+5S", None),
        ];
        for (text, duration) in cases {
            assert_eq!(timeout(text), duration);
        }
    }
}
