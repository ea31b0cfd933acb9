//! A member's record of starts on disk: how often the member itself has taken part, and from which disk and which start of every
//! other member it last accepted messages.
//!
//! Each start of a member has a number and a random name. A member that has accepted messages from it remembers the newest of
//! these starts, even across its own restarts. A disk that was replaced by an older copy (a stale replica) has fewer starts or
//! other names, and is detected by that. This is a separate file because the log cannot hold it: it must be known before the
//! first vote of a new cluster is counted.
//!
//! A start counts only when the member is about to take part. Until then its name is a candidate, which the next start reuses. So
//! an older copy that is started and refused or killed many times repeats the same start, and never looks like a newer disk.
//!
//! ```text
//! <data-dir>/contacts     replaced when a name is drawn, when a start counts, and when another member comes with a start that
//!                         is not noted yet
//! ```

use crate::env;
use crate::ids::{Incarnation, MemberId};
use crate::mutants::{self, Mutant};
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
    /// From 1; 0 if unknown.
    pub count: u64,
    /// Drawn at random.
    pub name: u64,
    /// The name of the previous start that counted.
    pub name_before: u64,
}

impl Start {
    /// Whether a disk whose last start is `self` can be the disk whose last known start is `known`: it must be as new or newer.
    pub fn can_follow(self, known: Self) -> bool {
        if known.count == 0 {
            return true;
        }
        match self.count.checked_sub(known.count) {
            Some(0) => self.name == known.name,
            Some(1) => self.name_before == known.name,
            // No member has recorded the starts in between.
            Some(_) => true,
            None => false,
        }
    }
}

/// A member's disk and its last start.
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
    /// The newest start that counts.
    own: Start,
    /// The name of the start after it, which has not taken part yet; 0 if none is drawn.
    #[serde(default)]
    next: u64,
    members: BTreeMap<u64, Contact>,
}

impl ContactsFile {
    /// The start of a process that opens this file.
    fn started(&self) -> Start {
        if self.next == 0 {
            return self.own;
        }
        Start {
            count: self.own.count + 1,
            name: self.next,
            name_before: self.own.name,
        }
    }
}

/// The file's content, shared by all links. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Contacts(Arc<ContactsState>);

