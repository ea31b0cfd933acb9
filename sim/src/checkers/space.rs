//! Space: writes are refused for lack of it only while an alarm is raised, or while a member sees the quota reached.

use super::{Violation, violation};
use crate::history::{History, Outcome};
use std::time::Duration;

/// The maximum time between a refusal and the observation that explains it: the client receives the refusal later, and
/// observations have this interval.
const APART_MAX: Duration = Duration::from_millis(500);

/// The periods in which refusals had a reason.
#[derive(Clone, Debug, Default)]
pub struct Reasons(Vec<(Duration, Duration)>);

impl Reasons {
    /// Records a reason at this moment.
    pub fn seen_at(&mut self, now: Duration) {
        self.0.push((now, now));
    }

    /// Records that a reason begins; returns its number.
    pub fn begin(&mut self, now: Duration) -> usize {
        self.0.push((now, Duration::MAX));
        self.0.len() - 1
    }

    /// Records that it ends.
    pub fn end(&mut self, number: usize, now: Duration) {
        self.0[number].1 = now;
    }

    fn between(&self, from: Duration, to: Duration) -> bool {
        let from = from.saturating_sub(APART_MAX);
        let to = to + APART_MAX;
        self.0.iter().any(|(begin, end)| *begin <= to && *end >= from)
    }
}

/// Whether a reply is such a refusal.
pub fn is_refusal(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(reason) if reason.contains("database space exceeded"))
}

/// Checks operations that ended before `until`: there are no observations after that.
pub fn check(history: &History, reasons: &Reasons, until: Duration) -> Result<(), Violation> {
    for operation in &history.operations {
        let (Some((_, outcome)), Some(returned_at)) = (&operation.returned, operation.returned_at) else {
            continue;
        };
        if is_refusal(outcome) && returned_at < until && !reasons.between(operation.called_at, returned_at) {
            return violation(format!(
                "operation {} was refused for lack of space, and there was enough",
                operation.id
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Input;

    #[test]
    fn a_refusal_needs_a_reason_at_its_time() {
        let at = Duration::from_secs;
        let mut history = History::default();
        let id = history.call(0, at(10), Input::Put { key: 1 });
        let reason = "etcdserver: mvcc: database space exceeded";
        history.returned(id, at(12), Outcome::Refused(reason.into()));
        let id = history.call(0, at(1), Input::Put { key: 1 });
        history.returned(id, at(2), Outcome::Refused("too many requests".into()));
        for (seen_at, good) in [(8, false), (10, true), (11, true), (12, true), (13, false)] {
            let mut reasons = Reasons::default();
            reasons.seen_at(at(seen_at));
            assert_eq!(check(&history, &reasons, at(99)).is_ok(), good, "{seen_at}");
        }
        assert!(check(&history, &Reasons::default(), at(99)).is_err());
        let mut reasons = Reasons::default();
        let number = reasons.begin(at(3));
        assert!(check(&history, &reasons, at(99)).is_ok());
        reasons.end(number, at(5));
        assert!(check(&history, &reasons, at(99)).is_err());
        assert!(check(&history, &Reasons::default(), at(12)).is_ok());
    }
}
