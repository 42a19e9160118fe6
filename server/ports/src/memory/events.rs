//! From history entries to the rows watchers see; shared by every backend so that all tell the same story.

use crate::store::EventRow;
use coretex_domain::Job;
use coretex_domain::job::{Entry, Event, StateKind, machine};
use std::sync::Arc;

/// Where a job stood between two entries of its history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// None before the first entry.
    pub state: Option<StateKind>,
    /// Attempts started so far.
    pub attempts: u32,
    /// Who holds or held the newest lease.
    pub worker_id: Option<Arc<str>>,
}

impl Standing {
    /// Where a job stood after `history`.
    pub fn after(history: &[Entry]) -> Standing {
        let mut standing = Standing::default();
        for entry in history {
            standing.take(entry);
        }
        standing
    }

    /// Moves over one entry.
    pub fn take(&mut self, entry: &Entry) {
        let to = match self.state {
            None => Some(StateKind::Pending),
            Some(from) => machine::target(from, entry.event.kind()),
        };
        match &entry.event {
            Event::Started => self.attempts += 1,
            Event::Dispatched(lease) => self.worker_id = Some(lease.worker_id.clone()),
            Event::Submitted { .. }
            | Event::Admitted { .. }
            | Event::Deferred(_)
            | Event::ApprovalRequested
            | Event::Approved { .. }
            | Event::ApprovalVoided(_)
            | Event::Rejudged
            | Event::Denied(_)
            | Event::Returned(_)
            | Event::Released
            | Event::Succeeded
            | Event::AttemptFailed(_)
            | Event::Failed(_)
            | Event::TimedOut { .. }
            | Event::RetryDue { .. }
            | Event::Expired
            | Event::CancelRequested(_)
            | Event::Cancelled(_)
            | Event::Annotated(_) => {}
        }
        self.state = to.or(self.state);
    }

    /// The number the open or next attempt carries.
    pub fn attempt(&self) -> u32 {
        match self.state {
            Some(StateKind::Scheduled | StateKind::Dispatched) => self.attempts + 1,
            Some(
                StateKind::Pending
                | StateKind::AwaitingApproval
                | StateKind::Running
                | StateKind::Retrying
                | StateKind::Succeeded
                | StateKind::Failed
                | StateKind::TimedOut
                | StateKind::Cancelled
                | StateKind::Denied
                | StateKind::Expired,
            )
            | None => self.attempts,
        }
    }
}

/// Hands one row per entry of the last `fresh` of a job to `take`, oldest first.
pub fn event_rows(job: &Job, fresh: usize, mut take: impl FnMut(EventRow)) {
    let known = job.history.len().saturating_sub(fresh);
    let mut standing = Standing::after(&job.history[..known]);
    for (revision, entry) in (known as u64 + 1..).zip(&job.history[known..]) {
        let from = standing.state;
        standing.take(entry);
        take(EventRow {
            shard: job.shard,
            entry: entry.clone(),
            from,
            to: standing.state.unwrap_or(StateKind::Pending),
            attempt: standing.attempt(),
            worker_id: standing.worker_id.clone(),
            namespace: job.namespace.clone(),
            job_id: job.id.clone(),
            topic: job.spec.topic.clone(),
            labels: job.spec.options().labels.clone(),
            revision,
            policy: job.decision.as_ref().map(|decision| decision.policy.clone()),
        });
    }
}
