//! The bodies of calls: JSON that has arrived, turned into gRPC's frames.

use super::objects::Objects;
use super::text;
use crate::api::grpc::{RequestBody, next_data};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use prost_reflect::MessageDescriptor;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;

/// Reads a body to its end. `message_bytes_max` is what the error names: the limit of the message, not of its JSON.
pub async fn read_text(
    mut body: impl RequestBody,
    bytes_max: usize,
    message_bytes_max: usize,
) -> Result<Bytes, Status> {
    let mut text = BytesMut::new();
    while let Some(data) = next_data(&mut body).await? {
        if text.len() + data.len() > bytes_max {
            let bytes = text.len() + data.len();
            return Err(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({bytes} vs. {message_bytes_max})"
            )));
        }
        text.extend_from_slice(&data);
    }
    Ok(text.freeze())
}

/// A request body as gRPC has it. One type for all: what handles calls is compiled for each type of body.
pub enum Frames {
    One(Option<Bytes>),
    Many(Pin<Box<dyn stream::Stream<Item = Bytes> + Send>>),
}

impl Frames {
    /// One message, with its prefix.
    pub fn one(frame: Bytes) -> Self {
        Self::One(Some(frame))
    }

    /// A message for each JSON object. What is no such object ends the requests, as the end of the body does: replies
    /// to those before go on (grpc-gateway has the same).
    pub fn many(body: impl RequestBody + 'static, request: &MessageDescriptor, bytes_max: usize) -> Self {
        let request = request.clone();
        let state = (body, Objects::default());
        Self::Many(Box::pin(stream::unfold(state, move |(mut body, mut objects)| {
            let request = request.clone();
            async move {
                loop {
                    if let Some(object) = objects.take().ok()? {
                        let frame = text::read(&request, &object);
                        let frame = frame.inspect_err(|status| {
                            tracing::debug!(error = status.message(), "failed to decode request");
                        });
                        return Some((frame.ok()?, (body, objects)));
                    }
                    if objects.waiting_bytes() > bytes_max {
                        return None;
                    }
                    objects.push(&next_data(&mut body).await.ok()??);
                }
            }
        })))
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.get_mut() {
            Self::One(frame) => Poll::Ready(frame.take()),
            Self::Many(frames) => frames.as_mut().poll_next(context),
        };
        frame.map(|frame| frame.map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::One(None))
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").finish_non_exhaustive()
    }
}
