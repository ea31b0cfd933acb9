//! The Rust client: used by the benchmark, the simulator, the tests and the command line.
//!
//! [`Channel`] is one HTTP/2 connection under tonic's generated clients. [`ClientSession`] is the actor that keeps one of them
//! open and switches to the next endpoint when it fails. [`Client`] sends requests over it, each with a deadline, and never
//! retries a write that may have been applied. All of it runs on real and on simulated sockets.

mod backup;
mod connection;
mod election;
mod endpoint;
mod error;
mod lease;
mod requests;
mod rotation;
mod session;
mod watch;

#[cfg(test)]
pub(crate) mod tests;

pub use connection::{Channel, ChannelError, ChannelOptions, ConnectError, KeepAlive, ResponseBody};
pub use election::ObserveStream;
pub use endpoint::{Endpoint, EndpointError, connector, parse_endpoints};
pub use error::{Error, Reason};
pub use lease::KeepAliveStream;
pub use requests::{Client, Options, prefix_end};
pub use session::{ClientSession, Connect, Connection, Failed};
pub use watch::{WatchStream, Watched, Watcher};
