//! What one namespace holds and uses, and who waits for room in it.
//!
//! Open jobs are counted from what is committed; jobs on their way hold a place until they are answered. A commit is counted
//! before its answer, so for a moment a job may be counted twice, and never not at all: who finds no room only because of
//! places on their way waits until those are settled.

use super::quotas::{Bucket, exceeded};
use super::{NamespaceSettings, Quotas};
use coretex_domain::{Job, JobId, Refusal, Span, Time};
use coretex_ports::Env;
use coretex_ports::memory::events::event_rows;
use rustc_hash::FxHashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How long a submit waits for others to be answered before it is refused.
const SETTLED_WITHIN: Span = Span(2_000);

#[derive(Default)]
pub(super) struct Tenant {
    inner: Mutex<Inner>,
    /// Rung when a place is given back.
    settled: Notify,
}

#[derive(Default)]
struct Inner {
    settings: NamespaceSettings,
    /// Jobs that have not ended, as committed. None: not counted.
    open: Option<u64>,
    /// While the store is walked: what changed meanwhile.
    counting: Option<Counting>,
    /// Jobs on their way.
    coming: u64,
    sessions_coming: u64,
    watches: u64,
    submits: Bucket,
    bytes: Bucket,
}

#[derive(Default)]
struct Counting {
    open: FxHashSet<JobId>,
    ended: FxHashSet<JobId>,
}

/// What a place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Jobs(u64),
    Session,
    Watch,
}

/// Room that is taken for as long as this is held.
pub struct Place {
    tenant: Arc<Tenant>,
    taken: For,
}

/// Whether there is room for jobs.
enum Room {
    Taken,
    /// There may be, once those on their way are answered.
    Perhaps(Refusal),
}

// === impl Tenant ===

impl Tenant {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, settings: NamespaceSettings) {
        let mut inner = self.inner();
        if settings.quotas.open_jobs_max.is_none() {
            inner.open = None;
            inner.counting = None;
        }
        inner.settings = settings;
    }

    pub(super) fn topics_declared(&self) -> bool {
        self.inner().settings.topics_declared
    }

    /// Open jobs, where they are counted, and watches.
    pub(super) fn in_use(&self) -> (Option<u64>, u64) {
        let inner = self.inner();
        (inner.open, inner.watches)
    }

    pub(super) fn fill(&self, open: u64) {
        let mut inner = self.inner();
        inner.counting = None;
        inner.open = inner.settings.quotas.open_jobs_max.map(|_| open);
    }

    /// Takes in a job that was committed with so many fresh events.
    pub(super) fn changed(&self, job: &Job, fresh: usize) {
        let mut inner = self.inner();
        let Inner { open, counting, .. } = &mut *inner;
        if open.is_none() && counting.is_none() {
            return;
        }
        event_rows(job, fresh, |row| {
            let was_open = row.from.is_some_and(|from| !from.is_terminal());
            let is_open = !row.to.is_terminal();
            if let Some(open) = open {
                match (was_open, is_open) {
                    // Nothing becomes open again: what is open now and was not before is new.
                    (false, true) => *open = open.saturating_add(1),
                    (true, false) => *open = open.saturating_sub(1),
                    (true, true) | (false, false) => {}
                }
            }
            if let Some(counting) = counting {
                let into = if is_open { &mut counting.open } else { &mut counting.ended };
                into.insert(row.job_id);
            }
        });
    }

    /// Begins to count, if that is needed. What is committed from now on is kept in mind until the walk is over.
    pub(super) fn begin_count(&self) -> bool {
        let mut inner = self.inner();
        let is_needed = inner.settings.quotas.open_jobs_max.is_some() && inner.open.is_none();
        if is_needed {
            inner.counting = Some(Counting::default());
        }
        is_needed
    }

    pub(super) fn end_count(&self, mut found: FxHashSet<JobId>) {
        let mut inner = self.inner();
        // A claim has counted meanwhile, or the quota is gone.
        let Some(counting) = inner.counting.take() else { return };
        found.extend(counting.open);
        inner.open = Some(found.iter().filter(|id| !counting.ended.contains(*id)).count() as u64);
    }

    pub(super) async fn place_of_jobs(
        self: &Arc<Self>,
        env: &Env,
        count: u64,
        bytes: u64,
    ) -> Result<Place, Refusal> {
        let until = env.clock.now().mono + SETTLED_WITHIN;
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let now = env.clock.now().mono;
            let room = self.inner().take_jobs(count, bytes, now)?;
            match room {
                Room::Taken => return Ok(self.place(For::Jobs(count))),
                Room::Perhaps(refusal) if now >= until => return Err(refusal),
                Room::Perhaps(_) => {}
            }
            tokio::select! {
                () = settled => {}
                () = env.clock.sleep_until(until) => {}
            }
        }
    }

    pub(super) fn place_of_session(self: &Arc<Self>, others: impl FnOnce() -> u64) -> Result<Place, Refusal> {
        let mut inner = self.inner();
        if let Some(limit) = inner.settings.quotas.worker_sessions_max {
            let used = others() + inner.sessions_coming;
            if used >= limit {
                return Err(exceeded("worker_sessions_max", limit, used));
            }
        }
        inner.sessions_coming += 1;
        drop(inner);
        Ok(self.place(For::Session))
    }

    pub(super) fn place_of_watch(self: &Arc<Self>) -> Result<Place, Refusal> {
        let mut inner = self.inner();
        let used = inner.watches;
        match inner.settings.quotas.watches_max {
            Some(limit) if used >= limit => return Err(exceeded("watches_max", limit, used)),
            Some(_) | None => inner.watches += 1,
        }
        drop(inner);
        Ok(self.place(For::Watch))
    }

    fn place(self: &Arc<Self>, taken: For) -> Place {
        Place { tenant: self.clone(), taken }
    }
}

// === impl Inner ===

impl Inner {
    /// Takes room for so many jobs: all of it or nothing.
    fn take_jobs(&mut self, count: u64, bytes: u64, now: Time) -> Result<Room, Refusal> {
        let Quotas { open_jobs_max, submits_per_second, payload_bytes_per_second, .. } = self.settings.quotas;
        if let (Some(limit), Some(open)) = (open_jobs_max, self.open) {
            if open.saturating_add(count) > limit {
                return Err(exceeded("open_jobs_max", limit, open));
            }
            let used = open.saturating_add(self.coming);
            if used.saturating_add(count) > limit {
                return Ok(Room::Perhaps(exceeded("open_jobs_max", limit, used)));
            }
        }
        self.submits.check("submits_per_second", submits_per_second, now)?;
        self.bytes.check("payload_bytes_per_second", payload_bytes_per_second, now)?;
        self.submits.take(submits_per_second, count, now);
        self.bytes.take(payload_bytes_per_second, bytes, now);
        self.coming = self.coming.saturating_add(count);
        Ok(Room::Taken)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.tenant.inner();
        match self.taken {
            For::Jobs(count) => inner.coming = inner.coming.saturating_sub(count),
            For::Session => inner.sessions_coming = inner.sessions_coming.saturating_sub(1),
            For::Watch => inner.watches = inner.watches.saturating_sub(1),
        }
        drop(inner);
        self.tenant.settled.notify_waiters();
    }
}
