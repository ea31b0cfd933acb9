//! Where lines go (etcd: `--log-outputs`), and the threads that write them there.

use super::line::{self, Line};
use super::queue::Queue;
use super::rotated::RotatedFile;
use super::rotation::Rotation;
use super::{Format, Level};
use crate::env::{self, AppendFile, FileError, Journal};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that is made anew, less what the process' mask takes (zap: `newFileSinkFromPath`).
const FILE_MODE: u32 = 0o666;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stderr,
    Stdout,
    Journal,
    File(PathBuf),
}

/// An output that cannot be written to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    #[error("open sink {path:?}: {source}; give --log-outputs a path that can be written to, or stderr", path = path.display())]
    File { path: PathBuf, source: FileError },
    #[error("can't find journal ({0}); use --log-outputs=stderr, which systemd writes to the journal")]
    Journal(FileError),
}

/// An output that is open.
#[derive(Debug)]
pub enum Sink {
    Stderr,
    Stdout,
    Journal(Journal),
    File(AppendFile),
    Rotated(RotatedFile),
}

impl Output {
    /// Opens it.
    pub fn open(&self, rotation: Option<Rotation>) -> Result<Sink, OutputError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OutputError::File { path, source }
        };
        Ok(match (self, rotation) {
            (Self::Stderr, _) => Sink::Stderr,
            (Self::Stdout, _) => Sink::Stdout,
            (Self::Journal, _) => Sink::Journal(Journal::open().map_err(OutputError::Journal)?),
            (Self::File(path), None) => Sink::File(AppendFile::open(path, FILE_MODE).map_err(failed(path))?),
            (Self::File(path), Some(rotation)) => {
                Sink::Rotated(RotatedFile::open(path, rotation).map_err(failed(path))?)
            }
        })
    }
}

impl Sink {
    /// Writes lines as they are, and says how many could not be written.
    fn write(&mut self, lines: &[Line]) -> u64 {
        let together = |lines: &[Line]| {
            lines
                .iter()
                .map(|line| &line.text[..])
                .collect::<Vec<_>>()
                .concat()
        };
        let all = lines.len() as u64;
        let lost = |is_written: bool| if is_written { 0 } else { all };
        match self {
            Self::Stderr => lost(std::io::stderr().lock().write_all(&together(lines)).is_ok()),
            Self::Stdout => lost(std::io::stdout().lock().write_all(&together(lines)).is_ok()),
            Self::File(file) => lost(file.write_all(&together(lines)).is_ok()),
            Self::Rotated(file) => lines
                .iter()
                .map(|line| u64::from(file.write(&line.text).is_err()))
                .sum(),
            Self::Journal(journal) => lines.iter().map(|line| u64::from(!send(journal, line))).sum(),
        }
    }
}

/// As etcd does: what the journal does not take goes to standard error (client/pkg/logutil/zap_journal.go).
fn send(journal: &Journal, line: &Line) -> bool {
    let priority = match line.level {
        Level::Debug => b"7",
        Level::Info => b"6",
        Level::Warn => b"4",
        Level::Error => b"3",
        Level::Panic | Level::Fatal => b"2",
    };
    let program = env::arguments().into_iter().next().unwrap_or_default();
    let identifier = program.rsplit('/').next().unwrap_or_default();
    let sent = journal.send(&[
        ("MESSAGE", line.text.trim_ascii_end()),
        ("PRIORITY", priority),
        ("PACKAGE", line.package.as_bytes()),
        ("SYSLOG_IDENTIFIER", identifier.as_bytes()),
    ]);
    sent.is_ok() || std::io::stderr().lock().write_all(&line.text).is_ok()
}

/// Starts the thread that writes to an output, and names its queue.
pub fn start(mut sink: Sink, format: Format) -> Arc<Queue> {
    let queue = Arc::new(Queue::default());
    let lines = Arc::clone(&queue);
    env::thread_without_sockets("logging", move || async move {
        // Those that are not written yet, and nothing has said so.
        let mut lost = 0;
        loop {
            let batch = lines.take().await;
            lost += batch.dropped + sink.write(&batch.lines);
            if lost > 0 && sink.write(&[line::dropped(lost, env::unix_time(), format)]) == 0 {
                lost = 0;
            }
        }
    });
    queue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_refused_and_one_that_can_grows() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let output = |name: &str| Output::File(directory.path().join(name));
        let error = output("gone/log")
            .open(None)
            .expect_err("there is no such directory");
        let message = error.to_string();
        assert!(
            message.starts_with("open sink \"") && message.contains("No such file"),
            "{message}"
        );
        let mut sink = output("log").open(None).expect("it can be made");
        let lines = [
            line::dropped(1, env::unix_time(), Format::Json),
            line::dropped(2, env::unix_time(), Format::Json),
        ];
        assert_eq!(sink.write(&lines), 0);
        let text = env::read_file(&directory.path().join("log")).expect("it is there");
        let text = String::from_utf8(text.unwrap_or_default()).expect("text");
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("\"lines\":2"));
        // A full disk.
        let mut sink = Output::File("/dev/full".into())
            .open(None)
            .expect("it can be opened");
        assert_eq!(sink.write(&lines), 2);
    }
}
