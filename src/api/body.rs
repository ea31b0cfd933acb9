//! Response bodies: gRPC messages, already framed, that are sent piece by piece without being copied together.
//!
//! A list of 100,000 keys is some 30 MB. It is encoded once, in chunks. Each chunk becomes HTTP/2 data as flow control permits,
//! and is freed once it is sent.

use super::counted::CountedMessages;
use crate::limits::REPLY_BYTES_MAX;
use crate::metrics::CountedCall;
use ::http::{HeaderMap, HeaderValue};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::Stream;
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use prost::Message;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::{Code, Status};

/// The prefix of every gRPC message: a flag for compression and four bytes of length.
pub(super) const PREFIX_BYTES: usize = 5;

/// Replies up to this size are sent in one piece: a copy is cheaper than a frame of its own.
const ONE_PIECE_BYTES: usize = 16 * 1024;

/// Framed messages, ready to be sent.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// The body of a response.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    /// Empty, or finished.
    #[default]
    Empty,
    /// The only message of a call, in one piece.
    Piece(Bytes),
    /// The only message of a call, in several.
    Pieces(std::vec::IntoIter<Bytes>),
    /// A stream of messages.
    Messages(Messages),
    /// All messages of a call are sent; the status is next.
    Trailers(HeaderMap),
    /// No message, only the status of a call.
    Refused(Status),
    /// Not gRPC.
    Plain(Full<Bytes>),
    /// From an axum router.
    Routed(axum::body::Body),
}

impl Body {
    /// A body of one message.
    pub fn message(message: &impl Message) -> Self {
        match frame(message) {
            Ok(framed) => Self(Kind::Piece(framed)),
            Err(status) => Self(Kind::Refused(status)),
        }
    }

    /// A body of one message that is already encoded.
    pub(super) fn pieces(pieces: Vec<Bytes>, bytes: usize) -> Self {
        let capacity = PREFIX_BYTES + if bytes <= ONE_PIECE_BYTES { bytes } else { 0 };
        let mut first = BytesMut::with_capacity(capacity);
        if let Err(status) = put_prefix(&mut first, bytes) {
            return Self(Kind::Refused(status));
        }
        if bytes <= ONE_PIECE_BYTES {
            for piece in pieces {
                first.put(piece);
            }
            return Self(Kind::Piece(first.freeze()));
        }
        let mut all = Vec::with_capacity(1 + pieces.len());
        all.push(first.freeze());
        all.extend(pieces.into_iter().filter(Buf::has_remaining));
        Self(Kind::Pieces(all.into_iter()))
    }

    /// Counts the messages sent for `call`: immediately if the reply is complete, else as they are sent. `call` ends with the
    /// body.
    pub(super) fn counted(self, mut call: CountedCall) -> Self {
        let bytes = match &self.0 {
            Kind::Piece(piece) => piece.len(),
            Kind::Pieces(pieces) => pieces.as_slice().iter().map(Bytes::len).sum(),
            _ => 0,
        };
        match self.0 {
            Kind::Messages(messages) => Self::messages(Box::pin(CountedMessages::new(messages, call))),
            Kind::Refused(status) => {
                call.end(status.code());
                Self(Kind::Refused(status))
            }
            kind => {
                call.sent(1, bytes.saturating_sub(PREFIX_BYTES));
                call.end(Code::Ok);
                Self(kind)
            }
        }
    }

    /// Whether it is more than one message.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self.0, Kind::Messages(_))
    }

    /// The one message of a call, with its prefix.
    pub(super) fn pieces_of_reply(&self) -> Vec<&[u8]> {
        match &self.0 {
            Kind::Piece(piece) => vec![piece],
            Kind::Pieces(pieces) => pieces.as_slice().iter().map(|piece| &piece[..]).collect(),
            _ => Vec::new(),
        }
    }

    /// A body of framed messages from a stream.
    pub(super) fn messages(messages: Messages) -> Self {
        Self(Kind::Messages(messages))
    }

    /// A body that is not gRPC.
    pub fn plain(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Plain(Full::new(bytes.into())))
    }

    pub(super) fn routed(body: axum::body::Body) -> Self {
        Self(Kind::Routed(body))
    }
}

/// A message with its prefix, unless it is too large.
pub(super) fn frame(message: &impl Message) -> Result<Bytes, Status> {
    let bytes = message.encoded_len();
    if bytes > REPLY_BYTES_MAX {
        return Err(too_large(bytes));
    }
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + bytes);
    put_prefix(&mut framed, bytes)?;
    message
        .encode(&mut framed)
        .expect("the buffer has been made for it");
    Ok(framed.freeze())
}

/// Writes the prefix of a message of this many bytes, unless that is too large.
pub(super) fn put_prefix(buffer: &mut BytesMut, message_bytes: usize) -> Result<(), Status> {
    let length = u32::try_from(message_bytes)
        .ok()
        .filter(|_| message_bytes <= REPLY_BYTES_MAX);
    let length = length.ok_or_else(|| too_large(message_bytes))?;
    buffer.put_u8(0);
    buffer.put_u32(length);
    Ok(())
}

/// grpc-go's error.
pub(super) fn too_large(bytes: usize) -> Status {
    Status::resource_exhausted(format!(
        "trying to send message larger than max ({bytes} vs. {REPLY_BYTES_MAX})"
    ))
}

fn success() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

fn trailers_of(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("2"));
    }
    trailers
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let (frame, next) = match &mut self.0 {
            Kind::Empty => return Poll::Ready(None),
            Kind::Piece(piece) => (Frame::data(std::mem::take(piece)), Kind::Trailers(success())),
            Kind::Pieces(pieces) => match pieces.next() {
                Some(piece) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                None => (Frame::trailers(success()), Kind::Empty),
            },
            Kind::Messages(messages) => match ready!(messages.as_mut().poll_next(context)) {
                Some(Ok(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Some(Err(status)) => (Frame::trailers(trailers_of(&status)), Kind::Empty),
                None => (Frame::trailers(success()), Kind::Empty),
            },
            Kind::Trailers(trailers) => (Frame::trailers(std::mem::take(trailers)), Kind::Empty),
            Kind::Refused(status) => (Frame::trailers(trailers_of(status)), Kind::Empty),
            Kind::Plain(body) => {
                return Pin::new(body)
                    .poll_frame(context)
                    .map_err(|never: Infallible| match never {});
            }
            Kind::Routed(body) => return Pin::new(body).poll_frame(context),
        };
        self.0 = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Plain(body) => body.is_end_stream(),
            Kind::Routed(body) => body.is_end_stream(),
            _ => false,
        }
    }

    /// No length for gRPC: hyper would send it as a header, which gRPC does not have.
    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Plain(body) => body.size_hint(),
            Kind::Routed(body) => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
