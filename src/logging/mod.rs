//! The log: zap's JSON lines as etcd prints them, or its console lines, on standard error, standard output, in files or in the
//! journal.
//!
//! Code logs with `tracing`'s macros. Field names come out with dashes for underscores, as etcd spells them. A record
//! with the field `fatal = true` is printed at zap's level `fatal`, which `tracing` does not have; records of a target
//! `raft` get `"logger":"raft"`. Other crates' records are shown from `warn` on.
//!
//! Who logs never waits for an output: each has a bounded queue and a thread of its own (`queue`, `output`). An output that cannot
//! be opened is an error at a start; one that cannot be written later loses lines, which are counted, and ends nothing.

mod line;
mod notice;
mod output;
mod queue;
mod rotated;
mod rotation;
mod sparse;
mod time;

pub use notice::{Notice, NoticeLevel, replay};
pub use output::{Output, OutputError};
pub use rotation::Rotation;
pub use sparse::Sparse;
pub use time::format as utc;

use crate::env;
use crate::limits::LOG_FLUSH_LOOKS_MAX;
use queue::Queue;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Where, what and how to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub outputs: Vec<Output>,
    /// Of the files among them; None for never.
    pub rotation: Option<Rotation>,
    pub level: Level,
    pub format: Format,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            outputs: vec![Output::Stderr],
            rotation: None,
            level: Level::Info,
            format: Format::Json,
        }
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Console,
}

/// zap's levels, the least important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
    Panic,
    Fatal,
}

impl Level {
    /// Reads a level as zap does: in lower or upper case, and nothing is `info`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "debug" | "DEBUG" => Self::Debug,
            "info" | "INFO" | "" => Self::Info,
            "warn" | "WARN" | "warning" | "WARNING" => Self::Warn,
            "error" | "ERROR" => Self::Error,
            "dpanic" | "DPANIC" | "panic" | "PANIC" => Self::Panic,
            "fatal" | "FATAL" => Self::Fatal,
            _ => return None,
        })
    }

    /// As zap prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Fatal => "fatal",
        }
    }

    fn of(level: tracing::Level) -> Self {
        match level {
            tracing::Level::TRACE | tracing::Level::DEBUG => Self::Debug,
            tracing::Level::INFO => Self::Info,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::ERROR => Self::Error,
        }
    }
}

/// The process's level: [`start`] sets it, [`set_level`] changes it.
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Changes what is logged from now on.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
    // Every place that logs remembers whether it is wanted.
    tracing_core::callsite::rebuild_interest_cache();
}

fn current_level() -> Level {
    let levels = [
        Level::Debug,
        Level::Info,
        Level::Warn,
        Level::Error,
        Level::Panic,
        Level::Fatal,
    ];
    levels[usize::from(LEVEL.load(Ordering::Relaxed))]
}

/// The queues of the process's outputs.
static QUEUES: OnceLock<Vec<Arc<Queue>>> = OnceLock::new();

/// Begins logging for the whole process, once all outputs are open. A later call changes nothing but the level.
pub fn start(options: Options) -> Result<(), OutputError> {
    LEVEL.store(options.level as u8, Ordering::Relaxed);
    if QUEUES.get().is_some() {
        return Ok(());
    }
    let opened = options.outputs.iter().map(|output| output.open(options.rotation));
    let opened = opened.collect::<Result<Vec<_>, _>>()?;
    let format = options.format;
    let queues: Vec<_> = opened
        .into_iter()
        .map(|sink| output::start(sink, format))
        .collect();
    let _ = QUEUES.set(queues.clone());
    flush_before_a_panic_ends_the_process();
    let subscriber = tracing_subscriber::registry().with(Lines { queues, format });
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Waits until everything that was logged is written, but not for long: an output may be stuck. For the end of the process.
pub fn flush() {
    let Some(queues) = QUEUES.get() else { return };
    for _ in 0..LOG_FLUSH_LOOKS_MAX {
        if queues.iter().all(|queue| queue.is_written()) {
            return;
        }
        env::wait_for_disk();
    }
}

fn flush_before_a_panic_ends_the_process() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        flush();
    }));
}

struct Lines {
    queues: Vec<Arc<Queue>>,
    format: Format,
}

impl Lines {
    fn wants(metadata: &tracing::Metadata<'_>) -> bool {
        let own = metadata.target().starts_with("callboard") || metadata.target() == "raft";
        let level = Level::of(*metadata.level());
        let floor = if own {
            current_level()
        } else {
            current_level().max(Level::Warn)
        };
        // Errors are always looked at: they may turn out to be fatal.
        metadata.is_event() && (level >= floor || level == Level::Error)
    }
}

impl<S> Layer<S> for Lines
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        Self::wants(metadata)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        use tracing::level_filters::LevelFilter;
        Some(match current_level() {
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error | Level::Panic | Level::Fatal => LevelFilter::ERROR,
        })
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let line = line::line(event, env::unix_time(), current_level(), self.format);
        if let Some(line) = line {
            for queue in &self.queues {
                queue.add(line.clone());
            }
        }
    }
}
