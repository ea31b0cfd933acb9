//! The server's limits in one place, each with its reason. Tests run them tiny.

mod sizes;

pub use sizes::*;
use std::time::Duration;

/// The longest key of a put or delete: the storage engine stops at 64 KiB, and our own encodings add a few bytes. etcd accepts
/// longer keys.
pub const KEY_BYTES_MAX: usize = 60 * 1024;

/// What gRPC may add to a request beyond `--max-request-bytes` (etcd: server/embed/config.go, `grpcOverheadBytes`).
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// How much longer than its message the JSON text of a request may be. Base64 adds a third, and short keys are enclosed in
/// names and quotes several times their length.
pub const JSON_BYTES_PER_MESSAGE_BYTE: usize = 8;

/// Longer requests and replies are decoded, checked and converted from or to JSON on separate threads. That takes up to 10
/// nanoseconds a byte, and other requests of the same thread should not wait for more than a millisecond.
pub const INLINE_WORK_BYTES: usize = 64 * 1024;

/// Such conversions at a time on one port: each holds its message twice, and other work needs processors too.
pub const LARGE_WORK_MAX: usize = 2;

/// A put, range or delete with at most so many fields is decoded at once whatever its size, since its bytes are not copied. A
/// dozen fields are defined.
pub const FLAT_FIELDS_MAX: usize = 64;

/// Values in a request's JSON for each part that its transactions may have ([`TXN_PARTS_PER_OP`]). A request with more is
/// refused. Each value takes some 100 bytes while it is parsed.
pub const JSON_VALUES_PER_PART: usize = 16;

/// What is read from one connection before the other connections have their turn: some milliseconds of work.
pub const CONNECTION_TURN_BYTES: usize = 64 * 1024;

/// Requests of one connection that begin in one turn; those that arrive in one read may exceed it.
pub const CONNECTION_TURN_REQUESTS: usize = 64;

/// Request bodies of one connection that have begun to arrive and are not complete. Beyond it further bodies wait: the
/// client's flow-control window does not open. At least one request of the largest size fits.
pub const UNREAD_BODIES_CONNECTION_BYTES: usize = 32 * 1024 * 1024;

/// The same for all connections of a port.
pub const UNREAD_BODIES_BYTES: usize = 128 * 1024 * 1024;

/// How long a body waits for room. After that its request is refused.
pub const UNREAD_BODY_PATIENCE: Duration = Duration::from_secs(1);

/// How long a body may take once it has begun to arrive, and the rate in bytes a second that large bodies must reach instead.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
pub const BODY_RATE_MIN: usize = 64 * 1024;

/// Request headers that are not counted. Longer ones count as an incomplete body while the request lasts.
pub const HEADERS_FREE_BYTES: usize = 16 * 1024;

/// The longest reply: what gRPC's clients and Go's server accept (`math.MaxInt32`).
pub const REPLY_BYTES_MAX: usize = i32::MAX as usize;

/// The longest answer that is taken from a discovery service: some hundred members, each with several URLs, fit.
pub const DISCOVERY_ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The text of /metrics is reused for this long: it takes milliseconds to make.
pub const METRICS_TEXT_AGE_MAX: Duration = Duration::from_millis(100);

/// etcd's `--max-txn-ops`.
pub const TXN_OPS_MAX_DEFAULT: u32 = 128;

/// Levels of nested transactions, including the outermost. The decoder that reads commands from the log accepts 100 nested
/// messages: two around the transaction, two per level, two for the content of an answer. Many clients' decoders have the same
/// limit for answers. etcd's limit follows from `--max-txn-ops`, since each level counts.
pub const TXN_LEVELS_MAX: usize = 32;

/// Conditions and operations of one transaction in all levels and branches, for each operation that `--max-txn-ops` allows on
/// one path. Nested transactions may multiply, and a request of 2 MB could hold some 400,000.
pub const TXN_PARTS_PER_OP: usize = 16;

