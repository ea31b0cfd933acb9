//! A member's data directory: which member it belongs to, and which of its parts are in use.
//!
//! ```text
//! <data-dir>/lock         held while a process uses the directory
//! <data-dir>/identity     member, cluster and incarnation; written last when a directory is made
//! <data-dir>/contacts     how often the member has started, and from which members it has heard, see `contacts`
//! <data-dir>/log/         the replicated log; with --wal-dir, <wal-dir>/log/ beside a lock and a copy of the identity
//! <data-dir>/state-<n>/   what has been applied; a snapshot from a peer is written beside it
//! <data-dir>/state        the name of the state directory in use, and the index of the snapshot it began with
//! ```
//!
//! A directory that holds etcd's `member/` is refused, not touched.

use crate::env::{self, DirectoryLock, FileError};
use crate::ids::{ClusterId, Incarnation, LogIndex, MemberId};
use crate::storage::contacts::Start;
use crate::storage::journal::Found;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path} is used by another process; stop that one first, or give this member a --data-dir of its own", path = path.display())]
    InUse { path: PathBuf },
    #[error("{path} belongs to etcd (it holds member/); give this member a --data-dir of its own", path = path.display())]
    Foreign { path: PathBuf },
    #[error("{path} belongs to another member, or to an earlier one of this directory: give --wal-dir the directory that this member's log is in, or an empty one to a new member", path = path.display())]
    AnothersLog { path: PathBuf },
    #[error("there is no log of this member in {path}: --wal-dir must name the directory that its log is in, as at its first start", path = path.display())]
    LogMissing { path: PathBuf },
    #[error("{path} is damaged: {what}. Remove this member from the cluster, clear the directory and add it again", path = path.display())]
    Damaged { path: PathBuf, what: String },
}

/// The member that a directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub member: MemberId,
    pub cluster: ClusterId,
    pub incarnation: Incarnation,
    /// The start of the running process; not counted yet if a directory is only inspected.
    pub start: Start,
}

/// The identity file's JSON.
#[derive(Serialize, Deserialize)]
struct IdentityFile {
    format: u32,
    member_id: String,
    cluster_id: String,
    incarnation: String,
}

const FORMAT: u32 = 1;
const IDENTITY_FILE: &str = "identity";
/// A newly founded directory holds one batch in each database before its identity is written.
const FOUNDING_BATCHES: u64 = 1;

/// A locked data directory, with the log's if that has one of its own.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    log_directory: Option<PathBuf>,
    _locks: Vec<DirectoryLock>,
}

