//! Settle: what a worker reports in; started, progressed, ended or to be tried again out.
//!
//! Everything is fenced: an update counts if and only if its lease is the open one. A terminal update without a
//! STARTED before it implies one, in the same commit.

use crate::dispatcher::TopicKey;
use crate::input::{
    Closed as ClosedLease, Directive, LeaseRef, RejectCode, Rejected, Stop, Update, UpdateKind,
};
use crate::limits::{own_slot, rule_slot};
use crate::mutant::Mutant;
use crate::{Turn, View};
use coretex_domain::job::{
    Close, Closed, Event, Failure, Lease, Note, Progress, Share, StateKind, Usage, retry,
};
use coretex_domain::limits::{DELIVERIES_MAX, HISTORY_MAX, LOST_MAX};
use coretex_domain::{JobKey, Payload, SessionId};
use std::sync::Arc;

/// Applies the updates of one report, in order. Those that were not applied are named.
pub(crate) fn report(
    view: &mut View,
    session: SessionId,
    updates: Vec<Update>,
    turn: &mut Turn,
) -> Vec<Rejected> {
    let mut rejected = Vec::new();
    for (index, update) in updates.into_iter().enumerate() {
        match open_job(view, session, &update.lease) {
            Ok(key) => {
                let is_within = update.usage.is_none_or(|usage| take_usage(view, key, &usage, turn));
                let applied = match is_within {
                    true => apply(view, key, update.kind, turn),
                    false => spend_out(view, key, &update.kind, turn),
                };
                if let Err((code, message)) = applied {
                    rejected.push(Rejected { index, code, message });
                }
            }
            Err(message) => rejected.push(Rejected { index, code: RejectCode::StaleLease, message }),
        }
    }
    view.trim_offers(session);
    rejected
}

/// The job of an open lease; anything else is stale, always, also for late results.
fn open_job(view: &View, session: SessionId, lease: &LeaseRef) -> Result<JobKey, String> {
    match lease {
        LeaseRef::Id(id) => {
            let entry = view.sessions.get(&session).and_then(|s| s.leases.get(id));
            entry.map(|e| e.key).ok_or_else(|| format!("lease {id} is closed"))
        }
        LeaseRef::Token { job, serial } => match view.job(*job).and_then(|j| j.state.lease()) {
            Some(open) if open.serial == *serial || view.is_planted(Mutant::SkipLeaseCheck) => Ok(*job),
            Some(open) => Err(format!("lease {serial} is closed, lease {} is open", open.serial)),
            None => Err(format!("lease {serial} is closed, no lease is open")),
        },
    }
}

/// Adds what was used. False if the job went beyond its budget with it. A job that is being cancelled ends as that.
fn take_usage(view: &mut View, key: JobKey, usage: &Usage, turn: &mut Turn) -> bool {
    view.amend(key, turn, |job| {
        let rare = job.rare_mut();
        rare.usage.get_or_insert_default().add(usage);
        rare.reserved.settle(usage);
    });
    let Some(job) = view.job(key) else { return true };
    job.is_cancel_requested() || job.exceeded_share().is_none() || view.is_planted(Mutant::BudgetNotChecked)
}

/// The budget is used up: whatever else the update says, the job fails, and a worker that goes on is told to stop.
fn spend_out(
    view: &mut View,
    key: JobKey,
    kind: &UpdateKind,
    turn: &mut Turn,
) -> Result<(), (RejectCode, String)> {
    begin(view, key, turn);
    let Some(job) = view.job(key) else { return Ok(()) };
    let Some(share) = job.exceeded_share() else { return Ok(()) };
    let lease = job.state.lease().map(|lease| (lease.session, lease.id));
    let failure = over_budget(&share);
    let message = failure.message.to_string();
    end_attempt(view, key, Close::OverBudget, failure, None, turn);
    match kind {
        UpdateKind::Succeeded(_) => {
            let note = Note::LateResult("succeeded beyond the budget".into());
            view.apply(key, Event::Annotated(Box::new(note)), turn);
        }
        UpdateKind::Failed { .. } | UpdateKind::Cancelled | UpdateKind::Released { .. } => {}
        UpdateKind::Started | UpdateKind::Progress { .. } | UpdateKind::Checkpoint(_) => {
            // The worker goes on: the order to stop says why, and a rejection would come before it.
            if let Some((session, id)) = lease {
                turn.stop(session, id, Stop::OverBudget);
            }
            return Ok(());
        }
    }
    Err((RejectCode::Cancelled, message))
}