/// Commands of one member that wait for their outcome. etcd refuses at 5,000 entries between commit and apply; our entries
/// hold many commands each, and a thousand clients with a few requests each must fit.
pub const PROPOSALS_WAITING_MAX: usize = 20_000;

/// The encoded size of these commands; on a leader also of commands that followers have forwarded and that are not yet
/// proposed. Some twenty requests of the largest size, or 20,000 of 1.6 KiB.
pub const PROPOSALS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What etcd adds to a request in the log and counts against `--max-request-bytes`: the request's ID with its tag, and the tag
/// and length of the header around it. With half of all member IDs etcd needs one byte more.
pub const REQUEST_HEADER_BYTES: usize = 13;

/// etcd's default for `--quota-backend-bytes`.
pub const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;

/// What must stay free on the disk for the log between checkpoints and for merges of tables; on a small disk at most this
/// percentage.
pub const DISK_RESERVE_BYTES_DEFAULT: u64 = 256 << 20;
pub const DISK_RESERVE_PERCENT_DEFAULT: u64 = 25;

/// Interval between checks of a member's space. At full load some 30 MB are written in it.
pub const SPACE_LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The part of the free space that a member reserves in a file: enough for the engine to flush its memory to tables and to
/// merge some.
pub const DISK_HELD_BYTES_MAX: u64 = 32 << 20;

/// Below this size a disk counts as small: on it the engine keeps less besides the live bytes.
pub const SMALL_DISK_BYTES: u64 = 1 << 30;

/// Disk bytes for each byte of a request: twice in the log (journal and tables), four times in the state (a value is also in
/// the history), and twice for merges. Between checks of the space, all members together accept no more than fits above the
/// reserve.
pub const DISK_BYTES_PER_REQUEST_BYTE: u64 = 8;

/// What must be free for each byte of an arriving snapshot: its journal, its tables, and those that are merged. And the bytes
/// that must be free besides, for the log and the state in use.
pub const DISK_BYTES_PER_SNAPSHOT_BYTE: u64 = 4;
pub const SNAPSHOT_DISK_BYTES_MIN: u64 = 8 << 20;

/// Interval between checks whether a member that met a full disk has room again.
pub const FULL_DISK_INTERVAL: Duration = Duration::from_secs(1);

/// There must be room for this long before a member disarms its alarm, so that the alarm does not change with each write.
pub const SPACE_CALM: Duration = Duration::from_secs(3);

/// Linearizable reads of one member that wait for a leader, its answer, or the applier: some 10 MB, without the state of their
/// requests.
pub const READS_WAITING_MAX: usize = 50_000;

/// ReadIndex requests without an answer. With one every 500 ms, these cover the longest time that a request may take. Beyond
/// it they are joined into one.
pub const READ_ROUNDS_MAX: usize = 16;

/// Commands are joined into one log entry up to this size: large enough to share the cost of an entry among thousands, small
/// enough to be sent and applied in one go. A larger command gets an entry of its own.
pub const ENTRY_BYTES_MAX: usize = 512 * 1024;

/// The entries in one message to a follower.
pub const RAFT_MESSAGE_BYTES_MAX: u64 = 1024 * 1024;

/// The committed entries handed to the applier at once.
pub const COMMITTED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Applied entries kept in memory, for followers that are a little behind.
pub const LOG_TAIL_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The size of a snapshot message: small enough not to delay heartbeats.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;

/// In-flight entries of a leader, however small they are.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 8;

/// With so many bytes in flight, a leader collects commands until the next entry is full or those bytes are committed. Under
/// load entries grow, and a command costs fewer syncs, messages and wake-ups.
pub const IN_FLIGHT_BYTES_SMALL: usize = 8 * 1024;

/// Entries that the state has on disk and the log keeps, for followers that are behind (etcd: `--snapshot-catchup-entries`).
pub const CATCH_UP_ENTRIES: u64 = 5_000;

