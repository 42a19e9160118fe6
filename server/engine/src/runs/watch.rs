//! Who wants to know of changes of a run. A run nobody watches costs one look at a number.

use coretex_domain::resource::Kind;
use coretex_domain::{Resource, Run, RunId, RunKey};
use coretex_ports::Write;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Watches of one engine, by run.
#[derive(Default)]
pub(crate) struct Watches {
    by_run: Mutex<FxHashMap<RunKey, watch::Sender<Option<Arc<Run>>>>>,
    count: AtomicUsize,
}

/// Tells of each committed state of a run; of the newest where several came at once.
pub struct RunWatch {
    watches: Arc<Watches>,
    key: RunKey,
    changes: watch::Receiver<Option<Arc<Run>>>,
}

// === impl Watches ===

impl Watches {
    /// Tells what was committed. A run nobody watches is not even read.
    pub(crate) fn tell(&self, writes: &[Write]) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let by_run = self.by_run.lock().unwrap_or_else(PoisonError::into_inner);
        for write in writes {
            let Write::Resource(row) = write else { continue };
            let Some(sender) = watched(row).and_then(|key| by_run.get(&key)) else { continue };
            if let Ok(run) = Run::of_resource(row) {
                sender.send_replace(Some(Arc::new(run)));
            }
        }
    }

    pub(crate) fn watch(self: &Arc<Watches>, key: RunKey) -> RunWatch {
        let mut by_run = self.by_run.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = by_run.entry(key).or_insert_with(|| watch::Sender::new(None)).subscribe();
        self.count.store(by_run.len(), Ordering::Release);
        RunWatch { watches: self.clone(), key, changes }
    }
}

/// The run a resource is, if it is one.
fn watched(row: &Resource) -> Option<RunKey> {
    let id = (row.kind == Kind::Run).then(|| RunId::parse(&row.name).ok()).flatten()?;
    Some(id.key(&row.namespace))
}

// === impl RunWatch ===

impl RunWatch {
    /// The next state; none once the engine is gone.
    pub async fn next(&mut self) -> Option<Arc<Run>> {
        loop {
            self.changes.changed().await.ok()?;
            let newest = self.changes.borrow_and_update().clone();
            if newest.is_some() {
                return newest;
            }
        }
    }
}

impl Drop for RunWatch {
    fn drop(&mut self) {
        let mut by_run = self.watches.by_run.lock().unwrap_or_else(PoisonError::into_inner);
        // This one is still counted.
        if by_run.get(&self.key).is_some_and(|sender| sender.receiver_count() <= 1) {
            by_run.remove(&self.key);
        }
        self.watches.count.store(by_run.len(), Ordering::Release);
    }
}
