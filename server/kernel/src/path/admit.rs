//! Admit: a PENDING job in; SCHEDULED, DENIED, AWAITING_APPROVAL, or PENDING with a reason and a time out.
//!
//! The policy is a snapshot in the view, so the verdict is part of the same commit as the submit. That it cannot
//! answer is never a verdict: the job stays and is asked about again.

use crate::{Turn, View};
use coretex_domain::job::{Event, State};
use coretex_domain::policy::{Answer, Decision, Facts, Verdict};
use coretex_domain::{Job, JobKey};
use std::sync::Arc;

/// Wait before a throttled job is judged again.
const THROTTLE_RETRY: coretex_domain::Span = coretex_domain::Span::secs(1);

pub(crate) fn admit(view: &mut View, key: JobKey, turn: &mut Turn) {
    let Some(job) = view.job(key).filter(|job| matches!(job.state, State::Pending(_))).cloned() else {
        return;
    };
    let facts = Facts { namespace: job.namespace.as_str(), spec: &job.spec };
    let policy = view.policy.clone();
    let answer = policy.judge(facts, turn.now.wall);
    match answer {
        Answer::Deferred { until, reason } => {
            drop(job);
            view.apply(key, Event::Deferred(Box::new((until, reason))), turn);
        }
        Answer::Decided(decision) => {
            let event = event_for(view, &job, &decision, turn);
            drop(job);
            view.record_decision(key, decision);
            view.apply(key, event, turn);
        }
    }
}

fn event_for(view: &mut View, job: &Job, decision: &Arc<Decision>, turn: &Turn) -> Event {
    match decision.verdict {
        Verdict::Allow | Verdict::AllowWithConstraints => {
            let wanted = job.spec.options().schedule_time.unwrap_or(turn.now.wall).max(turn.now.wall);
            // A job that is judged again keeps the place it had.
            let place = if job.place == 0 { view.next_place(wanted) } else { job.place };
            Event::Admitted { place }
        }
        Verdict::Deny => Event::Denied,
        Verdict::RequireApproval => Event::ApprovalRequested,
        Verdict::Throttle => {
            Event::Deferred(Box::new((turn.now.wall + THROTTLE_RETRY, decision.reason.clone())))
        }
    }
}

impl View {
    fn record_decision(&mut self, key: JobKey, decision: Arc<Decision>) {
        if let Some(slot) = self.jobs.get_mut(&key) {
            Arc::make_mut(&mut slot.job).decision = Some(decision);
        }
    }

    /// True if the job was judged by the policy in force.
    pub(crate) fn is_judged(&self, job: &Job) -> bool {
        job.decision.as_ref().is_some_and(|d| d.policy_version == self.policy.version)
    }
}
