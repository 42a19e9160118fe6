//! The memory store: the port in plain maps, the reference every backend is compared with.
//!
//! Keeps nothing beyond the process. A [`Faults`] hook decides how each commit ends, for simulations.

pub mod events;
mod state;

use crate::store::{
    AckLevel, BackupReport, BoxFuture, Claim, Cleaned, Group, Guarantees, KeyRow, Outcome, Page, Scan, Stats,
    Store, StoreError,
};
use coretex_domain::{Job, JobId, Namespace, Time, limits};
use state::State;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How the memory store is set up.
#[derive(Clone)]
pub struct Settings {
    /// Events kept for watchers; older ones are compacted.
    pub events_max: usize,
    pub faults: Option<Arc<dyn Faults>>,
}

/// What a simulation wants of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Goes as it should.
    Pass,
    /// Refused before anything was written.
    Refuse(StoreError),
    /// Written, but the caller is told that nobody knows.
    UnknownCommitted,
    /// Not written, and the caller is told that nobody knows.
    UnknownLost,
}

/// Decides how commits end.
pub trait Faults: Send + Sync {
    fn on_commit(&self, group: &Group) -> Fault;
    /// Answer of `refuses_growth`.
    fn on_growth(&self) -> Option<StoreError> {
        None
    }
}

/// A store in plain maps. Clones share their content, so a simulation can reopen it after a crash.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    faults: Option<Arc<dyn Faults>>,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Settings {
        Settings { events_max: 100_000, faults: None }
    }
}

// === impl MemoryStore ===

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new(Settings::default())
    }
}

impl MemoryStore {
    pub fn new(settings: Settings) -> MemoryStore {
        let state = Arc::new(Mutex::new(State::new(settings.events_max)));
        MemoryStore { state, faults: settings.faults }
    }

    /// Opens what a closed or crashed owner left, as a new process would.
    pub fn reopen(&self) -> MemoryStore {
        self.state().reopen();
        self.clone()
    }

    /// A panic while the lock was held can leave half a group behind, so nothing is served after one.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state.is_poisoned() {
            state.close();
        }
        state
    }
}

impl Store for MemoryStore {
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            name: "memory",
            ack: AckLevel::Memory,
            survives_process_crash: false,
            survives_power_loss: false,
            is_shared: false,
            pipelined: true,
            value_max: limits::PAYLOAD_MAX,
        }
    }

    fn claim(&self, _owner: &str) -> BoxFuture<Result<Claim, StoreError>> {
        Box::pin(ready(self.state().claim()))
    }

    fn commit(&self, group: Group) -> BoxFuture<Outcome> {
        let fault = self.faults.as_ref().map_or(Fault::Pass, |faults| faults.on_commit(&group));
        Box::pin(ready(self.state().commit(group, fault)))
    }

    fn read(
        &self,
        namespace: Namespace,
        ids: Vec<JobId>,
    ) -> BoxFuture<Result<Vec<Option<Arc<Job>>>, StoreError>> {
        Box::pin(ready(self.state().read(&namespace, &ids)))
    }

    fn read_key(&self, namespace: Namespace, key: Arc<str>) -> BoxFuture<Result<Option<KeyRow>, StoreError>> {
        Box::pin(ready(self.state().read_key(namespace, key)))
    }

    fn scan(&self, scan: Scan) -> BoxFuture<Result<Page, StoreError>> {
        Box::pin(ready(self.state().scan(scan)))
    }

    fn clean(&self, now: Time, limit: usize) -> BoxFuture<Result<Cleaned, StoreError>> {
        Box::pin(ready(self.state().clean(now, limit)))
    }

    fn refuses_growth(&self) -> Option<StoreError> {
        self.faults.as_ref().and_then(|faults| faults.on_growth())
    }

    fn backup(&self, _directory: std::path::PathBuf) -> BoxFuture<Result<BackupReport, StoreError>> {
        Box::pin(ready(Err(StoreError::Unsupported("write a backup"))))
    }

    fn stats(&self) -> Stats {
        self.state().stats()
    }

    fn close(&self) -> BoxFuture<Result<(), StoreError>> {
        self.state().close();
        Box::pin(ready(Ok(())))
    }
}
