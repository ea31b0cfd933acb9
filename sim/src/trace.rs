//! The trace of a rehearsal: one aligned line per event for the reader, and a fingerprint of everything that happened, including
//! the members' log records and every call and return of the clients, which distinguishes two runs.

use crate::random::extend_fingerprint;
use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

/// The progress of a member, for the columns of the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub term: u64,
    pub commit: u64,
    pub applied: u64,
    pub revision: i64,
}

#[derive(Debug)]
pub struct Trace {
    print: bool,
    verbose: bool,
    fingerprint: u64,
    records: u64,
    hidden: String,
}

impl Trace {
    /// `print` shows the events, `verbose` every record too.
    pub fn new(print: bool, verbose: bool) -> Self {
        if print {
            println!(
                "{:>8}  {:<3} {:<22} {:>5} {:>7} {:>8} {:>6}  note",
                "time_s", "who", "event", "term", "commit", "applied", "rev"
            );
        }
        Self {
            print,
            verbose,
            fingerprint: 0,
            records: 0,
            hidden: String::new(),
        }
    }

    /// Adds an event, which is shown to the reader.
    pub fn event(&mut self, time: Duration, who: &str, event: &str, standing: Standing, note: &str) {
        let mut line = format!("{:>8.2}  {who:<3} {event:<22}", time.as_secs_f64());
        if standing == Standing::default() {
            line += &" ".repeat(30);
        } else {
            let Standing {
                term,
                commit,
                applied,
                revision,
            } = standing;
            write!(line, " {term:>5} {commit:>7} {applied:>8} {revision:>6}")
                .expect("a string takes everything");
        }
        line += "  ";
        line += note;
        self.include(time, &line);
        if self.print {
            println!("{}", line.trim_end());
        }
    }

    /// Adds a record, which counts only for the fingerprint.
    pub fn record(&mut self, time: Duration, what: &str) {
        self.include(time, what);
        if self.verbose {
            println!("{:>12.6}  {what}", time.as_secs_f64());
        }
    }

    /// From now on the trace shows this text, which differs between processes, as `~`.
    pub fn hide(&mut self, text: &str) {
        text.clone_into(&mut self.hidden);
    }

    fn include(&mut self, time: Duration, what: &str) {
        let shown = if self.hidden.is_empty() || !what.contains(&self.hidden) {
            Cow::Borrowed(what)
        } else {
            what.replace(&self.hidden, "~").into()
        };
        let shown = without_checksums(shown);
        let what: &str = &shown;
        self.records += 1;
        self.fingerprint = extend_fingerprint(self.fingerprint, &time.as_nanos().to_le_bytes());
        self.fingerprint = extend_fingerprint(self.fingerprint, what.as_bytes());
    }

    /// Equal for two runs with the same events at the same simulated times.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub fn records(&self) -> u64 {
        self.records
    }
}

/// Removes checksums: the engine's tables contain their time of creation by the machine's clock, so their sums differ from run to
/// run, and errors contain the sums.
fn without_checksums(text: Cow<'_, str>) -> Cow<'_, str> {
    const HEAD: &str = "Checksum(";
    if !text.contains(HEAD) {
        return text;
    }
    let mut pieces = text.split(HEAD);
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        kept += HEAD;
        kept += piece.trim_start_matches(|digit: char| digit.is_ascii_digit());
    }
    kept.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_depends_on_what_and_when() {
        let run = |moment_ns, what| {
            let mut trace = Trace {
                print: false,
                verbose: false,
                fingerprint: 0,
                records: 0,
                hidden: String::new(),
            };
            trace.record(Duration::from_nanos(moment_ns), what);
            trace.fingerprint()
        };
        assert_eq!(run(1, "a"), run(1, "a"));
        assert_ne!(run(1, "a"), run(2, "a"));
        assert_ne!(run(1, "a"), run(1, "b"));
        let mismatch = |got| {
            let text = format!("ChecksumMismatch {{ got: Checksum({got}), expected: Checksum(7) }}");
            without_checksums(Cow::Owned(text)).into_owned()
        };
        assert_eq!(mismatch(1), mismatch(22));
        assert_eq!(
            mismatch(1),
            "ChecksumMismatch { got: Checksum(), expected: Checksum() }"
        );
    }
}
