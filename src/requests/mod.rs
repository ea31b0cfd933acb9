//! A request from its caller to its reply: it is counted, sent to consensus, waited for and answered.
//!
//! `consensus` and `apply` process it in between. They take requests through [`RequestSink`] and answer them through
//! [`Deliveries`].

mod caller;
mod deliveries;
mod errors;
mod handle;
mod loggable;
mod reader;
mod sink;
mod status;
mod waiters;

pub use caller::Caller;
pub use deliveries::Deliveries;
pub use errors::{ProposeError, ReadError};
pub use handle::{Handle, check_size};
pub use loggable::{loggable, messages_of};
pub use reader::Reader;
pub use sink::{NewRequest, RequestSink, Successor};
pub use status::{MemberProgress, RaftDetails, RaftStatus, SharedStatus};
pub use waiters::Waiters;
