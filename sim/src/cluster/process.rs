//! A member's machine: its flags, its engines' options, and one run of its process.

use super::addresses::{PeerPlaces, endpoint};
use super::certificates::Files;
use super::{End, Process, Trouble, lock};
use crate::disk;
use crate::options::{Options, PeerTls};
use crate::world::elapsed;
use callboard::bootstrap::{EngineOptions, StartError};
use callboard::config::{self, Invocation, Server};
use callboard::node::member::{Ended, Member};
use callboard::storage::state::StateOptions;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The options of the members' storage engines.
pub(super) fn engine_options(options: &Options) -> EngineOptions {
    let engine = &options.engine;
    EngineOptions {
        state: StateOptions {
            memtable_bytes: engine.memtable_bytes,
            table_bytes: engine.table_bytes,
            first_level_tables: engine.first_level_tables,
            ..StateOptions::simulator()
        },
        log_memtable_bytes: Some(engine.memtable_bytes),
        catch_up_entries: Some(options.catch_up_entries),
        ..EngineOptions::default()
    }
}

/// Whether a start was refused because of its data directory.
fn is_about_directory(error: &StartError) -> bool {
    matches!(
        error,
        StartError::Directory(_)
            | StartError::Log(_)
            | StartError::State(_)
            | StartError::Machine(_)
            | StartError::LogBehindState { .. }
            | StartError::StateBehindLog { .. }
            | StartError::AnothersDirectory { .. }
    )
}

/// Whether every earlier start was refused or continued. If not, the next one restores what was cut off.
fn is_decided(directory: &Path) -> bool {
    let state = callboard::storage::directory::state_in_use(directory);
    let databases = state.into_iter().chain([directory.join("log")]);
    databases
        .into_iter()
        .all(|database| !database.join("torn").exists())
}

/// Runs a process: the member from its flags up, as the program's `main` does. Returns the reason for its end unless it was asked
/// to stop.
pub(super) async fn live(config: Server, engine: EngineOptions, process: Arc<Mutex<Process>>) -> End {
    let directory = config.data_dir.clone();
    // A failing disk cannot be restored to its previous state.
    let is_suspect =
        !matches!(lock(&process).trouble, None | Some(Trouble::Ailing)) && is_decided(&directory);
    let before = is_suspect.then(|| disk::sums(&directory));
    let mut changed = None;
    let started = |member: &Member| {
        let mut process = lock(&process);
        process.backend = Some(member.backend().clone());
        process.log = Some(member.log().clone());
    };
    let signal = callboard::env::shutdown_signal();
    let ended = match Member::run(config, engine, signal, started).await {
        Ended::Asked(_, outcome) => outcome.err(),
        Ended::Failed(reason) => Some(reason),
        Ended::Removed => Some("it was removed from the cluster".to_owned()),
        Ended::Refused(error) => {
            // A start that is refused later than that had accepted the directory.
            let before = before.filter(|_| is_about_directory(&error));
            changed = before.and_then(|before| disk::difference(&before, &disk::sums(&directory)));
            Some(error.to_string())
        }
    };
    // The process ends immediately, with all its threads.
    disk::freeze(&directory);
    let mut process = lock(&process);
    process.running = false;
    process.dying_since = Some(elapsed());
    process.leaving = true;
    process.backend = None;
    process.log = None;
    End {
        reason: ended,
        changed,
    }
}

/// A member's machine, as its operator sees it.
pub(super) struct Machine {
    pub number: usize,
    pub directory: PathBuf,
    pub options: Options,
    pub places: PeerPlaces,
    /// Its certificates, if an authority has signed them.
    pub files: Option<Files>,
}

impl Machine {
    /// The configuration of its next process, from an operator's flags.
    pub fn config(&self, process: &Process) -> Server {
        let Self {
            number,
            directory,
            options,
            places,
            files,
        } = self;
        let url = format!("http://{}", endpoint(*number));
        let peer_url = places.url(*number, 0);
        let cluster = match process.joined.as_slice() {
            [] if !process.joins => places.founders(),
            [] => places.initial_cluster(0..options.members),
            joined => places.initial_cluster(joined.iter().copied()),
        };
        let flags = [
            "callboard".to_owned(),
            format!("--name=m{}", number + 1),
            format!("--data-dir={}", directory.display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--peer-auto-tls={}", options.peer_tls == PeerTls::Automatic),
            format!("--initial-cluster={cluster}"),
            format!(
                "--initial-cluster-state={}",
                if process.joins { "existing" } else { "new" }
            ),
            format!("--snapshot-count={}", options.snapshot_count),
            format!("--corrupt-check-time={}ms", options.hashes_ms),
            format!("--compact-hash-check-time={}ms", options.hashes_ms.max(1)),
            format!(
                "--feature-gates=InitialCorruptCheck={},CompactHashCheck={}",
                options.initial_check,
                options.hashes_ms > 0
            ),
            format!("--scrub-bytes-per-second={}", options.scrub_bytes_per_second),
        ];
        let flags = flags.into_iter().chain(options.space.flags());
        let flags = flags.chain(files.iter().flat_map(Files::flags));
        match config::parse(flags.map(OsString::from), [], |_| Err(String::new())) {
            Ok(Invocation::Server(config)) => *config,
            other => panic!("the flags of a simulated member are right: {other:?}"),
        }
    }
}
