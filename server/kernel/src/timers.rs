//! When a job needs attention next, and what for. Pure functions of the job and its topic's settings.

use coretex_domain::job::State;
use coretex_domain::job::spec::Timeouts;
use coretex_domain::limits::CANCEL_GRACE;
use coretex_domain::topic::Settings;
use coretex_domain::{Job, Time};

/// What a job is due for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The total deadline.
    Total,
    /// Cancel was asked and the grace is over.
    CancelGrace,
    /// The first start did not come in time.
    ScheduleToStart,
    StartToClose,
    Stall,
    /// Nobody decided in time.
    Approval,
    /// Ask the policy again.
    Judge,
    /// The backoff is over.
    Retry,
    /// The schedule time has come.
    Ready,
}

/// The effective timeouts of a job.
pub fn timeouts(job: &Job, settings: Option<&Settings>) -> Timeouts {
    let own = &job.spec.options().timeouts;
    let mut asked = settings.map_or_else(|| own.clone(), |s| own.or(&s.timeouts));
    if job.constraints().is_some() {
        asked.start_to_close = Some(job.capped_runtime(asked.start_to_close()));
    }
    asked
}

/// True if the job waits in the line of a throttle, which lets it in: it needs no timer of its own. One that waits for
/// its schedule time first is not in line yet.
pub(crate) fn is_paced(job: &Job) -> bool {
    let State::Pending(Some(why)) = &job.state else { return false };
    let is_throttled = job.decision.as_ref().is_some_and(|decision| decision.throttle().is_some());
    is_throttled && job.spec.options().schedule_time != Some(why.0)
}

/// Every deadline of a job, soonest first among equals in order of weight.
fn deadlines(job: &Job, settings: Option<&Settings>) -> [Option<(Time, Due)>; 6] {
    let mut found = [None; 6];
    let limits = timeouts(job, settings);
    found[0] = limits.total.map(|span| (job.create_time + span, Due::Total));
    let lease = job.state.lease();
    if lease.is_some() {
        found[1] = job.rare().cancel.as_ref().map(|c| (c.time + CANCEL_GRACE, Due::CancelGrace));
    }
    if job.counters.attempts == 0 && !matches!(job.state, State::Running(_) | State::AwaitingApproval) {
        let from = job.spec.options().schedule_time.unwrap_or(job.create_time).max(job.create_time);
        found[2] = limits
            .schedule_to_start
            .map(|span| (job.answered_time().map_or(from, |at| at.max(from)) + span, Due::ScheduleToStart));
    }
    match &job.state {
        State::Running(_) => {
            let started = job.start_time.unwrap_or(job.update_time);
            found[3] = Some((started + limits.start_to_close(), Due::StartToClose));
            found[4] = limits.stall.map(|span| (job.rare().last_sign.unwrap_or(started) + span, Due::Stall));
        }
        State::Pending(Some(why)) if !is_paced(job) => found[5] = Some((why.0, Due::Judge)),
        State::Retrying { due } => found[5] = Some((*due, Due::Retry)),
        State::AwaitingApproval => found[5] = job.approval_deadline().map(|at| (at, Due::Approval)),
        State::Pending(_)
        | State::Scheduled
        | State::Dispatched(_)
        | State::Succeeded
        | State::Failed
        | State::TimedOut
        | State::Cancelled
        | State::Denied
        | State::Expired => {}
    }
    found
}

/// The next time this job needs attention, if any. Jobs without deadlines cost nothing here.
pub(crate) fn next_due(job: &Job, settings: Option<&Settings>, now: Time) -> Option<Time> {
    if job.state.kind().is_terminal() {
        return None;
    }
    let ready = match job.state {
        State::Scheduled => Some(job.ready_time()).filter(|at| *at > now),
        State::Dispatched(_) | State::Pending(None)
            if job.spec.options.is_none() && settings.is_none() && !job.is_cancel_requested() =>
        {
            return None;
        }
        _ => None,
    };
    if matches!(job.state, State::Scheduled) && job.spec.options.is_none() && settings.is_none() {
        return ready;
    }
    deadlines(job, settings).into_iter().flatten().map(|(at, _)| at).chain(ready).min()
}

/// What the job is due for at `now`; the gravest first.
pub(crate) fn due(job: &Job, settings: Option<&Settings>, now: Time) -> Option<Due> {
    if job.state.kind().is_terminal() {
        return None;
    }
    let reached =
        deadlines(job, settings).into_iter().flatten().find(|(at, _)| *at <= now).map(|(_, due)| due);
    reached
        .or_else(|| (matches!(job.state, State::Scheduled) && job.ready_time() <= now).then_some(Due::Ready))
}
