//! Every bound of the server in one place, each with its reason. Tests run them tiny.

/// A put or delete may not carry a longer key: the storage engine stops at 64 KiB, and our own encodings add a few bytes
/// to it. The one place where etcd takes more.
pub const KEY_BYTES_MAX: usize = 60 * 1024;

/// etcd's `--max-request-bytes`: what one command may take in the log.
pub const REQUEST_BYTES_MAX_DEFAULT: u32 = 1_572_864;

/// What gRPC may add to a request beyond `--max-request-bytes` (etcd: server/embed/config.go, `grpcOverheadBytes`).
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// etcd's `--max-txn-ops`.
pub const TXN_OPS_MAX_DEFAULT: u32 = 128;

/// Keys that a scan looks at before it lets other requests of its thread run: some 100 microseconds.
pub const SCAN_SLICE_KEYS: usize = 256;

/// Connections of one port: each costs a file descriptor and some 20 KiB.
pub const CONNECTIONS_MAX: usize = 16_384;

/// Streams that a client may open and reset before they are looked at. A client with many requests under way cancels
/// them all at once; beyond this it is an attack, and the connection is closed.
pub const PENDING_RESETS_MAX: usize = 1024;

/// The storage engine's own limit on a key, escaping and revision included.
pub const STORED_KEY_BYTES_MAX: usize = 65_535;

/// A record of packed revisions is closed at this size: a reader that wants one of them decodes all.
pub const REVISIONS_RECORD_BYTES: usize = 16 * 1024;

/// Newest records that the applier keeps at hand, since every put needs the record before it.
pub const RECORD_CACHE_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;

/// Changes that one engine batch of the applier holds before it is written: bounds the memory of an apply.
pub const APPLY_BATCH_BYTES: usize = 1024 * 1024;

/// The pieces in which the reply of a range is built.
pub const REPLY_CHUNK_BYTES: usize = 256 * 1024;

/// Records that a walk for HashKV keeps in memory at once.
pub const HASH_PASS_KEYS: usize = 100_000;