#[derive(Debug)]
struct ContactsState {
    path: PathBuf,
    known: Mutex<ContactsFile>,
    /// The start of this process.
    own: Start,
    /// Held while the file is written, so that readers of `known` never wait for the disk.
    writing: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Contacts {
    /// Checks that the contacts file of a member's directory can be read. Changes nothing.
    ///
    /// # Errors
    ///
    /// If the file is damaged, of a later format, or cannot be read.
    pub fn check(directory: &Path) -> Result<(), DirectoryError> {
        read(directory).map(drop)
    }

    /// Reads the file of a member's directory and gives this start a number and a name. Both are durable, but the start does not
    /// count yet. If the disk is full, the process continues under the newest start that counts.
    ///
    /// # Errors
    ///
    /// If the file is damaged, of a later format, or cannot be read or written for another reason than a full disk.
    pub fn begin(directory: &Path) -> Result<Self, DirectoryError> {
        let (path, mut file) = read(directory)?;
        file.format = FORMAT;
        if file.next == 0 {
            file.next = env::random_u64().max(1);
            if !write(&path, &file)? {
                file.next = 0;
            }
        }
        let own = file.started();
        let contacts = Self(Arc::new(ContactsState {
            path,
            known: Mutex::new(file),
            own,
            writing: Mutex::new(()),
        }));
        if mutants::active(Mutant::StartCountsAtOnce) {
            contacts.count_start()?;
        }
        Ok(contacts)
    }

    pub fn own(&self) -> Start {
        self.0.own
    }

    /// Counts this start, so that the next one gets a new name. Call it before the member takes part. Durable on return, unless
    /// the disk is full: then the next start reuses the name of this one, which other members know. Blocks for a sync of the
    /// disk.
    ///
    /// # Errors
    ///
    /// If the file cannot be written for another reason than a full disk.
    pub fn count_start(&self) -> Result<(), DirectoryError> {
        self.change(|file| {
            file.own = self.0.own;
            file.next = 0;
        })
    }

    /// The disk and start from which another member was last heard.
    pub fn of(&self, member: MemberId) -> Option<Contact> {
        lock(&self.0.known).members.get(&member.0).copied()
    }

    /// Records the disk and start from which another member is heard from now on. Durable on return, unless the disk is full.
    /// Blocks for a sync of the disk.
    ///
    /// # Errors
    ///
    /// If the file cannot be written for another reason than a full disk.
    pub fn note(&self, member: MemberId, contact: Contact) -> Result<(), DirectoryError> {
        self.change(|file| {
            file.members.insert(member.0, contact);
        })
    }

    fn change(&self, change: impl FnOnce(&mut ContactsFile)) -> Result<(), DirectoryError> {
        let _writing = lock(&self.0.writing);
        let mut file = lock(&self.0.known).clone();
        change(&mut file);
        write(&self.0.path, &file)?;
        *lock(&self.0.known) = file;
        Ok(())
    }
}

fn read(directory: &Path) -> Result<(PathBuf, ContactsFile), DirectoryError> {
    let path = directory.join(FILE);
    let Some(bytes) = env::read_file(&path)? else {
        return Ok((path, ContactsFile::default()));
    };
    let damaged = |what: String| DirectoryError::Damaged {
        path: path.clone(),
        what,
    };
    let text = unseal(&path, &bytes)?;
    let file: ContactsFile = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if file.format > FORMAT {
        return Err(damaged(format!("its format {} is not {FORMAT}", file.format)));
    }
    Ok((path, file))
}

/// Writes the file durably; false if the disk is full. A full disk does not stop the member: the file only helps to detect an
/// operator's mistake.
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
    fn starts_that_take_no_part_are_the_same_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let begin = || Contacts::begin(directory.path()).expect("a start");
        let first = begin();
        first.count_start().expect("written");
        let candidate = begin().own();
        assert_eq!((candidate.count, candidate.name_before), (2, first.own().name));
        for _ in 0..5 {
            let again = begin();
            assert_eq!(again.own(), candidate);
            // Another member can be heard before this one takes part.
            let contact = Contact::new(Incarnation(1), candidate);
            again.note(MEMBER, contact).expect("written");
        }
        begin().count_start().expect("written");
        let third = begin().own();
        assert_eq!((third.count, third.name_before), (3, candidate.name));
    }

    /// The copy lacks two starts that the other members have recorded.
    #[test]
    fn an_older_copy_is_found_out_however_often_it_was_started() {
        let (disk, copy) = (tempfile::tempdir(), tempfile::tempdir());
        let (disk, copy) = (disk.expect("a directory"), copy.expect("a directory"));
        let take_part = || {
            let contacts = Contacts::begin(disk.path()).expect("a start");
            contacts.count_start().expect("written");
            contacts.own()
        };
        take_part();
        let bytes = env::read_file(&disk.path().join(FILE)).expect("read");
        env::write_file(&copy.path().join(FILE), &bytes.expect("a file")).expect("copied");
        take_part();
        let known = take_part();
        for _ in 0..5 {
            let refused = Contacts::begin(copy.path()).expect("a start").own();
            assert!(!refused.can_follow(known), "{refused:?}");
        }
    }

    /// A file from a version without candidate names: its last start may have counted without taking part.
    #[test]
    fn a_file_without_a_candidate_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = r#"{"format":1,"own":{"count":4,"name":40,"name_before":30},"members":{}}"#;
        env::write_file(&directory.path().join(FILE), &seal(text)).expect("written");
        let own = Contacts::begin(directory.path()).expect("a start").own();
        assert_eq!((own.count, own.name_before), (5, 40));
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
        contacts.count_start().expect("written");
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
