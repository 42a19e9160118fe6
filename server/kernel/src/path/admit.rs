//! Admit: a PENDING job in; SCHEDULED, DENIED, AWAITING_APPROVAL, or PENDING with a reason and a time out.
//!
//! The policy is a snapshot in the view, so the verdict is part of the same commit as the submit. That it cannot
//! answer is never a verdict: the job stays and is asked about again.

use crate::input::Ruled;
use crate::path::settle::over_budget;
use crate::throttle::{Paced, pace};
use crate::{Dispatcher, Turn, View};
use coretex_domain::job::{Event, State};
use coretex_domain::policy::{Answer, Decision, Facts, Terms, Verdict};
use coretex_domain::{Job, JobKey, Span};
use std::sync::Arc;

/// Wait before a job is judged again that was throttled without a rate.
const THROTTLE_RETRY: Span = Span::secs(1);

pub(crate) fn admit(view: &mut View, dispatcher: &mut Dispatcher, key: JobKey, turn: &mut Turn) {
    let Some(job) = view.job(key).filter(|job| matches!(job.state, State::Pending(_))).cloned() else {
        return;
    };
    let config = job.rare().config.as_ref().map(|config| config.value());
    let (namespace, submitter) = (job.namespace.as_str(), job.submitter());
    let facts = Facts { namespace, submitter, spec: &job.spec, config };
    let policy = view.policy.clone();
    let answer = policy.judge(facts, turn.now.wall);
    answered(view, dispatcher, job, answer, turn);
}

/// A kernel elsewhere has answered.
pub(crate) fn ruled(view: &mut View, dispatcher: &mut Dispatcher, ruled: Ruled, turn: &mut Turn) {
    let stands = |job: &&Arc<Job>| job.revision == ruled.revision && matches!(job.state, State::Pending(_));
    let Some(job) = view.job(ruled.key).filter(stands).cloned() else { return };
    if let Answer::Decided(decision) = &ruled.answer
        && decision.policy_version != view.policy.version
    {
        // Judged by policies that are not in force here any more, or not yet: by the time it is answered again, they are.
        turn.asked.push(ruled.key);
        return;
    }
    answered(view, dispatcher, job, ruled.answer, turn);
}

fn answered(view: &mut View, dispatcher: &mut Dispatcher, job: Arc<Job>, answer: Answer, turn: &mut Turn) {
    let key = job.key();
    match answer {
        Answer::Asked => {
            // An answer always comes, if only that there is none; until then the job needs no timer to be asked about.
            turn.asked.push(key);
        }
        Answer::Deferred { until, reason } => {
            drop(job);
            view.stop_waiting(key);
            let event = Event::Deferred(Box::new((until, reason)));
            view.apply_with(key, event, turn, |job| job.decision = None);
        }
        Answer::Decided(decision) => decided(view, dispatcher, job, decision, turn),
    }
}

fn decided(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    job: Arc<Job>,
    decision: Arc<Decision>,
    turn: &mut Turn,
) {
    let key = job.key();
    let decision = with_question(&job, decision);
    let event = match decision.verdict {
        Verdict::Allow => admitted(view, &job, turn),
        Verdict::AllowWithConstraints => return constrained(view, job, decision, turn),
        Verdict::Deny => Event::Denied(None),
        Verdict::RequireApproval => Event::ApprovalRequested,
        Verdict::Throttle => {
            let paced = match decision.throttle() {
                Some(throttle) => pace(view, dispatcher, &job, &decision, throttle, turn.now.wall),
                None => Paced::Waits(turn.now.wall + THROTTLE_RETRY),
            };
            match paced {
                Paced::In => admitted(view, &job, turn),
                Paced::Waits(until) => Event::Deferred(Box::new((until, decision.reason.clone()))),
                Paced::Stays => {
                    drop(job);
                    return view.amend(key, turn, |job| job.decision = Some(decision));
                }
            }
        }
    };
    drop(job);
    view.record_decision(key, decision);
    view.apply(key, event, turn);
}

/// A step of a workflow may ask people itself. Where the policy lets it pass, or would only slow it down, they are asked.
fn with_question(job: &Job, decision: Arc<Decision>) -> Arc<Decision> {
    let Some(asks) = job.of_run().and_then(|of_run| of_run.asks.as_ref()) else { return decision };
    match decision.verdict {
        Verdict::Deny | Verdict::RequireApproval => decision,
        Verdict::Allow | Verdict::AllowWithConstraints | Verdict::Throttle => {
            let terms = Terms { approval: Some(asks.clone()), ..Terms::default() };
            Arc::new(Decision {
                verdict: Verdict::RequireApproval,
                rule_id: "workflow".into(),
                reason: "the workflow asks people here".into(),
                terms: Some(Arc::new(terms)),
                ..(*decision).clone()
            })
        }
    }
}

fn admitted(view: &mut View, job: &Job, turn: &Turn) -> Event {
    Event::Admitted { place: place_of(view, job, turn) }
}

/// Where a job that may run now stands in its queue.
pub(crate) fn place_of(view: &mut View, job: &Job, turn: &Turn) -> u64 {
    let wanted = job.spec.options().schedule_time.unwrap_or(turn.now.wall).max(turn.now.wall);
    // A job that is judged again keeps the place it had.
    if job.place == 0 { view.next_place(wanted) } else { job.place }
}

/// The constraints hold from the next lease on. Where earlier attempts used up what they leave, there is none.
fn constrained(view: &mut View, job: Arc<Job>, decision: Arc<Decision>, turn: &mut Turn) {
    let key = job.key();
    let place = admitted(view, &job, turn);
    drop(job);
    view.record_decision(key, decision);
    match view.job(key).and_then(|job| job.spent_share()) {
        Some(share) => {
            let failure = over_budget(&share);
            view.apply_with(key, Event::Denied(None), turn, |job| job.rare_mut().failure = Some(failure));
        }
        None => drop(view.apply(key, place, turn)),
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
