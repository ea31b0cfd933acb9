//! Every bound of the server in one place, each with its reason. Tests run them tiny.

mod sizes;

pub use sizes::*;
use std::time::Duration;

/// A put or delete may not carry a longer key: the storage engine stops at 64 KiB, and our own encodings add a few bytes
/// to it. The one place where etcd takes more.
pub const KEY_BYTES_MAX: usize = 60 * 1024;

/// What gRPC may add to a request beyond `--max-request-bytes` (etcd: server/embed/config.go, `grpcOverheadBytes`).
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// How much longer than its message the JSON text of a request may be: base64 takes a third more, and around short keys
/// names and quotes take several times what they enclose.
pub const JSON_BYTES_PER_MESSAGE_BYTE: usize = 8;

/// Requests and replies that are longer are decoded, checked and turned into JSON or back on threads of their own: it takes up to
/// 10 nanoseconds a byte, and others on the request's thread should not wait for longer than a millisecond.
pub const INLINE_WORK_BYTES: usize = 64 * 1024;

/// Such work of one port under way: each holds its message twice, and others need processors too.
pub const LARGE_WORK_MAX: usize = 2;

/// Fields that a put, range or delete may consist of to be decoded at once whatever its size: its bytes are not copied. A dozen
/// are defined.
pub const FLAT_FIELDS_MAX: usize = 64;

/// Values in a request's JSON for each part that its transactions may have ([`TXN_PARTS_PER_OP`]); what has more is not
/// read. Each value takes some 100 bytes while it is.
pub const JSON_VALUES_PER_PART: usize = 16;

/// What is read of one connection before others have their turn: some milliseconds of work.
pub const CONNECTION_TURN_BYTES: usize = 64 * 1024;

/// Requests of one connection that begin in its turn, give or take those that came in one read.
pub const CONNECTION_TURN_REQUESTS: usize = 64;

/// Bodies of requests that have begun to arrive and are not there in full, of one connection: the next ones wait, which their
/// clients feel as a window that does not open. At least one request of the largest size fits.
pub const UNREAD_BODIES_CONNECTION_BYTES: usize = 32 * 1024 * 1024;

/// The same for all connections of a port together.
pub const UNREAD_BODIES_BYTES: usize = 128 * 1024 * 1024;

/// How long a body waits for others to make room; then its request is refused.
pub const UNREAD_BODY_PATIENCE: Duration = Duration::from_secs(1);

/// How long a body may take to arrive once it has begun to; for large ones as long as this rate, in bytes a second, takes.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
pub const BODY_RATE_MIN: usize = 64 * 1024;

/// Headers of a request that count nowhere; what is longer counts among unfinished bodies as long as the request lasts.
pub const HEADERS_FREE_BYTES: usize = 16 * 1024;

/// The longest reply: what gRPC's clients and Go's server take (`math.MaxInt32`).
pub const REPLY_BYTES_MAX: usize = i32::MAX as usize;

/// The text of /metrics is shown to whoever asks for it within this time: making it takes milliseconds.
pub const METRICS_TEXT_AGE_MAX: Duration = Duration::from_millis(100);

/// etcd's `--max-txn-ops`.
pub const TXN_OPS_MAX_DEFAULT: u32 = 128;

/// Levels of transactions inside transactions, the outermost counted. A command is read from the log by a decoder that takes 100
/// nested messages: two around the transaction, two a level, two for what an answer carries. Many clients' decoders have the
/// same bound for the answers. etcd's bound follows from `--max-txn-ops`, since each level counts.
pub const TXN_LEVELS_MAX: usize = 32;

/// Conditions and operations of all levels and branches of one transaction, for each operation that `--max-txn-ops` lets through
/// on one path: nested transactions may multiply, and a request of 2 MB could hold some 400,000.
pub const TXN_PARTS_PER_OP: usize = 16;

/// Commands of one member that wait for their outcome: etcd refuses at 5,000 entries between commit and apply; ours hold
/// many commands each, and a thousand clients with a few requests each must fit.
pub const PROPOSALS_WAITING_MAX: usize = 20_000;

/// What these commands take, encoded; on a leader also what its followers have forwarded and is not proposed yet. Some
/// twenty requests of the largest size, or 20,000 of 1.6 KiB.
pub const PROPOSALS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What etcd adds to a request in the log and counts with it against `--max-request-bytes`: the id of the request with its
/// tag, and the tag and length of the header around it. With half of all member ids etcd needs one byte more.
pub const REQUEST_HEADER_BYTES: usize = 13;

