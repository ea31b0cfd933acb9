//! What the members take of the machine: memory, descriptors, disk.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::support::cluster::Member;

/// From this length on, growth is judged.
const JUDGED_FROM: Duration = Duration::from_mins(10);
/// No member ever takes more.
const BUDGET: Taken = Taken {
    memory_mb: 200,
    descriptors: 200,
    disk_mb: 300,
};
/// What the last third may take beyond a quarter more than the second third.
const SLACK: Taken = Taken {
    memory_mb: 32,
    descriptors: 32,
    disk_mb: 64,
};

#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    memory_mb: u64,
    descriptors: u64,
    disk_mb: u64,
}

impl Taken {
    fn of(member: &mut Member) -> Self {
        let id = member.process().id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = resident.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        let open = std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
        Self {
            memory_mb: kilobytes.unwrap_or(0) / 1_024,
            descriptors: open as u64,
            disk_mb: bytes_below(&member.data_dir) / 1_000_000,
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            memory_mb: self.memory_mb.max(other.memory_mb),
            descriptors: self.descriptors.max(other.descriptors),
            disk_mb: self.disk_mb.max(other.disk_mb),
        }
    }

    fn is_within(self, limit: Self) -> bool {
        self.memory_mb <= limit.memory_mb
            && self.descriptors <= limit.descriptors
            && self.disk_mb <= limit.disk_mb
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:>4} MB of memory, {:>4} descriptors, {:>4} MB of disk",
            self.memory_mb, self.descriptors, self.disk_mb
        )
    }
}

/// The most of all members, at every look.
#[derive(Default)]
pub struct Measures {
    looks: Vec<(Duration, Taken)>,
}

impl Measures {
    pub fn take(&mut self, at: Duration, members: &mut [Member]) {
        let most = members
            .iter_mut()
            .map(Taken::of)
            .fold(Taken::default(), Taken::most);
        self.looks.push((at, most));
    }

    pub fn print(&self) {
        let step = (self.looks.len() / 30).max(1);
        for (at, most) in self.looks.iter().step_by(step) {
            println!("{:>6.1} s  {most}", at.as_secs_f64());
        }
    }

    pub fn judge(&self, length: Duration) {
        let most = self.between(Duration::ZERO, Duration::MAX);
        assert!(most.memory_mb > 0 && most.descriptors > 0, "it was measured");
        assert!(most.is_within(BUDGET), "at most {most}; the budget is {BUDGET}");
        if length < JUDGED_FROM {
            return;
        }
        let earlier = self.between(length / 3, length * 2 / 3);
        let later = self.between(length * 2 / 3, Duration::MAX);
        let limit = Taken {
            memory_mb: earlier.memory_mb * 5 / 4 + SLACK.memory_mb,
            descriptors: earlier.descriptors * 5 / 4 + SLACK.descriptors,
            disk_mb: earlier.disk_mb * 5 / 4 + SLACK.disk_mb,
        };
        assert!(
            later.is_within(limit),
            "{later} in the last third, {earlier} in the one before"
        );
    }

    fn between(&self, from: Duration, to: Duration) -> Taken {
        let looks = self.looks.iter().filter(|(at, _)| (from..to).contains(at));
        looks.map(|(_, most)| *most).fold(Taken::default(), Taken::most)
    }
}

/// What a directory takes on its disk. Files come and go meanwhile.
fn bytes_below(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    bytes.sum()
}
