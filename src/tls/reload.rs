//! What is built from files, and built again when they change.

use super::TlsError;
use crate::env;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The bytes of all files, in the order of their names.
pub type Contents = Vec<Vec<u8>>;

type Build<T> = Box<dyn Fn(&Contents) -> Result<T, TlsError> + Send + Sync>;

/// Something that is made of files. What makes it sees their contents only, so that it is never made of halves.
pub struct Reloaded<T> {
    files: Vec<PathBuf>,
    build: Build<T>,
    kept: Mutex<Kept<T>>,
}

struct Kept<T> {
    contents: Contents,
    /// The complaint about what the files hold now, told once.
    complaint: Option<String>,
    current: Arc<T>,
}

impl<T> Kept<T> {
    fn complain(&mut self, error: &TlsError) {
        let complaint = error.to_string();
        if self.complaint.as_ref() != Some(&complaint) {
            tracing::warn!(%error, "new certificates cannot be used; the ones before stay");
            self.complaint = Some(complaint);
        }
    }
}

impl<T> Reloaded<T> {
    /// Reads the files for the first time, when all must be in order.
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
        })
    }

    /// What the files make now, or made when they were in order last.
    pub fn current(&self) -> Arc<T> {
        if self.files.is_empty() {
            return Arc::clone(&self.lock().current);
        }
        let contents = read(&self.files);
        let mut kept = self.lock();
        match contents {
            Ok(contents) if contents == kept.contents => kept.complaint = None,
            Ok(contents) => match (self.build)(&contents) {
                Ok(built) => {
                    tracing::info!(files = %self.names(), "took new certificates");
                    *kept = Kept {
                        contents,
                        complaint: None,
                        current: Arc::new(built),
                    };
                }
                Err(error) => kept.complain(&error),
            },
            Err(error) => kept.complain(&error),
        }
        Arc::clone(&kept.current)
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
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_leaves_what_was_there() {
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
        let reloaded = Reloaded::new(files, build).expect("a number");
        assert_eq!(*reloaded.current(), 1);
        write("one");
        assert_eq!(*reloaded.current(), 1);
        assert!(reloaded.lock().complaint.is_some());
        write("2");
        assert_eq!(*reloaded.current(), 2);
        env::remove_directory(directory.path()).expect("removed");
        assert_eq!(*reloaded.current(), 2);
        assert!(reloaded.lock().complaint.is_some());
    }
}
