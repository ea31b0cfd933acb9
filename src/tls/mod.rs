//! TLS on the connections between members and clients: what the flags ask for, certificates made or read, and streams
//! that are plain or not. Mirrors etcd's client/pkg/transport (listener.go, listener_tls.go) and tlsutil.
//!
//! Files are read again at every handshake and count by their content, so that new certificates need no restart; what
//! cannot be used is logged and the certificates before it stay. A handshake runs on its connection's own task and has a
//! limit, so that nobody who connects and says nothing holds others up. Plain connections pass through an enum, unboxed.
//!
//! ring signs and checks with RSA from 2048 bits, Ed25519 and the curves P-256 and P-384; other keys are refused with a
//! message. What a trusted file lets in is written in `trust`. Nothing here knows HTTP, and nothing here decides who may do what.

mod acceptor;
mod automatic;
mod certificate;
mod checks;
mod connector;
mod error;
mod explain;
mod material;
mod pace;
mod reload;
mod settings;
mod signatures;
mod stream;
mod trust;

pub use acceptor::{Acceptor, Listener, Ways};
pub use automatic::self_signed;
pub use connector::{ClientFiles, Connector};
pub use error::{HandshakeError, TlsError};
pub use settings::{Settings, Version, suite_is_known};
pub use stream::MaybeTlsStream;