/// Why a job without anything left of its budget does not go on.
pub(crate) fn over_budget(share: &Share) -> Failure {
    plain_failure("BUDGET_EXCEEDED", &share.to_string(), false)
}

/// The same where the attempt failed for another reason, and there is nothing to try again with.
fn over_budget_after(share: &Share, failure: &Failure) -> Failure {
    let message = format!("{share}; the last attempt ended with {}: {}", failure.kind, failure.message);
    Failure { kind: "BUDGET_EXCEEDED".into(), message: message.into(), retryable: false, ..failure.clone() }
}

/// A report on an unstarted lease implies its start.
pub(super) fn begin(view: &mut View, key: JobKey, turn: &mut Turn) {
    if view.job(key).is_some_and(|job| job.state.kind() == StateKind::Dispatched) {
        view.apply(key, Event::Started, turn);
        mark_acked(view, key);
    }
}

fn apply(
    view: &mut View,
    key: JobKey,
    kind: UpdateKind,
    turn: &mut Turn,
) -> Result<(), (RejectCode, String)> {
    if !matches!(kind, UpdateKind::Released { .. }) {
        begin(view, key, turn);
    }
    let is_cancelling = view.job(key).is_some_and(|job| job.is_cancel_requested());
    match kind {
        UpdateKind::Started => return tell_if_cancelling(is_cancelling),
        UpdateKind::Progress { fraction, message, attributes } => {
            let time = turn.now.wall;
            view.amend(key, turn, |job| {
                let rare = job.rare_mut();
                rare.progress = Some(Progress { fraction, message, attributes, time });
                rare.last_sign = Some(time);
                job.update_time = time;
            });
            return tell_if_cancelling(is_cancelling);
        }
        UpdateKind::Checkpoint(checkpoint) => {
            keep_checkpoint(view, key, checkpoint, turn);
            return tell_if_cancelling(is_cancelling);
        }
        UpdateKind::Succeeded(_) if is_cancelling => {
            return cancelled_late(view, key, "succeeded after the cancel", turn);
        }
        UpdateKind::Succeeded(mut result) => {
            if let Some(job) = view.job(key) {
                job.redact_strictly(&mut result);
            }
            close_with(view, key, Event::Succeeded, turn, |job| {
                job.result = Some(result).filter(|r| !r.is_empty())
            });
        }
        UpdateKind::Failed { .. } if is_cancelling => {
            return cancelled_late(view, key, "failed after the cancel", turn);
        }
        UpdateKind::Failed { failure, retry } => failed(view, key, *failure, retry, turn),
        UpdateKind::Cancelled if is_cancelling => close_with(view, key, Event::Cancelled(None), turn, |_| {}),
        UpdateKind::Cancelled => {
            let failure = plain_failure(
                "CANCELLED_BY_WORKER",
                "the worker cancelled a job nobody asked to cancel",
                true,
            );
            failed(view, key, failure, Directive::Default, turn);
        }
        UpdateKind::Released { checkpoint } => released(view, key, checkpoint, is_cancelling, turn),
    }
    Ok(())
}

fn tell_if_cancelling(is_cancelling: bool) -> Result<(), (RejectCode, String)> {
    match is_cancelling {
        true => Err((RejectCode::Cancelled, "cancel was requested; stop".into())),
        false => Ok(()),
    }
}

fn mark_acked(view: &mut View, key: JobKey) {
    let Some((session, id)) = view.job(key).and_then(|j| j.state.lease()).map(|l| (l.session, l.id)) else {
        return;
    };
    if let Some(entry) = view.sessions.get_mut(&session).and_then(|s| s.leases.get_mut(&id)) {
        entry.is_acked = true;
    }
}

