//! raft's own log lines, passed on to ours.

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record};

/// A logger whose records end up in `tracing`.
pub fn logger() -> Logger {
    Logger::root(ToTracing, slog::o!())
}

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        let message = record.msg();
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(logger = "raft", "{message}"),
            Level::Warning => tracing::warn!(logger = "raft", "{message}"),
            Level::Info => tracing::info!(logger = "raft", "{message}"),
            Level::Debug => tracing::debug!(logger = "raft", "{message}"),
            Level::Trace => tracing::trace!(logger = "raft", "{message}"),
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        match level {
            Level::Critical | Level::Error => tracing::enabled!(tracing::Level::ERROR),
            Level::Warning => tracing::enabled!(tracing::Level::WARN),
            Level::Info => tracing::enabled!(tracing::Level::INFO),
            Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
            Level::Trace => tracing::enabled!(tracing::Level::TRACE),
        }
    }
}