/// The same in bytes, since our entries hold many commands. Beyond it a snapshot is as cheap.
pub const CATCH_UP_BYTES: u64 = 16 * 1024 * 1024;

/// Log bytes after which the state is synced so that the log can be cut. Bounds what a restart has to replay.
pub const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;

/// How far below its limits a member may flush and sync its state, so that members do it at different times.
pub const STAGGER_PERCENT_MAX: u64 = 30;

/// The bound reduced by 0 to 100 percent.
pub fn lowered(bound: u64, percent: u64) -> u64 {
    bound - (u128::from(bound) * u128::from(percent) / 100) as u64
}

/// Committed entries that the applier has not applied. Beyond it a leader proposes nothing more and a follower accepts no more
/// entries: two seconds of full load, as much as a restart has to replay.
pub const APPLY_LAG_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Raft messages of peers that wait for the consensus thread. Beyond it they are dropped, and raft repeats them.
pub const PEER_MESSAGES_MAX: usize = 10_000;
/// The same in bytes.
pub const PEER_MESSAGES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Keys that a scan reads before other requests of its thread run: some 100 microseconds.
pub const SCAN_SLICE_KEYS: usize = 256;

/// Client connections, even if more files may be open: each costs a file descriptor and some 20 KiB.
pub const CONNECTIONS_MAX: usize = 65_536;

/// Peer connections: one link per remote member, and a few more for snapshots and calls.
pub const PEER_CONNECTIONS_MAX: usize = 1_024;

/// A connection that has sent nothing is closed after this (grpc-go: 120 s until its handshake is done).
pub const SILENT_CONNECTION_MAX: Duration = Duration::from_mins(2);

/// A connection without a running request counts as idle after this, so that a client that sends one request after another
/// keeps its connection.
pub const IDLE_CONNECTION_MIN: Duration = Duration::from_millis(100);

/// How long a connection that is asked to leave may stay, unless it has a running request by then.
pub const LEAVING_CONNECTION_MAX: Duration = Duration::from_secs(1);

/// Below this limit of open files the operator is told to raise it: there is room for fewer than 700 connections.
pub const OPEN_FILES_ADVISED: u64 = 1_024;

/// Files that are open in any case: journals, tables being written and merged, the log's directory, event queues, links to
/// other members.
const OPEN_FILES_RESERVED: u64 = 128;

/// Databases that may be open at once: the log, the state, and the state of an arriving snapshot.
const DATABASES_MAX: u64 = 3;

/// How a member divides the files that it may open. The engine must always get a descriptor for its next file, since the
/// member stops otherwise; connections get the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// Tables that each database keeps open.
    pub tables: usize,
    /// Connections of the peer port.
    pub peers: usize,
    /// Connections of the ports for clients and metrics.
    pub clients: usize,
}

impl OpenFiles {
    /// The shares of a limit.
    pub fn of(open_files_max: u64) -> Self {
        let tables = (open_files_max / 16).clamp(16, 900);
        let reserved = OPEN_FILES_RESERVED + DATABASES_MAX * tables;
        // If the limit is so low that nothing is left, there is room for a few clients; the operator is warned.
        let places = open_files_max.saturating_sub(reserved).max(32);
        let peers = (places / 5).min(PEER_CONNECTIONS_MAX as u64);
        let clients = (places - peers).min(CONNECTIONS_MAX as u64);
        Self {
            tables: tables as usize,
            peers: peers as usize,
            clients: clients as usize,
        }
    }
}

/// The storage engine's own limit on a key.
pub const STORED_KEY_BYTES_MAX: usize = 65_535;

/// A record of packed changes is closed at this size: a reader that wants one change has to decode all.
pub const PACKED_RECORD_BYTES: usize = 16 * 1024;

/// The applier's cache of newest records' headers, since every put needs the one before it: some 100,000 keys.
pub const HEADER_CACHE_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;

