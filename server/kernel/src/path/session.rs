//! Sessions as leases see them: acks, the end of a session, and the reconciliation of a worker that came back.

use crate::input::{Held, Reconciled, Reply, Stop, Verdict};
use crate::path::settle::{close_with, end_attempt, give_back, plain_failure};
use crate::{Turn, View};
use coretex_domain::job::{Close, Event, Return, State, StateKind};
use coretex_domain::{Job, JobKey, SessionId};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Leases taken and refused. An ack is not committed: it lives in the owner's memory.
pub(crate) fn acked(
    view: &mut View,
    session: SessionId,
    accepted: &[u64],
    refused: &[u64],
    turn: &mut Turn,
) -> Reply {
    for lease in accepted {
        if let Some(entry) = view.sessions.get_mut(&session).and_then(|s| s.leases.get_mut(lease)) {
            entry.is_acked = true;
        }
    }
    for lease in refused {
        if let Some(key) = unstarted(view, session, *lease) {
            give_back(view, key, Return::Refused, turn);
        }
    }
    view.trim_offers(session);
    Reply::None
}

fn unstarted(view: &View, session: SessionId, lease: u64) -> Option<JobKey> {
    let key = view.sessions.get(&session)?.leases.get(&lease)?.key;
    view.job(key).filter(|job| matches!(job.state, State::Dispatched(_))).map(|_| key)
}

pub(crate) fn job_of_lease(view: &View, session: SessionId, lease: u64) -> Option<Arc<Job>> {
    let key = view.sessions.get(&session)?.leases.get(&lease)?.key;
    view.job(key).cloned()
}

fn leases_of(view: &View, session: SessionId) -> Vec<(u64, JobKey)> {
    let mut leases: Vec<(u64, JobKey)> = view
        .sessions
        .get(&session)
        .map(|s| s.leases.iter().map(|(id, entry)| (*id, entry.key)).collect())
        .unwrap_or_default();
    leases.sort_unstable();
    leases
}

/// The session is over: unstarted leases go back free of charge, started ones count as lost.
pub(crate) fn end(view: &mut View, session: SessionId, turn: &mut Turn) -> Reply {
    for (_, key) in leases_of(view, session) {
        lose(view, key, turn);
    }
    view.trim_offers(session);
    Reply::None
}

fn lose(view: &mut View, key: JobKey, turn: &mut Turn) {
    let Some(job) = view.job(key) else { return };
    let is_cancelling = job.is_cancel_requested();
    match job.state.kind() {
        StateKind::Dispatched => give_back(view, key, Return::SessionLost, turn),
        StateKind::Running if is_cancelling => {
            close_with(view, key, Event::Cancelled(None), turn, |_| {});
        }
        StateKind::Running => {
            let failure =
                plain_failure("WORKER_LOST", "the worker's session expired while it ran the job", true);
            end_attempt(view, key, Close::WorkerLost, failure, None, turn);
        }
        StateKind::Pending
        | StateKind::AwaitingApproval
        | StateKind::Scheduled
        | StateKind::Retrying
        | StateKind::Succeeded
        | StateKind::Failed
        | StateKind::TimedOut
        | StateKind::Cancelled
        | StateKind::Denied
        | StateKind::Expired => {}
    }
}

/// A draining session gives back what it has not started. With `with_started` the rest is released too: those
/// attempts are closed and not counted.
pub(crate) fn return_leases(
    view: &mut View,
    session: SessionId,
    with_started: bool,
    turn: &mut Turn,
) -> Reply {
    for (lease, key) in leases_of(view, session) {
        if unstarted(view, session, lease).is_some() {
            give_back(view, key, Return::Reclaimed, turn);
            turn.stop(session, lease, Stop::Reclaim);
        } else if with_started {
            let is_cancelling = view.job(key).is_some_and(|job| job.is_cancel_requested());
            let end = if is_cancelling { Event::Cancelled(None) } else { Event::Released };
            close_with(view, key, end, turn, |_| {});
            turn.stop(session, lease, Stop::Drained);
        }
    }
    view.trim_offers(session);
    Reply::None
}

/// Compares what the worker holds with what is open here: sets, not memories.
pub(crate) fn reconcile(view: &mut View, session: SessionId, held: &[Held], turn: &mut Turn) -> Reconciled {
    let mut out = Reconciled::default();
    let named: FxHashMap<u64, &Held> = held.iter().map(|h| (h.lease_id, h)).collect();
    for (lease, key) in leases_of(view, session) {
        if named.contains_key(&lease) {
            continue;
        }
        out.unknown_to_worker.push(lease);
        if view.job(key).map(|job| job.state.kind()) == Some(StateKind::Dispatched) {
            give_back(view, key, Return::NeverArrived, turn);
        } else {
            lose(view, key, turn);
        }
    }
    for lease in held {
        let verdict = judge(view, session, lease);
        if matches!(verdict, Verdict::Keep | Verdict::ResendResult | Verdict::Cancel)
            && let Some(lane) = adopt(view, session, lease)
        {
            out.kept.push((lease.lease_id, lane));
        }
        out.verdicts.push((lease.lease_id, verdict));
    }
    view.trim_offers(session);
    out
}

fn judge(view: &View, session: SessionId, held: &Held) -> Verdict {
    let Some(job) = view.job(held.job) else { return Verdict::AlreadyTerminal };
    match job.state.lease() {
        Some(open) if open.serial == held.serial && open.session == session => {
            if held.is_finished {
                Verdict::ResendResult
            } else if job.is_cancel_requested() {
                Verdict::Cancel
            } else {
                Verdict::Keep
            }
        }
        Some(_) | None => Verdict::Lost,
    }
}

/// The worker holds the lease: it counts as acked.
fn adopt(view: &mut View, session: SessionId, held: &Held) -> Option<Arc<str>> {
    let entry = view.sessions.get_mut(&session)?.leases.get_mut(&held.lease_id)?;
    entry.is_acked = true;
    let key = entry.key;
    view.job(key)?.state.lease().map(|lease| lease.lane_id.clone())
}
