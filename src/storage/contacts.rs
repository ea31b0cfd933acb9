//! What a member has on disk about starts: how often it has started itself, and which disk and which start of every other
//! member it has last taken messages from.
//!
//! Each start of a member has a number and a name drawn at random. Another member that has taken messages from it knows the
//! newest of them, also after a restart of its own. A disk that goes back to an older copy has fewer starts, or names them
//! otherwise, and is found out by that. A file of its own, since the log cannot tell it: it must be known before the first
//! vote of a new cluster is counted.
//!
//! ```text
//! <data-dir>/contacts     replaced at every start, and when another member comes with a start that is not noted yet
//! ```

use crate::env;
use crate::ids::{Incarnation, MemberId};
use crate::storage::directory::{DirectoryError, seal, unseal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const FILE: &str = "contacts";
const FORMAT: u32 = 1;

/// One start of a member's process on its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// From 1; 0 where nobody counts.
    pub count: u64,
    /// Drawn at random.
    pub name: u64,
    /// The name of the start before.
    pub name_before: u64,
}

impl Start {
    /// Whether a disk that started last with `self` can be the one that is known to have started with `known`: it is as new
    /// or newer.
    pub fn can_follow(self, known: Self) -> bool {
        if known.count == 0 {
            return true;
        }
        match self.count.checked_sub(known.count) {
            Some(0) => self.name == known.name,
            Some(1) => self.name_before == known.name,
            // What lies between was never in contact with whoever knows this.
            Some(_) => true,
            None => false,
        }
    }
}

/// A disk of a member, as it last started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    incarnation: u64,
    pub start: Start,
}

impl Contact {
    pub fn new(incarnation: Incarnation, start: Start) -> Self {
        Self {
            incarnation: incarnation.0,
            start,
        }
    }

