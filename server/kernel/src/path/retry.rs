//! Retry by hand: an ended job in; a new job of the same spec out, linked both ways, judged again.
//!
//! Refuses: a job that has not ended. Idempotent: the new id is derived from the request.

use crate::input::{NewJob, Origin, Reply, RetryByHand, Submitted, Write};
use crate::mutant::Mutant;
use crate::path::submit;
use crate::turn::UNNUMBERED;
use crate::{Turn, View};
use coretex_domain::job::{Entry, Event, Note};
use coretex_domain::{Reason, Refusal};
use std::sync::Arc;

/// Ended jobs kept with their newest note, so that two retries in a row both find it.
const ANNOTATED_KEPT: usize = 1_024;

/// Retries on the strength of a look-up that began when `looked_at` jobs had departed.
pub(crate) fn by_hand_as_of(view: &mut View, retry: RetryByHand, looked_at: u64, turn: &mut Turn) -> Reply {
    let is_open = view.look(&retry.old.namespace, &retry.new_id).is_some();
    let may_be_ended = view.may_have_departed(retry.new_id.key(&retry.old.namespace), looked_at);
    let is_planted = view.is_planted(Mutant::RetryMadeTwice);
    if !is_open && retry.known.is_none() && may_be_ended && !is_planted {
        return Reply::NotOpen;
    }
    by_hand(view, retry, turn)
}

fn by_hand(view: &mut View, retry: RetryByHand, turn: &mut Turn) -> Reply {
    let RetryByHand { old, new_id, edited, actor, known } = retry;
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
    let namespace = old.namespace.clone();
    annotate(view, old, Note::RetriedAs(new_id.clone()), turn);
    let item = NewJob {
        id: new_id,
        spec: Arc::new(spec),
        origin: Origin::Fresh,
        known: None,
        retry_of: Some(old_id),
    };
    let key = submit::make(view, &namespace, actor, item, turn);
    Reply::Submitted(vec![Ok(Submitted { key, existing: None })])
}

/// True if the newest version of `old` already names `new_id`.
fn is_retried_as(view: &View, old: &coretex_domain::Job, new_id: &coretex_domain::JobId) -> bool {
    let newest = view.annotated.get(&old.key()).map_or(old, |job| job);
    newest.history.iter().rev().any(|entry| match &entry.event {
        Event::Annotated(note) => **note == Note::RetriedAs(new_id.clone()),
        _ => false,
    })
}

/// Adds a note to a job that has ended and left memory.
fn annotate(view: &mut View, stored: Arc<coretex_domain::Job>, note: Note, turn: &mut Turn) {
    let key = stored.key();
    let newest = view.annotated.remove(&key).filter(|j| j.revision > stored.revision).unwrap_or(stored);
    let mut job = newest;
    let entry = Entry { seq: UNNUMBERED, time: turn.now.wall, event: Event::Annotated(Box::new(note)) };
    if let Err(illegal) = Arc::make_mut(&mut job).apply(entry) {
        turn.illegal.push(illegal);
        return;
    }
    // Notes of one turn share a row: its entries are numbered together.
    let earlier = turn.rows.iter_mut().find_map(|row| match row {
        Write::Job { job, fresh } if job.key() == key => Some((job, fresh)),
        Write::Job { .. } | Write::Key { .. } | Write::DeadLetter(_) | Write::Topic(_) => None,
    });
    match earlier {
        Some((row, fresh)) => {
            *row = job.clone();
            *fresh += 1;
        }
        None => turn.rows.push(Write::Job { job: job.clone(), fresh: 1 }),
    }
    if view.annotated.len() >= ANNOTATED_KEPT {
        view.annotated.clear();
    }
    view.annotated.insert(key, job);
}
