//! Request bodies: converts JSON that has arrived into gRPC's frames.

use super::objects::Objects;
use super::text;
use crate::api::grpc::{Reading, RequestBody, next_data};
use crate::api::unread::{ConnectionBudget, Room, arrival};
use crate::limits::JSON_BYTES_PER_MESSAGE_BYTE;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use prost_reflect::MessageDescriptor;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;

/// Room for a body of unknown length is taken in steps of at least this size.
const ROOM_STEP_BYTES: usize = 64 * 1024;

/// Reads a body to its end. Its room is taken until the second part is dropped.
pub async fn read_text(
    mut body: impl RequestBody,
    reading: &Reading,
) -> Result<(Bytes, Option<Room>), Status> {
    let bytes_max = reading.bytes_max * JSON_BYTES_PER_MESSAGE_BYTE;
    let known = body
        .size_hint()
        .exact()
        .and_then(|bytes| usize::try_from(bytes).ok());
    let arriving = async {
        let mut text = BytesMut::new();
        let mut room: Option<Room> = None;
        while let Some(data) = next_data(&mut body).await? {
            let bytes = text.len() + data.len();
            if bytes > bytes_max {
                // Clients know the limit of the message, not of its JSON.
                let message_bytes_max = reading.bytes_max;
                return Err(Status::resource_exhausted(format!(
                    "grpc: received message larger than max ({bytes} vs. {message_bytes_max})"
                )));
            }
            if text.is_empty() && body.is_end_stream() {
                return Ok((data, None));
            }
            make_room(
                &mut room,
                &reading.unread,
                bytes,
                known.filter(|known| *known <= bytes_max),
            )
            .await?;
            text.extend_from_slice(&data);
        }
        Ok((text.freeze(), room))
    };
    arrival(known.unwrap_or_default().min(bytes_max), arriving).await
}

/// Takes room for `bytes`: for the whole body if its length is known, else at least twice as much as before.
async fn make_room(
    room: &mut Option<Room>,
    budget: &ConnectionBudget,
    bytes: usize,
    known: Option<usize>,
) -> Result<(), Status> {
    let taken = room.as_ref().map_or(0, Room::bytes);
    if bytes <= taken {
        return Ok(());
    }
    let wanted = known.unwrap_or(0).max(2 * taken).max(bytes).max(ROOM_STEP_BYTES);
    if let Some(room) = room {
        return room.grow(budget, wanted - taken).await;
    }
    *room = Some(budget.take(wanted).await?);
    Ok(())
}

/// A request body as gRPC frames. One type for all calls, since their handlers are compiled for each type of body.
pub enum Frames {
    One(Option<Bytes>),
    Many(Pin<Box<dyn stream::Stream<Item = Bytes> + Send>>),
}

impl Frames {
    /// One message, with its prefix.
    pub fn one(frame: Bytes) -> Self {
        Self::One(Some(frame))
    }

    /// One message per JSON object. Anything else ends the requests, as the end of the body does; replies to earlier requests
    /// continue (as in grpc-gateway).
    pub fn many(
        body: impl RequestBody + 'static,
        request: &MessageDescriptor,
        reading: &Reading,
        values_max: usize,
    ) -> Self {
        let arriving = Arriving {
            body,
            objects: Objects::default(),
            room: None,
            reading: reading.clone(),
        };
        let request = request.clone();
        Self::Many(Box::pin(stream::unfold(arriving, move |mut arriving| {
            let request = request.clone();
            async move {
                let object = arriving.next().await?;
                let read = move || text::read(&request, &object.0, values_max);
                let frame = arriving.reading.large.run(object.1, read).await;
                let frame = frame.inspect_err(|status| {
                    tracing::debug!(error = status.message(), "failed to decode request");
                });
                Some((frame.ok()?, arriving))
            }
        })))
    }
}

/// JSON objects that arrive one after the other.
struct Arriving<R> {
    body: R,
    objects: Objects,
    /// Room for an incomplete object.
    room: Option<Room>,
    reading: Reading,
}

impl<R: RequestBody> Arriving<R> {
    /// The next object and its length; none at the end or if the text is not an object.
    async fn next(&mut self) -> Option<(Bytes, usize)> {
        loop {
            if let Some(object) = self.objects.take().ok()? {
                self.room = None;
                let bytes = object.len();
                return Some((object, bytes));
            }
            let waiting = self.objects.waiting_bytes();
            if waiting > self.reading.bytes_max * JSON_BYTES_PER_MESSAGE_BYTE {
                return None;
            }
            let next = next_data(&mut self.body);
            let data = if waiting == 0 {
                next.await
            } else {
                arrival(0, next).await
            };
            let data = data.ok()??;
            if waiting > 0 {
                let bytes = waiting + data.len();
                make_room(&mut self.room, &self.reading.unread, bytes, None)
                    .await
                    .ok()?;
            }
            self.objects.push(&data);
        }
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
