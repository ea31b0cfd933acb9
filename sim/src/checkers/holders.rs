//! Holders of a lock or of a leadership, by fencing revision: the create revision of the key that made them the holder. If only
//! one may hold it at a time, none acts any more once a holder with a later fence has it.
//!
//! This is what a fenced write promises its caller ("How to do distributed locking", Kleppmann 2016), with a transaction that
//! compares the fence, in the place of a store that remembers the highest one.

use super::{Violation, violation};

/// One period of holding it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    pub name: String,
    pub fence: i64,
    /// A revision at which it was certainly held, according to the server.
    pub since: i64,
    /// Revisions of the acknowledged writes under the fence.
    pub acts: Vec<i64>,
}

/// Checks all holders of the same thing. Returns the number of writes under fences.
pub fn check(what: &str, holdings: &[Holding]) -> Result<u64, Violation> {
    let mut ordered: Vec<&Holding> = holdings.iter().collect();
    ordered.sort_by_key(|holding| holding.fence);
    let mut acts = 0;
    let mut last_act: Option<(i64, &Holding)> = None;
    let mut last: Option<&Holding> = None;
    for holding in ordered {
        if let Some(last) = last.filter(|last| last.fence == holding.fence) {
            return violation(format!(
                "{what}: {} and {} hold it under the same fence {}",
                last.name, holding.name, holding.fence
            ));
        }
        if holding.since < holding.fence {
            return violation(format!(
                "{what}: {} held it at revision {}, before its fence {}",
                holding.name, holding.since, holding.fence
            ));
        }
        if let Some((revision, earlier)) = last_act.filter(|(revision, _)| *revision >= holding.since) {
            return violation(format!(
                "{what}: {} did something at revision {revision} under the fence {}, when {} with the fence {} had \
                 held it at revision {} already",
                earlier.name, earlier.fence, holding.name, holding.fence, holding.since
            ));
        }
        for revision in &holding.acts {
            acts += 1;
            if last_act.is_none_or(|(last, _)| last < *revision) {
                last_act = Some((*revision, holding));
            }
        }
        last = Some(holding);
    }
    Ok(acts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(fence: i64, since: i64, acts: &[i64]) -> Holding {
        Holding {
            name: format!("h{fence}"),
            fence,
            since,
            acts: acts.to_vec(),
        }
    }

    #[test]
    fn one_after_the_other_is_right() {
        let first = holding(5, 5, &[7, 9]);
        let second = holding(6, 11, &[12]);
        assert_eq!(check("it", &[second.clone(), first.clone()]), Ok(3));
        // A holder without writes may have lost it unseen.
        assert_eq!(check("it", &[holding(8, 8, &[]), holding(9, 9, &[10])]), Ok(1));
        for wrong in [
            // Both at the same time, whichever wrote.
            vec![first.clone(), holding(6, 8, &[])],
            vec![first.clone(), holding(6, 9, &[12])],
            // A third holder in between hides nothing.
            vec![holding(5, 5, &[20]), second.clone(), holding(7, 18, &[])],
            vec![first.clone(), first.clone()],
            vec![holding(5, 4, &[])],
        ] {
            assert!(check("it", &wrong).is_err(), "{wrong:?}");
        }
    }
}
