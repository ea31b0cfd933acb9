//! At most one leader per term (Raft, "Election Safety"), over a whole rehearsal.

use super::{Violation, violation};
use std::collections::BTreeMap;

/// The leader of each term.
#[derive(Clone, Debug, Default)]
pub struct Leaders(BTreeMap<u64, String>);

impl Leaders {
    /// Records that a member claims to lead a term.
    pub fn claim(&mut self, term: u64, member: &str) -> Result<(), Violation> {
        let first = self.0.entry(term).or_insert_with(|| member.to_owned());
        if first == member {
            return Ok(());
        }
        violation(format!("term {term} has two leaders: {first} and {member}"))
    }

    /// The number of terms with a leader.
    pub fn terms(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_has_one_leader() {
        let mut leaders = Leaders::default();
        assert!(leaders.claim(2, "m1").is_ok());
        assert!(leaders.claim(2, "m1").is_ok());
        assert!(leaders.claim(3, "m2").is_ok());
        assert!(leaders.claim(2, "m3").is_err());
        assert_eq!(leaders.terms(), 2);
    }
}
