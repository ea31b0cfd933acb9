//! What the log's disk costs: an append and its sync, for batches of 1, 10 and 100 entries of 256 bytes.
//!
//! The sync dominates, and with it the disk under this directory: compare figures of one machine only.

use callboard::ids::{LogIndex, Term};
use callboard::proto::peer::{Entry, HardState};
use callboard::storage::log::{Cut, LogDatabase};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const PAYLOAD_BYTES: usize = 256;
/// The log is cut this far behind its end, as a member's is.
const KEPT_ENTRIES: u64 = 5_000;

struct Log {
    database: LogDatabase,
    last: u64,
    cut: u64,
    _directory: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir_in(".").expect("a directory");
        let (database, _) = LogDatabase::open(directory.path(), None).expect("an empty log");
        Self {
            database,
            last: 0,
            cut: 0,
            _directory: directory,
        }
    }

    fn batch(&mut self, count: u64) -> Vec<Entry> {
        let first = self.last + 1;
        self.last += count;
        let entry = |index| Entry {
            index,
            term: 2,
            data: vec![index as u8; PAYLOAD_BYTES].into(),
            ..Entry::default()
        };
        (first..=self.last).map(entry).collect()
    }

    fn append(&self, entries: &[Entry]) {
        let hard_state = HardState {
            term: 2,
            vote: 1,
            commit: self.last,
        };
        self.database
            .append(entries, false, Some(&hard_state))
            .expect("written");
    }

    fn cut_if_long(&mut self) {
        if self.last - self.cut > 2 * KEPT_ENTRIES {
            self.cut = self.last - KEPT_ENTRIES;
            let cut = Cut {
                index: LogIndex(self.cut),
                term: Term(2),
            };
            self.database.cut(cut).expect("written");
        }
    }
}

fn append(criterion: &mut Criterion) {
    for (name, synced) in [("log append and sync", true), ("log append alone", false)] {
        let mut group = criterion.benchmark_group(name);
        for count in [1, 10, 100] {
            group.throughput(Throughput::Elements(count));
            let mut log = Log::new();
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter_custom(|rounds| {
                    let mut spent = std::time::Duration::ZERO;
                    for _ in 0..rounds {
                        let entries = log.batch(count);
                        let start = callboard::env::now();
                        log.append(&entries);
                        if synced {
                            log.database.sync().expect("synced");
                        }
                        spent += callboard::env::now() - start;
                        log.cut_if_long();
                    }
                    spent
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