impl DataDirectory {
    /// Locks the directory for this process, and creates it first if it does not exist.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        Self::open_with_log(path, None)
    }

    /// The same, with the log in a directory of its own.
    pub fn open_with_log(path: &Path, log_directory: Option<&Path>) -> Result<Self, DirectoryError> {
        Self::check_foreign(path)?;
        let log_directory = log_directory.filter(|log| *log != path);
        let locks = std::iter::once(path).chain(log_directory).map(lock);
        Ok(Self {
            path: path.to_owned(),
            _locks: locks.collect::<Result<_, _>>()?,
            log_directory: log_directory.map(ToOwned::to_owned),
        })
    }

    /// Refuses a directory that is etcd's, before anything is written to it.
    pub fn check_foreign(path: &Path) -> Result<(), DirectoryError> {
        if env::exists(&path.join("member")) {
            return Err(DirectoryError::Foreign {
                path: path.to_owned(),
            });
        }
        Ok(())
    }

    /// Whether a directory has an identity.
    pub fn is_claimed(path: &Path) -> bool {
        env::exists(&path.join(IDENTITY_FILE))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity of the directory; none before [`Self::claim`].
    pub fn identity(&self) -> Result<Option<Identity>, DirectoryError> {
        read_identity(&self.path)
    }

    /// Refuses a log that is not this member's.
    pub fn check_log(&self) -> Result<(), DirectoryError> {
        if let Some(path) = &self.log_directory
            && let Some(owner) = read_identity(path)?
            && Some(owner) != self.identity()?
        {
            return Err(DirectoryError::AnothersLog { path: path.clone() });
        }
        let path = self.log_path();
        if !env::exists(&path) {
            return Err(DirectoryError::LogMissing { path });
        }
        Ok(())
    }

    /// Writes the identity, durably. Everything else in the directory must be written and synced before.
    pub fn claim(&self, identity: Identity) -> Result<(), DirectoryError> {
        let file = IdentityFile {
            format: FORMAT,
            member_id: identity.member.to_string(),
            cluster_id: identity.cluster.to_string(),
            incarnation: identity.incarnation.to_string(),
        };
        let text = seal(&serde_json::to_string(&file).expect("plain fields serialize"));
        for directory in self.log_directory.iter().chain([&self.path]) {
            env::write_file(&directory.join(IDENTITY_FILE), &text)?;
        }
        Ok(())
    }

    /// Removes the remains of an interrupted first start. A directory in which a member has worked is refused.
    pub fn clear_unclaimed(&self) -> Result<(), DirectoryError> {
        let states = self.states()?.into_iter().map(|name| self.path.join(name));
        for path in states.chain([self.log_path()]) {
            // Bit rot within an unfinished first start loses nothing.
            if Found::look(&path).is_ok_and(|found| found.batches > FOUNDING_BATCHES) {
                if let Some(log_directory) = self.log_directory.as_ref().filter(|log| path.starts_with(log)) {
                    return Err(DirectoryError::AnothersLog {
                        path: log_directory.clone(),
                    });
                }
                return Err(DirectoryError::Damaged {
                    path: self.path.join(IDENTITY_FILE),
                    what: format!("it is missing, and {} is in use", path.display()),
                });
            }
        }
        env::remove_directory(&self.log_path())?;
        self.remove_states(None)
    }

    pub fn log_path(&self) -> PathBuf {
        self.log_directory.as_ref().unwrap_or(&self.path).join("log")
    }

    /// The state directory in use.
    pub fn state_path(&self) -> Result<PathBuf, DirectoryError> {
        Ok(self.path.join(self.state_name()?))
    }

    /// The path of the next state directory, for a snapshot from a peer.
    pub fn next_state_path(&self) -> Result<PathBuf, DirectoryError> {
        let name = self.state_name()?;
        let number = state_number(&name).unwrap_or(0);
        Ok(self.path.join(format!("state-{}", number + 1)))
    }

    /// Switches to a state directory. Its content must be synced and must have been a snapshot at `index`. Durable on return.
    pub fn activate_state(&self, path: &Path, index: LogIndex) -> Result<(), DirectoryError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(env::write_file(
            &self.path.join("state"),
            &seal(&format!("{name} {index}")),
        )?)
    }

    /// Whether the state in use began as a snapshot at this index. Only then may it be ahead of the log.
    pub fn state_came_as_snapshot(&self, index: LogIndex) -> Result<bool, DirectoryError> {
        Ok(read_state_in_use(&self.path)?.1 == Some(index))
    }

    /// Removes state directories that are not in use.
    pub fn remove_stale_states(&self) -> Result<(), DirectoryError> {
        let name = self.state_name()?;
        self.remove_states(Some(&name))
    }

    fn remove_states(&self, keep: Option<&str>) -> Result<(), DirectoryError> {
        for name in self.states()? {
            if Some(name.as_str()) != keep {
                env::remove_directory(&self.path.join(name))?;
            }
        }
        Ok(())
    }

    fn states(&self) -> Result<Vec<String>, DirectoryError> {
        let mut names = env::list_directory(&self.path)?;
        names.retain(|name| name.starts_with("state-"));
        Ok(names)
    }

    fn state_name(&self) -> Result<String, DirectoryError> {
        Ok(read_state_in_use(&self.path)?.0)
    }
}

