//! What observers of an election receive: one leader after the other, in the order of their keys, and of each leader every
//! proclamation after the first one received, once and in order.

use super::{Violation, violation};
use std::collections::BTreeMap;

/// One message to an observer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// In the header.
    pub revision: i64,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: String,
}

/// One stream of an observer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub name: String,
    pub told: Vec<Told>,
}

/// Checks all streams against the acknowledged proclamations, by revision. Returns the number of messages.
pub fn check(streams: &[Observed], proclaimed: &BTreeMap<i64, String>) -> Result<u64, Violation> {
    let mut count = 0;
    for stream in streams {
        let mut before: Option<&Told> = None;
        for told in &stream.told {
            count += 1;
            let complain = |what: &str| violation(format!("{} was told {told:?}: {what}", stream.name));
            if told.mod_revision > told.revision || told.create_revision > told.mod_revision {
                return complain("its revisions cannot be");
            }
            if proclaimed
                .get(&told.mod_revision)
                .is_some_and(|value| *value != told.value)
            {
                return complain("another value was proclaimed at that revision");
            }
            match before {
                Some(before)
                    if before.create_revision == told.create_revision
                        && (told.version != before.version + 1
                            || told.mod_revision <= before.mod_revision) =>
                {
                    return complain(&format!("after {before:?} of the same leader"));
                }
                Some(before) if before.create_revision > told.create_revision => {
                    return complain(&format!("after {before:?} of a later leader"));
                }
                _ => {}
            }
            before = Some(told);
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(create_revision: i64, mod_revision: i64, version: i64) -> Told {
        Told {
            revision: mod_revision,
            create_revision,
            mod_revision,
            version,
            value: "v".into(),
        }
    }

    fn check_one(told: &[Told]) -> Result<u64, Violation> {
        let stream = Observed {
            name: "o".into(),
            told: told.to_vec(),
        };
        check(&[stream], &BTreeMap::from([(99, "w".to_owned())]))
    }

    #[test]
    fn everything_of_one_leader_comes_in_order() {
        let right = [told(5, 7, 2), told(5, 9, 3), told(6, 6, 1), told(8, 20, 4)];
        assert_eq!(check_one(&right), Ok(4));
        for wrong in [
            vec![told(5, 7, 2), told(5, 9, 4)],
            vec![told(5, 7, 2), told(5, 7, 2)],
            vec![told(6, 7, 2), told(5, 9, 3)],
            vec![told(5, 4, 1)],
            vec![told(5, 99, 2)],
        ] {
            assert!(check_one(&wrong).is_err(), "{wrong:?}");
        }
    }
}
