//! Counts what committed events mean for the metrics.

use crate::metrics::{EngineMetrics, add};
use coretex_domain::Job;
use coretex_domain::approval::ApprovalState;
use coretex_domain::job::{Event, EventKind, StateKind};
use coretex_domain::policy::Verdict;

pub(crate) fn count_job(metrics: &EngineMetrics, job: &Job, fresh: usize) {
    let first = job.history.len().saturating_sub(fresh);
    for (at, entry) in job.history.iter().enumerate().skip(first) {
        // Votes leave no entry: what follows the question is its end.
        let before = at.checked_sub(1).and_then(|before| job.history.get(before));
        if before.is_some_and(|before| before.event.kind() == EventKind::ApprovalRequested) {
            let (state, _) = ApprovalState::after(&entry.event);
            add(&metrics.approvals[state as usize - 1], 1);
        }
        match &entry.event {
            Event::Submitted { .. } => add(&metrics.jobs_submitted, 1),
            Event::Started => {
                add(&metrics.attempts, 1);
                if job.counters.attempts == 1 {
                    metrics.schedule_to_start.observe(entry.time.since(job.ready_time()).0 as f64 / 1e3);
                }
            }
            Event::Returned(_) => add(&metrics.returned_offers, 1),
            Event::Admitted { .. } | Event::Denied(None) | Event::ApprovalRequested | Event::Deferred(_) => {
                count_decision(metrics, job, &entry.event);
            }
            Event::Succeeded
            | Event::Failed(_)
            | Event::TimedOut { .. }
            | Event::Cancelled(_)
            | Event::Expired => {}
            Event::AttemptFailed(_)
            | Event::Approved { .. }
            | Event::ApprovalVoided(_)
            | Event::Denied(Some(_))
            | Event::Rejudged
            | Event::Dispatched(_)
            | Event::Released
            | Event::RetryDue { .. }
            | Event::CancelRequested(_)
            | Event::Annotated(_) => {}
        }
    }
    let kind = job.state.kind();
    let ended_now = kind.is_terminal()
        && job.history[first..].iter().any(|e| Some(e.time) == job.end_time && is_end(&e.event));
    if ended_now {
        metrics.jobs_completed.count(&job.spec.topic, kind);
        if kind == StateKind::Succeeded
            && let (Some(start), Some(end)) = (job.start_time, job.end_time)
        {
            metrics.run_seconds.observe(end.since(start).0 as f64 / 1e3);
        }
    }
}

fn is_end(event: &Event) -> bool {
    matches!(
        event,
        Event::Succeeded
            | Event::Failed(_)
            | Event::TimedOut { .. }
            | Event::Cancelled(_)
            | Event::Expired
            | Event::Denied(_)
    )
}

fn count_decision(metrics: &EngineMetrics, job: &Job, event: &Event) {
    let verdict = match event {
        Event::Denied(_) => Verdict::Deny,
        Event::ApprovalRequested => Verdict::RequireApproval,
        // Without a decision nobody could be asked, which is no verdict.
        Event::Deferred(_) if job.decision.is_none() => return,
        _ => job.decision.as_ref().map_or(Verdict::Allow, |d| d.verdict),
    };
    add(&metrics.decisions[verdict as usize], 1);
}
