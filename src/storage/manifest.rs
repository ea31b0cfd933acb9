//! Checks the storage engine's lists of tables before the engine opens them: whether each is the newest one, byte for byte. The
//! engine keeps a checksum of them but does not compare it. On a rotten list it panics or opens an older one. The file with the
//! format's version is checked first: by the time the engine has read that of the second database, it has changed the first.
//!
//! To the engine, a keyspace without a list was just being created: it removes all tables of the keyspace, and skips its changes
//! in the journals. If the list of the keyspace that names the others is missing, it treats every keyspace so.
//!
//! The layout is that of lsm-tree 3 (its `version/persist.rs`): `keyspaces/<id>/current` holds the number of the list in use, its
//! XXH3 sum of 128 bits and a zero; the list is `keyspaces/<id>/v<number>`.

use crate::env;
use crate::storage::journal::{Found, JournalError};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_128;

/// The content of the file `version`: the engine's name and the version of its format.
const VERSION: &[u8] = b"FJL\x03";
/// Number, sum and kind of sum.
const CURRENT_BYTES: usize = NUMBER_BYTES + 16 + 1;
const NUMBER_BYTES: usize = 8;

/// Inspects the lists and the journals of the database in a directory.
pub fn look(directory: &Path) -> Result<Found, JournalError> {
    check(directory)?;
    let found = Found::look(directory)?;
    for number in found.keyspaces.numbers() {
        let keyspace = directory.join("keyspaces").join(number.to_string());
        if !has_list(&keyspace) {
            return missing(
                &keyspace,
                "it is missing, and journals hold changes of its keyspace",
            );
        }
    }
    Ok(found)
}

fn rotten<T>(path: PathBuf, what: &'static str) -> Result<T, JournalError> {
    let offset = 0;
    Err(JournalError::Rotten { path, offset, what })
}

fn missing<T>(keyspace: &Path, what: &'static str) -> Result<T, JournalError> {
    rotten(keyspace.join("current"), what)
}

/// Checks the lists of the database in a directory.
pub fn check(directory: &Path) -> Result<(), JournalError> {
    let keyspaces = directory.join("keyspaces");
    if !env::exists(&keyspaces) {
        return Ok(());
    }
    let version = directory.join("version");
    let first = keyspaces.join("0");
    match env::read_file(&version)? {
        Some(bytes) if bytes != VERSION => {
            return rotten(version, "it does not name the format of the files beside it");
        }
        None if has_list(&first) => {
            return rotten(
                version,
                "it is missing, and names the format of the files beside it",
            );
        }
        _ => {}
    }
    let names = env::list_directory(&keyspaces)?;
    for name in &names {
        check_one(&keyspaces.join(name))?;
    }
    if !has_list(&first) && names.iter().any(|name| has_list(&keyspaces.join(name))) {
        return missing(&first, "it is missing, and names the other keyspaces");
    }
    Ok(())
}

fn has_list(keyspace: &Path) -> bool {
    env::exists(&keyspace.join("current"))
}

/// The list that the content of a keyspace's `current` names; none if it is too short to hold a number.
pub fn list_in_use(keyspace: &Path, current: &[u8]) -> Option<PathBuf> {
    let number = current.first_chunk::<NUMBER_BYTES>()?;
    Some(keyspace.join(format!("v{}", u64::from_le_bytes(*number))))
}

fn check_one(keyspace: &Path) -> Result<(), JournalError> {
    let path = keyspace.join("current");
    let Some(current) = env::read_file(&path)? else {
        let tables = keyspace.join("tables");
        if env::exists(&tables) && !env::list_directory(&tables)?.is_empty() {
            return missing(keyspace, "it is missing, and tables are there");
        }
        return Ok(()); // it was being made when the process ended
    };
    let Ok(current) = <[u8; CURRENT_BYTES]>::try_from(current) else {
        return rotten(path, "it is longer or shorter than what was written");
    };
    let list = list_in_use(keyspace, &current).expect("it is long enough");
    let (sum, kind) = current[NUMBER_BYTES..]
        .split_first_chunk()
        .expect("it is long enough");
    let Some(bytes) = env::read_file(&list)? else {
        return rotten(path, "it names a list of tables that is not there");
    };
    if kind != [0] || xxh3_128(&bytes) != u128::from_le_bytes(*sum) {
        return rotten(list, "it is not the list of tables that was written");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::log::LogDatabase;

    #[test]
    #[allow(clippy::disallowed_methods)] // breaks files
    fn no_flipped_bit_is_missed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (log, _) = LogDatabase::open(directory.path(), None).expect("a new log");
        log.rewrite().expect("tables");
        drop(log);
        check(directory.path()).expect("sound");
        let keyspaces = directory.path().join("keyspaces");
        let version = directory.path().join("version");
        for place in 0..VERSION.len() * 8 {
            let mut rotten = VERSION.to_vec();
            rotten[place / 8] ^= 1 << (place % 8);
            std::fs::write(&version, &rotten).expect("written");
            check(directory.path()).expect_err("a rotten version");
        }
        std::fs::remove_file(&version).expect("removed");
        check(directory.path()).expect_err("no version");
        std::fs::write(&version, VERSION).expect("written");
        let mut broken = 0;
        for keyspace in env::list_directory(&keyspaces).expect("a directory") {
            let keyspace = keyspaces.join(keyspace);
            let current = std::fs::read(keyspace.join("current")).expect("readable");
            let number = u64::from_le_bytes(*current.first_chunk().expect("a number"));
            for path in [keyspace.join("current"), keyspace.join(format!("v{number}"))] {
                let sound = std::fs::read(&path).expect("readable");
                for place in 0..sound.len() {
                    let mut rotten = sound.clone();
                    rotten[place] ^= 1 << (place % 8);
                    std::fs::write(&path, &rotten).expect("written");
                    // A list with another number and the same content is equivalent.
                    let number = u64::from_le_bytes(*rotten.first_chunk().expect("a number"));
                    let same = place < 8
                        && path.ends_with("current")
                        && std::fs::read(keyspace.join(format!("v{number}"))).is_ok();
                    assert!(
                        same || check(directory.path()).is_err(),
                        "byte {place} of {}",
                        path.display()
                    );
                    broken += 1;
                }
                std::fs::write(&path, &sound).expect("written");
            }
        }
        check(directory.path()).expect("sound again");
        assert!(broken > 100);
    }
}