    pub fn incarnation(self) -> Incarnation {
        Incarnation(self.incarnation)
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct ContactsFile {
    format: u32,
    own: Start,
    members: BTreeMap<u64, Contact>,
}

/// The file's content, shared by all links. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Contacts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    known: Mutex<ContactsFile>,
    /// The start before this one.
    before: Start,
    /// Held while the file is written, so that readers of `known` never wait for a disk.
    writing: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Contacts {
    /// Whether a member can start with the file of its directory. Changes nothing: to be called before anything else has
    /// changed, so that a start that is refused for this file leaves all others as they were.
    pub fn look(directory: &Path) -> Result<(), DirectoryError> {
        read(&directory.join(FILE)).map(drop)
    }

    /// Reads the file of a member's directory and notes one more start of its own there, durably. A start on a full disk is
    /// not counted.
    pub fn begin(directory: &Path) -> Result<Self, DirectoryError> {
        let path = directory.join(FILE);
        let mut file = read(&path)?;
        file.format = FORMAT;
        let before = file.own;
        file.own = Start {
            count: before.count + 1,
            name: env::random_u64().max(1),
            name_before: before.name,
        };
        if !write(&path, &file)? {
            // To the others it is the start before that goes on.
            file.own = before;
        }
        Ok(Self(Arc::new(Inner {
            path,
            known: Mutex::new(file),
            before,
            writing: Mutex::new(()),
        })))
    }

    /// This start of this member.
    pub fn own(&self) -> Start {
        lock(&self.0.known).own
    }

    /// This start was refused as that of an older copy, so it does not count: else as many refused starts as the copy lacks
    /// would make it look like the newest. Durable on return, unless the disk is full; blocks for a sync of the disk.
    pub fn forget_start(&self) -> Result<(), DirectoryError> {
        let _writing = lock(&self.0.writing);
        let mut file = lock(&self.0.known).clone();
        file.own = self.0.before;
        write(&self.0.path, &file)?;
        Ok(())
    }

    /// With which disk, and which start of it, another member was last heard.
    pub fn of(&self, member: MemberId) -> Option<Contact> {
        lock(&self.0.known).members.get(&member.0).copied()
    }

    /// Notes with which disk another member is heard from now on. Durable on return, unless the disk is full; blocks for a
    /// sync of the disk.
    pub fn note(&self, member: MemberId, contact: Contact) -> Result<(), DirectoryError> {
        let _writing = lock(&self.0.writing);
        let mut file = lock(&self.0.known).clone();
        file.members.insert(member.0, contact);
        write(&self.0.path, &file)?;
        *lock(&self.0.known) = file;
        Ok(())
    }
}

/// The file as it was found; one that nothing is noted in where there is none.
fn read(path: &Path) -> Result<ContactsFile, DirectoryError> {
    let damaged = |what: String| DirectoryError::Damaged {
        path: path.to_owned(),
        what,
    };
    let Some(bytes) = env::read_file(path)? else {
        return Ok(ContactsFile::default());
    };
    let text = unseal(path, &bytes)?;
    let file: ContactsFile = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if file.format > FORMAT {
        return Err(damaged(format!("its format {} is not {FORMAT}", file.format)));
    }
    Ok(file)
}

/// Writes the file durably; false if the disk is full. That is no reason to stop: the file only helps to find a mistake.
fn write(path: &Path, file: &ContactsFile) -> Result<bool, DirectoryError> {
    let text = serde_json::to_string(file).expect("plain fields serialize");
    match env::write_file(path, &seal(&text)) {
        Ok(()) => Ok(true),
        Err(error) if is_full(error.kind()) => {
            tracing::warn!(%error, "the disk is full: starts of members are not noted");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: MemberId = MemberId(7);

    #[test]
    fn a_start_that_was_refused_does_not_count() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = Contacts::begin(directory.path()).expect("a first start").own();
        for _ in 0..5 {
            let refused = Contacts::begin(directory.path()).expect("a start");
            assert_eq!((refused.own().count, refused.own().name_before), (2, first.name));
            refused.forget_start().expect("written");
        }
    }

    #[test]
    fn starts_are_counted_and_contacts_are_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let contacts = Contacts::begin(directory.path()).expect("a first start");
        let first = contacts.own();
        assert_eq!((first.count, first.name_before), (1, 0));
        assert_eq!(contacts.of(MEMBER), None);
        let contact = Contact::new(Incarnation(u64::MAX), first);
        contacts.note(MEMBER, contact).expect("written");
        let again = Contacts::begin(directory.path()).expect("a second start");
        assert_eq!(again.of(MEMBER), Some(contact));
        assert_eq!((again.own().count, again.own().name_before), (2, first.name));
        assert_ne!(again.own().name, first.name);
        env::write_file(&directory.path().join(FILE), b"{}").expect("written");
        assert!(matches!(
            Contacts::begin(directory.path()),
            Err(DirectoryError::Damaged { .. })
        ));
    }

    #[test]
    fn an_older_copy_does_not_follow_what_is_known() {
        let start = |count, name, name_before| Start {
            count,
            name,
            name_before,
        };
        let cases = [
            (start(3, 30, 20), start(3, 30, 20), true, "the same start"),
            (start(4, 40, 30), start(3, 30, 20), true, "the next one"),
            (start(6, 60, 50), start(3, 30, 20), true, "a later one"),
            (start(1, 10, 0), Start::default(), true, "nothing is known"),
            (
                start(3, 31, 20),
                start(3, 30, 20),
                false,
                "a copy of before the third start",
            ),
            (
                start(4, 41, 31),
                start(3, 30, 20),
                false,
                "the same, started once more",
            ),
            (start(2, 21, 10), start(3, 30, 20), false, "a still older copy"),
            (
                Start::default(),
                start(3, 30, 20),
                false,
                "no start is counted any more",
            ),
        ];
        for (start, known, follows, what) in cases {
            assert_eq!(start.can_follow(known), follows, "{what}");
        }
    }
}
