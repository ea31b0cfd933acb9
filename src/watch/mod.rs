//! Watches: which watcher wants which changes, and how each watcher gets them in order, exactly once, without a gap.
//!
//! The applier hands over what each batch has changed ([`handle`]). The hub ([`hub`], pure; its actor is [`actor`]) finds the
//! watchers of each change, encodes it once and puts it into the outboxes of their streams ([`outbox`]). For watchers that are
//! behind, changes are read from the disk on a separate thread ([`reader`]). The gRPC side is `api::watch`. Mirrors etcd's
//! server/storage/mvcc/watch*.go and server/etcdserver/api/v3rpc/watch.go.

pub mod actor;
mod catch_up;
pub mod event;
pub mod follow;
pub mod handle;
pub mod hub;
mod interests;
mod keys;
#[cfg(test)]
mod model_steps;
#[cfg(test)]
mod model_tests;
pub mod outbox;
mod publish;
mod range_index;
pub mod reader;
mod stream;
#[cfg(test)]
mod tests;

pub use catch_up::{Read, ReadOutcome};
pub use follow::{FollowError, Followed, Following, HubStream};
pub use handle::{Request, WatchHandle};
pub use hub::{Create, Hub, HubOptions, NO_WATCH_ID, OpenedStream, Permission, StreamId};
pub use interests::Wants;
pub use keys::WatchedKeys;
pub use outbox::{Ending, Message, Outbox, Taken};
pub use publish::Batch;
