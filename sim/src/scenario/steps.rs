//! The language of scenarios: one step per line, parsed into data.

use crate::history::Key;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    pub members: usize,
    /// A member cuts its log after this many entries. None: never during the scenario.
    pub log_entries: Option<u64>,
    /// The longest sync of a disk; short by default.
    pub sync_max: Option<Duration>,
    /// The bytes in one message of a snapshot.
    pub chunk_bytes: Option<usize>,
    /// The bytes that may be in flight in one direction of a connection.
    pub window_bytes: Option<usize>,
    /// With the numbers of their lines.
    pub steps: Vec<(usize, Step)>,
}

/// The name of a member: `m1` and so on, or one that a step gave it. In a list, `others` means all members not named before.
pub type Name = String;

/// An event of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    Kill,
    PowerOff,
    Restart,
    Pause,
    Resume,
    /// Syncs of its disk fail from now on.
    DiskFails,
    /// Its disk works again; a member that stopped starts.
    DiskHeals,
    /// Its disk is copied.
    CopyDisk,
    /// Its disk is replaced by the copy.
    OlderDisk,
    /// Its own disk is put back; it starts.
    OwnDisk,
    /// Its disk is replaced by an empty one.
    BlankDisk,
}

/// The kind of a client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Write,
    Read,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Waits until there is a leader, and names it.
    Leader(Name),
    /// Waits until there is a candidate, and names it.
    Candidate(Name),
    /// Names all members that have no name yet, in order.
    Others(Vec<Name>),
    /// Cuts the direction from the first to the others, or both directions.
    Cut {
        from: Name,
        to: Vec<Name>,
        both: bool,
    },
    /// Damages this many pieces per thousand from the first to the others, or in both directions, until the link is restored.
    Garble {
        from: Name,
        to: Vec<Name>,
        both: bool,
        permille: u64,
    },
    Mend {
        from: Name,
        to: Vec<Name>,
        both: bool,
    },
    /// Delays messages from the first to the others, or in both directions, until the link is restored.
    Delay {
        from: Name,
        to: Vec<Name>,
        both: bool,
        time: Duration,
    },
    MendAll,
    Strike(Name, Blow),
    /// A request that must, or must not, be answered within this time.
    Ask {
        what: Access,
        key: Key,
        via: Name,
        answered: bool,
        within: Duration,
    },
    /// Sends a request without waiting for the reply, which counts whenever it arrives.
    Start {
        what: Access,
        key: Key,
        via: Name,
    },
    Wait(Duration),
    /// One of these leads a term in which no other member leads, within this time.
    ExpectLeader(Vec<Name>, Duration),
    /// This many members, including itself, know of its term within this time.
    ExpectTerm(Name, usize, Duration),
    /// It no longer considers itself the leader, within this time.
    ExpectDeposed(Name, Duration),
    /// None of these leads at any moment of this time.
    ExpectNoLeader(Vec<Name>, Duration),
    /// Its process exits on its own within this time.
    ExpectStopped(Name, Duration),
    /// A member begins to receive a snapshot within this time.
    ExpectTransfer(Duration),
    /// A member has switched to a snapshot within this time.
    ExpectSnapshot(Duration),
    /// Records the highest term.
    NoteTerm,
    /// The highest term is still the recorded one.
    ExpectSameTerm,
}

impl Step {
    /// Whether a scenario can fail at this step.
    #[cfg(test)]
    pub fn expects_something(&self) -> bool {
        matches!(
            self,
            Self::Ask { .. }
                | Self::ExpectLeader(..)
                | Self::ExpectTerm(..)
                | Self::ExpectDeposed(..)
                | Self::ExpectNoLeader(..)
                | Self::ExpectStopped(..)
                | Self::ExpectTransfer(..)
                | Self::ExpectSnapshot(..)
                | Self::ExpectSameTerm
        )
    }
}

