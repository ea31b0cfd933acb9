//! The log on standard error (or output): zap's JSON lines as etcd prints them, or its console lines.
//!
//! Code logs with `tracing`'s macros. Field names come out with dashes for underscores, as etcd spells them. A record
//! with the field `fatal = true` is printed at zap's level `fatal`, which `tracing` does not have; records of a target
//! `raft` get `"logger":"raft"`. Other crates' records are shown from `warn` on. Rotation and journald are not here.

mod line;
mod notice;
mod sparse;
mod time;

pub use notice::{Notice, NoticeLevel, replay};
pub use sparse::Sparse;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};
pub use time::format as utc;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Where, what and how to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub output: Output,
    pub level: Level,
    pub format: Format,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            output: Output::Stderr,
            level: Level::Info,
            format: Format::Json,
        }
    }
}

/// Where the lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Stderr,
    Stdout,
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

/// Begins logging for the whole process. Later calls change nothing but the level.
pub fn start(options: Options) {
    LEVEL.store(options.level as u8, Ordering::Relaxed);
    let subscriber = tracing_subscriber::registry().with(Lines { options });
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Lines {
    options: Options,
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
        let now = crate::env::unix_time();
        let Some(line) = line::format(
            event,
            now,
            Options {
                level: current_level(),
                ..self.options
            },
        ) else {
            return;
        };
        // A log that cannot be written cannot be complained about either.
        let _ = match self.options.output {
            Output::Stderr => std::io::stderr().lock().write_all(&line),
            Output::Stdout => std::io::stdout().lock().write_all(&line),
        };
    }
}
