//! The directory of a rehearsal with its members' disks; removed with it.

use crate::disk;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Scratch directories of one rehearsal, in memory if the system supports that. Removed when dropped.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        // Of constant length, since members write their paths to their files.
        let path = root.join(format!("callboard-sim-{:010}-{number:010}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory can be made");
        disk::watch(&path).expect("it is there");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        disk::unwatch(&self.0);
        // Leftovers do no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
