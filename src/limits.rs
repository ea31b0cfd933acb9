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