/// Compactions whose history waits for a later one. Further ones are not remembered, and the next compaction reclaims their
/// space.
pub const COMPACTIONS_REMEMBERED_MAX: usize = 16;

/// Changes in one engine batch of the applier. Bounds the memory of an apply.
pub const APPLY_BATCH_BYTES: usize = 1024 * 1024;

/// The size of the chunks in which a range's reply is built.
pub const REPLY_CHUNK_BYTES: usize = 256 * 1024;

/// Changed keys that a read of the past keeps in memory. For the rest it walks the changes once more.
pub const PAST_PASS_KEYS: usize = 100_000;

/// Keys that are counted together: what a count walks at either end of its range.
pub const COUNT_STRETCH_KEYS: u64 = 1_024;

/// Remembered stretches of counted keys: some 10 MiB.
pub const COUNT_STRETCHES_MAX: usize = 100_000;

/// Revisions over which remembered counts are brought forward. Beyond it counting again costs about as much.
pub const COUNT_CHANGES_MAX: i64 = 200_000;

/// Records that a walk for HashKV keeps in memory.
pub const HASH_PASS_KEYS: usize = 100_000;

/// The same for a backup, which walks the keys twice as often: some 60 MB.
pub const BACKUP_PASS_KEYS: usize = 500_000;

/// Running backups of one member: each reads everything, and keeps on disk what it has not read yet.
pub const BACKUPS_MAX: usize = 2;

/// The size of a backup message (etcd: 32 KiB).
pub const BACKUP_CHUNK_BYTES: usize = 64 * 1024;

/// How long a client may take for one message of a backup. After that the backup is ended.
pub const BACKUP_CHUNK_TIMEOUT: Duration = Duration::from_mins(2);

/// One envelope between members: a few entries, of which one may hold the largest request that `--max-request-bytes` can
/// allow.
pub const PEER_MESSAGE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Questions about leases of one member that wait for an answer: as for reads.
pub const LEASE_QUESTIONS_MAX: usize = 50_000;

/// Changes of leases that wait for the lessor: some 15 MB. Beyond it the lessor reads all leases again.
pub const LEASE_NEWS_MAX: usize = 250_000;

/// Membership changes that wait for the one before them, or for a leader. Operators make them one by one.
pub const MEMBER_CHANGES_WAITING_MAX: usize = 64;

/// Callers that wait for raft's details: operators and metrics scrapers, of which there are few.
pub const DETAILS_WAITING_MAX: usize = 1_000;

/// Questions about leases in one call to the leader.
pub const LEASE_FORWARD_MAX: usize = 4_096;

/// Unanswered questions of one keep-alive stream. Further ones stay in its connection.
pub const LEASE_STREAM_QUESTIONS_MAX: usize = 256;

/// Interval between checkpoints of the remaining TTL, for leases that live longer than this (etcd: `CheckpointInterval`).
pub const LEASE_CHECKPOINT_INTERVAL_MS: u64 = 5 * 60 * 1000;

/// Expired leases, or checkpoints, in one command: some 2 KiB, applied in a millisecond or two, so that writes get through in
/// between.
pub const LEASES_PER_COMMAND: usize = 100;

/// Such commands in flight. Further expiries wait, and the log stays free for other commands.
pub const LEASE_COMMANDS_IN_FLIGHT: usize = 2;

/// Responses queued for a watch stream. The watchers of a slower stream read from the disk later. The events in the queue are
/// shared with other streams.
pub const WATCH_OUTBOX_BYTES: usize = 1024 * 1024;

/// What a watch stream hands to its connection at once: one copy into one chunk, few frames.
pub const WATCH_CHUNK_BYTES: usize = 64 * 1024;

/// Revisions share a response up to this size. Some clients refuse messages of more than 4 MiB.
pub const WATCH_RESPONSE_BYTES: usize = 512 * 1024;

