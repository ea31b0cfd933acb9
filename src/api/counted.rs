//! Counts the messages of gRPC calls in both directions for the metrics. The bytes pass unchanged. The sizes counted are those of
//! the messages, without their prefixes.

use super::body::{Messages, PREFIX_BYTES};
use super::grpc::RequestBody;
use crate::metrics::{CountedCall, Receipts};
use bytes::Bytes;
use futures_util::Stream;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::{Code, Status};

/// Finds messages in bytes that arrive in pieces of any size.
#[derive(Debug, Default)]
struct Framing {
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    /// Remaining bytes of the current message.
    left: usize,
}

impl Framing {
    /// Takes the next piece and reports the size of each message that begins in it.
    fn take(&mut self, mut piece: &[u8], mut begun: impl FnMut(usize)) {
        loop {
            let inside = self.left.min(piece.len());
            self.left -= inside;
            piece = &piece[inside..];
            if piece.is_empty() {
                return;
            }
            let wanted = (PREFIX_BYTES - self.prefix_bytes).min(piece.len());
            self.prefix[self.prefix_bytes..][..wanted].copy_from_slice(&piece[..wanted]);
            self.prefix_bytes += wanted;
            piece = &piece[wanted..];
            if self.prefix_bytes < PREFIX_BYTES {
                return;
            }
            self.prefix_bytes = 0;
            let [_, length @ ..] = self.prefix;
            self.left = u32::from_be_bytes(length) as usize;
            begun(self.left);
        }
    }
}

/// The body of a request whose messages are counted.
#[derive(Debug)]
pub struct Counted<R> {
    body: R,
    framing: Framing,
    receipts: Receipts,
}

impl<R: RequestBody> Counted<R> {
    pub fn new(body: R, call: &CountedCall) -> Self {
        Self {
            body,
            framing: Framing::default(),
            receipts: call.receipts(),
        }
    }
}

impl<R: RequestBody> http_body::Body for Counted<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.framing.take(data, |bytes| this.receipts.received(bytes));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The messages of a reply and the status of the call, counted.
pub(super) struct CountedMessages {
    messages: Messages,
    framing: Framing,
    call: CountedCall,
}

impl CountedMessages {
    pub fn new(messages: Messages, call: CountedCall) -> Self {
        Self {
            messages,
            framing: Framing::default(),
            call,
        }
    }
}

impl Stream for CountedMessages {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let next = ready!(this.messages.as_mut().poll_next(context));
        match &next {
            Some(Ok(piece)) => this.framing.take(piece, |bytes| this.call.sent(1, bytes)),
            Some(Err(status)) => this.call.end(status.code()),
            None => this.call.end(Code::Ok),
        }
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let mut wire = vec![];
        for bytes in [3, 0, 300] {
            wire.push(0);
            wire.extend_from_slice(&u32::to_be_bytes(bytes));
            wire.resize(wire.len() + bytes as usize, 7);
        }
        for piece_bytes in [1, 2, 4, 5, 6, 7, 8, 12, 13, 14, 100, wire.len()] {
            let (mut framing, mut found) = (Framing::default(), vec![]);
            for piece in wire.chunks(piece_bytes) {
                framing.take(piece, |bytes| found.push(bytes));
            }
            assert_eq!(found, [3, 0, 300], "in pieces of {piece_bytes}");
        }
    }
}
