//! The data directory: who may use it, and the files in it.

use coretex_ports::StoreError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const WORLD_WRITABLE: u32 = 0o002;

/// A data directory this process holds; let go of when dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    lock: File,
}

pub(crate) fn log_dir(root: &Path) -> PathBuf {
    root.join("log")
}

pub(crate) fn index_path(root: &Path) -> PathBuf {
    root.join("index.db")
}

/// An I/O error in the words of the port.
pub(crate) fn refuse(what: impl std::fmt::Display, e: &io::Error) -> StoreError {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull,
        _ => StoreError::Unavailable(format!("{what}: {e}")),
    }
}

/// Options for files that only this user may read.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

// === impl Directory ===

impl Directory {
    /// Takes hold of a directory, making it if it is missing.
    pub(crate) fn hold(root: &Path, create: bool) -> Result<Directory, StoreError> {
        if create {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(root).map_err(|e| refuse(root.display(), &e))?;
        }
        let mode = fs::metadata(root).map_err(|e| refuse(root.display(), &e))?.mode();
        if mode & WORLD_WRITABLE != 0 {
            return Err(StoreError::Unavailable(format!(
                "{} may be written by everyone (mode {:o}); run `chmod o-w` on it",
                root.display(),
                mode & 0o7777
            )));
        }
        let path = root.join("LOCK");
        let mut lock = private()
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| refuse(format_args!("{} cannot be written", path.display()), &e))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid);
            let pid = pid.trim();
            return Err(StoreError::InUse {
                by: if pid.is_empty() { "another process".into() } else { format!("process {pid}") },
            });
        }
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()));
        written.map_err(|e| refuse(path.display(), &e))?;
        if create {
            let log = log_dir(root);
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(&log).map_err(|e| refuse(log.display(), &e))?;
            sync_dir(root).map_err(|e| refuse(root.display(), &e))?;
        }
        Ok(Directory { root: root.to_owned(), lock })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The kernel would do it with the last descriptor; a fork could still hold one.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}
