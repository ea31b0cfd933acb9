//! The members' limits in a rehearsal: each is the real one or drawn tiny, so that a store of a few kilobytes is split, parked,
//! cut and resumed as one of gigabytes would be. Drawn independently of all other options, so as not to change those.

use crate::random::RandomStream;
use callboard::limits::Sizes;

/// One in this many limits keeps its real value.
const USUAL_EVERY: u64 = 3;

/// The limits of a seed.
pub fn draw(seed: u64) -> Sizes {
    let mut random = RandomStream::of(seed, "sizes");
    let mut sizes = Sizes::DEFAULT;
    macro_rules! tiny {
        ($($field:ident: $several:expr,)*) => {$(
            let one = *random.pick(&$several);
            if !random.chance(100 / USUAL_EVERY) {
                sizes.$field = one;
            }
        )*};
    }
    tiny! {
        apply_batch_bytes: [1, 100, 1_000, 10_000],
        apply_lag_bytes_max: [1, 200, 2_000],
        backup_chunk_bytes: [100, 1_000, 5_000],
        backup_pass_keys: [1, 3, 20],
        checkpoint_bytes: [1_000, 5_000, 50_000],
        committed_bytes_max: [1, 200, 5_000],
        count_changes_max: [0, 3, 50],
        count_stretch_keys: [1, 2, 4, 8],
        entries_in_flight_max: [1, 2, 4],
        entry_bytes_max: [1, 100, 400, 2_000],
        hash_pass_keys: [1, 3, 20],
        in_flight_bytes_small: [1, 100, 1_000],
        lease_checkpoint_interval_ms: [1_000, 2_000, 5_000],
        leases_per_command: [1, 2, 3],
        log_tail_bytes_max: [1, 200, 2_000],
        packed_record_bytes: [1, 64, 200, 1_000],
        past_pass_keys: [1, 2, 4],
        queue_keys_max: [0, 1, 3],
        queue_look_keys: [0, 1, 2],
        raft_message_bytes_max: [0, 100, 1_000],
        reply_chunk_bytes: [1, 50, 200],
        scan_slice_keys: [1, 2, 5],
        snapshot_chunk_bytes: [1, 100, 500, 2_000],
        watch_chunk_bytes: [1, 100, 500],
        watch_inbox_bytes: [1, 300, 2_000],
        watch_outbox_bytes: [1, 100, 300, 1_000],
        watch_read_bytes: [1, 200, 2_000],
        watch_read_changes: [1, 2, 10],
        watch_recent_bytes: [1, 300, 2_000],
        watch_response_bytes: [1, 100, 1_000],
    }
    sizes
}

/// The limits that differ from the real ones, in the form in which options are printed.
pub fn text(sizes: &Sizes) -> String {
    let changed: Vec<String> = sizes
        .changed()
        .iter()
        .map(|(name, value)| format!("{name}:{value}"))
        .collect();
    if changed.is_empty() {
        "usual".to_owned()
    } else {
        changed.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_tiny_in_some_seeds_and_as_usual_in_others() {
        let drawn: Vec<Vec<(&str, u64)>> = (0..60).map(|seed| draw(seed).changed()).collect();
        let names: std::collections::BTreeSet<&str> = drawn.iter().flatten().map(|(name, _)| *name).collect();
        for name in &names {
            let seeds = drawn
                .iter()
                .filter(|changed| changed.iter().any(|(other, _)| other == name));
            assert!((10..59).contains(&seeds.count()), "{name}");
        }
        assert_eq!(names.len(), 30);
    }
}
