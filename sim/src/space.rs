//! The storage limits of a cluster in a rehearsal, and its automatic compaction. Drawn independently of all other options, so as
//! not to change those.

use crate::random::RandomStream;
use std::fmt;

/// The members' settings for space, and the faults of space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Some hundred revisions; None for etcd's default, which is never reached.
    pub quota_bytes: Option<u64>,
    /// Mode and retention.
    pub auto_compaction: Option<(&'static str, String)>,
    /// Disks run short of space at times.
    pub shortages: bool,
    /// Operators raise the alarm manually.
    pub by_hand: bool,
}

impl Space {
    pub fn draw(seed: u64) -> Self {
        let mut random = RandomStream::of(seed, "space");
        let quota_bytes = random.chance(35).then(|| random.between(4_000, 20_000));
        let auto_compaction = random.chance(30).then(|| {
            if random.chance(70) {
                ("periodic", format!("{}s", random.between(2, 60)))
            } else {
                ("revision", random.between(1, 200).to_string())
            }
        });
        Self {
            quota_bytes,
            auto_compaction,
            shortages: random.chance(15),
            by_hand: random.chance(25),
        }
    }

    /// The flags of a member.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        if let Some(bytes) = self.quota_bytes {
            flags.push(format!("--quota-backend-bytes={bytes}"));
        }
        if let Some((mode, retention)) = &self.auto_compaction {
            flags.push(format!("--auto-compaction-mode={mode}"));
            flags.push(format!("--auto-compaction-retention={retention}"));
        }
        flags
    }

    /// Whether writes may be refused for lack of space at all.
    pub fn can_run_out(&self) -> bool {
        self.quota_bytes.is_some() || self.shortages || self.by_hand
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.quota_bytes {
            Some(bytes) => write!(f, "quota:{bytes}")?,
            None => write!(f, "quota:default")?,
        }
        if let Some((mode, retention)) = &self.auto_compaction {
            write!(f, ",{mode}:{retention}")?;
        }
        if self.shortages {
            write!(f, ",shortages")?;
        }
        if self.by_hand {
            write!(f, ",by-hand")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_trouble_is_drawn_by_some_seeds_and_left_out_by_others() {
        let drawn: Vec<Space> = (0..200).map(Space::draw).collect();
        let count = |holds: fn(&Space) -> bool| drawn.iter().filter(|space| holds(space)).count();
        for holds in [
            (|space| space.quota_bytes.is_some()) as fn(&Space) -> bool,
            |space| space.auto_compaction.is_some(),
            |space| space.shortages,
            |space| space.by_hand,
            Space::can_run_out,
        ] {
            assert!((10..190).contains(&count(holds)));
        }
    }
}
