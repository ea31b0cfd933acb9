//! What the requests of one connection share.

use super::unread::ConnectionBudget;
use crate::requests::Caller;
use std::net::SocketAddr;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Limits the bytes of requests that have not arrived in full.
    pub unread: ConnectionBudget,
    pub caller: Caller,
    /// The other end, if it is another one; the unspecified address if it has none.
    pub remote: Option<SocketAddr>,
    /// Whether TLS is spoken.
    pub is_secure: bool,
}
