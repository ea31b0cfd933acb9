//! Every setting of HTTP/1 and HTTP/2 that limits clients, each with its reason. The libraries' own defaults fit browsers; etcd's
//! clients were written for Go's servers, which have fewer limits.

use super::server::ServeOptions;
use crate::env::{Executor, Timer};
use hyper_util::server::conn::auto::Builder;

/// A stream's window. A smaller put does not wait for a window update. As many keep-alives as fit, each in its own frame, stay
/// within the library's limit for small unread frames (half of the connection's window, 256 bytes a frame).
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// A connection's window: bounds what one client can make the server hold.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Names and values of a request's headers together: as in Go (`http.DefaultMaxHeaderBytes`). The library's default of 16 KiB is
/// less than some clients' tokens. Headers beyond [`crate::limits::HEADERS_FREE_BYTES`] count as unfinished bodies.
const HEADER_BYTES_MAX: usize = 1024 * 1024;
/// Headers of an HTTP/1 request: Go has no limit on their number, the library's is 100. Each request allocates room for all of
/// them.
const HEADERS_MAX: usize = 1024;

/// Streams that were opened and reset before the server has looked at them. Beyond this the connection ends, for all its users. A
/// client with many requests under way cancels them all at once. The server processes resets at the end of each turn, in which at
/// most [`crate::limits::CONNECTION_TURN_BYTES`] are read, and to open and reset a stream takes 32 bytes: so this limit is never
/// reached.
const PENDING_RESETS_MAX: usize = 8 * 1024;
/// Streams that the server has reset, over the life of a connection. Beyond this the connection ends, for all its users. Each
/// late frame for a closed stream counts, so long-lived clients that cancel often reach it; the library's default of 1,024 is
/// reached in hours. It bounds the resets that a client leaves unread, some 100 bytes each.
const ERROR_RESETS_MAX: usize = 100_000;

/// The settings for all connections of a port.
pub fn builder(options: &ServeOptions) -> Builder<Executor> {
    let mut builder = Builder::new(Executor);
    builder
        .http1()
        .timer(Timer)
        // This timeout would also run on an idle connection: Go keeps those for as long as the client wants.
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
        // gRPC servers do not send the date, which costs every response some bytes.
        .auto_date_header(false);
    builder
}
