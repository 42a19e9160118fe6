//! When a job must be looked at again, worked out from its record alone.

use coretex_domain::job::{Job, State};
use coretex_domain::{Span, Time};

const CANCEL_GRACE: Span = Span::secs(30);

/// The earliest deadline that does not depend on the settings of a topic.
pub(super) fn earliest(job: &Job) -> Option<Time> {
    let own = &job.spec.options().timeouts;
    let mut found: Vec<Time> = own.total.map(|span| job.create_time + span).into_iter().collect();
    let has_not_started =
        job.counters.attempts == 0 && !matches!(job.state, State::Running(_) | State::AwaitingApproval);
    if let (true, Some(span)) = (has_not_started, own.schedule_to_start) {
        let from = job.spec.options().schedule_time.unwrap_or(job.create_time).max(job.create_time);
        // What people take to answer is not held against the job.
        found.push(job.answered_time().map_or(from, |at| at.max(from)) + span);
    }
    if job.state.lease().is_some()
        && let Some(cancel) = &job.rare().cancel
    {
        found.push(cancel.time + CANCEL_GRACE);
    }
    match &job.state {
        State::Running(_) => {
            let started = job.start_time.unwrap_or(job.update_time);
            found.push(started + own.start_to_close.unwrap_or(Span::hours(1)));
            found.extend(own.stall.map(|span| job.rare().last_sign.unwrap_or(started) + span));
            if own.start_to_close.is_none() {
                // The topic may allow more or less than the default: only the job's own word binds here.
                found.retain(|at| *at != started + Span::hours(1));
            }
        }
        State::AwaitingApproval => {
            let terms = job.decision.as_ref().and_then(|decision| decision.approval());
            found.extend(terms.map(|terms| job.update_time + terms.expires));
        }
        State::Retrying { due } => found.push(*due),
        // A job in line for its rate needs no timer: the line has one, and it may come later than was told.
        State::Pending(Some(why)) => {
            let is_in_line = job.decision.as_ref().is_some_and(|decision| decision.throttle().is_some());
            if !is_in_line || job.spec.options().schedule_time == Some(why.0) {
                found.push(why.0);
            }
        }
        State::Scheduled if job.ready_time() > job.update_time => found.push(job.ready_time()),
        _ => {}
    }
    found.into_iter().min()
}
