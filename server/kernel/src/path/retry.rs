//! Retry by hand: an ended job in; a new job of the same spec out, linked both ways, judged again.
//!
//! Refuses: a job that has not ended. Idempotent: the new id is derived from the request.

use crate::input::{NewJob, Origin, Reply, RetryByHand, Submitted};
use crate::mutant::Mutant;
use crate::path::annotate::{annotate, newest};
use crate::path::submit;
use crate::{Dispatcher, Turn, View};
use coretex_domain::job::{Event, Family, Note};
use coretex_domain::{Reason, Refusal};
use std::sync::Arc;

/// Retries on the strength of a look-up that began when `looked_at` jobs had departed.
pub(crate) fn by_hand_as_of(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    retry: RetryByHand,
    looked_at: u64,
    turn: &mut Turn,
) -> Reply {
    let is_open = view.look(&retry.old.namespace, &retry.new_id).is_some();
    let may_be_ended = view.may_have_departed(retry.new_id.key(&retry.old.namespace), looked_at);
    let is_planted = view.is_planted(Mutant::RetryMadeTwice);
    if !is_open && retry.known.is_none() && may_be_ended && !is_planted {
        return Reply::NotOpen;
    }
    by_hand(view, dispatcher, retry, turn)
}

fn by_hand(view: &mut View, dispatcher: &mut Dispatcher, retry: RetryByHand, turn: &mut Turn) -> Reply {
    let RetryByHand { old, new_id, edited, actor, known, only_first, config } = retry;
    if !old.state.kind().is_terminal() || view.look(&old.namespace, &old.id).is_some() {
        let message =
            format!("job {} is {}; only ended jobs are retried by hand", old.id, old.state.kind().name());
        return Reply::Submitted(vec![Err(Refusal::new(Reason::JobNotTerminal, message))]);
    }
    if let Some(job) = view.look(&old.namespace, &new_id).cloned().or(known) {
        return Reply::Submitted(vec![Ok(Submitted { key: job.key(), existing: Some(job) })]);
    }
    if is_retried_as(view, &old, &new_id) && !view.is_planted(Mutant::RetryMadeTwice) {
        // Made by an earlier request and ended since: only the store can tell of it, so the caller asks again.
        return Reply::NotOpen;
    }
    if only_first && newest(view, &old).rare().retried_as.is_some() {
        // The caller reads the old job again, and finds who it was retried as.
        return Reply::NotOpen;
    }
    let mut spec = (*old.spec).clone();
    if let Some(payload) = edited {
        spec.payload = payload;
    }
    if let Some(options) = &mut spec.options {
        // The key named the first job; the new one is asked for by hand.
        options.idempotency_key = None;
        options.schedule_time = None;
    }
    let old_id = old.id.clone();
    // As deep as before, and otherwise on its own: its parent's end and budget are not its any more.
    let (root, depth) = (old.root(), old.depth());
    let family = (depth > 0).then(|| Box::new(Family { root, depth, ..Family::default() }));
    let namespace = old.namespace.clone();
    annotate(view, old, Note::RetriedAs(new_id.clone()), turn);
    let item = NewJob {
        id: new_id,
        spec: Arc::new(spec),
        origin: Origin::Fresh,
        known: None,
        retry_of: Some(old_id),
        config,
        family,
        of_run: None,
    };
    let key = submit::make(view, dispatcher, &namespace, actor, item, turn);
    Reply::Submitted(vec![Ok(Submitted { key, existing: None })])
}

/// True if the newest version of `old` already names `new_id`.
fn is_retried_as(view: &View, old: &Arc<coretex_domain::Job>, new_id: &coretex_domain::JobId) -> bool {
    newest(view, old).history.iter().rev().any(|entry| match &entry.event {
        Event::Annotated(note) => **note == Note::RetriedAs(new_id.clone()),
        _ => false,
    })
}
