//! A log file that is put aside once it is large: its backups beside it, which a thread of their own compresses and removes.

use super::rotation::{COMPRESSED, Rotation, backup_name, chores};
use crate::env::{self, AppendFile, DiskFile, FileError};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// lumberjack's: a log may say more than others are to know.
const NEW_FILE_MODE: u32 = 0o600;

/// What is compressed at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// The file, and where it is.
#[derive(Debug)]
pub struct RotatedFile {
    place: Place,
    rotation: Rotation,
    file: AppendFile,
    bytes: u64,
    /// Told when there is one more backup.
    rotated: Arc<Notify>,
}

/// A directory and a name in it.
#[derive(Clone, Debug)]
struct Place {
    directory: PathBuf,
    name: String,
}

impl Place {
    fn of(path: &Path) -> Self {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Self {
            directory: directory.unwrap_or(Path::new(".")).to_owned(),
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }
}

impl RotatedFile {
    /// Opens the file, or makes it with the directories above it, and starts the thread that looks after its backups.
    pub fn open(path: &Path, rotation: Rotation) -> Result<Self, FileError> {
        let place = Place::of(path);
        if !env::exists(&place.directory) {
            env::create_directory(&place.directory)?;
        }
        let file = AppendFile::open(&place.path(), NEW_FILE_MODE)?;
        let opened = Self {
            bytes: file.length()?,
            place,
            rotation,
            file,
            rotated: Arc::default(),
        };
        // There may be something to do since the last run.
        opened.rotated.notify_one();
        let (place, rotated) = (opened.place.clone(), Arc::clone(&opened.rotated));
        env::thread("log-backups", 1, move || async move {
            env::yield_to_all();
            loop {
                rotated.notified().await;
                if let Err(error) = look_after_backups(&place, rotation) {
                    tracing::warn!(%error, "cannot look after old log files: they take room on the disk");
                }
            }
        });
        Ok(opened)
    }

    /// Writes a line, into a new file if it does not fit into this one.
    pub fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        let bytes = line.len() as u64;
        if self.bytes > 0 && self.bytes + bytes > self.rotation.bytes_max {
            if let Err(error) = self.rotate() {
                tracing::warn!(%error, "cannot rotate the log file: it grows beyond its size");
            }
            // Where it failed, the next attempt has to wait until as much has been written once more.
            self.bytes = 0;
        }
        self.file.write_all(line)?;
        self.bytes += bytes;
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), FileError> {
        let (path, mode) = (self.place.path(), self.file.mode()?);
        // Somebody may have moved it away.
        if env::exists(&path) {
            let backup = backup_name(&self.place.name, clock(self.rotation));
            env::rename(&path, &self.place.directory.join(backup))?;
        }
        self.file = AppendFile::open(&path, mode)?;
        self.rotated.notify_one();
        Ok(())
    }
}

/// The time that backups are named after.
fn clock(rotation: Rotation) -> Duration {
    let now = env::unix_time();
    if !rotation.local_time {
        return now;
    }
    let seconds = now
        .as_secs()
        .saturating_add_signed(env::local_time_ahead_seconds(now));
    Duration::new(seconds, now.subsec_nanos())
}

fn look_after_backups(place: &Place, rotation: Rotation) -> Result<(), FileError> {
    let names = env::list_directory(&place.directory)?;
    let chores = chores(&place.name, &names, clock(rotation), rotation);
    for name in chores.remove {
        env::remove_file(&place.directory.join(name))?;
    }
    for name in chores.compress {
        compress(&place.directory.join(name))?;
    }
    Ok(())
}

/// Puts a compressed file in the place of another. One that was begun before is begun again.
fn compress(path: &Path) -> Result<(), FileError> {
    let target = PathBuf::from(format!("{}{COMPRESSED}", path.display()));
    env::remove_file(&target)?;
    let Some(mut source) = DiskFile::look_into(path)? else {
        return Ok(());
    };
    let file = AppendFile::open(&target, NEW_FILE_MODE)?;
    file.set_mode(AppendFile::open(path, NEW_FILE_MODE)?.mode()?)?;
    let mut encoder = GzEncoder::new(file, Compression::default());
    let mut chunk = vec![0; CHUNK_BYTES];
    let written = loop {
        match source.read(&mut chunk)? {
            0 => break encoder.finish(),
            bytes => {
                if let Err(error) = encoder.write_all(&chunk[..bytes]) {
                    break Err(error);
                }
            }
        }
    };
    match written {
        Ok(file) => {
            file.sync()?;
            env::remove_file(path)
        }
        Err(error) => {
            env::remove_file(&target)?;
            Err(FileError::new("write", &target, error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn content(path: &Path) -> Vec<u8> {
        env::read_file(path).expect("readable").expect("it is there")
    }

    fn names(directory: &Path) -> Vec<String> {
        env::list_directory(directory).expect("it is there")
    }

    #[test]
    #[cfg(not(madsim))]
    fn a_file_is_put_aside_and_its_backups_are_compressed_and_removed() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let directory = scratch.path().join("made");
        let path = directory.join("etcd.log");
        let rotation = Rotation {
            bytes_max: 100,
            backups_max: 2,
            compress: true,
            ..Rotation::default()
        };
        let mut file = RotatedFile::open(&path, rotation).expect("it can be made");
        for number in 10..40 {
            file.write(format!("line {number}\n").as_bytes()).expect("room");
            // Backups that are made in the same millisecond have one name.
            env::wait_for_disk();
        }
        let text = String::from_utf8(content(&path)).expect("text");
        assert!(text.len() <= 100 && text.ends_with("line 39\n"), "{text}");
        let is_tidy = || {
            names(&directory)
                .iter()
                .filter(|name| name.ends_with(".log.gz"))
                .count()
                == 2
                && names(&directory).len() == 3
        };
        for _ in 0..10_000 {
            if is_tidy() {
                break;
            }
            env::wait_for_disk();
        }
        let backups: Vec<_> = names(&directory)
            .into_iter()
            .filter(|name| name.ends_with(".log.gz"))
            .collect();
        assert_eq!(backups.len(), 2, "{:?}", names(&directory));
        let mut newest = String::new();
        let bytes = content(&directory.join(&backups[1]));
        flate2::read::GzDecoder::new(&bytes[..])
            .read_to_string(&mut newest)
            .expect("gzip");
        let first = text.lines().next().expect("a line");
        let number: u32 = first[5..].parse().expect("a number");
        assert!(newest.ends_with(&format!("line {}\n", number - 1)), "{newest}");
    }

    #[test]
    #[cfg(not(madsim))]
    fn a_file_that_was_moved_away_is_made_anew_without_a_backup() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let path = directory.path().join("etcd.log");
        let rotation = Rotation {
            bytes_max: 10,
            ..Rotation::default()
        };
        let mut file = RotatedFile::open(&path, rotation).expect("it can be made");
        file.write(b"12345678\n").expect("room");
        env::rename(&path, &directory.path().join("moved")).expect("it moves");
        file.write(b"9\n").expect("room");
        assert_eq!(names(directory.path()), ["etcd.log", "moved"]);
    }
}