/// Parses a scenario; an error begins with the number of its line.
pub fn parse(text: &str) -> Result<Scenario, String> {
    let mut members = None;
    let mut log_entries = None;
    let mut sync_max = None;
    let (mut chunk_bytes, mut window_bytes) = (None, None);
    let mut steps = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let words: Vec<&str> = line
            .split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        match words.as_slice() {
            [] => {}
            ["members", count] => members = count.parse().ok().filter(|count| (1..=7).contains(count)),
            ["logs", "of", entries, "entries"] => {
                let entries = entries.parse().ok().filter(|entries| *entries > 0);
                log_entries =
                    Some(entries.ok_or_else(|| format!("{number}: not a number: {}", line.trim()))?);
            }
            [what @ ("chunks" | "windows"), "of", bytes, "bytes"] => {
                let bytes = bytes.parse().ok().filter(|bytes| *bytes > 0);
                let bytes = bytes.ok_or_else(|| format!("{number}: not a number: {}", line.trim()))?;
                if *what == "chunks" {
                    chunk_bytes = Some(bytes);
                } else {
                    window_bytes = Some(bytes);
                }
            }
            ["syncs", "of", "up", "to", time] => {
                let time = duration(time);
                sync_max = Some(time.ok_or_else(|| format!("{number}: not a time: {}", line.trim()))?);
            }
            words => {
                let step = step(words).ok_or_else(|| format!("{number}: not a step: {}", line.trim()))?;
                steps.push((number, step));
            }
        }
    }
    let members = members.ok_or("1: a story says how many members there are, 1 to 7: members 3")?;
    Ok(Scenario {
        members,
        log_entries,
        sync_max,
        chunk_bytes,
        window_bytes,
        steps,
    })
}

fn step(words: &[&str]) -> Option<Step> {
    let name = |word: &&str| (*word).to_owned();
    Some(match words {
        ["leader", "is", who] => Step::Leader(name(who)),
        ["candidate", "is", who] => Step::Candidate(name(who)),
        ["others", "are", names @ ..] if !names.is_empty() => Step::Others(names.iter().map(name).collect()),
        ["cut", from, way, to] => Step::Cut {
            from: name(from),
            to: names(to),
            both: both(way)?,
        },
        ["garble", permille, "in", "1000", from, way, to] => Step::Garble {
            from: name(from),
            to: names(to),
            both: both(way)?,
            permille: permille.parse().ok()?,
        },
        ["delay", time, from, way, to] => Step::Delay {
            from: name(from),
            to: names(to),
            both: both(way)?,
            time: duration(time)?,
        },
        ["mend", "all"] => Step::MendAll,
        ["mend", from, way, to] => Step::Mend {
            from: name(from),
            to: names(to),
            both: both(way)?,
        },
        [what, key, "via", via, how @ ("within" | "unanswered"), time] => Step::Ask {
            what: access(what)?,
            key: key_number(key)?,
            via: name(via),
            answered: *how == "within",
            within: duration(time)?,
        },
        ["start", what, key, "via", via] => Step::Start {
            what: access(what)?,
            key: key_number(key)?,
            via: name(via),
        },
        ["wait", time] => Step::Wait(duration(time)?),
        ["expect", "leader", "among", who, "within", time] => Step::ExpectLeader(names(who), duration(time)?),
        [
            "expect",
            "term",
            "of",
            who,
            "at",
            count,
            "members",
            "within",
            time,
        ] => Step::ExpectTerm(name(who), count.parse().ok()?, duration(time)?),
        ["expect", who, "deposed", "within", time] => Step::ExpectDeposed(name(who), duration(time)?),
        ["expect", "no", "leader", "among", who, "for", time] => {
            Step::ExpectNoLeader(names(who), duration(time)?)
        }
        ["expect", who, "stopped", "within", time] => Step::ExpectStopped(name(who), duration(time)?),
        ["expect", "transfer", "within", time] => Step::ExpectTransfer(duration(time)?),
        ["expect", "snapshot", "within", time] => Step::ExpectSnapshot(duration(time)?),
        ["note", "term"] => Step::NoteTerm,
        ["expect", "same", "term"] => Step::ExpectSameTerm,
        _ => return strike(words),
    })
}