/// etcd's default for `--quota-backend-bytes`.
pub const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;

/// What must stay free on the disk: room for the log between checkpoints, and for merges of tables. Of a small disk no
/// more than this part.
pub const DISK_RESERVE_BYTES_DEFAULT: u64 = 256 << 20;
pub const DISK_RESERVE_PERCENT_DEFAULT: u64 = 25;

/// Interval between looks at a member's space: at full load a disk takes some 30 MB in it.
pub const SPACE_LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What a member holds of the room that must stay free, in a file: enough for the engine to write all that it holds in
/// memory to tables, and to merge some.
pub const DISK_HELD_BYTES_MAX: u64 = 32 << 20;

/// A disk below this size is small: what the engine keeps beside what is live is cut down on it.
pub const SMALL_DISK_BYTES: u64 = 1 << 30;

/// What a disk takes for each byte of a request: twice in the log, its journal and tables, four times in the state, where a
/// value is in the history too, and twice for what is merged meanwhile. Between looks a cluster's members together
/// accept no more than fits above the reserve.
pub const DISK_BYTES_PER_REQUEST_BYTE: u64 = 8;

/// What must be free for each byte of a snapshot that arrives: its journal, its tables and those that are merged. Beside
/// that so much, for the log and the state in use, which go on meanwhile.
pub const DISK_BYTES_PER_SNAPSHOT_BYTE: u64 = 4;
pub const SNAPSHOT_DISK_BYTES_MIN: u64 = 8 << 20;

/// Interval between looks whether there is room again for a member that met a full disk.
pub const FULL_DISK_INTERVAL: Duration = Duration::from_secs(1);

/// There must be room for so long before a member lowers its alarm, so that it does not come and go with each write.
pub const SPACE_CALM: Duration = Duration::from_secs(3);

/// Linearizable reads of one member that wait for a leader, its answer, or the applier: some 10 MB with their requests'
/// own state left aside.
pub const READS_WAITING_MAX: usize = 50_000;

/// Questions for a read index under way: with one every 500 ms, those of the longest time that a request may take. More are
/// joined into one.
pub const READ_ROUNDS_MAX: usize = 16;

/// Commands are joined into one log entry up to this size: large enough to share the cost of an entry among thousands,
/// small enough to be sent and applied in one go. A single larger command makes an entry of its own.
pub const ENTRY_BYTES_MAX: usize = 512 * 1024;

/// What one message of entries to a follower may carry.
pub const RAFT_MESSAGE_BYTES_MAX: u64 = 1024 * 1024;

/// What one hand-over of committed entries to the applier may carry.
pub const COMMITTED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Entries in memory beyond those that must be there: what serves a follower that is a little behind.
pub const LOG_TAIL_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What one message of a snapshot carries: small enough that heartbeats in between are not held up.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;

/// Entries that a leader may have under way, however full they are.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 8;

/// Once so many bytes are under way, a leader collects commands until the next entry is full or what was under way is
/// committed: the more load, the larger the entries, and the fewer syncs, messages and wake-ups a command pays for.
pub const IN_FLIGHT_BYTES_SMALL: usize = 8 * 1024;

/// Entries kept behind what the state has on disk, for followers that are behind (etcd: `--snapshot-catchup-entries`).
pub const CATCH_UP_ENTRIES: u64 = 5_000;

/// The same in bytes, since our entries hold many commands: beyond it a snapshot is as cheap.
pub const CATCH_UP_BYTES: u64 = 16 * 1024 * 1024;

/// Log bytes after which the state is synced so that the log can be cut; bounds what a restart has to replay.
pub const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;

/// How far below the bounds at which it flushes and syncs its state a member may stay, so that members take turns.
pub const STAGGER_PERCENT_MAX: u64 = 30;

/// So far below a bound, 0 to 100 percent.
pub fn lowered(bound: u64, percent: u64) -> u64 {
    bound - (u128::from(bound) * u128::from(percent) / 100) as u64
}

