//! What the threads of one open store share.

use crate::directory::index_path;
use crate::frame::Key;
use crate::overlay::Overlay;
use crate::segment::Segment;
use crate::settings::Settings;
use crate::space::Space;
use coretex_ports::StoreError;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) key: Key,
    pub(crate) overlay: Overlay,
    pub(crate) space: Space,
    /// Segments in use, oldest first; the last one grows.
    pub(crate) segments: Mutex<VecDeque<Segment>>,
    /// Why the store serves nobody any more.
    failure: OnceLock<StoreError>,
    pub(crate) bytes_max: u64,
    pub(crate) counts: Counts,
}

/// Figures for `stats`.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) commits: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) indexed: AtomicU64,
    /// No made id in the index tells a later time, milliseconds: a later one need not be looked for there.
    pub(crate) newest_made: AtomicU64,
    /// Bytes of the index that hold something.
    pub(crate) index_bytes: AtomicU64,
}

/// Locks a mutex. A panic elsewhere has already failed the store; the data under these locks stays whole
/// because every change under them is a single step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(
        settings: Settings,
        key: Key,
        overlay: Overlay,
        space: Space,
        segments: VecDeque<Segment>,
        bytes_max: u64,
    ) -> Shared {
        Shared {
            settings,
            key,
            overlay,
            space,
            segments: Mutex::new(segments),
            failure: OnceLock::new(),
            bytes_max,
            counts: Counts::default(),
        }
    }

    /// Stops the store for good: nothing is served until it is opened again.
    pub(crate) fn fail(&self, why: StoreError) {
        let _ = self.failure.set(why);
        self.overlay.wake();
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.failure.get() {
            None => Ok(()),
            Some(why) => Err(why.clone()),
        }
    }

    pub(crate) fn used(&self) -> u64 {
        let log: u64 = lock(&self.segments).iter().map(|s| s.size).sum();
        log + self.space.ready_bytes() + self.counts.index_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn growth_refusal(&self) -> Option<StoreError> {
        if self.space.is_disk_full() {
            return Some(StoreError::DiskFull);
        }
        // The log shrinks by itself; what counts against the limit is what stays.
        let used = self.counts.index_bytes.load(Ordering::Relaxed);
        (used >= self.bytes_max).then_some(StoreError::Full { used, max: self.bytes_max })
    }

    pub(crate) fn note_index_bytes(&self, used: u64) {
        self.counts.index_bytes.store(used, Ordering::Relaxed);
    }

    pub(crate) fn index_file(&self) -> std::path::PathBuf {
        index_path(&self.settings.directory)
    }
}
