//! Sessions of workers on this node: streams come and go, sessions outlive them until their TTL.

mod attach;
mod deliver;
mod drain;
mod expire;
mod handle;
mod own;
mod poll;
mod stay;
mod written;

pub(crate) use attach::{end_orphans, hello, job_of_lease, restore, resume};
pub(crate) use deliver::Deliveries;
pub(crate) use drain::drain_worker;
pub(crate) use expire::watch;
pub(crate) use handle::shard_of;
pub use handle::{Attached, Outbox, OutputPiece, SessionHandle};
pub(crate) use own::{close_own, open_own};
pub(crate) use poll::{poll, report_by_token};
pub use stay::lease_hash;
pub(crate) use stay::{Asking, Stay};

use crate::api::{ControlAction, ServerFrame};
use coretex_domain::limits::CANCEL_GRACE;
use coretex_domain::{Namespace, SessionId, Span, Time};
use coretex_kernel::input::Stop;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

#[derive(Default)]
struct Registry {
    stays: FxHashMap<SessionId, Arc<Stay>>,
    by_worker: FxHashMap<(Namespace, Arc<str>), SessionId>,
    /// When to look at a session again; its true deadline may have moved since.
    alarms: BTreeSet<(Time, SessionId)>,
    /// When the time of leaving workers is over.
    drains: BTreeSet<(Time, SessionId)>,
}

impl Registry {
    fn take_in(&mut self, stay: Arc<Stay>) {
        let session = stay.session();
        self.by_worker.insert((session.namespace.clone(), session.worker_id.clone()), session.session_id);
        self.stays.insert(session.session_id, stay);
    }
}

/// All sessions of this node.
#[derive(Default)]
pub(crate) struct Sessions {
    registry: Mutex<Registry>,
    alarm_changed: Notify,
}

impl Sessions {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, session: SessionId) -> Option<Arc<Stay>> {
        self.registry().stays.get(&session).cloned()
    }

    pub(crate) fn of_worker(&self, namespace: &Namespace, worker_id: &str) -> Option<Arc<Stay>> {
        let registry = self.registry();
        let id = registry.by_worker.get(&(namespace.clone(), Arc::from(worker_id)))?;
        registry.stays.get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Stay>> {
        self.registry().stays.values().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.registry().stays.len()
    }

    /// Takes in a session. An older one of the same worker stays until its leases are reported or its TTL.
    fn insert(&self, stay: Arc<Stay>) {
        let session = stay.session();
        let deadline = stay.deadline();
        let mut registry = self.registry();
        registry.take_in(stay);
        let is_first = registry.alarms.first().is_none_or(|(at, _)| deadline < *at);
        registry.alarms.insert((deadline, session.session_id));
        drop(registry);
        if is_first {
            self.alarm_changed.notify_one();
        }
    }

    /// Takes in a session that silence does not end.
    fn insert_lasting(&self, stay: &Arc<Stay>) {
        self.registry().take_in(stay.clone());
    }

    fn remove(&self, stay: &Stay) {
        let session = stay.session();
        let mut registry = self.registry();
        registry.stays.remove(&session.session_id);
        let name = (session.namespace.clone(), session.worker_id.clone());
        if registry.by_worker.get(&name) == Some(&session.session_id) {
            registry.by_worker.remove(&name);
        }
    }

    /// Tells a worker to stop a lease.
    pub(crate) fn stop(&self, session: SessionId, lease_id: u64, why: &Stop) {
        let Some(stay) = self.find(session) else { return };
        let force =
            |reason: &str| ControlAction::Cancel { reason: reason.into(), grace: Span::ZERO, force: true };
        let action = match why {
            Stop::Cancel { reason } => {
                ControlAction::Cancel { reason: reason.clone(), grace: CANCEL_GRACE, force: false }
            }
            Stop::TimedOut => force("TIMED_OUT"),
            Stop::Stalled => force("STALLED"),
            // The job has ended, and its handler is told why before it is stopped.
            Stop::OverBudget => {
                let reason = "BUDGET_EXCEEDED".into();
                ControlAction::Cancel { reason, grace: CANCEL_GRACE, force: false }
            }
            Stop::Drained => force("DRAINED"),
            Stop::Reclaim => ControlAction::Reclaim,
        };
        stay.control(lease_id, action);
    }

    /// Leases of the session are closed: they are no longer expected to be held.
    pub(crate) fn leases_closed(&self, session: SessionId, leases: impl Iterator<Item = u64> + Clone) {
        if let Some(stay) = self.find(session) {
            stay.forget_all(leases);
        }
    }

    /// Says goodbye on every stream; sessions stay.
    pub(crate) fn go_away_all(&self, reason: &str, drain: Span) {
        for stay in self.all() {
            stay.send_control(ServerFrame::GoAway {
                reason: reason.into(),
                drain,
                reconnect_after: Span(500),
                is_replaced: false,
            });
        }
    }
}
