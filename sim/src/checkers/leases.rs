//! Leases compared with the replies to their holders: a lease that was granted or kept alive exists for its whole TTL, counted
//! from its holder's request; and it expires as a whole, together with its key.

use super::{Violation, violation};
use std::time::Duration;

/// Members' clocks may be too fast, by 10,000 ppm at most: a lease may lack this much of its TTL.
const DRIFT_PERMILLE: u32 = 12;

/// One lease, as its holder knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenancy {
    pub name: String,
    pub ttl: Duration,
    /// When the last request was sent whose reply confirmed the lease.
    pub asked_at: Duration,
    /// Its revocation was requested.
    pub revoked: bool,
}

impl Tenancy {
    /// Checks a lease that was seen to be gone.
    pub fn gone(&self, at: Duration) -> Result<(), Violation> {
        let end = (self.asked_at + self.ttl).saturating_sub(self.ttl * DRIFT_PERMILLE / 1000);
        if self.revoked || at >= end {
            return Ok(());
        }
        violation(format!(
            "lease {} ended too early: it was gone at {at:?}, and was to live for {:?} from {:?} on",
            self.name, self.ttl, self.asked_at
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_has_its_time() {
        let seconds = Duration::from_secs;
        let tenancy = Tenancy {
            name: "t".into(),
            ttl: seconds(10),
            asked_at: seconds(100),
            revoked: false,
        };
        assert!(tenancy.gone(seconds(109)).is_err());
        assert!(tenancy.gone(seconds(110)).is_ok());
        let revoked = Tenancy {
            revoked: true,
            ..tenancy
        };
        assert!(revoked.gone(seconds(101)).is_ok());
    }
}
