//! Every setting of HTTP/1 and HTTP/2 that decides what a client may do, each with its reason. The libraries' own defaults fit
//! browsers; etcd's clients were made for Go's servers, which bound less.

use super::server::ServeOptions;
use crate::env::{Executor, Timer};
use hyper_util::server::conn::auto::Builder;

/// A stream's window. Below it a put waits for no window update; and as many keep-alives as fit, in frames of their own, stay
/// within what the library takes of small frames that nobody has read yet (half of the connection's window, 256 bytes a frame).
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// A connection's window: bounds what one client can make the server hold.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Names and values of a request's headers together: as Go's (`http.DefaultMaxHeaderBytes`). The library's own 16 KiB are less
/// than some clients' tokens. What is longer than [`crate::limits::HEADERS_FREE_BYTES`] counts among unfinished bodies.
const HEADER_BYTES_MAX: usize = 1024 * 1024;
/// Headers of an HTTP/1 request: Go knows no bound on their number, the library's is 100. Room for all of them is made for
/// each request.
const HEADERS_MAX: usize = 1024;

/// Streams that were opened and reset before anybody has looked at them; beyond it the connection ends, for all who use
/// it. A client with many requests under way cancels them all at once. The server looks at them at the end of each turn, in which no
/// more than [`crate::limits::CONNECTION_TURN_BYTES`] are read, and opening and resetting takes 32 bytes: so this is never reached.
const PENDING_RESETS_MAX: usize = 8 * 1024;
/// Streams that the server has reset, over the life of a connection; beyond it the connection ends, for all who use
/// it. Each frame that comes late for a stream that is over counts, so clients that live long and cancel much get there; the
/// library's 1,024 are reached in hours. It bounds the resets that a client leaves unread, some 100 bytes each.
const ERROR_RESETS_MAX: usize = 100_000;

/// How all connections of a port are served.
pub fn builder(options: &ServeOptions) -> Builder<Executor> {
    let mut builder = Builder::new(Executor);
    builder
        .http1()
        .timer(Timer)
        // It runs while a connection is idle, too: Go keeps idle connections for as long as the client wants.
        .header_read_timeout(None)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(Timer)
        .max_concurrent_streams(options.max_concurrent_streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .keep_alive_interval(Some(options.keep_alive_interval).filter(|interval| !interval.is_zero()))
        .keep_alive_timeout(options.keep_alive_timeout)
        // gRPC servers do not send the date, and it costs every response some bytes.
        .auto_date_header(false);
    builder
}
