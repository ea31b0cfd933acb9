//! The one binary. Without a subcommand it is the server, with etcd's flags.

use callboard::bootstrap::EngineOptions;
use callboard::config::{self, Invocation};
use callboard::limits::FULL_DISK_INTERVAL;
use callboard::limits::OPEN_FILES_ADVISED;
use callboard::node::member::{Ended, Member};
use callboard::quota::reserve::Reserves;
use callboard::{bench, env, logging};
use std::path::Path;
use std::process::ExitCode;

#[cfg(all(not(madsim), feature = "jemalloc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The allocator's options: two arenas, since a member has few threads that allocate much, and memory that is not used goes
/// back to the system after a second, not ten.
#[cfg(all(not(madsim), feature = "jemalloc"))]
#[unsafe(export_name = "_rjem_malloc_conf")]
static ALLOCATOR_OPTIONS: &[u8; 47] = b"narenas:2,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

fn main() -> ExitCode {
    match config::parse(std::env::args_os(), std::env::vars_os(), read_text) {
        Ok(Invocation::Server(config)) => serve(*config),
        Ok(Invocation::Subcommand { arguments, .. }) => subcommand(arguments),
        Ok(Invocation::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
        }
    }
}

/// The text of a configuration file.
fn read_text(path: &Path) -> Result<String, String> {
    match env::read_file(path) {
        Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|error| error.to_string()),
        Ok(None) => Err("no such file or directory".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The other programs of this binary.
#[derive(clap::Parser)]
#[command(name = "callboard", disable_help_subcommand = true)]
enum Program {
    /// Load generator for servers with etcd's v3 API.
    Bench(bench::BenchOptions),
}

fn subcommand(arguments: Vec<std::ffi::OsString>) -> ExitCode {
    let program = std::ffi::OsString::from("callboard");
    match <Program as clap::Parser>::parse_from(std::iter::once(program).chain(arguments)) {
        Program::Bench(options) => bench::run(options),
    }
}

/// Runs a member until a signal or a failure ends it.
fn serve(config: config::Server) -> ExitCode {
    env::ignore_unhandled_signals();
    let open_files_max = env::raise_open_files_max();
    if let Err(error) = logging::start(config.log.clone()) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    logging::replay(&config.notices);
    if open_files_max < OPEN_FILES_ADVISED {
        tracing::warn!(
            open_files_max,
            "few files and connections may be open: raise the limit (ulimit -Hn, or LimitNOFILE= of the unit) to {OPEN_FILES_ADVISED} or more"
        );
    }
    let reserves = Reserves::new(config.written_directories(), config.space);
    // It may have been killed before it gave up its reserve on a full disk.
    reserves.release_if_full();
    let (code, signal) = env::block_on(async {
        let engine = EngineOptions::production().on_disks_of(config.written_directories());
        match Member::run(config, engine, env::shutdown_signal(), |_| {}).await {
            Ended::Asked(signal, Ok(())) => (ExitCode::SUCCESS, Some(signal)),
            // There is nothing to start again: a service manager that restarts what has failed must leave it alone.
            Ended::Removed => (ExitCode::SUCCESS, None),
            Ended::Asked(_, Err(_)) => (ExitCode::FAILURE, None),
            Ended::Failed(_) => (ExitCode::FAILURE, restart_on_full_disk(&reserves).await),
            Ended::Refused(error) => {
                tracing::error!(%error, "cannot start this member");
                (ExitCode::FAILURE, restart_on_full_disk(&reserves).await)
            }
        }
    });
    logging::flush();
    if let Some(signal) = signal {
        env::end_by_signal(signal);
    }
    code
}

/// A member whose disk is full is begun anew, with what it has reserved: the engine does not go on after a write that did
/// not fit, and needs little to start. Returns the signal that ended the wait for room, or nothing if the disk is not full.
async fn restart_on_full_disk(reserves: &Reserves) -> Option<i32> {
    if !reserves.release_if_full() {
        return None;
    }
    let room = async {
        // Once at least: nobody is to start a hundred times in a second.
        env::sleep(FULL_DISK_INTERVAL).await;
        while !reserves.have_room() {
            tracing::warn!("the disk is full: waiting for room to start this member again");
            env::sleep(FULL_DISK_INTERVAL).await;
        }
    };
    let ended = env::first(room, env::shutdown_signal(), std::future::pending::<()>()).await;
    if let env::First::Two(signal) = ended {
        return Some(signal);
    }
    tracing::warn!("the disk was full: this member starts again");
    logging::flush();
    let error = env::restart_process();
    tracing::error!(%error, "cannot start this member again");
    None
}
