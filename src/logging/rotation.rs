//! When a log file is rotated, what its backups are called, and which of them go (lumberjack, whose rules etcd has). Pure: nothing
//! here touches a file.

use super::time;
use std::time::Duration;

/// What compressed backups end with.
pub const COMPRESSED: &str = ".gz";

const DAY: Duration = Duration::from_hours(24);

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A file does not grow beyond it, unless a single line is longer.
    pub bytes_max: u64,
    /// Older backups are removed; 0 for never.
    pub age_days_max: u64,
    /// So many backups are kept, the newest ones; 0 for all.
    pub backups_max: u64,
    /// Whether backups are named after local time, not UTC.
    pub local_time: bool,
    /// Whether backups are compressed.
    pub compress: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            bytes_max: 100 * 1024 * 1024,
            age_days_max: 0,
            backups_max: 0,
            local_time: false,
            compress: false,
        }
    }
}

/// What is to be done with backups, by their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chores {
    pub remove: Vec<String>,
    pub compress: Vec<String>,
}

/// The name of a backup that is made now: `name-2006-01-02T15-04-05.000.log`.
pub fn backup_name(file: &str, now: Duration) -> String {
    let (stem, extension) = parts(file);
    format!("{stem}-{}{extension}", time::for_file_name(now))
}

/// What to do with the backups of a file among the names in its directory.
pub fn chores(file: &str, names: &[String], now: Duration, rotation: Rotation) -> Chores {
    let backups = names
        .iter()
        .filter_map(|name| Some((backup_time(file, name)?, name)));
    let mut backups: Vec<_> = backups.collect();
    backups.sort_by(|a, b| b.cmp(a));
    // As text, times of this form are in their order.
    let oldest = match rotation.age_days_max {
        0 => String::new(),
        days => time::for_file_name(now.saturating_sub(DAY * u32::try_from(days).unwrap_or(u32::MAX))),
    };
    let mut chores = Chores::default();
    let mut kept: Vec<&str> = Vec::new();
    for (made, name) in backups {
        // One that is being compressed is there twice.
        if kept.last() != Some(&made) {
            let is_surplus = rotation.backups_max > 0 && kept.len() as u64 >= rotation.backups_max;
            if is_surplus || *made < *oldest {
                chores.remove.push(name.clone());
                continue;
            }
            kept.push(made);
        }
        if rotation.compress && !name.ends_with(COMPRESSED) {
            chores.compress.push(name.clone());
        }
    }
    chores
}

/// When a backup was made, as its name says; None if it is no backup of this file.
fn backup_time<'a>(file: &str, name: &'a str) -> Option<&'a str> {
    const FORM: &[u8] = b"0000-00-00T00-00-00.000";
    let (stem, extension) = parts(file);
    let name = name.strip_suffix(COMPRESSED).unwrap_or(name);
    let time = name
        .strip_prefix(stem)?
        .strip_prefix('-')?
        .strip_suffix(extension)?;
    let fits = |(letter, form): (u8, &u8)| match form {
        b'0' => letter.is_ascii_digit(),
        form => letter == *form,
    };
    (time.len() == FORM.len() && time.bytes().zip(FORM).all(fits)).then_some(time)
}

fn parts(file: &str) -> (&str, &str) {
    file.split_at(file.rfind('.').unwrap_or(file.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rotation = Rotation {
        bytes_max: 1,
        age_days_max: 0,
        backups_max: 0,
        local_time: false,
        compress: false,
    };

    fn at(day: u32) -> Duration {
        DAY * day
    }

    #[test]
    fn backups_are_named_as_lumberjack_names_them() {
        for (file, name) in [
            ("etcd.log", "etcd-1970-01-03T00-00-00.000.log"),
            ("etcd", "etcd-1970-01-03T00-00-00.000"),
            ("a.b.log", "a.b-1970-01-03T00-00-00.000.log"),
        ] {
            assert_eq!(backup_name(file, at(2)), name);
            let time = backup_time(file, name);
            assert_eq!(time, Some("1970-01-03T00-00-00.000"));
            assert_eq!(backup_time(file, &format!("{name}.gz")), time);
        }
        for name in [
            "etcd.log",
            "etcd-x.log",
            "etcd-1970-01-03T00-00-00.000",
            "x-1970-01-03T00-00-00.000.log",
        ] {
            assert_eq!(backup_time("etcd.log", name), None, "{name}");
        }
    }

    #[test]
    fn the_oldest_and_those_beyond_the_number_go_and_the_others_are_compressed() {
        let backup = |day| backup_name("e.log", at(day));
        let compressed = |day| format!("{}.gz", backup(day));
        let mut names = vec!["e.log".to_owned(), "other".to_owned(), backup(1), backup(4)];
        names.extend([compressed(2), backup(3), compressed(3)]);
        let with = |rules| chores("e.log", &names, at(5), rules);
        assert_eq!(with(RULES), Chores::default());
        let rules = Rotation {
            backups_max: 2,
            ..RULES
        };
        assert_eq!(with(rules).remove, [compressed(2), backup(1)]);
        let rules = Rotation {
            age_days_max: 2,
            ..RULES
        };
        assert_eq!(with(rules).remove, [compressed(2), backup(1)]);
        let rules = Rotation {
            backups_max: 3,
            compress: true,
            ..RULES
        };
        let expected = Chores {
            remove: vec![backup(1)],
            compress: vec![backup(4), backup(3)],
        };
        assert_eq!(with(rules), expected);
    }
}