/// Makes the directory where there is none, and keeps other processes out of it.
fn lock(path: &Path) -> Result<DirectoryLock, DirectoryError> {
    env::create_directory(path)?;
    env::lock_directory(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => DirectoryError::InUse {
            path: path.to_owned(),
        },
        _ => error.into(),
    })
}

/// Whose directory this is, if anybody's.
fn read_identity(directory: &Path) -> Result<Option<Identity>, DirectoryError> {
    let path = directory.join(IDENTITY_FILE);
    let Some(bytes) = env::read_file(&path)? else {
        return Ok(None);
    };
    let damaged = |what: String| DirectoryError::Damaged {
        path: path.clone(),
        what,
    };
    let text = unseal(&path, &bytes)?;
    let file: IdentityFile = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if file.format != FORMAT {
        return Err(damaged(format!("its format {} is not {FORMAT}", file.format)));
    }
    let number = |text: &str| u64::from_str_radix(text, 16).map_err(|error| damaged(error.to_string()));
    Ok(Some(Identity {
        member: MemberId(number(&file.member_id)?),
        cluster: ClusterId(number(&file.cluster_id)?),
        incarnation: Incarnation(number(&file.incarnation)?),
        start: Start::default(),
    }))
}

/// The state directory in use of the data directory at `path`, which need not be locked.
///
/// # Errors
///
/// If the file that names it cannot be read, or is damaged.
pub fn state_in_use(path: &Path) -> Result<PathBuf, DirectoryError> {
    Ok(path.join(read_state_in_use(path)?.0))
}

/// The name of the state in use, and the index of the snapshot that it began with.
fn read_state_in_use(directory: &Path) -> Result<(String, Option<LogIndex>), DirectoryError> {
    let path = directory.join("state");
    let Some(bytes) = env::read_file(&path)? else {
        return Ok(("state-1".into(), None));
    };
    let text = unseal(&path, &bytes)?;
    match text.split_once(' ').map(|(name, index)| (name, index.parse())) {
        Some((name, Ok(index))) if name.starts_with("state-") && !name.contains('/') => {
            Ok((name.to_owned(), Some(LogIndex(index))))
        }
        _ => Err(DirectoryError::Damaged {
            path,
            what: "it names no state directory".into(),
        }),
    }
}

/// The number in the name of a state directory: later ones have higher numbers.
pub fn state_number(name: &str) -> Option<u64> {
    name.strip_prefix("state-")?.parse().ok()
}

/// The content of a small file: a line of text, and a line with its CRC-32C. Without the checksum, a flipped bit in the name of
/// the state in use would make the real one look like a leftover, and it would be removed.
pub(super) fn seal(text: &str) -> Vec<u8> {
    format!("{text}\n{:08x}\n", crc32c::crc32c(text.as_bytes())).into_bytes()
}

