//! The file store, under the suite of all stores.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use coretex_conformance::Harness;
use coretex_ports::Store;
use coretex_store_embedded::{FileStore, Settings, restore};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

struct Files {
    directory: tempfile::TempDir,
    restored: AtomicU32,
}

fn settings(directory: PathBuf) -> Settings {
    let mut settings = Settings::new(directory);
    settings.segment_bytes = 1 << 20;
    settings.index_round = Duration::from_millis(20);
    settings.checkpoint_bytes = 1 << 20;
    settings
}

impl Files {
    fn new() -> Files {
        Files { directory: tempfile::tempdir().unwrap(), restored: AtomicU32::new(0) }
    }
}

impl Harness for Files {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(FileStore::open(settings(self.directory.path().join("data"))).unwrap())
    }
    fn crash(&self, store: Arc<dyn Store>) {
        drop(store);
    }
    fn backup_directory(&self) -> Option<PathBuf> {
        Some(self.directory.path().join("backup"))
    }
    fn restore(&self, backup: PathBuf) -> Option<Arc<dyn Store>> {
        let n = self.restored.fetch_add(1, Ordering::Relaxed);
        let to = self.directory.path().join(format!("restored-{n}"));
        restore(&backup, &to).unwrap();
        Some(Arc::new(FileStore::open(settings(to)).unwrap()))
    }
}

coretex_conformance::suite!(Files::new());
