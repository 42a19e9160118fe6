//! Submit: checked requests in; new jobs, or the jobs that an earlier request made, out.
//!
//! Refuses: a key or id that was used with another body, and a topic the policy denies is not a refusal but a
//! job in DENIED.

use super::admit;
use crate::input::{NewJob, Origin, Reply, Submit, Submitted, Write};
use crate::mutant::Mutant;
use crate::turn::UNNUMBERED;
use crate::{Dispatcher, Turn, View};
use coretex_domain::{Job, JobId, JobKey, Namespace, Reason, Refusal, Span, Time};
use std::sync::Arc;

/// What a new request meets.
enum Met {
    Nothing,
    /// A job made by the same request.
    Same(Arc<Job>),
    Conflict(Refusal),
    /// The store must be asked again.
    Stale,
}

pub(crate) fn submit(view: &mut View, dispatcher: &mut Dispatcher, submit: Submit, turn: &mut Turn) -> Reply {
    for item in submit.items.iter().filter(|item| item.origin != Origin::Fresh) {
        view.thaw(item.id.key(&submit.namespace));
    }
    let stale = |item: &NewJob| matches!(meet(view, &submit.namespace, item, submit.looked_at), Met::Stale);
    if submit.items.iter().any(stale) {
        return Reply::LookAgain(submit);
    }
    let Submit { namespace, actor, items, looked_at } = submit;
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        answers.push(match meet(view, &namespace, &item, looked_at) {
            Met::Nothing => Ok(Submitted {
                key: make(view, dispatcher, &namespace, actor.clone(), item, turn),
                existing: None,
            }),
            Met::Same(job) => Ok(Submitted { key: job.key(), existing: Some(job) }),
            Met::Conflict(refusal) => Err(refusal),
            Met::Stale => {
                Err(Refusal::new(Reason::Overloaded, "the job just left memory; send the request again"))
            }
        });
    }
    Reply::Submitted(answers)
}

fn meet(view: &View, namespace: &Namespace, item: &NewJob, looked_at: u64) -> Met {
    let is_keyed = match item.origin {
        Origin::Fresh => return Met::Nothing,
        Origin::Derived | Origin::Chosen => false,
        Origin::Keyed => true,
    };
    if is_keyed {
        let name = item.spec.options().idempotency_key.as_ref();
        // A job with a key has options, so it is never packed.
        if let Some((key, first)) = name.and_then(|k| view.keys.get(namespace)?.get(k)) {
            return view.job(*key).map_or(Met::Nothing, |job| compare(job, *first, item));
        }
    }
    let key = item.id.key(namespace);
    if let Some(job) = view.job(key) {
        return compare(job, job.fingerprint(), item);
    }
    if let Some((job, first)) = &item.known {
        return compare(job, *first, item);
    }
    if view.departed() > looked_at && (is_keyed || view.may_have_departed(key, looked_at)) {
        return Met::Stale;
    }
    Met::Nothing
}

fn compare(job: &Arc<Job>, first: u128, item: &NewJob) -> Met {
    match first == item.spec.fingerprint() {
        true => Met::Same(job.clone()),
        false => Met::Conflict(conflict(job, item)),
    }
}

fn conflict(job: &Job, item: &NewJob) -> Refusal {
    let refusal = match item.origin {
        Origin::Chosen => {
            Refusal::new(Reason::JobExists, format!("job_id: {} exists with another body", job.id))
        }
        Origin::Keyed | Origin::Derived | Origin::Fresh => Refusal::new(
            Reason::IdempotencyConflict,
            format!("the key was used before with another body, for job {}", job.id),
        ),
    };
    refusal.fact("job_id", job.id.to_string())
}

/// Makes the job, asks the policy, names its key: all in this turn.
pub(crate) fn make(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    namespace: &Namespace,
    actor: Option<Box<str>>,
    item: NewJob,
    turn: &mut Turn,
) -> JobKey {
    let create_time = create_time(&item.id, turn.now.wall);
    let mut job = Job::submitted(item.id, namespace.clone(), item.spec, UNNUMBERED, create_time, actor);
    if let Some(old) = item.retry_of {
        job.rare_mut().retry_of = Some(old);
    }
    if let Some(config) = item.config {
        job.rare_mut().config = Some(config);
    }
    if item.family.is_some() {
        job.rare_mut().family = item.family;
    }
    if item.of_run.is_some() {
        job.rare_mut().of_run = item.of_run;
    }
    let key = job.key();
    if let (Some(name), Origin::Keyed) = (job.spec.options().idempotency_key.clone(), item.origin) {
        let fingerprint = job.spec.fingerprint();
        view.keys.entry(namespace.clone()).or_default().insert(name.clone(), (key, fingerprint));
        if !view.is_planted(Mutant::KeyNotWritten) {
            let job_id = job.id.clone();
            turn.rows.push(Write::Key { namespace: namespace.clone(), key: name, job_id, fingerprint });
        }
    }
    view.insert(key, Arc::new(job), turn.now.wall);
    turn.touch(key, 1);
    admit::admit(view, dispatcher, key, turn);
    key
}

/// The time inside the id, where that is just past: then the id alone says where its record is filed. A clock that
/// differs from ours is not believed.
fn create_time(id: &JobId, now: Time) -> Time {
    const BELIEVED: Span = Span::secs(10);
    id.made_at_ms().map(Time).filter(|at| *at <= now && now.since(*at) <= BELIEVED).unwrap_or(now)
}

/// Gives a key to a job that will be made on another shard, or tells which job has it.
pub(crate) fn claim_key(
    view: &mut View,
    namespace: Namespace,
    key: Arc<str>,
    job_id: JobId,
    fingerprint: u128,
    known: Option<(JobId, u128)>,
    turn: &mut Turn,
) -> Reply {
    let claimed = view.claims.get(&(namespace.clone(), key.clone())).cloned().or(known);
    if let Some((first, fingerprint)) = claimed {
        return Reply::KeyNames(first, fingerprint);
    }
    if view.claims.len() >= CLAIMS_KEPT {
        view.claims.clear();
    }
    view.claims.insert((namespace.clone(), key.clone()), (job_id.clone(), fingerprint));
    turn.rows.push(Write::Key { namespace, key, job_id: job_id.clone(), fingerprint });
    Reply::KeyNames(job_id, fingerprint)
}

/// Claims remembered here; older ones are found in the store.
const CLAIMS_KEPT: usize = 65_536;
