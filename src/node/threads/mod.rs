//! The threads of a member: a file for each, which builds the actors on it.
//!
//! | thread | what runs on it |
//! |---|---|
//! | main | starting, publishing, stopping |
//! | raft | the consensus actor, the links and the peer port: nothing that waits for a disk, nothing that takes long |
//! | log | the log's disk |
//! | apply | the state machine |
//! | checkpoint | slow work on the state's disk |
//! | check | comparing this member's data with the others', reading it back from disk; yields to all others |
//! | watch | reads for watchers that are behind |
//! | transfer | what members that are behind need: entries read from the log's disk, snapshots sent and received |
//! | metrics | the ports of --listen-metrics-urls, if there are any |
//! | network | the client port: requests, reads included; the watch hub, the lessor, the compactor, the space guard |

pub(super) mod apply;
pub(super) mod check;
pub(super) mod checkpoint;
pub(super) mod log;
pub(super) mod metrics;
pub(super) mod network;
pub(super) mod raft;
pub(super) mod watch;