/// Parses an event of one member.
fn strike(words: &[&str]) -> Option<Step> {
    let (who, blow) = match words {
        ["kill", who] => (who, Blow::Kill),
        ["power", "off", who] => (who, Blow::PowerOff),
        ["restart", who] => (who, Blow::Restart),
        ["pause", who] => (who, Blow::Pause),
        ["resume", who] => (who, Blow::Resume),
        ["disk", "of", who, "fails"] => (who, Blow::DiskFails),
        ["disk", "of", who, "heals"] => (who, Blow::DiskHeals),
        ["copy", "disk", "of", who] => (who, Blow::CopyDisk),
        ["older", "disk", "of", who] => (who, Blow::OlderDisk),
        ["own", "disk", "of", who] => (who, Blow::OwnDisk),
        ["blank", "disk", "of", who] => (who, Blow::BlankDisk),
        _ => return None,
    };
    Some(Step::Strike((*who).to_owned(), blow))
}

fn names(list: &str) -> Vec<Name> {
    list.split(',').map(str::to_owned).collect()
}

fn access(word: &str) -> Option<Access> {
    match word {
        "write" => Some(Access::Write),
        "read" => Some(Access::Read),
        _ => None,
    }
}

fn key_number(word: &str) -> Option<Key> {
    word.strip_prefix('k')?.parse().ok()
}

fn both(way: &str) -> Option<bool> {
    match way {
        "->" => Some(false),
        "-" => Some(true),
        _ => None,
    }
}

/// `500ms` or `3s`.
fn duration(text: &str) -> Option<Duration> {
    if let Some(digits) = text.strip_suffix("ms") {
        return digits.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read() {
        let text = "# a story\nmembers 3\nlogs of 10 entries\nsyncs of up to 20ms\nleader is A # the first\nothers are B C\ncut A -> B,C\n\
                    mend A - others\npower off A\nwrite k7 via B unanswered 1500ms\n\
                    start read k2 via C\nexpect leader among B,C within 10s\n\
                    expect term of B at 2 members within 1s\n";
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let expected = [
            (5, Step::Leader("A".into())),
            (6, Step::Others(list(&["B", "C"]))),
            (
                7,
                Step::Cut {
                    from: "A".into(),
                    to: list(&["B", "C"]),
                    both: false,
                },
            ),
            (
                8,
                Step::Mend {
                    from: "A".into(),
                    to: list(&["others"]),
                    both: true,
                },
            ),
            (9, Step::Strike("A".into(), Blow::PowerOff)),
            (
                10,
                Step::Ask {
                    what: Access::Write,
                    key: 7,
                    via: "B".into(),
                    answered: false,
                    within: Duration::from_millis(1500),
                },
            ),
            (
                11,
                Step::Start {
                    what: Access::Read,
                    key: 2,
                    via: "C".into(),
                },
            ),
            (12, Step::ExpectLeader(list(&["B", "C"]), Duration::from_secs(10))),
            (13, Step::ExpectTerm("B".into(), 2, Duration::from_secs(1))),
        ];
        let scenario = parse(text).expect("a story");
        assert_eq!(scenario.members, 3);
        assert_eq!(scenario.log_entries, Some(10));
        assert_eq!(scenario.sync_max, Some(Duration::from_millis(20)));
        assert_eq!(scenario.steps, expected);
    }

    #[test]
    fn what_is_not_a_step_is_named_by_its_line() {
        let table = [
            ("members 3\n\nexplode A\n", "3: not a step: explode A"),
            ("members 3\nwait 5\n", "2: not a step"),
            ("members 3\ncut A => B\n", "2: not a step"),
            ("members 9\n", "1: a story says"),
            ("members 3\nlogs of no entries\n", "2: not a number"),
            ("members 3\nsyncs of up to 20\n", "2: not a time"),
            ("leader is A\n", "1: a story says"),
        ];
        for (text, expected) in table {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
