//! Histories and live events to the wire: one word per thing that happened, who did it, and in words.

use super::job::{decision_id, rests_on_decision, state};
use super::time::timestamp;
use coretex_contract::v1 as pb;
use coretex_domain::job::{Close, Closed, Entry, Event, Grounds, Job, Note, Ruling, StateKind, machine};
use coretex_ports::EventRow;

/// The history of a job from an index on, oldest first.
pub(crate) fn history(job: &Job, from: usize, count: usize) -> Vec<pb::JobEvent> {
    let mut events = Vec::with_capacity(count.min(job.history.len()));
    let mut before: Option<StateKind> = None;
    let mut attempts = 0;
    let mut worker_id = String::new();
    for (n, entry) in job.history.iter().enumerate().take(from.saturating_add(count)) {
        let after = match before {
            None => StateKind::Pending,
            Some(state) => machine::target(state, entry.event.kind()).unwrap_or(state),
        };
        if let Event::Dispatched(lease) = &entry.event {
            worker_id = lease.worker_id.to_string();
        }
        attempts += u32::from(matches!(entry.event, Event::Started));
        let attempt = attempt_of(&entry.event, attempts);
        if n >= from {
            events.push(row(job, n, entry, before, after, attempt, &worker_id));
        }
        if matches!(entry.event, Event::Returned(_) | Event::Released | Event::AttemptFailed(_)) {
            worker_id.clear();
        }
        before = Some(after);
    }
    events
}

fn row(
    job: &Job,
    index: usize,
    entry: &Entry,
    from: Option<StateKind>,
    to: StateKind,
    attempt: u32,
    worker_id: &str,
) -> pb::JobEvent {
    let event = &entry.event;
    pb::JobEvent {
        time: Some(timestamp(entry.time)),
        r#type: kind(event, from).into(),
        from_state: from.map_or(pb::JobState::Unspecified, state).into(),
        to_state: state(to).into(),
        attempt,
        actor: actor(event, worker_id, policy_of(job)),
        message: message(event),
        sequence: entry.seq,
        worker_id: worker_id.to_owned(),
        shard: job.shard.0.into(),
        decision_id: if rests_on_decision(event) { decision_id(job, index) } else { String::new() },
        failure_type: failure_type(event),
    }
}

fn policy_of(job: &Job) -> &str {
    job.decision.as_ref().map_or("default", |d| d.policy.as_ref())
}

/// The attempt an event is about, when so many have started with it. 0: about none.
fn attempt_of(event: &Event, started: u32) -> u32 {
    match event {
        Event::Dispatched(_) | Event::Returned(_) => started + 1,
        Event::Submitted { .. } | Event::Admitted { .. } | Event::Annotated(_) => 0,
        _ => started,
    }
}

/// Attempts that had started once the event of a row had happened: rows carry the number of the open or next one.
fn started(row: &EventRow) -> u32 {
    match row.to {
        StateKind::Scheduled | StateKind::Dispatched => row.attempt.saturating_sub(1),
        _ => row.attempt,
    }
}

/// An event is about a worker when it begins or ends what that worker holds.
fn worker_of(row: &EventRow) -> &str {
    let is_held = |state: StateKind| matches!(state, StateKind::Dispatched | StateKind::Running);
    let is_note = matches!(row.entry.event, Event::Annotated(_));
    match &row.worker_id {
        Some(worker) if is_note || is_held(row.to) || row.from.is_some_and(is_held) => worker,
        Some(_) | None => "",
    }
}

/// An event for watchers, live or read back.
pub(crate) fn event(row: &EventRow) -> pb::Event {
    let worker_id = worker_of(row);
    let job_id = row.job_id.to_string();
    pb::Event {
        shard: row.shard.0.into(),
        sequence: row.entry.seq,
        time: Some(timestamp(row.entry.time)),
        run_id: job_id.split(':').next().filter(|id| id.starts_with("run_")).unwrap_or_default().to_owned(),
        job_id,
        topic: row.topic.to_string(),
        r#type: kind(&row.entry.event, row.from).into(),
        from_state: row.from.map_or(pb::JobState::Unspecified, state).into(),
        to_state: state(row.to).into(),
        attempt: attempt_of(&row.entry.event, started(row)),
        worker_id: worker_id.to_owned(),
        message: message(&row.entry.event),
        actor: actor(&row.entry.event, worker_id, row.policy.as_deref().unwrap_or("default")),
        revision: row.revision,
    }
}

pub(crate) fn kind(event: &Event, from: Option<StateKind>) -> pb::JobEventType {
    use pb::JobEventType as T;
    match event {
        Event::Submitted { .. } => T::Submitted,
        Event::Admitted { .. } => T::Admitted,
        Event::Deferred(_) => T::Deferred,
        Event::ApprovalRequested => T::ApprovalRequested,
        Event::Approved { .. } => T::Approved,
        Event::ApprovalVoided(_) | Event::Rejudged => T::Rejudged,
        Event::Denied(_) if from == Some(StateKind::AwaitingApproval) => T::Rejected,
        Event::Denied(_) => T::Denied,
        Event::Dispatched(_) => T::Dispatched,
        Event::Returned(_) => T::Returned,
        Event::Started => T::Started,
        Event::Released => T::Released,
        Event::Succeeded => T::Succeeded,
        Event::AttemptFailed(closed) => match closed.0.close {
            Close::TimedOut | Close::Stalled => T::TimedOut,
            Close::WorkerLost => T::WorkerLost,
            Close::Failed | Close::NonRetryable | Close::Undeliverable | Close::OverBudget => T::Failed,
        },
        Event::Failed(_) => T::Failed,
        Event::TimedOut { .. } => T::TimedOut,
        Event::RetryDue { .. } => T::RetryDue,
        Event::Expired => T::Expired,
        Event::CancelRequested(_) => T::CancelRequested,
        Event::Cancelled(_) => T::Cancelled,
        Event::Annotated(_) => T::Annotated,
    }
}

