//! The newest connection of every member. Once a new handshake is answered, messages over earlier connections no longer count,
//! and those connections are closed. A restarted member is told what is remembered of it, and nothing that it said before may
//! count after that.

use crate::ids::MemberId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One connection of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub member: MemberId,
    number: u64,
}

/// See the head of the file. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<Mutex<BTreeMap<MemberId, u64>>>);

impl Sessions {
    /// Registers a new connection of a member, which replaces the one before.
    pub fn begin(&self, member: MemberId) -> Session {
        let mut newest = self.lock();
        let number = newest.entry(member).or_default();
        *number += 1;
        Session {
            member,
            number: *number,
        }
    }

    pub fn is_current(&self, session: Session) -> bool {
        self.lock().get(&session.member) == Some(&session.number)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MemberId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_connection_of_a_member_counts() {
        let sessions = Sessions::default();
        let first = sessions.begin(MemberId(1));
        let other = sessions.begin(MemberId(2));
        assert!(sessions.is_current(first) && sessions.is_current(other));
        let second = sessions.begin(MemberId(1));
        assert!(!sessions.is_current(first) && sessions.is_current(second) && sessions.is_current(other));
    }
}
