//! TLS on the connections between members and clients: the settings of the flags, certificates generated or read, and streams
//! with or without TLS. Mirrors etcd's client/pkg/transport (listener.go, listener_tls.go) and tlsutil.
//!
//! Files are read again at every handshake and compared by content, so new certificates need no restart. Unusable files are
//! logged, and the previous certificates stay in use. A handshake runs on its connection's own task and has a time limit, so a
//! silent client does not delay others. Plain connections pass through an enum, unboxed.
//!
//! ring signs and verifies with RSA from 2048 bits, Ed25519 and the curves P-256 and P-384; other keys are refused with a
//! message. `trust` describes which certificates a trusted file accepts. Nothing here knows HTTP or decides about permissions.

mod acceptor;
mod automatic;
mod certificate;
mod checks;
mod client_address;
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
