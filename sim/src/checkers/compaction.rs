//! Compaction: a store is compacted to a revision that a client requested, at least to the highest acknowledged one, and it
//! returns "compacted" only where a compaction was requested.

use super::{Violation, violation};
use crate::history::{History, Input, Outcome};

/// Checks a history against the compact revision of the store at the end; 0 or less if there is none.
pub fn check(history: &History, compacted: i64) -> Result<(), Violation> {
    let mut acknowledged = (0, 0);
    let mut asked: Vec<(u64, i64)> = Vec::new();
    for operation in &history.operations {
        if let Input::Compact { revision } = operation.input {
            if operation.answer().is_some() {
                acknowledged = acknowledged.max((revision, operation.id));
            }
            if operation.answer().is_some() || operation.is_open() {
                asked.push((operation.called, revision));
            }
        }
    }
    if compacted.max(0) < acknowledged.0 {
        return violation(format!(
            "operation {} compacted up to revision {}, and the store is compacted up to {compacted}",
            acknowledged.1, acknowledged.0
        ));
    }
    if compacted > 0 && !asked.iter().any(|(_, revision)| *revision == compacted) {
        return violation(format!(
            "the store is compacted up to revision {compacted}, which nobody asked for"
        ));
    }
    for operation in &history.operations {
        let Input::PastRange { revision } = operation.input else {
            continue;
        };
        if let Some((moment, Outcome::Refused(reason))) = &operation.returned
            && reason.contains("compacted")
            && !asked
                .iter()
                .any(|(called, beyond)| called < moment && *beyond > revision)
        {
            return violation(format!(
                "operation {} was told that revision {revision} is compacted, and nobody had asked for that",
                operation.id
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Answer;
    use std::time::Duration;

    fn told(history: &mut History, input: Input, outcome: Option<Outcome>) {
        let id = history.call(0, Duration::ZERO, input);
        if let Some(outcome) = outcome {
            history.returned(id, Duration::ZERO, outcome);
        }
    }

    #[test]
    fn only_what_was_asked_for_is_forgotten() {
        let mut history = History::default();
        let refused = || Some(Outcome::Refused("required revision has been compacted".into()));
        assert_eq!(check(&history, -1), Ok(()));
        assert!(check(&history, 5).is_err());
        let done = Some(Outcome::Answered(Answer::Compacted { revision: 9 }));
        told(&mut history, Input::Compact { revision: 5 }, done);
        told(&mut history, Input::Compact { revision: 7 }, None);
        told(&mut history, Input::Compact { revision: 8 }, refused());
        told(&mut history, Input::PastRange { revision: 6 }, refused());
        let table = [(4, false), (5, true), (6, false), (7, true), (8, false)];
        for (compacted, good) in table {
            assert_eq!(check(&history, compacted).is_ok(), good, "{compacted}");
        }
        told(&mut history, Input::PastRange { revision: 7 }, refused());
        assert!(check(&history, 7).is_err());
    }
}
