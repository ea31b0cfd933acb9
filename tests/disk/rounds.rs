//! What is deleted and compacted gives its space back, round after round, while reads and writes go on.

use super::support::cluster::Cluster;
use super::support::{callboard_bin, poll};
use super::{delete_all, put_many, status, used_bytes};
use std::time::{Duration, Instant};

/// What a member keeps beside its data: two journals of 64 MB, the log for followers that are behind, and tables that are
/// too few to be merged. (Beside them, a member's reserve, which is no data.)
const KEPT_BYTES: u64 = 192_000_000;

/// From a compaction to the space.
const SPACE_LIMIT: Duration = Duration::from_mins(1);

fn number(variable: &str, default: usize) -> usize {
    let text = std::env::var(variable).unwrap_or_default();
    text.parse().unwrap_or(default)
}

fn rounds(value_bytes: usize) {
    let rounds = number("CALLBOARD_DISK_ROUNDS", 3);
    let megabytes = number(
        "CALLBOARD_DISK_MB",
        match value_bytes {
            100 => 1,
            1_000 => 20,
            _ => 120,
        },
    );
    let cluster = Cluster::start_with(&callboard_bin(), 1, &["--quota-backend-bytes=8000000000"]);
    let member = &cluster.members[0];
    let keys = megabytes * 1_000_000 / value_bytes;
    for round in 0..rounds {
        let began = Instant::now();
        let puts = put_many(&[member.client], round, keys, value_bytes, usize::MAX);
        assert_eq!(puts.acked, keys, "{puts:?}");
        let full_bytes = used_bytes(&member.data_dir);
        let took = began.elapsed();
        delete_all(member.client);
        let compacted = Instant::now();
        let is_callboard = member.data_dir.join("identity").exists();
        let look = || {
            let reserve = used_bytes_of_reserve(&member.data_dir);
            let used = used_bytes(&member.data_dir) - reserve;
            if used <= KEPT_BYTES || !is_callboard {
                Ok(used)
            } else {
                Err(format!("{used} bytes"))
            }
        };
        let used = poll::until(SPACE_LIMIT, look);
        let status = status(member.client);
        println!(
            "values of {value_bytes} bytes, round {round}: {} MB after {took:?} of puts, {:?} MB {:?} after the compaction, \
             dbSize {} MB",
            full_bytes / 1_000_000,
            used.as_ref().map(|bytes| bytes / 1_000_000),
            compacted.elapsed(),
            status.db_size / 1_000_000
        );
        settle(&member.data_dir, compacted);
        let used = used.expect("the space of what was deleted");
        if is_callboard {
            let told = || {
                let told = super::status(member.client).db_size as u64;
                if told <= used.max(50_000_000) {
                    Ok(())
                } else {
                    Err(format!("{told} told, {used} used"))
                }
            };
            poll::until(SPACE_LIMIT, told).expect("dbSize");
        }
    }
}

/// Tells what is used so long after a compaction, if CALLBOARD_DISK_SETTLE_S says how long.
fn settle(data_dir: &std::path::Path, compacted: Instant) {
    let time = Duration::from_secs(number("CALLBOARD_DISK_SETTLE_S", 0) as u64);
    if time > Duration::ZERO {
        std::thread::sleep(time.saturating_sub(compacted.elapsed()));
        let used = used_bytes(data_dir) - used_bytes_of_reserve(data_dir);
        println!(
            "  {} MB {:?} after the compaction",
            used / 1_000_000,
            compacted.elapsed()
        );
    }
}

fn used_bytes_of_reserve(data_dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(data_dir.join("reserve")).map_or(0, |metadata| metadata.blocks() * 512)
}

#[test]
fn rounds_of_100_bytes() {
    rounds(100);
}

#[test]
fn rounds_of_1_kilobyte() {
    rounds(1_000);
}

#[test]
fn rounds_of_100_kilobytes() {
    rounds(100_000);
}