fn keep_checkpoint(view: &mut View, key: JobKey, checkpoint: Payload, turn: &mut Turn) {
    let time = turn.now.wall;
    view.amend(key, turn, |job| {
        let rare = job.rare_mut();
        rare.checkpoint = Some(checkpoint);
        rare.last_sign = Some(time);
        job.update_time = time;
    });
}

fn released(view: &mut View, key: JobKey, checkpoint: Option<Payload>, is_cancelling: bool, turn: &mut Turn) {
    if let Some(checkpoint) = checkpoint {
        keep_checkpoint(view, key, checkpoint, turn);
    }
    if is_cancelling {
        return close_with(view, key, Event::Cancelled(None), turn, |_| {});
    }
    if view.job(key).map(|job| job.state.kind()) == Some(StateKind::Dispatched) {
        give_back(view, key, coretex_domain::job::Return::Reclaimed, turn);
    } else if let Some(share) = view.job(key).and_then(|job| job.spent_share()) {
        // The next attempt would have nothing to spend.
        end_attempt(view, key, Close::OverBudget, over_budget(&share), None, turn);
    } else {
        close_with(view, key, Event::Released, turn, |_| {});
    }
}

/// The cancel came first: the job is CANCELLED, what the worker did is a note, and the worker is told.
fn cancelled_late(
    view: &mut View,
    key: JobKey,
    note: &str,
    turn: &mut Turn,
) -> Result<(), (RejectCode, String)> {
    close_with(view, key, Event::Cancelled(None), turn, |_| {});
    view.apply(key, Event::Annotated(Box::new(Note::LateResult(note.into()))), turn);
    tell_if_cancelling(true)
}

/// A started attempt failed: decides between another try and the end.
pub(crate) fn failed(view: &mut View, key: JobKey, failure: Failure, directive: Directive, turn: &mut Turn) {
    let final_kind = view.job(key).is_some_and(|job| is_non_retryable(view, job, &failure));
    let is_final = !failure.retryable || directive == Directive::NoRetry || final_kind;
    let close = if is_final { Close::NonRetryable } else { Close::Failed };
    let delay = match directive {
        Directive::After(span) => Some(span),
        Directive::Default | Directive::NoRetry => None,
    };
    end_attempt(view, key, close, failure, delay, turn);
}

fn is_non_retryable(view: &View, job: &coretex_domain::Job, failure: &Failure) -> bool {
    let own = &job.spec.options().retry.non_retryable_errors;
    let topic = view.settings(job).map(|s| &s.retry.non_retryable_errors);
    let list = if own.is_empty() { topic.unwrap_or(own) } else { own };
    list.contains(&failure.kind)
}

/// Closes a started attempt that did not succeed, for whatever reason.
pub(crate) fn end_attempt(
    view: &mut View,
    key: JobKey,
    close: Close,
    failure: Failure,
    delay: Option<coretex_domain::Span>,
    turn: &mut Turn,
) {
    let Some(job) = view.job(key).cloned() else { return };
    if job.is_cancel_requested() && !view.is_planted(Mutant::IgnoreCancelAtDispatch) {
        drop(job);
        return close_with(view, key, Event::Cancelled(None), turn, |job| {
            job.rare_mut().failure = Some(failure)
        });
    }
    let defaults = view.settings(&job).map(|s| s.retry.clone()).unwrap_or_default();
    let policy = job.spec.options().retry.or(&defaults);
    let mut counters = job.counters;
    if close == Close::WorkerLost && !view.is_planted(Mutant::LostNotCounted) {
        counters.lost += 1;
    }
    let spent = if view.is_planted(Mutant::AttemptsNotCounted) { 0 } else { counters.spent() };
    let max_attempts = job.capped_attempts(policy.max_attempts());
    let is_over = match close {
        Close::NonRetryable | Close::Undeliverable | Close::OverBudget => true,
        Close::WorkerLost => counters.lost >= LOST_MAX || spent >= max_attempts,
        Close::Failed | Close::TimedOut | Close::Stalled => spent >= max_attempts,
    } || job.history.len() >= HISTORY_MAX;
    // Another attempt would have nothing to spend.
    let (close, failure) = match job.spent_share() {
        Some(share) if !is_over => (Close::OverBudget, over_budget_after(&share, &failure)),
        Some(_) | None => (close, failure),
    };
    let is_over = is_over || close == Close::OverBudget;
    let closed = Closed { close, kind: failure.kind.clone(), message: short(&failure.message) };
    let event = if is_over && close == Close::TimedOut {
        Event::TimedOut { total: false }
    } else if is_over {
        Event::Failed(Box::new(closed))
    } else {
        let failures = counters.spent() + counters.lost;
        let wait = delay.unwrap_or_else(|| retry::backoff(&policy, failures.max(1), turn.roll()));
        Event::AttemptFailed(Box::new((closed, turn.now.wall + wait)))
    };
    drop(job);
    close_with(view, key, event, turn, |job| job.rare_mut().failure = Some(failure));
}

