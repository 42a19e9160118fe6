//! How a file store is set up, and the hook that lets a test break its disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// When a commit is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After `fdatasync`.
    Durable,
    /// After the write; synced within 200 ms. Survives the process, not the machine.
    Relaxed,
}

/// Settings of a file store; `Settings::new` gives the ones to use.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    pub directory: PathBuf,
    pub durability: Durability,
    /// Size of one log segment.
    pub segment_bytes: u64,
    /// Log kept for watchers after the index no longer needs it.
    pub events_keep_bytes: u64,
    /// Growth is refused from here on; absent means 80 % of the disk.
    pub bytes_max: Option<u64>,
    /// Committed jobs held in memory until they are indexed; beyond it commits wait.
    pub overlay_bytes_max: usize,
    /// Longest a committed change waits for the index.
    pub index_round: Duration,
    /// The index is synced, and log segments become free, after about this much of it was written.
    pub checkpoint_bytes: u64,
    /// Threads that read the index.
    pub readers: usize,
    pub faults: Option<Arc<dyn Faults>>,
}

/// What happens to one write.
#[derive(Debug)]
pub enum WriteFault {
    Pass,
    /// Nothing is written.
    Fail(std::io::Error),
    /// Only so many bytes are written before it fails.
    Short(usize),
}

/// Sees every write and sync of the log before it happens and may make it fail.
pub trait Faults: Send + Sync {
    fn on_write(&self, _segment: u64, _offset: u64, _bytes: &[u8]) -> WriteFault {
        WriteFault::Pass
    }
    fn on_sync(&self, _segment: u64) -> std::io::Result<()> {
        Ok(())
    }
    /// Before disk space is taken for a new segment.
    fn on_allocate(&self, _bytes: u64) -> std::io::Result<()> {
        Ok(())
    }
}

// === impl Settings ===

impl Settings {
    pub fn new(directory: impl AsRef<Path>) -> Settings {
        Settings {
            directory: directory.as_ref().to_owned(),
            durability: Durability::Durable,
            segment_bytes: 64 << 20,
            events_keep_bytes: 256 << 20,
            bytes_max: None,
            overlay_bytes_max: 128 << 20,
            index_round: Duration::from_millis(250),
            checkpoint_bytes: 48 << 20,
            readers: 2,
            faults: None,
        }
    }
}