/// Committed entries in memory that the applier has not applied. Beyond it a leader proposes nothing more and a follower
/// takes no more entries: two seconds of full load, as much as a restart has to replay.
pub const APPLY_LAG_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Raft messages of peers that wait for the consensus thread; beyond it they are dropped, and raft repeats them.
pub const PEER_MESSAGES_MAX: usize = 10_000;
/// The same in bytes.
pub const PEER_MESSAGES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Keys that a scan looks at before it lets other requests of its thread run: some 100 microseconds.
pub const SCAN_SLICE_KEYS: usize = 256;

/// Connections of clients, however many files may be open: each costs a file descriptor and some 20 KiB.
pub const CONNECTIONS_MAX: usize = 65_536;

/// Connections of peers: each remote member has a link, and a few more for snapshots and questions.
pub const PEER_CONNECTIONS_MAX: usize = 1_024;

/// A connection that has sent nothing is closed after this (grpc-go: 120 s until its handshake is done).
pub const SILENT_CONNECTION_MAX: Duration = Duration::from_mins(2);

/// A connection without a request under way is idle after this: a client that sends one request after the other is not to lose
/// its connection between two.
pub const IDLE_CONNECTION_MIN: Duration = Duration::from_millis(100);

/// What a connection that is asked to leave has for it, unless it has a request under way by then.
pub const LEAVING_CONNECTION_MAX: Duration = Duration::from_secs(1);

/// Below this limit of open files an operator is told to raise it: there would be room for less than 700 connections.
pub const OPEN_FILES_ADVISED: u64 = 1_024;

/// Files that are open whatever is asked: journals, tables being written and merged, the log's directory, event queues, links
/// to other members.
const OPEN_FILES_RESERVED: u64 = 128;

/// Databases that may be open at once: the log, the state, and the state that a snapshot brings.
const DATABASES_MAX: u64 = 3;

/// How a member shares out the files that it may have open. The engine's next file must never fail for want of a
/// descriptor, since the member could not go on: connections get what is left.
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
        // With a limit so low that nothing is left, a few clients must do; the operator is warned.
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

/// A record of packed changes is closed at this size: a reader that wants one change decodes all.
pub const PACKED_RECORD_BYTES: usize = 16 * 1024;

/// Headers of newest records that the applier keeps at hand, since every put needs the one before it: some 100,000 keys.
pub const HEADER_CACHE_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;

/// Compactions whose history waits for a later one; more are not remembered, and their space comes back with the next.
pub const COMPACTIONS_REMEMBERED_MAX: usize = 16;

/// Changes that one engine batch of the applier holds before it is written: bounds the memory of an apply.
pub const APPLY_BATCH_BYTES: usize = 1024 * 1024;

/// The pieces in which the reply of a range is built.
pub const REPLY_CHUNK_BYTES: usize = 256 * 1024;

/// Changed keys that a read of the past keeps in memory at once; it walks the changes once more for the rest.
pub const PAST_PASS_KEYS: usize = 100_000;

/// Keys that are counted together: what a count walks at either end of its range.
pub const COUNT_STRETCH_KEYS: u64 = 1_024;

/// Stretches of counted keys that are remembered: some 10 MiB.
pub const COUNT_STRETCHES_MAX: usize = 100_000;

/// Revisions over which remembered counts are brought forward; behind more, counting again costs about as much.
pub const COUNT_CHANGES_MAX: i64 = 200_000;

/// Records that a walk for HashKV keeps in memory at once.
pub const HASH_PASS_KEYS: usize = 100_000;

/// The same for a backup, which walks the keys twice as often: some 60 MB.
pub const BACKUP_PASS_KEYS: usize = 500_000;

/// Backups of one member under way: each reads everything, and keeps on the disk what it has not read yet.
pub const BACKUPS_MAX: usize = 2;

/// What one message of a backup carries (etcd: 32 KiB).
pub const BACKUP_CHUNK_BYTES: usize = 64 * 1024;

/// Nobody takes longer for a message of a backup than this: whoever does has gone, or never comes to an end.
pub const BACKUP_CHUNK_TIMEOUT: Duration = Duration::from_mins(2);

/// One envelope between members: a few entries, of which a single one may hold a request of the largest size that
/// `--max-request-bytes` can be set to.
pub const PEER_MESSAGE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Questions about leases of one member that wait for an answer: as for reads.
pub const LEASE_QUESTIONS_MAX: usize = 50_000;

/// Changes of leases that wait for the lessor: some 15 MB. Beyond it the lessor reads all leases again.
pub const LEASE_NEWS_MAX: usize = 250_000;