pub(super) fn unseal(path: &Path, bytes: &[u8]) -> Result<String, DirectoryError> {
    let sealed = std::str::from_utf8(bytes).ok().and_then(|content| {
        let (text, sum) = content.strip_suffix('\n')?.rsplit_once('\n')?;
        (seal(text) == bytes && sum.len() == 8).then(|| text.to_owned())
    });
    sealed.ok_or_else(|| DirectoryError::Damaged {
        path: path.to_owned(),
        what: "its checksum does not match".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_user_and_one_owner() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("data");
        let directory = DataDirectory::open(&path).expect("a new directory");
        assert!(matches!(
            DataDirectory::open(&path),
            Err(DirectoryError::InUse { .. })
        ));
        assert_eq!(directory.identity().expect("readable"), None);
        let identity = Identity {
            member: MemberId(0xab),
            cluster: ClusterId(0xcd),
            incarnation: Incarnation(u64::MAX),
            start: Start::default(),
        };
        directory.claim(identity).expect("claimed");
        drop(directory);
        let directory = DataDirectory::open(&path).expect("free again");
        assert_eq!(directory.identity().expect("readable"), Some(identity));
    }

    #[test]
    fn a_log_with_a_directory_of_its_own_belongs_to_one_member() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = |name: &str| scratch.path().join(name);
        let open = |name: &str, log: &str| DataDirectory::open_with_log(&path(name), Some(&path(log)));
        let identity = |member| Identity {
            member: MemberId(member),
            cluster: ClusterId(0xcd),
            incarnation: Incarnation(member),
            start: Start::default(),
        };
        for (name, member) in [("a", 1), ("b", 2)] {
            let directory = open(name, &format!("{name}-log")).expect("new directories");
            env::create_directory(&directory.log_path()).expect("a directory");
            directory.claim(identity(member)).expect("claimed");
            directory.check_log().expect("its own");
            let other = open("c", &format!("{name}-log"));
            assert!(matches!(other, Err(DirectoryError::InUse { .. })));
        }
        let others = open("a", "b-log").expect("free").check_log();
        assert!(matches!(others, Err(DirectoryError::AnothersLog { .. })));
        let forgotten = DataDirectory::open(&path("a")).expect("free").check_log();
        assert!(matches!(forgotten, Err(DirectoryError::LogMissing { .. })));
        let same = open("a", "a").expect("one directory is locked once");
        assert_eq!(same.log_path(), path("a").join("log"));
        drop(same);
        open("a", "a-log").expect("free").check_log().expect("its own");
    }

    #[test]
    fn etcds_directory_is_refused() {
        let scratch = tempfile::tempdir().expect("a directory");
        env::create_directory(&scratch.path().join("member")).expect("a directory");
        assert!(matches!(
            DataDirectory::open(scratch.path()),
            Err(DirectoryError::Foreign { .. })
        ));
    }

    #[test]
    fn states_take_turns() {
        let scratch = tempfile::tempdir().expect("a directory");
        let directory = DataDirectory::open(scratch.path()).expect("a directory");
        let (first, second) = (
            directory.state_path().expect("a path"),
            directory.next_state_path().expect("a path"),
        );
        for path in [&first, &second] {
            env::create_directory(path).expect("a directory");
        }
        directory.activate_state(&second, LogIndex(7)).expect("activated");
        assert!(directory.state_came_as_snapshot(LogIndex(7)).expect("readable"));
        assert!(!directory.state_came_as_snapshot(LogIndex(8)).expect("readable"));
        directory.remove_stale_states().expect("removed");
        assert_eq!(directory.state_path().expect("a path"), second);
        assert!(!env::exists(&first) && env::exists(&second));
    }

    #[test]
    fn a_damaged_identity_is_said_so() {
        let scratch = tempfile::tempdir().expect("a directory");
        let directory = DataDirectory::open(scratch.path()).expect("a directory");
        env::write_file(&scratch.path().join("identity"), b"{\"format\":1").expect("written");
        assert!(matches!(
            directory.identity(),
            Err(DirectoryError::Damaged { .. })
        ));
    }

    #[test]
    fn no_flipped_bit_makes_another_state_the_one_in_use() {
        let scratch = tempfile::tempdir().expect("a directory");
        let directory = DataDirectory::open(scratch.path()).expect("a directory");
        let state = directory.next_state_path().expect("a path");
        env::create_directory(&state).expect("a directory");
        directory.activate_state(&state, LogIndex(7)).expect("activated");
        let path = scratch.path().join("state");
        let sound = env::read_file(&path).expect("readable").expect("there");
        for bit in 0..sound.len() * 8 {
            let mut rotten = sound.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            env::write_file(&path, &rotten).expect("written");
            assert!(directory.remove_stale_states().is_err(), "bit {bit}");
        }
        assert!(env::exists(&state));
    }
}