fn closed_of(event: &Event) -> Option<&Closed> {
    match event {
        Event::AttemptFailed(closed) => Some(&closed.0),
        Event::Failed(closed) => Some(closed),
        _ => None,
    }
}

fn failure_type(event: &Event) -> String {
    match (event, closed_of(event)) {
        (_, Some(closed)) => closed.kind.to_string(),
        (Event::TimedOut { total: true }, None) => "TOTAL_TIMEOUT".into(),
        (Event::TimedOut { total: false }, None) => "START_TO_CLOSE_TIMEOUT".into(),
        (Event::Expired, None) => "SCHEDULE_TO_START_TIMEOUT".into(),
        (_, None) => String::new(),
    }
}

pub(crate) fn actor(event: &Event, worker_id: &str, policy: &str) -> String {
    match event {
        Event::Submitted { actor } => actor.as_deref().unwrap_or_default().to_owned(),
        Event::CancelRequested(cancel) | Event::Cancelled(Some(cancel)) => cancel.actor.to_string(),
        Event::Admitted { .. }
        | Event::Denied(None)
        | Event::Deferred(_)
        | Event::ApprovalRequested
        | Event::Rejudged => {
            format!("policy:{policy}")
        }
        Event::Started | Event::Released | Event::Succeeded => format!("worker:{worker_id}"),
        Event::AttemptFailed(_) | Event::Failed(_) => match closed_of(event).map(|c| c.close) {
            Some(Close::Failed | Close::NonRetryable) => format!("worker:{worker_id}"),
            Some(Close::TimedOut | Close::Stalled) => "system:timer".into(),
            Some(Close::WorkerLost) => "system:session".into(),
            Some(Close::OverBudget) => "system:budget".into(),
            Some(Close::Undeliverable) | None => "system:dispatch".into(),
        },
        Event::TimedOut { .. } | Event::RetryDue { .. } | Event::Expired => "system:timer".into(),
        Event::Dispatched(_) | Event::Returned(_) => "system:dispatch".into(),
        Event::Approved { ruling: Some(ruling), .. }
        | Event::ApprovalVoided(Some(ruling))
        | Event::Denied(Some(ruling)) => ruled_by(ruling, policy),
        Event::Approved { ruling: None, .. }
        | Event::ApprovalVoided(None)
        | Event::Cancelled(None)
        | Event::Annotated(_) => "system".into(),
    }
}

/// Whoever decided last, or what did.
fn ruled_by(ruling: &Ruling, policy: &str) -> String {
    match ruling.grounds {
        Grounds::Votes | Grounds::Edit => ruling.by.last().map(ToString::to_string).unwrap_or_default(),
        Grounds::Expiry => "system:timer".into(),
        Grounds::Policy => format!("policy:{policy}"),
    }
}

pub(crate) fn message(event: &Event) -> String {
    match event {
        Event::Deferred(why) => why.1.to_string(),
        Event::Approved { ruling: Some(ruling), .. }
        | Event::ApprovalVoided(Some(ruling))
        | Event::Denied(Some(ruling)) => ruling.to_string(),
        Event::Returned(why) => why.text().to_owned(),
        Event::AttemptFailed(_) | Event::Failed(_) => {
            closed_of(event).map(|c| c.message.to_string()).unwrap_or_default()
        }
        Event::TimedOut { total: true } => "the total deadline passed".into(),
        Event::TimedOut { total: false } => "the last attempt ran longer than start_to_close".into(),
        Event::Expired => "not started within schedule_to_start".into(),
        Event::CancelRequested(cancel) | Event::Cancelled(Some(cancel)) => cancel.reason.to_string(),
        Event::Annotated(note) => match &**note {
            Note::LateResult(text) => format!("late result: {text}"),
            Note::RetriedAs(id) => format!("retried as {id}"),
            Note::DeadLetterDeleted(actor) if actor.is_empty() => "dead letter deleted".into(),
            Note::DeadLetterDeleted(actor) => format!("dead letter deleted by {actor}"),
        },
        Event::Submitted { .. }
        | Event::Admitted { .. }
        | Event::ApprovalRequested
        | Event::Approved { ruling: None, .. }
        | Event::ApprovalVoided(None)
        | Event::Rejudged
        | Event::Denied(None)
        | Event::Dispatched(_)
        | Event::Started
        | Event::Released
        | Event::Succeeded
        | Event::RetryDue { .. }
        | Event::Cancelled(None) => String::new(),
    }
}