/// A history line is short; the whole message is in the job's failure.
fn short(message: &Arc<str>) -> Arc<str> {
    const HISTORY_MESSAGE_MAX: usize = 256;
    if message.len() <= HISTORY_MESSAGE_MAX {
        return message.clone();
    }
    let cut = (0..=HISTORY_MESSAGE_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &message[..cut]).into()
}

pub(crate) fn plain_failure(kind: &str, message: &str, retryable: bool) -> Failure {
    Failure {
        kind: kind.into(),
        message: message.into(),
        retryable,
        details: Payload::empty(),
        stack: "".into(),
    }
}

/// An unstarted lease ends: the job goes back to its place and nothing is spent, unless it happened too often.
pub(crate) fn give_back(view: &mut View, key: JobKey, why: coretex_domain::job::Return, turn: &mut Turn) {
    let Some(job) = view.job(key).cloned() else { return };
    if job.is_cancel_requested() {
        drop(job);
        return close_with(view, key, Event::Cancelled(None), turn, |_| {});
    }
    if job.counters.deliveries + 1 >= DELIVERIES_MAX {
        let message = format!("{DELIVERIES_MAX} leases in a row never started; the last: {}", why.text());
        let closed = Closed {
            close: Close::Undeliverable,
            kind: "UNDELIVERABLE".into(),
            message: message.as_str().into(),
        };
        drop(job);
        let failure = plain_failure("UNDELIVERABLE", &message, false);
        return close_with(view, key, Event::Failed(Box::new(closed)), turn, |job| {
            job.rare_mut().failure = Some(failure);
        });
    }
    drop(job);
    close_with(view, key, Event::Returned(why), turn, |_| {});
}

/// Applies an event that ends the open lease, and frees what the lease held once that is committed.
pub(crate) fn close_with(
    view: &mut View,
    key: JobKey,
    event: Event,
    turn: &mut Turn,
    change: impl FnOnce(&mut coretex_domain::Job),
) {
    let Some(job) = view.job(key).cloned() else { return };
    let lease: Option<Lease> = job.state.lease().cloned();
    let topic = TopicKey { namespace: job.namespace.clone(), topic: job.spec.topic.clone() };
    let slot = lease.as_ref().and_then(|l| own_slot(&job, l.serial));
    let keeps = view.is_planted(Mutant::RuleSlotKept);
    let rule_slot = lease.as_ref().filter(|_| !keeps).and_then(|l| rule_slot(&job, l.serial));
    drop(job);
    let keeps_reserved = view.is_planted(Mutant::ReserveKept);
    let end = |job: &mut coretex_domain::Job| {
        change(job);
        if !keeps_reserved {
            job.release_reserved();
        }
    };
    if !view.apply_with(key, event, turn, end) {
        return;
    }
    if let Some(lease) = lease {
        view.close_lease(lease.session, lease.id);
        turn.close(ClosedLease {
            topic,
            session: lease.session,
            lane_id: lease.lane_id,
            lease_id: lease.id,
            slot,
            rule_slot,
        });
    }
}
