//! The memory store, under the suite it is the model of.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use coretex_conformance::Harness;
use coretex_ports::Store;
use coretex_ports::memory::MemoryStore;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

struct Memory(Mutex<Option<MemoryStore>>);

impl Harness for Memory {
    fn open(&self) -> Arc<dyn Store> {
        let mut kept = self.0.lock().unwrap();
        Arc::new(kept.get_or_insert_default().reopen())
    }
    fn crash(&self, store: Arc<dyn Store>) {
        drop(store);
        *self.0.lock().unwrap() = None;
    }
    fn backup_directory(&self) -> Option<PathBuf> {
        None
    }
    fn restore(&self, _backup: PathBuf) -> Option<Arc<dyn Store>> {
        None
    }
}

coretex_conformance::suite!(Memory(Mutex::new(None)));
