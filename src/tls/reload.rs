//! Values that are built from files, and rebuilt when the files change.

use super::TlsError;
use crate::env;
use crate::mutants::{self, Mutant};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Files that cannot be read within this time count as unchanged.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// The bytes of all files, in the order of their names.
pub type Contents = Vec<Vec<u8>>;

type Build<T> = Box<dyn Fn(&Contents) -> Result<T, TlsError> + Send + Sync>;

/// A value that is built from files. The builder gets all contents together, so it never combines old and new files.
pub struct Reloaded<T> {
    files: Vec<PathBuf>,
    build: Build<T>,
    kept: Mutex<Kept<T>>,
    /// Permits to read the files.
    turns: Arc<Semaphore>,
}

struct Kept<T> {
    contents: Contents,
    /// The error about the present content of the files, logged once.
    complaint: Option<String>,
    current: Arc<T>,
}

impl<T> Kept<T> {
    fn complain(&mut self, error: &dyn std::fmt::Display) {
        let complaint = error.to_string();
        if self.complaint.as_ref() != Some(&complaint) {
            tracing::warn!(%error, "new certificates cannot be used; the ones before stay");
            self.complaint = Some(complaint);
        }
    }
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Reads the files for the first time; all must be valid.
    pub fn new(
        files: Vec<PathBuf>,
        build: impl Fn(&Contents) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let contents = read(&files)?;
        let current = Arc::new(build(&contents)?);
        Ok(Self {
            files,
            build: Box::new(build),
            kept: Mutex::new(Kept {
                contents,
                complaint: None,
                current,
            }),
            turns: Arc::new(Semaphore::new(1)),
        })
    }

    /// The value for the present files, or for the last valid ones. A handshake may run on a thread that must not wait for the
    /// disk, so another thread reads the files, one reader at a time. If the disk hangs, the caller waits for a bounded time.
    pub async fn current(self: &Arc<Self>) -> Arc<T> {
        if mutants::active(Mutant::CertificatesReadInPlace) {
            self.refresh();
        } else if !self.files.is_empty() {
            let refreshed = async {
                // Never closed.
                let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else {
                    return;
                };
                let this = Arc::clone(self);
                env::blocking(move || {
                    this.refresh();
                    drop(turn);
                })
                .await;
            };
            if env::timeout(READ_WITHIN, refreshed).await.is_err() {
                self.lock().complain(&format!("not read within {READ_WITHIN:?}"));
            }
        }
        Arc::clone(&self.lock().current)
    }

    /// Reads the files, and rebuilds the value if they have changed.
    fn refresh(&self) {
        if mutants::active(Mutant::CertificatesKept) {
            return;
        }
        let contents = match read(&self.files) {
            Ok(contents) => contents,
            Err(error) => return self.lock().complain(&error),
        };
        if contents == self.lock().contents {
            self.lock().complaint = None;
            return;
        }
        match (self.build)(&contents) {
            Ok(built) => {
                tracing::info!(files = %self.names(), "took new certificates");
                *self.lock() = Kept {
                    contents,
                    complaint: None,
                    current: Arc::new(built),
                };
            }
            Err(error) => self.lock().complain(&error),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        names.join(",")
    }
}

fn read(files: &[PathBuf]) -> Result<Contents, TlsError> {
    let mut contents = Vec::with_capacity(files.len());
    for file in files {
        let bytes = env::read_file(file)?.ok_or_else(|| TlsError::Missing(file.clone()))?;
        contents.push(bytes);
    }
    Ok(contents)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // the tests own the executor
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_used_leaves_what_was_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("number");
        let write = |text: &str| env::write_file(&path, text.as_bytes()).expect("a scratch file");
        let build = |contents: &Contents| {
            let text = String::from_utf8_lossy(&contents[0]).into_owned();
            text.parse::<i32>().map_err(|error| TlsError::Content {
                path: "number".into(),
                reason: error.to_string(),
            })
        };
        let files = vec![path.clone()];
        assert!(matches!(
            Reloaded::new(files.clone(), build),
            Err(TlsError::Missing(_))
        ));
        write("1");
        let reloaded = Arc::new(Reloaded::new(files, build).expect("a number"));
        assert_eq!(*reloaded.current().await, 1);
        write("one");
        assert_eq!(*reloaded.current().await, 1);
        assert!(reloaded.lock().complaint.is_some());
        write("2");
        assert_eq!(*reloaded.current().await, 2);
        env::remove_directory(directory.path()).expect("removed");
        assert_eq!(*reloaded.current().await, 2);
        assert!(reloaded.lock().complaint.is_some());
    }

    /// The builder blocks, as a read from a hung disk would.
    #[tokio::test]
    async fn a_disk_that_stands_still_leaves_what_was_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("number");
        env::write_file(&path, b"1").expect("a scratch file");
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let build = move |contents: &Contents| {
            if contents[0] == b"2" {
                let _ = wait.lock().expect("one at a time").recv();
            }
            Ok(contents[0].clone())
        };
        let reloaded = Arc::new(Reloaded::new(vec![path.clone()], build).expect("some bytes"));
        env::write_file(&path, b"2").expect("a scratch file");
        for _ in 0..2 {
            assert_eq!(*reloaded.current().await, b"1");
        }
        drop(go_on);
        assert_eq!(*reloaded.current().await, b"2");
    }
}
