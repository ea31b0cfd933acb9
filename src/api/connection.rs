//! What the requests of one connection share.

use super::unread::ConnectionBudget;
use crate::requests::Caller;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Limits the bytes of requests that have not arrived in full.
    pub unread: ConnectionBudget,
    pub caller: Caller,
}
