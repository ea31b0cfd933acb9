//! The limits that the simulator draws from its seed, mostly tiny ones: stores of a few kilobytes then reach the code that
//! splits, cuts, parks or resumes at a limit. Everywhere else [`sizes`] is constant and folds into its callers.

use super::{
    APPLY_BATCH_BYTES, APPLY_LAG_BYTES_MAX, BACKUP_CHUNK_BYTES, BACKUP_PASS_KEYS, CHECKPOINT_BYTES,
    COMMITTED_BYTES_MAX, COUNT_CHANGES_MAX, COUNT_STRETCH_KEYS, ENTRIES_IN_FLIGHT_MAX, ENTRY_BYTES_MAX,
    HASH_PASS_KEYS, IN_FLIGHT_BYTES_SMALL, LEASE_CHECKPOINT_INTERVAL_MS, LEASES_PER_COMMAND,
    LOG_TAIL_BYTES_MAX, PACKED_RECORD_BYTES, PAST_PASS_KEYS, PROPOSALS_WAITING_MAX, QUEUE_KEYS_MAX,
    QUEUE_LOOK_KEYS, RAFT_MESSAGE_BYTES_MAX, REPLY_CHUNK_BYTES, SCAN_SLICE_KEYS, SNAPSHOT_CHUNK_BYTES,
    WATCH_CHUNK_BYTES, WATCH_INBOX_BYTES, WATCH_OUTBOX_BYTES, WATCH_READ_BYTES, WATCH_READ_CHANGES,
    WATCH_RECENT_BYTES, WATCH_RESPONSE_BYTES,
};

/// Lists each limit once: the field, its type, and its constant outside the simulator.
macro_rules! sizes {
    ($($field:ident: $kind:ty = $constant:ident,)*) => {
        /// See the head of the file. Each field is the constant of the same name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Sizes {
            $(#[doc = concat!("See [`", stringify!($constant), "`](super::", stringify!($constant), ").")] pub $field: $kind,)*
        }

        impl Sizes {
            pub const DEFAULT: Self = Self { $($field: $constant,)* };

            /// The limits that differ from the default, each with its name.
            pub fn changed(&self) -> Vec<(&'static str, u64)> {
                let mut changed = Vec::new();
                $(if self.$field != Self::DEFAULT.$field {
                    changed.push((stringify!($field), self.$field as u64));
                })*
                changed
            }
        }
    };
}

sizes! {
    apply_batch_bytes: usize = APPLY_BATCH_BYTES,
    apply_lag_bytes_max: usize = APPLY_LAG_BYTES_MAX,
    backup_chunk_bytes: usize = BACKUP_CHUNK_BYTES,
    backup_pass_keys: usize = BACKUP_PASS_KEYS,
    checkpoint_bytes: u64 = CHECKPOINT_BYTES,
    committed_bytes_max: u64 = COMMITTED_BYTES_MAX,
    count_changes_max: i64 = COUNT_CHANGES_MAX,
    count_stretch_keys: u64 = COUNT_STRETCH_KEYS,
    entries_in_flight_max: usize = ENTRIES_IN_FLIGHT_MAX,
    entry_bytes_max: usize = ENTRY_BYTES_MAX,
    hash_pass_keys: usize = HASH_PASS_KEYS,
    in_flight_bytes_small: usize = IN_FLIGHT_BYTES_SMALL,
    lease_checkpoint_interval_ms: u64 = LEASE_CHECKPOINT_INTERVAL_MS,
    leases_per_command: usize = LEASES_PER_COMMAND,
    log_tail_bytes_max: u64 = LOG_TAIL_BYTES_MAX,
    packed_record_bytes: usize = PACKED_RECORD_BYTES,
    past_pass_keys: usize = PAST_PASS_KEYS,
    proposals_waiting_max: usize = PROPOSALS_WAITING_MAX,
    queue_keys_max: usize = QUEUE_KEYS_MAX,
    queue_look_keys: usize = QUEUE_LOOK_KEYS,
    raft_message_bytes_max: u64 = RAFT_MESSAGE_BYTES_MAX,
    reply_chunk_bytes: usize = REPLY_CHUNK_BYTES,
    scan_slice_keys: usize = SCAN_SLICE_KEYS,
    snapshot_chunk_bytes: usize = SNAPSHOT_CHUNK_BYTES,
    watch_chunk_bytes: usize = WATCH_CHUNK_BYTES,
    watch_inbox_bytes: usize = WATCH_INBOX_BYTES,
    watch_outbox_bytes: usize = WATCH_OUTBOX_BYTES,
    watch_read_bytes: usize = WATCH_READ_BYTES,
    watch_read_changes: usize = WATCH_READ_CHANGES,
    watch_recent_bytes: usize = WATCH_RECENT_BYTES,
    watch_response_bytes: usize = WATCH_RESPONSE_BYTES,
}

/// The limits in force.
#[cfg(not(madsim))]
#[inline]
pub const fn sizes() -> Sizes {
    Sizes::DEFAULT
}

#[cfg(madsim)]
thread_local! {
    static SIZES: std::cell::Cell<Sizes> = const { std::cell::Cell::new(Sizes::DEFAULT) };
}

/// The limits in force, in the simulation on this thread.
#[cfg(madsim)]
pub fn sizes() -> Sizes {
    SIZES.get()
}

/// Sets the limits for the simulation on this thread.
#[cfg(madsim)]
pub fn set_sizes(sizes: Sizes) {
    SIZES.set(sizes);
}
