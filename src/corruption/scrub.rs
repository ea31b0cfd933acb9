//! Reads all files of a member in rounds, slowly enough not to disturb clients. The checks themselves: `storage::scrub`.

use crate::env;
use crate::state::Views;
use crate::storage::journal::{self, JournalScan, ScanStep};
use crate::storage::log::LogDatabase;
use crate::storage::scrub::{TableFile, TableScan};
use std::path::PathBuf;
use std::time::Duration;

/// The bytes of one read.
const PIECE_BYTES: u64 = 256 * 1024;
/// The pause after a read, in multiples of the time that it took, so that a busy disk is left alone.
const REST_TIMES: u32 = 4;
/// A batch that is being written is complete after this long.
const WRITE_MAX: Duration = Duration::from_secs(1);
/// The least interval between the starts of rounds.
const ROUND_INTERVAL: Duration = Duration::from_hours(1);

/// The speed of the scrub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ScrubOptions {
    /// 0 disables the scrub.
    pub bytes_per_second: u64,
}

/// Damage that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub keyspace: &'static str,
    pub path: PathBuf,
    pub offset: u64,
    pub what: &'static str,
}

#[derive(Debug)]
enum Piece {
    Table(TableFile),
    Journal(&'static str, PathBuf),
}

/// Runs rounds for ever, and reports all damage found.
pub(super) async fn run(
    views: &Views,
    log: &LogDatabase,
    options: ScrubOptions,
    mut report: impl AsyncFnMut(Damage),
) {
    loop {
        let begin = env::now();
        let mut bytes = 0;
        let mut damaged = 0;
        for piece in pieces(views, log) {
            let (read, damage) = look(piece, options).await;
            bytes += read;
            if let Some(damage) = damage {
                damaged += 1;
                report(damage).await;
            }
        }
        tracing::info!(bytes, damaged, "finished reading all data back from disk");
        env::sleep_until(begin + ROUND_INTERVAL.max((env::now() - begin) * 2)).await;
    }
}

/// All current files. A journal that cannot be listed is being replaced; the next round reads it.
fn pieces(views: &Views, log: &LogDatabase) -> Vec<Piece> {
    let state = &views.load().state;
    let journals = |name, path| {
        let paths = journal::list(path).unwrap_or_default().into_iter();
        paths.map(move |path| Piece::Journal(name, path))
    };
    let tables = state.tables().into_iter().chain(log.tables()).map(Piece::Table);
    let journals = journals("state journal", state.path()).chain(journals("log journal", log.path()));
    journals.chain(tables).collect()
}

/// Reads one file. Returns the bytes read, and the damage if there is any.
async fn look(piece: Piece, options: ScrubOptions) -> (u64, Option<Damage>) {
    let (keyspace, path) = match &piece {
        Piece::Table(table) => (table.keyspace, table.path.clone()),
        Piece::Journal(name, path) => (*name, path.clone()),
    };
    let mut bytes = 0;
    let found = match piece {
        Piece::Table(table) => look_at_table(table, options, &mut bytes).await,
        Piece::Journal(_, path) => look_at_journal(&path, options, &mut bytes).await,
    };
    let damage = match found {
        Ok(found) => found.map(|(offset, what)| Damage {
            keyspace,
            path,
            offset,
            what,
        }),
        Err(error) => {
            // A read error says nothing about the data. If the engine meets it too, the member stops.
            tracing::error!(keyspace, %error, "failed to read data back from disk");
            None
        }
    };
    (bytes, damage)
}

type Found = Result<Option<(u64, &'static str)>, env::FileError>;

async fn look_at_table(table: TableFile, options: ScrubOptions, bytes: &mut u64) -> Found {
    let Some(mut scan) = TableScan::open(table)? else {
        return Ok(None);
    };
    loop {
        match paced(options, || scan.advance(PIECE_BYTES)).await? {
            ScanStep::More(read) => *bytes += read,
            ScanStep::Done => return Ok(None),
            ScanStep::Unsound { offset, what } => return Ok(Some((offset, what))),
        }
    }
}

async fn look_at_journal(path: &std::path::Path, options: ScrubOptions, bytes: &mut u64) -> Found {
    let Some(mut scan) = JournalScan::open(path)? else {
        return Ok(None);
    };
    let mut suspected = None;
    loop {
        match paced(options, || scan.advance(PIECE_BYTES)).await? {
            ScanStep::More(read) => *bytes += read,
            ScanStep::Done => return Ok(None),
            ScanStep::Unsound { offset, what } if suspected == Some(offset) => {
                return Ok(Some((offset, what)));
            }
            ScanStep::Unsound { offset, .. } => {
                suspected = Some(offset);
                env::sleep(WRITE_MAX).await;
                if !scan.look_again()? {
                    return Ok(None);
                }
            }
        }
    }
}

/// Reads a piece, then pauses as long as the rate demands, and longer if the disk is busy.
async fn paced<T>(options: ScrubOptions, read: impl FnOnce() -> T) -> T {
    let begin = env::now();
    let outcome = read();
    let took = env::now() - begin;
    let due = Duration::from_secs_f64(PIECE_BYTES as f64 / options.bytes_per_second as f64);
    env::sleep(due.max(took * REST_TIMES)).await;
    outcome
}
