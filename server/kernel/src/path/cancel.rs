//! Cancel: a wish in; CANCELLED at once without a lease, or a told worker and a grace with one.
//!
//! Refuses: a job that has ended otherwise (`JOB_TERMINAL`). After an OK no new attempt starts, ever.

use crate::input::{Reply, Stop};
use crate::mutant::Mutant;
use crate::path::settle::close_with;
use crate::{Turn, View};
use coretex_domain::job::{Cancel, Event};
use coretex_domain::{JobId, JobKey, Namespace};
use std::sync::Arc;

pub(crate) fn cancel(
    view: &mut View,
    namespace: &Namespace,
    job_id: &JobId,
    reason: Arc<str>,
    actor: Arc<str>,
    turn: &mut Turn,
) -> Reply {
    // A job that ended in this very turn is still in memory: it is the store's to tell, like any ended one.
    let is_planted = view.is_planted(Mutant::CancelOfEnded);
    let found = view.look(namespace, job_id).filter(|job| is_planted || !job.state.kind().is_terminal());
    let Some(key) = found.map(|job| job.key()) else { return Reply::NotOpen };
    stop(view, key, reason, actor, turn);
    view.job(key).map_or(Reply::NotOpen, |job| Reply::Job(Ok(job.clone())))
}

/// Cancels an open job.
pub(crate) fn stop(view: &mut View, key: JobKey, reason: Arc<str>, actor: Arc<str>, turn: &mut Turn) {
    let Some(job) = view.job(key).cloned() else { return };
    let lease = job.state.lease().cloned();
    let is_repeat = job.is_cancel_requested();
    drop(job);
    match lease {
        None => {
            let cancel = Cancel { reason, actor, time: turn.now.wall };
            close_with(view, key, Event::Cancelled(Some(Box::new(cancel))), turn, |_| {});
        }
        Some(_) if is_repeat => {}
        Some(lease) => {
            let cancel = Cancel { reason: reason.clone(), actor, time: turn.now.wall };
            view.apply(key, Event::CancelRequested(Box::new(cancel)), turn);
            turn.stop(lease.session, lease.id, Stop::Cancel { reason });
        }
    }
}
