//! Leases against what their holders were told: a lease that was granted or kept alive is there for all of its time,
//! counted from when its holder asked; and it goes as a whole, its key with it.

use super::{Violation, violation};
use std::time::Duration;

/// Members' clocks may be too fast, by 10,000 ppm at most: so much of its time a lease may lack.
const DRIFT_PERMILLE: u32 = 12;

/// One lease as its holder knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenancy {
    pub name: String,
    pub ttl: Duration,
    /// When the last question was asked to which the answer was that it lives.
    pub asked_at: Duration,
    /// Its end was asked for.
    pub revoked: bool,
}

impl Tenancy {
    /// It was seen to be gone.
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
