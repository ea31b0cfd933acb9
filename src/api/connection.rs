//! What the requests of one connection have in common.

use super::unread::ConnectionBudget;
use crate::requests::Caller;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection {
    /// What may be there of requests that have not arrived in full.
    pub unread: ConnectionBudget,
    pub caller: Caller,
}