/// Changes of the members that wait for the one before them, or for a leader. Operators make them one by one.
pub const MEMBER_CHANGES_WAITING_MAX: usize = 64;

/// Callers that want to know what raft says of itself: operators and scrapers, of which there are few.
pub const DETAILS_WAITING_MAX: usize = 1_000;

/// Questions about leases that go to the leader at once.
pub const LEASE_FORWARD_MAX: usize = 4_096;

/// Questions of one keep-alive stream that wait for an answer; the stream's next ones stay in its connection.
pub const LEASE_STREAM_QUESTIONS_MAX: usize = 256;

/// A lease that lives longer has what is left of it written down so often (etcd: `CheckpointInterval`).
pub const LEASE_CHECKPOINT_INTERVAL_MS: u64 = 5 * 60 * 1000;

/// Expired leases, or checkpoints, of one command: some 2 KiB, and what is applied in a millisecond or two, so that writes
/// find their way in between.
pub const LEASES_PER_COMMAND: usize = 100;

/// Such commands under way: what expires faster waits, and the log stays free for others.
pub const LEASE_COMMANDS_IN_FLIGHT: usize = 2;

/// Responses that wait for a watch stream to take them. A stream that is slower has its watchers read from the disk
/// later; the events in here are shared with other streams.
pub const WATCH_OUTBOX_BYTES: usize = 1024 * 1024;

/// What a watch stream hands to its connection at once: one copy into one piece, few frames.
pub const WATCH_CHUNK_BYTES: usize = 64 * 1024;

/// Revisions share a response up to this size. Some clients refuse messages of more than 4 MiB.
pub const WATCH_RESPONSE_BYTES: usize = 512 * 1024;

/// Watchers of one member: some 300 MB.
pub const WATCHERS_MAX: usize = 1_000_000;

/// Streams of one member to which changes are told: watches, keep-alives and observers of elections. Some 4 KiB each.
pub const WATCH_STREAMS_MAX: usize = 100_000;

/// Requests of watch streams that wait for the hub; further ones stay in their connections. What it does in a few tens of
/// milliseconds, in some 2 MB beside the keys.
pub const WATCH_REQUESTS_MAX: usize = 10_000;

/// Applied changes that wait for the hub. Beyond it watchers read them from the disk.
pub const WATCH_INBOX_BYTES: usize = 16 * 1024 * 1024;

/// Published changes that the hub keeps as long as a watcher is behind.
pub const WATCH_RECENT_BYTES: usize = 4 * 1024 * 1024;

/// What one read for watchers that are behind aims at, and how many changes it asks for at most (etcd:
/// `watchBatchMaxRevs`).
pub const WATCH_READ_BYTES: usize = 1024 * 1024;
pub const WATCH_READ_CHANGES: usize = 1_000;

/// Digests that a member remembers, one for each log entry: those of some seconds, in 128 KiB. Others ask for one that
/// the leader came by a second ago.
pub const DIGESTS_MAX: usize = 16 * 1024;

/// HashKVs that wait for the thread that computes them: each reads everything.
pub const HASHES_WAITING_MAX: usize = 16;

/// Tables of a keyspace that are rewritten at once where somebody asks for it: some tenths of a second. While it lasts, the
/// engine's worker may have to wait, and a few tables more of new changes fit into memory.
pub const MERGE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Keys of queues, of locks and elections, that a member keeps in memory while callers wait in them: some 20 MB. Callers in
/// a queue that does not fit read it from the disk, each on its own.
pub const QUEUE_KEYS_MAX: usize = 200_000;

/// Callers of one member that wait in queues, and keys of callers that have gone which are still to be deleted: some 300 MB
/// with their requests.
pub const PLACES_MAX: usize = 100_000;

/// Such keys that are deleted at once: enough to delete thousands in a second, few beside clients' writes.
pub const LEAVES_IN_FLIGHT: usize = 64;

/// Keys of a queue that a caller looks at before it has its member follow the queue: most queues are empty.
pub const QUEUE_LOOK_KEYS: usize = 32;

/// What deleted and overwritten records may take on the disk, beside half of what is live: as much as two merges write.
/// Below it, a compaction would rewrite tables for little.
pub const GARBAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a merge that drops them may write: as much as two whole levels that are merged may hold.
pub const MERGED_LIVE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// How long merges that drop them may go on before the thread has time for checkpoints. The next merges follow a second
/// later, so that half of the disk's time is left for others.
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
