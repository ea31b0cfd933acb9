//! The thread that reads for watchers that are behind.

use crate::env::{self, ThreadHandle};
use crate::inbox::Inbox;
use crate::node::backend::MemberBackend;
use crate::stop::StopSignal;
use crate::watch::Read;
use crate::watch::reader::WatchReader;
use std::sync::Arc;

pub(in crate::node) fn start(
    inbox: Arc<Inbox<Option<Read>>>,
    backend: &MemberBackend,
    stop: StopSignal,
) -> ThreadHandle {
    let reader = WatchReader {
        views: backend.views.clone(),
        inbox,
        hub: backend.watches.clone(),
        stop,
    };
    env::run_actor("watch", reader)
}