/// Watchers of one member: some 300 MB.
pub const WATCHERS_MAX: usize = 1_000_000;

/// Streams of one member that follow changes: watches, keep-alives and observers of elections. Some 4 KiB each.
pub const WATCH_STREAMS_MAX: usize = 100_000;

/// Requests of watch streams that wait for the hub: a few tens of milliseconds of its work, and some 2 MB besides the keys.
/// Further ones stay in their connections.
pub const WATCH_REQUESTS_MAX: usize = 10_000;

/// Applied changes that wait for the hub. Beyond it watchers read them from the disk.
pub const WATCH_INBOX_BYTES: usize = 16 * 1024 * 1024;

/// Published changes that the hub keeps while a watcher is behind.
pub const WATCH_RECENT_BYTES: usize = 4 * 1024 * 1024;

/// The target size of one read for watchers that are behind, and the most changes that it asks for (etcd:
/// `watchBatchMaxRevs`).
pub const WATCH_READ_BYTES: usize = 1024 * 1024;
pub const WATCH_READ_CHANGES: usize = 1_000;

/// State digests that a member remembers, one for each log entry: those of some seconds, in 128 KiB. The leader asks for one
/// that it computed a second ago.
pub const DIGESTS_MAX: usize = 16 * 1024;

/// HashKV requests that wait for the thread that computes them: each reads everything.
pub const HASHES_WAITING_MAX: usize = 16;

/// Tables of a keyspace that a requested rewrite takes at once: some tenths of a second. Meanwhile the engine's worker may
/// have to wait, and a few more tables of new changes fit into memory.
pub const MERGE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Keys of queues (locks and elections) that a member keeps in memory while callers wait in them: some 20 MB. Callers in a
/// queue that does not fit read it from the disk, each on its own.
pub const QUEUE_KEYS_MAX: usize = 200_000;

/// Callers of one member that wait in queues, plus the keys of departed callers that are still to be deleted: some 300 MB with
/// their requests.
pub const PLACES_MAX: usize = 100_000;

/// Such keys that are deleted at once: enough for thousands of deletes a second, few compared with clients' writes.
pub const LEAVES_IN_FLIGHT: usize = 64;

/// Keys of a queue that a caller reads before its member follows the queue: most queues are empty.
pub const QUEUE_LOOK_KEYS: usize = 32;

/// What deleted and overwritten records may take on disk, besides half of the live bytes: as much as two merges write. Below
/// it a compaction would rewrite tables for little gain.
pub const GARBAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a merge that drops such records may write: as much as two whole merged levels may hold.
pub const MERGED_LIVE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// How long merges that drop such records may run before the thread has time for checkpoints. The next merges follow a second
/// later, so that half of the disk's time is left for other work.
pub const DESCENT_TIME_MAX: Duration = Duration::from_millis(500);

/// Lines that wait for an output of the log; beyond it they are dropped and counted. Some 15,000 lines: what a member says in the
/// worst minute.
pub const LOG_QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// How often the end of the process looks whether all lines are written, once a millisecond: an output may be stuck.
pub const LOG_FLUSH_LOOKS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_open_files_leave_the_engine_its_own() {
        for (limit, tables, peers, clients) in [
            (0, 16, 6, 26),
            (256, 16, 16, 64),
            (1_024, 64, 140, 564),
            (20_000, 900, 1_024, 16_148),
            (u64::MAX, 900, PEER_CONNECTIONS_MAX, CONNECTIONS_MAX),
        ] {
            let shares = OpenFiles::of(limit);
            assert_eq!(
                shares,
                OpenFiles {
                    tables,
                    peers,
                    clients
                },
                "{limit}"
            );
            let taken = OPEN_FILES_RESERVED + 3 * tables as u64 + (peers + clients) as u64;
            assert!(taken <= limit.max(256), "{limit}");
        }
    }
}
