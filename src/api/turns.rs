//! Limits how much of one connection is processed before the others get a turn. A client that sends 100,000 requests at once has
//! them begun in turns, with requests of other connections in between. The rest of its data waits in its socket.

use super::pass_writes::pass_writes;
use crate::limits::{CONNECTION_TURN_BYTES, CONNECTION_TURN_REQUESTS};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};

/// The number of requests that a connection has begun in its turn.
#[derive(Clone, Debug, Default)]
pub struct Begun(Arc<AtomicUsize>);

impl Begun {
    pub fn add(&self) {
        // Only the connection's own task adds.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A stream that pretends to be empty once its connection has used its turn, and schedules the connection behind all others.
#[derive(Debug)]
pub struct InTurns<S> {
    stream: S,
    bytes: usize,
    requests: Begun,
}

impl<S> InTurns<S> {
    pub fn new(stream: S, requests: Begun) -> Self {
        Self {
            stream,
            bytes: 0,
            requests,
        }
    }

    fn begin_turn(&mut self) {
        self.bytes = 0;
        self.requests.0.store(0, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for InTurns<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.bytes >= CONNECTION_TURN_BYTES
            || this.requests.0.load(Ordering::Relaxed) >= CONNECTION_TURN_REQUESTS
        {
            this.begin_turn();
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = out.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, out);
        match &read {
            // Everything that the client had sent is processed.
            Poll::Pending => this.begin_turn(),
            Poll::Ready(_) => this.bytes += out.filled().len() - before,
        }
        read
    }
}

pass_writes!(InTurns);

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// The number of reads in one turn.
    fn reads(stream: &mut InTurns<&[u8]>, begun: &Begun, requests_a_read: usize) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        let mut reads = 0;
        loop {
            let mut space = [0; 1024];
            let mut space = ReadBuf::new(&mut space);
            if Pin::new(&mut *stream)
                .poll_read(&mut context, &mut space)
                .is_pending()
            {
                return reads;
            }
            assert_eq!(space.filled().len(), 1024);
            (0..requests_a_read).for_each(|_| begun.add());
            reads += 1;
        }
    }

    #[test]
    fn a_turn_ends_by_bytes_and_by_requests() {
        let input = vec![0; 3 * CONNECTION_TURN_BYTES];
        let begun = Begun::default();
        let mut stream = InTurns::new(&input[..], begun.clone());
        assert_eq!(reads(&mut stream, &begun, 0), CONNECTION_TURN_BYTES / 1024);
        assert_eq!(reads(&mut stream, &begun, CONNECTION_TURN_REQUESTS / 2), 2);
        assert_eq!(reads(&mut stream, &begun, 0), CONNECTION_TURN_BYTES / 1024);
    }
}
